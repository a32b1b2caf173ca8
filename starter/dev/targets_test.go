package main

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/integrations/mariadb"
	"github.com/lapse-access/lapse/integrations/mysql"
	"github.com/lapse-access/lapse/integrations/rabbitmq"
	"github.com/lapse-access/lapse/internal/describe"
	"github.com/lapse-access/lapse/internal/localmysql"
	"github.com/lapse-access/lapse/internal/localmysql/localmysqltest"
	"github.com/lapse-access/lapse/internal/localpg"
	"github.com/lapse-access/lapse/internal/localrabbitmq"
	"github.com/lapse-access/lapse/internal/localrabbitmq/localrabbitmqtest"
)

// canary is the password with which connectors start.
const canary = "canary-connector-Pa55word"

// target is a real system that Lapse gives access to, behind a proxy.
type target struct {
	name  string // of the integration
	want  string // what people ask for, as TYPE:PATH=PERMISSION
	file  string // the connector's secret
	proxy *integrationtest.Proxy
	// connects logs in past the proxy.
	connects func(user, password string) error
	// second says which accounts have two passwords, where the target knows such.
	second func() string

	kind, config string
}

// newTarget is a target at an address with the connector's login. In its
// configuration HOST, PORT and ADDRESS stand for those of the proxy.
func newTarget(t *testing.T, x target, address, connector string) *target {
	t.Helper()
	x.proxy = integrationtest.NewProxy(t, address)
	host, port, err := net.SplitHostPort(x.proxy.Address())
	if err != nil {
		t.Fatal(err)
	}
	x.config = strings.NewReplacer("HOST", host, "PORT", port, "ADDRESS", x.proxy.Address()).Replace(x.config)
	x.file = filepath.Join(t.TempDir(), x.name+".json")
	if err := os.WriteFile(x.file, fmt.Appendf(nil, `{"username": %q, "password": %q}`, connector, canary), 0o600); err != nil {
		t.Fatal(err)
	}
	return &x
}

// in adds the target to a lapse.yaml.
func (x *target) in(yaml string) string {
	resource, permission, _ := strings.Cut(x.want, "=")
	typ, _, _ := strings.Cut(resource, ":")
	yaml = strings.Replace(yaml, "access_flows:\n", fmt.Sprintf(`  - name: %s
    kind: %s
    config: {%s}
    secret: {store: file, key: %s}
    user_cleanup_days: 0.00007
    integration_owner: {attribute: group, values: [dba]}
access_flows:
`, x.name, x.kind, x.config, x.file), 1)
	return strings.Replace(yaml, "    targets:\n", fmt.Sprintf("    targets:\n      - {integration: %s, resources: [\"%s:*\"], permissions: [%s]}\n", x.name, typ, permission), 1)
}

// login is what stands in a file with a connector's secret.
func login(file string) (secret struct{ Username, Password string }, err error) {
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &secret)
	}
	return secret, err
}

// setUp is the script that describe prints for a connector with all rights.
func setUp(t *testing.T, kind integrations.Kind, options describe.Options) string {
	t.Helper()
	d, err := describe.New(kind, options)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(d.Setup, func(have integrations.Tier) bool { return have.Name == "full" })
	return d.Setup[i].Script
}

// postgresql is the database of every system. Its connector's secret stands in a
// file.
func (s *system) postgresql(file string) *target {
	return &target{name: "prod-pg", want: "schema:shop/public=read_only", file: file, proxy: s.proxy, connects: func(user, password string) error {
		cfg, err := pgx.ParseConfig("sslmode=require dbname=postgres")
		if err != nil {
			return err
		}
		cfg.Host, cfg.Port, cfg.User, cfg.Password = localpg.Host, uint16(s.server.Port), user, password
		conn, err := pgx.ConnectConfig(s.t.Context(), cfg)
		if err != nil {
			return err
		}
		return conn.Close(s.t.Context())
	}}
}

