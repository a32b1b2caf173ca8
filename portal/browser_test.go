package portal

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/lapse-access/lapse/internal/codec"
	"github.com/lapse-access/lapse/internal/keys"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/portal/api"
)

// A page whose name was made to resolve to this machine reads nothing.
func TestHostNames(t *testing.T) {
	r := configured(t)
	for host, status := range map[string]int{
		"127.0.0.1:8080": 200, "localhost:8080": 200, "[::1]:8080": 200, "localhost": 200, "127.8.8.8": 200,
		"evil.example.com": 421, "evil.example.com:8080": 421, "127.0.0.1.evil.example.com": 421, "10.0.0.1:8080": 421, "0.0.0.0:8080": 421,
	} {
		for _, path := range []string{api.Prefix + "/requests", api.Prefix + "/health", api.Prefix + "/openapi.json"} {
			if got, answer := r.call(ana, "GET", path, nil, "Host", host); got != status {
				t.Errorf("%s%s: status %d, want %d: %s", host, path, got, status, answer)
			}
		}
	}
}

// A browser gets no leave for the header that names the caller.
func TestCrossSite(t *testing.T) {
	r := configured(t)
	for _, headers := range [][]string{
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Origin", "http://evil.example.com"},
		{"Origin", "http://127.0.0.1:8233"},
	} {
		if status, answer := r.call(ana, "POST", api.Prefix+"/requests", ask(), headers...); status != http.StatusForbidden {
			t.Errorf("%v: status %d: %s", headers, status, answer)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, r.server.URL+api.Prefix+"/requests", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", "http://127.0.0.1:8233")
	req.Header.Set("Access-Control-Request-Headers", api.HeaderAs)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode < 400 || res.Header.Get("Access-Control-Allow-Origin") != "" || res.Header.Get("Access-Control-Allow-Headers") != "" {
		t.Errorf("preflight: %s %v", res.Status, res.Header)
	}
}

func TestNoSignInWithoutDev(t *testing.T) {
	r := configured(t, func(o *Options) { o.Dev = false })
	r.refused(http.StatusUnauthorized, bo, "GET", "/requests", nil, "OIDC", "lapse-dev")
	if res := r.send("POST", "/sign-in", "", url.Values{"as": {bo}}); res.status != http.StatusUnauthorized || len(res.cookies) > 0 {
		t.Errorf("sign-in: status %d", res.status)
	}
	if res := r.send("GET", "/sign-in", "", nil); strings.Contains(res.body, bo) {
		t.Error("the sign-in names people")
	}
	if status, _ := r.call(bo, "POST", "/codec/decode", "{}"); status != http.StatusUnauthorized {
		t.Errorf("codec: status %d", status)
	}
	if status, _ := r.call("", "GET", api.Prefix+"/health", nil, "Host", "lapse.example.com"); status != http.StatusOK {
		t.Errorf("health: status %d", status)
	}
	if strings.Contains(r.log.String(), "DEV IDENTITY") {
		t.Error("the log says that it is the dev identity")
	}
}

func TestDevIdentityIsLoud(t *testing.T) {
	if r := empty(t); !strings.Contains(r.log.String(), "SIGN-IN IS THE DEV IDENTITY") {
		t.Errorf("log: %s", r.log)
	}
}

func TestToken(t *testing.T) {
	r := configured(t, func(o *Options) { o.Token = "t0ken" })
	for auth, status := range map[string]int{"Bearer t0ken": 200, "Bearer token": 401, "": 401, "Bearer ": 401} {
		if got, answer := r.call(ana, "GET", api.Prefix+"/requests", nil, "Authorization", auth); got != status || strings.Contains(answer, "t0ken") {
			t.Errorf("%q: status %d, want %d: %s", auth, got, status, answer)
		}
	}
	for token, status := range map[string]int{"": 401, "x": 401, "t0ken": 303} {
		if res := r.send("POST", "/sign-in", "", url.Values{"as": {bo}, "token": {token}}); res.status != status || strings.Contains(res.body, "t0ken") {
			t.Errorf("sign-in with %q: status %d, want %d", token, res.status, status)
		}
	}
}

func TestListenOnLoopbackOnly(t *testing.T) {
	r := empty(t)
	for _, addr := range []string{"0.0.0.0:0", ":0", "10.0.0.1:0", "[::]:0", "lapse.example.com:0"} {
		if _, err := Listen(addr, r.portal); err == nil || !strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("%s: %v", addr, err)
		}
	}
	stop, err := Listen("127.0.0.1:0", r.portal)
	if err != nil {
		t.Fatal(err)
	}
	stop()
}

// cookie signs somebody in.
func (r *rig) cookie(as string) string {
	r.Helper()
	res := r.send("POST", "/sign-in", "", url.Values{"as": {as}})
	if res.status != http.StatusSeeOther || res.header.Get("Location") != "/" {
		r.Fatalf("sign-in as %s: status %d to %q: %s", as, res.status, res.header.Get("Location"), res.body)
	}
	for _, c := range res.cookies {
		if c.Name == sessionCookie {
			if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" {
				r.Errorf("cookie: %+v", c)
			}
			return c.Name + "=" + c.Value
		}
	}
	r.Fatal("no session")
	return ""
}

