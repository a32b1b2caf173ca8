package postgresql

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
)

// The versions that are supported; a newer one is a warning.
const (
	oldest = 140000
	newest = 190000
)

func (s *session) check(ctx context.Context) (access.CheckReport, error) {
	report := access.CheckReport{
		Server: fmt.Sprintf("PostgreSQL %d.%d", s.server.Version/10000, s.server.Version%10000),
		Items:  []access.CheckItem{{Operation: "connect", Name: "connect", OK: true, Detail: "connected as " + s.server.User}},
	}
	report.Items = append(report.Items, s.checkServer()...)
	report.Items = append(report.Items, s.checkRole())
	for _, check := range []func(context.Context) ([]access.CheckItem, error){
		s.checkSessions, s.checkGrantable, s.checkDatabases,
	} {
		items, err := check(ctx)
		if err != nil {
			return report, err
		}
		report.Items = append(report.Items, items...)
	}
	return report, nil
}

func failed(operation, name string, err error) access.CheckItem {
	item := access.CheckItem{Operation: operation, Name: name, Detail: err.Error()}
	if e, ok := classify(err).(*access.Error); ok {
		item.Detail, item.Remedy = e.Text, e.Remedy
	}
	return item
}

func (s *session) checkServer() []access.CheckItem {
	version := access.CheckItem{Operation: "connect", Name: "version", OK: s.server.Version >= oldest && s.server.Version < newest}
	if s.server.Version >= newest {
		version.Optional, version.Detail = true, "newer than what Lapse was tried with, 14 to 18"
	} else if !version.OK {
		version.Detail, version.Remedy = "older than 14", "upgrade the server"
	}
	primary := access.CheckItem{Operation: "connect", Name: "primary", OK: !s.server.Standby}
	if s.server.Standby {
		primary.Detail, primary.Remedy = "this server is a standby and takes no changes", "set hostname to the primary, and list standbys in session_hosts"
	}
	tls := access.CheckItem{Operation: "connect", Name: "tls", Optional: true, OK: strings.HasPrefix(s.i.config.SSLMode, "verify-")}
	if !tls.OK {
		tls.Detail = "with ssl_mode " + s.i.config.SSLMode + " nobody proves that this is the right server"
		tls.Remedy = "set ssl_mode to verify-full, and ca_certificate where the authority is your own"
	}
	return []access.CheckItem{version, primary, tls}
}

// checkRole looks at the attribute by which accounts and entitlement roles are
// made: https://www.postgresql.org/docs/current/role-attributes.html
func (s *session) checkRole() access.CheckItem {
	item := access.CheckItem{Operation: "grant", Name: "make roles", OK: s.server.Superuser || s.server.CreateRole}
	switch {
	case s.server.Superuser:
		item.Detail = "superuser"
	case s.server.CreateRole && s.server.grantorsMatter():
		item.Detail = "CREATEROLE: roles that it made, and those that it has ADMIN OPTION on"
	case s.server.CreateRole:
		item.Detail = "CREATEROLE: every role that is not a superuser"
	default:
		item.Detail = s.server.User + " may not make roles; nothing can be granted, revoked, rotated or deleted"
		item.Remedy = "ALTER ROLE " + shown(s.server.User) + " CREATEROLE"
	}
	return item
}

func (s *session) checkSessions(ctx context.Context) ([]access.CheckItem, error) {
	rows, err := ask[only[bool]](ctx, s.conn, "SELECT pg_has_role('pg_signal_backend', 'USAGE')")
	if err != nil {
		return nil, during("reading the connector's memberships", err)
	}
	item := access.CheckItem{Operation: "end_sessions", Name: "pg_signal_backend", OK: rows[0].Value}
	if !item.OK {
		item.Detail = s.server.User + " may not end other sessions"
		item.Remedy = "GRANT pg_signal_backend TO " + shown(s.server.User)
	}
	items := []access.CheckItem{item}
	for _, host := range s.i.config.SessionHosts {
		item := access.CheckItem{Operation: "end_sessions", Name: "session host " + host, OK: true}
		e, err := s.i.config.endpoint(host)
		if err == nil {
			var c *conn
			if c, err = e.open(ctx, s.i.secret.Username, s.i.secret.Password, s.pg.Config().Database); err == nil {
				c.close()
			}
		}
		if err != nil {
			item = failed("end_sessions", item.Name, err)
		}
		items = append(items, item)
	}
	return items, nil
}

// adminRemedy is the statement with which the connector may give a role.
func (s server) adminRemedy(role string) string {
	if s.grantorsMatter() {
		return "GRANT " + shown(role) + " TO " + shown(s.User) + " WITH ADMIN OPTION"
	}
	return "ALTER ROLE " + shown(s.User) + " CREATEROLE"
}

