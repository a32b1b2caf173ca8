package postgresql

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/turn"
)

const (
	connectTimeout = 10 * time.Second
	// lockWait is how long a statement waits for a lock that somebody else
	// holds; queueWait how long an operation waits for its turn.
	lockWait  = 5 * time.Second
	queueWait = 30 * time.Second
	// turnKey is the advisory lock that one operation at a time holds, "laps"
	// in ASCII and 1. It is the same for every Lapse: roles, memberships and
	// the privileges of databases belong to the whole server.
	turnKey = "1818325107, 1"
)

// endpoint is how the connector, and once a person, reaches the server.
type endpoint struct {
	host    string
	port    uint16
	tls     []*tls.Config // one for each try, nil is plain text
	timeout time.Duration // of one statement
}

// tlsConfigs are the tries that an ssl_mode means, in order, as libpq has it:
// https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION
func tlsConfigs(mode, host, authority string) ([]*tls.Config, error) {
	roots, err := authorities(authority)
	if err != nil {
		return nil, err
	}
	encrypted := &tls.Config{ServerName: host, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	chain := &tls.Config{ServerName: host, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12,
		VerifyConnection: func(s tls.ConnectionState) error { return verifyChain(s, roots) }}
	switch mode {
	case "disable":
		return []*tls.Config{nil}, nil
	case "allow":
		return []*tls.Config{nil, encrypted}, nil
	case "prefer":
		return []*tls.Config{encrypted, nil}, nil
	case "require":
		if roots != nil {
			return []*tls.Config{chain}, nil
		}
		return []*tls.Config{encrypted}, nil
	case "verify-ca":
		return []*tls.Config{chain}, nil
	case "verify-full":
		return []*tls.Config{{ServerName: host, RootCAs: roots, MinVersion: tls.VersionTLS12}}, nil
	}
	return nil, fmt.Errorf("ssl_mode %q is not one of %s", mode, strings.Join(sslModes, ", "))
}

// authorities reads the configured certificates; nil stands for the system's.
func authorities(pem string) (*x509.CertPool, error) {
	if pem == "" {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(pem)) {
		return nil, errors.New("ca_certificate holds no certificate in PEM form")
	}
	return pool, nil
}

// verifyChain checks who signed the server's certificate, not its name.
func verifyChain(s tls.ConnectionState, roots *x509.CertPool) error {
	between := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
	return err
}

// conn is one direct connection. It is used by one goroutine.
type conn struct {
	pg       *pgx.Conn
	timeout  time.Duration
	warnings []string // SQLSTATEs of the warnings since the last statement
	// told, where there is no connection, is what would have been carried out.
	told *[]string
}

// open connects. The server itself gives up on the connection at the context's
// deadline, whatever then still is on its way: no late statement is carried
// out.
func (e endpoint) open(ctx context.Context, user string, password integrations.Secret, database string) (*conn, error) {
	// ParseConfig also reads the environment; everything that it may have found
	// there is replaced.
	cfg, err := pgx.ParseConfig("host=localhost user=lapse password=none dbname=postgres sslmode=disable target_session_attrs=any")
	if err != nil {
		return nil, access.Errorf(access.Invalid, "the PG environment variables of the connector do not hold").
			WithRemedy("start it without PGSERVICE, PGSSLMODE and their like")
	}
	c := &conn{timeout: e.timeout}
	cfg.Host, cfg.Port, cfg.Database, cfg.User, cfg.Password = e.host, e.port, database, user, password.Reveal()
	cfg.TLSConfig, cfg.Fallbacks = e.tls[0], nil
	for _, t := range e.tls[1:] {
		cfg.Fallbacks = append(cfg.Fallbacks, &pgconn.FallbackConfig{Host: e.host, Port: e.port, TLSConfig: t})
	}
	cfg.ConnectTimeout = connectTimeout
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	cfg.RuntimeParams = map[string]string{
		"application_name":                    "lapse",
		"search_path":                         "pg_catalog, pg_temp",
		"client_min_messages":                 "warning",
		"default_transaction_read_only":       "off",
		"lock_timeout":                        milliseconds(lockWait),
		"statement_timeout":                   milliseconds(min(e.timeout, turn.Left(ctx))),
		"idle_in_transaction_session_timeout": milliseconds(turn.Left(ctx)),
		"idle_session_timeout":                milliseconds(turn.Left(ctx)),
	}
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { c.warnings = append(c.warnings, n.Code) }

	dial, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if c.pg, err = pgx.ConnectConfig(dial, cfg); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		where := net.JoinHostPort(e.host, strconv.Itoa(int(e.port)))
		return nil, during(fmt.Sprintf("connecting to database %s on %s", database, where), err)
	}
	return c, nil
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// exec carries out statements in one message, which PostgreSQL makes one
// transaction: all of them or none, and never one that stays open. A warning
// that a privilege was not granted is an error, because the server itself calls
// that a success.
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT
func (c *conn) exec(ctx context.Context, statements ...statement) error {
	text := []string{
		"SET LOCAL statement_timeout = " + milliseconds(min(c.timeout, turn.Left(ctx))),
		"SET idle_session_timeout = " + milliseconds(turn.Left(ctx)),
	}
	for _, s := range statements {
		if s.Err != nil {
			return access.Errorf(access.Invalid, "a name cannot be used on PostgreSQL: %v", s.Err)
		}
		text = append(text, s.Text)
	}
	if c.told != nil {
		*c.told = append(*c.told, text[2:]...)
		return nil
	}
	c.warnings = nil
	if _, err := c.pg.PgConn().Exec(ctx, strings.Join(text, ";\n")).ReadAll(); err != nil {
		return classify(err)
	}
	for _, code := range c.warnings {
		if code == "01007" || code == "01006" {
			return classifyCode(code, "")
		}
	}
	return nil
}

// ask reads rows into structs whose fields are in the order of the columns.
func ask[T any](ctx context.Context, c *conn, query string, args ...any) ([]T, error) {
	rows, err := c.pg.Query(ctx, query, args...)
	if err != nil {
		return nil, classify(err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[T])
	return out, classify(err)
}

// close ends the connection, and with it the lock and whatever was not
// committed.
func (c *conn) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c.pg.Close(ctx) // nothing depends on a polite end
}

// session is what one operation has of the server: a connection to the
// maintenance database, which also keeps the operation's turn, and others to
// the databases that it looks into. It is used by one goroutine.
type session struct {
	*conn
	i         *integration
	server    server
	databases map[string]*conn
}

// server is what an operation knows of the server and of its own login.
type server struct {
	Version    int // server_version_num: 150018
	Standby    bool
	User       string
	Superuser  bool
	CreateRole bool
}

// grantorsMatter is true where a membership is a row for each of its grantors
// and has options of its own:
// https://www.postgresql.org/docs/16/release-16.html
func (s server) grantorsMatter() bool { return s.Version >= 160000 }

// open connects to the maintenance database. "postgre" stands for postgres
// where no database of that name exists.
func (i *integration) open(ctx context.Context) (*conn, error) {
	c, err := i.endpoint.open(ctx, i.secret.Username, i.secret.Password, i.config.DatabaseName)
	if i.config.DatabaseName == "postgre" && access.KindOf(err) == access.ResourceMissing {
		return i.endpoint.open(ctx, i.secret.Username, i.secret.Password, "postgres")
	}
	return c, err
}

// inTurn runs an operation alone on the server, and again when it met somebody
// else's change. Everything in it may therefore be run twice.
func (i *integration) inTurn(ctx context.Context, operation func(context.Context, *session) error) error {
	return i.turn.Run(ctx, func(ctx context.Context) error { return i.once(ctx, operation) })
}

// reading runs an operation that only reads, which needs no turn.
func (i *integration) reading(ctx context.Context, operation func(context.Context, *session) error) error {
	ctx, cancel := turn.Bounded(ctx)
	defer cancel()
	s, err := i.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	return operation(ctx, s)
}

func (i *integration) connect(ctx context.Context) (*session, error) {
	c, err := i.open(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := ask[server](ctx, c, serverSQL)
	if err != nil {
		c.close()
		return nil, during("reading the server's version", err)
	}
	return &session{conn: c, i: i, server: rows[0], databases: map[string]*conn{}}, nil
}

func (i *integration) once(ctx context.Context, operation func(context.Context, *session) error) error {
	s, err := i.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	if s.server.Standby {
		return classifyCode("25006", "")
	}
	wait := milliseconds(min(queueWait, turn.Left(ctx)))
	if err := s.exec(ctx,
		statement{Text: "SET LOCAL lock_timeout = " + wait},
		statement{Text: "SELECT pg_advisory_lock(" + turnKey + ")"}); err != nil {
		return during("waiting for another operation of Lapse on this server", err)
	}
	return operation(ctx, s)
}

// database is the operation's connection to a database of the same server.
func (s *session) database(ctx context.Context, name string) (*conn, error) {
	if c, ok := s.databases[name]; ok {
		return c, nil
	}
	c, err := s.i.endpoint.open(ctx, s.i.secret.Username, s.i.secret.Password, name)
	if err != nil {
		return nil, err
	}
	s.databases[name] = c
	return c, nil
}

func (s *session) close() {
	for _, c := range s.databases {
		c.close()
	}
	s.conn.close()
}
