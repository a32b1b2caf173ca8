package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/activities"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/engine"
	"github.com/lapse-access/lapse/internal/keys"
	"github.com/lapse-access/lapse/internal/secrets"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/internal/targettest"
	"github.com/lapse-access/lapse/starter/dev/embedded"
	"github.com/lapse-access/lapse/workers"
	"github.com/lapse-access/lapse/workflows"
)

const (
	// recordedRelease is the release whose histories TestRecordHistories
	// writes. Once it is out, its files are never written again: raise this
	// before the next recording.
	recordedRelease = "0.1"
	recordedFolder  = "../../workflows/testdata/replay"
)

// TestRecordHistories writes the histories that workflows.TestReplay replays:
// every state of every workflow, recorded on a real Temporal server, with the
// real activities, a real store and a target in memory. Nothing is encrypted,
// so that a history can be read. It is one command:
//
//	make record
func TestRecordHistories(t *testing.T) {
	if os.Getenv("LAPSE_RECORD") == "" {
		t.Skip("it changes files of the repository; make record runs it")
	}
	r := newRecorder(t)
	t.Run("cases", func(t *testing.T) {
		for _, c := range recordings {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.record(r.scene(t, c.name))
			})
		}
	})
	// A sweep looks at all accounts of its integration, and Temporal's half of
	// the epoch is one for all: they come when everything else has been said.
	for _, c := range recordingsOfAll {
		t.Run(c.name, func(t *testing.T) { c.record(r.scene(t, c.name)) })
	}
}

// recording drives the workflows into a state and saves their histories.
type recording struct {
	name   string
	record func(*scene)
}

