package rabbitmq

import (
	"context"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

// deleteAccount closes the account first; from then on nothing can be lost by
// beginning again.
func (i *integration) deleteAccount(ctx context.Context, who access.Account) (res integrations.DeleteResult, err error) {
	a, is, err := i.look(ctx, who)
	switch {
	case err != nil:
		return res, err
	case a.user == nil && a.stranger:
		return res, a.taken()
	case a.user == nil:
		return integrations.DeleteResult{Outcome: access.WasGone}, nil
	}
	after := a.user.with(nil)
	after.Hash = ""
	if err := i.save(ctx, *a.user, after); err != nil {
		return res, err
	}
	if err := i.apply(ctx, a.name, is, rights{}); err != nil {
		return res, err
	}
	if _, err := i.endSessions(ctx, a.name); err != nil {
		return res, err
	}
	if err := i.api.deleteUser(ctx, a.name); err != nil {
		return res, during("deleting user "+a.name, err)
	}
	switch a, err := i.find(ctx, who); {
	case err != nil:
		return res, err
	case a.user != nil:
		return res, access.Errorf(access.Conflict, "user %s is still there", a.name)
	}
	return integrations.DeleteResult{Outcome: access.Gone}, nil
}
