// Package githubtest is a model of GitHub for tests: one organization, with the
// rules that GitHub's descriptions and documentation give.
package githubtest

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Hub is an organization, behind both APIs. It holds every request against
// GitHub's descriptions, and its own answers too, and fails the test where one does
// not fit. While it can be asked, all of it is read and changed within Locked.
type Hub struct {
	*httptest.Server
	t testing.TB
	v *Description

	mu           sync.Mutex
	serial       int64
	Token        string         // that is taken
	Scopes       string         // of the token
	AppKey       *rsa.PublicKey // taken instead of a token, when there is one
	App          Installation
	Self         *User // whose token it is
	Organization string
	Base         string // permission of all members on all repositories
	Users        []*User
	Repositories []*Repository
	Teams        []*Team
	Roles        []*Role
	CustomRoles  []CustomRole
	// The identity provider, where there is one.
	Provider, Enterprise []*Identity

	Log   []string        // changes that were asked for, with their bodies
	Reads int             // requests that change nothing
	Paths map[string]bool // that were asked for, as they came
	Pages []string        // of repositories, by the cursors with which they were asked for

	// The bad moods.
	RateLimits bool // of GitHub are kept
	Refused    int  // requests, by them
	spent      map[string]*window
	inFlight   atomic.Int64
	Limited    func(w http.ResponseWriter) // instead of an answer
	Shut       string                      // resource on which every change is refused
	Deaf       bool                        // changes nothing
	Lost       func(r *http.Request) bool  // the answer to this request
	Behind     int                         // so many answers of the GraphQL API are old after each change
	Stale      int                         // so many of the next are
	old        map[string][]byte
	Hidden     bool                                    // what is private is not shown
	Bend       func(answer []byte) []byte              // an answer of the GraphQL API
	Ignores    func(r *http.Request, body []byte) bool // takes the change and does nothing
}

// Installation is that of the App.
type Installation struct {
	Token     string
	Selection string
	Given     int
}

// User is somebody with a login, and a member of the organization by role.
type User struct {
	ID       int64
	Login    string
	Public   string   // address
	Verified []string // addresses of verified domains
	Role     string   // member, admin; "" is none
}

// Repository has the levels of people and of teams.
type Repository struct {
	ID          int64
	Name        string
	Private     bool
	Archived    bool
	NoAdmin     bool // to the connector
	Description string
	Direct      map[int64]string
	Teams       map[string]string // by slug
	Invitations []*Invitation
	Gone        bool
}

// Invitation is for somebody from outside.
type Invitation struct {
	ID      int64
	User    *User
	Level   string
	Created time.Time
}

// Expired tells whether it is older than GitHub keeps one.
func (in *Invitation) Expired() bool { return time.Since(in.Created) > 7*24*time.Hour }

// Team has members by id, with their roles.
type Team struct {
	ID          int64
	Slug        string
	Type        string
	Members     map[int64]string
	Parent      *Team
	Synced      bool
	Description string
}

// Role is one of the organization, with the ids of who has it.
type Role struct {
	ID     int64
	Name   string
	Users  map[int64]bool
	ByTeam map[int64]bool
}

// CustomRole is one for repositories.
type CustomRole struct {
	ID          int64
	Name, Base  string
	Permissions []string
}

// Identity is what the identity provider says of somebody.
type Identity struct {
	SAML, SCIM []string // NameID first
	User       *User
}

// Token is what a new hub takes.
const Token = "ghp_canaryOfTheConnectorsToken0123456789"

// Start starts an organization called acme, with two owners. Lapse's token is that
// of one of them.
func Start(t testing.TB) *Hub {
	h := unstarted(t)
	h.Server.Start()
	return h
}

// StartTLS is Start, with TLS.
func StartTLS(t testing.TB) *Hub {
	h := unstarted(t)
	h.Server.StartTLS()
	return h
}

func unstarted(t testing.TB) *Hub {
	h := &Hub{t: t, v: Described(t), Token: Token, Scopes: "admin:org, repo, read:enterprise", Organization: "acme", serial: 1000, old: map[string][]byte{}, Paths: map[string]bool{}, spent: map[string]*window{}}
	h.Self = h.AddUser("lapse-connector", "admin")
	h.AddUser("founder", "admin")
	mux := http.NewServeMux()
	h.routes(mux)
	h.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.serve(mux, w, r) }))
	t.Cleanup(h.Close)
	return h
}

