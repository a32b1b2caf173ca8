package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/lapse-access/lapse/access"
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
	rows := [][]string{{"Person", r.Person}}
	add := func(name, text string) {
		if text != "" {
			rows = append(rows, []string{name, text})
		}
	}
	if r.AskedBy != "" {
		add("Asked by", r.AskedBy)
	}
	add("Reason", r.Reason)
	for _, name := range slices.Sorted(maps.Keys(r.Fields)) {
		add(title(name), r.Fields[name])
	}
	add("Asked", fmt.Sprintf("for %s, at %s, by the access flow %s", r.Duration, at(r.CreatedAt, now), r.Flow))
	add("Bundle", r.Bundle)
	if r.ApprovedFor > 0 {
		add("Shortened", fmt.Sprintf("to %s by an approver", r.ApprovedFor))
	}
	add("Begins", begins(r, now))
	if r.State == access.StatePending {
		add("Waits", fmt.Sprintf("for %s, until %s (%s left)", waitsFor(r), at(r.ExpiresAt, now), span(r.ExpiresAt.Sub(now))))
	}
	add("Review", review(r, now))
	table(w, "", rows...)
	fmt.Fprintln(w)
	if len(r.Steps) > 1 || r.Review != "" && len(r.Steps) > 0 {
		steps(w, r.Steps)
		fmt.Fprintln(w)
	}

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
			rows = append(rows, []string{decided(r, d), d.By, at(d.At, now), d.Reason})
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

// decided is a decision in words, with what it changed of the request.
func decided(r api.Request, d api.Decision) string {
	text := string(d.Verdict)
	if d.For > 0 {
		text += " for " + d.For.String()
	}
	for _, h := range r.Holds {
		if slices.Contains(d.Without, h.ID) {
			text += ", without " + what(h)
		}
	}
	return text
}

// steps prints the steps of an approval, or of a review.
func steps(w io.Writer, list []access.Stage) {
	rows := [][]string{{"STEP", "WANTS", "STATE", "WHO"}}
	for i, s := range list {
		who := strings.Join(s.Who, " or ")
		if len(s.By) > 0 {
			who = strings.Join(s.By, " and ")
			if s.State == "waits" {
				who += ", and one of " + strings.Join(s.Who, ", ")
			}
		}
		rows = append(rows, []string{cmp.Or(s.Name, fmt.Sprint(i+1)), s.Wants, s.State, who})
	}
	table(w, "", rows...)
}

// begins says when access begins that was asked for later.
func begins(r api.Request, now time.Time) string {
	if r.StartAt == nil || !r.StartAt.After(now) {
		return ""
	}
	return fmt.Sprintf("at %s, in %s", at(*r.StartAt, now), span(r.StartAt.Sub(now)))
}

// review says how the review stands of access that was taken at once.
func review(r api.Request, now time.Time) string {
	switch {
	case r.Trigger != access.BreakGlass:
		return ""
	case r.Review == access.ReviewDone:
		return "the glass was broken, and the reviewers say that it was right"
	case r.Review == access.ReviewBad:
		return "the glass was broken, and a reviewer objects"
	case r.ReviewBy == nil:
		return "the glass was broken"
	}
	due := "due until "
	if r.ReviewBy.Before(now) {
		due = "overdue since "
	}
	return fmt.Sprintf("the glass was broken; the review by %s is %s%s", approvers(r), due, at(*r.ReviewBy, now))
}

// waitsFor is who may decide now, and on which of several steps.
func waitsFor(r api.Request) string {
	text := approvers(r)
	i := slices.IndexFunc(r.Steps, func(s access.Stage) bool { return s.State == "waits" })
	if i < 0 || len(r.Steps) < 2 {
		return text
	}
	text += fmt.Sprintf(" (step %d of %d", i+1, len(r.Steps))
	if name := r.Steps[i].Name; name != "" {
		text += ", " + name
	}
	return text + ")"
}

// next is what a request waits for, for a list.
func next(r api.Request, now time.Time) string {
	switch {
	case r.State == access.StatePending:
		return waitsFor(r)
	case r.Review == access.ReviewDue && r.ReviewBy != nil && r.ReviewBy.Before(now):
		return "its overdue review"
	case r.Review == access.ReviewDue:
		return "its review"
	case r.State == access.StateApproved && r.StartAt != nil:
		return at(*r.StartAt, now)
	}
	return ""
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
