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
		{"another permission is nearer than another resource", []Flow{
			of("tables", func(f *Flow) { f.Targets[0].Resources = []string{"table:*/*/*"} }), of("schemas"),
		}, ask("admin", "x"), time.Hour, "the nearest is schemas: "},
		{"the nearest has the fewest that fail", []Flow{
			of("far", func(f *Flow) { f.Requesters.Any[0].Values, f.MaxDuration = []string{"dba"}, 1 }),
			of("near", func(f *Flow) { f.MaxDuration = 1 }),
			of("as-near", func(f *Flow) { f.Targets[0].Integration = "crm" }),
		}, ask("read_only", "x"), time.Hour, "the nearest is near: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Explain(c.flows, Ask{Person: ana, By: ana, Asked: c.asked, For: Duration(c.d), Now: noon}).Text(); !strings.Contains(got, c.says) {
				t.Errorf("%q does not say %q", got, c.says)
			}
		})
	}
}

// What is said of the newer things that a flow may want.
func TestExplainMore(t *testing.T) {
	on := func(change func(*Flow, *Ask)) string {
		f := flowOf("a", "integration_owner")
		a := Ask{Person: ana, By: ana, Asked: []Asked{asked("read_only")}, For: Duration(time.Hour), Now: noon}
		change(&f, &a)
		flows := []Flow{f}
		e := Explain(flows, a)
		if _, err := ChooseFlow(flows, a); (err == nil) != (e.Flow != "") {
			t.Errorf("chosen: %v, explained: %+v", err, e)
		}
		return e.Text()
	}
	for _, c := range []struct {
		name, says string
		change     func(*Flow, *Ask)
	}{
		{"a fallback", "access flow a is used: no other admits it, and it is a fallback", func(f *Flow, _ *Ask) { f.Fallback = true }},
		{"durations", "it wants 30m or 2h, and there is 1h", func(f *Flow, _ *Ask) { f.Durations = []Duration{Duration(30 * time.Minute), Duration(2 * time.Hour)} }},
		{"ahead of its time", "it wants to begin at most 0s ahead, and there is 2h", func(_ *Flow, a *Ask) { a.Start = noon.Add(2 * time.Hour) }},
		{"far ahead of its time", "it wants to begin at most 1h ahead, and there is 2h", func(f *Flow, a *Ask) {
			f.ScheduleAhead, a.Start = Duration(time.Hour), noon.Add(2*time.Hour)
		}},
		{"ahead, as the flow allows", "access flow a is used", func(f *Flow, a *Ask) {
			f.ScheduleAhead, a.Start = Duration(2*time.Hour), noon.Add(2*time.Hour)
		}},
		{"a start that is past is now", "access flow a is used", func(_ *Flow, a *Ask) { a.Start = noon.Add(-time.Hour) }},
		{"outside the timeframe", "it wants to begin on mon, tue 09:00-13:00 (Europe/Madrid), and there is mon 2026-05-04 14:00", func(f *Flow, _ *Ask) {
			f.Timeframe = Timeframe{Days: []string{"mon", "tue"}, Hours: "09:00-13:00", TimeZone: "Europe/Madrid"}
		}},
		{"inside the timeframe when it begins", "access flow a is used", func(f *Flow, a *Ask) {
			f.Timeframe, f.ScheduleAhead, a.Start = Timeframe{Days: []string{"tue"}, Hours: "09:00-13:00"}, Duration(48*time.Hour), noon.Add(22*time.Hour)
		}},
		{"for somebody else", "it wants nobody to ask for others, and there is bo@example.com", func(_ *Flow, a *Ask) { a.By = bo }},
		{"for somebody else, as others", "it wants the manager of ana@example.com, or somebody whose group is dba to ask for others, and there is bo@example.com", func(f *Flow, a *Ask) {
			f.OnBehalf, a.By = OnBehalf{Manager: true, By: Conditions{Any: []Condition{{Attribute: "group", Values: []string{"dba"}}}}}, bo
		}},
		{"a resource that is left out", "it wants on prod-pg anything except schema:shop/public", func(f *Flow, _ *Ask) { f.Targets[0].Except = []Exception{{Resources: []string{"schema:*/public"}}} }},
		{"a tag that it has not", "it wants on prod-pg only what is tagged owner: crm-team and tier: 1", func(f *Flow, _ *Ask) { f.Targets[0].Tags = map[string]string{"owner": "crm-team", "tier": "1"} }},
		{"breaking the glass where no flow is for it", "there are no access flows", func(_ *Flow, a *Ask) { a.BreakGlass = true }},
		{"what comes by itself is not asked for", "there are no access flows", func(f *Flow, _ *Ask) { f.Trigger = Automatic }},
		{"breaking the glass", "access flow a is used", func(f *Flow, a *Ask) { f.Trigger, a.BreakGlass = BreakGlass, true }},
		{"a flow for breaking the glass is for nothing else", "there are no access flows", func(f *Flow, _ *Ask) { f.Trigger = BreakGlass }},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := on(c.change); !strings.Contains(got, c.says) {
				t.Errorf("%q does not say %q", got, c.says)
			}
		})
	}
}

