package workflows_test

import (
	"compress/gzip"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"

	"github.com/lapse-access/lapse/workers"
	"github.com/lapse-access/lapse/workflows"
)

// recorded reads a history as the recorder in starter/dev wrote it.
func recorded(t testing.TB, file string) *historypb.History {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	h, err := client.HistoryFromJSON(z, client.HistoryJSONOptions{})
	require.NoError(t, err)
	return h
}

// TestReplay replays the histories of every released shape: a workflow that was
// begun by an earlier version must go on in this one. One that fails after a
// release is broken for good: put the change behind workflow.GetVersion. Before
// the first release that knows it, record the histories again with make record.
func TestReplay(t *testing.T) {
	files, err := filepath.Glob("testdata/replay/*.json.gz")
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json.gz")
		h := recorded(t, file)
		seen[h.Events[0].GetWorkflowExecutionStartedEventAttributes().WorkflowType.Name] = true
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			replayer := worker.NewWorkflowReplayer()
			workers.Workflows(replayer)
			err := replayer.ReplayWorkflowHistory(sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)), h)
			require.NoError(t, err)
		})
	}
	for _, workflow := range []string{workflows.RequestType, workflows.AccountType, workflows.SweepType, workflows.DiscoveryType, workflows.CheckType, workflows.EpochType, workflows.RotationType, workflows.RemovalType, workflows.AutomaticType} {
		require.True(t, seen[workflow], "no history of a %s is recorded", workflow)
	}
}

// The replay notices a workflow that does something else than it did.
func TestReplayNotices(t *testing.T) {
	h := recorded(t, "testdata/replay/0.1_account_one-hold.json.gz")
	for _, e := range h.Events {
		if a := e.GetActivityTaskScheduledEventAttributes(); a != nil && a.ActivityType.Name == workflows.ActTicket {
			a.ActivityType.Name = "ARetiredName"
		}
	}
	replayer := worker.NewWorkflowReplayer()
	workers.Workflows(replayer)
	err := replayer.ReplayWorkflowHistory(sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)), h)
	require.ErrorContains(t, err, "ARetiredName")
}
