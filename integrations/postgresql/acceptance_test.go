package postgresql_test

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/postgresql"
	"github.com/lapse-access/lapse/internal/certificationtest"
)

// TestServer is what only PostgreSQL has, beside the suite.
func TestServer(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run(strconv.Itoa(v), func(t *testing.T) {
			t.Parallel()
			b := newBed(t, v)
			for _, test := range []struct {
				name string
				run  func(*testing.T, *bed)
			}{
				{"a grant by hand beside ours stays and is reported", besideOurs},
				{"access in another way is a fact of the revoke", otherWays},
				{"later tables are covered, those of new owners after maintenance", laterTables},
				{"maintenance drops roles that nobody has used for a week", idleRoles},
				{"a missing right to grant is no success", missingRight},
				{"what belongs to an extension is left to its owner", extensionMembers},
				{"privileges given to an account by hand do not keep it", givenInThreeDatabases},
				{"privileges that others gave keep the account closed", givenByOthers},
				{"passwords are not in the server's log", passwordsInLog},
				{"a revoke survives the loss of the role, the database and the account", everythingGone},
				{"a connector that may not end sessions says so and revokes the rest", cannotEndSessions},
				{"check tells connectors apart", checkConnectors},
				{"roles with powers over the server are refused", dangerousRoles},
				{"discovery is cut to what can be granted, and warns", discovery},
				{"two integrations on one server do not see each other", twoIntegrations},
				{"an operation gives up at its deadline and does nothing later", deadline},
				{"somebody else's changes at the same time are survived", contention},
				{"every ssl_mode connects, or says why not", sslModes},
				{"the seed's spelling of the database name", seedSpelling},
				{"names and texts are quoted as the server reads them", quoting},
				{"a long list of tables", manyTables},
				{"the psql command works as it stands", psqlCommand},
				{"the connector's password with every punctuation mark", punctuation},
				{"16 people at once, 50 rounds", crowd},
			} {
				t.Run(test.name, func(t *testing.T) { test.run(t, b) })
			}
		})
	}
}

func start(t *testing.T, target integrations.Target) integrations.Integration {
	t.Helper()
	return certificationtest.Start(t, postgresql.Kind(), target)
}

// at makes an account of somebody new on an integration.
func at(t *testing.T, target integrations.Target) *certificationtest.Holder {
	t.Helper()
	return certificationtest.At(t, postgresql.Kind(), target)
}

func says(facts []string, part string) bool {
	return slices.ContainsFunc(facts, func(f string) bool { return strings.Contains(f, part) })
}

var (
	readShop  = entitlement("read_only", "schema", "shop", "public")
	analytics = entitlement("member", "role", "analytics")
)

func besideOurs(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, analytics)
	b.exec(t, "postgres", "GRANT analytics TO "+quote(l.Account.Name))
	entry := l.Revoke(t, analytics)
	left := value[int64](t, b, "postgres", "SELECT count(*) FROM pg_auth_members WHERE member = $1::regrole AND roleid = 'analytics'::regrole", l.Account.Name)
	if b.Bin.Major < 16 {
		// One row for all grantors: PostgreSQL forgot who gave it a second time.
		if entry.Outcome != access.Gone || left != 0 {
			t.Errorf("%+v, and %d memberships", entry, left)
		}
		return
	}
	if entry.Outcome != access.Lowered || !says(entry.Facts, "still has access through analytics: granted by postgres") || left != 1 {
		t.Errorf("%+v, and %d memberships; want the grant of postgres to stay and be named", entry, left)
	}
	page, err := l.Accounts(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(page.Principals, func(p access.Principal) bool { return p.Name == l.Account.Name })
	if i < 0 || !says(page.Principals[i].Foreign, "member of analytics, granted by postgres") || len(page.Principals[i].Entitlements) != 0 {
		t.Errorf("the list says %+v", page.Principals)
	}
	// Deleting takes a membership with it, whoever gave it.
	other := at(t, b.target())
	other.Grant(t, readShop)
	b.exec(t, "postgres", "GRANT analytics TO "+quote(other.Account.Name))
	if res := other.Delete(t); res.Outcome != access.Gone {
		t.Errorf("deleting an account to which a superuser gave a role: %+v", res)
	}
	b.exec(t, "postgres", "REVOKE analytics FROM "+quote(l.Account.Name))
	// A foreign grant of one of Lapse's own roles must not stay. Of a
	// superuser's grant the connector may not decide; it says so.
	l.Grant(t, readShop)
	b.exec(t, "postgres", "GRANT "+quote(roleOf(t, b, l.Account.Name))+" TO "+quote(l.Account.Name))
	_, err = l.TryRevoke(t, readShop)
	if access.KindOf(err) != access.Privilege || !strings.Contains(err.Error(), "granted by postgres") {
		t.Errorf("revoking what a superuser gave too: %v, want privilege and the grantor's name", err)
	}
	superuser := *l
	superuser.Integration = start(t, b.target(asSuperuser(b)))
	if entry := superuser.Revoke(t, readShop); entry.Outcome != access.Gone {
		t.Errorf("revoking it as a superuser: %+v", entry)
	}
}

