package rabbitmq_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/integrations/rabbitmq"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/localrabbitmq"
	"github.com/lapse-access/lapse/internal/localrabbitmq/localrabbitmqtest"
)

// TestServer is what only RabbitMQ has, beside the suite.
func TestServer(t *testing.T) {
	t.Parallel()
	for _, major := range majors {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			t.Parallel()
			b := newBed(t, major)
			for _, test := range []struct {
				name string
				run  func(*testing.T, *bed)
			}{
				{"names are exact", exactNames},
				{"an exchange is written beside a queue", besideEachOther},
				{"a queue outlives the virtual host's permission", wideThenNarrow},
				{"a change of tags keeps the password", tagsKeepPassword},
				{"a new password keeps everything else", newPassword},
				{"a busy consumer is cut and cannot come back", busyConsumer},
				{"a busy publisher is cut and cannot come back", busyPublisher},
				{"a client that always comes back ends outside", reconnecting},
				{"a client that always comes back keeps what is left", reconnectingWithRest},
				{"topics are limited at every moment", limitedTopics},
				{"patterns mean what the broker means", patterns},
				{"virtual hosts of every name", vhostNames},
				{"a virtual host that is gone", vhostGone},
				{"a stranger keeps its password", strangers},
				{"two thousand queues fit or are refused with the reason", twoThousand},
				{"what a person declared stays", declaredStays},
				{"accounts of another Lapse are not ours", otherLapse},
				{"a lost answer makes no second user", lostAnswer},
				{"users of the system are left alone", systemUsers},
				{"connections are closed one by one where it has to be", closeOneByOne},
				{"a permission that somebody narrowed is not widened by a revoke", narrowedByHand},
				{"what is written by hand is replaced and reported", byHand},
				{"a tag that somebody gave stays, and is not given again", tagByHand},
				{"names that leave the person out", opaqueNames},
				{"what is RabbitMQ's own is offered on demand", amqResources},
				{"discovery offers what can be granted", discovery},
				{"the API's certificate is verified", certificates},
				{"the connector changes its own password", ownPassword},
				{"terminate_sessions", terminateSessions},
				{"a connection that is gone and listed", ghostConnection},
				{"a witness sees what the observer sees", witnesses},
				{"a topic needs a topic exchange", topicExchange},
				{"an API that is down is a reason to retry", apiDown}, // the last one
			} {
				t.Run(test.name, func(t *testing.T) { test.run(t, b) })
			}
		})
	}
}

func start(t *testing.T, target integrations.Target) integrations.Integration {
	t.Helper()
	return certificationtest.Start(t, rabbitmq.Kind(), target)
}

// at makes an account of somebody new on an integration.
func at(t *testing.T, target integrations.Target) *certificationtest.Holder {
	t.Helper()
	return certificationtest.At(t, rabbitmq.Kind(), target)
}

// login connects as the person.
func (b *bed) login(t *testing.T, c integrations.Credential, vhost string) *amqp.Connection {
	t.Helper()
	conn, err := b.dial(c.Username, c.Password.Reveal(), vhost)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseDeadline(time.Now().Add(time.Second)) })
	return conn
}

func channel(t *testing.T, conn *amqp.Connection) *amqp.Channel {
	t.Helper()
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// can demands what the observer sees.
func (b *bed) can(t *testing.T, l *certificationtest.Holder, e access.Entitlement, want bool) {
	t.Helper()
	if got := (&observer{b}).Can(t, l.Account, e); got != want {
		t.Errorf("%s can be used: %t, want %t", e, got, want)
	}
}

// record is what the account has in a virtual host.
func (b *bed) record(t *testing.T, l *certificationtest.Holder, vhost string) record {
	t.Helper()
	r, _ := read[record](t, b, "permissions", vhost, l.Account.Name)
	return r
}

func (b *bed) topics(t *testing.T, l *certificationtest.Holder) []record {
	t.Helper()
	all, _ := read[[]record](t, b, "users", l.Account.Name, "topic-permissions")
	return all
}

func says(facts []string, part string) bool {
	return slices.ContainsFunc(facts, func(f string) bool { return strings.Contains(f, part) })
}

func exactNames(t *testing.T, b *bed) {
	b.vhost(t, "/", []string{"a.b", "aXb", "a.bc", "xa.b", "a.bXc", "a.bbc"}, nil)
	o := &observer{b}
	for _, test := range []struct {
		granted string
		denied  []string
	}{
		{"a.b", []string{"aXb", "a.bc", "xa.b", "a.b*c"}},
		{"a.b*c", []string{"a.b", "a.bc", "a.bbc", "a.bXc"}},
	} {
		l := at(t, b.target())
		l.Grant(t, entitlement("consume", "queue", "/", test.granted))
		conn := b.login(t, l.Credential(t), "/")
		if _, _, err := channel(t, conn).Get(test.granted, true); err != nil {
			t.Errorf("getting from %s: %v", test.granted, err)
		}
		for _, queue := range test.denied {
			if _, _, err := channel(t, conn).Get(queue, true); !refused(err) {
				t.Errorf("getting from %s with a grant on %s: %v", queue, test.granted, err)
			}
		}
		if o.Can(t, l.Account, entitlement("read", "vhost", "/")) || o.Can(t, l.Account, entitlement("manage", "queue", "/", test.granted)) {
			t.Errorf("a grant to consume from %s gives more", test.granted)
		}
		l.Revoke(t, l.Holds...)
	}
}

func besideEachOther(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, consumeOrders)
	l.Grant(t, publishEvents)
	if got, want := b.record(t, l, "shop"), (record{Vhost: "shop", Configure: "^$", Write: `^(?:events)\z`, Read: `^(?:orders)\z`}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	l.Revoke(t, consumeOrders)
	b.can(t, l, publishEvents, true)
	b.can(t, l, consumeOrders, false)
	l.Revoke(t, publishEvents)
	if _, there := read[record](t, b, "permissions", "shop", l.Account.Name); there {
		t.Error("an empty record is left: with it the account may connect")
	}
}

func wideThenNarrow(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, readShop)
	l.Grant(t, consumeOrders)
	b.can(t, l, readShop, true)
	l.Revoke(t, readShop)
	b.can(t, l, readShop, false)
	b.can(t, l, consumeOrders, true)
	b.can(t, l, entitlement("consume", "queue", "shop", "invoices.eu"), false)
}

