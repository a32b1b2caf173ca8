package notify

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/http/httptest"
	netmail "net/mail"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/store"
)

// letter is what a mail server took.
type letter struct {
	from string
	to   []string
	text string
}

// office is a mail server.
type office struct {
	*smtp.Server
	port      int
	authority string

	mu      sync.Mutex
	letters []letter
	logins  []string         // as whom somebody logged in
	refuse  map[string]error // by command: AUTH, MAIL, RCPT, DATA
	asked   []string         // commands that came
}

// open starts a mail server: with starttls, implicit TLS, or none.
func open(t testing.TB, protect string) *office {
	t.Helper()
	certificate := httptest.NewTLSServer(nil)
	certificate.Close()
	o := &office{refuse: map[string]error{}, authority: authority(certificate)}
	o.Server = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &visit{office: o, conn: c}, nil }))
	o.Domain, o.MaxMessageBytes, o.AllowInsecureAuth, o.ErrorLog = "localhost", 1<<20, true, quiet{}
	verified := &tls.Config{Certificates: certificate.TLS.Certificates}
	if protect == "starttls" {
		o.TLSConfig = verified
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.port = l.Addr().(*net.TCPAddr).Port
	if protect == "implicit" {
		l = tls.NewListener(l, verified)
	}
	go o.Serve(l)
	t.Cleanup(func() { o.Close() })
	return o
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

// ask notes a command, and says why it is refused.
func (o *office) ask(command string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = append(o.asked, command)
	return o.refuse[command]
}

func (o *office) taken() []letter {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.letters)
}

// visit is one connection.
type visit struct {
	*office
	conn *smtp.Conn
	letter
}

func (v *visit) AuthMechanisms() []string { return []string{sasl.Plain, sasl.Login} }

func (v *visit) Auth(mechanism string) (sasl.Server, error) {
	if err := v.ask("AUTH"); err != nil {
		return nil, err
	}
	return sasl.NewPlainServer(func(_, username, password string) error {
		if _, protected := v.conn.TLSConnectionState(); username != "lapse" || password != canary || !protected {
			return &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: password + " is not the password"}
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		v.logins = append(v.logins, username)
		return nil
	}), nil
}

func (v *visit) Mail(from string, _ *smtp.MailOptions) error {
	v.letter.from = from
	return v.ask("MAIL")
}

func (v *visit) Rcpt(to string, _ *smtp.RcptOptions) error {
	v.letter.to = append(v.letter.to, to)
	return v.ask("RCPT")
}

func (v *visit) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	v.letter.text = string(text)
	if err := v.ask("DATA"); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.letters = append(v.letters, v.letter)
	return nil
}

func (v *visit) Reset()        { v.letter = letter{} }
func (v *visit) Logout() error { return nil }

// at is the configuration of an office.
func (o *office) at(r *rig, protect string) *config.Email {
	e := &config.Email{Hostname: "127.0.0.1", Port: o.port, From: "lapse@example.com", TLS: protect}
	if protect != "none" {
		secret := r.secret("mail", `{"password": "`+canary+`"}`)
		e.CACertificate, e.Username, e.Secret = o.authority, "lapse", &secret
	}
	return e
}

