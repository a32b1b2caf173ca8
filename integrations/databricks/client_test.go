package databricks_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations/databricks"
)

// TestNothingButTheSettingsCounts has an environment and a file that lead the SDK
// elsewhere, with another login.
func TestNothingButTheSettingsCounts(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("somebody else was asked: %s", r.URL) }))
	defer elsewhere.Close()
	home := t.TempDir()
	profile := fmt.Sprintf("[DEFAULT]\nhost = %s\ntoken = other\naccount_id = other\n", elsewhere.URL)
	if err := os.WriteFile(filepath.Join(home, ".databrickscfg"), []byte(profile), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"HOME": home, "DATABRICKS_HOST": elsewhere.URL, "DATABRICKS_ACCOUNT_ID": "other", "DATABRICKS_CLIENT_ID": "other", "DATABRICKS_CLIENT_SECRET": "other", "DATABRICKS_TOKEN": "other",
		"DATABRICKS_METADATA_SERVICE_URL": elsewhere.URL, "DATABRICKS_CONFIG_PROFILE": "other", "DATABRICKS_WORKSPACE_ID": "1", "DATABRICKS_AUTH_TYPE": "pat", "DATABRICKS_DEBUG_HEADERS": "true",
		"DATABRICKS_SDK_UPSTREAM": "a\nb", "DATABRICKS_SDK_UPSTREAM_VERSION": "1", "HTTP_PROXY": elsewhere.URL, "HTTPS_PROXY": elsewhere.URL, "ALL_PROXY": elsewhere.URL, "NO_PROXY": "",
	} {
		t.Setenv(name, value)
	}
	b := newBed(t)
	agents := map[string]bool{}
	b.behave(func(_ http.ResponseWriter, r *http.Request) bool {
		b.locked(func() { agents[r.UserAgent()] = true })
		return false
	})
	l := b.live(t)
	l.grant(t, access.Granted, in("analysts"))
	l.revoke(t, access.Gone, in("analysts"))
	if len(agents) != 1 || !agents["lapse"] {
		t.Errorf("who asks: %v", agents)
	}
}

func TestOneTokenIsForManyRequestsAndIsFetchedAgain(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	logins := func() int {
		requests, _ := b.asked()
		return len(slices.DeleteFunc(requests, func(r string) bool { return !strings.HasPrefix(r, "POST /oidc/") }))
	}
	l := b.live(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { l.Discover(t.Context(), "") })
	}
	wg.Wait()
	l.grant(t, access.Granted, in("analysts"))
	if n := logins(); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
	// Databricks takes the token back: one more login, and nobody notices.
	b.locked(func() { clear(b.tokens) })
	l.revoke(t, access.Gone, in("analysts"))
	if n := logins(); n != 1 {
		t.Errorf("%d logins after the token was taken back, want 1", n)
	}
	// It takes no token at all: the second login is the last.
	b.behave(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/oidc/") {
			return false
		}
		refuse(w, http.StatusUnauthorized, "UNAUTHENTICATED", "canary")
		return true
	})
	if _, err := l.Discover(t.Context(), ""); access.KindOf(err) != access.Auth || strings.Contains(err.Error(), "canary") {
		t.Errorf("%v, want auth", err)
	}
	if n := logins(); n != 1 {
		t.Errorf("%d logins where no token is taken, want 1", n)
	}
	if _, err := b.live(t).Discover(t.Context(), ""); access.KindOf(err) != access.Auth {
		t.Errorf("%v, want auth", err)
	}
	if n := logins(); n != 1 {
		t.Errorf("%d logins by a new process where no token is taken, want 1", n)
	}
}

// TestARequestIsMadeOnce has what the SDK would repeat, for minutes.
func TestARequestIsMadeOnce(t *testing.T) {
	t.Parallel()
	for _, status := range []int{429, 500, 503, 504} {
		b := newBed(t)
		b.behave(func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasPrefix(r.URL.Path, "/oidc/") {
				return false
			}
			refuse(w, status, "TEMPORARILY_UNAVAILABLE", "Timed out after 1 s: deadline exceeded")
			return true
		})
		if _, err := b.live(t).Discover(t.Context(), ""); err == nil {
			t.Errorf("%d is no error", status)
		}
		if requests, _ := b.asked(); len(requests) != 2 {
			t.Errorf("%d: asked for %v, want a token and one page", status, requests)
		}
	}
	b := newBed(t)
	l := b.live(t)
	if _, err := l.Discover(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	b.Close()
	begun := time.Now()
	if _, err := l.Discover(t.Context(), ""); access.KindOf(err) != access.Retry || time.Since(begun) > time.Second {
		t.Errorf("nobody answers: %v after %s; want retry at once", err, time.Since(begun))
	}
}

func TestARedirectGetsNoToken(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s was asked", r.URL) }))
	defer elsewhere.Close()
	for _, at := range []string{"/oidc/", "/api/"} {
		b := newBed(t)
		b.behave(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasPrefix(r.URL.Path, at) {
				return false
			}
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
			return true
		})
		if _, err := b.live(t).Discover(t.Context(), ""); access.KindOf(err) != access.Invalid {
			t.Errorf("%s leads elsewhere: %v, want invalid", at, err)
		}
	}
}

