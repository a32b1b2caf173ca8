package mysql

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/mysqldb"
	"github.com/lapse-access/lapse/internal/principal"
	"github.com/lapse-access/lapse/internal/sqlname"
	"github.com/lapse-access/lapse/internal/turn"
)

// pageSize bounds what one page reads of accounts and roles.
const pageSize = 200

// row is an account or role, and what its mark says when it is ours.
type row struct {
	User, Host string
	Locked     bool
	Mark       string
	mark       mark
}

func (r row) principal() sqlname.Principal { return sqlname.Principal{User: r.User, Host: r.Host} }

// account is what the server has of a person: the account with our mark, the
// closed ones of earlier, and whether a stranger has the name.
type account struct {
	access.Account
	sqlname.Principal // that it has, or would be given
	row               *row
	mark              mark
	tombstones        []row
	stranger          *row
	last              int64 // the number of the last operation on any of them
}

// owns is true for the marks of this instance and integration.
func (i *integration) owns(m mark) bool { return m.Instance == i.instance && m.Integration == i.id }

// rows reads accounts and roles; where speaks of u, and of m with the mark.
func (s *session) rows(ctx context.Context, where string, args ...any) ([]row, error) {
	query := `SELECT u.User, u.Host, u.account_locked = 'Y', COALESCE(CAST(JSON_EXTRACT(u.User_attributes, '$.metadata.lapse') AS CHAR), '') FROM mysql.user u `
	if s.legacy {
		query = `SELECT u.User, u.Host, u.account_locked = 'Y', COALESCE(m.mark, '') FROM mysql.user u LEFT JOIN lapse.marks m ON m.user = u.User AND m.host = u.Host `
	}
	rows, err := mysqldb.Ask[row](ctx, s.Conn, query+where, args...)
	if err != nil {
		return nil, mysqldb.During("reading accounts", err)
	}
	for i, r := range rows {
		if m, ok := readMark(r.Mark); ok && s.i.owns(m) {
			rows[i].mark = m
		}
	}
	return rows, nil
}

// ofAccount is the condition for the rows whose mark speaks of an account.
func (s *session) ofAccount() string {
	if s.legacy {
		return "m.account = ?"
	}
	return "JSON_UNQUOTE(JSON_EXTRACT(u.User_attributes, '$.metadata.lapse.account')) = ?"
}

// unfound is an account of which nothing was read.
func (i *integration) unfound(a access.Account) (*account, error) {
	integration, person, err := access.SplitAccountID(a.ID)
	if err != nil || integration != i.id {
		return nil, access.Errorf(access.Invalid, "account %s is not of this integration", a.ID)
	}
	a.PersonID = person
	name := cmp.Or(a.Name, principal.Account(i.instance, integration, person, a.Email))
	return &account{Account: a, Principal: sqlname.Principal{User: name, Host: i.config.AccountHostPattern}}, nil
}

// find reads the account by its mark, whatever its name is by now.
func (s *session) find(ctx context.Context, a access.Account) (*account, error) {
	unfound, err := s.i.unfound(a)
	if err != nil {
		return nil, err
	}
	for n, name := 2, unfound.User; ; n++ {
		found, err := s.findAs(ctx, a, name)
		if err != nil || !slices.ContainsFunc(found.tombstones, func(r row) bool { return r.User == found.User }) {
			return found, err
		}
		// An account that was kept keeps its name as well.
		name = principal.Later(s.i.instance, s.i.id, unfound.PersonID, n)
	}
}

func (s *session) findAs(ctx context.Context, a access.Account, name string) (*account, error) {
	a.Name = name
	found, err := s.i.unfound(a)
	if err != nil {
		return nil, err
	}
	rows, err := s.rows(ctx, "WHERE u.User = ? OR "+s.ofAccount()+" ORDER BY u.User, u.Host", name, a.ID)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		mine := r.mark.Account == a.ID
		switch {
		case mine && r.mark.Kind == kindTombstone:
			found.tombstones = append(found.tombstones, r)
		case mine && r.mark.Kind == kindAccount && (found.row == nil || r.User == name):
			found.row, found.mark = &r, r.mark
		case r.User == name:
			// Another host would win over ours, or ours over it.
			found.stranger = &r
		}
		if mine {
			found.last = max(found.last, r.mark.Sequence)
		}
	}
	if found.row != nil {
		found.Principal = found.row.principal()
	}
	return found, nil
}

// admit refuses an operation that is older than the last one.
func (a *account) admit(sequence int64) error {
	if sequence < a.last {
		return access.Errorf(access.Superseded, "operation %d on account %s comes after operation %d", sequence, a.User, a.last)
	}
	return nil
}

// taken is the error about an account that has our name and not our mark.
func (a *account) taken() error {
	return access.Errorf(access.NameTaken, "account %s does not carry the mark of this account", shown(a.stranger.principal())).
		WithRemedy("rename or drop the account that is in the way; if somebody changed the attributes of Lapse's account, put them back")
}

