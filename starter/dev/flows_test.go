package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/portal/api"
)

// More people of these tests.
const (
	ned  = "ned@example.com"  // approves where a flow names him
	olga = "olga@example.com" // owns what nobody else owns, and may ask
)

// reviewed is how long a review of these tests may take.
const reviewed = 15 * time.Second

// flows are the access flows of these tests.
const flows = `access_flows:
  - name: readers
    requesters: {any: [{attribute: group, values: [analytics]}]}
    targets: [{integration: prod-pg, resources: ["schema:shop/public", "schema:shop/reporting"], permissions: [read_only]}]
    max_duration: 2h
    schedule_ahead: 1h
    approval: {steps: [{any_of: [integration_owner]}], expires_after: 1h}
  - name: writers
    requesters: {any: [{attribute: group, values: [analytics]}]}
    targets: [{integration: prod-pg, resources: ["schema:shop/reporting"], permissions: [read_write]}]
    max_duration: 10m
    fields: [{name: ticket, title: Ticket}]
    approval:
      steps:
        - {name: owner, any_of: [integration_owner]}
        - {name: platform, any_of: ["person:ned@example.com"], escalate: [{after: 8s, to: ["group:platform", "group:dba"]}]}
      expires_after: 1h
  - name: emergency
    trigger: break_glass
    requesters: {any: [{attribute: group, values: [analytics]}]}
    targets: [{integration: prod-pg, resources: ["schema:shop/public"], permissions: [read_write]}]
    max_duration: 5m
    approval: {steps: [{any_of: ["person:dan@example.com"]}], expires_after: %s}
  - name: owned
    requesters: {any: [{attribute: group, values: [analytics, solo]}]}
    targets: [{integration: prod-pg, resources: ["schema:shop/solo"], permissions: [read_only]}]
    max_duration: 10m
    approval: {steps: [{any_of: [resource_owner], fallback: ["person:ned@example.com"]}], expires_after: 1h}
  - name: orphans
    requesters: {any: [{attribute: group, values: [analytics]}]}
    targets: [{integration: prod-pg, resources: ["schema:shop/orphan"], permissions: [read_only]}]
    max_duration: 10m
    approval: {steps: [{any_of: [resource_owner]}], expires_after: 1h}
`

// TestFlows has people ask, decide and review by access flows of all sorts, in a
// browser, while Lapse is killed.
func TestFlows(t *testing.T) {
	chromium(t)
	endToEnd(t, []part{
		{"two steps and an escalation", twoSteps},
		{"shortened, and something left out", narrowed},
		{"the glass is broken", glass},
		{"a scheduled start", scheduled},
		{"owners who are not there", fallbacks},
	}, func(yaml string, _ []byte) string {
		head, _, _ := strings.Cut(yaml, "access_flows:")
		head = strings.Replace(head, "integrations:", "  - {email: ned@example.com, groups: [security]}\n  - {email: olga@example.com, groups: [solo]}\nintegrations:", 1)
		return head + fmt.Sprintf(flows, reviewed)
	})
}

func want(schema, permission string) api.Want {
	return api.Want{Integration: "prod-pg", Resource: "schema:shop/" + schema, Permission: permission}
}

// send makes a request by the API.
func (s *system) send(as string, in api.NewRequest) (out api.Request, failed api.Problem) {
	s.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://"+s.setting("LAPSE_PORTAL")+api.Prefix+"/requests", bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(api.HeaderAs, as)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	into := any(&out)
	if res.StatusCode != http.StatusCreated {
		into = &failed
	}
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		s.t.Fatalf("%s: %v", res.Status, err)
	}
	return out, failed
}

// sent is the id of a request that is taken.
func (s *system) sent(as string, in api.NewRequest) string {
	s.t.Helper()
	out, failed := s.send(as, in)
	if out.ID == "" {
		s.t.Fatalf("refused: %+v", failed)
	}
	return out.ID
}

// reads is an error unless a login reads a table.
func (s *system) reads(c access.Credential, table string) error {
	conn, err := s.login(c)
	if err != nil {
		return err
	}
	var n int
	return conn.QueryRow(s.t.Context(), `select count(*) from `+table).Scan(&n)
}

