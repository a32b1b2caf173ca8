package grafana_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-openapi/strfmt"
	"github.com/grafana/grafana-openapi-client-go/models"
)

// flavour is an edition of Grafana.
type flavour struct {
	name, version string
	// enterprise has permissions on data sources and roles of role-based access
	// control. Cloud has them too, and limits the rate.
	enterprise bool
}

var (
	oss        = flavour{"oss", "12.4.0", false}
	enterprise = flavour{"enterprise", "12.4.0", true}
	cloud      = flavour{"cloud", "13.1.0-24810", true}
	flavours   = []flavour{oss, enterprise, cloud}
)

// model is one organization of a Grafana. Requests are taken apart by the types
// of the vendor's own client, which know each field; answers are written by them.
// What is asked of it and what Grafana does not have fails the test.
type model struct {
	*httptest.Server
	t testing.TB
	flavour
	subPath string

	mu          sync.Mutex
	serial      int64
	org         models.OrgDetailsDTO
	users       []*models.OrgUserDTO
	accounts    []*serviceAccount
	roles       map[string][]*models.Permission // of RBAC, by uid
	dataSources []*models.DataSourceListItemDTO
	folders     []*models.Folder
	dashboards  []*models.Hit
	teams       []*team
	entries     map[string][]*entry // by resource, "folders/uid"

	// requests are those that came, METHOD path, without those of administrators;
	// changes are those of them that were carried out.
	requests, changes []string
	bodies            []string // of changes

	// Its moods.
	throttled bool
	delay     time.Duration
	deaf      bool
	shut      map[string]bool // resources on which the connector may change nothing
	hidden    map[int64]bool  // people whom lists leave out: hidden_users in grafana.ini
	// answer stands in for Grafana; 0 leaves it to the model. lost drops the answer
	// of what was carried out.
	answer func(r *http.Request) (status int, body string)
	lost   func(r *http.Request) bool
}

// serviceAccount is who a token belongs to. A person with a password is one too.
type serviceAccount struct {
	models.ServiceAccountDTO
	secret string
	rbac   []*models.Permission
	admin  bool // an administrator, not the connector
	key    bool // an API key of an older Grafana
}

type team struct {
	id          int64
	name        string
	provisioned bool
	members     []*models.TeamMemberDTO
}

// entry is what somebody has on a resource.
type entry struct {
	user, team int64
	builtIn    string
	level      string
	unmanaged  string // the name of the fixed or custom role by which it comes
}

const (
	adminLogin    = "admin"
	adminPassword = "canary-admin-password"
	adminToken    = "glsa_canaryOfTheAdministrator_0000"
)

var levelsOf = map[string][]string{
	"datasources": {"Query", "Edit", "Admin"}, "folders": {"View", "Edit", "Admin"}, "dashboards": {"View", "Edit", "Admin"}, "teams": {"Member", "Admin"},
}

var basicRoles = []string{"None", "Viewer", "Editor", "Admin"}

// newModel is an organization with one Admin, below a sub-path.
func newModel(t testing.TB, f flavour, subPath string) *model {
	m := &model{t: t, flavour: f, subPath: subPath, serial: 100, org: models.OrgDetailsDTO{ID: 1, Name: "Main Org."},
		roles: map[string][]*models.Permission{}, entries: map[string][]*entry{}, shut: map[string]bool{}, hidden: map[int64]bool{}}
	m.user("root", "root@example.com", "Admin")
	m.accounts = []*serviceAccount{
		{ServiceAccountDTO: models.ServiceAccountDTO{ID: 3, Login: adminLogin, Role: "Admin"}, secret: adminPassword, admin: true},
		{ServiceAccountDTO: models.ServiceAccountDTO{ID: 4, Login: "sa-1-root", Role: "Admin"}, secret: adminToken, admin: true},
	}
	m.Server = httptest.NewServer(http.HandlerFunc(m.serve))
	t.Cleanup(m.Close)
	return m
}

