package postgresql_test

import (
	"strconv"
	"testing"

	"github.com/lapse-access/lapse/integrations/integrationtest"
)

// versions are the oldest and the newest that the tests have at hand.
var versions = []int{15, 18}

// TestCertification runs the suite with the least rights that the README names.
func TestCertification(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run(strconv.Itoa(v), func(t *testing.T) {
			t.Parallel()
			integrationtest.Run(t, func(t *testing.T) *integrationtest.Harness { return newBed(t, v).harness() })
		})
	}
}
