package portal

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/spec"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/portal/api"
	"github.com/lapse-access/lapse/workflows"
)

func (f *fakeTemporal) SignalWithStartWorkflow(_ context.Context, id, signal string, _ any, _ client.StartWorkflowOptions, _ any, _ ...any) (client.WorkflowRun, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.started[id] = true
	f.starts = append(f.starts, signal+" "+id)
	return &fakeRun{}, f.startErr
}

// leaves has the removal of an integration find something left, as its workflow
// would.
func (r *rig) leaves(name string, left ...access.Left) {
	r.Helper()
	in, err := r.store.IntegrationByName(r.Context(), name)
	if err != nil {
		r.Fatal(err)
	}
	_, err = r.store.ChangeRemoval(r.Context(), in.ID, func(in store.IntegrationRow) (*access.Removal, access.Event, error) {
		in.Removal.Left, in.Removal.LookedAt = left, time.Now()
		return in.Removal, access.Event{Key: access.NewID("left"), Kind: "integration.left"}, nil
	})
	if err != nil {
		r.Fatal(err)
	}
}

// An integration that is being removed is closed, says why, and can be taken
// back.
func TestRemoval(t *testing.T) {
	r := configured(t)
	running, waiting := r.active(), r.pending()
	r.sealed(r.account(running), 1, "c4n4ry")
	const path = "/integrations/shop/removal"
	now := want[api.Removal](r, http.StatusOK, bo, "GET", path, nil)
	if now.State != removalNone || len(now.Open) != 2 || !now.Configured {
		t.Fatalf("before: %+v", now)
	}
	r.refused(http.StatusUnprocessableEntity, bo, "POST", path, api.Why{}, "body.reason")
	r.refused(http.StatusNotFound, bo, "POST", "/integrations/shpo/removal", api.Why{Reason: "x"}, "did you mean shop")
	r.refused(http.StatusConflict, bo, "POST", path+"/cancellation", api.Why{}, "nobody removes shop")
	if err := r.store.SetReportOnly(t.Context(), "restored"); err != nil {
		t.Fatal(err)
	}
	r.refused(http.StatusConflict, bo, "POST", path, api.Why{Reason: "moved"}, "restored")
	if err := r.store.SetReportOnly(t.Context(), ""); err != nil {
		t.Fatal(err)
	}

	now = want[api.Removal](r, http.StatusOK, bo, "POST", path, api.Why{Reason: "moved"})
	again := want[api.Removal](r, http.StatusOK, bo, "POST", path, api.Why{Reason: "another reason"})
	if now.State != removalRunning || again.Reason != "moved" || again.At != now.At {
		t.Errorf("begun: %+v, again: %+v", now, again)
	}
	in, err := r.store.IntegrationByName(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	if wake := workflows.SignalWake + " " + workflows.RemovalID(in.ID); !slices.Contains(r.temporal.starts, wake) {
		t.Errorf("its workflow was not told: %v", r.temporal.starts)
	}
	const closed = "shop is being removed by " + bo + ": moved"
	r.refused(http.StatusUnprocessableEntity, ana, "POST", "/requests", ask(), closed)
	r.refused(http.StatusConflict, cy, "POST", "/requests/"+waiting.ID+"/decisions", api.Decide{Verdict: access.Approve}, closed)
	r.refused(http.StatusConflict, ana, "POST", "/requests/"+running.ID+"/extension", api.Extend{By: "30m"}, closed)
	r.refused(http.StatusConflict, ana, "POST", "/requests/"+running.ID+"/credentials", api.NewCredential{}, closed)
	r.refused(http.StatusConflict, cy, "POST", "/integrations/shop/rotation", api.Rotate{}, closed)
	r.temporal.onUpdate = func(access.Decision) error { return nil }
	want[api.Request](r, http.StatusOK, cy, "POST", "/requests/"+waiting.ID+"/decisions", api.Decide{Verdict: access.Deny})
	want[api.Request](r, http.StatusOK, ana, "POST", "/requests/"+running.ID+"/release", api.Why{})

	applied := want[api.Applied](r, http.StatusOK, bo, "PUT", "/config", lapseYAML)
	if len(applied.Warnings) == 0 || !strings.Contains(applied.Warnings[len(applied.Warnings)-1].Message, closed) {
		t.Errorf("a file that still has it says nothing: %+v", applied.Warnings)
	}
	r.refused(http.StatusConflict, bo, "POST", path+"/acceptance", api.Why{Reason: "x"}, "goes on by itself")
	r.leaves("shop", access.Left{Kind: access.LeftConfigured, Subject: in.ID, Text: "the configuration has it"})
	r.refused(http.StatusConflict, bo, "POST", path+"/acceptance", api.Why{Reason: "x"}, "nothing of shop is left that could be accepted")
	r.leaves("shop", access.Left{Kind: access.LeftPrincipal, Subject: "lapse_ana", Text: "lapse_ana owns a table"})
	if now = want[api.Removal](r, http.StatusOK, bo, "GET", path, nil); now.State != removalLeft {
		t.Errorf("it is %s, and something is left", now.State)
	}
	r.refused(http.StatusUnprocessableEntity, bo, "POST", path+"/acceptance", api.Why{}, "body.reason")
	r.shows(r.as(bo, "GET", "/remove/shop", nil), http.StatusOK, "Lapse_ana owns a table", "Leave it there")
	r.shows(r.as(bo, "POST", "/remove/shop", url.Values{"do": {"accept"}, "reason": {"until May"}}), http.StatusSeeOther)
	now = want[api.Removal](r, http.StatusOK, bo, "GET", path, nil)
	if now.State != removalRunning || now.Accepted != "until May" || now.AcceptedBy != bo {
		t.Errorf("accepted: %+v", now)
	}
	r.shows(r.as(bo, "POST", "/remove/shop", url.Values{"do": {"cancel"}}), http.StatusSeeOther)
	want[api.Request](r, http.StatusCreated, ana, "POST", "/requests", ask())
}

// A file that leaves an integration out says what becomes of it.
func TestApplyLeavesOut(t *testing.T) {
	r := configured(t)
	source := strings.Replace(lapseYAML, "name: crm", "name: crm2", 1)
	source = strings.ReplaceAll(source, "integration: crm,", "integration: crm2,")
	applied := want[api.Applied](r, http.StatusOK, bo, "PUT", "/config", source)
	if !slices.ContainsFunc(applied.Warnings, func(f spec.Fault) bool { return strings.Contains(f.Fix, "lapse remove crm") }) {
		t.Errorf("no word about crm: %+v", applied.Warnings)
	}
}