var recordings = []recording{
	{"second-step", func(s *scene) {
		s.flow = "two-steps"
		r := s.approved(time.Hour, "read_only", "read_write")
		s.recorded("request/" + r.ID + "/reminder/1/0/1")
		s.recorded("request/" + r.ID + "/escalation/1/1/0")
		s.saveRequest(r, "second-step")
	}},
	{"narrowed", func(s *scene) {
		s.flow, s.narrows = "two-steps", true
		r := s.approved(time.Hour, "read_only", "read_write")
		s.by = second
		s.decide(r, access.Approve)
		s.until("the rest is granted", func() bool {
			holds, err := s.store.Holds(s.t.Context(), r.ID)
			s.must(err)
			return holds[0].State == access.StateActive && holds[1].State == access.StateDenied
		})
		s.heard(r)
		s.saveRequest(r, "narrowed")
		s.saveAccount("narrowed")
	}},
	{"scheduled", func(s *scene) {
		s.startIn = time.Hour
		r := s.approved(time.Hour, "read_only")
		s.recorded("request/" + r.ID + "/approved")
		s.saveRequest(r, "scheduled")
		s.decide(r, access.Release)
		s.over(workflows.RequestID(r.ID))
		s.saveRequest(r, "scheduled-withdrawn")
	}},
	{"begun-later", func(s *scene) {
		s.startIn = 2 * time.Second
		r := s.active(time.Hour, "read_only")
		s.saveRequest(r, "begun-later")
	}},
	{"broken-glass", func(s *scene) {
		s.flow = "emergency"
		r := s.ask(2*time.Second, "read_only")
		s.holds(r, access.StateEnded)
		s.saveRequest(r, "review-due")
		s.decide(r, access.Justify)
		s.over(workflows.RequestID(r.ID))
		s.saveRequest(r, "reviewed")
	}},
	{"review-overdue", func(s *scene) {
		s.flow, s.decideBefore = "emergency", 2*time.Second
		r := s.ask(time.Hour, "read_only")
		s.recorded("request/" + r.ID + "/review/0/0/1")
		s.holds(r, access.StateActive)
		s.decide(r, access.Object)
		s.saveRequest(r, "objected")
	}},
	{"rotation", func(s *scene) {
		r := s.active(time.Hour, "read_only")
		w, err := engine.StartRotation(s.t.Context(), s.temporal, access.RotationArgs{Integration: s.integration, Now: true, AccountID: s.account})
		s.must(err)
		s.must(w.Get(s.t.Context(), nil))
		s.save("rotation_account", w.GetID(), "")
		s.saveRequest(r, "rotated")
	}},
	{"removal", func(s *scene) {
		s.integration = s.leaving
		s.active(time.Hour, "read_only")
		_, err := s.store.ChangeRemoval(s.t.Context(), s.leaving, func(store.IntegrationRow) (*access.Removal, access.Event, error) {
			return &access.Removal{ID: "rem-1", By: s.person.ID, ByEmail: s.person.Email, At: time.Now().UTC(), Reason: "moved"}, access.Event{Key: "removal", Kind: "removal.begun"}, nil
		})
		s.must(err)
		s.must(engine.StartRemoval(s.t.Context(), s.temporal, s.leaving))
		s.until("the account is deleted", func() bool {
			a, err := s.store.Account(s.t.Context(), s.account)
			s.must(err)
			return a.Deleted
		})
		s.saveAccount("removed")
		s.save("removal", workflows.RemovalID(s.leaving), "")
	}},
	{"pending", func(s *scene) {
		r := s.ask(time.Hour, "read_only")
		s.saveRequest(r, "pending")
	}},
	{"denied", func(s *scene) {
		r := s.ask(time.Hour, "read_only")
		s.decide(r, access.Deny)
		s.over(workflows.RequestID(r.ID))
		s.saveRequest(r, "denied")
	}},
	{"expired", func(s *scene) {
		s.decideBefore = time.Second
		r := s.ask(time.Hour, "read_only")
		s.over(workflows.RequestID(r.ID))
		s.saveRequest(r, "expired")
	}},
	{"withdrawn", func(s *scene) {
		r := s.ask(time.Hour, "read_only")
		s.decide(r, access.Release)
		s.over(workflows.RequestID(r.ID))
		s.saveRequest(r, "withdrawn")
	}},
	{"decided-by-signal", func(s *scene) {
		r := s.ask(time.Hour, "read_only")
		forged := s.decision(r, access.Approve)
		forged.Signature = []byte("forged")
		s.signal(r, forged)
		s.signal(r, s.decision(r, access.Approve))
		s.holds(r, access.StateActive)
		s.saveRequest(r, "decided-by-signal")
	}},
	{"granting", func(s *scene) {
		stuck := s.stick("Grant")
		r := s.approved(time.Hour, "read_only")
		<-stuck
		s.saveRequest(r, "granting")
		s.saveAccount("granting")
	}},
	{"grant-refused", func(s *scene) {
		s.fail("Grant", access.Errorf(access.Privilege, "the connector may not do that"))
		r := s.approved(time.Hour, "read_only")
		s.over(workflows.RequestID(r.ID))
		s.saveRequest(r, "failed")
		s.saveAccount("grant-refused")
	}},
	{"active", func(s *scene) {
		r := s.active(time.Hour, "read_only")
		s.saveRequest(r, "active")
		s.saveAccount("one-hold")
	}},
	{"two-entitlements", func(s *scene) {
		r := s.active(time.Hour, "read_only", "read_write")
		s.saveRequest(r, "two-entitlements")
		s.saveAccount("two-entitlements")
	}},
	{"extended", func(s *scene) {
		r := s.active(time.Hour, "read_only")
		d := s.decide(r, access.Extend)
		s.recorded("hold/" + r.HoldIDs[0] + "/extended/" + d.Nonce)
		s.saveRequest(r, "extended")
		s.saveAccount("extended")
	}},
	{"extended-too-far", func(s *scene) {
		r := s.active(longest, "read_only")
		d := s.decide(r, access.Extend)
		s.recorded("account/" + s.account + "/refused/" + workflows.UpdateMove + "/" + r.ID + "/" + d.Nonce)
		s.saveRequest(r, "extended-too-far")
		s.saveAccount("extended-too-far")
	}},
	{"released", func(s *scene) {
		r := s.active(time.Hour, "read_only")
		s.decide(r, access.Release)
		s.over(workflows.RequestID(r.ID))
		s.saveRequest(r, "released")
		s.saveAccount("cleanup-waits")
	}},
	{"cleanup-cancelled", func(s *scene) {
		first := s.active(time.Hour, "read_only")
		s.decide(first, access.Release)
		s.over(workflows.RequestID(first.ID))
		s.active(time.Hour, "read_only")
		s.saveAccount("cleanup-cancelled")
	}},
	{"cancelled", func(s *scene) {
		r := s.active(time.Hour, "read_only")
		s.must(s.temporal.CancelWorkflow(s.t.Context(), workflows.RequestID(r.ID), ""))
		s.over(workflows.RequestID(r.ID))
		s.saveRequest(r, "cancelled")
	}},
	{"revoked", func(s *scene) {
		r := s.active(time.Hour, "read_only")
		s.decide(r, access.Revoke)
		s.over(workflows.RequestID(r.ID))
		s.saveRequest(r, "revoked")
	}},
	{"ended", func(s *scene) {
		s.integration = s.forgetful
		r := s.active(time.Second, "read_only")
		s.over(workflows.RequestID(r.ID))
		s.saveRequest(r, "ended")
		s.over(workflows.AccountID(s.accountID()))
		s.saveAccount("deleted")
	}},
	{"overdue", func(s *scene) {
		heal := s.fail("Revoke", access.Errorf(access.Retry, "the target does not answer"))
		r := s.active(time.Second, "read_only")
		s.holds(r, access.StateOverdue)
		s.saveRequest(r, "overdue")
		s.saveAccount("revoke-retried")
		heal()
		s.must(s.temporal.SignalWorkflow(s.t.Context(), workflows.AccountID(s.account), "", workflows.SignalWake, nil))
		s.over(workflows.RequestID(r.ID))
		s.saveAccount("revoke-woken")
	}},
	{"three-holds", func(s *scene) {
		s.active(time.Hour, "read_only")
		s.active(2*time.Hour, "read_write")
		last := s.active(3*time.Hour, "admin")
		s.saveAccount("three-holds")
		s.decide(last, access.Release)
		s.over(workflows.RequestID(last.ID))
		s.saveAccount("three-holds-one-released")
	}},
	{"same-entitlement-twice", func(s *scene) {
		first := s.active(time.Hour, "read_only")
		s.active(2*time.Hour, "read_only")
		s.decide(first, access.Release)
		s.over(workflows.RequestID(first.ID))
		s.saveAccount("same-entitlement-twice")
	}},
	{"grant-interrupted", func(s *scene) {
		short := s.active(3*time.Second, "read_only")
		stuck := s.stick("Grant")
		long := s.approved(time.Hour, "read_write")
		<-stuck
		s.over(workflows.RequestID(short.ID))
		s.heal()
		s.holds(long, access.StateActive)
		s.saveAccount("grant-interrupted")
	}},
	{"credential", func(s *scene) {
		r := s.active(time.Hour, "read_only")
		s.renew(r)
		s.saveRequest(r, "credential")
		s.saveAccount("credential")
	}},
	{"continued", func(s *scene) {
		r := s.active(time.Hour, "read_only")
		run := s.run(workflows.AccountID(s.account))
		for s.run(workflows.AccountID(s.account)) == run {
			s.renew(r)
		}
		s.save("account_continues", workflows.AccountID(s.account), run)
		s.renew(r)
		s.saveAccount("continued")
	}},
	{"made-again", func(s *scene) {
		r := s.active(time.Hour, "read_only")
		id := workflows.AccountID(s.account)
		s.must(s.temporal.TerminateWorkflow(s.t.Context(), id, "", "recording"))
		s.decide(r, access.Release)
		s.over(workflows.RequestID(r.ID))
		s.saveAccount("made-again")
	}},
	{"reset", func(s *scene) {
		r := s.active(time.Hour, "read_only")
		_, err := s.temporal.ResetWorkflowExecution(s.t.Context(), &workflowservice.ResetWorkflowExecutionRequest{
			Namespace: namespace, WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: workflows.RequestID(r.ID)}, Reason: "recording", RequestId: r.ID,
			WorkflowTaskFinishEventId: 4, // the first that was completed
		})
		s.must(err)
		s.heard(r)
		s.saveRequest(r, "reset")
	}},
	{"overtaken", func(s *scene) {
		heal := s.fail("Revoke", access.Errorf(access.Superseded, "a later operation was here"))
		r := s.active(time.Second, "read_only")
		begun := s.incarnation()
		s.until("the account has read the store again", func() bool { return s.incarnation() > begun })
		heal()
		s.over(workflows.RequestID(r.ID))
		s.saveAccount("overtaken")
	}},
	{"forged", func(s *scene) {
		id := "req-forged"
		_, err := s.temporal.ExecuteWorkflow(s.t.Context(), activities.RequestStart(access.Request{ID: id}, ""), workflows.RequestType, workflows.RequestInput{RequestID: id})
		s.must(err)
		s.over(workflows.RequestID(id))
		s.save("request_forged", workflows.RequestID(id), "")
		s.active(time.Hour, "read_only")
		op := workflows.Op{ID: "forged", RequestID: id, HoldIDs: []string{"hold-forged"}, Want: []access.Entitlement{s.entitlement("admin")}}
		s.update(workflows.AccountID(s.account), workflows.UpdateHold, op)
		s.recorded("account/" + s.account + "/refused/forged")
		s.saveAccount("forged")
	}},
	{"discovery", func(s *scene) {
		w, err := engine.StartDiscovery(s.t.Context(), s.temporal, s.integration)
		s.must(err)
		s.must(w.Get(s.t.Context(), nil))
		s.save("discovery_two-pages", w.GetID(), "")
	}},
	{"check", func(s *scene) {
		w, err := engine.StartCheck(s.t.Context(), s.temporal, s.integration)
		s.must(err)
		s.must(w.Get(s.t.Context(), nil))
		s.save("check_done", w.GetID(), "")
	}},
}

