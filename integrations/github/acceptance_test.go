package github_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations/github"
	"github.com/lapse-access/lapse/integrations/github/githubtest"
)

// TestOneRequestEach grants and takes back with one change each.
func TestOneRequestEach(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	a, u := h.someone("member")
	c := h.core(t, a)
	c.grant(access.Granted, onSite("write"))
	h.changed(t, "PUT /repos/acme/site/collaborators/"+u.Login+` {"permission":"push"}`)
	granting := h.Reads
	c.revoke(access.Gone, onSite("write"))
	h.changed(t, "DELETE /repos/acme/site/collaborators/"+u.Login)
	revoking := h.Reads - granting
	c.revoke(access.WasGone, onSite("write"))
	h.changed(t)
	// 5,000 an hour are for all that Lapse does in the organization.
	if t.Logf("%d readings for the grant, %d for the revoke", granting, revoking); granting > 12 || revoking > 6 {
		t.Errorf("%d readings for the grant, %d for the revoke", granting, revoking)
	}
}

// TestBackToTriage: who has triage, gets maintain and loses it again ends at
// triage, also when the answer to the first write is lost, and by a PUT: a DELETE
// would cost forks and assignments.
func TestBackToTriage(t *testing.T) {
	t.Parallel()
	for _, lost := range []bool{false, true} {
		h := newBed(t)
		a, u := h.someone("member")
		h.hand(u, "site", "triage")
		c := h.core(t, a)
		if err := c.open(onSite("maintain")); err != nil {
			t.Fatal(err)
		}
		if lost {
			h.Locked(func() { h.Lost = func(r *http.Request) bool { return r.Method == http.MethodPut } })
			if _, err := c.tryGrant(onSite("maintain")); access.KindOf(err) != access.Retry {
				t.Fatalf("a lost answer: %v, want retry", err)
			}
			h.level(t, u, "site", "maintain")
			h.Locked(func() { h.Lost = nil })
			c.restarted(h)
		}
		// Lapse signs another ticket, and reads the slot again.
		c.grant(access.Granted, onSite("maintain"))
		h.level(t, u, "site", "maintain")
		h.changed(t, "PUT /repos/acme/site/collaborators/"+u.Login+` {"permission":"maintain"}`)
		c.revoke(access.Lowered, onSite("maintain"))
		h.level(t, u, "site", "triage")
		h.changed(t, "PUT /repos/acme/site/collaborators/"+u.Login+` {"permission":"triage"}`)
	}
}

// TestOverlaps ends two levels of one person in both orders.
func TestOverlaps(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	for _, strongFirst := range []bool{true, false} {
		a, u := h.someone("member")
		h.hand(u, "site", "read")
		c := h.core(t, a)
		c.grant(access.Granted, onSite("write"))
		c.grant(access.Granted, onSite("admin"))
		if strongFirst {
			c.revoke(access.Lowered, onSite("admin"))
			h.level(t, u, "site", "write")
			c.revoke(access.Lowered, onSite("write"))
		} else {
			c.revoke(access.Lowered, onSite("write"))
			h.level(t, u, "site", "admin")
			c.revoke(access.Lowered, onSite("admin"))
		}
		h.level(t, u, "site", "read")
	}
}

// TestByATeam writes nothing where a team gives the level already.
func TestByATeam(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	a, u := h.someone("member")
	h.Locked(func() {
		h.FindTeam("web").Members[u.ID] = "member"
		h.FindRepository("site").Teams["web"] = "write"
	})
	c := h.core(t, a)
	if entries := c.grant(access.AlreadyHeld, onSite("read")); !strings.Contains(strings.Join(entries[0].Facts, ""), "by team web") {
		t.Errorf("the evidence does not name the team: %q", entries[0].Facts)
	}
	c.revoke(access.Lowered, onSite("read"))
	// A hold below what the team gives is not written again when one above it ends.
	c.grant(access.AlreadyHeld, onSite("read"))
	c.grant(access.Granted, onSite("admin"))
	c.revoke(access.Lowered, onSite("admin"))
	h.level(t, u, "site", "")
	h.changed(t, "PUT /repos/acme/site/collaborators/"+u.Login+` {"permission":"admin"}`, "DELETE /repos/acme/site/collaborators/"+u.Login)
}

