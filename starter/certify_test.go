package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/all"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/integrations/postgresql"
	"github.com/lapse-access/lapse/internal/describe"
	"github.com/lapse-access/lapse/internal/localpg"
	"github.com/lapse-access/lapse/internal/localpg/localpgtest"
)

const certifyPass = "canary-connector-Pa55word"

// customer is somebody's own server, and a lapse.yaml for it.
type customer struct {
	*localpg.Server
	file string
}

// newCustomer starts a server with a connector of a tier: database shop has
// three tables, of which everybody may read one, and a role to hand out.
func newCustomer(t *testing.T, version int, tier string) *customer {
	t.Helper()
	c := &customer{Server: localpgtest.Start(t, version)}
	c.exec(t, "postgres", "CREATE ROLE app_owner", "CREATE ROLE analytics", "CREATE ROLE ana LOGIN PASSWORD 'x' VALID UNTIL '2030-01-01'",
		"GRANT analytics TO ana", "COMMENT ON ROLE ana IS 'a person'", "CREATE DATABASE shop OWNER app_owner", "REVOKE CONNECT ON DATABASE shop FROM PUBLIC")
	c.exec(t, "shop", "CREATE SCHEMA crm AUTHORIZATION app_owner", "ALTER SCHEMA public OWNER TO app_owner", "SET ROLE app_owner",
		"CREATE TABLE public.everybodys (id serial)", "CREATE TABLE public.orders (id serial)", "CREATE TABLE crm.people (id serial)",
		"INSERT INTO crm.people DEFAULT VALUES", "GRANT SELECT ON public.everybodys TO PUBLIC", "GRANT SELECT ON crm.people TO ana",
		"CREATE FUNCTION crm.answer() RETURNS int LANGUAGE sql AS 'SELECT 42'",
		"ALTER DEFAULT PRIVILEGES IN SCHEMA crm GRANT SELECT ON TABLES TO analytics", "RESET ROLE")
	d, err := describe.New(postgresql.Kind(), describe.Options{"owner_roles": {"app_owner"}, "roles": {"analytics"}, "databases": {"shop"}})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(d.Setup, func(have integrations.Tier) bool { return have.Name == tier })
	c.exec(t, "postgres", strings.Replace(d.Setup[i].Script, "'...'", "'"+certifyPass+"'", 1))

	dir := t.TempDir()
	c.file = filepath.Join(dir, "lapse.yaml")
	write(t, filepath.Join(dir, "secret.json"), `{"username": "lapse", "password": "`+certifyPass+`"}`)
	write(t, c.file, fmt.Sprintf(`
administrators: {any: [{attribute: group, operator: is, values: [dba]}]}
people: [{email: dan@example.com, groups: [dba]}]
integrations:
  - name: shop
    kind: postgresql
    config: {hostname: %s, port: %d, ssl_mode: require, owner_roles: [app_owner]}
    secret: {store: file, key: %s}
`, localpg.Host, c.Port, filepath.Join(dir, "secret.json")))
	return c
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// exec runs statements as the superuser.
func (c *customer) exec(t *testing.T, database string, statements ...string) {
	t.Helper()
	conn := c.conn(t, database)
	defer conn.Close(context.Background())
	for _, s := range statements {
		if _, err := conn.PgConn().Exec(context.Background(), s).ReadAll(); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func (c *customer) conn(t *testing.T, database string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), c.URL(database))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// catalogs are all roles, memberships, comments, rights and default rights, and
// what is in a table. A grant writes out the rights of an object that had only
// those that every object has; they are compared as such.
var catalogs = []string{
	"SELECT to_jsonb(a)::text FROM pg_authid a ORDER BY oid",
	"SELECT to_jsonb(m)::text FROM pg_auth_members m ORDER BY roleid, member, grantor",
	"SELECT to_jsonb(d)::text FROM pg_shdescription d ORDER BY 1",
	"SELECT datname || ' ' || coalesce(datacl, acldefault('d', datdba))::text FROM pg_database ORDER BY 1",
	"SELECT nspname || ' ' || coalesce(nspacl, acldefault('n', nspowner))::text FROM pg_namespace WHERE nspname NOT LIKE 'pg_%temp%' ORDER BY 1",
	"SELECT oid::regclass || ' ' || coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\", relowner))::text FROM pg_class ORDER BY 1",
	"SELECT oid::regprocedure || ' ' || coalesce(proacl, acldefault('f', proowner))::text FROM pg_proc ORDER BY 1",
	"SELECT to_jsonb(d)::text FROM pg_default_acl d ORDER BY 1",
	"SELECT to_jsonb(p)::text FROM crm.people p",
}

func (c *customer) snapshot(t *testing.T) (all []string) {
	t.Helper()
	conn := c.conn(t, "shop")
	defer conn.Close(context.Background())
	for _, query := range catalogs {
		rows, err := conn.Query(context.Background(), query)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || len(lines) == 0 {
			t.Fatalf("%s: %v", query, err)
		}
		all = append(all, lines...)
	}
	return all
}

// unchanged demands that the catalogs are as they were.
func (c *customer) unchanged(t *testing.T, before []string) {
	t.Helper()
	if diff := cmp.Diff(before, c.snapshot(t)); diff != "" {
		t.Errorf("the server is not as it was (-before +after):\n%s", diff)
	}
}

// lapse runs a command, and returns its exit code with what it said.
func lapse(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(ctx, args, func(string) string { return "" }, &out, &err)
	return code, out.String(), err.String()
}

func (c *customer) certify(ctx context.Context, t *testing.T, args ...string) (code int, out certified, stderr string) {
	t.Helper()
	code, stdout, stderr := lapse(ctx, append([]string{"certify", "shop", "-f", c.file, "--yes", "-o", "json"}, args...)...)
	if stdout != "" {
		if err := json.Unmarshal([]byte(stdout), &out); err != nil {
			t.Fatalf("%v\n%s", err, stdout)
		}
	}
	if strings.Contains(stdout+stderr, certifyPass) {
		t.Error("the connector's password came out")
	}
	return code, out, stderr
}

// clean demands that --clean brings the server back to how it was.
func (c *customer) clean(t *testing.T, before []string) {
	t.Helper()
	if code, stdout, stderr := lapse(t.Context(), "certify", "shop", "-f", c.file, "--clean"); code != 0 || !strings.Contains(stdout, "Nothing of lapse certify is left") {
		t.Errorf("--clean: exit %d\n%s%s", code, stdout, stderr)
	}
	c.unchanged(t, before)
}

// impossible are the cases that no target of somebody's own can be asked for.
var impossible = []string{"baseline", "hostile-names", "levels", "lowered-by-hand", "raised-by-hand", "inherited", "pending", "cancelled", "unknown-people", "mark",
	"owned", "own-secret", "last-resort", "cut-grant", "cut-revoke", "cut-credential", "cut-delete", "dead", "slow", "wrong-secret", "throttled", "refused", "every-step", "read-back", "expiry"}

func skipped(out certified) (names []string) {
	for _, s := range out.Skipped {
		names = append(names, s.Case)
	}
	return names
}

func TestCertify(t *testing.T) {
	t.Parallel()
	for version, args := range map[int][]string{
		0:  nil,
		15: {"--want", "schema:shop/public:read_only", "--want", "table:shop/crm/people:read_only", "--all-permissions"},
	} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			c := newCustomer(t, version, "full")
			before := c.snapshot(t)
			code, out, stderr := c.certify(t.Context(), t, args...)
			left, tried := impossible, "admin on schema:shop/public\n"
			if args == nil {
				left, tried = slices.Concat(impossible, []string{"overlaps"}), "read_only on table:shop/crm/people\n  read_only on table:shop/public/orders\n"
			}
			if code != 0 || out.Failed != 0 || len(out.Findings) != 0 || len(out.Left) != 0 || !out.Witness {
				t.Errorf("exit %d, %+v\n%s", code, out, stderr)
			}
			sorted := cmpopts.SortSlices(strings.Compare)
			if diff := cmp.Diff(left, skipped(out), sorted); diff != "" {
				t.Errorf("left out (-want +have):\n%s", diff)
			}
			if want := len(integrationtest.Cases()); out.Cases != want || out.Passed != want-len(left) || !strings.HasPrefix(out.Server, "PostgreSQL ") || out.Kind != "postgresql" || out.Name != "shop" {
				t.Errorf("of %d cases: %+v", want, out)
			}
			if !strings.Contains(stderr, tried) {
				t.Errorf("the plan does not say %q:\n%s", tried, stderr)
			}
			c.unchanged(t, before)
		})
	}
}

