package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/api/serviceerror"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/engine"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/workflows"
)

// EndIntegration ends what is held on an integration that is being removed, and
// has its accounts deleted: both through the accounts, which are the only
// writers. What somebody is content to leave is put on record as that. It says
// what is there yet.
func (c *Control) EndIntegration(ctx context.Context, id string) (access.RemovalStep, error) {
	return guard(ctx, failed, func(ctx context.Context) (s access.RemovalStep, err error) {
		in, err := c.Store.Integration(ctx, id)
		if err != nil {
			return s, err
		}
		s = access.RemovalStep{Integration: in.Name, Connector: workflows.ConnectorQueue(in.Connector)}
		switch {
		case in.Removal == nil:
			s.Over = access.RemovalCancelled
			return s, nil
		case !in.Removal.Running():
			s.Over, s.Left = access.RemovalForgotten, in.Removal.Left
			return s, nil
		}
		s.Begun, s.Left = in.Removal.At, in.Removal.Left
		if s.Why, err = c.Restored(ctx); err != nil || s.Why != "" {
			return s, err
		}
		rows, err := c.Store.AccountsOf(ctx, id)
		if err != nil {
			return s, err
		}
		for _, row := range rows {
			if err := c.endAccount(ctx, in, row); err != nil {
				return s, err
			}
		}
		s.Open, err = c.Store.Open(ctx, id)
		return s, err
	})
}

// endAccount does the next step for one account of an integration that is being
// removed.
func (c *Control) endAccount(ctx context.Context, in store.IntegrationRow, row store.AccountRow) error {
	accepted := in.Removal.Accepts(access.Left{Kind: access.LeftAccount, Subject: row.ID})
	byRequest := map[string]workflows.Op{}
	for _, h := range row.Holds {
		accepted = accepted && in.Removal.Accepts(access.Left{Kind: access.LeftHold, Subject: h.ID})
		op := byRequest[h.RequestID]
		op.HoldIDs = append(op.HoldIDs, h.ID)
		byRequest[h.RequestID] = op
	}
	if accepted {
		return c.leaveAccount(ctx, in, row)
	}
	if len(row.Holds) == 0 {
		return c.deleteNow(ctx, in, row)
	}
	for request, op := range byRequest {
		// Temporal takes an update of one id once in each run.
		op.ID, op.Kind, op.RequestID = "removal/"+in.Removal.ID+"/"+request, workflows.UpdateEnd, request
		op.Actor, op.Why = in.Removal.By, in.Removal.Closed(in.Name)
		if err := c.Tell(ctx, workflows.TellArgs{AccountID: row.ID, Op: op}); err != nil {
			return err
		}
	}
	return nil
}

// deleteNow has an account without holds deleted at once. One that was never
// used is on no target.
func (c *Control) deleteNow(ctx context.Context, in store.IntegrationRow, row store.AccountRow) error {
	if row.CleanupAt.IsZero() {
		return nil
	}
	if now := time.Now().UTC(); row.CleanupAt.After(now) {
		err := c.Store.Record(ctx, []access.Change{{
			Event: access.Event{Key: fmt.Sprintf("account/%s/cleanup/%s/%d", row.ID, in.Removal.ID, row.CleanupAt.UnixNano()), Kind: "account.cleanup", At: now, Actor: in.Removal.By,
				AccountID: row.ID, Integration: in.ID, Text: fmt.Sprintf("the account of %s is deleted at once: %s", row.Email, in.Removal.Closed(in.Name))},
			Account: &access.AccountChange{ID: row.ID, Name: row.Name, Generation: row.Generation, Wrote: row.Wrote, CleanupAt: now},
		}})
		if err != nil {
			return err
		}
	}
	return c.restoreAccount(ctx, row.ID)
}

// leaveAccount puts on record that somebody is content to leave what an account
// holds, or the account itself. Its workflow would try for ever.
func (c *Control) leaveAccount(ctx context.Context, in store.IntegrationRow, row store.AccountRow) error {
	by := in.Removal.Accepted
	why := fmt.Sprintf("left as it is by %s: %s", by.ByEmail, by.Reason)
	var changes []access.Change
	told := map[string]workflows.HoldsTold{}
	for _, h := range row.Holds {
		h.State, h.Error = access.StateFailed, "not proven gone; "+why
		h.Revoke = &access.Evidence{At: by.At, Outcome: access.Blocked, Facts: []string{why}}
		changes = append(changes, access.Change{
			Event: access.Event{Key: "hold/" + h.ID + "/left", Kind: "left", At: by.At, Actor: by.By, RequestID: h.RequestID, HoldID: h.ID, AccountID: row.ID, Integration: in.ID,
				Text: fmt.Sprintf("%s on %s is not proven gone for %s, and is %s", h.Entitlement, in.Name, row.Email, why)},
			Holds: []access.Hold{h},
		})
		t := told[h.RequestID]
		t.Holds = append(t.Holds, h)
		told[h.RequestID] = t
	}
	if err := c.Temporal.TerminateWorkflow(ctx, workflows.AccountID(row.ID), "", why); err != nil && !gone(err) {
		return err
	}
	for request, holds := range told {
		if err := c.Temporal.SignalWorkflow(ctx, workflows.RequestID(request), "", workflows.SignalHolds, holds); err != nil && !gone(err) {
			return err
		}
	}
	if err := c.Store.Record(ctx, changes); err != nil {
		return err
	}
	if err := c.Store.DropCredential(ctx, row.ID); err != nil {
		return err
	}
	return c.Store.Record(ctx, []access.Change{{
		Event: access.Event{Key: "account/" + row.ID + "/left/" + in.Removal.ID, Kind: "account.left", At: by.At, Actor: by.By, AccountID: row.ID, Integration: in.ID,
			Text: fmt.Sprintf("the account %s of %s is not proven deleted, and is %s", row.Name, row.Email, why)},
		Account: &access.AccountChange{ID: row.ID, Deleted: true},
	}})
}

