package mysql_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/integrations/mysql"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/describe"
	"github.com/lapse-access/lapse/internal/principal"
)

// TestAcceptance is what only MySQL has, beside the suite.
func TestAcceptance(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *bed)
	}{
		{"1 a fresh login reads without SET ROLE", freshLogin},
		{"2 two entitlements are active in one session, whatever their order", twoAtOnce},
		{"3 revoking read_write keeps read_only", keepsReading},
		{"4 a grant on a_b is none on axb, with and without partial_revokes", wildcards},
		{"5 a grant on a table of a_b", tableOfPattern},
		{"6 a session with a current database ends", currentDatabase},
		{"7 nobody gets in between lock and kill", reconnectLoop},
		{"8 a connector with the read set offers and gives read_only", readSet},
		{"9 the definer of a view and an event is kept", definerKept},
		{"10 an account without our mark is left alone", nameTaken},
		{"11 passwords with every punctuation mark", punctuation},
		{"12 server modes change nothing", serverModes},
		{"13 a dropped database", droppedDatabase},
		{"14 a mandatory role is not offered", mandatoryRole},
		{"15 a read-only server", readOnlyServer},
		{"17 an account with SYSTEM_USER is not touched", systemUser},
		{"18 accounts that log in elsewhere are no roles", foreignLogins},
		{"a handshake that began before the lock does not come in after it", lateHandshake},
		{"inserts go on when the definer of a trigger loses its access", triggers},
		{"16 people at once, 50 rounds", contention},
		{"a right is named before anything is made", firstRights},
		{"check accepts wider rights", widerRights},
		{"maintenance drops idle roles and mends others", maintenance},
		{"accounts of one network only", otherHosts},
		{"a role that has all is left as it is", undisturbed},
		{"roles with powers over the server are refused", dangerousRoles},
		{"discovery goes page by page", discovery},
		{"two integrations on one server do not see each other", twoIntegrations},
		{"every tls_mode connects, or says why not", tlsModes},
		{"passwords are not in the server's log", passwordsInLog},
		{"names of every sort", hostileNames},
		{"drift is reported and other ways are named", drift},
		{"the connector's own secret is changed", ownSecret},
		{"sessions end with a new credential when that is asked for", endWithCredential},
		{"a managed service's procedure is found and called", managedService},
		{"a connector whose rights come by a role", rightsByRole},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, b) })
	}
}

func start(t *testing.T, target integrations.Target) integrations.Integration {
	t.Helper()
	return certificationtest.Start(t, mysql.Kind(), target)
}

// at makes an account of somebody new on an integration.
func at(t *testing.T, target integrations.Target) *certificationtest.Holder {
	t.Helper()
	return certificationtest.At(t, mysql.Kind(), target)
}

// as carries out statements as a person, up to the first that is refused.
func (b *bed) as(t *testing.T, c integrations.Credential, statements ...string) error {
	t.Helper()
	conn, done, err := b.login(c, "")
	if err != nil {
		t.Fatalf("logging in: %v", err)
	}
	defer done()
	for _, s := range statements {
		if _, err := conn.ExecContext(t.Context(), s); err != nil {
			return err
		}
	}
	return nil
}

func denied(err error) bool {
	e, ok := errors.AsType[*driver.MySQLError](err)
	return ok && slices.Contains(refusals, e.Number)
}

func says(facts []string, part string) bool {
	return slices.ContainsFunc(facts, func(f string) bool { return strings.Contains(f, part) })
}

var (
	readShop  = entitlement("read_only", "database", "shop")
	writeShop = entitlement("read_write", "database", "shop")
	adminShop = entitlement("admin", "database", "shop")
	writeLake = entitlement("read_write", "database", "lake")
	analytics = entitlement("member", "role", "analytics")
)

func freshLogin(t *testing.T, b *bed) {
	if value[bool](t, b, "SELECT @@activate_all_roles_on_login") {
		t.Fatal("activate_all_roles_on_login is on")
	}
	l := at(t, b.target())
	l.Grant(t, readShop)
	if err := b.as(t, l.Credential(t), "SELECT * FROM shop.orders"); err != nil {
		t.Error(err)
	}
}

