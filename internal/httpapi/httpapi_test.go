package httpapi

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
)

const secret = "canary-credential"

func authorize(r *http.Request) { r.Header.Set("Authorization", secret) }

func client(t *testing.T, o Options) *Client {
	t.Helper()
	o.Authorize = authorize
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func TestNewRefuses(t *testing.T) {
	for _, o := range []Options{
		{URL: ""}, {URL: "api.example.com"}, {URL: "ftp://api.example.com"}, {URL: "https://"}, {URL: "http://api.example.com"},
		{URL: "https://user:password@api.example.com"}, {URL: "https://api.example.com?x=y"}, {URL: "https://api.example.com", CACertificate: "not PEM"},
	} {
		if _, err := New(o); access.KindOf(err) != access.Invalid || strings.Contains(err.Error(), "password") {
			t.Errorf("%+v: %v, want invalid", o, err)
		}
	}
	for _, o := range []Options{{URL: "https://api.example.com/v1/"}, {URL: "http://127.0.0.1:1"}, {URL: "http://broker:15672", Plain: true}} {
		if _, err := New(o); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestPathsAreEscaped(t *testing.T) {
	var got string
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { got = r.RequestURI })
	c := client(t, Options{URL: s.URL + "/v1/"})
	for _, path := range [][]string{{"acl", "users"}, {"a/b", "..x", "%2F?#"}, {"we\"ird';--\\ \t😀 \u202e*|.+"}} {
		if _, err := c.Do(t.Context(), http.MethodGet, path, url.Values{"q": {"a&b"}}, nil); err != nil {
			t.Fatal(err)
		}
		raw, query, _ := strings.Cut(got, "?")
		parts := strings.Split(strings.TrimPrefix(raw, "/v1/"), "/")
		if len(parts) != len(path) || query != "q=a%26b" {
			t.Fatalf("%q became %s", path, got)
		}
		for i, part := range parts {
			if plain, err := url.PathUnescape(part); err != nil || plain != path[i] {
				t.Errorf("%q became %s", path, got)
			}
		}
	}
	if _, err := c.Do(t.Context(), http.MethodGet, nil, nil, nil); err != nil || got != "/v1/" {
		t.Errorf("without a path: %s, %v", got, err)
	}
	for _, segment := range []string{"", ".", ".."} {
		if _, err := c.Do(t.Context(), http.MethodDelete, []string{"users", segment}, nil, nil); access.KindOf(err) != access.Invalid {
			t.Errorf("a segment %q: %v, want invalid", segment, err)
		}
	}
}

func TestFailures(t *testing.T) {
	for status, want := range map[int]access.ErrorKind{
		302: access.Invalid, 400: access.Invalid, 401: access.Auth, 403: access.Privilege, 404: access.ResourceMissing, 408: access.Retry,
		409: access.Conflict, 412: access.Invalid, 422: access.Invalid, 429: access.RateLimited, 500: access.Retry, 503: access.Retry,
	} {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "7")
			http.Error(w, r.Header.Get("Authorization"), status)
		})
		res, err := client(t, Options{URL: s.URL}).Do(t.Context(), http.MethodGet, nil, nil, nil)
		e, _ := errors.AsType[*access.Error](err)
		if e == nil || e.Kind != want || e.After != 7*time.Second || strings.Contains(fmt.Sprintf("%+v", err), secret) || res.Status != status {
			t.Errorf("%d: %+v, want %s, 7s and no secret", status, err, want)
		}
	}
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusConflict) })
	c := client(t, Options{URL: s.URL, Failure: func(r *Response) *access.Error { return access.Errorf(access.Limit, "full") }})
	if _, err := c.Do(t.Context(), http.MethodPost, nil, nil, 1); access.KindOf(err) != access.Limit {
		t.Errorf("what the room says of an answer does not count: %v", err)
	}
}

func TestWait(t *testing.T) {
	for header, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "-1": 0, "soon": 0, "Mon, 02 Jan 2006 15:04:05 GMT": 0} {
		if got := Wait(header); got != want {
			t.Errorf("%q: %s, want %s", header, got, want)
		}
	}
	if got := Wait(time.Now().Add(time.Minute).UTC().Format(http.TimeFormat)); got < 50*time.Second || got > time.Minute {
		t.Errorf("a minute from now is %s", got)
	}
}

