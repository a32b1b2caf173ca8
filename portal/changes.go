package portal

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/spec"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/portal/api"
)

// While the configuration in force says two_person_changes, a file that is
// applied becomes a proposal, on which another administrator decides.

// lapse is who applies a file without being a person: Lapse itself.
const lapse = "lapse"

func (p *Portal) registerChanges(to huma.API) {
	tags := []string{"configuration"}
	register(p, to, huma.Operation{OperationID: "list-changes", Method: http.MethodGet, Path: "/changes", Tags: tags,
		Summary: "List the newest proposals to change the configuration, the newest first"}, p.listChanges)
	register(p, to, huma.Operation{OperationID: "show-change", Method: http.MethodGet, Path: "/changes/{id}", Tags: tags,
		Summary: "Show a proposal, and what would change"}, p.showChange)
	register(p, to, huma.Operation{OperationID: "decide-change", Method: http.MethodPost, Path: "/changes/{id}/decision", Tags: tags,
		Summary: "Approve, reject or withdraw a proposal; approved, it is in force"}, p.decideChange)
}

// ByChange names a proposal in a path.
type ByChange struct {
	ID string `path:"id" doc:"id of the proposal" maxLength:"100"`
}

// changeCall is a decision on a proposal.
type changeCall struct {
	ByChange
	Body api.DecideChange
}

