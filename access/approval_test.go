package access

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// named is somebody with an address at example.com, and groups.
func named(name string, groups ...string) Person {
	return Person{ID: "per-" + name, Email: name + "@example.com", Groups: groups}
}

// story is a request of ana's that people decide on, one after the other.
type story struct {
	t *testing.T
	Matter
}

func tell(t *testing.T, steps []Step, asked []Asked, people ...Person) *story {
	f := flowOf("read")
	f.Approval.Steps = steps
	return &story{t, matterOf(f, asked, append([]Person{ana}, people...)...)}
}

func (s *story) find(name string) Person {
	s.t.Helper()
	p, ok := s.Directory.Person("per-" + name)
	if !ok {
		s.t.Fatalf("there is no %s", name)
	}
	return p
}

// yes is an approval that must count.
func (s *story) yes(names ...string) {
	s.t.Helper()
	for _, name := range names {
		d := s.of(Approve, s.find(name))
		if why := s.May(d); why != "" {
			s.t.Fatalf("%s may not: %s", name, why)
		}
		s.Decisions = append(s.Decisions, d)
	}
}

// no is an approval that must not count, for a reason; and were it on record all
// the same, it changes nothing.
func (s *story) no(name, because string) {
	s.t.Helper()
	d := s.of(Approve, s.find(name))
	if why := s.May(d); why == "" || !strings.Contains(why, because) {
		s.t.Fatalf("%s may, or not because of %q: %q", name, because, why)
	}
	step, done := s.Step(), s.Done()
	forced := s.Matter
	forced.Decisions = append(slices.Clone(s.Decisions), d)
	if forced.Step() != step || forced.Done() != done {
		s.t.Fatalf("an approval of %s that does not count leads to step %d", name, forced.Step())
	}
}

// waits says which step waits, and for whom.
func (s *story) waits(step int, names ...string) {
	s.t.Helper()
	var got []string
	for _, p := range s.Approvers() {
		local, _, _ := strings.Cut(p.Email, "@")
		got = append(got, local)
	}
	if s.Step() != step || !slices.Equal(got, names) {
		s.t.Fatalf("step %d waits for %v, want step %d for %v", s.Step(), got, step, names)
	}
	if s.Done() {
		s.t.Fatal("it is done")
	}
}

func (s *story) done() {
	s.t.Helper()
	if !s.Done() || s.Step() != len(s.Flow.Approval.Steps) {
		s.t.Fatalf("step %d waits, for %v", s.Step(), s.Approvers())
	}
}

// becomes replaces somebody in the directory.
func (s *story) becomes(name string, change func(*Person)) {
	people := slices.Clone(s.Directory.People())
	i := slices.IndexFunc(people, func(p Person) bool { return p.ID == "per-"+name })
	change(&people[i])
	s.Directory = NewDirectory(people)
}

func one() []Asked { return []Asked{asked("read_only")} }

// threeOwners are three schemas, each owned by another team.
func threeOwners() (list []Asked) {
	for _, team := range []string{"red", "green", "blue"} {
		a := asked("read_only")
		a.Entitlement.Resource, a.Tags = NewResource("schema", "shop", team), map[string]string{"owner": team}
		list = append(list, a)
	}
	return list
}

