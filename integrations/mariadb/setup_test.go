package mariadb_test

import (
	"database/sql"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations/mariadb"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/describe"
	"github.com/lapse-access/lapse/internal/localmysql"
)

var (
	adminVault = entitlement("admin", "database", "vault")
	writeTable = entitlement("read_write", "table", "shop", "orders")
)

// newCustomer starts a server with what the setup is about, and a connector of a
// tier: two databases that people may ask for, one that they may not, and a role to
// hand out.
func newCustomer(t *testing.T, bin localmysql.Binaries, tier string) *bed {
	t.Helper()
	b := startBed(t, bin)
	for database, table := range map[string]string{"shop": "orders", "vault": "bars", "hr": "analytics"} {
		b.exec(t, "CREATE DATABASE "+database, "CREATE TABLE "+database+"."+table+" (id INT AUTO_INCREMENT PRIMARY KEY)")
	}
	b.exec(t, "CREATE ROLE analytics", "GRANT SELECT ON hr.analytics TO analytics")
	b.setUp(t, tier, setupOptions)
	return b
}

var setupOptions = describe.Options{"databases": {"shop", "vault"}, "roles": {"analytics"}}

// check is what Check says of the bed's connector, by the names of the items.
func (b *bed) check(t *testing.T) map[string]access.CheckItem {
	t.Helper()
	target := b.target(func(c *mariadb.Config, _ *mariadb.Secret) { c.Exclude = []string{"database:hr"} })
	return certificationtest.Check(t, start(t, target))
}

// TestTiers runs the script of each tier on an empty server: Check misses just
// what the tier leaves out, and what the tier is for works.
func TestTiers(t *testing.T) {
	t.Parallel()
	d, err := describe.New(mariadb.Kind(), setupOptions)
	if err != nil {
		t.Fatal(err)
	}
	for _, bin := range versions(t) {
		for _, tier := range d.Setup {
			t.Run(bin.Series()+"/"+tier.Name, func(t *testing.T) {
				t.Parallel()
				b := newCustomer(t, bin, tier.Name)
				certificationtest.Misses(t, b.check(t), tier, d.Setup[len(d.Setup)-1])
				certificationtest.Offers(t, start(t, b.target()), readShop, writeTable, adminVault, analytics)
				b.grants(t, slices.Contains(tier.Operations, "grant"), slices.Contains(tier.Operations, "end_sessions"))
			})
		}
	}
}

// grants goes through the life of an account, and wants a refusal where the
// tier does not reach.
func (b *bed) grants(t *testing.T, may, mayEnd bool) {
	t.Helper()
	o := &observer{b}
	l := at(t, b.target())
	want := []access.Entitlement{readShop, writeTable, adminVault, analytics}
	_, err := l.TryGrant(t, want...)
	if !may {
		if access.KindOf(err) != access.Privilege {
			t.Errorf("granting: %v, want privilege", err)
		}
		nothingMade(t, b, l)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range want {
		if !o.Can(t, l.Account, e) {
			t.Errorf("after the grant of %s the person cannot use it", e)
		}
	}
	open := b.logIn(t, l.Credential(t))
	_, err = l.TryRevoke(t, want...)
	if mayEnd && (err != nil || open.Ping() == nil) {
		t.Errorf("revoking: %v; the session is open: %t", err, open.Ping() == nil)
	}
	if !mayEnd && (access.KindOf(err) != access.Privilege || open.Ping() != nil) {
		t.Errorf("revoking with an open session: %v, want privilege", err)
	}
	b.logOut(t, open, l.Account.Name)
	for _, e := range want {
		if o.Can(t, l.Account, e) {
			t.Errorf("after the revoke of %s the person can still use it", e)
		}
	}
	if res, err := l.TryRevoke(t, want...); err != nil || res.Entries[0].Outcome == access.Lowered {
		t.Errorf("revoking without an open session: %+v, %v", res, err)
	}
	l.Integration, l.Holds = start(t, b.target(func(c *mariadb.Config, _ *mariadb.Secret) { c.TerminateSessions = "never" })), nil
	l.Grant(t, readShop)
	open = b.logIn(t, l.Credential(t))
	if entry := l.Revoke(t, readShop); entry.Outcome != access.Gone || open.Ping() != nil {
		t.Errorf("revoking with terminate_sessions: never: %+v; the session is open: %t", entry, open.Ping() == nil)
	}
	b.logOut(t, open, l.Account.Name)
	if res := l.Delete(t); res.Outcome != access.Gone {
		t.Errorf("deleting: %+v", res)
	}
}

// logOut closes a session and waits until the server knows.
func (b *bed) logOut(t *testing.T, open *sql.DB, name string) {
	t.Helper()
	open.Close()
	for deadline := time.Now().Add(10 * time.Second); b.exists(t, "SELECT 1 FROM information_schema.PROCESSLIST WHERE USER = ?", name); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the session of %s does not end", name)
		}
	}
}

// without is a right of the tier full, taken away.
type without struct {
	certificationtest.Right
	// try makes ready and returns what needs the right.
	try func(*testing.T, *bed) func() error
}

