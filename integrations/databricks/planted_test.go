package databricks_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/internal/certificationtest"
)

// rewriting plants a mistake between the integration and the account: what matches
// in the body of a PATCH is something else.
func rewriting(pattern, other string) func(*certificationtest.Process) {
	return func(p *certificationtest.Process) {
		p.Harness.Observer.(*observer).behave(func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPatch {
				text, _ := io.ReadAll(r.Body)
				text = regexp.MustCompile(pattern).ReplaceAll(text, []byte(other))
				r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
			}
			return false
		})
	}
}

// TestSuiteCatches plants the bugs of every kind, and those that only this one can
// have.
func TestSuiteCatches(t *testing.T) {
	t.Parallel()
	certificationtest.Sharp(t, func(t *testing.T) *integrationtest.Harness {
		t.Parallel()
		return newBed(t).harness()
	},
		certificationtest.Bug{Name: "empties the group", Case: "exactly", Spoil: rewriting(`members\[value eq [^]]*\]`, "members")},
		certificationtest.Bug{Name: "sends a word where the API wants a list", Case: "exactly", Spoil: rewriting(`\[(\{"value":"[^"]*"\})\]`, "$1")},
		certificationtest.Bug{Name: "replaces the members by the one that it adds", Case: "exactly", Spoil: func(p *certificationtest.Process) {
			b, grant := p.Harness.Observer.(*observer).bed, p.Grant
			p.Grant = func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				res, err := grant(ctx, req)
				b.locked(func() {
					for _, g := range b.groups {
						if g.has(b.userOf(req.Account)) {
							m, _ := b.reference(b.userOf(req.Account))
							g.Members = append(g.Members[:0:0], m)
						}
					}
				})
				return res, err
			}
		}},
		certificationtest.Bug{Name: "takes groups for one that differ by case alone", Case: "absent", Spoil: func(p *certificationtest.Process) {
			grant := p.Grant
			p.Grant = func(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
				res, err := grant(ctx, req)
				if access.KindOf(err) == access.ResourceMissing && strings.EqualFold(req.Want[0].Resource.Path, "analysts") {
					req.Want = []access.Entitlement{in("analysts")}
					return grant(ctx, req)
				}
				return res, err
			}
		}},
	)
}
