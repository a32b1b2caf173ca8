package mariadb

import (
	"context"
	"strconv"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/mysqldb"
	"github.com/lapse-access/lapse/internal/principal"
	"github.com/lapse-access/lapse/internal/sqlname"
)

func (o *operation) setCredential(ctx context.Context, req integrations.CredentialRequest) (cred integrations.Credential, err error) {
	a, err := o.find(ctx, req.Account)
	if err != nil {
		return cred, err
	}
	if err := a.admit(req.Sequence); err != nil {
		return cred, err
	}
	switch {
	case a.row == nil && a.stranger != nil:
		return cred, a.taken()
	case a.row == nil:
		return cred, access.Errorf(access.Invalid, "there is no account %s to give a password to", a.name)
	case a.row.Locked:
		return cred, access.Errorf(access.Invalid, "account %s holds nothing and gets no password", a.name)
	}
	password := integrations.Secret(principal.Password(a.name))
	identified, secret := o.identified(password)
	if err := o.Exec(ctx, o.alter(a, req.Sequence, identified, "", secret)); err != nil {
		return cred, o.withRemedy(mysqldb.During("setting the password of "+a.name, err), "GRANT CREATE USER ON *.* TO ?")
	}
	err = o.i.server.Endpoint.Login(ctx, dialect, a.name, password, "")
	if k := access.KindOf(err); k == access.Auth || k == access.Privilege {
		// Not the connector's own login, about which these kinds would speak.
		return cred, access.Errorf(access.Invalid, "account %s cannot log in with its new password: %v", a.name, err).
			WithRemedy("let account_host_pattern admit the host of the connector")
	}
	if err != nil {
		return cred, mysqldb.During("trying the new password of "+a.name, err)
	}
	if req.EndSessions {
		if _, err := o.endSessions(ctx, a, func(there *account) bool { return there.last >= req.Sequence }); err != nil {
			return cred, err
		}
	}
	return o.i.credential(a.name, password), nil
}

// NextSecret keeps the account and has another password.
func (i *integration) NextSecret() (any, error) {
	return &Secret{Username: i.server.User, Password: integrations.Secret(principal.Password(i.server.User))}, nil
}

// RotateSecret changes the password of the connector's own account, which every
// account may: https://mariadb.com/docs/server/reference/sql-statements/account-management-sql-statements/set-password
func (i *integration) RotateSecret(ctx context.Context, next any) error {
	password := next.(*Secret).Password
	err := i.inTurn(ctx, func(ctx context.Context, o *operation) error {
		set := o.Statement("SET PASSWORD = ?", sqlname.Literal(nativeHash(password)))
		type row struct{ Plugin string }
		mine, err := mysqldb.Ask[row](ctx, o.Conn, "SELECT COALESCE(JSON_VALUE(Priv, '$.plugin'), '') FROM mysql.global_priv WHERE User = ? AND Host = ?", o.Info.CurrentUser.User, o.Info.CurrentUser.Host)
		if err != nil || o.validates || len(mine) != 1 || mine[0].Plugin != "mysql_native_password" {
			set = o.Statement("SET PASSWORD = PASSWORD(?)", sqlname.Literal(password.Reveal()))
		}
		return mysqldb.During("changing the connector's own password", o.Exec(ctx, set))
	})
	if access.KindOf(err) == access.Auth && i.server.Endpoint.Login(ctx, dialect, i.server.User, password, "") == nil {
		return nil // an earlier attempt did it
	}
	return err
}

// clientTLS are the options of the mariadb client that stand for a tls_mode.
var clientTLS = map[string][]string{
	"disable":     {"--skip-ssl"},
	"preferred":   {},
	"required":    {"--ssl"},
	"verify-ca":   {"--ssl", "--ssl-verify-server-cert"},
	"verify-full": {"--ssl", "--ssl-verify-server-cert"},
}

// credential is what a person needs to log in. It names no database: what the
// person may open changes while the credential stays.
func (i *integration) credential(name string, password integrations.Secret) integrations.Credential {
	e := i.server.Endpoint
	details := map[string]string{"host": e.Host, "port": strconv.Itoa(e.Port), "tls_mode": i.config.TLSMode}
	words := []string{"mariadb", "--host=" + e.Host, "--port=" + strconv.Itoa(e.Port), "--user=" + name, "--password"}
	words = append(words, clientTLS[i.config.TLSMode]...)
	if i.config.CACertificate != "" {
		details["ca_certificate"] = i.config.CACertificate
	}
	for n, word := range words {
		if strings.ContainsFunc(word, special) {
			words[n] = integrations.ShellWord(word)
		}
	}
	return integrations.Credential{Username: name, Password: password, Command: strings.Join(words, " "), Details: details}
}

// special is true for what a shell would not take as it is.
func special(r rune) bool {
	return !strings.ContainsRune("-_=.:/@%+,", r) && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
}
