package portal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/keys"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/portal/api"
	"github.com/lapse-access/lapse/workflows"
)

// The fake Temporal of the tests does nothing by itself that is worth waiting
// for.
func init() { outcomeTimeout, grantTimeout = 2*pollEvery, 2*pollEvery }

// The people of the tests: ana asks, cy owns shop and approves, bo
// administrates, and eve has no business here.
const (
	ana = "ana@example.com"
	bo  = "bo@example.com"
	cy  = "cy@example.com"
	di  = "di@example.com" // disabled
	eve = "eve@example.com"
)

const lapseYAML = `
administrators: {any: [{attribute: group, values: [platform]}]}
people:
  - {email: ana@example.com, groups: [analytics]}
  - {email: bo@example.com, groups: [platform]}
  - {email: cy@example.com, groups: [dba]}
  - {email: di@example.com, groups: [analytics], disabled: true}
  - {email: eve@example.com, groups: [sales]}
integrations:
  - name: shop
    kind: database
    config: {hostname: db.example.com}
    secret: {store: env, key: SHOP}
    custom_access_details: Use the read replica.
    integration_owner: {attribute: group, values: [dba]}
  - name: crm
    kind: forge
    config: {hostname: crm.example.com}
    secret: {store: env, key: CRM}
    integration_owner: {attribute: group, values: [dba]}
access_flows:
  - name: analysts
    requesters: {any: [{attribute: group, values: [analytics, dba]}]}
    targets:
      - {integration: shop, resources: ["schema:shop/*"], permissions: [read_only, read_write]}
      - {integration: crm, resources: ["role:*"], permissions: [member]}
    max_duration: 8h
    approval: {steps: [{any_of: [integration_owner]}]}
`

// rig is a portal on a real store, with a Temporal that does what a test says.
type rig struct {
	testing.TB
	store    *store.Store
	keys     *keys.Ring
	temporal *fakeTemporal
	portal   *Portal
	server   *httptest.Server
	log      *syncBuffer
}

// syncBuffer is a log that several goroutines write.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func kinds() integrations.Registry {
	config := func() any {
		return &struct {
			Hostname string `json:"hostname" doc:"name of the server"`
		}{}
	}
	secret := func() any {
		return &struct {
			Password string `json:"password" doc:"password"`
		}{}
	}
	return integrations.NewRegistry(
		integrations.Kind{Name: "database", Title: "Database", Config: config, Secret: secret, Credentials: true, Sessions: "ended",
			ResourceTypes: []integrations.ResourceType{{Name: "schema", Path: []string{"DATABASE", "SCHEMA"}, Permissions: []integrations.Permission{{Name: "read_only", Doc: "read every table"}, {Name: "read_write"}}}}},
		integrations.Kind{Name: "forge", Title: "Forge", Config: config, Secret: secret,
			ResourceTypes: []integrations.ResourceType{{Name: "role", Path: []string{"ROLE"}, Permissions: []integrations.Permission{{Name: "member"}}}}},
	)
}

