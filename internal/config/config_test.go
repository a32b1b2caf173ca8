package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
	"pgregory.net/rapid"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/config"
)

type database struct {
	Hostname     string   `json:"hostname" doc:"address of the server" example:"db.example.com"`
	Port         int      `json:"port" doc:"TCP port" default:"5432" minimum:"1" maximum:"65535"`
	DatabaseName string   `json:"database_name" doc:"database to connect to" default:"postgres"`
	SSLMode      string   `json:"ssl_mode" doc:"how the connection is protected" enum:"disable,require,verify-full" default:"verify-full"`
	OwnerRoles   []string `json:"owner_roles,omitempty" doc:"roles that own objects"`
}

type board struct {
	URL string `json:"url,omitempty" doc:"address of the API" default:"" pattern:"^(https://.*)?$"`
}

// kinds are two kinds of unlike shape.
func kinds() integrations.Registry {
	permissions := func(names ...string) (list []integrations.Permission) {
		for _, n := range names {
			list = append(list, integrations.Permission{Name: n})
		}
		return list
	}
	return integrations.NewRegistry(
		integrations.Kind{
			Name: "postgresql", Title: "PostgreSQL", Credentials: true, RotatesSecret: true,
			Config: func() any { return new(database) },
			ResourceTypes: []integrations.ResourceType{
				{Name: "database", Path: []string{"DATABASE"}, Permissions: permissions("read_only", "read_write", "admin")},
				{Name: "schema", Path: []string{"DATABASE", "SCHEMA"}, Permissions: permissions("read_only", "read_write", "admin")},
				{Name: "role", Path: []string{"ROLE"}, Permissions: permissions("member")},
			},
		},
		integrations.Kind{
			Name: "grafana", Title: "Grafana",
			Config:        func() any { return new(board) },
			ResourceTypes: []integrations.ResourceType{{Name: "organization", Path: []string{"NAME"}, Permissions: permissions("viewer")}},
		},
	)
}

func sample(t testing.TB) []byte {
	t.Helper()
	src, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// parse reads a file that is sound.
func parse(t testing.TB, src []byte) config.Config {
	t.Helper()
	cfg, warnings, err := config.Parse("lapse.yaml", src, kinds())
	if err != nil || len(warnings) > 0 {
		t.Fatalf("warnings: %v\nfaults:\n%v", warnings, err)
	}
	return cfg
}

func TestSampleIsRead(t *testing.T) {
	cfg := parse(t, sample(t))
	in, ok := cfg.Integration("prod-pg")
	if !ok {
		t.Fatal("the sample lacks its integration")
	}
	settings, err := in.Settings(kinds()["postgresql"])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&database{Hostname: "127.0.0.1", Port: 5432, DatabaseName: "postgres", SSLMode: "verify-full"}, settings); diff != "" {
		t.Error(diff)
	}
	flow := access.Flow{
		Name: "analysts-read", Trigger: "self_serve",
		Requesters:  access.Conditions{Any: []access.Condition{{Attribute: "group", Operator: "is", Values: []string{"analytics"}}}},
		Targets:     []access.FlowTarget{{Integration: "prod-pg", Resources: []string{"schema:shop/*"}, Permissions: []string{"read_only"}}},
		MaxDuration: duration("8h"),
		Approval:    access.Approval{Steps: []access.Step{{AnyOf: []string{"resource_owner", "integration_owner"}}}, RemindAfter: duration("30m"), ExpiresAfter: duration("24h")},
	}
	if diff := cmp.Diff([]access.Flow{flow}, cfg.AccessFlows); diff != "" {
		t.Error(diff)
	}
}

func duration(s string) access.Duration {
	d, err := access.ParseDuration(s)
	if err != nil {
		panic(err)
	}
	return d
}

const smallest = `
administrators: {any: [{attribute: email, values: [Ana@Example.com]}]}
people: [{email: ANA@example.com, aliases: [" a@example.com"]}]
integrations: [{name: boards, kind: grafana, secret: {store: file, key: boards.json}}]
`

func TestDefaultsAndAddresses(t *testing.T) {
	cfg := parse(t, []byte(strings.ReplaceAll(smallest, `" a@`, `"A@`)))
	in := cfg.Integrations[0]
	if in.Connector != "default" || in.Discover.Every != duration("1h") || in.UserCleanupDays != 7 || string(in.Config) != "{}" {
		t.Errorf("defaults: %+v", in)
	}
	for _, address := range []string{"ana@example.com", " ANA@example.com", "A@example.COM"} {
		if p, ok := cfg.PersonByEmail(address); !ok || p.Email != "ana@example.com" {
			t.Errorf("%q is not found", address)
		}
	}
	if _, ok := cfg.PersonByEmail(""); ok {
		t.Error("nobody has no address")
	}
	if _, ok := cfg.Integration("none"); ok {
		t.Error("an unknown integration is found")
	}
	person := config.Person{Email: "e", Name: "n", Aliases: []string{"a"}, Groups: []string{"g"}, Attributes: map[string]string{"k": "v"}, Disabled: true}
	want := access.Person{ID: "1", Email: "e", Name: "n", Aliases: []string{"a"}, Groups: []string{"g"}, Attributes: map[string]string{"k": "v"}, Disabled: true}
	if diff := cmp.Diff(want, person.WithID("1")); diff != "" {
		t.Error(diff)
	}
}

