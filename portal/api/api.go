// Package api is the JSON of Lapse's REST API: what the portal answers and the
// command line reads. Times are RFC 3339 in UTC, durations are written as in
// "1h30m", integrations go by name and people by e-mail address.
package api

import (
	"encoding/json"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/spec"
)

// Prefix is the path under which every operation is found.
const Prefix = "/api/v1"

// Headers with a meaning of their own.
const (
	// HeaderAs names the person in dev, where nobody proves who they are.
	HeaderAs = "Lapse-As"
	// HeaderIdempotencyKey makes a request that is sent twice count once.
	HeaderIdempotencyKey = "Idempotency-Key"
)

// Want is one entitlement that somebody asks for.
type Want struct {
	Integration string `json:"integration" doc:"name of the integration" example:"prod-pg" minLength:"1"`
	Resource    string `json:"resource" doc:"resource as TYPE:PATH" example:"schema:shop/public" minLength:"1"`
	Permission  string `json:"permission" doc:"permission on the resource" example:"read_only" minLength:"1"`
}

// NewRequest asks for access.
type NewRequest struct {
	Wants  []Want `json:"wants,omitempty" doc:"what is asked for" maxItems:"50"`
	For    string `json:"for" doc:"how long, from the moment it is usable" example:"1h" minLength:"1"`
	Reason string `json:"reason" doc:"why; shown to those who decide, and kept in the audit trail" minLength:"1" maxLength:"1000"`
	Options
	Fields map[string]string `json:"fields,omitempty" doc:"what else the access flow wants to know, by the name of the field"`
}

// Options are what a request may say beside what is asked for.
type Options struct {
	OnBehalfOf string     `json:"on_behalf_of,omitempty" doc:"e-mail address of the person whose access it becomes; the caller when left out" maxLength:"254"`
	StartAt    *time.Time `json:"start_at,omitempty" doc:"when the access begins; once it is approved when left out"`
	BreakGlass bool       `json:"break_glass,omitempty" doc:"true takes the access at once, by an access flow that is for it; everybody concerned is told, and it is reviewed afterwards"`
	Bundle     string     `json:"bundle,omitempty" doc:"name of a bundle; what it holds is asked for beside wants" maxLength:"64"`
}

// Explain asks what would become of a request.
type Explain struct {
	Wants  []Want `json:"wants,omitempty" doc:"what would be asked for" maxItems:"50"`
	For    string `json:"for" doc:"how long" example:"1h" minLength:"1"`
	Person string `json:"person,omitempty" doc:"e-mail address of who would ask; the caller when left out, others for administrators only"`
	Options
}

// Explained is what would become of a request.
type Explained struct {
	Person string `json:"person" doc:"e-mail address of whose access it would be"`
	Says   string `json:"says" doc:"it in a sentence"`
	access.Explanation
	Approvers []string              `json:"approvers" doc:"who could approve it now; for break-glass who would review it"`
	Steps     []access.Stage        `json:"steps" doc:"the steps of the approval, or of the review"`
	Automatic []string              `json:"automatic,omitempty" doc:"automatic access flows that give it without a request"`
	Stuck     string                `json:"stuck,omitempty" doc:"why nobody could ever approve it, so that it is refused"`
	Closes    *time.Time            `json:"closes,omitempty" doc:"when the timeframe of the flow closes, and the access with it at the latest"`
	Fields    []access.RequestField `json:"fields,omitempty" doc:"what the flow wants to know beside the reason"`
	Durations []access.Duration     `json:"durations,omitempty" doc:"the only durations that the flow gives"`
	// Justification is what the reason has to be like.
	Justification access.Justification `json:"justification,omitzero" doc:"what the flow wants the reason to be like"`
	Unanswered    []string             `json:"unanswered,omitempty" doc:"what happens when nobody decides, or reviews, in sentences"`
	Notified      []string             `json:"notified,omitempty" doc:"e-mail addresses of those who are told at once when the glass is broken"`
	Grants        []Meant              `json:"grants" doc:"what would be granted"`
}

// Meant is something wanted, and what it means on the target.
type Meant struct {
	Want
	Means string   `json:"means"`
	Told  []string `json:"told,omitempty" doc:"what the target would be told, for a person who has nothing there yet: each statement, or each request with its body below it; ‹...› stands for what only the target knows, *** for a secret"`
}