func (m *model) next() int64 { m.serial++; return m.serial }

// base is where people reach it.
func (m *model) base() string { return m.URL + m.subPath }

func (m *model) locked(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

func (m *model) user(login, email, role string) *models.OrgUserDTO {
	u := &models.OrgUserDTO{UserID: m.next(), Login: login, Email: email, Name: login, Role: role, OrgID: m.org.ID, AuthLabels: []string{},
		LastSeenAt: strfmt.DateTime(time.Now()), LastSeenAtAge: "2m"}
	m.users = append(m.users, u)
	return u
}

func (m *model) account(name, role string) *serviceAccount {
	id := m.next()
	a := &serviceAccount{ServiceAccountDTO: models.ServiceAccountDTO{ID: id, Name: name, Login: fmt.Sprintf("sa-1-%s", strings.ToLower(name)), OrgID: m.org.ID, Role: role}}
	m.accounts = append(m.accounts, a)
	return a
}

func (m *model) dataSource(name, uid string) {
	m.dataSources = append(m.dataSources, &models.DataSourceListItemDTO{ID: m.next(), UID: uid, Name: name, Type: "prometheus", OrgID: m.org.ID, Access: "proxy", JSONData: map[string]any{}})
}

func (m *model) folder(title, uid, parent string) {
	m.folders = append(m.folders, &models.Folder{UID: uid, Title: title, ParentUID: parent})
}

func (m *model) dashboard(title, uid, folder string, tags ...string) {
	m.dashboards = append(m.dashboards, &models.Hit{ID: m.next(), UID: uid, Title: title, FolderUID: folder, Type: "dash-db", Tags: tags})
}

func (m *model) team(name string) *team {
	t := &team{id: m.next(), name: name}
	m.teams = append(m.teams, t)
	return t
}

func (t *team) member(user int64) *models.TeamMemberDTO {
	if n := slices.IndexFunc(t.members, func(x *models.TeamMemberDTO) bool { return x.UserID == user }); n >= 0 {
		return t.members[n]
	}
	return nil
}

func (m *model) findUser(id int64) *models.OrgUserDTO {
	if n := slices.IndexFunc(m.users, func(u *models.OrgUserDTO) bool { return u.UserID == id }); n >= 0 {
		return m.users[n]
	}
	return nil
}

func (m *model) findTeam(id string) *team {
	if n := slices.IndexFunc(m.teams, func(t *team) bool { return strconv.FormatInt(t.id, 10) == id }); n >= 0 {
		return m.teams[n]
	}
	return nil
}

// above are the folders in which something is, the nearest first.
func (m *model) above(resource, id string) (folders []string) {
	if n := slices.IndexFunc(m.dashboards, func(h *models.Hit) bool { return resource == "dashboards" && h.UID == id }); n >= 0 && m.dashboards[n].FolderUID != "" {
		return append([]string{m.dashboards[n].FolderUID}, m.above("folders", m.dashboards[n].FolderUID)...)
	}
	if n := slices.IndexFunc(m.folders, func(f *models.Folder) bool { return resource == "folders" && f.UID == id }); n >= 0 && m.folders[n].ParentUID != "" {
		return append([]string{m.folders[n].ParentUID}, m.above("folders", m.folders[n].ParentUID)...)
	}
	return nil
}

func (m *model) exists(resource, id string) bool {
	switch resource {
	case "datasources":
		return slices.ContainsFunc(m.dataSources, func(d *models.DataSourceListItemDTO) bool { return d.UID == id })
	case "folders":
		return slices.ContainsFunc(m.folders, func(f *models.Folder) bool { return f.UID == id })
	case "dashboards":
		return slices.ContainsFunc(m.dashboards, func(h *models.Hit) bool { return h.UID == id })
	}
	return m.findTeam(id) != nil
}

// applies is true for an entry that gives its level to a person.
func (m *model) applies(e *entry, u *models.OrgUserDTO) bool {
	switch {
	case e.user != 0:
		return e.user == u.UserID
	case e.team != 0:
		t := m.findTeam(strconv.FormatInt(e.team, 10))
		return t != nil && t.member(u.UserID) != nil
	}
	return e.builtIn == u.Role
}

// highest is the level that a person has on a resource by whatever way: -1 is
// none.
func (m *model) highest(resource, id string, u *models.OrgUserDTO) (rank int) {
	rank = -1
	places := []string{resource + "/" + id}
	for _, f := range m.above(resource, id) {
		places = append(places, "folders/"+f)
	}
	for _, place := range places {
		for _, e := range m.entries[place] {
			if m.applies(e, u) {
				rank = max(rank, slices.Index(levelsOf[resource], e.level))
			}
		}
	}
	if u.Role == "Admin" && m.exists(resource, id) {
		rank = len(levelsOf[resource]) - 1
	}
	return rank
}

// own is the entry that is a person's alone, nil for none.
func (m *model) own(place string, user int64) *entry {
	if n := slices.IndexFunc(m.entries[place], func(e *entry) bool { return e.user == user && e.unmanaged == "" }); n >= 0 {
		return m.entries[place][n]
	}
	return nil
}

// give sets a person's own level; "" takes it away.
func (m *model) give(place string, user int64, level string) {
	e := m.own(place, user)
	switch {
	case e == nil && level != "":
		m.entries[place] = append(m.entries[place], &entry{user: user, level: level})
	case e != nil && level == "":
		m.entries[place] = slices.DeleteFunc(m.entries[place], func(x *entry) bool { return x == e })
	case e != nil:
		e.level = level
	}
}

// A call is a request under way.
type call struct {
	*http.Request
	http.ResponseWriter
	m  *model
	by *serviceAccount
	// path is below /api, cut at its slashes and unescaped.
	path []string
}

func (m *model) serve(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &call{Request: r, ResponseWriter: w, m: m}
	raw, ok := strings.CutPrefix(r.URL.EscapedPath(), m.subPath+"/api/")
	if !ok {
		c.say(http.StatusNotFound, "Not found")
		return
	}
	for _, part := range strings.Split(raw, "/") {
		c.path = append(c.path, unescape(part))
	}
	if raw == "health" && r.Method == http.MethodGet {
		h := models.HealthResponse{Database: "ok", Version: m.version, Commit: "abcdef"}
		if m.enterprise {
			h.EnterpriseCommit = "fedcba"
		}
		c.json(h)
		return
	}
	if c.by = m.caller(r); c.by == nil {
		c.fail(http.StatusUnauthorized, "api-key.invalid", "Invalid API key")
		return
	}
	if r.Header.Get("X-Grafana-Org-Id") != "" {
		m.t.Errorf("%s %s names an organization beside the token's", r.Method, r.URL.Path)
	}
	if !c.by.admin {
		m.requests = append(m.requests, r.Method+" /"+raw)
		if m.throttled {
			if m.delay > 0 {
				w.Header().Set("Retry-After", strconv.Itoa(int(m.delay/time.Second)))
			}
			c.say(http.StatusTooManyRequests, "Too many requests")
			return
		}
	}
	if m.answer != nil && !c.by.admin {
		if status, body := m.answer(r); status != 0 {
			w.WriteHeader(status)
			io.WriteString(w, body)
			return
		}
	}
	if m.lost != nil && m.lost(r) {
		quiet := httptest.NewRecorder()
		c.ResponseWriter = quiet
		c.route()
		panic(http.ErrAbortHandler)
	}
	c.route()
}

func (m *model) caller(r *http.Request) *serviceAccount {
	secret, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	name, password, basic := r.BasicAuth()
	if n := slices.IndexFunc(m.accounts, func(a *serviceAccount) bool {
		return a.secret != "" && (basic && a.Login == name && a.secret == password || !basic && a.secret == secret)
	}); n >= 0 {
		return m.accounts[n]
	}
	return nil
}

// is matches the method and the path, in which * stands for one part.
func (c *call) is(method, pattern string) bool {
	parts := strings.Split(pattern, "/")
	if c.Method != method || len(parts) != len(c.path) {
		return false
	}
	for i, p := range parts {
		if p != "*" && p != c.path[i] {
			return false
		}
	}
	return true
}

func (c *call) route() {
	m := c.m
	switch {
	case c.is("GET", "org") && c.may("orgs:read"):
		c.json(m.org)
	case c.is("GET", "org/users"):
		c.listUsers()
	case c.is("PATCH", "org/users/*"):
		c.patchUser()
	case c.is("GET", "access-control/user/permissions"):
		c.json(c.rights())
	case c.is("GET", "user"):
		if c.by.key {
			c.json(models.UserProfileDTO{UID: "api-key:" + strconv.FormatInt(c.by.ID, 10), OrgID: m.org.ID, AuthLabels: []string{}})
			return
		}
		c.json(models.UserProfileDTO{UID: "service-account:" + strconv.FormatInt(c.by.ID, 10), Login: c.by.Login, Name: c.by.Name, OrgID: m.org.ID, AuthLabels: []string{}})
	case c.is("GET", "serviceaccounts/search") && c.may("serviceaccounts:read") && c.takes("query"):
		r := models.SearchOrgServiceAccountsResult{ServiceAccounts: []*models.ServiceAccountDTO{}}
		for _, a := range m.accounts {
			if strings.Contains(a.Name, c.FormValue("query")) {
				r.ServiceAccounts = append(r.ServiceAccounts, &a.ServiceAccountDTO)
			}
		}
		c.json(r)
	case c.is("POST", "serviceaccounts"), c.is("POST", "serviceaccounts/*/tokens"), c.is("POST", "access-control/roles"), c.is("PUT", "access-control/roles/*/assignments"):
		c.administer()
	case c.is("GET", "datasources") && c.may("datasources:read"):
		c.json(m.dataSources)
	case c.is("GET", "datasources/uid/*") && c.may("datasources:read"):
		n := slices.IndexFunc(m.dataSources, func(d *models.DataSourceListItemDTO) bool { return d.UID == c.path[2] })
		if n < 0 {
			c.say(http.StatusNotFound, "Data source not found")
			return
		}
		d := m.dataSources[n]
		c.json(models.DataSource{ID: d.ID, UID: d.UID, Name: d.Name, Type: d.Type, OrgID: d.OrgID, JSONData: map[string]any{}})
	case c.is("GET", "folders/*") && c.may("folders:read"):
		n := slices.IndexFunc(m.folders, func(f *models.Folder) bool { return f.UID == c.path[1] })
		if n < 0 {
			c.fail(http.StatusNotFound, "folder.notFound", "folder not found")
			return
		}
		c.json(m.folders[n])
	case c.is("GET", "search") && c.takes("type", "limit", "page", "dashboardUIDs"):
		c.search()
	case c.is("GET", "teams/search") && c.may("teams:read") && c.takes("perpage", "page"):
		c.searchTeams()
	case len(c.path) >= 2 && c.path[0] == "teams":
		c.teamCall()
	case len(c.path) >= 3 && c.path[0] == "access-control" && levelsOf[c.path[1]] != nil:
		c.permissions()
	case c.Header().Get("Content-Type") == "": // nothing was answered: no right was refused either
		m.t.Errorf("Grafana has no %s %s", c.Method, c.URL.Path)
		c.say(http.StatusNotFound, "Not found")
	}
}

// rights are those of the caller, scopes by action.
func (c *call) rights() map[string][]string {
	all := map[string][]string{}
	if c.by.Role == "Admin" {
		for _, a := range []string{"datasources:read", "folders:read", "dashboards:read", "teams:read", "folders.permissions:read", "dashboards.permissions:read", "teams.permissions:read",
			"folders.permissions:write", "dashboards.permissions:write", "teams.permissions:write", "org.users:read", "org.users:write", "orgs:read", "serviceaccounts:read"} {
			root, _, _ := strings.Cut(strings.TrimPrefix(a, "org."), ":")
			root, _, _ = strings.Cut(root, ".")
			all[a] = []string{root + ":*"}
		}
		if c.m.enterprise {
			all["datasources.permissions:read"], all["datasources.permissions:write"] = []string{"datasources:*"}, []string{"datasources:*"}
		}
	}
	for _, p := range c.by.rbac {
		all[p.Action] = append(all[p.Action], p.Scope)
	}
	return all
}

// may is true when the caller has a right, and answers when not. With a scope it
// is the right on just that.
func (c *call) may(action string, scope ...string) bool {
	if c.by.admin || c.by.Role == "Admin" {
		return true
	}
	for _, has := range c.rights()[action] {
		root, _, _ := strings.Cut(has, ":")
		if len(scope) == 0 || has == "*" || has == root+":*" && strings.HasPrefix(scope[0], root+":") || has == scope[0] {
			return true
		}
	}
	c.deny(action)
	return false
}

func (c *call) deny(action string) {
	c.answer(http.StatusForbidden, map[string]string{"accessErrorId": "ACE1234567890", "title": "Access denied",
		"message": "You'll need additional permissions to perform this action. Permissions needed: " + action})
}

// takes demands that nothing but these stands in the query.
func (c *call) takes(names ...string) bool {
	for name := range c.URL.Query() {
		if !slices.Contains(names, name) {
			c.m.t.Errorf("%s %s takes no %q", c.Method, c.URL.Path, name)
		}
	}
	return true
}

func (c *call) answer(status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		c.m.t.Errorf("%v", err)
	}
	c.ResponseWriter.Header().Set("Content-Type", "application/json")
	c.WriteHeader(status)
	c.ResponseWriter.Write(text)
}