// checkGrantable looks for roles that would be offered, or are Lapse's own, and
// that the connector may not give.
func (s *session) checkGrantable(ctx context.Context) ([]access.CheckItem, error) {
	item := access.CheckItem{Operation: "grant", Name: "roles of the customer", OK: true, Optional: true}
	var missing []string
	from := ""
	for {
		rows, err := ask[roleRow](ctx, s.conn, roleSQL, nil, dangerous, from, pageSize)
		if err != nil {
			return nil, during("reading the roles", err)
		}
		for _, r := range rows {
			if !r.Mine && s.i.refuses(r) == nil && s.i.filter().Offers(access.NewResource(typeRole, r.Name)) && !strings.HasPrefix(r.Name, "pg_") {
				missing = append(missing, r.Name)
			}
		}
		if len(rows) < pageSize {
			break
		}
		from = rows[len(rows)-1].Name
	}
	if len(missing) > 0 {
		item.OK = false
		item.Detail = "not offered, for want of ADMIN OPTION: " + strings.Join(missing[:min(10, len(missing))], ", ")
		item.Remedy = s.server.adminRemedy(missing[0])
	}
	own := access.CheckItem{Operation: "revoke", Name: "roles of Lapse", OK: true}
	for after, more := "", true; more; {
		roles, err := s.marked(ctx, after, pageSize)
		if err != nil {
			return nil, err
		}
		for _, r := range roles {
			if r.mark.Kind != "" && !r.Mine && own.OK {
				own.OK, own.Detail = false, "the connector may not change "+r.Name+", and perhaps others, which another login of the connector made"
				own.Remedy = s.server.adminRemedy(r.Name)
			}
		}
		if more = len(roles) == pageSize; more {
			after = roles[pageSize-1].Name
		}
	}
	return []access.CheckItem{item, own}, nil
}

// checkDatabases looks into every database for owners that the connector cannot
// act for, and says where PUBLIC may connect.
func (s *session) checkDatabases(ctx context.Context) ([]access.CheckItem, error) {
	databases, err := ask[databaseRow](ctx, s.conn, databasesSQL)
	if err != nil {
		return nil, during("reading the databases", err)
	}
	public := access.CheckItem{Operation: "revoke", Name: "PUBLIC CONNECT", OK: true, Optional: true}
	closed := access.CheckItem{Operation: "discover", Name: "databases", OK: true, Optional: true}
	var foreign []string
	for _, d := range databases {
		if d.Public && public.OK {
			public.OK, public.Detail = false, "everybody with a login may connect to database "+d.Name+", and perhaps others"
			public.Remedy = "REVOKE CONNECT ON DATABASE " + shown(d.Name) + " FROM PUBLIC"
		}
		var owners []owner
		err := error(access.Errorf(access.Privilege, "%s may not connect", s.server.User))
		if d.Mine {
			owners, err = s.owners(ctx, d.Name)
		}
		if err != nil {
			closed.OK, closed.Detail = false, fmt.Sprintf("database %s is not read: %v", d.Name, err)
			closed.Remedy = "GRANT CONNECT ON DATABASE " + shown(d.Name) + " TO " + shown(s.server.User) + " WITH GRANT OPTION"
		}
		for _, o := range owners {
			if !o.Mine && !slices.Contains(foreign, o.Name) {
				foreign = append(foreign, o.Name)
			}
		}
	}
	items := []access.CheckItem{closed, public}
	known, err := ask[only[string]](ctx, s.conn, "SELECT rolname::text FROM pg_roles WHERE rolname = ANY ($1::text[])", nonNil(s.i.config.OwnerRoles))
	if err != nil {
		return nil, during("reading owner_roles", err)
	}
	for _, name := range s.i.config.OwnerRoles {
		item := access.CheckItem{Operation: "grant", Name: "owner role " + name, OK: slices.Contains(known, only[string]{name})}
		if !item.OK {
			item.Detail, item.Remedy = "there is no role "+name, "take it out of owner_roles, or make it"
		}
		items = append(items, item)
	}
	for _, name := range foreign {
		items = append(items, access.CheckItem{
			Operation: "grant", Name: "act for " + name, Optional: true,
			Detail: "the connector may neither give what " + name + " owns nor what it will make",
			Remedy: s.actFor(ctx, name),
		})
	}
	return items, nil
}

func (s *session) owners(ctx context.Context, database string) ([]owner, error) {
	c, err := s.i.endpoint.open(ctx, s.i.secret.Username, s.i.secret.Password, database)
	if err != nil {
		return nil, err
	}
	defer c.close()
	return ask[owner](ctx, c, ownersSQL, nil, nonNil(s.i.config.OwnerRoles))
}
