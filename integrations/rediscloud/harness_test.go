package rediscloud_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/integrations/rediscloud"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/localredis"
)

// The integration under test.
const (
	instance    = "lapse-test"
	integration = "rc-test"
)

// hostile is a name that wants to break out of everything.
const hostile = "we\"ird';--\\ %s $1 ../?a=b&c#d \t😀 \u202ex/*|.+"

// bed is a model with something on it.
type bed struct {
	*cloud
	orders, mails, carts, world, cache *modelDatabase
}

// newBed has subscription production with four databases, one of them with TLS
// and one Active-Active, Essentials with one, and one with a hostile name; rules
// and a role of the customer.
func newBed(t testing.TB, b localredis.Binary) *bed {
	c := newCloud(t)
	production, fixed, weird := c.subscribe("production", false), c.subscribe("small", true), c.subscribe(hostile, false)
	bed := &bed{cloud: c,
		orders: c.database(production, "orders", b, func(d *modelDatabase) { d.tls = true }),
		mails:  c.database(production, "mails", b),
		carts:  c.database(production, "carts", b),
		world:  c.database(production, "world", b, func(d *modelDatabase) { d.regions = []string{"us-east-1", "eu-west-1"} }),
		cache:  c.database(fixed, "cache", b),
	}
	c.database(production, "old", localredis.Binary{}, func(d *modelDatabase) { d.protocol = "memcached" })
	c.database(weird, hostile, b)
	c.rule("carts only", "+@read +@write ~cart:*")
	c.rule(hostile, "+get ~cart:*")
	for name, database := range map[string]*modelDatabase{"auditors": bed.carts, hostile: bed.world} {
		c.roles = append(c.roles, &modelRole{id: c.next(), name: name, status: "active", rules: []modelAssociation{c.association("Read-Only", production, database), c.association("Read-Write", fixed, bed.cache)}})
	}
	return bed
}

func (c *cloud) association(rule string, s *modelSubscription, d *modelDatabase) (a modelAssociation) {
	a.RuleName = rule
	a.Databases = append(a.Databases, struct {
		SubscriptionID int      `json:"subscriptionId"`
		DatabaseID     int      `json:"databaseId"`
		Regions        []string `json:"regions"`
	}{s.id, d.id, d.regions})
	return a
}

// target is the integration as configured for the connector.
func (c *cloud) target(change ...func(*rediscloud.Config, *rediscloud.Secret)) integrations.Target {
	config := &rediscloud.Config{APIURL: c.URL + "/v1", RequestTimeout: access.Duration(30 * time.Second), Endpoint: "public", CheckLogin: true, MaxResources: 10000}
	secret := &rediscloud.Secret{APIKey: integrations.Secret(c.apiKey), SecretKey: secretKey}
	for _, f := range change {
		f(config, secret)
	}
	return integrations.Target{Instance: instance, ID: integration, Name: "test", Config: config, Secret: secret}
}

func (c *cloud) kind() integrations.Kind { return rediscloud.KindAt(c.time.now, c.time.sleep) }

func entitlement(permission, typ string, names ...string) access.Entitlement {
	return access.Entitlement{Integration: integration, Resource: access.NewResource(typ, names...), Permission: permission}
}

// someone is a person of whom Redis Cloud knows nothing.
func someone() access.Account { return certificationtest.Someone(integration) }

var (
	readOrders  = entitlement("read_only", "database", "production", "orders")
	writeOrders = entitlement("read_write", "database", "production", "orders")
	allOrders   = entitlement("full_access", "database", "production", "orders")
	readMails   = entitlement("read_only", "database", "production", "mails")
	useCarts    = entitlement("use", "rule", "production", "carts", "carts only")
	auditors    = entitlement("assume", "role", "auditors")
)

// harness is the bed as the suite takes it.
func (b *bed) harness() *integrationtest.Harness {
	return &integrationtest.Harness{
		Kind:   b.kind(),
		Target: b.target(),
		Person: func(integrationtest.T) access.Account { return someone() },
		Chains: [][]access.Entitlement{
			{readOrders, writeOrders, allOrders},
			{entitlement("read_only", "database", "production", "world"), entitlement("read_write", "database", "production", "world")},
			{entitlement("read_only", "database", "small", "cache"), entitlement("full_access", "database", "small", "cache")},
			{useCarts, entitlement("full_access", "database", "production", "carts")},
			{auditors},
		},
		Apart: [2]access.Entitlement{writeOrders, readMails},
		Absent: []access.Entitlement{
			entitlement("read_only", "database", "production", "nowhere"), entitlement("read_only", "database", "nowhere", "orders"),
			entitlement("use", "rule", "production", "carts", "nobody"), entitlement("assume", "role", "nobody"),
		},
		Hostile: []access.Entitlement{
			entitlement("read_write", "database", hostile, hostile), entitlement("use", "rule", hostile, hostile, hostile), entitlement("assume", "role", hostile),
		},
		Canaries: []string{b.apiKey, secretKey, "canary-wrong"},
		Wrong: func() integrations.Target {
			return b.target(func(_ *rediscloud.Config, s *rediscloud.Secret) { s.SecretKey = "canary-wrong" })
		},
		Address: b.Listener.Addr().String(),
		Changes: certificationtest.Requests(),
		Via: func(address string) integrations.Target {
			return b.target(func(c *rediscloud.Config, _ *rediscloud.Secret) { c.APIURL = "http://" + address + "/v1" })
		},
		Observer: &observer{b},
	}
}

