package integrationtest_test

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/internal/certificationtest"
)

// ownBugs are those that only one model room can have: they know its insides.
var ownBugs = map[string][]certificationtest.Bug{
	"set": {
		{Name: "takes the first of two who have one address", Case: "unknown-people", Spoil: func(p *certificationtest.Process) {
			o, grant := p.Harness.Observer.(*setTarget), p.Grant
			p.Grant = func(ctx context.Context, req integrations.GrantRequest) (res integrations.GrantResult, err error) {
				if res, err = grant(ctx, req); access.KindOf(err) == access.PersonMissing {
					o.locked(func() {
						o.bindings[req.Want[0].Resource.String()]["first"] = binding{User: o.user(req.Account), Role: req.Want[0].Permission}
					})
				}
				return res, err
			}
		}},
	},
	"slot": {
		{Name: "writes again what is inherited", Case: "inherited", Spoil: func(p *certificationtest.Process) {
			o, revoke := p.Harness.Observer.(*slotTarget), p.Revoke
			p.Revoke = func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
				res, err := revoke(ctx, req)
				r := req.End[0].Resource
				if level := o.of(req.Account, r).Inherited; level != "" {
					o.SetLevel(nil, req.Account, r, level)
				}
				return res, err
			}
		}},
	},
	"list": {
		{Name: "leaves a name unquoted", Case: "hostile-names", Spoil: func(p *certificationtest.Process) {
			p.Sound.(*list).quote = func(name string) string { return name }
		}},
		{Name: "closes the login of a stranger", Case: "mark", Spoil: func(p *certificationtest.Process) {
			o, grant := p.Harness.Observer.(*listTarget), p.Grant
			p.Grant = func(ctx context.Context, req integrations.GrantRequest) (res integrations.GrantResult, err error) {
				if res, err = grant(ctx, req); access.KindOf(err) == access.NameTaken {
					o.locked(func() { o.accounts[p.Sound.(*list).name(req.Account).Get("name")].Enabled = false })
				}
				return res, err
			}
		}},
		{Name: "empties what the account owns", Case: "owned", Spoil: func(p *certificationtest.Process) {
			o, remove := p.Harness.Observer.(*listTarget), p.DeleteAccount
			p.DeleteAccount = func(ctx context.Context, req integrations.DeleteRequest) (integrations.DeleteResult, error) {
				res, err := remove(ctx, req)
				o.locked(func() {
					for _, r := range o.accounts {
						if r.Account == req.Account.ID && r.Tombstone {
							r.Owns = []string{"an empty queue"}
						}
					}
				})
				return res, err
			}
		}},
		{Name: "forgets sessions", Case: "sessions", Spoil: func(p *certificationtest.Process) {
			o, revoke := p.Harness.Observer.(*listTarget), p.Revoke
			p.Revoke = func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
				var open map[*listSession]bool
				o.locked(func() { open = maps.Clone(o.sessions) })
				res, err := revoke(ctx, req)
				o.locked(func() { o.sessions = open })
				return res, err
			}
		}},
	},
}

// TestPlantedBugs demands that the suite finds each bug in each model room.
func TestPlantedBugs(t *testing.T) {
	t.Parallel()
	for name, model := range models {
		t.Run(name, func(t *testing.T) {
			certificationtest.Sharp(t, func(t *testing.T) *integrationtest.Harness {
				t.Parallel()
				return model.new(t, nil)
			}, ownBugs[name]...)
		})
	}
}

// TestEveryCaseIsNeeded demands a bug for each case that no other case finds. It
// is planted in the first model room that runs the case.
func TestEveryCaseIsNeeded(t *testing.T) {
	t.Parallel()
	rooms, needed := slices.Sorted(maps.Keys(models)), map[string]bool{}
	for _, bug := range certificationtest.Bugs() {
		needed[bug.Case] = true
		t.Run(bug.Case+"/"+bug.Name, func(t *testing.T) {
			t.Parallel()
			c, ok := bug.InSuite()
			if !ok {
				t.Fatal(bug.SlipsThrough())
			}
			i := slices.IndexFunc(rooms, func(name string) bool { return c.Missing(models[name].new(t, nil)) == "" })
			if i < 0 {
				t.Fatalf("no model room runs the case %q", bug.Case)
			}
			found, others := find(t, bug, models[rooms[i]].new)
			switch {
			case !found && len(others) == 0:
				t.Error(bug.SlipsThrough())
			case !found:
				t.Errorf("the case %q does not find this bug, and %q do: %s", bug.Case, others, bug.Name)
			case len(others) > 0:
				t.Errorf("the case %q finds this bug, and so do %q: %s", bug.Case, others, bug.Name)
			}
		})
	}
	for _, c := range integrationtest.Cases() {
		if !needed[c.Name] {
			t.Errorf("no bug needs the case %q", c.Name)
		}
	}
}

// find plants a bug and runs all cases, a few at a time and each in a room of its
// own. It tells whether the bug's own case finds it, and which others do.
func find(t *testing.T, bug certificationtest.Bug, room func(*testing.T, fault) *integrationtest.Harness) (found bool, others []string) {
	cases := integrationtest.Cases()
	failed := make([]bool, len(cases))
	few := make(chan bool, 4)
	var wg sync.WaitGroup
	for n, c := range cases {
		wg.Go(func() {
			few <- true
			defer func() { <-few }()
			times := 3 // what does not come again was a busy machine's
			if c.Name == bug.Case {
				times = 1
			}
			var r integrationtest.Result
			for range times {
				r = integrationtest.Try(t.Context(), c, bug.Plant(room(t, nil)), func(string, ...any) {})
				if r.Status != integrationtest.Failed {
					return
				}
			}
			failed[n] = true
			t.Logf("%s: %s", c.Name, r.Reason)
		})
	}
	wg.Wait()
	for n, c := range cases {
		switch {
		case c.Name == bug.Case:
			found = failed[n]
		case failed[n]:
			others = append(others, c.Name)
		}
	}
	return found, others
}
