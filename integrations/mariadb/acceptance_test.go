package mariadb_test

import (
	"context"
	"database/sql"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/mariadb"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/localmysql"
	"github.com/lapse-access/lapse/internal/localmysql/localmysqltest"
	"github.com/lapse-access/lapse/internal/localserver/localservertest"
	"github.com/lapse-access/lapse/internal/principal"
)

// TestServer is what only MariaDB has, beside the suite.
func TestServer(t *testing.T) {
	t.Parallel()
	for _, bin := range versions(t) {
		t.Run(bin.Series(), func(t *testing.T) {
			t.Parallel()
			b := newBed(t, bin)
			for _, test := range []struct {
				name string
				run  func(*testing.T, *bed)
			}{
				{"two entitlements work in one login without SET ROLE", twoAtOnce},
				{"the revoke of one keeps the other in a new session", oneOfTwo},
				{"a session in the database is gone after the revoke", sessionInDatabase},
				{"a session with a global privilege is gone after the revoke", sessionWithGlobal},
				{"a person cannot set the role of an entitlement", noSetRole},
				{"another connector with the role goes on", anotherConnector},
				{"a role that the connector does not administer", notAdministered},
				{"without UPDATE on mysql nothing is begun", noDefaultRoles},
				{"a database that was dropped since discovery", droppedDatabase},
				{"a_b never opens axb", wildcards},
				{"the definer of a trigger is kept locked and inserts go on", triggerDefiner},
				{"names of every sort", names},
				{"eight workers on one database", workers},
				{"an umbrella that was dropped by hand is made again", umbrellaDropped},
				{"a second revoke is a success", revokedTwice},
				{"rotation keeps sessions and refuses the old password", rotation},
				{"the list has locked accounts and no strangers", listing},

				{"a client that reconnects in a loop stays out after the revoke", reconnecting},
				{"triggers of the umbrella go on after the revoke", umbrellaTrigger},
				{"a connector's password with every punctuation mark", punctuation},
				{"the connector's password is changed", connectorSecret},
				{"roles with powers over the server are refused", powers},
				{"maintenance drops what nobody has, and gives what is missing", maintenance},
				{"a name that a host pattern would shadow is taken", shadowed},
				{"two integrations on one server do not see each other", twoIntegrations},
				{"access in another way is a fact of the revoke", otherWays},
				{"a grant by hand of Lapse's role is drift", ourRoleByHand},
				{"a new account begins with an empty umbrella", emptyUmbrella},
				{"a revoke survives the loss of role, database and account", everythingGone},
				{"discovery is cut to what can be given, and warns", discovery},
				{"every tls_mode connects, or says why not", tlsModes},
				{"sql_mode of the server changes nothing", sqlModes},
				{"passwords are not in the log of the server", passwordsInLog},
				{"the command works as it stands", command},
			} {
				t.Run(test.name, func(t *testing.T) { test.run(t, b) })
			}
		})
	}
}

func start(t *testing.T, target integrations.Target) integrations.Integration {
	t.Helper()
	return certificationtest.Start(t, mariadb.Kind(), target)
}

// at makes an account of somebody new on an integration.
func at(t *testing.T, target integrations.Target) *certificationtest.Holder {
	t.Helper()
	return certificationtest.At(t, mariadb.Kind(), target)
}

func says(facts []string, part string) bool {
	return slices.ContainsFunc(facts, func(f string) bool { return strings.Contains(f, part) })
}