func TestConfigSurvivesTheStore(t *testing.T) {
	cfg := parse(t, sample(t))
	b, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var stored config.Config
	if err := json.Unmarshal(b, &stored); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(cfg, stored, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
}

// TestSixFaultsAtOnce is the promise of apply: all faults, each with its line
// and column and the way out.
func TestSixFaultsAtOnce(t *testing.T) {
	const src = `administrators: {any: [{attribute: group, values: [platform]}]}
people:
  - {email: bo@example.com, groups: [platform]}
integrations:
  - name: prod-pg
    kind: postgresql
    config: {hostnam: db, port: 70000}
    secret: {store: env, key: PROD_PG_ADMIN}
    integration_owner: {attribute: group, values: [dba]}
  - name: prod-pg
    kind: grafana
    secret: {store: file, key: g.json}
    custom_access_details: "` + "%s" + `"
    resource_owner: {key: owner, attribute: group}
`
	const want = `lapse.yaml:7:13: integrations[0].config.hostname: is missing (address of the server; for example db.example.com)
lapse.yaml:7:14: integrations[0].config.hostnam: unknown key (did you mean hostname?)
lapse.yaml:7:33: integrations[0].config.port: must be from 1 to 65535 (TCP port)
lapse.yaml:9:51: integrations[0].integration_owner.values: nobody among people has attribute "group" with "dba" (name a value that somebody has who is not disabled)
lapse.yaml:10:11: integrations[1].name: there is another integration "prod-pg" (rename one of them; case makes no difference)
lapse.yaml:13:28: integrations[1].custom_access_details: must have at most 400 characters, has 401 (text shown to people beside their credentials, at most 400 characters; for example Use the read replica for long queries.)
lapse.yaml:14:21: integrations[1].resource_owner: needs an integration_owner beside it (add integration_owner: resources without the tag are theirs)`
	cfg, _, err := config.Parse("lapse.yaml", fmt.Appendf(nil, src, strings.Repeat("é", 401)), kinds())
	if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(config.Config{}, cfg); diff != "" {
		t.Error("a faulty file must not be taken in part:", diff)
	}
}

func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		name     string
		old, new string // replaced in the sample
		want     string
	}{
		{"no administrators", "administrators: {any: [{attribute: group, operator: is, values: [platform]}]}", "", "administrators: is missing"},
		{"nobody is an administrator", "operator: is, values: [platform]", "operator: is, values: [platforms]", "administrators: nobody among people is an administrator"},
		{"only a disabled person is an administrator", "attribute: group, operator: is, values: [platform]", "attribute: email, values: [di@example.com]", "administrators: nobody among people is an administrator"},
		{"an unknown operator", "operator: is, values: [platform]", "operator: equals, values: [platform]", "administrators.any[0].operator: must be one of is, is_not,"},
		{"a condition without values", "operator: is, values: [platform]", "operator: is, values: []", "administrators.any[0].values: has too few entries: 0, at least 1"},
		{"a key of the file", "access_flows:", "acces_flows:", "acces_flows: unknown key (did you mean access_flows?)"},
		{"no e-mail", "email: cy@example.com", "email: cy", "people[2].email: must match"},
		{"an e-mail twice", "email: cy@example.com", "email: BO@example.com", `people[2].email: "bo@example.com" is given at people[1] already`},
		{"an alias twice", "email: cy@example.com", "email: cy@example.com, aliases: [x@example.com, Ana@example.com]", `people[2].aliases[1]: "ana@example.com" is given at people[0] already`},
		{"a name with a space", "name: prod-pg ", "name: prod pg ", "integrations[0].name: must match"},
		{"a name with two hyphens", "name: prod-pg ", "name: prod--pg ", "integrations[0].name: must match"},
		{"an unknown kind", "kind: postgresql", "kind: postgres", `integrations[0].kind: there is no kind "postgres" (did you mean postgresql?)`},
		{"no settings", "config: {hostname: 127.0.0.1, port: 5432, database_name: postgres, ssl_mode: verify-full}", "config:", "integrations[0].config.hostname: is missing"},
		{"settings that are a list", "{hostname: 127.0.0.1, port: 5432, database_name: postgres, ssl_mode: verify-full}", "[]", "integrations[0].config: must be a mapping, is a list"},
		{"a choice of the settings", "verify-full", "verifyfull", "integrations[0].config.ssl_mode: must be one of disable, require, verify-full (did you mean verify-full?)"},
		{"an unknown store", "store: env", "store: vault", "integrations[0].secret.store: must be one of env, file"},
		{"a secret without a key", ", key: PROD_PG_ADMIN", "", "integrations[0].secret.key: is missing"},
		{"a type that the kind has not", "types: [database, schema, role]", "types: [database, schemas]", `integrations[0].discover.types[1]: postgresql has no resource type "schemas" (did you mean schema?)`},
		{"discovery too often", "every: 1h", "every: 1s", "integrations[0].discover.every: must be from 1m to 8760h"},
		{"a duration without a unit", "every: 1h", "every: 60", `integrations[0].discover.every: duration "60": want a number with a unit`},
		{"a pattern without a type", `{resources: "schema:shop/*", set`, `{resources: "shop/*", set`, `integrations[0].tags[0].resources: resource "shop/*": want TYPE:PATH`},
		{"a pattern with an empty part", `{resources: "schema:shop/*", set`, `{resources: "schema:shop/", set`, `integrations[0].tags[0].resources: resource "schema:shop/": a part of the path is empty`},
		{"a pattern with an unknown type", `{resources: "schema:shop/*", set`, `{resources: "scheme:shop/*", set`, `integrations[0].tags[0].resources: postgresql has no resource type "scheme" (did you mean schema?)`},
		{"a pattern with too few parts", `{resources: "schema:shop/*", set`, `{resources: "schema:*", set`, "integrations[0].tags[0].resources: the path of a schema has 2 parts, not 1 (write schema:DATABASE/SCHEMA, * within one part)"},
		{"a rule that sets nothing", "set: {owner: dba}", "set: {}", "integrations[0].tags[0].set: has too few entries: 0, at least 1"},
		{"a tag that names nobody", "set: {owner: dba}", "set: {owner: dbas}", `integrations[0].tags[0].set.owner: nobody among people has attribute "group" with "dbas"`},
		{"negative days", "user_cleanup_days: 7", "user_cleanup_days: -1", "integrations[0].user_cleanup_days: must be from 0 to 3650"},
		{"an owner of nobody", "integration_owner: {attribute: group, values: [dba]}", "integration_owner: {attribute: group, values: [x, y]}", `integrations[0].integration_owner.values: nobody among people has attribute "group" with "x" or "y"`},
		{"a disabled owner", "integration_owner: {attribute: group, values: [dba]}", "integration_owner: {attribute: email, values: [di@example.com]}", `integrations[0].integration_owner.values: nobody among people has attribute "email" with "di@example.com"`},
		{"a resource owner alone", "integration_owner: {attribute: group, values: [dba]}", "", "integrations[0].resource_owner: needs an integration_owner beside it"},
		{"a flow without requesters", "requesters: {any: [{attribute: group, operator: is, values: [analytics]}]}", "requesters: {}", "access_flows[0].requesters: has no condition"},
		{"a flow twice", "access_flows:\n", "access_flows:\n  - {name: Analysts-Read, requesters: {any: [{attribute: group, values: [dba]}]}, targets: [{integration: prod-pg, resources: [\"role:x\"], permissions: [member]}], max_duration: 1h, approval: {steps: [{any_of: [\"group:dba\"]}]}}\n", `access_flows[1].name: there is another access flow "analysts-read"`},
		{"another trigger", "trigger: self_serve", "trigger: sometimes", "access_flows[0].trigger: must be one of self_serve, automatic, break_glass"},
		{"an approval of what comes by itself", "trigger: self_serve", "trigger: automatic", "access_flows[0].approval.steps: nobody approves what comes by itself"},
		{"an unknown integration", "integration: prod-pg,", "integration: prod-gp,", `access_flows[0].targets[0].integration: there is no integration "prod-gp" (did you mean prod-pg?)`},
		{"a resource of the wrong shape", `resources: ["schema:shop/*"]`, `resources: ["schema:shop/*", "table:a/b/c"]`, `access_flows[0].targets[0].resources[1]: postgresql has no resource type "table"`},
		{"a permission that the kind has not", "permissions: [read_only]", "permissions: [read_only, readwrite]", `access_flows[0].targets[0].permissions[1]: a schema of postgresql has no permission "readwrite" (did you mean read_write?)`},
		{"a permission of another type", "permissions: [read_only]", "permissions: [member]", `access_flows[0].targets[0].permissions[0]: a schema of postgresql has no permission "member" (known are admin, read_only, read_write)`},
		{"no time at all", "max_duration: 8h", "max_duration: 0s", "access_flows[0].max_duration: must be from 1s to 8760h"},
		{"too long a time", "max_duration: 8h", "max_duration: 8761h", "access_flows[0].max_duration: must be from 1s to 8760h"},
		{"no steps", "steps: [{any_of: [resource_owner, integration_owner]}]", "steps: []", "access_flows[0].approval: has no step, so nobody could decide"},
		{"a step without approvers", "{steps: [", "{steps: [{name: first}, ", "access_flows[0].approval.steps[0]: wants no approver"},
		{"a fallback of nobody", "{steps: [{", `{steps: [{fallback: ["group:dbas"], `, `access_flows[0].approval.steps[0].fallback[0]: nobody among people is in group "dbas"`},
		{"an escalation to nobody", "{steps: [{", `{steps: [{escalate: [{after: 1h, to: ["group:dbas"]}], `, `access_flows[0].approval.steps[0].escalate[0].to[0]: nobody among people is in group "dbas"`},
		{"an escalation too late", "{steps: [{", `{steps: [{escalate: [{after: 24h, to: ["group:dba"]}], `, "access_flows[0].approval.steps[0].escalate[0].after: comes after the request has expired"},
		{"tiers out of order", "{steps: [{", `{steps: [{escalate: [{after: 2h, to: ["group:dba"]}, {after: 1h, to: ["group:dba"]}], `, "access_flows[0].approval.steps[0].escalate[1].after: does not come after the tier before it"},
		{"so many of nobody", "{steps: [{any_of: [resource_owner, integration_owner]", `{steps: [{at_least: 2, all_of: ["group:dba"]`, "access_flows[0].approval.steps[0].at_least: has no any_of beside it"},
		{"a time zone that is none", "max_duration: 8h", "max_duration: 8h\n    timeframe: {time_zone: Europe/Madird}", `access_flows[0].timeframe.time_zone: there is no time zone "Europe/Madird"`},
		{"a day that is none", "max_duration: 8h", "max_duration: 8h\n    timeframe: {days: [monday]}", "access_flows[0].timeframe.days[0]: must be one of mon"},
		{"a choice beyond the maximum", "max_duration: 8h", "max_duration: 8h\n    durations: [1h, 9h]", "access_flows[0].durations[1]: is longer than max_duration 8h"},
		{"a pattern that is none", "max_duration: 8h", "max_duration: 8h\n    fields: [{name: ticket, pattern: '['}]", "access_flows[0].fields[0].pattern: is no regular expression"},
		{"a field twice", "max_duration: 8h", "max_duration: 8h\n    fields: [{name: ticket}, {name: ticket}]", `access_flows[0].fields[1].name: there is another field "ticket"`},
		{"an exception of nothing", "permissions: [read_only]", "permissions: [read_only], except: [{}]", "access_flows[0].targets[0].except[0]: leaves nothing out"},
		{"a target without permissions", ", permissions: [read_only]", "", "access_flows[0].targets[0]: has no permissions"},
		{"a bundle that is not there", "targets: [{", "targets: [{bundle: kit}, {", `access_flows[0].targets[0].bundle: there is no bundle "kit"`},
		{"a bundle of patterns", "access_flows:", `bundles: [{name: kit, items: [{integration: prod-pg, resource: "schema:shop/*", permission: read_only}]}]` + "\naccess_flows:", "bundles[0].items[0].resource: a bundle holds resources and no patterns"},
		{"a bundle of what is not there", "access_flows:", `bundles: [{name: kit, items: [{integration: prod-my, resource: "schema:shop/a", permission: read_only}]}]` + "\naccess_flows:", `bundles[0].items[0].integration: there is no integration "prod-my"`},
		{"something beside a bundle", "access_flows:", `bundles: [{name: kit, items: [{integration: prod-pg, resource: "schema:shop/a", permission: read_only}]}]` + "\naccess_flows:\n  - {name: x, requesters: {any: [{attribute: group, values: [dba]}]}, max_duration: 1h, targets: [{bundle: kit, integration: prod-pg}], approval: {steps: [{any_of: [integration_owner]}]}}", "access_flows[0].targets[0].bundle: stands for all that the bundle holds"},
		{"an unknown approver", "any_of: [resource_owner,", "any_of: [owner,", "access_flows[0].approval.steps[0].any_of[0]: must match"},
		{"an approver group of nobody", "any_of: [resource_owner,", `any_of: ["group:dbas",`, `access_flows[0].approval.steps[0].any_of[0]: nobody among people is in group "dbas"`},
		{"an approver who is disabled", "any_of: [resource_owner,", `any_of: ["person:di@example.com",`, `access_flows[0].approval.steps[0].any_of[0]: nobody among people is "di@example.com"`},
		{"an approver by alias", "any_of: [resource_owner,", `any_of: ["person:bo.admin@example.com",`, `access_flows[0].approval.steps[0].any_of[0]: nobody among people is "bo.admin@example.com" (name the main address`},
		{"broken YAML", "people:", "people", "is not YAML: "},
		{"two documents", "people:", "---\npeople:", "is not one YAML document"},
		{"an unquoted star", "key: PROD_PG_ADMIN", "key: *hunter2", "refers to an anchor that is not defined (quote a text that begins with *)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src := string(sample(t))
			if strings.Count(src, tt.old) == 0 {
				t.Fatalf("the sample does not hold %q", tt.old)
			}
			_, _, err := config.Parse("lapse.yaml", []byte(strings.Replace(src, tt.old, tt.new, 1)), kinds())
			if !strings.Contains(fmt.Sprint(err), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			for line := range strings.Lines(fmt.Sprint(err)) {
				if !strings.HasPrefix(line, "lapse.yaml:") || strings.HasPrefix(line, "lapse.yaml: ") {
					t.Errorf("no position: %s", line)
				}
			}
		})
	}
}

