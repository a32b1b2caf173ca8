package rediscloud

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/principal"
)

// ourPrefix begins the name of every role and user that a Lapse made.
const ourPrefix = "lapse_"

// personForm is what ids of people look like; they stand in names of roles.
var personForm = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)

// roleName is the mark: it holds this Lapse, this integration and the person.
func (i *integration) roleName(person string) string { return i.rolePrefix() + person }

func (i *integration) rolePrefix() string {
	sum := sha256.Sum256([]byte(i.instance + "\x00" + i.id + "\x00"))
	return ourPrefix + hex.EncodeToString(sum[:])[:12] + "_"
}

// state is what there is in the account of Redis Cloud.
type state struct {
	users []user
	roles []role
}

func (i *integration) look(ctx context.Context) (s state, err error) {
	if s.users, err = i.users(ctx); err != nil {
		return s, err
	}
	s.roles, err = i.roles(ctx)
	return s, err
}

// owned is a person's account, as far as it is there.
type owned struct {
	state
	name     string // of the user that is there or would be made
	roleName string
	user     *user
	role     *role // the account's own, also when the user has another one
	stranger bool  // a user of our name is there and is not ours
	sharers  []string
}

// find looks for a person's account.
func (i *integration) find(ctx context.Context, a access.Account) (owned, error) {
	if !personForm.MatchString(a.PersonID) {
		return owned{}, access.Errorf(access.Invalid, "%q is no id of a person", a.PersonID)
	}
	s, err := i.look(ctx)
	return i.own(s, a), err
}

func (i *integration) own(s state, a access.Account) owned {
	o := owned{state: s, name: principal.Account(i.instance, i.id, a.PersonID, a.Email), roleName: i.roleName(a.PersonID)}
	if n := slices.IndexFunc(s.roles, func(r role) bool { return r.Name == o.roleName }); n >= 0 {
		o.role = &s.roles[n]
	}
	// The readable part of a user's name follows the person's address; the rest stays.
	bare := principal.Account(i.instance, i.id, a.PersonID, "")
	digest := "_" + strings.TrimPrefix(bare, ourPrefix)
	for n, u := range s.users {
		named := u.Name == a.Name || strings.HasPrefix(u.Name, ourPrefix) && strings.HasSuffix(u.Name, digest)
		switch {
		case named && o.role != nil:
			o.user, o.name = &s.users[n], u.Name
		case named:
			o.stranger = true
		case o.role != nil && u.Role == o.roleName:
			o.sharers = append(o.sharers, u.Name)
		}
	}
	return o
}

func (o owned) taken() error {
	return access.Errorf(access.NameTaken, "user %s is there and does not carry our mark, the role %s", o.name, o.roleName).
		WithRemedy("delete or rename the user in Data Access Control")
}

// holding is the role by which the user has what it has.
func (o owned) holding() *role {
	if o.user == nil {
		return nil
	}
	n := slices.IndexFunc(o.roles, func(r role) bool { return r.Name == o.user.Role })
	if n < 0 {
		return nil
	}
	return &o.roles[n]
}

// unsettled is what of the account is in the middle of a change, "" when nothing
// is.
func (o owned) unsettled() (string, error) {
	statuses := map[string]string{}
	if o.user != nil {
		statuses["user "+o.user.Name] = o.user.Status
	}
	for _, r := range []*role{o.role, o.holding()} {
		if r != nil {
			statuses["role "+r.Name] = r.Status
		}
	}
	for what, status := range statuses {
		switch status {
		case active:
		case pending, deleting:
			return what + " is " + status, nil
		default:
			return "", access.Errorf(access.Unknown, "%s has the status %q", what, status).
				WithRemedy("look at it in Data Access Control; a rule with a fault stops the role")
		}
	}
	return "", nil
}
