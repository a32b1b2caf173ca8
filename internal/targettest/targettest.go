// Package targettest is a target system in memory, for tests of what stands
// around the integrations. It keeps what a real target keeps: accounts with a
// mark, what they hold, their password, and the number of the last operation.
package targettest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

// KindName is the kind of which every Target is.
const KindName = "memory"

// Secret is the connector's own secret on a Target.
type Secret struct {
	Token integrations.Secret `json:"token" doc:"what the target lets the connector in with" writeOnly:"true"`
}

// Target is a target system. Its fields are set before it is first used.
type Target struct {
	// Token is what the target lets the connector in with; the empty one asks
	// for none.
	Token string
	// Password is that of every account; SetCredential returns it.
	Password string
	// Catalog is what Discover returns, page by page.
	Catalog []access.Page
	// Before, where set, is asked before each operation has its effect, by the
	// name of the method and the id of the account.
	Before func(ctx context.Context, operation, account string) error
	// Around, where set, makes the effect of each operation, and may lose the
	// answer.
	Around func(ctx context.Context, effect func() error) error
	// Says, where set, may replace the outcome that an operation reports.
	Says func(operation string, e access.Entry) access.Entry

	mu       sync.Mutex
	accounts map[string]*account
	calls    []string
}

type account struct {
	name  string
	holds map[access.Entitlement]bool
	last  int64
}

// Kind is the kind with this target behind all of its integrations.
func (t *Target) Kind() integrations.Kind {
	return integrations.Kind{
		Name: KindName, Title: "Memory", Doc: "Access is a set in memory.",
		Config: func() any { return new(struct{}) }, Secret: func() any { return new(Secret) },
		ResourceTypes: []integrations.ResourceType{{Name: "schema", Path: []string{"DATABASE", "SCHEMA"}, Doc: "a schema"}},
		Credentials:   true, RotatesSecret: true,
		New: func(to integrations.Target) (integrations.Integration, error) {
			return &integration{Target: t, id: to.ID, token: to.Secret.(*Secret).Token}, nil
		},
	}
}

// Put gives an account something by hand, and makes it, with our mark, where it
// is not there.
func (t *Target) Put(accountID, name string, has ...access.Entitlement) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.make(accountID, name)
	for _, e := range has {
		a.holds[e] = true
	}
}

// Has is what an account holds, sorted by resource and permission.
func (t *Target) Has(accountID string) []access.Entitlement {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.has(accountID)
}

func (t *Target) has(accountID string) []access.Entitlement {
	a := t.accounts[accountID]
	if a == nil {
		return nil
	}
	return slices.SortedFunc(maps.Keys(a.holds), func(x, y access.Entitlement) int { return strings.Compare(x.String(), y.String()) })
}

// Exists reports whether there is such an account.
func (t *Target) Exists(accountID string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.accounts[accountID] != nil
}

// Calls counts how often an operation was begun.
func (t *Target) Calls(operation string) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.calls {
		if c == operation {
			n++
		}
	}
	return n
}

func (t *Target) make(accountID, name string) *account {
	if t.accounts == nil {
		t.accounts = map[string]*account{}
	}
	a := t.accounts[accountID]
	if a == nil {
		a = &account{name: name, holds: map[access.Entitlement]bool{}}
		t.accounts[accountID] = a
	}
	return a
}

// integration is one connection to a Target.
type integration struct {
	*Target
	id    string
	token integrations.Secret
}

// do runs the effect of one operation, alone, unless something forbids it.
func (i *integration) do(ctx context.Context, operation, accountID string, effect func() error) error {
	i.mu.Lock()
	i.calls = append(i.calls, operation)
	i.mu.Unlock()
	if i.Token != "" && i.token.Reveal() != i.Token {
		return access.Errorf(access.Auth, "the target refuses the connector's token")
	}
	if i.Before != nil {
		if err := i.Before(ctx, operation, accountID); err != nil {
			return err
		}
	}
	if i.Around != nil {
		return i.Around(ctx, func() error { return i.alone(effect) })
	}
	return i.alone(effect)
}

func (i *integration) alone(effect func() error) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return effect()
}

// newer refuses an operation that comes after a later one.
func (a *account) newer(sequence int64) error {
	if sequence < a.last {
		return access.Errorf(access.Superseded, "operation %d comes after %d", sequence, a.last)
	}
	a.last = sequence
	return nil
}

func (i *integration) say(operation string, e access.Entry) access.Entry {
	if i.Says != nil {
		return i.Says(operation, e)
	}
	return e
}

func (i *integration) Check(ctx context.Context) (r access.CheckReport, err error) {
	err = i.do(ctx, "Check", "", func() error {
		r = access.CheckReport{Server: "memory 1", Items: []access.CheckItem{{Operation: "connect", Name: "token", OK: true}}}
		return nil
	})
	if access.KindOf(err) == access.Auth {
		// As the contract says: a report, and no error.
		r.Items, err = []access.CheckItem{{Operation: "connect", Name: "auth", Detail: err.Error()}}, nil
	}
	return r, err
}

