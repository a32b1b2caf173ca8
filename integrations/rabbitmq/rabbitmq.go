// Package rabbitmq gives access to RabbitMQ 3.10 to 4 by its management API.
//
// Access is three expressions for each virtual host, by which RabbitMQ decides
// what names an account may configure, write and read, and for topic exchanges
// one more over routing keys. Lapse writes them anew at each grant and revoke,
// from all that must remain: every name quoted, the whole anchored.
//
// A person has one account, a user of the broker whose tags carry the mark of
// this Lapse. It has a password only while the person holds something. At the
// end of access Lapse narrows the expressions and closes every connection of the
// account: a channel that is busy keeps rights that it was once given. RabbitMQ
// knows no owners, so that queues which a person declared stay.
//
// The client is internal/httpapi and a few calls: rabbit-hole, the well-kept Go
// client, takes no context and bounds no answer.
package rabbitmq

import (
	"context"
	_ "embed" // the certification
	"net/url"
	"strings"
	"sync"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/catalog"
	"github.com/lapse-access/lapse/internal/httpapi"
	"github.com/lapse-access/lapse/internal/turn"
)

// Config says where the broker is and how Lapse treats it.
type Config struct {
	URL               string   `json:"url" doc:"management API, https unless it says http; below http the credential is sent unencrypted" example:"https://rabbit.example.com:15671" minLength:"1"`
	CACertificate     string   `json:"ca_certificate,omitempty" doc:"PEM certificates of the authorities that may sign the API's certificate; the system's when empty" example:"-----BEGIN CERTIFICATE----- ..."`
	TLSSkipVerify     bool     `json:"tls_skip_verify" doc:"take any certificate; nobody proves then who answers" default:"false"`
	AMQPURL           string   `json:"amqp_url,omitempty" doc:"where people connect, for their instructions; the host of url and the usual port when empty" example:"amqps://rabbit.example.com:5671"`
	OpaqueNames       bool     `json:"opaque_names" doc:"leave the person's name out of the account's, which brokers write to their logs; Amazon MQ asks for that" default:"false"`
	TerminateSessions string   `json:"terminate_sessions" doc:"when revoke closes the connections of the account: always, only when its last access ends, or never" enum:"always,last,never" default:"always"`
	AMQResources      bool     `json:"amq_resources" doc:"also offer what is named amq., among it the default exchange amq.default, by which every queue of a virtual host is reached" default:"false"`
	AllowTags         []string `json:"allow_tags,omitempty" doc:"tags that can be requested although they give powers over the whole broker" example:"administrator"`
	ExpressionLimit   int      `json:"expression_limit" doc:"bytes that an expression may have; RabbitMQ takes about 32000, and from 4.3 on 1024, whatever stands here" default:"30000" minimum:"100" maximum:"32000"`
	Include           []string `json:"include,omitempty" doc:"patterns of the resources that can be requested, * within one part; all when empty" example:"queue:shop/*"`
	Exclude           []string `json:"exclude,omitempty" doc:"patterns of resources that cannot be requested, even when included" example:"queue:*/secrets"`
	MaxResources      int      `json:"max_resources" doc:"discovery stops after so many resources" default:"10000" minimum:"1" maximum:"1000000"`
}

// Secret is the connector's own login.
type Secret struct {
	Username string              `json:"username" doc:"user of the connector" example:"lapse" minLength:"1"`
	Password integrations.Secret `json:"password" doc:"its password" writeOnly:"true" minLength:"1"`
}

//go:embed certification.json
var certification []byte

type permission = integrations.Permission

