package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/engine"
	"github.com/lapse-access/lapse/portal/api"
	"github.com/lapse-access/lapse/workflows"
)

// TestAutomatic binds an automatic flow to a group, on a real PostgreSQL.
func TestAutomatic(t *testing.T) {
	endToEnd(t, []part{
		{"in the group, and out of it, over a restart", inAndOut},
		{"killed between the change and the revoke", outAndKilled},
		{"revoked by hand", notAgain},
		{"a lease follows another", handedOver},
	}, func(yaml string, _ []byte) string {
		return yaml + `  - name: readers
    trigger: automatic
    requesters: {any: [{attribute: group, operator: is, values: [readers]}]}
    targets: [{integration: prod-pg, resources: ["schema:shop/public"], permissions: [read_only]}]
    max_duration: 1h
`
	})
}

// reapplied writes the file with which Lapse starts, with one text in the place of
// another, and applies it.
func (s *system) reapplied(old, now string) {
	s.t.Helper()
	file := s.args[1]
	yaml, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	if !strings.Contains(string(yaml), old) {
		s.t.Fatalf("there is no %s in %s", old, yaml)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(yaml), old, now, 1)), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.must(root, "apply", "-f", file)
}

const anaOut, anaIn = `{email: ana@example.com, groups: [analytics]}`, `{email: ana@example.com, groups: [analytics, readers]}`

// looked waits until the automatic flows were looked at.
func (s *system) looked() {
	s.t.Helper()
	c := s.temporal()
	if err := engine.StartAutomatic(s.t.Context(), c); err != nil {
		s.t.Fatal(err)
	}
	if err := c.GetWorkflow(s.t.Context(), workflows.AutomaticID, "").Get(s.t.Context(), nil); err != nil {
		s.t.Fatal(err)
	}
}

// leases are the requests that came by the flow, newest first.
func (s *system) leases() []api.Request {
	s.t.Helper()
	var list api.Requests
	if err := json.Unmarshal([]byte(s.must(root, "requests", "--person", ana)), &list); err != nil {
		s.t.Fatal(err)
	}
	return slices.DeleteFunc(list.Requests, func(r api.Request) bool { return r.Flow != "readers" })
}

// given waits until Ana has it by the flow, by a request other than these.
func (s *system) given(but ...string) (r shown) {
	s.t.Helper()
	s.until(30*time.Second, func() error {
		list := s.leases()
		i := slices.IndexFunc(list, func(r api.Request) bool { return r.State == access.StateActive && !slices.Contains(but, r.ID) })
		if i < 0 {
			return fmt.Errorf("she does not have it: %+v", list)
		}
		r = s.show(list[i].ID)
		return nil
	})
	return r
}

func inAndOut(t *testing.T, s *system) {
	s.looked()
	if list := s.leases(); len(list) > 0 {
		t.Fatalf("she is not in the group, and has %+v", list)
	}
	s.reapplied(anaOut, anaIn)
	r := s.given()
	if len(r.Decisions) > 0 {
		t.Errorf("somebody decided on it: %+v", r.Decisions)
	}
	login := s.credentials(ana, r.ID)
	session, err := s.login(login)
	if err != nil {
		t.Fatal(err)
	}
	says := s.must(ana, "explain", "--want", "prod-pg/schema:shop/public=read_only", "--for", "1m")
	if !strings.Contains(says, "the automatic access flow readers gives it") {
		t.Errorf("it is not explained: %s", says)
	}

	s.kill()
	s.start()
	s.looked()
	if _, err := session.Exec(t.Context(), "select 1"); err != nil {
		t.Errorf("her session after a restart: %v", err)
	}
	if list := s.leases(); len(list) != 1 {
		t.Errorf("after a restart she has it %d times: %+v", len(list), list)
	}

	s.reapplied(anaIn, anaOut)
	r = s.wait(r.ID, access.StateEnded, 20*time.Second)
	if _, err := session.Exec(t.Context(), "select 1"); err == nil {
		t.Error("her session outlived it")
	}
	if _, err := s.login(login); err == nil {
		t.Error("the login works after it")
	}
	if !slices.ContainsFunc(r.Events, func(e struct{ Kind, Text string }) bool {
		return e.Kind == "automatic.ended" && strings.Contains(e.Text, "it wants group is readers, and there is group analytics")
	}) {
		t.Errorf("the record does not say why: %+v", r.Events)
	}
	s.looked()
	if list := s.leases(); len(list) != 1 {
		t.Errorf("it was given again: %+v", list)
	}
}

func outAndKilled(t *testing.T, s *system) {
	before := s.leases()[0].ID
	s.reapplied(anaOut, anaIn)
	r := s.given(before)
	login := s.credentials(ana, r.ID)
	session, err := s.login(login)
	if err != nil {
		t.Fatal(err)
	}
	s.proxy.Mute()
	s.reapplied(anaIn, anaOut)
	s.kill()
	s.proxy.Heal()
	if _, err := session.Exec(t.Context(), "select 1"); err != nil {
		t.Fatalf("it ended before the kill: %v", err)
	}
	s.start()
	s.wait(r.ID, access.StateEnded, 30*time.Second)
	if _, err := session.Exec(t.Context(), "select 1"); err == nil {
		t.Error("her session outlived it")
	}
	if _, err := s.login(login); err == nil {
		t.Error("the login works after it")
	}
}

func notAgain(t *testing.T, s *system) {
	before := s.leases()[0].ID
	s.reapplied(anaOut, anaIn)
	r := s.given(before)
	s.must(dan, "revoke", r.ID, "--reason", "not today")
	s.wait(r.ID, access.StateEnded, 20*time.Second)
	n := len(s.leases())
	for range 2 {
		s.looked()
	}
	if list := s.leases(); len(list) != n {
		t.Errorf("it was given again: %+v", list[0])
	}
	s.reapplied(anaIn, anaOut)
	s.looked()
	s.reapplied(anaOut, anaIn)
	again := s.given(r.ID)
	s.must(ana, "release", again.ID)
	s.wait(again.ID, access.StateEnded, 20*time.Second)
	s.looked()
	if list := s.leases(); len(list) != n+1 {
		t.Errorf("what she gave back was given again: %+v", list[0])
	}
	s.reapplied(anaIn, anaOut)
	s.looked()
}

func handedOver(t *testing.T, s *system) {
	s.reapplied("max_duration: 1h\n", "max_duration: 14s\n")
	s.reapplied(anaOut, anaIn)
	first := s.given()
	session, err := s.login(s.credentials(ana, first.ID))
	if err != nil {
		t.Fatal(err)
	}
	second := s.given(first.ID)
	if ends := first.Holds[0].EndsAt; !second.Holds[0].StartsAt.Before(ends) {
		t.Errorf("it was given again at %s, after it had ended at %s", second.Holds[0].StartsAt, ends)
	}
	s.wait(first.ID, access.StateEnded, 20*time.Second)
	if _, err := session.Exec(t.Context(), "select from public.orders limit 1"); err != nil {
		t.Errorf("her session ended with the lease before: %v", err)
	}
	s.reapplied("trigger: automatic", "trigger: self_serve\n    approval: {steps: [{any_of: [integration_owner]}]}")
	s.until(20*time.Second, func() error {
		if list := s.leases(); slices.ContainsFunc(list, func(r api.Request) bool { return !r.State.Final() }) {
			return fmt.Errorf("the flow is not automatic any more, and gives %+v", list)
		}
		return nil
	})
	if _, err := session.Exec(t.Context(), "select 1"); err == nil {
		t.Error("her session outlived the flow")
	}
}