func TestOwnerOfAnIntegrationWithoutOne(t *testing.T) {
	src := smallest + `
access_flows:
- name: boards
  requesters: {any: [{attribute: email, values: [ana@example.com]}]}
  targets: [{integration: boards, resources: ["organization:*"], permissions: [viewer]}]
  max_duration: 1h
  approval: {steps: [{any_of: [resource_owner, integration_owner, "person:Ana@example.com"]}]}
`
	_, _, err := config.Parse("", []byte(strings.Replace(src, " a@", "a@", 1)), kinds())
	const want = `11:32: access_flows[0].approval.steps[0].any_of[0]: integration "boards" has no integration_owner (give it one, or name group:NAME or person:EMAIL here)
11:48: access_flows[0].approval.steps[0].any_of[1]: integration "boards" has no integration_owner (give it one, or name group:NAME or person:EMAIL here)`
	if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
		t.Error(diff)
	}
}

// A faulty list of people says nothing of whom the rest of the file means.
func TestFaultyPeopleAreNotFollowedByMore(t *testing.T) {
	src := strings.Replace(string(sample(t)), "groups: [dba]}", "group: [dba]}", 1)
	_, _, err := config.Parse("lapse.yaml", []byte(strings.Replace(src, "[dba, platform]", "dba", 1)), kinds())
	if n := strings.Count(fmt.Sprint(err), "\n") + 1; n != 2 {
		t.Errorf("want 2 faults, got %d:\n%v", n, err)
	}
}

