package github

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

func (i *integration) revoke(ctx context.Context, req integrations.RevokeRequest, end []target) (res integrations.RevokeResult, err error) {
	res.Wrote = wrote(req.Wrote)
	err = i.writes.Run(ctx, func(ctx context.Context) error {
		res.Entries, res.Notes = nil, nil
		var errs []error
		for _, group := range bySpot(end) {
			entries, notes, err := i.end(ctx, req, group, res.Wrote)
			res.Entries, res.Notes, errs = append(res.Entries, entries...), append(res.Notes, notes...), append(errs, err)
		}
		return access.Worst(errs...)
	})
	res.Entries = inOrder(res.Entries, end)
	return res, err
}

// weight orders outcomes by how much is left.
var weight = map[access.Outcome]int{access.WasGone: 1, access.Gone: 2, access.Lowered: 3, access.Propagating: 4, access.Blocked: 5}

// end ends what is held in one spot, in all that it is about and for all logins that
// the person had.
func (i *integration) end(ctx context.Context, req integrations.RevokeRequest, group []target, wrote map[string]string) (entries []access.Entry, notes []string, err error) {
	at := group[0].at
	keys := writtenAt(req.Wrote, at)
	if len(keys) == 0 {
		keys = []string{""}
	}
	var errs []error
	for _, key := range keys {
		_, id, number := splitKey(key)
		var p person
		if key == "" {
			p, err = i.present(ctx, req.Account)
		} else {
			p, err = i.known(ctx, number)
		}
		if key == "" && access.KindOf(err) == access.PersonMissing {
			err = nil // whom Lapse wrote nothing for
		}
		var some []access.Entry
		var note []string
		switch {
		case err != nil:
			some = same(group, access.Blocked, err.Error())
		case p.id == 0:
			delete(wrote, key)
			some = same(group, access.WasGone, "GitHub does not know the person")
		default:
			some, note, err = i.endAt(ctx, p, req, group, key, i.place(at, id, customs(group, req.Remain)), wrote)
		}
		errs, notes = append(errs, err), append(notes, note...)
		for _, e := range some {
			n := slices.IndexFunc(entries, func(x access.Entry) bool { return x.Entitlement == e.Entitlement })
			if n < 0 {
				entries = append(entries, e)
			} else if weight[e.Outcome] > weight[entries[n].Outcome] {
				entries[n] = e
			}
		}
	}
	return entries, notes, access.Worst(errs...)
}

// same says one thing of several entitlements.
func same(group []target, outcome access.Outcome, facts ...string) (entries []access.Entry) {
	for _, t := range group {
		entries = append(entries, access.Entry{Entitlement: t.Entitlement, Outcome: outcome, Facts: facts})
	}
	return entries
}

// endAt writes what is owed, unless somebody else has changed the level since.
func (i *integration) endAt(ctx context.Context, p person, req integrations.RevokeRequest, group []target, key string, pl place, wrote map[string]string) (entries []access.Entry, notes []string, err error) {
	at := group[0].at
	// What Lapse wrote and does not see may show a moment later.
	written := req.Wrote[key]
	before, err := settle(ctx, pl, p, func(s state) bool { return written == "" || s.own() == written || s.vague && s.own() != "" })
	if isMissing(err) {
		delete(wrote, key)
		return same(group, access.WasGone, err.Error()), nil, nil
	}
	if err != nil {
		return same(group, access.Blocked, err.Error()), nil, during("ending "+group[0].String(), err)
	}
	now := before.own()
	if before.vague && now != "" {
		now = cmp.Or(written, now)
	}
	owed := i.owed(before.order, req.Remain, at)
	keep := owed
	if before.inherits(owed.All, i.lenders(at, append(held(req.Remain), req.End...)...)) {
		keep.All = owed.Baseline // the rest is there without being written
	}
	what := before.order.End(now, written, keep)
	if owed.Split {
		notes = append(notes, fmt.Sprintf("drift: of several roles that %s is owed on %s only %s can be kept", p.login, at.resource(), display(owed.All)))
	}
	if what.Raised {
		notes = append(notes, fmt.Sprintf("drift: %s has %s on %s, which somebody else gave", p.login, display(now), at.resource()))
	}
	after := before
	if what.Change {
		if before.closed != "" {
			return same(group, access.Blocked, before.closed, "the level is ended once it is unarchived"), notes, nil
		}
		err := pl.write(ctx, p, before, what.Write)
		if why, ok := errors.AsType[stuck](err); ok {
			return same(group, access.Blocked, string(why)), notes, nil
		}
		if err != nil {
			return same(group, access.Blocked, err.Error()), notes, during("ending "+group[0].String(), err)
		}
		i.noted(before.key(at, p), what.Write)
		after, err = settle(ctx, pl, p, func(s state) bool { return s.within(keep.All) })
		if isMissing(err) {
			delete(wrote, key)
			return same(group, access.Gone, err.Error()), notes, nil
		}
		if err != nil {
			return same(group, access.Blocked, err.Error()), notes, during("reading back "+group[0].String(), err)
		}
		if !after.within(keep.All) {
			return same(group, access.Blocked, p.login+" still has "+display(after.own())), notes, access.Errorf(access.Conflict, "GitHub took the end of %s and does not show it", group[0])
		}
	}
	delete(wrote, key)
	if owed.Holds != "" && key != "" && after.own() != "" {
		wrote[key] = owed.Holds
	}
	for _, t := range group {
		e := i.entry(p, after, t)
		switch {
		case e.Outcome == access.Blocked, e.Outcome == access.Granted, after.order(owed.All, t.level), after.pends(t.level):
			e.Outcome = access.Lowered
		case !what.Change && !before.gives(t.level) && !before.pends(t.level):
			e.Outcome = access.WasGone
		case after.own() != "", owed.All != "":
			e.Outcome = access.Lowered
		default:
			e.Outcome = access.Gone
		}
		e.Awaits, e.Link, e.Until = "", "", time.Time{}
		entries = append(entries, e)
	}
	return entries, notes, nil
}
