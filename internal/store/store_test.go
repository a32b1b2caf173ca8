package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/config"
)

// noon is the time in these tests, with all the digits that must survive.
var noon = time.Date(2026, 5, 4, 12, 0, 0, 123456789, time.UTC)

func open1(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	s.Now = func() time.Time { return noon }
	t.Cleanup(func() { s.Close() })
	return s
}

func newStore(t testing.TB) *Store {
	t.Helper()
	return open1(t, filepath.Join(t.TempDir(), "lapse.db"))
}

// world is a store with two people and one integration.
type world struct {
	*Store
	ana, bo access.Person
	pg      IntegrationRow
}

func newWorld(t testing.TB) world {
	t.Helper()
	w := world{Store: newStore(t)}
	save(t, w.Store, config.Config{
		People:       []config.Person{{Email: "ana@example.com", Name: "Ana", Groups: []string{"analytics"}}, {Email: "bo@example.com"}},
		Integrations: []config.Integration{{Name: "prod-pg", Kind: "postgresql", Connector: "default"}},
	})
	var err error
	if w.ana, err = w.PersonByEmail(t.Context(), "Ana@example.com "); err != nil {
		t.Fatal(err)
	}
	if w.bo, err = w.PersonByEmail(t.Context(), "bo@example.com"); err != nil {
		t.Fatal(err)
	}
	if w.pg, err = w.IntegrationByName(t.Context(), "prod-pg"); err != nil {
		t.Fatal(err)
	}
	return w
}

func save(t testing.TB, s *Store, c config.Config) int64 {
	t.Helper()
	v, err := s.SaveConfig(t.Context(), SaveConfig{Source: []byte("source"), Config: c, By: "lapse", Event: access.Event{Kind: "config.applied"}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// request stores a request of Ana's for some permissions on one schema.
func (w world) request(t testing.TB, id string, at time.Time, permissions ...string) access.Request {
	t.Helper()
	r := access.Request{ID: id, PersonID: w.ana.ID, Reason: "a look", Duration: access.Duration(time.Hour), Flow: "read", FlowVersion: 1, CreatedAt: at, ExpiresAt: at.Add(24 * time.Hour)}
	for _, p := range permissions {
		r.HoldIDs = append(r.HoldIDs, id+"-"+p)
		r.Asked = append(r.Asked, access.Asked{Integration: "prod-pg", Entitlement: access.Entitlement{
			Integration: w.pg.ID, Resource: access.NewResource("schema", "shop", "public"), Permission: p}})
	}
	if err := w.CreateRequest(t.Context(), r, access.Event{Key: "request/" + id, Kind: "request.created", RequestID: id}); err != nil {
		t.Fatal(err)
	}
	return r
}

func (w world) account() string { return access.AccountID(w.pg.ID, w.ana.ID) }

func (w world) record(t testing.TB, changes ...access.Change) {
	t.Helper()
	for i := range changes {
		if changes[i].Event.Key == "" {
			changes[i].Event = access.Event{Key: access.NewID("ev"), Kind: "test"}
		}
	}
	if err := w.Record(t.Context(), changes); err != nil {
		t.Fatal(err)
	}
}

// approve ends the decision phase of a request with a yes.
func (w world) approve(t testing.TB, id string) {
	t.Helper()
	w.record(t, access.Change{Request: &access.RequestChange{ID: id, State: access.StateApproved}})
}

// holdsIn puts every hold of a request into a state.
func (w world) holdsIn(t testing.TB, id string, state access.State) {
	t.Helper()
	holds, err := w.Holds(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for i := range holds {
		holds[i].State, holds[i].EndsAt = state, noon.Add(time.Hour)
	}
	w.record(t, access.Change{Holds: holds})
}

func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a folder?#%41", "lapse.db")
	s := open1(t, path)
	again := open1(t, path)
	if s.Instance() == "" || s.Instance() != again.Instance() {
		t.Errorf("instances %q and %q", s.Instance(), again.Instance())
	}
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(f.Name(), "lapse.db") || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f.Name(), info.Mode())
		}
	}
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "secure_delete": "1", "busy_timeout": "10000"} {
		var got string
		if err := s.writer.QueryRow("pragma " + pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %s, %v", pragma, got, err)
		}
	}
	if _, err := s.readers.Exec(`delete from meta`); err == nil {
		t.Error("a reader could write")
	}
}

func TestOpenAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lapse.db")
	var wg sync.WaitGroup
	ids := make([]string, 8)
	for i := range ids {
		wg.Go(func() {
			s, err := Open(t.Context(), path)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = s.Instance()
			s.Close()
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("instances %v", ids)
		}
	}
}

func TestOpenRefusesNewerSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lapse.db")
	s := open1(t, path)
	if _, err := s.writer.Exec(`insert into goose_db_version (version_id, is_applied) values (999, true)`); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path); err == nil || !strings.Contains(err.Error(), "newer version of Lapse") {
		t.Errorf("got %v", err)
	}
}

