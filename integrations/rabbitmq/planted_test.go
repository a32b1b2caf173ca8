package rabbitmq_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/lapse-access/lapse/integrations/integrationtest"
)

// rewrite changes the body of a request.
func rewrite(r *http.Request, old, new string) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	text = bytes.ReplaceAll(text, []byte(old), []byte(new))
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
}

func done(w http.ResponseWriter) bool {
	w.WriteHeader(http.StatusNoContent)
	return true
}

// TestPlanted plants mistakes between the integration and the broker, each with
// the case of the suite that must catch it, so that what the observer sees on a
// real broker is proven to be what counts.
func TestPlanted(t *testing.T) {
	t.Parallel()
	b := newBed(t, 0)
	for _, bug := range []struct {
		name, caught string
		plant        func(w http.ResponseWriter, r *http.Request) (answered bool)
	}{
		{"gives every queue", "exactly", func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, "/api/permissions/") {
				rewrite(r, `"read":"^(?:orders)\\z"`, `"read":".*"`)
			}
			return false
		}},
		{"does not quote names", "hostile-names", func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, "/api/permissions/") {
				rewrite(r, `\\`, ``)
			}
			return false
		}},
		{"gives every topic", "exactly", func(w http.ResponseWriter, r *http.Request) bool {
			return r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, "/api/topic-permissions/") && done(w)
		}},
		{"takes nothing back", "exactly", func(w http.ResponseWriter, r *http.Request) bool {
			return r.Method == http.MethodDelete && strings.HasPrefix(r.URL.Path, "/api/permissions/") && done(w)
		}},
		{"forgets the mark", "once", func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, "/api/users/") {
				rewrite(r, "lapse-account=", "lapse-nobody=")
			}
			return false
		}},
		{"leaves the password", "credential", func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, "/api/users/") {
				text, _ := io.ReadAll(r.Body)
				r.Body = io.NopCloser(bytes.NewReader(text))
				return bytes.Contains(text, []byte(`"password_hash":""`)) && (&observer{b}).Exists(t, strings.TrimPrefix(r.URL.Path, "/api/users/")) && done(w)
			}
			return false
		}},
		{"leaves connections open", "sessions", func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasPrefix(r.URL.Path, "/api/connections/") {
				return false
			}
			io.WriteString(w, "[]")
			return true
		}},
		{"keeps the account", "delete", func(w http.ResponseWriter, r *http.Request) bool {
			return r.Method == http.MethodDelete && strings.HasPrefix(r.URL.Path, "/api/users/") && done(w)
		}},
	} {
		t.Run(bug.name, func(t *testing.T) {
			cases := integrationtest.Cases()
			c := cases[slices.IndexFunc(cases, func(c integrationtest.Case) bool { return c.Name == bug.caught })]
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			b.gate.set(func() { b.gate.bug = bug.plant })
			defer b.gate.set(func() { b.gate.bug = nil })
			if r := integrationtest.Try(ctx, c, b.harness(), t.Logf); r.Status != integrationtest.Failed {
				t.Errorf("%s: %s, want it to fail", c.Name, r.Status)
			}
		})
	}
}