// again opens a page until it says something.
func (b *browser) again(path, words string) {
	b.t.Helper()
	for end := time.Now().Add(pageTime); ; {
		b.open(path)
		if strings.Contains(b.text(), words) {
			return
		}
		if time.Now().After(end) {
			b.t.Fatalf("%s does not say %q: %s", path, words, b.text())
		}
		time.Sleep(300 * time.Millisecond)
	}
}

// twoSteps is an approval in two steps. Who should decide on the second one does
// not answer, Lapse is killed, and it goes on to somebody else.
func twoSteps(t *testing.T, s *system) {
	id := s.sent(ana, api.NewRequest{Wants: []api.Want{want("reporting", "read_write")}, For: "5m", Reason: "The targets of next year", Fields: map[string]string{"ticket": "OPS-7"}})
	b := s.browser()
	b.signIn(dan)
	b.open("/inbox")
	b.says("OPS-7")
	b.says("Step 1 of 2: owner")
	b.picture("flow-inbox-first-step")
	b.click(`button[value="approve"]`)
	b.says("Your approval counts. The request of " + ana + " waits for " + ned + ", step 2 of 2: platform.")
	b.open("/requests/" + id)
	b.says("Done by " + dan)
	b.says("Waits for " + ned)
	b.picture("flow-second-step")
	s.kill()
	s.start()

	b.signIn(root)
	b.again("/inbox", "escalated to you")
	b.says("The targets of next year")
	b.says("Step 2 of 2: platform")
	b.picture("flow-inbox-escalated")

	// Who did the first step is of those to whom it escalates, and counts once.
	if text := s.must(dan, "requests", "--to-approve"); strings.Contains(text, id) {
		t.Errorf("it waits for who approved before: %s", text)
	}
	if _, err := s.lapse(dan, "approve", id); err == nil {
		t.Error("the same person approved twice")
	}

	b.click(`a[href="/requests/` + id + `"]:not(.little)`)
	b.says("Your decision")
	b.picture("flow-decide-second-step")
	b.click(`button[value="approve"]`)
	b.says("The request of " + ana + " is")
	s.wait(id, access.StateActive, 20*time.Second)
	b.signIn(ana)
	b.open("/requests/" + id)
	b.says("Done by " + root)
	b.picture("flow-two-steps-active")
	c := s.credentials(ana, id)
	if err := s.reads(c, "reporting.targets"); err != nil {
		t.Error(err)
	}
	s.must(ana, "release", id)
	s.wait(id, access.StateEnded, 20*time.Second)
}

// narrowed is a request of two permissions, of which one is given, for less time.
func narrowed(t *testing.T, s *system) {
	id := s.sent(ana, api.NewRequest{Wants: []api.Want{want("public", "read_only"), want("reporting", "read_only")}, For: "1h", Reason: "A look at both"})
	b := s.browser()
	b.signIn(dan)
	b.open("/requests/" + id)
	b.fill("#for", "3h")
	b.click(`form[action$="/decisions"] input[value*="reporting"][type=checkbox]`)
	b.fill("#reason", "the first is enough")
	b.click(`button[value="approve"]`)
	b.says("Want a duration of at most 1h")
	b.until(`document.querySelector("#for").value == "3h" && document.querySelector("#reason").value == "the first is enough" && document.querySelectorAll("input[name=keep]:checked").length == 1`)
	b.picture("flow-decide-with-a-fault")
	b.click(`input[name=keep]:checked`)
	b.fill("#for", "10m")
	b.click(`button[value="approve"]`)
	b.says("Nothing would be left")
	b.tabTo(`input[name=keep][value*="public"]`) // by keyboard alone
	b.press(" ")
	b.tabTo("#for")
	b.press("10m")
	b.tabTo(`button[value="approve"]`)
	b.press("\r")
	b.says("The request of " + ana + " is")
	r := s.wait(id, access.StateActive, 20*time.Second)
	for _, h := range r.Holds {
		switch {
		case strings.HasSuffix(h.Resource, "public"):
			if h.State != access.StateActive || h.EndsAt.Sub(h.StartsAt).Round(time.Second) != 10*time.Minute {
				t.Errorf("what was approved: %+v", h)
			}
		case h.State != access.StateDenied || h.Evidence.Grant != nil:
			t.Errorf("what was left out: %+v", h)
		}
	}
	c := s.credentials(ana, id)
	if err := s.reads(c, "public.orders"); err != nil {
		t.Error(err)
	}
	if err := s.reads(c, "reporting.targets"); !denied(err) {
		t.Errorf("reading what was left out: %v", err)
	}
	b.signIn(ana)
	b.open("/requests/" + id)
	b.says("An approver left it out")
	b.says("10m, of 1h that were asked for")
	b.says("It cannot be extended beyond that")
	b.picture("flow-narrowed")
	if _, err := s.lapse(ana, "extend", id, "--by", "5m"); err == nil || !strings.Contains(err.Error(), "less than was asked for") {
		t.Errorf("an extension of what was shortened: %v", err)
	}
	b.click(`form[action$="/release"] button`)
	s.wait(id, access.StateEnded, 20*time.Second)
}

