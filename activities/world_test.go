package activities_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/activities"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/internal/store/storetest"
	"github.com/lapse-access/lapse/internal/targettest"
	"github.com/lapse-access/lapse/workflows"
)

// run runs an activity as Temporal does.
func run[T any](t testing.TB, activity, arg any) (result T, err error) {
	t.Helper()
	return runUnder[T](t.Context(), t, activity, arg)
}

// runUnder is run with what a context carries.
func runUnder[T any](ctx context.Context, t testing.TB, activity, arg any) (result T, err error) {
	t.Helper()
	suite := testsuite.WorkflowTestSuite{}
	suite.SetLogger(sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestActivityEnvironment()
	env.SetWorkerOptions(worker.Options{BackgroundActivityContext: ctx})
	env.RegisterActivity(activity)
	v, err := env.ExecuteActivity(activity, arg)
	if err != nil {
		return result, err
	}
	if v.HasValue() {
		require.NoError(t, v.Get(&result))
	}
	return result, nil
}

// do is run where the result does not matter.
func do(t testing.TB, activity, arg any) error {
	t.Helper()
	_, err := run[any](t, activity, arg)
	return err
}

// applicationError is an activity's error as a workflow gets it.
func applicationError(t testing.TB, err error) *temporal.ApplicationError {
	t.Helper()
	e, ok := errors.AsType[*temporal.ApplicationError](err)
	require.True(t, ok, "want an application error, got %v", err)
	return e
}

// world is the control side with a real store, and Temporal as far as it is
// needed.
type world struct {
	t *testing.T
	*activities.Control
	path     string // of the store
	temporal *fakeTemporal
	portal   ed25519.PrivateKey
	cfg      config.Config
	pg       store.IntegrationRow
	ana, dan access.Person // who asks, and who approves
}

const longest = 8 * time.Hour

func newWorld(t *testing.T) *world {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lapse.db")
	st, err := store.Open(t.Context(), path)
	require.NoError(t, err)
	t.Cleanup(func() { st.Close() })
	portalPublic, portal, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	_, ticket, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	w := &world{t: t, path: path, portal: portal, temporal: &fakeTemporal{status: map[string]enumspb.WorkflowExecutionStatus{}}}
	w.Control = &activities.Control{Store: st, Temporal: w.temporal, Kinds: integrations.NewRegistry((&targettest.Target{}).Kind()),
		Epoch:     &activities.Epoch{Store: st, Temporal: w.temporal, Data: converter.GetDefaultDataConverter()},
		TicketKey: ticket, PortalKey: portalPublic, Log: slog.New(slog.DiscardHandler)}
	w.cfg = config.Config{
		People: []config.Person{
			{Email: "ana@example.com", Groups: []string{"analytics"}, Aliases: []string{"a.ng@example.org"}},
			{Email: "dan@example.com", Groups: []string{"dba"}},
			{Email: "ana+dba@example.com", Groups: []string{"dba"}},
			{Email: "bo@example.com", Groups: []string{"sales"}},
		},
		Integrations: []config.Integration{{Name: "prod-pg", Kind: targettest.KindName, Connector: "default", UserCleanupDays: 7}},
		AccessFlows: []access.Flow{{
			Name: "read", Requesters: access.Conditions{Any: []access.Condition{{Attribute: "group", Values: []string{"analytics"}}}},
			Targets:     []access.FlowTarget{{Integration: "prod-pg", Resources: []string{"schema:shop/*"}, Permissions: []string{"read_only", "read_write"}}},
			MaxDuration: access.Duration(longest), Approval: access.Approval{Steps: []access.Step{{AnyOf: []string{"group:dba"}}}},
		}},
	}
	w.apply()
	w.ana, w.dan = w.person("ana@example.com"), w.person("dan@example.com")
	w.pg, err = st.IntegrationByName(t.Context(), "prod-pg")
	require.NoError(t, err)
	return w
}

// apply stores the configuration as it is now.
func (w *world) apply() int64 {
	w.t.Helper()
	v, err := w.Store.SaveConfig(w.t.Context(), store.SaveConfig{Source: []byte("test"), Config: w.cfg, By: "lapse", Event: access.Event{Kind: "config.applied"}})
	require.NoError(w.t, err)
	return v
}

// change applies a configuration in which one person is another.
func (w *world) change(email string, change func(*config.Person)) {
	w.t.Helper()
	w.cfg.People = slices.Clone(w.cfg.People)
	i := slices.IndexFunc(w.cfg.People, func(p config.Person) bool { return p.Email == email })
	change(&w.cfg.People[i])
	w.apply()
}

func (w *world) person(email string) access.Person {
	w.t.Helper()
	p, err := w.Store.PersonByEmail(w.t.Context(), email)
	require.NoError(w.t, err)
	return p
}

func (w *world) account() string { return access.AccountID(w.pg.ID, w.ana.ID) }

func (w *world) entitlement(permission string) access.Entitlement {
	return access.Entitlement{Integration: w.pg.ID, Resource: access.NewResource("schema", "shop", "public"), Permission: permission}
}

// ask stores a request of Ana's, for an hour.
func (w *world) ask(id string, permissions ...string) access.Request {
	w.t.Helper()
	now := time.Now().UTC()
	r := access.Request{ID: id, PersonID: w.ana.ID, Reason: "a look", Duration: access.Duration(time.Hour), Flow: "read", FlowVersion: 1, CreatedAt: now, ExpiresAt: now.Add(24 * time.Hour)}
	for _, p := range permissions {
		r.Asked = append(r.Asked, access.Asked{Entitlement: w.entitlement(p), Integration: "prod-pg"})
		r.HoldIDs = append(r.HoldIDs, id+"/"+p)
	}
	require.NoError(w.t, w.Store.CreateRequest(w.t.Context(), r, access.Event{Key: "request/" + id, Kind: "request.created", RequestID: id}))
	return r
}

func (w *world) decision(r access.Request, v access.Verdict, by access.Person) access.Decision {
	d := access.Decision{RequestID: r.ID, AskHash: r.Hash(), Verdict: v, By: by.ID, ByEmail: by.Email, Nonce: access.NewID("dec"), At: time.Now().UTC(), From: "api"}
	if v == access.Extend {
		d.Extra = access.Duration(time.Hour)
	}
	return d.Sign(w.portal)
}

// put stores a decision without judging it, as a fault or an attacker might.
func (w *world) put(d access.Decision) access.Decision {
	w.t.Helper()
	require.NoError(w.t, w.Store.AddDecision(w.t.Context(), d, access.Event{Key: "decision/" + d.Nonce, Kind: "decision." + string(d.Verdict)}))
	return d
}

func (w *world) record(changes ...access.Change) {
	w.t.Helper()
	for i := range changes {
		if changes[i].Event.Key == "" {
			changes[i].Event = access.Event{Key: access.NewID("ev"), Kind: "test"}
		}
	}
	require.NoError(w.t, w.Store.Record(w.t.Context(), changes))
}

func (w *world) state(r access.Request, s access.State) {
	w.t.Helper()
	w.record(access.Change{Request: &access.RequestChange{ID: r.ID, State: s}})
}

// approved stores a request that Dan has approved.
func (w *world) approved(id string, permissions ...string) access.Request {
	w.t.Helper()
	r := w.ask(id, permissions...)
	w.put(w.decision(r, access.Approve, w.dan))
	w.state(r, access.StateApproved)
	return r
}

// holds puts every hold of a request into a state, with its start and end
// counted from now. The request's workflow runs.
func (w *world) holds(r access.Request, s access.State, start, end time.Duration) {
	w.t.Helper()
	now := time.Now().UTC()
	w.temporal.running(workflows.RequestID(r.ID))
	for _, id := range r.HoldIDs {
		w.record(access.Change{Holds: []access.Hold{{ID: id, RequestID: r.ID, AccountID: w.account(), State: s,
			StartsAt: now.Add(start), EndsAt: now.Add(end), MaxEnd: now.Add(start).Add(longest)}}})
	}
}

func (w *world) hold(id string) access.Hold {
	w.t.Helper()
	h, err := w.Store.Hold(w.t.Context(), id)
	require.NoError(w.t, err)
	return h
}

// events lists the kinds of the events about a request.
func (w *world) events(request string) (kinds []string) {
	w.t.Helper()
	rows, err := w.Store.Events(w.t.Context(), store.EventFilter{RequestID: request})
	require.NoError(w.t, err)
	for _, e := range rows {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

// fakeTemporal is what of a Temporal client the control side uses.
type fakeTemporal struct {
	client.Client

	mu     sync.Mutex
	status map[string]enumspb.WorkflowExecutionStatus // by workflow id
	epoch  int64                                      // in the memo of the epoch's workflow; 0: it never ran
	did    []string                                   // what was started, signalled and told, in words
	// disguise, where set, changes what is shown of a workflow.
	disguise func(*workflowpb.WorkflowExecutionInfo)
}

// do makes one step, which a test may cut.
func (f *fakeTemporal) do(ctx context.Context, effect func() error) error {
	return storetest.Do(ctx, func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		return effect()
	})
}

func (f *fakeTemporal) note(words ...string) { f.did = append(f.did, strings.Join(words, " ")) }

func (f *fakeTemporal) DescribeWorkflowExecution(_ context.Context, id, _ string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info := &workflowpb.WorkflowExecutionInfo{Status: f.status[id], Type: &commonpb.WorkflowType{Name: workflows.AccountType}, TaskQueue: workflows.Queue}
	if f.disguise != nil {
		f.disguise(info)
	}
	if id == workflows.EpochID && f.epoch > 0 {
		p, err := converter.GetDefaultDataConverter().ToPayload(f.epoch)
		if err != nil {
			return nil, err
		}
		info.Memo = &commonpb.Memo{Fields: map[string]*commonpb.Payload{"epoch": p}}
	} else if info.Status == enumspb.WORKFLOW_EXECUTION_STATUS_UNSPECIFIED {
		return nil, serviceerror.NewNotFound("no such workflow")
	}
	return &workflowservice.DescribeWorkflowExecutionResponse{WorkflowExecutionInfo: info}, nil
}

func (f *fakeTemporal) ExecuteWorkflow(ctx context.Context, o client.StartWorkflowOptions, _ any, _ ...any) (client.WorkflowRun, error) {
	return nil, f.do(ctx, func() error {
		if n, ok := o.Memo["epoch"].(int64); ok {
			f.epoch = n
			return nil
		}
		f.note("start", o.ID)
		f.status[o.ID] = enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
		return nil
	})
}

func (f *fakeTemporal) SignalWorkflow(ctx context.Context, id, _, signal string, _ any) error {
	return f.do(ctx, func() error {
		if f.status[id] != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
			return serviceerror.NewNotFound("no such workflow")
		}
		f.note(signal, id)
		return nil
	})
}

// ListWorkflow lists the requests and accounts that run.
func (f *fakeTemporal) ListWorkflow(context.Context, *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &workflowservice.ListWorkflowExecutionsResponse{}
	for _, id := range slices.Sorted(maps.Keys(f.status)) {
		kind, _, _ := strings.Cut(id, "/")
		if f.status[id] == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING && (kind == "request" || kind == "account") {
			out.Executions = append(out.Executions, &workflowpb.WorkflowExecutionInfo{Execution: &commonpb.WorkflowExecution{WorkflowId: id}})
		}
	}
	return out, nil
}

func (f *fakeTemporal) TerminateWorkflow(ctx context.Context, id, _, _ string, _ ...any) error {
	return f.do(ctx, func() error {
		f.note("terminate", id)
		f.status[id] = enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED
		return nil
	})
}

func (f *fakeTemporal) SignalWithStartWorkflow(ctx context.Context, id, signal string, _ any, _ client.StartWorkflowOptions, _ any, _ ...any) (client.WorkflowRun, error) {
	return nil, f.do(ctx, func() error {
		f.note(signal, id)
		f.status[id] = enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
		return nil
	})
}

func (f *fakeTemporal) NewWithStartWorkflowOperation(client.StartWorkflowOptions, any, ...any) client.WithStartWorkflowOperation {
	return nil
}

func (f *fakeTemporal) UpdateWithStartWorkflow(ctx context.Context, o client.UpdateWithStartWorkflowOptions) (client.WorkflowUpdateHandle, error) {
	return done{}, f.do(ctx, func() error {
		f.note(o.UpdateOptions.UpdateName, o.UpdateOptions.WorkflowID, o.UpdateOptions.UpdateID)
		return nil
	})
}

// Schedules are only deleted here.
func (f *fakeTemporal) ScheduleClient() client.ScheduleClient { return fakeSchedules{temporal: f} }

type fakeSchedules struct {
	client.ScheduleClient
	client.ScheduleHandle
	temporal *fakeTemporal
	id       string
}

func (f fakeSchedules) GetHandle(_ context.Context, id string) client.ScheduleHandle {
	f.id = id
	return f
}

func (f fakeSchedules) GetID() string { return f.id }

func (f fakeSchedules) Delete(ctx context.Context) error {
	return f.temporal.do(ctx, func() error { f.temporal.note("delete schedule", f.id); return nil })
}

// done is the handle of an update that went well.
type done struct{ client.WorkflowUpdateHandle }

func (done) Get(context.Context, any) error { return nil }

// running makes workflows run.
func (f *fakeTemporal) running(ids ...string) {
	for _, id := range ids {
		f.status[id] = enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
	}
}
