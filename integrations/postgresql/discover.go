package postgresql

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/catalog"
)

// pageSize bounds what one page reads of roles and tables.
const pageSize = 500

// cursor is where discovery goes on: among the roles, then database by
// database, each with its schemas and then its tables.
type cursor struct {
	Step     string    `json:"step"`
	Database string    `json:"database,omitempty"`
	After    [2]string `json:"after"` // role, or schema and table
	Count    int       `json:"count"` // of the resources before
}

const (
	stepRoles   = "roles"
	stepSchemas = "schemas"
	stepTables  = "tables"
)

func readCursor(s string) (c cursor, err error) {
	if s == "" {
		return cursor{Step: stepRoles}, nil
	}
	if err := catalog.ReadCursor(s, &c); err != nil {
		return c, err
	}
	if !slices.Contains([]string{stepRoles, stepSchemas, stepTables}, c.Step) {
		return c, catalog.BadCursor(s)
	}
	return c, nil
}

func (s *session) discover(ctx context.Context, c cursor) (page access.Page, err error) {
	var found []access.Found
	next := c
	if c.Step == stepRoles {
		found, next.After, err = s.discoverRoles(ctx, c.After[0])
	} else {
		found, next.After, err = s.discoverIn(ctx, c)
	}
	if err != nil && (c.Step == stepRoles || ctx.Err() != nil) {
		return page, err
	}
	if err != nil {
		page.Warnings = append(page.Warnings, fmt.Sprintf("database %s is left out: %v", c.Database, err))
	}
	if s.i.filter().Take(&page, &next.Count, found...) {
		return page, nil
	}
	if next.After == ([2]string{}) {
		if c.Step == stepSchemas && err == nil {
			next.Step = stepTables
		} else if next.Step, next.Database, err = s.nextDatabase(ctx, c); err != nil || next.Step == "" {
			return page, err
		}
	}
	page.Next = catalog.Cursor(next)
	return page, nil
}

// nextDatabase is the first database after the cursor's; the step is empty when
// there is none.
func (s *session) nextDatabase(ctx context.Context, c cursor) (step, name string, err error) {
	rows, err := ask[databaseRow](ctx, s.conn, databasesSQL)
	if err != nil {
		return "", "", during("reading the databases", err)
	}
	for _, d := range rows {
		if c.Step == stepRoles || d.Name > c.Database {
			return stepSchemas, d.Name, nil
		}
	}
	return "", "", nil
}

// discoverRoles reads a page of the customer's roles; after is where the next
// one begins, empty at the end.
func (s *session) discoverRoles(ctx context.Context, from string) (found []access.Found, after [2]string, err error) {
	rows, err := ask[roleRow](ctx, s.conn, roleSQL, nil, dangerous, from, pageSize)
	if err != nil {
		return nil, after, during("reading the roles", err)
	}
	for _, r := range rows {
		if r.Mine && s.i.refuses(r) == nil {
			found = append(found, access.Found{
				Resource: access.NewResource(typeRole, r.Name), Permissions: []string{member}, Tags: catalog.Tags(r.Comment)})
		}
	}
	if len(rows) == pageSize {
		after[0] = rows[len(rows)-1].Name
	}
	return found, after, nil
}

func (s *session) discoverIn(ctx context.Context, c cursor) (found []access.Found, after [2]string, err error) {
	db, err := s.database(ctx, c.Database)
	if err != nil {
		return nil, after, err
	}
	levels := s.levelsJSON()
	if c.Step == stepSchemas {
		rows, err := ask[schemaRow](ctx, db, schemasSQL, levels)
		if err != nil {
			return nil, after, during("reading the schemas", err)
		}
		for _, r := range rows {
			resource := access.NewResource(typeDatabase, c.Database)
			if r.Name != "" {
				resource = access.NewResource(typeSchema, c.Database, r.Name)
			}
			found = append(found, access.Found{Resource: resource, Permissions: r.Permissions, Tags: catalog.Tags(r.Comment)})
		}
		return found, after, nil
	}
	rows, err := ask[tableRow](ctx, db, tablesSQL, levels, c.After[0], c.After[1], pageSize)
	if err != nil {
		return nil, after, during("reading the tables", err)
	}
	for _, r := range rows {
		found = append(found, access.Found{
			Resource: access.NewResource(typeTable, c.Database, r.Schema, r.Name), Permissions: r.Permissions, Tags: catalog.Tags(r.Comment)})
	}
	if len(rows) == pageSize {
		after = [2]string{rows[pageSize-1].Schema, rows[pageSize-1].Name}
	}
	return found, after, nil
}

// levelsJSON is the permissions and their privileges on this version, as the
// queries take them.
func (s *session) levelsJSON() string {
	type level struct {
		Rank     int      `json:"rank"`
		Name     string   `json:"name"`
		Database []string `json:"database"`
		Schema   []string `json:"schema"`
		Table    []string `json:"table"`
		Sequence []string `json:"sequence"`
		Routine  []string `json:"routine"`
	}
	var all []level
	for rank, name := range []string{readOnly, readWrite, admin} {
		t := target{Entitlement: access.Entitlement{Resource: access.Resource{Type: typeDatabase}, Permission: name}}
		p := t.wants(s.server.Version)
		all = append(all, level{rank, name, p.database, p.schema, p.table, p.sequence, nonNil(p.routine)})
	}
	text, _ := json.Marshal(all) // strings cannot fail
	return string(text)
}

func (i *integration) filter() catalog.Filter {
	return catalog.Filter{Include: i.config.Include, Exclude: i.config.Exclude, Max: i.config.MaxResources}
}

// refuses says why a role cannot be requested: it is Lapse's own, it is
// somebody's login, or a member would come by powers over the whole server.
func (i *integration) refuses(r roleRow) error {
	if strings.HasPrefix(r.Comment, markPrefix) {
		return access.Errorf(access.Invalid, "role %s is Lapse's own", r.Name)
	}
	if slices.Contains(i.config.AllowRoles, r.Name) {
		return nil
	}
	remedy := fmt.Sprintf("list it in allow_roles if it shall be requested all the same: allow_roles: [%q]", r.Name)
	if r.CanLogin {
		return access.Errorf(access.Invalid, "role %s is a login", r.Name).WithRemedy("%s", remedy)
	}
	if len(r.Powers) > 0 {
		return access.Errorf(access.Invalid, "role %s gives powers over the whole server (%s)", r.Name, strings.Join(r.Powers, ", ")).WithRemedy("%s", remedy)
	}
	return nil
}
