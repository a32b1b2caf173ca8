package databricks_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/databricks"
	"github.com/lapse-access/lapse/internal/certificationtest"
)

// TestByHand runs the steps for the time when Lapse does not run.
func TestByHand(t *testing.T) {
	t.Parallel()
	last := databricks.Kind().LastResort
	steps := func(b *bed, l *life, remain ...access.Claim) string {
		t.Helper()
		target := b.target()
		target.Secret = nil
		text, err := last.Steps(target, integrations.RevokeRequest{Account: l.Account, End: l.Holds, Remain: remain, Wrote: l.Wrote})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	run := func(b *bed, text string) error {
		t.Helper()
		target := b.target()
		target.Secret = nil
		head, err := last.Head(target)
		if err != nil {
			t.Fatal(err)
		}
		return (&observer{b}).RunByHand(t, head, text)
	}
	granted := func() (*bed, *life) {
		b := newBed(t)
		l := b.live(t)
		l.grant(t, access.Granted, in("analysts"), in("engineers"))
		return b, l
	}

	b, l := granted()
	if err := run(b, steps(b, l, access.Claim{Entitlement: in("engineers"), Baseline: true})); err != nil || b.within(b.analysts, l.Account) || !b.within(b.engineers, l.Account) {
		t.Errorf("%v; in the one that ends: %t; in the one that remains: %t", err, b.within(b.analysts, l.Account), b.within(b.engineers, l.Account))
	}
	b, l = granted()
	text := steps(b, l)
	b.locked(func() { b.groups = slices.DeleteFunc(b.groups, func(g *modelGroup) bool { return g == b.analysts }) })
	for _, again := range []string{"", " again"} {
		if err := run(b, text); err != nil || b.within(b.engineers, l.Account) {
			t.Errorf("with a group that is deleted%s: %v; in the other: %t", again, err, b.within(b.engineers, l.Account))
		}
	}
	b, l = granted()
	b.shut = "analysts"
	if err := run(b, steps(b, l)); err == nil || !strings.Contains(err.Error(), "NOT DONE") {
		t.Errorf("where the account refuses it: %v, want an error that says so", err)
	}
	b, l = granted()
	b.behave(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	if err := run(b, steps(b, l)); err == nil {
		t.Error("with a token that does not hold the steps end well")
	}
	if text := steps(b, &life{&certificationtest.Holder{Account: l.Account, Holds: l.Holds}}); text != "" {
		t.Errorf("steps where Lapse wrote nothing: %s", text)
	}
	if _, err := last.Head(integrations.Target{Config: "x"}); access.KindOf(err) != access.Invalid {
		t.Errorf("a configuration of another kind: %v, want invalid", err)
	}
}
