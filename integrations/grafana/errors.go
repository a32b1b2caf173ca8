package grafana

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/httpapi"
)

// meaning is what an answer says to Lapse.
type meaning struct {
	status int
	// said is a part of the messageId or of the message; "" for every other.
	said   string
	kind   access.ErrorKind
	text   string
	remedy string
}

const (
	tokenRemedy  = "make another token for the service account, and give it to the connector"
	syncedRemedy = "have the identity provider change it, or set skip_org_role_sync in Grafana's configuration"
	roleRemedy   = "give the connector's service account the basic role Admin"
	// saidLastAdmin is how Grafana refuses to demote the last Admin.
	saidLastAdmin = "no organization admin left"
	saidAdded     = "already added to this team"
)

// meanings are looked through in order:
// https://grafana.com/docs/grafana/latest/developer-resources/api-reference/http-api/
var meanings = []meaning{
	{http.StatusUnauthorized, "", access.Auth, "Grafana refuses the token", tokenRemedy},
	{http.StatusForbidden, "externallySynced", access.ExternallyManaged, "the person's role comes from an identity provider", syncedRemedy},
	{http.StatusForbidden, "externally synced", access.ExternallyManaged, "the person's role comes from an identity provider", syncedRemedy},
	{http.StatusForbidden, "role higher than", access.Privilege, "the connector cannot give a role that is higher than its own", roleRemedy},
	{http.StatusBadRequest, saidLastAdmin, access.Limit, "the organization would have no Admin left", "make somebody else an Admin"},
	{http.StatusBadRequest, saidAdded, access.Conflict, "the person became a member meanwhile", ""},
	{http.StatusBadRequest, "assignmentEntityNotFound", access.PersonMissing, "the person is not in the organization any more", ""},
	{http.StatusBadRequest, "invalidPermission", access.Unsupported, "this Grafana has no such level", ""},
	{http.StatusBadRequest, "xternal", access.ExternallyManaged, "an identity provider manages it", syncedRemedy},
	{http.StatusMethodNotAllowed, "", access.Unsupported, "this Grafana's API cannot do it", "upgrade Grafana"},
}

// action is a right, as Grafana names those that are missing.
var action = regexp.MustCompile(`^[a-z.]+:[a-z.]+$`)

// failure classifies an answer. Its message may repeat what was sent, so that
// nothing of it gets out but the names of rights.
func failure(r *httpapi.Response) *access.Error {
	var body struct {
		ID      string `json:"messageId"`
		Message string `json:"message"`
	}
	json.Unmarshal(r.Body, &body) // what is not JSON says nothing
	for _, m := range meanings {
		if m.status == r.Status && (strings.Contains(body.ID, m.said) || strings.Contains(body.Message, m.said)) {
			return &access.Error{Kind: m.kind, Text: m.text, Remedy: m.remedy}
		}
	}
	if r.Status != http.StatusForbidden {
		return nil
	}
	var lacks []string
	_, needed, _ := strings.Cut(body.Message, "Permissions needed:")
	for _, w := range strings.FieldsFunc(needed, func(c rune) bool { return strings.ContainsRune(" ,()", c) }) {
		if action.MatchString(w) && len(lacks) < 5 {
			lacks = append(lacks, w)
		}
	}
	if len(lacks) == 0 {
		return access.Errorf(access.Privilege, "Grafana refuses it to the connector").WithRemedy("%s", "give its service account the rights of the setup")
	}
	return access.Errorf(access.Privilege, "the connector lacks %s", strings.Join(lacks, " or ")).WithRemedy("give its service account that right")
}
