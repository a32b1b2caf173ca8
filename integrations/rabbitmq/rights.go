package rabbitmq

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/lapse-access/lapse/access"
)

// place is where expressions stand: a virtual host, or with an exchange one of
// its topic exchanges, where they are over routing keys.
type place struct{ vhost, exchange string }

// rights are the expressions of an account. A topic exchange without any takes
// every routing key.
type rights map[place]*[3]expression

func (r rights) at(p place) *[3]expression {
	if r[p] == nil {
		r[p] = new([3]expression)
	}
	return r[p]
}

// of reads the expressions of records.
func of(permissions, topics []record) rights {
	r := rights{}
	for _, one := range slices.Concat(permissions, topics) {
		*r.at(place{one.Vhost, one.Exchange}) = [3]expression{parseExpression(one.Configure), parseExpression(one.Write), parseExpression(one.Read)}
	}
	return r
}

// rightsOf reads those of an account; it has none when it is not there.
func (i *integration) rightsOf(ctx context.Context, a *account) (rights, error) {
	if a.user == nil {
		return rights{}, nil
	}
	permissions, topics, err := i.api.records(ctx, a.name)
	return of(permissions, topics), during("reading the permissions of "+a.name, err)
}

// wanted are the rights that give exactly these entitlements.
func wanted(all []target) rights {
	r := rights{}
	for _, t := range all {
		if t.tag != "" {
			continue
		}
		for _, field := range t.fields {
			r.at(place{vhost: t.vhost})[field].add(part(t.sign, t.text()))
		}
		if t.topic != "" {
			r.at(place{t.vhost, t.name})[write].add(topicText(t.topic))
		}
	}
	// A record over routing keys must not restrict what is held without one.
	for p, x := range r {
		if p.exchange == "" {
			continue
		}
		text := regexp.QuoteMeta(p.exchange)
		for _, field := range []int{write, read} {
			fields := r[place{vhost: p.vhost}]
			besides := expression{parts: maps.Clone(fields[field].parts)}
			if field == write {
				delete(besides.parts, part(levels[typeTopic]["publish"].sign, text))
			}
			if besides.allows(text, p.exchange) {
				x[field].add(part(1, everything))
			}
		}
	}
	return r
}

// gives is how much of an entitlement the rights give: nothing, some of it, or
// all.
func (r rights) gives(t target) (some, all bool) {
	all = true
	fields := r[place{vhost: t.vhost}]
	for _, field := range t.fields {
		given := fields != nil && r.allows(t, field, fields[field])
		some, all = some || given, all && given
	}
	return some, all
}

// carries is true when an entitlement came in by itself, or somebody gives it by
// hand.
func (r rights) carries(t target) bool {
	fields := r[place{vhost: t.vhost}]
	if fields == nil {
		return false
	}
	by := slices.ContainsFunc(t.fields, func(f int) bool {
		return fields[f].parts[part(t.sign, t.text())] || fields[f].hand != "" && fields[f].allows(t.text(), t.name)
	})
	if topic := r[place{t.vhost, t.name}]; t.topic != "" {
		by = by && (topic == nil || topic[write].hand != "" || topic[write].any(topicText(t.topic)))
	}
	return by
}

// allows is true when a field gives what the entitlement is about, and no record
// over routing keys takes it away again.
func (r rights) allows(t target, field int, x expression) bool {
	if t.name == "" && !x.all() || t.name != "" && !x.allows(t.text(), t.name) {
		return false
	}
	for p, topic := range r {
		restricts := p.exchange != "" && p.vhost == t.vhost && field != configure && t.Resource.Type != typeQueue && (t.name == "" || t.name == p.exchange)
		if !restricts || topic[field].all() {
			continue
		}
		if text := topicText(t.topic); t.topic == "" || !topic[field].allows(text, sample(text)) {
			return false
		}
	}
	return true
}

// within are the rights without what others do not give.
func (r rights) within(others rights) rights {
	narrow := rights{}
	for p, x := range r {
		fields := others[p]
		if fields == nil && p.exchange == "" {
			continue
		}
		for field := range x {
			bound := x[field]
			if fields != nil {
				bound = x[field].within(fields[field])
			}
			narrow.at(p)[field] = bound
		}
	}
	// A restriction that somebody set is not taken away while it matters.
	for p, x := range others {
		fields := narrow[place{vhost: p.vhost}]
		if p.exchange == "" || r[p] != nil || fields == nil || x[write].any(everything) {
			continue
		}
		if text := regexp.QuoteMeta(p.exchange); fields[write].allows(text, p.exchange) || fields[read].allows(text, p.exchange) {
			narrow[p] = x
		}
	}
	return narrow
}

