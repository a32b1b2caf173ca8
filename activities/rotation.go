package activities

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/secrets"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/workflows"
)

// PlanRotation says what is due: the connector's own secret, and the accounts
// that hold something under a credential that is old enough, or whose last
// change is stuck. After a restore nothing is.
func (c *Control) PlanRotation(ctx context.Context, a access.RotationArgs) (access.RotationPlan, error) {
	return guard(ctx, failed, func(ctx context.Context) (p access.RotationPlan, err error) {
		in, err := c.Store.Integration(ctx, a.Integration)
		if errors.Is(err, store.ErrNotFound) {
			return access.RotationPlan{Why: "there is no such integration any more"}, nil
		}
		if err != nil {
			return p, err
		}
		p.Integration, p.Connector = in.Name, workflows.ConnectorQueue(in.Connector)
		if p.Why = in.Removal.Closed(in.Name); p.Why != "" {
			return p, nil
		}
		if why, err := c.CheckEpoch(ctx); err != nil || why != "" {
			p.Why = why
			return p, err
		}
		now := c.Store.Now()
		if !a.Now && !in.Rotation.Open(now) {
			p.Why = "it is not the time for it: rotation.window is " + in.Rotation.Window
			return p, nil
		}
		secret, accounts, err := c.Store.Rotations(ctx, in.ID)
		if err != nil {
			return p, err
		}
		due := func(r store.Rotation, after access.Days) bool {
			return after > 0 && (r.Stuck != "" || now.Sub(r.At) >= after.Std())
		}
		kind := c.Kinds[in.Kind]
		p.Secret = kind.RotatesSecret && (a.Now && a.Secret || !a.Now && due(secret, in.SecretRotationDays))
		rows, err := c.Store.AccountsOf(ctx, in.ID)
		if err != nil {
			return p, err
		}
		for _, row := range rows {
			r, ok := accounts[row.ID]
			named := a.Now && (a.AccountID == row.ID || a.AccountID == "" && !a.Secret)
			if !kind.Credentials || !ok || !(named || !a.Now && due(r, in.CredentialRotationDays)) {
				continue
			}
			if account, held := rotationOf(row, now); held {
				p.Accounts = append(p.Accounts, account)
			}
		}
		if !p.Secret && len(p.Accounts) == 0 {
			p.Why = "nothing is due"
		}
		return p, nil
	})
}

// rotationOf is an account as a rotation names it; held is false where nothing
// is active on it.
func rotationOf(row store.AccountRow, now time.Time) (a access.RotationAccount, held bool) {
	// The same within an hour is the same change, also when it is planned twice.
	a = access.RotationAccount{ID: row.ID, Email: row.Email, Nonce: fmt.Sprintf("rotate-%d-%d", row.Generation+1, now.Unix()/int64(time.Hour/time.Second))}
	for _, h := range row.Holds {
		if h.State == access.StateActive {
			a.RequestID, a.HoldIDs = h.RequestID, append(a.HoldIDs, h.ID)
		}
	}
	return a, len(a.HoldIDs) > 0
}

// RotateSecret changes the connector's own secret. The next value is written
// beside the present one first; then the target takes it; a login of its own
// proves it; and only then it takes the present one's place. Whatever happens in
// between, both values are kept, and the next attempt finds out which of them
// holds.
func (p *Provision) RotateSecret(ctx context.Context, integration string) (access.SecretDone, error) {
	return guard(ctx, failed, func(ctx context.Context) (done access.SecretDone, err error) {
		if err := p.unrestored(ctx); err != nil {
			return done, err
		}
		settings, err := p.Target(ctx, integration)
		if err != nil {
			return done, err
		}
		if err := p.Secrets.Rotatable(settings.Secret); err != nil {
			return done, access.Errorf(access.Unsupported, "%w", err)
		}
		next := p.Kinds[settings.Kind].Secret()
		begun := p.Secrets.Changing(settings.Secret)
		if begun {
			v, err := p.Secrets.Next(ctx, settings.Secret)
			if err == nil {
				err = v.Decode(next)
			}
			if err != nil {
				return done, access.Errorf(access.Invalid, "the next secret, which a rotation left behind, cannot be read (remove the file if the present one works): %w", err)
			}
		}
		if !begun || p.prove(ctx, integration, settings, next) != nil {
			present := p.Kinds[settings.Kind].Secret()
			if err := p.Secrets.Resolve(ctx, settings.Secret, present); err != nil {
				return done, access.Errorf(access.Auth, "%w", err)
			}
			if err := p.replace(ctx, integration, settings, present, &next, begun); err != nil {
				return done, fmt.Errorf("%s: %w", settings.Name, err)
			}
			if err := p.prove(ctx, integration, settings, next); err != nil {
				return done, access.Errorf(access.KindOf(err), "%s took the new secret, and does not let us in with it; both are kept: %w", settings.Name, err)
			}
		}
		if err := p.Secrets.Promote(settings.Secret, next); err != nil {
			return done, err
		}
		p.forget(integration)
		return access.SecretDone{At: time.Now().UTC(), Facts: []string{"a login with the new one was made before it replaced the old one in " + settings.Secret.String()}}, nil
	})
}

// replace makes the target take another secret, which is on disk before.
func (p *Provision) replace(ctx context.Context, id string, settings config.Integration, present any, next *any, begun bool) error {
	i, err := p.make(id, settings, present)
	if err != nil {
		return err
	}
	defer i.Close()
	rotator, ok := i.(integrations.SecretRotator)
	if !ok {
		return access.Errorf(access.Unsupported, "the connector of a %s cannot change its own secret", settings.Kind)
	}
	if !begun {
		if *next, err = rotator.NextSecret(); err != nil {
			return err
		}
		if err := p.Secrets.Prepare(settings.Secret, *next); err != nil {
			if errors.Is(err, secrets.ErrChanging) {
				return access.Errorf(access.Retry, "%w", err)
			}
			return access.Errorf(access.Invalid, "%w", err)
		}
	}
	return rotator.RotateSecret(ctx, *next)
}

// prove logs in with a secret, by a connection of its own.
func (p *Provision) prove(ctx context.Context, id string, settings config.Integration, secret any) error {
	i, err := p.make(id, settings, secret)
	if err != nil {
		return err
	}
	defer i.Close()
	_, err = i.Accounts(ctx, "")
	return err
}
