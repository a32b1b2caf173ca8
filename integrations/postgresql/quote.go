package postgresql

import "github.com/lapse-access/lapse/internal/sqlname"

// The pieces of SQL that may be put into a statement.
type (
	fragment  = sqlname.Fragment
	ident     = sqlname.Ident
	qualified = sqlname.Qualified
	literal   = sqlname.Literal
	keywords  = sqlname.Keywords
	// signature is a routine as regprocedure prints it: the server has
	// quoted it, and it cannot be put together here.
	signature = sqlname.Quoted
	list      = sqlname.List
	statement = sqlname.Statement
)

// ddl builds a statement; what can be a bind parameter is one instead.
func ddl(text string, args ...fragment) statement { return sqlname.PostgreSQL.Statement(text, args...) }

// shown is a name as it is typed in SQL, for people.
func shown(name string) string { return sqlname.PostgreSQL.Shown(ident(name)) }
