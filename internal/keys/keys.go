// Package keys holds the keys of one installation of Lapse, in files of one
// folder:
//
//	codec.keys               encrypt what Temporal keeps; every process has them
//	portal.key, portal.pub   sign and verify decisions
//	ticket.key, ticket.pub   sign and verify tickets
//	sealing.key, sealing.pub open and seal credentials
//
// A connector is given codec.keys, ticket.pub and sealing.pub only: with these
// it can neither allow a grant nor read a credential that it has sealed.
//
// codec.keys has one key per line, an id and 32 bytes in base64. The first
// encrypts, all decrypt. To rotate, add a line at the end on every machine and
// restart; then move it to the top and restart again. A line may go once no
// history that it encrypted is kept any more.
package keys

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/lapse-access/lapse/access"
)

// Ring is every key of an installation: what the portal and the control worker
// need.
type Ring struct {
	Connector
	PortalKey  ed25519.PrivateKey `json:"-"` // signs decisions
	TicketKey  ed25519.PrivateKey `json:"-"` // signs tickets
	SealingKey hpke.PrivateKey    `json:"-"` // opens credentials
}

// Connector is the part of the ring that a connector may have.
type Connector struct {
	Codec         []Codec           // never empty; the first encrypts
	TicketPublic  ed25519.PublicKey // verifies tickets
	SealingPublic hpke.PublicKey    // seals credentials
}

// Codec is one key for the payloads that Temporal keeps.
type Codec struct {
	ID string
	// AEAD is AES-256-GCM, which makes its own nonces. One key is good for
	// 2^32 payloads; rotate before.
	AEAD cipher.AEAD `json:"-"`
}

// PortalPublic is the half of PortalKey that verifies decisions.
func (r *Ring) PortalPublic() ed25519.PublicKey { return public(r.PortalKey) }

// Format keeps keys out of logs and errors, whatever the verb.
func (r Ring) Format(f fmt.State, _ rune) { io.WriteString(f, "keys.Ring{...}") }

// Format keeps the key out of logs and errors, whatever the verb.
func (c Codec) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "keys.Codec{%s}", c.ID) }

// sealing is the key encapsulation of the sealing keys: a classical and a
// post-quantum exchange side by side.
func sealing() hpke.KEM { return hpke.MLKEM768X25519() }

const (
	codecFile  = "codec.keys"
	portalName = "portal"
	ticketName = "ticket"
	sealName   = "sealing"

	pemEd25519Private = "PRIVATE KEY"
	pemEd25519Public  = "PUBLIC KEY"
	pemSealPrivate    = "LAPSE SEALING PRIVATE KEY"
	pemSealPublic     = "LAPSE SEALING PUBLIC KEY"
)

// Open reads every key from the files in dir. With create it first makes those
// that are missing; processes that do so at once end with the same keys.
// Without, a missing file is an error. Secret files that others may read, and a
// folder that they may enter, are refused.
func Open(dir string, create bool) (*Ring, error) {
	if create {
		if err := createMissing(dir); err != nil {
			return nil, err
		}
	}
	connector, err := OpenConnector(dir)
	if err != nil {
		return nil, err
	}
	r := &Ring{Connector: *connector}
	if r.PortalKey, err = readSigning(dir, portalName); err != nil {
		return nil, err
	}
	if r.TicketKey, err = readSigning(dir, ticketName); err != nil {
		return nil, err
	}
	if r.SealingKey, err = readSealing(dir); err != nil {
		return nil, err
	}
	if !r.TicketPublic.Equal(public(r.TicketKey)) {
		return nil, mismatch(dir, ticketName)
	}
	if !bytes.Equal(r.SealingPublic.Bytes(), r.SealingKey.PublicKey().Bytes()) {
		return nil, mismatch(dir, sealName)
	}
	return r, nil
}

