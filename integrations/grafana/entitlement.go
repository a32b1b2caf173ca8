package grafana

import (
	"regexp"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/slot"
)

// The types of resources. Each is named by what people call it and by its id, as
// names change and need not be unique.
const (
	typeDataSource   = "data_source"
	typeFolder       = "folder"
	typeDashboard    = "dashboard"
	typeTeam         = "team"
	typeOrganization = "organization"
)

// sort is what is known of a type of resource.
type sort struct {
	// name is what the API calls it where it keeps permissions:
	// https://grafana.com/docs/grafana/latest/developer-resources/api-reference/http-api/access_control/
	name string
	// called is what people call several of them.
	called string
	doc    string
	levels []integrations.Permission // weakest first
}

var sorts = map[string]sort{
	typeDataSource: {"datasources", "data sources", "a data source; Enterprise and Cloud only", []integrations.Permission{
		{Name: "query", Doc: "query the data source"},
		{Name: "edit", Doc: "query and change the data source"},
		{Name: "admin", Doc: "query and change the data source, and who may use it"},
	}},
	typeFolder: {"folders", "folders", "a folder, with all dashboards, alert rules and folders in it", []integrations.Permission{
		{Name: "view", Doc: "see what is in the folder"},
		{Name: "edit", Doc: "change and delete what is in the folder, and the folder"},
		{Name: "admin", Doc: "change the folder, and who may use it"},
	}},
	typeDashboard: {"dashboards", "dashboards", "a dashboard", []integrations.Permission{
		{Name: "view", Doc: "see the dashboard"},
		{Name: "edit", Doc: "change and delete the dashboard"},
		{Name: "admin", Doc: "change the dashboard, and who may use it"},
	}},
	typeTeam: {"teams", "teams", "a team, with all that it may use", []integrations.Permission{
		{Name: "member", Doc: "what the team may use"},
		{Name: "admin", Doc: "what the team may use, and who belongs to it"},
	}},
	typeOrganization: {"", "roles in the organization", "the organization of the token", []integrations.Permission{
		{Name: "viewer", Doc: "the basic role Viewer: see dashboards"},
		{Name: "editor", Doc: "the basic role Editor: change dashboards, folders and alerts"},
		{Name: "admin", Doc: "the basic role Admin: manage the organization, its people, data sources and teams"},
	}},
}

// order of discovery and of what is shown.
var order = []string{typeOrganization, typeDataSource, typeFolder, typeDashboard, typeTeam}

func resourceTypes() (types []integrations.ResourceType) {
	for _, name := range order {
		s := sorts[name]
		types = append(types, integrations.ResourceType{Name: name, Path: []string{"NAME", "ID"}, Doc: s.doc, Permissions: s.levels, Ordered: true})
	}
	return types
}

// ranks orders the levels.
func (s sort) ranks() slot.Order {
	names := make([]string, len(s.levels))
	for i, l := range s.levels {
		names[i] = l.Name
	}
	return slot.Ladder(names...)
}

// word is how Grafana writes a level.
func word(level string) string {
	if level == "" {
		return ""
	}
	return strings.ToUpper(level[:1]) + level[1:]
}

// level is the one that Grafana writes like this.
func level(word string) string { return strings.ToLower(word) }

// has is true for a level that the type has.
func (s sort) has(level string) bool {
	return slices.ContainsFunc(s.levels, func(p integrations.Permission) bool { return p.Name == level })
}

// target is an entitlement, taken apart.
type target struct {
	access.Entitlement
	sort
	title, id string
}

// key names the slot. A resource keeps it when its name changes.
func (t target) key() string { return t.Resource.Type + ":" + t.id }

var (
	uidPattern = regexp.MustCompile(`^[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,252}$`)
	idPattern  = regexp.MustCompile(`^[1-9][0-9]{0,18}$`)
)

// parse takes entitlements apart, and refuses what cannot be.
func parse(want []access.Entitlement) (targets []target, err error) {
	for _, e := range want {
		s, known := sorts[e.Resource.Type]
		names, err := e.Resource.Names()
		switch {
		case err != nil:
			return nil, access.Errorf(access.Invalid, "%v", err)
		case !known:
			return nil, access.Errorf(access.Invalid, "%s: Grafana has no resource of the type %q", e, e.Resource.Type)
		case len(names) != 2:
			return nil, access.Errorf(access.Invalid, "%s: want NAME/ID", e.Resource)
		case !s.has(e.Permission):
			return nil, access.Errorf(access.Invalid, "%s: %s have no such permission", e, s.called)
		}
		t := target{Entitlement: e, sort: s, title: names[0], id: names[1]}
		pattern := uidPattern
		if e.Resource.Type == typeTeam || e.Resource.Type == typeOrganization {
			pattern = idPattern
		}
		if !pattern.MatchString(t.id) {
			return nil, access.Errorf(access.Invalid, "%s: %q cannot be an id", e.Resource.Type, t.id)
		}
		targets = append(targets, t)
	}
	return targets, nil
}

// on are the claims that are in the slot of a target, written as if its name had
// never changed. What is not of this integration is left out.
func on(remain []access.Claim, t target) (claims []access.Claim) {
	for _, c := range remain {
		if other, err := parse([]access.Entitlement{c.Entitlement}); err == nil && other[0].key() == t.key() {
			c.Entitlement.Resource = t.Resource
			claims = append(claims, c)
		}
	}
	return claims
}
