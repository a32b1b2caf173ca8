package certificationtest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
)

// Bug is a mistake that integrations make, to be planted in a sound one.
type Bug struct {
	// Name says what an integration with the bug does.
	Name string
	// Case is the name of the case of the suite that must find it.
	Case string
	// Spoil plants the bug in one process.
	Spoil func(p *Process)
}

// Process is an integration in one process, method by method, so that a bug can
// replace some.
type Process struct {
	Check         func(ctx context.Context) (access.CheckReport, error)
	Discover      func(ctx context.Context, cursor string) (access.Page, error)
	Held          func(ctx context.Context, account access.Account, want []access.Entitlement) ([]access.Slot, error)
	Grant         func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error)
	Revoke        func(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error)
	Verify        func(ctx context.Context, account access.Account, want []access.Entitlement) ([]access.Entry, error)
	DeleteAccount func(ctx context.Context, req integrations.DeleteRequest) (integrations.DeleteResult, error)
	Accounts      func(ctx context.Context, cursor string) (access.PrincipalPage, error)
	Close         func() error
	SetCredential func(ctx context.Context, req integrations.CredentialRequest) (integrations.Credential, error) // nil where there are no credentials

	RotateSecret func(ctx context.Context, next any) error // nil where the connector cannot

	// Steps are those of the kind's last resort.
	Steps func(t integrations.Target, req integrations.RevokeRequest) (string, error)
	// Told is the kind's.
	Told func(t integrations.Target, req integrations.GrantRequest) ([]string, error)

	// Sound is the integration without the bug.
	Sound   integrations.Integration
	Target  integrations.Target
	Harness *integrationtest.Harness

	shared *sync.Map
}

// Shared is a number that all processes of a harness have in common.
func (p *Process) Shared(key string) *atomic.Int64 {
	n, _ := p.shared.LoadOrStore(key, new(atomic.Int64))
	return n.(*atomic.Int64)
}

// Plant puts the bug into the kind of a harness.
func (b Bug) Plant(h *integrationtest.Harness) *integrationtest.Harness {
	sound, shared, steps, told := h.Kind.New, &sync.Map{}, h.Kind.LastResort.Steps, h.Kind.Told
	beside := func(target integrations.Target, work func(*Process)) error {
		i, err := sound(h.Target)
		if err != nil {
			return err
		}
		defer i.Close()
		p := &Process{Steps: steps, Told: told, Sound: i, Target: target, Harness: h, shared: shared}
		b.Spoil(p)
		work(p)
		return nil
	}
	h.Kind.LastResort.Steps = func(target integrations.Target, req integrations.RevokeRequest) (text string, err error) {
		failed := beside(target, func(p *Process) { text, err = p.Steps(target, req) })
		return text, cmp.Or(failed, err)
	}
	h.Kind.Told = func(target integrations.Target, req integrations.GrantRequest) (lines []string, err error) {
		failed := beside(target, func(p *Process) { lines, err = p.Told(target, req) })
		return lines, cmp.Or(failed, err)
	}
	h.Kind.New = func(target integrations.Target) (integrations.Integration, error) {
		i, err := sound(target)
		if err != nil {
			return nil, err
		}
		p := &Process{Check: i.Check, Discover: i.Discover, Held: i.Held, Grant: i.Grant, Revoke: i.Revoke, Verify: i.Verify,
			DeleteAccount: i.DeleteAccount, Accounts: i.Accounts, Close: i.Close, Sound: i, Target: target, Harness: h, shared: shared}
		setter, sets := i.(integrations.CredentialSetter)
		if sets {
			p.SetCredential = setter.SetCredential
		}
		rotator, rotates := i.(integrations.SecretRotator)
		if rotates {
			p.RotateSecret = rotator.RotateSecret
		}
		b.Spoil(p)
		switch {
		case sets && rotates:
			return plantedBoth{plantedSetter{planted{p}}, plantedRotator{planted{p}}}, nil
		case sets:
			return plantedSetter{planted{p}}, nil
		case rotates:
			return plantedRotator{planted{p}}, nil
		}
		return planted{p}, nil
	}
	return h
}

