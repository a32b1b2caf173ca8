package secrets_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/secrets"
)

type admin struct {
	Username string              `json:"username" doc:"name of the account" example:"lapse_admin"`
	Password integrations.Secret `json:"password" doc:"its password"`
}

const (
	canary = "hunter2-canary"
	good   = `{"username": "lapse", "password": "` + canary + `"}`
)

func TestEnv(t *testing.T) {
	t.Setenv("LAPSE_TEST_ADMIN", good)
	r := secrets.New(t.TempDir())
	ref := secrets.Ref{Store: "env", Key: "LAPSE_TEST_ADMIN"}
	var got admin
	if err := r.Resolve(t.Context(), ref, &got); err != nil {
		t.Fatal(err)
	}
	if want := (admin{"lapse", canary}); got != want {
		t.Error(cmp.Diff(want, got))
	}
}

func TestFileIsReadAtEachUse(t *testing.T) {
	dir := t.TempDir()
	r := secrets.New(dir)
	for _, password := range []string{"first", "second"} {
		write(t, filepath.Join(dir, "admin.json"), `{"username": "lapse", "password": "`+password+`"}`+"\n", 0o600)
		for _, key := range []string{"admin.json", filepath.Join(dir, "admin.json")} {
			var got admin
			if err := r.Resolve(t.Context(), secrets.Ref{Store: "file", Key: key}, &got); err != nil {
				t.Fatal(err)
			}
			if got.Password.Reveal() != password {
				t.Errorf("%s: an older secret was returned", key)
			}
		}
	}
}

func TestFileMode(t *testing.T) {
	for mode, refused := range map[os.FileMode]string{
		0o400: "", 0o600: "", 0o640: "", 0o440: "",
		0o644: "0644", 0o604: "0604", 0o660: "0660", 0o620: "0620",
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "admin.json")
		write(t, path, good, mode)
		err := secrets.New(dir).Resolve(t.Context(), secrets.Ref{Store: "file", Key: "admin.json"}, new(admin))
		if (err == nil) != (refused == "") || err != nil && !strings.Contains(err.Error(), "its mode is "+refused+" (chmod 600 "+path+")") {
			t.Errorf("%04o: %v", mode, err)
		}
	}
}

// A Kubernetes volume has the real file in a folder of its own, and two links
// in front of it, so that all its files change at once.
func TestKubernetesVolume(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "..2026_10_01"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "..2026_10_01", "admin.json"), good, 0o644)
	for link, target := range map[string]string{"..data": "..2026_10_01", "admin.json": "..data/admin.json"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := secrets.New(dir).Resolve(t.Context(), secrets.Ref{Store: "file", Key: "admin.json"}, new(admin)); err != nil {
		t.Error(err)
	}
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "large.json"), strings.Repeat(" ", 1<<20)+good, 0o600)
	file := func(key string) secrets.Ref { return secrets.Ref{Store: "file", Key: key} }
	env := secrets.Ref{Store: "env", Key: "LAPSE_TEST_ADMIN"}
	for _, tt := range []struct {
		name, value string
		ref         secrets.Ref
		want        string
	}{
		{"not set", "", env, "secret env LAPSE_TEST_ADMIN: the environment variable is not set or empty (set it for the process that uses it, the connector or for notify the worker, and start that again)"},
		{"no JSON", canary, env, "secret env LAPSE_TEST_ADMIN: is not valid JSON at byte 1 (write one JSON object)"},
		{"a JSON string", `"` + canary + `"`, env, "secret env LAPSE_TEST_ADMIN: must be a mapping, is text (write it as KEY: VALUE pairs)"},
		{"a field is missing", `{"username": "` + canary + `"}`, env, "secret env LAPSE_TEST_ADMIN: password: is missing (its password)"},
		{"a field is empty", `{"username": "` + canary + `", "password": ""}`, env, "secret env LAPSE_TEST_ADMIN: password: must not be empty (its password)"},
		{"a field is unknown", `{"username": "u", "password": "p", "pasword": "` + canary + `"}`, env, "secret env LAPSE_TEST_ADMIN: pasword: unknown key (did you mean password?)"},
		{"a field is of the wrong type", `{"username": "u", "password": ["` + canary + `"]}`, env, "secret env LAPSE_TEST_ADMIN: password: must be text, is a list (its password)"},
		{"no file", "", file("none.json"), "secret file none.json: open " + filepath.Join(dir, "none.json") + ": no such file or directory"},
		{"a folder", "", file("folder"), "secret file folder: it is not a regular file"},
		{"too large", "", file("large.json"), "secret file large.json: the file is larger than 1048576 bytes"},
		{"an unknown store", "", secrets.Ref{Store: "vault", Key: "k"}, "secret vault k: there is no such store (known are env and file)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("LAPSE_TEST_ADMIN", tt.value)
			err := secrets.New(dir).Resolve(t.Context(), tt.ref, new(admin))
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Error(diff)
			}
			if strings.Contains(err.Error(), canary) {
				t.Error("the error repeats the secret")
			}
		})
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := secrets.New("").Resolve(ctx, secrets.Ref{Store: "env", Key: "K"}, new(admin)); err == nil {
		t.Error("a cancelled context was not heard")
	}
}

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}