func twoAtOnce(t *testing.T, b *bed) {
	for _, order := range [][]access.Entitlement{{readShop, writeLake, analytics}, {analytics, writeLake, readShop}} {
		l := at(t, b.target())
		for _, e := range order {
			l.Grant(t, e)
		}
		if err := b.as(t, l.Credential(t), "SELECT * FROM shop.orders", "INSERT INTO lake.events () VALUES ()", "SELECT * FROM hr.analytics"); err != nil {
			t.Error(err)
		}
	}
}

func keepsReading(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, readShop, writeShop)
	c := l.Credential(t)
	if entry := l.Revoke(t, writeShop); entry.Outcome != access.Gone {
		t.Errorf("%+v", entry)
	}
	if err := b.as(t, c, "SELECT * FROM shop.orders"); err != nil {
		t.Error(err)
	}
	if err := b.as(t, c, "INSERT INTO shop.orders () VALUES ()"); !denied(err) {
		t.Errorf("writing after the revoke: %v", err)
	}
}

func wildcards(t *testing.T, b *bed) {
	l := at(t, b.target())
	read := entitlement("read_only", "database", "a_b")
	defer b.exec(t, "SET GLOBAL partial_revokes = OFF")
	b.exec(t, "SET GLOBAL partial_revokes = OFF")
	l.Grant(t, read)
	c := l.Credential(t)
	only := func(when string) {
		t.Helper()
		if err := b.as(t, c, "SELECT * FROM a_b.t_1"); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		if err := b.as(t, c, "SELECT * FROM axb.t_1"); !denied(err) {
			t.Errorf("%s: axb can be read: %v", when, err)
		}
	}
	verified := func(when string, want access.Outcome) {
		t.Helper()
		entries, err := l.Verify(t.Context(), l.Account, []access.Entitlement{read})
		if err != nil || entries[0].Outcome != want {
			t.Errorf("%s: %+v, %v; want %s", when, entries, err, want)
		}
	}
	only("without partial_revokes")
	// The setting changes under a grant that is there: it is mended.
	for _, setting := range []string{"ON", "OFF"} {
		b.exec(t, "SET GLOBAL partial_revokes = "+setting)
		verified("after the change to "+setting, access.Lowered)
		if _, err := l.Integration.(integrations.Maintainer).Maintain(t.Context()); err != nil {
			t.Error(err)
		}
		verified("after maintenance with "+setting, access.Granted)
		only("with partial_revokes " + setting)
		other := at(t, b.target())
		other.Grant(t, read)
		if o := (&observer{b}); !o.Can(t, other.Account, read) || o.Can(t, other.Account, entitlement("read_only", "database", "axb")) {
			t.Errorf("a grant with partial_revokes %s does not give just what was asked", setting)
		}
	}
	l.Revoke(t, read)
}

func tableOfPattern(t *testing.T, b *bed) {
	l := at(t, b.target())
	read := entitlement("read_only", "table", "a_b", "t_1")
	l.Grant(t, read)
	c := l.Credential(t)
	if err := b.as(t, c, "SELECT * FROM a_b.t_1"); err != nil {
		t.Error(err)
	}
	if err := b.as(t, c, "SELECT * FROM axb.t_1"); !denied(err) {
		t.Errorf("axb can be read: %v", err)
	}
	if entry := l.Revoke(t, read); entry.Outcome != access.Gone || (&observer{b}).Can(t, l.Account, read) {
		t.Errorf("%+v", entry)
	}
}

func currentDatabase(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, writeShop, writeLake)
	_, s := b.open(t, l.Credential(t), "shop", "SELECT * FROM orders")
	l.Revoke(t, writeShop)
	if s.Alive() {
		t.Error("the session goes on")
	}
}

// reconnectLoop has clients that log in as fast as they can while access ends.
func reconnectLoop(t *testing.T, b *bed) {
	l := at(t, b.target())
	for range 5 {
		l.Grant(t, readShop)
		c := l.Credential(t)
		var stop, over atomic.Bool
		var ins, lates, survivors atomic.Int64
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				for !stop.Load() {
					late := over.Load()
					conn, done, err := b.login(c, "")
					if err != nil {
						continue
					}
					ins.Add(1)
					if late {
						lates.Add(1)
					}
					if _, err := conn.ExecContext(context.Background(), "DO SLEEP(0.2)"); err == nil && over.Load() {
						if _, err := conn.ExecContext(context.Background(), "DO 1"); err == nil {
							survivors.Add(1)
						}
					}
					done()
				}
			})
		}
		time.Sleep(300 * time.Millisecond)
		l.Revoke(t, readShop)
		over.Store(true)
		time.Sleep(400 * time.Millisecond)
		stop.Store(true)
		wg.Wait()
		if ins.Load() == 0 || lates.Load() > 0 || survivors.Load() > 0 {
			t.Errorf("%d logins, %d of them after the revoke; %d sessions went on", ins.Load(), lates.Load(), survivors.Load())
		}
	}
}

