package integrationtest

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

// Harness is a kind on one target, as the cases use it.
type Harness struct {
	Kind   integrations.Kind
	Target integrations.Target

	// Person makes somebody new, known to the target where it must be, and
	// with the account's name where it is not Lapse's to choose.
	Person func(t T) access.Account

	// Chains are lists of entitlements, each of which covers those before it:
	// read_only, read_write; or a table, its schema, its database. What stands
	// alone is a chain of one.
	Chains [][]access.Entitlement
	// Apart are two that have nothing to do with each other.
	Apart [2]access.Entitlement
	// Absent are on resources that do not exist, one of each type if possible.
	Absent []access.Entitlement
	// Hostile are on resources whose names want to break out of a statement,
	// an expression or a path.
	Hostile []access.Entitlement
	// Existing is one that somebody can give by hand, zero when there is none.
	Existing access.Entitlement
	// Levels are three or more of one resource, weakest first, where a person
	// has one level on a resource; nil elsewhere.
	Levels []access.Entitlement

	// Canaries are the secrets of Target, which must never come out.
	Canaries []string
	// Wrong is Target with a connector's credential that does not hold; nil
	// where none may be tried.
	Wrong func() integrations.Target

	// Address is where Target is reached, HOST:PORT, and Via the target as
	// reached at another address; Via is nil when no proxy can stand between.
	Address string
	Via     func(address string) integrations.Target
	// Changes takes apart what a client said on one connection to Via, up to where
	// it understands it: each statement or request that changes something, as
	// Kind.Told shows it. package certificationtest has some.
	Changes func(said []byte) []string

	// Sequenced is true when the target's mark holds the operation's number.
	Sequenced bool

	// Observer looks at the target, and never asks the integration. It may
	// offer more by having the methods of the other observers.
	Observer Observer

	// Foreign is true where the target is somebody's own, as for lapse certify:
	// the observer may lack what the kind has, and the target's settings may
	// leave resources out.
	Foreign bool

	mu   sync.Mutex
	seen bytes.Buffer // all that came out: results, errors, logs
	more []string     // secrets made by the cases, to be searched for too
}

// Observer tells what an account can do.
type Observer interface {
	// Can tries on the target what the entitlement is about, with the powers of
	// the account and nobody else's. It says no for an account that does not
	// exist. What a weaker entitlement of a chain also gives is not enough.
	Can(t T, a access.Account, e access.Entitlement) bool
}

// LoginObserver tries credentials.
type LoginObserver interface {
	// CanLogin tries to log in as a person would, by a connection of its own.
	CanLogin(t T, c integrations.Credential) bool
}

// SessionObserver opens sessions of a person.
type SessionObserver interface {
	// Open logs in and makes sessions of every sort that may try to outlive a
	// revoke: idle, busy, in a transaction, with another identity. They are
	// named after their sort.
	Open(t T, c integrations.Credential, held access.Entitlement) map[string]Session
}

// Session is an open session.
type Session interface {
	// Alive tries whether the session still works.
	Alive() bool
}

// HandObserver does what administrators of the target do by hand.
type HandObserver interface {
	// Give gives Harness.Existing to an account that exists on the target.
	Give(t T, a access.Account)
	// Given tells whether the account still has what Give gave.
	Given(t T, a access.Account) bool
}

// PrincipalObserver looks at accounts as such, where Lapse makes them.
type PrincipalObserver interface {
	// Exists tells whether there is a principal of that name.
	Exists(t T, name string) bool
}

// Transient is the observer of a target on which an account is there only while
// it holds something: the last revoke removes it.
type Transient interface{ Transient() }

// Planter makes principals that are not Lapse's.
type Planter interface {
	// Plant makes a principal of that name that is not Lapse's.
	Plant(t T, name string)
	// Untouched tells whether the planted principal is exactly as it was.
	Untouched(t T, name string) bool
}

// OwnerObserver makes accounts own things.
type OwnerObserver interface {
	// Own makes something that belongs to the account and has content.
	Own(t T, a access.Account)
	// Kept tells whether it and its content are still there, and belong to
	// nobody who could use them: not to the connector either.
	Kept(t T, a access.Account) bool
}

// ExpiryObserver reads when the target itself will end the access.
type ExpiryObserver interface {
	Expiry(t T, a access.Account) time.Time
}

// Forgetter removes what an integration keeps on the target for an entitlement
// beside the accounts, such as a role, so that the next grant makes it anew.
// Nobody holds the entitlement then.
type Forgetter interface {
	Forget(t T, e access.Entitlement)
}

// LevelObserver reads and sets levels, on targets where a person has one level
// on a resource.
type LevelObserver interface {
	// Level is the level that the person has by themselves, a permission; ""
	// is none.
	Level(t T, a access.Account, r access.Resource) string
	// SetLevel sets it by hand, whatever it was; "" takes it away.
	SetLevel(t T, a access.Account, r access.Resource, level string)
}

// Inheriter gives access in a way of which Lapse has no part: by a team, by a
// default of the organization.
type Inheriter interface {
	Inherit(t T, a access.Account, e access.Entitlement)
}

// Accepter accepts what is pending, as the person would.
type Accepter interface {
	// Invited makes somebody whose access is Pending until they accept it.
	Invited(t T) access.Account
	// Accept follows the entry's link. One that is dead changes nothing.
	Accept(t T, a access.Account, e access.Entry)
}

// DirectoryObserver has people as the target knows them, where it finds them
// by their address.
type DirectoryObserver interface {
	// Unknown is somebody whom the target does not know.
	Unknown(t T) access.Account
	// Ambiguous is somebody whose address two people of the target have.
	Ambiguous(t T) access.Account
}

