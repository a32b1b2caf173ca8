package databricks

import (
	"context"
	"strconv"

	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/httpapi"
)

// told is what add sends. Databricks takes groups and people by their numbers.
func told(t integrations.Target, req integrations.GrantRequest) ([]string, error) {
	c, err := integrations.ConfigOf[Config](t)
	if err != nil {
		return nil, err
	}
	told := &httpapi.Told{}
	i := &integration{id: t.ID, config: *c}
	if i.api, err = newAPI(*c, Secret{}, told); err != nil {
		return nil, err
	}
	names, err := parse(req.Want)
	if err != nil {
		return nil, err
	}
	number := func(what string) string { return strconv.FormatInt(told.Number(integrations.Found("id of "+what)), 10) }
	user := req.Account.Name
	if !idForm.MatchString(user) {
		user = number(req.Account.Email)
	}
	for _, name := range names {
		if err := i.add(context.Background(), membership{number("the group " + name), user}); err != nil {
			return nil, err
		}
	}
	return told.Lines(), nil
}
