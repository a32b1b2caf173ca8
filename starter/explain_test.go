package main

import (
	"strings"
	"testing"

	"github.com/lapse-access/lapse/portal/api"
)

// TestExplained keeps what targets are told in lines of its own, of which none
// steers the terminal.
func TestExplained(t *testing.T) {
	want := api.Want{Integration: "shop", Resource: "schema:shop/public", Permission: "read_only"}
	var out strings.Builder
	explained(&out, api.Explained{Grants: []api.Meant{{Want: want, Means: "read every table", Told: []string{"GRANT \"\x1b[2J\"", "PUT /x\n{\"a\": 1}"}}, {Want: want}}})
	text := out.String()
	for _, line := range []string{"What shop would be told for read_only on schema:shop/public", "\n  GRANT \"\ufffd[2J\"\n", "\n  PUT /x\n  {\"a\": 1}\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("%q is missing in\n%s", line, text)
		}
	}
	if n := strings.Count(text, "would be told"); n != 1 {
		t.Errorf("it says %d times what would be told:\n%s", n, text)
	}
}
