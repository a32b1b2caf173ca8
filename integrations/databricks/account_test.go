package databricks_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/databricks/databricks-sdk-go/service/iam"
	"github.com/databricks/databricks-sdk-go/service/iamv2"
	"github.com/databricks/databricks-sdk-go/service/oauth2"

	"github.com/lapse-access/lapse/internal/turn"
)

const (
	accountID    = "2b7a1c9e-0f4d-4c55-9a51-6f0d3c1e8b72"
	clientID     = "9f6c1f1e-5d0b-4c0a-8f35-0d2a7c9e4b11"
	clientSecret = "canary-client-secret"
	tokenPrefix  = "canary-token-"
	adminToken   = "canary-admin-token"
)

// account is a model of a Databricks account: its tokens, its SCIM API as
// RFC 7644 and the SDK's types have it, and the newer API that knows who made a
// membership. What it shows of groups is as old as lag. Its time passes only when
// somebody waits.
type account struct {
	*httptest.Server
	time *virtual

	mu         sync.Mutex
	serial     int
	secret     string
	users      []iam.AccountUser
	principals []iam.AccountServicePrincipal
	groups     []*modelGroup
	tokens     map[string]bool // those that hold
	requests   []string        // METHOD /path of each one
	changes    []string        // METHOD /path BODY of each one that is no reading
	wire       map[string]bool // what each one said, but for its token
	secrets    []oauth2.SecretInfo

	// What it is like.
	lag       time.Duration
	pageLimit int
	oldLists  bool // lists have members, as before August 2025
	noTarget  int  // status of a removal of nobody
	mutable   bool // external groups can be changed
	newer     bool // has the newer API
	fromIdP   map[string]bool
	throttled bool
	delay     time.Duration
	shut      string
	deaf      bool
	mood      func(w http.ResponseWriter, r *http.Request) (answered bool)
	moods     sync.Mutex
}

// virtual is a time that passes only when somebody waits.
type virtual struct {
	mu sync.Mutex
	at time.Time
}

func (v *virtual) now() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.at
}

func (v *virtual) pass(d time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.at = v.at.Add(d)
}

func (v *virtual) sleep(ctx context.Context, d time.Duration) error {
	v.pass(d)
	return turn.Stopped(ctx.Err())
}

type modelGroup struct {
	iam.AccountGroup
	past []version // oldest first
}

// version is who was in a group from a moment on.
type version struct {
	from    time.Time
	members []iam.ComplexValue
}

func newAccount(t testing.TB) *account {
	a := &account{time: &virtual{at: time.Now()}, secret: clientSecret, tokens: map[string]bool{adminToken: true}, lag: time.Second, pageLimit: 100, noTarget: http.StatusBadRequest,
		fromIdP: map[string]bool{}, wire: map[string]bool{}}
	a.principals = []iam.AccountServicePrincipal{{Id: a.next(), ApplicationId: clientID, DisplayName: "lapse", Active: true, Roles: []iam.ComplexValue{{Value: "account_admin"}}}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /oidc/accounts/{account}/v1/token", a.login)
	mux.HandleFunc("GET /oidc/accounts/{account}/.well-known/oauth-authorization-server", a.endpoints)
	scim := func(pattern string, serve http.HandlerFunc) {
		method, path, _ := strings.Cut(pattern, " ")
		mux.Handle(method+" /api/2.0/accounts/"+accountID+"/scim/v2"+path, a.inside(serve))
	}
	scim("GET /Groups", a.listGroups)
	scim("GET /Groups/{id}", a.getGroup)
	scim("PATCH /Groups/{id}", a.patchGroup)
	scim("PUT /Groups/{id}", a.putGroup)
	scim("GET /Users", a.listUsers)
	scim("GET /Users/{id}", a.getUser)
	scim("GET /ServicePrincipals", a.listPrincipals)
	mux.Handle("GET /api/2.0/identity/accounts/"+accountID+"/groups/{group}/direct-members/{principal}", a.inside(a.getMember))
	mux.Handle("GET /api/2.0/accounts/"+accountID+"/servicePrincipals/{id}/credentials/secrets", a.inside(a.listSecrets))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, "ENDPOINT_NOT_FOUND", "No API found for '"+r.Method+" "+r.URL.Path+"'")
	})
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(text))
		login, _, _ := r.BasicAuth()
		a.mu.Lock()
		a.requests = append(a.requests, r.Method+" "+r.URL.Path)
		a.wire[strings.Join([]string{r.Method, r.RequestURI, r.Header.Get("Content-Type"), r.Header.Get("Accept"), login, string(text)}, " ")] = true
		mood := a.mood
		a.mu.Unlock()
		if mood == nil || !a.moody(func() bool { return mood(w, r) }) {
			mux.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(a.Close)
	return a
}

