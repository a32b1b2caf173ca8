package github

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	gh "github.com/google/go-github/v89/github"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/slot"
)

// repository is the spot of a repository. The REST API tells only the highest
// level that somebody has; the GraphQL API tells what each source gives.
type repository struct {
	i        *integration
	name, id string
	customs  bool
}

// invitation is one of somebody from outside to a repository.
type invitation struct {
	id      int64
	level   string
	link    string
	until   time.Time
	expired bool
}

// invitationLife is how long one can be accepted.
// https://docs.github.com/en/rest/collaborators/invitations
const invitationLife = 7 * 24 * time.Hour

const repositoryFields = `{ id name isArchived viewerCanAdminister owner { login }
	collaborators(login: $login, affiliation: ALL, first: 1) { edges { node { databaseId } permissionSources {
		permission roleName source { __typename ... on Team { slug } } } } } }`

const repositoryByName = `query($organization: String!, $name: String!, $login: String!) {
	organization(login: $organization) { repository(name: $name) ` + repositoryFields + ` } }`

const repositoryByID = `query($id: ID!, $login: String!) { node(id: $id) { ... on Repository ` + repositoryFields + ` } }`

// repositoryAnswer is what is read of a repository.
type repositoryAnswer struct {
	ID                  string
	Name                string
	IsArchived          bool
	ViewerCanAdminister bool
	Owner               struct{ Login string }
	Collaborators       *struct {
		Edges []struct {
			Node              struct{ DatabaseID int64 }
			PermissionSources []permissionSource
		}
	}
}

type permissionSource struct {
	Permission string
	RoleName   string
	Source     struct {
		Type string `json:"__typename"`
		Slug string
	}
}

// level is the one that a source gives.
func (s permissionSource) level() string {
	name := strings.ToLower(s.RoleName)
	switch {
	case slices.Contains(ladders[typeRepository], name):
		return name
	case s.RoleName != "" && name != "none":
		return custom + s.RoleName
	case s.RoleName == "" && s.Permission != "NONE":
		return strings.ToLower(s.Permission) // of servers that tell no more
	}
	return ""
}

// answer reads the repository, and the person's part in it.
func (r repository) answer(ctx context.Context, login string) (*repositoryAnswer, error) {
	if r.id != "" {
		var answer struct{ Node *repositoryAnswer }
		err := r.i.query(ctx, repositoryByID, map[string]any{"id": r.id, "login": login}, &answer)
		return answer.Node, err
	}
	var answer struct {
		Organization *struct{ Repository *repositoryAnswer }
	}
	err := r.i.query(ctx, repositoryByName, map[string]any{"organization": r.i.config.Organization, "name": r.name, "login": login}, &answer)
	if err != nil || answer.Organization == nil {
		return nil, err
	}
	return answer.Organization.Repository, nil
}

func (r repository) read(ctx context.Context, p person) (s state, err error) {
	got, err := r.answer(ctx, p.login)
	if err != nil {
		return s, err
	}
	if got == nil {
		err := r.i.missing(ctx, "repository "+r.name)
		if r.id != "" && isMissing(err) && !r.i.auth.seesAll(repoScope) {
			return s, access.Errorf(access.Privilege, "repository %s is not there any more, or hidden from the connector's token", r.name).
				WithRemedy("let the App be installed for all repositories, or use a classic token with the scope repo")
		}
		return s, err
	}
	if got.Collaborators == nil || !r.i.auth.administers(got.ViewerCanAdminister) {
		return s, access.Errorf(access.Privilege, "the connector's token may not administer repository %s", got.Name).
			WithRemedy("let the token belong to an owner of the organization, or give the App the permission Administration")
	}
	s = state{id: got.ID, name: got.Name, home: got.Owner.Login}
	if got.IsArchived {
		s.closed = "repository " + got.Name + " is archived"
	}
	for _, edge := range got.Collaborators.Edges {
		if edge.Node.DatabaseID != p.id {
			continue
		}
		for _, by := range edge.PermissionSources {
			level := by.level()
			if level == "" {
				continue
			}
			way := "directly"
			switch by.Source.Type {
			case "Repository":
				s.direct = level
			case "Team":
				s.inherited, way = append(s.inherited, source{level, byTeam}), "by team "+by.Source.Slug
			default:
				s.inherited, way = append(s.inherited, source{level, byOrganization}), "by the organization"
			}
			s.ways = append(s.ways, strings.TrimPrefix(level, custom)+" "+way)
		}
	}
	if s.order, err = r.i.levels(ctx, r.customs || isCustom(s.direct) || slices.ContainsFunc(s.inherited, func(x source) bool { return isCustom(x.level) })); err != nil {
		return s, err
	}
	if s.direct == "" {
		s.invitation, err = r.invited(ctx, s, p)
	}
	return s, err
}

func repoScope(scopes string) bool {
	return slices.ContainsFunc(strings.Split(scopes, ","), func(s string) bool { return strings.TrimSpace(s) == "repo" })
}