// empty is a rig without a configuration.
func empty(t testing.TB, change ...func(*Options)) *rig {
	t.Helper()
	r := &rig{TB: t, log: &syncBuffer{}}
	var err error
	if r.store, err = store.Open(t.Context(), filepath.Join(t.TempDir(), "lapse.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.store.Close() })
	if r.keys, err = keys.Open(filepath.Join(t.TempDir(), "keys"), true); err != nil {
		t.Fatal(err)
	}
	r.temporal = &fakeTemporal{started: map[string]bool{}, store: r.store}
	o := Options{Store: r.store, Keys: r.keys, Temporal: r.temporal, Kinds: kinds(), Dev: true, UI: "http://127.0.0.1:8233", Log: slog.New(slog.NewTextHandler(r.log, nil)),
		AcceptRestore: func(ctx context.Context) error { return r.store.SetReportOnly(ctx, "") }}
	for _, f := range change {
		f(&o)
	}
	if r.portal, err = New(o); err != nil {
		t.Fatal(err)
	}
	r.server = httptest.NewServer(r.portal)
	t.Cleanup(r.server.Close)
	return r
}

// configured is a rig with lapseYAML in force and a catalog.
func configured(t testing.TB, change ...func(*Options)) *rig {
	t.Helper()
	r := empty(t, change...)
	if _, err := r.portal.Apply(t.Context(), "lapse.yaml", []byte(lapseYAML)); err != nil {
		t.Fatal(err)
	}
	catalog := map[string][]access.Found{
		"shop": {
			{Resource: access.NewResource("schema", "shop", "public"), Permissions: []string{"read_only", "read_write"}},
			{Resource: access.NewResource("schema", "shop", "audit"), Permissions: []string{"read_only"}},
			{Resource: access.NewResource("schema", "hr", "pay"), Permissions: []string{"read_only"}},
		},
		"crm": {{Resource: access.NewResource("role", "support"), Permissions: []string{"member"}}},
	}
	for name, found := range catalog {
		in, err := r.store.IntegrationByName(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.store.PutResources(t.Context(), in.ID, "run", found); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// call makes a call as somebody and returns the status and the answer.
func (r *rig) call(as, method, path string, in any, headers ...string) (int, string) {
	r.Helper()
	var body []byte
	switch in := in.(type) {
	case nil:
	case string:
		body = []byte(in)
	default:
		var err error
		if body, err = json.Marshal(in); err != nil {
			r.Fatal(err)
		}
	}
	if !strings.HasPrefix(path, "http") {
		path = r.server.URL + path
	}
	req, err := http.NewRequestWithContext(r.Context(), method, path, bytes.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if as != "" {
		req.Header.Set(api.HeaderAs, as)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		r.Fatal(err)
	}
	return res.StatusCode, string(answer)
}

// want makes a call that must end with a status, and decodes the answer.
func want[T any](r *rig, status int, as, method, path string, in any, headers ...string) (out T) {
	r.Helper()
	got, answer := r.call(as, method, api.Prefix+path, in, headers...)
	if got != status {
		r.Fatalf("%s %s as %s: status %d, want %d: %s", method, path, as, got, status, answer)
	}
	if err := json.Unmarshal([]byte(answer), &out); err != nil {
		r.Fatalf("%s %s: %v in %s", method, path, err, answer)
	}
	return out
}

// refused makes a call that must be refused, with these words.
func (r *rig) refused(status int, as, method, path string, in any, words ...string) api.Problem {
	r.Helper()
	p := want[api.Problem](r, status, as, method, path, in)
	text := p.Detail + " " + p.Hint
	for _, e := range p.Errors {
		text += " " + e.Location + " " + e.Message
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			r.Errorf("%s %s as %s: %q is not in %q", method, path, as, w, text)
		}
	}
	return p
}

// ask is a request for one or more wants.
func ask(wants ...api.Want) api.NewRequest {
	if len(wants) == 0 {
		wants = []api.Want{{Integration: "shop", Resource: "schema:shop/public", Permission: "read_only"}}
	}
	return api.NewRequest{Wants: wants, For: "1h", Reason: "a bug in the orders"}
}

// pending is a new request of ana's.
func (r *rig) pending(wants ...api.Want) api.Request {
	r.Helper()
	return want[api.Request](r, http.StatusCreated, ana, "POST", "/requests", ask(wants...))
}

// approved is a request of ana's that cy approved.
func (r *rig) approved(wants ...api.Want) api.Request {
	r.Helper()
	q := r.pending(wants...)
	r.temporal.decided(access.StateApproved)
	return want[api.Request](r, http.StatusOK, cy, "POST", "/requests/"+q.ID+"/decisions", api.Decide{Verdict: access.Approve})
}

// active is a request of ana's whose access is there.
func (r *rig) active(wants ...api.Want) api.Request {
	r.Helper()
	q := r.approved(wants...)
	now := time.Now().UTC()
	for _, h := range q.Holds {
		r.hold(h.ID, func(h *access.Hold) {
			h.State, h.StartsAt, h.EndsAt, h.MaxEnd = access.StateActive, now, now.Add(time.Hour), now.Add(8*time.Hour)
			h.Grant = &access.Evidence{At: now, Outcome: access.Granted, Facts: []string{"is a member"}}
		})
	}
	return want[api.Request](r, http.StatusOK, ana, "GET", "/requests/"+q.ID, nil)
}

// hold changes a hold in the store, as an account would.
func (r *rig) hold(id string, change func(*access.Hold)) {
	r.Helper()
	h, err := r.store.Hold(r.Context(), id)
	if err != nil {
		r.Fatal(err)
	}
	change(&h)
	r.record(access.Change{Event: access.Event{Key: access.NewID("test"), Kind: "hold.changed", HoldID: h.ID, RequestID: h.RequestID, AccountID: h.AccountID}, Holds: []access.Hold{h}})
}

func (r *rig) record(c access.Change) {
	r.Helper()
	if err := r.store.Record(r.Context(), []access.Change{c}); err != nil {
		r.Fatal(err)
	}
}

// fakeTemporal is a client whose workflows do what a test says.
type fakeTemporal struct {
	client.Client // what the portal does not use

	store *store.Store

	mu        sync.Mutex
	startErr  error
	started   map[string]bool
	updateErr error
	taken     []access.Decision
	told      []workflows.Op
	onUpdate  func(access.Decision) error
	result    any
	resultErr error
	starts    []string
	down      bool
}

func (f *fakeTemporal) CheckHealth(context.Context, *client.CheckHealthRequest) (*client.CheckHealthResponse, error) {
	if f.down {
		return nil, serviceerror.NewUnavailable("down")
	}
	return &client.CheckHealthResponse{}, nil
}

func (f *fakeTemporal) ExecuteWorkflow(_ context.Context, o client.StartWorkflowOptions, workflow any, args ...any) (client.WorkflowRun, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.startErr != nil {
		return nil, f.startErr
	}
	f.started[o.ID] = true
	f.starts = append(f.starts, workflow.(string))
	return &fakeRun{result: f.result, err: f.resultErr}, nil
}

func (f *fakeTemporal) DescribeWorkflowExecution(_ context.Context, id, _ string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.started[id] {
		return nil, serviceerror.NewNotFound("no such workflow")
	}
	return &workflowservice.DescribeWorkflowExecutionResponse{}, nil
}

func (f *fakeTemporal) UpdateWorkflow(_ context.Context, o client.UpdateWorkflowOptions) (client.WorkflowUpdateHandle, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := o.Args[0].(access.Decision)
	if f.updateErr != nil || !f.started[o.WorkflowID] {
		return nil, cmpErr(f.updateErr, serviceerror.NewNotFound("no such workflow"))
	}
	if o.UpdateID != d.Nonce || o.UpdateName != updates[d.Verdict] || o.WorkflowID != workflows.RequestID(d.RequestID) {
		return nil, errors.New("the update does not fit the decision")
	}
	f.taken = append(f.taken, d)
	if f.onUpdate != nil {
		return &fakeUpdate{}, f.onUpdate(d)
	}
	return &fakeUpdate{}, nil
}

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func (f *fakeTemporal) NewWithStartWorkflowOperation(client.StartWorkflowOptions, any, ...any) client.WithStartWorkflowOperation {
	return nil
}

func (f *fakeTemporal) UpdateWithStartWorkflow(_ context.Context, o client.UpdateWithStartWorkflowOptions) (client.WorkflowUpdateHandle, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, o.UpdateOptions.Args[0].(workflows.Op))
	return &fakeUpdate{}, nil
}

// decided makes the next decision end the wait of its request, as its workflow
// would have it recorded.
func (f *fakeTemporal) decided(state access.State) {
	f.onUpdate = func(d access.Decision) error {
		event := access.Event{Key: "decision/" + d.Nonce, Kind: "decision." + string(d.Verdict), At: d.At, Actor: d.By, RequestID: d.RequestID, Text: string(d.Verdict)}
		change := access.Change{Event: access.Event{Key: "request/" + d.RequestID + "/" + string(state), Kind: "request." + string(state), RequestID: d.RequestID},
			Request: &access.RequestChange{ID: d.RequestID, State: state, Why: string(state)}}
		return errors.Join(f.store.AddDecision(context.Background(), d, event), f.store.Record(context.Background(), []access.Change{change}))
	}
}

// gone makes Temporal forget that a workflow runs, and remember that it ran.
func (f *fakeTemporal) gone() {
	f.updateErr = serviceerror.NewNotFound("workflow execution already completed")
}

type fakeRun struct {
	client.WorkflowRun
	result any
	err    error
}

func (r *fakeRun) Get(_ context.Context, into any) error {
	if r.err != nil || r.result == nil {
		return r.err
	}
	b, err := json.Marshal(r.result)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

type fakeUpdate struct{ client.WorkflowUpdateHandle }

func (*fakeUpdate) Get(context.Context, any) error { return nil }

func applicationError(kind, text string) error {
	return temporal.NewNonRetryableApplicationError(text, kind, nil)
}

// kindsOf are the kinds of a request's events.
func kindsOf(r api.Request) (kinds []string) {
	for _, e := range r.Events {
		kinds = append(kinds, e.Kind)
	}
	return slices.Compact(kinds)
}
