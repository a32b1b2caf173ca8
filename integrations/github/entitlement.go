package github

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/slot"
)

// The types of resources.
const (
	typeRepository     = "repository"
	typeRepositoryRole = "repository_role"
	typeTeam           = "team"
	typeRole           = "organization_role"
	typeOrganization   = "organization"
)

const (
	assigned = "assigned"
	owner    = "owner"
	// custom stands before the name of a custom role in a level.
	custom = "role:"
)

// ladders are the levels of each type that do not depend on the organization.
var ladders = map[string][]string{
	typeRepository:   {"read", "triage", "write", "maintain", "admin"},
	typeTeam:         {"member", "maintainer"},
	typeRole:         {assigned},
	typeOrganization: {owner},
}

// spot is where somebody has one level: a resource, or what several resources
// share, as custom roles share their repository.
type spot struct{ typ, name string }

func (s spot) resource() access.Resource { return access.NewResource(s.typ, s.name) }

// target is an entitlement as a level in a spot.
type target struct {
	access.Entitlement
	at    spot
	level string
}

var (
	// https://docs.github.com/en/repositories/creating-and-managing-repositories/repository-limits
	repositoryForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)
	dots           = regexp.MustCompile(`^\.{1,2}$`)
)

// longest is more than any name of GitHub's has.
const longest = 255

func (i *integration) parse(all []access.Entitlement) (parsed []target, err error) {
	for _, e := range all {
		t, err := i.parseOne(e)
		if err != nil {
			return nil, err
		}
		parsed = append(parsed, t)
	}
	return parsed, nil
}

func (i *integration) parseOne(e access.Entitlement) (target, error) {
	names, err := e.Resource.Names()
	if err != nil {
		return target{}, access.Errorf(access.Invalid, "%v", err)
	}
	if !slices.ContainsFunc(resourceTypes, func(t integrations.ResourceType) bool {
		return t.Name == e.Resource.Type && len(t.Path) == len(names) && slices.ContainsFunc(t.Permissions, func(p permission) bool { return p.Name == e.Permission })
	}) {
		return target{}, access.Errorf(access.Invalid, "%s is not something that can be requested on GitHub", e)
	}
	for _, name := range names {
		if len(name) > longest || dots.MatchString(name) {
			return target{}, access.Errorf(access.Invalid, "%s cannot be a name on GitHub", e.Resource)
		}
	}
	t := target{Entitlement: e, at: spot{e.Resource.Type, names[0]}, level: e.Permission}
	if t.at.typ == typeRepositoryRole {
		t.at.typ, t.level = typeRepository, custom+names[1]
	}
	if t.at.typ == typeRepository && !repositoryForm.MatchString(t.at.name) {
		return target{}, access.Errorf(access.Invalid, "%s cannot be a name on GitHub", e.Resource)
	}
	if t.at.typ != typeRole {
		t.at.name = strings.ToLower(t.at.name) // GitHub does not tell them apart
	}
	return t, nil
}

// offers is false for what the configuration leaves out.
func (i *integration) offers(r access.Resource) bool {
	return slices.Contains(i.types, r.Type) && i.filter.Offers(r)
}

// bySpot groups entitlements that share a spot, in their order.
func bySpot(all []target) (groups [][]target) {
	for _, t := range all {
		n := slices.IndexFunc(groups, func(g []target) bool { return g[0].at == t.at })
		if n < 0 {
			n, groups = len(groups), append(groups, nil)
		}
		groups[n] = append(groups[n], t)
	}
	return groups
}

// claims are those on a spot, as levels. What cannot be read is none of GitHub's.
func (i *integration) claims(remain []access.Claim, at spot) (claims []access.Claim) {
	for _, c := range remain {
		if t, err := i.parseOne(c.Entitlement); err == nil && t.at == at {
			claims = append(claims, access.Claim{Entitlement: access.Entitlement{Resource: at.resource(), Permission: t.level}, Baseline: c.Baseline})
		}
	}
	return claims
}

// owed is what must remain in a spot.
func (i *integration) owed(order slot.Order, remain []access.Claim, at spot) slot.Owed {
	return order.Owed(i.claims(remain, at), at.resource())
}

// as is a level as an entitlement.
func (i *integration) as(at spot, name, level string) access.Entitlement {
	e := access.Entitlement{Integration: i.id, Resource: access.NewResource(at.typ, name), Permission: level}
	if role, ok := strings.CutPrefix(level, custom); ok {
		e.Resource, e.Permission = access.NewResource(typeRepositoryRole, name, role), assigned
	}
	return e
}

