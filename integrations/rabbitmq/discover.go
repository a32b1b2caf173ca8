package rabbitmq

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/catalog"
)

// pageSize bounds what one page reads of queues and exchanges.
const pageSize = 500

// cursor is where discovery goes on: tags and virtual hosts, then virtual host by
// virtual host its queues, its exchanges and its topics.
type cursor struct {
	Step  string `json:"step"`
	Vhost string `json:"vhost,omitempty"`
	Page  int    `json:"page,omitempty"`
	Count int    `json:"count"` // of the resources before
}

const (
	stepVhosts    = "vhosts"
	stepQueues    = "queues"
	stepExchanges = "exchanges"
	stepTopics    = "topics"
)

func readCursor(s string) (c cursor, err error) {
	if s == "" {
		return cursor{Step: stepVhosts}, nil
	}
	if err := catalog.ReadCursor(s, &c); err != nil {
		return c, err
	}
	if !slices.Contains([]string{stepQueues, stepExchanges, stepTopics}, c.Step) || c.Page < 1 {
		return c, catalog.BadCursor(s)
	}
	return c, nil
}

func (i *integration) discover(ctx context.Context, from string) (page access.Page, err error) {
	c, err := readCursor(from)
	if err != nil {
		return page, err
	}
	vhosts, err := i.api.vhosts(ctx)
	if err != nil {
		return page, during("reading the virtual hosts", err)
	}
	slices.SortFunc(vhosts, func(a, b named) int { return strings.Compare(a.Name, b.Name) })

	var found []access.Found
	more := false
	switch c.Step {
	case stepVhosts:
		found = i.vhostsAndTags(vhosts)
	case stepTopics:
		found, err = i.topics(ctx, c.Vhost)
	default:
		found, more, err = i.names(ctx, c)
	}
	if err != nil && (ctx.Err() != nil || access.KindOf(err) != access.Privilege && access.KindOf(err) != access.Limit && access.KindOf(err) != access.ResourceMissing) {
		return page, during("reading the "+c.Step+" of "+c.Vhost, err)
	}
	if err != nil {
		page.Warnings = append(page.Warnings, fmt.Sprintf("the %s of %s are left out: %v", c.Step, c.Vhost, err))
	}
	if i.filter().Take(&page, &c.Count, found...) {
		return page, nil
	}
	if next, ok := c.next(vhosts, more); ok {
		page.Next = catalog.Cursor(next)
	}
	return page, nil
}

// next is where the page after this one begins; there is none at the end.
func (c cursor) next(vhosts []named, more bool) (cursor, bool) {
	if more {
		c.Page++
		return c, true
	}
	c.Page = 1
	switch c.Step {
	case stepQueues:
		c.Step = stepExchanges
		return c, true
	case stepExchanges:
		c.Step = stepTopics
		return c, true
	}
	n := slices.IndexFunc(vhosts, func(v named) bool { return c.Step == stepVhosts || v.Name > c.Vhost })
	if n < 0 {
		return c, false
	}
	c.Step, c.Vhost = stepQueues, vhosts[n].Name
	return c, true
}

func (i *integration) vhostsAndTags(vhosts []named) (found []access.Found) {
	for _, tag := range slices.Concat(plainTags, i.config.AllowTags) {
		f := access.Found{Resource: access.NewResource(typeTag, tag), Permissions: []string{member}}
		if !slices.ContainsFunc(found, func(x access.Found) bool { return x.Resource == f.Resource }) {
			found = append(found, f)
		}
	}
	for _, v := range vhosts {
		found = append(found, access.Found{Resource: access.NewResource(typeVhost, v.Name), Permissions: []string{"read", "write", "configure", "read_write", "admin"}, Tags: catalog.Tags(v.Description)})
	}
	return found
}

// names reads a page of queues or of exchanges. An exclusive queue is for the
// connection that declared it, and nobody publishes to an internal exchange.
func (i *integration) names(ctx context.Context, c cursor) (found []access.Found, more bool, err error) {
	items, more, err := i.api.page(ctx, c.Step, c.Vhost, c.Page)
	for _, x := range items {
		typ, permissions := typeQueue, []string{"consume", "manage"}
		if c.Step == stepExchanges {
			typ, permissions = typeExchange, []string{"publish", "bind_from"}
		}
		switch {
		case c.Step == stepExchanges && x.Name == "":
			x.Name, permissions = "amq.default", permissions[:1]
		case x.Internal:
			permissions = permissions[1:]
		}
		if x.Exclusive || reserved(x.Name) && !i.config.AMQResources {
			continue
		}
		found = append(found, access.Found{Resource: access.NewResource(typ, c.Vhost, x.Name), Permissions: permissions})
	}
	return found, more, err
}

// topics are the patterns in which something is bound to the topic exchanges of a
// virtual host.
func (i *integration) topics(ctx context.Context, vhost string) (found []access.Found, err error) {
	topical := map[string]bool{}
	for n, more := 1, true; more; n++ {
		var exchanges []named
		if exchanges, more, err = i.api.page(ctx, stepExchanges, vhost, n); err != nil {
			return nil, err
		}
		for _, x := range exchanges {
			topical[x.Name] = x.Type == "topic" && !x.Internal && (!reserved(x.Name) || i.config.AMQResources)
		}
	}
	bindings, err := i.api.bindings(ctx, vhost)
	if err != nil {
		return nil, err
	}
	seen := map[access.Resource]bool{}
	for _, b := range bindings {
		if !topical[b.Source] || b.Key == "" {
			continue
		}
		r := access.NewResource(typeTopic, vhost, b.Source, patternOf(topicText(b.Key)))
		if !seen[r] {
			seen[r] = true
			found = append(found, access.Found{Resource: r, Permissions: []string{"publish"}})
		}
	}
	return found, nil
}
