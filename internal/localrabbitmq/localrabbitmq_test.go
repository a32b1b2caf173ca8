package localrabbitmq_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lapse-access/lapse/internal/localrabbitmq"
	"github.com/lapse-access/lapse/internal/localrabbitmq/localrabbitmqtest"
	"github.com/lapse-access/lapse/internal/localserver/localservertest"
)

var majors = []int{3, 4}

// TestMain is also the process that TestOurProcessWasKilled kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv("LOCALRABBITMQ_TEST_DIR"); dir != "" {
		bin, err := localrabbitmq.Find(0)
		if err == nil {
			_, err = localrabbitmq.Start(context.Background(), localrabbitmq.Options{Bin: bin, Dir: dir})
		}
		fmt.Println("started", err)
		select {}
	}
	os.Exit(m.Run())
}

func status(s *localrabbitmq.Server, password string) int {
	req, err := http.NewRequest(http.MethodGet, s.URL()+"/vhosts/%2F", nil)
	if err != nil {
		return 0
	}
	req.SetBasicAuth(localrabbitmq.Administrator, password)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	res.Body.Close()
	return res.StatusCode
}

func TestServer(t *testing.T) {
	for _, major := range majors {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			t.Parallel()
			s := localrabbitmqtest.Start(t, major)
			if s.Bin.Major != major {
				t.Errorf("RabbitMQ %s", s.Bin.Version)
			}
			if got := status(s, s.Password); got != http.StatusOK {
				t.Errorf("the administrator gets %d", got)
			}
			if got := status(s, "guest"); got != http.StatusUnauthorized {
				t.Errorf("somebody else gets %d", got)
			}
			if got := listening(t, processes(t, filepath.Dir(s.CAFile))); len(got) < 4 {
				t.Errorf("it listens on %v, want four ports", got)
			} else if i := slices.IndexFunc(got, func(a string) bool { ip := net.ParseIP(a); return ip == nil || !ip.IsLoopback() }); i >= 0 {
				t.Errorf("it listens on %v, want loopback addresses only", got)
			}
			if err := s.Kill(); err != nil {
				t.Fatal(err)
			}
			if got := status(s, s.Password); got != 0 {
				t.Errorf("after Kill it answers %d", got)
			}
			if err := s.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := status(s, s.Password); got != http.StatusOK {
				t.Errorf("after a restart the administrator gets %d", got)
			}
			if err := s.Stop(); err != nil {
				t.Error(err)
			}
			gone(t, filepath.Dir(s.CAFile))
		})
	}
}

// Nothing of a broker outlives a process that was killed: neither the broker nor
// its port mapper.
func TestOurProcessWasKilled(t *testing.T) {
	localrabbitmqtest.Find(t, 0)
	dir := localservertest.Dir(t)
	self := exec.Command(os.Args[0])
	self.Env = append(os.Environ(), "LOCALRABBITMQ_TEST_DIR="+dir)
	self.Stderr = os.Stderr
	out, err := self.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "started <nil>" {
		t.Fatalf("%q, %v", line, err)
	}
	if n := len(processes(t, dir)); n < 2 {
		t.Fatalf("%d processes, want the broker and its port mapper", n)
	}
	if err := self.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	self.Wait()
	gone(t, dir)
}

func TestDoesNotStart(t *testing.T) {
	dir := localservertest.Dir(t)
	_, err := localrabbitmq.Start(t.Context(), localrabbitmq.Options{Bin: localrabbitmqtest.Find(t, 0), Dir: dir, Settings: map[string]string{"no.such.setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), "no.such.setting") {
		t.Errorf("error = %v, want one that names the setting", err)
	}
	gone(t, dir)
}

// gone waits until no process of the broker in dir is left.
func gone(t *testing.T, dir string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); len(processes(t, dir)) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("processes %v are still there", processes(t, dir))
		}
	}
}

// processes are those whose home is dir.
func processes(t *testing.T, dir string) (pids []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil || len(files) == 0 {
		if runtime.GOOS == "linux" {
			t.Fatal("there is nothing in /proc")
		}
		t.Skip("only Linux lists its processes in /proc")
	}
	for _, file := range files {
		text, _ := os.ReadFile(file) // it may have ended meanwhile
		if slices.Contains(strings.Split(string(text), "\x00"), "HOME="+dir) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// listening are the addresses on which processes wait for connections.
func listening(t *testing.T, pids []int) (addresses []string) {
	t.Helper()
	sockets := map[string]bool{}
	for _, pid := range pids {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, file := range files {
			if to, err := os.Readlink(file); err == nil && strings.HasPrefix(to, "socket:[") {
				sockets[strings.Trim(to, "socket:[]")] = true
			}
		}
	}
	for _, table := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile("/proc/net/" + table)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			const listen = "0A"
			if f := strings.Fields(line); len(f) > 9 && f[3] == listen && sockets[f[9]] {
				addresses = append(addresses, address(f[1]))
			}
		}
	}
	return addresses
}

// address reads an address of /proc/net/tcp: words of 32 bits, the lowest byte
// first.
func address(text string) string {
	text, _, _ = strings.Cut(text, ":")
	var ip net.IP
	for ; len(text) >= 8; text = text[8:] {
		word, err := strconv.ParseUint(text[:8], 16, 32)
		if err != nil {
			return ""
		}
		ip = append(ip, byte(word), byte(word>>8), byte(word>>16), byte(word>>24))
	}
	return ip.String()
}
