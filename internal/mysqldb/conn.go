package mysqldb

import (
	"context"
	"database/sql"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/sqlname"
	"github.com/lapse-access/lapse/internal/turn"
)

// Info is what an operation knows of the server and of its own login.
type Info struct {
	// Version is 80036 for 8.0.36 and 101119 for 10.11.19; Text is the server's
	// own word, and Comment names the distribution.
	Version       int
	Text, Comment string
	MariaDB       bool
	// ReadOnly is true for a replica, or while the server fails over.
	ReadOnly bool
	// CurrentUser is the account by which the connector is known, and Login
	// what it gave as its name.
	CurrentUser sqlname.Principal
	// LowerCaseTableNames is 0 where "Db" and "db" are two databases.
	LowerCaseTableNames int
	// PartialRevokes is true where a database in a grant is a name and no
	// pattern.
	PartialRevokes bool
}

// Conn is one direct connection, and never another one: the lock and the
// settings of the session are on it. It is used by one goroutine.
type Conn struct {
	Info    Info
	Dialect *sqlname.Dialect
	// ID is the server's number of the connection.
	ID   int64
	db   *sql.DB
	conn *sql.Conn
	// told, where there is no connection, is what would have been carried out.
	told *[]string
}

// settings are those of every session, whatever the server's defaults and its
// init_connect say. Strict mode and NO_BACKSLASH_ESCAPES decide what the
// statements of this package mean.
var settings = []string{
	"character_set_client = utf8mb4", "character_set_connection = utf8mb4", "character_set_results = utf8mb4",
	"sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'", "autocommit = 1", "sql_quote_show_create = 1",
	"lock_wait_timeout = " + strconv.Itoa(int(lockWait.Seconds())), "innodb_lock_wait_timeout = " + strconv.Itoa(int(lockWait.Seconds())),
}

// Open connects with an account, to no database.
func (e Endpoint) Open(ctx context.Context, d *sqlname.Dialect, user string, password integrations.Secret) (*Conn, error) {
	c, err := e.open(ctx, d, user, password, "")
	if err != nil {
		return nil, During("connecting to "+e.String(), wrongEnd(ctx, err))
	}
	if err := c.begin(ctx, e.timeout); err != nil {
		c.Close()
		return nil, During("beginning a session on "+e.String(), wrongEnd(ctx, err))
	}
	return c, nil
}

// Login proves a password by a connection of its own, to a database or to none.
func (e Endpoint) Login(ctx context.Context, d *sqlname.Dialect, user string, password integrations.Secret, database string) error {
	c, err := e.open(ctx, d, user, password, database)
	if err != nil {
		return During("logging in as "+user+" on "+e.String(), wrongEnd(ctx, err))
	}
	c.Close()
	return nil
}

func (e Endpoint) open(ctx context.Context, d *sqlname.Dialect, user string, password integrations.Secret, database string) (*Conn, error) {
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.User, cfg.Passwd, cfg.DBName = "tcp", e.String(), user, password.Reveal(), database
	cfg.TLS, cfg.AllowFallbackToPlaintext = e.tls, e.fallback
	cfg.Timeout = connectTimeout
	// A server that is silent for longer than any statement may take is gone.
	cfg.ReadTimeout, cfg.WriteTimeout = turn.Left(ctx), connectTimeout
	cfg.ConnectionAttributes = "program_name:lapse"
	cfg.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, access.Errorf(access.Invalid, "the connection's settings do not hold")
	}
	c := &Conn{Dialect: d, db: sql.OpenDB(connector)}
	c.db.SetMaxOpenConns(1)
	dial, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if c.conn, err = c.db.Conn(dial); err != nil {
		c.db.Close()
		return nil, err
	}
	return c, nil
}

