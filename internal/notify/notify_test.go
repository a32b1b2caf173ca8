package notify

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/secrets"
	"github.com/lapse-access/lapse/internal/store"
)

const (
	ana = "ana@example.com"
	// canary is part of every secret of these tests.
	canary = "c4n4rY+c4n4rY"
)

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// rig is a sender on a real store, with a clock that the test moves.
type rig struct {
	testing.TB
	*Sender
	dir string
	log *syncBuffer
	cfg config.Config

	mu  sync.Mutex
	now time.Time
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{TB: t, dir: t.TempDir(), log: &syncBuffer{}, now: noon}
	r.Sender = r.another()
	r.cfg = config.Config{PortalURL: "https://lapse.example.com/p/", People: []config.Person{{Email: ana, Name: "Ana"}, {Email: "bo@example.com"}}}
	return r
}

// another is a sender of another process on the same store.
func (r *rig) another() *Sender {
	r.Helper()
	st, err := store.Open(r.Context(), filepath.Join(r.dir, "lapse.db"))
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { st.Close() })
	st.Now = r.clock
	return &Sender{Store: st, Secrets: secrets.New(r.dir), Log: slog.New(slog.NewTextHandler(r.log, nil))}
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) later(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

// apply puts a configuration into force.
func (r *rig) apply(n config.Notify) {
	r.Helper()
	r.cfg.Notify = n
	if _, err := r.Store.SaveConfig(r.Context(), store.SaveConfig{Source: []byte(fmt.Sprint(r.clock(), n)), Config: r.cfg, By: "lapse", Event: access.Event{Kind: "config.applied"}}); err != nil {
		r.Fatal(err)
	}
}

// secret writes one into a file.
func (r *rig) secret(name, text string) secrets.Ref {
	r.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
		r.Fatal(err)
	}
	return secrets.Ref{Store: "file", Key: name}
}

func (r *rig) person(email string) access.Person {
	r.Helper()
	p, err := r.Store.PersonByEmail(r.Context(), email)
	if err != nil {
		r.Fatal(err)
	}
	return p
}

func (r *rig) tell(email string, n access.Notice) {
	r.Helper()
	n.PersonID = r.person(email).ID
	if n.Key == "" {
		n.Key = access.NewID("test")
	}
	if n.Kind == "" {
		n.Kind = access.NoticeReminder
	}
	if err := r.Store.Tell(r.Context(), []access.Notice{n}); err != nil {
		r.Fatal(err)
	}
}

// send sends what is due by a channel.
func (r *rig) send(by string) {
	r.Helper()
	for more := true; more; {
		var err error
		if more, err = r.deliver(r.Context(), by, channels[by]); err != nil {
			r.Fatal(err)
		}
	}
}

// failures are the events of what was given up.
func (r *rig) failures() (texts []string) {
	r.Helper()
	events, err := r.Store.Events(r.Context(), store.EventFilter{})
	if err != nil {
		r.Fatal(err)
	}
	for _, e := range events {
		if e.Kind == "notice.failed" {
			texts = append(texts, e.Text)
		}
	}
	return texts
}

// logged fails unless the log has these words.
func (r *rig) logged(words ...string) {
	r.Helper()
	for _, w := range words {
		if !strings.Contains(r.log.String(), w) {
			r.Errorf("%q is not in the log:\n%s", w, r.log)
		}
	}
}

// kept fails where a secret is in the log or in the store.
func (r *rig) kept(canaries ...string) {
	r.Helper()
	files, err := filepath.Glob(filepath.Join(r.dir, "lapse.db*"))
	if err != nil || len(files) == 0 {
		r.Fatalf("%q, %v", files, err)
	}
	places := map[string]string{"the log": r.log.String()}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			r.Fatal(err)
		}
		places[filepath.Base(f)] = string(text)
	}
	for where, text := range places {
		for _, c := range canaries {
			if strings.Contains(text, c) {
				r.Errorf("a secret is in %s", where)
			}
		}
	}
}

// authority is the certificate of a server, as its own authority.
func authority(server *httptest.Server) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}

// silent is an address that takes connections and never says anything.
func silent(t testing.TB) *net.TCPAddr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var open []net.Conn
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range open {
			c.Close()
		}
	})
	return l.Addr().(*net.TCPAddr)
}

// Who does not answer keeps nobody waiting: not for longer than the timeout, and
// not at all when the process ends.
func TestSilence(t *testing.T) {
	at := silent(t)
	for by, n := range map[string]config.Notify{
		config.ChannelWebhook: {Webhook: &config.Webhook{URL: "http://" + at.String()}},
		config.ChannelEmail:   {Email: &config.Email{Hostname: "127.0.0.1", Port: at.Port, From: "lapse@example.com", TLS: "none"}},
		"implicit":            {Email: &config.Email{Hostname: "127.0.0.1", Port: at.Port, From: "lapse@example.com", TLS: "implicit"}},
	} {
		t.Run(by, func(t *testing.T) {
			r := newRig(t)
			if by == "implicit" {
				by = config.ChannelEmail
			}
			if n.Webhook != nil {
				n.Webhook.Secret = r.secret("hook", hook)
			}
			r.apply(n)
			r.tell(ana, access.Notice{})

			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(100*time.Millisecond, cancel)
			begun := time.Now()
			if _, err := r.deliver(ctx, by, channels[by]); err != nil {
				t.Error(err)
			}
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("stopping took %v", took)
			}
			if r.log.String() != "" {
				t.Errorf("stopping is no failure: %s", r.log)
			}

			was := timeout
			timeout = 300 * time.Millisecond
			defer func() { timeout = was }()
			r.later(lease)
			begun = time.Now()
			r.send(by)
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("the attempt took %v", took)
			}
			r.logged("did not answer in time", "attempt=2")
		})
	}
}