// behave gives the account a mood, in which it may answer before itself.
func (a *account) behave(mood func(w http.ResponseWriter, r *http.Request) (answered bool)) {
	a.locked(func() { a.mood = mood })
}

// moody runs a mood, or what changes one, alone.
func (a *account) moody(work func() bool) bool {
	a.moods.Lock()
	defer a.moods.Unlock()
	return work()
}

// next is an id that the account has not given yet.
func (a *account) next() string {
	a.serial++
	return strconv.Itoa(7_000_000_000_000_000 + a.serial)
}

func (a *account) locked(work func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	work()
}

// user makes a user.
func (a *account) user(name string, change ...func(*iam.AccountUser)) (id string) {
	a.locked(func() {
		u := iam.AccountUser{Id: a.next(), UserName: name, DisplayName: name, Active: true, Emails: []iam.ComplexValue{{Value: name, Primary: true}}}
		for _, f := range change {
			f(&u)
		}
		a.users = append(a.users, u)
		id = u.Id
	})
	return id
}

// group makes a group.
func (a *account) group(name string, change ...func(*iam.AccountGroup)) (g *modelGroup) {
	a.locked(func() {
		g = &modelGroup{AccountGroup: iam.AccountGroup{Id: a.next(), DisplayName: name, Meta: &iam.ResourceMeta{ResourceType: "Group"}}}
		for _, f := range change {
			f(&g.AccountGroup)
		}
		g.past = []version{{time.Time{}, g.Members}}
		a.groups = append(a.groups, g)
	})
	return g
}

func (a *account) find(id string) *modelGroup {
	n := slices.IndexFunc(a.groups, func(g *modelGroup) bool { return g.Id == id })
	if n < 0 {
		return nil
	}
	return a.groups[n]
}

// set gives a group other members, from now on.
func (a *account) set(g *modelGroup, members []iam.ComplexValue) {
	g.Members = members
	g.past = append(g.past, version{a.time.now(), members})
}

// shown is a group as it was a while ago.
func (a *account) shown(g *modelGroup) iam.AccountGroup {
	seen := g.AccountGroup
	for _, v := range g.past {
		if !v.from.After(a.time.now().Add(-a.lag)) {
			seen.Members = v.members
		}
	}
	return seen
}

func (g *modelGroup) has(id string) bool {
	return slices.ContainsFunc(g.Members, func(m iam.ComplexValue) bool { return m.Value == id })
}

func is(id string) func(iam.ComplexValue) bool {
	return func(m iam.ComplexValue) bool { return m.Value == id }
}

// reference is how a member is shown.
func (a *account) reference(id string) (m iam.ComplexValue, ok bool) {
	switch {
	case slices.ContainsFunc(a.users, func(u iam.AccountUser) bool { return u.Id == id }):
		return iam.ComplexValue{Value: id, Ref: "Users/" + id}, true
	case slices.ContainsFunc(a.principals, func(p iam.AccountServicePrincipal) bool { return p.Id == id }):
		return iam.ComplexValue{Value: id, Ref: "ServicePrincipals/" + id}, true
	case a.find(id) != nil:
		return iam.ComplexValue{Value: id, Ref: "Groups/" + id}, true
	}
	return m, false
}

// login gives out tokens: https://datatracker.ietf.org/doc/html/rfc6749#section-4.4
func (a *account) login(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	id, secret, basic := r.BasicAuth()
	switch {
	case a.throttled:
		a.wait(w)
	case r.PathValue("account") != accountID:
		say(w, http.StatusBadRequest, map[string]string{"error": "invalid_request", "error_description": "canary: no such account"})
	case !basic || id != clientID || secret != a.secret:
		say(w, http.StatusUnauthorized, map[string]string{"error": "invalid_client", "error_description": "canary: Client authentication failed"})
	case r.PostFormValue("grant_type") != "client_credentials" || r.PostFormValue("scope") != "all-apis":
		say(w, http.StatusBadRequest, map[string]string{"error": "invalid_request"})
	default:
		token := tokenPrefix + a.next()
		a.tokens[token] = true
		say(w, http.StatusOK, map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 3600})
	}
}

