package integrationtest

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

// opLimit bounds one operation; Lapse's own limits are of this size.
const opLimit = 30 * time.Second

// person plays the part of Lapse's core for one account: it keeps the holds,
// the baseline, what was written and the number of the operation, and asks as
// the core asks.
type person struct {
	access.Account
	held     []access.Entitlement
	slots    map[string]*slot // by key
	wrote    map[string]string
	sequence int64
}

// slot is what the core keeps of a slot for as long as one of its holds is open.
type slot struct {
	holds    []access.Entitlement
	baseline []access.Entitlement
}

// someone makes a new person.
func (h *Harness) someone(t T) *person {
	t.Helper()
	return &person{Account: h.Person(t)}
}

// next is the number of a new operation.
func (p *person) next() int64 {
	p.sequence++
	return p.sequence
}

// others is what must remain while the given entitlements are granted or end.
func (p *person) others(but []access.Entitlement) []access.Claim {
	var claims []access.Claim
	for _, e := range p.held {
		if !slices.Contains(but, e) {
			claims = append(claims, access.Claim{Entitlement: e})
		}
	}
	for _, e := range p.baseline() {
		claims = append(claims, access.Claim{Entitlement: e, Baseline: true})
	}
	return claims
}

// baseline is what the person held before Lapse came, on the slots on which a
// hold is open or ends.
func (p *person) baseline() (held []access.Entitlement) {
	for _, key := range slices.Sorted(maps.Keys(p.slots)) {
		held = append(held, p.slots[key].baseline...)
	}
	return held
}

// open is true while a hold on the slot is open.
func (p *person) open(s *slot) bool {
	return s != nil && slices.ContainsFunc(s.holds, func(e access.Entitlement) bool { return slices.Contains(p.held, e) })
}

func (p *person) grantRequest(want []access.Entitlement) integrations.GrantRequest {
	return integrations.GrantRequest{Account: p.Account, Want: want, Remain: p.others(want), Wrote: maps.Clone(p.wrote),
		End: time.Now().Add(time.Hour), Sequence: p.sequence}
}

func (p *person) revokeRequest(end []access.Entitlement) integrations.RevokeRequest {
	return integrations.RevokeRequest{Account: p.Account, End: end, Remain: p.others(end), Wrote: maps.Clone(p.wrote), Sequence: p.sequence}
}

// prepare reads the baseline, as the core does before the first write, and
// opens the holds.
func (p *person) prepare(t T, pr *process, want ...access.Entitlement) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), opLimit)
	defer cancel()
	slots, err := pr.Held(ctx, p.Account, want)
	pr.h.note(slots, err)
	if err != nil {
		t.Fatalf("reading what %s holds: %v", p.Email, err)
	}
	if p.wrote == nil {
		p.wrote = map[string]string{}
	}
	if p.slots == nil {
		p.slots = map[string]*slot{}
	}
	for _, s := range slots {
		if !p.open(p.slots[s.Key]) {
			// What is held where no hold is open is not Lapse's.
			p.slots[s.Key] = &slot{baseline: s.HeldAs}
		}
		p.slots[s.Key].holds = append(p.slots[s.Key].holds, s.Entitlements...)
		if s.Write != "" {
			p.wrote[s.Key] = s.Write
		}
	}
	for _, e := range want {
		if !slices.Contains(p.held, e) {
			p.held = append(p.held, e)
		}
	}
	p.next()
}

// tryGrant asks for what prepare opened.
func (p *person) tryGrant(t T, pr *process, want ...access.Entitlement) (integrations.GrantResult, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), opLimit)
	defer cancel()
	res, err := pr.Grant(ctx, p.grantRequest(want))
	pr.h.note(res, err)
	if err == nil {
		p.Name, p.wrote = res.AccountName, res.Wrote
	}
	return res, err
}

