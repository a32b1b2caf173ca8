package grafana_test

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/grafana/grafana-openapi-client-go/models"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/grafana"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/internal/certificationtest"
)

// The integration under test.
const (
	instance    = "lapse-test"
	integration = "gf-test"
)

// hostile is a name that wants to break out of everything.
const hostile = "we\"ird';--\\ %s $1 ../?a=b&c#d \t😀 \u202ex/*|.+"

func unescape(s string) string {
	plain, err := url.PathUnescape(s)
	if err != nil {
		return s
	}
	return plain
}

// bed is a model with something on it, and a connector that a tier set up.
type bed struct {
	*model
	token string
}

// newBed has data sources, folders in folders, dashboards on more than a page,
// and teams. The connector has the rights of the tier full.
func newBed(t testing.TB, f flavour) *bed {
	t.Helper()
	b := &bed{model: newModel(t, f, "/monitoring")}
	b.fill()
	b.token = b.setUp(t, "full", "Admin")
	return b
}

func (b *bed) fill() {
	b.dataSource("metrics", "ds-metrics")
	b.dataSource("logs", "ds-logs")
	b.dataSource(hostile, "ds-weird")
	b.folder("Ops", "f-ops", "")
	b.folder("Databases", "f-db", "f-ops")
	b.folder("Sales", "f-sales", "")
	b.folder(hostile, "f-weird", "")
	b.dashboard("Overview", "d-over", "f-db", "owner=dba", "prod")
	b.dashboard("Overview", "d-sales", "f-sales")
	b.dashboard(hostile, "d-weird", "")
	for n := range 510 {
		b.dashboard(fmt.Sprintf("Host %d", n), fmt.Sprintf("d-host-%d", n), "f-ops")
	}
	for _, name := range []string{"dba", "support", hostile} {
		b.team(name)
	}
}

// setUp runs the script of a tier as an administrator does, and returns the
// token.
func (b *bed) setUp(t testing.TB, tier, role string) string {
	t.Helper()
	name := strings.ToLower("lapse-" + tier + "-" + role)
	script := certificationtest.Script(t, grafana.Kind(), tier, map[string][]string{"connector_name": {name}, "url": {b.base()}, "basic_role": {role}})
	script = strings.ReplaceAll(script, "...:...", adminLogin+":"+adminPassword)
	if err := certificationtest.Shell(t.(integrationtest.T), script, ""); err != nil {
		t.Fatalf("%v\n%s", err, script)
	}
	var token string
	b.locked(func() {
		n := slices.IndexFunc(b.accounts, func(a *serviceAccount) bool { return a.Name == name })
		token = b.accounts[n].secret
	})
	return token
}

// target is the integration as configured for the connector.
func (b *bed) target(change ...func(*grafana.Config, *grafana.Secret)) integrations.Target {
	config := &grafana.Config{URL: b.base(), MaxResources: 10000}
	secret := &grafana.Secret{Token: integrations.Secret(b.token)}
	for _, f := range change {
		f(config, secret)
	}
	return integrations.Target{Instance: instance, ID: integration, Name: "test", Config: config, Secret: secret}
}

func entitlement(permission, typ string, names ...string) access.Entitlement {
	return access.Entitlement{Integration: integration, Resource: access.NewResource(typ, names...), Permission: permission}
}

// ladder are all levels of a resource.
func ladder(typ string, names ...string) (all []access.Entitlement) {
	rt, _ := grafana.Kind().Type(typ)
	for _, p := range rt.Permissions {
		all = append(all, entitlement(p.Name, typ, names...))
	}
	return all
}

var (
	onMetrics  = ladder("data_source", "metrics", "ds-metrics")
	onOps      = ladder("folder", "Ops", "f-ops")
	onDB       = ladder("folder", "Databases", "f-db")
	onSales    = ladder("folder", "Sales", "f-sales")
	onOverview = ladder("dashboard", "Overview", "d-over")
	roles      = ladder("organization", "Main Org.", "1")
)

