package mysql_test

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/mysql"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/describe"
	"github.com/lapse-access/lapse/internal/principal"
	"github.com/lapse-access/lapse/internal/sqlname"
	"github.com/lapse-access/lapse/internal/sqlname/sqlnametest"
)

// check is what Check says, by the names of the items.
func (b *bed) check(t *testing.T, target integrations.Target) map[string]access.CheckItem {
	t.Helper()
	return certificationtest.Check(t, start(t, target))
}

// stalling holds back what the client says second: the proof of its password.
type stalling struct {
	net.Conn
	writes int
	began  chan struct{}
	go_on  chan struct{}
}

func (s *stalling) Write(b []byte) (int, error) {
	if s.writes++; s.writes == 2 {
		close(s.began)
		<-s.go_on
	}
	return s.Conn.Write(b)
}

const handshakes = "SELECT COUNT(*) FROM information_schema.processlist WHERE USER IN (?, ?)"

func lateHandshake(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, readShop)
	c := l.Credential(t)
	for _, goesOn := range []time.Duration{300 * time.Millisecond, time.Minute} {
		cfg, err := b.Config("")
		if err != nil {
			t.Fatal(err)
		}
		// Without the account's hash in the server's cache the proof of a password
		// takes several turns.
		b.exec(t, "FLUSH PRIVILEGES")
		began, goOn := make(chan struct{}), make(chan struct{})
		cfg.User, cfg.Passwd, cfg.TLS = c.Username, c.Password.Reveal(), nil
		cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			return &stalling{Conn: conn, began: began, go_on: goOn}, err
		}
		connector, err := driver.NewConnector(cfg)
		if err != nil {
			t.Fatal(err)
		}
		db := sql.OpenDB(connector)
		defer db.Close()
		in := make(chan error, 1)
		go func() { in <- db.Ping() }()
		<-began
		if n := value[int64](t, b, handshakes, "", "unauthenticated user"); n != 1 {
			t.Fatalf("%d handshakes are open", n)
		}
		timer := time.AfterFunc(goesOn, func() { close(goOn) })
		l.Revoke(t, readShop)
		if n := value[int64](t, b, handshakes, c.Username, "unauthenticated user"); n != 0 {
			t.Errorf("%d sessions are open after the revoke", n)
		}
		if timer.Stop() {
			close(goOn)
		}
		if err := <-in; err == nil {
			if err := db.Ping(); err == nil {
				t.Error("a client whose login began before the lock is in after the revoke")
			}
		}
		l.Grant(t, readShop)
		c = l.Credential(t)
	}
	l.Revoke(t, readShop)
}

