package github

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	gh "github.com/google/go-github/v89/github"

	"github.com/lapse-access/lapse/access"
)

// The sources of identities, in the order of auto.
const (
	fromOrganization = "org_saml"
	fromEnterprise   = "enterprise_saml"
	fromSCIM         = "scim"
	fromDomain       = "verified_domain"
	fromPublic       = "public_email"
)

var (
	loginForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$`)
	hostForm  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$`)
	nameForm  = regexp.MustCompile(`^([0-9]{1,18})\+(.+)$`)
)

// person is somebody with a login.
type person struct {
	id            int64
	login         string
	member, owner bool // of the organization
}

// name is that of the account: number and login, as GitHub itself writes them in
// its no-reply addresses.
// https://docs.github.com/en/account-and-profile/reference/email-addresses-reference#your-noreply-email-address
func (p person) name() string { return fmt.Sprintf("%d+%s", p.id, p.login) }

// numbered is the number in an account's name; 0 when there is none.
func numbered(name string) int64 {
	m := nameForm.FindStringSubmatch(name)
	if m == nil {
		return 0
	}
	id, _ := strconv.ParseInt(m[1], 10, 64) // 18 digits fit
	return id
}

// memory is how long it is remembered whose an address is: a grant asks several
// times, and a search counts against a limit of its own.
const memory = time.Minute

type remembered struct {
	person
	until time.Time
}

// entering finds a person by the address, for what is to be granted.
func (i *integration) entering(ctx context.Context, a access.Account) (person, error) {
	address := access.NormalEmail(a.Email)
	i.mu.Lock()
	known, ok := i.logins[address]
	i.mu.Unlock()
	p := known.person
	if !ok || time.Now().After(known.until) {
		var err error
		if p, err = i.search(ctx, address); err != nil {
			return person{}, err
		}
		i.mu.Lock()
		for address, r := range i.logins {
			if time.Now().After(r.until) {
				delete(i.logins, address)
			}
		}
		i.logins[address] = remembered{p, time.Now().Add(memory)}
		i.mu.Unlock()
	}
	var err error
	p.member, p.owner, err = i.member(ctx, p.login)
	return p, err
}

// present finds a person to whom something was granted: by the number, whatever
// the login and the address are by now. Nobody, without an error, is somebody who
// has left GitHub.
func (i *integration) present(ctx context.Context, a access.Account) (person, error) {
	if number := numbered(a.Name); number != 0 {
		return i.known(ctx, number)
	}
	return i.entering(ctx, a)
}

// known is the person of a number.
func (i *integration) known(ctx context.Context, number int64) (p person, err error) {
	p.id = number
	if p.login, err = i.login(ctx, p.id); err != nil || p.login == "" {
		return person{}, err
	}
	p.member, p.owner, err = i.member(ctx, p.login)
	return p, err
}

// search asks the sources of identities, one after the other, until one knows the
// address.
func (i *integration) search(ctx context.Context, address string) (person, error) {
	if local, _, ok := strings.Cut(address, "@"); !ok || local == "" {
		return person{}, access.Errorf(access.PersonMissing, "%q is no address", address)
	}
	sources := []string{i.config.IdentitySource}
	if i.config.IdentitySource == "auto" {
		sources = []string{fromOrganization, fromDomain, fromPublic}
		if i.config.Enterprise != "" {
			sources = append([]string{fromEnterprise}, sources...)
		}
	}
	why := "no source of identities knows " + address
	for _, source := range sources {
		found, unlinked, err := i.ask(ctx, source, address)
		// A source that there is not, or that the token may not read, is none
		// where it was not asked for by name.
		kind := access.KindOf(err)
		if len(sources) > 1 && (kind == access.ResourceMissing || kind == access.Privilege || kind == access.Unsupported) {
			continue
		}
		switch {
		case err != nil:
			return person{}, during("finding "+address, err)
		case len(found) == 1:
			return found[0], nil
		case len(found) > 1:
			return person{}, access.Errorf(access.PersonMissing, "%d people of GitHub have the address %s", len(found), address)
		case unlinked:
			why = "the identity provider knows " + address + ", and no login is linked to it yet: the person has to sign in to the organization once"
		}
	}
	return person{}, access.Errorf(access.PersonMissing, "%s", why).
		WithRemedy("link the person's login by the identity provider, verify the organization's domain, or let the person make the address public")
}

