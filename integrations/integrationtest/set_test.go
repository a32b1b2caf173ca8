package integrationtest_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
)

// The set: bindings on projects and members of groups, which add up. People are
// the target's own. A binding says in its id whose it is; that somebody is a
// member of a group does not say who made it so. Rancher, Argo CD and
// Databricks are of this shape.

var setLevels = map[string][]string{"project": {"viewer", "editor", "owner"}, "group": {"member"}}

// setKind gives bindings and memberships.
func setKind() integrations.Kind {
	return integrations.Kind{
		Name: "set", Title: "Set", Doc: "Access is a set of bindings and memberships.",
		Config: func() any { return new(config) }, Secret: func() any { return new(secret) },
		ResourceTypes: []integrations.ResourceType{
			{Name: "project", Path: []string{"PROJECT"}, Doc: "a project", Permissions: permissions(setLevels["project"])},
			{Name: "group", Path: []string{"GROUP"}, Doc: "a group", Permissions: permissions(setLevels["group"])},
		},
		Sessions: "There are none: every request is judged anew.",
		LastResort: byHand(func(t integrations.Target, req integrations.RevokeRequest) (calls string) {
			i := &set{&client{instance: t.Instance, id: t.ID}}
			for _, e := range req.End {
				if req.Wrote[e.String()] != "" {
					at := url.Values{"resource": {e.Resource.String()}, "id": {i.key(req.Account, req.Account.Name, e)}}
					calls += integrations.ShellCall(http.MethodDelete, "/bindings?"+at.Encode(), "")
				}
			}
			return calls
		}),
		Told: func(t integrations.Target, req integrations.GrantRequest) ([]string, error) {
			return tell(t, func(c *client) error {
				for _, e := range req.Want {
					if _, err := (&set{c}).bind(context.Background(), req.Account, unread(req.Account), e); err != nil {
						return err
					}
				}
				return nil
			})
		},
		New: func(t integrations.Target) (integrations.Integration, error) { return &set{newClient(t)}, nil },
	}
}

type set struct{ *client }

// binding is an entry of a resource's set, as the target keeps it.
type binding struct {
	ID, User, Role string
	Account        string // whose mark it carries
}

// key is the id of the entry that Lapse makes for an entitlement. A member of
// a group has no id but the user's own.
func (i *set) key(a access.Account, user string, e access.Entitlement) string {
	if e.Resource.Type == "group" {
		return user
	}
	return fmt.Sprintf("lapse-%x", sha256.Sum256([]byte(i.instance+"\x00"+a.ID+"\x00"+e.String())))
}

// entries are those of a user on a resource.
func (i *set) entries(ctx context.Context, e access.Entitlement, user string) (all []binding, err error) {
	err = i.read(ctx, "/bindings", url.Values{"resource": {e.Resource.String()}, "user": {user}}, &all)
	return all, err
}

// gives is true when an entry gives at least a permission.
func gives(b binding, e access.Entitlement) bool {
	order := setLevels[e.Resource.Type]
	return slices.Index(order, b.Role) >= slices.Index(order, e.Permission)
}

func (i *set) Held(ctx context.Context, a access.Account, want []access.Entitlement) (slots []access.Slot, err error) {
	if err := clean(want, setLevels); err != nil {
		return nil, err
	}
	user, err := i.find(ctx, a)
	if err != nil {
		return nil, err
	}
	for _, e := range want {
		all, err := i.entries(ctx, e, user)
		if err != nil {
			return nil, err
		}
		key := i.key(a, user, e)
		slot := access.Slot{Key: e.String(), Write: key, Entitlements: []access.Entitlement{e}}
		for _, b := range all {
			if b.Role == e.Permission && (b.ID != key || e.Resource.Type == "group") {
				slot.Held, slot.HeldAs, slot.Write = b.ID, slot.Entitlements, ""
			}
		}
		slots = append(slots, slot)
	}
	return slots, nil
}

