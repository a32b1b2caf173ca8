package github

import (
	"cmp"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/httpapi"
)

// secondaryWait is how long GitHub wants to be left alone where it does not say:
// https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit
const secondaryWait = time.Minute

// said maps what GitHub says, by a part of its message, where the status says less.
// What is not listed is judged by the status. Messages never get into our errors.
var said = []struct {
	status int
	part   string
	kind   access.ErrorKind
	text   string
	remedy string
}{
	{http.StatusForbidden, "archived", access.Invalid, "the repository is archived", "unarchive it"},
	{http.StatusForbidden, "resource protected by organization saml enforcement", access.Auth, "the organization wants the token authorized for its single sign-on", "authorize it: Settings, Developer settings, Personal access tokens, Configure SSO"},
	{http.StatusForbidden, "ip allow list", access.Auth, "the organization does not let the connector's address in", "add it to the IP allow list"},
	{http.StatusForbidden, "fine-grained personal access tokens", access.Auth, "the organization does not take fine-grained tokens", "allow them, or use a GitHub App"},
	{http.StatusForbidden, "personal access token (classic)", access.Auth, "the organization does not take classic tokens", "allow them, or use a GitHub App"},
	{http.StatusUnprocessableEntity, "cannot assign", access.Invalid, "the organization's base permission is higher than this level", "ask for a higher level"},
	{http.StatusUnprocessableEntity, "already_org_admin", access.Conflict, "the person is an owner of the organization by now", ""},
	{http.StatusUnprocessableEntity, "managed by an external", access.ExternallyManaged, "an identity provider fills the team", "ask for it there"},
	{http.StatusUnprocessableEntity, "enterprise managed", access.PersonMissing, "GitHub does not take this login here: the enterprise has managed users", ""},
}

// judge says what an answer means that is not 2xx.
func judge(status int, header http.Header, message, page string) *access.Error {
	message = strings.ToLower(message)
	if status == http.StatusForbidden || status == http.StatusTooManyRequests {
		if after, limited := limit(status, header, message, page); limited {
			err := access.Errorf(access.RateLimited, "GitHub asks to wait")
			err.After = after
			return err
		}
	}
	if header.Get("X-GitHub-SSO") != "" && status == http.StatusForbidden {
		message = "resource protected by organization saml enforcement"
	}
	for _, s := range said {
		if s.status == status && strings.Contains(message, s.part) {
			return &access.Error{Kind: s.kind, Text: strconv.Itoa(status) + ": " + s.text, Remedy: s.remedy}
		}
	}
	switch status {
	case http.StatusUnauthorized:
		return access.Errorf(access.Auth, "GitHub refuses the token").WithRemedy("check the secret: the token may have expired or been withdrawn, the App's key may be another's")
	case http.StatusForbidden:
		return access.Errorf(access.Privilege, "GitHub refuses it to this token").
			WithRemedy("let the token belong to an owner of the organization and have the scopes repo and admin:org, or give the App the permissions of the setup")
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return access.Errorf(access.Conflict, "it was renamed in this moment")
	}
	return access.Errorf(httpapi.Kind(status), "GitHub answers %d", status)
}

// limit tells whether an answer is about a limit, and how long to wait: what
// Retry-After says; when the primary limit is used up, until it is full again; a
// minute where GitHub does not say.
func limit(status int, header http.Header, message, page string) (after time.Duration, limited bool) {
	_, said := header["Retry-After"]
	used := header.Get("X-RateLimit-Remaining") == "0"
	secondary := strings.Contains(message, "secondary rate limit") || strings.Contains(message, "abuse detection") ||
		strings.HasSuffix(page, "secondary-rate-limits") || strings.HasSuffix(page, "#abuse-rate-limits")
	switch {
	case said:
		return httpapi.Wait(header.Get("Retry-After")), true
	case used:
		reset, err := strconv.ParseInt(header.Get("X-RateLimit-Reset"), 10, 64)
		if err != nil {
			return secondaryWait, true
		}
		return max(0, time.Until(time.Unix(reset, 0)).Round(time.Second)), true
	case status == http.StatusTooManyRequests || secondary:
		return secondaryWait, true
	}
	return 0, false
}

// refusal judges an answer of the GraphQL API that is not 2xx.
func refusal(r *httpapi.Response) *access.Error {
	var answer struct {
		Message string
		Page    string `json:"documentation_url"`
	}
	json.Unmarshal(r.Body, &answer)
	return judge(r.Status, r.Header, answer.Message, answer.Page)
}

// graphError is one error of an answer of the GraphQL API that is 200.
type graphError struct {
	Type       string
	Message    string
	Extensions struct {
		SAML bool `json:"saml_failure"`
	}
}

// graphKinds maps the types of errors; one without a type is a time-out.
var graphKinds = map[string]access.ErrorKind{
	"FORBIDDEN":                access.Privilege,
	"INSUFFICIENT_SCOPES":      access.Privilege,
	"NOT_FOUND":                access.ResourceMissing,
	"RATE_LIMITED":             access.RateLimited,
	"MAX_NODE_LIMIT_EXCEEDED":  access.Limit,
	"RESOURCE_LIMITS_EXCEEDED": access.Retry,
	"":                         access.Retry,
}

func (e graphError) failure(header http.Header) *access.Error {
	kind := cmp.Or(graphKinds[e.Type], access.Unknown)
	switch {
	case e.Extensions.SAML:
		return judge(http.StatusForbidden, http.Header{"X-Github-Sso": {"required"}}, "", "")
	case kind == access.Privilege:
		return judge(http.StatusForbidden, http.Header{}, "", "")
	case kind == access.RateLimited:
		header = header.Clone()
		header.Set("X-RateLimit-Remaining", "0")
		return judge(http.StatusForbidden, header, "", "")
	}
	return access.Errorf(kind, "GitHub's GraphQL API does not answer the question")
}

// during says what was being done, keeping everything else.
func during(what string, err error) error {
	ours, ok := err.(*access.Error)
	if !ok {
		return err
	}
	named := *ours
	named.Text = what + ": " + ours.Text
	return &named
}
