package localmysql_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/lapse-access/lapse/internal/localmysql"
	"github.com/lapse-access/lapse/internal/localmysql/localmysqltest"
	"github.com/lapse-access/lapse/internal/localserver/localservertest"
)

var products = []localmysql.Product{localmysql.MySQL, localmysql.MariaDB}

// TestMain lets the test binary stand for a process that starts a server and is
// then killed.
func TestMain(m *testing.M) {
	dir := os.Getenv("LOCALMYSQL_TEST_DIR")
	if dir == "" {
		os.Exit(m.Run())
	}
	bin, err := localmysql.Find(localmysql.Product(os.Getenv("LOCALMYSQL_TEST_PRODUCT")))
	if err == nil {
		_, err = localmysql.Start(context.Background(), localmysql.Options{Bin: bin, Dir: dir})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	pid, _ := os.ReadFile(dir + "/data/server.pid")
	fmt.Print("started ", string(pid))
	select {}
}

func TestEveryInstalledVersion(t *testing.T) {
	for _, product := range products {
		localmysqltest.Find(t, product)
		for _, bin := range localmysql.Installed(product) {
			t.Run(string(product)+" "+bin.Series(), func(t *testing.T) {
				t.Parallel()
				s := localmysqltest.StartVersion(t, bin, map[string]string{"max-connections": "77"})
				if got := query(t, s, "SELECT VERSION()"); !strings.HasPrefix(got, bin.Version) || strings.Contains(got, "MariaDB") != (product == localmysql.MariaDB) {
					t.Errorf("version %s, want %s %s", got, product, bin.Version)
				}
				if got := query(t, s, "SELECT CURRENT_USER()"); got != "root@127.0.0.1" {
					t.Errorf("current user %s", got)
				}
				if got := query(t, s, "SELECT @@max_connections"); got != "77" {
					t.Errorf("max_connections = %s", got)
				}
				if got := query(t, s, "SELECT COUNT(*) FROM mysql.user WHERE User NOT LIKE 'mysql.%' AND User NOT IN ('mariadb.sys', 'PUBLIC') AND Host NOT IN ('127.0.0.1', 'localhost')"); got != "0" {
					t.Errorf("%s users of other hosts", got)
				}
				query(t, s, "SELECT COUNT(*) FROM sys.version")
				if err := login(s, "", nil); err == nil {
					t.Error("the superuser may log in without a password")
				}
				if err := login(s, s.Password, func(c *tls.Config) { c.ServerName = "db.example.com" }); err == nil {
					t.Error("the certificate is accepted for another name")
				}
				if err := login(s, s.Password, func(c *tls.Config) { c.RootCAs = nil }); err == nil {
					t.Error("the certificate is accepted without its authority")
				}
				run(t, s, "CREATE DATABASE kept", "CREATE TABLE kept.kept AS SELECT 42 AS answer", "CREATE USER kept", "GRANT SELECT ON kept.* TO kept")
				if err := s.Kill(); err != nil {
					t.Fatal(err)
				}
				if err := login(s, s.Password, nil); err == nil {
					t.Fatal("the server answers after Kill")
				}
				if err := s.Restart(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := query(t, s, "SELECT answer FROM kept.kept"); got != "42" {
					t.Errorf("after a crash the table holds %q", got)
				}
				query(t, s, "SHOW GRANTS FOR kept")
				if err := s.Restart(t.Context()); err != nil {
					t.Fatal(err)
				}
				query(t, s, "SELECT 1")
			})
		}
	}
}

// No server outlives a process that was killed, and the next one takes over the
// folder.
func TestOurProcessWasKilled(t *testing.T) {
	for _, product := range products {
		t.Run(string(product), func(t *testing.T) {
			t.Parallel()
			bin := localmysqltest.Find(t, product)
			dir := localservertest.Dir(t)
			self := exec.Command(os.Args[0])
			self.Env = append(os.Environ(), "LOCALMYSQL_TEST_DIR="+dir, "LOCALMYSQL_TEST_PRODUCT="+string(product))
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
			pid, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "started ")))
			if err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(pid, 0); err != nil {
				t.Fatalf("process %d: %v", pid, err)
			}
			if err := self.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			self.Wait()
			for deadline := time.Now().Add(10 * time.Second); syscall.Kill(pid, 0) == nil; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("process %d outlives its parent", pid)
				}
			}
			s, err := localmysql.Start(t.Context(), localmysql.Options{Bin: bin, Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			query(t, s, "SELECT 1")
			if err := s.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBusyPort(t *testing.T) {
	t.Parallel()
	bin := localmysqltest.Find(t, localmysql.MariaDB)
	l, err := net.Listen("tcp", localmysql.Host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	_, err = localmysql.Start(t.Context(), localmysql.Options{Bin: bin, Dir: localservertest.Dir(t), Port: port})
	if err == nil || !strings.Contains(err.Error(), strconv.Itoa(port)) {
		t.Errorf("error = %v, want one that names port %d", err, port)
	}
}

// A server that does not start says why.
func TestWrongSetting(t *testing.T) {
	for _, product := range products {
		t.Run(string(product), func(t *testing.T) {
			t.Parallel()
			bin := localmysqltest.Find(t, product)
			_, err := localmysql.Start(t.Context(), localmysql.Options{Bin: bin, Dir: localservertest.Dir(t), Settings: map[string]string{"no-such-setting": "1"}})
			if err == nil || !strings.Contains(err.Error(), "no-such-setting") {
				t.Errorf("error = %v", err)
			}
		})
	}
}

func open(t *testing.T, s *localmysql.Server) *sql.DB {
	t.Helper()
	db, err := s.Open("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func query(t *testing.T, s *localmysql.Server, statement string) (result string) {
	t.Helper()
	if err := open(t, s).QueryRowContext(t.Context(), statement).Scan(&result); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return result
}

func run(t *testing.T, s *localmysql.Server, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := open(t, s).ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// login connects as the superuser.
func login(s *localmysql.Server, password string, change func(*tls.Config)) error {
	c, err := s.Config("")
	if err != nil {
		return err
	}
	c.Passwd = password
	if change != nil {
		change(c.TLS)
	}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	return db.Ping()
}
