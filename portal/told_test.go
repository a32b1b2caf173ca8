package portal

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/portal/api"
)

// TestTold shows what a kind says that the target would be told, in the API and
// in the form, and nothing where a grant would be refused.
func TestTold(t *testing.T) {
	var asked integrations.GrantRequest
	var of integrations.Target
	refuses := false
	r := configured(t, func(o *Options) {
		k := o.Kinds["database"]
		k.Told = func(target integrations.Target, req integrations.GrantRequest) ([]string, error) {
			of, asked = target, req
			if refuses {
				return nil, access.Errorf(access.Invalid, "no such name")
			}
			return []string{"GRANT <b>" + req.Want[0].String(), "PUT /x\n{}"}, nil
		}
		o.Kinds["database"] = k
	})
	in := api.Explain{Wants: ask().Wants, For: "1h"}
	before := time.Now()
	out := want[api.Explained](r, http.StatusOK, ana, "POST", "/explain", in)
	if lines := []string{"GRANT <b>schema:shop/public=read_only", "PUT /x\n{}"}; !slices.Equal(out.Grants[0].Told, lines) {
		t.Errorf("told: %q", out.Grants[0].Told)
	}
	if of.Secret != nil || of.Config == nil || of.Instance != r.store.Instance() || of.ID != asked.Account.Integration {
		t.Errorf("of the target the kind was told %+v", of)
	}
	if a := asked.Account; a.ID != access.AccountID(of.ID, a.PersonID) || a.Email != ana || asked.Sequence == 0 || asked.End.Before(before) {
		t.Errorf("it was asked for %+v", asked)
	}
	typed := url.Values{"want": {wantValue(ask().Wants[0])}, "for": {"1h"}, "reason": {"x"}}
	r.shows(r.as(ana, "POST", "/request", typed), http.StatusOK, "What the target is told", "<code>GRANT &lt;b&gt;schema:shop/public=read_only</code>")
	refuses = true
	if out := want[api.Explained](r, http.StatusOK, ana, "POST", "/explain", in); out.Grants[0].Told != nil || !strings.Contains(out.Grants[0].Means, "every") {
		t.Errorf("where it is refused: %+v", out.Grants)
	}
}
