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
	d, err := describe.New(postgresql.Kind(), setupOptions)
	if err != nil {
		t.Fatal(err)
	}
	whole := d.Setup[len(d.Setup)-1].Operations
	for _, v := range versions {
		for _, tier := range d.Setup {
			t.Run(strconv.Itoa(v)+"/"+tier.Name, func(t *testing.T) {
				t.Parallel()
				b := newCustomer(t, v, tier.Name)
				var missing []string
				for _, item := range b.check(t) {
					// What PUBLIC has and what superusers own is the customer's affair.
					if item.OK || item.Name == "PUBLIC CONNECT" || item.Name == "act for postgres" {
						continue
					}
					missing = append(missing, item.Operation)
					if slices.Contains(tier.Operations, item.Operation) {
						t.Errorf("check misses what the tier should give: %+v", item)
					}
				}
				for _, operation := range whole {
					// Where nothing can be granted there is nothing to revoke.
					if !slices.Contains(tier.Operations, operation) && !slices.Contains(missing, operation) && operation != "revoke" {
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
	for _, e := range []access.Entitlement{readShop, writeShop, readVault, analytics} {
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
	want := []access.Entitlement{readShop, writeShop, readVault, analytics}
	_, err := l.tryGrant(t, want...)
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
		if !o.Can(t, l.account, e) {
			t.Errorf("after the grant of %s the person cannot use it", e)
		}
	}
	open, logOut := o.logIn(t, l.credential(t), "vault")
	_, err = l.tryRevoke(t, want...)
	if mayEnd && (err != nil || open.Alive()) {
		t.Errorf("revoking: %v; the session is open: %t", err, open.Alive())
	}
	if !mayEnd && (access.KindOf(err) != access.Privilege || !open.Alive()) {
		t.Errorf("revoking with an open session: %v, want privilege", err)
	}
	logOut()
	for _, e := range want {
		if o.Can(t, l.account, e) {
			t.Errorf("after the revoke of %s the person can still use it", e)
		}
	}
	l.Integration = start(t, b.target(func(c *postgresql.Config, _ *postgresql.Secret) { c.TerminateSessions = "never" }))
	l.grant(t, readShop)
	open, logOut = o.logIn(t, l.credential(t), "shop")
	if entry := l.revoke(t, readShop); entry.Outcome != access.Gone || !open.Alive() {
		t.Errorf("revoking with terminate_sessions: never: %+v; the session is open: %t", entry, open.Alive())
	}
	logOut()
	if res := l.delete(t); res.Outcome != access.Gone {
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
	name string
	line string // of the script
	undo string
	item string // of the check
	// remedy is what the check says, and mends it.
	remedy string
	// try makes ready and returns what needs the right.
	try func(*testing.T, *bed) func() error
	// since is the first version that wants the right.
	since int
}

var rights = []without{
	{name: "making roles", line: `CREATE ROLE "lapse" LOGIN CREATEROLE PASSWORD '...';`, undo: "ALTER ROLE lapse NOCREATEROLE",
		item: "make roles", remedy: `ALTER ROLE "lapse" CREATEROLE`, try: granting(readShop)},
	{name: "ending sessions", line: `GRANT pg_signal_backend TO "lapse";`, undo: "REVOKE pg_signal_backend FROM lapse",
		item: "pg_signal_backend", remedy: `GRANT pg_signal_backend TO "lapse"`, try: endingSessions},
	{name: "giving what an owner has", line: `GRANT "app_owner" TO "lapse";`, undo: "REVOKE app_owner FROM lapse",
		item: "act for app_owner", remedy: `GRANT "app_owner" TO "lapse"`, try: granting(writeShop)},
	{name: "giving membership", line: `GRANT "analytics" TO "lapse" WITH ADMIN OPTION;`, undo: "REVOKE analytics FROM lapse CASCADE",
		item: "roles of the customer", remedy: `GRANT "analytics" TO "lapse" WITH ADMIN OPTION`, try: granting(analytics), since: 16},
	{name: "reading a closed database", line: `GRANT CONNECT ON DATABASE "vault" TO "lapse" WITH GRANT OPTION;`, undo: "REVOKE CONNECT ON DATABASE vault FROM lapse CASCADE",
		item: "databases", remedy: `GRANT CONNECT ON DATABASE "vault" TO "lapse" WITH GRANT OPTION`, try: granting(readVault)},
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
		if line != "" && !strings.HasPrefix(line, "--") && !slices.ContainsFunc(rights, func(r without) bool { return r.line == line }) {
			t.Errorf("nobody tries what happens without %s", line)
		}
	}
	for _, v := range versions {
		t.Run(strconv.Itoa(v), func(t *testing.T) {
			t.Parallel()
			b := newCustomer(t, v, "full")
			for _, right := range rights {
				t.Run(right.name, func(t *testing.T) {
					attempt := right.try(t, b)
					b.exec(t, "postgres", right.undo)
					item, err := b.check(t)[right.item], attempt()
					if v < right.since {
						if !item.OK || err != nil {
							t.Errorf("PostgreSQL %d needs no such right, and yet: %+v, %v", v, item, err)
						}
						return
					}
					if item.OK || item.Remedy != right.remedy {
						t.Errorf("check says %+v, want the remedy %s", item, right.remedy)
					}
					if access.KindOf(err) != access.Privilege {
						t.Errorf("without the right: %v, want privilege", err)
					}
					b.exec(t, "postgres", right.remedy)
					if item, found := b.check(t)[right.item]; found && !item.OK {
						t.Errorf("after the remedy check says %+v", item)
					}
					if err := attempt(); err != nil {
						t.Errorf("after the remedy: %v", err)
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
			_, err := l.tryGrant(t, e)
			return err
		}
	}
}

// endingSessions revokes while a session is open.
func endingSessions(t *testing.T, b *bed) func() error {
	l := at(t, b.target())
	l.grant(t, readShop)
	_, logOut := (&observer{b}).logIn(t, l.credential(t), "shop")
	t.Cleanup(logOut)
	return func() error {
		_, err := l.tryRevoke(t, readShop)
		return err
	}
}
