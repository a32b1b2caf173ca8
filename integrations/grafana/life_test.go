package grafana_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/grafana"
	"github.com/lapse-access/lapse/internal/certificationtest"
)

// life is one person through several operations, as the core asks for them: what
// was held before is read ahead of the first write, and kept.
type life struct {
	integrations.Integration
	*bed
	account  access.Account
	held     []access.Entitlement
	baseline map[string][]access.Entitlement // by slot
	wrote    map[string]string
}

func (b *bed) start(t testing.TB, target integrations.Target) integrations.Integration {
	t.Helper()
	return certificationtest.Start(t, grafana.Kind(), target)
}

// live is somebody new with a role in the organization.
func (b *bed) live(t testing.TB, role string) *life {
	t.Helper()
	l := &life{Integration: b.start(t, b.target()), bed: b, account: b.someone(), baseline: map[string][]access.Entitlement{}, wrote: map[string]string{}}
	b.locked(func() { b.person(l.account).Role = role })
	return l
}

// userID is the person's in Grafana.
func (l *life) userID() (id int64) {
	l.locked(func() { id = l.person(l.account).UserID })
	return id
}

func (l *life) remain(but []access.Entitlement) (claims []access.Claim) {
	for _, e := range l.held {
		if !slices.Contains(but, e) {
			claims = append(claims, access.Claim{Entitlement: e})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(l.baseline)) {
		for _, e := range l.baseline[key] {
			claims = append(claims, access.Claim{Entitlement: e, Baseline: true})
		}
	}
	return claims
}

// prepare reads the baseline.
func (l *life) prepare(t testing.TB, want ...access.Entitlement) []access.Slot {
	t.Helper()
	slots, err := l.Held(t.Context(), l.account, want)
	if err != nil {
		t.Fatalf("reading what is held: %v", err)
	}
	for _, s := range slots {
		if _, open := l.baseline[s.Key]; !open {
			l.baseline[s.Key] = s.HeldAs
		}
		if s.Write != "" {
			l.wrote[s.Key] = s.Write
		}
	}
	l.held = append(l.held, want...)
	return slots
}

func (l *life) tryGrant(t testing.TB, want ...access.Entitlement) (integrations.GrantResult, error) {
	t.Helper()
	res, err := l.Grant(t.Context(), integrations.GrantRequest{Account: l.account, Want: want, Remain: l.remain(want), Wrote: maps.Clone(l.wrote)})
	if err == nil {
		l.account.Name, l.wrote = res.AccountName, res.Wrote
	}
	return res, err
}

func (l *life) grant(t testing.TB, want ...access.Entitlement) integrations.GrantResult {
	t.Helper()
	l.prepare(t, want...)
	res, err := l.tryGrant(t, want...)
	if err != nil {
		t.Fatalf("granting %v: %v", want, err)
	}
	return res
}

func (l *life) tryRevoke(t testing.TB, end ...access.Entitlement) (integrations.RevokeResult, error) {
	t.Helper()
	return l.Revoke(t.Context(), integrations.RevokeRequest{Account: l.account, End: end, Remain: l.remain(end), Wrote: maps.Clone(l.wrote)})
}

func (l *life) revoke(t testing.TB, end ...access.Entitlement) integrations.RevokeResult {
	t.Helper()
	res, err := l.tryRevoke(t, end...)
	if err != nil {
		t.Fatalf("revoking %v: %v", end, err)
	}
	l.held = slices.DeleteFunc(l.held, func(e access.Entitlement) bool { return slices.Contains(end, e) })
	l.wrote = res.Wrote
	return res
}

// has demands the person's own level.
func (l *life) has(t testing.TB, r access.Resource, want string) {
	t.Helper()
	if got := (&observer{l.bed}).Level(nil, l.account, r); got != want {
		t.Errorf("the level on %s is %q, want %q", r, got, want)
	}
}

// asked are the changes since the last look, with their bodies.
func (l *life) asked(t testing.TB, want ...string) {
	t.Helper()
	var got []string
	l.locked(func() {
		for n, c := range l.changes {
			if n < len(l.bodies) && c[:6] != "DELETE" {
				c += " " + l.bodies[n]
			}
			got = append(got, c)
		}
		l.changes, l.bodies = nil, nil
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what Grafana was asked to change (-want +got):\n%s", diff)
	}
}

// forget drops what was noted.
func (b *bed) forget() { b.locked(func() { b.requests, b.changes, b.bodies = nil, nil, nil }) }

// kindOf demands a kind of error.
func kindOf(t testing.TB, what string, err error, want access.ErrorKind) {
	t.Helper()
	if access.KindOf(err) != want {
		t.Errorf("%s: %v (%s), want %s", what, err, access.KindOf(err), want)
	}
}
