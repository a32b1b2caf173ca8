package postgresql_test

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/postgresql"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/describe"
)

var (
	readVault = entitlement("read_only", "schema", "vault", "gold")
	writeShop = entitlement("read_write", "table", "shop", "public", "orders")
)

// newCustomer starts a server with what the setup is about, and a connector of a
// tier: things that app_owner owns, a role to hand out, and a database to which
// PUBLIC may not connect.
func newCustomer(t *testing.T, version int, tier string) *bed {
	t.Helper()
	b := startBed(t, version)
	b.exec(t, "postgres", "CREATE ROLE app_owner", "CREATE ROLE analytics")
	for database, table := range map[string]string{"shop": "public.orders", "vault": "gold.bars", "hr": "reports.analytics"} {
		schema, _, _ := strings.Cut(table, ".")
		b.exec(t, "postgres", "CREATE DATABASE "+database)
		b.exec(t, database, "CREATE SCHEMA IF NOT EXISTS "+schema, "ALTER SCHEMA "+schema+" OWNER TO app_owner",
			"CREATE TABLE "+table+" (id int)", "ALTER TABLE "+table+" OWNER TO app_owner")
	}
	b.exec(t, "hr", "GRANT USAGE ON SCHEMA reports TO analytics", "GRANT SELECT ON reports.analytics TO analytics")
	b.exec(t, "postgres", "REVOKE CONNECT ON DATABASE vault FROM PUBLIC")
	b.setUp(t, tier, setupOptions)
	return b
}

var setupOptions = describe.Options{"owner_roles": {"app_owner"}, "roles": {"analytics"}, "databases": {"vault"}}

// check is what Check says of the bed's connector, by the names of the items.
func (b *bed) check(t *testing.T) map[string]access.CheckItem {
	t.Helper()
	// Nobody may ask for membership in the owner itself.
	target := b.target(func(c *postgresql.Config, _ *postgresql.Secret) { c.Exclude = []string{"role:app_owner"} })
	return certificationtest.Check(t, start(t, target))
}

