package seal

import (
	"bytes"
	"crypto/hpke"
	"testing"
)

func TestSealOpen(t *testing.T) {
	key, other := newKey(t), newKey(t)
	info := Info("int-1/per-1", 3)
	secret := []byte("correct horse battery staple")

	sealed, err := Seal(key.PublicKey(), info, secret)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, secret) {
		t.Fatal("the ciphertext holds the secret")
	}
	got, err := Open(key, info, sealed)
	if err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("opened %q, %v", got, err)
	}

	changed := bytes.Clone(sealed)
	changed[len(changed)/2] ^= 1
	for name, open := range map[string]func() ([]byte, error){
		"another account":    func() ([]byte, error) { return Open(key, Info("int-1/per-2", 3), sealed) },
		"another generation": func() ([]byte, error) { return Open(key, Info("int-1/per-1", 4), sealed) },
		"another key":        func() ([]byte, error) { return Open(other, info, sealed) },
		"changed":            func() ([]byte, error) { return Open(key, info, changed) },
		"cut":                func() ([]byte, error) { return Open(key, info, sealed[:len(sealed)-1]) },
		"empty":              func() ([]byte, error) { return Open(key, info, nil) },
	} {
		if got, err := open(); err == nil || got != nil {
			t.Errorf("%s: opened %q", name, got)
		}
	}
}

func newKey(t *testing.T) hpke.PrivateKey {
	t.Helper()
	key, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}