func triggers(t *testing.T, b *bed) {
	o := &observer{b}
	b.exec(t, "CREATE DATABASE wired", "CREATE TABLE wired.orders (id int AUTO_INCREMENT PRIMARY KEY, at timestamp NULL)", "CREATE TABLE wired.`audit log` (id int, at timestamp DEFAULT now())",
		"CREATE TABLE wired.secrets (id int AUTO_INCREMENT PRIMARY KEY, at timestamp NULL)")
	adminWired := entitlement("admin", "database", "wired")
	for _, how := range []string{"revoke", "delete"} {
		l := at(t, b.target())
		l.Grant(t, adminWired)
		trigger := "CREATE TRIGGER wired.t_" + how + " BEFORE INSERT ON wired.orders FOR EACH ROW BEGIN INSERT INTO wired.`audit log` (id) VALUES (NEW.id); SET NEW.at = now(); END"
		if err := b.as(t, l.Credential(t), trigger, "INSERT INTO wired.orders () VALUES ()"); err != nil {
			t.Fatal(err)
		}
		if how == "revoke" {
			if entry := l.Revoke(t, adminWired); entry.Outcome != access.Gone || !says(entry.Facts, "trigger wired.t_revoke on orders runs with the rights of the account") {
				t.Errorf("%+v", entry)
			}
		} else if res := l.Delete(t); res.Outcome != access.KeptDisabled || !says(res.Owns, "trigger wired.t_delete on orders") {
			t.Errorf("%+v", res)
		}
		if err := b.try(t, "INSERT INTO wired.orders () VALUES ()"); err != nil {
			t.Errorf("after the %s: %v", how, err)
		}
		closed := l.Account
		for _, table := range []string{"secrets", "orders"} {
			if e := entitlement("admin", "table", "wired", table); o.Can(t, closed, e) {
				t.Errorf("the closed account can %s", e)
			}
		}
		if o.Can(t, closed, entitlement("read_only", "table", "wired", "secrets")) || !value[bool](t, b, "SELECT account_locked = 'Y' FROM mysql.user WHERE User = ?", closed.Name) {
			t.Error("the closed account is open, or reads what its trigger does not name")
		}
		// The next access is another account's, without what the trigger needs.
		l.Account.Name = ""
		l.Grant(t, readShop)
		if l.Account.Name == closed.Name || o.Can(t, l.Account, entitlement("read_only", "table", "wired", "orders")) {
			t.Errorf("%s came back as %s", closed.Name, l.Account.Name)
		}
		l.Revoke(t, readShop)
		if res := l.Delete(t); res.Outcome != access.Gone {
			t.Errorf("%+v", res)
		}
		if res := l.Delete(t); res.Outcome != access.KeptDisabled {
			t.Errorf("the kept account is not told: %+v", res)
		}
		b.exec(t, "DROP TRIGGER wired.t_"+how)
	}

	// A revoke that is not done yet: nobody gets the account with what it keeps.
	weak := b.connector(t, "no_killer", "grant", nil)
	l := at(t, weak)
	l.Grant(t, adminWired)
	c := l.Credential(t)
	if err := b.as(t, c, "CREATE TRIGGER wired.t_late BEFORE INSERT ON wired.orders FOR EACH ROW SET NEW.at = now()"); err != nil {
		t.Fatal(err)
	}
	b.open(t, c, "wired")
	if _, err := l.TryRevoke(t, adminWired); access.KindOf(err) != access.Privilege {
		t.Errorf("revoking without the right to end sessions: %v", err)
	}
	if _, err := l.TryGrant(t, readShop); access.KindOf(err) != access.Retry || o.Can(t, l.Account, readShop) {
		t.Errorf("granting in between: %v, want retry", err)
	}
	l.Integration = start(t, b.target())
	closed := l.Account.Name
	l.Revoke(t, adminWired)
	if l.Grant(t, readShop); l.Account.Name == closed || b.try(t, "INSERT INTO wired.orders () VALUES ()") != nil {
		t.Errorf("%s came back as %s, or its trigger fails", closed, l.Account.Name)
	}
	l.Revoke(t, readShop)
	b.exec(t, "DROP DATABASE wired")
}

// contention has 16 people come and go on one database by three processes.
func contention(t *testing.T, b *bed) {
	rounds := 50
	if testing.Short() {
		rounds = 5
	}
	o := &observer{b}
	for _, l := range certificationtest.Crowd(t, mysql.Kind(), b.target(), rounds, readShop, writeShop, adminShop) {
		edges := value[string](t, b, "SELECT COALESCE(GROUP_CONCAT(FROM_USER), '') FROM mysql.role_edges WHERE TO_USER = ?", l.Account.Name)
		if len(l.Holds) == 0 && (edges != "" || o.Can(t, l.Account, readShop)) {
			t.Errorf("%s has %s, want nothing", l.Account.Name, edges)
		}
		for _, last := range l.Holds {
			if edges != principal.Role(instance, last) || !o.Can(t, l.Account, last) {
				t.Errorf("%s has %s, want the role of %s", l.Account.Name, edges, last)
			}
			l.Revoke(t, last)
		}
	}
}

