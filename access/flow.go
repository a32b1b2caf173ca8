package access

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
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
	// Bundle names the bundle that this target was written as.
	Bundle      string            `json:"bundle,omitempty" doc:"name of a bundle, in place of all else here" maxLength:"64"`
	Integration string            `json:"integration,omitempty" doc:"name of the integration"`
	Resources   []string          `json:"resources,omitempty" doc:"resources as TYPE:PATH, * within one part" example:"schema:shop/*" minLength:"1"`
	Tags        map[string]string `json:"tags,omitempty" doc:"only resources that have all these tags, as KEY: VALUE"`
	Except      []Exception       `json:"except,omitempty" doc:"but not these"`
	Permissions []string          `json:"permissions,omitempty" doc:"permissions that may be requested" example:"read_only" minLength:"1"`
}

// Exception names resources that a target leaves out. With both given, only
// those that fit both.
type Exception struct {
	Resources []string          `json:"resources,omitempty" doc:"resources as TYPE:PATH, * within one part" example:"schema:shop/salaries" minLength:"1"`
	Tags      map[string]string `json:"tags,omitempty" doc:"resources that have all these tags, as KEY: VALUE"`
}

func (x Exception) fits(a Asked) bool {
	if len(x.Resources) > 0 && !matchesAny(x.Resources, a.Entitlement.Resource) {
		return false
	}
	return tagged(a.Tags, x.Tags) && len(x.Resources)+len(x.Tags) > 0
}

func matchesAny(patterns []string, r Resource) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return MatchResource(p, r) })
}

// tagged reports whether there are all the tags that are wanted.
func tagged(have, want map[string]string) bool {
	for key, value := range want {
		if v, ok := have[key]; !ok || v != value {
			return false
		}
	}
	return true
}

// covers reports whether the target is for this entitlement.
func (t FlowTarget) covers(a Asked) bool {
	return t.Integration == a.Integration && slices.Contains(t.Permissions, a.Entitlement.Permission) &&
		matchesAny(t.Resources, a.Entitlement.Resource) && tagged(a.Tags, t.Tags) &&
		!slices.ContainsFunc(t.Except, func(x Exception) bool { return x.fits(a) })
}

// How a flow is set off.
const (
	SelfServe  = "self_serve"  // people ask, and others approve
	Automatic  = "automatic"   // whoever fits the requesters has it, as long as they do
	BreakGlass = "break_glass" // people take it at once, and others review that afterwards
)

// Flow is an access flow: who may have what, for how long, and who says so.
type Flow struct {
	Name          string         `json:"name" doc:"unique name of the flow" pattern:"^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$" maxLength:"64"`
	Trigger       string         `json:"trigger,omitempty" doc:"self_serve: people ask and others approve; automatic: the requesters have it as long as they are some; break_glass: people take it at once, and the approvers review that afterwards" enum:"self_serve,automatic,break_glass" default:"self_serve"`
	Fallback      bool           `json:"fallback,omitempty" doc:"true for a flow that is used only where no other admits a request"`
	Requesters    Conditions     `json:"requesters" doc:"who may have it"`
	OnBehalf      OnBehalf       `json:"on_behalf,omitzero" doc:"who may ask for it for a requester; nobody when left out"`
	Targets       []FlowTarget   `json:"targets" doc:"what it is for" minItems:"1"`
	MaxDuration   Duration       `json:"max_duration" doc:"longest time that access may last, extensions included; for automatic the time after which it is looked at anew" minimum:"1s" maximum:"8760h" example:"8h"`
	Durations     []Duration     `json:"durations,omitempty" doc:"the only durations that may be asked for; any up to max_duration when left out" example:"1h" minimum:"1s"`
	ScheduleAhead Duration       `json:"schedule_ahead,omitzero" doc:"access may be asked for to begin up to so much later; 0s is at once only" minimum:"0s" maximum:"2160h"`
	Timeframe     Timeframe      `json:"timeframe,omitzero" doc:"days and hours in which access may begin; it ends with them"`
	Justification Justification  `json:"justification,omitzero" doc:"what the reason of a request must be like"`
	Fields        []RequestField `json:"fields,omitempty" doc:"what else people have to say, such as a ticket"`
	Approval      Approval       `json:"approval,omitzero" doc:"who approves; for break_glass who reviews; none for automatic"`
}