// What is explained is what is decided.
func TestExplainDecidesAlike(t *testing.T) {
	word := rapid.SampledFrom([]string{"a", "b", "ab"})
	words := rapid.SliceOfN(word, 1, 2)
	tags := rapid.MapOfN(rapid.SampledFrom([]string{"owner", "tier"}), word, 0, 2)
	pattern := rapid.Custom(func(t *rapid.T) string {
		return "schema:" + rapid.SampledFrom([]string{"*", "a", "b*"}).Draw(t, "pattern")
	})
	conditions := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Condition {
		return Condition{Attribute: rapid.SampledFrom([]string{"group", "site", "email"}).Draw(t, "attribute"),
			Operator: rapid.SampledFrom([]string{"", "is", "is_not", "contains", "does_not_contain", "starts_with"}).Draw(t, "operator"), Values: words.Draw(t, "values")}
	}), 0, 2)
	flow := rapid.Custom(func(t *rapid.T) Flow {
		f := Flow{Name: rapid.StringMatching(`[a-z]{8}`).Draw(t, "name"), MaxDuration: Duration(rapid.Int64Range(1, 3).Draw(t, "maximum")),
			Trigger: rapid.SampledFrom([]string{"", "", SelfServe, Automatic, BreakGlass}).Draw(t, "trigger"), Fallback: rapid.Bool().Draw(t, "fallback")}
		if f.Requesters = (Conditions{Any: conditions.Draw(t, "any"), All: conditions.Draw(t, "all")}); rapid.Bool().Draw(t, "anybody") {
			f.Requesters = Conditions{Any: []Condition{{Attribute: "group", Operator: "is_not", Values: []string{"x"}}}}
			f.Targets = []FlowTarget{{Integration: "a", Resources: []string{"schema:*"}, Permissions: []string{"a", "b", "ab"}}}
		}
		f.OnBehalf = OnBehalf{Manager: rapid.Bool().Draw(t, "manager"), By: Conditions{Any: conditions.Draw(t, "by")}}
		for range rapid.IntRange(1, 2).Draw(t, "targets") {
			target := FlowTarget{Integration: word.Draw(t, "integration"), Resources: []string{pattern.Draw(t, "resources")}, Permissions: words.Draw(t, "permissions"), Tags: tags.Draw(t, "target tags")}
			if rapid.Bool().Draw(t, "with an exception") {
				target.Except = []Exception{{Resources: []string{pattern.Draw(t, "except")}, Tags: tags.Draw(t, "except tags")}}
			}
			f.Targets = append(f.Targets, target)
		}
		if rapid.Bool().Draw(t, "only some durations") {
			f.Durations = []Duration{Duration(rapid.Int64Range(1, 3).Draw(t, "a duration"))}
		}
		f.ScheduleAhead = Duration(rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(t, "ahead"))
		if rapid.Bool().Draw(t, "only at some time") {
			f.Timeframe = Timeframe{Hours: rapid.SampledFrom([]string{"", "08:00-12:30", "13:00-02:00"}).Draw(t, "hours"), Days: rapid.SampledFrom([][]string{nil, {"mon"}, {"tue"}}).Draw(t, "days"),
				TimeZone: rapid.SampledFrom([]string{"", "Europe/Madrid", "nowhere"}).Draw(t, "zone")}
		}
		return f
	})
	rapid.Check(t, func(t *rapid.T) {
		flows := rapid.SliceOfN(flow, 0, 4).Draw(t, "flows")
		person := func(id string) Person {
			return Person{ID: id, Email: word.Draw(t, "email"), Groups: rapid.SliceOfN(word, 0, 2).Draw(t, "groups"),
				Attributes: map[string]string{"site": word.Draw(t, "site"), "manager": word.Draw(t, "manager")}, Disabled: rapid.IntRange(0, 9).Draw(t, "disabled") == 0}
		}
		a := Ask{Person: person("me"), For: Duration(rapid.Int64Range(1, 3).Draw(t, "duration")), Now: noon, BreakGlass: rapid.IntRange(0, 3).Draw(t, "glass") == 0}
		if a.By = a.Person; rapid.Bool().Draw(t, "on behalf") {
			a.By = person("other")
		}
		if rapid.Bool().Draw(t, "later") {
			a.Start = noon.Add(rapid.SampledFrom([]time.Duration{-time.Hour, time.Nanosecond, time.Hour, 2 * time.Hour}).Draw(t, "start"))
		}
		for range rapid.IntRange(1, 2).Draw(t, "asked") {
			a.Asked = append(a.Asked, Asked{Integration: rapid.SampledFrom([]string{"a", "a", "a", "b"}).Draw(t, "on"), Entitlement: Entitlement{Resource: NewResource("schema", word.Draw(t, "path")), Permission: word.Draw(t, "permission")}, Tags: tags.Draw(t, "tags")})
		}
		e := Explain(flows, a)
		chosen, err := ChooseFlow(flows, a)
		if (err == nil) != (e.Flow != "") || err == nil && chosen.Name != e.Flow {
			t.Fatalf("explained as %q, chosen %q, %v", e.Flow, chosen.Name, err)
		}
		if err == nil && chosen.Fallback && slices.ContainsFunc(flows, func(f Flow) bool { return !f.Fallback && f.considered(a) && f.Admits(a) == "" }) {
			t.Fatalf("the fallback %s is used although another flow admits it", chosen.Name)
		}
		looked := slices.DeleteFunc(slices.Clone(flows), func(f Flow) bool {
			return f.Trigger == Automatic || (f.Trigger == BreakGlass) != a.BreakGlass
		})
		for i, f := range looked {
			if why := f.Admits(a); (why == "") != e.Flows[i].Admits || f.Name != e.Flows[i].Flow {
				t.Fatalf("%s admits: %q, explained: %+v", f.Name, why, e.Flows[i])
			}
		}
		if e.Flow == "" && len(looked) > 0 && !slices.ContainsFunc(looked, func(f Flow) bool { return f.Name == e.Nearest }) {
			t.Fatalf("nearest is %q", e.Nearest)
		}
		if err == nil {
			if _, known := NewDirectory([]Person{a.Person, a.By}).Person("me"); !known {
				t.Fatal("the directory lost somebody")
			}
			// What was admitted is given for as long as nothing changes.
			m := Matter{Flow: chosen, Directory: NewDirectory([]Person{a.Person, a.By}), Now: a.Now, Request: Request{PersonID: "me", AskedBy: a.By.ID, Asked: a.Asked, Duration: a.For, StartAt: a.Start}}
			if why := m.Admitted(); why != "" {
				t.Fatalf("admitted, and not given: %s", why)
			}
		}
	})
}