// begin sets the session up. The server itself gives up on it soon after the
// context's deadline, so that the lock of a connection that was lost is free
// again.
func (c *Conn) begin(ctx context.Context, timeout time.Duration) error {
	wait := strconv.Itoa(int(turn.Left(ctx).Seconds()) + 1)
	if _, err := c.conn.ExecContext(ctx, "SET SESSION "+strings.Join(append(settings, "wait_timeout = "+wait), ", ")); err != nil {
		return err
	}
	const about = `SELECT VERSION(), @@version_comment, CONCAT(@@global.read_only, ',', @@global.innodb_read_only), CURRENT_USER(), @@lower_case_table_names, CONNECTION_ID()`
	var version, readOnly, user string
	if err := c.conn.QueryRowContext(ctx, about).Scan(&version, &c.Info.Comment, &readOnly, &user, &c.Info.LowerCaseTableNames, &c.ID); err != nil {
		return err
	}
	c.Info.Text = version
	c.Info.Version, c.Info.MariaDB = ParseVersion(version, c.Info.Comment)
	for v := range strings.SplitSeq(readOnly, ",") {
		c.Info.ReadOnly = c.Info.ReadOnly || (v != "0" && v != "OFF")
	}
	at := strings.LastIndexByte(user, '@')
	c.Info.CurrentUser = sqlname.Principal{User: user[:max(at, 0)], Host: user[at+1:]}
	limit := min(timeout, turn.Left(ctx))
	more := "SET SESSION max_execution_time = " + strconv.FormatInt(limit.Milliseconds(), 10)
	if c.Info.MariaDB {
		more = "SET SESSION max_statement_time = " + strconv.FormatFloat(limit.Seconds(), 'f', 3, 64)
	}
	if c.Info.MariaDB || c.Info.Version < 80000 {
		// Without it a GRANT makes the account that it does not find.
		more += ", sql_mode = CONCAT(@@sql_mode, ',NO_AUTO_CREATE_USER')"
	}
	if _, err := c.conn.ExecContext(ctx, more); err != nil || c.Info.MariaDB || c.Info.Version < 80016 {
		return err
	}
	return c.conn.QueryRowContext(ctx, "SELECT @@global.partial_revokes").Scan(&c.Info.PartialRevokes)
}

// ParseVersion reads VERSION() and @@version_comment: 8.0.36-cluster,
// 5.5.5-10.11.19-MariaDB-log.
func ParseVersion(text, comment string) (version int, mariadb bool) {
	mariadb = strings.Contains(text, "MariaDB") || strings.Contains(strings.ToLower(comment), "mariadb")
	if mariadb {
		text = strings.TrimPrefix(text, "5.5.5-")
	}
	parts := strings.SplitN(text, ".", 3)
	for i, scale := range []int{10000, 100, 1} {
		if i < len(parts) {
			digits := parts[i]
			if end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
				digits = digits[:end]
			}
			n, _ := strconv.Atoi(digits)
			version += n * scale
		}
	}
	return version, mariadb
}

// Statement builds a statement in the connection's dialect.
func (c *Conn) Statement(text string, args ...sqlname.Fragment) sqlname.Statement {
	return c.Dialect.Statement(text, args...)
}

// Exec carries out statements, one after the other, by the text protocol, until
// one fails. Each is atomic and takes effect by itself.
func (c *Conn) Exec(ctx context.Context, statements ...sqlname.Statement) error {
	for _, s := range statements {
		if s.Err != nil {
			return access.Errorf(access.Invalid, "a name cannot be used on this server: %v", s.Err)
		}
	}
	for _, s := range statements {
		if c.told != nil {
			*c.told = append(*c.told, s.Text)
			continue
		}
		if _, err := c.conn.ExecContext(ctx, s.Text); err != nil {
			return Classify(wrongEnd(ctx, err))
		}
	}
	return nil
}

// only is a row of one column.
type only[T any] struct{ Value T }

// Ask reads rows into structs whose fields are in the order of the columns;
// further columns are left out. The query takes bind parameters.
func Ask[T any](ctx context.Context, c *Conn, query string, args ...any) (out []T, err error) {
	rows, err := c.conn.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, Classify(wrongEnd(ctx, err))
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, Classify(err)
	}
	for rows.Next() {
		var row T
		fields := reflect.ValueOf(&row).Elem()
		into := make([]any, len(columns))
		for i := range into {
			into[i] = new(sql.RawBytes)
			if i < fields.NumField() {
				into[i] = fields.Field(i).Addr().Interface()
			}
		}
		if err := rows.Scan(into...); err != nil {
			return nil, access.Errorf(access.Unknown, "the server answered with rows of another shape")
		}
		out = append(out, row)
	}
	return out, Classify(wrongEnd(ctx, rows.Err()))
}

// Read is Ask with a statement, such as SHOW GRANTS, that takes no parameters.
func Read[T any](ctx context.Context, c *Conn, s sqlname.Statement) ([]T, error) {
	if s.Err != nil {
		return nil, access.Errorf(access.Invalid, "a name cannot be used on this server: %v", s.Err)
	}
	return Ask[T](ctx, c, s.Text)
}

// Variables reads those global settings that the server has.
func (c *Conn) Variables(ctx context.Context, names ...string) (map[string]string, error) {
	literals := make(sqlname.List, len(names))
	for i, n := range names {
		literals[i] = sqlname.Literal(n)
	}
	type variable struct{ Name, Value string }
	rows, err := Read[variable](ctx, c, c.Statement("SHOW GLOBAL VARIABLES WHERE Variable_name IN (?)", literals))
	if err != nil {
		return nil, During("reading the server's settings", err)
	}
	out := map[string]string{}
	for _, r := range rows {
		out[r.Name] = r.Value
	}
	return out, nil
}

// Close ends the connection, and with it the lock.
func (c *Conn) Close() {
	c.conn.Close()
	c.db.Close()
}
