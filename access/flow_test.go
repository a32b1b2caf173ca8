package access

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestConditions(t *testing.T) {
	ana := Person{ID: "per-1", Email: "Ana@example.com", Groups: []string{"analytics", "eu-west"}, Attributes: map[string]string{"team": "data platform", "level": ""}}
	cond := func(attribute, operator string, values ...string) Condition {
		return Condition{Attribute: attribute, Operator: operator, Values: values}
	}
	yes, no := cond("group", "is", "analytics"), cond("group", "is", "dba")
	for _, c := range []struct {
		name string
		cs   Conditions
		want bool
	}{
		{"one of the groups is enough", Conditions{Any: []Condition{cond("group", "is", "dba", "analytics")}}, true},
		{"is stands where no operator does", Conditions{Any: []Condition{cond("group", "", "analytics")}}, true},
		{"is means the whole value", Conditions{Any: []Condition{cond("group", "is", "analytic")}}, false},
		{"groups are compared with regard to case", Conditions{Any: []Condition{cond("group", "is", "Analytics")}}, false},
		{"is_not holds when no group is it", Conditions{Any: []Condition{cond("group", "is_not", "dba")}}, true},
		{"is_not fails when any group is it", Conditions{Any: []Condition{cond("group", "is_not", "dba", "eu-west")}}, false},
		{"contains finds a part", Conditions{Any: []Condition{cond("team", "contains", "plat")}}, true},
		{"does_not_contain fails on a part", Conditions{Any: []Condition{cond("team", "does_not_contain", "plat")}}, false},
		{"does_not_contain holds without it", Conditions{Any: []Condition{cond("team", "does_not_contain", "sales")}}, true},
		{"starts_with looks at the beginning", Conditions{Any: []Condition{cond("group", "starts_with", "eu-")}}, true},
		{"starts_with does not look elsewhere", Conditions{Any: []Condition{cond("group", "starts_with", "west")}}, false},
		{"e-mail is compared without regard to case", Conditions{Any: []Condition{cond("email", "is", "ANA@Example.com")}}, true},
		{"a domain is the end of an address, which no operator asks for", Conditions{Any: []Condition{cond("email", "starts_with", "example.com")}}, false},
		{"an attribute that is empty has the empty value", Conditions{Any: []Condition{cond("level", "is", "")}}, true},
		{"an attribute that is missing has no value", Conditions{Any: []Condition{cond("cost-center", "is", "")}}, false},
		{"an attribute that is missing is not any value", Conditions{Any: []Condition{cond("cost-center", "is_not", "7")}}, true},
		{"an operator that is not known holds for nobody", Conditions{Any: []Condition{cond("group", "matches", "analytics")}}, false},
		{"no conditions hold for nobody", Conditions{}, false},
		{"any needs one", Conditions{Any: []Condition{no, yes}}, true},
		{"any needs at least one", Conditions{Any: []Condition{no}}, false},
		{"all needs every one", Conditions{All: []Condition{yes, no}}, false},
		{"all of them is enough", Conditions{All: []Condition{yes, yes}}, true},
		{"both lists must be satisfied: any fails", Conditions{Any: []Condition{no}, All: []Condition{yes}}, false},
		{"both lists must be satisfied: all fails", Conditions{Any: []Condition{yes}, All: []Condition{no}}, false},
		{"both lists are satisfied", Conditions{Any: []Condition{yes}, All: []Condition{yes}}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.cs.Holds(ana); got != c.want {
				t.Errorf("got %v", got)
			}
			off := ana
			off.Disabled = true
			if c.cs.Holds(off) {
				t.Error("it holds for somebody who is disabled")
			}
		})
	}
}

// asked is a request for one permission on the schema shop/public of prod-pg,
// which dba owns and whose tag says that the team of Eve owns it.
func asked(permission string) Asked {
	return Asked{
		Entitlement: Entitlement{Integration: "int-1", Resource: NewResource("schema", "shop", "public"), Permission: permission}, Integration: "prod-pg",
		Tags: map[string]string{"owner": "shop-team"}, IntegrationOwner: &Owner{Attribute: "group", Values: []string{"dba"}}, ResourceOwner: &ResourceOwner{Key: "owner", Attribute: "group"},
	}
}

