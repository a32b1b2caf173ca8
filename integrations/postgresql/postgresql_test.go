package postgresql_test

import (
	"strconv"
	"testing"

	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/integrations/postgresql"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/describe"
)

// versions are the oldest and the newest that the tests have at hand.
var versions = []int{15, 18}

// TestCertification runs the suite with the rights of the tier full.
func TestCertification(t *testing.T) {
	t.Parallel()
	var targets []certificationtest.Target
	for _, v := range versions {
		targets = append(targets, certificationtest.Target{Name: strconv.Itoa(v),
			Harness: func(t *testing.T) *integrationtest.Harness { return newBed(t, v).harness() }})
	}
	certificationtest.Run(t, postgresql.Kind(), describe.Real, targets...)
}