// OnBehalf says who may ask for somebody else.
type OnBehalf struct {
	Manager bool       `json:"manager,omitempty" doc:"true lets the manager, by the requester's attribute manager, ask for the requester"`
	By      Conditions `json:"by,omitzero" doc:"people who may ask for any requester"`
}

// Justification says what a reason must be like.
type Justification struct {
	MinLength int    `json:"min_length,omitempty" doc:"fewest characters" minimum:"0" maximum:"1000"`
	Pattern   string `json:"pattern,omitempty" doc:"regular expression (RE2) that a part of it must match" example:"[A-Z]+-[0-9]+"`
	Hint      string `json:"hint,omitempty" doc:"shown where people write it" maxLength:"200"`
}

// RequestField is something that people say beside the reason.
type RequestField struct {
	Name     string   `json:"name" doc:"unique name of the field" pattern:"^[a-z][a-z0-9]*(_[a-z0-9]+)*$" maxLength:"64" example:"ticket"`
	Title    string   `json:"title,omitempty" doc:"its name as people see it" maxLength:"100"`
	Hint     string   `json:"hint,omitempty" doc:"shown beside it" maxLength:"200"`
	Optional bool     `json:"optional,omitempty" doc:"true lets people leave it empty"`
	Pattern  string   `json:"pattern,omitempty" doc:"regular expression (RE2) that the whole of it must match" example:"[A-Z]+-[0-9]+"`
	Options  []string `json:"options,omitempty" doc:"the only values that it may have" minLength:"1"`
}

// maxField is the longest value of a field, in characters.
const maxField = 200

// Wrong is one thing that somebody said and that a flow does not take.
type Wrong struct {
	Field   string `json:"field"` // reason, or fields.NAME
	Message string `json:"message"`
}

// Faults are what is wrong with the reason and the fields of a request.
func (f Flow) Faults(reason string, fields map[string]string) (faults []Wrong) {
	wrong := func(field, format string, args ...any) {
		faults = append(faults, Wrong{Field: field, Message: fmt.Sprintf(format, args...)})
	}
	hint := func(text string) string {
		if text != "" {
			return ": " + text
		}
		return ""
	}
	if n := utf8.RuneCountInString(strings.TrimSpace(reason)); n < f.Justification.MinLength {
		wrong("reason", "access flow %s wants at least %d characters, and there are %d%s", f.Name, f.Justification.MinLength, n, hint(f.Justification.Hint))
	} else if p := f.Justification.Pattern; p != "" && !matches(p, reason) {
		wrong("reason", "access flow %s wants something like %s in it%s", f.Name, p, hint(f.Justification.Hint))
	}
	known := map[string]bool{}
	for _, want := range f.Fields {
		known[want.Name] = true
		at, value := "fields."+want.Name, strings.TrimSpace(fields[want.Name])
		switch {
		case value == "" && want.Optional:
		case value == "":
			wrong(at, "access flow %s wants it%s", f.Name, hint(want.Hint))
		case utf8.RuneCountInString(value) > maxField:
			wrong(at, "is longer than %d characters", maxField)
		case len(want.Options) > 0 && !slices.Contains(want.Options, value):
			wrong(at, "want one of %s", strings.Join(want.Options, ", "))
		case want.Pattern != "" && !matches("^(?:"+want.Pattern+")$", value):
			wrong(at, "want something like %s%s", want.Pattern, hint(want.Hint))
		}
	}
	for name := range fields {
		if !known[name] {
			wrong("fields."+name, "access flow %s has no such field", f.Name)
		}
	}
	slices.SortStableFunc(faults, func(a, b Wrong) int { return strings.Compare(a.Field, b.Field) })
	return faults
}

