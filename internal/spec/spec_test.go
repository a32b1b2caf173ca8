package spec_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
	"pgregory.net/rapid"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/spec"
)

// settings has one field of every shape.
type settings struct {
	Host    string            `json:"host" doc:"address of the server" example:"db.example.com"`
	Port    int               `json:"port" doc:"TCP port" default:"5432" minimum:"1" maximum:"65535"`
	Mode    string            `json:"mode" doc:"how to connect" enum:"plain,encrypted" default:"encrypted"`
	Code    string            `json:"code,omitempty" doc:"a code" pattern:"^[a-z]+$" minLength:"2" maxLength:"4"`
	Every   access.Duration   `json:"every,omitzero" doc:"how often" default:"1h" minimum:"1m"`
	Keep    access.Days       `json:"keep,omitempty" doc:"how long" maximum:"30"`
	Quiet   bool              `json:"quiet,omitempty" doc:"says less"`
	Names   []string          `json:"names,omitempty" doc:"names" enum:"a,b,c" minItems:"1" maxItems:"2"`
	Labels  map[string]string `json:"labels,omitempty" doc:"labels" minItems:"1"`
	Nested  nested            `json:"nested,omitzero" doc:"more settings"`
	Pointer *required         `json:"pointer,omitempty" doc:"settings that may be left out as a whole"`
	Many    []required        `json:"many,omitempty" doc:"a list of settings"`
	Raw     json.RawMessage   `json:"raw,omitempty" doc:"declared elsewhere"`
	Ignored string            `json:"-"`
}

type nested struct {
	Depth int `json:"depth" doc:"how deep" default:"3"`
}

type required struct {
	Name string `json:"name" doc:"a name"`
}

type credential struct {
	Username string              `json:"username" doc:"name of the account" example:"lapse"`
	Password integrations.Secret `json:"password" doc:"its password" minLength:"4"`
	Token    token               `json:"token,omitempty" doc:"a token" writeOnly:"true"`
}

// token reads itself and repeats what it read in its error.
type token string

func (t *token) UnmarshalText(b []byte) error {
	_, err := time.Parse(time.DateOnly, string(b))
	return err
}

func decodeYAML(t testing.TB, src string, into any) spec.Faults {
	t.Helper()
	var node yaml.Node
	if err := yaml.Load([]byte(src), &node); err != nil {
		t.Fatal(err)
	}
	return spec.Decode(&node, "", into)
}

