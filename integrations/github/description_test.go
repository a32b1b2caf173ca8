package github_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/formatter"
	"github.com/vektah/gqlparser/v2/parser"
	"github.com/vektah/gqlparser/v2/validator"
	"github.com/vektah/gqlparser/v2/validator/rules"

	"github.com/lapse-access/lapse/integrations/github"
	"github.com/lapse-access/lapse/internal/certificationtest"
)

// The parts of GitHub's descriptions that the model is held to.
const (
	restFile    = "githubtest/testdata/rest.json"
	graphqlFile = "githubtest/testdata/schema.graphql"
)

// operations are those of the REST API that the room uses.
var operations = map[string][]string{
	"/user":                              {"get"},
	"/user/{account_id}":                 {"get"},
	"/users/{username}":                  {"get"},
	"/search/users":                      {"get"},
	"/orgs/{org}":                        {"get"},
	"/orgs/{org}/members":                {"get"},
	"/orgs/{org}/memberships/{username}": {"get", "put"},
	"/orgs/{org}/organization-roles":     {"get"},
	"/orgs/{org}/organization-roles/{role_id}/users":            {"get"},
	"/orgs/{org}/organization-roles/users/{username}/{role_id}": {"put", "delete"},
	"/orgs/{org}/custom-repository-roles":                       {"get"},
	"/orgs/{org}/teams":                                         {"get"},
	"/orgs/{org}/teams/{team_slug}/memberships/{username}":      {"get", "put", "delete"},
	"/orgs/{org}/teams/{team_slug}/external-groups":             {"get"},
	"/orgs/{org}/teams/{team_slug}/team-sync/group-mappings":    {"get"},
	"/repos/{owner}/{repo}/collaborators/{username}":            {"put", "delete"},
	"/repos/{owner}/{repo}/invitations":                         {"get"},
	"/repos/{owner}/{repo}/invitations/{invitation_id}":         {"patch", "delete"},
	"/app/installations/{installation_id}/access_tokens":        {"post"},
}

