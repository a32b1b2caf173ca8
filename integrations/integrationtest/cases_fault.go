package integrationtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

var faultCases = []Case{
	{Name: "cut-grant", Promise: "A grant that is cut before or after any of its requests, and repeated by another process, ends as if it had not been cut.", Needs: []Capability{Wire}, run: cutGrant},
	{Name: "cut-revoke", Promise: "A revoke that is cut before or after any of its requests, and repeated by another process, ends as if it had not been cut.", Needs: []Capability{Wire}, run: cutRevoke},
	{Name: "cut-credential", Promise: "A new credential that is cut before or after any of its requests is made anew, and only the last one works.", Needs: []Capability{Wire, Credentials}, run: cutCredential},
	{Name: "cut-delete", Promise: "A delete that is cut before or after any of its requests, and repeated by another process, leaves nothing.", Needs: []Capability{Wire, Principals}, run: cutDelete},
	{Name: "dead", Promise: "A target that does not answer is a reason to retry, said before the context ends, and a report of Check.", Needs: []Capability{Wire}, run: dead},
	{Name: "slow", Promise: "A slow target is no failure.", Needs: []Capability{Wire}, run: slow},
	{Name: "canceled", Promise: "A canceled operation stops and writes nothing more.", run: canceled},
	{Name: "wrong-secret", Promise: "A connector's credential that does not hold is named as such, without being shown.", Needs: []Capability{WrongSecret}, run: wrongSecret},
	{Name: "throttled", Promise: "A target that asks to wait is a reason to wait, for as long as it says.", Needs: []Capability{Throttling}, run: throttled},
	{Name: "refused", Promise: "Access on which the target refuses the connector is never said to be gone.", Needs: []Capability{Refusal}, run: refused},
	{Name: "every-step", Promise: "A revoke of several goes on after one that fails.", Needs: []Capability{Refusal}, run: everyStep},
	{Name: "read-back", Promise: "What the target took and did not do is neither granted nor gone.", Needs: []Capability{Deafness}, run: readBack},
}

// cuts runs an operation through a proxy that breaks at each turn of it, before
// the target has heard and when it has answered, and then again by another
// process. begin makes the state in which the operation starts, check looks at
// the end.
func cuts(t T, h *Harness, begin func(p *person), operation func(p *person, pr *process) error, check func(p *person, when string)) {
	proxy := NewProxy(t, h.Address)
	target := h.Via(proxy.Address())
	once := func(set func(n int), n int, when string) (turns int) {
		p := h.someone(t)
		begin(p)
		proxy.Heal()
		set(n)
		first := h.startOn(t, target)
		operation(p, first) // it may fail, and may succeed if only a reading was cut
		turns = proxy.Turns()
		first.Close()
		if h.has(Principals) {
			for _, x := range p.marked(t, h.start(t)) {
				p.Name = x.Name
			}
		}
		proxy.Heal()
		if err := operation(p, h.startOn(t, target)); err != nil {
			t.Errorf("%s: repeated by another process: %v", when, err)
		}
		check(p, when)
		return turns
	}
	whole := once(func(int) {}, 0, "not cut")
	for n := 1; n <= whole; n++ {
		once(proxy.CutBefore, n, fmt.Sprintf("cut before request %d of %d", n, whole))
		once(proxy.CutAfter, n, fmt.Sprintf("cut after request %d of %d", n, whole))
		if t.Failed() {
			return
		}
	}
	t.Logf("cut before and after each of %d requests", whole)
}

func cutGrant(t T, h *Harness) {
	direct := h.start(t)
	e := h.Apart[0]
	cuts(t, h,
		func(p *person) {
			p.prepare(t, direct, e)
			if forgetter, ok := h.Observer.(Forgetter); ok {
				forgetter.Forget(t, e)
			}
		},
		func(p *person, pr *process) error {
			_, err := p.tryGrant(t, pr, e)
			return err
		},
		func(p *person, when string) {
			p.can(t, h, e, true, when)
			p.verify(t, direct, []access.Entitlement{e}, access.Granted)
			if h.has(Principals) {
				if n := len(p.marked(t, direct)); n != 1 {
					t.Errorf("%s: %d accounts, want 1", when, n)
				}
			}
			p.revoke(t, direct, e)
			p.can(t, h, e, false, when+", then revoked")
		})
}

func cutRevoke(t T, h *Harness) {
	direct := h.start(t)
	e := h.Apart[0]
	var c integrations.Credential
	cuts(t, h,
		func(p *person) {
			p.grant(t, direct, e)
			if h.has(Credentials) {
				c = p.credential(t, direct)
			}
			p.next()
		},
		func(p *person, pr *process) error {
			_, err := p.tryRevoke(t, pr, e)
			return err
		},
		func(p *person, when string) {
			p.can(t, h, e, false, when)
			p.verify(t, direct, []access.Entitlement{e}, access.Gone)
			if logins, ok := h.Observer.(LoginObserver); ok && logins.CanLogin(t, c) {
				t.Errorf("%s: a login works", when)
			}
		})
}

