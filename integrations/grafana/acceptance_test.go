package grafana_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grafana/grafana-openapi-client-go/models"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/grafana"
	"github.com/lapse-access/lapse/internal/certificationtest"
)

// The acceptance checks of Grafana, by their numbers.

func remedy(err error) string {
	if e, ok := errors.AsType[*access.Error](err); ok {
		return e.Remedy
	}
	return ""
}

// catalog is all that discovery offers, and what it says beside: warnings, and
// the notes on resources, which people see before they ask.
func catalog(t testing.TB, i integrations.Integration) (found map[access.Resource][]string, said []string) {
	t.Helper()
	found = map[access.Resource][]string{}
	for cursor := ""; ; {
		page, err := i.Discover(t.Context(), cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range page.Resources {
			if found[f.Resource] = f.Permissions; f.Note != "" {
				said = append(said, "note on "+f.Resource.String()+": "+f.Note)
			}
		}
		said = append(said, page.Warnings...)
		if cursor = page.Next; cursor == "" {
			return found, said
		}
	}
}

func said(lines []string, word string) bool {
	return slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, word) })
}

func TestGF01OpenSourceSaysThatItHasNoPermissionsOnDataSources(t *testing.T) {
	t.Parallel()
	b := newBed(t, oss)
	l := b.live(t, "Viewer")
	found, warnings := catalog(t, l)
	if found[onMetrics[0].Resource] != nil || !said(warnings, "note on data_source:metrics/ds-metrics: This Grafana has no permissions on data sources: open-source Grafana (OSS) has none.") || found[onOps[0].Resource] == nil {
		t.Errorf("the catalog offers data sources: %v; it says %v", found[onMetrics[0].Resource], warnings)
	}
	item := certificationtest.Check(t, l)["permissions on data sources"]
	if item.OK || !item.Optional || !strings.Contains(item.Detail, "OSS") || item.Remedy == "" {
		t.Errorf("check says %+v", item)
	}
	b.forget()
	for what, operation := range map[string]func() error{
		"reading": func() error { _, err := l.Held(t.Context(), l.account, onMetrics[:1]); return err },
		"granting": func() error {
			_, err := l.Grant(t.Context(), integrations.GrantRequest{Account: l.account, Want: onMetrics[:1]})
			return err
		},
		"revoking":  func() error { _, err := l.tryRevoke(t, onMetrics[0]); return err },
		"verifying": func() error { _, err := l.Verify(t.Context(), l.account, onMetrics[:1]); return err },
	} {
		err := operation()
		kindOf(t, what, err, access.Unsupported)
		if !strings.Contains(fmt.Sprint(err), "OSS") || !strings.Contains(fmt.Sprint(err), "Grafana Enterprise") {
			t.Errorf("%s: %v does not say plainly why", what, err)
		}
	}
	if l.asked(t); len(l.requests) > 20 {
		t.Errorf("%d requests for what cannot be", len(l.requests))
	}
	l.grant(t, onOps[0])
	l.has(t, onOps[0].Resource, "view")
	l.revoke(t, onOps[0])
}

func TestGF02OneCallGivesAndOneTakes(t *testing.T) {
	t.Parallel()
	l := newBed(t, enterprise).live(t, "Viewer")
	path := fmt.Sprintf("POST /access-control/datasources/ds-metrics/users/%d ", l.userID())
	l.forget()
	l.grant(t, onMetrics[0])
	l.asked(t, path+`{"permission":"Query"}`)
	l.revoke(t, onMetrics[0])
	l.asked(t, path+`{}`)
	l.has(t, onMetrics[0].Resource, "")
}

func TestGF03WhatWasThereBeforeComesBack(t *testing.T) {
	t.Parallel()
	b := newBed(t, oss)
	for _, levels := range [][]access.Entitlement{onOps, onOverview, b.inTeam("dba"), roles} {
		l := b.live(t, "Viewer")
		low, high := levels[0], levels[len(levels)-1]
		(&observer{b}).SetLevel(nil, l.account, low.Resource, low.Permission)
		l.grant(t, high)
		l.has(t, high.Resource, high.Permission)
		l.revoke(t, high)
		l.has(t, high.Resource, low.Permission)
	}
}

func TestGF04OverlapsEndInBothOrders(t *testing.T) {
	t.Parallel()
	b := newBed(t, enterprise)
	for _, levels := range [][]access.Entitlement{onMetrics, onOps, onOverview, b.inTeam("dba"), roles} {
		low, high := levels[0], levels[1]
		for _, order := range [][2]access.Entitlement{{high, low}, {low, high}} {
			for _, begin := range [][2]access.Entitlement{{high, low}, {low, high}} {
				l := b.live(t, "None")
				l.grant(t, begin[0])
				l.grant(t, begin[1])
				l.has(t, high.Resource, high.Permission)
				l.revoke(t, order[0])
				l.has(t, high.Resource, order[1].Permission)
				l.revoke(t, order[1])
				l.has(t, high.Resource, "")
			}
		}
	}
}

