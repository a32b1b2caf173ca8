package store

import (
	"database/sql"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/pressly/goose/v3"
	"pgregory.net/rapid"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/config"
)

// The phase of a request is that of its state, whatever its holds went through.
func TestPhaseIsThatOfTheState(t *testing.T) {
	w := newWorld(t)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		id := fmt.Sprintf("req-%d", n)
		w.request(t, id, noon.Add(time.Duration(n)*time.Second), "read_only", "read_write")
		decided := rapid.SampledFrom([]access.State{access.StatePending, access.StateApproved, access.StateApproved, access.StateDenied, access.StateExpired, access.StateEnded}).Draw(rt, "decided")
		w.record(t, access.Change{Request: &access.RequestChange{ID: id, State: decided}})
		holds, err := w.Holds(t.Context(), id)
		if err != nil {
			rt.Fatal(err)
		}
		if decided == access.StateApproved {
			for i := range holds {
				states := []access.State{access.StatePending, access.StateGranting, access.StateActive, access.StateEnded, access.StateFailed}
				holds[i].State, holds[i].EndsAt = rapid.SampledFrom(states).Draw(rt, "hold"), noon.Add(time.Hour)
			}
			w.record(t, access.Change{Holds: holds})
		}
		row, err := w.Request(t.Context(), id)
		if err != nil {
			rt.Fatal(err)
		}
		want := phaseOf(row.StateAt(noon))
		for _, phase := range []Phase{PhaseWaiting, PhaseOpen, PhaseOver} {
			rows, err := w.Requests(t.Context(), RequestFilter{Person: w.ana.ID, Phase: phase, Limit: 1})
			if err != nil {
				rt.Fatal(err)
			}
			if found := len(rows) > 0 && rows[0].ID == id; found != (phase == want) {
				rt.Fatalf("%s with holds %+v is among those that are %s: %v", decided, holds, phase, found)
			}
		}
	})
}

// Whoever may decide on a request finds it.
func TestDecidersFindTheirRequests(t *testing.T) {
	word := rapid.SampledFrom([]string{"dba", "support", "Ana@example.com", "bo@example.com"})
	attribute := rapid.SampledFrom([]string{"group", "email", "team"})
	owner := rapid.Custom(func(t *rapid.T) *access.Owner {
		return &access.Owner{Attribute: attribute.Draw(t, "attribute"), Values: rapid.SliceOfN(word, 1, 2).Draw(t, "values")}
	})
	found := 0
	rapid.Check(t, func(t *rapid.T) {
		role := rapid.Custom(func(t *rapid.T) string {
			return rapid.SampledFrom([]string{"integration_owner", "resource_owner", "manager", "group:", "person:"}).Draw(t, "role")
		})
		var roles []string
		for _, r := range rapid.SliceOfN(role, 1, 3).Draw(t, "roles") {
			if r[len(r)-1] == ':' {
				r += word.Draw(t, "of")
			}
			roles = append(roles, r)
		}
		asked := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) access.Asked {
			a := access.Asked{Tags: map[string]string{"owner": word.Draw(t, "tag")}}
			if rapid.Bool().Draw(t, "integration has an owner") {
				a.IntegrationOwner = owner.Draw(t, "integration owner")
			}
			if rapid.Bool().Draw(t, "resources have an owner") {
				a.ResourceOwner = &access.ResourceOwner{Key: rapid.SampledFrom([]string{"owner", "none"}).Draw(t, "key"), Attribute: attribute.Draw(t, "attribute")}
			}
			return a
		}), 1, 3).Draw(t, "asked")
		p := access.Person{ID: "per-1", Email: word.Draw(t, "email"), Groups: rapid.SliceOfN(word, 0, 2).Draw(t, "groups"), Attributes: map[string]string{"team": word.Draw(t, "team")}}
		f := access.Flow{Approval: access.Approval{Steps: []access.Step{{AnyOf: roles[:1]}, {AllOf: roles[1:]}}}}
		requester := access.Person{ID: "per-2", Email: "somebody@example.com", Attributes: map[string]string{"manager": word.Draw(t, "manager")}}
		r := access.Request{PersonID: requester.ID, Asked: asked}
		m := access.Matter{Flow: f, Request: r, Directory: access.NewDirectory([]access.Person{p, requester})}
		if !m.Sees(p) {
			return
		}
		found++
		as := decidesAs(p)
		if !slices.ContainsFunc(deciders(f, r, requester.Attributes["manager"]), func(key string) bool { return slices.Contains(as, any(key)) }) {
			t.Fatalf("%+v may decide on %+v by %v, and finds it under none of %v", p, asked, roles, as)
		}
	})
	if found == 0 {
		t.Error("nobody ever might decide")
	}
}

// Requests that an older version stored are found as well, and none that is
// decided.
func TestDecidersOfOldRequests(t *testing.T) {
	w := newWorld(t)
	version := save(t, w.Store, config.Config{
		People:       []config.Person{{Email: "ana@example.com"}, {Email: "bo@example.com"}},
		Integrations: []config.Integration{{Name: "prod-pg", Kind: "postgresql", Connector: "default"}},
		AccessFlows:  []access.Flow{{Name: "read", Approval: access.Approval{Steps: []access.Step{{AnyOf: []string{"person:bo@example.com"}}}}}},
	})
	for _, id := range []string{"req-1", "req-2"} {
		r := access.Request{ID: id, PersonID: w.ana.ID, Flow: "read", FlowVersion: version, CreatedAt: noon, HoldIDs: []string{id + "-hold"},
			Asked: []access.Asked{{Entitlement: access.Entitlement{Integration: w.pg.ID, Resource: access.NewResource("schema", "shop", "public"), Permission: "read_only"}}}}
		if err := w.CreateRequest(t.Context(), r, access.Event{Key: id, Kind: "request.created"}); err != nil {
			t.Fatal(err)
		}
	}
	w.record(t, access.Change{Request: &access.RequestChange{ID: "req-2", State: access.StateDenied}})
	if _, err := w.writer.ExecContext(t.Context(), `delete from deciders`); err != nil {
		t.Fatal(err)
	}
	if err := w.indexPending(t.Context()); err != nil {
		t.Fatal(err)
	}
	for who, want := range map[*access.Person]int{&w.ana: 0, &w.bo: 1} {
		rows, err := w.Requests(t.Context(), RequestFilter{Decider: who})
		if err != nil || len(rows) != want {
			t.Errorf("%s finds %d requests, want %d: %v", who.Email, len(rows), want, err)
		}
	}
}