func flowOf(name string, roles ...string) Flow {
	return Flow{Name: name, Requesters: Conditions{Any: []Condition{{Attribute: "group", Values: []string{"analytics"}}}},
		Targets:     []FlowTarget{{Integration: "prod-pg", Resources: []string{"schema:shop/*"}, Permissions: []string{"read_only"}}},
		MaxDuration: Duration(8 * time.Hour), Approval: Approval{Steps: []Step{{AnyOf: roles}}}}
}

var (
	ana = Person{ID: "per-ana", Email: "ana@example.com", Groups: []string{"analytics"}}
	dan = Person{ID: "per-dan", Email: "dan@example.com", Groups: []string{"dba"}}
	eve = Person{ID: "per-eve", Email: "eve@example.com", Groups: []string{"shop-team"}}
	bo  = Person{ID: "per-bo", Email: "bo@example.com", Groups: []string{"sales"}}
)

func TestChooseFlow(t *testing.T) {
	others := flowOf("others")
	others.Requesters = Conditions{Any: []Condition{{Attribute: "group", Values: []string{"sales"}}}}
	elsewhere := flowOf("elsewhere")
	elsewhere.Targets[0].Integration = "prod-my"
	short := flowOf("short")
	short.MaxDuration = Duration(30 * time.Minute)
	for _, c := range []struct {
		name    string
		flows   []Flow
		asked   []Asked
		d       time.Duration
		want    string   // name of the flow
		because []string // in the error, in this order
	}{
		{"the first that admits all is taken", []Flow{others, flowOf("a"), flowOf("b")}, []Asked{asked("read_only")}, time.Hour, "a", nil},
		{"the maximum itself is allowed", []Flow{flowOf("a")}, []Asked{asked("read_only")}, 8 * time.Hour, "a", nil},
		{"the nearest flow says why not", []Flow{others, elsewhere, short}, []Asked{asked("read_only")}, time.Hour, "", []string{
			"the nearest is others", "group is sales", "analytics"}},
		{"one flow must cover the whole request", []Flow{flowOf("a")}, []Asked{asked("read_only"), asked("admin")}, time.Hour, "", []string{"the nearest is a", "there is admin"}},
		{"without flows that is said", nil, []Asked{asked("read_only")}, time.Hour, "", []string{"there are no access flows"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := ChooseFlow(c.flows, Ask{Person: ana, By: ana, Asked: c.asked, For: Duration(c.d), Now: noon})
			if c.want != "" {
				if err != nil || f.Name != c.want {
					t.Errorf("flow %q, %v", f.Name, err)
				}
				return
			}
			if KindOf(err) != Invalid {
				t.Fatalf("flow %q, %v", f.Name, err)
			}
			rest := err.Error()
			for _, why := range c.because {
				_, after, ok := strings.Cut(rest, why)
				if !ok {
					t.Errorf("%q does not say %q", err, why)
				}
				rest = after
			}
		})
	}
}

// noon is when it is judged in these tests: Monday, 4 May 2026.
var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// matterOf is a request of ana's at a flow, with a hold for all that is asked.
func matterOf(f Flow, asked []Asked, people ...Person) Matter {
	m := Matter{Flow: f, State: StatePending, Directory: NewDirectory(people), Now: noon, Administrators: Conditions{Any: []Condition{{Attribute: "group", Values: []string{"platform"}}}},
		Request: Request{ID: "req-1", PersonID: ana.ID, Reason: "why not", Duration: Duration(time.Hour), Asked: asked, Flow: f.Name, CreatedAt: noon.Add(-time.Minute), ExpiresAt: noon.Add(24 * time.Hour)}}
	for i := range asked {
		m.Request.HoldIDs = append(m.Request.HoldIDs, fmt.Sprint("hold-", i+1))
	}
	return m
}

