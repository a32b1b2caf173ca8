package portal

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/lapse-access/lapse/internal/codec"
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
	if status, _ := r.call("", "GET", "/dev/sign-in?as="+bo, nil); status != http.StatusNotFound {
		t.Errorf("dev sign-in: status %d", status)
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
	for query, status := range map[string]int{"as=" + bo: 401, "as=" + bo + "&token=x": 401, "as=" + bo + "&token=t0ken": 303} {
		if got, answer := r.call("", "GET", "/dev/sign-in?"+query, nil); got != status {
			t.Errorf("sign-in with %s: status %d, want %d: %s", query, got, status, answer)
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

// cookie signs somebody in for the codec endpoint.
func (r *rig) cookie(as string) string {
	r.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Get(r.server.URL + "/dev/sign-in?as=" + url.QueryEscape(as))
	if err != nil {
		r.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "http://127.0.0.1:8233" {
		r.Fatalf("sign-in: %s to %s", res.Status, res.Header.Get("Location"))
	}
	c := res.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/codec" {
		r.Errorf("cookie: %+v", c)
	}
	return c.Name + "=" + c.Value
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
	const ui, local = "http://127.0.0.1:8233", "http://localhost:8233"
	for _, tc := range []struct {
		name    string
		as      string
		headers []string
		status  int
	}{
		{"command line", bo, nil, 200},
		{"web UI", "", []string{"Origin", ui, "Cookie", r.cookie(bo)}, 200},
		{"web UI under its other name", "", []string{"Origin", local, "Cookie", r.cookie(bo)}, 200},
		{"no administrator", "", []string{"Origin", ui, "Cookie", r.cookie(cy)}, 403},
		{"no administrator by header", cy, nil, 403},
		{"not signed in", "", []string{"Origin", ui}, 401},
		{"forged cookie", "", []string{"Origin", ui, "Cookie", cookieName + "=Ym9AZXhhbXBsZS5jb20.AAAA"}, 401},
		{"another origin", "", []string{"Origin", "http://evil.example.com", "Cookie", r.cookie(bo)}, 403},
		{"another port", "", []string{"Origin", "http://127.0.0.1:9999", "Cookie", r.cookie(bo)}, 403},
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

func TestCodecPreflight(t *testing.T) {
	r := configured(t)
	for origin, ok := range map[string]bool{"http://127.0.0.1:8233": true, "http://localhost:8233": true, "http://evil.example.com": false} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, r.server.URL+"/codec/decode", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", origin)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		h := res.Header
		if allowed := h.Get("Access-Control-Allow-Origin") == origin && h.Get("Access-Control-Allow-Credentials") == "true"; allowed != ok || strings.Contains(h.Get("Access-Control-Allow-Headers"), api.HeaderAs) {
			t.Errorf("%s: %s %v", origin, res.Status, h)
		}
	}
}

// The cookie of the dev identity is worth nothing at the API, nor from another
// site, nor after a restart.
func TestCookieIsForTheCodecOnly(t *testing.T) {
	r := configured(t)
	cookie := r.cookie(bo)
	if status, _ := r.call("", "GET", api.Prefix+"/requests", nil, "Cookie", cookie); status != http.StatusUnauthorized {
		t.Errorf("API: status %d", status)
	}
	if status, _ := r.call("", "GET", "/dev/sign-in?as="+bo, nil, "Sec-Fetch-Site", "cross-site"); status != http.StatusForbidden {
		t.Errorf("sign-in from another site: status %d", status)
	}
	if status, _ := r.call("", "GET", "/dev/sign-in?as=nobody@example.com", nil); status != http.StatusForbidden {
		t.Errorf("sign-in of a stranger: status %d", status)
	}
	if status, _ := configured(t).call("", "POST", "/codec/decode", "{}", "Cookie", cookie); status != http.StatusUnauthorized {
		t.Errorf("another process: status %d", status)
	}
}

func TestOrigins(t *testing.T) {
	for _, ui := range []string{"127.0.0.1:8233", "http://", "%"} {
		if _, err := New(Options{UI: ui, Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "want an origin") {
			t.Errorf("%s: %v", ui, err)
		}
	}
	got, err := origins("https://temporal.example.com/ui")
	if err != nil || len(got) != 1 || got[0] != "https://temporal.example.com" {
		t.Errorf("%v %v", got, err)
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
	operations := 0
	for path, methods := range doc.Paths {
		for method, op := range methods {
			operations++
			if !strings.HasPrefix(path, api.Prefix+"/") || op["summary"] == nil || op["operationId"] == nil {
				t.Errorf("%s %s: %v", method, path, op["operationId"])
			}
		}
	}
	if operations != 20 {
		t.Errorf("%d operations", operations)
	}
	if !bytes.Contains([]byte(answer), []byte(`"Problem"`)) {
		t.Error("errors are not described as Problem")
	}
}