func TestEmptyFile(t *testing.T) {
	for _, src := range []string{"", "# nothing\n", "---\n"} {
		if _, _, err := config.Parse("lapse.yaml", []byte(src), kinds()); err == nil {
			t.Errorf("%q was taken", src)
		}
	}
}

func TestWarnings(t *testing.T) {
	src := strings.NewReplacer("values: [analytics]", "values: [analytcs]", "integration_owner: {attribute: group, values: [dba]}", "integration_owner: {attribute: group, values: [dba, dbas]}").Replace(string(sample(t)))
	_, warnings, err := config.Parse("lapse.yaml", []byte(src), kinds())
	const want = `lapse.yaml:37:57: integrations[0].integration_owner.values[1]: nobody among people has attribute "group" with "dbas"
lapse.yaml:43:17: access_flows[0].requesters: nobody among people may request by this flow`
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, warnings.Error()); diff != "" {
		t.Error(diff)
	}
}

// What cannot be changed is said when the file is applied, not when it is due.
func TestRotationThatCannotBe(t *testing.T) {
	const days = "credential_rotation_days: 30"
	for name, c := range map[string]struct{ put, want string }{
		"a store that Lapse cannot write": {days + "\n    secret_rotation_days: 90",
			"integrations[0].secret_rotation_days: Lapse cannot write to the store env (keep the secret in a file (store: file), or leave this out)"},
		"a time zone that is none": {days + "\n    rotation: {window: 01:00-05:00, time_zone: Middle/Earth}",
			"integrations[0].rotation.time_zone: there is no time zone \"Middle/Earth\" (write a name of the IANA database, such as Europe/Madrid)"},
		"a window that is none": {days + "\n    rotation: {window: at night}", "integrations[0].rotation.window: must match"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := config.Parse("lapse.yaml", []byte(strings.Replace(string(sample(t)), days, c.put, 1)), kinds())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestRotationWindow(t *testing.T) {
	for _, c := range []struct {
		window, zone, at string
		open             bool
	}{
		{"", "UTC", "12:00", true},
		{"01:00-05:30", "UTC", "00:59", false},
		{"01:00-05:30", "UTC", "01:00", true},
		{"01:00-05:30", "UTC", "05:29", true},
		{"01:00-05:30", "UTC", "05:30", false},
		{"22:00-04:00", "UTC", "23:59", true},
		{"22:00-04:00", "UTC", "03:59", true},
		{"22:00-04:00", "UTC", "12:00", false},
		{"01:00-05:00", "Asia/Tokyo", "16:30", true}, // 01:30 there
		{"01:00-05:00", "Asia/Tokyo", "01:30", false},
	} {
		at, err := time.Parse("15:04", c.at)
		if err != nil {
			t.Fatal(err)
		}
		if r := (config.Rotation{Window: c.window, TimeZone: c.zone}); r.Open(at.AddDate(2026, 5, 0)) != c.open {
			t.Errorf("%s in %s at %s UTC is open: %t", c.window, c.zone, c.at, !c.open)
		}
	}
}

func TestApplyTags(t *testing.T) {
	in := config.Integration{Tags: []config.TagRule{
		{Resources: "schema:shop/*", Set: map[string]string{"owner": "dba", "tier": "1"}},
		{Resources: "schema:*/audit", Set: map[string]string{"owner": "security"}},
	}}
	for path, want := range map[string]map[string]string{
		"shop/public": {"owner": "dba", "tier": "1", "comment": "own"},
		"shop/audit":  {"owner": "security", "tier": "1", "comment": "own"},
		"hr/public":   {"owner": "own", "comment": "own"},
	} {
		found := access.Found{Resource: access.Resource{Type: "schema", Path: path}, Tags: map[string]string{"owner": "own", "comment": "own"}}
		if diff := cmp.Diff(want, config.ApplyTags(in, found)); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
		if found.Tags["owner"] != "own" {
			t.Errorf("%s: the tags that were found have changed", path)
		}
	}
}

func TestSettingsOfAnOlderStore(t *testing.T) {
	in := config.Integration{Name: "prod-pg", Config: json.RawMessage(`{"port": 1}`)}
	_, err := in.Settings(kinds()["postgresql"])
	const want = "integration prod-pg: config.hostname: is missing (address of the server; for example db.example.com)"
	if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
		t.Error(diff)
	}
}

// The sample of access flows has every key that a flow can have, and the schema
// takes it.
func TestSampleOfFlows(t *testing.T) {
	src, err := os.ReadFile("testdata/flows.yaml")
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]bool{}
	var look func(path string, v reflect.Value)
	look = func(path string, v reflect.Value) {
		switch {
		case v.Kind() == reflect.Struct:
			for i := range v.NumField() {
				look(path+"."+v.Type().Field(i).Name, v.Field(i))
			}
		case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
			look(path, reflect.New(v.Type().Elem()).Elem()) // also where it is empty
			for i := range v.Len() {
				look(path, v.Index(i))
			}
		default:
			set[path] = set[path] || !v.IsZero()
		}
	}
	for _, f := range parse(t, src).AccessFlows {
		look("Flow", reflect.ValueOf(f))
	}
	for path, is := range set {
		if !is && !strings.HasPrefix(path, "Flow.OnBehalf.By.All") {
			t.Errorf("the sample has no %s", path)
		}
	}
	var v any
	if err := yaml.Load(src, &v); err != nil {
		t.Fatal(err)
	}
	if err := schema(t).Validate(v); err != nil {
		t.Error(err)
	}
}

// schema is that of lapse.yaml, compiled.
func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	b, err := json.Marshal(config.Schema(kinds()))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("lapse.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("lapse.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func TestSchemaTakesTheSample(t *testing.T) {
	schema := schema(t)
	for _, tt := range []struct {
		old, new string
		sound    bool
	}{
		{"", "", true},
		{"port: 5432", "port: x", false},
		{"port: 5432", "prot: 5432", false},
		{"connector: default", "conector: default", false},
		{"hostname: 127.0.0.1, ", "", false},
		{"kind: postgresql", "kind: grafana", false},
		{"any_of: [resource_owner,", "any_of: [owner,", false},
	} {
		var v any
		if err := yaml.Load(bytes.Replace(sample(t), []byte(tt.old), []byte(tt.new), 1), &v); err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(v); (err == nil) != tt.sound {
			t.Errorf("%s: %v", tt.new, err)
		}
	}
}

func TestDiff(t *testing.T) {
	old := parse(t, sample(t))
	new := parse(t, []byte(strings.NewReplacer(
		"port: 5432", "port: 5433",
		"key: PROD_PG_ADMIN", "key: OTHER",
		"custom_access_details", "# custom_access_details",
		"values: [platform]", "values: [platform, dba]",
		"permissions: [read_only]", "permissions: [read_only, admin]",
		"targets: [", `targets: [{integration: prod-pg, resources: ["role:reader"], permissions: [member]}, `,
		"  - {email: di@example.com, name: Di, groups: [analytics], disabled: true}", "  - {email: ed@example.com}",
		"name: Cy", "name: Cyd",
		"access_flows:", `  - {name: boards, kind: grafana, secret: {store: env, key: G}}
access_flows:`,
	).Replace(string(sample(t)))))
	want := `~ administrators: any[0].values: ["platform"] -> ["platform","dba"]
~ person cy@example.com: name: "Cy" -> "Cyd"
- person di@example.com
+ person ed@example.com
+ integration boards
~ integration prod-pg: config.port: 5432 -> 5433
~ integration prod-pg: custom_access_details: "Use the read replica for long queries." -> none
~ integration prod-pg: secret.key: "PROD_PG_ADMIN" -> "OTHER"
~ access flow analysts-read: targets[0].permissions: ["read_only"] -> ["member"]
~ access flow analysts-read: targets[0].resources: ["schema:shop/*"] -> ["role:reader"]
~ access flow analysts-read: targets[1].integration: none -> "prod-pg"
~ access flow analysts-read: targets[1].permissions: none -> ["read_only","admin"]
~ access flow analysts-read: targets[1].resources: none -> ["schema:shop/*"]
`
	var got strings.Builder
	for _, line := range config.Diff(old, new) {
		fmt.Fprintln(&got, line)
	}
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Error(diff)
	}
	for _, line := range config.Diff(old, new) {
		switch values := strings.Join(line.Values(), "; "); line.String() {
		case "- person di@example.com":
			if want := `disabled: true; email: "di@example.com"; groups: ["analytics"]; name: "Di"`; values != want {
				t.Errorf("what is removed says %s", values)
			}
		case "+ integration boards":
			if !strings.Contains(values, `secret.key: "G"`) {
				t.Errorf("what is added says %s", values)
			}
		default:
			if line.Change == "changed" && values != "" {
				t.Errorf("%s says %s as well", line, values)
			}
		}
	}
	if lines := config.Diff(old, old); len(lines) > 0 {
		t.Errorf("a configuration differs from itself: %v", lines)
	}
	two := old
	two.TwoPersonChanges = true
	if lines := config.Diff(old, two); len(lines) != 1 || lines[0].String() != "~ two_person_changes: false -> true" {
		t.Errorf("two persons: %v", lines)
	}
	if first := config.Diff(config.Config{}, old); len(first) == 0 {
		t.Error("the first file changes nothing")
	}
}

// What Diff does not see is not applied, and nobody is asked about it.
func TestDiffSeesEveryKey(t *testing.T) {
	var fill func(reflect.Value)
	fill = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Bool:
			v.SetBool(true)
		case reflect.String:
			v.SetString("x")
		case reflect.Int, reflect.Int64:
			v.SetInt(7)
		case reflect.Float64:
			v.SetFloat(7)
		case reflect.Pointer:
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem())
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			if v.Type() == reflect.TypeFor[json.RawMessage]() {
				v.SetBytes([]byte("{}"))
				return
			}
			fill(v.Index(0))
		case reflect.Struct:
			for i := range v.NumField() {
				fill(v.Field(i))
			}
		case reflect.Map:
			v.Set(reflect.ValueOf(map[string]string{"k": "x"}).Convert(v.Type()))
		default:
			t.Fatalf("a %s of a configuration is not known here", v.Type())
		}
	}
	for i := range reflect.TypeFor[config.Config]().NumField() {
		var c config.Config
		fill(reflect.ValueOf(&c).Elem().Field(i))
		if lines := config.Diff(config.Config{}, c); len(lines) == 0 {
			t.Errorf("Diff does not see %s", reflect.TypeFor[config.Config]().Field(i).Name)
		}
	}
}

