package github

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"

	gh "github.com/google/go-github/v89/github"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/httpapi"
)

// answerLimit bounds an answer of the REST API.
const answerLimit = 10 << 20

// carrier carries the requests of go-github. The credential is in the request's
// context and goes to the API's own host alone; go-github follows redirects of
// some calls by itself.
type carrier struct {
	base      *url.URL
	transport http.RoundTripper
	seen      func(http.Header)
}

// RoundTrip makes one request.
func (c carrier) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != c.base.Host || r.URL.Scheme != c.base.Scheme {
		return nil, access.Errorf(access.Invalid, "the API refers to another host")
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", authorization(r.Context()))
	res, err := c.transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	c.seen(res.Header)
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(res.Body, answerLimit), res.Body}
	return res, nil
}

// get makes one request that changes nothing. The error is an access.Error.
func get[R any](ctx context.Context, i *integration, call func(context.Context) (R, *gh.Response, error)) (R, error) {
	ctx, cancel := context.WithTimeout(ctx, i.config.RequestTimeout.Std())
	defer cancel()
	got, _, err := call(ctx)
	if err != nil {
		var none R
		return none, failure(err)
	}
	return got, nil
}

// pages reads all pages of a list, until enough says so.
func pages[R any](ctx context.Context, i *integration, call func(context.Context, gh.ListOptions) ([]R, *gh.Response, error), enough func(R) bool) (all []R, err error) {
	at := gh.ListOptions{PerPage: pageSize}
	for {
		page, err := get(ctx, i, func(ctx context.Context) ([]R, *gh.Response, error) {
			list, res, err := call(ctx, at)
			if err == nil {
				at.Page = res.NextPage
			}
			return list, res, err
		})
		all = append(all, page...)
		if err != nil || at.Page == 0 || enough != nil && slices.ContainsFunc(page, enough) {
			return all, err
		}
	}
}

// change makes one request that changes something, not sooner than GitHub asks
// for.
func (i *integration) change(ctx context.Context, call func(context.Context) (*gh.Response, error)) error {
	if err := i.pace.wait(ctx, i.config.BetweenChanges.Std()); err != nil {
		return err
	}
	_, err := get(ctx, i, func(ctx context.Context) (struct{}, *gh.Response, error) {
		res, err := call(ctx)
		return struct{}{}, res, err
	})
	return err
}

// pageSize is the greatest that GitHub takes.
const pageSize = 100

// segment is a name as a part of a path: go-github does not escape. Names of dots
// alone, which would be a way up, do not get here.
func segment(name string) string { return url.PathEscape(name) }

// query asks the GraphQL API. What it does not find is null in the answer.
// https://docs.github.com/en/graphql/guides/forming-calls-with-graphql
func (i *integration) query(ctx context.Context, document string, variables map[string]any, into any) error {
	ctx, cancel := context.WithTimeout(ctx, i.config.RequestTimeout.Std())
	defer cancel()
	res, err := i.graphql.Do(ctx, http.MethodPost, []string{"graphql"}, nil, map[string]any{"query": document, "variables": variables})
	if err != nil {
		return err
	}
	var answer struct {
		Data   json.RawMessage
		Errors []graphError
	}
	if err := res.JSON(&answer); err != nil {
		return err
	}
	for _, e := range answer.Errors {
		if e.Type != "NOT_FOUND" {
			return e.failure(res.Header)
		}
	}
	return (&httpapi.Response{Body: answer.Data}).JSON(into)
}

// pageInfo is where a list of the GraphQL API goes on.
type pageInfo struct {
	HasNextPage bool
	EndCursor   string
}

// organization is the configured one, as the API shows it to the connector.
type organization struct {
	ID                  string
	Login               string
	ViewerCanAdminister bool
}

const organizationQuery = `query($organization: String!) { organization(login: $organization) { id login viewerCanAdminister } }`

// organization proves that the connector sees the organization: a 404 of what is
// in it means something only then.
func (i *integration) organization(ctx context.Context) (organization, error) {
	var answer struct{ Organization *organization }
	err := i.query(ctx, organizationQuery, map[string]any{"organization": i.config.Organization}, &answer)
	switch {
	case err != nil:
		return organization{}, err
	case answer.Organization == nil:
		return organization{}, access.Errorf(access.Privilege, "the connector's token does not see the organization %s", i.config.Organization).
			WithRemedy("check organization and api_url, and let the token belong to an owner of the organization, or install the App there")
	}
	return *answer.Organization, nil
}

// missing says what it means that GitHub does not find something in the
// organization: it is ResourceMissing where the connector would see it.
func (i *integration) missing(ctx context.Context, what string) error {
	o, err := i.organization(ctx)
	if err != nil {
		return err
	}
	if !i.auth.administers(o.ViewerCanAdminister) {
		return access.Errorf(access.Privilege, "%s is not found, and the connector's token does not belong to an owner, who would see it", what).WithRemedy("use a token of an owner of %s", o.Login)
	}
	return access.Errorf(access.ResourceMissing, "there is no %s in %s", what, o.Login)
}