func tagsKeepPassword(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, consumeOrders)
	c := l.Credential(t)
	o := &observer{b}
	for _, step := range []func(){func() { l.Grant(t, management) }, func() { l.Revoke(t, management) }} {
		step()
		if !o.CanLogin(t, c) {
			t.Fatal("after a change of tags the password does not work")
		}
		b.login(t, c, "shop")
	}
}

func newPassword(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, consumeOrders, management)
	old := l.Credential(t)
	before, _ := read[user](t, b, "users", l.Account.Name)
	stays := b.login(t, old, "shop")
	fresh := l.Credential(t)
	after, _ := read[user](t, b, "users", l.Account.Name)
	if !slices.Equal(before.Tags, after.Tags) || before.Hash == after.Hash {
		t.Errorf("before %+v, after %+v", before, after)
	}
	b.can(t, l, consumeOrders, true)
	if _, err := b.dial(old.Username, old.Password.Reveal(), "shop"); err == nil {
		t.Error("the old password works")
	}
	b.login(t, fresh, "shop")
	if stays.IsClosed() {
		t.Error("a new password closed a connection")
	}
	if _, err := l.TryCredential(t, true); err != nil {
		t.Fatal(err)
	}
	if !eventually(stays.IsClosed) {
		t.Error("a new password that ends sessions left one open")
	}
}

// eventually waits a second.
func eventually(done func() bool) bool {
	for deadline := time.Now().Add(time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// cut revokes while somebody is busy, and demands that the connection ends within
// a second of the revoke, and that nobody comes back.
func cut(t *testing.T, b *bed, l *certificationtest.Holder, c integrations.Credential, conn *amqp.Connection, count *atomic.Int64) {
	t.Helper()
	for count.Load() < 100 {
		time.Sleep(time.Millisecond)
	}
	l.Revoke(t, l.Holds...)
	if !eventually(conn.IsClosed) {
		t.Fatal("the connection is open a second after the revoke")
	}
	at := count.Load()
	if _, err := b.dial(c.Username, c.Password.Reveal(), "shop"); err == nil {
		t.Error("the person came back")
	}
	if now := count.Load(); now != at {
		t.Errorf("%d messages after the connection was closed", now-at)
	}
}

func busyConsumer(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, consumeOrders)
	c := l.Credential(t)
	// Somebody else fills the queue all the time.
	feeder, err := b.dial(localrabbitmq.Administrator, b.Password, "shop")
	if err != nil {
		t.Fatal(err)
	}
	defer feeder.Close()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		ch, err := feeder.Channel()
		for err == nil && ctx.Err() == nil {
			err = ch.PublishWithContext(ctx, "", "orders", false, false, amqp.Publishing{Body: []byte("x")})
			time.Sleep(100 * time.Microsecond)
		}
	}()
	conn := b.login(t, c, "shop")
	deliveries, err := channel(t, conn).Consume("orders", "", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	var count atomic.Int64
	go func() {
		for range deliveries {
			count.Add(1)
		}
	}()
	cut(t, b, l, c, conn, &count)
}

func busyPublisher(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, publishEvents)
	c := l.Credential(t)
	conn := b.login(t, c, "shop")
	ch := channel(t, conn)
	var count atomic.Int64
	go func() {
		for ch.PublishWithContext(context.Background(), "events", "nobody.listens.here", false, false, amqp.Publishing{Body: []byte("x")}) == nil {
			count.Add(1)
		}
	}()
	cut(t, b, l, c, conn, &count)
}

