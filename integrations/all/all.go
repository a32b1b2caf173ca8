// Package all is the explicit list of the kinds that Lapse is built with.
package all

import (
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/postgresql"
)

// Kinds returns a registry of every kind.
func Kinds() integrations.Registry {
	return integrations.NewRegistry(
		postgresql.Kind(),
	)
}
