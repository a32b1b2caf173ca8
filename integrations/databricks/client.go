package databricks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/databricks/databricks-sdk-go/client"
	"github.com/databricks/databricks-sdk-go/config"
	"github.com/databricks/databricks-sdk-go/httpclient"
	"github.com/databricks/databricks-sdk-go/service/iam"
	"github.com/databricks/databricks-sdk-go/service/iamv2"
	vendoroauth2 "github.com/databricks/databricks-sdk-go/service/oauth2"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/httpapi"
	"github.com/lapse-access/lapse/internal/turn"
)

// api is the calls that are used: https://docs.databricks.com/api/account
type api struct {
	account   string
	transport *http.Transport
	login     clientcredentials.Config
	sdk       *client.DatabricksClient

	// turn lets one request at a time fetch a token, and guards what follows.
	turn  turn.Turn
	token *oauth2.Token
	since time.Time // when the token was fetched
}

func newAPI(c Config, s Secret, told *httpapi.Told) (*api, error) {
	base, err := httpapi.Base(c.AccountsURL, false)
	if err != nil {
		return nil, during("accounts_url", err)
	}
	if strings.Trim(base.Path, "/") != "" {
		return nil, access.Errorf(access.Invalid, "accounts_url has more than a host")
	}
	base.Path = ""
	a := &api{account: c.AccountID, turn: turn.New()}
	if a.transport, err = httpapi.Transport(c.CACertificate, false); err != nil {
		return nil, err
	}
	carrier := http.RoundTripper(a.transport)
	if told != nil {
		carrier, a.token = told, &oauth2.Token{AccessToken: integrations.HiddenSecret}
	}
	a.login = clientcredentials.Config{ClientID: s.ClientID, ClientSecret: s.ClientSecret.Reveal(), Scopes: []string{"all-apis"}, AuthStyle: oauth2.AuthStyleInHeader,
		TokenURL: base.JoinPath("oidc", "accounts", c.AccountID, "v1", "token").String()}
	// The SDK's configuration says nothing but the account. Without a host it
	// asks nobody for more.
	a.sdk, err = client.NewWithClient(&config.Config{AccountID: c.AccountID, Loaders: []config.Loader{nothing{}}}, httpclient.NewApiClient(httpclient.ClientConfig{
		AuthVisitor: a.authorize,
		Visitors: []httpclient.RequestVisitor{func(r *http.Request) error {
			r.URL.Scheme, r.URL.Host = base.Scheme, base.Host
			return nil
		}},
		HTTPTimeout:        c.RequestTimeout.Std(),
		RetryTimeout:       time.Nanosecond, // one attempt
		RateLimitPerSecond: c.RequestsPerSecond,
		ErrorMapper:        failure,
		ErrorRetriable:     func(context.Context, error) bool { return false },
		Transport:          agent{httpapi.Guard(carrier)},
	}))
	if err != nil {
		return nil, access.Errorf(access.Invalid, "the vendor's client refuses the settings")
	}
	return a, nil
}

// nothing loads no settings.
type nothing struct{}

func (nothing) Name() string                   { return "nothing" }
func (nothing) Configure(*config.Config) error { return nil }

// agent says who asks, in place of the SDK's words about the machine.
type agent struct{ http.RoundTripper }

func (a agent) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", "lapse")
	return a.RoundTripper.RoundTrip(r)
}

func (a *api) close() { a.transport.CloseIdleConnections() }

// authorize adds a token to a request, from a service principal's login:
// https://docs.databricks.com/aws/en/dev-tools/auth/oauth-m2m
func (a *api) authorize(r *http.Request) error {
	return a.turn.Run(r.Context(), func(ctx context.Context) error {
		if !a.token.Valid() {
			ctx = context.WithValue(ctx, oauth2.HTTPClient, &http.Client{Transport: agent{httpapi.Guard(a.transport)}})
			token, err := a.login.Token(ctx)
			if err != nil {
				return during("logging in", refused(err))
			}
			a.token, a.since = token, time.Now()
		}
		a.token.SetAuthHeader(r)
		return nil
	})
}

// forget drops a token that is older than a moment, and tells whether there was
// one.
func (a *api) forget(ctx context.Context, than time.Time) (forgot bool) {
	err := a.turn.Run(ctx, func(context.Context) error {
		if forgot = a.token != nil && a.since.Before(than); forgot {
			a.token = nil
		}
		return nil
	})
	return forgot && err == nil
}