// mysqls is a MySQL or MariaDB, and who administers it.
type mysqls struct {
	*target
	t      *testing.T
	server *localmysql.Server
	admin  *sql.DB
}

// startMySQL starts a server with what people ask for, and makes the connector.
func startMySQL(t *testing.T, product localmysql.Product, name string) *mysqls {
	t.Helper()
	m := &mysqls{t: t, server: localmysqltest.Start(t, product)}
	var err error
	if m.admin, err = m.server.Open(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.admin.Close() })
	m.exec("CREATE DATABASE stock", "CREATE TABLE stock.items (id int)", "INSERT INTO stock.items VALUES (7)", "CREATE DATABASE passing")
	kind := map[localmysql.Product]integrations.Kind{localmysql.MySQL: mysql.Kind(), localmysql.MariaDB: mariadb.Kind()}[product]
	for line := range strings.Lines(setUp(t, kind, describe.Options{"databases": {"stock", "passing"}})) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "--") {
			m.exec(strings.Replace(strings.TrimSuffix(line, ";"), "'...'", "'"+canary+"'", 1))
		}
	}
	m.target = newTarget(t, target{name: name, kind: kind.Name, want: "database:stock=read_only", config: "hostname: HOST, port: PORT", connects: func(user, password string) error {
		db, err := m.open("", user, password)
		if err != nil {
			return err
		}
		defer db.Close()
		return db.PingContext(t.Context())
	}}, net.JoinHostPort(localmysql.Host, strconv.Itoa(m.server.Port)), "lapse")
	if product == localmysql.MySQL {
		m.second = func() (names string) {
			if err := m.admin.QueryRowContext(t.Context(), `SELECT COALESCE(GROUP_CONCAT(User), '') FROM mysql.user WHERE JSON_EXTRACT(User_attributes, '$.additional_password') IS NOT NULL`).Scan(&names); err != nil {
				t.Error(err)
			}
			return names
		}
	}
	return m
}

func (m *mysqls) exec(statements ...string) {
	m.t.Helper()
	for _, s := range statements {
		if _, err := m.admin.ExecContext(m.t.Context(), s); err != nil {
			m.t.Fatalf("%s: %v", s, err)
		}
	}
}

// open opens a database, which may be empty, as somebody.
func (m *mysqls) open(database, user, password string) (*sql.DB, error) {
	config, err := m.server.Config(database)
	if err != nil {
		return nil, err
	}
	config.User, config.Passwd = user, password
	return sql.Open("mysql", config.FormatDSN())
}

// login opens a session of a person.
func (m *mysqls) login(c access.Credential) (*sql.Conn, error) {
	db, err := m.open("stock", c.Username, c.Password)
	if err != nil {
		return nil, err
	}
	m.t.Cleanup(func() { db.Close() })
	return db.Conn(m.t.Context())
}

// startRabbitMQ starts a broker with a virtual host, and makes the connector.
func startRabbitMQ(t *testing.T, name string) *target {
	t.Helper()
	server := localrabbitmqtest.Start(t, 0)
	if _, err := server.Script(t.Context(), "rabbitmqctl add_vhost shop\n"+setUp(t, rabbitmq.Kind(), nil), canary+"\n"); err != nil {
		t.Fatal(err)
	}
	return newTarget(t, target{name: name, kind: "rabbitmq", want: "vhost:shop=read", config: "url: http://ADDRESS", connects: func(user, password string) error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL()+"/whoami", nil)
		if err != nil {
			return err
		}
		req.SetBasicAuth(user, password)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		// A user without a tag is told that the password is right, and no more.
		if body, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK && !strings.Contains(string(body), "Not management user") {
			return fmt.Errorf("RabbitMQ does not let %s in: %w", user, errors.Join(errors.New(res.Status), err))
		}
		return nil
	}}, net.JoinHostPort(localrabbitmq.Host, strconv.Itoa(server.APIPort)), "lapse")
}