// roleOf is an entitlement role that an account has.
func roleOf(t *testing.T, b *bed, account string) string {
	return value[string](t, b, "postgres", `SELECT r.rolname::text FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid
		WHERE m.member = $1::regrole AND r.rolname LIKE 'lapse\_e\_%' LIMIT 1`, account)
}

func asSuperuser(b *bed) func(*postgresql.Config, *postgresql.Secret) {
	return func(_ *postgresql.Config, s *postgresql.Secret) {
		s.Username, s.Password = "postgres", integrations.Secret(b.Password)
	}
}

func otherWays(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, readShop)
	b.exec(t, "shop", "GRANT SELECT ON public.items TO PUBLIC", "CREATE ROLE readers", "GRANT SELECT ON public.orders TO readers", "GRANT readers TO "+quote(l.Account.Name))
	entry := l.Revoke(t, readShop)
	if entry.Outcome != access.Gone || !says(entry.Facts, "through PUBLIC") || !says(entry.Facts, "through readers") {
		t.Errorf("%+v, want gone, and PUBLIC and readers named", entry)
	}
	b.exec(t, "shop", "REVOKE SELECT ON public.items FROM PUBLIC", "DROP OWNED BY readers", "DROP ROLE readers")
}

func laterTables(t *testing.T, b *bed) {
	o := &observer{b}
	l := at(t, b.target())
	l.Grant(t, readShop)
	b.exec(t, "shop", "SET ROLE app_owner", "CREATE TABLE public.later ()", "RESET ROLE")
	if !o.Can(t, l.Account, readShop) {
		t.Error("a later table of the owner cannot be read")
	}
	b.exec(t, "shop", "CREATE ROLE late_owner", "GRANT CREATE ON SCHEMA public TO late_owner", "SET ROLE late_owner", "CREATE TABLE public.foreign_later ()", "RESET ROLE")
	if o.Can(t, l.Account, readShop) {
		t.Fatal("a table of a new owner can be read already")
	}
	maintain := func() ([]string, error) {
		return l.Integration.(integrations.Maintainer).Maintain(t.Context())
	}
	if _, err := maintain(); access.KindOf(err) != access.Privilege || !strings.Contains(err.Error(), `GRANT "late_owner" TO "lapse"`) {
		t.Errorf("maintaining without the right: %v, want the statement that gives it", err)
	}
	b.exec(t, "postgres", "GRANT late_owner TO lapse")
	if _, err := maintain(); err != nil {
		t.Error(err)
	}
	if !o.Can(t, l.Account, readShop) {
		t.Error("after maintenance a table of a new owner cannot be read")
	}
	b.exec(t, "shop", "SET ROLE late_owner", "CREATE TABLE public.foreign_latest ()", "RESET ROLE")
	if !o.Can(t, l.Account, readShop) {
		t.Error("after maintenance a later table of a new owner cannot be read")
	}
	l.Revoke(t, readShop)
	b.exec(t, "shop", "DROP OWNED BY late_owner", "DROP TABLE public.later", "DROP ROLE late_owner")
}

func idleRoles(t *testing.T, b *bed) {
	used, idle := at(t, b.target()), at(t, b.target())
	inCRM, inLake := entitlement("admin", "schema", "shop", "crm"), entitlement("read_only", "database", "lake")
	used.Grant(t, inCRM)
	idle.Grant(t, inLake)
	keep, drop := roleOf(t, b, used.Account.Name), roleOf(t, b, idle.Account.Name)
	idle.Revoke(t, inLake)
	maintain := func() {
		t.Helper()
		if _, err := used.Integration.(integrations.Maintainer).Maintain(t.Context()); err != nil {
			t.Error(err)
		}
	}
	o := &observer{b}
	if maintain(); !o.Exists(t, drop) {
		t.Error("a role that was in use today is dropped")
	}
	for _, role := range []string{keep, drop} {
		old := value[string](t, b, "postgres", `SELECT regexp_replace(shobj_description($1::regrole, 'pg_authid'), '"applied":"[^"]*"', '"applied":"2020-01-01T00:00:00Z"')`, role)
		b.exec(t, "postgres", "COMMENT ON ROLE "+role+" IS '"+old+"'")
	}
	if maintain(); o.Exists(t, drop) || !o.Exists(t, keep) {
		t.Errorf("the idle role is there: %t, the used one: %t", o.Exists(t, drop), o.Exists(t, keep))
	}
	if !o.Can(t, used.Account, inCRM) {
		t.Error("maintenance took access away")
	}
	used.Revoke(t, inCRM)
}