// call makes one request, and again where the API refuses a token that was
// fetched before. Every request can be made twice.
func (a *api) call(ctx context.Context, what string, request func(context.Context) error) error {
	begun := time.Now()
	err := answered(request(ctx))
	if access.KindOf(err) == access.Auth && a.forget(ctx, begun) {
		err = answered(request(ctx))
	}
	if errors.Is(err, context.Canceled) && ctx.Err() == nil {
		err = turn.Stopped(context.DeadlineExceeded) // it was the SDK that stopped it
	}
	return during(what, err)
}

// idForm is that of every id. Ids come from outside and get into paths.
var idForm = regexp.MustCompile(`^[0-9]{1,19}$`)

// equal is a filter: an attribute has a value, without regard to case.
// https://datatracker.ietf.org/doc/html/rfc7644#section-3.4.2.2
func equal(attribute, value string) string { return attribute + " eq " + literal(value) }

// literal quotes a value for a filter, as JSON does.
func literal(value string) string {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		panic("databricks: encoding a string failed: " + err.Error())
	}
	return strings.TrimSuffix(text.String(), "\n")
}

// list reads one page: request and answer are those of the SDK. It knows what is
// there, so that nothing of it can be missing.
func (a *api) list(ctx context.Context, what string, request, into any) error {
	err := a.call(ctx, "reading "+what, func(ctx context.Context) error {
		path := "/api/2.0/accounts/" + url.PathEscape(a.account) + "/scim/v2/" + what
		return a.sdk.Do(ctx, http.MethodGet, path, map[string]string{"Accept": "application/json"}, nil, request, into)
	})
	if k := access.KindOf(err); k == access.ResourceMissing || k == access.Unsupported {
		return access.Errorf(access.Invalid, "reading %s: there is no such account", what).WithRemedy("%s", addressRemedy)
	}
	return err
}

// pageSize is how much of a list is asked for at once. The API may give less.
const pageSize = 100

// groups reads a page of the groups, without their members. The first one has
// number 1; there is nothing behind an empty page.
// https://docs.databricks.com/api/account/accountgroupsv2/list
func (a *api) groups(ctx context.Context, filter string, from, count int64) (page iam.ListAccountGroupsResponse, err error) {
	err = a.list(ctx, "Groups", iam.ListAccountGroupsRequest{Attributes: "id,displayName,externalId,meta,roles", Filter: filter, StartIndex: from, Count: count}, &page)
	return page, err
}

// groupsNamed are those of exactly that name: the filter knows no case.
func (a *api) groupsNamed(ctx context.Context, name string) (found []group, err error) {
	all, err := every(func(from int64) ([]iam.AccountGroup, int64, error) {
		page, err := a.groups(ctx, equal("displayName", name), from, pageSize)
		return page.Resources, page.TotalResults, err
	})
	for _, g := range all {
		if g.DisplayName == name && idForm.MatchString(g.Id) {
			found = append(found, group{g})
		}
	}
	return found, err
}

// usersNamed are those whose user name is an address.
// https://docs.databricks.com/api/account/accountusersv2/list
func (a *api) usersNamed(ctx context.Context, email string) (found []iam.AccountUser, err error) {
	all, err := every(func(from int64) ([]iam.AccountUser, int64, error) {
		var page iam.ListAccountUsersResponse
		err := a.list(ctx, "Users", iam.ListAccountUsersRequest{Attributes: "id,userName,active", Filter: equal("userName", access.NormalEmail(email)), StartIndex: from, Count: pageSize}, &page)
		return page.Resources, page.TotalResults, err
	})
	for _, u := range all {
		if access.SameEmail(u.UserName, email) && idForm.MatchString(u.Id) {
			found = append(found, u)
		}
	}
	return found, err
}

// principal is the service principal of an application id.
// https://docs.databricks.com/api/account/accountserviceprincipalsv2/list
func (a *api) principal(ctx context.Context, application string) (iam.AccountServicePrincipal, error) {
	var page iam.ListAccountServicePrincipalsResponse
	err := a.list(ctx, "ServicePrincipals", iam.ListAccountServicePrincipalsRequest{Attributes: "id,applicationId,displayName,roles", Filter: equal("applicationId", application), StartIndex: 1, Count: pageSize}, &page)
	for _, p := range page.Resources {
		if strings.EqualFold(p.ApplicationId, application) {
			return p, err
		}
	}
	return iam.AccountServicePrincipal{}, err
}

