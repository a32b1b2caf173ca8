package main

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/mariadb"
	"github.com/lapse-access/lapse/internal/describe"
	"github.com/lapse-access/lapse/internal/localmysql"
	"github.com/lapse-access/lapse/internal/localmysql/localmysqltest"
)

const mariaPassword = "canary-mariadb-Pa55word"

// TestBundle asks for access on two systems in one request, a PostgreSQL and a
// MariaDB.
func TestBundle(t *testing.T) {
	server := localmysqltest.Start(t, localmysql.MariaDB)
	admin, err := server.Open("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { admin.Close() })
	maria := &marias{t: t, server: server, admin: admin}
	maria.setUp()
	secret := filepath.Join(t.TempDir(), "mariadb.json")
	if err := os.WriteFile(secret, fmt.Appendf(nil, `{"username": "lapse", "password": %q}`, mariaPassword), 0o600); err != nil {
		t.Fatal(err)
	}
	bundle := func(f func(*testing.T, *system, *marias)) func(*testing.T, *system) {
		return func(t *testing.T, s *system) { f(t, s, maria) }
	}
	endToEnd(t, []part{
		{"both are granted, used and given back", bundle(bundled)},
		{"one of them cannot be granted", bundle(bundledInPart)},
	}, func(yaml string, _ []byte) string {
		yaml = strings.Replace(yaml, "access_flows:\n", fmt.Sprintf(`  - name: prod-my
    kind: mariadb
    config: {hostname: 127.0.0.1, port: %d}
    secret: {store: file, key: %s}
    user_cleanup_days: 0.00007
    integration_owner: {attribute: group, values: [dba]}
access_flows:
`, server.Port, secret), 1)
		return strings.Replace(yaml, "    targets:\n", "    targets:\n      - {integration: prod-my, resources: [\"database:*\"], permissions: [read_only]}\n", 1)
	})
}

// marias is the MariaDB of the test, and who administers it.
type marias struct {
	t      *testing.T
	server *localmysql.Server
	admin  *sql.DB
}

func (m *marias) exec(statements ...string) {
	m.t.Helper()
	for _, s := range statements {
		if _, err := m.admin.ExecContext(m.t.Context(), s); err != nil {
			m.t.Fatalf("%s: %v", s, err)
		}
	}
}

// setUp makes what people ask for, and the connector by the script that
// describe prints.
func (m *marias) setUp() {
	m.t.Helper()
	m.exec("CREATE DATABASE stock", "CREATE TABLE stock.items (id int)", "INSERT INTO stock.items VALUES (7)", "CREATE DATABASE passing")
	d, err := describe.New(mariadb.Kind(), describe.Options{"databases": {"stock", "passing"}})
	if err != nil {
		m.t.Fatal(err)
	}
	i := slices.IndexFunc(d.Setup, func(have integrations.Tier) bool { return have.Name == "full" })
	for line := range strings.Lines(d.Setup[i].Script) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "--") {
			m.exec(strings.Replace(strings.TrimSuffix(line, ";"), "'...'", "'"+mariaPassword+"'", 1))
		}
	}
}

// login opens a session of a person.
func (m *marias) login(c access.Credential) (*sql.Conn, error) {
	config, err := m.server.Config("stock")
	if err != nil {
		return nil, err
	}
	config.User, config.Passwd = c.Username, c.Password
	db, err := sql.Open("mysql", config.FormatDSN())
	if err != nil {
		return nil, err
	}
	m.t.Cleanup(func() { db.Close() })
	return db.Conn(m.t.Context())
}

func (s *system) askBoth(database string) shown {
	s.t.Helper()
	return s.parse(s.must(ana, "request", "--want", "prod-pg/schema:shop/public=read_only", "--want", "prod-my/database:"+database+"=read_only", "--for", "5m", "--reason", "test"))
}

// hold is the one of a request on an integration.
func (r shown) hold(t *testing.T, integration string) (state access.State, why string) {
	t.Helper()
	for _, h := range r.Holds {
		if h.Integration == integration {
			return h.State, h.Error
		}
	}
	t.Fatalf("the request has nothing on %s: %+v", integration, r)
	return "", ""
}