func TestGF05WhatComesByATeamOrARoleIsNobodysBaseline(t *testing.T) {
	t.Parallel()
	b := newBed(t, oss)
	for name, way := range map[string]func(l *life) *entry{
		"a team": func(l *life) *entry {
			team := b.team("by team")
			team.members = append(team.members, &models.TeamMemberDTO{TeamID: team.id, UserID: l.person(l.account).UserID})
			return &entry{team: team.id, level: "View"}
		},
		"a role": func(*life) *entry { return &entry{builtIn: "Viewer", level: "View"} },
	} {
		l := b.live(t, "Viewer")
		b.locked(func() { b.entries["folders/f-sales"] = []*entry{way(l)} })
		if slots := l.prepare(t, onSales[1]); slots[0].Held != "" || len(slots[0].HeldAs) != 0 {
			t.Errorf("by %s: %+v, want nothing held by the person alone", name, slots)
		}
		if _, err := l.tryGrant(t, onSales[1]); err != nil {
			t.Fatal(err)
		}
		l.has(t, onSales[1].Resource, "edit")
		res := l.revoke(t, onSales[1])
		l.has(t, onSales[1].Resource, "")
		b.locked(func() {
			if len(b.entries["folders/f-sales"]) != 1 {
				t.Errorf("by %s: the entry of the others is gone", name)
			}
		})
		if res.Entries[0].Outcome != access.Gone {
			t.Errorf("by %s: %+v, want gone", name, res.Entries)
		}
		// Of what comes that way nothing is written, and it is said who gives it.
		l.forget()
		if res := l.grant(t, onSales[0]); res.Entries[0].Outcome != access.AlreadyHeld || len(res.Wrote) != 0 {
			t.Errorf("by %s: %+v, wrote %v; want already_held, and nothing", name, res.Entries, res.Wrote)
		}
		if res := l.revoke(t, onSales[0]); res.Entries[0].Outcome != access.Lowered || !strings.Contains(res.Entries[0].Facts[0], "view") {
			t.Errorf("by %s: %+v, want lowered, and by what", name, res.Entries)
		}
		l.asked(t)
	}
}

func TestGF06WhatAFolderGivesIsNoBaselineOfADashboard(t *testing.T) {
	t.Parallel()
	l := newBed(t, oss).live(t, "None")
	(&observer{l.bed}).SetLevel(nil, l.account, onOps[0].Resource, "edit") // two folders above
	if slots := l.prepare(t, onOverview[2]); slots[0].Held != "" || len(slots[0].HeldAs) != 0 {
		t.Errorf("%+v, want nothing held by the person alone", slots)
	}
	if _, err := l.tryGrant(t, onOverview[2]); err != nil {
		t.Fatal(err)
	}
	l.revoke(t, onOverview[2])
	l.has(t, onOverview[2].Resource, "")
	l.has(t, onOps[0].Resource, "edit")
}

func TestGF07WhatARoleOfRBACGivesIsNoBaseline(t *testing.T) {
	t.Parallel()
	l := newBed(t, enterprise).live(t, "None")
	l.locked(func() {
		l.entries["datasources/ds-metrics"] = []*entry{{user: l.person(l.account).UserID, level: "Query", unmanaged: "fixed:datasources:reader"}}
	})
	if slots := l.prepare(t, onMetrics[1]); slots[0].Held != "" {
		t.Errorf("%+v, want nothing held by the person alone", slots)
	}
	if _, err := l.tryGrant(t, onMetrics[1]); err != nil {
		t.Fatal(err)
	}
	l.revoke(t, onMetrics[1])
	l.locked(func() {
		if all := l.entries["datasources/ds-metrics"]; len(all) != 1 || all[0].unmanaged == "" {
			t.Errorf("left are %d entries, want the one of the role", len(all))
		}
	})
}

// The model fails the test when such a call comes, in every test.
func TestGF08NoCallReplacesThePermissionsOfEverybody(t *testing.T) {
	t.Parallel()
	b := newBed(t, enterprise)
	l, other := b.live(t, "Viewer"), b.live(t, "Viewer")
	all := []access.Entitlement{onMetrics[1], onOps[1], onOverview[1], b.inTeam("dba")[1], roles[1]}
	other.grant(t, all...)
	l.forget()
	l.grant(t, all...)
	l.revoke(t, all...)
	for _, r := range l.changes {
		if !strings.HasSuffix(r, fmt.Sprintf("/%d", l.userID())) && !strings.HasSuffix(r, "/members") {
			t.Errorf("%s is not about this person alone", r)
		}
	}
	for _, e := range all {
		other.has(t, e.Resource, e.Permission)
	}
}