func TestMeta(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	if n, next, err := s.Epoch(ctx); n != 0 || next != 0 || err != nil {
		t.Errorf("first epoch %d, %v", n, err)
	}
	if why, err := s.ReportOnly(ctx); why != "" || err != nil {
		t.Errorf("first report-only %q, %v", why, err)
	}
	if err := errors.Join(s.SetEpoch(ctx, 7, 7), s.SetEpoch(ctx, 8, 9), s.SetReportOnly(ctx, "restored")); err != nil {
		t.Fatal(err)
	}
	if n, next, err := s.Epoch(ctx); n != 8 || next != 9 || err != nil {
		t.Errorf("epoch %d, %v", n, err)
	}
	if why, err := s.ReportOnly(ctx); why != "restored" || err != nil {
		t.Errorf("report-only %q, %v", why, err)
	}
}

func TestPeopleKeepTheirIDs(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	id := func(email string) string {
		t.Helper()
		p, err := s.PersonByEmail(ctx, email)
		if err != nil {
			t.Fatal(err)
		}
		return p.ID
	}
	cfg := func(people ...config.Person) config.Config { return config.Config{People: people} }
	first := cfg(config.Person{Email: "ana@example.com", Groups: []string{"a"}}, config.Person{Email: "bo@example.com"})
	save(t, s, first)
	ana, bo := id("ana@example.com"), id("bo@example.com")

	// Ana gets another name, group and alias; Bo leaves.
	save(t, s, cfg(config.Person{Email: "ana@example.com", Name: "Ana", Groups: []string{"b"}, Aliases: []string{"Ana.Admin@example.com"}}))
	got, err := s.Person(ctx, ana)
	if err != nil {
		t.Fatal(err)
	}
	want := access.Person{ID: ana, Email: "ana@example.com", Name: "Ana", Groups: []string{"b"}, Aliases: []string{"Ana.Admin@example.com"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if id("ana.admin@example.com") != ana {
		t.Error("the alias is somebody else")
	}
	if p, err := s.Person(ctx, bo); err != nil || !p.Disabled {
		t.Errorf("Bo after leaving: %+v, %v", p, err)
	}

	// Bo comes back, and Ana's main address changes.
	save(t, s, cfg(config.Person{Email: "ana.new@example.com", Aliases: []string{"ana@example.com"}}, config.Person{Email: "bo@example.com"}))
	if id("ana.new@example.com") != ana || id("ana@example.com") != ana {
		t.Error("Ana with another address has another id")
	}
	if p, err := s.Person(ctx, bo); err != nil || p.Disabled || id("bo@example.com") != bo {
		t.Errorf("Bo after coming back: %+v, %v", p, err)
	}
	people, err := s.People(ctx)
	if err != nil || len(people) != 2 {
		t.Errorf("people: %v, %v", people, err)
	}
	if _, err := s.PersonByEmail(ctx, "nobody@example.com"); !errors.Is(err, ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
}

func TestIntegrationsKeepTheirIDs(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	apply := func(in ...config.Integration) { save(t, s, config.Config{Integrations: in}) }
	get := func() IntegrationRow {
		t.Helper()
		row, err := s.IntegrationByName(ctx, "db")
		if err != nil {
			t.Fatal(err)
		}
		return row
	}
	apply(config.Integration{Name: "db", Kind: "postgresql", UserCleanupDays: 7})
	first := get()
	apply()
	if row := get(); row.ID != first.ID || !row.Removed {
		t.Errorf("removed: %+v", row)
	}
	apply(config.Integration{Name: "db", Kind: "mysql"})
	other := get()
	if other.ID == first.ID || other.Removed || other.Kind != "mysql" {
		t.Errorf("another kind under the name: %+v", other)
	}
	apply(config.Integration{Name: "db", Kind: "postgresql", UserCleanupDays: 1})
	if row := get(); row.ID != first.ID || row.Removed || row.UserCleanupDays != 1 {
		t.Errorf("back: %+v", row)
	}
	if row, err := s.Integration(ctx, other.ID); err != nil || !row.Removed {
		t.Errorf("the other: %+v, %v", row, err)
	}
	if rows, err := s.Integrations(ctx); err != nil || len(rows) != 2 {
		t.Errorf("all: %v, %v", rows, err)
	}
}

func TestConfigVersions(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	if _, _, err := s.Config(ctx); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "lapse apply") {
		t.Errorf("before the first: %v", err)
	}
	one := config.Config{People: []config.Person{{Email: "ana@example.com"}}}
	two := config.Config{People: []config.Person{{Email: "bo@example.com"}}}
	for i, c := range []struct {
		config.Config
		want int64
	}{{one, 1}, {one, 1}, {two, 2}, {one, 3}} {
		if v := save(t, s, c.Config); v != c.want {
			t.Errorf("save %d made version %d", i, v)
		}
	}
	v, c, err := s.Config(ctx)
	if diff := cmp.Diff(one, c); v != 3 || err != nil || diff != "" {
		t.Errorf("newest: %d, %v, %s", v, err, diff)
	}
	c, err = s.ConfigAt(ctx, 2)
	if diff := cmp.Diff(two, c); err != nil || diff != "" {
		t.Errorf("version 2: %v, %s", err, diff)
	}
	if _, err := s.ConfigAt(ctx, 4); !errors.Is(err, ErrNotFound) {
		t.Errorf("version 4: %v", err)
	}
	events, err := s.Events(ctx, EventFilter{})
	if err != nil || len(events) != 3 || events[2].Key != "config/3" || !events[2].At.Equal(noon) {
		t.Errorf("events: %v, %v", events, err)
	}
}

func TestCatalog(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	found := func(names ...string) (out []access.Found) {
		for _, n := range names {
			out = append(out, access.Found{Resource: access.NewResource("schema", "shop", n), Permissions: []string{"read_only"}, Tags: map[string]string{"owner": n}, Note: "about " + n})
		}
		return out
	}
	var many []string
	for i := range 10 {
		many = append(many, fmt.Sprintf("s%d_", i))
	}
	if err := errors.Join(
		w.PutResources(ctx, w.pg.ID, "1", found("old", "kept")),
		w.PutResources(ctx, w.pg.ID, "1", []access.Found{{Resource: access.NewResource("role", "boss")}}),
		w.FinishDiscovery(ctx, w.pg.ID, "1"),
		w.PutResources(ctx, w.pg.ID, "2", found("kept")),
		w.PutResources(ctx, w.pg.ID, "2", found(many...)),
		w.FinishDiscovery(ctx, w.pg.ID, "2"),
	); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Resource(ctx, w.pg.ID, access.NewResource("schema", "shop", "old")); !errors.Is(err, ErrNotFound) {
		t.Errorf("a resource that is gone: %v", err)
	}
	got, err := w.Resource(ctx, w.pg.ID, access.NewResource("schema", "shop", "kept"))
	if diff := cmp.Diff(found("kept")[0], got); err != nil || diff != "" {
		t.Errorf("kept: %v, %s", err, diff)
	}
	var pages []string
	for f := (ResourceFilter{Integration: w.pg.ID, Type: "schema", Limit: 4}); ; {
		rows, err := w.Resources(ctx, f)
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) == 0 {
			break
		}
		for _, r := range rows {
			pages = append(pages, r.Resource.Path)
		}
		f.After = rows[len(rows)-1].Key()
	}
	if len(pages) != 11 || pages[0] != "shop/kept" || pages[10] != "shop/s9_" {
		t.Errorf("pages: %v", pages)
	}
	for query, want := range map[string]int{"": 11, "KEPT": 1, "3_": 1, "_": 10, "%": 0, `\`: 0} {
		if rows, err := w.Resources(ctx, ResourceFilter{Query: query}); err != nil || len(rows) != want {
			t.Errorf("query %q finds %d, %v", query, len(rows), err)
		}
	}
	if err := w.PutResources(ctx, "int-nobody", "1", found("x")); err == nil {
		t.Error("resources of an unknown integration were taken")
	}
}

func TestSweeps(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	at := time.Now().UTC()
	want := Swept{At: at, Findings: []access.Finding{{Kind: access.FindingForeign, Subject: "x", Since: at}}}
	if err := w.PutFindings(ctx, w.pg.ID, at.Format(time.RFC3339Nano), want.Findings); err != nil {
		t.Fatal(err)
	}
	got, err := w.Sweeps(ctx)
	if diff := cmp.Diff(map[string]Swept{w.pg.ID: want}, got); err != nil || diff != "" {
		t.Errorf("%v, %s", err, diff)
	}
}

func TestFindings(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	if run, f, err := w.Findings(ctx, w.pg.ID); run != "" || f != nil || err != nil {
		t.Errorf("before the first sweep: %q, %v, %v", run, f, err)
	}
	want := []access.Finding{{Kind: "overdue", Subject: "h1", Text: "late"}}
	if err := errors.Join(w.PutFindings(ctx, w.pg.ID, "1", []access.Finding{{Kind: "foreign"}, {Kind: "missing"}}), w.PutFindings(ctx, w.pg.ID, "2", want)); err != nil {
		t.Fatal(err)
	}
	run, got, err := w.Findings(ctx, w.pg.ID)
	if diff := cmp.Diff(want, got); run != "2" || err != nil || diff != "" {
		t.Errorf("run %q, %v, %s", run, err, diff)
	}
}
