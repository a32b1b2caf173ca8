package grafana

import (
	"fmt"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

// setup is what the scripts for the connector's service account are written for.
type setup struct {
	ConnectorName string `json:"connector_name" doc:"name of the connector's service account, and of its token" default:"lapse" pattern:"^[A-Za-z0-9_-]{1,60}$"`
	URL           string `json:"url" doc:"address of Grafana, with its sub-path" default:"https://grafana.example.com" minLength:"1"`
	BasicRole     string `json:"basic_role" doc:"basic role of the connector, which is the highest role in the organization that it can give; Admin on open-source Grafana" enum:"None,Viewer,Editor,Admin" default:"None"`
}

// preamble defines how the API is called.
const preamble = `# Write the login of an Admin for the dots, who is in the organization that it is about.
grafana_login='user = "...:..."'
grafana_api=%s
grafana() {
  printf '%%s\n' "$grafana_login" | curl --config - --silent --show-error --fail-with-body \
    --request "$1" --header 'Content-Type: application/json' --data-binary "$3" "$grafana_api$2"
}

`

// tiers write service accounts with a role of their own, which RBAC of Enterprise
// and Cloud allows, or one that is an Admin, which every edition has.
func tiers(options any) ([]integrations.Tier, error) {
	o, ok := options.(*setup)
	if !ok {
		return nil, access.Errorf(access.Invalid, "the options are a %T", options)
	}
	if strings.ContainsAny(o.URL, "\x00\r\n") {
		return nil, access.Errorf(access.Invalid, "%q is no address", o.URL)
	}
	full := ""
	if o.BasicRole != "Admin" {
		full = o.role("full", "discover", "verify", "grant")
	}
	return []integrations.Tier{{
		Name:       "discover",
		Doc:        "Reads the catalog and who has what, and changes nothing. Enterprise and Cloud.",
		Operations: []string{"connect", "discover", "verify"},
		Script:     o.account("None", o.role("discover", "discover", "verify")),
	}, {
		Name: "full",
		Doc: "Grants and revokes on data sources, folders, dashboards and teams, by a role with just those rights; leave organization out of resource_types then. Enterprise and Cloud. " +
			"With `--set basic_role=Editor` it gives roles in the organization too, none above that one. With `--set basic_role=Admin` it gives every role, and is an Admin, as it must be on open-source Grafana.",
		Operations: []string{"connect", "discover", "verify", "grant", "revoke"},
		Script:     o.account(o.BasicRole, full),
	}}, nil
}

// account is the script for a service account, with what comes before its token.
func (o *setup) account(role, then string) string {
	return fmt.Sprintf(preamble, integrations.ShellWord(strings.TrimRight(o.URL, "/")+"/api")) +
		`id=$(grafana POST /serviceaccounts '{"name":"` + o.ConnectorName + `","role":"` + role + `"}' | sed -n 's/.*"id":\([0-9]*\).*/\1/p')` + "\n" + then +
		"\n# The key in the answer is the token.\n" + `grafana POST "/serviceaccounts/$id/tokens" '{"name":"` + o.ConnectorName + `"}'` + "\n"
}

// role is the script for a role with the rights that some operations need.
func (o *setup) role(tier string, operations ...string) string {
	uid := o.ConnectorName + "_" + tier
	role := fmt.Sprintf("{\n  \"uid\": %q, \"name\": \"custom:%s:%s\", \"displayName\": \"Lapse: %s\", \"group\": \"Lapse\", \"permissions\": [\n    %s\n  ]\n}",
		uid, o.ConnectorName, tier, tier, strings.Join(o.rights(operations), ",\n    "))
	return "grafana POST /access-control/roles " + integrations.ShellWord(role) + "\n" +
		"grafana PUT /access-control/roles/" + uid + `/assignments '{"service_accounts":['"$id"']}'` + "\n"
}

// rights are those that some operations need, on everything.
func (o *setup) rights(operations []string) (all []string) {
	add := func(action, scope string) {
		if scope != "" {
			scope = fmt.Sprintf(`, "scope": %q`, scope)
		}
		all = append(all, fmt.Sprintf(`{"action": %q%s}`, action, scope))
	}
	add(rightPeople, "users:*")
	add(rightOrganization, "")
	for _, operation := range operations {
		for _, n := range needs {
			switch {
			case n.operation != operation:
			case n.typ != typeOrganization:
				add(n.action, sorts[n.typ].name+":*")
			case o.BasicRole != "None":
				add(n.action, "users:*")
				add("serviceaccounts:read", "serviceaccounts:*") // its own role
			}
		}
	}
	return all
}
