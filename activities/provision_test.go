package activities_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hpke"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/activities"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/seal"
	"github.com/lapse-access/lapse/internal/secrets"
	"github.com/lapse-access/lapse/internal/targettest"
)

// connector is a connector with one integration, int-1, on a target in memory.
type connector struct {
	*activities.Provision
	target  *targettest.Target
	control ed25519.PrivateKey // signs tickets
	portal  hpke.PrivateKey    // opens credentials
	sealed  map[string][]byte  // what was handed on, by what it is for
	secret  secrets.Ref        // where the connector's own secret is
	dir     string             // of secrets in files
	log     *bytes.Buffer
	because string // why nothing may be changed: a restore that is not accepted
}

// canary is a password that must never be seen in the open.
const canary = "c4n4ry-of-ana"

func newConnector(t *testing.T) *connector {
	t.Helper()
	public, control, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	portal, err := hpke.MLKEM768X25519().GenerateKey()
	require.NoError(t, err)
	c := &connector{target: &targettest.Target{Password: canary, Token: "t0ken-1"}, control: control, portal: portal, sealed: map[string][]byte{}, log: &bytes.Buffer{},
		secret: secrets.Ref{Store: "env", Key: "TARGET"}, dir: t.TempDir()}
	t.Setenv("TARGET", `{"token": "t0ken-1"}`)
	c.Provision = &activities.Provision{
		Instance: "lapse-1", Kinds: integrations.NewRegistry(c.target.Kind()), Secrets: secrets.New(c.dir), TicketKey: public, SealingKey: portal.PublicKey(),
		Log: slog.New(slog.NewTextHandler(c.log, nil)),
		Target: func(_ context.Context, id string) (config.Integration, error) {
			if id != "int-1" {
				return config.Integration{}, access.Errorf(access.Invalid, "there is no integration %s", id)
			}
			return config.Integration{Name: "prod-pg", Kind: targettest.KindName, Config: []byte("{}"), Secret: c.secret}, nil
		},
		Restored: func(context.Context) (string, error) { return c.because, nil },
		PutCredential: func(_ context.Context, account string, generation int, sealed []byte) error {
			c.sealed[seal.Info(account, generation)] = sealed
			return nil
		},
	}
	t.Cleanup(c.Close)
	return c
}

func on(integration, permission string) access.Entitlement {
	return access.Entitlement{Integration: integration, Resource: access.NewResource("schema", "shop", "public"), Permission: permission}
}

var anas = access.Account{ID: "int-1/per-1", Integration: "int-1", PersonID: "per-1", Email: "ana@example.com"}

func ticket() access.Ticket {
	return access.Ticket{RequestID: "r1", Account: anas, Entitlements: []access.Entitlement{on("int-1", "read_only")},
		End: time.Now().Add(time.Hour), LatestStart: time.Now().Add(time.Minute), Sequence: 1}
}

// Promise 1, at the connector: without a ticket that the control side signed
// for exactly this, nothing on the target is even looked at.
func TestNoGrantWithoutATicket(t *testing.T) {
	_, stranger, _ := ed25519.GenerateKey(nil)
	for _, tc := range []struct {
		name   string
		ticket func(c *connector) access.Ticket
	}{
		{"there is none", func(*connector) access.Ticket { return access.Ticket{} }},
		{"nobody signed it", func(*connector) access.Ticket { return ticket() }},
		{"a stranger signed it", func(*connector) access.Ticket { return ticket().Sign(stranger) }},
		{"it is too late", func(c *connector) access.Ticket {
			k := ticket()
			k.LatestStart = time.Now().Add(-time.Millisecond)
			return k.Sign(c.control)
		}},
		{"it was signed for another account", func(c *connector) access.Ticket {
			k := ticket().Sign(c.control)
			k.Account.ID, k.Account.PersonID = "int-1/per-2", "per-2"
			return k
		}},
		{"it was signed for another integration", func(c *connector) access.Ticket {
			k := ticket()
			k.Entitlements[0].Integration = "int-2"
			return k.Sign(c.control)
		}},
		{"it was signed for something else", func(c *connector) access.Ticket {
			k := ticket().Sign(c.control)
			k.Entitlements = []access.Entitlement{on("int-1", "admin")}
			return k
		}},
		{"it was signed for a shorter time", func(c *connector) access.Ticket {
			k := ticket().Sign(c.control)
			k.End = k.End.Add(time.Hour)
			return k
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newConnector(t)
			_, err := run[access.GrantDone](t, c.Grant, access.GrantArgs{Ticket: tc.ticket(c), Generation: 1})
			e := applicationError(t, err)
			require.Equal(t, string(access.NoTicket), e.Type())
			require.True(t, e.NonRetryable())
			require.Zero(t, c.target.Calls("Grant"))
			require.Zero(t, c.target.Calls("SetCredential"))
			require.Empty(t, c.sealed)
		})
	}
}

