package access

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestExplain(t *testing.T) {
	ana := Person{ID: "per-1", Email: "ana@example.com", Groups: []string{"analytics"}, Attributes: map[string]string{"site": "bern"}}
	of := func(name string, change ...func(*Flow)) Flow {
		f := Flow{Name: name, Requesters: Conditions{Any: []Condition{{Attribute: "group", Values: []string{"analytics", "support"}}}},
			Targets: []FlowTarget{{Integration: "prod-pg", Resources: []string{"schema:shop/*"}, Permissions: []string{"read_only"}}}, MaxDuration: Duration(8 * time.Hour)}
		for _, c := range change {
			c(&f)
		}
		return f
	}
	ask := func(permission, path string) []Asked {
		return []Asked{{Integration: "prod-pg", Entitlement: Entitlement{Integration: "int-1", Resource: NewResource("schema", "shop", path), Permission: permission}}}
	}
	for _, c := range []struct {
		name  string
		flows []Flow
		asked []Asked
		d     time.Duration
		says  string
	}{
		{"one admits", []Flow{of("a")}, ask("read_only", "x"), time.Hour, "access flow a is used"},
		{"two admit", []Flow{of("z"), of("a"), of("b")}, ask("read_only", "x"), time.Hour, "access flow z is used: it comes before a, b"},
		{"the first does not", []Flow{of("z", func(f *Flow) { f.MaxDuration = 1 }), of("a")}, ask("read_only", "x"), time.Hour, "access flow a is used"},
		{"none is there", nil, ask("read_only", "x"), time.Hour, "there are no access flows"},
		{"too long", []Flow{of("a")}, ask("read_only", "x"), 9 * time.Hour, "the nearest is a: it wants 8h at most, and there is 9h"},
		{"not in the group", []Flow{of("a", func(f *Flow) { f.Requesters.Any[0].Values = []string{"dba", "sre"} })}, ask("read_only", "x"), time.Hour,
			"the nearest is a: it wants group is dba or sre, and there is group analytics"},
		{"an attribute that the person has not", []Flow{of("a", func(f *Flow) {
			f.Requesters.All = []Condition{{Attribute: "team", Operator: "starts_with", Values: []string{"x"}}}
		})}, ask("read_only", "x"), time.Hour,
			"the nearest is a: it wants team starts with x, and there is no team"},
		{"another permission", []Flow{of("a")}, ask("admin", "x"), time.Hour, "the nearest is a: it wants read_only on prod-pg schema:shop/x, and there is admin on prod-pg schema:shop/x"},
		{"another resource", []Flow{of("a", func(f *Flow) { f.Targets[0].Resources = []string{"schema:hr/*", "table:*/*/*"} })}, ask("read_only", "x"), time.Hour,
			"the nearest is a: it wants on prod-pg only schema:hr/* or table:*/*/*, and there is read_only on prod-pg schema:shop/x"},
		{"another integration", []Flow{of("a", func(f *Flow) { f.Targets[0].Integration = "crm" })}, ask("read_only", "x"), time.Hour, "it wants something on crm"},
		{"the nearest has the fewest that fail", []Flow{
			of("far", func(f *Flow) { f.Requesters.Any[0].Values, f.MaxDuration = []string{"dba"}, 1 }),
			of("near", func(f *Flow) { f.MaxDuration = 1 }),
			of("as-near", func(f *Flow) { f.Targets[0].Integration = "crm" }),
		}, ask("read_only", "x"), time.Hour, "the nearest is near: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Explain(c.flows, ana, c.asked, Duration(c.d)).Text(); !strings.Contains(got, c.says) {
				t.Errorf("%q does not say %q", got, c.says)
			}
		})
	}
}

