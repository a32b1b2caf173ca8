package integrationtest

import (
	"context"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

// Observe makes an observer of a witness.
func Observe(w integrations.Witness) Observer {
	if s, ok := w.(integrations.SessionWitness); ok {
		return sessionWitness{witness{w}, s}
	}
	return witness{w}
}

// Trust makes an observer that asks the integration itself, where there is
// nobody else to ask. It sees what Verify says, and no more.
func Trust(h *Harness) Observer { return trusting{h} }

var _ interface {
	LoginObserver
	PrincipalObserver
	SessionObserver
} = sessionWitness{}

type witness struct{ w integrations.Witness }

func (o witness) Can(t T, a access.Account, e access.Entitlement) bool {
	t.Helper()
	if a.Name == "" {
		return false // the account was not made yet
	}
	return look(t, "whether "+a.Name+" can use "+e.String(), func(ctx context.Context) (bool, error) { return o.w.Can(ctx, a, e) })
}

func (o witness) CanLogin(t T, c integrations.Credential) bool {
	t.Helper()
	return look(t, "whether "+c.Username+" can log in", func(ctx context.Context) (bool, error) { return o.w.CanLogin(ctx, c) })
}

func (o witness) Exists(t T, name string) bool {
	t.Helper()
	return look(t, "whether "+name+" exists", func(ctx context.Context) (bool, error) { return o.w.Exists(ctx, name) })
}

func look(t T, what string, at func(ctx context.Context) (bool, error)) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), opLimit)
	defer cancel()
	seen, err := at(ctx)
	if err != nil {
		t.Fatalf("looking %s: %v", what, err)
	}
	return seen
}

type sessionWitness struct {
	witness
	sessions integrations.SessionWitness
}

// Open has no limit of its own: a session that ran out would look like one that
// was ended.
func (o sessionWitness) Open(t T, c integrations.Credential, _ access.Entitlement) map[string]Session {
	t.Helper()
	s, err := o.sessions.Open(t.Context(), c)
	if err != nil {
		t.Fatalf("opening a session of %s: %v", c.Username, err)
	}
	t.Cleanup(func() { s.Close() })
	return map[string]Session{"idle": s}
}

type trusting struct{ h *Harness }

func (o trusting) Can(t T, a access.Account, e access.Entitlement) bool {
	t.Helper()
	p := &person{Account: a}
	return p.settled(t, o.h.start(t), []access.Entitlement{e})[0].Outcome == access.Granted
}
