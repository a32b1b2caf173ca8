package github

import (
	"context"
	"slices"
	"strconv"
	"strings"

	gh "github.com/google/go-github/v89/github"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/slot"
)

// role is the spot of an organization role, which somebody has or has not.
type role struct {
	i        *integration
	name, id string
}

func (r role) read(ctx context.Context, p person) (s state, err error) {
	s.order = slot.Ladder(ladders[typeRole]...)
	all, err := r.i.organizationRoles(ctx)
	if err != nil {
		return s, err
	}
	if r.id != "" && len(all) == 0 {
		return s, access.Errorf(access.Privilege, "GitHub shows the connector's token no organization roles any more").WithRemedy(setupRemedy)
	}
	for _, one := range all {
		id := strconv.FormatInt(one.GetID(), 10)
		if r.id != "" && id != r.id || r.id == "" && one.GetName() != r.name {
			continue
		}
		if s.id != "" {
			return s, access.Errorf(access.Invalid, "there are several organization roles %q", r.name).WithRemedy("give one of them another name")
		}
		s.id, s.name = id, one.GetName()
	}
	if s.id == "" {
		return s, r.i.missing(ctx, "organization role "+strconv.Quote(r.name))
	}
	number, _ := strconv.ParseInt(s.id, 10, 64) // it was one
	is := func(u *gh.User) bool { return u.GetID() == p.id }
	// https://docs.github.com/en/rest/orgs/organization-roles#list-users-that-are-assigned-to-an-organization-role
	users, err := pages(ctx, r.i, func(ctx context.Context, at gh.ListOptions) ([]*gh.User, *gh.Response, error) {
		return r.i.rest.Organizations.ListUsersAssignedToOrgRole(ctx, segment(r.i.config.Organization), number, &at)
	}, is)
	if n := slices.IndexFunc(users, is); n >= 0 {
		switch how := users[n].GetAssignment(); how {
		case "indirect", "mixed":
			s.inherited, s.ways = []source{{assigned, byTeam}}, []string{"assigned by a team"}
			if how == "indirect" {
				break
			}
			fallthrough
		default:
			s.direct, s.ways = assigned, append(s.ways, "assigned directly")
		}
	}
	return s, err
}

func (r role) write(ctx context.Context, p person, s state, level string) error {
	number, _ := strconv.ParseInt(s.id, 10, 64) // it was one
	organization, login := segment(r.i.config.Organization), segment(p.login)
	return r.i.change(ctx, func(ctx context.Context) (*gh.Response, error) {
		if level == "" {
			// Without the number of the role it would take every role away.
			return r.i.rest.Organizations.RemoveOrgRoleFromUser(ctx, organization, login, number)
		}
		return r.i.rest.Organizations.AssignOrgRoleToUser(ctx, organization, login, number)
	})
}

// ownership is the spot of the organization: its owners and its other members.
type ownership struct {
	i    *integration
	name string
}

func (o ownership) read(ctx context.Context, p person) (s state, err error) {
	s.order, s.id, s.name = slot.Ladder(ladders[typeOrganization]...), o.name, o.name
	if o.name != strings.ToLower(o.i.config.Organization) {
		return s, access.Errorf(access.ResourceMissing, "organization %s is not the one of the integration", o.name)
	}
	_, owns, err := o.i.member(ctx, p.login)
	if owns {
		s.direct, s.ways = owner, []string{"owner directly"}
	}
	return s, err
}

// stuck says why access cannot be taken away now.
type stuck string

func (s stuck) Error() string { return string(s) }

// write makes an owner of a member, or a member of an owner. It never removes a
// membership.
// https://docs.github.com/en/rest/orgs/members#set-organization-membership-for-a-user
func (o ownership) write(ctx context.Context, p person, _ state, level string) error {
	role := "admin"
	if level == "" {
		role = "member"
		if err := o.keepsOne(ctx, p); err != nil {
			return err
		}
	}
	return o.i.change(ctx, func(ctx context.Context) (*gh.Response, error) {
		_, res, err := o.i.rest.Organizations.EditOrgMembership(ctx, segment(p.login), segment(o.i.config.Organization), &gh.Membership{Role: &role})
		return res, err
	})
}

// keepsOne refuses to demote the last owner, and the one to whom the connector's
// token belongs.
func (o ownership) keepsOne(ctx context.Context, p person) error {
	self, err := o.i.self(ctx)
	if err != nil {
		return err
	}
	if self.GetID() == p.id {
		return stuck(p.login + " is the owner of the connector's token, and is not demoted")
	}
	other := func(u *gh.User) bool { return u.GetID() != p.id }
	owners, err := o.i.owners(ctx, other)
	if err == nil && !slices.ContainsFunc(owners, other) {
		return stuck(p.login + " is the last owner of the organization, and is not demoted")
	}
	return err
}
