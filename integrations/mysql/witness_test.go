package mysql_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/integrations/mysql"
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
	return b.agree(t, "Can "+a.Name+" "+e.String(), b.observer.Can(t, a, e), func() (bool, error) { return b.w.Can(t.Context(), a, e) })
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
	w, err := mysql.Kind().Witness(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// TestWitness compares the witness with root.
func TestWitness(t *testing.T) {
	t.Parallel()
	bed := newBed(t)
	h := bed.harness()
	o := &both{observer: &observer{bed}, w: newWitness(t, h.Target), seen: map[string]int{}}
	h.Observer = o

	// Somebody who is not there, and whoever holds one of all chains, look at
	// everything.
	everything := append(slices.Concat(h.Chains...), h.Apart[0], h.Apart[1], h.Existing, entitlement("admin", "table", "shop", "orders"),
		entitlement("read_only", "database", "a_b"), entitlement("read_only", "database", "axb"))
	for _, e := range everything {
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

	if can, err := o.w.Can(t.Context(), access.Account{}, readShop); can || err != nil {
		t.Errorf("anybody can read shop: %t, %v", can, err)
	}
	l := at(t, h.Target)
	l.grant(t, readShop)
	c := l.credential(t)
	s, err := o.w.(integrations.SessionWitness).Open(t.Context(), c)
	if err != nil || !s.Alive() {
		t.Fatalf("opening a session: %v", err)
	}
	if l.revoke(t, readShop); s.Alive() {
		t.Error("the session is alive after the revoke")
	}
	s.Close()
	for _, end := range []string{"last", "never"} {
		if _, ok := newWitness(t, bed.target(func(c *mysql.Config, _ *mysql.Secret) { c.TerminateSessions = end })).(integrations.SessionWitness); ok {
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
	mine.grant(t, readShop, writeLake)
	other.grant(t, readShop)
	stranger.grant(t, readShop)
	clean := func(want int) {
		t.Helper()
		left, err := mine.Integration.(integrations.Cleaner).Clean(t.Context())
		if err != nil || len(left) != want {
			t.Errorf("%q is left, %v; want %d roles", left, err, want)
		}
	}
	clean(2)
	mine.revoke(t, readShop, writeLake)
	mine.revoke(t, writeLake)
	clean(1)
	if !(&observer{b}).Can(t, other.account, readShop) {
		t.Error("cleaning took access away")
	}
	other.revoke(t, readShop)
	clean(0)
	if n := value[int](t, b, `SELECT COUNT(*) FROM mysql.user WHERE User LIKE 'lapse\_e\_%'`); n != 1 || !(&observer{b}).Can(t, stranger.account, readShop) {
		t.Errorf("%d roles are there, want the one of another Lapse", n)
	}
}
