package github

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	gh "github.com/google/go-github/v89/github"

	"github.com/lapse-access/lapse/access"
)

// setupRemedy mends what the token lacks.
const setupRemedy = "lapse integrations describe github --setup says which permissions or scopes it needs"

func (i *integration) check(ctx context.Context) (access.CheckReport, error) {
	report := access.CheckReport{Server: "GitHub REST API 2022-11-28"}
	ctx, err := i.auth.authorized(ctx)
	var o organization
	if err == nil {
		o, err = i.organization(ctx)
	}
	if err != nil {
		report.Items = []access.CheckItem{failed("connect", "organization", err)}
		return report, nil
	}
	report.Items = []access.CheckItem{
		{Operation: "connect", Name: "organization", OK: true, Detail: "organization " + o.Login},
		i.checkRights(ctx, o),
		i.checkScopes(ctx),
		i.checkCatalog(ctx),
	}
	report.Items = append(report.Items, i.checkIdentities(ctx)...)
	for _, feature := range []struct {
		typ, name string
		read      func(context.Context) (int, error)
	}{
		{typeRole, "organization roles", func(ctx context.Context) (int, error) {
			all, err := i.organizationRoles(ctx)
			return len(all), err
		}},
		{typeRepositoryRole, "custom repository roles", func(ctx context.Context) (int, error) {
			all, err := i.customRoles(ctx)
			return len(all), err
		}},
	} {
		if !i.has(feature.typ) {
			continue
		}
		item := access.CheckItem{Operation: "discover", Name: feature.name, OK: true}
		n, err := feature.read(ctx)
		switch {
		case err != nil:
			item = failed("discover", feature.name, err)
			item.Optional = true
		case n == 0:
			item.Detail = "the organization's plan, or this server, has none"
		}
		report.Items = append(report.Items, item)
	}
	return report, nil
}

func failed(operation, name string, err error) access.CheckItem {
	item := access.CheckItem{Operation: operation, Name: name, Detail: err.Error()}
	if e, ok := errors.AsType[*access.Error](err); ok {
		item.Detail, item.Remedy = e.Text, e.Remedy
	}
	return item
}

// checkRights looks whether the token belongs to an owner, or what the App may.
func (i *integration) checkRights(ctx context.Context, o organization) access.CheckItem {
	item := access.CheckItem{Operation: "grant", Name: "rights", OK: true}
	if i.auth.app != nil {
		var lacks []string
		for _, name := range []string{"members", "administration"} {
			if i.auth.app.may(name) != "write" {
				lacks = append(lacks, name)
			}
		}
		if len(lacks) > 0 {
			return access.CheckItem{Operation: "grant", Name: "rights", Detail: "the App may not write: " + strings.Join(lacks, ", "), Remedy: setupRemedy}
		}
		if !i.auth.seesAll(nil) {
			item.OK, item.Optional, item.Detail = false, true, "the App is installed for some repositories only"
			item.Remedy = "install it for all repositories: a repository that the App loses sight of keeps what Lapse gave there"
		}
		return item
	}
	self, err := i.self(ctx)
	if err != nil {
		return failed("grant", "rights", err)
	}
	item.Detail = "the token belongs to " + self.GetLogin()
	if !i.auth.administers(o.ViewerCanAdminister) {
		item.OK, item.Detail, item.Remedy = false, item.Detail+", who does not own the organization", "make a token of an owner"
	}
	return item
}

// checkScopes looks at the scopes of a classic token. GitHub does not say what a
// fine-grained one may do.
func (i *integration) checkScopes(ctx context.Context) access.CheckItem {
	item := access.CheckItem{Operation: "grant", Name: "scopes", OK: true}
	said := i.auth.scopes.Load()
	switch {
	case i.auth.app != nil:
		item.Detail = "an App has permissions instead"
	case said == nil || *said == "":
		item.OK, item.Optional, item.Detail, item.Remedy = false, true, "GitHub does not say what the token may do; a fine-grained one is taken for one that does not see every repository", "use a GitHub App"
	default:
		var lacks []string
		for _, scope := range []string{"repo", "admin:org"} {
			if !slices.ContainsFunc(strings.Split(*said, ","), func(s string) bool { return strings.TrimSpace(s) == scope }) {
				lacks = append(lacks, scope)
			}
		}
		if len(lacks) > 0 {
			item.OK, item.Detail, item.Remedy = false, "the token lacks the scopes "+strings.Join(lacks, ", "), setupRemedy
		}
	}
	return item
}

// checkCatalog reads one page of teams.
func (i *integration) checkCatalog(ctx context.Context) access.CheckItem {
	_, err := get(ctx, i, func(ctx context.Context) ([]*gh.Team, *gh.Response, error) {
		return i.rest.Teams.ListTeams(ctx, segment(i.config.Organization), &gh.ListOptions{PerPage: 1})
	})
	if err != nil {
		return failed("discover", "teams", err)
	}
	return access.CheckItem{Operation: "discover", Name: "teams", OK: true}
}

// checkIdentities asks each source for an address that nobody has.
func (i *integration) checkIdentities(ctx context.Context) (items []access.CheckItem) {
	sources := []string{i.config.IdentitySource}
	if i.config.IdentitySource == "auto" {
		sources = []string{fromOrganization, fromPublic}
		if i.config.Enterprise != "" {
			sources = append(sources, fromEnterprise)
		}
	}
	for _, source := range sources {
		item := access.CheckItem{Operation: "grant", Name: "identities by " + source, OK: true}
		var err error
		switch source {
		case fromDomain:
			// Reading all members is too much for a check.
		case fromPublic:
			_, err = i.byPublicAddress(ctx, "lapse-check@example.invalid")
		default:
			_, err = i.provider(ctx, source, "lapse-check@example.invalid", nil)
		}
		if err != nil {
			item = failed("grant", item.Name, err)
			item.Optional = len(sources) > 1
		}
		items = append(items, item)
	}
	if i.config.IdentitySource == fromPublic {
		items = append(items, access.CheckItem{Operation: "grant", Name: "search", OK: true, Detail: fmt.Sprintf("GitHub takes 30 searches a minute: so many people can be found, each remembered for %s", memory)})
	}
	return items
}
