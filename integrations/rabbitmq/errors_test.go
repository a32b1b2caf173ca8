package rabbitmq

import (
	"strings"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/httpapi"
)

// TestFailure has answers as RabbitMQ 3.10 and 4.3 give them.
func TestFailure(t *testing.T) {
	for _, test := range []struct {
		name   string
		status int
		body   string
		want   access.ErrorKind // "" leaves it to the status
	}{
		{"a wrong password, 3.10", 401, `{"error":"not_authorized","reason":"Login failed"}`, access.Auth},
		{"a wrong password, 4.3", 401, `{"error":"not_authorized","reason":"Not_Authorized"}`, access.Auth},
		{"no administrator", 401, `{"error":"not_authorised","reason":"Not administrator user"}`, access.Privilege},
		{"no tag", 401, `{"error":"not_authorised","reason":"Not management user"}`, access.Privilege},
		{"no access to a virtual host", 401, `{"error":"not_authorised","reason":"User not authorised to access virtual host"}`, access.Privilege},
		{"a page of something else", 401, `<html>`, access.Auth},
		{"too long, 4.3", 400, `{"error":"bad_request","reason":["invalid_regexp",[94,40],"pattern_too_long"]}`, access.Limit},
		{"too long, 3.10", 400, `{"error":"bad_request","reason":["invalid_regexp",[94,40],["regular expression is too large",9]]}`, access.Limit},
		{"no such virtual host", 400, `{"error":"bad_request","reason":"vhost_or_user_not_found"}`, access.ResourceMissing},
		{"a protected user", 400, `{"error":"bad_request","reason":"Protected users cannot be modified"}`, access.Privilege},
		{"a password that a validator refuses", 400, `{"error":"bad_request","reason":"minimum required password length: 30"}`, ""},
		{"a call that is not there", 405, ``, access.Unsupported},
		{"something else", 500, `{"error":"internal","reason":"canary-secret"}`, ""},
	} {
		got := failure(&httpapi.Response{Status: test.status, Body: []byte(test.body)}, "lapse")
		switch {
		case (got == nil) != (test.want == "") || got != nil && got.Kind != test.want:
			t.Errorf("%s: %v, want %s", test.name, got, test.want)
		case got != nil && strings.Contains(got.Error(), "94"):
			t.Errorf("%s: the answer came out: %v", test.name, got)
		}
	}
}

func TestBefore(t *testing.T) {
	for version, want := range map[string]bool{"3.9.29": true, "3.10.8": true, "4.2.9": true, "4.3.0": false, "4.3.6": false, "4.10.0": false, "5.0": false, "": true, "4.3.0-rc.1": false} {
		if before(version, 4, 3) != want {
			t.Errorf("%s is before 4.3: %t", version, !want)
		}
	}
}