// as another connector, made by a script of the setup.
func (b *bed) connector(t *testing.T, name, tier string, options describe.Options) integrations.Target {
	t.Helper()
	b.exec(t, "DROP USER IF EXISTS "+quote(name))
	all := describe.Options{"connector_name": {name}}
	for k, v := range options {
		all[k] = v
	}
	b.setUp(t, tier, all)
	t.Cleanup(func() { b.exec(t, "DROP USER "+quote(name)) })
	return b.target(func(_ *mysql.Config, s *mysql.Secret) { s.Username = name })
}

func readSet(t *testing.T, b *bed) {
	target := b.connector(t, "reader", "full", describe.Options{"permission": {"read_only"}})
	found, _ := certificationtest.Catalog(t, start(t, target))
	for _, r := range []string{"database:shop", "table:shop/orders"} {
		if got := found[r].Permissions; !slices.Equal(got, []string{"read_only"}) {
			t.Errorf("%s: %v is offered", r, got)
		}
	}
	l := at(t, target)
	l.Grant(t, readShop)
	before := value[string](t, b, "SELECT CONCAT(User_attributes, account_locked) FROM mysql.user WHERE User = ?", l.Account.Name)
	_, err := l.TryGrant(t, writeShop)
	if access.KindOf(err) != access.Privilege || !strings.Contains(err.Error(), "GRANT INSERT, UPDATE, DELETE") {
		t.Errorf("granting read_write: %v", err)
	}
	if after := value[string](t, b, "SELECT CONCAT(User_attributes, account_locked) FROM mysql.user WHERE User = ?", l.Account.Name); after != before {
		t.Errorf("the account was %s and is %s", before, after)
	}
	if (&observer{b}).Exists(t, principal.Role(instance, writeShop)) && value[int64](t, b, "SELECT COUNT(*) FROM mysql.role_edges WHERE TO_USER = ?", l.Account.Name) != 1 {
		t.Error("the account has another role")
	}
	// The seed's set has SELECT and no SHOW VIEW: read_only is still offered.
	b.exec(t, "REVOKE SHOW VIEW ON *.* FROM reader")
	other := at(t, target)
	if res := other.Grant(t, entitlement("read_only", "table", "shop", "items")); !says(res.Notes, "comes without SHOW VIEW") {
		t.Errorf("a grant without SHOW VIEW notes %v", res.Notes)
	}
}

func definerKept(t *testing.T, b *bed) {
	o := &observer{b}
	l := at(t, b.target())
	l.Grant(t, readShop)
	o.Own(t, l.Account)
	view := value[string](t, b, "SELECT VIEW_DEFINITION FROM information_schema.VIEWS WHERE TABLE_SCHEMA = 'kept'")
	l.Revoke(t, readShop)
	res := l.Delete(t)
	if res.Outcome != access.KeptDisabled || !says(res.Owns, "view kept.view") || !says(res.Owns, "event kept.later") || !says(res.Owns, "function kept.who") {
		t.Errorf("%+v", res)
	}
	if !o.Kept(t, l.Account) || value[string](t, b, "SELECT VIEW_DEFINITION FROM information_schema.VIEWS WHERE TABLE_SCHEMA = 'kept'") != view {
		t.Error("what the account defined is not as it was")
	}
	// The person comes back as another account, and the kept one stays closed.
	kept := l.Account.Name
	l.Account.Name = ""
	l.Grant(t, readShop)
	if l.Account.Name == kept || !o.Can(t, l.Account, readShop) || o.Can(t, access.Account{Name: kept}, readShop) {
		t.Errorf("%s came back as %s", kept, l.Account.Name)
	}
	// A connector that cannot see it is told by the server.
	b.exec(t, "DROP DATABASE kept")
	o.Own(t, l.Account)
	blind := b.connector(t, "blind", "full", describe.Options{"databases": {"shop"}})
	l.Integration = start(t, blind)
	l.Revoke(t, readShop)
	if res := l.Delete(t); res.Outcome != access.KeptDisabled || len(res.Owns) == 0 {
		t.Errorf("deleting what the connector cannot see: %+v", res)
	}
	b.exec(t, "DROP DATABASE kept")
	if res := l.Delete(t); res.Outcome != access.WasGone {
		t.Errorf("deleting again when nothing is defined any more: %+v", res)
	}
	// One that could drop it unseen does not.
	b.exec(t, "GRANT ALLOW_NONEXISTENT_DEFINER ON *.* TO blind")
	other := at(t, blind)
	other.Grant(t, readShop)
	other.Revoke(t, readShop)
	_, err := other.TryDelete(t)
	if access.KindOf(err) != access.Privilege || !strings.Contains(err.Error(), "REVOKE ALLOW_NONEXISTENT_DEFINER") {
		t.Errorf("deleting blindly: %v", err)
	}
}

