// Package localpg runs a private PostgreSQL on this machine: in a folder of its
// own, on a port of its own, reachable on the loopback address only, with SCRAM
// passwords and TLS. It is the demonstration database of lapse-dev and the real
// server behind the tests.
//
// PostgreSQL refuses to run as root. When this process is root, the server runs
// as the user postgres, or nobody where that user does not exist; otherwise as
// ourselves.
package localpg

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/lapse-access/lapse/internal/localserver"
)

// Host is the address that every server of this package listens on.
const Host = localserver.Host

// ClosedError says that the user of the server may not enter a folder on the way
// to one that it needs. It happens to root only.
type ClosedError = localserver.ClosedError

// Superuser is the name of the first role of every cluster.
const Superuser = "postgres"

// stopTimeout bounds an orderly stop. After it the server is stopped as by a
// crash, which loses nothing but makes the next start replay its log.
const stopTimeout = 30 * time.Second

// Options say which server to start, and where.
type Options struct {
	// Dir holds everything of the server: the cluster in data/, its log, the
	// superuser's password and the certificate. It is made when missing. One
	// process at a time may use it.
	Dir string

	// Bin is the installation to run. When zero it is the one that fits the
	// cluster in Dir, and for a new cluster the newest that Find finds.
	Bin Binaries

	// Port to listen on; 0 takes a free one.
	Port int

	// Settings are added to the server's configuration, for example
	// {"fsync": "off"}.
	Settings map[string]string
}

// Server is a running PostgreSQL. Its methods must not be called concurrently.
type Server struct {
	Bin      Binaries // the installation that runs
	Port     int      // TCP port on Host
	Password string   // of Superuser
	CAFile   string   // the PEM file to verify the server's certificate with, also by name (sslmode verify-full)

	dir      string
	settings map[string]string
	account  localserver.Account
	process  *localserver.Process
}

// Start makes a cluster in o.Dir when there is none, starts the server and
// returns when it accepts connections. A server that an earlier, killed process
// left behind in that folder is stopped first. The context bounds the start
// only: the server runs until Stop, or until this process dies.
func Start(ctx context.Context, o Options) (*Server, error) {
	s, err := start(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("localpg: %w", err)
	}
	return s, nil
}

func start(ctx context.Context, o Options) (*Server, error) {
	account, err := localserver.FindAccount("PostgreSQL", "postgres", "nobody")
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
	if err := s.chooseBinaries(); err != nil {
		return nil, err
	}
	for _, path := range []string{s.dir, s.Bin.Dir} {
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

// URL returns the superuser's connection string for a database.
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(Superuser, s.Password),
		Host:     net.JoinHostPort(Host, strconv.Itoa(s.Port)),
		Path:     "/" + database,
		RawQuery: url.Values{"sslmode": {"verify-full"}, "sslrootcert": {s.CAFile}}.Encode(),
	}
	return u.String()
}

// Stop ends all sessions and stops the server in good order. Stopping a stopped
// server does nothing.
func (s *Server) Stop() error { return s.signal(syscall.SIGINT) }

// Kill stops the server at once, as a crash would: the next start recovers from
// the log.
func (s *Server) Kill() error { return s.signal(syscall.SIGQUIT) }

// Restart starts the server again on its port, after stopping it when it runs.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Stop(); err != nil {
		return err
	}
	if err := s.run(ctx); err != nil {
		return fmt.Errorf("localpg: %w", err)
	}
	return nil
}

func (s *Server) signal(sig syscall.Signal) error {
	if err := s.process.Stop(sig, stopTimeout, syscall.SIGQUIT); err != nil {
		return fmt.Errorf("localpg: stop PostgreSQL: %w", err)
	}
	return nil
}

func (s *Server) dataDir() string { return filepath.Join(s.dir, "data") }

// chooseBinaries settles which installation runs, and refuses one that cannot
// read the cluster.
func (s *Server) chooseBinaries() error {
	cluster, err := clusterMajor(s.dataDir())
	if err != nil {
		return err
	}
	if s.Bin == (Binaries{}) {
		if s.Bin, err = find(cluster); err != nil && cluster != 0 {
			err = fmt.Errorf("%s was made by PostgreSQL %d: %w", s.dataDir(), cluster, err)
		}
		return err
	}
	if cluster != 0 && cluster != s.Bin.Major {
		return fmt.Errorf("%s was made by PostgreSQL %d and cannot be read by %d: start that version, or remove the folder to begin again",
			s.dataDir(), cluster, s.Bin.Major)
	}
	return nil
}

// clusterMajor returns the major version of the cluster in data, 0 when there is none.
func clusterMajor(data string) (int, error) {
	text, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("%s/PG_VERSION: %w", data, err)
	}
	return major, nil
}