// numbered are the statements that write an operation's number into the mark,
// together with another change of the account ("" for none).
func (s *session) numbered(a *account, sequence int64, change string) []sqlname.Statement {
	a.mark.Instance, a.mark.Integration, a.mark.Account, a.mark.Sequence = s.i.instance, s.i.id, a.ID, sequence
	if a.mark.Kind == "" {
		a.mark.Kind = kindAccount
	}
	return s.marking(a.Principal, a.mark, change)
}

// marking are the statements that write a mark and change the account. With
// attributes it is one statement: both or neither.
func (s *session) marking(p sqlname.Principal, m mark, change string) (out []sqlname.Statement) {
	if !s.legacy {
		return []sqlname.Statement{s.Statement("ALTER USER ? "+change+" ATTRIBUTE ?", p, m.attribute())}
	}
	if change != "" {
		out = append(out, s.Statement("ALTER USER ? "+change, p))
	}
	return append(out, s.remember(p, m))
}

// remember writes a mark into Lapse's own table.
func (s *session) remember(p sqlname.Principal, m mark) sqlname.Statement {
	return s.Statement("REPLACE INTO lapse.marks (user, host, account, mark) VALUES (?, ?, ?, ?)",
		sqlname.Literal(p.User), sqlname.Literal(p.Host), sqlname.Literal(m.Account), sqlname.Literal(m.text()))
}

// forget is what takes a principal and its mark away.
func (s *session) forget(p sqlname.Principal) []sqlname.Statement {
	out := []sqlname.Statement{s.Statement("DROP USER IF EXISTS ?", p)}
	if s.legacy {
		out = append(out, s.Statement("DELETE FROM lapse.marks WHERE user = ? AND host = ?", sqlname.Literal(p.User), sqlname.Literal(p.Host)))
	}
	return out
}

// exec carries out statements that change accounts. Where the right to do so is
// missing, the error says how to give it.
func (s *session) exec(ctx context.Context, statements ...sqlname.Statement) error {
	err := s.Exec(ctx, statements...)
	if e, ok := errors.AsType[*access.Error](err); ok && e.Kind == access.Privilege && e.Remedy == "" {
		mine, readErr := s.mine(ctx)
		if readErr != nil {
			return err
		}
		for _, r := range s.needs() {
			if !r.held(mine) {
				return e.WithRemedy("%s", s.remedy(r))
			}
		}
		// It may do everything, but not to those who have SYSTEM_USER.
		return e.WithRemedy("%s", s.remedy(systemUser))
	}
	return err
}

// membership is one role of an account.
type membership struct {
	Account, AccountHost string
	Role, RoleHost       string
	Default              bool
	Mark                 string
	mark                 mark
}

func (m membership) role() sqlname.Principal {
	return sqlname.Principal{User: m.Role, Host: m.RoleHost}
}

// name is the membership's role as people know it.
func (m membership) name() string { return roleName(m.role()) }

// memberships reads what accounts are direct members of; where is a condition
// on e, whose TO_USER is the account.
func (s *session) memberships(ctx context.Context, where string, args ...any) ([]membership, error) {
	const query = `SELECT e.TO_USER, e.TO_HOST, e.FROM_USER, e.FROM_HOST, d.USER IS NOT NULL,
		COALESCE(CAST(JSON_EXTRACT(r.User_attributes, '$.metadata.lapse') AS CHAR), '')
		FROM mysql.role_edges e
		LEFT JOIN mysql.default_roles d ON d.USER = e.TO_USER AND d.HOST = e.TO_HOST AND d.DEFAULT_ROLE_USER = e.FROM_USER AND d.DEFAULT_ROLE_HOST = e.FROM_HOST
		LEFT JOIN mysql.user r ON r.User = e.FROM_USER AND r.Host = e.FROM_HOST `
	held, err := mysqldb.Ask[membership](ctx, s.Conn, query+where+" ORDER BY 1, 2, 3, 4", args...)
	if err != nil {
		return nil, mysqldb.During("reading memberships", err)
	}
	for i, m := range held {
		if mk, ok := readMark(m.Mark); ok && s.i.owns(mk) {
			held[i].mark = mk
		}
	}
	return held, nil
}

// heldBy reads what an account is a direct member of. Without roles it is what
// Lapse gave, as if each were a membership.
func (s *session) heldBy(ctx context.Context, a *account) ([]membership, error) {
	if a.row == nil {
		return nil, nil
	}
	if s.legacy {
		return s.given(a.row), nil
	}
	return s.memberships(ctx, "WHERE e.TO_USER = ? AND e.TO_HOST = ?", a.User, a.Host)
}

