package activities_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/workflows"
)

// found is a finding without its sentence.
type found struct{ Kind, Subject, Repaired string }

func findings(r access.SweepReport) (out []found) {
	for _, f := range r.Findings {
		out = append(out, found{f.Kind, f.Subject, f.Repaired})
	}
	return out
}

func TestSweepStore(t *testing.T) {
	restored := "its workflow was started again from the store"
	for _, c := range []struct {
		name    string
		prepare func(w *world)
		want    []found
		did     func(w *world) []string // with Temporal
	}{
		{"all is well", func(w *world) {
			w.holds(w.approved("r1", "read_only"), access.StateActive, -time.Minute, time.Hour)
			w.ask("r2", "read_only")
			w.temporal.running(workflows.AccountID(w.account()), workflows.RequestID("r2"))
		}, nil, nil},
		{"an account that holds something and has lost its workflow gets it back", func(w *world) {
			w.holds(w.approved("r1", "read_only"), access.StateActive, -time.Minute, time.Hour)
		}, []found{{"lost_account", "ana@example.com", restored}}, func(w *world) []string { return []string{"reload account/" + w.account()} }},
		{"so does one whose workflow was terminated", func(w *world) {
			w.holds(w.approved("r1", "read_only"), access.StateGranting, 0, time.Hour)
			w.temporal.status[workflows.AccountID(w.account())] = enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED
		}, []found{{"lost_account", "ana@example.com", restored}}, func(w *world) []string { return []string{"reload account/" + w.account()} }},
		{"so does one that only waits for its cleanup", func(w *world) {
			w.holds(w.approved("r1", "read_only"), access.StateEnded, -time.Hour, -time.Minute)
			w.record(access.Change{Account: &access.AccountChange{ID: w.account(), CleanupAt: time.Now().Add(time.Hour)}})
		}, []found{{"lost_account", "ana@example.com", restored}}, func(w *world) []string { return []string{"reload account/" + w.account()} }},
		{"one whose id another type of workflow has taken gets it back", func(w *world) {
			w.holds(w.approved("r1", "read_only"), access.StateActive, -time.Minute, time.Hour)
			w.temporal.running(workflows.AccountID(w.account()))
			w.temporal.disguise = func(i *workflowpb.WorkflowExecutionInfo) { i.Type.Name = "Squatter" }
		}, []found{{"lost_account", "ana@example.com", restored}}, func(w *world) []string {
			return []string{"terminate account/" + w.account(), "reload account/" + w.account()}
		}},
		{"so does one whose id is taken on a queue that nobody of ours polls", func(w *world) {
			w.holds(w.approved("r1", "read_only"), access.StateActive, -time.Minute, time.Hour)
			w.temporal.running(workflows.AccountID(w.account()))
			w.temporal.disguise = func(i *workflowpb.WorkflowExecutionInfo) { i.TaskQueue = "nobodys" }
		}, []found{{"lost_account", "ana@example.com", restored}}, func(w *world) []string {
			return []string{"terminate account/" + w.account(), "reload account/" + w.account()}
		}},
		{"one that holds nothing needs none", func(w *world) {
			w.holds(w.approved("r1", "read_only"), access.StateEnded, -time.Hour, -time.Minute)
		}, nil, nil},
		{"a hold that is late is told", func(w *world) {
			w.holds(w.approved("r1", "read_only"), access.StateEnding, -time.Hour, -time.Minute)
			w.temporal.running(workflows.AccountID(w.account()))
		}, []found{{"overdue", "ana@example.com", ""}}, nil},
		{"what a disabled person holds is ended", func(w *world) {
			w.holds(w.approved("r1", "read_only"), access.StateActive, -time.Minute, time.Hour)
			w.temporal.running(workflows.AccountID(w.account()))
			w.change("ana@example.com", func(p *config.Person) { p.Disabled = true })
		}, nil, func(w *world) []string { return []string{"end account/" + w.account() + " disabled/r1/read_only"} }},
		{"a request that was never begun is begun", func(w *world) { w.ask("r1", "read_only") },
			[]found{{"lost_request", "r1", "its workflow was started"}}, func(*world) []string { return []string{"start request/r1"} }},
		{"a request that was ended in Temporal before its decision is closed", func(w *world) {
			w.ask("r1", "read_only")
			w.temporal.status[workflows.RequestID("r1")] = enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED
		}, []found{{"lost_request", "r1", "closed as failed"}}, nil},
		{"so is one that was ended before its grant", func(w *world) {
			w.approved("r1", "read_only")
			w.temporal.status[workflows.RequestID("r1")] = enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED
		}, []found{{"lost_request", "r1", "closed as failed"}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			c.prepare(w)
			r, err := run[access.SweepReport](t, w.SweepStore, access.SweepArgs{Integration: w.pg.ID})
			require.NoError(t, err)
			require.True(t, r.Known)
			require.Empty(t, r.ReportOnly)
			require.Equal(t, c.want, findings(r))
			var did []string
			if c.did != nil {
				did = c.did(w)
			}
			require.Equal(t, did, w.temporal.did)
		})
	}
	t.Run("a closed request is over for good", func(t *testing.T) {
		w := newWorld(t)
		r := w.approved("r1", "read_only")
		w.temporal.status[workflows.RequestID("r1")] = enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED
		_, err := run[access.SweepReport](t, w.SweepStore, access.SweepArgs{Integration: w.pg.ID})
		require.NoError(t, err)
		require.Equal(t, access.StateFailed, w.hold("r1/read_only").State)
		_, err = run[access.TicketDone](t, w.Ticket, w.ticketArgs(r))
		require.Equal(t, string(access.NoTicket), applicationError(t, err).Type())
		again, err := run[access.SweepReport](t, w.SweepStore, access.SweepArgs{Integration: w.pg.ID})
		require.NoError(t, err)
		require.Empty(t, again.Findings)
	})
	t.Run("after a restore it only reports", func(t *testing.T) {
		w := newWorld(t)
		w.temporal.epoch = 7 // and the store has none
		w.holds(w.approved("r1", "read_only"), access.StateActive, -time.Minute, time.Hour)
		w.ask("r2", "read_only")
		w.change("ana@example.com", func(p *config.Person) { p.Disabled = true })
		r, err := run[access.SweepReport](t, w.SweepStore, access.SweepArgs{Integration: w.pg.ID, Repair: true})
		require.NoError(t, err)
		require.Contains(t, r.ReportOnly, "restored from a backup")
		require.Equal(t, []found{{"restored", "lapse", ""}, {"lost_account", "ana@example.com", ""}}, findings(r))
		require.Empty(t, w.temporal.did)
	})
	t.Run("the signed head of the audit trail goes to the log", func(t *testing.T) {
		w := newWorld(t)
		var log bytes.Buffer
		w.Log = slog.New(slog.NewJSONHandler(&log, nil))
		_, err := run[access.SweepReport](t, w.SweepStore, access.SweepArgs{Integration: w.pg.ID})
		require.NoError(t, err)
		var line struct {
			Events    int64
			Head      string
			Signature []byte
		}
		require.NoError(t, json.Unmarshal(log.Bytes(), &line))
		seq, hash, err := w.Store.Head(t.Context())
		require.NoError(t, err)
		require.Equal(t, []any{seq, hash}, []any{line.Events, line.Head})
		signed := fmt.Appendf(nil, "lapse audit head v1\x00%d\x00%s", seq, hash)
		require.True(t, ed25519.Verify(w.TicketKey.Public().(ed25519.PublicKey), signed, line.Signature))
	})
	t.Run("an integration that is not there any more has nothing to sweep", func(t *testing.T) {
		r, err := run[access.SweepReport](t, newWorld(t).SweepStore, access.SweepArgs{Integration: "int-nothing"})
		require.NoError(t, err)
		require.False(t, r.Known)
	})
}