// endpoints are what the vendor's own login asks for first.
func (a *account) endpoints(w http.ResponseWriter, r *http.Request) {
	at := a.URL + "/oidc/accounts/" + r.PathValue("account") + "/v1/"
	say(w, http.StatusOK, map[string]string{"authorization_endpoint": at + "authorize", "token_endpoint": at + "token"})
}

func (a *account) wait(w http.ResponseWriter) {
	if a.delay > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(a.delay.Seconds())))
	}
	refuse(w, http.StatusTooManyRequests, "REQUEST_LIMIT_EXCEEDED", "canary: Too many requests")
}

// inside serves those who have a token, one at a time.
func (a *account) inside(serve http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if r.Method != http.MethodGet {
			text, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(text))
			a.changes = append(a.changes, r.Method+" "+r.URL.Path+" "+string(text))
		}
		switch {
		case !bearer || !a.tokens[token]:
			refuse(w, http.StatusUnauthorized, "UNAUTHENTICATED", "canary: "+token)
		case a.throttled:
			a.wait(w)
		default:
			serve(w, r)
		}
	})
}

func say(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/scim+json; charset=utf-8")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(err)
	}
}

// refuse answers with an error of Databricks, scim with one of SCIM.
func refuse(w http.ResponseWriter, status int, code, message string) {
	say(w, status, map[string]string{"error_code": code, "message": message})
}

func scim(w http.ResponseWriter, status int, scimType, detail string) {
	say(w, status, map[string]any{"schemas": []string{"urn:ietf:params:scim:api:messages:2.0:Error"}, "status": strconv.Itoa(status), "scimType": scimType, "detail": detail})
}

// known refuses what is no parameter of the SDK's own request.
func known(w http.ResponseWriter, r *http.Request, request any) bool {
	typ, names := reflect.TypeOf(request), []string{}
	for i := range typ.NumField() {
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("url"), ",")
		names = append(names, name)
	}
	for name := range r.URL.Query() {
		if !slices.Contains(names, name) {
			scim(w, http.StatusBadRequest, "invalidSyntax", "canary: no parameter "+name)
			return false
		}
	}
	return true
}

// decode reads a body into the SDK's own type, and refuses what that type has
// not: what it writes again has to be what came.
func decode(w http.ResponseWriter, r *http.Request, into any) bool {
	var came, goes any
	text, _ := io.ReadAll(r.Body)
	err := json.Unmarshal(text, &came)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err == nil {
		text, err = json.Marshal(into)
	}
	if err == nil {
		err = json.Unmarshal(text, &goes)
	}
	typ, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	if err != nil || !reflect.DeepEqual(came, goes) || typ != "application/json" && typ != "application/scim+json" {
		scim(w, http.StatusBadRequest, "invalidSyntax", "canary: Request is unparsable")
		return false
	}
	return true
}

var filterForm = regexp.MustCompile(`^(\w+) eq ("(?:[^"\\]|\\.)*")$`)

// filter reads a filter of one attribute.
func filter(w http.ResponseWriter, r *http.Request, attribute string) (keep func(value string) bool, ok bool) {
	text := r.FormValue("filter")
	if text == "" {
		return func(string) bool { return true }, true
	}
	m := filterForm.FindStringSubmatch(text)
	var want string
	if m == nil || m[1] != attribute || json.Unmarshal([]byte(m[2]), &want) != nil {
		refuse(w, http.StatusBadRequest, "INVALID_FILTER", "canary: "+text)
		return nil, false
	}
	return func(value string) bool { return strings.EqualFold(value, want) }, true
}

