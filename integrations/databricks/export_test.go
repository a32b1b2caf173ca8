package databricks

import (
	"context"
	"time"

	"github.com/lapse-access/lapse/integrations"
)

// Patience is how long an operation looks for its change, and Settles how long a
// reading may be older than it.
const (
	Patience = patience
	Settles  = settles
)

// KindAt is the kind with a clock of its own.
func KindAt(now func() time.Time, sleep func(context.Context, time.Duration) error) integrations.Kind {
	k := Kind()
	k.New = func(t integrations.Target) (integrations.Integration, error) {
		return newIntegration(t, clock{now, sleep})
	}
	return k
}
