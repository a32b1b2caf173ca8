package github

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

// lags are the pauses after which a change is looked for that does not show yet:
// GitHub answers readings from copies that may be a little behind.
var lags = []time.Duration{0, 250 * time.Millisecond, time.Second, 2 * time.Second}

// settle reads until what is there is as it should be, or the pauses are over.
func settle(ctx context.Context, pl place, p person, as func(state) bool) (s state, err error) {
	for _, pause := range lags {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return s, access.Errorf(access.Retry, "stopped before the change showed")
		}
		if s, err = pl.read(ctx, p); err != nil || as(s) {
			return s, err
		}
	}
	return s, nil
}

// lastChange is the last one of a slot by this process.
type lastChange struct {
	level string
	until time.Time
}

// lag is how long readings may be behind.
const lag = 10 * time.Second

// noted remembers what was written, so that an old copy is not taken for news.
func (i *integration) noted(key, level string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for key, c := range i.changes {
		if time.Now().After(c.until) {
			delete(i.changes, key)
		}
	}
	i.changes[key] = lastChange{level, time.Now().Add(lag)}
}

// look reads, again where the reading is older than what was written a moment ago.
func (i *integration) look(ctx context.Context, pl place, at spot, p person) (state, error) {
	s, err := pl.read(ctx, p)
	if err != nil {
		return s, err
	}
	i.mu.Lock()
	c, ok := i.changes[s.key(at, p)]
	i.mu.Unlock()
	if !ok || time.Now().After(c.until) || s.vague || s.own() == c.level {
		return s, nil
	}
	return settle(ctx, pl, p, func(s state) bool { return s.own() == c.level })
}

func customs(all []target, remain []access.Claim) bool {
	return slices.ContainsFunc(all, func(t target) bool { return isCustom(t.level) }) ||
		slices.ContainsFunc(remain, func(c access.Claim) bool { return c.Entitlement.Resource.Type == typeRepositoryRole })
}

func (i *integration) held(ctx context.Context, a access.Account, want []target) (slots []access.Slot, err error) {
	p, err := i.entering(ctx, a)
	if err != nil {
		return nil, err
	}
	for _, group := range bySpot(want) {
		at := group[0].at
		s, err := i.look(ctx, i.place(at, "", customs(group, nil)), at, p)
		if err != nil {
			return nil, err
		}
		held := access.Slot{Key: s.key(at, p), Held: s.own()}
		if names, err := group[0].Resource.Names(); err == nil && held.Held != "" {
			held.HeldAs = []access.Entitlement{i.as(at, names[0], held.Held)}
		}
		// Which sources other holds give is known to Grant alone: here all may be.
		held.Write, err = toWrite(s, group, []string{byTeam, byOrganization})
		if err != nil && slices.ContainsFunc(group, func(t target) bool { return !s.gives(t.level) }) {
			return nil, err
		}
		for _, t := range group {
			held.Entitlements = append(held.Entitlements, t.Entitlement)
		}
		slots = append(slots, held)
	}
	return slots, nil
}

// toWrite is the level that a grant writes, "" when the person has or is invited to
// all that is wanted, by sources that are not lent.
func toWrite(s state, want []target, lent []string) (string, error) {
	levels := []string{s.own()}
	for _, t := range want {
		if !s.order(s.own(), t.level) && !s.inherits(t.level, lent) {
			levels = append(levels, t.level)
		}
	}
	if len(levels) == 1 {
		return "", nil
	}
	level, ok := s.order.Highest(levels...)
	if !ok && levels[0] == "" {
		return "", access.Errorf(access.Invalid, "what is wanted on %s cannot be held at once", want[0].at.resource())
	}
	if !ok {
		return "", access.Errorf(access.Invalid, "%s would take the place of %s, which the person has and of which it gives only a part", want[len(want)-1], display(levels[0])).
			WithRemedy("ask for what covers both")
	}
	return level, nil
}

func display(level string) string {
	if isCustom(level) {
		return "the role " + level[len(custom):]
	}
	return level
}

func (i *integration) grant(ctx context.Context, req integrations.GrantRequest, want []target) (res integrations.GrantResult, err error) {
	p, err := i.entering(ctx, req.Account)
	if err != nil {
		return res, err
	}
	if known := numbered(req.Account.Name); known != 0 && known != p.id && slices.ContainsFunc(req.Remain, func(c access.Claim) bool { return !c.Baseline }) {
		return res, access.Errorf(access.PersonMissing, "%s belongs to %s now, and %s still holds something", access.NormalEmail(req.Account.Email), p.name(), req.Account.Name).
			WithRemedy("end what the other login holds first")
	}
	if !p.member {
		for _, t := range want {
			if t.at.typ != typeRepository || !i.config.AllowOutside {
				return res, access.Errorf(access.PersonMissing, "%s is not a member of the organization", p.login).
					WithRemedy("invite the person to the organization; for repositories, allow_outside_collaborators lets Lapse invite people from outside")
			}
			if isCustom(t.level) {
				return res, access.Errorf(access.Unsupported, "%s is not a member of the organization, and an invitation gives no custom role", p.login)
			}
		}
	}
	res.AccountName, res.Wrote = p.name(), wrote(req.Wrote)
	err = i.writes.Run(ctx, func(ctx context.Context) error {
		res.Entries = nil
		for _, group := range bySpot(want) {
			entries, err := i.raise(ctx, p, req, group, res.Wrote)
			if err != nil {
				return err
			}
			res.Entries = append(res.Entries, entries...)
		}
		return nil
	})
	if err != nil {
		return integrations.GrantResult{}, err
	}
	res.Entries = inOrder(res.Entries, want)
	return res, nil
}

