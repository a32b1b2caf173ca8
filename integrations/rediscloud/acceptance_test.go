package rediscloud_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/rediscloud"
	"github.com/lapse-access/lapse/internal/localredis/localredistest"
)

// The acceptance checks of Redis Cloud, by their numbers.

func plain(t testing.TB) *bed {
	t.Helper()
	found := localredistest.Find(t)
	return newBed(t, found[len(found)-1])
}

func remedy(err error) string {
	if e, ok := errors.AsType[*access.Error](err); ok {
		return e.Remedy
	}
	return ""
}

func TestRC01BothKeysAreSentAndARefusalNamesItsCauses(t *testing.T) {
	t.Parallel()
	b := plain(t)
	for _, change := range []func(*rediscloud.Config, *rediscloud.Secret){
		func(_ *rediscloud.Config, s *rediscloud.Secret) { s.APIKey = "wrong" },
		func(_ *rediscloud.Config, s *rediscloud.Secret) { s.SecretKey = "wrong" },
	} {
		if _, err := b.start(t, b.target(change)).Discover(t.Context(), ""); access.KindOf(err) != access.Auth {
			t.Errorf("with one wrong key: %v, want auth", err)
		}
	}
	b.viewer = true
	_, err := b.live(t).TryGrant(t, readOrders)
	if access.KindOf(err) != access.Privilege || !strings.Contains(remedy(err), "CIDR") || !strings.Contains(remedy(err), "Owner") {
		t.Errorf("a viewer's grant: %v, want privilege, and the CIDR list and the role as causes", err)
	}
}

func TestRC02AGrantWaitsForTheTaskAndForActiveTwice(t *testing.T) {
	t.Parallel()
	b := plain(t)
	l := b.live(t)
	o := &observer{b}
	begun := b.time.now()
	l.grant(t, writeOrders)
	if !o.allows(t, b.orders, l.Account.Name, []string{"set", "k", "v"}) {
		t.Error("the grant is said to be there, and the database does not know the user")
	}
	// Two tasks, and ten seconds between two looks at what is active.
	if took := b.time.now().Sub(begun); took < 2*taskProcessing+10*time.Second || took > time.Minute {
		t.Errorf("the grant took %s", took)
	}
	if c := l.Credential(t); !o.CanLogin(t, c) {
		t.Error("the credential is handed over, and no database takes it")
	}
}

func TestRC03ATaskThatIsNotKnownYetIsAwaitedAndAFailureHasItsKind(t *testing.T) {
	t.Parallel()
	b := plain(t)
	b.live(t).grant(t, readOrders) // a new task of the model is not found at first

	lost := 0
	b.mood = func(r *http.Request) (int, bool) {
		if strings.HasPrefix(r.URL.Path, "/v1/tasks/") && lost < 4 {
			lost++
			return http.StatusNotFound, false
		}
		return 0, false
	}
	b.live(t).grant(t, readOrders)
	b.mood = nil

	for code, want := range map[string]access.ErrorKind{
		"DATABASE_NOT_FOUND": access.ResourceMissing, "ACL_REDIS_RULE_DOES_NOT_EXISTS": access.ResourceMissing, "ACL_ROLE_NAME_NOT_VALID": access.Invalid,
		"ACL_GENERAL_ERROR": access.Retry, "SOMETHING_NEW": access.Unknown, "UNAUTHORIZED": access.Auth,
	} {
		b.fail = func(*modelTask) string { return code }
		_, err := b.live(t).TryGrant(t, readOrders)
		if access.KindOf(err) != want || !strings.Contains(err.Error(), code) || strings.Contains(err.Error(), b.apiKey) {
			t.Errorf("a task that fails with %s: %v (%s), want %s", code, err, access.KindOf(err), want)
		}
	}
}

