package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.temporal.io/sdk/client"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/all"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/internal/engine"
	"github.com/lapse-access/lapse/internal/localpg"
	"github.com/lapse-access/lapse/internal/localpg/localpgtest"
	"github.com/lapse-access/lapse/internal/localserver/localservertest"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/internal/targettest"
	"github.com/lapse-access/lapse/portal/api"
	"github.com/lapse-access/lapse/starter/dev/embedded"
	"github.com/lapse-access/lapse/workflows"
)

// figures is a whole Lapse in this process and what was measured of it.
type figures struct {
	*lapse
	sizes
	t         *testing.T
	data      string
	logged    bytes.Buffer // errors
	address   string       // of the portal
	http      http.Client
	server    *localpg.Server
	proxy     *integrationtest.Proxy
	superuser *pgx.Conn
	people    map[string]int    // how many of the directory have an account, by integration
	ids       map[string]string // of integrations, by name
	machine   string
	inMemory  map[int]float64 // median lateness there, by the number of ends
	rows      []figure
}

// The integrations: the target in memory, one that deletes accounts at once,
// the real PostgreSQL, and the same one through a proxy that counts.
const (
	inMemory  = "memory"
	forgetful = "forgetful"
	direct    = "prod-pg"
	counted   = "counted-pg"
)

// figuresConfiguration is the lapse.yaml, without its people.
const figuresConfiguration = `
administrators: {any: [{attribute: group, operator: is, values: [dba]}]}
integrations:
  - {name: memory, kind: memory, secret: {store: env, key: LAPSE_FIGURES_MEMORY}, user_cleanup_days: 7, integration_owner: {attribute: group, values: [dba]}}
  - {name: forgetful, kind: memory, secret: {store: env, key: LAPSE_FIGURES_MEMORY}, user_cleanup_days: 0.00001, integration_owner: {attribute: group, values: [dba]}}
  - name: prod-pg
    kind: postgresql
    config: {hostname: 127.0.0.1, port: %[1]d, ssl_mode: require}
    secret: {store: env, key: LAPSE_FIGURES_POSTGRESQL}
    user_cleanup_days: 7
    integration_owner: {attribute: group, values: [dba]}
  - name: counted-pg
    kind: postgresql
    config: {hostname: 127.0.0.1, port: %[2]s, ssl_mode: require}
    secret: {store: env, key: LAPSE_FIGURES_POSTGRESQL}
    user_cleanup_days: 7
    integration_owner: {attribute: group, values: [dba]}
access_flows:
  - name: everybody
    requesters: {any: [{attribute: group, operator: is, values: [analytics]}]}
    targets:
      - {integration: memory, resources: ["schema:*/*"], permissions: [read_only]}
      - {integration: forgetful, resources: ["schema:*/*"], permissions: [read_only]}
      - {integration: prod-pg, resources: ["schema:*/*"], permissions: [read_only]}
      - {integration: counted-pg, resources: ["schema:*/*", "table:*/*/*"], permissions: [read_only]}
      - {integration: counted-pg, resources: ["role:*"], permissions: [member]}
    max_duration: 8h
    approval: {steps: [{any_of: [integration_owner]}], expires_after: 1h}
people:
  - {email: dan@example.com, groups: [dba]}
`

// newFigures starts everything. PostgreSQL writes to disk as a real one does.
func newFigures(t *testing.T, size sizes) *figures {
	t.Helper()
	f := &figures{t: t, sizes: size, data: t.TempDir(), address: freeAddress(t), people: map[string]int{}, inMemory: map[int]float64{}, ids: map[string]string{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("Lapse logged:\n%s", &f.logged)
		}
	})
	f.http.Transport = &http.Transport{MaxIdleConnsPerHost: 2 * fullSizes.clients}
	t.Cleanup(f.http.CloseIdleConnections)

	var err error
	f.server, err = localpg.Start(t.Context(), localpg.Options{Bin: localpgtest.Find(t, 0), Dir: localservertest.Dir(t),
		Settings: map[string]string{"shared_preload_libraries": "pg_stat_statements"}})
	check(t, err)
	t.Cleanup(func() { f.server.Stop() })
	database := net.JoinHostPort(localpg.Host, fmt.Sprint(f.server.Port))
	demo := &demonstration{address: database, secretFile: filepath.Join(f.data, "secret.json")}
	check(t, demo.fill(t.Context(), f.server))
	f.superuser, err = connect(t.Context(), f.server, "shop")
	check(t, err)
	t.Cleanup(func() { f.superuser.Close(context.Background()) })
	_, err = f.superuser.Exec(t.Context(), `create extension pg_stat_statements; create role shop_audit; grant shop_audit to lapse_connector with admin option`)
	check(t, err)
	f.proxy = integrationtest.NewProxy(t, database)
	f.machine = f.describe()

	secret, err := os.ReadFile(demo.secretFile)
	check(t, err)
	for name, value := range map[string]string{"LAPSE_FIGURES_MEMORY": `{"token": "t"}`, "LAPSE_FIGURES_POSTGRESQL": string(secret)} {
		check(t, os.Setenv(name, value)) // not t.Setenv, which a parallel test may not use
		t.Cleanup(func() { os.Unsetenv(name) })
	}
	_, port, _ := net.SplitHostPort(f.proxy.Address())
	file := fmt.Appendf(nil, figuresConfiguration, f.server.Port, port)
	for n := range f.directory() {
		file = fmt.Appendf(file, "  - {email: %s, groups: [analytics]}\n", email(n))
	}
	s := settings{data: f.data, file: filepath.Join(f.data, "lapse.yaml"), portal: f.address, temporal: freeAddress(t), ui: freeAddress(t)}
	check(t, os.WriteFile(s.file, file, 0o600))

	temporal, err := embedded.Start(t.Context(), embedded.Options{File: filepath.Join(f.data, "temporal.db"), Frontend: s.temporal, Namespace: namespace,
		SearchAttributes: engine.SearchAttributes(), Logger: quiet})
	check(t, err)
	t.Cleanup(temporal.Stop)
	target := &targettest.Target{Password: "p", Catalog: []access.Page{{Resources: []access.Found{{Resource: access.NewResource("schema", "shop", "public"), Permissions: []string{"read_only"}}}}}}
	kinds := maps.Clone(all.Kinds())
	memory := target.Kind()
	memory.ResourceTypes[0].Permissions = []integrations.Permission{{Name: "read_only"}}
	kinds[memory.Name] = memory
	f.lapse = &lapse{kinds: kinds, log: slog.New(slog.NewTextHandler(&f.logged, &slog.HandlerOptions{Level: slog.LevelError}))}
	t.Cleanup(f.lapse.stop)
	check(t, f.lapse.start(t.Context(), s, nil))
	check(t, f.still())
	return f
}

