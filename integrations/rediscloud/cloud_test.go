package rediscloud_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lapse-access/lapse/internal/localredis"
	"github.com/lapse-access/lapse/internal/localredis/localredistest"
	"github.com/lapse-access/lapse/internal/turn"
)

// cloud is a model of Redis Cloud: the API of one account, with databases that
// are real Redis servers. It takes requests apart as testdata/api.json says,
// refuses what the vendor refuses, does every change as a task, and lets what it
// did show later: roles and users are pending, active, pending and active again.
// Its time passes only when somebody waits.
type cloud struct {
	*httptest.Server
	t   testing.TB
	mux *http.ServeMux
	// Each model has an account key of its own, and so a queue of its own.
	apiKey string
	api    description
	time   *virtual

	mu            sync.Mutex
	serial        int
	events        []event
	subscriptions []*modelSubscription
	rules         []*modelRule
	roles         []*modelRole
	users         []*modelUser
	tasks         []*modelTask
	calls         []time.Time
	requests      []string // METHOD /path of every change that was taken
	overlapped    int      // changes that were refused because another one ran

	// Its moods.
	throttled  bool
	delay      time.Duration
	header     string // in which the delay is said
	deaf       bool
	viewer     bool
	processing time.Duration // of a task
	mood       func(r *http.Request) (status int, lost bool)
	fail       func(t *modelTask) string // the code with which a task fails
}

// virtual is a time that passes only when somebody waits.
type virtual struct {
	mu     sync.Mutex
	at     time.Time
	passed func() // lets happen what is due
}

func (v *virtual) now() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.at
}

func (v *virtual) sleep(ctx context.Context, d time.Duration) error {
	v.mu.Lock()
	v.at = v.at.Add(d)
	v.mu.Unlock()
	v.passed()
	return turn.Stopped(ctx.Err())
}

// event is something that happens later.
type event struct {
	at time.Time
	do func()
}

type modelSubscription struct {
	id        int
	name      string
	fixed     bool
	databases []*modelDatabase
}

type modelDatabase struct {
	id        int
	name      string
	protocol  string
	tls       bool
	clientTLS bool
	regions   []string
	redis     *localredis.Server
	admin     *redis.Client
}

type modelRule struct {
	ID        int    `json:"id"`
	Name      string `json:"name"`
	ACL       string `json:"acl"`
	IsDefault bool   `json:"isDefault"`
	Status    string `json:"status"`
}

type modelRole struct {
	id     int
	name   string
	rules  []modelAssociation
	status string
}

type modelAssociation struct {
	RuleName  string `json:"ruleName"`
	Databases []struct {
		SubscriptionID int      `json:"subscriptionId"`
		DatabaseID     int      `json:"databaseId"`
		Regions        []string `json:"regions"`
	} `json:"databases"`
}

type modelUser struct {
	ID       int    `json:"id"`
	Name     string `json:"name"`
	Role     string `json:"role"`
	Status   string `json:"status"`
	password string
}

type modelTask struct {
	ID       string         `json:"taskId"`
	Command  string         `json:"commandType"`
	Status   string         `json:"status"`
	Stamp    time.Time      `json:"timestamp"`
	Response map[string]any `json:"response,omitempty"`
	path     string
}

// How long things take.
const (
	taskUnknown    = time.Second // a new task is not found
	taskProcessing = 3 * time.Second
	firstActive    = 2 * time.Second
	pendingAgain   = 5 * time.Second
	inForce        = 7 * time.Second
	deletingFor    = 2 * time.Second
)

const (
	secretKey  = "canary-user-key"
	ownerEmail = "lapse@example.com"
)

var models atomic.Int64

// newCloud starts a model with the vendor's rules and without a subscription.
func newCloud(t testing.TB) *cloud {
	c := &cloud{t: t, apiKey: fmt.Sprintf("canary-account-key-%d", models.Add(1)), mux: http.NewServeMux(), time: &virtual{at: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}, processing: taskProcessing,
		header: "X-Rate-Limit-Retry-After-Seconds", api: readDescription(t)}
	c.time.passed = func() { c.locked(func() {}) }
	for _, r := range [][2]string{{"Full-Access", "+@all  ~*"}, {"Read-Write", "+@all -@dangerous ~*"}, {"Read-Only", "+@read ~*"}} {
		c.rules = append(c.rules, &modelRule{ID: c.next(), Name: r[0], ACL: r[1], IsDefault: true, Status: "active"})
	}
	c.routes()
	c.Server = httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(c.Close)
	return c
}

