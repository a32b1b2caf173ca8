package spec

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Decode reads a YAML mapping into the struct that into points to. It is
// strict, applies the defaults, and returns every fault with its position;
// what is sound is set even so. A missing key has the position of the mapping
// that lacks it. A json.RawMessage is left as it is: its settings are declared
// elsewhere and read by a Decode of their own. path is put before the path of
// every fault.
func Decode(node *yaml.Node, path string, into any) Faults {
	v := reflect.ValueOf(into).Elem()
	if node.Kind == yaml.DocumentNode {
		node = node.Content[0]
	}
	var d decoder
	d.value(node, path, v, Field{Doc: "write it as KEY: VALUE pairs"})
	d.faults.Sort()
	return d.faults
}

// Locate finds the node at a path of keys (string) and indexes (int), or the
// nearest one above it, and writes the path out.
func Locate(root *yaml.Node, steps ...any) (node *yaml.Node, path string) {
	node = root
	if node.Kind == yaml.DocumentNode {
		node = node.Content[0]
	}
	found := true
	for _, step := range steps {
		var next *yaml.Node
		switch step := step.(type) {
		case int:
			path += "[" + strconv.Itoa(step) + "]"
			if node.Kind == yaml.SequenceNode && step < len(node.Content) {
				next = node.Content[step]
			}
		case string:
			path = join(path, clip(step))
			next = lookup(node, step)
		}
		if found = found && next != nil; found {
			node = next
		}
	}
	return node, path
}

func lookup(mapping *yaml.Node, key string) *yaml.Node {
	if mapping.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

type decoder struct{ faults Faults }

func (d *decoder) fault(n *yaml.Node, path, fix, format string, args ...any) {
	d.faults = append(d.faults, Fault{Line: n.Line, Column: n.Column, Path: path, Message: fmt.Sprintf(format, args...), Fix: fix})
}

func (d *decoder) value(n *yaml.Node, path string, v reflect.Value, f Field) {
	if n.Kind == yaml.AliasNode {
		d.fault(n, path, "quote a text that begins with *, else write the value out", "aliases are not supported")
		return
	}
	switch {
	case isRaw(v.Type()):
	case isText(v.Type()):
		d.text(n, path, v, f)
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, path, v.Elem(), f)
	case v.Kind() == reflect.Struct:
		d.object(n, path, v, f)
	case v.Kind() == reflect.Map:
		d.dictionary(n, path, v, f)
	case v.Kind() == reflect.Slice:
		d.list(n, path, v, f)
	default:
		d.scalar(n, path, v, f)
	}
}

// object reads a mapping into a struct.
func (d *decoder) object(n *yaml.Node, path string, v reflect.Value, f Field) {
	if n.Kind != yaml.MappingNode {
		d.fault(n, path, f.hint(), "must be a mapping, is %s", describe(n))
		return
	}
	fields := fieldsOf(v.Type())
	entries := d.entries(n, path)
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
		at := slices.IndexFunc(entries, func(e entry) bool { return e.key.Value == f.Name })
		switch {
		case at >= 0 && entries[at].value.ShortTag() != "!!null":
			d.value(entries[at].value, join(path, f.Name), v.Field(f.index), f)
		case f.Required:
			d.fault(n, join(path, f.Name), f.hint(), "is missing")
		default:
			preset(v.Field(f.index), f)
		}
	}
	for _, e := range entries {
		if !slices.Contains(names, e.key.Value) {
			d.fault(e.key, join(path, clip(e.key.Value)), DidYouMean(e.key.Value, names), "unknown key")
		}
	}
}

// preset sets the default of a field that is not given, also those inside an
// object that may be left out.
func preset(v reflect.Value, f Field) {
	if f.hasPreset {
		if err := setText(v, f.Default); err != nil {
			panic("spec: a default that was checked does not parse: " + err.Error())
		}
		return
	}
	if v.Kind() == reflect.Struct && !isText(v.Type()) {
		for _, inner := range f.Fields {
			preset(v.Field(inner.index), inner)
		}
	}
}