// What Grafana had done before the answer was lost is not taken for the person's
// own: it was read before.
func TestGF09ALostAnswerKeepsWhatWasThereBefore(t *testing.T) {
	t.Parallel()
	b := newBed(t, enterprise)
	for _, levels := range [][]access.Entitlement{roles, onMetrics, onOps, onOverview} {
		l := b.live(t, "Viewer")
		(&observer{b}).SetLevel(nil, l.account, levels[0].Resource, levels[0].Permission)
		l.prepare(t, levels[1])
		lost := false
		b.locked(func() {
			b.lost = func(r *http.Request) bool {
				is := !lost && r.Method != http.MethodGet
				lost = lost || is
				return is
			}
		})
		_, err := l.tryGrant(t, levels[1])
		kindOf(t, "granting without an answer", err, access.Retry)
		l.has(t, levels[1].Resource, levels[1].Permission)
		l.Integration = b.start(t, b.target()) // another process
		if res, err := l.tryGrant(t, levels[1]); err != nil || res.Entries[0].Outcome != access.Granted {
			t.Errorf("granting again: %+v, %v", res.Entries, err)
		}
		l.revoke(t, levels[1])
		l.has(t, levels[1].Resource, levels[0].Permission)
	}
}

func TestGF10WhatSomebodyRaisedStaysAndIsReported(t *testing.T) {
	t.Parallel()
	b := newBed(t, enterprise)
	for _, levels := range [][]access.Entitlement{roles, onMetrics, onOps, onOverview, b.inTeam("dba")} {
		l := b.live(t, "None")
		high := levels[len(levels)-1]
		l.grant(t, levels[0])
		(&observer{b}).SetLevel(nil, l.account, high.Resource, high.Permission)
		res := l.revoke(t, levels[0])
		l.has(t, high.Resource, high.Permission)
		if res.Entries[0].Outcome != access.Lowered || !said(res.Notes, "drift") || !said(res.Notes, high.Permission) {
			t.Errorf("%+v, notes %v", res.Entries, res.Notes)
		}
	}
}

func TestGF11ARoleThatIsSyncedIsTheProvidersAndIsSaidBefore(t *testing.T) {
	t.Parallel()
	b := newBed(t, oss)
	l := b.live(t, "Viewer")
	b.locked(func() { b.person(l.account).IsExternallySynced = true })
	l.prepare(t, roles[1])
	l.forget()
	_, err := l.tryGrant(t, roles[1])
	kindOf(t, "granting a role that is synced", err, access.ExternallyManaged)
	if !strings.Contains(remedy(err), "skip_org_role_sync") {
		t.Errorf("%v does not say what mends it", err)
	}
	l.asked(t)
	has := &life{Integration: l.Integration, bed: b, account: l.account, baseline: map[string][]access.Entitlement{}, wrote: map[string]string{}}
	if res := has.grant(t, roles[0]); res.Entries[0].Outcome != access.AlreadyHeld {
		t.Errorf("the role that the person has: %+v", res.Entries)
	}

	found, warnings := catalog(t, l)
	if found[roles[0].Resource] == nil || !said(warnings, "note on organization:Main Org./1: The roles of 1 of") {
		t.Errorf("the catalog does not say it: %v", warnings)
	}
	if item := certificationtest.Check(t, l)["roles that Grafana may change"]; item.OK || !strings.Contains(item.Detail, "1 of") {
		t.Errorf("check says %+v", item)
	}
	b.locked(func() {
		for _, u := range b.users {
			u.IsExternallySynced = true
		}
	})
	if found, warnings := catalog(t, l); found[roles[0].Resource] != nil || !said(warnings, "note on organization") {
		t.Errorf("nobody's role can be changed, and the catalog offers it: %v", warnings)
	}

	// It became synced after Lapse gave it: Grafana refuses, and it is not gone.
	b.locked(func() { b.person(l.account).IsExternallySynced = false })
	late := b.live(t, "Viewer")
	late.grant(t, roles[1])
	b.locked(func() { b.person(late.account).IsExternallySynced = true })
	_, err = late.tryRevoke(t, roles[1])
	kindOf(t, "revoking a role that is synced now", err, access.ExternallyManaged)
}

