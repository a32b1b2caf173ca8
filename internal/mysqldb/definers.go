package mysqldb

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/internal/sqlname"
)

// Defined is a view, trigger, routine or event that runs with the rights of
// the account that made it.
type Defined struct {
	Kind     string // view, trigger, procedure, function or event
	Database string
	Name     string
	Table    string // of a trigger: the one that it is on
	Body     string // of a trigger
}

func (d Defined) String() string {
	s := fmt.Sprintf("%s %s.%s", d.Kind, d.Database, d.Name)
	if d.Table != "" {
		s += " on " + d.Table
	}
	return s
}

// Definers reads what an account is the definer of, as far as the connector may
// see: triggers take TRIGGER, events EVENT, routines SHOW_ROUTINE or SELECT on
// the whole server, views SHOW VIEW and SELECT.
func (c *Conn) Definers(ctx context.Context, account sqlname.Principal) ([]Defined, error) {
	const query = `
SELECT 'view', TABLE_SCHEMA, TABLE_NAME, '', '' FROM information_schema.VIEWS WHERE DEFINER = ?
UNION ALL SELECT 'trigger', TRIGGER_SCHEMA, TRIGGER_NAME, EVENT_OBJECT_TABLE, ACTION_STATEMENT FROM information_schema.TRIGGERS WHERE DEFINER = ?
UNION ALL SELECT LOWER(ROUTINE_TYPE), ROUTINE_SCHEMA, ROUTINE_NAME, '', '' FROM information_schema.ROUTINES WHERE DEFINER = ?
UNION ALL SELECT 'event', EVENT_SCHEMA, EVENT_NAME, '', '' FROM information_schema.EVENTS WHERE DEFINER = ?`
	definer := account.User + "@" + account.Host
	out, err := Ask[Defined](ctx, c, query, definer, definer, definer, definer)
	if err != nil {
		return nil, During("reading what "+account.User+" is the definer of", err)
	}
	slices.SortFunc(out, func(a, b Defined) int { return strings.Compare(a.String(), b.String()) })
	return out, nil
}

// Blind are the rights on the whole server without which Definers may miss
// something that these grants do not show.
func (g Grants) Blind() (missing []string) {
	for _, p := range []string{"SELECT", "SHOW VIEW", "TRIGGER", "EVENT"} {
		if !g.Has(p) {
			missing = append(missing, p)
		}
	}
	return missing
}