func nameTaken(t *testing.T, b *bed) {
	o := &observer{b}
	l := at(t, b.target())
	name := principal.Account(instance, integration, l.Account.PersonID, l.Account.Email)
	o.Plant(t, name)
	if _, err := l.TryGrant(t, readShop); access.KindOf(err) != access.NameTaken || !o.Untouched(t, name) {
		t.Errorf("%v", err)
	}
	b.exec(t, "DROP USER "+quote(name))
	// At another host as well: there it would win over ours.
	b.exec(t, "CREATE USER "+quote(name)+"@`127.0.0.1` IDENTIFIED BY 'x'")
	if _, err := l.TryGrant(t, readShop); access.KindOf(err) != access.NameTaken {
		t.Errorf("at another host: %v", err)
	}
	b.exec(t, "DROP USER "+quote(name)+"@`127.0.0.1`")
}

// every is all the punctuation of ASCII.
const every = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ "

func punctuation(t *testing.T, b *bed) {
	password := "aA1" + every + "z"
	b.exec(t, "DROP USER IF EXISTS punctual", "CREATE USER punctual IDENTIFIED BY "+text(password))
	for _, mode := range []string{"disable", "preferred", "required", "verify-ca", "verify-full"} {
		target := b.target(func(c *mysql.Config, s *mysql.Secret) {
			c.TLSMode = mode
			s.Username, s.Password = "punctual", integrations.Secret(password)
		})
		if mode == "required" {
			target.Config.(*mysql.Config).CACertificate = ""
		}
		report, err := start(t, target).Check(t.Context())
		if err != nil || !report.Items[0].OK {
			t.Errorf("%s: %+v, %v", mode, report.Items, err)
		}
	}
	b.exec(t, "DROP USER punctual")
	// What Lapse makes, with a plugin of choice, with and without TLS.
	for _, plugin := range []string{"", "caching_sha2_password", "sha256_password"} {
		l := at(t, b.target(func(c *mysql.Config, _ *mysql.Secret) { c.AuthenticationPlugin = plugin }))
		if _, err := l.TryGrant(t, readShop); err != nil {
			if plugin == "sha256_password" && access.KindOf(err) == access.Auth {
				continue // not in this server
			}
			t.Fatalf("%s: %v", plugin, err)
		}
		l.Credential(t)
	}
	require := at(t, b.target(func(c *mysql.Config, _ *mysql.Secret) { c.RequireTLS = true }))
	require.Grant(t, readShop)
	c := require.Credential(t)
	cfg, err := b.Config("")
	if err != nil {
		t.Fatal(err)
	}
	cfg.User, cfg.Passwd, cfg.TLS = c.Username, c.Password.Reveal(), nil
	plain, err := driver.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(plain)
	defer db.Close()
	if err := db.Ping(); err == nil {
		t.Error("an account that requires TLS logs in without it")
	}
}

