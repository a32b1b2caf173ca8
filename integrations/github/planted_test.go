package github_test

import (
	"bytes"
	"context"
	"net/http"
	"regexp"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/internal/certificationtest"
)

var trueRole = regexp.MustCompile(`"roleName":"[a-z]*"`)

// TestSuiteCatches plants the bugs of every kind, and those that only this one can
// have.
func TestSuiteCatches(t *testing.T) {
	t.Parallel()
	// between changes what goes between the integration and GitHub.
	between := func(name, found string, plant func(h *hub)) certificationtest.Bug {
		return certificationtest.Bug{Name: name, Case: found, Spoil: func(p *certificationtest.Process) {
			h := p.Harness.Observer.(*observer).hub
			h.Locked(func() { plant(h) })
		}}
	}
	certificationtest.Sharp(t, func(t *testing.T) *integrationtest.Harness {
		t.Parallel()
		return newBed(t).harness()
	},
		between("reads the permission into which levels are folded", "levels", func(h *hub) {
			h.Bend = func(answer []byte) []byte { return trueRole.ReplaceAll(answer, []byte(`"roleName":null`)) }
		}),
		between("takes what a team gives for the person's own", "inherited", func(h *hub) {
			h.Bend = func(answer []byte) []byte {
				return bytes.ReplaceAll(answer, []byte(`"__typename":"Team"`), []byte(`"__typename":"Repository"`))
			}
		}),
		between("forgets to withdraw the invitation", "cancelled", func(h *hub) {
			h.Ignores = func(r *http.Request, _ []byte) bool {
				return r.Method == http.MethodDelete && invitationPath.MatchString(r.URL.Path)
			}
		}),
		between("gives triage for read", "exactly", func(h *hub) {
			h.Ignores = func(_ *http.Request, body []byte) bool { return bytes.Contains(body, []byte(`"pull"`)) }
		}),
		certificationtest.Bug{Name: "takes an invitation for access", Case: "pending", Spoil: func(p *certificationtest.Process) {
			grant := p.Grant
			p.Grant = func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				res, err := grant(ctx, req)
				for n := range res.Entries {
					res.Entries[n].Outcome = access.Granted
				}
				return res, err
			}
		}},
		certificationtest.Bug{Name: "takes the first of two people", Case: "unknown-people", Spoil: func(p *certificationtest.Process) {
			grant, h := p.Grant, p.Harness.Observer.(*observer).hub
			p.Grant = func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				h.Locked(func() {
					if twin := h.FindUser("twin-two"); twin != nil {
						twin.Public = ""
					}
				})
				return grant(ctx, req)
			}
		}},
	)
}

var invitationPath = regexp.MustCompile(`/invitations/[0-9]+$`)
