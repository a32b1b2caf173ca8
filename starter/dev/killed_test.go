package main

import (
	"database/sql"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/localmysql"
	"github.com/lapse-access/lapse/internal/store"
)

// TestRotationIsKilled kills the whole of Lapse at each step of a change of
// passwords, on every kind that runs here, side by side. Each change comes to
// its end after the start, and one password works, which Lapse knows.
func TestRotationIsKilled(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret.json")
	var others []*target
	endToEnd(t, []part{
		{"at each step", func(t *testing.T, s *system) { rotatedAndKilled(t, s, append(others, s.postgresql(file))) }},
	}, func(yaml string, secret []byte) string {
		yaml = secretInFile(t, yaml, file, secret)
		others = []*target{startMySQL(t, localmysql.MySQL, "prod-my").target, startMySQL(t, localmysql.MariaDB, "prod-maria").target, startRabbitMQ(t, "prod-rabbit")}
		for _, x := range others {
			yaml = x.in(yaml)
		}
		return yaml
	})
}

// steps are those at which a change of a password is cut. It is cut at the nth
// answer of the target after it has changed.
var steps = []struct {
	name     string
	answers  int
	unstored bool // and goes on to the store, which takes nothing
}{
	{"the target knows nothing of it", 0, false},
	{"the target has changed, and its answer is lost", 1, false},
	{"the new one is being proven", 2, false},
	{"it is proven, and nothing of that is stored", 1, true},
}

// change is one of a password on a target.
type change struct {
	*target
	what    string      // as lapse rotate takes it
	begun   func() bool // in Lapse
	changed func() bool // on the target
	done    func() bool // but for the store
}

func rotatedAndKilled(t *testing.T, s *system, targets []*target) {
	ask, active := []string{"request", "--for", "9m", "--reason", "test"}, map[string]access.State{}
	for _, x := range targets {
		s.must(dan, "discover", x.name)
		ask = append(ask, "--want", x.name+"/"+x.want)
		active[x.name] = access.StateActive
	}
	r := s.parse(s.must(ana, ask...))
	s.must(dan, "approve", r.ID)
	s.holds(t, r.ID, active)
	known := map[*target][]access.Credential{}
	owns := map[*target][]string{}
	learn := func() {
		for _, x := range targets {
			known[x] = append(known[x], s.credentials(ana, r.ID, "--integration", x.name))
			owns[x] = append(owns[x], s.secret(x))
		}
	}
	learn()
	for n, step := range steps {
		var accounts, connectors []change
		for _, x := range targets {
			account, err := login(x.file)
			if err != nil {
				t.Fatal(err)
			}
			old := known[x][n]
			accounts = append(accounts, change{x, "--person=" + ana, func() bool { return true },
				func() bool { return x.connects(old.Username, old.Password) != nil }, silent(x)})
			connectors = append(connectors, change{x, "--secret", x.changing,
				func() bool { return x.connects(account.Username, account.Password) != nil },
				func() bool { return !x.changing() }})
		}
		for _, changes := range [][]change{accounts, connectors} {
			s.killedAt(changes, step.answers, step.unstored)
			for _, x := range targets {
				s.must(dan, "check", x.name) // works whichever password holds
			}
		}
		s.until(time.Minute, func() error {
			if have, want := s.show(r.ID).count("account.credential"), len(targets)*(n+1); have != want {
				return fmt.Errorf("%s: %d of %d changes of the credentials are on record", step.name, have, want)
			}
			for _, x := range targets {
				if have, err := login(x.file); err != nil || have.Password == owns[x][n] || x.changing() {
					return fmt.Errorf("%s: the connector's own password on %s was not changed: %v", step.name, x.name, err)
				}
			}
			return nil
		})
		learn()
		for _, x := range targets {
			user := known[x][0].Username
			for i, c := range known[x] {
				if err := x.connects(user, c.Password); (err == nil) != (i == n+1) {
					t.Errorf("%s: credential %d of %d on %s: %v", step.name, i+1, n+2, x.name, err)
				}
			}
			connector, err := login(x.file)
			if err != nil {
				t.Fatal(err)
			}
			s.dead(x, connector.Username, owns[x][:n+1]...)
			if x.second == nil {
				continue
			}
			if names := x.second(); names != "" {
				t.Errorf("%s: %s on %s have two passwords", step.name, names, x.name)
			}
		}
	}
	for _, x := range targets {
		*s.secrets = append(*s.secrets, owns[x]...)
	}
	s.must(ana, "release", r.ID)
	s.wait(r.ID, access.StateEnded, 30*time.Second)
	for _, x := range targets {
		for _, c := range known[x] {
			s.dead(x, c.Username, c.Password)
		}
	}
	s.gone(40 * time.Second)
}

// silent reports whether nothing passes the proxy any more.
func silent(x *target) func() bool {
	turns := -1
	return func() bool {
		before := turns
		turns = x.proxy.Turns()
		return before == turns
	}
}

// killedAt begins changes, keeps each back where it has come to a step, kills
// Lapse, and starts it again.
func (s *system) killedAt(changes []change, answers int, unstored bool) {
	s.t.Helper()
	var commands []*exec.Cmd
	for _, c := range changes {
		var mu sync.Mutex
		after := 0
		c.proxy.Hold(func() bool {
			if answers == 0 {
				return true
			}
			mu.Lock()
			defer mu.Unlock()
			if after > 0 || c.changed() {
				after++
			}
			return after >= answers
		})
		cmd := s.command(dan, "rotate", c.name, c.what)
		if err := cmd.Start(); err != nil {
			s.t.Fatal(err)
		}
		commands = append(commands, cmd)
	}
	s.all(changes, func(c change) bool { return c.proxy.Holding() && c.begun() })
	stored := func() {}
	if unstored {
		stored = s.storeTakesNothing()
		for _, c := range changes {
			c.proxy.Heal()
		}
		s.all(changes, func(c change) bool { return c.done() })
	}
	s.kill()
	stored()
	for _, cmd := range commands {
		cmd.Wait() // it was cut, or not
	}
	for _, c := range changes {
		c.proxy.Heal()
	}
	s.start()
}

// all waits until something holds for all changes.
func (s *system) all(changes []change, holds func(change) bool) {
	s.t.Helper()
	s.until(20*time.Second, func() error {
		for _, c := range changes {
			if !holds(c) {
				return errors.New(c.name + " does not come to it")
			}
		}
		return nil
	})
}

// storeTakesNothing keeps everybody from writing to the store.
func (s *system) storeTakesNothing() (release func()) {
	s.t.Helper()
	db, err := sql.Open(store.Driver, filepath.Join(s.setting("LAPSE_DATA"), "lapse.db")+"?_txlock=immediate")
	if err != nil {
		s.t.Fatal(err)
	}
	tx, err := db.BeginTx(s.t.Context(), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return func() { tx.Rollback(); db.Close() }
}
