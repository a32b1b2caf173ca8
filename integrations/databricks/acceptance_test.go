package databricks_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/databricks/databricks-sdk-go/service/iam"
	"github.com/google/go-cmp/cmp"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/databricks"
)

// The acceptance checks of Databricks, by their numbers.

// catalog is the names of what can be requested, and the notes of what cannot.
func catalog(t testing.TB, i integrations.Integration) (names []string, notes map[string]string) {
	t.Helper()
	notes = map[string]string{}
	for cursor := ""; ; {
		page, err := i.Discover(t.Context(), cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range page.Resources {
			parts, err := f.Resource.Names()
			if err != nil {
				t.Fatal(err)
			}
			if len(f.Permissions) > 0 {
				names = append(names, parts[0])
			} else {
				notes[parts[0]] = f.Note
			}
		}
		if cursor = page.Next; cursor == "" {
			return names, notes
		}
	}
}

func TestDB01AGrantIsOnePatchOfTheVendorsForm(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	l := b.live(t)
	l.grant(t, access.Granted, in("analysts"))
	requests, changes := b.asked()
	want := "PATCH " + b.analysts.path() + ` {"Operations":[{"op":"add","path":"members","value":[{"value":"` + b.userOf(l.Account) + `"}]}],"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"]}`
	if diff := cmp.Diff([]string{want}, changes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	l.revoke(t, access.Gone, in("analysts"))
	more, _ := b.asked()
	for _, r := range append(requests, more...) {
		if method, path, _ := strings.Cut(r, " "); method != http.MethodGet && method != http.MethodPatch && path != "/oidc/accounts/"+accountID+"/v1/token" {
			t.Errorf("asked for %s", r)
		}
	}
}

func TestDB02ARemovalNamesItsMember(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	l := b.live(t)
	l.grant(t, access.Granted, in("analysts"))
	b.asked()
	l.revoke(t, access.Gone, in("analysts"))
	_, changes := b.asked()
	want := "PATCH " + b.analysts.path() + ` {"Operations":[{"op":"remove","path":"members[value eq \"` + b.userOf(l.Account) + `\"]"}],"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"]}`
	if diff := cmp.Diff([]string{want}, changes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := len(b.analysts.Members); n != 3 {
		t.Errorf("%d of the 3 others are in the group", n)
	}
	// The model shows what the other form would have done.
	bare := strings.NewReader(`{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"remove","path":"members"}]}`)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, b.URL+b.analysts.path(), bare)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+adminToken)
	if got, err := http.DefaultClient.Do(r); err != nil || got.StatusCode != http.StatusNoContent || len(b.analysts.Members) != 0 {
		t.Errorf("the model does not empty the group: %v, %v, %d members", got, err, len(b.analysts.Members))
	}
}

func TestDB03WhoIsAMemberAlreadyStaysOne(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	l := b.live(t)
	b.join(b.analysts, b.userOf(l.Account))
	l.grant(t, access.AlreadyHeld, in("analysts"))
	l.restarted(t, b.account)
	l.revoke(t, access.Lowered, in("analysts"))
	if _, changes := b.asked(); len(changes) > 0 {
		t.Errorf("changed: %v", changes)
	}
	if !b.within(b.analysts, l.Account) {
		t.Error("the person is out of the group")
	}
	// The core forgets the baseline with the last hold.
	l.Baseline = nil
	l.revoke(t, access.Lowered, in("analysts"))
	if !b.within(b.analysts, l.Account) {
		t.Error("without a baseline the person is out of the group")
	}
}

func TestDB04TwoRequestsAreOneMembershipUntilTheLastEnds(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	l := b.live(t)
	l.grant(t, access.Granted, in("analysts"))
	l.grant(t, access.Granted, in("analysts"))
	if n := len(b.analysts.Members); n != 4 {
		t.Errorf("%d members, want 4", n)
	}
	res, err := l.Integration.Revoke(t.Context(), integrations.RevokeRequest{Account: l.Account, End: []access.Entitlement{in("analysts")},
		Remain: []access.Claim{{Entitlement: in("analysts")}}, Wrote: l.Wrote})
	if err != nil || res.Entries[0].Outcome != access.Lowered || !b.within(b.analysts, l.Account) {
		t.Errorf("the end of one of two: %+v, %v", res, err)
	}
	l.revoke(t, access.Gone, in("analysts"))
	if b.within(b.analysts, l.Account) {
		t.Error("the person is in the group after the last end")
	}
}

func TestDB05TwentyGrantsAtOnceLoseNobody(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	one, other := b.start(t, b.target()), b.start(t, b.target())
	lives := make([]*life, 20)
	for n := range lives {
		lives[n] = b.liveOn([]integrations.Integration{one, other}[n%2])
	}
	var wg sync.WaitGroup
	for _, l := range lives {
		wg.Go(func() {
			if err := l.prepare(t.Context(), in("analysts")); err != nil {
				t.Error(err)
			}
			if _, err := l.TryGrant(t, in("analysts")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(b.analysts.Members); n != 23 {
		t.Errorf("%d members, want 20 and the 3 that were there", n)
	}
	for _, l := range lives {
		if !b.within(b.analysts, l.Account) {
			t.Errorf("%s is not in the group", l.Account.Email)
		}
	}
}

// TestDB06 knows no lists with members: each group is read by itself.
func TestDB06MembersComeFromTheGroupAndNotFromLists(t *testing.T) {
	t.Parallel()
	for _, old := range []bool{false, true} {
		b := newBed(t)
		b.oldLists = old
		l := b.live(t)
		l.grant(t, access.Granted, in("analysts"))
		if got := l.Verified(t, in("analysts")).Outcome; got != access.Granted {
			t.Errorf("verified: %s", got)
		}
		if names, _ := catalog(t, l.Integration); !slices.Contains(names, "analysts") {
			t.Error("discovery does not offer the group")
		}
		l.revoke(t, access.Gone, in("analysts"))
		requests, _ := b.asked()
		if !slices.Contains(requests, "GET "+b.analysts.path()) {
			t.Errorf("the group was not read: %v", requests)
		}
	}
}

func TestDB07EveryPageIsReadHoweverLongItIs(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{100, 7} {
		a := newAccount(t)
		a.pageLimit = limit
		for n := range 250 {
			a.group(fmt.Sprintf("group %03d", n))
		}
		i := a.start(t, a.target())
		names, _ := catalog(t, i)
		slices.Sort(names)
		if len(slices.Compact(names)) != 250 {
			t.Errorf("pages of %d: %d groups, want 250", limit, len(names))
		}
		requests, _ := a.asked()
		if want := (250+limit-1)/limit + 2; len(requests) != want {
			t.Errorf("pages of %d: %d requests, want %d: a token, each page, and an empty one", limit, len(requests), want)
		}
		// A filter can find more than a page, too: names that differ by case.
		for n := range 1 << 4 {
			name := []byte("abcd")
			for bit := range name {
				name[bit] -= byte(n>>bit&1) * 32
			}
			a.group(string(name))
		}
		l := a.live(t)
		l.grant(t, access.Granted, in("ABCD"))
		for _, g := range a.groups {
			if a.within(g, l.Account) != (g.DisplayName == "ABCD") {
				t.Errorf("in %s: %t", g.DisplayName, a.within(g, l.Account))
			}
		}
	}
	a := newAccount(t)
	for n := range 250 {
		a.group(fmt.Sprintf("group %03d", n))
	}
	part := a.target(func(c *databricks.Config, _ *databricks.Secret) {
		c.MaxResources, c.Include, c.Exclude = 20, []string{"group:group 0*"}, []string{"group:*5"}
	})
	page, err := a.start(t, part).Discover(t.Context(), "")
	if err != nil || len(page.Resources) != 20 || len(page.Warnings) != 1 || page.Next != "" {
		t.Errorf("with max_resources: %d, %v, %q, %v", len(page.Resources), page.Warnings, page.Next, err)
	}
	for _, f := range page.Resources {
		if !strings.HasPrefix(f.Resource.Path, "group 0") || strings.HasSuffix(f.Resource.Path, "5") {
			t.Errorf("include and exclude let %s through", f.Resource)
		}
	}
	// What was granted before it was left out can be ended.
	l := a.live(t)
	l.grant(t, access.Granted, in("group 100"))
	l.Integration = a.start(t, part)
	if _, err := l.TryGrant(t, in("group 100")); access.KindOf(err) != access.Invalid {
		t.Errorf("granting what is left out: %v, want invalid", err)
	}
	l.revoke(t, access.Gone, in("group 100"))
}

func TestDB08APersonIsOneActiveUser(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	l := b.live(t)
	strange := `o"brien\" or userName co "@example.com`
	b.user(strange)
	l.Account.Email = strange
	l.grant(t, access.Granted, in("analysts"))
	if !b.within(b.analysts, l.Account) || len(b.analysts.Members) != 4 {
		t.Errorf("an address with quotes: %v", b.analysts.Members)
	}
	inactive := b.someone(0)
	b.user(inactive.Email, func(u *iam.AccountUser) { u.Active = false })
	for who, account := range map[string]access.Account{"nobody": b.someone(0), "two": b.someone(2), "an inactive user": inactive} {
		l := b.live(t)
		l.Account = account
		if err := l.prepare(t.Context(), in("analysts")); access.KindOf(err) != access.PersonMissing {
			t.Errorf("%s: held: %v, want person_missing", who, err)
		}
		if _, err := l.TryGrant(t, in("analysts")); access.KindOf(err) != access.PersonMissing {
			t.Errorf("%s: granting: %v, want person_missing", who, err)
		}
	}
	// An account that ignores the filter is no reason to take the first user.
	b.behave(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/Users") {
			q := r.URL.Query()
			q.Del("filter")
			r.URL.RawQuery = q.Encode()
		}
		return false
	})
	l = b.live(t)
	l.grant(t, access.Granted, in("analysts"))
	if !b.within(b.analysts, l.Account) {
		t.Error("with a filter that is ignored somebody else was added")
	}
}

func TestDB09ExternalGroupsAreRefused(t *testing.T) {
	t.Parallel()
	for _, mutable := range []bool{false, true} {
		b := newBed(t)
		b.mutable = mutable
		l := b.live(t)
		if err := l.prepare(t.Context(), in("synced")); access.KindOf(err) != access.ExternallyManaged {
			t.Errorf("held: %v, want externally_managed", err)
		}
		if _, err := l.TryGrant(t, in("synced")); access.KindOf(err) != access.ExternallyManaged {
			t.Errorf("granting: %v, want externally_managed", err)
		}
		if _, changes := b.asked(); len(changes) > 0 {
			t.Errorf("an external group was tried: %v", changes)
		}
		if names, notes := catalog(t, l.Integration); slices.Contains(names, "synced") || !strings.Contains(notes["synced"], "identity provider") {
			t.Errorf("discovery offers an external group, or does not say why not: %v, %v", names, notes)
		}

		// A group that an identity provider takes over while somebody is in it.
		l.grant(t, access.Granted, in("analysts"))
		b.locked(func() { b.analysts.ExternalId = "00u2" })
		res, err := l.TryRevoke(t, in("analysts"))
		switch {
		case mutable && (err != nil || res.Entries[0].Outcome != access.Gone || b.within(b.analysts, l.Account)):
			t.Errorf("revoking where the account lets us: %+v, %v", res.Entries, err)
		case !mutable && (access.KindOf(err) != access.ExternallyManaged || !b.within(b.analysts, l.Account)):
			t.Errorf("revoking where the account refuses: %+v, %v; want externally_managed", res.Entries, err)
		}
	}
}

func TestDB10SystemGroupsAreNeverOffered(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	l := b.live(t)
	names, notes := catalog(t, l.Integration)
	for name, want := range map[string]access.ErrorKind{"account users": access.Unsupported, "local": access.Unsupported, "admins of all": access.Invalid} {
		if _, noted := notes[name]; slices.Contains(names, name) || noted != (want == access.Invalid) {
			t.Errorf("discovery offers %s, or has a note of it: %t", name, noted)
		}
		if _, err := l.TryGrant(t, in(name)); access.KindOf(err) != want {
			t.Errorf("granting %s: %v, want %s", name, err, want)
		}
	}
	b.asked()
	l.Integration = b.start(t, b.target(func(c *databricks.Config, _ *databricks.Secret) { c.AdminGroups = true }))
	page, err := l.Discover(t.Context(), "")
	n := slices.IndexFunc(page.Resources, func(f access.Found) bool { return f.Resource == in("admins of all").Resource })
	if err != nil || n < 0 || page.Resources[n].Tags["roles"] != "account_admin" || page.Resources[n].Note == "" {
		t.Errorf("with admin_groups: %+v, %v", page.Resources, err)
	}
	l.grant(t, access.Granted, in("admins of all"))
}

// TestDB11 repeats as Lapse does: the room itself never waits for a limit.
func TestDB11ALimitIsSaidAtOnceAndAWrongSecretAsSuch(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	l := b.live(t)
	if err := l.prepare(t.Context(), in("analysts")); err != nil {
		t.Fatal(err)
	}
	left := 3
	b.behave(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPatch || left == 0 {
			return false
		}
		left--
		w.Header().Set("Retry-After", "11")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	b.asked()
	quick(t, "three limits and a grant", func() {
		for range 3 {
			_, err := l.TryGrant(t, in("analysts"))
			if e, _ := errors.AsType[*access.Error](err); e == nil || e.Kind != access.RateLimited || e.After != 11*time.Second {
				t.Fatalf("%v, want rate_limited after 11 s", err)
			}
		}
		if _, err := l.TryGrant(t, in("analysts")); err != nil {
			t.Fatal(err)
		}
	})
	requests, _ := b.asked()
	if n := len(slices.DeleteFunc(requests, func(r string) bool { return !strings.HasPrefix(r, "PATCH") })); n != 4 {
		t.Errorf("%d PATCHes, want 4", n)
	}
	b.locked(func() { b.secret = "another" })
	l.restarted(t, b.account)
	if _, err := l.TryRevoke(t, in("analysts")); access.KindOf(err) != access.Auth || strings.Contains(err.Error(), "canary") {
		t.Errorf("with a wrong secret: %v, want auth", err)
	}
}

func TestDB12AThrottledLoginIsNoWrongSecret(t *testing.T) {
	t.Parallel()
	for status, body := range map[int]string{
		400: `{"error":"invalid_request","error_description":"Temporarily throttled"}`, 401: `{"error":"invalid_client","error_description":"Temporarily throttled"}`, 429: `slow down`,
	} {
		b := newBed(t)
		b.behave(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasPrefix(r.URL.Path, "/oidc/") {
				return false
			}
			w.Header().Set("Retry-After", "5")
			http.Error(w, body, status)
			return true
		})
		_, err := b.live(t).TryGrant(t, in("analysts"))
		if e, _ := errors.AsType[*access.Error](err); e == nil || e.Kind != access.RateLimited || e.After != 5*time.Second {
			t.Errorf("%d %s: %v, want rate_limited", status, body, err)
		}
	}
}

// lose lets the next PATCHes do their work, and loses their answers.
func (b *bed) lose(times int) {
	b.behave(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPatch || times == 0 {
			return false
		}
		times--
		b.inside(func(_ http.ResponseWriter, r *http.Request) {
			r.SetPathValue("id", r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:])
			b.patchGroup(nowhere{}, r)
		}).ServeHTTP(nowhere{}, r)
		panic(http.ErrAbortHandler)
	})
}

// nowhere takes an answer that is lost.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (nowhere) WriteHeader(int)             {}

func TestDB13AnAdditionWhoseAnswerIsLostIsNoBaseline(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	l := b.live(t)
	if err := l.prepare(t.Context(), in("analysts")); err != nil {
		t.Fatal(err)
	}
	b.lose(1)
	if _, err := l.TryGrant(t, in("analysts")); access.KindOf(err) != access.Retry {
		t.Fatalf("%v, want retry", err)
	}
	if !b.within(b.analysts, l.Account) {
		t.Fatal("the model did not do what it lost the answer of")
	}
	b.time.pass(time.Minute)
	l.restarted(t, b.account)
	res, err := l.TryGrant(t, in("analysts"))
	if err != nil || res.Entries[0].Outcome != access.Granted {
		t.Fatalf("%+v, %v; want granted", res.Entries, err)
	}
	b.lose(1)
	if _, err := l.TryRevoke(t, in("analysts")); access.KindOf(err) != access.Retry {
		t.Fatalf("%v, want retry", err)
	}
	l.restarted(t, b.account)
	if _, err := l.TryRevoke(t, in("analysts")); err != nil || b.within(b.analysts, l.Account) {
		t.Errorf("the revoke again: %v; in the group: %t", err, b.within(b.analysts, l.Account))
	}
}

func TestDB14WhatIsGoneIsRemovedAndWhatIsNotSeenIsNot(t *testing.T) {
	t.Parallel()
	granted := func(t *testing.T) (*bed, *life) {
		b := newBed(t)
		l := b.live(t)
		l.grant(t, access.Granted, in("analysts"))
		return b, l
	}
	t.Run("the user is deleted", func(t *testing.T) {
		b, l := granted(t)
		b.locked(func() {
			id := b.userOf(l.Account)
			b.users = slices.DeleteFunc(b.users, func(u iam.AccountUser) bool { return u.Id == id })
			b.set(b.analysts, slices.DeleteFunc(slices.Clone(b.analysts.Members), is(id)))
		})
		b.time.pass(b.lag)
		l.revoke(t, access.WasGone, in("analysts"))
	})
	t.Run("the user has another name", func(t *testing.T) {
		b, l := granted(t)
		b.locked(func() { b.users[len(b.users)-1].UserName = "else@example.com" })
		if got := l.Verified(t, in("analysts")).Outcome; got != access.Granted {
			t.Errorf("verified: %s", got)
		}
		l.revoke(t, access.Gone, in("analysts"))
		if n := len(b.analysts.Members); n != 3 {
			t.Errorf("%d members, want 3", n)
		}
	})
	for _, admin := range []bool{true, false} {
		t.Run(fmt.Sprintf("the group is deleted, the connector is an admin: %t", admin), func(t *testing.T) {
			b, l := granted(t)
			b.locked(func() {
				b.groups = slices.DeleteFunc(b.groups, func(g *modelGroup) bool { return g == b.analysts })
				if !admin {
					b.principals[0].Roles = nil
				}
			})
			if admin {
				l.revoke(t, access.WasGone, in("analysts"))
			} else if _, err := l.TryRevoke(t, in("analysts")); access.KindOf(err) != access.Privilege {
				t.Errorf("%v, want privilege: the group may only be hidden", err)
			}
		})
	}
	t.Run("the group has another name, and another group has its name", func(t *testing.T) {
		b, l := granted(t)
		b.locked(func() { b.analysts.DisplayName = "analysts of old" })
		anew := b.group("analysts")
		l.grant(t, access.Granted, in("analysts"))
		if !b.within(anew, l.Account) {
			t.Error("the person is not in the new group")
		}
		l.revoke(t, access.Gone, in("analysts"))
		if b.within(anew, l.Account) || b.within(b.analysts, l.Account) {
			t.Errorf("in the new group: %t; in the old one: %t", b.within(anew, l.Account), b.within(b.analysts, l.Account))
		}
	})
	t.Run("the group is deleted while the removal is awaited", func(t *testing.T) {
		b, l := granted(t)
		patched := false
		b.behave(func(_ http.ResponseWriter, r *http.Request) bool {
			if patched {
				b.locked(func() { b.groups = slices.DeleteFunc(b.groups, func(g *modelGroup) bool { return g == b.analysts }) })
			}
			patched = patched || r.Method == http.MethodPatch
			return false
		})
		l.revoke(t, access.Gone, in("analysts"))
	})
	t.Run("the group is listed and cannot be read", func(t *testing.T) {
		b, l := granted(t)
		b.behave(func(w http.ResponseWriter, r *http.Request) bool {
			hidden := r.URL.Path == b.analysts.path()
			if hidden {
				refuse(w, http.StatusNotFound, "RESOURCE_DOES_NOT_EXIST", "canary")
			}
			return hidden
		})
		if got := l.Verified(t, in("analysts")).Outcome; got != access.Gone { // deleted since it was listed
			t.Errorf("verified by an admin: %s, want gone", got)
		}
		b.locked(func() { b.principals[0].Roles = nil })
		if entries, err := l.Verify(t.Context(), l.Account, []access.Entitlement{in("analysts")}); access.KindOf(err) != access.Privilege {
			t.Errorf("verified by somebody else: %+v, %v; want privilege", entries, err)
		}
	})
	t.Run("the account's id is wrong", func(t *testing.T) {
		b, l := granted(t)
		wrong := b.target(func(c *databricks.Config, _ *databricks.Secret) {
			c.AccountID = strings.Replace(accountID, "2b", "2c", 1)
		})
		l.Integration = b.start(t, wrong)
		if res, err := l.TryRevoke(t, in("analysts")); err == nil {
			t.Errorf("%+v, want an error", res.Entries)
		}
		// A token for one account that is used for another finds nothing either.
		b.behave(func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasPrefix(r.URL.Path, "/oidc/") {
				say(w, http.StatusOK, map[string]any{"access_token": adminToken, "token_type": "Bearer", "expires_in": 3600})
				return true
			}
			return false
		})
		l.Integration = b.start(t, wrong)
		if res, err := l.TryRevoke(t, in("analysts")); err == nil {
			t.Errorf("%+v, want an error", res.Entries)
		}
		if entries, err := l.Verify(t.Context(), l.Account, []access.Entitlement{in("analysts")}); access.KindOf(err) != access.Invalid {
			t.Errorf("verifying: %+v, %v; want invalid", entries, err)
		}
		if !b.within(b.analysts, l.Account) {
			t.Error("the person was removed")
		}
	})
}

