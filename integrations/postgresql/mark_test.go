package postgresql

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lapse-access/lapse/access"
)

func TestMark(t *testing.T) {
	e := access.Entitlement{Integration: "i", Resource: access.NewResource("schema", `a"'\`), Permission: "read_only"}
	m := mark{Kind: kindEntitlement, Instance: "x", Integration: "i", Entitlement: &e, Sequence: 7}
	s := m.comment("role")
	if s.Err != nil {
		t.Fatal(s.Err)
	}
	text := strings.TrimSuffix(strings.TrimPrefix(s.Text, `COMMENT ON ROLE "role" IS E'`), "'")
	text = strings.NewReplacer(`\\`, `\`, "''", "'").Replace(text)
	got, ok := readMark(text)
	if !ok {
		t.Fatalf("%s is no mark", text)
	}
	if diff := cmp.Diff(m, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, comment := range []string{"", "a role", "lapse:v1:", "lapse:v1:{", `lapse:v2:{"kind":"account"}`} {
		if _, ok := readMark(comment); ok {
			t.Errorf("%q is taken for a mark", comment)
		}
	}
}
