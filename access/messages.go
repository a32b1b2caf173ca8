package access

import (
	"encoding/json"
	"time"
)

// The arguments and results of activities. They stand here, and not in
// activities, so that workflows can name them without importing what does I/O.

// Claim is an entitlement that must remain, and for whose sake.
type Claim struct {
	Entitlement Entitlement `json:"entitlement"`
	// Baseline is true for what the person held before Lapse came, false for
	// another hold.
	Baseline bool `json:"baseline,omitempty"`
}

// Slot is the unit in which a target keeps access: one level per person and
// resource (GitHub, Grafana), one membership (SQL roles), one expression
// (RabbitMQ). Its values are the target's own words.
type Slot struct {
	Key string `json:"key"`
	// Held is what the person holds directly now; "" is nothing.
	Held string `json:"held,omitempty"`
	// HeldAs says the same in entitlements, so that it can be named among what
	// must remain; empty when it is not one that could be asked for.
	HeldAs []Entitlement `json:"held_as,omitempty"`
	// Write is what a grant of what was asked would write; "" when what is
	// held covers it already and nothing would be written.
	Write string `json:"write,omitempty"`
	// Entitlements are those asked for that live in this slot.
	Entitlements []Entitlement `json:"entitlements,omitempty"`
}

// Baseline is what a person held on a slot before Lapse came. It is taken when
// the first hold on the slot opens and forgotten when the last one ends.
type Baseline struct {
	Slot  string `json:"slot"`
	Value string `json:"value,omitempty"` // "" is nothing
	// HeldAs says the value in entitlements.
	HeldAs []Entitlement `json:"held_as,omitempty"`
	// Holds are the ids of the open holds that live in the slot.
	Holds []string `json:"holds,omitempty"`
}

// Entry is the outcome for one entitlement.
type Entry struct {
	Entitlement Entitlement `json:"entitlement"`
	Outcome     Outcome     `json:"outcome"`
	Facts       []string    `json:"facts,omitempty"`
	// Awaits, Link and Until describe what a Pending outcome waits for.
	Awaits string    `json:"awaits,omitempty"`
	Link   string    `json:"link,omitempty"`
	Until  time.Time `json:"until,omitzero"`
}

// HeldArgs asks for the baseline: the slots of what is wanted, as they are now.
type HeldArgs struct {
	Account Account       `json:"account"`
	Want    []Entitlement `json:"want"`
}

// VerifyArgs asks how entitlements stand on the target.
type VerifyArgs struct {
	Account Account       `json:"account"`
	Want    []Entitlement `json:"want"`
}

// GrantArgs asks the connector to open what the ticket names, for the person
// whom it names.
type GrantArgs struct {
	// AccountName is the account's name on the target, where it is known.
	AccountName string `json:"account_name,omitempty"`
	Ticket      Ticket `json:"ticket"`
	// Remain is everything else that the account must keep.
	Remain []Claim `json:"remain,omitempty"`
	// Wrote is what Lapse last wrote, by slot.
	Wrote map[string]string `json:"wrote,omitempty"`
	// Generation is that of the credential to make; 0 makes none.
	Generation int `json:"generation,omitempty"`
}

// GrantDone is what the connector did and read back.
type GrantDone struct {
	AccountName string            `json:"account_name,omitempty"`
	Entries     []Entry           `json:"entries"`
	Wrote       map[string]string `json:"wrote,omitempty"`
	Generation  int               `json:"generation,omitempty"` // of the credential that was made
	At          time.Time         `json:"at"`
	Notes       []string          `json:"notes,omitempty"` // drift and warnings
}

// RevokeArgs asks the connector to take away End and keep Remain.
type RevokeArgs struct {
	Account  Account           `json:"account"`
	Sequence int64             `json:"sequence"`
	End      []Entitlement     `json:"end"`
	Remain   []Claim           `json:"remain,omitempty"`
	Wrote    map[string]string `json:"wrote,omitempty"`
}

// RevokeDone is what the connector did and read back.
type RevokeDone struct {
	Entries []Entry           `json:"entries"`
	Wrote   map[string]string `json:"wrote,omitempty"`
	At      time.Time         `json:"at"`
	Notes   []string          `json:"notes,omitempty"`
}

// CredentialArgs asks for a new credential of an account that has one.
type CredentialArgs struct {
	Account    Account `json:"account"`
	Sequence   int64   `json:"sequence"`
	Generation int     `json:"generation"`
	// EndSessions ends those that are open: the old credential was seen by
	// somebody else.
	EndSessions bool `json:"end_sessions,omitempty"`
}