func serverModes(t *testing.T, b *bed) {
	modes := value[string](t, b, "SELECT @@global.sql_mode")
	b.exec(t, "SET GLOBAL sql_mode = 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES,PIPES_AS_CONCAT'", "SET GLOBAL init_connect = 'SET sql_mode = ''NO_BACKSLASH_ESCAPES,ANSI_QUOTES'''")
	defer b.exec(t, "SET GLOBAL sql_mode = "+text(modes), "SET GLOBAL init_connect = ''")
	o := &observer{b}
	l := at(t, b.target())
	want := []access.Entitlement{entitlement("read_write", "database", hostile), entitlement("read_only", "table", hostile, hostile), entitlement("member", "role", hostileRole+"@%")}
	l.Grant(t, want...)
	b.exec(t, "SET GLOBAL sql_mode = "+text(modes))
	for _, e := range want {
		if !o.Can(t, l.Account, e) {
			t.Errorf("%s cannot be used", e)
		}
	}
	b.exec(t, "SET GLOBAL sql_mode = 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES'")
	found, _ := certificationtest.Catalog(t, l.Integration)
	if len(found[want[0].Resource.String()].Permissions) != 3 {
		t.Errorf("the catalog has %v", found)
	}
	l.Credential(t)
	for _, e := range want {
		l.Revoke(t, e)
	}
	if res := l.Delete(t); res.Outcome != access.Gone {
		t.Errorf("%+v", res)
	}
}

func droppedDatabase(t *testing.T, b *bed) {
	o := &observer{b}
	l, still := at(t, b.target()), at(t, b.target())
	gone := entitlement("read_write", "database", "ephemeral")
	b.exec(t, "CREATE DATABASE ephemeral", "CREATE TABLE ephemeral.t (id int AUTO_INCREMENT PRIMARY KEY, at timestamp NULL)")
	l.Grant(t, gone)
	still.Grant(t, gone)
	b.exec(t, "DROP DATABASE ephemeral")
	if entry := l.Revoke(t, gone); entry.Outcome != access.Gone {
		t.Errorf("%+v", entry)
	}
	if entries, err := still.Verify(t.Context(), still.Account, []access.Entitlement{gone}); err != nil || entries[0].Outcome != access.Blocked {
		t.Errorf("verifying: %+v, %v", entries, err)
	}
	notes, err := l.Integration.(integrations.Maintainer).Maintain(t.Context())
	if err != nil || !says(notes, "not there any more") {
		t.Errorf("maintenance: %v, %v", notes, err)
	}
	b.exec(t, "CREATE DATABASE ephemeral", "CREATE TABLE ephemeral.t (id int AUTO_INCREMENT PRIMARY KEY, at timestamp NULL)")
	for _, who := range []*certificationtest.Holder{l, still} {
		if o.Can(t, who.Account, entitlement("read_only", "database", "ephemeral")) {
			t.Error("another database of the same name can be read")
		}
	}
	still.Revoke(t, gone)
	b.exec(t, "DROP DATABASE ephemeral")
}

func mandatoryRole(t *testing.T, b *bed) {
	b.exec(t, "CREATE ROLE `every one`, everyone2@localhost, optional", "SET GLOBAL mandatory_roles = '`every one`,everyone2@localhost'")
	defer b.exec(t, "SET GLOBAL mandatory_roles = ''", "DROP ROLE `every one`, everyone2@localhost, optional")
	found, _ := certificationtest.Catalog(t, start(t, b.target()))
	if _, ok := found["role:optional"]; !ok {
		t.Error("an ordinary role is not offered")
	}
	for _, name := range []string{"every one", "everyone2@localhost"} {
		if _, ok := found["role:"+name]; ok {
			t.Errorf("mandatory role %s is offered", name)
		}
		if _, err := at(t, b.target()).TryGrant(t, entitlement("member", "role", name)); access.KindOf(err) != access.Invalid {
			t.Errorf("granting %s: %v", name, err)
		}
	}
	if item := b.check(t, b.target())["mandatory_roles"]; !strings.Contains(item.Detail, "every one") {
		t.Errorf("check says %+v", item)
	}
}

func readOnlyServer(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, readShop)
	b.exec(t, "SET GLOBAL super_read_only = ON")
	item := b.check(t, b.target())["primary"]
	_, grantErr := l.TryGrant(t, writeShop)
	_, revokeErr := l.TryRevoke(t, readShop)
	b.exec(t, "SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF")
	if item.OK || !strings.Contains(item.Detail, "read-only") {
		t.Errorf("check says %+v", item)
	}
	if access.KindOf(grantErr) != access.Retry || access.KindOf(revokeErr) != access.Retry {
		t.Errorf("granting: %v; revoking: %v; want retry", grantErr, revokeErr)
	}
	l.Revoke(t, readShop)
}