// longest is the longest expression, in bytes.
func (r rights) longest() (n int) {
	for _, fields := range r {
		for _, x := range fields {
			n = max(n, len(x.String()))
		}
	}
	return n
}

// apply makes the broker's records of a user what they are to be. Records over
// routing keys restrict, so that they come before the permissions that they
// restrict, and go after them. It goes on after what failed.
func (i *integration) apply(ctx context.Context, name string, is, want rights) error {
	var errs []error
	for _, p := range order(want) {
		if x := want[p]; p.exchange != "" && !same(is[p], x) {
			errs = append(errs, during("limiting topics of "+p.vhost, i.api.putTopic(ctx, name, p.vhost, p.exchange, *x)))
		}
	}
	for _, p := range order(want) {
		if x := want[p]; p.exchange == "" && !nobody(x) && !same(is[p], x) {
			errs = append(errs, during("writing the permissions in "+p.vhost, i.api.putPermissions(ctx, name, p.vhost, *x)))
		}
	}
	for _, p := range order(is) {
		if x := want[p]; p.exchange == "" && (x == nil || nobody(x)) {
			errs = append(errs, during("taking back the permissions in "+p.vhost, i.api.deletePermissions(ctx, name, p.vhost)))
		}
	}
	for _, p := range order(is) {
		if p.exchange != "" && want[p] == nil {
			errs = append(errs, during("taking back topics of "+p.vhost, i.api.deleteTopic(ctx, name, p.vhost, p.exchange)))
		}
	}
	return access.Worst(errs...)
}

func order(r rights) []place {
	return slices.SortedFunc(maps.Keys(r), func(a, b place) int {
		return slices.Compare([]string{a.vhost, a.exchange}, []string{b.vhost, b.exchange})
	})
}

// nobody is true for expressions that allow nothing: without any record nobody
// can even connect.
func nobody(x *[3]expression) bool {
	return x[configure].empty() && x[write].empty() && x[read].empty()
}

// check demands that the rights are, to the letter, what was written: a limit that
// is missing gives more than was asked.
func (r rights) check(name string, want rights) error {
	for _, p := range order(want) {
		if x := want[p]; !same(r[p], x) && !(p.exchange == "" && nobody(x) && r[p] == nil) {
			return access.Errorf(access.Conflict, "the permissions of %s in %s are not what was written: somebody else changes them", name, p.vhost)
		}
	}
	for _, p := range order(r) {
		if want[p] == nil {
			return access.Errorf(access.Conflict, "%s has permissions in %s that were taken back: somebody else gives them", name, p.vhost)
		}
	}
	return nil
}

func same(a, b *[3]expression) bool {
	return a != nil && b != nil && a[configure].String() == b[configure].String() && a[write].String() == b[write].String() && a[read].String() == b[read].String()
}

// entitlements says rights in entitlements, and what in them is not Lapse's.
func (i *integration) entitlements(r rights) (held []access.Entitlement, foreign []string) {
	for _, p := range order(r) {
		fields := r[p]
		for field, x := range fields {
			if x.hand != "" {
				foreign = append(foreign, fmt.Sprintf("the %s expression of %s was written by hand", []string{"configure", "write", "read"}[field], p.vhost))
			}
			for _, one := range slices.Sorted(maps.Keys(x.parts)) {
				if e, ok := i.carried(r, p, field, one); ok && !slices.Contains(held, e) {
					held = append(held, e)
				}
			}
		}
	}
	return held, foreign
}

// carried is the entitlement by which a part came in. It is none when another
// field lacks its part.
func (i *integration) carried(r rights, p place, field int, one string) (e access.Entitlement, ok bool) {
	sign, text := split(one)
	if p.exchange != "" {
		t, err := i.parse(access.Entitlement{Integration: i.id, Resource: access.NewResource(typeTopic, p.vhost, p.exchange, patternOf(text)), Permission: "publish"})
		fields := r[place{vhost: p.vhost}]
		return t.Entitlement, err == nil && field == write && sign == 0 && fields != nil && fields[write].parts[part(t.sign, regexp.QuoteMeta(p.exchange))]
	}
	path := []string{p.vhost}
	types := []string{typeVhost}
	if text != everything {
		path, types = append(path, unquote(text)), []string{typeQueue, typeExchange}
	}
	for _, typ := range types {
		for permission, l := range levels[typ] {
			if l.sign != sign || !slices.Contains(l.fields, field) {
				continue
			}
			e = access.Entitlement{Integration: i.id, Resource: access.NewResource(typ, path...), Permission: permission}
			return e, !slices.ContainsFunc(l.fields, func(f int) bool { return !r[p][f].parts[one] })
		}
	}
	return e, false
}