// every reads all pages of a list.
func every[V any](page func(from int64) (found []V, total int64, err error)) (all []V, err error) {
	for {
		found, total, err := page(int64(len(all)) + 1)
		all = append(all, found...)
		if err != nil || len(found) == 0 || int64(len(all)) >= total {
			return all, err
		}
	}
}

// group reads a group with its members, which no list has.
// https://docs.databricks.com/api/account/accountgroupsv2/get
func (a *api) group(ctx context.Context, id string) (g group, err error) {
	err = a.call(ctx, "reading group "+id, func(ctx context.Context) error {
		read, err := iam.NewAccountGroupsV2(a.sdk).Get(ctx, iam.GetAccountGroupRequest{Id: id})
		if err == nil && read.Id != id {
			return access.Errorf(access.Retry, "the API answers with another group")
		}
		g.AccountGroup = *read
		return err
	})
	return g, err
}

// group is a group as one reading showed it.
type group struct{ iam.AccountGroup }

// has tells whether a user is a member. Groups and service principals can be
// members too, with ids of their own.
func (g group) has(user string) bool {
	return slices.ContainsFunc(g.Members, func(m iam.ComplexValue) bool {
		return m.Value == user && (m.Ref == "" || strings.HasSuffix(m.Ref, "Users/"+user))
	})
}

// patch changes one member of a group and nothing else.
// https://docs.databricks.com/api/account/accountgroupsv2/patch
func (a *api) patch(ctx context.Context, what, group string, change iam.Patch) error {
	return a.call(ctx, what+" group "+group, func(ctx context.Context) error {
		return iam.NewAccountGroupsV2(a.sdk).Patch(ctx, patching(group, change))
	})
}

func patching(group string, change iam.Patch) iam.PatchAccountGroupRequest {
	return iam.PatchAccountGroupRequest{Id: group, Operations: []iam.Patch{change}, Schemas: []iam.PatchSchema{iam.PatchSchemaUrnIetfParamsScimApiMessages20PatchOp}}
}

func addition(user string) iam.Patch {
	return iam.Patch{Op: iam.PatchOpAdd, Path: "members", Value: []iam.ComplexValue{{Value: user}}}
}

// removal names the member in the path: the path "members" would remove all.
func removal(user string) iam.Patch {
	return iam.Patch{Op: iam.PatchOpRemove, Path: "members[" + equal("value", user) + "]"}
}

// source says who made a membership, where the account has this newer API.
// https://docs.databricks.com/api/account/accountiamv2
func (a *api) source(ctx context.Context, group, user string) (source iamv2.GroupMembershipSource, err error) {
	g, err := strconv.ParseInt(group, 10, 64)
	if err != nil {
		return "", access.Errorf(access.Invalid, "%q is no id", group)
	}
	u, err := strconv.ParseInt(user, 10, 64)
	if err != nil {
		return "", access.Errorf(access.Invalid, "%q is no id", user)
	}
	err = a.call(ctx, "reading who made a membership in group "+group, func(ctx context.Context) error {
		m, err := iamv2.NewAccountIamV2(a.sdk).GetDirectGroupMember(ctx, iamv2.GetDirectGroupMemberRequest{GroupId: g, PrincipalId: u})
		if err == nil {
			source = m.MembershipSource
		}
		return err
	})
	return source, err
}

// secretsEnd are the ends of a service principal's secrets.
// https://docs.databricks.com/api/account/serviceprincipalsecrets/list
func (a *api) secretsEnd(ctx context.Context, principal string) (ends []time.Time, err error) {
	if !idForm.MatchString(principal) {
		return nil, access.Errorf(access.Invalid, "%q is no id", principal)
	}
	err = a.call(ctx, "reading the secrets of the service principal", func(ctx context.Context) error {
		all, err := vendoroauth2.NewServicePrincipalSecrets(a.sdk).ListAll(ctx, vendoroauth2.ListServicePrincipalSecretsRequest{ServicePrincipalId: principal})
		for _, s := range all {
			if end, err := time.Parse(time.RFC3339, s.ExpireTime); err == nil {
				ends = append(ends, end)
			}
		}
		return err
	})
	return ends, err
}