func missingRight(t *testing.T, b *bed) {
	b.exec(t, "postgres", "CREATE ROLE weak LOGIN CREATEROLE PASSWORD 'weak'")
	b.exec(t, "shop", "GRANT SELECT ON public.orders TO weak")
	target := b.target(func(_ *postgresql.Config, s *postgresql.Secret) { s.Username, s.Password = "weak", "weak" })
	target.ID = "weak"
	read := readShop
	read.Integration = "weak"
	l := at(t, target)
	l.Account.ID, l.Account.Integration = access.AccountID("weak", l.Account.PersonID), "weak"
	_, err := l.TryGrant(t, read)
	if access.KindOf(err) != access.Privilege || !strings.Contains(err.Error(), `GRANT "app_owner" TO "weak"`) {
		t.Errorf("granting: %v, want the missing right and the statement that gives it", err)
	}
	if page, _ := l.Accounts(t.Context(), ""); len(page.Principals) != 0 {
		t.Errorf("the grant left %+v", page.Principals)
	}
	// The server itself calls this a success, with warning 01007.
	if err := postgresql.Exec(t.Context(), l.Integration, "shop", "GRANT SELECT ON public.orders TO analytics"); access.KindOf(err) != access.Privilege {
		t.Errorf("giving without the grant option: %v, want privilege", err)
	}
	if b.Bin.Major >= 16 {
		role := analytics
		role.Integration = "weak"
		_, err := l.TryGrant(t, role)
		if access.KindOf(err) != access.Privilege || !strings.Contains(err.Error(), `GRANT "analytics" TO "weak" WITH ADMIN OPTION`) {
			t.Errorf("granting a role: %v, want the missing right and the statement that gives it", err)
		}
	}
	b.exec(t, "shop", "DROP OWNED BY weak", "DROP ROLE weak")
}

func extensionMembers(t *testing.T, b *bed) {
	if value[int64](t, b, "shop", "SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_stat_statements'") == 0 {
		t.Fatal("this server has no extension pg_stat_statements, which is in Debian's package of the server")
	}
	b.exec(t, "shop", "CREATE EXTENSION pg_stat_statements SCHEMA public")
	defer b.exec(t, "shop", "DROP EXTENSION pg_stat_statements")
	l := at(t, b.target())
	write := entitlement("read_write", "schema", "shop", "public")
	l.Grant(t, write)
	if !(&observer{b}).Can(t, l.Account, write) {
		t.Error("the tables beside the extension's cannot be written")
	}
	l.Revoke(t, write)
}

func givenInThreeDatabases(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, readShop)
	name := quote(l.Account.Name)
	oid := value[uint32](t, b, "postgres", "SELECT oid FROM pg_roles WHERE rolname = $1", l.Account.Name)
	b.exec(t, "shop", "GRANT SELECT ON public.orders TO "+name, "GRANT CREATE ON DATABASE shop TO "+name,
		"ALTER DEFAULT PRIVILEGES FOR ROLE app_owner GRANT SELECT ON TABLES TO "+name)
	b.exec(t, "lake", "GRANT INSERT ON raw.events TO "+name)
	b.exec(t, "hr", "GRANT USAGE ON SCHEMA reports TO "+name)
	l.Revoke(t, readShop)
	if res := l.Delete(t); res.Outcome != access.Gone {
		t.Errorf("%+v, want gone", res)
	}
	if n := value[int64](t, b, "postgres", "SELECT count(*) FROM pg_shdepend WHERE refobjid = $1", oid); n != 0 {
		t.Errorf("%d things still depend on the role", n)
	}
}

func givenByOthers(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, readShop)
	b.exec(t, "lake", "CREATE TABLE raw.hidden ()", "GRANT SELECT ON raw.hidden TO "+quote(l.Account.Name))
	if _, err := at(t, b.target()).TryGrant(t, entitlement("read_only", "schema", "lake", "raw")); access.KindOf(err) != access.Privilege || strings.Contains(err.Error(), `GRANT "postgres"`) {
		t.Errorf("granting what a superuser owns: %v, want another way than membership in the superuser", err)
	}
	l.Revoke(t, readShop)
	res := l.Delete(t)
	if res.Outcome != access.KeptDisabled || !says(res.Owns, "foreign_grants: 1 entries in pg_class of database lake") {
		t.Errorf("%+v, want kept_disabled and the grant named", res)
	}
	if again := l.Delete(t); again.Outcome != access.KeptDisabled {
		t.Errorf("again: %+v, want kept_disabled", again)
	}
	b.exec(t, "lake", "DROP TABLE raw.hidden")
	if again := l.Delete(t); again.Outcome != access.WasGone {
		t.Errorf("once nothing depends on it: %+v, want was_gone", again)
	}
}

