package integrationtest_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/internal/principal"
)

// The recomputed list: one expression for each account, which every grant and
// revoke computes anew from all that must remain. Accounts are of Lapse's
// making, with a password and sessions; roles of the customer's stand beside
// the expression. RabbitMQ and Redis Cloud are of this shape.

var listLevels = map[string][]string{"queue": {"read", "write", "configure"}, "role": {"member"}}

// listKind gives expressions and roles.
func listKind() integrations.Kind {
	return integrations.Kind{
		Name: "list", Title: "List", Doc: "Access is an expression over queues.",
		Config: func() any { return new(config) }, Secret: func() any { return new(secret) },
		ResourceTypes: []integrations.ResourceType{
			{Name: "queue", Path: []string{"QUEUE"}, Doc: "a queue", Permissions: permissions(listLevels["queue"])},
			{Name: "role", Path: []string{"ROLE"}, Doc: "a role", Permissions: permissions(listLevels["role"])},
		},
		Sessions:     "All sessions of the account are ended.",
		NativeExpiry: true,
		Credentials:  true, RotatesSecret: true,
		LastResort: byHand(func(_ integrations.Target, req integrations.RevokeRequest) string {
			name := "?" + url.Values{"name": {req.Account.Name}}.Encode()
			return integrations.ShellCall(http.MethodDelete, "/account"+name, "") + integrations.ShellCall(http.MethodDelete, "/sessions"+name, "")
		}),
		Told: func(t integrations.Target, req integrations.GrantRequest) ([]string, error) {
			return tell(t, func(c *client) error {
				i := &list{client: c, quote: regexp.QuoteMeta}
				_, err := i.put(context.Background(), i.name(req.Account), req.Account, req.Sequence, nil, i.giving(req))
				return err
			})
		},
		New: func(t integrations.Target) (integrations.Integration, error) {
			return &list{client: newClient(t), quote: regexp.QuoteMeta}, nil
		},
	}
}

type list struct {
	*client
	quote func(name string) string
}

// record is an account, as the target keeps it. It takes a change only to the
// revision that it has.
type record struct {
	Revision   int
	Enabled    bool
	Expression string
	Roles      []string
	Expires    time.Time
	Owns       []string // the target's own to say
	// The mark.
	Instance, Integration, Account string
	Sequence                       int64
	Tombstone                      bool
}

// allows is true when the expression gives a permission on a queue, and all
// that are weaker.
func (r record) allows(e access.Entitlement) bool {
	if e.Resource.Type == "role" {
		return slices.Contains(r.Roles, e.Resource.Path)
	}
	expression, err := regexp.Compile(r.Expression)
	for _, level := range listLevels["queue"] {
		if err != nil || !expression.MatchString(level+" "+e.Resource.Path) {
			return false
		}
		if level == e.Permission {
			return true
		}
	}
	return false
}

// usable is true when somebody can log in.
func (r record) usable() bool { return r.Enabled && time.Now().Before(r.Expires) }

// expression gives exactly these entitlements; nothing when there are none.
func (i *list) expression(all []access.Entitlement) string {
	parts := map[string]bool{}
	for _, e := range all {
		if e.Resource.Type != "queue" {
			continue
		}
		for _, level := range listLevels["queue"][:slices.Index(listLevels["queue"], e.Permission)+1] {
			parts[level+" "+i.quote(e.Resource.Path)] = true
		}
	}
	if len(parts) == 0 {
		return "^$"
	}
	return "^(" + strings.Join(slices.Sorted(maps.Keys(parts)), "|") + ")$"
}

func (i *list) name(a access.Account) url.Values {
	name := a.Name
	if name == "" {
		name = principal.Account(i.instance, i.id, a.PersonID, a.Email)
	}
	return url.Values{"name": {name}}
}

// find reads an account. It is nil where there is none, and NameTaken where it
// is not ours.
func (i *list) find(ctx context.Context, name url.Values, a access.Account) (r *record, err error) {
	err = i.read(ctx, "/account", name, &r)
	switch {
	case access.KindOf(err) == access.ResourceMissing:
		return nil, nil
	case err == nil && (r.Instance != i.instance || r.Integration != i.id || r.Account != a.ID):
		return nil, access.Errorf(access.NameTaken, "account %s is there and does not carry our mark", name.Get("name"))
	}
	return r, err
}

