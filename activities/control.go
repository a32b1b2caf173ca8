package activities

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/client"
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
	// Epoch knows whether the store or Temporal was restored.
	*Epoch
	Kinds integrations.Registry
	// TicketKey signs tickets; PortalKey verifies decisions.
	TicketKey ed25519.PrivateKey
	PortalKey ed25519.PublicKey
	Log       *slog.Logger

	headLogged atomic.Int64 // when the head of the audit trail was last logged
}

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
		m, err := c.matter(ctx, row)
		if err != nil {
			return b, err
		}
		requester, err := c.Store.Person(ctx, row.Request.PersonID)
		if err != nil {
			return b, err
		}
		b = access.RequestBrief{Request: row.Request, State: row.State, Requester: requester.Email, PortalKey: c.PortalKey,
			Decided: m.Done(), Without: m.Terms().Without, Remind: m.Flow.Approval.RemindAfter, Step: m.Step(), StepSince: m.Since(), Approvers: approvers(m)}
		if m.Flow.Trigger == access.BreakGlass {
			b.Review, b.ReviewBy = row.Review == "" || row.Review == access.ReviewDue, m.ReviewBy()
		} else {
			b.Steps = m.Flow.Approval.Steps
		}
		if b.Holds, err = c.Store.Holds(ctx, id); err != nil {
			return b, err
		}
		var asks []string
		for _, a := range row.Request.Asked {
			asks = append(asks, a.String())
		}
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

// notices are the events of which people are told whose access it is.
var notices = map[string]access.NoticeKind{"granted": access.NoticeGranted, "grant.failed": access.NoticeFailed, "failed": access.NoticeFailed}

// Record writes changes. Once an account holds nothing any more, the sealed
// credential that nobody fetched goes with it.
func (c *Control) Record(ctx context.Context, changes []access.Change) error {
	_, err := guard(ctx, failed, func(ctx context.Context) (none struct{}, err error) {
		if err := c.Store.Record(ctx, changes); err != nil {
			return none, err
		}
		var told []access.Notice
		for _, ch := range changes {
			if kind, ok := notices[ch.Event.Kind]; ok && len(ch.Holds) > 0 {
				if _, person, err := access.SplitAccountID(ch.Holds[0].AccountID); err == nil {
					told = append(told, access.Notice{Key: ch.Event.Key, PersonID: person, Kind: kind, RequestID: ch.Event.RequestID, Text: ch.Event.Text, At: ch.Event.At})
				}
			}
		}
		if len(told) > 0 {
			if err := c.Store.Tell(ctx, told); err != nil {
				return none, err
			}
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

// StoreResources puts one page of the catalog into the store.
func (c *Control) StoreResources(ctx context.Context, a access.StoreArgs) error {
	_, err := guard(ctx, failed, func(ctx context.Context) (none struct{}, err error) {
		if err := c.Store.PutResources(ctx, a.Integration, a.Run, a.Page.Resources); err != nil {
			return none, err
		}
		if a.Page.Next == "" {
			if err := c.Store.FinishDiscovery(ctx, a.Integration, a.Run); err != nil {
				return none, err
			}
			return none, c.discovered(ctx)
		}
		return none, nil
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
