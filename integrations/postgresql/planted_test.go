package postgresql_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/integrations/postgresql"
)

// sound is the integration under the bugs.
type sound interface {
	integrations.Integration
	integrations.CredentialSetter
}

// planted is an integration with one bug: what is set replaces the method.
type planted struct {
	sound
	held       func(access.Account, []access.Entitlement) ([]access.Slot, error)
	grant      func(context.Context, integrations.GrantRequest) (integrations.GrantResult, error)
	revoke     func(context.Context, integrations.RevokeRequest) (integrations.RevokeResult, error)
	credential func(context.Context, integrations.CredentialRequest) (integrations.Credential, error)
	remove     func(context.Context, integrations.DeleteRequest) (integrations.DeleteResult, error)
	discover   func(context.Context, string) (access.Page, error)
	check      func(context.Context) (access.CheckReport, error)
	accounts   func(context.Context, string) (access.PrincipalPage, error)
}

func (p planted) Held(ctx context.Context, a access.Account, want []access.Entitlement) ([]access.Slot, error) {
	if p.held != nil {
		return p.held(a, want)
	}
	return p.sound.Held(ctx, a, want)
}

func (p planted) Grant(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
	if p.grant != nil {
		return p.grant(ctx, req)
	}
	return p.sound.Grant(ctx, req)
}

func (p planted) Revoke(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
	if p.revoke != nil {
		return p.revoke(ctx, req)
	}
	return p.sound.Revoke(ctx, req)
}

func (p planted) SetCredential(ctx context.Context, req integrations.CredentialRequest) (integrations.Credential, error) {
	if p.credential != nil {
		return p.credential(ctx, req)
	}
	return p.sound.SetCredential(ctx, req)
}

func (p planted) DeleteAccount(ctx context.Context, req integrations.DeleteRequest) (integrations.DeleteResult, error) {
	if p.remove != nil {
		return p.remove(ctx, req)
	}
	return p.sound.DeleteAccount(ctx, req)
}

func (p planted) Discover(ctx context.Context, cursor string) (access.Page, error) {
	if p.discover != nil {
		return p.discover(ctx, cursor)
	}
	return p.sound.Discover(ctx, cursor)
}

func (p planted) Check(ctx context.Context) (access.CheckReport, error) {
	if p.check != nil {
		return p.check(ctx)
	}
	return p.sound.Check(ctx)
}

func (p planted) Accounts(ctx context.Context, cursor string) (access.PrincipalPage, error) {
	if p.accounts != nil {
		return p.accounts(ctx, cursor)
	}
	return p.sound.Accounts(ctx, cursor)
}

// memory is what a buggy integration keeps outside of the target.
type memory struct {
	mu   sync.Mutex
	seen map[string]int
}

// count counts how often it was asked about a key.
func (m *memory) count(key string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen == nil {
		m.seen = map[string]int{}
	}
	m.seen[key]++
	return m.seen[key]
}

// gone is what a revoke says that did nothing.
func gone(req integrations.RevokeRequest) integrations.RevokeResult {
	var res integrations.RevokeResult
	for _, e := range req.End {
		res.Entries = append(res.Entries, access.Entry{Entitlement: e, Outcome: access.Gone})
	}
	return res
}

