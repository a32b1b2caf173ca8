package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.temporal.io/api/serviceerror"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/engine"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/workflows"
)

// Automatic holds what the automatic access flows of the configuration in force
// give against what people have by them. What nobody is to have any more ends,
// through its account; what is missing, or ends soon, becomes a request. It makes
// so many changes at most, those that take access away first. A request that it
// made is judged again for its ticket, like all others.
func (c *Control) Automatic(ctx context.Context, most int) (access.AutomaticReport, error) {
	return guard(ctx, failed, func(ctx context.Context) (r access.AutomaticReport, err error) {
		if r.Why, err = c.Restored(ctx); err != nil || r.Why != "" {
			return r, err
		}
		version, cfg, err := c.Store.Config(ctx)
		if errors.Is(err, store.ErrNotFound) {
			return r, nil
		}
		if err != nil {
			return r, err
		}
		l, err := c.leasing(ctx, cfg)
		if err != nil {
			return r, err
		}
		plan := l.Plan()
		r.Capped, r.Next = plan.Capped, plan.Next
		// What somebody ended by hand is known before it could be given again.
		if err := c.Store.SettleLeases(ctx, plan); err != nil {
			return r, err
		}
		for _, text := range plan.Capped {
			event := access.Event{Key: fmt.Sprintf("automatic/%d/capped/%s", version, text), Kind: "automatic.capped", At: l.Now, Text: text}
			if err := c.Store.Append(ctx, event); err != nil {
				return r, err
			}
		}
		ends := plan.End[:min(len(plan.End), most)]
		var errs []error // one that does not work stops no other
		for _, e := range ends {
			errs = append(errs, c.endLease(ctx, l, e))
			r.Ended += len(e.HoldIDs)
		}
		starts := plan.Lost[:min(len(plan.Lost), most-len(ends))]
		asks := plan.Ask[:min(len(plan.Ask), most-len(ends)-len(starts))]
		r.More = len(ends)+len(starts)+len(asks) < len(plan.End)+len(plan.Lost)+len(plan.Ask)
		seen := map[[2]string]int{} // by flow and person
		for _, a := range asks {
			who := [2]string{a.Flow.Name, a.Person.ID}
			a.Seen = max(a.Seen, seen[who])
			id, round, err := c.lease(ctx, a, version)
			if errs = append(errs, err); round > 0 {
				seen[who] = round
				starts = append(starts, id)
				r.Asked++
			}
		}
		return r, errors.Join(append(errs, c.startLeases(ctx, starts))...)
	})
}

// leasing reads what the rules of automatic flows look at.
func (c *Control) leasing(ctx context.Context, cfg config.Config) (l access.Leasing, err error) {
	l = access.Leasing{Flows: cfg.AccessFlows, Names: map[string]string{}, Closed: map[string]string{}, Now: c.Store.Now().UTC()}
	if l.Directory, err = c.Store.Directory(ctx); err != nil {
		return l, err
	}
	if l.Leases, l.Withheld, err = c.Store.Leases(ctx); err != nil {
		return l, err
	}
	for i, lease := range l.Leases {
		if lease.Decided {
			if l.Leases[i].Decisions, err = c.verified(ctx, lease.RequestID); err != nil {
				return l, err
			}
		}
	}
	all, err := c.Store.Integrations(ctx)
	if err != nil {
		return l, err
	}
	for _, in := range all {
		l.Names[in.ID], l.Closed[in.ID] = in.Name, in.Removal.Closed(in.Name)
		if in.Removed && in.Removal == nil {
			l.Closed[in.ID] = "the configuration has no integration " + in.Name + " any more"
		}
		if l.Closed[in.ID] == "" && leases(cfg.AccessFlows, in.Name) {
			if l.Offered, err = c.offered(ctx, in, l.Offered); err != nil {
				return l, err
			}
		}
	}
	return l, nil
}

// verified are the decisions on a request that the portal signed.
func (c *Control) verified(ctx context.Context, id string) ([]access.Decision, error) {
	row, err := c.Store.Request(ctx, id)
	if err != nil {
		return nil, err
	}
	decisions, err := c.Store.Decisions(ctx, id)
	return slices.DeleteFunc(decisions, func(d access.Decision) bool { return d.Verify(c.PortalKey, row.Request) != nil }), err
}

// leases reports whether an automatic flow is for an integration.
func leases(flows []access.Flow, integration string) bool {
	return slices.ContainsFunc(flows, func(f access.Flow) bool {
		return f.Trigger == access.Automatic && slices.ContainsFunc(f.Targets, func(t access.FlowTarget) bool { return t.Integration == integration })
	})
}