func (b *bed) logIn(t *testing.T, c integrations.Credential) *sql.DB {
	t.Helper()
	conn, err := b.login(c.Username, c.Password.Reveal(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func can(t *testing.T, conn *sql.DB, statement string, want bool) {
	t.Helper()
	if _, err := conn.Exec(statement); (err == nil) != want {
		t.Errorf("%s: %v, want it to work: %t", statement, err, want)
	}
}

var (
	readShop  = entitlement("read_only", "database", "shop")
	writeShop = entitlement("read_write", "database", "shop")
	writeLake = entitlement("read_write", "database", "lake")
	analytics = entitlement("member", "role", "analytics")
)

func umbrellaOf(account string) string { return "lapse_u_" + strings.TrimPrefix(account, "lapse_") }

func twoAtOnce(t *testing.T, b *bed) {
	for _, order := range [][]access.Entitlement{{readShop, writeLake, analytics}, {analytics, writeLake, readShop}} {
		l := at(t, b.target())
		for _, e := range order {
			l.Grant(t, e)
		}
		conn := b.logIn(t, l.Credential(t))
		var role string
		if err := conn.QueryRow("SELECT CURRENT_ROLE()").Scan(&role); err != nil || role != umbrellaOf(l.Account.Name) {
			t.Errorf("the active role is %s, %v", role, err)
		}
		can(t, conn, "SELECT * FROM shop.orders JOIN hr.analytics", true)
		can(t, conn, "INSERT INTO lake.events VALUES ()", true)
		can(t, conn, "INSERT INTO shop.orders VALUES ()", false)
		l.Revoke(t, order...)
	}
}

func oneOfTwo(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, readShop, writeShop)
	c := l.Credential(t)
	if entry := l.Revoke(t, writeShop); entry.Outcome != access.Gone || !says(entry.Facts, "still has SELECT") {
		t.Errorf("%+v", entry)
	}
	conn := b.logIn(t, c)
	can(t, conn, "SELECT * FROM shop.orders", true)
	can(t, conn, "INSERT INTO shop.orders VALUES ()", false)
	l.Revoke(t, readShop)
}

// sessionInDatabase also shows what a session would keep if it were not ended.
func sessionInDatabase(t *testing.T, b *bed) {
	for _, keep := range []bool{true, false} {
		l := at(t, b.target(func(c *mariadb.Config, _ *mariadb.Secret) {
			if keep {
				c.TerminateSessions = "never"
			}
		}))
		l.Grant(t, writeShop)
		conn := b.logIn(t, l.Credential(t))
		can(t, conn, "USE shop", true)
		can(t, conn, "INSERT INTO orders VALUES ()", true)
		l.Revoke(t, writeShop)
		can(t, conn, "INSERT INTO orders VALUES ()", keep)
	}
}

func sessionWithGlobal(t *testing.T, b *bed) {
	b.exec(t, "CREATE ROLE IF NOT EXISTS readers", "GRANT SELECT ON *.* TO readers", "GRANT readers TO lapse_admin WITH ADMIN OPTION")
	for _, keep := range []bool{true, false} {
		l := at(t, b.target(func(c *mariadb.Config, _ *mariadb.Secret) {
			c.AllowRoles = []string{"readers"}
			if keep {
				c.TerminateSessions = "never"
			}
		}))
		l.Grant(t, entitlement("member", "role", "readers"))
		conn := b.logIn(t, l.Credential(t))
		can(t, conn, "SELECT * FROM hr.analytics", true)
		l.Revoke(t, entitlement("member", "role", "readers"))
		can(t, conn, "SELECT * FROM hr.analytics", keep)
	}
}

func noSetRole(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, writeShop, analytics)
	conn := b.logIn(t, l.Credential(t))
	for _, role := range []string{principal.Role(instance, writeShop), "analytics", "lapse_admin"} {
		can(t, conn, "SET ROLE "+quote(role), false)
	}
	can(t, conn, "SET ROLE NONE", true)
	can(t, conn, "SELECT * FROM shop.orders", false)
	l.Revoke(t, writeShop, analytics)
}

// anotherConnector loses the account that made everything.
func anotherConnector(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, writeShop)
	other := at(t, b.target())
	other.Grant(t, writeShop)
	b.exec(t, "CREATE USER second IDENTIFIED BY '"+connectorPass+"'", "GRANT lapse_admin TO second", "DROP USER lapse")
	defer b.exec(t, "CREATE USER lapse IDENTIFIED BY '"+connectorPass+"'", "GRANT lapse_admin TO lapse", "DROP USER second")
	l.Integration = start(t, b.target(func(_ *mariadb.Config, s *mariadb.Secret) { s.Username = "second" }))
	report, err := l.Check(t.Context())
	if err != nil || slices.ContainsFunc(report.Items, func(i access.CheckItem) bool { return !i.OK && !i.Optional }) {
		t.Errorf("%+v, %v", report.Items, err)
	}
	if entry := l.Revoke(t, writeShop); entry.Outcome != access.Gone {
		t.Errorf("%+v", entry)
	}
	l.Grant(t, writeShop, writeLake)
	conn := b.logIn(t, l.Credential(t))
	can(t, conn, "INSERT INTO shop.orders VALUES ()", true)
	l.Revoke(t, writeShop, writeLake)
	if res := l.Delete(t); res.Outcome != access.Gone {
		t.Errorf("%+v", res)
	}
	other.Integration = l.Integration
	other.Revoke(t, writeShop)
}

func notAdministered(t *testing.T, b *bed) {
	b.exec(t, "CREATE ROLE guarded", "GRANT SELECT ON hr.* TO guarded")
	guarded := entitlement("member", "role", "guarded")
	l := at(t, b.target())
	if found, _ := certificationtest.Catalog(t, l.Integration); found[guarded.Resource.String()].Permissions != nil {
		t.Error("the catalog offers the role")
	}
	report, err := l.Check(t.Context())
	i := slices.IndexFunc(report.Items, func(i access.CheckItem) bool { return i.Name == "roles of the customer" })
	if err != nil || report.Items[i].OK || !strings.Contains(report.Items[i].Detail, "guarded") || report.Items[i].Remedy != "GRANT `guarded` TO `lapse_admin` WITH ADMIN OPTION" {
		t.Errorf("%+v, %v", report.Items, err)
	}
	if _, err := l.TryGrant(t, readShop, guarded); access.KindOf(err) != access.Privilege {
		t.Errorf("%v, want privilege", err)
	}
	nothingMade(t, b, l)
	b.exec(t, report.Items[i].Remedy)
	l.Grant(t, guarded)
	l.Revoke(t, guarded)
}

// nothingMade demands that a refused grant left nothing on the server.
func nothingMade(t *testing.T, b *bed, l *certificationtest.Holder) {
	t.Helper()
	name := principal.Account(instance, integration, l.Account.PersonID, l.Account.Email)
	if b.exists(t, "SELECT 1 FROM mysql.global_priv WHERE User IN (?, ?) OR User LIKE ?", name, umbrellaOf(name), `lapse\_m:%/`+l.Account.PersonID) {
		t.Errorf("the refused grant left something of %s", name)
	}
}

func noDefaultRoles(t *testing.T, b *bed) {
	b.exec(t, "REVOKE UPDATE ON mysql.* FROM lapse_admin")
	defer b.exec(t, "GRANT UPDATE ON mysql.* TO lapse_admin")
	l := at(t, b.target())
	report, err := l.Check(t.Context())
	if err != nil || !slices.ContainsFunc(report.Items, func(i access.CheckItem) bool {
		return i.Operation == "grant" && !i.OK && strings.Contains(i.Detail, "default roles cannot be set")
	}) {
		t.Errorf("%+v, %v", report.Items, err)
	}
	if _, err := l.TryGrant(t, readShop); access.KindOf(err) != access.Privilege {
		t.Errorf("%v, want privilege", err)
	}
	nothingMade(t, b, l)
}

