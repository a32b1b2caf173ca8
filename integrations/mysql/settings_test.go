package mysql

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/mysqldb"
	"github.com/lapse-access/lapse/internal/sqlname"
)

// TestSettings reads settings as lapse.yaml has them.
func TestSettings(t *testing.T) {
	certificationtest.Settings(t, Kind(), &Secret{}, &Config{Hostname: "db", Port: 3306, TLSMode: "required", AccountHostPattern: "%", ManagedService: "auto", TerminateSessions: "always",
		StatementTimeout: access.Duration(30 * time.Second), MaxResources: 10000}, [][3]string{
		{"only the host", "hostname: db", ""},
		{"everything", `{hostname: db, port: 3307, tls_mode: verify-full, account_host_pattern: 10.%, require_tls_for_accounts: true, authentication_plugin: mysql_native_password,
			managed_service: rds, terminate_sessions: last, session_hosts: ["r1:3307", r2], statement_timeout: 1m, include: ["database:shop*"], exclude: ["table:*/x"],
			max_resources: 5, allow_roles: [backup]}`, ""},
		{"no host", "port: 3306", "hostname"},
		{"a tls_mode that is none", "{hostname: db, tls_mode: on}", "tls_mode"},
		{"a port that is none", "{hostname: db, port: 70000}", "port"},
		{"a timeout without a unit", "{hostname: db, statement_timeout: 30}", "statement_timeout"},
		{"a key that is none", "{hostname: db, ssl_mode: required}", "ssl_mode"},
		{"a service that is none", "{hostname: db, managed_service: cloud}", "managed_service"},
		{"a plugin that is none", "{hostname: db, authentication_plugin: mysql_clear_password}", "authentication_plugin"},
		{"an authority that is none", "{hostname: db, ca_certificate: hello}", "ca_certificate"},
		{"a session host without a port", `{hostname: db, session_hosts: ["replica:"]}`, "session_hosts"},
		{"a host pattern with a NUL byte", `{hostname: db, account_host_pattern: "a\0"}`, "account_host_pattern"},
	})
}

// TestMariaDB is refused: its roles are others.
func TestMariaDB(t *testing.T) {
	i := &integration{}
	_, err := i.session(&mysqldb.Conn{Info: mysqldb.Info{MariaDB: true, Text: "10.11.19-MariaDB"}})
	if access.KindOf(err) != access.Unsupported || !strings.Contains(err.Error(), "kind mariadb") {
		t.Error(err)
	}
}

func TestLegacyVersions(t *testing.T) {
	for version, want := range map[int]bool{50744: true, 80020: true, 80021: false, 80400: false, 90704: false} {
		s, err := (&integration{}).session(&mysqldb.Conn{Info: mysqldb.Info{Version: version}})
		if err != nil || s.legacy != want {
			t.Errorf("%d: legacy is %t, %v; want %t", version, s.legacy, err, want)
		}
	}
}

func TestRoleNames(t *testing.T) {
	for name, role := range map[string]sqlname.Principal{
		"analytics":           {User: "analytics", Host: "%"},
		"analytics@localhost": {User: "analytics", Host: "localhost"},
		"first.last@corp@%":   {User: "first.last@corp", Host: "%"},
		"a@10.%":              {User: "a", Host: "10.%"},
	} {
		if got := readRole(name); got != role {
			t.Errorf("%s: %+v, want %+v", name, got, role)
		}
		if got := roleName(role); got != name {
			t.Errorf("%+v: %s, want %s", role, got, name)
		}
	}
}

