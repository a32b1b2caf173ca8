package integrations_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"testing"

	"github.com/lapse-access/lapse/integrations"
)

// nasty is a name that wants to break out of everything.
const nasty = "we\"ird';--\\ %s $HOME $(exit 7) `exit 8` !! ../?a=b&c#d \n\t😀 */"

// TestShellAPI calls an API as an administrator does who pastes what is written.
func TestShellAPI(t *testing.T) {
	var calls []string
	there := true
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		calls = append(calls, fmt.Sprintf("%s %s %s", r.Method, r.URL.Path, body))
		name, password, _ := r.BasicAuth()
		switch {
		case name != "root" || password != "Pa55 word":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/api/me" && there, r.URL.Path == "/api/users/"+nasty:
			io.WriteString(w, "[1, 2]")
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer api.Close()
	run := func(password, steps string) (out string, err error) {
		calls = nil
		head := strings.Replace(integrations.ShellAPI(api.URL+"/api/", "/me", `user = "root:..."`), "...", password, 1)
		text, err := exec.CommandContext(t.Context(), "/bin/sh", "-eu", "-c", head+steps).CombinedOutput()
		return string(text), err
	}
	known := "/users/" + url.PathEscape(nasty)
	for _, test := range []struct {
		name, password, steps string
		there, ok             bool
		calls                 []string
	}{
		{"what is there", "Pa55 word", integrations.ShellCall("PUT", known, nasty), true, true, []string{"PUT /api/users/" + nasty + " " + nasty}},
		{"what is gone", "Pa55 word", integrations.ShellCall("DELETE", "/users/nobody", ""), true, true, []string{"DELETE /api/users/nobody ", "GET /api/me "}},
		{"the wrong address", "Pa55 word", integrations.ShellCall("DELETE", "/users/nobody", ""), false, false, []string{"DELETE /api/users/nobody ", "GET /api/me "}},
		{"the wrong password", "x", integrations.ShellCall("DELETE", known, ""), true, false, []string{"DELETE /api/users/" + nasty + " "}},
		{"a reading", "Pa55 word", `test "$(lapse_read /me)" = "[1, 2]"`, true, true, []string{"GET /api/me "}},
		{"a reading with the wrong password", "x", "lapse_read /me", true, false, []string{"GET /api/me "}},
	} {
		there = test.there
		out, err := run(test.password, test.steps)
		if (err == nil) != test.ok || strings.Join(calls, "\n") != strings.Join(test.calls, "\n") {
			t.Errorf("%s: %v\n%s\n%q\nwant %q", test.name, err, out, calls, test.calls)
		}
		if strings.Contains(out, "Pa55") {
			t.Errorf("%s: the password came out: %s", test.name, out)
		}
	}
}