var rights = []without{
	{Right: certificationtest.Right{Name: "the connector's role", Line: "GRANT `lapse_admin` TO `lapse`@`%`;", Undo: "REVOKE lapse_admin FROM lapse",
		Item: "role of the connector", Remedy: "GRANT `lapse_admin` TO `lapse`@`%`"}, try: granting(readShop)},
	{Right: certificationtest.Right{Name: "reading accounts", Line: "GRANT SELECT ON `mysql`.* TO `lapse_admin`;", Undo: "REVOKE SELECT ON mysql.* FROM lapse_admin",
		Item: "read accounts", Remedy: "GRANT SELECT ON `mysql`.* TO `lapse_admin`"}, try: granting(readShop)},
	{Right: certificationtest.Right{Name: "making accounts", Line: "GRANT CREATE USER ON *.* TO `lapse_admin`;", Undo: "REVOKE CREATE USER ON *.* FROM lapse_admin",
		Item: "make accounts", Remedy: "GRANT CREATE USER ON *.* TO `lapse_admin`"}, try: granting(readShop)},
	{Right: certificationtest.Right{Name: "setting default roles", Line: "GRANT UPDATE ON `mysql`.* TO `lapse_admin`;", Undo: "REVOKE UPDATE ON mysql.* FROM lapse_admin",
		Item: "set default roles", Remedy: "GRANT UPDATE ON `mysql`.* TO `lapse_admin`"}, try: granting(readShop)},
	{Right: certificationtest.Right{Name: "seeing sessions", Line: "GRANT PROCESS ON *.* TO `lapse_admin`;", Undo: "REVOKE PROCESS ON *.* FROM lapse_admin",
		Item: "see sessions", Remedy: "GRANT PROCESS ON *.* TO `lapse_admin`"}, try: endingSessions},
	{Right: certificationtest.Right{Name: "ending sessions", Line: "GRANT CONNECTION ADMIN ON *.* TO `lapse_admin`;", Undo: "REVOKE CONNECTION ADMIN ON *.* FROM lapse_admin",
		Item: "end sessions", Remedy: "GRANT CONNECTION ADMIN ON *.* TO `lapse_admin`"}, try: endingSessions},
	{Right: certificationtest.Right{Name: "seeing definers", Line: "GRANT SHOW VIEW, TRIGGER, EVENT ON *.* TO `lapse_admin`;", Undo: "REVOKE TRIGGER ON *.* FROM lapse_admin",
		Item: "see definers", Remedy: "GRANT SHOW VIEW, TRIGGER, EVENT ON *.* TO `lapse_admin`"}, try: deleting},
	{Right: certificationtest.Right{Name: "giving what a database has", Line: onDatabase("vault") + ";", Undo: "REVOKE ALL PRIVILEGES ON vault.* FROM lapse_admin",
		Item: "databases", Remedy: onDatabase("vault")}, try: granting(adminVault)},
	{Right: certificationtest.Right{Name: "giving what the other database has", Line: onDatabase("shop") + ";", Undo: "REVOKE ALL PRIVILEGES ON shop.* FROM lapse_admin",
		Item: "databases", Remedy: onDatabase("shop")}, try: granting(writeTable)},
	{Right: certificationtest.Right{Name: "giving a role", Line: "GRANT `analytics` TO `lapse_admin` WITH ADMIN OPTION;", Undo: "REVOKE ADMIN OPTION FOR analytics FROM lapse_admin",
		Item: "roles of the customer", Remedy: "GRANT `analytics` TO `lapse_admin` WITH ADMIN OPTION"}, try: granting(analytics)},
}

func onDatabase(name string) string {
	return "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, SHOW VIEW, CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE, REFERENCES, CREATE VIEW, " +
		"CREATE ROUTINE, ALTER ROUTINE ON `" + name + "`.* TO `lapse_admin` WITH GRANT OPTION"
}

// TestRights takes each right of the tier full away: Check names it with the
// statement that mends it, the operation that needs it is refused with the kind
// privilege, and works after that statement.
func TestRights(t *testing.T) {
	t.Parallel()
	d, err := describe.New(mariadb.Kind(), setupOptions)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range statements(d.Setup[len(d.Setup)-1].Script) {
		// The account and its role themselves are tried by taking one from the other.
		if !strings.HasPrefix(line, "CREATE ") && !slices.ContainsFunc(rights, func(r without) bool { return r.Line == line+";" }) {
			t.Errorf("nobody tries what happens without %s", line)
		}
	}
	for _, bin := range versions(t) {
		t.Run(bin.Series(), func(t *testing.T) {
			t.Parallel()
			b := newCustomer(t, bin, "full")
			for _, right := range rights {
				t.Run(right.Name, func(t *testing.T) {
					right.Lack(t, func(statement string) { b.exec(t, statement) }, func() map[string]access.CheckItem { return b.check(t) }, right.try(t, b))
				})
			}
			t.Run("logging in", func(t *testing.T) {
				b.exec(t, "ALTER USER lapse ACCOUNT LOCK")
				if item := b.check(t)["connect"]; item.OK || item.Detail == "" {
					t.Errorf("check says %+v", item)
				}
				if err := granting(readShop)(t, b)(); access.KindOf(err) != access.Auth {
					t.Errorf("without the right: %v, want auth", err)
				}
			})
		})
	}
}

// granting grants an entitlement to somebody new.
func granting(e access.Entitlement) func(*testing.T, *bed) func() error {
	return func(t *testing.T, b *bed) func() error {
		l := at(t, b.target())
		return func() error {
			_, err := l.TryGrant(t, e)
			return err
		}
	}
}

// endingSessions revokes while a session is open.
func endingSessions(t *testing.T, b *bed) func() error {
	l := at(t, b.target())
	l.Grant(t, readShop)
	b.logIn(t, l.Credential(t))
	return func() error {
		_, err := l.TryRevoke(t, readShop)
		return err
	}
}

// deleting deletes an account that holds nothing.
func deleting(t *testing.T, b *bed) func() error {
	l := at(t, b.target())
	l.Grant(t, readShop)
	l.Revoke(t, readShop)
	return func() error {
		_, err := l.TryDelete(t)
		return err
	}
}
