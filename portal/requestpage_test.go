package portal

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/portal/api"
)

// TestAwaits tells a request that waits for a decision from one that waits for the
// person, and makes a link of nothing else than what is awaited.
func TestAwaits(t *testing.T) {
	for _, test := range []struct {
		name  string
		state access.State
		facts []string // of the grant; nil before there is one
		want  *awaited
	}{
		{"not decided yet", access.StatePending, nil, nil},
		{"invited", access.StatePending, []string{"https://evil.example", "awaits ana accepts the invitation", "https://github.com/acme/site/invitations"}, &awaited{"ana accepts the invitation", "https://github.com/acme/site/invitations"}},
		{"no page of the web", access.StatePending, []string{"awaits a call", "javascript:alert(1)"}, &awaited{What: "a call"}},
		{"granted", access.StateActive, []string{"awaits nothing"}, nil},
	} {
		h := api.Hold{State: test.state}
		if test.facts != nil {
			h.Evidence.Grant = &access.Evidence{Facts: test.facts}
		}
		v := requestView{Request: api.Request{State: test.state, Holds: []api.Hold{h}}}
		if diff := cmp.Diff(test.want, v.Awaits(h)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
		if v.Undecided() != (test.facts == nil) {
			t.Errorf("%s: undecided is %t", test.name, v.Undecided())
		}
		if changing(v.Request) != (test.want != nil) {
			t.Errorf("%s: the page looks again: %t", test.name, changing(v.Request))
		}
	}
}
