package keys

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// read returns a file of the folder, after a look at who else may read it, or
// for a public half, change it.
func read(dir, name string) ([]byte, error) {
	allowed := fs.FileMode(0o600)
	if strings.HasSuffix(name, ".pub") {
		allowed = 0o644
	}
	path := filepath.Join(dir, name)
	if err := checkMode(path, allowed); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// readPEM returns the content of a file's one PEM block.
func readPEM(dir, name, kind string) ([]byte, error) {
	text, err := read(dir, name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != kind {
		return nil, notAKey(dir, name)
	}
	return block.Bytes, nil
}

// checkMode refuses a file or folder that is not there or is open to more than
// allowed.
func checkMode(path string, allowed fs.FileMode) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is missing: make the keys of a new installation with lapse keys create, or copy it from the machine that has it (%w)", path, fs.ErrNotExist)
	}
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&^allowed != 0 {
		return fmt.Errorf("%s has mode %04o, which lets others in: chmod it to %04o, and replace the keys if others use this machine", path, mode, allowed)
	}
	return nil
}

// createPEM is createFile for one PEM block.
func createPEM(dir, name, kind string, content []byte) error {
	return createFile(dir, name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}))
}

// createFile writes a file that is not there yet, whole or not at all. One that
// is there stays as it is.
func createFile(dir, name string, content []byte) (err error) {
	path := filepath.Join(dir, name)
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	tmp, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(content)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	// Unlike a rename, a link never replaces what another process put there.
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