func droppedDatabase(t *testing.T, b *bed) {
	b.exec(t, "CREATE DATABASE brief", "CREATE TABLE brief.things (id INT AUTO_INCREMENT PRIMARY KEY)",
		"GRANT SELECT, SHOW VIEW ON brief.* TO lapse_admin WITH GRANT OPTION")
	brief := entitlement("read_only", "database", "brief")
	l := at(t, b.target())
	if found, _ := certificationtest.Catalog(t, l.Integration); !slices.Contains(found[brief.Resource.String()].Permissions, "read_only") {
		t.Error("brief is not in the catalog")
	}
	other := at(t, b.target())
	other.Grant(t, brief)
	b.exec(t, "DROP DATABASE brief")
	if _, err := l.TryGrant(t, brief); access.KindOf(err) != access.ResourceMissing {
		t.Errorf("%v, want missing", err)
	}
	nothingMade(t, b, l)

	// Somebody who had it loses it all the same, and a new database of that name
	// is not theirs.
	if entry := other.Verified(t, brief); entry.Outcome != access.Blocked {
		t.Errorf("while the database is gone: %+v", entry)
	}
	if entry := other.Revoke(t, brief); entry.Outcome != access.Gone {
		t.Errorf("%+v", entry)
	}
	b.exec(t, "CREATE DATABASE brief", "CREATE TABLE brief.things (id INT)")
	if (&observer{b}).Can(t, other.Account, brief) {
		t.Error("a former holder may read the new database")
	}
	b.exec(t, "DROP DATABASE brief")
}

func wildcards(t *testing.T, b *bed) {
	b.exec(t, "CREATE DATABASE a_b", "CREATE DATABASE axb")
	for _, database := range []string{"a_b", "axb"} {
		b.exec(t, "CREATE TABLE "+database+".t_1 (id INT AUTO_INCREMENT PRIMARY KEY)", "CREATE TABLE "+database+".tx1 (id INT)")
	}
	b.exec(t, `GRANT SELECT, INSERT, UPDATE, DELETE, SHOW VIEW ON `+"`a\\_b`"+`.* TO lapse_admin WITH GRANT OPTION`)
	l := at(t, b.target())
	l.Grant(t, entitlement("read_only", "database", "a_b"))
	conn := b.logIn(t, l.Credential(t))
	can(t, conn, "SELECT * FROM a_b.t_1", true)
	can(t, conn, "SELECT * FROM axb.t_1", false)
	can(t, conn, "INSERT INTO a_b.t_1 VALUES ()", false)
	l.Revoke(t, entitlement("read_only", "database", "a_b"))

	table := entitlement("read_write", "table", "a_b", "t_1")
	l.Grant(t, table)
	conn = b.logIn(t, l.Credential(t))
	can(t, conn, "INSERT INTO a_b.t_1 VALUES ()", true)
	can(t, conn, "SELECT * FROM a_b.tx1", false)
	l.Revoke(t, table)
	if _, err := l.TryGrant(t, entitlement("read_only", "database", "axb")); access.KindOf(err) != access.Privilege {
		t.Errorf("the connector's own right on a_b was taken for one on axb: %v", err)
	}
	b.exec(t, "DROP DATABASE a_b", "DROP DATABASE axb")
}

func triggerDefiner(t *testing.T, b *bed) {
	o := &observer{b}
	l := at(t, b.target())
	l.Grant(t, readShop)
	o.Own(t, l.Account)
	l.Revoke(t, readShop)
	b.exec(t, "INSERT INTO kept.things (thing) VALUES (0)")
	res := l.Delete(t)
	if res.Outcome != access.KeptDisabled || !says(res.Owns, "trigger kept.set_at") || !says(res.Owns, "view kept.seen") {
		t.Errorf("%+v", res)
	}
	b.exec(t, "INSERT INTO kept.things (thing) VALUES (0)")
	if !o.Kept(t, l.Account) {
		t.Error("what the account defined does not work any more")
	}
	// The person comes back, under another name.
	old := l.Account.Name
	l.Account.Name = ""
	l.Grant(t, readShop)
	if l.Account.Name == old {
		t.Errorf("the person was given the old account %s again", old)
	}
	conn := b.logIn(t, l.Credential(t))
	can(t, conn, "SELECT * FROM shop.orders", true)
	can(t, conn, "SELECT * FROM kept.things", false)
	l.Revoke(t, readShop)
	if res := l.Delete(t); res.Outcome != access.Gone {
		t.Errorf("the new account: %+v", res)
	}
	// Once nothing needs it any more it goes as well.
	if res := l.Delete(t); res.Outcome != access.KeptDisabled {
		t.Errorf("while it is the definer: %+v", res)
	}
	b.exec(t, "DROP DATABASE kept")
	for _, want := range []access.Outcome{access.Gone, access.WasGone} {
		if res := l.Delete(t); res.Outcome != want {
			t.Errorf("without what it defined: %+v, want %s", res, want)
		}
	}
	if b.exists(t, "SELECT 1 FROM mysql.global_priv WHERE User = ? OR User LIKE ?", old, `lapse\_t:%/`+l.Account.PersonID) {
		t.Errorf("%s is still there", old)
	}
}

func names(t *testing.T, b *bed) {
	for _, name := range []string{`it's "quoted"`, `back\slash`, "tick`tick", "роль", strings.Repeat("r", 80), strings.Repeat("R", 128), "lower", "LOWER"} {
		b.exec(t, "CREATE ROLE "+quote(name), "GRANT SELECT ON shop.* TO "+quote(name), "GRANT "+quote(name)+" TO lapse_admin WITH ADMIN OPTION")
		e := entitlement("member", "role", name)
		l := at(t, b.target())
		l.Grant(t, e)
		conn := b.logIn(t, l.Credential(t))
		can(t, conn, "SELECT * FROM shop.orders", true)
		if entry := l.Revoke(t, e); entry.Outcome != access.Gone {
			t.Errorf("%s: %+v", name, entry)
		}
		b.exec(t, "DROP ROLE "+quote(name))
	}
	l := at(t, b.target())
	if _, err := l.TryGrant(t, entitlement("member", "role", strings.Repeat("r", 129))); access.KindOf(err) != access.Invalid {
		t.Errorf("a name that is too long: %v", err)
	}
}

