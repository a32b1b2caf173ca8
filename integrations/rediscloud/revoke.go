package rediscloud

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

func (i *integration) revoke(ctx context.Context, req integrations.RevokeRequest, end []target) (res integrations.RevokeResult, err error) {
	remain, err := i.parse(claimed(req.Remain))
	if err != nil {
		return res, err
	}
	var before owned
	var was reading
	left := grants{}
	err = i.account.Run(ctx, func(ctx context.Context) error {
		o, err := i.steady(ctx, req.Account)
		if err != nil {
			return err
		}
		before, res.Notes = o, nil
		if o.stranger || o.user == nil && o.role == nil {
			return nil
		}
		if was, err = i.reading(ctx, o.state, slices.Concat(end, remain)...); err != nil {
			return err
		}
		left = was.remaining(o.role, remain)
		res.Notes = i.beyond(was, o, end, left)
		if len(left) == 0 {
			return i.remove(ctx, req.Account, o, &res.Notes)
		}
		if left.same(o.role.grants()) {
			return nil
		}
		return i.change(ctx, req.Account, http.MethodPut, []string{"acl", "roles", strconv.Itoa(o.role.ID)}, left.body(o.roleName))
	})
	if err != nil && !(errors.Is(err, errPending) && i.isRunning(req.Account)) {
		return integrations.RevokeResult{}, err
	}
	res.Wrote = wrote(req.Wrote)
	if before.stranger {
		res.Notes = append(res.Notes, before.taken().Error())
	}
	if before.stranger || before.user == nil && before.role == nil {
		for _, t := range end {
			delete(res.Wrote, t.Resource.String())
			res.Entries = append(res.Entries, access.Entry{Entitlement: t.Entitlement, Outcome: access.WasGone, Facts: []string{"there is no account " + before.name}})
		}
		return res, nil
	}
	after := before
	if err == nil {
		err = i.confirm(ctx, func() (string, error) {
			if after, err = i.find(ctx, req.Account); err != nil {
				return "", err
			}
			return after.differs(left)
		})
	}
	switch {
	case errors.Is(err, errPending):
		i.running.LoadOrStore(req.Account.ID, unfinished{})
	case err != nil:
		return integrations.RevokeResult{}, err
	}
	for _, t := range end {
		entry := access.Entry{Entitlement: t.Entitlement, Outcome: access.WasGone}
		held, part := was.gives(before.holding(), t)
		still, less := reading{state: after.state, catalog: was.catalog}.gives(after.holding(), t)
		switch {
		case err != nil:
			entry.Outcome, entry.Facts = access.Propagating, []string{err.Error()}
		case still, less:
			entry.Outcome, entry.Facts = access.Lowered, []string{fmt.Sprintf("user %s has what remains by the role %s", after.name, after.user.Role)}
		case !held && !part:
		case len(left) == 0:
			entry.Outcome, entry.Facts = access.Gone, []string{"user " + before.name + " is deleted", "whether open sessions were ended is not known"}
		default:
			entry.Outcome, entry.Facts = access.Gone, []string{"role " + before.roleName + " does not give it any more"}
		}
		if err == nil && !slices.ContainsFunc(remain, func(r target) bool { return r.Resource == t.Resource }) {
			delete(res.Wrote, t.Resource.String())
		}
		res.Entries = append(res.Entries, entry)
	}
	return res, nil
}

// steady looks for a person's account when nothing is under way. Lists may be
// older than the last change, so that nothing is said not to be there which two
// looks, some time apart, did not miss.
func (i *integration) steady(ctx context.Context, a access.Account) (o owned, err error) {
	for look := range 2 {
		if look > 0 {
			if err := i.clock.sleep(ctx, twice); err != nil {
				return o, err
			}
		}
		if err := i.idle(ctx, a); err != nil {
			return o, err
		}
		if o, err = i.find(ctx, a); err != nil || o.user != nil || o.role != nil {
			return o, err
		}
	}
	return o, nil
}

// beyond says what the account has for which there is no hold, and that goes.
func (i *integration) beyond(r reading, o owned, end []target, left grants) (notes []string) {
	has := o.role.grants()
	for _, t := range end {
		for p := range r.owes(o.role, t) {
			delete(has, p)
		}
	}
	for p := range left {
		delete(has, p)
	}
	for _, e := range r.entitlements(i.id, &role{RedisRules: has.named(o.role)}) {
		notes = append(notes, fmt.Sprintf("drift: %s, for which there is no hold, was taken back", e))
	}
	if o.user != nil && o.user.Role != o.roleName {
		notes = append(notes, fmt.Sprintf("drift: user %s has the role %s, which somebody gave it", o.user.Name, o.user.Role))
	}
	return notes
}