// Throttler makes the target ask every caller to wait, until undo is called.
type Throttler interface {
	// Throttle names the delay for which it asks, whole seconds; 0 names none.
	Throttle(t T, delay time.Duration) (undo func())
}

// Closer closes a resource of the target to the connector, until undo is called.
type Closer interface {
	// Shut makes the target refuse the connector every change on it.
	Shut(t T, r access.Resource) (undo func())
}

// Deafener makes the target take every change and do nothing, until undo is
// called.
type Deafener interface {
	Deafen(t T) (undo func())
}

// Capability is something that not every kind can do.
type Capability string

// The capabilities that cases name.
const (
	Covering     Capability = "permissions that cover others"
	WrongSecret  Capability = "a secret of the connector that does not hold"
	Credentials  Capability = "credentials of Lapse's making"
	Sessions     Capability = "sessions that can be ended"
	ByHand       Capability = "access that can be given by hand"
	Principals   Capability = "accounts of Lapse's making"
	Strangers    Capability = "accounts that are not Lapse's"
	Ownership    Capability = "accounts that own things"
	NativeExpiry Capability = "expiry on the target"
	Sequence     Capability = "a mark that holds the sequence"
	Wire         Capability = "a connection that a proxy can cut"
	HostileNames Capability = "resources with names of one's choice"
	Levels       Capability = "one level for each person and resource"
	Inheritance  Capability = "access that a person inherits"
	Invitations  Capability = "invitations that stay pending"
	Directory    Capability = "people whom the target knows by their address"
	Throttling   Capability = "a target that asks to wait"
	Refusal      Capability = "a resource that can be closed to the connector"
	Deafness     Capability = "a target that takes a change and does nothing"
	// ByAdministrator is left out on somebody's own target only.
	ByAdministrator Capability = "an administrator of the target"
	OwnSecret       Capability = "a connector that can change its own secret, on a target for tests"
)

// transient is true where the last revoke removes the account.
func (h *Harness) transient() bool {
	_, ok := h.Observer.(Transient)
	return ok
}

func (h *Harness) has(c Capability) bool {
	var ok bool
	switch c {
	case Covering:
		ok = slices.ContainsFunc(h.Chains, func(chain []access.Entitlement) bool { return len(chain) > 1 })
	case WrongSecret:
		ok = h.Wrong != nil
	case Credentials:
		_, ok = h.Observer.(LoginObserver)
		ok = ok && (h.Kind.Credentials || !h.Foreign)
	case Sessions:
		_, ok = h.Observer.(SessionObserver)
	case ByHand:
		_, ok = h.Observer.(HandObserver)
		ok = ok && h.Existing.Permission != ""
	case Principals:
		_, ok = h.Observer.(PrincipalObserver)
	case Strangers:
		_, ok = h.Observer.(Planter)
	case Ownership:
		_, ok = h.Observer.(OwnerObserver)
	case NativeExpiry:
		_, ok = h.Observer.(ExpiryObserver)
	case Sequence:
		ok = h.Sequenced
	case Wire:
		ok = h.Via != nil
	case HostileNames:
		ok = len(h.Hostile) > 0
	case Levels:
		_, ok = h.Observer.(LevelObserver)
		ok = ok && len(h.Levels) > 2
	case Inheritance:
		_, ok = h.Observer.(Inheriter)
		ok = ok && len(h.Levels) > 2
	case Invitations:
		_, ok = h.Observer.(Accepter)
		ok = ok && len(h.Levels) > 2
	case Directory:
		_, ok = h.Observer.(DirectoryObserver)
	case Throttling:
		_, ok = h.Observer.(Throttler)
	case Refusal:
		_, ok = h.Observer.(Closer)
	case Deafness:
		_, ok = h.Observer.(Deafener)
	case ByAdministrator:
		ok = !h.Foreign
	case OwnSecret:
		ok = h.Kind.RotatesSecret && !h.Foreign
	}
	return ok
}

// process stands for one connector process: an integration made anew from the
// stored configuration.
type process struct {
	integrations.Integration
	h *Harness
}

// start makes a process on the harness's own target.
func (h *Harness) start(t T) *process { return h.startOn(t, h.Target) }

func (h *Harness) startOn(t T, target integrations.Target) *process {
	t.Helper()
	target.Log = slog.New(slog.NewTextHandler(sink{h}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	i, err := h.Kind.New(target)
	h.note(err)
	if err != nil {
		t.Fatalf("making the integration: %v", err)
	}
	t.Cleanup(func() { i.Close() })
	return &process{i, h}
}

// sink takes what the integration logs.
type sink struct{ h *Harness }

func (s sink) Write(b []byte) (int, error) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	return s.h.seen.Write(b)
}

// note keeps what came out of an operation, in every form in which it may be
// printed, for the search for secrets.
func (h *Harness) note(values ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, v := range values {
		fmt.Fprintf(&h.seen, "%v %+v %#v\n", v, v, v)
		err, _ := v.(error)
		for err != nil {
			fmt.Fprintf(&h.seen, "%v\n", err)
			u, ok := err.(interface{ Unwrap() error })
			if !ok {
				break
			}
			err = u.Unwrap()
		}
	}
}

// secret adds a secret to those that must not come out.
func (h *Harness) secret(s integrations.Secret) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.more = append(h.more, s.Reveal())
}

// searchCanaries looks for secrets in all that came out so far.
func (h *Harness) searchCanaries(t T) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.seen.String()
	for _, secret := range append(h.more, h.Canaries...) {
		if secret != "" && strings.Contains(out, secret) {
			t.Errorf("a secret came out: it is in a result, an error or a log")
		}
	}
	h.seen.Reset()
}
