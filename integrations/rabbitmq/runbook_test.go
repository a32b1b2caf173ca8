package rabbitmq_test

import (
	"strings"

	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/localrabbitmq"
)

var _ integrationtest.Administrator = (*observer)(nil)

// RunByHand asks the broker itself, without the gate and its certificate.
func (o *observer) RunByHand(t integrationtest.T, head, steps string) error {
	head = strings.NewReplacer("...:...", localrabbitmq.Administrator+":"+o.Password, o.gate.URL+"/api", o.URL()).Replace(head)
	return certificationtest.Shell(t, head+steps, "")
}
