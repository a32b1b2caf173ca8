package catalog

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lapse-access/lapse/access"
)

func TestTags(t *testing.T) {
	for comment, want := range map[string]map[string]string{
		"":                                   nil,
		"a table of orders":                  nil,
		"owner=dba":                          {"owner": "dba"},
		"orders, owner=dba; tier=1 x = y =z": {"owner": "dba", "tier": "1"},
		"cost.center=a=b\nowner=dba":         {"cost.center": "a=b", "owner": "dba"},
	} {
		if diff := cmp.Diff(want, Tags(comment)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", comment, diff)
		}
	}
}

func TestTake(t *testing.T) {
	found := func(name string, permissions ...string) access.Found {
		return access.Found{Resource: access.NewResource("table", "shop", name), Permissions: permissions}
	}
	f := Filter{Include: []string{"table:shop/*"}, Exclude: []string{"table:*/secret"}, Max: 2}
	noted := found("noted")
	noted.Note = "read only for ever"
	var page access.Page
	count := 0
	if f.Take(&page, &count, found("orders", "read_only"), found("secret", "read_only"), found("ungrantable"),
		access.Found{Resource: access.NewResource("table", "lake", "raw"), Permissions: []string{"read_only"}}, noted) {
		t.Error("two of two are too many")
	}
	if len(page.Resources) != 2 || count != 2 || len(page.Warnings) != 0 {
		t.Errorf("%+v, %d", page, count)
	}
	if !f.Take(&page, &count, found("people", "read_only")) || len(page.Resources) != 2 || len(page.Warnings) != 1 {
		t.Errorf("beyond the limit: %+v", page)
	}
}

func TestCursor(t *testing.T) {
	type at struct{ Step, After string }
	var got at
	if err := ReadCursor(Cursor(at{"tables", "a/b"}), &got); err != nil || got != (at{"tables", "a/b"}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, s := range []string{"%", "AAAA", "bnVsbA x"} {
		if err := ReadCursor(s, &got); access.KindOf(err) != access.Invalid {
			t.Errorf("%q: %v, want invalid", s, err)
		}
	}
}