func gone(err error) bool {
	_, missing := errors.AsType[*serviceerror.NotFound](err)
	return missing
}

// ForgetIntegration looks at what is left of an integration that is being
// removed, in the store and on the target. Where nothing is, or nothing but what
// somebody is content to leave, its schedules are deleted and it is forgotten.
func (c *Control) ForgetIntegration(ctx context.Context, a access.ForgetArgs) (access.RemovalStep, error) {
	return guard(ctx, failed, func(ctx context.Context) (s access.RemovalStep, err error) {
		in, err := c.Store.Integration(ctx, a.Integration)
		if err != nil || !in.Removal.Running() {
			return s, err
		}
		s = access.RemovalStep{Integration: in.Name, Begun: in.Removal.At}
		if s.Left, err = c.left(ctx, in, a); err != nil {
			return s, err
		}
		in, err = c.Store.ChangeRemoval(ctx, in.ID, func(now store.IntegrationRow) (*access.Removal, access.Event, error) {
			r := now.Removal
			if !r.Running() || r.ID != in.Removal.ID || !r.LookedAt.IsZero() && access.SameLeft(r.Left, s.Left) {
				return nil, access.Event{}, nil
			}
			r.Left, r.LookedAt = s.Left, time.Now().UTC()
			return r, access.Event{Key: "removal/" + r.ID + "/left/" + r.LookedAt.Format(time.RFC3339Nano), Kind: "integration.left", At: r.LookedAt, Integration: in.ID,
				Text: fmt.Sprintf("left of %s: %s", in.Name, words(s.Left))}, nil
		})
		if err != nil || !in.Removal.Running() || slices.ContainsFunc(s.Left, func(l access.Left) bool { return !in.Removal.Accepts(l) }) {
			return s, err
		}
		if err := engine.EnsureSchedules(ctx, c.Temporal, in, engine.Use{}); err != nil {
			return s, err
		}
		text := in.Removal.Closed(in.Name) + "; nothing is left of it"
		if by := in.Removal.Accepted; by != nil && len(s.Left) > 0 {
			text = fmt.Sprintf("%s; left as it is by %s (%s): %s", in.Removal.Closed(in.Name), by.ByEmail, by.Reason, words(s.Left))
		}
		err = c.Store.Forget(ctx, in.ID, in.Removal.ID, access.Event{Key: "removal/" + in.Removal.ID + "/forgotten", Kind: "integration.forgotten", At: time.Now().UTC(), Actor: in.Removal.By, Integration: in.ID, Text: text})
		if err == nil {
			s.Over = access.RemovalForgotten
		}
		return s, err
	})
}

// words are what is left, for a sentence.
func words(left []access.Left) string {
	if len(left) == 0 {
		return "nothing"
	}
	texts := make([]string, len(left))
	for i, l := range left {
		texts[i] = l.Text
	}
	return strings.Join(texts, "; ")
}

// left is all that is left of an integration.
func (c *Control) left(ctx context.Context, in store.IntegrationRow, a access.ForgetArgs) ([]access.Left, error) {
	left, err := c.Store.Open(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	for _, p := range a.Principals {
		if integration, _, err := access.SplitAccountID(p.AccountID); err != nil || integration != in.ID ||
			slices.ContainsFunc(left, func(l access.Left) bool { return l.Kind == access.LeftAccount && l.Subject == p.AccountID }) {
			continue
		}
		text := p.Name + " carries our mark, and the store knows no such account (lapse sweep " + in.Name + " --repair deletes it)"
		if e, err := c.Store.LastEvent(ctx, p.AccountID, "account.deleted"); err == nil && (p.Tombstone || p.Owns) {
			text = p.Name + ": " + e.Text
		} else if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		left = append(left, access.Left{Kind: access.LeftPrincipal, Subject: p.Name, Text: text})
	}
	for _, what := range a.Shared {
		left = append(left, access.Left{Kind: access.LeftShared, Subject: what, Text: what})
	}
	if a.Error != "" {
		left = append(left, access.Left{Kind: access.LeftTarget, Subject: in.ID, Text: "nobody knows what is left on " + in.Name + ": " + a.Error})
	}
	if !in.Removed {
		left = append(left, access.Left{Kind: access.LeftConfigured, Subject: in.ID, Text: "the configuration in force still has " + in.Name + ": take it out of lapse.yaml, and apply that"})
	}
	return left, nil
}

// closed says why nothing new is granted on an account's integration.
func (c *Control) closed(ctx context.Context, account string) (why string, err error) {
	integration, _, err := access.SplitAccountID(account)
	if err != nil {
		return "", nil // the store knows no such account
	}
	in, err := c.Store.Integration(ctx, integration)
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	}
	return in.Removal.Closed(in.Name), err
}

// closedTo is why a decision that gives something does not count: one of the
// request's integrations is being removed.
func (c *Control) closedTo(ctx context.Context, r access.Request) (why, err error) {
	for _, id := range r.Integrations() {
		in, err := c.Store.Integration(ctx, id)
		if err != nil {
			return nil, err
		}
		if why := in.Removal.Closed(in.Name); why != "" {
			return access.Errorf(access.Invalid, "%s", why), nil
		}
	}
	return nil, nil
}
