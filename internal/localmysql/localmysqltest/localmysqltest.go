// Package localmysqltest starts a real MySQL or MariaDB for a test.
package localmysqltest

import (
	"maps"
	"testing"

	"github.com/lapse-access/lapse/internal/localmysql"
	"github.com/lapse-access/lapse/internal/localserver/localservertest"
)

// Start runs a new server, the newest that is installed of a product, until the
// end of the test. One that is missing is handled as by Find.
func Start(t testing.TB, product localmysql.Product) *localmysql.Server {
	t.Helper()
	return StartVersion(t, Find(t, product), nil)
}

// StartVersion runs a new server of an installation until the end of the test,
// with settings beside those that make it fast. Its data survive Kill, though
// not a power cut.
func StartVersion(t testing.TB, bin localmysql.Binaries, settings map[string]string) *localmysql.Server {
	t.Helper()
	all := map[string]string{
		"innodb-flush-log-at-trx-commit": "2",
		"innodb-doublewrite":             "OFF",
		"innodb-buffer-pool-size":        "64M",
	}
	if _, wanted := settings["log-bin"]; bin.Product == localmysql.MySQL && !wanted {
		all["skip-log-bin"] = "ON"
	}
	maps.Copy(all, settings)
	s, err := localmysql.Start(t.Context(), localmysql.Options{Bin: bin, Dir: localservertest.Dir(t), Settings: all})
	if err != nil {
		t.Fatal(err)
	}
	// Nothing of its data is wanted any more, so it need not write them.
	localservertest.End(t, s.Kill)
	return s
}

// Find returns the newest installation of a product. A missing one ends
// the test, see localservertest.Require.
func Find(t testing.TB, product localmysql.Product) localmysql.Binaries {
	t.Helper()
	bin, err := localmysql.Find(product)
	localservertest.Require(t, err)
	return bin
}