func (c *call) Header() http.Header { return c.ResponseWriter.Header() }

func (c *call) json(v any) { c.answer(http.StatusOK, v) }

func (c *call) say(status int, message string) {
	c.answer(status, models.ErrorResponseBody{Message: &message})
}

func (c *call) fail(status int, id, message string) {
	c.answer(status, map[string]any{"messageId": id, "message": message, "statusCode": status, "traceID": ""})
}

// body takes a body apart by a type of the vendor's client.
func body[T any](c *call) (v T, ok bool) {
	text, err := io.ReadAll(c.Body)
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		err = d.Decode(&v)
	}
	if err == nil {
		if checked, is := any(&v).(interface{ Validate(strfmt.Registry) error }); is {
			err = checked.Validate(strfmt.Default)
		}
	}
	if err != nil {
		c.m.t.Errorf("%s %s: Grafana takes no such body: %v: %s", c.Method, c.URL.Path, err, text)
		c.say(http.StatusBadRequest, "bad request data")
		return v, false
	}
	c.m.bodies = append(c.m.bodies, string(text))
	return v, true
}

// does counts a change, and is false where none is to be made of it.
func (c *call) does() bool {
	if c.by.admin {
		return true
	}
	if c.m.deaf {
		return false
	}
	c.m.changes = append(c.m.changes, c.Method+" /"+strings.Join(c.path, "/"))
	return true
}