func (c *cloud) next() int {
	c.serial++
	return c.serial
}

// subscribe adds a subscription.
func (c *cloud) subscribe(name string, fixed bool) *modelSubscription {
	s := &modelSubscription{id: 1000 + c.next(), name: name, fixed: fixed}
	c.subscriptions = append(c.subscriptions, s)
	return s
}

// database adds a database on a Redis of its own.
func (c *cloud) database(s *modelSubscription, name string, b localredis.Binary, change ...func(*modelDatabase)) *modelDatabase {
	d := &modelDatabase{id: 50000 + c.next(), name: name, protocol: "redis"}
	for _, f := range change {
		f(d)
	}
	if b.Path != "" {
		d.redis = localredistest.Start(c.t, b)
		d.admin = d.redis.Admin()
		c.t.Cleanup(func() { d.admin.Close() })
	}
	s.databases = append(s.databases, d)
	return d
}

// rule adds a rule of the customer.
func (c *cloud) rule(name, acl string) {
	c.rules = append(c.rules, &modelRule{ID: c.next(), Name: name, ACL: acl, Status: "active"})
}

// locked runs what looks at the model, or changes it, from the side.
func (c *cloud) locked(work func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pass()
	work()
}

// pass lets happen what is due.
func (c *cloud) pass() {
	for {
		due := -1
		for n, e := range c.events {
			if !e.at.After(c.time.now()) && (due < 0 || e.at.Before(c.events[due].at)) {
				due = n
			}
		}
		if due < 0 {
			return
		}
		e := c.events[due]
		c.events = slices.Delete(c.events, due, due+1)
		e.do()
	}
}

// after lets something happen some time after a moment.
func (c *cloud) after(from time.Time, d time.Duration, do func()) {
	c.events = append(c.events, event{from.Add(d), do})
}

// serve answers one request, alone.
func (c *cloud) serve(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pass()
	now := c.time.now()
	c.calls = append(slices.DeleteFunc(c.calls, func(t time.Time) bool { return now.Sub(t) >= time.Minute }), now)
	write := r.Method != http.MethodGet
	var status int
	var lost bool
	if c.mood != nil {
		status, lost = c.mood(r)
	}
	switch {
	case r.Header.Get("x-api-key") != c.apiKey || r.Header.Get("x-api-secret-key") != secretKey:
		c.refuse(w, http.StatusUnauthorized, "UNAUTHORIZED")
	case c.throttled, len(c.calls) > 400, status == http.StatusTooManyRequests:
		if c.delay > 0 {
			w.Header().Set(c.header, strconv.Itoa(int(c.delay.Seconds())))
		}
		c.refuse(w, http.StatusTooManyRequests, "")
	case status != 0:
		c.refuse(w, status, "")
	case write && c.viewer:
		c.refuse(w, http.StatusForbidden, "")
	case write && slices.ContainsFunc(c.tasks, (*modelTask).runs):
		c.overlapped++
		c.refuse(w, http.StatusTooManyRequests, "")
	default:
		answer := http.ResponseWriter(w)
		if lost {
			answer = httptest.NewRecorder()
		}
		_, pattern := c.mux.Handler(r)
		if pattern == "" {
			c.refuse(answer, http.StatusNotFound, "")
		} else if fault := c.api.check(pattern, r); fault != "" {
			c.t.Errorf("%s %s: %s", r.Method, r.URL, fault)
			c.refuse(answer, http.StatusBadRequest, "")
		} else {
			c.mux.ServeHTTP(answer, r)
		}
		if lost {
			panic(http.ErrAbortHandler)
		}
	}
}

func (c *cloud) refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The description is ours to distrust: it may repeat what was sent.
	json.NewEncoder(w).Encode(map[string]any{"timestamp": c.time.now(), "status": strconv.Itoa(status) + " X", "type": code, "description": c.apiKey + secretKey})
}

func (t *modelTask) runs() bool {
	return t.Status != "processing-completed" && t.Status != "processing-error"
}

// answer writes what was asked for, with the status of the description.
func (c *cloud) answer(w http.ResponseWriter, r *http.Request, v any) {
	_, pattern := c.mux.Handler(r)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(c.api.Operations[c.api.name(pattern)].Status)
	json.NewEncoder(w).Encode(v)
}

