package postgresql

import (
	_ "embed" // the statements in sql/
	"time"
)

// The catalog reads, each with the row that it returns; the fields are in the
// order of the columns.
var (
	//go:embed sql/server.sql
	serverSQL string
	//go:embed sql/principals.sql
	principalsSQL string
	//go:embed sql/memberships.sql
	membershipsSQL string
	//go:embed sql/role.sql
	roleSQL string
	//go:embed sql/objects.sql
	objectsSQL string
	//go:embed sql/owners.sql
	ownersSQL string
	//go:embed sql/through.sql
	throughSQL string
	//go:embed sql/sessions.sql
	sessionsSQL string
	//go:embed sql/terminate.sql
	terminateSQL string
	//go:embed sql/dependencies.sql
	dependenciesSQL string
	//go:embed sql/owned.sql
	ownedSQL string
	//go:embed sql/marked.sql
	markedSQL string
	//go:embed sql/databases.sql
	databasesSQL string
	//go:embed sql/schemas.sql
	schemasSQL string
	//go:embed sql/tables.sql
	tablesSQL string
)

// only is a row of one column.
type only[T any] struct{ Value T }

// principalRow is a role as a login.
type principalRow struct {
	OID        int64
	Name       string
	CanLogin   bool
	ValidUntil *time.Time // nil: never, or for ever
	Comment    string
}

// membership is one grantor's grant of a role to another.
type membership struct {
	Member   int64
	Role     string
	Comment  string
	Grantor  string
	Inherits bool
}

// roleRow is a role as something to request.
type roleRow struct {
	OID      int64
	Name     string
	CanLogin bool
	Comment  string
	Powers   []string
	Mine     bool     // the connector may give it
	Grantors []string // in whose name
	Members  int32    // that have its privileges
}

// object is something in a database that an entitlement covers.
type object struct {
	Kind      string // database, schema, table, sequence or routine
	Schema    string
	Name      string // of a routine: its signature as the server quotes it
	Owner     string
	Extension bool // it belongs to an extension
	Wanted    int32
	Held      []string
	Grantable bool
}

type owner struct {
	Name string
	Mine bool // the connector may act for it
}

// source is a role through which another one has a privilege.
type source struct {
	Name    string
	Comment string
}

// dependency counts what depends on a role.
type dependency struct {
	Role     int64
	Database string // "" for what belongs to the whole server
	Local    bool
	Kind     string // owned, privilege or other
	Class    string // the catalog it stands in
	Count    int32
}

type markedRow struct {
	OID      int64
	Name     string
	CanLogin bool
	Comment  string
	Mine     bool  // the connector may change it
	Members  int32 // that have its privileges
}

type databaseRow struct {
	Name   string
	Mine   bool // the connector may connect
	Public bool // everybody may
}

// schemaRow is a schema, or with an empty name the database itself.
type schemaRow struct {
	Name        string
	Comment     string
	Permissions []string
}

type tableRow struct {
	Schema      string
	Name        string
	Comment     string
	Permissions []string
}
