package rediscloud

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/lapse-access/lapse/access"
)

// Resource types and permissions.
const (
	typeDatabase = "database"
	typeRule     = "rule"
	typeRole     = "role"

	readOnly   = "read_only"
	readWrite  = "read_write"
	fullAccess = "full_access"
	use        = "use"
	assume     = "assume"
)

// The vendor's own rules, weakest first:
// https://redis.io/docs/latest/operate/rc/security/access-control/data-access-control/configure-acls/#predefined-permissions
const (
	ruleReadOnly   = "Read-Only"
	ruleReadWrite  = "Read-Write"
	ruleFullAccess = "Full-Access"
)

var builtIn = []string{ruleReadOnly, ruleReadWrite, ruleFullAccess}

var levels = map[string]string{readOnly: ruleReadOnly, readWrite: ruleReadWrite, fullAccess: ruleFullAccess}

// target is an entitlement, taken apart.
type target struct {
	access.Entitlement
	subscription, database string // names, as discovery labels them
	rule                   string
	role                   string // of the customer
}

// parse takes entitlements apart before the API hears of them.
func (i *integration) parse(all []access.Entitlement) (targets []target, err error) {
	for _, e := range all {
		t, err := parse(e)
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	return targets, nil
}

var shapes = map[string]struct {
	names       int
	permissions []string
}{
	typeDatabase: {2, []string{readOnly, readWrite, fullAccess}},
	typeRule:     {3, []string{use}},
	typeRole:     {1, []string{assume}},
}

func parse(e access.Entitlement) (t target, err error) {
	names, err := e.Resource.Names()
	if err != nil {
		return t, access.Errorf(access.Invalid, "%v", err)
	}
	shape, ok := shapes[e.Resource.Type]
	if !ok || len(names) != shape.names || !slices.Contains(shape.permissions, e.Permission) {
		return t, access.Errorf(access.Invalid, "%s is not of the form database:SUBSCRIPTION/DATABASE=%s, rule:SUBSCRIPTION/DATABASE/RULE=%s or role:NAME=%s",
			e, strings.Join(shapes[typeDatabase].permissions, "|"), use, assume)
	}
	t.Entitlement = e
	switch e.Resource.Type {
	case typeRole:
		if t.role = names[0]; strings.HasPrefix(t.role, ourPrefix) {
			return t, access.Errorf(access.Invalid, "%s is a role of Lapse", t.role)
		}
	case typeRule:
		t.subscription, t.database, t.rule = names[0], names[1], names[2]
		if slices.Contains(builtIn, t.rule) {
			return t, access.Errorf(access.Invalid, "the rule %s is a level of the database", t.rule)
		}
	default:
		t.subscription, t.database, t.rule = names[0], names[1], levels[e.Permission]
	}
	return t, nil
}

// offers is true for what include and exclude leave to be requested.
func (i *integration) offers(r access.Resource) bool {
	matches := func(pattern string) bool { return access.MatchResource(pattern, r) }
	return (len(i.config.Include) == 0 || slices.ContainsFunc(i.config.Include, matches)) && !slices.ContainsFunc(i.config.Exclude, matches)
}

// place is where a rule holds: a database, and one region of it where it is
// Active-Active.
type place struct {
	subscription, database int
	region                 string
}

// grants says which rule holds where.
type grants map[place]string

func (r *role) grants() grants {
	g := grants{}
	if r == nil {
		return g
	}
	for _, rule := range r.RedisRules {
		for _, d := range rule.Databases {
			for _, region := range append(slices.Clone(d.Regions), "")[:max(1, len(d.Regions))] {
				g[place{d.SubscriptionID, d.DatabaseID, region}] = rule.RuleName
			}
		}
	}
	return g
}

// roleBody is what the API takes for a role.
type roleBody struct {
	Name       string     `json:"name"`
	RedisRules []roleRule `json:"redisRules"`
}

// body says them as the API takes them. Nothing in it depends on chance.
func (g grants) body(name string) roleBody {
	r := roleBody{Name: name}
	for _, p := range slices.SortedFunc(maps.Keys(g), places) {
		n := slices.IndexFunc(r.RedisRules, func(x roleRule) bool { return x.RuleName == g[p] })
		if n < 0 {
			n = len(r.RedisRules)
			r.RedisRules = append(r.RedisRules, roleRule{RuleName: g[p]})
		}
		databases := &r.RedisRules[n].Databases
		last := len(*databases) - 1
		if last < 0 || (*databases)[last].SubscriptionID != p.subscription || (*databases)[last].DatabaseID != p.database {
			*databases = append(*databases, roleDatabase{SubscriptionID: p.subscription, DatabaseID: p.database})
			last++
		}
		if p.region != "" {
			(*databases)[last].Regions = append((*databases)[last].Regions, p.region)
		}
	}
	return r
}

func places(a, b place) int {
	if a.subscription != b.subscription {
		return a.subscription - b.subscription
	}
	if a.database != b.database {
		return a.database - b.database
	}
	return strings.Compare(a.region, b.region)
}

// covers is true when a rule allows all that another one does. Of rules of the
// customer nothing is known but that they are no more than Full-Access.
func covers(has, want string) bool {
	level := slices.Index(builtIn, want)
	return has == want || has == ruleFullAccess || level >= 0 && slices.Index(builtIn, has) >= level
}

// add puts a rule where another one may hold: the stronger one stays.
func (g grants) add(p place, rule string) error {
	switch has, there := g[p]; {
	case !there || covers(rule, has):
		g[p] = rule
	case !covers(has, rule):
		return access.Errorf(access.Invalid, "the person already has the rule %s on this database, and %s cannot be held beside it", has, rule)
	}
	return nil
}

// same compares what was written with what is read, which may name no regions.
func (g grants) same(read grants) bool {
	for p, rule := range g {
		if read[p] != rule && read[place{p.subscription, p.database, ""}] != rule {
			return false
		}
	}
	for p, rule := range read {
		if g[p] == rule {
			continue
		}
		known := func(q place) bool {
			return p.region == "" && q.subscription == p.subscription && q.database == p.database && g[q] == rule
		}
		if !slices.ContainsFunc(slices.Collect(maps.Keys(g)), known) {
			return false
		}
	}
	return true
}

// catalog knows the subscriptions of the account by the labels that discovery
// gives them.
type catalog struct {
	subscriptions []subscription
	databases     map[int][]database // by subscription, as far as they were read
	rules         []rule             // as far as they were read
}

func (i *integration) catalog(ctx context.Context) (*catalog, error) {
	all, err := i.subscriptions(ctx)
	return &catalog{subscriptions: all, databases: map[int][]database{}}, err
}

// label is the subscription's name, with its id where there are two of one name.
func (c *catalog) label(s subscription) string {
	for _, other := range c.subscriptions {
		if other.Name == s.Name && other.ID != s.ID {
			return s.Name + " (" + strconv.Itoa(s.ID) + ")"
		}
	}
	return s.Name
}

// find is the subscription of a label. Where two have it nobody knows which is
// meant.
func (c *catalog) find(label string) (found subscription, ok bool) {
	for _, s := range c.subscriptions {
		if c.label(s) != label {
			continue
		}
		if ok {
			return subscription{}, false
		}
		found, ok = s, true
	}
	return found, ok
}

// where says which places an entitlement is about, from what is there. It is
// ResourceMissing when something is not, or not the integration's.
func (i *integration) where(ctx context.Context, c *catalog, s state, t target) (grants, error) {
	missing := access.Errorf(access.ResourceMissing, "%s is not there", t.Resource)
	if t.role != "" {
		n := slices.IndexFunc(s.roles, func(r role) bool { return r.Name == t.role })
		if n < 0 || len(s.roles[n].RedisRules) == 0 {
			return nil, missing
		}
		return s.roles[n].grants(), nil
	}
	sub, ok := c.find(t.subscription)
	if !ok || !i.about(sub) {
		return nil, missing
	}
	if _, read := c.databases[sub.ID]; !read {
		all, err := i.everyDatabase(ctx, sub)
		if err != nil {
			return nil, err
		}
		c.databases[sub.ID] = all
	}
	n := slices.IndexFunc(c.databases[sub.ID], func(d database) bool { return d.Name == t.database })
	if n < 0 {
		return nil, missing
	}
	d := c.databases[sub.ID][n]
	if !d.takesRoles() {
		return nil, access.Errorf(access.Unsupported, "%s takes no roles: its protocol is %s, its status %s", t.Resource, d.Protocol, d.Status)
	}
	if t.Resource.Type == typeRule {
		if c.rules == nil {
			var err error
			if c.rules, err = i.rules(ctx); err != nil {
				return nil, err
			}
		}
		if !slices.ContainsFunc(c.rules, func(r rule) bool { return r.Name == t.rule }) {
			return nil, missing
		}
	}
	g := grants{}
	for _, r := range d.Regions {
		g[place{sub.ID, d.ID, r.Region}] = t.rule
	}
	if len(g) == 0 {
		g[place{sub.ID, d.ID, ""}] = t.rule
	}
	return g, nil
}

// about is true for the subscriptions that the integration is about.
func (i *integration) about(s subscription) bool {
	return len(i.config.Subscriptions) == 0 || slices.Contains(i.config.Subscriptions, s.ID)
}

// takesRoles is false for databases on which no rule can hold.
func (d database) takesRoles() bool {
	return d.Protocol != "memcached" && !slices.Contains([]string{"draft", "creation-failed", "delete-pending", "deleting", "error"}, d.Status)
}

// reading judges what a role gives, by what the API says of the role alone.
type reading struct {
	state
	*catalog
}

func (i *integration) reading(ctx context.Context, s state, all ...target) (reading, error) {
	r := reading{state: s, catalog: &catalog{}}
	if !slices.ContainsFunc(all, func(t target) bool { return t.role == "" }) {
		return r, nil
	}
	var err error
	r.catalog, err = i.catalog(ctx)
	return r, err
}

// owes is the part of a role's places that an entitlement is about, with the
// rules that it stands for. What is not there any more is not in it.
func (r reading) owes(has *role, t target) grants {
	owed := grants{}
	if t.role != "" {
		if n := slices.IndexFunc(r.roles, func(x role) bool { return x.Name == t.role }); n >= 0 {
			return r.roles[n].grants()
		}
		return owed
	}
	sub, ok := r.find(t.subscription)
	if has == nil || !ok {
		return owed
	}
	for _, rule := range has.RedisRules {
		for _, d := range rule.Databases {
			if d.SubscriptionID != sub.ID || d.DatabaseName != t.database {
				continue
			}
			for p := range (&role{RedisRules: []roleRule{{Databases: []roleDatabase{d}}}}).grants() {
				owed[p] = t.rule
			}
		}
	}
	return owed
}

// gives is true when a role gives all of an entitlement, and some when it gives
// less of it.
func (r reading) gives(has *role, t target) (all, some bool) {
	held, owed := has.grants(), r.owes(has, t)
	all = len(owed) > 0
	for p, rule := range owed {
		all = all && covers(held[p], rule)
		some = some || held[p] != "" && t.role == "" && slices.Contains(builtIn, held[p]) && slices.Contains(builtIn, rule)
	}
	return all, some && !all
}

// remaining is the part of a role that is owed to what must remain: never more
// than the role has.
func (r reading) remaining(has *role, remain []target) grants {
	held, left := has.grants(), grants{}
	for _, t := range remain {
		for p, rule := range r.owes(has, t) {
			now, there := held[p]
			if !there {
				continue
			}
			if !covers(now, rule) {
				rule = now // somebody lowered it
			}
			if left.add(p, rule) != nil {
				left[p] = now
			}
		}
	}
	return left
}

// entitlements says a role in entitlements: the customer's roles of which it has
// everything, and the rest one by one.
func (r reading) entitlements(id string, has *role) (all []access.Entitlement) {
	rest := has.grants()
	add := func(permission, typ string, names ...string) {
		all = append(all, access.Entitlement{Integration: id, Resource: access.NewResource(typ, names...), Permission: permission})
	}
	for n := range r.roles {
		x := &r.roles[n]
		if strings.HasPrefix(x.Name, ourPrefix) || len(x.RedisRules) == 0 {
			continue
		}
		if whole, _ := r.gives(has, target{role: x.Name}); whole {
			add(assume, typeRole, x.Name)
			for p := range x.grants() {
				delete(rest, p)
			}
		}
	}
	for _, rule := range has.RedisRules {
		for _, d := range rule.Databases {
			one := (&role{RedisRules: []roleRule{{RuleName: rule.RuleName, Databases: []roleDatabase{d}}}}).grants()
			maps.DeleteFunc(one, func(p place, _ string) bool { return rest[p] == "" })
			if len(one) == 0 {
				continue
			}
			label := fmt.Sprintf("(%d)", d.SubscriptionID)
			if n := slices.IndexFunc(r.subscriptions, func(s subscription) bool { return s.ID == d.SubscriptionID }); n >= 0 {
				label = r.label(r.subscriptions[n])
			}
			if level := slices.Index(builtIn, rule.RuleName); level >= 0 {
				add(shapes[typeDatabase].permissions[level], typeDatabase, label, d.DatabaseName)
			} else {
				add(use, typeRule, label, d.DatabaseName, rule.RuleName)
			}
		}
	}
	return all
}
