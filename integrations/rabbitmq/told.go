package rabbitmq

import (
	"context"

	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/httpapi"
)

// told is what open writes.
func told(t integrations.Target, req integrations.GrantRequest) ([]string, error) {
	c, err := integrations.ConfigOf[Config](t)
	if err != nil {
		return nil, err
	}
	i := &integration{instance: t.Instance, id: t.ID, config: *c, base: c.base(), told: &httpapi.Told{}}
	if i.api, err = i.as("", ""); err != nil {
		return nil, err
	}
	want, err := i.parseAll(req.Want)
	if err != nil {
		return nil, err
	}
	a, err := i.unfound(req.Account)
	if err == nil {
		_, err = i.open(context.Background(), a, rights{}, wanted(want), want)
	}
	return i.told.Lines(), err
}
