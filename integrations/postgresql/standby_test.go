package postgresql_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/postgresql"
	"github.com/lapse-access/lapse/internal/localpg"
	"github.com/lapse-access/lapse/internal/localserver/localservertest"
)

// startStandby copies the server and lets the copy follow it, until the end of
// the test. It returns the standby's port.
func (b *bed) startStandby(t *testing.T) int {
	t.Helper()
	dir := localservertest.Dir(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	data, err := os.Stat(filepath.Join(filepath.Dir(b.CAFile), "data"))
	if err != nil {
		t.Fatal(err)
	}
	// As the same user as the server itself.
	owner := data.Sys().(*syscall.Stat_t)
	if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
		t.Fatal(err)
	}
	command := func(program string, args ...string) *exec.Cmd {
		cmd := exec.Command(b.Bin.Path(program), args...)
		cmd.Dir = "/"
		cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "PGPASSWORD=" + b.Password}
		cmd.SysProcAttr = &syscall.SysProcAttr{}
		if os.Getuid() == 0 {
			cmd.SysProcAttr.Credential = &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}
		}
		return cmd
	}
	out, err := command("pg_basebackup", "-D", dir, "-R", "-X", "stream", "-c", "fast", "--no-sync",
		"-d", "host=127.0.0.1 user=postgres port="+strconv.Itoa(b.Port)).CombinedOutput()
	if err != nil {
		t.Fatalf("pg_basebackup: %v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	server := command("postgres", "-D", dir, "-p", strconv.Itoa(port), "-c", "listen_addresses=127.0.0.1", "-c", "ssl=on", "-c", "unix_socket_directories=")
	server.SysProcAttr.Pdeathsig = syscall.SIGINT
	started, exited := make(chan error), make(chan struct{})
	go func() {
		// The kernel tells a child of the death of the thread that started it.
		runtime.LockOSThread()
		err := server.Start()
		started <- err
		if err == nil {
			server.Wait()
			close(exited)
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Signal(syscall.SIGINT)
		<-exited
	})
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		c, err := pgx.Connect(t.Context(), b.standbyURL(port))
		if err == nil {
			c.Close(t.Context())
			return port
		}
		if time.Now().After(until) {
			t.Fatalf("the standby does not answer: %v", err)
		}
	}
}

func (b *bed) standbyURL(port int) string {
	return strings.Replace(b.URL("postgres"), ":"+strconv.Itoa(b.Port)+"/", ":"+strconv.Itoa(port)+"/", 1)
}

func TestStandby(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run(strconv.Itoa(v), func(t *testing.T) {
			t.Parallel()
			b := newBed(t, v)
			port := b.startStandby(t)
			t.Run("sessions on a standby are ended", func(t *testing.T) { standbySessions(t, b, port) })
			t.Run("a standby is told from a primary", func(t *testing.T) { standbyRefused(t, b, port) })
		})
	}
}

func standbySessions(t *testing.T, b *bed, port int) {
	host := net.JoinHostPort(localpg.Host, strconv.Itoa(port))
	target := b.target(func(c *postgresql.Config, _ *postgresql.Secret) { c.SessionHosts = []string{host} })
	l := at(t, target)
	l.Grant(t, readShop)
	cred := l.Credential(t)
	superuser, err := pgx.Connect(t.Context(), b.standbyURL(port))
	if err != nil {
		t.Fatal(err)
	}
	defer superuser.Close(context.Background())

	cfg, err := pgx.ParseConfig("host=127.0.0.1 sslmode=disable user=x dbname=shop")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Port, cfg.User, cfg.Password = uint16(port), cred.Username, cred.Password.Reveal()
	var person *pgx.Conn
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if person, err = pgx.ConnectConfig(t.Context(), cfg); err == nil {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("logging in on the standby: %v", err)
		}
	}
	defer person.PgConn().Conn().Close()

	report, err := l.Check(t.Context())
	if err != nil || !report.OK() {
		t.Errorf("check: %+v, %v", report, err)
	}
	// While the standby does not replay, it knows nothing of the revoke and
	// would let the person in again: the revoke is not done.
	if _, err := superuser.Exec(t.Context(), "SELECT pg_wal_replay_pause()"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	l.Sequence++
	_, err = l.Integration.Revoke(ctx, integrations.RevokeRequest{Account: l.Account, End: []access.Entitlement{readShop}, Sequence: l.Sequence})
	if access.KindOf(err) != access.Retry || !strings.Contains(err.Error(), host) {
		t.Errorf("revoking while the standby lags: %v, want retry and the host named", err)
	}
	if _, err := superuser.Exec(t.Context(), "SELECT pg_wal_replay_resume()"); err != nil {
		t.Fatal(err)
	}
	l.Revoke(t, readShop)
	var alive bool
	if err := superuser.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = $1)", cred.Username).Scan(&alive); err != nil || alive {
		t.Errorf("after the revoke there is a session on the standby: %t, %v", alive, err)
	}
	if c, err := pgx.ConnectConfig(t.Context(), cfg); err == nil {
		c.Close(t.Context())
		t.Error("after the revoke a login on the standby works")
	}
}

func standbyRefused(t *testing.T, b *bed, port int) {
	l := at(t, b.target(func(c *postgresql.Config, _ *postgresql.Secret) { c.Port = port }))
	report, err := l.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	refused := false
	for _, item := range report.Items {
		refused = refused || item.Name == "primary" && !item.OK && strings.Contains(item.Remedy, "session_hosts")
	}
	if !refused {
		t.Errorf("check: %+v", report)
	}
	if _, err := l.TryGrant(t, readShop); access.KindOf(err) != access.Retry {
		t.Errorf("granting on a standby: %v, want retry", err)
	}
}