// OpenConnector reads the keys that a connector needs, and no others.
func OpenConnector(dir string) (*Connector, error) {
	if err := checkMode(dir, 0o700); err != nil {
		return nil, err
	}
	lines, err := read(dir, codecFile)
	if err != nil {
		return nil, err
	}
	c := &Connector{}
	if c.Codec, err = parseCodec(lines); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, codecFile), err)
	}
	if c.TicketPublic, err = TicketPublic(filepath.Join(dir, ticketName+".pub")); err != nil {
		return nil, err
	}
	raw, err := readPEM(dir, sealName+".pub", pemSealPublic)
	if err != nil {
		return nil, err
	}
	if c.SealingPublic, err = sealing().NewPublicKey(raw); err != nil {
		return nil, notAKey(dir, sealName+".pub")
	}
	return c, nil
}

// TicketPublic reads a ticket.pub, wherever it is kept.
func TicketPublic(path string) (ed25519.PublicKey, error) {
	dir, name := filepath.Split(path)
	der, err := readPEM(dir, name, pemEd25519Public)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKIXPublicKey(der)
	ticket, ok := key.(ed25519.PublicKey)
	if err != nil || !ok {
		return nil, notAKey(dir, name)
	}
	return ticket, nil
}

// createMissing makes what is not there yet. A public half follows from its
// private one, so whoever made that, all write the same.
func createMissing(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := checkMode(dir, 0o700); err != nil {
		return err
	}
	if err := createFile(dir, codecFile, newCodec()); err != nil {
		return err
	}
	for _, name := range []string{portalName, ticketName} {
		if err := createSigning(dir, name); err != nil {
			return err
		}
	}
	return createSealing(dir)
}

func createSigning(dir, name string) error {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := createPEM(dir, name+".key", pemEd25519Private, der); err != nil {
		return err
	}
	if key, err = readSigning(dir, name); err != nil {
		return err
	}
	if der, err = x509.MarshalPKIXPublicKey(key.Public()); err != nil {
		return err
	}
	return createPEM(dir, name+".pub", pemEd25519Public, der)
}

func createSealing(dir string) error {
	key, err := sealing().GenerateKey()
	if err != nil {
		return err
	}
	raw, err := key.Bytes()
	if err != nil {
		return err
	}
	if err := createPEM(dir, sealName+".key", pemSealPrivate, raw); err != nil {
		return err
	}
	if key, err = readSealing(dir); err != nil {
		return err
	}
	return createPEM(dir, sealName+".pub", pemSealPublic, key.PublicKey().Bytes())
}

func readSigning(dir, name string) (ed25519.PrivateKey, error) {
	der, err := readPEM(dir, name+".key", pemEd25519Private)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	signing, ok := key.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, notAKey(dir, name+".key")
	}
	return signing, nil
}

func readSealing(dir string) (hpke.PrivateKey, error) {
	raw, err := readPEM(dir, sealName+".key", pemSealPrivate)
	if err != nil {
		return nil, err
	}
	key, err := sealing().NewPrivateKey(raw)
	if err != nil {
		return nil, notAKey(dir, sealName+".key")
	}
	return key, nil
}

func newCodec() []byte {
	var key [32]byte
	rand.Read(key[:]) // never fails: see crypto/rand
	return fmt.Appendf(nil, "%s %s\n", access.NewID("codec"), base64.StdEncoding.EncodeToString(key[:]))
}

// parseCodec reads the lines of codec.keys. Errors name the line, never what is
// on it.
func parseCodec(text []byte) ([]Codec, error) {
	var codecs []Codec
	seen := map[string]bool{}
	sc := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, encoded, _ := strings.Cut(line, " ")
		key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
		if err != nil || len(key) != 32 {
			return nil, fmt.Errorf("line %d: want an id and 32 bytes in base64, separated by a space", n)
		}
		if seen[id] {
			return nil, fmt.Errorf("line %d: this key id is there twice", n)
		}
		seen[id] = true
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, err
		}
		codecs = append(codecs, Codec{ID: id, AEAD: aead})
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}
	if len(codecs) == 0 {
		return nil, errors.New("there is no key in it")
	}
	return codecs, nil
}

func public(key crypto.Signer) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

func mismatch(dir, name string) error {
	return fmt.Errorf("%s is not the public half of %s.key: remove it, make it again with lapse keys create, and give it to the connectors",
		filepath.Join(dir, name+".pub"), name)
}

func notAKey(dir, name string) error {
	return fmt.Errorf("%s holds no key of the expected kind: restore it from a copy", filepath.Join(dir, name))
}