// state is what somebody has in a spot.
type state struct {
	// id is that of the repository, team or role for good; name is its present one,
	// and home the present owner of a repository.
	id, name, home string
	// direct is the level that the person has by themselves, and inherited what
	// teams and the organization give besides.
	direct    string
	inherited []source
	// ways say what gives which level.
	ways       []string
	invitation *invitation
	// vague is true when GitHub shows the highest level whatever was written.
	vague bool
	// closed says why nothing can be changed, "" when it can.
	closed string
	// order is that of the levels in this spot.
	order slot.Order
}

// key is that of a person's slot. It has the id and the person's number: what gets
// the old name of something that was renamed is another slot, and so is that of
// another login to which the address belongs by then.
func (s state) key(at spot, p person) string {
	return fmt.Sprintf("%s@%s@%d", at.resource(), s.id, p.id)
}

// splitKey takes a slot's key apart.
func splitKey(key string) (resource, id string, number int64) {
	rest, last, _ := cutLast(key)
	resource, id, ok := cutLast(rest)
	number, err := strconv.ParseInt(last, 10, 64)
	if !ok || err != nil {
		return "", "", 0
	}
	return resource, id, number
}

func cutLast(s string) (before, after string, found bool) {
	n := strings.LastIndex(s, "@")
	if n < 0 {
		return s, "", false
	}
	return s[:n], s[n+1:], true
}

// writtenAt are the keys under which Lapse wrote in a spot: more than one when what
// it wrote to was renamed and its name given to something else, or when the address
// went to another login.
func writtenAt(wrote map[string]string, at spot) (keys []string) {
	for _, key := range slices.Sorted(maps.Keys(wrote)) {
		if resource, _, _ := splitKey(key); resource == at.resource().String() {
			keys = append(keys, key)
		}
	}
	return keys
}

// source is a level that somebody has by a team or by the organization.
type source struct {
	level string
	from  string // byTeam or byOrganization
}

const (
	byTeam         = "team"
	byOrganization = "organization"
)

// gives tells whether the person has a level now, by whatever way.
func (s state) gives(level string) bool { return s.order(s.direct, level) || s.inherits(level, nil) }

// inherits tells whether the person has a level by a source that is not lent.
func (s state) inherits(level string, lent []string) bool {
	return level != "" && slices.ContainsFunc(s.inherited, func(x source) bool { return s.order(x.level, level) && !slices.Contains(lent, x.from) })
}

// lenders are the sources that may be what other holds give: a team, ownership, a
// role. They end with their hold, so that they are no reason not to write in a spot.
func (i *integration) lenders(at spot, all ...access.Entitlement) (lent []string) {
	for _, e := range all {
		t, err := i.parseOne(e)
		switch {
		case err != nil, t.at == at:
		case t.at.typ == typeTeam:
			lent = append(lent, byTeam)
		case t.at.typ == typeRole, t.at.typ == typeOrganization:
			lent = append(lent, byOrganization)
		}
	}
	return lent
}

// held are the claims that are not the baseline's.
func held(claims []access.Claim) (all []access.Entitlement) {
	for _, c := range claims {
		if !c.Baseline {
			all = append(all, c.Entitlement)
		}
	}
	return all
}

// within tells whether the person's own level is no more than a level.
func (s state) within(level string) bool {
	return s.order(level, s.own()) || s.vague && level != ""
}

// pends tells whether an invitation would give a level.
func (s state) pends(level string) bool {
	return s.direct == "" && s.invitation != nil && !s.invitation.expired && s.order(s.invitation.level, level)
}

// own is the person's own level, the invited one included.
func (s state) own() string {
	if s.direct == "" && s.invitation != nil && !s.invitation.expired {
		return s.invitation.level
	}
	return s.direct
}

// place reads and writes the levels of one spot.
type place interface {
	// read reads what somebody has. It is ResourceMissing only where the connector
	// would see it.
	read(ctx context.Context, p person) (state, error)
	// write makes a level the person's own; "" takes it away.
	write(ctx context.Context, p person, s state, level string) error
}

// place is that of a spot: by its present name, or by the id that it had when
// Lapse wrote there. customs is true when levels of custom roles are compared.
func (i *integration) place(at spot, id string, customs bool) place {
	switch at.typ {
	case typeRepository:
		return repository{i, at.name, id, customs}
	case typeTeam:
		return team{i, at.name, id}
	case typeRole:
		return role{i, at.name, id}
	}
	return ownership{i, at.name}
}

func isCustom(level string) bool { return strings.HasPrefix(level, custom) }