var recordingsOfAll = []recording{
	{"sweep", func(s *scene) {
		w, err := engine.StartSweep(s.t.Context(), s.temporal, access.SweepArgs{Integration: s.integration})
		s.must(err)
		s.must(w.Get(s.t.Context(), nil))
		s.save("sweep_done", w.GetID(), "")
		s.save("epoch_done", workflows.EpochID, "")
	}},
	{"sweep-reload", func(s *scene) {
		s.active(time.Hour, "read_only")
		s.must(s.temporal.TerminateWorkflow(s.t.Context(), workflows.AccountID(s.account), "", "recording"))
		w, err := engine.StartSweep(s.t.Context(), s.temporal, access.SweepArgs{Integration: s.integration})
		s.must(err)
		s.must(w.Get(s.t.Context(), nil))
		s.must(s.temporal.SignalWorkflow(s.t.Context(), workflows.AccountID(s.account), "", workflows.SignalReload, nil))
		s.saveAccount("reloaded")
	}},
	{"sweep-repair", func(s *scene) {
		s.recorder.target.Put(access.AccountID(s.integration, "per-nobody"), "lapse_nobody")
		w, err := engine.StartSweep(s.t.Context(), s.temporal, access.SweepArgs{Integration: s.integration, Repair: true})
		s.must(err)
		var report access.SweepReport
		s.must(w.Get(s.t.Context(), &report))
		if len(report.Delete) != 1 {
			s.t.Fatalf("the sweep repaired %+v", report)
		}
		s.save("sweep_repair", w.GetID(), "")
	}},
	{"automatic", func(s *scene) {
		s.account = s.accountID()
		s.must(s.store.PutResources(s.t.Context(), s.integration, "run", []access.Found{{Resource: access.NewResource("schema", "shop", "public"), Permissions: []string{"read_only"}}}))
		s.must(engine.StartAutomatic(s.t.Context(), s.temporal))
		var first store.RequestRow
		s.until("it is given, and the lease renewed", func() bool {
			rows, err := s.store.Requests(s.t.Context(), store.RequestFilter{Person: s.person.ID})
			s.must(err)
			if len(rows) > 0 {
				first = rows[len(rows)-1]
			}
			return len(rows) > 1 && first.StateAt(time.Now()) == access.StateEnded
		})
		s.over(workflows.RequestID(first.ID))
		s.saveRequest(first.Request, "automatic")
		s.save("automatic_renewing", workflows.AutomaticID, "")
	}},
	{"sweep-unreadable", func(s *scene) {
		s.recorder.fault("Accounts", "", access.Errorf(access.Auth, "the target refuses the connector"))
		w, err := engine.StartSweep(s.t.Context(), s.temporal, access.SweepArgs{Integration: s.integration})
		s.must(err)
		s.must(w.Get(s.t.Context(), nil))
		s.save("sweep_unreadable", w.GetID(), "")
	}},
}

