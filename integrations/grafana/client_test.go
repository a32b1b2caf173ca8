package grafana

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/go-openapi/runtime"
	httptransport "github.com/go-openapi/runtime/client"
	"github.com/go-openapi/strfmt"
	"github.com/google/go-cmp/cmp"
	"github.com/grafana/grafana-openapi-client-go/client/access_control"
	"github.com/grafana/grafana-openapi-client-go/client/datasources"
	"github.com/grafana/grafana-openapi-client-go/client/folders"
	"github.com/grafana/grafana-openapi-client-go/client/health"
	"github.com/grafana/grafana-openapi-client-go/client/org"
	"github.com/grafana/grafana-openapi-client-go/client/search"
	"github.com/grafana/grafana-openapi-client-go/client/service_accounts"
	"github.com/grafana/grafana-openapi-client-go/client/signed_in_user"
	"github.com/grafana/grafana-openapi-client-go/client/teams"
	"github.com/grafana/grafana-openapi-client-go/models"

	"github.com/lapse-access/lapse/access"
)

// request is one, as a server sees it.
type request struct {
	Method, Path, Body, Authorization string
	Query                             url.Values
}

// TestGF18RequestsAreTheVendors holds each request of this room against the one that
// the vendor's own client makes for the same. The vendor's client has no call for
// the rights of a token; that one is in the vendor's documentation alone:
// https://grafana.com/docs/grafana/latest/developer-resources/api-reference/http-api/access_control/
func TestGF18RequestsAreTheVendors(t *testing.T) {
	var last request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		last = request{r.Method, r.URL.EscapedPath(), strings.TrimSpace(string(body)), r.Header.Get("Authorization"), r.URL.Query()}
		w.WriteHeader(http.StatusTeapot)
	}))
	t.Cleanup(server.Close)
	ours, err := newAPI(&Config{URL: server.URL + "/sub"}, &Secret{Token: "token"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ours.Close)
	transport := httptransport.New(strings.TrimPrefix(server.URL, "http://"), "/sub/api", []string{"http"})
	transport.DefaultAuthentication = httptransport.BearerToken("token")
	over := runtime.ClientTransport(transport)

	ctx, format := t.Context(), strfmt.Default
	ds, err := parse([]access.Entitlement{{Resource: access.NewResource(typeDataSource, "x", "P1:809.F"), Permission: "query"}})
	if err != nil {
		t.Fatal(err)
	}
	user, text, one, size := int64(7), func(s string) *string { return &s }, int64(2), int64(500)
	for name, test := range map[string]struct{ ours, theirs func() error }{
		"health":       {fails(ctx, ours.health), func() error { _, err := health.New(over, format).GetHealth(); return err }},
		"organization": {fails(ctx, ours.organization), func() error { _, err := org.New(over, format).GetCurrentOrg(); return err }},
		"people": {func() error { _, err := ours.people(ctx, "a+b@example.com"); return err }, func() error {
			_, err := org.New(over, format).GetOrgUsersForCurrentOrg(org.NewGetOrgUsersForCurrentOrgParams().WithQuery(text("a+b@example.com")))
			return err
		}},
		"everybody": {func() error { _, err := ours.people(ctx, ""); return err }, func() error {
			_, err := org.New(over, format).GetOrgUsersForCurrentOrg(org.NewGetOrgUsersForCurrentOrgParams())
			return err
		}},
		"role": {func() error { return ours.role(ctx, user, "Editor") }, func() error {
			_, err := org.New(over, format).UpdateOrgUserForCurrentOrg(user, &models.UpdateOrgUserCommand{Role: "Editor"})
			return err
		}},
		"me": {fails(ctx, ours.me), func() error { _, err := signed_in_user.New(over, format).GetSignedInUser(); return err }},
		"service accounts": {func() error { _, err := ours.serviceAccounts(ctx, "lapse"); return err }, func() error {
			_, err := service_accounts.New(over, format).SearchOrgServiceAccountsWithPaging(service_accounts.NewSearchOrgServiceAccountsWithPagingParams().WithQuery(text("lapse")))
			return err
		}},
		"description": {func() error { _, err := ours.description(ctx, sorts[typeFolder]); return err }, func() error {
			_, err := access_control.New(over, format).GetResourceDescription("folders")
			return err
		}},
		"permissions": {func() error { _, err := ours.permissions(ctx, ds[0]); return err }, func() error {
			_, err := access_control.New(over, format).GetResourcePermissions("P1:809.F", "datasources")
			return err
		}},
		"permit": {func() error { return ours.permit(ctx, ds[0], user, "Query") }, permits(over, "Query")},
		"forbid": {func() error { return ours.permit(ctx, ds[0], user, "") }, permits(over, "")},
		"data sources": {func() error { _, err := ours.dataSources(ctx); return err }, func() error {
			_, err := datasources.New(over, format).GetDataSources()
			return err
		}},
		"data source": {func() error { _, err := ours.dataSource(ctx, "u-1"); return err }, func() error {
			_, err := datasources.New(over, format).GetDataSourceByUID("u-1")
			return err
		}},
		"search": {func() error { _, err := ours.search(ctx, searchFolders, 2, 500); return err }, func() error {
			_, err := search.New(over, format).Search(search.NewSearchParams().WithType(text("dash-folder")).WithPage(&one).WithLimit(&size))
			return err
		}},
		"dashboard": {func() error { _, err := ours.dashboard(ctx, "d-1"); return err }, func() error {
			_, err := search.New(over, format).Search(search.NewSearchParams().WithType(text("dash-db")).WithDashboardUIDs([]string{"d-1"}))
			return err
		}},
		"folder": {func() error { _, err := ours.folder(ctx, "f-1"); return err }, func() error {
			_, err := folders.New(over, format).GetFolderByUID("f-1")
			return err
		}},
		"teams": {func() error { _, err := ours.teams(ctx, 2, 500); return err }, func() error {
			_, err := teams.New(over, format).SearchTeams(teams.NewSearchTeamsParams().WithPage(&one).WithPerpage(&size))
			return err
		}},
		"team": {func() error { _, err := ours.team(ctx, "3"); return err }, func() error {
			_, err := teams.New(over, format).GetTeamByID(teams.NewGetTeamByIDParams().WithTeamID("3"))
			return err
		}},
		"members": {func() error { _, err := ours.members(ctx, "3"); return err }, func() error {
			_, err := teams.New(over, format).GetTeamMembers("3")
			return err
		}},
		"join": {func() error { return ours.join(ctx, "3", user) }, func() error {
			_, err := teams.New(over, format).AddTeamMember("3", &models.AddTeamMemberCommand{UserID: &user})
			return err
		}},
		"raise a member": {func() error { return ours.rank(ctx, "3", user, teamAdmin) }, ranks(over, 4)},
		"lower a member": {func() error { return ours.rank(ctx, "3", user, 0) }, ranks(over, 0)},
		"leave": {func() error { return ours.leave(ctx, "3", user) }, func() error {
			_, err := teams.New(over, format).RemoveTeamMember(user, "3")
			return err
		}},
	} {
		last = request{}
		if test.ours() == nil || last.Authorization != "Bearer token" {
			t.Errorf("%s: %+v, want an error and the token", name, last)
		}
		got := last
		last = request{}
		if test.theirs() == nil {
			t.Errorf("%s: the vendor's client takes a teapot for an answer", name)
		}
		if diff := cmp.Diff(last, got); diff != "" {
			t.Errorf("%s (-the vendor's +ours):\n%s", name, diff)
		}
	}
}

func fails[T any](ctx context.Context, f func(context.Context) (T, error)) func() error {
	return func() error { _, err := f(ctx); return err }
}

func permits(over runtime.ClientTransport, level string) func() error {
	return func() error {
		_, err := access_control.New(over, strfmt.Default).SetResourcePermissionsForUser(access_control.NewSetResourcePermissionsForUserParams().
			WithResource("datasources").WithResourceID("P1:809.F").WithUserID(7).WithBody(&models.SetPermissionCommand{Permission: level}))
		return err
	}
}

func ranks(over runtime.ClientTransport, permission models.PermissionType) func() error {
	return func() error {
		_, err := teams.New(over, strfmt.Default).UpdateTeamMember(teams.NewUpdateTeamMemberParams().WithTeamID("3").WithUserID(7).WithBody(&models.UpdateTeamMemberCommand{Permission: permission}))
		return err
	}
}
