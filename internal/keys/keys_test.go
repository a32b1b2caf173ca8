package keys

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestOpenCreatesOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	first, err := Open(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Open(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	if !first.PortalKey.Equal(second.PortalKey) || !first.TicketKey.Equal(second.TicketKey) || first.Codec[0].ID != second.Codec[0].ID {
		t.Error("the second start has other keys than the first")
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 7 {
		t.Errorf("files: %v; want 7 and no temporary one", files)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f.Name(), info.Mode())
		}
	}
}

func TestOpenAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	var wg sync.WaitGroup
	rings := make([]*Ring, 8)
	for i := range rings {
		wg.Go(func() {
			r, err := Open(dir, true)
			if err != nil {
				t.Error(err)
			}
			rings[i] = r
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for _, r := range rings[1:] {
		if !r.PortalKey.Equal(rings[0].PortalKey) || !r.TicketKey.Equal(rings[0].TicketKey) || r.Codec[0].ID != rings[0].Codec[0].ID {
			t.Fatal("starts at the same moment ended with different keys")
		}
	}
}

func TestConnectorNeedsOnlyItsPart(t *testing.T) {
	all := filepath.Join(t.TempDir(), "all")
	ring, err := Open(all, true)
	if err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(t.TempDir(), "part")
	if err := os.Mkdir(part, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"codec.keys", "ticket.pub", "sealing.pub"} {
		content, err := os.ReadFile(filepath.Join(all, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(part, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := OpenConnector(part)
	if err != nil {
		t.Fatal(err)
	}
	if !c.TicketPublic.Equal(ring.TicketPublic) {
		t.Error("the connector has another ticket key")
	}
	if _, err := Open(part, false); err == nil || !strings.Contains(err.Error(), "portal.key is missing") {
		t.Errorf("the whole ring from a connector's folder: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(dir string) error
		want  string
	}{
		{"no folder", os.RemoveAll, "lapse keys create"},
		{"missing file", remove("ticket.key"), "lapse keys create"},
		{"missing public half", remove("ticket.pub"), "lapse keys create"},
		{"wide folder", func(dir string) error { return os.Chmod(dir, 0o750) }, "chmod it to 0700"},
		{"wide secret", func(dir string) error { return os.Chmod(filepath.Join(dir, "portal.key"), 0o640) }, "chmod it to 0600"},
		{"writable public half", func(dir string) error { return os.Chmod(filepath.Join(dir, "ticket.pub"), 0o666) }, "chmod it to 0644"},
		{"empty file", write("portal.key", ""), "portal.key holds no key"},
		{"wrong kind", write("sealing.pub", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), "sealing.pub holds no key"},
		{"no codec key", write("codec.keys", "# none\n"), "there is no key in it"},
		{"short codec key", write("codec.keys", "a c2hvcnQ=\n"), "line 1: want an id and 32 bytes"},
		{"codec key twice", func(dir string) error {
			line, err := os.ReadFile(filepath.Join(dir, "codec.keys"))
			if err != nil {
				return err
			}
			return write("codec.keys", string(line)+string(line))(dir)
		}, "line 2: this key id is there twice"},
		{"another's public half", func(dir string) error {
			other := dir + "-other"
			if _, err := Open(other, true); err != nil {
				return err
			}
			return os.Rename(filepath.Join(other, "ticket.pub"), filepath.Join(dir, "ticket.pub"))
		}, "ticket.pub is not the public half"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "keys")
			if _, err := Open(dir, true); err != nil {
				t.Fatal(err)
			}
			if err := tc.spoil(dir); err != nil {
				t.Fatal(err)
			}
			_, err := Open(dir, false)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestRotation(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	old, err := Open(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "codec.keys")
	lines, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(newCodec(), lines...), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Open(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Codec) != 2 || r.Codec[0].ID == old.Codec[0].ID || r.Codec[1].ID != old.Codec[0].ID {
		t.Errorf("codec keys after a rotation: %v", r.Codec)
	}
}

func TestKeysDoNotPrint(t *testing.T) {
	r, err := Open(filepath.Join(t.TempDir(), "keys"), true)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if got := fmt.Sprintf(verb, r); got != "keys.Ring{...}" {
			t.Errorf("%s prints %q", verb, got)
		}
		if got := fmt.Sprintf(verb, r.Codec[0]); got != "keys.Codec{"+r.Codec[0].ID+"}" {
			t.Errorf("%s prints %q", verb, got)
		}
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "Key") {
		t.Errorf("JSON has a private key: %s", text)
	}
}

func remove(name string) func(string) error {
	return func(dir string) error { return os.Remove(filepath.Join(dir, name)) }
}

func write(name, content string) func(string) error {
	return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600) }
}
