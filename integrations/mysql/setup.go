package mysql

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/mysqldb"
	"github.com/lapse-access/lapse/internal/sqlname"
)

// setup is what the scripts for the connector's account are written for.
type setup struct {
	ConnectorName  string   `json:"connector_name" doc:"account of the connector" default:"lapse" minLength:"1"`
	ConnectorHost  string   `json:"connector_host" doc:"from where the connector logs in" default:"%" example:"10.1.2.3" minLength:"1"`
	Permission     string   `json:"permission" doc:"the highest permission that people may ask for" enum:"read_only,read_write,admin" default:"admin"`
	Databases      []string `json:"databases,omitempty" doc:"databases of which people may ask for something; all when none is named" example:"shop" minLength:"1"`
	PartialRevokes string   `json:"partial_revokes" doc:"the setting of the server: when it is on, databases in grants are no patterns" enum:"off,on" default:"off"`
	Version        string   `json:"version" doc:"the server's version; 5.7 stands for all before 8.0.21" enum:"8.0,5.7" default:"8.0"`
}

// paragraph is something that the connector's account may do, and the statements
// that allow it.
type paragraph struct {
	why        string
	statements []sqlname.Statement
}

// marksTable is where the marks stand on a server without account attributes.
const marksTable = "CREATE TABLE lapse.marks (user varchar(32) COLLATE utf8_bin NOT NULL, host varchar(255) COLLATE utf8_bin NOT NULL, " +
	"account varchar(255) COLLATE utf8_bin NOT NULL, mark text NOT NULL, PRIMARY KEY (user, host), KEY (account)) ENGINE=InnoDB DEFAULT CHARSET=utf8"

// tiers writes the scripts that give a connector its rights. Discovery shows
// what the connector may give, so that this much is in every tier.
func tiers(options any) ([]integrations.Tier, error) {
	o, ok := options.(*setup)
	if !ok {
		return nil, access.Errorf(access.Invalid, "the options are a %T", options)
	}
	me := sqlname.Principal{User: o.ConnectorName, Host: o.ConnectorHost}
	on := func(words string) sqlname.Statement { return dialect.Statement("GRANT "+words+" TO ?", me) }
	login := paragraph{"The connector's account. Write a password of your own for the dots.",
		[]sqlname.Statement{dialect.Statement("CREATE USER ? IDENTIFIED BY '...'", me)}}
	read := paragraph{"Reads accounts, roles, and what they were given.", []sqlname.Statement{on("SELECT ON mysql.*")}}
	give := paragraph{"Gives what people may ask for. It has to have that itself.", o.give(me)}
	maker := paragraph{"Makes accounts and roles, locks and unlocks them.", []sqlname.Statement{on("CREATE USER ON *.*")}}
	hand := paragraph{"Gives roles, and takes them back.", []sqlname.Statement{on("ROLE_ADMIN ON *.*")}}
	end := paragraph{"Sees the sessions of others, and ends them.", []sqlname.Statement{on("PROCESS ON *.*"), on("CONNECTION_ADMIN ON *.*")}}
	if o.Version == "5.7" {
		hand = paragraph{"The table of Lapse's marks, which stand in account attributes on newer servers.", []sqlname.Statement{
			{Text: "CREATE DATABASE lapse"}, {Text: marksTable}, on("SELECT, INSERT, DELETE ON lapse.marks")}}
		read.statements = append(read.statements, hand.statements[:2]...)
		read.statements = append(read.statements, on("SELECT ON lapse.marks"))
		hand.statements = []sqlname.Statement{on("INSERT, DELETE ON lapse.marks")}
		end.statements[1] = on("SUPER ON *.*")
	}

	var list []integrations.Tier
	for _, t := range []struct {
		integrations.Tier
		paragraphs []paragraph
	}{{
		integrations.Tier{
			Name:       "discover",
			Doc:        "Reads the catalog, which has what the connector may give, and makes no account.",
			Operations: []string{"connect", "discover"},
		},
		[]paragraph{login, read, give},
	}, {
		integrations.Tier{
			Name: "grant",
			Doc: "Grants, proves, revokes, changes credentials and deletes accounts, and ends no session: with `terminate_sessions: never` " +
				"a revoke leaves sessions open; otherwise it is overdue until they are closed. So is the deletion of an account.",
			Operations: []string{"connect", "discover", "grant", "revoke", "delete"},
		},
		[]paragraph{login, read, give, maker, hand},
	}, {
		integrations.Tier{
			Name:       "full",
			Doc:        "Grants, changes credentials, and ends sessions: everything.",
			Operations: []string{"connect", "discover", "grant", "revoke", "end_sessions", "delete"},
		},
		[]paragraph{login, read, give, maker, hand, end},
	}} {
		var err error
		if t.Script, err = script(t.paragraphs); err != nil {
			return nil, access.Errorf(access.Invalid, "%v", err)
		}
		list = append(list, t.Tier)
	}
	return list, nil
}

// give are the privileges of the permissions up to the highest, with the right
// to hand them on.
func (o *setup) give(me sqlname.Principal) (out []sqlname.Statement) {
	var words []string
	for _, p := range mysqldb.Permissions {
		for _, typ := range []string{mysqldb.TypeDatabase, mysqldb.TypeTable} {
			t, err := mysqldb.Parse(dialect, "", access.Entitlement{Resource: access.NewResource(typ, slices.Repeat([]string{"x"}, map[string]int{mysqldb.TypeDatabase: 1, mysqldb.TypeTable: 2}[typ])...), Permission: p})
			if err != nil {
				return []sqlname.Statement{{Err: err}}
			}
			for _, w := range t.All() {
				if !slices.Contains(words, w) {
					words = append(words, w)
				}
			}
		}
		if p == o.Permission {
			break
		}
	}
	if len(o.Databases) == 0 {
		return []sqlname.Statement{dialect.Statement("GRANT ? ON *.* TO ? WITH GRANT OPTION", sqlname.Keywords(words), me)}
	}
	for _, d := range o.Databases {
		var name sqlname.Fragment = sqlname.Pattern(d)
		if o.PartialRevokes == "on" {
			name = sqlname.Ident(d)
		}
		out = append(out, dialect.Statement("GRANT ? ON ?.* TO ? WITH GRANT OPTION", sqlname.Keywords(words), name, me))
	}
	return out
}

// script writes rights down, one statement in a line.
func script(paragraphs []paragraph) (string, error) {
	var out []string
	for _, p := range paragraphs {
		lines := []string{"-- " + p.why}
		for _, s := range p.statements {
			if s.Err != nil {
				return "", fmt.Errorf("a name cannot be used on MySQL: %w", s.Err)
			}
			lines = append(lines, s.Text+";")
		}
		out = append(out, strings.Join(lines, "\n")+"\n")
	}
	return strings.Join(out, "\n"), nil
}