func TestDB15AChangeThatShowsLaterIsAwaited(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.lag = 3 * time.Second
	l := b.live(t)
	l.grant(t, access.Granted, in("analysts"))
	l.revoke(t, access.Gone, in("analysts"))

	b.time.pass(databricks.Settles)
	b.lag = 30 * time.Second
	quick(t, "a change that shows after half a minute", func() { l.grant(t, access.Propagating, in("analysts")) })
	if got := l.Verified(t, in("analysts")).Outcome; got != access.Propagating {
		t.Errorf("verified: %s, want propagating", got)
	}
	b.time.pass(b.lag)
	if got := l.Verified(t, in("analysts")).Outcome; got != access.Granted {
		t.Errorf("verified later: %s, want granted", got)
	}
	l.revoke(t, access.Propagating, in("analysts"))
	if got := l.Verified(t, in("analysts")).Outcome; got != access.Propagating {
		t.Errorf("verified after the revoke: %s, want propagating", got)
	}
	b.time.pass(b.lag)
	if got := l.Verified(t, in("analysts")).Outcome; got != access.Gone {
		t.Errorf("verified later: %s, want gone", got)
	}
}

func TestDB16MembershipByAnotherGroupIsNone(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	l := b.live(t)
	inner := b.groups[0]
	b.join(inner, b.userOf(l.Account))
	if got := l.Verified(t, in("analysts")).Outcome; got != access.Gone {
		t.Errorf("verified: %s, want gone", got)
	}
	l.grant(t, access.Granted, in("analysts"))
	l.revoke(t, access.Gone, in("analysts"))
	if !b.within(inner, l.Account) || !b.analysts.has(inner.Id) || b.within(b.analysts, l.Account) {
		t.Error("the nesting was changed, or the person is still in the outer group")
	}
}

