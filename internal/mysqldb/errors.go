package mysqldb

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql/driver"
	"errors"
	"net"

	"github.com/go-sql-driver/mysql"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/turn"
)

// meaning is what an error number says to Lapse.
type meaning struct {
	kind access.ErrorKind
	text string
}

// codes maps the numbers of MySQL and MariaDB:
// https://dev.mysql.com/doc/mysql-errors/9.4/en/server-error-reference.html and
// https://mariadb.com/docs/server/reference/error-codes/mariadb-error-code-reference
//
// 1396 says that a statement about an account failed, because it is there or
// because it is not: somebody was faster.
var codes = map[uint16]meaning{
	1040: {access.Retry, "the server has too many connections"},
	1041: {access.Retry, "the server is out of memory"},
	1047: {access.Retry, "the node is not ready"},
	1053: {access.Retry, "the server is stopping"},
	1077: {access.Retry, "the server is stopping"},
	1129: {access.Retry, "the server blocks this host after too many broken connections"},
	1159: {access.Retry, "the server did not hear from us in time"},
	1203: {access.Retry, "the account has too many connections"},
	1226: {access.Retry, "the account has used up what it may use"},
	1290: {access.Retry, "the server is read-only, a replica or failing over"},
	1317: {access.Retry, "the statement was interrupted"},
	1792: {access.Retry, "the session is read-only"},
	1836: {access.Retry, "the server is read-only, a replica or failing over"},
	1927: {access.Retry, "the server ended the connection"},
	1969: {access.Retry, "the statement ran out of time"},
	3024: {access.Retry, "the statement ran out of time"},
	3032: {access.Retry, "the server is offline"},
	3100: {access.Retry, "the group of servers refused the change"},
	3101: {access.Retry, "the group of servers rolled the change back"},
	3168: {access.Retry, "the server is not ready"},
	3169: {access.Retry, "the server ended the connection"},
	4031: {access.Retry, "the server ended the connection"},
	1205: {access.Conflict, "a lock was not free in time"},
	1213: {access.Conflict, "the statement met another one"},
	1396: {access.Conflict, "an account was made or dropped by somebody else at the same time"},
	1412: {access.Conflict, "a table changed at the same time"},
	3058: {access.Conflict, "a lock met another one"},
	4006: {access.Conflict, "the account came to be the definer of something since it was read"},
	1045: {access.Auth, "the server refuses this login"},
	1130: {access.Auth, "the server refuses connections from this host"},
	1275: {access.Auth, "the server refuses this old sort of password"},
	1524: {access.Auth, "the account's authentication plugin is not loaded"},
	1698: {access.Auth, "the server refuses this login"},
	1820: {access.Auth, "the password has to be changed first"},
	1862: {access.Auth, "the password has expired"},
	3118: {access.Auth, "the account is locked"},
	3159: {access.Auth, "the server takes encrypted connections only"},
	3955: {access.Auth, "the account is locked after too many wrong passwords"},
	4151: {access.Auth, "the account is locked"},
	1044: {access.Privilege, "a right on the database is missing"},
	1095: {access.Privilege, "the session may not be ended"},
	1131: {access.Privilege, "a right is missing"},
	1132: {access.Privilege, "a right is missing"},
	1142: {access.Privilege, "a right on the table is missing"},
	1143: {access.Privilege, "a right on the column is missing"},
	1211: {access.Privilege, "a right to make accounts is missing"},
	1227: {access.Privilege, "a right is missing"},
	1370: {access.Privilege, "a right on the routine is missing"},
	3628: {access.Privilege, "the role may not be taken back: it is mandatory"},
	3879: {access.Privilege, "a right on the database is missing"},
	1049: {access.ResourceMissing, "the database is not there"},
	1051: {access.ResourceMissing, "the table is not there"},
	1133: {access.ResourceMissing, "the account is not there"},
	1141: {access.ResourceMissing, "there is no such grant"},
	1146: {access.ResourceMissing, "the table is not there"},
	1147: {access.ResourceMissing, "there is no such grant"},
	1269: {access.ResourceMissing, "the account is not there"},
	1305: {access.ResourceMissing, "the routine is not there"},
	1403: {access.ResourceMissing, "there is no such grant"},
	1410: {access.ResourceMissing, "the account is not there"},
	1449: {access.ResourceMissing, "the definer is not there"},
	1959: {access.ResourceMissing, "the role is not there"},
	1962: {access.ResourceMissing, "there is no such grant"},
	3162: {access.ResourceMissing, "the account is not there"},
	3523: {access.ResourceMissing, "the account or role is not there"},
	3530: {access.ResourceMissing, "the role is not granted"},
	1059: {access.Invalid, "a name is too long"},
	1064: {access.Invalid, "the server does not understand the statement"},
	1102: {access.Invalid, "the server does not take the database's name"},
	1103: {access.Invalid, "the server does not take the table's name"},
	1145: {access.Invalid, "a host or user name is too long"},
	1231: {access.Invalid, "the server does not take a setting"},
	1300: {access.Invalid, "the server does not take the name's characters"},
	1470: {access.Invalid, "a name is too long"},
	1819: {access.Invalid, "the server's password policy refuses the password"},
	3638: {access.Invalid, "the server's password policy refuses a password that was used before"},
	3057: {access.Invalid, "the server does not take the lock's name"},
	3619: {access.Privilege, "the right cannot be given"},
	1235: {access.Unsupported, "the server does not support it"},
	1289: {access.Unsupported, "the server was built or started without it"},
}

