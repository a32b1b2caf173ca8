package rabbitmq

import (
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

// setup is what the scripts for the connector's user are written for.
type setup struct {
	ConnectorName string   `json:"connector_name" doc:"user of the connector" default:"lapse" minLength:"1"`
	Vhosts        []string `json:"vhosts,omitempty" doc:"virtual hosts that a connector reads which is no administrator" example:"shop" minLength:"1"`
}

// tiers writes the scripts that give a connector its rights. RabbitMQ knows no
// right to manage users but that of the administrator. Permissions in a virtual
// host are not needed for that.
func tiers(options any) ([]integrations.Tier, error) {
	o, ok := options.(*setup)
	if !ok {
		return nil, access.Errorf(access.Invalid, "the options are a %T", options)
	}
	me := integrations.ShellWord(o.ConnectorName)
	for _, name := range append([]string{o.ConnectorName}, o.Vhosts...) {
		if strings.ContainsAny(name, "\x00\r\n") {
			return nil, access.Errorf(access.Invalid, "%q: RabbitMQ has no such name", name)
		}
	}
	script := func(why, tag string) string {
		return "# The connector's user. rabbitmqctl asks for its password.\nrabbitmqctl add_user " + me + "\n\n" +
			"# " + why + "\nrabbitmqctl set_user_tags " + me + " " + tag + "\n"
	}
	discover := script("Uses the management API.", "management") + "\n# For each virtual host: may connect to it, and so read what is in it, and do nothing there.\n"
	for _, v := range o.Vhosts {
		discover += reading(v, o.ConnectorName) + "\n"
	}
	if len(o.Vhosts) == 0 {
		discover += "# (none was named: --set vhosts=NAME)\n"
	}
	return []integrations.Tier{{
		Name:       "discover",
		Doc:        "Reads the catalog of the virtual hosts that are named and gives nothing.",
		Operations: []string{"connect", "discover"},
		Script:     discover,
	}, {
		Name:       "full",
		Doc:        "Grants, revokes, changes credentials, closes connections and deletes accounts: RabbitMQ has one tag for all of that. It needs no permission in any virtual host.",
		Operations: []string{"connect", "discover", "grant", "revoke", "end_sessions"},
		Script:     script("Manages users, their permissions and their connections, and reads every virtual host.", "administrator"),
	}}, nil
}

// reading lets a user see what is in a virtual host.
func reading(vhost, name string) string {
	return "rabbitmqctl set_permissions -p " + integrations.ShellWord(vhost) + " " + integrations.ShellWord(name) + " '^$' '^$' '^$'"
}
