package postgresql

import (
	"encoding/base64"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/certificationtest"
)

// TestSettings reads settings as lapse.yaml has them.
func TestSettings(t *testing.T) {
	certificationtest.Settings(t, Kind(), &Secret{}, &Config{Hostname: "db", Port: 5432, DatabaseName: "postgres", SSLMode: "require", TerminateSessions: "always",
		StatementTimeout: access.Duration(30 * time.Second), MaxResources: 10000}, [][3]string{
		{"only the host", "hostname: db", ""},
		{"everything", `{hostname: db, port: 6432, database_name: admin, ssl_mode: verify-full, owner_roles: [a], terminate_sessions: last,
			session_hosts: ["r1:5433", r2], statement_timeout: 1m, include: ["schema:shop/*"], exclude: ["table:*/*/x"], max_resources: 5, allow_roles: [pg_monitor]}`, ""},
		{"no host", "port: 5432", "hostname"},
		{"an ssl_mode that is none", "{hostname: db, ssl_mode: on}", "ssl_mode"},
		{"a port that is none", "{hostname: db, port: 70000}", "port"},
		{"a timeout without a unit", "{hostname: db, statement_timeout: 30}", "statement_timeout"},
		{"a key that is none", "{hostname: db, sslmode: require}", "sslmode"},
		{"a setting that is none", "{hostname: db, terminate_sessions: sometimes}", "terminate_sessions"},
		{"a certificate that is none", "{hostname: db, ca_certificate: not PEM}", "ca_certificate"},
		{"a session host with a bad port", `{hostname: db, session_hosts: ["replica:port"]}`, "session_hosts"},
	})
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
	if _, err := New(integrations.Target{Config: &Config{Hostname: "db", Port: 5432, SSLMode: "maybe"}, Secret: &Secret{}}); access.KindOf(err) != access.Invalid {
		t.Errorf("a mode that is none: %v, want invalid", err)
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
	verified := &integration{endpoint: endpoint{host: "db", port: 5432}, config: Config{SSLMode: "verify-full"}}
	if got, want := verified.credential("u", "secret", "d").Command, `psql "host=db port=5432 user=u dbname=d sslmode=require channel_binding=require"`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
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
