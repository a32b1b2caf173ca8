package integrationtest_test

import (
	"context"
	"flag"
	"slices"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/internal/certificationtest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "4") // the tests wait for the clock more than for a processor
	m.Run()
}

// models are the three model rooms, and what they truly lack.
var models = map[string]struct {
	new   func(t *testing.T, f fault) *integrationtest.Harness
	lacks []integrationtest.Capability
}{
	"set": {newSet, []integrationtest.Capability{
		integrationtest.Credentials, integrationtest.Principals, integrationtest.Ownership, integrationtest.NativeExpiry, integrationtest.OwnSecret,
		integrationtest.Sequence, integrationtest.Levels, integrationtest.Inheritance, integrationtest.Invitations,
	}},
	"slot": {newSlot, []integrationtest.Capability{
		integrationtest.Credentials, integrationtest.Principals, integrationtest.Ownership, integrationtest.NativeExpiry, integrationtest.OwnSecret, integrationtest.Sequence,
	}},
	"list": {newList, []integrationtest.Capability{
		integrationtest.Levels, integrationtest.Inheritance, integrationtest.Invitations, integrationtest.Directory, integrationtest.Refusal,
	}},
}

// TestModels certifies every model room. Each leaves out what it lacks, and
// together they leave out nothing.
func TestModels(t *testing.T) {
	t.Parallel()
	passed := map[string]bool{}
	for name, model := range models {
		t.Run(name, func(t *testing.T) {
			for _, r := range certificationtest.Cases(t, func(t *testing.T) *integrationtest.Harness { return model.new(t, nil) }) {
				if r.Status == integrationtest.Skipped && !slices.Contains(model.lacks, integrationtest.Capability(r.Reason)) {
					t.Errorf("%s was left out: %s", r.Name, r.Reason)
				}
				passed[r.Name] = passed[r.Name] || r.Status == integrationtest.Passed
			}
		})
	}
	for _, c := range integrationtest.Cases() {
		if !passed[c.Name] {
			t.Errorf("no model room passes %s", c.Name)
		}
	}
}

// TestModelsOnBadDays certifies them on targets that make it hard, without a
// proxy on top.
func TestModelsOnBadDays(t *testing.T) {
	t.Parallel()
	for name, model := range models {
		for day, f := range faults {
			t.Run(name+" "+day, func(t *testing.T) {
				t.Parallel()
				certificationtest.Cases(t, func(t *testing.T) *integrationtest.Harness {
					h := patiently(model.new(t, f))
					h.Target.Config.(*config).Repeat = 3
					h.Via = nil
					return h
				})
			})
		}
	}
}

// patiently repeats what failed for the time being, as Lapse does.
func patiently(h *integrationtest.Harness) *integrationtest.Harness {
	hasty := h.Kind.New
	h.Kind.New = func(t integrations.Target) (integrations.Integration, error) {
		i, err := hasty(t)
		if err != nil {
			return nil, err
		}
		if setter, ok := i.(integrations.CredentialSetter); ok {
			return patientSetter{patient{i}, setter}, nil
		}
		return patient{i}, nil
	}
	return h
}

// patience is how often something is tried.
const patience = 10

func repeat[V any](ctx context.Context, operation func() (V, error)) (v V, err error) {
	for range patience {
		v, err = operation()
		switch access.KindOf(err) {
		case access.Retry, access.Conflict, access.RateLimited:
			if ctx.Err() != nil {
				return v, err
			}
		default:
			return v, err
		}
	}
	return v, err
}

type patient struct{ hasty integrations.Integration }

func (p patient) Check(ctx context.Context) (report access.CheckReport, err error) {
	for range patience {
		if report, err = p.hasty.Check(ctx); err == nil && report.OK() || ctx.Err() != nil {
			break
		}
	}
	return report, err
}

func (p patient) Discover(ctx context.Context, cursor string) (access.Page, error) {
	return repeat(ctx, func() (access.Page, error) { return p.hasty.Discover(ctx, cursor) })
}

func (p patient) Held(ctx context.Context, a access.Account, want []access.Entitlement) ([]access.Slot, error) {
	return repeat(ctx, func() ([]access.Slot, error) { return p.hasty.Held(ctx, a, want) })
}

func (p patient) Grant(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
	return repeat(ctx, func() (integrations.GrantResult, error) { return p.hasty.Grant(ctx, req) })
}

// Revoke does not give up where the target refuses us: another step may have
// failed for the time being.
func (p patient) Revoke(ctx context.Context, req integrations.RevokeRequest) (res integrations.RevokeResult, err error) {
	var notes []string
	for range patience {
		res, err = p.hasty.Revoke(ctx, req)
		notes = append(notes, res.Notes...)
		if err == nil || ctx.Err() != nil || access.KindOf(err) == access.Superseded {
			break
		}
	}
	res.Notes = notes
	return res, err
}

func (p patient) Verify(ctx context.Context, a access.Account, want []access.Entitlement) ([]access.Entry, error) {
	return repeat(ctx, func() ([]access.Entry, error) { return p.hasty.Verify(ctx, a, want) })
}

func (p patient) DeleteAccount(ctx context.Context, req integrations.DeleteRequest) (integrations.DeleteResult, error) {
	return repeat(ctx, func() (integrations.DeleteResult, error) { return p.hasty.DeleteAccount(ctx, req) })
}

func (p patient) Accounts(ctx context.Context, cursor string) (access.PrincipalPage, error) {
	return repeat(ctx, func() (access.PrincipalPage, error) { return p.hasty.Accounts(ctx, cursor) })
}

func (p patient) Close() error { return p.hasty.Close() }

type patientSetter struct {
	patient
	setter integrations.CredentialSetter
}

func (p patientSetter) SetCredential(ctx context.Context, req integrations.CredentialRequest) (integrations.Credential, error) {
	return repeat(ctx, func() (integrations.Credential, error) { return p.setter.SetCredential(ctx, req) })
}

func (p patientSetter) NextSecret() (any, error) {
	return p.setter.(integrations.SecretRotator).NextSecret()
}

func (p patientSetter) RotateSecret(ctx context.Context, next any) error {
	_, err := repeat(ctx, func() (struct{}, error) {
		return struct{}{}, p.setter.(integrations.SecretRotator).RotateSecret(ctx, next)
	})
	return err
}
