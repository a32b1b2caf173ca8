package portal

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/portal/api"
)

type signedInKey struct{}

// signedIn is the person who calls.
func signedIn(ctx context.Context) access.Person {
	return ctx.Value(signedInKey{}).(access.Person)
}

// signIn lets those through to the API who are known.
func (p *Portal) signIn(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	who, err := p.identify(r)
	if err != nil {
		writeProblem(w, p.fail(*ctx.Operation(), err))
		return
	}
	next(huma.WithValue(ctx, signedInKey{}, who))
}

var wrongToken = problem(http.StatusUnauthorized, "set LAPSE_TOKEN to the token that the portal was started with", "the token is missing or is another one")

// identify finds out who calls, by the headers of the call.
func (p *Portal) identify(r *http.Request) (who access.Person, err error) {
	if !p.tokenFits(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")) {
		return who, wrongToken
	}
	return p.person(r.Context(), r.Header.Get(api.HeaderAs))
}

// person finds the person who goes by an address. In dev nobody has to prove
// it.
func (p *Portal) person(ctx context.Context, as string) (who access.Person, err error) {
	if !p.opts.Dev {
		return who, problem(http.StatusUnauthorized, "for a trial on one machine use lapse-dev, or lapse portal --dev",
			"nobody can sign in: sign-in with OIDC is not there yet")
	}
	if as == "" {
		return who, problem(http.StatusUnauthorized, "set LAPSE_AS=<e-mail address>", "who are you? The header %s is missing", api.HeaderAs)
	}
	who, err = p.opts.Store.PersonByEmail(ctx, as)
	switch {
	case errors.Is(err, store.ErrNotFound):
		if _, _, err := p.opts.Store.Config(ctx); errors.Is(err, store.ErrNotFound) {
			// Nobody is known before the first configuration; somebody has to
			// apply it.
			return access.Person{Email: access.NormalEmail(as)}, nil
		}
		return who, problem(http.StatusForbidden, "use an address of the directory (people in lapse.yaml), or have it added",
			"nobody in the directory has this e-mail address")
	case err == nil && who.Disabled:
		return who, problem(http.StatusForbidden, "ask an administrator", "this person is disabled")
	}
	return who, err
}

// tokenFits compares a bearer token with the portal's, in a time that says
// nothing about it.
func (p *Portal) tokenFits(token string) bool {
	want, have := sha256.Sum256([]byte(p.opts.Token)), sha256.Sum256([]byte(token))
	return p.opts.Token == "" || subtle.ConstantTimeCompare(want[:], have[:]) == 1
}

const (
	// sessionCookie says who is signed in to the pages. The API does not read it.
	sessionCookie = "lapse_session"
	// noteCookie brings what was done to the page that is shown next.
	noteCookie = "lapse_note"
	// sessionLength is how long somebody stays signed in.
	sessionLength = 12 * time.Hour
)

// session is the person who is signed in to the pages.
func (p *Portal) session(r *http.Request) (who access.Person, err error) {
	value := p.cookie(r, sessionCookie)
	until, email, _ := strings.Cut(value, " ")
	if seconds, err := strconv.ParseInt(until, 10, 64); err != nil || p.opts.Store.Now().Unix() > seconds {
		return who, problem(http.StatusUnauthorized, "", "nobody is signed in, or not any more")
	}
	return p.person(r.Context(), email)
}

// signInAs gives a browser a session.
func (p *Portal) signInAs(w http.ResponseWriter, r *http.Request, who access.Person) {
	p.setCookie(w, r, sessionCookie, fmt.Sprintf("%d %s", p.opts.Store.Now().Add(sessionLength).Unix(), who.Email))
}

// setCookie sets a cookie that only this process can make; without a value it
// takes it away.
func (p *Portal) setCookie(w http.ResponseWriter, r *http.Request, name, value string) {
	c := &http.Cookie{Name: name, Path: "/", HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteLaxMode}
	if value == "" {
		c.MaxAge = -1
	} else {
		c.Value = p.sign(name, value)
	}
	http.SetCookie(w, c)
}

// sign makes the value of a cookie.
func (p *Portal) sign(name, value string) string {
	mac := hmac.New(sha256.New, p.cookies[:])
	mac.Write([]byte(name + "\x00" + value))
	return base64.RawURLEncoding.EncodeToString([]byte(value)) + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// cookie is what this process put into a cookie, or "".
func (p *Portal) cookie(r *http.Request, name string) string {
	c, err := r.Cookie(name)
	if err != nil {
		return ""
	}
	encoded, _, _ := strings.Cut(c.Value, ".")
	value, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil || !hmac.Equal([]byte(p.sign(name, string(value))), []byte(c.Value)) {
		return ""
	}
	return string(value)
}
