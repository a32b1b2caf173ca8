package integrationtest_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
)

// The slot: one level for each person and repository, which replaces the one
// before. Teams give levels too. Somebody from outside has to accept an
// invitation. GitHub and Grafana are of this shape.

var slotLevels = map[string][]string{"repository": {"read", "write", "admin"}}

// rank orders levels; none is 0.
func rank(level string) int { return slices.Index(slotLevels["repository"], level) + 1 }

// higher is the higher of two levels.
func higher(a, b string) string {
	if rank(b) > rank(a) {
		return b
	}
	return a
}

// slotKind gives levels.
func slotKind() integrations.Kind {
	return integrations.Kind{
		Name: "slot", Title: "Slot", Doc: "Access is one level on a repository.",
		Config: func() any { return new(config) }, Secret: func() any { return new(secret) },
		ResourceTypes: []integrations.ResourceType{
			{Name: "repository", Path: []string{"REPOSITORY"}, Doc: "a repository", Permissions: permissions(slotLevels["repository"])},
		},
		Sessions: "There are none: every request is judged anew.",
		LastResort: byHand(func(_ integrations.Target, req integrations.RevokeRequest) (calls string) {
			for _, e := range req.End {
				if req.Wrote[e.Resource.String()] == "" {
					continue
				}
				at := "?" + where(e.Resource, req.Account.Name).Encode()
				calls += integrations.ShellCall(http.MethodDelete, "/invitation"+at, "")
				if all, _ := owed(req.Remain, e.Resource); all != "" {
					calls += integrations.ShellCall(http.MethodPut, "/level"+at, strconv.Quote(all))
				} else {
					calls += integrations.ShellCall(http.MethodDelete, "/level"+at, "")
				}
			}
			return calls
		}),
		Told: func(t integrations.Target, req integrations.GrantRequest) ([]string, error) {
			return tell(t, func(c *client) error {
				for _, e := range req.Want {
					if err := (&slot{c}).set(context.Background(), unread(req.Account), e); err != nil {
						return err
					}
				}
				return nil
			})
		},
		New: func(t integrations.Target) (integrations.Integration, error) { return &slot{newClient(t)}, nil },
	}
}

type slot struct{ *client }

// levels are what somebody has on a repository, as the target keeps it.
type levels struct {
	Direct, Inherited string
	Invitation        *invitation
}

type invitation struct {
	Level, Link string
	Until       time.Time
}

func where(r access.Resource, user string) url.Values {
	return url.Values{"resource": {r.String()}, "user": {user}}
}

func (i *slot) levels(ctx context.Context, r access.Resource, user string) (l levels, err error) {
	err = i.read(ctx, "/level", where(r, user), &l)
	return l, err
}

func (i *slot) Held(ctx context.Context, a access.Account, want []access.Entitlement) (slots []access.Slot, err error) {
	if err := clean(want, slotLevels); err != nil {
		return nil, err
	}
	user, err := i.find(ctx, a)
	if err != nil {
		return nil, err
	}
	for _, e := range want {
		key := e.Resource.String()
		n := slices.IndexFunc(slots, func(s access.Slot) bool { return s.Key == key })
		if n < 0 {
			l, err := i.levels(ctx, e.Resource, user)
			if err != nil {
				return nil, err
			}
			s := access.Slot{Key: key, Held: l.Direct}
			if l.Direct != "" {
				s.HeldAs = []access.Entitlement{{Integration: i.id, Resource: e.Resource, Permission: l.Direct}}
			}
			if rank(e.Permission) > rank(higher(l.Direct, l.Inherited)) {
				s.Write = e.Permission
			}
			n, slots = len(slots), append(slots, s)
		}
		s := &slots[n]
		s.Entitlements = append(s.Entitlements, e)
		if len(s.Entitlements) > 1 && (s.Write != "" || rank(e.Permission) > rank(s.Held)) {
			s.Write = higher(s.Write, e.Permission)
		}
	}
	return slots, nil
}

// set writes a level.
func (i *slot) set(ctx context.Context, user string, e access.Entitlement) error {
	return i.write(ctx, http.MethodPut, "/level", where(e.Resource, user), e.Permission)
}

// Grant raises, and never lowers.
func (i *slot) Grant(ctx context.Context, req integrations.GrantRequest) (res integrations.GrantResult, err error) {
	if err := clean(req.Want, slotLevels); err != nil {
		return res, err
	}
	user, err := i.find(ctx, req.Account)
	if err != nil {
		return res, err
	}
	res.AccountName, res.Wrote = user, wrote(req.Wrote)
	for _, e := range req.Want {
		l, err := i.levels(ctx, e.Resource, user)
		if err != nil {
			return res, err
		}
		has := higher(l.Direct, l.Inherited)
		if l.Invitation != nil {
			has = higher(has, l.Invitation.Level)
		}
		if rank(e.Permission) <= rank(has) {
			continue
		}
		if err := i.set(ctx, user, e); err != nil {
			return res, err
		}
		res.Wrote[e.Resource.String()] = e.Permission
	}
	if res.Entries, err = i.Verify(ctx, req.Account, req.Want); err != nil {
		return res, err
	}
	for n, e := range res.Entries {
		switch {
		case e.Outcome == access.Granted && res.Wrote[e.Entitlement.Resource.String()] == "":
			res.Entries[n].Outcome = access.AlreadyHeld
		case e.Outcome == access.Gone, e.Outcome == access.Lowered:
			return res, unchanged(e.Entitlement)
		}
	}
	return res, nil
}