// holds waits until the holds of a request, by integration, are in these states.
func (s *system) holds(t *testing.T, id string, want map[string]access.State) (r shown) {
	t.Helper()
	s.until(30*time.Second, func() error {
		r = s.show(id)
		for integration, state := range want {
			if is, why := r.hold(t, integration); is != state {
				return fmt.Errorf("%s is %s, want %s: %s", integration, is, state, why)
			}
		}
		return nil
	})
	return r
}

func bundled(t *testing.T, s *system, m *marias) {
	r := s.askBoth("stock")
	s.must(dan, "approve", r.ID)
	s.holds(t, r.ID, map[string]access.State{"prod-pg": access.StateActive, "prod-my": access.StateActive})
	if _, err := s.lapse(ana, "credentials", r.ID); err == nil || !strings.Contains(err.Error(), "prod-my, prod-pg") {
		t.Errorf("of two credentials none was named: %v", err)
	}
	pg, my := s.credentials(ana, r.ID, "--integration", "prod-pg"), s.credentials(ana, r.ID, "--integration", "prod-my")
	session, err := s.login(pg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := session.Exec(t.Context(), "SELECT FROM public.orders LIMIT 1"); err != nil {
		t.Error(err)
	}
	conn, err := m.login(my)
	if err != nil {
		t.Fatal(err)
	}
	var id int
	if err := conn.QueryRowContext(t.Context(), "SELECT id FROM stock.items").Scan(&id); err != nil || id != 7 {
		t.Errorf("reading on the MariaDB: %d, %v", id, err)
	}
	// Another credential for one of them leaves the other.
	again := s.credentials(ana, r.ID, "--integration", "prod-my", "--new")
	if _, err := m.login(again); err != nil {
		t.Error(err)
	}
	if _, err := s.login(pg); err != nil {
		t.Errorf("a new credential on prod-my has changed that on prod-pg: %v", err)
	}
	s.must(ana, "release", r.ID)
	s.wait(r.ID, access.StateEnded, 30*time.Second)
	if _, err := conn.ExecContext(t.Context(), "SELECT 1"); err == nil {
		t.Error("a session on the MariaDB outlived the revoke")
	}
	if _, err := m.login(again); err == nil {
		t.Error("the login on the MariaDB still works")
	}
	if _, err := s.login(pg); err == nil {
		t.Error("the login on the PostgreSQL still works")
	}
	s.gone(30 * time.Second)
}

// bundledInPart asks for a database that is dropped before the grant.
func bundledInPart(t *testing.T, s *system, m *marias) {
	r := s.askBoth("passing")
	m.exec("DROP DATABASE passing")
	s.must(dan, "approve", r.ID)
	r = s.holds(t, r.ID, map[string]access.State{"prod-pg": access.StateActive, "prod-my": access.StateFailed})
	if _, why := r.hold(t, "prod-my"); !strings.Contains(why, "passing") {
		t.Errorf("it does not say what failed: %q", why)
	}
	if r.State != access.StateActive {
		t.Errorf("a part is active, and the request is %s", r.State)
	}
	if _, err := s.login(s.credentials(ana, r.ID)); err != nil {
		t.Errorf("the rest is not usable: %v", err)
	}
	s.must(ana, "release", r.ID)
	s.until(30*time.Second, func() error {
		if r = s.show(r.ID); !r.State.Final() {
			return fmt.Errorf("the request is %s", r.State)
		}
		return nil
	})
	s.gone(30 * time.Second)
	s.until(30*time.Second, func() (err error) {
		var left string
		err = m.admin.QueryRowContext(t.Context(), `SELECT coalesce(group_concat(User), '') FROM mysql.user WHERE User LIKE 'lapse\_ana%'`).Scan(&left)
		if err == nil && left != "" {
			err = fmt.Errorf("left on the MariaDB: %s", left)
		}
		return err
	})
}
