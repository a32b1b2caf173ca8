package mysql

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/mysqldb"
	"github.com/lapse-access/lapse/internal/sqlname"
)

// The versions that are supported; a newer one is a warning.
const (
	oldest = 50706 // ACCOUNT LOCK
	newest = 100000
)

// right is a privilege that the connector needs, and what it is for.
type right struct {
	operation, name string
	// any of these does on the whole server.
	any []string
	// on is the database on which it is enough.
	on string
}

// https://dev.mysql.com/doc/refman/8.4/en/privileges-provided.html
var (
	readAccounts = right{"discover", "SELECT on mysql", []string{"SELECT"}, "mysql"}
	createUser   = right{"grant", "CREATE USER", []string{"CREATE USER"}, ""}
	roleAdmin    = right{"grant", "ROLE_ADMIN", []string{"ROLE_ADMIN", "SUPER"}, ""}
	process      = right{"end_sessions", "PROCESS", []string{"PROCESS"}, ""}
	connections  = right{"end_sessions", "CONNECTION_ADMIN", []string{"CONNECTION_ADMIN", "SUPER"}, ""}
	super        = right{"end_sessions", "SUPER", []string{"SUPER"}, ""}
	systemUser   = right{"revoke", "SYSTEM_USER", []string{"SYSTEM_USER"}, ""}
)

func (r right) held(g mysqldb.Grants) bool {
	return slices.ContainsFunc(r.any, func(p string) bool {
		if r.on != "" {
			return g.Holds(p, r.on, "")
		}
		return g.Has(p)
	})
}

// remedy is the statement that gives a right to the connector.
func (s *session) remedy(r right) string {
	on := "*.*"
	if r.on != "" {
		on = r.on + ".*"
	}
	return fmt.Sprintf("GRANT %s ON %s TO %s", r.any[0], on, shown(s.Info.CurrentUser))
}

// needs are the rights without which something does not work at all.
func (s *session) needs() []right {
	if s.legacy {
		return []right{readAccounts, createUser, process, super}
	}
	return []right{readAccounts, createUser, roleAdmin, process, connections}
}

func (s *session) check(ctx context.Context) (access.CheckReport, error) {
	report := access.CheckReport{
		Server: "MySQL " + s.Info.Text,
		Items:  []access.CheckItem{{Operation: "connect", Name: "connect", OK: true, Detail: "connected as " + shown(s.Info.CurrentUser)}},
	}
	mine, err := s.mine(ctx)
	if err != nil {
		return report, err
	}
	report.Items = append(report.Items, s.checkServer()...)
	for _, r := range s.needs() {
		report.Items = append(report.Items, s.checkRight(r, mine))
	}
	for _, check := range []func(context.Context, mysqldb.Grants) ([]access.CheckItem, error){
		s.checkKiller, s.checkGrantable, s.checkMarks, s.checkDefiners, s.checkSettings, s.checkAnonymous,
	} {
		items, err := check(ctx, mine)
		if access.KindOf(err) == access.Privilege {
			continue // readAccounts says so
		}
		if err != nil {
			return report, err
		}
		for _, item := range items {
			// The procedure of a managed service stands for the right to KILL.
			report.Items = slices.DeleteFunc(report.Items, func(have access.CheckItem) bool { return have.Name == item.Name })
			report.Items = append(report.Items, item)
		}
	}
	return report, nil
}

func failed(operation, name string, err error) access.CheckItem {
	item := access.CheckItem{Operation: operation, Name: name, Detail: err.Error()}
	if e, ok := mysqldb.Classify(err).(*access.Error); ok {
		item.Detail, item.Remedy = e.Text, e.Remedy
	}
	return item
}

