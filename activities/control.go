package activities

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/workflows"
)

// Control is what the workflows do beside the store: read what was asked, put
// on record what happened, and sign the tickets without which no connector
// grants anything.
type Control struct {
	Store *store.Store
	// Temporal reaches the workflows of accounts and requests.
	Temporal client.Client
	// Data reads the memo of the epoch.
	Data  converter.DataConverter
	Kinds integrations.Registry
	// TicketKey signs tickets; PortalKey verifies decisions.
	TicketKey ed25519.PrivateKey
	PortalKey ed25519.PublicKey
	Log       *slog.Logger

	epoch      sync.Mutex   // one bump at a time
	headLogged atomic.Int64 // when the head of the audit trail was last logged
}

const (
	// grantWindow is how long after its signature a ticket may be used.
	grantWindow = 10 * time.Minute
	// belt is how much later than Lapse the target may end access by itself.
	belt = 10 * time.Minute
)

// LoadRequest reads what was asked. A workflow that was started for something
// that the store does not know is put on record, and fails.
func (c *Control) LoadRequest(ctx context.Context, id string) (access.RequestBrief, error) {
	return guard(ctx, failed, func(ctx context.Context) (b access.RequestBrief, err error) {
		row, err := c.Store.Request(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			event := access.Event{Key: "forged/request/" + id, Kind: "request.refused", At: time.Now(), RequestID: id, Text: "a workflow was started for a request that the store does not know"}
			if err := c.Store.Append(ctx, event); err != nil {
				return b, err
			}
			return b, temporal.NewNonRetryableApplicationError("the store knows no request "+id, workflows.ErrUnknownRequest, nil)
		}
		if err != nil {
			return b, err
		}
		j, err := c.judge(ctx, row)
		if err != nil {
			return b, err
		}
		b = access.RequestBrief{Request: row.Request, State: row.State, Requester: j.requester.Email, PortalKey: c.PortalKey}
		if b.Holds, err = c.Store.Holds(ctx, id); err != nil {
			return b, err
		}
		var asks, approvers []string
		for _, a := range row.Request.Asked {
			asks = append(asks, fmt.Sprintf("%s on %s %s", a.Entitlement.Permission, a.Integration, a.Entitlement.Resource))
		}
		for _, p := range access.Approvers(j.flow, row.Request.Asked, j.requester, j.people) {
			approvers = append(approvers, p.Email)
		}
		b.Approvers = strings.Join(approvers, " or ")
		b.Summary = fmt.Sprintf("%s for %s: %s", strings.Join(asks, ", "), row.Request.Duration, row.Request.Reason)
		for _, integration := range row.Request.Integrations() {
			a, err := c.account(ctx, access.AccountID(integration, row.Request.PersonID))
			if err != nil {
				return b, err
			}
			b.Accounts = append(b.Accounts, a)
		}
		return b, nil
	})
}

// judged is what the rules need to judge decisions on a request: the flow as it
// was when the request was made, and the people as they are now.
type judged struct {
	flow           access.Flow
	administrators access.Conditions
	requester      access.Person
	people         []access.Person
}

func (c *Control) judge(ctx context.Context, row store.RequestRow) (j judged, err error) {
	cfg, err := c.Store.ConfigAt(ctx, row.Request.FlowVersion)
	if err != nil {
		return j, err
	}
	i := slices.IndexFunc(cfg.AccessFlows, func(f access.Flow) bool { return f.Name == row.Request.Flow })
	if i < 0 {
		return j, access.Errorf(access.Invalid, "version %d of the configuration has no access flow %s", row.Request.FlowVersion, row.Request.Flow)
	}
	j.flow = cfg.AccessFlows[i]
	_, now, err := c.Store.Config(ctx)
	if err != nil {
		return j, err
	}
	j.administrators = now.Administrators
	if j.people, err = c.Store.People(ctx); err != nil {
		return j, err
	}
	if j.requester, err = c.Store.Person(ctx, row.Request.PersonID); err != nil {
		return j, err
	}
	return j, nil
}

// counts says why a decision does not count; nil means that it does.
func (c *Control) counts(d access.Decision, r access.Request, j judged) error {
	if err := d.Verify(c.PortalKey, r); err != nil {
		return err
	}
	i := slices.IndexFunc(j.people, func(p access.Person) bool { return p.ID == d.By })
	if i < 0 {
		return access.Errorf(access.Invalid, "%s is not in the directory any more", d.ByEmail)
	}
	if why := access.May(d.Verdict, j.flow, r.Asked, j.requester, j.people[i], j.administrators); why != "" {
		return access.Errorf(access.Invalid, "%s", why)
	}
	return nil
}

