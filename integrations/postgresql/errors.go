package postgresql

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/turn"
)

// meaning is what a SQLSTATE says to Lapse.
type meaning struct {
	kind access.ErrorKind
	text string
}

// codes maps SQLSTATEs; classes, the first two characters of one, stand for
// the codes that are not listed:
// https://www.postgresql.org/docs/current/errcodes-appendix.html
var (
	codes = map[string]meaning{
		"25006": {access.Retry, "the server is read-only, a standby or failing over"},
		"28000": {access.Auth, "the server refuses this login"},
		"28P01": {access.Auth, "the server refuses this password"},
		"42501": {access.Privilege, "a right is missing"},
		"01007": {access.Privilege, "the privilege was not granted"},
		"01006": {access.Privilege, "the privilege was not revoked"},
		"42704": {access.ResourceMissing, "a role or object is not there"},
		"42P01": {access.ResourceMissing, "a table is not there"},
		"3F000": {access.ResourceMissing, "a schema is not there"},
		"3D000": {access.ResourceMissing, "the database is not there"},
		"42883": {access.ResourceMissing, "a function is not there"},
		"42601": {access.Invalid, "the server does not understand the statement"},
		"42622": {access.Invalid, "a name is too long"},
		"42939": {access.Invalid, "a name is reserved"},
		"22023": {access.Invalid, "a value is not valid"},
		"0LP01": {access.Invalid, "the membership would be a cycle"},
		"0A000": {access.Unsupported, "the server does not support it"},
		"55P03": {access.Conflict, "a lock was not free in time"},
		"55006": {access.Conflict, "an object is in use"},
		"42710": {access.Conflict, "somebody else made it at the same time"},
		"23505": {access.Conflict, "somebody else wrote it at the same time"},
		"2BP01": {access.Conflict, "something depends on it since it was read"},
		"57014": {access.Retry, "the statement ran out of time"},
		"25P03": {access.Retry, "the transaction ran out of time"},
		"25P04": {access.Retry, "the transaction ran out of time"},
	}
	classes = map[string]meaning{
		"08": {access.Retry, "the connection failed"},
		"40": {access.Conflict, "the transaction met another one"},
		"53": {access.Retry, "the server is out of connections, memory or disk"},
		"57": {access.Retry, "the server is starting, stopping or ended the connection"},
		"58": {access.Retry, "the server has a system error"},
	}
)

// races are the messages of XX000 that say that two sessions changed one row of
// a catalog; PostgreSQL has no code of its own for them.
var races = []string{"tuple concurrently", "could not find tuple for"}

// classify replaces an error of the driver by one of ours: a kind and a fixed
// text. The driver's own text may quote the statement and with it a secret, so
// it never gets out, in the chain neither.
func classify(err error) error {
	if err == nil {
		return nil
	}
	if ours, ok := errors.AsType[*access.Error](err); ok {
		return ours
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return classifyCode(pg.Code, pg.Message)
	}
	if stopped := turn.Stopped(err); stopped != nil {
		return stopped
	}
	switch {
	case isCertificate(err):
		return access.Errorf(access.Invalid, "the server's certificate does not hold").
			WithRemedy("give the authority's certificate in ca_certificate, check hostname, or choose another ssl_mode")
	case strings.Contains(err.Error(), "server refused TLS connection"):
		return access.Errorf(access.Invalid, "the server does not offer TLS").
			WithRemedy("turn ssl on in postgresql.conf, or set ssl_mode to disable or prefer")
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return access.Errorf(access.Retry, "the server does not answer: %v", op.Err)
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return access.Errorf(access.Retry, "the server's name is not found: %s", dns.Name)
	}
	return access.Errorf(access.Retry, "the connection broke")
}

func classifyCode(code, message string) *access.Error {
	m, ok := codes[code]
	if !ok {
		m, ok = classes[code[:min(2, len(code))]]
	}
	if code == "XX000" {
		for _, race := range races {
			if strings.Contains(message, race) {
				m, ok = meaning{access.Conflict, "somebody else changed the same thing"}, true
			}
		}
	}
	if !ok {
		m = meaning{access.Unknown, "the server failed"}
	}
	return access.Errorf(m.kind, "%s (SQLSTATE %s)", m.text, code)
}

func isCertificate(err error) bool {
	_, verification := errors.AsType[*tls.CertificateVerificationError](err)
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	_, host := errors.AsType[x509.HostnameError](err)
	return verification || authority || host
}

// during says what was being done, keeping kind and remedy.
func during(what string, err error) error {
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*access.Error](classify(err))
	if !ok {
		return err
	}
	named := *e
	named.Text = what + ": " + e.Text
	return &named
}
