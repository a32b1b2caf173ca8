// Package localrabbitmq runs a private RabbitMQ with its management API on this
// machine: in a folder of its own, with a node name, a cookie, a port mapper and
// ports of its own, all on the loopback address only. It is the real broker
// behind the tests.
//
// When this process is root, the broker runs as the user rabbitmq, or nobody
// where that user does not exist; otherwise as ourselves.
package localrabbitmq

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
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

// Host is the address that every broker of this package listens on.
const Host = localserver.Host

// Administrator is the name of the administrator of every broker, who has all
// permissions in the virtual host "/".
const Administrator = "administrator"

// stopTimeout bounds an orderly stop.
const stopTimeout = 30 * time.Second

// Options say which broker to start, and where.
type Options struct {
	// Dir holds everything of the broker. It is made when missing. One process
	// at a time may use it.
	Dir string

	// Bin is the installation to run.
	Bin Binaries

	// Plugins are enabled beside rabbitmq_management.
	Plugins []string

	// Settings are added to rabbitmq.conf, for example
	// {"auth_backends.1": "cache"}.
	Settings map[string]string
}

// Server is a running broker. Its methods must not be called concurrently, but
// for URL.
type Server struct {
	Bin      Binaries // the installation that runs
	Port     int      // of AMQP
	APIPort  int      // of the management API, without TLS
	TLSPort  int      // of the management API, with TLS
	Password string   // of Administrator
	CAFile   string   // the PEM file to verify the API's certificate with

	dir      string
	mapper   int // the port of epmd
	peers    int // the port of Erlang's distribution
	account  localserver.Account
	epmd     *localserver.Process
	server   *localserver.Process
	settings map[string]string
	plugins  []string
}

// Start starts a broker and returns when it takes connections and requests. The
// context bounds the start only: the broker runs until Stop, or until this
// process dies.
func Start(ctx context.Context, o Options) (*Server, error) {
	s, err := start(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("localrabbitmq: %w", err)
	}
	return s, nil
}

func start(ctx context.Context, o Options) (*Server, error) {
	account, err := localserver.FindAccount("RabbitMQ", "rabbitmq", "nobody")
	if err != nil {
		return nil, err
	}
	dir, err := localserver.MakeDir(o.Dir)
	if err != nil {
		return nil, err
	}
	for _, path := range []string{dir, o.Bin.home, o.Bin.erts} {
		if err := account.MayPass(path); err != nil {
			return nil, err
		}
	}
	s := &Server{Bin: o.Bin, Password: rand.Text(), CAFile: filepath.Join(dir, "ca.crt"), dir: dir, account: account, settings: o.Settings, plugins: o.Plugins}
	// Somebody else may be faster on one of the ports.
	const tries = 3
	for try := 1; ; try++ {
		if err := s.choosePorts(); err != nil {
			return nil, err
		}
		if err := s.write(); err != nil {
			return nil, err
		}
		err := s.run(ctx)
		if err == nil {
			return s, nil
		}
		if try == tries || ctx.Err() != nil {
			return nil, err
		}
	}
}

func (s *Server) ports() []*int { return []*int{&s.Port, &s.APIPort, &s.TLSPort, &s.mapper, &s.peers} }

func (s *Server) choosePorts() (err error) {
	var taken []int
	for _, port := range s.ports() {
		for *port = 0; *port == 0 || slices.Contains(taken, *port); {
			if *port, err = localserver.FreePort(); err != nil {
				return err
			}
		}
		taken = append(taken, *port)
	}
	return nil
}

func (s *Server) portsFree() error {
	for _, port := range s.ports() {
		if err := localserver.PortFree(*port); err != nil {
			return err
		}
	}
	return nil
}

// URL is the base of the management API, without TLS.
func (s *Server) URL() string { return "http://" + s.address(s.APIPort) + "/api" }

func (s *Server) address(port int) string { return net.JoinHostPort(Host, strconv.Itoa(port)) }

