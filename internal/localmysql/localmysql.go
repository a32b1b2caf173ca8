// Package localmysql runs a private MySQL or MariaDB on this machine: in a folder
// of its own, on a port of its own, reachable on the loopback address only, with
// TLS. It is the real server behind the tests.
//
// When this process is root, the server runs as the user mysql, or nobody where
// that user does not exist; otherwise as ourselves.
package localmysql

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/lapse-access/lapse/internal/localserver"
)

// Host is the address that every server of this package listens on.
const Host = localserver.Host

// Superuser is the name of the administrator of every server, who may log in
// from Host.
const Superuser = "root"

// stopTimeout bounds an orderly stop.
const stopTimeout = 30 * time.Second

// Options say which server to start, and where.
type Options struct {
	// Dir holds everything of the server: its databases in data/, its log and
	// its certificate. It is made when missing. One process at a time may use it.
	Dir string

	// Bin is the installation to run.
	Bin Binaries

	// Port to listen on; 0 takes a free one.
	Port int

	// Settings are added to the server's options, for example
	// {"innodb-flush-log-at-trx-commit": "2"}.
	Settings map[string]string
}

// Server is a running server. Its methods must not be called concurrently, but
// for Config and Open.
type Server struct {
	Bin      Binaries // the installation that runs
	Port     int      // TCP port on Host
	Password string   // of Superuser, another one after each start
	CAFile   string   // the PEM file to verify the server's certificate with, also by name

	dir      string
	settings map[string]string
	account  localserver.Account
	process  *localserver.Process
}

// Start makes the databases in o.Dir when there are none, starts the server and
// returns when it accepts connections. The context bounds the start only: the
// server runs until Stop, or until this process dies.
func Start(ctx context.Context, o Options) (*Server, error) {
	s, err := start(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("localmysql: %w", err)
	}
	return s, nil
}

