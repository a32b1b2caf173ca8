package mysqldb

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/internal/sqlname"
)

// Grant is one line of SHOW GRANTS.
type Grant struct {
	// Privileges are its words: "SELECT", "CREATE VIEW", "SYSTEM_USER". Those on
	// single columns are left out of it, and stand in Columns.
	Privileges []string
	Columns    []string
	// Database is a pattern, or "*"; Table is a name, or "*". Routine is true
	// when Table names a routine. Exact is true where a database is no pattern.
	Database, Table string
	Routine         bool
	Exact           bool
	// Option is true when the privileges can be handed on, or the role.
	Option bool
	// Taken is true for a partial revoke: what a global grant leaves out.
	Taken bool
	// Roles are what a grant of roles gives; it has no privileges.
	Roles []sqlname.Principal
}

// Grants is what SHOW GRANTS says of an account or role.
type Grants []Grant

// ShowGrants reads what an account or role was given; the zero principal is the
// connector itself, with the roles that are active in its session.
func (c *Conn) ShowGrants(ctx context.Context, of sqlname.Principal) (Grants, error) {
	show := c.Statement("SHOW GRANTS")
	if of.User != "" {
		show = c.Statement("SHOW GRANTS FOR ?", of)
	}
	rows, err := Read[only[string]](ctx, c, show)
	if err != nil {
		return nil, During("reading the grants of "+named(of), err)
	}
	lines := make([]string, len(rows))
	for i, r := range rows {
		lines[i] = r.Value
	}
	grants := ParseGrants(lines)
	for i := range grants {
		grants[i].Exact = c.Info.PartialRevokes
	}
	return grants, nil
}

func named(p sqlname.Principal) string {
	if p.User == "" {
		return "the connector"
	}
	return p.User
}

// ParseGrants reads the lines of SHOW GRANTS:
// https://dev.mysql.com/doc/refman/8.4/en/show-grants.html
// Lines of another sort, such as those about proxies, are left out.
func ParseGrants(lines []string) Grants {
	var out Grants
	for _, line := range lines {
		if g, err := parseGrant(line); err == nil {
			out = append(out, g)
		}
	}
	return out
}

var errOther = errors.New("a line of another sort")

// grantLine is what is left of a line.
type grantLine struct{ rest string }

func (l *grantLine) space() { l.rest = strings.TrimLeft(l.rest, " \t\r\n") }