// What is explained is what is decided.
func TestExplainDecidesAlike(t *testing.T) {
	word := rapid.SampledFrom([]string{"a", "b", "ab"})
	words := rapid.SliceOfN(word, 1, 2)
	condition := rapid.Custom(func(t *rapid.T) Condition {
		return Condition{Attribute: rapid.SampledFrom([]string{"group", "site", "email"}).Draw(t, "attribute"),
			Operator: rapid.SampledFrom([]string{"", "is", "is_not", "contains", "does_not_contain", "starts_with"}).Draw(t, "operator"), Values: words.Draw(t, "values")}
	})
	conditions := rapid.SliceOfN(condition, 0, 2)
	flow := rapid.Custom(func(t *rapid.T) Flow {
		f := Flow{Name: rapid.StringMatching(`[a-z]{8}`).Draw(t, "name"), MaxDuration: Duration(rapid.Int64Range(1, 3).Draw(t, "maximum"))}
		f.Requesters = Conditions{Any: conditions.Draw(t, "any"), All: conditions.Draw(t, "all")}
		for range rapid.IntRange(1, 2).Draw(t, "targets") {
			f.Targets = append(f.Targets, FlowTarget{Integration: word.Draw(t, "integration"), Resources: []string{"schema:" + rapid.SampledFrom([]string{"*", "a", "b*"}).Draw(t, "pattern")}, Permissions: words.Draw(t, "permissions")})
		}
		return f
	})
	rapid.Check(t, func(t *rapid.T) {
		flows := rapid.SliceOfN(flow, 0, 4).Draw(t, "flows")
		p := Person{Email: word.Draw(t, "email"), Groups: rapid.SliceOfN(word, 0, 2).Draw(t, "groups"), Attributes: map[string]string{"site": word.Draw(t, "site")}, Disabled: rapid.IntRange(0, 9).Draw(t, "disabled") == 0}
		var asked []Asked
		for range rapid.IntRange(1, 2).Draw(t, "asked") {
			asked = append(asked, Asked{Integration: word.Draw(t, "on"), Entitlement: Entitlement{Resource: NewResource("schema", word.Draw(t, "path")), Permission: word.Draw(t, "permission")}})
		}
		d := Duration(rapid.Int64Range(1, 3).Draw(t, "duration"))
		e := Explain(flows, p, asked, d)
		chosen, err := ChooseFlow(flows, p, asked, d)
		if (err == nil) != (e.Flow != "") || err == nil && chosen.Name != e.Flow {
			t.Fatalf("explained as %q, chosen %q, %v", e.Flow, chosen.Name, err)
		}
		for i, f := range flows {
			if admits := f.Admits(p, asked, d) == ""; admits != e.Flows[i].Admits {
				t.Fatalf("%s admits: %t, explained: %+v", f.Name, admits, e.Flows[i])
			}
		}
		if e.Flow == "" && len(flows) > 0 && !slices.ContainsFunc(flows, func(f Flow) bool { return f.Name == e.Nearest }) {
			t.Fatalf("nearest is %q", e.Nearest)
		}
	})
}

// What it costs to find the flow of a request, and who may approve it.
func BenchmarkMatch(b *testing.B) {
	for _, size := range []struct{ flows, people int }{{1, 100}, {100, 100}, {1, 10000}, {100, 10000}} {
		b.Run(fmt.Sprintf("flows=%d/people=%d", size.flows, size.people), func(b *testing.B) {
			var flows []Flow
			for i := range size.flows {
				flows = append(flows, Flow{Name: fmt.Sprint("flow-", i), MaxDuration: Duration(time.Hour),
					Requesters: Conditions{Any: []Condition{{Attribute: "group", Values: []string{fmt.Sprint("team-", i)}}}},
					Targets:    []FlowTarget{{Integration: "prod-pg", Resources: []string{"schema:shop/*"}, Permissions: []string{"read_only"}}},
					Approval:   Approval{Steps: []Step{{AnyOf: []string{"group:owners"}}}}})
			}
			var people []Person
			for i := range size.people {
				groups := []string{fmt.Sprint("team-", i%100)}
				if i%1000 == 0 {
					groups = append(groups, "owners")
				}
				people = append(people, Person{ID: fmt.Sprint(i), Email: fmt.Sprintf("p%d@example.com", i), Groups: groups})
			}
			who := Person{ID: "me", Email: "me@example.com", Groups: []string{fmt.Sprint("team-", size.flows-1)}}
			asked := []Asked{{Integration: "prod-pg", Entitlement: Entitlement{Resource: NewResource("schema", "shop", "public"), Permission: "read_only"}}}
			for b.Loop() {
				f, err := ChooseFlow(flows, who, asked, Duration(time.Minute))
				if err != nil {
					b.Fatal(err)
				}
				if len(Approvers(f, asked, who, people)) == 0 {
					b.Fatal("nobody may approve")
				}
			}
		})
	}
}
