package github

import (
	"context"
	"strings"

	gh "github.com/google/go-github/v89/github"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/slot"
)

// team is the spot of a team. Members of its child teams are its members too.
type team struct {
	i        *integration
	slug, id string
}

const teamFields = `{ id slug members(first: 100, after: $after, membership: IMMEDIATE) {
	edges { role node { databaseId } } pageInfo { hasNextPage endCursor } } }`

const teamBySlug = `query($organization: String!, $slug: String!, $after: String) { organization(login: $organization) { team(slug: $slug) ` + teamFields + ` } }`

const teamByID = `query($id: ID!, $after: String) { node(id: $id) { ... on Team ` + teamFields + ` } }`

type teamAnswer struct {
	ID      string
	Slug    string
	Members struct {
		Edges []struct {
			Role string
			Node struct{ DatabaseID int64 }
		}
		PageInfo pageInfo
	}
}

func (t team) answer(ctx context.Context, after any) (*teamAnswer, error) {
	if t.id != "" {
		var answer struct{ Node *teamAnswer }
		err := t.i.query(ctx, teamByID, map[string]any{"id": t.id, "after": after}, &answer)
		return answer.Node, err
	}
	var answer struct {
		Organization *struct{ Team *teamAnswer }
	}
	err := t.i.query(ctx, teamBySlug, map[string]any{"organization": t.i.config.Organization, "slug": t.slug, "after": after}, &answer)
	if err != nil || answer.Organization == nil {
		return nil, err
	}
	return answer.Organization.Team, nil
}

func (t team) read(ctx context.Context, p person) (s state, err error) {
	s.order = slot.Ladder(ladders[typeTeam]...)
	// Owners of the organization are shown as maintainers, whatever they are.
	s.vague = p.owner
	var after any
	for {
		got, err := t.answer(ctx, after)
		if err != nil {
			return s, err
		}
		if got == nil {
			return s, t.i.missing(ctx, "team "+t.slug)
		}
		s.id, s.name = got.ID, got.Slug
		for _, m := range got.Members.Edges {
			if m.Node.DatabaseID == p.id {
				s.direct = strings.ToLower(m.Role)
				s.ways = []string{s.direct + " directly"}
				return s, nil
			}
		}
		if !got.Members.PageInfo.HasNextPage {
			break
		}
		after = got.Members.PageInfo.EndCursor
	}
	// https://docs.github.com/en/rest/teams/members#get-team-membership-for-a-user
	m, err := get(ctx, t.i, func(ctx context.Context) (*gh.Membership, *gh.Response, error) {
		return t.i.rest.Teams.GetTeamMembershipBySlug(ctx, segment(t.i.config.Organization), segment(s.name), segment(p.login))
	})
	if isMissing(err) {
		return s, nil // the team was read
	}
	if err == nil && m.GetState() == "active" {
		s.inherited, s.ways = []source{{"member", byTeam}}, []string{"member by a child team"}
	}
	return s, err
}

func (t team) write(ctx context.Context, p person, s state, level string) error {
	organization, slug, login := segment(t.i.config.Organization), segment(s.name), segment(p.login)
	err := t.i.change(ctx, func(ctx context.Context) (*gh.Response, error) {
		if level == "" {
			// https://docs.github.com/en/rest/teams/members#remove-team-membership-for-a-user
			return t.i.rest.Teams.RemoveTeamMembershipBySlug(ctx, organization, slug, login)
		}
		if s.vague {
			level = "member" // GitHub refuses to make a maintainer of an owner, who is one
		}
		// https://docs.github.com/en/rest/teams/members#add-or-update-team-membership-for-a-user
		_, res, err := t.i.rest.Teams.AddTeamMembershipBySlug(ctx, organization, slug, login, &gh.TeamAddTeamMembershipOptions{Role: level})
		return res, err
	})
	if access.KindOf(err) == access.Privilege && t.synchronized(ctx, s.name) {
		return access.Errorf(access.ExternallyManaged, "an identity provider fills team %s", s.name).WithRemedy("ask for the group there, or take its connection to the team away")
	}
	return err
}

// synchronized tells whether groups of an identity provider fill the team. GitHub
// says 403 of that, as of everything else.
// https://docs.github.com/en/enterprise-cloud@latest/rest/teams/external-groups
// https://docs.github.com/en/enterprise-cloud@latest/rest/teams/team-sync
func (t team) synchronized(ctx context.Context, slug string) bool {
	organization := segment(t.i.config.Organization)
	groups, err := get(ctx, t.i, func(ctx context.Context) (*gh.ExternalGroupList, *gh.Response, error) {
		return t.i.rest.Teams.ListExternalGroupsForTeamBySlug(ctx, organization, segment(slug))
	})
	if err == nil && len(groups.Groups) > 0 {
		return true
	}
	mapped, err := get(ctx, t.i, func(ctx context.Context) (*gh.IDPGroupList, *gh.Response, error) {
		return t.i.rest.Teams.ListIDPGroupsForTeamBySlug(ctx, organization, segment(slug))
	})
	return err == nil && len(mapped.Groups) > 0
}
