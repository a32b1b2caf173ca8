package grafana

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/grafana/grafana-openapi-client-go/models"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/slot"
)

func (i *integration) revoke(ctx context.Context, req integrations.RevokeRequest, end []target) (res integrations.RevokeResult, err error) {
	res.Wrote = copyOf(req.Wrote)
	var errs []error
	for _, t := range end {
		entry, note, err := i.end(ctx, req, res.Wrote, t)
		res.Entries, errs = append(res.Entries, entry), append(errs, err)
		if note != "" {
			res.Notes = append(res.Notes, note)
		}
	}
	return res, access.Worst(errs...)
}

// end lowers a slot to what is owed, unless somebody else has changed it since.
func (i *integration) end(ctx context.Context, req integrations.RevokeRequest, wrote map[string]string, t target) (entry access.Entry, note string, err error) {
	entry = access.Entry{Entitlement: t.Entitlement, Outcome: access.Blocked}
	u, before, there, err := i.reading(ctx, req.Account, t)
	if err != nil {
		return entry, "", err
	}
	covers := t.ranks()
	owed := covers.Owed(on(req.Remain, t), t.Resource)
	remains := func() {
		if wrote[t.key()] = owed.Holds; owed.Holds == "" {
			delete(wrote, t.key())
		}
	}
	wasGone := access.Entry{Entitlement: t.Entitlement, Outcome: access.WasGone, Facts: []string{absence}}
	if !there {
		remains()
		return wasGone, "", nil
	}
	next := covers.End(before.own, wrote[t.key()], owed)
	if next.Raised {
		note = fmt.Sprintf("drift: %s has %s on %s, which somebody else gave", u.Login, before.own, t.Resource)
	}
	if next.Change {
		why, err := i.lower(ctx, t, u, before, next)
		if access.KindOf(err) == access.PersonMissing { // left, and Grafana still shows what they had
			if err = i.absent(ctx, req.Account); err == nil {
				remains()
				return wasGone, note, nil
			}
		}
		if err != nil {
			return entry, note, err
		}
		if why != "" {
			entry.Facts = []string{why}
			return entry, note, nil
		}
	}
	remains()
	_, after, there, err := i.reading(ctx, req.Account, t)
	w, beside := after.by(t, t.Permission, nil)
	switch {
	case err != nil:
		return entry, note, err
	case !there:
		entry.Outcome, entry.Facts = access.Gone, []string{absence}
	case next.Change && !covers(owed.All, after.own):
		return entry, note, unchanged(t)
	case covers(after.own, t.Permission), covers(owed.All, t.Permission):
		entry.Outcome, entry.Facts = access.Lowered, []string{"the level is " + cmp.Or(after.own, "none")}
	case beside:
		entry.Outcome, entry.Facts = access.Lowered, []string{"the person's own level is gone, and they have " + w.level + " " + w.how}
	case next.Change:
		entry.Outcome, entry.Facts = access.Gone, []string{"Grafana may remember the level for up to a minute"}
		if after.own != "" {
			entry.Facts = append(entry.Facts, "the level is "+after.own)
		}
	default:
		entry.Outcome = access.WasGone
	}
	return entry, note, nil
}

// lower writes what is owed, or says why that cannot be: the last Admin of an
// organization stays one.
func (i *integration) lower(ctx context.Context, t target, u *models.OrgUserDTO, before standing, next slot.End) (why string, err error) {
	if t.Resource.Type != typeOrganization || before.own != "admin" {
		return "", i.write(ctx, t, u, before.own, next.Write)
	}
	const last = "this is the last Admin of the organization: make somebody else one"
	err = i.roles.Run(ctx, func(ctx context.Context) error {
		why = ""
		all, err := i.api.people(ctx, "")
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(all, func(o *models.OrgUserDTO) bool { return o.Role == "Admin" && !o.IsDisabled && o.UserID != u.UserID }) {
			why = last
			return nil
		}
		if err = i.write(ctx, t, u, before.own, next.Write); access.KindOf(err) == access.Limit {
			why, err = last, nil // Grafana says so itself
		}
		return err
	})
	return why, err
}
