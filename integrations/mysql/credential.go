package mysql

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

func (s *session) setCredential(ctx context.Context, req integrations.CredentialRequest) (cred integrations.Credential, err error) {
	a, err := s.find(ctx, req.Account)
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
		return cred, access.Errorf(access.Invalid, "there is no account %s to give a password to", a.User)
	case a.row.Locked:
		return cred, access.Errorf(access.Invalid, "account %s holds nothing and gets no password", a.User)
	}
	if err := s.exec(ctx, s.numbered(a, req.Sequence, "")...); err != nil {
		return cred, mysqldb.During("changing "+a.User, err)
	}
	password, err := s.setPassword(ctx, a)
	if err != nil {
		return cred, mysqldb.During("setting the password of "+a.User, err)
	}
	if err := s.login(ctx, a, password); err != nil {
		return cred, err
	}
	if req.EndSessions {
		if _, err := s.endSessions(ctx, a); err != nil {
			return cred, err
		}
	}
	return s.i.credential(a.User, password), nil
}

// NextSecret keeps the account and has another password.
func (i *integration) NextSecret() (any, error) {
	return &Secret{Username: i.server.User, Password: integrations.Secret(principal.Password(i.server.User))}, nil
}

// RotateSecret changes the password of the connector's own account, which every
// account may: https://dev.mysql.com/doc/refman/8.4/en/alter-user.html
func (i *integration) RotateSecret(ctx context.Context, next any) error {
	password := next.(*Secret).Password
	err := i.inTurn(ctx, func(ctx context.Context, s *session) error {
		return mysqldb.During("changing the connector's own password", s.Exec(ctx, s.Statement("ALTER USER USER() IDENTIFIED BY ?", sqlname.Literal(password.Reveal()))))
	})
	if access.KindOf(err) == access.Auth && i.server.Endpoint.Login(ctx, dialect, i.server.User, password, "") == nil {
		return nil // an earlier attempt did it
	}
	return err
}

// passwords bounds how many are tried on a server whose policy refuses some.
const passwords = 5

// withPassword carries out a statement with a new password, and with another one
// when the server's policy does not like it: that has a dictionary, perhaps.
// https://dev.mysql.com/doc/refman/8.4/en/validate-password.html
func (s *session) withPassword(ctx context.Context, user string, statement func(integrations.Secret) sqlname.Statement) (err error) {
	for range passwords {
		err = s.exec(ctx, statement(s.NewPassword(user)))
		if n := mysqldb.Number(err); n != 1819 && n != 3638 {
			return err
		}
	}
	return err
}

// identified adds the plugin, where one is configured, and the password.
func (s *session) identified(text string) (string, func(integrations.Secret) []sqlname.Fragment) {
	plugin := s.i.config.AuthenticationPlugin
	if plugin == "" {
		return text + " IDENTIFIED BY ?", func(p integrations.Secret) []sqlname.Fragment { return []sqlname.Fragment{sqlname.Literal(p.Reveal())} }
	}
	return text + " IDENTIFIED WITH ? BY ?", func(p integrations.Secret) []sqlname.Fragment {
		return []sqlname.Fragment{sqlname.Ident(plugin), sqlname.Literal(p.Reveal())}
	}
}

// setPassword gives an account a new password. Whatever it had is dead then, a
// second one beside it as well:
// https://dev.mysql.com/doc/refman/8.4/en/password-management.html#dual-passwords
func (s *session) setPassword(ctx context.Context, a *account) (password integrations.Secret, err error) {
	text, with := s.identified("ALTER USER ?")
	err = s.withPassword(ctx, a.User, func(p integrations.Secret) sqlname.Statement {
		password = p
		return s.Statement(text, append([]sqlname.Fragment{a.Principal}, with(p)...)...)
	})
	if err == nil && s.Info.Version >= 80014 {
		err = s.exec(ctx, s.Statement("ALTER USER ? DISCARD OLD PASSWORD", a.Principal))
	}
	return password, err
}

// scramble gives an account a password that nobody knows.
func (s *session) scramble(ctx context.Context, a *account) error {
	_, err := s.setPassword(ctx, a)
	return mysqldb.During("changing the password of "+a.User, err)
}

// login proves a password by a connection of its own.
func (s *session) login(ctx context.Context, a *account, password integrations.Secret) error {
	err := s.i.server.Endpoint.Login(ctx, dialect, a.User, password, "")
	if access.KindOf(err) == access.Auth {
		// Auth would say that the connector's own password does not hold.
		return access.Errorf(access.Invalid, "account %s cannot log in with its new password: %v", a.User, err).
			WithRemedy("let account_host_pattern match the connector's host too, and look for an account without a name at another host")
	}
	return mysqldb.During("trying the new password of "+a.User, err)
}

// credential is what a person needs to log in. It names no database: with one
// that is not theirs any more the login would fail.
func (i *integration) credential(name string, password integrations.Secret) integrations.Credential {
	e := i.server.Endpoint
	port := strconv.Itoa(e.Port)
	details := map[string]string{"host": e.Host, "port": port, "tls_mode": i.config.TLSMode}
	if i.config.CACertificate != "" {
		details["ca_certificate"] = i.config.CACertificate
	}
	words := []string{"mysql", "--host=" + e.Host, "--port=" + port, "--user=" + name, "--password", "--ssl-mode=" + clientTLS(i.config.TLSMode)}
	for n, w := range words {
		if strings.Trim(w, plainWord) != "" {
			words[n] = integrations.ShellWord(w)
		}
	}
	return integrations.Credential{Username: name, Password: password, Command: strings.Join(words, " "), Details: details}
}

const plainWord = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.=:,/@%+"

// clientTLS is the mode for the mysql client, which needs a file of authorities
// to verify: https://dev.mysql.com/doc/refman/8.4/en/connection-options.html#option_general_ssl-mode
func clientTLS(mode string) string {
	switch mode {
	case "disable":
		return "DISABLED"
	case "preferred":
		return "PREFERRED"
	}
	return "REQUIRED"
}
