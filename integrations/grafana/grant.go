package grafana

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/grafana/grafana-openapi-client-go/models"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

func (i *integration) held(ctx context.Context, a access.Account, want []target) (slots []access.Slot, err error) {
	u, err := i.present(ctx, a)
	if err != nil {
		return nil, err
	}
	for _, t := range want {
		n := slices.IndexFunc(slots, func(s access.Slot) bool { return s.Key == t.key() })
		if n < 0 {
			has, err := i.standing(ctx, t, u)
			if err != nil {
				return nil, err
			}
			s := access.Slot{Key: t.key(), Held: has.own}
			if t.sort.has(has.own) {
				s.HeldAs = []access.Entitlement{{Integration: i.id, Resource: t.Resource, Permission: has.own}}
			}
			n, slots = len(slots), append(slots, s)
		}
		s := &slots[n]
		s.Entitlements = append(s.Entitlements, t.Entitlement)
		if highest, _ := t.ranks().Highest(s.Held, s.Write, t.Permission); highest != s.Held {
			s.Write = highest
		}
	}
	return slots, nil
}

func (i *integration) grant(ctx context.Context, req integrations.GrantRequest, want []target) (res integrations.GrantResult, err error) {
	u, err := i.present(ctx, req.Account)
	if err != nil {
		return res, err
	}
	here, err := i.api.organization(ctx)
	if err != nil {
		return res, err
	}
	res.AccountName, res.Wrote = accountName(u, here.ID), copyOf(req.Wrote)
	for _, t := range want {
		if err := i.raise(ctx, req, res.Wrote, u, t); err != nil {
			return integrations.GrantResult{}, err
		}
	}
	if res.Entries, err = i.verify(ctx, req.Account, want); err != nil {
		return integrations.GrantResult{}, err
	}
	for n, e := range res.Entries {
		switch {
		case e.Outcome != access.Granted:
			return integrations.GrantResult{}, unchanged(want[n])
		case res.Wrote[want[n].key()] == "":
			res.Entries[n].Outcome = access.AlreadyHeld
		}
	}
	return res, nil
}

// raise gives a person a level of their own, unless they have it in a way that no
// other hold of Lapse ends.
func (i *integration) raise(ctx context.Context, req integrations.GrantRequest, wrote map[string]string, u *models.OrgUserDTO, t target) error {
	has, err := i.standing(ctx, t, u)
	if err != nil {
		return err
	}
	covers := t.ranks()
	if covers(has.own, t.Permission) {
		return nil
	}
	if _, ok := has.by(t, t.Permission, func(w way) bool { return ours(w, wrote, req.Remain) }); ok {
		if wrote[t.key()] = covers.Owed(on(req.Remain, t), t.Resource).Holds; has.own == "" || wrote[t.key()] == "" {
			delete(wrote, t.key())
		}
		return nil
	}
	if has.own != "" && !t.sort.has(has.own) {
		return access.Errorf(access.Unsupported, "%s has the level %q on %s, which Lapse does not know and could not give back", u.Login, has.own, t.Resource)
	}
	if has.external != "" {
		return access.Errorf(access.ExternallyManaged, "%s: %s", t.Resource, has.external).WithRemedy(syncedRemedy)
	}
	switch title, err := i.title(ctx, t); {
	case err != nil:
		return err
	case title != t.title:
		return access.Errorf(access.ResourceMissing, "%s is not called %q any more", t.key(), t.title).WithRemedy("read the catalog anew, and request it by its present name")
	}
	if err := i.write(ctx, t, u, has.own, t.Permission); err != nil {
		return err
	}
	wrote[t.key()] = t.Permission
	return nil
}

// ours is true for a way that ends with a hold of Lapse.
func ours(w way, wrote map[string]string, remain []access.Claim) bool {
	if w.slot == "" {
		return false
	}
	is := func(key string) bool {
		return key == w.slot || strings.HasSuffix(w.slot, ":") && strings.HasPrefix(key, w.slot)
	}
	for key := range wrote {
		if is(key) {
			return true
		}
	}
	return slices.ContainsFunc(remain, func(c access.Claim) bool {
		t, err := parse([]access.Entitlement{c.Entitlement})
		return err == nil && !c.Baseline && is(t[0].key())
	})
}

func (i *integration) verify(ctx context.Context, a access.Account, want []target) (entries []access.Entry, err error) {
	for _, t := range want {
		_, has, there, err := i.reading(ctx, a, t)
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry(t, has, there))
	}
	return entries, nil
}

// entry says how a person stands on a resource.
func entry(t target, has standing, there bool) access.Entry {
	entry := access.Entry{Entitlement: t.Entitlement, Outcome: access.Gone}
	w, beside := has.by(t, t.Permission, nil)
	switch {
	case !there:
		entry.Facts = []string{absence}
	case t.ranks()(has.own, t.Permission):
		entry.Outcome, entry.Facts = access.Granted, []string{"the level is " + has.own}
	case beside:
		entry.Outcome, entry.Facts = access.Granted, []string{"the level is " + w.level + " " + w.how}
	case has.own != "":
		entry.Outcome, entry.Facts = access.Lowered, []string{"the level is " + has.own}
	case len(has.ways) > 0:
		entry.Outcome, entry.Facts = access.Lowered, []string{"the level is " + has.ways[0].level + " " + has.ways[0].how}
	}
	return entry
}

func unchanged(t target) error {
	return access.Errorf(access.Conflict, "Grafana took the change of %s and does not show it", t.Entitlement)
}

func copyOf(wrote map[string]string) map[string]string {
	if wrote == nil {
		return map[string]string{}
	}
	return maps.Clone(wrote)
}