// grant grants, accepting what is pending, and fails the case when it does not
// work.
func (p *person) grant(t T, pr *process, want ...access.Entitlement) integrations.GrantResult {
	t.Helper()
	p.prepare(t, pr, want...)
	res, err := p.tryGrant(t, pr, want...)
	if err != nil {
		t.Fatalf("granting %v to %s: %v", want, p.Email, err)
	}
	if len(res.Entries) != len(want) {
		t.Fatalf("granting %v: %d entries, want one for each: %+v", want, len(res.Entries), res.Entries)
	}
	for i, e := range res.Entries {
		if e.Entitlement != want[i] {
			t.Errorf("entry %d is for %s, want %s", i, e.Entitlement, want[i])
		}
		if accepter, ok := pr.h.Observer.(Accepter); ok && e.Outcome == access.Pending {
			accepter.Accept(t, p.Account, e)
		} else if e.Outcome != access.Granted && e.Outcome != access.AlreadyHeld && e.Outcome != access.Propagating {
			t.Errorf("granting %s: outcome %s (%v), want granted", e.Entitlement, e.Outcome, e.Facts)
		}
	}
	p.verify(t, pr, want, access.Granted)
	return res
}

// verify demands an outcome of Verify for each, waiting while it propagates.
func (p *person) verify(t T, pr *process, want []access.Entitlement, outcome access.Outcome) {
	t.Helper()
	for _, e := range p.settled(t, pr, want) {
		if e.Outcome != outcome {
			t.Errorf("verifying %s of %s: %s (%v), want %s", e.Entitlement, p.Email, e.Outcome, e.Facts, outcome)
		}
	}
}

// settled is what Verify says once nothing propagates any more.
func (p *person) settled(t T, pr *process, want []access.Entitlement) []access.Entry {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), opLimit)
	defer cancel()
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		entries, err := pr.Verify(ctx, p.Account, want)
		pr.h.note(entries, err)
		if err != nil {
			t.Fatalf("verifying %v of %s: %v", want, p.Email, err)
		}
		if len(entries) != len(want) {
			t.Fatalf("verifying %v: %d entries, want one for each: %+v", want, len(entries), entries)
		}
		if !slices.ContainsFunc(entries, propagating) {
			return entries
		}
		time.Sleep(wait)
	}
}

func propagating(e access.Entry) bool { return e.Outcome == access.Propagating }

// unfinished is what a revoke must not leave it at.
func unfinished(e access.Entry) bool {
	return e.Outcome != access.Gone && e.Outcome != access.WasGone && e.Outcome != access.Lowered
}

// tryRevoke asks for the end of holds.
func (p *person) tryRevoke(t T, pr *process, end ...access.Entitlement) (integrations.RevokeResult, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), opLimit)
	defer cancel()
	res, err := pr.Revoke(ctx, p.revokeRequest(end))
	pr.h.note(res, err)
	if err == nil && !slices.ContainsFunc(res.Entries, propagating) {
		p.ended(end, res)
	}
	return res, err
}

// ended closes holds that were read to be gone.
func (p *person) ended(end []access.Entitlement, res integrations.RevokeResult) {
	p.held = slices.DeleteFunc(p.held, func(e access.Entitlement) bool { return slices.Contains(end, e) })
	maps.DeleteFunc(p.slots, func(_ string, s *slot) bool { return !p.open(s) })
	p.wrote = res.Wrote
}

// revoke revokes and fails the case when it does not work.
func (p *person) revoke(t T, pr *process, end ...access.Entitlement) integrations.RevokeResult {
	t.Helper()
	p.next()
	res, err := p.tryRevoke(t, pr, end...)
	for tries := 0; tries < 3 && err == nil && slices.ContainsFunc(res.Entries, propagating); tries++ {
		if res.Entries = p.settled(t, pr, end); !slices.ContainsFunc(res.Entries, unfinished) {
			p.ended(end, res)
			break
		}
		// Verify does not know what remains: Lapse asks again.
		res, err = p.tryRevoke(t, pr, end...)
	}
	if err != nil {
		t.Fatalf("revoking %v of %s: %v", end, p.Email, err)
	}
	if len(res.Entries) != len(end) {
		t.Fatalf("revoking %v: %d entries, want one for each: %+v", end, len(res.Entries), res.Entries)
	}
	for i, e := range res.Entries {
		if e.Entitlement != end[i] {
			t.Errorf("entry %d is for %s, want %s", i, e.Entitlement, end[i])
		}
		if unfinished(e) {
			t.Errorf("revoking %s: outcome %s (%v)", e.Entitlement, e.Outcome, e.Facts)
		}
	}
	return res
}