func (b *bed) inTeam(name string) []access.Entitlement {
	n := slices.IndexFunc(b.teams, func(t *team) bool { return t.name == name })
	return ladder("team", name, strconv.FormatInt(b.teams[n].id, 10))
}

// someone is a person with no role in the organization.
func (b *bed) someone() access.Account {
	a := certificationtest.Someone(integration)
	b.locked(func() { b.user(a.PersonID, a.Email, "None") })
	return a
}

// harness is the bed as the suite takes it, with the levels of one resource.
func (b *bed) harness(levels []access.Entitlement) *integrationtest.Harness {
	h := &integrationtest.Harness{
		Kind:   grafana.Kind(),
		Target: b.target(),
		Person: func(integrationtest.T) access.Account { return b.someone() },
		Chains: [][]access.Entitlement{onOps, onOverview, b.inTeam("dba"), roles},
		Apart:  [2]access.Entitlement{onDB[1], b.inTeam("support")[0]},
		Absent: []access.Entitlement{
			entitlement("view", "folder", "Nowhere", "f-nowhere"), entitlement("view", "dashboard", "Nowhere", "d-nowhere"), entitlement("member", "team", "nobody", "99999"),
		},
		Hostile:  []access.Entitlement{entitlement("edit", "folder", hostile, "f-weird"), entitlement("view", "dashboard", hostile, "d-weird"), b.inTeam(hostile)[0]},
		Existing: onSales[2],
		Levels:   levels,
		Canaries: []string{b.token, adminToken, adminPassword, "canary-wrong"},
		Wrong: func() integrations.Target {
			return b.target(func(_ *grafana.Config, s *grafana.Secret) { s.Token = "canary-wrong" })
		},
		Address: b.Listener.Addr().String(),
		Changes: certificationtest.Requests(),
		Via: func(address string) integrations.Target {
			return b.target(func(c *grafana.Config, _ *grafana.Secret) { c.URL = "http://" + address + b.subPath })
		},
		Observer: &observer{b},
	}
	if b.enterprise {
		h.Chains = append(h.Chains, onMetrics)
		h.Apart[0] = entitlement("query", "data_source", "logs", "ds-logs")
		h.Absent = append(h.Absent, entitlement("query", "data_source", "nowhere", "ds-nowhere"))
		h.Hostile = append(h.Hostile, entitlement("edit", "data_source", hostile, "ds-weird"))
	}
	return h
}

// observer looks into the model, and does there what administrators and people
// do.
type observer struct{ *bed }

var _ interface {
	integrationtest.HandObserver
	integrationtest.LevelObserver
	integrationtest.Inheriter
	integrationtest.DirectoryObserver
	integrationtest.Throttler
	integrationtest.Closer
	integrationtest.Deafener
	integrationtest.Administrator
} = (*observer)(nil)

var plural = map[string]string{"data_source": "datasources", "folder": "folders", "dashboard": "dashboards", "team": "teams"}

func id(r access.Resource) string {
	names, _ := r.Names()
	return names[len(names)-1]
}

func (b *bed) person(a access.Account) *models.OrgUserDTO {
	n := slices.IndexFunc(b.users, func(u *models.OrgUserDTO) bool { return strings.EqualFold(u.Email, a.Email) })
	if n < 0 {
		return nil
	}
	return b.users[n]
}

func word(level string) string {
	if level == "" {
		return ""
	}
	return strings.ToUpper(level[:1]) + level[1:]
}

// Can asks the model for all that gives somebody a level.
func (o *observer) Can(_ integrationtest.T, a access.Account, e access.Entitlement) (can bool) {
	o.locked(func() {
		u, name := o.person(a), id(e.Resource)
		switch {
		case u == nil:
		case e.Resource.Type == "organization":
			can = slices.Index(basicRoles, u.Role) >= slices.Index(basicRoles, word(e.Permission))
		case e.Resource.Type == "team":
			t := o.findTeam(name)
			member := t != nil && t.member(u.UserID) != nil
			can = member && (e.Permission == "member" || t.member(u.UserID).Permission == 4)
		default:
			can = o.highest(plural[e.Resource.Type], name, u) >= slices.Index(levelsOf[plural[e.Resource.Type]], word(e.Permission))
		}
	})
	return can
}

