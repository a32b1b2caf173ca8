package databricks_test

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"testing"

	"github.com/databricks/databricks-sdk-go/client"
	"github.com/databricks/databricks-sdk-go/config"
	"github.com/databricks/databricks-sdk-go/service/iam"
	"github.com/databricks/databricks-sdk-go/service/iamv2"
	"github.com/databricks/databricks-sdk-go/service/oauth2"

	"github.com/lapse-access/lapse/access"
)

// vendor is the vendor's own client on the model, with its own configuration and
// login.
func vendor(t testing.TB, a *account) *client.DatabricksClient {
	t.Helper()
	c, err := client.New(&config.Config{
		Host: a.URL, AccountID: accountID, ClientID: clientID, ClientSecret: clientSecret, Credentials: config.M2mCredentials{}, Loaders: []config.Loader{unset{}},
		HostMetadataResolver: func(context.Context, string) (*config.HostMetadata, error) {
			return &config.HostMetadata{HostType: config.AccountHost, OIDCEndpoint: a.URL + "/oidc/accounts/{account_id}"}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// unset leaves the environment out of it.
type unset struct{}

func (unset) Name() string                   { return "unset" }
func (unset) Configure(*config.Config) error { return nil }

// TestEveryRequestIsTheVendors lets Lapse do all that it does, and then the
// vendor's own client: each request of Lapse is, byte by byte, one that this client
// makes. And so the model serves that client too.
func TestEveryRequestIsTheVendors(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.newer = true
	said := func() []string {
		defer clear(b.wire)
		return slices.Sorted(maps.Keys(b.wire))
	}
	l := b.live(t)
	l.Account.Email = `o"brien@example.com`
	user := b.user(l.Account.Email)
	l.grant(t, access.Granted, in(hostile))
	l.revoke(t, access.Gone, in(hostile))
	check(t, l.Integration)
	catalog(t, l.Integration)
	if _, err := l.Accounts(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	ours := said()

	var hostileGroup *modelGroup
	for _, g := range b.groups {
		if g.DisplayName == hostile {
			hostileGroup = g
		}
	}
	ctx, sdk := t.Context(), vendor(t, b.account)
	fail := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	groups := iam.NewAccountGroupsV2(sdk)
	const attributes = "id,displayName,externalId,meta,roles"
	all, err := groups.ListAll(ctx, iam.ListAccountGroupsRequest{Attributes: attributes, Count: 100})
	if fail("listing groups", err); len(all) != len(b.groups) {
		t.Errorf("the vendor's client lists %d groups, want %d", len(all), len(b.groups))
	}
	_, err = groups.ListAll(ctx, iam.ListAccountGroupsRequest{Attributes: attributes, Count: 1})
	fail("listing a group", err)
	named, err := groups.ListAll(ctx, iam.ListAccountGroupsRequest{Attributes: attributes, Count: 100, Filter: "displayName eq " + quoted(hostile)})
	if fail("finding a group", err); len(named) != 1 {
		t.Errorf("the vendor's client finds %d groups, want 1", len(named))
	}
	_, err = groups.Get(ctx, iam.GetAccountGroupRequest{Id: hostileGroup.Id})
	fail("reading a group", err)
	_, err = iam.NewAccountUsersV2(sdk).ListAll(ctx, iam.ListAccountUsersRequest{Attributes: "id,userName,active", Count: 100, Filter: `userName eq "o\"brien@example.com"`})
	fail("finding a user", err)
	me, err := iam.NewAccountServicePrincipalsV2(sdk).ListAll(ctx, iam.ListAccountServicePrincipalsRequest{Attributes: "id,applicationId,displayName,roles", Count: 100, Filter: `applicationId eq "` + clientID + `"`})
	if fail("finding a service principal", err); len(me) != 1 {
		t.Fatalf("the vendor's client finds %d service principals, want 1", len(me))
	}
	_, err = oauth2.NewServicePrincipalSecrets(sdk).ListAll(ctx, oauth2.ListServicePrincipalSecretsRequest{ServicePrincipalId: me[0].Id})
	fail("listing secrets", err)
	patch := func(o iam.Patch) iam.PatchAccountGroupRequest {
		return iam.PatchAccountGroupRequest{Id: hostileGroup.Id, Operations: []iam.Patch{o}, Schemas: []iam.PatchSchema{iam.PatchSchemaUrnIetfParamsScimApiMessages20PatchOp}}
	}
	fail("adding", groups.Patch(ctx, patch(iam.Patch{Op: iam.PatchOpAdd, Path: "members", Value: []iam.ComplexValue{{Value: user}}})))
	gid, _ := strconv.ParseInt(hostileGroup.Id, 10, 64)
	uid, _ := strconv.ParseInt(user, 10, 64)
	_, err = iamv2.NewAccountIamV2(sdk).GetDirectGroupMember(ctx, iamv2.GetDirectGroupMemberRequest{GroupId: gid, PrincipalId: uid})
	fail("reading a membership", err)
	fail("removing", groups.Patch(ctx, patch(iam.Patch{Op: iam.PatchOpRemove, Path: `members[value eq "` + user + `"]`})))
	theirs := said()

	for _, request := range ours {
		if !slices.Contains(theirs, request) {
			t.Errorf("not as the vendor's client asks:\n%s\nwhich asks:\n%q", request, theirs)
		}
	}
}

// quoted is a name as RFC 7644 has it in a filter, written down by hand.
func quoted(name string) string {
	if name != hostile {
		panic("no other name is written down")
	}
	return `"we\"ird';--\\ %s $1 ../?a=b&c#d \t😀 ` + "\u202e" + `x/*|.+"`
}
