package rabbitmq

import (
	"cmp"
	"net/http"
	"net/url"

	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/principal"
)

// lastResort is calls of the management API: they need no login on a node, and
// take a moment where each rabbitmqctl takes seconds.
func lastResort() integrations.LastResort {
	return integrations.LastResort{
		Language: "sh",
		Head: func(t integrations.Target) (string, error) {
			c, err := integrations.ConfigOf[Config](t)
			if err != nil {
				return "", err
			}
			return integrations.ShellAPI(c.base(), "/whoami", `user = "...:..."`), nil
		},
		// The user goes with its password, tags and permissions, and then its
		// connections: they do not end with it.
		Steps: func(t integrations.Target, req integrations.RevokeRequest) (string, error) {
			c, err := integrations.ConfigOf[Config](t)
			if err != nil {
				return "", err
			}
			email := req.Account.Email
			if c.OpaqueNames {
				email = ""
			}
			name := url.PathEscape(cmp.Or(req.Account.Name, principal.Account(t.Instance, t.ID, req.Account.PersonID, email)))
			return integrations.ShellCall(http.MethodDelete, "/users/"+name, "") +
				integrations.ShellCall(http.MethodDelete, "/connections/username/"+name, ""), nil
		},
	}
}