// change reads an account, lets edit change it, and writes it unless it is the
// same, again and again while others change it too. It returns what was there.
func (i *list) change(ctx context.Context, name url.Values, a access.Account, sequence int64, edit func(*record)) (before *record, err error) {
	for {
		before, err = i.find(ctx, name, a)
		if err != nil {
			return before, err
		}
		before, err = i.put(ctx, name, a, sequence, before, edit)
		if access.KindOf(err) != access.Conflict {
			return before, err
		}
	}
}

// put writes what edit makes of what was there.
func (i *list) put(ctx context.Context, name url.Values, a access.Account, sequence int64, before *record, edit func(*record)) (*record, error) {
	after := record{Instance: i.instance, Integration: i.id, Account: a.ID}
	if before != nil {
		after = *before
		after.Roles = slices.Clone(before.Roles)
		if sequence < before.Sequence {
			return before, access.Errorf(access.Superseded, "operation %d comes after %d", sequence, before.Sequence)
		}
	}
	after.Sequence = sequence
	edit(&after)
	if before != nil && reflect.DeepEqual(after, *before) {
		return before, nil
	}
	return before, i.write(ctx, http.MethodPut, "/account", name, after)
}

// giving is what a grant changes.
func (i *list) giving(req integrations.GrantRequest) func(*record) {
	all, open := slices.Clone(req.Want), false
	for _, c := range req.Remain {
		all, open = append(all, c.Entitlement), open || !c.Baseline
	}
	return func(r *record) {
		r.Enabled, r.Expression = true, i.expression(all)
		if !open || req.End.After(r.Expires) {
			r.Expires = req.End.UTC()
		}
		for _, e := range req.Want {
			if e.Resource.Type == "role" && !r.allows(e) {
				r.Roles = append(r.Roles, e.Resource.Path)
			}
		}
	}
}

// exist demands that every resource is there.
func (i *list) exist(ctx context.Context, want []access.Entitlement) error {
	for _, e := range want {
		if err := i.read(ctx, "/exists", url.Values{"resource": {e.Resource.String()}}, nil); err != nil {
			return err
		}
	}
	return nil
}

func (i *list) Held(ctx context.Context, a access.Account, want []access.Entitlement) (slots []access.Slot, err error) {
	if err := clean(want, listLevels); err != nil {
		return nil, err
	}
	r, err := i.find(ctx, i.name(a), a)
	if err != nil {
		return nil, err
	}
	for _, e := range want {
		s := access.Slot{Key: e.Resource.String(), Write: e.Permission, Entitlements: []access.Entitlement{e}}
		if r != nil && e.Resource.Type == "role" && r.allows(e) {
			s.Held, s.HeldAs, s.Write = e.Permission, s.Entitlements, ""
		}
		slots = append(slots, s)
	}
	return slots, nil
}

func (i *list) Grant(ctx context.Context, req integrations.GrantRequest) (res integrations.GrantResult, err error) {
	if err := clean(req.Want, listLevels); err != nil {
		return res, err
	}
	if err := i.exist(ctx, req.Want); err != nil {
		return res, err
	}
	name := i.name(req.Account)
	before, err := i.change(ctx, name, req.Account, req.Sequence, i.giving(req))
	if err != nil {
		return res, err
	}
	res.AccountName, res.Wrote = name.Get("name"), wrote(req.Wrote)
	if res.Entries, err = i.Verify(ctx, req.Account, req.Want); err != nil {
		return res, err
	}
	for n, e := range res.Entries {
		key := e.Entitlement.Resource.String()
		switch {
		case e.Outcome != access.Granted && e.Outcome != access.Propagating:
			return res, unchanged(e.Entitlement)
		case before != nil && e.Entitlement.Resource.Type == "role" && before.allows(e.Entitlement) && req.Wrote[key] == "":
			res.Entries[n].Outcome = access.AlreadyHeld
		default:
			res.Wrote[key] = e.Entitlement.Permission
		}
	}
	return res, nil
}

