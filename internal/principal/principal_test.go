package principal

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lapse-access/lapse/access"
)

func TestAccount(t *testing.T) {
	for _, test := range []struct{ name, email, want string }{
		{"first and last name", "John.Smith@example.com", `^lapse_john_smith_[0-9a-f]{8}$`},
		{"a tag is left out", "john+prod@example.com", `^lapse_john_[0-9a-f]{8}$`},
		{"runs of signs are one", "a.-_b@example.com", `^lapse_a_b_[0-9a-f]{8}$`},
		{"long names are cut", "abcdefghijklmnopqrstuvwxyz@example.com", `^lapse_abcdefghijklmno_[0-9a-f]{8}$`},
		{"a cut leaves no sign at the end", "abcdefghijklmn.xyz@example.com", `^lapse_abcdefghijklmn_[0-9a-f]{8}$`},
		{"nothing readable is left", "Ωμέγα@example.com", `^lapse_[0-9a-f]{8}$`},
		{"no address", "", `^lapse_[0-9a-f]{8}$`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Account("inst", "int", "p", test.email); !regexp.MustCompile(test.want).MatchString(got) {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

var plain = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

func TestNamesFitEverywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String()
		instance, integration, person := text.Draw(t, "instance"), text.Draw(t, "integration"), text.Draw(t, "person")
		e := access.Entitlement{Integration: integration, Resource: access.Resource{Type: text.Draw(t, "type"), Path: text.Draw(t, "path")}, Permission: text.Draw(t, "permission")}
		for _, name := range []string{
			Account(instance, integration, person, text.Draw(t, "email")),
			Role(instance, e),
			Tombstone(instance, integration, person, time.Now(), rapid.IntRange(0, 999).Draw(t, "n")),
			Later(instance, integration, person, rapid.IntRange(2, 999).Draw(t, "later")),
		} {
			if len(name) > MaxLength || !plain.MatchString(name) {
				t.Fatalf("%q does not fit everywhere", name)
			}
		}
	})
}

func TestNamesDiffer(t *testing.T) {
	seen := map[string]string{}
	see := func(what, name string) {
		if other, taken := seen[name]; taken {
			t.Errorf("%s and %s are both %s", what, other, name)
		}
		seen[name] = what
	}
	long := strings.Repeat("a", 60)
	see("one", Account("x", "i", "p1", long+"1@example.com"))
	see("another with a like address", Account("x", "i", "p2", long+"2@example.com"))
	see("the same on another integration", Account("x", "j", "p1", long+"1@example.com"))
	see("the same of another Lapse", Account("y", "i", "p1", long+"1@example.com"))
	see("ids that join alike", Account("x", "ip1", "", long+"1@example.com"))
	day := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	see("a tombstone", Tombstone("x", "i", "p1", day, 1))
	see("the second of the day", Tombstone("x", "i", "p1", day, 2))
	see("one of the next day", Tombstone("x", "i", "p1", day.AddDate(0, 0, 1), 1))

	if a, b := Account("x", "i", "p1", "Ana@Example.com "), Account("x", "i", "p1", "ana@example.com"); a != b {
		t.Errorf("the same address in another case gives %s and %s", a, b)
	}
}

// Names are stored on targets: an algorithm that changed would lose accounts.
func TestNamesStay(t *testing.T) {
	e := access.Entitlement{Integration: "int-1", Resource: access.NewResource("schema", "shop", "public"), Permission: "read_only"}
	for got, want := range map[string]string{
		Account("inst-1", "int-1", "p-1", "ana.b@example.com"): "lapse_ana_b_812e3d9c",
		Role("inst-1", e): "lapse_e_b0cc21f567ac0c5b",
		Tombstone("inst-1", "int-1", "p-1", time.Date(2026, 11, 21, 23, 0, 0, 0, time.UTC), 1): "lapse_t_812e3d9c_20261121",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestPassword holds 10 000 samples to the rules of every target.
func TestPassword(t *testing.T) {
	seen := map[string]bool{}
	for range 10_000 {
		p := Password("lapse_ana_3f9a1c77")
		count := map[string]int{}
		for i, r := range p {
			for _, class := range []string{upper, lower, digits, signs} {
				if strings.ContainsRune(class, r) {
					count[class]++
				}
			}
			if strings.ContainsRune("'\"\\@/#%&$; `", r) {
				t.Fatalf("a password has %q, which would need quoting", r)
			}
			if i > 1 && p[i] == p[i-1] && p[i] == p[i-2] {
				t.Fatal("a password has three equal characters in a row")
			}
		}
		for _, class := range []string{upper, lower, digits, signs} {
			if count[class] < perClass {
				t.Fatalf("a password has %d of %s, want %d", count[class], class, perClass)
			}
		}
		if len(p) != PasswordLength || !strings.ContainsAny(p[:1], upper+lower) {
			t.Fatal("a password has another length, or does not start with a letter")
		}
		if seen[p] {
			t.Fatal("a password came twice")
		}
		seen[p] = true
	}
}

func TestPasswordIsNotTheName(t *testing.T) {
	const p = "Aa1_lapseXY2-bB3.cC4!dD5"
	for account, want := range map[string]bool{"lapse": false, "LAPSE": false, "espal": false, "other": true, "": true} {
		if got := acceptable(p, account); got != want {
			t.Errorf("with account %q the password is acceptable: %t, want %t", account, got, want)
		}
	}
}
