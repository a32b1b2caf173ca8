package rabbitmq

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

// grant reads first, and writes nothing when a resource is missing or an
// expression would be too long.
func (i *integration) grant(ctx context.Context, req integrations.GrantRequest, want, remain []target) (res integrations.GrantResult, err error) {
	a, is, err := i.look(ctx, req.Account)
	if err != nil {
		return res, err
	}
	// Only now is it sure that the connector sees what there is.
	if err := i.exist(ctx, want); err != nil {
		return res, err
	}
	if a.stranger && a.user == nil {
		return res, a.taken()
	}
	all := slices.Concat(want, remain)
	will := wanted(all)
	if err := i.fits(ctx, will); err != nil {
		return res, err
	}
	if a.user != nil {
		res.Notes = i.drift(a, is, all)
	}
	before, err := i.open(ctx, a, is, will, all)
	if err != nil {
		return res, err
	}

	res.AccountName, res.Wrote = a.name, wrote(req.Wrote)
	now, has, err := i.look(ctx, access.Account{ID: a.ID, Name: a.name})
	if err == nil {
		err = has.check(a.name, will)
	}
	if err != nil {
		return res, err
	}
	for _, t := range want {
		e := now.seen(t, has)
		switch {
		case e.Outcome != access.Granted:
			return res, access.Errorf(access.Conflict, "%s was changed by somebody else while it was granted: %s", t, strings.Join(e.Facts, "; "))
		case t.tag != "" && before.has(t.tag) && !before.gave(t.tag):
			e.Outcome = access.AlreadyHeld
		default:
			res.Wrote[t.String()] = t.Permission
		}
		res.Entries = append(res.Entries, e)
	}
	return res, nil
}

// open is all that a grant writes. It returns the user as it was before.
func (i *integration) open(ctx context.Context, a *account, is, will rights, all []target) (before user, err error) {
	before = user{Name: a.name, Tags: i.mark(a.ID)}
	if a.user != nil {
		before = *a.user
	} else if err := i.api.putUser(ctx, before); err != nil {
		return before, during("making user "+a.name, err)
	}
	if err := i.apply(ctx, a.name, is, will); err != nil {
		return before, err
	}
	return before, i.save(ctx, before, before.with(tagsOf(all, before.given())))
}

// look reads an account and its rights.
func (i *integration) look(ctx context.Context, who access.Account) (*account, rights, error) {
	a, err := i.find(ctx, who)
	if err != nil {
		return nil, nil, err
	}
	r, err := i.rightsOf(ctx, a)
	return a, r, err
}

// limitSince43 is what RabbitMQ takes from 4.3 on, in bytes. Before, the limit is
// that of the compiled expression.
const limitSince43 = 1024

// fits demands that every expression is as short as the broker takes it.
func (i *integration) fits(ctx context.Context, r rights) error {
	limit, length := i.config.ExpressionLimit, r.longest()
	if limit > limitSince43 && length > limitSince43 {
		_, version, err := i.api.version(ctx)
		if err != nil {
			return during("reading the broker's version", err)
		}
		if !before(version, 4, 3) {
			limit = limitSince43
		}
	}
	if length > limit {
		return access.Errorf(access.Limit, "all that the person would hold in one virtual host makes an expression of %d bytes, and %d are the limit", length, limit).WithRemedy(widerRemedy)
	}
	return nil
}

// tagsOf are the tags that Lapse gives for entitlements, those first that it gave
// before.
func tagsOf(all []target, given []string) (list []string) {
	for _, t := range all {
		if t.tag != "" && !t.baseline && !slices.Contains(given, t.tag) {
			given = append(given, t.tag)
		}
	}
	return slices.DeleteFunc(given, func(tag string) bool {
		return !slices.ContainsFunc(all, func(t target) bool { return t.tag == tag })
	})
}

// drift tells what an account holds of Lapse's giving that nobody owes.
func (i *integration) drift(a *account, is rights, owed []target) (notes []string) {
	held, foreign := i.entitlements(is)
	for _, tag := range a.user.given() {
		held = append(held, access.Entitlement{Integration: i.id, Resource: access.NewResource(typeTag, tag), Permission: member})
	}
	for _, e := range held {
		if !slices.ContainsFunc(owed, func(t target) bool { return t.Entitlement == e }) {
			notes = append(notes, "drift: "+a.name+" held "+e.String()+" for which there is no hold; it was taken back")
		}
	}
	for _, text := range foreign {
		notes = append(notes, "drift: "+text+"; it was replaced")
	}
	return notes
}

// wrote begins a result from what was written before.
func wrote(before map[string]string) map[string]string {
	if before == nil {
		return map[string]string{}
	}
	return maps.Clone(before)
}

func (i *integration) verify(ctx context.Context, who access.Account, targets []target) ([]access.Entry, error) {
	a, r, err := i.look(ctx, who)
	if err != nil {
		return nil, err
	}
	entries := make([]access.Entry, len(targets))
	for n, t := range targets {
		entries[n] = a.seen(t, r)
	}
	return entries, nil
}

// seen is Lowered when only a part of an entitlement is there.
func (a *account) seen(t target, r rights) access.Entry {
	e := access.Entry{Entitlement: t.Entitlement, Outcome: access.Gone}
	if a.user == nil {
		e.Facts = []string{"there is no account " + a.name}
		return e
	}
	some, all, what := a.user.has(t.tag), a.user.has(t.tag), "the tag "+t.tag
	if t.tag == "" {
		some, all = r.gives(t)
		what = "permissions in " + t.vhost
	}
	switch {
	case all:
		e.Outcome, e.Facts = access.Granted, []string{what + " give it"}
	case some:
		e.Outcome, e.Facts = access.Lowered, []string{what + " give a part of it"}
	default:
		e.Facts = []string{"no " + strings.TrimPrefix(what, "the ") + " give it"}
	}
	return e
}
