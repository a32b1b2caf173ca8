package access

import (
	"crypto/ed25519"
	"slices"
	"time"
)

// Verdict is what somebody decided about a request.
type Verdict string

const (
	Approve Verdict = "approve" // an approver says yes
	Deny    Verdict = "deny"    // an approver says no; beats every approve
	Extend  Verdict = "extend"  // the holder keeps access for longer, within the flow's maximum
	Release Verdict = "release" // the holder gives access back, or withdraws the request
	Revoke  Verdict = "revoke"  // an approver or administrator ends access
	Renew   Verdict = "renew"   // the holder asks for a new credential
	Break   Verdict = "break"   // who asks takes it at once, by a flow that lets them break the glass
	Justify Verdict = "justify" // a reviewer finds that breaking the glass was right
	Object  Verdict = "object"  // a reviewer finds that it was not
)

// Gives reports whether a verdict opens access, lengthens it, or hands out a
// credential. The others only take away.
func (v Verdict) Gives() bool { return v == Approve || v == Extend || v == Renew || v == Break }

// Reviews reports whether a verdict is about access that was taken already. It
// opens and ends nothing.
func (v Verdict) Reviews() bool { return v == Justify || v == Object }

// Decision is one authenticated person's word on a request, signed by the
// portal. Everything that a workflow is told to do for a person is one.
type Decision struct {
	RequestID string  `json:"request_id"`
	AskHash   string  `json:"ask_hash"` // Request.Hash
	Verdict   Verdict `json:"verdict"`
	By        string  `json:"by"`       // person id
	ByEmail   string  `json:"by_email"` // for display
	Reason    string  `json:"reason,omitempty"`
	// Account is the one whose credential is meant, for Renew.
	Account string `json:"account,omitempty"`
	// Extra is how much longer, for Extend.
	Extra Duration `json:"extra,omitzero"`
	// For is how long at most, and Without the ids of the holds that are left
	// out, for Approve.
	For     Duration  `json:"for,omitzero"`
	Without []string  `json:"without,omitempty"`
	Step    int       `json:"step"`
	Nonce   string    `json:"nonce"` // unique; the decision's id
	At      time.Time `json:"at"`
	From    string    `json:"from"` // api, cli, portal, slack
	// Signature is the portal's over everything above.
	Signature []byte `json:"signature,omitempty"`
}

// Text is the decision in words, with what it changes of the request.
func (d Decision) Text(r Request) string {
	text := string(d.Verdict) + " by " + d.ByEmail
	if d.For > 0 && d.For < r.Duration {
		text += " for " + d.For.String() + " only"
	}
	for i, id := range r.HoldIDs {
		if slices.Contains(d.Without, id) {
			text += ", without " + r.Asked[i].String()
		}
	}
	if d.Reason != "" {
		text += ": " + d.Reason
	}
	return text
}

func (d Decision) message() []byte {
	d.Signature = nil
	return append([]byte("lapse decision v1\x00"), canonical(d)...)
}

// Sign signs the decision with the portal's key.
func (d Decision) Sign(key ed25519.PrivateKey) Decision {
	d.Signature = ed25519.Sign(key, d.message())
	return d
}

// Verify says why a decision does not count for a request; nil means that the
// portal signed exactly this decision on exactly what was asked. It is pure,
// so workflows may call it.
func (d Decision) Verify(key ed25519.PublicKey, r Request) error {
	switch {
	case len(key) != ed25519.PublicKeySize:
		return Errorf(Invalid, "the portal's public key is missing")
	case !ed25519.Verify(key, d.message(), d.Signature):
		return Errorf(Invalid, "the decision is not signed by the portal")
	case d.RequestID != r.ID || d.AskHash != r.Hash():
		return Errorf(Invalid, "the decision is about another request, or about something else than was asked")
	}
	return nil
}

// Ticket is the control side's leave to open access: the connector refuses to
// grant without one. It is signed after the decisions and the flow were judged
// again in the store.
type Ticket struct {
	RequestID string `json:"request_id"`
	// Account says whose access it is; its name on the target is not part of it.
	Account      Account       `json:"account"`
	Entitlements []Entitlement `json:"entitlements"`
	// End is the latest moment to which the target's own expiry may be set.
	End time.Time `json:"end"`
	// LatestStart is the last moment at which the grant may begin.
	LatestStart time.Time `json:"latest_start"`
	// Sequence is the account's operation number.
	Sequence  int64  `json:"sequence"`
	Signature []byte `json:"signature,omitempty"`
}

func (t Ticket) message() []byte {
	t.Signature = nil
	return append([]byte("lapse ticket v1\x00"), canonical(t)...)
}

// Sign signs the ticket with the control side's key.
func (t Ticket) Sign(key ed25519.PrivateKey) Ticket {
	t.Signature = ed25519.Sign(key, t.message())
	return t
}

// Verify is the connector's check: signed, for entitlements of this account's
// integration only, and not too late.
func (t Ticket) Verify(key ed25519.PublicKey, now time.Time) error {
	switch {
	case len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, t.message(), t.Signature):
		return Errorf(NoTicket, "the ticket is not signed by Lapse's control side")
	case t.Account.ID != AccountID(t.Account.Integration, t.Account.PersonID):
		return Errorf(NoTicket, "the ticket's account does not fit together")
	case now.After(t.LatestStart):
		return Errorf(NoTicket, "the ticket was good until %s", t.LatestStart.UTC().Format(time.RFC3339))
	case len(t.Entitlements) == 0 || slices.ContainsFunc(t.Entitlements, func(e Entitlement) bool { return e.Integration != t.Account.Integration }):
		return Errorf(NoTicket, "the ticket names no entitlement of this integration")
	}
	return nil
}
