package databricks

import (
	"context"
	"fmt"
	"slices"

	"github.com/databricks/databricks-sdk-go/service/iamv2"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

func (i *integration) revoke(ctx context.Context, req integrations.RevokeRequest) (res integrations.RevokeResult, err error) {
	names, err := parse(req.End)
	if err != nil {
		return res, err
	}
	res.Wrote = wrote(req.Wrote)
	var errs []error
	for n, e := range req.End {
		var entry access.Entry
		var err error
		mine := ours(res.Wrote, e)
		switch {
		case slices.ContainsFunc(req.Remain, func(c access.Claim) bool { return c.Entitlement == e }):
			entry = access.Entry{Outcome: access.Lowered, Facts: []string{"it stays for another hold, or was held before"}}
		case len(mine) == 0:
			entry, err = i.notOurs(ctx, req.Account, names[n])
		default:
			entry, err = i.end(ctx, e, names[n], mine, res.Wrote)
		}
		if entry.Outcome == access.Lowered && len(mine) == 0 {
			res.Notes = append(res.Notes, entry.Facts...)
		}
		entry.Entitlement = e
		res.Entries, errs = append(res.Entries, entry), append(errs, err)
	}
	return res, access.Worst(errs...)
}

// notOurs says how it stands where Lapse wrote nothing.
func (i *integration) notOurs(ctx context.Context, a access.Account, name string) (access.Entry, error) {
	gone := access.Entry{Outcome: access.WasGone}
	user, err := i.known(ctx, a)
	if access.KindOf(err) == access.PersonMissing {
		gone.Facts = []string{err.Error()}
		return gone, nil
	}
	if err != nil {
		return gone, err
	}
	entry, err := i.look(ctx, name, user)
	switch {
	case err != nil:
		return gone, err
	case entry.Outcome == access.Granted:
		entry.Outcome = access.Lowered
		entry.Facts = append(entry.Facts, "Lapse did not put them there")
	case entry.Outcome == access.Gone:
		entry.Outcome = access.WasGone
	}
	return entry, nil
}

// end takes away what Lapse wrote, and forgets it as far as that was done.
func (i *integration) end(ctx context.Context, e access.Entitlement, name string, mine []membership, wrote map[string]string) (access.Entry, error) {
	sum := access.Entry{Outcome: access.WasGone}
	var errs []error
	for _, m := range mine {
		outcome, err := i.close(ctx, m)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		sum.Facts = append(sum.Facts, map[access.Outcome]string{
			access.Gone:        fmt.Sprintf("user %s was removed from group %s (%s)", m.user, name, m.group),
			access.WasGone:     fmt.Sprintf("user %s is no member of group %s (%s)", m.user, name, m.group),
			access.Propagating: fmt.Sprintf("group %s (%s) does not show yet that user %s was removed", name, m.group, m.user),
		}[outcome])
		delete(wrote, m.key(e))
		if outcome != access.WasGone && sum.Outcome != access.Propagating {
			sum.Outcome = outcome
		}
	}
	return sum, access.Worst(errs...)
}

// close removes one member, also where the reading does not show them: it may be
// older than the grant.
func (i *integration) close(ctx context.Context, m membership) (access.Outcome, error) {
	before, err := i.api.group(ctx, m.group)
	if access.KindOf(err) == access.ResourceMissing {
		return access.WasGone, i.missing(ctx, err)
	}
	if err != nil {
		return "", err
	}
	if before.has(m.user) {
		if err := i.takenOver(ctx, m, before.DisplayName); err != nil {
			return "", err
		}
	}
	err = i.changing(ctx, m, false, func(ctx context.Context) error {
		// What is not there any more is not an error: the next reading decides.
		if err := i.api.patch(ctx, "removing from", m.group, removal(m.user)); access.KindOf(err) != access.ResourceMissing {
			return err
		}
		return nil
	})
	if k := access.KindOf(err); before.ExternalId != "" && (k == access.Privilege || k == access.Invalid) {
		return "", access.Errorf(access.ExternallyManaged, "an identity provider keeps group %s since Lapse added user %s, and Databricks refuses the change: %w", before.DisplayName, m.user, err).
			WithRemedy("remove them there")
	}
	if err != nil {
		return "", err
	}
	shown, err := i.shows(ctx, m, false)
	switch {
	case err != nil:
		return "", err
	case !shown:
		return access.Propagating, nil
	case before.has(m.user):
		return access.Gone, nil
	}
	return access.WasGone, nil
}

// takenOver is an error where an identity provider has made the membership its
// own since.
func (i *integration) takenOver(ctx context.Context, m membership, name string) error {
	if i.sourceless.Load() {
		return nil
	}
	source, err := i.api.source(ctx, m.group, m.user)
	switch access.KindOf(err) {
	case "":
		if source == iamv2.GroupMembershipSourceIdentityProvider {
			return access.Errorf(access.ExternallyManaged, "an identity provider keeps user %s in group %s since Lapse added them", m.user, name).
				WithRemedy("remove them there")
		}
	case access.Unsupported:
		i.sourceless.Store(true)
	case access.ResourceMissing, access.Privilege, access.Invalid: // it is a beta: SCIM goes on without it
	default:
		return err
	}
	return nil
}
