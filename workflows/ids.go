// Package workflows is what Lapse does durably: one workflow per access
// request, one per account (a person on an integration), and the sweep, the
// discovery and the check of an integration. It is deterministic code only.
// What it does to the world are activities, known here by name and by the types
// of package access.
package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/lapse-access/lapse/access"
)

// Queue is the task queue of all workflows and of the control activities.
const Queue = "lapse"

// ConnectorQueue is the task queue of everything that touches the targets of
// one connector.
func ConnectorQueue(connector string) string { return "connector-" + connector }

// Workflow types.
const (
	RequestType   = "Request"
	AccountType   = "Account"
	SweepType     = "Sweep"
	DiscoveryType = "Discovery"
	CheckType     = "Check"
	RotationType  = "Rotation"
	RemovalType   = "Removal"
	EpochType     = "Epoch"
	AutomaticType = "Automatic"
)

// Workflow ids are opaque: Temporal never encrypts them.

// RequestID is the workflow id of an access request.
func RequestID(request string) string { return "request/" + request }

// AccountID is the workflow id of an account.
func AccountID(account string) string { return "account/" + account }

// SweepID is the workflow id of an integration's sweep, and of its schedule.
func SweepID(integration string) string { return "sweep/" + integration }

// DiscoveryID is the workflow id of an integration's discovery, and of its
// schedule.
func DiscoveryID(integration string) string { return "discover/" + integration }

// CheckID is the workflow id of an integration's check.
func CheckID(integration string) string { return "check/" + integration }

// RotationID is the workflow id of an integration's rotation, and of its
// schedule.
func RotationID(integration string) string { return "rotate/" + integration }

// RemovalID is the workflow id of an integration's removal.
func RemovalID(integration string) string { return "remove/" + integration }

// AutomaticID is the workflow that looks at the automatic access flows, and its
// schedule.
const AutomaticID = "automatic"

// EpochID is the workflow whose memo keeps Temporal's half of the epoch.
const EpochID = "epoch"

// Names of updates, signals and queries. They never change once released.
const (
	// UpdateDecide and its siblings carry an access.Decision to a request.
	UpdateDecide  = "decide"
	UpdateExtend  = "extend"
	UpdateRelease = "release"
	UpdateRevoke  = "revoke"
	UpdateRenew   = "renew"
	// SignalDecide is UpdateDecide for those who cannot wait for an answer.
	SignalDecide = "decide"
	// SignalHolds tells a request how its holds stand.
	SignalHolds = "holds"

	// UpdateHold and its siblings put an Op into an account's queue.
	UpdateHold       = "hold"
	UpdateMove       = "move"
	UpdateEnd        = "end"
	UpdateCredential = "credential"
	UpdateStrip      = "strip"
	// SignalWake makes an account, a removal, or the look at the automatic flows,
	// try again at once what it waits to repeat.
	SignalWake = "wake"
	// SignalReload makes an account read its rows in the store again.
	SignalReload = "reload"

	// QueryState returns what a workflow knows.
	QueryState = "state"
)

// Activity names. Control activities run on Queue, the others on the
// connector's queue.
const (
	ActLoadRequest    = "LoadRequest"
	ActRecordDecision = "RecordDecision"
	ActRemind         = "Remind"
	ActLoadAccount    = "LoadAccount"
	ActTicket         = "Ticket"
	ActRecord         = "Record"
	ActTellAccount    = "TellAccount"
	ActSweepStore     = "SweepStore"
	ActSweepCompare   = "SweepCompare"
	ActStoreResources = "StoreResources"
	ActIntegration    = "Integration"
	ActWake           = "Wake"
	ActPlanRotation   = "PlanRotation"
	ActAutomatic      = "Automatic"

	ActEndIntegration    = "EndIntegration"
	ActForgetIntegration = "ForgetIntegration"

	ActHeld       = "Held"
	ActGrant      = "Grant"
	ActVerify     = "Verify"
	ActRevoke     = "Revoke"
	ActCredential = "Credential"
	ActDelete     = "DeleteAccount"
	ActPrincipals = "Accounts"
	ActMaintain   = "Maintain"
	ActClean      = "Clean"
	ActDiscover   = "Discover"
	ActCheck      = "Check"
	ActSecret     = "RotateSecret"
)

// Search attributes. They are never encrypted and hold opaque ids and states
// only.
var (
	AttrState       = temporal.NewSearchAttributeKeyKeyword("LapseState")
	AttrPerson      = temporal.NewSearchAttributeKeyKeyword("LapsePerson")
	AttrIntegration = temporal.NewSearchAttributeKeyKeywordList("LapseIntegration")
	AttrExpires     = temporal.NewSearchAttributeKeyTime("LapseExpires")
)

// Op is one operation in an account's queue. ID makes it idempotent.
type Op struct {
	ID        string   `json:"id"`
	Kind      string   `json:"kind"` // one of UpdateHold and its siblings
	RequestID string   `json:"request_id,omitempty"`
	HoldIDs   []string `json:"hold_ids,omitempty"`
	// Want names the entitlements of the holds for UpdateHold, to be looked at;
	// what is granted is what the ticket says. For UpdateStrip it is what is there
	// without a hold.
	Want []access.Entitlement `json:"want,omitempty"`
	// Nonce names the decision behind UpdateMove and UpdateCredential.
	Nonce string `json:"nonce,omitempty"`
	// Actor and Why are told to the audit trail for UpdateEnd.
	Actor string `json:"actor,omitempty"`
	Why   string `json:"why,omitempty"`
}

// TellArgs asks the control side to put an operation into an account's queue,
// starting the account's workflow where it does not run.
type TellArgs struct {
	AccountID string `json:"account_id"`
	Op        Op     `json:"op"`
}

// HoldsTold is what an account tells a request.
type HoldsTold struct {
	Holds []access.Hold `json:"holds"`
	// Refused is why an operation was not done; empty when it was.
	Refused string `json:"refused,omitempty"`
}

// DecisionAck is what somebody who decides is answered.
type DecisionAck struct {
	State access.State `json:"state"`
}

// RequestInput starts a request's workflow. All else is read from the store,
// so that a workflow started by somebody else has nothing to say.
type RequestInput struct {
	RequestID string `json:"request_id"`
}

// AccountInput starts an account's workflow, or the next run of one. What the
// account holds is read from the store, so that a workflow started by somebody
// else can say nothing about it.
type AccountInput struct {
	AccountID string `json:"account_id"`
	Queue     []Op   `json:"queue,omitempty"`
}

// Times of the workflows.
const (
	// settle is how long a revoke may take before its holds are called overdue.
	settle = access.OverdueAfter
	// patience is the first interval after which a request that has heard
	// nothing from an account asks again; it doubles up to maxPatience.
	patience    = 20 * time.Second
	maxPatience = 15 * time.Minute
	// refusedCap is how many refusals one run of a workflow puts on record.
	refusedCap = 20
	// continueAfter is the length of an idle account's history at which it
	// continues as new.
	continueAfter = 200
)
