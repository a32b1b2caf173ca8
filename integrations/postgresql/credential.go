package postgresql

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/principal"
)

func (s *session) setCredential(ctx context.Context, req integrations.CredentialRequest) (cred integrations.Credential, err error) {
	a, err := s.find(ctx, req.Account)
	if err != nil {
		return cred, err
	}
	if err := a.admit(req.Sequence); err != nil {
		return cred, err
	}
	switch {
	case a.role == nil && a.stranger != nil:
		return cred, a.taken()
	case a.role == nil:
		return cred, access.Errorf(access.Invalid, "there is no account %s to give a password to", a.name)
	case !a.role.CanLogin:
		return cred, access.Errorf(access.Invalid, "account %s holds nothing and gets no password", a.name)
	}
	database, err := s.homeOf(ctx, a)
	if err != nil {
		return cred, err
	}
	password := integrations.Secret(principal.Password(a.name))
	verifier, err := scramVerifier(password)
	if err != nil {
		return cred, access.Errorf(access.Unknown, "making the password's verifier: %v", err)
	}
	if err := s.execOn(ctx, a.name, s.numbered(a, req.Sequence),
		ddl("ALTER ROLE ? PASSWORD ?", ident(a.name), literal(verifier))); err != nil {
		return cred, during("setting the password of "+a.name, err)
	}
	if err := s.login(ctx, a.name, password, database); err != nil {
		return cred, err
	}
	if req.EndSessions {
		if _, err := s.endSessions(ctx, a.name, a.role.OID); err != nil {
			return cred, err
		}
	}
	return s.i.credential(a.name, password, database), nil
}

// NextSecret keeps the login and has another password.
func (i *integration) NextSecret() (any, error) {
	next := i.secret
	next.Password = integrations.Secret(principal.Password(next.Username))
	return &next, nil
}

// RotateSecret changes the password of the connector's own login, which every
// role may: https://www.postgresql.org/docs/current/sql-alterrole.html
func (i *integration) RotateSecret(ctx context.Context, next any) error {
	verifier, err := scramVerifier(next.(*Secret).Password)
	if err != nil {
		return access.Errorf(access.Unknown, "making the password's verifier: %v", err)
	}
	return i.inTurn(ctx, func(ctx context.Context, s *session) error {
		return during("changing the connector's own password", s.exec(ctx, ddl("ALTER ROLE CURRENT_USER PASSWORD ?", literal(verifier))))
	})
}

// homeOf is a database that the account may connect to: one in which it holds
// something, else the maintenance database, else any.
func (s *session) homeOf(ctx context.Context, a *account) (string, error) {
	held, err := s.memberships(ctx, a.role.OID)
	if err != nil {
		return "", err
	}
	maintenance := s.pg.Config().Database
	var entitled []string
	for _, m := range held {
		if e, ok := s.carried(m); ok {
			if t, err := s.i.parse(e); err == nil {
				entitled = append(entitled, t.database)
			}
		}
	}
	const connectable = `SELECT datname::text FROM pg_database
		WHERE datallowconn AND has_database_privilege($1::int8::oid, oid, 'CONNECT')
		ORDER BY datname = ANY ($2::text[]) DESC, datname = $3::text DESC, datname LIMIT 1`
	rows, err := ask[only[string]](ctx, s.conn, connectable, a.role.OID, nonNil(entitled), maintenance)
	if err != nil {
		return "", during("choosing a database for "+a.name, err)
	}
	if len(rows) == 0 {
		return maintenance, nil
	}
	return rows[0].Value, nil
}

// login proves a password by a connection of its own.
func (s *session) login(ctx context.Context, name string, password integrations.Secret, database string) error {
	c, err := s.i.endpoint.open(ctx, name, password, database)
	if access.KindOf(err) == access.Auth || access.KindOf(err) == access.Privilege {
		// Not the connector's own login, about which these kinds would speak.
		return access.Errorf(access.Invalid, "account %s cannot log in to database %s with its new password", name, database).
			WithRemedy("let pg_hba.conf admit the account from the connector by scram-sha-256, and let it CONNECT to the database")
	}
	if err != nil {
		return during("trying the new password of "+name, err)
	}
	c.close()
	return nil
}

// The parameters that PostgreSQL itself uses for a SCRAM-SHA-256 verifier.
const (
	scramIterations = 4096
	scramSaltLength = 16
)

// scramVerifier is what PostgreSQL keeps of a password. Sent instead of the
// password it keeps it out of the server's logs and statistics:
// https://www.postgresql.org/docs/current/catalog-pg-authid.html
//
// The password is ASCII, so that SASLprep (RFC 4013) leaves it as it is.
func scramVerifier(password integrations.Secret) (string, error) {
	salt := make([]byte, scramSaltLength)
	rand.Read(salt) // never fails: see crypto/rand
	return scramVerifierWith(password, salt)
}

func scramVerifierWith(password integrations.Secret, salt []byte) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, password.Reveal(), salt, scramIterations, sha256.Size)
	if err != nil {
		return "", err
	}
	clientKey := mac(salted, "Client Key")
	storedKey := sha256.Sum256(clientKey)
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s",
		scramIterations, b64(salt), b64(storedKey[:]), b64(mac(salted, "Server Key"))), nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// clientSSL is what people put into psql. verify-ca and verify-full need a file
// of authorities on their side; binding the password's exchange to the encrypted
// channel proves the server as well, by its knowing the verifier:
// https://www.postgresql.org/docs/current/sasl-authentication.html
func clientSSL(mode string) string {
	if strings.HasPrefix(mode, "verify-") {
		return "sslmode=require channel_binding=require"
	}
	return "sslmode=" + mode
}

// credential is what a person needs to log in.
func (i *integration) credential(name string, password integrations.Secret, database string) integrations.Credential {
	port := strconv.Itoa(int(i.endpoint.port))
	details := map[string]string{"host": i.endpoint.host, "port": port, "database": database, "ssl_mode": i.config.SSLMode}
	if i.config.CACertificate != "" {
		details["ca_certificate"] = i.config.CACertificate
	}
	settings := []string{
		"host=" + conninfo(i.endpoint.host),
		"port=" + port,
		"user=" + conninfo(name),
		"dbname=" + conninfo(database),
		clientSSL(i.config.SSLMode),
	}
	return integrations.Credential{
		Username: name,
		Password: password,
		Command:  "psql " + integrations.ShellWord(strings.Join(settings, " ")),
		Details:  details,
	}
}

// conninfo quotes a value of a connection string:
// https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-KEYWORD-VALUE
func conninfo(value string) string {
	if value != "" && !strings.ContainsAny(value, " \t\r\n\v\f'\\") {
		return value
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}
