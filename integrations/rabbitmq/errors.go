package rabbitmq

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/httpapi"
)

// meaning is what an answer says to Lapse.
type meaning struct {
	status int
	reason string // a part of it; "" for every other
	kind   access.ErrorKind
	text   string
	remedy string
}

// meanings are looked through in order. RabbitMQ answers 401 both to a login that
// is wrong and to one that lacks a tag:
// https://www.rabbitmq.com/docs/management#permissions
var meanings = []meaning{
	{http.StatusUnauthorized, "Not administrator user", access.Privilege, "the connector's user lacks the tag administrator", administratorRemedy},
	{http.StatusUnauthorized, "Not management user", access.Privilege, "the connector's user may not use the management API", administratorRemedy},
	{http.StatusUnauthorized, "not_authorised", access.Privilege, "the connector's user lacks a right", administratorRemedy},
	{http.StatusUnauthorized, "", access.Auth, "the broker refuses the connector's login", ""},
	{http.StatusBadRequest, "pattern_too_long", access.Limit, "an expression is longer than the broker takes", widerRemedy},
	{http.StatusBadRequest, "invalid_regexp", access.Limit, "an expression is longer than the broker takes", widerRemedy},
	{http.StatusBadRequest, "vhost_or_user_not_found", access.ResourceMissing, "the virtual host or the account is not there", ""},
	{http.StatusBadRequest, "too_many_tags", access.Limit, "the account has more tags than the broker takes", ""},
	{http.StatusBadRequest, "Protected users", access.Privilege, "the user is protected from changes", "take the tag protected off it"},
	{http.StatusMethodNotAllowed, "", access.Unsupported, "the broker's API cannot do it", ""},
}

const (
	administratorRemedy = "rabbitmqctl set_user_tags USER administrator" // with the user's name
	widerRemedy         = "request the virtual host in place of its queues and exchanges, or end some of what the person holds"
)

// failure classifies an answer to a user. Its reason may repeat what was sent, so
// that none of it gets out.
func failure(r *httpapi.Response, username string) *access.Error {
	var body struct {
		Error  string          `json:"error"`
		Reason json.RawMessage `json:"reason"`
	}
	reason := ""
	if json.Unmarshal(r.Body, &body) == nil {
		reason = body.Error + " " + string(body.Reason)
	}
	for _, m := range meanings {
		if m.status == r.Status && strings.Contains(reason, m.reason) {
			return &access.Error{Kind: m.kind, Text: m.text, Remedy: strings.Replace(m.remedy, "USER", integrations.ShellWord(username), 1)}
		}
	}
	return nil
}

// during says what was being done, keeping kind and remedy.
func during(what string, err error) error {
	e, ok := errors.AsType[*access.Error](err)
	if !ok {
		return err
	}
	named := *e
	named.Text = what + ": " + e.Text
	return &named
}
