package access

import (
	"errors"
	"fmt"
	"time"
)

// ErrorKind is the closed set of reasons why something on a target did not
// work. A room of integrations maps its vendor's codes onto these, activities
// maps these onto Temporal, and nothing else looks at vendor codes.
type ErrorKind string

const (
	// Retry: the target did not answer, is starting or failing over.
	Retry ErrorKind = "retry"
	// Conflict: somebody else changed the same thing; read again and repeat.
	Conflict ErrorKind = "conflict"
	// RateLimited: the target asks us to wait; Error.After says how long.
	RateLimited ErrorKind = "rate_limited"
	// Auth: the target refuses the connector's own credential.
	Auth ErrorKind = "auth"
	// Privilege: the connector's account lacks a right.
	Privilege ErrorKind = "privilege"
	// ResourceMissing: the resource or role is not there (any more).
	ResourceMissing ErrorKind = "resource_missing"
	// PersonMissing: the target knows no such person, or more than one.
	PersonMissing ErrorKind = "person_missing"
	// Invalid: the request can never work as it stands.
	Invalid ErrorKind = "invalid"
	// NameTaken: a principal with our name exists that does not carry our mark.
	NameTaken ErrorKind = "name_taken"
	// Limit: a limit of the target or of Lapse is reached.
	Limit ErrorKind = "limit"
	// Unsupported: this edition or version cannot do it.
	Unsupported ErrorKind = "unsupported"
	// ExternallyManaged: an identity provider owns what we would change.
	ExternallyManaged ErrorKind = "externally_managed"
	// Superseded: a later operation of the same account has been here already.
	Superseded ErrorKind = "superseded"
	// NoTicket: the control side did not sign this grant (any more).
	NoTicket ErrorKind = "no_ticket"
	// Restored: Lapse's own data was restored from a backup, and nobody has
	// accepted that yet. The target was not asked.
	Restored ErrorKind = "restored"
	// Unknown: anything else.
	Unknown ErrorKind = "unknown"
)

// Error is a failure with a kind. Text never holds a secret; Remedy, where
// there is one, is the statement or setting that mends it.
type Error struct {
	Kind   ErrorKind
	Text   string
	Remedy string
	// After is the delay that a rate limit asked for.
	After time.Duration
	Err   error
}

// Errorf makes an error of a kind. A trailing %w keeps the cause in the chain.
func Errorf(kind ErrorKind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Text: err.Error(), Err: errors.Unwrap(err)}
}

func (e *Error) Error() string {
	if e.Remedy == "" {
		return e.Text
	}
	return e.Text + " (" + e.Remedy + ")"
}

func (e *Error) Unwrap() error { return e.Err }

// WithRemedy adds what mends the error.
func (e *Error) WithRemedy(format string, args ...any) *Error {
	e.Remedy = fmt.Sprintf(format, args...)
	return e
}

// KindOf finds the kind in an error chain; Unknown where there is none, and
// the empty kind for nil.
func KindOf(err error) ErrorKind {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Unknown
}

// severity orders kinds by how much a human has to do about them.
var severity = map[ErrorKind]int{Conflict: 1, Retry: 2, RateLimited: 3, Unknown: 4, Privilege: 5, Auth: 6}

// Worst joins the errors of a series of steps that were all tried: the text of
// all, the kind of the worst. It returns nil if there is none.
func Worst(errs ...error) error {
	all := errors.Join(errs...)
	if all == nil {
		return nil
	}
	worst := &Error{Kind: "", Text: all.Error(), Err: all}
	for _, err := range errs {
		if err == nil {
			continue
		}
		k := KindOf(err)
		if worst.Kind == "" || severity[k] > severity[worst.Kind] {
			worst.Kind = k
		}
		if e, ok := errors.AsType[*Error](err); ok {
			worst.After = max(worst.After, e.After)
		}
	}
	return worst
}

// Outcome is the word for what an operation did, or found.
type Outcome string

const (
	// Granted: the access is there because of this operation.
	Granted Outcome = "granted"
	// AlreadyHeld: the person had it; nothing was written.
	AlreadyHeld Outcome = "already_held"
	// Pending: something outside is awaited, for example an invitation.
	Pending Outcome = "pending"
	// Gone: the access was taken away.
	Gone Outcome = "gone"
	// WasGone: there was nothing to take away.
	WasGone Outcome = "was_gone"
	// Lowered: what another hold or the baseline owes stays, the rest is gone.
	Lowered Outcome = "lowered"
	// Propagating: the target took the change and does not show it yet.
	Propagating Outcome = "propagating"
	// Blocked: the target cannot do it now; the note says why.
	Blocked Outcome = "blocked"
	// KeptDisabled: the account is disabled and kept, because it owns things.
	KeptDisabled Outcome = "kept_disabled"
)
