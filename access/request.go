package access

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"
)

// State is where a request or a hold stands.
type State string

const (
	StatePending  State = "pending"  // waits for a decision, or for an invitation
	StateApproved State = "approved" // approved, not yet begun
	StateGranting State = "granting" // the connector is at it
	StateActive   State = "active"   // usable
	StateEnding   State = "ending"   // past its end, being taken away
	StateOverdue  State = "overdue"  // past its end and not proven gone
	StateEnded    State = "ended"    // proven gone
	StateDenied   State = "denied"   // an approver said no
	StateExpired  State = "expired"  // nobody decided in time
	StateFailed   State = "failed"   // could not be granted; nothing is left
)

// Final reports whether nothing can follow.
func (s State) Final() bool {
	return s == StateEnded || s == StateDenied || s == StateExpired || s == StateFailed
}

// Open reports whether a hold in this state may have access on the target.
func (s State) Open() bool {
	return s == StateGranting || s == StateActive || s == StateEnding || s == StateOverdue
}

// Review is how the review of access stands that was taken at once.
type Review string

const (
	ReviewDue  Review = "due"  // it waits for the reviewers
	ReviewDone Review = "done" // all have said that it was right
	ReviewBad  Review = "objected"
)

// OverdueAfter is how long past its end a hold is shown as ending before it is
// called overdue.
const OverdueAfter = 5 * time.Second

// Request is one person's ask for entitlements, with a reason and a duration.
// It is written once, before its workflow starts, and never changed.
type Request struct {
	ID          string    `json:"id"`
	PersonID    string    `json:"person_id"`
	Reason      string    `json:"reason"`
	Duration    Duration  `json:"duration"`
	Asked       []Asked   `json:"asked"`
	HoldIDs     []string  `json:"hold_ids"` // one per entry of Asked
	Flow        string    `json:"flow"`
	FlowVersion int64     `json:"flow_version"` // version of the configuration the flow is from
	CreatedAt   time.Time `json:"created_at"`
	ExpiresAt   time.Time `json:"expires_at"` // of the decision, not of the access
	// AskedBy is who asked for it on behalf of PersonID; empty when nobody else.
	AskedBy string `json:"asked_by,omitempty"`
	// StartAt is when the access begins; zero is once it is approved.
	StartAt time.Time `json:"start_at,omitzero"`
	// Fields are what the flow wants to know beside the reason.
	Fields map[string]string `json:"fields,omitempty"`
	// Bundle is the one that was asked for.
	Bundle string `json:"bundle,omitempty"`
}

// hold is the id of the hold for the n-th of what is asked; empty for a request
// that has none yet.
func (r Request) hold(n int) string {
	if n < len(r.HoldIDs) {
		return r.HoldIDs[n]
	}
	return ""
}

// taker is the id of who asks.
func (r Request) taker() string {
	if r.AskedBy != "" {
		return r.AskedBy
	}
	return r.PersonID
}

// Hash binds a decision to exactly what was asked.
func (r Request) Hash() string {
	sum := sha256.Sum256(append([]byte("lapse request v1\x00"), canonical(r)...))
	return hex.EncodeToString(sum[:])
}

// Integrations returns the ids of the integrations asked for, sorted.
func (r Request) Integrations() []string {
	var ids []string
	for _, a := range r.Asked {
		ids = append(ids, a.Entitlement.Integration)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Evidence is what was read on the target to prove that access is there, or
// gone. Facts are readable sentences without secrets.
type Evidence struct {
	At      time.Time `json:"at"`
	Outcome Outcome   `json:"outcome"`
	Facts   []string  `json:"facts,omitempty"`
}

// Hold is one request's claim on one entitlement of an account.
type Hold struct {
	ID          string      `json:"id"`
	RequestID   string      `json:"request_id"`
	AccountID   string      `json:"account_id"`
	Entitlement Entitlement `json:"entitlement"`
	State       State       `json:"state"`
	StartsAt    time.Time   `json:"starts_at,omitzero"`
	// EndsAt is when access must be gone. Until the grant is proven it is the
	// end that was stored before the first write; the clock restarts once the
	// access is usable.
	EndsAt time.Time `json:"ends_at,omitzero"`
	// MaxEnd is the flow's maximum, counted from the first usable moment.
	MaxEnd time.Time `json:"max_end,omitzero"`
	Error  string    `json:"error,omitempty"`
	Grant  *Evidence `json:"grant,omitempty"`
	Revoke *Evidence `json:"revoke,omitempty"`
}

// StateAt is the hold's state as people see it: one that is past its end and
// not proven gone turns from ending to overdue.
func (h Hold) StateAt(now time.Time) State {
	late := h.OverdueAt(now)
	switch {
	case !h.State.Open() || late <= 0:
		return h.State
	case late > OverdueAfter:
		return StateOverdue
	}
	return StateEnding
}

// OverdueAt is how long a hold has been past its end without being proven
// gone; zero or less when it is not.
func (h Hold) OverdueAt(now time.Time) time.Duration {
	if !h.State.Open() || h.EndsAt.IsZero() {
		return 0
	}
	return now.Sub(h.EndsAt)
}

// RequestState is the state of a request whose own decision phase ended with
// decided: that phase, and after the approval what the holds say together.
func RequestState(decided State, holds []Hold, now time.Time) State {
	if decided != StateApproved {
		return decided
	}
	seen := map[State]bool{}
	for _, h := range holds {
		seen[h.StateAt(now)] = true
	}
	for _, s := range []State{StateOverdue, StateEnding, StateActive, StateGranting, StatePending, StateApproved, StateEnded, StateFailed} {
		if seen[s] {
			return s
		}
	}
	return decided
}
