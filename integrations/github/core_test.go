package github_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/github"
	"github.com/lapse-access/lapse/integrations/github/githubtest"
	"github.com/lapse-access/lapse/internal/certificationtest"
)

// core asks an integration as the core of Lapse does, for one person.
type core struct {
	testing.TB
	integrations.Integration
	Account  access.Account
	held     []access.Entitlement
	baseline []access.Entitlement
	wrote    map[string]string
}

func start(t testing.TB, target integrations.Target) integrations.Integration {
	t.Helper()
	return certificationtest.Start(t, github.Kind(), target)
}

func (h *hub) core(t testing.TB, a access.Account, change ...func(*github.Config, *github.Secret)) *core {
	return &core{TB: t, Integration: start(t, h.target(change...)), Account: a, wrote: map[string]string{}}
}

// restarted is another process of the same connector.
func (c *core) restarted(h *hub) { c.Integration = start(c.TB, h.target()) }

func (c *core) remain(but []access.Entitlement) (claims []access.Claim) {
	for _, e := range c.held {
		if !slices.Contains(but, e) {
			claims = append(claims, access.Claim{Entitlement: e})
		}
	}
	for _, e := range c.baseline {
		claims = append(claims, access.Claim{Entitlement: e, Baseline: true})
	}
	return claims
}

// open reads the baseline and opens the holds. Every entitlement of a test lives
// in the same slot, or has no baseline.
func (c *core) open(want ...access.Entitlement) error {
	slots, err := c.Held(c.Context(), c.Account, want)
	if err != nil {
		return err
	}
	for _, s := range slots {
		if len(c.held) == 0 {
			c.baseline = append(c.baseline, s.HeldAs...)
		}
		if s.Write != "" {
			c.wrote[s.Key] = s.Write
		}
	}
	for _, e := range want {
		if !slices.Contains(c.held, e) {
			c.held = append(c.held, e)
		}
	}
	return nil
}

// tryGrant grants what is open.
func (c *core) tryGrant(want ...access.Entitlement) (integrations.GrantResult, error) {
	res, err := c.Grant(c.Context(), integrations.GrantRequest{Account: c.Account, Want: want, Remain: c.remain(want), Wrote: maps.Clone(c.wrote)})
	if err == nil {
		c.Account.Name, c.wrote = res.AccountName, res.Wrote
	}
	return res, err
}

func (c *core) grant(outcome access.Outcome, want ...access.Entitlement) []access.Entry {
	c.Helper()
	err := c.open(want...)
	var res integrations.GrantResult
	if err == nil {
		res, err = c.tryGrant(want...)
	}
	if err != nil {
		c.Fatalf("granting %v: %v", want, err)
	}
	for _, e := range res.Entries {
		if e.Outcome != outcome {
			c.Errorf("granting %s: %s %v, want %s", e.Entitlement, e.Outcome, e.Facts, outcome)
		}
	}
	return res.Entries
}

// fails demands that a grant is refused.
func (c *core) fails(kind access.ErrorKind, want ...access.Entitlement) error {
	c.Helper()
	before := slices.Clone(c.held)
	err := c.open(want...)
	if err == nil {
		_, err = c.tryGrant(want...)
	}
	c.held = before
	if access.KindOf(err) != kind {
		c.Errorf("granting %v: %v (%s), want %s", want, err, access.KindOf(err), kind)
	}
	return err
}

func (c *core) tryRevoke(end ...access.Entitlement) (integrations.RevokeResult, error) {
	res, err := c.Revoke(c.Context(), integrations.RevokeRequest{Account: c.Account, End: end, Remain: c.remain(end), Wrote: maps.Clone(c.wrote)})
	if err == nil {
		c.held = slices.DeleteFunc(c.held, func(e access.Entitlement) bool { return slices.Contains(end, e) })
		c.wrote = res.Wrote
	}
	return res, err
}

func (c *core) revoke(outcome access.Outcome, end ...access.Entitlement) integrations.RevokeResult {
	c.Helper()
	res, err := c.tryRevoke(end...)
	if err != nil {
		c.Fatalf("revoking %v: %v", end, err)
	}
	for _, e := range res.Entries {
		if e.Outcome != outcome {
			c.Errorf("revoking %s: %s %v, want %s", e.Entitlement, e.Outcome, e.Facts, outcome)
		}
	}
	return res
}

func (c *core) verify(outcome access.Outcome, want ...access.Entitlement) {
	c.Helper()
	entries, err := c.Verify(c.Context(), c.Account, want)
	if err != nil {
		c.Fatalf("verifying %v: %v", want, err)
	}
	for _, e := range entries {
		if e.Outcome != outcome {
			c.Errorf("verifying %s: %s %v, want %s", e.Entitlement, e.Outcome, e.Facts, outcome)
		}
	}
}

// changed demands the changes that were asked of the model since the last look.
func (h *hub) changed(t testing.TB, want ...string) {
	t.Helper()
	var got []string
	h.Locked(func() { got, h.Log = h.Log, nil })
	if !slices.Equal(got, want) {
		t.Errorf("the changes were\n%q, want\n%q", got, want)
	}
}

// level demands somebody's own level on a repository.
func (h *hub) level(t testing.TB, u *githubtest.User, repository, want string) {
	t.Helper()
	h.Locked(func() {
		if got := h.FindRepository(repository).Direct[u.ID]; got != want {
			t.Errorf("the level of %s on %s is %q, want %q", u.Login, repository, got, want)
		}
	})
}

// hand sets somebody's level, as an administrator does.
func (h *hub) hand(u *githubtest.User, repository, level string) {
	h.Locked(func() { h.FindRepository(repository).Direct[u.ID] = level })
}