func (i *set) Grant(ctx context.Context, req integrations.GrantRequest) (res integrations.GrantResult, err error) {
	if err := clean(req.Want, setLevels); err != nil {
		return res, err
	}
	user, err := i.find(ctx, req.Account)
	if err != nil {
		return res, err
	}
	res.AccountName, res.Wrote = user, wrote(req.Wrote)
	for _, e := range req.Want {
		all, err := i.entries(ctx, e, user)
		if err != nil {
			return res, err
		}
		if req.Wrote[e.String()] == "" && slices.ContainsFunc(all, func(b binding) bool { return b.Role == e.Permission }) {
			continue
		}
		if res.Wrote[e.String()], err = i.bind(ctx, req.Account, user, e); err != nil {
			return res, err
		}
	}
	if res.Entries, err = i.Verify(ctx, req.Account, req.Want); err != nil {
		return res, err
	}
	for n, e := range res.Entries {
		switch {
		case e.Outcome == access.Granted && res.Wrote[e.Entitlement.String()] == "":
			res.Entries[n].Outcome = access.AlreadyHeld
		case e.Outcome == access.Gone:
			return res, unchanged(e.Entitlement)
		}
	}
	return res, nil
}

// bind makes an entry and returns its id.
func (i *set) bind(ctx context.Context, a access.Account, user string, e access.Entitlement) (id string, err error) {
	b := binding{ID: i.key(a, user, e), User: user, Role: e.Permission, Account: a.ID}
	return b.ID, i.write(ctx, http.MethodPut, "/bindings", url.Values{"resource": {e.Resource.String()}, "id": {b.ID}}, b)
}

func (i *set) Revoke(ctx context.Context, req integrations.RevokeRequest) (res integrations.RevokeResult, err error) {
	user, err := i.find(ctx, req.Account)
	if err != nil {
		return res, err
	}
	res.Wrote = wrote(req.Wrote)
	var errs []error
	for _, e := range req.End {
		entry, err := i.end(ctx, req, user, e)
		res.Entries, errs = append(res.Entries, entry), append(errs, err)
		if entry.Outcome == access.Gone || entry.Outcome == access.WasGone {
			delete(res.Wrote, e.String())
		}
	}
	return res, access.Worst(errs...)
}

// end takes away one entry, if it is ours and nothing else needs it.
func (i *set) end(ctx context.Context, req integrations.RevokeRequest, user string, e access.Entitlement) (access.Entry, error) {
	entry := access.Entry{Entitlement: e, Outcome: access.Lowered}
	if slices.ContainsFunc(req.Remain, func(c access.Claim) bool { return c.Entitlement == e }) {
		return entry, nil
	}
	before, err := i.entries(ctx, e, user)
	if access.KindOf(err) == access.ResourceMissing {
		// The target showed us the person: it is the resource that is gone.
		entry.Outcome = access.WasGone
		return entry, nil
	}
	if err != nil {
		return entry, err
	}
	key := i.key(req.Account, user, e)
	if !slices.ContainsFunc(before, func(b binding) bool { return b.ID == key }) {
		entry.Outcome = access.WasGone
		return entry, nil
	}
	if e.Resource.Type == "group" && req.Wrote[e.String()] == "" {
		entry.Facts = []string{"the membership is somebody else's"}
		return entry, nil
	}
	q := url.Values{"resource": {e.Resource.String()}, "id": {key}}
	if err := i.write(ctx, http.MethodDelete, "/bindings", q, nil); err != nil {
		return entry, err
	}
	var after []binding
	settling, err := i.call(ctx, http.MethodGet, "/bindings", url.Values{"resource": {e.Resource.String()}, "user": {user}}, nil, &after)
	switch {
	case err != nil:
		return entry, err
	case settling:
		entry.Outcome = access.Propagating
	case slices.ContainsFunc(after, func(b binding) bool { return b.ID == key }):
		entry.Outcome = access.Blocked
		return entry, unchanged(e)
	default:
		entry.Outcome = access.Gone
	}
	return entry, nil
}

