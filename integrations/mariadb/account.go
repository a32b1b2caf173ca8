package mariadb

import (
	"context"
	"crypto/sha1" // as the server does
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/mysqldb"
	"github.com/lapse-access/lapse/internal/principal"
	"github.com/lapse-access/lapse/internal/sqlname"
)

// accountRow is an account, or a role, of the server:
// https://mariadb.com/docs/server/reference/system-tables/the-mysql-database-tables/mysql-global_priv-table
type accountRow struct {
	User, Host  string
	IsRole      bool
	Locked      bool
	DefaultRole string
	Subject     string // of the certificate that it must show
	Low, High   int64  // the two limits that hold the operation's number
	Marked      bool   // it has the mark of an account
	Buried      bool   // it has the mark of a tombstone
	Mark        string // its mark, where the list is read
}

func (r accountRow) principal() sqlname.Principal {
	return sqlname.Principal{User: r.User, Host: r.Host}
}

const accountColumns = `g.User, g.Host,
	COALESCE(JSON_VALUE(g.Priv, '$.is_role'), '0') = '1',
	COALESCE(JSON_VALUE(g.Priv, '$.account_locked'), '0') = '1',
	COALESCE(JSON_VALUE(g.Priv, '$.default_role'), ''),
	COALESCE(JSON_VALUE(g.Priv, '$.x509_subject'), ''),
	CAST(COALESCE(JSON_VALUE(g.Priv, '$.max_connections'), '0') AS SIGNED),
	CAST(COALESCE(JSON_VALUE(g.Priv, '$.max_updates'), '0') AS SIGNED)`

// account is what the server has of a person: the account with our mark, the
// tombstones of earlier ones, and whether a stranger has the name.
type account struct {
	access.Account
	name       string // that it has, or would be given
	mark       mark
	row        *accountRow
	tombstones []accountRow
	stranger   *accountRow
	last       int64 // the number of the last operation on any of them
	// given are the roles that the account itself was given, and held those in
	// its umbrella.
	given, held []string
}

// unfound is an account of which nothing was read.
func (i *integration) unfound(a access.Account) (*account, error) {
	integration, person, err := access.SplitAccountID(a.ID)
	if err != nil || integration != i.id {
		return nil, access.Errorf(access.Invalid, "account %s is not of this integration", a.ID)
	}
	return &account{Account: a, name: principal.Account(i.instance, integration, person, a.Email), mark: i.mark(person)}, nil
}

// find reads the account by its mark, whatever its name is by now.
func (o *operation) find(ctx context.Context, a access.Account) (*account, error) {
	found, err := o.i.unfound(a)
	if err != nil {
		return nil, err
	}
	base, person := found.name, found.mark.person
	later := strings.TrimSuffix(principal.Later(o.i.instance, o.i.id, person, 2), "2")
	const query = `SELECT ` + accountColumns + `, COALESCE(MAX(m.Role = ?), 0), COALESCE(MAX(m.Role = ?), 0)
		FROM mysql.global_priv g LEFT JOIN mysql.roles_mapping m ON m.Host = g.Host AND m.User = g.User AND m.Role IN (?, ?)
		WHERE m.Role IS NOT NULL OR g.User IN (?, ?) OR LEFT(g.User, CHAR_LENGTH(?)) = ?
		GROUP BY g.Host, g.User ORDER BY g.User, g.Host`
	rows, err := mysqldb.Ask[accountRow](ctx, o.Conn, query,
		found.mark.account(), found.mark.tombstone(), found.mark.account(), found.mark.tombstone(), a.Name, base, later, later)
	if err != nil {
		return nil, o.withRemedy(mysqldb.During("reading account "+base, err), "GRANT SELECT ON `mysql`.* TO ?")
	}
	var kept []string
	for _, r := range rows {
		ours := r.Marked || (r.Locked && r.Subject == found.mark.account())
		switch {
		case r.IsRole:
		case r.Buried:
			found.tombstones, kept = append(found.tombstones, r), append(kept, r.User)
		case ours && (found.row == nil || r.User == a.Name):
			found.row = &r
		}
		if r.Buried || ours {
			found.last = max(found.last, number(r.Low, r.High))
		}
	}
	switch {
	case found.row != nil:
		found.name = found.row.User
	case a.Name != "" && !slices.Contains(kept, a.Name):
		found.name = a.Name
	default:
		found.name = base
		for n := 2; slices.Contains(kept, found.name); n++ {
			found.name = principal.Later(o.i.instance, o.i.id, person, n)
		}
	}
	for _, r := range rows {
		if r.User == found.name && (found.row == nil || r.Host != found.row.Host) {
			found.stranger = &r
		}
	}
	return found, o.readRoles(ctx, found)
}