func (c *call) listUsers() {
	if !c.takes("query", "limit") || !c.may("org.users:read") {
		return
	}
	users := []*models.OrgUserDTO{}
	for _, u := range c.m.users {
		q := strings.ToLower(c.FormValue("query"))
		if !c.m.hidden[u.UserID] && c.sees(u.UserID) && (strings.Contains(strings.ToLower(u.Email), q) || strings.Contains(strings.ToLower(u.Login), q) || strings.Contains(strings.ToLower(u.Name), q)) {
			users = append(users, u)
		}
	}
	c.json(users)
}

// sees is true for people whom the caller may read.
func (c *call) sees(user int64) bool {
	scopes := c.rights()["org.users:read"]
	return c.by.admin || slices.Contains(scopes, "users:*") || slices.Contains(scopes, "users:id:"+strconv.FormatInt(user, 10))
}

func (c *call) patchUser() {
	if !c.may("org.users:write", "users:id:"+c.path[2]) {
		return
	}
	cmd, ok := body[models.UpdateOrgUserCommand](c)
	if !ok {
		return
	}
	id, _ := strconv.ParseInt(c.path[2], 10, 64)
	u, rank := c.m.findUser(id), slices.Index(basicRoles, cmd.Role)
	switch {
	case rank < 0:
		c.say(http.StatusBadRequest, "Invalid role specified")
	case rank > slices.Index(basicRoles, c.by.Role):
		c.say(http.StatusForbidden, "Cannot assign a role higher than user's role")
	case u == nil:
		c.say(http.StatusInternalServerError, "Failed update org user")
	case u.IsExternallySynced:
		c.fail(http.StatusForbidden, "org.externallySynced", "cannot change role for externally synced user")
	case u.Role == "Admin" && cmd.Role != "Admin" && !slices.ContainsFunc(c.m.users, func(o *models.OrgUserDTO) bool { return o != u && o.Role == "Admin" }):
		c.say(http.StatusBadRequest, "Cannot change role so that there is no organization admin left")
	default:
		if c.does() {
			u.Role = cmd.Role
		}
		c.say(http.StatusOK, "Organization user updated")
	}
}

