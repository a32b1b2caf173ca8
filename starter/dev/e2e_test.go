package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/workflows"
)

var quiet = slog.New(slog.DiscardHandler)

// The end-to-end tests drive the whole of Lapse from outside, as its users, its
// operators and its enemies do. The parts of a test share one system, one after
// the other, and the last searches everything that it left for secrets.

func TestPeople(t *testing.T) {
	endToEnd(t, []part{
		{"the main job", mainJob},
		{"faults of a file", faultsOfAFile},
		{"nobody approves for themselves", selfApproval},
		{"denied, withdrawn, revoked, extended", decisions},
		{"overlapping requests", overlap},
		{"a role that the person had before", roleBefore},
	})
}

func TestAccidents(t *testing.T) {
	endToEnd(t, []part{
		{"killed between approval and grant", killedBeforeGrant},
		{"killed while asleep past the end", killedAsleep},
		{"killed in the middle of a revoke", killedInRevoke},
		{"the database is down at the end", databaseDown},
		{"the integration was removed from the file", integrationRemoved},
	})
}

func TestOperatorsAndEnemies(t *testing.T) {
	endToEnd(t, []part{
		{"operators terminate, cancel and reset", operators},
		{"forged messages", forged},
		{"something with our mark and no row", unknownPrincipal},
		{"given and taken by hand", byHand},
	})
}

// part is one part of an end-to-end test.
type part struct {
	name string
	run  func(*testing.T, *system)
}

func endToEnd(t *testing.T, parts []part, changes ...func(yaml string, secret []byte) string) {
	t.Parallel()
	s := newSystem(t, changes...)
	for _, p := range append(parts, part{"the audit trail", auditTrail}, part{"no secret anywhere", noSecrets}) {
		t.Run(p.name, func(t *testing.T) {
			here := *s
			here.t = t
			p.run(t, &here)
		})
	}
}

// denied is what PostgreSQL says to somebody without a right.
func denied(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Code == "42501"
}

// mainJob is request, approval, grant, sleep, revoke, cleanup.
func mainJob(t *testing.T, s *system) {
	r := s.ask(ana, "read_only", "6s")
	if r.State != access.StatePending {
		t.Fatalf("a new request is %s", r.State)
	}
	if _, err := s.lapse(ana, "credentials", r.ID); err == nil {
		t.Error("there is a credential before the approval")
	}
	s.must(dan, "approve", r.ID, "--reason", "fine")
	r = s.wait(r.ID, access.StateActive, 20*time.Second)
	if _, err := s.lapse(dan, "credentials", r.ID); err == nil {
		t.Error("the approver got the credential")
	}
	c := s.credentials(ana, r.ID)
	if c.Details["custom_access_details"] == "" || !strings.HasPrefix(c.Command, "psql ") || strings.Contains(c.Command, c.Password) {
		t.Errorf("the credential lacks its command or details: %q %v", c.Command, c.Details)
	}
	if _, err := s.lapse(ana, "credentials", r.ID); err == nil {
		t.Error("the credential was shown twice")
	}
	conn, err := s.login(c)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := conn.QueryRow(t.Context(), `select count(*) from public.orders`).Scan(&n); err != nil || n == 0 {
		t.Fatalf("reading: %d, %v", n, err)
	}
	if _, err := conn.Exec(t.Context(), `insert into public.products values (99, 'Spoon', 1)`); !denied(err) {
		t.Errorf("writing with read_only: %v", err)
	}
	_, err = conn.Exec(t.Context(), `select pg_sleep(60)`)
	if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "57P01" {
		t.Errorf("the open session was not ended at the expiry: %v", err)
	}
	if late := time.Since(r.Holds[0].EndsAt); late > 10*time.Second {
		t.Errorf("the session was ended %s late", late)
	}
	if _, err := s.login(c); err == nil {
		t.Error("the login works after the end")
	}
	r = s.wait(r.ID, access.StateEnded, 10*time.Second)
	h := r.Holds[0]
	if h.Evidence.Grant == nil || h.Evidence.Revoke == nil || len(r.Decisions) != 1 || r.Decisions[0].By != dan || r.Decisions[0].Reason != "fine" || h.StartsAt.IsZero() || !h.EndsAt.After(h.StartsAt) {
		t.Errorf("show lacks something: %+v", r)
	}
	s.gone(30 * time.Second)
	s.until(10*time.Second, func() error {
		if r := s.show(r.ID); r.count("account.deleted") != 1 {
			return fmt.Errorf("the deletion is not on record: %+v", r.Events)
		}
		return nil
	})
}