// The first flow that admits a request is used, so their order counts.
func TestDiffHasTheOrderOfFlows(t *testing.T) {
	flows := func(names ...string) (c config.Config) {
		for _, name := range names {
			c.AccessFlows = append(c.AccessFlows, access.Flow{Name: name})
		}
		return c
	}
	const order = "~ access flows: order: "
	for _, tt := range []struct {
		from, to config.Config
		want     string
	}{
		{flows("a", "b"), flows("a", "b"), ""},
		{flows("a", "b"), flows("b", "a"), order + `["a","b"] -> ["b","a"]`},
		{flows("a", "b"), flows("a", "b", "c"), "+ access flow c"},
		{flows("a", "b"), flows("a", "c", "b"), "+ access flow c|" + order + `["a","b"] -> ["a","c","b"]`},
		{flows("a", "b", "c"), flows("a", "c"), "- access flow b"},
		{flows("a"), flows("b"), "- access flow a|+ access flow b"},
	} {
		var got []string
		for _, line := range config.Diff(tt.from, tt.to) {
			got = append(got, line.String())
		}
		if text := strings.Join(got, "|"); text != tt.want {
			t.Errorf("got %s, want %s", text, tt.want)
		}
	}
}

// Whom the rule of two persons would lock out is not taken.
func TestTwoPersonsNeedTwoAdministrators(t *testing.T) {
	const rule = "\ntwo_person_changes: true\n"
	for name, tt := range map[string]struct {
		people string
		sound  bool
	}{
		"one":                          {`{email: bo@example.com, groups: [p]}`, false},
		"two":                          {`{email: bo@example.com, groups: [p]}, {email: cy@example.com, groups: [p]}`, true},
		"one of them disabled":         {`{email: bo@example.com, groups: [p]}, {email: cy@example.com, groups: [p], disabled: true}`, false},
		"one of them no administrator": {`{email: bo@example.com, groups: [p]}, {email: cy@example.com}`, false},
		"one mailbox":                  {`{email: bo@example.com, groups: [p]}, {email: bo+admin@example.com, groups: [p]}`, false},
		"one by an alias":              {`{email: bo@example.com, aliases: [b@example.com], groups: [p]}, {email: b+2@example.com, groups: [p]}`, false},
		"one through a third entry":    {`{email: bo@example.com, groups: [p]}, {email: bo+1@example.com, aliases: [zed@example.com]}, {email: zed+1@example.com, groups: [p]}`, false},
		"one and the same, and one":    {`{email: bo@example.com, groups: [p]}, {email: bo+1@example.com, groups: [p]}, {email: cy@example.com, groups: [p]}`, true},
	} {
		src := "administrators: {any: [{attribute: group, values: [p]}]}\npeople: [" + tt.people + "]" + rule
		_, _, err := config.Parse("lapse.yaml", []byte(src), kinds())
		const want = "lapse.yaml:3:21: two_person_changes: needs two different people"
		if (err == nil) != tt.sound || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := config.Parse("lapse.yaml", []byte(strings.ReplaceAll(src, rule, "\n")), kinds()); err != nil {
			t.Errorf("%s, without the rule: %v", name, err)
		}
	}
}