// longest is the maximum of the recorder's access flow.
const longest = 8 * time.Hour

// recorder is a Temporal server, a store, the workers and a target.
type recorder struct {
	temporal  client.Client
	store     *store.Store
	keys      *keys.Ring
	target    *targettest.Target
	lasting   string // id of an integration that keeps accounts for a week
	forgetful string // and of one that deletes them at once
	leaving   string // and of one that is removed

	mu     sync.Mutex
	faults map[string]func(context.Context) error // by operation and account
}

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	dir := t.TempDir()
	address := freeAddress(t)
	server, err := embedded.Start(t.Context(), embedded.Options{File: filepath.Join(dir, "temporal.db"), Frontend: address, Namespace: namespace,
		SearchAttributes: engine.SearchAttributes(), Logger: log})
	check(t, err)
	t.Cleanup(server.Stop)

	r := &recorder{faults: map[string]func(context.Context) error{}}
	r.target = &targettest.Target{Password: "recorded", Before: r.before, Catalog: []access.Page{
		{Resources: []access.Found{{Resource: access.NewResource("schema", "shop", "public"), Permissions: []string{"read_only"}}}, Warnings: []string{"one part is unreadable"}},
		{Resources: []access.Found{{Resource: access.NewResource("schema", "shop", "audit"), Permissions: []string{"read_only"}}}},
	}}
	r.store, err = store.Open(t.Context(), filepath.Join(dir, "lapse.db"))
	check(t, err)
	t.Cleanup(func() { r.store.Close() })
	r.keys, err = keys.Open(filepath.Join(dir, "keys"), true)
	check(t, err)
	r.temporal, err = client.Dial(client.Options{HostPort: address, Namespace: namespace, Identity: "recorder", Logger: sdklog.NewStructuredLogger(log)})
	check(t, err)
	t.Cleanup(r.temporal.Close)
	r.configure(t)

	node := &workers.Node{Store: r.store, Temporal: r.temporal, Kinds: integrations.NewRegistry(r.target.Kind()), Secrets: dir, Log: log}
	control := workers.Control(r.temporal, node.Control(r.keys))
	check(t, control.Start())
	t.Cleanup(control.Stop)
	connectors := node.Connectors(&r.keys.Connector)
	check(t, connectors.Start("default"))
	t.Cleanup(connectors.Stop)

	old, err := filepath.Glob(filepath.Join(recordedFolder, recordedRelease+"_*.json.gz"))
	check(t, err)
	for _, file := range old {
		check(t, os.Remove(file))
	}
	check(t, os.MkdirAll(recordedFolder, 0o755))
	return r
}

