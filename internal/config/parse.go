package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/runbook"
	"github.com/lapse-access/lapse/internal/spec"
)

// Parse reads a file and holds it against itself and the known kinds. The
// error is spec.Faults: all that is wrong, in the order of the file. Warnings
// are what is allowed and yet probably a slip.
func Parse(file string, src []byte, kinds integrations.Registry) (cfg Config, warnings spec.Faults, err error) {
	root, err := Load(file, src)
	if err != nil {
		return Config{}, nil, err
	}
	c := checker{root: root, kinds: kinds, cfg: &cfg}
	c.faults = spec.Decode(root, "", &cfg)
	c.people()
	c.integrations()
	c.bundles()
	c.flows()
	c.notices()
	if at := (place{"runbook", "recipients"}); !c.faulty(at) {
		if _, err := runbook.Readers(cfg.Runbook.Recipients); err != nil {
			c.fault(at, "age-keygen makes a key and prints its recipient", "%v", err)
		}
	}
	for _, found := range []spec.Faults{c.faults, c.warnings} {
		found.Sort()
		for i := range found {
			found[i].File = file
		}
	}
	if len(c.faults) > 0 {
		return Config{}, c.warnings, c.faults
	}
	return cfg, c.warnings, nil
}

// Load reads a file of one YAML document. The error is spec.Faults.
func Load(file string, src []byte) (*yaml.Node, error) {
	var root yaml.Node
	if err := yaml.Load(src, &root); err != nil {
		fault := syntaxFault(err)
		fault.File = file
		return nil, spec.Faults{fault}
	}
	return &root, nil
}

// syntaxFault puts an error of the YAML reader into our own form. Its later
// stages quote the document, and are not repeated.
func syntaxFault(err error) spec.Fault {
	f := spec.Fault{Line: 1, Column: 1, Message: "is not one YAML document", Fix: "write KEY: VALUE pairs, see the sample lapse.yaml"}
	e, ok := errors.AsType[*yaml.LoadError](err)
	if !ok {
		return f
	}
	if e.Mark.Line > 0 {
		f.Line, f.Column = e.Mark.Line, e.Mark.Column
	}
	switch e.Stage {
	case yaml.ReaderStage, yaml.ScannerStage, yaml.ParserStage:
		f.Message = "is not YAML: " + e.Message
		f.Fix = "look for a missing quote or bracket, a tab, or wrong indentation here or just above"
	case yaml.ComposerStage:
		f.Message = "refers to an anchor that is not defined"
		f.Fix = "quote a text that begins with *"
	}
	return f
}

// checker holds the parts of a file against each other.
type checker struct {
	root     *yaml.Node
	kinds    integrations.Registry
	cfg      *Config
	faults   spec.Faults
	warnings spec.Faults

	// directory is everybody, or nil when the list of people has faults
	// itself: then nothing is said about whom a name resolves to.
	directory []access.Person
}

// place is a path into the file: keys and indexes.
type place []any

func (p place) at(steps ...any) place { return slices.Concat(p, steps) }

func (c *checker) fault(p place, fix, format string, args ...any) {
	c.faults = append(c.faults, c.located(p, fix, format, args...))
}

func (c *checker) warn(p place, fix, format string, args ...any) {
	c.warnings = append(c.warnings, c.located(p, fix, format, args...))
}

func (c *checker) located(p place, fix, format string, args ...any) spec.Fault {
	node, path := spec.Locate(c.root, p...)
	return spec.Fault{Line: node.Line, Column: node.Column, Path: path, Message: fmt.Sprintf(format, args...), Fix: fix}
}

// people normalises addresses, checks that each belongs to one person, and
// that there are administrators.
func (c *checker) people() {
	sound := !c.faulty(place{"people"})
	if sound {
		c.directory = []access.Person{}
	}
	owner := map[string]int{} // of an address
	take := func(i int, address *string, p place) {
		*address = access.NormalEmail(*address)
		if other, taken := owner[*address]; taken && *address != "" {
			c.fault(p, "one address belongs to one person", "%q is given at people[%d] already", *address, other)
			return
		}
		owner[*address] = i
	}
	for i := range c.cfg.People {
		person := &c.cfg.People[i]
		at := place{"people", i}
		take(i, &person.Email, at.at("email"))
		for j := range person.Aliases {
			take(i, &person.Aliases[j], at.at("aliases", j))
		}
		if sound {
			c.directory = append(c.directory, person.WithID(""))
		}
	}
	if at := (place{"administrators"}); !c.faulty(at) && !c.resolves(c.cfg.Administrators.Holds) {
		c.fault(at, "name a group, email or attribute that somebody has who is not disabled", "nobody among people is an administrator")
	} else if c.cfg.TwoPersonChanges && !c.faulty(at) && c.directory != nil && !c.two() {
		c.fault(place{"two_person_changes"}, "make somebody else an administrator too, or leave this out", "needs two different people among the administrators who are not disabled: otherwise nobody could change the file any more")
	}
}

