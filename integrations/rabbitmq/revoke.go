package rabbitmq

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/turn"
)

// revoke goes through every step, also after one that failed, and returns what
// failed together.
func (i *integration) revoke(ctx context.Context, req integrations.RevokeRequest, end, remain []target, open bool) (res integrations.RevokeResult, err error) {
	a, is, err := i.look(ctx, req.Account)
	if err != nil {
		return res, err
	}
	if a.user == nil {
		res.Wrote = map[string]string{}
		for _, t := range end {
			res.Entries = append(res.Entries, access.Entry{Entitlement: t.Entitlement, Outcome: access.WasGone, Facts: []string{"there is no account " + a.name}})
		}
		return res, nil
	}
	res.Notes = i.drift(a, is, slices.Concat(end, remain))

	kept := slices.DeleteFunc(a.user.given(), func(tag string) bool {
		return !slices.ContainsFunc(remain, func(t target) bool { return t.tag == tag })
	})
	after := a.user.with(kept)
	if !open {
		after.Hash = ""
	}
	will := wanted(remain).within(is)
	errs := []error{i.save(ctx, *a.user, after), i.apply(ctx, a.name, is, will)}
	ended := 0
	if i.config.TerminateSessions == "always" || i.config.TerminateSessions == "last" && !open {
		n, err := i.endSessions(ctx, a.name)
		ended, errs = n, append(errs, err)
	}

	left, now, err := i.look(ctx, req.Account)
	if err != nil {
		return res, access.Worst(append(errs, err)...)
	}
	if left.user != nil {
		errs = append(errs, now.check(a.name, will))
	}
	var common []string
	if !open {
		common = append(common, "the password is gone")
		if left.user != nil && left.user.Hash != "" {
			errs = append(errs, access.Errorf(access.Conflict, "somebody gave %s a password meanwhile", a.name))
		}
	}
	if ended > 0 {
		common = append(common, fmt.Sprintf("connections closed: %d", ended))
	}
	res.Wrote = wrote(req.Wrote)
	for _, t := range end {
		if !slices.ContainsFunc(remain, func(r target) bool { return r.Entitlement == t.Entitlement }) {
			delete(res.Wrote, t.String())
		}
		before := a.seen(t, is)
		if t.tag == "" && !is.carries(t) {
			before.Outcome = access.Gone // what gives it is not about this one
		}
		entry, err := i.closed(t, before, left.seen(t, now), wanted(remain), remain)
		entry.Facts = append(entry.Facts, common...)
		res.Entries, errs = append(res.Entries, entry), append(errs, err)
	}
	return res, access.Worst(errs...)
}

// closed is what became of one entitlement. One that is still there, and that
// nobody owes, is an error.
func (i *integration) closed(t target, before, after access.Entry, owed rights, remain []target) (access.Entry, error) {
	entry := access.Entry{Entitlement: t.Entitlement}
	some, all := owed.gives(t)
	if t.tag != "" {
		all = slices.ContainsFunc(remain, func(r target) bool { return r.tag == t.tag })
		some = all
	}
	switch {
	case before.Outcome == access.Gone:
		entry.Outcome, entry.Facts = access.WasGone, before.Facts
	case after.Outcome == access.Gone:
		entry.Outcome, entry.Facts = access.Gone, after.Facts
	case t.tag != "" && !all:
		entry.Outcome, entry.Facts = access.Lowered, []string{"has the tag " + t.tag + " still, which Lapse did not give"}
	case after.Outcome == access.Granted && all, after.Outcome == access.Lowered && some:
		entry.Outcome, entry.Facts = access.Lowered, []string{"kept, in whole or in part, for another hold or the baseline"}
	default:
		entry.Outcome = access.Blocked
		return entry, access.Errorf(access.Conflict, "%s is still there: somebody else gives it", t)
	}
	return entry, nil
}

// rounds is how often endSessions looks for connections: one that was just opened
// is not in the broker's list yet.
const rounds = 2

// ghostAfter is when a connection that is closed and listed still is looked for
// among the broker's statistics, which name every open one after five seconds:
// https://www.rabbitmq.com/docs/management#statistics-interval
const ghostAfter = 6 * time.Second

// endSessions closes the connections of a user, and looks until they are gone. A
// client that comes back does so with what the account has by now, and is let in.
// RabbitMQ 3 may list one for ever that was closed while it was being opened; its
// statistics do not.
func (i *integration) endSessions(ctx context.Context, name string) (ended int, err error) {
	var closing, ghosts []string
	round, begun := 0, time.Time{}
	err = turn.Until(ctx, func() (bool, error) {
		open, err := i.api.connections(ctx, name)
		if err != nil {
			return false, err
		}
		open = slices.DeleteFunc(open, func(c string) bool { return slices.Contains(ghosts, c) })
		if begun.IsZero() {
			begun, closing = time.Now(), open
			ended += len(open)
		}
		left := slices.DeleteFunc(open, func(c string) bool { return !slices.Contains(closing, c) })
		if len(left) > 0 && time.Since(begun) > ghostAfter {
			live, err := i.api.connectionsOfAll(ctx, name)
			if err != nil {
				return false, err
			}
			for _, c := range left {
				if !slices.Contains(live, c) {
					ghosts = append(ghosts, c)
					ended--
				}
			}
		}
		if len(left) > 0 {
			return false, i.api.closeConnections(ctx, name)
		}
		begun = time.Time{}
		round++
		return round == rounds, nil
	})
	return ended, during("closing the connections of "+name, err)
}
