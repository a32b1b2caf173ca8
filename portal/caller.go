package portal

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/store"
)

// caller is who calls, and what is needed to judge what they may see and do,
// read once for each call.
type caller struct {
	access.Person
	store *store.Store
	now   time.Time

	from string // where decisions come from: api or portal

	version      int64 // of the configuration; 0 before the first
	config       config.Config
	people       []access.Person
	byID         map[string]access.Person
	integrations []store.IntegrationRow  // removed ones too
	flows        map[int64][]access.Flow // by version of the configuration
}

func (p *Portal) caller(ctx context.Context, who access.Person, from string) (*caller, error) {
	c := &caller{Person: who, from: from, store: p.opts.Store, now: p.opts.Store.Now(), byID: map[string]access.Person{}}
	var err error
	if c.version, c.config, err = p.opts.Store.Config(ctx); err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	c.flows = map[int64][]access.Flow{c.version: c.config.AccessFlows}
	if c.people, err = p.opts.Store.People(ctx); err != nil {
		return nil, err
	}
	for _, p := range c.people {
		c.byID[p.ID] = p
	}
	c.integrations, err = p.opts.Store.Integrations(ctx)
	return c, err
}

func (c *caller) administrator() bool { return c.config.Administrators.Holds(c.Person) }

// mustAdminister is the error for those who are no administrators.
func (c *caller) mustAdminister() error {
	if c.administrator() {
		return nil
	}
	return problem(http.StatusForbidden, "ask one of the administrators that the configuration names", "only an administrator may do this")
}

// owns reports whether the caller may check, discover and sweep an integration.
func (c *caller) owns(in store.IntegrationRow) bool {
	return c.administrator() || in.IntegrationOwner != nil && in.IntegrationOwner.Is(c.Person)
}

// email names a person by id; other words, such as lapse, stay what they are.
func (c *caller) email(id string) string {
	if p, ok := c.byID[id]; ok {
		return p.Email
	}
	return id
}

// integrationName names an integration by id.
func (c *caller) integrationName(id string) string {
	if in, ok := c.integrationByID(id); ok {
		return in.Name
	}
	return id
}

func (c *caller) integrationByID(id string) (in store.IntegrationRow, ok bool) {
	if i := slices.IndexFunc(c.integrations, func(r store.IntegrationRow) bool { return r.ID == id }); i >= 0 {
		return c.integrations[i], true
	}
	return in, false
}

// integration finds one that is configured now.
func (c *caller) integration(name string) (in store.IntegrationRow, ok bool) {
	i := slices.IndexFunc(c.integrations, func(r store.IntegrationRow) bool { return r.Name == name && !r.Removed })
	if i < 0 {
		return in, false
	}
	return c.integrations[i], true
}

// names of the integrations that are configured now.
func (c *caller) names() []string {
	var names []string
	for _, in := range c.integrations {
		if !in.Removed {
			names = append(names, in.Name)
		}
	}
	return names
}

// learn reads the access flows of requests, as they were when each was made.
func (c *caller) learn(ctx context.Context, rows ...store.RequestRow) error {
	var versions []int64
	for _, r := range rows {
		if _, known := c.flows[r.FlowVersion]; !known && !slices.Contains(versions, r.FlowVersion) {
			versions = append(versions, r.FlowVersion)
		}
	}
	found, err := c.store.Flows(ctx, versions)
	for _, v := range versions {
		c.flows[v] = found[v]
	}
	return err
}

// flow is the access flow of a request that was learned; one without approvers
// when it cannot be found.
func (c *caller) flow(r access.Request) access.Flow {
	flows := c.flows[r.FlowVersion]
	if i := slices.IndexFunc(flows, func(f access.Flow) bool { return f.Name == r.Flow }); i >= 0 {
		return flows[i]
	}
	return access.Flow{}
}

// requester of a request.
func (c *caller) requester(r access.Request) access.Person {
	if p, ok := c.byID[r.PersonID]; ok {
		return p
	}
	return access.Person{ID: r.PersonID, Disabled: true}
}

// may says why the caller's verdict on a request does not count; empty when it
// does.
func (c *caller) may(v access.Verdict, r access.Request) (why string) {
	return access.May(v, c.flow(r), r.Asked, c.requester(r), c.Person, c.config.Administrators)
}

// sees reports whether a request is the caller's business: the requester's,
// that of those who may decide, of administrators, and of the owners of the
// integrations.
func (c *caller) sees(r access.Request) bool {
	if r.PersonID == c.ID || c.administrator() {
		return true
	}
	for _, id := range r.Integrations() {
		if in, ok := c.integrationByID(id); ok && c.owns(in) {
			return true
		}
	}
	return c.may(access.Approve, r) == ""
}

// request reads one that the caller may see.
func (c *caller) request(ctx context.Context, id string) (store.RequestRow, error) {
	row, err := c.store.Request(ctx, id)
	if err == nil {
		err = c.learn(ctx, row)
	}
	if err == nil && !c.sees(row.Request) || errors.Is(err, store.ErrNotFound) {
		err = problem(http.StatusNotFound, "lapse requests lists those that you may see", "there is no such request, or it is not yours to see")
	}
	return row, err
}