func TestNoRedirectWithTheCredential(t *testing.T) {
	stolen := false
	thief := serve(t, func(w http.ResponseWriter, r *http.Request) { stolen = true })
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, thief.URL, http.StatusTemporaryRedirect)
	})
	if _, err := client(t, Options{URL: s.URL}).Do(t.Context(), http.MethodPost, nil, nil, secret); access.KindOf(err) != access.Invalid || stolen {
		t.Errorf("a redirect: %v; it was followed: %t", err, stolen)
	}
}

func TestAnswers(t *testing.T) {
	page := serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>") })
	res, err := client(t, Options{URL: page.URL}).Do(t.Context(), http.MethodGet, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := res.JSON(&v); access.KindOf(err) != access.Retry {
		t.Errorf("a page of a load balancer: %v, want retry", err)
	}
	endless := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for range answerLimit>>20 + 1 {
			w.Write(make([]byte, 1<<20))
		}
	})
	if _, err := client(t, Options{URL: endless.URL}).Do(t.Context(), http.MethodGet, nil, nil, nil); access.KindOf(err) != access.Limit {
		t.Errorf("an endless answer: %v, want limit", err)
	}
	cut := serve(t, func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
	if _, err := client(t, Options{URL: cut.URL}).Do(t.Context(), http.MethodPost, nil, nil, secret); access.KindOf(err) != access.Retry || strings.Contains(err.Error(), cut.URL) {
		t.Errorf("a broken connection: %v, want retry without the address", err)
	}
	closed := httptest.NewServer(nil)
	closed.Close()
	if _, err := client(t, Options{URL: closed.URL}).Do(t.Context(), http.MethodGet, nil, nil, nil); access.KindOf(err) != access.Retry {
		t.Errorf("nobody answers: %v, want retry", err)
	}
	wait := make(chan struct{})
	mute := serve(t, func(w http.ResponseWriter, r *http.Request) { <-wait })
	defer close(wait)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := client(t, Options{URL: mute.URL}).Do(ctx, http.MethodGet, nil, nil, nil); access.KindOf(err) != access.Retry || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no answer in time: %v, want retry", err)
	}
}

func TestTLS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ErrorLog = nil
	t.Cleanup(s.Close)
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	for _, test := range []struct {
		name string
		Options
		want access.ErrorKind
	}{
		{"the system's authorities", Options{}, access.Invalid},
		{"its own authority", Options{CACertificate: ca}, ""},
		{"nobody", Options{SkipVerify: true}, ""},
	} {
		test.URL = s.URL
		if _, err := client(t, test.Options).Do(t.Context(), http.MethodGet, nil, nil, nil); access.KindOf(err) != test.want {
			t.Errorf("verified by %s: %v, want %q", test.name, err, test.want)
		}
	}
}

// TestGuard has a vendor's client meet what Do meets.
func TestGuard(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, "/", http.StatusFound)
		case "/long", "/exact":
			w.Write(make([]byte, answerLimit))
			w.Write(make([]byte, len(strings.TrimPrefix(r.URL.Path, "/exact"))))
		case "/short":
			w.Header().Set("Content-Length", "10")
		default:
			http.Error(w, "no", http.StatusTeapot)
		}
	})
	get := func(url string) (status int, n int64, err error) {
		got, err := (&http.Client{Transport: Guard(http.DefaultTransport)}).Get(url)
		if err != nil {
			return 0, 0, err
		}
		defer got.Body.Close()
		n, err = io.Copy(io.Discard, got.Body)
		return got.StatusCode, n, err
	}
	for path, want := range map[string]access.ErrorKind{"/": "", "/exact": "", "/long": access.Limit, "/redirect": access.Invalid, "/short": access.Retry} {
		status, n, err := get(s.URL + path)
		if access.KindOf(err) != want {
			t.Errorf("%s: %d, %d bytes, %v; want %q", path, status, n, err, want)
		}
	}
	if status, _, _ := get(s.URL); status != http.StatusTeapot {
		t.Errorf("an answer that is not 2xx is %d", status)
	}
	s.Close()
	if _, _, err := get(s.URL); access.KindOf(err) != access.Retry {
		t.Errorf("nobody answers: %v", err)
	}
}
