// Package localservertest has what the servers of tests have in common.
package localservertest

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Require skips the test when the error says that a server is not installed, and
// fails it when CI=true: a real server is never left out in silence.
func Require(t testing.TB, missing error) {
	t.Helper()
	switch {
	case missing == nil:
	case os.Getenv("CI") == "true":
		t.Fatal(missing)
	default:
		t.Skip(missing)
	}
}

// Dir returns a temporary folder that a server's user can enter, which t.TempDir
// is not when the test runs as root. It is not there yet.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lapse-")
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
	return filepath.Join(dir, "server")
}

// End ends a server at the end of the test.
func End(t testing.TB, end func() error) {
	t.Helper()
	t.Cleanup(func() {
		if err := end(); err != nil {
			t.Error(err)
		}
	})
}
