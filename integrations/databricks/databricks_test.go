package databricks_test

import (
	"testing"

	"github.com/lapse-access/lapse/integrations/databricks"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/describe"
)

// TestCertification runs the suite on a model of an account.
func TestCertification(t *testing.T) {
	t.Parallel()
	certificationtest.Run(t, databricks.Kind(), describe.Fake, certificationtest.Target{Name: "model",
		Harness: func(t *testing.T) *integrationtest.Harness { return newBed(t).harness() }})
}
