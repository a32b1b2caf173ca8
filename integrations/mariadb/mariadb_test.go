package mariadb_test

import (
	"testing"

	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/integrations/mariadb"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/describe"
	"github.com/lapse-access/lapse/internal/localmysql"
	"github.com/lapse-access/lapse/internal/localmysql/localmysqltest"
)

// versions are those at hand, Debian's own and the newest.
func versions(t *testing.T) []localmysql.Binaries {
	t.Helper()
	localmysqltest.Find(t, localmysql.MariaDB)
	return localmysql.Installed(localmysql.MariaDB)
}

// TestCertification runs the suite with the rights of the tier full.
func TestCertification(t *testing.T) {
	t.Parallel()
	var targets []certificationtest.Target
	for _, bin := range versions(t) {
		targets = append(targets, certificationtest.Target{Name: bin.Series(),
			Harness: func(t *testing.T) *integrationtest.Harness { return newBed(t, bin).harness() }})
	}
	certificationtest.Run(t, mariadb.Kind(), describe.Real, targets...)
}
