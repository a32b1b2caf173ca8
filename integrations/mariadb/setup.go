package mariadb

import (
	"fmt"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/mysqldb"
	"github.com/lapse-access/lapse/internal/sqlname"
)

// setup is what the scripts for the connector's account are written for.
type setup struct {
	ConnectorName string   `json:"connector_name" doc:"account of the connector" default:"lapse" minLength:"1"`
	ConnectorHost string   `json:"connector_host" doc:"hosts from which the connector logs in" default:"%" minLength:"1"`
	AdminRoleName string   `json:"admin_role_name" doc:"role of the connector, as in its configuration" default:"lapse_admin" minLength:"1"`
	Permission    string   `json:"permission" doc:"the most that people may ask for" enum:"read_only,read_write,admin" default:"admin"`
	Databases     []string `json:"databases,omitempty" doc:"databases that people may ask for; all of them, those made later too, when empty" example:"shop" minLength:"1"`
	Roles         []string `json:"roles,omitempty" doc:"roles in which people may ask for membership" example:"analytics" minLength:"1"`
}

// paragraph is a right of the connector, and the statements that give it.
type paragraph struct {
	why        string
	statements []sqlname.Statement
	// option is the setting that names what the statements are about; "" for a
	// right that needs none.
	option string
}

// tiers writes the scripts that give a connector its rights. Discovery shows
// what the connector may give, so that this much is in every tier.
func tiers(options any) ([]integrations.Tier, error) {
	o, ok := options.(*setup)
	if !ok {
		return nil, access.Errorf(access.Invalid, "the options are a %T", options)
	}
	me := sqlname.Principal{User: o.ConnectorName, Host: o.ConnectorHost}
	admin := role(o.AdminRoleName)
	login := paragraph{"The connector's account and its role, which has all its rights. Write a password of your own for the dots.", []sqlname.Statement{
		dialect.Statement("CREATE USER ? IDENTIFIED BY '...'", me),
		dialect.Statement("CREATE ROLE ?", admin),
		dialect.Statement("GRANT ? TO ?", admin, me),
	}, ""}
	given, err := o.given(admin)
	if err != nil {
		return nil, err
	}
	handed := paragraph{why: "For each role in which people may ask for membership: gives it.", option: "roles"}
	for _, name := range o.Roles {
		handed.statements = append(handed.statements, dialect.Statement("GRANT ? TO ? WITH ADMIN OPTION", role(name), admin))
	}
	var reads, gives, ends paragraph
	reads.why = "Reads accounts and roles."
	gives.why = "Makes accounts and roles, and sets default roles. UPDATE there is as good as every right on the server: MariaDB has no smaller one for SET DEFAULT ROLE. " +
		"PROCESS shows sessions. The last line shows what an account is the definer of before it is deleted."
	ends.why = "Ends sessions."
	for _, r := range rights {
		s := dialect.Statement(r.statement, admin)
		switch r.operation {
		case "discover":
			reads.statements = append(reads.statements, s)
		case "end_sessions":
			ends.statements = append(ends.statements, s)
		default:
			gives.statements = append(gives.statements, s)
		}
	}
	var list []integrations.Tier
	for _, t := range []struct {
		integrations.Tier
		parts []paragraph
	}{{
		integrations.Tier{
			Name:       "discover",
			Doc:        "Reads the catalog, which has what the connector may give, and gives nothing: it can make neither accounts nor roles.",
			Operations: []string{"connect", "discover"},
		},
		[]paragraph{login, reads, given, handed},
	}, {
		integrations.Tier{
			Name: "grant",
			Doc: "Grants, proves, revokes, changes credentials and deletes accounts, and ends no session: with `terminate_sessions: never` " +
				"a revoke leaves sessions open; otherwise it is overdue until they are closed. So is the deletion of an account.",
			Operations: []string{"connect", "discover", "grant", "revoke", "delete"},
		},
		[]paragraph{login, reads, given, handed, gives},
	}, {
		integrations.Tier{
			Name:       "full",
			Doc:        "Grants, changes credentials, and ends sessions: everything.",
			Operations: []string{"connect", "discover", "grant", "revoke", "delete", "end_sessions"},
		},
		[]paragraph{login, reads, given, handed, gives, ends},
	}} {
		if t.Script, err = script(t.parts); err != nil {
			return nil, access.Errorf(access.Invalid, "%v", err)
		}
		list = append(list, t.Tier)
	}
	return list, nil
}

// given are the statements that give the connector what it gives to people.
func (o *setup) given(admin sqlname.Principal) (paragraph, error) {
	p := paragraph{why: "For each database that people may ask for: gives what the most powerful permission there is about."}
	i := &integration{config: Config{AdminRoleName: o.AdminRoleName}}
	names := o.Databases
	if len(names) == 0 {
		names = []string{"any"}
	}
	for _, name := range names {
		t, err := mysqldb.Parse(dialect, "", access.Entitlement{Resource: access.NewResource(mysqldb.TypeDatabase, name), Permission: o.Permission})
		if err != nil {
			return p, err
		}
		s := i.handOn(t, t.All())
		if len(o.Databases) == 0 {
			p.why = "Gives what the most powerful permission is about, on all databases, the server's own included."
			s = dialect.Statement("GRANT ? ON *.* TO ? WITH GRANT OPTION", sqlname.Keywords(t.All()), admin)
		}
		p.statements = append(p.statements, s)
	}
	return p, nil
}

// script writes rights down, one statement in a line.
func script(parts []paragraph) (string, error) {
	var out []string
	for _, p := range parts {
		lines := []string{"-- " + p.why}
		for _, s := range p.statements {
			if s.Err != nil {
				return "", s.Err
			}
			lines = append(lines, s.Text+";")
		}
		if len(p.statements) == 0 {
			lines = append(lines, fmt.Sprintf("-- (none was named: --set %s=NAME)", p.option))
		}
		out = append(out, strings.Join(lines, "\n")+"\n")
	}
	return strings.Join(out, "\n"), nil
}
