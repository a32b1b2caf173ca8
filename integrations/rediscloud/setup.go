package rediscloud

import (
	"fmt"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

// setup is what the instructions for the connector's keys are written for. The
// API cannot make keys.
type setup struct {
	ConnectorName string `json:"connector_name" doc:"name of the connector's user key" default:"lapse" minLength:"1"`
	CIDR          string `json:"cidr,omitempty" doc:"address range from which the connector comes" example:"203.0.113.7/32"`
}

// tiers are the two kinds of people to whom a key can belong that may use the
// API: https://redis.io/docs/latest/operate/rc/api/get-started/manage-api-keys/
func tiers(options any) ([]integrations.Tier, error) {
	o, ok := options.(*setup)
	if !ok {
		return nil, access.Errorf(access.Invalid, "the options are a %T", options)
	}
	script := func(role string) string {
		text := fmt.Sprintf(`In the Redis Cloud console:
1. Access Management, API Keys: enable the API, and copy the account key. It is api_key.
2. Access Management, Team: have a user for Lapse with the role %s.
3. Access Management, API Keys, Add: name the key %s and choose that user. It is secret_key.
`, role, o.ConnectorName)
		if o.CIDR != "" {
			text += fmt.Sprintf("4. Manage the key's CIDR allow list: %s.\n", o.CIDR)
		}
		return text
	}
	return []integrations.Tier{
		{Name: "discover", Doc: "Reads the catalog and what people hold, and changes nothing.", Operations: []string{"connect", "discover", "verify"}, Script: script("Viewer")},
		{Name: "full", Doc: "Everything. Redis Cloud has no smaller role that may change users and roles of databases: the key may also change and delete databases.",
			Operations: []string{"connect", "discover", "verify", "grant", "revoke", "rotate", "delete"}, Script: script("Owner")},
	}, nil
}
