// Package mysqldb is what the rooms of MySQL and MariaDB share: how the server
// is reached, the pinned connection of an operation and its lock, the meaning
// of error numbers, the rights that a login can hand on, sessions and how they
// are ended, what an account is the definer of, and databases and tables as
// something to request.
package mysqldb

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

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/sqlname"
	"github.com/lapse-access/lapse/internal/turn"
)

const (
	connectTimeout = 10 * time.Second
	// lockWait is how long a statement waits for a lock that somebody else
	// holds; queueWait how long an operation waits for its turn.
	lockWait  = 5 * time.Second
	queueWait = 30 * time.Second
)

// Modes are the values of tls_mode, from the weakest to the strongest. Below
// verify-ca nobody proves who answers.
var Modes = []string{"disable", "preferred", "required", "verify-ca", "verify-full"}

// Endpoint is how the connector, and once a person, reaches a server.
type Endpoint struct {
	Host     string
	Port     int
	tls      *tls.Config // nil is plain text
	fallback bool        // to plain text, where the server has no TLS
	timeout  time.Duration
}

// NewEndpoint reads how to reach a host, behind which a port may stand, as in
// replica.example.com:3307. The mode is one of Modes; authority is PEM, the
// system's authorities when empty; timeout bounds one statement.
func NewEndpoint(host string, port int, mode, authority string, timeout time.Duration) (Endpoint, error) {
	if name, text, err := net.SplitHostPort(host); err == nil {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return Endpoint{}, fmt.Errorf("host %q: the port is not a number from 1 to 65535", host)
		}
		host, port = name, int(n)
	}
	e := Endpoint{Host: host, Port: port, timeout: timeout}
	roots, err := authorities(authority)
	if err != nil {
		return e, err
	}
	encrypted := &tls.Config{ServerName: host, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	chain := &tls.Config{ServerName: host, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12,
		VerifyConnection: func(s tls.ConnectionState) error { return verifyChain(s, roots) }}
	switch mode {
	case "disable":
	case "preferred":
		e.tls, e.fallback = encrypted, true
	case "required":
		e.tls = encrypted
		if roots != nil {
			e.tls = chain
		}
	case "verify-ca":
		e.tls = chain
	case "verify-full":
		e.tls = &tls.Config{ServerName: host, RootCAs: roots, MinVersion: tls.VersionTLS12}
	default:
		return e, fmt.Errorf("tls_mode %q is not one of %s", mode, strings.Join(Modes, ", "))
	}
	return e, nil
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

func (e Endpoint) String() string { return net.JoinHostPort(e.Host, strconv.Itoa(e.Port)) }

// Server is one server as an integration uses it: the dialect in which it is
// spoken to, where it is, and the connector's own login.
type Server struct {
	Dialect  *sqlname.Dialect
	Endpoint Endpoint
	User     string
	Password integrations.Secret
	// Lock names the operations that exclude each other, at most 64 characters.
	Lock string
	turn turn.Turn
}

// LockName is the lock of an integration.
func LockName(integration string) string {
	if name := "lapse:" + integration; len(name) <= 64 {
		return name
	}
	return "lapse:" + integration[:58]
}

// NewServer makes a server; it does not connect.
func NewServer(d *sqlname.Dialect, e Endpoint, user string, password integrations.Secret, lock string) *Server {
	return &Server{Dialect: d, Endpoint: e, User: user, Password: password, Lock: lock, turn: turn.New()}
}

// Connect opens a connection with the connector's login. The caller closes it.
func (s *Server) Connect(ctx context.Context) (*Conn, error) {
	return s.Endpoint.Open(ctx, s.Dialect, s.User, s.Password)
}

// Reading runs an operation that only reads, which needs no turn.
func (s *Server) Reading(ctx context.Context, operation func(context.Context, *Conn) error) error {
	ctx, cancel := turn.Bounded(ctx)
	defer cancel()
	c, err := s.Connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return operation(ctx, c)
}

// InTurn runs an operation alone on the server, and again when it met somebody
// else's change. The lock ends with the connection, and that not before the
// server is done with its last statement: nothing of an operation that was cut
// happens after the next one.
func (s *Server) InTurn(ctx context.Context, operation func(context.Context, *Conn) error) error {
	return s.turn.Run(ctx, func(ctx context.Context) error {
		c, err := s.Connect(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		// Who holds CONNECTION_ADMIN or SUPER could change a replica all the same.
		if c.Info.ReadOnly {
			return readOnly()
		}
		seconds := max(1, int64(min(queueWait, turn.Left(ctx)).Seconds()))
		got, err := Ask[only[int64]](ctx, c, "SELECT COALESCE(GET_LOCK(?, ?), -1)", s.Lock, seconds)
		tooLong := Number(err) == 3024 || Number(err) == 1969
		if err != nil && !tooLong {
			return During("waiting for another operation of Lapse on this server", err)
		}
		if tooLong || got[0].Value != 1 {
			return access.Errorf(access.Conflict, "another operation of Lapse on this server took longer than %d s", seconds)
		}
		return operation(ctx, c)
	})
}

// Wrote begins a result from what was written before.
func Wrote(before map[string]string) map[string]string {
	out := map[string]string{}
	for slot, value := range before {
		out[slot] = value
	}
	return out
}
