package databricks

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

// lastResort is the PATCH of a revoke, by an account admin. Where Databricks does
// not take it, because it was done before, the group has to show so.
func lastResort() integrations.LastResort {
	return integrations.LastResort{
		Language: "sh",
		Head: func(t integrations.Target) (string, error) {
			c, err := integrations.ConfigOf[Config](t)
			if err != nil {
				return "", err
			}
			host := strings.TrimRight(c.AccountsURL, "/")
			return "# As an account admin. The secret is what this says: databricks auth token --host " + integrations.ShellWord(host) + " --account-id " + integrations.ShellWord(c.AccountID) + "\n" +
				integrations.ShellAPI(host+"/api/2.0/accounts/"+url.PathEscape(c.AccountID)+"/scim/v2", "/Groups?count=1", `header = "Authorization: Bearer ..."`), nil
		},
		Steps: func(_ integrations.Target, req integrations.RevokeRequest) (steps string, err error) {
			for _, e := range req.End {
				if slices.ContainsFunc(req.Remain, func(c access.Claim) bool { return c.Entitlement == e }) {
					continue
				}
				for _, m := range ours(req.Wrote, e) {
					body, err := json.Marshal(patching(m.group, removal(m.user)))
					if err != nil {
						return "", access.Errorf(access.Invalid, "the request cannot be written")
					}
					steps += strings.TrimSuffix(integrations.ShellCall(http.MethodPatch, "/Groups/"+m.group, string(body)), "\n") +
						" || { lapse_group=$(lapse_read /Groups/" + m.group + ") && case $lapse_group in *'\"" + m.user + "\"'*) false ;; *) echo \"done before\" ;; esac; }\n"
				}
			}
			return steps, nil
		},
	}
}
