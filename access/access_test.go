package access

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestParseResource(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     []string // the names; nil where it is refused
	}{
		{"a schema is a type and the names from the top", "schema:shop/public", []string{"shop", "public"}},
		{"a name may hold a colon", "role:a:b", []string{"a:b"}},
		{"an encoded slash does not split", "role:a%2Fb", []string{"a/b"}},
		{"a name of spaces is a name", "role: ", []string{" "}},
		{"the type is needed", ":shop", nil},
		{"the colon is needed", "shop/public", nil},
		{"the path is needed", "schema:", nil},
		{"no part is empty", "schema:shop//public", nil},
		{"no part ends in nothing", "schema:shop/", nil},
		{"a percent sign begins an encoding", "role:100%", nil},
		{"an encoding has two digits", "role:%2", nil},
		{"a NUL byte is in no name", "role:a%00b", nil},
		{"a name is UTF-8", "role:%ff", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := ParseResource(c.in)
			if c.want == nil {
				if err == nil {
					t.Fatalf("%q is taken as %+v", c.in, r)
				}
				if !strings.Contains(err.Error(), "resource ") {
					t.Errorf("the error does not say what it is about: %v", err)
				}
				return
			}
			names, err2 := r.Names()
			if err != nil || err2 != nil || !slices.Equal(names, c.want) {
				t.Errorf("%q has the names %q (%v, %v), want %q", c.in, names, err, err2, c.want)
			}
		})
	}
}

// However a resource is written, it is one value: overlapping holds are found
// by comparing.
func TestResourceHasOneSpelling(t *testing.T) {
	want := NewResource("schema", "shop", "a/b")
	for _, spelling := range []string{"schema:shop/a%2Fb", "schema:shop/a%2fb", "schema:%73hop/%61%2Fb"} {
		if r, err := ParseResource(spelling); err != nil || r != want {
			t.Errorf("%s is %v (%v), want %v", spelling, r, err, want)
		}
	}
}

// resourceName draws a name as a target may have it.
func resourceName() *rapid.Generator[string] {
	return rapid.StringOfN(rapid.OneOf(rapid.SampledFrom([]rune("/%*: +?#\\.\"'é")), rapid.Rune()), 1, 12, -1).
		Filter(func(s string) bool { return !strings.ContainsRune(s, 0) })
}

func TestResourceRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfN(resourceName(), 1, 4).Draw(t, "names")
		r := NewResource("table", names...)
		back, err := ParseResource(r.String())
		if err != nil || back != r {
			t.Fatalf("%q comes back from text as %v (%v)", names, back, err)
		}
		plain, err := back.Names()
		if err != nil || !slices.Equal(plain, names) {
			t.Fatalf("the names %q come back as %q (%v)", names, plain, err)
		}
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var decoded Resource
		if err := json.Unmarshal(text, &decoded); err != nil || decoded != r {
			t.Fatalf("%q comes back from JSON as %v (%v)", names, decoded, err)
		}
		if !MatchResource(r.String(), r) {
			t.Fatalf("%v does not match its own name", r)
		}
		stars := make([]string, len(names))
		for i := range stars {
			stars[i] = "*"
		}
		if all := strings.Join(stars, "/"); !MatchResource("table:"+all, r) || MatchResource("table:"+all+"/*", r) {
			t.Fatalf("%v must match table:%s and nothing longer", r, all)
		}
	})
}

func FuzzParseResource(f *testing.F) {
	for _, seed := range []string{"schema:shop/public", "role:a%2Fb", "role:%", "x:%25%2A%2F", ":", "a:b:c", "role:\xff", "table:*/*"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseResource(s)
		if err != nil {
			return
		}
		names, err := r.Names()
		if err != nil {
			t.Fatalf("%q is taken, and its names are not: %v", s, err)
		}
		if again, err := ParseResource(r.String()); err != nil || again != r || NewResource(r.Type, names...) != r {
			t.Fatalf("%q is %q, then %q (%v), then %q", s, r, again, err, NewResource(r.Type, names...))
		}
	})
}