// comesBack reconnects and publishes for as long as it is let in, until stop is
// called, which returns whether it is outside.
func (b *bed) comesBack(t *testing.T, c integrations.Credential) (stop func() (outside bool)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan *amqp.Connection)
	go func() {
		var conn *amqp.Connection
		for ctx.Err() == nil {
			if conn == nil || conn.IsClosed() {
				conn, _ = b.dial(c.Username, c.Password.Reveal(), "shop")
			}
			if conn != nil {
				if ch, err := conn.Channel(); err == nil {
					ch.PublishWithContext(ctx, "events", "x", false, false, amqp.Publishing{Body: []byte("x")})
					ch.Close()
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
		done <- conn
	}()
	return func() bool {
		cancel()
		conn := <-done
		outside := conn == nil || conn.IsClosed()
		if !outside {
			conn.Close()
		}
		return outside
	}
}

func reconnecting(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, publishEvents)
	c := l.Credential(t)
	stop := b.comesBack(t, c)
	time.Sleep(200 * time.Millisecond)
	l.Revoke(t, publishEvents)
	time.Sleep(200 * time.Millisecond)
	if !stop() {
		t.Error("the client is inside")
	}
}

// reconnectingWithRest: the client may come back for what else it holds, and only
// for that.
func reconnectingWithRest(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, publishEvents)
	l.Grant(t, consumeOrders)
	c := l.Credential(t)
	stop := b.comesBack(t, c)
	time.Sleep(100 * time.Millisecond)
	l.Revoke(t, publishEvents)
	time.Sleep(100 * time.Millisecond)
	if stop() {
		t.Error("the client is outside, though it holds something")
	}
	conn := b.login(t, c, "shop")
	if err := publish("events", "x")(channel(t, conn)); !refused(err) {
		t.Errorf("publishing after its end: %v", err)
	}
	if _, _, err := channel(t, conn).Get("orders", true); err != nil {
		t.Errorf("consuming what is still held: %v", err)
	}
}

// limitedTopics tries all the time to publish with a key that was never granted
// alone.
func limitedTopics(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, consumeOrders)
	c := l.Credential(t)
	conn := b.login(t, c, "shop")
	try := func(key string) error { return publish("events", key)(channel(t, conn)) }

	var got atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan bool)
	go func() {
		other, err := b.dial(c.Username, c.Password.Reveal(), "shop")
		for err == nil && ctx.Err() == nil {
			ch, broken := other.Channel()
			if broken != nil {
				break
			}
			if publish("events", "secret.key")(ch) == nil {
				got.Add(1)
			}
			ch.Close()
		}
		ended <- true
	}()
	l.Grant(t, publishTopic)
	stop()
	<-ended
	if got.Load() > 0 {
		t.Error("while a limited topic was granted any key was taken")
	}
	for key, want := range map[string]bool{"orders.new": true, "orders": false, "orders.a.b": false, "ordersXnew": false, "secret.key": false, "": false} {
		if err := try(key); (err == nil) != want || err != nil && !refused(err) {
			t.Errorf("publishing %q with %s: %v", key, publishTopic, err)
		}
	}
	if topics := b.topics(t, l); len(topics) != 1 || topics[0].Write != `^(?:orders\.[^.]*)\z` || topics[0].Read != "^$" {
		t.Errorf("topic permissions %+v", topics)
	}
	l.Grant(t, publishEvents)
	b.can(t, l, publishEvents, true)
	b.gate.set(func() { b.gate.seen = nil })
	l.Revoke(t, publishEvents)
	b.can(t, l, publishEvents, false)
	b.can(t, l, publishTopic, true)
	l.Revoke(t, publishTopic)
	b.can(t, l, publishTopic, false)
	if topics := b.topics(t, l); len(topics) != 0 {
		t.Errorf("topic permissions are left: %+v", topics)
	}
	// What was without a limit gets one before it is taken, and loses it after.
	var order []string
	b.gate.set(func() { order = b.gate.seen })
	first := slices.IndexFunc(order, func(s string) bool { return strings.HasPrefix(s, "PUT /api/topic-permissions/") })
	second := slices.IndexFunc(order, func(s string) bool { return strings.Contains(s, "/api/permissions/") })
	last := slices.IndexFunc(order, func(s string) bool { return strings.HasPrefix(s, "DELETE /api/topic-permissions/") })
	if first < 0 || first > second || second > last {
		t.Errorf("the order of the changes is %v", order)
	}
}

