package certificationtest

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/internal/describe"
)

func TestDifferences(t *testing.T) {
	certification := func(change func(*describe.Certification)) describe.Certification {
		c := describe.Certification{Kind: "k", Against: describe.Real, Hash: "h",
			Servers: []describe.Server{{Server: "Product 15.18", Cases: 3, Passed: 2, Skipped: []describe.Skip{{Case: "c", Reason: "r"}}}}}
		change(&c)
		return c
	}
	written := certification(func(*describe.Certification) {})
	for _, test := range []struct {
		name   string
		change func(*describe.Certification)
		same   bool
	}{
		{"nothing", func(*describe.Certification) {}, true},
		{"a newer patch of the server", func(c *describe.Certification) { c.Servers[0].Server = "Product 15.19" }, true},
		{"another server", func(c *describe.Certification) { c.Servers[0].Server = "Product 16.18" }, false},
		{"a case that is left out", func(c *describe.Certification) { c.Servers[0].Passed-- }, false},
		{"another reason", func(c *describe.Certification) { c.Servers[0].Skipped[0].Reason = "none" }, false},
		{"other sources", func(c *describe.Certification) { c.Hash = "" }, false},
		{"a fake", func(c *describe.Certification) { c.Against = describe.Fake }, false},
	} {
		if diff := differences(written, certification(test.change)); (diff == "") != test.same {
			t.Errorf("%s: %q", test.name, diff)
		}
	}
	if written.Servers[0].Server != "Product 15.18" {
		t.Error("comparing changes what is compared")
	}
}

func TestCount(t *testing.T) {
	var all []integrationtest.Result
	for _, c := range integrationtest.Cases() {
		all = append(all, integrationtest.Result{Name: c.Name, Status: integrationtest.Passed})
	}
	all[1] = integrationtest.Result{Name: "b", Status: integrationtest.Skipped, Reason: "more"}
	s, whole := count(all)
	if !whole || s.Cases != len(all) || s.Passed != len(all)-1 || len(s.Skipped) != 1 || s.Skipped[0] != (describe.Skip{Case: "b", Reason: "needs more"}) {
		t.Errorf("%t, %+v", whole, s)
	}
	if _, whole := count(all[1:]); whole {
		t.Error("a run without a case is whole")
	}
	all[0].Status = integrationtest.Failed
	if _, whole := count(all); whole {
		t.Error("a run with a failure is whole")
	}
}

func TestHash(t *testing.T) {
	room := func(name, text string) string {
		files := fstest.MapFS{"room/a.go": {Data: []byte("a\nb\n")}, "room/sql/x.sql": {Data: []byte("x")}, "suite/s.go": {Data: []byte("s")}}
		if name != "" {
			files[name] = &fstest.MapFile{Data: []byte(text)}
		}
		sum, err := hash(files, "room", "suite")
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	for _, same := range [][2]string{{"room/a.go", "a\r\nb\r\n"}, {"room/a_test.go", "t"}, {"room/testdata/x", "t"}, {"room/README.md", "t"}, {"room/" + File, "t"}, {"other/a.go", "t"}} {
		if room(same[0], same[1]) != room("", "") {
			t.Errorf("%s counts", same[0])
		}
	}
	for _, other := range [][2]string{{"room/a.go", "a\nc\n"}, {"room/b.go", ""}, {"room/sql/x.sql", "y"}, {"suite/s.go", "z"}} {
		if room(other[0], other[1]) == room("", "") {
			t.Errorf("%s does not count", other[0])
		}
	}
	if _, err := hash(fstest.MapFS{}, "room"); err == nil || !strings.Contains(err.Error(), "room") {
		t.Errorf("a room that is not there: %v", err)
	}
}
