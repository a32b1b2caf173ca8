package certificationtest

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

var people atomic.Int64

// Someone is a new person of whom the target knows nothing.
func Someone(integration string) access.Account {
	n := people.Add(1)
	id := fmt.Sprintf("p-%d", n)
	return access.Account{ID: access.AccountID(integration, id), Integration: integration, PersonID: id, Email: fmt.Sprintf("person.%d@example.com", n)}
}

// Holder is one person with an account on an integration. It keeps what the core
// keeps of it, and asks as the core asks. Grant and Revoke are its own; those of
// the contract are Integration.Grant and Integration.Revoke.
type Holder struct {
	integrations.Integration
	Account  access.Account
	Holds    []access.Entitlement // granted and not revoked
	Baseline []access.Entitlement // held before, by no hold
	Wrote    map[string]string
	Sequence int64
}

// At is somebody new on an integration.
func At(t testing.TB, kind integrations.Kind, target integrations.Target) *Holder {
	t.Helper()
	return &Holder{Integration: Start(t, kind, target), Account: Someone(target.ID)}
}

// remain is what is held but some of it, and what was held before.
func (h *Holder) remain(but []access.Entitlement) (claims []access.Claim) {
	for _, e := range h.Holds {
		if !slices.Contains(but, e) {
			claims = append(claims, access.Claim{Entitlement: e})
		}
	}
	for _, e := range h.Baseline {
		claims = append(claims, access.Claim{Entitlement: e, Baseline: true})
	}
	return claims
}

// drop forgets what is held of some.
func (h *Holder) drop(some []access.Entitlement) {
	h.Holds = slices.DeleteFunc(slices.Clone(h.Holds), func(e access.Entitlement) bool { return slices.Contains(some, e) })
}

func (h *Holder) TryGrant(t testing.TB, want ...access.Entitlement) (integrations.GrantResult, error) {
	t.Helper()
	h.Sequence++
	res, err := h.Integration.Grant(t.Context(), integrations.GrantRequest{Account: h.Account, Want: want, Remain: h.remain(want), Wrote: maps.Clone(h.Wrote),
		End: time.Now().Add(time.Hour), Sequence: h.Sequence})
	if err == nil {
		h.Account.Name, h.Wrote = res.AccountName, res.Wrote
		h.drop(want)
		h.Holds = append(h.Holds, want...)
	}
	return res, err
}

func (h *Holder) Grant(t testing.TB, want ...access.Entitlement) integrations.GrantResult {
	t.Helper()
	res, err := h.TryGrant(t, want...)
	if err != nil {
		t.Fatalf("granting %v: %v", want, err)
	}
	return res
}

func (h *Holder) TryRevoke(t testing.TB, end ...access.Entitlement) (integrations.RevokeResult, error) {
	t.Helper()
	h.Sequence++
	res, err := h.Integration.Revoke(t.Context(), integrations.RevokeRequest{Account: h.Account, End: end, Remain: h.remain(end), Wrote: maps.Clone(h.Wrote),
		Sequence: h.Sequence})
	if err == nil {
		h.Wrote = res.Wrote
		h.drop(end)
	}
	return res, err
}

// Revoke returns the entry of the first.
func (h *Holder) Revoke(t testing.TB, end ...access.Entitlement) access.Entry {
	t.Helper()
	res, err := h.TryRevoke(t, end...)
	if err != nil {
		t.Fatalf("revoking %v: %v", end, err)
	}
	return res.Entries[0]
}

// Verified is what Verify says of one.
func (h *Holder) Verified(t testing.TB, e access.Entitlement) access.Entry {
	t.Helper()
	entries, err := h.Verify(t.Context(), h.Account, []access.Entitlement{e})
	if err != nil {
		t.Fatalf("verifying %s: %v", e, err)
	}
	return entries[0]
}

// TryCredential makes a credential, and ends sessions when that is asked for.
func (h *Holder) TryCredential(t testing.TB, endSessions bool) (integrations.Credential, error) {
	t.Helper()
	h.Sequence++
	return h.Integration.(integrations.CredentialSetter).SetCredential(t.Context(),
		integrations.CredentialRequest{Account: h.Account, Sequence: h.Sequence, EndSessions: endSessions})
}

func (h *Holder) Credential(t testing.TB) integrations.Credential {
	t.Helper()
	c, err := h.TryCredential(t, false)
	if err != nil {
		t.Fatalf("making a credential: %v", err)
	}
	return c
}

func (h *Holder) TryDelete(t testing.TB) (integrations.DeleteResult, error) {
	t.Helper()
	h.Sequence++
	return h.DeleteAccount(t.Context(), integrations.DeleteRequest{Account: h.Account, Sequence: h.Sequence})
}

func (h *Holder) Delete(t testing.TB) integrations.DeleteResult {
	t.Helper()
	res, err := h.TryDelete(t)
	if err != nil {
		t.Fatalf("deleting the account: %v", err)
	}
	return res
}

// Crowd has 16 people come and go by three processes, each time with another
// level. Every other one keeps the last.
func Crowd(t *testing.T, kind integrations.Kind, target integrations.Target, rounds int, levels ...access.Entitlement) []*Holder {
	t.Helper()
	processes := []integrations.Integration{Start(t, kind, target), Start(t, kind, target), Start(t, kind, target)}
	everybody := make([]*Holder, 16)
	var wg sync.WaitGroup
	for n := range everybody {
		h := &Holder{Integration: processes[n%len(processes)], Account: Someone(target.ID)}
		everybody[n] = h
		wg.Go(func() {
			for round := range rounds {
				e := levels[(n+round)%len(levels)]
				if _, err := h.TryGrant(t, e); err != nil {
					t.Errorf("granting %s to %s: %v", e, h.Account.ID, err)
					return
				}
				if round == rounds-1 && n%2 == 0 {
					return
				}
				if _, err := h.TryRevoke(t, e); err != nil {
					t.Errorf("revoking %s from %s: %v", e, h.Account.ID, err)
					return
				}
			}
		})
	}
	wg.Wait()
	return everybody
}
