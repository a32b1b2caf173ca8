package mysql_test

import (
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/mysql"
	"github.com/lapse-access/lapse/internal/certificationtest"
)

// TestWitness compares the witness with root.
func TestWitness(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	certificationtest.Witness(t, b.harness(), entitlement("admin", "table", "shop", "orders"), entitlement("read_only", "database", "a_b"), entitlement("read_only", "database", "axb"))

	w := certificationtest.NewWitness(t, mysql.Kind(), b.target())
	if can, err := w.Can(t.Context(), access.Account{}, readShop); can || err != nil {
		t.Errorf("anybody can read shop: %t, %v", can, err)
	}
	l := at(t, b.target())
	l.Grant(t, readShop)
	c := l.Credential(t)
	s, err := w.(integrations.SessionWitness).Open(t.Context(), c)
	if err != nil || !s.Alive() {
		t.Fatalf("opening a session: %v", err)
	}
	if l.Revoke(t, readShop); s.Alive() {
		t.Error("the session is alive after the revoke")
	}
	s.Close()
	for _, end := range []string{"last", "never"} {
		if _, ok := certificationtest.NewWitness(t, mysql.Kind(), b.target(func(c *mysql.Config, _ *mysql.Secret) { c.TerminateSessions = end })).(integrations.SessionWitness); ok {
			t.Errorf("with terminate_sessions: %s not every revoke ends sessions, and the witness opens some", end)
		}
	}
}

// TestClean takes away the roles that nobody has, and none of another Lapse.
func TestClean(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	theirs := b.target()
	theirs.Instance = "another"
	mine, other, stranger := at(t, b.target()), at(t, b.target()), at(t, theirs)
	mine.Grant(t, readShop, writeLake)
	other.Grant(t, readShop)
	stranger.Grant(t, readShop)
	clean := func(want int) {
		t.Helper()
		left, err := mine.Integration.(integrations.Cleaner).Clean(t.Context())
		if err != nil || len(left) != want {
			t.Errorf("%q is left, %v; want %d roles", left, err, want)
		}
	}
	clean(2)
	mine.Revoke(t, readShop)
	mine.Revoke(t, writeLake)
	clean(1)
	if !(&observer{b}).Can(t, other.Account, readShop) {
		t.Error("cleaning took access away")
	}
	other.Revoke(t, readShop)
	clean(0)
	if n := value[int](t, b, `SELECT COUNT(*) FROM mysql.user WHERE User LIKE 'lapse\_e\_%'`); n != 1 || !(&observer{b}).Can(t, stranger.Account, readShop) {
		t.Errorf("%d roles are there, want the one of another Lapse", n)
	}
}