// change answers with a task, which does its work later. The work says with which
// code it fails, "" for none.
func (c *cloud) change(w http.ResponseWriter, r *http.Request, command string, work func(now time.Time) (id int, code string)) {
	began := c.time.now()
	t := &modelTask{ID: fmt.Sprintf("166d7f69-f35b-41ed-9128-%012d", c.next()), Command: command, Status: "received", Stamp: began, path: r.Method + " " + r.URL.Path}
	c.tasks = append(c.tasks, t)
	c.requests = append(c.requests, t.path)
	deaf := c.deaf
	c.after(began, time.Second, func() { t.Status = "processing-in-progress" })
	c.after(began, c.processing, func() {
		t.Status, t.Response = "processing-completed", map[string]any{}
		code := ""
		if c.fail != nil {
			code = c.fail(t)
		}
		if code == "" && !deaf {
			id := 0
			if id, code = work(began.Add(c.processing)); id > 0 {
				t.Response["resourceId"] = id
			}
		}
		if code != "" {
			t.Status = "processing-error"
			t.Response["error"] = map[string]any{"type": code, "status": "400 BAD_REQUEST", "description": "about " + c.apiKey}
		}
	})
	c.answer(w, r, t)
}

func (c *cloud) routes() {
	handle := func(pattern string, h func(w http.ResponseWriter, r *http.Request)) {
		method, path, _ := strings.Cut(pattern, " ")
		c.mux.HandleFunc(method+" /v1"+path, h)
	}
	handle("GET /{$}", c.root)
	handle("GET /users", func(w http.ResponseWriter, r *http.Request) {
		role := "Owner"
		if c.viewer {
			role = "Viewer"
		}
		c.answer(w, r, map[string]any{"account": 1001, "users": []map[string]any{{"id": 1, "name": "Somebody", "email": "x@example.com", "role": "Viewer"}, {"id": 2, "name": "Lapse", "email": ownerEmail, "role": role}}})
	})
	handle("GET /tasks", func(w http.ResponseWriter, r *http.Request) { c.answer(w, r, map[string]any{"tasks": c.tasks}) })
	handle("GET /tasks/{taskId}", func(w http.ResponseWriter, r *http.Request) {
		n := slices.IndexFunc(c.tasks, func(t *modelTask) bool { return t.ID == r.PathValue("taskId") })
		if n < 0 || c.time.now().Sub(c.tasks[n].Stamp) < taskUnknown {
			c.refuse(w, http.StatusNotFound, "")
			return
		}
		c.answer(w, r, c.tasks[n])
	})
	handle("GET /acl/redisRules", func(w http.ResponseWriter, r *http.Request) {
		c.answer(w, r, map[string]any{"accountId": 1001, "redisRules": c.rules})
	})
	handle("GET /acl/roles", func(w http.ResponseWriter, r *http.Request) {
		c.answer(w, r, map[string]any{"accountId": 1001, "roles": c.shownRoles()})
	})
	handle("GET /acl/users", func(w http.ResponseWriter, r *http.Request) {
		if len(c.users) == 0 {
			c.refuse(w, http.StatusNotFound, "")
			return
		}
		c.answer(w, r, map[string]any{"accountId": 1001, "users": c.users})
	})
	for _, fixed := range []bool{false, true} {
		base := "/subscriptions"
		if fixed {
			base = "/fixed/subscriptions"
		}
		handle("GET "+base, func(w http.ResponseWriter, r *http.Request) { c.listSubscriptions(w, r, fixed) })
		handle("GET "+base+"/{subscriptionId}/databases", func(w http.ResponseWriter, r *http.Request) { c.listDatabases(w, r, fixed) })
	}
	handle("GET /subscriptions/{subscriptionId}/databases/{databaseId}/certificate", func(w http.ResponseWriter, r *http.Request) {
		sub, _ := strconv.Atoi(r.PathValue("subscriptionId"))
		id, _ := strconv.Atoi(r.PathValue("databaseId"))
		_, d := c.find(sub, id)
		if d == nil || !d.tls {
			c.refuse(w, http.StatusNotFound, "DATABASE_NOT_FOUND")
			return
		}
		c.answer(w, r, map[string]any{"publicCertificatePEMString": d.redis.Certificate})
	})
	handle("POST /acl/roles", c.postRole)
	handle("PUT /acl/roles/{aclRoleId}", c.putRole)
	handle("DELETE /acl/roles/{aclRoleId}", c.deleteRole)
	handle("POST /acl/users", c.postUser)
	handle("PUT /acl/users/{aclUserId}", c.putUser)
	handle("DELETE /acl/users/{aclUserId}", c.deleteUser)
}

