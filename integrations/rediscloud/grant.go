package rediscloud

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

func (i *integration) grant(ctx context.Context, req integrations.GrantRequest, want []target) (res integrations.GrantResult, err error) {
	remain, err := i.parse(claimed(req.Remain))
	if err != nil {
		return res, err
	}
	var after grants
	err = i.account.runGiving(ctx, func(ctx context.Context) error {
		if err := i.idle(ctx, req.Account); err != nil {
			return err
		}
		o, err := i.find(ctx, req.Account)
		switch {
		case err != nil:
			return err
		case o.stranger:
			return o.taken()
		}
		if after, err = i.sum(ctx, o.state, want, remain); err != nil {
			return err
		}
		res.AccountName, res.Notes = o.name, nil
		return i.open(ctx, req.Account, o, after, &res.Notes)
	})
	if err != nil && !(errors.Is(err, errPending) && i.isRunning(req.Account)) {
		return integrations.GrantResult{}, err
	}
	if err == nil {
		// Others may make their changes while we wait.
		err = i.confirm(ctx, func() (string, error) {
			o, err := i.find(ctx, req.Account)
			if err != nil {
				return "", err
			}
			if o.user == nil || o.role == nil || o.user.Role != o.roleName || !after.same(o.role.grants()) {
				return "the change does not show in account " + res.AccountName, nil
			}
			return o.unsettled()
		})
	}
	outcome, fact := access.Granted, fmt.Sprintf("user %s has the role %s", res.AccountName, i.roleName(req.Account.PersonID))
	switch {
	case errors.Is(err, errPending):
		i.running.LoadOrStore(req.Account.ID, unfinished{})
		outcome, fact = access.Propagating, err.Error()
	case err != nil:
		return integrations.GrantResult{}, err
	}
	res.Wrote = wrote(req.Wrote)
	for _, t := range want {
		res.Entries = append(res.Entries, access.Entry{Entitlement: t.Entitlement, Outcome: outcome, Facts: []string{fact}})
		res.Wrote[t.Resource.String()] = t.Permission
	}
	return res, nil
}

// open writes the role and then the user, as far as they are not so already. Only
// the last change may be left running: what comes before it has to be there.
func (i *integration) open(ctx context.Context, who access.Account, o owned, after grants, notes *[]string) error {
	body := after.body(o.roleName)
	switch {
	case o.role == nil:
		if err := i.change(ctx, who, http.MethodPost, []string{"acl", "roles"}, body); err != nil {
			i.running.Delete(who.ID)
			return err
		}
	case !after.same(o.role.grants()):
		err := i.change(ctx, who, http.MethodPut, []string{"acl", "roles", strconv.Itoa(o.role.ID)}, body)
		if err != nil {
			if o.user == nil || o.user.Role != o.roleName {
				i.running.Delete(who.ID)
			}
			return err
		}
	}
	switch {
	case o.user == nil:
		// A user has a password. Nobody knows this one.
		return i.change(ctx, who, http.MethodPost, []string{"acl", "users"}, userBody{Name: o.name, Role: o.roleName, Password: i.password(o.name)})
	case o.user.Role != o.roleName:
		*notes = append(*notes, fmt.Sprintf("drift: user %s had the role %s; it has its own again", o.name, o.user.Role))
		return i.change(ctx, who, http.MethodPut, []string{"acl", "users", strconv.Itoa(o.user.ID)}, userBody{Role: o.roleName})
	}
	return nil
}

// userBody is what the API takes for a user.
type userBody struct {
	Name     string `json:"name,omitempty"`
	Role     string `json:"role,omitempty"`
	Password string `json:"password,omitempty"`
}

// sum is what a role has to have: all that is wanted, and what must remain as far
// as it is there.
func (i *integration) sum(ctx context.Context, s state, want, remain []target) (grants, error) {
	all := grants{}
	c := &catalog{}
	for n, t := range slices.Concat(want, remain) {
		if t.role == "" && c.databases == nil {
			var err error
			if c, err = i.catalog(ctx); err != nil {
				return nil, err
			}
		}
		g, err := i.where(ctx, c, s, t)
		if err != nil {
			if kind := access.KindOf(err); n >= len(want) && (kind == access.ResourceMissing || kind == access.Unsupported) {
				continue
			}
			return nil, err
		}
		for p, rule := range g {
			if err := all.add(p, rule); err != nil {
				return nil, during(t.String(), err)
			}
		}
	}
	return all, nil
}

func (i *integration) isRunning(a access.Account) bool {
	_, ok := i.running.Load(a.ID)
	return ok
}

func claimed(claims []access.Claim) (all []access.Entitlement) {
	for _, c := range claims {
		all = append(all, c.Entitlement)
	}
	return all
}

// wrote begins a result from what was written before.
func wrote(before map[string]string) map[string]string {
	if before == nil {
		return map[string]string{}
	}
	return maps.Clone(before)
}

func (i *integration) verify(ctx context.Context, a access.Account, want []target) ([]access.Entry, error) {
	all := func(outcome access.Outcome, fact string) (entries []access.Entry) {
		for _, t := range want {
			entries = append(entries, access.Entry{Entitlement: t.Entitlement, Outcome: outcome, Facts: []string{fact}})
		}
		return entries
	}
	look := sync.OnceValues(func() (owned, error) { return i.find(ctx, a) })
	missing, err := i.settled(ctx, a, look)
	var o owned
	if err == nil && missing == "" {
		o, err = look()
	}
	if err == nil && o.user != nil {
		missing, err = o.unsettled()
	}
	switch {
	case access.KindOf(err) == access.Unknown:
		return all(access.Blocked, err.Error()), nil
	case err != nil:
		return nil, err
	case missing != "":
		return all(access.Propagating, missing), nil
	case o.stranger:
		return all(access.Gone, "user "+o.name+" is not ours"), nil
	case o.user == nil:
		return all(access.Gone, "there is no user "+o.name), nil
	}
	r, err := i.reading(ctx, o.state, want...)
	if err != nil {
		return nil, err
	}
	has := o.holding()
	var entries []access.Entry
	for _, t := range want {
		e := access.Entry{Entitlement: t.Entitlement, Outcome: access.Gone, Facts: []string{"role " + o.user.Role + " does not give it"}}
		switch whole, some := r.gives(has, t); {
		case whole:
			e.Outcome, e.Facts = access.Granted, []string{fmt.Sprintf("user %s has it by the role %s", o.user.Name, o.user.Role)}
		case some:
			e.Outcome, e.Facts = access.Lowered, []string{"role " + o.user.Role + " gives less"}
		}
		entries = append(entries, e)
	}
	return entries, nil
}
