package describe

import (
	"fmt"
	"strings"

	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/spec"
)

// Markdown is what is declared of a kind: the head of its README and its page
// in docs/integrations, which lie at the same depth. The setup scripts are
// written for the examples of their options.
func Markdown(k integrations.Kind) (string, error) {
	d, err := New(k, examples(spec.Fields(k.Setup.Options())))
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s [How, and what is left out.](../../docs/certification.md)\n", d.Doc, d.Certification.Line(d.Name).Words())
	d.writeResources(&b)
	fmt.Fprintf(&b, "\n## Settings\n\nBelow `config` in `lapse.yaml`:\n\n%s", spec.Table(k.Config()))
	fmt.Fprintf(&b, "\nThe secret is a JSON object:\n\n%s", spec.Table(k.Secret()))
	d.writeSetup(&b, k.Setup.Language)
	fmt.Fprintf(&b, "\n## Open sessions\n\n%s\n", d.Sessions)
	if d.NativeExpiry {
		fmt.Fprintf(&b, "\n%s ends access by itself too, a little after Lapse does, also when Lapse is down. That ends no session.\n", d.Name)
	}
	b.WriteString("\n## Limits\n\n")
	for _, limit := range d.Limits {
		fmt.Fprintf(&b, "- %s\n", limit)
	}
	return b.String(), nil
}

func (d Kind) writeResources(b *strings.Builder) {
	b.WriteString("\n## What can be requested\n\n| resource | what it is | permissions |\n|---|---|---|\n")
	for _, t := range d.ResourceTypes {
		var names []string
		for _, p := range t.Permissions {
			names = append(names, "`"+p.Name+"`")
		}
		fmt.Fprintf(b, "| `%s:%s` | %s | %s |\n", t.Name, strings.Join(t.Path, "/"), cell(t.Doc), strings.Join(names, ", "))
	}
	b.WriteString("\n| permission | what it gives |\n|---|---|\n")
	for _, p := range d.Permissions() {
		fmt.Fprintf(b, "| `%s` | %s |\n", p.Name, cell(p.Doc))
	}
}

func (d Kind) writeSetup(b *strings.Builder, language string) {
	fmt.Fprintf(b, "\n## Setup\n\nAn administrator of the target runs one of these scripts. `lapse integrations describe %s --setup` writes them for your own names: "+
		"`--connector-name NAME` and `--set OPTION=NAME`, as often as needed. `lapse check NAME` then says what is missing, with the statement or setting that mends it.\n", d.Kind)
	b.WriteString("\n| option | example | meaning |\n|---|---|---|\n")
	for _, f := range d.SetupOptions {
		fmt.Fprintf(b, "| `%s` | `%s` | %s |\n", f.Name, example(f), cell(f.Doc))
	}
	for _, t := range d.Setup {
		fmt.Fprintf(b, "\n### %s\n\n%s\n\n```%s\n%s```\n", t.Name, t.Doc, language, t.Script)
	}
}

// example is a value of a field that its declaration knows.
func example(f spec.Field) string {
	if f.Example != "" {
		return f.Example
	}
	return f.Default
}

func examples(fields []spec.Field) Options {
	o := Options{}
	for _, f := range fields {
		o[f.Name] = []string{example(f)}
	}
	return o
}

// cell is text in a table.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// CertificationPage says of every kind what the suite found.
func CertificationPage(kinds integrations.Registry) (string, error) {
	list, err := List(kinds)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("# Certification\n\n" +
		"Every kind passes the same suite, `integrations/integrationtest`: against a real server, or against a fake that speaks as the vendor does. " +
		"`make test` fails when a run differs from what stands here; `make generate` writes it anew. `lapse integrations` has the same list.\n\n" +
		"| kind | certified against | server | cases | passed | left out |\n|---|---|---|---|---|---|\n")
	for _, c := range list {
		fmt.Fprintf(&b, "| [%s](integrations/%s.md) | %s | %s | %d | %d | %d |\n", c.Name, c.Kind, c.Against, cell(c.Server), c.Cases, c.Passed, len(c.Skipped))
	}
	for _, c := range list {
		if len(c.Skipped) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n## What is left out of %s\n\n| case | why |\n|---|---|\n", c.Name)
		for _, s := range c.Skipped {
			fmt.Fprintf(&b, "| %s | %s |\n", cell(s.Case), cell(s.Reason))
		}
	}
	return b.String(), nil
}
