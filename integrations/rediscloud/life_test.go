package rediscloud_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

// life is one account through its operations, as the core asks for them.
type life struct {
	integrations.Integration
	*cloud
	account  access.Account
	held     []access.Entitlement
	sequence int64
	// asked is called before an operation is asked for again.
	asked func(kind access.ErrorKind)
}

func (c *cloud) start(t testing.TB, target integrations.Target) integrations.Integration {
	t.Helper()
	i, err := c.kind().New(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Close() })
	return i
}

func (c *cloud) live(t testing.TB) *life {
	return &life{Integration: c.start(t, c.target()), cloud: c, account: someone(), asked: func(access.ErrorKind) {}}
}

func claims(all []access.Entitlement) (claims []access.Claim) {
	for _, e := range all {
		claims = append(claims, access.Claim{Entitlement: e})
	}
	return claims
}

func (l *life) tryGrant(ctx context.Context, want ...access.Entitlement) (integrations.GrantResult, error) {
	l.sequence++
	return l.Grant(ctx, integrations.GrantRequest{Account: l.account, Want: want, Remain: claims(l.held), Sequence: l.sequence})
}

// granted takes what a grant made.
func (l *life) granted(res integrations.GrantResult, want []access.Entitlement) {
	l.account.Name, l.held = res.AccountName, append(l.held, want...)
}

func (l *life) grant(t testing.TB, want ...access.Entitlement) integrations.GrantResult {
	t.Helper()
	res, err := l.tryGrant(t.Context(), want...)
	if err != nil {
		t.Fatalf("granting %v: %v", want, err)
	}
	for _, e := range res.Entries {
		if e.Outcome != access.Granted {
			t.Fatalf("granting %v: %+v", want, e)
		}
	}
	l.granted(res, want)
	return res
}

func (l *life) tryRevoke(ctx context.Context, end ...access.Entitlement) (integrations.RevokeResult, error) {
	l.sequence++
	rest := slices.DeleteFunc(slices.Clone(l.held), func(e access.Entitlement) bool { return slices.Contains(end, e) })
	return l.Revoke(ctx, integrations.RevokeRequest{Account: l.account, End: end, Remain: claims(rest), Sequence: l.sequence})
}

func (l *life) ended(end []access.Entitlement) {
	l.held = slices.DeleteFunc(l.held, func(e access.Entitlement) bool { return slices.Contains(end, e) })
}

func (l *life) revoke(t testing.TB, end ...access.Entitlement) integrations.RevokeResult {
	t.Helper()
	res, err := l.tryRevoke(t.Context(), end...)
	if err != nil {
		t.Fatalf("revoking %v: %v", end, err)
	}
	l.ended(end)
	return res
}

func (l *life) tryCredential(ctx context.Context) (integrations.Credential, error) {
	l.sequence++
	return l.Integration.(integrations.CredentialSetter).SetCredential(ctx, integrations.CredentialRequest{Account: l.account, Sequence: l.sequence})
}

func (l *life) credential(t testing.TB) integrations.Credential {
	t.Helper()
	c, err := l.tryCredential(t.Context())
	if err != nil {
		t.Fatalf("making a credential: %v", err)
	}
	return c
}

// insist repeats an operation as Lapse does: at once where the target did not
// answer, after the delay that it asks for, and not at all where time heals
// nothing.
func insist[R any](t testing.TB, l *life, what string, operation func(ctx context.Context) (R, error)) R {
	t.Helper()
	for range 100 {
		res, err := operation(t.Context())
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
		if entries, err = l.Verify(t.Context(), l.account, want); err != nil {
			t.Fatal(err)
		}
	}
}

// shown is the role of an account, as rules by databases.
func (l *life) shown(c *cloud) (rules map[string]string) {
	c.locked(func() {
		n := slices.IndexFunc(c.users, func(u *modelUser) bool { return u.Name == l.account.Name })
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
