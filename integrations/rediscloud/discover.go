package rediscloud

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
)

// cursor is where discovery goes on: the roles first, then the subscriptions in
// the order of their ids.
type cursor struct {
	Subscription int `json:"s"`
	Offset       int `json:"o"`
	Found        int `json:"f"` // so far
}

func (i *integration) discover(ctx context.Context, from string) (page access.Page, err error) {
	var at cursor
	if from != "" && (json.Unmarshal([]byte(from), &at) != nil || at.Subscription < 0 || at.Offset < 0) {
		return page, access.Errorf(access.Invalid, "the cursor is not of this integration")
	}
	c, err := i.catalog(ctx)
	if err != nil {
		return page, err
	}
	slices.SortFunc(c.subscriptions, func(a, b subscription) int { return cmp.Compare(a.ID, b.ID) })
	add := func(r access.Resource, permissions []string) {
		switch {
		case !i.offers(r):
		case at.Found < i.config.MaxResources:
			at.Found++
			page.Resources = append(page.Resources, access.Found{Resource: r, Permissions: permissions})
		case len(page.Warnings) == 0:
			page.Warnings = append(page.Warnings, fmt.Sprintf("there are more resources than max_resources, %d", i.config.MaxResources))
		}
	}
	if from == "" {
		roles, err := i.roles(ctx)
		if err != nil {
			return page, err
		}
		for _, r := range roles {
			if len(r.RedisRules) > 0 && !strings.HasPrefix(r.Name, ourPrefix) {
				add(access.NewResource(typeRole, r.Name), []string{assume})
			}
		}
		page.Next = i.next(c, &at, 0)
		return page, nil
	}
	n := slices.IndexFunc(c.subscriptions, func(s subscription) bool { return s.ID == at.Subscription })
	if n < 0 {
		page.Next = i.next(c, &at, at.Subscription)
		return page, nil
	}
	s := c.subscriptions[n]
	databases, err := i.databases(ctx, s, at.Offset)
	if k := access.KindOf(err); k == access.Privilege || k == access.Unsupported || k == access.Invalid {
		page.Warnings = append(page.Warnings, fmt.Sprintf("subscription %s is not read: %v", s.Name, err))
	} else if err != nil {
		return page, err
	}
	rules, err := i.rules(ctx)
	if err != nil {
		return page, err
	}
	for _, d := range databases {
		if !d.takesRoles() {
			continue
		}
		add(access.NewResource(typeDatabase, c.label(s), d.Name), shapes[typeDatabase].permissions)
		for _, r := range rules {
			if !slices.Contains(builtIn, r.Name) && r.Status == active {
				add(access.NewResource(typeRule, c.label(s), d.Name, r.Name), []string{use})
			}
		}
	}
	if len(databases) == pageSize {
		at.Offset += pageSize
		page.Next = at.String()
	} else {
		page.Next = i.next(c, &at, s.ID)
	}
	if len(page.Warnings) > 0 && at.Found >= i.config.MaxResources {
		page.Next = ""
	}
	return page, nil
}

// next is the cursor for the subscription that comes after one.
func (i *integration) next(c *catalog, at *cursor, after int) string {
	for _, s := range c.subscriptions {
		if s.ID > after && i.about(s) {
			at.Subscription, at.Offset = s.ID, 0
			return at.String()
		}
	}
	return ""
}

func (c cursor) String() string {
	text, err := json.Marshal(c)
	if err != nil {
		panic("rediscloud: encoding a plain struct failed: " + err.Error())
	}
	return string(text)
}
