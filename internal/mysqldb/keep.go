package mysqldb

import (
	"context"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/internal/sqlname"
)

// Keep is what the triggers of an account need so that they go on working when
// its access has ended: without it every change of their tables fails, for
// everybody. It is given to the account itself, on single tables: TRIGGER and
// what a trigger may do with the row on the table that it is on, and reading and
// writing on the tables that its body names, as far as the account had it and
// the connector can give it. Nobody may be able to log in as the account any
// more.
// https://dev.mysql.com/doc/refman/8.4/en/create-trigger.html
func (c *Conn) Keep(ctx context.Context, account sqlname.Principal, defined []Defined, had, mine Grants) (give []sqlname.Statement, facts []string, err error) {
	want := map[table][]string{}
	need := func(t table, privileges ...string) {
		for _, p := range privileges {
			if !slices.Contains(want[t], p) && had.Holds(p, t.Database, t.Name) && mine.Grantable(p, t.Database, t.Name) {
				want[t] = append(want[t], p)
			}
		}
	}
	var order []table
	for _, d := range defined {
		if d.Kind != "trigger" {
			continue
		}
		subject := table{d.Database, d.Table}
		need(subject, "TRIGGER", "SELECT", "UPDATE")
		order = append(order, subject)
		facts = append(facts, d.String()+" runs with the rights of the account, which keeps those on the tables that it needs; make the trigger anew as somebody else, or drop it")
		words := words(d.Body)
		rows, err := Ask[table](ctx, c, "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys')")
		if err != nil {
			return nil, nil, During("reading the tables that triggers name", err)
		}
		for _, r := range rows {
			if words[strings.ToLower(r.Name)] && (r.Database == d.Database || words[strings.ToLower(r.Database)]) {
				need(r, "SELECT", "INSERT", "UPDATE", "DELETE")
				order = append(order, r)
			}
		}
	}
	done := map[table]bool{}
	for _, t := range order {
		if len(want[t]) == 0 || done[t] {
			continue
		}
		done[t] = true
		give = append(give, c.Statement("GRANT ? ON ? TO ?", sqlname.Keywords(want[t]), sqlname.Qualified{t.Database, t.Name}, account))
	}
	return give, facts, nil
}

type table struct{ Database, Name string }

// words are the names that a piece of SQL may speak of, quoted or not, in lower
// case. It is too many of them rather than too few.
func words(body string) map[string]bool {
	out := map[string]bool{}
	for _, w := range strings.FieldsFunc(body, func(r rune) bool {
		return r < 0x80 && r != '_' && r != '$' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) {
		out[strings.ToLower(w)] = true
	}
	for i, quoted := range strings.Split(body, "`") {
		if i%2 == 1 {
			out[strings.ToLower(quoted)] = true
		}
	}
	return out
}
