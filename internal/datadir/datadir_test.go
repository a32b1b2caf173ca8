package datadir_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/datadir"
	"github.com/lapse-access/lapse/internal/secrets"
	"github.com/lapse-access/lapse/internal/store"
)

// folder makes one with a store, a file like Temporal's, and keys.
func folder(t *testing.T) (dir string, st *store.Store) {
	t.Helper()
	dir = t.TempDir()
	st, err := store.Open(t.Context(), filepath.Join(dir, datadir.Store))
	require.NoError(t, err)
	t.Cleanup(func() { st.Close() })
	integration := func(name, where, key string) config.Integration {
		return config.Integration{Name: name, Kind: "postgresql", Secret: secrets.Ref{Store: where, Key: key}}
	}
	_, err = st.SaveConfig(t.Context(), store.SaveConfig{Source: []byte("test"), By: "lapse", Event: access.Event{Kind: "config.applied"}, Config: config.Config{Integrations: []config.Integration{
		integration("a", "file", "b.json"), integration("b", "file", "a.json"), integration("c", "file", "b.json"), integration("d", "env", "D"),
	}}})
	require.NoError(t, err)
	put(t, filepath.Join(dir, datadir.Temporal), "before")
	require.NoError(t, os.Mkdir(filepath.Join(dir, datadir.Keys), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, datadir.Keys, "ticket.key"), []byte("key 1"), 0o600))
	return dir, st
}

// put writes a value into a SQLite file; get reads it.
func put(t *testing.T, path, value string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)")
	require.NoError(t, err)
	defer db.Close()
	_, err = db.Exec(`create table if not exists v (value text); delete from v; insert into v values ('` + value + `')`)
	require.NoError(t, err)
}

func get(t *testing.T, path string) (value string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, db.QueryRow(`select value from v`).Scan(&value))
	return value
}

func TestBackup(t *testing.T) {
	dir, st := folder(t)
	backup := filepath.Join(t.TempDir(), "new", "backup")
	m, err := datadir.Backup(t.Context(), dir, backup)
	require.NoError(t, err)
	require.Equal(t, st.Instance(), m.Instance)
	require.EqualValues(t, 1, m.Events)
	require.Len(t, m.Files, 3)
	require.Equal(t, []string{"a.json", "b.json"}, m.Secrets)
	info, err := os.Stat(backup)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	for name := range m.Files {
		info, err := os.Stat(filepath.Join(backup, name))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), name)
	}

	_, err = datadir.Backup(t.Context(), dir, backup)
	require.ErrorContains(t, err, "is there already")
	_, err = datadir.Backup(t.Context(), t.TempDir(), backup+"2")
	require.ErrorContains(t, err, "no store")
	others, err := filepath.Glob(filepath.Dir(backup) + "/*")
	require.NoError(t, err)
	require.Equal(t, []string{backup}, others, "what failed leaves nothing behind")

	// Life goes on, and then the backup is brought back.
	require.NoError(t, st.Append(t.Context(), access.Event{Key: "two", Kind: "test"}))
	put(t, filepath.Join(dir, datadir.Temporal), "after")
	why, err := st.ReportOnly(t.Context())
	require.NoError(t, err)
	require.Empty(t, why, "only the copy knows that it is one")
	require.NoError(t, st.Close())

	release, err := datadir.Claim(dir, false)
	require.NoError(t, err)
	_, _, err = datadir.Restore(backup, dir)
	require.ErrorContains(t, err, "in use")
	require.NoError(t, release())

	_, kept, err := datadir.Restore(backup, dir)
	require.NoError(t, err)
	require.Equal(t, "before", get(t, filepath.Join(dir, datadir.Temporal)))
	require.Equal(t, "after", get(t, filepath.Join(kept, datadir.Temporal)))
	back, err := store.Open(t.Context(), filepath.Join(dir, datadir.Store))
	require.NoError(t, err)
	defer back.Close()
	seq, _, err := back.Head(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, seq)
	why, err = back.ReportOnly(t.Context())
	require.NoError(t, err)
	require.Contains(t, why, "this is the backup of")
	key, err := os.ReadFile(filepath.Join(dir, datadir.Keys, "ticket.key"))
	require.NoError(t, err)
	require.Equal(t, "key 1", string(key))
}

func TestRestoreRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, backup string)
		says  string
	}{
		"a folder that is no backup":   {func(t *testing.T, b string) { require.NoError(t, os.Remove(filepath.Join(b, "backup.json"))) }, "no backup"},
		"a manifest that is cut":       {func(t *testing.T, b string) { require.NoError(t, os.Truncate(filepath.Join(b, "backup.json"), 10)) }, "no backup"},
		"a file that is missing":       {func(t *testing.T, b string) { require.NoError(t, os.Remove(filepath.Join(b, datadir.Temporal))) }, datadir.Temporal},
		"a file that somebody changed": {func(t *testing.T, b string) { put(t, filepath.Join(b, datadir.Temporal), "other") }, datadir.Temporal},
	} {
		t.Run(name, func(t *testing.T) {
			dir, st := folder(t)
			backup := filepath.Join(t.TempDir(), "backup")
			_, err := datadir.Backup(t.Context(), dir, backup)
			require.NoError(t, err)
			require.NoError(t, st.Close())
			c.spoil(t, backup)
			before := list(t, dir)
			_, _, err = datadir.Restore(backup, dir)
			require.ErrorContains(t, err, c.says)
			require.Equal(t, before, list(t, dir), "nothing was touched")
		})
	}
}

func list(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "lock") {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestClaim(t *testing.T) {
	dir := t.TempDir()
	first, err := datadir.Claim(dir, false)
	require.NoError(t, err)
	second, err := datadir.Claim(dir, false)
	require.NoError(t, err, "several share it")
	_, err = datadir.Claim(dir, true)
	require.ErrorContains(t, err, "in use by another process")
	require.NoError(t, first())
	require.NoError(t, second())
	alone, err := datadir.Claim(dir, true)
	require.NoError(t, err)
	_, err = datadir.Claim(dir, false)
	require.Error(t, err)
	require.NoError(t, alone())
}
