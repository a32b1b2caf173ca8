package access

import (
	"fmt"
	"slices"
	"strings"
)

// Condition compares one attribute of a person with a list of values.
// Attribute is "group", "email", or a key of the person's attributes.
type Condition struct {
	Attribute string   `json:"attribute" doc:"group, email, or a key of the person's attributes" example:"group"`
	Operator  string   `json:"operator,omitempty" doc:"how the attribute is compared with the values; one value that fits is enough for is, contains and starts_with, none may fit for the not forms" enum:"is,is_not,contains,does_not_contain,starts_with" default:"is"`
	Values    []string `json:"values" doc:"what it is compared with" minItems:"1"`
}

// Conditions is a list of which any, or all, must hold. With both lists given,
// each must be satisfied.
type Conditions struct {
	Any []Condition `json:"any,omitempty" doc:"at least one of these must hold"`
	All []Condition `json:"all,omitempty" doc:"all of these must hold"`
}

// values of the attribute that a person has: every group, or the one value.
func (c Condition) have(p Person) []string {
	switch c.Attribute {
	case "group":
		return p.Groups
	case "email":
		return []string{NormalEmail(p.Email)}
	}
	if v, ok := p.Attributes[c.Attribute]; ok {
		return []string{v}
	}
	return nil
}

// Holds reports whether the condition holds for a person.
func (c Condition) Holds(p Person) bool {
	var test func(have, want string) bool
	switch c.Operator {
	case "", "is", "is_not":
		test = func(h, w string) bool { return h == w }
	case "contains", "does_not_contain":
		test = strings.Contains
	case "starts_with":
		test = strings.HasPrefix
	default:
		return false
	}
	hit := slices.ContainsFunc(c.have(p), func(h string) bool {
		return slices.ContainsFunc(c.Values, func(w string) bool {
			if c.Attribute == "email" {
				w = NormalEmail(w)
			}
			return test(h, w)
		})
	})
	if c.Operator == "is_not" || c.Operator == "does_not_contain" {
		return !hit
	}
	return hit
}

// Holds reports whether the conditions hold for a person. Empty conditions
// hold for nobody, and a disabled person satisfies none.
func (cs Conditions) Holds(p Person) bool {
	if p.Disabled || len(cs.Any)+len(cs.All) == 0 {
		return false
	}
	for _, c := range cs.All {
		if !c.Holds(p) {
			return false
		}
	}
	return len(cs.Any) == 0 || slices.ContainsFunc(cs.Any, func(c Condition) bool { return c.Holds(p) })
}

// Owner names people by one attribute: the integration owner.
type Owner struct {
	Attribute string   `json:"attribute" doc:"group, email, or a key of the person's attributes" example:"group"`
	Values    []string `json:"values" doc:"values of the attribute that make somebody an owner" minItems:"1"`
}

// Is reports whether a person is the owner.
func (o Owner) Is(p Person) bool {
	return !p.Disabled && Condition{Attribute: o.Attribute, Values: o.Values}.Holds(p)
}

// ResourceOwner names people by a tag of the resource: with key "owner" and
// attribute "group", the tag owner=dba makes the group dba the owner.
type ResourceOwner struct {
	Key       string `json:"key" doc:"key of the resource tag whose value names the owner" example:"owner"`
	Attribute string `json:"attribute" doc:"attribute of a person that is compared with the tag's value" example:"group"`
}

// FlowTarget says which entitlements a flow is for. Patterns use "*" within
// one part of a path.
type FlowTarget struct {
	Integration string   `json:"integration" doc:"name of the integration"`
	Resources   []string `json:"resources" doc:"resources as TYPE:PATH, * within one part" example:"schema:shop/*" minItems:"1"`
	Permissions []string `json:"permissions" doc:"permissions that may be requested" example:"read_only" minItems:"1"`
}

// Step is one step of an approval; any one of the named approvers is enough.
// An approver is resource_owner, integration_owner, group:NAME or person:EMAIL.
type Step struct {
	AnyOf []string `json:"any_of" doc:"resource_owner, integration_owner, group:NAME or person:EMAIL" example:"resource_owner" pattern:"^(resource_owner|integration_owner|group:.+|person:.+)$" minItems:"1"`
}

// Approval says who must decide and by when.
type Approval struct {
	Steps        []Step   `json:"steps" doc:"the approval steps; exactly one, several are not supported yet" minItems:"1" maxItems:"1"`
	RemindAfter  Duration `json:"remind_after,omitzero" doc:"approvers are reminded after this time" minimum:"1m"`
	ExpiresAfter Duration `json:"expires_after,omitzero" doc:"a request without a decision ends after this time" default:"24h" minimum:"1s"`
}

// Flow is an access flow: who may request what, for how long, and who
// approves.
type Flow struct {
	Name        string       `json:"name" doc:"unique name of the flow" pattern:"^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$" maxLength:"64"`
	Trigger     string       `json:"trigger,omitempty" doc:"self_serve: people ask" enum:"self_serve" default:"self_serve"`
	Requesters  Conditions   `json:"requesters" doc:"who may request"`
	Targets     []FlowTarget `json:"targets" doc:"what may be requested" minItems:"1"`
	MaxDuration Duration     `json:"max_duration" doc:"longest time that access may last, extensions included" minimum:"1s" maximum:"8760h" example:"8h"`
	Approval    Approval     `json:"approval" doc:"who approves"`
}