func passwordsInLog(t *testing.T, b *bed) {
	b.exec(t, "postgres", "ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()")
	defer b.exec(t, "postgres", "ALTER SYSTEM RESET log_statement", "SELECT pg_reload_conf()")
	o := &observer{b}
	l := at(t, b.target())
	l.Grant(t, readShop)
	first := l.Credential(t)
	second := l.Credential(t)
	if o.CanLogin(t, first) || !o.CanLogin(t, second) {
		t.Errorf("the old password works: %t, the new one: %t", o.CanLogin(t, first), o.CanLogin(t, second))
	}
	l.Revoke(t, readShop)
	log, err := os.ReadFile(filepath.Join(filepath.Dir(b.CAFile), "postgresql.log"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(log), "PASSWORD E'SCRAM-SHA-256$4096:") {
		t.Error("the log has no statement of ours, so it proves nothing")
	}
	for _, c := range []integrations.Credential{first, second} {
		if strings.Contains(string(log), c.Password.Reveal()) {
			t.Error("a password is in the server's log")
		}
	}
}

func everythingGone(t *testing.T, b *bed) {
	b.exec(t, "postgres", "CREATE DATABASE doomed OWNER app_owner")
	all := entitlement("admin", "database", "doomed")
	b.exec(t, "postgres", "CREATE ROLE doomed_role")
	b.exec(t, "postgres", "GRANT doomed_role TO lapse WITH ADMIN OPTION")
	inRole := entitlement("member", "role", "doomed_role")

	l := at(t, b.target())
	l.Grant(t, all, inRole)
	b.exec(t, "postgres", "DROP DATABASE doomed WITH (FORCE)", "DROP ROLE doomed_role")
	entries, err := l.Verify(t.Context(), l.Account, []access.Entitlement{all})
	if err != nil || entries[0].Outcome == access.Granted {
		t.Errorf("verifying what is on a database that is gone: %+v, %v", entries, err)
	}
	if entry := l.Revoke(t, all, inRole); entry.Outcome != access.Gone {
		t.Errorf("the database is gone: %+v", entry)
	}
	role := "lapse_e_%"
	b.exec(t, "postgres", "DROP ROLE "+value[string](t, b, "postgres", `SELECT rolname::text FROM pg_roles WHERE rolname LIKE $1 AND shobj_description(oid, 'pg_authid') LIKE '%database:doomed%'`, role))
	if entry := l.Revoke(t, all, inRole); entry.Outcome != access.WasGone {
		t.Errorf("the roles are gone: %+v", entry)
	}
	b.exec(t, "postgres", "DROP ROLE "+quote(l.Account.Name))
	if entry := l.Revoke(t, all, inRole); entry.Outcome != access.WasGone {
		t.Errorf("the account is gone: %+v", entry)
	}
}

func cannotEndSessions(t *testing.T, b *bed) {
	o := &observer{b}
	l := at(t, b.target())
	l.Grant(t, readShop)
	conn, err := o.login(l.Credential(t), "shop")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.PgConn().Conn().Close()
	b.exec(t, "postgres", "REVOKE pg_signal_backend FROM lapse")
	_, err = l.TryRevoke(t, readShop)
	b.exec(t, "postgres", "GRANT pg_signal_backend TO lapse")
	pid := strconv.Itoa(int(conn.PgConn().PID()))
	if access.KindOf(err) != access.Privilege || !strings.Contains(err.Error(), pid) || !strings.Contains(err.Error(), `GRANT pg_signal_backend TO "lapse"`) {
		t.Errorf("%v, want the session %s named and the statement that mends it", err, pid)
	}
	if o.Can(t, l.Account, readShop) {
		t.Error("the membership was not taken back")
	}
	l.Revoke(t, readShop)
	if (session{o, t, conn.PgConn().PID()}).Alive() {
		t.Error("the session outlives the revoke")
	}
}

func checkConnectors(t *testing.T, b *bed) {
	b.exec(t, "postgres", "CREATE ROLE plain LOGIN PASSWORD 'plain'", "CREATE ROLE maker LOGIN CREATEROLE PASSWORD 'maker'")
	defer b.exec(t, "postgres", "DROP ROLE plain", "DROP ROLE maker")
	report := func(change ...func(*postgresql.Config, *postgresql.Secret)) (access.CheckReport, map[string]access.CheckItem) {
		t.Helper()
		r, err := start(t, b.target(change...)).Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		items := map[string]access.CheckItem{}
		for _, item := range r.Items {
			items[item.Name] = item
		}
		return r, items
	}
	as := func(name string) func(*postgresql.Config, *postgresql.Secret) {
		return func(_ *postgresql.Config, s *postgresql.Secret) {
			s.Username, s.Password = name, integrations.Secret(name)
		}
	}

	if r, items := report(); !r.OK() || !strings.Contains(items["make roles"].Detail, "CREATEROLE") || !strings.HasPrefix(r.Server, "PostgreSQL "+strconv.Itoa(b.Bin.Major)) {
		t.Errorf("the connector of the tier full: %+v", r)
	}
	if r, items := report(asSuperuser(b)); !r.OK() || items["make roles"].Detail != "superuser" {
		t.Errorf("a superuser: %+v", r)
	}
	if r, items := report(as("plain")); r.OK() || items["make roles"].Remedy != `ALTER ROLE "plain" CREATEROLE` || items["pg_signal_backend"].Remedy != `GRANT pg_signal_backend TO "plain"` {
		t.Errorf("a role without rights: %+v", r)
	}
	_, items := report(as("maker"))
	if got := items["roles of the customer"]; got.OK == (b.Bin.Major >= 16) || (b.Bin.Major >= 16 && got.Remedy != `GRANT "analytics" TO "maker" WITH ADMIN OPTION`) {
		t.Errorf("CREATEROLE alone on %d: %+v", b.Bin.Major, got)
	}
	if got := items["act for app_owner"]; got.Remedy != `GRANT "app_owner" TO "maker"` {
		t.Errorf("CREATEROLE alone: %+v", got)
	}
	if got := items["PUBLIC CONNECT"]; got.OK || !got.Optional {
		t.Errorf("PUBLIC may connect: %+v", got)
	}
	if b.Bin.Major >= 16 {
		// The connector got another login; what the old one made is not its own.
		l := at(t, b.target())
		l.Grant(t, readShop)
		if _, items := report(as("maker")); items["roles of Lapse"].OK || !strings.Contains(items["roles of Lapse"].Remedy, `TO "maker" WITH ADMIN OPTION`) {
			t.Errorf("another login of the connector: %+v", items["roles of Lapse"])
		}
		changed := *l
		changed.Integration = start(t, b.target(as("maker")))
		if _, err := changed.TryRevoke(t, readShop); access.KindOf(err) != access.Privilege || !strings.Contains(err.Error(), `TO "maker" WITH ADMIN OPTION`) {
			t.Errorf("revoking with another login of the connector: %v", err)
		}
		l.Sequence = changed.Sequence
		l.Revoke(t, readShop)
	}
	for name, test := range map[string]struct {
		item, remedy string
		change       func(*postgresql.Config, *postgresql.Secret)
	}{
		"no verification": {"tls", "verify-full", func(c *postgresql.Config, _ *postgresql.Secret) { c.SSLMode = "require"; c.CACertificate = "" }},
		"other authority": {"connect", "ca_certificate", func(c *postgresql.Config, _ *postgresql.Secret) { c.CACertificate = "" }},
		"wrong password":  {"connect", "", func(_ *postgresql.Config, s *postgresql.Secret) { s.Password = "wrong" }},
		"no such owner":   {"owner role nobody", "owner_roles", func(c *postgresql.Config, _ *postgresql.Secret) { c.OwnerRoles = []string{"nobody"} }},
		"dead standby":    {"session host 127.0.0.1:1", "", func(c *postgresql.Config, _ *postgresql.Secret) { c.SessionHosts = []string{"127.0.0.1:1"} }},
	} {
		if r, items := report(test.change); items[test.item].OK || items[test.item].Detail == "" || !strings.Contains(items[test.item].Remedy, test.remedy) {
			t.Errorf("%s: %+v", name, r.Items)
		}
	}
}

func dangerousRoles(t *testing.T, b *bed) {
	b.exec(t, "postgres", "CREATE ROLE ops", "GRANT pg_execute_server_program TO ops", "CREATE ROLE makers CREATEROLE", "CREATE ROLE human LOGIN")
	defer b.exec(t, "postgres", "DROP ROLE ops", "DROP ROLE makers", "DROP ROLE human")
	for _, name := range []string{"ops", "makers", "human", "postgres", "pg_read_server_files", "pg_database_owner"} {
		l := at(t, b.target(asSuperuser(b)))
		if _, err := l.TryGrant(t, entitlement("member", "role", name)); access.KindOf(err) != access.Invalid {
			t.Errorf("granting %s: %v, want invalid", name, err)
		}
	}
	allowed := at(t, b.target(asSuperuser(b), func(c *postgresql.Config, _ *postgresql.Secret) { c.AllowRoles = []string{"ops"} }))
	allowed.Grant(t, entitlement("member", "role", "ops"))
	allowed.Revoke(t, entitlement("member", "role", "ops"))
	l := at(t, b.target())
	l.Grant(t, readShop)
	if _, err := l.TryGrant(t, entitlement("member", "role", roleOf(t, b, l.Account.Name))); access.KindOf(err) != access.Invalid {
		t.Errorf("granting Lapse's own role by its name: %v, want invalid", err)
	}
	l.Revoke(t, readShop)
}

func discovery(t *testing.T, b *bed) {
	b.exec(t, "postgres", "CREATE DATABASE closed", "REVOKE CONNECT ON DATABASE closed FROM PUBLIC", "COMMENT ON DATABASE shop IS 'owner=dba'", "COMMENT ON ROLE analytics IS 'readers tier=2'")
	b.exec(t, "lake", "CREATE TABLE raw.hidden ()", "CREATE TABLE raw.shown ()", "GRANT SELECT ON raw.shown TO lapse WITH GRANT OPTION",
		"COMMENT ON SCHEMA raw IS 'owner=lake'", "COMMENT ON TABLE raw.events IS 'all events owner=events'", "CREATE SCHEMA walled", "CREATE TABLE walled.off ()")
	defer b.exec(t, "postgres", "DROP DATABASE closed")
	defer b.exec(t, "lake", "DROP TABLE raw.hidden", "DROP TABLE raw.shown", "DROP SCHEMA walled CASCADE")

	found, warnings := certificationtest.Catalog(t, start(t, b.target()))
	for resource, want := range map[string][]string{
		"schema:shop/public":             {"read_only", "read_write", "admin"},
		"table:lake/raw/events":          {"read_only", "read_write", "admin"},
		"table:lake/raw/shown":           {"read_only"},
		"table:lake/raw/hidden":          nil,
		"schema:lake/raw":                nil,
		"schema:lake/walled":             nil,
		"database:lake":                  nil,
		"role:analytics":                 {"member"},
		"role:postgres":                  nil,
		"schema:shop/pg_catalog":         nil,
		"database:template1":             nil,
		"role:pg_database_owner":         nil,
		"table:lake/walled/off":          nil,
		"role:pg_signal_backend":         nil,
		"database:closed":                nil,
		"schema:shop/information_schema": nil,
	} {
		if got := found[resource].Permissions; !slices.Equal(got, want) {
			t.Errorf("%s offers %v, want %v", resource, got, want)
		}
	}
	for resource, owner := range map[string]string{"database:shop": "dba", "table:lake/raw/events": "events"} {
		if got := found[resource].Tags["owner"]; got != owner {
			t.Errorf("%s has the tag owner=%s, want %s", resource, got, owner)
		}
	}
	if !says(warnings, "database closed is left out") {
		t.Errorf("warnings: %v", warnings)
	}
	for resource := range found {
		if strings.Contains(resource, "lapse_") {
			t.Errorf("%s is Lapse's own", resource)
		}
	}

	limited, warnings := certificationtest.Catalog(t, start(t, b.target(func(c *postgresql.Config, _ *postgresql.Secret) { c.MaxResources = 3 })))
	if len(limited) != 3 || !says(warnings, "max_resources") {
		t.Errorf("%d resources, warnings %v", len(limited), warnings)
	}
	narrow := b.target(func(c *postgresql.Config, _ *postgresql.Secret) {
		c.Include, c.Exclude = []string{"table:shop/*/*"}, []string{"table:*/*/items"}
	})
	found, _ = certificationtest.Catalog(t, start(t, narrow))
	if _, orders := found["table:shop/public/orders"]; !orders || len(found) != 2 {
		t.Errorf("with include and exclude: %v", found)
	}
	if _, err := at(t, narrow).TryGrant(t, entitlement("read_only", "table", "shop", "public", "items")); access.KindOf(err) != access.Invalid {
		t.Errorf("granting what is excluded: %v, want invalid", err)
	}
	if _, err := start(t, b.target()).Discover(t.Context(), "nonsense"); access.KindOf(err) != access.Invalid {
		t.Errorf("a cursor that is none: %v, want invalid", err)
	}
}

func twoIntegrations(t *testing.T, b *bed) {
	one := at(t, b.target())
	second := b.target()
	second.ID = "pg-second"
	other := &certificationtest.Holder{Integration: start(t, second), Account: one.Account}
	other.Account.ID, other.Account.Integration = access.AccountID("pg-second", one.Account.PersonID), "pg-second"
	read := readShop
	read.Integration = "pg-second"

	one.Grant(t, readShop)
	other.Grant(t, read)
	if one.Account.Name == other.Account.Name {
		t.Fatalf("both integrations use %s", one.Account.Name)
	}
	other.Revoke(t, read)
	if !(&observer{b}).Can(t, one.Account, readShop) {
		t.Error("a revoke on one integration took away what the other gave")
	}
	page, err := other.Accounts(t.Context(), "")
	if err != nil || len(page.Principals) != 1 || page.Principals[0].Name != other.Account.Name {
		t.Errorf("the second integration lists %+v, %v", page.Principals, err)
	}
	if _, err := other.Verify(t.Context(), one.Account, []access.Entitlement{read}); access.KindOf(err) != access.Invalid {
		t.Errorf("asking one integration about an account of the other: %v, want invalid", err)
	}
	if _, err := other.Verify(t.Context(), other.Account, []access.Entitlement{readShop}); access.KindOf(err) != access.Invalid {
		t.Errorf("asking one integration about an entitlement of the other: %v, want invalid", err)
	}
	one.Revoke(t, readShop)
}

func deadline(t *testing.T, b *bed) {
	l := at(t, b.target())
	b.exec(t, "postgres", "SELECT pg_advisory_lock(1818325107, 1)")
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	begun := time.Now()
	_, err := l.Integration.Grant(ctx, integrations.GrantRequest{Account: l.Account, Want: []access.Entitlement{readShop}, Sequence: 1})
	if k := access.KindOf(err); k != access.Retry && k != access.Conflict {
		t.Errorf("%v, want retry or conflict", err)
	}
	if took := time.Since(begun); took > 1500*time.Millisecond {
		t.Errorf("took %s with half a second allowed", took)
	}
	b.exec(t, "postgres", "SELECT pg_advisory_unlock(1818325107, 1)")
	time.Sleep(200 * time.Millisecond)
	if page, _ := l.Accounts(t.Context(), ""); slices.ContainsFunc(page.Principals, func(p access.Principal) bool { return p.AccountID == l.Account.ID }) {
		t.Error("the grant went on after its deadline")
	}
	for left := time.Now().Add(2 * time.Second); value[bool](t, b, "postgres", "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = 'lapse')"); {
		if time.Now().After(left) {
			t.Fatal("a connection of the operation is left")
		}
	}
}

// contention lets an administrator change the same rows of the catalog.
func contention(t *testing.T, b *bed) {
	stop, done := make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				b.try(t, "shop", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO analytics", "GRANT USAGE ON SCHEMA public TO analytics")
				b.try(t, "shop", "REVOKE SELECT ON ALL TABLES IN SCHEMA public FROM analytics", "REVOKE USAGE ON SCHEMA public FROM analytics")
			}
		}
	}()
	for _, permission := range []string{"read_only", "read_write", "admin"} {
		e := entitlement(permission, "schema", "shop", "public")
		(&observer{b}).Forget(t, e)
		l := at(t, b.target())
		l.Grant(t, e)
		l.Revoke(t, e)
	}
	close(stop)
	<-done
}

