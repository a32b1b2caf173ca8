package rediscloud_test

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/lapse-access/lapse/integrations/rediscloud"
)

// TestDescription holds testdata/api.json, on which the model rests, against the
// vendor's own description, which its licence keeps out of this repository. Name
// a copy in LAPSE_REDISCLOUD_OPENAPI.
func TestDescription(t *testing.T) {
	ours := readDescription(t)
	file := os.Getenv("LAPSE_REDISCLOUD_OPENAPI")
	if file == "" {
		t.Skipf("LAPSE_REDISCLOUD_OPENAPI names no copy of %s", ours.Source)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v vendor
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	for name, o := range ours.Operations {
		method, path, _ := strings.Cut(name, " ")
		theirs, ok := v.Paths["/v1"+path][strings.ToLower(method)]
		if !ok {
			t.Errorf("%s: the vendor has no such operation", name)
			continue
		}
		answer, ok := theirs.Responses[strconv.Itoa(o.Status)]
		if !ok {
			t.Errorf("%s: the vendor answers no %d", name, o.Status)
		}
		var query []string
		for _, p := range theirs.Parameters {
			if p.In == "query" {
				query = append(query, p.Name)
			}
		}
		if len(o.Query) > 0 && !slices.Equal(slices.Sorted(slices.Values(query)), slices.Sorted(slices.Values(o.Query))) {
			t.Errorf("%s: parameters %v, want %v", name, o.Query, query)
		}
		for _, content := range answer.Content {
			s := v.resolve(content.Schema)
			for _, path := range o.Answer {
				if !v.has(s, s.Example, strings.Split(path, ".")) {
					t.Errorf("%s: the vendor's answer has no %s", name, path)
				}
			}
		}
		body := theirs.Body.Content["application/json"].Schema
		switch {
		case o.Body == nil && body.Ref != "":
			t.Errorf("%s: the vendor wants a body", name)
		case o.Body != nil:
			v.compare(t, name, ours, *o.Body, v.resolve(body))
		}
	}
	task := v.Components.Schemas["TaskStateUpdate"]
	if got := slices.Sorted(maps.Keys(task.Properties)); !slices.Equal(got, slices.Sorted(slices.Values(ours.Task.Properties))) {
		t.Errorf("a task has %v", got)
	}
	if got := task.Properties["status"].Enum; !slices.Equal(got, ours.Task.Statuses) {
		t.Errorf("the statuses of a task are %v", got)
	}
	known := v.Components.Schemas["ProcessorResponse"].Properties["error"].Enum
	for _, code := range append(rediscloud.VendorCodes(), "ACL_ROLE_REDIS_RULES_IS_MISSING", "ACL_ROLE_REDIS_RULES_DATABASES_REGION_MUST_BE_CRDB",
		"ACL_ROLE_REDIS_RULES_DATABASES_REGIONS_IS_MISSING", "ACL_USER_PASSWORD_NOT_VALID", "ACL_ROLE_REDIS_RULES_DATABASES_SPEC_IS_MISSING") {
		if !slices.Contains(known, code) {
			t.Errorf("the vendor has no code %s", code)
		}
	}
}

// vendor is the part of an OpenAPI description that is looked at.
type vendor struct {
	Paths map[string]map[string]struct {
		Parameters []struct{ Name, In string }
		Body       struct{ Content map[string]content } `json:"requestBody"`
		Responses  map[string]struct{ Content map[string]content }
	}
	Components struct{ Schemas map[string]schema }
}

type content struct{ Schema schema }

type schema struct {
	Ref        string `json:"$ref"`
	Type       string
	Properties map[string]schema
	Required   []string
	Items      *schema
	Enum       []string
	ReadOnly   bool
	Example    any
}

func (v vendor) resolve(s schema) schema {
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		return v.Components.Schemas[name]
	}
	return s
}

// has looks for a property in the schema or, where that says nothing, in the
// example, which is all that there is of lists.
func (v vendor) has(s schema, example any, path []string) bool {
	if len(path) == 0 {
		return true
	}
	s = v.resolve(s)
	if p, ok := s.Properties[path[0]]; ok && (len(path) == 1 || len(v.resolve(p).Properties) > 0) {
		return v.has(p, nil, path[1:])
	}
	if list, ok := example.([]any); ok {
		return slices.ContainsFunc(list, func(x any) bool { return v.has(schema{}, x, path) })
	}
	object, _ := example.(map[string]any)
	x, ok := object[path[0]]
	return ok && v.has(schema{}, x, path[1:])
}

// compare holds a shape against a schema, without what only the vendor fills in.
func (v vendor) compare(t *testing.T, name string, d description, s shape, want schema) {
	t.Helper()
	if !slices.Equal(slices.Sorted(slices.Values(want.Required)), slices.Sorted(slices.Values(s.Required))) {
		t.Errorf("%s: %v is required, want %v", name, s.Required, want.Required)
	}
	for property, theirs := range want.Properties {
		ours, ok := s.Properties[property]
		if ok == theirs.ReadOnly {
			t.Errorf("%s: property %s is there: %t; the vendor fills it in: %t", name, property, ok, theirs.ReadOnly)
			continue
		}
		theirs = v.resolve(theirs)
		switch {
		case !ok:
		case ours == "strings":
			if theirs.Type != "array" || theirs.Items.Type != "string" {
				t.Errorf("%s: %s is no list of strings", name, property)
			}
		case theirs.Type == "array":
			v.compare(t, name+" "+property, d, d.Bodies[ours], v.resolve(*theirs.Items))
		case ours != theirs.Type:
			t.Errorf("%s: %s is a %s, want %s", name, property, ours, theirs.Type)
		}
	}
	for property := range s.Properties {
		if _, ok := want.Properties[property]; !ok {
			t.Errorf("%s: the vendor knows no %s", name, property)
		}
	}
}
