package activities_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/runbook"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/internal/targettest"
)

// byHand gives the world's kind steps, and keeps what they are asked for.
func (w *world) byHand(steps func(t integrations.Target, req integrations.RevokeRequest) (string, error)) {
	kind := w.Kinds[targettest.KindName]
	kind.LastResort = integrations.LastResort{Language: "sh",
		Head:  func(t integrations.Target) (string, error) { return "connect " + t.Name + "\n", nil },
		Steps: steps}
	w.Kinds = integrations.NewRegistry(kind)
}

// read writes a runbook and opens it with the key that stands beside.
func (w *world) read() runbook.Book {
	w.t.Helper()
	data := filepath.Dir(w.path)
	path, err := w.WriteRunbook(w.t.Context(), data)
	require.NoError(w.t, err)
	ids, err := runbook.Identities(filepath.Join(data, "keys", runbook.KeyFile))
	require.NoError(w.t, err)
	file, err := os.Open(path)
	require.NoError(w.t, err)
	defer file.Close()
	b, err := runbook.Open(file, w.TicketKey.Public().(ed25519.PublicKey), ids...)
	require.NoError(w.t, err)
	return b
}

func TestRunbook(t *testing.T) {
	w := newWorld(t)
	w.cfg.Runbook = config.Runbook{Every: access.Duration(time.Minute), Path: "runbook", Keep: 2}
	w.cfg.Integrations[0].Config = []byte("{}")
	w.apply()
	require.NoError(t, os.MkdirAll(filepath.Join(filepath.Dir(w.path), "keys"), 0o700))
	require.Empty(t, w.read().Integrations, "nobody holds anything")

	r := w.approved("req-1", "read_only", "read_write")
	// It is about to be granted: a process that is killed now may have done it.
	had := w.entitlement("admin")
	open := store.OpenHolds{AccountID: w.account(), RequestID: r.ID, Wrote: map[string]string{"s": "member"}, Event: access.Event{Key: "opened", Kind: "test"},
		Baseline: []access.Baseline{{Slot: "s", HeldAs: []access.Entitlement{had}, Holds: r.HoldIDs}}}
	for _, id := range r.HoldIDs {
		open.Holds = append(open.Holds, access.Hold{ID: id, RequestID: r.ID, AccountID: w.account(), EndsAt: time.Now().Add(time.Hour)})
	}
	require.NoError(t, w.Store.OpenHolds(t.Context(), open))
	var asked []integrations.RevokeRequest
	w.byHand(func(to integrations.Target, req integrations.RevokeRequest) (string, error) {
		require.Nil(t, to.Secret)
		require.IsType(t, &struct{}{}, to.Config)
		asked = append(asked, req)
		return "take it away\n", nil
	})
	b := w.read()
	require.Len(t, b.Integrations, 1)
	in := b.Integrations[0]
	require.Equal(t, "connect prod-pg\n", in.Command)
	require.Len(t, in.People, 1)
	require.Equal(t, "take it away\n", in.People[0].Steps)
	require.Equal(t, "ana@example.com", in.People[0].Email)
	require.Len(t, in.People[0].Holds, 2)
	require.Len(t, asked, 1)
	require.Len(t, asked[0].End, 2)
	require.Equal(t, w.account(), asked[0].Account.ID)
	require.Equal(t, []access.Claim{{Entitlement: had, Baseline: true}}, asked[0].Remain)
	require.Equal(t, open.Wrote, asked[0].Wrote)
	at, err := w.Store.RunbookAt(t.Context())
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), at, time.Minute)

	// What cannot be written down is said, and the rest is there.
	for _, test := range []struct {
		steps func(integrations.Target, integrations.RevokeRequest) (string, error)
		why   string
	}{
		{func(integrations.Target, integrations.RevokeRequest) (string, error) {
			return "", errors.New("no such name")
		}, "no such name"},
		{func(integrations.Target, integrations.RevokeRequest) (string, error) { return "drop \x1b[2J", nil }, "terminal"},
	} {
		w.byHand(test.steps)
		person := w.read().Integrations[0].People[0]
		require.Contains(t, person.Missing, test.why)
		require.Empty(t, person.Steps)
		require.Len(t, person.Holds, 2)
	}
	w.Kinds = integrations.NewRegistry((&targettest.Target{}).Kind())
	require.Contains(t, w.read().Integrations[0].Missing, "no steps")

	w.holds(r, access.StateEnded, -time.Hour, -time.Minute)
	require.Empty(t, w.read().Integrations, "what has ended")
	files, err := filepath.Glob(filepath.Join(filepath.Dir(w.path), "runbook", "*"))
	require.NoError(t, err)
	require.Len(t, files, 2)
}

// TestKeepRunbook writes at once, and again when the time has come.
func TestKeepRunbook(t *testing.T) {
	w := newWorld(t)
	w.cfg.Runbook = config.Runbook{Every: access.Duration(time.Second), Path: "runbook", Keep: 9}
	w.apply()
	require.NoError(t, os.MkdirAll(filepath.Join(filepath.Dir(w.path), "keys"), 0o700))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.KeepRunbook(ctx, filepath.Dir(w.path)) }()
	require.Eventually(t, func() bool {
		files, _ := filepath.Glob(filepath.Join(filepath.Dir(w.path), "runbook", "runbook-*"))
		return len(files) >= 2
	}, 20*time.Second, 50*time.Millisecond)
	cancel()
	<-done
}