func (i *set) Verify(ctx context.Context, a access.Account, want []access.Entitlement) (entries []access.Entry, err error) {
	user, err := i.find(ctx, a)
	if err != nil {
		return nil, err
	}
	for _, e := range want {
		var all []binding
		settling, err := i.call(ctx, http.MethodGet, "/bindings", url.Values{"resource": {e.Resource.String()}, "user": {user}}, nil, &all)
		entry := access.Entry{Entitlement: e, Outcome: access.Gone}
		switch {
		case access.KindOf(err) == access.ResourceMissing:
		case err != nil:
			return nil, err
		case settling:
			entry.Outcome = access.Propagating
		case slices.ContainsFunc(all, func(b binding) bool { return gives(b, e) }):
			entry.Outcome = access.Granted
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// DeleteAccount has nothing to do: people are the target's own.
func (i *set) DeleteAccount(context.Context, integrations.DeleteRequest) (integrations.DeleteResult, error) {
	return integrations.DeleteResult{Outcome: access.WasGone}, nil
}

func (i *set) Accounts(ctx context.Context, _ string) (p access.PrincipalPage, err error) {
	marked := map[string]access.Principal{}
	var all map[string][]binding
	if err := i.read(ctx, "/marked", nil, &all); err != nil {
		return p, err
	}
	for resource, bindings := range all {
		r, err := access.ParseResource(resource)
		if err != nil {
			return p, access.Errorf(access.Unknown, "%w", err)
		}
		for _, b := range bindings {
			x := marked[b.Account]
			x.Name, x.AccountID, x.Enabled = b.User, b.Account, true
			x.Entitlements = append(x.Entitlements, access.Entitlement{Integration: i.id, Resource: r, Permission: b.Role})
			marked[b.Account] = x
		}
	}
	for _, id := range slices.Sorted(maps.Keys(marked)) {
		p.Principals = append(p.Principals, marked[id])
	}
	return p, nil
}

// setTarget is the target, and looks at itself.
type setTarget struct {
	*system
	closer
	directory
	bindings map[string]map[string]binding // by resource and id
}

var _ interface {
	integrationtest.HandObserver
	integrationtest.DirectoryObserver
	integrationtest.Throttler
	integrationtest.Closer
	integrationtest.Deafener
} = (*setTarget)(nil)

func newSet(t *testing.T, f fault) *integrationtest.Harness {
	project, group := setLevels["project"], setLevels["group"]
	s := newSystem(t, f, found(project, "project", "apollo"), found(project, "project", "gemini"), found(project, "project", hostile), found(group, "group", "operators"), found(group, "group", hostile))
	o := &setTarget{system: s, closer: closer{s}, directory: directory{s}, bindings: map[string]map[string]binding{}}
	for _, f := range s.catalog {
		o.bindings[f.Resource.String()] = map[string]binding{}
	}
	s.HandleFunc("GET /bindings", func(w http.ResponseWriter, r *http.Request) {
		all := []binding{}
		for _, b := range o.bindings[r.FormValue("resource")] {
			if b.User == r.FormValue("user") {
				all = append(all, b)
			}
		}
		answer(w, all)
	})
	s.HandleFunc("GET /marked", func(w http.ResponseWriter, r *http.Request) {
		all := map[string][]binding{}
		for resource, bindings := range o.bindings {
			for _, b := range bindings {
				if b.Account != "" {
					all[resource] = append(all[resource], b)
				}
			}
		}
		answer(w, all)
	})
	s.HandleFunc("PUT /bindings", func(w http.ResponseWriter, r *http.Request) {
		b := body[binding](r)
		if strings.HasPrefix(r.FormValue("resource"), "group:") {
			b.Account = "" // a member has no mark
		}
		o.bindings[r.FormValue("resource")][r.FormValue("id")] = b
	})
	s.HandleFunc("DELETE /bindings", func(w http.ResponseWriter, r *http.Request) {
		delete(o.bindings[r.FormValue("resource")], r.FormValue("id"))
	})
	h := s.harness(setKind())
	h.Person = func(integrationtest.T) access.Account { return o.account(1, false) }
	h.Chains = [][]access.Entitlement{{entitlement("viewer", "project", "apollo"), entitlement("editor", "project", "apollo"), entitlement("owner", "project", "apollo")}}
	h.Apart = [2]access.Entitlement{entitlement("editor", "project", "apollo"), entitlement("viewer", "project", "gemini")}
	h.Absent = []access.Entitlement{entitlement("viewer", "project", "nowhere"), entitlement("member", "group", "nobody")}
	h.Hostile = []access.Entitlement{entitlement("viewer", "project", hostile), entitlement("member", "group", hostile)}
	h.Existing = entitlement("member", "group", "operators")
	h.Observer = o
	return h
}

func (o *setTarget) Can(_ integrationtest.T, a access.Account, e access.Entitlement) (can bool) {
	o.locked(func() {
		for _, b := range o.bindings[e.Resource.String()] {
			can = can || b.User == o.user(a) && gives(b, e)
		}
	})
	return can
}

func (o *setTarget) Give(_ integrationtest.T, a access.Account) {
	o.locked(func() {
		b := binding{ID: o.user(a), User: o.user(a), Role: "member"}
		o.bindings["group:operators"][b.ID] = b
	})
}

func (o *setTarget) Given(t integrationtest.T, a access.Account) bool {
	return o.Can(t, a, entitlement("member", "group", "operators"))
}
