package mysql_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/integrations/mysql"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/describe"
	"github.com/lapse-access/lapse/internal/localmysql"
	"github.com/lapse-access/lapse/internal/localmysql/localmysqltest"
	"github.com/lapse-access/lapse/internal/principal"
)

// The integration under test, and its connector.
const (
	instance      = "lapse-test"
	integration   = "mysql-test"
	connector     = "lapse"
	connectorPass = "canary-connector-Pa55word"
)

// hostile is a name that wants to break out of everything and that MySQL allows.
const hostile = "we\"ird';--\\ %s `$1_ \tü\u202ex/*"

// hostileRole fits into the 32 characters of a role.
const hostileRole = "r\"ole';--\\%s `_\tü\u202e@/*"

// bed is a real server with something on it, and root, who looks.
type bed struct {
	*localmysql.Server
	root *sql.DB
	mu   sync.Mutex // one attempt at a time
}

// startBed starts an empty server, with settings of its own.
func startBed(t testing.TB, settings map[string]string) *bed {
	t.Helper()
	b := &bed{Server: localmysqltest.StartVersion(t, localmysqltest.Find(t, localmysql.MySQL), settings)}
	var err error
	if b.root, err = b.Open(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.root.Close() })
	b.exec(t, "CREATE DATABASE observer")
	return b
}

// setUp makes the connector with the rights of a tier. It has nothing else.
func (b *bed) setUp(t testing.TB, tier string, options describe.Options) {
	t.Helper()
	script := strings.Replace(certificationtest.Script(t, mysql.Kind(), tier, options), "'...'", "'"+connectorPass+"'", 1)
	for statement := range strings.SplitSeq(script, ";\n") {
		if lines := strings.TrimSpace(statement); lines != "" {
			b.exec(t, lines)
		}
	}
}

// newBed starts a server: database shop with three tables, sh_p beside it, lake
// with one table, hr with a table for each of the customer's roles, and one with
// a hostile name.
func newBed(t testing.TB) *bed {
	t.Helper()
	b := startBed(t, nil)
	b.furnish(t)
	b.setUp(t, "full", nil)
	return b
}

func (b *bed) furnish(t testing.TB) {
	t.Helper()
	for database, names := range map[string][]string{
		"shop": {"orders", "items", "people"}, "a_b": {"t_1"}, "axb": {"t_1"}, "lake": {"events"},
		"hr": {"analytics", "hostile"}, hostile: {hostile, "plain"},
	} {
		b.exec(t, "CREATE DATABASE "+quote(database))
		for _, name := range names {
			table := quote(database) + "." + quote(name)
			b.exec(t, "CREATE TABLE "+table+" (id int AUTO_INCREMENT PRIMARY KEY, at timestamp DEFAULT now())", "INSERT INTO "+table+" () VALUES ()")
		}
	}
	for name, table := range map[string]string{"analytics": "analytics", hostileRole: "hostile"} {
		b.exec(t, "CREATE ROLE "+quote(name), "GRANT SELECT ON hr."+table+" TO "+quote(name))
	}
}

