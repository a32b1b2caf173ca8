// Package spec reads the one declaration that every setting has: the tags of a
// struct field. From the same tags come the strict reading of YAML and JSON
// with all faults at once, the JSON Schema for editors and forms, and the
// tables of the documentation.
//
//	type Config struct {
//		Hostname string `json:"hostname" doc:"address of the server" example:"db.example.com"`
//		Port     int    `json:"port" doc:"TCP port" default:"5432" minimum:"1" maximum:"65535"`
//	}
//
// The tags are json (the key), doc, example, default, enum, pattern, minimum,
// maximum, minLength, maxLength, minItems, maxItems and writeOnly. On a list
// the items tags count its entries and the others hold for each entry. A field
// is required unless it has a default or says omitempty or omitzero. A type
// with UnmarshalText is text; its bounds are written as that text.
//
// A declaration that contradicts itself is a programming error: it panics when
// it is first used.
package spec

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Field is the declaration of one setting.
type Field struct {
	Name string `json:"name"`
	// Type is the JSON type: string, integer, number, boolean, array or object.
	Type     string `json:"type"`
	Doc      string `json:"doc"`
	Required bool   `json:"required"`
	// Secret values are never written out.
	Secret    bool     `json:"secret,omitempty"`
	Example   string   `json:"example,omitempty"`
	Default   string   `json:"default,omitempty"`
	Enum      []string `json:"enum,omitempty"`
	Pattern   string   `json:"pattern,omitempty"`
	Minimum   string   `json:"minimum,omitempty"`
	Maximum   string   `json:"maximum,omitempty"`
	MinLength int      `json:"min_length,omitempty"`
	MaxLength int      `json:"max_length,omitempty"` // 0 is no limit
	MinItems  int      `json:"min_items,omitempty"`
	MaxItems  int      `json:"max_items,omitempty"` // 0 is no limit
	// Fields are those of an object, or of each object of an array.
	Fields []Field `json:"fields,omitempty"`

	index     int
	typ       reflect.Type
	hasPreset bool
	pattern   *regexp.Regexp
	min, max  *float64
}

// Fields returns the declarations of a struct, given as a value or a pointer,
// in the order in which they are declared.
func Fields(v any) []Field { return fieldsOf(reflect.Indirect(reflect.ValueOf(v)).Type()) }

var cache sync.Map // of reflect.Type to []Field

func fieldsOf(t reflect.Type) []Field {
	if known, ok := cache.Load(t); ok {
		return known.([]Field)
	}
	var fields []Field
	for i := range t.NumField() {
		sf := t.Field(i)
		name, options, _ := strings.Cut(sf.Tag.Get("json"), ",")
		if !sf.IsExported() || name == "-" {
			continue
		}
		f, err := newField(sf, name, strings.Contains(options, "omit"))
		if err != nil {
			panic(fmt.Sprintf("spec: %s.%s: %v", t, sf.Name, err))
		}
		f.index = i
		fields = append(fields, f)
	}
	cache.Store(t, fields)
	return fields
}

func newField(sf reflect.StructField, name string, optional bool) (f Field, err error) {
	tag := sf.Tag.Get
	f = Field{
		Name: name, Doc: tag("doc"), Example: tag("example"), Pattern: tag("pattern"),
		Minimum: tag("minimum"), Maximum: tag("maximum"), typ: sf.Type,
	}
	if name == "" || f.Doc == "" {
		return f, fmt.Errorf("needs a json name and a doc")
	}
	f.Default, f.hasPreset = sf.Tag.Lookup("default")
	f.Required = !optional && !f.hasPreset
	if enum := tag("enum"); enum != "" {
		f.Enum = strings.Split(enum, ",")
	}
	if f.Pattern != "" {
		if f.pattern, err = regexp.Compile(f.Pattern); err != nil {
			return f, err
		}
	}
	for name, into := range map[string]*int{"minLength": &f.MinLength, "maxLength": &f.MaxLength, "minItems": &f.MinItems, "maxItems": &f.MaxItems} {
		if s := tag(name); s != "" {
			if *into, err = strconv.Atoi(s); err != nil {
				return f, fmt.Errorf("%s: %w", name, err)
			}
		}
	}

	item := f.typ
	for item.Kind() == reflect.Pointer || isList(item) {
		item = item.Elem()
	}
	if item.Kind() == reflect.Struct && !isText(item) {
		f.Fields = fieldsOf(item)
	}
	_, reveals := reflect.Zero(item).Interface().(interface{ Reveal() string })
	f.Secret = reveals || tag("writeOnly") == "true"
	if f.Type, err = jsonType(f.typ); err != nil {
		return f, err
	}
	if f.Required && item.Kind() == reflect.String && f.MinLength == 0 {
		f.MinLength = 1 // required text is not empty
	}
	if f.min, err = bound(item, f.Minimum); err != nil {
		return f, err
	}
	if f.max, err = bound(item, f.Maximum); err != nil {
		return f, err
	}
	return f, f.checkDeclared(optional)
}

