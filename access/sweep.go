package access

import (
	"slices"
	"time"
)

// FindingKind is a sort of finding of the sweep.
type FindingKind string

// The closed set of findings; FindingSorts says what each means.
const (
	FindingRestored         FindingKind = "restored"
	FindingUnreadable       FindingKind = "unreadable"
	FindingOverdue          FindingKind = "overdue"
	FindingUnknownPrincipal FindingKind = "unknown_principal"
	FindingUnexpected       FindingKind = "unexpected"
	FindingForeign          FindingKind = "foreign"
	FindingLostAccount      FindingKind = "lost_account"
	FindingLostRequest      FindingKind = "lost_request"
	FindingMissing          FindingKind = "missing"
	FindingStuckRotation    FindingKind = "stuck_rotation"
	FindingOutdated         FindingKind = "outdated"
	FindingUnusedRole       FindingKind = "unused_role"
)

// Severity says how much a finding matters.
type Severity string

// The severities, the gravest first.
const (
	Alarm   Severity = "alarm"   // access may be there that nobody is to have
	Warning Severity = "warning" // something is not as Lapse left it
	Remark  Severity = "notice"  // nobody has access by it
)

// RepairMode says which sweeps repair a sort of finding.
type RepairMode string

// The modes of repair. No sweep repairs anything on a dry run, or before a
// restore is accepted.
const (
	RepairAlways   RepairMode = "always"    // every sweep
	RepairByPolicy RepairMode = "by_policy" // where sweep.repair names it, or somebody asks for it
	RepairNever    RepairMode = "never"
)

// FindingSort is what is declared of a sort of finding.
type FindingSort struct {
	Kind     FindingKind
	Severity Severity
	Doc      string // what it means
	Mode     RepairMode
	Repair   string // what a repair does, or why there is none
}

// FindingSorts are all sorts of findings, the gravest first.
var FindingSorts = []FindingSort{
	{FindingRestored, Alarm, "Lapse's or Temporal's data was restored from a backup, and nobody has accepted that yet",
		RepairNever, "somebody has to compare first, and accept"},
	{FindingUnreadable, Alarm, "the target cannot be read, so nothing on it was compared",
		RepairNever, "the next sweep tries again"},
	{FindingOverdue, Alarm, "a hold is past its end and not proven gone",
		RepairNever, "its account repeats the revoke for ever; a sweep that can read the target makes it try at once"},
	{FindingUnknownPrincipal, Alarm, "an account carries our mark, and the store does not know it",
		RepairByPolicy, "it is deleted; one that owns things is kept, disabled and without access"},
	{FindingUnexpected, Alarm, "an account of ours has access for which there is no hold, such as access that was given again by hand",
		RepairByPolicy, "its account takes it away, and ends sessions as every revoke does"},
	{FindingForeign, Warning, "somebody else gave an account of ours something that Lapse did not",
		RepairNever, "it is not Lapse's to take away: whoever gave it has to"},
	{FindingLostAccount, Warning, "something is held, and no workflow of Lapse runs for its account",
		RepairAlways, "the workflow is started again from the store, with the stored ends; one of somebody else's under its id is terminated"},
	{FindingLostRequest, Warning, "a request that is not over has no workflow, or one that was ended in Temporal",
		RepairAlways, "one that was never started is started; one that was ended before anything was granted is closed; what is held goes on and ends in time"},
	{FindingMissing, Warning, "access for which there is a hold was taken away on the target by hand",
		RepairByPolicy, "the hold is ended, so that the person can ask again; nothing is granted without a decision"},
	{FindingStuckRotation, Warning, "the change of a credential, or of the connector's own secret, failed half way",
		RepairNever, "the next rotation tries again, and lapse rotate does at once"},
	{FindingOutdated, Warning, "what belongs to all accounts could not be brought up to date on the target",
		RepairNever, "the next sweep tries again"},
	{FindingUnusedRole, Remark, "a role carries our mark and an entitlement, and nobody has it",
		RepairByPolicy, "it is dropped at once, unless it is in use again or owns things; without a repair it is dropped after a week at most"},
}

// Sort finds what is declared of a sort of finding. One that an older or newer
// version kept is an alarm.
func (k FindingKind) Sort() FindingSort {
	if i := k.rank(); i >= 0 {
		return FindingSorts[i]
	}
	return FindingSort{Kind: k, Severity: Alarm, Mode: RepairNever}
}