// InSuite finds the bug's case, and tells whether the suite has it.
func (b Bug) InSuite() (c integrationtest.Case, ok bool) {
	all := integrationtest.Cases()
	i := slices.IndexFunc(all, func(c integrationtest.Case) bool { return c.Name == b.Case })
	if i < 0 {
		return c, false
	}
	return all[i], true
}

// SlipsThrough says what is wrong with a suite that does not find the bug.
func (b Bug) SlipsThrough() string {
	return fmt.Sprintf("without the case %q this bug slips through: %s", b.Case, b.Name)
}

// Sharp plants the bugs that every kind can have, and those that only this one
// can, each in a new harness, and demands that the case named for it finds it. So
// it proves that the observer of the harness is not blind. What the harness cannot
// be tried for is left out, as in the suite.
//
// Harm to a stranger's account, or to what an account owns, can be done by the
// room alone: it brings these bugs, and whatever else its target makes possible.
func Sharp(t *testing.T, newHarness func(t *testing.T) *integrationtest.Harness, own ...Bug) {
	for _, bug := range slices.Concat(Bugs(), own) {
		t.Run(bug.Case+"/"+bug.Name, func(t *testing.T) {
			c, ok := bug.InSuite()
			if !ok {
				t.Fatal(bug.SlipsThrough())
			}
			h := newHarness(t)
			if missing := c.Missing(h); missing != "" {
				t.Skipf("needs: %s", missing)
			}
			if r := integrationtest.Try(t.Context(), c, bug.Plant(h), t.Logf); r.Status != integrationtest.Failed {
				t.Errorf("the case %q does not find this bug: %s", bug.Case, bug.Name)
			}
		})
	}
}

// planted is a spoiled integration.
type planted struct{ *Process }

func (p planted) Check(ctx context.Context) (access.CheckReport, error) {
	return p.Process.Check(ctx)
}

func (p planted) Discover(ctx context.Context, cursor string) (access.Page, error) {
	return p.Process.Discover(ctx, cursor)
}

func (p planted) Held(ctx context.Context, a access.Account, want []access.Entitlement) ([]access.Slot, error) {
	return p.Process.Held(ctx, a, want)
}

func (p planted) Grant(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
	return p.Process.Grant(ctx, req)
}

func (p planted) Revoke(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
	return p.Process.Revoke(ctx, req)
}

func (p planted) Verify(ctx context.Context, a access.Account, want []access.Entitlement) ([]access.Entry, error) {
	return p.Process.Verify(ctx, a, want)
}

func (p planted) DeleteAccount(ctx context.Context, req integrations.DeleteRequest) (integrations.DeleteResult, error) {
	return p.Process.DeleteAccount(ctx, req)
}

func (p planted) Accounts(ctx context.Context, cursor string) (access.PrincipalPage, error) {
	return p.Process.Accounts(ctx, cursor)
}

func (p planted) Close() error { return p.Process.Close() }

// plantedSetter is one whose accounts have credentials.
type plantedSetter struct{ planted }

func (p plantedSetter) SetCredential(ctx context.Context, req integrations.CredentialRequest) (integrations.Credential, error) {
	return p.Process.SetCredential(ctx, req)
}

// plantedRotator is one whose connector can change its own secret.
type plantedRotator struct{ planted }

func (p plantedRotator) NextSecret() (any, error) {
	return p.Sound.(integrations.SecretRotator).NextSecret()
}

func (p plantedRotator) RotateSecret(ctx context.Context, next any) error {
	return p.Process.RotateSecret(ctx, next)
}

// plantedBoth is one that is both.
type plantedBoth struct {
	plantedSetter
	rotator plantedRotator
}

func (p plantedBoth) NextSecret() (any, error) { return p.rotator.NextSecret() }

func (p plantedBoth) RotateSecret(ctx context.Context, next any) error {
	return p.rotator.RotateSecret(ctx, next)
}
