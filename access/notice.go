package access

import (
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