// invited looks for an invitation of somebody; one that can be accepted is found
// before one that has expired.
// https://docs.github.com/en/rest/collaborators/invitations#list-repository-invitations
func (r repository) invited(ctx context.Context, s state, p person) (found *invitation, err error) {
	all, err := pages(ctx, r.i, func(ctx context.Context, at gh.ListOptions) ([]*gh.RepositoryInvitation, *gh.Response, error) {
		return r.i.rest.Repositories.ListInvitations(ctx, segment(s.home), segment(s.name), &at)
	}, nil)
	if isMissing(err) {
		return nil, nil // there are none among managed users, and the repository was read
	}
	for _, in := range all {
		if in.GetInvitee().GetID() != p.id || found != nil && in.GetExpired() {
			continue
		}
		found = &invitation{id: in.GetID(), level: in.GetPermissions(), link: in.GetHTMLURL(), expired: in.GetExpired(),
			until: in.GetCreatedAt().Add(invitationLife)}
	}
	return found, err
}

// apiName is that of a level where it is written, which is not the one by which it
// is read.
func apiName(level string) string {
	switch level {
	case "read":
		return "pull"
	case "write":
		return "push"
	}
	return strings.TrimPrefix(level, custom)
}

func (r repository) write(ctx context.Context, p person, s state, level string) error {
	owner, name := segment(s.home), segment(s.name)
	if in := s.invitation; in != nil {
		// https://docs.github.com/en/rest/collaborators/invitations
		if level != "" && !in.expired {
			return r.i.change(ctx, func(ctx context.Context) (*gh.Response, error) {
				_, res, err := r.i.rest.Repositories.UpdateInvitation(ctx, owner, name, in.id, level)
				return res, err
			})
		}
		err := r.i.change(ctx, func(ctx context.Context) (*gh.Response, error) {
			return r.i.rest.Repositories.DeleteInvitation(ctx, owner, name, in.id)
		})
		if isMissing(err) {
			err = access.Errorf(access.Conflict, "the invitation was accepted or withdrawn in this moment")
		}
		if err != nil || level == "" {
			return err
		}
	}
	if level == "" {
		return r.remove(ctx, p, s)
	}
	api := apiName(level)
	// https://docs.github.com/en/rest/collaborators/collaborators#add-a-repository-collaborator
	err := r.i.change(ctx, func(ctx context.Context) (*gh.Response, error) {
		_, res, err := r.i.rest.Repositories.AddCollaborator(ctx, owner, name, segment(p.login), &gh.RepositoryAddCollaboratorOptions{Permission: api})
		return res, err
	})
	if access.KindOf(err) == access.Invalid && s.inherits(level, nil) {
		// GitHub writes no level below the organization's base permission, by which
		// the person has it all the same.
		if s.direct == "" {
			return errNeedless
		}
		return r.remove(ctx, p, s)
	}
	return err
}

// errNeedless says that GitHub takes no level so low, since everybody has it.
var errNeedless = errors.New("every member has the level")

// remove takes the person's own level away; without one it does nothing.
// https://docs.github.com/en/rest/collaborators/collaborators#remove-a-repository-collaborator
func (r repository) remove(ctx context.Context, p person, s state) error {
	return r.i.change(ctx, func(ctx context.Context) (*gh.Response, error) {
		return r.i.rest.Repositories.RemoveCollaborator(ctx, segment(s.home), segment(s.name), segment(p.login))
	})
}

// levels is the order of the levels on repositories. A custom role covers its base
// role and each custom role with no more permissions; admin covers all.
func (i *integration) levels(ctx context.Context, customs bool) (slot.Order, error) {
	ladder := slot.Ladder(ladders[typeRepository]...)
	if !customs {
		return ladder, nil
	}
	roles, err := i.customRoles(ctx)
	if err != nil {
		return nil, err
	}
	known := map[string]*gh.CustomRepoRoles{}
	for _, r := range roles {
		known[custom+r.GetName()] = r
	}
	return func(has, want string) bool {
		h, w := known[has], known[want]
		switch {
		case want == "" || has == want || has == "admin" && isCustom(want):
			return true
		case isCustom(want):
			return h != nil && w != nil && ladder(h.GetBaseRole(), w.GetBaseRole()) &&
				!slices.ContainsFunc(w.Permissions, func(p string) bool { return !slices.Contains(h.Permissions, p) })
		case isCustom(has):
			return h != nil && ladder(h.GetBaseRole(), want)
		}
		return ladder(has, want)
	}, nil
}

// knowsRole refuses custom roles that are not there.
func (i *integration) knowsRole(ctx context.Context, level string) error {
	if !isCustom(level) {
		return nil
	}
	roles, err := i.customRoles(ctx)
	if err != nil {
		return err
	}
	if name := strings.TrimPrefix(level, custom); !slices.ContainsFunc(roles, func(r *gh.CustomRepoRoles) bool { return r.GetName() == name }) {
		return access.Errorf(access.ResourceMissing, "there is no repository role %q", name)
	}
	return nil
}
