package postgresql_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/integrations/postgresql"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/describe"
	"github.com/lapse-access/lapse/internal/localpg"
	"github.com/lapse-access/lapse/internal/localpg/localpgtest"
	"github.com/lapse-access/lapse/internal/principal"
)

// The integration under test, and its connector.
const (
	instance      = "lapse-test"
	integration   = "pg-test"
	connector     = "lapse"
	connectorPass = "canary-connector-Pa55word"
)

// hostile is a name that wants to break out of everything.
const hostile = "we\"ird';--\\ %s $1 \t😀 \u202ex/*"

// bed is a real server with something on it, and the superuser who looks.
type bed struct {
	*localpg.Server
	mu    sync.Mutex
	conns map[string]*pgx.Conn // the superuser's, by database
}

// setUp makes the connector with the rights of a tier. It has nothing else.
func (b *bed) setUp(t testing.TB, tier string, options describe.Options) {
	t.Helper()
	script := strings.Replace(certificationtest.Script(t, postgresql.Kind(), tier, options), "'...'", "'"+connectorPass+"'", 1)
	if err := b.try(t, "postgres", script); err != nil {
		t.Fatalf("%s\n%v", script, err)
	}
}

// startBed starts an empty server.
func startBed(t testing.TB, version int) *bed {
	t.Helper()
	b := &bed{Server: localpgtest.Start(t, version), conns: map[string]*pgx.Conn{}}
	t.Cleanup(func() {
		for _, c := range b.conns {
			c.Close(context.Background())
		}
	})
	return b
}