// DeleteArgs asks for the end of the account itself.
type DeleteArgs struct {
	Account  Account `json:"account"`
	Sequence int64   `json:"sequence"`
}

// DeleteDone says what became of the account: Gone, WasGone or KeptDisabled
// with what it owns.
type DeleteDone struct {
	Outcome Outcome   `json:"outcome"`
	Owns    []string  `json:"owns,omitempty"`
	At      time.Time `json:"at"`
}

// CheckItem is one right or setting that an operation needs.
type CheckItem struct {
	// Operation is discover, grant, verify, end_sessions, revoke, rotate or
	// delete; connect for what all of them need.
	Operation string `json:"operation"`
	Name      string `json:"name"`
	OK        bool   `json:"ok"`
	// Optional items are warnings when they are not met.
	Optional bool   `json:"optional,omitempty"`
	Detail   string `json:"detail,omitempty"`
	// Remedy is the statement or setting that mends it.
	Remedy string `json:"remedy,omitempty"`
}

// CheckReport is what a preflight found.
type CheckReport struct {
	Server string      `json:"server"` // product and version
	Items  []CheckItem `json:"items"`
}

// OK reports whether every item that is not optional is met.
func (r CheckReport) OK() bool {
	for _, i := range r.Items {
		if !i.OK && !i.Optional {
			return false
		}
	}
	return true
}

// Found is one resource of the catalog.
type Found struct {
	Resource Resource `json:"resource"`
	// Permissions are those that this connector can really grant.
	Permissions []string          `json:"permissions"`
	Tags        map[string]string `json:"tags,omitempty"`
	// Note is what people should know before they ask. A resource that has one and
	// no permissions is shown, and cannot be asked for.
	Note string `json:"note,omitempty"`
}

// Page is one page of discovery. An empty Next ends it.
type Page struct {
	Resources []Found  `json:"resources"`
	Next      string   `json:"next,omitempty"`
	Warnings  []string `json:"warnings,omitempty"`
}

// Principal is an account on the target that carries our mark.
type Principal struct {
	Name string `json:"name"`
	// AccountID is what the mark says; Instance tells one Lapse from another.
	AccountID    string        `json:"account_id"`
	Enabled      bool          `json:"enabled"`
	Tombstone    bool          `json:"tombstone,omitempty"`
	Entitlements []Entitlement `json:"entitlements,omitempty"`
	// Foreign is access that somebody else gave to the account.
	Foreign []string `json:"foreign,omitempty"`
	Owns    bool     `json:"owns,omitempty"`
}

// PrincipalPage is one page of what carries our mark.
type PrincipalPage struct {
	Principals []Principal `json:"principals"`
	// Unused are the roles that carry an entitlement and that nobody has.
	Unused []UnusedRole `json:"unused,omitempty"`
	Next   string       `json:"next,omitempty"`
}

// UnusedRole is a role on the target that carries our mark and an entitlement,
// and that no account has.
type UnusedRole struct {
	Name        string      `json:"name"`
	Entitlement Entitlement `json:"entitlement"`
}

// Change is one step in the life of a request, hold or account: an audit event
// and the rows that change with it, written together or not at all. Recording
// a key a second time changes nothing.
type Change struct {
	Event   Event          `json:"event"`
	Request *RequestChange `json:"request,omitempty"`
	Holds   []Hold         `json:"holds,omitempty"`
	Account *AccountChange `json:"account,omitempty"`
	// Rotation is how a change of a credential ended.
	Rotation *RotationChange `json:"rotation,omitempty"`
}

// RequestChange sets the outcome of a request's decision phase.
type RequestChange struct {
	ID    string `json:"id"`
	State State  `json:"state"`
	Why   string `json:"why,omitempty"`
	// Review is how its review stands from now on; empty keeps what is known.
	Review Review `json:"review,omitempty"`
}

// AccountChange replaces what is known of an account.
type AccountChange struct {
	ID         string            `json:"id"`
	Name       string            `json:"name,omitempty"`
	Generation int               `json:"generation,omitempty"`
	Wrote      map[string]string `json:"wrote,omitempty"`
	// CleanupAt is when the account is to be deleted; zero while it is in use.
	CleanupAt time.Time `json:"cleanup_at,omitzero"`
	// Deleted is true once the account is gone, or kept disabled for good.
	Deleted bool `json:"deleted,omitempty"`
}

