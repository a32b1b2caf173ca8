// Package flowtest holds the access flows of a lapse.yaml against files that say
// what they must do: which flow is used for a request, who may decide on it, and
// who may not. It decides by the same functions as the portal, and talks to
// nobody.
package flowtest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/spec"
)

// File is a file of tests.
type File struct {
	Cases []Case `json:"cases" doc:"requests, and what has to become of each" minItems:"1"`
}

// Case is a request that nobody makes.
type Case struct {
	Name       string            `json:"name" doc:"what is tested, in words" example:"analysts read the shop" maxLength:"200"`
	Person     string            `json:"person" doc:"e-mail address of who asks" example:"ana@example.com"`
	OnBehalfOf string            `json:"on_behalf_of,omitempty" doc:"e-mail address of the person whose access it becomes; the one who asks when left out"`
	Wants      []Want            `json:"wants,omitempty" doc:"what is asked for"`
	Bundle     string            `json:"bundle,omitempty" doc:"name of a bundle; what it holds is asked for beside wants"`
	For        access.Duration   `json:"for" doc:"how long" default:"1h" minimum:"1s" example:"1h"`
	At         Moment            `json:"at" doc:"when it is asked" default:"2025-01-01T12:00:00Z" example:"2025-01-01T12:00:00Z"`
	StartAt    Moment            `json:"start_at,omitzero" doc:"when it is to begin; at once when left out" example:"2025-01-01T18:00:00Z"`
	BreakGlass bool              `json:"break_glass,omitempty" doc:"true takes it at once"`
	Reason     string            `json:"reason,omitempty" doc:"why; reason and fields are judged where one of them is given"`
	Fields     map[string]string `json:"fields,omitempty" doc:"what else is said, by the name of the field"`
	Expect     Expect            `json:"expect" doc:"what has to become of it"`
}

// Want is one permission on one resource, as discovery would have found it.
type Want struct {
	Integration string            `json:"integration" doc:"name of the integration" example:"prod-pg"`
	Resource    string            `json:"resource" doc:"resource as TYPE:PATH" example:"schema:shop/public"`
	Permission  string            `json:"permission" doc:"permission on the resource" example:"read_only"`
	Tags        map[string]string `json:"tags,omitempty" doc:"tags that the system itself knows; the tag rules of lapse.yaml are put over them"`
}

// Expect is what has to become of a request. What is left out is not looked at.
type Expect struct {
	Flow      string     `json:"flow,omitempty" doc:"name of the access flow that is used" example:"analysts-read"`
	Refused   string     `json:"refused,omitempty" doc:"a part of the text with which it is refused" example:"8h at most"`
	Approvers []string   `json:"approvers,omitempty" doc:"e-mail addresses of exactly those who may decide on the first step; for break_glass who may review"`
	Steps     [][]string `json:"steps,omitempty" doc:"the same for each step"`
	MayNot    []string   `json:"may_not,omitempty" doc:"e-mail addresses of people who may approve no step" example:"ana@example.com"`
	Automatic string     `json:"automatic,omitempty" doc:"whether automatic access flows give it to the person without being asked" enum:"has,has_not"`
}

// Moment is a time as RFC 3339 writes it.
type Moment struct{ time.Time }

// UnmarshalText reads RFC 3339.
func (m *Moment) UnmarshalText(text []byte) (err error) {
	if m.Time, err = time.Parse(time.RFC3339, string(text)); err != nil {
		return errors.New("must be a time such as 2025-01-01T12:00:00Z")
	}
	return nil
}

// Result is how a case went.
type Result struct {
	File string `json:"file"`
	Line int    `json:"line"`
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Failed is what is not as it was expected.
	Failed []string `json:"failed,omitempty"`
	// Says is what became of the request, in a sentence.
	Says string `json:"says"`
}

// Tests are the cases of a file, ready to be run.
type Tests struct {
	file  string
	cfg   config.Config
	cases []ready
}

// ready is a case with all that it names.
type ready struct {
	Case
	line int
	ask  access.Ask
}

// Parse reads a file of tests and holds it against the configuration. The error
// is spec.Faults: all that is wrong, in the order of the file.
func Parse(file string, src []byte, cfg config.Config, kinds integrations.Registry) (Tests, error) {
	root, err := config.Load(file, src)
	if err != nil {
		return Tests{}, err
	}
	var f File
	r := reader{root: root, cfg: cfg, kinds: kinds, directory: cfg.Humans()}
	r.faults = spec.Decode(root, "", &f)
	tests := Tests{file: file, cfg: cfg}
	seen := map[string]int{}
	for i, c := range f.Cases {
		r.at = []any{"cases", i}
		if first, twice := seen[c.Name]; twice && c.Name != "" {
			r.fault(fmt.Sprintf("cases[%d] is called so too", first), "is there twice", "name")
		}
		seen[c.Name] = i
		node, _ := spec.Locate(root, r.at...)
		tests.cases = append(tests.cases, ready{c, node.Line, r.ask(c)})
		r.expect(c.Expect)
	}
	r.faults.Sort()
	for i := range r.faults {
		r.faults[i].File = file
	}
	return tests, r.faults.Err()
}

