package grafana

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/grafana/grafana-openapi-client-go/models"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/httpapi"
)

// api is what is used of the HTTP API:
// https://grafana.com/docs/grafana/latest/developer-resources/api-reference/http-api/
type api struct{ *httpapi.Client }

func newAPI(c *Config, s *Secret, told *httpapi.Told) (*api, error) {
	client, err := httpapi.New(httpapi.Options{
		URL: c.baseURL(), CACertificate: c.CACertificate, SkipVerify: c.TLSSkipVerify, Failure: failure, Told: told,
		Authorize: func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+s.Token.Reveal()) },
	})
	if err != nil {
		return nil, err
	}
	return &api{client}, nil
}

// get reads an answer of the type T.
func get[T any](ctx context.Context, a *api, query url.Values, path ...string) (out T, err error) {
	r, err := a.Do(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return out, err
	}
	return out, r.JSON(&out)
}

// decimal writes an id.
func decimal(id int64) string { return strconv.FormatInt(id, 10) }

// value is what a field holds that the vendor's types have as a pointer.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// health says which version it is. It is the one call without a right.
func (a *api) health(ctx context.Context) (*models.HealthResponse, error) {
	return get[*models.HealthResponse](ctx, a, nil, "health")
}

// organization is that of the token.
func (a *api) organization(ctx context.Context) (*models.OrgDetailsDTO, error) {
	return get[*models.OrgDetailsDTO](ctx, a, nil, "org")
}

// people are those of the organization, without service accounts. With a query
// they are those in whose address, login or name it stands.
func (a *api) people(ctx context.Context, query string) ([]*models.OrgUserDTO, error) {
	values := url.Values{}
	if query != "" {
		values.Set("query", query)
	}
	return get[[]*models.OrgUserDTO](ctx, a, values, "org", "users")
}

// role sets a person's role in the organization.
func (a *api) role(ctx context.Context, user int64, role string) error {
	_, err := a.Do(ctx, http.MethodPatch, []string{"org", "users", decimal(user)}, nil, models.UpdateOrgUserCommand{Role: role})
	return err
}

// rights are those of the token: scopes by action.
func (a *api) rights(ctx context.Context) (map[string][]string, error) {
	return get[map[string][]string](ctx, a, nil, "access-control", "user", "permissions")
}

// me is whoever the token belongs to.
func (a *api) me(ctx context.Context) (*models.UserProfileDTO, error) {
	return get[*models.UserProfileDTO](ctx, a, nil, "user")
}

// serviceAccounts are those in whose name the query stands.
func (a *api) serviceAccounts(ctx context.Context, query string) (*models.SearchOrgServiceAccountsResult, error) {
	return get[*models.SearchOrgServiceAccountsResult](ctx, a, url.Values{"query": {query}}, "serviceaccounts", "search")
}

// description says which levels a type of resource has here.
func (a *api) description(ctx context.Context, s sort) (*models.Description, error) {
	return get[*models.Description](ctx, a, nil, "access-control", s.name, "description")
}

// permissions are all that anybody has on a resource.
func (a *api) permissions(ctx context.Context, t target) ([]*models.ResourcePermissionDTO, error) {
	return get[[]*models.ResourcePermissionDTO](ctx, a, nil, "access-control", t.sort.name, t.id)
}

// permit sets a person's own level on a resource; "" takes it away.
func (a *api) permit(ctx context.Context, t target, user int64, level string) error {
	_, err := a.Do(ctx, http.MethodPost, []string{"access-control", t.sort.name, t.id, "users", decimal(user)}, nil, models.SetPermissionCommand{Permission: level})
	return err
}

// dataSources are all of the organization.
func (a *api) dataSources(ctx context.Context) (models.DataSourceList, error) {
	return get[models.DataSourceList](ctx, a, nil, "datasources")
}

func (a *api) dataSource(ctx context.Context, uid string) (*models.DataSource, error) {
	return get[*models.DataSource](ctx, a, nil, "datasources", "uid", uid)
}

// The types of what search finds.
const (
	searchFolders    = "dash-folder"
	searchDashboards = "dash-db"
)

// search reads a page of folders, nested ones too, or of dashboards.
func (a *api) search(ctx context.Context, typ string, page, size int) (models.HitList, error) {
	return get[models.HitList](ctx, a, url.Values{"type": {typ}, "page": {strconv.Itoa(page)}, "limit": {strconv.Itoa(size)}}, "search")
}

func (a *api) folder(ctx context.Context, uid string) (*models.Folder, error) {
	return get[*models.Folder](ctx, a, nil, "folders", uid)
}

// dashboard looks for one by its uid. Search does not bring what is in it.
func (a *api) dashboard(ctx context.Context, uid string) (*models.Hit, error) {
	hits, err := get[models.HitList](ctx, a, url.Values{"type": {searchDashboards}, "dashboardUIDs": {uid}}, "search")
	if err != nil {
		return nil, err
	}
	for _, h := range hits {
		if h.UID == uid {
			return h, nil
		}
	}
	return nil, access.Errorf(access.ResourceMissing, "there is no dashboard %s", uid)
}

// teams reads a page of teams.
func (a *api) teams(ctx context.Context, page, size int) (*models.SearchTeamQueryResult, error) {
	return get[*models.SearchTeamQueryResult](ctx, a, url.Values{"page": {strconv.Itoa(page)}, "perpage": {strconv.Itoa(size)}}, "teams", "search")
}

func (a *api) team(ctx context.Context, id string) (*models.TeamDTO, error) {
	return get[*models.TeamDTO](ctx, a, nil, "teams", id)
}

func (a *api) members(ctx context.Context, team string) ([]*models.TeamMemberDTO, error) {
	return get[[]*models.TeamMemberDTO](ctx, a, nil, "teams", team, "members")
}

// teamAdmin is the one permission of members that is not 0.
const teamAdmin = models.PermissionType(4)

// join makes a person a member of a team.
func (a *api) join(ctx context.Context, team string, user int64) error {
	_, err := a.Do(ctx, http.MethodPost, []string{"teams", team, "members"}, nil, models.AddTeamMemberCommand{UserID: &user})
	return err
}

// rank sets what a member of a team is there.
func (a *api) rank(ctx context.Context, team string, user int64, permission models.PermissionType) error {
	_, err := a.Do(ctx, http.MethodPut, []string{"teams", team, "members", decimal(user)}, nil, models.UpdateTeamMemberCommand{Permission: permission})
	return err
}

// leave takes a person out of a team.
func (a *api) leave(ctx context.Context, team string, user int64) error {
	_, err := a.Do(ctx, http.MethodDelete, []string{"teams", team, "members", decimal(user)}, nil, nil)
	return err
}

// edition is what Check calls the server.
func edition(h *models.HealthResponse) string {
	name := "Grafana"
	if h.EnterpriseCommit != "" {
		name += " Enterprise"
	}
	return strings.TrimSpace(name + " " + h.Version)
}