// given are the entitlements of an account without roles.
func (s *session) given(r *row) (out []membership) {
	for _, e := range r.mark.Given {
		role := entitlementRole(s.i.instance, e)
		out = append(out, membership{Account: r.User, AccountHost: r.Host, Role: role.User, RoleHost: role.Host, Default: true,
			mark: mark{Kind: kindEntitlement, Instance: s.i.instance, Integration: s.i.id, Entitlement: &e}})
	}
	return out
}

// carried is the entitlement that a membership in one of our roles stands for.
func (m membership) carried() (access.Entitlement, bool) {
	if m.mark.Kind != kindEntitlement || m.mark.Entitlement == nil {
		return access.Entitlement{}, false
	}
	return *m.mark.Entitlement, true
}

func isMember(held []membership, role sqlname.Principal) bool {
	return slices.ContainsFunc(held, func(m membership) bool { return m.role() == role })
}

// defaults is the statement that makes roles those that are active at login.
// The server keeps the list as it was given, so that it is given anew after
// every change: https://dev.mysql.com/doc/refman/8.4/en/set-default-role.html
func (s *session) defaults(a *account, roles []sqlname.Principal) sqlname.Statement {
	if len(roles) == 0 {
		return s.Statement("SET DEFAULT ROLE NONE TO ?", a.Principal)
	}
	list := make(sqlname.List, len(roles))
	for i, r := range roles {
		list[i] = r
	}
	return s.Statement("SET DEFAULT ROLE ? TO ?", list, a.Principal)
}

// endSessions ends the sessions of an account on the server and on every other
// host that is configured, and looks until there are none.
func (s *session) endSessions(ctx context.Context, a *account) (ended int, err error) {
	mine, err := s.mine(ctx)
	if err != nil {
		return 0, err
	}
	ended, err = s.endSessionsOn(ctx, s.Conn, mine, a.User)
	errs := []error{err}
	for _, host := range s.i.config.SessionHosts {
		n, err := s.endSessionsAt(ctx, host, mine, a)
		ended, errs = ended+n, append(errs, mysqldb.During("ending sessions on "+host, err))
	}
	return ended, access.Worst(errs...)
}

// endSessionsOn ends the sessions of one server. Without PROCESS it would see
// none and call that the end.
func (s *session) endSessionsOn(ctx context.Context, c *mysqldb.Conn, mine mysqldb.Grants, user string) (int, error) {
	if !process.held(mine) {
		return 0, access.Errorf(access.Privilege, "the connector may not see the sessions of %s", user).WithRemedy("%s", s.remedy(process))
	}
	kill, err := s.killer(ctx, c)
	if err != nil {
		return 0, err
	}
	ended, err := c.EndSessions(ctx, user, kill)
	if e, ok := errors.AsType[*access.Error](err); ok && e.Kind == access.Privilege {
		right := connections
		if connections.held(mine) {
			right = systemUser
		}
		e.WithRemedy("%s", s.remedy(right))
	}
	return ended, err
}

// endSessionsAt ends the sessions on a replica as soon as it knows what was
// changed: before that a client could come back.
func (s *session) endSessionsAt(ctx context.Context, host string, mine mysqldb.Grants, a *account) (int, error) {
	e, err := s.i.config.endpoint(host)
	if err != nil {
		return 0, err
	}
	c, err := e.Open(ctx, dialect, s.i.server.User, s.i.server.Password)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	want, err := s.state(ctx, a)
	if err != nil {
		return 0, err
	}
	there := &session{Conn: c, i: s.i, legacy: s.legacy}
	err = turn.Until(ctx, func() (bool, error) {
		have, err := there.state(ctx, a)
		return have == "" || have == want, err
	})
	if err != nil {
		return 0, mysqldb.During("waiting for the replica", err)
	}
	return s.endSessionsOn(ctx, c, mine, a.User)
}

// state sums up by what an account gets in and what it has then: its lock,
// password, mark and roles; "" when it is not there.
func (s *session) state(ctx context.Context, a *account) (string, error) {
	type sum struct{ Text string }
	rows, err := mysqldb.Ask[sum](ctx, s.Conn, "SELECT SHA2(CONCAT(account_locked, authentication_string), 256) FROM mysql.user WHERE User = ? AND Host = ?", a.User, a.Host)
	if err != nil || len(rows) == 0 {
		return "", mysqldb.During("reading account "+a.User, err)
	}
	marked, err := s.rows(ctx, "WHERE u.User = ? AND u.Host = ?", a.User, a.Host)
	if err != nil || len(marked) == 0 {
		return "", err
	}
	state := rows[0].Text + marked[0].Mark
	if s.legacy {
		return state, nil // the mark, which is written last, says what was given
	}
	held, err := s.memberships(ctx, "WHERE e.TO_USER = ? AND e.TO_HOST = ?", a.User, a.Host)
	for _, m := range held {
		state += "\n" + m.name()
	}
	return state, err
}