// What the connector may not do is found by name, and nothing is left.
func TestCertifyFindsWhatIsMissing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tier, undo string
		found      map[string]string // by case
	}{
		"tier grant": {"grant", "SELECT 1", map[string]string{
			"check":    `pg_signal_backend: lapse may not end other sessions (GRANT pg_signal_backend TO "lapse")`,
			"sessions": `GRANT pg_signal_backend TO "lapse"`,
		}},
		"no roles": {"full", "ALTER ROLE lapse NOCREATEROLE", map[string]string{
			"check":   `make roles: lapse may not make roles`,
			"exactly": "making the roles of lapse_lapse_canary_",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			on := newCustomer(t, 0, c.tier)
			on.exec(t, "postgres", c.undo)
			before := on.snapshot(t)
			code, stdout, stderr := lapse(t.Context(), "certify", "shop", "-f", on.file, "--yes")
			if code != 1 || !strings.Contains(stderr, "failed on shop") || !strings.Contains(stdout, "\nNothing is left on the target.\n") {
				t.Errorf("exit %d\n%s%s", code, stdout, stderr)
			}
			for name, want := range c.found {
				if !slices.ContainsFunc(strings.Split(stdout, "\n"), func(line string) bool {
					return strings.HasPrefix(line, "FAILED    "+name+" ") && strings.Contains(line, want)
				}) {
					t.Errorf("%s does not find %q:\n%s", name, want, stdout)
				}
			}
			on.unchanged(t, before)
		})
	}
}

