package portal

import (
	"context"
	"errors"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/store"
)

// told is what the target would be told by a grant to somebody who has nothing
// there yet. It is empty where the grant itself would be refused for its names.
func (p *Portal) told(ctx context.Context, c *caller, who access.Person, a access.Asked, d access.Duration) ([]string, error) {
	in, _ := c.integration(a.Integration)
	kind := p.opts.Kinds[in.Kind]
	if kind.Told == nil {
		return nil, nil
	}
	settings, err := in.Settings(kind)
	if err != nil {
		return nil, err
	}
	account := access.Account{ID: access.AccountID(in.ID, who.ID), Integration: in.ID, PersonID: who.ID, Email: who.Email}
	switch row, err := p.opts.Store.Account(ctx, account.ID); {
	case err == nil:
		account.Name = row.Name
	case !errors.Is(err, store.ErrNotFound):
		return nil, err
	}
	lines, err := kind.Told(integrations.Target{Instance: p.opts.Store.Instance(), ID: in.ID, Name: in.Name, Config: settings},
		integrations.GrantRequest{Account: account, Want: []access.Entitlement{a.Entitlement}, End: c.now.Add(d.Std()), Sequence: access.FirstSequence(1)})
	if _, refused := errors.AsType[*access.Error](err); refused {
		return nil, nil
	}
	return lines, err
}
