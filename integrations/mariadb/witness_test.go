package mariadb_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/integrations/mariadb"
)

// both is root, with the witness beside: they must see the same.
type both struct {
	*observer
	w    integrations.Witness
	seen map[string]int // what was looked at, and what was seen
}

func (b *both) agree(t integrationtest.T, what string, root bool, look func() (bool, error)) bool {
	t.Helper()
	if can, err := look(); err != nil || can != root {
		t.Errorf("%s: root says %t, the witness %t, %v", what, root, can, err)
	}
	kind, _, _ := strings.Cut(what, " ")
	b.seen[kind+" "+strconv.FormatBool(root)]++
	return root
}

func (b *both) Can(t integrationtest.T, a access.Account, e access.Entitlement) bool {
	t.Helper()
	root := b.observer.Can(t, a, e)
	if a.Name == "" {
		return root
	}
	return b.agree(t, "Can "+a.Name+" "+e.String(), root, func() (bool, error) { return b.w.Can(t.Context(), a, e) })
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
	w, err := mariadb.Kind().Witness(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// TestWitness compares the witness with root.
func TestWitness(t *testing.T) {
	t.Parallel()
	for _, bin := range versions(t) {
		t.Run(bin.Series(), func(t *testing.T) {
			t.Parallel()
			bed := newBed(t, bin)
			h := bed.harness()
			o := &both{observer: &observer{bed}, w: newWitness(t, h.Target), seen: map[string]int{}}
			h.Observer = o

			// Somebody who holds something else, somebody who is not there, and whoever
			// holds one of all chains, look at everything.
			everything := append(slices.Concat(h.Chains...), h.Apart[0], h.Apart[1], h.Existing, entitlement("admin", "table", "shop", "orders"))
			stranger := at(t, h.Target)
			stranger.grant(t, entitlement("read_only", "table", "shop", "items"))
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
	b := newCustomer(t, versions(t)[0], "full")
	b.exec(t, "CREATE TABLE vault.price (id INT)", "GRANT SELECT ON vault.price TO PUBLIC", "CREATE DATABASE empty")
	w := newWitness(t, b.target())
	for e, want := range map[access.Entitlement]bool{
		entitlement("read_only", "table", "vault", "price"):  true,
		entitlement("read_write", "table", "vault", "price"): false,
		entitlement("read_only", "table", "vault", "bars"):   false,
		entitlement("read_only", "database", "vault"):        false,
		analytics: false,
	} {
		if can, err := w.Can(t.Context(), access.Account{}, e); err != nil || can != want {
			t.Errorf("anybody can use %s: %t, %v; want %t", e, can, err, want)
		}
	}
	for _, e := range []access.Entitlement{entitlement("read_only", "database", "empty"), entitlement("read_only", "table", "vault", "nothing")} {
		if _, err := w.Can(t.Context(), access.Account{}, e); access.KindOf(err) != access.ResourceMissing {
			t.Errorf("looking at %s: %v, want resource_missing", e, err)
		}
	}
	for _, end := range []string{"last", "never"} {
		if _, ok := newWitness(t, b.target(func(c *mariadb.Config, _ *mariadb.Secret) { c.TerminateSessions = end })).(integrations.SessionWitness); ok {
			t.Errorf("with terminate_sessions: %s not every revoke ends sessions, and the witness opens some", end)
		}
	}

	l := at(t, b.target())
	l.grant(t, adminVault)
	c := l.credential(t)
	open, err := w.(integrations.SessionWitness).Open(t.Context(), c)
	if err != nil || !open.Alive() {
		t.Fatalf("opening a session: %v", err)
	}
	defer open.Close()
	l.revoke(t, adminVault)
	if open.Alive() {
		t.Error("the session outlives the revoke")
	}
	if s, err := w.(integrations.SessionWitness).Open(t.Context(), c); access.KindOf(err) != access.Auth {
		t.Errorf("opening a session after the revoke: %v, %v", s, err)
	}
}
