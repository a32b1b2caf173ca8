package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/httpapi"
	"github.com/lapse-access/lapse/internal/store"
)

// posted is what a webhook gets.
type posted struct {
	ID        string            `json:"id"`
	Kind      access.NoticeKind `json:"kind"`
	Person    string            `json:"person"` // e-mail address
	RequestID string            `json:"request_id,omitempty"`
	Text      string            `json:"text"`
	URL       string            `json:"url,omitempty"`
	At        time.Time         `json:"at"`
}

// signing is the secret of a webhook.
type signing struct {
	Key      integrations.Secret `json:"key" doc:"key that signs: whsec_ and 24 to 64 bytes in base64"`
	Previous integrations.Secret `json:"previous,omitempty" doc:"key before that, which signs too while the receiver changes"`
}

// maxAnswer is what is read of an answer: only its status counts.
const maxAnswer = 64 << 10

// post sends a notice as Standard Webhooks wants it. Redirects and proxies are
// not followed.
//
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
func post(ctx context.Context, s *Sender, cfg config.Config, d store.Delivery) *failure {
	const who = "the receiver"
	w := cfg.Notify.Webhook
	if w == nil {
		return failed("there is no webhook in the configuration any more")
	}
	var secret signing
	if err := s.Secrets.Resolve(ctx, w.Secret, &secret); err != nil {
		return failed("%v", err)
	}
	body, err := json.Marshal(posted{ID: d.ID, Kind: d.Kind, Person: d.Person.Email, RequestID: d.RequestID, Text: d.Text, URL: link(cfg, d.NoticeRow), At: d.At})
	if err != nil {
		return failed("it cannot be written as JSON")
	}
	at := strconv.FormatInt(time.Now().Unix(), 10)
	signature, err := sign(secret, d.ID, at, body)
	if err != nil {
		return failed("secret %s: %v", w.Secret, err)
	}
	address, err := httpapi.Base(w.URL, false)
	if err != nil {
		return failed("%v", err)
	}
	transport, err := httpapi.Transport(w.CACertificate, false)
	if err != nil {
		return failed("%v", err)
	}
	transport.DisableKeepAlives = true
	transport.MaxResponseHeaderBytes = maxAnswer
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address.String(), bytes.NewReader(body))
	if err != nil {
		return failed("the address cannot be used")
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "User-Agent": {"Lapse"},
		"Webhook-Id": {d.ID}, "Webhook-Timestamp": {at}, "Webhook-Signature": {signature}}
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := client.Do(req)
	if err != nil {
		return unanswered(who, err)
	}
	defer answer.Body.Close()
	io.Copy(io.Discard, io.LimitReader(answer.Body, maxAnswer)) // what it says does not count
	if answer.StatusCode/100 == 2 {
		return nil
	}
	why := failed("%s answers %d", who, answer.StatusCode)
	why.after, why.final = httpapi.Wait(answer.Header.Get("Retry-After")), answer.StatusCode == http.StatusGone
	return why
}

// sign is the signature of each key over the id, the time and the body.
func sign(secret signing, id, at string, body []byte) (string, error) {
	var signatures []string
	for _, key := range []integrations.Secret{secret.Key, secret.Previous} {
		if key == "" {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(key.Reveal(), "whsec_"))
		if err != nil || len(raw) < 24 || len(raw) > 64 {
			return "", errors.New("the key is not whsec_ and 24 to 64 bytes in base64 (openssl rand -base64 32 makes one)")
		}
		h := hmac.New(sha256.New, raw)
		h.Write([]byte(id + "." + at + "."))
		h.Write(body)
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(h.Sum(nil)))
	}
	return strings.Join(signatures, " "), nil
}
