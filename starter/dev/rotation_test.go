package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/localpg"
)

// many is how many people work while the connector's own password is changed.
const many = 10

// secret is what stands in the secret's file, and a test that the target takes
// it.
func (s *system) secret(file string) (password string) {
	s.t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	var secret struct{ Username, Password string }
	if err := json.Unmarshal(text, &secret); err != nil {
		s.t.Fatal(err)
	}
	if err := s.connects(secret.Username, secret.Password); err != nil {
		s.t.Errorf("the password in %s: %v", file, err)
	}
	if _, err := os.Stat(file + ".next"); err == nil {
		s.t.Errorf("%s.next is still there", file)
	}
	return secret.Password
}

func (s *system) connects(user, password string) error {
	cfg, err := pgx.ParseConfig("sslmode=require dbname=postgres")
	if err != nil {
		return err
	}
	cfg.Host, cfg.Port, cfg.User, cfg.Password = localpg.Host, uint16(s.server.Port), user, password
	conn, err := pgx.ConnectConfig(s.t.Context(), cfg)
	if err != nil {
		return err
	}
	return conn.Close(s.t.Context())
}

func (s *system) dead(user string, passwords ...string) {
	s.t.Helper()
	for i, p := range passwords {
		if s.connects(user, p) == nil {
			s.t.Errorf("password %d of %d of %s still works", i+1, len(passwords), user)
		}
	}
}

// TestRotation changes passwords while they are in use.
func TestRotation(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret.json")
	with := func(f func(*testing.T, *system, string)) func(*testing.T, *system) {
		return func(t *testing.T, s *system) { f(t, s, file) }
	}
	endToEnd(t, []part{
		{"the connector's own, while others work", with(rotatedUnderLoad)},
		{"of an account that is in use", rotatedInUse},
		{"killed at any moment", with(rotatedAndKilled)},
	}, func(yaml string, secret []byte) string {
		if err := os.WriteFile(file, secret, 0o600); err != nil {
			t.Fatal(err)
		}
		var people strings.Builder
		for i := range many {
			fmt.Fprintf(&people, "  - {email: p%d@example.com, groups: [analytics]}\n", i)
		}
		yaml = strings.Replace(yaml, "{store: env, key: LAPSE_E2E_SECRET}", "{store: file, key: "+file+"}", 1)
		return strings.Replace(yaml, "integrations:\n", people.String()+"integrations:\n", 1)
	})
}

func rotatedUnderLoad(t *testing.T, s *system, file string) {
	const rounds = 5
	passwords := []string{s.secret(file)}
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
			s.dead("lapse_connector", passwords[:len(passwords)-1]...)
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
			passwords = append(passwords, s.secret(file))
		}
	}
}

func rotatedInUse(t *testing.T, s *system) {
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
	s.dead(old.Username, old.Password)
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

// rotatedAndKilled kills the whole process a while after a rotation was asked
// for, each time a little later. Afterwards exactly one password works.
func rotatedAndKilled(t *testing.T, s *system, file string) {
	r := s.granted(ana, "read_only", "9m")
	known := s.credentials(ana, r.ID)
	owns := []string{s.secret(file)}
	mine := []string{known.Password}
	for after := 10 * time.Millisecond; after < 300*time.Millisecond; after = after * 2 {
		for _, what := range []string{"--secret", "--person=" + ana} {
			cmd := s.command(dan, "rotate", "prod-pg", what)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(after)
			s.kill()
			cmd.Wait() // it was cut, or not
			s.start()
			s.must(dan, "check", "prod-pg") // works whichever password holds
		}
		s.must(dan, "rotate", "prod-pg", "--secret")
		owns = append(owns, s.secret(file))
		// A rotation that was cut may come to its end only now, and replace what
		// was just shown.
		s.until(40*time.Second, func() error {
			c := s.credentials(ana, r.ID, "--new")
			mine = append(mine, c.Password)
			_, err := s.login(c)
			return err
		})
	}
	*s.secrets = append(*s.secrets, owns...)
	s.dead("lapse_connector", owns[:len(owns)-1]...)
	s.dead(known.Username, mine[:len(mine)-1]...)
	s.must(ana, "release", r.ID)
	s.wait(r.ID, access.StateEnded, 30*time.Second)
	s.gone(40 * time.Second)
}
