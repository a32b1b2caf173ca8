package github_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations/github"
	"github.com/lapse-access/lapse/integrations/github/githubtest"
)

// TestDiscover3000 reads an organization with 3,000 repositories and 250 teams, each
// page by another process, in as many requests as there are pages.
func TestDiscover3000(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	for n := range 3000 {
		h.AddRepository(fmt.Sprintf("service-%04d", n))
	}
	for n := range 250 {
		h.AddTeam(fmt.Sprintf("team-%03d", n))
	}
	offered := map[string]bool{}
	pages := 0
	for cursor := ""; ; pages++ {
		i := start(t, h.target(func(c *github.Config, _ *github.Secret) { c.ResourceTypes = nil }))
		if pages == 20 {
			// The limit is used up in the middle: the same cursor goes on later.
			undo := (&observer{h}).Throttle(nil, 7*time.Second)
			if _, err := i.Discover(t.Context(), cursor); access.KindOf(err) != access.RateLimited {
				t.Errorf("a limit in the middle: %v, want rate_limited", err)
			}
			undo()
		}
		page, err := i.Discover(t.Context(), cursor)
		if err != nil || len(page.Warnings) > 0 {
			t.Fatal(page.Warnings, err)
		}
		if len(page.Resources) > 100 {
			t.Errorf("a page has %d resources", len(page.Resources))
		}
		for _, f := range page.Resources {
			if offered[f.Resource.String()] {
				t.Errorf("%s comes twice", f.Resource)
			}
			offered[f.Resource.String()] = true
		}
		if pages == 10 {
			// A repository that goes does not hide another one.
			h.Locked(func() { h.FindRepository("service-0001").Gone = true })
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if len(offered) != 3251 {
		t.Errorf("%d resources, want 3000 repositories, 250 teams and the organization", len(offered))
	}
	// The organization and its roles, 3 pages of teams, 30 of repositories: of 5,000
	// requests an hour.
	if h.Reads > 36 || len(h.Log) > 0 {
		t.Errorf("discovery took %d requests and %d changes", h.Reads, len(h.Log))
	}
	t.Logf("%d resources in %d pages and %d requests", len(offered), pages+1, h.Reads)
}

// TestCatalog offers what can be granted.
func TestCatalog(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	h.Locked(func() {
		h.AddRepository("foreign").NoAdmin = true
		h.FindRepository("site").Description, h.FindRepository("site").Private = "the shop, owner=web tier=1", false
		h.FindTeam("ops").Description = "owner=ops"
	})
	read := func(change func(*github.Config, *github.Secret)) (all []access.Found, warnings []string) {
		i := start(t, h.target(change))
		for cursor := ""; ; {
			page, err := i.Discover(t.Context(), cursor)
			if err != nil {
				t.Fatal(err)
			}
			all, warnings = append(all, page.Resources...), append(warnings, page.Warnings...)
			if cursor = page.Next; cursor == "" {
				return all, warnings
			}
		}
	}
	all, warnings := read(func(c *github.Config, _ *github.Secret) { c.ResourceTypes = nil })
	var names []string
	for _, f := range all {
		if (f.Note == "") == (len(f.Permissions) == 0) {
			t.Errorf("%s: %q, %q; want permissions, or why there are none", f.Resource, f.Permissions, f.Note)
		}
		names = append(names, f.Resource.String())
	}
	want := []string{"organization:acme", "organization_role:auditors", access.NewResource("organization_role", hostile).String(),
		"team:ops", "team:web", "team:on-call", "team:ent-all", "repository:Mixed.Case_1", "repository:docs", "repository:foreign", "repository:site", "repository:tools"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("offered (-want +got):\n%s", diff)
	}
	if len(warnings) > 0 {
		t.Errorf("the warnings are %q", warnings)
	}
	site := all[slices.IndexFunc(all, func(f access.Found) bool { return f.Resource.Path == "site" })]
	if diff := cmp.Diff(map[string]string{"owner": "web", "tier": "1", "visibility": "public"}, site.Tags); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
	if all, _ = read(func(c *github.Config, _ *github.Secret) { c.ResourceTypes = []string{"repository_role"} }); len(all) != 12 {
		t.Errorf("%d custom roles on repositories, want 3 on each of 4", len(all))
	}
	all, warnings = read(func(c *github.Config, _ *github.Secret) {
		c.ResourceTypes, c.Include, c.MaxResources = nil, []string{"team:*"}, 2
	})
	if len(all) != 2 || len(warnings) != 1 {
		t.Errorf("%d resources of at most 2, %q", len(all), warnings)
	}
	i := start(t, h.target())
	for _, cursor := range []string{"x", "e30", "eyJ0eXBlIjoib3RoZXIifQ", "eyJ0eXBlIjoidGVhbSIsInBhZ2UiOi0xfQ"} {
		if _, err := i.Discover(t.Context(), cursor); access.KindOf(err) != access.Invalid {
			t.Errorf("cursor %q: %v, want invalid", cursor, err)
		}
	}
}

// TestLeftOut grants nothing that the configuration leaves out, and still ends it.
func TestLeftOut(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	a, u := h.someone("member")
	c := h.core(t, a)
	c.grant(access.Granted, onSite("write"))
	c.Integration = start(t, h.target(func(c *github.Config, _ *github.Secret) {
		c.ResourceTypes, c.Exclude = []string{"team"}, []string{"team:web"}
	}))
	c.fails(access.Invalid, onTools("read"))
	c.fails(access.Invalid, entitlement("member", "team", "web"))
	c.revoke(access.Gone, onSite("write"))
	h.level(t, u, "site", "")
}

// TestTwoPages finds somebody who is not on the first page: of a team's members, of
// a role's users, of invitations, of owners.
func TestTwoPages(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	for n := range 130 {
		u := h.AddUser(fmt.Sprintf("filler%d", n), "admin")
		h.FindTeam("web").Members[u.ID] = "member"
		h.Roles[0].Users[u.ID] = true
		h.FindRepository("site").Invitations = append(h.FindRepository("site").Invitations, &githubtest.Invitation{ID: h.NewID(), User: u, Level: "read"})
	}
	for _, e := range []access.Entitlement{entitlement("member", "team", "web"), entitlement("assigned", "organization_role", "auditors"), own} {
		a, _ := h.someone("member")
		c := h.core(t, a)
		c.grant(access.Granted, e)
		c.verify(access.Granted, e)
		c.revoke(access.Gone, e)
	}
	a, _ := h.someone("")
	c := h.core(t, a)
	c.grant(access.Pending, onSite("read"))
	c.verify(access.Pending, onSite("read"))
	c.revoke(access.Gone, onSite("read"))
}