func TestGF12TheRoleComesBackAndTheLastAdminStays(t *testing.T) {
	t.Parallel()
	b := newBed(t, oss)
	l := b.live(t, "Editor")
	l.grant(t, roles[2])
	l.has(t, roles[2].Resource, "admin")
	l.revoke(t, roles[2])
	l.has(t, roles[2].Resource, "editor")

	l.grant(t, roles[2])
	root := func(role string) { b.locked(func() { b.users[0].Role = role }) }
	root("Editor")
	l.forget()
	res := l.revoke(t, roles[2])
	if res.Entries[0].Outcome != access.Blocked || !said(res.Entries[0].Facts, "last Admin") || res.Wrote["organization:1"] != "admin" {
		t.Errorf("the last Admin: %+v, wrote %v", res.Entries, res.Wrote)
	}
	l.asked(t)
	l.has(t, roles[2].Resource, "admin")

	// Another Admin who cannot sign in is none.
	root("Admin")
	b.locked(func() { b.users[0].IsDisabled = true })
	if res := l.revoke(t, roles[2]); res.Entries[0].Outcome != access.Blocked {
		t.Errorf("with an Admin who is disabled: %+v", res.Entries)
	}
	b.locked(func() { b.users[0].IsDisabled = false })

	// Two Admins are ended at once: one stays.
	other := b.live(t, "Viewer")
	other.grant(t, roles[2])
	root("Editor")
	l.held = []access.Entitlement{roles[2]}
	done := make(chan access.Outcome, 2)
	for _, who := range []*life{l, other} {
		who.Integration = l.Integration
		go func() {
			res, err := who.tryRevoke(t, roles[2])
			if err != nil {
				t.Error(err)
			}
			done <- res.Entries[0].Outcome
		}()
	}
	if one, two := <-done, <-done; one != access.Blocked && two != access.Blocked || one == two {
		t.Errorf("two Admins are ended at once: %s and %s, want one blocked", one, two)
	}

	// Grafana itself refuses it too, when a race was lost.
	root("Admin")
	b.locked(func() {
		b.answer = func(r *http.Request) (int, string) {
			if r.Method == http.MethodPatch {
				return http.StatusBadRequest, `{"message":"Cannot change role so that there is no organization admin left"}`
			}
			return 0, ""
		}
	})
	late := b.live(t, "Admin")
	late.wrote["organization:1"] = "admin"
	if res := late.revoke(t, roles[2]); res.Entries[0].Outcome != access.Blocked {
		t.Errorf("Grafana refuses to demote the last Admin: %+v", res.Entries)
	}
}

// The connector is a service account: it is not among the people.
func TestGF12TheConnectorItselfIsNobody(t *testing.T) {
	t.Parallel()
	b := newBed(t, oss)
	a := access.Account{Email: "robot@example.com"}
	b.locked(func() {
		for _, s := range b.accounts {
			s.Login = "robot@example.com"
		}
	})
	_, err := b.start(t, b.target()).Held(t.Context(), a, roles[:1])
	kindOf(t, "somebody with the login of a service account", err, access.PersonMissing)
}

func TestGF13TeamsHaveMembersAndAdmins(t *testing.T) {
	t.Parallel()
	b := newBed(t, oss)
	dba := b.inTeam("dba")
	team := "/teams/" + id(dba[0].Resource) + "/members"
	l := b.live(t, "Viewer")
	user := l.userID()
	l.forget()
	l.grant(t, dba[1])
	l.asked(t, fmt.Sprintf(`POST %s {"userId":%d}`, team, user), fmt.Sprintf(`PUT %s/%d {"permission":4}`, team, user))
	l.grant(t, dba[0])
	l.asked(t)
	l.revoke(t, dba[1])
	l.asked(t, fmt.Sprintf(`PUT %s/%d {}`, team, user))
	l.has(t, dba[0].Resource, "member")
	l.revoke(t, dba[0])
	l.asked(t, fmt.Sprintf(`DELETE %s/%d`, team, user))

	// Somebody else was quicker, and Grafana says that the person is a member.
	l.prepare(t, dba[0])
	b.locked(func() {
		b.answer = func(r *http.Request) (int, string) {
			if r.Method != http.MethodPost {
				return 0, ""
			}
			b.findTeam(id(dba[0].Resource)).members = []*models.TeamMemberDTO{{UserID: user}}
			return http.StatusBadRequest, `{"message":"User is already added to this team"}`
		}
	})
	if _, err := l.tryGrant(t, dba[0]); err != nil {
		t.Errorf("somebody else was quicker: %v", err)
	}
	b.locked(func() { b.answer = nil })
	l.revoke(t, dba[0])

	hand := b.live(t, "Viewer")
	(&observer{b}).SetLevel(nil, hand.account, dba[0].Resource, "member")
	if res := hand.grant(t, dba[0]); res.Entries[0].Outcome != access.AlreadyHeld {
		t.Errorf("somebody who is a member: %+v", res.Entries)
	}
	hand.grant(t, dba[1])
	hand.revoke(t, dba[1])
	hand.revoke(t, dba[0])
	hand.has(t, dba[0].Resource, "member")
}

