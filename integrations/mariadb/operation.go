package mariadb

import (
	"context"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/mysqldb"
	"github.com/lapse-access/lapse/internal/sqlname"
)

// operation is what one operation has of the server. It is used by one goroutine.
type operation struct {
	*mysqldb.Conn
	i *integration
	// administers is true when the connector's role is active.
	administers bool
	// validates is true when a plugin looks at new passwords, and refuses hashes:
	// https://mariadb.com/docs/server/reference/plugins/password-validation-plugins
	validates bool
	grants    mysqldb.Grants
}

// reading runs an operation that only reads, which needs no turn.
func (i *integration) reading(ctx context.Context, do func(context.Context, *operation) error) error {
	return i.server.Reading(ctx, i.begun(do))
}

// inTurn runs an operation alone on the server, and again when it met somebody
// else's change.
func (i *integration) inTurn(ctx context.Context, do func(context.Context, *operation) error) error {
	return i.server.InTurn(ctx, i.begun(do))
}

func (i *integration) begun(do func(context.Context, *operation) error) func(context.Context, *mysqldb.Conn) error {
	return func(ctx context.Context, c *mysqldb.Conn) error {
		o, err := i.begin(ctx, c)
		if err != nil {
			return err
		}
		return do(ctx, o)
	}
}

// begin refuses what is no MariaDB, and activates the connector's role. Where that
// is not given, what needs it says so.
func (i *integration) begin(ctx context.Context, c *mysqldb.Conn) (*operation, error) {
	if !c.Info.MariaDB {
		return nil, access.Errorf(access.Unsupported, "this server is %s %s and no MariaDB", c.Info.Comment, c.Info.Text).
			WithRemedy("configure the integration with kind: mysql")
	}
	o := &operation{Conn: c, i: i}
	err := c.Exec(ctx, c.Statement("SET ROLE ?", i.admin()))
	if err != nil && access.KindOf(err) != access.ResourceMissing {
		return nil, mysqldb.During("activating role "+i.config.AdminRoleName, err)
	}
	o.administers = err == nil
	type count struct{ Plugins int }
	plugins, err := mysqldb.Ask[count](ctx, c, "SELECT COUNT(*) FROM information_schema.PLUGINS WHERE PLUGIN_TYPE = 'PASSWORD VALIDATION' AND PLUGIN_STATUS = 'ACTIVE'")
	if err != nil {
		return nil, mysqldb.During("reading the server's plugins", err)
	}
	o.validates = plugins[0].Plugins > 0
	return o, nil
}

// admin is the connector's role.
func (i *integration) admin() sqlname.Principal {
	return sqlname.Principal{User: i.config.AdminRoleName}
}

// mine reads what the connector may do.
func (o *operation) mine(ctx context.Context) (mysqldb.Grants, error) {
	if o.grants != nil {
		return o.grants, nil
	}
	var err error
	o.grants, err = o.ShowGrants(ctx, sqlname.Principal{})
	return o.grants, err
}

// shown is a name as it is typed in SQL, for people.
func shown(name sqlname.Fragment) string { return dialect.Shown(name) }

func role(name string) sqlname.Principal { return sqlname.Principal{User: name} }
