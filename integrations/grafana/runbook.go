package grafana

import (
	"net/http"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/slot"
)

func lastResort() integrations.LastResort {
	return integrations.LastResort{
		Language: "sh",
		// A token says which organization is meant, a name and a password do not.
		Head: func(t integrations.Target) (string, error) {
			c, err := integrations.ConfigOf[Config](t)
			if err != nil {
				return "", err
			}
			return "# The secret is a token of a service account with the role Admin, made in the very organization.\n" +
				integrations.ShellAPI(c.baseURL(), "/org", `header = "Authorization: Bearer ..."`), nil
		},
		// Each level is set to what is owed, as somebody gave it whom Lapse found.
		Steps: func(t integrations.Target, req integrations.RevokeRequest) (string, error) {
			end, err := parse(req.End)
			if err != nil {
				return "", err
			}
			user, _ := ids(req.Account)
			if user == 0 {
				return "", access.Errorf(access.PersonMissing, "no answer of Grafana has said yet who %s is there", req.Account.Email).
					WithRemedy("look for the person in the organization, and take away what is listed here")
			}
			var b strings.Builder
			done := map[string]bool{} // by slot
			for _, t := range end {
				if done[t.key()] {
					continue
				}
				done[t.key()] = true
				wrote := req.Wrote[t.key()] // what Lapse did not write is somebody else's
				if next := t.ranks().End(wrote, wrote, t.ranks().Owed(on(req.Remain, t), t.Resource)); next.Change {
					b.WriteString(byHand(t, decimal(user), next))
				}
			}
			return b.String(), nil
		},
	}
}

// byHand is the call that lowers a level.
func byHand(t target, user string, next slot.End) string {
	switch {
	case t.Resource.Type == typeOrganization && next.Write == "":
		return integrations.ShellCall(http.MethodPatch, "/org/users/"+user, `{"role":"None"}`)
	case t.Resource.Type == typeOrganization:
		return integrations.ShellCall(http.MethodPatch, "/org/users/"+user, `{"role":"`+word(next.Write)+`"}`)
	case t.Resource.Type == typeTeam && next.Write == "":
		return integrations.ShellCall(http.MethodDelete, "/teams/"+t.id+"/members/"+user, "")
	case t.Resource.Type == typeTeam:
		return integrations.ShellCall(http.MethodPut, "/teams/"+t.id+"/members/"+user, `{"permission":0}`)
	}
	return integrations.ShellCall(http.MethodPost, "/access-control/"+t.sort.name+"/"+t.id+"/users/"+user, `{"permission":"`+word(next.Write)+`"}`)
}