// Promise 8: the new password leaves the connector sealed, and nowhere else.
func TestGrantSealsTheCredential(t *testing.T) {
	c := newConnector(t)
	done, err := run[access.GrantDone](t, c.Grant, access.GrantArgs{Ticket: ticket().Sign(c.control), Generation: 3})
	require.NoError(t, err)
	require.Equal(t, "lapse_ana", done.AccountName)
	require.Equal(t, 3, done.Generation)
	require.Equal(t, access.Granted, done.Entries[0].Outcome)
	require.WithinDuration(t, time.Now(), done.At, time.Minute)

	sealed := c.sealed[seal.Info(anas.ID, 3)]
	require.NotEmpty(t, sealed)
	plain, err := seal.Open(c.portal, seal.Info(anas.ID, 3), sealed)
	require.NoError(t, err)
	var cred access.Credential
	require.NoError(t, json.Unmarshal(plain, &cred))
	require.Equal(t, access.Credential{Username: "lapse_ana", Password: canary, Command: "memory lapse_ana"}, cred)

	t.Run("for this account and generation only", func(t *testing.T) {
		for _, info := range []string{seal.Info(anas.ID, 4), seal.Info("int-1/per-2", 3)} {
			_, err := seal.Open(c.portal, info, sealed)
			require.Error(t, err)
		}
	})
	t.Run("with the portal's key only", func(t *testing.T) {
		other, err := hpke.MLKEM768X25519().GenerateKey()
		require.NoError(t, err)
		_, err = seal.Open(other, seal.Info(anas.ID, 3), sealed)
		require.Error(t, err)
	})
	t.Run("and the result and the log do not have it", func(t *testing.T) {
		text, err := json.Marshal(done)
		require.NoError(t, err)
		for what, where := range map[string]string{"result": string(text), "log": c.log.String(), "sealed form": string(sealed)} {
			require.NotContains(t, where, canary, what)
		}
	})
	t.Run("without a generation none is made", func(t *testing.T) {
		calls := c.target.Calls("SetCredential")
		_, err := run[access.GrantDone](t, c.Grant, access.GrantArgs{Ticket: ticket().Sign(c.control)})
		require.NoError(t, err)
		require.Equal(t, calls, c.target.Calls("SetCredential"))
	})
	t.Run("a new one is made when it is asked for", func(t *testing.T) {
		named := anas
		named.Name = "lapse_ana"
		require.NoError(t, do(t, c.Provision.Credential, access.CredentialArgs{Account: named, Sequence: 2, Generation: 9}))
		require.NotEmpty(t, c.sealed[seal.Info(anas.ID, 9)])
	})
}

// Whatever fails once the password is known, nothing tells it.
func TestNoErrorTellsThePassword(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault func(c *connector)
	}{
		{"handing it on fails", func(c *connector) {
			c.PutCredential = func(context.Context, string, int, []byte) error { return errors.New("the store is away") }
		}},
		{"handing it on panics", func(c *connector) {
			c.PutCredential = func(context.Context, string, int, []byte) error { panic("bug") }
		}},
		{"making it is refused", func(c *connector) {
			c.target.Before = func(_ context.Context, operation, _ string) error {
				if operation == "SetCredential" {
					return access.Errorf(access.Retry, "set password for %v", integrations.Secret(canary))
				}
				return nil
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newConnector(t)
			tc.fault(c)
			_, err := run[access.GrantDone](t, c.Grant, access.GrantArgs{Ticket: ticket().Sign(c.control), Generation: 1})
			require.Error(t, err)
			for what, where := range map[string]string{"error": err.Error(), "error in full": fmt.Sprintf("%+v", err), "log": c.log.String()} {
				require.NotContains(t, where, canary, what)
				require.NotContains(t, where, "t0ken-1", what)
			}
		})
	}
}

