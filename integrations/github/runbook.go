package github

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/slot"
)

// lastResort is calls of the REST API. People are found by their numbers, which
// survive a new login, and invitations by whom they are for.
func lastResort() integrations.LastResort {
	return integrations.LastResort{
		Language: "sh",
		Head: func(t integrations.Target) (string, error) {
			c, err := integrations.ConfigOf[Config](t)
			if err != nil {
				return "", err
			}
			return integrations.ShellAPI(c.APIURL, "/orgs/"+segment(c.Organization), `header = "Authorization: Bearer ..."`, `header = "X-GitHub-Api-Version: 2022-11-28"`) + `# The present login of a number.
lapse_login_of() { lapse_read "/user/$1" | tr -d ' \n' | tr ',{}' '\n\n\n' | sed -n 's/^"login":"\(.*\)"$/\1/p' | head -n 1; }
# The numbers of the invitations to a repository that are for a number, one in a line.
lapse_invitations() {
  lapse_read "/repos/$1/invitations?per_page=100" | tr -d ' \n' | tr ',{}' '\n\n\n' | awk -v id="\"id\":$2" '
    /^"invitee":/ { invitee = 1; hit = 0 } /^"inviter":/ { invitee = 0 } invitee && $0 == id { hit = 1 }
    hit && /^"url":.*repository-invitations\/[0-9]+"$/ { gsub(/.*\/|"/, ""); print; hit = 0 }'
}
`, nil
		},
		Steps: steps,
	}
}

func steps(t integrations.Target, req integrations.RevokeRequest) (string, error) {
	c, err := integrations.ConfigOf[Config](t)
	if err != nil {
		return "", err
	}
	i := &integration{id: t.ID, config: *c}
	end, err := i.parse(req.End)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, group := range bySpot(end) {
		where := group[0].at
		for _, key := range writtenAt(req.Wrote, where) {
			_, id, number := splitKey(key)
			fmt.Fprintf(&b, "login=$(lapse_login_of %d)\n", number)
			owed := i.owed(slot.Ladder(ladders[where.typ]...), req.Remain, where).All
			path, body := "", ""
			switch where.typ {
			case typeRepository:
				repository := segment(c.Organization) + "/" + segment(where.name)
				fmt.Fprintf(&b, "for id in $(lapse_invitations %s %d); do lapse %s \"/repos/%s/invitations/$id\"; done\n", repository, number, http.MethodDelete, repository)
				path = "/repos/" + repository + "/collaborators/"
				body = `{"permission": ` + strconv.Quote(apiName(owed)) + `}`
			case typeTeam:
				path, body = "/orgs/"+segment(c.Organization)+"/teams/"+segment(where.name)+"/memberships/", `{"role": `+strconv.Quote(owed)+`}`
			case typeOrganization:
				path, body, owed = "/orgs/"+segment(c.Organization)+"/memberships/", `{"role": "member"}`, "member"
			case typeRole:
				if owed != "" {
					continue
				}
				if _, err := strconv.ParseInt(id, 10, 64); err != nil {
					return "", access.Errorf(access.Invalid, "%q is no slot of GitHub", key)
				}
				fmt.Fprintf(&b, "lapse %s /orgs/%s/organization-roles/users/\"$login\"/%s\n", http.MethodDelete, segment(c.Organization), id)
				continue
			}
			if owed == "" {
				fmt.Fprintf(&b, "lapse %s %s\"$login\"\n", http.MethodDelete, integrations.ShellWord(path))
			} else {
				fmt.Fprintf(&b, "lapse %s %s\"$login\" %s\n", http.MethodPut, integrations.ShellWord(path), integrations.ShellWord(body))
			}
		}
	}
	return b.String(), nil
}