func (i *slot) Revoke(ctx context.Context, req integrations.RevokeRequest) (res integrations.RevokeResult, err error) {
	user, err := i.find(ctx, req.Account)
	if err != nil {
		return res, err
	}
	res.Wrote = wrote(req.Wrote)
	var errs []error
	for _, e := range req.End {
		entry, note, err := i.end(ctx, req, res.Wrote, user, e)
		res.Entries, errs = append(res.Entries, entry), append(errs, err)
		if note != "" {
			res.Notes = append(res.Notes, note)
		}
	}
	return res, access.Worst(errs...)
}

// owed is the level that must remain on a repository, and the part of it that
// is owed to other holds.
func owed(remain []access.Claim, r access.Resource) (all, holds string) {
	for _, c := range remain {
		if c.Entitlement.Resource != r {
			continue
		}
		all = higher(all, c.Entitlement.Permission)
		if !c.Baseline {
			holds = higher(holds, c.Entitlement.Permission)
		}
	}
	return all, holds
}

// end lowers a slot to what is owed, unless somebody else has changed it since:
// what is higher than Lapse wrote is theirs, and what is lower is not raised.
func (i *slot) end(ctx context.Context, req integrations.RevokeRequest, wrote map[string]string, user string, e access.Entitlement) (entry access.Entry, note string, err error) {
	entry = access.Entry{Entitlement: e, Outcome: access.WasGone}
	key := e.Resource.String()
	all, holds := owed(req.Remain, e.Resource)
	before, err := i.levels(ctx, e.Resource, user)
	if access.KindOf(err) == access.ResourceMissing {
		// The target showed us the person: it is the repository that is gone.
		delete(wrote, key)
		return entry, "", nil
	}
	if err != nil {
		return entry, "", err
	}
	if in := before.Invitation; in != nil && req.Wrote[key] != "" && rank(in.Level) > rank(holds) {
		if err := i.lower(ctx, "/invitation", e.Resource, user, holds); err != nil {
			return entry, "", err
		}
	}
	raised := rank(before.Direct) > rank(req.Wrote[key])
	switch {
	case raised && rank(before.Direct) > rank(all):
		note = fmt.Sprintf("drift: %s has %s on %s, which somebody else gave", user, before.Direct, key)
	case !raised && rank(before.Direct) > rank(all):
		if err := i.lower(ctx, "/level", e.Resource, user, all); err != nil {
			return entry, "", err
		}
	}
	delete(wrote, key)
	if holds != "" {
		wrote[key] = holds
	}

	var after levels
	settling, err := i.call(ctx, http.MethodGet, "/level", where(e.Resource, user), nil, &after)
	switch {
	case err != nil:
		return entry, note, err
	case settling:
		entry.Outcome = access.Propagating
	case !raised && rank(after.Direct) > rank(all), after.Invitation != nil && rank(after.Invitation.Level) > rank(holds) && req.Wrote[key] != "":
		entry.Outcome = access.Blocked
		err = unchanged(e)
	case rank(after.Direct) >= rank(e.Permission), rank(all) >= rank(e.Permission):
		entry.Outcome = access.Lowered
	case before.Direct != "" || before.Invitation != nil:
		entry.Outcome = access.Gone
	}
	return entry, note, err
}

// lower writes a level, or takes it away when it is none.
func (i *slot) lower(ctx context.Context, path string, r access.Resource, user, level string) error {
	if level == "" {
		return i.write(ctx, http.MethodDelete, path, where(r, user), nil)
	}
	return i.write(ctx, http.MethodPut, "/level", where(r, user), level)
}

