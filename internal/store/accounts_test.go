package store

import (
	"bytes"
	"crypto/hpke"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/seal"
)

// opening is an OpenHolds for all holds of a request.
func (w world) opening(r access.Request, baseline ...access.Baseline) OpenHolds {
	o := OpenHolds{AccountID: w.account(), RequestID: r.ID, Baseline: baseline, Event: access.Event{Key: "ticket/" + r.ID, Kind: "ticket.signed"}}
	for i, id := range r.HoldIDs {
		o.Holds = append(o.Holds, access.Hold{ID: id, RequestID: r.ID, AccountID: w.account(), Entitlement: r.Asked[i].Entitlement, State: access.StateGranting, EndsAt: noon.Add(time.Hour)})
	}
	return o
}

func TestAccountLife(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	get := func() AccountRow {
		t.Helper()
		a, err := w.Account(ctx, w.account())
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	check := func(what string, want AccountRow) {
		t.Helper()
		want.Account = access.Account{ID: w.account(), Integration: w.pg.ID, PersonID: w.ana.ID, Email: "ana@example.com", Name: want.Name}
		if diff := cmp.Diff(want, get(), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	if _, err := w.BeginAccount(ctx, w.account()); !errors.Is(err, ErrNotFound) {
		t.Errorf("before the first request: %v", err)
	}

	// One request opens a hold. Another, on the same slot, finds what is ours.
	r1, r2 := w.request(t, "req-1", noon, "read_only"), w.request(t, "req-2", noon, "read_write")
	w.approve(t, "req-1")
	w.approve(t, "req-2")
	check("asked for, not opened", AccountRow{})
	o1 := w.opening(r1, access.Baseline{Slot: "s", Value: "before", Holds: []string{r1.HoldIDs[0]}})
	o1.Wrote = map[string]string{"s": "ours"}
	if err := errors.Join(w.OpenHolds(ctx, o1), w.OpenHolds(ctx, o1)); err != nil {
		t.Fatal(err)
	}
	o2 := w.opening(r2, access.Baseline{Slot: "s", Value: "ours", Holds: []string{r2.HoldIDs[0]}})
	o2.Wrote = map[string]string{"s": "more"}
	if err := w.OpenHolds(ctx, o2); err != nil {
		t.Fatal(err)
	}
	both := []string{r1.HoldIDs[0], r2.HoldIDs[0]}
	check("both open", AccountRow{Holds: []access.Hold{o1.Holds[0], o2.Holds[0]}, Wrote: o2.Wrote, Baseline: []access.Baseline{{Slot: "s", Value: "before", Holds: both}}})
	if list, err := w.AccountsOf(ctx, w.pg.ID); err != nil || len(list) != 1 || len(list[0].Holds) != 2 || len(list[0].Baseline) != 1 {
		t.Errorf("accounts of the integration: %+v, %v", list, err)
	}

	// The first ends; the baseline stays for the second, which waits for an
	// invitation and is open all the same.
	w.holdsIn(t, "req-1", access.StateEnded)
	w.holdsIn(t, "req-2", access.StatePending)
	a := get()
	if len(a.Holds) != 1 || len(a.Baseline) != 1 || a.Baseline[0].Value != "before" {
		t.Errorf("one open: %+v", a)
	}

	// That nothing is held is not believed while something is.
	w.record(t, access.Change{Account: &access.AccountChange{ID: w.account(), CleanupAt: noon}}, access.Change{Account: &access.AccountChange{ID: w.account(), Deleted: true}})
	if a = get(); !a.CleanupAt.IsZero() || a.Deleted || len(a.Baseline) != 1 || len(a.Wrote) != 1 {
		t.Errorf("a cleanup that was overtaken: %+v", a)
	}

	// Two runs of the workflow; the last hold ends and the cleanup begins.
	for want := range int64(2) {
		if a, err := w.BeginAccount(ctx, w.account()); err != nil || a.Incarnation != noon.Unix()+want || len(a.Holds) != 1 {
			t.Errorf("run %d: %+v, %v", want+1, a, err)
		}
	}
	h2, err := w.Hold(ctx, r2.HoldIDs[0])
	if err != nil {
		t.Fatal(err)
	}
	h2.State = access.StateEnded
	w.record(t, access.Change{Holds: []access.Hold{h2}, Account: &access.AccountChange{ID: w.account(), Name: "ana", Generation: 3, CleanupAt: noon.Add(time.Hour)}})
	check("cleanup", AccountRow{Account: access.Account{Name: "ana"}, Incarnation: noon.Unix() + 1, Generation: 3, CleanupAt: noon.Add(time.Hour)})
	w.record(t, access.Change{Account: &access.AccountChange{ID: w.account(), Generation: 2, CleanupAt: noon}})
	check("no name, an older generation", AccountRow{Account: access.Account{Name: "ana"}, Incarnation: noon.Unix() + 1, Generation: 3, CleanupAt: noon})

	// A new hold cancels the cleanup and takes a baseline of its own.
	r3 := w.request(t, "req-3", noon, "read_only")
	w.approve(t, "req-3")
	o3 := w.opening(r3, access.Baseline{Slot: "s", Value: "lowered meanwhile", Holds: r3.HoldIDs})
	if err := w.OpenHolds(ctx, o3); err != nil {
		t.Fatal(err)
	}
	check("a new hold", AccountRow{Account: access.Account{Name: "ana"}, Incarnation: noon.Unix() + 1, Generation: 3, Holds: o3.Holds, Baseline: o3.Baseline})

	// Deleted, and begun again.
	w.holdsIn(t, "req-3", access.StateEnded)
	w.record(t, access.Change{Account: &access.AccountChange{ID: w.account(), Deleted: true}})
	check("deleted", AccountRow{Incarnation: noon.Unix() + 1, Generation: 3, Deleted: true})
	if list, err := w.AccountsOf(ctx, w.pg.ID); err != nil || len(list) != 0 {
		t.Errorf("accounts of the integration: %+v, %v", list, err)
	}
	r4 := w.request(t, "req-4", noon, "read_only")
	w.approve(t, "req-4")
	if err := w.OpenHolds(ctx, w.opening(r4)); err != nil {
		t.Fatal(err)
	}
	if a = get(); a.Deleted || a.Generation != 3 || len(a.Holds) != 1 || len(a.Baseline) != 0 {
		t.Errorf("begun again: %+v", a)
	}
}

func TestOpenHoldsRefuses(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	r := w.request(t, "req-1", noon, "read_only")
	other := w.request(t, "req-2", noon, "read_only")
	refused := func(what string, kind access.ErrorKind, o OpenHolds) {
		t.Helper()
		o.Event.Key = what
		o.Wrote = map[string]string{"x": "y"}
		o.Baseline = []access.Baseline{{Slot: "x", Holds: r.HoldIDs}}
		if err := w.OpenHolds(ctx, o); access.KindOf(err) != kind {
			t.Errorf("%s: %v", what, err)
		}
		if known, err := w.Recorded(ctx, what); known || err != nil {
			t.Errorf("%s: what was refused left a trace", what)
		}
	}
	refused("not decided", access.NoTicket, w.opening(r))
	w.approve(t, "req-1")
	foreign := w.opening(r)
	foreign.Holds = append(foreign.Holds, w.opening(other).Holds...)
	refused("a hold of another request", access.NoTicket, foreign)
	endless := w.opening(r)
	endless.Holds[0].EndsAt = time.Time{}
	refused("no end", access.Invalid, endless)
	w.holdsIn(t, "req-1", access.StateActive)
	refused("active already", access.NoTicket, w.opening(r))
	w.holdsIn(t, "req-1", access.StateEnded)
	refused("over", access.NoTicket, w.opening(r))
	w.record(t, access.Change{Request: &access.RequestChange{ID: "req-2", State: access.StateDenied}})
	refused("denied", access.NoTicket, w.opening(other))
	lost := w.opening(r)
	lost.RequestID = "req-9"
	if err := w.OpenHolds(ctx, lost); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such request: %v", err)
	}
}

func TestCredential(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.request(t, "req-1", noon, "read_only")
	w.approve(t, "req-1")
	put := func(generation int, text string) {
		t.Helper()
		if err := w.PutCredential(ctx, w.account(), generation, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	reveals := 0
	take := func() string {
		t.Helper()
		reveals++
		generation, text, err := w.TakeCredential(ctx, w.account(), access.Event{Key: fmt.Sprintf("reveal/%d", reveals), Kind: "credential.shown"})
		if errors.Is(err, ErrNotFound) {
			return ""
		}
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%d %s", generation, text)
	}
	want := func(what, want string) {
		t.Helper()
		if got := take(); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	if err := w.PutCredential(ctx, "int-x/per-x", 1, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("of an unknown account: %v", err)
	}
	want("none yet", "")
	put(2, "two")
	put(1, "one, too late")
	want("the newest", "2 two")
	want("only once", "")
	put(2, "two, made again")
	put(2, "two, and again")
	want("made again", "2 two, and again")

	w.holdsIn(t, "req-1", access.StateActive)
	put(3, "three")
	if err := w.DropCredential(ctx, w.account()); err != nil {
		t.Fatal(err)
	}
	want("not dropped while a hold is open", "3 three")
	put(4, "four")
	w.holdsIn(t, "req-1", access.StateEnded)
	if err := w.DropCredential(ctx, w.account()); err != nil {
		t.Fatal(err)
	}
	put(4, "four, too late")
	want("dropped", "")
	put(5, "five")
	if _, _, err := w.TakeCredential(ctx, w.account(), access.Event{Key: "reveal/1", Kind: "credential.shown"}); err != nil {
		t.Errorf("reveal/1 was never recorded, and yet: %v", err)
	}
	put(6, "six")
	if _, _, err := w.TakeCredential(ctx, w.account(), access.Event{Key: "reveal/1", Kind: "credential.shown"}); access.KindOf(err) != access.Invalid {
		t.Errorf("shown without an event of its own: %v", err)
	}
	want("still there", "6 six")
}

// inFiles reports whether any file of the store holds some bytes.
func inFiles(t *testing.T, s *Store, want []byte) bool {
	t.Helper()
	var path string
	if err := s.writer.QueryRow(`select file from pragma_database_list where name = 'main'`).Scan(&path); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) < 2 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(content, want) {
			return true
		}
	}
	return false
}

// TestErasedIsErased looks into the files for a secret, which is never there,
// and for its ciphertext, which is not there once it was shown or dropped.
func TestErasedIsErased(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.request(t, "req-1", noon, "read_only")
	key, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("canary-8c1f")
	for i, erase := range []func() error{
		func() error {
			generation, sealed, err := w.TakeCredential(ctx, w.account(), access.Event{Key: "reveal", Kind: "credential.shown"})
			if err != nil {
				return err
			}
			if got, err := seal.Open(key, seal.Info(w.account(), generation), sealed); err != nil || !bytes.HasPrefix(got, secret) {
				t.Errorf("opened %q, %v", got, err)
			}
			return nil
		},
		func() error { return w.DropCredential(ctx, w.account()) },
	} {
		// Longer than a page, so that some of it lies apart from its row.
		sealed, err := seal.Seal(key.PublicKey(), seal.Info(w.account(), i+1), bytes.Repeat(secret, 1000))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.PutCredential(ctx, w.account(), i+1, sealed); err != nil {
			t.Fatal(err)
		}
		for part := range slices.Chunk(sealed, 1000) {
			part = part[:16]
			if !inFiles(t, w.Store, part) {
				t.Fatal("the search finds nothing even when it is there")
			}
		}
		if inFiles(t, w.Store, secret) {
			t.Error("the secret is in a file")
		}
		if err := erase(); err != nil {
			t.Fatal(err)
		}
		for part := range slices.Chunk(sealed, 1000) {
			if inFiles(t, w.Store, part[:16]) {
				t.Fatalf("ciphertext of generation %d is still in a file", i+1)
			}
		}
	}
}
