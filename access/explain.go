package access

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// FlowCheck is one thing that a flow wants of a request.
type FlowCheck struct {
	Want  string `json:"want" doc:"what the flow wants" example:"group is analytics or support"`
	Have  string `json:"have" doc:"what the request, or its person, has" example:"dba"`
	Holds bool   `json:"holds"`

	far int // how far it is from holding, beside one that just does not
}

// FlowExplained is what became of a request at one flow.
type FlowExplained struct {
	Flow     string      `json:"flow"`
	Fallback bool        `json:"fallback,omitempty" doc:"it is used only where no other admits the request"`
	Admits   bool        `json:"admits"`
	Checks   []FlowCheck `json:"checks"`
}

// distance is how far the flow is from admitting the request.
func (f FlowExplained) distance() (d int) {
	for _, c := range f.failed() {
		d += 1 + c.far
	}
	return d
}

// failed are the checks that do not hold.
func (f FlowExplained) failed() []FlowCheck {
	return slices.DeleteFunc(slices.Clone(f.Checks), func(c FlowCheck) bool { return c.Holds })
}

// Explanation says which flow is used for a request and why, or why none is.
type Explanation struct {
	// Flow is the one that is used: the first, as the configuration lists them,
	// that admits the whole request, a fallback only where no other does. Also are
	// the others that do.
	Flow string   `json:"flow,omitempty" doc:"the flow that is used: the first one that admits the whole request, a fallback only where no other does"`
	Also []string `json:"also,omitempty" doc:"others that admit it too, and come later in the configuration or are a fallback"`
	// Nearest is the flow with the fewest checks that fail, where none admits.
	// Another permission is nearer than another resource, and that nearer than
	// another integration.
	Nearest string          `json:"nearest,omitempty" doc:"where none admits it, the flow with the fewest checks that fail"`
	Flows   []FlowExplained `json:"flows"`
}

// Text says it in a sentence.
func (e Explanation) Text() string {
	switch {
	case e.Flow != "" && e.fallback():
		return "access flow " + e.Flow + " is used: no other admits it, and it is a fallback"
	case e.Flow != "" && len(e.Also) > 0:
		return fmt.Sprintf("access flow %s is used: it comes before %s", e.Flow, strings.Join(e.Also, ", "))
	case e.Flow != "":
		return "access flow " + e.Flow + " is used"
	case e.Nearest == "":
		return "there are no access flows for that"
	}
	i := slices.IndexFunc(e.Flows, func(f FlowExplained) bool { return f.Flow == e.Nearest })
	var why []string
	for _, c := range e.Flows[i].failed() {
		why = append(why, fmt.Sprintf("it wants %s, and there is %s", c.Want, c.Have))
	}
	return fmt.Sprintf("no access flow admits it; the nearest is %s: %s", e.Nearest, strings.Join(why, "; "))
}

// fallback reports whether the flow that is used is a fallback.
func (e Explanation) fallback() bool {
	return slices.ContainsFunc(e.Flows, func(f FlowExplained) bool { return f.Flow == e.Flow && f.Fallback })
}

// Explain goes through all flows for a request, as ChooseFlow does.
func Explain(flows []Flow, a Ask) Explanation {
	e := Explanation{Flows: make([]FlowExplained, 0, len(flows))}
	nearest, chosen := 0, -1
	var admit []int
	for _, f := range flows {
		if !f.considered(a) {
			continue
		}
		x := f.explain(a)
		e.Flows = append(e.Flows, x)
		at := len(e.Flows) - 1
		switch distance := x.distance(); {
		case x.Admits:
			if admit = append(admit, at); chosen < 0 || e.Flows[chosen].Fallback && !x.Fallback {
				chosen = at
			}
		case e.Nearest == "" || distance < nearest:
			e.Nearest, nearest = f.Name, distance
		}
	}
	if chosen < 0 {
		return e
	}
	e.Flow, e.Nearest = e.Flows[chosen].Flow, ""
	for _, at := range admit {
		if at != chosen {
			e.Also = append(e.Also, e.Flows[at].Flow)
		}
	}
	return e
}

