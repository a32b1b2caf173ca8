package databricks

import (
	"context"
	"slices"
	"strings"

	"github.com/databricks/databricks-sdk-go/service/iam"

	"github.com/lapse-access/lapse/access"
)

const (
	typeGroup = "group"
	member    = "member"
)

// parse takes entitlements apart, into names of groups, before the API hears of
// them.
func parse(all []access.Entitlement) (names []string, err error) {
	for _, e := range all {
		parts, err := e.Resource.Names()
		if err != nil {
			return nil, access.Errorf(access.Invalid, "%v", err)
		}
		if e.Resource.Type != typeGroup || len(parts) != 1 || e.Permission != member {
			return nil, access.Errorf(access.Invalid, "%s is not of the form group:NAME=member", e)
		}
		names = append(names, parts[0])
	}
	return names, nil
}

// everybody is the group that Databricks keeps in every account.
// https://docs.databricks.com/aws/en/admin/users-groups/groups
const everybody = "account users"

// refuses is why nobody is added to a group by Lapse; nil for the others.
func (i *integration) refuses(g group) error {
	switch {
	case strings.EqualFold(g.DisplayName, everybody):
		return access.Errorf(access.Unsupported, "group %s is kept by Databricks", g.DisplayName)
	case g.Meta != nil && g.Meta.ResourceType != "" && g.Meta.ResourceType != "Group":
		return access.Errorf(access.Unsupported, "group %s belongs to one workspace", g.DisplayName)
	case g.ExternalId != "":
		return access.Errorf(access.ExternallyManaged, "group %s is kept by an identity provider", g.DisplayName).
			WithRemedy("request it there, or make a group of the account")
	case len(g.Roles) > 0 && !i.config.AdminGroups:
		return access.Errorf(access.Invalid, "group %s has a role over the whole account: %s", g.DisplayName, roles(g.Roles)).
			WithRemedy("set admin_groups where that is to be requested")
	}
	return nil
}

func roles(all []iam.ComplexValue) string {
	var names []string
	for _, r := range all {
		names = append(names, r.Value)
	}
	return strings.Join(names, " ")
}

// person is the id of the one active user with the address of an account.
func (i *integration) person(ctx context.Context, a access.Account) (string, error) {
	found, err := i.api.usersNamed(ctx, a.Email)
	switch {
	case err != nil:
		return "", err
	case len(found) != 1:
		return "", access.Errorf(access.PersonMissing, "Databricks knows %d users with the name %s", len(found), a.Email).
			WithRemedy("let the account have one user of that name")
	case !found[0].Active:
		return "", access.Errorf(access.PersonMissing, "the user %s is not active in Databricks", a.Email)
	}
	return found[0].Id, nil
}

// known is the id that an account has, or had when Lapse first granted to it:
// names of users change.
func (i *integration) known(ctx context.Context, a access.Account) (string, error) {
	if idForm.MatchString(a.Name) {
		return a.Name, nil
	}
	return i.person(ctx, a)
}

// requested is the one group of a name, with its members, if somebody can be
// added to it.
func (i *integration) requested(ctx context.Context, name string) (g group, err error) {
	found, err := i.api.groupsNamed(ctx, name)
	switch {
	case err != nil:
		return g, err
	case len(found) == 0:
		return g, access.Errorf(access.ResourceMissing, "there is no group %s", name)
	case len(found) > 1:
		return g, access.Errorf(access.Invalid, "there are %d groups %s", len(found), name).WithRemedy("rename all but one")
	}
	if err := i.refuses(found[0]); err != nil {
		return g, err
	}
	return i.api.group(ctx, found[0].Id)
}

// membership is one entry of a group's members.
type membership struct{ group, user string }

// key is that of the slot of a membership. A group that is made anew under its
// old name, and a person who comes back, have others.
func (m membership) key(e access.Entitlement) string {
	return e.String() + "@" + m.group + "/" + m.user
}

// ours are the memberships that Lapse wrote for an entitlement.
func ours(wrote map[string]string, e access.Entitlement) (all []membership) {
	for key := range wrote {
		ids, found := strings.CutPrefix(key, e.String()+"@")
		group, user, _ := strings.Cut(ids, "/")
		if found && idForm.MatchString(group) && idForm.MatchString(user) {
			all = append(all, membership{group, user})
		}
	}
	slices.SortFunc(all, func(a, b membership) int { return strings.Compare(a.key(e), b.key(e)) })
	return all
}
