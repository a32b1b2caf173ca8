package portal

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/portal/api"
)

// found keeps what a sweep of shop found so long ago.
func (r *rig) found(ago time.Duration, findings ...access.Finding) {
	r.Helper()
	shop, err := r.store.IntegrationByName(r.Context(), "shop")
	if err == nil {
		err = r.store.PutFindings(r.Context(), shop.ID, time.Now().Add(-ago).UTC().Format(time.RFC3339Nano), findings)
	}
	if err != nil {
		r.Fatal(err)
	}
}

func TestSweepOnThePages(t *testing.T) {
	r := configured(t)
	r.shows(r.as(cy, "GET", "/sweep", nil), http.StatusOK, "shop", "never", "not known yet", `href="/sweep/crm"`)
	r.shows(r.as(cy, "GET", "/sweep/shop", nil), http.StatusOK, "It was never swept", "Nothing is known yet")
	r.shows(r.as(cy, "GET", "/sweep/shpo", nil), http.StatusNotFound)

	seen := time.Now().Add(-50 * time.Hour)
	var findings []access.Finding
	for n := range findingsShown + 3 {
		findings = append(findings, access.Finding{Kind: access.FindingUnexpected, Subject: fmt.Sprintf("lapse_<b>%d", n), Text: "admin stands on the target", Since: seen})
	}
	findings = append(findings, access.Finding{Kind: access.FindingForeign, Subject: "lapse_ana", Text: "member of dba"},
		access.Finding{Kind: access.FindingLostAccount, Subject: "ana@example.com", Text: "no workflow", Repaired: "its workflow was started again"}, access.Finding{Kind: "of a later version", Subject: "x"})
	r.found(2*time.Minute, findings...)
	r.shows(r.as(cy, "GET", "/sweep", nil), http.StatusOK, "alarm</span> 54", "warning</span> 2", "2m")
	page := r.as(cy, "GET", "/sweep/shop", nil)
	r.shows(page, http.StatusOK, "Unexpected: 53", "2d 2h", "lapse_&lt;b&gt;0", "The oldest 50 are shown", "A repair:", "Foreign: 1", "No repair:", "Each sweep repairs it:", "Its workflow was started again.")
	if n := strings.Count(page.body, `value="repair"`); n != 1 {
		t.Errorf("%d sorts can be repaired, want 1", n)
	}

	// What is not confirmed, or cannot be repaired, is not begun.
	for _, form := range []url.Values{{"do": {"repair"}, "sort": {"unexpected"}}, {"do": {"repair"}, "sort": {"foreign"}, "sure": {"yes"}}, {"do": {"dance"}}} {
		r.shows(r.as(cy, "POST", "/sweep/shop", form), http.StatusUnprocessableEntity, `role="alert"`, "Unexpected: 53")
	}
	if len(r.temporal.starts) > 0 {
		t.Fatalf("begun: %v", r.temporal.starts)
	}
	r.temporal.result = access.SweepReport{Known: true, DryRun: true, At: time.Now(), Findings: []access.Finding{{Kind: access.FindingMissing, Subject: "lapse_ana", Text: "read_only was taken away"}}}
	r.shows(r.as(cy, "POST", "/sweep/shop", url.Values{"do": {"dry-run"}}), http.StatusOK, "A dry run: nothing was changed.", "Missing: 1")
	r.shows(r.as(cy, "GET", "/sweep/shop", nil), http.StatusOK, "Unexpected: 53")

	r.temporal.result = access.SweepReport{Known: true, At: time.Now(), Findings: []access.Finding{{Kind: access.FindingUnexpected, Subject: "lapse_ana", Repaired: "its account takes it away"}}}
	res := r.as(cy, "POST", "/sweep/shop", url.Values{"do": {"repair"}, "sort": {"unexpected"}, "sure": {"yes"}})
	if res.status != http.StatusSeeOther || res.header.Get("Location") != "/sweep/shop" {
		t.Errorf("repaired: %d to %s", res.status, res.header.Get("Location"))
	}
	events := want[api.Events](r, http.StatusOK, bo, "GET", "/audit/events", nil).Events
	if last := events[len(events)-1]; last.Kind != "sweep.repair" || last.Actor != cy || !strings.Contains(last.Text, "unexpected") {
		t.Errorf("event: %+v", last)
	}
	r.temporal.resultErr = applicationError("auth", "the target refuses the password")
	r.shows(r.as(cy, "POST", "/sweep/shop", url.Values{"do": {"sweep"}}), http.StatusBadGateway, "refuses the password", "Unexpected: 53")
}