// patterns compares each pattern with what the broker routes by it.
func patterns(t *testing.T, b *bed) {
	keys := []string{"a", "b", "a.b", "b.a", "a.b.c", "a..b", "a.", ".a", ".", "x", "a.x.b", "a.x.y.b", "ab", "a*b", "a#", "a.#", "x.a", "x.y.a", ""}
	admin, err := b.dial(localrabbitmq.Administrator, b.Password, "shop")
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	for n, pattern := range []string{"a", "*", "#", "*.#", "a.*", "*.a", "a.#", "#.a", "a.#.b", "a.*.b", "*.*", "#.*.*", "a*b", "a#", "a..b", "(a|b)", "[ab]", "a\\.b"} {
		exchange := fmt.Sprintf("patterns-%d", n)
		b.vhost(t, "shop", nil, []string{exchange})
		ch := channel(t, admin)
		q, err := ch.QueueDeclare("", false, true, true, false, nil)
		if err == nil {
			err = ch.QueueBind(q.Name, pattern, exchange, false, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		e := entitlement("publish", "topic", "shop", exchange, pattern)
		l := at(t, b.target())
		l.Grant(t, e)
		conn := b.login(t, l.Credential(t), "shop")
		for _, key := range keys {
			may := publish(exchange, key)(channel(t, conn))
			if err := publish(exchange, key)(ch); err != nil {
				t.Fatal(err)
			}
			_, routed, err := ch.Get(q.Name, true)
			if err != nil {
				t.Fatal(err)
			}
			if may == nil && routed { // both were routed
				ch.Get(q.Name, true)
			}
			if (may == nil) != routed {
				t.Errorf("pattern %q, key %q: routed %t, permitted: %v", pattern, key, routed, may)
			}
		}
		if got := accounts(t, l); len(got) != 1 || !slices.Equal(got[0].Entitlements, []access.Entitlement{e}) {
			t.Errorf("the account holds %+v, want %s", got, e)
		}
		l.Revoke(t, e)
		ch.Close()
	}
}

// accounts are those of the person.
func accounts(t *testing.T, l *certificationtest.Holder) []access.Principal {
	t.Helper()
	page, err := l.Accounts(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(page.Principals, func(p access.Principal) bool { return p.AccountID != l.Account.ID })
}

func vhostNames(t *testing.T, b *bed) {
	for _, name := range []string{"/", "a/b", "50%", "%2F", "with space", "Ünïcødé😀", "a.b*c", "..%2f", "?#&"} {
		b.vhost(t, name, []string{"q"}, nil)
		l := at(t, b.target())
		e := entitlement("consume", "queue", name, "q")
		l.Grant(t, e)
		b.can(t, l, e, true)
		conn := b.login(t, l.Credential(t), name)
		if all, _ := read[[]record](t, b, "users", l.Account.Name, "permissions"); len(all) != 1 || all[0].Vhost != name {
			t.Errorf("permissions %+v, want one in %s", all, name)
		}
		l.Revoke(t, e)
		if !eventually(conn.IsClosed) {
			t.Errorf("a connection to %s is open", name)
		}
		b.can(t, l, e, false)
		l.Delete(t)
	}
}

func vhostGone(t *testing.T, b *bed) {
	b.vhost(t, "passing", []string{"q"}, []string{"x"})
	want := []access.Entitlement{entitlement("consume", "queue", "passing", "q"), entitlement("publish", "topic", "passing", "x", "a.*"), entitlement("admin", "vhost", "passing")}
	l := at(t, b.target())
	l.Grant(t, want...)
	b.remove(t, "vhosts", "passing")
	res, err := l.TryRevoke(t, want...)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range res.Entries {
		if e.Outcome != access.WasGone {
			t.Errorf("%+v, want was_gone", e)
		}
	}
	for _, e := range want {
		if _, err := l.TryGrant(t, e); access.KindOf(err) != access.ResourceMissing {
			t.Errorf("granting %s: %v, want resource_missing", e, err)
		}
	}
}

func strangers(t *testing.T, b *bed) {
	o := &observer{b}
	l := at(t, b.target())
	l.Grant(t, consumeOrders)
	l.Revoke(t, consumeOrders)
	l.Delete(t)
	o.Plant(t, l.Account.Name)
	before, _ := read[user](t, b, "users", l.Account.Name)
	if _, err := l.TryGrant(t, consumeOrders); access.KindOf(err) != access.NameTaken || !strings.Contains(err.Error(), l.Account.Name) {
		t.Errorf("granting: %v, want name_taken and the name", err)
	}
	after, _ := read[user](t, b, "users", l.Account.Name)
	if before.Hash != after.Hash || !o.Untouched(t, l.Account.Name) {
		t.Error("the stranger was changed")
	}
	// Somebody took the mark's tag for another purpose.
	b.put(t, map[string]string{"password": plantedPass, "tags": "lapse"}, "users", l.Account.Name)
	if _, err := l.TryGrant(t, consumeOrders); access.KindOf(err) != access.NameTaken {
		t.Errorf("granting with half a mark: %v, want name_taken", err)
	}
	b.remove(t, "users", l.Account.Name)
}

func twoThousand(t *testing.T, b *bed) {
	queue := func(width, n int) access.Entitlement {
		return entitlement("consume", "queue", "shop", fmt.Sprintf("q%0*d", width-1, n))
	}
	const n = 2000
	for _, width := range []int{10, 40} {
		first, last := queue(width, 0), queue(width, n-1)
		for _, e := range []access.Entitlement{first, last} {
			names, _ := e.Resource.Names()
			b.put(t, map[string]any{"durable": true}, "queues", "shop", names[1])
		}
		l := at(t, b.target())
		l.Grant(t, first)
		before := b.record(t, l, "shop")
		for i := 1; i < n-1; i++ {
			l.Holds = append(l.Holds, queue(width, i))
		}
		_, err := l.TryGrant(t, last)
		if fits := width == 10 && b.Bin.Major == 3; fits {
			if err != nil {
				t.Fatal(err)
			}
			b.can(t, l, first, true)
			b.can(t, l, last, true)
			b.can(t, l, consumeOrders, false)
			l.Revoke(t, first)
			b.can(t, l, first, false)
			b.can(t, l, last, true)
		} else {
			e, _ := errors.AsType[*access.Error](err)
			if e == nil || e.Kind != access.Limit || !strings.Contains(e.Text, "bytes") || !strings.Contains(e.Remedy, "virtual host") {
				t.Errorf("granting the last of %d queues with names of %d: %v, want limit, the reason and what to do", n, width, err)
			}
			if after := b.record(t, l, "shop"); before != after {
				t.Errorf("what was held has changed: %+v", after)
			}
			b.can(t, l, last, false)
		}
		l.Holds = []access.Entitlement{first, last}
		l.Revoke(t, first, last)
		b.can(t, l, last, false)
	}
	// What the broker itself finds too long is said in the same way.
	l := at(t, b.target(func(c *rabbitmq.Config, _ *rabbitmq.Secret) { c.ExpressionLimit = 1 << 20 }))
	if b.Bin.Major == 3 {
		for i := range n {
			l.Holds = append(l.Holds, queue(40, i))
		}
		if _, err := l.TryGrant(t, consumeOrders); access.KindOf(err) != access.Limit {
			t.Errorf("granting what the broker refuses: %v, want limit", err)
		}
	}
}

func declaredStays(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, adminShop)
	conn := b.login(t, l.Credential(t), "shop")
	if _, err := channel(t, conn).QueueDeclare("theirs", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	l.Revoke(t, adminShop)
	for _, want := range []access.Outcome{access.Gone, access.WasGone} {
		if res := l.Delete(t); res.Outcome != want {
			t.Errorf("deleting: %+v, want %s", res, want)
		}
	}
	if _, there := read[map[string]any](t, b, "queues", "shop", "theirs"); !there {
		t.Error("the queue that the person declared is gone")
	}
	b.remove(t, "queues", "shop", "theirs")
}

func otherLapse(t *testing.T, b *bed) {
	ours := at(t, b.target())
	elsewhere := b.target()
	elsewhere.Instance = "other"
	theirs := &certificationtest.Holder{Integration: start(t, elsewhere), Account: ours.Account}
	second := b.target()
	second.ID = "mq-second"
	ours.Grant(t, consumeOrders)
	theirs.Grant(t, consumeOrders)
	if ours.Account.Name == theirs.Account.Name {
		t.Fatalf("two Lapses share %s", ours.Account.Name)
	}
	for name, l := range map[string]*certificationtest.Holder{ours.Account.Name: ours, theirs.Account.Name: theirs} {
		if got := accounts(t, l); len(got) != 1 || got[0].Name != name {
			t.Errorf("%+v, want %s only", got, name)
		}
	}
	page, err := start(t, second).Accounts(t.Context(), "")
	if err != nil || len(page.Principals) != 0 {
		t.Errorf("another integration lists %+v, %v", page.Principals, err)
	}
	theirs.Revoke(t, consumeOrders)
	b.can(t, ours, consumeOrders, true)
	// A list of more than a page is read page by page.
	seen := map[string]bool{}
	for n := range 250 {
		b.put(t, map[string]string{"password_hash": "", "tags": fmt.Sprintf("lapse,lapse-instance=paged,lapse-account=%s%%2Fp-%d", integration, n)}, "users", fmt.Sprintf("lapse_paged_%d", n))
	}
	paged := b.target()
	paged.Instance = "paged"
	pages := 0
	for cursor, more := "", true; more; pages++ {
		page, err := start(t, paged).Accounts(t.Context(), cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range page.Principals {
			seen[p.Name] = true
		}
		cursor, more = page.Next, page.Next != ""
	}
	if len(seen) != 250 || pages != 2 {
		t.Errorf("%d accounts on %d pages, want 250 on 2", len(seen), pages)
	}
	for name := range seen {
		b.remove(t, "users", name)
	}
}

// lostAnswer loses the answer to each change of a grant.
func lostAnswer(t *testing.T, b *bed) {
	proxy := integrationtest.NewProxy(t, strings.TrimSuffix(strings.TrimPrefix(b.URL(), "http://"), "/api"))
	for turn := 1; turn <= 8; turn++ {
		l := at(t, b.target(func(c *rabbitmq.Config, _ *rabbitmq.Secret) { c.URL = "http://" + proxy.Address() }))
		proxy.Heal()
		proxy.CutAfter(turn)
		l.TryGrant(t, consumeOrders) // fails, unless a reading was repeated
		proxy.Heal()
		l.Holds = nil
		l.Grant(t, consumeOrders)
		if got := accounts(t, l); len(got) != 1 {
			t.Errorf("cut at %d: %d users", turn, len(got))
		}
		b.can(t, l, consumeOrders, true)
		if !(&observer{b}).CanLogin(t, l.Credential(t)) {
			t.Errorf("cut at %d: nobody can log in", turn)
		}
	}
}

func systemUsers(t *testing.T, b *bed) {
	b.put(t, map[string]string{"password": plantedPass, "tags": "administrator"}, "users", "monitoring-AWS-OWNED-DO-NOT-DELETE")
	b.put(t, map[string]string{"password": plantedPass, "tags": "protected"}, "users", "kept")
	others := func() (list []user) {
		all, _ := read[[]user](t, b, "users")
		return slices.DeleteFunc(all, func(u user) bool { return strings.HasPrefix(u.Name, "lapse_") })
	}
	before := others()
	l := at(t, b.target())
	l.Grant(t, consumeOrders, management)
	if _, err := l.TryCredential(t, true); err != nil {
		t.Fatal(err)
	}
	l.Revoke(t, consumeOrders)
	l.Revoke(t, management)
	l.Delete(t)
	if after := others(); fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("users that are not Lapse's were changed:\n%v\n%v", before, after)
	}
}

func closeOneByOne(t *testing.T, b *bed) {
	b.gate.set(func() { b.gate.without = "/connections/username/" })
	defer b.gate.set(func() { b.gate.without = "" })
	l, other := at(t, b.target()), at(t, b.target())
	l.Grant(t, consumeOrders)
	other.Grant(t, consumeOrders)
	stays := b.login(t, other.Credential(t), "shop")
	c := l.Credential(t)
	open := []*amqp.Connection{b.login(t, c, "shop"), b.login(t, c, "shop")}
	// This list is of the statistics, which the broker makes every five seconds.
	known := func() bool {
		all, _ := read[[]struct{ User string }](t, b, "connections")
		n := 0
		for _, one := range all {
			if one.User == c.Username {
				n++
			}
		}
		return n == len(open)
	}
	for deadline := time.Now().Add(15 * time.Second); !known() && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
	l.Revoke(t, consumeOrders)
	for _, conn := range open {
		if !eventually(conn.IsClosed) {
			t.Error("a connection is open")
		}
	}
	if stays.IsClosed() {
		t.Error("somebody else's connection was closed")
	}
}

func narrowedByHand(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, readWriteShop)
	l.Grant(t, consumeOrders)
	l.Grant(t, publishTopic)
	b.put(t, record{Configure: "^$", Write: "^(?:events)$", Read: "^orders$"}, "permissions", "shop", l.Account.Name)
	b.remove(t, "topic-permissions", "shop", l.Account.Name, "events")
	l.Revoke(t, publishTopic)
	b.can(t, l, consumeOrders, true)
	b.can(t, l, readWriteShop, false)
	l.Revoke(t, readWriteShop)
	b.can(t, l, consumeOrders, true)
	b.can(t, l, publishEvents, false)

	b.remove(t, "permissions", "shop", l.Account.Name)
	l.Grant(t, consumeStarred)
	b.remove(t, "permissions", "shop", l.Account.Name)
	l.Revoke(t, consumeStarred)
	b.can(t, l, consumeOrders, false)
}

func byHand(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, consumeOrders)
	b.put(t, record{Configure: "^mine-.*", Write: ".*", Read: "^(?:orders)\\z"}, "permissions", "shop", l.Account.Name)
	b.put(t, record{Configure: ".*", Write: ".*", Read: ".*"}, "permissions", "/", l.Account.Name)
	if got := accounts(t, l); len(got) != 1 || !says(got[0].Foreign, "configure expression of shop") {
		t.Errorf("the list says %+v", got)
	}
	res, err := l.TryRevoke(t, consumeOrders)
	if err != nil || !says(res.Notes, "configure expression of shop") || !says(res.Notes, "vhost:%2F=") {
		t.Errorf("notes %v, %v", res.Notes, err)
	}
	if all, _ := read[[]record](t, b, "users", l.Account.Name, "permissions"); len(all) != 0 {
		t.Errorf("permissions are left: %+v", all)
	}
}

func tagByHand(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, consumeOrders)
	b.tag(t, l.Account.Name, "monitoring")
	slots, err := l.Held(t.Context(), l.Account, []access.Entitlement{monitoring, management})
	if err != nil || len(slots) != 2 || slots[0].Write != "" || len(slots[0].HeldAs) != 1 || slots[1].Write == "" {
		t.Errorf("held %+v, %v", slots, err)
	}
	if got := accounts(t, l); len(got) != 1 || !says(got[0].Foreign, "monitoring") || len(got[0].Entitlements) != 1 {
		t.Errorf("the list says %+v", got)
	}
	if res := l.Grant(t, monitoring); res.Entries[0].Outcome != access.AlreadyHeld {
		t.Errorf("%+v, want already_held", res.Entries)
	}
	// Somebody takes it away: a baseline is kept, and not given again.
	u, _ := read[user](t, b, "users", l.Account.Name)
	u.Tags = slices.DeleteFunc(u.Tags, func(tag string) bool { return tag == "monitoring" })
	b.put(t, map[string]string{"password_hash": u.Hash, "tags": strings.Join(u.Tags, ",")}, "users", u.Name)
	_, err = l.Integration.Grant(t.Context(), integrations.GrantRequest{Account: l.Account, Want: []access.Entitlement{management}, Remain: []access.Claim{{Entitlement: consumeOrders}, {Entitlement: monitoring, Baseline: true}}})
	if err != nil {
		t.Fatal(err)
	}
	b.can(t, l, monitoring, false)
	b.can(t, l, management, true)
}

