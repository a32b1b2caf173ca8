package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/lapse-access/lapse/access"
)

// finalStates are those of access.State.Final, for SQL.
const finalStates = `('ended', 'denied', 'expired', 'failed')`

// Record writes changes in order, all or none. A change whose event is there
// already is skipped.
//
// A request or hold in a final state stays as it is. A hold's zero times and
// missing evidence keep what is known. An account change replaces what is
// known, except that an empty name keeps it and the generation never falls.
// Rows that are not there, or that belong to another request or account than
// the change says, stay as they are too: the event alone is recorded, so that
// a forged change can neither do harm nor stop the record.
func (s *Store) Record(ctx context.Context, changes []access.Change) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		for _, c := range changes {
			fresh, err := s.appendEvent(ctx, tx, c.Event)
			if err != nil {
				return err
			}
			if !fresh {
				continue
			}
			if err := s.apply(ctx, tx, c); err != nil {
				return fmt.Errorf("recording %s: %w", c.Event.Key, err)
			}
		}
		return nil
	})
}

func (s *Store) apply(ctx context.Context, tx *sql.Tx, c access.Change) error {
	if r := c.Request; r != nil {
		_, err := tx.ExecContext(ctx, `update requests set state = $1, why = coalesce(nullif($2, ''), why), review = coalesce(nullif($3, ''), review)
			where id = $4 and state not in `+finalStates, r.State, r.Why, r.Review, r.ID)
		if err == nil {
			err = settle(ctx, tx, r.ID)
		}
		if err != nil {
			return err
		}
	}
	for _, h := range c.Holds {
		old, err := holds(ctx, tx, `id = $1 and request_id = $2 and account_id = $3`, h.ID, h.RequestID, h.AccountID)
		if err != nil {
			return err
		}
		if len(old) == 1 && !old[0].State.Final() {
			if err := updateHold(ctx, tx, merge(old[0], h)); err != nil {
				return err
			}
		}
	}
	if c.Rotation != nil {
		if err := s.applyRotation(ctx, tx, *c.Rotation); err != nil {
			return err
		}
	}
	if c.Account != nil {
		return applyAccount(ctx, tx, *c.Account)
	}
	return nil
}

// merge puts what a change says about a hold over what is known of it.
func merge(old, h access.Hold) access.Hold {
	if h.State != "" {
		old.State = h.State
	}
	if !h.StartsAt.IsZero() {
		old.StartsAt = h.StartsAt
	}
	if !h.EndsAt.IsZero() {
		old.EndsAt = h.EndsAt
	}
	if !h.MaxEnd.IsZero() {
		old.MaxEnd = h.MaxEnd
	}
	if h.Grant != nil {
		old.Grant = h.Grant
	}
	if h.Revoke != nil {
		old.Revoke = h.Revoke
	}
	old.Error = h.Error
	return old
}

func updateHold(ctx context.Context, tx *sql.Tx, h access.Hold) error {
	_, err := tx.ExecContext(ctx, `update holds set state = $1, opened = opened or $2, starts_at = $3, ends_at = $4, max_end = $5,
		error = $6, grant_evidence = $7, revoke_evidence = $8 where id = $9`,
		h.State, h.State.Open(), asTime{&h.StartsAt}, asTime{&h.EndsAt}, asTime{&h.MaxEnd}, h.Error, asJSON{h.Grant}, asJSON{h.Revoke}, h.ID)
	if err != nil {
		return err
	}
	return settle(ctx, tx, h.RequestID)
}

// openHoldOf finds the open holds of the account $1.
const openHoldOf = `select 1 from holds where holds.account_id = $1 and opened and state not in ` + finalStates

// applyAccount changes an account. One that is deleted starts fresh with its
// next hold; only its incarnation and generation go on. That nothing is held,
// as a cleanup or a deletion says, is not believed while a hold is open: such a
// change was overtaken by a new hold.
func applyAccount(ctx context.Context, tx *sql.Tx, c access.AccountChange) error {
	if c.Deleted || !c.CleanupAt.IsZero() {
		if open, err := exists(ctx, tx, openHoldOf, c.ID); err != nil || open {
			return err
		}
	}
	if c.Deleted {
		if _, err := tx.ExecContext(ctx, `delete from baselines where account_id = $1`, c.ID); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `update accounts set name = '', wrote = null, cleanup_at = null, deleted = true where id = $1`, c.ID)
		return err
	}
	_, err := tx.ExecContext(ctx, `update accounts set name = coalesce(nullif($1, ''), name),
		generation = case when generation < $2 then $2 else generation end, wrote = $3, cleanup_at = $4 where id = $5`,
		c.Name, c.Generation, asJSON{c.Wrote}, asTime{&c.CleanupAt}, c.ID)
	return err
}
