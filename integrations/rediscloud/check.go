package rediscloud

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
)

func (i *integration) check(ctx context.Context) (access.CheckReport, error) {
	report := access.CheckReport{Server: "Redis Cloud API v1"}
	info, err := i.whoami(ctx)
	if err != nil {
		report.Items = []access.CheckItem{failed("connect", "keys", err)}
		return report, nil
	}
	report.Items = []access.CheckItem{
		{Operation: "connect", Name: "keys", OK: true, Detail: fmt.Sprintf("account %s (%d), key %s", info.Account.Name, info.Account.ID, info.Account.Key.Name)},
		i.checkOwner(ctx, info.Account.Key.Owner.Email),
		i.checkRules(ctx),
	}
	if _, err := i.look(ctx); err != nil {
		report.Items = append(report.Items, failed("grant", "users and roles", err))
	} else {
		report.Items = append(report.Items, access.CheckItem{Operation: "grant", Name: "users and roles", OK: true})
	}
	items, err := i.checkDatabases(ctx)
	if err != nil {
		items = []access.CheckItem{failed("discover", "subscriptions", err)}
	}
	report.Items = append(report.Items, items...)
	return report, nil
}

func failed(operation, name string, err error) access.CheckItem {
	item := access.CheckItem{Operation: operation, Name: name, Detail: err.Error()}
	if e, ok := errors.AsType[*access.Error](err); ok {
		item.Detail, item.Remedy = e.Text, e.Remedy
	}
	return item
}

// checkOwner looks at the person to whom the user key belongs: viewers may read
// and nothing else.
// https://redis.io/docs/latest/operate/rc/security/access-control/access-management/
func (i *integration) checkOwner(ctx context.Context, email string) access.CheckItem {
	const remedy = "make a user key for an Owner of the account: Access Management, API Keys"
	item := access.CheckItem{Operation: "grant", Name: "owner", Remedy: remedy}
	people, err := i.people(ctx)
	if err != nil {
		item = failed("grant", "owner", err)
		item.Optional = access.KindOf(err) == access.Privilege
		return item
	}
	n := slices.IndexFunc(people, func(p person) bool { return access.SameEmail(p.Email, email) })
	switch {
	case n < 0:
		item.Optional, item.Detail = true, "it is not known to whom the key belongs"
	case !strings.EqualFold(people[n].Role, "owner"):
		item.Detail = "the key belongs to a " + people[n].Role + ", who may read and nothing else"
	default:
		item.OK, item.Detail, item.Remedy = true, "", ""
	}
	return item
}

// checkRules looks for the vendor's rules, by their names.
func (i *integration) checkRules(ctx context.Context) access.CheckItem {
	item := access.CheckItem{Operation: "grant", Name: "rules", OK: true}
	rules, err := i.rules(ctx)
	if err != nil {
		return failed("grant", "rules", err)
	}
	for _, name := range builtIn {
		if !slices.ContainsFunc(rules, func(r rule) bool { return r.Name == name && r.BuiltIn }) {
			item.OK, item.Detail = false, "there is no rule "+name+" of the vendor's"
			item.Remedy = "ask Redis to enable data access control for the account"
		}
	}
	return item
}

// checkDatabases looks for databases into which people get past Lapse.
func (i *integration) checkDatabases(ctx context.Context) ([]access.CheckItem, error) {
	c, err := i.catalog(ctx)
	if err != nil {
		return nil, err
	}
	found := access.CheckItem{Operation: "discover", Name: "subscriptions", OK: true}
	for _, id := range i.config.Subscriptions {
		if !slices.ContainsFunc(c.subscriptions, func(s subscription) bool { return s.ID == id }) {
			found.OK, found.Detail, found.Remedy = false, fmt.Sprintf("there is no subscription %d", id), "take it out of subscriptions"
		}
	}
	items := []access.CheckItem{found}
	for _, s := range c.subscriptions {
		if !i.about(s) {
			continue
		}
		databases, err := i.everyDatabase(ctx, s)
		if err != nil {
			item := failed("discover", "subscription "+s.Name, err)
			item.Optional = true
			items = append(items, item)
		}
		for _, d := range databases {
			if d.takesRoles() && (d.Security.DefaultUser || d.Security.DefaultUser2) {
				items = append(items, access.CheckItem{Operation: "revoke", Name: "default user of " + c.label(s) + "/" + d.Name, Optional: true,
					Detail: "whoever has the password of the user default needs no grant, and keeps access",
					Remedy: "turn the default user off in the database's security settings"})
			}
		}
	}
	return items, nil
}
