package github

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	gh "github.com/google/go-github/v89/github"

	"github.com/lapse-access/lapse/access"
)

// authority is what the connector authorizes itself with: a token, or the key of
// an App, for which GitHub gives tokens of an hour.
type authority struct {
	token  string
	app    *app
	scopes atomic.Pointer[string] // of a classic token, as GitHub last said
}

// app is an installation of a GitHub App.
type app struct {
	id           string
	installation int64
	key          *rsa.PrivateKey
	rest         *gh.Client

	mu      sync.Mutex
	token   string
	expires time.Time
	// all is true where the installation has every repository.
	all         bool
	permissions map[string]string
}

// may is what the App may do with something: read, write, or nothing.
func (a *app) may(name string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.permissions[name]
}

func newAuthority(s *Secret, rest *gh.Client) (*authority, error) {
	if s.Token != "" {
		if s.AppID != "" || s.InstallationID != 0 || s.PrivateKey != "" {
			return nil, access.Errorf(access.Invalid, "the secret has a token and an App: one is enough")
		}
		return &authority{token: s.Token.Reveal()}, nil
	}
	if s.AppID == "" && s.InstallationID == 0 && s.PrivateKey == "" {
		return &authority{}, nil // every operation will say so
	}
	if s.AppID == "" || s.InstallationID == 0 || s.PrivateKey == "" {
		return nil, access.Errorf(access.Invalid, "an App needs app_id, installation_id and private_key")
	}
	block, _ := pem.Decode(bytes.TrimSpace([]byte(s.PrivateKey.Reveal())))
	if block == nil {
		return nil, access.Errorf(access.Invalid, "private_key is not PEM")
	}
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		other, failed := x509.ParsePKCS8PrivateKey(block.Bytes)
		var ok bool
		if key, ok = other.(*rsa.PrivateKey); failed != nil || !ok {
			return nil, access.Errorf(access.Invalid, "private_key is no RSA key")
		}
	}
	return &authority{app: &app{id: s.AppID, installation: s.InstallationID, key: key, rest: rest}}, nil
}

type authorizationKey struct{}

// authorization is that of a request.
func authorization(ctx context.Context) string {
	text, _ := ctx.Value(authorizationKey{}).(string)
	return text
}

// authorized is a context whose requests are authorized.
func (a *authority) authorized(ctx context.Context) (context.Context, error) {
	token := a.token
	if token == "" && a.app == nil {
		return ctx, access.Errorf(access.Auth, "the secret has neither a token nor an App").WithRemedy("give token, or app_id, installation_id and private_key")
	}
	if a.app != nil {
		var err error
		if token, err = a.app.authorize(ctx); err != nil {
			return ctx, err
		}
	}
	return context.WithValue(ctx, authorizationKey{}, "Bearer "+token), nil
}

// forget makes the next operation ask for another token of the installation.
func (a *authority) forget() {
	if a.app != nil {
		a.app.mu.Lock()
		defer a.app.mu.Unlock()
		a.app.expires = time.Time{}
	}
}

// administers tells whether the connector may administer what GitHub says so of. Of
// an App, which is no viewer, its permissions say it: the change itself is refused
// where they lack.
func (a *authority) administers(viewerCan bool) bool { return viewerCan || a.app != nil }

// seesAll is true where the connector is known to see every repository of an
// organization that it administers. A fine-grained token does not say.
func (a *authority) seesAll(scopes func(string) bool) bool {
	if a.app != nil {
		a.app.mu.Lock()
		defer a.app.mu.Unlock()
		return a.app.all
	}
	said := a.scopes.Load()
	return said != nil && scopes(*said)
}

// renewal is how long before its end a token is replaced.
const renewal = 5 * time.Minute

// authorize is a token of the installation that holds for a while.
// https://docs.github.com/en/rest/apps/apps#create-an-installation-access-token-for-an-app
func (a *app) authorize(ctx context.Context) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Until(a.expires) > renewal {
		return a.token, nil
	}
	signed, err := a.sign(time.Now())
	if err != nil {
		return "", err
	}
	ctx = context.WithValue(ctx, authorizationKey{}, "Bearer "+signed)
	req, err := a.rest.NewRequest(ctx, http.MethodPost, fmt.Sprintf("app/installations/%d/access_tokens", a.installation), nil)
	if err != nil {
		return "", access.Errorf(access.Invalid, "the request cannot be written")
	}
	var answer struct {
		Token       string            `json:"token"`
		Expires     time.Time         `json:"expires_at"`
		Selection   string            `json:"repository_selection"`
		Permissions map[string]string `json:"permissions"`
	}
	if _, err := a.rest.Do(req, &answer); err != nil {
		err = failure(err)
		if kind := access.KindOf(err); kind == access.ResourceMissing || kind == access.Privilege {
			return "", access.Errorf(access.Auth, "the App has no such installation").WithRemedy("check installation_id, and that the App is installed and not suspended")
		}
		return "", err
	}
	a.token, a.expires, a.all, a.permissions = answer.Token, answer.Expires, answer.Selection == "all", answer.Permissions
	return a.token, nil
}

// sign makes the JSON Web Token by which the App names itself, for less than the
// ten minutes that GitHub takes, and dated back for clocks that differ.
// https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app
func (a *app) sign(now time.Time) (string, error) {
	claims, err := json.Marshal(map[string]any{"iat": now.Add(-time.Minute).Unix(), "exp": now.Add(8 * time.Minute).Unix(), "iss": a.id})
	if err != nil {
		return "", access.Errorf(access.Invalid, "the App's token cannot be written")
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(claims)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, a.key, crypto.SHA256, sum[:])
	if err != nil {
		return "", access.Errorf(access.Invalid, "private_key cannot sign")
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}
