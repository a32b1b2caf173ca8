package activities

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/store"
)

// matter is a request with all that the rules look at, as the store has it now.
func (c *Control) matter(ctx context.Context, row store.RequestRow) (m access.Matter, err error) {
	cfg, err := c.Store.ConfigAt(ctx, row.Request.FlowVersion)
	if err != nil {
		return m, err
	}
	i := slices.IndexFunc(cfg.AccessFlows, func(f access.Flow) bool { return f.Name == row.Request.Flow })
	if i < 0 {
		return m, access.Errorf(access.Invalid, "version %d of the configuration has no access flow %s", row.Request.FlowVersion, row.Request.Flow)
	}
	_, now, err := c.Store.Config(ctx)
	if err != nil {
		return m, err
	}
	m = access.Matter{Flow: cfg.AccessFlows[i], Request: row.Request, State: row.State, Administrators: now.Administrators, Now: c.Store.Now()}
	if m.Directory, err = c.Store.Directory(ctx); err != nil {
		return m, err
	}
	if m.Decisions, err = c.Store.Decisions(ctx, row.ID); err != nil {
		return m, err
	}
	m.Decisions = slices.DeleteFunc(m.Decisions, func(d access.Decision) bool { return d.Verify(c.PortalKey, row.Request) != nil })
	m.Owes, err = c.Store.Owes(ctx, m)
	return m, err
}

// counts says why a decision does not count; nil means that it does.
func (c *Control) counts(d access.Decision, m access.Matter) error {
	if err := d.Verify(c.PortalKey, m.Request); err != nil {
		return err
	}
	if why := m.May(d); why != "" {
		return access.Errorf(access.Invalid, "%s", why)
	}
	return nil
}

// RecordDecision puts a decision on record, after judging it again, and says
// what is left to be decided.
func (c *Control) RecordDecision(ctx context.Context, d access.Decision) (access.DecisionDone, error) {
	return guard(ctx, failed, func(ctx context.Context) (access.DecisionDone, error) { return c.Decide(ctx, d) })
}

// Decide is RecordDecision for the portal, for a request whose workflow is gone.
func (c *Control) Decide(ctx context.Context, d access.Decision) (done access.DecisionDone, err error) {
	row, err := c.Store.Request(ctx, d.RequestID)
	if err != nil {
		return done, err
	}
	m, err := c.matter(ctx, row)
	if err != nil {
		return done, err
	}
	if slices.ContainsFunc(m.Decisions, func(known access.Decision) bool { return known.Nonce == d.Nonce }) {
		return c.decided(ctx, m, d)
	}
	event := access.Event{Key: "decision/" + d.Nonce, Kind: "decision." + string(d.Verdict), At: d.At, Actor: d.By, RequestID: d.RequestID, Text: d.Text(m.Request)}
	why := c.counts(d, m)
	if why == nil && d.Verdict.Gives() {
		why, err = c.closedTo(ctx, row.Request)
	}
	if err != nil {
		return done, err
	}
	if why != nil {
		event.Key, event.Kind, event.Text = "refused/"+d.Nonce, "decision.refused", event.Text+" was refused: "+why.Error()
		if err := c.Store.Append(ctx, event); err != nil {
			return done, err
		}
		return done, why
	}
	if err := c.Store.AddDecision(ctx, d, event); err != nil {
		return done, err
	}
	if m.Decisions, err = c.Store.Decisions(ctx, row.ID); err != nil {
		return done, err
	}
	m.Decisions = slices.DeleteFunc(m.Decisions, func(d access.Decision) bool { return d.Verify(c.PortalKey, row.Request) != nil })
	return c.decided(ctx, m, d)
}

// decided is what the decisions on record lead to, the last of which is told to
// the one whose access it is about.
func (c *Control) decided(ctx context.Context, m access.Matter, last access.Decision) (done access.DecisionDone, err error) {
	done = access.DecisionDone{Waits: !m.Done(), Step: m.Step(), Approvers: approvers(m), Without: m.Terms().Without, Known: len(m.Decisions)}
	if told := last.Verdict == access.Deny || last.Verdict == access.Revoke || last.Verdict.Reviews() || last.Verdict == access.Approve && !done.Waits; told {
		err := c.Store.Tell(ctx, []access.Notice{{Key: "decision/" + last.Nonce, PersonID: m.Request.PersonID, Kind: access.NoticeDecided, RequestID: m.Request.ID, Text: last.Text(m.Request), At: last.At}})
		if err != nil {
			return done, err
		}
	}
	review := access.Review("")
	if i := slices.IndexFunc(m.Decisions, func(d access.Decision) bool { return d.Verdict == access.Object }); i >= 0 {
		review = access.ReviewBad
	} else if m.Reviewed() {
		review = access.ReviewDone
	}
	if done.Reviewed = review != ""; !done.Reviewed {
		return done, nil
	}
	change := access.Change{
		Event: access.Event{Key: "request/" + m.Request.ID + "/reviewed", Kind: "review." + string(review), At: c.Store.Now(), RequestID: m.Request.ID,
			Text: "the review is complete: " + string(review)},
		Request: &access.RequestChange{ID: m.Request.ID, State: m.State, Review: review},
	}
	return done, c.Store.Record(ctx, []access.Change{change})
}

// approvers are those who may decide now, for display.
func approvers(m access.Matter) string {
	var list []string
	for _, p := range m.Approvers() {
		list = append(list, p.Email)
	}
	return strings.Join(list, " or ")
}

// Remind tells those who may decide, or review, that a request waits for them,
// and everybody who was passed over that somebody broke the glass.
func (c *Control) Remind(ctx context.Context, a access.RemindArgs) error {
	_, err := guard(ctx, failed, func(ctx context.Context) (none struct{}, err error) {
		row, err := c.Store.Request(ctx, a.RequestID)
		if err != nil {
			return none, err
		}
		m, err := c.matter(ctx, row)
		if err != nil {
			return none, err
		}
		text, told := m.Notice(a)
		if len(told) == 0 {
			return none, nil
		}
		var names []string
		var notices []access.Notice
		key := fmt.Sprintf("request/%s/%s/%d/%d/%d", a.RequestID, a.Kind, a.Step, a.Tier, a.Round)
		for _, p := range told {
			names = append(names, p.Email)
			notices = append(notices, access.Notice{Key: key + "/" + p.ID, PersonID: p.ID, Kind: a.Kind, RequestID: a.RequestID, Text: text, At: c.Store.Now()})
		}
		if err := c.Store.Tell(ctx, notices); err != nil {
			return none, err
		}
		return none, c.Store.Append(ctx, access.Event{Key: key, Kind: "notice." + string(a.Kind), At: c.Store.Now(), RequestID: a.RequestID,
			Text: fmt.Sprintf("told %s: %s", some(names), text)})
	})
	return err
}

// mostNamed is how many people an event names.
const mostNamed = 10

// some names people, and says how many there are beyond that.
func some(names []string) string {
	if len(names) <= mostNamed {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:mostNamed], ", "), len(names)-mostNamed)
}
