package describe

import (
	"fmt"
	"strings"

	"github.com/lapse-access/lapse/access"
)

// Findings is a table of what a sweep can find, as Markdown.
func Findings() string {
	var b strings.Builder
	b.WriteString("| finding | severity | meaning | repaired | how |\n|---|---|---|---|---|\n")
	when := map[access.RepairMode]string{access.RepairAlways: "by each sweep", access.RepairByPolicy: "where `sweep.repair` or somebody says so", access.RepairNever: "no"}
	for _, s := range access.FindingSorts {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", s.Kind, s.Severity, s.Doc, when[s.Mode], s.Repair)
	}
	return b.String()
}
