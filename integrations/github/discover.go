package github

import (
	"context"
	"slices"
	"strings"

	gh "github.com/google/go-github/v89/github"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/catalog"
)

// cursor is where discovery goes on: what there is one of or few of first, then
// the teams and the repositories, each a page at a time.
type cursor struct {
	Type  string `json:"type"`
	Page  int    `json:"page,omitempty"`  // of the REST API
	After string `json:"after,omitempty"` // of the GraphQL API
	Found int    `json:"found"`           // so far
}

const repositoriesQuery = `query($organization: String!, $after: String) { organization(login: $organization) {
	repositories(first: 100, after: $after, isArchived: false, ownerAffiliations: [OWNER], orderBy: {field: NAME, direction: ASC}) {
		nodes { name description visibility viewerCanAdminister }
		pageInfo { hasNextPage endCursor } } } }`

func (i *integration) discover(ctx context.Context, from string) (page access.Page, err error) {
	at := cursor{Type: typeOrganization}
	if from != "" {
		at = cursor{}
		if err := catalog.ReadCursor(from, &at); err != nil {
			return page, err
		}
	}
	read := map[string]func(context.Context, *cursor) ([]access.Found, []string, error){
		typeOrganization: i.discoverOrganization, typeTeam: i.discoverTeams, typeRepository: i.discoverRepositories,
	}[at.Type]
	if read == nil || at.Page < 0 || at.Found < 0 {
		return page, catalog.BadCursor(from)
	}
	found, warnings, err := read(ctx, &at)
	if err != nil {
		return page, err
	}
	page.Warnings = warnings
	if full := i.filter.Take(&page, &at.Found, found...); !full && at.Type != "" {
		page.Next = catalog.Cursor(at)
	}
	return page, nil
}

// has tells whether a type of resource is wanted.
func (i *integration) has(types ...string) bool {
	return slices.ContainsFunc(types, func(t string) bool { return slices.Contains(i.types, t) })
}

func (i *integration) discoverOrganization(ctx context.Context, at *cursor) (found []access.Found, warnings []string, err error) {
	o, err := i.organization(ctx)
	if err != nil {
		return nil, nil, err
	}
	if i.has(typeOrganization) {
		found = append(found, access.Found{Resource: access.NewResource(typeOrganization, strings.ToLower(o.Login)), Permissions: []string{owner}})
	}
	if i.has(typeRole) {
		roles, err := i.organizationRoles(ctx)
		if kind := access.KindOf(err); kind == access.Privilege || kind == access.Invalid {
			warnings = append(warnings, "the organization roles are not read: "+err.Error())
		} else if err != nil {
			return nil, nil, err
		}
		for _, r := range roles {
			found = append(found, access.Found{Resource: access.NewResource(typeRole, r.GetName()), Permissions: []string{assigned}, Tags: catalog.Tags(r.GetDescription())})
		}
	}
	at.Type = typeTeam
	return found, warnings, nil
}

// https://docs.github.com/en/rest/teams/teams#list-teams
func (i *integration) discoverTeams(ctx context.Context, at *cursor) (found []access.Found, warnings []string, err error) {
	next := 0
	if i.has(typeTeam) {
		teams, err := get(ctx, i, func(ctx context.Context) ([]*gh.Team, *gh.Response, error) {
			list, res, err := i.rest.Teams.ListTeams(ctx, segment(i.config.Organization), &gh.ListOptions{PerPage: pageSize, Page: at.Page})
			if err == nil {
				next = res.NextPage
			}
			return list, res, err
		})
		if err != nil {
			return nil, nil, err
		}
		for _, t := range teams {
			f := access.Found{Resource: access.NewResource(typeTeam, t.GetSlug()), Permissions: ladders[typeTeam], Tags: catalog.Tags(t.GetDescription())}
			if t.GetType() == "enterprise" {
				f.Permissions, f.Note = nil, "the enterprise fills this team"
			}
			found = append(found, f)
		}
	}
	if at.Page = next; next == 0 {
		at.Type = typeRepository
	}
	return found, nil, nil
}

func (i *integration) discoverRepositories(ctx context.Context, at *cursor) (found []access.Found, warnings []string, err error) {
	if !i.has(typeRepository, typeRepositoryRole) {
		at.Type = ""
		return nil, nil, nil
	}
	var answer struct {
		Organization *struct {
			Repositories struct {
				Nodes []struct {
					Name, Description, Visibility string
					ViewerCanAdminister           bool
				}
				PageInfo pageInfo
			}
		}
	}
	var after any
	if at.After != "" {
		after = at.After
	}
	if err := i.query(ctx, repositoriesQuery, map[string]any{"organization": i.config.Organization, "after": after}, &answer); err != nil {
		return nil, nil, err
	}
	if answer.Organization == nil {
		_, err := i.organization(ctx)
		return nil, nil, err
	}
	var roles []*gh.CustomRepoRoles
	if i.has(typeRepositoryRole) {
		if roles, err = i.customRoles(ctx); err != nil {
			return nil, nil, err
		}
	}
	for _, r := range answer.Organization.Repositories.Nodes {
		administers := i.auth.administers(r.ViewerCanAdminister)
		if !administers && i.has(typeRepository) {
			found = append(found, access.Found{Resource: access.NewResource(typeRepository, r.Name), Note: "the connector's token may not administer it"})
		}
		if !administers {
			continue
		}
		tags := catalog.Tags(r.Description)
		if tags == nil {
			tags = map[string]string{}
		}
		tags["visibility"] = strings.ToLower(r.Visibility)
		if i.has(typeRepository) {
			found = append(found, access.Found{Resource: access.NewResource(typeRepository, r.Name), Permissions: ladders[typeRepository], Tags: tags})
		}
		for _, role := range roles {
			found = append(found, access.Found{Resource: access.NewResource(typeRepositoryRole, r.Name, role.GetName()), Permissions: []string{assigned}, Tags: tags})
		}
	}
	if at.After = answer.Organization.Repositories.PageInfo.EndCursor; !answer.Organization.Repositories.PageInfo.HasNextPage {
		at.Type = ""
	}
	return found, warnings, nil
}