// write makes the broker's folder.
func (s *Server) write() error {
	certificate, key, err := localserver.Certificate("RabbitMQ")
	if err != nil {
		return err
	}
	conf := map[string]string{
		"listeners.tcp.1":                   s.address(s.Port),
		"management.tcp.ip":                 Host,
		"management.tcp.port":               strconv.Itoa(s.APIPort),
		"management.ssl.ip":                 Host,
		"management.ssl.port":               strconv.Itoa(s.TLSPort),
		"management.ssl.certfile":           s.CAFile,
		"management.ssl.keyfile":            filepath.Join(s.dir, "server.key"),
		"default_user":                      Administrator,
		"default_pass":                      s.Password,
		"default_user_tags.administrator":   "true",
		"disk_free_limit.absolute":          "50MB",
		"log.console":                       "false",
		"log.file":                          s.log(),
		"vm_memory_high_watermark.absolute": "1GB",
	}
	for name, value := range s.settings {
		conf[name] = value
	}
	var lines []string
	for name, value := range conf {
		lines = append(lines, name+" = "+value+"\n")
	}
	slices.Sort(lines)
	// Those of the packages find Erlang in the system's folder only.
	erlang := func(program string) []byte {
		return []byte("#!/bin/sh\n" +
			"export ROOTDIR='" + s.Bin.erlang + "' BINDIR='" + s.Bin.erts + "' EMU=beam PROGNAME=erl ESCRIPT_EMULATOR='" + filepath.Join(s.dir, "erl") + "'\n" +
			`exec "$BINDIR/` + program + `" "$@"` + "\n")
	}
	for _, f := range []struct {
		name string
		text []byte
		mode os.FileMode
	}{
		{"ca.crt", certificate, 0o644},
		{"server.key", key, 0o600},
		{"rabbitmq.conf", []byte(strings.Join(lines, "")), 0o600},
		{"enabled_plugins", []byte("[" + strings.Join(append([]string{"rabbitmq_management"}, s.plugins...), ",") + "]."), 0o600},
		{".erlang.cookie", []byte(rand.Text()), 0o600},
		{"erl", erlang("erlexec"), 0o755},
		{"escript", erlang("escript"), 0o755},
	} {
		path := filepath.Join(s.dir, f.name)
		if err := os.WriteFile(path, f.text, f.mode); err != nil {
			return err
		}
		if err := s.account.Own(path); err != nil {
			return err
		}
	}
	return s.account.Own(s.dir)
}

func (s *Server) log() string { return filepath.Join(s.dir, "server.log") }

// Stop closes all connections and stops the broker in good order. Stopping a
// stopped broker does nothing.
func (s *Server) Stop() error { return s.stop(syscall.SIGTERM) }

// Kill stops the broker at once, as a crash would.
func (s *Server) Kill() error { return s.stop(syscall.SIGKILL) }

func (s *Server) stop(signal syscall.Signal) error {
	for _, p := range []*localserver.Process{s.server, s.epmd} {
		if err := p.Stop(signal, stopTimeout, syscall.SIGKILL); err != nil {
			return fmt.Errorf("localrabbitmq: stop: %w", err)
		}
		signal = syscall.SIGKILL // the port mapper knows no order
	}
	return nil
}

// Restart starts the broker again on its ports, after stopping it when it runs.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Stop(); err != nil {
		return err
	}
	if err := s.run(ctx); err != nil {
		return fmt.Errorf("localrabbitmq: %w", err)
	}
	return nil
}