func TestRevoke(t *testing.T) {
	args := access.RevokeArgs{Account: anas, Sequence: 2, End: []access.Entitlement{on("int-1", "read_only")}}
	for _, tc := range []struct {
		name    string
		has     []access.Entitlement
		remain  []access.Claim
		says    func(operation string, e access.Entry) access.Entry
		want    access.Outcome
		failing string // what the error says
		reads   bool   // the target is only read
	}{
		{name: "what was there is gone", has: args.End, want: access.Gone},
		{name: "what was not there was gone", want: access.WasGone},
		{name: "what something else asks for is lowered to that", has: args.End, remain: []access.Claim{{Entitlement: args.End[0]}}, want: access.Lowered, reads: true},
		{name: "what something else asks for and is not there is looked after", remain: []access.Claim{{Entitlement: args.End[0]}}, want: access.Lowered},
		{name: "what the baseline has is lowered to that", has: args.End, remain: []access.Claim{{Entitlement: args.End[0], Baseline: true}}, want: access.Lowered},
		{name: "what the target cannot do now is not done", has: args.End, says: replace("Revoke", access.Blocked), failing: "is blocked: it is not in the set"},
		{name: "what is still there is not gone", has: args.End, says: replace("Revoke", access.Granted), failing: "is granted"},
		{name: "what waits for something outside is not gone", has: args.End, says: replace("Revoke", access.Pending), failing: "is pending"},
		{name: "what the integration says nothing about is not gone", has: args.End, says: func(_ string, e access.Entry) access.Entry {
			e.Entitlement.Permission = "another"
			return e
		}, failing: "does not say what became of schema:shop/public=read_only"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newConnector(t)
			c.target.Put(anas.ID, "lapse_ana", tc.has...)
			c.target.Says = tc.says
			a := args
			a.Remain = tc.remain
			done, err := run[access.RevokeDone](t, c.Revoke, a)
			if tc.failing == "" {
				require.NoError(t, err)
				require.Equal(t, tc.want, done.Entries[0].Outcome)
				require.Equal(t, tc.reads, c.target.Calls("Revoke") == 0, "the target is only read")
				return
			}
			e := applicationError(t, err)
			require.False(t, e.NonRetryable(), "revoke never gives up")
			require.Contains(t, e.Message(), tc.failing)
		})
	}
}

// replace makes an operation report an outcome.
func replace(operation string, with access.Outcome) func(string, access.Entry) access.Entry {
	return func(o string, e access.Entry) access.Entry {
		if o == operation {
			e.Outcome = with
		}
		return e
	}
}

// A change that the target has taken and does not show yet is looked for until
// it shows.
func TestPropagating(t *testing.T) {
	slow := func(begins string) func(string, access.Entry) access.Entry {
		looks := 0
		return func(operation string, e access.Entry) access.Entry {
			if operation == "Verify" {
				looks++
			}
			if operation == begins || looks == 1 {
				e.Outcome = access.Propagating
			}
			return e
		}
	}
	t.Run("after a grant", func(t *testing.T) {
		c := newConnector(t)
		c.target.Says = slow("Grant")
		synctest.Test(t, func(t *testing.T) {
			done, err := run[access.GrantDone](t, c.Grant, access.GrantArgs{Ticket: ticket().Sign(c.control)})
			require.NoError(t, err)
			require.Equal(t, access.Granted, done.Entries[0].Outcome)
			require.Equal(t, 2, c.target.Calls("Verify"))
		})
	})
	revoke := access.RevokeArgs{Account: anas, Sequence: 1, End: []access.Entitlement{on("int-1", "read_only")}}
	t.Run("after a revoke", func(t *testing.T) {
		c := newConnector(t)
		c.target.Put(anas.ID, "lapse_ana", revoke.End...)
		c.target.Says = slow("Revoke")
		synctest.Test(t, func(t *testing.T) {
			done, err := run[access.RevokeDone](t, c.Revoke, revoke)
			require.NoError(t, err)
			require.Equal(t, access.Gone, done.Entries[0].Outcome)
			require.Equal(t, 2, c.target.Calls("Verify"))
		})
	})
	t.Run("until the attempt is over, before Temporal begins another", func(t *testing.T) {
		c := newConnector(t)
		c.target.Put(anas.ID, "lapse_ana", revoke.End...)
		c.target.Says = func(_ string, e access.Entry) access.Entry {
			e.Outcome = access.Propagating
			return e
		}
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now()
			_, err := run[access.RevokeDone](t, c.Revoke, revoke)
			e := applicationError(t, err)
			require.Equal(t, string(access.Retry), e.Type())
			require.False(t, e.NonRetryable())
			require.Less(t, time.Since(begun), 10*time.Minute, "the limit of an attempt in this test environment")
		})
	})
}