// configure makes one requester for every recording, one approver, and two
// integrations on the same target.
func (r *recorder) configure(t *testing.T) {
	t.Helper()
	t.Setenv("LAPSE_RECORD_SECRET", `{"token": "t"}`)
	in := config.Integration{Name: "lasting", Kind: targettest.KindName, Connector: "default", Config: []byte("{}"),
		Secret: secrets.Ref{Store: "env", Key: "LAPSE_RECORD_SECRET"}, UserCleanupDays: 7}
	forgetful := in
	forgetful.Name, forgetful.UserCleanupDays = "forgetful", access.Days(time.Second.Hours()/24)
	leaving := in
	leaving.Name = "leaving"
	flow := access.Flow{
		Name: "read", Requesters: access.Conditions{Any: []access.Condition{{Attribute: "group", Values: []string{"analytics"}}}},
		MaxDuration: access.Duration(longest), ScheduleAhead: access.Duration(longest), Approval: access.Approval{Steps: []access.Step{{AnyOf: []string{"group:dba"}}}},
	}
	for _, name := range []string{in.Name, forgetful.Name, leaving.Name} {
		flow.Targets = append(flow.Targets, access.FlowTarget{Integration: name, Resources: []string{"schema:shop/*"}, Permissions: []string{"read_only", "read_write", "admin"}})
	}
	two, emergency := flow, flow
	two.Name, two.Approval.RemindAfter = "two-steps", access.Duration(time.Second)
	two.Approval.Steps = append(two.Approval.Steps, access.Step{AnyOf: []string{"group:security"},
		Escalate: []access.Tier{{After: access.Duration(2 * time.Second), To: []string{"person:boss@example.com"}}}})
	emergency.Name, emergency.Trigger, emergency.ScheduleAhead = "emergency", access.BreakGlass, 0
	automatic := access.Flow{Name: "automatic", Trigger: access.Automatic, Requesters: access.Conditions{Any: []access.Condition{{Attribute: "email", Values: []string{"automatic@example.com"}}}},
		Targets: []access.FlowTarget{{Integration: in.Name, Resources: []string{"schema:*/*"}, Permissions: []string{"read_only"}}}, MaxDuration: access.Duration(4 * time.Second)}
	cfg := config.Config{Integrations: []config.Integration{in, forgetful, leaving}, AccessFlows: []access.Flow{flow, two, emergency, automatic},
		People: []config.Person{{Email: approver, Groups: []string{"dba"}}, {Email: second, Groups: []string{"security"}}, {Email: "boss@example.com"}}}
	for _, c := range append(recordings, recordingsOfAll...) {
		cfg.People = append(cfg.People, config.Person{Email: c.name + "@example.com", Groups: []string{"analytics"}})
	}
	_, err := r.store.SaveConfig(t.Context(), store.SaveConfig{Source: []byte("recorder"), Config: cfg, By: "lapse", Event: access.Event{Kind: "config.applied"}})
	check(t, err)
	for name, id := range map[string]*string{in.Name: &r.lasting, forgetful.Name: &r.forgetful, leaving.Name: &r.leaving} {
		row, err := r.store.IntegrationByName(t.Context(), name)
		check(t, err)
		*id = row.ID
	}
}