func (c *cloud) root(w http.ResponseWriter, r *http.Request) {
	c.answer(w, r, map[string]any{"account": map[string]any{"id": 1001, "name": "Example", "key": map[string]any{"name": "lapse", "accountId": 1001, "owner": map[string]any{"name": "Lapse", "email": ownerEmail}}}})
}

func (c *cloud) listSubscriptions(w http.ResponseWriter, r *http.Request, fixed bool) {
	var all []map[string]any
	for _, s := range c.subscriptions {
		if s.fixed == fixed {
			all = append(all, map[string]any{"id": s.id, "name": s.name, "status": "active"})
		}
	}
	if all == nil {
		c.refuse(w, http.StatusNotFound, "SUBSCRIPTION_NOT_FOUND")
		return
	}
	c.answer(w, r, map[string]any{"accountId": 1001, "subscriptions": all})
}

func (c *cloud) listDatabases(w http.ResponseWriter, r *http.Request, fixed bool) {
	offset, _ := strconv.Atoi(r.FormValue("offset"))
	limit, _ := strconv.Atoi(r.FormValue("limit"))
	n := slices.IndexFunc(c.subscriptions, func(s *modelSubscription) bool {
		return strconv.Itoa(s.id) == r.PathValue("subscriptionId") && s.fixed == fixed
	})
	if n < 0 || offset >= len(c.subscriptions[n].databases) {
		c.refuse(w, http.StatusNotFound, "") // so the vendor's own client ends its pages
		return
	}
	s := c.subscriptions[n]
	var all []map[string]any
	for _, d := range s.databases[offset:min(offset+limit, len(s.databases))] {
		v := map[string]any{"databaseId": d.id, "name": d.name, "protocol": d.protocol, "status": "active"}
		security := map[string]any{"enableTls": d.tls, "tlsClientAuthentication": d.clientTLS, "enableDefaultUser": true}
		if fixed {
			security = map[string]any{"defaultUserEnabled": true}
		}
		v["security"] = security
		public, private := "127.0.0.1:1", "127.0.0.1:2" // where nobody listens
		if d.redis != nil {
			port := d.redis.Port
			if d.tls {
				port = d.redis.TLSPort
			}
			public = fmt.Sprintf("%s:%d", localredis.Host, port)
		}
		switch {
		case d.regions != nil:
			var regions []map[string]any
			for _, region := range d.regions {
				regions = append(regions, map[string]any{"region": region, "publicEndpoint": public, "privateEndpoint": private})
			}
			v["activeActiveRedis"], v["crdbDatabases"] = true, regions
		case fixed:
			v["dynamicEndpoints"] = map[string]any{"public": public, "private": private}
		default:
			v["publicEndpoint"], v["privateEndpoint"] = public, private
		}
		all = append(all, v)
	}
	listing := map[string]any{"subscriptionId": s.id, "numberOfDatabases": len(s.databases), "databases": all}
	if fixed {
		c.answer(w, r, map[string]any{"accountId": 1001, "subscription": listing})
		return
	}
	c.answer(w, r, map[string]any{"accountId": 1001, "subscription": []any{listing}})
}

func (c *cloud) shownRoles() []map[string]any {
	all := []map[string]any{}
	for _, role := range c.roles {
		var rules []map[string]any
		for _, a := range role.rules {
			var databases []map[string]any
			for _, d := range a.Databases {
				v := map[string]any{"subscriptionId": d.SubscriptionID, "databaseId": d.DatabaseID}
				if _, found := c.find(d.SubscriptionID, d.DatabaseID); found != nil {
					v["databaseName"] = found.name
				}
				if len(d.Regions) > 0 {
					v["regions"] = d.Regions
				}
				databases = append(databases, v)
			}
			rules = append(rules, map[string]any{"ruleId": 1, "ruleName": a.RuleName, "databases": databases})
		}
		users := []map[string]any{}
		for _, u := range c.users {
			if u.Role == role.name {
				users = append(users, map[string]any{"id": u.ID, "name": u.Name})
			}
		}
		all = append(all, map[string]any{"id": role.id, "name": role.name, "redisRules": rules, "users": users, "status": role.status})
	}
	return all
}