// CA is the PEM certificate of the authority that signed the server's.
func (h *Hub) CA() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw}))
}

// NewID is a number that nothing else has.
func (h *Hub) NewID() int64 {
	h.serial++
	return h.serial
}

// Locked does something while nobody is answered.
func (h *Hub) Locked(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

// AddUser makes somebody: an owner (admin), a member, or somebody from outside ("").
func (h *Hub) AddUser(login, role string) *User {
	u := &User{ID: h.NewID(), Login: login, Role: role}
	h.Users = append(h.Users, u)
	return u
}

// AddRepository makes a private repository.
func (h *Hub) AddRepository(name string) *Repository {
	r := &Repository{ID: h.NewID(), Name: name, Private: true, Direct: map[int64]string{}, Teams: map[string]string{}}
	h.Repositories = append(h.Repositories, r)
	return r
}

// AddTeam makes a team.
func (h *Hub) AddTeam(slug string) *Team {
	g := &Team{ID: h.NewID(), Slug: slug, Type: "organization", Members: map[int64]string{}}
	h.Teams = append(h.Teams, g)
	return g
}

// AddRole makes an organization role.
func (h *Hub) AddRole(name string) *Role {
	r := &Role{ID: h.NewID(), Name: name, Users: map[int64]bool{}, ByTeam: map[int64]bool{}}
	h.Roles = append(h.Roles, r)
	return r
}

// FindUser is somebody by the login, or nil.
func (h *Hub) FindUser(login string) *User {
	for _, u := range h.Users {
		if strings.EqualFold(u.Login, login) {
			return u
		}
	}
	return nil
}

// FindRepository is a repository that is there and seen, or nil.
func (h *Hub) FindRepository(name string) *Repository {
	for _, r := range h.Repositories {
		if !r.Gone && strings.EqualFold(r.Name, name) && !(h.Hidden && r.Private) {
			return r
		}
	}
	return nil
}

// FindTeam is a team by its slug, or nil.
func (h *Hub) FindTeam(slug string) *Team {
	for _, g := range h.Teams {
		if g.Slug == slug {
			return g
		}
	}
	return nil
}

// Levels are those of GitHub, each with what is before it.
var Levels = []string{"read", "triage", "write", "maintain", "admin"}

func levelRank(level string) int { return slices.Index(Levels, level) }

// baseOf is the level of which a custom role is an extension.
func (h *Hub) baseOf(level string) string {
	for _, c := range h.CustomRoles {
		if c.Name == level {
			return c.Base
		}
	}
	return level
}

// Accept has somebody follow the link of an invitation, and take what it is for.
func (h *Hub) Accept(u *User, link string) {
	for _, r := range h.Repositories {
		n := slices.IndexFunc(r.Invitations, func(in *Invitation) bool { return in.User == u && !in.Expired() })
		if n >= 0 && link == h.link(r) {
			r.Direct[u.ID] = r.Invitations[n].Level
			r.Invitations = slices.Delete(r.Invitations, n, n+1)
		}
	}
}

// link is where the invitations to a repository are accepted.
func (h *Hub) link(r *Repository) string {
	return "https://github.com/" + h.Organization + "/" + r.Name + "/invitations"
}

// Has tells whether somebody has a level on a repository, by whatever way.
func (h *Hub) Has(u *User, r *Repository, level string) bool {
	if u.Role == "admin" {
		return true
	}
	levels := []string{r.Direct[u.ID]}
	if u.Role != "" {
		levels = append(levels, h.Base)
	}
	for slug, l := range r.Teams {
		if g := h.FindTeam(slug); g != nil && h.InTeam(g, u) != "" {
			levels = append(levels, l)
		}
	}
	for _, l := range levels {
		switch {
		case l == "":
		case l == level, l == "admin", levelRank(level) >= 0 && levelRank(h.baseOf(l)) >= levelRank(level):
			return true
		}
	}
	return false
}

// InTeam is the role of somebody in a team or one of its children.
func (h *Hub) InTeam(g *Team, u *User) string {
	if role := g.Members[u.ID]; role != "" {
		return role
	}
	for _, child := range h.Teams {
		if child.Parent == g && h.InTeam(child, u) != "" {
			return "member"
		}
	}
	return ""
}

// record is an answer before it goes out.
type record struct {
	status int
	header http.Header
	body   []byte
}

func (r *record) Header() http.Header         { return r.header }
func (r *record) WriteHeader(status int)      { r.status = status }
func (r *record) Write(b []byte) (int, error) { r.body = append(r.body, b...); return len(b), nil }

// serve takes a request apart, one at a time.
func (h *Hub) serve(mux http.Handler, w http.ResponseWriter, r *http.Request) {
	defer h.inFlight.Add(-1)
	together := h.inFlight.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	h.Paths[r.URL.Path] = true
	r.URL.Path, r.URL.RawPath = strings.TrimPrefix(r.URL.Path, "/api/v3"), strings.TrimPrefix(r.URL.RawPath, "/api/v3")
	graph := strings.HasSuffix(r.URL.Path, "/graphql")
	minting := strings.HasPrefix(r.URL.Path, "/app/")
	out := &record{status: http.StatusOK, header: http.Header{}}
	if !graph && r.Header.Get("X-GitHub-Api-Version") != "2022-11-28" {
		h.t.Errorf("%s %s names no version of the API", r.Method, r.URL.Path)
	}
	if h.AppKey == nil && !minting {
		out.header.Set("X-OAuth-Scopes", h.Scopes)
	}
	switch {
	case h.Limited != nil:
		h.Limited(out)
	case h.RateLimits && h.over(out, r, together):
		h.Refused++
	case minting && !h.signed(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")),
		!minting && h.AppKey != nil && (h.App.Token == "" || r.Header.Get("Authorization") != "Bearer "+h.App.Token),
		!minting && h.AppKey == nil && r.Header.Get("Authorization") != "Bearer "+h.Token:
		Refuse(out, http.StatusUnauthorized, "Bad credentials")
	case graph:
		h.Reads++
		h.graphql(out, body)
	default:
		in, err := h.v.request(r, body)
		if err != nil {
			h.t.Errorf("GitHub does not describe this request: %v", err)
			Refuse(out, http.StatusUnprocessableEntity, "Validation Failed")
			break
		}
		if r.Method == http.MethodGet || minting {
			h.Reads++
		} else {
			h.Stale = h.Behind
			h.Log = append(h.Log, strings.TrimSpace(r.Method+" "+r.URL.EscapedPath()+" "+strings.TrimSpace(string(body))))
		}
		if deaf := h.Deaf; h.Ignores != nil && h.Ignores(r, body) {
			h.Deaf = true
			defer func() { h.Deaf = deaf }()
		}
		mux.ServeHTTP(out, r)
		out.header.Set("Content-Type", "application/json")
		if out.status/100 == 2 {
			if err := h.v.response(in, out.status, out.header, out.body); err != nil {
				h.t.Errorf("the model's answer to %s %s is not as GitHub describes it: %v", r.Method, r.URL.Path, err)
			}
		}
	}
	if h.Lost != nil && h.Lost(r) {
		panic(http.ErrAbortHandler)
	}
	for name, values := range out.header {
		w.Header()[name] = values
	}
	w.WriteHeader(out.status)
	var wide bytes.Buffer
	if strings.HasPrefix(r.UserAgent(), "curl/") && json.Indent(&wide, out.body, "", "  ") == nil {
		out.body = wide.Bytes() // as GitHub writes for people
	}
	w.Write(out.body)
}

// signed tells whether a JSON Web Token is the App's.
func (h *Hub) signed(token string) bool {
	parts := strings.Split(token, ".")
	if h.AppKey == nil || len(parts) != 3 {
		return false
	}
	var claims struct {
		Iss      string
		Iat, Exp int64
	}
	text, _ := base64.RawURLEncoding.DecodeString(parts[1])
	signature, _ := base64.RawURLEncoding.DecodeString(parts[2])
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	now := time.Now().Unix()
	return json.Unmarshal(text, &claims) == nil && claims.Iss == "123456" && claims.Iat <= now && claims.Exp > now && claims.Exp <= now+600 &&
		rsa.VerifyPKCS1v15(h.AppKey, crypto.SHA256, sum[:], signature) == nil
}

// Refuse answers with an error as GitHub writes one.
func Refuse(w http.ResponseWriter, status int, message string) {
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"message": message, "documentation_url": "https://docs.github.com/rest"})
}

