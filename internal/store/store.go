// Package store is what Lapse remembers outside of Temporal: the applied
// configuration, proposals to change it, the catalog, requests, decisions, holds, accounts, sealed
// credentials, and the audit trail. It is a SQLite file that several processes
// may open at once.
//
// A method that changes something is one transaction, on disk when the method
// returns, and may be repeated. What belongs together, such as an event and the
// rows that change with it, is written together. Times are kept in UTC to the
// nanosecond, as text that sorts.
//
// The store holds no secret: credentials come to it sealed to the portal's key.
package store

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver named sqlite

	"github.com/lapse-access/lapse/access"
)

// ErrNotFound is in the chain of every error about a row that is not there.
var ErrNotFound = errors.New("not found")

// Driver is the name of the driver in database/sql. A test may put its own in
// between.
var Driver = "sqlite"

// Store is an open store. It is safe for concurrent use.
type Store struct {
	// Now is the clock. A test may replace it before the first use.
	Now func() time.Time

	// SQLite lets one write at a time: queueing for the one connection is
	// fairer than waiting for the file's lock. Readers never wait.
	writer, readers *sql.DB
	instance        string

	directory atomic.Pointer[directory] // as it was last read
}

// Open opens the store in a file, which is made, or brought up to date, where
// needed.
func Open(ctx context.Context, path string) (*Store, error) {
	s, err := open(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", path, err)
	}
	return s, nil
}

func open(ctx context.Context, path string) (_ *Store, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	for _, name := range []string{path, path + ".lock"} {
		if err := createFile(name); err != nil {
			return nil, err
		}
	}

	s := &Store{Now: time.Now}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.writer, err = sql.Open(Driver, dsn(path, "_txlock=immediate")); err != nil {
		return nil, err
	}
	s.writer.SetMaxOpenConns(1)
	if s.readers, err = sql.Open(Driver, dsn(path, "_pragma=query_only(1)")); err != nil {
		return nil, err
	}
	s.readers.SetMaxOpenConns(4)
	s.readers.SetMaxIdleConns(4)
	if err := s.migrate(ctx, path+".lock"); err != nil {
		return nil, err
	}
	if err := s.mintInstance(ctx); err != nil {
		return nil, err
	}
	return s, s.indexPending(ctx)
}

// createFile makes a file that others may not read; SQLite gives the files that
// it puts beside it the same mode. One that exists is not opened: closing it
// again would drop the locks that SQLite has on it in this process.
func createFile(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// dsn names the file with the pragmas of every connection. FULL makes every
// commit durable, and secure_delete overwrites what is erased.
func dsn(path, more string) string {
	return "file:" + escape(path) + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)" +
		"&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)&_pragma=secure_delete(1)&" + more
}

func escape(path string) string { return (&url.URL{Path: path}).EscapedPath() }

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the schema up to date. Processes that start at once take turns:
// goose does not lock SQLite, so an exclusive transaction on an empty database
// beside it does, which also ends with the process.
func (s *Store) migrate(ctx context.Context, lockPath string) error {
	lock, err := sql.Open("sqlite", "file:"+escape(lockPath)+"?_pragma=busy_timeout(60000)&_txlock=exclusive")
	if err != nil {
		return err
	}
	defer lock.Close()
	turn, err := lock.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer turn.Rollback()

	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, s.writer, dir)
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return err
	}
	have, err := p.GetDBVersion(ctx)
	if err != nil {
		return err
	}
	if sources := p.ListSources(); have > sources[len(sources)-1].Version {
		return errors.New("a newer version of Lapse has written it: run that version, or restore a backup from before")
	}
	return nil
}

// Close closes the store.
func (s *Store) Close() error {
	var errs []error
	for _, db := range []*sql.DB{s.readers, s.writer} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

func (s *Store) mintInstance(ctx context.Context) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `insert into meta (name, value) values ('instance', $1) on conflict do nothing`, access.NewID("lapse"))
		if err != nil {
			return err
		}
		s.instance, err = meta(ctx, tx, "instance")
		return err
	})
}

// Instance is the id of this installation, minted when the store was made.
func (s *Store) Instance() string { return s.instance }

// Epoch is the number that Temporal and the store both keep, 0 before the first
// SetEpoch, and the one to which they are being moved on, which is the same
// when nothing is under way. They differ from Temporal's once one of the two
// was restored.
func (s *Store) Epoch(ctx context.Context) (epoch, next int64, err error) {
	v, err := meta(ctx, s.readers, "epoch")
	if err != nil || v == "" {
		return 0, 0, err
	}
	if _, err := fmt.Sscanf(v, "%d %d", &epoch, &next); err != nil {
		return 0, 0, fmt.Errorf("epoch %q: %w", v, err)
	}
	return epoch, next, nil
}