func TestRC04TheStrongestLevelOfADatabaseHolds(t *testing.T) {
	t.Parallel()
	b := plain(t)
	l := b.live(t)
	for _, step := range []struct {
		do   func()
		rule string
	}{
		{func() { l.grant(t, readOrders) }, "Read-Only"},
		{func() { l.grant(t, allOrders) }, "Full-Access"},
		{func() { l.grant(t, writeOrders) }, "Full-Access"},
		{func() { l.Revoke(t, allOrders) }, "Read-Write"},
		{func() { l.Revoke(t, writeOrders) }, "Read-Only"},
	} {
		step.do()
		if diff := cmp.Diff(map[string]string{"production/orders": step.rule}, l.shown(b.cloud)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestRC05TheOtherDatabaseStaysAndTheUserIsUntouched(t *testing.T) {
	t.Parallel()
	b := plain(t)
	l := b.live(t)
	l.grant(t, writeOrders, readMails)
	c := l.Credential(t)
	var before, after modelUser
	b.locked(func() { before = *b.user(l.Account.Name) })
	b.requests = nil
	l.Revoke(t, writeOrders)
	b.locked(func() { after = *b.user(l.Account.Name) })
	if before != after || slices.ContainsFunc(b.requests, func(r string) bool { return strings.Contains(r, "/acl/users") }) {
		t.Errorf("the user was changed: %v", b.requests)
	}
	if diff := cmp.Diff(map[string]string{"production/mails": "Read-Only"}, l.shown(b.cloud)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !(&observer{b}).CanLogin(t, c) {
		t.Error("the credential is dead, though something is held")
	}
}

func TestRC06TheLastRevokeDeletesTheUserAndThenTheRole(t *testing.T) {
	t.Parallel()
	b := plain(t)
	l := b.live(t)
	l.grant(t, writeOrders)
	b.requests = nil
	if entry := l.Revoke(t, writeOrders); entry.Outcome != access.Gone {
		t.Errorf("%+v", entry)
	}
	var kinds []string
	for _, r := range b.requests {
		kinds = append(kinds, r[:strings.LastIndex(r, "/")])
	}
	// The role is refused as long as the user is on its way out.
	if kinds[0] != "DELETE /v1/acl/users" || slices.Contains(kinds[1:], "DELETE /v1/acl/users") || kinds[len(kinds)-1] != "DELETE /v1/acl/roles" {
		t.Errorf("the changes were %v, want the user and then the role", kinds)
	}
	b.locked(func() {
		if b.user(l.Account.Name) != nil || slices.ContainsFunc(b.roles, func(r *modelRole) bool { return strings.HasPrefix(r.name, "lapse_") }) {
			t.Error("something is left")
		}
	})
}

// A wrong address answers 404 to everything, which must not look like an account
// that is not there.
func TestAWrongAddressIsNoEmptyAccount(t *testing.T) {
	t.Parallel()
	b := plain(t)
	l := b.live(t)
	l.grant(t, writeOrders)
	l.Integration = b.start(t, b.target(func(c *rediscloud.Config, _ *rediscloud.Secret) { c.APIURL += "/v2" }))
	if res, err := l.TryRevoke(t, writeOrders); access.KindOf(err) != access.Invalid {
		t.Errorf("revoking at a wrong address: %+v, %v; want invalid", res.Entries, err)
	}
	if entries, err := l.Verify(t.Context(), l.Account, []access.Entitlement{writeOrders}); access.KindOf(err) != access.Invalid {
		t.Errorf("verifying at a wrong address: %+v, %v; want invalid", entries, err)
	}
}

func TestRC07ANewGrantMakesANewPassword(t *testing.T) {
	t.Parallel()
	b := plain(t)
	l, o := b.live(t), &observer{b}
	l.grant(t, writeOrders)
	first := l.Credential(t)
	l.Revoke(t, writeOrders)
	l.grant(t, writeOrders)
	if o.CanLogin(t, first) {
		t.Error("the password of the deleted user works again")
	}
	if second := l.Credential(t); second.Password == first.Password || !o.CanLogin(t, second) {
		t.Error("the new credential does not work, or has the old password")
	}
}

func TestRC08AfterAnAnswerThatWasLostNothingIsMadeTwice(t *testing.T) {
	t.Parallel()
	for _, lose := range []string{"POST /v1/acl/roles", "POST /v1/acl/users", "DELETE /v1/acl/users", "DELETE /v1/acl/roles"} {
		b := plain(t)
		l := b.live(t)
		b.mood = func(r *http.Request) (int, bool) {
			hit := strings.HasPrefix(r.Method+" "+r.URL.Path, lose)
			if hit {
				b.mood = nil
			}
			return 0, hit
		}
		insist(t, l, "granting", func() (integrations.GrantResult, error) { return l.TryGrant(t, writeOrders) })
		insist(t, l, "revoking", func() (integrations.RevokeResult, error) { return l.TryRevoke(t, writeOrders) })
		if b.mood != nil {
			t.Errorf("%s was never asked for", lose)
		}
		counts := map[string]int{}
		for _, task := range b.tasks {
			if task.Status == "processing-completed" {
				counts[task.Command]++
			}
		}
		want := map[string]int{"aclRoleCreateRequest": 1, "aclUserCreateRequest": 1, "aclUserDeleteRequest": 1, "aclRoleDeleteRequest": 1}
		if diff := cmp.Diff(want, counts); diff != "" {
			t.Errorf("the answer to %s was lost (-want +got):\n%s", lose, diff)
		}
		if len(b.users) > 0 {
			t.Errorf("the answer to %s was lost: a user is left", lose)
		}
	}
}

func TestRC09WhatIsPendingIsAwaitedAndAsksForAnotherTry(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"ACL_ROLE_IS_IN_PENDING_STATUS_AND_CANNOT_BE_UPDATED", "ACL_REDIS_RULE_NOT_ACTIVE", "SUBSCRIPTION_NOT_ACTIVE", "CLUSTER_UNDER_MAINTENANCE", "DATABASE_NOT_ACTIVE"} {
		b := plain(t)
		tries := 0
		b.fail = func(*modelTask) string {
			if tries++; tries < 4 {
				return code
			}
			return ""
		}
		b.live(t).grant(t, writeOrders)
		if tries < 4 {
			t.Errorf("%s: %d tries", code, tries)
		}
		b.fail = func(*modelTask) string { return code }
		begun := b.time.now()
		_, err := b.live(t).TryGrant(t, writeOrders)
		if took := b.time.now().Sub(begun); access.KindOf(err) != access.Retry || took < rediscloud.Patience {
			t.Errorf("%s for ever: %v after %s, want retry", code, err, took)
		}
	}
}

func TestRC10TwoIntegrationsOfOneAccountTakeTurns(t *testing.T) {
	t.Parallel()
	b := plain(t)
	other := b.target()
	other.ID = "rc-other"
	var wg sync.WaitGroup
	for n := range 10 {
		l := b.live(t)
		if n%2 == 1 {
			l.Integration = b.start(t, other)
		}
		wg.Go(func() {
			if _, err := l.TryGrant(t, readMails); err != nil {
				t.Errorf("one of ten grants at once: %v", err)
			}
		})
	}
	wg.Wait()
	if b.overlapped > 0 {
		t.Errorf("%d changes were asked for while another one ran", b.overlapped)
	}
	if len(b.users) != 10 {
		t.Errorf("ten grants made %d users", len(b.users))
	}
}

func TestRC11ADelayIsHonouredAndTheRateIsKept(t *testing.T) {
	t.Parallel()
	b := plain(t)
	for _, header := range []string{"X-Rate-Limit-Retry-After-Seconds", "Retry-After"} {
		b.throttled, b.header, b.delay = true, header, 17*time.Second
		_, err := b.live(t).TryGrant(t, readMails)
		if e, _ := errors.AsType[*access.Error](err); e == nil || e.Kind != access.RateLimited || e.After != b.delay {
			t.Errorf("asked to wait by %s: %+v", header, err)
		}
	}
	b.throttled, b.delay = false, 0
	most := 0
	b.mood = func(*http.Request) (int, bool) {
		most = max(most, len(b.calls))
		return 0, false
	}
	var wg sync.WaitGroup
	for range 30 {
		l := b.live(t)
		wg.Go(func() {
			if _, err := l.TryGrant(t, readMails); err != nil {
				t.Errorf("one of thirty grants at once: %v", err)
			}
		})
	}
	wg.Wait()
	if most > 400 || most < 50 {
		t.Errorf("%d calls in a minute", most)
	}
	t.Logf("thirty grants made at most %d calls in a minute", most)
}

func TestRC12TwoRulesThatCannotBeOneAreRefused(t *testing.T) {
	t.Parallel()
	b := plain(t)
	l := b.live(t)
	readCarts, allCarts := entitlement("read_only", "database", "production", "carts"), entitlement("full_access", "database", "production", "carts")
	if _, err := l.TryGrant(t, useCarts, readCarts); access.KindOf(err) != access.Invalid {
		t.Errorf("a rule and a level at once: %v, want invalid", err)
	}
	l.grant(t, useCarts)
	b.requests = nil
	for _, e := range []access.Entitlement{readCarts, auditors} {
		if _, err := l.TryGrant(t, e); access.KindOf(err) != access.Invalid || !strings.Contains(err.Error(), "already has") {
			t.Errorf("%s beside a rule: %v, want invalid", e, err)
		}
	}
	if len(b.requests) > 0 {
		t.Errorf("something was written: %v", b.requests)
	}
	l.grant(t, allCarts)
	l.Revoke(t, allCarts)
	if diff := cmp.Diff(map[string]string{"production/carts": "carts only"}, l.shown(b.cloud)); diff != "" {
		t.Errorf("after Full-Access went (-want +got):\n%s", diff)
	}
}

func TestRC13WhatSomebodyDidToTheAccountIsReported(t *testing.T) {
	t.Parallel()
	b := plain(t)
	l := b.live(t)
	l.grant(t, writeOrders)
	// Somebody gives the account another role, and its role to somebody else.
	b.locked(func() {
		b.user(l.Account.Name).Role = "auditors"
		b.users = append(b.users, &modelUser{ID: b.next(), Name: "friend", Role: rediscloud.RoleName(l.Integration, l.Account.PersonID), Status: "active"})
	})
	page, err := l.Accounts(t.Context(), "")
	if err != nil || len(page.Principals) != 1 || len(page.Principals[0].Foreign) != 2 || page.Principals[0].Name != l.Account.Name {
		t.Errorf("the list says %+v, %v; want the account, its other role and the other user", page.Principals, err)
	}
	if entries, err := l.Verify(t.Context(), l.Account, []access.Entitlement{writeOrders}); err != nil || entries[0].Outcome != access.Gone {
		t.Errorf("verifying: %+v, %v; want gone", entries, err)
	}
	// A grant puts the account's own role back.
	if res := l.grant(t, readMails); len(res.Notes) != 1 || !strings.HasPrefix(res.Notes[0], "drift") {
		t.Errorf("notes: %v", res.Notes)
	}
	// The last revoke deletes our user, and leaves the other one and what it has.
	res, err := l.TryRevoke(t, writeOrders, readMails)
	if err != nil || len(res.Notes) != 1 || !strings.Contains(res.Notes[0], "friend") || res.Entries[0].Outcome != access.Gone {
		t.Errorf("%+v, notes %v, %v", res.Entries, res.Notes, err)
	}
	b.locked(func() {
		if b.user(l.Account.Name) != nil || b.user("friend") == nil {
			t.Error("our user is left, or the other one is gone")
		}
	})

	// A user with a name like ours, and no role of ours, is somebody else's.
	stranger := someone()
	stranger.Name = "lapse_stranger_01234567"
	b.locked(func() {
		b.users = append(b.users, &modelUser{ID: b.next(), Name: stranger.Name, Role: "auditors", Status: "active"})
	})
	if _, err := l.DeleteAccount(t.Context(), integrations.DeleteRequest{Account: stranger}); access.KindOf(err) != access.NameTaken {
		t.Errorf("deleting a stranger: %v, want name_taken", err)
	}
}

func TestRC14ANewPasswordKeepsTheRole(t *testing.T) {
	t.Parallel()
	b := plain(t)
	l, o := b.live(t), &observer{b}
	l.grant(t, writeOrders)
	first := l.Credential(t)
	rules := l.shown(b.cloud)
	second := l.Credential(t)
	if diff := cmp.Diff(rules, l.shown(b.cloud)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
	if o.CanLogin(t, first) || !o.CanLogin(t, second) {
		t.Error("the old password works, or the new one does not")
	}
	if want := "redis-cli -h 127.0.0.1 -p " + second.Details["port"] + " --tls --user " + l.Account.Name + " --askpass"; second.Command != want {
		t.Errorf("the command is %s, want %s", second.Command, want)
	}
}

func TestRC15ADatabaseThatWasDeletedIsNoObstacle(t *testing.T) {
	t.Parallel()
	b := plain(t)
	l := b.live(t)
	l.grant(t, writeOrders, readMails, useCarts)
	b.locked(func() {
		s := b.subscriptions[0]
		s.databases = slices.DeleteFunc(s.databases, func(d *modelDatabase) bool { return d == b.mails })
	})
	// A role that still lists it is refused.
	if entry := l.Revoke(t, useCarts); entry.Outcome != access.Gone {
		t.Errorf("revoking beside a deleted database: %+v", entry)
	}
	if diff := cmp.Diff(map[string]string{"production/orders": "Read-Write"}, l.shown(b.cloud)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	l.Revoke(t, readMails)
	l.grant(t, useCarts)
	l.Revoke(t, writeOrders, useCarts)
}

// TestRC16: every request of every test is held against testdata/api.json, as is
// seen in (*cloud).serve; here that a wrong one is found.
func TestRC16RequestsAreAsTheVendorDescribesThem(t *testing.T) {
	d := readDescription(t)
	for _, test := range []struct{ operation, body, fault string }{
		{"POST /v1/acl/users", `{"name": "n", "role": "r", "password": "p"}`, ""},
		{"POST /v1/acl/users", `{"name": "n", "role": "r"}`, "password is missing"},
		{"POST /v1/acl/users", `{"name": "n", "role": "r", "password": "p", "id": 1}`, "there is no property id"},
		{"PUT /v1/acl/users/{aclUserId}", `{"password": 1}`, "password is no string"},
		{"POST /v1/acl/roles", `{"name": "n", "redisRules": [{"ruleName": "r", "databases": [{"subscriptionId": 1, "databaseId": 2}]}]}`, ""},
		{"POST /v1/acl/roles", `{"name": "n", "redisRules": [{"ruleName": "r", "databases": [{"subscriptionId": 1}]}]}`, "databaseId is missing"},
		{"POST /v1/acl/roles", `{"name": "n", "redisRules": [{"ruleName": "r", "databases": [{"subscriptionId": 1, "databaseId": 4294967296}]}]}`, "databaseId is no integer"},
		{"DELETE /v1/acl/roles/{aclRoleId}", `{}`, "it has a body"},
		{"PATCH /v1/acl/roles", "", "there is no such operation"},
		{"GET /v1/acl/roles", "", ""},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(test.body))
		r.Header.Set("Content-Type", "application/json")
		if got := d.check(test.operation, r); got != test.fault {
			t.Errorf("%s %s: %q, want %q", test.operation, test.body, got, test.fault)
		}
	}
}

// TestTenGrantsAtOnce runs ten grants of one account at once: one task at a time,
// and nobody hears of a 429.
func TestTenGrantsAtOnce(t *testing.T) {
	t.Parallel()
	b := plain(t)
	lives := make([]*life, 10)
	var wg sync.WaitGroup
	for n := range lives {
		l := b.live(t)
		lives[n] = l
		l.asked = func(kind access.ErrorKind) { t.Errorf("a person hears of %s", kind) }
		wg.Go(func() {
			if _, err := l.TryGrant(t, readMails); err != nil {
				t.Errorf("one of ten grants at once: %v (%s)", err, access.KindOf(err))
			}
		})
	}
	wg.Wait()
	if b.overlapped > 0 {
		t.Errorf("%d changes were refused with 429", b.overlapped)
	}
	for _, l := range lives {
		if !(&observer{b}).Can(t, l.Account, readMails) {
			t.Errorf("%s has nothing", l.Account.Name)
		}
	}
}

// TestARevokeDoesNotQueueBehindGrants: of ten grants that wait, two at most come
// before a revoke.
func TestARevokeDoesNotQueueBehindGrants(t *testing.T) {
	t.Parallel()
	b := plain(t)
	l := b.live(t)
	l.grant(t, writeOrders)
	var wg sync.WaitGroup
	started := make(chan bool, 10)
	for range 10 {
		other := b.live(t)
		wg.Go(func() {
			started <- true
			if _, err := other.TryGrant(t, readMails); err != nil {
				t.Error(err)
			}
		})
	}
	for range 10 {
		<-started
	}
	var before int
	b.locked(func() { before = len(b.requests) })
	l.Revoke(t, writeOrders)
	wg.Wait()
	grants := 0
	for _, r := range b.requests[before:] {
		if strings.HasPrefix(r, "DELETE /v1/acl/users") {
			break
		}
		if r == "POST /v1/acl/users" {
			grants++
		}
	}
	if grants > 3 { // one may have been under way when we looked
		t.Errorf("%d grants came before the revoke", grants)
	}
}

// TestRefusedIsNeverGone: the connector's key has become a viewer's.
func TestRefusedIsNeverGone(t *testing.T) {
	t.Parallel()
	b := plain(t)
	l := b.live(t)
	l.grant(t, writeOrders)
	b.viewer = true
	if res, err := l.TryRevoke(t, writeOrders); access.KindOf(err) != access.Privilege {
		t.Errorf("revoking what is refused: %+v, %v; want privilege", res.Entries, err)
	}
	if entries, err := l.Verify(t.Context(), l.Account, []access.Entitlement{writeOrders}); err != nil || entries[0].Outcome != access.Granted {
		t.Errorf("verifying: %+v, %v; want granted", entries, err)
	}
	b.viewer = false
	if entry := l.Revoke(t, writeOrders); entry.Outcome != access.Gone {
		t.Errorf("once we may again: %+v", entry)
	}
}

// TestPendingForFiveMinutes lets each task of a grant and of a revoke take five
// minutes: it is Propagating, or asks for another try, and never fails.
func TestPendingForFiveMinutes(t *testing.T) {
	t.Parallel()
	b := plain(t)
	l, o := b.live(t), &observer{b}
	const five = 5 * time.Minute
	b.processing = five
	tries := map[access.ErrorKind]int{}
	l.asked = func(kind access.ErrorKind) { tries[kind]++ }

	begun := b.time.now()
	res := insist(t, l, "granting", func() (integrations.GrantResult, error) { return l.TryGrant(t, writeOrders) })
	if res.Entries[0].Outcome != access.Propagating {
		t.Errorf("a grant whose last task runs: %+v, want propagating", res.Entries[0])
	}
	entries, waited := l.settle(t, res.Entries)
	if entries[0].Outcome != access.Granted || waited < 60 || !o.Can(t, l.Account, writeOrders) {
		t.Errorf("after %d seconds: %+v", waited, entries[0])
	}
	if took := b.time.now().Sub(begun); took < 2*five || tries[access.Retry] == 0 {
		t.Errorf("two tasks of five minutes took %s, with %v", took, tries)
	}

	entries = insist(t, l, "revoking", func() (integrations.RevokeResult, error) { return l.TryRevoke(t, writeOrders) }).Entries
	for tries := 0; entries[0].Outcome == access.Propagating; tries++ {
		if o.user(l.Account.Name) == nil || tries > 10 {
			t.Fatalf("the user is gone, or it is the %dth time, and still: %+v", tries, entries[0])
		}
		if entries, _ = l.settle(t, entries); entries[0].Outcome != access.Gone {
			t.Fatalf("verifying: %+v", entries[0])
		}
	}
	if o.Can(t, l.Account, writeOrders) {
		t.Error("the access is said to be gone, and is there")
	}
}

// TestBadDays goes through an account's life while the API misbehaves.
func TestBadDays(t *testing.T) {
	t.Parallel()
	// now and then, by chance, but in every run the same.
	now := func(chance int, mood func() (int, bool)) func(*http.Request) (int, bool) {
		dice := rand.New(rand.NewPCG(1, 2))
		return func(*http.Request) (int, bool) {
			if dice.IntN(chance) == 0 {
				return mood()
			}
			return 0, false
		}
	}
	days := map[string]func(c *cloud){
		"throttles, with and without a delay": func(c *cloud) {
			c.mood = now(12, func() (int, bool) {
				c.delay = 5*time.Second - c.delay
				return http.StatusTooManyRequests, false
			})
		},
		"fails":         func(c *cloud) { c.mood = now(12, func() (int, bool) { return http.StatusServiceUnavailable, false }) },
		"loses answers": func(c *cloud) { c.mood = now(8, func() (int, bool) { return 0, true }) },
		"tasks fail": func(c *cloud) {
			count := 0
			c.fail = func(*modelTask) string {
				if count++; count%3 == 0 {
					return "ACL_GENERAL_ERROR"
				}
				return ""
			}
		},
		"somebody else makes changes too": func(c *cloud) {
			c.mood = now(20, func() (int, bool) {
				at := c.time.now()
				other := &modelTask{ID: fmt.Sprintf("166d7f69-f35b-41ed-9129-%012d", c.next()), Command: "databaseUpdateRequest", Status: "received", Stamp: at}
				c.tasks = append(c.tasks, other)
				c.after(at, 20*time.Second, func() { other.Status = "processing-completed" })
				return 0, false
			})
		},
	}
	for name, day := range days {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := plain(t)
			day(b.cloud)
			l, o := b.live(t), &observer{b}
			for range 3 {
				for _, e := range []access.Entitlement{writeOrders, useCarts} {
					res := insist(t, l, "granting", func() (integrations.GrantResult, error) { return l.TryGrant(t, e) })
					if entries, _ := l.settle(t, res.Entries); entries[0].Outcome != access.Granted || !o.Can(t, l.Account, e) {
						t.Fatalf("after the grant: %+v", entries)
					}
				}
				c := insist(t, l, "making a credential", func() (integrations.Credential, error) { return l.TryCredential(t, false) })
				if !o.CanLogin(t, c) {
					t.Error("the credential does not work")
				}
				for _, e := range []access.Entitlement{useCarts, writeOrders} {
					for propagating := true; propagating; {
						res := insist(t, l, "revoking", func() (integrations.RevokeResult, error) { return l.TryRevoke(t, e) })
						propagating = res.Entries[0].Outcome == access.Propagating
					}
					if o.Can(t, l.Account, e) {
						t.Errorf("after the revoke of %s it can be used", e)
					}
				}
				if o.CanLogin(t, c) {
					t.Error("the credential works after the end")
				}
			}
			b.locked(func() {
				if len(b.users) > 0 || len(b.roles) != 2 {
					t.Errorf("%d users and %d roles are left", len(b.users), len(b.roles))
				}
			})
		})
	}
}
