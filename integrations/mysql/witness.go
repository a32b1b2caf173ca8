package mysql

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/mysqldb"
	"github.com/lapse-access/lapse/internal/sqlname"
)

// witness has the server itself add up what an account has after its login, by
// SHOW GRANTS with its default roles. What a permission is about stands here a
// second time, on purpose.
// https://dev.mysql.com/doc/refman/8.4/en/show-grants.html
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

// Can looks at what the account has on the database or table.
func (w witness) Can(ctx context.Context, a access.Account, e access.Entitlement) (can bool, err error) {
	names, err := e.Resource.Names()
	if err != nil {
		return false, access.Errorf(access.Invalid, "%v", err)
	}
	if a.Name == "" {
		return false, nil // nobody has anything by being there
	}
	words := []string{"SELECT"}
	if e.Permission != "read_only" {
		words = append(words, "INSERT", "UPDATE", "DELETE")
	}
	if e.Permission == "admin" {
		words = append(words, "ALTER", "DROP", "INDEX")
		if e.Resource.Type == "database" {
			words = append(words, "CREATE")
		}
	}
	err = w.i.reading(ctx, func(ctx context.Context, s *session) error {
		me := sqlname.Principal{User: a.Name, Host: w.i.config.AccountHostPattern}
		type role struct{ User, Host string }
		var roles []role
		if !s.legacy {
			if roles, err = mysqldb.Ask[role](ctx, s.Conn, "SELECT DEFAULT_ROLE_USER, DEFAULT_ROLE_HOST FROM mysql.default_roles WHERE USER = ? AND HOST = ?", me.User, me.Host); err != nil {
				return err
			}
		}
		show, list := "SHOW GRANTS FOR ?", sqlname.List{}
		for _, r := range roles {
			can = can || (e.Resource.Type == "role" && roleName(sqlname.Principal(r)) == names[0])
			list = append(list, sqlname.Principal(r))
		}
		if e.Resource.Type == "role" {
			return nil
		}
		args := []sqlname.Fragment{me}
		if len(list) > 0 {
			show, args = "SHOW GRANTS FOR ? USING ?", append(args, list)
		}
		type line struct{ Text string }
		lines, err := mysqldb.Read[line](ctx, s.Conn, s.Statement(show, args...))
		if n := mysqldb.Number(err); n == 1141 || n == 3523 || n == 3530 {
			return nil // there is no such account, or no such role any more
		}
		if err != nil {
			return err
		}
		can = !slices.ContainsFunc(words, func(word string) bool {
			return !slices.ContainsFunc(lines, func(l line) bool { return gives(s, l.Text, word, names) })
		})
		return nil
	})
	return can, err
}

// gives reads one line: its words come before ON, and what they are on before TO.
func gives(s *session, line, word string, names []string) bool {
	words, rest, ok := strings.Cut(strings.TrimPrefix(line, "GRANT "), " ON ")
	list := strings.Split(strings.ReplaceAll(words, ", ", ","), ",")
	if !ok || !(slices.Contains(list, word) || slices.Contains(list, "ALL PRIVILEGES")) {
		return false
	}
	quoted := func(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }
	pattern := names[0]
	if !s.Info.PartialRevokes {
		pattern = strings.NewReplacer(`\`, `\\`, "_", `\_`, "%", `\%`).Replace(pattern)
	}
	on := []string{"*.*", quoted(pattern) + ".*"}
	if len(names) > 1 {
		on = append(on, quoted(names[0])+"."+quoted(names[1]))
	}
	return slices.ContainsFunc(on, func(on string) bool { return strings.HasPrefix(rest, on+" TO ") })
}

// CanLogin is no when the server refuses the login or its password.
func (w witness) CanLogin(ctx context.Context, c integrations.Credential) (bool, error) {
	err := w.i.server.Endpoint.Login(ctx, dialect, c.Username, c.Password, "")
	if access.KindOf(err) == access.Auth {
		return false, nil
	}
	return err == nil, err
}

// Exists looks for an account or role.
func (w witness) Exists(ctx context.Context, name string) (exists bool, err error) {
	err = w.i.reading(ctx, func(ctx context.Context, s *session) error {
		type row struct{ User string }
		rows, err := mysqldb.Ask[row](ctx, s.Conn, "SELECT User FROM mysql.user WHERE User = ?", name)
		exists = len(rows) > 0
		return err
	})
	return exists, err
}

// Close has nothing to release: connections live as long as one look.
func (w witness) Close() error { return nil }

// Open logs in and stays, for as long as an operation may last.
func (w sessionWitness) Open(ctx context.Context, c integrations.Credential) (integrations.Session, error) {
	conn, err := w.i.server.Endpoint.Open(ctx, dialect, c.Username, c.Password)
	if err != nil {
		return nil, err
	}
	return &openSession{conn: conn}, nil
}

// openSession may be asked and closed at the same time.
type openSession struct {
	mu   sync.Mutex
	conn *mysqldb.Conn
}

// Alive asks the server for something.
func (s *openSession) Alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	type row struct{ One int }
	_, err := mysqldb.Ask[row](ctx, s.conn, "SELECT 1")
	return err == nil
}

func (s *openSession) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn.Close()
	return nil
}