// Decide approves or denies a request.
type Decide struct {
	Verdict access.Verdict `json:"verdict" doc:"approve or deny; justify or object for a review" enum:"approve,deny,justify,object"`
	Reason  string         `json:"reason,omitempty" doc:"why; kept in the audit trail; a review needs one" maxLength:"1000"`
	For     string         `json:"for,omitempty" doc:"with approve: for so long at most, not longer than was asked for" example:"30m"`
	Without []Want         `json:"without,omitempty" doc:"with approve: what of it is left out" maxItems:"50"`
}

// Extend asks for access to last longer.
type Extend struct {
	By string `json:"by" doc:"how much longer" example:"30m" minLength:"1"`
}

// Why is the reason of a release, a revoke, or an acceptance.
type Why struct {
	Reason string `json:"reason,omitempty" doc:"why; kept in the audit trail" maxLength:"1000"`
}

// NewCredential asks for the credential of an account.
type NewCredential struct {
	New         bool   `json:"new,omitempty" doc:"true makes another credential; the old one stops working"`
	Integration string `json:"integration,omitempty" doc:"which integration, where the request has more than one"`
}

// Request is an access request and how it stands.
type Request struct {
	ID     string       `json:"id"`
	State  access.State `json:"state"`
	Person string       `json:"person" doc:"e-mail address of the requester"`
	Reason string       `json:"reason"`
	// Why is what ended the decision phase, in words.
	Why         string            `json:"why,omitempty" doc:"what ended the wait for a decision"`
	Flow        string            `json:"flow" doc:"access flow that admitted it"`
	Duration    access.Duration   `json:"duration"`
	CreatedAt   time.Time         `json:"created_at"`
	ExpiresAt   time.Time         `json:"expires_at" doc:"until when somebody has to decide"`
	Approvers   []string          `json:"approvers" doc:"who may decide, or review, now"`
	Steps       []access.Stage    `json:"steps" doc:"the steps of the approval, or of the review; left empty in lists once it is decided"`
	AskedBy     string            `json:"asked_by,omitempty" doc:"e-mail address of who asked for it on behalf of the person"`
	StartAt     *time.Time        `json:"start_at,omitempty" doc:"when the access is to begin, where that was asked for"`
	Fields      map[string]string `json:"fields,omitempty" doc:"what else the requester said"`
	Bundle      string            `json:"bundle,omitempty" doc:"the bundle that was asked for"`
	Trigger     string            `json:"trigger" doc:"how the access flow is set off" enum:"self_serve,automatic,break_glass"`
	Review      access.Review     `json:"review,omitempty" doc:"how the review stands of access that was taken by breaking the glass" enum:"due,done,objected"`
	ReviewBy    *time.Time        `json:"review_by,omitempty" doc:"when that review is due"`
	ApprovedFor access.Duration   `json:"approved_for,omitzero" doc:"what an approver shortened the duration to"`
	Holds       []Hold            `json:"holds"`
	Decisions   []Decision        `json:"decisions" doc:"left empty in lists"`
	Events      []Event           `json:"events" doc:"left empty in lists"`
	// Note is what the caller should know beside it.
	Note string `json:"note,omitempty"`
}

// Hold is one entitlement of a request.
type Hold struct {
	ID             string       `json:"id"`
	Integration    string       `json:"integration"`
	Resource       string       `json:"resource"`
	Permission     string       `json:"permission"`
	State          access.State `json:"state"`
	StartsAt       *time.Time   `json:"starts_at" doc:"since when it is usable"`
	EndsAt         *time.Time   `json:"ends_at" doc:"when it must be gone"`
	OverdueSeconds int64        `json:"overdue_seconds" doc:"how long it is past its end and not proven gone"`
	Error          string       `json:"error,omitempty"`
	Evidence       HoldEvidence `json:"evidence"`
}

// HoldEvidence is what was read on the target.
type HoldEvidence struct {
	Grant  *access.Evidence `json:"grant"`
	Revoke *access.Evidence `json:"revoke"`
}

// Decision is what somebody decided.
type Decision struct {
	By      string         `json:"by" doc:"e-mail address"`
	Verdict access.Verdict `json:"verdict"`
	Reason  string         `json:"reason"`
	At      time.Time      `json:"at"`
	// For and Without are what an approval changed.
	For     access.Duration `json:"for,omitzero" doc:"what an approval shortened the access to"`
	Without []string        `json:"without,omitempty" doc:"ids of the holds that an approval left out"`
}

