// Package storetest puts a driver between the store and SQLite, in every test
// that imports it. It counts the steps that are made under a context, and cuts
// the one that is asked for: before its effect, or after it, when the answer is
// lost.
package storetest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync"

	"github.com/lapse-access/lapse/internal/store"
)

// ErrCut is the error of a step that was cut.
var ErrCut = errors.New("storetest: cut")

// Steps counts what is done under its context.
type Steps struct {
	mu    sync.Mutex
	count int
	cut   int // the step that is cut; 0 is none
	after bool
}

type key struct{}

// Count counts the steps that are made under the context that it returns.
func Count(ctx context.Context) (context.Context, *Steps) {
	s := &Steps{}
	return context.WithValue(ctx, key{}, s), s
}

// Cut cuts one step, counted from 1, before or after its effect.
func Cut(ctx context.Context, step int, after bool) (context.Context, *Steps) {
	ctx, s := Count(ctx)
	s.cut, s.after = step, after
	return ctx, s
}

// Made is how many steps were begun.
func (s *Steps) Made() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// Do makes one step under a context. Other fakes than the store's driver call it
// to be counted and cut too.
func Do(ctx context.Context, effect func() error) error {
	s, ok := ctx.Value(key{}).(*Steps)
	if !ok {
		return effect()
	}
	s.mu.Lock()
	s.count++
	cut := s.count == s.cut
	s.mu.Unlock()
	if cut && !s.after {
		return ErrCut
	}
	if err := effect(); err != nil || !cut {
		return err
	}
	return ErrCut
}

func init() {
	db, err := sql.Open(store.Driver, "")
	if err != nil {
		panic(err)
	}
	const name = "sqlite counted"
	sql.Register(name, counted{db.Driver()})
	store.Driver = name
}

type counted struct{ driver.Driver }

func (d counted) Open(name string) (driver.Conn, error) {
	c, err := d.Driver.Open(name)
	if err != nil {
		return nil, err
	}
	return conn{c.(whole)}, nil
}

// whole is what a connection of SQLite's driver can do that the store needs.
type whole interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

type conn struct{ whole }

func (c conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (result driver.Result, err error) {
	err = Do(ctx, func() (err error) {
		result, err = c.whole.ExecContext(ctx, query, args)
		return err
	})
	return result, err
}

func (c conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (rows driver.Rows, err error) {
	err = Do(ctx, func() (err error) {
		rows, err = c.whole.QueryContext(ctx, query, args)
		return err
	})
	if err != nil && rows != nil {
		rows.Close()
	}
	return rows, err
}

func (c conn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	t, err := c.whole.BeginTx(ctx, o)
	return tx{t, ctx}, err
}

type tx struct {
	driver.Tx
	ctx context.Context
}

func (t tx) Commit() error {
	err := Do(t.ctx, t.Tx.Commit)
	if errors.Is(err, ErrCut) {
		t.Tx.Rollback() // fails where the answer was lost only
	}
	return err
}