func (c *call) search() {
	m, all := c.m, []*models.Hit{}
	switch c.FormValue("type") {
	case "dash-folder":
		for _, f := range m.folders {
			all = append(all, &models.Hit{UID: f.UID, Title: f.Title, FolderUID: f.ParentUID, Type: "dash-folder", Tags: []string{}})
		}
	case "dash-db":
		all = m.dashboards
	default:
		m.t.Errorf("a search for the type %q", c.FormValue("type"))
	}
	if uids := c.URL.Query()["dashboardUIDs"]; len(uids) > 0 {
		all = slices.DeleteFunc(slices.Clone(all), func(h *models.Hit) bool { return !slices.Contains(uids, h.UID) })
	}
	for _, h := range all {
		if n := slices.IndexFunc(m.folders, func(f *models.Folder) bool { return f.UID == h.FolderUID }); n >= 0 {
			h.FolderTitle = m.folders[n].Title
		}
	}
	size, page := cmp.Or(c.number("limit"), 1000), cmp.Or(c.number("page"), 1)
	c.json(part(all, size, page))
}

func (c *call) number(name string) int {
	n, _ := strconv.Atoi(c.FormValue(name))
	return n
}

func part[T any](all []T, size, page int) []T {
	from := min((page-1)*size, len(all))
	return append([]T{}, all[from:min(from+size, len(all))]...)
}

