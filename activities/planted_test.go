package activities_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/activities"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/postgresql"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/localpg"
	"github.com/lapse-access/lapse/internal/localpg/localpgtest"
	"github.com/lapse-access/lapse/internal/secrets"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/workflows"
)

// each is how many findings of each sort are planted.
const each = 25

// planted is a real database with what a sweep has to find, and with as much
// that is none of its business.
type planted struct {
	*world
	server    *localpg.Server
	admin     *pgx.Conn
	provision *activities.Provision
	target    integrations.Integration
	people    int
	want      map[string]bool // kind and subject of every finding
	doomed    []string        // roles that only a repair drops
}

// TestPlantedFindings plants 200 findings of eight sorts on a database.
func TestPlantedFindings(t *testing.T) {
	p := newPlanted(t)
	p.plant()
	require.Len(t, p.want, 8*each)
	catalog, rows := p.catalog(), p.rows()

	t.Run("a dry run reports all and nothing else, and changes nothing", func(t *testing.T) {
		r := p.sweep(t, access.SweepArgs{DryRun: true})
		require.Equal(t, p.want, reported(r, ""))
		require.Equal(t, catalog, p.catalog(), "the database")
		require.Equal(t, rows, p.rows(), "the store")
		require.Empty(t, p.temporal.did, "the workflows")
	})
	if t.Failed() {
		return
	}
	t.Run("a sweep reports the same, and repairs lost workflows only", func(t *testing.T) {
		r := p.sweep(t, access.SweepArgs{})
		require.Equal(t, p.want, reported(r, ""))
		require.Equal(t, catalog, p.catalog(), "the database")
		require.Equal(t, map[string]int{"reload": each, "start": each, "wake": each}, p.did())
		require.Equal(t, p.kinds(access.FindingLostAccount, access.FindingLostRequest), reported(r, "its workflow"))
		_, kept, err := p.Store.Findings(t.Context(), p.pg.ID)
		require.NoError(t, err)
		require.Equal(t, r.Findings, kept)
	})
	t.Run("a repair takes what was found, and nothing else", func(t *testing.T) {
		r := p.sweep(t, access.SweepArgs{Repair: true})
		found := p.kinds(access.FindingUnknownPrincipal, access.FindingUnusedRole, access.FindingOverdue, access.FindingUnexpected, access.FindingMissing, access.FindingForeign)
		require.Equal(t, found, reported(r, ""))
		require.Equal(t, p.kinds(access.FindingUnknownPrincipal), reported(r, "gone"))
		require.Equal(t, p.kinds(access.FindingUnusedRole), reported(r, "dropped"))
		require.Equal(t, p.kinds(access.FindingUnexpected), reported(r, "its account takes it away"))
		require.Equal(t, p.kinds(access.FindingMissing), reported(r, "its account ends the hold"))
		require.Equal(t, map[string]int{"strip": each, "end": each, "wake": each}, p.did())
		left := slices.DeleteFunc(slices.Clone(catalog), func(line string) bool {
			return slices.ContainsFunc(p.doomed, func(role string) bool { return strings.Contains(line, role) })
		})
		require.Equal(t, left, p.catalog(), "the rest is untouched")
		require.Less(t, len(left), len(catalog)-2*each)
	})
}

// reported are kind and subject of the findings of which a repair says so much.
func reported(r access.SweepReport, repaired string) map[string]bool {
	out := map[string]bool{}
	for _, f := range r.Findings {
		if strings.HasPrefix(f.Repaired, repaired) {
			out[string(f.Kind)+" "+f.Subject] = true
		}
	}
	return out
}

// kinds are the wanted findings of some sorts.
func (p *planted) kinds(kinds ...access.FindingKind) map[string]bool {
	out := maps.Clone(p.want)
	maps.DeleteFunc(out, func(key string, _ bool) bool {
		kind, _, _ := strings.Cut(key, " ")
		return !slices.Contains(kinds, access.FindingKind(kind))
	})
	return out
}

// did counts what was done in Temporal since the last look.
func (p *planted) did() map[string]int {
	count := map[string]int{}
	for _, what := range p.temporal.did {
		word, _, _ := strings.Cut(what, " ")
		count[word]++
	}
	p.temporal.did = nil
	return count
}

