package integrationtest_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
)

// planted is an integration with one bug: what is set replaces the method.
type planted struct {
	integrations.Integration
	held       func(context.Context, access.Account, []access.Entitlement) ([]access.Slot, error)
	grant      func(context.Context, integrations.GrantRequest) (integrations.GrantResult, error)
	revoke     func(context.Context, integrations.RevokeRequest) (integrations.RevokeResult, error)
	credential func(context.Context, integrations.CredentialRequest) (integrations.Credential, error)
	remove     func(context.Context, integrations.DeleteRequest) (integrations.DeleteResult, error)
	discover   func(context.Context, string) (access.Page, error)
	check      func(context.Context) (access.CheckReport, error)
}

func (p planted) Held(ctx context.Context, a access.Account, want []access.Entitlement) ([]access.Slot, error) {
	if p.held != nil {
		return p.held(ctx, a, want)
	}
	return p.Integration.Held(ctx, a, want)
}

func (p planted) Grant(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
	if p.grant != nil {
		return p.grant(ctx, req)
	}
	return p.Integration.Grant(ctx, req)
}

func (p planted) Revoke(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
	if p.revoke != nil {
		return p.revoke(ctx, req)
	}
	return p.Integration.Revoke(ctx, req)
}

func (p planted) DeleteAccount(ctx context.Context, req integrations.DeleteRequest) (integrations.DeleteResult, error) {
	if p.remove != nil {
		return p.remove(ctx, req)
	}
	return p.Integration.DeleteAccount(ctx, req)
}

func (p planted) Discover(ctx context.Context, cursor string) (access.Page, error) {
	if p.discover != nil {
		return p.discover(ctx, cursor)
	}
	return p.Integration.Discover(ctx, cursor)
}

func (p planted) Check(ctx context.Context) (access.CheckReport, error) {
	if p.check != nil {
		return p.check(ctx)
	}
	return p.Integration.Check(ctx)
}

// plantedSetter is one for accounts with credentials.
type plantedSetter struct {
	planted
	sound integrations.CredentialSetter
}

func (p plantedSetter) SetCredential(ctx context.Context, req integrations.CredentialRequest) (integrations.Credential, error) {
	if p.credential != nil {
		return p.credential(ctx, req)
	}
	return p.sound.SetCredential(ctx, req)
}

// soil is where a bug is planted: a sound integration in one process, and what
// all processes of the test share.
type soil struct {
	integrations.Integration
	target   integrations.Target
	observer integrationtest.Observer
	*memory
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
	m.seen[key]++
	return m.seen[key]
}

// gone is what a revoke says that did nothing.
func gone(req integrations.RevokeRequest) (res integrations.RevokeResult) {
	for _, e := range req.End {
		res.Entries = append(res.Entries, access.Entry{Entitlement: e, Outcome: access.Gone})
	}
	return res
}

// granted is what a grant says that did nothing.
func granted(req integrations.GrantRequest) (res integrations.GrantResult) {
	res.AccountName, res.Wrote = req.Account.Name, req.Wrote
	for _, e := range req.Want {
		res.Entries = append(res.Entries, access.Entry{Entitlement: e, Outcome: access.Granted})
	}
	return res
}

type (
	grantFunc  = func(context.Context, integrations.GrantRequest) (integrations.GrantResult, error)
	revokeFunc = func(context.Context, integrations.RevokeRequest) (integrations.RevokeResult, error)
)

// granting and revoking make bugs of one method.
func granting(bug func(s soil) grantFunc) func(soil) planted {
	return func(s soil) planted { return planted{grant: bug(s)} }
}

func revoking(bug func(s soil) revokeFunc) func(soil) planted {
	return func(s soil) planted { return planted{revoke: bug(s)} }
}