func firstRights(t *testing.T, b *bed) {
	target := b.connector(t, "weak", "grant", describe.Options{"databases": {"shop"}})
	for _, right := range []string{"CREATE USER", "ROLE_ADMIN"} {
		b.exec(t, "REVOKE "+right+" ON *.* FROM weak")
		before := value[int64](t, b, "SELECT COUNT(*) FROM mysql.user")
		l := at(t, target)
		_, err := l.TryGrant(t, entitlement("read_only", "table", "shop", "people"))
		if access.KindOf(err) != access.Privilege || !strings.Contains(err.Error(), "GRANT "+right+" ON *.* TO `weak`@`%`") {
			t.Errorf("without %s: %v", right, err)
		}
		if value[int64](t, b, "SELECT COUNT(*) FROM mysql.user") != before {
			t.Errorf("without %s an account was made", right)
		}
		b.exec(t, "GRANT "+right+" ON *.* TO weak")
	}
	if _, err := at(t, target).TryGrant(t, writeLake); access.KindOf(err) != access.Privilege {
		t.Errorf("granting what the connector does not have: %v", err)
	}
}

func widerRights(t *testing.T, b *bed) {
	b.exec(t, "CREATE USER almighty IDENTIFIED BY 'x'", "GRANT ALL ON *.* TO almighty WITH GRANT OPTION")
	defer b.exec(t, "DROP USER almighty")
	target := b.target(func(_ *mysql.Config, s *mysql.Secret) { s.Username, s.Password = "almighty", "x" })
	for name, item := range b.check(t, target) {
		if !item.OK {
			t.Errorf("%s: %+v", name, item)
		}
	}
	l := at(t, target)
	l.Grant(t, adminShop)
	l.Revoke(t, adminShop)
	if res := l.Delete(t); res.Outcome != access.Gone {
		t.Errorf("%+v", res)
	}
}

