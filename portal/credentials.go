package portal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/seal"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/portal/api"
	"github.com/lapse-access/lapse/workflows"
)

// renewTimeout is how long a call waits for a new credential.
const renewTimeout = 30 * time.Second

// revealed is the kind of the event that a credential was shown.
const revealed = "credential.revealed"

// customDetails is what an integration's configuration adds to a credential.
const customDetails = "custom_access_details"

// takeCredential shows a sealed credential to its person, once: it is erased,
// and the showing recorded, before it is opened.
func (p *Portal) takeCredential(ctx context.Context, c *caller, in *decideBy[api.NewCredential]) (out api.Credential, err error) {
	row, err := c.request(ctx, in.ID)
	if err != nil {
		return out, err
	}
	if row.PersonID != c.ID {
		return out, problem(http.StatusForbidden, "", "a credential is shown to nobody but the person whose access it is")
	}
	if row, err = p.awaitGrant(ctx, c, row); err != nil {
		return out, err
	}
	account, err := p.credentialed(c, row, in.Body.Integration)
	if err != nil {
		return out, err
	}
	if err := c.open(account.Integration); err != nil {
		return out, err
	}
	if in.Body.New {
		if err := p.renew(ctx, c, row, account); err != nil {
			return out, err
		}
	}
	event := access.Event{
		Key: "account/" + account.ID + "/revealed/" + access.NewID("rev"), Kind: revealed, At: p.opts.Store.Now().UTC(), Actor: c.ID,
		RequestID: row.ID, AccountID: account.ID, Integration: account.Integration, Text: "the credential was shown to " + c.Email,
	}
	generation, sealed, err := p.opts.Store.TakeCredential(ctx, account.ID, event)
	if errors.Is(err, store.ErrNotFound) {
		return out, p.taken(ctx, row, account)
	}
	if err != nil {
		return out, err
	}
	return p.open(c, account, generation, sealed)
}

// awaitGrant waits a while for a grant that is under way, so that approving and
// fetching can follow each other without a pause.
func (p *Portal) awaitGrant(ctx context.Context, c *caller, row store.RequestRow) (store.RequestRow, error) {
	err := poll(ctx, outcomeTimeout, func() (done bool, err error) {
		row, err = p.opts.Store.Request(ctx, row.ID)
		c.now = p.opts.Store.Now()
		return !underWay(access.RequestState(row.State, seen(row), c.now)), err
	})
	if errors.Is(err, errTooSlow) {
		err = nil // what is shown next says how it stands
	}
	return row, err
}

// active are the accounts by which a request has access now, by the names of
// their integrations.
func (c *caller) active(row store.RequestRow) map[string]access.Account {
	byName := map[string]access.Account{}
	for _, h := range row.Holds {
		if h.StateAt(c.now) == access.StateActive {
			byName[c.integrationName(h.Entitlement.Integration)] = access.Account{ID: h.AccountID, Integration: h.Entitlement.Integration}
		}
	}
	return byName
}

// makesCredentials reports whether an account gets one from Lapse.
func (p *Portal) makesCredentials(c *caller, account access.Account) bool {
	in, ok := c.integrationByID(account.Integration)
	return ok && p.opts.Kinds[in.Kind].Credentials
}

// credentialed finds the account of a request whose credential is meant.
func (p *Portal) credentialed(c *caller, row store.RequestRow, integration string) (account access.Account, err error) {
	byName := c.active(row)
	names := slices.Sorted(maps.Keys(byName))
	switch {
	case len(names) == 0:
		return account, problem(http.StatusConflict, "lapse show "+row.ID, "nothing of this request is active; it is %s", access.RequestState(row.State, seen(row), c.now))
	case integration == "" && len(names) > 1:
		return account, wrongs("", api.Wrong{Location: "body.integration", Message: "the request has accounts on several integrations; name one of " + strings.Join(names, ", ")})
	case integration == "":
		integration = names[0]
	}
	account, ok := byName[integration]
	if !ok {
		return account, wrongs("", api.Wrong{Location: "body.integration", Message: "this request has active access on " + strings.Join(names, ", ") + " only"})
	}
	if !p.makesCredentials(c, account) {
		return account, problem(http.StatusConflict, "sign in there as you always do", "Lapse makes no credentials for accounts on %s", integration)
	}
	return account, nil
}

// renew has another credential made, and waits until it is there.
func (p *Portal) renew(ctx context.Context, c *caller, row store.RequestRow, account access.Account) error {
	before, err := p.opts.Store.Account(ctx, account.ID)
	if err != nil {
		return err
	}
	d, err := p.take(ctx, c, row, access.Decision{Verdict: access.Renew, Account: account.ID})
	if err != nil {
		return err
	}
	err = poll(ctx, renewTimeout, func() (bool, error) {
		events, err := p.events(ctx, store.EventFilter{RequestID: row.ID})
		if err != nil {
			return false, err
		}
		if err := refusal(events, account.ID, workflows.UpdateCredential, d); err != nil {
			return false, err
		}
		now, err := p.opts.Store.Account(ctx, account.ID)
		return now.Generation > before.Generation, err
	})
	if errors.Is(err, errTooSlow) {
		return problem(http.StatusGatewayTimeout, "try again in a while without --new",
			"a new credential is being made and not there after %s", access.Duration(renewTimeout))
	}
	return err
}

// taken is the error for a credential that is not there any more.
func (p *Portal) taken(ctx context.Context, row store.RequestRow, account access.Account) error {
	hint := "lapse credentials " + row.ID + " --new makes another one; the one you have stops working then"
	e, err := p.opts.Store.LastEvent(ctx, account.ID, revealed)
	if errors.Is(err, store.ErrNotFound) {
		return problem(http.StatusConflict, hint, "there is no credential to show")
	}
	if err != nil {
		return err
	}
	at := e.At.UTC().Format(time.RFC3339)
	if e.RequestID != row.ID {
		return problem(http.StatusConflict, hint, "you have it already: the account is the same as for %s, for which you fetched the credential at %s", e.RequestID, at)
	}
	return problem(http.StatusConflict, hint, "the credential was fetched already, at %s, and is shown only once", at)
}

// open unseals a credential and puts beside it what its person should know.
func (p *Portal) open(c *caller, account access.Account, generation int, sealed []byte) (out api.Credential, err error) {
	plain, err := seal.Open(p.opts.Keys.SealingKey, seal.Info(account.ID, generation), sealed)
	if err != nil {
		return out, fmt.Errorf("credential %d of account %s: %w", generation, account.ID, err)
	}
	var credential access.Credential
	if err := json.Unmarshal(plain, &credential); err != nil {
		return out, fmt.Errorf("credential %d of account %s is not what a connector seals", generation, account.ID)
	}
	out = api.Credential{Username: credential.Username, Password: credential.Password, Command: credential.Command, Details: map[string]string{}}
	maps.Copy(out.Details, credential.Details)
	if in, ok := c.integrationByID(account.Integration); ok && in.CustomAccessDetails != "" {
		out.Details[customDetails] = in.CustomAccessDetails
	}
	return out, nil
}
