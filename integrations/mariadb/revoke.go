package mariadb

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/mysqldb"
	"github.com/lapse-access/lapse/internal/sqlname"
	"github.com/lapse-access/lapse/internal/turn"
)

// revoke goes through every step, also after one that failed, and returns what
// failed together.
func (o *operation) revoke(ctx context.Context, req integrations.RevokeRequest, end []target) (res integrations.RevokeResult, err error) {
	a, err := o.find(ctx, req.Account)
	if err != nil {
		return res, err
	}
	if err := a.admit(req.Sequence); err != nil {
		return res, err
	}
	if a.row == nil {
		return o.nothingToRevoke(ctx, a, end)
	}
	remain := map[string]bool{} // what holds keep; a baseline is outside of the umbrella
	for _, claim := range req.Remain {
		t, err := o.i.parse(claim.Entitlement)
		if err != nil {
			return res, err
		}
		if !claim.Baseline {
			remain[t.role] = true
		}
	}
	open := len(remain) > 0

	var errs []error
	first := o.alter(a, req.Sequence, "", "")
	if !open {
		first = o.disable(a, req.Sequence)
	}
	errs = append(errs, o.withRemedy(mysqldb.During("closing the login of "+a.name, o.Exec(ctx, first)), "GRANT CREATE USER ON *.* TO ?"))
	if !open {
		notes, err := o.keepTriggers(ctx, a)
		res.Notes, errs = append(res.Notes, notes...), append(errs, err)
	}
	notes, err := o.takeBack(ctx, a, end, remain)
	res.Notes, errs = append(res.Notes, notes...), append(errs, err)

	ended := 0
	if o.i.config.TerminateSessions == "always" || (o.i.config.TerminateSessions == "last" && !open) {
		n, err := o.endSessions(ctx, a, func(there *account) bool {
			extra := slices.ContainsFunc(there.held, func(name string) bool { return !remain[name] })
			return there.last >= req.Sequence && (there.row.Locked || open) && !extra
		})
		ended, errs = n, append(errs, err)
	}
	after, err := o.find(ctx, req.Account)
	if err != nil {
		return res, access.Worst(append(errs, err)...)
	}
	var common []string
	switch {
	case open:
	case after.row == nil || after.row.Locked:
		common = append(common, "the account is locked")
	default:
		errs = append(errs, access.Errorf(access.Conflict, "account %s is not locked", a.name))
	}
	if ended > 0 {
		common = append(common, fmt.Sprintf("sessions ended: %d", ended))
	}
	res.Wrote = mysqldb.Wrote(req.Wrote)
	for _, t := range end {
		if !remain[t.role] {
			delete(res.Wrote, t.role)
		}
		entry, err := closed(t, a, after, remain[t.role])
		errs = append(errs, err)
		facts, err := o.otherWays(ctx, a, t)
		if err != nil {
			facts = []string{"not looked for other ways: " + err.Error()}
		}
		entry.Facts = slices.Concat(entry.Facts, common, facts)
		res.Entries = append(res.Entries, entry)
	}
	return res, access.Worst(errs...)
}

// takeBack takes every role out of the umbrella that no hold keeps, and Lapse's own
// roles from the account itself. What else somebody gave to that is reported.
func (o *operation) takeBack(ctx context.Context, a *account, end []target, remain map[string]bool) (notes []string, err error) {
	carried, err := o.carried(ctx)
	errs := []error{err}
	drift := func(name string) {
		what := "role " + name
		if e, ok := carried[name]; ok {
			what = e.String()
		}
		notes = append(notes, fmt.Sprintf("drift: %s held %s for which there is no hold; it was taken back", a.name, what))
	}
	ends := func(name string) bool {
		return slices.ContainsFunc(end, func(t target) bool { return t.role == name })
	}
	for _, name := range a.held {
		if remain[name] {
			continue
		}
		if !ends(name) {
			drift(name)
		}
		errs = append(errs, o.withdraw(ctx, name, role(umbrella(a.name))))
	}
	for _, name := range a.given {
		switch {
		case strings.HasPrefix(name, entitlementPrefix):
			drift(name)
			errs = append(errs, o.withdraw(ctx, name, a.principal(o.i)))
		case !o.i.own(name) && !ends(name):
			notes = append(notes, fmt.Sprintf("drift: %s has role %s, given by hand", a.name, name))
		}
	}
	return notes, access.Worst(errs...)
}

