package localpg_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/lapse-access/lapse/internal/localpg"
	"github.com/lapse-access/lapse/internal/localpg/localpgtest"
	"github.com/lapse-access/lapse/internal/localserver/localservertest"
)

// TestMain lets the test binary stand for a process that starts a server and is
// then killed.
func TestMain(m *testing.M) {
	dir := os.Getenv("LOCALPG_TEST_DIR")
	if dir == "" {
		os.Exit(m.Run())
	}
	if _, err := localpg.Start(context.Background(), localpg.Options{Dir: dir}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("started")
	select {}
}

func TestEveryInstalledVersion(t *testing.T) {
	localpgtest.Find(t, 0)
	for _, bin := range localpg.Installed() {
		t.Run(strconv.Itoa(bin.Major), func(t *testing.T) {
			t.Parallel()
			s := localpgtest.Start(t, bin.Major)
			if got := query(t, s, "SHOW server_version"); !strings.HasPrefix(got, bin.Version) {
				t.Errorf("server_version = %s, want %s", got, bin.Version)
			}
			if got := query(t, s, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"); got != "t" {
				t.Errorf("the connection is not encrypted: %s", got)
			}
			query(t, s, "CREATE TABLE kept AS SELECT 42 AS answer")
			if err := s.Kill(); err != nil {
				t.Fatal(err)
			}
			if out, err := psql(s, "SELECT 1"); err == nil {
				t.Fatalf("the server answers after Kill: %s", out)
			}
			if err := s.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := query(t, s, "SELECT answer FROM kept"); got != "42" {
				t.Errorf("after a crash the table holds %q", got)
			}
			if err := s.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			query(t, s, "SELECT 1")
		})
	}
}

// A process that is killed leaves its server behind for a moment, or for good;
// the next one takes over the folder.
func TestStartAfterOurProcessWasKilled(t *testing.T) {
	t.Parallel()
	localpgtest.Find(t, 0)
	dir := localservertest.Dir(t)
	for range 2 {
		self := exec.Command(os.Args[0])
		self.Env = append(os.Environ(), "LOCALPG_TEST_DIR="+dir)
		self.Stderr = os.Stderr
		out, err := self.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := self.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatalf("%q, %v", line, err)
		}
		if err := self.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		self.Wait()
	}
	s, err := localpg.Start(t.Context(), localpg.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	query(t, s, "SELECT 1")
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}

// A restored or crashed folder may name a process that has become another one.
func TestStartWithTheLockFileOfAStranger(t *testing.T) {
	t.Parallel()
	s := localpgtest.Start(t, 0)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	lock := filepath.Join(filepath.Dir(s.CAFile), "data", "postmaster.pid")
	if err := os.WriteFile(lock, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	query(t, s, "SELECT 1")
}

func TestBusyPort(t *testing.T) {
	t.Parallel()
	localpgtest.Find(t, 0)
	l, err := net.Listen("tcp", localpg.Host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	_, err = localpg.Start(t.Context(), localpg.Options{Dir: localservertest.Dir(t), Port: port})
	if err == nil || !strings.Contains(err.Error(), strconv.Itoa(port)) {
		t.Errorf("error = %v, want one that names port %d", err, port)
	}
}

func TestClosedFolder(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root's folders are closed to the server's user")
	}
	t.Parallel()
	localpgtest.Find(t, 0)
	_, err := localpg.Start(t.Context(), localpg.Options{Dir: t.TempDir()})
	if closed := (*localpg.ClosedError)(nil); !errors.As(err, &closed) {
		t.Errorf("error = %v, want a ClosedError", err)
	}
}

func TestFindTellsTheWayOut(t *testing.T) {
	_, err := localpg.Find(1)
	if err == nil || !strings.Contains(err.Error(), "make postgresql") {
		t.Errorf("error = %v", err)
	}
}

func query(t *testing.T, s *localpg.Server, sql string) string {
	t.Helper()
	out, err := psql(s, sql)
	if err != nil {
		t.Fatalf("%s: %v\n%s", sql, err, out)
	}
	return out
}

func psql(s *localpg.Server, sql string) (string, error) {
	out, err := exec.Command(s.Bin.Path("psql"), "-XAtq", "-c", sql, s.URL("postgres")).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}
