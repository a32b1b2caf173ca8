package activities

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/store"
)

const (
	// grantWindow is how long after its signature a ticket may be used.
	grantWindow = 10 * time.Minute
	// belt is how much later than Lapse the target may end access by itself.
	belt = 10 * time.Minute
)

// Ticket judges a grant, or an extension, once more against the store, stores
// the holds with their ends, the baseline and what is about to be written, and
// signs the leave to write it.
func (c *Control) Ticket(ctx context.Context, a access.TicketArgs) (access.TicketDone, error) {
	return guard(ctx, failed, func(ctx context.Context) (done access.TicketDone, err error) {
		done, err = c.ticket(ctx, a)
		if access.KindOf(err) == access.NoTicket {
			// Once an hour for each request: who may send updates must not be
			// able to fill the audit trail with refusals.
			event := access.Event{Key: fmt.Sprintf("ticket/%s/%s/refused/%s", a.AccountID, a.RequestID, time.Now().UTC().Format("2006-01-02T15")), Kind: "ticket.refused", At: time.Now(),
				RequestID: a.RequestID, AccountID: a.AccountID, Text: "no ticket: " + err.Error()}
			if err := c.Store.Append(ctx, event); err != nil {
				return done, err // and be repeated: a refusal is on record before it is final
			}
		}
		return done, err
	})
}

func (c *Control) ticket(ctx context.Context, a access.TicketArgs) (done access.TicketDone, err error) {
	if why, err := c.Restored(ctx); err != nil {
		return done, err
	} else if why != "" {
		return done, access.Errorf(access.Restored, "no ticket yet: %s", why)
	}
	if why, err := c.closed(ctx, a.AccountID); err != nil {
		return done, err
	} else if why != "" {
		return done, access.Errorf(access.NoTicket, "%s", why)
	}
	row, err := c.Store.Request(ctx, a.RequestID)
	if errors.Is(err, store.ErrNotFound) {
		return done, access.Errorf(access.NoTicket, "the store knows no request %s", a.RequestID)
	}
	if err != nil {
		return done, err
	}
	m, err := c.matter(ctx, row)
	if err != nil {
		return done, err
	}
	if err := mayGrant(m); err != nil {
		return done, err
	}
	if why, err := c.given(ctx, m); err != nil {
		return done, err
	} else if why != "" {
		return done, access.Errorf(access.NoTicket, "%s", why)
	}
	terms := m.Terms()
	holds, err := c.holds(ctx, row.Request, a, terms.Without)
	if err != nil {
		return done, err
	}
	brief, err := c.account(ctx, a.AccountID)
	if err != nil {
		return done, err
	}
	now := time.Now().UTC()
	done = access.TicketDone{Duration: terms.Duration, Maximum: terms.Maximum}
	_, done.Until = m.Flow.Timeframe.Open(now)
	done.Ticket = access.Ticket{RequestID: a.RequestID, Account: brief.Account, LatestStart: now.Add(grantWindow), Sequence: a.Sequence}
	done.Ticket.Account.Name = ""
	for _, h := range holds {
		done.Ticket.Entitlements = append(done.Ticket.Entitlements, h.Entitlement)
	}
	if a.Nonce != "" {
		err = c.extension(ctx, a, holds, m)
	} else {
		for i := range holds {
			// The clock starts once the access is usable. Until that is known the
			// end is as late as it can become, for the target's own expiry too.
			holds[i].State = access.StateGranting
			holds[i].EndsAt, holds[i].MaxEnd = done.Ends(done.Ticket.LatestStart)
		}
		err = c.open(ctx, a, holds, &done)
	}
	if err != nil {
		return done, err
	}
	done.Holds = holds
	for _, h := range holds {
		if end := h.EndsAt.Add(belt); end.After(done.Ticket.End) {
			done.Ticket.End = end
		}
	}
	done.Ticket = done.Ticket.Sign(c.TicketKey)
	return done, nil
}

// mayGrant judges the decisions of a request as they stand in the store.
func mayGrant(m access.Matter) error {
	if m.State != access.StateApproved {
		return access.Errorf(access.NoTicket, "the request is %s", m.State)
	}
	if why := m.Admitted(); why != "" {
		return access.Errorf(access.NoTicket, "%s", why)
	}
	for _, d := range m.Decisions {
		switch d.Verdict {
		case access.Deny:
			return access.Errorf(access.NoTicket, "the request was denied by %s", d.ByEmail)
		case access.Release, access.Revoke:
			return access.Errorf(access.NoTicket, "the request was ended by %s", d.ByEmail)
		}
	}
	if !m.Done() {
		return access.Errorf(access.NoTicket, "no approval of this request counts, or not enough of them: those who may approve it now have not all signed one")
	}
	return nil
}