func maintenance(t *testing.T, b *bed) {
	o := &observer{b}
	used, idle := at(t, b.target()), at(t, b.target())
	b.exec(t, "CREATE TABLE lake.idle (id int)")
	inUse, notInUse := entitlement("read_only", "table", "shop", "people"), entitlement("read_only", "table", "lake", "idle")
	defer b.exec(t, "DROP TABLE lake.idle")
	used.Grant(t, inUse)
	idle.Grant(t, notInUse)
	idle.Revoke(t, notInUse)
	keep, drop := principal.Role(instance, inUse), principal.Role(instance, notInUse)
	maintain := func() []string {
		t.Helper()
		notes, err := used.Integration.(integrations.Maintainer).Maintain(t.Context())
		if err != nil {
			t.Error(err)
		}
		return notes
	}
	if maintain(); !o.Exists(t, drop) {
		t.Error("a role that was in use today is dropped")
	}
	for _, e := range []access.Entitlement{inUse, notInUse} {
		if err := mysql.Age(t.Context(), used.Integration, e, 8*24*time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	b.exec(t, "GRANT INSERT ON shop.people TO "+quote(keep), "GRANT SELECT ON lake.* TO "+quote(keep), "REVOKE SHOW VIEW ON shop.people FROM "+quote(keep))
	if notes := maintain(); !says(notes, "dropped role "+drop) || o.Exists(t, drop) || !o.Exists(t, keep) {
		t.Errorf("the idle role is there: %t, the used one: %t; %v", o.Exists(t, drop), o.Exists(t, keep), notes)
	}
	if o.Can(t, used.Account, entitlement("read_write", "table", "shop", "people")) || o.Can(t, used.Account, entitlement("read_only", "database", "lake")) || !o.Can(t, used.Account, inUse) {
		t.Error("maintenance did not bring the role back to what it stands for")
	}
	used.Revoke(t, inUse)
}

func otherHosts(t *testing.T, b *bed) {
	local := func(c *mysql.Config, _ *mysql.Secret) { c.AccountHostPattern = "127.0.0.%" }
	l := at(t, b.target(local))
	l.Grant(t, readShop)
	if err := b.as(t, l.Credential(t), "SELECT * FROM shop.orders"); err != nil {
		t.Error(err)
	}
	if host := value[string](t, b, "SELECT Host FROM mysql.user WHERE User = ?", l.Account.Name); host != "127.0.0.%" {
		t.Errorf("the account is for %s", host)
	}
	// Another setting makes no second account.
	l.Integration = start(t, b.target())
	l.Grant(t, writeLake)
	if n := value[int](t, b, "SELECT COUNT(*) FROM mysql.user WHERE User = ?", l.Account.Name); n != 1 {
		t.Errorf("%d accounts have the name", n)
	}
	_, s := b.open(t, l.Credential(t), "shop")
	if l.Revoke(t, readShop); s.Alive() {
		t.Error("the session goes on")
	}
	l.Revoke(t, writeLake)
	if res := l.Delete(t); res.Outcome != access.Gone {
		t.Errorf("%+v", res)
	}
	far := at(t, b.target(func(c *mysql.Config, _ *mysql.Secret) { c.AccountHostPattern = "10.1.2.3" }))
	far.Grant(t, readShop)
	_, err := far.TryCredential(t, false)
	if access.KindOf(err) != access.Invalid || !strings.Contains(err.Error(), "account_host_pattern") {
		t.Errorf("an account that cannot be tried from here: %v", err)
	}
	far.Revoke(t, readShop)
}

// undisturbed grants and verifies the whole of a database, for which the server
// has a word of its own, again and again: the role is left as it is.
func undisturbed(t *testing.T, b *bed) {
	for _, e := range []access.Entitlement{adminShop, entitlement("admin", "table", "shop", "orders")} {
		first := at(t, b.target())
		first.Grant(t, e)
		b.exec(t, "SET GLOBAL log_output = 'TABLE'", "TRUNCATE mysql.general_log", "SET GLOBAL general_log = ON")
		second := at(t, b.target())
		second.Grant(t, e)
		if _, err := first.Integration.(integrations.Maintainer).Maintain(t.Context()); err != nil {
			t.Error(err)
		}
		second.Revoke(t, e)
		b.exec(t, "SET GLOBAL general_log = OFF")
		if n := value[int64](t, b, "SELECT COUNT(*) FROM mysql.general_log WHERE argument LIKE 'REVOKE%' AND argument LIKE '% ON %'"); n != 0 {
			t.Errorf("%s: the role lost something %d times", e, n)
		}
		if !(&observer{b}).Can(t, first.Account, e) {
			t.Errorf("%s cannot be used", e)
		}
		first.Revoke(t, e)
	}
}

func dangerousRoles(t *testing.T, b *bed) {
	b.exec(t, "CREATE ROLE plain, super_powers, files, writes_all, reads_accounts, hands_on, nested, reads_all",
		"GRANT SELECT ON shop.* TO plain", "GRANT SUPER ON *.* TO super_powers", "GRANT FILE ON *.* TO files", "GRANT INSERT ON *.* TO writes_all", "GRANT SELECT ON mysql.* TO reads_accounts",
		"GRANT SELECT ON shop.* TO hands_on WITH GRANT OPTION", "GRANT files TO nested", "GRANT SELECT ON *.* TO reads_all")
	defer b.exec(t, "DROP ROLE plain, super_powers, files, writes_all, reads_accounts, hands_on, nested, reads_all")
	target := b.target(func(c *mysql.Config, _ *mysql.Secret) { c.AllowRoles = []string{"files"} })
	found, _ := certificationtest.Catalog(t, start(t, target))
	for name, want := range map[string]bool{"plain": true, "reads_all": true, "files": true, "super_powers": false, "writes_all": false, "reads_accounts": false, "hands_on": false, "nested": false} {
		if _, offered := found["role:"+name]; offered != want {
			t.Errorf("role %s is offered: %t, want %t", name, offered, want)
		}
		l := at(t, target)
		_, err := l.TryGrant(t, entitlement("member", "role", name))
		if (err == nil) != want || (!want && access.KindOf(err) != access.Invalid) {
			t.Errorf("granting role %s: %v", name, err)
		}
	}
	if _, err := at(t, target).TryGrant(t, entitlement("member", "role", principal.Role(instance, readShop))); access.KindOf(err) != access.Invalid {
		t.Errorf("a role of Lapse's own: %v", err)
	}
}

func discovery(t *testing.T, b *bed) {
	b.exec(t, "CREATE DATABASE big")
	defer b.exec(t, "DROP DATABASE big")
	const many = 1203
	var statements []string
	for n := range many {
		statements = append(statements, fmt.Sprintf("CREATE TABLE big.t_%04d (id int) COMMENT 'owner=dba'", n))
	}
	b.exec(t, statements...)
	target := b.target(func(c *mysql.Config, _ *mysql.Secret) { c.Include = []string{"table:big/*"} })
	found, warnings := certificationtest.Catalog(t, start(t, target))
	if len(found) != many || len(warnings) != 0 || found["table:big/t_0007"].Tags["owner"] != "dba" {
		t.Errorf("%d tables, %v, %+v", len(found), warnings, found["table:big/t_0007"])
	}
	target = b.target(func(c *mysql.Config, _ *mysql.Secret) { c.MaxResources = 700 })
	if found, warnings := certificationtest.Catalog(t, start(t, target)); len(found) != 700 || len(warnings) != 1 {
		t.Errorf("%d resources, %v", len(found), warnings)
	}
	for _, name := range []string{"mysql", "sys", "information_schema", "performance_schema"} {
		if _, err := at(t, b.target()).TryGrant(t, entitlement("read_only", "database", name)); access.KindOf(err) != access.Invalid {
			t.Errorf("granting database %s: %v", name, err)
		}
	}
	// A name whose pattern is too long is not offered, unless none is needed.
	long := strings.Repeat("_", 33)
	b.exec(t, "CREATE DATABASE "+long)
	defer b.exec(t, "DROP DATABASE "+long, "SET GLOBAL partial_revokes = OFF")
	if found, _ := certificationtest.Catalog(t, start(t, b.target())); found["database:"+long].Permissions != nil {
		t.Error("a database is offered that cannot be granted")
	}
	if _, err := at(t, b.target()).TryGrant(t, entitlement("read_only", "database", long)); access.KindOf(err) != access.Invalid {
		t.Errorf("granting it: %v", err)
	}
	b.exec(t, "SET GLOBAL partial_revokes = ON")
	l := at(t, b.target())
	l.Grant(t, entitlement("read_only", "database", long))
	l.Revoke(t, entitlement("read_only", "database", long))
}

func twoIntegrations(t *testing.T, b *bed) {
	other := b.target()
	other.ID = "another"
	one, two := at(t, b.target()), &certificationtest.Holder{Integration: start(t, other), Account: someone()}
	two.Account.ID, two.Account.Integration = access.AccountID("another", two.Account.PersonID), "another"
	e := readShop
	e.Integration = "another"
	one.Grant(t, readShop)
	two.Grant(t, e)
	one.Revoke(t, readShop)
	if !(&observer{b}).Can(t, two.Account, readShop) {
		t.Error("the end on one integration ended the access of the other")
	}
	page, err := one.Accounts(t.Context(), "")
	if err != nil || slices.ContainsFunc(page.Principals, func(p access.Principal) bool { return p.Name == two.Account.Name }) {
		t.Errorf("one integration lists the other's account: %v", err)
	}
	two.Revoke(t, e)
}

func tlsModes(t *testing.T, b *bed) {
	for _, test := range []struct {
		mode, host string
		ca         bool
		want       access.ErrorKind
	}{
		{"disable", "127.0.0.1", true, ""}, {"preferred", "127.0.0.1", false, ""}, {"required", "127.0.0.1", false, ""}, {"required", "127.0.0.1", true, ""},
		{"verify-ca", "127.0.0.1", true, ""}, {"verify-ca", "127.0.0.1", false, access.Invalid}, {"verify-ca", "127.0.0.2", true, ""},
		{"verify-full", "127.0.0.1", true, ""}, {"verify-full", "127.0.0.1", false, access.Invalid},
	} {
		target := b.target(func(c *mysql.Config, _ *mysql.Secret) {
			c.TLSMode, c.Hostname = test.mode, test.host
			if !test.ca {
				c.CACertificate = ""
			}
		})
		if test.host != "127.0.0.1" {
			continue // the server listens on one address only
		}
		_, err := start(t, target).Discover(t.Context(), "")
		if access.KindOf(err) != test.want {
			t.Errorf("%s at %s, with an authority: %t: %v, want %q", test.mode, test.host, test.ca, err, test.want)
		}
	}
	// The certificate is for 127.0.0.1 and localhost: with another name
	// verify-full refuses it, and verify-ca does not.
	proxy, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		if runtime.GOOS == "linux" {
			t.Fatal(err)
		}
		t.Skip("only Linux has more than one loopback address by itself")
	}
	defer proxy.Close()
	go forward(proxy, fmt.Sprintf("127.0.0.1:%d", b.Port))
	_, port, _ := net.SplitHostPort(proxy.Addr().String())
	for mode, want := range map[string]access.ErrorKind{"verify-ca": "", "verify-full": access.Invalid} {
		target := b.target(func(c *mysql.Config, _ *mysql.Secret) { c.TLSMode, c.Hostname = mode, "127.0.0.2:"+port })
		if _, err := start(t, target).Discover(t.Context(), ""); access.KindOf(err) != want {
			t.Errorf("%s under another name: %v, want %q", mode, err, want)
		}
	}
}

func forward(l net.Listener, to string) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer in.Close()
			out, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer out.Close()
			go copyAll(out, in)
			copyAll(in, out)
		}()
	}
}