func (s *session) checkServer() []access.CheckItem {
	version := access.CheckItem{Operation: "connect", Name: "version", OK: s.Info.Version >= oldest && s.Info.Version < newest}
	switch {
	case s.Info.Version >= newest:
		version.Optional, version.Detail = true, "newer than what Lapse was tried with, 8.0 to 9"
	case !version.OK:
		version.Detail, version.Remedy = "older than 5.7.6", "upgrade the server"
	case s.legacy:
		version.Detail = "older than 8.0.21: without roles, privileges are given to the accounts themselves"
	}
	primary := access.CheckItem{Operation: "connect", Name: "primary", OK: !s.Info.ReadOnly}
	if s.Info.ReadOnly {
		primary.Detail, primary.Remedy = "this server is read-only: a replica, or failing over", "set hostname to the primary, and list replicas in session_hosts"
	}
	tls := access.CheckItem{Operation: "connect", Name: "tls", Optional: true, OK: strings.HasPrefix(s.i.config.TLSMode, "verify-")}
	if !tls.OK {
		tls.Detail = "with tls_mode " + s.i.config.TLSMode + " nobody proves that this is the right server"
		tls.Remedy = "set tls_mode to verify-full, and ca_certificate where the authority is your own"
	}
	return []access.CheckItem{version, primary, tls}
}

func (s *session) checkRight(r right, mine mysqldb.Grants) access.CheckItem {
	item := access.CheckItem{Operation: r.operation, Name: r.name, OK: r.held(mine)}
	if !item.OK {
		item.Detail = fmt.Sprintf("%s does not have it", s.Info.CurrentUser.User)
		item.Remedy = s.remedy(r)
	}
	return item
}

// checkKiller looks for what a managed service has in the place of KILL, and at
// the other hosts.
func (s *session) checkKiller(ctx context.Context, _ mysqldb.Grants) (items []access.CheckItem, err error) {
	kill, err := s.killer(ctx, s.Conn)
	if err != nil {
		return nil, err
	}
	if text := kill(0).Text; strings.HasPrefix(text, "CALL ") {
		for _, r := range []right{connections, super} {
			if slices.ContainsFunc(s.needs(), func(have right) bool { return have.name == r.name }) {
				items = append(items, access.CheckItem{Operation: "end_sessions", Name: r.name, OK: true, Detail: "sessions are ended by " + text})
			}
		}
	}
	for _, host := range s.i.config.SessionHosts {
		item := access.CheckItem{Operation: "end_sessions", Name: "session host " + host, OK: true}
		e, err := s.i.config.endpoint(host)
		if err == nil {
			var c *mysqldb.Conn
			if c, err = e.Open(ctx, dialect, s.i.server.User, s.i.server.Password); err == nil {
				c.Close()
			}
		}
		if err != nil {
			item = failed("end_sessions", item.Name, err)
		}
		items = append(items, item)
	}
	return items, nil
}

// checkGrantable says which permissions can be given, and on what not.
func (s *session) checkGrantable(ctx context.Context, mine mysqldb.Grants) ([]access.CheckItem, error) {
	databases, err := s.Databases(ctx)
	if err != nil {
		return nil, err
	}
	var items []access.CheckItem
	for n, permission := range mysqldb.Permissions {
		item := access.CheckItem{Operation: "grant", Name: "give " + permission, Optional: n > 0, OK: true}
		without, part := "", ""
		all := mysqldb.Target{}
		count := 0
		for _, d := range databases {
			t, err := mysqldb.Parse(dialect, "", access.Entitlement{Resource: access.NewResource(mysqldb.TypeDatabase, d), Permission: permission})
			if err != nil || !s.i.filter().Offers(t.Resource) {
				continue
			}
			_, lost, ok := t.Cut(mine)
			switch all = t; {
			case !ok:
				without = fmt.Sprintf("not on database %s, for want of %s", d, strings.Join(lost, ", "))
				item.Remedy = s.giveRemedy(lost, t)
			case len(lost) > 0:
				part = fmt.Sprintf("comes without %s", strings.Join(lost, ", "))
				count++
			default:
				count++
			}
		}
		if without != "" {
			item.OK = false
			item.Detail = without
			item.Optional = item.Optional || count > 0
		} else {
			item.Detail = part
		}
		if all.Database == "" {
			item.Optional, item.OK, item.Detail = true, true, "there is no database to give it on"
		}
		items = append(items, item)
	}
	return items, nil
}