// Repairable are the sorts that are repaired where somebody asks for it.
func Repairable() (kinds []FindingKind) {
	for _, s := range FindingSorts {
		if s.Mode == RepairByPolicy {
			kinds = append(kinds, s.Kind)
		}
	}
	return kinds
}

// Finding is one thing that the sweep saw and that should not be so.
type Finding struct {
	Kind    FindingKind `json:"kind" enum:"restored,unreadable,overdue,unknown_principal,unexpected,foreign,lost_account,lost_request,missing,stuck_rotation,outdated,unused_role" doc:"sort of finding"`
	Subject string      `json:"subject" doc:"a principal, role, person, request or integration"`
	// About is what of the subject it is: an entitlement, or what somebody else
	// gave. Together with Kind and Subject it is the same from sweep to sweep.
	About string `json:"about,omitempty" doc:"what of the subject: an entitlement, or what somebody else gave"`
	Text  string `json:"text" doc:"what was seen, in words"`
	// Since is when a sweep saw it first.
	Since time.Time `json:"since,omitzero" doc:"when a sweep saw it first"`
	// Repaired says what was done about it; empty where nothing was.
	Repaired string `json:"repaired,omitempty" doc:"what was done about it"`
}

// Same reports whether two sweeps saw one and the same.
func (f Finding) Same(g Finding) bool {
	return f.Kind == g.Kind && f.Subject == g.Subject && f.About == g.About
}

// Compare orders findings, the gravest sort first.
func (f Finding) Compare(g Finding) int { return f.Kind.rank() - g.Kind.rank() }

// rank is the place of a sort; one that is not known comes first.
func (k FindingKind) rank() int {
	return slices.IndexFunc(FindingSorts, func(s FindingSort) bool { return s.Kind == k })
}

// SweepReport is what one sweep of an integration found.
type SweepReport struct {
	ID          string    `json:"id"` // of the integration: a removed one may have another's name
	Integration string    `json:"integration"`
	Connector   string    `json:"connector"` // task queue
	Known       bool      `json:"known"`     // false: there is no such integration any more
	At          time.Time `json:"at"`
	// ReportOnly is why nothing is repaired: after a restore, until somebody
	// accepts it.
	ReportOnly string `json:"report_only,omitempty"`
	// DryRun is true where nothing is changed, on the target, in the store or in
	// Temporal.
	DryRun   bool      `json:"dry_run,omitempty"`
	Findings []Finding `json:"findings"`
	// Notes is what was brought up to date on the target by the way.
	Notes []string `json:"notes,omitempty"`
	// Doubts are holds that the list of principals does not show, to be verified
	// before they are called missing.
	Doubts []VerifyArgs `json:"doubts,omitempty"`
	// Repair names the sorts that this sweep repairs beside those that it always
	// does.
	Repair []FindingKind `json:"repair,omitempty"`
	// Delete names the principals that it deletes.
	Delete []Account `json:"delete,omitempty"`
}

// Repairs reports whether the sweep repairs a sort of finding.
func (r SweepReport) Repairs(k FindingKind) bool { return slices.Contains(r.Repair, k) }

// SweepArgs begins a sweep.
type SweepArgs struct {
	Integration string `json:"integration"`
	// DryRun changes nothing.
	DryRun bool `json:"dry_run,omitempty"`
	// Repair repairs what can be repaired, whatever the policy says, and with
	// Only no more than these sorts.
	Repair bool          `json:"repair,omitempty"`
	Only   []FindingKind `json:"only,omitempty"`
}

// CompareArgs ends a sweep: what the target shows is held against the store.
type CompareArgs struct {
	Report     SweepReport  `json:"report"`
	Principals []Principal  `json:"principals"`
	Unused     []UnusedRole `json:"unused,omitempty"`
	// Read is false when the target could not be read, and why.
	Read  bool   `json:"read"`
	Error string `json:"error,omitempty"`
	// Verified answers the doubts, by the id of the account.
	Verified map[string]Verified `json:"verified,omitempty"`
	Last     bool                `json:"last"` // after the repair
}

// Verified says which doubted entitlements of an account are there, or why that
// is not known.
type Verified struct {
	There []Entitlement `json:"there,omitempty"`
	Error string        `json:"error,omitempty"`
}