func opaqueNames(t *testing.T, b *bed) {
	l := at(t, b.target(func(c *rabbitmq.Config, _ *rabbitmq.Secret) { c.OpaqueNames = true }))
	l.Account.Email = "ana.bell@example.com"
	l.Grant(t, consumeOrders)
	if strings.Contains(l.Account.Name, "ana") || strings.Contains(l.Account.Name, "bell") {
		t.Errorf("the account is %s", l.Account.Name)
	}
	if u, _ := read[user](t, b, "users", l.Account.Name); strings.Contains(fmt.Sprint(u), "ana") {
		t.Errorf("the user is %+v", u)
	}
	// The setting may change: the account is found by its mark.
	l.Integration, l.Account.Name = start(t, b.target()), ""
	l.Holds = nil
	l.Grant(t, consumeOrders)
	if got := accounts(t, l); len(got) != 1 {
		t.Errorf("%d accounts, want 1", len(got))
	}
	l.Revoke(t, consumeOrders)
}

func amqResources(t *testing.T, b *bed) {
	direct := entitlement("publish", "exchange", "shop", "amq.default")
	l := at(t, b.target())
	if _, err := l.TryGrant(t, direct); access.KindOf(err) != access.Invalid || !strings.Contains(err.Error(), "amq_resources") {
		t.Errorf("granting %s: %v, want invalid and the setting", direct, err)
	}
	l.Integration = start(t, b.target(func(c *rabbitmq.Config, _ *rabbitmq.Secret) { c.AMQResources = true }))
	l.Grant(t, direct)
	conn := b.login(t, l.Credential(t), "shop")
	if err := publish("", "invoices.eu")(channel(t, conn)); err != nil {
		t.Errorf("publishing to a queue: %v", err)
	}
	if err := publish("events", "x")(channel(t, conn)); !refused(err) {
		t.Errorf("publishing to an exchange: %v", err)
	}
	l.Revoke(t, direct)
	if found, _ := certificationtest.Catalog(t, l.Integration); !slices.Equal(found[direct.Resource.String()].Permissions, []string{"publish"}) {
		t.Errorf("the default exchange is not offered as it can be granted")
	}
}