// SetEpoch sets the epoch, and the one to which it is being moved on.
func (s *Store) SetEpoch(ctx context.Context, epoch, next int64) error {
	return s.setMeta(ctx, "epoch", fmt.Sprintf("%d %d", epoch, next))
}

// ReportOnly says why nothing is changed on a target, after a restore; empty
// when it is.
func (s *Store) ReportOnly(ctx context.Context) (string, error) {
	return meta(ctx, s.readers, "report_only")
}

// SetReportOnly says why nothing may be changed on a target, or with an empty why,
// that it may again.
func (s *Store) SetReportOnly(ctx context.Context, why string) error {
	if err := s.setMeta(ctx, "report_only_since", s.Now().UTC().Format(time.RFC3339Nano)); err != nil {
		return err
	}
	return s.setMeta(ctx, "report_only", why)
}

// ReportOnlySince says since when nothing is changed.
func (s *Store) ReportOnlySince(ctx context.Context) (time.Time, error) {
	v, err := meta(ctx, s.readers, "report_only_since")
	if err != nil || v == "" {
		return time.Time{}, err
	}
	return time.Parse(time.RFC3339Nano, v)
}

func meta(ctx context.Context, q querier, name string) (value string, err error) {
	err = q.QueryRowContext(ctx, `select value from meta where name = $1`, name).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return value, err
}

func (s *Store) setMeta(ctx context.Context, name, value string) error {
	_, err := s.writer.ExecContext(ctx, `insert into meta (name, value) values ($1, $2)
		on conflict (name) do update set value = excluded.value`, name, value)
	return err
}

// querier is a transaction or a whole database.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// write runs f in a transaction that excludes every other writer.
func (s *Store) write(ctx context.Context, f func(*sql.Tx) error) error {
	return transact(ctx, s.writer, f)
}

// read runs f on one consistent state.
func (s *Store) read(ctx context.Context, f func(*sql.Tx) error) error {
	return transact(ctx, s.readers, f)
}

func transact(ctx context.Context, db *sql.DB, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// all runs a query and scans every row.
func all[T any](ctx context.Context, q querier, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// one runs a query for a single row; what names it in the error when it is not
// there.
func one[T any](ctx context.Context, q querier, what string, scan func(scanner) (T, error), query string, args ...any) (T, error) {
	v, err := scan(q.QueryRowContext(ctx, query, args...))
	if errors.Is(err, sql.ErrNoRows) {
		return v, fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	return v, err
}

// exists reports whether a query finds a row.
func exists(ctx context.Context, q querier, query string, args ...any) (bool, error) {
	var n int
	err := q.QueryRowContext(ctx, query, args...).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// require is exists with the error of one.
func require(ctx context.Context, q querier, what, query string, args ...any) error {
	found, err := exists(ctx, q, query, args...)
	if err == nil && !found {
		err = fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	return err
}

// scanner is a row.
type scanner interface{ Scan(dest ...any) error }

// asJSON keeps the value behind a pointer as JSON; nil behind it is null.
type asJSON struct{ v any }

func (j asJSON) Value() (driver.Value, error) {
	b, err := json.Marshal(j.v)
	if err != nil || string(b) == "null" {
		return nil, err
	}
	return string(b), nil
}

func (j asJSON) Scan(src any) error {
	switch src := src.(type) {
	case nil:
		return nil
	case string:
		return json.Unmarshal([]byte(src), j.v)
	}
	return fmt.Errorf("want JSON, got %T", src)
}

// timeFormat sorts as text.
const timeFormat = "2006-01-02T15:04:05.000000000Z"

// asTime keeps a time; the zero time is null.
type asTime struct{ t *time.Time }

func (a asTime) Value() (driver.Value, error) {
	if a.t.IsZero() {
		return nil, nil
	}
	return a.t.UTC().Format(timeFormat), nil
}

func (a asTime) Scan(src any) (err error) {
	switch src := src.(type) {
	case nil:
		*a.t = time.Time{}
		return nil
	case string:
		*a.t, err = time.Parse(timeFormat, src)
		return err
	}
	return fmt.Errorf("want a time, got %T", src)
}

// where collects the conditions of a filter.
type where struct {
	sql  string
	args []any
}

// and adds a condition in which each ? stands for the next of args.
func (w *where) and(condition string, args ...any) {
	for _, arg := range args {
		w.args = append(w.args, arg)
		condition = strings.Replace(condition, "?", "$"+strconv.Itoa(len(w.args)), 1)
	}
	w.sql += " and " + condition
}

// pageSize bounds a list: 100 when nothing is asked for, never more than 1000.
func pageSize(limit int) int { return min(cmp.Or(max(limit, 0), 100), 1000) }