func (i *integration) Discover(ctx context.Context, cursor string) (p access.Page, err error) {
	err = i.do(ctx, "Discover", "", func() error {
		n := 0
		if cursor != "" {
			if _, err := fmt.Sscan(cursor, &n); err != nil {
				return access.Errorf(access.Invalid, "cursor %q: %w", cursor, err)
			}
		}
		if n >= len(i.Catalog) {
			return nil
		}
		p = i.Catalog[n]
		p.Resources = slices.Clone(p.Resources)
		if n+1 < len(i.Catalog) {
			p.Next = fmt.Sprint(n + 1)
		}
		return nil
	})
	return p, err
}

func (i *integration) Held(ctx context.Context, acct access.Account, want []access.Entitlement) (out []access.Slot, err error) {
	err = i.do(ctx, "Held", acct.ID, func() error {
		has := i.has(acct.ID)
		for _, e := range want {
			s := access.Slot{Key: e.String(), Write: "member", Entitlements: []access.Entitlement{e}}
			if slices.Contains(has, e) {
				s.Held, s.Write, s.HeldAs = "member", "", []access.Entitlement{e}
			}
			out = append(out, s)
		}
		return nil
	})
	return out, err
}

func (i *integration) Grant(ctx context.Context, req integrations.GrantRequest) (res integrations.GrantResult, err error) {
	err = i.do(ctx, "Grant", req.Account.ID, func() error {
		local, _, _ := strings.Cut(req.Account.Email, "@")
		a := i.make(req.Account.ID, "lapse_"+local)
		if err := a.newer(req.Sequence); err != nil {
			return err
		}
		res.AccountName, res.Wrote = a.name, req.Wrote
		for _, e := range req.Want {
			entry := access.Entry{Entitlement: e, Outcome: access.Granted, Facts: []string{"it is in the set"}}
			if a.holds[e] {
				entry.Outcome = access.AlreadyHeld
			}
			a.holds[e] = true
			res.Entries = append(res.Entries, i.say("Grant", entry))
		}
		return nil
	})
	return res, err
}

func (i *integration) Revoke(ctx context.Context, req integrations.RevokeRequest) (res integrations.RevokeResult, err error) {
	err = i.do(ctx, "Revoke", req.Account.ID, func() error {
		a := i.make(req.Account.ID, req.Account.Name)
		if err := a.newer(req.Sequence); err != nil {
			return err
		}
		res.Wrote = req.Wrote
		for _, e := range req.End {
			entry := access.Entry{Entitlement: e, Outcome: access.WasGone, Facts: []string{"it is not in the set"}}
			switch {
			case slices.ContainsFunc(req.Remain, func(c access.Claim) bool { return c.Entitlement == e }):
				entry.Outcome, entry.Facts = access.Lowered, []string{"something else asks for it"}
			case a.holds[e]:
				entry.Outcome = access.Gone
				delete(a.holds, e)
			}
			res.Entries = append(res.Entries, i.say("Revoke", entry))
		}
		return nil
	})
	return res, err
}

func (i *integration) Verify(ctx context.Context, acct access.Account, want []access.Entitlement) (out []access.Entry, err error) {
	err = i.do(ctx, "Verify", acct.ID, func() error {
		has := i.has(acct.ID)
		for _, e := range want {
			entry := access.Entry{Entitlement: e, Outcome: access.Gone}
			if slices.Contains(has, e) {
				entry.Outcome = access.Granted
			}
			out = append(out, i.say("Verify", entry))
		}
		return nil
	})
	return out, err
}

func (i *integration) SetCredential(ctx context.Context, req integrations.CredentialRequest) (c integrations.Credential, err error) {
	err = i.do(ctx, "SetCredential", req.Account.ID, func() error {
		if err := i.make(req.Account.ID, req.Account.Name).newer(req.Sequence); err != nil {
			return err
		}
		c = integrations.Credential{Username: req.Account.Name, Password: integrations.Secret(i.Password), Command: "memory " + req.Account.Name}
		return nil
	})
	return c, err
}

func (i *integration) NextSecret() (any, error) {
	return &Secret{Token: i.token + "+"}, nil
}

func (i *integration) RotateSecret(ctx context.Context, next any) error {
	return i.do(ctx, "RotateSecret", "", func() error {
		i.Token = next.(*Secret).Token.Reveal()
		return nil
	})
}

func (i *integration) DeleteAccount(ctx context.Context, req integrations.DeleteRequest) (res integrations.DeleteResult, err error) {
	err = i.do(ctx, "DeleteAccount", req.Account.ID, func() error {
		a := i.accounts[req.Account.ID]
		if a == nil {
			res.Outcome = access.WasGone
			return nil
		}
		if err := a.newer(req.Sequence); err != nil {
			return err
		}
		delete(i.accounts, req.Account.ID)
		res.Outcome = access.Gone
		return nil
	})
	return res, err
}

func (i *integration) Accounts(ctx context.Context, _ string) (page access.PrincipalPage, err error) {
	err = i.do(ctx, "Accounts", "", func() error {
		for _, id := range slices.Sorted(maps.Keys(i.accounts)) {
			if integration, _, err := access.SplitAccountID(id); err == nil && integration == i.id {
				page.Principals = append(page.Principals, access.Principal{Name: i.accounts[id].name, AccountID: id, Enabled: true, Entitlements: i.has(id)})
			}
		}
		return nil
	})
	return page, err
}

func (i *integration) Close() error { return nil }
