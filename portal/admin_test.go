package portal

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/spec"
	"github.com/lapse-access/lapse/portal/api"
)

func TestApply(t *testing.T) {
	applied := 0
	r := empty(t, func(o *Options) { o.OnApply = func(context.Context) error { applied++; return nil } })
	// Before the first configuration nobody is known, so anybody may apply it.
	out := want[api.Applied](r, http.StatusOK, "newcomer@example.com", "PUT", "/config?dry_run=true", lapseYAML)
	if !out.DryRun || out.Version != 0 || len(out.Changes) == 0 || applied != 0 {
		t.Errorf("dry run: %+v, applied %d times", out, applied)
	}
	out = want[api.Applied](r, http.StatusOK, "newcomer@example.com", "PUT", "/config", lapseYAML)
	if out.Version != 1 || applied != 1 {
		t.Errorf("version %d, applied %d times", out.Version, applied)
	}
	r.refused(http.StatusForbidden, "newcomer@example.com", "PUT", "/config", lapseYAML, "nobody in the directory")

	out = want[api.Applied](r, http.StatusOK, bo, "PUT", "/config", lapseYAML+"# a comment\n")
	if out.Version != 1 || len(out.Changes) != 0 {
		t.Errorf("the same again: %+v", out)
	}
	changed := strings.Replace(lapseYAML, "max_duration: 8h", "max_duration: 4h", 1)
	if out = want[api.Applied](r, http.StatusOK, bo, "PUT", "/config?dry_run=true", changed); out.Version != 1 || out.Changes[0].String() != `~ access flow analysts: max_duration: "8h" -> "4h"` {
		t.Errorf("dry run of a change: %+v", out)
	}
	if out = want[api.Applied](r, http.StatusOK, bo, "PUT", "/config", changed); out.Version != 2 {
		t.Errorf("version %d after a change", out.Version)
	}
	if c := want[api.Config](r, http.StatusOK, bo, "GET", "/config", nil); c.Version != 2 || !strings.Contains(string(c.Config), `"max_duration":"4h"`) {
		t.Errorf("configuration: %+v", c)
	}
}

func TestApplyNamesEveryFault(t *testing.T) {
	r := configured(t)
	faulty := strings.NewReplacer("name: crm", "name: shop", "max_duration: 8h", "max_duration: soon", "kind: database", "kind: databse").Replace(lapseYAML) + "unknown: 1\n"
	p := r.refused(http.StatusUnprocessableEntity, bo, "PUT", "/config?file=my.yaml", faulty, "the file has ", "nothing was changed")
	if len(p.Faults) < 4 {
		t.Errorf("%d faults: %v", len(p.Faults), p.Faults)
	}
	for _, f := range p.Faults {
		if f.File != "my.yaml" || f.Line == 0 || f.Column == 0 || f.Message == "" {
			t.Errorf("fault: %+v", f)
		}
	}
	if version, _, err := r.store.Config(t.Context()); err != nil || version != 1 {
		t.Errorf("version %d, %v", version, err)
	}
	_, err := r.portal.Apply(t.Context(), "my.yaml", []byte(faulty))
	if faults, ok := errors.AsType[spec.Faults](err); !ok || len(faults) != len(p.Faults) {
		t.Errorf("Apply: %v", err)
	}
}

func TestApplyWhileTemporalIsAway(t *testing.T) {
	r := empty(t, func(o *Options) { o.OnApply = func(context.Context) error { return errors.New("no connection") } })
	out := want[api.Applied](r, http.StatusOK, bo, "PUT", "/config", lapseYAML)
	if out.Version != 1 || len(out.Warnings) != 1 || !strings.Contains(out.Warnings[0].String(), "apply it again") {
		t.Errorf("%+v", out)
	}
}