// matches is false for a pattern that is none, which applying it finds.
func matches(pattern, s string) bool {
	ok, err := regexp.MatchString(pattern, s)
	return ok && err == nil
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

// String is the entitlement in words.
func (a Asked) String() string {
	return fmt.Sprintf("%s on %s %s", a.Entitlement.Permission, a.Integration, a.Entitlement.Resource)
}

// Ask is what somebody wants, as flows judge it.
type Ask struct {
	Person Person // whose access it becomes
	By     Person // who asks; the same, or somebody on their behalf
	Asked  []Asked
	For    Duration
	Now    time.Time
	// Start is when it is to begin; zero, or past, is at once.
	Start time.Time
	// BreakGlass takes it without an approval.
	BreakGlass bool
}

// begins is when the access would begin.
func (a Ask) begins() time.Time {
	if a.Start.After(a.Now) {
		return a.Start
	}
	return a.Now
}

// considered reports whether a flow is looked at for such a request at all.
func (f Flow) considered(a Ask) bool {
	switch f.Trigger {
	case "", SelfServe:
		return !a.BreakGlass
	case BreakGlass:
		return a.BreakGlass
	}
	return false
}

// Covers reports whether the flow is for this entitlement.
func (f Flow) Covers(a Asked) bool {
	return slices.ContainsFunc(f.Targets, func(t FlowTarget) bool { return t.covers(a) })
}

// lets reports whether somebody may ask for somebody else.
func (o OnBehalf) lets(by, person Person) bool {
	return !by.Disabled && o.Manager && by.known(person.Attributes[managerAttribute]) || o.By.Holds(by)
}

// asks reports whether the one who asks may ask for the person: oneself may,
// others as the flow says.
func (f Flow) asks(a Ask) bool { return a.By.ID == a.Person.ID || f.OnBehalf.lets(a.By, a.Person) }

// Admits says why a flow does not admit a request; the empty string means that
// it does.
func (f Flow) Admits(a Ask) string {
	if why := f.gives(a); why != "" {
		return why
	}
	if a.For > f.MaxDuration {
		return fmt.Sprintf("flow %s: %s is longer than its max_duration %s", f.Name, a.For, f.MaxDuration)
	}
	if len(f.Durations) > 0 && !slices.Contains(f.Durations, a.For) {
		return fmt.Sprintf("flow %s: %s is none of its durations %s", f.Name, a.For, durations(f.Durations))
	}
	if ahead := Duration(a.begins().Sub(a.Now).Round(time.Second)); ahead > f.ScheduleAhead {
		return fmt.Sprintf("flow %s: it is to begin %s ahead, and its schedule_ahead is %s", f.Name, ahead, f.ScheduleAhead)
	}
	return ""
}

// gives is Admits as it is judged again later, for a request that the flow
// admitted: whose it is, what it is, and the hours.
func (f Flow) gives(a Ask) string {
	if !f.Requesters.Holds(a.Person) {
		return fmt.Sprintf("flow %s: %s is not among its requesters", f.Name, a.Person.Email)
	}
	if !f.asks(a) {
		return fmt.Sprintf("flow %s: %s may not ask for %s", f.Name, a.By.Email, a.Person.Email)
	}
	for _, asked := range a.Asked {
		if !f.Covers(asked) {
			return fmt.Sprintf("flow %s: it is not for %s", f.Name, asked)
		}
	}
	if open, _ := f.Timeframe.Open(a.begins()); !open {
		return fmt.Sprintf("flow %s: its timeframe is %s, and it would begin on %s", f.Name, f.Timeframe, f.Timeframe.local(a.begins()))
	}
	return ""
}

func durations(list []Duration) string {
	out := make([]string, len(list))
	for i, d := range list {
		out[i] = d.String()
	}
	return strings.Join(out, " or ")
}

// Offered reports whether somebody may ask for something at all, for some time
// and at some hour.
func Offered(flows []Flow, p Person, a Asked) bool {
	return slices.ContainsFunc(flows, func(f Flow) bool { return f.Trigger != Automatic && f.Requesters.Holds(p) && f.Covers(a) })
}

// ChooseFlow returns the first flow that admits the whole request, a fallback
// only where no other does; or an error that names the nearest one and what
// fails there.
func ChooseFlow(flows []Flow, a Ask) (Flow, error) {
	for _, fallback := range []bool{false, true} {
		for _, f := range flows {
			if f.Fallback == fallback && f.considered(a) && f.Admits(a) == "" {
				return f, nil
			}
		}
	}
	return Flow{}, Errorf(Invalid, "%s", Explain(flows, a).Text())
}