func TestDecode(t *testing.T) {
	const src = `
host: localhost
port: 1
code: abc
every: 2h
keep: 0.5
quiet: true
names: [a, c]
labels: {x: "1", y: ""}
pointer: {name: p}
many: [{name: m}, {name: n}]
raw: {anything: [goes]}
`
	var got settings
	if faults := decodeYAML(t, src, &got); len(faults) > 0 {
		t.Fatal(faults)
	}
	want := settings{
		Host: "localhost", Port: 1, Mode: "encrypted", Code: "abc", Every: access.Duration(2 * time.Hour), Keep: 0.5, Quiet: true,
		Names: []string{"a", "c"}, Labels: map[string]string{"x": "1", "y": ""}, Nested: nested{3},
		Pointer: &required{"p"}, Many: []required{{"m"}, {"n"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDefaults(t *testing.T) {
	want := settings{Host: "h", Port: 5432, Mode: "encrypted", Every: access.Duration(time.Hour), Nested: nested{3}}
	for _, src := range []string{`{"host": "h"}`, `{"host": "h", "port": null, "nested": {}}`} {
		var fromYAML, fromJSON settings
		if faults := slices.Concat(decodeYAML(t, src, &fromYAML), spec.DecodeJSON([]byte(src), "", &fromJSON)); len(faults) > 0 {
			t.Fatal(faults)
		}
		if diff := cmp.Diff(want, fromYAML); diff != "" {
			t.Error("YAML:", diff)
		}
		if diff := cmp.Diff(want, fromJSON); diff != "" {
			t.Error("JSON:", diff)
		}
	}
}

func TestDecodeFaults(t *testing.T) {
	for _, tt := range []struct {
		name, src string
		want      []string
	}{
		{"a key is missing", "port: 1", []string{`1:1: host: is missing (address of the server; for example db.example.com)`}},
		{"null is missing", "host:\nport: 1", []string{`1:1: host: is missing (address of the server; for example db.example.com)`}},
		{"a required text is empty", `host: ""`, []string{`1:7: host: must not be empty (address of the server; for example db.example.com)`}},
		{"a key is misspelt", "host: h\nprot: 1", []string{`2:1: prot: unknown key (did you mean port?)`}},
		{"a key is unknown", "host: h\nnested: {zzz: 1}", []string{`2:10: nested.zzz: unknown key (known are depth)`}},
		{"a key comes twice", "host: h\nport: 1\nport: 2", []string{`3:1: port: is given twice, first in line 2 (remove one of the two)`}},
		{"a label comes twice", "host: h\nlabels: {a: b, a: c}", []string{`2:16: labels.a: is given twice, first in line 2 (remove one of the two)`}},
		{"a text is a number", "host: 10", []string{`1:7: host: must be text, is a whole number (put it in quotes)`}},
		{"a text is a list", "host: [h]", []string{`1:7: host: must be text, is a list (address of the server; for example db.example.com)`}},
		{"a number is a text", `{host: h, port: "1"}`, []string{`1:17: port: must be a whole number, is text (TCP port)`}},
		{"a number is not plain", "host: h\nport: 0x10", []string{`2:7: port: must be a whole number in plain decimal digits (TCP port)`}},
		{"a number is too low", "host: h\nport: 0", []string{`2:7: port: must be from 1 to 65535 (TCP port)`}},
		{"a number is too high", "host: h\nport: 65536", []string{`2:7: port: must be from 1 to 65535 (TCP port)`}},
		{"a fraction is too high", "host: h\nkeep: 30.5", []string{`2:7: keep: must be at most 30 (how long)`}},
		{"a fraction is not a number", "host: h\nkeep: .nan", []string{`2:7: keep: must be a number in plain decimal digits (how long)`}},
		{"a truth is yes", "host: h\nquiet: yes", []string{`2:8: quiet: must be true or false, is text (says less)`}},
		{"a choice is misspelt", "host: h\nmode: plane", []string{`2:7: mode: must be one of plain, encrypted (did you mean plain?)`}},
		{"a text is short", "host: h\ncode: é", []string{`2:7: code: must have at least 2 characters, has 1 (a code)`}},
		{"a text is long", "host: h\ncode: abcdé", []string{`2:7: code: must have at most 4 characters, has 5 (a code)`}},
		{"a text is of the wrong form", "host: h\ncode: ABC", []string{`2:7: code: must match ^[a-z]+$ (a code)`}},
		{"a duration has no unit", "host: h\nevery: 60", []string{`2:8: every: duration "60": want a number with a unit, for example 30m, 8h or 1h30m (how often)`}},
		{"a duration is a list", "host: h\nevery: []", []string{`2:8: every: must be text, is a list (how often)`}},
		{"a duration is too short", "host: h\nevery: 59s", []string{`2:8: every: must be at least 1m (how often)`}},
		{"a list is a text", "host: h\nnames: a", []string{`2:8: names: must be a list, is text (names)`}},
		{"a list is empty", "host: h\nnames: []", []string{`2:8: names: has too few entries: 0, at least 1 (names)`}},
		{"a list is long", "host: h\nnames: [a, b, c]", []string{`2:8: names: has too many entries: 3, at most 2 (names)`}},
		{"an entry is wrong", "host: h\nnames: [a, x]", []string{`2:12: names[1]: must be one of a, b, c (did you mean a?)`}},
		{"an entry is empty", "host: h\nmany:\n- name: a\n-", []string{`4:2: many[1]: must be a mapping, is empty (a list of settings)`}},
		{"an entry lacks a key", "host: h\nmany:\n- {}", []string{`3:3: many[0].name: is missing (a name)`}},
		{"a mapping is empty", "host: h\nlabels: {}", []string{`2:9: labels: has too few entries: 0, at least 1 (labels)`}},
		{"a mapping is a list", "host: h\nlabels: []\nnested: []", []string{`2:9: labels: must be a mapping, is a list (labels)`, `3:9: nested: must be a mapping, is a list (more settings)`}},
		{"a key is no text", "host: h\nlabels: {1: a}", []string{`2:9: labels: has too few entries: 0, at least 1 (labels)`, `2:10: labels: a key must be text, is a whole number (put the key in quotes)`}},
		{"an alias", "host: &h h\ncode: *h", []string{`2:7: code: aliases are not supported (quote a text that begins with *, else write the value out)`}},
		{"a merge key", "host: h\n<<: {port: 1}", []string{`2:1: merge keys (<<) are not supported (write the keys out)`}},
		{"a tag", "host: !!binary aGk=\ncode: !x y", []string{`1:7: host: must be text, is of a type of its own (put it in quotes)`, `2:7: code: must be text, is of a type of its own (put it in quotes)`}},
		{"a date", "host: 2020-01-01", []string{`1:7: host: must be text, is a date (put it in quotes)`}},
		{"a scalar document", "hello", []string{`1:1: must be a mapping, is text (write it as KEY: VALUE pairs)`}},
		{"an empty document", "---\n", []string{`2:1: must be a mapping, is empty (write it as KEY: VALUE pairs)`}},
		{
			"all of it", "port: x\nmode: y\nnames: [a, b, q]\nzzz: 1",
			[]string{
				`1:1: host: is missing (address of the server; for example db.example.com)`,
				`1:7: port: must be a whole number, is text (TCP port)`,
				`2:7: mode: must be one of plain, encrypted (known are plain, encrypted)`,
				`3:8: names: has too many entries: 3, at most 2 (names)`,
				`3:15: names[2]: must be one of a, b, c (did you mean a?)`,
				`4:1: zzz: unknown key (known are host, port, mode, code, every, keep, quiet, names, labels, nested, pointer, many, raw)`,
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			faults := decodeYAML(t, tt.src, &settings{})
			if diff := cmp.Diff(strings.Join(tt.want, "\n"), faults.Error()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDecodeJSONFaults(t *testing.T) {
	for _, tt := range []struct{ name, src, want string }{
		{"nothing", ``, `config: is not valid JSON (write one JSON object)`},
		{"no JSON", `{"host": hunter2}`, `config: is not valid JSON at byte 10 (write one JSON object)`},
		{"more than one value", `{} {}`, `config: is not valid JSON at byte 4 (write one JSON object)`},
		{"no object", `"hunter2"`, `config: must be a mapping, is text (write it as KEY: VALUE pairs)`},
		{"a key twice", `{"host": "a", "host": "b"}`, `config.host: is given twice (remove one of the two)`},
		{"a float for an int", `{"host": "a", "port": 1.0}`, `config.port: must be a whole number, is a number (TCP port)`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, spec.DecodeJSON([]byte(tt.src), "config", &settings{}).Error()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSecretsAreReadAndNeverRepeated(t *testing.T) {
	var c credential
	if faults := spec.DecodeJSON([]byte(`{"username": "u", "password": "p\ud83d\ude00ss"}`), "", &c); len(faults) > 0 {
		t.Fatal(faults)
	}
	if c.Password.Reveal() != "p😀ss" {
		t.Error("the password was not read as it was written")
	}
	const canary = "hunter2"
	for _, src := range []string{
		`{"username": "u", "password": "` + canary[:3] + `"}`,
		`{"username": "u", "password": ["` + canary + `"]}`,
		`{"username": "u", "password": {"` + canary + `": 1}}`,
		`{"username": {"value": "` + canary + `"}, "password": "long enough"}`,
		`{"username": "u", "password": "long enough", "token": "` + canary + `"}`,
		`{"username": "u", "passwort": "` + canary + `"}`,
		`"` + canary + `"`,
		canary,
	} {
		faults := spec.DecodeJSON([]byte(src), "", &credential{})
		if len(faults) == 0 {
			t.Errorf("no fault in %s", src)
		}
		if strings.Contains(faults.Error(), canary[:3]) {
			t.Errorf("the fault repeats the secret: %v", faults)
		}
	}
}

func TestFields(t *testing.T) {
	type field = map[string]any
	b, err := json.Marshal(append(spec.Fields(&credential{}), spec.Fields(settings{})[9]))
	if err != nil {
		t.Fatal(err)
	}
	var got []field
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	want := []field{
		{"name": "username", "type": "string", "doc": "name of the account", "example": "lapse", "required": true, "min_length": 1.0},
		{"name": "password", "type": "string", "doc": "its password", "required": true, "secret": true, "min_length": 4.0},
		{"name": "token", "type": "string", "doc": "a token", "required": false, "secret": true},
		{"name": "nested", "type": "object", "doc": "more settings", "required": false, "fields": []any{
			field{"name": "depth", "type": "integer", "doc": "how deep", "default": "3", "required": false},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWrongDeclarationsPanic(t *testing.T) {
	for name, v := range map[string]any{
		"no doc": struct {
			A string `json:"a"`
		}{},
		"no json name": struct {
			A string `doc:"a"`
		}{},
		"a default of the wrong type": struct {
			A int `json:"a" doc:"a" default:"x"`
		}{},
		"an empty default that does not parse": struct {
			A int `json:"a" doc:"a" default:""`
		}{},
		"a default out of bounds": struct {
			A int `json:"a" doc:"a" default:"2" maximum:"1"`
		}{},
		"an example that is not allowed": struct {
			A []string `json:"a" doc:"a" example:"x,y" enum:"x"`
		}{},
		"a default that swallows the zero value": struct {
			A bool `json:"a,omitempty" doc:"a" default:"true"`
		}{},
		"a bound that is no number": struct {
			A int `json:"a" doc:"a" minimum:"x"`
		}{},
		"a bound of text": struct {
			A string `json:"a" doc:"a" maximum:"x"`
		}{},
		"a length that is no number": struct {
			A string `json:"a" doc:"a" maxLength:"x"`
		}{},
		"a pattern that does not compile": struct {
			A string `json:"a" doc:"a" pattern:"("`
		}{},
		"a type without a JSON type": struct {
			A chan int `json:"a" doc:"a"`
		}{},
		"a map of structs": struct {
			A map[string]nested `json:"a" doc:"a"`
		}{},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if r, _ := recover().(string); !strings.HasPrefix(r, "spec: ") {
					t.Errorf("did not panic as it should: %v", r)
				}
			}()
			spec.Fields(v)
		})
	}
}

func TestLocate(t *testing.T) {
	var root yaml.Node
	if err := yaml.Load([]byte("a:\n- b: {c.d: x}\n- y\n"), &root); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		steps        []any
		path         string
		line, column int
	}{
		{nil, "", 1, 1},
		{[]any{"a", 0, "b", "c.d"}, "a[0].b.c.d", 2, 12},
		{[]any{"a", 1}, "a[1]", 3, 3},
		{[]any{"a", 0, "missing", 5, "b"}, "a[0].missing[5].b", 2, 3},
		{[]any{"a", 7}, "a[7]", 2, 1},
		{[]any{"a", "b"}, "a.b", 2, 1},
	} {
		node, path := spec.Locate(&root, tt.steps...)
		if path != tt.path || node.Line != tt.line || node.Column != tt.column {
			t.Errorf("%v: %d:%d %s, want %d:%d %s", tt.steps, node.Line, node.Column, path, tt.line, tt.column, tt.path)
		}
	}
}

func TestDidYouMean(t *testing.T) {
	for _, tt := range []struct {
		word  string
		known []string
		want  string
	}{
		{"prot", []string{"host", "port"}, "did you mean port?"},
		{"HOST", []string{"host", "port"}, "did you mean host?"},
		{"databasename", []string{"hostname", "database_name"}, "did you mean database_name?"},
		{"x", []string{"host", "port"}, "known are host, port"},
		{"x", nil, "there is none"},
	} {
		if got := spec.DidYouMean(tt.word, tt.known); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.word, got, tt.want)
		}
	}
}

func compile(t testing.TB, v any) *jsonschema.Schema {
	t.Helper()
	b, err := json.Marshal(spec.Schema(v))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("settings.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("settings.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// TestSchemaAgrees holds the schema and the decoder against each other on
// documents that are right or wrong in every way the schema can express.
func TestSchemaAgrees(t *testing.T) {
	schema := compile(t, settings{})
	values := map[string][]any{
		"host":    {"h", "", 1, []any{}},
		"port":    {0, 1, 65535, 65536, 1.5, "1", true},
		"mode":    {"plain", "Plain", 1},
		"code":    {"a", "é", "ab", "abcd", "abcde", "AB"},
		"every":   {"1h", []any{}},
		"keep":    {0, 0.5, 30, 30.1, "1"},
		"quiet":   {true, false, "true", 0},
		"names":   {[]any{}, []any{"a"}, []any{"x"}, []any{"a", "b"}, []any{"a", "b", "c"}, "a", []any{nil}},
		"labels":  {map[string]any{}, map[string]any{"a": "b"}, map[string]any{"a": 1}, []any{}},
		"nested":  {map[string]any{}, map[string]any{"depth": 1}, map[string]any{"deep": 1}, 1},
		"pointer": {map[string]any{}, map[string]any{"name": "x"}, map[string]any{"name": ""}},
		"many":    {[]any{}, []any{map[string]any{}}, []any{map[string]any{"name": "x"}}, []any{1}},
		"raw":     {map[string]any{"a": 1}},
		"other":   {1},
	}
	keys := slices.Sorted(maps.Keys(values))
	rapid.Check(t, func(t *rapid.T) {
		doc := map[string]any{"host": "h"}
		for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom(keys), 0, 3, rapid.ID).Draw(t, "keys") {
			doc[key] = rapid.SampledFrom(values[key]).Draw(t, key)
		}
		if rapid.IntRange(0, 9).Draw(t, "without host") == 0 {
			delete(doc, "host")
		}
		src, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := jsonschema.UnmarshalJSON(strings.NewReader(string(src)))
		if err != nil {
			t.Fatal(err)
		}
		var got settings
		invalid, faults := schema.Validate(parsed), spec.DecodeJSON(src, "", &got)
		if (invalid == nil) != (len(faults) == 0) {
			t.Fatalf("%s: the schema says %v, the decoder %v", src, invalid, faults)
		}
		if len(faults) > 0 {
			return
		}
		// What was decoded can be stored as JSON and read back.
		stored, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		var again settings
		if faults := spec.DecodeJSON(stored, "", &again); len(faults) > 0 {
			t.Fatalf("%s: stored as %s: %v", src, stored, faults)
		}
		got.Raw, again.Raw = nil, nil
		if diff := cmp.Diff(got, again, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%s: stored as %s: %s", src, stored, diff)
		}
	})
}

func TestSchemaSaysWhatIsDeclared(t *testing.T) {
	properties := spec.Schema(settings{})["properties"].(map[string]any)
	want := map[string]any{
		"type": "string", "description": "how often", "default": access.Duration(time.Hour),
	}
	if diff := cmp.Diff(want, properties["every"]); diff != "" {
		t.Error(diff)
	}
	password := spec.Schema(credential{})["properties"].(map[string]any)["password"]
	want = map[string]any{"type": "string", "description": "its password", "writeOnly": true, "minLength": 4}
	if diff := cmp.Diff(want, password); diff != "" {
		t.Error(diff)
	}
}

func TestTable(t *testing.T) {
	const want = `| setting | type | default | meaning |
|---|---|---|---|
| ` + "`port`" + ` | integer, 1 to 65535 | ` + "`5432`" + ` | TCP port |
| ` + "`mode`" + ` | string: plain, encrypted | ` + "`encrypted`" + ` | how to connect |
| ` + "`nested.depth`" + ` | integer | ` + "`3`" + ` | how deep |
| ` + "`many[].name`" + ` | string | required | a \| b |
`
	type table struct {
		Port   int    `json:"port" doc:"TCP port" default:"5432" minimum:"1" maximum:"65535"`
		Mode   string `json:"mode" doc:"how to connect" enum:"plain,encrypted" default:"encrypted"`
		Nested nested `json:"nested,omitzero" doc:"more settings"`
		Many   []struct {
			Name string `json:"name" doc:"a | b"`
		} `json:"many,omitempty" doc:"a list of settings"`
	}
	if diff := cmp.Diff(want, spec.Table(table{})); diff != "" {
		t.Error(diff)
	}
}