func (i *slot) Verify(ctx context.Context, a access.Account, want []access.Entitlement) (entries []access.Entry, err error) {
	user, err := i.find(ctx, a)
	if err != nil {
		return nil, err
	}
	for _, e := range want {
		var l levels
		settling, err := i.call(ctx, http.MethodGet, "/level", where(e.Resource, user), nil, &l)
		entry := access.Entry{Entitlement: e, Outcome: access.Gone}
		has := higher(l.Direct, l.Inherited)
		switch {
		case access.KindOf(err) == access.ResourceMissing:
		case err != nil:
			return nil, err
		case settling:
			entry.Outcome = access.Propagating
		case rank(has) >= rank(e.Permission):
			entry.Outcome = access.Granted
		case l.Invitation != nil && rank(l.Invitation.Level) >= rank(e.Permission):
			entry.Outcome, entry.Awaits, entry.Link, entry.Until = access.Pending, "the invitation is accepted", l.Invitation.Link, l.Invitation.Until
		case has != "":
			entry.Outcome, entry.Facts = access.Lowered, []string{"the level is " + has}
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// DeleteAccount has nothing to do: people are the target's own.
func (i *slot) DeleteAccount(context.Context, integrations.DeleteRequest) (integrations.DeleteResult, error) {
	return integrations.DeleteResult{Outcome: access.WasGone}, nil
}

// Accounts is empty: a level carries no mark.
func (i *slot) Accounts(context.Context, string) (p access.PrincipalPage, err error) { return p, nil }

// slotTarget is the target, and looks at itself.
type slotTarget struct {
	*system
	closer
	directory
	slots map[string]*levels // by resource and user
}

var _ interface {
	integrationtest.HandObserver
	integrationtest.LevelObserver
	integrationtest.Inheriter
	integrationtest.Accepter
	integrationtest.DirectoryObserver
	integrationtest.Throttler
	integrationtest.Closer
	integrationtest.Deafener
} = (*slotTarget)(nil)

func newSlot(t *testing.T, f fault) *integrationtest.Harness {
	all := slotLevels["repository"]
	s := newSystem(t, f, found(all, "repository", "site"), found(all, "repository", "tools"), found(all, "repository", hostile))
	o := &slotTarget{system: s, closer: closer{s}, directory: directory{s}, slots: map[string]*levels{}}
	of := func(r *http.Request) *levels { return o.at(r.FormValue("resource"), r.FormValue("user")) }
	s.HandleFunc("GET /level", func(w http.ResponseWriter, r *http.Request) { answer(w, of(r)) })
	s.HandleFunc("PUT /level", func(w http.ResponseWriter, r *http.Request) {
		l, level := of(r), body[string](r)
		outside := slices.ContainsFunc(o.users, func(u user) bool { return u.ID == r.FormValue("user") && u.Outside })
		switch {
		case !outside || l.Direct != "":
			l.Direct = level
		case l.Invitation != nil:
			l.Invitation.Level = level
		default:
			l.Invitation = &invitation{Level: level, Link: s.URL + "/invitations/" + s.next(), Until: time.Now().Add(7 * 24 * time.Hour)}
		}
	})
	s.HandleFunc("DELETE /level", func(w http.ResponseWriter, r *http.Request) { of(r).Direct = "" })
	s.HandleFunc("DELETE /invitation", func(w http.ResponseWriter, r *http.Request) { of(r).Invitation = nil })

	h := s.harness(slotKind())
	h.Person = func(integrationtest.T) access.Account { return o.account(1, false) }
	h.Chains = [][]access.Entitlement{{entitlement("read", "repository", "site"), entitlement("write", "repository", "site"), entitlement("admin", "repository", "site")}}
	h.Apart = [2]access.Entitlement{entitlement("write", "repository", "site"), entitlement("read", "repository", "tools")}
	h.Absent = []access.Entitlement{entitlement("read", "repository", "nowhere")}
	h.Hostile = []access.Entitlement{entitlement("write", "repository", hostile)}
	h.Existing = entitlement("admin", "repository", "tools")
	h.Levels = h.Chains[0]
	h.Observer = o
	return h
}

// at is a slot; with the lock held.
func (o *slotTarget) at(resource, user string) *levels {
	key := resource + " " + user
	if o.slots[key] == nil {
		o.slots[key] = &levels{}
	}
	return o.slots[key]
}

// of is a copy of an account's slot.
func (o *slotTarget) of(a access.Account, r access.Resource) (l levels) {
	o.locked(func() { l = *o.at(r.String(), o.user(a)) })
	return l
}

func (o *slotTarget) Can(_ integrationtest.T, a access.Account, e access.Entitlement) bool {
	l := o.of(a, e.Resource)
	return rank(higher(l.Direct, l.Inherited)) >= rank(e.Permission)
}

func (o *slotTarget) Give(t integrationtest.T, a access.Account) {
	o.SetLevel(t, a, access.NewResource("repository", "tools"), "admin")
}

func (o *slotTarget) Given(t integrationtest.T, a access.Account) bool {
	return o.Level(t, a, access.NewResource("repository", "tools")) == "admin"
}

func (o *slotTarget) Level(_ integrationtest.T, a access.Account, r access.Resource) string {
	return o.of(a, r).Direct
}

func (o *slotTarget) SetLevel(_ integrationtest.T, a access.Account, r access.Resource, level string) {
	o.locked(func() { o.at(r.String(), o.user(a)).Direct = level })
}

func (o *slotTarget) Inherit(_ integrationtest.T, a access.Account, e access.Entitlement) {
	o.locked(func() { o.at(e.Resource.String(), o.user(a)).Inherited = e.Permission })
}

func (o *slotTarget) Invited(integrationtest.T) access.Account { return o.account(1, true) }

func (o *slotTarget) Accept(_ integrationtest.T, a access.Account, e access.Entry) {
	o.locked(func() {
		if l := o.at(e.Entitlement.Resource.String(), o.user(a)); l.Invitation != nil && l.Invitation.Link == e.Link {
			l.Direct, l.Invitation = l.Invitation.Level, nil
		}
	})
}
