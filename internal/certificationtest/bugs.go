package certificationtest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

// Bugs are mistakes that an integration of any kind can make, at least one for
// each case of the suite. A bug is sharp: it shows in the very situation for
// which there is its case, and no other case finds it.
func Bugs() []Bug {
	return []Bug{
		// Access.
		{"opens what stands beside the weakest", "exactly", func(p *Process) {
			p.beforeGrant(func(req *integrations.GrantRequest) {
				if slices.ContainsFunc(p.Harness.Chains, func(chain []access.Entitlement) bool { return chain[0] == req.Want[0] }) {
					req.Want = append(slices.Clone(req.Want), p.Harness.Apart[1])
				}
			})
			p.changeGrant(func(req integrations.GrantRequest, res integrations.GrantResult, err error) (integrations.GrantResult, error) {
				res.Entries = res.Entries[:min(len(req.Want), len(res.Entries))]
				return res, err
			})
		}},
		{"wants as many revokes as there were grants at once", "once", func(p *Process) {
			grant := p.Grant
			p.Grant = func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				underWay := p.Shared("granting " + req.Account.ID)
				defer underWay.Add(-1)
				if underWay.Add(1) > 1 {
					p.Shared("more " + req.Account.ID).Add(1)
				}
				return grant(ctx, req)
			}
			p.skipRevoke(func(req integrations.RevokeRequest) bool { return p.Shared("more "+req.Account.ID).Add(-1) >= 0 })
		}},
		{"ends the stronger with the weaker", "overlaps", func(p *Process) {
			p.endMore(func(req integrations.RevokeRequest, e access.Entitlement) bool { return p.stronger(e, req.End[0]) })
		}},
		{"ends what a second hold keeps", "remaining", func(p *Process) {
			p.beforeRevoke(func(req *integrations.RevokeRequest) {
				req.Remain = slices.DeleteFunc(req.Remain, func(c access.Claim) bool { return !c.Baseline && slices.Contains(req.End, c.Entitlement) })
			})
		}},
		{"takes for its own what the person had before", "baseline", func(p *Process) {
			held := p.Held
			p.Held = func(ctx context.Context, a access.Account, want []access.Entitlement) ([]access.Slot, error) {
				slots, err := held(ctx, a, want)
				for n, s := range slots {
					if slices.ContainsFunc(want, func(e access.Entitlement) bool { return slices.Contains(s.HeldAs, e) }) {
						slots[n].Held, slots[n].HeldAs, slots[n].Write = "", nil, s.Held
					}
				}
				return slots, err
			}
		}},
		{"forgets one of two people who lose access at once", "parallel", func(p *Process) {
			revoke := p.Revoke
			p.Revoke = func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
				underWay := p.Shared("revoking")
				defer underWay.Add(-1)
				if underWay.Add(1) > 1 {
					return gone(req), nil
				}
				return revoke(ctx, req)
			}
		}},
		{"forgets every revoke after one that met a grant", "tug-of-war", func(p *Process) {
			grant, revoke := p.Grant, p.Revoke
			p.Grant = func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				underWay := p.Shared("granting " + req.Account.ID)
				defer underWay.Add(-1)
				underWay.Add(1)
				res, err := grant(ctx, req)
				if err == nil && p.Shared("revoking "+req.Account.ID).Load() > 0 {
					p.Shared("met " + req.Account.ID).Add(1)
				}
				return res, err
			}
			p.Revoke = func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
				underWay := p.Shared("revoking " + req.Account.ID)
				defer underWay.Add(-1)
				underWay.Add(1)
				if p.Shared("met "+req.Account.ID).Load() > 0 {
					return gone(req), nil
				}
				res, err := revoke(ctx, req)
				if err == nil && p.Shared("granting "+req.Account.ID).Load() > 0 {
					p.Shared("met " + req.Account.ID).Add(1)
				}
				return res, err
			}
		}},
		{"says granted of what does not exist", "absent", saysGranted(func(p *Process, req integrations.GrantRequest, err error) bool {
			return err != nil && slices.Contains(p.Harness.Absent, req.Want[0])
		})},
		{"does not take back what has a strange name", "hostile-names", func(p *Process) {
			p.skipRevoke(func(req integrations.RevokeRequest) bool { return slices.Contains(p.Harness.Hostile, req.End[0]) })
		}},
		{"knows people by their address as it was written", "hostile-people", func(p *Process) {
			var written sync.Map
			p.noteGrant(func(req integrations.GrantRequest) { written.Store(req.Account.ID, req.Account.Email) })
			p.skipRevoke(func(req integrations.RevokeRequest) bool {
				was, ok := written.Load(req.Account.ID)
				return ok && was != req.Account.Email
			})
		}},
		{"gives people who look alike one account", "hostile-people", func(p *Process) {
			var first sync.Map
			p.beforeGrant(func(req *integrations.GrantRequest) {
				like := strings.NewReplacer(".", "_", "+", "_").Replace(req.Account.Email)
				a, _ := first.LoadOrStore(like, req.Account)
				if alike := a.(access.Account); alike.Email != req.Account.Email {
					req.Account = alike
				}
			})
		}},

		// Levels and invitations.
		{"leaves the least of several that must remain", "levels", func(p *Process) {
			p.beforeRevoke(func(req *integrations.RevokeRequest) {
				rank := func(c access.Claim) int { return slices.Index(p.Harness.Levels, c.Entitlement) }
				least := len(p.Harness.Levels)
				for _, c := range req.Remain {
					if n := rank(c); n >= 0 {
						least = min(least, n)
					}
				}
				req.Remain = slices.DeleteFunc(req.Remain, func(c access.Claim) bool { return rank(c) > least })
			})
		}},
		{"raises again a baseline that somebody lowered", "lowered-by-hand", func(p *Process) {
			revoke := p.Revoke
			p.Revoke = func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
				res, err := revoke(ctx, req)
				for _, c := range req.Remain {
					if c.Baseline {
						p.Sound.Grant(ctx, integrations.GrantRequest{Account: req.Account, Want: []access.Entitlement{c.Entitlement}})
					}
				}
				return res, err
			}
		}},
		{"takes what somebody raised for its own", "raised-by-hand", func(p *Process) {
			p.beforeRevoke(func(req *integrations.RevokeRequest) {
				for key := range req.Wrote {
					req.Wrote[key] = p.Harness.Levels[len(p.Harness.Levels)-1].Permission
				}
			})
		}},
		{"takes nothing from somebody who inherits a part", "inherited", func(p *Process) {
			var inherits sync.Map
			p.changeGrant(func(req integrations.GrantRequest, res integrations.GrantResult, err error) (integrations.GrantResult, error) {
				baseline := slices.ContainsFunc(req.Remain, func(c access.Claim) bool { return c.Baseline })
				if err == nil && res.Entries[0].Outcome == access.AlreadyHeld && !baseline {
					inherits.Store(req.Account.ID, true)
				}
				return res, err
			})
			p.skipRevoke(func(req integrations.RevokeRequest) bool {
				_, ok := inherits.Load(req.Account.ID)
				return ok
			})
		}},
		{"says pending of what was accepted", "pending", func(p *Process) {
			var awaited sync.Map
			verify := p.Verify
			p.Verify = func(ctx context.Context, a access.Account, want []access.Entitlement) ([]access.Entry, error) {
				entries, err := verify(ctx, a, want)
				for n, e := range entries {
					key := a.ID + " " + e.Entitlement.String()
					if e.Outcome == access.Pending {
						awaited.Store(key, e)
					} else if was, ok := awaited.Load(key); ok && e.Outcome == access.Granted {
						entries[n] = was.(access.Entry)
					}
				}
				return entries, err
			}
		}},
		{"leaves an invitation open", "cancelled", func(p *Process) {
			revoke := p.Revoke
			p.Revoke = func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
				entries, err := p.Sound.Verify(ctx, req.Account, req.End)
				if err == nil && entries[0].Outcome == access.Pending {
					return gone(req), nil
				}
				return revoke(ctx, req)
			}
		}},
		{"says granted to somebody whom the target does not know", "unknown-people", saysGranted(func(_ *Process, _ integrations.GrantRequest, err error) bool {
			return access.KindOf(err) == access.PersonMissing
		})},

		// Accounts.
		{"says granted to a stranger", "mark", saysGranted(func(_ *Process, _ integrations.GrantRequest, err error) bool {
			return access.KindOf(err) == access.NameTaken
		})},
		{"says deleted of an account that holds something", "delete", func(p *Process) {
			var holding sync.Map
			revoke, remove := p.Revoke, p.DeleteAccount
			p.noteGrant(func(req integrations.GrantRequest) { holding.Store(req.Account.ID, req.Sequence) })
			p.Revoke = func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
				res, err := revoke(ctx, req)
				if err == nil && !otherHolds(req) {
					holding.Delete(req.Account.ID)
				}
				return res, err
			}
			p.DeleteAccount = func(ctx context.Context, req integrations.DeleteRequest) (integrations.DeleteResult, error) {
				if since, ok := holding.Load(req.Account.ID); ok && req.Sequence > since.(int64) {
					return integrations.DeleteResult{Outcome: access.Gone}, nil
				}
				return remove(ctx, req)
			}
		}},
		{"says deleted of what it kept", "owned", func(p *Process) {
			remove := p.DeleteAccount
			p.DeleteAccount = func(ctx context.Context, req integrations.DeleteRequest) (integrations.DeleteResult, error) {
				res, err := remove(ctx, req)
				if res.Outcome == access.KeptDisabled {
					res.Outcome = access.Gone
				}
				return res, err
			}
		}},
		{"carries out a delete that comes late", "sequence", func(p *Process) {
			remove := p.DeleteAccount
			newest := p.Shared("newest")
			p.noteGrant(func(req integrations.GrantRequest) { newest.Store(max(newest.Load(), req.Sequence+1)) })
			p.DeleteAccount = func(ctx context.Context, req integrations.DeleteRequest) (integrations.DeleteResult, error) {
				req.Sequence = max(req.Sequence, newest.Load())
				return remove(ctx, req)
			}
		}},
		{"lists the first thing that an account holds", "listed", func(p *Process) {
			p.changeAccounts(func(x *access.Principal) { x.Entitlements = x.Entitlements[:min(1, len(x.Entitlements))] })
		}},
		{"keeps what nobody owes", "drift", func(p *Process) {
			var granted sync.Map
			p.noteGrant(func(req integrations.GrantRequest) { granted.Store(req.Account.ID, req.Want) })
			p.beforeRevoke(func(req *integrations.RevokeRequest) {
				if want, ok := granted.LoadAndDelete(req.Account.ID); ok {
					for _, e := range want.([]access.Entitlement) {
						if !slices.Contains(req.End, e) {
							req.Remain = append(req.Remain, access.Claim{Entitlement: e})
						}
					}
				}
			})
		}},
		{"does not keep what another process granted", "new-process", func(p *Process) {
			var own sync.Map
			p.noteGrant(func(req integrations.GrantRequest) {
				for _, e := range req.Want {
					own.Store(req.Account.ID+" "+e.String(), true)
				}
			})
			p.endMore(func(req integrations.RevokeRequest, e access.Entitlement) bool {
				_, ok := own.Load(req.Account.ID + " " + e.String())
				return !ok
			})
		}},

		// Credentials and sessions.
		{"hands out the same credential again", "credential", func(p *Process) {
			var made sync.Map
			set := p.SetCredential
			p.SetCredential = func(ctx context.Context, req integrations.CredentialRequest) (integrations.Credential, error) {
				if c, ok := made.Load(req.Account.ID); ok && !req.EndSessions {
					return c.(integrations.Credential), nil
				}
				c, err := set(ctx, req)
				if err == nil {
					made.Store(req.Account.ID, c)
				}
				return c, err
			}
		}},
		{"lets sessions go on while something else is held", "sessions", func(p *Process) {
			loggedIn := p.loggedIn()
			p.skipRevoke(func(req integrations.RevokeRequest) bool { return loggedIn(req.Account) && otherHolds(req) })
		}},
		{"ends sessions before it closes the login", "disabled-first", func(p *Process) {
			loggedIn, revoke := p.loggedIn(), p.Revoke
			p.Revoke = func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
				if loggedIn(req.Account) && !otherHolds(req) {
					before := req
					before.Remain = slices.Clone(req.Remain)
					for _, e := range req.End {
						before.Remain = append(before.Remain, access.Claim{Entitlement: e})
					}
					if res, err := revoke(ctx, before); err != nil {
						return res, err
					}
					time.Sleep(200 * time.Millisecond)
				}
				return revoke(ctx, req)
			}
		}},
		{"keeps the sessions of a credential that was exposed", "exposed", func(p *Process) {
			set := p.SetCredential
			p.SetCredential = func(ctx context.Context, req integrations.CredentialRequest) (integrations.Credential, error) {
				req.EndSessions = false
				return set(ctx, req)
			}
		}},
		{"says that it has another secret and keeps the old one", "own-secret", func(p *Process) {
			p.RotateSecret = func(context.Context, any) error { return nil }
		}},

		// The last resort.
		{"writes down steps that say nothing", "last-resort", func(p *Process) {
			p.Steps = func(integrations.Target, integrations.RevokeRequest) (string, error) { return "", nil }
		}},
		{"takes from everybody what one person has", "last-resort", func(p *Process) {
			p.changeGrant(func(req integrations.GrantRequest, res integrations.GrantResult, err error) (integrations.GrantResult, error) {
				req.Account.Name = res.AccountName
				p.shared.Store("granted "+req.Account.ID, integrations.RevokeRequest{Account: req.Account, End: req.Want, Wrote: res.Wrote})
				return res, err
			})
			steps := p.Steps
			p.Steps = func(target integrations.Target, req integrations.RevokeRequest) (string, error) {
				all, err := steps(target, req)
				p.shared.Range(func(_, one any) bool {
					if other, ok := one.(integrations.RevokeRequest); ok && other.Account.ID != req.Account.ID && err == nil {
						var more string
						more, err = steps(target, other)
						all += more
					}
					return true
				})
				return all, err
			}
		}},

		// What the target is told.
		{"tells of a weaker grant than it makes", "told", func(p *Process) {
			told := p.Told
			p.Told = func(target integrations.Target, req integrations.GrantRequest) ([]string, error) {
				for _, chain := range p.Harness.Chains {
					if at := slices.Index(chain, req.Want[0]); at > 0 {
						req.Want = chain[at-1 : at]
					}
				}
				if req.Want[0] == p.Harness.Apart[1] {
					req.Want = p.Harness.Apart[:1]
				}
				return told(target, req)
			}
		}},
		{"does more than it tells", "told", func(p *Process) {
			told := p.Told
			p.Told = func(target integrations.Target, req integrations.GrantRequest) ([]string, error) {
				lines, err := told(target, req)
				if len(lines) > 1 {
					return lines[1:], err
				}
				for n, line := range lines { // of a request that says all at once
					lines[n], _, _ = strings.Cut(line, "\n")
				}
				return lines, err
			}
		}},

		// Faults.
		{"takes a grant that another process began for done", "cut-grant", func(p *Process) {
			grant := p.Grant
			p.Grant = func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				return begun(p, "grant", req.Account, req.Sequence, granted(req), func() (integrations.GrantResult, error) { return grant(ctx, req) })
			}
		}},
		{"takes a revoke that another process began for done", "cut-revoke", func(p *Process) {
			revoke := p.Revoke
			p.Revoke = func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
				return begun(p, "revoke", req.Account, req.Sequence, gone(req), func() (integrations.RevokeResult, error) { return revoke(ctx, req) })
			}
		}},
		{"repeats a credential that another process began", "cut-credential", func(p *Process) {
			set := p.SetCredential
			p.SetCredential = func(ctx context.Context, req integrations.CredentialRequest) (integrations.Credential, error) {
				lost := integrations.Credential{Username: req.Account.Name, Password: "forgotten", Command: "login"}
				return begun(p, "credential", req.Account, req.Sequence, lost, func() (integrations.Credential, error) { return set(ctx, req) })
			}
		}},
		{"takes a delete that another process began for done", "cut-delete", func(p *Process) {
			remove := p.DeleteAccount
			p.DeleteAccount = func(ctx context.Context, req integrations.DeleteRequest) (integrations.DeleteResult, error) {
				done := integrations.DeleteResult{Outcome: access.Gone}
				return begun(p, "delete", req.Account, req.Sequence, done, func() (integrations.DeleteResult, error) { return remove(ctx, req) })
			}
		}},
		{"takes silence for gone", "dead", func(p *Process) {
			verify := p.Verify
			p.Verify = func(ctx context.Context, a access.Account, want []access.Entitlement) ([]access.Entry, error) {
				entries, err := verify(ctx, a, want)
				if access.KindOf(err) == access.Retry {
					return gone(integrations.RevokeRequest{End: want}).Entries, nil
				}
				return entries, err
			}
		}},
		{"gives up on a slow target", "slow", func(p *Process) {
			grant := p.Grant
			p.Grant = func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				res, err := grant(ctx, req)
				for range 5 { // a machine that is busy for once is no slow target
					asked := time.Now()
					p.Sound.Check(ctx)
					if time.Since(asked) < 20*time.Millisecond {
						return res, err
					}
				}
				return res, access.Errorf(access.Retry, "the target is too slow")
			}
		}},
		{"begins what was canceled before", "canceled", func(p *Process) {
			grant := p.Grant
			p.Grant = func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				if ctx.Err() != nil {
					ctx = context.WithoutCancel(ctx)
				}
				return grant(ctx, req)
			}
		}},
		{"shows its secret when it is refused", "wrong-secret", func(p *Process) {
			p.changeGrant(func(_ integrations.GrantRequest, res integrations.GrantResult, err error) (integrations.GrantResult, error) {
				if access.KindOf(err) == access.Auth {
					err = access.Errorf(access.Auth, "logging in: %w", fmt.Errorf("with %s: %w", p.Harness.Canaries[0], err))
				}
				return res, err
			})
		}},
		{"waits as long as it likes", "throttled", func(p *Process) {
			p.changeGrant(func(_ integrations.GrantRequest, res integrations.GrantResult, err error) (integrations.GrantResult, error) {
				if access.KindOf(err) == access.RateLimited {
					err = access.Errorf(access.RateLimited, "later")
				}
				return res, err
			})
		}},
		{"treats what it may not as gone", "refused", func(p *Process) {
			revoke := p.Revoke
			p.Revoke = func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
				res, err := revoke(ctx, req)
				if len(req.End) == 1 && access.KindOf(err) == access.Privilege {
					return gone(req), nil
				}
				return res, err
			}
		}},
		{"stops at the first error of a revoke", "every-step", func(p *Process) {
			revoke := p.Revoke
			p.Revoke = func(ctx context.Context, req integrations.RevokeRequest) (all integrations.RevokeResult, err error) {
				all.Wrote = req.Wrote
				for n, e := range req.End {
					one := req
					one.End, one.Remain, one.Wrote = req.End[n:n+1], slices.Clone(req.Remain), all.Wrote
					for _, later := range req.End[n+1:] {
						one.Remain = append(one.Remain, access.Claim{Entitlement: later})
					}
					res, err := revoke(ctx, one)
					if err != nil {
						return all, fmt.Errorf("%s: %w", e, err)
					}
					all.Entries, all.Notes, all.Wrote = append(all.Entries, res.Entries...), append(all.Notes, res.Notes...), res.Wrote
				}
				return all, nil
			}
		}},
		{"says granted without reading back", "read-back", func(p *Process) {
			p.changeGrant(func(req integrations.GrantRequest, res integrations.GrantResult, err error) (integrations.GrantResult, error) {
				propagates := slices.ContainsFunc(res.Entries, func(e access.Entry) bool { return e.Outcome == access.Propagating })
				if access.KindOf(err) == access.Conflict || err == nil && propagates {
					return granted(req), nil
				}
				return res, err
			})
		}},

		// Declarations.
		{"offers what it does not declare", "declared", func(p *Process) {
			p.changePage(func(cursor string, page *access.Page) {
				if cursor == "" {
					page.Resources = append(page.Resources, access.Found{Resource: access.NewResource("undeclared", "main"), Permissions: []string{"use"}})
				}
			})
		}},
		{"finds fault where there is none", "check", func(p *Process) {
			p.changeReport(func(report *access.CheckReport) {
				report.Items = append(report.Items, access.CheckItem{Operation: "grant", Name: "luck"})
			})
		}},
		{"logs its secret when all is well", "check", func(p *Process) {
			p.changeReport(func(report *access.CheckReport) {
				if report.OK() {
					p.Target.Log.Debug("connected", "with", p.Harness.Canaries[0])
				}
			})
		}},
		{"loses a resource", "paging", func(p *Process) {
			p.changePage(func(_ string, page *access.Page) {
				page.Resources = slices.DeleteFunc(page.Resources, func(f access.Found) bool { return f.Resource == p.Harness.Apart[1].Resource })
			})
		}},
		{"lets the target's own expiry lie a day too late", "expiry", func(p *Process) {
			p.beforeGrant(func(req *integrations.GrantRequest) { req.End = req.End.Add(24 * time.Hour) })
		}},
	}
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