func TestIntegrations(t *testing.T) {
	r := configured(t)
	list := want[api.Integrations](r, http.StatusOK, ana, "GET", "/integrations", nil).Integrations
	if len(list) != 2 || list[1].Name != "shop" || list[1].Kind != "database" || list[1].Title != "Database" || list[1].Owner || list[1].Types[0] != "schema" {
		t.Errorf("integrations: %+v", list)
	}
	shop, err := r.store.IntegrationByName(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.store.PutFindings(t.Context(), shop.ID, "2026-11-20T10:00:00Z", []access.Finding{{Kind: "foreign", Subject: "x", Text: "somebody else's"}}); err != nil {
		t.Fatal(err)
	}
	if in := want[api.Integration](r, http.StatusOK, cy, "GET", "/integrations/shop", nil); !in.Owner || len(in.Findings) != 1 {
		t.Errorf("for its owner: %+v", in)
	}
	if in := want[api.Integration](r, http.StatusOK, ana, "GET", "/integrations/shop", nil); in.Owner || len(in.Findings) != 0 {
		t.Errorf("for others: %+v", in)
	}
	r.refused(http.StatusNotFound, ana, "GET", "/integrations/shpo", nil, "did you mean shop?")

	first := want[api.Resources](r, http.StatusOK, ana, "GET", "/integrations/shop/resources?type=schema&limit=2", nil)
	next := want[api.Resources](r, http.StatusOK, ana, "GET", "/integrations/shop/resources?type=schema&limit=2&after="+first.Next, nil)
	if len(first.Resources) != 2 || len(next.Resources) != 1 || next.Next != "" {
		t.Errorf("pages: %+v, %+v", first, next)
	}
	if found := want[api.Resources](r, http.StatusOK, ana, "GET", "/integrations/shop/resources?q=pay", nil).Resources; len(found) != 1 || found[0].Resource != "schema:hr/pay" {
		t.Errorf("found: %+v", found)
	}
}

func TestCheckDiscoverSweep(t *testing.T) {
	r := configured(t)
	r.temporal.result = access.CheckReport{Server: "Database 1", Items: []access.CheckItem{{Operation: "grant", Name: "may grant", Remedy: "GRANT ..."}}}
	if c := want[api.Check](r, http.StatusOK, cy, "POST", "/integrations/shop/check", nil); c.OK || c.Server != "Database 1" || c.Items[0].Remedy != "GRANT ..." {
		t.Errorf("check: %+v", c)
	}
	r.temporal.result = access.DiscoveryReport{Integration: "shop", Resources: 3}
	if d := want[access.DiscoveryReport](r, http.StatusOK, cy, "POST", "/integrations/shop/discover", nil); d.Resources != 3 {
		t.Errorf("discovery: %+v", d)
	}
	r.temporal.result = access.SweepReport{Known: true, At: time.Now(), Findings: []access.Finding{{Kind: "unknown_principal", Subject: "x"}}}
	r.temporal.starts = nil
	if s := want[api.Sweep](r, http.StatusOK, cy, "POST", "/integrations/shop/sweep", api.SweepArgs{Repair: true}); len(s.Findings) != 1 || len(r.temporal.starts) != 1 {
		t.Errorf("sweep: %+v after %v", s, r.temporal.starts)
	}
	if events := want[api.Events](r, http.StatusOK, bo, "GET", "/audit/events", nil).Events; events[len(events)-1].Kind != "sweep.repair" || events[len(events)-1].Actor != cy {
		t.Errorf("events: %+v", events)
	}
	for _, tc := range []struct {
		err    error
		status int
		words  string
	}{
		{applicationError("auth", "the target refuses the password"), http.StatusBadGateway, "refuses the password"},
		{temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START, nil), http.StatusBadGateway, "lapse worker --connector default"},
		{context.DeadlineExceeded, http.StatusGatewayTimeout, "goes on"},
	} {
		r.temporal.resultErr = tc.err
		r.refused(tc.status, cy, "POST", "/integrations/shop/check", nil, tc.words)
	}
}

func TestAudit(t *testing.T) {
	r := configured(t)
	q := r.active()
	v := want[api.Audit](r, http.StatusOK, bo, "GET", "/audit/verify", nil)
	if !v.OK || v.Events < 4 || len(v.Head) != 64 {
		t.Errorf("verify: %+v", v)
	}
	if v = want[api.Audit](r, http.StatusOK, bo, "GET", "/audit/verify?head="+v.Head, nil); !v.OK {
		t.Errorf("with its own head: %+v", v)
	}
	if v = want[api.Audit](r, http.StatusOK, bo, "GET", "/audit/verify?head="+strings.Repeat("0", 64), nil); v.OK || len(v.Faults) != 1 {
		t.Errorf("with another head: %+v", v)
	}
	events := want[api.Events](r, http.StatusOK, bo, "GET", "/audit/events?limit=1", nil)
	if len(events.Events) != 1 || events.Events[0].Kind != "config.applied" || events.Events[0].Actor != "lapse" || events.Next != 1 {
		t.Errorf("first page: %+v", events)
	}
	for _, e := range want[api.Events](r, http.StatusOK, bo, "GET", "/audit/events?request="+q.ID, nil).Events {
		if e.RequestID != q.ID {
			t.Errorf("an event of something else: %+v", e)
		}
	}
}

func TestHealth(t *testing.T) {
	r := empty(t)
	if h := want[api.Health](r, http.StatusOK, "", "GET", "/health", nil); h.Store != "ok" || h.Temporal != "ok" {
		t.Errorf("health: %+v", h)
	}
	r.temporal.down = true
	if h := want[api.Health](r, http.StatusOK, "", "GET", "/health", nil); h.Store != "ok" || h.Temporal != "unreachable" {
		t.Errorf("without Temporal: %+v", h)
	}
}