// RotationChange is how a change of a credential ended.
type RotationChange struct {
	// Subject is the id of an account, or of an integration for the secret of
	// its connector.
	Subject string `json:"subject"`
	// Stuck is why it failed half way; "" says that it was changed.
	Stuck string `json:"stuck,omitempty"`
}

// Event is one entry of the audit trail. Key is its natural key: recording it
// twice keeps one.
type Event struct {
	Key         string          `json:"key"`
	Kind        string          `json:"kind"`
	At          time.Time       `json:"at"`
	Actor       string          `json:"actor,omitempty"` // person id, or lapse
	RequestID   string          `json:"request_id,omitempty"`
	HoldID      string          `json:"hold_id,omitempty"`
	AccountID   string          `json:"account_id,omitempty"`
	Integration string          `json:"integration,omitempty"`
	Text        string          `json:"text"`
	Data        json.RawMessage `json:"data,omitempty"`
}

// RequestBrief is what a request's workflow needs to know, read from the store.
type RequestBrief struct {
	Request   Request `json:"request"`
	Requester string  `json:"requester"` // e-mail, for display
	Approvers string  `json:"approvers"` // for display
	Summary   string  `json:"summary"`   // for display
	// State is how far the decision phase has come.
	State     State          `json:"state"`
	Holds     []Hold         `json:"holds"`
	PortalKey []byte         `json:"portal_key"`
	Accounts  []AccountBrief `json:"accounts"`
	// Without are the ids of the holds that approvers left out.
	Without []string `json:"without,omitempty"`
	// Decided is true when what has to be decided before the grant is decided
	// already, as where somebody broke the glass.
	Decided bool `json:"decided,omitempty"`
	// Review is true for access that others review afterwards. It is due at
	// ReviewBy.
	Review   bool      `json:"review,omitempty"`
	ReviewBy time.Time `json:"review_by,omitzero"`
	// Remind is the time between two reminders of those who may decide.
	Remind Duration `json:"remind,omitzero"`
	// Step is the step that waits, and Steps are those of the approval.
	Step  int    `json:"step,omitempty"`
	Steps []Step `json:"steps,omitempty"`
	// StepSince is since when it waits.
	StepSince time.Time `json:"step_since,omitzero"`
}

// DecisionDone is what a decision on record leads to.
type DecisionDone struct {
	// Waits is true when more has to be decided before the request is approved.
	Waits bool `json:"waits,omitempty"`
	// Step is the step that waits, for the approvers whom Approvers names.
	Step      int    `json:"step,omitempty"`
	Approvers string `json:"approvers,omitempty"`
	// Without are the ids of the holds that approvers left out.
	Without []string `json:"without,omitempty"`
	// Known is how many decisions are on record. Of two answers the one that knows
	// more is the later one.
	Known int `json:"known,omitempty"`
	// Reviewed is true once nothing is left to review.
	Reviewed bool `json:"reviewed,omitempty"`
}

// RemindArgs has those told who may decide on a request.
type RemindArgs struct {
	RequestID string `json:"request_id"`
	// Kind is a kind of notice: reminder, escalation, break_glass or review.
	Kind NoticeKind `json:"kind"`
	// Step and Tier are what is escalated.
	Step int `json:"step,omitempty"`
	Tier int `json:"tier,omitempty"`
	// Round tells one reminder from the next.
	Round int `json:"round,omitempty"`
}

// AccountBrief is what an account's workflow needs to know, read from the store.
type AccountBrief struct {
	Account     Account           `json:"account"`
	Integration string            `json:"integration_name"`
	Connector   string            `json:"connector"` // task queue of the connector
	Cleanup     Duration          `json:"cleanup"`
	CleanupAt   time.Time         `json:"cleanup_at,omitzero"`
	Generation  int               `json:"generation"`
	Sequence    int64             `json:"sequence"` // the first one that this run may use
	Holds       []Hold            `json:"holds"`    // those not final
	Baseline    []Baseline        `json:"baseline,omitempty"`
	Wrote       map[string]string `json:"wrote,omitempty"`
	Known       bool              `json:"known"` // false: the store has no such account or integration
	// Credentialed is whether Lapse makes a credential for accounts of this kind.
	Credentialed bool `json:"credentialed"`
}

