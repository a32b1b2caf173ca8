// Package sqlname writes names and texts into SQL statements, by the rules of
// each dialect. Statements about accounts and rights take no bind parameters
// for these anywhere, so this is the one place in which SQL is put together.
//
// What cannot be written exactly is refused, never repaired: a name that is
// shortened or changed may be somebody else's.
package sqlname

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Dialect is how one family of servers reads names and texts.
type Dialect struct {
	title string // for errors
	quote byte   // around a name
	// limit is the length of the longest name, in units of count.
	limit int
	count func(string) int
	units string
	// valid refuses what no name of this dialect can be; nil refuses nothing.
	valid   func(string) error
	literal func(string) (string, error)
	// principalLimit is the length of the longest account or role of a dialect
	// that knows them as USER@HOST; 0 elsewhere.
	principalLimit int
}

// The dialects.
var (
	// PostgreSQL cuts longer names without an error, so that two of them may
	// become one:
	// https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS
	PostgreSQL = &Dialect{title: "PostgreSQL", quote: '"', limit: 63, count: size, units: "bytes", literal: escapeText}
	// MySQL: https://dev.mysql.com/doc/refman/8.4/en/identifiers.html and
	// https://dev.mysql.com/doc/refman/8.4/en/user-names.html
	MySQL = &Dialect{title: "MySQL", quote: '`', limit: 64, count: utf8.RuneCountInString, units: "characters", valid: basicPlane, literal: backslashText, principalLimit: 32}
	// MariaDB: https://mariadb.com/docs/server/reference/sql-structure/sql-language-structure/identifier-names
	MariaDB = &Dialect{title: "MariaDB", quote: '`', limit: 64, count: utf8.RuneCountInString, units: "characters", valid: basicPlane, literal: backslashText, principalLimit: 128}
)

// Fragment is a piece of SQL that may be put into a statement.
type Fragment interface {
	in(d *Dialect) (string, error)
}

type (
	// Ident is the name of an object, and Qualified one in a schema.
	Ident     string
	Qualified [2]string
	// Literal is a text constant. In MySQL and MariaDB it is right as long as
	// the session's sql_mode has no NO_BACKSLASH_ESCAPES.
	Literal string
	// Keywords are words of SQL. They come from the caller's own tables only.
	Keywords []string
	// Quoted is a name as the server itself has quoted it.
	Quoted string
	// Number is an integer.
	Number int64
	// List is fragments with commas between them.
	List []Fragment
	// Principal is an account or a role of MySQL and MariaDB. Without a host it
	// is a role of MariaDB.
	Principal struct{ User, Host string }
	// Pattern is the database in GRANT ... ON database.* and REVOKE of MySQL
	// and MariaDB, which is a pattern there: "_" and "%" stand for themselves
	// only with a backslash in front. Names of objects in it take Qualified, and
	// a database takes Ident on a MySQL with partial_revokes.
	// https://dev.mysql.com/doc/refman/8.4/en/grant.html#grant-quoting
	Pattern string
)

// Statement is one statement, or the reason why it could not be built.
type Statement struct {
	Text string
	Err  error
}

// Statement builds a statement from a constant text in which each "?" stands
// for one fragment. What can be a bind parameter is one instead.
func (d *Dialect) Statement(text string, args ...Fragment) Statement {
	var b strings.Builder
	for _, arg := range args {
		before, after, _ := strings.Cut(text, "?")
		s, err := arg.in(d)
		if err != nil {
			return Statement{Err: err}
		}
		b.WriteString(before)
		b.WriteString(s)
		text = after
	}
	b.WriteString(text)
	return Statement{Text: b.String()}
}

// Quote is a fragment by itself.
func (d *Dialect) Quote(f Fragment) (string, error) { return f.in(d) }

// Shown is a name as it is typed in SQL, for people.
func (d *Dialect) Shown(f Fragment) string {
	s, err := f.in(d)
	if err != nil {
		return fmt.Sprintf("%q", fmt.Sprint(f))
	}
	return s
}

func (n Ident) in(d *Dialect) (string, error) {
	if err := d.check(string(n), d.limit); err != nil {
		return "", err
	}
	return d.quoted(string(n)), nil
}

// quoted doubles the quotation marks inside, which is all that is special
// between them in every mode of the server.
func (d *Dialect) quoted(name string) string {
	q := string(d.quote)
	return q + strings.ReplaceAll(name, q, q+q) + q
}

