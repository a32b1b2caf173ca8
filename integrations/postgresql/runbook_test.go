package postgresql_test

import (
	"strings"

	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/internal/certificationtest"
)

var _ integrationtest.Administrator = (*observer)(nil)

func (o *observer) RunByHand(t integrationtest.T, head, steps string) error {
	return certificationtest.Shell(t, strings.Replace(head, "...", o.Password, 1), steps, "PGSSLROOTCERT="+o.CAFile)
}
