package portal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/testsuite"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/activities"
	"github.com/lapse-access/lapse/internal/spec"
	"github.com/lapse-access/lapse/portal/api"
)

// activity runs one as Temporal does.
func activity[T any](run, arg any) (out T, err error) {
	suite := testsuite.WorkflowTestSuite{}
	suite.SetLogger(sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(run)
	v, err := env.ExecuteActivity(run, arg)
	if err == nil && v.HasValue() {
		err = v.Get(&out)
	}
	return out, err
}

// office is a directory and a flow that change by chance.
type office struct {
	*rand.Rand
	groups   map[string]string // by address
	disabled map[string]bool
	manager  string // of ana
	steps    string
}

func (o *office) one(of ...string) string { return of[o.IntN(len(of))] }

var desks = []string{ana, bo, cy, eve, "fay@example.com", "ana+x@example.com", "cy+x@example.com"}

func (o *office) change() {
	who := desks[2+o.IntN(len(desks)-2)] // bo stays administrator and owner
	switch o.IntN(4) {
	case 0:
		o.disabled[who] = !o.disabled[who]
	case 1:
		o.manager = o.one(desks...)
	default:
		o.groups[who] = o.one("dba", "sales", "platform", "security", "none")
	}
}

func (o *office) flow() {
	role := func() string {
		return `"` + o.one("integration_owner", "group:dba", "group:sales", "group:security", "manager", "person:cy@example.com", "person:fay@example.com") + `"`
	}
	var steps []string
	for range 1 + o.IntN(2) {
		step := fmt.Sprintf("any_of: [%s, %s], at_least: %d", role(), role(), 1+o.IntN(5)/4)
		if o.IntN(5) == 0 {
			step = fmt.Sprintf("all_of: [%s, %s]", role(), role())
		}
		if o.IntN(2) == 0 {
			step += fmt.Sprintf(", fallback: [%s]", role())
		}
		if o.IntN(3) == 0 {
			step += fmt.Sprintf(", escalate: [{after: 1h, to: [%s]}]", role())
		}
		steps = append(steps, "{"+step+"}")
	}
	o.steps = strings.Join(steps, ", ")
}

// yaml is lapseYAML with these people and this flow.
func (o *office) yaml() []byte {
	var people strings.Builder
	for _, who := range desks {
		fmt.Fprintf(&people, "  - {email: %s, groups: [%s], disabled: %v", who, o.groups[who], o.disabled[who])
		if who == ana {
			fmt.Fprintf(&people, ", attributes: {manager: %s}", o.manager)
		}
		people.WriteString("}\n")
	}
	head, rest, _ := strings.Cut(lapseYAML, "people:\n")
	_, rest, _ = strings.Cut(rest, "integrations:\n")
	rest = strings.Replace(rest, "steps: [{any_of: [integration_owner]}]", "steps: ["+o.steps+"]", 1)
	return []byte(head + "people:\n" + people.String() + "integrations:\n" + rest)
}

// Whatever the directory, the flow and what was decided before: for the same
// person at the same moment the API, the page of the request, the list of what
// waits, the inbox, and the one who puts decisions on record say the same.
func TestSurfacesAgree(t *testing.T) {
	r := configured(t)
	control := &activities.Control{Store: r.store, Temporal: r.temporal, PortalKey: r.keys.PortalPublic(), Log: slog.New(slog.DiscardHandler)}
	var recorded error
	r.temporal.onUpdate = func(d access.Decision) error {
		var done access.DecisionDone
		if done, recorded = activity[access.DecisionDone](control.RecordDecision, d); recorded != nil {
			return recorded
		}
		if d.Verdict == access.Approve && !done.Waits {
			return r.store.Record(context.Background(), []access.Change{{Event: access.Event{Key: access.NewID("ev"), Kind: "request.approved", RequestID: d.RequestID},
				Request: &access.RequestChange{ID: d.RequestID, State: access.StateApproved}}})
		}
		return nil
	}
	asked, may, mayNot, done := 0, 0, 0, 0
	for seed := range uint64(25) {
		o := &office{Rand: rand.New(rand.NewPCG(seed, 1)), groups: map[string]string{ana: "analytics", bo: "platform, dba", cy: "dba", eve: "sales", "fay@example.com": "security", "ana+x@example.com": "dba", "cy+x@example.com": "sales"},
			disabled: map[string]bool{}, manager: cy}
		o.flow()
		apply := func() bool {
			_, err := r.portal.Apply(t.Context(), "lapse.yaml", o.yaml())
			if _, faulty := errors.AsType[spec.Faults](err); err != nil && !faulty {
				t.Fatalf("seed %d: %v in %s", seed, err, o.yaml())
			}
			return err == nil // what leaves a role with nobody is refused
		}
		if !apply() {
			continue
		}
		status, answer := r.call(ana, "POST", api.Prefix+"/requests", ask())
		if status == http.StatusConflict && strings.Contains(answer, "nobody may approve") {
			continue
		}
		if status != http.StatusCreated {
			t.Fatalf("seed %d: %d %s", seed, status, answer)
		}
		asked++
		id := want[api.Requests](r, http.StatusOK, ana, "GET", "/requests?mine=true&state=pending&limit=1", nil).Requests[0].ID
		for round := range 6 {
			if o.IntN(2) == 0 {
				before := office{groups: maps.Clone(o.groups), disabled: maps.Clone(o.disabled), manager: o.manager}
				if o.change(); !apply() {
					o.groups, o.disabled, o.manager = before.groups, before.disabled, before.manager
				}
			}
			row, err := r.store.Request(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if row.State != access.StatePending {
				done++
				break
			}
			var list []string
			for _, who := range desks {
				if o.disabled[who] {
					continue
				}
				page := r.as(who, "GET", "/requests/"+id, nil)
				if page.status != http.StatusOK && page.status != http.StatusNotFound {
					t.Fatalf("seed %d: the page as %s: %d %s", seed, who, page.status, page.body)
				}
				offers := strings.Contains(page.body, `name="verdict" value="approve"`)
				inbox := r.as(who, "GET", "/inbox", nil).body
				waits := slices.ContainsFunc(want[api.Requests](r, http.StatusOK, who, "GET", "/requests?to_approve=true", nil).Requests, func(q api.Request) bool { return q.ID == id })
				p, err := r.store.PersonByEmail(t.Context(), who)
				if err != nil {
					t.Fatal(err)
				}
				if offers {
					list = append(list, who)
					may++
				} else {
					mayNot++
					// Neither who calls the API nor who reaches the workflow does more.
					status, answer := r.call(who, "POST", api.Prefix+"/requests/"+id+"/decisions", api.Decide{Verdict: access.Approve})
					if status != http.StatusForbidden && status != http.StatusNotFound {
						t.Fatalf("seed %d, round %d: the page offers %s no approval, and the API says %d %s\n%s", seed, round, who, status, answer, o.yaml())
					}
					d := access.Decision{RequestID: id, AskHash: row.Request.Hash(), Verdict: access.Approve, By: p.ID, ByEmail: who, Nonce: access.NewID("dec"), At: r.store.Now()}.Sign(r.keys.PortalKey)
					if _, err := activity[access.DecisionDone](control.RecordDecision, d); err == nil {
						t.Fatalf("seed %d, round %d: the page offers %s no approval, and it counts\n%s", seed, round, who, o.yaml())
					}
				}
				if waits != offers || strings.Contains(inbox, id) != offers {
					t.Fatalf("seed %d, round %d: as %s the page offers an approval: %v, to_approve lists it: %v, the inbox shows it: %v\n%s", seed, round, who, offers, waits, strings.Contains(inbox, id), o.yaml())
				}
			}
			shown := want[api.Request](r, http.StatusOK, ana, "GET", "/requests/"+id, nil)
			if slices.Sort(shown.Approvers); !slices.Equal(shown.Approvers, slices.Sorted(slices.Values(list))) {
				t.Fatalf("seed %d, round %d: it shows the approvers %v, and those who may are %v\n%s", seed, round, shown.Approvers, list, o.yaml())
			}
			if len(list) == 0 {
				continue
			}
			who := list[o.IntN(len(list))]
			status, answer := r.call(who, "POST", api.Prefix+"/requests/"+id+"/decisions", api.Decide{Verdict: access.Approve})
			if status != http.StatusOK || recorded != nil {
				t.Fatalf("seed %d, round %d: the page offers %s an approval, and the API says %d %s, the record %v", seed, round, who, status, answer, recorded)
			}
		}
		r.call(ana, "POST", api.Prefix+"/requests/"+id+"/release", api.Why{})
		if err := r.store.Record(t.Context(), []access.Change{{Event: access.Event{Key: access.NewID("ev"), Kind: "request.ended", RequestID: id}, Request: &access.RequestChange{ID: id, State: access.StateEnded}}}); err != nil {
			t.Fatal(err)
		}
	}
	if asked < 15 || may < 50 || mayNot < 100 || done < 10 {
		t.Errorf("too little was tried: %d requests, %d approvals offered and %d not, %d approved", asked, may, mayNot, done)
	}
}

// Who becomes the requester's manager after the request was made finds it among
// what waits, and the one before no more.
func TestAnotherManagerDecides(t *testing.T) {
	r := configured(t)
	o := &office{groups: map[string]string{ana: "analytics", bo: "platform, dba", cy: "sales", eve: "sales"}, disabled: map[string]bool{}, manager: cy, steps: "{any_of: [manager]}"}
	for _, manager := range []string{cy, eve} {
		o.manager = manager
		if _, err := r.portal.Apply(t.Context(), "lapse.yaml", o.yaml()); err != nil {
			t.Fatal(err)
		}
		if manager == cy {
			r.pending()
		}
		for _, who := range []string{cy, eve} {
			listed := want[api.Requests](r, http.StatusOK, who, "GET", "/requests?to_approve=true", nil).Requests
			if (len(listed) == 1) != (who == manager) {
				t.Errorf("the manager is %s, and %s has %d requests to approve", manager, who, len(listed))
			}
		}
	}
}