// initialize makes the cluster unless it is there, and loads the superuser's
// password. The cluster appears by a rename, so that an interrupted
// initialisation is begun again.
func (s *Server) initialize(ctx context.Context) error {
	passwordFile := filepath.Join(s.dir, "superuser-password")
	if _, err := os.Stat(s.dataDir()); err == nil {
		text, err := os.ReadFile(passwordFile)
		s.Password = strings.TrimSpace(string(text))
		return err
	}

	unfinished := filepath.Join(s.dir, "data.unfinished")
	given := filepath.Join(s.dir, "password.unfinished") // as the server's user may read it
	defer os.Remove(given)
	s.Password = rand.Text()
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	if err := os.Mkdir(unfinished, 0o700); err != nil {
		return err
	}
	if err := s.account.Own(unfinished); err != nil {
		return err
	}
	for _, file := range []string{passwordFile, given} {
		if err := os.WriteFile(file, []byte(s.Password+"\n"), 0o600); err != nil {
			return err
		}
	}
	if err := s.account.Own(given); err != nil {
		return err
	}

	args := []string{"-D", unfinished, "-U", Superuser, "--pwfile=" + given, "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale"}
	if s.settings["fsync"] == "off" {
		args = append(args, "--no-sync")
	}
	cmd := s.command(ctx, "initdb", args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	if err := s.writeCertificate(unfinished); err != nil {
		return err
	}
	return os.Rename(unfinished, s.dataDir())
}

// writeCertificate makes the server a certificate: key and certificate in data,
// where PostgreSQL looks for them, and a copy of the certificate for the clients.
func (s *Server) writeCertificate(data string) error {
	certificate, key, err := localserver.Certificate("PostgreSQL")
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{"server.crt": certificate, "server.key": key} {
		path := filepath.Join(data, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
		if err := s.account.Own(path); err != nil {
			return err
		}
	}
	return os.WriteFile(s.CAFile, certificate, 0o644)
}

// command prepares a program of the installation, run as the server's user and
// untouched by the environment of this process.
func (s *Server) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.Bin.Path(name), args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.account.Credential()}
	return cmd
}

// run starts the postmaster and waits until it accepts connections.
func (s *Server) run(ctx context.Context) error {
	if err := s.stopLeftover(); err != nil {
		return err
	}
	if err := localserver.PortFree(s.Port); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "postgresql.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	logStart, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}

	cmd := s.command(context.WithoutCancel(ctx), "postgres", s.arguments()...)
	cmd.Stdout, cmd.Stderr = log, log
	if s.process, err = localserver.Launch(cmd, syscall.SIGINT); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}

	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if pid, ready := readPidFile(s.dataDir()); pid == s.process.Pid() && ready {
				return nil
			}
		case <-s.process.Exited():
			return fmt.Errorf("PostgreSQL did not start: %w", localserver.LogTail(log.Name(), logStart))
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("start PostgreSQL: %w", ctx.Err()), s.Kill())
		}
	}
}

func (s *Server) arguments() []string {
	settings := map[string]string{
		"listen_addresses":        Host,
		"port":                    strconv.Itoa(s.Port),
		"unix_socket_directories": "",
		"password_encryption":     "scram-sha-256",
		"ssl":                     "on",
	}
	maps.Copy(settings, s.settings)
	args := []string{"-D", s.dataDir()}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	return args
}

// stopLeftover stops the server that an earlier process left in the folder.
func (s *Server) stopLeftover() error {
	pid, _ := readPidFile(s.dataDir())
	if pid == 0 {
		return nil
	}
	for deadline := time.Now().Add(stopTimeout); serves(pid, s.dataDir()); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("the PostgreSQL of an earlier run (process %d) does not stop: end it, then start again", pid)
		}
		if err := syscall.Kill(pid, syscall.SIGINT); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop the PostgreSQL of an earlier run (process %d): %w", pid, err)
		}
	}
	// PostgreSQL would take any process that has this number today for its own.
	if err := os.Remove(pidFile(s.dataDir())); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func pidFile(data string) string { return filepath.Join(data, "postmaster.pid") }

// readPidFile returns the process that the cluster's lock file names, 0 when
// there is none, and whether that process said that it accepts connections.
func readPidFile(data string) (pid int, ready bool) {
	text, err := os.ReadFile(pidFile(data))
	if err != nil {
		return 0, false
	}
	lines := strings.Split(string(text), "\n")
	pid, _ = strconv.Atoi(strings.TrimSpace(lines[0]))
	const status = 7 // line of LOCK_FILE_LINE_PM_STATUS, from 0
	return pid, len(lines) > status && strings.TrimSpace(lines[status]) == "ready"
}

// serves reports whether process pid is the postmaster of the cluster in data. A
// postmaster works in its data folder; where the system does not tell a
// process's folder, being alive must do.
func serves(pid int, data string) bool {
	if _, err := os.Stat("/proc/self/cwd"); err == nil {
		cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
		return err == nil && cwd == data
	}
	return syscall.Kill(pid, 0) == nil
}
