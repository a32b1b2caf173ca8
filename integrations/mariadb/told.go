package mariadb

import (
	"cmp"
	"context"

	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/mysqldb"
)

// told is what open writes. Where a plugin looks at new passwords, the statement
// says IDENTIFIED BY. The role of an entitlement may be there already, with all
// that it is to have.
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
	write := func(exists bool) ([]string, error) {
		a, err := i.unfound(req.Account)
		if err != nil {
			return nil, err
		}
		a.name = cmp.Or(req.Account.Name, a.name)
		return mysqldb.Told(dialect, func(c *mysqldb.Conn) error {
			o := &operation{Conn: c, i: i}
			plans := make([]plan, len(targets))
			for n, t := range targets {
				plans[n] = plan{target: t, exists: exists}
				if !exists {
					plans[n].lacks = t.All()
				}
			}
			return o.open(context.Background(), req, a, plans)
		})
	}
	always, err := write(true)
	if err != nil {
		return nil, err
	}
	lines, err := write(false)
	return integrations.Unless(lines, always), err
}