// two reports whether two administrators are different people, under whatever
// addresses.
func (c *checker) two() bool {
	var first []string // the entries of one of them
	humans := c.cfg.Humans()
	for _, p := range humans.People() {
		switch {
		case !c.cfg.Administrators.Holds(p):
		case first == nil:
			first = humans.Entries(p.ID)
		case !slices.Contains(first, p.ID):
			return true
		}
	}
	return false
}

// resolves reports whether somebody is meant; also when nothing is known of
// the people.
func (c *checker) resolves(is func(access.Person) bool) bool {
	return c.directory == nil || slices.ContainsFunc(c.directory, is)
}

// variable is what the name of an environment variable looks like. Anything
// else may be the secret itself, pasted in the wrong place.
var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (c *checker) integrations() {
	seen := map[string]bool{}
	for i := range c.cfg.Integrations {
		in := &c.cfg.Integrations[i]
		at := place{"integrations", i}
		c.unique(seen, at.at("name"), "integration", in.Name)
		if kind, ok := c.kinds[in.Kind]; ok {
			c.settings(at, in, kind)
			for j, name := range in.Discover.Types {
				if _, ok := kind.Type(name); !ok && name != "" {
					c.fault(at.at("discover", "types", j), spec.DidYouMean(name, typeNames(kind)), "%s has no resource type %q", kind.Name, name)
				}
			}
			for j, rule := range in.Tags {
				c.pattern(at.at("tags", j, "resources"), rule.Resources, kind)
			}
		} else if in.Kind != "" {
			c.fault(at.at("kind"), spec.DidYouMean(in.Kind, slices.Sorted(maps.Keys(c.kinds))), "there is no kind %q", in.Kind)
		}
		c.variable(at.at("secret", "key"), in.Secret)
		c.rotation(at, *in)
		c.owners(at, *in)
	}
}

// rotation finds what is to be changed and cannot be.
func (c *checker) rotation(at place, in Integration) {
	if err := in.Rotation.timeframe().Zone(); err != nil {
		c.fault(at.at("rotation", "time_zone"), "write a name of the IANA database, such as Europe/Madrid", "there is no time zone %q", in.Rotation.TimeZone)
	}
	kind, ok := c.kinds[in.Kind]
	if !ok {
		return
	}
	if in.CredentialRotationDays > 0 && !kind.Credentials {
		c.warn(at.at("credential_rotation_days"), "", "does nothing: Lapse makes no credentials on %s", kind.Title)
	}
	switch {
	case in.SecretRotationDays == 0:
	case !kind.RotatesSecret:
		c.fault(at.at("secret_rotation_days"), "leave it out, and change the secret by hand", "%s does not let a connector change its own secret", kind.Title)
	case in.Secret.Store != "file":
		c.fault(at.at("secret_rotation_days"), "keep the secret in a file (store: file), or leave this out", "Lapse cannot write to the store %s", in.Secret.Store)
	}
}

// unique tells of a name that was seen, whatever its case.
func (c *checker) unique(seen map[string]bool, p place, what, name string) {
	key := strings.ToLower(name)
	if seen[key] && name != "" {
		c.fault(p, "rename one of them; case makes no difference", "there is another %s %q", what, name)
	}
	seen[key] = true
}

// settings decodes what the kind declares and keeps it as canonical JSON.
func (c *checker) settings(at place, in *Integration, kind integrations.Kind) {
	node, path := spec.Locate(c.root, at.at("config")...)
	if parent, _ := spec.Locate(c.root, at...); node == parent || node.ShortTag() == "!!null" {
		node = &yaml.Node{Kind: yaml.MappingNode, Line: parent.Line, Column: parent.Column}
	}
	into := kind.Config()
	if faults := spec.Decode(node, path, into); len(faults) > 0 {
		c.faults = append(c.faults, faults...)
		return
	}
	encoded, err := json.Marshal(into)
	if err != nil {
		panic("config: the settings of kind " + kind.Name + " cannot be encoded: " + err.Error())
	}
	in.Config = encoded
}

