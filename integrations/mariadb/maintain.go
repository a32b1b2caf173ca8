package mariadb

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/mysqldb"
)

// eachEntitlement does something with each entitlement role, in a turn of its
// own, and goes on after one that failed.
func (i *integration) eachEntitlement(ctx context.Context, do func(*operation, context.Context, target) ([]string, error)) (notes []string, err error) {
	var carried map[string]access.Entitlement
	err = i.reading(ctx, func(ctx context.Context, o *operation) error {
		carried, err = o.carried(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(carried)) {
		t, err := i.parse(carried[name])
		if err == nil {
			err = i.inTurn(ctx, func(ctx context.Context, o *operation) error {
				said, err := do(o, ctx, t)
				notes = append(notes, said...)
				return err
			})
		}
		errs = append(errs, err)
	}
	return notes, access.Worst(errs...)
}

// maintain looks at one entitlement role, again now that it has the turn.
func (o *operation) maintain(ctx context.Context, t target) (notes []string, err error) {
	p, err := o.plan(ctx, t)
	missing := access.KindOf(err) == access.ResourceMissing
	switch {
	case err != nil && !missing:
		return nil, err
	case !p.exists:
		return nil, nil
	case p.members == 0:
		return []string{"dropped role " + p.role + ", which nobody has: " + t.Entitlement.String()}, o.drop(ctx, p.role)
	case missing:
		return []string{fmt.Sprintf("%d accounts hold %s, which is not there any more", p.members, t.Entitlement)}, nil
	}
	if p.note != "" {
		notes = append(notes, p.note)
	}
	return notes, mysqldb.During("giving "+t.Permission+" on "+t.Resource.String(), o.Exec(ctx, o.define(p)...))
}

// clean drops one entitlement role, unless somebody has it.
func (o *operation) clean(ctx context.Context, t target) (left []string, err error) {
	p := plan{target: t}
	if _, err := o.readRole(ctx, &p); err != nil || !p.exists {
		return nil, err
	}
	if p.members > 0 {
		return []string{fmt.Sprintf("role %s: %d accounts have it", p.role, p.members)}, nil
	}
	return nil, o.drop(ctx, p.role)
}

func (o *operation) drop(ctx context.Context, name string) error {
	return mysqldb.During("dropping role "+name, o.Exec(ctx, o.Statement("DROP ROLE IF EXISTS ?", role(name))))
}
