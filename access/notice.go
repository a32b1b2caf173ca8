package access

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Notice is something that one person is told: in the portal, and over the
// channels that the configuration names. Nothing waits for it, and nothing
// depends on whether it arrives.
type Notice struct {
	// Key says what it is about. A person is told once under one key.
	Key       string     `json:"key"`
	PersonID  string     `json:"person_id"`
	Kind      NoticeKind `json:"kind"`
	RequestID string     `json:"request_id,omitempty"`
	// Text is the whole of it in plain words. It is made one line, which others
	// cannot break out of with what they wrote into it.
	Text string `json:"text"`
	// At is when it came to be so; the present where it is zero.
	At time.Time `json:"at"`
}

// NoticeKind is the sort of a notice.
type NoticeKind string

const (
	NoticeReminder   NoticeKind = "reminder"    // a decision is awaited
	NoticeEscalation NoticeKind = "escalation"  // others were asked for it, and did not answer
	NoticeBreakGlass NoticeKind = "break_glass" // somebody took access in an emergency
	NoticeReview     NoticeKind = "review"      // somebody has to look at it afterwards
	NoticeDecided    NoticeKind = "decided"     // a request was approved or denied
	NoticeGranted    NoticeKind = "granted"     // access is usable
	NoticeChange     NoticeKind = "change"      // a change of the configuration waits for an administrator
	NoticeFailed     NoticeKind = "failed"      // something did not work
)

var noticeTitles = map[NoticeKind]string{
	NoticeReminder:   "A request waits for you",
	NoticeEscalation: "A request has come to you",
	NoticeBreakGlass: "Emergency access was taken",
	NoticeReview:     "A review is due",
	NoticeDecided:    "A request was decided",
	NoticeGranted:    "Access is ready",
	NoticeChange:     "A change of the configuration waits",
	NoticeFailed:     "Something failed",
}

// Title is the heading of every notice of a kind, and empty for a word that is
// none. Nothing that somebody wrote is in it.
func (k NoticeKind) Title() string { return noticeTitles[k] }

// maxNotice is the longest text of a notice, in characters.
const maxNotice = 2000

// Line is a text as one line of a notice: without line breaks and other
// characters that do not show, and not longer than a notice may be.
func Line(text string) string {
	line := []rune(strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return unicode.ReplacementChar
		}
		return r
	}, text)), " "))
	if len(line) > maxNotice {
		line = append(line[:maxNotice-1], '…')
	}
	return string(line)
}

// Notice is what is said to whom about a request.
func (m Matter) Notice(a RemindArgs) (text string, to []Person) {
	what := make([]string, len(m.Request.Asked))
	for i, asked := range m.Request.Asked {
		what[i] = asked.String()
	}
	about := fmt.Sprintf("%s asks for %s for %s: %s", m.requester().Email, strings.Join(what, ", "), m.Request.Duration, m.Request.Reason)
	if by := m.by(); by.ID != m.requester().ID {
		about = fmt.Sprintf("%s asks for %s on behalf of %s for %s: %s", by.Email, strings.Join(what, ", "), m.requester().Email, m.Request.Duration, m.Request.Reason)
	}
	switch a.Kind {
	case NoticeBreakGlass:
		about = fmt.Sprintf("%s broke the glass and has %s for %s: %s", m.by().Email, strings.Join(what, ", "), m.Request.Duration, m.Request.Reason)
		return about, m.everybody()
	case NoticeReview:
		if m.Reviewed() {
			return "", nil
		}
		due := m.ReviewBy()
		text = fmt.Sprintf("%s broke the glass for %s: %s. Your review is due until %s", m.by().Email, strings.Join(what, ", "), m.Request.Reason, due.UTC().Format(time.RFC3339))
		to = m.Approvers()
		if m.Now.After(due) {
			text = strings.Replace(text, "Your review is due until", "The review is overdue since", 1)
			for i, p := range m.Directory.people {
				if m.Administrators.Holds(p) && !slices.Contains(m.selves(), m.Directory.human[i]) && !slices.ContainsFunc(to, func(q Person) bool { return q.ID == p.ID }) {
					to = append(to, p)
				}
			}
		}
		return text, to
	}
	if m.Done() {
		return "", nil // it came too late
	}
	if a.Kind == NoticeEscalation {
		return "escalated to you: " + about, m.escalated(a)
	}
	if stuck := m.Stuck(); stuck != "" {
		for _, p := range m.Directory.people {
			if m.Administrators.Holds(p) {
				to = append(to, p)
			}
		}
		return stuck + "; " + about, to
	}
	return "waits for your decision: " + about, m.Approvers()
}

// escalated are those who may decide now and are of a tier.
func (m Matter) escalated(r RemindArgs) []Person {
	steps := m.Flow.Approval.Steps
	if r.Step >= len(steps) || r.Tier < 1 || r.Tier > len(steps[r.Step].Escalate) {
		return nil
	}
	tier := map[int]bool{}
	for _, a := range m.Request.Asked {
		maps.Copy(tier, m.could(steps[r.Step].Escalate[r.Tier-1].To, a, nil).entries)
	}
	return slices.DeleteFunc(m.Approvers(), func(p Person) bool { return !tier[m.Directory.byID[p.ID]] })
}

// everybody are those whom somebody passed over who broke the glass: all whom
// the flow's steps name, the owners, and the administrators.
func (m Matter) everybody() (list []Person) {
	return m.people(func(s Step) []string { return append(s.Roles(), "resource_owner", "integration_owner") }, m.Administrators.Holds)
}

// people are those who fill roles of the steps, and others beside them, without
// whom it is about.
func (m Matter) people(roles func(Step) []string, also func(Person) bool) (list []Person) {
	entries, selves := map[int]bool{}, m.selves()
	for _, a := range m.Request.Asked {
		for _, s := range m.Flow.Approval.Steps {
			maps.Copy(entries, m.could(roles(s), a, nil).entries)
		}
	}
	for i, p := range m.Directory.people {
		if entries[i] || also != nil && also(p) && !slices.Contains(selves, m.Directory.human[i]) {
			list = append(list, p)
		}
	}
	return list
}
