package rabbitmq

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

// witness reads the records and tries their expressions on names, with the
// connector's login. What a permission is about stands here a second time, on
// purpose.
type witness struct{ i *integration }

// newWitness makes a witness. It does not connect.
func newWitness(t integrations.Target) (integrations.Witness, error) {
	made, err := New(t)
	if err != nil {
		return nil, err
	}
	return witness{made.(*integration)}, nil
}

// given are the tags of which another one gives everything:
// https://www.rabbitmq.com/docs/management#permissions
var given = map[string][]string{
	"administrator": {"management", "policymaker", "monitoring"},
	"monitoring":    {"management"},
	"policymaker":   {"management"},
}

// Can looks at every name that the permission is about: for a virtual host at
// names that nothing has.
func (w witness) Can(ctx context.Context, a access.Account, e access.Entitlement) (bool, error) {
	names, err := e.Resource.Names()
	if err != nil {
		return false, access.Errorf(access.Invalid, "%v", err)
	}
	if a.Name == "" {
		return false, nil // RabbitMQ gives nothing to everybody
	}
	u, err := w.i.api.user(ctx, a.Name)
	if access.KindOf(err) == access.ResourceMissing {
		return false, nil
	}
	if err != nil || e.Resource.Type == "tag" {
		return err == nil && slices.ContainsFunc(u.Tags, func(tag string) bool { return tag == names[0] || slices.Contains(given[tag], names[0]) }), err
	}
	permissions, topics, err := w.i.api.records(ctx, a.Name)
	if err != nil {
		return false, err
	}
	name, key := "lapse-witness", "lapse.witness"
	if len(names) > 1 {
		name = names[1]
	}
	if len(names) > 2 {
		words := strings.Split(names[2], ".")
		for n, w := range words {
			if w == "*" || w == "#" {
				words[n] = "witness"
			}
		}
		key = strings.Join(words, ".")
	}
	may := map[string]bool{}
	for _, r := range permissions {
		if r.Vhost == names[0] {
			may["configure"], may["write"], may["read"] = matches(r.Configure, name), matches(r.Write, name), matches(r.Read, name)
		}
	}
	for _, r := range topics {
		if r.Vhost == names[0] && r.Exchange == name && e.Resource.Type != "queue" {
			may["write"], may["read"] = may["write"] && matches(r.Write, key), may["read"] && matches(r.Read, key)
		}
	}
	switch e.Permission {
	case "read", "consume", "bind_from":
		return may["read"], nil
	case "write", "publish":
		return may["write"], nil
	case "configure":
		return may["configure"], nil
	case "read_write":
		return may["read"] && may["write"], nil
	}
	return may["configure"] && may["read"] && may["write"], nil
}

func matches(expression, name string) bool {
	r, err := regexp.Compile(expression)
	return err == nil && expression != "" && r.MatchString(name)
}

// CanLogin is no when the broker refuses the password.
func (w witness) CanLogin(ctx context.Context, c integrations.Credential) (bool, error) {
	api, err := w.i.as(c.Username, c.Password)
	if err != nil {
		return false, err
	}
	defer api.Close()
	_, err = api.whoami(ctx)
	switch access.KindOf(err) {
	case access.Auth:
		return false, nil
	case "", access.Privilege:
		return true, nil // a user who may not use the API is let in all the same
	}
	return false, err
}

// Exists looks for a user.
func (w witness) Exists(ctx context.Context, name string) (bool, error) {
	_, err := w.i.api.user(ctx, name)
	if access.KindOf(err) == access.ResourceMissing {
		return false, nil
	}
	return err == nil, err
}

// Close closes connections that are not in use.
func (w witness) Close() error { return w.i.Close() }