func TestSweepByTheAPI(t *testing.T) {
	r := configured(t)
	if s := want[api.Sweep](r, http.StatusOK, cy, "GET", "/integrations/shop/sweep", nil); !s.At.IsZero() || len(s.Findings) != 0 || s.Policy == nil {
		t.Errorf("before the first: %+v", s)
	}
	r.found(time.Minute, access.Finding{Kind: access.FindingForeign, Subject: "lapse_ana", Text: "member of dba"})
	if s := want[api.Sweep](r, http.StatusOK, cy, "GET", "/integrations/shop/sweep", nil); s.At.IsZero() || len(s.Findings) != 1 {
		t.Errorf("the newest: %+v", s)
	}
	r.refused(http.StatusUnprocessableEntity, cy, "POST", "/integrations/shop/sweep", api.SweepArgs{DryRun: true, Repair: true}, "dry run")
	r.refused(http.StatusUnprocessableEntity, cy, "POST", "/integrations/shop/sweep", api.SweepArgs{Only: access.Repairable()}, "repair")
	r.refused(http.StatusUnprocessableEntity, cy, "POST", "/integrations/shop/sweep", `{"repair": true, "only": ["foreign"]}`)
}

func TestMetrics(t *testing.T) {
	r := configured(t)
	q := r.active()
	r.hold(q.Holds[0].ID, func(h *access.Hold) { h.EndsAt = time.Now().Add(-90 * time.Second) })
	r.found(time.Minute, access.Finding{Kind: access.FindingForeign, Subject: "lapse_ana"}, access.Finding{Kind: access.FindingForeign, Subject: "lapse_bo"}, access.Finding{Kind: access.FindingUnusedRole, Subject: "x"})
	handler := Metrics(r.store, "s3cret", r.portal.opts.Log)
	get := func(token string) (int, string) {
		req := httptest.NewRequest("GET", MetricsPath, nil)
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, req)
		return w.Code, w.Body.String()
	}
	for _, token := range []string{"", "s3cre", "s3cret2"} {
		if code, body := get(token); code != http.StatusUnauthorized || strings.Contains(body, "lapse_") {
			t.Errorf("with the token %q: %d %s", token, code, body)
		}
	}
	before := statements.Load()
	code, text := get("s3cret")
	if n := statements.Load() - before; code != http.StatusOK || n > 6 {
		t.Errorf("%d, with %d statements: %s", code, n, text)
	}
	for _, line := range []string{
		`lapse_findings{integration="shop",kind="database",severity="warning",sort="foreign"} 2`,
		`lapse_findings{integration="shop",kind="database",severity="notice",sort="unused_role"} 1`,
		`lapse_findings{integration="shop",kind="database",severity="alarm",sort="overdue"} 0`,
		`lapse_open_holds{integration="shop",kind="database"} 1`,
		`lapse_overdue_holds{integration="shop",kind="database"} 1`,
		`lapse_overdue_age_seconds{integration="shop",kind="database"} 9`, // and some
		`lapse_sweep_age_seconds{integration="shop",kind="database"} 6`,
		`lapse_open_holds{integration="crm",kind="forge"} 0`,
		`lapse_overdue_age_seconds{integration="crm",kind="forge"} 0`,
		"lapse_report_only 0",
		"go_goroutines",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("%s is not in\n%s", line, text)
		}
	}
	if strings.Contains(text, `lapse_sweep_age_seconds{integration="crm"`) || strings.Contains(text, "example.com") || strings.Contains(text, "lapse_ana") {
		t.Errorf("too much is said:\n%s", text)
	}
	if err := r.store.SetReportOnly(t.Context(), "restored"); err != nil {
		t.Fatal(err)
	}
	if _, text := get("s3cret"); !strings.Contains(text, "lapse_report_only 1") {
		t.Error("a restore does not show")
	}

	// Without a token they are for this machine only.
	if _, err := ListenMetrics("0.0.0.0:0", "", r.store, r.portal.opts.Log); err == nil {
		t.Error("metrics are served to everybody without a token")
	}
	stop, err := ListenMetrics("127.0.0.1:0", "", r.store, r.portal.opts.Log)
	if err != nil {
		t.Fatal(err)
	}
	stop()
}