func TestGF13TeamsOfAnIdentityProviderAreItsOwn(t *testing.T) {
	t.Parallel()
	b := newBed(t, enterprise)
	dba, support := b.inTeam("dba"), b.inTeam("support")
	l := b.live(t, "Viewer")
	b.locked(func() {
		b.findTeam(id(support[0].Resource)).provisioned = true
		b.findTeam(id(dba[0].Resource)).members = []*models.TeamMemberDTO{{UserID: b.person(l.account).UserID, Labels: []string{"SAML"}}}
	})
	for _, e := range []access.Entitlement{dba[1], support[0]} {
		l.prepare(t, e)
		l.forget()
		_, err := l.tryGrant(t, e)
		kindOf(t, "granting "+e.String(), err, access.ExternallyManaged)
		l.asked(t)
	}
	if found, warnings := catalog(t, l); found[support[0].Resource] != nil || !said(warnings, "note on "+support[0].Resource.String()+": An identity provider") || found[dba[0].Resource] == nil {
		t.Errorf("the catalog offers a team that is provisioned, or does not say why not: %v", warnings)
	}
}

func TestGF14PeopleAreFoundByTheirAddress(t *testing.T) {
	t.Parallel()
	b := newBed(t, oss)
	l := b.live(t, "Viewer")
	b.locked(func() { u := b.person(l.account); u.Email = strings.ToUpper(u.Email) })
	l.grant(t, onOps[0])
	l.revoke(t, onOps[0])

	// The address is the login only, which counts where there is no address.
	byLogin := access.Account{Email: "by-login@example.com"}
	var user *models.OrgUserDTO
	b.locked(func() { user = b.user("By-Login@example.com", "", "Viewer") })
	if _, err := l.Held(t.Context(), byLogin, onOps[:1]); err != nil {
		t.Errorf("somebody whose login is the address: %v", err)
	}
	b.locked(func() { user.Email = "mallory@example.com" })
	for what, operation := range map[string]func() error{
		"reading for": func() error { _, err := l.Held(t.Context(), byLogin, onOps[:1]); return err },
		"granting to": func() error {
			_, err := l.Grant(t.Context(), integrations.GrantRequest{Account: byLogin, Want: onOps[:1]})
			return err
		},
	} {
		kindOf(t, what+" somebody who took the address for a login", operation(), access.PersonMissing)
	}

	// The address is a part of another one.
	b.locked(func() { b.user("long", "x"+l.account.Email, "Viewer") })
	l.grant(t, onOps[0])
	b.locked(func() { b.user(l.account.Email, "other@example.com", "Viewer") })
	stranger := access.Account{Email: l.account.Email}
	_, err := l.Held(t.Context(), stranger, onOps[:1])
	kindOf(t, "an address that two people have", err, access.PersonMissing)
	l.revoke(t, onOps[0]) // whose id is known stays who they are

	b.locked(func() { b.findUser(l.userIDLocked()).IsDisabled = true })
	_, err = l.Held(t.Context(), l.account, onOps[:1])
	kindOf(t, "somebody who is disabled", err, access.PersonMissing)

	// The address changes while something is held.
	moved := b.live(t, "Viewer")
	moved.grant(t, onOps[1])
	b.locked(func() { user = b.person(moved.account); user.Email, user.Login = "new@example.com", "new" })
	if res := moved.revoke(t, onOps[1]); res.Entries[0].Outcome != access.Gone {
		t.Errorf("after another address: %+v", res.Entries)
	}
	b.locked(func() {
		if b.own("folders/f-ops", user.UserID) != nil {
			t.Error("the level is still there")
		}
	})
}

// userIDLocked is userID with the lock held.
func (l *life) userIDLocked() int64 { return l.person(l.account).UserID }

func TestGF15SubPaths(t *testing.T) {
	t.Parallel()
	for _, sub := range []string{"", "/a/b c"} {
		m := newModel(t, oss, strings.ReplaceAll(sub, " ", "%20"))
		b := &bed{model: m}
		b.fill()
		b.token = b.setUp(t, "full", "Admin")
		l := b.live(t, "Viewer")
		for _, end := range []string{"", "/"} {
			l.Integration = b.start(t, b.target(func(c *grafana.Config, _ *grafana.Secret) { c.URL += end }))
			l.grant(t, onOps[0])
			l.revoke(t, onOps[0])
		}
	}
}

