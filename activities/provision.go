package activities

import (
	"context"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/seal"
	"github.com/lapse-access/lapse/internal/secrets"
)

// Provision is what a connector does on its targets. It is the only part of
// Lapse that reads integration secrets, and it grants nothing without a ticket
// that the control side signed.
type Provision struct {
	Instance string
	Kinds    integrations.Registry
	// Target finds an integration's settings; never a secret.
	Target func(ctx context.Context, integration string) (config.Integration, error)
	// Secrets fetches the integration's own secret.
	Secrets *secrets.Resolver
	// TicketKey is the pinned public key of the control side.
	TicketKey ed25519.PublicKey
	// SealingKey is the portal's; only the portal opens what it seals.
	SealingKey hpke.PublicKey
	// Restored says why nothing may be changed on a target, as Epoch does.
	Restored func(ctx context.Context) (why string, err error)
	// PutCredential hands on a sealed credential.
	PutCredential func(ctx context.Context, account string, generation int, sealed []byte) error
	Log           *slog.Logger

	mu   sync.Mutex
	open map[string]opened
}

// opened is an integration in use, and hashes of what it was made from.
type opened struct {
	integrations.Integration
	from, secret digest
}

// Held reads the slots of what is wanted.
func (p *Provision) Held(ctx context.Context, a access.HeldArgs) ([]access.Slot, error) {
	return guard(ctx, failed, func(ctx context.Context) ([]access.Slot, error) {
		return with(ctx, p, a.Account.Integration, func(i integrations.Integration) ([]access.Slot, error) {
			return i.Held(ctx, a.Account, a.Want)
		})
	})
}

// Grant opens what the ticket names and, for an account that held nothing,
// makes a credential, logs in with it once and hands it on sealed.
func (p *Provision) Grant(ctx context.Context, a access.GrantArgs) (access.GrantDone, error) {
	return guard(ctx, failed, func(ctx context.Context) (done access.GrantDone, err error) {
		if err := a.Ticket.Verify(p.TicketKey, time.Now()); err != nil {
			return done, err
		}
		account := a.Ticket.Account
		account.Name = a.AccountName
		return changing(ctx, p, account.Integration, func(i integrations.Integration) (access.GrantDone, error) {
			res, err := i.Grant(ctx, integrations.GrantRequest{Account: account, Want: a.Ticket.Entitlements, Remain: a.Remain, Wrote: a.Wrote,
				End: a.Ticket.End, Sequence: a.Ticket.Sequence})
			if err != nil {
				return done, err
			}
			account.Name = res.AccountName
			if res.Entries, err = settle(ctx, i, account, res.Entries); err != nil {
				return done, err
			}
			if a.Generation > 0 {
				if err := p.credential(ctx, i, account, a.Ticket.Sequence, a.Generation, false); err != nil {
					return done, err
				}
			}
			return access.GrantDone{AccountName: res.AccountName, Entries: res.Entries, Wrote: res.Wrote, Generation: a.Generation, At: time.Now().UTC(), Notes: res.Notes}, nil
		})
	})
}

// Verify reads how entitlements stand.
func (p *Provision) Verify(ctx context.Context, a access.VerifyArgs) ([]access.Entry, error) {
	return guard(ctx, failed, func(ctx context.Context) ([]access.Entry, error) {
		return with(ctx, p, a.Account.Integration, func(i integrations.Integration) ([]access.Entry, error) {
			return i.Verify(ctx, a.Account, a.Want)
		})
	})
}

