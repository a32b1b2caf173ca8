// Package localpgtest starts a real PostgreSQL for a test.
package localpgtest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lapse-access/lapse/internal/localpg"
)

// Start runs a new server of a major version (0: the newest) until the end of
// the test. Its data survive Kill, though not a power cut. A version that is
// missing is handled as by Find.
func Start(t testing.TB, major int) *localpg.Server {
	t.Helper()
	s, err := localpg.Start(t.Context(), localpg.Options{
		Bin: Find(t, major),
		Dir: Dir(t),
		Settings: map[string]string{
			"fsync":            "off",
			"full_page_writes": "off",
			"shared_buffers":   "32MB",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Find returns the installation of a major version (0: the newest). Where there
// is none the test is skipped, and fails when CI=true: a real server is never
// left out in silence.
func Find(t testing.TB, major int) localpg.Binaries {
	t.Helper()
	bin, err := localpg.Find(major)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return bin
}

// Dir returns a temporary folder that the server's user can enter, which
// t.TempDir is not when the test runs as root.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lapse-postgresql-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// A server whose process was killed stops by itself, but not at once.
		err := os.RemoveAll(dir)
		for deadline := time.Now().Add(5 * time.Second); err != nil && time.Now().Before(deadline); err = os.RemoveAll(dir) {
			time.Sleep(50 * time.Millisecond)
		}
		if err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "postgresql")
}
