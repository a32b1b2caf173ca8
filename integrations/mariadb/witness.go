package mariadb

import (
	"context"
	_ "embed" // the statement in sql/
	"slices"
	"strings"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/mysqldb"
)

//go:embed sql/witness.sql
var witnessSQL string

// witness reads the server's own tables of rights, with the connector's login.
// What a permission is about stands here a second time, on purpose.
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

// Can looks at what the account has once it has logged in: by itself, by its
// default role, or as everybody.
func (w witness) Can(ctx context.Context, a access.Account, e access.Entitlement) (can bool, err error) {
	names, err := e.Resource.Names()
	if err != nil {
		return false, access.Errorf(access.Invalid, "%v", err)
	}
	words := []string{"Select"}
	if e.Permission != "read_only" {
		words = append(words, "Insert", "Update", "Delete")
	}
	if e.Permission == "admin" {
		words = append(words, "Alter", "Drop", "Index")
		if e.Resource.Type == "database" {
			words = append(words, "Create")
		}
	}
	err = w.i.reading(ctx, func(ctx context.Context, o *operation) error {
		type seen struct{ Kind, Name, Words string }
		rows, err := mysqldb.Ask[seen](ctx, o.Conn, witnessSQL, a.Name, a.Name, a.Name, names[0], a.Name, names[0])
		if err != nil {
			return err
		}
		if e.Resource.Type == "role" {
			can = slices.Contains(rows, seen{"role", names[0], ""})
			return nil
		}
		tables, err := w.tables(ctx, o.Conn, names)
		if err != nil {
			return err
		}
		has := map[string]bool{} // a word on the whole, or the name of a table and a word
		for _, r := range rows {
			for _, word := range strings.Split(r.Words, ",") {
				has[r.Name+" "+word] = r.Kind != "role"
			}
		}
		can = true
		for _, word := range words {
			some := len(tables) > 0 && word != "Create"
			for _, table := range tables {
				some = some && has[table+" "+word]
			}
			can = can && (some || has[" "+word])
		}
		return nil
	})
	return can, err
}

// tables are those of the resource, a database or one table.
func (w witness) tables(ctx context.Context, c *mysqldb.Conn, names []string) (tables []string, err error) {
	type row struct{ Name string }
	rows, err := mysqldb.Ask[row](ctx, c, "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = ?", names[0])
	for _, r := range rows {
		if len(names) == 1 || r.Name == names[1] {
			tables = append(tables, r.Name)
		}
	}
	if err == nil && len(tables) == 0 {
		err = access.Errorf(access.ResourceMissing, "%s has no table to look at", strings.Join(names, "."))
	}
	return tables, err
}

// CanLogin is no when the server refuses the password.
func (w witness) CanLogin(ctx context.Context, cred integrations.Credential) (bool, error) {
	err := w.i.server.Endpoint.Login(ctx, dialect, cred.Username, cred.Password, "")
	if access.KindOf(err) == access.Auth {
		return false, nil
	}
	return err == nil, err
}

// Exists looks for an account or role.
func (w witness) Exists(ctx context.Context, name string) (exists bool, err error) {
	err = w.i.reading(ctx, func(ctx context.Context, o *operation) error {
		type row struct{ User string }
		rows, err := mysqldb.Ask[row](ctx, o.Conn, "SELECT User FROM mysql.global_priv WHERE User = ?", name)
		exists = len(rows) > 0
		return err
	})
	return exists, err
}

// Close has nothing to release: connections live as long as one look.
func (w witness) Close() error { return nil }

// Open logs in and stays, for as long as an operation may last.
func (w sessionWitness) Open(ctx context.Context, cred integrations.Credential) (integrations.Session, error) {
	c, err := w.i.server.Endpoint.Open(ctx, dialect, cred.Username, cred.Password)
	if err != nil {
		return nil, err
	}
	return openSession{c}, nil
}

type openSession struct{ *mysqldb.Conn }

// Alive asks the server for something.
func (s openSession) Alive() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	type row struct{ One int }
	_, err := mysqldb.Ask[row](ctx, s.Conn, "SELECT 1")
	return err == nil
}

func (s openSession) Close() error {
	s.Conn.Close()
	return nil
}