// TicketArgs asks the control side for leave to grant or extend.
type TicketArgs struct {
	AccountID string   `json:"account_id"`
	RequestID string   `json:"request_id"`
	HoldIDs   []string `json:"hold_ids"`
	Sequence  int64    `json:"sequence"`
	// Nonce names the Extend decision; empty for a first grant.
	Nonce string `json:"nonce,omitempty"`
	// Slots is what Held read, to be kept before the first write.
	Slots []Slot `json:"slots,omitempty"`
}

// TicketDone is a signed ticket and the rows as they were stored with it.
type TicketDone struct {
	Ticket   Ticket            `json:"ticket"`
	Holds    []Hold            `json:"holds"`
	Baseline []Baseline        `json:"baseline,omitempty"`
	Wrote    map[string]string `json:"wrote,omitempty"`
	// Duration and Maximum restart the clock once the access is usable.
	Duration Duration `json:"duration"`
	Maximum  Duration `json:"maximum"`
	// Until is when the flow's timeframe closes, and access with it; zero for none.
	Until time.Time `json:"until,omitzero"`
}

// Ends are when access that begins at a moment ends, and the latest to which that
// may be moved.
func (t TicketDone) Ends(at time.Time) (end, latest time.Time) {
	end, latest = at.Add(t.Duration.Std()), at.Add(t.Maximum.Std())
	if !t.Until.IsZero() {
		end, latest = earlier(end, t.Until), earlier(latest, t.Until)
	}
	return end, latest
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// RotationArgs begins a rotation of credentials.
type RotationArgs struct {
	Integration string `json:"integration"`
	// Now changes what is named, due or not, in the window or not.
	Now bool `json:"now,omitempty"`
	// Secret and AccountID say what, together with Now: the connector's own
	// secret, one account, or all accounts where neither is given.
	Secret    bool   `json:"secret,omitempty"`
	AccountID string `json:"account_id,omitempty"`
	// Exposed ends open sessions too.
	Exposed bool `json:"exposed,omitempty"`
	// Actor is the person who asks for it now.
	Actor string `json:"actor,omitempty"`
}

// RotationPlan is what a rotation has to change.
type RotationPlan struct {
	Integration string `json:"integration"`
	Connector   string `json:"connector"` // task queue
	// Why says why nothing is to be done.
	Why      string            `json:"why,omitempty"`
	Secret   bool              `json:"secret,omitempty"`
	Accounts []RotationAccount `json:"accounts,omitempty"`
}

// RotationAccount is an account whose credential is to be changed.
type RotationAccount struct {
	ID    string `json:"id"`
	Email string `json:"email"`
	// RequestID and HoldIDs are what is held on it.
	RequestID string   `json:"request_id"`
	HoldIDs   []string `json:"hold_ids"`
	// Nonce names this change: a repetition of the same one is none.
	Nonce string `json:"nonce"`
}

// RotationReport is what one rotation did.
type RotationReport struct {
	Integration string `json:"integration"`
	Why         string `json:"why,omitempty"` // nothing was to be done
	// Secret is what became of the connector's own secret; "" when it was not
	// due.
	Secret string `json:"secret,omitempty"`
	// Stuck is why the connector's own secret could not be changed.
	Stuck string `json:"stuck,omitempty"`
	// Asked are the e-mail addresses of the people whose accounts were asked to
	// take another credential.
	Asked []string `json:"asked,omitempty"`
}

// SecretDone says how the connector's own secret was changed.
type SecretDone struct {
	At    time.Time `json:"at"`
	Facts []string  `json:"facts"`
}

// IntegrationBrief is what a workflow needs to know of an integration.
type IntegrationBrief struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Connector string `json:"connector"` // task queue
}

// DiscoverArgs asks for one page of the catalog.
type DiscoverArgs struct {
	Integration string `json:"integration"`
	Cursor      string `json:"cursor,omitempty"`
}

// StoreArgs puts one page of the catalog into the store.
type StoreArgs struct {
	Integration string `json:"integration"`
	Run         string `json:"run"`
	Page        Page   `json:"page"`
}

// DiscoveryReport is what one discovery saw.
type DiscoveryReport struct {
	Integration string   `json:"integration"`
	Resources   int      `json:"resources"`
	Warnings    []string `json:"warnings,omitempty"`
}

// Credential is the plain content of a sealed credential, as the person gets
// to see it once. It is never an argument or a result of an activity.
type Credential struct {
	Username string            `json:"username"`
	Password string            `json:"password"`
	Command  string            `json:"command,omitempty"`
	Details  map[string]string `json:"details,omitempty"`
}
