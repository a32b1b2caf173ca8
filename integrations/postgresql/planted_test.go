package postgresql_test

import (
	"context"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/integrations/postgresql"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/principal"
)

// TestSuiteCatches plants the bugs of every kind, and those that only this one
// can have.
func TestSuiteCatches(t *testing.T) {
	t.Parallel()
	b := newBed(t, versions[0])
	certificationtest.Sharp(t, func(*testing.T) *integrationtest.Harness { return b.harness() },
		certificationtest.Bug{Name: "closes the login of a stranger", Case: "mark", Spoil: func(p *certificationtest.Process) {
			grant := p.Grant
			p.Grant = func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				res, err := grant(ctx, req)
				if access.KindOf(err) == access.NameTaken {
					b.exec(t, "postgres", "ALTER ROLE "+quote(principal.Account(instance, integration, req.Account.PersonID, req.Account.Email))+" NOLOGIN")
				}
				return res, err
			}
		}},
		certificationtest.Bug{Name: "empties what the account owns", Case: "owned", Spoil: func(p *certificationtest.Process) {
			remove := p.DeleteAccount
			p.DeleteAccount = func(ctx context.Context, req integrations.DeleteRequest) (integrations.DeleteResult, error) {
				res, err := remove(ctx, req)
				if res.Outcome == access.KeptDisabled {
					b.exec(t, "lake", "UPDATE kept.things SET thing = 0")
				}
				return res, err
			}
		}},
		certificationtest.Bug{Name: "leaves sessions open", Case: "sessions", Spoil: func(p *certificationtest.Process) {
			config := *p.Target.Config.(*postgresql.Config)
			config.TerminateSessions = "never"
			target := p.Target
			target.Config = &config
			p.Revoke = start(t, target).Revoke
		}},
	)
}