// workers is acceptance check 13, with half of the entitlements on one table.
func workers(t *testing.T, b *bed) {
	const people, rounds = 8, 100
	one, other := start(t, b.target()), start(t, b.target())
	table := entitlement("read_write", "table", "shop", "orders")
	all := make([]*certificationtest.Holder, people)
	var wg sync.WaitGroup
	for i := range all {
		l := &certificationtest.Holder{Integration: []integrations.Integration{one, other}[i%2], Account: someone()}
		all[i] = l
		wg.Go(func() {
			for round := range rounds / 2 {
				e := []access.Entitlement{readShop, table}[round%2]
				if _, err := l.TryGrant(t, e); err != nil {
					t.Errorf("round %d, granting: %v", round, err)
				}
				if _, err := l.TryRevoke(t, e); err != nil {
					t.Errorf("round %d, revoking: %v", round, err)
				}
			}
			if i%2 == 0 {
				if _, err := l.TryGrant(t, readShop); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	o := &observer{b}
	for i, l := range all {
		if got := o.Can(t, l.Account, readShop); got != (i%2 == 0) {
			t.Errorf("in the end person %d can read: %t", i, got)
		}
		if o.Can(t, l.Account, table) {
			t.Errorf("in the end person %d can write", i)
		}
		l.Revoke(t, readShop, table)
	}
}

func umbrellaDropped(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, readShop, analytics)
	b.exec(t, "DROP ROLE "+quote(umbrellaOf(l.Account.Name)))
	if entry := l.Verified(t, readShop); entry.Outcome != access.Gone {
		t.Errorf("without the umbrella: %+v", entry)
	}
	l.Grant(t, writeLake)
	conn := b.logIn(t, l.Credential(t))
	can(t, conn, "SELECT * FROM shop.orders JOIN hr.analytics", true)
	can(t, conn, "INSERT INTO lake.events VALUES ()", true)

	b.exec(t, "DROP ROLE "+quote(umbrellaOf(l.Account.Name)))
	if entry := l.Revoke(t, readShop, analytics, writeLake); entry.Outcome != access.WasGone {
		t.Errorf("revoking without the umbrella: %+v", entry)
	}
	can(t, conn, "SELECT 1", false)
	if res := l.Delete(t); res.Outcome != access.Gone {
		t.Errorf("%+v", res)
	}
}

func revokedTwice(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, readShop)
	if entry := l.Revoke(t, readShop); entry.Outcome != access.Gone || !says(entry.Facts, "locked") {
		t.Errorf("%+v", entry)
	}
	if entry := l.Revoke(t, readShop); entry.Outcome != access.WasGone {
		t.Errorf("again: %+v", entry)
	}
}

func rotation(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, readShop)
	first := l.Credential(t)
	conn := b.logIn(t, first)
	second := l.Credential(t)
	can(t, conn, "SELECT * FROM shop.orders", true)
	if (&observer{b}).CanLogin(t, first) {
		t.Error("the old password is still taken")
	}
	third, err := l.TryCredential(t, true)
	if err != nil {
		t.Fatal(err)
	}
	can(t, conn, "SELECT * FROM shop.orders", false)
	if (&observer{b}).CanLogin(t, second) {
		t.Error("the old password is still taken")
	}
	can(t, b.logIn(t, third), "SELECT * FROM shop.orders", true)
	l.Revoke(t, readShop)
}

func listing(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, readShop, analytics)
	b.exec(t, "CREATE USER lapse_stranger_3f9a1c77", "CREATE USER lapse_other_3f9a1c77", "CREATE ROLE `lapse_m:other-lapse/"+integration+"/p-1`",
		"GRANT `lapse_m:other-lapse/"+integration+"/p-1` TO lapse_other_3f9a1c77")
	find := func() (mine *access.Principal) {
		for cursor := ""; ; {
			page, err := l.Accounts(t.Context(), cursor)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range page.Principals {
				switch p.Name {
				case "lapse_stranger_3f9a1c77", "lapse_other_3f9a1c77":
					t.Errorf("%s is listed as ours", p.Name)
				case l.Account.Name:
					mine = &p
				}
			}
			if cursor = page.Next; cursor == "" {
				return mine
			}
		}
	}
	if p := find(); p == nil || !p.Enabled || p.AccountID != l.Account.ID || len(p.Entitlements) != 2 || !slices.Contains(p.Entitlements, readShop) || !slices.Contains(p.Entitlements, analytics) {
		t.Errorf("%+v", p)
	}
	b.exec(t, "GRANT analytics TO "+account(l.Account.Name))
	l.Revoke(t, readShop, analytics)
	if p := find(); p == nil || p.Enabled || p.AccountID != l.Account.ID || len(p.Entitlements) != 0 || !says(p.Foreign, "analytics") {
		t.Errorf("after the revoke: %+v", p)
	}
	b.exec(t, "DROP USER lapse_stranger_3f9a1c77", "DROP USER lapse_other_3f9a1c77", "DROP ROLE `lapse_m:other-lapse/"+integration+"/p-1`")
	l.Delete(t)
}

func reconnecting(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, readShop)
	c := l.Credential(t)
	ctx, stop := context.WithCancel(t.Context())
	var mu sync.Mutex
	var done time.Time // when the revoke had ended
	var in, late int
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				begun := time.Now()
				conn, err := b.login(c.Username, c.Password.Reveal(), "")
				if err != nil {
					continue
				}
				// It is in; does it stay?
				_, err = conn.Exec("SELECT * FROM shop.orders")
				mu.Lock()
				in++
				if err == nil && !done.IsZero() && (begun.After(done) || conn.Ping() == nil) {
					late++
				}
				mu.Unlock()
				conn.Close()
			}
		})
	}
	for {
		mu.Lock()
		n := in
		mu.Unlock()
		if n > 20 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	l.Revoke(t, readShop)
	mu.Lock()
	done = time.Now()
	mu.Unlock()
	time.Sleep(500 * time.Millisecond)
	stop()
	wg.Wait()
	if late > 0 {
		t.Errorf("%d of %d logins worked after the revoke", late, in)
	}
	if b.exists(t, "SELECT 1 FROM information_schema.PROCESSLIST WHERE USER = ?", c.Username) {
		t.Error("a session is open after the revoke")
	}
}

