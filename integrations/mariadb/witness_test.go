package mariadb_test

import (
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/mariadb"
	"github.com/lapse-access/lapse/internal/certificationtest"
)

// TestWitness compares the witness with root.
func TestWitness(t *testing.T) {
	t.Parallel()
	for _, bin := range versions(t) {
		t.Run(bin.Series(), func(t *testing.T) {
			t.Parallel()
			certificationtest.Witness(t, newBed(t, bin).harness(), entitlement("admin", "table", "shop", "orders"), entitlement("read_only", "table", "shop", "items"))
		})
	}
}

// TestWitnessOfAnybody looks at what needs no grant, and at what cannot be
// looked at.
func TestWitnessOfAnybody(t *testing.T) {
	t.Parallel()
	b := newCustomer(t, versions(t)[0], "full")
	b.exec(t, "CREATE TABLE vault.price (id INT)", "GRANT SELECT ON vault.price TO PUBLIC", "CREATE DATABASE empty")
	w := certificationtest.NewWitness(t, mariadb.Kind(), b.target())
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
		if _, ok := certificationtest.NewWitness(t, mariadb.Kind(), b.target(func(c *mariadb.Config, _ *mariadb.Secret) { c.TerminateSessions = end })).(integrations.SessionWitness); ok {
			t.Errorf("with terminate_sessions: %s not every revoke ends sessions, and the witness opens some", end)
		}
	}

	l := at(t, b.target())
	l.Grant(t, adminVault)
	c := l.Credential(t)
	open, err := w.(integrations.SessionWitness).Open(t.Context(), c)
	if err != nil || !open.Alive() {
		t.Fatalf("opening a session: %v", err)
	}
	defer open.Close()
	l.Revoke(t, adminVault)
	if open.Alive() {
		t.Error("the session outlives the revoke")
	}
	if s, err := w.(integrations.SessionWitness).Open(t.Context(), c); access.KindOf(err) != access.Auth {
		t.Errorf("opening a session after the revoke: %v, %v", s, err)
	}
}
