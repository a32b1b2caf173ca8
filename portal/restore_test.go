package portal

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/portal/api"
)

// A restore is accepted with the report that somebody looked at, and with no
// other.
func TestAcceptRestore(t *testing.T) {
	r := configured(t)
	accept := func(report string) api.AcceptRestore { return api.AcceptRestore{Reason: "compared", Report: report} }
	if out := want[api.Restored](r, http.StatusOK, bo, "POST", "/restore/accept", accept("")); out.Accepted {
		t.Errorf("nothing to accept: %+v", out)
	}
	rows, err := r.store.Integrations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sweep := func(at time.Time, findings ...access.Finding) {
		t.Helper()
		for _, row := range rows {
			if err := r.store.PutFindings(t.Context(), row.ID, at.UTC().Format(time.RFC3339Nano), findings); err != nil {
				t.Fatal(err)
			}
		}
	}
	sweep(r.store.Now().Add(-time.Minute))
	if err := r.store.SetReportOnly(t.Context(), "the epochs differ"); err != nil {
		t.Fatal(err)
	}
	r.refused(http.StatusUnprocessableEntity, bo, "POST", "/restore/accept", api.AcceptRestore{Report: "x"}, "body.reason")
	if h := want[api.Health](r, http.StatusOK, "", "GET", "/health", nil); h.ReportOnly != "the epochs differ" {
		t.Errorf("health: %+v", h)
	}

	// What was found before the restore does not count.
	out := want[api.Restore](r, http.StatusOK, bo, "GET", "/restore", nil)
	if out.ReportOnly != "the epochs differ" || out.Report != "" || len(out.Missing) != len(rows) || len(out.Integrations) != 0 {
		t.Errorf("before a sweep: %+v", out)
	}
	r.refused(http.StatusConflict, bo, "POST", "/restore/accept", accept(""), rows[0].Name)

	late := access.Finding{Kind: access.FindingOverdue, Subject: ana, About: "e", Text: "for 1 s"}
	unknown := access.Finding{Kind: access.FindingUnknownPrincipal, Subject: "lapse_x"}
	sweep(r.store.Now().Add(time.Second), late)
	first := want[api.Restore](r, http.StatusOK, bo, "GET", "/restore", nil)
	if first.Report == "" || len(first.Missing) != 0 || len(first.Integrations) != len(rows) || !slices.Equal(first.Integrations[0].Findings, []access.Finding{late}) {
		t.Errorf("after a sweep: %+v", first)
	}
	late.Text = "for 9 s"
	sweep(r.store.Now().Add(2*time.Second), late)
	if again := want[api.Restore](r, http.StatusOK, bo, "GET", "/restore", nil); again.Report != first.Report {
		t.Error("that something grows older makes another report")
	}
	sweep(r.store.Now().Add(3*time.Second), late, unknown)
	second := want[api.Restore](r, http.StatusOK, bo, "GET", "/restore", nil)
	if second.Report == first.Report {
		t.Error("what is found in addition makes no other report")
	}
	r.refused(http.StatusConflict, bo, "POST", "/restore/accept", accept(first.Report), "another one by now")
	if why, err := r.store.ReportOnly(t.Context()); err != nil || why == "" {
		t.Fatalf("it was accepted: %q, %v", why, err)
	}

	// The page shows the same, and what becomes of it.
	r.shows(r.as(bo, "GET", "/restore", nil), http.StatusOK, "the epochs differ", "lapse_x", "It is deleted", "Accept report "+second.Report)
	r.shows(r.as(bo, "POST", "/restore", url.Values{"do": {"accept"}, "report": {first.Report}, "reason": {"x"}}), http.StatusConflict, "another one by now")
	r.shows(r.as(bo, "GET", "/all", nil), http.StatusOK, "Nothing is changed on a target", "/restore")

	if done := want[api.Restored](r, http.StatusOK, bo, "POST", "/restore/accept", accept(second.Report)); !done.Accepted || done.Was != "the epochs differ" {
		t.Errorf("accepted: %+v", done)
	}
	events, err := r.store.Events(t.Context(), store.EventFilter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if last := events[len(events)-1]; last.Kind != "restore.accepted" || !strings.Contains(last.Text, "compared") || !strings.Contains(last.Text, second.Report) {
		t.Errorf("event: %+v", last)
	}
	if out := want[api.Restore](r, http.StatusOK, bo, "GET", "/restore", nil); out.ReportOnly != "" {
		t.Errorf("afterwards: %+v", out)
	}
}
