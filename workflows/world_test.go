package workflows_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/activity"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/workflows"
)

// world is an honest little store and target behind the activity names: what a
// workflow did is judged by what stands in it, not by which activities ran.
type world struct {
	env *testsuite.TestWorkflowEnvironment

	mu      sync.Mutex
	row     access.AccountBrief
	runs    int64
	holds   map[string]*access.Hold // every hold that the store knows
	length  map[string]time.Duration
	target  map[access.Entitlement]bool
	account bool // there is an account on the target
	ended   bool // its sessions were, with a new credential
	stuck   string
	last    int64
	events  []access.Event
	told    []workflows.HoldsTold
	ops     []workflows.Op  // what requests told accounts
	first   []workflows.Op  // what the account is started with
	taken   map[string]bool // ids of the operations that the account took
	request access.RequestBrief
	outcome access.RequestChange // of the decision phase
	// leads, where set, says what a decision leads to.
	leads    func(access.Decision) access.DecisionDone
	reminded []string // when people were told, of what, and for which step, tier and round
	began    time.Time
	key      ed25519.PrivateKey

	// invited, where set, is how an invitation stands that a grant makes.
	invited access.Entry

	// fault, where set, is asked before each activity has its effect.
	fault func(name string) error
	// lost, where set, is asked after it: the effect stands, the answer is lost.
	lost func(name string) error
}

const (
	acct    = "int-1/per-1"
	cleanup = 48 * time.Hour
	longest = 8 * time.Hour
)

func entitlement(permission string) access.Entitlement {
	return access.Entitlement{Integration: "int-1", Resource: access.NewResource("schema", "shop", "public"), Permission: permission}
}

func newWorld() *world {
	suite := testsuite.WorkflowTestSuite{}
	suite.SetLogger(sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	pub, key, _ := ed25519.GenerateKey(nil)
	w := &world{env: suite.NewTestWorkflowEnvironment(), holds: map[string]*access.Hold{}, length: map[string]time.Duration{}, target: map[access.Entitlement]bool{}, taken: map[string]bool{}, key: key}
	w.env.SetTestTimeout(30 * time.Second)
	w.row = access.AccountBrief{
		Account:     access.Account{ID: acct, Integration: "int-1", PersonID: "per-1", Email: "ana@example.com"},
		Integration: "prod-pg", Connector: "connector-default", Cleanup: access.Duration(cleanup), Known: true, Credentialed: true,
	}
	w.request.PortalKey = pub
	for name, f := range map[string]any{
		workflows.ActLoadAccount: w.loadAccount, workflows.ActTicket: w.ticket, workflows.ActRecord: w.record,
		workflows.ActHeld: w.held, workflows.ActGrant: w.grant, workflows.ActVerify: w.verify, workflows.ActRevoke: w.revoke, workflows.ActDelete: w.delete, workflows.ActCredential: w.credential,
		workflows.ActLoadRequest: w.loadRequest, workflows.ActRecordDecision: w.recordDecision, workflows.ActTellAccount: w.tellAccount, workflows.ActRemind: w.remind,
	} {
		w.env.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name})
	}
	w.env.OnSignalExternalWorkflow(mock.Anything, mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(
		func(_, _, _, _ string, arg any) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.told = append(w.told, arg.(workflows.HoldsTold))
			return nil
		})
	return w
}

// do runs an activity's effect between the planned faults.
func (w *world) do(name string, effect func() error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fault != nil {
		if err := w.fault(name); err != nil {
			return err
		}
	}
	if err := effect(); err != nil {
		return err
	}
	if w.lost != nil {
		return w.lost(name)
	}
	return nil
}

func refuse(kind access.ErrorKind, text string) error {
	return temporal.NewNonRetryableApplicationError(text, string(kind), nil)
}

func (w *world) loadAccount(_ context.Context, id string) (b access.AccountBrief, err error) {
	err = w.do(workflows.ActLoadAccount, func() error {
		if id != w.row.Account.ID {
			b.Account.ID = id
			return nil
		}
		w.runs++
		b = w.row
		b.Sequence = w.runs << 20
		for _, h := range w.sorted() {
			if h.State.Open() {
				b.Holds = append(b.Holds, h)
			}
		}
		return nil
	})
	return b, err
}

func (w *world) sorted() (out []access.Hold) {
	for _, h := range w.holds {
		out = append(out, *h)
	}
	slices.SortFunc(out, func(a, b access.Hold) int { return len(a.ID) - len(b.ID) + slices.Compare([]byte(a.ID), []byte(b.ID)) })
	return out
}