// Revoke writes what is left, closes the login when that is nothing, and only
// then ends the sessions.
func (i *list) Revoke(ctx context.Context, req integrations.RevokeRequest) (res integrations.RevokeResult, err error) {
	var left []access.Entitlement
	open := false
	for _, c := range req.Remain {
		left, open = append(left, c.Entitlement), open || !c.Baseline
	}
	name := i.name(req.Account)
	before, err := i.find(ctx, name, req.Account)
	if access.KindOf(err) == access.NameTaken || before == nil && err == nil {
		for _, e := range req.End {
			res.Entries = append(res.Entries, access.Entry{Entitlement: e, Outcome: access.WasGone})
		}
		return res, nil
	}
	if err != nil {
		return res, err
	}
	catalog, err := i.catalog(ctx)
	if err != nil {
		return res, err
	}
	for _, e := range i.holds(catalog, *before) {
		if e.Resource.Type == "queue" && !covers(req.End, e) && !covers(left, e) {
			res.Notes = append(res.Notes, fmt.Sprintf("drift: %s, for which there is no hold, was taken back", e))
		}
	}
	ours := func(e access.Entitlement) bool {
		return req.Wrote[e.Resource.String()] != "" && !slices.Contains(left, e)
	}
	_, err = i.change(ctx, name, req.Account, req.Sequence, func(r *record) {
		r.Expression = i.expression(left)
		for _, e := range req.End {
			if e.Resource.Type == "role" && ours(e) {
				r.Roles = slices.DeleteFunc(r.Roles, func(role string) bool { return role == e.Resource.Path })
			}
		}
		if !open {
			r.Enabled, r.Expires = false, time.Time{}
		}
	})
	if err := access.Worst(err, i.endSessions(ctx, name)); err != nil {
		return res, err
	}
	res.Wrote = wrote(req.Wrote)
	res.Entries, err = i.ended(ctx, name, *before, req.End, left, res.Wrote)
	return res, err
}

// covers is true when one of several entitlements gives at least e.
func covers(all []access.Entitlement, e access.Entitlement) bool {
	order := listLevels[e.Resource.Type]
	return slices.ContainsFunc(all, func(x access.Entitlement) bool {
		return x.Resource == e.Resource && slices.Index(order, x.Permission) >= slices.Index(order, e.Permission)
	})
}

// ended reads what became of what was to end, and forgets that it was written.
func (i *list) ended(ctx context.Context, name url.Values, before record, end, left []access.Entitlement, wrote map[string]string) (entries []access.Entry, err error) {
	var after record
	settling, err := i.call(ctx, http.MethodGet, "/account", name, nil, &after)
	if err != nil {
		return nil, err
	}
	for _, e := range end {
		entry := access.Entry{Entitlement: e, Outcome: access.WasGone}
		key := e.Resource.String()
		switch {
		case covers(left, e):
			entry.Outcome = access.Lowered
		case !before.allows(e):
		case settling:
			entry.Outcome = access.Propagating
		case after.allows(e) && (e.Resource.Type == "queue" || wrote[key] != ""):
			return nil, unchanged(e)
		case after.allows(e):
			entry.Outcome, entry.Facts = access.Lowered, []string{"the role is somebody else's to take"}
		default:
			entry.Outcome = access.Gone
		}
		entries = append(entries, entry)
	}
	if !settling {
		for _, e := range end {
			if !slices.ContainsFunc(left, func(x access.Entitlement) bool { return x.Resource == e.Resource }) {
				delete(wrote, e.Resource.String())
			}
		}
	}
	return entries, nil
}

// endSessions ends what is open.
func (i *list) endSessions(ctx context.Context, name url.Values) error {
	var open int
	if err := i.read(ctx, "/sessions", name, &open); err != nil || open == 0 {
		return err
	}
	return i.write(ctx, http.MethodDelete, "/sessions", name, nil)
}

