package rediscloud

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/httpapi"
)

// The calls of the API that are used:
// https://redis.io/docs/latest/operate/rc/api/api-reference/

// The statuses of users, roles and rules.
const (
	active   = "active"
	pending  = "pending"
	deleting = "deleting"
)

// user is a user of the databases.
type user struct {
	ID     int    `json:"id"`
	Name   string `json:"name"`
	Role   string `json:"role"`
	Status string `json:"status"`
}

// role says which rules hold on which databases, for its users.
type role struct {
	ID         int        `json:"id"`
	Name       string     `json:"name"`
	RedisRules []roleRule `json:"redisRules"`
	Users      []roleUser `json:"users"`
	Status     string     `json:"status"`
}

type roleRule struct {
	RuleName  string         `json:"ruleName"`
	Databases []roleDatabase `json:"databases"`
}

type roleDatabase struct {
	SubscriptionID int      `json:"subscriptionId"`
	DatabaseID     int      `json:"databaseId"`
	DatabaseName   string   `json:"databaseName,omitempty"` // never sent
	Regions        []string `json:"regions,omitempty"`      // of Active-Active databases
}

type roleUser struct {
	Name string `json:"name"`
}

// rule is what somebody may do on a database.
type rule struct {
	Name    string `json:"name"`
	BuiltIn bool   `json:"isDefault"`
	Status  string `json:"status"`
}

type subscription struct {
	ID    int    `json:"id"`
	Name  string `json:"name"`
	fixed bool   // Essentials
}

// database is one of a listing. The answer for a single database would bring the
// password of its user default.
type database struct {
	ID              int                              `json:"databaseId"`
	Name            string                           `json:"name"`
	Protocol        string                           `json:"protocol"`
	Status          string                           `json:"status"`
	PublicEndpoint  string                           `json:"publicEndpoint"`
	PrivateEndpoint string                           `json:"privateEndpoint"`
	Dynamic         struct{ Public, Private string } `json:"dynamicEndpoints"`
	Security        struct {
		TLS          bool `json:"enableTls"`
		ClientTLS    bool `json:"tlsClientAuthentication"`
		DefaultUser  bool `json:"enableDefaultUser"`
		DefaultUser2 bool `json:"defaultUserEnabled"` // Essentials
	} `json:"security"`
	// Regions are those of an Active-Active database.
	Regions []struct {
		Region          string `json:"region"`
		PublicEndpoint  string `json:"publicEndpoint"`
		PrivateEndpoint string `json:"privateEndpoint"`
	} `json:"crdbDatabases"`
}

// task is a change that the API took.
type task struct {
	ID       string `json:"taskId"`
	Status   string `json:"status"`
	Response struct {
		Error vendorCode `json:"error"`
	} `json:"response"`
}

// The ends of a task:
// https://redis.io/docs/latest/operate/rc/api/get-started/process-lifecycle/
const (
	completed = "processing-completed"
	erred     = "processing-error"
)

func (s *Secret) authorize(r *http.Request) {
	r.Header.Set("x-api-key", s.APIKey.Reveal())
	r.Header.Set("x-api-secret-key", s.SecretKey.Reveal())
}

// call makes one request, not sooner than the account's rate allows.
func (i *integration) call(ctx context.Context, method string, path []string, query url.Values, in, into any) error {
	if err := i.account.pace(ctx, i.clock); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, i.config.RequestTimeout.Std())
	defer cancel()
	res, err := i.api.Do(ctx, method, path, query, in)
	if err != nil {
		return during(method+" "+(&url.URL{Path: pathOf(path)}).String(), err)
	}
	return during("reading the answer", res.JSON(into))
}

func pathOf(path []string) (text string) {
	for _, p := range path {
		text += "/" + p
	}
	return text
}

// list reads what there may be none of, for which some lists answer 404. So does
// everything below a wrong address: the account has to be readable then.
func (i *integration) list(ctx context.Context, path []string, query url.Values, into any) error {
	err := i.call(ctx, http.MethodGet, path, query, nil, into)
	if access.KindOf(err) != access.ResourceMissing {
		return err
	}
	switch info, err := i.whoami(ctx); {
	case access.KindOf(err) == access.ResourceMissing, err == nil && info.Account.ID == 0:
		return access.Errorf(access.Invalid, "there is no API of Redis Cloud at api_url")
	default:
		return err
	}
}