func faultsOfAFile(t *testing.T, s *system) {
	bad := strings.NewReplacer(
		"kind: postgresql", "kind: postgresq",
		"user_cleanup_days: 0.00007", "user_cleanup_day: 0.00007",
		"custom_access_details: \"Use", "custom_access_details: \""+strings.Repeat("x", 400)+"Use",
		"values: [dba]}", "values: [nobody]}",
		"max_duration: 10m", "max_duration: tomorrow",
		"integration: prod-pg, resources: [\"role:*\"]", "integration: prod-gp, resources: [\"role:*\"]",
	).Replace(fmt.Sprintf(configuration, "127.0.0.1", "5432"))
	file := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
		t.Fatal(err)
	}
	before := s.must("root@example.com", "audit", "verify")
	_, err := s.lapse("root@example.com", "apply", "-f", file)
	if err == nil {
		t.Fatal("a file with six faults was applied")
	}
	for _, want := range []string{"kind", "user_cleanup_day", "custom_access_details", "nobody", "max_duration", "prod-gp"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the fault at %s is not named: %v", want, err)
		}
	}
	if n := strings.Count(err.Error(), `"line"`); n < 6 {
		t.Errorf("%d faults with a line, want six: %v", n, err)
	}
	if after := s.must("root@example.com", "audit", "verify"); after != before {
		t.Errorf("a faulty file changed something: %s, before %s", after, before)
	}
}

func selfApproval(t *testing.T, s *system) {
	r := s.ask(eva, "read_only", "5s")
	for _, who := range []string{eva, "eva.admin@example.com", sue} {
		if _, err := s.lapse(who, "approve", r.ID); err == nil {
			t.Errorf("%s approved a request of %s", who, eva)
		}
	}
	if got := s.show(r.ID); got.State != access.StatePending {
		t.Errorf("the request is %s", got.State)
	}
	s.must(eva, "release", r.ID)
	s.wait(r.ID, access.StateEnded, 10*time.Second)
	if _, err := s.lapse(sue, "request", "--integration", "prod-pg", "--resource", "schema:shop/public", "--permission", "read_only", "--for", "1m", "--reason", "x"); err == nil {
		t.Error("somebody whom no flow admits made a request")
	}
	if _, err := s.lapse(ana, "request", "--integration", "prod-pg", "--resource", "schema:shop/public", "--permission", "read_only", "--for", "11m", "--reason", "x"); err == nil {
		t.Error("a request longer than its flow allows was taken")
	}
}

func decisions(t *testing.T, s *system) {
	r := s.ask(ana, "read_only", "1m")
	s.must(dan, "deny", r.ID, "--reason", "not today")
	s.wait(r.ID, access.StateDenied, 10*time.Second)
	if _, err := s.lapse(dan, "approve", r.ID); err == nil {
		t.Error("a denied request was approved")
	}

	r = s.granted(ana, "read_only", "1m")
	s.must(ana, "extend", r.ID, "--by", "2m")
	longer := s.show(r.ID)
	if got := longer.Holds[0].EndsAt.Sub(r.Holds[0].EndsAt); got != 2*time.Minute {
		t.Errorf("extended by %s, want 2m", got)
	}
	if _, err := s.lapse(ana, "extend", r.ID, "--by", "9m"); err == nil {
		t.Error("an extension beyond the flow's maximum was made")
	}
	if _, err := s.lapse(dan, "extend", r.ID, "--by", "1m"); err == nil {
		t.Error("somebody else than the holder extended")
	}
	first := s.credentials(ana, r.ID)
	second := s.credentials(ana, r.ID, "--new")
	if _, err := s.login(first); err == nil {
		t.Error("the old credential works after a new one was made")
	}
	if _, err := s.login(second); err != nil {
		t.Errorf("the new credential: %v", err)
	}
	s.must(dan, "revoke", r.ID, "--reason", "enough")
	s.wait(r.ID, access.StateEnded, 10*time.Second)
	if _, err := s.login(second); err == nil {
		t.Error("the login works after the revoke")
	}

	r = s.granted(ana, "read_only", "1m")
	s.must(ana, "release", r.ID)
	s.wait(r.ID, access.StateEnded, 10*time.Second)
	s.gone(30 * time.Second)
}

