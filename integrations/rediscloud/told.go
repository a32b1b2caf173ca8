package rediscloud

import (
	"context"
	"time"

	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/httpapi"
	"github.com/lapse-access/lapse/internal/turn"
)

// told is what open writes. The API takes databases by numbers and regions, and
// not a role of the customer but its rules: only it knows which they are.
func told(t integrations.Target, req integrations.GrantRequest) ([]string, error) {
	c, err := integrations.ConfigOf[Config](t)
	if err != nil {
		return nil, err
	}
	told := &httpapi.Told{Answer: `{"taskId": "told", "status": "` + completed + `"}`}
	at := time.Now()
	i := &integration{instance: t.Instance, id: t.ID, config: *c, account: &account{Turn: turn.New(), gate: turn.New()},
		clock:    clock{now: func() time.Time { return at }, sleep: func(context.Context, time.Duration) error { return nil }},
		password: func(string) string { return integrations.HiddenSecret }}
	if i.api, err = httpapi.New(httpapi.Options{URL: c.APIURL, Told: told}); err != nil {
		return nil, err
	}
	want, err := i.parse(req.Want)
	if err != nil {
		return nil, err
	}
	all := grants{}
	for _, t := range want {
		subscription, database, rule := "id of the subscription "+t.subscription, "id of the database "+t.database+", and its regions where it has some", t.rule
		if t.role != "" {
			subscription, database, rule = "ids of the subscriptions of the role "+t.role, "ids of the databases of the role "+t.role, integrations.Found("rules of the role "+t.role)
		}
		p := place{subscription: int(told.Number(integrations.Found(subscription))), database: int(told.Number(integrations.Found(database)))}
		if err := all.add(p, rule); err != nil {
			return nil, err
		}
	}
	err = i.open(context.Background(), req.Account, i.own(state{}, req.Account), all, new([]string))
	return told.Lines(), err
}
