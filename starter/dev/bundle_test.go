package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/localmysql"
)

// TestBundle asks for access on two systems in one request, a PostgreSQL and a
// MariaDB.
func TestBundle(t *testing.T) {
	var maria *mysqls
	bundle := func(f func(*testing.T, *system, *mysqls)) func(*testing.T, *system) {
		return func(t *testing.T, s *system) { f(t, s, maria) }
	}
	endToEnd(t, []part{
		{"both are granted, used and given back", bundle(bundled)},
		{"one of them cannot be granted", bundle(bundledInPart)},
		{"both are taken away by hand with Lapse stopped", bundle(lastResort)},
	}, func(yaml string, _ []byte) string {
		maria = startMySQL(t, localmysql.MariaDB, "prod-my")
		return maria.in(yaml) + "runbook: {every: 1s, keep: 3}\n"
	})
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

func bundled(t *testing.T, s *system, m *mysqls) {
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
func bundledInPart(t *testing.T, s *system, m *mysqls) {
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