// Kind declares RabbitMQ.
func Kind() integrations.Kind {
	return integrations.Kind{
		Name:   "rabbitmq",
		Title:  "RabbitMQ",
		Doc:    "Expressions over names in a virtual host, on a user of the person's own.",
		Config: func() any { return new(Config) },
		Secret: func() any { return new(Secret) },
		ResourceTypes: []integrations.ResourceType{
			{Name: typeVhost, Path: []string{"VHOST"}, Doc: "every queue and exchange of a virtual host", Permissions: []permission{
				{Name: "read", Doc: "consume from every queue, and bind from every exchange"},
				{Name: "write", Doc: "publish to every exchange, and bind every queue"},
				{Name: "configure", Doc: "declare and delete every queue and exchange"},
				{Name: "read_write", Doc: "read and write"},
				{Name: "admin", Doc: "read, write and configure"},
			}},
			{Name: typeQueue, Path: []string{"VHOST", "QUEUE"}, Doc: "one queue or stream", Ordered: true, Permissions: []permission{
				{Name: "consume", Doc: "consume from the queue, get from it, purge it"},
				{Name: "manage", Doc: "consume, and declare, bind and delete the queue"},
			}},
			{Name: typeExchange, Path: []string{"VHOST", "EXCHANGE"}, Doc: "one exchange", Permissions: []permission{
				{Name: "publish", Doc: "publish to the exchange with any routing key"},
				{Name: "bind_from", Doc: "bind queues to the exchange, which have to be writable for that"},
			}},
			{Name: typeTopic, Path: []string{"VHOST", "EXCHANGE", "PATTERN"}, Doc: "the routing keys of a topic exchange that match a pattern in which something is bound", Ordered: true, Permissions: []permission{
				{Name: "publish", Doc: "publish to the exchange with routing keys that match"},
			}},
			{Name: typeTag, Path: []string{"TAG"}, Doc: "a tag of RabbitMQ's own", Ordered: true, Permissions: []permission{
				{Name: member, Doc: "the tag on the account, which opens the management UI"},
			}},
		},
		Sessions: "Revoke closes every connection of the account, of whatever protocol, and looks until there are none. " +
			"`terminate_sessions: last` or `never` keeps them; a connection then goes on consuming, and a busy channel goes on publishing.",
		Limits: []string{
			"An expression knows names, not what they name: access to queue `x` is access to an exchange `x` of the same virtual host.",
			"A pattern limits a topic exchange. One that is made anew under the same name with another type looks at no pattern, and takes every routing key.",
			"RabbitMQ takes about 32,000 bytes in an expression, and from 4.3 on 1,024: some 90 queues with names of ten characters. What is beyond is refused, with the advice to request the virtual host.",
			"Queues and exchanges of temporary names (`amq.gen-...`) cannot be requested: give `admin` on a virtual host of its own.",
			"Queues, bindings, policies and shovels that a person made stay after a revoke. A shovel logs in by itself.",
			"Where `rabbitmq_auth_backend_cache` caches RabbitMQ's own users, a revoke is complete when its entries are out of date. Check says where it is enabled.",
			"Users of other back ends, such as LDAP and OAuth, are not in the broker's list and not Lapse's affair.",
			"RabbitMQ cannot compare and set: of two administrators who change one account at the same moment the slower wins.",
			"The tag `administrator` is offered only when listed in `allow_tags`.",
		},
		Credentials:   true,
		RotatesSecret: true,
		Setup:         integrations.Setup{Language: "sh", Options: func() any { return new(setup) }, Tiers: tiers},
		LastResort:    lastResort(),
		Told:          told,
		Certification: certification,
		New:           New,
		Witness:       newWitness,
	}
}

// integration is one configured broker.
type integration struct {
	instance string
	id       string
	config   Config
	secret   Secret
	base     string // of the API
	amqp     *url.URL
	api      *client
	told     *httpapi.Told // in place of the API, where it is only asked what it would be told
	// turns let one operation of this process at a time change an account.
	turns sync.Map // account id to turn.Turn
}

var (
	_ integrations.CredentialSetter = (*integration)(nil)
	_ integrations.SecretRotator    = (*integration)(nil)
)

// base is where the API is.
func (c Config) base() string {
	at := c.URL
	if !strings.Contains(at, "://") {
		at = "https://" + at
	}
	return strings.TrimSuffix(strings.TrimRight(at, "/"), "/api") + "/api"
}

// New makes an integration. It does not connect.
func New(t integrations.Target) (integrations.Integration, error) {
	config, ok := t.Config.(*Config)
	if !ok {
		return nil, access.Errorf(access.Invalid, "integration %s: the configuration is a %T", t.Name, t.Config)
	}
	secret, ok := t.Secret.(*Secret)
	if !ok {
		return nil, access.Errorf(access.Invalid, "integration %s: the secret is a %T", t.Name, t.Secret)
	}
	i := &integration{instance: t.Instance, id: t.ID, config: *config, secret: *secret, base: config.base()}
	var err error
	if i.api, err = i.as(secret.Username, secret.Password); err != nil {
		return nil, access.Errorf(access.KindOf(err), "integration %s: %v", t.Name, err)
	}
	if i.amqp, err = i.people(); err != nil {
		return nil, access.Errorf(access.Invalid, "integration %s: amqp_url: %v", t.Name, err)
	}
	return i, nil
}

func (i *integration) filter() catalog.Filter {
	return catalog.Filter{Include: i.config.Include, Exclude: i.config.Exclude, Max: i.config.MaxResources}
}

