package principal

import (
	"crypto/rand"
	"math/big"
	"slices"
	"strings"
)

// PasswordLength is the number of characters of a password, about 150 bits.
const PasswordLength = 24

// The classes of characters of a password. None of them needs quoting in SQL, a
// connection string, a URL's user part or a shell.
const (
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	lower  = "abcdefghijklmnopqrstuvwxyz"
	digits = "0123456789"
	signs  = "_-.!*~+:"
)

// perClass is how many characters of each class a password has at least.
const perClass = 3

// Password makes a password that satisfies the rules of every target: it starts
// with a letter, has at least three characters of each class, no character
// three times in a row, and holds the account's name neither forwards nor
// backwards.
func Password(account string) string {
	for {
		if p := random(); acceptable(p, account) {
			return p
		}
	}
}

func random() string {
	p := make([]byte, PasswordLength)
	for i := range p {
		p[i] = pick(upper + lower + digits + signs)
	}
	return string(p)
}

// pick draws one character evenly. It never fails: see crypto/rand.
func pick(from string) byte {
	n, err := rand.Int(rand.Reader, big.NewInt(int64(len(from))))
	if err != nil {
		panic("principal: no random numbers: " + err.Error())
	}
	return from[n.Int64()]
}

func acceptable(p, account string) bool {
	for _, class := range []string{upper, lower, digits, signs} {
		n := 0
		for _, c := range p {
			if strings.ContainsRune(class, c) {
				n++
			}
		}
		if n < perClass {
			return false
		}
	}
	for i := 2; i < len(p); i++ {
		if p[i] == p[i-1] && p[i] == p[i-2] {
			return false
		}
	}
	if !strings.ContainsRune(upper+lower, rune(p[0])) {
		return false
	}
	if account == "" {
		return true
	}
	reversed := []byte(strings.ToLower(account))
	slices.Reverse(reversed)
	low := strings.ToLower(p)
	return !strings.Contains(low, strings.ToLower(account)) && !strings.Contains(low, string(reversed))
}