func TestOpenAccess(t *testing.T) {
	w := newWorld(t)
	for i := range 5 {
		id := fmt.Sprintf("req-%d", i)
		w.request(t, id, noon, "read_only")
		w.approve(t, id)
		holds, err := w.Holds(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		holds[0].State, holds[0].EndsAt = access.StateActive, noon.Add(time.Duration(5-i/2)*time.Minute)
		if i == 4 {
			holds[0].State = access.StateEnded
		}
		w.record(t, access.Change{Holds: holds})
	}
	var ids []string
	f := HoldFilter{Limit: 1}
	for {
		rows, err := w.OpenAccess(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) == 0 {
			break
		}
		if rows[0].PersonID != w.ana.ID {
			t.Errorf("whose is %+v?", rows[0])
		}
		ids = append(ids, rows[0].RequestID)
		f.After = rows[0].Key()
	}
	if want := []string{"req-2", "req-3", "req-0", "req-1"}; !slices.Equal(ids, want) {
		t.Errorf("%v, want %v", ids, want)
	}
	late, err := w.OpenAccess(t.Context(), HoldFilter{EndsBefore: noon.Add(5 * time.Minute)})
	if err != nil || len(late) != 2 {
		t.Errorf("%d end before: %v", len(late), err)
	}
	w.Now = func() time.Time { return noon.Add(4*time.Minute + 30*time.Second) }
	for after, overdue := range map[time.Duration]int{5 * time.Second: 2, time.Minute: 0} {
		want := HoldCount{Open: 4, Overdue: overdue}
		if overdue > 0 {
			want.Earliest = noon.Add(4 * time.Minute)
		}
		if got, err := w.HoldCounts(t.Context(), after); err != nil || len(got) != 1 || got[w.pg.ID] != want {
			t.Errorf("counted: %+v, %v", got, err)
		}
	}
}

func TestEventsOfARequest(t *testing.T) {
	w := newWorld(t)
	w.request(t, "req-1", noon, "read_only")
	w.request(t, "req-2", noon, "read_only")
	for i, e := range []access.Event{
		{Kind: "granted", RequestID: "req-1", AccountID: w.account()},
		{Kind: "granted", RequestID: "req-2", AccountID: w.account()},
		{Kind: "account.deleted", AccountID: w.account()},
		{Kind: "account.deleted", AccountID: "another/one"},
	} {
		e.Key = fmt.Sprint(i)
		if err := w.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	events, err := w.RequestEvents(t.Context(), "req-1", []string{w.account()})
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, e := range events {
		kinds = append(kinds, e.Kind)
	}
	if want := []string{"request.created", "granted", "account.deleted"}; !slices.Equal(kinds, want) {
		t.Errorf("%v, want %v", kinds, want)
	}
	if e, err := w.LastEvent(t.Context(), w.account(), "granted"); err != nil || e.RequestID != "req-2" {
		t.Errorf("the last one: %+v, %v", e, err)
	}
}

// A store of the first version gets the phases of what is in it.
func TestPhasesOfAnOldStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lapse.db")
	db, err := sql.Open(Driver, dsn(path, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	statements := []string{`insert into people (id, email, person) values ('per-1', 'ana@example.com', '{"id": "per-1"}')`,
		`insert into integrations (id, name, kind, spec, removed) values ('int-1', 'pg', 'postgresql', '{}', false)`,
		`insert into accounts (id, integration, person_id, name, generation, incarnation, deleted) values ('int-1/per-1', 'int-1', 'per-1', '', 0, 0, false)`}
	want := map[string]Phase{}
	for i, r := range []struct {
		state, hold string
		phase       Phase
	}{
		{"pending", "pending", PhaseWaiting}, {"denied", "pending", PhaseOver}, {"approved", "pending", PhaseWaiting},
		{"approved", "active", PhaseOpen}, {"approved", "ended", PhaseOver}, {"approved", "failed", PhaseOver},
	} {
		id := fmt.Sprintf("req-%d", i)
		want[id] = r.phase
		statements = append(statements,
			fmt.Sprintf(`insert into requests (id, person_id, state, why, created_at, request) values ('%s', 'per-1', '%s', '', '2026', '{"id": "%s"}')`, id, r.state, id),
			fmt.Sprintf(`insert into holds (id, request_id, position, account_id, integration, resource, permission, state, opened, error)
				values ('hold-%d', '%s', 0, 'int-1/per-1', 'int-1', 'schema:a/b', 'read', '%s', %t, '')`, i, id, r.hold, r.hold == "active"))
	}
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	s := open1(t, path)
	for _, phase := range []Phase{PhaseWaiting, PhaseOpen, PhaseOver} {
		rows, err := s.Requests(t.Context(), RequestFilter{Phase: phase})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if want[r.ID] != phase {
				t.Errorf("%s is among those that are %s, want %s", r.ID, phase, want[r.ID])
			}
			delete(want, r.ID)
		}
	}
	if len(want) > 0 {
		t.Errorf("not found: %v", want)
	}
}