func copyAll(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			to.Write(buffer[:n])
		}
		if err != nil {
			to.Close()
			return
		}
	}
}

func passwordsInLog(t *testing.T, b *bed) {
	b.exec(t, "SET GLOBAL log_output = 'TABLE'", "SET GLOBAL general_log = ON")
	l := at(t, b.target())
	l.Grant(t, readShop)
	c := l.Credential(t)
	l.Revoke(t, readShop)
	b.exec(t, "SET GLOBAL general_log = OFF")
	if value[int64](t, b, "SELECT COUNT(*) FROM mysql.general_log WHERE argument LIKE '%ALTER USER%'") == 0 {
		t.Error("the log has no statement at all")
	}
	if value[int64](t, b, "SELECT COUNT(*) FROM mysql.general_log WHERE INSTR(argument, ?) > 0 AND command_type <> 'Execute' AND command_type <> 'Prepare'", c.Password.Reveal()) != 0 {
		t.Error("the password is in the server's log")
	}
}

// hostileNames takes every name of the corpus that the server takes as a
// database, table and role.
func hostileNames(t *testing.T, b *bed) {
	o := &observer{b}
	b.exec(t, "CREATE DATABASE corpus")
	tried := 0
	for _, name := range sqlnametest.Hostile {
		if b.try(t, "CREATE TABLE corpus."+quote(name)+" (id int AUTO_INCREMENT PRIMARY KEY, at timestamp NULL)") != nil {
			continue
		}
		want := []access.Entitlement{entitlement("read_write", "table", "corpus", name)}
		if !value[bool](t, b, "SELECT EXISTS (SELECT * FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'corpus' AND CAST(TABLE_NAME AS BINARY) = CAST(? AS BINARY))", name) {
			// The server made something else of it.
			if _, err := at(t, b.target()).TryGrant(t, want[0]); err == nil {
				t.Errorf("a table %q is granted that is not there", name)
			}
			continue
		}
		role := b.try(t, "CREATE ROLE "+quote(name)) == nil && value[bool](t, b, "SELECT EXISTS (SELECT * FROM mysql.user WHERE User = ?)", name)
		if role && name != "root" {
			want = append(want, entitlement("member", "role", name+"@%"))
		}
		l := at(t, b.target())
		if _, err := l.TryGrant(t, want...); err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		tried++
		if !o.Can(t, l.Account, want[0]) {
			t.Errorf("table %q cannot be used", name)
		}
		if n := value[int](t, b, "SELECT COUNT(*) FROM mysql.role_edges WHERE TO_USER = ?", l.Account.Name); n != len(want) {
			t.Errorf("%q: %d roles, want %d", name, n, len(want))
		}
		res, err := l.TryRevoke(t, want...)
		if err != nil || res.Entries[0].Outcome != access.Gone || o.Can(t, l.Account, want[0]) {
			t.Errorf("revoking %q: %+v, %v", name, res, err)
		}
		if role {
			b.exec(t, "DROP ROLE "+quote(name))
		}
	}
	if tried < 50 {
		t.Errorf("the server took %d names", tried)
	}
	b.exec(t, "DROP DATABASE corpus")
}

