package portal

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"

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

// identify finds out who calls, by the headers of the call.
func (p *Portal) identify(r *http.Request) (who access.Person, err error) {
	if !p.tokenFits(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")) {
		return who, problem(http.StatusUnauthorized, "set LAPSE_TOKEN to the token that the portal was started with",
			"the bearer token is missing or is another one")
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

// cookieName is that of the dev identity for Temporal's Web UI, which can send
// no header of ours.
const cookieName = "lapse_dev_identity"

// devSignIn gives a browser the dev identity, for the codec endpoint only, and
// sends it on to Temporal's Web UI. A portal with a token wants it in the query.
func (p *Portal) devSignIn(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		writeProblem(w, problem(http.StatusForbidden, "", "another site may not sign you in"))
		return
	}
	query := r.URL.Query()
	if !p.tokenFits(query.Get("token")) {
		writeProblem(w, problem(http.StatusUnauthorized, "add &token=... to the address", "this portal was started with a token"))
		return
	}
	who, err := p.person(r.Context(), query.Get("as"))
	if err != nil {
		writeProblem(w, p.fail(huma.Operation{OperationID: "dev-sign-in"}, err))
		return
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: p.sign(who.Email), Path: "/codec", HttpOnly: true, SameSite: http.SameSiteStrictMode})
	http.Redirect(w, r, p.opts.UI, http.StatusSeeOther)
}

// sign makes the value of a cookie that only this process can make.
func (p *Portal) sign(email string) string {
	mac := hmac.New(sha256.New, p.cookies[:])
	mac.Write([]byte(email))
	return base64.RawURLEncoding.EncodeToString([]byte(email)) + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// cookieIdentity is the address in a cookie that this process made, or "".
func (p *Portal) cookieIdentity(r *http.Request) string {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return ""
	}
	encoded, _, _ := strings.Cut(c.Value, ".")
	email, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil || !hmac.Equal([]byte(p.sign(string(email))), []byte(c.Value)) {
		return ""
	}
	return string(email)
}
