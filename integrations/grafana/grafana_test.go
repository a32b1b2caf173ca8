package grafana_test

import (
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations/grafana"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/describe"
)

// levels are those of which the suite looks at one type on each flavour.
var levels = map[flavour][]access.Entitlement{oss: onOps, enterprise: onMetrics, cloud: onOverview}

// TestCertification runs the suite on a model of each flavour of Grafana, with
// the rights of the tier full.
func TestCertification(t *testing.T) {
	t.Parallel()
	var targets []certificationtest.Target
	for _, f := range flavours {
		targets = append(targets, certificationtest.Target{Name: f.name,
			Harness: func(t *testing.T) *integrationtest.Harness { return newBed(t, f).harness(levels[f]) }})
	}
	certificationtest.Run(t, grafana.Kind(), describe.Fake, targets...)
}
