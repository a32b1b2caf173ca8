package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/lapse-access/lapse/access"
)

// RequestRow is a request and how it stands.
type RequestRow struct {
	access.Request
	// State is that of the decision phase.
	State access.State
	Why   string
	// Review is how the review stands of access that was taken at once.
	Review access.Review
	Holds  []access.Hold // in the order of Asked
}

// StateAt is the state of the whole as people see it.
func (r RequestRow) StateAt(now time.Time) access.State {
	return access.RequestState(r.State, r.Holds, now)
}

// CreateRequest stores a request as pending, its holds, and the accounts that
// it needs. The same request a second time changes nothing.
//
// Decisions that come with it are stored too: somebody who breaks the glass
// decides as they ask.
func (s *Store) CreateRequest(ctx context.Context, r access.Request, e access.Event, decisions ...access.Decision) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		fresh, err := s.createRequest(ctx, tx, r, e, decisions...)
		if err != nil || !fresh {
			return err
		}
		return indexDeciders(ctx, tx, r)
	})
}

// createRequest is CreateRequest without an index of those who decide. It says
// whether the request is new.
func (s *Store) createRequest(ctx context.Context, tx *sql.Tx, r access.Request, e access.Event, decisions ...access.Decision) (fresh bool, err error) {
	if r.CreatedAt.IsZero() {
		return false, access.Errorf(access.Invalid, "request %s has no time of creation", r.ID)
	}
	if len(r.Asked) == 0 || len(r.HoldIDs) != len(r.Asked) {
		return false, access.Errorf(access.Invalid, "request %s asks for %d entitlements and names %d holds", r.ID, len(r.Asked), len(r.HoldIDs))
	}
	body, err := json.Marshal(r)
	if err != nil {
		return false, err
	}
	var stored string
	err = tx.QueryRowContext(ctx, `select request from requests where id = $1`, r.ID).Scan(&stored)
	if err == nil && stored != string(body) {
		return false, access.Errorf(access.Invalid, "request %s exists already and asks for something else", r.ID)
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return false, err
	}
	if _, err := s.appendEvent(ctx, tx, e); err != nil {
		return false, err
	}
	if err := require(ctx, tx, "person "+r.PersonID, `select 1 from people where id = $1`, r.PersonID); err != nil {
		return false, err
	}
	_, err = tx.ExecContext(ctx, `insert into requests (id, person_id, state, why, created_at, request) values ($1, $2, $3, '', $4, $5)`,
		r.ID, r.PersonID, access.StatePending, asTime{&r.CreatedAt}, string(body))
	if err != nil {
		return false, err
	}
	for i, asked := range r.Asked {
		if err := createHold(ctx, tx, r, i, asked.Entitlement); err != nil {
			return false, err
		}
	}
	for _, d := range decisions {
		event := access.Event{Key: "decision/" + d.Nonce, Kind: "decision." + string(d.Verdict), At: d.At, Actor: d.By, RequestID: d.RequestID, Text: d.Text(r)}
		if err := s.addDecision(ctx, tx, d, event); err != nil {
			return false, err
		}
	}
	return true, nil
}

func createHold(ctx context.Context, tx *sql.Tx, r access.Request, i int, e access.Entitlement) error {
	if err := require(ctx, tx, "integration "+e.Integration, `select 1 from integrations where id = $1`, e.Integration); err != nil {
		return err
	}
	account := access.AccountID(e.Integration, r.PersonID)
	_, err := tx.ExecContext(ctx, `insert into accounts (id, integration, person_id, name, generation, incarnation, deleted)
		values ($1, $2, $3, '', 0, 0, false) on conflict do nothing`, account, e.Integration, r.PersonID)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `insert into holds (id, request_id, position, account_id, integration, resource, permission, state, opened, error)
		values ($1, $2, $3, $4, $5, $6, $7, $8, false, '')`,
		r.HoldIDs[i], r.ID, i, account, e.Integration, e.Resource.String(), e.Permission, access.StatePending)
	return err
}

