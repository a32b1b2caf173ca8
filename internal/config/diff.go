package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
)

// Line is one difference between two configurations. What was added or removed
// as a whole, or is one value, has no field.
type Line struct {
	Change string `json:"change"` // added, changed or removed
	What   string `json:"what"`   // administrators, two_person_changes, runbook, portal_url, notify, person, integration, access flow or access flows
	Name   string `json:"name,omitempty"`
	Field  string `json:"field,omitempty"`
	Old    string `json:"old,omitempty"` // as JSON; empty where there was none
	New    string `json:"new,omitempty"`
}

// String is "~ integration prod-pg: config.port: 5432 -> 5433".
func (l Line) String() string {
	s := map[string]string{"added": "+ ", "changed": "~ ", "removed": "- "}[l.Change] + l.What
	if l.Name != "" {
		s += " " + l.Name
	}
	if l.Field != "" {
		s += ": " + l.Field
	}
	if l.Change == "changed" {
		s += fmt.Sprintf(": %s -> %s", cmp.Or(l.Old, "none"), cmp.Or(l.New, "none"))
	}
	return s
}

// Values are the fields of what was added or removed as a whole, as "FIELD: JSON".
func (l Line) Values() (out []string) {
	var whole any
	if l.Change == "changed" || json.Unmarshal([]byte(cmp.Or(l.New, l.Old)), &whole) != nil {
		return nil
	}
	fields := map[string]string{}
	flatten("", whole, fields)
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		out = append(out, field+": "+fields[field])
	}
	return out
}

// Diff says what turns one configuration into another: the administrators,
// whether changes need two persons, the runbook, how people are told, then
// people, integrations, bundles and access flows by name, changed ones field by
// field, and at last the order of the access flows, because the first that admits
// a request is used. The places where secrets are kept are part of it, the
// secrets are not.
func Diff(from, to Config) []Line {
	lines := changes("administrators", "", from.Administrators, to.Administrators)
	lines = append(lines, changes("two_person_changes", "", from.TwoPersonChanges, to.TwoPersonChanges)...)
	lines = append(lines, changes("runbook", "", from.Runbook, to.Runbook)...)
	lines = append(lines, changes("portal_url", "", from.PortalURL, to.PortalURL)...)
	lines = append(lines, changes("notify", "", from.Notify, to.Notify)...)
	lines = append(lines, diffNamed("person", from.People, to.People, func(p Person) string { return p.Email })...)
	lines = append(lines, diffNamed("integration", from.Integrations, to.Integrations, func(i Integration) string { return i.Name })...)
	lines = append(lines, diffNamed("bundle", from.Bundles, to.Bundles, func(b Bundle) string { return b.Name })...)
	lines = append(lines, diffNamed("access flow", from.AccessFlows, to.AccessFlows, func(f access.Flow) string { return f.Name })...)
	return append(lines, order(flowNames(from), flowNames(to))...)
}

func flowNames(c Config) (names []string) {
	for _, f := range c.AccessFlows {
		names = append(names, f.Name)
	}
	return names
}

// order is a line where names that stay have moved, or a new one is not last.
func order(from, to []string) []Line {
	expected := slices.DeleteFunc(slices.Clone(from), func(name string) bool { return !slices.Contains(to, name) })
	for _, name := range to {
		if !slices.Contains(from, name) {
			expected = append(expected, name)
		}
	}
	if slices.Equal(expected, to) {
		return nil
	}
	return []Line{{Change: "changed", What: "access flows", Field: "order", Old: encoded(from), New: encoded(to)}}
}

func diffNamed[T any](what string, from, to []T, name func(T) string) (lines []Line) {
	old, new := byName(from, name), byName(to, name)
	all := maps.Clone(old)
	maps.Copy(all, new)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		before, was := old[name]
		after, is := new[name]
		switch {
		case !was:
			lines = append(lines, Line{Change: "added", What: what, Name: name, New: encoded(after)})
		case !is:
			lines = append(lines, Line{Change: "removed", What: what, Name: name, Old: encoded(before)})
		default:
			lines = append(lines, changes(what, name, before, after)...)
		}
	}
	return lines
}

func byName[T any](list []T, name func(T) string) map[string]T {
	m := make(map[string]T, len(list))
	for _, item := range list {
		m[name(item)] = item
	}
	return m
}

// changes compares two values field by field.
func changes(what, name string, from, to any) (lines []Line) {
	old, new := map[string]string{}, map[string]string{}
	flatten("", plain(from), old)
	flatten("", plain(to), new)
	all := maps.Clone(old)
	maps.Copy(all, new)
	for _, field := range slices.Sorted(maps.Keys(all)) {
		if old[field] != new[field] {
			lines = append(lines, Line{Change: "changed", What: what, Name: name, Field: field, Old: old[field], New: new[field]})
		}
	}
	return lines
}

// plain turns a part of a configuration into maps, lists and scalars.
func plain(v any) (p any) {
	if err := json.Unmarshal([]byte(encoded(v)), &p); err != nil {
		panic("config: decoding a part of the configuration failed: " + err.Error())
	}
	return p
}

// flatten writes each scalar, and each list of scalars, under its path.
func flatten(path string, v any, into map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		for key, item := range v {
			p := key
			if path != "" {
				p = path + "." + key
			}
			flatten(p, item, into)
		}
		return
	case []any:
		if len(v) > 0 && isObject(v[0]) {
			for i, item := range v {
				flatten(fmt.Sprintf("%s[%d]", path, i), item, into)
			}
			return
		}
	}
	into[path] = encoded(v)
}

// encoded is JSON as people read it: <, > and & stand as they are.
func encoded(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("config: encoding a part of the configuration failed: " + err.Error())
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func isObject(v any) bool { _, ok := v.(map[string]any); return ok }
