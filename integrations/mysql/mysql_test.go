package mysql_test

import (
	"testing"

	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/integrations/mysql"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/describe"
)

// TestCertification runs the suite with the rights of the tier full.
func TestCertification(t *testing.T) {
	t.Parallel()
	certificationtest.Run(t, mysql.Kind(), describe.Real, certificationtest.Target{Name: "9",
		Harness: func(t *testing.T) *integrationtest.Harness { return newBed(t).harness() }})
}
