package certificationtest

import (
	"slices"
	"strconv"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
)

// NewWitness makes the witness of a target.
func NewWitness(t testing.TB, kind integrations.Kind, target integrations.Target) integrations.Witness {
	t.Helper()
	w, err := kind.Witness(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// Witness demands that the kind's witness sees what the harness's observer sees:
// of somebody who is not there, of whoever holds one of all that the harness
// names and of more, and in the cases of the suite that look at logins and
// accounts.
func Witness(t *testing.T, h *integrationtest.Harness, more ...access.Entitlement) {
	t.Helper()
	o := &beside{h.Observer.(eyes), NewWitness(t, h.Kind, h.Target), map[string]bool{}}
	everything := []access.Entitlement{h.Existing, h.Apart[0], h.Apart[1]}
	for _, e := range append(slices.Concat(h.Chains...), more...) {
		if !slices.Contains(everything, e) {
			everything = append(everything, e)
		}
	}
	for _, e := range everything {
		o.Can(t, access.Account{Name: "nobody"}, e)
	}
	for _, held := range everything {
		holder := &Holder{Integration: Start(t, h.Kind, h.Target), Account: h.Person(t)}
		holder.Grant(t, held)
		for _, e := range everything {
			o.Can(t, holder.Account, e)
		}
		holder.Revoke(t, held)
		if o.Can(t, holder.Account, held) {
			t.Errorf("%s after the revoke", held)
		}
	}
	h.Observer = o
	for _, c := range integrationtest.Cases() {
		if slices.Contains([]string{"hostile-names", "delete", "credential"}, c.Name) {
			t.Run(c.Name, func(t *testing.T) { c.Run(t, h) })
		}
	}
	for _, look := range []string{"Can true", "Can false", "CanLogin true", "CanLogin false", "Exists true", "Exists false"} {
		if !o.seen[look] {
			t.Errorf("%s was not seen", look)
		}
	}
}

type eyes interface {
	integrationtest.Observer
	integrationtest.LoginObserver
	integrationtest.PrincipalObserver
}

// beside is an observer with the witness beside.
type beside struct {
	o    eyes
	w    integrations.Witness
	seen map[string]bool
}

func (b *beside) agree(t integrationtest.T, look, at string, observer, witness bool, err error) bool {
	t.Helper()
	if err != nil || witness != observer {
		t.Errorf("%s %s: the observer says %t, the witness %t, %v", look, at, observer, witness, err)
	}
	b.seen[look+" "+strconv.FormatBool(observer)] = true
	return observer
}

// Can asks the observer alone of an account that was not made: a witness looks
// there at what anybody may do.
func (b *beside) Can(t integrationtest.T, a access.Account, e access.Entitlement) bool {
	t.Helper()
	if a.Name == "" {
		return b.o.Can(t, a, e)
	}
	can, err := b.w.Can(t.Context(), a, e)
	return b.agree(t, "Can", a.Name+" "+e.String(), b.o.Can(t, a, e), can, err)
}

func (b *beside) CanLogin(t integrationtest.T, c integrations.Credential) bool {
	t.Helper()
	can, err := b.w.CanLogin(t.Context(), c)
	return b.agree(t, "CanLogin", c.Username, b.o.CanLogin(t, c), can, err)
}

func (b *beside) Exists(t integrationtest.T, name string) bool {
	t.Helper()
	exists, err := b.w.Exists(t.Context(), name)
	return b.agree(t, "Exists", name, b.o.Exists(t, name), exists, err)
}
