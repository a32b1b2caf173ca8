package grafana_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/grafana"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/internal/certificationtest"
)

// TestSharp plants the bugs that any kind can have, and those of Grafana's own,
// which the suite must find.
func TestSharp(t *testing.T) {
	t.Parallel()
	certificationtest.Sharp(t, func(t *testing.T) *integrationtest.Harness { return newBed(t, enterprise).harness(onMetrics) }, ownBugs()...)
}

func ownBugs() []certificationtest.Bug {
	return []certificationtest.Bug{
		{Name: "takes what a team gives for the person's own", Case: "inherited", Spoil: func(p *certificationtest.Process) {
			held := p.Held
			p.Held = func(ctx context.Context, a access.Account, want []access.Entitlement) ([]access.Slot, error) {
				slots, err := held(ctx, a, want)
				for n := range slots {
					slots[n].Write = ""
				}
				return slots, err
			}
			grant := p.Grant
			p.Grant = func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				res, err := grant(ctx, req)
				maps.DeleteFunc(res.Wrote, func(key string, _ string) bool { return strings.HasPrefix(key, "data_source:") })
				return res, err
			}
		}},
		{Name: "takes somebody who cannot be told from another for nobody", Case: "unknown-people", Spoil: func(p *certificationtest.Process) {
			grant := p.Grant
			p.Grant = func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				res, err := grant(ctx, req)
				if access.KindOf(err) == access.PersonMissing {
					err = access.Errorf(access.Invalid, "nobody")
				}
				return res, err
			}
		}},
		{Name: "forgets the role of an Admin", Case: "exactly", Spoil: func(p *certificationtest.Process) {
			revoke := p.Revoke
			p.Revoke = func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
				if slices.Contains(req.End, roles[2]) {
					res := integrations.RevokeResult{}
					for _, e := range req.End {
						res.Entries = append(res.Entries, access.Entry{Entitlement: e, Outcome: access.Gone})
					}
					return res, nil
				}
				return revoke(ctx, req)
			}
		}},
	}
}

// TestLevelsOfEveryType runs the cases about levels on each type that has three
// of them, as the certification does on one.
func TestLevelsOfEveryType(t *testing.T) {
	t.Parallel()
	b := newBed(t, enterprise)
	for _, levels := range [][]access.Entitlement{onMetrics, onOps, onOverview, roles} {
		for _, c := range integrationtest.Cases() {
			if !slices.Contains(c.Needs, integrationtest.Levels) && !slices.Contains(c.Needs, integrationtest.Inheritance) && c.Name != "last-resort" {
				continue
			}
			// Nobody inherits a role in the organization.
			if c.Name == "inherited" && levels[0] == roles[0] {
				continue
			}
			t.Run(levels[0].Resource.Type+"/"+c.Name, func(t *testing.T) { c.Run(t, b.harness(levels)) })
		}
	}
}

// TestByHand writes down what takes everything away, on each type.
func TestByHand(t *testing.T) {
	t.Parallel()
	b := newBed(t, enterprise)
	l := b.live(t, "Viewer")
	dba := b.inTeam("dba")
	l.grant(t, onMetrics[2], onOps[1], onOverview[0], dba[1], roles[1])
	l.grant(t, onOps[0], dba[0])
	(&observer{b}).SetLevel(nil, l.account, onSales[0].Resource, "view") // not Lapse's
	l.prepare(t, onSales[0])

	byHand := func(end ...access.Entitlement) {
		t.Helper()
		head, err := grafana.Kind().LastResort.Head(integrations.Target{Config: b.target().Config})
		if err != nil {
			t.Fatal(err)
		}
		steps, err := grafana.Kind().LastResort.Steps(b.target(), integrations.RevokeRequest{Account: l.account, End: end, Remain: l.remain(end), Wrote: l.wrote})
		if err != nil {
			t.Fatal(err)
		}
		if err := (&observer{b}).RunByHand(t, head, steps); err != nil {
			t.Fatal(err)
		}
		if lines := strings.Split(steps, "\n"); len(lines) != len(slices.Compact(slices.Sorted(slices.Values(lines)))) {
			t.Errorf("a step stands there twice:\n%s", steps)
		}
	}
	byHand(onMetrics[2], onOps[1], onOverview[0], dba[1], roles[1], onSales[0])
	for r, want := range map[access.Resource]string{
		onMetrics[0].Resource: "", onOps[0].Resource: "view", onOverview[0].Resource: "", dba[0].Resource: "member", roles[0].Resource: "viewer", onSales[0].Resource: "view",
	} {
		l.has(t, r, want)
	}
	byHand(slices.Clone(l.held)...)
	l.has(t, onOps[0].Resource, "")
	l.has(t, dba[0].Resource, "")
	l.has(t, roles[0].Resource, "viewer")
	l.has(t, onSales[0].Resource, "view")

	// What Lapse did not write is nobody's to take away.
	other := b.live(t, "Viewer")
	(&observer{b}).Inherit(t, other.account, onSales[1])
	other.grant(t, onSales[1])
	(&observer{b}).SetLevel(nil, other.account, onSales[1].Resource, "edit")
	l = other
	byHand(onSales[1])
	l.has(t, onSales[1].Resource, "edit")

	if _, err := grafana.Kind().LastResort.Steps(b.target(), integrations.RevokeRequest{End: onOps[:1]}); access.KindOf(err) != access.PersonMissing {
		t.Errorf("steps for somebody without an id: %v", err)
	}
}