// approver approves, and second does so after that where a flow has two steps.
const approver, second = "dan@example.com", "sec@example.com"

// before lets an operation of the target fail where a scene wants it to.
func (r *recorder) before(ctx context.Context, operation, account string) error {
	r.mu.Lock()
	f := r.faults[operation+" "+account]
	r.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(ctx)
}

func (r *recorder) fault(operation, account string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults[operation+" "+account] = func(context.Context) error { return err }
}

// scene is one recording under way: one person, with one account.
type scene struct {
	*recorder
	t            *testing.T
	person       access.Person
	integration  string        // id
	account      string        // id
	decideBefore time.Duration // how long a request waits for its decision, or review
	flow         string
	startIn      time.Duration // how far ahead access is asked for
	by           string        // who approves
	narrows      bool          // approvals are for half an hour, and leave the last hold out
}

func (r *recorder) scene(t *testing.T, name string) *scene {
	t.Helper()
	s := &scene{recorder: r, t: t, integration: r.lasting, decideBefore: 24 * time.Hour, flow: "read", by: approver}
	var err error
	s.person, err = r.store.PersonByEmail(t.Context(), name+"@example.com")
	check(t, err)
	s.account = s.accountID()
	t.Cleanup(s.heal)
	return s
}

func (s *scene) accountID() string { return access.AccountID(s.integration, s.person.ID) }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *scene) must(err error) {
	s.t.Helper()
	check(s.t, err)
}

func (s *scene) entitlement(permission string) access.Entitlement {
	return access.Entitlement{Integration: s.integration, Resource: access.NewResource("schema", "shop", "public"), Permission: permission}
}

