package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lapse-access/lapse/access"
)

// ResourceRow is a resource of the catalog.
type ResourceRow struct {
	Integration string // id
	access.Found
}

// Key names the row, for ResourceFilter.After.
func (r ResourceRow) Key() string { return r.Integration + "/" + r.Resource.String() }

// PutResources adds what a run of discovery found, or refreshes it.
func (s *Store) PutResources(ctx context.Context, integrationID, run string, found []access.Found) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		for _, f := range found {
			_, err := tx.ExecContext(ctx, `insert into resources (integration, type, path, permissions, tags, note, run, gone) values ($1, $2, $3, $4, $5, $6, $7, false)
				on conflict (integration, type, path) do update set permissions = excluded.permissions, tags = excluded.tags, note = excluded.note, run = excluded.run, gone = false`,
				integrationID, f.Resource.Type, f.Resource.Path, asJSON{f.Permissions}, asJSON{f.Tags}, f.Note, run)
			if err != nil {
				return fmt.Errorf("resource %s: %w", f.Resource, err)
			}
		}
		return nil
	})
}

// FinishDiscovery ends a run: what it did not find is gone from the catalog.
func (s *Store) FinishDiscovery(ctx context.Context, integrationID, run string) error {
	_, err := s.writer.ExecContext(ctx, `update resources set gone = true where integration = $1 and run <> $2`, integrationID, run)
	return err
}

// ResourceFilter selects resources; empty fields select all.
type ResourceFilter struct {
	Integration string // id
	Type        string
	Query       string // part of the path
	After       string // key of the last row of the page before
	Limit       int    // 100 when 0, at most 1000
}

// Resources lists the catalog by integration, type and path.
func (s *Store) Resources(ctx context.Context, f ResourceFilter) ([]ResourceRow, error) {
	var w where
	if f.Integration != "" {
		w.and(`integration = ?`, f.Integration)
	}
	if f.Type != "" {
		w.and(`type = ?`, f.Type)
	}
	if f.Query != "" {
		w.and(`lower(path) like lower(?) escape '\'`, "%"+likeEscaper.Replace(f.Query)+"%")
	}
	if f.After != "" {
		integration, resource, _ := strings.Cut(f.After, "/")
		typ, path, _ := strings.Cut(resource, ":")
		w.and(`(integration, type, path) > (?, ?, ?)`, integration, typ, path)
	}
	return all(ctx, s.readers, scanResource, selectResource+` where not gone`+w.sql+
		fmt.Sprintf(` order by integration, type, path limit %d`, pageSize(f.Limit)), w.args...)
}

var likeEscaper = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

// Resource reads a resource of the catalog. It is ErrNotFound when the last
// discovery did not find it.
func (s *Store) Resource(ctx context.Context, integrationID string, r access.Resource) (access.Found, error) {
	row, err := one(ctx, s.readers, "resource "+r.String(), scanResource,
		selectResource+` where integration = $1 and type = $2 and path = $3 and not gone`, integrationID, r.Type, r.Path)
	return row.Found, err
}

const selectResource = `select integration, type, path, permissions, tags, note from resources`

func scanResource(row scanner) (r ResourceRow, err error) {
	err = row.Scan(&r.Integration, &r.Resource.Type, &r.Resource.Path, asJSON{&r.Permissions}, asJSON{&r.Tags}, &r.Note)
	return r, err
}

// PutFindings replaces what the sweep before found on an integration. Run names
// the sweep.
func (s *Store) PutFindings(ctx context.Context, integrationID, run string, findings []access.Finding) error {
	_, err := s.writer.ExecContext(ctx, `insert into findings (integration, run, findings) values ($1, $2, $3)
		on conflict (integration) do update set run = excluded.run, findings = excluded.findings`, integrationID, run, asJSON{findings})
	return err
}

// Findings reads what the newest sweep of an integration found; nothing, and no
// run, before the first.
func (s *Store) Findings(ctx context.Context, integrationID string) (run string, findings []access.Finding, err error) {
	err = s.readers.QueryRowContext(ctx, `select run, findings from findings where integration = $1`, integrationID).Scan(&run, asJSON{&findings})
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return run, findings, err
}

// Swept is what the newest sweep of an integration found.
type Swept struct {
	At       time.Time
	Findings []access.Finding
}

// Sweeps reads what the newest sweep of each integration found, by its id.
func (s *Store) Sweeps(ctx context.Context) (map[string]Swept, error) {
	swept := map[string]Swept{}
	_, err := all(ctx, s.readers, func(row scanner) (v Swept, err error) {
		var integration, run string
		if err = row.Scan(&integration, &run, asJSON{&v.Findings}); err == nil {
			v.At, err = time.Parse(time.RFC3339Nano, run)
		}
		swept[integration] = v
		return v, err
	}, `select integration, run, findings from findings`)
	return swept, err
}