func discovery(t *testing.T, b *bed) {
	var many []string
	for n := range 600 {
		many = append(many, fmt.Sprintf("many-%03d", n))
	}
	b.vhost(t, "many", many, nil)
	b.put(t, map[string]any{"durable": true, "type": "fanout", "internal": true}, "exchanges", "many", "inside")
	conn, err := b.dial(localrabbitmq.Administrator, b.Password, "many")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := channel(t, conn).QueueDeclare("exclusive", false, true, true, false, nil); err != nil {
		t.Fatal(err)
	}
	found, _ := certificationtest.Catalog(t, start(t, b.target()))
	queues := 0
	for r := range found {
		if strings.HasPrefix(r, "queue:many/many-") {
			queues++
		}
	}
	if queues != 600 {
		t.Errorf("%d queues are offered, want 600", queues)
	}
	for e, want := range map[string]string{
		"tag:management": "[member]", "tag:administrator": "[]", "queue:many/exclusive": "[]", "exchange:many/inside": "[bind_from]",
		"exchange:shop/amq.topic": "[]", "topic:shop/events/%23.paid": "[publish]", "vhost:%2F": "[read write configure read_write admin]",
	} {
		r, err := access.ParseResource(e)
		if got := fmt.Sprint(found[r.String()].Permissions); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", e, got, err, want)
		}
	}
	few := start(t, b.target(func(c *rabbitmq.Config, _ *rabbitmq.Secret) {
		c.MaxResources, c.Include, c.Exclude = 3, []string{"queue:many/*"}, []string{"queue:*/many-000"}
	}))
	if found, warnings := certificationtest.Catalog(t, few); len(found) != 3 || !says(warnings, "max_resources") {
		t.Errorf("%d resources, warnings %v", len(found), warnings)
	}
	left := &certificationtest.Holder{Integration: few, Account: someone()}
	if _, err := left.TryGrant(t, consumeOrders); access.KindOf(err) != access.Invalid {
		t.Errorf("granting what is left out: %v, want invalid", err)
	}
	for _, cursor := range []string{"x", "e30"} {
		if _, err := few.Discover(t.Context(), cursor); access.KindOf(err) != access.Invalid {
			t.Errorf("cursor %q: %v, want invalid", cursor, err)
		}
	}
	b.remove(t, "vhosts", "many")
}

