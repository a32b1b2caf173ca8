package postgresql

import (
	"fmt"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

// setup is what the scripts for the connector's login role are written for.
type setup struct {
	ConnectorName string   `json:"connector_name" doc:"login role of the connector" default:"lapse" minLength:"1"`
	OwnerRoles    []string `json:"owner_roles,omitempty" doc:"roles that own what people may ask for" example:"app_owner" minLength:"1"`
	Roles         []string `json:"roles,omitempty" doc:"roles in which people may ask for membership" example:"analytics" minLength:"1"`
	Databases     []string `json:"databases,omitempty" doc:"databases to which PUBLIC may not connect" example:"shop" minLength:"1"`
}

// right is something that the connector's login may do, and the statements that
// allow it.
type right struct {
	why        string
	statements []statement
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
	me := ident(o.ConnectorName)
	login := right{"The connector's login. Write a password of your own for the dots.",
		[]statement{ddl("CREATE ROLE ? LOGIN PASSWORD '...'", me)}, ""}
	maker := right{"The connector's login, which makes roles. Write a password of your own for the dots.",
		[]statement{ddl("CREATE ROLE ? LOGIN CREATEROLE PASSWORD '...'", me)}, ""}
	signal := right{"Ends sessions.",
		[]statement{ddl("GRANT pg_signal_backend TO ?", me)}, ""}
	owned := right{"For each role that owns what people may ask for: gives what it has, and what it will make.",
		each(o.OwnerRoles, "GRANT ? TO ?", me), "owner_roles"}
	handed := right{"For each role in which people may ask for membership: gives it. Up to PostgreSQL 15 CREATEROLE is enough.",
		each(o.Roles, "GRANT ? TO ? WITH ADMIN OPTION", me), "roles"}
	closed := right{"For each database to which PUBLIC may not connect: reads it, and lets people in.",
		each(o.Databases, "GRANT CONNECT ON DATABASE ? TO ? WITH GRANT OPTION", me), "databases"}

	var list []integrations.Tier
	for _, t := range []struct {
		integrations.Tier
		rights []right
	}{{
		integrations.Tier{
			Name:       "discover",
			Doc:        "Reads the catalog, which has what the connector may give, and gives nothing: it cannot make roles.",
			Operations: []string{"connect", "discover"},
		},
		[]right{login, owned, handed, closed},
	}, {
		integrations.Tier{
			Name: "grant",
			Doc: "Grants, proves, revokes, changes credentials and deletes accounts, and ends no session: with `terminate_sessions: never` " +
				"a revoke leaves sessions open; otherwise it is overdue until they are closed. So is the deletion of an account.",
			Operations: []string{"connect", "discover", "grant", "revoke"},
		},
		[]right{maker, owned, handed, closed},
	}, {
		integrations.Tier{
			Name:       "full",
			Doc:        "Grants, changes credentials, and ends sessions: everything.",
			Operations: []string{"connect", "discover", "grant", "revoke", "end_sessions"},
		},
		[]right{maker, signal, owned, handed, closed},
	}} {
		var err error
		if t.Script, err = script(t.rights); err != nil {
			return nil, access.Errorf(access.Invalid, "%v", err)
		}
		list = append(list, t.Tier)
	}
	return list, nil
}

// each is one statement for each name.
func each(names []string, text string, connector ident) (list []statement) {
	for _, name := range names {
		list = append(list, ddl(text, ident(name), connector))
	}
	return list
}

// script writes rights down, one statement in a line.
func script(rights []right) (string, error) {
	var paragraphs []string
	for _, r := range rights {
		lines := []string{"-- " + r.why}
		for _, s := range r.statements {
			if s.Err != nil {
				return "", s.Err
			}
			lines = append(lines, s.Text+";")
		}
		if len(r.statements) == 0 {
			lines = append(lines, fmt.Sprintf("-- (none was named: --set %s=NAME)", r.option))
		}
		paragraphs = append(paragraphs, strings.Join(lines, "\n")+"\n")
	}
	return strings.Join(paragraphs, "\n"), nil
}
