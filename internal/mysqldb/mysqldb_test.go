package mysqldb

import (
	"context"
	"crypto/x509"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/go-cmp/cmp"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/sqlname"
)

func TestParseGrants(t *testing.T) {
	p := func(user, host string) sqlname.Principal { return sqlname.Principal{User: user, Host: host} }
	for _, test := range []struct {
		line string
		want Grant
	}{
		// MySQL 9.7
		{"GRANT USAGE ON *.* TO `a`@`%`", Grant{Privileges: []string{"USAGE"}, Database: "*", Table: "*"}},
		{"GRANT SELECT, CREATE TEMPORARY TABLES, SHOW VIEW ON *.* TO `a`@`%` WITH GRANT OPTION", Grant{Privileges: []string{"SELECT", "CREATE TEMPORARY TABLES", "SHOW VIEW"}, Database: "*", Table: "*", Option: true}},
		{"GRANT CONNECTION_ADMIN,ROLE_ADMIN ON *.* TO `a`@`%`", Grant{Privileges: []string{"CONNECTION_ADMIN", "ROLE_ADMIN"}, Database: "*", Table: "*"}},
		{"GRANT INSERT ON `a\\_b`.* TO `a`@`%`", Grant{Privileges: []string{"INSERT"}, Database: `a\_b`, Table: "*"}},
		{"REVOKE SELECT ON `a_b`.* FROM `a`@`%`", Grant{Privileges: []string{"SELECT"}, Database: "a_b", Table: "*", Taken: true}},
		{"GRANT SELECT (`id`, `x``)`), INSERT (`v`), UPDATE ON `we``ird`.`t TO x` TO `a`@`%`", Grant{Privileges: []string{"UPDATE"}, Columns: []string{"SELECT", "INSERT"}, Database: "we`ird", Table: "t TO x"}},
		{"GRANT EXECUTE ON PROCEDURE `mysql`.`rds_kill` TO `a`@`%`", Grant{Privileges: []string{"EXECUTE"}, Database: "mysql", Table: "rds_kill", Routine: true}},
		{"GRANT `x`@`%`,`y``z`@`10.%` TO `a`@`%`", Grant{Roles: []sqlname.Principal{p("x", "%"), p("y`z", "10.%")}}},
		{"GRANT `x`@`%` TO `a`@`%` WITH ADMIN OPTION", Grant{Roles: []sqlname.Principal{p("x", "%")}, Option: true}},
		// MySQL 5.7
		{"GRANT ALL PRIVILEGES ON *.* TO 'root'@'localhost' WITH GRANT OPTION", Grant{Privileges: []string{"ALL PRIVILEGES"}, Database: "*", Table: "*", Option: true}},
		{"GRANT SELECT (id, at), INSERT ON `shop`.`orders` TO 'a'@'%'", Grant{Privileges: []string{"INSERT"}, Columns: []string{"SELECT"}, Database: "shop", Table: "orders"}},
		// MariaDB
		{"GRANT `r` TO `a`@`%`", Grant{Roles: []sqlname.Principal{p("r", "")}}},
		{"GRANT SELECT ON `shop`.* TO `r`", Grant{Privileges: []string{"SELECT"}, Database: "shop", Table: "*"}},
		{"GRANT SELECT ON `shop`.* TO PUBLIC", Grant{Privileges: []string{"SELECT"}, Database: "shop", Table: "*"}},
		{"GRANT USAGE ON *.* TO `a`@`%` IDENTIFIED BY PASSWORD '*5BAA61E4'", Grant{Privileges: []string{"USAGE"}, Database: "*", Table: "*"}},
	} {
		got := ParseGrants([]string{test.line})
		if len(got) != 1 {
			t.Errorf("%s: %d grants", test.line, len(got))
			continue
		}
		if diff := cmp.Diff(test.want, got[0]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.line, diff)
		}
	}
	for _, line := range []string{"", "GRANT PROXY ON ``@`` TO `root`@`localhost` WITH GRANT OPTION", "SET DEFAULT ROLE `r` FOR `a`@`%`", "GRANT", "GRANT SELECT", "GRANT SELECT ON", "GRANT SELECT ON `a", "GRANT SELECT ON `a`.`b TO c", "GRANT `a`@`%", "GRANT SELECT ( ON x"} {
		if got := ParseGrants([]string{line}); len(got) != 0 {
			t.Errorf("%s: %+v, want nothing", line, got)
		}
	}
	whole := ParseGrants([]string{"GRANT ALL PRIVILEGES ON `shop`.* TO `a`@`%`"})[0].Privileges
	if len(whole) != 18 || slices.Contains(whole, "ALL PRIVILEGES") {
		t.Errorf("all of a database is %v", whole)
	}
}

