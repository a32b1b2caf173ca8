package store

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lapse-access/lapse/access"
)

func appendN(t testing.TB, s *Store, n int) {
	t.Helper()
	for i := range n {
		e := access.Event{Key: fmt.Sprintf("k%d", i), Kind: "test", Actor: "lapse", Text: fmt.Sprintf("<event> %d", i), Data: json.RawMessage(`{ "n": 1 }`)}
		if err := s.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
}

func verify(t testing.TB, s *Store, head string) Report {
	t.Helper()
	r, err := s.VerifyAudit(t.Context(), head)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEvents(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	if seq, hash, err := s.Head(ctx); seq != 0 || hash != "" || err != nil {
		t.Errorf("first head: %d %q %v", seq, hash, err)
	}
	if r := verify(t, s, ""); !r.OK() || r.Events != 0 {
		t.Errorf("an empty trail: %+v", r)
	}
	want := access.Event{Key: "a", Kind: "k", At: noon, Actor: "per-1", RequestID: "r", HoldID: "h", AccountID: "a", Integration: "i", Text: "t\x00<é", Data: json.RawMessage(`{"x":[1]}`)}
	if err := errors.Join(s.Append(ctx, want), s.Append(ctx, access.Event{Key: "b", Kind: "k"}), s.Append(ctx, access.Event{Key: "a", Kind: "other"})); err != nil {
		t.Fatal(err)
	}
	got, err := s.Events(ctx, EventFilter{RequestID: "r", AccountID: "a"})
	if err != nil || len(got) != 1 {
		t.Fatalf("events: %v, %v", got, err)
	}
	if diff := cmp.Diff(want, got[0].Event); diff != "" {
		t.Error(diff)
	}
	if got, err = s.Events(ctx, EventFilter{After: 1}); err != nil || len(got) != 1 || !got[0].At.Equal(noon) {
		t.Errorf("after the first: %v, %v", got, err)
	}
	if err := s.Append(ctx, access.Event{Key: "c", Kind: "k", Data: json.RawMessage(`{`)}); err == nil {
		t.Error("data that is not JSON was taken")
	}
	seq, hash, err := s.Head(ctx)
	if r := verify(t, s, hash); !r.OK() || r.Events != 2 || seq != 2 || r.Head != hash || err != nil {
		t.Errorf("report %+v, head %d %s, %v", r, seq, hash, err)
	}
}

func TestAuditIsAppendOnly(t *testing.T) {
	s := newStore(t)
	appendN(t, s, 2)
	for _, sql := range []string{`update events set text = 'x'`, `delete from events where seq = 2`} {
		if _, err := s.writer.Exec(sql); err == nil || !strings.Contains(err.Error(), "append-only") {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

func TestVerifyAuditFindsTampering(t *testing.T) {
	for _, tc := range []struct {
		name   string
		sql    string
		faults []int64
	}{
		{"nothing", `select 1`, nil},
		{"text", `update events set text = 'x' where seq = 3`, []int64{3}},
		{"time", `update events set at = '2026-05-04T12:00:00.123456788Z' where seq = 1`, []int64{1}},
		{"data", `update events set data = '{"n":2}' where seq = 6`, []int64{6}},
		{"hash", `update events set hash = (select hash from events where seq = 2) where seq = 3`, []int64{3, 4}},
		{"hash that is none", `update events set hash = 'xyz' where seq = 3`, []int64{3, 4}},
		{"first taken out", `delete from events where seq = 1`, []int64{2}},
		{"middle taken out", `delete from events where seq in (3, 4)`, []int64{5}},
		{"middle taken out, numbers closed", `delete from events where seq = 3; update events set seq = seq - 1 where seq > 3`, []int64{3, 4, 5}},
		{"last cut off", `delete from events where seq = 6`, []int64{0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStore(t)
			appendN(t, s, 6)
			_, head, err := s.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.writer.Exec(`drop trigger events_update; drop trigger events_delete; ` + tc.sql); err != nil {
				t.Fatal(err)
			}
			var got []int64
			for _, f := range verify(t, s, head).Faults {
				got = append(got, f.Seq)
			}
			if diff := cmp.Diff(tc.faults, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestVerifyAuditFindsRewrittenTail(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	appendN(t, s, 6)
	_, head, err := s.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.writer.Exec(`drop trigger events_delete; delete from events where seq > 3`); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Append(ctx, access.Event{Key: "k3", Kind: "rewritten"}), s.Append(ctx, access.Event{Key: "k4", Kind: "rewritten"})); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, s, ""); !r.OK() {
		t.Errorf("without a head nobody can see it, and yet: %+v", r)
	}
	if r := verify(t, s, head); r.OK() || !strings.Contains(r.Faults[0].Text, head) {
		t.Errorf("with a head: %+v", r)
	}
}

// TestConcurrentRecords writes from two stores on one file, all keys twice.
func TestConcurrentRecords(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	var path string
	if err := w.writer.QueryRow(`select file from pragma_database_list where name = 'main'`).Scan(&path); err != nil {
		t.Fatal(err)
	}
	stores := []*Store{w.Store, open1(t, path)}
	const writers, each = 4, 25
	var wg sync.WaitGroup
	for i := range writers * len(stores) {
		wg.Go(func() {
			for n := range each {
				key := fmt.Sprintf("w%d/%d", i/2, n)
				if err := stores[i%2].Record(ctx, []access.Change{{Event: access.Event{Key: key, Kind: "x"}}, {Event: access.Event{Key: key + "b", Kind: "x"}}}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if r := verify(t, w.Store, ""); !r.OK() || r.Events != 1+2*writers*each {
		t.Errorf("%+v", r)
	}
}

// TestKilledWriter kills processes in the middle of their writes: the chain is
// whole, and has everything that a writer was told is written.
func TestKilledWriter(t *testing.T) {
	if path := os.Getenv("STORE_TEST_WRITER"); path != "" {
		writeForEver(t, path)
	}
	path := filepath.Join(t.TempDir(), "lapse.db")
	var told []string
	for round := range 3 {
		var wg sync.WaitGroup
		var mu sync.Mutex
		for range 2 {
			cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWriter$")
			cmd.Env = append(os.Environ(), "STORE_TEST_WRITER="+path)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				lines := bufio.NewScanner(out)
				for n := 0; lines.Scan(); n++ {
					if n == 20+10*round {
						cmd.Process.Kill()
					}
					mu.Lock()
					told = append(told, lines.Text())
					mu.Unlock()
				}
				cmd.Wait()
			})
		}
		wg.Wait()
	}
	if len(told) < 100 {
		t.Fatalf("the writers wrote only %d events: %v", len(told), told)
	}
	s := open1(t, path)
	if r := verify(t, s, ""); !r.OK() || r.Events < int64(len(told)) {
		t.Errorf("%d events told, %+v", len(told), r)
	}
	for _, key := range told {
		if known, err := s.Recorded(t.Context(), key); !known || err != nil {
			t.Errorf("%s was told to be written: %v", key, err)
		}
	}
}

func writeForEver(t *testing.T, path string) {
	s, err := Open(t.Context(), path)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for {
		key := access.NewID("ev")
		if err := s.Record(t.Context(), []access.Change{{Event: access.Event{Key: key + "/before", Kind: "x"}}, {Event: access.Event{Key: key, Kind: "x"}}}); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(key)
	}
}

func BenchmarkRecord(b *testing.B) {
	w := newWorld(b)
	w.request(b, "req-1", noon, "read_only")
	h, err := w.Hold(b.Context(), "req-1-read_only")
	if err != nil {
		b.Fatal(err)
	}
	h.State = access.StateActive
	n := 0
	for b.Loop() {
		n++
		err := w.Record(b.Context(), []access.Change{{Event: access.Event{Key: fmt.Sprint(n), Kind: "granted"}, Holds: []access.Hold{h}, Account: &access.AccountChange{ID: h.AccountID, Name: "ana"}}})
		if err != nil {
			b.Fatal(err)
		}
	}
}