// Request reads a request.
func (s *Store) Request(ctx context.Context, id string) (r RequestRow, err error) {
	err = s.read(ctx, func(tx *sql.Tx) error {
		r, err = one(ctx, tx, "request "+id, scanRequest, selectRequest+` where id = $1`, id)
		if err != nil {
			return err
		}
		r.Holds, err = holds(ctx, tx, `request_id = $1`, id)
		return err
	})
	return r, err
}

// RequestFilter selects requests; empty fields select all.
type RequestFilter struct {
	Person      string // id
	Integration string // id
	// State is the state of the whole as people see it now.
	State access.State
	Phase Phase
	// Review selects those whose review stands like this.
	Review access.Review
	// Decider selects those that wait for a decision, or a review, and that this
	// person may be able to decide on: all of them, and perhaps some more.
	Decider *access.Person
	After   string // id of the last request of the page before
	Limit   int    // 100 when 0, at most 1000
}

// Requests lists requests, newest first.
func (s *Store) Requests(ctx context.Context, f RequestFilter) ([]RequestRow, error) {
	f.Limit = pageSize(f.Limit)
	now := s.Now()
	var out []RequestRow
	for {
		page, err := s.requestPage(ctx, f)
		if err != nil {
			return nil, err
		}
		for _, r := range page {
			if f.State == "" || r.StateAt(now) == f.State {
				out = append(out, r)
			}
			if len(out) == f.Limit {
				return out, nil
			}
		}
		if len(page) < f.Limit {
			return out, nil
		}
		f.After = page[len(page)-1].ID
	}
}

// requestPage reads requests that may be in the wanted state: which state it
// is depends on the clock and is access.RequestState's to say.
func (s *Store) requestPage(ctx context.Context, f RequestFilter) (page []RequestRow, err error) {
	var w where
	if f.Person != "" {
		w.and(`person_id = ?`, f.Person)
	}
	if f.Integration != "" {
		w.and(`id in (select request_id from holds where integration = ?)`, f.Integration)
	}
	if f.After != "" {
		w.and(`(created_at, id) < (select created_at, id from requests where id = ?)`, f.After)
	}
	if f.Phase == "" && f.State != "" {
		f.Phase = phaseOf(f.State)
	}
	if f.Phase != "" {
		w.and(`phase = ?`, f.Phase)
	}
	if f.Review != "" {
		w.and(`review = ?`, f.Review)
	}
	if f.Decider != nil {
		keys := decidesAs(*f.Decider)
		found := `select distinct created_at, request_id from deciders where decider in (` + marks(len(w.args)+1, len(keys)) + `)`
		w.args = append(w.args, keys...)
		if f.After != "" {
			w.args = append(w.args, f.After)
			found += ` and (created_at, request_id) < (select created_at, id from requests where id = ` + marks(len(w.args), 1) + `)`
		}
		w.sql += ` and id in (select request_id from (` + found + fmt.Sprintf(` order by created_at desc, request_id desc limit %d) as found)`, f.Limit)
	}
	err = s.read(ctx, func(tx *sql.Tx) error {
		page, err = all(ctx, tx, scanRequest, selectRequest+` where true`+w.sql+
			fmt.Sprintf(` order by created_at desc, id desc limit %d`, f.Limit), w.args...)
		if err != nil || len(page) == 0 {
			return err
		}
		byID := map[string]*RequestRow{}
		ids := make([]any, len(page))
		for i := range page {
			byID[page[i].ID] = &page[i]
			ids[i] = page[i].ID
		}
		found, err := holds(ctx, tx, `request_id in (`+marks(1, len(ids))+`)`, ids...)
		for _, h := range found {
			byID[h.RequestID].Holds = append(byID[h.RequestID].Holds, h)
		}
		return err
	})
	return page, err
}

