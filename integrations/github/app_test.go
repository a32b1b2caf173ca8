package github_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/github"
)

func number(id int64) string { return strconv.FormatInt(id, 10) }

var appKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// becomeApp makes the model take an App's key instead of a token.
func (h *hub) becomeApp(t testing.TB) func(*github.Config, *github.Secret) {
	key, err := appKey()
	if err != nil {
		t.Fatal(err)
	}
	h.Locked(func() { h.AppKey, h.App.Selection = &key.PublicKey, "all" })
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	return func(_ *github.Config, s *github.Secret) {
		*s = github.Secret{AppID: "123456", InstallationID: 77, PrivateKey: integrations.Secret(text)}
	}
}

// TestApp works with the key of an App, whose tokens are made once an hour and never
// come out.
func TestApp(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	key := h.becomeApp(t)
	a, u := h.someone("member")
	c := h.core(t, a, key)
	c.grant(access.Granted, onSite("write"))
	h.level(t, u, "site", "write")
	report, err := c.Check(t.Context())
	if err != nil || !report.OK() {
		t.Errorf("%+v, %v", report, err)
	}
	// A repository that an App for some repositories loses sight of may be there.
	h.Locked(func() { h.FindRepository("site").Gone = true })
	c.revoke(access.WasGone, onSite("write"))
	if h.App.Given != 1 {
		t.Errorf("%d tokens were made, want one", h.App.Given)
	}

	some := h.core(t, a, key)
	h.Locked(func() { h.App.Selection, h.FindRepository("tools").Private = "selected", true })
	some.grant(access.Granted, onTools("write"))
	h.Locked(func() { h.Hidden = true })
	if _, err := some.tryRevoke(onTools("write")); access.KindOf(err) != access.Privilege {
		t.Errorf("an App that does not see the repository any more: %v, want privilege", err)
	}

	wrong := h.core(t, a, key, func(_ *github.Config, s *github.Secret) { s.InstallationID = 78 })
	err = wrong.fails(access.Auth, onTools("read"))
	if err != nil && strings.Contains(err.Error(), "PRIVATE") {
		t.Errorf("the error shows the key: %v", err)
	}
	// A token that was withdrawn is replaced by the next attempt.
	h.Locked(func() { h.App.Token, h.Hidden = "withdrawn", false })
	some.fails(access.Auth, onTools("read"))
	some.verify(access.Granted, onTools("write"))
}