// overlap ends two requests on one schema in both orders; a role that the
// person had by hand stays.
func overlap(t *testing.T, s *system) {
	for _, c := range []struct {
		name        string
		first, then string
	}{{"read_only ends first", "read_only", "read_write"}, {"read_write ends first", "read_write", "read_only"}} {
		t.Run(c.name, func(t *testing.T) {
			ends := s.granted(ana, c.first, "1m")
			stays := s.granted(ana, c.then, "1m")
			login := s.credentials(ana, ends.ID)
			s.adminExec(`grant shop_support to "` + login.Username + `"`)
			s.must(ana, "release", ends.ID)
			s.wait(ends.ID, access.StateEnded, 10*time.Second)
			conn, err := s.login(login)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Exec(t.Context(), `select from public.orders limit 1`); err != nil {
				t.Errorf("reading, which the other request holds: %v", err)
			}
			_, err = conn.Exec(t.Context(), `insert into public.products values (99, 'Spoon', 1)`)
			if c.then == "read_write" && err != nil {
				t.Errorf("writing, which the other request holds: %v", err)
			}
			if c.then == "read_only" && !denied(err) {
				t.Errorf("writing after read_write ended: %v", err)
			}
			s.adminExec(`delete from public.products where id = 99`)
			if got := s.admin(`select pg_has_role($1, 'shop_support', 'member')::text`, login.Username); got != "true" {
				t.Error("a role that somebody gave by hand was taken away")
			}
			s.must(ana, "release", stays.ID)
			s.wait(stays.ID, access.StateEnded, 10*time.Second)
			s.gone(30 * time.Second)
		})
	}
}

// roleBefore requests and ends a role that somebody had given by hand.
func roleBefore(t *testing.T, s *system) {
	base := s.granted(ana, "read_only", "2m")
	login := s.credentials(ana, base.ID)
	s.adminExec(`grant shop_support to "` + login.Username + `"`)
	r := s.parse(s.must(ana, "request", "--integration", "prod-pg", "--resource", "role:shop_support", "--permission", "member", "--for", "1m", "--reason", "test"))
	s.must(dan, "approve", r.ID)
	r = s.wait(r.ID, access.StateActive, 20*time.Second)
	if got := r.Holds[0].Evidence.Grant.Outcome; got != access.AlreadyHeld {
		t.Errorf("what the person had already is %s", got)
	}
	s.must(ana, "release", r.ID)
	s.wait(r.ID, access.StateEnded, 10*time.Second)
	if got := s.admin(`select pg_has_role($1, 'shop_support', 'member')::text`, login.Username); got != "true" {
		t.Error("the role that the person had before was taken away")
	}
	s.must(ana, "release", base.ID)
	s.wait(base.ID, access.StateEnded, 10*time.Second)
	s.gone(30 * time.Second)
}

func (s *system) adminExec(statement string) {
	s.t.Helper()
	conn, err := s.superuser()
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(s.t.Context(), statement); err != nil {
		s.t.Fatalf("%s: %v", statement, err)
	}
}

// whole checks what a kill must not change: every hold ends, is granted once,
// and nothing of ours is left.
func (s *system) whole(id string, limit time.Duration) {
	s.t.Helper()
	r := s.wait(id, access.StateEnded, limit)
	if n := r.count("granted"); n != 1 {
		s.t.Errorf("%d granted events, want one: %+v", n, r.Events)
	}
	if n := r.count("ended"); n != 1 {
		s.t.Errorf("%d ended events, want one: %+v", n, r.Events)
	}
	s.gone(40 * time.Second)
}