// umbrellaTrigger lets a person make a trigger that runs as the current role, by a
// role of the customer that has TRIGGER.
func umbrellaTrigger(t *testing.T, b *bed) {
	b.exec(t, "CREATE DATABASE audited", "CREATE TABLE audited.things (id INT, at INT)", "CREATE TABLE audited.log (id INT)",
		"CREATE ROLE makers", "GRANT SELECT, INSERT, UPDATE, TRIGGER ON audited.* TO makers", "GRANT makers TO lapse_admin WITH ADMIN OPTION",
		"GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER ON audited.* TO lapse_admin WITH GRANT OPTION")
	makers := entitlement("member", "role", "makers")
	l := at(t, b.target())
	l.Grant(t, makers)
	conn := b.logIn(t, l.Credential(t))
	can(t, conn, "CREATE DEFINER = CURRENT_ROLE TRIGGER audited.logged AFTER INSERT ON audited.things FOR EACH ROW INSERT INTO audited.log VALUES (NEW.id)", true)
	b.exec(t, "INSERT INTO audited.things VALUES (1, 0)")
	old := l.Account.Name
	res, err := l.TryRevoke(t, makers)
	if err != nil || res.Entries[0].Outcome != access.Gone || !says(res.Notes, "trigger audited.logged") {
		t.Errorf("%+v, %v", res, err)
	}
	b.exec(t, "INSERT INTO audited.things VALUES (2, 0)")
	if n := value[int](t, b, "SELECT COUNT(*) FROM audited.log"); n != 2 {
		t.Errorf("the trigger ran %d times, want 2", n)
	}
	if !b.exists(t, "SELECT 1 FROM mysql.global_priv WHERE User = ? AND JSON_VALUE(Priv, '$.account_locked') = '1'", old) ||
		b.exists(t, `SELECT 1 FROM mysql.roles_mapping WHERE User = ? AND Role NOT LIKE 'lapse\_t:%'`, old) {
		t.Error("the account is not closed")
	}
	l.Account.Name = ""
	l.Grant(t, readShop)
	if l.Account.Name == old {
		t.Errorf("the person was given %s again", old)
	}
	conn = b.logIn(t, l.Credential(t))
	can(t, conn, "INSERT INTO audited.log VALUES (3)", false)
	l.Revoke(t, readShop)
	l.Delete(t)
	b.exec(t, "DROP DATABASE audited", "DROP ROLE makers")
}