// directory is how many people there are who may ask.
func (s sizes) directory() int {
	ends := 0
	for _, n := range s.ends {
		ends += n
	}
	return max(ends, s.sleepers[1]) + 2*s.approvals + s.clients + 100
}

func email(n int) string { return fmt.Sprintf("person%d@example.com", n) }

// person is somebody who has no account on an integration yet.
func (f *figures) person(integration string) string {
	f.people[integration]++
	return email(f.people[integration] - 1)
}

// still stops the sweeps and discoveries by schedule, which would be measured
// now and then, and waits for those of the start.
func (f *figures) still() error {
	list, err := f.node.Store.Integrations(f.t.Context())
	if err != nil {
		return err
	}
	for _, in := range list {
		f.ids[in.Name] = in.ID
		for _, id := range []string{workflows.SweepID(in.ID), workflows.DiscoveryID(in.ID)} {
			if err := f.node.Temporal.ScheduleClient().GetHandle(f.t.Context(), id).Pause(f.t.Context(), client.SchedulePauseOptions{Note: "figures"}); err != nil {
				return err
			}
			if err := f.node.Temporal.GetWorkflow(f.t.Context(), id, "").Get(f.t.Context(), nil); err != nil {
				return fmt.Errorf("%s: %w", id, err)
			}
		}
	}
	return nil
}

// call uses the portal as somebody.
func (f *figures) call(as, path string, body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodPost, "http://"+f.address+api.Prefix+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set(api.HeaderAs, as)
	req.Header.Set("Content-Type", "application/json")
	res, err := f.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if text, err = io.ReadAll(res.Body); err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return fmt.Errorf("%s as %s: %s: %s", path, as, res.Status, text)
	}
	return json.Unmarshal(text, answer)
}

// asked is a request that somebody made.
type asked struct{ ID, by string }

func (f *figures) ask(as, integration, resource string, d time.Duration) (asked, error) {
	permission := "read_only"
	if strings.HasPrefix(resource, "role:") {
		permission = "member"
	}
	r := asked{by: as}
	err := f.call(as, "/requests", api.NewRequest{Wants: []api.Want{{Integration: integration, Resource: resource, Permission: permission}},
		For: d.Round(time.Millisecond).String(), Reason: "to be measured"}, &r)
	return r, err
}

func (f *figures) approve(r asked) error {
	return f.call(dan, "/requests/"+r.ID+"/decisions", api.Decide{Verdict: access.Approve}, new(api.Request))
}

// until waits for a state in the store.
func (f *figures) until(r asked, every time.Duration, is func(access.State) bool) (row store.RequestRow, err error) {
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(every) {
		row, err = f.node.Store.Request(f.t.Context(), r.ID)
		state := row.StateAt(time.Now())
		if err != nil || is(state) {
			return row, err
		}
		if state.Final() {
			break
		}
	}
	return row, fmt.Errorf("%s is %s", r.ID, row.StateAt(time.Now()))
}

func isActive(s access.State) bool { return s == access.StateActive }

// granted makes a request, has it approved and waits until it is active; on a
// machine that is too busy a short one may be over by then.
func (f *figures) granted(as, integration, resource string, d time.Duration) (asked, error) {
	r, err := f.ask(as, integration, resource, d)
	if err == nil {
		err = f.approve(r)
	}
	if err == nil {
		_, err = f.until(r, 20*time.Millisecond, func(s access.State) bool { return isActive(s) || s.Final() })
	}
	return r, err
}

// release gives back, and returns when it is gone.
func (f *figures) release(r asked) error {
	if err := f.call(r.by, "/requests/"+r.ID+"/release", api.Why{}, new(api.Request)); err != nil {
		return err
	}
	return f.over(r)
}

// over returns when a request's workflow is done: access is proven gone.
func (f *figures) over(r asked) error {
	return f.node.Temporal.GetWorkflow(f.t.Context(), workflows.RequestID(r.ID), "").Get(f.t.Context(), nil)
}

const schema = "schema:shop/public"

// atOnce does n things, as many at once as there are clients. The work gets its
// number and that of its client.
func atOnce(n, clients int, work func(i, client int) error) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, clients)
	for c := range clients {
		wg.Go(func() {
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				if err := work(i-1, c); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}
