package postgresql

import (
	"errors"
	"fmt"
	"strings"
)

// maxIdentifier is NAMEDATALEN-1. PostgreSQL cuts longer names without an
// error, so that two of them may become one:
// https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS
const maxIdentifier = 63

// fragment is a piece of SQL that may be put into a statement.
type fragment interface {
	sql() (string, error)
}

type (
	// ident is the name of an object, and qualified one in a schema.
	ident     string
	qualified [2]string
	// literal is a text constant.
	literal string
	// keywords are words of SQL. They come from this package's tables only.
	keywords []string
	// signature is a routine as regprocedure prints it: the server has
	// quoted it, and it cannot be put together here.
	signature string
	// list is fragments with commas between them.
	list []fragment
)

// statement is one DDL statement, or the reason why it could not be built.
type statement struct {
	text string
	err  error
}

// ddl builds a statement from a constant text in which each "?" stands for one
// fragment. It is the only place in which SQL is put together; what can be a
// bind parameter is one instead.
func ddl(text string, args ...fragment) statement {
	var b strings.Builder
	for _, arg := range args {
		before, after, _ := strings.Cut(text, "?")
		s, err := arg.sql()
		if err != nil {
			return statement{err: err}
		}
		b.WriteString(before)
		b.WriteString(s)
		text = after
	}
	b.WriteString(text)
	return statement{text: b.String()}
}

func (n ident) sql() (string, error) {
	switch {
	case n == "":
		return "", errors.New("an empty name")
	case strings.ContainsRune(string(n), 0):
		return "", errors.New("a name with a NUL byte")
	case len(n) > maxIdentifier:
		return "", fmt.Errorf("a name of %d bytes, where %d are allowed: %.20q…", len(n), maxIdentifier, string(n))
	}
	return `"` + strings.ReplaceAll(string(n), `"`, `""`) + `"`, nil
}

func (q qualified) sql() (string, error) {
	return list{ident(q[0]), ident(q[1])}.join(".")
}

// The escape form is right whatever standard_conforming_strings says.
func (l literal) sql() (string, error) {
	if strings.ContainsRune(string(l), 0) {
		return "", errors.New("a text with a NUL byte")
	}
	return `E'` + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(string(l)) + `'`, nil
}

func (k keywords) sql() (string, error) { return strings.Join(k, ", "), nil }

func (s signature) sql() (string, error) { return string(s), nil }

func (l list) sql() (string, error) { return l.join(", ") }

func (l list) join(by string) (string, error) {
	parts := make([]string, len(l))
	for i, f := range l {
		s, err := f.sql()
		if err != nil {
			return "", err
		}
		parts[i] = s
	}
	return strings.Join(parts, by), nil
}