// glass is access that somebody takes at once, and its review.
func glass(t *testing.T, s *system) {
	emergency := api.NewRequest{Wants: []api.Want{want("public", "read_write")}, For: "4m", Reason: "The shop sells nothing", Options: api.Options{BreakGlass: true}}
	id := s.sent(ana, emergency)
	taken := time.Now()
	s.wait(id, access.StateActive, 20*time.Second)
	conn, err := s.login(s.credentials(ana, id))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `update public.products set price = price where id = 1`); err != nil {
		t.Error(err)
	}
	b := s.browser()
	b.signIn(ana)
	b.says("You broke the glass; the review is due until")
	b.open("/requests/" + id)
	b.says("The glass was broken.")
	b.says("The review is due until")
	b.picture("flow-glass-active")
	for _, who := range []string{root, dan} { // who administrates sees it, and who reviews
		b.signIn(who)
		b.again("/inbox", "broke the glass")
	}
	b.says("To review")
	b.picture("flow-inbox-review")
	s.must(ana, "release", id)
	s.wait(id, access.StateEnded, 20*time.Second)

	time.Sleep(time.Until(taken.Add(reviewed + 2*time.Second)))
	if _, failed := s.send(ana, emergency); failed.Status != http.StatusForbidden || !strings.Contains(failed.Detail, "overdue") {
		t.Errorf("the glass is broken before the review: %+v", failed)
	}
	b.signIn(dan)
	b.open("/inbox")
	b.says("overdue since")
	b.open("/requests/" + id)
	b.says("The review is overdue")
	must[bool](b, `document.querySelector("#reason").required = false, true`) // what no browser lets through
	b.click(`button[value="justify"]`)
	b.says("Say what you found")
	b.picture("flow-review")
	b.fill("#reason", "sales stood still, see OPS-8")
	b.click(`button[value="justify"]`)
	b.says("the review is complete")
	b.says("it was right")
	b.picture("flow-reviewed")
	b.open("/inbox")
	b.says("Nothing waits for you")

	second := s.sent(ana, emergency)
	s.wait(second, access.StateActive, 20*time.Second)
	b.signIn(dan)
	b.open("/inbox")
	b.fill(`input[name="reason"]`, "nothing was wrong")
	b.click(`button[value="object"]`)
	b.says("Your objection is on record")
	b.open("/requests/" + second)
	b.says("The review says that it was not right")
	b.picture("flow-objected")
	b.fill("#why", "it was not needed")
	b.click(`form[action$="/revoke"] button`)
	s.wait(second, access.StateEnded, 20*time.Second)
}