func systemUser(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, readShop)
	b.exec(t, "GRANT SYSTEM_USER ON *.* TO "+quote(l.Account.Name))
	_, err := l.TryRevoke(t, readShop)
	if access.KindOf(err) != access.Privilege || !strings.Contains(err.Error(), "error 1227") {
		t.Errorf("revoking: %v", err)
	}
	if _, err := l.TryDelete(t); access.KindOf(err) != access.Privilege ||
		!strings.Contains(err.Error(), "GRANT SYSTEM_USER ON *.* TO `lapse`@`%`") {
		t.Errorf("deleting: %v", err)
	}
	if !(&observer{b}).Exists(t, l.Account.Name) {
		t.Error("the account is gone")
	}
	b.exec(t, "REVOKE SYSTEM_USER ON *.* FROM "+quote(l.Account.Name))
	l.Revoke(t, readShop)
}

func foreignLogins(t *testing.T, b *bed) {
	b.exec(t, "CREATE USER no_password", "CREATE USER locked ACCOUNT LOCK", "CREATE USER expired PASSWORD EXPIRE", "CREATE USER 'locked and expired' IDENTIFIED BY 'x' PASSWORD EXPIRE ACCOUNT LOCK")
	names := []string{"no_password", "locked", "expired", "locked and expired"}
	if b.try(t, "INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'") == nil {
		b.exec(t, "CREATE USER socket IDENTIFIED WITH auth_socket")
		names = append(names, "socket")
	}
	found, _ := certificationtest.Catalog(t, start(t, b.target()))
	for _, name := range names {
		if _, ok := found["role:"+name]; ok {
			t.Errorf("%s is offered as a role", name)
		}
		if _, err := at(t, b.target()).TryGrant(t, entitlement("member", "role", name)); access.KindOf(err) != access.Invalid {
			t.Errorf("granting %s: %v", name, err)
		}
		b.exec(t, "DROP USER "+quote(name))
	}
	if _, ok := found["role:analytics"]; !ok {
		t.Error("a real role is not offered")
	}
}

// TestLegacy runs the suite as on a server without roles.
func TestLegacy(t *testing.T) {
	t.Parallel()
	certificationtest.Cases(t, func(t *testing.T) *integrationtest.Harness { return legacyBed(t).legacyHarness() })
}

func legacyBed(t testing.TB) *bed {
	b := startBed(t, nil)
	b.furnish(t)
	b.setUp(t, "full", describe.Options{"version": {"5.7"}})
	return b
}

// legacyObserver leaves out what is about roles.
type legacyObserver struct {
	integrationtest.Observer
	integrationtest.LoginObserver
	integrationtest.SessionObserver
	integrationtest.PrincipalObserver
	integrationtest.OwnerObserver
	integrationtest.Administrator
}

func (b *bed) legacyHarness() *integrationtest.Harness {
	h := b.harness()
	h.Kind = mysql.Legacy()
	h.Existing = access.Entitlement{}
	notRole := func(e access.Entitlement) bool { return e.Resource.Type == "role" }
	h.Absent, h.Hostile = slices.DeleteFunc(h.Absent, notRole), slices.DeleteFunc(h.Hostile, notRole)
	o := &observer{b}
	h.Observer = legacyObserver{o, o, o, o, o, o}
	return h
}