func punctuation(t *testing.T, b *bed) {
	var marks strings.Builder
	for c := rune('!'); c <= '~'; c++ {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", c) {
			marks.WriteRune(c)
		}
	}
	password := marks.String() + " aA1"
	if _, err := b.root.Exec("SET PASSWORD FOR lapse = PASSWORD('" + strings.NewReplacer(`\`, `\\`, "'", "''").Replace(password) + "')"); err != nil {
		t.Fatal(err)
	}
	defer b.exec(t, "SET PASSWORD FOR lapse = PASSWORD('"+connectorPass+"')")
	l := at(t, b.target(func(_ *mariadb.Config, s *mariadb.Secret) { s.Password = integrations.Secret(password) }))
	l.Grant(t, readShop)
	l.Credential(t)
	l.Revoke(t, readShop)
}

func connectorSecret(t *testing.T, b *bed) {
	defer b.exec(t, "SET PASSWORD FOR lapse = PASSWORD('"+connectorPass+"')")
	i := start(t, b.target())
	rotator := i.(integrations.SecretRotator)
	next, err := rotator.NextSecret()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the answer to the first attempt may be lost
		if err := rotator.RotateSecret(t.Context(), next); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := i.Discover(t.Context(), ""); access.KindOf(err) != access.Auth {
		t.Errorf("with the old secret: %v, want auth", err)
	}
	l := at(t, b.target(func(_ *mariadb.Config, s *mariadb.Secret) { *s = *next.(*mariadb.Secret) }))
	l.Grant(t, readShop)
	l.Revoke(t, readShop)
}

func powers(t *testing.T, b *bed) {
	b.exec(t, "CREATE ROLE base", "GRANT CREATE USER ON *.* TO base")
	for name, grant := range map[string]string{
		"everything": "GRANT ALL PRIVILEGES ON *.* TO everything", "grants": "GRANT SELECT ON mysql.* TO grants", "pattern": "GRANT SELECT ON `my%`.* TO pattern",
		"hands_on": "GRANT SELECT ON shop.* TO hands_on WITH GRANT OPTION", "nested": "GRANT base TO nested", "gives": "GRANT analytics TO gives WITH ADMIN OPTION",
	} {
		b.exec(t, "CREATE ROLE "+name, grant, "GRANT "+name+" TO lapse_admin WITH ADMIN OPTION")
		e := entitlement("member", "role", name)
		l := at(t, b.target())
		if found, _ := certificationtest.Catalog(t, l.Integration); found[e.Resource.String()].Permissions != nil {
			t.Errorf("%s is offered", name)
		}
		_, err := l.TryGrant(t, e)
		if access.KindOf(err) != access.Invalid || !strings.Contains(err.Error(), "allow_roles") {
			t.Errorf("%s: %v, want invalid", name, err)
		}
		l = at(t, b.target(func(c *mariadb.Config, _ *mariadb.Secret) { c.AllowRoles = []string{name} }))
		l.Grant(t, e)
		l.Revoke(t, e)
		b.exec(t, "DROP ROLE "+name)
	}
	b.exec(t, "DROP ROLE base")
	for _, own := range []string{"lapse_admin", "PUBLIC", principal.Role(instance, readShop)} {
		l := at(t, b.target(func(c *mariadb.Config, _ *mariadb.Secret) { c.AllowRoles = []string{own} }))
		if _, err := l.TryGrant(t, entitlement("member", "role", own)); err == nil {
			t.Errorf("membership in %s was granted", own)
		}
	}
}

func maintenance(t *testing.T, b *bed) {
	l := at(t, b.target())
	maintainer, cleaner := l.Integration.(integrations.Maintainer), l.Integration.(integrations.Cleaner)
	l.Grant(t, readShop, writeLake)
	role := principal.Role(instance, readShop)
	b.exec(t, "REVOKE SELECT ON shop.* FROM "+quote(role))
	if entry := l.Verified(t, readShop); entry.Outcome != access.Lowered {
		t.Errorf("without SELECT: %+v", entry)
	}
	if notes, err := maintainer.Maintain(t.Context()); err != nil {
		t.Errorf("%v, %v", notes, err)
	}
	if entry := l.Verified(t, readShop); entry.Outcome != access.Granted {
		t.Errorf("after maintenance: %+v", entry)
	}
	l.Revoke(t, readShop)
	left, err := cleaner.Clean(t.Context())
	if err != nil || len(left) != 1 || !strings.Contains(left[0], principal.Role(instance, writeLake)) {
		t.Errorf("cleaning leaves %v, %v", left, err)
	}
	if b.exists(t, "SELECT 1 FROM mysql.global_priv WHERE User = ?", role) {
		t.Error("a role that nobody has is still there")
	}
	l.Revoke(t, writeLake)
	if notes, err := maintainer.Maintain(t.Context()); err != nil || !says(notes, principal.Role(instance, writeLake)) {
		t.Errorf("%v, %v", notes, err)
	}
	if n := value[int](t, b, `SELECT COUNT(*) FROM mysql.global_priv WHERE User LIKE 'lapse\_e\_%'`); n != 0 {
		t.Errorf("%d roles are left", n)
	}
}

func shadowed(t *testing.T, b *bed) {
	l := at(t, b.target())
	name := principal.Account(instance, integration, l.Account.PersonID, l.Account.Email)
	for _, other := range []string{quote(name) + "@`10.%`", quote(name) + "@localhost"} {
		b.exec(t, "CREATE USER "+other)
		if _, err := l.TryGrant(t, readShop); access.KindOf(err) != access.NameTaken {
			t.Errorf("beside %s: %v", other, err)
		}
		b.exec(t, "DROP USER "+other)
	}
	b.exec(t, "CREATE ROLE "+quote(name))
	if _, err := l.TryGrant(t, readShop); access.KindOf(err) != access.NameTaken {
		t.Errorf("beside a role: %v", err)
	}
	b.exec(t, "DROP ROLE "+quote(name))
	l.Grant(t, readShop)
	l.Revoke(t, readShop)
}

func twoIntegrations(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, readShop)
	target := b.target()
	target.ID = "maria-other"
	other := &certificationtest.Holder{Integration: start(t, target), Account: l.Account}
	other.Account.ID, other.Account.Integration, other.Account.Name = access.AccountID("maria-other", l.Account.PersonID), "maria-other", ""
	e := readShop
	e.Integration = "maria-other"
	other.Grant(t, e)
	if other.Account.Name == l.Account.Name {
		t.Errorf("both have account %s", l.Account.Name)
	}
	other.Revoke(t, e)
	if entry := l.Verified(t, readShop); entry.Outcome != access.Granted {
		t.Errorf("after a revoke by the other: %+v", entry)
	}
	page, err := other.Accounts(t.Context(), "")
	if err != nil || slices.ContainsFunc(page.Principals, func(p access.Principal) bool { return p.Name == l.Account.Name }) {
		t.Errorf("%+v, %v", page, err)
	}
	other.Delete(t)
	l.Revoke(t, readShop)
}

func otherWays(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, readShop)
	b.exec(t, "GRANT SELECT ON shop.* TO "+account(l.Account.Name))
	if entry := l.Revoke(t, readShop); entry.Outcome != access.Gone || !says(entry.Facts, "still has SELECT on database:shop") {
		t.Errorf("%+v", entry)
	}
	b.exec(t, "REVOKE SELECT ON shop.* FROM "+account(l.Account.Name))
	if b.Bin.Major > 10 || b.Bin.Minor >= 11 {
		b.exec(t, "GRANT SELECT ON shop.* TO PUBLIC")
		if entry := l.Verified(t, readShop); entry.Outcome != access.Gone || !says(entry.Facts, "PUBLIC") {
			t.Errorf("%+v", entry)
		}
		b.exec(t, "REVOKE SELECT ON shop.* FROM PUBLIC")
	}
}

func ourRoleByHand(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, readShop, writeLake)
	role := quote(principal.Role(instance, writeLake))
	// Nobody but the connector's role administers it.
	b.exec(t, "GRANT lapse_admin TO root@127.0.0.1")
	admin, err := b.root.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	for _, s := range []string{"SET ROLE lapse_admin", "GRANT " + role + " TO " + account(l.Account.Name), "SET ROLE NONE"} {
		if _, err := admin.ExecContext(t.Context(), s); err != nil {
			t.Fatal(s, err)
		}
	}
	res, err := l.TryRevoke(t, writeLake)
	if err != nil || res.Entries[0].Outcome != access.Gone || !says(res.Notes, "drift") {
		t.Errorf("%+v, %v", res, err)
	}
	if b.exists(t, "SELECT 1 FROM mysql.roles_mapping WHERE User = ? AND Role = ?", l.Account.Name, principal.Role(instance, writeLake)) {
		t.Error("the account still has the role")
	}
	l.Revoke(t, readShop)
}

// emptyUmbrella is a delete that was cut after it had dropped the account.
func emptyUmbrella(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, writeLake)
	b.exec(t, "DROP USER "+account(l.Account.Name))
	l.Holds, l.Wrote = nil, nil
	l.Grant(t, readShop)
	if (&observer{b}).Can(t, l.Account, writeLake) {
		t.Error("the new account has what the old one held")
	}
	l.Revoke(t, readShop)
}

func everythingGone(t *testing.T, b *bed) {
	b.exec(t, "CREATE DATABASE gone", "GRANT SELECT, SHOW VIEW ON gone.* TO lapse_admin WITH GRANT OPTION")
	gone := entitlement("read_only", "database", "gone")
	for what, lose := range map[string]func(l *certificationtest.Holder){
		"role":     func(*certificationtest.Holder) { b.exec(t, "DROP ROLE "+quote(principal.Role(instance, gone))) },
		"umbrella": func(l *certificationtest.Holder) { b.exec(t, "DROP ROLE "+quote(umbrellaOf(l.Account.Name))) },
		"account":  func(l *certificationtest.Holder) { b.exec(t, "DROP USER "+account(l.Account.Name)) },
	} {
		l := at(t, b.target())
		l.Grant(t, gone)
		lose(l)
		if entry := l.Revoke(t, gone); entry.Outcome != access.WasGone && entry.Outcome != access.Gone {
			t.Errorf("without the %s: %+v", what, entry)
		}
		l.Delete(t)
		if b.exists(t, "SELECT 1 FROM mysql.global_priv WHERE User IN (?, ?) OR User LIKE ?", l.Account.Name, umbrellaOf(l.Account.Name), `lapse\_m:%/`+l.Account.PersonID) {
			t.Errorf("without the %s: something of %s is left", what, l.Account.Name)
		}
	}
	b.exec(t, "DROP DATABASE gone")
}

func discovery(t *testing.T, b *bed) {
	b.exec(t, "CREATE DATABASE readonly", "CREATE TABLE readonly.things (id INT) COMMENT = 'owner=dba, tier=gold'", "GRANT SELECT ON readonly.* TO lapse_admin WITH GRANT OPTION")
	defer b.exec(t, "DROP DATABASE readonly", "REVOKE SELECT, GRANT OPTION ON readonly.* FROM lapse_admin")
	found, warnings := certificationtest.Catalog(t, start(t, b.target()))
	if got := found["database:readonly"].Permissions; !slices.Equal(got, []string{"read_only"}) {
		t.Errorf("on a database that the connector may only read: %v", got)
	}
	if got := found["database:shop"].Permissions; !slices.Equal(got, []string{"read_only", "read_write", "admin"}) {
		t.Errorf("on shop: %v", got)
	}
	if tags := found["table:readonly/things"].Tags; tags["owner"] != "dba" || tags["tier"] != "gold" {
		t.Errorf("tags %v", tags)
	}
	for _, hidden := range []string{"database:hr", "database:mysql", "database:sys", "role:lapse_admin", "role:PUBLIC"} {
		if _, there := found[hidden]; there {
			t.Errorf("%s is offered", hidden)
		}
	}
	if len(warnings) > 0 {
		t.Errorf("warnings: %v", warnings)
	}
	l := at(t, b.target())
	if _, err := l.TryGrant(t, entitlement("read_write", "database", "readonly")); access.KindOf(err) != access.Privilege {
		t.Errorf("more than the connector may give: %v", err)
	}
	nothingMade(t, b, l)
	res := l.Grant(t, entitlement("read_only", "database", "readonly"))
	if !says(res.Notes, "SHOW VIEW") {
		t.Errorf("the notes do not say what is left out: %v", res.Notes)
	}
	l.Revoke(t, entitlement("read_only", "database", "readonly"))

	found, _ = certificationtest.Catalog(t, start(t, b.target(func(c *mariadb.Config, _ *mariadb.Secret) {
		c.Include, c.Exclude = []string{"database:*", "table:shop/*"}, []string{"table:*/items", "database:lake"}
	})))
	for resource, want := range map[string]bool{"database:shop": true, "database:lake": false, "table:shop/orders": true, "table:shop/items": false, "table:lake/events": false, "role:analytics": false} {
		if _, got := found[resource]; got != want {
			t.Errorf("%s is offered: %t, want %t", resource, got, want)
		}
	}
	found, warnings = certificationtest.Catalog(t, start(t, b.target(func(c *mariadb.Config, _ *mariadb.Secret) { c.MaxResources = 3 })))
	if len(found) != 3 || len(warnings) != 1 {
		t.Errorf("with max_resources: 3 there are %d, warnings %v", len(found), warnings)
	}
	if _, err := l.Discover(t.Context(), "nonsense"); access.KindOf(err) != access.Invalid {
		t.Errorf("a cursor that is none: %v", err)
	}
}

func tlsModes(t *testing.T, b *bed) {
	for _, test := range []struct {
		mode, host string
		ca         bool
		want       access.ErrorKind
	}{
		{"disable", localmysql.Host, false, ""}, {"preferred", localmysql.Host, false, ""}, {"required", localmysql.Host, false, ""},
		{"verify-ca", localmysql.Host, true, ""}, {"verify-full", localmysql.Host, true, ""}, {"verify-full", "localhost", true, ""},
		{"verify-ca", localmysql.Host, false, access.Invalid}, {"verify-full", localmysql.Host, false, access.Invalid},
	} {
		target := b.target(func(c *mariadb.Config, _ *mariadb.Secret) {
			if c.TLSMode, c.Hostname = test.mode, test.host; !test.ca {
				c.CACertificate = ""
			}
		})
		if _, err := start(t, target).Discover(t.Context(), ""); access.KindOf(err) != test.want {
			t.Errorf("%+v: %v", test, err)
		}
	}
}

func sqlModes(t *testing.T, b *bed) {
	for _, mode := range []string{"NO_BACKSLASH_ESCAPES", "ANSI_QUOTES", "ORACLE", "MAXDB"} {
		b.exec(t, "SET GLOBAL sql_mode = '"+mode+"'")
		l := at(t, b.target())
		l.Account.Email = `o'brien\@example.com`
		e := entitlement("read_write", "table", hostile, hostile)
		l.Grant(t, e)
		if !(&observer{b}).Can(t, l.Account, e) {
			t.Errorf("%s: the person cannot use %s", mode, e)
		}
		l.Credential(t)
		l.Revoke(t, e)
		l.Delete(t)
	}
	b.exec(t, "SET GLOBAL sql_mode = DEFAULT")
}