// Number is the server's error number in an error of the driver or of ours; 0
// when there is none.
func Number(err error) uint16 {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return e.Number
	}
	if e, ok := errors.AsType[number](err); ok {
		return uint16(e)
	}
	return 0
}

// number keeps a server's error number in the chain of one of ours, without
// the server's text.
type number uint16

func (number) Error() string { return "an error of the server" }

// Classify replaces an error of the driver by one of ours: a kind and a fixed
// text. The driver's own text may quote the statement and with it a secret, so
// it never gets out, in the chain neither.
func Classify(err error) error {
	if err == nil {
		return nil
	}
	if ours, ok := errors.AsType[*access.Error](err); ok {
		return ours
	}
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return classifyNumber(e.Number)
	}
	if stopped := turn.Stopped(err); stopped != nil {
		return stopped
	}
	switch {
	case isCertificate(err):
		return access.Errorf(access.Invalid, "the server's certificate does not hold").
			WithRemedy("give the authority's certificate in ca_certificate, check hostname, or choose another tls_mode")
	case errors.Is(err, mysql.ErrNoTLS):
		return access.Errorf(access.Invalid, "the server does not offer TLS").
			WithRemedy("turn TLS on at the server, or set tls_mode to disable or preferred")
	case errors.Is(err, mysql.ErrCleartextPassword), errors.Is(err, mysql.ErrOldPassword), errors.Is(err, mysql.ErrUnknownPlugin):
		return access.Errorf(access.Auth, "the account logs in by a plugin that Lapse does not take").
			WithRemedy("give it caching_sha2_password, mysql_native_password or ed25519")
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, mysql.ErrInvalidConn):
		return access.Errorf(access.Retry, "the connection broke")
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return access.Errorf(access.Retry, "the server does not answer: %v", op.Err)
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return access.Errorf(access.Retry, "the server's name is not found: %s", dns.Name)
	}
	return access.Errorf(access.Retry, "the connection broke")
}

func classifyNumber(n uint16) *access.Error {
	m, ok := codes[n]
	if !ok {
		m = meaning{access.Unknown, "the server failed"}
	}
	e := access.Errorf(m.kind, "%s (error %d)", m.text, n)
	e.Err = number(n)
	return e
}

func isCertificate(err error) bool {
	_, verification := errors.AsType[*tls.CertificateVerificationError](err)
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	_, host := errors.AsType[x509.HostnameError](err)
	return verification || authority || host
}

// During says what was being done, keeping kind and remedy.
func During(what string, err error) error {
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*access.Error](Classify(err))
	if !ok {
		return err
	}
	named := *e
	named.Text = what + ": " + e.Text
	return &named
}

// readOnly is the error of a server that takes no changes.
func readOnly() error { return classifyNumber(1290) }

// wrongEnd is a context's error where it explains another one.
func wrongEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
