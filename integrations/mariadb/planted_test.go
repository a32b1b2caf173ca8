package mariadb_test

import (
	"context"
	"testing"
	"time"

	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/integrations/mariadb"
	"github.com/lapse-access/lapse/internal/certificationtest"
)

// TestSuiteCatches plants the bugs of every kind, and those that only this one
// can have.
func TestSuiteCatches(t *testing.T) {
	t.Parallel()
	b := newBed(t, versions(t)[0])
	certificationtest.Sharp(t, func(*testing.T) *integrationtest.Harness { return b.harness() },
		certificationtest.Bug{Name: "drops an account that is the definer of something", Case: "owned", Spoil: func(p *certificationtest.Process) {
			remove := p.DeleteAccount
			p.DeleteAccount = func(ctx context.Context, req integrations.DeleteRequest) (integrations.DeleteResult, error) {
				b.exec(t, "DROP USER IF EXISTS "+account(req.Account.Name))
				return remove(ctx, req)
			}
		}},
		certificationtest.Bug{Name: "leaves sessions open", Case: "sessions", Spoil: func(p *certificationtest.Process) {
			config := *p.Target.Config.(*mariadb.Config)
			config.TerminateSessions = "never"
			target := p.Target
			target.Config = &config
			p.Revoke = start(t, target).Revoke
		}},
		certificationtest.Bug{Name: "ends sessions by itself, and closes the login then", Case: "disabled-first", Spoil: func(p *certificationtest.Process) {
			revoke := p.Revoke
			p.Revoke = func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
				b.exec(t, "KILL USER "+account(req.Account.Name))
				time.Sleep(300 * time.Millisecond)
				return revoke(ctx, req)
			}
		}},
	)
}
