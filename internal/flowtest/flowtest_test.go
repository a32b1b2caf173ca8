package flowtest_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations/all"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/flowtest"
	"github.com/lapse-access/lapse/internal/spec"
)

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// flows is the sample of access flows with every key.
func flows(t *testing.T) config.Config {
	t.Helper()
	cfg, warnings, err := config.Parse("lapse.yaml", []byte(read(t, "../config/testdata/flows.yaml")), all.Kinds())
	if err != nil || len(warnings) > 0 {
		t.Fatalf("%v\n%v", warnings, err)
	}
	return cfg
}

func run(t *testing.T, cfg config.Config, src string) []flowtest.Result {
	t.Helper()
	tests, err := flowtest.Parse("flows_test.yaml", []byte(src), cfg, all.Kinds())
	if err != nil {
		t.Fatal(err)
	}
	return tests.Run()
}

func TestSamplePasses(t *testing.T) {
	results := run(t, flows(t), read(t, "testdata/flows_test.yaml"))
	for _, r := range results {
		if !r.OK || r.Line == 0 || r.Says == "" {
			t.Errorf("%+v", r)
		}
	}
	if len(results) != 9 {
		t.Errorf("%d cases", len(results))
	}
}

// Each expectation fails when the flows do something else, and says what.
func TestWhatFails(t *testing.T) {
	const public = `wants: [{integration: prod-pg, resource: "schema:shop/public", permission: read_only}]`
	for _, tt := range []struct{ name, request, expect, want string }{
		{"another flow", "person: ana@example.com, " + public, "flow: night", "the access flow read is used, and not night"},
		{"not refused", "person: ana@example.com, " + public, "refused: no", "it is not refused"},
		{"refused for something else", "person: sam@example.com, " + public, "refused: too long", `it is refused, and not with "too long"`},
		{"refused", "person: sam@example.com, " + public, "flow: read", "it is refused"},
		{"nobody can decide on it", "person: sam@example.com, " + public, "may_not: [sam@example.com]", "it is refused"},
		{"an approver too many", "person: ana@example.com, " + public, "approvers: [cy@example.com]", "dee@example.com may decide on the first step"},
		{"an approver who is none", "person: ana@example.com, " + public, "approvers: [cy@example.com, dee@example.com, bo@example.com]", "bo@example.com may not decide on the first step"},
		{"no approvers at all", "person: ana@example.com, " + public, "approvers: []", "cy@example.com may decide on the first step"},
		{"fewer steps", `person: ana@example.com, bundle: night, at: "2025-01-07T20:00:00Z"`, "steps: [[mo@example.com]]", "there are 2 steps, and not 1"},
		{"another step", `person: ana@example.com, bundle: night, at: "2025-01-07T20:00:00Z"`, "steps: [[mo@example.com], [cy@example.com, dee@example.com]]", "sam@example.com may decide on oversight"},
		{"may all the same", "person: ana@example.com, " + public, "may_not: [dee@example.com]", "dee@example.com may approve it"},
		{"may on a later step", `person: ana@example.com, bundle: night, at: "2025-01-07T20:00:00Z"`, "may_not: [sam@example.com]", "sam@example.com may approve it"},
		{"may review", `person: cy@example.com, break_glass: true, wants: [{integration: prod-pg, resource: "schema:shop/public", permission: read_write}]`, "may_not: [sam@example.com]", "sam@example.com may justify it"},
		{"has it", "person: dee@example.com, " + public, "automatic: has_not", "the automatic access flow on-call gives it to dee@example.com"},
		{"has it not", "person: cy@example.com, " + public, "automatic: has", "no automatic access flow gives it to cy@example.com"},
		{"said wrongly", "person: ana@example.com, reason: short, " + public, "flow: read", "it is refused"},
	} {
		results := run(t, flows(t), "cases: [{name: x, "+tt.request+", expect: {"+tt.expect+"}}]")
		if r := results[0]; r.OK || !strings.Contains(strings.Join(r.Failed, "\n"), tt.want) {
			t.Errorf("%s: %+v", tt.name, r)
		}
	}
	alone := flows(t)
	alone.AccessFlows[0].Approval.Steps = []access.Step{{AnyOf: []string{"person:ana@example.com"}}}
	r := run(t, alone, "cases: [{name: x, person: ana@example.com, "+public+", expect: {refused: nobody may approve}}]")[0]
	if !r.OK {
		t.Errorf("nobody can decide on it: %+v", r)
	}
	r = run(t, flows(t), "cases: [{name: x, person: ana@example.com, for: 9h, "+public+", expect: {flow: read}}]")[0]
	if !strings.Contains(r.Says, "the nearest is night: it wants to begin on") || !strings.Contains(r.Says, "and there is wed 2025-01-01 13:00") {
		t.Errorf("it says %s", r.Says)
	}
}