func killedBeforeGrant(t *testing.T, s *system) {
	r := s.ask(ana, "read_only", "5s")
	s.proxy.Mute()
	s.must(dan, "approve", r.ID)
	s.wait(r.ID, access.StateApproved, 10*time.Second)
	s.kill()
	s.proxy.Heal()
	s.start()
	s.wait(r.ID, access.StateActive, 40*time.Second)
	s.whole(r.ID, 40*time.Second)
}

func killedAsleep(t *testing.T, s *system) {
	r := s.granted(ana, "read_only", "6s")
	c := s.credentials(ana, r.ID)
	s.kill()
	time.Sleep(time.Until(r.Holds[0].EndsAt) + 2*time.Second)
	s.start()
	s.whole(r.ID, 30*time.Second)
	if _, err := s.login(c); err == nil {
		t.Error("the login works after the end")
	}
}

func killedInRevoke(t *testing.T, s *system) {
	r := s.granted(ana, "read_write", "6s")
	s.proxy.Heal()
	time.Sleep(time.Until(r.Holds[0].EndsAt) - 500*time.Millisecond)
	s.proxy.Delay(150 * time.Millisecond)
	s.until(15*time.Second, func() error {
		if s.proxy.Turns() < 8 {
			return fmt.Errorf("the revoke has not begun")
		}
		return nil
	})
	s.kill()
	s.proxy.Heal()
	s.start()
	s.whole(r.ID, 40*time.Second)
}

func operators(t *testing.T, s *system) {
	temporal := s.temporal()
	other := s.granted(eva, "read_only", "9m")
	for _, c := range []struct {
		name string
		act  func(ctx context.Context, r shown, account string) error
	}{
		{"the request is terminated", func(ctx context.Context, r shown, _ string) error {
			return temporal.TerminateWorkflow(ctx, workflows.RequestID(r.ID), "", "an operator")
		}},
		{"the request is cancelled", func(ctx context.Context, r shown, _ string) error {
			return temporal.CancelWorkflow(ctx, workflows.RequestID(r.ID), "")
		}},
		{"the request is reset to its start", func(ctx context.Context, r shown, _ string) error {
			return s.reset(ctx, temporal, workflows.RequestID(r.ID))
		}},
		{"the account is terminated", func(ctx context.Context, _ shown, account string) error {
			return temporal.TerminateWorkflow(ctx, account, "", "an operator")
		}},
		{"both are terminated", func(ctx context.Context, r shown, account string) error {
			return errors.Join(temporal.TerminateWorkflow(ctx, workflows.RequestID(r.ID), "", "an operator"), temporal.TerminateWorkflow(ctx, account, "", "an operator"))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := s.granted(ana, "read_only", "8s")
			login := s.credentials(ana, r.ID)
			if err := c.act(t.Context(), r, s.accountOf(r)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Until(r.Holds[0].EndsAt))
			s.must(dan, "sweep", "prod-pg")
			r = s.wait(r.ID, access.StateEnded, 15*time.Second)
			if _, err := s.login(login); err == nil {
				t.Error("the login works after the end")
			}
			if n := r.count("granted"); n != 1 {
				t.Errorf("granted %d times", n)
			}
		})
	}
	if got := s.show(other.ID); got.State != access.StateActive {
		t.Errorf("the other request is %s", got.State)
	}
	login := s.credentials(eva, other.ID)
	if _, err := s.login(login); err != nil {
		t.Errorf("the other person's login: %v", err)
	}
	s.must(eva, "release", other.ID)
	s.wait(other.ID, access.StateEnded, 10*time.Second)
	s.gone(40 * time.Second)
}

// accountOf finds the workflow id of a request's account.
func (s *system) accountOf(r shown) string {
	s.t.Helper()
	return workflows.AccountID(s.brief(r).Holds[0].AccountID)
}

// reset has a workflow begin again after its first task.
func (s *system) reset(ctx context.Context, c client.Client, id string) error {
	history := c.GetWorkflowHistory(ctx, id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for history.HasNext() {
		e, err := history.Next()
		if err != nil {
			return err
		}
		if e.EventType == enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED {
			_, err := c.ResetWorkflowExecution(ctx, &workflowservice.ResetWorkflowExecutionRequest{
				Namespace: namespace, WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: id}, Reason: "an operator", WorkflowTaskFinishEventId: e.EventId, RequestId: access.NewID("reset"),
			})
			return err
		}
	}
	return errors.New("no workflow task was completed yet")
}