func TestGF16ATokenOfAnotherOrganizationTakesNothingForGone(t *testing.T) {
	t.Parallel()
	b := newBed(t, oss)
	l := b.live(t, "Viewer")
	l.grant(t, onOps[0], roles[1])
	// Another token: another organization, with a folder of the same id, which has
	// an entry of the same number.
	b.locked(func() {
		b.org = models.OrgDetailsDTO{ID: 2, Name: "Other"}
		b.users = b.users[:1]
	})
	_, err := l.tryRevoke(t, onOps[0])
	kindOf(t, "revoking with a token of another organization", err, access.Privilege)
	// And without any of it.
	b.locked(func() { b.folders = nil })
	_, err = l.tryRevoke(t, onOps[0])
	kindOf(t, "revoking with a token of another organization", err, access.Privilege)
	if !strings.Contains(fmt.Sprint(err), "Other") {
		t.Errorf("%v does not name the token's organization", err)
	}
	_, err = l.Verify(t.Context(), l.account, onOps[:1])
	kindOf(t, "verifying with it", err, access.Privilege)
	stranger := access.Account{Email: "root@example.com"}
	_, err = l.Held(t.Context(), stranger, roles[:1])
	kindOf(t, "a role of the first organization", err, access.Privilege)
}

func TestGF17FailuresHaveTheirKind(t *testing.T) {
	t.Parallel()
	b := newBed(t, oss)
	l := b.live(t, "Viewer")
	l.prepare(t, onOps[0])
	for _, test := range []struct {
		status int
		body   string
		want   access.ErrorKind
		names  string
	}{
		{401, `{"message":"Expired API key"}`, access.Auth, "token"},
		{403, `{"message":"You'll need additional permissions to perform this action. Permissions needed: folders.permissions:write","title":"Access denied"}`, access.Privilege, "folders.permissions:write"},
		{500, `{"message":"canary-internal"}`, access.Retry, ""},
		{502, `<html>`, access.Retry, ""},
		{429, ``, access.RateLimited, ""},
	} {
		b.locked(func() {
			b.answer = func(r *http.Request) (int, string) {
				if r.Method == http.MethodPost {
					return test.status, test.body
				}
				return 0, ""
			}
		})
		_, err := l.tryGrant(t, onOps[0])
		kindOf(t, fmt.Sprint(test.status), err, test.want)
		if !strings.Contains(fmt.Sprint(err), test.names) || strings.Contains(fmt.Sprint(err), "canary") {
			t.Errorf("%d: %v", test.status, err)
		}
	}
}

func TestGF19WhatIsGoneBeforeTheRevokeIsRemoved(t *testing.T) {
	t.Parallel()
	b := newBed(t, enterprise)
	l := b.live(t, "Viewer")
	dba := b.inTeam("dba")
	l.grant(t, onMetrics[0], onSales[0], onOverview[0], dba[0])
	b.locked(func() {
		b.dataSources, b.folders, b.dashboards, b.teams = nil, nil, nil, nil
		b.entries = map[string][]*entry{}
	})
	for _, e := range []access.Entitlement{onMetrics[0], onSales[0], onOverview[0], dba[0]} {
		if res := l.revoke(t, e); res.Entries[0].Outcome != access.WasGone || len(res.Wrote) != len(l.held) {
			t.Errorf("%s: %+v, wrote %v", e, res.Entries, res.Wrote)
		}
	}

	left := newBed(t, oss).live(t, "Viewer")
	left.grant(t, onSales[0], roles[1])
	left.locked(func() { left.users = left.users[:1] })
	if res := left.revoke(t, onSales[0], roles[1]); res.Entries[0].Outcome != access.WasGone || res.Entries[1].Outcome != access.WasGone {
		t.Errorf("somebody who left the organization: %+v", res.Entries)
	}
}

// A connector that does not see everybody does not take somebody for gone.
func TestWhoIsNotSeenIsNotGone(t *testing.T) {
	t.Parallel()
	b := newBed(t, enterprise)
	l := b.live(t, "Viewer")
	l.grant(t, onMetrics[0])
	b.token = b.setUp(t, "full", "None")
	b.locked(func() {
		for _, a := range b.accounts {
			for _, p := range a.rbac {
				if p.Action == "org.users:read" {
					p.Scope = "users:id:1"
				}
			}
		}
	})
	l.Integration = b.start(t, b.target())
	_, err := l.tryRevoke(t, onMetrics[0])
	kindOf(t, "revoking from somebody who is not seen", err, access.Privilege)
	_, err = l.Verify(t.Context(), l.account, onMetrics[:1])
	kindOf(t, "verifying", err, access.Privilege)
	if item := certificationtest.Check(t, l)["find people"]; item.OK || !strings.Contains(item.Remedy, "org.users:read") {
		t.Errorf("check says %+v", item)
	}
	l.has(t, onMetrics[0].Resource, "query")
}

