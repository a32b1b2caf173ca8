package rabbitmq_test

import (
	"strconv"
	"testing"

	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/integrations/rabbitmq"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/describe"
)

// majors are the oldest and the newest that the tests have at hand: 3.10 and 4.
var majors = []int{3, 4}

// TestCertification runs the suite with the rights of the tier full.
func TestCertification(t *testing.T) {
	t.Parallel()
	var targets []certificationtest.Target
	for _, major := range majors {
		targets = append(targets, certificationtest.Target{Name: strconv.Itoa(major),
			Harness: func(t *testing.T) *integrationtest.Harness { return newBed(t, major).harness() }})
	}
	certificationtest.Run(t, rabbitmq.Kind(), describe.Real, targets...)
}