func (t *team) dto() *models.TeamDTO {
	members, org, uid := int64(len(t.members)), int64(1), fmt.Sprintf("team%d", t.id)
	return &models.TeamDTO{ID: &t.id, Name: &t.name, UID: &uid, OrgID: &org, MemberCount: &members, IsProvisioned: &t.provisioned}
}

func (c *call) searchTeams() {
	size, page := cmp.Or(c.number("perpage"), 1000), cmp.Or(c.number("page"), 1)
	r := models.SearchTeamQueryResult{TotalCount: int64(len(c.m.teams)), Page: int64(page), PerPage: int64(size), Teams: []*models.TeamDTO{}}
	for _, t := range part(c.m.teams, size, page) {
		r.Teams = append(r.Teams, t.dto())
	}
	c.json(r)
}

func (c *call) teamCall() {
	m, t, scope := c.m, c.m.findTeam(c.path[1]), "teams:id:"+c.path[1]
	closed := m.shut["teams/"+c.path[1]] && !c.by.admin
	var user int64
	if len(c.path) == 4 {
		user, _ = strconv.ParseInt(c.path[3], 10, 64)
	}
	switch {
	case c.is("GET", "teams/*"):
		if !c.may("teams:read", scope) {
			return
		}
		if t == nil {
			c.say(http.StatusNotFound, "Team not found")
			return
		}
		c.json(t.dto())
	case c.is("GET", "teams/*/members"):
		if !c.may("teams.permissions:read", scope) {
			return
		}
		if t == nil {
			c.json([]*models.TeamMemberDTO{}) // as Grafana does
			return
		}
		c.json(slices.DeleteFunc(append([]*models.TeamMemberDTO{}, t.members...), func(x *models.TeamMemberDTO) bool { return m.hidden[x.UserID] }))
	case !c.is("POST", "teams/*/members") && !c.is("PUT", "teams/*/members/*") && !c.is("DELETE", "teams/*/members/*"):
		m.t.Errorf("Grafana has no %s %s, or it replaces everybody", c.Method, c.URL.Path)
		c.say(http.StatusNotFound, "Not found")
	case closed:
		c.deny("teams.permissions:write")
	case !c.may("teams.permissions:write", scope):
	case c.Method == http.MethodPost:
		cmd, ok := body[models.AddTeamMemberCommand](c)
		switch {
		case !ok:
		case t == nil || m.findUser(*cmd.UserID) == nil:
			c.say(http.StatusInternalServerError, "Failed to add Member to Team")
		case t.member(*cmd.UserID) != nil:
			c.say(http.StatusBadRequest, "User is already added to this team")
		default:
			if c.does() {
				t.members = append(t.members, &models.TeamMemberDTO{TeamID: t.id, UserID: *cmd.UserID, Labels: []string{}})
			}
			c.say(http.StatusOK, "Member added to Team")
		}
	case c.Method == http.MethodPut:
		cmd, ok := body[models.UpdateTeamMemberCommand](c)
		switch {
		case !ok:
		case t == nil || t.member(user) == nil:
			c.say(http.StatusNotFound, "Team member not found.")
		default:
			if c.does() {
				t.member(user).Permission = cmd.Permission
			}
			c.say(http.StatusOK, "Team member updated")
		}
	case t == nil:
		c.say(http.StatusNotFound, "Team not found")
	case t.member(user) == nil:
		c.say(http.StatusNotFound, "Team member not found")
	default:
		if c.does() {
			t.members = slices.DeleteFunc(t.members, func(x *models.TeamMemberDTO) bool { return x.UserID == user })
		}
		c.say(http.StatusOK, "Team Member removed")
	}
}