// Somebody is hidden from all lists while they hold something.
func TestWhoIsHiddenIsNotGone(t *testing.T) {
	t.Parallel()
	b := newBed(t, enterprise)
	l := b.live(t, "Viewer")
	(&observer{b}).SetLevel(nil, l.account, onOps[0].Resource, "view")
	l.grant(t, onMetrics[0], onOps[1])
	b.locked(func() { b.hidden[b.person(l.account).UserID] = true })
	if entries, err := l.Verify(t.Context(), l.account, onMetrics[:1]); err != nil || entries[0].Outcome != access.Granted {
		t.Errorf("verifying: %+v, %v", entries, err)
	}
	if res := l.revoke(t, onMetrics[0], onOps[1]); res.Entries[0].Outcome != access.Gone || res.Entries[1].Outcome != access.Gone {
		t.Errorf("revoking: %+v", res.Entries)
	}
	l.has(t, onMetrics[0].Resource, "")
	l.has(t, onOps[0].Resource, "view")
	_, err := l.Held(t.Context(), l.account, onMetrics[:1])
	kindOf(t, "somebody who is hidden", err, access.PersonMissing)
}

// The licence of Enterprise runs out while something is held.
func TestAnEditionThatIsLostIsNotGone(t *testing.T) {
	t.Parallel()
	b := newBed(t, enterprise)
	l := b.live(t, "Viewer")
	l.grant(t, onMetrics[0])
	b.locked(func() { b.enterprise = false })
	_, err := l.tryRevoke(t, onMetrics[0])
	kindOf(t, "revoking", err, access.Unsupported)
	b.locked(func() { b.enterprise = true })
	l.revoke(t, onMetrics[0])
	l.has(t, onMetrics[0].Resource, "")
}

// What a hold gives by a team, a role or a folder above ends with that hold, and
// another hold on the same thing does not rest on it.
func TestOverlapsAcrossTypes(t *testing.T) {
	t.Parallel()
	b := newBed(t, oss)
	dba := b.inTeam("dba")
	b.locked(func() {
		b.entries["folders/f-sales"] = []*entry{{team: b.findTeam(id(dba[0].Resource)).id, level: "View"}, {builtIn: "Editor", level: "View"}}
	})
	for name, test := range map[string]struct{ through, thing access.Entitlement }{
		"a team":   {dba[0], onSales[0]},
		"a role":   {roles[1], onSales[0]},
		"a folder": {onDB[0], onOverview[0]},
	} {
		for _, together := range []bool{false, true} {
			l := b.live(t, "None")
			if together {
				l.grant(t, test.through, test.thing)
			} else {
				l.grant(t, test.through)
				l.grant(t, test.thing)
			}
			l.revoke(t, test.through)
			if !(&observer{b}).Can(nil, l.account, test.thing) {
				t.Errorf("by %s: a hold ended with another one", name)
			}
			l.revoke(t, test.thing)
			if (&observer{b}).Can(nil, l.account, test.thing) {
				t.Errorf("by %s: access is left", name)
			}
		}
	}
}

// A hold survives another name of what it is on; a request for the old name does
// not, whatever rule of an access flow it was judged by.
func TestRenamedResources(t *testing.T) {
	t.Parallel()
	b := newBed(t, enterprise)
	l := b.live(t, "Viewer")
	dba := b.inTeam("dba")
	all := []access.Entitlement{onMetrics[1], onSales[1], onOverview[1], dba[1], roles[1]}
	l.grant(t, all...)
	b.locked(func() {
		b.dataSources[0].Name, b.folders[2].Title, b.dashboards[0].Title, b.findTeam(id(dba[0].Resource)).name, b.org.Name = "new", "new", "new", "new", "new"
	})
	other := b.live(t, "Viewer")
	for _, e := range all {
		other.forget()
		_, err := other.tryGrant(t, e)
		kindOf(t, "granting by the old name "+e.String(), err, access.ResourceMissing)
		other.asked(t)
		l.grant(t, renamed(e)) // the same slot
	}
	l.revoke(t, all...)
	for _, e := range all {
		l.has(t, e.Resource, e.Permission)
		l.revoke(t, renamed(e))
	}
	for _, e := range all {
		l.has(t, e.Resource, map[bool]string{true: "viewer"}[e == roles[1]])
	}
}

func renamed(e access.Entitlement) access.Entitlement {
	e.Resource = access.NewResource(e.Resource.Type, "new", id(e.Resource))
	return e
}

func TestSettingsLeaveOut(t *testing.T) {
	t.Parallel()
	b := newBed(t, enterprise)
	i := b.start(t, b.target(func(c *grafana.Config, _ *grafana.Secret) {
		c.ResourceTypes, c.Exclude = []string{"folder", "team"}, []string{"folder:Sal*/*"}
	}))
	found, _ := catalog(t, i)
	if found[onOps[0].Resource] == nil || found[onSales[0].Resource] != nil || found[onMetrics[0].Resource] != nil || found[roles[0].Resource] != nil {
		t.Errorf("the catalog has %v", found)
	}
	l := b.live(t, "Viewer")
	for _, e := range []access.Entitlement{onSales[0], onMetrics[0], roles[0]} {
		_, err := i.Grant(t.Context(), integrations.GrantRequest{Account: l.account, Want: []access.Entitlement{e}})
		kindOf(t, "granting "+e.String(), err, access.Invalid)
	}
	// What was granted before the settings changed is taken back.
	l.grant(t, onSales[0])
	l.Integration = i
	l.revoke(t, onSales[0])
	l.has(t, onSales[0].Resource, "")
}

