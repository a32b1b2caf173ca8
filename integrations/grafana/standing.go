package grafana

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/grafana/grafana-openapi-client-go/models"

	"github.com/lapse-access/lapse/access"
)

// accountName names somebody with what never changes: the id of the person, and
// of the organization.
func accountName(u *models.OrgUserDTO, organization int64) string {
	return fmt.Sprintf("%s (%d@%d)", u.Login, u.UserID, organization)
}

var accountPattern = regexp.MustCompile(` \(([1-9][0-9]{0,18})@([1-9][0-9]{0,18})\)$`)

// ids are those in an account's name, 0 before it is known.
func ids(a access.Account) (user, organization int64) {
	if m := accountPattern.FindStringSubmatch(a.Name); m != nil {
		user, _ = strconv.ParseInt(m[1], 10, 64)
		organization, _ = strconv.ParseInt(m[2], 10, 64)
	}
	return user, organization
}

// find looks for a person, nil when there is none: by the id where it is known,
// as people change their address, and by the address, or a login that is one. It
// returns nobody of two who may be meant.
func (i *integration) find(ctx context.Context, a access.Account) (*models.OrgUserDTO, error) {
	id, _ := ids(a)
	near, err := i.api.people(ctx, access.NormalEmail(a.Email))
	if err != nil {
		return nil, err
	}
	is := func(u *models.OrgUserDTO) bool { return u.UserID == id }
	if n := slices.IndexFunc(near, is); n >= 0 {
		return near[n], nil
	}
	if id != 0 {
		all, err := i.api.people(ctx, "")
		if err != nil {
			return nil, err
		}
		if n := slices.IndexFunc(all, is); n >= 0 {
			return all[n], nil
		}
	}
	near = slices.DeleteFunc(near, func(u *models.OrgUserDTO) bool {
		return !access.SameEmail(u.Email, a.Email) && !access.SameEmail(u.Login, a.Email)
	})
	switch len(near) {
	case 0:
		return nil, nil
	case 1:
		return near[0], nil
	}
	return nil, access.Errorf(access.PersonMissing, "%d people in Grafana have the address %s", len(near), a.Email).
		WithRemedy("give one of them another address or login")
}

// present is somebody who can be given something.
func (i *integration) present(ctx context.Context, a access.Account) (*models.OrgUserDTO, error) {
	u, err := i.find(ctx, a)
	switch {
	case err != nil:
		return nil, err
	case u == nil:
		return nil, access.Errorf(access.PersonMissing, "nobody in the organization has the address %s", a.Email).
			WithRemedy("let the person sign in to Grafana once, and to this organization")
	case !access.SameEmail(u.Email, a.Email) && u.Email != "" && a.Name == "":
		// People choose their login themselves: it is not enough beside another address.
		return nil, access.Errorf(access.PersonMissing, "%s is the login of somebody with another address", a.Email).
			WithRemedy("set the user's address in Grafana, or another login")
	case u.IsDisabled:
		return nil, access.Errorf(access.PersonMissing, "%s is disabled in Grafana", u.Login).WithRemedy("enable the user in Grafana")
	}
	return u, nil
}

// absent proves that what was not found is not there: the token is of the same
// organization, and sees everybody in it.
func (i *integration) absent(ctx context.Context, a access.Account) error {
	here, err := i.api.organization(ctx)
	if err != nil {
		return err
	}
	if _, was := ids(a); was != 0 && was != here.ID {
		return otherOrganization(here)
	}
	rights, err := i.api.rights(ctx)
	if err != nil {
		return err
	}
	if !everything(rights[rightPeople], "users") {
		return access.Errorf(access.Privilege, "the connector does not see everybody in the organization").WithRemedy("give its service account %s on users:*", rightPeople)
	}
	return nil
}

func otherOrganization(here *models.OrgDetailsDTO) error {
	return access.Errorf(access.Privilege, "the token belongs to the organization %d, %s, and not to this one", here.ID, here.Name).
		WithRemedy("make an integration for each organization, and keep the token's organization when you replace it")
}