// reader holds a file of tests against the configuration.
type reader struct {
	root      *yaml.Node
	cfg       config.Config
	kinds     integrations.Registry
	directory *access.Directory
	faults    spec.Faults
	at        []any // the case
}

func (r *reader) fault(fix, message string, steps ...any) {
	node, path := spec.Locate(r.root, slices.Concat(r.at, steps)...)
	if !slices.ContainsFunc(r.faults, func(f spec.Fault) bool { return f.Path == path }) {
		r.faults = append(r.faults, spec.Fault{Line: node.Line, Column: node.Column, Path: path, Message: message, Fix: fix})
	}
}

// person finds somebody by address.
func (r *reader) person(email string, steps ...any) access.Person {
	p, ok := r.directory.ByAddress(email)
	if !ok {
		var known []string
		for _, p := range r.directory.People() {
			known = append(known, p.Email)
		}
		r.fault(spec.DidYouMean(email, known), "is nobody among people", steps...)
	}
	return p
}

// ask is the request of a case.
func (r *reader) ask(c Case) access.Ask {
	a := access.Ask{By: r.person(c.Person, "person"), For: c.For, Now: c.At.Time, Start: c.StartAt.Time, BreakGlass: c.BreakGlass}
	if a.Person = a.By; c.OnBehalfOf != "" {
		a.Person = r.person(c.OnBehalfOf, "on_behalf_of")
	}
	if len(c.Wants) == 0 && c.Bundle == "" {
		r.fault("name something under wants, or a bundle", "asks for nothing")
	}
	for i, w := range c.Wants {
		if asked, ok := r.asked(w, "wants", i); ok {
			a.Asked = append(a.Asked, asked)
		}
	}
	at := slices.IndexFunc(r.cfg.Bundles, func(b config.Bundle) bool { return b.Name == c.Bundle })
	switch {
	case at >= 0:
		for _, item := range r.cfg.Bundles[at].Items {
			asked, _ := r.asked(Want{Integration: item.Integration, Resource: item.Resource, Permission: item.Permission}, "bundle")
			if !slices.ContainsFunc(a.Asked, func(b access.Asked) bool { return b.Entitlement == asked.Entitlement }) {
				a.Asked = append(a.Asked, asked)
			}
		}
	case c.Bundle != "":
		var names []string
		for _, b := range r.cfg.Bundles {
			names = append(names, b.Name)
		}
		r.fault(spec.DidYouMean(c.Bundle, names), "there is no such bundle", "bundle")
	}
	return a
}

// asked is one thing that a case asks for.
func (r *reader) asked(w Want, steps ...any) (a access.Asked, ok bool) {
	in, ok := r.cfg.Integration(w.Integration)
	if !ok {
		var names []string
		for _, in := range r.cfg.Integrations {
			names = append(names, in.Name)
		}
		r.fault(spec.DidYouMean(w.Integration, names), "there is no such integration", append(steps, "integration")...)
		return a, false
	}
	resource, err := access.ParseResource(w.Resource)
	if err != nil {
		r.fault("write TYPE:PATH, for example schema:shop/public", err.Error(), append(steps, "resource")...)
		return a, false
	}
	typ, known := r.kinds[in.Kind].Type(resource.Type)
	if !known {
		r.fault("", in.Kind+" has no such type of resources", append(steps, "resource")...)
		return a, false
	}
	var names []string
	for _, p := range typ.Permissions {
		names = append(names, p.Name)
	}
	if !slices.Contains(names, w.Permission) {
		r.fault(spec.DidYouMean(w.Permission, names), "is no permission of a "+typ.Name, append(steps, "permission")...)
		return a, false
	}
	return access.Asked{
		Entitlement: access.Entitlement{Integration: in.Name, Resource: resource, Permission: w.Permission}, Integration: in.Name,
		Tags: config.ApplyTags(in, access.Found{Resource: resource, Tags: w.Tags}), IntegrationOwner: in.IntegrationOwner, ResourceOwner: in.ResourceOwner,
	}, true
}

// expect checks that what is expected can be said at all.
func (r *reader) expect(e Expect) {
	var names []string
	for _, f := range r.cfg.AccessFlows {
		names = append(names, f.Name)
	}
	if e.Flow != "" && !slices.Contains(names, e.Flow) {
		r.fault(spec.DidYouMean(e.Flow, names), "there is no such access flow", "expect", "flow")
	}
	who := e.Approvers != nil || e.Steps != nil || len(e.MayNot) > 0
	switch {
	case e.Flow == "" && e.Refused == "" && e.Automatic == "" && !who:
		r.fault("write flow, refused, approvers, steps, may_not or automatic", "expects nothing", "expect")
	case e.Refused != "" && (e.Flow != "" || who):
		r.fault("leave out what cannot be beside it", "what is refused has neither a flow nor approvers", "expect", "refused")
	}
	for i, email := range e.Approvers {
		r.person(email, "expect", "approvers", i)
	}
	for i, step := range e.Steps {
		for k, email := range step {
			r.person(email, "expect", "steps", i, k)
		}
	}
	for i, email := range e.MayNot {
		r.person(email, "expect", "may_not", i)
	}
}