// alone runs an operation on an account, one at a time.
func (i *integration) alone(ctx context.Context, a access.Account, operation func(context.Context) error) error {
	t, _ := i.turns.LoadOrStore(a.ID, turn.New())
	return t.(turn.Turn).Run(ctx, operation)
}

// Check reads what the connector's own user may do.
func (i *integration) Check(ctx context.Context) (access.CheckReport, error) {
	ctx, cancel := turn.Bounded(ctx)
	defer cancel()
	return i.check(ctx)
}

// Discover reads tags and virtual hosts, then for each virtual host its queues,
// exchanges and topics, page by page.
func (i *integration) Discover(ctx context.Context, from string) (access.Page, error) {
	ctx, cancel := turn.Bounded(ctx)
	defer cancel()
	return i.discover(ctx, from)
}

// Held reports tags that somebody gave by hand. The expressions are Lapse's own:
// nobody had the account before.
func (i *integration) Held(ctx context.Context, a access.Account, want []access.Entitlement) (slots []access.Slot, err error) {
	ctx, cancel := turn.Bounded(ctx)
	defer cancel()
	targets, err := i.parseAll(want)
	if err != nil {
		return nil, err
	}
	found, err := i.find(ctx, a)
	if err != nil {
		return nil, err
	}
	for _, t := range targets {
		s := access.Slot{Key: t.String(), Write: t.Permission, Entitlements: []access.Entitlement{t.Entitlement}}
		if t.tag != "" && found.user.has(t.tag) && !found.user.gave(t.tag) {
			s.Held, s.Write, s.HeldAs = member, "", s.Entitlements
		}
		slots = append(slots, s)
	}
	return slots, nil
}

// Grant makes the account where there is none, and writes the expressions.
func (i *integration) Grant(ctx context.Context, req integrations.GrantRequest) (res integrations.GrantResult, err error) {
	want, err := i.parseAll(req.Want)
	if err != nil {
		return res, err
	}
	if err := i.offered(want); err != nil {
		return res, err
	}
	remain, _, err := i.claimed(req.Remain)
	if err != nil {
		return res, err
	}
	err = i.alone(ctx, req.Account, func(ctx context.Context) error {
		res, err = i.grant(ctx, req, want, remain)
		return err
	})
	if err != nil {
		return integrations.GrantResult{}, err
	}
	return res, nil
}

// Revoke closes the login first when no hold remains, narrows the expressions,
// closes the connections, and reads what is left.
func (i *integration) Revoke(ctx context.Context, req integrations.RevokeRequest) (res integrations.RevokeResult, err error) {
	end, err := i.parseAll(req.End)
	if err != nil {
		return res, err
	}
	remain, open, err := i.claimed(req.Remain)
	if err != nil {
		return res, err
	}
	err = i.alone(ctx, req.Account, func(ctx context.Context) error {
		res, err = i.revoke(ctx, req, end, remain, open)
		return err
	})
	return res, err
}

// Verify reads the expressions and the tags of the account.
func (i *integration) Verify(ctx context.Context, a access.Account, want []access.Entitlement) ([]access.Entry, error) {
	ctx, cancel := turn.Bounded(ctx)
	defer cancel()
	targets, err := i.parseAll(want)
	if err != nil {
		return nil, err
	}
	return i.verify(ctx, a, targets)
}

// DeleteAccount closes the account and its connections, and deletes it.
func (i *integration) DeleteAccount(ctx context.Context, req integrations.DeleteRequest) (res integrations.DeleteResult, err error) {
	err = i.alone(ctx, req.Account, func(ctx context.Context) error {
		res, err = i.deleteAccount(ctx, req.Account)
		return err
	})
	return res, err
}

// Accounts lists accounts by name; the cursor is the last name.
func (i *integration) Accounts(ctx context.Context, cursor string) (access.PrincipalPage, error) {
	ctx, cancel := turn.Bounded(ctx)
	defer cancel()
	return i.accounts(ctx, cursor)
}

// Close closes connections that are not in use.
func (i *integration) Close() error {
	i.api.Close()
	return nil
}

// SetCredential replaces the password and logs in with it once.
func (i *integration) SetCredential(ctx context.Context, req integrations.CredentialRequest) (cred integrations.Credential, err error) {
	err = i.alone(ctx, req.Account, func(ctx context.Context) error {
		cred, err = i.setCredential(ctx, req)
		return err
	})
	if err != nil {
		return integrations.Credential{}, err
	}
	return cred, nil
}