// isMissing is true for an error that GitHub does not find something.
func isMissing(err error) bool { return access.KindOf(err) == access.ResourceMissing }

// member is somebody's membership in the organization.
// https://docs.github.com/en/rest/orgs/members#get-organization-membership-for-a-user
func (i *integration) member(ctx context.Context, login string) (member, owner bool, err error) {
	m, err := get(ctx, i, func(ctx context.Context) (*gh.Membership, *gh.Response, error) {
		return i.rest.Organizations.GetOrgMembership(ctx, segment(login), i.config.Organization)
	})
	if isMissing(err) {
		_, err = i.organization(ctx)
		return false, false, err
	}
	active := err == nil && m.GetState() == "active"
	return active, active && m.GetRole() == "admin", err
}

// login is the present one of somebody's number; "" when there is none any more.
// https://docs.github.com/en/rest/users/users#get-a-user-using-their-id
func (i *integration) login(ctx context.Context, id int64) (string, error) {
	u, err := get(ctx, i, func(ctx context.Context) (*gh.User, *gh.Response, error) { return i.rest.Users.GetByID(ctx, id) })
	if isMissing(err) {
		_, err = i.organization(ctx)
		return "", err
	}
	return u.GetLogin(), err
}

// self is the owner of the token; nobody for an App.
// https://docs.github.com/en/rest/users/users#get-the-authenticated-user
func (i *integration) self(ctx context.Context) (*gh.User, error) {
	if i.auth.app != nil {
		return nil, nil
	}
	return get(ctx, i, func(ctx context.Context) (*gh.User, *gh.Response, error) { return i.rest.Users.Get(ctx, "") })
}

// customRoles are the custom repository roles; none where the plan has none.
// https://docs.github.com/en/enterprise-cloud@latest/rest/orgs/custom-roles
func (i *integration) customRoles(ctx context.Context) ([]*gh.CustomRepoRoles, error) {
	list, err := get(ctx, i, func(ctx context.Context) (*gh.OrganizationCustomRepoRoles, *gh.Response, error) {
		return i.rest.Organizations.ListCustomRepoRoles(ctx, i.config.Organization)
	})
	if isMissing(err) {
		_, err = i.organization(ctx)
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	return list.CustomRepoRoles, nil
}

// organizationRoles are the roles of the organization, those of GitHub included;
// none where the plan has none.
// https://docs.github.com/en/rest/orgs/organization-roles
func (i *integration) organizationRoles(ctx context.Context) ([]*gh.CustomOrgRole, error) {
	list, err := get(ctx, i, func(ctx context.Context) (*gh.OrganizationCustomRoles, *gh.Response, error) {
		return i.rest.Organizations.ListRoles(ctx, i.config.Organization)
	})
	if isMissing(err) {
		_, err = i.organization(ctx)
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	return list.CustomRepoRoles, nil
}

// owners are the members who own the organization, two pages of them at most.
// https://docs.github.com/en/rest/orgs/members#list-organization-members
func (i *integration) owners(ctx context.Context, enough func(*gh.User) bool) ([]*gh.User, error) {
	return pages(ctx, i, func(ctx context.Context, at gh.ListOptions) ([]*gh.User, *gh.Response, error) {
		return i.rest.Organizations.ListMembers(ctx, i.config.Organization, &gh.ListMembersOptions{Role: "admin", ListOptions: at})
	}, enough)
}

// failure turns an error of go-github into ours, without what the answer says.
func failure(err error) error {
	var res *http.Response
	var message, page string
	if e, ok := errors.AsType[*gh.ErrorResponse](err); ok {
		res, message, page = e.Response, e.Message, e.DocumentationURL
		for _, more := range e.Errors {
			message += " " + more.Code + " " + more.Message
		}
	} else if e, ok := errors.AsType[*gh.RateLimitError](err); ok {
		res, message = e.Response, e.Message
	} else if e, ok := errors.AsType[*gh.AbuseRateLimitError](err); ok {
		res, message, page = e.Response, e.Message, "#secondary-rate-limits"
	} else if e, ok := errors.AsType[*gh.TwoFactorAuthError](err); ok {
		res = e.Response
	} else if e, ok := errors.AsType[*gh.RedirectionError](err); ok {
		res = e.Response
	}
	if res != nil {
		return judge(res.StatusCode, res.Header, message, page)
	}
	if _, ok := errors.AsType[*gh.AcceptedError](err); ok {
		return access.Errorf(access.Retry, "GitHub is still working on it")
	}
	_, syntax := errors.AsType[*json.SyntaxError](err)
	_, shape := errors.AsType[*json.UnmarshalTypeError](err)
	if syntax || shape || errors.Is(err, io.ErrUnexpectedEOF) {
		return access.Errorf(access.Retry, "the answer is not what the API describes")
	}
	return httpapi.Unanswered(err)
}
