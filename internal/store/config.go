package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/config"
)

// IntegrationRow is an integration under its id.
type IntegrationRow struct {
	// ID is minted once for a name and kind.
	ID string
	config.Integration
	// Removed is true while the configuration does not have it.
	Removed bool
	// Removal is that of the integration; nil where nobody removes it.
	Removal *access.Removal
}

// SaveConfig is a configuration to store.
type SaveConfig struct {
	Source []byte // the file as it was applied
	Config config.Config
	By     string // person id, or lapse
	Event  access.Event
}

// SaveConfig stores a new version of the configuration and brings people and
// integrations in line with it. People and integrations that are new get an
// id; those that are not there any more keep theirs and are disabled or
// marked as removed. Somebody whose main address became an alias keeps the id
// too. Without a key, the event gets one with the version. A configuration
// that is the newest already changes nothing. It is refused with ErrMoved while
// the one in force wants two persons: then DecideProposal is the only way.
func (s *Store) SaveConfig(ctx context.Context, c SaveConfig) (version int64, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		version, err = s.saveConfig(ctx, tx, c, false)
		return err
	})
	return version, err
}

func (s *Store) saveConfig(ctx context.Context, tx *sql.Tx, c SaveConfig, approved bool) (version int64, err error) {
	body, err := json.Marshal(c.Config)
	if err != nil {
		return 0, err
	}
	var source, newest string
	var before config.Config
	err = tx.QueryRowContext(ctx, `select version, source, config from configs order by version desc limit 1`).Scan(&version, &source, &newest)
	if err == nil {
		err = json.Unmarshal([]byte(newest), &before)
	}
	switch {
	case err == nil && source == string(c.Source) && newest == string(body):
		return version, nil
	case err != nil && !errors.Is(err, sql.ErrNoRows):
		return version, err
	case before.TwoPersonChanges && !approved:
		return version, fmt.Errorf("it wants two persons: %w", ErrMoved)
	}
	version++
	now := s.Now()
	_, err = tx.ExecContext(ctx, `insert into configs (version, saved_at, saved_by, source, config) values ($1, $2, $3, $4, $5)`,
		version, asTime{&now}, c.By, string(c.Source), string(body))
	if err != nil {
		return version, err
	}
	if err := savePeople(ctx, tx, c.Config.People); err != nil {
		return version, err
	}
	if err := saveIntegrations(ctx, tx, c.Config.Integrations); err != nil {
		return version, err
	}
	if c.Event.Key == "" {
		c.Event.Key = fmt.Sprintf("config/%d", version)
	}
	if _, err = s.appendEvent(ctx, tx, c.Event); err != nil {
		return version, err
	}
	return version, s.outdate(ctx, tx, version, c.By)
}

// inForce is the version of the configuration in force, 0 before the first.
func inForce(ctx context.Context, q querier) (version int64, err error) {
	err = q.QueryRowContext(ctx, `select coalesce(max(version), 0) from configs`).Scan(&version)
	return version, err
}

func savePeople(ctx context.Context, tx *sql.Tx, want []config.Person) error {
	have, err := people(ctx, tx)
	if err != nil {
		return err
	}
	byEmail := map[string]access.Person{}
	for _, p := range have {
		byEmail[p.Email] = p
	}
	main := map[string]bool{}
	for _, p := range want {
		main[access.NormalEmail(p.Email)] = true
	}
	if _, err := tx.ExecContext(ctx, `delete from addresses`); err != nil {
		return err
	}
	for _, w := range want {
		old, ok := byEmail[access.NormalEmail(w.Email)]
		for i := 0; !ok && i < len(w.Aliases); i++ {
			if alias := access.NormalEmail(w.Aliases[i]); !main[alias] {
				old, ok = byEmail[alias]
			}
		}
		delete(byEmail, old.Email)
		if !ok {
			old.ID = access.NewID("per")
		}
		p := w.WithID(old.ID)
		p.Email = access.NormalEmail(p.Email)
		if !reflect.DeepEqual(p, old) {
			_, err := tx.ExecContext(ctx, `insert into people (id, email, person) values ($1, $2, $3)
				on conflict (id) do update set email = excluded.email, person = excluded.person`, p.ID, p.Email, asJSON{p})
			if err != nil {
				return err
			}
		}
		if ok && p.Attributes["manager"] != old.Attributes["manager"] {
			if err := indexAnew(ctx, tx, p.ID); err != nil {
				return err
			}
		}
		for _, address := range append([]string{p.Email}, p.Aliases...) {
			_, err := tx.ExecContext(ctx, `insert into addresses (address, person_id) values ($1, $2) on conflict do nothing`, access.NormalEmail(address), p.ID)
			if err != nil {
				return err
			}
		}
	}
	for _, p := range byEmail { // nobody in the file is one of these
		p.Disabled = true
		if _, err := tx.ExecContext(ctx, `update people set person = $1 where id = $2`, asJSON{p}, p.ID); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `insert into addresses (address, person_id) values ($1, $2) on conflict do nothing`, p.Email, p.ID)
		if err != nil {
			return err
		}
	}
	return nil
}

