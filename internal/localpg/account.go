package localpg

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the operating system's user that the server runs as. The zero value
// stands for our own.
type account struct {
	name     string
	uid, gid int
}

func serverAccount() (account, error) {
	if os.Getuid() != 0 {
		return account{}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.Atoi(u.Uid)
		if err != nil {
			return account{}, err
		}
		gid, err := strconv.Atoi(u.Gid)
		if err != nil {
			return account{}, err
		}
		return account{name: name, uid: uid, gid: gid}, nil
	}
	return account{}, fmt.Errorf("PostgreSQL refuses to run as root, and this machine has neither a user postgres nor nobody: run this as another user")
}

// own gives path to the account.
func (a account) own(path string) error {
	if a == (account{}) {
		return nil
	}
	return os.Chown(path, a.uid, a.gid)
}

func (a account) credential() *syscall.Credential {
	if a == (account{}) {
		return nil
	}
	return &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
}

// mayPass returns an error that names the first folder, from path upwards, that
// the account may not enter.
func (a account) mayPass(path string) error {
	if a == (account{}) {
		return nil
	}
	for dir := path; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		owner := info.Sys().(*syscall.Stat_t)
		enter := os.FileMode(0o001)
		switch {
		case owner.Uid == uint32(a.uid):
			enter = 0o100
		case owner.Gid == uint32(a.gid):
			enter = 0o010
		}
		if info.Mode()&enter == 0 {
			return &ClosedError{Path: path, Closed: dir, User: a.name}
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// ClosedError says that the user of the server may not enter a folder on the way
// to one that it needs. It happens to root only.
type ClosedError struct {
	Path   string // what the server needs
	Closed string // the folder on the way to it
	User   string // who may not enter
}

func (e *ClosedError) Error() string {
	return fmt.Sprintf("PostgreSQL does not run as root but as the user %s, who may not enter %s on the way to %s: "+
		"choose a folder elsewhere, or allow it with: chmod o+x %s", e.User, e.Closed, e.Path, e.Closed)
}
