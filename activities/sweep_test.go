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
type found struct {
	Kind              access.FindingKind
	Subject, Repaired string
}

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
		require.Equal(t, []found{{"restored", "lapse", ""}, {"lost_account", "ana@example.com", ""}, {"lost_request", "r2", ""}}, findings(r))
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

// compared is a comparison, and what was doubted is verified in between.
func compared(t *testing.T, w *world, a access.CompareArgs, there ...access.Entitlement) access.SweepReport {
	t.Helper()
	a.Report.ID = w.pg.ID
	r, err := run[access.SweepReport](t, w.SweepCompare, a)
	require.NoError(t, err)
	if len(r.Doubts) > 0 {
		require.Empty(t, r.Findings, "nothing is said before that")
		require.Empty(t, w.temporal.did, "nothing is done before that")
		a.Verified = map[string]access.Verified{r.Doubts[0].Account.ID: {There: there}}
		r, err = run[access.SweepReport](t, w.SweepCompare, a)
		require.NoError(t, err)
		require.Empty(t, r.Doubts)
	}
	return r
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
	}{
		{"the target shows what the holds say", active, func(w *world) []access.Principal { return []access.Principal{principal(w, "read_only")} }, nil},
		{"an account with our mark and without a row is reported", func(*world) {},
			func(w *world) []access.Principal {
				return []access.Principal{{Name: "lapse_nobody", AccountID: access.AccountID(w.pg.ID, "per-nobody")}}
			}, []found{{"unknown_principal", "lapse_nobody", ""}}},
		{"so is one that was deleted and is there again", func(w *world) {
			w.approved("r1", "read_only")
			w.record(access.Change{Account: &access.AccountChange{ID: w.account(), Deleted: true}})
		}, func(w *world) []access.Principal { return []access.Principal{principal(w)} }, []found{{"unknown_principal", "lapse_ana", ""}}},
		{"one that was deleted only after the look is none", func(w *world) {
			w.approved("r1", "read_only")
			w.record(access.Change{Event: access.Event{Key: "deleted", Kind: "account.deleted", At: time.Now(), AccountID: w.account()}, Account: &access.AccountChange{ID: w.account(), Deleted: true}})
		}, func(w *world) []access.Principal { return []access.Principal{principal(w)} }, nil},
		{"one of another integration is none of ours", func(*world) {},
			func(*world) []access.Principal {
				return []access.Principal{{Name: "x", AccountID: "int-2/per-1"}, {Name: "y", AccountID: "nonsense"}}
			}, nil},
		{"what is left of an account that owns things is known", func(*world) {},
			func(w *world) []access.Principal {
				return []access.Principal{{Name: "tombstone", AccountID: access.AccountID(w.pg.ID, "per-nobody"), Tombstone: true}}
			}, nil},
		{"access that was taken away by hand is missing", active, func(w *world) []access.Principal { return []access.Principal{principal(w)} },
			[]found{{"missing", "lapse_ana", ""}}},
		{"so is a whole account", active, func(*world) []access.Principal { return nil }, []found{{"missing", "lapse_ana", ""}}},
		{"access that was granted only after the look is not missing", func(w *world) {
			w.holds(w.approved("r1", "read_only"), access.StateActive, time.Minute, time.Hour)
		}, func(w *world) []access.Principal { return []access.Principal{principal(w)} }, nil},
		{"access that is about to end is not missing", func(w *world) {
			w.holds(w.approved("r1", "read_only"), access.StateActive, -time.Hour, 30*time.Second)
		}, func(w *world) []access.Principal { return []access.Principal{principal(w)} }, nil},
		{"access that no hold asks for is unexpected", active, func(w *world) []access.Principal { return []access.Principal{principal(w, "read_only", "admin")} },
			[]found{{"unexpected", "lapse_ana", ""}}},
		{"access that ended only after the look is not unexpected", func(w *world) {
			active(w)
			w.record(access.Change{Event: access.Event{Key: "ended", Kind: "ended", At: time.Now(), AccountID: w.account()}})
		}, func(w *world) []access.Principal { return []access.Principal{principal(w, "read_only", "read_write")} }, nil},
		{"what the person had before is expected", func(w *world) {
			r := w.approved("r1", "read_only")
			a := w.ticketArgs(r)
			a.Slots = []access.Slot{{Key: "k", Held: "admin", HeldAs: []access.Entitlement{w.entitlement("admin")}, Write: "read_only", Entitlements: []access.Entitlement{w.entitlement("read_only")}}}
			_, err := run[access.TicketDone](w.t, w.Ticket, a)
			require.NoError(w.t, err)
		}, func(w *world) []access.Principal { return []access.Principal{principal(w, "read_only", "admin")} }, nil},
		{"what others gave to the account is told", active, func(w *world) []access.Principal {
			p := principal(w, "read_only")
			p.Foreign = []string{"member of dba"}
			return []access.Principal{p}
		}, []found{{"foreign", "lapse_ana", ""}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			c.prepare(w)
			r := compared(t, w, access.CompareArgs{Read: true, Principals: c.shows(w), Report: access.SweepReport{Integration: "prod-pg", Known: true, At: time.Now()}})
			require.Equal(t, c.want, findings(r))
			require.Empty(t, r.Delete, "nothing is repaired that is not named")
			require.Empty(t, w.temporal.did)
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
		compared(t, w, access.CompareArgs{Read: true, Report: report, Principals: []access.Principal{principal(w, "read_only")}})
		require.Equal(t, []string{"wake account/" + w.account()}, w.temporal.did)
	})
	t.Run("one that was removed is compared with its own accounts, whichever has its name now", func(t *testing.T) {
		w := newWorld(t)
		active(w)
		w.cfg.Integrations = []config.Integration{{Name: "prod-pg", Kind: "another", Connector: "default"}}
		w.apply()
		require.Equal(t, []found{{"missing", "lapse_ana", ""}}, findings(compared(t, w, access.CompareArgs{Read: true, Report: report})))
	})
	t.Run("what the target shows under another name, and verifies, is not missing", func(t *testing.T) {
		w := newWorld(t)
		active(w)
		a := access.CompareArgs{Read: true, Report: report, Principals: []access.Principal{principal(w)}}
		a.Report.Repair = access.Repairable()
		require.Empty(t, compared(t, w, a, w.entitlement("read_only")).Findings)
		require.Empty(t, w.temporal.did)
	})
	t.Run("what cannot be verified is told, and not repaired", func(t *testing.T) {
		w := newWorld(t)
		active(w)
		a := access.CompareArgs{Read: true, Report: report, Principals: []access.Principal{principal(w)}, Verified: map[string]access.Verified{w.account(): {Error: "no route"}}}
		a.Report.Repair = access.Repairable()
		r := compared(t, w, a)
		require.Equal(t, []found{{"missing", "lapse_ana", ""}}, findings(r))
		require.Contains(t, r.Findings[0].Text, "no route")
		require.Empty(t, w.temporal.did)
	})
	t.Run("one that cannot be read is a finding, and wakes nobody", func(t *testing.T) {
		w := overdue(t)
		r := compared(t, w, access.CompareArgs{Error: "no route", Report: report})
		require.Equal(t, []found{{"unreadable", "prod-pg", ""}}, findings(r))
		require.Equal(t, "no route", r.Findings[0].Text)
		require.Empty(t, w.temporal.did)
	})
	t.Run("an account that lost its workflow meanwhile does not stop the sweep", func(t *testing.T) {
		w := overdue(t)
		clear(w.temporal.status)
		compared(t, w, access.CompareArgs{Read: true, Report: report, Principals: []access.Principal{principal(w, "read_only")}})
	})
}

