package rediscloud_test

import (
	"testing"

	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/integrations/rediscloud"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/describe"
	"github.com/lapse-access/lapse/internal/localredis/localredistest"
)

// TestCertification runs the suite on a model of the API whose databases are real
// Redis servers, the newest at hand.
func TestCertification(t *testing.T) {
	t.Parallel()
	found := localredistest.Find(t)
	certificationtest.Run(t, rediscloud.Kind(), describe.Fake, certificationtest.Target{Name: "model",
		Harness: func(t *testing.T) *integrationtest.Harness { return newBed(t, found[len(found)-1]).harness() }})
}