// scheduled is access that begins later, also after a kill in between, and some
// that is withdrawn before it begins.
func scheduled(t *testing.T, s *system) {
	s.gone(time.Minute)
	begins := time.Now().Add(20 * time.Second).Truncate(time.Second)
	later := time.Now().Add(30 * time.Minute)
	id := s.sent(ana, api.NewRequest{Wants: []api.Want{want("public", "read_only")}, For: "5m", Reason: "The report of tonight", Options: api.Options{StartAt: &begins}})
	other := s.sent(ana, api.NewRequest{Wants: []api.Want{want("reporting", "read_only")}, For: "5m", Reason: "The report of tomorrow", Options: api.Options{StartAt: &later}})
	b := s.browser()
	b.signIn(dan)
	b.open("/inbox")
	b.says("to begin")
	b.picture("flow-inbox-scheduled")
	b.click(`form[action*="` + id + `"] button[value="approve"]`)
	b.says("is approved. It begins in")
	s.must(dan, "approve", other)

	b.signIn(ana)
	b.says("Approved, begins")
	b.picture("flow-scheduled-my-access")
	b.open("/requests/" + id)
	b.says("until it begins")
	b.picture("flow-scheduled")
	if left := s.ours(); left != "" {
		t.Errorf("on the database before it begins: %s", left)
	}
	if _, err := s.lapse(ana, "credentials", id); err == nil {
		t.Error("there is a login before it begins")
	}
	s.kill()
	s.start()
	b.signIn(ana)
	b.open("/requests/" + other)
	b.says("Withdraw the request")
	b.click(`form[action$="/release"] button`)
	b.says("It has ended.")
	b.picture("flow-withdrawn")

	r := s.wait(id, access.StateActive, time.Minute)
	if early := begins.Sub(r.Holds[0].StartsAt); early > 0 {
		t.Errorf("it began %s early", early)
	}
	c := s.credentials(ana, id)
	if err := s.reads(c, "public.orders"); err != nil {
		t.Error(err)
	}
	if err := s.reads(c, "reporting.targets"); !denied(err) {
		t.Errorf("reading what was withdrawn: %v", err)
	}
	b.open("/requests/" + id)
	b.says("left, until")
	s.must(ana, "release", id)
	s.wait(id, access.StateEnded, 20*time.Second)
}

// fallbacks has requests whose owner is the requester, is gone, or was never there.
func fallbacks(t *testing.T, s *system) {
	s.adminExec(`create schema solo authorization shop_owner; comment on schema solo is 'owner=solo'`)
	s.adminExec(`create schema orphan authorization shop_owner; comment on schema orphan is 'owner=nobody'`)
	s.must(dan, "discover", "prod-pg")
	approved := func(b *browser, id string) {
		b.signIn(ned)
		b.open("/inbox")
		b.click(`form[action*="` + id + `"] button[value="approve"]`)
		s.wait(id, access.StateActive, 20*time.Second)
	}
	b := s.browser()
	own := s.sent(olga, api.NewRequest{Wants: []api.Want{want("solo", "read_only")}, For: "5m", Reason: "My own schema"})
	b.signIn(olga)
	b.open("/requests/" + own)
	b.says("Waits for " + ned)
	approved(b, own)
	s.must(olga, "release", own)

	others := s.sent(ana, api.NewRequest{Wants: []api.Want{want("solo", "read_only")}, For: "5m", Reason: "Somebody else's schema"})
	b.signIn(ana)
	b.open("/requests/" + others)
	b.says("Waits for " + olga)
	file := s.args[1]
	gone := strings.Replace(s.yaml, "groups: [solo]}", "groups: [solo], disabled: true}", 1)
	if err := os.WriteFile(file, []byte(gone), 0o600); err != nil {
		t.Fatal(err)
	}
	s.must(root, "apply", "-f", file)
	b.again("/requests/"+others, "Waits for "+ned)
	approved(b, others)
	s.must(ana, "release", others)
	s.wait(others, access.StateEnded, 20*time.Second)

	orphan := want("orphan", "read_only")
	b.signIn(ana)
	b.open("/request?" + url.Values{"for": {"5m"}, "reason": {"Nobody's schema"},
		"want": {url.Values{"integration": {orphan.Integration}, "resource": {orphan.Resource}, "permission": {orphan.Permission}}.Encode()}}.Encode())
	b.says("nobody is resource_owner")
	b.picture("flow-nobody-decides")
	if _, failed := s.send(ana, api.NewRequest{Wants: []api.Want{orphan}, For: "5m", Reason: "Nobody's schema"}); failed.Status != http.StatusConflict {
		t.Errorf("a request on which nobody can decide: %+v", failed)
	}
	s.gone(time.Minute)
}