func quote(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

func text(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(s) + "'"
}

// try runs statements as root, on one connection.
func (b *bed) try(t integrationtest.T, statements ...string) error {
	conn, err := b.root.Conn(context.Background())
	if err != nil {
		t.Fatalf("connecting root: %v", err)
	}
	defer conn.Close()
	for _, s := range statements {
		if _, err := conn.ExecContext(context.Background(), s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

func (b *bed) exec(t integrationtest.T, statements ...string) {
	t.Helper()
	if err := b.try(t, statements...); err != nil {
		t.Fatalf("%v", err)
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

// target is the integration as configured for the connector.
func (b *bed) target(change ...func(*mysql.Config, *mysql.Secret)) integrations.Target {
	ca, _ := os.ReadFile(b.CAFile)
	config := &mysql.Config{Hostname: localmysql.Host, Port: b.Port, TLSMode: "verify-full", CACertificate: string(ca),
		AccountHostPattern: "%", ManagedService: "auto", TerminateSessions: "always",
		StatementTimeout: access.Duration(30 * time.Second), MaxResources: 10000}
	secret := &mysql.Secret{Username: connector, Password: connectorPass}
	for _, c := range change {
		c(config, secret)
	}
	return integrations.Target{Instance: instance, ID: integration, Name: "test", Config: config, Secret: secret, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
}

func entitlement(permission, typ string, names ...string) access.Entitlement {
	return access.Entitlement{Integration: integration, Resource: access.NewResource(typ, names...), Permission: permission}
}

// someone is a person of whom the server knows nothing.
func someone() access.Account { return certificationtest.Someone(integration) }

// harness is the bed as the suite takes it.
func (b *bed) harness() *integrationtest.Harness {
	return &integrationtest.Harness{
		Kind:   mysql.Kind(),
		Target: b.target(),
		Person: func(integrationtest.T) access.Account { return someone() },
		Chains: [][]access.Entitlement{
			{entitlement("read_only", "database", "shop"), entitlement("read_write", "database", "shop"), entitlement("admin", "database", "shop")},
			{entitlement("read_only", "table", "shop", "orders"), entitlement("read_only", "database", "shop")},
		},
		Apart: [2]access.Entitlement{entitlement("read_only", "database", "shop"), entitlement("read_write", "database", "lake")},
		Absent: []access.Entitlement{
			entitlement("read_only", "database", "nowhere"), entitlement("read_only", "table", "shop", "nowhere"), entitlement("member", "role", "nobody"),
		},
		Hostile: []access.Entitlement{
			entitlement("read_write", "database", hostile), entitlement("admin", "table", hostile, hostile),
			entitlement("read_only", "database", "a_b"), entitlement("member", "role", hostileRole+"@%"),
		},
		Existing: entitlement("member", "role", "analytics"),
		Canaries: []string{connectorPass},
		Wrong: func() integrations.Target {
			return b.target(func(_ *mysql.Config, s *mysql.Secret) { s.Password = "canary-wrong" })
		},
		Address: net.JoinHostPort(localmysql.Host, strconv.Itoa(b.Port)),
		Changes: certificationtest.MySQL,
		Via: func(address string) integrations.Target {
			// Without TLS a turn of the proxy is a message of the protocol.
			return b.target(func(c *mysql.Config, _ *mysql.Secret) {
				host, port, _ := net.SplitHostPort(address)
				c.Hostname, c.TLSMode = host, "disable"
				c.Port, _ = strconv.Atoi(port)
			})
		},
		Sequenced: true,
		Observer:  &observer{bed: b},
	}
}

// observer looks as root, and logs in as people.
type observer struct{ *bed }

var _ interface {
	integrationtest.Observer
	integrationtest.LoginObserver
	integrationtest.SessionObserver
	integrationtest.HandObserver
	integrationtest.PrincipalObserver
	integrationtest.OwnerObserver
	integrationtest.Forgetter
	integrationtest.Closer
} = (*observer)(nil)

// refusals are the numbers of the errors with which the server refuses what an
// account may not do.
var refusals = []uint16{1044, 1142, 1143, 1227, 1370}

// Can does in every table of the resource what the permission is about, with
// the account's rights, also while it is locked: in a procedure of which it is
// the definer, as which it has its default roles. EXECUTE on that procedure is
// the one thing that the account is given for the attempt.
func (o *observer) Can(t integrationtest.T, a access.Account, e access.Entitlement) bool {
	t.Helper()
	if a.Name == "" || !o.Exists(t, a.Name) {
		return false
	}
	names, err := e.Resource.Names()
	if err != nil {
		t.Fatalf("%v", err)
	}
	var tables [][2]string
	switch e.Resource.Type {
	case "role":
		table := "analytics"
		if names[0] != "analytics" {
			table = "hostile"
		}
		tables = [][2]string{{"hr", table}}
	case "table":
		tables = [][2]string{{names[0], names[1]}}
	default:
		tables = o.tables(t, names[0])
	}
	var doing []string
	for n, name := range tables {
		table := quote(name[0]) + "." + quote(name[1])
		switch e.Permission {
		case "read_only", "member":
			doing = append(doing, "SELECT COUNT(*) INTO @seen FROM "+table)
		case "read_write":
			doing = append(doing, "START TRANSACTION", "INSERT INTO "+table+" () VALUES ()", "UPDATE "+table+" SET at = now()", "DELETE FROM "+table, "ROLLBACK")
		case "admin":
			doing = append(doing, "ALTER TABLE "+table+" COMMENT = 'tried'")
			if e.Resource.Type != "table" {
				tried := quote(name[0]) + ".tried_" + strconv.Itoa(n)
				doing = append(doing, "CREATE TABLE "+tried+" (id int)", "DROP TABLE "+tried)
			}
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	account := quote(a.Name) + "@`%`"
	defer o.exec(t, "DROP PROCEDURE IF EXISTS observer.attempt")
	o.exec(t, "CREATE DEFINER = "+account+" PROCEDURE observer.attempt() SQL SECURITY DEFINER BEGIN "+strings.Join(doing, "; ")+"; END",
		"GRANT EXECUTE ON PROCEDURE observer.attempt TO "+account)
	err = o.try(t, "CALL observer.attempt()")
	if e, ok := errors.AsType[*driver.MySQLError](err); ok && slices.Contains(refusals, e.Number) {
		o.try(t, "ROLLBACK")
		return false
	}
	if err != nil {
		t.Fatalf("trying %s: %v", e, err)
	}
	return true
}

// tables of a database.
func (b *bed) tables(t integrationtest.T, database string) (out [][2]string) {
	rows, err := b.root.Query("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_TYPE = 'BASE TABLE'", database)
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatalf("%v", err)
		}
		out = append(out, [2]string{database, name})
	}
	return out
}

// login connects as a person does, with what the credential says.
func (b *bed) login(c integrations.Credential, database string) (*sql.Conn, func(), error) {
	cfg, err := b.Config(database)
	if err != nil {
		return nil, nil, err
	}
	cfg.User, cfg.Passwd = c.Username, c.Password.Reveal()
	connector, err := driver.NewConnector(cfg)
	if err != nil {
		return nil, nil, err
	}
	db := sql.OpenDB(connector)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := db.Conn(ctx)
	if err != nil {
		db.Close()
		return nil, nil, err
	}
	return conn, func() { conn.Close(); db.Close() }, nil
}

func (b *bed) CanLogin(t integrationtest.T, c integrations.Credential) bool {
	_, done, err := b.login(c, "")
	if err != nil {
		return false
	}
	done()
	return true
}

// session is a connection as the server sees it.
type session struct {
	b  *bed
	t  integrationtest.T
	id int64
}

func (s session) Alive() bool {
	return value[bool](s.t, s.b, "SELECT EXISTS (SELECT * FROM performance_schema.processlist WHERE ID = ?)", s.id)
}

// open logs in and does something.
func (b *bed) open(t integrationtest.T, c integrations.Credential, database string, statements ...string) (*sql.Conn, session) {
	t.Helper()
	conn, done, err := b.login(c, database)
	if err != nil {
		t.Fatalf("logging in: %v", err)
	}
	t.Cleanup(done)
	s := session{b: b, t: t}
	if err := conn.QueryRowContext(context.Background(), "SELECT CONNECTION_ID()").Scan(&s.id); err != nil {
		t.Fatalf("%v", err)
	}
	for _, statement := range statements {
		if _, err := conn.ExecContext(context.Background(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	return conn, s
}

func (o *observer) Open(t integrationtest.T, c integrations.Credential, e access.Entitlement) map[string]integrationtest.Session {
	names, _ := e.Resource.Names()
	table := quote(names[0]) + "." + quote(o.tables(t, names[0])[0][1])
	read := "SELECT * FROM " + table
	open := map[string]integrationtest.Session{}
	for sort, statements := range map[string][]string{
		"idle":                    {read},
		"with a current database": {"USE " + quote(names[0]), read},
		"idle in a transaction":   {"START TRANSACTION", read},
		"with a prepared query":   {"PREPARE q FROM " + text(read), "EXECUTE q"},
		"with an open handler":    {"HANDLER " + table + " OPEN AS h"},
		"with a lock":             {"DO GET_LOCK('mine', 1)"},
		"without a role":          {read, "SET ROLE NONE"},
	} {
		_, open[sort] = o.open(t, c, "", statements...)
	}
	conn, busy := o.open(t, c, "", read)
	sleep, wake := context.WithCancel(context.Background())
	t.Cleanup(wake) // before the connection is closed, which waits for it
	go conn.ExecContext(sleep, "DO SLEEP(600)")
	open["busy"] = busy
	return open
}

func (o *observer) Give(t integrationtest.T, a access.Account) {
	o.exec(t, "GRANT analytics TO "+quote(a.Name), "SET DEFAULT ROLE ALL TO "+quote(a.Name))
}

func (o *observer) Given(t integrationtest.T, a access.Account) bool {
	return o.Can(t, a, entitlement("member", "role", "analytics"))
}

func (o *observer) Exists(t integrationtest.T, name string) bool {
	return value[bool](t, o.bed, "SELECT EXISTS (SELECT * FROM mysql.user WHERE User = ?)", name)
}

const plantedPass = "planted-Pa55word"

func (o *observer) Plant(t integrationtest.T, name string) {
	o.exec(t, "CREATE USER "+quote(name)+" IDENTIFIED BY '"+plantedPass+"'")
}

func (o *observer) Untouched(t integrationtest.T, name string) bool {
	return o.CanLogin(t, integrations.Credential{Username: name, Password: plantedPass}) &&
		value[bool](t, o.bed, `SELECT User_attributes IS NULL AND NOT EXISTS (SELECT * FROM mysql.role_edges WHERE TO_USER = u.User)
			AND NOT EXISTS (SELECT * FROM mysql.db WHERE User = u.User) FROM mysql.user u WHERE User = ?`, name)
}

// Own makes the account the definer of a view, a routine and an event.
func (o *observer) Own(t integrationtest.T, a access.Account) {
	by := " DEFINER = " + quote(a.Name) + "@`%` "
	o.exec(t, "DROP DATABASE IF EXISTS kept", "CREATE DATABASE kept", "CREATE TABLE kept.things AS SELECT 42 AS thing",
		"CREATE"+by+"VIEW kept.view AS SELECT thing FROM kept.things", "CREATE"+by+"FUNCTION kept.who() RETURNS int DETERMINISTIC RETURN 42",
		"CREATE"+by+"EVENT kept.later ON SCHEDULE EVERY 1 DAY DO DELETE FROM kept.things")
}

func (o *observer) Kept(t integrationtest.T, a access.Account) bool {
	return value[bool](t, o.bed, `SELECT COUNT(*) = 3 AND COUNT(DISTINCT DEFINER) = 1 AND MIN(u.account_locked) = 'Y' AND MIN(u.User) <> ?
			AND NOT EXISTS (SELECT * FROM mysql.role_edges WHERE TO_USER = MIN(u.User) OR FROM_USER = MIN(u.User))
			AND (SELECT thing FROM kept.things) = 42
		FROM (SELECT DEFINER FROM information_schema.VIEWS WHERE TABLE_SCHEMA = 'kept' UNION ALL SELECT DEFINER FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'kept'
			UNION ALL SELECT DEFINER FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'kept') d
		JOIN mysql.user u ON CONCAT(u.User, '@', u.Host) = d.DEFINER`, connector)
}

func (o *observer) Forget(t integrationtest.T, e access.Entitlement) {
	o.exec(t, "DROP USER IF EXISTS "+quote(principal.Role(instance, e)))
}

// Shut gives the roles that carry access to the resource the right SYSTEM_USER:
// a connector that does not have it may not take them from anybody any more.
func (o *observer) Shut(t integrationtest.T, r access.Resource) (undo func()) {
	each := func(statement string) {
		for _, permission := range []string{"read_only", "read_write", "admin"} {
			role := principal.Role(instance, access.Entitlement{Integration: integration, Resource: r, Permission: permission})
			if o.Exists(t, role) {
				o.exec(t, fmt.Sprintf(statement, quote(role)))
			}
		}
	}
	each("GRANT SYSTEM_USER ON *.* TO %s")
	return func() { each("REVOKE SYSTEM_USER ON *.* FROM %s") }
}