// TestTiers runs the script of each tier on an empty server: Check misses just
// what the tier leaves out, and what the tier is for works.
func TestTiers(t *testing.T) {
	t.Parallel()
	d, err := describe.New(postgresql.Kind(), setupOptions)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range versions {
		for _, tier := range d.Setup {
			t.Run(strconv.Itoa(v)+"/"+tier.Name, func(t *testing.T) {
				t.Parallel()
				b := newCustomer(t, v, tier.Name)
				items := b.check(t)
				// What PUBLIC has and what superusers own is the customer's affair.
				delete(items, "PUBLIC CONNECT")
				delete(items, "act for postgres")
				// Where nothing can be granted there is nothing to revoke.
				certificationtest.Misses(t, items, tier, d.Setup[len(d.Setup)-1], "revoke")
				certificationtest.Offers(t, start(t, b.target()), readShop, writeShop, readVault, analytics)
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
	want := []access.Entitlement{readShop, writeShop, readVault, analytics}
	_, err := l.TryGrant(t, want...)
	if !may {
		if access.KindOf(err) != access.Privilege {
			t.Errorf("granting: %v, want privilege", err)
		}
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
	open, logOut := o.logIn(t, l.Credential(t), "vault")
	_, err = l.TryRevoke(t, want...)
	if mayEnd && (err != nil || open.Alive()) {
		t.Errorf("revoking: %v; the session is open: %t", err, open.Alive())
	}
	if !mayEnd && (access.KindOf(err) != access.Privilege || !open.Alive()) {
		t.Errorf("revoking with an open session: %v, want privilege", err)
	}
	logOut()
	for _, e := range want {
		if o.Can(t, l.Account, e) {
			t.Errorf("after the revoke of %s the person can still use it", e)
		}
	}
	l.Integration, l.Holds = start(t, b.target(func(c *postgresql.Config, _ *postgresql.Secret) { c.TerminateSessions = "never" })), nil
	l.Grant(t, readShop)
	open, logOut = o.logIn(t, l.Credential(t), "shop")
	if entry := l.Revoke(t, readShop); entry.Outcome != access.Gone || !open.Alive() {
		t.Errorf("revoking with terminate_sessions: never: %+v; the session is open: %t", entry, open.Alive())
	}
	logOut()
	if res := l.Delete(t); res.Outcome != access.Gone {
		t.Errorf("deleting: %+v", res)
	}
}

// logIn opens a session; logOut closes it and waits until the server knows.
func (o *observer) logIn(t *testing.T, c integrations.Credential, database string) (open session, logOut func()) {
	t.Helper()
	conn, err := o.login(c, database)
	if err != nil {
		t.Fatal(err)
	}
	open = session{o, t, conn.PgConn().PID()}
	return open, func() {
		conn.Close(context.Background())
		for deadline := time.Now().Add(10 * time.Second); open.Alive() && time.Now().Before(deadline); {
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// without is a right of the tier full, taken away.
type without struct {
	certificationtest.Right
	// try makes ready and returns what needs the right.
	try func(*testing.T, *bed) func() error
	// since is the first version that wants the right.
	since int
}

var rights = []without{
	{Right: certificationtest.Right{Name: "making roles", Line: `CREATE ROLE "lapse" LOGIN CREATEROLE PASSWORD '...';`, Undo: "ALTER ROLE lapse NOCREATEROLE",
		Item: "make roles", Remedy: `ALTER ROLE "lapse" CREATEROLE`}, try: granting(readShop)},
	{Right: certificationtest.Right{Name: "ending sessions", Line: `GRANT pg_signal_backend TO "lapse";`, Undo: "REVOKE pg_signal_backend FROM lapse",
		Item: "pg_signal_backend", Remedy: `GRANT pg_signal_backend TO "lapse"`}, try: endingSessions},
	{Right: certificationtest.Right{Name: "giving what an owner has", Line: `GRANT "app_owner" TO "lapse";`, Undo: "REVOKE app_owner FROM lapse",
		Item: "act for app_owner", Remedy: `GRANT "app_owner" TO "lapse"`}, try: granting(writeShop)},
	{Right: certificationtest.Right{Name: "giving membership", Line: `GRANT "analytics" TO "lapse" WITH ADMIN OPTION;`, Undo: "REVOKE analytics FROM lapse CASCADE",
		Item: "roles of the customer", Remedy: `GRANT "analytics" TO "lapse" WITH ADMIN OPTION`}, try: granting(analytics), since: 16},
	{Right: certificationtest.Right{Name: "reading a closed database", Line: `GRANT CONNECT ON DATABASE "vault" TO "lapse" WITH GRANT OPTION;`, Undo: "REVOKE CONNECT ON DATABASE vault FROM lapse CASCADE",
		Item: "databases", Remedy: `GRANT CONNECT ON DATABASE "vault" TO "lapse" WITH GRANT OPTION`}, try: granting(readVault)},
}

// TestRights takes each right of the tier full away: Check names it with the
// statement that mends it, the operation that needs it is refused with the kind
// privilege, and works after that statement.
func TestRights(t *testing.T) {
	t.Parallel()
	d, err := describe.New(postgresql.Kind(), setupOptions)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(d.Setup[len(d.Setup)-1].Script) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "--") && !slices.ContainsFunc(rights, func(r without) bool { return r.Line == line }) {
			t.Errorf("nobody tries what happens without %s", line)
		}
	}
	for _, v := range versions {
		t.Run(strconv.Itoa(v), func(t *testing.T) {
			t.Parallel()
			b := newCustomer(t, v, "full")
			for _, right := range rights {
				t.Run(right.Name, func(t *testing.T) {
					attempt := right.try(t, b)
					if v >= right.since {
						right.Lack(t, func(statement string) { b.exec(t, "postgres", statement) }, func() map[string]access.CheckItem { return b.check(t) }, attempt)
						return
					}
					b.exec(t, "postgres", right.Undo)
					if item, err := b.check(t)[right.Item], attempt(); !item.OK || err != nil {
						t.Errorf("PostgreSQL %d needs no such right, and yet: %+v, %v", v, item, err)
					}
				})
			}
			t.Run("logging in", func(t *testing.T) {
				b.exec(t, "postgres", "ALTER ROLE lapse NOLOGIN")
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
	_, logOut := (&observer{b}).logIn(t, l.Credential(t), "shop")
	t.Cleanup(logOut)
	return func() error {
		_, err := l.TryRevoke(t, readShop)
		return err
	}
}