func FuzzParseGrants(f *testing.F) {
	f.Add("GRANT SELECT (`a`), INSERT ON `b`.* TO `c`@`%` WITH GRANT OPTION")
	f.Add("GRANT `x`@`%`,`y`@`%` TO `a`@`%`")
	f.Add("REVOKE ALL PRIVILEGES ON PROCEDURE `a`.`b` FROM 'c'@'d'")
	f.Fuzz(func(t *testing.T, line string) {
		for _, g := range ParseGrants([]string{line}) {
			if g.Database == "" && g.Roles == nil && !strings.Contains(line, "``") && !strings.Contains(line, "''") && !strings.Contains(line, `""`) {
				t.Errorf("%q is a grant on nothing: %+v", line, g)
			}
		}
		ParsePrincipals(line)
	})
}

func TestGrantable(t *testing.T) {
	grants := func(exact bool, lines ...string) Grants {
		g := ParseGrants(lines)
		for i := range g {
			g[i].Exact = exact
		}
		return g
	}
	const to = " TO `a`@`%`"
	for _, test := range []struct {
		name            string
		grants          Grants
		database, table string
		holds, can      bool
	}{
		{"nothing", nil, "shop", "", false, false},
		{"everywhere", grants(false, "GRANT SELECT ON *.*"+to+" WITH GRANT OPTION"), "shop", "", true, true},
		{"everywhere, and not to hand on", grants(false, "GRANT SELECT ON *.*"+to), "shop", "", true, false},
		{"all", grants(false, "GRANT ALL PRIVILEGES ON *.*"+to+" WITH GRANT OPTION"), "shop", "t", true, true},
		{"everywhere but there", grants(true, "GRANT SELECT ON *.*"+to+" WITH GRANT OPTION", "REVOKE SELECT ON `shop`.* FROM `a`@`%`"), "shop", "t", false, false},
		{"everywhere but elsewhere", grants(true, "GRANT SELECT ON *.*"+to+" WITH GRANT OPTION", "REVOKE SELECT ON `lake`.* FROM `a`@`%`"), "shop", "t", true, true},
		{"there", grants(false, "GRANT SELECT ON `shop`.*"+to+" WITH GRANT OPTION"), "shop", "t", true, true},
		{"another privilege", grants(false, "GRANT INSERT ON `shop`.*"+to+" WITH GRANT OPTION"), "shop", "t", false, false},
		{"a pattern", grants(false, "GRANT SELECT ON `sh%`.*"+to+" WITH GRANT OPTION"), "shop", "t", true, true},
		{"a pattern that is a name", grants(true, "GRANT SELECT ON `sh%`.*"+to+" WITH GRANT OPTION"), "shop", "t", false, false},
		{"an escaped name", grants(false, "GRANT SELECT ON `a\\_b`.*"+to+" WITH GRANT OPTION"), "axb", "", false, false},
		{"an escaped name where it is none", grants(true, "GRANT SELECT ON `a\\_b`.*"+to+" WITH GRANT OPTION"), "a_b", "", false, false},
		{"the closest pattern decides", grants(false, "GRANT SELECT ON `sh%`.*"+to+" WITH GRANT OPTION", "GRANT INSERT ON `shop`.*"+to+" WITH GRANT OPTION"), "shop", "", false, false},
		{"the table", grants(false, "GRANT SELECT ON `shop`.`t`"+to+" WITH GRANT OPTION"), "shop", "t", true, true},
		{"the table, for its database", grants(false, "GRANT SELECT ON `shop`.`t`"+to+" WITH GRANT OPTION"), "shop", "", false, false},
		{"another table", grants(false, "GRANT SELECT ON `shop`.`t`"+to+" WITH GRANT OPTION"), "shop", "u", false, false},
		{"a column", grants(false, "GRANT SELECT (`c`) ON `shop`.`t`"+to+" WITH GRANT OPTION"), "shop", "t", false, false},
		{"a routine of the table's name", grants(false, "GRANT SELECT ON PROCEDURE `shop`.`t`"+to+" WITH GRANT OPTION"), "shop", "t", false, false},
	} {
		if holds, can := test.grants.Holds("SELECT", test.database, test.table), test.grants.Grantable("SELECT", test.database, test.table); holds != test.holds || can != test.can {
			t.Errorf("%s: holds %t, can hand on %t; want %t, %t", test.name, holds, can, test.holds, test.can)
		}
	}
}