func TestDB17OnlyUsersArePeople(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	l := b.live(t)
	id := b.userOf(l.Account)
	b.locked(func() {
		b.set(b.analysts, []iam.ComplexValue{{Value: id, Ref: "Groups/" + id}, {Value: id, Ref: "ServicePrincipals/" + id}})
	})
	b.time.pass(b.lag)
	if got := l.Verified(t, in("analysts")).Outcome; got != access.Gone {
		t.Errorf("a group with a user's id makes the user a member: %s", got)
	}
	for _, ref := range []string{"Users/" + id, "https://example.com/api/2.0/accounts/x/scim/v2/Users/" + id, ""} {
		b.locked(func() { b.set(b.analysts, []iam.ComplexValue{{Value: id, Ref: ref}}) })
		b.time.pass(b.lag)
		if got := l.Verified(t, in("analysts")).Outcome; got != access.Granted {
			t.Errorf("%q: %s, want granted", ref, got)
		}
	}
	if page, err := l.Accounts(t.Context(), ""); err != nil || len(page.Principals) > 0 || page.Next != "" {
		t.Errorf("accounts with a mark: %+v, %v", page, err)
	}
}

func TestDB18TheNewerAPISaysWhoMadeAMembership(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.newer = true
	l := b.live(t)
	l.grant(t, access.Granted, in("analysts"))
	b.fromIdP[b.analysts.Id+"/"+b.userOf(l.Account)] = true
	b.asked()
	if _, err := l.TryRevoke(t, in("analysts")); access.KindOf(err) != access.ExternallyManaged {
		t.Errorf("an identity provider made the membership its own: %v, want externally_managed", err)
	}
	if _, changes := b.asked(); len(changes) > 0 {
		t.Errorf("it was tried: %v", changes)
	}
	clear(b.fromIdP)
	l.revoke(t, access.Gone, in("analysts"))

	// Where the account does not have it, it is asked for once.
	b.newer = false
	b.asked()
	for range 2 {
		l.grant(t, access.Granted, in("engineers"))
		l.revoke(t, access.Gone, in("engineers"))
		b.time.pass(databricks.Settles + time.Second)
	}
	requests, _ := b.asked()
	if n := len(slices.DeleteFunc(requests, func(r string) bool { return !strings.Contains(r, "/identity/") })); n != 1 {
		t.Errorf("asked %d times for an API that is not there", n)
	}
	// What it refuses or has not heard of is no error either; what fails for now is.
	for status, want := range map[int]access.ErrorKind{403: "", 404: "", 400: "", 503: access.Retry, 429: access.RateLimited} {
		l := b.live(t)
		l.grant(t, access.Granted, in("engineers"))
		b.behave(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/identity/") {
				return false
			}
			refuse(w, status, "SOMETHING", "canary")
			return true
		})
		if _, err := l.TryRevoke(t, in("engineers")); access.KindOf(err) != want {
			t.Errorf("%d: %v, want %q", status, err, want)
		}
		b.behave(nil)
	}
}