// bound reads a minimum or maximum as a value of the field's own type.
func bound(t reflect.Type, text string) (*float64, error) {
	if text == "" {
		return nil, nil
	}
	v := reflect.New(t).Elem()
	if err := setText(v, text); err != nil {
		return nil, fmt.Errorf("bound %q: %w", text, err)
	}
	n, ok := number(v)
	if !ok {
		return nil, fmt.Errorf("bound %q on a type that is no number", text)
	}
	return &n, nil
}

// checkDeclared holds the example and the default against the other tags.
func (f Field) checkDeclared(optional bool) error {
	for name, text := range map[string]string{"example": f.Example, "default": f.Default} {
		if text == "" && !(name == "default" && f.hasPreset) {
			continue
		}
		v := reflect.New(f.typ).Elem()
		if err := setText(v, text); err != nil {
			return fmt.Errorf("%s %q: %w", name, text, err)
		}
		if problem := f.problem(v); problem != "" {
			return fmt.Errorf("%s %q: %s", name, text, problem)
		}
		zero := reflect.Zero(f.typ)
		if name == "default" && optional && !v.IsZero() && f.problem(zero) == "" {
			return fmt.Errorf("omitting the zero value when it is encoded makes it the default %q when it is decoded; remove omitempty", text)
		}
	}
	return nil
}

// problem says which bound of the declaration a single value, or an entry of a
// list of such, breaks. It never repeats the value.
func (f Field) problem(v reflect.Value) string {
	if isList(v.Type()) {
		for i := range v.Len() {
			if p := f.problem(v.Index(i)); p != "" {
				return p
			}
		}
		return ""
	}
	if n, ok := number(v); ok {
		low, high := f.min != nil && n < *f.min, f.max != nil && n > *f.max
		switch {
		case (low || high) && f.min != nil && f.max != nil:
			return fmt.Sprintf("must be from %s to %s", f.Minimum, f.Maximum)
		case low:
			return "must be at least " + f.Minimum
		case high:
			return "must be at most " + f.Maximum
		}
	}
	if v.Kind() != reflect.String {
		return ""
	}
	s := v.String()
	length := len([]rune(s))
	switch {
	case f.Enum != nil && !slices.Contains(f.Enum, s):
		return "must be one of " + strings.Join(f.Enum, ", ")
	case s == "" && f.MinLength > 0:
		return "must not be empty"
	case length < f.MinLength:
		return fmt.Sprintf("must have at least %d characters, has %d", f.MinLength, length)
	case f.MaxLength > 0 && length > f.MaxLength:
		return fmt.Sprintf("must have at most %d characters, has %d", f.MaxLength, length)
	case f.pattern != nil && !f.pattern.MatchString(s):
		return "must match " + f.Pattern
	}
	return ""
}

// hint is the way out that the declaration itself knows.
func (f Field) hint() string {
	if f.Example == "" {
		return f.Doc
	}
	return f.Doc + "; for example " + f.Example
}

// isText reports whether a type reads itself from text.
func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// isRaw reports whether a type holds settings that are declared elsewhere.
func isRaw(t reflect.Type) bool { return t == reflect.TypeFor[json.RawMessage]() }

func isList(t reflect.Type) bool { return t.Kind() == reflect.Slice && !isRaw(t) && !isText(t) }

func jsonType(t reflect.Type) (string, error) {
	switch {
	case isText(t):
		return "string", nil
	case isRaw(t):
		return "object", nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		return jsonType(t.Elem())
	case reflect.String:
		return "string", nil
	case reflect.Bool:
		return "boolean", nil
	case reflect.Int, reflect.Int64:
		return "integer", nil
	case reflect.Float64:
		return "number", nil
	case reflect.Slice:
		_, err := jsonType(t.Elem())
		return "array", err
	case reflect.Map:
		if elem, err := jsonType(t.Elem()); err != nil || elem == "object" || t.Key().Kind() != reflect.String {
			return "", fmt.Errorf("a map goes from strings to simple values")
		}
		return "object", nil
	case reflect.Struct:
		return "object", nil
	}
	return "", fmt.Errorf("settings of type %s are not supported", t)
}

// number returns the value of the types that can have bounds.
func number(v reflect.Value) (float64, bool) {
	switch {
	case v.CanInt():
		return float64(v.Int()), true
	case v.CanFloat():
		return v.Float(), true
	}
	return 0, false
}

// setText sets a value from the text of a tag or of a scalar. The entries of a
// list stand between commas.
func setText(v reflect.Value, s string) (err error) {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(s))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Bool:
		var b bool
		b, err = strconv.ParseBool(s)
		v.SetBool(b)
	case reflect.Int, reflect.Int64:
		var n int64
		n, err = strconv.ParseInt(s, 10, v.Type().Bits())
		v.SetInt(n)
	case reflect.Float64:
		var n float64
		n, err = strconv.ParseFloat(s, 64)
		v.SetFloat(n)
	case reflect.Slice:
		for _, part := range strings.Split(s, ",") {
			item := reflect.New(v.Type().Elem()).Elem()
			if err := setText(item, strings.TrimSpace(part)); err != nil {
				return err
			}
			v.Set(reflect.Append(v, item))
		}
	default:
		return fmt.Errorf("a %s cannot be written in a tag", v.Type())
	}
	return err
}
