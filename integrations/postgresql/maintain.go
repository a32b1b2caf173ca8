package postgresql

import (
	"context"
	"fmt"
	"time"

	"github.com/lapse-access/lapse/access"
)

// idleAge is how long an entitlement role stays after it was last in use.
const idleAge = 7 * 24 * time.Hour

// maintain looks at one entitlement role, again now that it has the turn.
func (s *session) maintain(ctx context.Context, e access.Entitlement) (notes []string, err error) {
	t, err := s.i.parse(e)
	if err != nil {
		return nil, err
	}
	p, err := s.plan(ctx, t)
	missing := access.KindOf(err) == access.ResourceMissing
	switch {
	case err != nil && !missing:
		return nil, err
	case !p.exists:
		return nil, nil
	case p.members == 0 && (missing || time.Since(p.applied) > idleAge):
		return s.dropRole(ctx, p)
	case missing:
		return []string{fmt.Sprintf("%d accounts hold %s, which is not there any more", p.members, e)}, nil
	case p.members == 0, len(p.define) == 0 && p.fresh():
		return p.notes, nil
	}
	if err := s.define(ctx, p); err != nil {
		return p.notes, err
	}
	return p.notes, during("marking role "+p.role, s.execOn(ctx, p.role, s.entitlementMark(p, time.Now().UTC().Truncate(time.Second))))
}

// clean drops one entitlement role, unless somebody has it or it owns things.
func (s *session) clean(ctx context.Context, e access.Entitlement) (left []string, err error) {
	t, err := s.i.parse(e)
	if err != nil {
		return nil, err
	}
	rows, err := ask[roleRow](ctx, s.conn, roleSQL, t.role, dangerous, "", 1)
	if err != nil || len(rows) == 0 {
		return nil, during("reading role "+t.role, err)
	}
	if m, _ := readMark(rows[0].Comment); m.Kind != kindEntitlement || !s.i.owns(m) {
		return nil, nil
	}
	if n := rows[0].Members; n > 0 {
		return []string{fmt.Sprintf("role %s: %d accounts have it", t.role, n)}, nil
	}
	needed, err := s.drop(ctx, t, rows[0].OID)
	if err == nil && len(needed) > 0 {
		left = []string{fmt.Sprintf("role %s: %s", t.role, needed[0])}
	}
	return left, err
}

// dropRole drops an entitlement role without members, unless it owns things.
func (s *session) dropRole(ctx context.Context, p plan) (notes []string, err error) {
	needed, err := s.drop(ctx, p.target, p.oid)
	if err != nil {
		return nil, err
	}
	if len(needed) > 0 {
		return []string{fmt.Sprintf("role %s is not in use and is kept: %s", p.role, needed[0])}, nil
	}
	return []string{"dropped role " + p.role + ", which nobody has had for a while: " + p.Entitlement.String()}, nil
}

// drop drops an entitlement role, unless something depends on it that it cannot
// release. The rights on the database are taken back just as they were given:
// where the connector has them both from an owner and by itself, the server takes
// a GRANT of some for the connector's own, and DROP OWNED for the owner's.
func (s *session) drop(ctx context.Context, t target, oid int64) ([]dependency, error) {
	err := s.exec(ctx, ddl("REVOKE ? ON DATABASE ? FROM ?", keywords(t.wants(s.server.Version).database), ident(t.database), ident(t.role)))
	if k := access.KindOf(err); err != nil && k != access.ResourceMissing && k != access.Privilege {
		return nil, during("taking back the rights on database "+t.database, err)
	}
	needed, err := s.release(ctx, t.role, oid)
	if err != nil || len(needed) > 0 {
		return needed, err
	}
	return nil, during("dropping role "+t.role, s.execOn(ctx, t.role, ddl("DROP ROLE IF EXISTS ?", ident(t.role))))
}