// TestOverlapsOfTypes: what a hold on a team, a role or the organization gives on a
// repository ends with it, so that a hold on the repository is written all the same.
func TestOverlapsOfTypes(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	h.Locked(func() {
		h.FindRepository("site").Teams["web"] = "maintain"
		h.FindTeam("web").Parent = h.FindTeam("ops")
	})
	inTeam := entitlement("member", "team", "web")
	for _, first := range []access.Entitlement{inTeam, own} {
		for _, together := range []bool{false, true} {
			a, u := h.someone("member")
			c := h.core(t, a)
			if together {
				c.grant(access.Granted, first, onSite("write"))
			} else {
				c.grant(access.Granted, first)
				c.grant(access.Granted, onSite("write"))
			}
			h.level(t, u, "site", "write")
			c.grant(access.Granted, onSite("admin"))
			c.revoke(access.Lowered, onSite("admin"))
			h.level(t, u, "site", "write")
			c.revoke(access.Gone, first)
			c.verify(access.Granted, onSite("write"))
			c.revoke(access.Gone, onSite("write"))
			h.level(t, u, "site", "")
		}
	}
	// A member of a child team, by a hold, is a member of the parent by its own hold.
	a, u := h.someone("member")
	c := h.core(t, a)
	c.grant(access.Granted, inTeam)
	c.grant(access.Granted, entitlement("member", "team", "ops"))
	c.revoke(access.Gone, inTeam)
	c.verify(access.Granted, entitlement("member", "team", "ops"))
	c.revoke(access.Gone, entitlement("member", "team", "ops"))

	// With a base permission GitHub takes no lower level, and none is needed.
	h.Locked(func() { h.Base, h.Log = "write", nil })
	c.grant(access.Granted, inTeam)
	c.grant(access.AlreadyHeld, onSite("read"))
	c.revoke(access.Gone, inTeam)
	c.revoke(access.Lowered, onSite("read"))
	h.level(t, u, "site", "")
}

