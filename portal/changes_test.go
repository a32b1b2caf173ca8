package portal

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/portal/api"
)

// More people of these tests: bo under two more addresses, the second known as
// his through a third entry, and flo, who administrates too.
const (
	bo2 = "bo+root@example.com"
	bo3 = "gus+2@example.com"
	flo = "flo@example.com"
)

// rule is what lapseYAML becomes where two persons are needed.
var rule = strings.Replace(lapseYAML, "  - {email: cy@example.com, groups: [dba]}\n", `  - {email: cy@example.com, groups: [dba]}
  - {email: bo+root@example.com, groups: [platform]}
  - {email: gus@example.com, aliases: [bo+gus@example.com]}
  - {email: gus+2@example.com, groups: [platform]}
  - {email: flo@example.com, aliases: [f@example.com], groups: [platform]}
`, 1) + "two_person_changes: true\n"

// changed is rule with another longest time.
func changed(hours string) string { return strings.Replace(rule, "8h", hours, 1) }

// twoPersons is a rig with rule in force, as version 2.
func twoPersons(t *testing.T, change ...func(*Options)) *rig {
	t.Helper()
	r := configured(t, change...)
	if out := want[api.Applied](r, http.StatusOK, bo, "PUT", "/config", rule); out.Version != 2 || out.TwoPersons {
		t.Fatalf("the rule was not taken: %+v", out)
	}
	return r
}

// proposes has somebody propose a file.
func (r *rig) proposes(who, source string) string {
	r.Helper()
	out := want[api.Applied](r, http.StatusOK, who, "PUT", "/config?file=my.yaml", source)
	if out.Proposal == "" || !out.TwoPersons {
		r.Fatalf("it is no proposal: %+v", out)
	}
	return out.Proposal
}

func decision(id string) string { return "/changes/" + id + "/decision" }

func (r *rig) inForce(version int64) {
	r.Helper()
	if now, _, err := r.store.Config(r.Context()); err != nil || now != version {
		r.Errorf("version %d is in force, want %d (%v)", now, version, err)
	}
}

// configEvents are those of the configuration, as KIND ACTOR.
func (r *rig) configEvents() (out []string) {
	r.Helper()
	for _, e := range want[api.Events](r, http.StatusOK, bo, "GET", "/audit/events", nil).Events {
		if kind, ok := strings.CutPrefix(e.Kind, "config."); ok {
			out = append(out, kind+" "+e.Actor)
		}
	}
	return out
}

var (
	yes  = api.DecideChange{Verdict: api.ChangeApprove}
	no   = api.DecideChange{Verdict: api.ChangeReject, Reason: "not now"}
	back = api.DecideChange{Verdict: api.ChangeWithdraw}
)