// of is a decision of somebody's, now.
func (m Matter) of(v Verdict, p Person) Decision {
	return Decision{RequestID: m.Request.ID, Verdict: v, By: p.ID, ByEmail: p.Email, At: m.Now, Reason: "because"}
}

// may is why somebody may not.
func (m Matter) may(v Verdict, p Person) string { return m.May(m.of(v, p)) }

func TestMayApprove(t *testing.T) {
	untagged, unowned := asked("read_only"), asked("read_only")
	untagged.Tags = nil
	unowned.Tags, unowned.IntegrationOwner, unowned.ResourceOwner = nil, nil, nil
	off := func(p Person) Person { p.Disabled = true; return p }
	boss := ana
	boss.Attributes = map[string]string{"manager": "BO@example.com "}
	for _, c := range []struct {
		name  string
		roles []string
		asked []Asked
		p     Person
		want  string // part of the refusal; empty when the person may
	}{
		{"the integration's owner may", []string{"integration_owner"}, []Asked{asked("read_only")}, dan, ""},
		{"the resource's owner, named by its tag, may", []string{"resource_owner"}, []Asked{asked("read_only")}, eve, ""},
		{"the integration's owner is not the resource's", []string{"resource_owner"}, []Asked{asked("read_only")}, dan, "dan@example.com is not resource_owner of prod-pg schema:shop/public"},
		{"a resource without a tag is owned by the integration's owner", []string{"resource_owner"}, []Asked{untagged}, dan, ""},
		{"a resource without a tag is not owned by the team of another", []string{"resource_owner"}, []Asked{untagged}, eve, "is not resource_owner"},
		{"what nobody owns nobody may decide", []string{"resource_owner", "integration_owner"}, []Asked{unowned}, dan, "is not resource_owner or integration_owner"},
		{"a member of a named group may", []string{"group:sales"}, []Asked{asked("read_only")}, bo, ""},
		{"a named person may, however the address is written", []string{"person:BO@example.com"}, []Asked{asked("read_only")}, bo, ""},
		{"any of the roles is enough", []string{"person:x@example.com", "integration_owner"}, []Asked{asked("read_only")}, dan, ""},
		{"each of all_of may", []string{"manager", "integration_owner"}, []Asked{asked("read_only")}, bo, ""},
		{"who owns one of two things may, for that one", []string{"resource_owner"}, []Asked{asked("read_only"), untagged}, eve, ""},
		{"a role that is not known is filled by nobody", []string{"owner"}, []Asked{asked("read_only")}, dan, "is not owner"},
		{"without approvers nobody may", nil, []Asked{asked("read_only")}, dan, "is not  of"},
		{"without anything asked nobody may", []string{"integration_owner"}, nil, dan, "names no approvers"},
		{"somebody who is disabled may not", []string{"integration_owner"}, []Asked{asked("read_only")}, off(dan), "is disabled"},
		{"who is not in the directory may not", []string{"integration_owner"}, []Asked{asked("read_only")}, Person{ID: "per-x", Email: "x@example.com"}, "x@example.com is not in the directory any more"},
		{"the requester may not", []string{"group:analytics"}, []Asked{asked("read_only")}, ana, "nobody approves for themselves"},
	} {
		t.Run(c.name, func(t *testing.T) {
			everybody := []Person{boss, dan, eve, bo}
			if c.p.Disabled {
				everybody[1] = c.p
			}
			m := matterOf(flowOf("read", c.roles...), c.asked, everybody...)
			got := m.may(Approve, c.p)
			if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if m.may(Deny, c.p) == "" != (c.want == "") {
				t.Errorf("deny: %q", m.may(Deny, c.p))
			}
		})
	}
	t.Run("a flow without steps is decided by nobody", func(t *testing.T) {
		f := flowOf("none")
		f.Approval.Steps = nil
		m := matterOf(f, []Asked{asked("read_only")}, ana, dan)
		if m.may(Approve, dan) == "" || m.Done() {
			t.Error("dan may")
		}
	})
	t.Run("manager is nobody where there is none", func(t *testing.T) {
		m := matterOf(flowOf("m", "manager"), []Asked{asked("read_only")}, ana, Person{ID: "per-blank"}, bo)
		for _, p := range m.Directory.People() {
			if m.may(Approve, p) == "" {
				t.Errorf("%+v is the manager of somebody without one", p)
			}
		}
	})
}

