package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/config"
)

// What lists and pages are read by. Each takes a fixed number of queries, and
// the time of each is that of the rows it returns.

// Phase is where a request stands, as far as lists are divided by it.
type Phase string

const (
	PhaseWaiting Phase = "waiting" // for a decision, or for the grant after it
	PhaseOpen    Phase = "open"    // something of it may have access
	PhaseOver    Phase = "over"    // nothing of it has access, or can come to have it
)

// phaseOf is the phase of the requests that are in a state.
func phaseOf(s access.State) Phase {
	switch {
	case s.Open():
		return PhaseOpen
	case s.Final():
		return PhaseOver
	}
	return PhaseWaiting
}

const openStates = `('granting', 'active', 'ending', 'overdue')`

// settle brings the phase of a request in line with its state and its holds.
func settle(ctx context.Context, tx *sql.Tx, id string) error {
	_, err := tx.ExecContext(ctx, `update requests set phase = case
		when state = 'pending' then 'waiting'
		when state <> 'approved' then 'over'
		when exists (select 1 from holds where holds.request_id = requests.id and holds.state in `+openStates+`) then 'open'
		when exists (select 1 from holds where holds.request_id = requests.id and holds.state in ('pending', 'approved')) then 'waiting'
		else 'over' end where id = $1`, id)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `delete from deciders where request_id = $1
		and exists (select 1 from requests where requests.id = $1 and requests.state <> 'pending' and requests.review <> 'due')`, id)
	return err
}