// Revoke takes access away. It never gives up, and reports nothing as gone
// that was not read to be gone. Where other holds keep all of it, the target is
// only read, so that no session ends.
func (p *Provision) Revoke(ctx context.Context, a access.RevokeArgs) (access.RevokeDone, error) {
	return guard(ctx, unfinished, func(ctx context.Context) (done access.RevokeDone, err error) {
		return changing(ctx, p, a.Account.Integration, func(i integrations.Integration) (access.RevokeDone, error) {
			if entries := kept(ctx, i, a); entries != nil {
				return access.RevokeDone{Entries: entries, At: time.Now().UTC()}, nil
			}
			res, err := i.Revoke(ctx, integrations.RevokeRequest{Account: a.Account, End: a.End, Remain: a.Remain, Wrote: a.Wrote, Sequence: a.Sequence})
			if err != nil {
				return done, err
			}
			if res.Entries, err = settle(ctx, i, a.Account, res.Entries); err != nil {
				return done, err
			}
			for _, e := range res.Entries {
				if e.Outcome != access.Gone && e.Outcome != access.WasGone && e.Outcome != access.Lowered {
					return done, access.Errorf(access.Retry, "%s is %s: %s", e.Entitlement, e.Outcome, strings.Join(e.Facts, "; "))
				}
			}
			for _, end := range a.End {
				if !slices.ContainsFunc(res.Entries, func(e access.Entry) bool { return e.Entitlement == end }) {
					return done, access.Errorf(access.Unknown, "the integration does not say what became of %s", end)
				}
			}
			return access.RevokeDone{Entries: res.Entries, Wrote: res.Wrote, At: time.Now().UTC(), Notes: res.Notes}, nil
		})
	})
}

// kept are the entries of a revoke of which other holds keep everything, as long
// as the target shows all of it; else nil.
func kept(ctx context.Context, i integrations.Integration, a access.RevokeArgs) []access.Entry {
	for _, end := range a.End {
		if !slices.Contains(a.Remain, access.Claim{Entitlement: end}) {
			return nil
		}
	}
	entries, err := i.Verify(ctx, a.Account, a.End)
	if err != nil || len(entries) != len(a.End) {
		return nil // Revoke says what is wrong
	}
	for n, e := range entries {
		if e.Outcome != access.Granted {
			return nil
		}
		entries[n].Outcome, entries[n].Facts = access.Lowered, append(slices.Clone(e.Facts), "another hold keeps it")
	}
	return entries
}

// Credential makes another credential for an account.
func (p *Provision) Credential(ctx context.Context, a access.CredentialArgs) error {
	_, err := guard(ctx, failed, func(ctx context.Context) (struct{}, error) {
		return changing(ctx, p, a.Account.Integration, func(i integrations.Integration) (struct{}, error) {
			return struct{}{}, p.credential(ctx, i, a.Account, a.Sequence, a.Generation, a.EndSessions)
		})
	})
	return err
}

// DeleteAccount removes an account, or keeps it disabled when it owns things.
func (p *Provision) DeleteAccount(ctx context.Context, a access.DeleteArgs) (access.DeleteDone, error) {
	return guard(ctx, unfinished, func(ctx context.Context) (done access.DeleteDone, err error) {
		return changing(ctx, p, a.Account.Integration, func(i integrations.Integration) (access.DeleteDone, error) {
			res, err := i.DeleteAccount(ctx, integrations.DeleteRequest{Account: a.Account, Sequence: a.Sequence})
			return access.DeleteDone{Outcome: res.Outcome, Owns: res.Owns, At: time.Now().UTC()}, err
		})
	})
}

// Accounts lists what carries our mark, a page at a time.
func (p *Provision) Accounts(ctx context.Context, a access.DiscoverArgs) (access.PrincipalPage, error) {
	return guard(ctx, failed, func(ctx context.Context) (access.PrincipalPage, error) {
		return with(ctx, p, a.Integration, func(i integrations.Integration) (access.PrincipalPage, error) {
			return i.Accounts(ctx, a.Cursor)
		})
	})
}

// Maintain brings up to date what belongs to no single account, where the kind
// has such things.
func (p *Provision) Maintain(ctx context.Context, integration string) ([]string, error) {
	return guard(ctx, failed, func(ctx context.Context) ([]string, error) {
		return changing(ctx, p, integration, func(i integrations.Integration) ([]string, error) {
			if m, ok := i.(integrations.Maintainer); ok {
				return m.Maintain(ctx)
			}
			return nil, nil
		})
	})
}