// pattern checks a TYPE:PATH pattern against the kind.
func (c *checker) pattern(p place, pattern string, kind integrations.Kind) (integrations.ResourceType, bool) {
	if pattern == "" {
		return integrations.ResourceType{}, false
	}
	resource, err := access.ParseResource(pattern)
	if err != nil {
		c.fault(p, "* stands for any characters within one part", "%v", err)
		return integrations.ResourceType{}, false
	}
	typ, ok := kind.Type(resource.Type)
	if !ok {
		c.fault(p, spec.DidYouMean(resource.Type, typeNames(kind)), "%s has no resource type %q", kind.Name, resource.Type)
		return typ, false
	}
	if parts := strings.Count(resource.Path, "/") + 1; parts != len(typ.Path) {
		c.fault(p, "write "+example(typ)+", * within one part", "the path of a %s has %d parts, not %d", typ.Name, len(typ.Path), parts)
		return typ, false
	}
	return typ, true
}

func example(t integrations.ResourceType) string { return t.Name + ":" + strings.Join(t.Path, "/") }

// owners checks that the owners of an integration and, by the tag rules, of
// its resources are people.
func (c *checker) owners(at place, in Integration) {
	if o := in.IntegrationOwner; o != nil && o.Attribute != "" {
		var nobody []int
		for j, value := range o.Values {
			if !c.resolves(access.Owner{Attribute: o.Attribute, Values: []string{value}}.Is) {
				nobody = append(nobody, j)
			}
		}
		values := at.at("integration_owner", "values")
		if len(nobody) > 0 && len(nobody) == len(o.Values) {
			c.fault(values, "name a value that somebody has who is not disabled", "nobody among people has attribute %q with %s", o.Attribute, quoted(o.Values))
		} else {
			for _, j := range nobody {
				c.warn(values.at(j), "", "nobody among people has attribute %q with %q", o.Attribute, o.Values[j])
			}
		}
	}
	r := in.ResourceOwner
	if r == nil {
		return
	}
	if in.IntegrationOwner == nil {
		c.fault(at.at("resource_owner"), "add integration_owner: resources without the tag are theirs", "needs an integration_owner beside it")
	}
	for j, rule := range in.Tags {
		value, ok := rule.Set[r.Key]
		if ok && r.Attribute != "" && !c.resolves(access.Owner{Attribute: r.Attribute, Values: []string{value}}.Is) {
			c.fault(at.at("tags", j, "set", r.Key), "the tag names the resource owner: give it a value that somebody has who is not disabled", "nobody among people has attribute %q with %q", r.Attribute, value)
		}
	}
}

func (c *checker) flows() {
	seen := map[string]bool{}
	for i := range c.cfg.AccessFlows {
		flow := &c.cfg.AccessFlows[i]
		at := place{"access_flows", i}
		c.unique(seen, at.at("name"), "access flow", flow.Name)
		switch requesters := at.at("requesters"); {
		case c.faulty(requesters):
		case len(flow.Requesters.Any)+len(flow.Requesters.All) == 0:
			c.fault(requesters, "name who may request under any or all", "has no condition")
		case !c.resolves(flow.Requesters.Holds):
			c.warn(requesters, "", "nobody among people may request by this flow")
		}
		targets := c.targets(at, flow)
		c.limits(at, *flow)
		c.said(at, *flow)
		c.approval(at, *flow, targets)
	}
}

// targets checks what a flow is for, and puts what bundles hold in their place.
func (c *checker) targets(at place, flow *access.Flow) (integrations []Integration) {
	var all []access.FlowTarget
	for j, target := range flow.Targets {
		at := at.at("targets", j)
		if target.Bundle == "" {
			c.whole(at, target)
			if in, ok := c.target(at, target); ok {
				integrations = append(integrations, in)
			}
			all = append(all, target)
			continue
		}
		if target.Integration != "" || len(target.Resources)+len(target.Permissions)+len(target.Tags)+len(target.Except) > 0 {
			c.fault(at.at("bundle"), "write a target of its own for anything else", "stands for all that the bundle holds, and nothing else can stand beside it")
		}
		b, ok := find(c.cfg.Bundles, func(b Bundle) bool { return b.Name == target.Bundle })
		if !ok {
			var names []string
			for _, b := range c.cfg.Bundles {
				names = append(names, b.Name)
			}
			c.fault(at.at("bundle"), spec.DidYouMean(target.Bundle, names), "there is no bundle %q", target.Bundle)
			continue
		}
		for _, item := range b.Items {
			all = append(all, access.FlowTarget{Bundle: b.Name, Integration: item.Integration, Resources: []string{item.Resource}, Permissions: []string{item.Permission}})
			if in, ok := c.cfg.Integration(item.Integration); ok {
				integrations = append(integrations, in)
			}
		}
	}
	flow.Targets = all
	return integrations
}

