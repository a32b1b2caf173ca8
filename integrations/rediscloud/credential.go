package rediscloud

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/principal"
)

func (i *integration) setCredential(ctx context.Context, req integrations.CredentialRequest) (cred integrations.Credential, err error) {
	var o owned
	var password integrations.Secret
	err = i.account.runGiving(ctx, func(ctx context.Context) error {
		if err := i.idle(ctx, req.Account); err != nil {
			return err
		}
		if o, err = i.find(ctx, req.Account); err != nil {
			return err
		}
		if o.stranger {
			return o.taken()
		}
		if o.user == nil {
			return access.Errorf(access.Invalid, "account %s holds nothing", o.name)
		}
		password = integrations.Secret(principal.Password(o.name))
		err := i.change(ctx, req.Account, http.MethodPut, []string{"acl", "users", strconv.Itoa(o.user.ID)}, userBody{Role: o.user.Role, Password: password.Reveal()})
		if err != nil {
			// The next attempt makes another password; nothing is to be waited for.
			i.running.Delete(req.Account.ID)
		}
		return err
	})
	if err != nil {
		return cred, err
	}
	places, err := i.endpoints(ctx, o.holding())
	if err != nil {
		return cred, err
	}
	if err := i.try(ctx, req.Account, o.name, password, places); err != nil {
		return cred, err
	}
	return o.credential(password, places), nil
}

// endpoint is where a database of the account is reached.
type endpoint struct {
	label      string // SUBSCRIPTION/DATABASE
	host, port string
	id         int
	tls        bool
	clientTLS  bool
	of         subscription
}

var (
	hostForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]*$`)
	portForm = regexp.MustCompile(`^[0-9]{1,5}$`)
)

// split takes an address apart, which will stand in the command that people paste
// into a terminal.
func split(address string) (host, port string, ok bool) {
	host, port, err := net.SplitHostPort(address)
	return host, port, err == nil && hostForm.MatchString(host) && portForm.MatchString(port)
}

// endpoints reads where the databases of a role are, in the order of their labels.
func (i *integration) endpoints(ctx context.Context, has *role) (all []endpoint, err error) {
	c, err := i.catalog(ctx)
	if err != nil {
		return nil, err
	}
	bySubscription := map[int][]int{}
	for p := range has.grants() {
		bySubscription[p.subscription] = append(bySubscription[p.subscription], p.database)
	}
	for _, s := range c.subscriptions {
		if len(bySubscription[s.ID]) == 0 {
			continue
		}
		databases, err := i.everyDatabase(ctx, s)
		if err != nil {
			return nil, err
		}
		for _, d := range databases {
			if !slices.Contains(bySubscription[s.ID], d.ID) {
				continue
			}
			for _, address := range i.addresses(d) {
				if host, port, ok := split(address); ok {
					all = append(all, endpoint{label: c.label(s) + "/" + d.Name, host: host, port: port, id: d.ID, tls: d.Security.TLS, clientTLS: d.Security.ClientTLS, of: s})
				}
			}
		}
	}
	slices.SortStableFunc(all, func(a, b endpoint) int { return strings.Compare(a.label, b.label) })
	return all, nil
}

func (i *integration) addresses(d database) (all []string) {
	public, dynamic := d.PublicEndpoint, d.Dynamic.Public
	if i.config.Endpoint == "private" {
		public, dynamic = d.PrivateEndpoint, d.Dynamic.Private
	}
	for _, r := range d.Regions {
		if i.config.Endpoint == "private" {
			r.PublicEndpoint = r.PrivateEndpoint
		}
		all = append(all, r.PublicEndpoint)
	}
	if public == "" {
		public = dynamic
	}
	return append(all, public)
}

// try logs in to one of the databases, as soon as it knows the password. Where
// that cannot be tried the user has to be active, twice.
func (i *integration) try(ctx context.Context, who access.Account, name string, password integrations.Secret, all []endpoint) error {
	n := slices.IndexFunc(all, func(e endpoint) bool { return !e.clientTLS })
	if n < 0 || !i.config.CheckLogin {
		return i.confirm(ctx, func() (string, error) {
			o, err := i.find(ctx, who)
			if err != nil {
				return "", err
			}
			if o.user == nil {
				return "user " + name + " is not there", nil
			}
			return o.unsettled()
		})
	}
	config, err := i.tls(ctx, all[n])
	if err != nil {
		return err
	}
	return i.until(ctx, func() (string, error) {
		in, err := login(ctx, all[n], config, name, password)
		if err != nil {
			return "", access.Errorf(access.Retry, "database %s does not let the new password be tried at %s:%s: %w", all[n].label, all[n].host, all[n].port, err).
				WithRemedy("let the connector reach it, choose another endpoint, or set check_login to false")
		}
		if !in {
			return "database " + all[n].label + " does not take the new password yet", nil
		}
		return "", nil
	})
}

// loginTimeout bounds one login.
const loginTimeout = 10 * time.Second

// login tries a password by AUTH: https://redis.io/docs/latest/commands/auth/
func login(ctx context.Context, e endpoint, config *tls.Config, name string, password integrations.Secret) (in bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(e.host, e.port))
	if err != nil {
		return false, errors.New("nobody answers")
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if config != nil {
		encrypted := tls.Client(conn, config)
		if err := encrypted.HandshakeContext(ctx); err != nil {
			return false, errors.New("TLS does not work, or the certificate does not hold")
		}
		conn = encrypted
	}
	command := "*3\r\n"
	for _, word := range []string{"AUTH", name, password.Reveal()} {
		command += fmt.Sprintf("$%d\r\n%s\r\n", len(word), word)
	}
	if _, err := io.WriteString(conn, command); err != nil {
		return false, errors.New("the connection broke")
	}
	answer, err := bufio.NewReader(io.LimitReader(conn, 4096)).ReadString('\n')
	switch {
	case err != nil:
		return false, errors.New("the connection broke")
	case strings.HasPrefix(answer, "+OK"):
		return true, nil
	case strings.HasPrefix(answer, "-WRONGPASS"):
		return false, nil
	}
	return false, errors.New("it does not answer as Redis does")
}

// tls is how a database proves itself: by the system's authorities or by the
// certificate that the API has of it.
func (i *integration) tls(ctx context.Context, e endpoint) (*tls.Config, error) {
	if !e.tls {
		return nil, nil
	}
	pem, err := i.certificate(ctx, e.of, e.id)
	if err != nil && access.KindOf(err) != access.ResourceMissing {
		return nil, err
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	roots.AppendCertsFromPEM([]byte(pem))
	return &tls.Config{RootCAs: roots, ServerName: e.host}, nil
}

// credential says how to use the password: a command for the first database, and
// where each of them is.
func (o owned) credential(password integrations.Secret, all []endpoint) integrations.Credential {
	c := integrations.Credential{Username: o.name, Password: password, Command: "redis-cli --user " + o.name + " --askpass", Details: map[string]string{}}
	for n, e := range all {
		how := map[string]string{"host": e.host, "port": e.port, "tls": strconv.FormatBool(e.tls)}
		if n > 0 {
			how = map[string]string{fmt.Sprintf("database %s", e.label): net.JoinHostPort(e.host, e.port)}
		} else {
			how["database"] = e.label
			c.Command = "redis-cli -h " + e.host + " -p " + e.port
			if e.tls {
				c.Command += " --tls"
			}
			c.Command += " --user " + o.name + " --askpass"
		}
		maps.Copy(c.Details, how)
	}
	return c
}
