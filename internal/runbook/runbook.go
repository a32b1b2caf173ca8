// Package runbook is the file for the day on which Lapse cannot be brought
// back: who holds what where, and the statements or calls that take it away.
//
// A file is JSON, signed by Lapse and sealed by age to people's own keys, so that
// the age program opens it too: https://age-encryption.org/v1. It holds no secret
// of a target. Whoever opens one needs no Lapse, no Temporal and no network.
package runbook

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/armor"

	"github.com/lapse-access/lapse/access"
)

// Book is who holds what, and how it is taken away by hand.
type Book struct {
	WrittenAt time.Time `json:"written_at"`
	// Every is the time between two books; 0 where this one was asked for and
	// none come by themselves.
	Every    access.Duration `json:"every"`
	Instance string          `json:"instance"`
	Epoch    int64           `json:"epoch"`
	// Events and Head are the length of the audit trail and its newest hash.
	Events       int64         `json:"events"`
	Head         string        `json:"head,omitempty"`
	Integrations []Integration `json:"integrations"`
}

// Integration is a target on which somebody holds something.
type Integration struct {
	Name     string   `json:"name"`
	Kind     string   `json:"kind"`
	Title    string   `json:"title"`
	Language string   `json:"language,omitempty"` // of the steps: sql, sh
	Command  string   `json:"command,omitempty"`  // how to connect, for a shell
	Missing  string   `json:"missing,omitempty"`  // why there are no steps
	People   []Person `json:"people"`
}

// Person is what somebody holds on the target.
type Person struct {
	Email   string `json:"email"`
	Account string `json:"account,omitempty"` // on the target, where it is known
	Holds   []Hold `json:"holds"`
	Steps   string `json:"steps,omitempty"`
	Missing string `json:"missing,omitempty"` // why there are no steps
}

// Hold is one access.
type Hold struct {
	Resource   string       `json:"resource"`
	Permission string       `json:"permission"`
	State      access.State `json:"state"`
	StartsAt   time.Time    `json:"starts_at,omitzero"`
	EndsAt     time.Time    `json:"ends_at,omitzero"`
	Request    string       `json:"request"`
}

// Pasteable says why a text is not to be pasted into a terminal: a character in
// it would steer that.
func Pasteable(text string) error {
	for _, r := range text {
		if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
			return fmt.Errorf("a name in it has the character %U, which a terminal would act on", r)
		}
	}
	return nil
}

// sealed is the content of a file.
type sealed struct {
	Book      json.RawMessage `json:"book"`
	Signature []byte          `json:"signature"`
}

func signed(book []byte) []byte { return append([]byte("lapse runbook v1\x00"), book...) }

// Seal signs a book and seals it to its readers.
func Seal(b Book, key ed25519.PrivateKey, readers ...age.Recipient) ([]byte, error) {
	book, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	content, err := json.Marshal(sealed{Book: book, Signature: ed25519.Sign(key, signed(book))})
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	text := armor.NewWriter(&out)
	to, err := age.Encrypt(text, readers...)
	if err != nil {
		return nil, fmt.Errorf("sealing the runbook: %w", err)
	}
	_, err = to.Write(content)
	err = errors.Join(err, to.Close(), text.Close())
	return out.Bytes(), err
}

// limit bounds what is read of a file.
const limit = 256 << 20

