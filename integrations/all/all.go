// Package all is the explicit list of the kinds that Lapse is built with.
package all

import (
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/databricks"
	"github.com/lapse-access/lapse/integrations/github"
	"github.com/lapse-access/lapse/integrations/grafana"
	"github.com/lapse-access/lapse/integrations/mariadb"
	"github.com/lapse-access/lapse/integrations/mysql"
	"github.com/lapse-access/lapse/integrations/postgresql"
	"github.com/lapse-access/lapse/integrations/rabbitmq"
	"github.com/lapse-access/lapse/integrations/rediscloud"
)

// Kinds returns a registry of every kind.
func Kinds() integrations.Registry {
	return integrations.NewRegistry(
		databricks.Kind(),
		github.Kind(),
		grafana.Kind(),
		mariadb.Kind(),
		mysql.Kind(),
		postgresql.Kind(),
		rabbitmq.Kind(),
		rediscloud.Kind(),
	)
}