// ask asks one source. unlinked is true when it knows the address and no login.
func (i *integration) ask(ctx context.Context, source, address string) (found []person, unlinked bool, err error) {
	switch source {
	case fromDomain:
		found, err = i.byDomain(ctx, address)
	case fromPublic:
		found, err = i.byPublicAddress(ctx, address)
	default:
		found, unlinked, err = i.byIdentity(ctx, source, address)
	}
	return found, unlinked, err
}

// graphUser is a user of the GraphQL API.
type graphUser struct {
	Login      string
	DatabaseID int64
}

func (u graphUser) person() person { return person{id: u.DatabaseID, login: u.Login} }

// identity is what an identity provider says of somebody.
type identity struct {
	SAML *struct {
		NameID, Username string
		Emails           []struct{ Value string }
	} `json:"samlIdentity"`
	SCIM *struct {
		Username string
		Emails   []struct{ Value string }
	} `json:"scimIdentity"`
	User *graphUser
}

// has tells whether an identity has the address.
func (x identity) has(address string, scimOnly bool) bool {
	var all []string
	if x.SAML != nil && !scimOnly {
		all = append(all, x.SAML.NameID, x.SAML.Username)
		for _, e := range x.SAML.Emails {
			all = append(all, e.Value)
		}
	}
	if x.SCIM != nil {
		all = append(all, x.SCIM.Username)
		for _, e := range x.SCIM.Emails {
			all = append(all, e.Value)
		}
	}
	for _, one := range all {
		if access.SameEmail(one, address) {
			return true
		}
	}
	return false
}

// identities is a page of them.
type identities struct {
	ExternalIdentities struct {
		Nodes    []identity
		PageInfo pageInfo
	}
}

const identityFields = `{ externalIdentities(first: 100, after: $after, userName: $userName) {
	nodes { samlIdentity { nameId username emails { value } } scimIdentity { username emails { value } } user { login databaseId } }
	pageInfo { hasNextPage endCursor } } }`

const organizationIdentities = `query($slug: String!, $after: String, $userName: String) {
	organization(login: $slug) { samlIdentityProvider ` + identityFields + ` } }`

const enterpriseIdentities = `query($slug: String!, $after: String, $userName: String) {
	enterprise(slug: $slug) { ownerInfo { samlIdentityProvider ` + identityFields + ` oidcProvider ` + identityFields + ` } } }`

// provider reads a page of the identities of the organization or the enterprise.
func (i *integration) provider(ctx context.Context, source string, userName, after any) (*identities, error) {
	if source == fromEnterprise || source == fromSCIM && i.config.Enterprise != "" {
		return i.enterpriseIdentities(ctx, map[string]any{"slug": i.config.Enterprise, "userName": userName, "after": after})
	}
	return i.organizationIdentities(ctx, map[string]any{"slug": i.config.Organization, "userName": userName, "after": after})
}

// byIdentity asks the identity provider: first for whom it calls by the address,
// then all, since an address may be one of several.
func (i *integration) byIdentity(ctx context.Context, source, address string) (found []person, unlinked bool, err error) {
	seen := map[int64]bool{}
	for _, userName := range []any{address, nil} {
		var after any
		for more := true; more; {
			page, err := i.provider(ctx, source, userName, after)
			if err != nil {
				return nil, false, err
			}
			for _, x := range page.ExternalIdentities.Nodes {
				switch {
				case !x.has(address, source == fromSCIM):
				case x.User == nil:
					unlinked = true
				case !seen[x.User.DatabaseID]:
					seen[x.User.DatabaseID] = true
					found = append(found, x.User.person())
				}
			}
			more, after = page.ExternalIdentities.PageInfo.HasNextPage, page.ExternalIdentities.PageInfo.EndCursor
		}
		if len(found) > 0 {
			break
		}
	}
	return found, unlinked, nil
}