// tryCredential asks for a credential.
func (p *person) tryCredential(t T, pr *process) (integrations.Credential, error) {
	t.Helper()
	return p.tryCredentialOf(t, pr, false)
}

// tryCredentialOf is tryCredential for an old one that somebody else may have
// seen.
func (p *person) tryCredentialOf(t T, pr *process, exposed bool) (integrations.Credential, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), opLimit)
	defer cancel()
	c, err := pr.Integration.(integrations.CredentialSetter).SetCredential(ctx, integrations.CredentialRequest{Account: p.Account, Sequence: p.sequence, EndSessions: exposed})
	pr.h.secret(c.Password)
	pr.h.note(c, err)
	return c, err
}

func (p *person) credential(t T, pr *process) integrations.Credential {
	t.Helper()
	p.next()
	c, err := p.tryCredential(t, pr)
	if err != nil {
		t.Fatalf("making a credential for %s: %v", p.Email, err)
	}
	return c
}

// tryDelete asks for the end of the account.
func (p *person) tryDelete(t T, pr *process) (integrations.DeleteResult, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), opLimit)
	defer cancel()
	res, err := pr.DeleteAccount(ctx, integrations.DeleteRequest{Account: p.Account, Sequence: p.sequence})
	pr.h.note(res, err)
	return res, err
}

func (p *person) delete(t T, pr *process) integrations.DeleteResult {
	t.Helper()
	p.next()
	res, err := p.tryDelete(t, pr)
	if err != nil {
		t.Fatalf("deleting the account of %s: %v", p.Email, err)
	}
	return res
}

// can demands what the observer sees.
func (p *person) can(t T, h *Harness, e access.Entitlement, want bool, when string) {
	t.Helper()
	if got := h.Observer.Can(t, p.Account, e); got != want {
		t.Errorf("%s: %s can use %s: %t, want %t", when, p.Email, e, got, want)
	}
}

// marked lists the accounts with our mark that belong to the person.
func (p *person) marked(t T, pr *process) []access.Principal {
	t.Helper()
	return slices.DeleteFunc(pr.everyone(t), func(x access.Principal) bool { return x.AccountID != p.ID })
}

// everyone reads all pages of Accounts.
func (pr *process) everyone(t T) (all []access.Principal) {
	t.Helper()
	for cursor := ""; ; {
		ctx, cancel := context.WithTimeout(t.Context(), opLimit)
		page, err := pr.Accounts(ctx, cursor)
		cancel()
		pr.h.note(page, err)
		if err != nil {
			t.Fatalf("listing the accounts: %v", err)
		}
		all = append(all, page.Principals...)
		if cursor = page.Next; cursor == "" {
			return all
		}
	}
}

// catalog reads all pages of Discover, each with a process of its own.
func (h *Harness) catalog(t T) (all []access.Found, warnings []string) {
	t.Helper()
	for cursor := ""; ; {
		ctx, cancel := context.WithTimeout(t.Context(), opLimit)
		page, err := h.start(t).Discover(ctx, cursor)
		cancel()
		h.note(page, err)
		if err != nil {
			t.Fatalf("discovering: %v", err)
		}
		all, warnings = append(all, page.Resources...), append(warnings, page.Warnings...)
		if cursor = page.Next; cursor == "" {
			return all, warnings
		}
	}
}

// atOnce runs work n times in parallel and waits for all.
func atOnce(n int, work func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { work(i) })
	}
	wg.Wait()
}