// TestInvitation is accepted, withdrawn, raised and lowered, and expires.
func TestInvitation(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	o := &observer{h}
	const invitations = " /repos/acme/site/invitations/"
	t.Run("accepted", func(t *testing.T) {
		a, u := h.someone("")
		c := h.core(t, a)
		e := c.grant(access.Pending, onSite("write"))[0]
		if e.Link != "https://github.com/acme/site/invitations" || time.Until(e.Until) < 6*24*time.Hour || !strings.Contains(e.Awaits, u.Login) {
			t.Errorf("%+v; want the link, the end and whom it is for", e)
		}
		c.verify(access.Pending, onSite("write"))
		o.Accept(t, a, e)
		c.verify(access.Granted, onSite("write"))
		c.revoke(access.Gone, onSite("write"))
		h.level(t, u, "site", "")
		h.changed(t, "PUT /repos/acme/site/collaborators/"+u.Login+` {"permission":"push"}`, "DELETE /repos/acme/site/collaborators/"+u.Login)
	})
	t.Run("withdrawn", func(t *testing.T) {
		a, u := h.someone("")
		c := h.core(t, a)
		c.grant(access.Pending, onSite("write"))
		id := h.invitation(u, "site")
		c.revoke(access.Gone, onSite("write"))
		h.changed(t, "PUT /repos/acme/site/collaborators/"+u.Login+` {"permission":"push"}`, "DELETE"+invitations+id)
		c.verify(access.Gone, onSite("write"))
	})
	t.Run("raised and lowered", func(t *testing.T) {
		a, u := h.someone("")
		c := h.core(t, a)
		c.grant(access.Pending, onSite("triage"))
		id := h.invitation(u, "site")
		c.grant(access.Pending, onSite("write"))
		c.revoke(access.Lowered, onSite("write"))
		h.changed(t, "PUT /repos/acme/site/collaborators/"+u.Login+` {"permission":"triage"}`,
			"PATCH"+invitations+id+` {"permissions":"write"}`, "PATCH"+invitations+id+` {"permissions":"triage"}`)
		c.revoke(access.Gone, onSite("triage"))
		h.changed(t, "DELETE"+invitations+id)
	})
	t.Run("expired", func(t *testing.T) {
		a, u := h.someone("")
		c := h.core(t, a)
		c.grant(access.Pending, onSite("write"))
		id := h.invitation(u, "site")
		h.Locked(func() { h.FindRepository("site").Invitations[0].Created = time.Now().Add(-8 * 24 * time.Hour) })
		c.verify(access.Gone, onSite("write"))
		c.grant(access.Pending, onSite("write"))
		h.changed(t, "PUT /repos/acme/site/collaborators/"+u.Login+` {"permission":"push"}`, "DELETE"+invitations+id,
			"PUT /repos/acme/site/collaborators/"+u.Login+` {"permission":"push"}`)
		c.revoke(access.Gone, onSite("write"))
		h.Locked(func() { h.Log = nil })
	})
	t.Run("accepted in the moment of the revoke", func(t *testing.T) {
		a, u := h.someone("")
		c := h.core(t, a)
		e := c.grant(access.Pending, onSite("write"))[0]
		accepted := false
		h.Locked(func() {
			h.Ignores = func(r *http.Request, _ []byte) bool {
				if r.Method == http.MethodDelete && !accepted {
					accepted = true
					h.Accept(u, e.Link)
				}
				return false
			}
		})
		c.revoke(access.Gone, onSite("write"))
		h.Locked(func() { h.Ignores, h.Log = nil, nil })
		h.level(t, u, "site", "")
	})
	t.Run("of somebody else's making", func(t *testing.T) {
		a, u := h.someone("")
		h.Locked(func() {
			r := h.FindRepository("site")
			r.Invitations = append(r.Invitations, &githubtest.Invitation{ID: h.NewID(), User: u, Level: "read", Created: time.Now()})
		})
		id := h.invitation(u, "site")
		c := h.core(t, a)
		c.grant(access.Pending, onSite("write"))
		c.revoke(access.Lowered, onSite("write"))
		h.changed(t, "PATCH"+invitations+id+` {"permissions":"write"}`, "PATCH"+invitations+id+` {"permissions":"read"}`)
	})
	t.Run("not allowed", func(t *testing.T) {
		a, _ := h.someone("")
		forbidden := func(c *github.Config, _ *github.Secret) { c.AllowOutside = false }
		h.core(t, a, forbidden).fails(access.PersonMissing, onSite("read"))
		c := h.core(t, a)
		for _, e := range []access.Entitlement{entitlement("member", "team", "web"), entitlement("assigned", "organization_role", "auditors"), entitlement("owner", "organization", "acme")} {
			c.fails(access.PersonMissing, e)
		}
		c.fails(access.Unsupported, entitlement("assigned", "repository_role", "site", "labeler"))
		h.changed(t)
	})
}

// invitation is the number of somebody's.
func (h *hub) invitation(u *githubtest.User, repository string) (id string) {
	h.Locked(func() {
		for _, in := range h.FindRepository(repository).Invitations {
			if in.User == u {
				id = number(in.ID)
			}
		}
	})
	return id
}

