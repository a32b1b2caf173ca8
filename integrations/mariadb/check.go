package mariadb

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/mysqldb"
)

// The versions that are supported; a newer one is a warning.
const (
	oldest = 100600
	newest = 130000
)

// right is something that the connector must be able to do, whichever resources
// it gives.
type right struct {
	operation string
	name      string // of the check's item
	missing   string // what does not work without it
	// statement gives it to the connector's role.
	statement string
	has       func(mysqldb.Grants) bool
}

// whole is a right on the whole server.
func whole(privilege string) func(mysqldb.Grants) bool {
	return func(g mysqldb.Grants) bool { return g.Has(privilege) }
}

// rights are those of the tier full, but for what there is to give. MariaDB has no
// smaller one for the default role of another account than UPDATE on mysql:
// https://mariadb.com/docs/server/reference/sql-statements/account-management-sql-statements/set-default-role
var rights = []right{
	{"discover", "read accounts", "accounts and roles cannot be read", "GRANT SELECT ON `mysql`.* TO ?",
		func(g mysqldb.Grants) bool { return g.Holds("SELECT", "mysql", "") }},
	{"grant", "make accounts", "accounts and roles cannot be made; nothing can be granted, revoked, rotated or deleted", "GRANT CREATE USER ON *.* TO ?", whole("CREATE USER")},
	{"grant", "set default roles", "default roles cannot be set; nothing can be granted", "GRANT UPDATE ON `mysql`.* TO ?",
		func(g mysqldb.Grants) bool { return g.Holds("UPDATE", "mysql", "") }},
	{"revoke", "see sessions", "sessions of others are not seen; with terminate_sessions: never they are left alone", "GRANT PROCESS ON *.* TO ?", whole("PROCESS")},
	{"end_sessions", "end sessions", "sessions of others cannot be ended", "GRANT CONNECTION ADMIN ON *.* TO ?",
		func(g mysqldb.Grants) bool { return g.Has("CONNECTION ADMIN") || g.Has("SUPER") }},
	{"delete", "see definers", "what an account is the definer of is not seen; no account can be deleted", "GRANT SHOW VIEW, TRIGGER, EVENT ON *.* TO ?",
		func(g mysqldb.Grants) bool { return g.Has("SHOW VIEW") && g.Has("TRIGGER") && g.Has("EVENT") }},
}

// need refuses an operation for which the connector lacks a right.
func (o *operation) need(ctx context.Context, operation string) error {
	if item := o.checkAdmin(); operation == item.Operation && !item.OK {
		return access.Errorf(access.Privilege, "%s", item.Detail).WithRemedy("%s", item.Remedy)
	}
	grants, err := o.mine(ctx)
	if err != nil {
		return err
	}
	for _, r := range rights {
		if r.operation == operation && !r.has(grants) {
			return o.withRemedy(access.Errorf(access.Privilege, "%s", r.missing), r.statement)
		}
	}
	return nil
}

func (o *operation) check(ctx context.Context) (access.CheckReport, error) {
	report := access.CheckReport{
		Server: fmt.Sprintf("MariaDB %d.%d.%d", o.Info.Version/10000, o.Info.Version/100%100, o.Info.Version%100),
		Items:  []access.CheckItem{{Operation: "connect", Name: "connect", OK: true, Detail: "connected as " + shown(o.Info.CurrentUser)}},
	}
	report.Items = append(report.Items, o.checkServer()...)
	report.Items = append(report.Items, o.checkAdmin())
	grants, err := o.mine(ctx)
	if err != nil {
		return report, err
	}
	readable := true
	for _, r := range rights {
		item := access.CheckItem{Operation: r.operation, Name: r.name, OK: r.has(grants)}
		if !item.OK {
			item.Detail, item.Remedy = r.missing, o.Statement(r.statement, o.i.admin()).Text
			readable = readable && r.operation != "discover"
		}
		report.Items = append(report.Items, item)
	}
	for _, check := range []func(context.Context) ([]access.CheckItem, error){o.checkRoles, o.checkNameless, o.checkDatabases, o.checkHosts} {
		items, err := check(ctx)
		if err != nil && !readable && access.KindOf(err) == access.Privilege {
			continue
		}
		if err != nil {
			return report, err
		}
		report.Items = append(report.Items, items...)
	}
	return report, nil
}

func failed(operation, name string, err error) access.CheckItem {
	item := access.CheckItem{Operation: operation, Name: name, Detail: err.Error()}
	if e, ok := errors.AsType[*access.Error](err); ok {
		item.Detail, item.Remedy = e.Text, e.Remedy
	}
	return item
}

func (o *operation) checkServer() []access.CheckItem {
	version := access.CheckItem{Operation: "connect", Name: "version", OK: o.Info.Version >= oldest && o.Info.Version < newest}
	if o.Info.Version >= newest {
		version.Optional, version.Detail = true, "newer than what Lapse was tried with, 10.6 to 12"
	} else if !version.OK {
		version.Detail, version.Remedy = "older than 10.6", "upgrade the server"
	}
	primary := access.CheckItem{Operation: "connect", Name: "primary", OK: !o.Info.ReadOnly}
	if o.Info.ReadOnly {
		primary.Detail, primary.Remedy = "this server is read-only, as a replica is, and takes no changes", "set hostname to the primary, and list replicas in session_hosts"
	}
	tls := access.CheckItem{Operation: "connect", Name: "tls", Optional: true, OK: strings.HasPrefix(o.i.config.TLSMode, "verify-")}
	if !tls.OK {
		tls.Detail = "with tls_mode " + o.i.config.TLSMode + " nobody proves that this is the right server"
		tls.Remedy = "set tls_mode to verify-full, and ca_certificate where the authority is your own"
	}
	return []access.CheckItem{version, primary, tls}
}