func TestTwoPersonChanges(t *testing.T) {
	followed := 0
	r := twoPersons(t, func(o *Options) { o.OnApply = func(context.Context) error { followed++; return nil } })
	dry := want[api.Applied](r, http.StatusOK, bo, "PUT", "/config?dry_run=true", changed("4h"))
	if !dry.DryRun || !dry.TwoPersons || dry.Proposal != "" || len(dry.Changes) != 1 {
		t.Errorf("dry run: %+v", dry)
	}
	if list := want[api.Changes](r, http.StatusOK, bo, "GET", "/changes", nil); len(list.Changes) != 0 || !list.TwoPersons {
		t.Errorf("a dry run proposed: %+v", list)
	}
	if same := want[api.Applied](r, http.StatusOK, bo, "PUT", "/config", rule); same.Proposal != "" || same.TwoPersons || same.Version != 2 {
		t.Errorf("what changes nothing: %+v", same)
	}

	id := r.proposes(bo, changed("4h"))
	r.inForce(2)
	if again := r.proposes(bo, changed("4h")); again != id {
		t.Errorf("the same again is %s, not %s", again, id)
	}
	show := want[api.Change](r, http.StatusOK, flo, "GET", "/changes/"+id, nil)
	if show.State != "open" || show.By != bo || show.Base != 2 || show.File != "my.yaml" || len(show.Changes) != 1 || show.Changes[0].String() != `~ access flow analysts: max_duration: "8h" -> "4h"` {
		t.Errorf("proposal: %+v", show)
	}

	// Nobody decides alone, in no disguise, and nobody who is no administrator.
	for _, self := range []string{bo, bo2, bo3} {
		r.refused(http.StatusForbidden, self, "POST", decision(id), yes, "of their own", "another administrator")
		r.refused(http.StatusForbidden, self, "POST", decision(id), no, "of their own")
	}
	for _, other := range []string{ana, cy, eve, di} {
		r.refused(http.StatusForbidden, other, "POST", decision(id), yes)
		r.refused(http.StatusForbidden, other, "GET", "/changes/"+id, nil)
		r.refused(http.StatusForbidden, other, "GET", "/changes", nil)
	}
	r.refused(http.StatusForbidden, flo, "POST", decision(id), back, "only who proposed it")
	r.refused(http.StatusUnprocessableEntity, flo, "POST", decision(id), api.DecideChange{Verdict: api.ChangeReject, Reason: " "}, "body.reason")
	r.refused(http.StatusUnprocessableEntity, flo, "POST", decision(id), `{"verdict": "shrug"}`)
	r.refused(http.StatusNotFound, flo, "POST", decision("chg-0"), yes, "no such proposal")
	r.inForce(2)

	before := followed
	done := want[api.Change](r, http.StatusOK, "f@example.com", "POST", decision(id), api.DecideChange{Verdict: api.ChangeApprove, Reason: "agreed"})
	if done.State != "approved" || done.Version != 3 || done.DecidedBy != flo || done.Reason != "agreed" || len(done.May) != 0 || followed != before+1 {
		t.Errorf("approved: %+v, followed %d times", done, followed-before)
	}
	r.inForce(3)
	if c := want[api.Config](r, http.StatusOK, bo, "GET", "/config", nil); !strings.Contains(string(c.Config), `"max_duration":"4h"`) {
		t.Errorf("in force: %s", c.Config)
	}
	r.refused(http.StatusConflict, flo, "POST", decision(id), yes, "approved already")
	if got := strings.Join(r.configEvents(), ", "); got != "applied lapse, applied "+bo+", proposed "+bo+", approved "+flo+", applied "+flo {
		t.Errorf("events: %s", got)
	}
	events := want[api.Events](r, http.StatusOK, bo, "GET", "/audit/events", nil).Events
	if text := events[len(events)-1].Text; !strings.Contains(text, "proposed by "+bo) || !strings.Contains(text, "approved by "+flo) {
		t.Errorf("the last event: %s", text)
	}
}

func TestChangesEndOtherwise(t *testing.T) {
	r := twoPersons(t)
	rejected, withdrawn := r.proposes(bo, changed("4h")), r.proposes(bo, changed("5h"))
	if out := want[api.Change](r, http.StatusOK, flo, "POST", decision(rejected), no); out.State != "rejected" || out.Reason != "not now" {
		t.Errorf("rejected: %+v", out)
	}
	// Under another address one is the same human here too.
	if out := want[api.Change](r, http.StatusOK, bo2, "POST", decision(withdrawn), back); out.State != "withdrawn" {
		t.Errorf("withdrawn: %+v", out)
	}
	for _, id := range []string{rejected, withdrawn} {
		r.refused(http.StatusConflict, flo, "POST", decision(id), yes, "already")
	}

	first, second := r.proposes(bo, changed("4h")), r.proposes(flo, changed("5h"))
	want[api.Change](r, http.StatusOK, bo, "POST", decision(second), yes)
	for _, d := range []api.DecideChange{yes, no} {
		r.refused(http.StatusConflict, flo, "POST", decision(first), d, "stale", "propose it again")
	}
	if out := want[api.Change](r, http.StatusOK, flo, "GET", "/changes/"+first, nil); out.State != "stale" || len(out.May) != 0 {
		t.Errorf("the other one: %+v", out)
	}
	r.inForce(3)
	if again := r.proposes(bo, changed("4h")); again == first {
		t.Error("it cannot be proposed again")
	}
	if got := strings.Join(r.configEvents()[2:], ", "); got != strings.NewReplacer("B", bo, "F", flo).Replace(
		"proposed B, proposed B, rejected F, withdrawn bo+root@example.com, proposed B, proposed F, approved B, applied B, stale B, proposed B") {
		t.Errorf("events: %s", got)
	}
}

