package github

import (
	"cmp"
	"context"
	"strconv"
	"strings"

	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/httpapi"
)

// told is what the places write. GitHub takes people by their login, and roles of
// the organization by their number. An owner of the organization is made a member
// of a team, whatever is wanted.
func told(t integrations.Target, req integrations.GrantRequest) ([]string, error) {
	c, err := integrations.ConfigOf[Config](t)
	if err != nil {
		return nil, err
	}
	told := &httpapi.Told{}
	i := &integration{instance: t.Instance, id: t.ID, config: *c, pace: new(pace)}
	i.config.BetweenChanges = 0
	if err := i.connectBy(strings.TrimSuffix(c.APIURL, "/")+"/", told); err != nil {
		return nil, err
	}
	want, err := i.parse(req.Want)
	if err != nil {
		return nil, err
	}
	_, login, _ := strings.Cut(req.Account.Name, "+")
	p := person{login: cmp.Or(login, integrations.Found("login of "+req.Account.Email))}
	for _, t := range want {
		names, err := t.Resource.Names()
		if err != nil {
			return nil, err
		}
		s := state{name: names[0], home: c.Organization, id: strconv.FormatInt(told.Number(integrations.Found("id of "+names[0])), 10)}
		if err := i.place(t.at, "", false).write(context.Background(), p, s, t.level); err != nil {
			return nil, err
		}
	}
	return told.Lines(), nil
}
