// Package localserver has what private servers on this machine have in common:
// the user that they run as, a certificate, a free port, and a process that ends
// with ours.
package localserver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Host is the address that every private server listens on.
const Host = "127.0.0.1"

// CacheDir is the folder for what can be fetched or built again: $LAPSE_CACHE,
// else /var/cache/lapse for root, whose home other users cannot enter, else
// lapse in the user's own cache folder.
func CacheDir() (string, error) {
	if dir := os.Getenv("LAPSE_CACHE"); dir != "" {
		return dir, nil
	}
	if os.Getuid() == 0 {
		return "/var/cache/lapse", nil
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "lapse"), err
}

// MakeDir makes a folder unless it is there, and returns its real path.
func MakeDir(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(dir)
}

// The ports that are given out lie below those from which the kernel takes one
// for an outgoing connection.
const (
	firstPort = 20000
	lastPort  = 31999
)

// reserved are the locks on the ports that this process has.
var reserved struct {
	sync.Mutex
	files []*os.File
}

// FreePort returns a port of Host that nobody listens on, and that no other
// process which asks here gets as long as this one lives.
func FreePort() (int, error) {
	dir := filepath.Join(os.TempDir(), "lapse-ports-"+strconv.Itoa(os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, err
	}
	const tries = 1000
	for range tries {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		f, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(port)), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return 0, err
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil || PortFree(port) != nil {
			f.Close()
			continue
		}
		reserved.Lock()
		reserved.files = append(reserved.files, f) // closing it would give the port back
		reserved.Unlock()
		return port, nil
	}
	return 0, fmt.Errorf("no port from %d to %d is free", firstPort, lastPort)
}

// PortFree returns an error when somebody listens on a port of Host.
func PortFree(port int) error {
	l, err := net.Listen("tcp", net.JoinHostPort(Host, strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("port %d is not free: %w", port, err)
	}
	return l.Close()
}

// LogTail returns what was logged since the offset, as an error.
func LogTail(path string, offset int64) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return errors.New(strings.TrimSpace(string(text[min(offset, int64(len(text))):])))
}

// Process is a running server.
type Process struct {
	cmd    *exec.Cmd
	exited chan struct{}
}

// Launch starts a server, which must be a direct child. It is detached from our
// terminal, so that Ctrl-C there does not reach it, and gets the signal onDeath
// when we are killed, where the system can do that.
func Launch(cmd *exec.Cmd, onDeath syscall.Signal) (*Process, error) {
	bindToParent(cmd.SysProcAttr, onDeath)
	p := &Process{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		// Start and Wait share one locked thread, because the kernel tells a child
		// of the death of the thread that started it, not of the process.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait()
			close(p.exited)
		}
	}()
	return p, <-started
}

// Pid is the number of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Exited is closed once the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Stop sends a signal and waits for the end. After the timeout it sends last. A
// process that has ended is left alone.
func (p *Process) Stop(signal syscall.Signal, timeout time.Duration, last syscall.Signal) error {
	select {
	case <-p.exited:
		return nil
	default:
	}
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.exited:
	case <-time.After(timeout):
		p.cmd.Process.Signal(last)
		<-p.exited
	}
	return nil
}
