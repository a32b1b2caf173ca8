package databricks

import (
	"context"
	"fmt"
	"maps"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

func (i *integration) held(ctx context.Context, a access.Account, want []access.Entitlement) (slots []access.Slot, err error) {
	names, err := parse(want)
	if err != nil {
		return nil, err
	}
	user, err := i.person(ctx, a)
	if err != nil {
		return nil, err
	}
	for n, e := range want {
		g, err := i.requested(ctx, names[n])
		if err != nil {
			return nil, err
		}
		m := membership{g.Id, user}
		slot := access.Slot{Key: m.key(e), Write: member, Entitlements: []access.Entitlement{e}}
		if g.has(user) {
			if i.unsettled(m, true) {
				return nil, access.Errorf(access.Retry, "group %s still shows %s, whom Lapse just removed", g.DisplayName, a.Email)
			}
			slot.Held, slot.HeldAs, slot.Write = member, slot.Entitlements, ""
		}
		slots = append(slots, slot)
	}
	return slots, nil
}

func (i *integration) grant(ctx context.Context, req integrations.GrantRequest) (res integrations.GrantResult, err error) {
	names, err := parse(req.Want)
	if err != nil {
		return res, err
	}
	for _, e := range req.Want {
		if !i.filter().Offers(e.Resource) {
			return res, access.Errorf(access.Invalid, "%s is left out by include and exclude of the integration", e.Resource)
		}
	}
	user, err := i.person(ctx, req.Account)
	if err != nil {
		return res, err
	}
	done := integrations.GrantResult{AccountName: user, Wrote: wrote(req.Wrote)}
	for n, e := range req.Want {
		g, err := i.requested(ctx, names[n])
		if err != nil {
			return res, err
		}
		entry, err := i.open(ctx, g, membership{g.Id, user}, e, done.Wrote)
		if err != nil {
			return res, err
		}
		done.Entries = append(done.Entries, entry)
	}
	return done, nil
}

// open adds the person, and does so again where Lapse wrote it before: to add a
// member twice is once, and what was read may be older than a removal.
func (i *integration) open(ctx context.Context, g group, m membership, e access.Entitlement, wrote map[string]string) (access.Entry, error) {
	entry := access.Entry{Entitlement: e, Facts: []string{fmt.Sprintf("user %s is a member of group %s (%s)", m.user, g.DisplayName, g.Id)}}
	if g.has(m.user) && wrote[m.key(e)] == "" && !i.unsettled(m, true) {
		entry.Outcome = access.AlreadyHeld
		return entry, nil
	}
	wrote[m.key(e)] = member
	if err := i.changing(ctx, m, true, func(ctx context.Context) error { return i.add(ctx, m) }); err != nil {
		return entry, err
	}
	shown, err := i.shows(ctx, m, true)
	entry.Outcome = access.Granted
	if !shown {
		entry.Outcome, entry.Facts = access.Propagating, []string{fmt.Sprintf("group %s took user %s and does not show them yet", g.DisplayName, m.user)}
	}
	return entry, err
}

// add is all that a grant writes.
func (i *integration) add(ctx context.Context, m membership) error {
	return i.api.patch(ctx, "adding to", m.group, addition(m.user))
}

// wrote begins a result from what was written before.
func wrote(before map[string]string) map[string]string {
	if before == nil {
		return map[string]string{}
	}
	return maps.Clone(before)
}

func (i *integration) verify(ctx context.Context, a access.Account, want []access.Entitlement) (entries []access.Entry, err error) {
	names, err := parse(want)
	if err != nil {
		return nil, err
	}
	user, err := i.known(ctx, a)
	if err != nil {
		return nil, err
	}
	for n, e := range want {
		entry, err := i.look(ctx, names[n], user)
		if err != nil {
			return nil, err
		}
		entry.Entitlement = e
		entries = append(entries, entry)
	}
	return entries, nil
}

// look reads how a user stands in the groups of a name.
func (i *integration) look(ctx context.Context, name, user string) (access.Entry, error) {
	entry := access.Entry{Outcome: access.Gone, Facts: []string{fmt.Sprintf("user %s is no member of group %s", user, name)}}
	found, err := i.api.groupsNamed(ctx, name)
	if err != nil {
		return entry, err
	}
	for _, listed := range found {
		g, err := i.api.group(ctx, listed.Id)
		if access.KindOf(err) == access.ResourceMissing {
			err = i.missing(ctx, err)
		}
		if err != nil {
			return entry, err
		}
		switch m := (membership{listed.Id, user}); {
		case i.unsettled(m, g.has(user)):
			entry.Outcome, entry.Facts = access.Propagating, []string{fmt.Sprintf("group %s (%s) does not show the change of user %s yet", name, g.Id, user)}
			return entry, nil
		case g.has(user):
			entry.Outcome, entry.Facts = access.Granted, []string{fmt.Sprintf("user %s is a member of group %s (%s)", user, name, g.Id)}
		}
	}
	return entry, nil
}
