package rabbitmq_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/integrations/rabbitmq"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/describe"
	"github.com/lapse-access/lapse/internal/localrabbitmq"
	"github.com/lapse-access/lapse/internal/localrabbitmq/localrabbitmqtest"
)

// The integration under test, and its connector.
const (
	instance      = "lapse-test"
	integration   = "mq-test"
	connector     = "lapse"
	connectorPass = "canary-connector-Pa55word"
)

// hostile is a name that wants to break out of everything.
const hostile = "we\"ird';--\\ %s $1 \t😀 \u202ex/*|^(.)+[^]{2}?#&=,"

// gate stands before the API, as a load balancer may: it throttles, refuses
// changes in a virtual host, or takes them and does nothing.
type gate struct {
	*httptest.Server
	mu       sync.Mutex
	throttle *time.Duration
	shut     string // the virtual host
	without  string // what the API does not have
	deaf     bool
	bug      func(w http.ResponseWriter, r *http.Request) (answered bool)
	seen     []string // the changes that passed
}

func newGate(t testing.TB, api string) *gate {
	t.Helper()
	to, err := url.Parse(strings.TrimSuffix(api, "/api"))
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	g.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !g.answers(w, r) {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(g.Close)
	return g
}

// answers is true when the request goes no further.
func (g *gate) answers(w http.ResponseWriter, r *http.Request) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	change := r.Method != http.MethodGet
	switch {
	case g.throttle != nil:
		if *g.throttle > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(g.throttle.Seconds())))
		}
		w.WriteHeader(http.StatusTooManyRequests)
	case change && g.shut != "" && strings.Contains(r.URL.EscapedPath(), "permissions/"+url.PathEscape(g.shut)+"/"):
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, `{"error":"not_authorised","reason":"Access refused."}`)
	case g.without != "" && strings.Contains(r.URL.EscapedPath(), g.without):
		w.WriteHeader(http.StatusNotFound)
	case g.bug != nil:
		return g.bug(w, r)
	case change && g.deaf:
		w.WriteHeader(http.StatusNoContent)
	default:
		if change {
			g.seen = append(g.seen, r.Method+" "+r.URL.EscapedPath())
		}
		return false
	}
	return true
}

func (g *gate) set(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
}

// bed is a real broker with something on it, and the administrator who looks.
type bed struct {
	*localrabbitmq.Server
	gate *gate
	http *http.Client
}

var setupOptions = describe.Options{"vhosts": {"/", "shop", hostile}}

// startBed starts an empty broker.
func startBed(t testing.TB, major int) *bed {
	t.Helper()
	return bedOn(t, localrabbitmqtest.Start(t, major))
}

func bedOn(t testing.TB, s *localrabbitmq.Server) *bed {
	t.Helper()
	b := &bed{Server: s, gate: newGate(t, s.URL()), http: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}
	t.Cleanup(b.http.CloseIdleConnections)
	return b
}

// setUp makes the connector by the script of a tier. It has nothing else.
func (b *bed) setUp(t testing.TB, tier string) {
	t.Helper()
	if _, err := b.Script(t.Context(), certificationtest.Script(t, rabbitmq.Kind(), tier, setupOptions), connectorPass+"\n"); err != nil {
		t.Fatal(err)
	}
}

// The names that every virtual host of the bed has for the observer.
const (
	probeQueue    = "probe-queue"
	probeBound    = "probe-bound"
	probeExchange = "probe-exchange"
)

// newBed starts a broker: shop with queues and exchanges, the virtual host "/"
// with a queue of a name that is an expression, and one with a hostile name.
func newBed(t testing.TB, major int) *bed {
	t.Helper()
	b := startBed(t, major)
	b.setUp(t, "full")
	b.fill(t)
	return b
}

func (b *bed) fill(t testing.TB) {
	t.Helper()
	b.vhost(t, "shop", []string{"orders", "invoices.eu"}, []string{"events", "audit"})
	b.vhost(t, "/", []string{"a.b*c"}, nil)
	b.vhost(t, hostile, []string{hostile}, []string{hostile})
	b.bind(t, "shop", "events", "orders", "orders.*")
	b.bind(t, "shop", "events", "orders", "#.paid")
	b.bind(t, hostile, hostile, hostile, hostile+".*")
}