// TestRaisedByHand leaves a level that somebody gave meanwhile, and reports it.
func TestRaisedByHand(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	a, u := h.someone("member")
	c := h.core(t, a)
	c.grant(access.Granted, onSite("write"))
	h.hand(u, "site", "admin")
	res := c.revoke(access.Lowered, onSite("write"))
	h.level(t, u, "site", "admin")
	if len(res.Notes) != 1 || !strings.Contains(res.Notes[0], "admin") {
		t.Errorf("the notes are %q, want one about admin", res.Notes)
	}
	h.changed(t, "PUT /repos/acme/site/collaborators/"+u.Login+` {"permission":"push"}`)

	// What was raised to a level that Lapse gave before, and took back, is not Lapse's.
	c.Account, u = h.someone("member")
	c.grant(access.Granted, onSite("write"))
	c.grant(access.Granted, onSite("admin"))
	c.revoke(access.Lowered, onSite("admin"))
	h.hand(u, "site", "admin")
	if res := c.revoke(access.Lowered, onSite("write")); len(res.Notes) != 1 {
		t.Errorf("the notes are %q, want one about admin", res.Notes)
	}
	h.level(t, u, "site", "admin")
}

// TestCustomRoles: of two roles none of which covers the other one is held; a role
// is compared by its base role and its permissions.
func TestCustomRoles(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	plus, labeler := entitlement("assigned", "repository_role", "site", "reader-plus"), entitlement("assigned", "repository_role", "site", "labeler")
	a, u := h.someone("member")
	c := h.core(t, a)
	c.grant(access.Granted, plus)
	c.fails(access.Invalid, labeler)
	c.fails(access.Invalid, onSite("triage"))
	h.level(t, u, "site", "reader-plus")
	c.grant(access.Granted, onSite("read"))
	c.grant(access.Granted, onSite("admin"))
	// While admin covers both, the two cannot be held either: admin may end first.
	c.fails(access.Invalid, labeler)
	c.revoke(access.Lowered, onSite("admin"))
	h.level(t, u, "site", "reader-plus")
	c.revoke(access.Lowered, plus)
	h.level(t, u, "site", "read")
	c.revoke(access.Gone, onSite("read"))
	h.level(t, u, "site", "")
	h.changed(t, "PUT /repos/acme/site/collaborators/"+u.Login+` {"permission":"reader-plus"}`, "PUT /repos/acme/site/collaborators/"+u.Login+` {"permission":"admin"}`,
		"PUT /repos/acme/site/collaborators/"+u.Login+` {"permission":"reader-plus"}`, "PUT /repos/acme/site/collaborators/"+u.Login+` {"permission":"pull"}`,
		"DELETE /repos/acme/site/collaborators/"+u.Login)
	// The baseline may be a custom role too.
	h.hand(u, "site", "labeler")
	c.grant(access.AlreadyHeld, onSite("triage"))
	c.grant(access.Granted, onSite("admin"))
	c.revoke(access.Lowered, onSite("admin"))
	h.level(t, u, "site", "labeler")
	c.revoke(access.Lowered, onSite("triage"))
	h.level(t, u, "site", "labeler")
}

var own = entitlement("owner", "organization", "acme")

// TestOwner makes an owner of a member and a member of an owner, and never removes
// a membership.
func TestOwner(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	a, u := h.someone("member")
	c := h.core(t, a)
	c.grant(access.Granted, own)
	c.revoke(access.Gone, own)
	h.changed(t, "PUT /orgs/acme/memberships/"+u.Login+` {"role":"admin"}`, "PUT /orgs/acme/memberships/"+u.Login+` {"role":"member"}`)

	a, u = h.someone("admin")
	c = h.core(t, a)
	c.grant(access.AlreadyHeld, own)
	c.revoke(access.Lowered, own)
	h.changed(t)
	if u.Role != "admin" {
		t.Errorf("somebody who owned the organization before is a %s", u.Role)
	}
}

