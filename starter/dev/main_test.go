package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lapse-access/lapse/internal/localpg"
	"github.com/lapse-access/lapse/internal/localpg/localpgtest"
	"github.com/lapse-access/lapse/internal/localserver"
	"github.com/lapse-access/lapse/internal/localserver/localservertest"
)

// TestMain lets the test binary stand for lapse-dev, so that a test can kill it
// and nothing has to be built twice.
func TestMain(m *testing.M) {
	if os.Getenv("LAPSE_DEV_TEST") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// process is a lapse-dev in a process of its own. The same one may be started
// again after it ended: it keeps its folder and addresses.
type process struct {
	t      *testing.T
	env    []string // beside that of the test
	args   []string
	output bytes.Buffer // of all starts
	cmd    *exec.Cmd
	exited chan error
}

// newProcess prepares a lapse-dev with addresses that are free. What it prints
// is shown when the test fails.
func newProcess(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, args: args}
	p.env = []string{"LAPSE_DEV_TEST=1", "LAPSE_DATA=" + localservertest.Dir(t)}
	for _, name := range []string{"LAPSE_PORTAL", "LAPSE_TEMPORAL", "LAPSE_TEMPORAL_UI", "LAPSE_DEMO_POSTGRESQL"} {
		p.env = append(p.env, name+"="+freeAddress(t))
	}
	t.Cleanup(func() {
		if p.cmd != nil {
			p.end(syscall.SIGTERM)
		}
		if t.Failed() {
			t.Logf("lapse-dev printed:\n%s", &p.output)
		}
	})
	return p
}

// setting returns the value that the process has for a variable.
func (p *process) setting(name string) string {
	for _, entry := range p.env {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	p.t.Fatalf("lapse-dev has no %s", name)
	return ""
}

// start returns when lapse-dev says that it is up.
func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.Command(os.Args[0], p.args...)
	p.cmd.Env = append(os.Environ(), p.env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	p.cmd.Stderr = p.cmd.Stdout
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	up := make(chan bool, 1)
	p.exited = make(chan error, 1)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			fmt.Fprintln(&p.output, lines.Text())
			if lines.Text() == "Lapse is up." {
				up <- true
			}
		}
		p.exited <- p.cmd.Wait()
	}()
	select {
	case <-up:
	case err := <-p.exited:
		p.exited <- err
		p.t.Fatalf("lapse-dev ended: %v", err)
	case <-time.After(time.Minute):
		p.t.Fatal("lapse-dev is not up after a minute")
	}
}

// end signals the process, and those of its group as a terminal does, and
// returns how it ended.
func (p *process) end(signal syscall.Signal) error {
	p.t.Helper()
	if err := syscall.Kill(-p.cmd.Process.Pid, signal); err != nil && err != syscall.ESRCH {
		p.t.Error(err)
	}
	select {
	case err := <-p.exited:
		p.exited <- err
		return err
	case <-time.After(time.Minute):
		p.t.Fatalf("lapse-dev goes on a minute after %v", signal)
		return nil
	}
}

// Every start leads to the same demonstration, whatever ended the run before.
func TestDemonstration(t *testing.T) {
	localpgtest.Find(t, 0)
	for _, bin := range localpg.Installed() {
		t.Run("PostgreSQL "+strconv.Itoa(bin.Major), func(t *testing.T) {
			t.Parallel()
			p := newProcess(t)
			p.env = append(p.env, "LAPSE_POSTGRES_BIN="+bin.Dir)
			p.start()
			wantShop(t, p)

			second := exec.Command(os.Args[0])
			second.Env = p.cmd.Env
			out, err := second.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "in use by another process of Lapse (process "+strconv.Itoa(p.cmd.Process.Pid)+")") {
				t.Errorf("a second lapse-dev on the same folder: %v\n%s", err, out)
			}

			for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL, syscall.SIGTERM} {
				err := p.end(signal)
				if signal != syscall.SIGKILL {
					if err != nil {
						t.Errorf("after %v: %v", signal, err)
					}
					for _, name := range []string{"LAPSE_TEMPORAL", "LAPSE_TEMPORAL_UI", "LAPSE_DEMO_POSTGRESQL"} {
						if c, err := net.Dial("tcp", p.setting(name)); err == nil {
							c.Close()
							t.Errorf("after %v something answers at %s", signal, name)
						}
					}
				}
				p.start()
				wantShop(t, p)
			}
			if err := p.end(syscall.SIGINT); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSettingsThatAreRefused(t *testing.T) {
	for _, test := range []struct{ name, value, want string }{
		{"LAPSE_DEMO_POSTGRESQL", "0.0.0.0:54329", "127.0.0.1 only"},
		{"LAPSE_DATA", "/dev/null/data", "make the data folder"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newProcess(t)
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(append(os.Environ(), p.env...), test.name+"="+test.value)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), test.want) {
				t.Errorf("%s=%s: %v\n%s", test.name, test.value, err, out)
			}
		})
	}
}

// wantShop checks that the connector's login works, over verified TLS, sees the
// shop and is no superuser.
func wantShop(t *testing.T, p *process) {
	t.Helper()
	demo := demonstration{secretFile: filepath.Join(p.setting("LAPSE_DATA"), "demo-connector.json")}
	password, err := demo.connectorPassword()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, fmt.Sprintf("postgres://lapse_connector:%s@%s/shop?sslmode=verify-full&sslrootcert=%s",
		password, p.setting("LAPSE_DEMO_POSTGRESQL"), filepath.Join(p.setting("LAPSE_DATA"), "postgresql/ca.crt")))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var (
		orders    int
		superuser bool
		owner     string
	)
	err = conn.QueryRow(ctx, `SELECT (SELECT count(*) FROM public.orders), (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
		obj_description('public'::regnamespace, 'pg_namespace')`).Scan(&orders, &superuser, &owner)
	if err != nil {
		t.Fatal(err)
	}
	if orders != 1000 || superuser || !strings.Contains(owner, "owner=dba") {
		t.Errorf("orders = %d, superuser = %v, comment of public = %q", orders, superuser, owner)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	port, err := localserver.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort(localserver.Host, strconv.Itoa(port))
}
