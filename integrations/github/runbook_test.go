package github_test

import (
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/github"
)

// TestByHand withdraws an invitation and makes a member of an owner, after both have
// new logins, and leaves other invitations alone.
func TestByHand(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	outsider, u := h.someone("")
	member, boss := h.someone("member")
	other, v := h.someone("")
	h.core(t, other).grant(access.Pending, onSite("write"))
	invited, owns := h.core(t, outsider), h.core(t, member)
	invited.grant(access.Pending, onSite("admin"))
	owns.grant(access.Granted, own)
	owns.grant(access.Granted, entitlement("assigned", "repository_role", "tools", "reader-plus"))
	owns.grant(access.Granted, onTools("admin"))
	h.Locked(func() { u.Login, boss.Login = "outsider-renamed", "boss-renamed" })
	byHand := func(c *core, end ...access.Entitlement) {
		t.Helper()
		last, target := github.Kind().LastResort, h.target()
		target.Secret = nil
		head, err := last.Head(target)
		if err != nil {
			t.Fatal(err)
		}
		steps, err := last.Steps(target, integrations.RevokeRequest{Account: c.Account, End: end, Remain: c.remain(end), Wrote: c.wrote})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := (&observer{h}).RunByHand(t, head, steps); err != nil {
				t.Fatalf("%v\n%s", err, steps)
			}
		}
	}
	byHand(invited, onSite("admin"))
	byHand(owns, own, onTools("admin"))
	if h.invitation(u, "site") != "" || h.invitation(v, "site") == "" {
		t.Errorf("the invitations are %v", h.FindRepository("site").Invitations)
	}
	if boss.Role != "member" {
		t.Errorf("who owned the organization by Lapse is a %s", boss.Role)
	}
	h.level(t, boss, "tools", "reader-plus")
}