// trigger calls do once, when a text was written.
type trigger struct {
	text string
	do   func()
	seen bytes.Buffer
}

func (w *trigger) String() string { return w.seen.String() }

func (w *trigger) Write(p []byte) (int, error) {
	n, err := w.seen.Write(p)
	if w.do != nil && strings.Contains(w.String(), w.text) {
		w.do()
		w.do = nil
	}
	return n, err
}

func TestCertifyInterrupted(t *testing.T) {
	t.Parallel()
	c := newCustomer(t, 0, "full")
	before := c.snapshot(t)
	for _, after := range []time.Duration{40 * time.Millisecond, 300 * time.Millisecond} {
		ctx, cancel := context.WithCancel(t.Context())
		out := &trigger{text: "passed    remaining", do: func() { time.AfterFunc(after, cancel) }}
		var stderr bytes.Buffer
		code := run(ctx, []string{"certify", "shop", "-f", c.file, "--yes"}, func(string) string { return "" }, out, &stderr)
		cancel()
		if code != 130 || !strings.Contains(stderr.String(), "nothing is left on the target of shop") {
			t.Errorf("after %s: exit %d\n%s%s", after, code, out, &stderr)
		}
		c.unchanged(t, before)
	}
}

// A run that is killed leaves what it made. The next one does not go on over it.
func TestCertifyKilled(t *testing.T) {
	t.Parallel()
	c := newCustomer(t, 15, "full")
	before := c.snapshot(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := &exec.Cmd{Path: self, Args: []string{"lapse", "certify", "shop", "-f", c.file, "--yes"}}
	cmd.Stdout = &trigger{text: "passed    tug-of-war", do: func() { cmd.Process.Kill() }}
	if err := cmd.Run(); err == nil {
		t.Error("it was not killed")
	}
	if cmp.Equal(before, c.snapshot(t)) {
		t.Error("a run that was killed left nothing, so that this test tests nothing")
	}
	c.clean(t, before)

	one, err := newCertifier(t.Context(), all.Kinds(), c.file, "", "shop")
	if err == nil {
		err = one.prepare(t.Context(), nil, false)
	}
	if err != nil {
		t.Fatal(err)
	}
	somebody := one.canary(nil)
	if _, err := one.Grant(t.Context(), integrations.GrantRequest{Account: somebody, Want: one.apart[:], Sequence: 7}); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := c.certify(t.Context(), t)
	if code != 1 || !strings.Contains(stderr, "1 canary account of an earlier run") || !strings.Contains(stderr, "--clean") {
		t.Errorf("over what was left: exit %d\n%s", code, stderr)
	}
	c.clean(t, before)
}

// A target that dies keeps what it has, and we say so.
func TestCertifyTargetDies(t *testing.T) {
	t.Parallel()
	c := newCustomer(t, 0, "full")
	before := c.snapshot(t)
	stderr := &trigger{text: "passed    remaining", do: func() {
		time.AfterFunc(300*time.Millisecond, func() {
			if err := c.Kill(); err != nil {
				t.Error(err)
			}
		})
	}}
	var stdout bytes.Buffer
	code := run(t.Context(), []string{"certify", "shop", "-f", c.file, "--yes", "-o", "json"}, func(string) string { return "" }, &stdout, stderr)
	var out certified
	if err := json.Unmarshal(stdout.Bytes(), &out); err != nil {
		t.Fatal(err)
	}
	if code != 1 || len(out.Left) == 0 || !strings.Contains(out.Left[len(out.Left)-1], "perhaps the account of lapse-canary+") || !strings.Contains(stderr.String(), "lapse certify shop -f "+c.file+" --clean") {
		t.Errorf("exit %d, %+v\n%s", code, out, stderr)
	}
	code, _, said := lapse(t.Context(), "certify", "shop", "-f", c.file, "--clean")
	if code != 1 || !strings.Contains(said, "cannot be read") {
		t.Errorf("--clean on a target that is down: exit %d\n%s", code, said)
	}
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.clean(t, before)
}

// Without a witness nobody is asked but the integration, which is said.
func TestCertifyWithoutWitness(t *testing.T) {
	t.Parallel()
	c := newCustomer(t, 0, "full")
	before := c.snapshot(t)
	kind := postgresql.Kind()
	kind.Witness = nil
	var stdout, stderr bytes.Buffer
	a := &app{out: &stdout, err: &stderr, getenv: func(string) string { return "" }}
	cmd := a.certifyCommand(integrations.NewRegistry(kind))
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetArgs([]string{"shop", "-f", c.file, "--want", "table:shop/crm/people:read_only", "--want", "schema:shop/public:read_only"})
	cmd.SetIn(strings.NewReader("y\n"))
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, &stdout)
	}
	for _, want := range []string{"has no witness yet", "Nobody looked but the integration itself", "passed    exactly", "left out  credential       needs credentials", "left out  delete           needs accounts"} {
		if !strings.Contains(stderr.String()+stdout.String(), want) {
			t.Errorf("it does not say %q:\n%s%s", want, &stderr, &stdout)
		}
	}
	c.unchanged(t, before)

	kind.New = func(target integrations.Target) (integrations.Integration, error) {
		i, err := postgresql.New(target)
		return struct {
			integrations.Integration
			integrations.Maintainer
		}{i, i.(integrations.Maintainer)}, err
	}
	refused := func(why string) {
		t.Helper()
		cmd := a.certifyCommand(integrations.NewRegistry(kind))
		cmd.SilenceUsage, cmd.SilenceErrors = true, true
		cmd.SetArgs([]string{"shop", "-f", c.file, "--yes"})
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want %q", err, why)
		}
	}
	refused("cannot take it away yet")
	kind.Certification = []byte(`{"certified_against": "fake", "servers": [{"skipped": [{"case": "delete", "reason": "needs accounts of Lapse's making"}]}]}`)
	refused("Lapse makes no accounts")
	kind.Certification = []byte(`{"kind": "postgresql", "certified_against": "none"}`)
	refused("the kind postgresql is not certified itself yet")
	c.unchanged(t, before)
}

