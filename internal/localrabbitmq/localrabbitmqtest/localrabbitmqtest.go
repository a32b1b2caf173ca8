// Package localrabbitmqtest starts a real RabbitMQ for a test.
package localrabbitmqtest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lapse-access/lapse/internal/localrabbitmq"
)

// Start runs a new broker of a major version (0: the newest) until the end of
// the test. One that is missing is handled as by Find.
func Start(t testing.TB, major int) *localrabbitmq.Server {
	t.Helper()
	return StartWith(t, major, nil)
}

// StartWith is Start with further settings, and the plugins that they are of.
func StartWith(t testing.TB, major int, settings map[string]string, plugins ...string) *localrabbitmq.Server {
	t.Helper()
	s, err := localrabbitmq.Start(t.Context(), localrabbitmq.Options{Bin: Find(t, major), Dir: Dir(t), Settings: settings, Plugins: plugins})
	if err != nil {
		t.Fatal(err)
	}
	// Nothing of its data is wanted any more, so it need not write them.
	t.Cleanup(func() {
		if err := s.Kill(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Find returns the installation of a major version (0: the newest). Where there
// is none the test is skipped, and fails when CI=true: a real server is never
// left out in silence.
func Find(t testing.TB, major int) localrabbitmq.Binaries {
	t.Helper()
	bin, err := localrabbitmq.Find(major)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return bin
}

// Dir returns a temporary folder that the broker's user can enter, which
// t.TempDir is not when the test runs as root.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lapse-rabbitmq-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// A broker whose process was killed ends by itself, but not at once.
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
	return filepath.Join(dir, "broker")
}