func drift(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, readShop, writeLake, analytics)
	b.exec(t, "GRANT SELECT ON shop.* TO "+quote(l.Account.Name), "CREATE ROLE readers", "GRANT SELECT ON shop.* TO readers", "GRANT readers TO "+quote(l.Account.Name))
	defer b.exec(t, "DROP ROLE readers")
	// writeLake has no hold any more; analytics is the customer's.
	l.Holds = []access.Entitlement{readShop}
	res, err := l.TryRevoke(t, readShop)
	if err != nil {
		t.Fatal(err)
	}
	if !says(res.Notes, "held database:lake=read_write for which there is no hold") || !says(res.Notes, "is a member of analytics") {
		t.Errorf("notes: %v", res.Notes)
	}
	if facts := res.Entries[0].Facts; !says(facts, "through readers") || !says(facts, "through privileges of its own") {
		t.Errorf("facts: %v", facts)
	}
	var all []access.Principal
	for cursor := ""; ; {
		page, err := l.Accounts(t.Context(), cursor)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page.Principals...)
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	i := slices.IndexFunc(all, func(p access.Principal) bool { return p.Name == l.Account.Name })
	if i < 0 || all[i].Enabled || !says(all[i].Foreign, "SELECT on shop.*") || len(all[i].Entitlements) != 2 {
		t.Errorf("the list says %+v", all[max(i, 0)])
	}
	if int64(len(all)) != value[int64](t, b, "SELECT COUNT(*) FROM mysql.user WHERE User_attributes->>'$.metadata.lapse.kind' IN ('account', 'tombstone') AND User_attributes->>'$.metadata.lapse.integration' = ?", integration) {
		t.Errorf("the list has %d accounts", len(all))
	}
}