func TestCommand(t *testing.T) {
	for _, test := range []struct{ host, mode, want string }{
		{"db.example.com", "required", "mysql --host=db.example.com --port=3306 --user=lapse_ana --password --ssl-mode=REQUIRED"},
		{"db.example.com", "verify-full", "mysql --host=db.example.com --port=3306 --user=lapse_ana --password --ssl-mode=REQUIRED"},
		{"fd00::1", "disable", "mysql --host=fd00::1 --port=3306 --user=lapse_ana --password --ssl-mode=DISABLED"},
		{"a$(id) b", "preferred", `mysql '--host=a$(id) b' --port=3306 --user=lapse_ana --password --ssl-mode=PREFERRED`},
	} {
		config := Config{Hostname: test.host, Port: 3306, TLSMode: test.mode, AccountHostPattern: "%"}
		made, err := New(integrations.Target{Config: &config, Secret: &Secret{}})
		if err != nil {
			t.Fatal(err)
		}
		if got := made.(*integration).credential("lapse_ana", "secret").Command; got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
	if _, err := New(integrations.Target{Config: &Config{Hostname: "db", Port: 3306, TLSMode: "maybe", AccountHostPattern: "%"}, Secret: &Secret{}}); access.KindOf(err) != access.Invalid {
		t.Errorf("a mode that is none: %v, want invalid", err)
	}
}

// TestChanges is what a revoke without roles computes, in every order in which
// three entitlements on nested scopes can end.
func TestChanges(t *testing.T) {
	parse := func(permission, typ string, names ...string) mysqldb.Target {
		target, err := mysqldb.Parse(dialect, "i", access.Entitlement{Integration: "i", Resource: access.NewResource(typ, names...), Permission: permission})
		if err != nil {
			t.Fatal(err)
		}
		return target
	}
	database, table, wide := parse("read_only", "database", "a_b"), parse("read_write", "table", "a_b", "t"), parse("read_write", "database", "a_b")
	all := []mysqldb.Target{database, table, wide}
	for _, order := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		// What the account has, by scope.
		has := map[access.Resource][]string{database.Resource: wide.All(), table.Resource: table.All()}
		left := slices.Clone(all)
		for _, n := range order {
			given := mysqldb.Grants{{Privileges: has[database.Resource], Database: `a\_b`, Table: "*"}, {Privileges: has[table.Resource], Database: "a_b", Table: "t"},
				{Privileges: []string{"SELECT"}, Database: "a_b", Table: "other"}}
			left = slices.DeleteFunc(left, func(x mysqldb.Target) bool { return x.Entitlement == all[n].Entitlement })
			for _, c := range changes(given, left, all[n:n+1], mysqldb.Target.All) {
				has[c.scope.Resource] = slices.DeleteFunc(slices.Clone(has[c.scope.Resource]), func(p string) bool { return slices.Contains(c.take, p) })
				for _, p := range c.give {
					if !slices.Contains(has[c.scope.Resource], p) {
						t.Errorf("%v: %s on %s was lost, and is given again", order, p, c.scope.Resource)
					}
				}
			}
			for _, scope := range []access.Resource{database.Resource, table.Resource} {
				var want []string
				for _, x := range left {
					if x.Resource == scope {
						want = append(want, x.All()...)
					}
				}
				slices.Sort(want)
				got := slices.Clone(has[scope])
				slices.Sort(got)
				if diff := cmp.Diff(slices.Compact(want), got); diff != "" && len(want)+len(got) > 0 {
					t.Errorf("%v, %s after the end of %s (-want +got):\n%s", order, scope, all[n].Entitlement, diff)
				}
			}
		}
	}
}

func TestMark(t *testing.T) {
	e := access.Entitlement{Integration: "i", Resource: access.NewResource("database", "a\"'\\`"), Permission: "read_only"}
	m := mark{Kind: kindEntitlement, Instance: "x", Integration: "i", Entitlement: &e, Sequence: 7}
	got, ok := readMark(m.text())
	if diff := cmp.Diff(m, got); !ok || diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, text := range []string{"", "null", "{", `{"kind":"account"}`, `"text"`, "[1]"} {
		if _, ok := readMark(text); ok {
			t.Errorf("%q is taken for a mark", text)
		}
	}
}
