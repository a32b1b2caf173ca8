package postgresql

import (
	"context"

	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/sqlname"
)

// Exec carries out one statement as operations do, in a database.
func Exec(ctx context.Context, i integrations.Integration, database, text string) error {
	return i.(*integration).reading(ctx, func(ctx context.Context, s *session) error {
		c, err := s.database(ctx, database)
		if err != nil {
			return err
		}
		return c.exec(ctx, statement{Text: text})
	})
}

// Quoted is a name and a text as this package puts them into statements.
func Quoted(s string) (name, text string, err error) {
	if name, err = sqlname.PostgreSQL.Quote(ident(s)); err != nil {
		return "", "", err
	}
	text, err = sqlname.PostgreSQL.Quote(literal(s))
	return name, text, err
}