// Discover reads one page of the catalog.
func (p *Provision) Discover(ctx context.Context, a access.DiscoverArgs) (access.Page, error) {
	return guard(ctx, failed, func(ctx context.Context) (access.Page, error) {
		settings, err := p.Target(ctx, a.Integration)
		if err != nil {
			return access.Page{}, err
		}
		return with(ctx, p, a.Integration, func(i integrations.Integration) (access.Page, error) {
			page, err := i.Discover(ctx, a.Cursor)
			if types := settings.Discover.Types; len(types) > 0 {
				page.Resources = slices.DeleteFunc(page.Resources, func(f access.Found) bool { return !slices.Contains(types, f.Resource.Type) })
			}
			return page, err
		})
	})
}

// Check proves the rights of the connector's account. A secret that cannot be
// read, or a target that does not answer, is a finding and not a failure.
func (p *Provision) Check(ctx context.Context, integration string) (access.CheckReport, error) {
	return guard(ctx, failed, func(ctx context.Context) (access.CheckReport, error) {
		report, err := with(ctx, p, integration, func(i integrations.Integration) (access.CheckReport, error) {
			report, err := i.Check(ctx)
			if err == nil && slices.ContainsFunc(report.Items, func(c access.CheckItem) bool { return c.Operation == "connect" && !c.OK && !c.Optional }) {
				// Where the secret is refused, another value of it may hold.
				if _, refused := i.Accounts(ctx, ""); access.KindOf(refused) == access.Auth {
					err = refused
				}
			}
			return report, err
		})
		switch {
		case err == nil || access.KindOf(err) == access.Unknown:
		case len(report.Items) > 0:
			err = nil // the report says it
		default:
			report.Items = append(report.Items, access.CheckItem{Operation: "connect", Name: string(access.KindOf(err)), Detail: err.Error()})
			err = nil
		}
		return report, err
	})
}

// credential sets, tries, seals and hands on. The plain secret lives in this
// function only.
func (p *Provision) credential(ctx context.Context, i integrations.Integration, account access.Account, sequence int64, generation int, endSessions bool) error {
	setter, ok := i.(integrations.CredentialSetter)
	if !ok {
		return access.Errorf(access.Unsupported, "accounts on this integration have no credential of Lapse's making")
	}
	c, err := setter.SetCredential(ctx, integrations.CredentialRequest{Account: account, Sequence: sequence, EndSessions: endSessions})
	if err != nil {
		return err
	}
	plain, err := json.Marshal(access.Credential{Username: c.Username, Password: c.Password.Reveal(), Command: c.Command, Details: c.Details})
	if err != nil {
		return err
	}
	sealed, err := seal.Seal(p.SealingKey, seal.Info(account.ID, generation), plain)
	if err != nil {
		return fmt.Errorf("sealing the credential: %w", err)
	}
	return p.PutCredential(ctx, account.ID, generation, sealed)
}

// settleEvery is how often a change that the target has taken, and does not
// show yet, is looked for.
const settleEvery = time.Second

