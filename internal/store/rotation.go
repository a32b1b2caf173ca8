package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/lapse-access/lapse/access"
)

// Rotation is when a credential was last changed, and why the last change of it
// failed half way, "" where it did not.
type Rotation struct {
	At    time.Time
	Stuck string
}

// Rotations are those of an integration: of its connector's secret, and of the
// accounts that have a credential, by id. What was never changed is counted
// from the first look.
func (s *Store) Rotations(ctx context.Context, integrationID string) (secret Rotation, accounts map[string]Rotation, err error) {
	accounts = map[string]Rotation{}
	err = s.write(ctx, func(tx *sql.Tx) error {
		now := s.Now()
		if _, err := tx.ExecContext(ctx, `insert into rotations (subject, at) values ($1, $2) on conflict (subject) do nothing`, integrationID, asTime{&now}); err != nil {
			return err
		}
		_, err := all(ctx, tx, func(row scanner) (r Rotation, err error) {
			var subject string
			if err = row.Scan(&subject, asTime{&r.At}, &r.Stuck); err != nil {
				return r, err
			}
			if subject == integrationID {
				secret = r
			} else {
				accounts[subject] = r
			}
			return r, nil
		}, `select subject, at, stuck from rotations where subject = $1 or subject in (select id from accounts where integration = $1 and not deleted)`, integrationID)
		return err
	})
	return secret, accounts, err
}

// Stuck says why the last change of a credential failed half way, by the id of
// the account, or of the integration for the secret of its connector.
func (s *Store) Stuck(ctx context.Context, integrationID string) (map[string]string, error) {
	stuck := map[string]string{}
	_, err := all(ctx, s.readers, func(row scanner) (why string, err error) {
		var subject string
		err = row.Scan(&subject, &why)
		stuck[subject] = why
		return why, err
	}, `select subject, stuck from rotations where stuck <> '' and (subject = $1 or subject in (select id from accounts where integration = $1 and not deleted))`, integrationID)
	return stuck, err
}

// rotated keeps that a credential was changed now.
func (s *Store) rotated(ctx context.Context, tx *sql.Tx, subject string) error {
	now := s.Now()
	_, err := tx.ExecContext(ctx, `insert into rotations (subject, at) values ($1, $2)
		on conflict (subject) do update set at = excluded.at, stuck = ''`, subject, asTime{&now})
	return err
}

// applyRotation keeps how a change of a credential ended.
func (s *Store) applyRotation(ctx context.Context, tx *sql.Tx, c access.RotationChange) error {
	if c.Stuck == "" {
		return s.rotated(ctx, tx, c.Subject)
	}
	now := s.Now()
	_, err := tx.ExecContext(ctx, `insert into rotations (subject, at, stuck) values ($1, $2, $3)
		on conflict (subject) do update set stuck = excluded.stuck`, c.Subject, asTime{&now}, c.Stuck)
	return err
}