var errNoProvider = access.Errorf(access.Unsupported, "there is no identity provider that the token can read").
	WithRemedy("choose another identity_source; for that of an enterprise let the token belong to an owner of it and have the scope read:enterprise")

func (i *integration) organizationIdentities(ctx context.Context, variables map[string]any) (*identities, error) {
	var answer struct {
		Organization *struct {
			Provider *identities `json:"samlIdentityProvider"`
		}
	}
	if err := i.query(ctx, organizationIdentities, variables, &answer); err != nil {
		return nil, err
	}
	if answer.Organization == nil || answer.Organization.Provider == nil {
		return nil, errNoProvider
	}
	return answer.Organization.Provider, nil
}

func (i *integration) enterpriseIdentities(ctx context.Context, variables map[string]any) (*identities, error) {
	var answer struct {
		Enterprise *struct {
			OwnerInfo *struct {
				SAML *identities `json:"samlIdentityProvider"`
				OIDC *identities `json:"oidcProvider"`
			}
		}
	}
	if err := i.query(ctx, enterpriseIdentities, variables, &answer); err != nil {
		return nil, err
	}
	switch {
	case answer.Enterprise == nil || answer.Enterprise.OwnerInfo == nil:
		return nil, errNoProvider
	case answer.Enterprise.OwnerInfo.SAML != nil:
		return answer.Enterprise.OwnerInfo.SAML, nil
	case answer.Enterprise.OwnerInfo.OIDC != nil:
		return answer.Enterprise.OwnerInfo.OIDC, nil
	}
	return nil, errNoProvider
}

const domainQuery = `query($organization: String!, $after: String) { organization(login: $organization) {
	membersWithRole(first: 100, after: $after) {
		nodes { login databaseId organizationVerifiedDomainEmails(login: $organization) }
		pageInfo { hasNextPage endCursor } } } }`

// byDomain reads the members' addresses of domains that the organization verified.
// https://docs.github.com/en/organizations/managing-organization-settings/verifying-or-approving-a-domain-for-your-organization
func (i *integration) byDomain(ctx context.Context, address string) (found []person, err error) {
	variables := map[string]any{"organization": i.config.Organization, "after": nil}
	for {
		var answer struct {
			Organization *struct {
				MembersWithRole struct {
					Nodes []struct {
						graphUser
						Addresses []string `json:"organizationVerifiedDomainEmails"`
					}
					PageInfo pageInfo
				}
			}
		}
		if err := i.query(ctx, domainQuery, variables, &answer); err != nil {
			return nil, err
		}
		if answer.Organization == nil {
			_, err := i.organization(ctx)
			return nil, err
		}
		for _, m := range answer.Organization.MembersWithRole.Nodes {
			for _, one := range m.Addresses {
				if access.SameEmail(one, address) {
					found = append(found, m.person())
					break
				}
			}
		}
		if !answer.Organization.MembersWithRole.PageInfo.HasNextPage {
			return found, nil
		}
		variables["after"] = answer.Organization.MembersWithRole.PageInfo.EndCursor
	}
}

// byPublicAddress searches profiles, and looks at each that is found: a search is
// no comparison.
// https://docs.github.com/en/rest/search/search#search-users
func (i *integration) byPublicAddress(ctx context.Context, address string) (found []person, err error) {
	result, err := get(ctx, i, func(ctx context.Context) (*gh.UsersSearchResult, *gh.Response, error) {
		return i.rest.Search.Users(ctx, strconv.Quote(address)+" in:email type:user", &gh.SearchOptions{ListOptions: gh.ListOptions{PerPage: 10}})
	})
	if err != nil {
		return nil, err
	}
	for _, hit := range result.Users {
		profile, err := get(ctx, i, func(ctx context.Context) (*gh.User, *gh.Response, error) {
			return i.rest.Users.Get(ctx, segment(hit.GetLogin()))
		})
		switch {
		case isMissing(err):
		case err != nil:
			return nil, err
		case access.SameEmail(profile.GetEmail(), address) && profile.GetID() == hit.GetID():
			found = append(found, person{id: profile.GetID(), login: profile.GetLogin()})
		}
	}
	return found, nil
}