func sslModes(t *testing.T, b *bed) {
	for _, test := range []struct {
		mode, host string
		authority  bool
		kind       access.ErrorKind
	}{
		{"disable", "127.0.0.1", false, ""},
		{"allow", "127.0.0.1", false, ""},
		{"prefer", "127.0.0.1", false, ""},
		{"require", "127.0.0.1", false, ""},
		{"require", "127.0.0.1", true, ""},
		{"verify-ca", "127.0.0.1", true, ""},
		{"verify-ca", "127.0.0.1", false, access.Invalid},
		{"verify-full", "localhost", true, ""},
		{"verify-full", "127.0.0.1", false, access.Invalid},
		{"verify-full", "127.0.0.2", true, access.Retry}, // nothing listens there
	} {
		i := start(t, b.target(func(c *postgresql.Config, _ *postgresql.Secret) {
			c.SSLMode, c.Hostname = test.mode, test.host
			if !test.authority {
				c.CACertificate = ""
			}
		}))
		if _, err := i.Accounts(t.Context(), ""); access.KindOf(err) != test.kind {
			t.Errorf("%s to %s, with the authority's certificate %t: %v (%s), want %q", test.mode, test.host, test.authority, err, access.KindOf(err), test.kind)
		}
	}

	// A server without TLS answers the request for it with N.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		io.ReadFull(c, make([]byte, 8))
		c.Write([]byte("N"))
	}()
	i := start(t, b.target(func(c *postgresql.Config, _ *postgresql.Secret) { c.Port = l.Addr().(*net.TCPAddr).Port }))
	if _, err := i.Accounts(t.Context(), ""); access.KindOf(err) != access.Invalid || !strings.Contains(err.Error(), "does not offer TLS") {
		t.Errorf("a server without TLS: %v", err)
	}
}