// vhost makes a virtual host with queues and topic exchanges.
func (b *bed) vhost(t testing.TB, name string, queues, exchanges []string) {
	t.Helper()
	b.put(t, map[string]any{}, "vhosts", name)
	b.put(t, record{Configure: ".*", Write: ".*", Read: ".*"}, "permissions", name, localrabbitmq.Administrator)
	for _, q := range append(queues, probeQueue, probeBound) {
		b.put(t, map[string]any{"durable": true}, "queues", name, q)
	}
	for _, x := range append(exchanges, probeExchange) {
		b.put(t, map[string]any{"durable": true, "type": "topic"}, "exchanges", name, x)
	}
}

func (b *bed) bind(t testing.TB, vhost, exchange, queue, key string) {
	t.Helper()
	if status, body := b.call(t, http.MethodPost, map[string]string{"routing_key": key}, "bindings", vhost, "e", exchange, "q", queue); status/100 != 2 {
		t.Fatalf("binding: %d %s", status, body)
	}
}

type record struct {
	Exchange  string `json:"exchange,omitempty"`
	Vhost     string `json:"vhost,omitempty"`
	Configure string `json:"configure"`
	Write     string `json:"write"`
	Read      string `json:"read"`
}

type user struct {
	Name string   `json:"name"`
	Hash string   `json:"password_hash"`
	Tags []string `json:"tags"`
}

// call asks the API as the administrator.
func (b *bed) call(t integrationtest.T, method string, in any, path ...string) (int, []byte) {
	t.Helper()
	return b.callAs(t, localrabbitmq.Administrator, b.Password, method, in, path...)
}

func (b *bed) callAs(t integrationtest.T, name, password, method string, in any, path ...string) (int, []byte) {
	t.Helper()
	at := b.URL()
	for _, segment := range path {
		at += "/" + url.PathEscape(segment)
	}
	var body io.Reader
	if in != nil {
		text, _ := json.Marshal(in)
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, at, body)
	if err != nil {
		t.Fatalf("%v", err)
	}
	req.SetBasicAuth(name, password)
	req.Header.Set("Content-Type", "application/json")
	res, err := b.http.Do(req)
	if err != nil {
		t.Fatalf("%s %v: %v", method, path, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %v: %v", method, path, err)
	}
	return res.StatusCode, text
}

func (b *bed) put(t integrationtest.T, in any, path ...string) {
	t.Helper()
	if status, body := b.call(t, http.MethodPut, in, path...); status/100 != 2 {
		t.Fatalf("writing %v: %d %s", path, status, body)
	}
}

func (b *bed) remove(t integrationtest.T, path ...string) {
	t.Helper()
	if status, body := b.call(t, http.MethodDelete, nil, path...); status/100 != 2 {
		t.Fatalf("removing %v: %d %s", path, status, body)
	}
}

// read reads something; there is false when it is not there.
func read[V any](t integrationtest.T, b *bed, path ...string) (v V, there bool) {
	t.Helper()
	status, body := b.call(t, http.MethodGet, nil, path...)
	if status == http.StatusNotFound {
		return v, false
	}
	if err := json.Unmarshal(body, &v); err != nil || status != http.StatusOK {
		t.Fatalf("reading %v: %d %v", path, status, err)
	}
	return v, true
}

// target is the integration as configured for the connector.
func (b *bed) target(change ...func(*rabbitmq.Config, *rabbitmq.Secret)) integrations.Target {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.gate.Certificate().Raw})
	config := &rabbitmq.Config{URL: b.gate.URL, CACertificate: string(ca), AMQPURL: "amqp://" + net.JoinHostPort(localrabbitmq.Host, strconv.Itoa(b.Port)),
		TerminateSessions: "always", ExpressionLimit: 30000, MaxResources: 10000}
	secret := &rabbitmq.Secret{Username: connector, Password: connectorPass}
	for _, c := range change {
		c(config, secret)
	}
	return integrations.Target{Instance: instance, ID: integration, Name: "test", Config: config, Secret: secret}
}

// direct is the API without the gate.
func direct(b *bed) func(*rabbitmq.Config, *rabbitmq.Secret) {
	return func(c *rabbitmq.Config, _ *rabbitmq.Secret) { c.URL = strings.TrimSuffix(b.URL(), "/api") }
}

func entitlement(permission, typ string, names ...string) access.Entitlement {
	return access.Entitlement{Integration: integration, Resource: access.NewResource(typ, names...), Permission: permission}
}

// someone is a person of whom the broker knows nothing.
func someone() access.Account { return certificationtest.Someone(integration) }