// page answers with a page of what is left, and only with the attributes asked for.
func page[V any](a *account, w http.ResponseWriter, r *http.Request, all []V) {
	from, _ := strconv.Atoi(r.FormValue("startIndex"))
	count, _ := strconv.Atoi(r.FormValue("count"))
	from, count = max(from, 1), min(max(count, 0), a.pageLimit)
	resources := []map[string]any{}
	for _, v := range all[min(from-1, len(all)):min(from-1+count, len(all))] {
		text, err := json.Marshal(v)
		fields := map[string]any{}
		if err == nil {
			err = json.Unmarshal(text, &fields)
		}
		if err != nil {
			panic(err)
		}
		if asked := r.FormValue("attributes"); asked != "" {
			for name := range fields {
				if !slices.Contains(strings.Split(asked, ","), name) && (name != "members" || !a.oldLists) {
					delete(fields, name)
				}
			}
		}
		resources = append(resources, fields)
	}
	say(w, http.StatusOK, map[string]any{"schemas": []string{"urn:ietf:params:scim:api:messages:2.0:ListResponse"},
		"totalResults": len(all), "startIndex": from, "itemsPerPage": len(resources), "Resources": resources})
}

func (a *account) listGroups(w http.ResponseWriter, r *http.Request) {
	keep, ok := filter(w, r, "displayName")
	if !ok || !known(w, r, iam.ListAccountGroupsRequest{}) {
		return
	}
	var all []iam.AccountGroup
	for _, g := range a.groups {
		if keep(g.DisplayName) {
			seen := a.shown(g)
			if !a.oldLists {
				seen.Members = nil
			}
			all = append(all, seen)
		}
	}
	page(a, w, r, all)
}

func (a *account) listUsers(w http.ResponseWriter, r *http.Request) {
	keep, ok := filter(w, r, "userName")
	if !ok || !known(w, r, iam.ListAccountUsersRequest{}) {
		return
	}
	page(a, w, r, slices.DeleteFunc(slices.Clone(a.users), func(u iam.AccountUser) bool { return !keep(u.UserName) }))
}

func (a *account) listPrincipals(w http.ResponseWriter, r *http.Request) {
	keep, ok := filter(w, r, "applicationId")
	if !ok || !known(w, r, iam.ListAccountServicePrincipalsRequest{}) {
		return
	}
	page(a, w, r, slices.DeleteFunc(slices.Clone(a.principals), func(p iam.AccountServicePrincipal) bool { return !keep(p.ApplicationId) }))
}

func (a *account) getUser(w http.ResponseWriter, r *http.Request) {
	n := slices.IndexFunc(a.users, func(u iam.AccountUser) bool { return u.Id == r.PathValue("id") })
	if n < 0 {
		refuse(w, http.StatusNotFound, "RESOURCE_DOES_NOT_EXIST", "canary: User not found")
		return
	}
	say(w, http.StatusOK, a.users[n])
}

func (a *account) getGroup(w http.ResponseWriter, r *http.Request) {
	g := a.find(r.PathValue("id"))
	switch {
	case g == nil:
		refuse(w, http.StatusNotFound, "RESOURCE_DOES_NOT_EXIST", "canary: Group not found")
	case known(w, r, iam.GetAccountGroupRequest{}):
		say(w, http.StatusOK, a.shown(g))
	}
}

// mayChange refuses what the account refuses, and takes what it only pretends to do.
func (a *account) mayChange(w http.ResponseWriter, g *modelGroup) bool {
	switch {
	case g == nil:
		refuse(w, http.StatusNotFound, "RESOURCE_DOES_NOT_EXIST", "canary: Group not found")
	case g.DisplayName == a.shut:
		refuse(w, http.StatusForbidden, "PERMISSION_DENIED", "canary: not a manager of the group")
	case g.ExternalId != "" && !a.mutable:
		refuse(w, http.StatusForbidden, "PERMISSION_DENIED", "canary: the membership of this group is synced")
	case a.deaf:
		w.WriteHeader(http.StatusNoContent)
	default:
		return true
	}
	return false
}

var memberPath = regexp.MustCompile(`^members\[value eq ("(?:[^"\\]|\\.)*")\]$`)