func (c *call) permissions() {
	m, resource, id := c.m, c.path[1], c.path[2]
	place, scope := resource+"/"+id, resource+":uid:"+id
	switch {
	case resource == "datasources" && !m.enterprise:
		c.say(http.StatusNotFound, "Not found")
	case c.is("GET", "access-control/*/description"):
		if c.may(resource + ".permissions:read") {
			c.json(models.Description{Permissions: levelsOf[resource], Assignments: &models.Assignments{Users: true, Teams: resource != "teams", BuiltInRoles: resource != "teams"}})
		}
	case c.is("GET", "access-control/*/*"):
		if !c.may(resource+".permissions:read", scope) {
			return
		}
		if resource != "datasources" && !m.exists(resource, id) {
			c.say(http.StatusNotFound, "Resource not found")
			return
		}
		// Of a data source that is not there it is nothing. Enterprise leaves out whom
		// the caller may not read.
		c.json(slices.DeleteFunc(m.list(resource, id), func(d *models.ResourcePermissionDTO) bool { return m.enterprise && d.UserID != 0 && !c.sees(d.UserID) }))
	case c.is("POST", "access-control/*/*/users/*"):
		if m.shut[place] && !c.by.admin {
			c.deny(resource + ".permissions:write")
			return
		}
		if !c.may(resource+".permissions:write", scope) {
			return
		}
		cmd, ok := body[models.SetPermissionCommand](c)
		user, _ := strconv.ParseInt(c.path[4], 10, 64)
		switch {
		case !ok:
		case cmd.Permission != "" && !slices.Contains(levelsOf[resource], cmd.Permission):
			c.fail(http.StatusBadRequest, "resourcePermissions.invalidPermission", "Permission ["+cmd.Permission+"] is invalid for this resource type")
		case !m.exists(resource, id):
			c.say(http.StatusNotFound, "not found")
		case m.findUser(user) == nil:
			c.fail(http.StatusBadRequest, "accesscontrol.assignmentEntityNotFound", "user not found")
		default:
			if c.does() {
				m.give(place, user, cmd.Permission)
			}
			c.say(http.StatusOK, map[bool]string{true: "Permission removed", false: "Permission updated"}[cmd.Permission == ""])
		}
	default:
		m.t.Errorf("Grafana has no %s %s, or it replaces everybody", c.Method, c.URL.Path)
		c.say(http.StatusNotFound, "Not found")
	}
}