func TestSteps(t *testing.T) {
	for _, c := range []struct {
		name  string
		steps []Step
		asked []Asked
		tell  func(*story)
	}{
		{"any of the roles is enough", []Step{{AnyOf: []string{"group:red", "group:green"}}}, one(), func(s *story) {
			s.waits(0, "ria", "rob", "gus")
			s.no("pam", "is not group:red or group:green")
			s.yes("gus")
			s.done()
			s.no("ria", "nothing waits for an approval any more")
		}},
		{"two different people", []Step{{AnyOf: []string{"group:red"}, AtLeast: 2}}, one(), func(s *story) {
			s.yes("ria")
			s.no("ria", "ria@example.com has decided on it already")
			s.waits(0, "rob")
			s.yes("rob")
			s.done()
		}},
		{"each of all_of, in any order", []Step{{AllOf: []string{"group:red", "group:green"}}}, one(), func(s *story) {
			s.yes("gus")
			s.waits(0, "ria", "rob")
			s.yes("rob")
			s.done()
		}},
		{"who fills two roles fills one of them", []Step{{AllOf: []string{"group:red", "group:both"}}}, one(), func(s *story) {
			s.yes("rob") // red and both
			s.waits(0, "ria", "bea")
			s.yes("ria") // takes red, so that rob stands for both
			s.done()
		}},
		{"a second of the same role adds nothing", []Step{{AllOf: []string{"group:red", "group:green"}}}, one(), func(s *story) {
			s.yes("ria")
			s.no("rob", "what rob@example.com could approve at it is approved already")
			s.waits(0, "gus")
		}},
		{"all_of beside any_of", []Step{{AllOf: []string{"group:green"}, AnyOf: []string{"group:red", "group:green"}, AtLeast: 2}}, one(), func(s *story) {
			s.yes("ria", "rob")
			s.waits(0, "gus")
			s.yes("gus")
			s.done()
		}},
		{"steps follow each other", []Step{{Name: "team", AnyOf: []string{"group:red"}}, {Name: "security", AnyOf: []string{"group:green"}}}, one(), func(s *story) {
			s.no("gus", "gus@example.com is not group:red")
			s.yes("ria")
			s.waits(1, "gus")
			s.no("ria", "is not group:green")
			s.yes("gus")
			s.done()
		}},
		{"nobody counts in two steps", []Step{{AnyOf: []string{"group:red"}}, {AnyOf: []string{"group:red"}}}, one(), func(s *story) {
			s.yes("ria")
			s.no("ria", "is not group:red") // any more, for this
			s.waits(1, "rob")
			s.yes("rob")
			s.done()
		}},
		{"who is needed later leaves the first step to others", []Step{{AnyOf: []string{"group:red"}}, {AnyOf: []string{"person:rob@example.com"}}}, one(), func(s *story) {
			s.no("rob", "rob@example.com is needed for something else of this; somebody else decides on step 1 of 2")
			s.waits(0, "ria")
			s.yes("ria", "rob")
			s.done()
		}},
		{"three owners approve their parts", []Step{{AnyOf: []string{"resource_owner"}}}, threeOwners(), func(s *story) {
			s.waits(0, "ria", "rob", "gus", "bob")
			s.yes("rob", "bob")
			s.waits(0, "gus")
			s.no("ria", "approved already")
			s.yes("gus")
			s.done()
		}},
		{"the same human in two steps, for different parts", []Step{{AnyOf: []string{"resource_owner"}}, {AnyOf: []string{"group:red", "group:green"}}}, threeOwners()[:2], func(s *story) {
			s.yes("ria", "gus")
			s.waits(1, "ria", "rob", "gus")
			s.yes("ria") // for green, which gus approved in step 1
			s.waits(1, "rob", "gus")
			s.yes("gus")
			s.done()
		}},
		{"the second entry of the same human counts once", []Step{{AnyOf: []string{"group:red"}, AtLeast: 2}}, one(), func(s *story) {
			s.becomes("pam", func(p *Person) { p.Email, p.Groups = "ria+admin@example.com", []string{"red"} })
			s.yes("pam")
			s.no("ria", "has decided on it already")
			s.waits(0, "rob")
		}},
		{"an alias of the same human counts once", []Step{{AnyOf: []string{"group:red"}}, {AnyOf: []string{"group:green"}}}, one(), func(s *story) {
			s.becomes("gus", func(p *Person) { p.Aliases = []string{"RIA@example.com"} })
			s.no("ria", "is needed for something else")
			s.yes("rob")
			s.no("ria", "is not group:green") // by this entry
			s.yes("gus")
			s.done()
		}},
		{"who is in the directory twice decides by the entry that may", []Step{{AllOf: []string{"group:red", "group:green"}}}, one(), func(s *story) {
			s.becomes("gus", func(p *Person) { p.Aliases = []string{"ria@example.com"} })
			s.no("ria", "is needed for something else of this; somebody else decides on it") // of both there is one human, and nobody else is green
			s.yes("rob", "gus")
			s.done()
		}},
		{"the manager approves, and the owner", []Step{{AllOf: []string{"manager", "integration_owner"}}}, one(), func(s *story) {
			s.becomes("ana", func(p *Person) { p.Attributes = map[string]string{"manager": "Pam@example.com"} })
			s.becomes("gus", func(p *Person) { p.Groups = []string{"dba"} })
			s.waits(0, "gus", "pam")
			s.yes("pam", "gus")
			s.done()
		}},
		{"who leaves takes their approval along", []Step{{AnyOf: []string{"group:red"}}, {AnyOf: []string{"group:green"}}}, one(), func(s *story) {
			s.yes("ria", "gus")
			s.becomes("ria", func(p *Person) { p.Disabled = true })
			s.waits(0, "rob")
			s.yes("rob")
			s.waits(1, "gus") // said so before it was gus's turn
			s.becomes("ria", func(p *Person) { p.Disabled = false })
			s.done()
		}},
		{"who changes the group takes their approval along", []Step{{AnyOf: []string{"group:red"}}}, one(), func(s *story) {
			s.yes("ria")
			s.becomes("ria", func(p *Person) { p.Groups = nil })
			s.waits(0, "rob")
		}},

		{"a fallback stands in for nobody", []Step{{AnyOf: []string{"group:nobody"}, Fallback: []string{"group:red"}}}, one(), func(s *story) {
			s.yes("ria")
			s.done()
		}},
		{"a fallback stands in for the requester", []Step{{AnyOf: []string{"group:analytics"}, Fallback: []string{"group:red"}}}, one(), func(s *story) {
			s.no("ana", "nobody approves for themselves")
			s.yes("ria")
			s.done()
		}},
		{"a fallback stands in for the requester's other entry", []Step{{AnyOf: []string{"group:green"}, Fallback: []string{"group:red"}}}, one(), func(s *story) {
			s.becomes("gus", func(p *Person) { p.Aliases = []string{"ana+x@example.com"} })
			s.no("gus", "nobody approves for themselves")
			s.yes("rob")
			s.done()
		}},
		{"a fallback stands in for the disabled", []Step{{AnyOf: []string{"group:green"}, Fallback: []string{"group:red"}}}, one(), func(s *story) {
			s.becomes("gus", func(p *Person) { p.Disabled = true })
			s.no("gus", "gus@example.com is disabled")
			s.yes("rob")
			s.done()
		}},
		{"a fallback stands in for one who is needed later", []Step{{AnyOf: []string{"group:green"}, Fallback: []string{"group:red"}}, {AnyOf: []string{"group:green"}}}, one(), func(s *story) {
			s.no("gus", "is needed for something else")
			s.waits(0, "ria", "rob")
			s.yes("ria", "gus")
			s.done()
		}},
		{"a fallback stands in for one role of two", []Step{{AllOf: []string{"group:green", "group:nobody"}, Fallback: []string{"group:red"}}}, one(), func(s *story) {
			s.yes("ria")
			s.no("rob", "approved already") // a fallback is not for the role that has somebody
			s.waits(0, "gus")
			s.yes("gus")
			s.done()
		}},
		{"a fallback helps where there are too few", []Step{{AnyOf: []string{"group:green"}, AtLeast: 2, Fallback: []string{"group:red"}}}, one(), func(s *story) {
			s.yes("gus", "rob")
			s.done()
		}},
		{"a fallback is not for a role that has somebody", []Step{{AnyOf: []string{"group:green"}, Fallback: []string{"group:red"}}}, one(), func(s *story) {
			s.no("ria", "is not group:green")
			s.waits(0, "gus")
		}},
		{"the owner who comes back is asked", []Step{{AnyOf: []string{"group:green"}, Fallback: []string{"group:red"}}}, one(), func(s *story) {
			s.becomes("gus", func(p *Person) { p.Disabled = true })
			s.yes("ria")
			s.done()
			s.becomes("gus", func(p *Person) { p.Disabled = false })
			s.waits(0, "gus")
		}},

		{"an escalation adds people after a while", []Step{{AnyOf: []string{"group:green"}, Escalate: []Tier{{After: Duration(time.Hour), To: []string{"group:red"}}, {After: Duration(2 * time.Hour), To: []string{"person:pam@example.com"}}}}}, one(), func(s *story) {
			s.no("ria", "is not group:green")
			s.Now = s.Request.CreatedAt.Add(time.Hour)
			s.waits(0, "ria", "rob", "gus")
			s.no("pam", "is not group:green")
			s.Now = s.Now.Add(time.Hour)
			s.waits(0, "ria", "rob", "gus", "pam")
			s.yes("pam")
			s.done()
		}},
		{"an escalation counts from when its step began", []Step{{AnyOf: []string{"group:green"}}, {AnyOf: []string{"group:blue"}, Escalate: []Tier{{After: Duration(time.Hour), To: []string{"group:red"}}}}}, one(), func(s *story) {
			s.Now = s.Now.Add(5 * time.Hour)
			s.yes("gus")
			s.waits(1, "bob")
			if !s.Since().Equal(s.Now) {
				s.t.Errorf("it waits since %s", s.Since())
			}
			s.Now = s.Now.Add(time.Hour)
			s.yes("rob")
			s.done()
		}},
		{"an escalation does not wait where there is nobody", []Step{{AnyOf: []string{"group:nobody"}, Escalate: []Tier{{After: Duration(time.Hour), To: []string{"group:red"}}}}}, one(), func(s *story) {
			s.yes("ria")
			s.done()
		}},
		{"a clock that is behind undoes no escalation", []Step{{AnyOf: []string{"group:green"}, AtLeast: 2, Fallback: []string{"group:blue"}, Escalate: []Tier{{After: Duration(time.Hour), To: []string{"group:red"}}}}}, one(), func(s *story) {
			s.Now = s.Request.CreatedAt.Add(time.Hour)
			s.yes("ria")
			s.Now = s.Now.Add(-time.Minute)
			s.yes("gus")
			s.done()
		}},

		{"who asks on behalf does not approve", []Step{{AnyOf: []string{"group:red"}}}, one(), func(s *story) {
			s.Flow.OnBehalf.By = Conditions{Any: []Condition{{Attribute: "group", Values: []string{"red"}}}}
			s.Request.AskedBy = "per-ria"
			s.no("ria", "nobody approves for themselves")
			s.no("ana", "nobody approves for themselves")
			s.yes("rob")
			s.done()
		}},
		{"who asks on behalf must still be the one who may", []Step{{AnyOf: []string{"group:green"}}}, one(), func(s *story) {
			s.Flow.OnBehalf.Manager, s.Request.AskedBy = true, "per-ria"
			if why := s.may(Approve, s.find("gus")); !strings.Contains(why, "ria@example.com may not ask for ana@example.com") {
				s.t.Error(why)
			}
			s.becomes("ana", func(p *Person) { p.Attributes = map[string]string{"manager": "ria@example.com"} })
			s.yes("gus")
			s.becomes("ria", func(p *Person) { p.Disabled = true })
			if s.Admitted() == "" {
				s.t.Error("the manager has left")
			}
		}},
		{"outside the timeframe nobody approves", []Step{{AnyOf: []string{"group:red"}}}, one(), func(s *story) {
			s.Flow.Timeframe = Timeframe{Hours: "08:00-10:00"}
			if why := s.may(Approve, s.find("ria")); !strings.Contains(why, "its timeframe is every day 08:00-10:00 (UTC)") {
				s.t.Error(why)
			}
			s.Request.StartAt = noon.Add(21 * time.Hour)
			s.yes("ria")
			s.done()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.tell(tell(t, c.steps, c.asked, named("ria", "red"), named("rob", "red", "both"), named("gus", "green"), named("bob", "blue"), named("bea", "both"), named("pam")))
		})
	}
}

