package integrationtest

import (
	"slices"
	"time"

	"github.com/lapse-access/lapse/access"
)

var levelCases = []Case{
	{Name: "levels", Promise: "A grant never lowers a level, and a revoke leaves the highest that another hold or the baseline owes.", Needs: []Capability{Levels}, run: levels},
	{Name: "lowered-by-hand", Promise: "A level that somebody lowered meanwhile is not raised again, and goes all the same when nothing owes it.", Needs: []Capability{Levels}, run: loweredByHand},
	{Name: "raised-by-hand", Promise: "A level that somebody raised meanwhile is left, and reported.", Needs: []Capability{Levels}, run: raisedByHand},
	{Name: "inherited", Promise: "What a person inherits is not written again, and stays when what was written above it ends.", Needs: []Capability{Inheritance}, run: inherited},
}

// level demands a person's own level on the resource of Harness.Levels; -1 is
// none.
func (p *person) level(t T, h *Harness, want int, when string) {
	t.Helper()
	level := ""
	if want >= 0 {
		level = h.Levels[want].Permission
	}
	if got := h.Observer.(LevelObserver).Level(t, p.Account, h.Levels[0].Resource); got != level {
		t.Errorf("%s: the level of %s is %q, want %q", when, p.Email, got, level)
	}
}

// setLevel sets it by hand; -1 takes it away.
func (p *person) setLevel(t T, h *Harness, level int) {
	t.Helper()
	name := ""
	if level >= 0 {
		name = h.Levels[level].Permission
	}
	h.Observer.(LevelObserver).SetLevel(t, p.Account, h.Levels[0].Resource, name)
}

// levels lets Lapse pass under and over a level that was given by hand.
func levels(t T, h *Harness) {
	const low, middle, high = 0, 1, 2
	pr := h.start(t)
	p := h.someone(t)
	p.setLevel(t, h, middle)

	p.prepare(t, pr, h.Levels[low], h.Levels[high])
	if got := p.baseline(); !slices.Contains(got, h.Levels[middle]) || len(got) != 1 {
		t.Errorf("Held says that %v was held, want %s, which was given by hand", got, h.Levels[middle])
	}
	p.held, p.slots, p.wrote = nil, nil, nil

	p.grant(t, pr, h.Levels[low])
	p.level(t, h, middle, "after a grant below the baseline")
	p.grant(t, pr, h.Levels[high])
	p.level(t, h, high, "after a grant above the baseline")
	// The answer was lost, and Lapse asks again.
	if _, err := p.tryGrant(t, h.start(t), h.Levels[high]); err != nil {
		t.Errorf("granting it again: %v", err)
	}
	p.revoke(t, pr, h.Levels[high])
	p.level(t, h, middle, "after the end of what was above the baseline")
	p.revoke(t, pr, h.Levels[low])
	p.level(t, h, middle, "after the last hold ended")

	other := h.someone(t)
	other.grant(t, pr, h.Levels[middle])
	other.grant(t, pr, h.Levels[low])
	other.level(t, h, middle, "after a grant below another hold")
	other.grant(t, pr, h.Levels[high])
	other.revoke(t, pr, h.Levels[high])
	other.level(t, h, middle, "with two holds left")
	other.revoke(t, pr, h.Levels[middle])
	other.level(t, h, low, "with the weakest hold left")
	other.revoke(t, pr, h.Levels[low])
	other.level(t, h, -1, "after the last hold ended")
}

func loweredByHand(t T, h *Harness) {
	const low, middle, high = 0, 1, 2
	pr := h.start(t)
	for _, now := range []int{-1, low} {
		p := h.someone(t)
		p.setLevel(t, h, middle)
		p.grant(t, pr, h.Levels[high])
		p.setLevel(t, h, now)
		p.revoke(t, pr, h.Levels[high])
		p.level(t, h, now, "with a baseline that somebody lowered")
	}
	// A rest of what Lapse gave, for which there is neither hold nor baseline.
	p := h.someone(t)
	p.grant(t, pr, h.Levels[high])
	p.setLevel(t, h, middle)
	p.revoke(t, pr, h.Levels[high])
	p.level(t, h, -1, "lowered by hand, and then ended")
}

func raisedByHand(t T, h *Harness) {
	const low, middle, high = 0, 1, 2
	pr := h.start(t)
	p := h.someone(t)
	p.grant(t, pr, h.Levels[low])
	p.setLevel(t, h, high)
	p.grant(t, pr, h.Levels[middle])
	p.level(t, h, high, "after a grant below what somebody gave")
	p.revoke(t, pr, h.Levels[middle])
	res := p.revoke(t, pr, h.Levels[low])
	p.level(t, h, high, "raised by hand, and then ended")
	if len(res.Notes) == 0 {
		t.Errorf("the revoke does not report that the person has more than Lapse gave")
	}
	if res.Entries[0].Outcome != access.Lowered {
		t.Errorf("the revoke says %s of what the person still has, want lowered", res.Entries[0].Outcome)
	}
}