// A file of tests is as strict as lapse.yaml.
func TestFaults(t *testing.T) {
	cfg := flows(t)
	sample := read(t, "testdata/flows_test.yaml")
	for _, tt := range []struct{ old, new, want string }{
		{"person: ana@example.com", "persona: ana@example.com", "cases[0].persona: unknown key (did you mean person?)"},
		{"person: ana@example.com", "person: anna@example.com", "flows_test.yaml:3:13: cases[0].person: is nobody among people (did you mean ana@example.com?)"},
		{"on_behalf_of: ana@", "on_behalf_of: x@", "cases[5].on_behalf_of: is nobody among people"},
		{"integration: prod-pg", "integration: prod-gp", "cases[0].wants[0].integration: there is no such integration (did you mean prod-pg?)"},
		{"schema:shop/public", "shop", "cases[0].wants[0].resource: resource \"shop\": want TYPE:PATH"},
		{"schema:shop/public", "schemas:shop/public", "cases[0].wants[0].resource: postgresql has no such type"},
		{"permission: read_only", "permission: readonly", "cases[0].wants[0].permission: is no permission of a schema (did you mean read_only?)"},
		{"bundle: night", "bundle: nights", "cases[2].bundle: there is no such bundle (did you mean night?)"},
		{"bundle: night", "", "cases[2]: asks for nothing"},
		{"for: 8h", "for: 8", "cases[0].for: duration"},
		{"at: 2025-01-07T09:00:00Z", "at: tuesday", "cases[2].at: must be a time such as"},
		{"break_glass: true", "break_glass: now", "cases[8].break_glass: must be true or false"},
		{"flow: read\n", "flow: reads\n", "cases[0].expect.flow: there is no such access flow (did you mean read?)"},
		{"approvers: [cy@", "approvers: [cyd@", "cases[0].expect.approvers[0]: is nobody among people"},
		{"steps: [[mo@", "steps: [[moo@", "cases[2].expect.steps[0][0]: is nobody among people"},
		{"may_not: [ana@", "may_not: [anna@", "cases[0].expect.may_not[0]: is nobody among people"},
		{"automatic: has}", "automatic: perhaps}", "cases[6].expect.automatic: must be one of has, has_not"},
		{"expect: {automatic: has}", "expect: {}", "cases[6].expect: expects nothing"},
		{"expect: {refused: no", "expect: {flow: night, refused: no", "cases[4].expect.refused: what is refused has neither"},
		{"name: a night is not a day", "name: a night wants a ticket", "cases[4].name: is there twice"},
		{"cases:", "cases", "is not YAML"},
	} {
		if !strings.Contains(sample, tt.old) {
			t.Fatalf("the sample does not hold %q", tt.old)
		}
		_, err := flowtest.Parse("flows_test.yaml", []byte(strings.Replace(sample, tt.old, tt.new, 1)), cfg, all.Kinds())
		faults, ok := errors.AsType[spec.Faults](err)
		if !ok || !strings.Contains(faults.Error(), tt.want) || faults[0].Line == 0 || faults[0].File == "" {
			t.Errorf("%s: %v", tt.new, err)
		}
	}
}

// The samples of the docs are those that are tested.
func TestDocs(t *testing.T) {
	docs := read(t, "../../docs/lapse-yaml.md")
	_, sample, _ := strings.Cut(read(t, "../config/testdata/flows.yaml"), "# What is asked for together")
	for name, text := range map[string]string{"flows.yaml": "# What is asked for together" + sample, "flows_test.yaml": read(t, "testdata/flows_test.yaml")} {
		if !strings.Contains(docs, "```yaml\n"+text+"```") {
			t.Errorf("docs/lapse-yaml.md does not hold %s as it is", name)
		}
	}
}
