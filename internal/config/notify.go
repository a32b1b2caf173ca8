package config

import (
	"crypto/x509"
	"net/mail"
	"net/netip"
	"net/url"

	"github.com/lapse-access/lapse/internal/secrets"
)

// Notify says over which channels people are told, beside the portal.
type Notify struct {
	Webhook *Webhook `json:"webhook,omitempty" doc:"an address to which every notice is posted"`
	Email   *Email   `json:"email,omitempty" doc:"the server that mail is handed to"`
}

// Names of the channels.
const (
	ChannelWebhook = "webhook"
	ChannelEmail   = "email"
)

// Channels are those that are configured.
func (n Notify) Channels() (names []string) {
	if n.Webhook != nil {
		names = append(names, ChannelWebhook)
	}
	if n.Email != nil {
		names = append(names, ChannelEmail)
	}
	return names
}

// Webhook is an address to which every notice is posted.
type Webhook struct {
	URL           string      `json:"url" doc:"address of the receiver, with https; http is for this machine only" example:"https://hooks.example.com/lapse" maxLength:"2000"`
	CACertificate string      `json:"ca_certificate,omitempty" doc:"PEM certificates of the authorities that may sign the receiver's certificate; the system's when empty" example:"-----BEGIN CERTIFICATE----- ..."`
	Secret        secrets.Ref `json:"secret" doc:"where the control worker finds the key that signs what is posted"`
}

// Email is the server that mail is handed to.
type Email struct {
	Hostname      string       `json:"hostname" doc:"name of the mail server" example:"smtp.example.com" pattern:"^[A-Za-z0-9.-]+$" maxLength:"253"`
	Port          int          `json:"port" doc:"TCP port; 465 is usual for implicit TLS" default:"587" minimum:"1" maximum:"65535"`
	From          string       `json:"from" doc:"address that the mail comes from" example:"lapse@example.com" maxLength:"254"`
	TLS           string       `json:"tls" doc:"how the connection is protected; none is for a server on this machine only" enum:"starttls,implicit,none" default:"starttls"`
	CACertificate string       `json:"ca_certificate,omitempty" doc:"PEM certificates of the authorities that may sign the server's certificate; the system's when empty" example:"-----BEGIN CERTIFICATE----- ..."`
	Username      string       `json:"username,omitempty" doc:"login on the mail server" example:"lapse" maxLength:"320"`
	Secret        *secrets.Ref `json:"secret,omitempty" doc:"where the control worker finds the password of the login"`
}

// Mailbox is an address that is nothing but an address.
func Mailbox(address string) bool {
	a, err := mail.ParseAddress(address)
	return err == nil && a.Name == "" && a.Address == address
}

// thisMachine reports whether a host is the machine that Lapse runs on.
func thisMachine(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// unfit says what keeps an address from being one that a path is put behind, and
// that nobody can listen in on.
func unfit(raw string) (wrong, fix string) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return "is not an address", "write https://HOST or https://HOST/PATH"
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "has more than a host and a path", "a secret does not belong into an address"
	case u.Scheme == "http" && !thisMachine(u.Hostname()):
		return "is not protected", "use https"
	}
	return "", ""
}

// notices checks how people are told.
func (c *checker) notices() {
	address := func(at place, raw string) {
		if wrong, fix := unfit(raw); wrong != "" && raw != "" && !c.faulty(at) {
			c.fault(at, fix, "%s", wrong)
		}
	}
	authorities := func(at place, pem string) {
		if pem != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(pem)) {
			c.fault(at, "give the certificates as they stand in a .pem file", "is not PEM")
		}
	}
	address(place{"portal_url"}, c.cfg.PortalURL)
	if w, at := c.cfg.Notify.Webhook, (place{"notify", "webhook"}); w != nil {
		address(at.at("url"), w.URL)
		authorities(at.at("ca_certificate"), w.CACertificate)
		c.variable(at.at("secret", "key"), w.Secret)
	}
	e, at := c.cfg.Notify.Email, place{"notify", "email"}
	if e == nil {
		return
	}
	authorities(at.at("ca_certificate"), e.CACertificate)
	if e.From != "" && !Mailbox(e.From) {
		c.fault(at.at("from"), "write lapse@example.com", "is not an address alone")
	}
	if e.TLS == "none" && e.Hostname != "" && !thisMachine(e.Hostname) {
		c.fault(at.at("tls"), "use starttls or implicit", "what people are told would be readable on the way")
	}
	switch {
	case (e.Username == "") != (e.Secret == nil):
		c.fault(at.at("username"), "give both, or none", "a login has a username and a secret")
	case e.Secret != nil && e.TLS == "none":
		c.fault(at.at("tls"), "use starttls or implicit", "a password is not sent without TLS")
	case e.Secret != nil:
		c.variable(at.at("secret", "key"), *e.Secret)
	}
}

// variable finds a secret in the place of the name of the variable that holds it.
func (c *checker) variable(at place, ref secrets.Ref) {
	if ref.Store == "env" && ref.Key != "" && !variable.MatchString(ref.Key) {
		c.fault(at, "write the name of the variable here and the secret into the variable", "is not the name of an environment variable")
	}
}
