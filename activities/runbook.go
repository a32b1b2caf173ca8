package activities

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"filippo.io/age"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/runbook"
	"github.com/lapse-access/lapse/internal/store"
)

// The runbook is written by the process itself and not by a workflow: it is for
// the day on which Temporal is gone, and stands on the machine of each control
// worker.

// runbookPause is how often it is looked whether a runbook is due.
const runbookPause = 2 * time.Second

// runbookRetry is how long after one that failed the next one is tried.
const runbookRetry = 30 * time.Second

// KeepRunbook writes a runbook as often as the configuration says, until the
// context ends. Relative paths start at data. What fails is logged, shows in the
// health of the portal, and is tried again.
func (c *Control) KeepRunbook(ctx context.Context, data string) {
	tick := time.NewTicker(runbookPause)
	defer tick.Stop()
	for written, failed := (time.Time{}), (time.Time{}); ; {
		_, cfg, err := c.Store.Config(ctx)
		if err == nil && cfg.Runbook.Every > 0 && time.Since(written) >= cfg.Runbook.Every.Std() && time.Since(failed) >= runbookRetry {
			if _, err := c.WriteRunbook(ctx, data); err == nil {
				written = time.Now()
			} else if failed = time.Now(); ctx.Err() == nil {
				c.Log.Error("no runbook was written", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// WriteRunbook writes a runbook now, and returns where it is.
func (c *Control) WriteRunbook(ctx context.Context, data string) (path string, err error) {
	_, cfg, err := c.Store.Config(ctx)
	if err != nil {
		return "", err
	}
	book, err := c.book(ctx)
	if err != nil {
		return "", err
	}
	book.Every = cfg.Runbook.Every
	readers, err := runbook.Readers(cfg.Runbook.Recipients)
	if err == nil && len(readers) == 0 {
		var own age.Recipient
		own, err = runbook.OwnReader(filepath.Join(data, "keys"))
		readers = []age.Recipient{own}
	}
	if err != nil {
		return "", err
	}
	file, err := runbook.Seal(book, c.TicketKey, readers...)
	if err != nil {
		return "", err
	}
	dir := cfg.Runbook.Path
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(data, dir)
	}
	if path, err = runbook.Keep(dir, book.WrittenAt, file, cfg.Runbook.Keep); err != nil {
		return path, err
	}
	return path, c.Store.RunbookWritten(ctx)
}

// book is what everybody holds now.
func (c *Control) book(ctx context.Context) (b runbook.Book, err error) {
	b = runbook.Book{WrittenAt: time.Now().UTC(), Instance: c.Store.Instance(), Integrations: []runbook.Integration{}}
	if b.Epoch, _, err = c.Store.Epoch(ctx); err != nil {
		return b, err
	}
	if b.Events, b.Head, err = c.Store.Head(ctx); err != nil {
		return b, err
	}
	all, err := c.Store.Integrations(ctx)
	if err != nil {
		return b, err
	}
	for _, in := range all {
		accounts, err := c.Store.AccountsOf(ctx, in.ID)
		if err != nil {
			return b, err
		}
		accounts = slices.DeleteFunc(accounts, func(a store.AccountRow) bool { return len(a.Holds) == 0 })
		if len(accounts) > 0 {
			b.Integrations = append(b.Integrations, c.page(in, accounts))
		}
	}
	return b, nil
}

// page is what people hold on one integration. What cannot be written down is
// said, and keeps nothing else from being written.
func (c *Control) page(in store.IntegrationRow, accounts []store.AccountRow) runbook.Integration {
	kind, known := c.Kinds[in.Kind]
	page := runbook.Integration{Name: in.Name, Kind: in.Kind, Title: kind.Title, Language: kind.LastResort.Language}
	target := integrations.Target{Instance: c.Store.Instance(), ID: in.ID, Name: in.Name}
	err := errors.New("this Lapse knows no such kind")
	if known {
		target.Config, err = in.Settings(kind)
	}
	if err == nil && kind.LastResort.Steps == nil {
		err = errors.New("the kind has no steps for this: take it away in its own console")
	}
	if err == nil {
		page.Command, err = pasteable(kind.LastResort.Head(target))
	}
	if err != nil {
		page.Missing = err.Error()
	}
	for _, a := range accounts {
		person := runbook.Person{Email: a.Email, Account: a.Name}
		for _, h := range a.Holds {
			person.Holds = append(person.Holds, runbook.Hold{Resource: h.Entitlement.Resource.String(), Permission: h.Entitlement.Permission,
				State: h.StateAt(time.Now()), StartsAt: h.StartsAt, EndsAt: h.EndsAt, Request: h.RequestID})
		}
		if page.Missing == "" {
			if person.Steps, err = pasteable(kind.LastResort.Steps(target, everything(a))); err != nil {
				person.Missing = err.Error()
			}
		}
		page.People = append(page.People, person)
	}
	return page
}

// everything is the end of all holds of an account, down to its baseline.
func everything(a store.AccountRow) integrations.RevokeRequest {
	req := integrations.RevokeRequest{Account: a.Account, Wrote: a.Wrote}
	for _, h := range a.Holds {
		if !slices.Contains(req.End, h.Entitlement) {
			req.End = append(req.End, h.Entitlement)
		}
	}
	for _, b := range a.Baseline {
		for _, e := range b.HeldAs {
			req.Remain = append(req.Remain, access.Claim{Entitlement: e, Baseline: true})
		}
	}
	return req
}

func pasteable(text string, err error) (string, error) {
	if err == nil {
		err = runbook.Pasteable(text)
	}
	if err != nil {
		return "", err
	}
	return text, nil
}
