package datadir

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/lapse-access/lapse/internal/store"
)

// Manifest says what a backup holds.
type Manifest struct {
	At       time.Time `json:"at"`
	Instance string    `json:"instance"`
	// Head is the hash of the newest event of the audit trail, and Events how
	// many there are.
	Head   string `json:"head,omitempty"`
	Events int64  `json:"events"`
	// Secrets are the files of targets' secrets, which are not in it.
	Secrets []string `json:"secrets_not_in_it"`
	// Files are the SHA-256 sums of all files, by their paths in the folder.
	Files map[string]string `json:"files"`
}

const manifest = "backup.json"

// Backup copies what lasts into a folder that must not be there yet. Lapse may
// run meanwhile. The copy knows that it is one: nothing on a target is changed
// from it before somebody has accepted that. Secrets of targets are not in it.
func Backup(ctx context.Context, dir, to string) (m Manifest, err error) {
	if _, err := os.Stat(filepath.Join(dir, Store)); err != nil {
		return m, fmt.Errorf("there is no store to back up: %w", err)
	}
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return m, errors.Join(err, fmt.Errorf("%s is there already: name a folder that is not", to))
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return m, err
	}
	part, err := os.MkdirTemp(filepath.Dir(to), filepath.Base(to)+".part-") // others may not enter it
	if err != nil {
		return m, err
	}
	defer os.RemoveAll(part)

	// Temporal goes first: what the store knows in addition is started again
	// from there, while a workflow that the store does not know is lost.
	m = Manifest{At: time.Now().UTC(), Files: map[string]string{}}
	for _, name := range []string{Temporal, Store} {
		if _, err := os.Stat(filepath.Join(dir, name)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := store.Copy(ctx, filepath.Join(dir, name), filepath.Join(part, name)); err != nil {
			return m, err
		}
	}
	if err := copyFolder(filepath.Join(dir, Keys), filepath.Join(part, Keys)); err != nil {
		return m, err
	}
	if err := mark(ctx, filepath.Join(part, Store), &m); err != nil {
		return m, err
	}
	if m.Files, err = sums(part); err != nil {
		return m, err
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return m, err
	}
	if err := os.WriteFile(filepath.Join(part, manifest), append(text, '\n'), 0o600); err != nil {
		return m, err
	}
	if err := sync(part); err != nil {
		return m, err
	}
	return m, os.Rename(part, to)
}

// mark makes a copy of the store know that it is one.
func mark(ctx context.Context, path string, m *Manifest) error {
	st, err := store.Open(ctx, path)
	if err != nil {
		return err
	}
	m.Instance = st.Instance()
	m.Events, m.Head, err = st.Head(ctx)
	if err == nil {
		m.Secrets, err = secretFiles(ctx, st)
	}
	if err == nil {
		err = st.SetReportOnly(ctx, "this is the backup of "+m.At.Format(time.RFC3339))
	}
	return errors.Join(err, st.Close(), os.Remove(path+".lock"))
}

// secretFiles are those that the secrets of the configuration are in.
func secretFiles(ctx context.Context, st *store.Store) ([]string, error) {
	files := []string{}
	_, cfg, err := st.Config(ctx)
	if errors.Is(err, store.ErrNotFound) {
		return files, nil
	}
	for _, ref := range cfg.Secrets() {
		if ref.Store == "file" {
			files = append(files, ref.Key)
		}
	}
	slices.Sort(files)
	return slices.Compact(files), err
}

// Restore puts a backup in the place of what is in the folder, which is kept in
// a folder of its own below it. Nothing of Lapse may use the folder meanwhile.
func Restore(from, dir string) (m Manifest, kept string, err error) {
	text, err := os.ReadFile(filepath.Join(from, manifest))
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		return m, "", fmt.Errorf("this is no backup that lapse backup made: %w", err)
	}
	have, err := sums(from)
	if err != nil {
		return m, "", err
	}
	for name, sum := range m.Files {
		if have[name] != sum {
			return m, "", fmt.Errorf("%s in the backup is missing, or was changed after it was made", name)
		}
	}
	release, err := Claim(dir, true)
	if err != nil {
		return m, "", err
	}
	defer release()

	// Everything is beside its place before anything is moved.
	next, err := os.MkdirTemp(dir, "restore-")
	if err != nil {
		return m, "", err
	}
	defer os.RemoveAll(next)
	if err := copyFolder(from, next); err != nil {
		return m, "", err
	}
	if err := sync(next); err != nil {
		return m, "", err
	}
	kept = filepath.Join(dir, "before-restore-"+time.Now().UTC().Format("20060102T150405Z"))
	if err := os.Mkdir(kept, 0o700); err != nil {
		return m, "", err
	}
	for _, name := range []string{Temporal, Store} {
		// What SQLite keeps beside a file belongs to that file only.
		for _, beside := range []string{"", "-wal", "-shm", ".lock"} {
			if err := move(dir, kept, name+beside); err != nil {
				return m, kept, err
			}
		}
	}
	for _, name := range []string{Keys, Temporal, Store} { // the store last: without it nothing starts
		if name == Keys {
			if err := move(dir, kept, name); err != nil {
				return m, kept, err
			}
		}
		if err := move(next, dir, name); err != nil {
			return m, kept, err
		}
	}
	return m, kept, nil
}

// move moves what is there.
func move(from, to, name string) error {
	err := os.Rename(filepath.Join(from, name), filepath.Join(to, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// copyFolder copies regular files, which only the owner may read then.
func copyFolder(from, to string) error {
	return each(from, func(name string) error {
		in, err := os.Open(filepath.Join(from, name))
		if err != nil {
			return err
		}
		defer in.Close()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o700); err != nil {
			return err
		}
		out, err := os.OpenFile(filepath.Join(to, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, in)
		return errors.Join(err, out.Close())
	})
}

// sums are those of all files but the manifest.
func sums(dir string) (map[string]string, error) {
	all := map[string]string{}
	return all, each(dir, func(name string) error {
		if name == manifest {
			return nil
		}
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		defer f.Close()
		sum := sha256.New()
		_, err = io.Copy(sum, f)
		all[name] = hex.EncodeToString(sum.Sum(nil))
		return err
	})
}

// sync has the disk hold all files.
func sync(dir string) error {
	return each(dir, func(name string) error {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}

// each calls f with the path of every regular file below a folder.
func each(dir string, f func(name string) error) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err == nil {
			err = f(name)
		}
		return err
	})
}
