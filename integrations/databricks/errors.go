package databricks

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/databricks/databricks-sdk-go/common"
	"golang.org/x/oauth2"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/httpapi"
	"github.com/lapse-access/lapse/internal/turn"
)

const (
	addressRemedy = "let accounts_url be the address of the account console, not of a workspace, and account_id the id that it shows"
	adminRemedy   = "make the service principal an account admin: account console, User management, Service principals, Roles"
	secretRemedy  = "check client_id and client_secret, and that the secret has not expired: account console, User management, Service principals, Secrets"
)

// meaning is what an answer says to Lapse.
type meaning struct {
	status int
	code   string // of SCIM or of Databricks, in small letters; "" for every other
	says   string // a part of the message, in small letters
	kind   access.ErrorKind
	text   string
	remedy string
}

// meanings are looked through in order:
// https://datatracker.ietf.org/doc/html/rfc7644#section-3.12 and
// https://docs.databricks.com/aws/en/reference/error-codes
var meanings = []meaning{
	{http.StatusInternalServerError, "request_limit_exceeded", "", access.RateLimited, "Databricks asks to wait", ""},
	{http.StatusTooManyRequests, "", "", access.RateLimited, "Databricks asks to wait", ""},
	{http.StatusUnauthorized, "", "", access.Auth, "Databricks refuses the token", secretRemedy},
	{http.StatusForbidden, "", "immutable", access.ExternallyManaged, kept, ""},
	{http.StatusForbidden, "", "ip access list", access.Privilege, "the account's IP access list refuses the connector", "add the connector's address to the IP access list of the account"},
	{http.StatusForbidden, "", "", access.Privilege, "Databricks refuses it to the service principal", adminRemedy},
	{http.StatusBadRequest, "mutability", "", access.ExternallyManaged, kept, ""},
	{http.StatusBadRequest, "", "immutable", access.ExternallyManaged, kept, ""},
	{http.StatusBadRequest, "notarget", "", access.ResourceMissing, "there is no such member", ""},
	{http.StatusBadRequest, "resource_limit_exceeded", "", access.Limit, "a limit of the account is reached", ""},
	{http.StatusBadRequest, "quota_exceeded", "", access.Limit, "a limit of the account is reached", ""},
	{http.StatusNotFound, "endpoint_not_found", "", access.Unsupported, "the API has no such call", ""},
	{http.StatusMethodNotAllowed, "", "", access.Unsupported, "the API has no such call", ""},
	{http.StatusNotImplemented, "", "", access.Unsupported, "the API has no such call", ""},
	{http.StatusPreconditionFailed, "", "", access.Conflict, "somebody else changed the same at the same time", ""},
}

const kept = "an identity provider keeps the group"

// failure is the error of an answer that is not 2xx. The answer may repeat what
// was sent, so that none of it gets out.
func failure(_ context.Context, r common.ResponseWrapper) error {
	if r.Response.StatusCode/100 == 2 {
		return nil
	}
	text, _ := io.ReadAll(r.ReadCloser) // without it the status says enough
	r.ReadCloser.Close()
	return judged(r.Response.StatusCode, r.Response.Header, text)
}

func judged(status int, header http.Header, text []byte) error {
	var answer struct {
		Code     any    `json:"error_code"`
		Message  string `json:"message"`
		ScimType string `json:"scimType"`
		Detail   string `json:"detail"`
	}
	json.Unmarshal(text, &answer) // what is no JSON has no code
	code, _ := answer.Code.(string)
	code, says := strings.ToLower(cmp.Or(answer.ScimType, code)), strings.ToLower(answer.Message+" "+answer.Detail)
	err := access.Errorf(httpapi.Kind(status), "the API answers %d", status)
	for _, m := range meanings {
		if m.status == status && (m.code == "" || m.code == code) && strings.Contains(says, m.says) {
			err = &access.Error{Kind: m.kind, Text: m.text, Remedy: m.remedy}
			break
		}
	}
	err.After = httpapi.Wait(header.Get("Retry-After"))
	return err
}

// refused is the error of a login without a token.
// https://datatracker.ietf.org/doc/html/rfc6749#section-5.2
func refused(err error) error {
	r, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok {
		return answered(err)
	}
	status := r.Response.StatusCode
	switch {
	case status == http.StatusTooManyRequests, strings.Contains(strings.ToLower(string(r.Body)), "throttl"):
		waits := access.Errorf(access.RateLimited, "Databricks asks to wait")
		waits.After = httpapi.Wait(r.Response.Header.Get("Retry-After"))
		return waits
	case status == http.StatusUnauthorized, r.ErrorCode == "invalid_client", r.ErrorCode == "unauthorized_client", r.ErrorCode == "invalid_grant":
		return access.Errorf(access.Auth, "Databricks refuses the service principal's secret").WithRemedy("%s", secretRemedy)
	case status == http.StatusBadRequest, status == http.StatusNotFound, status == http.StatusMethodNotAllowed, status/100 == 2:
		return access.Errorf(access.Invalid, "nobody gives out tokens there").WithRemedy("%s", addressRemedy)
	}
	return judged(status, r.Response.Header, r.Body)
}

// answered keeps what is ours of an error. The SDK's own errors quote answers.
func answered(err error) error {
	if err == nil {
		return nil
	}
	if ours, ok := errors.AsType[*access.Error](err); ok {
		return ours
	}
	if stopped := turn.Stopped(err); stopped != nil {
		return stopped
	}
	return access.Errorf(access.Retry, "no answer, or none that the API describes")
}

// during says what was being done, keeping everything else.
func during(what string, err error) error {
	ours, ok := errors.AsType[*access.Error](err)
	if !ok {
		return err
	}
	named := *ours
	named.Text = what + ": " + ours.Text
	return &named
}
