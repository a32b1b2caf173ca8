// Package integrations is what Lapse can do on a target system: the contract
// that every kind fulfils, the optional capabilities, and the registry of
// kinds. One folder below it is one kind; package integrationtest certifies
// them all by the same lines.
//
// Every operation takes the target's lock, reads, acts on the difference, and
// reads again: "the driver returned no error" is not success. Every operation
// is safe to cut at any moment and to run again. Errors are *access.Error with
// a kind and never hold a secret.
package integrations

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/lapse-access/lapse/access"
)

// Integration is one configured target. It is made by a Kind's New, used by
// one connector, and safe for concurrent use.
type Integration interface {
	// Check proves each right of the connector's own account, without writing,
	// and gives the statement or setting that mends a missing one. A target
	// that does not answer is a report with a failed "connect" item; an error
	// means that the check itself could not be made.
	Check(ctx context.Context) (access.CheckReport, error)

	// Discover returns one page of the catalog, from a cursor of its own
	// making ("" begins). A part that cannot be read is a warning.
	Discover(ctx context.Context, cursor string) (access.Page, error)

	// Held reads, and never writes, the slots in which the wanted
	// entitlements live: what the person holds there now, and what Grant
	// would write. Entitlements that are covered already have Write "".
	Held(ctx context.Context, account access.Account, want []access.Entitlement) ([]access.Slot, error)

	// Grant opens the wanted entitlements and keeps all that must remain. It
	// makes the account where the kind has accounts, without a credential.
	Grant(ctx context.Context, req GrantRequest) (GrantResult, error)

	// Revoke takes away what is to end, keeps what must remain, ends the
	// sessions of the account as the kind declares, and reads back. It runs
	// every step even when one fails, and an account, resource or role that
	// is not there any more is a success. Raising is never part of it.
	Revoke(ctx context.Context, req RevokeRequest) (RevokeResult, error)

	// Verify reads on the target, and never writes, how the entitlements
	// stand: Granted, Pending, Propagating, Gone, Lowered or Blocked.
	Verify(ctx context.Context, account access.Account, want []access.Entitlement) ([]access.Entry, error)

	// DeleteAccount removes an account that carries our mark. One that owns
	// things is kept, disabled and without access. An account that is not
	// there is a success; one without our mark is NameTaken.
	DeleteAccount(ctx context.Context, req DeleteRequest) (DeleteResult, error)

	// Accounts lists what carries the mark of this instance and integration,
	// a page at a time: each account with all that it holds, where what covers
	// something may stand for it, and with what somebody else gave it; and the
	// roles of entitlements that nobody has.
	Accounts(ctx context.Context, cursor string) (access.PrincipalPage, error)

	// Close releases connections.
	Close() error
}

// CredentialSetter is an integration whose accounts have a credential that
// Lapse makes.
type CredentialSetter interface {
	// SetCredential replaces the account's credential by a new one and logs in
	// with it once before it returns. The old one is dead afterwards. It never
	// enables an account that holds nothing.
	SetCredential(ctx context.Context, req CredentialRequest) (Credential, error)
}

// SecretRotator is an integration that can change the secret of its own
// connector.
type SecretRotator interface {
	// NextSecret makes another secret, a pointer to a struct of the kind's own
	// type.
	NextSecret() (any, error)
	// RotateSecret makes the target take the next secret in place of the one
	// that the integration was made with. Open connections may go on.
	RotateSecret(ctx context.Context, next any) error
}

// Maintainer is an integration that keeps things on the target that belong to
// no single account, such as the roles that carry entitlements.
type Maintainer interface {
	// Maintain brings them up to date with what was made on the target since,
	// and removes those that have been without use for a long time. It never
	// changes who holds what, may run at any time, and says what it did.
	Maintain(ctx context.Context) (notes []string, err error)
}

// Cleaner is an integration that can take away what it keeps on the target
// beside the accounts, when it is not wanted there any more.
type Cleaner interface {
	// Clean removes all that no account needs, however short ago that was, and
	// says what is left and why.
	Clean(ctx context.Context) (left []string, err error)
}