func TestZeroResourceIsEmptyText(t *testing.T) {
	text, err := json.Marshal(Resource{})
	if err != nil || string(text) != `""` {
		t.Fatalf("%s, %v", text, err)
	}
	r := Resource{Type: "schema", Path: "shop"}
	if err := json.Unmarshal(text, &r); err != nil || r != (Resource{}) {
		t.Errorf("it comes back as %+v (%v)", r, err)
	}
}

func TestMatchResource(t *testing.T) {
	for _, c := range []struct {
		name, pattern string
		resource      Resource
		want          bool
	}{
		{"the same name matches", "schema:shop/public", NewResource("schema", "shop", "public"), true},
		{"another name does not", "schema:shop/public", NewResource("schema", "shop", "audit"), false},
		{"another type does not", "schema:shop/public", NewResource("table", "shop", "public"), false},
		{"a star is one whole part", "schema:shop/*", NewResource("schema", "shop", "public"), true},
		{"a star never reaches into the next part", "table:shop/*", NewResource("table", "shop", "public", "orders"), false},
		{"a star is not fooled by a slash in a name", "schema:shop/*/x", NewResource("schema", "shop", "a/x"), false},
		{"a name with a slash is one part", "schema:shop/*", NewResource("schema", "shop", "a/x"), true},
		{"a star may stand for nothing", "schema:shop/public*", NewResource("schema", "shop", "public"), true},
		{"a star in the middle keeps both ends", "role:app_*_ro", NewResource("role", "app_billing_ro"), true},
		{"both ends do not overlap", "role:aa*aa", NewResource("role", "aaa"), false},
		{"several stars are taken in order", "role:a*b*c", NewResource("role", "a1b2c"), true},
		{"several stars are not taken out of order", "role:a*c*b", NewResource("role", "a1b2c"), false},
		{"a later end is found", "role:*ab", NewResource("role", "abab"), true},
		{"the type may have a star too", "*:shop/*", NewResource("schema", "shop", "public"), true},
		{"a pattern that is no pattern matches nothing", "shop", NewResource("shop", "shop"), false},
		{"an encoded star is only a star", "role:%2A", NewResource("role", "anything"), false},
		{"a star in a name is encoded", "role:%2A", NewResource("role", "*"), true},
		{"case matters, as on most targets", "schema:Shop/*", NewResource("schema", "shop", "public"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := MatchResource(c.pattern, c.resource); got != c.want {
				t.Errorf("MatchResource(%q, %q) = %v", c.pattern, c.resource, got)
			}
		})
	}
}

func TestDuration(t *testing.T) {
	for _, c := range []struct {
		name string
		in   time.Duration
		want string
	}{
		{"whole hours have no minutes", 8 * time.Hour, "8h"},
		{"whole minutes have no seconds", 90 * time.Minute, "1h30m"},
		{"ten minutes keep their nought", 10 * time.Minute, "10m"},
		{"ten hours and ten minutes keep both", 10*time.Hour + 10*time.Minute, "10h10m"},
		{"seconds stay", time.Minute + time.Second, "1m1s"},
		{"an hour and a second keeps its minutes", time.Hour + time.Second, "1h0m1s"},
		{"milliseconds stay", 100 * time.Millisecond, "100ms"},
		{"nothing is nought seconds", 0, "0s"},
		{"less than nothing is readable too", -time.Hour, "-1h"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Duration(c.in).String(); got != c.want {
				t.Errorf("%s is written %q, want %q", c.in, got, c.want)
			}
		})
	}
	t.Run("every duration comes back from its text", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			d := Duration(rapid.Int64().Draw(t, "nanoseconds") / rapid.SampledFrom([]int64{1, 7}).Draw(t, "divisor"))
			if rapid.Bool().Draw(t, "whole minutes") {
				d -= d % Duration(time.Minute)
			}
			text, err := json.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			var back Duration
			if err := json.Unmarshal(text, &back); err != nil || back != d {
				t.Fatalf("%d is written %s and comes back as %d (%v)", d, text, back, err)
			}
		})
	})
	t.Run("what is no duration is refused with an example", func(t *testing.T) {
		for _, s := range []string{"", "8", "8 hours", "1d", "h"} {
			if _, err := ParseDuration(s); err == nil || !strings.Contains(err.Error(), "1h30m") {
				t.Errorf("%q: %v", s, err)
			}
		}
	})
}