func (i *list) Verify(ctx context.Context, a access.Account, want []access.Entitlement) (entries []access.Entry, err error) {
	var r record
	settling, err := i.call(ctx, http.MethodGet, "/account", i.name(a), nil, &r)
	if err != nil && access.KindOf(err) != access.ResourceMissing {
		return nil, err
	}
	for _, e := range want {
		entry := access.Entry{Entitlement: e, Outcome: access.Gone}
		switch {
		case settling:
			entry.Outcome = access.Propagating
		case r.allows(e) && r.usable():
			entry.Outcome = access.Granted
		case r.allows(e):
			entry.Outcome, entry.Facts = access.Blocked, []string{"the login is closed"}
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// DeleteAccount keeps an account that owns things, under a name to which nobody
// comes back.
func (i *list) DeleteAccount(ctx context.Context, req integrations.DeleteRequest) (res integrations.DeleteResult, err error) {
	name := i.name(req.Account)
	switch r, err := i.find(ctx, name, req.Account); {
	case err != nil:
		return res, err
	case r == nil:
		return i.buried(ctx, req.Account)
	}
	before, err := i.change(ctx, name, req.Account, req.Sequence, func(r *record) {
		r.Enabled, r.Expression, r.Roles, r.Expires = false, "^$", nil, time.Time{}
	})
	if err != nil {
		return res, err
	}
	if err := i.endSessions(ctx, name); err != nil {
		return res, err
	}
	if len(before.Owns) > 0 {
		name.Set("to", principal.Tombstone(i.instance, i.id, req.Account.PersonID, time.Now(), 1))
		return integrations.DeleteResult{Outcome: access.KeptDisabled, Owns: before.Owns}, i.write(ctx, http.MethodPost, "/bury", name, nil)
	}
	if err := i.write(ctx, http.MethodDelete, "/account", name, nil); err != nil {
		return res, err
	}
	switch left, err := i.find(ctx, name, req.Account); {
	case err != nil:
		return res, err
	case left != nil:
		return res, access.Errorf(access.Conflict, "account %s is still there", name.Get("name"))
	}
	return integrations.DeleteResult{Outcome: access.Gone}, nil
}

// buried is what there is of an account that is not there under its name.
func (i *list) buried(ctx context.Context, a access.Account) (res integrations.DeleteResult, err error) {
	res.Outcome = access.WasGone
	marked, err := i.marked(ctx)
	for _, r := range marked {
		if r.Account == a.ID {
			res.Outcome, res.Owns = access.KeptDisabled, r.Owns
		}
	}
	return res, err
}

// marked are the accounts of this instance and integration, by name.
func (i *list) marked(ctx context.Context) (all map[string]record, err error) {
	err = i.read(ctx, "/accounts", nil, &all)
	maps.DeleteFunc(all, func(_ string, r record) bool { return r.Instance != i.instance || r.Integration != i.id })
	return all, err
}

// catalog is all that there is.
func (i *list) catalog(ctx context.Context) (all []access.Found, err error) {
	for cursor := ""; ; {
		page, err := i.Discover(ctx, cursor)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Resources...)
		if cursor = page.Next; cursor == "" {
			return all, nil
		}
	}
}

// holds says a record in entitlements: the strongest on each resource.
func (i *list) holds(catalog []access.Found, r record) (held []access.Entitlement) {
	for _, f := range catalog {
		for _, p := range slices.Backward(f.Permissions) {
			if e := (access.Entitlement{Integration: i.id, Resource: f.Resource, Permission: p}); r.allows(e) {
				held = append(held, e)
				break
			}
		}
	}
	return held
}

func (i *list) Accounts(ctx context.Context, _ string) (p access.PrincipalPage, err error) {
	catalog, err := i.catalog(ctx)
	if err != nil {
		return p, err
	}
	all, err := i.marked(ctx)
	if err != nil {
		return p, err
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		r := all[name]
		p.Principals = append(p.Principals, access.Principal{Name: name, AccountID: r.Account, Enabled: r.Enabled, Tombstone: r.Tombstone, Entitlements: i.holds(catalog, r), Owns: len(r.Owns) > 0})
	}
	return p, nil
}

func (i *list) SetCredential(ctx context.Context, req integrations.CredentialRequest) (c integrations.Credential, err error) {
	name := i.name(req.Account)
	r, err := i.find(ctx, name, req.Account)
	if err != nil {
		return c, err
	}
	if r == nil || !r.Enabled {
		return c, access.Errorf(access.Invalid, "account %s holds nothing", name.Get("name"))
	}
	if _, err := i.change(ctx, name, req.Account, req.Sequence, func(*record) {}); err != nil {
		return c, err
	}
	c = integrations.Credential{Username: name.Get("name"), Password: integrations.Secret(principal.Password(name.Get("name"))), Command: "list " + name.Get("name")}
	if err := i.write(ctx, http.MethodPut, "/password", name, c.Password.Reveal()); err != nil {
		return integrations.Credential{}, err
	}
	if err := i.write(ctx, http.MethodPost, "/login", name, c.Password.Reveal()); err != nil {
		return integrations.Credential{}, err
	}
	if req.EndSessions {
		err = i.endSessions(ctx, name)
	}
	return c, err
}

func (i *list) NextSecret() (any, error) {
	return &secret{Token: integrations.Secret("canary-next-" + access.NewID("token"))}, nil
}

func (i *list) RotateSecret(ctx context.Context, next any) error {
	return i.write(ctx, http.MethodPut, "/token", nil, next.(*secret).Token.Reveal())
}

// listTarget is the target, and looks at itself.
type listTarget struct {
	*system
	accounts  map[string]*record
	passwords map[string]string
	sessions  map[*listSession]bool
}

var _ interface {
	integrationtest.LoginObserver
	integrationtest.SessionObserver
	integrationtest.HandObserver
	integrationtest.PrincipalObserver
	integrationtest.Planter
	integrationtest.OwnerObserver
	integrationtest.ExpiryObserver
	integrationtest.Throttler
	integrationtest.Deafener
} = (*listTarget)(nil)

func newList(t *testing.T, f fault) *integrationtest.Harness {
	queue, role := listLevels["queue"], listLevels["role"]
	s := newSystem(t, f, found(queue, "queue", "orders"), found(queue, "queue", "mails"), found(queue, "queue", hostile), found(role, "role", "auditors"))
	o := &listTarget{system: s, accounts: map[string]*record{}, passwords: map[string]string{}, sessions: map[*listSession]bool{}}
	name := func(r *http.Request) string { return r.FormValue("name") }
	s.HandleFunc("GET /exists", func(w http.ResponseWriter, r *http.Request) {})
	s.HandleFunc("GET /accounts", func(w http.ResponseWriter, r *http.Request) { answer(w, o.accounts) })
	s.HandleFunc("GET /account", func(w http.ResponseWriter, r *http.Request) {
		if o.accounts[name(r)] == nil {
			http.Error(w, "no such account", http.StatusNotFound)
			return
		}
		answer(w, o.accounts[name(r)])
	})
	s.HandleFunc("PUT /account", func(w http.ResponseWriter, r *http.Request) {
		next, has := body[record](r), 0
		if was := o.accounts[name(r)]; was != nil {
			has = was.Revision
		}
		if next.Revision != has {
			http.Error(w, "somebody else was faster", http.StatusConflict)
			return
		}
		next.Revision++
		if !next.Enabled {
			delete(o.passwords, name(r))
		}
		o.accounts[name(r)] = &next
	})
	s.HandleFunc("DELETE /account", func(w http.ResponseWriter, r *http.Request) {
		delete(o.accounts, name(r))
		delete(o.passwords, name(r))
	})
	s.HandleFunc("POST /bury", func(w http.ResponseWriter, r *http.Request) {
		to := r.FormValue("to")
		o.accounts[to] = o.accounts[name(r)]
		o.accounts[to].Tombstone = true
		delete(o.accounts, name(r))
	})
	s.HandleFunc("PUT /password", func(w http.ResponseWriter, r *http.Request) { o.passwords[name(r)] = body[string](r) })
	s.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		if !o.admits(name(r), body[string](r)) {
			http.Error(w, "the password is wrong", http.StatusUnprocessableEntity)
		}
	})
	s.HandleFunc("GET /sessions", func(w http.ResponseWriter, r *http.Request) {
		open := 0
		for s := range o.sessions {
			if s.name == name(r) {
				open++
			}
		}
		answer(w, open)
	})
	s.HandleFunc("DELETE /sessions", func(w http.ResponseWriter, r *http.Request) {
		maps.DeleteFunc(o.sessions, func(s *listSession, _ bool) bool { return s.name == name(r) })
	})

	h := s.harness(listKind())
	h.Person = func(integrationtest.T) access.Account { return o.account(0, false) }
	h.Chains = [][]access.Entitlement{{entitlement("read", "queue", "orders"), entitlement("write", "queue", "orders"), entitlement("configure", "queue", "orders")}}
	h.Apart = [2]access.Entitlement{entitlement("write", "queue", "orders"), entitlement("read", "queue", "mails")}
	h.Absent = []access.Entitlement{entitlement("read", "queue", "nowhere"), entitlement("member", "role", "nobody")}
	h.Hostile = []access.Entitlement{entitlement("write", "queue", hostile)}
	h.Existing = entitlement("member", "role", "auditors")
	h.Sequenced = true
	h.Observer = o
	return h
}