// changesCall selects proposals.
type changesCall struct {
	Limit int `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

// propose makes a proposal of a file that was compared with a version of the
// configuration.
func (p *Portal) propose(ctx context.Context, who access.Person, file string, source []byte, version int64, changes []config.Line) (string, error) {
	next := store.Proposal{ID: access.NewID("chg"), At: p.opts.Store.Now().UTC(), By: cmp.Or(who.ID, lapse), File: file, Source: source, Base: version, Changes: changes}
	data, err := json.Marshal(changes)
	if err != nil {
		return "", err
	}
	next, err = p.opts.Store.Propose(ctx, next, access.Event{Key: "proposal/" + next.ID, Kind: "config.proposed", At: next.At, Actor: next.By, Data: data,
		Text: fmt.Sprintf("%s proposed %s: %d changes of version %d", who.Email, next.ID, len(changes), version)})
	if err == nil && who.ID == "" {
		p.opts.Log.Warn("THE FILE IS NOT IN FORCE: two people are needed to change the configuration, so it is a proposal on which administrators decide",
			"file", file, "proposal", next.ID, "changes", len(changes), "in force", version)
	}
	if err == nil {
		p.tellAdministrators(ctx, who, next)
	}
	return next.ID, err
}

// tellAdministrators tells those who may decide on a proposal of it. That it
// could not be done changes nothing.
func (p *Portal) tellAdministrators(ctx context.Context, who access.Person, change store.Proposal) {
	_, cfg, err := p.opts.Store.Config(ctx)
	if err == nil {
		var directory *access.Directory
		if directory, err = p.opts.Store.Directory(ctx); err == nil {
			var told []access.Notice
			for _, to := range directory.People() {
				if cfg.Administrators.Holds(to) && to.ID != who.ID {
					told = append(told, access.Notice{Key: "proposal/" + change.ID, PersonID: to.ID, Kind: access.NoticeChange, At: change.At,
						Text: fmt.Sprintf("%s proposed %s with %d changes of the configuration: it waits for another administrator", who.Email, change.ID, len(change.Changes))})
				}
			}
			err = p.opts.Store.Tell(ctx, told)
		}
	}
	if err != nil {
		p.opts.Log.Error("the administrators could not be told of a proposal", "proposal", change.ID, "error", err)
	}
}

// proposer is the person who stands for a proposal; "" where nobody does yet.
func proposer(change store.Proposal) string {
	if change.By == lapse {
		return change.Sponsor
	}
	return change.By
}

// mayDecide is the error for a verdict of the caller's on a proposal that does
// not count, while a version of the configuration is in force.
func (c *caller) mayDecide(change store.Proposal, version int64, v api.ChangeVerdict) error {
	me, _ := c.directory.Person(c.ID) // as the directory is in the version that was read
	other, known := c.directory.Person(proposer(change))
	own := func() bool { return known && slices.Contains(c.config.Humans().Entries(me.Email), other.Email) }
	switch {
	case !c.config.Administrators.Holds(me):
		return problem(http.StatusForbidden, "", "only an administrator decides on a change")
	case change.State != store.ProposalOpen && change.State != store.ProposalStale:
		return problem(http.StatusConflict, "", "the proposal is %s already", change.State)
	case change.State == store.ProposalStale || change.Base != version || c.version != version:
		return problem(http.StatusConflict, "propose it again: apply the file anew, so that it is compared with what is in force now",
			"the proposal is stale: the configuration has changed since version %d, with which it was compared", change.Base)
	case v == api.ChangeApprove && proposer(change) != "" && !(known && c.config.Administrators.Holds(other)):
		return problem(http.StatusForbidden, "reject it", "%s is no administrator", c.email(proposer(change)))
	case v == api.ChangeWithdraw && !own():
		return problem(http.StatusForbidden, "reject it instead", "only who proposed it can withdraw it")
	case v != api.ChangeWithdraw && own():
		return problem(http.StatusForbidden, "another administrator has to decide; you can withdraw it", "nobody decides on a change of their own, under whatever address")
	}
	return nil
}

// read is the configuration that a proposal stands for, by the kinds of today.
func (p *Portal) read(change store.Proposal) (config.Config, spec.Faults, error) {
	return config.Parse(change.File, change.Source, p.opts.Kinds)
}

func (p *Portal) decideChange(ctx context.Context, c *caller, in *changeCall) (out api.Change, err error) {
	if err := c.mustAdminister(); err != nil {
		return out, err
	}
	v, reason := in.Body.Verdict, strings.TrimSpace(in.Body.Reason)
	if v == api.ChangeReject && reason == "" {
		return out, wrongs("", api.Wrong{Location: "body.reason", Message: "say why: who proposed it will ask"})
	}
	change, err := p.proposal(ctx, in.ID)
	if err != nil {
		return out, err
	}
	var next config.Config
	if err := c.mayDecide(change, c.version, v); err == nil && v == api.ChangeApprove {
		if next, _, err = p.read(change); err != nil {
			return out, unsound(err)
		}
	}
	change, err = p.opts.Store.DecideProposal(ctx, in.ID, func(now *store.Proposal, version int64) (*store.SaveConfig, []access.Event, error) {
		if err := c.mayDecide(*now, version, v); err != nil {
			return nil, nil, err
		}
		event := func(kind, format string, args ...any) access.Event {
			text := fmt.Sprintf(format, args...)
			if reason != "" {
				text += ": " + reason
			}
			return access.Event{Key: "proposal/" + now.ID + "/" + kind, Kind: "config." + kind, At: c.now.UTC(), Actor: c.ID, Text: text}
		}
		if v == api.ChangeApprove && proposer(*now) == "" {
			now.Sponsor = c.ID
			return nil, []access.Event{event("sponsored", "%s stands for %s, which lapse proposed", c.Email, now.ID)}, nil
		}
		now.DecidedBy, now.DecidedAt, now.Reason = c.ID, c.now.UTC(), reason
		switch v {
		case api.ChangeReject:
			now.State = store.ProposalRejected
			return nil, []access.Event{event("rejected", "%s rejected %s of %s", c.Email, now.ID, c.proposers(*now))}, nil
		case api.ChangeWithdraw:
			now.State = store.ProposalWithdrawn
			return nil, []access.Event{event("withdrawn", "%s withdrew %s", c.Email, now.ID)}, nil
		}
		now.State = store.ProposalApproved
		if !slices.Equal(config.Diff(c.config, next), now.Changes) {
			return nil, nil, problem(http.StatusConflict, "propose it again: apply the file anew", "this version of Lapse reads the file in another way than the one in which it was proposed")
		}
		data, err := json.Marshal(now.Changes)
		applied := access.Event{Kind: "config.applied", At: c.now.UTC(), Actor: c.ID, Data: data,
			Text: fmt.Sprintf("%s and %s applied a configuration with %d changes: proposed by %s, approved by %s (%s)",
				c.proposers(*now), c.Email, len(now.Changes), c.proposers(*now), c.Email, now.ID)}
		return &store.SaveConfig{Source: now.Source, Config: next, By: c.ID, Event: applied},
			[]access.Event{event("approved", "%s approved %s of %s", c.Email, now.ID, c.proposers(*now))}, err
	})
	if err != nil {
		return out, err
	}
	out = c.change(change)
	switch {
	case change.State == store.ProposalApproved:
		out.Note = fmt.Sprintf("Approved: version %d is in force.", change.Version)
		for _, fault := range p.follow(ctx, change.File) {
			out.Warnings = append(out.Warnings, fault)
			out.Note += " But " + fault.Message + ": " + fault.Fix + "."
		}
	case change.State == store.ProposalOpen:
		out.Note = "You stand for it now, as if you had proposed it. It is in force once another administrator approves it too."
	}
	return out, nil
}

// unsound is the error for a proposal that has faults by now.
func unsound(err error) error {
	faults, ok := errors.AsType[spec.Faults](err)
	if !ok {
		return err
	}
	failed := faulty(faults)
	failed.Detail, failed.Hint = failed.Detail+" by now", "mend it and propose it again; nothing was changed"
	return failed
}

func (p *Portal) proposal(ctx context.Context, id string) (store.Proposal, error) {
	change, err := p.opts.Store.Proposal(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		err = problem(http.StatusNotFound, "lapse changes lists them", "there is no such proposal")
	}
	return change, err
}

// proposers names who stands for a proposal.
func (c *caller) proposers(change store.Proposal) string {
	if change.Sponsor != "" {
		return lapse + " and " + c.email(change.Sponsor)
	}
	return c.email(change.By)
}

// change is a proposal as the caller gets it.
func (c *caller) change(change store.Proposal) api.Change {
	out := api.Change{ID: change.ID, State: string(change.State), By: c.email(change.By), Sponsor: c.email(change.Sponsor), At: change.At, File: change.File,
		Base: change.Base, Changes: change.Changes, DecidedBy: c.email(change.DecidedBy), DecidedAt: change.DecidedAt, Reason: change.Reason, Version: change.Version,
		May: []api.ChangeVerdict{}}
	for _, v := range []api.ChangeVerdict{api.ChangeApprove, api.ChangeReject, api.ChangeWithdraw} {
		if c.mayDecide(change, c.version, v) == nil {
			out.May = append(out.May, v)
		}
	}
	return out
}

func (p *Portal) listChanges(ctx context.Context, c *caller, in *changesCall) (out api.Changes, err error) {
	if err := c.mustAdminister(); err != nil {
		return out, err
	}
	rows, err := p.opts.Store.Proposals(ctx, in.Limit)
	out = api.Changes{TwoPersons: c.config.TwoPersonChanges, Changes: []api.Change{}}
	for _, row := range rows {
		out.Changes = append(out.Changes, c.change(row))
	}
	return out, err
}

func (p *Portal) showChange(ctx context.Context, c *caller, in *ByChange) (out api.Change, err error) {
	if err := c.mustAdminister(); err != nil {
		return out, err
	}
	change, err := p.proposal(ctx, in.ID)
	if err != nil {
		return out, err
	}
	out = c.change(change)
	if change.State != store.ProposalOpen {
		return out, nil
	}
	next, warnings, err := p.read(change)
	out.Warnings = warnings
	if faults, ok := errors.AsType[spec.Faults](err); ok {
		out.Faults = faults
		return out, nil
	}
	more, err := p.removed(ctx, change.File, next)
	out.Warnings = append(out.Warnings, more...)
	return out, err
}

// changesView is the page of all proposals, or of one.
type changesView struct {
	TwoPersons bool
	Shown      []shownChange // with what changes
	Past       []api.Change
	Form       *form
}

// shownChange is a proposal with what the caller may do.
type shownChange struct {
	api.Change
	Can  map[string]bool // by verdict
	Form *form
}

// Printed is text of a file that cannot look like another one.
func (shownChange) Printed(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

func (p *Portal) changesPage(r *http.Request, c *caller) (view, error) {
	list, err := p.listChanges(r.Context(), c, &changesCall{})
	if err != nil {
		return view{}, err
	}
	v := changesView{TwoPersons: list.TwoPersons, Form: p.failure(r, nil)}
	for _, change := range list.Changes {
		if change.State != string(store.ProposalOpen) {
			v.Past = append(v.Past, change)
		} else if err := p.showInto(r.Context(), c, change.ID, &v); err != nil {
			return view{}, err
		}
	}
	return view{template: "changes", title: "Changes", data: v}, nil
}

func (p *Portal) changePage(r *http.Request, c *caller) (view, error) {
	return p.changeView(r, c, nil)
}

func (p *Portal) changeView(r *http.Request, c *caller, why error) (view, error) {
	v := changesView{TwoPersons: c.config.TwoPersonChanges, Form: p.failure(r, why)}
	err := p.showInto(r.Context(), c, r.PathValue("id"), &v)
	return view{template: "changes", title: "Change " + r.PathValue("id"), data: v, status: v.Form.status}, err
}

func (p *Portal) showInto(ctx context.Context, c *caller, id string, v *changesView) error {
	change, err := p.showChange(ctx, c, &ByChange{id})
	shown := shownChange{Change: change, Can: map[string]bool{}, Form: v.Form}
	for _, verdict := range change.May {
		shown.Can[string(verdict)] = true
	}
	v.Shown = append(v.Shown, shown)
	return err
}

// decideChangePage takes a decision on a proposal.
func (p *Portal) decideChangePage(r *http.Request, c *caller) (view, error) {
	in := &changeCall{ByChange{r.PathValue("id")}, api.DecideChange{Verdict: api.ChangeVerdict(r.PostForm.Get("verdict")), Reason: r.PostForm.Get("reason")}}
	if err := valid(in.Body); err != nil {
		return p.changeView(r, c, err)
	}
	out, err := p.decideChange(r.Context(), c, in)
	if err != nil {
		return p.changeView(r, c, err)
	}
	return view{to: "/changes/" + url.PathEscape(out.ID), note: out.Note}, nil
}
