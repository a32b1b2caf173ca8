package postgresql_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/integrations/postgresql"
)

// both is the superuser, with the witness beside him: they must see the same.
type both struct {
	*observer
	w    integrations.Witness
	seen map[string]int // what was looked at, and what was seen
}

func (b *both) agree(t integrationtest.T, what string, super bool, look func() (bool, error)) bool {
	t.Helper()
	if can, err := look(); err != nil || can != super {
		t.Errorf("%s: the superuser says %t, the witness %t, %v", what, super, can, err)
	}
	kind, _, _ := strings.Cut(what, " ")
	b.seen[kind+" "+strconv.FormatBool(super)]++
	return super
}

func (b *both) Can(t integrationtest.T, a access.Account, e access.Entitlement) bool {
	t.Helper()
	super := b.observer.Can(t, a, e)
	if a.Name == "" {
		return super
	}
	return b.agree(t, "Can "+a.Name+" "+e.String(), super, func() (bool, error) { return b.w.Can(t.Context(), a, e) })
}

func (b *both) CanLogin(t integrationtest.T, c integrations.Credential) bool {
	t.Helper()
	return b.agree(t, "CanLogin "+c.Username, b.observer.CanLogin(t, c), func() (bool, error) { return b.w.CanLogin(t.Context(), c) })
}

func (b *both) Exists(t integrationtest.T, name string) bool {
	t.Helper()
	return b.agree(t, "Exists "+name, b.observer.Exists(t, name), func() (bool, error) { return b.w.Exists(t.Context(), name) })
}

func newWitness(t *testing.T, target integrations.Target) integrations.Witness {
	t.Helper()
	w, err := postgresql.Kind().Witness(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// TestWitness compares the witness with the superuser.
func TestWitness(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run(strconv.Itoa(v), func(t *testing.T) {
			t.Parallel()
			bed := newBed(t, v)
			h := bed.harness()
			o := &both{observer: &observer{bed}, w: newWitness(t, h.Target), seen: map[string]int{}}
			h.Observer = o

			// Somebody who holds something else, somebody who is not there, and whoever
			// holds one of all chains, look at everything.
			everything := append(slices.Concat(h.Chains...), h.Apart[0], h.Apart[1], h.Existing, entitlement("admin", "table", "shop", "public", "orders"))
			stranger := at(t, h.Target)
			stranger.grant(t, entitlement("read_only", "schema", "shop", "crm"))
			for _, e := range everything {
				o.Can(t, stranger.account, e)
				o.Can(t, access.Account{Name: "nobody"}, e)
			}
			for _, held := range everything {
				holder := at(t, h.Target)
				holder.grant(t, held)
				for _, e := range everything {
					o.Can(t, holder.account, e)
				}
				holder.revoke(t, held)
				if o.Can(t, holder.account, held) {
					t.Errorf("%s after the revoke", held)
				}
			}
			for _, c := range integrationtest.Cases() {
				if slices.Contains([]string{"hostile-names", "delete", "credential"}, c.Name) {
					t.Run(c.Name, func(t *testing.T) { c.Run(t, h) })
				}
			}
			for _, look := range []string{"Can", "CanLogin", "Exists"} {
				if o.seen[look+" true"] == 0 || o.seen[look+" false"] == 0 {
					t.Errorf("%s was not seen both ways: %v", look, o.seen)
				}
			}
		})
	}
}

// TestWitnessOfAnybody looks at what needs no grant, and at what cannot be
// looked at.
func TestWitnessOfAnybody(t *testing.T) {
	t.Parallel()
	b := newCustomer(t, 18, "full")
	b.exec(t, "vault", "CREATE TABLE gold.price (id int)", "GRANT SELECT ON gold.price TO PUBLIC", "CREATE SCHEMA empty")
	w := newWitness(t, b.target())
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
		if _, ok := newWitness(t, b.target(func(c *postgresql.Config, _ *postgresql.Secret) { c.TerminateSessions = end })).(integrations.SessionWitness); ok {
			t.Errorf("with terminate_sessions: %s not every revoke ends sessions, and the witness opens some", end)
		}
	}

	// A password that holds holds, also where the person may not connect any more.
	l := at(t, b.target())
	l.grant(t, readVault, readShop)
	c := l.credential(t)
	c.Details["database"] = "vault"
	l.revokeKeeping(t, []access.Entitlement{readShop}, readVault)
	if can, err := w.CanLogin(t.Context(), c); err != nil || !can {
		t.Errorf("logging in where only the database is closed: %t, %v", can, err)
	}
	l.revoke(t, readShop)
	if can, err := w.CanLogin(t.Context(), c); err != nil || can {
		t.Errorf("logging in after the last revoke: %t, %v", can, err)
	}
	if s, err := w.(integrations.SessionWitness).Open(t.Context(), c); access.KindOf(err) != access.Auth {
		t.Errorf("opening a session after the last revoke: %v, %v", s, err)
	}
}

// revokeKeeping ends some and keeps the others.
func (l *lapse) revokeKeeping(t *testing.T, remain []access.Entitlement, end ...access.Entitlement) {
	t.Helper()
	l.sequence++
	req := integrations.RevokeRequest{Account: l.account, End: end, Sequence: l.sequence}
	for _, e := range remain {
		req.Remain = append(req.Remain, access.Claim{Entitlement: e})
	}
	if _, err := l.Revoke(t.Context(), req); err != nil {
		t.Fatal(err)
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
			mine.grant(t, readVault, writeShop)
			other.grant(t, readShop)
			theirs := b.target()
			theirs.Instance = "another"
			stranger := at(t, theirs)
			stranger.grant(t, readVault)

			clean := func() []string {
				t.Helper()
				left, err := mine.Integration.(integrations.Cleaner).Clean(t.Context())
				if err != nil {
					t.Error(err)
				}
				return left
			}
			if left := clean(); len(left) != 3 || !o.Can(t, mine.account, readVault) || !o.Can(t, other.account, readShop) {
				t.Errorf("with access: %q is left, want 3 roles, and access", left)
			}
			mine.revoke(t, readVault, writeShop)
			if left := clean(); len(left) != 1 || !o.Can(t, other.account, readShop) {
				t.Errorf("after one of two revokes: %q is left, want one role, and access", left)
			}
			other.revoke(t, readShop)
			if left := clean(); len(left) != 0 {
				t.Errorf("after both revokes: %q is left", left)
			}
			if n := value[int64](t, b, "postgres", `SELECT count(*) FROM pg_roles WHERE rolname LIKE 'lapse\_e\_%'`); n != 1 || !o.Can(t, stranger.account, readVault) {
				t.Errorf("%d roles for entitlements are there, want the one of another Lapse, with access", n)
			}
		})
	}
}