// Who would turn the rule off, or change the people in it, needs it.
func TestTheRuleGuardsItself(t *testing.T) {
	r := twoPersons(t)
	off := strings.Replace(rule, "two_person_changes: true", "two_person_changes: false", 1)
	id := r.proposes(bo, off)
	people := r.proposes(bo, strings.Replace(rule, "email: eve@example.com, groups: [sales]", "email: eve@example.com, groups: [platform]", 1))
	r.refused(http.StatusForbidden, eve, "POST", decision(people), yes)
	alone := strings.Replace(rule, "aliases: [f@example.com], groups: [platform]", "groups: [platform], disabled: true", 1)
	p := r.refused(http.StatusUnprocessableEntity, bo, "PUT", "/config", alone, "the file has a fault")
	if len(p.Faults) != 1 || !strings.Contains(p.Faults[0].String(), "two_person_changes: needs two different people") {
		t.Errorf("faults: %v", p.Faults)
	}
	r.inForce(2)
	want[api.Change](r, http.StatusOK, flo, "POST", decision(id), yes)
	if out := want[api.Applied](r, http.StatusOK, bo, "PUT", "/config", lapseYAML); out.Version != 4 || out.Proposal != "" {
		t.Errorf("without the rule: %+v", out)
	}
}

// A file that Lapse itself brings has nobody who stands for it: whoever could
// change it may be one of the administrators.
func TestLapseProposes(t *testing.T) {
	followed := 0
	r := twoPersons(t, func(o *Options) { o.OnApply = func(context.Context) error { followed++; return nil } })
	before := followed
	out, err := r.portal.Apply(t.Context(), "lapse.yaml", []byte(changed("4h")))
	if err != nil || out.Proposal == "" || out.Version != 2 || followed != before+1 {
		t.Fatalf("%+v, %v; Temporal was brought in line %d times", out, err, followed-before)
	}
	if log := r.log.String(); !strings.Contains(log, "THE FILE IS NOT IN FORCE") || !strings.Contains(log, out.Proposal) {
		t.Errorf("log: %s", log)
	}
	if again, err := r.portal.Apply(t.Context(), "lapse.yaml", []byte(changed("4h"))); err != nil || again.Proposal != out.Proposal {
		t.Errorf("the next start: %+v, %v", again, err)
	}
	// Somebody who proposes the same stands for a proposal of their own.
	own := r.proposes(bo, changed("4h"))
	r.refused(http.StatusForbidden, bo, "POST", decision(own), yes, "of their own")
	want[api.Change](r, http.StatusOK, bo, "POST", decision(own), back)
	r.inForce(2)
	r.shows(r.as(bo, "GET", "/changes", nil), http.StatusOK, "lapse proposes 1 change", "Two administrators have to approve it", `value="approve"`)
	r.refused(http.StatusForbidden, bo, "POST", decision(out.Proposal), back)
	if c := want[api.Change](r, http.StatusOK, bo, "POST", decision(out.Proposal), yes); c.State != "open" || c.Sponsor != bo || !strings.Contains(c.Note, "another administrator") {
		t.Errorf("the first: %+v", c)
	}
	r.inForce(2)
	for _, same := range []string{bo, bo2} {
		r.refused(http.StatusForbidden, same, "POST", decision(out.Proposal), yes, "of their own")
	}
	if c := want[api.Change](r, http.StatusOK, flo, "POST", decision(out.Proposal), yes); c.Version != 3 {
		t.Errorf("the second: %+v", c)
	}
	if got := strings.Join(r.configEvents()[2:], ", "); got != "proposed lapse, proposed "+bo+", withdrawn "+bo+", sponsored "+bo+", approved "+flo+", applied "+flo {
		t.Errorf("events: %s", got)
	}
	if out, err = r.portal.Apply(t.Context(), "lapse.yaml", []byte(changed("4h"))); err != nil || out.Proposal != "" {
		t.Errorf("what is in force by now: %+v, %v", out, err)
	}
}