// A secret that was changed is fetched again when the target refuses the old
// one; one that is simply wrong is not tried over and over.
func TestChangedSecret(t *testing.T) {
	held := func(c *connector) error {
		return do(t, c.Held, access.HeldArgs{Account: anas, Want: []access.Entitlement{on("int-1", "read_only")}})
	}
	c := newConnector(t)
	require.NoError(t, held(c))
	require.Equal(t, 1, c.target.Calls("Held"))

	c.target.Token = "t0ken-2"
	t.Setenv("TARGET", `{"token": "t0ken-2"}`)
	require.NoError(t, held(c), "it is read again")
	require.Equal(t, 3, c.target.Calls("Held"))

	c.target.Token = "t0ken-3"
	e := applicationError(t, held(c))
	require.Equal(t, string(access.Auth), e.Type())
	require.Equal(t, 4, c.target.Calls("Held"), "what was refused is not tried again")
}

// One table says what Temporal does about each kind of error.
func TestErrorsForTemporal(t *testing.T) {
	const refused = 5 * time.Minute
	for _, tc := range []struct {
		name  string
		err   error
		kind  access.ErrorKind
		final bool          // a grant that meets it is over
		again time.Duration // when a revoke that meets it asks again; 0 is as its policy says
		over  bool          // even a revoke that meets it is over
	}{
		{"no answer", access.Errorf(access.Retry, "no answer"), access.Retry, false, 0, false},
		{"a conflict", access.Errorf(access.Conflict, "changed"), access.Conflict, false, 0, false},
		{"a rate limit", &access.Error{Kind: access.RateLimited, Text: "slow down", After: 7 * time.Second}, access.RateLimited, false, 7 * time.Second, false},
		{"a wrong login", access.Errorf(access.Auth, "no"), access.Auth, true, refused, false},
		{"a missing right", access.Errorf(access.Privilege, "no"), access.Privilege, true, refused, false},
		{"a missing resource", access.Errorf(access.ResourceMissing, "no"), access.ResourceMissing, true, refused, false},
		{"a missing person", access.Errorf(access.PersonMissing, "no"), access.PersonMissing, true, refused, false},
		{"an impossible request", access.Errorf(access.Invalid, "no"), access.Invalid, true, refused, false},
		{"a name that is taken", access.Errorf(access.NameTaken, "no"), access.NameTaken, true, refused, false},
		{"a limit", access.Errorf(access.Limit, "no"), access.Limit, true, refused, false},
		{"an edition without it", access.Errorf(access.Unsupported, "no"), access.Unsupported, true, refused, false},
		{"an identity provider", access.Errorf(access.ExternallyManaged, "no"), access.ExternallyManaged, true, refused, false},
		{"a missing ticket", access.Errorf(access.NoTicket, "no"), access.NoTicket, true, refused, false},
		{"a later operation", access.Errorf(access.Superseded, "no"), access.Superseded, true, refused, true},
		{"anything else", io.ErrUnexpectedEOF, access.Unknown, false, refused, false},
		{"time that ran out", fmt.Errorf("reading: %w", context.DeadlineExceeded), access.Retry, false, 0, false},
		{"steps of which some failed", access.Worst(access.Errorf(access.ResourceMissing, "a"), access.Errorf(access.Retry, "b")), access.Retry, false, 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newConnector(t)
			c.target.Before = func(context.Context, string, string) error { return tc.err }
			_, err := run[access.GrantDone](t, c.Grant, access.GrantArgs{Ticket: ticket().Sign(c.control)})
			grant := applicationError(t, err)
			require.Equal(t, string(tc.kind), grant.Type())
			require.Equal(t, tc.final, grant.NonRetryable(), "for a grant")
			require.Contains(t, grant.Message(), "prod-pg: ", "it says where")
			for name, err := range map[string]error{
				"revoke": do(t, c.Revoke, access.RevokeArgs{Account: anas, End: []access.Entitlement{on("int-1", "read_only")}}),
				"delete": do(t, c.DeleteAccount, access.DeleteArgs{Account: anas}),
			} {
				e := applicationError(t, err)
				require.Equal(t, string(tc.kind), e.Type(), name)
				require.Equal(t, tc.over, e.NonRetryable(), name)
				require.Equal(t, tc.again, e.NextRetryDelay(), name)
			}
		})
	}
	t.Run("a panic", func(t *testing.T) {
		c := newConnector(t)
		c.target.Before = func(context.Context, string, string) error { panic("a bug") }
		_, err := run[access.GrantDone](t, c.Grant, access.GrantArgs{Ticket: ticket().Sign(c.control)})
		e := applicationError(t, err)
		require.Equal(t, "internal error in Grant", e.Message())
		require.False(t, e.NonRetryable())
	})
}