// offered adds what the catalog of an integration offers.
func (c *Control) offered(ctx context.Context, in store.IntegrationRow, all []access.Asked) ([]access.Asked, error) {
	filter := store.ResourceFilter{Integration: in.ID, Limit: 1000}
	for {
		rows, err := c.Store.Resources(ctx, filter)
		if err != nil {
			return all, err
		}
		for _, row := range rows {
			tags := config.ApplyTags(in.Integration, row.Found)
			for _, p := range row.Permissions {
				all = append(all, access.Asked{Entitlement: access.Entitlement{Integration: in.ID, Resource: row.Resource, Permission: p},
					Integration: in.Name, Tags: tags, IntegrationOwner: in.IntegrationOwner, ResourceOwner: in.ResourceOwner})
			}
		}
		if len(rows) < filter.Limit {
			return all, nil
		}
		filter.After = rows[len(rows)-1].Key()
	}
}

// endLease has an account end holds of a lease. Doing that again does nothing.
func (c *Control) endLease(ctx context.Context, l access.Leasing, e access.LeaseEnd) error {
	// Temporal takes an update of one id once in each run. It does nothing while
	// the account has not heard of the hold.
	key := fmt.Sprintf("automatic/%s/end/%s/%s", e.RequestID, e.HoldIDs[0], e.State)
	event := access.Event{Key: key, Kind: "automatic.ended", At: l.Now, Actor: "lapse", RequestID: e.RequestID, AccountID: e.AccountID, Text: e.Why}
	if err := c.Store.Append(ctx, event); err != nil {
		return err
	}
	op := workflows.Op{ID: key, Kind: workflows.UpdateEnd, RequestID: e.RequestID, HoldIDs: e.HoldIDs, Actor: "lapse", Why: e.Why}
	return c.Tell(ctx, workflows.TellArgs{AccountID: e.AccountID, Op: op})
}

// lease stores a request, where nobody else has done so meanwhile.
func (c *Control) lease(ctx context.Context, a access.LeaseAsk, version int64) (id string, round int, err error) {
	round, err = c.Store.CreateLease(ctx, a, func(round int) (access.Request, access.Event) {
		r := a.Request(round, version, c.Store.Now().UTC())
		id = r.ID
		asks := make([]string, len(r.Asked))
		for i, asked := range r.Asked {
			asks[i] = asked.String()
		}
		return r, access.Event{Key: "request/" + r.ID + "/created", Kind: "request.created", At: r.CreatedAt, Actor: "lapse", RequestID: r.ID,
			Text: fmt.Sprintf("%s gets %s for %s: %s", a.Person.Email, strings.Join(asks, ", "), r.Duration, r.Reason)}
	})
	return id, round, err
}

// startLeases starts the workflows of requests that automatic flows made. One
// that was started already is left alone.
func (c *Control) startLeases(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	for _, id := range ids {
		row, err := c.Store.Request(ctx, id)
		if err != nil {
			return err
		}
		_, err = c.Temporal.ExecuteWorkflow(ctx, RequestStart(row.Request, "access flow "+row.Flow), workflows.RequestType, workflows.RequestInput{RequestID: id})
		if _, done := errors.AsType[*serviceerror.WorkflowExecutionAlreadyStarted](err); err != nil && !done {
			return err
		}
	}
	return c.Store.LeasesStarted(ctx, ids)
}

// given says why a request that an automatic flow made is not to be granted any
// more: the flow of the configuration in force decides, not that of the request.
func (c *Control) given(ctx context.Context, m access.Matter) (why string, err error) {
	if m.Flow.Trigger != access.Automatic {
		return "", nil
	}
	_, cfg, err := c.Store.Config(ctx)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(cfg.AccessFlows, func(f access.Flow) bool { return f.Name == m.Flow.Name && f.Trigger == access.Automatic })
	if i < 0 {
		return fmt.Sprintf("there is no automatic access flow %s any more", m.Flow.Name), nil
	}
	m.Flow = cfg.AccessFlows[i]
	if why = m.Admitted(); why != "" {
		return why, nil
	}
	return c.Store.EndedByHand(ctx, m.Request)
}

// discovered looks at the automatic flows at once: the catalog may have changed.
func (c *Control) discovered(ctx context.Context) error {
	_, cfg, err := c.Store.Config(ctx)
	if err != nil || !access.HasAutomatic(cfg.AccessFlows) {
		return err
	}
	return engine.StartAutomatic(ctx, c.Temporal)
}
