package rediscloud_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/certificationtest"
)

// life is one person through several operations.
type life struct {
	*certificationtest.Holder
	*cloud
	// asked is called before an operation is asked for again.
	asked func(kind access.ErrorKind)
}

func (c *cloud) start(t testing.TB, target integrations.Target) integrations.Integration {
	t.Helper()
	return certificationtest.Start(t, c.kind(), target)
}

func (c *cloud) live(t testing.TB) *life {
	t.Helper()
	return &life{Holder: certificationtest.At(t, c.kind(), c.target()), cloud: c, asked: func(access.ErrorKind) {}}
}

// grant demands that all is there.
func (l *life) grant(t testing.TB, want ...access.Entitlement) integrations.GrantResult {
	t.Helper()
	res := l.Grant(t, want...)
	for _, e := range res.Entries {
		if e.Outcome != access.Granted {
			t.Fatalf("granting %v: %+v", want, e)
		}
	}
	return res
}

// insist repeats an operation as Lapse does: at once where the target did not
// answer, after the delay that it asks for, and not at all where time heals
// nothing.
func insist[R any](t testing.TB, l *life, what string, operation func() (R, error)) R {
	t.Helper()
	for range 100 {
		res, err := operation()
		if err == nil {
			return res
		}
		kind := access.KindOf(err)
		l.asked(kind)
		if kind != access.Retry && kind != access.Conflict && kind != access.RateLimited {
			t.Fatalf("%s: %v (%s)", what, err, kind)
		}
		if e, ok := errors.AsType[*access.Error](err); ok {
			l.time.sleep(t.Context(), e.After)
		}
		l.time.sleep(t.Context(), 1e9)
	}
	t.Fatalf("%s: a hundred times in vain", what)
	panic("not reached")
}

// settle waits as activities.settle does: it asks Verify once a second.
func (l *life) settle(t testing.TB, entries []access.Entry) ([]access.Entry, int) {
	t.Helper()
	for seconds := 0; ; seconds++ {
		if !slices.ContainsFunc(entries, func(e access.Entry) bool { return e.Outcome == access.Propagating }) {
			return entries, seconds
		}
		if seconds > 1000 {
			t.Fatal("it propagates for ever")
		}
		l.time.sleep(t.Context(), 1e9)
		var want []access.Entitlement
		for _, e := range entries {
			want = append(want, e.Entitlement)
		}
		var err error
		if entries, err = l.Verify(t.Context(), l.Account, want); err != nil {
			t.Fatal(err)
		}
	}
}

// shown is the role of an account, as rules by databases.
func (l *life) shown(c *cloud) (rules map[string]string) {
	c.locked(func() {
		n := slices.IndexFunc(c.users, func(u *modelUser) bool { return u.Name == l.Account.Name })
		if n < 0 {
			return
		}
		rules = map[string]string{}
		role := c.role(c.users[n].Role)
		for _, a := range role.rules {
			for _, spec := range a.Databases {
				s, d := c.find(spec.SubscriptionID, spec.DatabaseID)
				if d == nil {
					rules["deleted"] = a.RuleName
					continue
				}
				rules[s.name+"/"+d.name] = a.RuleName
			}
		}
	})
	return rules
}