func inherited(t T, h *Harness) {
	const low, high = 0, 2
	pr := h.start(t)
	p := h.someone(t)
	h.Observer.(Inheriter).Inherit(t, p.Account, h.Levels[low])
	res := p.grant(t, pr, h.Levels[low])
	if res.Entries[0].Outcome != access.AlreadyHeld {
		t.Errorf("granting what is inherited: %s, want already_held", res.Entries[0].Outcome)
	}
	p.grant(t, pr, h.Levels[high])
	p.can(t, h, h.Levels[high], true, "after a grant above what is inherited")
	p.revoke(t, pr, h.Levels[high])
	p.can(t, h, h.Levels[high], false, "after its end")
	p.can(t, h, h.Levels[low], true, "after the end of what was above it")
	p.revoke(t, pr, h.Levels[low])
	p.can(t, h, h.Levels[low], true, "after the last hold ended")
	if _, ok := h.Observer.(LevelObserver); ok {
		p.level(t, h, -1, "after the last hold ended")
	}
}

var invitationCases = []Case{
	{Name: "pending", Promise: "An invitation is pending, with what is awaited, a link and an end, and is granted once it is accepted.", Needs: []Capability{Invitations}, run: pending},
	{Name: "cancelled", Promise: "A revoke cancels an invitation, and lowers one that another hold still needs.", Needs: []Capability{Invitations}, run: cancelled},
	{Name: "unknown-people", Promise: "Somebody whom the target does not know, or knows twice, gets nothing.", Needs: []Capability{Directory}, run: unknownPeople},
}

// invite grants to somebody who has to accept it first, and returns what is
// pending.
func invite(t T, h *Harness, pr *process, p *person, want access.Entitlement) access.Entry {
	t.Helper()
	p.prepare(t, pr, want)
	res, err := p.tryGrant(t, pr, want)
	if err != nil {
		t.Fatalf("inviting %s: %v", p.Email, err)
	}
	for _, e := range append(res.Entries, p.settled(t, pr, []access.Entitlement{want})...) {
		if e.Outcome != access.Pending || e.Awaits == "" || e.Link == "" || !e.Until.After(time.Now()) {
			t.Errorf("an invitation for %s: %+v; want pending, what is awaited, a link, and when it ends", want, e)
		}
	}
	p.can(t, h, want, false, "before the invitation is accepted")
	return res.Entries[0]
}

func pending(t T, h *Harness) {
	pr := h.start(t)
	e, accepter := h.Levels[0], h.Observer.(Accepter)
	p := &person{Account: accepter.Invited(t)}
	first := invite(t, h, pr, p, e)
	if again := invite(t, h, h.start(t), p, e); again.Link != first.Link {
		t.Errorf("the same grant again made another invitation")
	}
	accepter.Accept(t, p.Account, first)
	p.verify(t, pr, []access.Entitlement{e}, access.Granted)
	p.can(t, h, e, true, "after the invitation was accepted")
	p.revoke(t, pr, e)
	p.can(t, h, e, false, "after the revoke")
}

func cancelled(t T, h *Harness) {
	pr := h.start(t)
	weak, strong, accepter := h.Levels[0], h.Levels[2], h.Observer.(Accepter)
	p := &person{Account: accepter.Invited(t)}
	invitation := invite(t, h, pr, p, weak)
	p.revoke(t, pr, weak)
	p.verify(t, pr, []access.Entitlement{weak}, access.Gone)
	accepter.Accept(t, p.Account, invitation)
	p.can(t, h, weak, false, "after a cancelled invitation was accepted")

	p = &person{Account: accepter.Invited(t)}
	invite(t, h, pr, p, weak)
	invitation = invite(t, h, pr, p, strong)
	p.revoke(t, pr, strong)
	accepter.Accept(t, p.Account, invitation)
	p.can(t, h, strong, false, "after the invitation was lowered, and then accepted")
	p.can(t, h, weak, true, "after the invitation was lowered, and then accepted")
	p.revoke(t, pr, weak)
	p.can(t, h, weak, false, "after the last hold ended")
}

func unknownPeople(t T, h *Harness) {
	pr := h.start(t)
	directory := h.Observer.(DirectoryObserver)
	for who, account := range map[string]access.Account{"nobody": directory.Unknown(t), "two people": directory.Ambiguous(t)} {
		p := &person{Account: account}
		p.next()
		if _, err := p.tryGrant(t, pr, h.Apart[0]); access.KindOf(err) != access.PersonMissing {
			t.Errorf("granting to an address that %s has: %v (%s), want %s", who, err, access.KindOf(err), access.PersonMissing)
		}
		p.can(t, h, h.Apart[0], false, "with an address that "+who+" has")
	}
}