// TestAnyOneSlipIsFound breaks one scalar of the sample: it is taken or
// refused with positions inside the file, and never panics.
func TestAnyOneSlipIsFound(t *testing.T) {
	lines := strings.SplitAfter(string(sample(t)), "\n")
	rapid.Check(t, func(t *rapid.T) {
		i := rapid.IntRange(0, len(lines)-1).Draw(t, "line")
		changed := append([]string{}, lines...)
		at := rapid.IntRange(0, len(changed[i])).Draw(t, "column")
		changed[i] = changed[i][:at] + rapid.SampledFrom([]string{"{", "]", ":", " ", "~", "x", "*", "&a ", "!t ", "\n", "\t", "-", "\""}).Draw(t, "slip") + changed[i][at:]
		_, _, err := config.Parse("lapse.yaml", []byte(strings.Join(changed, "")), kinds())
		if err != nil && strings.Contains("\n"+err.Error(), "\nlapse.yaml: ") {
			t.Fatalf("no position: %v", err)
		}
	})
}

// TestPastedSecretsAreNotRepeated puts a secret where people paste one by
// mistake.
func TestPastedSecretsAreNotRepeated(t *testing.T) {
	const canary = "hunter2-canary"
	for _, wrong := range []string{
		"secret: " + canary,
		"secret: {store: env, key: " + canary + "}",
		"secret: {store: env, key: [" + canary + "]}",
		"secret: {store: env, key: K, password: " + canary + "}",
		"secret: {store: " + canary + ", key: K}",
		"secret: *" + canary,
		"secret: {store: env, key: &" + canary + "}",
		"secret: {store: env, key: !!int " + canary + "}",
		"secret: {store: env, key: !" + canary + "}",
		"secret: {store: env, key: \"" + canary + "}",
		"secret: {store: env, key: K: " + canary + "}",
		"config: {hostname: h, password: " + canary + "}",
		"config: {hostname: h, port: " + canary + "}",
		"config: {hostname: h, ssl_mode: " + canary + "}",
		"config: " + canary,
		"password: " + canary,
	} {
		_, _, err := config.Parse("lapse.yaml", []byte("integrations:\n- name: prod\n  kind: postgresql\n  "+wrong+"\n"), kinds())
		if err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}

// FuzzParse looks for panics, faults without a position, and configurations
// that the store could not give back.
func FuzzParse(f *testing.F) {
	f.Add(sample(f))
	f.Add([]byte(smallest))
	f.Add([]byte("a: &a [*a]\n<<: *a\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		cfg, _, err := config.Parse("lapse.yaml", src, kinds())
		if err != nil {
			if strings.Contains("\n"+err.Error(), "\nlapse.yaml: ") {
				t.Errorf("no position: %v", err)
			}
			return
		}
		b, err := json.Marshal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var stored config.Config
		if err := json.Unmarshal(b, &stored); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(cfg, stored, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestSweepPolicy(t *testing.T) {
	const days = "credential_rotation_days: 30"
	parse := func(put string) (config.Config, error) {
		c, _, err := config.Parse("lapse.yaml", []byte(strings.Replace(string(sample(t)), days, days+put, 1)), kinds())
		return c, err
	}
	field, _ := reflect.TypeFor[config.Sweep]().FieldByName("Repair")
	var policy []string
	for _, k := range access.Repairable() {
		policy = append(policy, string(k))
	}
	if got := field.Tag.Get("enum"); got != strings.Join(policy, ",") {
		t.Errorf("the setting offers %s, want %s", got, strings.Join(policy, ","))
	}
	c, err := parse("")
	if got := c.Integrations[0].Sweep; err != nil || got.Every != duration("5m") || len(got.Repair) > 0 {
		t.Errorf("by default: %+v, %v", got, err)
	}
	c, err = parse("\n    sweep: {every: 1h, repair: [" + strings.Join(policy, ", ") + "]}")
	if got := c.Integrations[0].Sweep; err != nil || got.Every != duration("1h") || !slices.Equal(got.Repair, access.Repairable()) {
		t.Errorf("configured: %+v, %v", got, err)
	}
	if _, err = parse("\n    sweep: {repair: [foreign]}"); err == nil || !strings.Contains(err.Error(), "sweep.repair[0]") {
		t.Errorf("what no sweep may repair: %v", err)
	}
}
