package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lapse-access/lapse/access"
)

// AccountRow is what is known of an account.
type AccountRow struct {
	access.Account
	// Incarnation rises with every run of the account's workflow.
	Incarnation int64
	// Generation is that of the newest credential, dropped ones included.
	Generation int
	// Holds are those that may have access on the target: opened, and not in
	// a final state.
	Holds []access.Hold
	// Baseline is that of the slots on which one of Holds is open.
	Baseline []access.Baseline
	Wrote    map[string]string
	// CleanupAt is when the account is to be deleted; zero while it is in use.
	CleanupAt time.Time
	// Deleted is true while nothing of it is left.
	Deleted bool
}

// BeginAccount begins a new run of an account: it counts the incarnation up and
// returns all that the run goes on from. An incarnation is never less than the
// present in seconds, so that it rises also when the store is an older one,
// restored from a backup.
func (s *Store) BeginAccount(ctx context.Context, id string) (a AccountRow, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `update accounts set incarnation = case when incarnation < $2 then $2 else incarnation + 1 end where id = $1`, id, s.Now().Unix())
		if err != nil {
			return err
		}
		a, err = account(ctx, tx, id)
		return err
	})
	return a, err
}

// Account reads an account.
func (s *Store) Account(ctx context.Context, id string) (a AccountRow, err error) {
	err = s.read(ctx, func(tx *sql.Tx) error {
		a, err = account(ctx, tx, id)
		return err
	})
	return a, err
}

// AccountsOf lists the accounts of an integration that are not deleted.
func (s *Store) AccountsOf(ctx context.Context, integrationID string) (list []AccountRow, err error) {
	err = s.read(ctx, func(tx *sql.Tx) error {
		list, err = accounts(ctx, tx, `a.integration = $1 and not a.deleted`, integrationID)
		return err
	})
	return list, err
}

func account(ctx context.Context, tx *sql.Tx, id string) (AccountRow, error) {
	list, err := accounts(ctx, tx, `a.id = $1`, id)
	if err != nil {
		return AccountRow{}, err
	}
	if len(list) == 0 {
		return AccountRow{}, fmt.Errorf("account %s: %w", id, ErrNotFound)
	}
	return list[0], nil
}

// accounts reads accounts, named a in the condition, with what belongs to them.
func accounts(ctx context.Context, tx *sql.Tx, condition string, args ...any) ([]AccountRow, error) {
	list, err := all(ctx, tx, func(row scanner) (a AccountRow, err error) {
		err = row.Scan(&a.ID, &a.Integration, &a.PersonID, &a.Email, &a.Name, &a.Generation, &a.Incarnation,
			asJSON{&a.Wrote}, asTime{&a.CleanupAt}, &a.Deleted)
		return a, err
	}, `select a.id, a.integration, a.person_id, p.email, a.name,
		max(a.generation, coalesce((select c.generation from credentials c where c.account_id = a.id), 0)), a.incarnation, a.wrote, a.cleanup_at, a.deleted
		from accounts a join people p on p.id = a.person_id where `+condition+` order by a.id`, args...)
	if err != nil {
		return nil, err
	}
	byID := map[string]*AccountRow{}
	for i := range list {
		byID[list[i].ID] = &list[i]
	}
	ids := `account_id in (select a.id from accounts a where ` + condition + `)`
	open, err := holds(ctx, tx, ids+` and opened and state not in `+finalStates, args...)
	if err != nil {
		return nil, err
	}
	for _, h := range open {
		byID[h.AccountID].Holds = append(byID[h.AccountID].Holds, h)
	}
	_, err = all(ctx, tx, func(row scanner) (b access.Baseline, err error) {
		var id string
		if err = row.Scan(&id, &b.Slot, &b.Value, asJSON{&b.HeldAs}, asJSON{&b.Holds}); err == nil && isLive(b, byID[id].Holds) {
			byID[id].Baseline = append(byID[id].Baseline, b)
		}
		return b, err
	}, `select account_id, slot, value, held_as, holds from baselines where `+ids+` order by account_id, slot`, args...)
	return list, err
}

// isLive reports whether one of the holds for whose sake a baseline was taken
// is open.
func isLive(b access.Baseline, open []access.Hold) bool {
	return slices.ContainsFunc(open, func(h access.Hold) bool { return slices.Contains(b.Holds, h.ID) })
}

// OpenHolds is what must be durable before the first write on the target.
type OpenHolds struct {
	AccountID string
	RequestID string
	// Holds get the state granting and what is known of their times, of which
	// the end must be.
	Holds []access.Hold
	// Baseline is what is held now on the slots of the holds. Where a hold is
	// open on a slot already, its baseline stays, and is kept for the new
	// holds too.
	Baseline []access.Baseline
	// Wrote is all that Lapse will have written, by slot.
	Wrote map[string]string
	Event access.Event
}