func TestTerms(t *testing.T) {
	owners := func() *story {
		return tell(t, []Step{{AnyOf: []string{"resource_owner"}}, {AnyOf: []string{"group:security"}}}, threeOwners(), named("ria", "red"), named("gus", "green"), named("bob", "blue"), named("sue", "security"))
	}
	s := owners()
	say := func(name string, d time.Duration, without ...string) string {
		x := s.of(Approve, s.find(name))
		x.For, x.Without = Duration(d), without
		why := s.May(x)
		if why == "" {
			s.Decisions = append(s.Decisions, x)
		}
		return why
	}
	if got := s.Terms(); got.Duration != Duration(time.Hour) || got.Maximum != s.Flow.MaxDuration || got.Without != nil {
		t.Errorf("nothing is decided: %+v", got)
	}
	for _, c := range []struct {
		name    string
		d       time.Duration
		without []string
		want    string
	}{
		{"ria", 2 * time.Hour, nil, "shorten access and not lengthen it: it is 1h already"},
		{"ria", -time.Hour, nil, "shorten access and not lengthen it"},
		{"ria", 0, []string{"hold-4"}, "the request has no hold hold-4"},
		{"ria", 0, []string{""}, "the request has no hold "},
		{"ria", 0, []string{"hold-1", "hold-2", "hold-3"}, "nothing would be left of the request: deny it instead"},
		{"ria", 0, []string{"hold-1"}, "ria@example.com is not resource_owner"},
		{"ria", 30 * time.Minute, []string{"hold-3"}, ""},
		{"gus", 45 * time.Minute, nil, "it is 30m already"},
		{"bob", 0, nil, "bob@example.com is not resource_owner"},
		{"gus", 20 * time.Minute, nil, ""},
		{"sue", 0, []string{"hold-1", "hold-2"}, "nothing would be left"},
		{"sue", 0, []string{"hold-1", "hold-3"}, ""},
	} {
		if why := say(c.name, c.d, c.without...); (why == "") != (c.want == "") || !strings.Contains(why, c.want) {
			t.Errorf("%s for %s without %v: %q, want %q", c.name, c.d, c.without, why, c.want)
		}
	}
	s.done()
	got := s.Terms()
	if got.Duration != Duration(20*time.Minute) || got.Maximum != Duration(20*time.Minute) || !slices.Equal(got.Without, []string{"hold-3", "hold-1"}) {
		t.Errorf("%+v", got)
	}
	if text := s.Decisions[0].Text(s.Request); text != "approve by ria@example.com for 30m only, without read_only on prod-pg schema:shop/blue: because" {
		t.Error(text)
	}
	t.Run("what is left out is not judged again", func(t *testing.T) {
		s := owners()
		s.Flow.Targets[0].Resources = []string{"schema:shop/red", "schema:shop/green"}
		s.no("ria", "it is not for read_only on prod-pg schema:shop/blue")
		d := s.of(Approve, s.find("ria"))
		d.Without = []string{"hold-3"}
		s.Decisions = append(s.Decisions, d)
		if why := s.Admitted(); why != "" {
			t.Error(why)
		}
	})
}

