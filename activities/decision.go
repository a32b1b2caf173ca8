package activities

import (
	"context"
	"fmt"
	"slices"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/store"
)

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
		why := c.counts(d, row.Request, j)
		if why == nil && d.Verdict.Gives() {
			why, err = c.closedTo(ctx, row.Request)
		}
		if err != nil {
			return none, err
		}
		if why != nil {
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
