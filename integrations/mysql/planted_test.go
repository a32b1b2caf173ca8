package mysql_test

import (
	"context"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/integrations/mysql"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/principal"
)

// TestSuiteCatches plants the bugs of every kind, and those that only this one
// can have.
func TestSuiteCatches(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	certificationtest.Sharp(t, func(*testing.T) *integrationtest.Harness { return b.harness() },
		certificationtest.Bug{Name: "locks a stranger", Case: "mark", Spoil: func(p *certificationtest.Process) {
			grant := p.Grant
			p.Grant = func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				res, err := grant(ctx, req)
				if access.KindOf(err) == access.NameTaken {
					b.exec(t, "ALTER USER "+quote(principal.Account(instance, integration, req.Account.PersonID, req.Account.Email))+" ACCOUNT LOCK")
				}
				return res, err
			}
		}},
		certificationtest.Bug{Name: "drops the definer of things", Case: "owned", Spoil: func(p *certificationtest.Process) {
			remove := p.DeleteAccount
			p.DeleteAccount = func(ctx context.Context, req integrations.DeleteRequest) (integrations.DeleteResult, error) {
				res, err := remove(ctx, req)
				if res.Outcome == access.KeptDisabled {
					b.exec(t, "DROP USER IF EXISTS "+quote(req.Account.Name))
				}
				return res, err
			}
		}},
		certificationtest.Bug{Name: "leaves sessions open", Case: "sessions", Spoil: func(p *certificationtest.Process) {
			config := *p.Target.Config.(*mysql.Config)
			config.TerminateSessions = "never"
			target := p.Target
			target.Config = &config
			p.Revoke = start(t, target).Revoke
		}},
		certificationtest.Bug{Name: "forgets the default roles", Case: "exactly", Spoil: func(p *certificationtest.Process) {
			grant := p.Grant
			p.Grant = func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				res, err := grant(ctx, req)
				if err == nil {
					b.exec(t, "SET DEFAULT ROLE NONE TO "+quote(res.AccountName))
				}
				return res, err
			}
		}},
	)
}