func TestDays(t *testing.T) {
	for days, want := range map[Days]time.Duration{0: 0, 7: 7 * 24 * time.Hour, 0.5: 12 * time.Hour, 1.0 / 86400: time.Second} {
		if got := days.Std(); got.Round(time.Microsecond) != want {
			t.Errorf("%v days are %s, want %s", days, got, want)
		}
	}
}

func TestSameHuman(t *testing.T) {
	ana := Person{ID: "per-1", Email: "ana@example.com", Aliases: []string{"a.ng@example.org"}}
	for _, c := range []struct {
		name  string
		other Person
		want  bool
	}{
		{"the same entry under a new address", Person{ID: "per-1", Email: "ana.ng@example.com"}, true},
		{"the same address in another entry", Person{ID: "per-2", Email: "ana@example.com"}, true},
		{"the same address in capitals and with blanks", Person{ID: "per-2", Email: " Ana@Example.COM "}, true},
		{"the same mailbox behind a tag", Person{ID: "per-2", Email: "ana+admin@example.com"}, true},
		{"the main address of one is an alias of the other", Person{ID: "per-2", Email: "a.ng@example.org"}, true},
		{"an alias of one is the main address of the other", Person{ID: "per-2", Email: "x@example.com", Aliases: []string{"ANA@example.com"}}, true},
		{"both have the same alias", Person{ID: "per-2", Email: "x@example.com", Aliases: []string{"a.ng+y@example.org"}}, true},
		{"somebody else", Person{ID: "per-2", Email: "bo@example.com"}, false},
		{"the same name at another domain", Person{ID: "per-2", Email: "ana@example.org"}, false},
		{"a name that only begins alike", Person{ID: "per-2", Email: "ana2@example.com"}, false},
		{"an entry without an id is nobody in particular", Person{Email: "bo@example.com"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if SameHuman(ana, c.other) != c.want || SameHuman(c.other, ana) != c.want {
				t.Errorf("want %v in both directions", c.want)
			}
		})
	}
	t.Run("no id is not the same id", func(t *testing.T) {
		if SameHuman(Person{Email: "ana@example.com"}, Person{Email: "bo@example.com"}) {
			t.Error("two people without ids are one")
		}
	})
}

func TestAccountID(t *testing.T) {
	integration, person, err := SplitAccountID(AccountID("int-1", "per-1"))
	if err != nil || integration != "int-1" || person != "per-1" {
		t.Errorf("%s, %s, %v", integration, person, err)
	}
	for _, bad := range []string{"", "/", "int-1", "int-1/", "/per-1", "int-1/per-1/x"} {
		if _, _, err := SplitAccountID(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestNewID(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := NewID("req")
		if random, ok := strings.CutPrefix(id, "req-"); !ok || len(random) != 16 || strings.ToLower(id) != id || seen[id] {
			t.Fatalf("%q is no new id", id)
		}
		seen[id] = true
	}
}

func TestRequestIntegrations(t *testing.T) {
	var r Request
	for _, id := range []string{"int-2", "int-1", "int-2"} {
		r.Asked = append(r.Asked, Asked{Entitlement: Entitlement{Integration: id}})
	}
	if diff := cmp.Diff([]string{"int-1", "int-2"}, r.Integrations()); diff != "" {
		t.Error(diff)
	}
}
