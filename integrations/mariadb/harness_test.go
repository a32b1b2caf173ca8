package mariadb_test

import (
	"context"
	"database/sql"
	"errors"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/integrations/mariadb"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/describe"
	"github.com/lapse-access/lapse/internal/localmysql"
	"github.com/lapse-access/lapse/internal/localmysql/localmysqltest"
	"github.com/lapse-access/lapse/internal/principal"
)

// The integration under test, and its connector.
const (
	instance      = "lapse-test"
	integration   = "maria-test"
	connector     = "lapse"
	connectorPass = "canary-connector-Pa55word"
)

// hostile is a name that wants to break out of everything.
const hostile = "we`ird';--\\ %s \"$1\" _ \tж \u202ex/*"

// bed is a real server with something on it, and root who looks.
type bed struct {
	*localmysql.Server
	root *sql.DB
}

// startBed starts an empty server.
func startBed(t testing.TB, bin localmysql.Binaries) *bed {
	t.Helper()
	b := &bed{Server: localmysqltest.StartVersion(t, bin, nil)}
	b.connect(t)
	return b
}

// connect opens root's connections, again after a restart.
func (b *bed) connect(t testing.TB) {
	t.Helper()
	var err error
	if b.root, err = b.Open(""); err != nil {
		t.Fatal(err)
	}
	root := b.root
	t.Cleanup(func() { root.Close() })
}

// newBed starts a server: databases shop and lake, hr with a table for each of the
// customer's roles, and one with a hostile name.
func newBed(t testing.TB, bin localmysql.Binaries) *bed {
	t.Helper()
	b := startBed(t, bin)
	tables := map[string][]string{"shop": {"orders", "items"}, "lake": {"events"}, "hr": {"analytics", hostile}, hostile: {hostile, "plain"}}
	for database, names := range tables {
		b.exec(t, "CREATE DATABASE "+quote(database))
		for _, name := range names {
			table := quote(database) + "." + quote(name)
			b.exec(t, "CREATE TABLE "+table+" (id INT AUTO_INCREMENT PRIMARY KEY, note VARCHAR(40))", "INSERT INTO "+table+" VALUES ()")
			if database == "hr" {
				b.exec(t, "CREATE ROLE "+quote(name), "GRANT SELECT ON "+table+" TO "+quote(name))
			}
		}
	}
	b.setUp(t, "full", describe.Options{"databases": {"shop", "lake", hostile}, "roles": {"analytics", hostile}})
	return b
}

// setUp makes the connector with the rights of a tier. It has nothing else.
func (b *bed) setUp(t testing.TB, tier string, options describe.Options) {
	t.Helper()
	b.exec(t, statements(certificationtest.Script(t, mariadb.Kind(), tier, options))...)
}

// statements are those of a script, with the password of the connector.
func statements(script string) (list []string) {
	for line := range strings.Lines(script) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "--") {
			list = append(list, strings.Replace(strings.TrimSuffix(line, ";"), "'...'", "'"+connectorPass+"'", 1))
		}
	}
	return list
}

