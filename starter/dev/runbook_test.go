package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/runbook"
)

// opened is what lapse runbook open prints.
type opened struct {
	Verified bool
	runbook.Book
}

func (s *system) open(args ...string) (b opened, err error) {
	s.t.Helper()
	out, err := s.lapse("", append([]string{"runbook", "open"}, args...)...)
	if err == nil {
		err = json.Unmarshal([]byte(out), &b)
	}
	return b, err
}

// lastResort takes all access away by hand while nothing of Lapse runs.
func lastResort(t *testing.T, s *system, m *mysqls) {
	both := s.askBoth("stock")
	s.must(dan, "approve", both.ID)
	s.holds(t, both.ID, map[string]access.State{"prod-pg": access.StateActive, "prod-my": access.StateActive})
	evas := s.ask(eva, "read_write", "5m")
	s.must(dan, "approve", evas.ID)
	s.wait(evas.ID, access.StateActive, 30*time.Second)
	pgs := map[string]access.Credential{ana: s.credentials(ana, both.ID, "--integration", "prod-pg"), eva: s.credentials(eva, evas.ID)}
	my := s.credentials(ana, both.ID, "--integration", "prod-my")
	alive := map[string]func() error{}
	for who, c := range pgs {
		session, err := s.login(c)
		if err != nil {
			t.Fatal(err)
		}
		alive[who+" on prod-pg"] = func() error { _, err := session.Exec(context.Background(), "SELECT 1"); return err }
	}
	conn, err := m.login(my)
	if err != nil {
		t.Fatal(err)
	}
	alive["ana on prod-my"] = func() error { _, err := conn.ExecContext(context.Background(), "SELECT 1"); return err }
	for who, works := range alive {
		if err := works(); err != nil {
			t.Fatalf("%s: %v", who, err)
		}
	}

	data := s.setting("LAPSE_DATA")
	s.until(20*time.Second, func() error {
		b, err := s.open("--data", data)
		held := 0
		for _, in := range b.Integrations {
			for _, p := range in.People {
				held += len(p.Holds)
			}
		}
		if err == nil && held != 3 {
			err = fmt.Errorf("%d holds are in the runbook, want 3", held)
		}
		return err
	})
	if out := s.must("", "health"); strings.Contains(out, `"runbook"`) {
		t.Errorf("the runbook is in order, and health says %s", out)
	}
	newest, err := runbook.Newest(filepath.Join(data, "runbook"))
	if err != nil {
		t.Fatal(err)
	}
	s.kill()
	var written struct{ File string }
	if err := json.Unmarshal([]byte(s.must("", "runbook", "write", "--data", data)), &written); err != nil {
		t.Fatal(err)
	}
	if b, err := s.open(written.File, "--data", data, "--person", eva); err != nil || len(b.Integrations) != 1 || len(b.Integrations[0].People) != 1 {
		t.Errorf("one that was written while Lapse does not run: %+v, %v", b, err)
	}

	// Another machine, with a copy of the file and the two keys.
	there := t.TempDir()
	for _, file := range []string{newest, filepath.Join(data, "keys", "runbook.key"), filepath.Join(data, "keys", "ticket.pub")} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(there, filepath.Base(file)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file, key := filepath.Join(there, filepath.Base(newest)), filepath.Join(there, "runbook.key")
	if b, err := s.open(file, "--key", key, "--data", there); err != nil || b.Verified {
		t.Errorf("nobody can know who wrote it: %t, %v", b.Verified, err)
	}
	b, err := s.open(file, "--key", key, "--verify", filepath.Join(there, "ticket.pub"), "--data", there)
	if err != nil || !b.Verified || b.Head == "" {
		t.Fatalf("opening the runbook: %+v, %v", b, err)
	}
	for range 2 {
		for _, in := range b.Integrations {
			password := map[string]string{"prod-pg": s.server.Password, "prod-my": m.server.Password}[in.Name]
			head, steps := strings.Replace(in.Command, "...", password, 1), ""
			for _, p := range in.People {
				steps += p.Steps
			}
			if in.Language == "sh" {
				head, steps = head+steps, ""
			}
			byHand := exec.CommandContext(t.Context(), "/bin/sh", "-eu", "-c", head)
			byHand.Stdin = strings.NewReader(steps)
			if out, err := byHand.CombinedOutput(); err != nil {
				t.Fatalf("%s by hand: %v: %s", in.Name, err, out)
			}
		}
	}
	for who, works := range alive {
		s.until(10*time.Second, func() error {
			if works() == nil {
				return fmt.Errorf("the session of %s goes on", who)
			}
			return nil
		})
	}
	for who, c := range pgs {
		if _, err := s.login(c); err == nil {
			t.Errorf("%s can log in to prod-pg", who)
		}
	}
	if _, err := m.login(my); err == nil {
		t.Error("ana can log in to prod-my")
	}

	// Lapse is back, and finds that it is gone.
	s.start()
	s.must(ana, "release", both.ID)
	s.must(eva, "release", evas.ID)
	for _, id := range []string{both.ID, evas.ID} {
		for _, h := range s.wait(id, access.StateEnded, 30*time.Second).Holds {
			if h.Evidence.Revoke == nil || h.Evidence.Revoke.Outcome != access.WasGone {
				t.Errorf("%s ended with %+v, want was_gone", h.ID, h.Evidence.Revoke)
			}
		}
	}
	s.gone(30 * time.Second)
}
