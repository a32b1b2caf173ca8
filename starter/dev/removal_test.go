package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/portal/api"
	"github.com/lapse-access/lapse/workflows"
)

const root = "root@example.com"

// TestRemoval removes an integration on which people have access.
func TestRemoval(t *testing.T) {
	endToEnd(t, []part{
		{"from a database that does not answer, and taken back", removedDown},
		{"with an account that owns a table", removedForGood},
		{"from a database that is gone for good", removedDead},
	})
}

func (s *system) removal(out string) (r api.Removal) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	return r
}

// left waits until a removal waits for somebody to do something about these
// sorts of things.
func (s *system) left(limit time.Duration, want ...access.LeftKind) (r api.Removal) {
	s.t.Helper()
	s.until(limit, func() error {
		r = s.removal(s.must(root, "remove", "prod-pg", "--dry-run"))
		var have []access.LeftKind
		for _, l := range r.Left {
			have = append(have, l.Kind)
		}
		if r.State != "left" || !slices.Equal(have, want) {
			return fmt.Errorf("the removal is %s, left is %v, want %v: %+v", r.State, have, want, r)
		}
		return nil
	})
	return r
}

// leaveOut takes the integration out of the file with which Lapse starts, and
// returns what stood there.
func (s *system) leaveOut() (whole []byte) {
	s.t.Helper()
	file := s.args[1]
	whole, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	people, _, _ := strings.Cut(string(whole), "integrations:")
	if err := os.WriteFile(file, []byte(people), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return whole
}

func removedDown(t *testing.T, s *system) {
	r := s.granted(ana, "read_only", "5m")
	if err := s.server.Stop(); err != nil {
		t.Fatal(err)
	}
	s.must(root, "remove", "prod-pg", "--reason", "it moves")
	s.wait(r.ID, access.StateOverdue, 30*time.Second)
	if now := s.removal(s.must(root, "remove", "prod-pg", "--dry-run")); now.State != "running" || len(now.Open) != 2 {
		t.Errorf("how it stands: %+v", now)
	}
	s.must(root, "remove", "prod-pg", "--cancel", "--reason", "it stays")
	if err := s.server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.wait(r.ID, access.StateEnded, 30*time.Second) // that stays
	s.gone(40 * time.Second)
	again := s.granted(ana, "read_only", "5m")
	s.must(ana, "release", again.ID)
	s.gone(40 * time.Second)
}

func removedForGood(t *testing.T, s *system) {
	anas, evas := s.granted(ana, "read_only", "5m"), s.ask(eva, "read_write", "5m")
	s.must(dan, "approve", evas.ID)
	s.wait(evas.ID, access.StateActive, 30*time.Second)
	login, owner := s.credentials(ana, anas.ID), s.credentials(eva, evas.ID)
	session, err := s.login(login)
	if err != nil {
		t.Fatal(err)
	}
	s.adminExec("create table public.hers (); alter table public.hers owner to " + owner.Username)
	waiting := s.ask(ana, "read_write", "1m")
	temporal := s.temporal()
	integration, _, _ := strings.Cut(s.brief(anas).Holds[0].AccountID, "/")

	if before := s.removal(s.must(root, "remove", "prod-pg", "--dry-run")); before.State != "none" || len(before.Open) != 4 {
		t.Errorf("before it: %+v", before)
	}
	if _, err := s.lapse(dan, "remove", "prod-pg", "--reason", "not mine"); err == nil {
		t.Error("an owner who is no administrator removes the integration")
	}
	s.must(root, "remove", "prod-pg", "--reason", "it moves")
	s.kill()
	s.start()
	s.must(root, "remove", "prod-pg") // says how it stands
	for _, args := range [][]string{{"request", "--want", "prod-pg/schema:shop/public=read_only", "--for", "1m", "--reason", "test"}, {"credentials", anas.ID, "--new"}, {"extend", anas.ID, "--by", "1m"}} {
		if _, err := s.lapse(ana, args...); err == nil || !strings.Contains(err.Error(), "is being removed by "+root+": it moves") {
			t.Errorf("lapse %s: %v", args[0], err)
		}
	}
	if _, err := s.lapse(dan, "approve", waiting.ID); err == nil || !strings.Contains(err.Error(), "is being removed") {
		t.Errorf("it can still be approved: %v", err)
	}
	s.must(ana, "release", waiting.ID)
	for _, r := range []shown{anas, evas} {
		s.wait(r.ID, access.StateEnded, 40*time.Second)
	}
	if _, err := session.Exec(t.Context(), "SELECT 1"); err == nil {
		t.Error("a session outlived the removal")
	}
	now := s.left(60*time.Second, access.LeftPrincipal, access.LeftConfigured)
	if !strings.Contains(now.Left[0].Text, "hers") || !strings.Contains(now.Left[0].Text, eva) {
		t.Errorf("it does not say what is left: %+v", now.Left)
	}
	kept := now.Left[0].Subject
	if left := s.ours(); left != kept {
		t.Errorf("left on the database: %q, and it says %q", left, kept)
	}
	if roles := s.admin(`select coalesce(string_agg(rolname, ' '), '') from pg_roles where rolname like 'lapse\_e\_%'`); roles != "" {
		t.Errorf("roles of entitlements are left: %s", roles)
	}
	if _, err := s.lapse(root, "remove", "prod-pg", "--wait"); err == nil || !strings.Contains(err.Error(), "hers") {
		t.Errorf("it waits for somebody, and does not say so: %v", err)
	}

	whole := s.leaveOut()
	s.kill() // and starts with the file in which it is not any more
	s.start()
	s.left(60*time.Second, access.LeftPrincipal)
	done := s.removal(s.must(root, "remove", "prod-pg", "--accept-left", "--reason", "her table stays until May", "--wait"))
	if done.State != "forgotten" || done.AcceptedBy != root || len(done.Left) != 1 {
		t.Errorf("the end of it: %+v", done)
	}
	var report access.RemovalReport
	if err := temporal.GetWorkflow(t.Context(), workflows.RemovalID(integration), "").Get(t.Context(), &report); err != nil || report.Over != access.RemovalForgotten || len(report.Left) != 1 {
		t.Errorf("its workflow says %+v, %v", report, err)
	}
	if _, err := temporal.ScheduleClient().GetHandle(t.Context(), workflows.SweepID(integration)).Describe(t.Context()); err == nil {
		t.Error("it is still swept")
	}
	if _, err := s.lapse(root, "remove", "prod-pg", "--cancel"); err == nil || !strings.Contains(err.Error(), "was removed") {
		t.Errorf("what is forgotten was taken back: %v", err)
	}
	if h := s.show(anas.ID).Holds[0]; h.Integration != "prod-pg" || h.State != access.StateEnded {
		t.Errorf("its request does not know it any more: %+v", h)
	}
	events := s.must(root, "audit", "events", "--limit", "1000")
	for _, kind := range []string{"integration.removal", "integration.left", "integration.left_accepted", "integration.forgotten", "account.cleanup"} {
		if !strings.Contains(events, `"`+kind+`"`) {
			t.Errorf("%s is not on record", kind)
		}
	}

	// The name is another's then, with another id.
	file := s.args[1]
	if err := os.WriteFile(file, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	s.adminExec("drop table public.hers; drop role " + kept)
	s.must(root, "apply", "-f", file)
	s.must(dan, "discover", "prod-pg")
	fresh := s.granted(ana, "read_only", "5m")
	if now, _, _ := strings.Cut(s.brief(fresh).Holds[0].AccountID, "/"); now == integration {
		t.Error("it has the id of the one that was forgotten")
	}
	s.must(ana, "release", fresh.ID)
	s.wait(fresh.ID, access.StateEnded, 30*time.Second)
}

// removedDead has somebody accept that nobody will ever prove what is gone.
func removedDead(t *testing.T, s *system) {
	r := s.granted(ana, "read_only", "5m")
	account := s.accountOf(r)
	if err := s.server.Stop(); err != nil {
		t.Fatal(err)
	}
	s.leaveOut()
	s.must(root, "apply", "-f", s.args[1])
	s.must(root, "remove", "prod-pg", "--reason", "it burned down")
	s.left(100*time.Second, access.LeftHold, access.LeftAccount, access.LeftTarget)
	s.must(root, "remove", "prod-pg", "--accept-left", "--reason", "nobody will ever log in there", "--wait")
	r = s.wait(r.ID, access.StateFailed, 20*time.Second)
	if !strings.Contains(r.Holds[0].Error, "not proven gone") || !strings.Contains(r.Holds[0].Error, "nobody will ever log in there") {
		t.Errorf("it does not say how it ended: %+v", r.Holds[0])
	}
	for _, id := range []string{account, workflows.RequestID(r.ID)} {
		s.until(20*time.Second, func() error {
			d, err := s.temporal().DescribeWorkflowExecution(t.Context(), id, "")
			if err == nil && d.WorkflowExecutionInfo.Status == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
				err = fmt.Errorf("%s goes on", id)
			}
			return err
		})
	}
}