// Asked is one entitlement of a request with what the rules need to judge it:
// the integration's name and owners and the resource's tags.
type Asked struct {
	Entitlement      Entitlement       `json:"entitlement"`
	Integration      string            `json:"integration_name"`
	Tags             map[string]string `json:"tags,omitempty"`
	IntegrationOwner *Owner            `json:"integration_owner,omitempty"`
	ResourceOwner    *ResourceOwner    `json:"resource_owner,omitempty"`
}

// Covers reports whether the flow is for this entitlement.
func (f Flow) Covers(a Asked) bool {
	return slices.ContainsFunc(f.Targets, func(t FlowTarget) bool {
		return t.Integration == a.Integration &&
			slices.Contains(t.Permissions, a.Entitlement.Permission) &&
			slices.ContainsFunc(t.Resources, func(p string) bool { return MatchResource(p, a.Entitlement.Resource) })
	})
}

// Admits says why a flow does not admit a request of a person; the empty
// string means that it does.
func (f Flow) Admits(p Person, asked []Asked, d Duration) string {
	if !f.Requesters.Holds(p) {
		return fmt.Sprintf("flow %s: %s is not among its requesters", f.Name, p.Email)
	}
	for _, a := range asked {
		if !f.Covers(a) {
			return fmt.Sprintf("flow %s: it is not for %s on %s %s", f.Name, a.Entitlement.Permission, a.Integration, a.Entitlement.Resource)
		}
	}
	if d > f.MaxDuration {
		return fmt.Sprintf("flow %s: %s is longer than its max_duration %s", f.Name, d, f.MaxDuration)
	}
	return ""
}

// ChooseFlow returns the first flow that admits the whole request, or an error
// that names the nearest one and what fails there.
func ChooseFlow(flows []Flow, p Person, asked []Asked, d Duration) (Flow, error) {
	for _, f := range flows {
		if f.Admits(p, asked, d) == "" {
			return f, nil
		}
	}
	return Flow{}, Errorf(Invalid, "%s", Explain(flows, p, asked, d).Text())
}

// Approvers returns those of the people who may approve the request: for every
// entitlement one of the step's approvers, and never the requester.
func Approvers(f Flow, asked []Asked, requester Person, people []Person) []Person {
	var out []Person
	for _, p := range people {
		// Most people are no approvers, which is quick to see.
		if _, _, not := f.missing(asked, p); !not && MayDecide(f, asked, requester, p) == "" {
			out = append(out, p)
		}
	}
	return out
}

// missing finds a step, and what is asked, for which the person is no approver.
func (f Flow) missing(asked []Asked, p Person) (step, at int, found bool) {
	for step := range f.Approval.Steps {
		for at, a := range asked {
			if !slices.ContainsFunc(f.Approval.Steps[step].AnyOf, func(role string) bool { return a.isApprover(role, p) }) {
				return step, at, true
			}
		}
	}
	return 0, 0, false
}

// MayDecide says why a person may not decide on a request; the empty string
// means that the person may. Nobody decides on a request of their own.
func MayDecide(f Flow, asked []Asked, requester, p Person) string {
	switch {
	case p.Disabled:
		return p.Email + " is disabled"
	case SameHuman(p, requester):
		return "nobody approves for themselves"
	case len(f.Approval.Steps) == 0 || len(asked) == 0:
		return "the flow names no approvers"
	}
	if step, at, not := f.missing(asked, p); not {
		return fmt.Sprintf("%s is not %s of %s %s", p.Email, strings.Join(f.Approval.Steps[step].AnyOf, " or "), asked[at].Integration, asked[at].Entitlement.Resource)
	}
	return ""
}

// May says why a person's verdict on a request does not count; the empty
// string means that it does. It is the one rule for the portal, the command
// line, the API, the workflow's record and the ticket.
func May(v Verdict, f Flow, asked []Asked, requester, p Person, administrators Conditions) string {
	if p.Disabled {
		return p.Email + " is disabled"
	}
	switch v {
	case Approve, Deny:
		return MayDecide(f, asked, requester, p)
	case Extend, Release, Renew:
		if p.ID != requester.ID {
			return fmt.Sprintf("only %s may %s this access", requester.Email, v)
		}
		return ""
	case Revoke:
		if administrators.Holds(p) {
			return ""
		}
		return MayDecide(f, asked, requester, p)
	}
	return fmt.Sprintf("there is no verdict %q", v)
}

// isApprover reports whether a person fills one approver role for what is
// asked. A resource without an owner tag is owned by the integration's owner.
func (a Asked) isApprover(role string, p Person) bool {
	switch kind, value, _ := strings.Cut(role, ":"); kind {
	case "integration_owner":
		return a.IntegrationOwner != nil && a.IntegrationOwner.Is(p)
	case "resource_owner":
		if a.ResourceOwner != nil {
			if tag := a.Tags[a.ResourceOwner.Key]; tag != "" {
				return Owner{Attribute: a.ResourceOwner.Attribute, Values: []string{tag}}.Is(p)
			}
		}
		return a.isApprover("integration_owner", p)
	case "group":
		return slices.Contains(p.Groups, value)
	case "person":
		return SameEmail(p.Email, value)
	}
	return false
}