// admits is true for the password of an account that may log in; with the lock
// held.
func (o *listTarget) admits(name, password string) bool {
	r := o.accounts[name]
	return r != nil && r.usable() && password != "" && o.passwords[name] == password
}

func (o *listTarget) record(name string) (r record) {
	o.locked(func() {
		if found := o.accounts[name]; found != nil {
			r = *found
		}
	})
	return r
}

func (o *listTarget) Can(_ integrationtest.T, a access.Account, e access.Entitlement) bool {
	r := o.record(a.Name)
	return r.usable() && r.allows(e)
}

func (o *listTarget) CanLogin(_ integrationtest.T, c integrations.Credential) (can bool) {
	o.locked(func() { can = o.admits(c.Username, c.Password.Reveal()) })
	return can
}

func (o *listTarget) Open(t integrationtest.T, c integrations.Credential, _ access.Entitlement) map[string]integrationtest.Session {
	if !o.CanLogin(t, c) {
		t.Fatalf("%s cannot log in", c.Username)
	}
	s := &listSession{o, c.Username}
	o.locked(func() { o.sessions[s] = true })
	return map[string]integrationtest.Session{"idle": s}
}

// listSession is a session of an account.
type listSession struct {
	o    *listTarget
	name string
}

func (s *listSession) Alive() (alive bool) {
	s.o.locked(func() { alive = s.o.sessions[s] })
	return alive
}