func (c *cloud) find(subscription, database int) (*modelSubscription, *modelDatabase) {
	for _, s := range c.subscriptions {
		for _, d := range s.databases {
			if s.id == subscription && d.id == database {
				return s, d
			}
		}
	}
	return nil, nil
}

func (c *cloud) role(name string) *modelRole {
	n := slices.IndexFunc(c.roles, func(r *modelRole) bool { return r.name == name })
	if n < 0 {
		return nil
	}
	return c.roles[n]
}

func (c *cloud) user(name string) *modelUser {
	n := slices.IndexFunc(c.users, func(u *modelUser) bool { return u.Name == name })
	if n < 0 {
		return nil
	}
	return c.users[n]
}

// valid says with which code the vendor refuses the rules of a role.
func (c *cloud) valid(rules []modelAssociation) string {
	if len(rules) == 0 {
		return "ACL_ROLE_REDIS_RULES_IS_MISSING"
	}
	seen := map[string]bool{}
	for _, a := range rules {
		if !slices.ContainsFunc(c.rules, func(r *modelRule) bool { return r.Name == a.RuleName }) {
			return "ACL_REDIS_RULE_DOES_NOT_EXISTS"
		}
		if len(a.Databases) == 0 {
			return "ACL_ROLE_REDIS_RULES_DATABASES_SPEC_IS_MISSING"
		}
		for _, spec := range a.Databases {
			_, d := c.find(spec.SubscriptionID, spec.DatabaseID)
			switch {
			case d == nil || d.protocol == "memcached":
				return "DATABASE_NOT_FOUND"
			case d.regions != nil && len(spec.Regions) == 0:
				return "ACL_ROLE_REDIS_RULES_DATABASES_REGIONS_IS_MISSING"
			case d.regions == nil && len(spec.Regions) > 0:
				return "ACL_ROLE_REDIS_RULES_DATABASES_REGION_MUST_BE_CRDB"
			}
			for _, region := range append(spec.Regions, "")[:max(1, len(spec.Regions))] {
				key := fmt.Sprint(spec.SubscriptionID, spec.DatabaseID, region)
				if seen[key] {
					return "ACL_ROLE_REDIS_RULE_MUST_BE_DEFINED_ONLY_ONCE_PER_DATABASE"
				}
				seen[key] = true
			}
		}
	}
	return ""
}

// provision lets a status go up and down before it stays, and then what it is
// about come into force.
func (c *cloud) provision(now time.Time, status *string, force func()) {
	*status = "pending"
	c.after(now, firstActive, func() { *status = "active" })
	c.after(now, pendingAgain, func() { *status = "pending" })
	c.after(now, inForce, func() {
		*status = "active"
		force()
	})
}

// enforce makes the Redis servers admit and allow what users and roles say.
func (c *cloud) enforce(u *modelUser) {
	allowed := map[*modelDatabase][]string{}
	if role := c.role(u.Role); role != nil && c.user(u.Name) != nil {
		for _, a := range role.rules {
			rule := c.rules[slices.IndexFunc(c.rules, func(r *modelRule) bool { return r.Name == a.RuleName })]
			for _, spec := range a.Databases {
				if _, d := c.find(spec.SubscriptionID, spec.DatabaseID); d != nil {
					// Channels are open to everybody, and so are transactions.
					allowed[d] = append([]string{"reset", "on", ">" + u.password, "allchannels", "+multi", "+exec", "+discard"}, strings.Fields(rule.ACL)...)
				}
			}
		}
	}
	for _, s := range c.subscriptions {
		for _, d := range s.databases {
			if d.admin == nil {
				continue
			}
			args := []any{"ACL", "DELUSER", u.Name}
			if rules, ok := allowed[d]; ok {
				args = []any{"ACL", "SETUSER", u.Name}
				for _, r := range rules {
					args = append(args, r)
				}
			}
			if err := d.admin.Do(context.Background(), args...).Err(); err != nil {
				c.t.Errorf("%v: %v", args, err)
			}
		}
	}
}

func (c *cloud) enforceRole(name string) {
	for _, u := range c.users {
		if u.Role == name && u.Status == "active" {
			c.enforce(u)
		}
	}
}

