package postgresql_test

import (
	"strconv"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/postgresql"
	"github.com/lapse-access/lapse/internal/certificationtest"
)

// TestWitness compares the witness with the superuser.
func TestWitness(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run(strconv.Itoa(v), func(t *testing.T) {
			t.Parallel()
			certificationtest.Witness(t, newBed(t, v).harness(), entitlement("admin", "table", "shop", "public", "orders"), entitlement("read_only", "schema", "shop", "crm"))
		})
	}
}

// TestWitnessOfAnybody looks at what needs no grant, and at what cannot be
// looked at.
func TestWitnessOfAnybody(t *testing.T) {
	t.Parallel()
	b := newCustomer(t, 18, "full")
	b.exec(t, "vault", "CREATE TABLE gold.price (id int)", "GRANT SELECT ON gold.price TO PUBLIC", "CREATE SCHEMA empty")
	w := certificationtest.NewWitness(t, postgresql.Kind(), b.target())
	for e, want := range map[access.Entitlement]bool{
		// PUBLIC neither connects to vault nor uses its schema, and whoever may needs no more.
		entitlement("read_only", "table", "vault", "gold", "price"):  true,
		entitlement("read_write", "table", "vault", "gold", "price"): false,
		entitlement("read_only", "table", "vault", "gold", "bars"):   false,
		entitlement("read_only", "schema", "vault", "gold"):          false,
		analytics: false,
	} {
		if can, err := w.Can(t.Context(), access.Account{}, e); err != nil || can != want {
			t.Errorf("anybody can use %s: %t, %v; want %t", e, can, err, want)
		}
	}
	for _, e := range []access.Entitlement{entitlement("read_only", "schema", "vault", "empty"), entitlement("read_only", "database", "nowhere")} {
		if _, err := w.Can(t.Context(), access.Account{}, e); access.KindOf(err) != access.ResourceMissing {
			t.Errorf("looking at %s: %v, want resource_missing", e, err)
		}
	}
	for _, end := range []string{"last", "never"} {
		if _, ok := certificationtest.NewWitness(t, postgresql.Kind(), b.target(func(c *postgresql.Config, _ *postgresql.Secret) { c.TerminateSessions = end })).(integrations.SessionWitness); ok {
			t.Errorf("with terminate_sessions: %s not every revoke ends sessions, and the witness opens some", end)
		}
	}

	// A password that holds holds, also where the person may not connect any more.
	l := at(t, b.target())
	l.Grant(t, readVault, readShop)
	c := l.Credential(t)
	c.Details["database"] = "vault"
	l.Revoke(t, readVault)
	if can, err := w.CanLogin(t.Context(), c); err != nil || !can {
		t.Errorf("logging in where only the database is closed: %t, %v", can, err)
	}
	l.Revoke(t, readShop)
	if can, err := w.CanLogin(t.Context(), c); err != nil || can {
		t.Errorf("logging in after the last revoke: %t, %v", can, err)
	}
	if s, err := w.(integrations.SessionWitness).Open(t.Context(), c); access.KindOf(err) != access.Auth {
		t.Errorf("opening a session after the last revoke: %v, %v", s, err)
	}
}

// TestClean takes away the roles that nobody has, also where the connector may
// let people into a database both by itself and as its owner.
func TestClean(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run(strconv.Itoa(v), func(t *testing.T) {
			t.Parallel()
			b := newCustomer(t, v, "full")
			b.exec(t, "postgres", "ALTER DATABASE vault OWNER TO app_owner")
			o := &observer{b}
			mine, other := at(t, b.target()), at(t, b.target())
			mine.Grant(t, readVault, writeShop)
			other.Grant(t, readShop)
			theirs := b.target()
			theirs.Instance = "another"
			stranger := at(t, theirs)
			stranger.Grant(t, readVault)

			clean := func() []string {
				t.Helper()
				left, err := mine.Integration.(integrations.Cleaner).Clean(t.Context())
				if err != nil {
					t.Error(err)
				}
				return left
			}
			if left := clean(); len(left) != 3 || !o.Can(t, mine.Account, readVault) || !o.Can(t, other.Account, readShop) {
				t.Errorf("with access: %q is left, want 3 roles, and access", left)
			}
			mine.Revoke(t, readVault, writeShop)
			if left := clean(); len(left) != 1 || !o.Can(t, other.Account, readShop) {
				t.Errorf("after one of two revokes: %q is left, want one role, and access", left)
			}
			other.Revoke(t, readShop)
			if left := clean(); len(left) != 0 {
				t.Errorf("after both revokes: %q is left", left)
			}
			if n := value[int64](t, b, "postgres", `SELECT count(*) FROM pg_roles WHERE rolname LIKE 'lapse\_e\_%'`); n != 1 || !o.Can(t, stranger.Account, readVault) {
				t.Errorf("%d roles for entitlements are there, want the one of another Lapse, with access", n)
			}
		})
	}
}