func (w *world) ticket(_ context.Context, a access.TicketArgs) (d access.TicketDone, err error) {
	err = w.do(workflows.ActTicket, func() error {
		now := w.env.Now()
		d.Ticket = access.Ticket{RequestID: a.RequestID, Account: w.row.Account, Sequence: a.Sequence, LatestStart: now.Add(10 * time.Minute)}
		d.Maximum = access.Duration(longest)
		for _, id := range a.HoldIDs {
			h := w.holds[id]
			if h == nil || h.State.Final() || h.RequestID != a.RequestID {
				return refuse(access.NoTicket, "no such hold: "+id)
			}
			d.Duration = access.Duration(w.length[id])
			if a.Nonce == "" {
				h.State, h.EndsAt = access.StateGranting, d.Ticket.LatestStart.Add(w.length[id])
				d.Holds = append(d.Holds, *h)
			} else {
				moved := *h
				if moved.EndsAt = h.EndsAt.Add(time.Hour); moved.EndsAt.After(h.MaxEnd) {
					return refuse(access.NoTicket, "longer than the flow allows")
				}
				d.Holds = append(d.Holds, moved)
			}
			d.Ticket.Entitlements = append(d.Ticket.Entitlements, h.Entitlement)
		}
		w.row.CleanupAt = time.Time{}
		return nil
	})
	return d, err
}

func (w *world) record(_ context.Context, changes []access.Change) error {
	return w.do(workflows.ActRecord, func() error {
		for _, c := range changes {
			if slices.ContainsFunc(w.events, func(e access.Event) bool { return e.Key == c.Event.Key }) {
				continue
			}
			w.events = append(w.events, c.Event)
			for _, h := range c.Holds {
				if old := w.holds[h.ID]; old != nil && !old.State.Final() {
					h.Entitlement = old.Entitlement
					w.holds[h.ID] = &h
				}
			}
			if c.Request != nil {
				w.outcome = *c.Request
			}
			if c.Rotation != nil {
				w.stuck = c.Rotation.Stuck
			}
			if a := c.Account; a != nil {
				w.row.Generation, w.row.CleanupAt, w.row.Account.Name = max(w.row.Generation, a.Generation), a.CleanupAt, a.Name
			}
		}
		return nil
	})
}

func (w *world) held(_ context.Context, a access.HeldArgs) (out []access.Slot, err error) {
	err = w.do(workflows.ActHeld, func() error {
		for _, e := range a.Want {
			out = append(out, access.Slot{Key: e.String(), Write: "member", Entitlements: []access.Entitlement{e}})
		}
		return nil
	})
	return out, err
}

// newer is what a target's mark does with an operation that comes too late.
func (w *world) newer(sequence int64) error {
	if sequence < w.last {
		return refuse(access.Superseded, "a later operation was here")
	}
	w.last = sequence
	return nil
}

func (w *world) grant(ctx context.Context, a access.GrantArgs) (d access.GrantDone, err error) {
	err = w.do(workflows.ActGrant, func() error {
		if err := w.newer(a.Ticket.Sequence); err != nil {
			return err
		}
		w.account = true
		for _, e := range a.Ticket.Entitlements {
			w.target[e] = true
			d.Entries = append(d.Entries, w.stands(e))
		}
		d.AccountName, d.At, d.Generation = "lapse_ana", w.env.Now(), a.Generation
		return nil
	})
	return d, err
}

func (w *world) stands(e access.Entitlement) access.Entry {
	entry := w.invited
	if entry.Entitlement = e; entry.Outcome == "" {
		entry.Outcome, entry.Facts = access.Granted, []string{"seen"}
	}
	return entry
}

func (w *world) verify(_ context.Context, a access.VerifyArgs) (out []access.Entry, err error) {
	err = w.do(workflows.ActVerify, func() error {
		for _, e := range a.Want {
			out = append(out, w.stands(e))
		}
		return nil
	})
	return out, err
}

// invitation is how the invitation stands from a virtual time on.
func (w *world) invitation(at time.Duration, o access.Outcome) {
	w.env.RegisterDelayedCallback(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.invited.Outcome = o
	}, at)
}

