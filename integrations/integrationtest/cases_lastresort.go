package integrationtest

import (
	"slices"
	"time"

	"github.com/lapse-access/lapse/integrations"
)

// Administrator does by hand what a kind writes down for the time when Lapse
// does not run.
type Administrator interface {
	// RunByHand does what somebody does who has an administrator's login and the
	// target's ordinary client: starts the head, in which they write their secret
	// for the dots, and runs the steps in it. It fails when one of them does.
	RunByHand(t T, head, steps string) error
}

// settling is how long what was done by hand may take to show.
const settling = 3 * time.Second

var lastResortCases = []Case{
	{Name: "last-resort", Promise: "What is written down for the time when Lapse does not run takes away all that a person has through Lapse, twice without an error, and nothing else.", Needs: []Capability{ByAdministrator}, run: lastResort},
}

func lastResort(t T, h *Harness) {
	admin, ok := h.Observer.(Administrator)
	if !ok || h.Kind.LastResort.Head == nil || h.Kind.LastResort.Steps == nil {
		t.Fatalf("the kind writes down no steps for the time when Lapse does not run, or the observer cannot run them")
	}
	pr := h.start(t)
	p, other := h.someone(t), h.someone(t)
	p.grant(t, pr, h.Apart[0])
	other.grant(t, pr, h.Apart[:]...)
	people := []*person{p}
	for _, e := range h.Hostile {
		q := h.someone(t)
		q.grant(t, pr, e)
		people = append(people, q)
	}
	var lowered *person
	if levels, ok := h.Observer.(LevelObserver); ok && h.has(Levels) {
		lowered = h.someone(t)
		levels.SetLevel(t, lowered.Account, h.Levels[0].Resource, h.Levels[0].Permission)
		lowered.grant(t, pr, h.Levels[1])
		people = append(people, lowered)
	}
	var login, others integrations.Credential
	open := map[string]Session{}
	if h.has(Credentials) {
		login, others = p.credential(t, pr), other.credential(t, pr)
	}
	if opener, ok := h.Observer.(SessionObserver); ok && h.has(Credentials) {
		open = opener.Open(t, login, h.Apart[0])
	}
	p.grant(t, pr, h.Apart[1])

	for _, again := range []string{"", " again"} {
		for _, who := range people {
			head, steps := h.byHand(t, who)
			if err := admin.RunByHand(t, head, steps); err != nil {
				t.Fatalf("by hand%s: %v\n%s", again, err, steps)
			}
		}
	}
	deadline := time.Now().Add(sessionGrace)
	for name, s := range open {
		for s.Alive() {
			if time.Now().After(deadline) {
				t.Fatalf("a session outlives what was done by hand: %s", name)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	deadline = time.Now().Add(settling)
	for _, who := range people {
		for _, e := range who.held {
			for h.Observer.Can(t, who.Account, e) && time.Now().Before(deadline) {
				time.Sleep(20 * time.Millisecond)
			}
			who.can(t, h, e, false, "after what was done by hand")
		}
	}
	for _, e := range h.Apart {
		other.can(t, h, e, true, "after what was done by hand to somebody else")
	}
	if h.has(Credentials) {
		logins := h.Observer.(LoginObserver)
		if logins.CanLogin(t, login) {
			t.Errorf("a login works after what was done by hand")
		}
		if !logins.CanLogin(t, others) {
			t.Errorf("somebody else cannot log in after what was done by hand")
		}
	}
	if lowered != nil {
		if got := h.Observer.(LevelObserver).Level(t, lowered.Account, h.Levels[0].Resource); got != h.Levels[0].Permission {
			t.Errorf("somebody who had %s before is left with %q", h.Levels[0], got)
		}
	}

	// Lapse is back, and finds that it is gone.
	for _, who := range append(people, other) {
		who.revoke(t, pr, slices.Clone(who.held)...)
	}
}

// byHand is what Lapse would have written down for a person: it knows no secret
// of the target.
func (h *Harness) byHand(t T, p *person) (head, steps string) {
	t.Helper()
	target := h.Target
	target.Secret = nil
	end := slices.Clone(p.held)
	head, err := h.Kind.LastResort.Head(target)
	if err != nil {
		t.Fatalf("the head: %v", err)
	}
	steps, err = h.Kind.LastResort.Steps(target, p.revokeRequest(end))
	if err != nil {
		t.Fatalf("the steps: %v", err)
	}
	h.note(head, steps)
	return head, steps
}
