package integrationtest_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/httpapi"
)

// What the targets of the three model rooms share: a server with a token, a
// catalog and a directory, the ways in which it can be in a bad mood, and the
// client that the rooms use. Each room adds what it is about.

const (
	instance    = "lapse-test"
	integration = "i-test"
	token       = "canary-connector-token"
)

// hostile is a name that wants to break out of everything.
const hostile = "we\"ird';--\\ %s $1 ../?a=b&c#d \t😀 \u202ex/*|.+"

// config and secret are those of every model room.
type config struct {
	URL    string `json:"url" doc:"where the target is"`
	Repeat int    `json:"repeat" doc:"how often a request that can be repeated is"`
}

type secret struct {
	Token integrations.Secret `json:"token" doc:"what the target lets the connector in with" writeOnly:"true"`
}

// system is a target over HTTP.
type system struct {
	*http.ServeMux
	*httptest.Server
	catalog []access.Found

	mu     sync.Mutex
	token  string
	users  []user
	serial int
	// The bad moods.
	throttled bool
	delay     time.Duration
	shut      string
	deaf      bool
}

// user is one entry of the target's own directory.
type user struct {
	ID, Email string
	Outside   bool // has to accept an invitation
}

// newSystem starts a target that is reached through a fault, if there is one.
func newSystem(t *testing.T, f fault, catalog ...access.Found) *system {
	s := &system{ServeMux: http.NewServeMux(), catalog: catalog, token: token}
	var h http.Handler = http.HandlerFunc(s.serve)
	if f != nil {
		h = f(s, h)
	}
	s.Server = httptest.NewServer(h)
	t.Cleanup(s.Close)
	s.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) { answer(w, "a model of a target 1.0") })
	s.HandleFunc("PUT /token", func(w http.ResponseWriter, r *http.Request) { s.token = body[string](r) })
	s.HandleFunc("GET /catalog", func(w http.ResponseWriter, r *http.Request) {
		const size = 2
		from, _ := strconv.Atoi(r.FormValue("from"))
		answer(w, s.catalog[from:min(from+size, len(s.catalog))])
	})
	s.HandleFunc("GET /users", func(w http.ResponseWriter, r *http.Request) {
		answer(w, slices.DeleteFunc(slices.Clone(s.users), func(u user) bool { return !access.SameEmail(u.Email, r.FormValue("email")) }))
	})
	return s
}

// serve answers one request, alone.
func (s *system) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resource, write := r.FormValue("resource"), r.Method != http.MethodGet
	switch {
	case r.Header.Get("Authorization") != s.token:
		http.Error(w, "who are you?", http.StatusUnauthorized)
	case s.throttled:
		if s.delay > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(s.delay.Seconds())))
		}
		http.Error(w, "not so fast", http.StatusTooManyRequests)
	case resource != "" && !slices.ContainsFunc(s.catalog, func(f access.Found) bool { return f.Resource.String() == resource }):
		http.Error(w, "no such resource", http.StatusNotFound)
	case write && s.shut != "" && resource == s.shut:
		http.Error(w, "you may not change this", http.StatusForbidden)
	case write && s.deaf:
	default:
		s.ServeMux.ServeHTTP(w, r)
	}
}

// locked runs what looks at the target, or changes it, from the side.
func (s *system) locked(work func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	work()
}

// next is a number that the target has not given yet; with the lock held.
func (s *system) next() string {
	s.serial++
	return strconv.Itoa(s.serial)
}

// account is that of somebody who has as many entries in the directory.
func (s *system) account(entries int, outside bool) (a access.Account) {
	s.locked(func() {
		person := "p-" + s.next()
		a = access.Account{ID: access.AccountID(integration, person), Integration: integration, PersonID: person, Email: person + "@example.com"}
		for range entries {
			s.users = append(s.users, user{ID: "u-" + s.next(), Email: a.Email, Outside: outside})
		}
	})
	return a
}

// user is the entry of an account's person; with the lock held.
func (s *system) user(a access.Account) string {
	i := slices.IndexFunc(s.users, func(u user) bool { return access.SameEmail(u.Email, a.Email) })
	if i < 0 {
		return ""
	}
	return s.users[i].ID
}

// directory is for targets that know their people.
type directory struct{ *system }

func (d directory) Unknown(integrationtest.T) access.Account   { return d.account(0, false) }
func (d directory) Ambiguous(integrationtest.T) access.Account { return d.account(2, false) }