func answer(w http.ResponseWriter, v any) {
	w.WriteHeader(http.StatusOK)
	json.NewEncoder(w).Encode(v)
}

func notFound(w http.ResponseWriter) { Refuse(w, http.StatusNotFound, "Not Found") }

// page writes one page of a list, with a link to the next.
func page(w http.ResponseWriter, r *http.Request, all []any) {
	answer(w, part(w, r, all))
}

func part(w http.ResponseWriter, r *http.Request, all []any) []any {
	per, err := strconv.Atoi(r.FormValue("per_page"))
	if err != nil {
		per = 30
	}
	n, err := strconv.Atoi(r.FormValue("page"))
	if err != nil {
		n = 1
	}
	from, to := min((n-1)*per, len(all)), min(n*per, len(all))
	if to < len(all) {
		q := r.URL.Query()
		q.Set("page", strconv.Itoa(n+1))
		w.Header().Set("Link", fmt.Sprintf(`<https://api.github.com%s?%s>; rel="next"`, r.URL.Path, q.Encode()))
	}
	return append([]any{}, all[from:to]...)
}

func list[X any](all []X, as func(X) any) (out []any) {
	for _, x := range all {
		out = append(out, as(x))
	}
	return out
}

func (h *Hub) simple(u *User) map[string]any {
	return h.v.complete("simple-user", map[string]any{"id": u.ID, "login": u.Login, "type": "User", "site_admin": false})
}