// quote and account write names by themselves, not as the room does.
func quote(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

func account(name string) string { return quote(name) + "@" + quote("%") }

func (b *bed) exec(t integrationtest.T, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := b.root.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// value reads one value as root.
func value[V any](t integrationtest.T, b *bed, query string, args ...any) (v V) {
	t.Helper()
	if err := b.root.QueryRow(query, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

func (b *bed) exists(t integrationtest.T, query string, args ...any) bool {
	t.Helper()
	return value[bool](t, b, "SELECT EXISTS ("+query+")", args...)
}

// target is the integration as configured for the connector.
func (b *bed) target(change ...func(*mariadb.Config, *mariadb.Secret)) integrations.Target {
	ca, _ := os.ReadFile(b.CAFile)
	config := &mariadb.Config{Hostname: localmysql.Host, Port: b.Port, TLSMode: "verify-full", CACertificate: string(ca),
		AccountHostPattern: "%", AdminRoleName: "lapse_admin", TerminateSessions: "always",
		StatementTimeout: access.Duration(30 * time.Second), MaxResources: 10000}
	secret := &mariadb.Secret{Username: connector, Password: connectorPass}
	for _, c := range change {
		c(config, secret)
	}
	return integrations.Target{Instance: instance, ID: integration, Name: "test", Config: config, Secret: secret}
}

func entitlement(permission, typ string, names ...string) access.Entitlement {
	return access.Entitlement{Integration: integration, Resource: access.NewResource(typ, names...), Permission: permission}
}

// someone is a person of whom the server knows nothing.
func someone() access.Account { return certificationtest.Someone(integration) }

// harness is the bed as the suite takes it.
func (b *bed) harness() *integrationtest.Harness {
	return &integrationtest.Harness{
		Kind:   mariadb.Kind(),
		Target: b.target(),
		Person: func(integrationtest.T) access.Account { return someone() },
		Chains: [][]access.Entitlement{
			{entitlement("read_only", "database", "shop"), entitlement("read_write", "database", "shop"), entitlement("admin", "database", "shop")},
			{entitlement("read_only", "table", "shop", "orders"), entitlement("read_only", "database", "shop")},
			{entitlement("read_only", "table", "lake", "events"), entitlement("read_write", "table", "lake", "events"), entitlement("admin", "table", "lake", "events")},
		},
		Apart: [2]access.Entitlement{entitlement("read_only", "database", "shop"), entitlement("read_write", "database", "lake")},
		Absent: []access.Entitlement{
			entitlement("read_only", "database", "nowhere"), entitlement("read_only", "table", "shop", "nowhere"), entitlement("member", "role", "nobody"),
		},
		Hostile: []access.Entitlement{
			entitlement("read_write", "database", hostile), entitlement("admin", "table", hostile, hostile), entitlement("member", "role", hostile),
		},
		Existing: entitlement("member", "role", "analytics"),
		Canaries: []string{connectorPass},
		Wrong: func() integrations.Target {
			return b.target(func(_ *mariadb.Config, s *mariadb.Secret) { s.Password = "canary-wrong" })
		},
		Address: net.JoinHostPort(localmysql.Host, strconv.Itoa(b.Port)),
		Changes: certificationtest.MySQL,
		Via: func(address string) integrations.Target {
			// Without TLS a turn of the proxy is a message of the protocol.
			return b.target(func(c *mariadb.Config, _ *mariadb.Secret) { *c = through(*c, address) })
		},
		Sequenced: true,
		Observer:  &observer{bed: b},
	}
}

func through(c mariadb.Config, address string) mariadb.Config {
	host, port, _ := net.SplitHostPort(address)
	c.Hostname, c.TLSMode = host, "disable"
	c.Port, _ = strconv.Atoi(port)
	return c
}

// observer looks as root, and logs in as people.
type observer struct{ *bed }

var _ interface {
	integrationtest.Observer
	integrationtest.LoginObserver
	integrationtest.SessionObserver
	integrationtest.HandObserver
	integrationtest.PrincipalObserver
	integrationtest.Planter
	integrationtest.OwnerObserver
	integrationtest.Forgetter
	integrationtest.Closer
} = (*observer)(nil)

// refused are the numbers by which MariaDB says that a right is missing.
var refused = []uint16{1044, 1142, 1143, 1227, 1370}

// Can does in every table of the resource what the permission is about, by a login
// as the account. For that moment root gives it another password and unlocks it,
// so that the lock hides nothing.
func (o *observer) Can(t integrationtest.T, a access.Account, e access.Entitlement) bool {
	t.Helper()
	names, err := e.Resource.Names()
	if err != nil {
		t.Fatalf("%v", err)
	}
	tables := [][2]string{{"hr", names[0]}}
	switch e.Resource.Type {
	case "table":
		tables = [][2]string{{names[0], names[1]}}
	case "database":
		tables = nil
		for _, name := range o.tables(t, names[0]) {
			tables = append(tables, [2]string{names[0], name})
		}
	}
	var doing []string
	for n, name := range tables {
		table := quote(name[0]) + "." + quote(name[1])
		switch e.Permission {
		case "read_only", "member":
			doing = append(doing, "SELECT * FROM "+table+" LIMIT 1")
		case "read_write":
			doing = append(doing, "START TRANSACTION", "INSERT INTO "+table+" VALUES ()", "ROLLBACK")
		case "admin":
			doing = append(doing, "ALTER TABLE "+table+" COMMENT = ''")
			if e.Resource.Type == "database" {
				tried := quote(name[0]) + ".tried_" + strconv.Itoa(n)
				doing = append(doing, "CREATE TABLE "+tried+" (id INT)", "DROP TABLE "+tried)
			}
		}
	}
	conn := o.as(t, a.Name)
	if conn == nil {
		return false
	}
	defer conn.Close()
	for _, s := range doing {
		_, err := conn.Exec(s)
		if e, ok := errors.AsType[*mysql.MySQLError](err); ok && slices.Contains(refused, e.Number) {
			return false
		}
		if err != nil {
			t.Fatalf("trying %s: %s: %v", e, s, err)
		}
	}
	return len(doing) > 0
}

const observerPass = "observer-Pa55word"

// as logs in as an account; nil when there is none.
func (o *observer) as(t integrationtest.T, name string) *sql.DB {
	t.Helper()
	var hash string
	var locked bool
	err := o.root.QueryRow(`SELECT JSON_VALUE(Priv, '$.authentication_string'), COALESCE(JSON_VALUE(Priv, '$.account_locked'), '0') = '1'
		FROM mysql.global_priv WHERE User = ? AND Host = '%'`, name).Scan(&hash, &locked)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	back := " ACCOUNT UNLOCK"
	if locked {
		back = " ACCOUNT LOCK"
	}
	o.exec(t, "ALTER USER "+account(name)+" IDENTIFIED VIA mysql_native_password USING PASSWORD('"+observerPass+"') ACCOUNT UNLOCK")
	defer o.exec(t, "ALTER USER "+account(name)+" IDENTIFIED VIA mysql_native_password USING '"+hash+"'"+back)
	conn, err := o.login(name, observerPass, "")
	if err != nil {
		t.Fatalf("logging in as %s: %v", name, err)
	}
	return conn
}

// tables of a database, without its views.
func (o *observer) tables(t integrationtest.T, database string) (out []string) {
	rows, err := o.root.Query("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_TYPE = 'BASE TABLE' ORDER BY 1", database)
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatalf("%v", err)
		}
		out = append(out, name)
	}
	return out
}

// login connects as a person does, by one connection.
func (b *bed) login(name, password, database string) (*sql.DB, error) {
	c, err := b.Config(database)
	if err != nil {
		return nil, err
	}
	c.User, c.Passwd = name, password
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(1)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := db.PingContext(ctx); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

func (o *observer) CanLogin(t integrationtest.T, c integrations.Credential) bool {
	conn, err := o.login(c.Username, c.Password.Reveal(), "")
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// session is a thread of the server.
type session struct {
	o  *observer
	t  integrationtest.T
	id int64
}

func (s session) Alive() bool {
	return s.o.exists(s.t, "SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = ?", s.id)
}

func (o *observer) Open(t integrationtest.T, c integrations.Credential, e access.Entitlement) map[string]integrationtest.Session {
	names, _ := e.Resource.Names()
	read := "SELECT * FROM " + quote(names[0]) + "." + quote(o.tables(t, names[0])[0])
	role := value[string](t, o.bed, "SELECT JSON_VALUE(Priv, '$.default_role') FROM mysql.global_priv WHERE User = ?", c.Username)
	carries := value[string](t, o.bed, "SELECT MIN(Role) FROM mysql.roles_mapping WHERE User = ?", role)
	open := map[string]integrationtest.Session{}
	for sort, statements := range map[string][]string{
		"idle":                  {read},
		"in a database":         {"USE " + quote(names[0]), read},
		"idle in a transaction": {"START TRANSACTION", read},
		"with a locked table":   {"SET lock_wait_timeout = 5", "CREATE TEMPORARY TABLE IF NOT EXISTS lake.mine AS " + read},
		"with the role set":     {"SET ROLE " + quote(role), read},
		"busy":                  {"SELECT SLEEP(600)"},
	} {
		conn, err := o.login(c.Username, c.Password.Reveal(), "")
		if err != nil {
			t.Fatalf("logging in: %v", err)
		}
		t.Cleanup(func() { conn.Close() })
		s := session{o: o, t: t}
		if err := conn.QueryRow("SELECT CONNECTION_ID()").Scan(&s.id); err != nil {
			t.Fatalf("%v", err)
		}
		open[sort] = s
		if sort == "busy" {
			go conn.Exec(statements[0])
			continue
		}
		if sort == "with a locked table" {
			conn.Exec(statements[1]) // refused unless lake is held as well
			continue
		}
		for _, s := range statements {
			if _, err := conn.Exec(s); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
		if sort == "idle" {
			if _, err := conn.Exec("SET ROLE " + quote(carries)); err == nil {
				t.Errorf("a person could set Lapse's role")
			}
		}
	}
	return open
}

func (o *observer) Give(t integrationtest.T, a access.Account) {
	o.exec(t, "GRANT analytics TO "+account(a.Name))
}

// Given looks at the account's roles, and at those of its default role.
func (o *observer) Given(t integrationtest.T, a access.Account) bool {
	return o.exists(t, `SELECT 1 FROM mysql.roles_mapping m JOIN mysql.global_priv g ON g.User = ? AND g.Host = '%'
		WHERE m.Role = 'analytics' AND ((m.User = g.User AND m.Host = g.Host) OR (m.User = JSON_VALUE(g.Priv, '$.default_role') AND m.Host = ''))`, a.Name)
}

func (o *observer) Exists(t integrationtest.T, name string) bool {
	return o.exists(t, "SELECT 1 FROM mysql.global_priv WHERE User = ?", name)
}

const plantedPass = "planted-Pa55word"

func (o *observer) Plant(t integrationtest.T, name string) {
	o.exec(t, "CREATE USER "+account(name)+" IDENTIFIED BY '"+plantedPass+"'")
}

func (o *observer) Untouched(t integrationtest.T, name string) bool {
	return o.CanLogin(t, integrations.Credential{Username: name, Password: plantedPass}) &&
		!o.exists(t, "SELECT 1 FROM mysql.roles_mapping WHERE User = ?", name) &&
		o.exists(t, "SELECT 1 FROM mysql.global_priv WHERE User = ? AND JSON_VALUE(Priv, '$.max_connections') IS NULL", name)
}

// Own makes the account the definer of a view, and of a trigger that works because
// somebody gave the account itself what the trigger needs.
func (o *observer) Own(t integrationtest.T, a access.Account) {
	definer := "CREATE OR REPLACE DEFINER = " + account(a.Name)
	o.exec(t, "CREATE DATABASE IF NOT EXISTS kept", "CREATE OR REPLACE TABLE kept.things (thing INT, at INT)", "INSERT INTO kept.things VALUES (42, 0)",
		"GRANT SELECT, UPDATE, TRIGGER ON kept.things TO "+account(a.Name),
		definer+" VIEW kept.seen AS SELECT thing FROM kept.things",
		definer+" TRIGGER kept.set_at BEFORE INSERT ON kept.things FOR EACH ROW SET NEW.at = 7")
}

func (o *observer) Kept(t integrationtest.T, a access.Account) bool {
	o.exec(t, "INSERT INTO kept.things (thing) VALUES (1)", "DELETE FROM kept.things WHERE thing = 1 AND at = 7")
	return value[int](t, o.bed, "SELECT SUM(thing) FROM kept.seen") == 42 &&
		o.exists(t, `SELECT 1 FROM information_schema.TRIGGERS r JOIN mysql.global_priv g ON CONCAT(g.User, '@', g.Host) = r.DEFINER
			WHERE r.TRIGGER_SCHEMA = 'kept' AND JSON_VALUE(g.Priv, '$.account_locked') = '1'
			AND NOT EXISTS (SELECT 1 FROM mysql.roles_mapping m WHERE m.User = g.User AND m.Host = g.Host AND m.Role NOT LIKE 'lapse\_t:%')`)
}

func (o *observer) Forget(t integrationtest.T, e access.Entitlement) {
	o.exec(t, "DROP ROLE IF EXISTS "+quote(principal.Role(instance, e)))
}

// Shut takes the administration of the roles that carry access to the resource
// from the connector. Nobody else has it, so that root writes into the table.
func (o *observer) Shut(t integrationtest.T, r access.Resource) (undo func()) {
	administer := func(is string) {
		for _, permission := range []string{"read_only", "read_write", "admin"} {
			role := principal.Role(instance, access.Entitlement{Integration: integration, Resource: r, Permission: permission})
			o.exec(t, "UPDATE mysql.roles_mapping SET Admin_option = '"+is+"' WHERE User = 'lapse_admin' AND Role = '"+role+"'")
		}
		o.exec(t, "FLUSH PRIVILEGES")
	}
	administer("N")
	return func() { administer("Y") }
}
