package access

import (
	"fmt"
	"slices"
	"strings"
)

// managerAttribute is the attribute of a person that holds the address of the
// person's manager.
const managerAttribute = "manager"

// Step is one step of an approval. Approvers are roles: resource_owner,
// integration_owner, manager, group:NAME or person:EMAIL. Everything that is
// asked for needs its own: who owns one of two resources approves that one.
type Step struct {
	Name     string   `json:"name,omitempty" doc:"what the step is called" maxLength:"64" example:"security"`
	AnyOf    []string `json:"any_of,omitempty" doc:"any one of these approves: resource_owner, integration_owner, manager, group:NAME or person:EMAIL" example:"resource_owner" pattern:"^(resource_owner|integration_owner|manager|group:.+|person:.+)$"`
	AtLeast  int      `json:"at_least,omitempty" doc:"so many different people of any_of; 1 when left out" minimum:"1" maximum:"10"`
	AllOf    []string `json:"all_of,omitempty" doc:"each of these approves, each by another person" example:"manager" pattern:"^(resource_owner|integration_owner|manager|group:.+|person:.+)$"`
	Fallback []string `json:"fallback,omitempty" doc:"who stands in where a role has nobody, or nobody else than the requester" example:"group:platform" pattern:"^(resource_owner|integration_owner|manager|group:.+|person:.+)$"`
	Escalate []Tier   `json:"escalate,omitempty" doc:"who may decide too when the step has waited for a while"`
}

// Tier is a tier of escalation: those of the tiers before may still decide.
type Tier struct {
	After Duration `json:"after" doc:"time since the step began" minimum:"1s" maximum:"2160h" example:"30m"`
	To    []string `json:"to" doc:"who may decide from then on" minItems:"1" example:"group:platform" pattern:"^(resource_owner|integration_owner|manager|group:.+|person:.+)$"`
}

// Roles are all roles of the step, each once.
func (s Step) Roles() []string {
	roles := slices.Concat(s.AnyOf, s.AllOf, s.stand())
	slices.Sort(roles)
	return slices.Compact(roles)
}

// stand are the roles that may stand in for those of the step.
func (s Step) stand() []string {
	roles := slices.Clone(s.Fallback)
	for _, t := range s.Escalate {
		roles = append(roles, t.To...)
	}
	return roles
}

// Wants is what the step wants, in words.
func (s Step) Wants() string {
	var parts []string
	if len(s.AllOf) > 0 {
		parts = append(parts, strings.Join(s.AllOf, " and "))
	}
	if any := strings.Join(s.AnyOf, " or "); any != "" {
		if s.AtLeast > 1 {
			any = fmt.Sprintf("%d of %s", s.AtLeast, any)
		}
		parts = append(parts, any)
	}
	return strings.Join(parts, ", and ")
}

// Approval says who must decide and by when. The steps follow each other, and
// nobody counts in two of them for the same thing.
type Approval struct {
	Steps        []Step   `json:"steps,omitempty" doc:"the approval steps, one after the other"`
	RemindAfter  Duration `json:"remind_after,omitzero" doc:"those who may decide are reminded each time that this has passed" minimum:"1s" maximum:"2160h"`
	ExpiresAfter Duration `json:"expires_after,omitzero" doc:"a request without a decision ends after this time; for break_glass the review is due then" default:"24h" minimum:"1s" maximum:"2160h"`
}

// StepName names a step: by its name, or by its number where it has none.
func StepName(steps []Step, step int) string {
	switch {
	case step < len(steps) && steps[step].Name != "":
		return "the step " + steps[step].Name
	case len(steps) > 1:
		return fmt.Sprintf("step %d of %d", step+1, len(steps))
	}
	return "it"
}