func (s *system) Throttle(_ integrationtest.T, delay time.Duration) (undo func()) {
	s.locked(func() { s.throttled, s.delay = true, delay })
	return func() { s.locked(func() { s.throttled = false }) }
}

// closer is for targets whose resources can be closed one by one.
type closer struct{ *system }

func (c closer) Shut(_ integrationtest.T, r access.Resource) (undo func()) {
	c.locked(func() { c.shut = r.String() })
	return func() { c.locked(func() { c.shut = "" }) }
}

func (s *system) Deafen(integrationtest.T) (undo func()) {
	s.locked(func() { s.deaf = true })
	return func() { s.locked(func() { s.deaf = false }) }
}

// harness is what all three have in common.
func (s *system) harness(k integrations.Kind) *integrationtest.Harness {
	target := func(url, token string) integrations.Target {
		return integrations.Target{Instance: instance, ID: integration, Name: "model", Config: &config{URL: url}, Secret: &secret{Token: integrations.Secret(token)}}
	}
	return &integrationtest.Harness{
		Kind:     k,
		Target:   target(s.URL, token),
		Canaries: []string{token, "canary-wrong"},
		Wrong:    func() integrations.Target { return target(s.URL, "canary-wrong") },
		Address:  s.Listener.Addr().String(),
		Via:      func(address string) integrations.Target { return target("http://"+address, token) },
		Changes:  certificationtest.Requests(),
	}
}

// byHand is a last resort whose steps are calls.
func byHand(calls func(t integrations.Target, req integrations.RevokeRequest) string) integrations.LastResort {
	return integrations.LastResort{Language: "sh",
		Head: func(t integrations.Target) (string, error) {
			return integrations.ShellAPI(t.Config.(*config).URL, "/", `header = "Authorization: ..."`), nil
		},
		Steps: func(t integrations.Target, req integrations.RevokeRequest) (string, error) { return calls(t, req), nil },
	}
}

// RunByHand runs calls again while the target is in a bad mood.
func (s *system) RunByHand(t integrationtest.T, head, steps string) (err error) {
	for range 20 {
		if err = certificationtest.Shell(t, strings.ReplaceAll(head, "...", s.token)+steps, ""); err == nil {
			return nil
		}
	}
	return err
}

func entitlement(permission, typ string, names ...string) access.Entitlement {
	return access.Entitlement{Integration: integration, Resource: access.NewResource(typ, names...), Permission: permission}
}

func found(permissions []string, typ string, names ...string) access.Found {
	return access.Found{Resource: access.NewResource(typ, names...), Permissions: permissions}
}

// permissions declares levels by name.
func permissions(names []string) (all []integrations.Permission) {
	for _, name := range names {
		all = append(all, integrations.Permission{Name: name, Doc: "the level " + name})
	}
	return all
}

// answer writes what was asked for.
func answer(w http.ResponseWriter, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(err)
	}
}

// body reads what a request brings.
func body[V any](r *http.Request) (v V) {
	if err := json.NewDecoder(r.Body).Decode(&v); err != nil {
		panic(http.ErrAbortHandler)
	}
	return v
}

// client is what every room has of the target: its methods are Check, Discover
// and Close of an integration, and the calls that the others make.
type client struct {
	instance, id string
	url          string
	token        integrations.Secret
	again        int
	http         *http.Client
}

// tell makes a client that reaches nobody, lets write use it, and says what it
// would have sent.
func tell(t integrations.Target, write func(*client) error) ([]string, error) {
	told := &httpapi.Told{}
	t.Secret = &secret{}
	c := newClient(t)
	c.http.Transport = told
	err := write(c)
	return told.Lines(), err
}

// unread is the id of an account's person, which only the target knows.
func unread(a access.Account) string {
	return cmp.Or(a.Name, integrations.Found("id of "+a.Email))
}

func newClient(t integrations.Target) *client {
	c := t.Config.(*config)
	return &client{instance: t.Instance, id: t.ID, url: c.URL, again: c.Repeat, token: t.Secret.(*secret).Token, http: &http.Client{Transport: &http.Transport{}}}
}

func (c *client) Check(ctx context.Context) (r access.CheckReport, err error) {
	item := access.CheckItem{Operation: "connect", Name: "token", OK: true}
	if err := c.read(ctx, "/", nil, &r.Server); err != nil {
		item.OK, item.Detail = false, err.Error()
	}
	r.Items = []access.CheckItem{item}
	return r, nil
}