// What is to be repaired is repaired by the account itself, which is its only
// writer; only what nobody else writes for is deleted by the sweep.
func TestSweepRepairs(t *testing.T) {
	for _, c := range []struct {
		name    string
		repair  []access.FindingKind
		prepare func(w *world) []access.Principal
		want    found
		did     func(w *world, at string) []string
	}{
		{"an account that nobody knows is deleted", []access.FindingKind{access.FindingUnknownPrincipal}, func(w *world) []access.Principal {
			return []access.Principal{{Name: "lapse_nobody", AccountID: access.AccountID(w.pg.ID, "per-nobody")}}
		}, found{"unknown_principal", "lapse_nobody", ""}, nil},
		{"one that was deleted before is deleted again", []access.FindingKind{access.FindingUnknownPrincipal}, func(w *world) []access.Principal {
			w.approved("r1", "read_only")
			w.record(access.Change{Account: &access.AccountChange{ID: w.account(), Deleted: true}})
			return []access.Principal{{Name: "lapse_ana", AccountID: w.account()}}
		}, found{"unknown_principal", "lapse_ana", "its account deletes it"}, func(w *world, _ string) []string { return []string{"reload account/" + w.account()} }},
		{"a hold whose access was taken away is ended", []access.FindingKind{access.FindingMissing}, func(w *world) []access.Principal {
			w.holds(w.approved("r1", "read_only"), access.StateActive, -time.Hour, time.Hour)
			return []access.Principal{{Name: "lapse_ana", AccountID: w.account()}}
		}, found{"missing", "lapse_ana", "its account ends the hold"}, func(w *world, _ string) []string {
			return []string{"end account/" + w.account() + " missing/r1/read_only"}
		}},
		{"so is one whose whole account was", []access.FindingKind{access.FindingMissing}, func(w *world) []access.Principal {
			w.holds(w.approved("r1", "read_only"), access.StateActive, -time.Hour, time.Hour)
			return nil
		}, found{"missing", "ana@example.com", "its account ends the hold"}, func(w *world, _ string) []string {
			return []string{"end account/" + w.account() + " missing/r1/read_only"}
		}},
		{"access that no hold asks for is taken away", []access.FindingKind{access.FindingUnexpected}, func(w *world) []access.Principal {
			w.approved("r1", "read_only")
			return []access.Principal{{Name: "lapse_ana", AccountID: w.account(), Entitlements: []access.Entitlement{w.entitlement("read_write")}}}
		}, found{"unexpected", "lapse_ana", "its account takes it away"}, func(w *world, at string) []string {
			return []string{"strip account/" + w.account() + " strip/" + at}
		}},
		{"what somebody else gave is left to them", access.Repairable(), func(w *world) []access.Principal {
			w.approved("r1", "read_only")
			return []access.Principal{{Name: "lapse_ana", AccountID: w.account(), Foreign: []string{"member of dba"}}}
		}, found{"foreign", "lapse_ana", ""}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			shows := c.prepare(w)
			report := access.SweepReport{Integration: "prod-pg", Known: true, At: time.Now().Add(2 * time.Minute), Repair: c.repair}
			r := compared(t, w, access.CompareArgs{Read: true, Principals: shows, Report: report})
			require.Equal(t, []found{c.want}, findings(r))
			var did []string
			if c.did != nil {
				did = c.did(w, r.At.Format(time.RFC3339Nano))
			}
			require.Equal(t, did, w.temporal.did)
			require.Equal(t, c.did == nil && c.want.Kind == access.FindingUnknownPrincipal, len(r.Delete) == 1)

			again := report
			again.Findings, again.Repair, again.DryRun = nil, nil, true
			w.temporal.did = nil
			dry := compared(t, w, access.CompareArgs{Read: true, Principals: shows, Report: again})
			require.Empty(t, w.temporal.did)
			require.True(t, report.At.Equal(dry.Findings[0].Since), "the first sweep that saw it")
		})
	}
}

