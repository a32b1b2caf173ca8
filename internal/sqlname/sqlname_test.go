package sqlname_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/lapse-access/lapse/internal/sqlname"
	"github.com/lapse-access/lapse/internal/sqlname/sqlnametest"
)

var dialects = map[string]*sqlname.Dialect{"PostgreSQL": sqlname.PostgreSQL, "MySQL": sqlname.MySQL, "MariaDB": sqlname.MariaDB}

func TestQuoting(t *testing.T) {
	long := strings.Repeat("x", 63)
	for _, test := range []struct {
		name     string
		dialect  string
		fragment sqlname.Fragment
		want     string
	}{
		{"a plain name", "PostgreSQL", sqlname.Ident("orders"), `"orders"`},
		{"quotes are doubled", "PostgreSQL", sqlname.Ident(`a"b`), `"a""b"`},
		{"an injection stays a name", "PostgreSQL", sqlname.Ident(`x"; DROP TABLE y; --`), `"x""; DROP TABLE y; --"`},
		{"a name in a schema", "PostgreSQL", sqlname.Qualified{"s", `t"`}, `"s"."t"""`},
		{"a list", "PostgreSQL", sqlname.List{sqlname.Ident("a"), sqlname.Qualified{"b", "c"}}, `"a", "b"."c"`},
		{"the longest name", "PostgreSQL", sqlname.Ident(long), `"` + long + `"`},
		{"a text", "PostgreSQL", sqlname.Literal("it's"), `E'it''s'`},
		{"a text with a backslash", "PostgreSQL", sqlname.Literal(`a\'b`), `E'a\\''b'`},
		{"an empty text", "PostgreSQL", sqlname.Literal(""), `E''`},
		{"keywords", "PostgreSQL", sqlname.Keywords{"SELECT", "INSERT"}, `SELECT, INSERT`},
		{"a signature", "PostgreSQL", sqlname.Quoted(`s."f"(integer)`), `s."f"(integer)`},
		{"a plain name", "MySQL", sqlname.Ident("orders"), "`orders`"},
		{"backquotes are doubled", "MySQL", sqlname.Ident("a`b\\"), "`a``b\\`"},
		{"a table is no pattern", "MySQL", sqlname.Qualified{"a_b", "t%"}, "`a_b`.`t%`"},
		{"a database is a pattern", "MySQL", sqlname.Pattern(`a_b%\`), "`a\\_b\\%\\\\`"},
		{"an account", "MySQL", sqlname.Principal{User: "a'`b", Host: "10.%"}, "`a'``b`@`10.%`"},
		{"a role", "MariaDB", sqlname.Principal{User: "a_b"}, "`a_b`"},
		{"a role of 128 characters", "MariaDB", sqlname.Principal{User: long + long + "xx"}, "`" + long + long + "xx`"},
		{"a text", "MySQL", sqlname.Literal(`it's \ {"a":"b"}`), `'it''s \\ {"a":"b"}'`},
		{"a number", "MySQL", sqlname.Number(-42), "-42"},
	} {
		t.Run(test.dialect+" "+test.name, func(t *testing.T) {
			got, err := dialects[test.dialect].Quote(test.fragment)
			if err != nil || got != test.want {
				t.Errorf("got %s, %v; want %s", got, err, test.want)
			}
		})
	}
}

func TestQuotingRefuses(t *testing.T) {
	for _, test := range []struct {
		name     string
		dialect  string
		fragment sqlname.Fragment
	}{
		{"an empty name", "PostgreSQL", sqlname.Ident("")},
		{"a name with NUL", "PostgreSQL", sqlname.Ident("a\x00b")},
		{"a name that PostgreSQL would cut", "PostgreSQL", sqlname.Ident(strings.Repeat("x", 64))},
		{"a name that is too long in bytes", "PostgreSQL", sqlname.Ident(strings.Repeat("ü", 32))},
		{"a list with a bad name", "PostgreSQL", sqlname.List{sqlname.Ident("a"), sqlname.Ident("")}},
		{"a table in a nameless schema", "PostgreSQL", sqlname.Qualified{"", "t"}},
		{"a text with NUL", "PostgreSQL", sqlname.Literal("a\x00b")},
		{"an account", "PostgreSQL", sqlname.Principal{User: "a", Host: "%"}},
		{"a pattern", "PostgreSQL", sqlname.Pattern("a")},
		{"a name with a character of four bytes", "MySQL", sqlname.Ident("😀")},
		{"a name that is not UTF-8", "MySQL", sqlname.Ident("\xff")},
		{"a name with a space at its end", "MySQL", sqlname.Ident("a ")},
		{"a text that is not UTF-8", "MySQL", sqlname.Literal("\xbf'")},
		{"a user of 33 characters", "MySQL", sqlname.Principal{User: strings.Repeat("x", 33), Host: "%"}},
		{"a host of 256 characters", "MySQL", sqlname.Principal{User: "x", Host: strings.Repeat("x", 256)}},
		{"a user with a space in front", "MySQL", sqlname.Principal{User: " a", Host: "%"}},
		{"a nameless account", "MySQL", sqlname.Principal{Host: "%"}},
		{"a database whose pattern has no room", "MySQL", sqlname.Pattern(strings.Repeat("_", 33))},
	} {
		t.Run(test.dialect+" "+test.name, func(t *testing.T) {
			if s := dialects[test.dialect].Statement("DROP ROLE ?", test.fragment); s.Err == nil {
				t.Errorf("got %s, want an error", s.Text)
			}
		})
	}
}

func TestStatement(t *testing.T) {
	got := sqlname.PostgreSQL.Statement("GRANT ? ON TABLE ? TO ?", sqlname.Keywords{"SELECT"}, sqlname.Qualified{"s?", "t"}, sqlname.Ident("r?"))
	if want := `GRANT SELECT ON TABLE "s?"."t" TO "r?"`; got.Text != want || got.Err != nil {
		t.Errorf("got %s, %v; want %s", got.Text, got.Err, want)
	}
}

func TestMatch(t *testing.T) {
	for _, test := range []struct {
		pattern, name string
		want          bool
		exact         int
	}{
		{"a", "a", true, 2},
		{"a", "ab", false, 2},
		{"a_b", "axb", true, 1},
		{`a\_b`, "axb", false, 5},
		{`a\_b`, "a_b", true, 5},
		{"a%", "a", true, 1},
		{"a%", "abc", true, 1},
		{"%c", "abc", true, 0},
		{"%b%c", "abxc", true, 0},
		{"%", "", true, 0},
		{"_", "", false, 0},
		{"_", "ü", true, 0},
		{`\\`, `\`, true, 3},
		{`\`, `\`, true, 2},
	} {
		if ok, exact := sqlname.Match(test.pattern, test.name); ok != test.want || exact != test.exact {
			t.Errorf("%s and %s: %t, %d; want %t, %d", test.pattern, test.name, ok, exact, test.want, test.exact)
		}
	}
}

func FuzzPostgreSQL(f *testing.F) { fuzz(f, sqlname.PostgreSQL, '"', "E'", true) }

func FuzzMySQL(f *testing.F) { fuzz(f, sqlname.MySQL, '`', "'", false) }

func FuzzMariaDB(f *testing.F) { fuzz(f, sqlname.MariaDB, '`', "'", false) }

// fuzz reads what was quoted by the rules of the dialect's lexer: it must be one
// token whose value is the name. What is refused must be one of the few things
// that may be.
func fuzz(f *testing.F, d *sqlname.Dialect, quote byte, open string, bytes bool) {
	for _, s := range sqlnametest.Hostile {
		f.Add(s)
	}
	odd := func(s string) bool {
		if bytes {
			return s == "" || len(s) > 63 || strings.ContainsRune(s, 0)
		}
		return s == "" || strings.ContainsRune(s, 0) || !utf8.ValidString(s) || utf8.RuneCountInString(s) > 64 ||
			strings.TrimRight(s, " \t\n\v\f\r") != s || strings.ContainsFunc(s, func(r rune) bool { return r > 0xffff })
	}
	f.Fuzz(func(t *testing.T, s string) {
		if quoted, err := d.Quote(sqlname.Ident(s)); err == nil {
			if got, rest := unquote(quoted, quote, false); got != s || rest != "" || odd(s) {
				t.Errorf("the name %q became %s: reads as %q and %q", s, quoted, got, rest)
			}
		} else if !odd(s) {
			t.Errorf("the name %q was refused: %v", s, err)
		}
		if quoted, err := d.Quote(sqlname.Literal(s)); err == nil {
			if got, rest := unquote(strings.TrimPrefix(quoted, open[:len(open)-1]), '\'', true); got != s || rest != "" {
				t.Errorf("the text %q became %s: reads as %q and %q", s, quoted, got, rest)
			}
		} else if !strings.ContainsRune(s, 0) && (bytes || utf8.ValidString(s)) {
			t.Errorf("the text %q was refused: %v", s, err)
		}
		if bytes {
			return
		}
		if quoted, err := d.Quote(sqlname.Principal{User: s, Host: s}); err == nil {
			user, rest := unquote(quoted, quote, false)
			host, rest := unquote(strings.TrimPrefix(rest, "@"), quote, false)
			if user != s || host != s || rest != "" {
				t.Errorf("the account %q became %s: reads as %q, %q and %q", s, quoted, user, host, rest)
			}
		}
		if quoted, err := d.Quote(sqlname.Pattern(s)); err == nil {
			pattern, rest := unquote(quoted, quote, false)
			if ok, exact := sqlname.Match(pattern, s); !ok || rest != "" || exact <= utf8.RuneCountInString(pattern) {
				t.Errorf("the database %q became %s: it matches %t, %d", s, quoted, ok, exact)
			}
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
