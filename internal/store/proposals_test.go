package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/config"
)

// guarded is a configuration that wants two persons for a change.
func guarded(names ...string) config.Config {
	c := config.Config{TwoPersonChanges: true, People: []config.Person{{Email: "bo@example.com"}, {Email: "cy@example.com"}}}
	for _, name := range names {
		c.AccessFlows = append(c.AccessFlows, access.Flow{Name: name})
	}
	return c
}

// proposed is an open proposal of one more flow, of version 1.
func proposed(t testing.TB, s *Store, id, flow string) Proposal {
	t.Helper()
	p, err := s.Propose(t.Context(), Proposal{ID: id, At: noon, By: "bo", File: "my.yaml", Source: []byte("source of " + flow), Base: 1,
		Changes: config.Diff(guarded(), guarded(flow))}, access.Event{Key: "proposal/" + id, Kind: "config.proposed"})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// approve is a decision that has a flow come into force.
func approve(flow string) func(*Proposal, int64) (*SaveConfig, []access.Event, error) {
	return func(p *Proposal, version int64) (*SaveConfig, []access.Event, error) {
		if p.State != ProposalOpen || p.Base != version {
			return nil, nil, ErrMoved
		}
		p.State, p.DecidedBy, p.DecidedAt, p.Reason = ProposalApproved, "cy", noon, "fine"
		return &SaveConfig{Source: p.Source, Config: guarded(flow), By: "cy", Event: access.Event{Kind: "config.applied"}},
			[]access.Event{{Key: "proposal/" + p.ID + "/approved", Kind: "config.approved"}}, nil
	}
}

// kinds are those of all events, in order.
func kinds(t testing.TB, s *Store) string {
	t.Helper()
	events, err := s.Events(t.Context(), EventFilter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range events {
		all = append(all, strings.TrimPrefix(e.Kind, "config."))
	}
	return strings.Join(all, " ")
}

func TestProposals(t *testing.T) {
	s := newStore(t)
	if v := save(t, s, guarded()); v != 1 {
		t.Fatalf("version %d", v)
	}
	// Nothing but a proposal changes it.
	_, err := s.SaveConfig(t.Context(), SaveConfig{Source: []byte("x"), Config: config.Config{}, By: "bo", Event: access.Event{Kind: "config.applied"}})
	if !errors.Is(err, ErrMoved) {
		t.Errorf("saved without an approval: %v", err)
	}
	if v := save(t, s, guarded()); v != 1 {
		t.Errorf("the same again is version %d", v)
	}

	first := proposed(t, s, "chg-1", "read")
	got, err := s.Proposal(t.Context(), "chg-1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, got); diff != "" || got.State != ProposalOpen {
		t.Error(got.State, diff)
	}
	if again := proposed(t, s, "chg-2", "read"); again.ID != "chg-1" {
		t.Errorf("the same again is %s", again.ID)
	}
	s.Now = func() time.Time { return noon.Add(time.Minute) }
	other := proposed(t, s, "chg-3", "write")
	_, err = s.Propose(t.Context(), Proposal{ID: "chg-4", By: "bo", Base: 7}, access.Event{Key: "x", Kind: "config.proposed"})
	if !errors.Is(err, ErrMoved) {
		t.Errorf("compared with what is not in force: %v", err)
	}

	// What fails changes nothing, however far it came.
	for _, why := range []error{errors.New("no"), nil} {
		_, err = s.DecideProposal(t.Context(), "chg-1", func(p *Proposal, version int64) (*SaveConfig, []access.Event, error) {
			save, events, _ := approve("read")(p, version)
			save.Event.Kind = "" // no event, so it is not written
			return save, events, why
		})
		if got, _ := s.Proposal(t.Context(), "chg-1"); err == nil || got.State != ProposalOpen {
			t.Errorf("a decision that failed: %v, %s", err, got.State)
		}
	}
	if got, want := kinds(t, s), "applied proposed proposed"; got != want {
		t.Errorf("events: %s, want %s", got, want)
	}
	if _, err := s.DecideProposal(t.Context(), "chg-9", approve("read")); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown one: %v", err)
	}

	done, err := s.DecideProposal(t.Context(), "chg-1", approve("read"))
	if err != nil || done.Version != 2 {
		t.Fatalf("approved: %+v, %v", done, err)
	}
	version, cfg, err := s.Config(t.Context())
	if err != nil || version != 2 || len(cfg.AccessFlows) != 1 || cfg.AccessFlows[0].Name != "read" {
		t.Errorf("in force: %d %+v, %v", version, cfg, err)
	}
	list, err := s.Proposals(t.Context(), 0)
	if err != nil || len(list) != 2 {
		t.Fatalf("list: %+v, %v", list, err)
	}
	done.Source, other.Source, other.State = []byte{}, []byte{}, ProposalStale
	for _, p := range list {
		want := done
		if p.ID == other.ID {
			want = other
		}
		if diff := cmp.Diff(want, p); diff != "" {
			t.Error(diff)
		}
	}
	if got, want := kinds(t, s), "applied proposed proposed approved applied stale"; got != want {
		t.Errorf("events: %s, want %s", got, want)
	}
	if _, err := s.DecideProposal(t.Context(), "chg-3", approve("write")); !errors.Is(err, ErrMoved) {
		t.Errorf("what is stale was decided: %v", err)
	}
}

// However many approve, and whatever: one configuration comes into force, and
// every other proposal is stale. Two processes have the store open.
func TestProposalsRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lapse.db")
	stores := []*Store{open1(t, path), open1(t, path)}
	s := stores[0]
	save(t, s, guarded())
	const proposals, times = 4, 3
	for i := range proposals {
		proposed(t, s, fmt.Sprint("chg-", i), fmt.Sprint("flow-", i))
	}
	var wg sync.WaitGroup
	results := make(chan error, proposals*times*2)
	for i := range proposals * times {
		wg.Go(func() {
			_, err := stores[i%2].DecideProposal(t.Context(), fmt.Sprint("chg-", i%proposals), approve(fmt.Sprint("flow-", i%proposals)))
			results <- err
		})
		wg.Go(func() { // and somebody applies past the rule
			_, err := stores[i%2].SaveConfig(t.Context(), SaveConfig{Source: []byte(fmt.Sprint(i)), Config: config.Config{People: guarded().People}, By: "bo", Event: access.Event{Kind: "config.applied"}})
			results <- err
		})
	}
	wg.Wait()
	close(results)
	applied := 0
	for err := range results {
		switch {
		case err == nil:
			applied++
		case !errors.Is(err, ErrMoved):
			t.Error(err)
		}
	}
	version, cfg, err := s.Config(t.Context())
	if err != nil || applied != 1 || version != 2 || len(cfg.AccessFlows) != 1 {
		t.Fatalf("%d were applied: version %d, %+v, %v", applied, version, cfg, err)
	}
	list, err := s.Proposals(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		want := ProposalStale
		if cfg.AccessFlows[0].Name == strings.Replace(p.ID, "chg", "flow", 1) {
			want = ProposalApproved
		}
		if p.State != want {
			t.Errorf("%s is %s, want %s", p.ID, p.State, want)
		}
	}
	if report, err := s.VerifyAudit(t.Context(), ""); err != nil || !report.OK() {
		t.Errorf("audit: %+v, %v", report, err)
	}
}

// What is proposed while another configuration comes into force is compared
// anew, or goes stale with it.
func TestProposeWhileAnotherIsApproved(t *testing.T) {
	for range 20 {
		s := newStore(t)
		save(t, s, guarded())
		proposed(t, s, "chg-1", "read")
		var wg sync.WaitGroup
		var late error
		wg.Go(func() {
			if _, err := s.DecideProposal(t.Context(), "chg-1", approve("read")); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			_, late = s.Propose(t.Context(), Proposal{ID: "chg-2", At: noon, By: "bo", Base: 1}, access.Event{Key: "chg-2", Kind: "config.proposed"})
		})
		wg.Wait()
		p, err := s.Proposal(t.Context(), "chg-2")
		if late == nil && (err != nil || p.State != ProposalStale) || late != nil && !errors.Is(late, ErrMoved) {
			t.Fatalf("%v, then %s, %v", late, p.State, err)
		}
	}
}