func (c *client) Discover(ctx context.Context, cursor string) (p access.Page, err error) {
	from, _ := strconv.Atoi(cursor)
	if err := c.read(ctx, "/catalog", url.Values{"from": {strconv.Itoa(from)}}, &p.Resources); err != nil {
		return p, err
	}
	if n := len(p.Resources); n > 0 {
		p.Next = strconv.Itoa(from + n)
	}
	return p, nil
}

func (c *client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// find is the one entry that the target has for an account's person.
func (c *client) find(ctx context.Context, a access.Account) (id string, err error) {
	var users []user
	if err := c.read(ctx, "/users", url.Values{"email": {a.Email}}, &users); err != nil {
		return "", err
	}
	if len(users) != 1 {
		return "", access.Errorf(access.PersonMissing, "the target knows %d people with the address %s", len(users), a.Email)
	}
	return users[0].ID, nil
}

// read reads what an operation decides by: nothing that is still on its way.
func (c *client) read(ctx context.Context, path string, q url.Values, into any) error {
	for {
		settling, err := c.call(ctx, http.MethodGet, path, q, nil, into)
		if err != nil || !settling {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

func (c *client) write(ctx context.Context, method, path string, q url.Values, in any) error {
	_, err := c.call(ctx, method, path, q, in, nil)
	return err
}

// call makes one request and waits for its task. It is settling when the answer
// may be older than the last change.
func (c *client) call(ctx context.Context, method, path string, q url.Values, in, into any) (settling bool, err error) {
	res, err := c.send(ctx, method, path+"?"+q.Encode(), in)
	for err == nil && res.status == http.StatusAccepted {
		var task struct{ Task string }
		if err := json.Unmarshal(res.body, &task); err != nil {
			return false, access.Errorf(access.Retry, "the target's answer is not JSON")
		}
		time.Sleep(time.Millisecond)
		res, err = c.send(ctx, http.MethodGet, "/task?id="+task.Task, nil)
	}
	if err != nil {
		return false, access.Errorf(access.Retry, "the target does not answer: %w", err)
	}
	if res.status != http.StatusOK {
		return false, res.failure(method + " " + path)
	}
	if into != nil {
		if err := json.Unmarshal(res.body, into); err != nil {
			return false, access.Errorf(access.Retry, "the target's answer to %s %s is not JSON", method, path)
		}
	}
	return res.header.Get("Settling") != "", nil
}

// response is an answer, read to its end.
type response struct {
	status int
	header http.Header
	body   []byte
}

// send makes one request, again where it may be repeated.
func (c *client) send(ctx context.Context, method, uri string, in any) (res response, err error) {
	for n := 0; ; n++ {
		res, err = c.once(ctx, method, uri, in)
		failed := err != nil || res.status == http.StatusTooManyRequests
		if !failed || n == c.again || method != http.MethodGet && method != http.MethodDelete {
			return res, err
		}
	}
}

func (c *client) once(ctx context.Context, method, uri string, in any) (res response, err error) {
	text, err := json.Marshal(in)
	if err != nil {
		return res, err
	}
	r, err := http.NewRequestWithContext(ctx, method, c.url+uri, bytes.NewReader(text))
	if err != nil {
		return res, err
	}
	r.Header.Set("Authorization", c.token.Reveal())
	got, err := c.http.Do(r)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // without the address, which is long
		}
		return res, err
	}
	defer got.Body.Close()
	res = response{status: got.StatusCode, header: got.Header}
	res.body, err = io.ReadAll(got.Body)
	return res, err
}

// kinds maps what the target answers.
var kinds = map[int]access.ErrorKind{
	http.StatusUnauthorized: access.Auth, http.StatusForbidden: access.Privilege, http.StatusNotFound: access.ResourceMissing,
	http.StatusConflict: access.Conflict, http.StatusUnprocessableEntity: access.Invalid, http.StatusRequestURITooLong: access.Invalid,
	http.StatusTooManyRequests: access.RateLimited,
}

func (r response) failure(what string) error {
	err := access.Errorf(cmp.Or(kinds[r.status], access.Unknown), "%s: %d: %s", what, r.status, r.body)
	if seconds, parse := strconv.Atoi(r.header.Get("Retry-After")); parse == nil {
		err.After = time.Duration(seconds) * time.Second
	}
	return err
}

// unchanged is the error of an operation whose change is not there afterwards.
func unchanged(e access.Entitlement) error {
	return access.Errorf(access.Conflict, "the target took the change of %s and does not show it", e)
}

// wrote begins a result from what was written before.
func wrote(before map[string]string) map[string]string {
	if before == nil {
		return map[string]string{}
	}
	return maps.Clone(before)
}

// clean checks what is asked for before the target hears of it.
func clean(want []access.Entitlement, levels map[string][]string) error {
	for _, e := range want {
		if _, err := e.Resource.Names(); err != nil {
			return access.Errorf(access.Invalid, "%w", err)
		}
		if !slices.Contains(levels[e.Resource.Type], e.Permission) {
			return access.Errorf(access.Invalid, "%s has no permission %q", e.Resource, e.Permission)
		}
	}
	return nil
}

// fault spoils every request of a target.
type fault func(s *system, next http.Handler) http.Handler

// faults are the bad days on which the model rooms are certified too.
var faults = map[string]fault{
	"slow":                  slow,
	"asynchronous":          asynchronous,
	"eventually consistent": eventual,
	"loses answers":         lossy,
	"throttles":             throttling,
}

func slow(_ *system, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(2 * time.Millisecond)
		next.ServeHTTP(w, r)
	})
}