// command prepares a program, run as the broker's user and untouched by the
// environment of this process and by the machine's configuration.
func (s *Server) command(path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Dir = "/"
	cmd.Env = []string{
		"PATH=" + strings.Join([]string{s.dir, filepath.Join(s.Bin.home, "sbin"), "/usr/bin:/bin"}, ":"), "HOME=" + s.dir, "LC_ALL=C.UTF-8",
		// In the foreground, as systemd wants it: the process is the broker itself.
		"RUNNING_UNDER_SYSTEMD=true",
		"RABBITMQ_CONF_ENV_FILE=" + os.DevNull,
		"RABBITMQ_NODENAME=lapse@localhost",
		"ERL_AFLAGS=-kernel inet_dist_use_interface {127,0,0,1}",
		"RABBITMQ_MNESIA_BASE=" + filepath.Join(s.dir, "data"),
		"RABBITMQ_LOG_BASE=" + s.dir,
		"RABBITMQ_PID_FILE=" + filepath.Join(s.dir, "pid"),
		"RABBITMQ_CONFIG_FILE=" + filepath.Join(s.dir, "rabbitmq.conf"),
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + filepath.Join(s.dir, "enabled_plugins"),
		"ERL_EPMD_ADDRESS=" + Host,
		"ERL_EPMD_PORT=" + strconv.Itoa(s.mapper),
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.account.Credential()}
	return cmd
}

// Script runs a shell script, in which rabbitmqctl manages this broker, and
// returns what it says. It reads input.
func (s *Server) Script(ctx context.Context, script, input string) (string, error) {
	cmd := s.command("/bin/sh", "-euc", script)
	cmd.Stdin = strings.NewReader(input)
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	defer stop()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("localrabbitmq: %w: %s", err, out)
	}
	return string(out), nil
}

// run starts the port mapper, which the broker would otherwise start so that it
// outlives us, and the broker, and waits until it can be used.
func (s *Server) run(ctx context.Context) error {
	if err := s.portsFree(); err != nil {
		return err
	}
	out, err := os.OpenFile(filepath.Join(s.dir, "start.log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if s.epmd, err = localserver.Launch(s.command(s.Bin.epmd(), "-address", Host, "-port", strconv.Itoa(s.mapper)), syscall.SIGKILL); err != nil {
		return err
	}
	if err := s.until(ctx, s.epmd, func() bool { return s.connects(s.mapper) }); err != nil {
		return err
	}
	cmd := s.command(s.Bin.server())
	cmd.Env = append(cmd.Env, "RABBITMQ_DIST_PORT="+strconv.Itoa(s.peers))
	cmd.Stdout, cmd.Stderr = out, out
	if s.server, err = localserver.Launch(cmd, syscall.SIGKILL); err != nil {
		s.epmd.Stop(syscall.SIGKILL, stopTimeout, syscall.SIGKILL)
		return err
	}
	return s.until(ctx, s.server, s.ready)
}

// until waits for a process that was started; one that is not ready in time is
// ended.
func (s *Server) until(ctx context.Context, p *localserver.Process, ready func() bool) error {
	for !ready() {
		var err error
		select {
		case <-time.After(50 * time.Millisecond):
			continue
		case <-p.Exited():
			err = fmt.Errorf("RabbitMQ does not start: %w", localserver.LogTail(filepath.Join(s.dir, "start.log"), 0))
		case <-ctx.Done():
			err = fmt.Errorf("RabbitMQ is not ready in time: %w", ctx.Err())
		}
		p.Stop(syscall.SIGKILL, stopTimeout, syscall.SIGKILL)
		s.epmd.Stop(syscall.SIGKILL, stopTimeout, syscall.SIGKILL)
		return err
	}
	return nil
}

func (s *Server) connects(port int) bool {
	conn, err := net.DialTimeout("tcp", s.address(port), time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// ready is true once all that is configured listens, and the API answers.
func (s *Server) ready() bool {
	if !s.connects(s.Port) || !s.connects(s.TLSPort) {
		return false
	}
	req, err := http.NewRequest(http.MethodGet, s.URL()+"/whoami", nil)
	if err != nil {
		return false
	}
	req.SetBasicAuth(Administrator, s.Password)
	res, err := (&http.Client{Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		return false
	}
	io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}
