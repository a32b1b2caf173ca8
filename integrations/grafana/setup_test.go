package grafana_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/grafana/grafana-openapi-client-go/models"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/grafana"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/describe"
)

// withoutRoles leaves the organization out, as the tiers say that do not give
// roles.
func withoutRoles(c *grafana.Config, _ *grafana.Secret) {
	c.ResourceTypes = []string{"data_source", "folder", "dashboard", "team"}
}

// TestTiers runs the script of each tier: Check misses just what the tier leaves
// out, and what it is for works.
func TestTiers(t *testing.T) {
	t.Parallel()
	d, err := describe.New(grafana.Kind(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		flavour flavour
		tier    integrations.Tier
		role    string
		gives   int // so many roles in the organization
	}{
		{enterprise, d.Setup[0], "None", 0}, {enterprise, d.Setup[1], "None", 0}, {enterprise, d.Setup[1], "Viewer", 1}, {cloud, d.Setup[1], "Editor", 2}, {enterprise, d.Setup[1], "Admin", 3}, {oss, d.Setup[1], "Admin", 3},
	} {
		t.Run(test.flavour.name+"/"+test.tier.Name+"/"+test.role, func(t *testing.T) {
			b := &bed{model: newModel(t, test.flavour, "")}
			b.fill()
			b.token = b.setUp(t, test.tier.Name, test.role)
			l := b.live(t, "None")
			change := withoutRoles
			if test.gives > 0 {
				change = func(*grafana.Config, *grafana.Secret) {}
			}
			l.Integration = b.start(t, b.target(change))
			for _, item := range certificationtest.Check(t, l) {
				if !item.Optional && item.OK != slices.Contains(test.tier.Operations, item.Operation) {
					t.Errorf("check says %+v", item)
				}
				if !item.OK && (item.Detail == "" || item.Remedy == "") {
					t.Errorf("check says no reason or remedy: %+v", item)
				}
			}
			found, _ := catalog(t, l)
			all := []access.Entitlement{onOps[0], onOverview[0], b.inTeam("dba")[1]}
			if test.flavour.enterprise {
				all = append(all, onMetrics[0])
			}
			if len(found[roles[0].Resource]) != test.gives {
				t.Errorf("offered are the roles %v", found[roles[0].Resource])
			}
			if test.gives > 0 {
				all = append(all, roles[test.gives-1])
			}
			l.prepare(t, all...)
			for _, e := range all {
				if found[e.Resource] == nil {
					t.Errorf("the catalog lacks %s", e.Resource)
				}
				_, err := l.tryGrant(t, e)
				if slices.Contains(test.tier.Operations, "grant") {
					if err != nil {
						t.Errorf("granting %s: %v", e, err)
						continue
					}
					l.has(t, e.Resource, e.Permission)
				} else {
					kindOf(t, "granting "+e.String(), err, access.Privilege)
				}
			}
			if slices.Contains(test.tier.Operations, "revoke") {
				l.revoke(t, all...)
			}
		})
	}
}

// TestMissingRights takes each right of a connector away: Check names it, and so
// does the operation that needs it.
func TestMissingRights(t *testing.T) {
	t.Parallel()
	b := newBed(t, enterprise)
	b.token = b.setUp(t, "full", "None")
	var connector *serviceAccount
	b.locked(func() {
		n := slices.IndexFunc(b.accounts, func(a *serviceAccount) bool { return a.secret == b.token })
		connector = b.accounts[n]
	})
	whole := connector.rbac
	dba := b.inTeam("dba")
	on := map[string]access.Entitlement{"datasources": onMetrics[0], "folders": onOps[0], "dashboards": onOverview[0], "teams": dba[0]}
	for _, right := range whole {
		b.locked(func() {
			connector.rbac = slices.DeleteFunc(slices.Clone(whole), func(p *models.Permission) bool { return p == right })
		})
		report, err := b.start(t, b.target(withoutRoles)).Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if report.OK() || !slices.ContainsFunc(report.Items, func(i access.CheckItem) bool {
			return !i.OK && (strings.Contains(i.Detail, right.Action) || strings.Contains(i.Remedy, right.Action))
		}) {
			t.Errorf("without %s check says %+v", right.Action, report.Items)
		}
		root, _, _ := strings.Cut(right.Action, ":")
		root, _, isPermission := strings.Cut(root, ".")
		e, ok := on[root]
		if !ok || !isPermission {
			continue
		}
		l := b.live(t, "Viewer")
		l.Integration = b.start(t, b.target(withoutRoles))
		_, err = l.tryGrant(t, e)
		kindOf(t, "granting without "+right.Action, err, access.Privilege)
		if !strings.Contains(err.Error(), right.Action) {
			t.Errorf("without %s: %v", right.Action, err)
		}
	}
}

// TestOwnRole: nobody gives a role that is higher than their own.
func TestOwnRole(t *testing.T) {
	t.Parallel()
	b := newBed(t, oss)
	b.locked(func() {
		for _, a := range b.accounts {
			if a.secret == b.token {
				a.Role = "Editor"
				a.rbac = []*models.Permission{{Action: "orgs:read"}, {Action: "serviceaccounts:read", Scope: "serviceaccounts:*"}, {Action: "org.users:read", Scope: "users:*"}, {Action: "org.users:write", Scope: "users:*"}}
			}
		}
	})
	i := b.start(t, b.target(func(c *grafana.Config, _ *grafana.Secret) { c.ResourceTypes = []string{"organization"} }))
	found, warnings := catalog(t, i)
	if got := found[roles[0].Resource]; !slices.Equal(got, []string{"viewer", "editor"}) || !said(warnings, "Editor") {
		t.Errorf("offered are %v; warnings %v", got, warnings)
	}
	if item := certificationtest.Check(t, i)["roles that can be given"]; item.OK || !item.Optional || !strings.Contains(item.Remedy, "Admin") {
		t.Errorf("check says %+v", item)
	}
	l := b.live(t, "Viewer")
	l.Integration = i
	l.prepare(t, roles[2])
	_, err := l.tryGrant(t, roles[2])
	kindOf(t, "giving a role that is higher than one's own", err, access.Privilege)
	if !strings.Contains(err.Error(), "basic role Admin") {
		t.Errorf("%v does not say what mends it", err)
	}
	b.locked(func() {
		for _, a := range b.accounts {
			if a.secret == b.token {
				a.rbac = a.rbac[:1]
			}
		}
	})
	if item := certificationtest.Check(t, i)["org.users:write"]; item.OK || item.Remedy == "" {
		t.Errorf("check says %+v", item)
	}
}

// TestAPIKey: a key of an older Grafana does all that a token does, but its role
// cannot be read.
func TestAPIKey(t *testing.T) {
	t.Parallel()
	b := newBed(t, oss)
	b.locked(func() {
		for _, a := range b.accounts {
			a.key = a.secret == b.token
		}
	})
	l := b.live(t, "Viewer")
	if found, _ := catalog(t, l); len(found[roles[0].Resource]) != 3 {
		t.Errorf("offered are %v", found[roles[0].Resource])
	}
	report, err := l.Check(t.Context())
	if err != nil || !report.OK() {
		t.Errorf("check says %+v, %v", report, err)
	}
	if item := certificationtest.Check(t, l)["roles that can be given"]; item.OK || item.Detail == "" || item.Remedy == "" {
		t.Errorf("check says %+v", item)
	}
	l.grant(t, roles[1], onOps[0])
	l.has(t, roles[1].Resource, "editor")
	l.revoke(t, roles[1], onOps[0])
}

func TestSetupRefuses(t *testing.T) {
	for _, options := range []map[string][]string{{"connector_name": {"x'; rm -rf /"}}, {"url": {"https://x\nrm"}}} {
		if d, err := describe.New(grafana.Kind(), options); err == nil {
			t.Errorf("%v is taken: %v", options, d.Setup)
		}
	}
	d, err := describe.New(grafana.Kind(), map[string][]string{"url": {"https://x/$(id)`id`"}})
	if err != nil || !strings.Contains(d.Setup[0].Script, "'https://x/$(id)`id`/api'") {
		t.Errorf("an address that wants to break out: %v", err)
	}
}
