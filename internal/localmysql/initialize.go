package localmysql

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/lapse-access/lapse/internal/localserver"
)

// initialize makes the databases unless they are there: a copy of those that a
// server of this very build has made once for all. They appear by a rename, so
// that an interrupted initialisation is begun again.
func (s *Server) initialize(ctx context.Context) error {
	if isDir(s.dataDir()) {
		return nil
	}
	fresh, err := s.freshDatabases(ctx)
	if err != nil {
		return err
	}
	unfinished := filepath.Join(s.dir, "data.unfinished")
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	if err := os.CopyFS(unfinished, os.DirFS(fresh)); err != nil {
		return err
	}
	// MySQL keeps its identity there, and makes itself one that no copy has.
	if err := os.Remove(filepath.Join(unfinished, "auto.cnf")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	certificate, key, err := localserver.Certificate(string(s.Bin.Product))
	if err != nil {
		return err
	}
	for path, content := range map[string][]byte{
		s.CAFile:                                certificate,
		filepath.Join(unfinished, "server.crt"): certificate,
		filepath.Join(unfinished, "server.key"): key,
	} {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
	}
	if err := filepath.WalkDir(unfinished, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o600)
		if d.IsDir() {
			mode = 0o700
		}
		if err := os.Chmod(path, mode); err != nil {
			return err
		}
		return s.account.Own(path)
	}); err != nil {
		return err
	}
	return os.Rename(unfinished, s.dataDir())
}

// freshDatabases returns the folder with the databases of a new server of this
// build. It is made in the cache when it is missing; two processes may do that
// at once.
func (s *Server) freshDatabases(ctx context.Context) (string, error) {
	cache, err := localserver.CacheDir()
	if err != nil {
		return "", err
	}
	if cache, err = localserver.MakeDir(cache); err != nil {
		return "", err
	}
	if err := s.account.MayPass(cache); err != nil {
		return "", err
	}
	statements, err := s.firstStatements()
	if err != nil {
		return "", err
	}
	build := sha256.Sum256([]byte(s.Bin.build + statements))
	fresh := filepath.Join(cache, fmt.Sprintf("%s-%s-data-%x", strings.ToLower(string(s.Bin.Product)), s.Bin.Version, build[:4]))
	if isDir(fresh) {
		return fresh, nil
	}
	work, err := os.MkdirTemp(cache, "unfinished-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	data, sql := filepath.Join(work, "data"), filepath.Join(work, "init.sql")
	if err := os.Mkdir(data, 0o700); err != nil {
		return "", err
	}
	args := []string{"--datadir=" + data, "--initialize-insecure", "--init-file=" + sql}
	if s.Bin.Product == MariaDB {
		args = []string{"--datadir=" + data, "--bootstrap"}
	}
	if err := os.WriteFile(sql, []byte(statements), 0o600); err != nil {
		return "", err
	}
	for _, path := range []string{work, data, sql} {
		if err := s.account.Own(path); err != nil {
			return "", err
		}
	}
	cmd := s.command(ctx, args...)
	if s.Bin.Product == MariaDB {
		cmd.Stdin = strings.NewReader(statements)
	}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("initialise %s: %w\n%s", s.Bin.Product, err, &log)
	}
	if err := os.Rename(data, fresh); err != nil && !isDir(fresh) {
		return "", err
	}
	return fresh, nil
}

// firstStatements are what the server executes on its empty databases. MySQL
// makes its own tables by itself, so it only needs an administrator who logs in
// from Host. MariaDB takes both from its installation, as mariadb-install-db
// does.
func (s *Server) firstStatements() (string, error) {
	if s.Bin.Product == MySQL {
		root := "'" + Superuser + "'@'" + Host + "'"
		return "CREATE USER " + root + ";\n" +
			"GRANT ALL PRIVILEGES ON *.* TO " + root + " WITH GRANT OPTION;\n" +
			"GRANT PROXY ON ''@'' TO " + root + " WITH GRANT OPTION;\n", nil
	}
	statements := "CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket = NULL;\n"
	for _, name := range []string{"system_tables", "performance_tables", "system_tables_data", "sys_schema"} {
		pattern := filepath.Join(s.Bin.base(), "share/m*/m*_"+name+".sql")
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) != 1 {
			return "", fmt.Errorf("the installation of %s holds %d files %s, want 1", s.Bin.Path, len(files), pattern)
		}
		text, err := os.ReadFile(files[0])
		if err != nil {
			return "", err
		}
		for line := range strings.Lines(string(text)) {
			// The name of this machine must not be in a copy for another start.
			if !strings.Contains(line, "@current_hostname") {
				statements += line
			}
		}
	}
	return statements + "DELETE FROM global_priv WHERE Host = '::1';\nDELETE FROM proxies_priv WHERE Host = '::1';\n", nil
}