// Which sorts a sweep repairs: those of the policy by itself, and what somebody
// names, or everything, where somebody asks for it.
func TestSweepPolicy(t *testing.T) {
	policy := []access.FindingKind{access.FindingUnexpected}
	for _, c := range []struct {
		name string
		args access.SweepArgs
		want []access.FindingKind
	}{
		{"by schedule", access.SweepArgs{}, policy},
		{"a dry run", access.SweepArgs{DryRun: true}, nil},
		{"a repair", access.SweepArgs{Repair: true}, access.Repairable()},
		{"a repair of one sort", access.SweepArgs{Repair: true, Only: []access.FindingKind{access.FindingMissing, access.FindingForeign}}, []access.FindingKind{access.FindingMissing}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.cfg.Integrations[0].Sweep.Repair = policy
			w.apply()
			w.holds(w.approved("r1", "read_only"), access.StateActive, -time.Minute, time.Hour)
			c.args.Integration = w.pg.ID
			epoch := w.temporal.epoch
			r, err := run[access.SweepReport](t, w.SweepStore, c.args)
			require.NoError(t, err)
			require.Equal(t, c.want, r.Repair)
			require.Equal(t, c.args.DryRun, epoch == w.temporal.epoch, "the epoch moves on but for a dry run")
			require.Equal(t, c.args.DryRun, len(w.temporal.did) == 0, "a lost workflow is started again but for a dry run")
		})
	}
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
