package grafana

import (
	"context"

	"github.com/grafana/grafana-openapi-client-go/models"

	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/httpapi"
)

// told is what write sends. Grafana takes people by their number.
func told(t integrations.Target, req integrations.GrantRequest) ([]string, error) {
	c, err := integrations.ConfigOf[Config](t)
	if err != nil {
		return nil, err
	}
	told := &httpapi.Told{}
	i := &integration{id: t.ID, config: *c}
	if i.api, err = newAPI(c, &Secret{}, told); err != nil {
		return nil, err
	}
	want, err := parse(req.Want)
	if err != nil {
		return nil, err
	}
	u := &models.OrgUserDTO{}
	if u.UserID, _ = ids(req.Account); u.UserID == 0 {
		u.UserID = told.Number(integrations.Found("id of " + req.Account.Email))
	}
	for _, t := range want {
		if err := i.write(context.Background(), t, u, "", t.Permission); err != nil {
			return nil, err
		}
	}
	return told.Lines(), nil
}