var (
	consumeOrders  = entitlement("consume", "queue", "shop", "orders")
	manageOrders   = entitlement("manage", "queue", "shop", "orders")
	publishEvents  = entitlement("publish", "exchange", "shop", "events")
	bindEvents     = entitlement("bind_from", "exchange", "shop", "events")
	publishTopic   = entitlement("publish", "topic", "shop", "events", "orders.*")
	readShop       = entitlement("read", "vhost", "shop")
	writeShop      = entitlement("write", "vhost", "shop")
	configureShop  = entitlement("configure", "vhost", "shop")
	readWriteShop  = entitlement("read_write", "vhost", "shop")
	adminShop      = entitlement("admin", "vhost", "shop")
	consumeStarred = entitlement("consume", "queue", "/", "a.b*c")
	management     = entitlement("member", "tag", "management")
	monitoring     = entitlement("member", "tag", "monitoring")
)

// harness is the bed as the suite takes it.
func (b *bed) harness() *integrationtest.Harness {
	return &integrationtest.Harness{
		Kind:   rabbitmq.Kind(),
		Target: b.target(),
		Person: func(integrationtest.T) access.Account { return someone() },
		Chains: [][]access.Entitlement{
			{consumeOrders, manageOrders},
			{consumeOrders, readShop},
			{manageOrders, adminShop},
			{publishTopic, publishEvents},
			{publishEvents, writeShop},
			{writeShop, readWriteShop, adminShop},
			{bindEvents, readShop},
			{configureShop, adminShop},
			{management},
		},
		Apart: [2]access.Entitlement{readWriteShop, consumeStarred},
		Absent: []access.Entitlement{
			entitlement("read", "vhost", "nowhere"), entitlement("consume", "queue", "shop", "nowhere"), entitlement("publish", "exchange", "shop", "nowhere"),
			entitlement("publish", "topic", "shop", "nowhere", "orders.*"), entitlement("member", "tag", "nobody"),
		},
		Hostile: []access.Entitlement{
			entitlement("read_write", "vhost", hostile), entitlement("manage", "queue", hostile, hostile),
			entitlement("publish", "exchange", hostile, hostile), entitlement("publish", "topic", hostile, hostile, hostile+".*"),
		},
		Existing: monitoring,
		Canaries: []string{connectorPass},
		Wrong: func() integrations.Target {
			return b.target(func(_ *rabbitmq.Config, s *rabbitmq.Secret) { s.Password = "canary-wrong" })
		},
		Address: net.JoinHostPort(localrabbitmq.Host, strconv.Itoa(b.APIPort)),
		Changes: certificationtest.Requests(),
		Via: func(address string) integrations.Target {
			// Without TLS a turn of the proxy is a request.
			return b.target(func(c *rabbitmq.Config, _ *rabbitmq.Secret) { c.URL = "http://" + address })
		},
		Observer: &observer{b},
	}
}

// observer looks as the administrator, and logs in as people.
type observer struct{ *bed }

var _ interface {
	integrationtest.Observer
	integrationtest.LoginObserver
	integrationtest.SessionObserver
	integrationtest.HandObserver
	integrationtest.PrincipalObserver
	integrationtest.Planter
	integrationtest.Throttler
	integrationtest.Closer
	integrationtest.Deafener
} = (*observer)(nil)

var twins atomic.Int64

// Can does what the permission is about with a twin of the account: a user with
// the same records, of whom the observer knows the password.
func (o *observer) Can(t integrationtest.T, a access.Account, e access.Entitlement) bool {
	t.Helper()
	if a.Name == "" {
		return false
	}
	u, there := read[user](t, o.bed, "users", a.Name)
	if !there {
		return false
	}
	names, err := e.Resource.Names()
	if err != nil {
		t.Fatalf("%v", err)
	}
	twin := fmt.Sprintf("twin-%d", twins.Add(1))
	const password = "twin-Pa55word"
	o.put(t, map[string]string{"password": password, "tags": strings.Join(u.Tags, ",")}, "users", twin)
	defer o.remove(t, "users", twin)
	if e.Resource.Type == "tag" {
		page := map[string]string{"management": "whoami", "monitoring": "nodes", "policymaker": "policies", "administrator": "users"}[names[0]]
		status, _ := o.callAs(t, twin, password, http.MethodGet, nil, page)
		return status == http.StatusOK
	}
	vhost := names[0]
	r, there := read[record](t, o.bed, "permissions", vhost, a.Name)
	if !there {
		return false
	}
	// The other half of a binding is none of the permission's.
	switch e.Permission {
	case "manage":
		r.Read = or(r.Read, probeExchange)
	case "bind_from":
		r.Write = or(r.Write, probeBound)
	}
	o.put(t, r, "permissions", vhost, twin)
	topics, _ := read[[]record](t, o.bed, "users", a.Name, "topic-permissions")
	for _, topic := range topics {
		if topic.Vhost == vhost {
			o.put(t, topic, "topic-permissions", vhost, twin)
		}
	}
	conn, err := o.dial(twin, password, vhost)
	if err != nil {
		t.Fatalf("logging in as a twin of %s: %v", a.Name, err)
	}
	defer conn.Close()
	for _, try := range attempts(e, names) {
		ch, err := conn.Channel()
		if err != nil {
			t.Fatalf("opening a channel: %v", err)
		}
		err = try(ch)
		ch.Close()
		if refused(err) {
			return false
		}
		if err != nil {
			t.Fatalf("trying %s: %v", e, err)
		}
	}
	return true
}