// Open opens what Seal made. A nil key verifies no signature.
func Open(file io.Reader, verify ed25519.PublicKey, identities ...age.Identity) (b Book, err error) {
	from, err := age.Decrypt(armor.NewReader(io.LimitReader(file, limit)), identities...)
	if err != nil {
		return b, fmt.Errorf("it does not open: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(from, limit))
	if err != nil {
		return b, fmt.Errorf("it does not open: %w", err)
	}
	var s sealed
	if err := json.Unmarshal(text, &s); err != nil {
		return b, fmt.Errorf("it is no runbook: %w", err)
	}
	if verify != nil && !ed25519.Verify(verify, signed(s.Book), s.Signature) {
		return b, errors.New("it is not signed by this Lapse: somebody else wrote it, or changed it")
	}
	if err := json.Unmarshal(s.Book, &b); err != nil {
		return b, fmt.Errorf("it is no runbook: %w", err)
	}
	return b, nil
}

// Readers are those to whom a runbook is sealed, each as age1... or as the line
// of an SSH public key. age takes no SSH keys and no others beside post-quantum
// ones.
func Readers(names []string) (readers []age.Recipient, err error) {
	for _, name := range names {
		var r age.Recipient
		var err error
		if strings.HasPrefix(name, "ssh-") {
			r, err = agessh.ParseRecipient(name)
		} else {
			var one []age.Recipient
			if one, err = age.ParseRecipients(strings.NewReader(name)); err == nil && len(one) == 1 {
				r = one[0]
			}
		}
		if err != nil || r == nil {
			return nil, fmt.Errorf("%.20q is neither a recipient of age nor the line of an SSH key of the types ed25519 and rsa", name)
		}
		readers = append(readers, r)
	}
	if len(readers) > 0 {
		if _, err := age.Encrypt(io.Discard, readers...); err != nil {
			return nil, err
		}
	}
	return readers, nil
}

// Identities reads the key of a reader: a file of age, or an SSH private key
// without a passphrase.
func Identities(path string) ([]age.Identity, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(text, []byte("-----BEGIN")) {
		id, err := agessh.ParseIdentity(text)
		if err != nil {
			return nil, fmt.Errorf("%s is no SSH key that opens runbooks: %w", path, err)
		}
		return []age.Identity{id}, nil
	}
	ids, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("%s is no key of age", path) // the cause may quote it
	}
	return ids, nil
}

// The files of the key that is made where no readers are named.
const (
	KeyFile    = "runbook.key"
	ReaderFile = "runbook.pub"
)

// OwnReader is the reader of an installation that names none: its public half
// stands in a folder of keys. The private half is made beside it, once, and can
// be kept elsewhere from then on.
func OwnReader(dir string) (age.Recipient, error) {
	public := filepath.Join(dir, ReaderFile)
	text, err := os.ReadFile(public)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeKey(dir); err != nil {
			return nil, err
		}
		text, err = os.ReadFile(public)
	}
	if err != nil {
		return nil, err
	}
	readers, err := Readers([]string{strings.TrimSpace(string(text))})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", public, err)
	}
	return readers[0], nil
}

// makeKey puts the private half down before the public one. Of several that do
// so at once the first one wins.
func makeKey(dir string) error {
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		return err
	}
	private := filepath.Join(dir, KeyFile)
	err = create(private, []byte(id.String()+"\n"))
	if errors.Is(err, fs.ErrExist) {
		ids, err := Identities(private)
		if err != nil {
			return err
		}
		own, ok := ids[0].(*age.HybridIdentity)
		if !ok {
			return fmt.Errorf("%s is not a key that Lapse made: name its public half under recipients", private)
		}
		id = own
	} else if err != nil {
		return err
	}
	if err := create(filepath.Join(dir, ReaderFile), []byte(id.Recipient().String()+"\n")); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// create writes a file that is not there yet, whole or not at all.
func create(path string, content []byte) error {
	return write(path, content, func(tmp string) error { return os.Link(tmp, path) }) // never replaces one
}

// write puts a file of mode 0600 in its place in one step.
func write(path string, content []byte, place func(tmp string) error) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(content)
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return place(tmp.Name())
}

const pattern = "runbook-*.age"

// Keep puts a runbook into a folder, and removes all but the newest ones.
func Keep(dir string, at time.Time, content []byte, newest int) (path string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	path = filepath.Join(dir, "runbook-"+at.UTC().Format("20060102T150405.000Z")+".age")
	if err := write(path, content, func(tmp string) error { return os.Rename(tmp, path) }); err != nil {
		return "", err
	}
	all, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		return path, err
	}
	slices.Sort(all)
	var errs []error
	for _, old := range all[:max(0, len(all)-newest)] {
		errs = append(errs, os.Remove(old))
	}
	return path, errors.Join(errs...)
}

// Newest is the last runbook of a folder.
func Newest(dir string) (path string, err error) {
	all, err := filepath.Glob(filepath.Join(dir, pattern))
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("there is no runbook in %s", dir)
	}
	if err != nil {
		return "", err
	}
	return slices.Max(all), nil
}
