package describe_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/describe"
)

type options struct {
	ConnectorName string   `json:"connector_name" doc:"the connector" default:"lapse" minLength:"1"`
	Owners        []string `json:"owners,omitempty" doc:"owners" example:"app"`
}

// kind is certified on two servers, of which each leaves out a case.
func kind() integrations.Kind {
	levels := []integrations.Permission{{Name: "read", Doc: "reads"}, {Name: "write", Doc: "reads | writes"}}
	return integrations.Kind{
		Name: "board", Title: "Board", Doc: "Seats.",
		Config: func() any { return new(struct{}) },
		Secret: func() any { return new(struct{}) },
		ResourceTypes: []integrations.ResourceType{
			{Name: "room", Path: []string{"HOUSE", "ROOM"}, Doc: "a room", Permissions: levels},
			{Name: "seat", Path: []string{"SEAT"}, Doc: "a seat", Permissions: levels[:1]},
		},
		Setup: integrations.Setup{
			Language: "sh",
			Options:  func() any { return new(options) },
			Tiers: func(o any) ([]integrations.Tier, error) {
				made := o.(*options)
				return []integrations.Tier{{Name: "only", Script: strings.Join(append([]string{made.ConnectorName}, made.Owners...), " ") + "\n"}}, nil
			},
		},
		Certification: []byte(`{"kind": "board", "certified_against": "fake", "hash": "h", "servers": [
			{"server": "Board 1.2", "cases": 5, "passed": 4, "skipped": [{"case": "a", "reason": "old"}]},
			{"server": "Board 2.0", "cases": 5, "passed": 3, "skipped": [{"case": "a", "reason": "old"}, {"case": "b", "reason": "new"}]}]}`),
	}
}

func TestList(t *testing.T) {
	got, err := describe.List(integrations.NewRegistry(kind()))
	if err != nil {
		t.Fatal(err)
	}
	want := []describe.Certified{{Kind: "board", Name: "Board", Against: describe.Fake, Server: "Board 1.2, Board 2.0", Cases: 5, Passed: 3,
		Skipped: []describe.Skip{{Case: "a", Reason: "old"}, {Case: "b", Reason: "new"}}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got, want := got[0].Words(), "Certified against a fake of Board 1.2, Board 2.0: 3 of 5 cases pass, 2 are left out."; got != want {
		t.Errorf("got %s", got)
	}
	broken := kind()
	broken.Certification = nil
	if _, err := describe.List(integrations.NewRegistry(broken)); err == nil || !strings.Contains(err.Error(), "board") {
		t.Errorf("without a certification: %v", err)
	}
}

func TestOptions(t *testing.T) {
	for _, test := range []struct {
		set    []string
		script string
		fault  string
	}{
		{nil, "lapse\n", ""},
		{[]string{"connector_name=a=b", "owners=x", "owners=y,z"}, "a=b x y,z\n", ""},
		{[]string{"connector_name=a", "connector_name=b"}, "", "connector_name"},
		{[]string{"connector_name="}, "", "connector_name"},
		{[]string{"owner=x"}, "", "owner"},
		{[]string{"owners"}, "", "NAME=VALUE"},
		{[]string{"=x"}, "", "NAME=VALUE"},
	} {
		made, err := describe.Options{}, error(nil)
		for _, s := range test.set {
			if err == nil {
				err = made.Set(s)
			}
		}
		var d describe.Kind
		if err == nil {
			d, err = describe.New(kind(), made)
		}
		switch {
		case test.script == "" && (err == nil || !strings.Contains(err.Error(), test.fault)):
			t.Errorf("%q: %v, want one that names %q", test.set, err, test.fault)
		case test.script != "" && err != nil:
			t.Errorf("%q: %v", test.set, err)
		case test.script != "" && d.Setup[0].Script != test.script:
			t.Errorf("%q: %q", test.set, d.Setup[0].Script)
		}
	}
}

func TestMarkdown(t *testing.T) {
	got, err := describe.Markdown(kind())
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		"| `room:HOUSE/ROOM` | a room | `read`, `write` |\n| `seat:SEAT` | a seat | `read` |",
		"| `read` | reads |\n| `write` | reads \\| writes |\n\n", // each once
		"| `connector_name` | `lapse` | the connector |",
		"```sh\nlapse app\n```", // the examples of the options
	} {
		if !strings.Contains(got, part) {
			t.Errorf("%q is missing in\n%s", part, got)
		}
	}
	page, err := describe.CertificationPage(integrations.NewRegistry(kind()))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"| [Board](integrations/board.md) | fake | Board 1.2, Board 2.0 | 5 | 3 | 2 |", "| b | new |"} {
		if !strings.Contains(page, part) {
			t.Errorf("%q is missing in\n%s", part, page)
		}
	}
}
