package postgresql

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lapse-access/lapse/access"
)

func TestQuoting(t *testing.T) {
	for _, test := range []struct {
		name     string
		fragment fragment
		want     string
	}{
		{"a plain name", ident("orders"), `"orders"`},
		{"quotes are doubled", ident(`a"b`), `"a""b"`},
		{"an injection stays a name", ident(`x"; DROP TABLE y; --`), `"x""; DROP TABLE y; --"`},
		{"a name in a schema", qualified{"s", `t"`}, `"s"."t"""`},
		{"a list", list{ident("a"), qualified{"b", "c"}}, `"a", "b"."c"`},
		{"the longest name", ident(strings.Repeat("x", 63)), `"` + strings.Repeat("x", 63) + `"`},
		{"a text", literal("it's"), `E'it''s'`},
		{"a text with a backslash", literal(`a\'b`), `E'a\\''b'`},
		{"an empty text", literal(""), `E''`},
		{"keywords", keywords{"SELECT", "INSERT"}, `SELECT, INSERT`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.fragment.sql()
			if err != nil || got != test.want {
				t.Errorf("got %s, %v; want %s", got, err, test.want)
			}
		})
	}
}

func TestQuotingRefuses(t *testing.T) {
	for _, test := range []struct {
		name     string
		fragment fragment
	}{
		{"an empty name", ident("")},
		{"a name with NUL", ident("a\x00b")},
		{"a name that PostgreSQL would cut", ident(strings.Repeat("x", 64))},
		{"a name that is too long in bytes", ident(strings.Repeat("ü", 32))},
		{"a list with a bad name", list{ident("a"), ident("")}},
		{"a table in a nameless schema", qualified{"", "t"}},
		{"a text with NUL", literal("a\x00b")},
	} {
		t.Run(test.name, func(t *testing.T) {
			if s := ddl("DROP ROLE ?", test.fragment); s.err == nil {
				t.Errorf("got %s, want an error", s.text)
			}
		})
	}
}

func TestStatement(t *testing.T) {
	got := ddl("GRANT ? ON TABLE ? TO ?", keywords{"SELECT"}, qualified{"s?", "t"}, ident("r?"))
	if want := `GRANT SELECT ON TABLE "s?"."t" TO "r?"`; got.text != want || got.err != nil {
		t.Errorf("got %s, %v; want %s", got.text, got.err, want)
	}
}

// FuzzQuoting reads what was quoted by the rules of PostgreSQL's lexer: it must
// be one token whose value is the name.
func FuzzQuoting(f *testing.F) {
	for _, s := range []string{"a", `"`, `""`, `\`, `'`, `\'`, "--", "/*", "$$", "ü😀", "\n", `U&"`, "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if quoted, err := ident(s).sql(); err == nil {
			if got, rest := unquote(quoted, '"', false); got != s || rest != "" {
				t.Errorf("the name %q became %s: reads as %q and %q", s, quoted, got, rest)
			}
		} else if s != "" && !strings.ContainsRune(s, 0) && len(s) <= maxIdentifier {
			t.Errorf("the name %q was refused: %v", s, err)
		}
		if quoted, err := literal(s).sql(); err == nil {
			if got, rest := unquote(strings.TrimPrefix(quoted, "E"), '\'', true); got != s || rest != "" {
				t.Errorf("the text %q became %s: reads as %q and %q", s, quoted, got, rest)
			}
		} else if !strings.ContainsRune(s, 0) {
			t.Errorf("the text %q was refused: %v", s, err)
		}
	})
}

// unquote reads one quoted token and returns its value and what follows it.
func unquote(s string, quote byte, backslash bool) (value, rest string) {
	if s == "" || s[0] != quote {
		return "", s
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == quote && i+1 < len(s) && s[i+1] == quote, backslash && s[i] == '\\' && i+1 < len(s):
			i++
		case s[i] == quote:
			return b.String(), s[i+1:]
		}
		b.WriteByte(s[i])
	}
	return "", "no end"
}

func TestMark(t *testing.T) {
	e := access.Entitlement{Integration: "i", Resource: access.NewResource("schema", `a"'\`), Permission: "read_only"}
	m := mark{Kind: kindEntitlement, Instance: "x", Integration: "i", Entitlement: &e, Sequence: 7}
	s := m.comment("role")
	if s.err != nil {
		t.Fatal(s.err)
	}
	text, rest := unquote(strings.TrimPrefix(s.text, `COMMENT ON ROLE "role" IS E`), '\'', true)
	got, ok := readMark(text)
	if !ok || rest != "" {
		t.Fatalf("%s is no mark", text)
	}
	if diff := cmp.Diff(m, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, comment := range []string{"", "a role", "lapse:v1:", "lapse:v1:{", `lapse:v2:{"kind":"account"}`} {
		if _, ok := readMark(comment); ok {
			t.Errorf("%q is taken for a mark", comment)
		}
	}
}