// TestDescription holds them against the descriptions that GitHub publishes,
// and with LAPSE_UPDATE=1 cuts it out anew. They are in the npm packages
// @octokit/openapi (generated/ghec.json) and @octokit/graphql-schema
// (schema.graphql): name the files in LAPSE_GITHUB_OPENAPI and LAPSE_GITHUB_GRAPHQL.
func TestDescription(t *testing.T) {
	for _, d := range []struct {
		variable, file string
		cut            func(t *testing.T, text []byte) []byte
	}{{"LAPSE_GITHUB_OPENAPI", restFile, cutREST}, {"LAPSE_GITHUB_GRAPHQL", graphqlFile, cutGraphQL}} {
		t.Run(d.file, func(t *testing.T) {
			source := os.Getenv(d.variable)
			if source == "" {
				t.Skipf("%s names no copy of GitHub's description", d.variable)
			}
			text, err := os.ReadFile(source)
			if err != nil {
				t.Fatal(err)
			}
			cut := d.cut(t, text)
			if certificationtest.Update {
				if err := os.WriteFile(d.file, cut, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if ours, err := os.ReadFile(d.file); err != nil || !bytes.Equal(ours, cut) {
				t.Errorf("%s is not what GitHub's description has: run this test with LAPSE_UPDATE=1 (%v)", d.file, err)
			}
		})
	}
}

// cutREST keeps the operations and what they refer to, without prose and examples.
func cutREST(t *testing.T, text []byte) []byte {
	var whole map[string]any
	if err := json.Unmarshal(text, &whole); err != nil {
		t.Fatal(err)
	}
	at := func(path ...string) any {
		var x any = whole
		for _, p := range path {
			x = x.(map[string]any)[p]
		}
		return x
	}
	paths, components := map[string]any{}, map[string]any{}
	var keep func(x any) any
	keep = func(x any) any {
		switch x := x.(type) {
		case []any:
			for n := range x {
				x[n] = keep(x[n])
			}
		case map[string]any:
			for key, v := range x {
				_, prose := v.(string)
				switch {
				case key == "description" && prose:
					x[key] = ""
				case strings.HasPrefix(key, "x-"), key == "examples", key == "example", key == "externalDocs", key == "summary" && prose, key == "tags" && x["operationId"] != nil, key == "headers":
					delete(x, key)
				case key == "$ref" && prose:
					ref := strings.Split(v.(string), "/")[1:]
					section, _ := components[ref[1]].(map[string]any)
					if section == nil {
						section = map[string]any{}
						components[ref[1]] = section
					}
					if section[ref[2]] == nil {
						section[ref[2]] = true
						section[ref[2]] = keep(at(ref...))
					}
				default:
					x[key] = keep(v)
				}
			}
		}
		return x
	}
	for path, methods := range operations {
		item := map[string]any{}
		for _, method := range methods {
			item[method] = keep(at("paths", path, method))
		}
		paths[path] = item
	}
	cut := map[string]any{"openapi": whole["openapi"], "paths": paths, "components": components,
		"info": map[string]any{"title": "GitHub REST API, the part that Lapse uses", "version": at("info", "version"), "license": at("info", "license")}}
	out, err := json.MarshalIndent(cut, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return append(out, '\n')
}

// cutGraphQL keeps the fields that the documents ask for and the types of their
// arguments.
func cutGraphQL(t *testing.T, text []byte) []byte {
	source, err := parser.ParseSchemas(validator.Prelude, &ast.Source{Name: "schema.graphql", Input: string(text)})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range source.Definitions {
		once := map[string]bool{}
		d.Fields = slices.DeleteFunc(d.Fields, func(f *ast.FieldDefinition) bool {
			defer func() { once[f.Name] = true }()
			return once[f.Name] // GitHub's own file has a field twice
		})
	}
	whole, err := validator.ValidateSchemaDocument(source)
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]map[string]bool{}
	types := map[string]bool{}
	var input func(name string)
	input = func(name string) {
		if types[name] {
			return
		}
		types[name] = true
		for _, f := range whole.Types[name].Fields {
			input(f.Type.Name())
		}
	}
	var walk func(set ast.SelectionSet)
	walk = func(set ast.SelectionSet) {
		for _, s := range set {
			switch s := s.(type) {
			case *ast.InlineFragment:
				walk(s.SelectionSet)
			case *ast.Field:
				on := s.ObjectDefinition.Name
				if fields[on] == nil {
					fields[on] = map[string]bool{}
				}
				fields[on][s.Name] = true
				types[on] = true
				types[s.Definition.Type.Name()] = true
				for _, a := range s.Definition.Arguments {
					input(a.Type.Name())
				}
				walk(s.SelectionSet)
			}
		}
	}
	for _, document := range github.Documents {
		doc, errs := gqlparser.LoadQueryWithRules(whole, document, rules.NewDefaultRules())
		if errs != nil {
			t.Fatalf("%s\n%v", document, errs)
		}
		for _, o := range doc.Operations {
			walk(o.SelectionSet)
		}
	}
	cut := &ast.SchemaDocument{}
	for _, name := range slices.Sorted(maps.Keys(types)) {
		d := *whole.Types[name]
		if d.BuiltIn {
			continue
		}
		if d.Kind == ast.Object || d.Kind == ast.Interface {
			d.Fields = slices.DeleteFunc(slices.Clone(d.Fields), func(f *ast.FieldDefinition) bool {
				return !fields[name][f.Name] && !(f.Name == "id" && slices.Contains(d.Interfaces, "Node")) && !(name == "Node" && f.Name == "id")
			})
		}
		d.Interfaces = slices.DeleteFunc(slices.Clone(d.Interfaces), func(n string) bool { return !types[n] })
		d.Types = slices.DeleteFunc(slices.Clone(d.Types), func(n string) bool { return !types[n] })
		d.Directives = nil
		cut.Definitions = append(cut.Definitions, &d)
	}
	var b bytes.Buffer
	b.WriteString("# GitHub's GraphQL schema, the part that Lapse uses. Copyright GitHub, MIT licence: see LICENSE.\n")
	formatter.NewFormatter(&b, formatter.WithoutDescription()).FormatSchemaDocument(cut)
	return b.Bytes()
}