// settle waits until nothing is propagating any more.
func settle(ctx context.Context, i integrations.Integration, account access.Account, entries []access.Entry) ([]access.Entry, error) {
	for slices.ContainsFunc(entries, func(e access.Entry) bool { return e.Outcome == access.Propagating }) {
		select {
		case <-ctx.Done():
			return nil, access.Errorf(access.Retry, "the target took the change and does not show it yet")
		case <-time.After(settleEvery):
		}
		want := make([]access.Entitlement, len(entries))
		for n, e := range entries {
			want[n] = e.Entitlement
		}
		var err error
		if entries, err = i.Verify(ctx, account, want); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// unrestored refuses as long as a restore is not accepted.
func (p *Provision) unrestored(ctx context.Context) error {
	why, err := p.Restored(ctx)
	switch {
	case err != nil:
		return access.Errorf(access.Retry, "asking whether Lapse was restored: %w", err)
	case why != "":
		return access.Errorf(access.Restored, "nothing is changed on the target: %s", why).WithRemedy("lapse restore report, then lapse restore accept")
	}
	return nil
}

// changing is with, for work that changes the target.
func changing[T any](ctx context.Context, p *Provision, id string, work func(integrations.Integration) (T, error)) (result T, err error) {
	if err := p.unrestored(ctx); err != nil {
		return result, err
	}
	return with(ctx, p, id, work)
}

// with runs work on an integration. Where the target refuses the secret that
// the integration was made with, the secret may have changed since, or may be
// changing at this moment: every value that it has is tried once.
func with[T any](ctx context.Context, p *Provision, id string, work func(integrations.Integration) (T, error)) (result T, err error) {
	settings, err := p.Target(ctx, id)
	if err != nil {
		return result, err
	}
	for tried := map[digest]bool{}; ; {
		o, made := p.integration(ctx, id, settings, tried)
		switch {
		case errors.Is(made, errTried):
		case made != nil:
			err = made
		default:
			if result, err = work(o.Integration); access.KindOf(err) == access.Auth {
				tried[o.secret] = true
				continue
			}
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", settings.Name, err)
		}
		return result, err
	}
}

type digest = [sha256.Size]byte

// errTried says that every value of a secret was tried.
var errTried = errors.New("every value of the secret was tried")

// integration is made when it is first used, and again when its settings have
// changed, or its secret is one that was tried. Operations that are under way on
// the former one are cut by that, and repeated by Temporal.
func (p *Provision) integration(ctx context.Context, id string, settings config.Integration, tried map[digest]bool) (opened, error) {
	from := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s", settings.Kind, settings.Config, settings.Secret))
	p.mu.Lock()
	defer p.mu.Unlock()
	if o, ok := p.open[id]; ok {
		if o.from == from && !tried[o.secret] {
			return o, nil
		}
		delete(p.open, id)
		go o.Close()
	}
	kind, ok := p.Kinds[settings.Kind]
	if !ok {
		return opened{}, access.Errorf(access.Unsupported, "this connector does not know the kind %s", settings.Kind)
	}
	values, err := p.Secrets.Values(ctx, settings.Secret)
	if err != nil {
		return opened{}, access.Errorf(access.Auth, "%w", err)
	}
	i := slices.IndexFunc(values, func(v secrets.Value) bool { return !tried[v.Digest()] })
	if i < 0 {
		return opened{}, errTried
	}
	secret := kind.Secret()
	if err := values[i].Decode(secret); err != nil {
		return opened{}, access.Errorf(access.Auth, "%w", err)
	}
	o := opened{from: from, secret: values[i].Digest()}
	if o.Integration, err = p.make(id, settings, secret); err != nil {
		return opened{}, err
	}
	if p.open == nil {
		p.open = map[string]opened{}
	}
	p.open[id] = o
	return o, nil
}

// make makes an integration from its settings and a secret.
func (p *Provision) make(id string, settings config.Integration, secret any) (integrations.Integration, error) {
	kind := p.Kinds[settings.Kind]
	cfg, err := settings.Settings(kind)
	if err != nil {
		return nil, access.Errorf(access.Invalid, "%w", err)
	}
	return kind.New(integrations.Target{Instance: p.Instance, ID: id, Name: settings.Name, Config: cfg, Secret: secret, Log: p.Log.With("integration", settings.Name)})
}

// forget closes an integration, so that it is made anew.
func (p *Provision) forget(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if o, ok := p.open[id]; ok {
		delete(p.open, id)
		go o.Close()
	}
}

// Close closes every integration in use.
func (p *Provision) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, o := range p.open {
		o.Close()
		delete(p.open, id)
	}
}