func (o *listTarget) Give(_ integrationtest.T, a access.Account) {
	o.locked(func() { o.accounts[a.Name].Roles = append(o.accounts[a.Name].Roles, "auditors") })
}

func (o *listTarget) Given(_ integrationtest.T, a access.Account) bool {
	return slices.Contains(o.record(a.Name).Roles, "auditors")
}

func (o *listTarget) Exists(_ integrationtest.T, name string) (exists bool) {
	o.locked(func() { exists = o.accounts[name] != nil })
	return exists
}

// stranger is an account that somebody else made.
var stranger = record{Revision: 1, Enabled: true, Expression: "^read mails$"}

func (o *listTarget) Plant(_ integrationtest.T, name string) {
	o.locked(func() {
		r := stranger
		o.accounts[name], o.passwords[name] = &r, "planted"
	})
}

func (o *listTarget) Untouched(_ integrationtest.T, name string) (untouched bool) {
	o.locked(func() {
		untouched = o.accounts[name] != nil && reflect.DeepEqual(*o.accounts[name], stranger) && o.passwords[name] == "planted"
	})
	return untouched
}

var owned = []string{"queue drafts"}

func (o *listTarget) Own(_ integrationtest.T, a access.Account) {
	o.locked(func() { o.accounts[a.Name].Owns = owned })
}

func (o *listTarget) Kept(_ integrationtest.T, a access.Account) (kept bool) {
	o.locked(func() {
		for name, r := range o.accounts {
			kept = kept || r.Account == a.ID && name != a.Name && !r.Enabled && slices.Equal(r.Owns, owned)
		}
	})
	return kept
}

func (o *listTarget) Expiry(_ integrationtest.T, a access.Account) time.Time {
	return o.record(a.Name).Expires
}
