package rediscloud

import (
	"cmp"
	"net/http"
	"regexp"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/principal"
)

var plainName = regexp.MustCompile(`^[a-z0-9_]+$`)

// lastResort deletes the user, with which the login and everything else goes;
// nobody else has its role. The API deletes by number, which a shell finds by the
// name: an account's has letters, digits and "_" only.
func lastResort() integrations.LastResort {
	return integrations.LastResort{
		Language: "sh",
		Head: func(t integrations.Target) (string, error) {
			c, err := integrations.ConfigOf[Config](t)
			if err != nil {
				return "", err
			}
			return integrations.ShellAPI(c.APIURL, "/", `header = "x-api-key: ..."`, `header = "x-api-secret-key: ..."`) + `# The numbers of the users with a name, one in a line.
lapse_users() { lapse_read "/acl/users" | tr -d ' \n' | tr '{}' '\n\n' | sed -n '/"name":"'"$1"'"/s/.*"id":\([0-9]*\).*/\1/p'; }
`, nil
		},
		Steps: func(t integrations.Target, req integrations.RevokeRequest) (string, error) {
			name := cmp.Or(req.Account.Name, principal.Account(t.Instance, t.ID, req.Account.PersonID, req.Account.Email))
			if !plainName.MatchString(name) {
				return "", access.Errorf(access.Invalid, "%q is no name of an account", name)
			}
			return "# Redis Cloud makes one change at a time: where this was not done, run it again.\n" +
				"for id in $(lapse_users " + integrations.ShellWord(name) + "); do lapse " + http.MethodDelete + ` "/acl/users/$id"; done` + "\n", nil
		},
	}
}