func target(t *testing.T, d *sqlname.Dialect, permission, typ string, names ...string) Target {
	t.Helper()
	parsed, err := Parse(d, "i", access.Entitlement{Integration: "i", Resource: access.NewResource(typ, names...), Permission: permission})
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestTargets(t *testing.T) {
	for name, e := range map[string]access.Entitlement{
		"of another integration":   {Integration: "j", Resource: access.NewResource("database", "a"), Permission: "read_only"},
		"a type that is none":      {Integration: "i", Resource: access.NewResource("schema", "a"), Permission: "read_only"},
		"a table without database": {Integration: "i", Resource: access.NewResource("table", "a"), Permission: "read_only"},
		"a permission of another":  {Integration: "i", Resource: access.NewResource("table", "a", "b"), Permission: "member"},
		"a database of the server": {Integration: "i", Resource: access.NewResource("database", "MySQL"), Permission: "read_only"},
		"a name that is too long":  {Integration: "i", Resource: access.NewResource("table", "a", strings.Repeat("x", 65)), Permission: "read_only"},
		"a name of four bytes":     {Integration: "i", Resource: access.NewResource("database", "😀"), Permission: "read_only"},
	} {
		if _, err := Parse(sqlname.MySQL, "i", e); access.KindOf(err) != access.Invalid {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
	patterns, names := &Conn{Dialect: sqlname.MySQL}, &Conn{Dialect: sqlname.MySQL, Info: Info{PartialRevokes: true}}
	to := sqlname.Principal{User: "r", Host: "%"}
	for want, got := range map[string]sqlname.Statement{
		"GRANT SELECT ON `a\\_b`.* TO `r`@`%`":    target(t, sqlname.MySQL, ReadOnly, TypeDatabase, "a_b").Give(patterns, []string{"SELECT"}, to),
		"GRANT SELECT ON `a_b`.* TO `r`@`%`":      target(t, sqlname.MySQL, ReadOnly, TypeDatabase, "a_b").Give(names, []string{"SELECT"}, to),
		"GRANT SELECT ON `a_b`.`t_1` TO `r`@`%`":  target(t, sqlname.MySQL, ReadOnly, TypeTable, "a_b", "t_1").Give(patterns, []string{"SELECT"}, to),
		"REVOKE SELECT ON `a\\_b`.* FROM `r`@`%`": target(t, sqlname.MySQL, ReadOnly, TypeDatabase, "a_b").Take(patterns, []string{"SELECT"}, to),
	} {
		if got.Text != want || got.Err != nil {
			t.Errorf("got %s, %v; want %s", got.Text, got.Err, want)
		}
	}
	given := ParseGrants([]string{"GRANT SELECT, INSERT ON `a\\_b`.* TO `r`@`%`", "GRANT UPDATE ON `a_b`.* TO `r`@`%`", "GRANT DELETE ON `a_b`.`t` TO `r`@`%`"})
	whole := target(t, sqlname.MySQL, ReadWrite, TypeDatabase, "a_b")
	if missing := whole.Lacking(given, whole.Core()); !slices.Equal(missing, []string{"UPDATE", "DELETE"}) {
		t.Errorf("a_b lacks %v", missing)
	}
	if missing := target(t, sqlname.MySQL, ReadWrite, TypeTable, "a_b", "t").Lacking(given, whole.Core()); !slices.Equal(missing, []string{"SELECT", "INSERT", "UPDATE"}) {
		t.Errorf("the table lacks %v", missing)
	}
	give, lost, ok := target(t, sqlname.MySQL, ReadOnly, TypeDatabase, "a").Cut(ParseGrants([]string{"GRANT SELECT ON *.* TO `c`@`%` WITH GRANT OPTION"}))
	if !ok || !slices.Equal(give, []string{"SELECT"}) || !slices.Equal(lost, []string{"SHOW VIEW"}) {
		t.Errorf("the seed's read set gives %v without %v: %t", give, lost, ok)
	}
	if all := target(t, sqlname.MariaDB, Admin, TypeDatabase, "a").All(); slices.Contains(all, "TRIGGER") || slices.Contains(all, "EVENT") {
		t.Errorf("MariaDB's admin has %v", all)
	}
	if all := target(t, sqlname.MySQL, Admin, TypeDatabase, "a").All(); !slices.Contains(all, "TRIGGER") || !slices.Contains(all, "EVENT") || len(all) != 18 {
		t.Errorf("MySQL's admin has %v", all)
	}
}

func TestParsePrincipals(t *testing.T) {
	got := ParsePrincipals("`role 1`@`%`, r2 ,'r3'@localhost,r4@10.%,\"r``5\"")
	want := []sqlname.Principal{{User: "role 1", Host: "%"}, {User: "r2", Host: "%"}, {User: "r3", Host: "localhost"}, {User: "r4", Host: "10.%"}, {User: "r``5", Host: "%"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := ParsePrincipals(" "); got != nil {
		t.Errorf("of nothing: %v", got)
	}
}

func TestParseVersion(t *testing.T) {
	for _, test := range []struct {
		text, comment string
		version       int
		mariadb       bool
	}{
		{"9.7.4-2", "(Debian)", 90704, false},
		{"8.0.36-cluster", "MySQL Cluster", 80036, false},
		{"8.0.35-google", "(Google)", 80035, false},
		{"5.7.44-log", "MySQL Community Server (GPL)", 50744, false},
		{"8.4.3", "Source distribution", 80403, false},
		{"10.11.19-MariaDB-0+deb12u1", "Debian 12", 101119, true},
		{"5.5.5-10.6.12-MariaDB-log", "", 100612, true},
		{"11.8.9", "mariadb.org binary distribution", 110809, true},
		{"odd", "", 0, false},
	} {
		if version, mariadb := ParseVersion(test.text, test.comment); version != test.version || mariadb != test.mariadb {
			t.Errorf("%s: %d, %t; want %d, %t", test.text, version, mariadb, test.version, test.mariadb)
		}
	}
}

func TestClassify(t *testing.T) {
	for number, want := range map[uint16]access.ErrorKind{
		1040: access.Retry, 1053: access.Retry, 1203: access.Retry, 1290: access.Retry, 1836: access.Retry, 1047: access.Retry, 3100: access.Retry, 3101: access.Retry,
		1205: access.Conflict, 1213: access.Conflict, 1412: access.Conflict, 1396: access.Conflict,
		1045: access.Auth, 1698: access.Auth, 3118: access.Auth, 4151: access.Auth, 1862: access.Auth, 1130: access.Auth,
		1044: access.Privilege, 1142: access.Privilege, 1227: access.Privilege, 1370: access.Privilege, 1095: access.Privilege,
		1049: access.ResourceMissing, 1146: access.ResourceMissing, 1133: access.ResourceMissing, 1141: access.ResourceMissing, 1147: access.ResourceMissing,
		1269: access.ResourceMissing, 1959: access.ResourceMissing, 3523: access.ResourceMissing, 3530: access.ResourceMissing, 1410: access.ResourceMissing,
		1064: access.Invalid, 1470: access.Invalid, 1819: access.Invalid, 3638: access.Invalid, 1059: access.Invalid,
		1235: access.Unsupported,
		// Unknown, and never missing: what nobody wrote down.
		1062: access.Unknown, 9999: access.Unknown,
	} {
		err := Classify(fmt.Errorf("wrapped: %w", &mysql.MySQLError{Number: number, Message: "near 'canary'"}))
		if access.KindOf(err) != want || Number(err) != number {
			t.Errorf("%d: %v (%s, %d), want %s", number, err, access.KindOf(err), Number(err), want)
		}
		for e := err; e != nil; e = errors.Unwrap(e) {
			if strings.Contains(e.Error(), "canary") {
				t.Errorf("%d: the server's text gets out: %v", number, e)
			}
		}
	}
	for name, test := range map[string]struct {
		err  error
		want access.ErrorKind
	}{
		"a broken connection": {mysql.ErrInvalidConn, access.Retry},
		"a bad connection":    {driver.ErrBadConn, access.Retry},
		"no answer":           {&net.OpError{Op: "dial", Err: errors.New("refused")}, access.Retry},
		"no such name":        {&net.DNSError{Name: "db"}, access.Retry},
		"the deadline":        {context.DeadlineExceeded, access.Retry},
		"a strange authority": {x509.UnknownAuthorityError{}, access.Invalid},
		"no TLS":              {mysql.ErrNoTLS, access.Invalid},
		"a plain password":    {mysql.ErrCleartextPassword, access.Auth},
		"one of ours":         {access.Errorf(access.Limit, "x"), access.Limit},
		"anything":            {errors.New("canary"), access.Retry},
	} {
		if err := Classify(test.err); access.KindOf(err) != test.want || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v (%s), want %s", name, err, access.KindOf(err), test.want)
		}
	}
	if Classify(nil) != nil || During("x", nil) != nil {
		t.Error("no error became one")
	}
}

func TestEndpoint(t *testing.T) {
	for _, test := range []struct {
		host string
		want string // "" for an error
	}{
		{"db", "db:3306"}, {"db:3307", "db:3307"}, {"fd00::1", "[fd00::1]:3306"}, {"[fd00::1]:3307", "[fd00::1]:3307"}, {"db:", ""}, {"db:0", ""}, {"db:70000", ""}, {"db:x", ""},
	} {
		e, err := NewEndpoint(test.host, 3306, "required", "", time.Second)
		if (err == nil) != (test.want != "") || (err == nil && e.String() != test.want) {
			t.Errorf("%s: %s, %v; want %q", test.host, e, err, test.want)
		}
	}
	for mode, want := range map[string]struct{ encrypted, unverified, fallback bool }{
		"disable": {}, "preferred": {true, true, true}, "required": {true, true, false}, "verify-ca": {true, true, false}, "verify-full": {true, false, false},
	} {
		e, err := NewEndpoint("db", 3306, mode, "", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		encrypted := e.tls != nil
		if encrypted != want.encrypted || e.fallback != want.fallback || (encrypted && (e.tls.InsecureSkipVerify != want.unverified || e.tls.ServerName != "db")) {
			t.Errorf("%s: %+v, %t", mode, e.tls, e.fallback)
		}
		if mode == "verify-ca" && e.tls.VerifyConnection == nil {
			t.Error("verify-ca verifies nothing")
		}
	}
}

func TestLockName(t *testing.T) {
	for _, id := range []string{"x", strings.Repeat("x", 58), strings.Repeat("x", 200)} {
		if name := LockName(id); len(name) > 64 || !strings.HasPrefix(name, "lapse:x") {
			t.Errorf("%s is %d characters", name, len(name))
		}
	}
}

func TestWords(t *testing.T) {
	got := words("BEGIN INSERT INTO Audit_Log (id) SELECT NEW.id FROM other.`odd name`; SET @x='y'; END")
	for _, want := range []string{"audit_log", "other", "odd name", "y"} {
		if !got[want] {
			t.Errorf("%s is not among the words", want)
		}
	}
	if got["log"] {
		t.Error("a part of a word is one")
	}
}