type roleRequest struct {
	Name       string             `json:"name"`
	RedisRules []modelAssociation `json:"redisRules"`
}

func (c *cloud) postRole(w http.ResponseWriter, r *http.Request) {
	in := body[roleRequest](r)
	c.change(w, r, "aclRoleCreateRequest", func(now time.Time) (int, string) {
		if c.role(in.Name) != nil {
			return 0, "ACL_ROLE_NAME_ALREADY_EXISTS"
		}
		if code := c.valid(in.RedisRules); code != "" {
			return 0, code
		}
		role := &modelRole{id: c.next(), name: in.Name, rules: in.RedisRules}
		c.roles = append(c.roles, role)
		c.provision(now, &role.status, func() { c.enforceRole(role.name) })
		return role.id, ""
	})
}

func (c *cloud) putRole(w http.ResponseWriter, r *http.Request) {
	in := body[roleRequest](r)
	n := slices.IndexFunc(c.roles, func(x *modelRole) bool { return strconv.Itoa(x.id) == r.PathValue("aclRoleId") })
	if n < 0 {
		c.refuse(w, http.StatusNotFound, "ACL_ROLE_NOT_FOUND")
		return
	}
	role := c.roles[n]
	c.change(w, r, "aclRoleUpdateRequest", func(now time.Time) (int, string) {
		if role.status != "active" {
			return 0, "ACL_ROLE_IS_IN_PENDING_STATUS_AND_CANNOT_BE_UPDATED"
		}
		if code := c.valid(in.RedisRules); code != "" {
			return 0, code
		}
		role.rules = in.RedisRules
		c.provision(now, &role.status, func() { c.enforceRole(role.name) })
		return role.id, ""
	})
}

func (c *cloud) deleteRole(w http.ResponseWriter, r *http.Request) {
	n := slices.IndexFunc(c.roles, func(x *modelRole) bool { return strconv.Itoa(x.id) == r.PathValue("aclRoleId") })
	if n < 0 {
		c.refuse(w, http.StatusNotFound, "ACL_ROLE_NOT_FOUND")
		return
	}
	role := c.roles[n]
	c.change(w, r, "aclRoleDeleteRequest", func(now time.Time) (int, string) {
		switch {
		case slices.ContainsFunc(c.users, func(u *modelUser) bool { return u.Role == role.name }):
			return 0, "ACL_ROLE_HAS_ACTIVE_USERS_AND_CANNOT_BE_DELETED"
		case role.status != "active":
			return 0, "ACL_ROLE_IS_IN_PENDING_STATUS_AND_CANNOT_BE_DELETED"
		}
		role.status = "deleting"
		c.after(now, deletingFor, func() { c.roles = slices.DeleteFunc(c.roles, func(x *modelRole) bool { return x == role }) })
		return role.id, ""
	})
}

type userRequest struct {
	Name     string `json:"name"`
	Role     string `json:"role"`
	Password string `json:"password"`
}

func (c *cloud) postUser(w http.ResponseWriter, r *http.Request) {
	in := body[userRequest](r)
	c.change(w, r, "aclUserCreateRequest", func(now time.Time) (int, string) {
		switch {
		case c.user(in.Name) != nil:
			return 0, "ACL_USER_NAME_ALREADY_EXISTS"
		case c.role(in.Role) == nil:
			return 0, "ACL_ROLE_DOES_NOT_EXISTS"
		case len(in.Password) < 8 || len(in.Password) > 128:
			return 0, "ACL_USER_PASSWORD_NOT_VALID"
		}
		u := &modelUser{ID: c.next(), Name: in.Name, Role: in.Role, password: in.Password}
		c.users = append(c.users, u)
		c.provision(now, &u.Status, func() { c.enforce(u) })
		return u.ID, ""
	})
}

func (c *cloud) putUser(w http.ResponseWriter, r *http.Request) {
	in := body[userRequest](r)
	n := slices.IndexFunc(c.users, func(x *modelUser) bool { return strconv.Itoa(x.ID) == r.PathValue("aclUserId") })
	if n < 0 {
		c.refuse(w, http.StatusNotFound, "ACL_USER_NOT_FOUND")
		return
	}
	u := c.users[n]
	c.change(w, r, "aclUserUpdateRequest", func(now time.Time) (int, string) {
		if in.Role != "" && c.role(in.Role) == nil {
			return 0, "ACL_ROLE_DOES_NOT_EXISTS"
		}
		if in.Password != "" && len(in.Password) < 8 {
			return 0, "ACL_USER_PASSWORD_NOT_VALID"
		}
		if in.Role != "" {
			u.Role = in.Role
		}
		if in.Password != "" {
			u.password = in.Password
		}
		c.provision(now, &u.Status, func() { c.enforce(u) })
		return u.ID, ""
	})
}