// bugs are mistakes that integrations make, each with the model room in which
// it is planted, and the case of the suite that must catch it.
var bugs = []struct {
	name, room, caught string
	plant              func(s soil) planted
}{
	{"opens what stands beside", "set", "exactly", granting(func(s soil) grantFunc {
		return func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
			beside := req
			beside.Want = []access.Entitlement{entitlement("viewer", "project", "gemini")}
			s.Grant(ctx, beside)
			return s.Grant(ctx, req)
		}
	})},
	{"grants twice on a retry", "set", "once", granting(func(s soil) grantFunc {
		return func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
			if s.count(req.Account.ID) > 1 {
				req.Account.ID += "-again"
			}
			return s.Grant(ctx, req)
		}
	})},
	{"ends the other request's access", "list", "overlaps", revoking(func(s soil) revokeFunc {
		return func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
			req.Remain = nil
			return s.Revoke(ctx, req)
		}
	})},
	{"ends what a second hold keeps", "set", "remaining", revoking(func(s soil) revokeFunc {
		return func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
			req.Remain = slices.DeleteFunc(req.Remain, func(c access.Claim) bool { return slices.Contains(req.End, c.Entitlement) })
			return s.Revoke(ctx, req)
		}
	})},
	{"takes away what the person had before", "set", "baseline", func(s soil) planted {
		return planted{held: func(ctx context.Context, a access.Account, want []access.Entitlement) ([]access.Slot, error) {
			slots, err := s.Held(ctx, a, want)
			for n := range slots {
				slots[n].Held, slots[n].HeldAs, slots[n].Write = "", nil, "member"
			}
			return slots, err
		}}
	}},
	{"cannot do two things at a time", "list", "parallel", func(s soil) planted {
		var one sync.Mutex
		return planted{grant: func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
			if !one.TryLock() {
				return integrations.GrantResult{}, access.Errorf(access.Conflict, "busy")
			}
			defer one.Unlock()
			return s.Grant(ctx, req)
		}}
	}},
	{"lets the slower of two win", "list", "tug-of-war", func(s soil) planted {
		return planted{grant: func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
			req.Sequence = 1000
			time.Sleep(10 * time.Millisecond)
			return s.Grant(ctx, req)
		}, revoke: func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
			req.Sequence = 1000
			return s.Revoke(ctx, req)
		}}
	}},
	{"cannot revoke what is not there", "set", "absent", revoking(func(s soil) revokeFunc {
		return func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
			res, err := s.Revoke(ctx, req)
			if err == nil && res.Entries[0].Outcome == access.WasGone {
				err = access.Errorf(access.ResourceMissing, "not there")
			}
			return res, err
		}
	})},
	{"leaves a name unquoted", "list", "hostile-names", func(s soil) planted {
		s.Integration.(*list).quote = func(name string) string { return name }
		return planted{}
	}},
	{"names accounts by the address alone", "list", "hostile-people", granting(func(s soil) grantFunc {
		return func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
			local, _, _ := strings.Cut(strings.ToLower(req.Account.Email), "@")
			req.Account.ID, req.Account.Name = access.AccountID(integration, "p"), "lapse_"+strings.NewReplacer(".", "_", "+", "_").Replace(local)
			return s.Grant(ctx, req)
		}
	})},
	{"lowers a slot below what remains", "slot", "levels", revoking(func(s soil) revokeFunc {
		return func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
			req.Remain = slices.DeleteFunc(req.Remain, func(c access.Claim) bool { return !c.Baseline && c.Entitlement.Permission == "write" })
			return s.Revoke(ctx, req)
		}
	})},
	{"re-raises a baseline that somebody lowered", "slot", "lowered-by-hand", revoking(func(s soil) revokeFunc {
		return func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
			res, err := s.Revoke(ctx, req)
			for _, c := range req.Remain {
				if c.Baseline {
					s.Grant(ctx, integrations.GrantRequest{Account: req.Account, Want: []access.Entitlement{c.Entitlement}})
				}
			}
			return res, err
		}
	})},
	{"takes what somebody raised for its own", "slot", "raised-by-hand", revoking(func(s soil) revokeFunc {
		return func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
			for key := range req.Wrote {
				req.Wrote[key] = "admin"
			}
			return s.Revoke(ctx, req)
		}
	})},
	{"writes again what is inherited", "slot", "inherited", revoking(func(s soil) revokeFunc {
		return func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
			res, err := s.Revoke(ctx, req)
			o, r := s.observer.(*slotTarget), req.End[0].Resource
			if level := o.of(req.Account, r).Inherited; level != "" {
				o.locked(func() { o.at(r.String(), o.user(req.Account)).Direct = level })
			}
			return res, err
		}
	})},
	{"says granted of an invitation", "slot", "pending", granting(func(s soil) grantFunc {
		return func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
			res, err := s.Grant(ctx, req)
			if err == nil && res.Entries[0].Outcome == access.Pending {
				return granted(req), nil
			}
			return res, err
		}
	})},
	{"leaves an invitation open", "slot", "cancelled", revoking(func(s soil) revokeFunc {
		return func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
			entries, err := s.Verify(ctx, req.Account, req.End)
			if err == nil && entries[0].Outcome == access.Pending {
				return gone(req), nil
			}
			return s.Revoke(ctx, req)
		}
	})},
	{"takes the first of two who have one address", "set", "unknown-people", granting(func(s soil) grantFunc {
		return func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
			o := s.observer.(*setTarget)
			if _, err := s.Grant(ctx, req); access.KindOf(err) == access.PersonMissing {
				o.locked(func() {
					o.bindings[req.Want[0].Resource.String()]["first"] = binding{User: o.user(req.Account), Role: req.Want[0].Permission}
				})
				return granted(req), nil
			}
			return s.Grant(ctx, req)
		}
	})},
	{"adopts a stranger's account", "list", "mark", granting(func(s soil) grantFunc {
		return func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
			res, err := s.Grant(ctx, req)
			if access.KindOf(err) == access.NameTaken {
				return granted(req), nil
			}
			return res, err
		}
	})},
	{"says deleted and keeps it", "list", "delete", func(s soil) planted {
		return planted{remove: func(context.Context, integrations.DeleteRequest) (integrations.DeleteResult, error) {
			return integrations.DeleteResult{Outcome: access.Gone}, nil
		}}
	}},
	{"drops what the account owns", "list", "owned", func(s soil) planted {
		return planted{remove: func(ctx context.Context, req integrations.DeleteRequest) (integrations.DeleteResult, error) {
			o := s.observer.(*listTarget)
			o.locked(func() {
				if r := o.accounts[req.Account.Name]; r != nil {
					r.Owns = nil
				}
			})
			return s.DeleteAccount(ctx, req)
		}}
	}},
	{"lets a late attempt open again", "list", "sequence", func(s soil) planted {
		return planted{grant: func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
			req.Sequence = int64(1000 + s.count(""))
			return s.Grant(ctx, req)
		}, revoke: func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
			req.Sequence = int64(1000 + s.count(""))
			return s.Revoke(ctx, req)
		}}
	}},
	{"keeps what nobody owes", "list", "drift", revoking(func(s soil) revokeFunc {
		return func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
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
		}
	})},
	{"remembers in the process what it granted", "set", "new-process", func(s soil) planted {
		own := &memory{seen: map[string]int{}}
		return planted{grant: func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
			own.count(req.Account.ID)
			return s.Grant(ctx, req)
		}, revoke: func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
			if own.count(req.Account.ID) == 1 {
				return gone(req), nil
			}
			return s.Revoke(ctx, req)
		}}
	}},
	{"hands out the same credential again", "list", "credential", func(s soil) planted {
		made := map[string]integrations.Credential{}
		return planted{credential: func(ctx context.Context, req integrations.CredentialRequest) (integrations.Credential, error) {
			if c, ok := made[req.Account.ID]; ok {
				return c, nil
			}
			c, err := s.Integration.(*list).SetCredential(ctx, req)
			if err == nil {
				made[req.Account.ID] = c
			}
			return c, err
		}}
	}},
	{"forgets sessions", "list", "sessions", revoking(func(s soil) revokeFunc {
		return func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
			o := s.observer.(*listTarget)
			var open map[*listSession]bool
			o.locked(func() { open = maps.Clone(o.sessions) })
			res, err := s.Revoke(ctx, req)
			o.locked(func() { o.sessions = open })
			return res, err
		}
	})},
	{"ends sessions before it closes the login", "list", "disabled-first", revoking(func(s soil) revokeFunc {
		return func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
			i := s.Integration.(*list)
			i.endSessions(ctx, i.name(req.Account))
			time.Sleep(30 * time.Millisecond)
			return s.Revoke(ctx, req)
		}
	})},
	{"takes a grant that was begun for done", "set", "cut-grant", granting(func(s soil) grantFunc {
		return func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
			if s.count(req.Account.ID) == 1 {
				return s.Grant(ctx, req)
			}
			return granted(req), nil
		}
	})},
	{"takes a revoke that was begun for done", "set", "cut-revoke", revoking(func(s soil) revokeFunc {
		return func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
			if s.count(req.Account.ID) == 1 {
				return s.Revoke(ctx, req)
			}
			return gone(req), nil
		}
	})},
	{"repeats a credential that nobody received", "list", "cut-credential", func(s soil) planted {
		return planted{credential: func(ctx context.Context, req integrations.CredentialRequest) (integrations.Credential, error) {
			if s.count(req.Account.ID) <= 2 {
				return s.Integration.(*list).SetCredential(ctx, req)
			}
			return integrations.Credential{Username: req.Account.Name, Password: "forgotten", Command: "list"}, nil
		}}
	}},
	{"takes a delete that was begun for done", "list", "cut-delete", func(s soil) planted {
		return planted{remove: func(ctx context.Context, req integrations.DeleteRequest) (integrations.DeleteResult, error) {
			if s.count(req.Account.ID) == 1 {
				return s.DeleteAccount(ctx, req)
			}
			return integrations.DeleteResult{Outcome: access.Gone}, nil
		}}
	}},
	{"does not tell a dead target from a refusal", "set", "dead", revoking(func(s soil) revokeFunc {
		return func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
			res, err := s.Revoke(ctx, req)
			if err != nil {
				err = errors.New("failed")
			}
			return res, err
		}
	})},
	{"gives up too soon", "set", "slow", granting(func(s soil) grantFunc {
		return func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
			ctx, cancel := context.WithTimeout(ctx, 40*time.Millisecond)
			defer cancel()
			return s.Grant(ctx, req)
		}
	})},
	{"goes on after it was canceled", "set", "canceled", granting(func(s soil) grantFunc {
		return func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
			return s.Grant(context.WithoutCancel(ctx), req)
		}
	})},
	{"leaks its secret in an error", "set", "wrong-secret", granting(func(s soil) grantFunc {
		return func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
			res, err := s.Grant(ctx, req)
			if err != nil {
				err = access.Errorf(access.KindOf(err), "%w", fmt.Errorf("with token %s: %w", s.target.Secret.(*secret).Token.Reveal(), err))
			}
			return res, err
		}
	})},
	{"leaks its secret in the log", "list", "check", func(s soil) planted {
		s.target.Log.Debug("connecting", "token", s.target.Secret.(*secret).Token.Reveal())
		return planted{}
	}},
	{"waits as long as it likes", "slot", "throttled", granting(func(s soil) grantFunc {
		return func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
			res, err := s.Grant(ctx, req)
			if access.KindOf(err) == access.RateLimited {
				err = access.Errorf(access.RateLimited, "later")
			}
			return res, err
		}
	})},
	{"treats what it may not as gone", "set", "refused", revoking(func(s soil) revokeFunc {
		return func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
			res, err := s.Revoke(ctx, req)
			if access.KindOf(err) == access.Privilege {
				return gone(req), nil
			}
			return res, err
		}
	})},
	{"stops at the first error of a revoke", "slot", "every-step", revoking(func(s soil) revokeFunc {
		return func(ctx context.Context, req integrations.RevokeRequest) (all integrations.RevokeResult, err error) {
			for _, e := range req.End {
				one := req
				one.End = []access.Entitlement{e}
				res, err := s.Revoke(ctx, one)
				if err != nil {
					return all, err
				}
				all.Entries, all.Notes, req.Wrote = append(all.Entries, res.Entries...), append(all.Notes, res.Notes...), res.Wrote
			}
			all.Wrote = req.Wrote
			return all, nil
		}
	})},
	{"reports granted without reading back", "set", "read-back", granting(func(s soil) grantFunc {
		return func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
			res, err := s.Grant(ctx, req)
			if access.KindOf(err) == access.Conflict {
				return granted(req), nil
			}
			return res, err
		}
	})},
	{"offers what it does not declare", "list", "declared", func(s soil) planted {
		return planted{discover: func(ctx context.Context, cursor string) (access.Page, error) {
			page, err := s.Discover(ctx, cursor)
			page.Resources = append(page.Resources, found([]string{"use"}, "exchange", "main"))
			return page, err
		}}
	}},
	{"finds fault where there is none", "slot", "check", func(s soil) planted {
		return planted{check: func(ctx context.Context) (access.CheckReport, error) {
			report, err := s.Check(ctx)
			report.Items = append(report.Items, access.CheckItem{Operation: "grant", Name: "luck"})
			return report, err
		}}
	}},
	{"loses a page", "set", "paging", func(s soil) planted {
		return planted{discover: func(ctx context.Context, cursor string) (access.Page, error) {
			page, err := s.Discover(ctx, cursor)
			if cursor == "" {
				page.Resources = nil
			}
			return page, err
		}}
	}},
	{"forgets the target's own expiry", "list", "expiry", granting(func(s soil) grantFunc {
		return func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
			req.End = req.End.Add(24 * time.Hour)
			return s.Grant(ctx, req)
		}
	})},
}

