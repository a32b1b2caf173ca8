package postgresql

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
	"go.yaml.in/yaml/v4"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/spec"
)

func TestQuoting(t *testing.T) {
	for _, test := range []struct {
		name     string
		fragment fragment
		want     string
	}{
		{"a plain name", ident("orders"), `"orders"`},
		{"quotes are doubled", ident(`a"b`), `"a""b"`},
		{"an injection stays a name", ident(`x"; DROP TABLE y; --`), `"x""; DROP TABLE y; --"`},
		{"a name in a schema", qualified{"s", `t"`}, `"s"."t"""`},
		{"a list", list{ident("a"), qualified{"b", "c"}}, `"a", "b"."c"`},
		{"the longest name", ident(strings.Repeat("x", 63)), `"` + strings.Repeat("x", 63) + `"`},
		{"a text", literal("it's"), `E'it''s'`},
		{"a text with a backslash", literal(`a\'b`), `E'a\\''b'`},
		{"an empty text", literal(""), `E''`},
		{"keywords", keywords{"SELECT", "INSERT"}, `SELECT, INSERT`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.fragment.sql()
			if err != nil || got != test.want {
				t.Errorf("got %s, %v; want %s", got, err, test.want)
			}
		})
	}
}

func TestQuotingRefuses(t *testing.T) {
	for _, test := range []struct {
		name     string
		fragment fragment
	}{
		{"an empty name", ident("")},
		{"a name with NUL", ident("a\x00b")},
		{"a name that PostgreSQL would cut", ident(strings.Repeat("x", 64))},
		{"a name that is too long in bytes", ident(strings.Repeat("ü", 32))},
		{"a list with a bad name", list{ident("a"), ident("")}},
		{"a table in a nameless schema", qualified{"", "t"}},
		{"a text with NUL", literal("a\x00b")},
	} {
		t.Run(test.name, func(t *testing.T) {
			if s := ddl("DROP ROLE ?", test.fragment); s.err == nil {
				t.Errorf("got %s, want an error", s.text)
			}
		})
	}
}

func TestStatement(t *testing.T) {
	got := ddl("GRANT ? ON TABLE ? TO ?", keywords{"SELECT"}, qualified{"s?", "t"}, ident("r?"))
	if want := `GRANT SELECT ON TABLE "s?"."t" TO "r?"`; got.text != want || got.err != nil {
		t.Errorf("got %s, %v; want %s", got.text, got.err, want)
	}
}

// FuzzQuoting reads what was quoted by the rules of PostgreSQL's lexer: it must
// be one token whose value is the name.
func FuzzQuoting(f *testing.F) {
	for _, s := range []string{"a", `"`, `""`, `\`, `'`, `\'`, "--", "/*", "$$", "ü😀", "\n", `U&"`, "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if quoted, err := ident(s).sql(); err == nil {
			if got, rest := unquote(quoted, '"', false); got != s || rest != "" {
				t.Errorf("the name %q became %s: reads as %q and %q", s, quoted, got, rest)
			}
		} else if s != "" && !strings.ContainsRune(s, 0) && len(s) <= maxIdentifier {
			t.Errorf("the name %q was refused: %v", s, err)
		}
		if quoted, err := literal(s).sql(); err == nil {
			if got, rest := unquote(strings.TrimPrefix(quoted, "E"), '\'', true); got != s || rest != "" {
				t.Errorf("the text %q became %s: reads as %q and %q", s, quoted, got, rest)
			}
		} else if !strings.ContainsRune(s, 0) {
			t.Errorf("the text %q was refused: %v", s, err)
		}
	})
}

// unquote reads one quoted token and returns its value and what follows it.
func unquote(s string, quote byte, backslash bool) (value, rest string) {
	if s == "" || s[0] != quote {
		return "", s
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == quote && i+1 < len(s) && s[i+1] == quote, backslash && s[i] == '\\' && i+1 < len(s):
			i++
		case s[i] == quote:
			return b.String(), s[i+1:]
		}
		b.WriteByte(s[i])
	}
	return "", "no end"
}