// Event is one entry of the audit trail.
type Event struct {
	Seq         int64           `json:"seq"`
	At          time.Time       `json:"at"`
	Kind        string          `json:"kind"`
	Actor       string          `json:"actor,omitempty" doc:"e-mail address, or lapse"`
	RequestID   string          `json:"request_id,omitempty"`
	HoldID      string          `json:"hold_id,omitempty"`
	AccountID   string          `json:"account_id,omitempty"`
	Integration string          `json:"integration,omitempty"`
	Text        string          `json:"text"`
	Data        json.RawMessage `json:"data,omitempty"`
	Hash        string          `json:"hash"`
}

// Requests is a list of requests, newest first.
type Requests struct {
	Requests []Request `json:"requests"`
}

// Credential is what a person needs to use an account. It is shown once.
type Credential struct {
	Username string            `json:"username"`
	Password string            `json:"password"`
	Command  string            `json:"command" doc:"ready for a terminal, without the password"`
	Details  map[string]string `json:"details"`
}

// Applied is what applying a file did, or would do.
type Applied struct {
	Version int64 `json:"version" doc:"version of the configuration that is in force"`
	DryRun  bool  `json:"dry_run"`
	// Changes is empty when the file says what is in force already.
	Changes  []config.Line `json:"changes"`
	Warnings []spec.Fault  `json:"warnings,omitempty"`

	TwoPersons bool   `json:"two_persons,omitempty" doc:"the configuration in force wants two persons: the file became a proposal, or would in a dry run"`
	Proposal   string `json:"proposal,omitempty" doc:"id of the proposal that it became; another administrator decides on it"`
}

// Config is the configuration in force.
type Config struct {
	Version int64           `json:"version"`
	Config  json.RawMessage `json:"config"`
}

// Integration is one target system.
type Integration struct {
	Name      string           `json:"name"`
	Kind      string           `json:"kind"`
	Title     string           `json:"title,omitempty" doc:"the kind as its vendor writes it"`
	Connector string           `json:"connector"`
	Sessions  string           `json:"sessions,omitempty" doc:"what a revoke does to open sessions"`
	Types     []string         `json:"resource_types"`
	Owner     bool             `json:"owner" doc:"whether the caller may check, discover and sweep it"`
	Findings  []access.Finding `json:"findings,omitempty" doc:"what the newest sweep found; for its owners"`
}

// Integrations is the list of integrations, by name.
type Integrations struct {
	Integrations []Integration `json:"integrations"`
}

// Resources is a part of an integration's catalog.
type Resources struct {
	Resources []Resource `json:"resources"`
	// Next begins the next page; empty at the end.
	Next string `json:"next,omitempty"`
}

// Resource is something that can be asked for.
type Resource struct {
	Resource    string            `json:"resource" doc:"as TYPE:PATH"`
	Permissions []string          `json:"permissions"`
	Tags        map[string]string `json:"tags,omitempty"`
	Note        string            `json:"note,omitempty" doc:"what people should know before they ask"`
}

// Check is what a preflight found.
type Check struct {
	Integration string             `json:"integration"`
	OK          bool               `json:"ok" doc:"every item that is not optional is met"`
	Server      string             `json:"server" doc:"product and version"`
	Items       []access.CheckItem `json:"items"`
}

// SweepArgs says what a sweep may do.
type SweepArgs struct {
	DryRun bool                 `json:"dry_run,omitempty" doc:"true changes nothing, on the target, in the store or in Temporal"`
	Repair bool                 `json:"repair,omitempty" doc:"true repairs what is found and can be repaired, whatever sweep.repair says"`
	Only   []access.FindingKind `json:"only,omitempty" doc:"with repair: no more than these sorts of findings" enum:"unknown_principal,unexpected,missing,unused_role"`
}

// Discovery is how far a discovery is.
type Discovery struct {
	Running   bool `json:"running"`
	Resources int  `json:"resources" doc:"how many it has stored so far"`
}