func TestBreakGlass(t *testing.T) {
	s := tell(t, []Step{{AnyOf: []string{"group:red"}, AtLeast: 2}, {AnyOf: []string{"group:green"}}}, one(), named("ria", "red"), named("rob", "red"), named("gus", "green"), named("pam", "platform"))
	s.Flow.Trigger = BreakGlass
	if s.Done() || s.Reviewed() {
		t.Error("done before anybody broke the glass")
	}
	for _, name := range []string{"ria", "pam"} {
		if s.may(Break, s.find(name)) == "" {
			t.Errorf("%s breaks the glass for ana", name)
		}
		forged := s.Matter
		forged.Decisions = []Decision{s.of(Break, s.find(name))}
		if forged.Done() {
			t.Errorf("the glass that %s broke counts", name)
		}
	}
	s.Owes = []string{"req-0"}
	if why := s.may(Break, ana); !strings.Contains(why, "the review of req-0 is overdue") {
		t.Error(why)
	}
	s.Owes = nil
	if why := s.may(Break, ana); why != "" {
		t.Fatal(why)
	}
	s.Decisions, s.State = append(s.Decisions, s.of(Break, ana)), StateApproved
	if !s.Done() || s.Reviewed() {
		t.Error("done without a review, which is due then")
	}
	review := func(name string, v Verdict, reason string) string {
		d := s.of(v, s.find(name))
		d.Reason, d.For = reason, Duration(time.Second)
		why := s.May(d)
		if d.For = 0; why == "" && v == Justify {
			s.Decisions = append(s.Decisions, d)
		}
		return why
	}
	for _, c := range []struct {
		name   string
		v      Verdict
		reason string
		want   string
	}{
		{"ana", Justify, "it was right", "nobody approves for themselves"},
		{"ana", Object, "it was not", "nobody approves for themselves"},
		{"ria", Approve, "yes", "nobody approves access that comes by the access flow read"},
		{"ria", Justify, " ", "a review says why"},
		{"gus", Justify, "fine", "gus@example.com is not 2 of group:red"},
		{"pam", Justify, "fine", "is not 2 of group:red"},
		{"pam", Object, "bad", "is not 2 of group:red"},
		{"gus", Object, "bad", ""},
		{"ria", Justify, "fine", ""},
		{"ria", Justify, "fine", "has decided on step 1 of 2 already"},
		{"rob", Justify, "fine", ""},
		{"rob", Justify, "fine", "is not group:green"},
		{"gus", Justify, "fine", ""},
		{"gus", Justify, "fine", "nothing waits for an approval any more"},
	} {
		if why := review(c.name, c.v, c.reason); (why == "") != (c.want == "") || !strings.Contains(why, c.want) {
			t.Errorf("%s: %s because %q: %q, want %q", c.name, c.v, c.reason, why, c.want)
		}
	}
	if !s.Reviewed() {
		t.Error("the review is not complete")
	}
	if got := s.Terms(); got.Duration != Duration(time.Hour) {
		t.Errorf("a review shortened the access: %+v", got)
	}
	if s.ReviewBy() != s.Request.ExpiresAt {
		t.Error("it is due when the request says")
	}
	s.Flow.Trigger = SelfServe
	if why := s.may(Object, s.find("ria")); !strings.Contains(why, "only access that was taken by breaking the glass is reviewed") {
		t.Error(why)
	}
	if why := s.may(Break, ana); why == "" {
		t.Error("ana breaks the glass of a flow that is not for it")
	}
}