func ownSecret(t *testing.T, b *bed) {
	target := b.connector(t, "turning", "full", nil)
	i := start(t, target)
	next, err := i.(integrations.SecretRotator).NextSecret()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := i.(integrations.SecretRotator).RotateSecret(t.Context(), next); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := i.Discover(t.Context(), ""); access.KindOf(err) != access.Auth {
		t.Errorf("with the old secret: %v", err)
	}
	target.Secret = next
	l := at(t, target)
	l.Grant(t, readShop)
	l.Revoke(t, readShop)
}

func endWithCredential(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, readShop)
	_, s := b.open(t, l.Credential(t), "shop")
	if l.Credential(t); !s.Alive() {
		t.Error("a new credential ends the sessions of the old one")
	}
	c, err := l.TryCredential(t, true)
	if err != nil || s.Alive() || !b.CanLogin(t, c) {
		t.Errorf("%v, the session goes on: %t", err, s.Alive())
	}
}

func managedService(t *testing.T, b *bed) {
	killing := func(service string) string {
		t.Helper()
		text, err := mysql.Killing(t.Context(), start(t, b.target(func(c *mysql.Config, _ *mysql.Secret) { c.ManagedService = service })))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for service, want := range map[string]string{"auto": "KILL CONNECTION 42", "none": "KILL CONNECTION 42", "cloudsql": "KILL CONNECTION 42",
		"rds": "CALL mysql.`rds_kill`(42)", "aurora": "CALL mysql.`rds_kill`(42)", "azure": "CALL mysql.`az_kill`(42)"} {
		if got := killing(service); got != want {
			t.Errorf("%s: %s, want %s", service, got, want)
		}
	}
	// As there: nobody has the right to KILL, but to call a procedure that does.
	b.exec(t, "CREATE PROCEDURE mysql.rds_kill(id bigint) SQL SECURITY DEFINER BEGIN SET @text = CONCAT('KILL ', id); PREPARE s FROM @text; EXECUTE s; END")
	defer b.exec(t, "DROP PROCEDURE mysql.rds_kill")
	target := b.connector(t, "managed", "full", nil)
	b.exec(t, "REVOKE CONNECTION_ADMIN ON *.* FROM managed", "GRANT EXECUTE ON PROCEDURE mysql.rds_kill TO managed")
	if item := b.check(t, target)["CONNECTION_ADMIN"]; !item.OK || !strings.Contains(item.Detail, "rds_kill") {
		t.Errorf("check says %+v", item)
	}
	l := at(t, target)
	l.Grant(t, readShop)
	_, s := b.open(t, l.Credential(t), "shop")
	if l.Revoke(t, readShop); s.Alive() {
		t.Error("the session goes on")
	}
}

func rightsByRole(t *testing.T, b *bed) {
	b.setUp(t, "full", describe.Options{"connector_name": {"powers"}})
	b.exec(t, "ALTER USER powers ACCOUNT LOCK", "CREATE USER member IDENTIFIED BY 'x'", "GRANT powers TO member", "SET DEFAULT ROLE powers TO member")
	defer b.exec(t, "DROP USER powers, member")
	target := b.target(func(_ *mysql.Config, s *mysql.Secret) { s.Username, s.Password = "member", "x" })
	for name, item := range b.check(t, target) {
		if !item.OK && !item.Optional {
			t.Errorf("%s: %+v", name, item)
		}
	}
	l := at(t, target)
	l.Grant(t, readShop)
	_, s := b.open(t, l.Credential(t), "shop")
	if l.Revoke(t, readShop); s.Alive() {
		t.Error("the session goes on")
	}
}

// TestQuoting reads every name and text of the corpus back from a real server.
func TestQuoting(t *testing.T) {
	t.Parallel()
	b := startBed(t, nil)
	for _, s := range sqlnametest.Hostile {
		if literal, err := sqlname.MySQL.Quote(sqlname.Literal(s)); err == nil {
			if got := value[string](t, b, "SELECT "+literal); got != s {
				t.Errorf("the text %q became %q", s, got)
			}
		}
		ident, err := sqlname.MySQL.Quote(sqlname.Ident(s))
		if err == nil && b.try(t, "CREATE TABLE observer."+ident+" (id int)") == nil {
			if got := value[string](t, b, "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'observer'"); got != s {
				t.Errorf("the table %q became %q", s, got)
			}
			b.exec(t, "DROP TABLE observer."+ident)
		} else if err == nil {
			t.Errorf("the server does not take the table %q, which is not refused", s)
		}
		account, err := sqlname.MySQL.Quote(sqlname.Principal{User: s, Host: "%"})
		if err == nil && s != "root" {
			b.exec(t, "CREATE USER "+account)
			if n := value[int](t, b, "SELECT COUNT(*) FROM mysql.user WHERE User = ? AND Host = '%'", s); n != 1 {
				t.Errorf("the account %q is there %d times", s, n)
			}
			b.exec(t, "DROP USER "+account)
		}
	}
}
