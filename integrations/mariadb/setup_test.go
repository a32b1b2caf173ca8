package mariadb_test

import (
	"database/sql"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/mariadb"
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
	report, err := start(t, target).Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	items := map[string]access.CheckItem{}
	for _, item := range report.Items {
		items[item.Name] = item
	}
	return items
}

// TestTiers runs the script of each tier on an empty server: Check misses just
// what the tier leaves out, and what the tier is for works.
func TestTiers(t *testing.T) {
	t.Parallel()
	d, err := describe.New(mariadb.Kind(), setupOptions)
	if err != nil {
		t.Fatal(err)
	}
	whole := d.Setup[len(d.Setup)-1].Operations
	for _, bin := range versions(t) {
		for _, tier := range d.Setup {
			t.Run(bin.Series()+"/"+tier.Name, func(t *testing.T) {
				t.Parallel()
				b := newCustomer(t, bin, tier.Name)
				var missing []string
				for _, item := range b.check(t) {
					if item.OK {
						continue
					}
					missing = append(missing, item.Operation)
					if slices.Contains(tier.Operations, item.Operation) {
						t.Errorf("check misses what the tier should give: %+v", item)
					}
				}
				for _, operation := range whole {
					if !slices.Contains(tier.Operations, operation) && !slices.Contains(missing, operation) {
						t.Errorf("check does not say that %s will not work", operation)
					}
				}
				b.discovers(t)
				b.grants(t, slices.Contains(tier.Operations, "grant"), slices.Contains(tier.Operations, "end_sessions"))
			})
		}
	}
}

func (b *bed) discovers(t *testing.T) {
	t.Helper()
	found, warnings := catalog(t, start(t, b.target()))
	for _, e := range []access.Entitlement{readShop, writeTable, adminVault, analytics} {
		if !slices.Contains(found[e.Resource.String()].Permissions, e.Permission) {
			t.Errorf("%s is not in the catalog", e)
		}
	}
	if len(warnings) > 0 {
		t.Errorf("warnings: %v", warnings)
	}
}

// grants goes through the life of an account, and wants a refusal where the
// tier does not reach.
func (b *bed) grants(t *testing.T, may, mayEnd bool) {
	t.Helper()
	o := &observer{b}
	l := at(t, b.target())
	want := []access.Entitlement{readShop, writeTable, adminVault, analytics}
	_, err := l.tryGrant(t, want...)
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
		if !o.Can(t, l.account, e) {
			t.Errorf("after the grant of %s the person cannot use it", e)
		}
	}
	open := l.logIn(t, b)
	_, err = l.tryRevoke(t, want...)
	if mayEnd && (err != nil || open.Ping() == nil) {
		t.Errorf("revoking: %v; the session is open: %t", err, open.Ping() == nil)
	}
	if !mayEnd && (access.KindOf(err) != access.Privilege || open.Ping() != nil) {
		t.Errorf("revoking with an open session: %v, want privilege", err)
	}
	b.logOut(t, open, l.account.Name)
	for _, e := range want {
		if o.Can(t, l.account, e) {
			t.Errorf("after the revoke of %s the person can still use it", e)
		}
	}
	if res, err := l.tryRevoke(t, want...); err != nil || res.Entries[0].Outcome == access.Lowered {
		t.Errorf("revoking without an open session: %+v, %v", res, err)
	}
	l.Integration, l.held = start(t, b.target(func(c *mariadb.Config, _ *mariadb.Secret) { c.TerminateSessions = "never" })), nil
	l.grant(t, readShop)
	open = l.logIn(t, b)
	if entry := l.revoke(t, readShop); entry.Outcome != access.Gone || open.Ping() != nil {
		t.Errorf("revoking with terminate_sessions: never: %+v; the session is open: %t", entry, open.Ping() == nil)
	}
	b.logOut(t, open, l.account.Name)
	if res := l.delete(t); res.Outcome != access.Gone {
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
	name string
	line string // of the script
	undo string
	item string // of the check
	// remedy is what the check says, and mends it.
	remedy string
	// try makes ready and returns what needs the right.
	try func(*testing.T, *bed) func() error
}