// ask stores a request and starts its workflow, as the portal does.
func (s *scene) ask(d time.Duration, permissions ...string) access.Request {
	s.t.Helper()
	s.account = s.accountID()
	version, _, err := s.store.Config(s.t.Context())
	s.must(err)
	in, err := s.store.Integration(s.t.Context(), s.integration)
	s.must(err)
	now := time.Now().UTC()
	r := access.Request{ID: access.NewID("req"), PersonID: s.person.ID, Reason: "a look", Duration: access.Duration(d), Flow: s.flow, FlowVersion: version,
		CreatedAt: now, ExpiresAt: now.Add(s.decideBefore)}
	if s.startIn > 0 {
		r.StartAt = now.Add(s.startIn)
	}
	for _, p := range permissions {
		r.Asked = append(r.Asked, access.Asked{Entitlement: s.entitlement(p), Integration: in.Name})
		r.HoldIDs = append(r.HoldIDs, access.NewID("hold"))
	}
	var decisions []access.Decision
	if s.flow == "emergency" {
		decisions = append(decisions, s.decision(r, access.Break))
	}
	s.must(s.store.CreateRequest(s.t.Context(), r, access.Event{Key: "request/" + r.ID, Kind: "request.created", RequestID: r.ID}, decisions...))
	_, err = s.temporal.ExecuteWorkflow(s.t.Context(), activities.RequestStart(r, s.person.Email), workflows.RequestType, workflows.RequestInput{RequestID: r.ID})
	s.must(err)
	return r
}

func (s *scene) approved(d time.Duration, permissions ...string) access.Request {
	s.t.Helper()
	r := s.ask(d, permissions...)
	s.decide(r, access.Approve)
	return r
}

func (s *scene) active(d time.Duration, permissions ...string) access.Request {
	s.t.Helper()
	r := s.approved(d, permissions...)
	s.holds(r, access.StateActive)
	s.heard(r)
	return r
}

// heard waits until the workflow of a request knows that access was granted; a
// short one may be over by then.
func (s *scene) heard(r access.Request) {
	s.t.Helper()
	s.until("the workflow of "+r.ID+" knows that access was granted", func() bool {
		answer, err := s.temporal.QueryWorkflow(s.t.Context(), workflows.RequestID(r.ID), "", workflows.QueryState)
		s.must(err)
		var b access.RequestBrief
		s.must(answer.Get(&b))
		return b.State == access.StateApproved && access.RequestState(b.State, b.Holds, time.Now()) != access.StatePending
	})
}

// incarnation counts how often the account was read from the store.
func (s *scene) incarnation() int64 {
	s.t.Helper()
	a, err := s.store.Account(s.t.Context(), s.account)
	s.must(err)
	return a.Incarnation
}

func (s *scene) decision(r access.Request, v access.Verdict) access.Decision {
	s.t.Helper()
	email := s.person.Email
	if v == access.Approve || v == access.Deny || v == access.Revoke || v.Reviews() {
		email = s.by
	}
	by, err := s.store.PersonByEmail(s.t.Context(), email)
	s.must(err)
	d := access.Decision{RequestID: r.ID, AskHash: r.Hash(), Verdict: v, By: by.ID, ByEmail: by.Email, Reason: "recorded", Nonce: access.NewID("dec"), At: time.Now().UTC(), From: "api"}
	if v == access.Extend {
		d.Extra = access.Duration(30 * time.Minute)
	}
	if v == access.Approve && s.narrows {
		d.For, d.Without = access.Duration(30*time.Minute), r.HoldIDs[len(r.HoldIDs)-1:]
	}
	return d.Sign(s.keys.PortalKey)
}

// decide sends a decision as the portal does, and returns when it counts.
func (s *scene) decide(r access.Request, v access.Verdict) access.Decision {
	s.t.Helper()
	update := map[access.Verdict]string{access.Extend: workflows.UpdateExtend, access.Release: workflows.UpdateRelease, access.Revoke: workflows.UpdateRevoke, access.Renew: workflows.UpdateRenew}[v]
	if update == "" {
		update = workflows.UpdateDecide
	}
	d := s.decision(r, v)
	s.update(workflows.RequestID(r.ID), update, d)
	return d
}

func (s *scene) update(id, name string, arg any) {
	s.t.Helper()
	handle, err := s.temporal.UpdateWorkflow(s.t.Context(), client.UpdateWorkflowOptions{WorkflowID: id, UpdateName: name, Args: []any{arg}, WaitForStage: client.WorkflowUpdateStageCompleted})
	s.must(err)
	s.must(handle.Get(s.t.Context(), nil))
}

func (s *scene) signal(r access.Request, d access.Decision) {
	s.t.Helper()
	s.must(s.temporal.SignalWorkflow(s.t.Context(), workflows.RequestID(r.ID), "", workflows.SignalDecide, d))
}

