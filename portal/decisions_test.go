package portal

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/api/serviceerror"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/seal"
	"github.com/lapse-access/lapse/portal/api"
	"github.com/lapse-access/lapse/workflows"
)

func TestDecisionIsSigned(t *testing.T) {
	r := configured(t)
	q := r.approved()
	d := r.temporal.taken[0]
	row, err := r.store.Request(t.Context(), q.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Verify(r.keys.PortalPublic(), row.Request); err != nil {
		t.Error(err)
	}
	if d.Verdict != access.Approve || d.ByEmail != cy || d.From != "api" {
		t.Errorf("decision: %+v", d)
	}
	d.Verdict = access.Deny
	if d.Verify(r.keys.PortalPublic(), row.Request) == nil {
		t.Error("a changed decision verifies")
	}
}

func TestDecisionRefusedByTheWorkflow(t *testing.T) {
	r := configured(t)
	path := "/requests/" + r.pending().ID + "/decisions"
	for _, tc := range []struct {
		err    error
		status int
		words  string
	}{
		{applicationError("TooLate", "the request is denied already"), http.StatusConflict, "denied already"},
		{applicationError("Refused", "the decision is not signed by the portal"), http.StatusForbidden, "not signed"},
		{applicationError("invalid", "cy@example.com is not an approver any more"), http.StatusForbidden, "not an approver"},
		{context.DeadlineExceeded, http.StatusGatewayTimeout, "may still count"},
		{serviceerror.NewUnavailable("down"), http.StatusServiceUnavailable, "Temporal does not answer"},
	} {
		r.temporal.onUpdate = func(access.Decision) error { return tc.err }
		r.refused(tc.status, cy, "POST", path, api.Decide{Verdict: access.Approve}, tc.words)
	}
}

func TestDecisionsThatComeTooLate(t *testing.T) {
	r := configured(t)
	waiting, running := r.pending(), r.active()
	r.refused(http.StatusConflict, cy, "POST", "/requests/"+running.ID+"/decisions", api.Decide{Verdict: access.Approve}, "is active already")
	r.refused(http.StatusConflict, ana, "POST", "/requests/"+waiting.ID+"/extension", api.Extend{By: "1h"}, "only active access")
	r.refused(http.StatusUnprocessableEntity, ana, "POST", "/requests/"+running.ID+"/extension", api.Extend{By: "-1h"}, "body.by")
	r.refused(http.StatusConflict, ana, "POST", "/requests/"+running.ID+"/extension", api.Extend{By: "9h"}, "7h longer than now")
	r.refused(http.StatusUnprocessableEntity, bo, "POST", "/requests/"+running.ID+"/revoke", api.Why{Reason: " "}, "body.reason")
	r.hold(running.Holds[0].ID, func(h *access.Hold) { h.State = access.StateEnded })
	r.refused(http.StatusConflict, ana, "POST", "/requests/"+running.ID+"/release", api.Why{}, "is ended already")
}

func TestExtend(t *testing.T) {
	r := configured(t)
	q := r.active()
	path := "/requests/" + q.ID + "/extension"
	r.temporal.onUpdate = func(d access.Decision) error {
		r.record(access.Change{Event: access.Event{Key: "account/" + r.account(q) + "/refused/" + workflows.UpdateMove + "/" + d.RequestID + "/" + d.Nonce, Kind: "operation.refused", RequestID: d.RequestID,
			Text: "refused move: the target says no"}})
		return nil
	}
	r.refused(http.StatusConflict, ana, "POST", path, api.Extend{By: "30m"}, "the target says no")
	end := q.Holds[0].EndsAt.Add(30 * time.Minute)
	r.temporal.onUpdate = func(d access.Decision) error {
		if d.Extra.Std() != 30*time.Minute {
			t.Errorf("extension by %s", d.Extra)
		}
		r.hold(q.Holds[0].ID, func(h *access.Hold) { h.EndsAt = end })
		r.record(access.Change{Event: access.Event{Key: "hold/" + q.Holds[0].ID + "/extended/" + d.Nonce, Kind: "extended", RequestID: d.RequestID}})
		return nil
	}
	q = want[api.Request](r, http.StatusOK, ana, "POST", path, api.Extend{By: "30m"})
	if !q.Holds[0].EndsAt.Equal(end) {
		t.Errorf("ends at %s, want %s", q.Holds[0].EndsAt, end)
	}
}

// Access can be taken away although the request's workflow was terminated; it
// cannot be given any more.
func TestWorkflowEndedInTemporal(t *testing.T) {
	r := configured(t)
	q := r.active()
	r.temporal.gone()
	r.refused(http.StatusConflict, ana, "POST", "/requests/"+q.ID+"/extension", api.Extend{By: "1m"}, "ended in Temporal", "can be released and revoked")
	done := make(chan struct{})
	go func() { // the account, once it is told
		defer close(done)
		for range 100 {
			time.Sleep(10 * time.Millisecond)
			r.temporal.mu.Lock()
			told := len(r.temporal.told)
			r.temporal.mu.Unlock()
			if told > 0 {
				r.hold(q.Holds[0].ID, func(h *access.Hold) { h.State = access.StateEnded })
				return
			}
		}
	}()
	q = want[api.Request](r, http.StatusOK, bo, "POST", "/requests/"+q.ID+"/revoke", api.Why{Reason: "an incident"})
	<-done
	if q.State != access.StateEnded || q.Decisions[1].Verdict != access.Revoke || q.Decisions[1].Reason != "an incident" {
		t.Errorf("%s: %+v", q.State, q.Decisions)
	}
	if op := r.temporal.told[0]; op.Kind != workflows.UpdateEnd || op.RequestID != q.ID || !slices.Equal(op.HoldIDs, []string{q.Holds[0].ID}) || op.Actor == "" || op.Why == "" {
		t.Errorf("told: %+v", op)
	}

	waiting := r.pending()
	r.refused(http.StatusConflict, cy, "POST", "/requests/"+waiting.ID+"/decisions", api.Decide{Verdict: access.Approve}, "nobody can approve it any more")
	waiting = want[api.Request](r, http.StatusOK, ana, "POST", "/requests/"+waiting.ID+"/release", api.Why{})
	if waiting.State != access.StateEnded || len(r.temporal.told) != 1 {
		t.Errorf("a withdrawn request is %s", waiting.State)
	}
}

// What an approval changes of a request is told field by field, and what was
// shortened is not lengthened.
func TestTermsOfAnApproval(t *testing.T) {
	r := configured(t)
	public := api.Want{Integration: "shop", Resource: "schema:shop/public", Permission: "read_only"}
	support := api.Want{Integration: "crm", Resource: "role:support", Permission: "member"}
	q := r.pending(public, support)
	path := "/requests/" + q.ID + "/decisions"
	for location, body := range map[string]api.Decide{
		"body.for":        {Verdict: access.Approve, For: "61m"},
		"body.without[1]": {Verdict: access.Approve, Without: []api.Want{public, {Integration: "shop", Resource: "schema:shop/public", Permission: "read_write"}}},
		"body.without":    {Verdict: access.Approve, Without: []api.Want{public, support}},
		"body.verdict":    {Verdict: access.Deny, For: "10m"},
		"body.reason":     {Verdict: access.Object, Reason: " "},
	} {
		if p := r.refused(http.StatusUnprocessableEntity, cy, "POST", path, body); len(p.Errors) != 1 || p.Errors[0].Location != location {
			t.Errorf("%+v: %+v", body, p.Errors)
		}
	}
	r.temporal.decided(access.StateApproved)
	q = want[api.Request](r, http.StatusOK, cy, "POST", path, api.Decide{Verdict: access.Approve, For: "10m", Without: []api.Want{support}})
	if q.ApprovedFor.String() != "10m" || q.Duration.String() != "1h" {
		t.Errorf("approved for %s of %s", q.ApprovedFor, q.Duration)
	}
	end := time.Now().UTC().Add(10 * time.Minute)
	r.hold(q.Holds[0].ID, func(h *access.Hold) {
		h.State, h.StartsAt, h.EndsAt, h.MaxEnd = access.StateActive, end.Add(-10*time.Minute), end, end
	})
	r.refused(http.StatusConflict, ana, "POST", "/requests/"+q.ID+"/extension", api.Extend{By: "1m"}, "less than was asked for", "and it does already")
}

// sealed puts a credential into the store, as a connector does.
func (r *rig) sealed(account string, generation int, password string) {
	r.Helper()
	plain, err := json.Marshal(access.Credential{Username: "ana", Password: password, Command: "psql -h db", Details: map[string]string{"host": "db"}})
	if err != nil {
		r.Fatal(err)
	}
	ciphertext, err := seal.Seal(r.keys.SealingPublic, seal.Info(account, generation), plain)
	if err != nil {
		r.Fatal(err)
	}
	if err := r.store.PutCredential(r.Context(), account, generation, ciphertext); err != nil {
		r.Fatal(err)
	}
	r.record(access.Change{Event: access.Event{Key: access.NewID("test"), Kind: "account.credential", AccountID: account},
		Account: &access.AccountChange{ID: account, Name: "ana", Generation: generation}})
}

// account is the id of the account of a request's first hold.
func (r *rig) account(q api.Request) string {
	r.Helper()
	h, err := r.store.Hold(r.Context(), q.Holds[0].ID)
	if err != nil {
		r.Fatal(err)
	}
	return h.AccountID
}

func TestCredentialIsShownOnce(t *testing.T) {
	const canary = "c4n4ryPassw0rd"
	r := configured(t)
	q := r.active()
	path := "/requests/" + q.ID + "/credentials"
	r.refused(http.StatusConflict, ana, "POST", path, api.NewCredential{}, "no credential to show", "--new")
	r.sealed(r.account(q), 1, canary)
	r.refused(http.StatusForbidden, cy, "POST", path, api.NewCredential{}, "nobody but the person")

	raw := want[map[string]any](r, http.StatusOK, ana, "POST", path, api.NewCredential{})
	if len(raw) != 4 || raw["username"] != "ana" || raw["password"] != canary || raw["command"] != "psql -h db" {
		t.Errorf("credential: %v", raw)
	}
	if details := raw["details"].(map[string]any); details["host"] != "db" || details["custom_access_details"] != "Use the read replica." {
		t.Errorf("details: %v", details)
	}
	r.refused(http.StatusConflict, ana, "POST", path, api.NewCredential{}, "fetched already", "--new")

	q = want[api.Request](r, http.StatusOK, ana, "GET", "/requests/"+q.ID, nil)
	if got := kindsOf(q); !slices.Contains(got, "credential.revealed") {
		t.Errorf("events: %v", got)
	}
	if text, _ := json.Marshal(q); strings.Contains(string(text), canary) || strings.Contains(r.log.String(), canary) {
		t.Error("the password is in the request or in the log")
	}

	second := r.active()
	r.refused(http.StatusConflict, ana, "POST", "/requests/"+second.ID+"/credentials", api.NewCredential{}, "you have it already", q.ID, "--new")
}

func TestNewCredential(t *testing.T) {
	r := configured(t)
	q := r.active()
	path := "/requests/" + q.ID + "/credentials"
	account := r.account(q)
	r.sealed(account, 1, "old")
	r.temporal.onUpdate = func(d access.Decision) error {
		if d.Verdict != access.Renew {
			t.Errorf("verdict %s", d.Verdict)
		}
		r.sealed(account, 2, "new")
		return nil
	}
	if c := want[api.Credential](r, http.StatusOK, ana, "POST", path, api.NewCredential{New: true}); c.Password != "new" {
		t.Errorf("password %q", c.Password)
	}
	r.temporal.onUpdate = func(d access.Decision) error {
		r.record(access.Change{Event: access.Event{Key: "account/" + account + "/refused/" + workflows.UpdateCredential + "/" + d.RequestID + "/" + d.Nonce, Kind: "operation.refused", RequestID: d.RequestID,
			Text: "refused credential: the target is down"}})
		return nil
	}
	r.refused(http.StatusConflict, ana, "POST", path, api.NewCredential{New: true}, "the target is down")
}

func TestCredentialOfSeveralAccounts(t *testing.T) {
	r := configured(t)
	q := r.active(api.Want{Integration: "shop", Resource: "schema:shop/public", Permission: "read_only"}, api.Want{Integration: "crm", Resource: "role:support", Permission: "member"})
	path := "/requests/" + q.ID + "/credentials"
	r.sealed(r.account(q), 1, "p")
	r.refused(http.StatusUnprocessableEntity, ana, "POST", path, api.NewCredential{}, "crm, shop")
	r.refused(http.StatusUnprocessableEntity, ana, "POST", path, api.NewCredential{Integration: "other"}, "crm, shop")
	r.refused(http.StatusConflict, ana, "POST", path, api.NewCredential{Integration: "crm"}, "makes no credentials for accounts on crm")
	want[api.Credential](r, http.StatusOK, ana, "POST", path, api.NewCredential{Integration: "shop"})

	// That the other account has no credential to renew does not matter.
	crm, err := r.store.Hold(t.Context(), q.Holds[1].ID)
	if err != nil {
		t.Fatal(err)
	}
	r.temporal.onUpdate = func(d access.Decision) error {
		r.record(access.Change{Event: access.Event{Key: "account/" + crm.AccountID + "/refused/" + workflows.UpdateCredential + "/" + d.RequestID + "/" + d.Nonce,
			Kind: "operation.refused", RequestID: d.RequestID, Text: "refused credential"}})
		r.sealed(r.account(q), 2, "new")
		return nil
	}
	if c := want[api.Credential](r, http.StatusOK, ana, "POST", path, api.NewCredential{Integration: "shop", New: true}); c.Password != "new" {
		t.Errorf("password %q", c.Password)
	}
}

func TestCredentialNeedsActiveAccess(t *testing.T) {
	r := configured(t)
	r.refused(http.StatusConflict, ana, "POST", "/requests/"+r.pending().ID+"/credentials", api.NewCredential{}, "it is pending")
}
