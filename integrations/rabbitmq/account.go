package rabbitmq

import (
	"cmp"
	"context"
	"net/url"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/principal"
)

// The mark is tags, which give no right when RabbitMQ does not know them. It has
// no number of the operation: the broker never forgets a tag that it once saw.
const (
	markTag        = "lapse"
	instancePrefix = "lapse-instance="
	accountPrefix  = "lapse-account="
	// gavePrefix stands before a tag that Lapse gave the account.
	gavePrefix = "lapse-gave="
)

// account is what the broker has of a person: the user with our mark, and whether
// a stranger has the name.
type account struct {
	access.Account
	name     string // that it has, or would be given
	user     *user
	stranger bool
}

// mark is the tags of an account.
func (i *integration) mark(accountID string) tags {
	return tags{markTag, instancePrefix + url.PathEscape(i.instance), accountPrefix + url.PathEscape(accountID)}
}

// owner is the account of which a user carries our mark, and "" for strangers.
func (i *integration) owner(u user) string {
	for _, tag := range u.Tags {
		if text, ok := strings.CutPrefix(tag, accountPrefix); ok {
			id, err := url.PathUnescape(text)
			integration, _, splits := access.SplitAccountID(id)
			if err == nil && splits == nil && integration == i.id && !slices.ContainsFunc(i.mark(id), func(m string) bool { return !slices.Contains(u.Tags, m) }) {
				return id
			}
		}
	}
	return ""
}

// has is true for a tag of a user that is there.
func (u *user) has(tag string) bool { return u != nil && slices.Contains(u.Tags, tag) }

// gave is true for a tag that Lapse gave.
func (u *user) gave(tag string) bool { return u.has(tag) && u.has(gavePrefix+tag) }

// given are the tags that Lapse gave.
func (u *user) given() (list []string) {
	for _, tag := range u.Tags {
		if u.gave(tag) {
			list = append(list, tag)
		}
	}
	return list
}

// with is the user with exactly these tags given by Lapse. What it was given by
// somebody else stays.
func (u user) with(given []string) user {
	kept := slices.DeleteFunc(slices.Clone(u.Tags), func(tag string) bool {
		return u.gave(tag) || strings.HasPrefix(tag, gavePrefix)
	})
	for _, tag := range given {
		if !slices.Contains(kept, tag) {
			kept = append(kept, tag, gavePrefix+tag)
		}
	}
	u.Tags = kept
	return u
}

// unfound is an account of which nothing was read.
func (i *integration) unfound(a access.Account) (*account, error) {
	integration, person, err := access.SplitAccountID(a.ID)
	if err != nil || integration != i.id {
		return nil, access.Errorf(access.Invalid, "account %s is not of this integration", a.ID)
	}
	email := a.Email
	if i.config.OpaqueNames {
		email = ""
	}
	return &account{Account: a, name: cmp.Or(a.Name, principal.Account(i.instance, integration, person, email))}, nil
}

// find reads the account by its mark, whatever its name is.
func (i *integration) find(ctx context.Context, a access.Account) (*account, error) {
	found, err := i.unfound(a)
	if err != nil {
		return nil, err
	}
	u, err := i.api.user(ctx, found.name)
	switch {
	case err == nil && i.owner(u) == a.ID:
		found.user = &u
		return found, nil
	case err == nil:
		found.stranger = true
	case access.KindOf(err) != access.ResourceMissing:
		return nil, during("reading account "+found.name, err)
	}
	all, err := i.api.users(ctx)
	if err != nil {
		return nil, during("reading the users", err)
	}
	for _, u := range all {
		if i.owner(u) == a.ID {
			found.user, found.name = &u, u.Name
		}
	}
	return found, nil
}

// taken is the error about a user that has the account's name and not our mark.
func (a *account) taken() error {
	return access.Errorf(access.NameTaken, "user %s does not carry the mark of this account", a.name).
		WithRemedy("delete the user that is in the way, or give it another name; if somebody changed the tags of Lapse's user, put them back")
}

// save writes a user unless it is as it was.
func (i *integration) save(ctx context.Context, before, after user) error {
	if before.Hash == after.Hash && slices.Equal(before.Tags, after.Tags) {
		return nil
	}
	return during("writing user "+after.Name, i.api.putUser(ctx, after))
}

// accountsPage bounds a page of Accounts.
const accountsPage = 200

func (i *integration) accounts(ctx context.Context, cursor string) (page access.PrincipalPage, err error) {
	all, err := i.api.users(ctx)
	if err != nil {
		return page, during("reading the users", err)
	}
	all = slices.DeleteFunc(all, func(u user) bool { return u.Name <= cursor || i.owner(u) == "" })
	slices.SortFunc(all, func(a, b user) int { return strings.Compare(a.Name, b.Name) })
	if len(all) > accountsPage {
		all = all[:accountsPage]
		page.Next = all[accountsPage-1].Name
	}
	permissions, topics, err := i.api.records(ctx, "")
	if err != nil {
		return page, during("reading the permissions", err)
	}
	byUser := map[string][2][]record{}
	for n, list := range [][]record{permissions, topics} {
		for _, r := range list {
			both := byUser[r.User]
			both[n] = append(both[n], r)
			byUser[r.User] = both
		}
	}
	for _, u := range all {
		page.Principals = append(page.Principals, i.principal(u, byUser[u.Name][0], byUser[u.Name][1]))
	}
	return page, nil
}

// principal is what one of our accounts holds.
func (i *integration) principal(u user, permissions, topics []record) access.Principal {
	p := access.Principal{Name: u.Name, AccountID: i.owner(u), Enabled: u.open(permissions)}
	p.Entitlements, p.Foreign = i.entitlements(of(permissions, topics))
	for _, tag := range u.Tags {
		switch {
		case u.gave(tag):
			p.Entitlements = append(p.Entitlements, access.Entitlement{Integration: i.id, Resource: access.NewResource(typeTag, tag), Permission: member})
		case tag != markTag && !strings.HasPrefix(tag, markTag+"-"):
			p.Foreign = append(p.Foreign, "has the tag "+tag+", which Lapse did not give")
		}
	}
	return p
}

// open is true for an account that holds something, or could still log in.
func (u *user) open(permissions []record) bool {
	return u.Hash != "" || len(permissions) > 0 || len(u.given()) > 0
}