// whole checks that a target that is no bundle says all that it must.
func (c *checker) whole(at place, target access.FlowTarget) {
	if c.faulty(at) {
		return
	}
	for _, need := range []struct {
		name  string
		given bool
	}{{"integration", target.Integration != ""}, {"resources", len(target.Resources) > 0}, {"permissions", len(target.Permissions) > 0}} {
		if !need.given {
			c.fault(at, "write integration, resources and permissions, or a bundle", "has no %s", need.name)
		}
	}
	for k, x := range target.Except {
		if len(x.Resources)+len(x.Tags) == 0 {
			c.fault(at.at("except", k), "name resources, tags, or both", "leaves nothing out")
		}
	}
}

// bundles checks that each item of a bundle is something.
func (c *checker) bundles() {
	seen := map[string]bool{}
	for i, b := range c.cfg.Bundles {
		at := place{"bundles", i}
		c.unique(seen, at.at("name"), "bundle", b.Name)
		for j, item := range b.Items {
			at := at.at("items", j)
			c.target(at, access.FlowTarget{Integration: item.Integration, Resources: []string{item.Resource}, Permissions: []string{item.Permission}})
			if strings.Contains(item.Resource, "*") {
				c.fault(at.at("resource"), "name one resource; a * in its name is written %2A", "a bundle holds resources and no patterns")
			}
		}
	}
}

// limits checks the times of a flow.
func (c *checker) limits(at place, flow access.Flow) {
	if err := flow.Timeframe.Zone(); err != nil {
		c.fault(at.at("timeframe", "time_zone"), "write a name of the IANA database, such as Europe/Madrid", "there is no time zone %q", flow.Timeframe.TimeZone)
	}
	for j, d := range flow.Durations {
		if d > flow.MaxDuration && flow.MaxDuration > 0 {
			c.fault(at.at("durations", j), "raise max_duration, or leave it out", "is longer than max_duration %s", flow.MaxDuration)
		}
	}
	if flow.Trigger == access.SelfServe || flow.Trigger == "" {
		return
	}
	for _, need := range []struct {
		name  string
		given bool
	}{{"fallback", flow.Fallback}, {"schedule_ahead", flow.ScheduleAhead > 0}, {"durations", flow.Trigger == access.Automatic && len(flow.Durations) > 0},
		{"on_behalf", flow.OnBehalf.Manager || len(flow.OnBehalf.By.Any)+len(flow.OnBehalf.By.All) > 0},
		{"fields", flow.Trigger == access.Automatic && len(flow.Fields) > 0}, {"timeframe", flow.Trigger == access.BreakGlass && flow.Timeframe.String() != "always"}} {
		if need.given {
			c.fault(at.at(need.name), "leave it out, or set trigger to self_serve", "is not for a flow whose trigger is %s", flow.Trigger)
		}
	}
}

// said checks what a flow wants people to say.
func (c *checker) said(at place, flow access.Flow) {
	pattern := func(at place, p string) {
		if _, err := regexp.Compile(p); err != nil {
			c.fault(at, "write it as RE2 does: https://github.com/google/re2/wiki/Syntax", "is no regular expression: %v", err)
		}
	}
	pattern(at.at("justification", "pattern"), flow.Justification.Pattern)
	seen := map[string]bool{}
	for j, f := range flow.Fields {
		at := at.at("fields", j)
		c.unique(seen, at.at("name"), "field", f.Name)
		pattern(at.at("pattern"), f.Pattern)
	}
}