// liar says of every revoke that it worked.
type liar struct {
	integrations.Integration
	integrations.CredentialSetter
	integrations.Cleaner
}

func (liar) Revoke(_ context.Context, req integrations.RevokeRequest) (res integrations.RevokeResult, err error) {
	for _, e := range req.End {
		res.Entries = append(res.Entries, access.Entry{Entitlement: e, Outcome: access.Gone})
	}
	return res, nil
}

// The witness sees what the integration says and does not do.
func TestCertifyFindsALiar(t *testing.T) {
	t.Parallel()
	c := newCustomer(t, 15, "full")
	before := c.snapshot(t)
	kind := postgresql.Kind()
	kind.New = func(target integrations.Target) (integrations.Integration, error) {
		i, err := postgresql.New(target)
		return liar{i, i.(integrations.CredentialSetter), i.(integrations.Cleaner)}, err
	}
	var stdout, stderr bytes.Buffer
	a := &app{out: &stdout, err: &stderr, getenv: func(string) string { return "" }}
	cmd := a.certifyCommand(integrations.NewRegistry(kind))
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetArgs([]string{"shop", "-f", c.file, "--yes"})
	if err := cmd.ExecuteContext(t.Context()); err == nil {
		t.Error("nothing was found")
	}
	for _, name := range []string{"exactly", "once", "remaining", "parallel", "new-process", "credential", "sessions"} {
		if !strings.Contains(stdout.String(), "FAILED    "+name+" ") {
			t.Errorf("%s found nothing:\n%s", name, &stdout)
		}
	}
	c.unchanged(t, before)
}