// standing is what a person has on a resource.
type standing struct {
	// own is the person's level by themselves, which is the slot.
	own string
	// ways are those by which they have it beside.
	ways []way
	// external says who decides on it instead, "" for nobody.
	external string
}

// way is access that is not in the slot.
type way struct {
	level string
	how   string
	// slot is the key of the one through which it comes, if it comes through a
	// slot; with nothing behind the colon it is any of the type.
	slot string
}

// by is a way that gives a level, and whether there is one.
func (s standing) by(t target, level string, except func(way) bool) (w way, ok bool) {
	covers := t.ranks()
	n := slices.IndexFunc(s.ways, func(w way) bool { return covers(w.level, level) && (except == nil || !except(w)) })
	if n < 0 {
		return way{}, false
	}
	return s.ways[n], true
}

// standing reads what somebody has.
func (i *integration) standing(ctx context.Context, t target, u *models.OrgUserDTO) (s standing, err error) {
	switch t.Resource.Type {
	case typeTeam:
		return i.membership(ctx, t, u)
	case typeOrganization:
		return i.role(ctx, t, u)
	}
	entries, err := i.api.permissions(ctx, t)
	if access.KindOf(err) == access.ResourceMissing {
		if _, other := i.description(ctx, t.sort); other != nil {
			err = other
		}
	}
	if err != nil {
		return s, err
	}
	teams := map[int64]bool{}
	for _, e := range entries {
		w := way{level: level(e.Permission)}
		switch {
		case e.IsServiceAccount || e.Permission == "":
			continue
		case e.UserID == u.UserID && e.IsManaged && !e.IsInherited:
			s.own, _ = t.ranks().Highest(s.own, w.level)
			continue
		case e.UserID == u.UserID && e.IsInherited:
			w.how, w.slot = "by a folder above", typeFolder+":"
		case e.UserID == u.UserID:
			w.how = "by the role " + e.RoleName
		case e.TeamID != 0:
			member, known := teams[e.TeamID]
			if !known {
				if member, err = i.isMember(ctx, e.TeamID, u); err != nil {
					return s, err
				}
				teams[e.TeamID] = member
			}
			if !member {
				continue
			}
			w.how, w.slot = "by the team "+e.Team, typeTeam+":"+decimal(e.TeamID)
		case e.BuiltInRole != "" && e.BuiltInRole == u.Role:
			w.how, w.slot = "as "+u.Role+" of the organization", typeOrganization+":"
		default:
			continue
		}
		s.ways = append(s.ways, w)
	}
	return s, nil
}

// absence is why somebody has nothing.
const absence = "the person or the resource is not there"

// reading is what a person has on a resource; there is false when the person or
// the resource is proven not to be there.
func (i *integration) reading(ctx context.Context, a access.Account, t target) (u *models.OrgUserDTO, s standing, there bool, err error) {
	if u, err = i.find(ctx, a); err != nil {
		return nil, s, false, err
	}
	known := u != nil
	if id, _ := ids(a); !known && id != 0 && t.Resource.Type != typeOrganization {
		// Grafana may hide people from lists, and still shows what they have.
		u = &models.OrgUserDTO{UserID: id, Login: a.Name}
	}
	if u != nil {
		s, err = i.standing(ctx, t, u)
		if err == nil && (known || s.own != "") {
			return u, s, true, nil
		}
		if err != nil && access.KindOf(err) != access.ResourceMissing {
			return nil, s, false, err
		}
	}
	return nil, standing{}, false, i.absent(ctx, a)
}

func (i *integration) isMember(ctx context.Context, team int64, u *models.OrgUserDTO) (bool, error) {
	members, err := i.api.members(ctx, decimal(team))
	return slices.ContainsFunc(members, func(m *models.TeamMemberDTO) bool { return m.UserID == u.UserID }), err
}