func newPlanted(t *testing.T) *planted {
	p := &planted{world: newWorld(t), server: localpgtest.Start(t, 0), want: map[string]bool{}}
	var err error
	p.admin, err = pgx.Connect(t.Context(), p.server.URL("postgres"))
	require.NoError(t, err)
	t.Cleanup(func() { p.admin.Close(context.Background()) })
	p.exec("create database shop", "create role dba", "create role reports")
	shop, err := pgx.Connect(t.Context(), p.server.URL("shop"))
	require.NoError(t, err)
	defer shop.Close(context.Background())
	for n := range each {
		_, err := shop.Exec(t.Context(), fmt.Sprintf("create schema part%d; create table part%d.orders (id int); create schema old%d; create table old%d.orders (id int)", n, n, n, n))
		require.NoError(t, err)
	}

	settings := fmt.Sprintf(`{"hostname": "127.0.0.1", "port": %d, "ssl_mode": "require"}`, p.server.Port)
	p.cfg.Integrations = []config.Integration{{Name: "shop-pg", Kind: "postgresql", Connector: "default", Config: json.RawMessage(settings), Secret: secrets.Ref{Store: "env", Key: "PLANTED"}, UserCleanupDays: 7}}
	for n := range 8 * each {
		p.cfg.People = append(p.cfg.People, config.Person{Email: fmt.Sprintf("person%d@example.com", n), Groups: []string{"analytics"}})
	}
	p.apply()
	p.pg, err = p.Store.IntegrationByName(t.Context(), "shop-pg")
	require.NoError(t, err)
	p.Kinds = integrations.NewRegistry(postgresql.Kind())
	secret, err := json.Marshal(map[string]string{"username": localpg.Superuser, "password": p.server.Password})
	require.NoError(t, err)
	t.Setenv("PLANTED", string(secret))
	p.provision = &activities.Provision{Instance: "lapse-1", Kinds: p.Kinds, Secrets: secrets.New(t.TempDir()), Log: slog.New(slog.DiscardHandler),
		Restored: func(context.Context) (string, error) { return "", nil },
		Target:   func(context.Context, string) (config.Integration, error) { return p.pg.Integration, nil }}
	t.Cleanup(p.provision.Close)
	p.target = p.open("lapse-1", p.pg.ID)
	return p
}

// open makes the integration as another process, or another Lapse, has it.
func (p *planted) open(instance, id string) integrations.Integration {
	p.t.Helper()
	kind := postgresql.Kind()
	settings, err := p.pg.Settings(kind)
	require.NoError(p.t, err)
	i, err := kind.New(integrations.Target{Instance: instance, ID: id, Name: "shop-pg", Config: settings, Log: slog.New(slog.DiscardHandler),
		Secret: &postgresql.Secret{Username: localpg.Superuser, Password: integrations.Secret(p.server.Password)}})
	require.NoError(p.t, err)
	p.t.Cleanup(func() { i.Close() })
	return i
}

func (p *planted) exec(statements ...string) {
	p.t.Helper()
	for _, s := range statements {
		_, err := p.admin.Exec(p.t.Context(), s)
		require.NoError(p.t, err, s)
	}
}

// on is what can be held on one of the schemas.
func (p *planted) on(schema string, n int) access.Entitlement {
	return access.Entitlement{Integration: p.pg.ID, Resource: access.NewResource("schema", "shop", fmt.Sprintf("%s%d", schema, n)), Permission: "read_only"}
}

// holder is somebody with access, in the store, on the target and in Temporal.
type holder struct {
	access.Account
	role string // that carries the access
	hold access.Hold
}

// request stores what the next person asks for.
func (p *planted) request(e access.Entitlement) (access.Request, access.Account) {
	p.t.Helper()
	who := p.person(fmt.Sprintf("person%d@example.com", p.people))
	p.people++
	now := time.Now().UTC()
	r := access.Request{ID: "req-" + who.Email, PersonID: who.ID, Reason: "a look", Duration: access.Duration(time.Hour), Flow: "read", FlowVersion: 1, CreatedAt: now, ExpiresAt: now.Add(24 * time.Hour),
		Asked: []access.Asked{{Entitlement: e, Integration: p.pg.Name}}, HoldIDs: []string{"hold-" + who.Email}}
	require.NoError(p.t, p.Store.CreateRequest(p.t.Context(), r, access.Event{Key: "request/" + r.ID, Kind: "request.created", RequestID: r.ID}))
	return r, access.Account{ID: access.AccountID(p.pg.ID, who.ID), Integration: p.pg.ID, PersonID: who.ID, Email: who.Email}
}

// holders makes people who hold one thing each.
func (p *planted) holders() []holder {
	p.t.Helper()
	all := make([]holder, each)
	for n := range all {
		e := p.on("part", n)
		r, a := p.request(e)
		now := time.Now().UTC()
		all[n] = holder{Account: a, hold: access.Hold{ID: r.HoldIDs[0], RequestID: r.ID, AccountID: a.ID, Entitlement: e, State: access.StateActive,
			StartsAt: now.Add(-time.Hour), EndsAt: now.Add(time.Hour), MaxEnd: now.Add(longest)}}
		p.temporal.running(workflows.AccountID(a.ID), workflows.RequestID(r.ID))
	}
	p.grant(all)
	for n := range all {
		p.record(access.Change{Request: &access.RequestChange{ID: all[n].hold.RequestID, State: access.StateApproved}, Holds: []access.Hold{all[n].hold},
			Account: &access.AccountChange{ID: all[n].ID, Name: all[n].Name}})
		all[n].role = p.carries(all[n].Name)
	}
	return all
}