func TestCodec(t *testing.T) {
	r := configured(t)
	data, _ := codec.New(r.keys.Codec)
	payload, err := data.ToPayload("hello")
	if err != nil {
		t.Fatal(err)
	}
	body, err := protojson.Marshal(&commonpb.Payloads{Payloads: []*commonpb.Payload{payload}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		as      string
		headers []string
		status  int
	}{
		{"command line", bo, nil, 200},
		{"web UI", "", []string{"Sec-Fetch-Site", "same-origin", "Cookie", r.cookie(bo)}, 200},
		{"no administrator", "", []string{"Sec-Fetch-Site", "same-origin", "Cookie", r.cookie(cy)}, 403},
		{"no administrator by header", cy, nil, 403},
		{"not signed in", "", []string{"Sec-Fetch-Site", "same-origin"}, 401},
		{"forged cookie", "", []string{"Cookie", sessionCookie + "=Ym9AZXhhbXBsZS5jb20.AAAA"}, 401},
		{"cookie of a note", "", []string{"Cookie", sessionCookie + "=" + r.portal.sign(noteCookie, "9999999999 "+bo)}, 401},
		{"another origin", "", []string{"Origin", "http://evil.example.com", "Cookie", r.cookie(bo)}, 403},
		{"another port", "", []string{"Sec-Fetch-Site", "same-site", "Origin", "http://127.0.0.1:8233", "Cookie", r.cookie(bo)}, 403},
		{"no origin", "", []string{"Origin", "null", "Cookie", r.cookie(bo)}, 403},
	} {
		status, answer := r.call(tc.as, "POST", "/codec/decode", string(body), tc.headers...)
		if status != tc.status || (status == 200) != strings.Contains(answer, "ImhlbGxvIg==") {
			t.Errorf("%s: status %d, want %d: %s", tc.name, status, tc.status, answer)
		}
	}
	events, err := r.store.Events(t.Context(), store.EventFilter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, e := range events {
		if e.Kind == "codec.read" {
			read++
		}
	}
	if read != 1 {
		t.Errorf("%d events of three reads by one person, want 1", read)
	}
	if status, _ := r.call(bo, "POST", "/codec/encode", string(body)); status != http.StatusNotFound {
		t.Errorf("encode: status %d", status)
	}
}

// A session is worth nothing at the API, nor after its time, nor after a
// restart, and no other site can make one.
func TestSessionIsForThePagesOnly(t *testing.T) {
	r := configured(t)
	cookie := r.cookie(bo)
	if status, _ := r.call("", "GET", api.Prefix+"/requests", nil, "Cookie", cookie); status != http.StatusUnauthorized {
		t.Errorf("API: status %d", status)
	}
	if res := r.send("GET", "/all", cookie, nil); res.status != http.StatusOK {
		t.Errorf("page: status %d", res.status)
	}
	if res := configured(t).send("GET", "/all", cookie, nil); res.status != http.StatusSeeOther {
		t.Errorf("another process: status %d", res.status)
	}
	if res := r.send("POST", "/sign-in", "", url.Values{"as": {bo}}, "Sec-Fetch-Site", "cross-site"); res.status != http.StatusForbidden || len(res.cookies) > 0 {
		t.Errorf("sign-in from another site: status %d", res.status)
	}
	for _, stranger := range []string{"nobody@example.com", di, ""} {
		if res := r.send("POST", "/sign-in", "", url.Values{"as": {stranger}}); res.status < 400 || len(res.cookies) > 0 {
			t.Errorf("sign-in as %q: status %d", stranger, res.status)
		}
	}
	now := time.Now()
	late := configured(t)
	cookie = late.cookie(eve)
	late.store.Now = func() time.Time { return now.Add(sessionLength + time.Minute) }
	if res := late.send("GET", "/", cookie, nil); res.status != http.StatusSeeOther {
		t.Errorf("after its time: status %d", res.status)
	}
	late.store.Now = time.Now
	changed := strings.Replace(lapseYAML, "groups: [sales]}", "groups: [sales], disabled: true}", 1)
	if _, err := late.portal.Apply(t.Context(), "lapse.yaml", []byte(changed)); err != nil {
		t.Fatal(err)
	}
	if res := late.send("GET", "/", cookie, nil); res.status != http.StatusForbidden {
		t.Errorf("somebody who was disabled: status %d", res.status)
	}
}

func TestAddressOfTheUI(t *testing.T) {
	for _, ui := range []string{"127.0.0.1:8233", "http://", "%", "http://127.0.0.1:8233/ui"} {
		if _, err := New(Options{UI: ui, Keys: &keys.Ring{PortalKey: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))}, Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "want an origin") {
			t.Errorf("%s: %v", ui, err)
		}
	}
}

func TestOpenAPI(t *testing.T) {
	r := empty(t)
	status, answer := r.call("", "GET", api.Prefix+"/openapi.json", nil)
	var doc struct {
		OpenAPI string                               `json:"openapi"`
		Paths   map[string]map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal([]byte(answer), &doc); err != nil || status != http.StatusOK {
		t.Fatalf("status %d: %v", status, err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("OpenAPI %s", doc.OpenAPI)
	}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			if !strings.HasPrefix(path, api.Prefix+"/") || op["summary"] == nil || op["operationId"] == nil {
				t.Errorf("%s %s: %v", method, path, op["operationId"])
			}
		}
	}
	if len(doc.Paths) == 0 {
		t.Error("no operations")
	}
	if !bytes.Contains([]byte(answer), []byte(`"Problem"`)) {
		t.Error("errors are not described as Problem")
	}
}