var rights = []without{
	{name: "the connector's role", line: "GRANT `lapse_admin` TO `lapse`@`%`;", undo: "REVOKE lapse_admin FROM lapse",
		item: "role of the connector", remedy: "GRANT `lapse_admin` TO `lapse`@`%`", try: granting(readShop)},
	{name: "reading accounts", line: "GRANT SELECT ON `mysql`.* TO `lapse_admin`;", undo: "REVOKE SELECT ON mysql.* FROM lapse_admin",
		item: "read accounts", remedy: "GRANT SELECT ON `mysql`.* TO `lapse_admin`", try: granting(readShop)},
	{name: "making accounts", line: "GRANT CREATE USER ON *.* TO `lapse_admin`;", undo: "REVOKE CREATE USER ON *.* FROM lapse_admin",
		item: "make accounts", remedy: "GRANT CREATE USER ON *.* TO `lapse_admin`", try: granting(readShop)},
	{name: "setting default roles", line: "GRANT UPDATE ON `mysql`.* TO `lapse_admin`;", undo: "REVOKE UPDATE ON mysql.* FROM lapse_admin",
		item: "set default roles", remedy: "GRANT UPDATE ON `mysql`.* TO `lapse_admin`", try: granting(readShop)},
	{name: "seeing sessions", line: "GRANT PROCESS ON *.* TO `lapse_admin`;", undo: "REVOKE PROCESS ON *.* FROM lapse_admin",
		item: "see sessions", remedy: "GRANT PROCESS ON *.* TO `lapse_admin`", try: endingSessions},
	{name: "ending sessions", line: "GRANT CONNECTION ADMIN ON *.* TO `lapse_admin`;", undo: "REVOKE CONNECTION ADMIN ON *.* FROM lapse_admin",
		item: "end sessions", remedy: "GRANT CONNECTION ADMIN ON *.* TO `lapse_admin`", try: endingSessions},
	{name: "seeing definers", line: "GRANT SHOW VIEW, TRIGGER, EVENT ON *.* TO `lapse_admin`;", undo: "REVOKE TRIGGER ON *.* FROM lapse_admin",
		item: "see definers", remedy: "GRANT SHOW VIEW, TRIGGER, EVENT ON *.* TO `lapse_admin`", try: deleting},
	{name: "giving what a database has", line: onDatabase("vault") + ";", undo: "REVOKE ALL PRIVILEGES ON vault.* FROM lapse_admin",
		item: "databases", remedy: onDatabase("vault"), try: granting(adminVault)},
	{name: "giving what the other database has", line: onDatabase("shop") + ";", undo: "REVOKE ALL PRIVILEGES ON shop.* FROM lapse_admin",
		item: "databases", remedy: onDatabase("shop"), try: granting(writeTable)},
	{name: "giving a role", line: "GRANT `analytics` TO `lapse_admin` WITH ADMIN OPTION;", undo: "REVOKE ADMIN OPTION FOR analytics FROM lapse_admin",
		item: "roles of the customer", remedy: "GRANT `analytics` TO `lapse_admin` WITH ADMIN OPTION", try: granting(analytics)},
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
		if !strings.HasPrefix(line, "CREATE ") && !slices.ContainsFunc(rights, func(r without) bool { return r.line == line+";" }) {
			t.Errorf("nobody tries what happens without %s", line)
		}
	}
	for _, bin := range versions(t) {
		t.Run(bin.Series(), func(t *testing.T) {
			t.Parallel()
			b := newCustomer(t, bin, "full")
			for _, right := range rights {
				t.Run(right.name, func(t *testing.T) {
					attempt := right.try(t, b)
					b.exec(t, right.undo)
					item, err := b.check(t)[right.item], attempt()
					if item.OK || item.Remedy != right.remedy {
						t.Errorf("check says %+v, want the remedy %s", item, right.remedy)
					}
					if access.KindOf(err) != access.Privilege {
						t.Errorf("without the right: %v, want privilege", err)
					}
					b.exec(t, right.remedy)
					if item, found := b.check(t)[right.item]; found && !item.OK {
						t.Errorf("after the remedy check says %+v", item)
					}
					if err := attempt(); err != nil {
						t.Errorf("after the remedy: %v", err)
					}
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
			_, err := l.tryGrant(t, e)
			return err
		}
	}
}

// endingSessions revokes while a session is open.
func endingSessions(t *testing.T, b *bed) func() error {
	l := at(t, b.target())
	l.grant(t, readShop)
	l.logIn(t, b)
	return func() error {
		_, err := l.tryRevoke(t, readShop)
		return err
	}
}

// deleting deletes an account that holds nothing.
func deleting(t *testing.T, b *bed) func() error {
	l := at(t, b.target())
	l.grant(t, readShop)
	l.revoke(t, readShop)
	return func() error {
		l.sequence++
		_, err := l.DeleteAccount(t.Context(), integrations.DeleteRequest{Account: l.account, Sequence: l.sequence})
		return err
	}
}