func TestSweepCompare(t *testing.T) {
	principal := func(w *world, permissions ...string) access.Principal {
		p := access.Principal{Name: "lapse_ana", AccountID: w.account(), Enabled: true}
		for _, e := range permissions {
			p.Entitlements = append(p.Entitlements, w.entitlement(e))
		}
		return p
	}
	active := func(w *world) {
		r := w.approved("r1", "read_only")
		w.holds(r, access.StateActive, -time.Hour, time.Hour)
		w.record(access.Change{Account: &access.AccountChange{ID: w.account(), Name: "lapse_ana"}})
	}
	for _, c := range []struct {
		name    string
		prepare func(w *world)
		shows   func(w *world) []access.Principal
		want    []found
		deletes []string // names
	}{
		{"the target shows what the holds say", active, func(w *world) []access.Principal { return []access.Principal{principal(w, "read_only")} }, nil, nil},
		{"an account with our mark and without a row is reported, and deleted on repair", func(*world) {},
			func(w *world) []access.Principal {
				return []access.Principal{{Name: "lapse_nobody", AccountID: access.AccountID(w.pg.ID, "per-nobody")}}
			}, []found{{"unknown_principal", "lapse_nobody", ""}}, []string{"lapse_nobody"}},
		{"one of another integration is none of ours", func(*world) {},
			func(*world) []access.Principal {
				return []access.Principal{{Name: "x", AccountID: "int-2/per-1"}, {Name: "y", AccountID: "nonsense"}}
			}, nil, nil},
		{"what is left of an account that owns things is known", func(*world) {},
			func(w *world) []access.Principal {
				return []access.Principal{{Name: "tombstone", AccountID: access.AccountID(w.pg.ID, "per-nobody"), Tombstone: true}}
			}, nil, nil},
		{"access that was taken away by hand is missing", active, func(w *world) []access.Principal { return []access.Principal{principal(w)} },
			[]found{{"missing", "lapse_ana", ""}}, nil},
		{"so is a whole account", active, func(*world) []access.Principal { return nil }, []found{{"missing", "lapse_ana", ""}}, nil},
		{"access that was granted only after the look is not missing", func(w *world) {
			w.holds(w.approved("r1", "read_only"), access.StateActive, time.Minute, time.Hour)
		}, func(w *world) []access.Principal { return []access.Principal{principal(w)} }, nil, nil},
		{"access that is about to end is not missing", func(w *world) {
			w.holds(w.approved("r1", "read_only"), access.StateActive, -time.Hour, 30*time.Second)
		}, func(w *world) []access.Principal { return []access.Principal{principal(w)} }, nil, nil},
		{"access that no hold asks for is unexpected", active, func(w *world) []access.Principal { return []access.Principal{principal(w, "read_only", "admin")} },
			[]found{{"unexpected", "lapse_ana", ""}}, nil},
		{"what the person had before is expected", func(w *world) {
			r := w.approved("r1", "read_only")
			a := w.ticketArgs(r)
			a.Slots = []access.Slot{{Key: "k", Held: "admin", HeldAs: []access.Entitlement{w.entitlement("admin")}, Write: "read_only", Entitlements: []access.Entitlement{w.entitlement("read_only")}}}
			_, err := run[access.TicketDone](w.t, w.Ticket, a)
			require.NoError(w.t, err)
		}, func(w *world) []access.Principal { return []access.Principal{principal(w, "read_only", "admin")} }, nil, nil},
		{"what others gave to the account is told", active, func(w *world) []access.Principal {
			p := principal(w, "read_only")
			p.Foreign = []string{"member of dba"}
			return []access.Principal{p}
		}, []found{{"foreign", "lapse_ana", ""}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			c.prepare(w)
			r, err := run[access.SweepReport](t, w.SweepCompare, access.CompareArgs{Read: true, Principals: c.shows(w),
				Report: access.SweepReport{Integration: "prod-pg", Known: true, At: time.Now()}})
			require.NoError(t, err)
			require.Equal(t, c.want, findings(r))
			var deletes []string
			for _, a := range r.Delete {
				deletes = append(deletes, a.Name)
			}
			require.Equal(t, c.deletes, deletes)
			_, kept, err := w.Store.Findings(t.Context(), w.pg.ID)
			require.NoError(t, err)
			require.Equal(t, r.Findings, kept, "the portal shows what was found")
		})
	}
	overdue := func(t *testing.T) *world {
		w := newWorld(t)
		w.holds(w.approved("r1", "read_only"), access.StateEnding, -time.Hour, -time.Minute)
		w.temporal.running(workflows.AccountID(w.account()))
		return w
	}
	report := access.SweepReport{Integration: "prod-pg", Known: true, At: time.Now()}
	t.Run("a target that can be read wakes the accounts that wait for it", func(t *testing.T) {
		w := overdue(t)
		_, err := run[access.SweepReport](t, w.SweepCompare, access.CompareArgs{Read: true, Report: report, Principals: []access.Principal{principal(w, "read_only")}})
		require.NoError(t, err)
		require.Equal(t, []string{"wake account/" + w.account()}, w.temporal.did)
	})
	t.Run("one that cannot be read is a finding, and wakes nobody", func(t *testing.T) {
		w := overdue(t)
		r, err := run[access.SweepReport](t, w.SweepCompare, access.CompareArgs{Error: "no route", Report: report})
		require.NoError(t, err)
		require.Equal(t, []found{{"unreadable", "prod-pg", ""}}, findings(r))
		require.Equal(t, "no route", r.Findings[0].Text)
		require.Empty(t, w.temporal.did)
	})
	t.Run("an account that lost its workflow meanwhile does not stop the sweep", func(t *testing.T) {
		w := overdue(t)
		clear(w.temporal.status)
		_, err := run[access.SweepReport](t, w.SweepCompare, access.CompareArgs{Read: true, Report: report, Principals: []access.Principal{principal(w, "read_only")}})
		require.NoError(t, err)
	})
}