func cutCredential(t T, h *Harness) {
	logins := h.Observer.(LoginObserver)
	direct := h.start(t)
	var made []integrations.Credential
	cuts(t, h,
		func(p *person) {
			p.grant(t, direct, h.Apart[0])
			made = []integrations.Credential{p.credential(t, direct)}
			p.next()
		},
		func(p *person, pr *process) error {
			c, err := p.tryCredential(t, pr)
			if err == nil {
				made = append(made, c)
			}
			return err
		},
		func(p *person, when string) {
			for i, c := range made {
				if last := i == len(made)-1; logins.CanLogin(t, c) != last {
					t.Errorf("%s: credential %d of %d works: %t", when, i+1, len(made), !last)
				}
			}
			p.revoke(t, direct, h.Apart[0])
		})
}

func cutDelete(t T, h *Harness) {
	principals := h.Observer.(PrincipalObserver)
	direct := h.start(t)
	var name string
	cuts(t, h,
		func(p *person) {
			p.grant(t, direct, h.Apart[0])
			name = p.Name
			p.revoke(t, direct, h.Apart[0])
			p.next()
		},
		func(p *person, pr *process) error {
			res, err := p.tryDelete(t, pr)
			if err == nil && res.Outcome != access.Gone && res.Outcome != access.WasGone {
				err = fmt.Errorf("outcome %s", res.Outcome)
			}
			return err
		},
		func(p *person, when string) {
			if principals.Exists(t, name) {
				t.Errorf("%s: %s is still there", when, name)
			}
		})
}