// saysGranted is a bug of a grant that takes certain errors for a success.
func saysGranted(when func(p *Process, req integrations.GrantRequest, err error) bool) func(p *Process) {
	return func(p *Process) {
		p.changeGrant(func(req integrations.GrantRequest, res integrations.GrantResult, err error) (integrations.GrantResult, error) {
			if when(p, req, err) {
				return granted(req), nil
			}
			return res, err
		})
	}
}

// changeGrant changes what a grant returns.
func (p *Process) changeGrant(change func(integrations.GrantRequest, integrations.GrantResult, error) (integrations.GrantResult, error)) {
	grant := p.Grant
	p.Grant = func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
		res, err := grant(ctx, req)
		return change(req, res, err)
	}
}

// noteGrant takes a note of each grant that works.
func (p *Process) noteGrant(note func(integrations.GrantRequest)) {
	p.changeGrant(func(req integrations.GrantRequest, res integrations.GrantResult, err error) (integrations.GrantResult, error) {
		if err == nil {
			note(req)
		}
		return res, err
	})
}

// beforeGrant changes what a grant is asked for, and so what it says that it tells.
func (p *Process) beforeGrant(change func(req *integrations.GrantRequest)) {
	grant, told := p.Grant, p.Told
	p.Told = func(target integrations.Target, req integrations.GrantRequest) ([]string, error) {
		change(&req)
		return told(target, req)
	}
	p.Grant = func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
		change(&req)
		return grant(ctx, req)
	}
}