func TestMay(t *testing.T) {
	root := Person{ID: "per-root", Email: "root@example.com", Groups: []string{"platform"}}
	verdicts := []Verdict{Approve, Deny, Extend, Release, Renew, Revoke, Break, Justify, Object}
	for _, c := range []struct {
		name    string
		trigger string
		p       Person
		may     []Verdict
	}{
		{"the owner decides and ends", SelfServe, dan, []Verdict{Approve, Deny, Revoke}},
		{"the holder keeps, renews and gives back", SelfServe, ana, []Verdict{Extend, Release, Renew}},
		{"an administrator ends", SelfServe, root, []Verdict{Revoke}},
		{"anybody else does nothing", SelfServe, bo, nil},
		{"who breaks the glass keeps it too", BreakGlass, ana, []Verdict{Break, Extend, Release, Renew}},
		{"the owner reviews what was taken", BreakGlass, dan, []Verdict{Deny, Revoke, Justify, Object}},
		{"an administrator ends what was taken", BreakGlass, root, []Verdict{Revoke}},
		{"anybody else does nothing about what was taken", BreakGlass, bo, nil},
		{"the owner ends what comes by itself", Automatic, dan, []Verdict{Deny, Revoke}},
		{"so does the owner of the resource", Automatic, eve, []Verdict{Deny, Revoke}},
		{"the holder of what comes by itself gives it back", Automatic, ana, []Verdict{Extend, Release, Renew}},
		{"nobody else ends what comes by itself", Automatic, bo, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := flowOf("read", "integration_owner")
			if f.Trigger = c.trigger; c.trigger == Automatic {
				f.Approval.Steps = nil
			}
			m := matterOf(f, []Asked{asked("read_only")}, ana, bo, dan, eve, root)
			off := c.p
			off.Disabled = true
			without := matterOf(f, m.Request.Asked, off)
			for _, v := range verdicts {
				why := m.may(v, c.p)
				if got := why == ""; got != slices.Contains(c.may, v) {
					t.Errorf("%s: %v (%s)", v, got, why)
				}
				if without.may(v, c.p) == "" {
					t.Errorf("%s although disabled", v)
				}
			}
		})
	}
	t.Run("a verdict that does not exist is nobody's", func(t *testing.T) {
		m := matterOf(flowOf("read", "integration_owner"), []Asked{asked("read_only")}, ana, dan, root)
		for _, p := range m.Directory.People() {
			if m.may("grant", p) == "" {
				t.Errorf("%s may", p.Email)
			}
		}
	})
}

func TestApprovers(t *testing.T) {
	twin := Person{ID: "per-ana2", Email: "ana+dba@example.com", Groups: []string{"dba"}}
	gone := Person{ID: "per-gone", Email: "gone@example.com", Groups: []string{"dba"}, Disabled: true}
	got := matterOf(flowOf("read", "integration_owner", "resource_owner"), []Asked{asked("read_only")}, ana, bo, twin, dan, gone, eve).Approvers()
	if len(got) != 2 || got[0].ID != dan.ID || got[1].ID != eve.ID {
		t.Errorf("got %+v, want dan and eve", got)
	}
}

