package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/lapse-access/lapse/access"
)

// Line is one difference between two configurations. What was added or removed
// as a whole has no field.
type Line struct {
	Change string `json:"change"` // added, changed or removed
	What   string `json:"what"`   // administrators, runbook, person, integration or access flow
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
		s += fmt.Sprintf(": %s: %s -> %s", l.Field, cmp.Or(l.Old, "none"), cmp.Or(l.New, "none"))
	}
	return s
}

// Diff says what turns one configuration into another: the administrators,
// the runbook, then people, integrations and access flows by name, changed ones field by
// field. The places where secrets are kept are part of it, the secrets are
// not.
func Diff(from, to Config) []Line {
	lines := changes("administrators", "", from.Administrators, to.Administrators)
	lines = append(lines, changes("runbook", "", from.Runbook, to.Runbook)...)
	lines = append(lines, diffNamed("person", from.People, to.People, func(p Person) string { return p.Email })...)
	lines = append(lines, diffNamed("integration", from.Integrations, to.Integrations, func(i Integration) string { return i.Name })...)
	return append(lines, diffNamed("access flow", from.AccessFlows, to.AccessFlows, func(f access.Flow) string { return f.Name })...)
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
			lines = append(lines, Line{Change: "added", What: what, Name: name})
		case !is:
			lines = append(lines, Line{Change: "removed", What: what, Name: name})
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
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil {
		panic("config: encoding a part of the configuration failed: " + err.Error())
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
	b, err := json.Marshal(v)
	if err != nil {
		panic("config: encoding a scalar failed: " + err.Error())
	}
	into[path] = string(b)
}

func isObject(v any) bool { _, ok := v.(map[string]any); return ok }