func start(ctx context.Context, o Options) (*Server, error) {
	account, err := localserver.FindAccount(string(o.Bin.Product), "mysql", "nobody")
	if err != nil {
		return nil, err
	}
	dir, err := localserver.MakeDir(o.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{
		Bin:      o.Bin,
		Port:     o.Port,
		CAFile:   filepath.Join(dir, "ca.crt"),
		dir:      dir,
		settings: o.Settings,
		account:  account,
	}
	for _, path := range []string{dir, filepath.Dir(o.Bin.Path)} {
		if err := account.MayPass(path); err != nil {
			return nil, err
		}
	}
	if err := s.initialize(ctx); err != nil {
		return nil, err
	}
	if s.Port == 0 {
		if s.Port, err = localserver.FreePort(); err != nil {
			return nil, err
		}
	}
	return s, s.run(ctx)
}

// Config is what the superuser connects with to a database, which may be empty.
func (s *Server) Config(database string) (*mysql.Config, error) {
	text, err := os.ReadFile(s.CAFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	c := mysql.NewConfig()
	c.Net, c.Addr = "tcp", net.JoinHostPort(Host, strconv.Itoa(s.Port))
	c.User, c.Passwd, c.DBName = Superuser, s.Password, database
	c.TLS = &tls.Config{RootCAs: roots, ServerName: Host}
	c.Logger = &mysql.NopLogger{}
	return c, nil
}

// Open returns the superuser's connections to a database, which may be empty.
func (s *Server) Open(database string) (*sql.DB, error) {
	c, err := s.Config(database)
	if err != nil {
		return nil, err
	}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// Stop ends all sessions and stops the server in good order. Stopping a stopped
// server does nothing.
func (s *Server) Stop() error { return s.stop(syscall.SIGTERM) }

// Kill stops the server at once, as a crash would: the next start recovers from
// the log.
func (s *Server) Kill() error { return s.stop(syscall.SIGKILL) }

func (s *Server) stop(signal syscall.Signal) error {
	if err := s.process.Stop(signal, stopTimeout, syscall.SIGKILL); err != nil {
		return fmt.Errorf("localmysql: stop %s: %w", s.Bin.Product, err)
	}
	return nil
}

// Restart starts the server again on its port, after stopping it when it runs.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Stop(); err != nil {
		return err
	}
	if err := s.run(ctx); err != nil {
		return fmt.Errorf("localmysql: %w", err)
	}
	return nil
}

func (s *Server) dataDir() string { return filepath.Join(s.dir, "data") }

// tmpDir is a folder of its own, because MariaDB removes at its start whatever
// looks like a temporary table, another server's too.
func (s *Server) tmpDir() string { return filepath.Join(s.dir, "tmp") }

// command prepares the server, run as its user and untouched by the environment
// of this process and by the machine's configuration.
func (s *Server) command(ctx context.Context, args ...string) *exec.Cmd {
	all := []string{"--no-defaults", "--basedir=" + s.Bin.base()}
	if messages := filepath.Join(s.Bin.base(), "share/mysql"); isDir(messages) {
		all = append(all, "--lc-messages-dir="+messages)
	}
	if plugins := filepath.Join(s.Bin.base(), "lib/mysql/plugin"); isDir(plugins) {
		all = append(all, "--plugin-dir="+plugins)
	}
	if s.Bin.Product == MySQL {
		// The folder of Debian's package is missing where it was only unpacked.
		all = append(all, "--secure-file-priv=NULL", "--innodb-redo-log-capacity=64M")
	} else {
		all = append(all, "--innodb-log-file-size=16M")
	}
	cmd := exec.CommandContext(ctx, s.Bin.Path, append(all, args...)...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.account.Credential()}
	return cmd
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// run starts the server and waits until it accepts connections.
func (s *Server) run(ctx context.Context) error {
	if err := localserver.PortFree(s.Port); err != nil {
		return err
	}
	if err := os.MkdirAll(s.tmpDir(), 0o700); err != nil {
		return err
	}
	if err := s.account.Own(s.tmpDir()); err != nil {
		return err
	}
	init, err := s.writePassword()
	if err != nil {
		return err
	}
	defer os.Remove(init)
	log, err := os.OpenFile(filepath.Join(s.dir, "server.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	logStart, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	pidFile := filepath.Join(s.dataDir(), "server.pid")
	if err := os.Remove(pidFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}

	settings := map[string]string{
		"datadir":           s.dataDir(),
		"tmpdir":            s.tmpDir(),
		"bind-address":      Host,
		"port":              strconv.Itoa(s.Port),
		"socket":            "",
		"pid-file":          pidFile,
		"init-file":         init,
		"skip-name-resolve": "ON",
		"ssl-cert":          filepath.Join(s.dataDir(), "server.crt"),
		"ssl-key":           filepath.Join(s.dataDir(), "server.key"),
	}
	if s.Bin.Product == MySQL {
		settings["mysqlx"] = "OFF"
	}
	maps.Copy(settings, s.settings)
	var args []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "--"+name+"="+settings[name])
	}
	cmd := s.command(context.WithoutCancel(ctx), args...)
	cmd.Stdout, cmd.Stderr = log, log
	// When we are killed nobody is left who would want an orderly end.
	if s.process, err = localserver.Launch(cmd, syscall.SIGKILL); err != nil {
		return fmt.Errorf("start %s: %w", s.Bin.Product, err)
	}

	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			text, _ := os.ReadFile(pidFile)
			if strings.TrimSpace(string(text)) == strconv.Itoa(s.process.Pid()) && s.greets() {
				return nil
			}
		case <-s.process.Exited():
			return fmt.Errorf("%s did not start: %w", s.Bin.Product, localserver.LogTail(log.Name(), logStart))
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("start %s: %w", s.Bin.Product, ctx.Err()), s.Kill())
		}
	}
}

// writePassword gives the superuser a new password at the next start, which
// executes the file that it returns.
func (s *Server) writePassword() (string, error) {
	s.Password = rand.Text()
	path := filepath.Join(s.dir, "init.sql")
	statement := fmt.Sprintf("ALTER USER '%s'@'%s' IDENTIFIED BY '%s', '%[1]s'@'localhost' IDENTIFIED BY '%[3]s';\n", Superuser, Host, s.Password)
	if err := os.WriteFile(path, []byte(statement), 0o600); err != nil {
		return "", err
	}
	return path, s.account.Own(path)
}

// greets reports whether the server sends the first packet of a connection, which
// it does once it is ready.
// https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_handshake_v10.html
func (s *Server) greets() bool {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(Host, strconv.Itoa(s.Port)), time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	const header, protocolVersion = 4, 10
	packet := make([]byte, header+1)
	_, err = io.ReadFull(conn, packet)
	return err == nil && packet[header] == protocolVersion
}
