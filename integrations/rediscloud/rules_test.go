package rediscloud_test

import (
	"context"
	"strings"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/localredis/localredistest"
)

// TestRulesOnRedis grants each permission, logs in to the real server with the
// credential, and holds what the person may do against what was asked: every
// command that the server has, by its categories, and some by running them.
func TestRulesOnRedis(t *testing.T) {
	t.Parallel()
	for _, binary := range localredistest.Find(t) {
		t.Run(binary.Version, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, binary)
			o := &observer{b}
			for _, test := range []struct {
				name string
				e    access.Entitlement
				d    *modelDatabase
				// may says whether a command of these categories has to be allowed.
				may func(in func(category string) bool) bool
			}{
				{"read_only", readOrders, b.orders, func(in func(string) bool) bool { return in("read") }},
				{"read_write", writeOrders, b.orders, func(in func(string) bool) bool { return !in("dangerous") }},
				{"full_access", allOrders, b.orders, func(func(string) bool) bool { return true }},
				{"use", useCarts, b.carts, func(in func(string) bool) bool { return in("read") || in("write") }},
			} {
				t.Run(test.name, func(t *testing.T) {
					l := b.live(t)
					l.grant(t, test.e)
					commands := 0
					for command, categories := range o.commands(t, test.d) {
						in := func(category string) bool { return categories[category] }
						want := test.may(in) || always[command]
						if got := o.may(t, test.d, l.Account.Name, command); got != want {
							t.Errorf("%s: the person may run it: %t, want %t (%v)", command, got, want, categories)
						}
						commands++
					}
					if commands < 250 {
						t.Errorf("only %d commands were tried", commands)
					}
					// On every other database there is not even a login.
					for _, other := range []*modelDatabase{b.orders, b.mails, b.carts, b.world, b.cache} {
						if other != test.d && o.allows(t, other, l.Account.Name, []string{"get", "x"}) {
							t.Errorf("the person is on database %s too", other.name)
						}
					}
				})
			}

			// Keys, and words of commands, by a session of the person's own.
			l := b.live(t)
			l.grant(t, useCarts, writeOrders)
			c := l.Credential(t)
			for _, test := range []struct {
				d       *modelDatabase
				command string
				may     bool
			}{
				{b.carts, "SET cart:1 x", true}, {b.carts, "SET order:1 x", false}, {b.carts, "GET cart:1", true}, {b.carts, "GET order:1", false}, {b.carts, "ACL WHOAMI", false},
				{b.orders, "SET any x", true}, {b.orders, "KEYS *", false}, {b.orders, "FLUSHALL", false}, {b.orders, "CONFIG GET maxmemory", false}, {b.orders, "ACL LIST", false}, {b.orders, "PUBLISH c m", true},
			} {
				client := test.d.redis.Client(c.Username, c.Password.Reveal(), test.d.tls)
				var args []any
				for word := range strings.FieldsSeq(test.command) {
					args = append(args, word)
				}
				err := client.Do(context.Background(), args...).Err()
				client.Close()
				if may := err == nil || err.Error() == "redis: nil"; may != test.may {
					t.Errorf("%s on %s: %v, may: %t", test.command, test.d.name, err, test.may)
				}
			}
		})
	}
}

// TestDangerousReads: read_write is not all of read_only, as the README says.
func TestDangerousReads(t *testing.T) {
	t.Parallel()
	for _, binary := range localredistest.Find(t) {
		b := newBed(t, binary)
		o := &observer{b}
		var lost []string
		for command, categories := range o.commands(t, b.orders) {
			if categories["read"] && categories["dangerous"] {
				lost = append(lost, command)
			}
		}
		for _, command := range lost {
			if command != "keys" && command != "sort_ro" {
				t.Errorf("Redis %s: %s is in read_only, not in read_write, and not in the README", binary.Version, command)
			}
		}
		if len(lost) != 2 {
			t.Errorf("Redis %s: %v are in read_only and not in read_write", binary.Version, lost)
		}
	}
}

// TestSessionsOnRedis says what becomes of an open session on Redis itself, which
// the declaration of the kind rests on.
func TestSessionsOnRedis(t *testing.T) {
	t.Parallel()
	for _, binary := range localredistest.Find(t) {
		b := newBed(t, binary)
		l := b.live(t)
		l.grant(t, readMails)
		writeMails := entitlement("read_write", "database", "production", "mails")
		l.grant(t, writeMails)
		c := l.Credential(t)
		client := b.mails.redis.Client(c.Username, c.Password.Reveal(), false)
		defer client.Close()
		open := client.Conn() // one connection, which is not replaced
		defer open.Close()
		if err := open.Set(t.Context(), "k", "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
		l.Revoke(t, writeMails)
		if err := open.Set(t.Context(), "k", "v", 0).Err(); err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
			t.Errorf("Redis %s: writing in a session after the revoke: %v, want NOPERM", binary.Version, err)
		}
		if err := open.Get(t.Context(), "k").Err(); err != nil {
			t.Errorf("Redis %s: reading what is still held: %v", binary.Version, err)
		}
		l.Revoke(t, readMails)
		if err := open.Get(t.Context(), "k").Err(); err == nil {
			t.Errorf("Redis %s: the session outlives its user", binary.Version)
		}
	}
}

// always are commands that no rule can forbid: those to log in and out on Redis,
// and transactions on Redis Cloud:
// https://redis.io/docs/latest/operate/rc/security/access-control/data-access-control/role-based-access-control/
var always = map[string]bool{"auth": true, "hello": true, "quit": true, "reset": true, "multi": true, "exec": true, "discard": true}

// commands are those of a server, with their categories; CONFIG GET is config|get.
func (o *observer) commands(t testing.TB, d *modelDatabase) map[string]map[string]bool {
	t.Helper()
	categories, err := d.admin.Do(t.Context(), "ACL", "CAT").StringSlice()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string]bool{}
	for _, category := range categories {
		names, err := d.admin.Do(t.Context(), "ACL", "CAT", category).StringSlice()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if all[name] == nil {
				all[name] = map[string]bool{}
			}
			all[name][category] = true
		}
	}
	for name := range all {
		if whole, _, part := strings.Cut(name, "|"); part && whole != "command" {
			delete(all, whole) // it cannot be run without its second word
		}
	}
	return all
}

// may asks the server whether its rules let a user run a command at all, whatever
// its keys: what DRYRUN says of a missing argument comes before what it says of
// the rules.
func (o *observer) may(t testing.TB, d *modelDatabase, user, command string) bool {
	t.Helper()
	for n := range 12 {
		args := []any{"ACL", "DRYRUN", user}
		for word := range strings.SplitSeq(command, "|") {
			args = append(args, word)
		}
		for range n {
			args = append(args, "cart:1")
		}
		said, err := d.admin.Do(t.Context(), args...).Text()
		switch {
		case err != nil && (strings.Contains(err.Error(), "wrong number of arguments") || strings.Contains(err.Error(), "nknown subcommand") || strings.Contains(err.Error(), "syntax")):
			continue
		case err != nil:
			t.Fatalf("%v: %v", args, err)
		}
		return !strings.Contains(said, "no permissions to run")
	}
	t.Fatalf("%s: it is not known how it is called", command)
	return false
}
