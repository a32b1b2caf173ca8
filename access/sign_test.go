package access

import (
	"crypto/ed25519"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// tampered returns copies of a struct with one value changed in each, at every
// depth, under the path of what was changed.
func tampered[T any](t *testing.T, v T) map[string]T {
	t.Helper()
	out := map[string]T{}
	var walk func(path string, at func(reflect.Value) reflect.Value)
	walk = func(path string, at func(reflect.Value) reflect.Value) {
		var probe = clone(v)
		here := at(reflect.ValueOf(&probe).Elem())
		switch here.Type() {
		case reflect.TypeFor[time.Time]():
			here.Set(reflect.ValueOf(here.Interface().(time.Time).Add(time.Nanosecond)))
			out[path] = probe
			return
		}
		switch here.Kind() {
		case reflect.String:
			here.SetString(here.String() + "x")
		case reflect.Int, reflect.Int64:
			here.SetInt(here.Int() + 1)
		case reflect.Uint8:
			here.SetUint(here.Uint() ^ 1)
		case reflect.Struct:
			for i := range here.NumField() {
				walk(path+"."+here.Type().Field(i).Name, func(v reflect.Value) reflect.Value { return at(v).Field(i) })
			}
			return
		case reflect.Slice:
			if here.Len() == 0 {
				t.Fatalf("%s is empty: give it a value, so that changing it can be tried", path)
			}
			for i := range here.Len() {
				walk(path+"[]", func(v reflect.Value) reflect.Value { return at(v).Index(i) })
			}
			here.SetLen(here.Len() - 1)
			path += " made shorter"
		default:
			t.Fatalf("%s is a %s: teach this test to change one", path, here.Kind())
		}
		out[path] = probe
	}
	walk(reflect.TypeFor[T]().Name(), func(v reflect.Value) reflect.Value { return v })
	return out
}

// clone copies a value and the slices in it.
func clone[T any](v T) T {
	var deep func(v reflect.Value)
	deep = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				if v.Field(i).CanSet() {
					deep(v.Field(i))
				}
			}
		case reflect.Slice:
			c := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
			reflect.Copy(c, v)
			v.Set(c)
			for i := range v.Len() {
				deep(v.Index(i))
			}
		}
	}
	deep(reflect.ValueOf(&v).Elem())
	return v
}

var signedAt = time.Date(2026, 5, 4, 12, 0, 0, 123456789, time.UTC)

func signedRequest() Request {
	return Request{
		ID: "req-1", PersonID: "per-1", Reason: "a look", Duration: Duration(time.Hour), Flow: "read", FlowVersion: 3, HoldIDs: []string{"hold-1"},
		Asked: []Asked{{
			Entitlement: Entitlement{Integration: "int-1", Resource: NewResource("schema", "shop", "public"), Permission: "read_only"}, Integration: "prod-pg",
		}},
		CreatedAt: signedAt, ExpiresAt: signedAt.Add(24 * time.Hour),
	}
}

func signedDecision(r Request) Decision {
	return Decision{RequestID: r.ID, AskHash: r.Hash(), Verdict: Extend, By: "per-2", ByEmail: "dan@example.com", Reason: "fine", Account: "int-1/per-1", Extra: Duration(time.Hour), For: Duration(time.Minute), Without: []string{"hold-1"}, Step: 1,
		Nonce: "dec-1", At: signedAt, From: "cli"}
}

func newKey(t *testing.T) (ed25519.PublicKey, ed25519.PrivateKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return public, private
}