// word takes the next word in capitals, digits and underscores.
func (l *grantLine) word() string {
	l.space()
	end := strings.IndexFunc(l.rest, func(r rune) bool {
		return r != '_' && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	if end < 0 {
		end = len(l.rest)
	}
	w := l.rest[:end]
	l.rest = l.rest[end:]
	return w
}

// take takes a mark when it is next.
func (l *grantLine) take(mark string) bool {
	l.space()
	rest, ok := strings.CutPrefix(l.rest, mark)
	if ok {
		l.rest = rest
	}
	return ok
}

// name takes a quoted name, or "*".
func (l *grantLine) name() (string, error) {
	l.space()
	if l.take("*") {
		return "*", nil
	}
	if l.rest == "" || !strings.ContainsRune("`'\"", rune(l.rest[0])) {
		return "", errOther
	}
	quote := l.rest[0]
	var b strings.Builder
	for i := 1; i < len(l.rest); i++ {
		if l.rest[i] == quote {
			if i+1 < len(l.rest) && l.rest[i+1] == quote {
				i++
			} else {
				l.rest = l.rest[i+1:]
				return b.String(), nil
			}
		}
		b.WriteByte(l.rest[i])
	}
	return "", errOther
}

// principal takes an account or role. MariaDB writes PUBLIC without quotes.
func (l *grantLine) principal() (p sqlname.Principal, err error) {
	if l.take("PUBLIC") {
		return sqlname.Principal{User: "PUBLIC"}, nil
	}
	if p.User, err = l.name(); err != nil {
		return p, err
	}
	if strings.HasPrefix(l.rest, "@") {
		l.rest = l.rest[1:]
		p.Host, err = l.name()
	}
	return p, err
}

func parseGrant(line string) (g Grant, err error) {
	l := &grantLine{line}
	switch l.word() {
	case "GRANT":
	case "REVOKE":
		g.Taken = true
	default:
		return g, errOther
	}
	l.space()
	if strings.HasPrefix(l.rest, "`") || strings.HasPrefix(l.rest, "'") || strings.HasPrefix(l.rest, `"`) {
		for {
			p, err := l.principal()
			if err != nil {
				return g, err
			}
			g.Roles = append(g.Roles, p)
			if !l.take(",") {
				break
			}
		}
		if w := l.word(); w != "TO" && w != "FROM" {
			return g, errOther
		}
		if _, err := l.principal(); err != nil {
			return g, err
		}
		g.Option = strings.Contains(l.rest, "WITH ADMIN OPTION")
		return g, nil
	}
	if err := l.privileges(&g); err != nil {
		return g, err
	}
	if l.space(); !strings.HasPrefix(l.rest, "*") && !strings.HasPrefix(l.rest, "`") && !strings.HasPrefix(l.rest, `"`) {
		switch l.word() {
		case "PROCEDURE", "FUNCTION", "PACKAGE":
			g.Routine = true
			if l.space(); strings.HasPrefix(l.rest, "BODY") {
				l.word()
			}
		case "TABLE":
		default:
			return g, errOther
		}
	}
	if g.Database, err = l.name(); err != nil {
		return g, err
	}
	if !l.take(".") {
		return g, errOther // PROXY
	}
	if g.Table, err = l.name(); err != nil {
		return g, err
	}
	if w := l.word(); w != "TO" && w != "FROM" {
		return g, errOther
	}
	if _, err := l.principal(); err != nil {
		return g, err
	}
	g.Option = strings.Contains(l.rest, "GRANT OPTION")
	if level := wholeLevel(g); level != nil && g.has("ALL PRIVILEGES") {
		g.Privileges = level
	}
	return g, nil
}

// wholeLevel is what ALL PRIVILEGES stands for on a database or table, as far as
// permissions know it; nil on the whole server and on routines.
func wholeLevel(g Grant) []string {
	typ := TypeTable
	switch {
	case g.Database == "*" || g.Routine:
		return nil
	case g.Table == "*":
		typ = TypeDatabase
	}
	p := levels[typ][Admin]
	all := slices.Concat(p.core, p.more)
	if typ == TypeTable {
		all = append(all, "CREATE")
	}
	return all
}

// privileges takes words up to ON: "SELECT, CREATE VIEW, UPDATE (`a`, `b`)".
func (l *grantLine) privileges(g *Grant) error {
	var words []string
	end := func(columns bool) {
		if len(words) > 0 {
			p := strings.ToUpper(strings.Join(words, " "))
			if columns {
				g.Columns = append(g.Columns, p)
			} else {
				g.Privileges = append(g.Privileges, p)
			}
		}
		words = nil
	}
	for {
		switch {
		case l.take(","):
			end(false)
		case l.take("("):
			for !l.take(")") {
				if _, err := l.name(); err != nil {
					// Older servers write the columns without quotes.
					if l.word() == "" {
						return errOther
					}
				}
				l.take(",")
			}
			end(true)
		default:
			switch w := l.word(); w {
			case "":
				return errOther
			case "ON":
				end(false)
				return nil
			default:
				words = append(words, w)
			}
		}
	}
}

// has tells whether a grant gives a privilege. ALL PRIVILEGES has everything
// but the right to hand on.
func (g Grant) has(privilege string) bool {
	return slices.Contains(g.Privileges, privilege) || slices.Contains(g.Privileges, "ALL PRIVILEGES") || slices.Contains(g.Privileges, "ALL")
}

// matches tells whether a grant on a database means the one of that name, and
// how closely: the server goes by the closest.
func (g Grant) matches(database string) (ok bool, exact int) {
	if g.Exact {
		return g.Database == database, 0
	}
	return sqlname.Match(g.Database, database)
}

func (g Grant) global() bool {
	return g.Database == "*" && g.Table == "*" && !g.Taken && g.Roles == nil
}

// Has tells whether a privilege is held on the whole server.
func (g Grants) Has(privilege string) bool {
	return slices.ContainsFunc(g, func(g Grant) bool { return g.global() && g.has(privilege) })
}

// Holds tells whether a privilege is held on a database, or with a table on
// that, in whatever way; Grantable whether it can be handed on, too.
func (g Grants) Holds(privilege, database, table string) bool {
	return g.reaches(privilege, database, table, false)
}

// Grantable tells whether a privilege can be given to others on a database, or
// with a table on that.
func (g Grants) Grantable(privilege, database, table string) bool {
	return g.reaches(privilege, database, table, true)
}

func (g Grants) reaches(privilege, database, table string, option bool) bool {
	ok := func(one Grant) bool { return one.has(privilege) && (one.Option || !option) }
	taken := slices.ContainsFunc(g, func(one Grant) bool {
		return one.Taken && one.Database == database && one.Table == "*" && one.has(privilege)
	})
	if !taken && slices.ContainsFunc(g, func(one Grant) bool { return one.global() && ok(one) }) {
		return true
	}
	// The right to hand on may stand in another line of the same level.
	var closest []Grant
	best := -1
	for _, one := range g {
		if one.Taken || one.Routine || one.Roles != nil || one.Database == "*" || one.Table != "*" {
			continue
		}
		if match, exact := one.matches(database); match && exact >= best {
			if exact > best {
				closest = nil
			}
			best, closest = exact, append(closest, one)
		}
	}
	if slices.ContainsFunc(closest, ok) {
		return true
	}
	return table != "" && slices.ContainsFunc(g, func(one Grant) bool {
		return !one.Taken && !one.Routine && one.Roles == nil && one.Database == database && one.Table == table && ok(one)
	})
}

// Roles are those that were given.
func (g Grants) Roles() (out []sqlname.Principal) {
	for _, one := range g {
		out = append(out, one.Roles...)
	}
	return out
}

// ParsePrincipals reads a list of accounts or roles, quoted or not, as in the
// setting mandatory_roles: `role1`@`%`,role2,'role3'@localhost. A host that is
// left out is "%".
func ParsePrincipals(text string) (out []sqlname.Principal) {
	l := &grantLine{text}
	plain := func() string {
		end := strings.IndexAny(l.rest, "@, \t\r\n")
		if end < 0 {
			end = len(l.rest)
		}
		w := l.rest[:end]
		l.rest = l.rest[end:]
		return w
	}
	part := func() string {
		if name, err := l.name(); err == nil {
			return name
		}
		return plain()
	}
	for l.space(); l.rest != ""; l.space() {
		p := sqlname.Principal{User: part(), Host: "%"}
		if l.take("@") {
			p.Host = part()
		}
		if p.User != "" {
			out = append(out, p)
		}
		if !l.take(",") {
			break
		}
	}
	return out
}