// checkMarks looks at the table that stands for account attributes.
func (s *session) checkMarks(ctx context.Context, mine mysqldb.Grants) ([]access.CheckItem, error) {
	if !s.legacy {
		return nil, nil
	}
	item := access.CheckItem{Operation: "grant", Name: "lapse.marks", OK: true}
	var lost []string
	for _, p := range []string{"SELECT", "INSERT", "DELETE"} {
		if !mine.Holds(p, "lapse", "marks") {
			lost = append(lost, p)
		}
	}
	t := mysqldb.Target{Database: "lapse", Table: "marks"}
	err := t.Exists(ctx, s.Conn)
	switch {
	case len(lost) > 0:
		item.OK, item.Detail = false, "the connector may not "+strings.Join(lost, ", ")+" there"
		item.Remedy = fmt.Sprintf("GRANT %s ON lapse.marks TO %s", strings.Join(lost, ", "), shown(s.Info.CurrentUser))
	case access.KindOf(err) == access.ResourceMissing:
		item.OK, item.Detail, item.Remedy = false, "the table of Lapse's marks is not there", marksTable
	case err != nil:
		return nil, err
	}
	return []access.CheckItem{item}, nil
}

// checkDefiners looks whether a deletion could take a definer away unseen.
func (s *session) checkDefiners(_ context.Context, mine mysqldb.Grants) ([]access.CheckItem, error) {
	item := access.CheckItem{Operation: "delete", Name: "definers", OK: true, Optional: true}
	if blind := mine.Blind(); len(blind) > 0 {
		item.Detail = "what an account is the definer of may not be seen, and then keeps it: for want of " + strings.Join(blind, ", ")
		for _, p := range orphaning {
			if mine.Has(p) {
				item.OK, item.Remedy = false, fmt.Sprintf("REVOKE %s ON *.* FROM %s", p, shown(s.Info.CurrentUser))
			}
		}
		if s.Info.Version < 80022 {
			item.OK, item.Remedy = false, fmt.Sprintf("GRANT %s ON *.* TO %s", strings.Join(blind, ", "), shown(s.Info.CurrentUser))
		}
	}
	return []access.CheckItem{item}, nil
}

// checkSettings tells of settings that change what grants mean.
func (s *session) checkSettings(ctx context.Context, _ mysqldb.Grants) ([]access.CheckItem, error) {
	settings, err := s.Variables(ctx, "mandatory_roles", "partial_revokes", "wsrep_on", "skip_name_resolve")
	if err != nil {
		return nil, err
	}
	var items []access.CheckItem
	if v := settings["mandatory_roles"]; v != "" {
		items = append(items, access.CheckItem{Operation: "revoke", Name: "mandatory_roles", Optional: true, OK: true, Detail: "everybody has " + v + ", which is not offered and cannot be taken back"})
	}
	if v, ok := settings["partial_revokes"]; ok {
		items = append(items, access.CheckItem{Operation: "grant", Name: "partial_revokes", Optional: true, OK: true, Detail: v + "; after a change of it the next maintenance gives anew what databases are called otherwise"})
	}
	if settings["wsrep_on"] == "ON" {
		items = append(items, access.CheckItem{Operation: "grant", Name: "wsrep_on", Optional: true, Detail: "roles may not reach the other nodes of a Galera cluster", Remedy: "list the other nodes in session_hosts, and grant on one node"})
	}
	return items, nil
}

// checkAnonymous looks for accounts without a name, which win over those with
// one at a host that is less exact.
func (s *session) checkAnonymous(ctx context.Context, _ mysqldb.Grants) ([]access.CheckItem, error) {
	rows, err := mysqldb.Ask[struct{ Host string }](ctx, s.Conn, "SELECT Host FROM mysql.user WHERE User = ''")
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return []access.CheckItem{{Operation: "grant", Name: "anonymous accounts", Optional: true,
		Detail: "people who come from " + rows[0].Host + " are taken for the account without a name",
		Remedy: "DROP USER " + "``@" + dialect.Shown(sqlname.Ident(rows[0].Host))}}, nil
}
