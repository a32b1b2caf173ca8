package databricks_test

import (
	"strings"
	"testing"
	"time"

	"github.com/databricks/databricks-sdk-go/service/iam"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/databricks"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/internal/certificationtest"
)

// The integration under test.
const (
	instance    = "lapse-test"
	integration = "db-test"
)

// hostile is a name that wants to break out of everything.
const hostile = "we\"ird';--\\ %s $1 ../?a=b&c#d \t😀 \u202ex/*|.+"

// bed is a model with something on it.
type bed struct {
	*account
	analysts, engineers, operators *modelGroup
}

// newBed has groups with a stranger, a service principal and another group in
// them, a group that differs by case alone, and groups that are not for Lapse.
func newBed(t testing.TB) *bed {
	a := newAccount(t)
	stranger := a.user("stranger@example.com")
	inner := a.group("inner")
	crowd := func(g *iam.AccountGroup) {
		for _, id := range []string{stranger, a.principals[0].Id, inner.Id} {
			m, _ := a.reference(id)
			g.Members = append(g.Members, m)
		}
	}
	b := &bed{account: a, analysts: a.group("analysts", crowd), engineers: a.group("engineers", crowd), operators: a.group("operators", crowd)}
	a.group("Analysts", crowd)
	a.group(hostile, crowd)
	a.group(`" or displayName co "a`)
	role := func(g *iam.AccountGroup) { g.Roles = []iam.ComplexValue{{Value: "account_admin"}} }
	a.group("account users", crowd, role)
	a.group("synced", crowd, func(g *iam.AccountGroup) { g.ExternalId = "00u1" })
	a.group("admins of all", role)
	a.group("local", func(g *iam.AccountGroup) { g.Meta = &iam.ResourceMeta{ResourceType: "WorkspaceGroup"} })
	return b
}

// target is the integration as configured for the connector.
func (a *account) target(change ...func(*databricks.Config, *databricks.Secret)) integrations.Target {
	config := &databricks.Config{AccountsURL: a.URL, AccountID: accountID, RequestTimeout: access.Duration(30 * time.Second), RequestsPerSecond: 1000, MaxResources: 10000}
	secret := &databricks.Secret{ClientID: clientID, ClientSecret: clientSecret}
	for _, f := range change {
		f(config, secret)
	}
	return integrations.Target{Instance: instance, ID: integration, Name: "test", Config: config, Secret: secret}
}

func (a *account) kind() integrations.Kind { return databricks.KindAt(a.time.now, a.time.sleep) }

// in is membership in a group.
func in(name string) access.Entitlement {
	return access.Entitlement{Integration: integration, Resource: access.NewResource("group", name), Permission: "member"}
}

// someone is a person whom the account knows by as many users. The directory
// writes their address in its own way.
func (a *account) someone(users int) (who access.Account) {
	a.locked(func() { who.PersonID = "p-" + a.next() })
	who.ID, who.Integration = access.AccountID(integration, who.PersonID), integration
	who.Email = strings.ToUpper(who.PersonID[:1]) + who.PersonID[1:] + "@Example.com"
	for n := range users {
		name := strings.ToLower(who.Email)
		if n > 0 {
			name = who.Email // from the time when case mattered
		}
		a.user(name)
	}
	return who
}

// harness is the bed as the suite takes it.
func (b *bed) harness() *integrationtest.Harness {
	return &integrationtest.Harness{
		Kind:     b.kind(),
		Target:   b.target(),
		Person:   func(integrationtest.T) access.Account { return b.someone(1) },
		Chains:   [][]access.Entitlement{{in("analysts")}, {in("Analysts")}, {in(hostile)}},
		Apart:    [2]access.Entitlement{in("analysts"), in("engineers")},
		Absent:   []access.Entitlement{in("nobody"), in("ANALYSTS")},
		Hostile:  []access.Entitlement{in(hostile), in(`" or displayName co "a`)},
		Existing: in("operators"),
		Canaries: []string{clientSecret, "canary-wrong", tokenPrefix, adminToken},
		Wrong: func() integrations.Target {
			return b.target(func(_ *databricks.Config, s *databricks.Secret) { s.ClientSecret = "canary-wrong" })
		},
		Address: b.Listener.Addr().String(),
		Changes: certificationtest.Requests("/oidc"),
		Via: func(address string) integrations.Target {
			return b.target(func(c *databricks.Config, _ *databricks.Secret) { c.AccountsURL = "http://" + address })
		},
		Observer: &observer{b},
	}
}

// observer looks into the model.
type observer struct{ *bed }

var _ interface {
	integrationtest.Observer
	integrationtest.HandObserver
	integrationtest.DirectoryObserver
	integrationtest.Throttler
	integrationtest.Closer
	integrationtest.Deafener
	integrationtest.Administrator
} = (*observer)(nil)

// userOf is the id of somebody's first user, by their address.
func (a *account) userOf(who access.Account) string {
	for _, u := range a.users {
		if access.SameEmail(u.UserName, who.Email) {
			return u.Id
		}
	}
	return ""
}

// Can looks who is in the group now, and that everybody else in it is still there.
func (o *observer) Can(t integrationtest.T, who access.Account, e access.Entitlement) (can bool) {
	t.Helper()
	names, err := e.Resource.Names()
	if err != nil {
		t.Fatalf("%v", err)
	}
	o.locked(func() {
		for _, g := range o.groups {
			if g.DisplayName == names[0] {
				can = can || g.has(o.userOf(who))
			}
			if g.past[0].members != nil && !g.has(o.users[0].Id) {
				t.Errorf("group %s has lost somebody who is none of Lapse's business", g.DisplayName)
			}
		}
	})
	return can
}

func (o *observer) Give(_ integrationtest.T, who access.Account) {
	o.locked(func() {
		m, _ := o.reference(o.userOf(who))
		o.set(o.operators, append(o.operators.Members[:len(o.operators.Members):len(o.operators.Members)], m))
		o.time.pass(o.lag)
	})
}

func (o *observer) Given(t integrationtest.T, who access.Account) bool {
	return o.Can(t, who, in("operators"))
}

func (o *observer) Unknown(integrationtest.T) access.Account   { return o.someone(0) }
func (o *observer) Ambiguous(integrationtest.T) access.Account { return o.someone(2) }

func (o *observer) Throttle(_ integrationtest.T, delay time.Duration) (undo func()) {
	o.locked(func() { o.throttled, o.delay = true, delay })
	return func() { o.locked(func() { o.throttled = false }) }
}

func (o *observer) Shut(_ integrationtest.T, r access.Resource) (undo func()) {
	names, _ := r.Names()
	o.locked(func() { o.shut = names[0] })
	return func() { o.locked(func() { o.shut = "" }) }
}

func (o *observer) Deafen(integrationtest.T) (undo func()) {
	o.locked(func() { o.deaf = true })
	return func() { o.locked(func() { o.deaf = false }) }
}

// RunByHand runs the steps with an account admin's token, and
// takes its time.
func (o *observer) RunByHand(t integrationtest.T, head, steps string) error {
	defer o.time.pass(o.lag)
	return certificationtest.Shell(t, strings.ReplaceAll(head, "...", adminToken)+steps, "")
}