func or(expression, name string) string {
	if expression == "" {
		expression = "^$"
	}
	return "(?:" + expression + ")|^" + name + "$"
}

func refused(err error) bool {
	e, ok := errors.AsType[*amqp.Error](err)
	return ok && e.Code == amqp.AccessRefused
}

// attempts are what somebody with the entitlement can do, all of it.
func attempts(e access.Entitlement, names []string) []func(*amqp.Channel) error {
	names = append(names, "", "")
	name := names[1]
	get := func(queue string) func(*amqp.Channel) error {
		return func(ch *amqp.Channel) error { _, _, err := ch.Get(queue, false); return err }
	}
	declare := func(queue string, keep bool) func(*amqp.Channel) error {
		return func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(queue, keep, !keep, false, false, nil)
			if err == nil && !keep {
				_, err = ch.QueueDelete(queue, false, false, false)
			}
			return err
		}
	}
	bind := func(queue, exchange string) func(*amqp.Channel) error {
		return func(ch *amqp.Channel) error { return ch.QueueBind(queue, "probe.key", exchange, false, nil) }
	}
	switch e.Resource.Type + " " + e.Permission {
	case "vhost read":
		return []func(*amqp.Channel) error{get(probeQueue)}
	case "vhost write":
		return []func(*amqp.Channel) error{publish(probeExchange, "probe.key")}
	case "vhost configure":
		return []func(*amqp.Channel) error{declare("probe-declared", false)}
	case "vhost read_write":
		return []func(*amqp.Channel) error{get(probeQueue), publish(probeExchange, "probe.key"), bind(probeQueue, probeExchange)}
	case "vhost admin":
		return []func(*amqp.Channel) error{get(probeQueue), publish(probeExchange, "probe.key"), declare("probe-declared", false)}
	case "queue consume":
		return []func(*amqp.Channel) error{get(name)}
	case "queue manage":
		return []func(*amqp.Channel) error{get(name), declare(name, true), bind(name, probeExchange)}
	case "exchange publish":
		return []func(*amqp.Channel) error{publish(name, "a.key.that.nothing.lists"), publish(name, "")}
	case "exchange bind_from":
		return []func(*amqp.Channel) error{bind(probeBound, name)}
	}
	words := strings.Split(names[2], ".")
	for i, w := range words {
		if w == "*" {
			words[i] = "word"
		}
	}
	return []func(*amqp.Channel) error{publish(name, strings.Join(words, "."))}
}

// publish publishes and waits until the broker has taken it.
func publish(exchange, key string) func(*amqp.Channel) error {
	return func(ch *amqp.Channel) error {
		closed := ch.NotifyClose(make(chan *amqp.Error, 1))
		if err := ch.Confirm(false); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		sent, err := ch.PublishWithDeferredConfirmWithContext(ctx, exchange, key, false, false, amqp.Publishing{Body: []byte("x")})
		if err != nil {
			return err
		}
		select {
		case <-sent.Done():
		case err := <-closed:
			if err != nil {
				return err
			}
			return amqp.ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case err := <-closed:
			if err != nil {
				return err
			}
		default:
		}
		if !sent.Acked() {
			return errors.New("the broker did not take it")
		}
		return nil
	}
}

func (b *bed) dial(name, password, vhost string) (*amqp.Connection, error) {
	return amqp.DialConfig("amqp://"+net.JoinHostPort(localrabbitmq.Host, strconv.Itoa(b.Port)),
		amqp.Config{Vhost: vhost, SASL: []amqp.Authentication{&amqp.PlainAuth{Username: name, Password: password}}, Dial: amqp.DefaultDial(10 * time.Second)})
}

