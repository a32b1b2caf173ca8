package integrationtest

import (
	"context"
	"slices"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

var accountCases = []Case{
	{Name: "mark", Promise: "A principal of our name without our mark is never changed, adopted, listed or dropped.", Needs: []Capability{Principals, Strangers}, run: markCase},
	{Name: "delete", Promise: "An account is deleted completely, and deleting it again succeeds.", Needs: []Capability{Principals}, run: deleteCase},
	{Name: "owned", Promise: "What an account owns survives its deletion, out of everybody's reach.", Needs: []Capability{Ownership}, run: owned},
	{Name: "sequence", Promise: "An operation that is older than the last one of the account writes nothing.", Needs: []Capability{Sequence}, run: sequence},
	{Name: "listed", Promise: "The list of accounts says of each exactly what it holds, and what was given to it by hand.", Needs: []Capability{Principals}, run: listed},
	{Name: "drift", Promise: "Access of ours for which there is no hold is taken away by the next revoke, and reported.", Needs: []Capability{Principals}, run: drift},
	{Name: "new-process", Promise: "A process that knows nothing but the stored configuration finishes what another one began.", run: newProcess},
}

// markCase learns the account's name, frees it, and gives it to a stranger.
func markCase(t T, h *Harness) {
	planter := h.Observer.(Planter)
	pr := h.start(t)
	p := h.someone(t)
	p.grant(t, pr, h.Apart[0])
	name := p.Name
	p.revoke(t, pr, h.Apart[0])
	p.delete(t, pr)
	planter.Plant(t, name)

	p.Name = ""
	p.next()
	p.wrote = nil
	if _, err := p.tryGrant(t, pr, h.Apart[0]); access.KindOf(err) != access.NameTaken {
		t.Errorf("granting to a name that is taken: %v (%s), want %s", err, access.KindOf(err), access.NameTaken)
	}
	if h.has(Credentials) {
		if _, err := p.tryCredential(t, pr); access.KindOf(err) != access.NameTaken {
			t.Errorf("a credential for a name that is taken: %v (%s), want %s", err, access.KindOf(err), access.NameTaken)
		}
	}
	if _, err := p.tryDelete(t, pr); access.KindOf(err) != access.NameTaken {
		t.Errorf("deleting a name that is taken: %v (%s), want %s", err, access.KindOf(err), access.NameTaken)
	}
	p.revoke(t, pr, h.Apart[0])
	if !planter.Untouched(t, name) {
		t.Errorf("the stranger %s was changed", name)
	}
	for _, x := range pr.everyone(t) {
		if x.Name == name {
			t.Errorf("the stranger %s is listed as ours", name)
		}
	}
}

func deleteCase(t T, h *Harness) {
	principals := h.Observer.(PrincipalObserver)
	pr := h.start(t)
	p := h.someone(t)
	if res := p.delete(t, pr); res.Outcome != access.WasGone {
		t.Errorf("deleting an account that never was: %s, want was_gone", res.Outcome)
	}
	p.grant(t, pr, h.Apart[0])
	if got := p.marked(t, pr); len(got) != 1 || got[0].Name != p.Name || !got[0].Enabled || len(got[0].Entitlements) != 1 {
		t.Errorf("after the grant the list says %+v, want one enabled account that holds one entitlement", got)
	}
	name := p.Name
	p.revoke(t, pr, h.Apart[0])
	if h.transient() {
		if principals.Exists(t, name) {
			t.Errorf("%s is there without access, which is declared to be impossible", name)
		}
	} else {
		if !principals.Exists(t, name) {
			t.Errorf("the revoke removed the account; that is the delete's part")
		}
		if got := p.marked(t, pr); len(got) != 1 || got[0].Enabled || len(got[0].Entitlements) != 0 {
			t.Errorf("after the revoke the list says %+v, want one disabled account that holds nothing", got)
		}
		if res := p.delete(t, pr); res.Outcome != access.Gone {
			t.Errorf("deleting: %s (%v), want gone", res.Outcome, res.Owns)
		}
	}
	if principals.Exists(t, name) {
		t.Errorf("%s is still there", name)
	}
	if got := p.marked(t, pr); len(got) != 0 {
		t.Errorf("after the delete the list says %+v", got)
	}
	if res := p.delete(t, pr); res.Outcome != access.WasGone {
		t.Errorf("deleting again: %s, want was_gone", res.Outcome)
	}

	// An account can be deleted while it still holds something.
	p.Name, p.held = "", nil
	p.grant(t, pr, h.Apart[0])
	if res := p.delete(t, pr); res.Outcome != access.Gone {
		t.Errorf("deleting an account that holds something: %s, want gone", res.Outcome)
	}
	p.can(t, h, h.Apart[0], false, "after the delete")
}

func owned(t T, h *Harness) {
	owner := h.Observer.(OwnerObserver)
	pr := h.start(t)
	p := h.someone(t)
	p.grant(t, pr, h.Apart[0])
	owner.Own(t, p.Account)
	p.revoke(t, pr, h.Apart[0])
	for _, again := range []string{"", " again"} {
		res := p.delete(t, pr)
		if res.Outcome != access.KeptDisabled || len(res.Owns) == 0 {
			t.Errorf("deleting an owner%s: %s, owns %v; want kept_disabled and what it owns", again, res.Outcome, res.Owns)
		}
		if !owner.Kept(t, p.Account) {
			t.Errorf("what the account owned is lost, or usable by somebody")
		}
	}
	p.can(t, h, h.Apart[0], false, "after the delete")
	got := p.marked(t, pr)
	if len(got) != 1 || !got[0].Tombstone || !got[0].Owns || got[0].Enabled {
		t.Errorf("the list says %+v, want one tombstone that owns something", got)
	}

	// The person may come back, and is not given what the old account owned.
	p.Name = ""
	p.grant(t, pr, h.Apart[0])
	p.can(t, h, h.Apart[0], true, "with a new account")
	if !owner.Kept(t, p.Account) {
		t.Errorf("the new account has what the old one owned")
	}
	p.revoke(t, pr, h.Apart[0])
	if res := p.delete(t, pr); res.Outcome != access.Gone {
		t.Errorf("deleting the new account: %s, want gone", res.Outcome)
	}
}

func sequence(t T, h *Harness) {
	pr := h.start(t)
	p := h.someone(t)
	p.grant(t, pr, h.Apart[0])
	late := p.grantRequest([]access.Entitlement{h.Apart[0]})
	p.grant(t, pr, h.Apart[1])
	p.revoke(t, pr, h.Apart[0])

	refused := func(what string, err error) {
		h.note(err)
		if access.KindOf(err) != access.Superseded {
			t.Errorf("a late %s: %v (%s), want %s", what, err, access.KindOf(err), access.Superseded)
		}
	}
	_, err := pr.Grant(t.Context(), late)
	refused("grant", err)
	_, err = pr.Revoke(t.Context(), integrations.RevokeRequest{Account: p.Account, End: []access.Entitlement{h.Apart[1]}, Sequence: late.Sequence})
	refused("revoke", err)
	_, err = pr.DeleteAccount(t.Context(), integrations.DeleteRequest{Account: p.Account, Sequence: late.Sequence})
	refused("delete", err)
	if h.has(Credentials) {
		_, err = pr.Integration.(integrations.CredentialSetter).SetCredential(t.Context(), integrations.CredentialRequest{Account: p.Account, Sequence: late.Sequence})
		refused("credential", err)
	}
	p.can(t, h, h.Apart[0], false, "after a late grant")
	p.can(t, h, h.Apart[1], true, "after a late revoke and delete")

	// The same number again is the same operation again.
	if _, err := p.tryRevoke(t, pr, h.Apart[0]); err != nil {
		t.Errorf("the last revoke again: %v", err)
	}
	p.revoke(t, pr, h.Apart[1])
}

// listed grants ever more, and reads the list as the sweep does: what it lacks
// would be missed there, and what it has too much would be called unexpected.
func listed(t T, h *Harness) {
	pr := h.start(t)
	says := func(p *person, of []access.Entitlement, when string) access.Principal {
		t.Helper()
		got := p.marked(t, pr)
		if len(got) != 1 {
			t.Fatalf("%s: the account is listed %d times, want once", when, len(got))
		}
		var doubts []access.Entitlement
		for _, e := range p.held {
			if !slices.Contains(got[0].Entitlements, e) {
				doubts = append(doubts, e)
			}
		}
		// What covers it may be listed instead, and the sweep then asks again; what
		// has nothing to do with each other is listed.
		if apart := slices.Contains(p.held, h.Apart[0]) && slices.Contains(p.held, h.Apart[1]); len(doubts) == len(p.held) || apart && len(doubts) > 0 {
			t.Errorf("%s: the list does not say that the account holds %v: %+v", when, doubts, got[0])
		} else if len(doubts) > 0 {
			p.verify(t, pr, doubts, access.Granted)
		}
		for _, e := range of {
			if slices.Contains(got[0].Entitlements, e) && !slices.Contains(p.held, e) {
				t.Errorf("%s: the list says that the account holds %s", when, e)
			}
		}
		return got[0]
	}
	for _, chain := range append(slices.Clone(h.Chains), h.Apart[:]) {
		p := h.someone(t)
		for _, e := range chain {
			p.grant(t, pr, e)
			if x := says(p, chain, "after a grant of "+e.String()); len(x.Foreign) > 0 {
				t.Errorf("after a grant of %s: the list says that somebody else gave the account %q", e, x.Foreign)
			}
		}
		for _, e := range slices.Backward(chain[1:]) {
			p.revoke(t, pr, e)
			says(p, chain, "after a revoke of "+e.String())
		}
		p.revoke(t, pr, chain[0])
	}
	if !h.has(ByHand) {
		return
	}
	p := h.someone(t)
	p.grant(t, pr, h.Apart[0])
	h.Observer.(HandObserver).Give(t, p.Account)
	if x := says(p, h.Apart[:], "with what was given by hand"); !slices.Contains(x.Entitlements, h.Existing) && len(x.Foreign) == 0 {
		t.Errorf("the list does not say that the account was given %s by hand: %+v", h.Existing, x)
	}
	p.revoke(t, pr, h.Apart[0])
}

// drift lets Lapse forget a hold.
func drift(t T, h *Harness) {
	pr := h.start(t)
	p := h.someone(t)
	p.grant(t, pr, h.Apart[0], h.Apart[1])
	p.held = []access.Entitlement{h.Apart[0]}
	res := p.revoke(t, pr, h.Apart[0])
	p.can(t, h, h.Apart[1], false, "without a hold, after the next revoke")
	if len(res.Notes) == 0 {
		t.Errorf("the revoke does not report what it found beside")
	}
}

func newProcess(t T, h *Harness) {
	p := h.someone(t)
	first := h.start(t)
	p.grant(t, first, h.Apart[0])
	if err := first.Close(); err != nil {
		t.Errorf("closing: %v", err)
	}
	p.grant(t, h.start(t), h.Apart[1])
	p.revoke(t, h.start(t), h.Apart[0])
	p.can(t, h, h.Apart[0], false, "after a revoke by another process")
	p.can(t, h, h.Apart[1], true, "after a revoke of the other by another process")
	p.revoke(t, h.start(t), h.Apart[1])
	p.can(t, h, h.Apart[1], false, "after a revoke by another process")
}

var credentialCases = []Case{
	{Name: "credential", Promise: "A credential works once access is granted, is dead when a newer one is made and after the end, and a disabled account gets none.", Needs: []Capability{Credentials}, run: credential},
	{Name: "sessions", Promise: "Every open session of the account is ended by the revoke.", Needs: []Capability{Credentials, Sessions}, run: sessions},
	{Name: "disabled-first", Promise: "When the last access ends nobody can log in again before the sessions are ended.", Needs: []Capability{Credentials, Sessions}, run: disabledFirst},
	{Name: "exposed", Promise: "A new credential leaves open sessions alone, and ends them when somebody else has seen the old one.", Needs: []Capability{Credentials, Sessions}, run: exposed},
	{Name: "own-secret", Promise: "The connector's own secret can be changed, twice with the same one too; the old one is dead then.", Needs: []Capability{OwnSecret}, run: ownSecret},
}

func credential(t T, h *Harness) {
	logins := h.Observer.(LoginObserver)
	pr := h.start(t)
	p := h.someone(t)
	login := func(c integrations.Credential, want bool, when string) {
		t.Helper()
		if got := logins.CanLogin(t, c); got != want {
			t.Errorf("%s: login works: %t, want %t", when, got, want)
		}
	}
	p.next()
	if _, err := p.tryCredential(t, pr); err == nil {
		t.Errorf("an account that does not exist got a credential")
	}
	p.grant(t, pr, h.Apart[0])
	first := p.credential(t, pr)
	if first.Username == "" || first.Password == "" || first.Command == "" {
		t.Errorf("the credential lacks a user name, a password or a command: %+v", first)
	}
	login(first, true, "after the grant")
	wrong := first
	wrong.Password += "x"
	login(wrong, false, "with a wrong password")

	second := p.credential(t, pr)
	login(second, true, "with the newer credential")
	login(first, false, "with the older credential")
	p.grant(t, pr, h.Apart[1])
	login(second, true, "after another grant")
	p.revoke(t, pr, h.Apart[0])
	login(second, true, "while something is still held")
	p.revoke(t, pr, h.Apart[1])
	login(second, false, "after the last revoke")
	p.next()
	if _, err := p.tryCredential(t, pr); err == nil {
		t.Errorf("an account that holds nothing got a credential")
	}
	login(second, false, "after asking for another one in vain")

	p.grant(t, pr, h.Apart[0])
	login(second, false, "with the old credential after a new grant")
	third := p.credential(t, pr)
	login(third, true, "with a new credential after a new grant")
	p.revoke(t, pr, h.Apart[0])
	p.delete(t, pr)
	login(third, false, "after the delete")
}

// sessionGrace is how long after a revoke a session may still answer.
const sessionGrace = 10 * time.Second

func sessions(t T, h *Harness) {
	opener := h.Observer.(SessionObserver)
	pr := h.start(t)
	for _, more := range []bool{false, true} {
		p := h.someone(t)
		p.grant(t, pr, h.Apart[0])
		if more {
			p.grant(t, pr, h.Apart[1])
		}
		open := opener.Open(t, p.credential(t, pr), h.Apart[0])
		if len(open) == 0 {
			t.Fatalf("no session was opened")
		}
		p.revoke(t, pr, h.Apart[0])
		deadline := time.Now().Add(sessionGrace)
		for name, s := range open {
			for s.Alive() {
				if time.Now().After(deadline) {
					t.Fatalf("a session outlives the revoke: %s", name)
				}
				time.Sleep(20 * time.Millisecond)
			}
		}
		if more {
			p.revoke(t, pr, h.Apart[1])
		}
	}
}

func exposed(t T, h *Harness) {
	pr := h.start(t)
	p := h.someone(t)
	p.grant(t, pr, h.Apart[0])
	open := h.Observer.(SessionObserver).Open(t, p.credential(t, pr), h.Apart[0])
	p.credential(t, pr)
	for name, s := range open {
		if !s.Alive() {
			t.Errorf("a new credential has ended a session: %s", name)
		}
	}
	p.next()
	if _, err := p.tryCredentialOf(t, pr, true); err != nil {
		t.Fatalf("making a credential in place of one that was exposed: %v", err)
	}
	deadline := time.Now().Add(sessionGrace)
	for name, s := range open {
		for s.Alive() {
			if time.Now().After(deadline) {
				t.Fatalf("a session outlives the credential that was exposed: %s", name)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	p.revoke(t, pr, h.Apart[0])
}

// ownSecret changes the secret of the harness's target, and changes it back.
func ownSecret(t T, h *Harness) {
	rotate := func(pr *process, to any) error {
		ctx, cancel := context.WithTimeout(t.Context(), opLimit)
		defer cancel()
		err := pr.Integration.(integrations.SecretRotator).RotateSecret(ctx, to)
		h.note(err)
		return err
	}
	lets := func(target integrations.Target, when string, want bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), opLimit)
		defer cancel()
		_, err := h.startOn(t, target).Accounts(ctx, "")
		h.note(err)
		if want && err != nil {
			t.Errorf("%s: %v", when, err)
		}
		if !want && access.KindOf(err) != access.Auth {
			t.Errorf("%s: %v (%s), want %s", when, err, access.KindOf(err), access.Auth)
		}
	}
	pr := h.start(t)
	secret, err := pr.Integration.(integrations.SecretRotator).NextSecret()
	if err != nil {
		t.Fatalf("making another secret: %v", err)
	}
	next := h.Target
	next.Secret = secret
	lets(next, "the next secret before it is set", false)
	if err := rotate(pr, secret); err != nil {
		t.Fatalf("changing the secret: %v", err)
	}
	t.Cleanup(func() {
		h.startOn(t, next).Integration.(integrations.SecretRotator).RotateSecret(context.WithoutCancel(t.Context()), h.Target.Secret)
	})
	lets(next, "the next secret after it is set", true)
	lets(h.Target, "the old secret after it was changed", false)
	if err := rotate(h.startOn(t, next), secret); err != nil {
		t.Errorf("changing the secret to what it is already: %v", err)
	}
	lets(next, "the next secret after it is set twice", true)
	if err := rotate(h.startOn(t, next), h.Target.Secret); err != nil {
		t.Errorf("changing the secret back: %v", err)
	}
	lets(h.Target, "the old secret after it was set again", true)
}

// disabledFirst tries to log in at the very moment in which a session ends.
func disabledFirst(t T, h *Harness) {
	logins, opener := h.Observer.(LoginObserver), h.Observer.(SessionObserver)
	pr := h.start(t)
	p := h.someone(t)
	p.grant(t, pr, h.Apart[0])
	c := p.credential(t, pr)
	open := opener.Open(t, c, h.Apart[0])
	back := make(chan bool, len(open))
	for _, s := range open {
		go func() {
			for s.Alive() {
				time.Sleep(time.Millisecond)
			}
			back <- logins.CanLogin(t, c)
		}()
	}
	p.revoke(t, pr, h.Apart[0])
	for range open {
		select {
		case in := <-back:
			if in {
				t.Errorf("a login worked after a session was ended")
			}
		case <-time.After(sessionGrace):
			t.Fatalf("a session outlives the revoke")
		}
	}
}