func (o *observer) Give(t integrationtest.T, a access.Account) {
	o.SetLevel(t, a, onSales[2].Resource, "admin")
}

func (o *observer) Given(t integrationtest.T, a access.Account) bool {
	return o.Level(t, a, onSales[2].Resource) == "admin"
}

// Level is a person's own.
func (o *observer) Level(_ integrationtest.T, a access.Account, r access.Resource) (level string) {
	o.locked(func() {
		u := o.person(a)
		switch r.Type {
		case "organization":
			if level = strings.ToLower(u.Role); level == "none" {
				level = ""
			}
		case "team":
			if m := o.findTeam(id(r)).member(u.UserID); m != nil {
				level = map[bool]string{true: "admin", false: "member"}[m.Permission == 4]
			}
		default:
			if e := o.own(plural[r.Type]+"/"+id(r), u.UserID); e != nil {
				level = strings.ToLower(e.level)
			}
		}
	})
	return level
}

func (o *observer) SetLevel(_ integrationtest.T, a access.Account, r access.Resource, level string) {
	o.locked(func() {
		u := o.person(a)
		switch r.Type {
		case "organization":
			if u.Role = word(level); level == "" {
				u.Role = "None"
			}
		case "team":
			t := o.findTeam(id(r))
			t.members = slices.DeleteFunc(t.members, func(m *models.TeamMemberDTO) bool { return m.UserID == u.UserID })
			if level != "" {
				t.members = append(t.members, &models.TeamMemberDTO{TeamID: t.id, UserID: u.UserID, Permission: map[string]models.PermissionType{"admin": 4}[level], Labels: []string{}})
			}
		default:
			o.give(plural[r.Type]+"/"+id(r), u.UserID, word(level))
		}
	})
}

// Inherit gives it by a team.
func (o *observer) Inherit(_ integrationtest.T, a access.Account, e access.Entitlement) {
	o.locked(func() {
		t := o.team(fmt.Sprintf("inherit %d", o.next()))
		t.members = append(t.members, &models.TeamMemberDTO{TeamID: t.id, UserID: o.person(a).UserID, Labels: []string{}})
		place := plural[e.Resource.Type] + "/" + id(e.Resource)
		o.entries[place] = append(o.entries[place], &entry{team: t.id, level: word(e.Permission)})
	})
}

func (o *observer) Unknown(integrationtest.T) access.Account {
	return certificationtest.Someone(integration)
}

// Ambiguous is the address of one person, and the login of another.
func (o *observer) Ambiguous(integrationtest.T) access.Account {
	a := o.someone()
	o.locked(func() { o.user(a.Email, "other-"+a.Email, "None") })
	return a
}

func (o *observer) Throttle(_ integrationtest.T, delay time.Duration) (undo func()) {
	o.locked(func() { o.throttled, o.delay = true, delay })
	return func() { o.locked(func() { o.throttled, o.delay = false, 0 }) }
}

func (o *observer) Shut(_ integrationtest.T, r access.Resource) (undo func()) {
	key := plural[r.Type] + "/" + id(r)
	o.locked(func() { o.shut[key] = true })
	return func() { o.locked(func() { delete(o.shut, key) }) }
}

func (o *observer) Deafen(integrationtest.T) (undo func()) {
	o.locked(func() { o.deaf = true })
	return func() { o.locked(func() { o.deaf = false }) }
}

// RunByHand has a token of an Admin of the organization.
func (o *observer) RunByHand(t integrationtest.T, head, steps string) error {
	return certificationtest.Shell(t, strings.ReplaceAll(head, "...", adminToken)+steps, "")
}