// certificates talks to the broker's own TLS.
func certificates(t *testing.T, b *bed) {
	ca, err := os.ReadFile(b.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		change func(*rabbitmq.Config)
		good   bool
		warns  bool
	}{
		{"its authority", func(*rabbitmq.Config) {}, true, false},
		{"without a scheme", func(c *rabbitmq.Config) { c.URL = strings.TrimPrefix(c.URL, "https://") }, true, false},
		{"with the API's path", func(c *rabbitmq.Config) { c.URL += "/api/" }, true, false},
		{"no authority", func(c *rabbitmq.Config) { c.CACertificate = "" }, false, false},
		{"another name", func(c *rabbitmq.Config) { c.URL = strings.Replace(c.URL, "127.0.0.1", "[::1]", 1) }, false, false},
		{"not verified", func(c *rabbitmq.Config) { c.CACertificate, c.TLSSkipVerify = "", true }, true, true},
		{"plain", func(c *rabbitmq.Config) { c.URL = strings.TrimSuffix(b.URL(), "/api") }, true, true},
	} {
		i := start(t, b.target(func(c *rabbitmq.Config, _ *rabbitmq.Secret) {
			c.URL, c.CACertificate = fmt.Sprintf("https://%s:%d", localrabbitmq.Host, b.TLSPort), string(ca)
			test.change(c)
		}))
		report, err := i.Check(t.Context())
		if err != nil || report.OK() != test.good {
			t.Errorf("%s: %+v, %v", test.name, report, err)
		}
		warned := slices.ContainsFunc(report.Items, func(item access.CheckItem) bool { return item.Name == "tls" && !item.OK && item.Remedy != "" })
		if warned != test.warns {
			t.Errorf("%s: warned: %t", test.name, warned)
		}
	}
}

