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
	"time"
	_ "time/tzdata" // a machine may have no time zones of its own

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
	var root yaml.Node
	if err := yaml.Load(src, &root); err != nil {
		fault := syntaxFault(err)
		fault.File = file
		return Config{}, nil, spec.Faults{fault}
	}
	c := checker{root: &root, kinds: kinds, cfg: &cfg}
	c.faults = spec.Decode(&root, "", &cfg)
	c.people()
	c.integrations()
	c.flows()
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
	}
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
		if key := in.Secret.Key; in.Secret.Store == "env" && key != "" && !variable.MatchString(key) {
			c.fault(at.at("secret", "key"), "write the name of the variable here and the secret into the variable", "is not the name of an environment variable")
		}
		c.rotation(at, *in)
		c.owners(at, *in)
	}
}

// rotation finds what is to be changed and cannot be.
func (c *checker) rotation(at place, in Integration) {
	if _, err := time.LoadLocation(in.Rotation.TimeZone); err != nil {
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
	for i, flow := range c.cfg.AccessFlows {
		at := place{"access_flows", i}
		c.unique(seen, at.at("name"), "access flow", flow.Name)
		switch requesters := at.at("requesters"); {
		case c.faulty(requesters):
		case len(flow.Requesters.Any)+len(flow.Requesters.All) == 0:
			c.fault(requesters, "name who may request under any or all", "has no condition")
		case !c.resolves(flow.Requesters.Holds):
			c.warn(requesters, "", "nobody among people may request by this flow")
		}
		if flow.Approval.RemindAfter > 0 {
			c.warn(at.at("approval", "remind_after"), "", "is kept, and nobody is reminded yet")
		}
		var targets []Integration
		for j, target := range flow.Targets {
			if in, ok := c.target(at.at("targets", j), target); ok {
				targets = append(targets, in)
			}
		}
		for j, step := range flow.Approval.Steps {
			for k, approver := range step.AnyOf {
				c.approver(at.at("approval", "steps", j, "any_of", k), approver, targets)
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
		return Integration{}, false
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
