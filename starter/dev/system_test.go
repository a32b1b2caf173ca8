package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/proxy"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/internal/codec"
	"github.com/lapse-access/lapse/internal/engine"
	"github.com/lapse-access/lapse/internal/keys"
	"github.com/lapse-access/lapse/internal/localpg"
	"github.com/lapse-access/lapse/internal/localpg/localpgtest"
)

// system is a whole Lapse in a process of its own, with a PostgreSQL that is
// the test's to stop, a proxy in between, and the lapse command to drive it.
type system struct {
	*process
	t       *testing.T
	server  *localpg.Server
	proxy   *integrationtest.Proxy
	secrets *[]string // every password of the run
	yaml    string    // the configuration
}

// people of the tests, by what they do.
const (
	ana = "ana@example.com" // may ask
	dan = "dan@example.com" // owns
	eva = "eva@example.com" // may ask, and owns too
	sue = "sue@example.com" // neither
)

// configuration is the lapse.yaml of the tests. The cleanup comes after about
// six seconds.
const configuration = `
administrators: {any: [{attribute: group, operator: is, values: [platform]}]}
people:
  - {email: ana@example.com, groups: [analytics]}
  - {email: dan@example.com, groups: [dba]}
  - {email: eva@example.com, groups: [analytics, dba], aliases: [eva.admin@example.com]}
  - {email: sue@example.com, groups: [support]}
  - {email: root@example.com, groups: [platform]}
integrations:
  - name: prod-pg
    kind: postgresql
    config: {hostname: %s, port: %s, ssl_mode: require}
    secret: {store: env, key: LAPSE_E2E_SECRET}
    user_cleanup_days: 0.00007
    custom_access_details: "Use the read replica for long queries."
    integration_owner: {attribute: group, values: [dba]}
    resource_owner: {key: owner, attribute: group}
access_flows:
  - name: analysts
    requesters: {any: [{attribute: group, operator: is, values: [analytics]}]}
    targets:
      - {integration: prod-pg, resources: ["schema:shop/*"], permissions: [read_only, read_write]}
      - {integration: prod-pg, resources: ["role:*"], permissions: [member]}
    max_duration: 10m
    approval: {steps: [{any_of: [resource_owner, integration_owner]}], expires_after: 1h}
`

// command builds bin/lapse once.
var command = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "lapse-bin-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "lapse")
	out, err := exec.Command("go", "build", "-C", "../..", "-o", path, "./starter").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("building lapse: %w\n%s", err, out)
	}
	return path, err
})

