package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
)

// many is how many people work while the connector's own password is changed.
const many = 10

// secret is the connector's password of a target, and a test that the target
// takes it.
func (s *system) secret(x *target) string {
	s.t.Helper()
	have, err := login(x.file)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := x.connects(have.Username, have.Password); err != nil {
		s.t.Errorf("the password in %s: %v", x.file, err)
	}
	if x.changing() {
		s.t.Errorf("%s.next is still there", x.file)
	}
	return have.Password
}

// changing reports whether the connector's secret has a next value.
func (x *target) changing() bool {
	_, err := os.Stat(x.file + ".next")
	return err == nil
}

func (s *system) dead(x *target, user string, passwords ...string) {
	s.t.Helper()
	for i, p := range passwords {
		if x.connects(user, p) == nil {
			s.t.Errorf("password %d of %d of %s on %s still works", i+1, len(passwords), user, x.name)
		}
	}
}

// TestRotation changes passwords while they are in use.
func TestRotation(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret.json")
	with := func(f func(*testing.T, *system, *target)) func(*testing.T, *system) {
		return func(t *testing.T, s *system) { f(t, s, s.postgresql(file)) }
	}
	endToEnd(t, []part{
		{"the connector's own, while others work", with(rotatedUnderLoad)},
		{"of an account that is in use", with(rotatedInUse)},
	}, func(yaml string, secret []byte) string {
		yaml = secretInFile(t, yaml, file, secret)
		var people strings.Builder
		for i := range many {
			fmt.Fprintf(&people, "  - {email: p%d@example.com, groups: [analytics]}\n", i)
		}
		return strings.Replace(yaml, "integrations:\n", people.String()+"integrations:\n", 1)
	})
}

// secretInFile has the connector of the PostgreSQL find its secret in a file.
func secretInFile(t *testing.T, yaml, file string, secret []byte) string {
	t.Helper()
	if err := os.WriteFile(file, secret, 0o600); err != nil {
		t.Fatal(err)
	}
	return strings.Replace(yaml, "{store: env, key: LAPSE_E2E_SECRET}", "{store: file, key: "+file+"}", 1)
}

func rotatedUnderLoad(t *testing.T, s *system, pg *target) {
	const rounds = 5
	passwords := []string{s.secret(pg)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.Run("people", func(t *testing.T) {
			for i := range many {
				t.Run(fmt.Sprint(i), func(t *testing.T) {
					t.Parallel()
					on := *s
					on.t = t
					who := fmt.Sprintf("p%d@example.com", i)
					for range rounds {
						r := on.ask(who, "read_only", "5m")
						on.must(dan, "approve", r.ID)
						on.wait(r.ID, access.StateActive, time.Minute)
						on.must(who, "release", r.ID)
						on.wait(r.ID, access.StateEnded, time.Minute)
					}
				})
			}
		})
	}()
	for {
		select {
		case <-done:
			s.dead(pg, "lapse_connector", passwords[:len(passwords)-1]...)
			if len(passwords) < 3 {
				t.Errorf("the password was changed %d times while others worked", len(passwords)-1)
			}
			*s.secrets = append(*s.secrets, passwords...)
			config := filepath.Join(t.TempDir(), "again.yaml")
			if err := os.WriteFile(config, []byte(s.yaml), 0o600); err != nil {
				t.Fatal(err)
			}
			s.must("root@example.com", "apply", "-f", config)
			s.must(dan, "check", "prod-pg")
			return
		default:
			s.must(dan, "rotate", "prod-pg", "--secret")
			passwords = append(passwords, s.secret(pg))
		}
	}
}

func rotatedInUse(t *testing.T, s *system, pg *target) {
	r := s.granted(ana, "read_only", "5m")
	old := s.credentials(ana, r.ID)
	session, err := s.login(old)
	if err != nil {
		t.Fatal(err)
	}
	rotate := func(more ...string) (c access.Credential) {
		s.must(dan, append([]string{"rotate", "prod-pg", "--person", ana}, more...)...)
		s.until(20*time.Second, func() error {
			out, err := s.lapse(ana, "credentials", r.ID)
			if err == nil {
				err = json.Unmarshal([]byte(out), &c)
			}
			return err
		})
		*s.secrets = append(*s.secrets, c.Password)
		return c
	}
	next := rotate()
	s.dead(pg, old.Username, old.Password)
	if _, err := session.Exec(t.Context(), "SELECT 1"); err != nil {
		t.Errorf("a rotation ended a session: %v", err)
	}
	if _, err := s.login(next); err != nil {
		t.Errorf("the new credential: %v", err)
	}
	s.must(ana, "release", r.ID)
	s.wait(r.ID, access.StateEnded, 20*time.Second)
	if r := s.show(r.ID); r.count("account.credential") != 1 {
		t.Errorf("the change is not on record once: %+v", r.Events)
	}
	s.gone(40 * time.Second)

	r = s.granted(ana, "read_only", "5m")
	old = s.credentials(ana, r.ID)
	if session, err = s.login(old); err != nil {
		t.Fatal(err)
	}
	rotate("--exposed")
	if _, err := session.Exec(t.Context(), "SELECT 1"); err == nil {
		t.Error("somebody else has seen the credential, and a session that was opened with it goes on")
	}
	s.must(ana, "release", r.ID)
	s.gone(40 * time.Second)
}