func saveIntegrations(ctx context.Context, tx *sql.Tx, want []config.Integration) error {
	if _, err := tx.ExecContext(ctx, `update integrations set removed = true`); err != nil {
		return err
	}
	for _, w := range want {
		_, err := tx.ExecContext(ctx, `insert into integrations (id, name, kind, spec, removed) values ($1, $2, $3, $4, false)
			on conflict (name, kind) do update set spec = excluded.spec, removed = false`, access.NewID("int"), w.Name, w.Kind, asJSON{w})
		if err != nil {
			return err
		}
	}
	return nil
}

// Config reads the newest configuration. It is ErrNotFound before the first.
func (s *Store) Config(ctx context.Context) (version int64, c config.Config, err error) {
	err = s.readers.QueryRowContext(ctx, `select version, config from configs order by version desc limit 1`).Scan(&version, asJSON{&c})
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("configuration: %w: apply one with lapse apply -f lapse.yaml", ErrNotFound)
	}
	return version, c, err
}

// ConfigAt reads one version of the configuration.
func (s *Store) ConfigAt(ctx context.Context, version int64) (config.Config, error) {
	return one(ctx, s.readers, fmt.Sprintf("configuration %d", version), func(row scanner) (c config.Config, err error) {
		err = row.Scan(asJSON{&c})
		return c, err
	}, `select config from configs where version = $1`, version)
}

// People lists everybody who was ever in the directory, by e-mail address.
func (s *Store) People(ctx context.Context) ([]access.Person, error) {
	return people(ctx, s.readers)
}

func people(ctx context.Context, q querier) ([]access.Person, error) {
	return all(ctx, q, scanPerson, `select person from people order by email`)
}

// directory is the people of a version of the configuration.
type directory struct {
	version int64
	people  *access.Directory
}

// Directory is everybody who was ever in the directory. People change with the
// configuration only, so they are read again once that did.
func (s *Store) Directory(ctx context.Context) (*access.Directory, error) {
	version, err := inForce(ctx, s.readers)
	if err != nil {
		return nil, err
	}
	return s.DirectoryAt(ctx, version)
}

// DirectoryAt is Directory for who knows the version of the configuration that is
// in force.
func (s *Store) DirectoryAt(ctx context.Context, version int64) (*access.Directory, error) {
	if d := s.directory.Load(); d != nil && d.version == version {
		return d.people, nil
	}
	list, err := s.People(ctx)
	if err != nil {
		return nil, err
	}
	d := &directory{version: version, people: access.NewDirectory(list)}
	s.directory.Store(d)
	return d.people, nil
}

// Owes are the ids of what the one whose access it is took at once before, under
// any entry of the directory, and whose review is overdue. Only who breaks the
// glass is asked for that.
func (s *Store) Owes(ctx context.Context, m access.Matter) (ids []string, err error) {
	if m.Flow.Trigger != access.BreakGlass {
		return nil, nil
	}
	for _, person := range m.Directory.Entries(m.Request.PersonID) {
		rows, err := s.Requests(ctx, RequestFilter{Person: person, Review: access.ReviewDue, Limit: 1000})
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			if r.ID != m.Request.ID && r.ExpiresAt.Before(s.Now()) {
				ids = append(ids, r.ID)
			}
		}
	}
	return ids, nil
}

// Person reads a person.
func (s *Store) Person(ctx context.Context, id string) (access.Person, error) {
	return one(ctx, s.readers, "person "+id, scanPerson, `select person from people where id = $1`, id)
}

// PersonByEmail finds a person by the main address or an alias.
func (s *Store) PersonByEmail(ctx context.Context, email string) (access.Person, error) {
	return one(ctx, s.readers, "person "+email, scanPerson,
		`select p.person from addresses a join people p on p.id = a.person_id where a.address = $1`, access.NormalEmail(email))
}

func scanPerson(row scanner) (p access.Person, err error) {
	err = row.Scan(asJSON{&p})
	return p, err
}

const selectIntegration = `select id, spec, removed, removal from integrations`

// Integrations lists every integration that was ever configured, by name.
func (s *Store) Integrations(ctx context.Context) ([]IntegrationRow, error) {
	return all(ctx, s.readers, scanIntegration, selectIntegration+` order by name, kind`)
}

// Integration reads an integration.
func (s *Store) Integration(ctx context.Context, id string) (IntegrationRow, error) {
	return integration(ctx, s.readers, id)
}

func integration(ctx context.Context, q querier, id string) (IntegrationRow, error) {
	return one(ctx, q, "integration "+id, scanIntegration, selectIntegration+` where id = $1`, id)
}

// IntegrationByName finds the integration that has a name, or had it before the
// configuration left it out. One that was forgotten has none.
func (s *Store) IntegrationByName(ctx context.Context, name string) (IntegrationRow, error) {
	return one(ctx, s.readers, "integration "+name, scanIntegration, selectIntegration+` where name = $1 order by removed, kind limit 1`, name)
}

func scanIntegration(row scanner) (i IntegrationRow, err error) {
	err = row.Scan(&i.ID, asJSON{&i.Integration}, &i.Removed, asJSON{&i.Removal})
	return i, err
}
