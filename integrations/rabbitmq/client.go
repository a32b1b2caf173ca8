package rabbitmq

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/httpapi"
)

// client talks to the management API:
// https://www.rabbitmq.com/docs/http-api-reference
type client struct{ *httpapi.Client }

// as is the API with a login.
func (i *integration) as(username string, password integrations.Secret) (*client, error) {
	api, err := httpapi.New(httpapi.Options{
		URL: i.base, CACertificate: i.config.CACertificate, SkipVerify: i.config.TLSSkipVerify,
		Plain: true, // where somebody wrote http; Check warns
		Authorize: func(r *http.Request) {
			r.SetBasicAuth(username, password.Reveal())
			if r.Method == http.MethodDelete {
				r.Header.Set("X-Reason", "Lapse ends this access") // what a closed connection is told
			}
		},
		Failure: func(r *httpapi.Response) *access.Error { return failure(r, username) },
		Told:    i.told,
	})
	if err != nil {
		return nil, err
	}
	return &client{api}, nil
}

func (c *client) get(ctx context.Context, into any, query url.Values, path ...string) error {
	r, err := c.Do(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return err
	}
	return r.JSON(into)
}

func (c *client) put(ctx context.Context, in any, path ...string) error {
	_, err := c.Do(ctx, http.MethodPut, path, nil, in)
	return err
}

// remove is content with what is not there.
func (c *client) remove(ctx context.Context, path ...string) error {
	_, err := c.Do(ctx, http.MethodDelete, path, nil, nil)
	if access.KindOf(err) == access.ResourceMissing {
		return nil
	}
	return err
}

// whoami is who logs in, and with which tags.
func (c *client) whoami(ctx context.Context) (u user, err error) {
	err = c.get(ctx, &u, nil, "whoami")
	return u, err
}

// user is a user of the broker.
type user struct {
	Name      string `json:"name"`
	Hash      string `json:"password_hash"`
	Algorithm string `json:"hashing_algorithm"`
	Tags      tags   `json:"tags"`
}

// tags are a list, and in brokers that are older or only like RabbitMQ a string.
type tags []string

// UnmarshalJSON reads both.
func (t *tags) UnmarshalJSON(text []byte) error {
	var list []string
	if json.Unmarshal(text, &list) != nil {
		var joined string
		if err := json.Unmarshal(text, &joined); err != nil {
			return err
		}
		list = strings.FieldsFunc(joined, func(r rune) bool { return r == ',' })
	}
	*t = list
	return nil
}

func (c *client) user(ctx context.Context, name string) (u user, err error) {
	err = c.get(ctx, &u, nil, "users", name)
	return u, err
}

func (c *client) users(ctx context.Context) (all []user, err error) {
	err = c.get(ctx, &all, nil, "users")
	return all, err
}

// putUser makes or replaces a user. Its hash is sent with every change, because
// RabbitMQ erases a password that is not; an empty one lets nobody in.
func (c *client) putUser(ctx context.Context, u user) error {
	body := map[string]string{"password_hash": u.Hash, "tags": strings.Join(u.Tags, ",")}
	if u.Hash != "" {
		body["hashing_algorithm"] = u.Algorithm
	}
	return c.put(ctx, body, "users", u.Name)
}

func (c *client) setPassword(ctx context.Context, u user, password integrations.Secret) error {
	return c.put(ctx, map[string]string{"password": password.Reveal(), "tags": strings.Join(u.Tags, ",")}, "users", u.Name)
}

func (c *client) deleteUser(ctx context.Context, name string) error {
	return c.remove(ctx, "users", name)
}

// record is what a user may do in a virtual host, or, of a topic permission, on
// an exchange in it.
type record struct {
	User      string `json:"user,omitempty"`
	Vhost     string `json:"vhost,omitempty"`
	Exchange  string `json:"exchange,omitempty"`
	Configure string `json:"configure"`
	Write     string `json:"write"`
	Read      string `json:"read"`
}

// records are those of a user; of all users where the name is empty.
func (c *client) records(ctx context.Context, user string) (permissions, topics []record, err error) {
	at := func(what string) []string {
		if user == "" {
			return []string{what}
		}
		return []string{"users", user, what}
	}
	if err := c.get(ctx, &permissions, nil, at("permissions")...); err != nil {
		return nil, nil, err
	}
	err = c.get(ctx, &topics, nil, at("topic-permissions")...)
	return permissions, topics, err
}

func (c *client) putPermissions(ctx context.Context, user, vhost string, fields [3]expression) error {
	return c.put(ctx, record{Configure: fields[configure].String(), Write: fields[write].String(), Read: fields[read].String()},
		"permissions", vhost, user)
}