func (d *Dialect) check(name string, limit int) error {
	switch {
	case name == "":
		return errors.New("an empty name")
	case strings.ContainsRune(name, 0):
		return errors.New("a name with a NUL byte")
	case d.count(name) > limit:
		return fmt.Errorf("a name of %d %s, where %s allows %d: %.20q…", d.count(name), d.units, d.title, limit, name)
	}
	if d.valid != nil {
		return d.valid(name)
	}
	return nil
}

func (q Qualified) in(d *Dialect) (string, error) {
	return List{Ident(q[0]), Ident(q[1])}.join(d, ".")
}

func (l Literal) in(d *Dialect) (string, error) {
	if strings.ContainsRune(string(l), 0) {
		return "", errors.New("a text with a NUL byte")
	}
	return d.literal(string(l))
}

func (k Keywords) in(*Dialect) (string, error) { return strings.Join(k, ", "), nil }

func (q Quoted) in(*Dialect) (string, error) { return string(q), nil }

func (n Number) in(*Dialect) (string, error) { return fmt.Sprint(int64(n)), nil }

func (l List) in(d *Dialect) (string, error) { return l.join(d, ", ") }

func (l List) join(d *Dialect, by string) (string, error) {
	parts := make([]string, len(l))
	for i, f := range l {
		s, err := f.in(d)
		if err != nil {
			return "", err
		}
		parts[i] = s
	}
	return strings.Join(parts, by), nil
}

// hostLimit is the length of the longest host of an account.
const hostLimit = 255

// Backquotes, unlike quotes, mean the same in every sql_mode.
func (p Principal) in(d *Dialect) (string, error) {
	if d.principalLimit == 0 {
		return "", fmt.Errorf("%s knows no accounts as USER@HOST", d.title)
	}
	if err := d.check(p.User, d.principalLimit); err != nil {
		return "", err
	}
	if strings.Trim(p.User, blank) != p.User {
		return "", errors.New("an account or role with a blank at an end, which the server would cut off")
	}
	user := d.quoted(p.User)
	if p.Host == "" {
		return user, nil
	}
	if err := d.check(p.Host, hostLimit); err != nil {
		return "", err
	}
	return user + "@" + d.quoted(p.Host), nil
}

var wildcards = strings.NewReplacer(`\`, `\\`, `_`, `\_`, `%`, `\%`)

func (p Pattern) in(d *Dialect) (string, error) {
	if d.principalLimit == 0 {
		return "", fmt.Errorf("%s takes no pattern there", d.title)
	}
	if err := d.check(string(p), d.limit); err != nil {
		return "", err
	}
	// The grant tables have room for the pattern as for a name.
	return Ident(wildcards.Replace(string(p))).in(d)
}

// Match tells whether a database's name is meant by a pattern of a grant, and
// how many characters the pattern has before its first wildcard; the server
// goes by the row with the most.
func Match(pattern, name string) (ok bool, exact int) {
	p, n := []rune(pattern), []rune(name)
	exact = -1
	var match func(i, j int) bool
	match = func(i, j int) bool {
		for ; i < len(p); i++ {
			switch {
			case p[i] == '%':
				for k := j; k <= len(n); k++ {
					if match(i+1, k) {
						return true
					}
				}
				return false
			case p[i] == '\\' && i+1 < len(p):
				i++
				if j >= len(n) || n[j] != p[i] {
					return false
				}
			case j >= len(n) || (p[i] != '_' && p[i] != n[j]):
				return false
			}
			j++
		}
		return j == len(n)
	}
	for i := 0; i < len(p) && exact < 0; i++ {
		switch {
		case p[i] == '\\':
			i++
		case p[i] == '%' || p[i] == '_':
			exact = i
		}
	}
	if exact < 0 {
		exact = len(p) + 1 // no wildcard at all
	}
	return match(0, 0), exact
}

func size(s string) int { return len(s) }

// basicPlane refuses what the servers keep no name in: their catalogs are
// utf8mb3, and lose a blank at the end.
func basicPlane(name string) error {
	if !utf8.ValidString(name) {
		return errors.New("a name that is not UTF-8")
	}
	for _, r := range name {
		if r > 0xffff {
			return fmt.Errorf("a name with the character %q, beyond U+FFFF", r)
		}
	}
	if strings.TrimRight(name, blank) != name {
		return errors.New("a name with a blank at its end")
	}
	return nil
}

// blank is what the servers cut off, or refuse, at the ends of names.
const blank = " \t\n\v\f\r"

var doubled = strings.NewReplacer(`\`, `\\`, `'`, `''`)

// The escape form is right whatever standard_conforming_strings says.
func escapeText(s string) (string, error) { return `E'` + doubled.Replace(s) + `'`, nil }

func backslashText(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", errors.New("a text that is not UTF-8")
	}
	return `'` + doubled.Replace(s) + `'`, nil
}