// forged sends, through Temporal's own API, what only Lapse may send.
func forged(t *testing.T, s *system) {
	temporal := s.temporal()
	r := s.ask(ana, "read_write", "1m")
	person := s.brief(r).Request
	_, stranger, _ := ed25519.GenerateKey(nil)
	approve := access.Decision{RequestID: r.ID, AskHash: person.Hash(), Verdict: access.Approve, By: person.PersonID, ByEmail: dan, Nonce: "forged-1", At: time.Now().UTC(), Signature: []byte("x")}
	handle, err := temporal.UpdateWorkflow(t.Context(), client.UpdateWorkflowOptions{WorkflowID: workflows.RequestID(r.ID), UpdateName: workflows.UpdateDecide, Args: []any{approve}, WaitForStage: client.WorkflowUpdateStageCompleted})
	if err != nil {
		t.Fatal(err)
	}
	if err := handle.Get(t.Context(), nil); err == nil {
		t.Error("an unsigned decision was taken")
	}
	approve.Nonce = "forged-2"
	if err := temporal.SignalWorkflow(t.Context(), workflows.RequestID(r.ID), "", workflows.SignalDecide, approve.Sign(stranger)); err != nil {
		t.Fatal(err)
	}
	account := s.brief(r).Holds[0].AccountID
	op := workflows.Op{ID: "forged", RequestID: r.ID, HoldIDs: []string{s.brief(r).Holds[0].ID}, Want: []access.Entitlement{person.Asked[0].Entitlement}}
	start := temporal.NewWithStartWorkflowOperation(client.StartWorkflowOptions{ID: workflows.AccountID(account), TaskQueue: workflows.Queue, WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING},
		workflows.AccountType, workflows.AccountInput{AccountID: account})
	if _, err := temporal.UpdateWithStartWorkflow(t.Context(), client.UpdateWithStartWorkflowOptions{StartWorkflowOperation: start,
		UpdateOptions: client.UpdateWorkflowOptions{WorkflowID: workflows.AccountID(account), UpdateName: workflows.UpdateHold, Args: []any{op}, WaitForStage: client.WorkflowUpdateStageCompleted}}); err != nil {
		t.Fatal(err)
	}
	run, err := temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "request/forged", TaskQueue: workflows.Queue}, workflows.RequestType, workflows.RequestInput{RequestID: "req-forged"})
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Get(t.Context(), nil); err == nil {
		t.Error("a forged request's workflow ended well")
	}
	s.until(15*time.Second, func() error {
		events := s.must("root@example.com", "audit", "events", "--limit", "1000")
		for kind, want := range map[string]int{"decision.refused": 2, "ticket.refused": 1, "request.refused": 1} {
			if n := strings.Count(events, `"`+kind+`"`); n < want {
				return fmt.Errorf("%d events %s, want %d", n, kind, want)
			}
		}
		return nil
	})
	if left := s.ours(); left != "" {
		t.Errorf("forged messages made %s", left)
	}
	// What was refused does not spoil the real thing.
	if got := s.show(r.ID); got.State != access.StatePending {
		t.Errorf("the request is %s", got.State)
	}
	s.must(ana, "release", r.ID)
}

// brief is what a request's workflow knows.
func (s *system) brief(r shown) (b access.RequestBrief) {
	s.t.Helper()
	s.until(10*time.Second, func() error {
		run, err := s.temporal().QueryWorkflow(s.t.Context(), workflows.RequestID(r.ID), "", workflows.QueryState)
		if err == nil {
			err = run.Get(&b)
		}
		if err == nil && len(b.Holds) == 0 {
			err = errors.New("the workflow has not read its request yet")
		}
		return err
	})
	return b
}

func databaseDown(t *testing.T, s *system) {
	r := s.granted(ana, "read_only", "4s")
	if err := s.server.Stop(); err != nil {
		t.Fatal(err)
	}
	r = s.wait(r.ID, access.StateOverdue, 30*time.Second)
	if r.Holds[0].OverdueSeconds < 5 {
		t.Errorf("overdue for %d seconds", r.Holds[0].OverdueSeconds)
	}
	time.Sleep(10 * time.Second)
	if err := s.server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.wait(r.ID, access.StateEnded, 15*time.Second)
	s.gone(30 * time.Second)
}

