package rediscloud_test

import (
	"strings"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations/rediscloud"
	"github.com/lapse-access/lapse/internal/localredis"
)

// TestCredentials: where a new password is tried, and what people get.
func TestCredentials(t *testing.T) {
	t.Parallel()
	private := func(c *rediscloud.Config, _ *rediscloud.Secret) { c.Endpoint = "private" }
	unchecked := func(c *rediscloud.Config, _ *rediscloud.Secret) { c.Endpoint, c.CheckLogin = "private", false }
	for _, test := range []struct {
		name    string
		change  func(*rediscloud.Config, *rediscloud.Secret)
		want    access.Entitlement
		kind    access.ErrorKind
		command string
	}{
		{"Essentials", func(*rediscloud.Config, *rediscloud.Secret) {}, entitlement("read_only", "database", "small", "cache"), "", "redis-cli -h 127.0.0.1 -p PORT --user USER --askpass"},
		{"Active-Active", func(*rediscloud.Config, *rediscloud.Secret) {}, entitlement("read_only", "database", "production", "world"), "", "redis-cli -h 127.0.0.1 -p PORT --user USER --askpass"},
		{"a database out of reach", private, readMails, access.Retry, ""},
		{"a database out of reach, not tried", unchecked, readMails, "", "redis-cli -h 127.0.0.1 -p 2 --user USER --askpass"},
		{"a database that demands a certificate", func(*rediscloud.Config, *rediscloud.Secret) {}, entitlement("read_only", "database", "production", "guarded"), "", "redis-cli -h 127.0.0.1 -p 1 --tls --user USER --askpass"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := plain(t)
			b.database(b.subscriptions[0], "guarded", localredis.Binary{}, func(d *modelDatabase) { d.tls, d.clientTLS = true, true })
			l := b.live(t)
			l.Integration = b.start(t, b.target(test.change))
			l.grant(t, test.want)
			begun := b.time.now()
			c, err := l.TryCredential(t, false)
			if access.KindOf(err) != test.kind {
				t.Fatalf("%v, want %q", err, test.kind)
			}
			if err != nil {
				if !strings.Contains(remedy(err), "check_login") {
					t.Errorf("the error does not say what to do: %v", err)
				}
				return
			}
			command := strings.NewReplacer("PORT", c.Details["port"], "USER", l.Account.Name).Replace(test.command)
			if c.Command != command {
				t.Errorf("the command is %s, want %s", c.Command, command)
			}
			if strings.Contains(test.command, "-p PORT") == (b.time.now().Sub(begun) > 15*time.Second) {
				t.Errorf("the credential took %s", b.time.now().Sub(begun))
			}
			if names, _ := test.want.Resource.Names(); c.Details["database"] != strings.Join(names, "/") {
				t.Errorf("the details are %v", c.Details)
			}
		})
	}
}

// TestDetailsOfEveryDatabase: people learn where all of them are.
func TestDetailsOfEveryDatabase(t *testing.T) {
	t.Parallel()
	b := plain(t)
	l := b.live(t)
	l.grant(t, writeOrders, readMails, useCarts)
	c := l.Credential(t)
	if c.Details["database"] != "production/carts" || c.Details["database production/mails"] == "" || c.Details["database production/orders"] == "" {
		t.Errorf("the details are %v", c.Details)
	}
}
