package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/config"
)

// NoticeRow is a notice under its id, as the person finds it.
type NoticeRow struct {
	ID string
	access.Notice
	// SeenAt is when the person said to have seen it; zero before.
	SeenAt time.Time
}

// Tell stores what people are told, together with what has to be sent over each
// channel of the configuration. What somebody was told under a key already
// changes nothing, and people who are disabled or not there are left out.
func (s *Store) Tell(ctx context.Context, notices []access.Notice) error {
	for _, n := range notices {
		if n.Key == "" || n.Kind.Title() == "" {
			return fmt.Errorf("a notice needs a key and a kind: %+v", n)
		}
	}
	if len(notices) == 0 {
		return nil
	}
	return s.write(ctx, func(tx *sql.Tx) error {
		var c config.Config
		err := tx.QueryRowContext(ctx, `select config from configs order by version desc limit 1`).Scan(asJSON{&c})
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		now := s.Now()
		for _, n := range notices {
			p, err := scanPerson(tx.QueryRowContext(ctx, `select person from people where id = $1`, n.PersonID))
			if errors.Is(err, sql.ErrNoRows) || err == nil && p.Disabled {
				continue
			}
			if err != nil {
				return err
			}
			if n.At.IsZero() {
				n.At = now
			}
			var seq int64
			err = tx.QueryRowContext(ctx, `insert into notices (id, key, person_id, kind, request_id, text, at) values ($1, $2, $3, $4, $5, $6, $7)
				on conflict (person_id, key) do nothing returning seq`,
				access.NewID("ntc"), n.Key, n.PersonID, n.Kind, n.RequestID, access.Line(n.Text), asTime{&n.At}).Scan(&seq)
			if errors.Is(err, sql.ErrNoRows) {
				continue
			}
			if err != nil {
				return err
			}
			for _, channel := range c.Notify.Channels() {
				_, err := tx.ExecContext(ctx, `insert into deliveries (notice, channel, since, next_at) values ($1, $2, $3, $3)`, seq, channel, asTime{&now})
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// NoticeFilter selects notices of one person.
type NoticeFilter struct {
	Person string // id
	Unseen bool   // only those
	After  string // id of the last notice of the page before
	Limit  int    // 100 when 0, at most 1000
}

const selectNotice = `select notices.id, key, person_id, kind, request_id, text, at, seen_at`

// Notices lists what a person was told, newest first.
func (s *Store) Notices(ctx context.Context, f NoticeFilter) ([]NoticeRow, error) {
	var w where
	w.and(`person_id = ?`, f.Person)
	if f.Unseen {
		w.and(`seen_at is null`)
	}
	if f.After != "" {
		w.and(`seq < (select seq from notices where id = ?)`, f.After)
	}
	return all(ctx, s.readers, func(row scanner) (n NoticeRow, err error) {
		return n, row.Scan(n.fields()...)
	}, selectNotice+` from notices where true`+w.sql+fmt.Sprintf(` order by seq desc limit %d`, pageSize(f.Limit)), w.args...)
}

func (n *NoticeRow) fields() []any {
	return []any{&n.ID, &n.Key, &n.PersonID, &n.Kind, &n.RequestID, &n.Text, asTime{&n.At}, asTime{&n.SeenAt}}
}

// UnseenNotices counts what a person was told and has not seen, up to a most.
func (s *Store) UnseenNotices(ctx context.Context, person string, most int) (n int, err error) {
	err = s.readers.QueryRowContext(ctx, `select count(*) from (select 1 from notices where person_id = $1 and seen_at is null limit $2)`, person, most).Scan(&n)
	return n, err
}

// SeenNotices notes that a person has seen a notice, and what was told before
// it, and counts what was not seen before. It is ErrNotFound when the person
// has no such notice.
func (s *Store) SeenNotices(ctx context.Context, person, upTo string) (n int64, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		if err := require(ctx, tx, "notice "+upTo, `select 1 from notices where id = $1 and person_id = $2`, upTo, person); err != nil {
			return err
		}
		now := s.Now()
		done, err := tx.ExecContext(ctx, `update notices set seen_at = $1 where person_id = $2 and seen_at is null
			and seq <= (select seq from notices where id = $3)`, asTime{&now}, person, upTo)
		if err != nil {
			return err
		}
		n, err = done.RowsAffected()
		return err
	})
	return n, err
}

// How long notices are kept: those that were seen, and all.
const (
	keepSeen   = 90 * 24 * time.Hour
	keepNotice = 365 * 24 * time.Hour
)

// PruneNotices deletes old notices: after ninety days those that were seen, and
// after a year the others.
func (s *Store) PruneNotices(ctx context.Context) error {
	seen, unseen := s.Now().Add(-keepSeen), s.Now().Add(-keepNotice)
	_, err := s.writer.ExecContext(ctx, `delete from notices where at < $1 and (seen_at is not null or at < $2)`, asTime{&seen}, asTime{&unseen})
	return err
}

// Delivery is one attempt to send a notice over a channel.
type Delivery struct {
	NoticeRow
	Channel string
	// Person is to be told.
	Person access.Person
	// Attempt counts from 1.
	Attempt int
	// Since is when it was to be sent first.
	Since time.Time
	seq   int64
}

// ClaimDeliveries takes what is due on a channel, those that wait for longest
// first. For some time nobody else gets them, so that one is sent by one process
// only; what is not reported on by then is due again.
func (s *Store) ClaimDeliveries(ctx context.Context, channel string, limit int, lease time.Duration) (list []Delivery, err error) {
	now := s.Now()
	const due = ` from deliveries d join notices on notices.seq = d.notice join people p on p.id = notices.person_id
		where d.channel = $1 and d.next_at <= $2 order by d.next_at, d.notice limit $3`
	// Readers never wait, and mostly there is nothing.
	if waits, err := exists(ctx, s.readers, `select 1`+due, channel, asTime{&now}, 1); err != nil || !waits {
		return nil, err
	}
	err = s.write(ctx, func(tx *sql.Tx) error {
		list, err = all(ctx, tx, func(row scanner) (d Delivery, err error) {
			d.Channel = channel
			return d, row.Scan(append(d.fields(), asJSON{&d.Person}, &d.Attempt, asTime{&d.Since}, &d.seq)...)
		}, selectNotice+`, p.person, d.attempts + 1, d.since, seq`+due, channel, asTime{&now}, limit)
		until := now.Add(lease)
		for _, d := range list {
			if err == nil {
				_, err = tx.ExecContext(ctx, `update deliveries set attempts = $1, next_at = $2 where notice = $3 and channel = $4`, d.Attempt, asTime{&until}, d.seq, channel)
			}
		}
		return err
	})
	return list, err
}

// Delivered notes that a delivery was sent.
func (s *Store) Delivered(ctx context.Context, d Delivery) error {
	now := s.Now()
	_, err := s.writer.ExecContext(ctx, `update deliveries set next_at = null, sent_at = $1, error = '' where notice = $2 and channel = $3`,
		asTime{&now}, d.seq, d.Channel)
	return err
}

// DeliveryFailed notes why a delivery was not sent, and when it is tried again.
// Without a time it is given up, which is an event. A delivery that somebody else
// has claimed since is left alone.
func (s *Store) DeliveryFailed(ctx context.Context, d Delivery, why string, again time.Time) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, `update deliveries set next_at = $1, error = $2
			where notice = $3 and channel = $4 and attempts = $5 and next_at is not null`, asTime{&again}, why, d.seq, d.Channel, d.Attempt)
		if err != nil || !again.IsZero() {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return err
		}
		_, err = s.appendEvent(ctx, tx, access.Event{
			Key: "notice/" + d.ID + "/" + d.Channel, Kind: "notice.failed", Actor: "lapse", RequestID: d.RequestID,
			Text: fmt.Sprintf("%s was not told by %s (%s): %s", d.Person.Email, d.Channel, d.Kind, why),
		})
		return err
	})
}
