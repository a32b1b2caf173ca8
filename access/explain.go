package access

import (
	"fmt"
	"slices"
	"strings"
)

// FlowCheck is one thing that a flow wants of a request.
type FlowCheck struct {
	Want  string `json:"want" doc:"what the flow wants" example:"group is analytics or support"`
	Have  string `json:"have" doc:"what the request, or its person, has" example:"dba"`
	Holds bool   `json:"holds"`
}

// FlowExplained is what became of a request at one flow.
type FlowExplained struct {
	Flow   string      `json:"flow"`
	Admits bool        `json:"admits"`
	Checks []FlowCheck `json:"checks"`
}

// failed are the checks that do not hold.
func (f FlowExplained) failed() []FlowCheck {
	return slices.DeleteFunc(slices.Clone(f.Checks), func(c FlowCheck) bool { return c.Holds })
}

// Explanation says which flow is used for a request and why, or why none is.
type Explanation struct {
	// Flow is the one that is used: the first, as the configuration lists them,
	// that admits the whole request. Also are the others that do.
	Flow string   `json:"flow,omitempty" doc:"the flow that is used: the first one that admits the whole request"`
	Also []string `json:"also,omitempty" doc:"others that admit it too, and come later in the configuration"`
	// Nearest is the flow with the fewest checks that fail, where none admits.
	Nearest string          `json:"nearest,omitempty" doc:"where none admits it, the flow with the fewest checks that fail"`
	Flows   []FlowExplained `json:"flows"`
}

// Text says it in a sentence.
func (e Explanation) Text() string {
	switch {
	case e.Flow != "" && len(e.Also) > 0:
		return fmt.Sprintf("access flow %s is used: it comes before %s", e.Flow, strings.Join(e.Also, ", "))
	case e.Flow != "":
		return "access flow " + e.Flow + " is used"
	case e.Nearest == "":
		return "there are no access flows"
	}
	i := slices.IndexFunc(e.Flows, func(f FlowExplained) bool { return f.Flow == e.Nearest })
	var why []string
	for _, c := range e.Flows[i].failed() {
		why = append(why, fmt.Sprintf("it wants %s, and there is %s", c.Want, c.Have))
	}
	return fmt.Sprintf("no access flow admits it; the nearest is %s: %s", e.Nearest, strings.Join(why, "; "))
}

// Explain goes through all flows for a request, as ChooseFlow does.
func Explain(flows []Flow, p Person, asked []Asked, d Duration) Explanation {
	e := Explanation{Flows: make([]FlowExplained, 0, len(flows))}
	nearest := 0
	for _, f := range flows {
		x := f.explain(p, asked, d)
		e.Flows = append(e.Flows, x)
		switch failed := len(x.failed()); {
		case x.Admits && e.Flow == "":
			e.Flow = f.Name
		case x.Admits:
			e.Also = append(e.Also, f.Name)
		case e.Nearest == "" || failed < nearest:
			e.Nearest, nearest = f.Name, failed
		}
	}
	if e.Flow != "" {
		e.Nearest = ""
	}
	return e
}

// explain is Admits, with everything that is looked at.
func (f Flow) explain(p Person, asked []Asked, d Duration) FlowExplained {
	x := FlowExplained{Flow: f.Name, Checks: f.Requesters.explain(p)}
	for _, a := range asked {
		x.Checks = append(x.Checks, f.explainTarget(a))
	}
	x.Checks = append(x.Checks, FlowCheck{Want: f.MaxDuration.String() + " at most", Have: d.String(), Holds: d <= f.MaxDuration})
	x.Admits = len(x.failed()) == 0
	return x
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
	c := FlowCheck{Have: fmt.Sprintf("%s on %s %s", a.Entitlement.Permission, a.Integration, a.Entitlement.Resource), Holds: f.Covers(a)}
	var integrations, resources, permissions []string
	for _, t := range f.Targets {
		integrations = append(integrations, t.Integration)
		if t.Integration != a.Integration {
			continue
		}
		resources = append(resources, t.Resources...)
		if slices.ContainsFunc(t.Resources, func(p string) bool { return MatchResource(p, a.Entitlement.Resource) }) {
			permissions = append(permissions, t.Permissions...)
		}
	}
	join := func(what []string) string {
		slices.Sort(what)
		return strings.Join(slices.Compact(what), " or ")
	}
	switch {
	case len(permissions) > 0:
		c.Want = fmt.Sprintf("%s on %s %s", join(permissions), a.Integration, a.Entitlement.Resource)
	case len(resources) > 0:
		c.Want = fmt.Sprintf("on %s only %s", a.Integration, join(resources))
	default:
		c.Want = "something on " + join(integrations)
	}
	return c
}