// patchGroup follows https://datatracker.ietf.org/doc/html/rfc7644#section-3.5.2,
// in its dangerous parts too.
func (a *account) patchGroup(w http.ResponseWriter, r *http.Request) {
	var request iam.PatchAccountGroupRequest
	g := a.find(r.PathValue("id"))
	if !decode(w, r, &request) || !a.mayChange(w, g) {
		return
	}
	if !slices.Equal(request.Schemas, []iam.PatchSchema{"urn:ietf:params:scim:api:messages:2.0:PatchOp"}) || len(request.Operations) == 0 {
		scim(w, http.StatusBadRequest, "invalidSyntax", "canary: schemas or Operations")
		return
	}
	members := slices.Clone(g.Members)
	for _, o := range request.Operations {
		filtered := memberPath.FindStringSubmatch(o.Path)
		switch {
		case o.Op == "add" && o.Path == "members":
			list, ok := o.Value.([]any)
			for _, v := range list {
				object, _ := v.(map[string]any)
				id, text := object["value"].(string)
				ok = ok && text && len(object) == 1
				m, exists := a.reference(id)
				if ok && !exists {
					refuse(w, http.StatusNotFound, "RESOURCE_DOES_NOT_EXIST", "canary: no principal "+id)
					return
				}
				if !slices.ContainsFunc(members, is(id)) {
					members = append(members, m)
				}
			}
			if !ok || len(list) == 0 {
				scim(w, http.StatusBadRequest, "invalidSyntax", "canary: value must be a list of objects")
				return
			}
		case o.Op == "remove" && o.Path == "members":
			members = nil
		case o.Op == "remove" && filtered != nil && o.Value == nil:
			var id string
			json.Unmarshal([]byte(filtered[1]), &id)
			if !slices.ContainsFunc(members, is(id)) && a.noTarget != http.StatusNoContent {
				scim(w, a.noTarget, "noTarget", "canary: no member "+id)
				return
			}
			members = slices.DeleteFunc(members, is(id))
		default:
			scim(w, http.StatusBadRequest, "invalidPath", "canary: "+string(o.Op)+" "+o.Path)
			return
		}
	}
	a.set(g, members)
	w.WriteHeader(http.StatusNoContent)
}

// putGroup replaces a group. Lapse never asks for that.
func (a *account) putGroup(w http.ResponseWriter, r *http.Request) {
	var request iam.AccountGroup
	g := a.find(r.PathValue("id"))
	if decode(w, r, &request) && a.mayChange(w, g) {
		a.set(g, request.Members)
		w.WriteHeader(http.StatusNoContent)
	}
}

func (a *account) getMember(w http.ResponseWriter, r *http.Request) {
	g, principal := a.find(r.PathValue("group")), r.PathValue("principal")
	switch {
	case !a.newer:
		refuse(w, http.StatusNotFound, "ENDPOINT_NOT_FOUND", "No API found for this")
	case g == nil || !g.has(principal):
		refuse(w, http.StatusNotFound, "NOT_FOUND", "canary: no such member")
	default:
		gid, _ := strconv.ParseInt(g.Id, 10, 64)
		pid, _ := strconv.ParseInt(principal, 10, 64)
		source := iamv2.GroupMembershipSourceInternal
		if a.fromIdP[g.Id+"/"+principal] {
			source = iamv2.GroupMembershipSourceIdentityProvider
		}
		say(w, http.StatusOK, iamv2.DirectGroupMember{GroupId: gid, PrincipalId: pid, PrincipalType: iamv2.PrincipalTypeUser, MembershipSource: source})
	}
}

// listSecrets shows them one by one.
func (a *account) listSecrets(w http.ResponseWriter, r *http.Request) {
	if !known(w, r, oauth2.ListServicePrincipalSecretsRequest{}) || r.PathValue("id") != a.principals[0].Id {
		return
	}
	n, _ := strconv.Atoi(r.FormValue("page_token"))
	answer := oauth2.ListServicePrincipalSecretsResponse{Secrets: a.secrets[min(n, len(a.secrets)):min(n+1, len(a.secrets))]}
	if n+1 < len(a.secrets) {
		answer.NextPageToken = strconv.Itoa(n + 1)
	}
	say(w, http.StatusOK, answer)
}

// asked are the requests since it was asked last.
func (a *account) asked() (requests, changes []string) {
	a.locked(func() {
		requests, changes = a.requests, a.changes
		a.requests, a.changes = nil, nil
	})
	return requests, changes
}

// path is that of a group, as it is asked for.
func (g *modelGroup) path() string {
	return fmt.Sprintf("/api/2.0/accounts/%s/scim/v2/Groups/%s", accountID, g.Id)
}