// deciders are the attributes of which everybody has one who may come to decide
// on a request, in any of its steps; others may have one too.
func deciders(f access.Flow, r access.Request, manager string) (keys []string) {
	for _, step := range f.Approval.Steps {
		for _, role := range step.Roles() {
			for _, a := range r.Asked {
				keys = append(keys, fillers(role, a, manager)...)
			}
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// fillers are the attributes of those who fill a role for what is asked.
func fillers(role string, a access.Asked, manager string) (keys []string) {
	switch kind, value, _ := strings.Cut(role, ":"); kind {
	case "group":
		return []string{decider("group", value)}
	case "person":
		return []string{decider("email", value)}
	case "manager":
		return []string{decider("email", manager)}
	case "resource_owner":
		if o := a.ResourceOwner; o != nil && a.Tags[o.Key] != "" {
			return []string{decider(o.Attribute, a.Tags[o.Key])}
		}
	}
	if a.IntegrationOwner != nil {
		for _, value := range a.IntegrationOwner.Values {
			keys = append(keys, decider(a.IntegrationOwner.Attribute, value))
		}
	}
	return keys
}

func decider(attribute, value string) string {
	if attribute == "email" {
		value = access.NormalEmail(value)
	}
	return attribute + "=" + value
}

// decidesAs are the attributes of a person under which deciders are found.
func decidesAs(p access.Person) []any {
	keys := []any{decider("email", p.Email)}
	for _, alias := range p.Aliases {
		keys = append(keys, decider("email", alias))
	}
	for _, group := range p.Groups {
		keys = append(keys, decider("group", group))
	}
	for attribute, value := range p.Attributes {
		keys = append(keys, decider(attribute, value))
	}
	return keys
}

// indexDeciders notes who may be able to decide on a request.
func indexDeciders(ctx context.Context, tx *sql.Tx, r access.Request) error {
	var c config.Config
	err := tx.QueryRowContext(ctx, `select config from configs where version = $1`, r.FlowVersion).Scan(asJSON{&c})
	if errors.Is(err, sql.ErrNoRows) {
		return nil // without its access flow nobody may decide
	}
	if err != nil {
		return err
	}
	for _, f := range c.AccessFlows {
		if f.Name != r.Flow {
			continue
		}
		who, err := one(ctx, tx, "person "+r.PersonID, scanPerson, `select person from people where id = $1`, r.PersonID)
		if err != nil {
			return err
		}
		for _, key := range deciders(f, r, who.Attributes["manager"]) {
			_, err := tx.ExecContext(ctx, `insert into deciders (decider, created_at, request_id) values ($1, $2, $3) on conflict do nothing`,
				key, asTime{&r.CreatedAt}, r.ID)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// indexAnew notes it again for what waits of a person who has another manager.
func indexAnew(ctx context.Context, tx *sql.Tx, person string) error {
	waiting, err := all(ctx, tx, scanRequest, selectRequest+` where person_id = $1 and (state = 'pending' or review = 'due')`, person)
	for _, r := range waiting {
		if err := indexDeciders(ctx, tx, r.Request); err != nil {
			return err
		}
	}
	return err
}

// indexPending notes it for requests that an older version stored.
func (s *Store) indexPending(ctx context.Context) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		old, err := all(ctx, tx, scanRequest, selectRequest+` where phase = 'waiting' and state = 'pending'
			and not exists (select 1 from deciders where deciders.request_id = requests.id)`)
		for _, r := range old {
			if err := indexDeciders(ctx, tx, r.Request); err != nil {
				return err
			}
		}
		return err
	})
}

// OpenHold is a hold that may have access, and whose it is.
type OpenHold struct {
	access.Hold
	PersonID string
}

// Key names the row, for HoldFilter.After.
func (h OpenHold) Key() string { return h.EndsAt.UTC().Format(timeFormat) + " " + h.ID }

// HoldFilter selects holds that may have access; empty fields select all.
type HoldFilter struct {
	EndsBefore time.Time
	After      string // key of the last row of the page before
	Limit      int    // 100 when 0, at most 1000
}

// OpenAccess lists what may have access on a target now, the earliest end
// first.
func (s *Store) OpenAccess(ctx context.Context, f HoldFilter) ([]OpenHold, error) {
	var w where
	if !f.EndsBefore.IsZero() {
		w.and(`ends_at < ?`, asTime{&f.EndsBefore})
	}
	if end, id, ok := strings.Cut(f.After, " "); ok {
		w.and(`(ends_at, holds.id) > (?, ?)`, end, id)
	}
	return all(ctx, s.readers, func(row scanner) (o OpenHold, err error) {
		o.Hold, err = scanHold(row)
		if err == nil {
			_, o.PersonID, err = access.SplitAccountID(o.AccountID)
		}
		return o, err
	}, selectHold+` where opened and state not in `+finalStates+w.sql+fmt.Sprintf(` order by ends_at, id limit %d`, pageSize(f.Limit)), w.args...)
}

// HoldCount counts the open holds of an integration.
type HoldCount struct {
	Open, Overdue int
	// Earliest is the end of the one that is overdue for longest.
	Earliest time.Time
}

// HoldCounts counts the open holds, by the id of the integration. One is overdue
// when its end is past by more than a while.
func (s *Store) HoldCounts(ctx context.Context, after time.Duration) (map[string]HoldCount, error) {
	counts, late := map[string]HoldCount{}, s.Now().Add(-after)
	_, err := all(ctx, s.readers, func(row scanner) (c HoldCount, err error) {
		var integration string
		err = row.Scan(&integration, &c.Open, &c.Overdue, asTime{&c.Earliest})
		counts[integration] = c
		return c, err
	}, `select integration, count(*), count(case when ends_at < $1 then 1 end), min(case when ends_at < $1 then ends_at end)
		from holds where opened and state not in `+finalStates+` group by integration`, asTime{&late})
	return counts, err
}

// Flows reads the access flows of some versions of the configuration; those
// that are not there are left out.
func (s *Store) Flows(ctx context.Context, versions []int64) (map[int64][]access.Flow, error) {
	found := map[int64][]access.Flow{}
	if len(versions) == 0 {
		return found, nil
	}
	args := make([]any, len(versions))
	for i, v := range versions {
		args[i] = v
	}
	_, err := all(ctx, s.readers, func(row scanner) (version int64, err error) {
		var c config.Config
		err = row.Scan(&version, asJSON{&c})
		found[version] = c.AccessFlows
		return version, err
	}, `select version, config from configs where version in (`+marks(1, len(args))+`)`, args...)
	return found, err
}

// Named reads resources of the catalog by integration and name; those that the
// last discovery did not find are left out.
func (s *Store) Named(ctx context.Context, named []access.Entitlement) ([]ResourceRow, error) {
	if len(named) == 0 {
		return nil, nil
	}
	var rows []string
	var args []any
	for _, e := range named {
		rows = append(rows, `(`+marks(len(args)+1, 3)+`)`)
		args = append(args, e.Integration, e.Resource.Type, e.Resource.Path)
	}
	return all(ctx, s.readers, scanResource, selectResource+` where not gone and (integration, type, path) in (values `+strings.Join(rows, ", ")+`)`, args...)
}

// RequestEvents lists the events of a request, a thousand at most, and the first
// twenty of its accounts since then that belong to no request, oldest first.
func (s *Store) RequestEvents(ctx context.Context, requestID string, accounts []string) ([]EventRow, error) {
	args := []any{requestID}
	if len(accounts) == 0 {
		accounts = []string{""}
	}
	for _, a := range accounts {
		args = append(args, a)
	}
	return all(ctx, s.readers, scanEvent, selectEvent+` where request_id = $1
		or seq in (select seq from events where account_id in (`+marks(2, len(accounts))+`) and request_id = ''
			and seq > (select min(seq) from events where request_id = $1) order by seq limit 20)
		order by seq limit 1000`, args...)
}

// LastEvent finds the newest event of a kind on an account. It is ErrNotFound
// when there is none.
func (s *Store) LastEvent(ctx context.Context, accountID, kind string) (EventRow, error) {
	return one(ctx, s.readers, kind+" of account "+accountID, scanEvent,
		selectEvent+` where account_id = $1 and kind = $2 order by seq desc limit 1`, accountID, kind)
}

// marks are n placeholders, the first of them numbered first.
func marks(first, n int) string {
	out := make([]string, n)
	for i := range out {
		out[i] = "$" + strconv.Itoa(first+i)
	}
	return strings.Join(out, ", ")
}
