package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/lapse-access/lapse/access"
)

// ChangeRemoval changes the removal of an integration, together with the event
// that says so; without one nothing is changed. The change gets the integration
// as it stands, and returns nil where there is to be no removal.
func (s *Store) ChangeRemoval(ctx context.Context, integrationID string, change func(IntegrationRow) (*access.Removal, access.Event, error)) (in IntegrationRow, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		if in, err = integration(ctx, tx, integrationID); err != nil {
			return err
		}
		next, event, err := change(in)
		if err != nil || event.Key == "" {
			return err
		}
		if _, err := s.appendEvent(ctx, tx, event); err != nil {
			return err
		}
		in.Removal = next
		_, err = tx.ExecContext(ctx, `update integrations set removal = $1 where id = $2`, asJSON{next}, integrationID)
		return err
	})
	return in, err
}

// Open lists what a removal has to end on an integration: holds that may have
// access on the target, and accounts that may be there.
func (s *Store) Open(ctx context.Context, integrationID string) (left []access.Left, err error) {
	rows, err := s.AccountsOf(ctx, integrationID)
	for _, row := range rows {
		for _, h := range row.Holds {
			text := fmt.Sprintf("%s has %s until %s (request %s)", row.Email, h.Entitlement, h.EndsAt.UTC().Format(time.RFC3339), h.RequestID)
			if late := h.OverdueAt(s.Now()); late > 0 {
				text = fmt.Sprintf("%s may still have %s, which should be gone for %s (request %s)", row.Email, h.Entitlement, late.Round(time.Second), h.RequestID)
			}
			left = append(left, access.Left{Kind: access.LeftHold, Subject: h.ID, Text: text})
		}
		if len(row.Holds) > 0 || !row.CleanupAt.IsZero() {
			left = append(left, access.Left{Kind: access.LeftAccount, Subject: row.ID, Text: fmt.Sprintf("the account %s of %s is not deleted yet", row.Name, row.Email)})
		}
	}
	return left, err
}

// Forget ends the removal of an integration. The row stays, for what names it,
// and its name is free. It refuses with access.Conflict while something is
// held, the configuration has it, or the removal is another one by now: then
// nothing is changed. A repetition changes nothing either.
func (s *Store) Forget(ctx context.Context, integrationID, removal string, event access.Event) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		in, err := integration(ctx, tx, integrationID)
		if err != nil {
			return err
		}
		open, err := exists(ctx, tx, `select 1 from accounts a where a.integration = $1 and not a.deleted and (a.cleanup_at is not null
			or exists (select 1 from holds where holds.account_id = a.id and opened and state not in `+finalStates+`))`, integrationID)
		switch {
		case err != nil:
			return err
		case in.Removal == nil || in.Removal.ID != removal || !in.Removed || open:
			return access.Errorf(access.Conflict, "%s is in use again", in.Name)
		case !in.Removal.Running():
			return nil
		}
		in.Removal.ForgottenAt = event.At
		if _, err := s.appendEvent(ctx, tx, event); err != nil {
			return err
		}
		for _, statement := range []string{
			`update integrations set name = 'forgotten/' || id where id = $1`,
			`update accounts set deleted = true where integration = $1`,
			`delete from resources where integration = $1`,
			`delete from findings where integration = $1`,
			`delete from rotations where subject = $1 or subject in (select id from accounts where integration = $1)`,
		} {
			if _, err := tx.ExecContext(ctx, statement, integrationID); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `update integrations set removal = $1 where id = $2`, asJSON{in.Removal}, integrationID)
		return err
	})
}

// closed is the error for an account on an integration that is being removed.
func closed(ctx context.Context, tx *sql.Tx, integrationID string) error {
	in, err := integration(ctx, tx, integrationID)
	if err == nil && in.Removal != nil {
		err = access.Errorf(access.NoTicket, "%s", in.Removal.Closed(in.Name))
	}
	return err
}
