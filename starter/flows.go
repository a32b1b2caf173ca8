package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/flowtest"
	"github.com/lapse-access/lapse/internal/spec"
)

func (a *app) flowsCommand(kinds integrations.Registry) *cobra.Command {
	return group("flows", "Test the access flows of a lapse.yaml", a.flowsTestCommand(kinds))
}

func (a *app) flowsTestCommand(kinds integrations.Registry) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "test FILE...", Short: "Hold the access flows against files that say what they must do",
		Long: `Hold the access flows of a lapse.yaml against files that say what they must do:
which flow is used for a request, who may decide on it, and who may not. Nothing
is asked for, and no portal is needed: it runs where the file is changed.`,
		Example: `  lapse flows test -f lapse.yaml flows_test.yaml`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &failure{Text: cmd.CommandPath() + " needs files of tests", Hint: "docs/lapse-yaml.md has a sample"}
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			source, err := readFile(file)
			if err != nil {
				return &failure{Text: err.Error(), Hint: "-f names a file that can be read, or - for standard input"}
			}
			cfg, _, err := config.Parse(file, source, kinds)
			if err != nil {
				return faulty(file, err)
			}
			results := []flowtest.Result{}
			var faults spec.Faults
			for _, name := range args {
				source, err := readFile(name)
				if err != nil {
					return &failure{Text: err.Error(), Hint: "name files that can be read"}
				}
				tests, err := flowtest.Parse(name, source, cfg, kinds)
				if found, ok := errors.AsType[spec.Faults](err); ok {
					faults = append(faults, found...)
					continue
				}
				results = append(results, tests.Run()...)
			}
			if len(faults) > 0 {
				return faulty("the tests", faults)
			}
			return a.tested(results)
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "lapse.yaml", "`file` whose access flows are tested; - is standard input")
	return cmd
}

// faulty is the failure of a file in which something is wrong.
func faulty(what string, err error) error {
	f := &failure{Text: what + " cannot be used: see above", Hint: "nothing was tested"}
	faults, _ := errors.AsType[spec.Faults](err)
	f.Faults = faults
	return f
}

// tested prints what came of each case. What it found is on standard output also
// when a case failed.
func (a *app) tested(results []flowtest.Result) error {
	failed := 0
	for _, r := range results {
		if !r.OK {
			failed++
		}
	}
	err := a.show(struct {
		Cases []flowtest.Result `json:"cases"`
	}{results}, func(w io.Writer) {
		for _, r := range results {
			if r.OK {
				fmt.Fprintf(w, "ok    %s\n", clean(r.Name))
				continue
			}
			fmt.Fprintf(w, "FAIL  %s (%s:%d)\n", clean(r.Name), clean(r.File), r.Line)
			for _, what := range r.Failed {
				fmt.Fprintf(w, "      %s\n", clean(what))
			}
			fmt.Fprintf(w, "      %s\n", clean(r.Says))
		}
	})
	if err == nil && failed > 0 {
		return &failure{Text: fmt.Sprintf("%d of %s failed", failed, count(len(results), "case"))}
	}
	return err
}
