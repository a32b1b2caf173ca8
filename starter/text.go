package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/lapse-access/lapse/portal/api"
)

// table prints rows in aligned columns.
func table(w io.Writer, indent string, rows ...[]string) {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for _, cell := range row {
			fmt.Fprint(t, clean(cell), "\t")
		}
		fmt.Fprintln(t)
	}
	t.Flush()
	for line := range strings.Lines(b.String()) {
		fmt.Fprintln(w, indent+strings.TrimRight(line, " \n"))
	}
}

// clean keeps text that others wrote from steering the terminal, or from
// looking like a line of ours.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// at is a moment in the local time zone; today without the date.
func at(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	if t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format("15:04:05")
	}
	return t.Format("2006-01-02 15:04:05")
}

// span is a duration for people: two units at most.
func span(d time.Duration) string {
	day := 24 * time.Hour
	switch d = max(0, d.Round(time.Second)); {
	case d >= day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

// until says when a hold ends, or since when it should have.
func until(h api.Hold, now time.Time) string {
	switch {
	case h.EndsAt == nil:
		return ""
	case h.State.Final():
		return at(*h.EndsAt, now)
	case h.OverdueSeconds > 0:
		return fmt.Sprintf("%s (%s late)", at(*h.EndsAt, now), span(time.Duration(h.OverdueSeconds)*time.Second))
	}
	return fmt.Sprintf("%s (%s left)", at(*h.EndsAt, now), span(h.EndsAt.Sub(now)))
}

// what names the entitlement of a hold.
func what(h api.Hold) string {
	return fmt.Sprintf("%s on %s %s", h.Permission, h.Integration, h.Resource)
}

// whats names what a request is about.
func whats(r api.Request) string {
	out := make([]string, len(r.Holds))
	for i, h := range r.Holds {
		out[i] = what(h)
	}
	return strings.Join(out, ", ")
}

// timeline prints a request with all that happened to it.
func timeline(w io.Writer, r api.Request, now time.Time) {
	fmt.Fprintf(w, "%s is %s\n\n", r.ID, r.State)
	rows := [][]string{
		{"Person", r.Person},
		{"Reason", r.Reason},
		{"Asked", fmt.Sprintf("for %s, at %s, by the access flow %s", r.Duration, at(r.CreatedAt, now), r.Flow)},
	}
	if r.State == "pending" {
		rows = append(rows, []string{"Waits", fmt.Sprintf("for %s, until %s (%s left)", approvers(r), at(r.ExpiresAt, now), span(r.ExpiresAt.Sub(now)))})
	}
	table(w, "", rows...)
	fmt.Fprintln(w)

	rows = [][]string{{"ACCESS", "STATE", "FROM", "UNTIL"}}
	for _, h := range r.Holds {
		from := ""
		if h.StartsAt != nil {
			from = at(*h.StartsAt, now)
		}
		rows = append(rows, []string{what(h), string(h.State), from, until(h, now)})
	}
	table(w, "", rows...)
	for _, h := range r.Holds {
		evidence(w, h, now)
	}
	if len(r.Decisions) > 0 {
		rows = [][]string{{"DECISION", "BY", "AT", "REASON"}}
		for _, d := range r.Decisions {
			rows = append(rows, []string{string(d.Verdict), d.By, at(d.At, now), d.Reason})
		}
		fmt.Fprintln(w)
		table(w, "", rows...)
	}
	if len(r.Events) > 0 {
		rows = [][]string{{"TIME", "EVENT", ""}}
		for _, e := range r.Events {
			rows = append(rows, []string{at(e.At, now), e.Kind, e.Text})
		}
		fmt.Fprintln(w)
		table(w, "", rows...)
	}
	note(w, r)
}

// evidence prints what was read on the target for a hold.
func evidence(w io.Writer, h api.Hold, now time.Time) {
	if h.Error != "" {
		fmt.Fprintf(w, "\n%s: %s\n", clean(what(h)), clean(h.Error))
	}
	if h.Evidence.Grant == nil && h.Evidence.Revoke == nil {
		return
	}
	fmt.Fprintf(w, "\nEvidence for %s\n", clean(what(h)))
	var rows [][]string
	if e := h.Evidence.Grant; e != nil {
		rows = append(rows, []string{at(e.At, now), strings.ReplaceAll(string(e.Outcome), "_", " "), strings.Join(e.Facts, "; ")})
	}
	if e := h.Evidence.Revoke; e != nil {
		rows = append(rows, []string{at(e.At, now), strings.ReplaceAll(string(e.Outcome), "_", " "), strings.Join(e.Facts, "; ")})
	}
	table(w, "  ", rows...)
}

// note prints what the portal adds to an answer.
func note(w io.Writer, r api.Request) {
	if r.Note != "" {
		fmt.Fprintf(w, "\n%s\n", clean(r.Note))
	}
}

// approvers of a request, for a sentence.
func approvers(r api.Request) string {
	if len(r.Approvers) == 0 {
		return "somebody who may approve it (nobody may now)"
	}
	return strings.Join(r.Approvers, " or ")
}

// yes is a mark for a table.
func yes(ok bool) string {
	if ok {
		return "ok"
	}
	return "MISSING"
}
