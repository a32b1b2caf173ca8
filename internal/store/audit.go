package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/lapse-access/lapse/access"
)

// EventRow is an event in its place in the audit trail.
type EventRow struct {
	// Seq counts from 1 without gaps.
	Seq int64 `json:"seq"`
	access.Event
	// Hash covers the event, its number, and the hash before it.
	Hash string `json:"hash"`
}

// chain computes the hash of the event after one with the hash prev: SHA-256
// over prev and the event as JSON, with its number and without its hash.
func (e EventRow) chain(prev string) (string, error) {
	body, err := json.Marshal(struct {
		Seq int64 `json:"seq"`
		access.Event
	}{e.Seq, e.Event})
	if err != nil {
		return "", fmt.Errorf("event %s: %w", e.Key, err)
	}
	before, err := hex.DecodeString(prev)
	if err != nil {
		return "", fmt.Errorf("hash of event %d: %w", e.Seq-1, err)
	}
	sum := sha256.Sum256(append(before, body...))
	return hex.EncodeToString(sum[:]), nil
}

// Append adds an event to the audit trail. A key that is there already changes
// nothing. An event without a time gets the present.
func (s *Store) Append(ctx context.Context, e access.Event) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		_, err := s.appendEvent(ctx, tx, e)
		return err
	})
}

// appendEvent reports whether the event's key was new.
func (s *Store) appendEvent(ctx context.Context, tx *sql.Tx, e access.Event) (bool, error) {
	if e.Key == "" || e.Kind == "" {
		return false, fmt.Errorf("an event needs a key and a kind: %+v", e)
	}
	if known, err := exists(ctx, tx, `select 1 from events where key = $1`, e.Key); err != nil || known {
		return false, err
	}
	if e.At.IsZero() {
		e.At = s.Now()
	}
	e.At = e.At.UTC() // as it will be read
	seq, prev, err := head(ctx, tx)
	if err != nil {
		return false, err
	}
	row := EventRow{Seq: seq + 1, Event: e}
	if row.Hash, err = row.chain(prev); err != nil {
		return false, err
	}
	var data any
	if len(e.Data) > 0 {
		data = string(e.Data)
	}
	_, err = tx.ExecContext(ctx, `insert into events (seq, key, kind, at, actor, request_id, hold_id, account_id, integration, text, data, hash)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		row.Seq, e.Key, e.Kind, asTime{&e.At}, e.Actor, e.RequestID, e.HoldID, e.AccountID, e.Integration, e.Text, data, row.Hash)
	return true, err
}

// Recorded reports whether the audit trail has an event with a key.
func (s *Store) Recorded(ctx context.Context, key string) (bool, error) {
	return exists(ctx, s.readers, `select 1 from events where key = $1`, key)
}

// Head is the number and the hash of the newest event; 0 and "" before the
// first. Kept somewhere else, it proves later that nothing before it changed.
func (s *Store) Head(ctx context.Context) (seq int64, hash string, err error) {
	return head(ctx, s.readers)
}

func head(ctx context.Context, q querier) (seq int64, hash string, err error) {
	err = q.QueryRowContext(ctx, `select seq, hash from events order by seq desc limit 1`).Scan(&seq, &hash)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return seq, hash, err
}

// EventFilter selects events; empty fields select all.
type EventFilter struct {
	RequestID string
	AccountID string
	After     int64 // number of the last event of the page before
	Limit     int   // 100 when 0, at most 1000
}

// Events lists events, oldest first.
func (s *Store) Events(ctx context.Context, f EventFilter) ([]EventRow, error) {
	var w where
	w.and(`seq > ?`, f.After)
	if f.RequestID != "" {
		w.and(`request_id = ?`, f.RequestID)
	}
	if f.AccountID != "" {
		w.and(`account_id = ?`, f.AccountID)
	}
	return all(ctx, s.readers, scanEvent, selectEvent+` where true`+w.sql+fmt.Sprintf(` order by seq limit %d`, pageSize(f.Limit)), w.args...)
}

const selectEvent = `select seq, key, kind, at, actor, request_id, hold_id, account_id, integration, text, coalesce(data, ''), hash from events`

func scanEvent(row scanner) (e EventRow, err error) {
	var data string
	err = row.Scan(&e.Seq, &e.Key, &e.Kind, asTime{&e.At}, &e.Actor, &e.RequestID, &e.HoldID, &e.AccountID, &e.Integration, &e.Text, &data, &e.Hash)
	if data != "" {
		e.Data = json.RawMessage(data)
	}
	return e, err
}

// Report is what a walk over the audit trail found.
type Report struct {
	Events int64   `json:"events"`
	Head   string  `json:"head"` // hash of the newest event
	Faults []Fault `json:"faults,omitempty"`
}

// Fault is one place where the audit trail is not as it was written.
type Fault struct {
	Seq  int64  `json:"seq,omitempty"` // of the event; 0 for the trail as a whole
	Text string `json:"text"`
}

// OK reports whether the trail is whole.
func (r Report) OK() bool { return len(r.Faults) == 0 }

// maxFaults is how many faults a report names; a trail with more is no better.
const maxFaults = 100

func (r *Report) fault(seq int64, format string, args ...any) {
	if len(r.Faults) < maxFaults {
		r.Faults = append(r.Faults, Fault{seq, fmt.Sprintf(format, args...)})
	}
}

// VerifyAudit walks the audit trail and finds events that were changed, taken
// out or put in. A trail that was rewritten as a whole shows only against a
// head from before: with wantHead, an event with that hash must be there.
func (s *Store) VerifyAudit(ctx context.Context, wantHead string) (Report, error) {
	var r Report
	var last int64
	found := wantHead == ""
	for {
		page, err := s.Events(ctx, EventFilter{After: last, Limit: 1000})
		if err != nil {
			return Report{}, err
		}
		for _, e := range page {
			if e.Seq != last+1 {
				r.fault(e.Seq, "events %d to %d are missing", last+1, e.Seq-1)
			} else if hash, err := e.chain(r.Head); err != nil || hash != e.Hash {
				r.fault(e.Seq, "event %d (%s) is not what was written, or what came before it is not", e.Seq, e.Key)
			}
			r.Events++
			r.Head, last = e.Hash, e.Seq
			found = found || e.Hash == wantHead
		}
		if len(page) == 0 {
			break
		}
	}
	if !found {
		r.fault(0, "no event has the hash %s: the trail was cut or rewritten before that head was taken, or the head is another installation's", wantHead)
	}
	return r, nil
}
