package notify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/textproto"
	"strings"

	gomail "github.com/wneessen/go-mail"

	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/store"
)

// login is the secret of a mail server.
type login struct {
	Password integrations.Secret `json:"password" doc:"password of the login on the mail server"`
}

// mail hands a notice to the mail server, as plain text. The headers hold
// nothing that somebody wrote but the two addresses, which are parsed.
func mail(ctx context.Context, s *Sender, cfg config.Config, d store.Delivery) *failure {
	const who = "the mail server"
	e := cfg.Notify.Email
	if e == nil {
		return failed("there is no mail server in the configuration any more")
	}
	if !config.Mailbox(d.Person.Email) {
		return &failure{text: "the address is none that mail can be sent to", final: true}
	}
	letter, err := compose(e.From, s.Store.Instance(), link(cfg, d.NoticeRow), d)
	if err != nil {
		return failed("the mail cannot be written")
	}
	options, why := s.options(ctx, e)
	if why != nil {
		return why
	}
	client, err := gomail.NewClient(e.Hostname, options...)
	if err != nil {
		return failed("%s cannot be used as it is configured", who)
	}
	err = client.DialAndSendWithContext(ctx, letter)
	if err == nil || letter.IsDelivered() { // an error after that does not count
		return nil
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if refused, ok := errors.AsType[*gomail.SendError](err); ok && refused.ErrorCode() > 0 {
		why := failed("%s answers %d", who, refused.ErrorCode())
		why.final = refused.Reason == gomail.ErrSMTPRcptTo && refused.ErrorCode() >= 500
		return why
	}
	if refused, ok := errors.AsType[*textproto.Error](err); ok {
		return failed("%s answers %d", who, refused.Code)
	}
	if strings.Contains(err.Error(), "does not support") { // as the library says it
		return failed("%s offers no STARTTLS, or no login", who)
	}
	return unanswered(who, err)
}

// compose writes the mail. Its id stays the same however often it is sent.
//
// https://www.rfc-editor.org/rfc/rfc3834#section-5 (Auto-Submitted)
func compose(from, instance, link string, d store.Delivery) (*gomail.Msg, error) {
	text := d.Text + "\n"
	if link != "" {
		text += "\n" + link + "\n"
	}
	m := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	m.SetMessageIDWithValue(d.ID + "@" + instance)
	m.SetDateWithValue(d.At)
	m.SetGenHeader("Auto-Submitted", "auto-generated")
	m.Subject("Lapse: " + d.Kind.Title())
	m.SetBodyString(gomail.TypeTextPlain, text)
	return m, errors.Join(m.From(from), m.To(d.Person.Email))
}

// options are how the mail server is talked to.
func (s *Sender) options(ctx context.Context, e *config.Email) ([]gomail.Option, *failure) {
	verify := &tls.Config{ServerName: e.Hostname, MinVersion: tls.VersionTLS12}
	if e.CACertificate != "" {
		verify.RootCAs = x509.NewCertPool()
		if !verify.RootCAs.AppendCertsFromPEM([]byte(e.CACertificate)) {
			return nil, failed("the CA certificate is not PEM")
		}
	}
	dial := func(_ context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, func() { conn.Close() }) // the library bounds each step, and this all of them
		if e.TLS == "implicit" {
			return tls.Client(conn, verify), nil
		}
		return conn, nil
	}
	options := []gomail.Option{gomail.WithPort(e.Port), gomail.WithTimeout(timeout), gomail.WithTLSConfig(verify), gomail.WithDialContextFunc(dial), gomail.WithoutNoop()}
	switch e.TLS {
	case "implicit":
		options = append(options, gomail.WithSSL())
	case "none":
		options = append(options, gomail.WithTLSPolicy(gomail.NoTLS))
	default:
		options = append(options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	}
	if e.Secret == nil {
		return options, nil
	}
	var secret login
	if err := s.Secrets.Resolve(ctx, *e.Secret, &secret); err != nil {
		return nil, failed("%v", err)
	}
	return append(options, gomail.WithUsername(e.Username), gomail.WithPassword(secret.Password.Reveal()),
		gomail.WithOpportunisticSMTPAuth(gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthSCRAMSHA1, gomail.SMTPAuthPlain, gomail.SMTPAuthLogin)), nil
}