// RecordDecision puts a decision on record, after judging it again.
func (c *Control) RecordDecision(ctx context.Context, d access.Decision) error {
	_, err := guard(ctx, failed, func(ctx context.Context) (none struct{}, err error) {
		row, err := c.Store.Request(ctx, d.RequestID)
		if err != nil {
			return none, err
		}
		j, err := c.judge(ctx, row)
		if err != nil {
			return none, err
		}
		event := access.Event{Key: "decision/" + d.Nonce, Kind: "decision." + string(d.Verdict), At: d.At, Actor: d.By, RequestID: d.RequestID,
			Text: fmt.Sprintf("%s by %s", d.Verdict, d.ByEmail)}
		if d.Reason != "" {
			event.Text += ": " + d.Reason
		}
		if why := c.counts(d, row.Request, j); why != nil {
			event.Key, event.Kind, event.Text = "refused/"+d.Nonce, "decision.refused", event.Text+" was refused: "+why.Error()
			if err := c.Store.Append(ctx, event); err != nil {
				return none, err
			}
			return none, why
		}
		return none, c.Store.AddDecision(ctx, d, event)
	})
	return err
}

// LoadAccount reads what an account's workflow needs, and begins another
// incarnation of it: every sequence number that it uses is higher than those
// that were used before.
func (c *Control) LoadAccount(ctx context.Context, id string) (access.AccountBrief, error) {
	return guard(ctx, failed, func(ctx context.Context) (b access.AccountBrief, err error) {
		row, err := c.Store.BeginAccount(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			b.Account.ID = id // a forged one may be anything: the workflow refuses all that it is asked
			return b, nil
		}
		if err != nil {
			return b, err
		}
		if b, err = c.account(ctx, id); err != nil {
			return b, err
		}
		b.Sequence = access.FirstSequence(row.Incarnation)
		b.Holds, b.Baseline, b.Wrote, b.Generation, b.CleanupAt = row.Holds, row.Baseline, row.Wrote, row.Generation, row.CleanupAt
		return b, nil
	})
}

// account is what does not change from one run of its workflow to the next.
func (c *Control) account(ctx context.Context, id string) (b access.AccountBrief, err error) {
	integration, person, err := access.SplitAccountID(id)
	if err != nil {
		return b, err
	}
	row, err := c.Store.Account(ctx, id)
	if err != nil {
		return b, err
	}
	in, err := c.Store.Integration(ctx, integration)
	if err != nil {
		return b, err
	}
	p, err := c.Store.Person(ctx, person)
	if err != nil {
		return b, err
	}
	return access.AccountBrief{
		Account:     access.Account{ID: id, Integration: integration, PersonID: person, Email: p.Email, Name: row.Name},
		Integration: in.Name, Connector: workflows.ConnectorQueue(in.Connector), Cleanup: access.Duration(in.UserCleanupDays.Std()),
		Known: true, Credentialed: c.Kinds[in.Kind].Credentials,
	}, nil
}