// dictionary reads a mapping into a map.
func (d *decoder) dictionary(n *yaml.Node, path string, v reflect.Value, f Field) {
	if n.Kind != yaml.MappingNode {
		d.fault(n, path, f.hint(), "must be a mapping, is %s", describe(n))
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, e := range d.entries(n, path) {
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(e.value, join(path, clip(e.key.Value)), item, f)
		v.SetMapIndex(reflect.ValueOf(e.key.Value).Convert(v.Type().Key()), item)
	}
	d.count(n, path, v.Len(), f)
}

type entry struct{ key, value *yaml.Node }

// entries returns the entries of a mapping whose keys are sound.
func (d *decoder) entries(n *yaml.Node, path string) []entry {
	var entries []entry
	line := map[string]int{} // of the keys seen
	for pair := range slices.Chunk(n.Content, 2) {
		key := pair[0]
		first, twice := line[key.Value]
		switch {
		case key.ShortTag() == "!!merge":
			d.fault(key, path, "write the keys out", "merge keys (<<) are not supported")
		case key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str":
			d.fault(key, path, "put the key in quotes", "a key must be text, is %s", describe(key))
		case twice && first > 0:
			d.fault(key, join(path, clip(key.Value)), "remove one of the two", "is given twice, first in line %d", first)
		case twice:
			d.fault(key, join(path, clip(key.Value)), "remove one of the two", "is given twice")
		default:
			line[key.Value] = key.Line
			entries = append(entries, entry{key, pair[1]})
		}
	}
	return entries
}

func (d *decoder) list(n *yaml.Node, path string, v reflect.Value, f Field) {
	if n.Kind != yaml.SequenceNode {
		d.fault(n, path, f.hint(), "must be a list, is %s", describe(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		d.value(item, path+"["+strconv.Itoa(i)+"]", v.Index(i), f)
	}
	d.count(n, path, v.Len(), f)
}

func (d *decoder) count(n *yaml.Node, path string, have int, f Field) {
	if have < f.MinItems {
		d.fault(n, path, f.hint(), "has too few entries: %d, at least %d", have, f.MinItems)
	}
	if f.MaxItems > 0 && have > f.MaxItems {
		d.fault(n, path, f.hint(), "has too many entries: %d, at most %d", have, f.MaxItems)
	}
}

// text reads a scalar by the type's own UnmarshalText, whose error may repeat
// the value unless the field is secret.
func (d *decoder) text(n *yaml.Node, path string, v reflect.Value, f Field) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
		d.fault(n, path, f.hint(), "must be text, is %s", describe(n))
		return
	}
	if err := setText(v, n.Value); err != nil {
		message := err.Error()
		if f.Secret {
			message = "cannot be read"
		}
		d.fault(n, path, f.hint(), "%s", message)
		return
	}
	d.bounds(n, path, v, f)
}

// scalarTypes are the YAML tags that each type of value takes, and its name.
var scalarTypes = map[reflect.Kind]struct {
	name string
	tags []string
	fix  string
}{
	reflect.String:  {"text", []string{"!!str"}, "put it in quotes"},
	reflect.Bool:    {"true or false", []string{"!!bool"}, ""},
	reflect.Int:     {"a whole number", []string{"!!int"}, ""},
	reflect.Int64:   {"a whole number", []string{"!!int"}, ""},
	reflect.Float64: {"a number", []string{"!!int", "!!float"}, ""},
}

func (d *decoder) scalar(n *yaml.Node, path string, v reflect.Value, f Field) {
	want := scalarTypes[v.Kind()]
	if n.Kind != yaml.ScalarNode || !slices.Contains(want.tags, n.ShortTag()) {
		fix := f.hint()
		if n.Kind == yaml.ScalarNode && n.ShortTag() != "!!null" && want.fix != "" {
			fix = want.fix
		}
		d.fault(n, path, fix, "must be %s, is %s", want.name, describe(n))
		return
	}
	if err := setText(v, n.Value); err != nil {
		d.fault(n, path, f.hint(), "must be %s in plain decimal digits", want.name)
		return
	}
	d.bounds(n, path, v, f)
}

func (d *decoder) bounds(n *yaml.Node, path string, v reflect.Value, f Field) {
	problem := f.problem(v)
	switch {
	case problem == "":
	case f.Enum != nil && n.Value != "":
		d.fault(n, path, DidYouMean(n.Value, f.Enum), "%s", problem)
	default:
		d.fault(n, path, f.hint(), "%s", problem)
	}
}

// describe names what a node is, without its value.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.ShortTag() {
	case "!!str":
		return "text"
	case "!!int":
		return "a whole number"
	case "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!null":
		return "empty"
	case "!!timestamp":
		return "a date"
	}
	return "of a type of its own"
}

// clip keeps a key that is repeated in a fault short and on one line.
func clip(key string) string {
	const most = 40
	key = strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, key)
	if r := []rune(key); len(r) > most {
		return string(r[:most]) + "..."
	}
	return key
}