// renew makes another credential, and returns when that is on record.
func (s *scene) renew(r access.Request) {
	s.t.Helper()
	d := s.decide(r, access.Renew)
	s.recorded("account/" + s.account + "/credential/" + d.Nonce)
}

// stick lets an operation on the account hang until heal, or until it is
// cancelled; the channel is closed once one hangs.
func (s *scene) stick(operation string) <-chan struct{} {
	stuck := make(chan struct{})
	close1 := sync.OnceFunc(func() { close(stuck) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[operation+" "+s.account] = func(ctx context.Context) error {
		close1()
		for ctx.Err() == nil {
			s.mu.Lock()
			healed := s.faults[operation+" "+s.account] == nil
			s.mu.Unlock()
			if healed {
				return nil
			}
			pause(ctx)
		}
		return ctx.Err()
	}
	return stuck
}

// fail lets an operation on the account fail until the function that it
// returns, or heal, is called.
func (s *scene) fail(operation string, err error) (heal func()) {
	s.fault(operation, s.account, err)
	return s.heal
}

// heal ends every fault of the account.
func (s *scene) heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.faults {
		if strings.HasSuffix(key, " "+s.account) {
			delete(s.faults, key)
		}
	}
}

// until waits for something that the workflows bring about.
func (s *scene) until(what string, is func() bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	for !is() {
		if pause(ctx); ctx.Err() != nil {
			s.t.Fatalf("after a minute not yet: %s", what)
		}
	}
}

func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(50 * time.Millisecond):
	}
}

// holds waits until every hold of a request is in a state.
func (s *scene) holds(r access.Request, want access.State) {
	s.t.Helper()
	s.until(fmt.Sprintf("the holds of %s are %s", r.ID, want), func() bool {
		holds, err := s.store.Holds(s.t.Context(), r.ID)
		s.must(err)
		for _, h := range holds {
			if h.State != want {
				return false
			}
		}
		return true
	})
}

func (s *scene) recorded(key string) {
	s.t.Helper()
	s.until(key+" is on record", func() bool {
		ok, err := s.store.Recorded(s.t.Context(), key)
		s.must(err)
		return ok
	})
}

// over waits until a workflow is closed, however it ended.
func (s *scene) over(id string) {
	s.t.Helper()
	s.until(id+" is closed", func() bool {
		d, err := s.temporal.DescribeWorkflowExecution(s.t.Context(), id, "")
		s.must(err)
		return d.WorkflowExecutionInfo.Status != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
	})
}

// run is the id of the newest run of a workflow.
func (s *scene) run(id string) string {
	s.t.Helper()
	d, err := s.temporal.DescribeWorkflowExecution(s.t.Context(), id, "")
	s.must(err)
	return d.WorkflowExecutionInfo.Execution.RunId
}

func (s *scene) saveRequest(r access.Request, name string) {
	s.t.Helper()
	s.save("request_"+name, workflows.RequestID(r.ID), "")
}

func (s *scene) saveAccount(name string) {
	s.t.Helper()
	s.save("account_"+name, workflows.AccountID(s.accountID()), "")
}

// save writes the history of a run, the newest where none is named, once the
// workflow has nothing to think about.
func (s *scene) save(name, id, run string) {
	s.t.Helper()
	s.until(id+" is at rest", func() bool {
		d, err := s.temporal.DescribeWorkflowExecution(s.t.Context(), id, run)
		s.must(err)
		return d.PendingWorkflowTask == nil && d.WorkflowExecutionInfo.HistoryLength > 3
	})
	var h historypb.History
	for events := s.temporal.GetWorkflowHistory(s.t.Context(), id, run, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); events.HasNext(); {
		e, err := events.Next()
		s.must(err)
		h.Events = append(h.Events, e)
	}
	text, err := protojson.Marshal(&h)
	s.must(err)
	var file bytes.Buffer
	z, err := gzip.NewWriterLevel(&file, gzip.BestCompression)
	s.must(err)
	_, err = z.Write(text)
	s.must(errors.Join(err, z.Close()))
	s.must(os.WriteFile(filepath.Join(recordedFolder, recordedRelease+"_"+name+".json.gz"), file.Bytes(), 0o644))
}
