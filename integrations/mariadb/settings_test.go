package mariadb

import (
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/sqlname"
)

// TestSettings reads settings as lapse.yaml has them.
func TestSettings(t *testing.T) {
	certificationtest.Settings(t, Kind(), &Secret{}, &Config{Hostname: "db", Port: 3306, TLSMode: "required", AccountHostPattern: "%", AdminRoleName: "lapse_admin", TerminateSessions: "always",
		StatementTimeout: access.Duration(30 * time.Second), MaxResources: 10000}, [][3]string{
		{"only the host", "hostname: db", ""},
		{"everything", `{hostname: db, port: 3307, tls_mode: verify-full, account_host_pattern: "10.%", admin_role_name: jit, terminate_sessions: last,
			session_hosts: ["r1:3307", r2], statement_timeout: 1m, include: ["database:shop"], exclude: ["table:*/x"], max_resources: 5, allow_roles: [operators]}`, ""},
		{"no host", "port: 3306", "hostname"},
		{"a tls_mode that is none", "{hostname: db, tls_mode: require}", "tls_mode"},
		{"a port that is none", "{hostname: db, port: 70000}", "port"},
		{"a timeout without a unit", "{hostname: db, statement_timeout: 30}", "statement_timeout"},
		{"a key that is none", "{hostname: db, ssl_mode: required}", "ssl_mode"},
		{"no host pattern", `{hostname: db, account_host_pattern: ""}`, "account_host_pattern"},
		{"a setting that is none", "{hostname: db, terminate_sessions: sometimes}", "terminate_sessions"},
		{"a certificate that is none", "{hostname: db, ca_certificate: not PEM}", "ca_certificate"},
		{"a session host with a bad port", `{hostname: db, session_hosts: ["replica:port"]}`, "session_hosts"},
	})
}

func TestParse(t *testing.T) {
	i := &integration{instance: "inst", id: "int"}
	for _, test := range []struct {
		typ, permission string
		names           []string
		ok              bool
	}{
		{"database", "read_only", []string{"shop"}, true},
		{"table", "admin", []string{"shop", "orders"}, true},
		{"role", "member", []string{strings.Repeat("r", 128)}, true},
		{"role", "member", []string{strings.Repeat("r", 129)}, false},
		{"role", "member", []string{""}, false},
		{"role", "read_only", []string{"analytics"}, false},
		{"database", "read_only", []string{"mysql"}, false},
		{"database", "read_only", []string{"SYS"}, false},
		{"database", "member", []string{"shop"}, false},
		{"table", "read_only", []string{"shop"}, false},
		{"table", "read_only", []string{"shop", "a\x00b"}, false},
		{"schema", "read_only", []string{"shop"}, false},
	} {
		e := access.Entitlement{Integration: "int", Resource: access.NewResource(test.typ, test.names...), Permission: test.permission}
		_, err := i.parse(e)
		if (err == nil) != test.ok || (err != nil && access.KindOf(err) != access.Invalid) {
			t.Errorf("%s: %v, want ok %t", e, err, test.ok)
		}
	}
	if _, err := i.parse(access.Entitlement{Integration: "other", Resource: access.NewResource("database", "shop"), Permission: "read_only"}); access.KindOf(err) != access.Invalid {
		t.Errorf("of another integration: %v", err)
	}
}

// A number is read as it was written, and its halves are limits that the server
// takes and nobody reaches.
func TestNumber(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, 1<<62-1).Draw(t, "number")
		low, high := split(n)
		if got := number(low, high); got != n {
			t.Fatalf("%d is read as %d", n, got)
		}
		for _, limit := range []int64{low, high} {
			if limit < unreachable || limit > math.MaxUint32 {
				t.Fatalf("%d is written as %d", n, limit)
			}
		}
	})
	for _, byHand := range [][2]int64{{0, 0}, {100, 0}, {0, unreachable}, {unreachable + 5, 20}} {
		if got := number(byHand[0], byHand[1]); got != 0 {
			t.Errorf("limits %v are read as %d", byHand, got)
		}
	}
	if low, high := split(access.FirstSequence(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).Unix())); max(low, high) > math.MaxUint32 {
		t.Errorf("in the year 2100 the limits are %d and %d", low, high)
	}
}

// The name of a database is found again in the pattern of a grant.
func TestPlain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringOfN(rapid.SampledFrom([]rune(`ab_%\`)), 1, 20, -1).Draw(t, "name")
		quoted, err := dialect.Quote(sqlname.Pattern(name))
		if err != nil {
			t.Fatal(err)
		}
		if got := plain(strings.Trim(quoted, "`")); got != name {
			t.Fatalf("%q is written %s and read as %q", name, quoted, got)
		}
	})
}

func TestCommand(t *testing.T) {
	for _, test := range []struct {
		host, mode, want string
	}{
		{"db.example.com", "verify-full", "mariadb --host=db.example.com --port=3306 --user=lapse_ana_3f9a1c77 --password --ssl --ssl-verify-server-cert"},
		{"db", "disable", "mariadb --host=db --port=3306 --user=lapse_ana_3f9a1c77 --password --skip-ssl"},
		{"db", "preferred", "mariadb --host=db --port=3306 --user=lapse_ana_3f9a1c77 --password"},
		{"$(reboot)", "required", "mariadb '--host=$(reboot)' --port=3306 --user=lapse_ana_3f9a1c77 --password --ssl"},
	} {
		made, err := New(integrations.Target{Name: "x", Config: &Config{Hostname: test.host, Port: 3306, TLSMode: test.mode}, Secret: &Secret{}})
		if err != nil {
			t.Fatal(err)
		}
		c := made.(*integration).credential("lapse_ana_3f9a1c77", "secret")
		if c.Command != test.want {
			t.Errorf("%s: %s, want %s", test.mode, c.Command, test.want)
		}
		if c.Details["tls_mode"] != test.mode || c.Details["host"] != test.host {
			t.Errorf("details %v", c.Details)
		}
	}
	if _, err := New(integrations.Target{Config: &Config{Hostname: "db", Port: 3306, TLSMode: "maybe", AccountHostPattern: "%"}, Secret: &Secret{}}); access.KindOf(err) != access.Invalid {
		t.Errorf("a mode that is none: %v, want invalid", err)
	}
}
