package mysqldb

import (
	"context"
	"fmt"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/catalog"
)

// cursor is where discovery goes on: among the roles, then database by database,
// each with its tables.
type cursor struct {
	Step     string `json:"step"`
	Database string `json:"database,omitempty"` // the last one that was begun
	After    string `json:"after,omitempty"`    // the last role or table; "" when the database is done
	Count    int    `json:"count"`              // of the resources before
}

const (
	stepRoles     = "roles"
	stepDatabases = "databases"
)

// Discover reads the roles, and then the databases with their tables, page by
// page; what the connector cannot give with its grants is left out. The function
// reads a page of the roles that can be given, after a name; next is "" at the
// end.
func (c *Conn) Discover(ctx context.Context, from string, filter catalog.Filter, g Grants,
	roles func(ctx context.Context, after string) (found []access.Found, next string, err error)) (page access.Page, err error) {
	at := cursor{Step: stepRoles}
	if from != "" {
		if err := catalog.ReadCursor(from, &at); err != nil {
			return page, err
		}
	}
	var found []access.Found
	switch at.Step {
	case stepRoles:
		if found, at.After, err = roles(ctx, at.After); err != nil {
			return page, err
		}
		if at.After == "" {
			at.Step = stepDatabases
		}
	case stepDatabases:
		if found, page.Warnings, err = c.discoverDatabases(ctx, g, &at); err != nil {
			return page, err
		}
	default:
		return page, catalog.BadCursor(from)
	}
	if full := filter.Take(&page, &at.Count, found...); !full && at.Step != "" {
		page.Next = catalog.Cursor(at)
	}
	return page, nil
}

// discoverDatabases goes on from database to database until there is enough for
// a page. The step is "" after the last one.
func (c *Conn) discoverDatabases(ctx context.Context, g Grants, at *cursor) (found []access.Found, warnings []string, err error) {
	databases, err := c.Databases(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range databases {
		if name < at.Database || (name == at.Database && at.After == "") {
			continue
		}
		if name > at.Database {
			at.Database, at.After = name, ""
			r := access.NewResource(TypeDatabase, name)
			found = append(found, access.Found{Resource: r, Permissions: c.Offers(g, r)})
		}
		for {
			tables, full, err := c.Tables(ctx, name, at.After)
			if err != nil && ctx.Err() != nil {
				return nil, nil, err
			}
			if err != nil {
				warnings = append(warnings, fmt.Sprintf("database %s is left out: %v", name, err))
			}
			for _, t := range tables {
				r := access.NewResource(TypeTable, name, t.Name)
				found = append(found, access.Found{Resource: r, Permissions: c.Offers(g, r), Tags: catalog.Tags(t.Comment)})
			}
			if at.After = ""; full {
				at.After = tables[len(tables)-1].Name
			}
			if len(found) >= pageSize {
				return found, warnings, nil
			}
			if !full {
				break
			}
		}
	}
	at.Step = ""
	return found, warnings, nil
}
