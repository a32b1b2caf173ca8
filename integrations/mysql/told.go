package mysql

import (
	"context"
	"time"

	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/mysqldb"
)

// told is what open writes on MySQL 8.0.21 and later without partial_revokes,
// where "_" in the name of a database has no backslash. The role of an entitlement
// may be there already, with all that it is to have.
func told(t integrations.Target, req integrations.GrantRequest) ([]string, error) {
	return tell(t, req, false)
}

// tell is told for a server with roles, or without.
func tell(t integrations.Target, req integrations.GrantRequest, legacy bool) ([]string, error) {
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
		return mysqldb.Told(dialect, func(c *mysqldb.Conn) error {
			s := &session{Conn: c, i: i, legacy: legacy}
			plans := make([]plan, len(targets))
			for n, t := range targets {
				plans[n] = plan{target: t, exists: true, applied: time.Now(), give: t.All()}
				if !exists {
					plans[n] = plan{target: t, give: t.All(), lack: t.All()}
				}
			}
			return s.open(context.Background(), req, a, nil, plans)
		})
	}
	always, err := write(true)
	if err != nil {
		return nil, err
	}
	lines, err := write(false)
	return integrations.Unless(lines, always), err
}
