package spec

import (
	"fmt"
	"strings"
)

// Table returns the settings of a struct, given as a value or a pointer, as a
// Markdown table for the documentation.
func Table(v any) string {
	var b strings.Builder
	b.WriteString("| setting | type | default | meaning |\n|---|---|---|---|\n")
	writeRows(&b, "", Fields(v))
	return b.String()
}

func writeRows(b *strings.Builder, path string, fields []Field) {
	for _, f := range fields {
		name := join(path, f.Name)
		if f.Fields != nil {
			if f.Type == "array" {
				name += "[]"
			}
			writeRows(b, name, f.Fields)
			continue
		}
		preset := ""
		switch {
		case f.Required:
			preset = "required"
		case f.Default != "":
			preset = "`" + f.Default + "`"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", name, f.Type+f.allowed(), preset, strings.ReplaceAll(f.Doc, "|", `\|`))
	}
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