// TestLastOwner never demotes the last owner, nor the owner of the connector's
// token, and does not even ask for it.
func TestLastOwner(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	a, u := h.someone("member")
	// An App is nobody: the person is the only owner that is left.
	key := h.becomeApp(t)
	c := h.core(t, a, key)
	c.grant(access.Granted, own)
	h.Locked(func() {
		for _, other := range h.Users {
			if other != u && other.Role == "admin" {
				other.Role = "member"
			}
		}
		h.Log = nil
	})
	res := c.revoke(access.Blocked, own)
	if u.Role != "admin" || !strings.Contains(strings.Join(res.Entries[0].Facts, ""), "last owner") {
		t.Errorf("the last owner is a %s, %q", u.Role, res.Entries[0].Facts)
	}
	h.changed(t)
	h.Locked(func() { h.FindUser("founder").Role = "admin" })
	c.held = append(c.held, own)
	c.wrote = map[string]string{"organization:acme@acme@" + number(u.ID): "owner"}
	c.revoke(access.Gone, own)

	h = newBed(t)
	h.Locked(func() { h.Self.Role, h.Self.Public = "member", "connector@example.com" })
	c = h.core(t, account("connector@example.com"))
	c.grant(access.Granted, own)
	h.changed(t, "PUT /orgs/acme/memberships/lapse-connector "+`{"role":"admin"}`)
	c.revoke(access.Blocked, own)
	h.changed(t)
}

// TestOwnersInTeams: GitHub shows owners as maintainers of every team, whatever was
// written, and refuses to make maintainers of them.
func TestOwnersInTeams(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	a, u := h.someone("admin")
	c := h.core(t, a)
	for _, e := range chain("team", "ops", "member", "maintainer") {
		c.grant(access.Granted, e)
		if res := c.revoke(access.Gone, e); len(res.Notes) > 0 {
			t.Errorf("drift that is none: %q", res.Notes)
		}
		h.changed(t, "PUT /orgs/acme/teams/ops/memberships/"+u.Login+` {"role":"member"}`, "DELETE /orgs/acme/teams/ops/memberships/"+u.Login)
	}
}

// TestChildTeams: a member of a child team is a member of its parent, by no entry
// of its own.
func TestChildTeams(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	a, u := h.someone("member")
	h.Locked(func() {
		h.FindTeam("web").Parent = h.FindTeam("ops")
		h.FindTeam("web").Members[u.ID] = "maintainer"
	})
	c := h.core(t, a)
	c.grant(access.AlreadyHeld, entitlement("member", "team", "ops"))
	c.revoke(access.Lowered, entitlement("member", "team", "ops"))
	c.grant(access.Granted, entitlement("maintainer", "team", "ops"))
	c.revoke(access.Gone, entitlement("maintainer", "team", "ops"))
	h.changed(t, "PUT /orgs/acme/teams/ops/memberships/"+u.Login+` {"role":"maintainer"}`, "DELETE /orgs/acme/teams/ops/memberships/"+u.Login)
}

// TestRoleByATeam: a role that a team gives stays, and only the very role goes.
func TestRoleByATeam(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	a, u := h.someone("member")
	role, other := h.Roles[0], h.AddRole("others")
	h.Locked(func() { role.ByTeam[u.ID], other.Users[u.ID] = true, true })
	e := entitlement("assigned", "organization_role", "auditors")
	c := h.core(t, a)
	c.grant(access.AlreadyHeld, e)
	c.revoke(access.Lowered, e)
	h.changed(t)

	h.Locked(func() { role.ByTeam[u.ID] = false })
	c.grant(access.Granted, e)
	h.Locked(func() { role.ByTeam[u.ID] = true })
	c.revoke(access.Lowered, e)
	path := " /orgs/acme/organization-roles/users/" + u.Login + "/" + number(role.ID)
	h.changed(t, "PUT"+path, "DELETE"+path)
	if !role.ByTeam[u.ID] || !other.Users[u.ID] || role.Users[u.ID] {
		t.Errorf("the roles are %v and %v", role, other)
	}
}

// TestRolesThatAreHidden: roles that are not shown any more are not gone.
func TestRolesThatAreHidden(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	a, u := h.someone("member")
	e := entitlement("assigned", "organization_role", "auditors")
	c := h.core(t, a)
	c.grant(access.Granted, e)
	all := h.Roles
	h.Locked(func() { h.Roles = nil })
	if res, err := c.tryRevoke(e); access.KindOf(err) != access.Privilege || res.Entries[0].Outcome != access.Blocked {
		t.Errorf("%+v, %v, want privilege", res.Entries, err)
	}
	h.Locked(func() { h.Roles = all[1:] })
	c.revoke(access.WasGone, e)
	if !all[0].Users[u.ID] {
		t.Error("a role that was deleted was changed")
	}
}