// checkAdmin looks whether the connector has its own role. A role can be given by
// those who administer it only, and whatever Lapse makes this role administers.
func (o *operation) checkAdmin() access.CheckItem {
	item := access.CheckItem{Operation: "grant", Name: "role of the connector", OK: o.administers}
	if !item.OK {
		item.Detail = "the connector was not given role " + o.i.config.AdminRoleName + ", which administers the roles that Lapse makes"
		item.Remedy = o.Statement("GRANT ? TO ?", o.i.admin(), o.Info.CurrentUser).Text
	}
	return item
}

// checkRoles looks for roles that would be offered, or are Lapse's own, and that
// the connector does not administer.
func (o *operation) checkRoles(ctx context.Context) ([]access.CheckItem, error) {
	item := access.CheckItem{Operation: "grant", Name: "roles of the customer", OK: true, Optional: true}
	var missing []string
	for after, more := "", true; more; {
		rows, err := o.customerRoles(ctx, after)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			if !r.Mine && o.i.filter.Offers(access.NewResource(mysqldb.TypeRole, r.Name)) && o.refuses(ctx, r.Name) == nil {
				missing = append(missing, r.Name)
			}
		}
		if more = len(rows) == rolesPage; more {
			after = rows[rolesPage-1].Name
		}
	}
	if len(missing) > 0 {
		item.OK = false
		item.Detail = "not offered, for want of ADMIN OPTION: " + strings.Join(missing[:min(10, len(missing))], ", ")
		item.Remedy = o.i.administer(missing[0]).Text
	}
	own := access.CheckItem{Operation: "revoke", Name: "roles of Lapse", OK: true}
	carried, err := o.carried(ctx)
	if err != nil {
		return nil, err
	}
	for name := range carried {
		administered, err := o.readRole(ctx, &plan{target: target{role: name}})
		if err != nil {
			return nil, err
		}
		if !administered {
			own.OK, own.Detail = false, "the connector may not take back "+name+", and perhaps others, which another one made"
			own.Remedy = o.i.administer(name).Text
		}
	}
	return []access.CheckItem{item, own}, nil
}

// checkNameless looks for accounts without a name. MariaDB takes one of them for
// whoever logs in from a host that it names more closely than the account does.
func (o *operation) checkNameless(ctx context.Context) ([]access.CheckItem, error) {
	item := access.CheckItem{Operation: "grant", Name: "accounts without a name", OK: true, Optional: true}
	rows, err := mysqldb.Ask[accountRow](ctx, o.Conn, "SELECT g.User, g.Host FROM mysql.global_priv g WHERE g.User = '' AND g.Host <> ''")
	if err != nil {
		return nil, mysqldb.During("reading the accounts", err)
	}
	if len(rows) > 0 {
		item.OK, item.Detail = false, "people who log in from "+rows[0].Host+" are taken for the account without a name, and refused"
		item.Remedy = "DROP USER ''@'" + strings.ReplaceAll(rows[0].Host, "'", "''") + "'"
	}
	return []access.CheckItem{item}, nil
}

// checkDatabases looks for databases on which the connector can give nothing.
func (o *operation) checkDatabases(ctx context.Context) ([]access.CheckItem, error) {
	item := access.CheckItem{Operation: "discover", Name: "databases", OK: true, Optional: true}
	grants, err := o.mine(ctx)
	if err != nil {
		return nil, err
	}
	names, err := o.Databases(ctx)
	if err != nil {
		return nil, err
	}
	var closed []string
	for _, name := range names {
		r := access.NewResource(mysqldb.TypeDatabase, name)
		if o.i.filter.Offers(r) && len(o.Offers(grants, r)) == 0 {
			closed = append(closed, name)
		}
	}
	if len(closed) > 0 {
		item.OK, item.Detail = false, "the connector can give nothing on "+strings.Join(closed[:min(10, len(closed))], ", ")
		t, err := o.i.parse(access.Entitlement{Integration: o.i.id, Resource: access.NewResource(mysqldb.TypeDatabase, closed[0]), Permission: mysqldb.Admin})
		if err == nil {
			item.Remedy = o.i.handOn(t.Target, t.All()).Text
		}
	}
	return []access.CheckItem{item}, nil
}

// checkHosts tries each host on which sessions are to be ended.
func (o *operation) checkHosts(ctx context.Context) (items []access.CheckItem, err error) {
	for _, host := range o.i.hosts {
		item := access.CheckItem{Operation: "end_sessions", Name: "session host " + host.String(), OK: true}
		if err := o.i.checkHost(ctx, host); err != nil {
			item = failed(item.Operation, item.Name, err)
		}
		items = append(items, item)
	}
	return items, nil
}

func (i *integration) checkHost(ctx context.Context, host mysqldb.Endpoint) error {
	c, err := host.Open(ctx, dialect, i.server.User, i.server.Password)
	if err != nil {
		return err
	}
	defer c.Close()
	there, err := i.begin(ctx, c)
	if err != nil {
		return err
	}
	if err := there.need(ctx, "revoke"); err != nil {
		return err
	}
	return there.need(ctx, "end_sessions")
}
