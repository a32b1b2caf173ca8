package grafana

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/grafana/grafana-openapi-client-go/models"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/catalog"
)

// pageSize bounds what one page reads of folders, dashboards and teams.
const pageSize = 500

// cursor is where discovery goes on: type by type, each from its first page.
type cursor struct {
	Type  string `json:"type"`
	Page  int    `json:"page"`
	Count int    `json:"count"` // of the resources before
}

func readCursor(s string) (c cursor, err error) {
	if s == "" {
		return cursor{Type: order[0], Page: 1}, nil
	}
	if err := catalog.ReadCursor(s, &c); err != nil {
		return c, err
	}
	if !slices.Contains(order, c.Type) || c.Page < 1 {
		return c, catalog.BadCursor(s)
	}
	return c, nil
}

func (i *integration) discover(ctx context.Context, from string) (page access.Page, err error) {
	c, err := readCursor(from)
	if err != nil {
		return page, err
	}
	var found []access.Found
	more := false
	if i.wants(c.Type) {
		found, more, err = i.offered(ctx, c, &page)
	}
	switch access.KindOf(err) {
	case "":
	case access.Privilege, access.Limit:
		page.Warnings = append(page.Warnings, fmt.Sprintf("%s are left out: %v", sorts[c.Type].called, err))
	default:
		return page, err
	}
	if i.filter().Take(&page, &c.Count, found...) {
		return page, nil
	}
	next := cursor{Type: c.Type, Page: c.Page + 1, Count: c.Count}
	if !more {
		n := slices.Index(order, c.Type) + 1
		if n == len(order) {
			return page, nil
		}
		next.Type, next.Page = order[n], 1
	}
	page.Next = catalog.Cursor(next)
	return page, nil
}

// offered reads a page of one type of resource, with the levels that the
// connector can give.
func (i *integration) offered(ctx context.Context, c cursor, page *access.Page) (found []access.Found, more bool, err error) {
	if c.Type == typeOrganization {
		found, err = i.organizations(ctx)
		return found, false, err
	}
	s := sorts[c.Type]
	d, err := i.description(ctx, s)
	note := ""
	switch access.KindOf(err) {
	case "":
	case access.Unsupported:
		// They are there, and cannot be asked for: that is said where people ask.
		if e, ok := errors.AsType[*access.Error](err); ok {
			note = word(e.Text) + "."
		}
		page.Warnings, d = append(page.Warnings, note), &models.Description{}
	default:
		return nil, false, err
	}
	var levels []string
	for _, p := range s.levels {
		if slices.Contains(d.Permissions, word(p.Name)) {
			levels = append(levels, p.Name)
		}
	}
	odd := 0
	add := func(title, id, note string, levels []string, tags map[string]string) {
		f := access.Found{Resource: access.NewResource(c.Type, title, id), Permissions: levels, Tags: tags, Note: note}
		if _, err := parse([]access.Entitlement{{Resource: f.Resource, Permission: s.levels[0].Name}}); err != nil {
			odd++
			return
		}
		found = append(found, f)
	}
	switch c.Type {
	case typeDataSource:
		all, err := i.api.dataSources(ctx)
		if err != nil {
			return nil, false, err
		}
		for _, d := range all {
			add(d.Name, d.UID, note, levels, map[string]string{"type": d.Type})
		}
	case typeFolder, typeDashboard:
		hits, err := i.api.search(ctx, map[string]string{typeFolder: searchFolders, typeDashboard: searchDashboards}[c.Type], c.Page, pageSize)
		if err != nil {
			return nil, false, err
		}
		for _, h := range hits {
			add(h.Title, h.UID, note, levels, tagsOf(h))
		}
		more = len(hits) == pageSize
	case typeTeam:
		result, err := i.api.teams(ctx, c.Page, pageSize)
		if err != nil {
			return nil, false, err
		}
		for _, t := range result.Teams {
			if value(t.IsProvisioned) {
				add(value(t.Name), decimal(value(t.ID)), "An identity provider decides who belongs to this team.", nil, nil)
			} else {
				add(value(t.Name), decimal(value(t.ID)), note, levels, nil)
			}
		}
		more = len(result.Teams) == pageSize
	}
	if odd > 0 {
		page.Warnings = append(page.Warnings, fmt.Sprintf("%d %s are left out: Lapse does not take their name or id", odd, s.called))
	}
	return found, more, nil
}

// tagsOf are the tags of the form key=value, and the folder, which nobody can
// write there by a tag.
func tagsOf(h *models.Hit) map[string]string {
	tags := catalog.Tags(strings.Join(h.Tags, " "))
	delete(tags, "folder")
	if h.FolderTitle == "" {
		return tags
	}
	if tags == nil {
		tags = map[string]string{}
	}
	tags["folder"] = h.FolderTitle
	return tags
}

// organizations is the one of the token, with the roles that are not higher than
// the token's own. None can be asked for when nobody's role is Grafana's to change.
func (i *integration) organizations(ctx context.Context) ([]access.Found, error) {
	here, err := i.api.organization(ctx)
	if err != nil {
		return nil, err
	}
	all, err := i.api.people(ctx, "")
	if err != nil {
		return nil, err
	}
	own, err := i.ownRole(ctx)
	if err != nil {
		return nil, err
	}
	f := access.Found{Resource: access.NewResource(typeOrganization, here.Name, decimal(here.ID))}
	var notes []string
	if synced := syncedOf(all); synced != "" {
		notes = append(notes, synced)
	}
	if own != "" && own != "Admin" {
		notes = append(notes, "No role above "+own+" can be given: it is that of the connector.")
	}
	f.Note = strings.Join(notes, " ")
	for _, l := range sorts[typeOrganization].levels {
		if (own == "" || sorts[typeOrganization].ranks()(level(own), l.Name)) && slices.ContainsFunc(all, func(u *models.OrgUserDTO) bool { return !u.IsExternallySynced }) {
			f.Permissions = append(f.Permissions, l.Name)
		}
	}
	return []access.Found{f}, nil
}

// syncedOf says whose roles are not Grafana's to change; "" when all are.
func syncedOf(all []*models.OrgUserDTO) string {
	n := 0
	for _, u := range all {
		if u.IsExternallySynced {
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("The roles of %d of %d people come from an identity provider: a request for theirs fails.", n, len(all))
}

// ownRole is the basic role of the connector's service account, "" where that
// cannot be known.
func (i *integration) ownRole(ctx context.Context) (string, error) {
	role, err := func() (string, error) {
		me, err := i.api.me(ctx)
		if err != nil || me.Login == "" {
			return "", err
		}
		accounts, err := i.api.serviceAccounts(ctx, me.Name)
		if err != nil {
			return "", err
		}
		for _, a := range accounts.ServiceAccounts {
			if a.Login == me.Login {
				return a.Role, nil
			}
		}
		return "", nil
	}()
	switch access.KindOf(err) {
	case access.Auth, access.Retry, access.RateLimited:
		return "", err
	}
	return role, nil
}