// newBed starts a server: database shop with two schemas, lake with one, hr
// with a table for each of the customer's roles, and one with a hostile name.
func newBed(t testing.TB, version int) *bed {
	t.Helper()
	b := startBed(t, version)
	b.exec(t, "postgres", "CREATE ROLE app_owner", "CREATE ROLE analytics", "CREATE ROLE "+quote(hostile))
	b.setUp(t, "full", describe.Options{"owner_roles": {"app_owner"}, "roles": {"analytics", hostile}})
	tables := map[string][]string{
		"shop":  {"public.orders", "public.items", "crm.people"},
		"lake":  {"raw.events"},
		"hr":    {"reports.analytics", "reports." + quote(hostile)},
		hostile: {quote(hostile) + "." + quote(hostile), quote(hostile) + ".plain"},
	}
	for database, names := range tables {
		b.exec(t, "postgres", "CREATE DATABASE "+quote(database)+" OWNER app_owner")
		for _, name := range names {
			schema, table, _ := strings.Cut(name, ".")
			b.exec(t, database,
				"CREATE SCHEMA IF NOT EXISTS "+schema+" AUTHORIZATION app_owner",
				"SET ROLE app_owner",
				"CREATE TABLE "+name+" (id serial PRIMARY KEY, at timestamptz DEFAULT now())",
				"INSERT INTO "+name+" DEFAULT VALUES",
				"RESET ROLE")
			if database == "hr" {
				b.exec(t, database, "GRANT USAGE ON SCHEMA reports TO "+table, "GRANT SELECT ON "+name+" TO "+table)
			}
		}
	}
	return b
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

func (b *bed) conn(t integrationtest.T, database string) *pgx.Conn {
	c, ok := b.conns[database]
	if ok && !c.IsClosed() {
		return c
	}
	cfg, err := pgx.ParseConfig(b.URL("postgres"))
	if err != nil {
		t.Fatalf("%v", err)
	}
	cfg.Database = database
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	c, err = pgx.ConnectConfig(context.Background(), cfg)
	if err != nil {
		t.Fatalf("connecting the superuser to %s: %v", database, err)
	}
	b.conns[database] = c
	return c
}

// try runs statements as the superuser, in one transaction.
func (b *bed) try(t integrationtest.T, database string, statements ...string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.conn(t, database)
	_, err := c.PgConn().Exec(context.Background(), strings.Join(statements, ";\n")).ReadAll()
	if err != nil && !c.IsClosed() {
		c.PgConn().Exec(context.Background(), "ROLLBACK").ReadAll()
	}
	return err
}

func (b *bed) exec(t integrationtest.T, database string, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if err := b.try(t, database, s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// value reads one value as the superuser.
func value[V any](t integrationtest.T, b *bed, database, query string, args ...any) V {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	rows, err := b.conn(t, database).Query(context.Background(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[V])
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

// target is the integration as configured for the connector.
func (b *bed) target(change ...func(*postgresql.Config, *postgresql.Secret)) integrations.Target {
	ca, _ := os.ReadFile(b.CAFile)
	config := &postgresql.Config{Hostname: localpg.Host, Port: b.Port, DatabaseName: "postgres", SSLMode: "verify-full",
		CACertificate: string(ca), OwnerRoles: []string{"app_owner"}, TerminateSessions: "always",
		StatementTimeout: access.Duration(30 * time.Second), MaxResources: 10000}
	secret := &postgresql.Secret{Username: connector, Password: connectorPass}
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
		Kind:   postgresql.Kind(),
		Target: b.target(),
		Person: func(integrationtest.T) access.Account { return someone() },
		Chains: [][]access.Entitlement{
			{entitlement("read_only", "schema", "shop", "public"), entitlement("read_write", "schema", "shop", "public"), entitlement("admin", "schema", "shop", "public")},
			{entitlement("read_only", "table", "shop", "public", "orders"), entitlement("read_only", "schema", "shop", "public"), entitlement("read_only", "database", "shop")},
		},
		Apart: [2]access.Entitlement{entitlement("read_only", "schema", "shop", "public"), entitlement("read_write", "schema", "lake", "raw")},
		Absent: []access.Entitlement{
			entitlement("read_only", "database", "nowhere"), entitlement("read_only", "schema", "shop", "nowhere"),
			entitlement("read_only", "table", "shop", "public", "nowhere"), entitlement("member", "role", "nobody"),
		},
		Hostile: []access.Entitlement{
			entitlement("read_write", "database", hostile), entitlement("read_only", "schema", hostile, hostile),
			entitlement("admin", "table", hostile, hostile, hostile), entitlement("member", "role", hostile),
		},
		Existing: entitlement("member", "role", "analytics"),
		Canaries: []string{connectorPass},
		Wrong: func() integrations.Target {
			return b.target(func(_ *postgresql.Config, s *postgresql.Secret) { s.Password = "canary-wrong" })
		},
		Address: net.JoinHostPort(localpg.Host, strconv.Itoa(b.Port)),
		Changes: certificationtest.PostgreSQL,
		Via: func(address string) integrations.Target {
			// Without TLS a turn of the proxy is a message of the protocol.
			return b.target(func(c *postgresql.Config, _ *postgresql.Secret) { *c = through(*c, address) })
		},
		Sequenced: true,
		Observer:  &observer{bed: b},
	}
}

func through(c postgresql.Config, address string) postgresql.Config {
	host, port, _ := net.SplitHostPort(address)
	c.Hostname, c.SSLMode = host, "disable"
	c.Port, _ = strconv.Atoi(port)
	return c
}

// observer looks as the superuser, and logs in as people.
type observer struct{ *bed }

var _ interface {
	integrationtest.Observer
	integrationtest.LoginObserver
	integrationtest.SessionObserver
	integrationtest.HandObserver
	integrationtest.PrincipalObserver
	integrationtest.OwnerObserver
	integrationtest.ExpiryObserver
	integrationtest.Forgetter
	integrationtest.Closer
} = (*observer)(nil)

// Can does in every table of the resource what the permission is about, with
// the account's rights, and rolls it back.
func (o *observer) Can(t integrationtest.T, a access.Account, e access.Entitlement) bool {
	t.Helper()
	if a.Name == "" || !o.Exists(t, a.Name) {
		return false
	}
	names, err := e.Resource.Names()
	if err != nil {
		t.Fatalf("%v", err)
	}
	database := names[0]
	var tables [][2]string
	switch e.Resource.Type {
	case "role":
		database, tables = "hr", [][2]string{{"reports", names[0]}}
	case "table":
		tables = [][2]string{{names[1], names[2]}}
	default:
		tables = o.tables(t, database, names[1:])
	}
	doing := []string{"BEGIN", "SET LOCAL SESSION AUTHORIZATION " + quote(a.Name)}
	for _, name := range tables {
		table := quote(name[0]) + "." + quote(name[1])
		switch e.Permission {
		case "read_only", "member":
			doing = append(doing, "SELECT * FROM "+table+" LIMIT 1")
		case "read_write":
			doing = append(doing, "INSERT INTO "+table+" DEFAULT VALUES")
		case "admin":
			doing = append(doing, "TRUNCATE "+table)
			if e.Resource.Type != "table" {
				doing = append(doing, "CREATE TABLE "+quote(name[0])+".tried_"+strconv.Itoa(len(doing))+" ()")
			}
		}
	}
	err = o.try(t, database, append(doing, "ROLLBACK")...)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "42501" {
		return false
	}
	if err != nil {
		t.Fatalf("trying %s: %v", e, err)
	}
	return true
}

// tables of a database, or of one of its schemas.
func (o *observer) tables(t integrationtest.T, database string, schema []string) (out [][2]string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	rows, err := o.conn(t, database).Query(context.Background(),
		`SELECT schemaname::text, tablename::text FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema') AND (cardinality($1::text[]) = 0 OR schemaname = ANY ($1))`,
		append([]string{}, schema...))
	if err != nil {
		t.Fatalf("%v", err)
	}
	var s, n string
	if _, err := pgx.ForEachRow(rows, []any{&s, &n}, func() error {
		out = append(out, [2]string{s, n})
		return nil
	}); err != nil {
		t.Fatalf("%v", err)
	}
	return out
}

// login connects as a person does, with what the credential says.
func (o *observer) login(c integrations.Credential, database string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig("host=localhost sslmode=disable user=x")
	if err != nil {
		return nil, err
	}
	port, _ := strconv.Atoi(c.Details["port"])
	if c.Details["port"] != strconv.Itoa(o.Port) {
		port = o.Port // the proxy of the test is not there any more
	}
	cfg.Host, cfg.Port, cfg.User, cfg.Password, cfg.Database = localpg.Host, uint16(port), c.Username, c.Password.Reveal(), database
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return pgx.ConnectConfig(ctx, cfg)
}

func (o *observer) CanLogin(t integrationtest.T, c integrations.Credential) bool {
	conn, err := o.login(c, c.Details["database"])
	if err != nil {
		return false
	}
	conn.Close(context.Background())
	return true
}

// session is a back end of the server.
type session struct {
	o   *observer
	t   integrationtest.T
	pid uint32
}

func (s session) Alive() bool {
	return value[bool](s.t, s.o.bed, "postgres", "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)", s.pid)
}

func (o *observer) Open(t integrationtest.T, c integrations.Credential, e access.Entitlement) map[string]integrationtest.Session {
	names, _ := e.Resource.Names()
	table := o.tables(t, names[0], names[1:])[0]
	read := "SELECT * FROM " + quote(table[0]) + "." + quote(table[1])
	role := "SET ROLE " + quote(value[string](t, o.bed, "postgres", `SELECT r.rolname::text FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid
		WHERE m.member = $1::regrole AND r.rolname LIKE 'lapse\_e\_%' ORDER BY 1 LIMIT 1`, c.Username))
	sorts := map[string][]string{
		"idle":                  {read},
		"idle in a transaction": {"BEGIN", read},
		"with an open cursor":   {"BEGIN", "DECLARE kept CURSOR FOR " + read, "FETCH 1 FROM kept"},
		"with a temporary copy": {"CREATE TEMPORARY TABLE mine AS " + read},
		"with the role set":     {role, read},
		"busy":                  {"SELECT pg_sleep(600)"},
	}
	if o.Bin.Major >= 16 {
		// Lapse gives its roles without SET there.
		delete(sorts, "with the role set")
	}
	open := map[string]integrationtest.Session{}
	for sort, statements := range sorts {
		conn, err := o.login(c, names[0])
		if err != nil {
			t.Fatalf("logging in: %v", err)
		}
		t.Cleanup(func() { conn.PgConn().Conn().Close() })
		open[sort] = session{o, t, conn.PgConn().PID()}
		if sort == "busy" {
			go conn.Exec(context.Background(), statements[0])
			continue
		}
		for _, s := range statements {
			if _, err := conn.Exec(context.Background(), s); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
		if o.Bin.Major >= 16 && sort == "idle" {
			if _, err := conn.Exec(context.Background(), role); err == nil {
				t.Errorf("a person could set Lapse's role")
			}
		}
	}
	return open
}

func (o *observer) Give(t integrationtest.T, a access.Account) {
	o.exec(t, "postgres", "GRANT analytics TO "+quote(a.Name))
}

func (o *observer) Given(t integrationtest.T, a access.Account) bool {
	return o.Can(t, a, entitlement("member", "role", "analytics"))
}

func (o *observer) Exists(t integrationtest.T, name string) bool {
	return value[bool](t, o.bed, "postgres", "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", name)
}

const plantedPass = "planted-Pa55word"

func (o *observer) Plant(t integrationtest.T, name string) {
	o.exec(t, "postgres", "CREATE ROLE "+quote(name)+" LOGIN PASSWORD '"+plantedPass+"'")
}

func (o *observer) Untouched(t integrationtest.T, name string) bool {
	c := integrations.Credential{Username: name, Password: plantedPass, Details: map[string]string{"database": "postgres"}}
	return o.CanLogin(t, c) && value[bool](t, o.bed, "postgres", `SELECT rolvaliduntil IS NULL AND shobj_description(oid, 'pg_authid') IS NULL
		AND NOT EXISTS (SELECT FROM pg_auth_members WHERE member = r.oid) FROM pg_roles r WHERE rolname = $1`, name)
}

// Own makes a table with a row, a schema, a database and a function that runs
// with its owner's rights.
func (o *observer) Own(t integrationtest.T, a access.Account) {
	owner := " OWNER TO " + quote(a.Name)
	o.exec(t, "postgres", "DROP DATABASE IF EXISTS kept", "CREATE DATABASE kept", "ALTER DATABASE kept"+owner)
	o.exec(t, "lake", "DROP SCHEMA IF EXISTS kept CASCADE", "CREATE SCHEMA kept",
		"CREATE TABLE kept.things AS SELECT 42 AS thing", "CREATE FUNCTION kept.who() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT current_user'",
		"ALTER TABLE kept.things"+owner, "ALTER FUNCTION kept.who()"+owner, "ALTER SCHEMA kept"+owner)
}

func (o *observer) Kept(t integrationtest.T, a access.Account) bool {
	return value[bool](t, o.bed, "lake", `SELECT count(*) = 4 AND count(DISTINCT r.oid) = 1 AND NOT bool_or(r.rolcanlogin) AND bool_and(r.rolname <> $1)
			AND NOT EXISTS (SELECT FROM pg_auth_members m WHERE m.member = ANY (array_agg(r.oid)))
			AND (SELECT thing FROM kept.things) = 42
		FROM (SELECT datdba FROM pg_database WHERE datname = 'kept' UNION ALL SELECT nspowner FROM pg_namespace WHERE nspname = 'kept'
			UNION ALL SELECT relowner FROM pg_class WHERE oid = 'kept.things'::regclass UNION ALL SELECT proowner FROM pg_proc WHERE oid = 'kept.who'::regproc) o(oid)
		JOIN pg_roles r USING (oid)`, a.Name)
}

func (o *observer) Forget(t integrationtest.T, e access.Entitlement) {
	role := principal.Role(instance, e)
	if !o.Exists(t, role) {
		return
	}
	for _, database := range []string{"shop", "lake", "hr", hostile, "postgres"} {
		o.exec(t, database, "DROP OWNED BY "+quote(role))
	}
	o.exec(t, "postgres", "DROP ROLE "+quote(role))
}

// Shut makes superusers of the roles that carry access to the resource, as which
// nobody logs in: the connector is none, and may not touch them any more.
func (o *observer) Shut(t integrationtest.T, r access.Resource) (undo func()) {
	alter := func(attribute string) {
		for _, permission := range []string{"read_only", "read_write", "admin"} {
			role := principal.Role(instance, access.Entitlement{Integration: integration, Resource: r, Permission: permission})
			if o.Exists(t, role) {
				o.exec(t, "postgres", "ALTER ROLE "+quote(role)+" "+attribute)
			}
		}
	}
	alter("SUPERUSER")
	return func() { alter("NOSUPERUSER") }
}

func (o *observer) Expiry(t integrationtest.T, a access.Account) time.Time {
	return value[time.Time](t, o.bed, "postgres", "SELECT rolvaliduntil FROM pg_roles WHERE rolname = $1", a.Name)
}