// read is the one letter that an office took.
func (o *office) read(t testing.TB) (letter, *netmail.Message, string) {
	t.Helper()
	letters := o.taken()
	if len(letters) != 1 {
		t.Fatalf("%d letters: %+v", len(letters), letters)
	}
	m, err := netmail.ReadMessage(strings.NewReader(letters[0].text))
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Header.Get("Content-Transfer-Encoding"); got != "quoted-printable" {
		t.Fatalf("encoding %q", got)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil {
		t.Fatal(err)
	}
	return letters[0], m, string(bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n")))
}

func TestMail(t *testing.T) {
	for _, protect := range []string{"starttls", "implicit", "none"} {
		t.Run(protect, func(t *testing.T) {
			r, o := newRig(t), open(t, protect)
			r.apply(config.Notify{Email: o.at(r, protect)})
			r.tell(ana, access.Notice{Kind: access.NoticeReview, RequestID: "req-1",
				Text: "Bo took ädmin on shop.\r\n.\r\nBcc: eve@example.com\r\n\r\nhttps://evil.example.com " + strings.Repeat("long ", 300), At: noon.Add(-time.Hour)})
			r.send(config.ChannelEmail)
			r.later(24 * time.Hour)
			r.send(config.ChannelEmail)
			l, m, body := o.read(t)
			if l.from != "lapse@example.com" || !slices.Equal(l.to, []string{ana}) {
				t.Errorf("from %s to %q", l.from, l.to)
			}
			rows, err := r.Store.Notices(t.Context(), store.NoticeFilter{Person: r.person(ana).ID})
			if err != nil {
				t.Fatal(err)
			}
			subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
			if err != nil {
				t.Error(err)
			}
			for name, want := range map[string]string{
				"From": "<lapse@example.com>", "To": "<" + ana + ">", "Subject": "Lapse: A review is due", "Auto-Submitted": "auto-generated", "Bcc": "", "Cc": "",
				"Message-Id": "<" + rows[0].ID + "@" + r.Store.Instance() + ">", "Content-Type": "text/plain; charset=UTF-8",
			} {
				got := m.Header.Get(name)
				if name == "Subject" {
					got = subject
				}
				if got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			if at, err := m.Header.Date(); err != nil || !at.Equal(noon.Add(-time.Hour)) {
				t.Errorf("date %v, %v", at, err)
			}
			want := "Bo took ädmin on shop. . Bcc: eve@example.com https://evil.example.com " + strings.TrimSpace(strings.Repeat("long ", 300)) + "\n\nhttps://lapse.example.com/p/requests/req-1\n"
			if strings.TrimRight(body, "\n") != strings.TrimRight(want, "\n") {
				t.Errorf("body %q\nwant %q", body, want)
			}
			if want := map[bool][]string{true: {"lapse"}}[protect != "none"]; !slices.Equal(o.logins, want) {
				t.Errorf("logins %q, want %q", o.logins, want)
			}
			if r.log.String() != "" {
				t.Errorf("log: %s", r.log)
			}
			r.kept(canary)
		})
	}
}

// A mail server that is down for a while gets each notice once it is back, once.
func TestMailDown(t *testing.T) {
	r, o := newRig(t), open(t, "starttls")
	e := o.at(r, "starttls")
	port := e.Port
	e.Port = 1
	r.apply(config.Notify{Email: e})
	r.tell(ana, access.Notice{})
	r.send(config.ChannelEmail)
	r.logged("the mail server does not answer")
	e.Port = port
	r.apply(config.Notify{Email: e})
	for _, refuse := range []struct{ command, says string }{{"AUTH", "answers 454"}, {"MAIL", "answers 451"}, {"RCPT", "answers 452"}, {"DATA", "answers 554"}} {
		code := 0
		fmt.Sscanf(refuse.says, "answers %d", &code)
		o.mu.Lock()
		o.refuse = map[string]error{refuse.command: &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, 0, 0}, Message: "your password is " + canary}}
		o.mu.Unlock()
		r.later(time.Hour)
		r.send(config.ChannelEmail)
		r.logged("the mail server " + refuse.says)
	}
	o.mu.Lock()
	o.refuse = nil
	o.mu.Unlock()
	for range 2 {
		r.later(time.Hour)
		r.send(config.ChannelEmail)
	}
	if got := o.taken(); len(got) != 1 {
		t.Errorf("%d letters", len(got))
	}
	if got := r.failures(); len(got) > 0 {
		t.Errorf("%q", got)
	}
	r.kept(canary)
}

// A mailbox that is not there is not tried again and again.
func TestMailboxThatIsNotThere(t *testing.T) {
	r, o := newRig(t), open(t, "starttls")
	o.refuse["RCPT"] = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user, and " + canary}
	r.cfg.People = append(r.cfg.People, config.Person{Email: `eve@example.com>,<x@y.z`}, config.Person{Email: `"a>ORCPT=b"@example.com`})
	r.apply(config.Notify{Email: o.at(r, "starttls")})
	r.tell(ana, access.Notice{})
	r.send(config.ChannelEmail)
	if got := r.failures(); len(got) != 1 || !strings.HasSuffix(got[0], "the mail server answers 550") {
		t.Errorf("%q", got)
	}
	before := len(o.asked)
	for _, p := range r.cfg.People[2:] {
		r.tell(p.Email, access.Notice{})
	}
	r.send(config.ChannelEmail)
	if got := r.failures(); len(got) != 3 || !strings.HasSuffix(got[2], "the address is none that mail can be sent to") || len(o.asked) != before {
		t.Errorf("%q, %q", got, o.asked)
	}
	r.kept(canary)
}

// What cannot be trusted gets neither the password nor a letter.
func TestMailIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		server string
		change func(r *rig, e *config.Email)
		says   string
	}{
		"a certificate of nobody that is known": {"starttls", func(_ *rig, e *config.Email) { e.CACertificate = "" }, "the certificate of the mail server does not hold"},
		"a certificate of another name":         {"starttls", func(_ *rig, e *config.Email) { e.Hostname = "localhost" }, "the certificate of the mail server does not hold"},
		"the same with implicit TLS":            {"implicit", func(_ *rig, e *config.Email) { e.CACertificate = "" }, "the certificate of the mail server does not hold"},
		"no STARTTLS":                           {"none", func(*rig, *config.Email) {}, "the mail server offers no STARTTLS, or no login"},
		"no TLS where it begins with it":        {"none", func(_ *rig, e *config.Email) { e.TLS = "implicit" }, "the connection to the mail server broke"},
		"a wrong password":                      {"starttls", func(r *rig, e *config.Email) { *e.Secret = r.secret("mail", `{"password": "wrong `+canary+`"}`) }, "the mail server answers 535"},
		"a password that is not there":          {"starttls", func(_ *rig, e *config.Email) { e.Secret.Key = "nowhere" }, "secret file nowhere: open"},
		"the secret of a target, with a user name": {"starttls", func(r *rig, e *config.Email) {
			*e.Secret = r.secret("mail", `{"username": "admin", "password": "`+canary+`"}`)
		}, "secret file mail"},
	} {
		t.Run(name, func(t *testing.T) {
			r, o := newRig(t), open(t, tc.server)
			e := o.at(r, "starttls")
			if tc.server == "implicit" {
				e.TLS = "implicit"
			}
			tc.change(r, e)
			r.apply(config.Notify{Email: e})
			r.tell(ana, access.Notice{})
			r.send(config.ChannelEmail)
			r.logged(tc.says, "given_up=false")
			if got := o.taken(); len(got) > 0 || slices.Contains(o.asked, "MAIL") {
				t.Errorf("letters %+v", got)
			}
			if tc.says != "the mail server answers 535" && slices.Contains(o.asked, "AUTH") {
				t.Error("it was asked to log us in")
			}
			r.kept(canary)
		})
	}
}

// A letter that was taken is not sent again because the rest of the talk broke.
func TestMailIsTakenOnce(t *testing.T) {
	r := newRig(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	talks := make(chan error, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			talks <- func() error {
				defer c.Close()
				for _, answer := range []string{"220 localhost", "250 localhost", "250 ok", "250 ok", "354 go on"} {
					if _, err := fmt.Fprintf(c, "%s\r\n", answer); err != nil {
						return err
					}
					buf := make([]byte, 4096)
					if _, err := c.Read(buf); err != nil {
						return err
					}
				}
				_, err := io.WriteString(c, "250 taken\r\n")
				return err // and is gone
			}()
		}
	}()
	r.apply(config.Notify{Email: &config.Email{Hostname: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, From: "lapse@example.com", TLS: "none"}})
	r.tell(ana, access.Notice{})
	r.send(config.ChannelEmail)
	r.later(24 * time.Hour)
	r.send(config.ChannelEmail)
	if err := errors.Join(<-talks); err != nil {
		t.Error(err)
	}
	if len(talks) > 0 || r.log.String() != "" {
		t.Errorf("it was sent %d times more: %s", len(talks), r.log)
	}
}