// named is the body of grants with the names of databases as a role has them.
func (g grants) named(as *role) []roleRule {
	body := g.body("")
	for _, rule := range body.RedisRules {
		for n, d := range rule.Databases {
			for _, known := range as.RedisRules {
				for _, k := range known.Databases {
					if k.SubscriptionID == d.SubscriptionID && k.DatabaseID == d.DatabaseID {
						rule.Databases[n].DatabaseName = k.DatabaseName
					}
				}
			}
		}
	}
	return body.RedisRules
}

// remove deletes the user and then the role, which cannot be without its user the
// other way round. What is gone meanwhile is gone.
func (i *integration) remove(ctx context.Context, who access.Account, o owned, notes *[]string) error {
	if o.user != nil && o.user.Status != deleting {
		err := i.change(ctx, who, http.MethodDelete, []string{"acl", "users", strconv.Itoa(o.user.ID)}, nil)
		if err != nil && access.KindOf(err) != access.ResourceMissing {
			return err
		}
	}
	if o.role == nil || o.role.Status == deleting {
		return nil
	}
	if len(o.sharers) > 0 {
		*notes = append(*notes, fmt.Sprintf("drift: the role %s stays: somebody gave it to %s", o.roleName, strings.Join(o.sharers, ", ")))
		return nil
	}
	err := i.change(ctx, who, http.MethodDelete, []string{"acl", "roles", strconv.Itoa(o.role.ID)}, nil)
	if access.KindOf(err) == access.ResourceMissing {
		return nil
	}
	return err
}

// differs says what of an account is not as it was left, "" when nothing is.
func (o owned) differs(left grants) (string, error) {
	switch {
	case len(left) == 0 && o.user != nil:
		return "user " + o.user.Name + " is still there, " + o.user.Status, nil
	case len(left) == 0 && o.role != nil && len(o.sharers) == 0:
		return "role " + o.roleName + " is still there, " + o.role.Status, nil
	case len(left) == 0:
		return "", nil
	case o.role == nil || !left.same(o.role.grants()):
		return "the change does not show in role " + o.roleName, nil
	}
	return o.unsettled()
}

func (i *integration) deleteAccount(ctx context.Context, req integrations.DeleteRequest) (res integrations.DeleteResult, err error) {
	res.Outcome = access.Gone
	var notes []string
	err = i.account.Run(ctx, func(ctx context.Context) error {
		o, err := i.steady(ctx, req.Account)
		switch {
		case err != nil:
			return err
		case o.stranger:
			return o.taken()
		case o.user == nil && o.role == nil:
			res.Outcome = access.WasGone
			return nil
		}
		return i.remove(ctx, req.Account, o, &notes)
	})
	if err == nil && res.Outcome == access.Gone {
		err = i.confirm(ctx, func() (string, error) {
			o, err := i.find(ctx, req.Account)
			if err != nil {
				return "", err
			}
			return o.differs(nil)
		})
	}
	if err != nil {
		return integrations.DeleteResult{}, err
	}
	return res, nil
}

func (i *integration) accounts(ctx context.Context) (p access.PrincipalPage, err error) {
	s, err := i.look(ctx)
	if err != nil {
		return p, err
	}
	r, err := i.reading(ctx, s, target{})
	if err != nil {
		return p, err
	}
	for n := range s.roles {
		person, ours := strings.CutPrefix(s.roles[n].Name, i.rolePrefix())
		if !ours || !personForm.MatchString(person) {
			continue
		}
		o := i.own(s, access.Account{PersonID: person})
		x := access.Principal{Name: o.roleName, AccountID: access.AccountID(i.id, person)}
		if o.user != nil {
			x.Name, x.Enabled = o.user.Name, true
			x.Entitlements = r.entitlements(i.id, o.role)
			if o.user.Role != o.roleName {
				x.Entitlements, x.Foreign = nil, []string{"the role " + o.user.Role}
			}
		}
		for _, other := range o.sharers {
			x.Foreign = append(x.Foreign, "user "+other+" has its role")
		}
		p.Principals = append(p.Principals, x)
	}
	return p, nil
}