func TestCertifyRefuses(t *testing.T) {
	t.Parallel()
	c := newCustomer(t, 0, "full")
	before := c.snapshot(t)
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	write(t, bad, "people: 3")
	readable := filepath.Join(t.TempDir(), "lapse.yaml")
	write(t, readable, "administrators: {any: [{attribute: group, operator: is, values: [dba]}]}\npeople: [{email: dan@example.com, groups: [dba]}]\n"+
		"integrations: [{name: shop, kind: postgresql, config: {hostname: 127.0.0.1}, secret: {store: file, key: nowhere.json}}]\n")
	text, err := os.ReadFile(c.file)
	if err != nil {
		t.Fatal(err)
	}
	roles := filepath.Join(t.TempDir(), "roles.yaml")
	write(t, roles, strings.TrimRight(string(text), " \n")+"\n    discover: {types: [role]}\n")
	const people, orders = "table:shop/crm/people:read_only", "table:shop/public/orders:read_only"
	for name, r := range map[string]struct {
		args []string
		says []string
	}{
		"an unknown integration":     {[]string{"shp", "-f", c.file}, []string{"there is no integration shp", "did you mean shop?"}},
		"no file":                    {[]string{"shop", "-f", "nowhere.yaml"}, []string{"nowhere.yaml", "-f names a file"}},
		"a file with faults":         {[]string{"shop", "-f", bad}, []string{bad + ":1:", "people"}},
		"a secret that is not there": {[]string{"shop", "-f", readable}, []string{"nowhere.json", "where the connector runs"}},
		"an unknown resource":        {[]string{"shop", "-f", c.file, "--want", "table:shop/public/ordrs:read_only"}, []string{"--want table:shop/public/ordrs:read_only: the connector offers no", "did you mean table:shop/public/orders?"}},
		"an unknown permission":      {[]string{"shop", "-f", c.file, "--want", "table:shop/public/orders:own"}, []string{"what the connector can give on it is read_only, read_write, admin"}},
		"no permission":              {[]string{"shop", "-f", c.file, "--want", "table:shop/public/orders"}, []string{"not TYPE:NAME:PERMISSION"}},
		"what everybody has":         {[]string{"shop", "-f", c.file, "--want", "table:shop/public/everybodys:read_only", "--want", people}, []string{"everybody on the target can use it already"}},
		"one resource":               {[]string{"shop", "-f", c.file, "--want", people}, []string{"--want names 1 resource"}},
		"resources that overlap":     {[]string{"shop", "-f", c.file, "--want", people, "--want", "schema:shop/crm:read_only"}, []string{"two that have nothing to do with each other"}},
		"several on both":            {[]string{"shop", "-f", c.file, "--want", people, "--want", orders, "--want", "table:shop/crm/people:admin", "--want", "table:shop/public/orders:admin"}, []string{"several permissions on both"}},
		"types that have no order":   {[]string{"shop", "-f", roles, "--yes"}, []string{"no two resources on shop", "--want names two"}},
		"nobody who says yes":        {[]string{"shop", "-f", c.file}, []string{"nothing was begun", "--yes"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := lapse(t.Context(), append([]string{"certify"}, r.args...)...)
			if code != 1 || stdout != "" {
				t.Errorf("exit %d\n%s", code, stdout)
			}
			for _, want := range r.says {
				if !strings.Contains(stderr, want) {
					t.Errorf("it does not say %q:\n%s", want, stderr)
				}
			}
		})
	}
	c.exec(t, "shop", "DROP TABLE public.orders")
	if code, _, stderr := c.certify(t.Context(), t); code != 1 || !strings.Contains(stderr, "no two resources on shop") {
		t.Errorf("with one resource: exit %d\n%s", code, stderr)
	}
	c.exec(t, "postgres", "ALTER ROLE lapse NOLOGIN")
	if code, _, stderr := c.certify(t.Context(), t); code != 1 || !strings.Contains(stderr, "does not let us in") {
		t.Errorf("without a login: exit %d\n%s", code, stderr)
	}
	c.exec(t, "shop", "ALTER ROLE lapse LOGIN", "SET ROLE app_owner", "CREATE TABLE public.orders (id serial)")
	if before, after := len(before), len(c.snapshot(t)); before != after {
		t.Errorf("what was refused left something: %d lines before, %d after", before, after)
	}
}