// CanLogin is true when some virtual host lets the account in. A wrong password
// is tried by the API: over AMQP the broker lets it wait for seconds.
func (o *observer) CanLogin(t integrationtest.T, c integrations.Credential) bool {
	if status, body := o.callAs(t, c.Username, c.Password.Reveal(), http.MethodGet, nil, "whoami"); status != http.StatusOK && !strings.Contains(string(body), "Not management user") {
		return false
	}
	for _, vhost := range []string{"shop", "/", hostile} {
		if conn, err := o.dial(c.Username, c.Password.Reveal(), vhost); err == nil {
			conn.Close()
			return true
		}
	}
	return false
}

// connection is a connection of a person.
type connection struct{ *amqp.Connection }

func (c connection) Alive() bool { return !c.IsClosed() }

func (o *observer) Open(t integrationtest.T, c integrations.Credential, e access.Entitlement) map[string]integrationtest.Session {
	open := map[string]integrationtest.Session{}
	for _, sort := range []string{"idle", "consuming", "publishing", "in a transaction"} {
		conn, err := o.dial(c.Username, c.Password.Reveal(), "shop")
		if err != nil {
			t.Fatalf("logging in: %v", err)
		}
		t.Cleanup(func() { conn.CloseDeadline(time.Now().Add(time.Second)) })
		open[sort] = connection{conn}
		ch, err := conn.Channel()
		if err != nil {
			t.Fatalf("opening a channel: %v", err)
		}
		switch sort {
		case "consuming":
			deliveries, err := ch.Consume("orders", "", true, false, false, false, nil)
			if err != nil {
				t.Fatalf("consuming: %v", err)
			}
			go func() {
				for range deliveries {
				}
			}()
		case "publishing":
			go func() {
				for ch.PublishWithContext(context.Background(), "events", "orders.new", false, false, amqp.Publishing{Body: []byte("x")}) == nil {
					time.Sleep(100 * time.Microsecond)
				}
			}()
		case "in a transaction":
			if err := ch.Tx(); err != nil {
				t.Fatalf("%v", err)
			}
		}
	}
	return open
}

// Give puts the tag on the account and sends its password's hash again, without
// which RabbitMQ would erase it.
func (o *observer) Give(t integrationtest.T, a access.Account) {
	o.tag(t, a.Name, "monitoring")
}

func (b *bed) tag(t integrationtest.T, name string, tags ...string) {
	t.Helper()
	u, there := read[user](t, b, "users", name)
	if !there {
		t.Fatalf("there is no user %s", name)
	}
	b.put(t, map[string]string{"password_hash": u.Hash, "tags": strings.Join(append(u.Tags, tags...), ",")}, "users", name)
}

func (o *observer) Given(t integrationtest.T, a access.Account) bool {
	return o.Can(t, a, monitoring)
}

func (o *observer) Exists(t integrationtest.T, name string) bool {
	_, there := read[user](t, o.bed, "users", name)
	return there
}

const plantedPass = "planted-Pa55word"

func (o *observer) Plant(t integrationtest.T, name string) {
	o.put(t, map[string]string{"password": plantedPass, "tags": "management"}, "users", name)
	o.put(t, record{Configure: "^$", Write: "^$", Read: "^theirs$"}, "permissions", "shop", name)
}

func (o *observer) Untouched(t integrationtest.T, name string) bool {
	u, _ := read[user](t, o.bed, "users", name)
	all, _ := read[[]record](t, o.bed, "users", name, "permissions")
	status, _ := o.callAs(t, name, plantedPass, http.MethodGet, nil, "whoami")
	return status == http.StatusOK && slices.Equal(u.Tags, []string{"management"}) && len(all) == 1 && all[0] == record{Vhost: "shop", Configure: "^$", Write: "^$", Read: "^theirs$"}
}

func (o *observer) Throttle(_ integrationtest.T, delay time.Duration) (undo func()) {
	o.gate.set(func() { o.gate.throttle = &delay })
	return func() { o.gate.set(func() { o.gate.throttle = nil }) }
}

func (o *observer) Shut(t integrationtest.T, r access.Resource) (undo func()) {
	names, err := r.Names()
	if err != nil {
		t.Fatalf("%v", err)
	}
	o.gate.set(func() { o.gate.shut = names[0] })
	return func() { o.gate.set(func() { o.gate.shut = "" }) }
}

func (o *observer) Deafen(integrationtest.T) (undo func()) {
	o.gate.set(func() { o.gate.deaf = true })
	return func() { o.gate.set(func() { o.gate.deaf = false }) }
}
