package mysql

import (
	"context"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

// Legacy is the kind, as it treats a server without roles and attributes.
func Legacy() integrations.Kind {
	k := Kind()
	k.New = func(t integrations.Target) (integrations.Integration, error) {
		made, err := New(t)
		if err != nil {
			return nil, err
		}
		made.(*integration).legacy = true
		return made, nil
	}
	k.Told = func(t integrations.Target, req integrations.GrantRequest) ([]string, error) {
		return tell(t, req, true)
	}
	return k
}

// Killing is the statement by which an integration ends session 42.
func Killing(ctx context.Context, i integrations.Integration) (text string, err error) {
	err = i.(*integration).reading(ctx, func(ctx context.Context, s *session) error {
		kill, err := s.killer(ctx, s.Conn)
		if err == nil {
			text = kill(42).Text
		}
		return err
	})
	return text, err
}

// Age makes an entitlement role one that was last looked after some time ago.
func Age(ctx context.Context, i integrations.Integration, e access.Entitlement, by time.Duration) error {
	return i.(*integration).reading(ctx, func(ctx context.Context, s *session) error {
		m := mark{Kind: kindEntitlement, Instance: s.i.instance, Integration: s.i.id, Entitlement: &e, Applied: time.Now().Add(-by)}
		return s.exec(ctx, s.marking(entitlementRole(s.i.instance, e), m, "")...)
	})
}