// OpenHolds makes holds, their ends and the baseline durable before anything is
// written on the target, and cancels the account's cleanup. It refuses with
// access.NoTicket when the request is not approved, the integration is being
// removed, or a hold is over or active already. A repetition writes the rows again and the event once.
func (s *Store) OpenHolds(ctx context.Context, o OpenHolds) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		r, err := one(ctx, tx, "request "+o.RequestID, scanRequest, selectRequest+` where id = $1`, o.RequestID)
		if err != nil {
			return err
		}
		if r.State != access.StateApproved {
			return access.Errorf(access.NoTicket, "request %s is not approved: it is %s", o.RequestID, r.State)
		}
		a, err := account(ctx, tx, o.AccountID)
		if err != nil {
			return err
		}
		if err := closed(ctx, tx, a.Integration); err != nil {
			return err
		}
		if _, err := s.appendEvent(ctx, tx, o.Event); err != nil {
			return err
		}
		for _, b := range o.Baseline {
			if err := keepBaseline(ctx, tx, a, b); err != nil {
				return err
			}
		}
		for _, h := range o.Holds {
			if err := openHold(ctx, tx, o, h); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `update accounts set wrote = $1, cleanup_at = null, deleted = false where id = $2`, asJSON{o.Wrote}, o.AccountID)
		return err
	})
}

func openHold(ctx context.Context, tx *sql.Tx, o OpenHolds, h access.Hold) error {
	old, err := one(ctx, tx, "hold "+h.ID, scanHold, selectHold+` where id = $1`, h.ID)
	switch {
	case err != nil:
		return err
	case old.RequestID != o.RequestID || old.AccountID != o.AccountID:
		return access.Errorf(access.NoTicket, "hold %s is not of request %s and account %s", h.ID, o.RequestID, o.AccountID)
	case old.State.Final(), old.State.Open() && old.State != access.StateGranting:
		return access.Errorf(access.NoTicket, "hold %s is %s already", h.ID, old.State)
	case h.EndsAt.IsZero():
		return access.Errorf(access.Invalid, "hold %s has no end", h.ID)
	}
	h.State = access.StateGranting
	return updateHold(ctx, tx, merge(old, h))
}

// keepBaseline stores a baseline. One that was taken earlier, and for the sake
// of a hold that is still open, is not replaced: what is there now may be ours.
func keepBaseline(ctx context.Context, tx *sql.Tx, a AccountRow, b access.Baseline) error {
	i := slices.IndexFunc(a.Baseline, func(old access.Baseline) bool { return old.Slot == b.Slot })
	if i >= 0 {
		old := a.Baseline[i]
		b.Value, b.HeldAs = old.Value, old.HeldAs
		b.Holds = slices.Compact(slices.Sorted(slices.Values(slices.Concat(old.Holds, b.Holds))))
	}
	_, err := tx.ExecContext(ctx, `insert into baselines (account_id, slot, value, held_as, holds) values ($1, $2, $3, $4, $5)
		on conflict (account_id, slot) do update set value = excluded.value, held_as = excluded.held_as, holds = excluded.holds`,
		a.ID, b.Slot, b.Value, asJSON{b.HeldAs}, asJSON{b.Holds})
	return err
}

// PutCredential keeps the sealed credential of an account. A newer generation
// replaces an older one, and the same generation itself: it was made again. One
// that comes too late, because a newer one is there or its generation was
// dropped, is not kept.
func (s *Store) PutCredential(ctx context.Context, accountID string, generation int, ciphertext []byte) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		if err := require(ctx, tx, "account "+accountID, `select 1 from accounts where id = $1`, accountID); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `insert into credentials (account_id, generation, ciphertext, dropped) values ($1, $2, $3, false)
			on conflict (account_id) do update set generation = excluded.generation, ciphertext = excluded.ciphertext, dropped = false
			where excluded.generation > credentials.generation or (excluded.generation = credentials.generation and not credentials.dropped)`,
			accountID, generation, ciphertext)
		if err != nil {
			return err
		}
		return s.rotated(ctx, tx, accountID)
	})
}

// TakeCredential returns the sealed credential of an account, erases it, and
// records that it was shown. It is ErrNotFound when there is none (any more).
func (s *Store) TakeCredential(ctx context.Context, accountID string, e access.Event) (generation int, ciphertext []byte, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `select generation, ciphertext from credentials where account_id = $1 and ciphertext is not null`,
			accountID).Scan(&generation, &ciphertext)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("credential of account %s: %w", accountID, ErrNotFound)
		}
		if err != nil {
			return err
		}
		fresh, err := s.appendEvent(ctx, tx, e)
		if err != nil {
			return err
		}
		if !fresh {
			return access.Errorf(access.Invalid, "event %s is recorded already; showing a credential needs one of its own", e.Key)
		}
		_, err = tx.ExecContext(ctx, `update credentials set ciphertext = null where account_id = $1`, accountID)
		return err
	})
	if err != nil {
		return 0, nil, err
	}
	s.scrub(ctx)
	return generation, ciphertext, nil
}

// DropCredential erases the sealed credential of an account that holds nothing
// (any more). While a hold is open it does nothing.
func (s *Store) DropCredential(ctx context.Context, accountID string) error {
	var sealed bool
	err := s.write(ctx, func(tx *sql.Tx) (err error) {
		if sealed, err = exists(ctx, tx, `select 1 from credentials where account_id = $1 and ciphertext is not null`, accountID); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `update credentials set ciphertext = null, dropped = true where account_id = $1 and not dropped
			and not exists (`+openHoldOf+`)`, accountID)
		return err
	})
	if err == nil && sealed {
		s.scrub(ctx)
	}
	return err
}

// scrub empties the write-ahead log, which otherwise keeps what was erased for
// a while. It is erased whether that works or not, so a failure is no error;
// the next checkpoint does it.
func (s *Store) scrub(ctx context.Context) {
	_, _ = s.writer.ExecContext(ctx, `pragma wal_checkpoint(truncate)`)
}