// replay answers what was answered before.
func replay(w http.ResponseWriter, was *httptest.ResponseRecorder) {
	w.WriteHeader(was.Code)
	w.Write(was.Body.Bytes())
}

// asynchronous answers a change with a task, which ends a little later.
func asynchronous(_ *system, next http.Handler) http.Handler {
	var mu sync.Mutex
	var tasks []*httptest.ResponseRecorder // nil while it runs
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		n, done := len(tasks), (*httptest.ResponseRecorder)(nil)
		switch {
		case r.URL.Path == "/task":
			n, _ = strconv.Atoi(r.FormValue("id"))
			done = tasks[n]
		case r.Method == http.MethodGet:
			done = httptest.NewRecorder()
			next.ServeHTTP(done, r)
		default:
			text, _ := io.ReadAll(r.Body)
			later := r.Clone(context.Background())
			later.Body = io.NopCloser(bytes.NewReader(text))
			tasks = append(tasks, nil)
			time.AfterFunc(2*time.Millisecond, func() {
				rec := httptest.NewRecorder()
				next.ServeHTTP(rec, later)
				mu.Lock()
				defer mu.Unlock()
				tasks[n] = rec
			})
		}
		if done != nil {
			copyHeader(w, done)
			replay(w, done)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, `{"task": "%d"}`, n)
	})
}

func copyHeader(w http.ResponseWriter, from *httptest.ResponseRecorder) {
	for name, values := range from.Header() {
		w.Header()[name] = values
	}
}

// eventual answers readings with what it knew before a change, for a while.
func eventual(_ *system, next http.Handler) http.Handler {
	var mu sync.Mutex
	known := map[string]*httptest.ResponseRecorder{}
	var until time.Time
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		uri := r.URL.String()
		if was := known[uri]; r.Method == http.MethodGet && was != nil && time.Now().Before(until) {
			w.Header().Set("Settling", "yes")
			replay(w, was)
			return
		}
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		if r.Method != http.MethodGet {
			until = time.Now().Add(3 * time.Millisecond)
		} else if rec.Code == http.StatusOK {
			known[uri] = rec
		}
		copyHeader(w, rec)
		replay(w, rec)
	})
}

// every calls one of two handlers, the first for each nth request.
func every(n int, first, other http.HandlerFunc) http.Handler {
	var mu sync.Mutex
	count := 0
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		count++
		turn := count%n == 0
		mu.Unlock()
		if turn {
			first(w, r)
		} else {
			other(w, r)
		}
	})
}

// lossy does what it is asked, and sometimes breaks the connection before it
// has said so.
func lossy(_ *system, next http.Handler) http.Handler {
	return every(13, func(_ http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}, next.ServeHTTP)
}

// throttling sometimes asks to wait, with and without a delay, where the target
// has nothing else to complain of.
func throttling(s *system, next http.Handler) http.Handler {
	wait := every(2, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	}, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) })
	sometimes := every(13, wait.ServeHTTP, next.ServeHTTP)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		complains := r.Header.Get("Authorization") != token
		s.locked(func() { complains = complains || s.throttled })
		if complains {
			next.ServeHTTP(w, r)
		} else {
			sometimes.ServeHTTP(w, r)
		}
	})
}