func TestDiscoverKeepsTheTypesThatAreAskedFor(t *testing.T) {
	c := newConnector(t)
	c.target.Catalog = []access.Page{{Resources: []access.Found{{Resource: access.NewResource("schema", "shop", "a")}, {Resource: access.NewResource("role", "r")}}}, {}}
	settings := c.Provision.Target
	for _, tc := range []struct {
		name  string
		types []string
		want  int
	}{{"all when none is named", nil, 2}, {"those that are named", []string{"role"}, 1}} {
		t.Run(tc.name, func(t *testing.T) {
			c.Provision.Target = func(ctx context.Context, id string) (config.Integration, error) {
				in, err := settings(ctx, id)
				in.Discover.Types = tc.types
				return in, err
			}
			page, err := run[access.Page](t, c.Discover, access.DiscoverArgs{Integration: "int-1"})
			require.NoError(t, err)
			require.Len(t, page.Resources, tc.want)
			require.Equal(t, "1", page.Next)
		})
	}
}

// What keeps the connector from the target is what a check is for.
func TestCheckFindsWhatIsWrong(t *testing.T) {
	for _, tc := range []struct {
		name, secret string
		before       error
		item         string
		says         string
	}{
		{"a target that lets us in is fine", `{"token": "t0ken-1"}`, nil, "", ""},
		{"a secret that is not set", ``, nil, "auth", "environment variable"},
		{"a secret that is no secret", `{}`, nil, "auth", "token"},
		{"a secret that the target refuses", `{"token": "x"}`, nil, "auth", "refuses"},
		{"a target that does not answer", `{"token": "t0ken-1"}`, access.Errorf(access.Retry, "no route"), "retry", "no route"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newConnector(t)
			t.Setenv("TARGET", tc.secret)
			c.target.Before = func(context.Context, string, string) error { return tc.before }
			r, err := run[access.CheckReport](t, c.Check, "int-1")
			require.NoError(t, err)
			require.Equal(t, tc.item == "", r.OK())
			if tc.item != "" {
				require.Equal(t, tc.item, r.Items[0].Name)
				require.Contains(t, r.Items[0].Detail, tc.says)
			}
		})
	}
	t.Run("an integration that is not there", func(t *testing.T) {
		r, err := run[access.CheckReport](t, newConnector(t).Check, "int-2")
		require.NoError(t, err)
		require.False(t, r.OK())
	})
}

// A connector grants on its own integrations only, whatever it is sent.
func TestUnknownIntegration(t *testing.T) {
	c := newConnector(t)
	k := ticket()
	k.Account = access.Account{ID: "int-2/per-1", Integration: "int-2", PersonID: "per-1"}
	k.Entitlements[0].Integration = "int-2"
	_, err := run[access.GrantDone](t, c.Grant, access.GrantArgs{Ticket: k.Sign(c.control)})
	e := applicationError(t, err)
	require.Equal(t, string(access.Invalid), e.Type())
	require.Contains(t, e.Message(), "there is no integration int-2")
}