// With other kinds than when it was proposed, a file is read anew.
func TestChangesAreReadAgain(t *testing.T) {
	r := twoPersons(t)
	id := r.proposes(bo, changed("4h"))
	with := func(change func(integrations.Registry)) {
		o := r.portal.opts
		o.Kinds = kinds()
		change(o.Kinds)
		var err error
		if r.portal, err = New(o); err != nil {
			t.Fatal(err)
		}
		r.server.Config.Handler = r.portal
	}
	with(func(all integrations.Registry) { delete(all, "forge") })
	p := r.refused(http.StatusUnprocessableEntity, flo, "POST", decision(id), yes, "by now", "propose it again")
	if len(p.Faults) == 0 || !strings.Contains(p.Faults[0].Message, `no kind "forge"`) {
		t.Errorf("faults: %v", p.Faults)
	}
	if c := want[api.Change](r, http.StatusOK, flo, "GET", "/changes/"+id, nil); c.State != "open" || len(c.Faults) == 0 {
		t.Errorf("it says nothing: %+v", c)
	}
	r.shows(r.as(flo, "GET", "/changes", nil), http.StatusOK, "It cannot be approved any more")
	with(func(all integrations.Registry) {
		kind := all["database"]
		kind.Config = func() any {
			return &struct {
				Hostname string `json:"hostname" doc:"name of the server"`
				Verify   bool   `json:"verify" doc:"verify TLS" default:"false"`
			}{}
		}
		all["database"] = kind
	})
	r.refused(http.StatusConflict, flo, "POST", decision(id), yes, "reads the file in another way")
	r.inForce(2)
	want[api.Change](r, http.StatusOK, flo, "POST", decision(id), no)
}