// readRoles reads which roles the account and its umbrella were given.
func (o *operation) readRoles(ctx context.Context, a *account) error {
	a.given, a.held = nil, nil
	if a.row == nil {
		return nil
	}
	type mapping struct{ User, Role string }
	rows, err := mysqldb.Ask[mapping](ctx, o.Conn, "SELECT User, Role FROM mysql.roles_mapping WHERE (User = ? AND Host = ?) OR (User = ? AND Host = '') ORDER BY Role",
		a.name, a.row.Host, umbrella(a.name))
	if err != nil {
		return mysqldb.During("reading the roles of "+a.name, err)
	}
	for _, r := range rows {
		switch {
		case r.User == umbrella(a.name):
			a.held = append(a.held, r.Role)
		default:
			a.given = append(a.given, r.Role)
		}
	}
	return nil
}

// directly tells whether the account itself was given a role, and has also whether
// its umbrella was.
func (a *account) directly(role string) bool { return slices.Contains(a.given, role) }
func (a *account) has(role string) bool      { return a.directly(role) || slices.Contains(a.held, role) }

// principal is the account as statements name it.
func (a *account) principal(i *integration) sqlname.Principal {
	host := i.config.AccountHostPattern
	if a.row != nil {
		host = a.row.Host
	}
	return sqlname.Principal{User: a.name, Host: host}
}

// umbrella is the role that is the default of an account.
func umbrella(account string) string { return umbrellaPrefix + strings.TrimPrefix(account, "lapse_") }

// admit refuses an operation that is older than the last one.
func (a *account) admit(sequence int64) error {
	if sequence < a.last {
		return access.Errorf(access.Superseded, "operation %d on account %s comes after operation %d", sequence, a.name, a.last)
	}
	return nil
}

// taken is the error about an account that has the name and not our mark.
func (a *account) taken() error {
	return access.Errorf(access.NameTaken, "%s does not carry the mark of this account", shown(a.stranger.principal())).
		WithRemedy("rename or drop the account or role that is in the way; if somebody took the mark from Lapse's account, GRANT %s TO it", shown(role(a.mark.account())))
}

// alter is the statement that writes an operation's number, and changes how the
// account logs in, and whether, in the same moment.
func (o *operation) alter(a *account, sequence int64, login, lock string, args ...sqlname.Fragment) sqlname.Statement {
	return o.Statement("ALTER USER ? "+login+" "+limits(sequence)+" "+lock, append([]sqlname.Fragment{a.principal(o.i)}, args...)...)
}

// disable closes an account: locked, and with a password that nobody knows.
func (o *operation) disable(a *account, sequence int64) sqlname.Statement {
	identified, secret := o.identified(integrations.Secret(principal.Password(a.name)))
	return o.alter(a, sequence, identified, "ACCOUNT LOCK", secret)
}

// identified is how a statement sets a password. The server's logs keep statements
// as they are, so that it gets the hash that it would keep itself. Only where it
// looks at new passwords it wants the password.
func (o *operation) identified(password integrations.Secret) (text string, secret sqlname.Fragment) {
	const native = "IDENTIFIED VIA mysql_native_password USING ?"
	if o.validates {
		return "IDENTIFIED BY ?", sqlname.Literal(password.Reveal())
	}
	if password == integrations.HiddenSecret {
		return native, sqlname.Literal(password.Reveal())
	}
	return native, sqlname.Literal(nativeHash(password))
}

// nativeHash is what MariaDB keeps of a password by default:
// https://mariadb.com/docs/server/reference/plugins/authentication-plugins/authentication-plugin-mysql_native_password
func nativeHash(password integrations.Secret) string {
	once := sha1.Sum([]byte(password.Reveal()))
	twice := sha1.Sum(once[:])
	return "*" + strings.ToUpper(hex.EncodeToString(twice[:]))
}

// withRemedy adds the statement that gives the connector what it lacked.
func (o *operation) withRemedy(err error, statement string) error {
	if e, ok := err.(*access.Error); ok && e.Kind == access.Privilege && e.Remedy == "" {
		return e.WithRemedy("%s", o.Statement(statement, o.i.admin()).Text)
	}
	return err
}