// TestAnswersThatAreNone come from what stands before the API. Errors quote
// nothing of them: the SDK's own would.
func TestAnswersThatAreNone(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"<html>canary</html>", `{"Resources": "canary"}`, `["canary"]`, `canary`} {
		b := newBed(t)
		l := b.live(t)
		l.grant(t, access.Granted, in("analysts"))
		b.behave(func(w http.ResponseWriter, r *http.Request) bool {
			w.Write([]byte(body))
			return true
		})
		for what, operation := range map[string]func() error{
			"discover": func() error { _, err := l.Discover(t.Context(), ""); return err },
			"held":     func() error { return l.prepare(t.Context(), in("engineers")) },
			"verify": func() error {
				_, err := l.Verify(t.Context(), l.Account, []access.Entitlement{in("analysts")})
				return err
			},
			"login": func() error { _, err := b.start(t, b.target()).Discover(t.Context(), ""); return err },
		} {
			if err := operation(); access.KindOf(err) != access.Retry || strings.Contains(err.Error(), "canary") {
				t.Errorf("%s, %s: %v, want retry without a word of it", body, what, err)
			}
		}
	}
	// A group that is not the one that was asked for says nothing of it.
	b := newBed(t)
	l := b.live(t)
	l.grant(t, access.Granted, in("analysts"))
	b.behave(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == b.analysts.path() {
			say(w, http.StatusOK, b.engineers.AccountGroup)
			return true
		}
		return false
	})
	if res, err := l.TryRevoke(t, in("analysts")); access.KindOf(err) != access.Retry {
		t.Errorf("another group: %+v, %v; want retry", res.Entries, err)
	}
}

// TestRequestTimeout counts from when the request is made, and not from when it
// waits for its turn.
func TestRequestTimeout(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.behave(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/Groups") {
			<-r.Context().Done()
		}
		return false
	})
	i := b.start(t, b.target(func(c *databricks.Config, _ *databricks.Secret) {
		c.RequestTimeout = access.Duration(300 * time.Millisecond)
	}))
	begun := time.Now()
	_, err := i.Discover(t.Context(), "")
	if took := time.Since(begun); access.KindOf(err) != access.Retry || !errors.Is(err, context.DeadlineExceeded) || took < 300*time.Millisecond || took > 2*time.Second {
		t.Errorf("%v after %s, want retry after 300 ms", err, took)
	}
	b.behave(nil)
	slow := b.start(t, b.target(func(c *databricks.Config, _ *databricks.Secret) {
		c.RequestTimeout, c.RequestsPerSecond = access.Duration(300*time.Millisecond), 1
	}))
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if _, err := slow.Discover(t.Context(), ""); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestRequestsPerSecond(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	i := b.start(t, b.target(func(c *databricks.Config, _ *databricks.Secret) { c.RequestsPerSecond = 20 }))
	begun := time.Now()
	for range 30 {
		if _, err := i.Accounts(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(begun); took < 400*time.Millisecond {
		t.Errorf("30 requests at 20 a second took %s", took)
	}
}

// TestTLS trusts the authorities that are given and no others.
func TestTLS(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	s := httptest.NewTLSServer(b.Config.Handler)
	t.Cleanup(s.Close)
	authority := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	if _, err := x509.ParseCertificate(s.Certificate().Raw); err != nil {
		t.Fatal(err)
	}
	for ca, want := range map[string]access.ErrorKind{authority: "", "": access.Invalid} {
		_, err := b.start(t, b.target(func(c *databricks.Config, _ *databricks.Secret) { c.AccountsURL, c.CACertificate = s.URL, ca })).Discover(t.Context(), "")
		if access.KindOf(err) != want {
			t.Errorf("with an authority of %d bytes: %v, want %q", len(ca), err, want)
		}
	}
}

// TestWhatWasJustRemovedIsNoBaseline has a reading that is older than the one that
// proved the removal.
func TestWhatWasJustRemovedIsNoBaseline(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	l := b.live(t)
	l.grant(t, access.Granted, in("analysts"))
	b.time.pass(time.Minute)
	l.revoke(t, access.Gone, in("analysts"))
	b.lag = 20 * time.Second // another of Databricks' own servers
	if err := l.prepare(t.Context(), in("analysts")); access.KindOf(err) != access.Retry {
		t.Errorf("%v, baseline %v; want retry", err, l.Baseline)
	}
	if got := l.Verified(t, in("analysts")).Outcome; got != access.Propagating {
		t.Errorf("verified: %s, want propagating", got)
	}
	b.time.pass(b.lag)
	l.Baseline = nil
	l.grant(t, access.Propagating, in("analysts"))
	if len(l.Baseline) > 0 {
		t.Errorf("baseline: %v", l.Baseline)
	}
	// What somebody gives by hand counts once no reading can be that old.
	b.time.pass(b.lag)
	l.revoke(t, access.Propagating, in("analysts"))
	b.time.pass(databricks.Settles + time.Second)
	b.join(b.analysts, b.userOf(l.Account))
	l.grant(t, access.AlreadyHeld, in("analysts"))
}

// TestAStaleReadingHidesNoGrant: the reading before a removal is older than the
// grant.
func TestAStaleReadingHidesNoGrant(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.lag = time.Minute
	l := b.live(t)
	l.grant(t, access.Propagating, in("analysts"))
	l.restarted(t, b.account)
	l.revoke(t, access.WasGone, in("analysts"))
	if b.within(b.analysts, l.Account) {
		t.Error("the person is in the group: the revoke believed a reading from before the grant")
	}
}

// TestRemovalOfNobody has the answers that an API may give to it.
func TestRemovalOfNobody(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusNoContent, http.StatusBadRequest, http.StatusNotFound} {
		b := newBed(t)
		b.noTarget = status
		l := b.live(t)
		l.grant(t, access.Granted, in("analysts"))
		b.locked(func() {
			b.set(b.analysts, slices.DeleteFunc(slices.Clone(b.analysts.Members), is(b.userOf(l.Account))))
		})
		b.time.pass(b.lag)
		l.revoke(t, access.WasGone, in("analysts"))
		if len(b.analysts.Members) != 3 {
			t.Errorf("%d: %d members, want 3", status, len(b.analysts.Members))
		}
	}
}
