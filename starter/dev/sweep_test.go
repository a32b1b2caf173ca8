package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/portal/api"
)

// swept runs a sweep and returns its findings of a sort.
func (s *system) swept(kind access.FindingKind, args ...string) []access.Finding {
	s.t.Helper()
	var out api.Sweep
	if err := json.Unmarshal([]byte(s.must(dan, append([]string{"sweep", "prod-pg"}, args...)...)), &out); err != nil {
		s.t.Fatal(err)
	}
	return slices.DeleteFunc(out.Findings, func(f access.Finding) bool { return f.Kind != kind })
}

// sweepPages is a dry run, a sweep and a repair by keyboard and mouse.
func sweepPages(t *testing.T, s *system) {
	r := s.granted(ana, "read_only", "5m")
	login := s.credentials(ana, r.ID)
	b := s.browser()
	b.signIn(dan)
	b.click(`a[href="/sweep"]`)
	b.says("Where a system is not as Lapse left it")
	b.picture("sweeps")
	b.click(`a[href="/sweep/prod-pg"]`)
	b.says("Last sweep")
	s.adminExec(`set role lapse_connector; revoke ` + s.admin(`select roleid::regrole::text from pg_auth_members where member = $1::regrole`, `"`+login.Username+`"`) + ` from "` + login.Username + `"`)
	b.tabTo(`button[value="dry-run"]`)
	b.press("\r")
	b.says("A dry run: nothing was changed")
	b.says("Missing: 1")
	b.says(login.Username)
	b.picture("sweep")
	b.click(`button[value="sweep"]`)
	b.says("Found: ")
	b.click(`section[aria-labelledby="missing"] button[value="repair"]`)
	b.says("Missing: 1") // the browser wants the box to be ticked first
	b.click(`section[aria-labelledby="missing"] input[name="sure"]`)
	b.click(`section[aria-labelledby="missing"] button[value="repair"]`)
	b.says("Repaired, or under way: 1")
	s.wait(r.ID, access.StateEnded, 20*time.Second)
	b.signIn(ana)
	b.open("/sweep")
	b.says("Only administrators and the owners of an integration may see this")
	s.gone(30 * time.Second)
}

// byHand gives and takes on the target what is Lapse's to give and take: it is
// reported, and repaired through the account where somebody asks for it.
func byHand(t *testing.T, s *system) {
	reader, writer := s.granted(ana, "read_only", "5m"), s.granted(eva, "read_write", "5m")
	login, other := s.credentials(ana, reader.ID), s.credentials(eva, writer.ID)
	role := func(name string) string {
		return s.admin(`select roleid::regrole::text from pg_auth_members where member = $1::regrole`, `"`+name+`"`)
	}
	read, write := role(login.Username), role(other.Username)
	has := func(role string) string {
		return s.admin(`select pg_has_role($1, $2, 'member')::text`, login.Username, role)
	}

	s.adminExec(`set role lapse_connector; grant ` + write + ` to "` + login.Username + `"`)
	for _, args := range [][]string{{"--dry-run"}, nil} {
		// A sweep says nothing of an account of which something has just ended.
		s.until(20*time.Second, func() error {
			if len(s.swept(access.FindingUnexpected, args...)) == 0 {
				return fmt.Errorf("nothing is reported")
			}
			return nil
		})
		if found := s.swept(access.FindingUnexpected, args...); len(found) != 1 || found[0].Subject != login.Username || !strings.HasSuffix(found[0].About, "=read_write") || found[0].Repaired != "" {
			t.Errorf("given by hand, sweep %v: %+v", args, found)
		}
	}
	if has(write) != "true" {
		t.Error("a sweep that only looks took something away")
	}
	s.swept(access.FindingUnexpected, "--only", "unexpected")
	s.until(20*time.Second, func() error {
		if has(write) == "true" {
			return fmt.Errorf("%s still has %s", login.Username, write)
		}
		return nil
	})
	conn, err := s.login(login)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `select from public.orders limit 1`); err != nil {
		t.Errorf("what is held was taken away too: %v", err)
	}
	if left := s.swept(access.FindingUnexpected); len(left) > 0 {
		t.Errorf("after the repair: %+v", left)
	}

	s.adminExec(`set role lapse_connector; revoke ` + read + ` from "` + login.Username + `"`)
	if found := s.swept(access.FindingMissing, "--dry-run"); len(found) != 1 || found[0].Subject != login.Username {
		t.Errorf("taken by hand: %+v", found)
	}
	if r := s.show(reader.ID); r.State != access.StateActive {
		t.Errorf("a dry run ended a hold: %s", r.State)
	}
	s.swept(access.FindingMissing, "--repair")
	s.wait(reader.ID, access.StateEnded, 20*time.Second)
	if r := s.show(writer.ID); r.State != access.StateActive {
		t.Errorf("the repair touched somebody else's access: %s", r.State)
	}
	s.must(eva, "release", writer.ID)
	s.wait(writer.ID, access.StateEnded, 20*time.Second)
	s.gone(30 * time.Second)
}
