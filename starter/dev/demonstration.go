package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"text/template"

	"github.com/jackc/pgx/v5"

	"github.com/lapse-access/lapse/internal/localpg"
)

//go:embed demo
var demoFiles embed.FS

// demonstration is the database to try Lapse on: a private PostgreSQL with a
// database shop and a login for the connector that has only the rights it needs.
type demonstration struct {
	address    string // host:port
	version    string // for people
	secretFile string // JSON with the username and password of the connector's login
	stop       func()
}

// startDemonstration starts the database and puts in it what the demonstration
// needs and is not there yet; what else is in it stays.
func startDemonstration(ctx context.Context, s settings) (*demonstration, error) {
	host, portText, err := net.SplitHostPort(s.database)
	port, portErr := strconv.Atoi(portText)
	if err != nil || portErr != nil || host != localpg.Host {
		return nil, fmt.Errorf("LAPSE_DEMO_POSTGRESQL=%s: the demonstration database listens on %s only: use %s:54329 or another port there",
			s.database, localpg.Host, localpg.Host)
	}
	server, err := startPostgreSQL(ctx, filepath.Join(s.data, "postgresql"), port)
	if err != nil {
		return nil, fmt.Errorf("start the database of the demonstration (-f lapse.yaml starts without one; LAPSE_DEMO_POSTGRESQL is its address): %w", err)
	}
	demo := &demonstration{
		address:    net.JoinHostPort(localpg.Host, strconv.Itoa(server.Port)),
		version:    "PostgreSQL " + server.Bin.Version,
		secretFile: filepath.Join(s.data, "demo-connector.json"),
		stop: func() {
			if err := server.Stop(); err != nil {
				slog.Error("stop the database of the demonstration", "error", err)
			}
		},
	}
	if err := demo.fill(ctx, server); err != nil {
		demo.stop()
		return nil, fmt.Errorf("fill the database of the demonstration: %w", err)
	}
	return demo, nil
}

// startPostgreSQL starts the server in dir. Where we are root and the server's
// user may not come to dir, as below root's home, dir becomes a link to a folder
// below /var/lib/lapse.
func startPostgreSQL(ctx context.Context, dir string, port int) (*localpg.Server, error) {
	o := localpg.Options{Dir: dir, Port: port}
	server, err := localpg.Start(ctx, o)
	if closed := (*localpg.ClosedError)(nil); !errors.As(err, &closed) {
		return server, err
	}
	const open = "/var/lib/lapse"
	if err := os.MkdirAll(open, 0o755); err != nil {
		return nil, err
	}
	elsewhere, err := os.MkdirTemp(open, "demo-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(elsewhere, 0o755); err != nil {
		return nil, err
	}
	if err := os.Remove(dir); err != nil { // still empty
		return nil, err
	}
	if err := os.Symlink(elsewhere, dir); err != nil {
		return nil, err
	}
	return localpg.Start(ctx, o)
}

// fill makes roles, databases, tables and rows. The statements are safe to run
// again.
func (d *demonstration) fill(ctx context.Context, server *localpg.Server) error {
	password, err := d.connectorPassword()
	if err != nil {
		return err
	}
	conn, err := connect(ctx, server, "postgres")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := execute(ctx, conn, "demo/roles.sql"); err != nil {
		return err
	}
	// The password is of letters and digits only.
	if _, err := conn.Exec(ctx, "ALTER ROLE lapse_connector PASSWORD '"+password+"'"); err != nil {
		return err
	}
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = 'shop')").Scan(&exists); err != nil {
		return err
	}
	if !exists {
		if _, err := conn.Exec(ctx, "CREATE DATABASE shop OWNER shop_owner"); err != nil {
			return err
		}
	}

	shop, err := connect(ctx, server, "shop")
	if err != nil {
		return err
	}
	defer shop.Close(context.WithoutCancel(ctx))
	return execute(ctx, shop, "demo/shop.sql")
}

func connect(ctx context.Context, server *localpg.Server, database string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(server.URL(database))
	if err != nil {
		return nil, err
	}
	// A statement that fails does not go to the log with the password in it.
	config.RuntimeParams["log_min_error_statement"] = "panic"
	return pgx.ConnectConfig(ctx, config)
}

func execute(ctx context.Context, conn *pgx.Conn, file string) error {
	sql, err := demoFiles.ReadFile(file)
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, string(sql)); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// connectorPassword returns the password of the connector's login, which is made
// at the first start.
func (d *demonstration) connectorPassword() (string, error) {
	var secret struct {
		Username string `json:"username"`
		Password string `json:"password"`
	}
	text, err := os.ReadFile(d.secretFile)
	switch {
	case err == nil:
		if err := json.Unmarshal(text, &secret); err != nil {
			return "", fmt.Errorf("%s: %w (remove it to have a new one made)", d.secretFile, err)
		}
	case errors.Is(err, fs.ErrNotExist):
		secret.Username, secret.Password = "lapse_connector", rand.Text()
		if text, err = json.Marshal(secret); err != nil {
			return "", err
		}
		if err := os.WriteFile(d.secretFile, append(text, '\n'), 0o600); err != nil {
			return "", err
		}
	default:
		return "", err
	}
	return secret.Password, nil
}

// configuration is the lapse.yaml of the demonstration.
func (d *demonstration) configuration() ([]byte, error) {
	t, err := template.ParseFS(demoFiles, "demo/lapse.yaml")
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(d.address)
	if err != nil {
		return nil, err
	}
	secret, err := filepath.Abs(d.secretFile)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]string{"Host": host, "Port": port, "Secret": secret})
	return out.Bytes(), err
}