// explain is Admits, with everything that is looked at.
func (f Flow) explain(a Ask) FlowExplained {
	x := FlowExplained{Flow: f.Name, Fallback: f.Fallback, Checks: f.Requesters.explain(a.Person)}
	add := func(holds bool, have, want string, args ...any) {
		x.Checks = append(x.Checks, FlowCheck{Want: fmt.Sprintf(want, args...), Have: have, Holds: holds})
	}
	if a.By.ID != a.Person.ID {
		add(f.asks(a), a.By.Email, "%s", f.OnBehalf.words(a.Person))
	}
	for _, asked := range a.Asked {
		x.Checks = append(x.Checks, f.explainTarget(asked))
	}
	add(a.For <= f.MaxDuration, a.For.String(), "%s at most", f.MaxDuration)
	if len(f.Durations) > 0 {
		add(slices.Contains(f.Durations, a.For), a.For.String(), "%s", durations(f.Durations))
	}
	if ahead := Duration(a.begins().Sub(a.Now).Round(time.Second)); ahead > 0 {
		add(ahead <= f.ScheduleAhead, ahead.String(), "to begin at most %s ahead", f.ScheduleAhead)
	}
	if !f.Timeframe.always() {
		open, _ := f.Timeframe.Open(a.begins())
		add(open, f.Timeframe.local(a.begins()), "to begin on %s", f.Timeframe)
	}
	x.Admits = len(x.failed()) == 0
	return x
}

// words are who may ask for a person.
func (o OnBehalf) words(p Person) string {
	var list []string
	if o.Manager {
		list = append(list, "the manager of "+p.Email)
	}
	for _, c := range o.By.All {
		list = append(list, "somebody whose "+c.String())
	}
	for _, c := range o.By.Any {
		list = append(list, "somebody whose "+c.String())
	}
	if len(list) == 0 {
		return "nobody to ask for others"
	}
	return strings.Join(list, ", or ") + " to ask for others"
}

func (cs Conditions) explain(p Person) (out []FlowCheck) {
	if p.Disabled {
		out = append(out, FlowCheck{Want: "somebody who is not disabled", Have: p.Email})
	}
	if len(cs.Any)+len(cs.All) == 0 {
		out = append(out, FlowCheck{Want: "nobody: it names no requesters", Have: p.Email})
	}
	for _, c := range cs.All {
		out = append(out, FlowCheck{Want: c.String(), Have: has(c, p), Holds: c.Holds(p)})
	}
	if len(cs.Any) > 0 {
		any := FlowCheck{}
		var want, have []string
		for _, c := range cs.Any {
			want, have = append(want, c.String()), append(have, has(c, p))
			any.Holds = any.Holds || c.Holds(p)
		}
		slices.Sort(have)
		any.Want, any.Have = strings.Join(want, ", or "), strings.Join(slices.Compact(have), "; ")
		out = append(out, any)
	}
	return out
}

// String is the condition in words.
func (c Condition) String() string {
	operator := c.Operator
	if operator == "" {
		operator = "is"
	}
	return c.Attribute + " " + strings.ReplaceAll(operator, "_", " ") + " " + strings.Join(c.Values, " or ")
}

// has is what a person has of a condition's attribute, in words.
func has(c Condition, p Person) string {
	have := c.have(p)
	if len(have) == 0 {
		return "no " + c.Attribute
	}
	return c.Attribute + " " + strings.Join(have, ", ")
}

// explainTarget says what of an entitlement a flow is not for.
func (f Flow) explainTarget(a Asked) FlowCheck {
	c := FlowCheck{Have: a.String(), Holds: f.Covers(a)}
	var integrations, resources, permissions, tags, except []string
	for _, t := range f.Targets {
		integrations = append(integrations, t.Integration)
		if t.Integration != a.Integration {
			continue
		}
		resources = append(resources, t.Resources...)
		if !matchesAny(t.Resources, a.Entitlement.Resource) {
			continue
		}
		permissions = append(permissions, t.Permissions...)
		switch {
		case !slices.Contains(t.Permissions, a.Entitlement.Permission):
		case !tagged(a.Tags, t.Tags):
			for _, key := range slices.Sorted(maps.Keys(t.Tags)) {
				tags = append(tags, key+": "+t.Tags[key])
			}
		case !c.Holds:
			except = append(except, a.Entitlement.Resource.String())
		}
	}
	join := func(what []string, word string) string {
		slices.Sort(what)
		return strings.Join(slices.Compact(what), word)
	}
	switch {
	case len(except) > 0:
		c.Want = fmt.Sprintf("on %s anything except %s", a.Integration, join(except, " and "))
	case len(tags) > 0:
		c.Want = fmt.Sprintf("on %s only what is tagged %s", a.Integration, join(tags, " and "))
	case len(permissions) > 0:
		c.Want = fmt.Sprintf("%s on %s %s", join(permissions, " or "), a.Integration, a.Entitlement.Resource)
	case len(resources) > 0:
		c.Want, c.far = fmt.Sprintf("on %s only %s", a.Integration, join(resources, " or ")), 1
	default:
		c.Want, c.far = "something on "+join(integrations, " or "), 2
	}
	return c
}