func ownPassword(t *testing.T, b *bed) {
	target := b.target()
	rotator := start(t, target).(integrations.SecretRotator)
	next, err := rotator.NextSecret()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		b.put(t, map[string]string{"password": connectorPass, "tags": "administrator"}, "users", connector)
	}()
	for range 2 { // the second time it is done already
		if err := rotator.RotateSecret(t.Context(), next); err != nil {
			t.Fatal(err)
		}
	}
	if report, err := start(t, target).Check(t.Context()); err != nil || report.OK() {
		t.Errorf("with the old password: %+v, %v", report, err)
	}
	target.Secret = next
	if report, err := start(t, target).Check(t.Context()); err != nil || !report.OK() {
		t.Errorf("with the new password: %+v, %v", report, err)
	}
	l := at(t, target)
	l.Grant(t, consumeOrders)
	l.Revoke(t, consumeOrders)
}

func terminateSessions(t *testing.T, b *bed) {
	for _, test := range []struct {
		setting        string
		first, lastOne bool // whether connections are closed
	}{{"always", true, true}, {"last", false, true}, {"never", false, false}} {
		l := at(t, b.target(func(c *rabbitmq.Config, _ *rabbitmq.Secret) { c.TerminateSessions = test.setting }))
		l.Grant(t, consumeOrders)
		l.Grant(t, publishEvents)
		c := l.Credential(t)
		for _, step := range []struct {
			end    access.Entitlement
			closed bool
		}{{publishEvents, test.first}, {consumeOrders, test.lastOne}} {
			conn, err := b.dial(c.Username, c.Password.Reveal(), "shop")
			if err != nil {
				t.Fatal(err)
			}
			l.Revoke(t, step.end)
			if step.closed != eventually(conn.IsClosed) {
				t.Errorf("%s: after the end of %s the connection is closed: %t", test.setting, step.end, !step.closed)
			}
			conn.CloseDeadline(time.Now().Add(time.Second))
		}
	}
}

// ghostConnection: RabbitMQ 3 can list a connection for ever that was closed
// while it was being opened.
func ghostConnection(t *testing.T, b *bed) {
	l := at(t, b.target())
	l.Grant(t, consumeOrders)
	t.Cleanup(func() { b.gate.set(func() { b.gate.bug = nil }) })
	b.gate.set(func() {
		b.gate.bug = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/connections/username/") {
				return false
			}
			fmt.Fprintf(w, `[{"name":"127.0.0.1:1 -> 127.0.0.1:2","user":%q}]`, l.Account.Name)
			return true
		}
	})
	l.Revoke(t, consumeOrders)
	b.can(t, l, consumeOrders, false)
}

func witnesses(t *testing.T, b *bed) {
	certificationtest.Witness(t, b.harness())
}

func topicExchange(t *testing.T, b *bed) {
	b.put(t, map[string]any{"durable": true, "type": "fanout"}, "exchanges", "shop", "fan")
	l := at(t, b.target())
	if _, err := l.TryGrant(t, entitlement("publish", "topic", "shop", "fan", "orders.*")); access.KindOf(err) != access.Invalid {
		t.Errorf("a pattern on an exchange that looks at none: %v, want invalid", err)
	}
	if _, err := l.TryGrant(t, entitlement("publish", "topic", "shop", "events", "#.*")); access.KindOf(err) != access.Invalid || !strings.Contains(err.Error(), "*.#") {
		t.Errorf("another spelling of a pattern: %v, want invalid and the usual one", err)
	}
}

func apiDown(t *testing.T, b *bed) {
	l := at(t, b.target(direct(b)))
	l.Grant(t, consumeOrders)
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.TryRevoke(t, consumeOrders); access.KindOf(err) != access.Retry {
		t.Errorf("revoking: %v, want retry", err)
	}
	if err := b.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.Revoke(t, consumeOrders)
	b.can(t, l, consumeOrders, false)
}

// TestCache: where the broker keeps permissions longer, Check says so.
func TestCache(t *testing.T) {
	t.Parallel()
	for _, major := range majors {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			t.Parallel()
			b := bedOn(t, localrabbitmqtest.StartWith(t, major, map[string]string{"auth_backends.1": "cache", "auth_cache.cached_backend": "internal"}, "rabbitmq_auth_backend_cache"))
			b.put(t, map[string]string{"password": connectorPass, "tags": "administrator"}, "users", connector)
			// The broker counts what is enabled every five seconds, and answers 500
			// to that question while it starts.
			item := b.check(t)["authorisation cache"]
			for deadline := time.Now().Add(20 * time.Second); item.Remedy == "" && time.Now().Before(deadline); item = b.check(t)["authorisation cache"] {
				time.Sleep(100 * time.Millisecond)
			}
			if item.OK || !item.Optional || item.Remedy == "" {
				t.Errorf("check says %+v", item)
			}
		})
	}
}