func TestAutomatic(t *testing.T) {
	s := tell(t, nil, one(), named("dan", "dba"), named("eve", "shop-team"), named("ria", "red"))
	s.Flow.Trigger = Automatic
	if !s.Done() || s.Stuck() != "" || len(s.Approvers()) > 0 || len(s.Stages()) > 0 {
		t.Errorf("done %v, stuck %q, approvers %v", s.Done(), s.Stuck(), s.Approvers())
	}
	for _, c := range []struct {
		name          string
		approve, sees bool
	}{{"dan", false, true}, {"eve", false, true}, {"ria", false, false}, {"ana", false, true}} {
		if s.may(Approve, s.find(c.name)) == "" || s.Sees(s.find(c.name)) != c.sees || (s.may(Revoke, s.find(c.name)) == "") != (c.sees && c.name != "ana") {
			t.Errorf("%s: approves %q, sees %v, revokes %q", c.name, s.may(Approve, s.find(c.name)), s.Sees(s.find(c.name)), s.may(Revoke, s.find(c.name)))
		}
	}
	s.becomes("ana", func(p *Person) { p.Groups = nil })
	if why := s.Admitted(); !strings.Contains(why, "ana@example.com is not among its requesters") {
		t.Errorf("who does not fit any more still has it: %q", why)
	}
}