// disguise is another face of a person: a second entry in the directory that
// shares the id, an address or a mailbox, and has every right there is.
func disguise(t *rapid.T, p Person) Person {
	d := Person{ID: "per-second", Email: "second@example.org", Groups: []string{"dba", "shop-team", "analytics"}, Attributes: map[string]string{"role": "owner"}}
	written := func(email string) string {
		local, domain, _ := strings.Cut(email, "@")
		if rapid.Bool().Draw(t, "tag") {
			local += "+" + rapid.StringMatching(`[a-z+]{0,5}`).Draw(t, "tag text")
		}
		email = local + "@" + domain
		if rapid.Bool().Draw(t, "capitals") {
			email = strings.ToUpper(email)
		}
		return rapid.SampledFrom([]string{"", " ", "\t"}).Draw(t, "blank") + email
	}
	mine := rapid.SampledFrom(append([]string{p.Email}, p.Aliases...)).Draw(t, "address")
	switch rapid.SampledFrom([]string{"same entry", "main address", "alias"}).Draw(t, "disguise") {
	case "same entry":
		d.ID = p.ID
	case "main address":
		d.Email = written(mine)
	case "alias":
		d.Aliases = []string{"third@example.org", written(mine)}
	}
	return d
}

// Whoever asks, and in whatever disguise: nobody decides for themselves, and
// nobody who is disabled decides at all.
func TestNobodyApprovesForThemselves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		requester := ana
		requester.Groups = append([]string{"analytics"}, rapid.SliceOf(rapid.SampledFrom([]string{"dba", "shop-team", "platform"})).Draw(t, "groups")...)
		requester.Aliases = rapid.SliceOf(rapid.SampledFrom([]string{"a.ng@example.org", "ana.admin@example.com"})).Draw(t, "aliases")
		p := disguise(t, requester)
		same := p.ID == requester.ID
		roles := rapid.SliceOfN(rapid.SampledFrom([]string{"resource_owner", "integration_owner", "group:dba", "group:analytics", "person:" + strings.TrimSpace(p.Email), "person:ana@example.com"}), 1, 4).Draw(t, "roles")
		f, a := flowOf("read", roles...), []Asked{asked("read_only")}
		f.OnBehalf.By = Conditions{Any: []Condition{{Attribute: "email", Operator: "is_not", Values: []string{"x"}}}}
		// The same rights in somebody else's hands, to know that they suffice.
		honest := Person{ID: "per-honest", Email: "honest@example.net", Groups: []string{"dba", "shop-team", "analytics"}}
		f.Approval.Steps[0].AnyOf = append(f.Approval.Steps[0].AnyOf, "person:honest@example.net")
		people := []Person{requester, p, honest, bo}
		if same {
			people = []Person{p, honest, bo}
		}
		if rapid.Bool().Draw(t, "the second entry comes first") && !same {
			people[0], people[1] = people[1], people[0]
		}
		m := matterOf(f, a, people...)
		if why := m.may(Approve, honest); why != "" {
			t.Fatalf("somebody else may not: %s", why)
		}
		askers := []string{"", p.ID, bo.ID} // nobody else, the disguise, or somebody for ana
		m.Request.AskedBy = rapid.SampledFrom(askers).Draw(t, "asked by")
		if rapid.Bool().Draw(t, "for bo") { // ana, or her disguise, asks for somebody else
			m.Request.PersonID, m.Request.AskedBy = bo.ID, rapid.SampledFrom([]string{requester.ID, p.ID}).Draw(t, "asks")
		}
		for _, who := range []Person{requester, p} {
			for _, v := range []Verdict{Approve, Deny} {
				if m.may(v, who) == "" {
					t.Fatalf("%+v may %s what %+v is for", who, v, m.Request)
				}
			}
			m.Decisions = append(m.Decisions, m.of(Approve, who))
		}
		if m.Done() {
			t.Fatal("their own approvals are enough")
		}
		m.Decisions = nil
		for _, shown := range m.Approvers() {
			if shown.ID != honest.ID && shown.ID != bo.ID {
				t.Fatalf("%+v is shown as an approver", shown)
			}
		}
		everybody := Conditions{Any: []Condition{{Attribute: "group", Operator: "is_not", Values: []string{"x"}}}}
		honest.Disabled = true
		m = matterOf(f, a, requester, honest)
		m.Administrators = everybody
		for _, v := range []Verdict{Approve, Deny, Extend, Release, Renew, Revoke} {
			if m.may(v, honest) == "" {
				t.Fatalf("somebody who is disabled may %s", v)
			}
		}
	})
}