func (w *world) revoke(_ context.Context, a access.RevokeArgs) (d access.RevokeDone, err error) {
	err = w.do(workflows.ActRevoke, func() error {
		if err := w.newer(a.Sequence); err != nil {
			return err
		}
		for _, e := range a.End {
			outcome := access.Gone
			if slices.ContainsFunc(a.Remain, func(c access.Claim) bool { return c.Entitlement == e }) {
				outcome = access.Lowered
			} else {
				delete(w.target, e)
			}
			d.Entries = append(d.Entries, access.Entry{Entitlement: e, Outcome: outcome})
		}
		d.At = w.env.Now()
		return nil
	})
	return d, err
}

func (w *world) delete(_ context.Context, a access.DeleteArgs) (d access.DeleteDone, err error) {
	err = w.do(workflows.ActDelete, func() error {
		if err := w.newer(a.Sequence); err != nil {
			return err
		}
		if len(w.target) > 0 {
			return fmt.Errorf("the account still holds %v", w.target)
		}
		w.account = false
		d = access.DeleteDone{Outcome: access.Gone, At: w.env.Now()}
		return nil
	})
	return d, err
}

func (w *world) credential(_ context.Context, a access.CredentialArgs) error {
	return w.do(workflows.ActCredential, func() error {
		w.ended = w.ended || a.EndSessions
		return w.newer(a.Sequence)
	})
}

func (w *world) loadRequest(_ context.Context, id string) (b access.RequestBrief, err error) {
	err = w.do(workflows.ActLoadRequest, func() error {
		if id != w.request.Request.ID {
			return temporal.NewNonRetryableApplicationError("unknown", workflows.ErrUnknownRequest, nil)
		}
		b = w.request
		b.Holds = w.sorted()
		return nil
	})
	return b, err
}

func (w *world) recordDecision(_ context.Context, d access.Decision) (done access.DecisionDone, err error) {
	err = w.do(workflows.ActRecordDecision, func() error {
		w.events = append(w.events, access.Event{Key: "decision/" + d.Nonce, Kind: "decision." + string(d.Verdict)})
		if w.leads != nil {
			done = w.leads(d)
		}
		return nil
	})
	return done, err
}

func (w *world) remind(_ context.Context, a access.RemindArgs) error {
	return w.do(workflows.ActRemind, func() error {
		w.reminded = append(w.reminded, fmt.Sprintf("%s %s/%d/%d/%d", w.env.Now().Sub(w.began).Round(time.Second), a.Kind, a.Step, a.Tier, a.Round))
		return nil
	})
}

func (w *world) tellAccount(_ context.Context, a workflows.TellArgs) error {
	return w.do(workflows.ActTellAccount, func() error { w.ops = append(w.ops, a.Op); return nil })
}

// know puts a hold of a request into the store.
func (w *world) know(id, request, permission string, length time.Duration) {
	w.holds[id] = &access.Hold{ID: id, RequestID: request, AccountID: acct, Entitlement: entitlement(permission), State: access.StatePending}
	w.length[id] = length
}

// op sends an operation to the account at a virtual time; at 0 the account is
// started with it.
func (w *world) op(at time.Duration, kind, id, request string, holds ...string) {
	op := workflows.Op{ID: id, Kind: kind, RequestID: request, HoldIDs: holds, Nonce: id}
	for _, h := range holds {
		want := entitlement("read_only")
		if known := w.holds[h]; known != nil {
			want = known.Entitlement
		}
		op.Want = append(op.Want, want)
	}
	if at == 0 {
		w.taken[id] = true
		w.first = append(w.first, op)
		return
	}
	w.opWith(at, op)
}

// opWith is op for one that is put together by the test.
func (w *world) opWith(at time.Duration, op workflows.Op) {
	kind, id := op.Kind, op.ID
	w.env.RegisterDelayedCallback(func() {
		w.env.UpdateWorkflow(kind, id, &testsuite.TestUpdateCallback{OnReject: func(err error) { panic(err) }, OnAccept: func() { w.taken[id] = true }, OnComplete: func(any, error) {}}, op)
	}, at)
}

// has reports what stands on the target, as permissions.
func (w *world) has() (out []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for e := range w.target {
		out = append(out, e.Permission)
	}
	slices.Sort(out)
	return out
}

// count counts the events of a kind.
func (w *world) count(kind string) (n int) {
	for _, e := range w.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// expect looks at the target at a virtual time.
func (w *world) expect(t testing.TB, at time.Duration, want ...string) {
	w.env.RegisterDelayedCallback(func() {
		if got := w.has(); !slices.Equal(got, want) {
			t.Errorf("after %s the target shows %v, want %v", at, got, want)
		}
	}, at)
}
