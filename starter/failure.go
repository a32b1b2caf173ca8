package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/lapse-access/lapse/internal/spec"
	"github.com/lapse-access/lapse/portal/api"
)

// failure is why a command did not do what it was asked, and what to do.
type failure struct {
	Text string `json:"error"`
	Hint string `json:"hint,omitempty"`
	// Status is that of the API's answer, where the API said no.
	Status int          `json:"status,omitempty"`
	Errors []api.Wrong  `json:"errors,omitempty"`
	Faults []spec.Fault `json:"faults,omitempty"`
	// What was found or reached all the same.
	Request *api.Request `json:"request,omitempty"`
	Check   *api.Check   `json:"check,omitempty"`
	Audit   *api.Audit   `json:"audit,omitempty"`
	Removal *api.Removal `json:"removal,omitempty"`

	detail func(w io.Writer) // printed before the error, in text
}

func (f *failure) Error() string { return f.Text }

func (f *failure) print(w io.Writer, asJSON bool) {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		e.Encode(f)
		return
	}
	if f.detail != nil {
		f.detail(w)
	}
	for _, fault := range f.Faults {
		fmt.Fprintln(w, clean(fault.String()))
	}
	fmt.Fprintln(w, "lapse:", clean(f.Text))
	if len(f.Errors) > 1 {
		for _, e := range f.Errors {
			fmt.Fprintf(w, "  %s: %s\n", clean(e.Location), clean(e.Message))
		}
	}
	if f.Hint != "" {
		fmt.Fprintf(w, "  (%s)\n", clean(f.Hint))
	}
}