// killProcedures of managed services, as they are configured.
var killProcedures = map[string]string{"rds": "rds_kill", "aurora": "rds_kill", "azure": "az_kill"}

// killer is how sessions are ended: on a managed service by its own procedure,
// where nobody has the right to KILL those of others.
// https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/mysql-stored-proc-ending.html
// https://learn.microsoft.com/azure/mysql/flexible-server/how-to-troubleshoot-common-connection-issues
func (s *session) killer(ctx context.Context, c *mysqldb.Conn) (mysqldb.Kill, error) {
	procedure := killProcedures[s.i.config.ManagedService]
	if s.i.config.ManagedService == "auto" {
		type found struct{ Name string }
		rows, err := mysqldb.Ask[found](ctx, c, "SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'mysql' AND ROUTINE_NAME IN ('rds_kill', 'az_kill')")
		if err != nil {
			return nil, mysqldb.During("looking for the procedure of a managed service", err)
		}
		if len(rows) > 0 {
			procedure = rows[0].Name
		}
	}
	if procedure == "" {
		return c.KillConnection, nil
	}
	return func(id int64) sqlname.Statement {
		return c.Statement("CALL mysql.?(?)", sqlname.Ident(procedure), sqlname.Number(id))
	}, nil
}

// marked reads a page of what carries our mark, after a name. A page that is not
// full is the last one.
func (s *session) marked(ctx context.Context, after string) ([]row, error) {
	ours := "JSON_UNQUOTE(JSON_EXTRACT(u.User_attributes, '$.metadata.lapse.integration')) = ?"
	if s.legacy {
		ours = "m.mark LIKE CONCAT('%', ?, '%')"
	}
	rows, err := s.rows(ctx, "WHERE "+ours+" AND u.User > ? ORDER BY u.User, u.Host LIMIT ?", s.i.id, after, pageSize)
	return rows, err
}

func (s *session) accounts(ctx context.Context, cursor string) (page access.PrincipalPage, err error) {
	rows, err := s.marked(ctx, cursor)
	if err != nil {
		return page, err
	}
	if len(rows) == pageSize {
		page.Next = rows[len(rows)-1].User
	}
	var held []membership
	used := map[sqlname.Principal]bool{}
	if !s.legacy && len(rows) > 0 {
		given, err := s.memberships(ctx, "WHERE e.FROM_USER BETWEEN ? AND ?", rows[0].User, rows[len(rows)-1].User)
		if err != nil {
			return page, err
		}
		for _, m := range given {
			used[m.role()] = true
		}
		if held, err = s.memberships(ctx, "WHERE e.TO_USER BETWEEN ? AND ?", rows[0].User, rows[len(rows)-1].User); err != nil {
			return page, err
		}
	}
	for _, r := range rows {
		if r.mark.Kind == kindEntitlement && r.mark.Entitlement != nil && !used[r.principal()] {
			page.Unused = append(page.Unused, access.UnusedRole{Name: r.User, Entitlement: *r.mark.Entitlement})
		}
		if r.mark.Kind != kindAccount && r.mark.Kind != kindTombstone {
			continue
		}
		if s.legacy {
			held = s.given(&r)
		}
		p, err := s.describe(ctx, r, held)
		if err != nil {
			return page, err
		}
		page.Principals = append(page.Principals, p)
	}
	return page, nil
}

// describe is what one of our accounts holds, and is the definer of.
func (s *session) describe(ctx context.Context, r row, held []membership) (access.Principal, error) {
	p := access.Principal{Name: r.User, AccountID: r.mark.Account, Enabled: !r.Locked, Tombstone: r.mark.Kind == kindTombstone}
	for _, m := range held {
		if m.Account != r.User || m.AccountHost != r.Host {
			continue
		}
		e, ours := m.carried()
		if !ours {
			// Nobody's name stands beside a membership: it may be Lapse's.
			e = access.Entitlement{Integration: s.i.id, Resource: access.NewResource(mysqldb.TypeRole, m.name()), Permission: mysqldb.Member}
		}
		p.Entitlements = append(p.Entitlements, e)
	}
	given, err := s.ShowGrants(ctx, r.principal())
	if mysqldb.Number(err) == 1141 {
		return p, nil // dropped meanwhile
	}
	if err != nil {
		return p, err
	}
	for _, g := range given {
		if len(g.Privileges)+len(g.Columns) == 0 || slices.Equal(g.Privileges, []string{"USAGE"}) || g.Taken || s.legacy || p.Tombstone {
			continue
		}
		p.Foreign = append(p.Foreign, fmt.Sprintf("%s on %s.%s", strings.Join(append(g.Privileges, g.Columns...), ", "), g.Database, g.Table))
	}
	p.Owns = p.Tombstone
	return p, nil
}