// A day of failures, and then no more.
func TestGiveUp(t *testing.T) {
	r := newRig(t)
	server := httptest.NewServer(nil)
	server.Close()
	r.apply(config.Notify{Webhook: &config.Webhook{URL: server.URL, Secret: r.secret("hook", hook)}})
	r.tell(ana, access.Notice{Kind: access.NoticeBreakGlass})
	attempts := 0
	for r.clock().Sub(noon) < 48*time.Hour {
		before := strings.Count(r.log.String(), "was not sent")
		r.send(config.ChannelWebhook)
		attempts += strings.Count(r.log.String(), "was not sent") - before
		if len(r.failures()) > 0 {
			break
		}
		r.later(5 * time.Second)
	}
	took := r.clock().Sub(noon)
	if took < giveUp || took > giveUp+maxRetry*5/4 || attempts < 25 || attempts > 40 {
		t.Errorf("given up after %v and %d attempts", took, attempts)
	}
	if got := r.failures(); len(got) != 1 || got[0] != "ana@example.com was not told by webhook (break_glass): the receiver does not answer: connect: connection refused" {
		t.Errorf("%q", got)
	}
	r.logged("given_up=true")
	r.later(48 * time.Hour)
	if due, err := r.Store.ClaimDeliveries(t.Context(), config.ChannelWebhook, 10, lease); err != nil || len(due) > 0 {
		t.Errorf("%+v, %v", due, err)
	}
	rows, err := r.Store.Notices(t.Context(), store.NoticeFilter{Person: r.person(ana).ID, Unseen: true})
	if err != nil || len(rows) != 1 {
		t.Errorf("the portal has %+v, %v", rows, err)
	}
}

func TestBackoff(t *testing.T) {
	for attempt, want := range map[int]time.Duration{1: 5 * time.Second, 2: 10 * time.Second, 5: 80 * time.Second, 10: 2560 * time.Second, 11: time.Hour, 1000: time.Hour} {
		for range 100 {
			if got := backoff(attempt); got < want || got > want*5/4 {
				t.Errorf("after attempt %d: %v, want %v or a little more", attempt, got, want)
			}
		}
	}
}

// What one channel does is nothing to another, and to the process.
func TestPanic(t *testing.T) {
	r := newRig(t)
	r.apply(config.Notify{Webhook: &config.Webhook{URL: "http://127.0.0.1"}})
	r.tell(ana, access.Notice{})
	_, err := r.deliver(t.Context(), config.ChannelWebhook, func(context.Context, *Sender, config.Config, store.Delivery) *failure { panic(canary) })
	if err != nil {
		t.Error(err)
	}
	r.logged("sending a notice panicked", "panic=string", `error="internal error"`)
	r.kept(canary)
}

// Somebody who was disabled meanwhile is told nothing more, and a channel that is
// configured no longer sends nothing.
func TestMeanwhile(t *testing.T) {
	r := newRig(t)
	r.apply(config.Notify{Webhook: &config.Webhook{URL: "http://127.0.0.1:1"}, Email: &config.Email{Hostname: "127.0.0.1", Port: 1, From: ana, TLS: "none"}})
	r.tell(ana, access.Notice{})
	r.cfg.People[0].Disabled = true
	r.apply(r.cfg.Notify)
	r.send(config.ChannelEmail)
	if got := r.failures(); len(got) != 1 || !strings.HasSuffix(got[0], "the person is disabled") {
		t.Errorf("%q", got)
	}
	r.tell("bo@example.com", access.Notice{})
	r.apply(config.Notify{})
	r.send(config.ChannelEmail)
	r.send(config.ChannelWebhook)
	r.logged("there is no webhook in the configuration any more", "there is no mail server in the configuration any more")
}

func TestLink(t *testing.T) {
	for _, tc := range [][3]string{
		{"", "req-1", ""},
		{"https://lapse.example.com", "", "https://lapse.example.com/"},
		{"https://lapse.example.com/", "req-1", "https://lapse.example.com/requests/req-1"},
		{"https://example.com/lapse", "../a?b", "https://example.com/lapse/requests/..%2Fa%3Fb"},
	} {
		if got := link(config.Config{PortalURL: tc[0]}, store.NoticeRow{Notice: access.Notice{RequestID: tc[1]}}); got != tc[2] {
			t.Errorf("%q: %q, want %q", tc, got, tc[2])
		}
	}
}
