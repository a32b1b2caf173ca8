package portal

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"go.temporal.io/sdk/client"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/engine"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/portal/api"
)

// rotateCall asks for a rotation.
type rotateCall struct {
	ByName
	Body api.Rotate
}

func (p *Portal) rotate(ctx context.Context, c *caller, in *rotateCall) (out access.RotationReport, err error) {
	row, err := c.owned(in.Name)
	if err != nil {
		return out, err
	}
	if err := c.open(row.ID); err != nil {
		return out, err
	}
	args := access.RotationArgs{Integration: row.ID, Now: true, Secret: in.Body.Secret, Exposed: in.Body.Exposed, Actor: c.ID}
	what := "the credential of everybody"
	switch {
	case in.Body.Secret && in.Body.Person != "":
		return out, wrongs("", api.Wrong{Location: "body.person", Message: "name a person, or the connector's own secret, and not both"})
	case in.Body.Secret:
		what = "the connector's own secret"
	case in.Body.Person != "":
		person, err := p.opts.Store.PersonByEmail(ctx, in.Body.Person)
		if errors.Is(err, store.ErrNotFound) {
			return out, wrongs("", api.Wrong{Location: "body.person", Message: "nobody in the directory has this address"})
		}
		if err != nil {
			return out, err
		}
		args.AccountID, what = access.AccountID(row.ID, person.ID), "the credential of "+person.Email
	}
	event := access.Event{Key: "rotation/" + row.ID + "/" + access.NewID("rot"), Kind: "rotation.asked", At: c.now.UTC(), Actor: c.ID, Integration: row.ID,
		Text: fmt.Sprintf("%s has %s changed on %s", c.Email, what, row.Name)}
	if in.Body.Exposed {
		event.Text += ", because somebody else has seen it"
	}
	if err := p.opts.Store.Append(ctx, event); err != nil {
		return out, err
	}
	ctx, cancel := context.WithTimeout(ctx, longTimeout)
	defer cancel()
	err = p.await(ctx, row, "rotation", &out, func() (client.WorkflowRun, error) { return engine.StartRotation(ctx, p.opts.Temporal, args) })
	if err == nil && out.Stuck != "" {
		err = problem(http.StatusBadGateway, "mend that, and do it again: the old value and the new one are both kept until one is proven", "%s", out.Secret)
	}
	return out, err
}