// scale is a configuration and a directory of some size, and somebody who asks.
// Every hundredth flow is for one of a hundred teams; of each thousand people
// one is an owner.
func scale(flows, people int, change func(*Flow)) ([]Flow, []Person, Ask) {
	var list []Flow
	for i := range flows {
		f := Flow{Name: fmt.Sprint("flow-", i), MaxDuration: Duration(time.Hour),
			Requesters: Conditions{Any: []Condition{{Attribute: "group", Values: []string{fmt.Sprint("team-", i)}}}},
			Targets:    []FlowTarget{{Integration: "prod-pg", Resources: []string{"schema:shop/*"}, Permissions: []string{"read_only"}}},
			Approval:   Approval{Steps: []Step{{AnyOf: []string{"group:owners"}}}}}
		change(&f)
		list = append(list, f)
	}
	who := Person{ID: "me", Email: "me@example.com", Groups: []string{fmt.Sprint("team-", flows-1)}}
	everybody := []Person{who}
	for i := range people - 1 {
		groups := []string{fmt.Sprint("team-", i%100)}
		if i%1000 < 3 {
			groups = append(groups, []string{"owners", "security", "platform"}[i%1000])
		}
		everybody = append(everybody, Person{ID: fmt.Sprint(i), Email: fmt.Sprintf("p%d@example.com", i), Aliases: []string{fmt.Sprintf("person.%d@example.org", i)}, Groups: groups})
	}
	asked := []Asked{{Integration: "prod-pg", Entitlement: Entitlement{Resource: NewResource("schema", "shop", "public"), Permission: "read_only"}}}
	return list, everybody, Ask{Person: who, By: who, Asked: asked, For: Duration(time.Minute), Now: noon}
}