func (i *integration) membership(ctx context.Context, t target, u *models.OrgUserDTO) (s standing, err error) {
	team, err := i.api.team(ctx, t.id)
	if err != nil {
		return s, err
	}
	if value(team.IsProvisioned) {
		s.external = "the team is provisioned by an identity provider"
	}
	members, err := i.api.members(ctx, t.id)
	if err != nil {
		return s, err
	}
	for _, m := range members {
		if m.UserID != u.UserID {
			continue
		}
		s.own = "member"
		if m.Permission >= teamAdmin {
			s.own = "admin"
		}
		if len(m.Labels) > 0 {
			s.external = "the membership comes from an identity provider, " + strings.Join(m.Labels, ", ")
		}
	}
	return s, nil
}

func (i *integration) role(ctx context.Context, t target, u *models.OrgUserDTO) (s standing, err error) {
	here, err := i.api.organization(ctx)
	if err != nil {
		return s, err
	}
	if decimal(here.ID) != t.id {
		return s, otherOrganization(here)
	}
	if u.IsExternallySynced {
		s.external = "the person's role comes from an identity provider"
	}
	if s.own = level(u.Role); s.own == "none" {
		s.own = ""
	}
	return s, nil
}

// description says which levels a type of resource has, or that this Grafana has
// no permissions on it at all.
func (i *integration) description(ctx context.Context, s sort) (*models.Description, error) {
	d, err := i.api.description(ctx, s)
	switch {
	case access.KindOf(err) == access.ResourceMissing:
		return nil, access.Errorf(access.Unsupported, "this Grafana has no permissions on %s: open-source Grafana (OSS) has none", s.called).
			WithRemedy("use Grafana Enterprise with a licence or Grafana Cloud, or grant what OSS has: folders, dashboards, teams and roles in the organization")
	case err == nil && (d.Assignments == nil || !d.Assignments.Users):
		return nil, access.Errorf(access.Unsupported, "this Grafana gives people no permissions of their own on %s", s.called)
	}
	return d, err
}

// title is what a resource is called now.
func (i *integration) title(ctx context.Context, t target) (title string, err error) {
	switch t.Resource.Type {
	case typeDataSource:
		d, err := i.api.dataSource(ctx, t.id)
		if err != nil {
			return "", err
		}
		return d.Name, nil
	case typeFolder:
		f, err := i.api.folder(ctx, t.id)
		if err != nil {
			return "", err
		}
		return f.Title, nil
	case typeDashboard:
		h, err := i.api.dashboard(ctx, t.id)
		if err != nil {
			return "", err
		}
		return h.Title, nil
	case typeTeam:
		team, err := i.api.team(ctx, t.id)
		if err != nil {
			return "", err
		}
		return value(team.Name), nil
	}
	here, err := i.api.organization(ctx)
	if err != nil {
		return "", err
	}
	return here.Name, nil
}

// write sets a person's own level; "" takes it away.
func (i *integration) write(ctx context.Context, t target, u *models.OrgUserDTO, was, level string) error {
	switch t.Resource.Type {
	case typeTeam:
		return i.writeMembership(ctx, t, u, was, level)
	case typeOrganization:
		if level == "" {
			level = "none"
		}
		return i.api.role(ctx, u.UserID, word(level))
	}
	return i.api.permit(ctx, t, u.UserID, word(level))
}

// writeMembership makes members first and admins then, as Grafana does it in two
// calls.
func (i *integration) writeMembership(ctx context.Context, t target, u *models.OrgUserDTO, was, level string) error {
	if level == "" {
		return i.api.leave(ctx, t.id, u.UserID)
	}
	if was == "" {
		// Whoever became a member meanwhile is one.
		if err := i.api.join(ctx, t.id, u.UserID); err != nil && access.KindOf(err) != access.Conflict {
			return err
		}
	}
	switch {
	case level == "admin":
		return i.api.rank(ctx, t.id, u.UserID, teamAdmin)
	case was == "admin":
		return i.api.rank(ctx, t.id, u.UserID, 0)
	}
	return nil
}