// Run judges every case.
func (t Tests) Run() []Result {
	out := make([]Result, len(t.cases))
	directory := t.cfg.Humans()
	for i, c := range t.cases {
		out[i] = Result{File: t.file, Line: c.line, Name: c.Name}
		out[i].Says, out[i].Failed = c.judge(t.cfg, directory)
		out[i].OK = len(out[i].Failed) == 0
	}
	return out
}

// judge says what becomes of the request of a case, and what of that is not as
// it was expected.
func (c ready) judge(cfg config.Config, directory *access.Directory) (says string, failed []string) {
	wrong := func(format string, args ...any) { failed = append(failed, fmt.Sprintf(format, args...)) }
	e := c.Expect
	if given := access.GivenBy(cfg.AccessFlows, c.ask); e.Automatic == "has" && len(given) == 0 {
		wrong("no automatic access flow gives it to %s", c.ask.Person.Email)
	} else if e.Automatic == "has_not" && len(given) > 0 {
		wrong("the automatic access flow %s gives it to %s", strings.Join(given, ", "), c.ask.Person.Email)
	}
	says = access.Explain(cfg.AccessFlows, c.ask).Text()
	m, why := c.matter(cfg, directory)
	if why != "" {
		says = why
	}
	asks := e.Flow != "" || e.Approvers != nil || e.Steps != nil || len(e.MayNot) > 0
	switch {
	case e.Refused != "" && why == "":
		wrong("it is not refused")
	case e.Refused != "" && !strings.Contains(strings.ToLower(why), strings.ToLower(e.Refused)):
		wrong("it is refused, and not with %q", e.Refused)
	case asks && why != "":
		wrong("it is refused")
	}
	if why != "" || !asks {
		return says, failed
	}
	if e.Flow != "" && m.Flow.Name != e.Flow {
		wrong("the access flow %s is used, and not %s", m.Flow.Name, e.Flow)
	}
	stages := m.Stages()
	if e.Approvers != nil {
		for _, s := range different("the first step", who(m.Approvers()), mains(directory, e.Approvers)) {
			wrong("%s", s)
		}
	}
	if e.Steps != nil && len(e.Steps) != len(stages) {
		wrong("there are %d steps, and not %d", len(stages), len(e.Steps))
	} else if e.Steps != nil {
		for i, want := range e.Steps {
			for _, s := range different(cmp.Or(stages[i].Name, fmt.Sprintf("step %d", i+1)), stages[i].Who, mains(directory, want)) {
				wrong("%s", s)
			}
		}
	}
	verdict := access.Approve
	if c.BreakGlass {
		verdict = access.Justify
	}
	for _, email := range e.MayNot {
		p, _ := directory.ByAddress(email)
		d := access.Decision{Verdict: verdict, By: p.ID, ByEmail: p.Email, Reason: "a test", At: m.Now}
		named := slices.ContainsFunc(stages, func(s access.Stage) bool { return slices.Contains(s.Who, p.Email) })
		if m.May(d) == "" || named {
			wrong("%s may %s it", p.Email, verdict)
		}
	}
	return says, failed
}

// matter is the request as the portal would make it, or why it would refuse.
func (c ready) matter(cfg config.Config, directory *access.Directory) (m access.Matter, why string) {
	flow, err := access.ChooseFlow(cfg.AccessFlows, c.ask)
	if err != nil {
		return m, err.Error()
	}
	if c.Reason != "" || len(c.Fields) > 0 {
		var faults []string
		for _, w := range flow.Faults(c.Reason, c.Fields) {
			faults = append(faults, w.Field+": "+w.Message)
		}
		if len(faults) > 0 {
			return m, strings.Join(faults, "; ")
		}
	}
	m = flow.Draft(c.ask, directory, cfg.Administrators)
	return m, m.Stuck()
}

// who are the addresses of people.
func who(people []access.Person) (list []string) {
	for _, p := range people {
		list = append(list, p.Email)
	}
	return list
}

// mains are the main addresses of those who are named by any of theirs.
func mains(d *access.Directory, emails []string) (list []string) {
	for _, email := range emails {
		p, _ := d.ByAddress(email)
		list = append(list, p.Email)
	}
	return list
}

// different says who may decide on a step and should not, or the other way.
func different(step string, have, want []string) (says []string) {
	for _, email := range have {
		if !slices.Contains(want, email) {
			says = append(says, fmt.Sprintf("%s may decide on %s", email, step))
		}
	}
	for _, email := range want {
		if !slices.Contains(have, email) {
			says = append(says, fmt.Sprintf("%s may not decide on %s", email, step))
		}
	}
	return says
}