// approval checks that every step of a flow can be done by somebody.
func (c *checker) approval(at place, flow access.Flow, targets []Integration) {
	steps := at.at("approval", "steps")
	switch {
	case flow.Trigger == access.Automatic && len(flow.Approval.Steps) > 0:
		c.fault(steps, "leave it out, or set trigger to self_serve", "nobody approves what comes by itself")
	case flow.Trigger != access.Automatic && len(flow.Approval.Steps) == 0 && !c.faulty(at.at("approval")):
		c.fault(at.at("approval"), "write steps: [{any_of: [resource_owner, integration_owner]}]", "has no step, so nobody could decide")
	}
	for j, step := range flow.Approval.Steps {
		at := steps.at(j)
		if len(step.AnyOf)+len(step.AllOf) == 0 && !c.faulty(at) {
			c.fault(at, "name approvers under any_of or all_of", "wants no approver")
		}
		if step.AtLeast > 1 && len(step.AnyOf) == 0 {
			c.fault(at.at("at_least"), "name the approvers of whom so many are wanted under any_of", "has no any_of beside it")
		}
		for name, roles := range map[string][]string{"any_of": step.AnyOf, "all_of": step.AllOf, "fallback": step.Fallback} {
			for k, role := range roles {
				c.approver(at.at(name, k), role, targets)
			}
		}
		for k, tier := range step.Escalate {
			for l, role := range tier.To {
				c.approver(at.at("escalate", k, "to", l), role, targets)
			}
			if k > 0 && tier.After <= step.Escalate[k-1].After {
				c.fault(at.at("escalate", k, "after"), "order them by time", "does not come after the tier before it")
			}
			if end := flow.Approval.ExpiresAfter; end > 0 && tier.After >= end {
				c.fault(at.at("escalate", k, "after"), "raise expires_after, or lower this", "comes after the request has expired, which is after %s", end)
			}
		}
	}
}

// faulty reports whether something was said already about a place or what is
// below it.
func (c *checker) faulty(p place) bool {
	_, path := spec.Locate(c.root, p...)
	return slices.ContainsFunc(c.faults, func(f spec.Fault) bool { return strings.HasPrefix(f.Path, path) })
}

// target checks what a flow is for, and returns the integration.
func (c *checker) target(at place, target access.FlowTarget) (Integration, bool) {
	if target.Integration == "" {
		return Integration{}, false // said before
	}
	in, ok := c.cfg.Integration(target.Integration)
	if !ok {
		c.fault(at.at("integration"), spec.DidYouMean(target.Integration, c.integrationNames()), "there is no integration %q", target.Integration)
		return in, false
	}
	kind, ok := c.kinds[in.Kind]
	if !ok {
		return in, true // said at the integration
	}
	var types, permissions []string
	for k, pattern := range target.Resources {
		if typ, ok := c.pattern(at.at("resources", k), pattern, kind); ok {
			types = append(types, typ.Name)
			for _, p := range typ.Permissions {
				permissions = append(permissions, p.Name)
			}
		}
	}
	for k, x := range target.Except {
		for l, pattern := range x.Resources {
			c.pattern(at.at("except", k, "resources", l), pattern, kind)
		}
	}
	for k, name := range target.Permissions {
		if len(types) > 0 && name != "" && !slices.Contains(permissions, name) {
			c.fault(at.at("permissions", k), spec.DidYouMean(name, tidy(permissions)), "a %s of %s has no permission %q", strings.Join(tidy(types), " or "), kind.Name, name)
		}
	}
	return in, true
}

// approver checks that an approver of a flow is somebody.
func (c *checker) approver(p place, approver string, targets []Integration) {
	switch role, value, _ := strings.Cut(approver, ":"); role {
	case "integration_owner", "resource_owner":
		for _, in := range targets {
			if in.IntegrationOwner == nil {
				c.fault(p, "give it one, or name group:NAME or person:EMAIL here", "integration %q has no integration_owner", in.Name)
			}
		}
	case "group":
		if !c.resolves(func(q access.Person) bool { return !q.Disabled && slices.Contains(q.Groups, value) }) {
			c.fault(p, "name a group with somebody in it who is not disabled", "nobody among people is in group %q", value)
		}
	case "manager":
		if !c.resolves(func(q access.Person) bool { return q.Attributes["manager"] != "" }) {
			c.warn(p, "give people the attribute manager, an e-mail address", "nobody among people has a manager")
		}
	case "person":
		if !c.resolves(func(q access.Person) bool { return !q.Disabled && access.SameEmail(q.Email, value) }) {
			c.fault(p, "name the main address of somebody who is not disabled", "nobody among people is %q", value)
		}
	}
}

// quoted writes `"a" or "b"`.
func quoted(names []string) string {
	q := make([]string, len(names))
	for i, name := range names {
		q[i] = strconv.Quote(name)
	}
	return strings.Join(q, " or ")
}

func (c *checker) integrationNames() []string {
	var names []string
	for _, in := range c.cfg.Integrations {
		names = append(names, in.Name)
	}
	return names
}

func typeNames(kind integrations.Kind) []string {
	var names []string
	for _, t := range kind.ResourceTypes {
		names = append(names, t.Name)
	}
	return names
}

// tidy sorts names and drops those that come twice.
func tidy(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