// dead stops the target, and then lets it take everything and answer nothing.
func dead(t T, h *Harness) {
	proxy := NewProxy(t, h.Address)
	pr := h.startOn(t, h.Via(proxy.Address()))
	p := h.someone(t)
	p.grant(t, pr, h.Apart[0])
	p.next()
	for _, way := range []struct {
		name string
		set  func()
	}{{"closed", proxy.Break}, {"mute", proxy.Mute}} {
		proxy.Heal()
		way.set()
		const limit = 500 * time.Millisecond
		operations := map[string]func(ctx context.Context) error{
			"held":   func(ctx context.Context) error { _, err := pr.Held(ctx, p.Account, h.Apart[:]); return err },
			"grant":  func(ctx context.Context) error { _, err := pr.Grant(ctx, p.grantRequest(h.Apart[:])); return err },
			"verify": func(ctx context.Context) error { _, err := pr.Verify(ctx, p.Account, h.Apart[:]); return err },
			"revoke": func(ctx context.Context) error { _, err := pr.Revoke(ctx, p.revokeRequest(h.Apart[:])); return err },
		}
		atOnceNamed(operations, func(name string, operation func(context.Context) error) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			begun := time.Now()
			err := operation(ctx)
			h.note(err)
			if access.KindOf(err) != access.Retry {
				t.Errorf("%s, %s: %v (%s), want %s", way.name, name, err, access.KindOf(err), access.Retry)
			}
			if took := time.Since(begun); took > limit+time.Second {
				t.Errorf("%s, %s: took %s, with %s allowed", way.name, name, took, limit)
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		report, err := pr.Check(ctx)
		cancel()
		h.note(report, err)
		if err != nil || report.OK() {
			t.Errorf("%s: check: %+v, %v; want a report that says so", way.name, report, err)
		}
	}
	proxy.Heal()
	p.revoke(t, pr, h.Apart[0])
	p.can(t, h, h.Apart[0], false, "after a revoke once the target is back")
}

func slow(t T, h *Harness) {
	proxy := NewProxy(t, h.Address)
	proxy.Delay(20 * time.Millisecond)
	pr := h.startOn(t, h.Via(proxy.Address()))
	p := h.someone(t)
	p.grant(t, pr, h.Apart[0])
	p.revoke(t, pr, h.Apart[0])
	p.can(t, h, h.Apart[0], false, "after a slow revoke")
}

func canceled(t T, h *Harness) {
	pr := h.start(t)
	p := h.someone(t)
	p.prepare(t, pr, h.Apart[0])
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := pr.Grant(ctx, p.grantRequest(h.Apart[:1])); err == nil {
		t.Errorf("a grant with a canceled context succeeded")
	}
	p.can(t, h, h.Apart[0], false, "after a canceled grant")
	// Canceled at some moment in the middle.
	for after := time.Millisecond; after < 50*time.Millisecond; after += 7 * time.Millisecond {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		begun := time.Now()
		_, err := pr.Grant(ctx, p.grantRequest(h.Apart[:1]))
		cancel()
		h.note(err)
		if took := time.Since(begun); took > time.Second {
			t.Errorf("a grant that was canceled after %s went on for %s", after, took)
		}
	}
	if _, err := p.tryGrant(t, pr, h.Apart[0]); err != nil {
		t.Fatalf("granting after several that were canceled: %v", err)
	}
	p.can(t, h, h.Apart[0], true, "after the grant")
	p.revoke(t, pr, h.Apart[0])
}

func wrongSecret(t T, h *Harness) {
	pr := h.startOn(t, h.Wrong())
	p := h.someone(t)
	p.next()
	_, err := p.tryGrant(t, pr, h.Apart[0])
	if access.KindOf(err) != access.Auth {
		t.Errorf("granting with a wrong credential: %v (%s), want %s", err, access.KindOf(err), access.Auth)
	}
	p.held = nil
	if _, err := p.tryRevoke(t, pr, h.Apart[0]); access.KindOf(err) != access.Auth {
		t.Errorf("revoking with a wrong credential: %v (%s), want %s", err, access.KindOf(err), access.Auth)
	}
	report, err := pr.Check(t.Context())
	h.note(report, err)
	if err != nil || report.OK() {
		t.Errorf("checking with a wrong credential: %+v, %v; want a report that says so", report, err)
	}
}

func throttled(t T, h *Harness) {
	pr := h.start(t)
	for _, delay := range []time.Duration{0, 7 * time.Second} {
		p := h.someone(t)
		p.prepare(t, pr, h.Apart[0])
		waits := func(what string, operation func() error) {
			t.Helper()
			undo := h.Observer.(Throttler).Throttle(t, delay)
			defer undo()
			err := operation()
			if access.KindOf(err) != access.RateLimited {
				t.Errorf("a %s that is asked to wait: %v (%s), want %s", what, err, access.KindOf(err), access.RateLimited)
				return
			}
			if e, _ := errors.AsType[*access.Error](err); e.After != delay {
				t.Errorf("a %s that is asked to wait %s waits %s", what, delay, e.After)
			}
		}
		waits("grant", func() error {
			_, err := p.tryGrant(t, pr, h.Apart[0])
			return err
		})
		p.can(t, h, h.Apart[0], false, "after a grant that was asked to wait")
		p.grant(t, pr, h.Apart[0])
		p.next()
		waits("revoke", func() error {
			_, err := p.tryRevoke(t, pr, h.Apart[0])
			return err
		})
		p.can(t, h, h.Apart[0], true, "after a revoke that was asked to wait")
		p.revoke(t, pr, h.Apart[0])
		p.can(t, h, h.Apart[0], false, "after the revoke")
	}
}

// closed grants, closes the first of the resources to the connector, and tries
// to revoke all at once. The error must say what is missing.
func closed(t T, h *Harness, pr *process, held ...access.Entitlement) (p *person, undo func()) {
	t.Helper()
	p = h.someone(t)
	p.grant(t, pr, held...)
	undo = h.Observer.(Closer).Shut(t, held[0].Resource)
	p.next()
	if res, err := p.tryRevoke(t, pr, held...); access.KindOf(err) != access.Privilege {
		t.Errorf("revoking what the target refuses: %+v, %v (%s), want %s", res.Entries, err, access.KindOf(err), access.Privilege)
	}
	return p, undo
}

func refused(t T, h *Harness) {
	pr := h.start(t)
	p, undo := closed(t, h, pr, h.Apart[0])
	for _, e := range p.settled(t, pr, h.Apart[:1]) {
		if e.Outcome == access.Gone || e.Outcome == access.WasGone {
			t.Errorf("verifying what the target refused to end: %s", e.Outcome)
		}
	}
	undo()
	p.revoke(t, pr, h.Apart[0])
	p.can(t, h, h.Apart[0], false, "after a revoke once the target lets us")
}

func everyStep(t T, h *Harness) {
	pr := h.start(t)
	p, undo := closed(t, h, pr, h.Apart[0], h.Apart[1])
	p.can(t, h, h.Apart[1], false, "after a revoke of two, the first of which was refused")
	undo()
	p.revoke(t, pr, h.Apart[:]...)
	p.can(t, h, h.Apart[0], false, "after a revoke once the target lets us")
}

func readBack(t T, h *Harness) {
	pr := h.start(t)
	p := h.someone(t)
	p.prepare(t, pr, h.Apart[0])
	deaf := func(what string, operation func() ([]access.Entry, error)) {
		t.Helper()
		undo := h.Observer.(Deafener).Deafen(t)
		defer undo()
		entries, err := operation()
		for _, e := range entries {
			if err == nil && e.Outcome != access.Propagating && e.Outcome != access.Blocked {
				t.Errorf("a %s that the target took and did not do: %s", what, e.Outcome)
			}
		}
	}
	deaf("grant", func() ([]access.Entry, error) {
		res, err := p.tryGrant(t, pr, h.Apart[0])
		return res.Entries, err
	})
	p.grant(t, pr, h.Apart[0])
	p.next()
	deaf("revoke", func() ([]access.Entry, error) {
		res, err := p.tryRevoke(t, pr, h.Apart[0])
		return res.Entries, err
	})
	p.revoke(t, pr, h.Apart[0])
	p.can(t, h, h.Apart[0], false, "after the revoke")
}

// atOnceNamed runs named work in parallel and waits for all.
func atOnceNamed[W any](all map[string]W, run func(name string, work W)) {
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	atOnce(len(names), func(i int) { run(names[i], all[names[i]]) })
}
