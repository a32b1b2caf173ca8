package databricks

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/databricks/databricks-sdk-go/service/iam"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

// setup is what the scripts for the connector's service principal are written
// for.
type setup struct {
	ConnectorName  string          `json:"connector_name" doc:"display name of the connector's service principal" default:"lapse" minLength:"1"`
	SecretLifetime access.Duration `json:"secret_lifetime" doc:"how long the secret lives; Databricks takes at most two years" default:"8760h" minimum:"1h" maximum:"17520h"`
}

// tiers writes the scripts, for the vendor's command line:
// https://docs.databricks.com/aws/en/dev-tools/cli/reference/account-commands
func tiers(options any) ([]integrations.Tier, error) {
	o, ok := options.(*setup)
	if !ok {
		return nil, access.Errorf(access.Invalid, "the options are a %T", options)
	}
	if strings.ContainsAny(o.ConnectorName, "\x00\r\n") {
		return nil, access.Errorf(access.Invalid, "%q: Databricks has no such name", o.ConnectorName)
	}
	role, err := json.Marshal(patching("", iam.Patch{Op: iam.PatchOpAdd, Path: "roles", Value: []iam.ComplexValue{{Value: accountAdmin}}}))
	if err != nil {
		return nil, access.Errorf(access.Invalid, "the request cannot be written")
	}
	return []integrations.Tier{{
		Name: "full",
		Doc: "Reads people and groups, and changes the members of groups: Databricks lets account admins do that for every group. " +
			"They can also do everything else in the account, so keep the secret where only the connector reads it.",
		Operations: []string{"connect", "discover", "grant", "revoke"},
		Script: "# As an account admin: databricks auth login --host https://accounts.cloud.databricks.com --account-id ACCOUNT\n\n" +
			"# The connector's service principal. Note its id and its applicationId, which is client_id.\n" +
			"databricks account service-principals create --active --display-name " + integrations.ShellWord(o.ConnectorName) + "\n\n" +
			"# Let it manage groups: its id in place of ID.\n" +
			"databricks account service-principals patch ID --json '" + string(role) + "'\n\n" +
			"# Its secret, which is client_secret. It is shown once.\n" +
			"databricks account service-principal-secrets create ID --lifetime " + strconv.Itoa(int(o.SecretLifetime.Std().Seconds())) + "s\n",
	}}, nil
}