// grant opens on the target what people hold, a few at a time.
func (p *planted) grant(all []holder) {
	p.t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, len(all))
	few := make(chan bool, 8)
	for n := range all {
		wg.Go(func() {
			few <- true
			defer func() { <-few }()
			var res integrations.GrantResult
			res, errs[n] = p.target.Grant(p.t.Context(), integrations.GrantRequest{Account: all[n].Account, Want: []access.Entitlement{all[n].hold.Entitlement}, End: time.Now().Add(time.Hour), Sequence: 1})
			all[n].Name = res.AccountName
		})
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(p.t, err)
	}
}

// carries is the role by which an account has its access.
func (p *planted) carries(name string) (role string) {
	p.t.Helper()
	require.NoError(p.t, p.admin.QueryRow(p.t.Context(), "select roleid::regrole::text from pg_auth_members where member = $1::regrole", pgx.Identifier{name}.Sanitize()).Scan(&role))
	return role
}

func (p *planted) finds(kind access.FindingKind, subject string) {
	p.want[string(kind)+" "+subject] = true
}

// plant makes 25 findings of each of eight sorts, and what is none.
func (p *planted) plant() {
	healthy := p.holders()
	for _, h := range p.holders() {
		h.hold.State, h.hold.EndsAt = access.StateOverdue, time.Now().Add(-10*time.Minute)
		p.record(access.Change{Holds: []access.Hold{h.hold}})
		p.finds(access.FindingOverdue, h.Email)
	}
	for n, h := range p.holders() {
		p.exec("grant " + healthy[(n+1)%each].role + " to " + h.Name)
		p.finds(access.FindingUnexpected, h.Name)
	}
	for _, h := range p.holders() {
		p.exec("revoke " + h.role + " from " + h.Name)
		p.finds(access.FindingMissing, h.Name)
	}
	p.exec("grant reports to dba with admin option")
	for _, h := range p.holders() {
		p.exec("set role dba", "grant reports to "+h.Name, "reset role")
		p.finds(access.FindingForeign, h.Name)
	}
	for _, h := range p.holders() {
		delete(p.temporal.status, workflows.AccountID(h.ID))
		p.finds(access.FindingLostAccount, h.Email)
	}
	for n := range each {
		r, _ := p.request(p.on("part", n))
		p.finds(access.FindingLostRequest, r.ID)
	}

	// Accounts that nobody knows, with real access.
	unknown := make([]holder, each)
	for n := range unknown {
		person := fmt.Sprintf("per-lost%d", n)
		unknown[n] = holder{Account: access.Account{ID: access.AccountID(p.pg.ID, person), Integration: p.pg.ID, PersonID: person, Email: person + "@example.com"}, hold: access.Hold{Entitlement: p.on("part", n)}}
	}
	p.grant(unknown)
	for _, h := range unknown {
		p.finds(access.FindingUnknownPrincipal, h.Name)
		p.doomed = append(p.doomed, h.Name)
	}

	// Roles that nobody has any more.
	past := access.Account{ID: access.AccountID(p.pg.ID, "per-past"), Integration: p.pg.ID, PersonID: "per-past", Email: "past@example.com"}
	var old []access.Entitlement
	for n := range each {
		old = append(old, p.on("old", n))
	}
	res, err := p.target.Grant(p.t.Context(), integrations.GrantRequest{Account: past, Want: old, End: time.Now().Add(time.Hour), Sequence: 1})
	require.NoError(p.t, err)
	past.Name = res.AccountName
	rows, err := p.admin.Query(p.t.Context(), "select roleid::regrole::text from pg_auth_members where member = $1::regrole", past.Name)
	require.NoError(p.t, err)
	roles, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(p.t, err)
	for _, role := range roles {
		p.finds(access.FindingUnusedRole, role)
		p.doomed = append(p.doomed, role)
	}
	_, err = p.target.Revoke(p.t.Context(), integrations.RevokeRequest{Account: past, End: old, Sequence: 2})
	require.NoError(p.t, err)
	_, err = p.target.DeleteAccount(p.t.Context(), integrations.DeleteRequest{Account: past, Sequence: 3})
	require.NoError(p.t, err)

	// None of our business: strangers, another Lapse, another integration, and
	// what is left of an account that owned things.
	p.exec("create role lapse_ana_1234abcd login", "grant reports to lapse_ana_1234abcd", "comment on role dba is 'lapse:v1: said somebody'")
	for instance, id := range map[string]string{"lapse-2": p.pg.ID, "lapse-1": "int-other"} {
		e := p.on("part", 0)
		e.Integration = id
		a := access.Account{ID: access.AccountID(id, "per-other"), Integration: id, PersonID: "per-other", Email: "other@example.com"}
		_, err := p.open(instance, id).Grant(p.t.Context(), integrations.GrantRequest{Account: a, Want: []access.Entitlement{e}, End: time.Now().Add(time.Hour), Sequence: 1})
		require.NoError(p.t, err)
	}
	owner := []holder{{Account: access.Account{ID: access.AccountID(p.pg.ID, "per-owner"), Integration: p.pg.ID, PersonID: "per-owner", Email: "owner@example.com"}, hold: access.Hold{Entitlement: p.on("part", 0)}}}
	p.grant(owner)
	p.exec("create table kept (id int)", "alter table kept owner to "+owner[0].Name)
	deleted, err := p.target.DeleteAccount(p.t.Context(), integrations.DeleteRequest{Account: owner[0].Account, Sequence: 2})
	require.NoError(p.t, err)
	require.Equal(p.t, access.KeptDisabled, deleted.Outcome)
}

// sweep runs the workflow with the real activities.
func (p *planted) sweep(t *testing.T, a access.SweepArgs) (r access.SweepReport) {
	t.Helper()
	a.Integration = p.pg.ID
	suite := testsuite.WorkflowTestSuite{}
	suite.SetLogger(sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestWorkflowEnvironment()
	env.SetTestTimeout(time.Minute)
	env.SetStartTime(time.Now())
	env.RegisterWorkflowWithOptions(workflows.Sweep, workflow.RegisterOptions{Name: workflows.SweepType})
	for name, f := range map[string]any{workflows.ActSweepStore: p.SweepStore, workflows.ActSweepCompare: p.SweepCompare, workflows.ActPrincipals: p.provision.Accounts,
		workflows.ActVerify: p.provision.Verify, workflows.ActMaintain: p.provision.Maintain, workflows.ActDelete: p.provision.DeleteAccount, workflows.ActClean: p.provision.Clean} {
		env.RegisterActivityWithOptions(f, sdkactivity.RegisterOptions{Name: name})
	}
	env.ExecuteWorkflow(workflows.SweepType, a)
	require.NoError(t, env.GetWorkflowError())
	require.NoError(t, env.GetWorkflowResult(&r))
	return r
}

// catalog is all that the server says of roles, and of what they may and own.
func (p *planted) catalog() []string {
	p.t.Helper()
	const query = `
		select concat_ws(' ', 'role', r.rolname, r.rolcanlogin, r.rolvaliduntil, r.rolsuper, r.rolpassword, shobj_description(r.oid, 'pg_authid')) from pg_authid r
		union all select concat_ws(' ', 'member', m.member::regrole, 'of', m.roleid::regrole, 'by', m.grantor::regrole, to_jsonb(m) - 'oid') from pg_auth_members m
		union all select concat_ws(' ', 'database', datname, acl) from pg_database left join lateral unnest(coalesce(datacl, acldefault('d', datdba))) acl on true
		union all select concat_ws(' ', 'depends', d.dbid, d.classid::regclass, d.objid, d.deptype, d.refobjid::regrole) from pg_shdepend d where d.refclassid = 'pg_authid'::regclass
		order by 1`
	rows, err := p.admin.Query(p.t.Context(), query)
	require.NoError(p.t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(p.t, err)
	return lines
}

// rows are all rows of the store.
func (p *planted) rows() string {
	p.t.Helper()
	db, err := sql.Open(store.Driver, "file:"+p.path+"?mode=ro")
	require.NoError(p.t, err)
	defer db.Close()
	names := func(query string) (out []string) {
		rows, err := db.QueryContext(p.t.Context(), query)
		require.NoError(p.t, err)
		defer rows.Close()
		for rows.Next() {
			var name string
			require.NoError(p.t, rows.Scan(&name))
			out = append(out, name)
		}
		return out
	}
	var out bytes.Buffer
	for _, table := range names(`select name from sqlite_master where type = 'table' order by name`) {
		columns := names(`select '"' || name || '"' from pragma_table_info('` + table + `')`)
		for _, row := range names(`select concat_ws('|', ` + strings.Join(columns, ", ") + `) from "` + table + `" order by 1`) {
			fmt.Fprintln(&out, table, row)
		}
	}
	require.Greater(p.t, out.Len(), 10000)
	return out.String()
}
