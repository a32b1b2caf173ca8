package rediscloud

import (
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/httpapi"
)

// vendorCode is what the API calls an error: ACL_ROLE_NOT_FOUND. It is the only
// part of an answer that gets into ours.
type vendorCode string

func (c vendorCode) Error() string { return string(c) }

var codeForm = regexp.MustCompile(`^[A-Z][A-Z0-9_]{2,99}$`)

// UnmarshalJSON reads a code where the API's description has it, as a string, and
// where it is in fact, as the type of an object. Other text is no code.
func (c *vendorCode) UnmarshalJSON(text []byte) error {
	var object struct{ Type string }
	var code string
	if json.Unmarshal(text, &code) != nil {
		json.Unmarshal(text, &object)
		code = object.Type
	}
	*c = ""
	if codeForm.MatchString(code) {
		*c = vendorCode(code)
	}
	return nil
}

// codes maps those that can come of what Lapse does; what is not listed is
// judged by its ending or by the status.
var codes = map[vendorCode]access.ErrorKind{
	"UNAUTHORIZED":                   access.Auth,
	"ACL_USER_NOT_FOUND":             access.ResourceMissing,
	"ACL_ROLE_NOT_FOUND":             access.ResourceMissing,
	"ACL_ROLE_DOES_NOT_EXISTS":       access.Conflict, // it was there a moment ago
	"ACL_REDIS_RULE_NOT_FOUND":       access.ResourceMissing,
	"ACL_REDIS_RULE_DOES_NOT_EXISTS": access.ResourceMissing,
	"DATABASE_NOT_FOUND":             access.ResourceMissing,
	"SUBSCRIPTION_NOT_FOUND":         access.ResourceMissing,
	"DATABASE_SUBSCRIPTION_MISMATCH": access.ResourceMissing,
	"ACL_USER_NAME_ALREADY_EXISTS":   access.Conflict, // made since it was read
	"ACL_ROLE_NAME_ALREADY_EXISTS":   access.Conflict,
	"ACL_USER_CREATION_FAILURE":      access.Retry,
	"ACL_GENERAL_ERROR":              access.Retry,
	"ACL_ROLE_REDIS_RULE_MUST_BE_DEFINED_ONLY_ONCE_PER_DATABASE": access.Invalid,
}

// busyCodes say that something is in the middle of a change.
var busyCodes = map[vendorCode]bool{
	"ACL_ROLE_IS_IN_PENDING_STATUS_AND_CANNOT_BE_UPDATED": true,
	"ACL_ROLE_IS_IN_PENDING_STATUS_AND_CANNOT_BE_DELETED": true,
	"ACL_ROLE_HAS_ACTIVE_USERS_AND_CANNOT_BE_DELETED":     true, // the user's end is not settled
	"ACL_REDIS_RULE_NOT_ACTIVE":                           true,
	"SUBSCRIPTION_NOT_ACTIVE":                             true,
	"SUBSCRIPTION_CONTAINS_NON_ACTIVE_DATABASE":           true,
	"DATABASE_NOT_ACTIVE":                                 true,
	"DATABASE_SUBSCRIPTION_IN_PENDING_STATUS":             true,
	"CLUSTER_UNDER_MAINTENANCE":                           true,
}

// kind is what a code means, and false where it says nothing to us.
func (c vendorCode) kind() (access.ErrorKind, bool) {
	if kind, ok := codes[c]; ok {
		return kind, true
	}
	switch {
	case busyCodes[c]:
		return access.Retry, true
	case strings.HasSuffix(string(c), "_NOT_VALID"), strings.HasSuffix(string(c), "_IS_MISSING"):
		return access.Invalid, true
	}
	return access.Unknown, false
}

// failure is the error of a task that failed.
func (c vendorCode) failure() error {
	kind, _ := c.kind()
	if c == "" {
		return access.Errorf(kind, "the change failed")
	}
	return access.Errorf(kind, "the change failed: %w", c)
}

// busy is true for an error of something in the middle of a change.
func busy(err error) bool {
	code, ok := errors.AsType[vendorCode](err)
	return ok && busyCodes[code]
}

// failure says what an answer means that is not 2xx.
func failure(r *httpapi.Response) *access.Error {
	var answer struct {
		Type  vendorCode `json:"type"`
		Error vendorCode `json:"error"`
	}
	json.Unmarshal(r.Body, &answer)
	code := answer.Type
	if code == "" {
		code = answer.Error
	}
	if kind, known := code.kind(); known && r.Status != http.StatusTooManyRequests {
		return access.Errorf(kind, "%d %w", r.Status, code)
	}
	switch r.Status {
	case http.StatusUnauthorized:
		return access.Errorf(access.Auth, "Redis Cloud refuses the keys").WithRemedy("check api_key and secret_key, and that the API is enabled for the account")
	case http.StatusForbidden:
		return access.Errorf(access.Privilege, "Redis Cloud refuses it to these keys").
			WithRemedy("let the user key belong to an Owner of the account, and let its CIDR allow list have the address of the connector")
	case http.StatusPreconditionFailed:
		return access.Errorf(access.Unsupported, "the account does not have this feature").WithRemedy("ask Redis to enable data access control for the account")
	case http.StatusTooManyRequests:
		err := access.Errorf(access.RateLimited, "Redis Cloud asks to wait")
		err.After = httpapi.Wait(r.Header.Get("X-Rate-Limit-Retry-After-Seconds"))
		return err
	}
	return nil
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