func TestClassify(t *testing.T) {
	for _, test := range []struct {
		code, message string
		want          access.ErrorKind
	}{
		{code: "08006", want: access.Retry},
		{code: "53300", want: access.Retry},
		{code: "57P01", want: access.Retry},
		{code: "57P02", want: access.Retry},
		{code: "57P03", want: access.Retry},
		{code: "57P04", want: access.Retry},
		{code: "57P05", want: access.Retry},
		{code: "57014", want: access.Retry},
		{code: "25006", want: access.Retry},
		{code: "25P03", want: access.Retry},
		{code: "58030", want: access.Retry},
		{code: "40001", want: access.Conflict},
		{code: "40P01", want: access.Conflict},
		{code: "55P03", want: access.Conflict},
		{code: "55006", want: access.Conflict},
		{code: "XX000", message: "tuple concurrently updated", want: access.Conflict},
		{code: "XX000", message: "tuple concurrently deleted", want: access.Conflict},
		{code: "XX000", message: "could not find tuple for role 1", want: access.Conflict},
		{code: "XX000", message: "something else", want: access.Unknown},
		{code: "23505", want: access.Conflict},
		{code: "42710", want: access.Conflict},
		{code: "2BP01", want: access.Conflict},
		{code: "28P01", want: access.Auth},
		{code: "28000", want: access.Auth},
		{code: "42501", want: access.Privilege},
		{code: "01007", want: access.Privilege},
		{code: "01006", want: access.Privilege},
		{code: "42704", want: access.ResourceMissing},
		{code: "42P01", want: access.ResourceMissing},
		{code: "3F000", want: access.ResourceMissing},
		{code: "3D000", want: access.ResourceMissing},
		{code: "42883", want: access.ResourceMissing},
		{code: "42601", want: access.Invalid},
		{code: "42622", want: access.Invalid},
		{code: "42939", want: access.Invalid},
		{code: "22023", want: access.Invalid},
		{code: "0LP01", want: access.Invalid},
		{code: "0A000", want: access.Unsupported},
		{code: "P0001", want: access.Unknown},
		{code: "", want: access.Unknown},
	} {
		t.Run(test.code+test.message, func(t *testing.T) {
			const secret = "the statement and its secret"
			err := classify(&pgconn.PgError{Code: test.code, Message: test.message + secret, Detail: secret, Hint: secret, Where: secret})
			if got := access.KindOf(err); got != test.want {
				t.Errorf("kind %s, want %s", got, test.want)
			}
			for ; err != nil; err = errors.Unwrap(err) {
				if strings.Contains(fmt.Sprintf("%v %+v", err, err), secret) {
					t.Errorf("the driver's text comes out: %v", err)
				}
			}
		})
	}
}

func TestClassifyOther(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want access.ErrorKind
	}{
		{"nothing", nil, ""},
		{"our own", access.Errorf(access.NameTaken, "taken"), access.NameTaken},
		{"canceled", fmt.Errorf("x: %w", context.Canceled), access.Retry},
		{"late", fmt.Errorf("x: %w", context.DeadlineExceeded), access.Retry},
		{"refused", &net.OpError{Op: "dial", Err: errors.New("connection refused")}, access.Retry},
		{"no such name", &net.DNSError{Name: "db.example.com"}, access.Retry},
		{"broken", errors.New("unexpected EOF"), access.Retry},
		{"unknown authority", fmt.Errorf("x: %w", x509.UnknownAuthorityError{}), access.Invalid},
		{"no TLS", errors.New("server refused TLS connection"), access.Invalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := access.KindOf(classify(test.err)); got != test.want {
				t.Errorf("kind %s, want %s", got, test.want)
			}
		})
	}
}

// TestConfig reads settings as lapse.yaml has them.
func TestConfig(t *testing.T) {
	for _, test := range []struct {
		name, yaml string
		fault      string // what is named; "" for none
	}{
		{"only the host", "hostname: db", ""},
		{"everything", `{hostname: db, port: 6432, database_name: admin, ssl_mode: verify-full, owner_roles: [a], terminate_sessions: last,
			session_hosts: ["r1:5433", r2], statement_timeout: 1m, include: ["schema:shop/*"], exclude: ["table:*/*/x"], max_resources: 5, allow_roles: [pg_monitor]}`, ""},
		{"no host", "port: 5432", "hostname"},
		{"an ssl_mode that is none", "{hostname: db, ssl_mode: on}", "ssl_mode"},
		{"a port that is none", "{hostname: db, port: 70000}", "port"},
		{"a timeout without a unit", "{hostname: db, statement_timeout: 30}", "statement_timeout"},
		{"a key that is none", "{hostname: db, sslmode: require}", "sslmode"},
		{"a setting that is none", "{hostname: db, terminate_sessions: sometimes}", "terminate_sessions"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var node yaml.Node
			if err := yaml.Unmarshal([]byte(test.yaml), &node); err != nil {
				t.Fatal(err)
			}
			var config Config
			faults := spec.Decode(&node, "config", &config).Err()
			switch {
			case test.fault == "" && faults != nil:
				t.Fatalf("faults: %v", faults)
			case test.fault != "" && (faults == nil || !strings.Contains(faults.Error(), test.fault)):
				t.Fatalf("faults: %v, want one that names %s", faults, test.fault)
			case test.fault != "":
				return
			}
			if _, err := New(integrations.Target{Name: "x", Config: &config, Secret: &Secret{}}); err != nil {
				t.Error(err)
			}
		})
	}

	var node yaml.Node
	if err := yaml.Unmarshal([]byte("hostname: db"), &node); err != nil {
		t.Fatal(err)
	}
	var got Config
	if err := spec.Decode(&node, "", &got).Err(); err != nil {
		t.Fatal(err)
	}
	want := Config{Hostname: "db", Port: 5432, DatabaseName: "postgres", SSLMode: "require", TerminateSessions: "always",
		StatementTimeout: access.Duration(30 * time.Second), MaxResources: 10000}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
}

