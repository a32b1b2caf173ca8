// Package datadir is the folder of everything of Lapse that lasts: what is where
// in it, who uses it, and how it is copied and brought back.
package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// What stands where in the folder.
const (
	Store    = "lapse.db"
	Temporal = "temporal.db" // of lapse-dev, which carries the Temporal server
	Keys     = "keys"
)

// Claim makes the folder and claims it for this process, alone or beside others
// that do not want it alone. The claim ends with the process, however it ends.
func Claim(dir string, alone bool) (release func() error, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	how := syscall.LOCK_SH
	if alone {
		how = syscall.LOCK_EX
	}
	if err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
		}
		owner, _ := os.ReadFile(path)
		return nil, fmt.Errorf("the folder %s is in use by another process of Lapse (process %s): stop that one, or choose another folder with --data",
			dir, strings.TrimSpace(string(owner)))
	}
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := fmt.Fprintln(f, os.Getpid()); err != nil {
		f.Close()
		return nil, err
	}
	return f.Close, nil
}