// accountsPage bounds a page of Accounts.
const accountsPage = 200

func (o *operation) accounts(ctx context.Context, cursor string) (page access.PrincipalPage, err error) {
	const query = `SELECT ` + accountColumns + `, MAX(LEFT(m.Role, CHAR_LENGTH(?)) = ?), MAX(LEFT(m.Role, CHAR_LENGTH(?)) = ?), MAX(m.Role)
		FROM mysql.roles_mapping m JOIN mysql.global_priv g ON g.Host = m.Host AND g.User = m.User
		WHERE (LEFT(m.Role, CHAR_LENGTH(?)) = ? OR LEFT(m.Role, CHAR_LENGTH(?)) = ?) AND g.User > ? AND m.Host <> ''
		GROUP BY g.Host, g.User ORDER BY g.User LIMIT ?`
	m := o.i.mark("")
	rows, err := mysqldb.Ask[accountRow](ctx, o.Conn, query, m.account(), m.account(), m.tombstone(), m.tombstone(),
		m.account(), m.account(), m.tombstone(), m.tombstone(), cursor, accountsPage)
	if err != nil {
		return page, mysqldb.During("reading the accounts of Lapse", err)
	}
	if len(rows) == accountsPage {
		page.Next = rows[accountsPage-1].User
	}
	roles, err := o.mappings(ctx)
	if err != nil {
		return page, err
	}
	carried, err := o.carried(ctx)
	if err != nil {
		return page, err
	}
	for _, r := range rows {
		p := access.Principal{Name: r.User, Enabled: !r.Locked, Tombstone: r.Buried}
		person := strings.TrimPrefix(strings.TrimPrefix(r.Mark, m.account()), m.tombstone())
		p.AccountID = access.AccountID(o.i.id, person)
		for _, name := range roles[role(umbrella(r.User))] {
			e, ours := carried[name]
			if !ours {
				e = access.Entitlement{Integration: o.i.id, Resource: access.NewResource(mysqldb.TypeRole, name), Permission: mysqldb.Member}
			}
			p.Entitlements = append(p.Entitlements, e)
		}
		for _, name := range roles[r.principal()] {
			if !o.i.own(name) {
				p.Foreign = append(p.Foreign, "role "+name+" was given by hand")
			}
		}
		if p.Tombstone {
			defined, err := o.definedBy(ctx, r.principal())
			if err != nil {
				return page, err
			}
			p.Owns = len(defined) > 0
		}
		page.Principals = append(page.Principals, p)
	}
	if page.Next == "" {
		page.Unused, err = o.unused(ctx, carried)
	}
	return page, err
}

// unused are the roles that carry an entitlement and that nobody has.
func (o *operation) unused(ctx context.Context, carried map[string]access.Entitlement) (roles []access.UnusedRole, err error) {
	type given struct{ Role string }
	rows, err := mysqldb.Ask[given](ctx, o.Conn, "SELECT DISTINCT Role FROM mysql.roles_mapping WHERE Admin_option <> 'Y' AND User <> ''")
	if err != nil {
		return nil, mysqldb.During("reading which roles somebody has", err)
	}
	for _, name := range slices.Sorted(maps.Keys(carried)) {
		if !slices.Contains(rows, given{name}) {
			roles = append(roles, access.UnusedRole{Name: name, Entitlement: carried[name]})
		}
	}
	return roles, nil
}

// mappings reads which roles every account and role was given.
func (o *operation) mappings(ctx context.Context) (map[sqlname.Principal][]string, error) {
	type mapping struct{ User, Host, Role string }
	rows, err := mysqldb.Ask[mapping](ctx, o.Conn, "SELECT User, Host, Role FROM mysql.roles_mapping ORDER BY Role")
	if err != nil {
		return nil, mysqldb.During("reading who has which role", err)
	}
	out := map[sqlname.Principal][]string{}
	for _, r := range rows {
		p := sqlname.Principal{User: r.User, Host: r.Host}
		out[p] = append(out[p], r.Role)
	}
	return out, nil
}

// definedBy reads what an account or its umbrella is the definer of.
func (o *operation) definedBy(ctx context.Context, account sqlname.Principal) (all []mysqldb.Defined, err error) {
	for _, p := range []sqlname.Principal{account, role(umbrella(account.User))} {
		defined, err := o.Definers(ctx, p)
		if err != nil {
			return nil, err
		}
		all = append(all, defined...)
	}
	return all, nil
}