func TestDecisionSignature(t *testing.T) {
	public, private := newKey(t)
	r := signedRequest()
	d := signedDecision(r).Sign(private)
	if err := d.Verify(public, r); err != nil {
		t.Fatalf("a signed decision is refused: %v", err)
	}
	for what, changed := range tampered(t, d) {
		t.Run("refused with another "+what, func(t *testing.T) {
			if err := changed.Verify(public, r); KindOf(err) != Invalid {
				t.Errorf("got %v", err)
			}
		})
	}
	_, stranger := newKey(t)
	other := r
	other.Duration++
	for _, c := range []struct {
		name string
		key  ed25519.PublicKey
		d    Decision
		r    Request
	}{
		{"nobody signed it", public, signedDecision(r), r},
		{"a stranger signed it", public, signedDecision(r).Sign(stranger), r},
		{"it is about something else than is asked", public, d, other},
		{"the portal signed it for another request", public, signedDecision(other).Sign(private), r},
		{"the key is missing", nil, d, r},
		{"the key is cut short", public[:31], d, r},
	} {
		t.Run("refused when "+c.name, func(t *testing.T) {
			if err := c.d.Verify(c.key, c.r); KindOf(err) != Invalid {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A decision is bound to everything that was asked.
func TestRequestHash(t *testing.T) {
	r := signedRequest()
	r.Asked[0].IntegrationOwner = nil // pointers and maps are tried by hand below
	seen := map[string]string{r.Hash(): "the request itself"}
	add := func(what string, r Request) {
		if before, dup := seen[r.Hash()]; dup {
			t.Errorf("%s has the hash of %s", what, before)
		}
		seen[r.Hash()] = what
	}
	type plain struct { // what of a request this test can change by itself
		ID, PersonID, Reason, Flow string
		Duration                   Duration
		FlowVersion                int64
		HoldIDs                    []string
		CreatedAt, ExpiresAt       time.Time
		Entitlement                Entitlement
		Integration                string
		AskedBy, Bundle            string
		StartAt                    time.Time
	}
	p := plain{r.ID, r.PersonID, r.Reason, r.Flow, r.Duration, r.FlowVersion, r.HoldIDs, r.CreatedAt, r.ExpiresAt, r.Asked[0].Entitlement, r.Asked[0].Integration, r.AskedBy, r.Bundle, r.StartAt}
	for what, c := range tampered(t, p) {
		add(what, Request{ID: c.ID, PersonID: c.PersonID, Reason: c.Reason, Flow: c.Flow, Duration: c.Duration, FlowVersion: c.FlowVersion, HoldIDs: c.HoldIDs,
			CreatedAt: c.CreatedAt, ExpiresAt: c.ExpiresAt, AskedBy: c.AskedBy, Bundle: c.Bundle, StartAt: c.StartAt, Asked: []Asked{{Entitlement: c.Entitlement, Integration: c.Integration}}})
	}
	for what, change := range map[string]func(*Asked){
		"a tag":                  func(a *Asked) { a.Tags = map[string]string{"owner": "dba"} },
		"an integration's owner": func(a *Asked) { a.IntegrationOwner = &Owner{Attribute: "group", Values: []string{"dba"}} },
		"a resource's owner":     func(a *Asked) { a.ResourceOwner = &ResourceOwner{Key: "owner", Attribute: "group"} },
	} {
		c := clone(r)
		change(&c.Asked[0])
		add(what, c)
	}
	more := clone(r)
	more.Asked = append(more.Asked, more.Asked[0])
	add("one more", more)
	for _, fields := range []map[string]string{{"ticket": "OPS-1"}, {"ticket": "OPS-2"}, {"why": "OPS-1"}} {
		said := clone(r)
		said.Fields = fields
		add(fmt.Sprint("what else is said: ", fields), said)
	}
	if fields := reflect.TypeFor[Request]().NumField(); fields != 14 {
		t.Errorf("a request has %d fields: add the new one to this test", fields)
	}
}

func signedTicket() Ticket {
	return Ticket{RequestID: "req-1", Account: Account{ID: "int-1/per-1", Integration: "int-1", PersonID: "per-1", Email: "ana@example.com", Name: "lapse_ana"},
		Entitlements: []Entitlement{{Integration: "int-1", Resource: NewResource("schema", "shop", "public"), Permission: "read_only"}},
		End:          signedAt.Add(time.Hour), LatestStart: signedAt.Add(10 * time.Minute), Sequence: 7}
}

func TestTicketSignature(t *testing.T) {
	public, private := newKey(t)
	ticket := signedTicket().Sign(private)
	for _, at := range []time.Time{signedAt, ticket.LatestStart} {
		if err := ticket.Verify(public, at); err != nil {
			t.Fatalf("a signed ticket is refused at %s: %v", at, err)
		}
	}
	for what, changed := range tampered(t, ticket) {
		t.Run("refused with another "+what, func(t *testing.T) {
			if err := changed.Verify(public, signedAt); KindOf(err) != NoTicket {
				t.Errorf("got %v", err)
			}
		})
	}
	_, stranger := newKey(t)
	signed := func(change func(*Ticket)) Ticket {
		k := clone(signedTicket())
		change(&k)
		return k.Sign(private)
	}
	for _, c := range []struct {
		name string
		key  ed25519.PublicKey
		t    Ticket
		at   time.Time
		says string
	}{
		{"nobody signed it", public, signedTicket(), signedAt, "not signed"},
		{"a stranger signed it", public, signedTicket().Sign(stranger), signedAt, "not signed"},
		{"the key is missing", nil, ticket, signedAt, "not signed"},
		{"it is too late", public, ticket, ticket.LatestStart.Add(time.Nanosecond), "was good until 2026-05-04T12:10:00Z"},
		{"it names nothing", public, signed(func(k *Ticket) { k.Entitlements = nil }), signedAt, "names no entitlement"},
		{"it names something of another integration", public, signed(func(k *Ticket) { k.Entitlements[0].Integration = "int-2" }), signedAt, "names no entitlement"},
		{"its account is not that of its integration", public, signed(func(k *Ticket) { k.Account.Integration = "int-2" }), signedAt, "does not fit together"},
		{"its account is not that of its person", public, signed(func(k *Ticket) { k.Account.PersonID = "per-2" }), signedAt, "does not fit together"},
	} {
		t.Run("refused when "+c.name, func(t *testing.T) {
			if err := c.t.Verify(c.key, c.at); KindOf(err) != NoTicket || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
}

// A signature over one kind of thing never passes for one over another.
func TestSignaturesAreApart(t *testing.T) {
	public, private := newKey(t)
	r := signedRequest()
	d, k := signedDecision(r).Sign(private), signedTicket().Sign(private)
	d.Signature, k.Signature = k.Signature, d.Signature
	if d.Verify(public, r) == nil || k.Verify(public, signedAt) == nil {
		t.Error("one key's signature is taken for the other thing")
	}
}