// What a caller was when the call came in does not count, if the configuration
// in force says otherwise.
func TestWhoDecidesOnChanges(t *testing.T) {
	r := twoPersons(t)
	id := r.proposes(bo, changed("4h"))
	as := func(email string, now func(*access.Person)) *caller {
		who, err := r.store.PersonByEmail(t.Context(), email)
		if err != nil {
			t.Fatal(err)
		}
		now(&who)
		c, err := r.portal.caller(t.Context(), who, "api")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	approve := func(c *caller, id string) error {
		_, err := r.portal.decideChange(t.Context(), c, &changeCall{ByChange{id}, yes})
		return err
	}
	was := func(p *access.Person) { p.Disabled, p.Groups = false, []string{"platform"} }
	for _, email := range []string{di, cy} { // disabled by now; no administrator by now
		if err := approve(as(email, was), id); err == nil || !strings.Contains(err.Error(), "only an administrator") {
			t.Errorf("%s: %v", email, err)
		}
	}
	// The version that a caller was judged by is not in force any more.
	late := as(flo, func(*access.Person) {})
	want[api.Change](r, http.StatusOK, flo, "POST", decision(r.proposes(bo, changed("5h"))), yes)
	r.inForce(3)
	next := r.proposes(bo, changed("6h"))
	for _, id := range []string{id, next} {
		if err := approve(late, id); err == nil || !strings.Contains(err.Error(), "stale") {
			t.Errorf("%s, by what was in force before: %v", id, err)
		}
	}
	// Nor is it enough that somebody was an administrator who proposed it.
	eves := as(eve, func(*access.Person) {})
	version, now, err := r.store.Config(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	planted, err := r.portal.propose(t.Context(), eves.Person, "x", []byte(changed("7h")), version, nil)
	if err != nil || !now.TwoPersonChanges {
		t.Fatal(err)
	}
	r.refused(http.StatusForbidden, flo, "POST", decision(planted), yes, eve+" is no administrator")
	r.inForce(3)
}

// Two approvals at once, of one proposal and of several: one configuration
// comes into force, once.
func TestChangesRace(t *testing.T) {
	r := twoPersons(t)
	ids := []string{r.proposes(bo, changed("4h")), r.proposes(bo, changed("5h")), r.proposes(bo, changed("6h"))}
	path := func(i int) string { return api.Prefix + decision(ids[i%len(ids)]) }
	var wg sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	for i := range 12 {
		wg.Go(func() {
			status, answer := r.call(flo, "POST", path(i), yes)
			mu.Lock()
			defer mu.Unlock()
			if statuses[status]++; status != http.StatusOK && status != http.StatusConflict {
				t.Errorf("status %d: %s", status, answer)
			}
		})
	}
	wg.Wait()
	if statuses[http.StatusOK] != 1 {
		t.Errorf("statuses: %v", statuses)
	}
	r.inForce(3)
	states := map[string]int{}
	for _, c := range want[api.Changes](r, http.StatusOK, bo, "GET", "/changes", nil).Changes {
		states[c.State]++
	}
	if states["approved"] != 1 || states["stale"] != 2 {
		t.Errorf("states: %v", states)
	}
}

// A file that is applied while another one brings the rule is in force before
// the rule, or a proposal under it.
func TestApplyWhileTheRuleComes(t *testing.T) {
	for range 10 {
		r := configured(t)
		var wg sync.WaitGroup
		var brought, other api.Applied
		apply := func(source string, out *api.Applied) {
			status, answer := r.call(bo, "PUT", api.Prefix+"/config", source)
			if err := json.Unmarshal([]byte(answer), out); err != nil || status != http.StatusOK {
				t.Errorf("status %d: %s", status, answer)
			}
		}
		wg.Go(func() { apply(rule, &brought) })
		wg.Go(func() { apply(strings.Replace(lapseYAML, "8h", "4h", 1), &other) })
		wg.Wait()
		if brought.Proposal != "" || (other.Proposal == "") != (other.Version < brought.Version) {
			t.Fatalf("the rule: %+v; the other: %+v", brought, other)
		}
		if _, now, err := r.store.Config(t.Context()); err != nil || !now.TwoPersonChanges {
			t.Fatalf("the rule is gone: %v", err)
		}
	}
}

func TestChangesOnThePages(t *testing.T) {
	r := configured(t)
	const tab = `<a href="/changes"`
	if res := r.as(bo, "GET", "/", nil); strings.Contains(res.body, tab) {
		t.Error("there is a tab without the rule")
	}
	r.shows(r.as(bo, "GET", "/changes", nil), http.StatusOK, "wants one person", "Nothing waits for a decision")
	want[api.Applied](r, http.StatusOK, bo, "PUT", "/config", rule)
	r.shows(r.as(bo, "GET", "/", nil), http.StatusOK, tab)
	if res := r.as(ana, "GET", "/", nil); strings.Contains(res.body, tab) {
		t.Error("there is a tab for somebody who is no administrator")
	}

	const evil = `<script>alert(1)</script>`
	source := strings.NewReplacer("max_duration: 8h", "max_duration: 4h", "Use the read replica.", `"`+evil+`\u202egnp"`, "  - {email: eve@example.com, groups: [sales]}\n", "",
		"access_flows:\n", `access_flows:
  - name: backdoor
    requesters: {any: [{attribute: group, values: [platform]}]}
    targets: [{integration: crm, resources: ["role:*"], permissions: [member]}]
    max_duration: 99h
    approval: {steps: [{any_of: ["person:bo@example.com"]}]}
`).Replace(rule)
	id := r.proposes(bo, source)
	page := r.as(flo, "GET", "/changes", nil)
	r.shows(page, http.StatusOK, bo+" proposes 5 changes", "<del class=\"mono\">&#34;8h&#34;</del>", "<ins class=\"mono\">&#34;4h&#34;</ins>", "<strong>backdoor</strong>", "max_duration: &#34;99h&#34;",
		"approval.steps[0].any_of: [&#34;person:bo@example.com&#34;]", "groups: [&#34;sales&#34;]", `<span class="mono">order</span>`, `value="approve"`, `value="reject"`, "Compared with", "version 2")
	if strings.Contains(page.body, evil) || strings.Contains(page.body, "\u202e") || strings.Contains(page.body, `value="withdraw"`) {
		t.Errorf("what is in the file looks like something else, or too much can be done: %s", page.body)
	}
	own := r.as(bo, "GET", "/changes/"+id, nil)
	r.shows(own, http.StatusOK, `value="withdraw"`, "Another administrator has to approve it")
	if strings.Contains(own.body, `value="approve"`) {
		t.Error("who proposed it is offered to approve it")
	}
	if inline := regexp.MustCompile(`(?i)<style|\sstyle=|\son\w+=|javascript:|<script>`).FindString(page.body); inline != "" {
		t.Errorf("%q is in the page", inline)
	}

	r.shows(r.as(flo, "POST", "/changes/"+id, url.Values{"verdict": {"reject"}}), http.StatusUnprocessableEntity, "Say why", `aria-invalid="true"`)
	r.shows(r.as(flo, "POST", "/changes/"+id, url.Values{"verdict": {"shrug"}, "reason": {"typed"}}), http.StatusUnprocessableEntity, `class="fault"`, `value="typed"`)
	r.shows(r.as(bo, "POST", "/changes/"+id, url.Values{"verdict": {"approve"}}), http.StatusForbidden, `role="alert"`, "Nobody decides on a change of their own")
	r.shows(r.as(flo, "GET", "/changes/chg-0", nil), http.StatusNotFound)
	r.inForce(2)
	stale := r.proposes(bo, changed("5h"))
	res := r.as(flo, "POST", "/changes/"+id, url.Values{"verdict": {"approve"}, "reason": {"agreed"}})
	if res.status != http.StatusSeeOther || res.header.Get("Location") != "/changes/"+id {
		t.Errorf("approved: %d to %s: %s", res.status, res.header.Get("Location"), res.body)
	}
	r.inForce(3)
	r.shows(r.as(flo, "GET", "/changes/"+id, nil), http.StatusOK, "In force as", "version 3", "agreed", "backdoor")
	r.shows(r.as(bo, "GET", "/changes", nil), http.StatusOK, "Nothing waits", "approved by "+flo+": agreed", "stale")
	r.shows(r.as(flo, "GET", "/changes/"+stale, nil), http.StatusOK, "Apply the file anew")
	r.shows(r.as(flo, "POST", "/changes/"+stale, url.Values{"verdict": {"approve"}}), http.StatusConflict, "Propose it again")
}

// An approval counts also while Temporal is away, and says what is not done yet.
func TestApproveWhileTemporalIsAway(t *testing.T) {
	r := twoPersons(t, func(o *Options) { o.OnApply = func(context.Context) error { return fmt.Errorf("no connection") } })
	out := want[api.Change](r, http.StatusOK, flo, "POST", decision(r.proposes(bo, changed("4h"))), yes)
	if out.State != string(store.ProposalApproved) || !strings.Contains(out.Note, "apply it again") || len(out.Warnings) == 0 {
		t.Errorf("%+v", out)
	}
}
