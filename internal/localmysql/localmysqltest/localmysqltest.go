// Package localmysqltest starts a real MySQL or MariaDB for a test.
package localmysqltest

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lapse-access/lapse/internal/localmysql"
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
	s, err := localmysql.Start(t.Context(), localmysql.Options{Bin: bin, Dir: Dir(t), Settings: all})
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

// Find returns the newest installation of a product. Where there is none the
// test is skipped, and fails when CI=true: a real server is never left out in
// silence.
func Find(t testing.TB, product localmysql.Product) localmysql.Binaries {
	t.Helper()
	bin, err := localmysql.Find(product)
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
	dir, err := os.MkdirTemp("", "lapse-mysql-")
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