func TestStuck(t *testing.T) {
	for _, c := range []struct {
		name  string
		steps []Step
		want  string // empty: it is not
	}{
		{"somebody is there", []Step{{AnyOf: []string{"group:red"}}}, ""},
		{"nobody fills it", []Step{{AnyOf: []string{"group:nobody"}}}, "nobody may approve read_only on prod-pg schema:shop/public: the access flow read wants group:nobody, and nobody is group:nobody"},
		{"only the requester does", []Step{{AnyOf: []string{"group:analytics", "manager"}}}, "and nobody else than the requester is group:analytics, and nobody is manager"},
		{"only somebody who is disabled does", []Step{{AnyOf: []string{"group:gone"}}}, "nobody is group:gone"},
		{"too few of them", []Step{{AnyOf: []string{"group:red"}, AtLeast: 3}}, "wants 3 of group:red, and there are too few different people"},
		{"one human for two roles", []Step{{AllOf: []string{"person:rob@example.com", "group:both"}}}, "wants person:rob@example.com and group:both, and there are too few different people"},
		{"one human for two steps", []Step{{Name: "team", AnyOf: []string{"group:green"}}, {Name: "security", AnyOf: []string{"group:green"}}}, "of the access flow read wants group:green, and there are too few different people"},
		{"the step that lacks somebody is named", []Step{{Name: "team", AnyOf: []string{"group:red"}}, {Name: "security", AnyOf: []string{"group:nobody"}}}, "the step security of the access flow read wants group:nobody"},
		{"a step by its number", []Step{{AnyOf: []string{"group:nobody"}}, {AnyOf: []string{"group:red"}}}, "step 1 of 2 of the access flow read wants group:nobody"},
		{"a fallback that is nobody either", []Step{{AnyOf: []string{"group:nobody"}, Fallback: []string{"group:gone"}}}, "wants group:nobody, or in their place group:gone, and nobody is group:nobody or group:gone"},
		{"a fallback is there", []Step{{AnyOf: []string{"group:nobody"}, Fallback: []string{"group:red"}}}, ""},
		{"an escalation would do", []Step{{AnyOf: []string{"group:nobody"}, Escalate: []Tier{{After: Duration(time.Hour), To: []string{"group:red"}}}}}, ""},
		{"a step that wants nobody", []Step{{}}, "the access flow read wants "},
		{"no step", nil, "the access flow read has no approvers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			gone := named("gil", "gone")
			gone.Disabled = true
			s := tell(t, c.steps, one(), named("ria", "red"), named("rob", "red", "both"), named("gus", "green"), gone)
			if got := s.Stuck(); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	s := tell(t, []Step{{AnyOf: []string{"group:red"}, AtLeast: 2}}, one(), named("ria", "red"), named("rob", "red"))
	s.yes("ria")
	if s.Stuck() != "" {
		t.Error(s.Stuck())
	}
	s.becomes("rob", func(p *Person) { p.Disabled = true })
	if s.Stuck() == "" {
		t.Error("the second one has left, and it is not stuck")
	}
}

func TestStages(t *testing.T) {
	s := tell(t, []Step{{Name: "team", AnyOf: []string{"group:red"}}, {AnyOf: []string{"group:red", "group:green"}, AtLeast: 2}, {AllOf: []string{"group:blue"}}}, one(),
		named("ria", "red"), named("rob", "red"), named("gus", "green"), named("bob", "blue"))
	show := func() (out []string) {
		for _, x := range s.Stages() {
			out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s: by %v, who %v", x.Name, x.State, x.By, x.Who)))
		}
		return out
	}
	same := func(want ...string) {
		t.Helper()
		for i, got := range show() {
			if got = strings.ReplaceAll(got, "@example.com", ""); got != want[i] {
				t.Errorf("stage %d is %q, want %q", i, got, want[i])
			}
		}
	}
	same("team waits: by [], who [ria rob]", "later: by [], who [ria rob gus]", "later: by [], who [bob]")
	s.yes("ria")
	same("team done: by [ria], who []", "waits: by [], who [rob gus]", "later: by [], who [bob]")
	s.yes("gus")
	same("team done: by [ria], who []", "waits: by [gus], who [rob]", "later: by [], who [bob]")
	s.yes("rob", "bob")
	same("team done: by [ria], who []", "done: by [gus rob], who []", "done: by [bob], who []")
	if got := s.Stages()[1].Wants; got != "2 of group:red or group:green" {
		t.Error(got)
	}
}

func TestNotice(t *testing.T) {
	s := tell(t, []Step{{AnyOf: []string{"group:red"}, Escalate: []Tier{{After: Duration(time.Minute), To: []string{"group:green"}}, {After: Duration(24 * time.Hour), To: []string{"group:blue"}}}}, {AnyOf: []string{"group:blue"}}}, one(),
		named("ria", "red"), named("gus", "green"), named("bob", "blue"), named("dan", "dba"), named("pam", "platform"), named("sam", "sales"))
	check := func(a RemindArgs, says string, names ...string) {
		t.Helper()
		text, to := s.Notice(a)
		var got []string
		for _, p := range to {
			local, _, _ := strings.Cut(p.Email, "@")
			got = append(got, local)
		}
		if !slices.Equal(got, names) || !strings.HasPrefix(text, says) {
			t.Errorf("%+v: %q to %v, want %q to %v", a, text, got, says, names)
		}
	}
	s.Now = s.Request.CreatedAt
	check(RemindArgs{Kind: NoticeReminder}, "waits for your decision: ana@example.com asks for read_only on prod-pg schema:shop/public for 1h: why not", "ria")
	s.Now = noon
	check(RemindArgs{Kind: NoticeEscalation, Tier: 1}, "escalated to you: ana@example.com asks for", "gus")
	check(RemindArgs{Kind: NoticeEscalation, Tier: 2}, "escalated to you: ") // its time has not come
	check(RemindArgs{Kind: NoticeEscalation, Tier: 3}, "escalated to you: ")
	s.Request.AskedBy = "per-sam"
	check(RemindArgs{Kind: NoticeReminder}, "waits for your decision: sam@example.com asks for read_only on prod-pg schema:shop/public on behalf of ana@example.com for 1h", "ria", "gus")
	s.Request.AskedBy = ""
	s.yes("ria")
	check(RemindArgs{Kind: NoticeReminder, Step: 1}, "waits for your decision: ", "bob")
	s.yes("bob")
	check(RemindArgs{Kind: NoticeReminder, Step: 1}, "")
	check(RemindArgs{Kind: NoticeEscalation, Tier: 1}, "")

	s.Decisions, s.Flow.Trigger = []Decision{s.of(Break, ana)}, BreakGlass
	s.becomes("ana", func(p *Person) { p.Groups = append(p.Groups, "platform") })
	check(RemindArgs{Kind: NoticeBreakGlass}, "ana@example.com broke the glass and has read_only on prod-pg schema:shop/public for 1h: why not", "ria", "gus", "bob", "dan", "pam")
	check(RemindArgs{Kind: NoticeReview}, "ana@example.com broke the glass for read_only on prod-pg schema:shop/public: why not. Your review is due until 2026-05-05T12:00:00Z", "ria", "gus")
	s.Now = s.ReviewBy().Add(time.Second)
	check(RemindArgs{Kind: NoticeReview}, "ana@example.com broke the glass for read_only on prod-pg schema:shop/public: why not. The review is overdue since 2026-05-05T12:00:00Z", "ria", "gus", "pam")
	s.Decisions = append(s.Decisions, s.of(Justify, s.find("ria")), s.of(Justify, s.find("bob")))
	check(RemindArgs{Kind: NoticeReview}, "")
}

func TestAdmits(t *testing.T) {
	other := asked("read_only")
	other.Entitlement.Resource, other.Tags = NewResource("schema", "shop", "pay"), map[string]string{"owner": "shop-team", "secret": "yes"}
	boss := Person{ID: "per-boss", Email: "boss@example.com", Aliases: []string{"chief@example.org"}}
	for _, c := range []struct {
		name   string
		change func(*Flow, *Ask)
		want   string // empty: it admits
	}{
		{"as it is", func(*Flow, *Ask) {}, ""},
		{"somebody else", func(_ *Flow, a *Ask) { a.Person, a.By = bo, bo }, "bo@example.com is not among its requesters"},
		{"too long", func(_ *Flow, a *Ask) { a.For = Duration(9 * time.Hour) }, "9h is longer than its max_duration 8h"},
		{"one of the durations", func(f *Flow, _ *Ask) { f.Durations = []Duration{Duration(time.Minute), Duration(time.Hour)} }, ""},
		{"none of the durations", func(f *Flow, _ *Ask) { f.Durations = []Duration{Duration(time.Minute)} }, "1h is none of its durations 1m"},
		{"later", func(_ *Flow, a *Ask) { a.Start = noon.Add(time.Minute) }, "it is to begin 1m ahead, and its schedule_ahead is 0s"},
		{"later, as it allows", func(f *Flow, a *Ask) { a.Start, f.ScheduleAhead = noon.Add(time.Minute), Duration(time.Minute) }, ""},
		{"the timeframe is judged when it begins", func(f *Flow, a *Ask) {
			f.Timeframe, f.ScheduleAhead, a.Start = Timeframe{Hours: "13:00-14:00"}, Duration(time.Hour), noon.Add(time.Hour)
		}, ""},
		{"outside the timeframe", func(f *Flow, _ *Ask) { f.Timeframe = Timeframe{Hours: "13:00-14:00"} }, "its timeframe is every day 13:00-14:00 (UTC), and it would begin on mon 2026-05-04 12:00"},
		{"all that has the tag", func(f *Flow, _ *Ask) { f.Targets[0].Tags = map[string]string{"owner": "shop-team"} }, ""},
		{"all tags are wanted", func(f *Flow, _ *Ask) { f.Targets[0].Tags = map[string]string{"owner": "shop-team", "secret": "yes"} }, "it is not for read_only on prod-pg schema:shop/public"},
		{"all but a name", func(f *Flow, _ *Ask) { f.Targets[0].Except = []Exception{{Resources: []string{"schema:shop/pay"}}} }, "it is not for read_only on prod-pg schema:shop/pay"},
		{"all but a tag", func(f *Flow, _ *Ask) { f.Targets[0].Except = []Exception{{Tags: map[string]string{"secret": "yes"}}} }, "schema:shop/pay"},
		{"an exception that wants both, and one does not fit", func(f *Flow, _ *Ask) {
			f.Targets[0].Except = []Exception{{Resources: []string{"schema:shop/public"}, Tags: map[string]string{"secret": "yes"}}}
		}, ""},
		{"an exception that is none", func(f *Flow, _ *Ask) { f.Targets[0].Except = []Exception{{}} }, ""},
		{"what one target leaves out another may give", func(f *Flow, _ *Ask) {
			f.Targets[0].Except = []Exception{{Tags: map[string]string{"secret": "yes"}}}
			f.Targets = append(f.Targets, FlowTarget{Integration: "prod-pg", Resources: []string{"schema:*/pay"}, Permissions: []string{"read_only"}})
		}, ""},
		{"nobody asks for others", func(_ *Flow, a *Ask) { a.By = boss }, "boss@example.com may not ask for ana@example.com"},
		{"the manager asks", func(f *Flow, a *Ask) {
			f.OnBehalf.Manager, a.By, a.Person.Attributes = true, boss, map[string]string{"manager": "Chief@example.org"}
		}, ""},
		{"somebody else's manager asks", func(f *Flow, a *Ask) {
			f.OnBehalf.Manager, a.By, a.Person.Attributes = true, boss, map[string]string{"manager": "bo@example.com"}
		}, "may not ask for"},
		{"the manager of nobody asks", func(f *Flow, a *Ask) { f.OnBehalf.Manager, a.By, a.By.Email = true, Person{ID: "x"}, "" }, "may not ask for"},
		{"who may ask for all asks", func(f *Flow, a *Ask) {
			f.OnBehalf.By, a.By = Conditions{Any: []Condition{{Attribute: "email", Values: []string{"boss@example.com"}}}}, boss
		}, ""},
		{"who may ask for all has left", func(f *Flow, a *Ask) {
			f.OnBehalf.By, a.By = Conditions{Any: []Condition{{Attribute: "email", Values: []string{"boss@example.com"}}}}, boss
			a.By.Disabled = true
		}, "may not ask for"},
		{"a manager who has left", func(f *Flow, a *Ask) {
			f.OnBehalf.Manager, a.By, a.Person.Attributes = true, boss, map[string]string{"manager": "boss@example.com"}
			a.By.Disabled = true
		}, "may not ask for"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, a := flowOf("a"), Ask{Person: ana, By: ana, Asked: []Asked{asked("read_only"), other}, For: Duration(time.Hour), Now: noon}
			c.change(&f, &a)
			if got := f.Admits(a); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	fallback, plain := flowOf("last"), flowOf("plain")
	fallback.Fallback = true
	ask := Ask{Person: ana, By: ana, Asked: one(), For: Duration(time.Hour), Now: noon}
	if f, err := ChooseFlow([]Flow{fallback, plain}, ask); err != nil || f.Name != "plain" {
		t.Errorf("%q, %v", f.Name, err)
	}
	plain.MaxDuration = 1
	if f, err := ChooseFlow([]Flow{fallback, plain}, ask); err != nil || f.Name != "last" {
		t.Errorf("%q, %v", f.Name, err)
	}
}

func TestFaults(t *testing.T) {
	f := flowOf("a")
	f.Justification = Justification{MinLength: 10, Pattern: `[A-Z]+-[0-9]+`, Hint: "name the ticket"}
	f.Fields = []RequestField{{Name: "ticket", Pattern: "[A-Z]+-[0-9]+|none", Hint: "as in OPS-1"}, {Name: "why", Optional: true, Options: []string{"bug", "audit"}}}
	ok := map[string]string{"ticket": "OPS-1"}
	for _, c := range []struct {
		name, reason string
		fields       map[string]string
		want         []string
	}{
		{"all is said", "look at OPS-12 again", ok, nil},
		{"the optional one too", "look at OPS-12 again", map[string]string{"ticket": " OPS-1 ", "why": "bug"}, nil},
		{"too short, in characters", "ééé OPS-1  ", ok, []string{"reason: access flow a wants at least 10 characters, and there are 9: name the ticket"}},
		{"without the ticket", "look at it again", ok, []string{"reason: access flow a wants something like [A-Z]+-[0-9]+ in it: name the ticket"}},
		{"a field is missing", "look at OPS-12 again", nil, []string{"fields.ticket: access flow a wants it: as in OPS-1"}},
		{"a field is blank", "look at OPS-12 again", map[string]string{"ticket": "  "}, []string{"fields.ticket: access flow a wants it"}},
		{"the whole of it must fit", "look at OPS-12 again", map[string]string{"ticket": "OPS-1 or so"}, []string{"fields.ticket: want something like"}},
		{"all sides of an or", "look at OPS-12 again", map[string]string{"ticket": "nonesense"}, []string{"fields.ticket: want something like"}},
		{"none of the options", "look at OPS-12 again", map[string]string{"ticket": "OPS-1", "why": "fun"}, []string{"fields.why: want one of bug, audit"}},
		{"too long", "look at OPS-12 again", map[string]string{"ticket": strings.Repeat("é", 201)}, []string{"fields.ticket: is longer than 200 characters"}},
		{"two that are not known, in order", "look at OPS-12 again", map[string]string{"ticket": "OPS-1", "z": "", "b": "x"}, []string{"fields.b: access flow a has no such field", "fields.z: "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := f.Faults(c.reason, c.fields)
			if len(got) != len(c.want) {
				t.Fatalf("got %+v, want %v", got, c.want)
			}
			for i, w := range got {
				if text := w.Field + ": " + w.Message; !strings.HasPrefix(text, c.want[i]) {
					t.Errorf("got %q, want %q", text, c.want[i])
				}
			}
		})
	}
}

func TestDirectory(t *testing.T) {
	d := NewDirectory([]Person{
		{ID: "1", Email: "Ana@example.com", Aliases: []string{"a@example.org"}, Groups: []string{"x", "x"}},
		{ID: "2", Email: "bo@example.com"},
		{ID: "3", Email: "ana+work@example.com", Aliases: []string{"third@example.org"}},
		{ID: "4", Email: "fourth@example.org", Aliases: []string{"third+x@example.org"}},
		{ID: "5", Email: "a@example.org"}, // an alias of 1 is its main address
		{ID: "6", Attributes: map[string]string{"team": "x"}},
	})
	if got := d.Entries("4"); !slices.Equal(got, []string{"1", "3", "4", "5"}) {
		t.Errorf("the entries of one human are %v", got)
	}
	if got := d.Entries("2"); !slices.Equal(got, []string{"2"}) {
		t.Errorf("the entries of bo are %v", got)
	}
	if got := d.Entries("none"); !slices.Equal(got, []string{"none"}) {
		t.Errorf("the entries of nobody are %v", got)
	}
	for address, id := range map[string]string{" ANA@example.com": "1", "a@example.org": "5", "third@example.org": "3", "nobody@example.com": "", "": ""} {
		if p, ok := d.ByAddress(address); ok != (id != "") || p.ID != id {
			t.Errorf("%q is of %q, %v", address, p.ID, ok)
		}
	}
	if got := d.who("group", "x"); !slices.Equal(got, []int{0}) {
		t.Errorf("in group x are %v", got)
	}
	if got := d.who("email", "ANA@example.com", "bo@example.com"); !slices.Equal(got, []int{0, 1}) {
		t.Errorf("of two addresses are %v", got)
	}
	if got := d.who("team", "x"); !slices.Equal(got, []int{5}) {
		t.Errorf("of team x are %v", got)
	}
}