func TestDB19AWorkspacesAddressIsExplained(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for _, path := range []string{"/", "//"} {
		report, err := b.start(t, b.target(func(c *databricks.Config, _ *databricks.Secret) { c.AccountsURL += path })).Check(t.Context())
		if err != nil || !report.OK() {
			t.Errorf("with %q behind: %+v, %v", path, report, err)
		}
	}
	// A workspace has its tokens elsewhere.
	b.behave(func(w http.ResponseWriter, r *http.Request) bool {
		refuse(w, http.StatusNotFound, "ENDPOINT_NOT_FOUND", "No API found")
		return true
	})
	report, err := b.start(t, b.target()).Check(t.Context())
	if err != nil || report.OK() || !strings.Contains(report.Items[0].Remedy, "account console") {
		t.Errorf("%+v, %v", report, err)
	}
	for _, host := range []string{"https://adb-1234567890123456.7.azuredatabricks.invalid", "https://dbc-a1b2.cloud.databricks.invalid"} {
		report, err := b.start(t, b.target(func(c *databricks.Config, _ *databricks.Secret) { c.AccountsURL = host })).Check(t.Context())
		if err != nil || report.OK() || !strings.Contains(report.Items[0].Detail, "looks like a workspace") || !strings.Contains(report.Items[0].Remedy, "account console") {
			t.Errorf("%s: %+v, %v", host, report, err)
		}
	}
	report, err = b.start(t, b.target(func(c *databricks.Config, _ *databricks.Secret) {
		c.AccountsURL = "https://accounts.cloud.databricks.invalid"
	})).Check(t.Context())
	if err != nil || report.OK() || strings.Contains(report.Items[0].Detail, "workspace") {
		t.Errorf("an account console that does not answer: %+v, %v", report, err)
	}
}