// list is all that anybody has on a resource.
func (m *model) list(resource, id string) []*models.ResourcePermissionDTO {
	all := []*models.ResourcePermissionDTO{}
	add := func(place string, inherited bool) {
		for _, e := range m.entries[place] {
			d := &models.ResourcePermissionDTO{ID: m.next(), Permission: e.level, UserID: e.user, TeamID: e.team, BuiltInRole: e.builtIn, IsManaged: e.unmanaged == "", IsInherited: inherited,
				RoleName: cmp.Or(e.unmanaged, "managed:users:permissions"), Actions: []string{resource + ":read"}}
			if u := m.findUser(e.user); u != nil {
				d.UserLogin = u.Login
			}
			if t := m.findTeam(strconv.FormatInt(e.team, 10)); t != nil {
				d.Team = t.name
			}
			all = append(all, d)
		}
	}
	add(resource+"/"+id, false)
	for _, f := range m.above(resource, id) {
		add("folders/"+f, true)
	}
	return append(all, &models.ResourcePermissionDTO{BuiltInRole: "Admin", Permission: "Admin", Actions: []string{resource + ":read"}})
}

// administer makes service accounts and roles.
func (c *call) administer() {
	m := c.m
	switch {
	case !c.by.admin:
		m.t.Errorf("the connector asks %s %s", c.Method, c.URL.Path)
		c.deny("serviceaccounts:write")
	case c.is("POST", "serviceaccounts"):
		if form, ok := body[models.CreateServiceAccountForm](c); ok {
			c.answer(http.StatusCreated, m.account(form.Name, form.Role).ServiceAccountDTO)
		}
	case !m.enterprise && c.path[0] == "access-control":
		c.say(http.StatusNotFound, "Not found")
	case c.is("POST", "access-control/roles"):
		if form, ok := body[models.CreateRoleForm](c); ok {
			m.roles[form.UID] = form.Permissions
			c.answer(http.StatusCreated, models.RoleDTO{UID: &form.UID, Name: &form.Name})
		}
	case c.is("PUT", "access-control/roles/*/assignments"):
		if cmd, ok := body[models.SetRoleAssignmentsCommand](c); ok {
			for _, a := range m.accounts {
				if slices.Contains(cmd.ServiceAccounts, a.ID) {
					a.rbac = m.roles[c.path[2]]
				}
			}
			c.json(models.RoleAssignmentsDTO{RoleUID: c.path[2], ServiceAccounts: cmd.ServiceAccounts})
		}
	default:
		if cmd, ok := body[models.AddServiceAccountTokenCommand](c); ok {
			n := slices.IndexFunc(m.accounts, func(a *serviceAccount) bool { return strconv.FormatInt(a.ID, 10) == c.path[1] })
			if n < 0 {
				c.say(http.StatusNotFound, "service account not found")
				return
			}
			m.accounts[n].secret = fmt.Sprintf("glsa_canary%d", m.next())
			c.json(models.NewAPIKeyResult{ID: m.next(), Key: m.accounts[n].secret, Name: cmd.Name})
		}
	}
}