// A level that a later Grafana has is left alone.
func TestUnknownLevelsAreLeftAlone(t *testing.T) {
	t.Parallel()
	b := newBed(t, enterprise)
	l := b.live(t, "Viewer")
	strange := func() { b.locked(func() { b.give("datasources/ds-metrics", b.person(l.account).UserID, "Explore") }) }
	strange()
	slots := l.prepare(t, onMetrics[0])
	if slots[0].Held != "explore" || len(slots[0].HeldAs) != 0 {
		t.Errorf("%+v", slots)
	}
	_, err := l.tryGrant(t, onMetrics[0])
	kindOf(t, "granting over a level that is not known", err, access.Unsupported)
	other := b.live(t, "Viewer")
	other.grant(t, onMetrics[0])
	b.locked(func() { b.give("datasources/ds-metrics", b.person(other.account).UserID, "Explore") })
	if res := other.revoke(t, onMetrics[0]); !said(res.Notes, "explore") {
		t.Errorf("notes %v", res.Notes)
	}
	other.has(t, onMetrics[0].Resource, "explore")
}

// Tags are what access flows may go by: a folder is where something is, whatever
// its tags say.
func TestTags(t *testing.T) {
	t.Parallel()
	b := newBed(t, enterprise)
	b.locked(func() { b.dashboard("liar", "d-liar", "", "folder=Public") })
	i := b.start(t, b.target())
	tags := map[access.Resource]map[string]string{}
	for cursor := ""; ; {
		page, err := i.Discover(t.Context(), cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range page.Resources {
			tags[f.Resource] = f.Tags
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	for r, want := range map[access.Resource]map[string]string{
		onMetrics[0].Resource: {"type": "prometheus"}, onOverview[0].Resource: {"folder": "Databases", "owner": "dba"}, onDB[0].Resource: {"folder": "Ops"},
		access.NewResource("dashboard", "liar", "d-liar"): {}, onOps[0].Resource: nil,
	} {
		if diff := cmp.Diff(want, tags[r]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", r, diff)
		}
	}
}

// The catalog is read in pages, also where a part of it cannot be named or read.
func TestCatalog(t *testing.T) {
	t.Parallel()
	b := newBed(t, enterprise)
	b.locked(func() {
		b.folder("strange", "a b", "")
		b.dataSource("nul\x00", "ds-nul")
	})
	found, warnings := catalog(t, b.start(t, b.target()))
	byType := map[string]int{}
	for r := range found {
		byType[r.Type]++
	}
	want := map[string]int{"organization": 1, "data_source": len(b.dataSources) - 1, "folder": len(b.folders) - 1, "dashboard": len(b.dashboards), "team": len(b.teams)}
	if diff := cmp.Diff(want, byType); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(warnings) != 2 || !said(warnings, "1 folders") || !said(warnings, "1 data sources") {
		t.Errorf("warnings %v", warnings)
	}

	b.locked(func() {
		b.answer = func(r *http.Request) (int, string) {
			if strings.HasSuffix(r.URL.Path, "/teams/description") {
				return http.StatusForbidden, `{"message":"Permissions needed: teams.permissions:read"}`
			}
			return 0, ""
		}
	})
	found, warnings = catalog(t, b.start(t, b.target()))
	if found[onOps[0].Resource] == nil || found[b.inTeam("dba")[0].Resource] != nil || !said(warnings, "teams.permissions:read") {
		t.Errorf("with a part that cannot be read: %v", warnings)
	}
	few, warnings := catalog(t, b.start(t, b.target(func(c *grafana.Config, _ *grafana.Secret) { c.MaxResources = 5 })))
	if len(few) != 5 || !said(warnings, "max_resources") {
		t.Errorf("with a limit of 5 there are %d: %v", len(few), warnings)
	}
	b.locked(func() { b.answer = func(*http.Request) (int, string) { return http.StatusBadGateway, "" } })
	_, err := b.start(t, b.target()).Discover(t.Context(), "")
	kindOf(t, "discovering on a Grafana that is away", err, access.Retry)
}

func TestBadCursors(t *testing.T) {
	t.Parallel()
	b := newBed(t, oss)
	i := b.start(t, b.target())
	for _, cursor := range []string{"%", "AAAA", "eyJ0eXBlIjoidGFibGUifQ"} {
		_, err := i.Discover(t.Context(), cursor)
		kindOf(t, cursor, err, access.Invalid)
	}
}