// Witness looks at a target beside the integration and says what is there. It
// has the connector's own rights and changes nothing. What it knows of granting
// it knows by itself, so that a mistake in the integration is none in it.
type Witness interface {
	// Can tells whether the account has all that the entitlement is about, by
	// whatever way. It says no for an account that does not exist, and for what
	// only a weaker entitlement gives. An account without a name stands for
	// anybody: yes then means that no grant on the resource itself is needed.
	Can(ctx context.Context, a access.Account, e access.Entitlement) (bool, error)
	// CanLogin tries to log in as a person would, by a connection of its own.
	CanLogin(ctx context.Context, c Credential) (bool, error)
	// Exists tells whether there is a principal of that name.
	Exists(ctx context.Context, name string) (bool, error)
	Close() error
}

// SessionWitness is a Witness of a target on which every revoke ends sessions,
// as it is configured.
type SessionWitness interface {
	Witness
	// Open logs in and stays.
	Open(ctx context.Context, c Credential) (Session, error)
}

// Session is an open session of a person.
type Session interface {
	// Alive tries whether the session still works.
	Alive() bool
	Close() error
}

// GrantRequest asks for access. Everything in it was judged before.
type GrantRequest struct {
	Account access.Account
	Want    []access.Entitlement
	// Remain is what else must stay, other holds and the baseline.
	Remain []access.Claim
	// Wrote is what Lapse last wrote, by slot, this grant included.
	Wrote map[string]string
	// End is when the target may end the access by itself, a little after
	// Lapse does. Kinds with native expiry move theirs here, never nearer.
	End time.Time
	// Sequence is the account's operation number. Where the mark can hold it,
	// an operation older than the last one writes nothing (access.Superseded).
	Sequence int64
}

// GrantResult is what was done and read back.
type GrantResult struct {
	AccountName string
	Entries     []access.Entry // one per wanted entitlement
	Wrote       map[string]string
	Notes       []string
}

// RevokeRequest asks for the end of access.
type RevokeRequest struct {
	Account  access.Account
	End      []access.Entitlement
	Remain   []access.Claim
	Wrote    map[string]string
	Sequence int64
}

// RevokeResult is what was done and read back.
type RevokeResult struct {
	Entries []access.Entry // one per ended entitlement
	Wrote   map[string]string
	Notes   []string
}

// CredentialRequest asks for a new credential.
type CredentialRequest struct {
	Account  access.Account
	Sequence int64
	// EndSessions ends those that were opened with the old one, where the kind
	// can end sessions.
	EndSessions bool
}

// Credential is the secret of an account and how to use it.
type Credential struct {
	Username string
	Password Secret
	// Command is ready to be pasted into a terminal and holds no secret.
	Command string
	// Details are further facts: host, port, database.
	Details map[string]string
}

// DeleteRequest asks for the end of an account.
type DeleteRequest struct {
	Account  access.Account
	Sequence int64
}

// DeleteResult is Gone, WasGone, or KeptDisabled with what the account owns.
type DeleteResult struct {
	Outcome access.Outcome
	Owns    []string
}

// Target is one integration as a Kind's New receives it.
type Target struct {
	Instance string // id of this Lapse, part of every mark
	ID       string // id of the integration, part of every mark
	Name     string // its name in lapse.yaml, for messages
	// Config and Secret point to structs of the kind's own types, already
	// checked against their declaration.
	Config any
	Secret any
	Log    *slog.Logger
}

// ConfigOf is the configuration of a target as the kind's own type.
func ConfigOf[C any](t Target) (*C, error) {
	c, ok := t.Config.(*C)
	if !ok {
		return nil, access.Errorf(access.Invalid, "integration %s: the configuration is a %T", t.Name, t.Config)
	}
	return c, nil
}

// Permission is what can be requested on a resource type.
type Permission struct {
	Name string `json:"name"`
	Doc  string `json:"doc"`
}

// ResourceType is one type of resource of a kind.
type ResourceType struct {
	Name string `json:"name"`
	// Path names the parts of the path, in order: DATABASE, SCHEMA.
	Path        []string     `json:"path"`
	Doc         string       `json:"doc"`
	Permissions []Permission `json:"permissions"` // weakest first
	// Ordered is true when each permission gives all that those before it give.
	Ordered bool `json:"-"`
}