// integrationRemoved starts with a file that does not name the integration any
// more: what is held on it ends all the same.
func integrationRemoved(t *testing.T, s *system) {
	r := s.granted(ana, "read_only", "8s")
	file := s.args[1]
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	people, _, _ := strings.Cut(string(whole), "integrations:")
	restart := func(content string) {
		s.kill()
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		s.start()
	}
	restart(people)
	s.whole(r.ID, 40*time.Second)
	restart(string(whole))
}

// unknownPrincipal plants an account of ours that no row knows: it is
// reported, and removed only on repair.
func unknownPrincipal(t *testing.T, s *system) {
	r := s.granted(ana, "read_only", "1m")
	login := s.credentials(ana, r.ID)
	mark := s.admin(`select shobj_description(oid, 'pg_authid') from pg_roles where rolname = $1`, login.Username)
	s.must(ana, "release", r.ID)
	s.wait(r.ID, access.StateEnded, 10*time.Second)
	s.gone(30 * time.Second)
	id := s.brief(r).Holds[0].AccountID
	_, person, _ := strings.Cut(id, "/")
	s.adminExec(`create role lapse_lost_1234abcd login; grant lapse_lost_1234abcd to lapse_connector with admin option; comment on role lapse_lost_1234abcd is '` + strings.ReplaceAll(mark, person, "per-lost") + `'`)
	if report := s.must(dan, "sweep", "prod-pg"); !strings.Contains(report, "lapse_lost_1234abcd") {
		t.Errorf("not reported: %s", report)
	}
	if left := s.ours(); left != "lapse_lost_1234abcd" {
		t.Errorf("a sweep that only looks changed something: %q", left)
	}
	report := s.must(dan, "sweep", "prod-pg", "--repair")
	if left := s.ours(); left != "" {
		t.Errorf("left after the repair: %s\n%s", left, report)
	}
}

func auditTrail(t *testing.T, s *system) {
	report := s.must("root@example.com", "audit", "verify")
	if !strings.Contains(report, `"head"`) {
		t.Errorf("no head: %s", report)
	}
	if _, err := s.lapse(ana, "audit", "verify"); err == nil {
		t.Error("somebody who is no administrator read the audit trail")
	}
}

// noSecrets searches every file and every decoded payload for the passwords of
// this run, and shows that it would have found a planted one.
func noSecrets(t *testing.T, s *system) {
	const planted = "planted-secret-0451"
	data := s.setting("LAPSE_DATA")
	if err := os.WriteFile(filepath.Join(data, "planted"), []byte("x"+planted+"x"), 0o600); err != nil {
		t.Fatal(err)
	}
	histories := s.histories()
	files := map[string][]byte{"histories": histories, "output": s.output.Bytes()}
	err := filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files[path], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	find := func(secret string) (in []string) {
		for name, content := range files {
			for _, form := range forms(secret) {
				if bytes.Contains(content, form) {
					in = append(in, name)
				}
			}
		}
		return in
	}
	for _, secret := range *s.secrets {
		if in := find(secret); len(in) > 0 {
			t.Errorf("a secret stands in %v", in)
		}
	}
	if len(find(planted)) == 0 {
		t.Error("the search does not find what was planted")
	}
	if !bytes.Contains(histories, []byte("schema:shop/public")) {
		t.Error("the payloads were not decoded")
	}
	raw, _ := os.ReadFile(filepath.Join(data, "temporal.db"))
	if bytes.Contains(raw, []byte("schema:shop/public")) || bytes.Contains(raw, []byte(ana)) {
		t.Error("a payload stands unencrypted in Temporal's file")
	}
}

// forms are the ways in which a secret could have been written.
func forms(secret string) [][]byte {
	out := [][]byte{[]byte(secret)}
	for pad := range 3 { // base64 of it at each of the three offsets
		enc := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", pad) + secret))
		out = append(out, []byte(enc[4:len(enc)-4]))
	}
	return out
}