func seedSpelling(t *testing.T, b *bed) {
	i := start(t, b.target(func(c *postgresql.Config, _ *postgresql.Secret) { c.DatabaseName = "postgre" }))
	if _, err := i.Accounts(t.Context(), ""); err != nil {
		t.Error(err)
	}
	i = start(t, b.target(func(c *postgresql.Config, _ *postgresql.Secret) { c.DatabaseName = "nowhere" }))
	if _, err := i.Accounts(t.Context(), ""); access.KindOf(err) != access.ResourceMissing {
		t.Errorf("a database that is not there: %v", err)
	}
}

// quoting asks the server what it reads.
func quoting(t *testing.T, b *bed) {
	rapid.Check(t, func(r *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.RuneFrom([]rune(`"'\;-/*$ü😀 E`)))).Draw(r, "text")
		name, text, err := postgresql.Quoted(s)
		if err != nil {
			return // refused, as the unit test demands
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		res := b.conn(t, "postgres").PgConn().ExecParams(t.Context(), "SELECT "+text+" AS "+name, nil, nil, nil, nil).Read()
		if res.Err != nil {
			r.Fatalf("%q: %v", s, res.Err)
		}
		if got := res.FieldDescriptions[0].Name; got != s {
			r.Fatalf("the name %q became %q", s, got)
		}
		if got := string(res.Rows[0][0]); got != s {
			r.Fatalf("the text %q became %q", s, got)
		}
	})
}