// TestSynchronizedTeam: what an identity provider fills is named as such.
func TestSynchronizedTeam(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	h.Locked(func() { h.FindTeam("web").Synced = true })
	a, _ := h.someone("member")
	h.core(t, a).fails(access.ExternallyManaged, entitlement("member", "team", "web"))
}

// TestArchived: on an archived repository nothing is granted, and nothing is said
// to be gone before it is unarchived.
func TestArchived(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	a, u := h.someone("member")
	c := h.core(t, a)
	c.fails(access.Invalid, entitlement("read", "repository", "old"))
	c.grant(access.Granted, onSite("write"))
	h.Locked(func() { h.FindRepository("site").Archived, h.Log = true, nil })
	c.verify(access.Blocked, onSite("write"))
	wrote := c.wrote
	c.revoke(access.Blocked, onSite("write"))
	h.changed(t)
	h.Locked(func() { h.FindRepository("site").Archived = false })
	c.wrote, c.held = wrote, []access.Entitlement{onSite("write")}
	c.revoke(access.Gone, onSite("write"))
	h.level(t, u, "site", "")
}

// TestBasePermission: GitHub writes no level below what every member has, and the
// person has it all the same.
func TestBasePermission(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	a, u := h.someone("member")
	h.hand(u, "site", "triage")
	c := h.core(t, a)
	c.grant(access.Granted, onSite("admin"))
	h.Locked(func() { h.Base = "write" })
	c.grant(access.Granted, onSite("read"))
	c.revoke(access.Lowered, onSite("admin"))
	h.level(t, u, "site", "")
	c.verify(access.Granted, onSite("read"))
}

// TestNewLogin acts on the same person after a new login, a new address, and on
// nobody who took the old ones.
func TestNewLogin(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	a, u := h.someone("")
	address := u.Public
	h.Locked(func() { u.Role = "member" })
	c := h.core(t, a)
	c.grant(access.Granted, onSite("write"))
	var taker *githubtest.User
	h.Locked(func() {
		old := u.Login
		u.Login, u.Public = "renamed", ""
		taker = h.AddUser(old, "member")
		taker.Public = address
		h.FindRepository("tools").Direct[taker.ID] = "write"
	})
	c.restarted(h)
	c.verify(access.Granted, onSite("write"))
	// The address belongs to another login now, which gets nothing as long as the
	// first one holds something.
	c.fails(access.PersonMissing, onTools("read"))
	// What was read and planned for the other login is no news of the first one.
	c.fails(access.PersonMissing, onSite("read"))
	c.revoke(access.Gone, onSite("write"))
	h.level(t, u, "site", "")
	h.level(t, taker, "tools", "write")
	c.grant(access.Granted, onTools("admin"))
	h.level(t, taker, "tools", "admin")
	c.revoke(access.Lowered, onTools("admin"))
	h.level(t, taker, "tools", "write")
}

// TestWhoLeft: who has left GitHub has nothing; who has left the organization has
// what is still there taken away.
func TestWhoLeft(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	a, u := h.someone("member")
	c := h.core(t, a)
	c.grant(access.Granted, onSite("write"))
	h.Locked(func() { u.Role = "" })
	c.restarted(h)
	c.revoke(access.Gone, onSite("write"))
	h.level(t, u, "site", "")

	a, u = h.someone("member")
	c = h.core(t, a)
	c.grant(access.Granted, onSite("write"))
	h.Locked(func() { h.Users = h.Users[:len(h.Users)-1] })
	c.verify(access.Gone, onSite("write"))
	c.revoke(access.WasGone, onSite("write"))

	// Whom GitHub never knew has nothing that Lapse wrote.
	c = h.core(t, account("nobody@example.com"))
	c.revoke(access.WasGone, onSite("write"))
}

