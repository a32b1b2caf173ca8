// Package principal makes the names and passwords of what Lapse creates on
// targets.
//
// Names are deterministic, so that a retry and a second request find the same
// principal, and at most 30 characters of [a-z0-9_] with a letter in front, so
// that every target takes them as they are. Their last part is a hash of ids
// that never change: two people whose addresses look alike, two integrations on
// one server and two Lapses on one server never share a principal. The readable
// part in the middle decides nothing.
package principal

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/lapse-access/lapse/access"
)

// MaxLength is the length that no name exceeds, in bytes.
const MaxLength = 30

// slugLength bounds the readable part of an account's name.
const slugLength = 15

// Account names the account of a person on an integration, as in
// lapse_john_smith_3f9a1c77. The e-mail address gives the readable part only.
func Account(instance, integration, person, email string) string {
	name := "lapse_"
	if s := slug(email); s != "" {
		name += s + "_"
	}
	return name + digest(8, instance, integration, person)
}

// Later names the nth account of a person, from the second on, where an earlier
// one had to be kept under its name, as in lapse_3f9a1c77_2.
func Later(instance, integration, person string, n int) string {
	return fmt.Sprintf("lapse_%s_%d", digest(8, instance, integration, person), n)
}

// Role names the role that carries one entitlement, as in
// lapse_e_0a1b2c3d4e5f6071.
func Role(instance string, e access.Entitlement) string {
	return "lapse_e_" + digest(16, instance, e.Integration, e.Resource.Type, e.Resource.Path, e.Permission)
}

// Tombstone names an account that is kept because it owns things, by the day
// on which it was closed, as in lapse_t_3f9a1c77_20261121. The nth one of a
// day, from the second on, has its number behind.
func Tombstone(instance, integration, person string, day time.Time, n int) string {
	name := "lapse_t_" + digest(8, instance, integration, person) + "_" + day.UTC().Format("20060102")
	if n > 1 {
		name += fmt.Sprintf("_%d", n)
	}
	return name
}

// slug is the local part of an address in [a-z0-9_], without a "+tag".
func slug(email string) string {
	local, _, _ := strings.Cut(access.NormalEmail(email), "@")
	local, _, _ = strings.Cut(local, "+")
	var b strings.Builder
	for _, r := range local {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "_"):
			b.WriteByte('_')
		}
		if b.Len() == slugLength {
			break
		}
	}
	return strings.TrimRight(b.String(), "_")
}

// digest is the first n hexadecimal digits of the SHA-256 over the parts, each
// ended by a NUL, which no part contains.
func digest(n int, parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00") + "\x00"))
	return hex.EncodeToString(sum[:])[:n]
}