// psqlCommand runs what a person pastes into a terminal.
func psqlCommand(t *testing.T, b *bed) {
	for _, e := range []access.Entitlement{readShop, entitlement("read_only", "schema", hostile, hostile)} {
		l := at(t, b.target())
		l.Grant(t, e)
		c := l.Credential(t)
		shell := exec.Command("sh", "-c", c.Command+" -XAtc 'SELECT current_user'")
		shell.Env = []string{"PATH=" + b.Bin.Dir + ":/usr/bin:/bin", "PGPASSWORD=" + c.Password.Reveal()}
		out, err := shell.CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != c.Username {
			t.Errorf("%s: %v\n%s", c.Command, err, out)
		}
		l.Revoke(t, e)
	}
}

func manyTables(t *testing.T, b *bed) {
	const n = 3000
	b.exec(t, "postgres", "CREATE DATABASE big OWNER app_owner")
	b.exec(t, "big", "SET ROLE app_owner", "CREATE SCHEMA many",
		"DO $$ BEGIN FOR i IN 1.."+strconv.Itoa(n/2)+" LOOP EXECUTE format('CREATE TABLE many.t%s ()', i); END LOOP; END $$",
		"DO $$ BEGIN FOR i IN "+strconv.Itoa(n/2+1)+".."+strconv.Itoa(n)+" LOOP EXECUTE format('CREATE TABLE many.t%s ()', i); END LOOP; END $$", "RESET ROLE")
	defer func() {
		b.conns["big"].Close(context.Background())
		b.exec(t, "postgres", "DROP DATABASE big WITH (FORCE)")
	}()
	l := at(t, b.target())
	e := entitlement("read_write", "schema", "big", "many")
	begun := time.Now()
	res := l.Grant(t, e)
	t.Logf("granting on %d tables took %s", n, time.Since(begun))
	if !says(res.Entries[0].Facts, strconv.Itoa(n)+" of "+strconv.Itoa(n)) {
		t.Errorf("facts: %v", res.Entries[0].Facts)
	}
	begun = time.Now()
	found, _ := certificationtest.Catalog(t, l.Integration)
	t.Logf("discovering %d resources took %s", len(found), time.Since(begun))
	if len(found) < n {
		t.Errorf("%d resources", len(found))
	}
	l.Revoke(t, e)
}

