package access

import (
	"fmt"
	"slices"
	"time"
)

// Removal is the removal of an integration, from the moment when somebody asks
// for it. While there is one, nothing new is granted there.
type Removal struct {
	ID      string    `json:"id"`
	By      string    `json:"by"` // person id
	ByEmail string    `json:"by_email"`
	At      time.Time `json:"at"`
	Reason  string    `json:"reason"`
	// Left is what was last found left, at LookedAt. That is zero as long as
	// everything goes by itself.
	Left     []Left    `json:"left,omitempty"`
	LookedAt time.Time `json:"looked_at,omitzero"`
	// Accepted is what somebody is content to leave.
	Accepted *AcceptedLeft `json:"accepted,omitempty"`
	// ForgottenAt is when the removal was complete; zero before.
	ForgottenAt time.Time `json:"forgotten_at,omitzero"`
}

// Running reports whether there is a removal that is neither complete nor was
// cancelled.
func (r *Removal) Running() bool { return r != nil && r.ForgottenAt.IsZero() }

// Closed says why nothing new is granted on an integration of a name; empty when
// there is no removal.
func (r *Removal) Closed(name string) string {
	switch {
	case r == nil:
		return ""
	case r.Running():
		return fmt.Sprintf("%s is being removed by %s: %s", name, r.ByEmail, r.Reason)
	}
	return fmt.Sprintf("%s was removed by %s: %s", name, r.ByEmail, r.Reason)
}

// Accepts reports whether somebody is content to leave a thing.
func (r *Removal) Accepts(l Left) bool {
	return r.Accepted != nil && l.Kind != LeftConfigured && slices.ContainsFunc(r.Accepted.Left, l.same)
}

// AcceptedLeft is what somebody is content to leave, and why.
type AcceptedLeft struct {
	By      string    `json:"by"` // person id
	ByEmail string    `json:"by_email"`
	At      time.Time `json:"at"`
	Reason  string    `json:"reason"`
	Left    []Left    `json:"left"`
}

// LeftKind is a sort of thing that a removal finds left.
type LeftKind string

// The closed set of what can be left.
const (
	LeftHold       LeftKind = "hold"       // access that is not proven gone
	LeftAccount    LeftKind = "account"    // an account that is not deleted
	LeftPrincipal  LeftKind = "principal"  // an account on the target that is kept, or that the store does not know
	LeftShared     LeftKind = "shared"     // what Lapse keeps on the target beside accounts
	LeftTarget     LeftKind = "target"     // the target cannot be read or changed
	LeftConfigured LeftKind = "configured" // the configuration in force has it; nobody can accept that
)

// Left is one thing that a removal finds left.
type Left struct {
	Kind    LeftKind `json:"kind" enum:"hold,account,principal,shared,target,configured" doc:"access that is not proven gone; an account that is not deleted; an account on the target that is kept, or unknown; what Lapse keeps there beside accounts; a target that cannot be read; an entry in the configuration in force"`
	Subject string   `json:"subject" doc:"the hold's, account's or integration's id, or a name on the target"`
	Text    string   `json:"text" doc:"what it is, in words"`
}

func (l Left) same(m Left) bool { return l.Kind == m.Kind && l.Subject == m.Subject }

// SameLeft reports whether two lists name the same things.
func SameLeft(a, b []Left) bool { return slices.EqualFunc(a, b, Left.same) }

// RemovalStep is how far a removal has come in the store.
type RemovalStep struct {
	Integration string `json:"integration"`
	Connector   string `json:"connector"` // task queue
	// Over says how it ended: cancelled, or forgotten. Empty while it runs.
	Over string `json:"over,omitempty"`
	// Why says why nothing may be done: after a restore.
	Why string `json:"why,omitempty"`
	// Begun is when it was asked for.
	Begun time.Time `json:"begun,omitzero"`
	// Open are the holds and accounts that are to go and are there yet.
	Open []Left `json:"open,omitempty"`
	// Left is what the removal waits for somebody to mend or accept.
	Left []Left `json:"left,omitempty"`
}

// How a removal is over.
const (
	RemovalCancelled = "cancelled"
	RemovalForgotten = "forgotten"
)

// ForgetArgs says what the target shows once nothing is held there.
type ForgetArgs struct {
	Integration string      `json:"integration"`
	Principals  []Principal `json:"principals,omitempty"`
	// Shared is what the integration keeps beside accounts and could not remove.
	Shared []string `json:"shared,omitempty"`
	// Error is why the target could not be read or changed.
	Error string `json:"error,omitempty"`
}

// RemovalReport is what came of a removal.
type RemovalReport struct {
	Integration string `json:"integration"`
	Over        string `json:"over"` // RemovalCancelled or RemovalForgotten
	Left        []Left `json:"left,omitempty"`
}