func (h *Hub) inviteJSON(r *Repository, in *Invitation) any {
	return h.v.complete("repository-invitation", map[string]any{"id": in.ID, "invitee": h.simple(in.User), "permissions": in.Level, "expired": in.Expired(),
		"created_at": in.Created.UTC().Format(time.RFC3339), "html_url": h.link(r),
		"url": "https://api.github.com/user/repository-invitations/" + strconv.FormatInt(in.ID, 10)})
}

func (h *Hub) membershipJSON(u *User) any {
	return h.v.complete("org-membership", map[string]any{"state": "active", "role": u.Role, "user": h.simple(u)})
}

// routes are the operations of the description.
func (h *Hub) routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /user", func(w http.ResponseWriter, r *http.Request) {
		answer(w, h.v.complete("private-user", map[string]any{"id": h.Self.ID, "login": h.Self.Login, "email": nil, "type": "User", "user_view_type": "private"}))
	})
	profile := func(w http.ResponseWriter, u *User) {
		if u == nil {
			notFound(w)
			return
		}
		address := any(u.Public)
		if u.Public == "" {
			address = nil
		}
		answer(w, h.v.complete("public-user", map[string]any{"id": u.ID, "login": u.Login, "email": address, "type": "User", "user_view_type": "public"}))
	}
	mux.HandleFunc("GET /user/{id}", func(w http.ResponseWriter, r *http.Request) {
		n := slices.IndexFunc(h.Users, func(u *User) bool { return strconv.FormatInt(u.ID, 10) == r.PathValue("id") })
		if n < 0 {
			notFound(w)
			return
		}
		profile(w, h.Users[n])
	})
	mux.HandleFunc("GET /users/{login}", func(w http.ResponseWriter, r *http.Request) { profile(w, h.FindUser(r.PathValue("login"))) })
	mux.HandleFunc("GET /search/users", h.search)
	h.organization(mux)
	h.teamRoutes(mux)
	h.repositoryRoutes(mux)
	mux.HandleFunc("POST /app/installations/{id}/access_tokens", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("id") != "77" {
			notFound(w)
			return
		}
		h.App.Given++
		h.App.Token = fmt.Sprintf("ghs_canaryOfTheInstallation%d", h.App.Given)
		w.WriteHeader(http.StatusCreated)
		json.NewEncoder(w).Encode(h.v.complete("installation-token", map[string]any{"token": h.App.Token, "expires_at": time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
			"repository_selection": h.App.Selection, "permissions": map[string]any{"members": "write", "administration": "write", "metadata": "read"}}))
	})
}

