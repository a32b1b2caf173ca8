package postgresql

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/lapse-access/lapse/integrations"
)

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
		"sslmode=" + i.config.SSLMode,
	}
	return integrations.Credential{
		Username: name,
		Password: password,
		Command:  "psql " + shell(strings.Join(settings, " ")),
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

// shell quotes one word for a POSIX shell, in double quotes where those do.
func shell(word string) string {
	if !strings.ContainsAny(word, "\"$`\\!") {
		return `"` + word + `"`
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