// beforeRevoke changes what a revoke is asked for.
func (p *Process) beforeRevoke(change func(req *integrations.RevokeRequest)) {
	revoke := p.Revoke
	p.Revoke = func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
		change(&req)
		return revoke(ctx, req)
	}
}

// endMore ends other holds with those that a revoke is asked for, and does not
// say so.
func (p *Process) endMore(when func(integrations.RevokeRequest, access.Entitlement) bool) {
	revoke := p.Revoke
	p.Revoke = func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
		more := req
		more.End, more.Remain = slices.Clone(req.End), nil
		for _, c := range req.Remain {
			if !c.Baseline && when(req, c.Entitlement) {
				more.End = append(more.End, c.Entitlement)
			} else {
				more.Remain = append(more.Remain, c)
			}
		}
		res, err := revoke(ctx, more)
		res.Entries = res.Entries[:min(len(req.End), len(res.Entries))]
		return res, err
	}
}

// skipRevoke does nothing at certain revokes, and says gone.
func (p *Process) skipRevoke(when func(integrations.RevokeRequest) bool) {
	revoke := p.Revoke
	p.Revoke = func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
		if when(req) {
			return gone(req), nil
		}
		return revoke(ctx, req)
	}
}

func (p *Process) changeAccounts(change func(*access.Principal)) {
	accounts := p.Accounts
	p.Accounts = func(ctx context.Context, cursor string) (access.PrincipalPage, error) {
		page, err := accounts(ctx, cursor)
		for n := range page.Principals {
			change(&page.Principals[n])
		}
		return page, err
	}
}

