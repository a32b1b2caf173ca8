package spec

import (
	"fmt"
	"strings"
)

// Row is one setting in a table for people.
type Row struct {
	Name     string // with the names of the objects in which it stands
	Type     string // with the values of the type that it takes
	Required bool
	Default  string
	Doc      string
}

// Rows returns the settings as they stand in a table, one for each that holds a
// value of its own.
func Rows(fields []Field) []Row { return rows("", fields) }

func rows(path string, fields []Field) (list []Row) {
	for _, f := range fields {
		name := join(path, f.Name)
		if f.Fields != nil {
			if f.Type == "array" {
				name += "[]"
			}
			list = append(list, rows(name, f.Fields)...)
			continue
		}
		list = append(list, Row{Name: name, Type: f.Type + f.allowed(), Required: f.Required, Default: f.Default, Doc: f.Doc})
	}
	return list
}

// Table returns the settings of a struct, given as a value or a pointer, as a
// Markdown table for the documentation.
func Table(v any) string {
	var b strings.Builder
	b.WriteString("| setting | type | default | meaning |\n|---|---|---|---|\n")
	for _, r := range Rows(Fields(v)) {
		preset := ""
		switch {
		case r.Required:
			preset = "required"
		case r.Default != "":
			preset = "`" + r.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.Name, r.Type, preset, strings.ReplaceAll(r.Doc, "|", `\|`))
	}
	return b.String()
}

// allowed says which values of the type the setting takes.
func (f Field) allowed() string {
	switch {
	case f.Enum != nil:
		return ": " + strings.Join(f.Enum, ", ")
	case f.Minimum != "" && f.Maximum != "":
		return ", " + f.Minimum + " to " + f.Maximum
	case f.Minimum != "":
		return ", at least " + f.Minimum
	case f.Maximum != "":
		return ", at most " + f.Maximum
	}
	return ""
}
