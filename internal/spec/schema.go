package spec

import "reflect"

// Schema returns the JSON Schema (2020-12) of a struct, given as a value or a
// pointer, for editors and forms.
func Schema(v any) map[string]any {
	s := objectSchema(Fields(v))
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	return s
}

func objectSchema(fields []Field) map[string]any {
	properties, required := map[string]any{}, []string{}
	for _, f := range fields {
		properties[f.Name] = f.schema()
		if f.Required {
			required = append(required, f.Name)
		}
	}
	return map[string]any{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
}

// schema of one setting: of its type, with what is declared of it.
func (f Field) schema() map[string]any {
	s := f.typeSchema(f.typ)
	s["description"] = f.Doc
	if f.Secret {
		s["writeOnly"] = true
	}
	if f.hasPreset {
		s["default"] = f.parse(f.Default)
	}
	if f.Example != "" && !f.Secret {
		s["examples"] = []any{f.parse(f.Example)}
	}
	return s
}

// parse returns the value that a tag writes out, ready to be encoded as JSON.
func (f Field) parse(text string) any {
	v := reflect.New(f.typ).Elem()
	if err := setText(v, text); err != nil {
		panic("spec: a tag that was checked does not parse: " + err.Error())
	}
	return v.Interface()
}

func (f Field) typeSchema(t reflect.Type) map[string]any {
	name, _ := jsonType(t)
	s := map[string]any{"type": name}
	set := func(key string, value int) {
		if value > 0 {
			s[key] = value
		}
	}
	switch {
	case isText(t), isRaw(t):
	case t.Kind() == reflect.Pointer:
		return f.typeSchema(t.Elem())
	case t.Kind() == reflect.Struct:
		return objectSchema(f.Fields)
	case t.Kind() == reflect.Map:
		s["additionalProperties"] = f.typeSchema(t.Elem())
		set("minProperties", f.MinItems)
		set("maxProperties", f.MaxItems)
	case t.Kind() == reflect.Slice:
		s["items"] = f.typeSchema(t.Elem())
		set("minItems", f.MinItems)
		set("maxItems", f.MaxItems)
	case t.Kind() == reflect.String:
		set("minLength", f.MinLength)
		set("maxLength", f.MaxLength)
		if f.Pattern != "" {
			s["pattern"] = f.Pattern
		}
		if f.Enum != nil {
			s["enum"] = f.Enum
		}
	default:
		if f.min != nil {
			s["minimum"] = *f.min
		}
		if f.max != nil {
			s["maximum"] = *f.max
		}
	}
	return s
}
