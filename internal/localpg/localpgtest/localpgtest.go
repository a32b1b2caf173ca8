// Package localpgtest starts a real PostgreSQL for a test.
package localpgtest

import (
	"testing"

	"github.com/lapse-access/lapse/internal/localpg"
	"github.com/lapse-access/lapse/internal/localserver/localservertest"
)

// Start runs a new server of a major version (0: the newest) until the end of
// the test. Its data survive Kill, though not a power cut. A version that is
// missing is handled as by Find.
func Start(t testing.TB, major int) *localpg.Server {
	t.Helper()
	s, err := localpg.Start(t.Context(), localpg.Options{
		Bin: Find(t, major),
		Dir: localservertest.Dir(t),
		Settings: map[string]string{
			"fsync":            "off",
			"full_page_writes": "off",
			"shared_buffers":   "32MB",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	localservertest.End(t, s.Stop)
	return s
}

// Find returns the installation of a major version (0: the newest). A
// missing one ends the test, see localservertest.Require.
func Find(t testing.TB, major int) localpg.Binaries {
	t.Helper()
	bin, err := localpg.Find(major)
	localservertest.Require(t, err)
	return bin
}