func TestNewRefuses(t *testing.T) {
	good := Config{Hostname: "db", Port: 5432, SSLMode: "require"}
	for _, test := range []struct {
		name   string
		change func(*Config)
	}{
		{"a certificate that is none", func(c *Config) { c.CACertificate = "not PEM" }},
		{"an ssl_mode that is none", func(c *Config) { c.SSLMode = "maybe" }},
		{"a session host with a bad port", func(c *Config) { c.SessionHosts = []string{"replica:port"} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := good
			test.change(&config)
			if _, err := New(integrations.Target{Name: "x", Config: &config, Secret: &Secret{}}); access.KindOf(err) != access.Invalid {
				t.Errorf("error %v, want invalid", err)
			}
		})
	}
}

func TestTLSConfigs(t *testing.T) {
	for _, test := range []struct {
		mode           string
		plain, tls     int
		verifiesChain  bool
		verifiesServer bool
	}{
		{mode: "disable", plain: 1},
		{mode: "allow", plain: 1, tls: 1},
		{mode: "prefer", plain: 1, tls: 1},
		{mode: "require", tls: 1},
		{mode: "verify-ca", tls: 1, verifiesChain: true},
		{mode: "verify-full", tls: 1, verifiesServer: true},
	} {
		t.Run(test.mode, func(t *testing.T) {
			tries, err := tlsConfigs(test.mode, "db", "")
			if err != nil {
				t.Fatal(err)
			}
			plain, encrypted := 0, 0
			for _, c := range tries {
				if c == nil {
					plain++
					continue
				}
				encrypted++
				if got := c.VerifyConnection != nil; got != test.verifiesChain {
					t.Errorf("verifies the chain: %t", got)
				}
				if got := !c.InsecureSkipVerify; got != test.verifiesServer {
					t.Errorf("verifies the server: %t", got)
				}
			}
			if plain != test.plain || encrypted != test.tls {
				t.Errorf("%d plain and %d encrypted tries, want %d and %d", plain, encrypted, test.plain, test.tls)
			}
		})
	}
}

// TestScramVerifier has the salt and keys of RFC 7677, section 3.
func TestScramVerifier(t *testing.T) {
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	got, err := scramVerifierWith("pencil", salt)
	want := "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	if err != nil || got != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
}

func TestCommand(t *testing.T) {
	i := &integration{endpoint: endpoint{host: "db.example.com", port: 5432}, config: Config{SSLMode: "require"}}
	for database, want := range map[string]string{
		"shop":        `psql "host=db.example.com port=5432 user=lapse_ana dbname=shop sslmode=require"`,
		"my shop":     `psql "host=db.example.com port=5432 user=lapse_ana dbname='my shop' sslmode=require"`,
		`a"$(id)'b\c`: `psql 'host=db.example.com port=5432 user=lapse_ana dbname='\''a"$(id)\'\''b\\c'\'' sslmode=require'`,
	} {
		if got := i.credential("lapse_ana", "secret", database).Command; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestTags(t *testing.T) {
	for comment, want := range map[string]map[string]string{
		"":                                   nil,
		"a table of orders":                  nil,
		"owner=dba":                          {"owner": "dba"},
		"orders, owner=dba; tier=1 x = y =z": {"owner": "dba", "tier": "1"},
		"cost.center=a=b\nowner=dba":         {"cost.center": "a=b", "owner": "dba"},
	} {
		if diff := cmp.Diff(want, tags(comment)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", comment, diff)
		}
	}
}

func TestMark(t *testing.T) {
	e := access.Entitlement{Integration: "i", Resource: access.NewResource("schema", `a"'\`), Permission: "read_only"}
	m := mark{Kind: kindEntitlement, Instance: "x", Integration: "i", Entitlement: &e, Sequence: 7}
	s := m.comment("role")
	if s.err != nil {
		t.Fatal(s.err)
	}
	text, rest := unquote(strings.TrimPrefix(s.text, `COMMENT ON ROLE "role" IS E`), '\'', true)
	got, ok := readMark(text)
	if !ok || rest != "" {
		t.Fatalf("%s is no mark", text)
	}
	if diff := cmp.Diff(m, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, comment := range []string{"", "a role", "lapse:v1:", "lapse:v1:{", `lapse:v2:{"kind":"account"}`} {
		if _, ok := readMark(comment); ok {
			t.Errorf("%q is taken for a mark", comment)
		}
	}
}