// Sweep is what a sweep found.
type Sweep struct {
	Integration string    `json:"integration"`
	At          time.Time `json:"at,omitzero" doc:"when it began; left out before the first"`
	DryRun      bool      `json:"dry_run,omitempty" doc:"nothing was changed"`
	ReportOnly  string    `json:"report_only,omitempty" doc:"why nothing is repaired"`
	// Policy is what the integration's sweeps repair by themselves.
	Policy   []access.FindingKind `json:"policy" doc:"what a sweep repairs by itself, beside lost workflows"`
	Findings []access.Finding     `json:"findings" doc:"the gravest sort first"`
	Notes    []string             `json:"notes,omitempty" doc:"what was brought up to date on the target by the way"`
}

// Rotate says what to change now, due or not.
type Rotate struct {
	Secret  bool   `json:"secret,omitempty" doc:"the connector's own secret, and no account"`
	Person  string `json:"person,omitempty" doc:"e-mail address of the one person whose credential is changed; everybody's when left out"`
	Exposed bool   `json:"exposed,omitempty" doc:"true when somebody else has seen it: open sessions end too"`
}

// Removal is how the removal of an integration stands.
type Removal struct {
	Integration string    `json:"integration"`
	State       string    `json:"state" enum:"none,running,left,forgotten" doc:"none: nobody removes it; left: it waits until what is left is gone or accepted; forgotten: it is complete"`
	By          string    `json:"by,omitempty" doc:"e-mail address of who removes it"`
	At          time.Time `json:"at,omitzero"`
	Reason      string    `json:"reason,omitempty"`
	Configured  bool      `json:"configured" doc:"the configuration in force has it; it is not forgotten before that is changed"`
	// Open is what is there now: without a removal, what one would end.
	Open       []access.Left `json:"open" doc:"holds and accounts that are there now"`
	Left       []access.Left `json:"left" doc:"what was last found left"`
	AcceptedBy string        `json:"accepted_by,omitempty" doc:"e-mail address of who is content to leave what is left"`
	Accepted   string        `json:"accepted,omitempty" doc:"why"`
	ReportOnly string        `json:"report_only,omitempty" doc:"why nothing is removed: after a restore"`
	Note       string        `json:"note,omitempty"`
}

// Notice is something that the caller was told.
type Notice struct {
	ID        string            `json:"id"`
	Kind      access.NoticeKind `json:"kind" enum:"reminder,escalation,break_glass,review,decided,granted,ended,failed,started,expiring"`
	Title     string            `json:"title" doc:"heading of every notice of the kind"`
	RequestID string            `json:"request_id,omitempty"`
	Text      string            `json:"text"`
	At        time.Time         `json:"at"`
	SeenAt    time.Time         `json:"seen_at,omitzero" doc:"when the caller said to have seen it; left out before"`
}

// Notices is a part of what the caller was told, newest first.
type Notices struct {
	Notices []Notice `json:"notices"`
	// Next begins the next page; empty at the end.
	Next string `json:"next,omitempty"`
}

// SeeNotices says what was seen.
type SeeNotices struct {
	UpTo string `json:"up_to" doc:"id of the newest notice that was seen; what was told before it counts as seen too" minLength:"1" maxLength:"100"`
}

// SeenNotices says what became of that.
type SeenNotices struct {
	Seen int64 `json:"seen" doc:"how many were not seen before"`
}

// Audit is what a walk over the audit trail found.
type Audit struct {
	OK     bool         `json:"ok"`
	Events int64        `json:"events"`
	Head   string       `json:"head" doc:"hash of the newest event; kept elsewhere it proves later that nothing before it changed"`
	Faults []AuditFault `json:"faults"`
}

// AuditFault is one place where the audit trail is not as it was written.
type AuditFault struct {
	Seq  int64  `json:"seq,omitempty"`
	Text string `json:"text"`
}

// Events is a part of the audit trail, oldest first.
type Events struct {
	Events []Event `json:"events"`
	// Next begins the next page; 0 at the end.
	Next int64 `json:"next,omitempty"`
}

// Restore is how things stand after a restore of Lapse's or Temporal's data.
type Restore struct {
	ReportOnly   string    `json:"report_only,omitempty" doc:"why nothing is changed on a target; empty when there is nothing to accept"`
	Since        time.Time `json:"since,omitzero"`
	Report       string    `json:"report,omitempty" doc:"names what was found; empty until every integration was swept since"`
	Integrations []Sweep   `json:"integrations"`
	Missing      []string  `json:"missing" doc:"integrations that were not swept since"`
}