// search finds public addresses by words, as a search does: what is found is not
// always the very address.
func (h *Hub) search(w http.ResponseWriter, r *http.Request) {
	words := strings.Fields(r.FormValue("q"))
	address, err := strconv.Unquote(words[0])
	if err != nil || !slices.Contains(words, "in:email") {
		h.t.Errorf("the search %q is not for an address", r.FormValue("q"))
	}
	var hits []any
	for _, u := range h.Users {
		if u.Public != "" && strings.Contains(strings.ToLower(u.Public), strings.ToLower(address)) {
			hits = append(hits, h.v.complete("user-search-result-item", map[string]any{"id": u.ID, "login": u.Login, "score": 1, "type": "User"}))
		}
	}
	answer(w, map[string]any{"total_count": len(hits), "incomplete_results": false, "items": append([]any{}, hits...)})
}

func (h *Hub) organization(mux *http.ServeMux) {
	mux.HandleFunc("GET /orgs/{org}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, h.v.complete("organization-full", map[string]any{"login": h.Organization, "id": 1, "type": "Organization"}))
	})
	mux.HandleFunc("GET /orgs/{org}/members", func(w http.ResponseWriter, r *http.Request) {
		var all []any
		for _, u := range h.Users {
			if u.Role != "" && (r.FormValue("role") == "all" || r.FormValue("role") == u.Role) {
				all = append(all, h.simple(u))
			}
		}
		page(w, r, all)
	})
	mux.HandleFunc("GET /orgs/{org}/memberships/{login}", func(w http.ResponseWriter, r *http.Request) {
		if u := h.FindUser(r.PathValue("login")); u != nil && u.Role != "" {
			answer(w, h.membershipJSON(u))
			return
		}
		notFound(w)
	})
	mux.HandleFunc("PUT /orgs/{org}/memberships/{login}", func(w http.ResponseWriter, r *http.Request) {
		u := h.FindUser(r.PathValue("login"))
		var body struct{ Role string }
		json.NewDecoder(r.Body).Decode(&body)
		switch {
		case u == nil:
			notFound(w)
			return
		case u.Role == "":
			h.t.Errorf("the integration invites %s to the organization", u.Login)
		case u == h.Self && body.Role == "member":
			h.t.Errorf("the integration demotes itself")
		case u.Role == "admin" && body.Role == "member" && h.owners() == 1:
			h.t.Errorf("the integration demotes the last owner")
		case h.Shut == "organization:"+h.Organization:
			Refuse(w, http.StatusForbidden, "You must be an admin to do this")
			return
		}
		if !h.Deaf {
			u.Role = body.Role
		}
		answer(w, h.membershipJSON(u))
	})
	mux.HandleFunc("GET /orgs/{org}/organization-roles", func(w http.ResponseWriter, r *http.Request) {
		all := list(h.Roles, func(r *Role) any {
			return h.v.complete("organization-role", map[string]any{"id": r.ID, "name": r.Name, "description": "owner=security", "source": "Organization", "organization": nil})
		})
		answer(w, map[string]any{"total_count": len(all), "roles": append([]any{}, all...)})
	})
	mux.HandleFunc("GET /orgs/{org}/organization-roles/{id}/users", func(w http.ResponseWriter, r *http.Request) {
		role := h.orgRole(r.PathValue("id"))
		if role == nil {
			notFound(w)
			return
		}
		var all []any
		for _, u := range h.Users {
			how := map[[2]bool]string{{true, false}: "direct", {false, true}: "indirect", {true, true}: "mixed"}[[2]bool{role.Users[u.ID], role.ByTeam[u.ID]}]
			if how != "" {
				all = append(all, h.v.complete("user-role-assignment", map[string]any{"id": u.ID, "login": u.Login, "assignment": how, "inherited_from": []any{}, "type": "User"}))
			}
		}
		page(w, r, all)
	})
	assign := func(w http.ResponseWriter, r *http.Request) {
		role, u := h.orgRole(r.PathValue("id")), h.FindUser(r.PathValue("login"))
		switch {
		case role == nil || u == nil:
			notFound(w)
		case h.Shut == "organization_role:"+role.Name:
			Refuse(w, http.StatusForbidden, "Must be an organization owner")
		case u.Role == "" && r.Method == http.MethodPut:
			Refuse(w, http.StatusUnprocessableEntity, "User is not a member of the organization")
		default:
			if !h.Deaf {
				role.Users[u.ID] = r.Method == http.MethodPut
			}
			w.WriteHeader(http.StatusNoContent)
		}
	}
	mux.HandleFunc("PUT /orgs/{org}/organization-roles/users/{login}/{id}", assign)
	mux.HandleFunc("DELETE /orgs/{org}/organization-roles/users/{login}/{id}", assign)
	mux.HandleFunc("GET /orgs/{org}/custom-repository-roles", func(w http.ResponseWriter, r *http.Request) {
		all := list(h.CustomRoles, func(c CustomRole) any {
			return h.v.complete("organization-custom-repository-role", map[string]any{"id": c.ID, "name": c.Name, "base_role": c.Base, "permissions": append([]string{}, c.Permissions...)})
		})
		answer(w, map[string]any{"total_count": len(all), "custom_roles": append([]any{}, all...)})
	})
}