// plant makes a harness of a model room with a bug in it.
func plant(t *testing.T, room string, bug func(soil) planted) *integrationtest.Harness {
	h := models[room].new(t, nil)
	sound, m := h.Kind.New, &memory{seen: map[string]int{}}
	h.Kind.New = func(target integrations.Target) (integrations.Integration, error) {
		i, err := sound(target)
		if err != nil {
			return nil, err
		}
		p := bug(soil{i, target, h.Observer, m})
		p.Integration = i
		if setter, ok := i.(integrations.CredentialSetter); ok {
			return plantedSetter{p, setter}, nil
		}
		return p, nil
	}
	return h
}

// TestPlantedBugs demands that each bug is caught by the case that is named for
// it, and that each case is named for one.
func TestPlantedBugs(t *testing.T) {
	cases := map[string]integrationtest.Case{}
	for _, c := range integrationtest.Cases() {
		cases[c.Name] = c
	}
	proven := map[string]bool{}
	for _, bug := range bugs {
		proven[bug.caught] = true
		t.Run(bug.name, func(t *testing.T) {
			t.Parallel()
			if r := integrationtest.Try(t.Context(), cases[bug.caught], plant(t, bug.room, bug.plant), t.Logf); r.Status != integrationtest.Failed {
				t.Errorf("the case %s does not find an integration that %s: %s %s", bug.caught, bug.name, r.Status, r.Reason)
			}
		})
	}
	for name := range cases {
		if !proven[name] {
			t.Errorf("without the case %s no planted bug would slip through", name)
		}
	}
}
