package postgresql

import (
	"context"
	"strings"
	"time"

	"github.com/lapse-access/lapse/integrations"
)

// unread is the version of a server that nobody asked.
const unread = 0

// now is when a role's default privileges are set.
func (s *session) now() time.Time {
	if s.told != nil {
		return time.Unix(0, 0).UTC()
	}
	return time.Now().UTC().Truncate(time.Second)
}

// told is what open writes. Which objects there are, which of them PUBLIC has
// already, and who makes more of them, only the server knows; so are the options
// and privileges that came with its version. The role of an entitlement may be
// there already, with all that it is to have.
func told(t integrations.Target, req integrations.GrantRequest) ([]string, error) {
	c, err := integrations.ConfigOf[Config](t)
	if err != nil {
		return nil, err
	}
	i := &integration{instance: t.Instance, id: t.ID, config: *c}
	targets, err := i.parseAll(req.Want)
	if err != nil {
		return nil, err
	}
	write := func(exists bool) (lines []string, err error) {
		a, err := i.unfound(req.Account)
		if err != nil {
			return nil, err
		}
		s := &session{conn: &conn{told: &lines}, i: i, databases: map[string]*conn{}}
		plans := make([]plan, len(targets))
		var grantors []string
		for n, t := range targets {
			plans[n] = plan{target: t, exists: exists || !t.ours()}
			if !plans[n].exists {
				plans[n].define = s.definition(t, t.unseen(), []string{integrations.Each("role that makes more")})
			}
			if !t.ours() {
				grantors = []string{integrations.Found("the roles by whose right it is given")}
			}
			s.databases[t.database] = s.conn
		}
		err = s.open(context.Background(), req, a, nil, plans, grantors)
		for n, line := range lines {
			lines[n] = strings.ReplaceAll(line, s.now().Format(time.RFC3339), integrations.Found("now"))
		}
		return lines, err
	}
	always, err := write(true)
	if err != nil {
		return nil, err
	}
	lines, err := write(false)
	return integrations.Unless(lines, always), err
}

// unseen are the objects of an entitlement as they are called before they are
// read.
func (t target) unseen() []object {
	in := "of the database " + t.database
	all := []object{{Kind: "database", Name: t.database}}
	switch {
	case t.table != "":
		in = "of the table " + t.table
		all = append(all, object{Kind: "schema", Name: t.schema}, object{Kind: "table", Schema: t.schema, Name: t.table})
	case t.schema != "":
		in = "of the schema " + t.schema
		all = append(all, object{Kind: "schema", Name: t.schema}, object{Kind: "table", Name: integrations.Each("table " + in)})
	default:
		all = append(all, object{Kind: "schema", Name: integrations.Each("schema")}, object{Kind: "table", Name: integrations.Each("table " + in)})
	}
	p := t.wants(unread)
	if len(p.sequence) > 0 {
		all = append(all, object{Kind: "sequence", Name: integrations.Each("sequence " + in)})
	}
	if len(p.routine) > 0 {
		all = append(all, object{Kind: "routine", Name: integrations.Each("routine " + in)})
	}
	return all
}
