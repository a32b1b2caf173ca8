package databricks

import (
	"cmp"
	"context"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/catalog"
)

// cursor is where discovery goes on.
type cursor struct {
	From  int64 `json:"from"`  // the next group's number
	Count int   `json:"count"` // of the groups before
}

func (i *integration) discover(ctx context.Context, from string) (page access.Page, err error) {
	at := cursor{From: 1}
	if from != "" {
		if err := catalog.ReadCursor(from, &at); err != nil {
			return page, err
		}
		if at.From < 1 {
			return page, catalog.BadCursor(from)
		}
	}
	read, err := i.api.groups(ctx, "", at.From, pageSize)
	if err != nil {
		return page, err
	}
	var found []access.Found
	for _, g := range read.Resources {
		if g.DisplayName != "" && idForm.MatchString(g.Id) {
			found = append(found, i.found(group{g}))
		}
	}
	if i.filter().Take(&page, &at.Count, found...) || len(read.Resources) == 0 {
		return page, nil
	}
	at.From += int64(len(read.Resources))
	page.Next = catalog.Cursor(at)
	return page, nil
}

// found is a group in the catalog. One that is kept elsewhere says so; those of
// the system and of a workspace are not in it.
func (i *integration) found(g group) access.Found {
	f := access.Found{Resource: access.NewResource(typeGroup, g.DisplayName)}
	err := i.refuses(g)
	switch access.KindOf(err) {
	case access.Unsupported:
		return f
	case "":
		f.Permissions = []string{member}
	default:
		f.Note = err.Error()
	}
	if len(g.Roles) > 0 {
		f.Tags = map[string]string{"roles": roles(g.Roles)}
		f.Note = cmp.Or(f.Note, "it has a role over the whole account: "+roles(g.Roles))
	}
	return f
}
