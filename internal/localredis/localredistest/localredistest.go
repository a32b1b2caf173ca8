// Package localredistest starts a real Redis for a test.
package localredistest

import (
	"errors"
	"testing"

	"github.com/lapse-access/lapse/internal/localredis"
	"github.com/lapse-access/lapse/internal/localserver/localservertest"
)

// Start runs a new server until the end of the test.
func Start(t testing.TB, b localredis.Binary) *localredis.Server {
	t.Helper()
	s, err := localredis.Start(t.Context(), b, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	localservertest.End(t, s.Stop)
	return s
}

// Find returns the installed servers. Where there is none the test ends, see
// localservertest.Require.
func Find(t testing.TB) []localredis.Binary {
	t.Helper()
	found := localredis.Installed()
	if len(found) == 0 {
		localservertest.Require(t, errors.New("there is no redis-server: deploy/dev/redis.sh installs one"))
	}
	return found
}