// AcceptRestore accepts a report.
type AcceptRestore struct {
	Reason string `json:"reason" doc:"what was compared, and why it is right to go on"`
	Report string `json:"report,omitempty" doc:"report of the restore that was looked at"`
}

// Restored says how the installation stands after an accepted restore.
type Restored struct {
	Accepted bool   `json:"accepted" doc:"false when there was nothing to accept"`
	Was      string `json:"was,omitempty" doc:"why nothing was changed on a target"`
}

// Health says what works.
type Health struct {
	Store      string `json:"store" enum:"ok,failing"`
	Temporal   string `json:"temporal" enum:"ok,unreachable"`
	ReportOnly string `json:"report_only,omitempty" doc:"why nothing is changed on a target: a restore that is not accepted"`
	Runbook    string `json:"runbook,omitempty" doc:"what is wrong with the runbook, the file for the day on which Lapse cannot be brought back"`
}

// Problem is an error, as RFC 9457 wants it. It never repeats what was sent.
type Problem struct {
	Type   string `json:"type,omitempty" doc:"always about:blank"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty" doc:"what is wrong"`
	Hint   string `json:"hint,omitempty" doc:"what to do"`
	// Errors are the places in a body or query that are not as they should be.
	Errors []Wrong `json:"errors,omitempty"`
	// Faults are those of a configuration file.
	Faults []spec.Fault `json:"faults,omitempty"`
}

// Wrong is one place in what was sent.
type Wrong struct {
	Location string `json:"location,omitempty" example:"body.wants[0].resource"`
	Message  string `json:"message"`
}

// Error is the detail, or the title where there is none.
func (p *Problem) Error() string {
	if p.Detail != "" {
		return p.Detail
	}
	return p.Title
}

// GetStatus is the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType marks the JSON as a problem.
func (p *Problem) ContentType(ct string) string {
	if ct == "application/json" {
		return "application/problem+json"
	}
	return ct
}

// ChangeVerdict is what an administrator makes of a proposal.
type ChangeVerdict string

const (
	ChangeApprove  ChangeVerdict = "approve"
	ChangeReject   ChangeVerdict = "reject"
	ChangeWithdraw ChangeVerdict = "withdraw"
)

// Change is a proposal: a file that changes a configuration which wants two
// persons for that.
type Change struct {
	ID        string          `json:"id"`
	State     string          `json:"state" enum:"open,approved,rejected,withdrawn,stale" doc:"stale: the configuration in force is no longer the one with which it was compared"`
	By        string          `json:"by" doc:"e-mail address of who proposed it; lapse for a file that a process was started with"`
	Sponsor   string          `json:"sponsor,omitempty" doc:"e-mail address of the administrator who stands for what lapse proposed; another one has to approve it too"`
	At        time.Time       `json:"at"`
	File      string          `json:"file" doc:"name of the file"`
	Base      int64           `json:"base" doc:"version of the configuration with which it was compared"`
	Changes   []config.Line   `json:"changes"`
	DecidedBy string          `json:"decided_by,omitempty" doc:"e-mail address"`
	DecidedAt time.Time       `json:"decided_at,omitzero"`
	Reason    string          `json:"reason,omitempty" doc:"of the decision"`
	Version   int64           `json:"version,omitempty" doc:"version of the configuration that it became"`
	May       []ChangeVerdict `json:"may" doc:"what the caller may make of it"`
	Warnings  []spec.Fault    `json:"warnings,omitempty"`
	Faults    []spec.Fault    `json:"faults,omitempty" doc:"what is wrong with the file by now; it cannot be approved"`
	Note      string          `json:"note,omitempty"`
}

// Changes are the newest proposals, the newest first.
type Changes struct {
	TwoPersons bool     `json:"two_persons" doc:"the configuration in force wants two persons for a change"`
	Changes    []Change `json:"changes"`
}

// DecideChange is an administrator's decision on a proposal.
type DecideChange struct {
	Verdict ChangeVerdict `json:"verdict" enum:"approve,reject,withdraw"`
	Reason  string        `json:"reason,omitempty" doc:"kept in the audit trail; required to reject" maxLength:"1000"`
}
