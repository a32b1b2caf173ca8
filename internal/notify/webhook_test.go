package notify

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/internal/store/storetest"
)

var (
	key      = "whsec_" + base64.StdEncoding.EncodeToString([]byte(canary+canary))
	previous = "whsec_" + base64.StdEncoding.EncodeToString([]byte("before "+canary+canary))
	hook     = `{"key": "` + key + `"}`
)

// receiver takes what is posted to it, and verifies it with the library of
// Standard Webhooks.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	got    []posted
	ids    map[string]int
	status []int // of the next answers; 200 for the rest
	header http.Header
}

func receive(t testing.TB, start func(http.Handler) *httptest.Server, keys ...string) *receiver {
	t.Helper()
	r := &receiver{ids: map[string]int{}, header: http.Header{}}
	r.Server = start(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		for _, key := range keys {
			wh, err := webhooks.NewWebhook(key)
			if err == nil {
				err = wh.Verify(body, req.Header)
			}
			if err != nil {
				t.Error(err)
			}
			if err := wh.Verify(append(body, ' '), req.Header); err == nil {
				t.Error("the signature does not cover the body")
			}
		}
		var p posted
		if err := json.Unmarshal(body, &p); err != nil || req.Method != http.MethodPost || req.Header.Get("Content-Type") != "application/json" || p.ID != req.Header.Get("webhook-id") {
			t.Errorf("%s %s %v: %v", req.Method, body, req.Header, err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		status := http.StatusOK
		if len(r.status) > 0 {
			status, r.status = r.status[0], r.status[1:]
		}
		for name, values := range r.header {
			w.Header()[name] = values
		}
		w.WriteHeader(status)
		io.WriteString(w, "your key is "+key)
		if status == http.StatusOK {
			r.got = append(r.got, p)
		}
		r.ids[p.ID]++
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) received() []posted {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got
}

func TestWebhook(t *testing.T) {
	r, to := newRig(t), receive(t, httptest.NewTLSServer, key, previous)
	r.apply(config.Notify{Webhook: &config.Webhook{URL: to.URL + "/in", CACertificate: authority(to.Server),
		Secret: r.secret("hook", `{"key": "`+key+`", "previous": "`+previous+`"}`)}})
	r.tell(ana, access.Notice{Kind: access.NoticeEscalation, RequestID: "req-1", Text: `Bo asks for "admin" & <more>`, At: noon.Add(-time.Hour)})
	r.send(config.ChannelWebhook)
	r.later(24 * time.Hour)
	r.send(config.ChannelWebhook)
	got := to.received()
	if len(got) != 1 {
		t.Fatalf("%+v", got)
	}
	want := posted{ID: got[0].ID, Kind: "escalation", Person: ana, RequestID: "req-1", Text: `Bo asks for "admin" & <more>`,
		URL: "https://lapse.example.com/p/requests/req-1", At: noon.Add(-time.Hour)}
	if got[0] != want || !strings.HasPrefix(want.ID, "ntc-") || strings.Contains(want.ID, ".") {
		t.Errorf("%+v\nwant %+v", got[0], want)
	}
	if r.log.String() != "" {
		t.Errorf("log: %s", r.log)
	}
	r.kept(canary, key, previous, strings.TrimPrefix(key, "whsec_"))
}

// The signature that the makers of the specification show for their example.
func TestSign(t *testing.T) {
	got, err := sign(signing{Key: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want || err != nil {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
	for _, wrong := range []string{"whsec_" + canary, "whsec_c2hvcnQ=", "whsec_" + strings.Repeat("QUJD", 22)} {
		if got, err := sign(signing{Key: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", Previous: integrations.Secret(wrong)}, "", "", nil); err == nil || strings.Contains(err.Error(), strings.TrimPrefix(wrong, "whsec_")) {
			t.Errorf("%s: %s, %v", wrong, got, err)
		}
	}
}

// A receiver that is down for a while gets each notice once it is back, once.
func TestWebhookDown(t *testing.T) {
	r := newRig(t)
	elsewhere := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	t.Cleanup(other.Close)
	to := receive(t, httptest.NewTLSServer, key)
	to.status = []int{500, 404, 307, 302, 401}
	to.header = http.Header{"Location": {other.URL}}
	webhook := config.Webhook{URL: "http://127.0.0.1:1", CACertificate: authority(to.Server), Secret: r.secret("hook", hook)}
	r.apply(config.Notify{Webhook: &webhook})
	r.tell(ana, access.Notice{})
	r.send(config.ChannelWebhook)
	r.logged("does not answer", "attempt=1")
	webhook.URL = to.URL
	r.apply(config.Notify{Webhook: &webhook})
	for len(to.received()) == 0 && r.clock().Before(noon.Add(time.Hour)) {
		r.later(time.Second)
		r.send(config.ChannelWebhook)
	}
	r.logged("answers 500", "answers 404", "answers 307", "answers 302", "answers 401")
	if took := r.clock().Sub(noon); took < 5*63*time.Second || took > 5*63*time.Second*5/4+10*time.Second {
		t.Errorf("it took %v", took)
	}
	r.later(24 * time.Hour)
	r.send(config.ChannelWebhook)
	if got := to.received(); len(got) != 1 || to.ids[got[0].ID] != 6 {
		t.Errorf("%+v after %v", got, to.ids)
	}
	if elsewhere > 0 {
		t.Error("a redirect was followed")
	}
	if got := r.failures(); len(got) > 0 {
		t.Errorf("%q", got)
	}
	r.kept(canary, key)
}

func TestWebhookAnswers(t *testing.T) {
	r, to := newRig(t), receive(t, httptest.NewServer, key)
	r.apply(config.Notify{Webhook: &config.Webhook{URL: to.URL, Secret: r.secret("hook", hook)}})
	to.status, to.header = []int{429}, http.Header{"Retry-After": {"600"}}
	r.tell(ana, access.Notice{Key: "a"})
	r.send(config.ChannelWebhook)
	r.later(599 * time.Second)
	r.send(config.ChannelWebhook)
	if got := to.received(); len(got) > 0 {
		t.Error("a receiver that asked for time did not get it")
	}
	r.later(time.Second)
	r.send(config.ChannelWebhook)
	if got := to.received(); len(got) != 1 {
		t.Error("after that time nothing came")
	}
	to.status = []int{410}
	r.tell(ana, access.Notice{Key: "b"})
	r.send(config.ChannelWebhook)
	if got := r.failures(); len(got) != 1 || !strings.HasSuffix(got[0], "the receiver answers 410") {
		t.Errorf("%q", got)
	}
}

// What cannot be trusted, or signed, gets nothing.
func TestWebhookIsRefused(t *testing.T) {
	to := receive(t, httptest.NewTLSServer, key)
	_, port, _ := strings.Cut(to.Listener.Addr().String(), ":")
	for name, tc := range map[string]struct {
		change func(r *rig, w *config.Webhook)
		says   string
	}{
		"a certificate of nobody that is known": {func(_ *rig, w *config.Webhook) { w.CACertificate = "" }, "the certificate of the receiver does not hold"},
		"a certificate of another name":         {func(_ *rig, w *config.Webhook) { w.URL = "https://localhost:" + port }, "the certificate of the receiver does not hold"},
		"no TLS":                                {func(_ *rig, w *config.Webhook) { w.URL = "http://hooks.example.com" }, "unencrypted"},
		"a secret that is not there":            {func(_ *rig, w *config.Webhook) { w.Secret.Key = "nowhere" }, "secret file nowhere: open"},
		"a secret that is no JSON":              {func(r *rig, w *config.Webhook) { w.Secret = r.secret("bad", canary) }, "secret file bad"},
		"a key that is none":                    {func(r *rig, w *config.Webhook) { w.Secret = r.secret("bad", `{"key": "`+canary+`"}`) }, "secret file bad: the key is not"},
		"a secret with another's fields": {func(r *rig, w *config.Webhook) {
			w.Secret = r.secret("bad", `{"username": "x", "password": "`+canary+`"}`)
		}, "secret file bad"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			w := config.Webhook{URL: to.URL, CACertificate: authority(to.Server), Secret: r.secret("hook", hook)}
			tc.change(r, &w)
			r.apply(config.Notify{Webhook: &w})
			r.tell(ana, access.Notice{})
			r.send(config.ChannelWebhook)
			r.logged(tc.says, "given_up=false")
			r.kept(canary, key)
		})
	}
	if len(to.ids) > 0 {
		t.Errorf("the receiver got %v", to.ids)
	}
}

// Two processes send each notice once.
func TestTwoSenders(t *testing.T) {
	r, to := newRig(t), receive(t, httptest.NewTLSServer, key)
	r.apply(config.Notify{Webhook: &config.Webhook{URL: to.URL, CACertificate: authority(to.Server), Secret: r.secret("hook", hook)}})
	const all = 60
	for range all {
		r.tell(ana, access.Notice{})
	}
	var loops sync.WaitGroup
	for _, s := range []*Sender{r.Sender, r.another()} {
		loops.Go(func() {
			for more := true; more; {
				var err error
				if more, err = s.deliver(t.Context(), config.ChannelWebhook, post); err != nil {
					t.Error(err)
				}
			}
		})
	}
	loops.Wait()
	r.send(config.ChannelWebhook)
	if len(to.ids) != all || len(to.received()) != all {
		t.Errorf("%d notices came in %d posts, want %d", len(to.ids), len(to.received()), all)
	}
}

// A process that is cut at any step loses nothing, and what it leaves is sent
// again under the same id.
func TestSenderIsCut(t *testing.T) {
	for step, after := 1, false; ; {
		r, to := newRig(t), receive(t, httptest.NewServer, key)
		r.apply(config.Notify{Webhook: &config.Webhook{URL: to.URL, Secret: r.secret("hook", hook)}})
		r.tell(ana, access.Notice{})
		ctx, steps := storetest.Cut(t.Context(), step, after)
		if _, err := r.deliver(ctx, config.ChannelWebhook, post); err != nil && !errors.Is(err, storetest.ErrCut) {
			t.Error(err)
		}
		made := steps.Made()
		r.later(lease)
		r.send(config.ChannelWebhook)
		if got := to.received(); len(to.ids) != 1 || len(got) < 1 || len(got) > 2 {
			t.Errorf("cut at step %d (after: %v): %d posts of %d notices", step, after, len(got), len(to.ids))
		}
		if made < step {
			if step < 4 {
				t.Errorf("only %d steps", made)
			}
			return
		}
		if after = !after; !after {
			step++
		}
	}
}

// Run sends by itself, and ends with its context.
func TestRun(t *testing.T) {
	r, to := newRig(t), receive(t, httptest.NewServer, key)
	r.apply(config.Notify{Webhook: &config.Webhook{URL: to.URL, Secret: r.secret("hook", hook)}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); r.Run(ctx) }()
	r.tell(ana, access.Notice{})
	for deadline := time.Now().Add(10 * time.Second); len(to.received()) == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing came")
		}
	}
	cancel()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("it goes on")
	}
	rows, err := r.Store.Notices(t.Context(), store.NoticeFilter{Person: r.person(ana).ID})
	if err != nil || len(rows) != 1 || !rows[0].SeenAt.IsZero() {
		t.Errorf("sending is not seeing: %+v, %v", rows, err)
	}
}
