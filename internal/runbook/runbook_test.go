package runbook_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/lapse-access/lapse/internal/runbook"
)

var book = runbook.Book{WrittenAt: time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC), Instance: "lapse-1", Head: "abc",
	Integrations: []runbook.Integration{{Name: "prod", Language: "sql", People: []runbook.Person{{Email: "ana@example.com", Steps: "SELECT '<&>';\n"}}}}}

func signingKeys(t *testing.T) (ed25519.PublicKey, ed25519.PrivateKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return public, private
}

// TestReaders opens one book with each sort of key, and with no other.
func TestReaders(t *testing.T) {
	verify, sign := signingKeys(t)
	x25519, _ := age.GenerateX25519Identity()
	hybrid, _ := age.GenerateHybridIdentity()
	public, private := signingKeys(t)
	line, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ reader, key string }{
		"age":              {x25519.Recipient().String(), x25519.String()},
		"age post-quantum": {hybrid.Recipient().String(), "# made today\n" + hybrid.String() + "\n"},
		"ssh":              {string(ssh.MarshalAuthorizedKey(line)), string(pem.EncodeToMemory(block))},
	} {
		t.Run(name, func(t *testing.T) {
			readers, err := runbook.Readers([]string{strings.TrimSpace(test.reader)})
			if err != nil {
				t.Fatal(err)
			}
			file, err := runbook.Seal(book, sign, readers...)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(file), "ana") {
				t.Error("the file can be read without a key")
			}
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, []byte(test.key), 0o600); err != nil {
				t.Fatal(err)
			}
			ids, err := runbook.Identities(path)
			if err != nil {
				t.Fatal(err)
			}
			got, err := runbook.Open(bytes.NewReader(file), verify, ids...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(book, got); diff != "" {
				t.Error(diff)
			}
			other, _ := age.GenerateX25519Identity()
			if _, err := runbook.Open(bytes.NewReader(file), verify, other); err == nil {
				t.Error("another key opens it")
			}
			stranger, _ := signingKeys(t)
			if _, err := runbook.Open(bytes.NewReader(file), stranger, ids...); err == nil {
				t.Error("a book that somebody else signed passes for Lapse's")
			}
		})
	}
	for _, bad := range []string{"", "ana@example.com", "age1qqqq", "ssh-ed25519 AAAA", x25519.String(), "# a remark"} {
		if _, err := runbook.Readers([]string{bad}); err == nil || strings.Contains(err.Error(), x25519.String()) {
			t.Errorf("reader %q: %v", bad, err)
		}
	}
	if _, err := runbook.Readers([]string{x25519.Recipient().String(), hybrid.Recipient().String()}); err == nil {
		t.Error("age does not seal to both sorts at once, and nobody says so")
	}
}

// TestOwnReader makes the key once, and goes on without its private half.
func TestOwnReader(t *testing.T) {
	dir := t.TempDir()
	_, sign := signingKeys(t)
	first, err := runbook.OwnReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, runbook.KeyFile)
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", info, err)
	}
	ids, err := runbook.Identities(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, runbook.ReaderFile)); err != nil {
		t.Fatal(err)
	}
	again, err := runbook.OwnReader(dir) // from the private half
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(key); err != nil { // kept elsewhere
		t.Fatal(err)
	}
	alone, err := runbook.OwnReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(key); err == nil {
		t.Error("another key was made although one is there")
	}
	for _, r := range []age.Recipient{first, again, alone} {
		file, err := runbook.Seal(book, sign, r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := runbook.Open(bytes.NewReader(file), nil, ids...); err != nil {
			t.Error(err)
		}
	}
}

func TestKeep(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "runbook")
	if _, err := runbook.Newest(dir); err == nil {
		t.Error("there is a newest one of none")
	}
	for n := range 4 {
		path, err := runbook.Keep(dir, book.WrittenAt.Add(time.Duration(n)*time.Second), []byte{byte('a' + n)}, 2)
		if err != nil {
			t.Fatal(err)
		}
		if newest, err := runbook.Newest(dir); err != nil || newest != path {
			t.Errorf("the newest is %s, %v; want %s", newest, err, path)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("the folder has %v, %v; want the two newest", entries, err)
	}
}

func TestPasteable(t *testing.T) {
	if err := runbook.Pasteable("SELECT 'ä😀';\n\tx\n"); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"a\x1b[2Jb", "a\u202eb", "a\rb", "a\x00b"} {
		if runbook.Pasteable(bad) == nil {
			t.Errorf("%q can be pasted", bad)
		}
	}
}