// TestNewNames takes away what was given on a repository or a team that has another
// name by now, and leaves alone what got the old one.
func TestNewNames(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	a, u := h.someone("member")
	c := h.core(t, a)
	e := entitlement("maintainer", "team", "web")
	c.grant(access.Granted, onSite("write"))
	c.grant(access.Granted, e)
	var site, web = h.FindRepository("site"), h.FindTeam("web")
	h.Locked(func() {
		site.Name, web.Slug = "site-old", "web-old"
		h.AddRepository("site").Direct[u.ID] = "admin"
		h.AddTeam("web").Members[u.ID] = "maintainer"
		h.Log = nil
	})
	c.revoke(access.Gone, onSite("write"))
	c.revoke(access.Gone, e)
	h.changed(t, "DELETE /repos/acme/site-old/collaborators/"+u.Login, "DELETE /orgs/acme/teams/web-old/memberships/"+u.Login)
	h.level(t, u, "site", "admin")
	if len(site.Direct) > 0 || len(web.Members) > 0 || h.FindTeam("web").Members[u.ID] == "" {
		t.Errorf("%v, %v", site.Direct, web.Members)
	}
}

// TestHidden: a repository that the connector does not see any more is gone only
// where the token is known to see all.
func TestHidden(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	for _, test := range []struct {
		name   string
		change func()
		kind   access.ErrorKind
	}{
		{"deleted", func() { h.FindRepository("site").Gone = true }, ""},
		{"a token that lost its scope", func() { h.Hidden, h.Scopes = true, "admin:org" }, access.Privilege},
		{"a token that does not say what it may do", func() { h.Hidden, h.Scopes = true, "" }, access.Privilege},
		{"a token that belongs to no owner any more", func() { h.Hidden, h.Self.Role = true, "member" }, access.Privilege},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, _ := h.someone("member")
			c := h.core(t, a)
			c.grant(access.Granted, onSite("write"))
			h.Locked(test.change)
			c.restarted(h)
			res, err := c.tryRevoke(onSite("write"))
			if access.KindOf(err) != test.kind || len(res.Entries) != 1 || (res.Entries[0].Outcome == access.WasGone) != (test.kind == "") {
				t.Errorf("%+v, %v (%s), want %s", res.Entries, err, access.KindOf(err), test.kind)
			}
			h.Locked(func() {
				h.Hidden, h.Scopes, h.Self.Role = false, "admin:org, repo", "admin"
				if h.FindRepository("site") == nil {
					h.AddRepository("site")
				}
			})
		})
	}
}

// TestBehind: GitHub answers readings from copies that are a little behind. What
// was written is neither taken for missing nor for somebody else's.
func TestBehind(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	a, u := h.someone("member")
	c := h.core(t, a)
	h.Locked(func() { h.Behind = 2 })
	c.grant(access.Granted, onSite("admin"))
	// Another hold at once reads an old copy, and does not take admin for a stranger's.
	copies := 2
	h.Locked(func() {
		h.Stale = 0
		h.Bend = func(answer []byte) []byte {
			if copies--; copies >= 0 {
				answer = bytes.ReplaceAll(answer, []byte(`"roleName":"admin"`), []byte(`"roleName":"read"`))
			}
			return answer
		}
	})
	c.grant(access.Granted, onSite("write"))
	h.Locked(func() { h.Bend = nil })
	h.Locked(func() { h.Stale = 2 })
	c.revoke(access.Lowered, onSite("admin"))
	h.level(t, u, "site", "write")
	c.revoke(access.Gone, onSite("write"))
	h.level(t, u, "site", "")
	// The answer to the grant was lost, and the revoke meets an old copy.
	if err := c.open(onSite("admin")); err != nil {
		t.Fatal(err)
	}
	h.Locked(func() { h.Lost = func(r *http.Request) bool { return r.Method == http.MethodPut } })
	c.tryGrant(onSite("admin"))
	h.Locked(func() { h.Lost = nil })
	c.revoke(access.Gone, onSite("admin"))
	h.level(t, u, "site", "")
}