// holds finds the request's holds that are meant, none of which may be over, or
// left out by an approver.
func (c *Control) holds(ctx context.Context, r access.Request, a access.TicketArgs, without []string) ([]access.Hold, error) {
	all, err := c.Store.Holds(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	var out []access.Hold
	for _, id := range a.HoldIDs {
		i := slices.IndexFunc(all, func(h access.Hold) bool { return h.ID == id && h.AccountID == a.AccountID })
		switch {
		case i < 0:
			return nil, access.Errorf(access.NoTicket, "request %s has no hold %s on account %s", r.ID, id, a.AccountID)
		case slices.Contains(without, id):
			return nil, access.Errorf(access.NoTicket, "an approver left the hold %s out", id)
		case all[i].State.Final():
			return nil, access.Errorf(access.NoTicket, "the hold %s is %s already", id, all[i].State)
		}
		out = append(out, all[i])
	}
	if len(out) == 0 {
		return nil, access.Errorf(access.NoTicket, "no hold is named")
	}
	return out, nil
}

// extension moves the ends of holds by what a signed decision says.
func (c *Control) extension(ctx context.Context, a access.TicketArgs, holds []access.Hold, m access.Matter) error {
	i := slices.IndexFunc(m.Decisions, func(d access.Decision) bool { return d.Nonce == a.Nonce && d.Verdict == access.Extend })
	if i < 0 {
		return access.Errorf(access.NoTicket, "the store knows no such extension")
	}
	if err := c.counts(m.Decisions[i], m); err != nil {
		return access.Errorf(access.NoTicket, "%w", err)
	}
	for n, h := range holds {
		made, err := c.Store.Recorded(ctx, "hold/"+h.ID+"/extended/"+a.Nonce)
		if err != nil {
			return err
		}
		switch end := h.EndsAt.Add(m.Decisions[i].Extra.Std()); {
		case h.State != access.StateActive || h.OverdueAt(time.Now()) > 0:
			return access.Errorf(access.NoTicket, "the hold %s is not active", h.ID)
		case made:
			return access.Errorf(access.NoTicket, "this extension has been made already")
		case end.After(h.MaxEnd):
			return access.Errorf(access.NoTicket, "the access flow %s allows %s in all, that is until %s", m.Flow.Name, m.Terms().Maximum, h.MaxEnd.UTC().Format(time.RFC3339))
		default:
			holds[n].EndsAt = end
		}
	}
	return nil
}

// open stores the holds, the baseline of their slots and what is about to be
// written. It is the write that comes before the first write on the target.
func (c *Control) open(ctx context.Context, a access.TicketArgs, holds []access.Hold, done *access.TicketDone) error {
	row, err := c.Store.Account(ctx, a.AccountID)
	if err != nil {
		return err
	}
	done.Wrote = maps.Clone(row.Wrote)
	if done.Wrote == nil {
		done.Wrote = map[string]string{}
	}
	for _, b := range row.Baseline {
		// A slot on which no hold is open any more is looked at afresh.
		if slices.ContainsFunc(row.Holds, func(h access.Hold) bool { return slices.Contains(b.Holds, h.ID) }) {
			done.Baseline = append(done.Baseline, b)
		}
	}
	for _, s := range a.Slots {
		var inSlot []string
		for _, h := range holds {
			if slices.Contains(s.Entitlements, h.Entitlement) {
				inSlot = append(inSlot, h.ID)
			}
		}
		i := slices.IndexFunc(done.Baseline, func(b access.Baseline) bool { return b.Slot == s.Key })
		if i < 0 {
			// No hold is open on the slot: what is held now is not ours.
			b := access.Baseline{Slot: s.Key, Value: s.Held, HeldAs: s.HeldAs}
			if s.Held != "" && s.Write == "" && len(b.HeldAs) == 0 {
				b.HeldAs = s.Entitlements // what was asked for is what is held
			}
			done.Baseline = append(done.Baseline, b)
			i = len(done.Baseline) - 1
		}
		for _, id := range inSlot {
			if !slices.Contains(done.Baseline[i].Holds, id) {
				done.Baseline[i].Holds = append(done.Baseline[i].Holds, id)
			}
		}
		if s.Write != "" {
			done.Wrote[s.Key] = s.Write
		}
	}
	return c.Store.OpenHolds(ctx, store.OpenHolds{
		AccountID: a.AccountID, RequestID: a.RequestID, Holds: holds, Baseline: done.Baseline, Wrote: done.Wrote,
		Event: access.Event{Key: fmt.Sprintf("ticket/%s/%s/%d", a.AccountID, a.RequestID, a.Sequence), Kind: "ticket.signed", At: time.Now().UTC(), RequestID: a.RequestID,
			AccountID: a.AccountID, Integration: row.Integration, Text: "decisions and flow judged again, ticket signed"},
	})
}
