package embedded

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/metrics"
	"go.temporal.io/server/common/persistence/sql"
	"go.temporal.io/server/common/persistence/sql/sqlplugin"
	sqliteplugin "go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/common/resolver"
	sqliteschema "go.temporal.io/server/schema/sqlite"
	"go.temporal.io/server/tools/common/schema"
	"golang.org/x/mod/semver"
	"google.golang.org/protobuf/types/known/durationpb"
)

// sqlConfig opens file so that nothing that the server acknowledged is lost at a
// power cut: without that, a grant could be on the target and not in Temporal.
func sqlConfig(file string) *config.SQL {
	return &config.SQL{
		PluginName:   sqliteplugin.PluginName,
		DatabaseName: (&url.URL{Path: file}).EscapedPath(), // it becomes part of a URI
		MaxConns:     1,
		ConnectAttributes: map[string]string{
			"mode":         "rwc",
			"journal_mode": "wal",
			"synchronous":  "FULL",
		},
	}
}

// prepareFile makes the file with its schema when it is missing, brings the
// schema of an older server up to ours, and makes the namespace.
func prepareFile(o Options, log *logger) error {
	if err := os.MkdirAll(filepath.Dir(o.File), 0o700); err != nil {
		return err
	}
	// SQLite gives the files that it makes beside this one the same mode.
	f, err := os.OpenFile(o.File, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	db, err := openSchema(o.File, log)
	if err != nil {
		return err
	}
	defer db.Close()
	tables, err := db.ListTables(versionName)
	if err != nil {
		return err
	}
	if len(tables) == 0 {
		err = db.create()
	} else {
		err = db.upgrade(log)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", o.File, err)
	}

	namespace, err := sqliteschema.NewNamespaceConfig(clusterName, o.Namespace, false, o.SearchAttributes)
	if err != nil {
		return err
	}
	namespace.Detail.Config.Retention = durationpb.New(retention)
	return sqliteschema.CreateNamespaces(sqlConfig(o.File), namespace)
}

// schemaDB is the view of a file that Temporal's schema tool works on. The server
// itself keeps no schema version in SQLite, and the tool would keep it under the
// path of the file, which may change; here it has a constant name.
type schemaDB struct{ sqlplugin.AdminDB }

const versionName = "temporal"

var _ schema.DB = schemaDB{}

func openSchema(file string, log *logger) (schemaDB, error) {
	db, err := sql.NewSQLAdminDB(sqlplugin.DbKindUnknown, sqlConfig(file), resolver.NewNoopResolver(), log, metrics.NoopMetricsHandler)
	return schemaDB{db}, err
}

// create makes the schema as one transaction, so that an interrupted start leaves
// an empty file. The transaction holds because there is one connection only.
func (db schemaDB) create() error {
	if err := db.Exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := errors.Join(
		sqliteschema.SetupSchemaOnDB(db.AdminDB),
		db.CreateSchemaVersionTables(),
		db.UpdateSchemaVersion(sqliteschema.Version, sqliteschema.Version),
	); err != nil {
		return errors.Join(err, db.Exec("ROLLBACK"))
	}
	return db.Exec("COMMIT")
}

func (db schemaDB) upgrade(log *logger) error {
	version, err := db.ReadSchemaVersion()
	if err != nil {
		return fmt.Errorf("it was not made by Lapse, or is damaged: move it away to begin with a new one (%w)", err)
	}
	if semver.Compare("v"+version, "v"+sqliteschema.Version) > 0 {
		return fmt.Errorf("it is of a newer Lapse (schema %s, this one knows %s): start that version, or restore a backup", version, sqliteschema.Version)
	}
	task := schema.NewUpdateSchemaTask(db, &schema.UpdateConfig{SchemaName: "sqlite/v3/temporal"}, log)
	if err := task.Run(); err != nil {
		return fmt.Errorf("bring it from schema %s to %s: %w", version, sqliteschema.Version, err)
	}
	return nil
}

func (db schemaDB) ReadSchemaVersion() (string, error) {
	return db.AdminDB.ReadSchemaVersion(versionName)
}

func (db schemaDB) UpdateSchemaVersion(version, minCompatible string) error {
	return db.AdminDB.UpdateSchemaVersion(versionName, version, minCompatible)
}

func (db schemaDB) DropAllTables() error { return errors.ErrUnsupported }
func (db schemaDB) Type() string         { return "sql" }
func (db schemaDB) Close()               { db.AdminDB.Close() }

// addSearchAttributes adds what an existing namespace does not have yet. An
// attribute of another type than asked for is an error: its values are there.
func addSearchAttributes(ctx context.Context, o Options, log *logger) error {
	c, err := client.DialContext(ctx, client.Options{HostPort: o.Frontend, Namespace: o.Namespace, Logger: log.slog})
	if err != nil {
		return err
	}
	defer c.Close()
	list, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: o.Namespace})
	if err != nil {
		return err
	}
	missing := map[string]enumspb.IndexedValueType{}
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(o.SearchAttributes)) {
		want := o.SearchAttributes[name]
		have, ok := list.CustomAttributes[name]
		switch {
		case !ok:
			missing[name] = want
		case have != want:
			wrong = append(wrong, fmt.Sprintf("%s is %v instead of %v", name, have, want))
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("search attributes of namespace %s: %s", o.Namespace, strings.Join(wrong, ", "))
	}
	if len(missing) == 0 {
		return nil
	}
	_, err = c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{Namespace: o.Namespace, SearchAttributes: missing})
	return err
}
