package portal

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/portal/api"
)

// shown is a request as pages show it.
type shown struct {
	api.Request
	Said    []answer
	without []string // ids of the holds that approvers left out so far
	now     time.Time
}

// answer is something that the requester said beside the reason.
type answer struct{ Title, Value string }

// shown is a request, whose flow was learned, as pages show it.
func (c *caller) shown(row store.RequestRow, q api.Request) shown {
	s := shown{Request: q, now: c.now}
	if len(q.Steps) > 0 {
		s.without = c.matter(row).Terms().Without
	}
	left := maps.Clone(q.Fields)
	for _, f := range c.flow(row.Request).Fields {
		if value := left[f.Name]; value != "" {
			s.Said = append(s.Said, answer{cmp.Or(f.Title, f.Name), value})
		}
		delete(left, f.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		s.Said = append(s.Said, answer{name, left[name]})
	}
	return s
}

// Undecided reports whether the request waits for a decision.
func (s shown) Undecided() bool {
	return s.State == access.StatePending && !s.Taken() && !s.Alone() && !slices.ContainsFunc(s.Holds, awaits)
}

// Scheduled reports whether it is approved and has yet to begin.
func (s shown) Scheduled() bool {
	return s.State == access.StateApproved && s.StartAt != nil && s.StartAt.After(s.now)
}

// changing reports whether the request goes on without anybody doing something
// here.
func (s shown) changing() bool {
	return underWay(s.State) && !s.Scheduled() || s.State == access.StatePending && !s.Undecided() || s.State == access.StateEnding || s.State == access.StateOverdue || slices.ContainsFunc(s.Holds, awaits)
}

// Taken reports whether somebody broke the glass for it.
func (s shown) Taken() bool { return s.Trigger == access.BreakGlass }

// Alone reports whether it came by itself.
func (s shown) Alone() bool { return s.Trigger == access.Automatic }

// Late reports whether its review is overdue.
func (s shown) Late() bool {
	return s.Review == access.ReviewDue && s.ReviewBy != nil && s.ReviewBy.Before(s.now)
}

// Lasts is for how long it is given, as far as is decided.
func (s shown) Lasts() access.Duration { return cmp.Or(s.ApprovedFor, s.Duration) }

// LeftOut reports whether an approver left something out.
func (s shown) LeftOut(h api.Hold) bool {
	return slices.Contains(s.without, h.ID) || h.State == access.StateDenied && s.State != access.StateDenied
}

// Kept is what of it is left to decide on.
func (s shown) Kept() []api.Hold {
	return slices.DeleteFunc(slices.Clone(s.Holds), s.LeftOut)
}

// stage is a step of the approval, or of the review, in words.
type stage struct{ Title, Wants, State, Text string }

// Stages are the steps and how they stand.
func (s shown) Stages() (list []stage) {
	open := s.State == access.StatePending || s.Review == access.ReviewDue
	for i, step := range s.Steps {
		out := stage{Title: stageName(s.Steps, i), Wants: step.Wants, State: step.State}
		if out.Title == "" {
			out.Title, out.Wants = step.Wants, ""
		}
		by := ""
		if len(step.By) > 0 {
			by = "Done by " + listed(step.By, "and") + ". "
		}
		switch {
		case step.State == "done":
			out.Text = by
		case !open:
			out.Text, out.State = by+s.against(), "later"
		case len(step.Who) == 0:
			out.Text = by + "Nobody can decide on it now."
		case step.State == "waits":
			out.Text = by + "Waits for " + listed(step.Who, "or") + "."
		default:
			out.Text = "Then " + listed(step.Who, "or") + "."
		}
		out.Text = strings.TrimSpace(out.Text)
		list = append(list, out)
	}
	return list
}

// against says who was against it, or that nobody decided.
func (s shown) against() string {
	for _, d := range s.Decisions {
		if d.Verdict == access.Deny || d.Verdict == access.Object {
			return s.Says(d.Verdict) + " by " + d.By + "."
		}
	}
	return "It was not decided."
}

// verdictWords are verdicts on record, in words.
var verdictWords = map[access.Verdict]string{
	access.Approve: "Approved", access.Deny: "Denied", access.Extend: "Extended", access.Release: "Given back", access.Revoke: "Revoked",
	access.Renew: "New login", access.Break: "Glass broken", access.Justify: "Found right", access.Object: "Objected to",
}

// Says is a verdict on record in words.
func (s shown) Says(v access.Verdict) string {
	begun := func(h api.Hold) bool { return h.StartsAt != nil }
	if v == access.Release && !slices.ContainsFunc(s.Holds, begun) {
		return "Withdrawn"
	}
	return verdictWords[v]
}

// Turn names the step that waits; empty where there is only one without a name.
func (s shown) Turn() string {
	return stageName(s.Steps, slices.IndexFunc(s.Steps, func(step access.Stage) bool { return step.State == "waits" }))
}

// WaitsFor are those who may decide, or review, now.
func (s shown) WaitsFor() string {
	if len(s.Approvers) == 0 {
		return "somebody who can decide: nobody can now"
	}
	return listed(s.Approvers, "or")
}

// stageName names one of the steps; it is empty for the only one that has no name,
// and where there is none.
func stageName(steps []access.Stage, i int) string {
	switch {
	case i < 0 || len(steps) == 1 && steps[i].Name == "":
		return ""
	case len(steps) == 1:
		return steps[i].Name
	case steps[i].Name == "":
		return fmt.Sprintf("Step %d of %d", i+1, len(steps))
	}
	return fmt.Sprintf("Step %d of %d: %s", i+1, len(steps), steps[i].Name)
}

// mostListed is how many people a sentence names.
const mostListed = 8

// listed names people in a sentence.
func listed(names []string, last string) string {
	if n := len(names); n > mostListed {
		return fmt.Sprintf("%s %s %d more", strings.Join(names[:mostListed], ", "), last, n-mostListed)
	} else if n > 1 {
		return strings.Join(names[:n-1], ", ") + " " + last + " " + names[n-1]
	}
	return strings.Join(names, "")
}
