package store

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
)

// What automatic access flows gave, and what they leave alone.

// Leases reads the leases that are not known to be over, by flow, person and
// round, with their holds but without evidence, and what is withheld.
func (s *Store) Leases(ctx context.Context) (leases []access.Lease, withheld map[access.LeaseKey]access.Withheld, err error) {
	withheld = map[access.LeaseKey]access.Withheld{}
	err = s.read(ctx, func(tx *sql.Tx) error {
		leases, err = all(ctx, tx, func(row scanner) (l access.Lease, err error) {
			err = row.Scan(&l.RequestID, &l.Flow, &l.PersonID, &l.Round, &l.Started, &l.State, &l.Decided)
			return l, err
		}, `select l.request_id, l.flow, l.person_id, l.round, l.started, r.state, exists (select 1 from decisions d where d.request_id = l.request_id)
			from leases l join requests r on r.id = l.request_id where not l.over order by l.flow, l.person_id, l.round`)
		if err != nil {
			return err
		}
		byID := make(map[string]*access.Lease, len(leases))
		for i := range leases {
			byID[leases[i].RequestID] = &leases[i]
		}
		_, err = all(ctx, tx, func(row scanner) (h access.Hold, err error) {
			h.Entitlement, err = scanEntitlement(row, &h.ID, &h.RequestID, &h.AccountID, &h.State, asTime{&h.EndsAt}, &h.Error)
			if l := byID[h.RequestID]; err == nil && l != nil {
				l.Holds = append(l.Holds, h)
			}
			return h, err
		}, `select h.id, h.request_id, h.account_id, h.state, h.ends_at, h.error, h.integration, h.resource, h.permission
			from leases l join holds h on h.request_id = l.request_id where not l.over order by h.request_id, h.position`)
		if err != nil {
			return err
		}
		_, err = all(ctx, tx, func(row scanner) (w access.Withheld, err error) {
			var key access.LeaseKey
			key.Entitlement, err = scanEntitlement(row, &key.Flow, &key.PersonID, &w.HoldID, &w.Why, &w.Failures, asTime{&w.Until})
			withheld[key] = w
			return w, err
		}, `select flow, person_id, hold_id, why, failures, until, integration, resource, permission from withheld`)
		return err
	})
	return leases, withheld, err
}

// scanEntitlement scans a row that ends with an entitlement.
func scanEntitlement(row scanner, before ...any) (e access.Entitlement, err error) {
	var resource string
	if err = row.Scan(append(before, &e.Integration, &resource, &e.Permission)...); err == nil {
		e.Resource, err = access.ParseResource(resource)
	}
	return e, err
}

// Leased reports whether there is a lease that is not known to be over.
func (s *Store) Leased(ctx context.Context) (bool, error) {
	return exists(ctx, s.readers, `select 1 from leases where not over limit 1`)
}

// SettleLeases keeps what a plan says of the leases that there are.
func (s *Store) SettleLeases(ctx context.Context, p access.LeasePlan) error {
	if len(p.Over)+len(p.Withhold)+len(p.Resume) == 0 {
		return nil
	}
	return s.write(ctx, func(tx *sql.Tx) error {
		for key := range p.Resume {
			_, err := tx.ExecContext(ctx, `delete from withheld where flow = $1 and person_id = $2 and integration = $3 and resource = $4 and permission = $5`,
				key.Flow, key.PersonID, key.Entitlement.Integration, key.Entitlement.Resource.String(), key.Entitlement.Permission)
			if err != nil {
				return err
			}
		}
		for key, w := range p.Withhold {
			_, err := tx.ExecContext(ctx, `insert into withheld (flow, person_id, integration, resource, permission, hold_id, why, failures, until)
				values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict (flow, person_id, integration, resource, permission) do update set
				hold_id = excluded.hold_id, why = excluded.why, failures = excluded.failures, until = excluded.until`,
				key.Flow, key.PersonID, key.Entitlement.Integration, key.Entitlement.Resource.String(), key.Entitlement.Permission, w.HoldID, w.Why, w.Failures, asTime{&w.Until})
			if err != nil {
				return err
			}
		}
		return markLeases(ctx, tx, `over`, p.Over)
	})
}

// LeasesStarted notes that the workflows of leases were started.
func (s *Store) LeasesStarted(ctx context.Context, requests []string) error {
	return s.write(ctx, func(tx *sql.Tx) error { return markLeases(ctx, tx, `started`, requests) })
}

// markLeases sets a column of leases, some at a time: a statement takes so many
// arguments.
func markLeases(ctx context.Context, tx *sql.Tx, column string, requests []string) error {
	for some := range slices.Chunk(requests, 500) {
		args := make([]any, len(some))
		for i, id := range some {
			args[i] = id
		}
		if _, err := tx.ExecContext(ctx, `update leases set `+column+` = true where request_id in (`+marks(1, len(args))+`)`, args...); err != nil {
			return err
		}
	}
	return nil
}

// CreateLease makes the next lease of a flow and a person, and returns its round;
// 0 where another one was made since that which the caller has seen.
func (s *Store) CreateLease(ctx context.Context, a access.LeaseAsk, request func(round int) (access.Request, access.Event)) (round int, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		var last, open int
		err := tx.QueryRowContext(ctx, `select coalesce(max(round), 0), coalesce(max(case when not over then round end), 0) from leases where flow = $1 and person_id = $2`,
			a.Flow.Name, a.Person.ID).Scan(&last, &open)
		if err != nil || open > a.Seen {
			return err
		}
		r, event := request(last + 1)
		if _, err := s.createRequest(ctx, tx, r, event); err != nil {
			return err
		}
		round = last + 1
		_, err = tx.ExecContext(ctx, `insert into leases (request_id, flow, person_id, round) values ($1, $2, $3, $4)`, r.ID, a.Flow.Name, a.Person.ID, round)
		return err
	})
	return round, err
}

// EndedByHand says who ended by hand what the automatic flow of a request would
// give; empty when nobody did.
func (s *Store) EndedByHand(ctx context.Context, r access.Request) (why string, err error) {
	var rows []string
	args := []any{r.Flow, r.PersonID}
	for _, a := range r.Asked {
		rows = append(rows, `(`+marks(len(args)+1, 3)+`)`)
		args = append(args, a.Entitlement.Integration, a.Entitlement.Resource.String(), a.Entitlement.Permission)
	}
	err = s.readers.QueryRowContext(ctx, `select why from withheld where flow = $1 and person_id = $2 and failures = 0
		and (integration, resource, permission) in (values `+strings.Join(rows, ", ")+`) limit 1`, args...).Scan(&why)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return why, err
}
