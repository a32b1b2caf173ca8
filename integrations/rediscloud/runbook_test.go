package rediscloud_test

import (
	"strings"
	"time"

	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/internal/certificationtest"
)

var _ integrationtest.Administrator = (*observer)(nil)

// RunByHand waits for the change to end, as the model lets time pass only when
// somebody waits.
func (o *observer) RunByHand(t integrationtest.T, head, steps string) error {
	head = strings.NewReplacer("x-api-key: ...", "x-api-key: "+o.apiKey, "x-api-secret-key: ...", "x-api-secret-key: "+secretKey).Replace(head)
	defer o.time.sleep(t.Context(), time.Hour)
	return certificationtest.Shell(t, head+steps, "")
}
