// Package localrabbitmqtest starts a real RabbitMQ for a test.
package localrabbitmqtest

import (
	"testing"

	"github.com/lapse-access/lapse/internal/localrabbitmq"
	"github.com/lapse-access/lapse/internal/localserver/localservertest"
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
	s, err := localrabbitmq.Start(t.Context(), localrabbitmq.Options{Bin: Find(t, major), Dir: localservertest.Dir(t), Settings: settings, Plugins: plugins})
	if err != nil {
		t.Fatal(err)
	}
	// Nothing of its data is wanted any more, so it need not write them.
	localservertest.End(t, s.Kill)
	return s
}

// Find returns the installation of a major version (0: the newest). A
// missing one ends the test, see localservertest.Require.
func Find(t testing.TB, major int) localrabbitmq.Binaries {
	t.Helper()
	bin, err := localrabbitmq.Find(major)
	localservertest.Require(t, err)
	return bin
}