func command(t *testing.T, b *bed) {
	client, err := exec.LookPath("mariadb")
	if err != nil {
		localservertest.Require(t, errors.New("there is no mariadb client on this machine: deploy/dev/mysql.sh installs it"))
	}
	for _, mode := range []string{"disable", "required"} {
		l := at(t, b.target(func(c *mariadb.Config, _ *mariadb.Secret) { c.TLSMode, c.CACertificate = mode, "" }))
		l.Grant(t, readShop)
		c := l.Credential(t)
		words := strings.Fields(strings.Replace(c.Command, "--password", "--password="+c.Password.Reveal(), 1))
		out, err := exec.Command(client, append(words[1:], "--execute=SELECT COUNT(*) FROM shop.orders")...).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", c.Command, err, out)
		}
		l.Revoke(t, readShop)
	}
}

// TestManyPeople is sixteen people on one database, fifty times.
func TestManyPeople(t *testing.T) {
	t.Parallel()
	const people, rounds = 16, 50
	b := newBed(t, versions(t)[0])
	o := &observer{b}
	processes := []integrations.Integration{start(t, b.target()), start(t, b.target())}
	all := make([]*certificationtest.Holder, people)
	for i := range all {
		all[i] = &certificationtest.Holder{Integration: processes[i%2], Account: someone()}
	}
	together := func(round int, what string, do func(*certificationtest.Holder) error) {
		var wg sync.WaitGroup
		for i, l := range all {
			wg.Go(func() {
				if err := do(l); err != nil {
					t.Errorf("round %d, %s person %d: %v", round, what, i, err)
				}
			})
		}
		wg.Wait()
	}
	for round := range rounds {
		together(round, "granting", func(l *certificationtest.Holder) error {
			_, err := l.TryGrant(t, writeShop)
			return err
		})
		if n := o.holders(t); n != people {
			t.Errorf("round %d: %d people hold access after the grants", round, n)
		}
		together(round, "revoking", func(l *certificationtest.Holder) error {
			_, err := l.TryRevoke(t, writeShop)
			return err
		})
		if n := o.holders(t); n != 0 {
			t.Errorf("round %d: %d people hold access after the revokes", round, n)
		}
		if t.Failed() {
			return
		}
	}
	for _, l := range all {
		if o.Can(t, l.Account, writeShop) {
			t.Errorf("%s can still write", l.Account.Name)
		}
	}
}