func (p *Process) changePage(change func(cursor string, page *access.Page)) {
	discover := p.Discover
	p.Discover = func(ctx context.Context, cursor string) (access.Page, error) {
		page, err := discover(ctx, cursor)
		change(cursor, &page)
		return page, err
	}
}

func (p *Process) changeReport(change func(report *access.CheckReport)) {
	check := p.Check
	p.Check = func(ctx context.Context) (access.CheckReport, error) {
		report, err := check(ctx)
		change(&report)
		return report, err
	}
}

// loggedIn tells whether the account got a credential from this process.
func (p *Process) loggedIn() func(access.Account) bool {
	var made sync.Map
	set := p.SetCredential
	p.SetCredential = func(ctx context.Context, req integrations.CredentialRequest) (integrations.Credential, error) {
		c, err := set(ctx, req)
		if err == nil {
			made.Store(req.Account.ID, true)
		}
		return c, err
	}
	return func(a access.Account) bool {
		_, ok := made.Load(a.ID)
		return ok
	}
}

// otherHolds is true when another hold remains.
func otherHolds(req integrations.RevokeRequest) bool {
	return slices.ContainsFunc(req.Remain, func(c access.Claim) bool { return !c.Baseline })
}

// stronger is true when e covers other in one of the chains.
func (p *Process) stronger(e, other access.Entitlement) bool {
	return slices.ContainsFunc(p.Harness.Chains, func(chain []access.Entitlement) bool {
		at := slices.Index(chain, other)
		return at >= 0 && slices.Index(chain, e) > at
	})
}

// begun runs an operation, unless another process tried it and failed: then it
// takes what that would have returned.
func begun[R any](p *Process, what string, a access.Account, sequence int64, done R, operation func() (R, error)) (R, error) {
	key := fmt.Sprintf("%s %s %d", what, a.ID, sequence)
	if first, ok := p.shared.Load(key); ok && first != p {
		return done, nil
	}
	res, err := operation()
	if err != nil {
		p.shared.Store(key, p)
	} else {
		p.shared.Delete(key)
	}
	return res, err
}