// TestLegacyOrders is acceptance check 16: what remains is right in all six
// orders in which three entitlements on nested scopes can end, also when a
// revoke is repeated.
func TestLegacyOrders(t *testing.T) {
	t.Parallel()
	b := legacyBed(t)
	o := &observer{b}
	all := []access.Entitlement{readShop, entitlement("read_write", "table", "shop", "orders"), writeShop}
	for _, order := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		i, err := mysql.Legacy().New(b.target())
		if err != nil {
			t.Fatal(err)
		}
		l := &certificationtest.Holder{Integration: i, Account: someone()}
		l.Grant(t, all...)
		for _, n := range order {
			l.Revoke(t, all[n])
			l.Revoke(t, all[n])
			has := func(es ...access.Entitlement) bool {
				return slices.ContainsFunc(es, func(e access.Entitlement) bool { return slices.Contains(l.Holds, e) })
			}
			for _, want := range []struct {
				e  access.Entitlement
				ok bool
			}{
				{readShop, has(readShop, writeShop)},
				{writeShop, has(writeShop)},
				{entitlement("read_only", "table", "shop", "orders"), len(l.Holds) > 0},
				{all[1], has(all[1], writeShop)},
			} {
				if got := o.Can(t, l.Account, want.e); got != want.ok {
					t.Errorf("%v, after %v is left: %s is %t, want %t", order, l.Holds, want.e, got, want.ok)
				}
			}
		}
		if res := l.Delete(t); res.Outcome != access.Gone {
			t.Errorf("%+v", res)
		}
	}

	// Nobody gets at the marks.
	i, err := mysql.Legacy().New(b.target())
	if err != nil {
		t.Fatal(err)
	}
	l := &certificationtest.Holder{Integration: i, Account: someone()}
	found, _ := certificationtest.Catalog(t, i)
	for _, e := range []access.Entitlement{entitlement("read_write", "database", "lapse"), entitlement("read_only", "table", "lapse", "marks")} {
		if _, err := l.TryGrant(t, e); access.KindOf(err) != access.Invalid || found[e.Resource.String()].Permissions != nil {
			t.Errorf("%s: %v", e, err)
		}
	}
	if _, err := l.TryGrant(t, analytics); access.KindOf(err) != access.Unsupported {
		t.Errorf("granting a role: %v", err)
	}
}

// TestRealServer goes through the life of an account on a MySQL 5.7 or on a managed service. For
// example LAPSE_TEST_MYSQL="root:secret@tcp(db:3306)/?tls=skip-verify", an
// account that may do everything. A 5.7 has the table of the setup's script
// already. What is made there is dropped.
func TestRealServer(t *testing.T) {
	dsn := os.Getenv("LAPSE_TEST_MYSQL")
	if dsn == "" {
		t.Skip("LAPSE_TEST_MYSQL names no server")
	}
	cfg, err := driver.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	made, err := mysql.New(integrations.Target{Instance: instance, ID: integration, Config: &mysql.Config{Hostname: cfg.Addr, Port: 3306, TLSMode: "preferred",
		AccountHostPattern: "%", ManagedService: "auto", TerminateSessions: "always", StatementTimeout: access.Duration(30 * time.Second), MaxResources: 1000},
		Secret: &mysql.Secret{Username: cfg.User, Password: integrations.Secret(cfg.Passwd)}})
	if err != nil {
		t.Fatal(err)
	}
	report, err := made.Check(t.Context())
	if err != nil || !report.OK() {
		t.Fatalf("%+v, %v", report, err)
	}
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"CREATE DATABASE lapse_test", "CREATE TABLE lapse_test.t (id int)"} {
		if _, err := db.Exec(s); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		defer db.Close()
		if _, err := db.Exec("DROP DATABASE lapse_test"); err != nil {
			t.Error(err)
		}
	})
	l := &certificationtest.Holder{Integration: made, Account: someone()}
	read, write := entitlement("read_only", "database", "lapse_test"), entitlement("read_write", "table", "lapse_test", "t")
	l.Grant(t, read, write)
	c := l.Credential(t)
	cfg.User, cfg.Passwd, cfg.DBName = c.Username, c.Password.Reveal(), "lapse_test"
	person, err := driver.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	session := sql.OpenDB(person)
	defer session.Close()
	session.SetMaxOpenConns(1)
	if _, err := session.Exec("INSERT INTO t VALUES (1)"); err != nil {
		t.Error(err)
	}
	l.Revoke(t, write)
	if _, err := session.Exec("INSERT INTO t VALUES (1)"); err == nil {
		t.Error("writing goes on after the revoke")
	}
	if _, err := session.Exec("SELECT * FROM t"); err != nil {
		t.Error(err)
	}
	l.Revoke(t, read)
	if err := session.Ping(); err == nil {
		t.Error("the session goes on after the last revoke")
	}
	if res := l.Delete(t); res.Outcome != access.Gone {
		t.Errorf("%+v", res)
	}
}