// keepTriggers closes an account for good whose umbrella is the definer of
// triggers, as DEFINER=CURRENT_ROLE makes it: they would fail without its roles,
// and with them every change of their tables.
func (o *operation) keepTriggers(ctx context.Context, a *account) (notes []string, err error) {
	grants, err := o.ShowGrants(ctx, role(umbrella(a.name)))
	if err != nil || !slices.ContainsFunc(grants, func(g mysqldb.Grant) bool { return slices.Contains(g.Privileges, "TRIGGER") }) {
		if access.KindOf(err) == access.ResourceMissing {
			err = nil
		}
		return nil, err
	}
	defined, err := o.Definers(ctx, role(umbrella(a.name)))
	if err != nil || !slices.ContainsFunc(defined, func(d mysqldb.Defined) bool { return d.Kind == "trigger" }) {
		return nil, err
	}
	owns, err := o.bury(ctx, a)
	for _, what := range owns {
		notes = append(notes, "kept: "+what)
	}
	return notes, err
}

// withdraw takes a role back; one that is not given any more, or is not there, is
// taken back.
func (o *operation) withdraw(ctx context.Context, name string, from sqlname.Principal) error {
	err := o.Exec(ctx, o.Statement("REVOKE ? FROM ?", role(name), from))
	switch {
	case mysqldb.Number(err) == notAdmin:
		return mysqldb.During("taking back role "+name, o.notAdministered(name))
	case access.KindOf(err) == access.ResourceMissing:
		return nil
	}
	return mysqldb.During("taking back role "+name, err)
}

// notAdmin is what MariaDB answers when a role is given or taken back by somebody
// who does not administer it. It is also the number of a refused login.
const notAdmin = 1698

// closed is what became of one role. One of Lapse's own that is still there, and
// need not be, is an error.
func closed(t target, before, after *account, keep bool) (access.Entry, error) {
	entry := access.Entry{Entitlement: t.Entitlement}
	switch {
	case !after.has(t.role) && before.has(t.role):
		entry.Outcome, entry.Facts = access.Gone, []string{"role " + t.role + " is taken back"}
	case !after.has(t.role):
		entry.Outcome, entry.Facts = access.WasGone, []string{"role " + t.role + " was not given"}
	case keep:
		entry.Outcome, entry.Facts = access.Lowered, []string{"role " + t.role + " is kept for another hold"}
	case slices.Contains(after.held, t.role) || t.Ours():
		entry.Outcome = access.Blocked
		return entry, access.Errorf(access.Conflict, "role %s is still given to %s", t.role, after.name)
	default:
		entry.Outcome, entry.Facts = access.Lowered, []string{"role " + t.role + " is still given by hand"}
	}
	return entry, nil
}

// nothingToRevoke answers for an account that is not there. An account of its name
// without our mark must not hide access that is to end.
func (o *operation) nothingToRevoke(ctx context.Context, a *account, end []target) (res integrations.RevokeResult, err error) {
	var held []string
	if a.stranger != nil {
		all, err := o.mappings(ctx)
		if err != nil {
			return res, err
		}
		held = slices.Concat(all[a.stranger.principal()], all[role(umbrella(a.name))])
	}
	res.Wrote = map[string]string{}
	for _, t := range end {
		if slices.Contains(held, t.role) {
			return res, a.taken()
		}
		res.Entries = append(res.Entries, access.Entry{Entitlement: t.Entitlement, Outcome: access.WasGone, Facts: []string{"there is no account " + a.name}})
	}
	return res, nil
}

// endSessions ends the sessions of an account on the server and on every other
// host that is configured, and looks until there are none. A replica is asked only
// when what was written has arrived there: before that a client could come back.
func (o *operation) endSessions(ctx context.Context, a *account, arrived func(there *account) bool) (ended int, err error) {
	n, err := o.endSessionsHere(ctx, a.name)
	ended, errs := n, []error{err}
	for _, host := range o.i.hosts {
		n, err := o.i.endSessionsAt(ctx, host, a, arrived)
		ended, errs = ended+n, append(errs, mysqldb.During("ending sessions on "+host.String(), err))
	}
	return ended, access.Worst(errs...)
}

func (o *operation) endSessionsHere(ctx context.Context, name string) (ended int, err error) {
	// Without the right to see them there would seem to be none.
	if err := o.need(ctx, "revoke"); err != nil {
		return 0, err
	}
	ended, err = o.EndSessions(ctx, name, nil)
	return ended, o.withRemedy(err, "GRANT CONNECTION ADMIN ON *.* TO ?")
}

func (i *integration) endSessionsAt(ctx context.Context, host mysqldb.Endpoint, a *account, arrived func(there *account) bool) (ended int, err error) {
	c, err := host.Open(ctx, dialect, i.server.User, i.server.Password)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	there, err := i.begin(ctx, c)
	if err != nil {
		return 0, err
	}
	err = turn.Until(ctx, func() (bool, error) {
		known, err := there.find(ctx, a.Account)
		return err == nil && (known.row == nil || arrived(known)), err
	})
	if err != nil {
		return 0, mysqldb.During("waiting for the revoke to arrive there", err)
	}
	return there.endSessionsHere(ctx, a.name)
}