func (c *cloud) deleteUser(w http.ResponseWriter, r *http.Request) {
	n := slices.IndexFunc(c.users, func(x *modelUser) bool { return strconv.Itoa(x.ID) == r.PathValue("aclUserId") })
	if n < 0 {
		c.refuse(w, http.StatusNotFound, "ACL_USER_NOT_FOUND")
		return
	}
	u := c.users[n]
	c.change(w, r, "aclUserDeleteRequest", func(now time.Time) (int, string) {
		u.Status = "deleting"
		c.after(now, deletingFor, func() {
			c.users = slices.DeleteFunc(c.users, func(x *modelUser) bool { return x == u })
			c.enforce(u)
		})
		return u.ID, ""
	})
}

// body reads what a request brings, which was checked before.
func body[V any](r *http.Request) (v V) {
	if err := json.NewDecoder(r.Body).Decode(&v); err != nil {
		panic(http.ErrAbortHandler)
	}
	return v
}

// description is what testdata/api.json says of the vendor's API.
type description struct {
	Source     string `json:"source"`
	Operations map[string]struct {
		Status int      `json:"status"`
		Query  []string `json:"query"`
		Answer []string `json:"answer"`
		Body   *shape   `json:"body"`
	} `json:"operations"`
	Bodies map[string]shape `json:"bodies"`
	Task   struct {
		Properties []string `json:"properties"`
		Statuses   []string `json:"statuses"`
	} `json:"task"`
}

type shape struct {
	List       bool              `json:"list"`
	Required   []string          `json:"required"`
	Properties map[string]string `json:"properties"`
}

func readDescription(t testing.TB) (d description) {
	text, err := os.ReadFile("testdata/api.json")
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// name is the operation of a route.
func (d description) name(pattern string) string {
	method, path, _ := strings.Cut(pattern, " ")
	path = strings.TrimSuffix(strings.TrimPrefix(path, "/v1"), "{$}")
	if path == "" {
		path = "/"
	}
	return method + " " + path
}

// check says what is wrong with a request, "" when nothing is.
func (d description) check(pattern string, r *http.Request) string {
	o, ok := d.Operations[d.name(pattern)]
	if !ok {
		return "there is no such operation"
	}
	for name := range r.URL.Query() {
		if !slices.Contains(o.Query, name) {
			return "there is no parameter " + name
		}
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return err.Error()
	}
	if o.Body == nil {
		if len(text) > 0 {
			return "it has a body"
		}
		return ""
	}
	r.Body = io.NopCloser(bytes.NewReader(text))
	if r.Header.Get("Content-Type") != "application/json" {
		return "the body is not said to be JSON"
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return err.Error()
	}
	return d.fits(*o.Body, v)
}

// fits holds a value against a shape.
func (d description) fits(s shape, v any) string {
	if s.List {
		list, ok := v.([]any)
		if !ok {
			return fmt.Sprintf("%v is no list", v)
		}
		s.List = false
		for _, x := range list {
			if fault := d.fits(s, x); fault != "" {
				return fault
			}
		}
		return ""
	}
	object, ok := v.(map[string]any)
	if !ok {
		return fmt.Sprintf("%v is no object", v)
	}
	for _, name := range s.Required {
		if _, ok := object[name]; !ok {
			return name + " is missing"
		}
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		typ, ok := s.Properties[name]
		if !ok {
			return "there is no property " + name
		}
		switch x := object[name]; typ {
		case "string":
			_, ok = x.(string)
		case "integer":
			n, number := x.(float64)
			ok = number && n == float64(int32(n))
		case "strings":
			list, isList := x.([]any)
			ok = isList && !slices.ContainsFunc(list, func(y any) bool { _, text := y.(string); return !text })
		default:
			if fault := d.fits(d.Bodies[typ], x); fault != "" {
				return fault
			}
		}
		if !ok {
			return fmt.Sprintf("%s is no %s", name, typ)
		}
	}
	return ""
}