// holders counts who is let in and has the role for writeShop.
func (o *observer) holders(t *testing.T) int {
	return value[int](t, o.bed, `SELECT COUNT(*) FROM mysql.roles_mapping m JOIN mysql.global_priv g ON JSON_VALUE(g.Priv, '$.default_role') = m.User
		WHERE m.Role = ? AND m.Host = '' AND m.Admin_option = 'N' AND COALESCE(JSON_VALUE(g.Priv, '$.account_locked'), '0') <> '1'`, principal.Role(instance, writeShop))
}

// TestMySQL is a server of the other kind.
func TestMySQL(t *testing.T) {
	t.Parallel()
	s := localmysqltest.Start(t, localmysql.MySQL)
	b := &bed{Server: s}
	b.connect(t)
	b.exec(t, "CREATE USER lapse IDENTIFIED BY '"+connectorPass+"'")
	l := at(t, b.target())
	report, err := l.Check(t.Context())
	if err != nil || len(report.Items) != 1 || report.Items[0].OK || !strings.Contains(report.Items[0].Remedy, "kind: mysql") {
		t.Errorf("%+v, %v", report, err)
	}
	if _, err := l.TryGrant(t, readShop); access.KindOf(err) != access.Unsupported {
		t.Errorf("granting: %v, want unsupported", err)
	}
	if _, err := l.Discover(t.Context(), ""); access.KindOf(err) != access.Unsupported {
		t.Errorf("discovering: %v, want unsupported", err)
	}
}

// passwordsInLog turns the general log on, in which MariaDB hides what it takes for
// a password.
func passwordsInLog(t *testing.T, b *bed) {
	b.exec(t, "SET GLOBAL log_output = 'TABLE'", "TRUNCATE mysql.general_log", "SET GLOBAL general_log = ON")
	defer b.exec(t, "SET GLOBAL general_log = OFF")
	l := at(t, b.target())
	l.Grant(t, readShop)
	c := l.Credential(t)
	l.Revoke(t, readShop)
	rotator := l.Integration.(integrations.SecretRotator)
	next, err := rotator.NextSecret()
	if err == nil {
		err = rotator.RotateSecret(t.Context(), next)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer b.exec(t, "SET PASSWORD FOR lapse = PASSWORD('"+connectorPass+"')")
	b.exec(t, "SET GLOBAL general_log = OFF")
	if n := value[int](t, b, "SELECT COUNT(*) FROM mysql.general_log WHERE argument LIKE 'ALTER USER%'"); n < 3 {
		t.Errorf("the log has %d of the statements", n)
	}
	for _, secret := range []integrations.Secret{c.Password, next.(*mariadb.Secret).Password} {
		if b.exists(t, "SELECT 1 FROM mysql.general_log WHERE INSTR(argument, ?)", secret.Reveal()) {
			t.Error("a password is in the server's log")
		}
	}
}