// punctuation gives the connector a password of all that ASCII has beside
// letters and digits, and then another one, by itself.
func punctuation(t *testing.T, b *bed) {
	const every = integrations.Secret("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ ")
	with := func(password integrations.Secret) *certificationtest.Holder {
		return at(t, b.target(func(_ *postgresql.Config, s *postgresql.Secret) { s.Password = password }))
	}
	defer b.exec(t, "postgres", "ALTER ROLE lapse PASSWORD '"+connectorPass+"'")
	b.exec(t, "postgres", "ALTER ROLE lapse PASSWORD '"+strings.ReplaceAll(every.Reveal(), "'", "''")+"'")
	l := with(every)
	l.Grant(t, readShop)
	l.Revoke(t, readShop)
	next, err := l.Integration.(integrations.SecretRotator).NextSecret()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Integration.(integrations.SecretRotator).RotateSecret(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if _, err := with(every).TryGrant(t, readShop); access.KindOf(err) != access.Auth {
		t.Errorf("with the password of before: %v", err)
	}
	l = with(next.(*postgresql.Secret).Password)
	l.Grant(t, readShop)
	l.Revoke(t, readShop)
}

// crowd has 16 people come and go on one schema by three processes.
func crowd(t *testing.T, b *bed) {
	rounds := 50
	if b.Bin.Major < slices.Max(versions) || testing.Short() {
		rounds = 5
	}
	o := &observer{b}
	for _, l := range certificationtest.Crowd(t, postgresql.Kind(), b.target(), rounds,
		readShop, entitlement("read_write", "schema", "shop", "public"), entitlement("admin", "schema", "shop", "public")) {
		roles := value[int64](t, b, "postgres", "SELECT count(*) FROM pg_auth_members WHERE member = $1::regrole", l.Account.Name)
		if int(roles) != len(l.Holds) {
			t.Errorf("%s is in %d roles, want those of %v", l.Account.Name, roles, l.Holds)
		}
		for _, last := range l.Holds {
			if !o.Can(t, l.Account, last) {
				t.Errorf("%s cannot use %s", l.Account.Name, last)
			}
			l.Revoke(t, last)
		}
	}
}