func (c *client) deletePermissions(ctx context.Context, user, vhost string) error {
	return c.remove(ctx, "permissions", vhost, user)
}

func (c *client) putTopic(ctx context.Context, user, vhost, exchange string, fields [3]expression) error {
	return c.put(ctx, map[string]string{"exchange": exchange, "write": fields[write].String(), "read": fields[read].String()},
		"topic-permissions", vhost, user)
}

func (c *client) deleteTopic(ctx context.Context, user, vhost, exchange string) error {
	return c.remove(ctx, "topic-permissions", vhost, user, exchange)
}

type named struct {
	Name        string `json:"name"`
	User        string `json:"user"`
	Description string `json:"description"`
	Type        string `json:"type"`
	Exclusive   bool   `json:"exclusive"`
	Internal    bool   `json:"internal"`
}

func columns(names string) url.Values { return url.Values{"columns": {names}} }

func (c *client) vhosts(ctx context.Context) (all []named, err error) {
	err = c.get(ctx, &all, columns("name,description"), "vhosts")
	return all, err
}

// page reads a page of the queues or the exchanges of a virtual host, in the
// order of their names. A page behind the last one is empty.
func (c *client) page(ctx context.Context, what, vhost string, n int) (items []named, more bool, err error) {
	query := columns("name,type,exclusive,internal")
	for name, value := range map[string]string{"disable_stats": "true", "sort": "name", "page": strconv.Itoa(n), "page_size": strconv.Itoa(pageSize)} {
		query.Set(name, value)
	}
	var page struct {
		Items []named `json:"items"`
		Pages int     `json:"page_count"`
	}
	err = c.get(ctx, &page, query, what, vhost)
	if access.KindOf(err) == access.Invalid && n > 1 {
		return nil, false, nil
	}
	return page.Items, n < page.Pages, err
}

func (c *client) exchange(ctx context.Context, vhost, name string) (e named, err error) {
	err = c.get(ctx, &e, columns("name,type"), "exchanges", vhost, name)
	return e, err
}

func (c *client) bindings(ctx context.Context, vhost string) (all []struct {
	Source string `json:"source"`
	Key    string `json:"routing_key"`
}, err error) {
	err = c.get(ctx, &all, columns("source,routing_key"), "bindings", vhost)
	return all, err
}

// connections are the names of a user's connections.
func (c *client) connections(ctx context.Context, user string) (open []string, err error) {
	var all []named
	if err := c.get(ctx, &all, nil, "connections", "username", user); !absent(err) {
		return names(all), err
	}
	return c.connectionsOfAll(ctx, user)
}

// closeConnections closes all that a user has. Where the API cannot do that at
// once, one by one.
func (c *client) closeConnections(ctx context.Context, user string) error {
	_, err := c.Do(ctx, http.MethodDelete, []string{"connections", "username", user}, nil, nil)
	if !absent(err) {
		return err
	}
	open, err := c.connectionsOfAll(ctx, user)
	errs := []error{err}
	for _, name := range open {
		errs = append(errs, c.remove(ctx, "connections", name))
	}
	return access.Worst(errs...)
}

// absent is true for a call that the API does not have.
func absent(err error) bool {
	k := access.KindOf(err)
	return k == access.ResourceMissing || k == access.Unsupported
}

func (c *client) connectionsOfAll(ctx context.Context, user string) ([]string, error) {
	var all, open []named
	err := c.get(ctx, &all, columns("name,user"), "connections")
	for _, one := range all {
		if one.User == user {
			open = append(open, one)
		}
	}
	return names(open), err
}

func names(all []named) (list []string) {
	for _, one := range all {
		list = append(list, one.Name)
	}
	return list
}

// version is the product and its version.
func (c *client) version(ctx context.Context) (product, version string, err error) {
	var o struct {
		Product string `json:"product_name"`
		Version string `json:"rabbitmq_version"`
	}
	query := columns("product_name,rabbitmq_version")
	query.Set("disable_stats", "true")
	err = c.get(ctx, &o, query, "overview")
	return o.Product, o.Version, err
}

// plugins are those that are enabled on any node.
func (c *client) plugins(ctx context.Context) (all []string, err error) {
	var nodes []struct {
		Plugins []string `json:"enabled_plugins"`
	}
	err = c.get(ctx, &nodes, columns("name,enabled_plugins"), "nodes")
	for _, n := range nodes {
		all = append(all, n.Plugins...)
	}
	return all, err
}