// Record writes changes. Once an account holds nothing any more, the sealed
// credential that nobody fetched goes with it.
func (c *Control) Record(ctx context.Context, changes []access.Change) error {
	_, err := guard(ctx, failed, func(ctx context.Context) (none struct{}, err error) {
		if err := c.Store.Record(ctx, changes); err != nil {
			return none, err
		}
		for _, ch := range changes {
			if a := ch.Account; a != nil && (a.Deleted || !a.CleanupAt.IsZero()) {
				if err := c.Store.DropCredential(ctx, a.ID); err != nil {
					return none, err
				}
			}
		}
		return none, nil
	})
	return err
}

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
	row, err := c.Store.Request(ctx, a.RequestID)
	if errors.Is(err, store.ErrNotFound) {
		return done, access.Errorf(access.NoTicket, "the store knows no request %s", a.RequestID)
	}
	if err != nil {
		return done, err
	}
	j, err := c.judge(ctx, row)
	if err != nil {
		return done, err
	}
	decisions, err := c.Store.Decisions(ctx, a.RequestID)
	if err != nil {
		return done, err
	}
	if err := c.mayGrant(row, j, decisions); err != nil {
		return done, err
	}
	holds, err := c.holds(ctx, row.Request, a)
	if err != nil {
		return done, err
	}
	brief, err := c.account(ctx, a.AccountID)
	if err != nil {
		return done, err
	}
	now := time.Now().UTC()
	done = access.TicketDone{Duration: row.Request.Duration, Maximum: j.flow.MaxDuration}
	done.Ticket = access.Ticket{RequestID: a.RequestID, Account: brief.Account, LatestStart: now.Add(grantWindow), Sequence: a.Sequence}
	done.Ticket.Account.Name = ""
	for _, h := range holds {
		done.Ticket.Entitlements = append(done.Ticket.Entitlements, h.Entitlement)
	}
	if a.Nonce != "" {
		err = c.extension(ctx, a, holds, decisions, row, j)
	} else {
		for i := range holds {
			holds[i].State = access.StateGranting
			holds[i].EndsAt, holds[i].MaxEnd = now.Add(row.Request.Duration.Std()), now.Add(j.flow.MaxDuration.Std())
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
	if a.Nonce == "" {
		// The clock starts once the access is usable, and the target's own
		// expiry must not come before the end that follows from that.
		done.Ticket.End = done.Ticket.End.Add(grantWindow)
	}
	done.Ticket = done.Ticket.Sign(c.TicketKey)
	return done, nil
}

// mayGrant judges the decisions of a request as they stand in the store.
func (c *Control) mayGrant(row store.RequestRow, j judged, decisions []access.Decision) error {
	if row.State != access.StateApproved {
		return access.Errorf(access.NoTicket, "the request is %s", row.State)
	}
	if why := j.flow.Admits(j.requester, row.Request.Asked, row.Request.Duration); why != "" {
		return access.Errorf(access.NoTicket, "%s", why)
	}
	approved := false
	for _, d := range decisions {
		if d.Verify(c.PortalKey, row.Request) != nil {
			continue
		}
		switch d.Verdict {
		case access.Deny:
			return access.Errorf(access.NoTicket, "the request was denied by %s", d.ByEmail)
		case access.Release, access.Revoke:
			return access.Errorf(access.NoTicket, "the request was ended by %s", d.ByEmail)
		case access.Approve:
			approved = approved || c.counts(d, row.Request, j) == nil
		}
	}
	if !approved {
		return access.Errorf(access.NoTicket, "no approval of this request counts: nobody who may approve it now has signed one")
	}
	return nil
}

// holds finds the request's holds that are meant, none of which may be over.
func (c *Control) holds(ctx context.Context, r access.Request, a access.TicketArgs) ([]access.Hold, error) {
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
func (c *Control) extension(ctx context.Context, a access.TicketArgs, holds []access.Hold, decisions []access.Decision, row store.RequestRow, j judged) error {
	i := slices.IndexFunc(decisions, func(d access.Decision) bool { return d.Nonce == a.Nonce && d.Verdict == access.Extend })
	if i < 0 {
		return access.Errorf(access.NoTicket, "the store knows no such extension")
	}
	if err := c.counts(decisions[i], row.Request, j); err != nil {
		return access.Errorf(access.NoTicket, "%w", err)
	}
	for n, h := range holds {
		made, err := c.Store.Recorded(ctx, "hold/"+h.ID+"/extended/"+a.Nonce)
		if err != nil {
			return err
		}
		switch end := h.EndsAt.Add(decisions[i].Extra.Std()); {
		case h.State != access.StateActive || h.OverdueAt(time.Now()) > 0:
			return access.Errorf(access.NoTicket, "the hold %s is not active", h.ID)
		case made:
			return access.Errorf(access.NoTicket, "this extension has been made already")
		case end.After(h.MaxEnd):
			return access.Errorf(access.NoTicket, "the access flow %s allows %s in all, that is until %s", j.flow.Name, j.flow.MaxDuration, h.MaxEnd.UTC().Format(time.RFC3339))
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

// StoreResources puts one page of the catalog into the store.
func (c *Control) StoreResources(ctx context.Context, a access.StoreArgs) error {
	_, err := guard(ctx, failed, func(ctx context.Context) (none struct{}, err error) {
		if err := c.Store.PutResources(ctx, a.Integration, a.Run, a.Page.Resources); err != nil {
			return none, err
		}
		if a.Page.Next == "" {
			err = c.Store.FinishDiscovery(ctx, a.Integration, a.Run)
		}
		return none, err
	})
	return err
}

// Integration reads which connector serves an integration.
func (c *Control) Integration(ctx context.Context, id string) (access.IntegrationBrief, error) {
	return guard(ctx, failed, func(ctx context.Context) (b access.IntegrationBrief, err error) {
		in, err := c.Store.Integration(ctx, id)
		if errors.Is(err, store.ErrNotFound) || err == nil && in.Removed {
			return b, access.Errorf(access.Invalid, "there is no integration %s (any more)", id)
		}
		return access.IntegrationBrief{ID: id, Name: in.Name, Connector: workflows.ConnectorQueue(in.Connector)}, err
	})
}
