// Package localredistest starts a real Redis for a test.
package localredistest

import (
	"os"
	"testing"

	"github.com/lapse-access/lapse/internal/localredis"
)

// Start runs a new server until the end of the test.
func Start(t testing.TB, b localredis.Binary) *localredis.Server {
	t.Helper()
	s, err := localredis.Start(t.Context(), b, t.TempDir())
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

// Find returns the installed servers. Where there is none the test is skipped,
// and fails when CI=true: a real server is never left out in silence.
func Find(t testing.TB) []localredis.Binary {
	t.Helper()
	found := localredis.Installed()
	if len(found) > 0 {
		return found
	}
	const missing = "there is no redis-server: deploy/dev/redis.sh installs one"
	if os.Getenv("CI") == "true" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return nil
}