// bugs are mistakes that integrations make, each with the case of the suite
// that must catch it. Every case has one.
func bugs(t *testing.T, b *bed) []struct {
	name, caught string
	plant        func(s sound, target integrations.Target, m *memory) planted
} {
	type plant = func(s sound, target integrations.Target, m *memory) planted
	kill := func(name string) {
		b.exec(t, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '"+name+"'")
	}
	return []struct {
		name, caught string
		plant        plant
	}{
		{"grants more than was asked", "exactly", func(s sound, _ integrations.Target, _ *memory) planted {
			return planted{sound: s, grant: func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				asked := req.Want
				req.Want = slices.Clone(asked)
				for i := range req.Want {
					req.Want[i].Permission = "admin"
				}
				res, err := s.Grant(ctx, req)
				for i := range res.Entries {
					res.Entries[i].Entitlement = asked[i]
				}
				return res, err
			}}
		}},
		{"says gone and does nothing", "exactly", func(s sound, _ integrations.Target, _ *memory) planted {
			return planted{sound: s, revoke: func(_ context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
				return gone(req), nil
			}}
		}},
		{"fails when it is repeated", "once", func(s sound, _ integrations.Target, m *memory) planted {
			return planted{sound: s, grant: func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				if m.count(req.Account.ID) > 1 {
					return integrations.GrantResult{}, access.Errorf(access.Invalid, "it is there already")
				}
				return s.Grant(ctx, req)
			}}
		}},
		{"forgets what must remain", "overlaps", func(s sound, _ integrations.Target, _ *memory) planted {
			return planted{sound: s, revoke: func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
				req.Remain = nil
				return s.Revoke(ctx, req)
			}}
		}},
		{"ends what another hold keeps", "remaining", func(s sound, _ integrations.Target, _ *memory) planted {
			return planted{sound: s, revoke: func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
				req.Remain = slices.DeleteFunc(req.Remain, func(c access.Claim) bool { return slices.Contains(req.End, c.Entitlement) })
				return s.Revoke(ctx, req)
			}}
		}},
		{"takes the baseline for nothing", "baseline", func(s sound, _ integrations.Target, _ *memory) planted {
			return planted{sound: s, held: func(_ access.Account, want []access.Entitlement) (slots []access.Slot, err error) {
				for _, e := range want {
					slots = append(slots, access.Slot{Key: e.String(), Write: "member", Entitlements: []access.Entitlement{e}})
				}
				return slots, nil
			}}
		}},
		{"cannot do two things at a time", "parallel", func(s sound, _ integrations.Target, m *memory) planted {
			return planted{sound: s, grant: func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				if !m.mu.TryLock() {
					return integrations.GrantResult{}, access.Errorf(access.Conflict, "busy")
				}
				defer m.mu.Unlock()
				return s.Grant(ctx, req)
			}}
		}},
		{"lets the slower of two win", "tug-of-war", func(s sound, _ integrations.Target, _ *memory) planted {
			return planted{sound: s, grant: func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				req.Sequence = 1000
				time.Sleep(50 * time.Millisecond)
				return s.Grant(ctx, req)
			}, revoke: func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
				req.Sequence = 1000
				return s.Revoke(ctx, req)
			}}
		}},
		{"cannot revoke what is not there", "absent", func(s sound, _ integrations.Target, _ *memory) planted {
			return planted{sound: s, revoke: func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
				res, err := s.Revoke(ctx, req)
				if err == nil && res.Entries[0].Outcome == access.WasGone {
					err = access.Errorf(access.ResourceMissing, "not there")
				}
				return res, err
			}}
		}},
		{"refuses strange names", "hostile-names", func(s sound, _ integrations.Target, _ *memory) planted {
			return planted{sound: s, grant: func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				if strings.ContainsAny(req.Want[0].Resource.Path, `"';`) {
					return integrations.GrantResult{}, access.Errorf(access.Invalid, "a strange name")
				}
				return s.Grant(ctx, req)
			}}
		}},
		{"names accounts by the address alone", "hostile-people", func(s sound, _ integrations.Target, _ *memory) planted {
			same := func(a access.Account) access.Account {
				local, _, _ := strings.Cut(strings.ToLower(a.Email), "@")
				a.ID, a.Name = access.AccountID(integration, "p-"+strings.NewReplacer(".", "_", "+", "_").Replace(local[:min(20, len(local))])), ""
				return a
			}
			return planted{sound: s, grant: func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				req.Account = same(req.Account)
				return s.Grant(ctx, req)
			}}
		}},
		{"takes a stranger over", "mark", func(s sound, _ integrations.Target, _ *memory) planted {
			return planted{sound: s, grant: func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				res, err := s.Grant(ctx, req)
				if access.KindOf(err) == access.NameTaken {
					return res, nil
				}
				return res, err
			}}
		}},
		{"says deleted and keeps it", "delete", func(s sound, _ integrations.Target, _ *memory) planted {
			return planted{sound: s, remove: func(context.Context, integrations.DeleteRequest) (integrations.DeleteResult, error) {
				return integrations.DeleteResult{Outcome: access.Gone}, nil
			}}
		}},
		{"drops what the account owns", "owned", func(s sound, _ integrations.Target, _ *memory) planted {
			return planted{sound: s, remove: func(ctx context.Context, req integrations.DeleteRequest) (integrations.DeleteResult, error) {
				b.exec(t, "lake", "DROP OWNED BY "+quote(req.Account.Name)+" CASCADE")
				return s.DeleteAccount(ctx, req)
			}}
		}},
		{"knows no sequence", "sequence", func(s sound, _ integrations.Target, m *memory) planted {
			return planted{sound: s, grant: func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				req.Sequence = int64(1000 + m.count(""))
				return s.Grant(ctx, req)
			}, revoke: func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
				req.Sequence = int64(1000 + m.count(""))
				return s.Revoke(ctx, req)
			}}
		}},
		{"keeps what nobody owes", "drift", func(s sound, _ integrations.Target, _ *memory) planted {
			return planted{sound: s, revoke: func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
				page, err := s.Accounts(ctx, "")
				for _, p := range page.Principals {
					for _, e := range p.Entitlements {
						if p.AccountID == req.Account.ID && !slices.Contains(req.End, e) {
							req.Remain = append(req.Remain, access.Claim{Entitlement: e})
						}
					}
				}
				if err != nil {
					return integrations.RevokeResult{}, err
				}
				return s.Revoke(ctx, req)
			}}
		}},
		{"remembers in the process what it granted", "new-process", func(s sound, _ integrations.Target, _ *memory) planted {
			var own memory
			return planted{sound: s, grant: func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				own.count(req.Account.ID)
				return s.Grant(ctx, req)
			}, revoke: func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
				if own.count(req.Account.ID) == 1 {
					return gone(req), nil
				}
				return s.Revoke(ctx, req)
			}}
		}},
		{"hands out the same credential again", "credential", func(s sound, _ integrations.Target, _ *memory) planted {
			made := map[string]integrations.Credential{}
			return planted{sound: s, credential: func(ctx context.Context, req integrations.CredentialRequest) (integrations.Credential, error) {
				if c, ok := made[req.Account.ID]; ok {
					return c, nil
				}
				c, err := s.SetCredential(ctx, req)
				if err == nil {
					made[req.Account.ID] = c
				}
				return c, err
			}}
		}},
		{"leaves sessions open", "sessions", func(_ sound, target integrations.Target, _ *memory) planted {
			config := *target.Config.(*postgresql.Config)
			config.TerminateSessions = "never"
			target.Config = &config
			return planted{sound: start(t, target).(sound)}
		}},
		{"ends sessions before it closes the login", "disabled-first", func(s sound, _ integrations.Target, _ *memory) planted {
			return planted{sound: s, revoke: func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
				kill(req.Account.Name)
				time.Sleep(300 * time.Millisecond)
				return s.Revoke(ctx, req)
			}}
		}},
		{"takes a grant that was begun for done", "cut-grant", func(s sound, _ integrations.Target, m *memory) planted {
			return planted{sound: s, grant: func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				if m.count(req.Account.ID) == 1 {
					return s.Grant(ctx, req)
				}
				return integrations.GrantResult{AccountName: req.Account.Name, Entries: []access.Entry{{Entitlement: req.Want[0], Outcome: access.Granted}}}, nil
			}}
		}},
		{"takes a revoke that was begun for done", "cut-revoke", func(s sound, _ integrations.Target, m *memory) planted {
			return planted{sound: s, revoke: func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
				if m.count(req.Account.ID) == 1 {
					return s.Revoke(ctx, req)
				}
				return gone(req), nil
			}}
		}},
		{"repeats a credential that nobody received", "cut-credential", func(s sound, _ integrations.Target, m *memory) planted {
			return planted{sound: s, credential: func(ctx context.Context, req integrations.CredentialRequest) (integrations.Credential, error) {
				if m.count(req.Account.ID) <= 2 {
					return s.SetCredential(ctx, req)
				}
				return integrations.Credential{Username: req.Account.Name, Password: "forgotten", Command: "psql"}, nil
			}}
		}},
		{"takes a delete that was begun for done", "cut-delete", func(s sound, _ integrations.Target, m *memory) planted {
			return planted{sound: s, remove: func(ctx context.Context, req integrations.DeleteRequest) (integrations.DeleteResult, error) {
				if m.count(req.Account.ID) == 1 {
					return s.DeleteAccount(ctx, req)
				}
				return integrations.DeleteResult{Outcome: access.Gone}, nil
			}}
		}},
		{"does not tell a dead target from a refusal", "dead", func(s sound, _ integrations.Target, _ *memory) planted {
			return planted{sound: s, revoke: func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
				res, err := s.Revoke(ctx, req)
				if err != nil {
					err = errors.New("failed")
				}
				return res, err
			}}
		}},
		{"gives up too soon", "slow", func(s sound, _ integrations.Target, _ *memory) planted {
			return planted{sound: s, grant: func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				ctx, cancel := context.WithTimeout(ctx, 150*time.Millisecond)
				defer cancel()
				return s.Grant(ctx, req)
			}}
		}},
		{"goes on after it was canceled", "canceled", func(s sound, _ integrations.Target, _ *memory) planted {
			return planted{sound: s, grant: func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				return s.Grant(context.WithoutCancel(ctx), req)
			}}
		}},
		{"shows its secret in an error", "wrong-secret", func(s sound, _ integrations.Target, _ *memory) planted {
			return planted{sound: s, grant: func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				res, err := s.Grant(ctx, req)
				if err != nil {
					err = access.Errorf(access.KindOf(err), "logging in: %w", fmt.Errorf("password %s", connectorPass))
				}
				return res, err
			}}
		}},
		{"shows its secret in the log", "check", func(s sound, target integrations.Target, _ *memory) planted {
			target.Log.Debug("connecting", "password", target.Secret.(*postgresql.Secret).Password.Reveal())
			return planted{sound: s}
		}},
		{"offers what it does not declare", "declared", func(s sound, _ integrations.Target, _ *memory) planted {
			return planted{sound: s, discover: func(ctx context.Context, cursor string) (access.Page, error) {
				page, err := s.Discover(ctx, cursor)
				page.Resources = append(page.Resources, access.Found{Resource: access.NewResource("sequence", "shop", "s"), Permissions: []string{"use"}})
				return page, err
			}}
		}},
		{"finds fault where there is none", "check", func(s sound, _ integrations.Target, _ *memory) planted {
			return planted{sound: s, check: func(ctx context.Context) (access.CheckReport, error) {
				report, err := s.Check(ctx)
				report.Items = append(report.Items, access.CheckItem{Operation: "grant", Name: "luck"})
				return report, err
			}}
		}},
		{"loses a page", "paging", func(s sound, _ integrations.Target, _ *memory) planted {
			return planted{sound: s, discover: func(ctx context.Context, cursor string) (access.Page, error) {
				page, err := s.Discover(ctx, cursor)
				if slices.ContainsFunc(page.Resources, func(f access.Found) bool { return f.Resource.String() == "schema:lake/raw" }) {
					page.Resources = nil
				}
				return page, err
			}}
		}},
		{"forgets the target's own expiry", "expiry", func(s sound, _ integrations.Target, _ *memory) planted {
			return planted{sound: s, grant: func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				req.End = time.Time{}
				return s.Grant(ctx, req)
			}}
		}},
		{"treats what it may not as gone", "refused", func(s sound, _ integrations.Target, _ *memory) planted {
			return planted{sound: s, revoke: func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
				res, err := s.Revoke(ctx, req)
				if access.KindOf(err) == access.Privilege {
					return gone(req), nil
				}
				return res, err
			}}
		}},
		{"stops at the first error of a revoke", "every-step", func(s sound, _ integrations.Target, _ *memory) planted {
			return planted{sound: s, revoke: func(ctx context.Context, req integrations.RevokeRequest) (all integrations.RevokeResult, err error) {
				for i, e := range req.End {
					one := req
					one.End, one.Remain = []access.Entitlement{e}, slices.Clone(req.Remain)
					for _, later := range req.End[i+1:] {
						one.Remain = append(one.Remain, access.Claim{Entitlement: later})
					}
					res, err := s.Revoke(ctx, one)
					if err != nil {
						return all, err
					}
					all.Entries = append(all.Entries, res.Entries...)
				}
				return all, nil
			}}
		}},
	}
}

// TestSuiteCatches plants bugs and demands that the suite finds each.
func TestSuiteCatches(t *testing.T) {
	t.Parallel()
	b := newBed(t, versions[0])
	cases := map[string]integrationtest.Case{}
	for _, c := range integrationtest.Cases() {
		cases[c.Name] = c
	}
	proven := map[string]bool{}
	for _, bug := range bugs(t, b) {
		proven[bug.caught] = true
		t.Run(bug.name, func(t *testing.T) {
			h := b.harness()
			m := &memory{}
			whole := h.Kind.New
			h.Kind.New = func(target integrations.Target) (integrations.Integration, error) {
				i, err := whole(target)
				if err != nil {
					return nil, err
				}
				return bug.plant(i.(sound), target, m), nil
			}
			if r := integrationtest.Try(t.Context(), cases[bug.caught], h, t.Logf); r.Status != integrationtest.Failed {
				t.Errorf("the case %s does not find an integration that %s", bug.caught, bug.name)
			}
		})
	}
	for name, c := range cases {
		if !proven[name] && c.Missing(b.harness()) == "" {
			t.Errorf("no planted bug proves the case %s", name)
		}
	}
}
