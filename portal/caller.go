package portal

import (
	"context"
	"crypto/ed25519"
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
	key   ed25519.PublicKey // under which decisions are signed
	now   time.Time

	from string // where decisions come from: api or portal

	version      int64 // of the configuration; 0 before the first
	config       config.Config
	directory    *access.Directory
	integrations []store.IntegrationRow       // removed ones too
	flows        map[int64][]access.Flow      // by version of the configuration
	decisions    map[string][]access.Decision // by request, of those that wait for one
}

func (p *Portal) caller(ctx context.Context, who access.Person, from string) (*caller, error) {
	c := &caller{Person: who, from: from, store: p.opts.Store, key: p.opts.Keys.PortalKey.Public().(ed25519.PublicKey), now: p.opts.Store.Now()}
	var err error
	if c.version, c.config, err = p.opts.Store.Config(ctx); err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	c.flows = map[int64][]access.Flow{c.version: c.config.AccessFlows}
	if c.directory, err = p.opts.Store.DirectoryAt(ctx, c.version); err != nil {
		return nil, err
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
	if p, ok := c.directory.Person(id); ok {
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

// learn reads the access flows of requests, as they were when each was made, and
// the decisions on those that wait for more of them.
func (c *caller) learn(ctx context.Context, rows ...store.RequestRow) error {
	var versions []int64
	for _, r := range rows {
		if _, known := c.flows[r.FlowVersion]; !known && !slices.Contains(versions, r.FlowVersion) {
			versions = append(versions, r.FlowVersion)
		}
	}
	found, err := c.store.Flows(ctx, versions)
	if err != nil {
		return err
	}
	for _, v := range versions {
		c.flows[v] = found[v]
	}
	var wait []string
	for _, r := range rows {
		if r.State == access.StatePending || r.Review == access.ReviewDue {
			wait = append(wait, r.ID)
		}
	}
	c.decisions, err = c.store.DecisionsOn(ctx, wait)
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

// matter is a request that was learned, with all that the rules look at.
func (c *caller) matter(row store.RequestRow) access.Matter {
	m := access.Matter{Flow: c.flow(row.Request), Request: row.Request, State: row.State, Directory: c.directory, Administrators: c.config.Administrators, Now: c.now}
	for _, d := range c.decisions[row.ID] {
		if d.Verify(c.key, row.Request) == nil {
			m.Decisions = append(m.Decisions, d)
		}
	}
	return m
}

// matterNow is the matter of a request with all that was decided on it so far.
func (c *caller) matterNow(ctx context.Context, row store.RequestRow) (m access.Matter, err error) {
	if c.decisions, err = c.store.DecisionsOn(ctx, []string{row.ID}); err != nil {
		return m, err
	}
	m = c.matter(row)
	m.Owes, err = c.store.Owes(ctx, m)
	return m, err
}

// may reports whether the caller's verdict on a request would count.
func (c *caller) may(v access.Verdict, m access.Matter) bool {
	return m.May(access.Decision{Verdict: v, By: c.ID, ByEmail: c.Email, At: c.now, Reason: "to be said"}) == ""
}

// waits reports whether a request waits for the caller, to decide or to review.
func (c *caller) waits(row store.RequestRow) bool {
	switch m := c.matter(row); {
	case row.State == access.StatePending:
		return c.may(access.Approve, m)
	case row.Review == access.ReviewDue:
		return c.may(access.Justify, m)
	}
	return false
}

// sees reports whether a request is the caller's business: the requester's,
// that of those who may come to decide, of administrators, and of the owners of
// the integrations.
func (c *caller) sees(r access.Request) bool {
	if c.administrator() {
		return true
	}
	for _, id := range r.Integrations() {
		if in, ok := c.integrationByID(id); ok && c.owns(in) {
			return true
		}
	}
	return c.matter(store.RequestRow{Request: r}).Sees(c.Person)
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
