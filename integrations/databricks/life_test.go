package databricks_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/certificationtest"
)

// life is one person through their operations.
type life struct{ *certificationtest.Holder }

func (a *account) start(t testing.TB, target integrations.Target) integrations.Integration {
	t.Helper()
	return certificationtest.Start(t, a.kind(), target)
}

func (a *account) live(t testing.TB) *life {
	t.Helper()
	return a.liveOn(a.start(t, a.target()))
}

func (a *account) liveOn(i integrations.Integration) *life {
	return &life{&certificationtest.Holder{Integration: i, Account: a.someone(1), Wrote: map[string]string{}}}
}

// restarted is the same person in a process that knows only what is stored.
func (l *life) restarted(t testing.TB, a *account) {
	t.Helper()
	l.Integration = a.start(t, a.target())
}

// prepare reads what is held, as the core does before the first write.
func (l *life) prepare(ctx context.Context, want ...access.Entitlement) error {
	slots, err := l.Held(ctx, l.Account, want)
	for _, s := range slots {
		open := slices.ContainsFunc(s.Entitlements, func(e access.Entitlement) bool { return slices.Contains(l.Holds, e) })
		if !open {
			l.Baseline = append(l.Baseline, s.HeldAs...)
		}
		if s.Write != "" {
			l.Wrote[s.Key] = s.Write
		}
	}
	return err
}

// grant demands an outcome for each.
func (l *life) grant(t testing.TB, outcome access.Outcome, want ...access.Entitlement) {
	t.Helper()
	if err := l.prepare(t.Context(), want...); err != nil {
		t.Fatalf("reading what is held: %v", err)
	}
	res, err := l.TryGrant(t, want...)
	if err != nil {
		t.Fatalf("granting %v: %v", want, err)
	}
	for _, e := range res.Entries {
		if e.Outcome != outcome {
			t.Errorf("granting: %+v, want %s", e, outcome)
		}
	}
}

func (l *life) revoke(t testing.TB, outcome access.Outcome, end ...access.Entitlement) {
	t.Helper()
	res, err := l.TryRevoke(t, end...)
	if err != nil {
		t.Fatalf("revoking %v: %v", end, err)
	}
	for _, e := range res.Entries {
		if e.Outcome != outcome {
			t.Errorf("revoking: %+v, want %s", e, outcome)
		}
	}
}

// within tells whether a person is in a group now, whatever is shown.
func (a *account) within(g *modelGroup, who access.Account) (in bool) {
	a.locked(func() { in = g.has(a.userOf(who)) })
	return in
}

// join puts somebody into a group by hand, and waits until it shows.
func (a *account) join(g *modelGroup, id string) {
	a.locked(func() {
		m, _ := a.reference(id)
		a.set(g, append(slices.Clone(g.Members), m))
	})
	a.time.pass(a.lag)
}

// quick fails a test that waits in real time.
func quick(t testing.TB, what string, work func()) {
	t.Helper()
	begun := time.Now()
	work()
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("%s took %s", what, took)
	}
}