// What it costs to find the flow of a request, whether it can be decided, and
// who may approve it.
func BenchmarkMatch(b *testing.B) {
	took := map[string]float64{}
	for _, kind := range []struct {
		name   string
		change func(*Flow)
	}{
		{"one_step", func(*Flow) {}},
		{"timeframe", func(f *Flow) {
			f.Timeframe = Timeframe{Days: []string{"mon", "tue", "wed", "thu", "fri"}, Hours: "08:00-18:00", TimeZone: "Europe/Madrid"}
		}},
		{"three_steps", func(f *Flow) {
			f.Approval.Steps = []Step{{AnyOf: []string{"group:owners"}, AtLeast: 2}, {AllOf: []string{"group:security", "group:platform"}}, {AnyOf: []string{"group:platform"}, Fallback: []string{"group:owners"}}}
		}},
		{"a_group_of_everybody", func(f *Flow) { f.Approval.Steps[0].AnyOf = []string{"group:team-7", "group:owners"} }},
	} {
		for _, size := range []struct{ flows, people int }{{1, 3000}, {100, 3000}, {1, 10000}, {100, 10000}} {
			b.Run(fmt.Sprintf("%s/flows=%d/people=%d", kind.name, size.flows, size.people), func(b *testing.B) {
				flows, people, a := scale(size.flows, size.people, kind.change)
				directory := NewDirectory(people)
				for b.Loop() {
					f, err := ChooseFlow(flows, a)
					if err != nil {
						b.Fatal(err)
					}
					m := Matter{Flow: f, Directory: directory, Now: a.Now, Request: Request{PersonID: a.Person.ID, Asked: a.Asked, Duration: a.For, HoldIDs: []string{"hold-1"}, CreatedAt: a.Now}}
					if why := m.Stuck(); why != "" {
						b.Fatal(why)
					}
					if len(m.Approvers()) == 0 {
						b.Fatal("nobody may approve")
					}
				}
				each := float64(b.Elapsed()) / float64(b.N)
				took[fmt.Sprint(kind.name, size.flows, size.people)] = each
				if least := took[fmt.Sprint(kind.name, 1, size.people)]; size.flows > 1 && least > 0 {
					b.ReportMetric(each/least, "x-for-100x-flows")
				}
				if least := took[fmt.Sprint(kind.name, size.flows, 3000)]; size.people > 3000 && least > 0 {
					b.ReportMetric(each/least, "x-for-3.3x-people")
				}
			})
		}
	}
}

// What it costs to make a directory, which is done once for each change of it.
func BenchmarkDirectory(b *testing.B) {
	least := 0.0
	for _, people := range []int{1000, 10000} {
		b.Run(fmt.Sprintf("people=%d", people), func(b *testing.B) {
			_, list, _ := scale(1, people, func(*Flow) {})
			for b.Loop() {
				NewDirectory(list)
			}
			each := float64(b.Elapsed()) / float64(b.N)
			if least == 0 {
				least = each
			}
			b.ReportMetric(each/least, "x-for-10x-people")
		})
	}
}