const selectRequest = `select request, state, why, review from requests`

func scanRequest(row scanner) (r RequestRow, err error) {
	err = row.Scan(asJSON{&r.Request}, &r.State, &r.Why, &r.Review)
	return r, err
}

// Holds lists the holds of a request, in the order in which they were asked.
func (s *Store) Holds(ctx context.Context, requestID string) ([]access.Hold, error) {
	return holds(ctx, s.readers, `request_id = $1`, requestID)
}

// Hold reads a hold.
func (s *Store) Hold(ctx context.Context, id string) (access.Hold, error) {
	return one(ctx, s.readers, "hold "+id, scanHold, selectHold+` where id = $1`, id)
}

const selectHold = `select id, request_id, account_id, integration, resource, permission, state,
	starts_at, ends_at, max_end, error, grant_evidence, revoke_evidence from holds`

func holds(ctx context.Context, q querier, condition string, args ...any) ([]access.Hold, error) {
	return all(ctx, q, scanHold, selectHold+` where `+condition+` order by request_id, position`, args...)
}

func scanHold(row scanner) (h access.Hold, err error) {
	var resource string
	err = row.Scan(&h.ID, &h.RequestID, &h.AccountID, &h.Entitlement.Integration, &resource, &h.Entitlement.Permission, &h.State,
		asTime{&h.StartsAt}, asTime{&h.EndsAt}, asTime{&h.MaxEnd}, &h.Error, asJSON{&h.Grant}, asJSON{&h.Revoke})
	if err != nil {
		return h, err
	}
	h.Entitlement.Resource, err = access.ParseResource(resource)
	return h, err
}

// AddDecision stores a signed decision. The same decision a second time changes
// nothing; another one with its nonce is refused.
func (s *Store) AddDecision(ctx context.Context, d access.Decision, e access.Event) error {
	return s.write(ctx, func(tx *sql.Tx) error { return s.addDecision(ctx, tx, d, e) })
}

func (s *Store) addDecision(ctx context.Context, tx *sql.Tx, d access.Decision, e access.Event) error {
	body, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if d.Nonce == "" {
		return access.Errorf(access.Invalid, "the decision has no nonce")
	}
	var stored string
	err = tx.QueryRowContext(ctx, `select decision from decisions where nonce = $1`, d.Nonce).Scan(&stored)
	if err == nil && stored != string(body) {
		return access.Errorf(access.Invalid, "another decision has the nonce %s already", d.Nonce)
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if err := require(ctx, tx, "request "+d.RequestID, `select 1 from requests where id = $1`, d.RequestID); err != nil {
		return err
	}
	if _, err := s.appendEvent(ctx, tx, e); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `insert into decisions (nonce, request_id, at, decision) values ($1, $2, $3, $4)`,
		d.Nonce, d.RequestID, asTime{&d.At}, string(body))
	return err
}

// DecisionsOn lists the decisions on some requests, oldest first, by request.
func (s *Store) DecisionsOn(ctx context.Context, ids []string) (map[string][]access.Decision, error) {
	found := map[string][]access.Decision{}
	if len(ids) == 0 {
		return found, nil
	}
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	_, err := all(ctx, s.readers, func(row scanner) (d access.Decision, err error) {
		err = row.Scan(asJSON{&d})
		found[d.RequestID] = append(found[d.RequestID], d)
		return d, err
	}, `select decision from decisions where request_id in (`+marks(1, len(args))+`) order by at, nonce`, args...)
	return found, err
}

// Decisions lists the decisions on a request, oldest first.
func (s *Store) Decisions(ctx context.Context, requestID string) ([]access.Decision, error) {
	return all(ctx, s.readers, func(row scanner) (d access.Decision, err error) {
		err = row.Scan(asJSON{&d})
		return d, err
	}, `select decision from decisions where request_id = $1 order by at, nonce`, requestID)
}
