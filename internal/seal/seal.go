// Package seal closes a credential so that only one reader can open it: it is
// made at a connector, passes through stores and networks as ciphertext, and is
// opened by the portal for the person it belongs to.
//
// It is HPKE (RFC 9180) with ML-KEM768-X25519, HKDF-SHA256 and
// ChaCha20-Poly1305.
package seal

import (
	"crypto/hpke"
	"errors"
	"fmt"
)

// Info names what a sealed credential is for: the account and the generation of
// its credential. Sealing binds to it, so that one cannot pass for another.
func Info(account string, generation int) string {
	return fmt.Sprintf("lapse credential v1|%s|%d", account, generation)
}

// Seal encrypts plaintext for the holder of pub's private half, bound to info.
func Seal(pub hpke.PublicKey, info string, plaintext []byte) ([]byte, error) {
	return hpke.Seal(pub, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), []byte(info), plaintext)
}

// Open decrypts what Seal made with the same info. Any other info, key or
// ciphertext is an error.
func Open(key hpke.PrivateKey, info string, ciphertext []byte) ([]byte, error) {
	plaintext, err := hpke.Open(key, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), []byte(info), ciphertext)
	if err != nil {
		return nil, errors.New("the sealed credential does not open: it was sealed for another account, generation or portal key, or it was changed; ask for a new credential")
	}
	return plaintext, nil
}