// Kind is one kind of target: what is declared of it, and how to make one.
type Kind struct {
	Name  string // package, folder, YAML value and docs page
	Title string // as its vendor writes it
	Doc   string // what access means here, one sentence
	// Config and Secret return pointers to zero values of the structs whose
	// tags declare the settings.
	Config func() any
	Secret func() any
	// ResourceTypes lists what can be discovered and requested.
	ResourceTypes []ResourceType
	// Sessions says what Revoke does to open sessions; shown before a request
	// is made.
	Sessions string
	// Limits says what people should know; shown in the docs.
	Limits []string
	// NativeExpiry is true when the target ends access by itself too.
	NativeExpiry bool
	// Credentials is true when New's result is a CredentialSetter.
	Credentials bool
	// RotatesSecret is true when New's result is a SecretRotator.
	RotatesSecret bool
	// Setup is how the connector gets an account of its own on the target.
	Setup Setup
	// LastResort is how access is taken away while Lapse does not run.
	LastResort LastResort
	// Told is what the target would be told by a grant to a person who has nothing
	// there yet: a line for each statement, or for each request METHOD /PATH and
	// its body below it. Readings are left out. It comes from what Grant itself
	// sends, and connects to nothing: Target.Secret is nil, and a secret that would
	// be made is HiddenSecret. What only the target knows is Found or Each, and what
	// may be there already is marked by Unless. A person who has something there is
	// sent less, or another level; where the connector may not give all of a
	// permission, less is given, as the grant's notes say.
	Told func(t Target, req GrantRequest) ([]string, error)
	// Certification is the room's certification.json, which its certification
	// test writes.
	Certification []byte
	// New makes an integration. It does not connect.
	New func(t Target) (Integration, error)
	// Witness, where it is set, makes what lapse certify looks with on somebody's
	// own target. It does not connect.
	Witness func(t Target) (Witness, error)
}

// Setup is how an administrator of a target makes the connector's own account.
type Setup struct {
	// Language is that of the scripts, as Markdown calls it: sql, sh, json.
	Language string
	// Options returns a pointer to a zero value of the struct whose tags declare
	// what the scripts are written for. One of its fields is connector_name.
	Options func() any
	// Tiers writes the scripts for options that were checked against their
	// declaration, from the fewest rights to the most.
	Tiers func(options any) ([]Tier, error)
}

// LastResort is how an administrator of a target takes away by hand what a
// person has there through Lapse. It is written down while Lapse runs, from the
// configuration alone: Target.Secret is nil.
type LastResort struct {
	// Language is that of the steps, as Markdown calls it: sql, sh.
	Language string
	// Head is what comes before the steps, for a POSIX shell: the command into
	// which statements are pasted, or for steps in sh how to log in. A secret is
	// three dots in it.
	Head func(t Target) (string, error)
	// Steps end what the request names and keep what must remain. On an account
	// of Lapse's own nobody can log in afterwards, and nothing goes on. To run
	// them twice is no error; what somebody else has, they do not touch.
	Steps func(t Target, req RevokeRequest) (string, error)
}

// Tier is how far the rights of a connector's account go. Its script stands by
// itself: an administrator runs one of them.
type Tier struct {
	Name string `json:"tier"`
	Doc  string `json:"doc"`
	// Operations are those of access.CheckItem that find all they need.
	Operations []string `json:"operations"`
	Script     string   `json:"script"`
}

// Type finds a resource type by name.
func (k Kind) Type(name string) (ResourceType, bool) {
	for _, t := range k.ResourceTypes {
		if t.Name == name {
			return t, true
		}
	}
	return ResourceType{}, false
}

// Registry is an explicit list of kinds, by name.
type Registry map[string]Kind

// NewRegistry makes a registry and panics on a name that comes twice.
func NewRegistry(kinds ...Kind) Registry {
	r := make(Registry, len(kinds))
	for _, k := range kinds {
		if _, dup := r[k.Name]; dup {
			panic("integrations: kind " + k.Name + " is registered twice")
		}
		r[k.Name] = k
	}
	return r
}

// Secret is a string that no formatter, logger or encoder writes out. Reveal
// is the one way to its value.
type Secret string

const hidden = "[secret]"

// Reveal returns the value; every use of it is worth a look in review.
func (s Secret) Reveal() string { return string(s) }

func (s Secret) String() string               { return hidden }
func (s Secret) GoString() string             { return hidden }
func (s Secret) Format(f fmt.State, _ rune)   { fmt.Fprint(f, hidden) }
func (s Secret) LogValue() slog.Value         { return slog.StringValue(hidden) }
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(hidden) }
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }
