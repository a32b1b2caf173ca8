// Package access is the vocabulary of Lapse and its pure rules: people,
// resources, entitlements, access flows, requests, decisions, tickets, holds,
// outcomes and error kinds. It does no I/O and knows neither Temporal nor any
// target system, so that the portal, the command line, the workflows and the
// connectors all decide with the very same functions.
package access

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Person is a human known by e-mail address. ID is minted once by the store and
// never changes, while the other fields follow the directory.
type Person struct {
	ID         string            `json:"id"`
	Email      string            `json:"email"`
	Name       string            `json:"name,omitempty"`
	Groups     []string          `json:"groups,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	// Aliases are further addresses of the same human; an alias is never
	// somebody else when it comes to approving.
	Aliases []string `json:"aliases,omitempty"`
	// Disabled people can neither request nor decide, and their holds end.
	Disabled bool `json:"disabled,omitempty"`
}

// SameEmail compares two addresses as the directory does: trimmed and without
// regard to case.
func SameEmail(a, b string) bool {
	return NormalEmail(a) == NormalEmail(b)
}

// SameHuman reports whether two entries of the directory are one human: the
// same entry, the same address, an alias of the other, or the same mailbox
// behind a "+tag".
func SameHuman(a, b Person) bool {
	if a.ID != "" && a.ID == b.ID {
		return true
	}
	for _, x := range a.addresses() {
		for _, y := range b.addresses() {
			if x == y {
				return true
			}
		}
	}
	return false
}

// addresses of a person, normalised and without a "+tag".
func (p Person) addresses() []string {
	out := make([]string, 0, 1+len(p.Aliases))
	for _, a := range append([]string{p.Email}, p.Aliases...) {
		local, domain, _ := strings.Cut(NormalEmail(a), "@")
		local, _, _ = strings.Cut(local, "+")
		out = append(out, local+"@"+domain)
	}
	return out
}

// known reports whether an address is one of the person's.
func (p Person) known(address string) bool {
	return address != "" && (SameEmail(p.Email, address) || slices.ContainsFunc(p.Aliases, func(a string) bool { return SameEmail(a, address) }))
}

// NormalEmail is the form in which addresses are stored and compared.
func NormalEmail(email string) string {
	return strings.ToLower(strings.TrimSpace(email))
}

// Resource names something on a target that can be accessed. Path starts with
// what the target has on top ("shop/public" for a schema); a "/", "%" or "*"
// inside a name is percent-encoded, so that a path splits in one way only.
type Resource struct {
	Type string
	Path string
}

// NewResource builds a resource from the plain names of its path.
func NewResource(typ string, names ...string) Resource {
	parts := make([]string, len(names))
	for i, n := range names {
		parts[i] = pathEscaper.Replace(n)
	}
	return Resource{Type: typ, Path: strings.Join(parts, "/")}
}

var pathEscaper = strings.NewReplacer("%", "%25", "/", "%2F", "*", "%2A")

// ParseResource reads "type:path", as in "schema:shop/public".
func ParseResource(s string) (Resource, error) {
	typ, path, ok := strings.Cut(s, ":")
	r := Resource{Type: typ, Path: path}
	if !ok || typ == "" || path == "" {
		return Resource{}, fmt.Errorf("resource %q: want TYPE:PATH, for example schema:shop/public", s)
	}
	names, err := r.Names()
	if err != nil {
		return Resource{}, err
	}
	return NewResource(typ, names...), nil // one spelling for one resource
}

// Names returns the plain names of the path, in order.
func (r Resource) Names() ([]string, error) {
	parts := strings.Split(r.Path, "/")
	for i, p := range parts {
		n, err := url.PathUnescape(p)
		if err != nil {
			return nil, fmt.Errorf("resource %q: %q is not a valid percent-encoded name", r, p)
		}
		if n == "" || strings.ContainsRune(n, 0) || !utf8.ValidString(n) {
			return nil, fmt.Errorf("resource %q: a part of the path is empty, has a NUL byte, or is not UTF-8", r)
		}
		parts[i] = n
	}
	return parts, nil
}

// String is the "type:path" form; the zero resource is the empty string.
func (r Resource) String() string {
	if r == (Resource{}) {
		return ""
	}
	return r.Type + ":" + r.Path
}

// MarshalText writes the "type:path" form.
func (r Resource) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads the "type:path" form.
func (r *Resource) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*r = Resource{}
		return nil
	}
	*r, err = ParseResource(string(b))
	return err
}

// MatchResource reports whether a resource matches a pattern of the same
// "type:path" form, in which "*" stands for any run of characters within one
// part of the path.
func MatchResource(pattern string, r Resource) bool {
	typ, path, ok := strings.Cut(pattern, ":")
	if !ok || !matchPart(typ, r.Type) {
		return false
	}
	want, have := strings.Split(path, "/"), strings.Split(r.Path, "/")
	if len(want) != len(have) {
		return false
	}
	for i := range want {
		if !matchPart(want[i], have[i]) {
			return false
		}
	}
	return true
}

// matchPart matches one part, "*" standing for any run of characters.
func matchPart(pattern, s string) bool {
	head, rest, wild := strings.Cut(pattern, "*")
	if !wild {
		return pattern == s
	}
	if !strings.HasPrefix(s, head) {
		return false
	}
	s = s[len(head):]
	for {
		mid, next, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(s, rest)
		}
		i := strings.Index(s, mid)
		if i < 0 {
			return false
		}
		s, rest = s[i+len(mid):], next
	}
}

// Entitlement is one permission on one resource of one integration. The
// integration is named by its id, which survives a change of its name.
type Entitlement struct {
	Integration string   `json:"integration"`
	Resource    Resource `json:"resource"`
	Permission  string   `json:"permission"`
}

// String is a stable, readable key of the entitlement within its integration.
func (e Entitlement) String() string { return e.Resource.String() + "=" + e.Permission }

// Account is a person's principal on one integration.
type Account struct {
	// ID is "<integration id>/<person id>": opaque, and the same for ever.
	ID          string `json:"id"`
	Integration string `json:"integration"`
	PersonID    string `json:"person_id"`
	Email       string `json:"email"`
	// Name is the principal's name on the target; empty until it is known.
	Name string `json:"name,omitempty"`
}

// AccountID joins the two ids of an account.
func AccountID(integration, person string) string { return integration + "/" + person }

// SplitAccountID undoes AccountID.
func SplitAccountID(id string) (integration, person string, err error) {
	integration, person, ok := strings.Cut(id, "/")
	if !ok || integration == "" || person == "" || strings.Contains(person, "/") {
		return "", "", fmt.Errorf("account id %q: want INTEGRATION/PERSON", id)
	}
	return integration, person, nil
}

// FirstSequence is the first operation number of an incarnation of an account.
// Each incarnation has a million of them.
func FirstSequence(incarnation int64) int64 { return incarnation << 20 }

// NewID mints an opaque id, "prefix-" and 80 random bits in lower-case base32.
func NewID(prefix string) string {
	var b [10]byte
	rand.Read(b[:]) // never fails: see crypto/rand
	return prefix + "-" + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}

// Duration is a time.Duration that is written as text, "1h30m", everywhere.
type Duration time.Duration

// ParseDuration reads Go's duration syntax.
func ParseDuration(s string) (Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("duration %q: want a number with a unit, for example 30m, 8h or 1h30m", s)
	}
	return Duration(d), nil
}

// Std is the same duration in the standard library's type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String drops the zero units that the standard library prints ("8h", not "8h0m0s").
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// MarshalText writes the text form.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the text form.
func (d *Duration) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDuration(string(b))
	return err
}

// Days is a number of days, fractions allowed.
type Days float64

// Std converts days to a duration.
func (d Days) Std() time.Duration { return time.Duration(float64(d) * 24 * float64(time.Hour)) }

// canonical is the one encoding over which hashes and signatures run: JSON as
// encoding/json writes it, fields in declaration order, map keys sorted.
func canonical(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("access: encoding a plain struct failed: " + err.Error())
	}
	return b
}