func (i *integration) task(ctx context.Context, id string) (t task, err error) {
	err = i.call(ctx, http.MethodGet, []string{"tasks", id}, nil, nil, &t)
	return t, err
}

// accountInfo is the account and the key with which we came.
type accountInfo struct {
	Account struct {
		ID   int    `json:"id"`
		Name string `json:"name"`
		Key  struct {
			Name  string `json:"name"`
			Owner struct {
				Email string `json:"email"`
			} `json:"owner"`
		} `json:"key"`
	} `json:"account"`
}

func (i *integration) whoami(ctx context.Context) (info accountInfo, err error) {
	err = i.call(ctx, http.MethodGet, nil, nil, nil, &info)
	return info, err
}

// person is somebody with access to the account, not to its databases.
type person struct {
	Email string `json:"email"`
	Role  string `json:"role"`
}

func (i *integration) people(ctx context.Context) ([]person, error) {
	var answer struct{ Users []person }
	err := i.call(ctx, http.MethodGet, []string{"users"}, nil, nil, &answer)
	return answer.Users, err
}

func (i *integration) users(ctx context.Context) ([]user, error) {
	var answer struct{ Users []user }
	err := i.list(ctx, []string{"acl", "users"}, nil, &answer)
	return answer.Users, err
}

func (i *integration) roles(ctx context.Context) ([]role, error) {
	var answer struct{ Roles []role }
	err := i.list(ctx, []string{"acl", "roles"}, nil, &answer)
	return answer.Roles, err
}

func (i *integration) rules(ctx context.Context) ([]rule, error) {
	var answer struct {
		Rules []rule `json:"redisRules"`
	}
	err := i.list(ctx, []string{"acl", "redisRules"}, nil, &answer)
	return answer.Rules, err
}

// subscriptions reads those of both sorts that the integration is about.
func (i *integration) subscriptions(ctx context.Context) (all []subscription, err error) {
	for _, fixed := range []bool{false, true} {
		var answer struct{ Subscriptions []subscription }
		if err := i.list(ctx, subscriptionsPath(fixed), nil, &answer); err != nil {
			return nil, err
		}
		for _, s := range answer.Subscriptions {
			s.fixed = fixed
			all = append(all, s)
		}
	}
	return all, nil
}

func subscriptionsPath(fixed bool, more ...string) []string {
	if fixed {
		return append([]string{"fixed", "subscriptions"}, more...)
	}
	return append([]string{"subscriptions"}, more...)
}

// pageSize bounds a page of databases.
const pageSize = 100

// databases reads a page of a subscription's databases.
func (i *integration) databases(ctx context.Context, s subscription, offset int) ([]database, error) {
	var answer struct{ Subscription json.RawMessage }
	query := url.Values{"offset": {strconv.Itoa(offset)}, "limit": {strconv.Itoa(pageSize)}}
	if err := i.list(ctx, subscriptionsPath(s.fixed, strconv.Itoa(s.ID), "databases"), query, &answer); err != nil || answer.Subscription == nil {
		return nil, err
	}
	// It is a list of one for Pro subscriptions, and no list for Essentials.
	type listing struct{ Databases []database }
	var one listing
	var several []listing
	if json.Unmarshal(answer.Subscription, &one) == nil {
		return one.Databases, nil
	}
	res := httpapi.Response{Body: answer.Subscription}
	if err := res.JSON(&several); err != nil {
		return nil, err
	}
	for _, l := range several {
		one.Databases = append(one.Databases, l.Databases...)
	}
	return one.Databases, nil
}

// everyDatabase reads all pages of a subscription.
func (i *integration) everyDatabase(ctx context.Context, s subscription) (all []database, err error) {
	for {
		page, err := i.databases(ctx, s, len(all))
		all = append(all, page...)
		if err != nil || len(page) < pageSize {
			return all, err
		}
	}
}

// certificate reads what a database proves itself with.
func (i *integration) certificate(ctx context.Context, s subscription, databaseID int) (string, error) {
	var answer struct {
		PEM string `json:"publicCertificatePEMString"`
	}
	err := i.call(ctx, http.MethodGet, subscriptionsPath(s.fixed, strconv.Itoa(s.ID), "databases", strconv.Itoa(databaseID), "certificate"), nil, nil, &answer)
	return answer.PEM, err
}