// What waits to be repeated is repeated once the target answers again; what
// does not wait is left alone.
func TestWake(t *testing.T) {
	for _, c := range []struct {
		name  string
		ended time.Duration // ago
		woken bool
	}{
		{"access that is overdue is tried again", time.Minute, true},
		{"access that has only just ended is being taken away", time.Second, false},
		{"access that has time left is none of its business", -time.Hour, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.holds(w.approved("r1", "read_only"), access.StateActive, -2*time.Hour, -c.ended)
			w.temporal.running(workflows.AccountID(w.account()))
			require.NoError(t, do(t, w.Wake, w.pg.ID))
			var want []string
			if c.woken {
				want = []string{"wake account/" + w.account()}
			}
			require.Equal(t, want, w.temporal.did)
		})
	}
}

// A restore of the store or of Temporal shows in the number that both keep.
func TestCheckEpoch(t *testing.T) {
	for _, c := range []struct {
		name   string
		ours   int64 // the store's
		moving int64 // to where the store was moving it; 0 is nowhere
		theirs int64 // Temporal's; 0 is none
		differ bool
		next   int64 // what both are at afterwards
	}{
		{name: "both are new", ours: 0, theirs: 0, next: 1},
		{name: "both agree", ours: 7, theirs: 7, next: 8},
		{name: "a process was stopped between the two writes", ours: 7, moving: 8, theirs: 8, next: 9},
		{name: "a process was stopped before the first of them", ours: 7, moving: 8, theirs: 7, next: 8},
		{name: "the store was restored from one epoch before", ours: 7, theirs: 8, differ: true},
		{name: "the store was restored", ours: 3, theirs: 8, differ: true},
		{name: "the store is new and Temporal is not", ours: 0, theirs: 8, differ: true},
		{name: "Temporal was restored", ours: 8, theirs: 3, differ: true},
		{name: "Temporal was restored from only just before", ours: 8, theirs: 7, differ: true},
		{name: "Temporal is new and the store is not", ours: 8, theirs: 0, differ: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			require.NoError(t, w.Store.SetEpoch(t.Context(), c.ours, max(c.ours, c.moving)))
			w.temporal.epoch = c.theirs
			why, err := w.CheckEpoch(t.Context())
			require.NoError(t, err)
			ours, _, err := w.Store.Epoch(t.Context())
			require.NoError(t, err)
			if !c.differ {
				require.Empty(t, why)
				require.Equal(t, []int64{c.next, c.next}, []int64{ours, w.temporal.epoch}, "both move on")
				return
			}
			require.Contains(t, why, "restored from a backup")
			require.Equal(t, []int64{c.ours, c.theirs}, []int64{ours, w.temporal.epoch}, "neither moves: the difference stays to be seen")

			again, err := w.CheckEpoch(t.Context())
			require.NoError(t, err)
			require.Equal(t, why, again, "it stays so until somebody accepts")
			require.NoError(t, w.AcceptRestore(t.Context()))
			accepted, err := w.CheckEpoch(t.Context())
			require.NoError(t, err)
			require.Empty(t, accepted)
			ours, _, err = w.Store.Epoch(t.Context())
			require.NoError(t, err)
			require.Equal(t, ours, w.temporal.epoch)
			require.Greater(t, ours, max(c.ours, c.theirs))
		})
	}
}
