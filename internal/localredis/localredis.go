// Package localredis runs a private Redis on this machine: in a folder of its
// own, on ports of its own, reachable on the loopback address only, with and
// without TLS. It keeps nothing. Tests try on it what access rules allow.
package localredis

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/lapse-access/lapse/internal/localserver"
)

// Host is the address that every server of this package listens on.
const Host = localserver.Host

const (
	// stopTimeout bounds an orderly stop.
	stopTimeout = 10 * time.Second
	// attempts bounds how often other ports are taken: somebody else may take those
	// that were free a moment ago.
	attempts = 10
)

// Binary is an installed server.
type Binary struct {
	Path    string
	Version string // 7.0.15
}

var version = regexp.MustCompile(`\bv=([0-9.]+)`)

// Installed returns what deploy/dev/redis.sh made sure of, else the server of
// the search path.
func Installed() (all []Binary) {
	cache, _ := localserver.CacheDir()
	paths, _ := filepath.Glob(filepath.Join(cache, "redis-*/usr/bin/redis-server"))
	if path, err := exec.LookPath("redis-server"); err == nil && len(paths) == 0 {
		paths = []string{path}
	}
	for _, path := range paths {
		said, err := exec.Command(path, "--version").Output()
		if found := version.FindSubmatch(said); err == nil && found != nil {
			all = append(all, Binary{Path: path, Version: string(found[1])})
		}
	}
	return all
}

// Server is a running server.
type Server struct {
	Binary
	Port, TLSPort int    // TCP ports on Host
	Certificate   string // PEM, its own authority

	password string // of the user default
	process  *localserver.Process
}

// Start starts a server and returns when it answers. The context bounds the
// start only: the server runs until Stop, or until this process dies.
func Start(ctx context.Context, b Binary, dir string) (*Server, error) {
	for try := 1; ; try++ {
		s, err := start(ctx, b, dir)
		switch {
		case err == nil:
			return s, nil
		case try == attempts || !strings.Contains(err.Error(), "Address already in use"):
			return nil, fmt.Errorf("localredis: %w", err)
		}
	}
}

func start(ctx context.Context, b Binary, dir string) (*Server, error) {
	dir, err := localserver.MakeDir(dir)
	if err != nil {
		return nil, err
	}
	certificate, key, err := localserver.Certificate("Redis")
	if err != nil {
		return nil, err
	}
	certFile, keyFile, log := filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key"), filepath.Join(dir, "server.log")
	for file, text := range map[string][]byte{certFile: certificate, keyFile: key} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			return nil, err
		}
	}
	s := &Server{Binary: b, Certificate: string(certificate), password: rand.Text()}
	for _, port := range []*int{&s.Port, &s.TLSPort} {
		if *port, err = localserver.FreePort(); err != nil {
			return nil, err
		}
	}
	if err := os.Remove(log); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	// The settings come by a pipe: arguments are for everybody to see.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), b.Path, "-")
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`bind %s
port %d
tls-port %d
tls-cert-file %q
tls-key-file %q
tls-ca-cert-file %q
tls-auth-clients no
requirepass %s
dir %q
logfile %q
save ""
`, Host, s.Port, s.TLSPort, certFile, keyFile, certFile, s.password, dir, log))
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if s.process, err = localserver.Launch(cmd, syscall.SIGKILL); err != nil {
		return nil, err
	}
	client := s.Admin()
	defer client.Close()
	for {
		if localserver.PortFree(s.Port) != nil && client.Ping(ctx).Err() == nil {
			return s, nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-s.process.Exited():
			return nil, fmt.Errorf("redis-server did not start: %w", localserver.LogTail(log, 0))
		case <-ctx.Done():
			return nil, fmt.Errorf("redis-server: %w", ctx.Err())
		}
	}
}

// Admin is a client of the user default, who may do everything.
func (s *Server) Admin() *redis.Client { return s.Client("default", s.password, false) }

// Client is a client of a user. It tries everything once.
func (s *Server) Client(user, password string, encrypted bool) *redis.Client {
	o := &redis.Options{
		Addr: net.JoinHostPort(Host, strconv.Itoa(s.Port)), Username: user, Password: password, Protocol: 2, MaxRetries: -1, PoolSize: 1,
		DisableIdentity: true, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if encrypted {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM([]byte(s.Certificate))
		o.Addr, o.TLSConfig = net.JoinHostPort(Host, strconv.Itoa(s.TLSPort)), &tls.Config{RootCAs: roots, ServerName: Host}
	}
	return redis.NewClient(o)
}

// Stop stops the server.
func (s *Server) Stop() error { return s.process.Stop(syscall.SIGTERM, stopTimeout, syscall.SIGKILL) }