// raise gives a person what is wanted in one spot.
func (i *integration) raise(ctx context.Context, p person, req integrations.GrantRequest, group []target, wrote map[string]string) (entries []access.Entry, err error) {
	at := group[0].at
	for _, t := range group {
		if err := i.knowsRole(ctx, t.level); err != nil {
			return nil, err
		}
	}
	pl := i.place(at, "", customs(group, req.Remain))
	s, err := i.look(ctx, pl, at, p)
	if err != nil {
		return nil, err
	}
	// Each two must be comparable, also while something covers both: it may end first.
	for _, t := range group {
		for _, c := range i.claims(req.Remain, at) {
			if _, ok := s.order.Highest(c.Entitlement.Permission, t.level); !ok {
				return nil, access.Errorf(access.Invalid, "%s cannot be held together with %s, which the person has", t, display(c.Entitlement.Permission)).
					WithRemedy("end the one first, or ask for what covers both")
			}
		}
	}
	level, err := toWrite(s, group, i.lenders(at, append(held(req.Remain), req.Want...)...))
	if err != nil {
		return nil, err
	}
	if level != "" {
		if s.closed != "" {
			return nil, access.Errorf(access.Invalid, "%s", s.closed).WithRemedy("unarchive it")
		}
		err := pl.write(ctx, p, s, level)
		needless := errors.Is(err, errNeedless)
		if err != nil && !needless {
			return nil, during("granting "+group[0].String(), err)
		}
		if !needless {
			i.noted(s.key(at, p), level)
		}
		if s, err = settle(ctx, pl, p, func(s state) bool { return needless || s.order(s.own(), level) }); err != nil {
			return nil, err
		}
		if wrote[s.key(at, p)] = level; !needless && !s.order(s.own(), level) {
			return nil, access.Errorf(access.Conflict, "GitHub took the change of %s and does not show it", group[0])
		}
	}
	if s.own() == "" {
		delete(wrote, s.key(at, p)) // it was meant to be written, and is not needed
	}
	for _, t := range group {
		entry := i.entry(p, s, t)
		switch {
		case entry.Outcome == access.Granted && (wrote[s.key(at, p)] == "" || !s.order(s.own(), t.level)):
			entry.Outcome = access.AlreadyHeld
		case entry.Outcome == access.Lowered, entry.Outcome == access.Gone:
			return nil, access.Errorf(access.Conflict, "%s was taken away in this moment", t)
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// entry says how an entitlement stands.
func (i *integration) entry(p person, s state, t target) access.Entry {
	e := access.Entry{Entitlement: t.Entitlement, Outcome: access.Gone}
	for _, way := range s.ways {
		e.Facts = append(e.Facts, fmt.Sprintf("%s has %s on %s %s", p.login, way, t.at.typ, s.name))
	}
	switch {
	case s.gives(t.level) && s.closed != "" && t.level != "read":
		e.Outcome, e.Facts = access.Blocked, append(e.Facts, s.closed)
	case s.gives(t.level):
		e.Outcome = access.Granted
	case s.pends(t.level):
		e.Outcome, e.Awaits, e.Link, e.Until = access.Pending, p.login+" accepts the invitation to repository "+s.name, s.invitation.link, s.invitation.until
	case len(s.ways) > 0:
		e.Outcome = access.Lowered
	default:
		e.Facts = []string{fmt.Sprintf("%s has nothing on %s %s", p.login, t.at.typ, s.name)}
	}
	return e
}

// inOrder puts entries into the order in which they were asked for.
func inOrder(entries []access.Entry, asked []target) (sorted []access.Entry) {
	for _, t := range asked {
		n := slices.IndexFunc(entries, func(e access.Entry) bool { return e.Entitlement == t.Entitlement })
		if n >= 0 {
			sorted = append(sorted, entries[n])
		}
	}
	return sorted
}

// wrote begins a result from what was written before.
func wrote(before map[string]string) map[string]string {
	if before == nil {
		return map[string]string{}
	}
	return maps.Clone(before)
}

func (i *integration) verify(ctx context.Context, a access.Account, want []target) (entries []access.Entry, err error) {
	p, err := i.present(ctx, a)
	if err != nil {
		return nil, err
	}
	for _, t := range want {
		if p.id == 0 {
			entries = append(entries, access.Entry{Entitlement: t.Entitlement, Outcome: access.Gone, Facts: []string{a.Name + " has left GitHub"}})
			continue
		}
		s, err := i.look(ctx, i.place(t.at, "", isCustom(t.level)), t.at, p)
		switch {
		case isMissing(err):
			entries = append(entries, access.Entry{Entitlement: t.Entitlement, Outcome: access.Gone, Facts: []string{err.Error()}})
		case err != nil:
			return nil, err
		default:
			entries = append(entries, i.entry(p, s, t))
		}
	}
	return entries, nil
}
