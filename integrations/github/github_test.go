package github_test

import (
	"testing"

	"github.com/lapse-access/lapse/integrations/github"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/describe"
)

// TestCertification runs the suite on a model of GitHub that holds every request
// against GitHub's own descriptions.
func TestCertification(t *testing.T) {
	t.Parallel()
	certificationtest.Run(t, github.Kind(), describe.Fake, certificationtest.Target{Name: "model",
		Harness: func(t *testing.T) *integrationtest.Harness { return newBed(t).harness() }})
}