func (h *Hub) owners() (n int) {
	for _, u := range h.Users {
		if u.Role == "admin" {
			n++
		}
	}
	return n
}

func (h *Hub) orgRole(id string) *Role {
	for _, r := range h.Roles {
		if strconv.FormatInt(r.ID, 10) == id {
			return r
		}
	}
	return nil
}

func (h *Hub) teamRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /orgs/{org}/teams", func(w http.ResponseWriter, r *http.Request) {
		page(w, r, list(h.Teams, func(g *Team) any {
			return h.v.complete("team", map[string]any{"id": g.ID, "slug": g.Slug, "name": g.Slug, "type": g.Type, "description": g.Description, "parent": nil})
		}))
	})
	membership := func(u *User, g *Team) any {
		role := h.InTeam(g, u)
		if u.Role == "admin" {
			role = "maintainer"
		}
		return h.v.complete("team-membership", map[string]any{"role": role, "state": "active"})
	}
	with := func(work func(w http.ResponseWriter, r *http.Request, g *Team, u *User)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			g, u := h.FindTeam(r.PathValue("slug")), h.FindUser(r.PathValue("login"))
			switch {
			case g == nil || u == nil:
				notFound(w)
			case r.Method != http.MethodGet && h.Shut == "team:"+g.Slug:
				Refuse(w, http.StatusForbidden, "Must be a maintainer of the team")
			case r.Method != http.MethodGet && g.Synced:
				Refuse(w, http.StatusForbidden, "This team is externally managed")
			default:
				work(w, r, g, u)
			}
		}
	}
	const path = " /orgs/{org}/teams/{slug}/memberships/{login}"
	mux.HandleFunc("GET"+path, with(func(w http.ResponseWriter, r *http.Request, g *Team, u *User) {
		if h.InTeam(g, u) == "" {
			notFound(w)
			return
		}
		answer(w, membership(u, g))
	}))
	mux.HandleFunc("PUT"+path, with(func(w http.ResponseWriter, r *http.Request, g *Team, u *User) {
		var body struct{ Role string }
		json.NewDecoder(r.Body).Decode(&body)
		if u.Role == "" {
			h.t.Errorf("the integration invites %s to the organization by a team", u.Login)
		}
		if u.Role == "admin" && body.Role == "maintainer" {
			Refuse(w, http.StatusUnprocessableEntity, "already_org_admin")
			return
		}
		if !h.Deaf {
			g.Members[u.ID] = body.Role
		}
		answer(w, h.v.complete("team-membership", map[string]any{"role": body.Role, "state": "active"}))
	}))
	mux.HandleFunc("DELETE"+path, with(func(w http.ResponseWriter, r *http.Request, g *Team, u *User) {
		if !h.Deaf {
			delete(g.Members, u.ID)
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	mux.HandleFunc("GET /orgs/{org}/teams/{slug}/external-groups", func(w http.ResponseWriter, r *http.Request) {
		Refuse(w, http.StatusUnprocessableEntity, "This organization is not part of an enterprise with managed users")
	})
	mux.HandleFunc("GET /orgs/{org}/teams/{slug}/team-sync/group-mappings", func(w http.ResponseWriter, r *http.Request) {
		groups := []any{}
		if g := h.FindTeam(r.PathValue("slug")); g != nil && g.Synced {
			groups = append(groups, map[string]any{"group_id": "1", "group_name": "engineers", "group_description": ""})
		}
		answer(w, map[string]any{"groups": groups})
	})
}

func (h *Hub) repositoryRoutes(mux *http.ServeMux) {
	with := func(work func(w http.ResponseWriter, r *http.Request, repo *Repository)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			repo := h.FindRepository(r.PathValue("repo"))
			switch {
			case repo == nil || !strings.EqualFold(r.PathValue("owner"), h.Organization):
				notFound(w)
			case repo.NoAdmin, r.Method != http.MethodGet && h.Shut == "repository:"+repo.Name:
				Refuse(w, http.StatusForbidden, "Must have admin rights to Repository.")
			case r.Method != http.MethodGet && repo.Archived:
				Refuse(w, http.StatusForbidden, "Repository was archived so is read-only.")
			default:
				work(w, r, repo)
			}
		}
	}
	const path = " /repos/{owner}/{repo}/collaborators/{login}"
	mux.HandleFunc("PUT"+path, with(h.putCollaborator))
	mux.HandleFunc("DELETE"+path, with(func(w http.ResponseWriter, r *http.Request, repo *Repository) {
		u := h.FindUser(r.PathValue("login"))
		if u == nil {
			notFound(w)
			return
		}
		if !h.Deaf {
			delete(repo.Direct, u.ID)
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	mux.HandleFunc("GET /repos/{owner}/{repo}/invitations", with(func(w http.ResponseWriter, r *http.Request, repo *Repository) {
		page(w, r, list(repo.Invitations, func(in *Invitation) any { return h.inviteJSON(repo, in) }))
	}))
	invitation := func(work func(w http.ResponseWriter, r *http.Request, repo *Repository, n int)) http.HandlerFunc {
		return with(func(w http.ResponseWriter, r *http.Request, repo *Repository) {
			n := slices.IndexFunc(repo.Invitations, func(in *Invitation) bool { return strconv.FormatInt(in.ID, 10) == r.PathValue("id") })
			if n < 0 {
				notFound(w)
				return
			}
			work(w, r, repo, n)
		})
	}
	mux.HandleFunc("PATCH /repos/{owner}/{repo}/invitations/{id}", invitation(func(w http.ResponseWriter, r *http.Request, repo *Repository, n int) {
		var body struct{ Permissions string }
		json.NewDecoder(r.Body).Decode(&body)
		if !h.Deaf {
			repo.Invitations[n].Level = body.Permissions
		}
		answer(w, h.inviteJSON(repo, repo.Invitations[n]))
	}))
	mux.HandleFunc("DELETE /repos/{owner}/{repo}/invitations/{id}", invitation(func(w http.ResponseWriter, r *http.Request, repo *Repository, n int) {
		if !h.Deaf {
			repo.Invitations = slices.Delete(repo.Invitations, n, n+1)
		}
		w.WriteHeader(http.StatusNoContent)
	}))
}

// putCollaborator writes a level, or invites somebody from outside.
func (h *Hub) putCollaborator(w http.ResponseWriter, r *http.Request, repo *Repository) {
	u := h.FindUser(r.PathValue("login"))
	body := struct{ Permission string }{"push"}
	json.NewDecoder(r.Body).Decode(&body)
	level := map[string]string{"pull": "read", "triage": "triage", "push": "write", "maintain": "maintain", "admin": "admin"}[body.Permission]
	if slices.ContainsFunc(h.CustomRoles, func(c CustomRole) bool { return c.Name == body.Permission }) {
		level = body.Permission
	}
	switch {
	case u == nil:
		notFound(w)
		return
	case level == "":
		Refuse(w, http.StatusUnprocessableEntity, "Invalid permission")
		return
	case u.Role != "" && h.Base != "" && levelRank(h.baseOf(level)) < levelRank(h.Base):
		Refuse(w, http.StatusUnprocessableEntity, "Cannot assign member permission of "+level)
		return
	case u.Role != "" || repo.Direct[u.ID] != "":
		if !h.Deaf {
			repo.Direct[u.ID] = level
		}
		w.WriteHeader(http.StatusNoContent)
		return
	}
	n := slices.IndexFunc(repo.Invitations, func(in *Invitation) bool { return in.User == u })
	if n < 0 {
		in := &Invitation{ID: h.NewID(), User: u, Level: h.baseOf(level), Created: time.Now()}
		n = len(repo.Invitations)
		if h.Deaf {
			w.WriteHeader(http.StatusCreated)
			json.NewEncoder(w).Encode(h.inviteJSON(repo, in))
			return
		}
		repo.Invitations = append(repo.Invitations, in)
	}
	// An invitation that is there already stays as it is, an expired one too.
	w.WriteHeader(http.StatusCreated)
	json.NewEncoder(w).Encode(h.inviteJSON(repo, repo.Invitations[n]))
}
