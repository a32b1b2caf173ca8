package localserver

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Account is the operating system's user that a server runs as. The zero value
// stands for our own.
type Account struct {
	product  string // what runs as it
	name     string
	uid, gid int
}

// FindAccount returns the user for a server of a product that should not run as
// root: ourselves, and for root the first of the names that exists.
func FindAccount(product string, names ...string) (Account, error) {
	if os.Getuid() != 0 {
		return Account{}, nil
	}
	for _, name := range names {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.Atoi(u.Uid)
		if err != nil {
			return Account{}, err
		}
		gid, err := strconv.Atoi(u.Gid)
		if err != nil {
			return Account{}, err
		}
		return Account{product: product, name: name, uid: uid, gid: gid}, nil
	}
	return Account{}, fmt.Errorf("%s refuses to run as root, and this machine has no user %s: run this as another user", product, strings.Join(names, " or "))
}

// Own gives path to the account.
func (a Account) Own(path string) error {
	if a == (Account{}) {
		return nil
	}
	return os.Chown(path, a.uid, a.gid)
}

// Credential is what a process of the account is started with.
func (a Account) Credential() *syscall.Credential {
	if a == (Account{}) {
		return nil
	}
	return &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
}

// MayPass returns a *ClosedError that names the first folder, from path upwards,
// that the account may not enter.
func (a Account) MayPass(path string) error {
	if a == (Account{}) {
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
			return &ClosedError{Product: a.product, Path: path, Closed: dir, User: a.name}
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// ClosedError says that the user of the server may not enter a folder on the way
// to one that it needs. It happens to root only.
type ClosedError struct {
	Product string // whose server
	Path    string // what the server needs
	Closed  string // the folder on the way to it
	User    string // who may not enter
}

func (e *ClosedError) Error() string {
	return fmt.Sprintf("%s does not run as root but as the user %s, who may not enter %s on the way to %s: "+
		"choose a folder elsewhere, or allow it with: chmod o+x %s", e.Product, e.User, e.Closed, e.Path, e.Closed)
}
