package postgresql

import (
	"context"
	_ "embed" // the statement in sql/
	"slices"
	"sync"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

//go:embed sql/witness.sql
var witnessSQL string

// witness asks the server's own privilege functions, with the connector's
// login. What a permission is about stands here a second time, on purpose.
type witness struct{ i *integration }

// sessionWitness looks at a server on which every revoke ends sessions.
type sessionWitness struct{ witness }

// newWitness makes a witness. It does not connect.
func newWitness(t integrations.Target) (integrations.Witness, error) {
	made, err := New(t)
	if err != nil {
		return nil, err
	}
	w := witness{made.(*integration)}
	if w.i.config.TerminateSessions == "always" {
		return sessionWitness{w}, nil
	}
	return w, nil
}

// Can looks at every table of the resource.
func (w witness) Can(ctx context.Context, a access.Account, e access.Entitlement) (bool, error) {
	names, err := e.Resource.Names()
	if err != nil {
		return false, access.Errorf(access.Invalid, "%v", err)
	}
	open := w.i.open // the maintenance database
	if e.Resource.Type != "role" {
		open = func(ctx context.Context) (*conn, error) {
			return w.i.endpoint.open(ctx, w.i.secret.Username, w.i.secret.Password, names[0])
		}
	}
	c, err := open(ctx)
	if err != nil {
		return false, err
	}
	defer c.close()
	role := int64(0) // PUBLIC
	if a.Name != "" {
		found, err := ask[only[int64]](ctx, c, "SELECT oid::int8 FROM pg_roles WHERE rolname = $1::text", a.Name)
		if err != nil || len(found) == 0 {
			return false, err
		}
		role = found[0].Value
	}
	if e.Resource.Type == "role" {
		// PUBLIC is a member of nothing.
		rows, err := ask[only[bool]](ctx, c, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $2::text AND $1::int8 <> 0 AND pg_has_role($1::int8::oid, oid, 'USAGE'))", role, names[0])
		return err == nil && rows[0].Value, err
	}
	schema, table := []string{"USAGE"}, []string{"SELECT"}
	if e.Permission != "read_only" {
		table = append(table, "INSERT", "UPDATE", "DELETE")
	}
	if e.Permission == "admin" {
		table = append(table, "TRUNCATE", "REFERENCES", "TRIGGER")
		if e.Resource.Type != "table" {
			schema = append(schema, "CREATE")
		}
	}
	within := slices.Concat(names[1:], []string{"", ""})
	type seen struct {
		Tables int32
		Can    bool
	}
	rows, err := ask[seen](ctx, c, witnessSQL, role, null(within[0]), null(within[1]), schema, table)
	if err == nil && rows[0].Tables == 0 {
		err = access.Errorf(access.ResourceMissing, "%s has no table to look at", e.Resource)
	}
	return err == nil && rows[0].Can, err
}

// CanLogin is no when the server refuses the login or its password. For the right
// to connect to the database it asks only after it took both.
func (w witness) CanLogin(ctx context.Context, cred integrations.Credential) (bool, error) {
	c, err := w.login(ctx, cred)
	switch access.KindOf(err) {
	case "":
		c.close()
		return true, nil
	case access.Privilege:
		return true, nil
	case access.Auth:
		return false, nil
	}
	return false, err
}

func (w witness) login(ctx context.Context, c integrations.Credential) (*conn, error) {
	return w.i.endpoint.open(ctx, c.Username, c.Password, c.Details["database"])
}

// Exists looks for a role.
func (w witness) Exists(ctx context.Context, name string) (bool, error) {
	c, err := w.i.open(ctx)
	if err != nil {
		return false, err
	}
	defer c.close()
	rows, err := ask[only[bool]](ctx, c, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1::text)", name)
	return err == nil && rows[0].Value, err
}

// Close has nothing to release: connections live as long as one look.
func (w witness) Close() error { return nil }

// Open logs in and stays, for as long as an operation may last.
func (w sessionWitness) Open(ctx context.Context, cred integrations.Credential) (integrations.Session, error) {
	c, err := w.login(ctx, cred)
	if err != nil {
		return nil, err
	}
	return &openSession{conn: c}, nil
}

// openSession may be asked and closed at the same time.
type openSession struct {
	mu   sync.Mutex
	conn *conn
}

// Alive asks the server for something.
func (s *openSession) Alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := ask[only[int32]](ctx, s.conn, "SELECT 1")
	return err == nil
}

func (s *openSession) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn.close()
	return nil
}