// newSystem starts everything and reads the catalog. A change gets the
// configuration and the connector's secret.
func newSystem(t *testing.T, changes ...func(yaml string, secret []byte) string) *system {
	t.Helper()
	server := localpgtest.Start(t, 0)
	target := net.JoinHostPort(localpg.Host, fmt.Sprint(server.Port))
	s := &system{t: t, server: server, proxy: integrationtest.NewProxy(t, target), secrets: new([]string)}
	demo := &demonstration{address: target, secretFile: filepath.Join(t.TempDir(), "secret.json")}
	if err := demo.fill(t.Context(), server); err != nil {
		t.Fatal(err)
	}
	secret, err := os.ReadFile(demo.secretFile)
	if err != nil {
		t.Fatal(err)
	}
	*s.secrets = append(*s.secrets, strings.Split(string(secret), `"`)[7], server.Password)
	host, port, _ := net.SplitHostPort(s.proxy.Address())
	s.yaml = fmt.Sprintf(configuration, host, port)
	for _, change := range changes {
		s.yaml = change(s.yaml, secret)
	}
	file := filepath.Join(t.TempDir(), "lapse.yaml")
	if err := os.WriteFile(file, []byte(s.yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	s.process = newProcess(t, "-f", file)
	s.env = append(s.env, "LAPSE_E2E_SECRET="+string(secret))
	s.start()
	s.must(dan, "discover", "prod-pg")
	return s
}

// command is the command lapse as somebody.
func (s *system) command(as string, args ...string) *exec.Cmd {
	s.t.Helper()
	path, err := command()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.CommandContext(s.t.Context(), path, append(args, "-o", "json")...)
	cmd.Env = append(os.Environ(), "LAPSE_AS="+as, "LAPSE_URL=http://"+s.setting("LAPSE_PORTAL"))
	return cmd
}

// lapse runs the command as somebody.
func (s *system) lapse(as string, args ...string) (stdout string, err error) {
	s.t.Helper()
	cmd := s.command(as, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err = cmd.Run(); err != nil {
		err = fmt.Errorf("lapse %s as %s: %w: %s", strings.Join(args, " "), as, err, &errs)
		if out.Len() > 0 {
			s.t.Errorf("lapse %s failed and printed on standard output: %s", args[0], &out)
		}
	}
	return out.String(), err
}

func (s *system) must(as string, args ...string) string {
	s.t.Helper()
	out, err := s.lapse(as, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// shown is what lapse show prints, as others rely on it.
type shown struct {
	ID    string
	State access.State
	Holds []struct {
		ID, Integration, Resource, Permission string
		State                                 access.State
		StartsAt                              time.Time `json:"starts_at"`
		EndsAt                                time.Time `json:"ends_at"`
		OverdueSeconds                        int64     `json:"overdue_seconds"`
		Error                                 string
		Evidence                              struct{ Grant, Revoke *access.Evidence }
	}
	Decisions []struct{ By, Verdict, Reason string }
	Events    []struct{ Kind, Text string }
}

func (r shown) count(kind string) (n int) {
	for _, e := range r.Events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

func (s *system) parse(text string) (r shown) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		s.t.Fatalf("%v: %s", err, text)
	}
	return r
}

func (s *system) show(id string) shown {
	s.t.Helper()
	return s.parse(s.must("root@example.com", "show", id))
}

// ask makes a request.
func (s *system) ask(as, permission, length string) shown {
	s.t.Helper()
	return s.parse(s.must(as, "request", "--integration", "prod-pg", "--resource", "schema:shop/public", "--permission", permission, "--for", length, "--reason", "test"))
}

// granted makes a request, has it approved, and waits until it is active.
func (s *system) granted(as, permission, length string) shown {
	s.t.Helper()
	r := s.ask(as, permission, length)
	s.must(dan, "approve", r.ID)
	return s.wait(r.ID, access.StateActive, 30*time.Second)
}

// wait polls until a request is in a state.
func (s *system) wait(id string, want access.State, limit time.Duration) shown {
	s.t.Helper()
	var r shown
	s.until(limit, func() error {
		if r = s.show(id); r.State != want {
			return fmt.Errorf("%s is %s, want %s: %+v", id, r.State, want, r)
		}
		return nil
	})
	return r
}

// until polls until a check is content.
func (s *system) until(limit time.Duration, check func() error) {
	s.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("after %s: %v", limit, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// credentials fetches what a person logs in with.
func (s *system) credentials(as, id string, more ...string) (c access.Credential) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(s.must(as, append([]string{"credentials", id}, more...)...)), &c); err != nil {
		s.t.Fatal(err)
	}
	*s.secrets = append(*s.secrets, c.Password)
	return c
}

// login opens a session of a person, past the proxy.
func (s *system) login(c access.Credential) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig("sslmode=require dbname=shop")
	if err != nil {
		return nil, err
	}
	cfg.Host, cfg.Port, cfg.User, cfg.Password = localpg.Host, uint16(s.server.Port), c.Username, c.Password
	conn, err := pgx.ConnectConfig(s.t.Context(), cfg)
	if err == nil {
		s.t.Cleanup(func() { conn.Close(context.Background()) })
	}
	return conn, err
}

// admin runs a query as the superuser and returns its one value.
func (s *system) admin(query string, args ...any) (value string) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.server.URL("shop"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(s.t.Context(), query, args...).Scan(&value); err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
	return value
}

// ours lists the accounts on the target that are Lapse's.
func (s *system) ours() string {
	return s.admin(`select coalesce(string_agg(rolname, ' ' order by rolname), '') from pg_roles where rolname like 'lapse\_%' and rolname not like 'lapse\_e\_%' and rolname <> 'lapse_connector'`)
}

// gone waits until no account of ours is left.
func (s *system) gone(limit time.Duration) {
	s.t.Helper()
	s.until(limit, func() error {
		if left := s.ours(); left != "" {
			return fmt.Errorf("left on the database: %s", left)
		}
		return nil
	})
}

// temporal is a client with the installation's keys.
func (s *system) temporal() client.Client {
	s.t.Helper()
	ring, err := keys.Open(filepath.Join(s.setting("LAPSE_DATA"), "keys"), false)
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := engine.Connect(engine.Options{Address: s.setting("LAPSE_TEMPORAL"), Namespace: namespace, Codec: ring.Codec, Log: quiet})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

// kill ends the whole process at once.
func (s *system) kill() {
	s.t.Helper()
	s.end(syscall.SIGKILL)
}

// superuser connects past the proxy.
func (s *system) superuser() (*pgx.Conn, error) {
	return pgx.Connect(s.t.Context(), s.server.URL("shop"))
}

// histories are all histories of all workflows, decoded.
func (s *system) histories() []byte {
	s.t.Helper()
	c := s.temporal()
	ring, err := keys.Open(filepath.Join(s.setting("LAPSE_DATA"), "keys"), false)
	if err != nil {
		s.t.Fatal(err)
	}
	decode := codec.Payloads(ring.Codec)
	var out bytes.Buffer
	var page []byte
	for {
		list, err := c.ListWorkflow(s.t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Namespace: namespace, PageSize: 200, NextPageToken: page})
		if err != nil {
			s.t.Fatal(err)
		}
		for _, e := range list.Executions {
			history := c.GetWorkflowHistory(s.t.Context(), e.Execution.WorkflowId, e.Execution.RunId, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
			for history.HasNext() {
				event, err := history.Next()
				if err != nil {
					s.t.Fatal(err)
				}
				err = proxy.VisitPayloads(s.t.Context(), event, proxy.VisitPayloadsOptions{Visitor: func(_ *proxy.VisitPayloadsContext, ps []*commonpb.Payload) ([]*commonpb.Payload, error) {
					plain, err := decode.Decode(ps)
					for _, p := range plain {
						out.Write(p.Data)
						out.WriteByte('\n')
					}
					return plain, err
				}})
				if err != nil {
					s.t.Fatal(err)
				}
				fmt.Fprintln(&out, event.String())
			}
		}
		if page = list.NextPageToken; len(page) == 0 {
			return out.Bytes()
		}
	}
}
