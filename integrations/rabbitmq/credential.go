package rabbitmq

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/principal"
	"github.com/lapse-access/lapse/internal/turn"
)

func (i *integration) setCredential(ctx context.Context, req integrations.CredentialRequest) (cred integrations.Credential, err error) {
	a, r, err := i.look(ctx, req.Account)
	switch {
	case err != nil:
		return cred, err
	case a.user == nil && a.stranger:
		return cred, a.taken()
	case a.user == nil:
		return cred, access.Errorf(access.Invalid, "there is no account %s to give a password to", a.name)
	}
	if len(r) == 0 && len(a.user.given()) == 0 {
		return cred, access.Errorf(access.Invalid, "account %s holds nothing and gets no password", a.name)
	}
	password := integrations.Secret(principal.Password(a.name))
	err = i.api.setPassword(ctx, *a.user, password)
	if access.KindOf(err) == access.Invalid {
		return cred, access.Errorf(access.Invalid, "the broker refuses a password for %s", a.name).
			WithRemedy("let the broker's credential_validator take passwords of %d letters, digits and signs", principal.PasswordLength)
	}
	if err != nil {
		return cred, during("setting the password of "+a.name, err)
	}
	if err := i.login(ctx, a.name, password); err != nil {
		return cred, err
	}
	if req.EndSessions {
		if _, err := i.endSessions(ctx, a.name); err != nil {
			return cred, err
		}
	}
	return i.credential(a.name, password, r), nil
}

// login proves a password by the API, which tells one that is wrong from a user
// who may not use it. Another node of the broker may hear of it a little later.
func (i *integration) login(ctx context.Context, name string, password integrations.Secret) error {
	api, err := i.as(name, password)
	if err != nil {
		return err
	}
	defer api.Close()
	err = turn.Until(ctx, func() (bool, error) {
		_, err := api.whoami(ctx)
		switch access.KindOf(err) {
		case "", access.Privilege:
			return true, nil
		case access.Auth:
			return false, nil
		}
		return false, err
	})
	return during("logging in as "+name+" with its new password", err)
}

// The ports of AMQP: https://www.rabbitmq.com/docs/networking#ports
var amqpPorts = map[string]string{"amqp": "5672", "amqps": "5671"}

// people is where people connect.
func (i *integration) people() (*url.URL, error) {
	if i.config.AMQPURL == "" {
		api, err := url.Parse(i.base)
		if err != nil {
			return nil, err
		}
		scheme := map[string]string{"http": "amqp", "https": "amqps"}[api.Scheme]
		return &url.URL{Scheme: scheme, Host: net.JoinHostPort(api.Hostname(), amqpPorts[scheme])}, nil
	}
	at, err := url.Parse(i.config.AMQPURL)
	if err != nil || amqpPorts[at.Scheme] == "" || at.Hostname() == "" || at.User != nil {
		return nil, fmt.Errorf("want amqp://HOST:PORT or amqps://HOST:PORT")
	}
	if at.Port() == "" {
		at.Host = net.JoinHostPort(at.Hostname(), amqpPorts[at.Scheme])
	}
	return at, nil
}

// credential is what a person needs to log in. The command is one of amqp-tools,
// and asks for the password.
func (i *integration) credential(name string, password integrations.Secret, r rights) integrations.Credential {
	at := *i.amqp
	c := integrations.Credential{Username: name, Password: password, Details: map[string]string{"host": at.Hostname(), "port": at.Port(), "tls": fmt.Sprint(at.Scheme == "amqps")}}
	vhosts := slices.DeleteFunc(order(r), func(p place) bool { return p.exchange != "" })
	if len(vhosts) == 0 {
		// Only tags: what there is for the account is the management API.
		c.Command = "curl --user " + name + " " + integrations.ShellWord(i.base+"/whoami")
		return c
	}
	c.Details["vhost"] = vhosts[0].vhost
	at.User, at.Path, at.RawPath = url.User(name), "/"+vhosts[0].vhost, "/"+url.PathEscape(vhosts[0].vhost)
	c.Details["uri"] = at.String()
	ssl := ""
	if at.Scheme == "amqps" {
		ssl = " --ssl"
	}
	command, what := "amqp-publish", " --exchange=EXCHANGE --routing-key=KEY --body=TEXT"
	if !r[vhosts[0]][read].empty() {
		command, what = "amqp-get", " --queue=QUEUE"
	}
	c.Command = "read -rs AMQP_PASSWORD; " + command + " --server=" + at.Hostname() + " --port=" + at.Port() + ssl +
		" --vhost=" + integrations.ShellWord(vhosts[0].vhost) + " --username=" + name + ` --password="$AMQP_PASSWORD"` + what
	return c
}

// NextSecret keeps the login and has another password.
func (i *integration) NextSecret() (any, error) {
	next := i.secret
	next.Password = integrations.Secret(principal.Password(next.Username))
	return &next, nil
}

// RotateSecret changes the password of the connector's own user. Repeated it
// finds that the next one is taken already.
func (i *integration) RotateSecret(ctx context.Context, next any) error {
	ctx, cancel := turn.Bounded(ctx)
	defer cancel()
	secret := next.(*Secret)
	me, err := i.api.user(ctx, i.secret.Username)
	if access.KindOf(err) == access.Auth {
		return i.login(ctx, secret.Username, secret.Password)
	}
	if err != nil {
		return during("reading the connector's own user", err)
	}
	if err := i.api.setPassword(ctx, me, secret.Password); err != nil {
		return during("changing the connector's own password", err)
	}
	return i.login(ctx, secret.Username, secret.Password)
}