// observer looks into the Redis servers, and logs in as people.
type observer struct{ *bed }

var _ interface {
	integrationtest.Observer
	integrationtest.LoginObserver
	integrationtest.PrincipalObserver
	integrationtest.Planter
	integrationtest.Throttler
	integrationtest.Deafener
} = (*observer)(nil)

// Transient says that an account is there only while it holds something.
func (o *observer) Transient() {}

// tries are commands that the weaker entitlements of a chain do not give.
var tries = map[string][]string{
	"read_only":   {"get", "cart:1"},
	"read_write":  {"set", "orders:1", "x"},
	"full_access": {"config", "get", "maxmemory"},
	"use":         {"get", "cart:1"},
}

// Can asks the Redis servers what the account may do, by ACL DRYRUN.
func (o *observer) Can(t integrationtest.T, a access.Account, e access.Entitlement) bool {
	t.Helper()
	names, err := e.Resource.Names()
	if err != nil {
		t.Fatalf("%v", err)
	}
	if e.Resource.Type == "role" {
		database := o.carts
		if names[0] == hostile {
			database = o.world
		}
		return o.allows(t, database, a.Name, tries["read_only"]) && o.allows(t, o.cache, a.Name, tries["read_write"])
	}
	for _, s := range o.subscriptions {
		for _, d := range s.databases {
			if s.name == names[0] && d.name == names[1] && d.admin != nil {
				return o.allows(t, d, a.Name, tries[e.Permission])
			}
		}
	}
	return false
}

// allows is true when a Redis lets a user run a command.
func (o *observer) allows(t integrationtest.T, d *modelDatabase, user string, command []string) (may bool) {
	t.Helper()
	if user == "" {
		return false
	}
	o.locked(func() {
		args := []any{"ACL", "DRYRUN", user}
		for _, word := range command {
			args = append(args, word)
		}
		said, err := d.admin.Do(context.Background(), args...).Text()
		if err != nil && !strings.Contains(err.Error(), "not found") {
			t.Errorf("%v: %v", args, err)
		}
		may = err == nil && said == "OK"
	})
	return may
}

// CanLogin tries every database: the account may be there on any of them.
func (o *observer) CanLogin(t integrationtest.T, c integrations.Credential) bool {
	t.Helper()
	o.locked(func() {})
	for _, s := range o.subscriptions {
		for _, d := range s.databases {
			if d.redis == nil {
				continue
			}
			client := d.redis.Client(c.Username, c.Password.Reveal(), d.tls)
			err := client.Ping(context.Background()).Err()
			client.Close()
			if err == nil || strings.HasPrefix(err.Error(), "NOPERM") {
				return true
			}
		}
	}
	return false
}

func (o *observer) Exists(_ integrationtest.T, name string) (exists bool) {
	o.locked(func() { exists = o.user(name) != nil })
	return exists
}

func (o *observer) Plant(_ integrationtest.T, name string) {
	o.locked(func() {
		o.users = append(o.users, &modelUser{ID: o.next(), Name: name, Role: "auditors", Status: "active", password: "planted-password"})
	})
}

func (o *observer) Untouched(_ integrationtest.T, name string) (untouched bool) {
	o.locked(func() {
		u := o.user(name)
		untouched = u != nil && u.Role == "auditors" && u.password == "planted-password" && u.Status == "active" &&
			!slices.ContainsFunc(o.roles, func(r *modelRole) bool { return strings.HasPrefix(r.name, "lapse_") })
	})
	return untouched
}

func (o *observer) Throttle(_ integrationtest.T, delay time.Duration) (undo func()) {
	o.locked(func() { o.throttled, o.delay = true, delay })
	return func() { o.locked(func() { o.throttled, o.delay = false, 0 }) }
}

func (o *observer) Deafen(integrationtest.T) (undo func()) {
	o.locked(func() { o.deaf = true })
	return func() { o.locked(func() { o.deaf = false }) }
}
