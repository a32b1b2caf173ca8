package rabbitmq

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
)

// The resource types, and the permission on a tag.
const (
	typeVhost    = "vhost"
	typeQueue    = "queue"
	typeExchange = "exchange"
	typeTopic    = "topic"
	typeTag      = "tag"
	member       = "member"
)

// The fields of a permission record: https://www.rabbitmq.com/docs/access-control#authorisation
const (
	configure = iota
	write
	read
)

// signs is how many permissions can put one name into one field.
const signs = 3

// level is what a permission writes: the sign of its parts, and the fields.
type level struct {
	sign   int
	fields []int
}

// levels have one sign for one field and one kind of name only once, so that
// they can be read back. A topic's name of the exchange is one of them.
var levels = map[string]map[string]level{
	typeVhost: {
		"read":       {0, []int{read}},
		"write":      {0, []int{write}},
		"configure":  {0, []int{configure}},
		"read_write": {1, []int{write, read}},
		"admin":      {2, []int{configure, write, read}},
	},
	typeQueue: {
		"consume": {0, []int{read}},
		"manage":  {1, []int{configure, write, read}},
	},
	typeExchange: {
		"publish":   {0, []int{write}},
		"bind_from": {2, []int{read}},
	},
	typeTopic: {"publish": {2, []int{write}}},
	typeTag:   {member: {}},
}

// plainTags give a view of the broker, and policies where the account has access:
// https://www.rabbitmq.com/docs/management#permissions
var plainTags = []string{"management", "monitoring", "policymaker"}

// target is an entitlement as RabbitMQ has it.
type target struct {
	access.Entitlement
	level
	vhost string
	name  string // of the queue or exchange; "" for the virtual host as a whole
	topic string // the pattern
	tag   string
	// baseline is true for what the person held before Lapse came, which Lapse
	// keeps and does not give.
	baseline bool
}

func (i *integration) parse(e access.Entitlement) (t target, err error) {
	t.Entitlement = e
	l, ok := levels[e.Resource.Type][e.Permission]
	if !ok || e.Integration != i.id {
		return t, access.Errorf(access.Invalid, "%s is no entitlement of this integration", e)
	}
	t.level = l
	names, err := e.Resource.Names()
	if err != nil {
		return t, access.Errorf(access.Invalid, "%v", err)
	}
	length := map[string]int{typeVhost: 1, typeTag: 1, typeQueue: 2, typeExchange: 2, typeTopic: 3}[e.Resource.Type]
	if len(names) != length {
		return t, access.Errorf(access.Invalid, "%s: the path of a %s has %d parts", e.Resource, e.Resource.Type, length)
	}
	for _, name := range names {
		// AMQP has no longer names, and RabbitMQ takes line breaks out of them.
		if len(name) > 255 || strings.ContainsAny(name, "\r\n") {
			return t, access.Errorf(access.Invalid, "%s: no name of RabbitMQ is longer than 255 bytes or has a line break", e.Resource.Type)
		}
	}
	if t.Resource.Type == typeTag {
		t.tag = names[0]
		return t, nil
	}
	names = append(names, "", "")
	t.vhost, t.name, t.topic = names[0], names[1], names[2]
	if plain := patternOf(topicText(t.topic)); t.topic != "" && plain != t.topic {
		return t, access.Errorf(access.Invalid, "the pattern %s is the same as %s", t.topic, plain).WithRemedy("request that one")
	}
	return t, nil
}

func (i *integration) parseAll(all []access.Entitlement) (targets []target, err error) {
	for _, e := range all {
		t, err := i.parse(e)
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	return targets, nil
}

// claimed are the entitlements that must remain; open is true when one of them is
// a hold.
func (i *integration) claimed(claims []access.Claim) (remain []target, open bool, err error) {
	for _, c := range claims {
		t, err := i.parse(c.Entitlement)
		if err != nil {
			return nil, false, err
		}
		t.baseline = c.Baseline
		remain, open = append(remain, t), open || !c.Baseline
	}
	return remain, open, nil
}

// text is the quoted name in the expressions.
func (t target) text() string {
	if t.name == "" {
		return everything
	}
	return regexp.QuoteMeta(t.name)
}

// offered demands that the configuration offers what is wanted.
func (i *integration) offered(want []target) error {
	for _, t := range want {
		switch {
		case !i.filter().Offers(t.Resource):
			return access.Errorf(access.Invalid, "%s is left out by include and exclude of the integration", t.Resource)
		case reserved(t.name) && !i.config.AMQResources:
			return access.Errorf(access.Invalid, "%s is RabbitMQ's own", t.Resource).WithRemedy("set amq_resources if it shall be requested all the same")
		case t.tag == "administrator" && !i.offersTag(t.tag):
			return access.Errorf(access.Invalid, "the tag administrator gives powers over the whole broker").
				WithRemedy("list it in allow_tags if it shall be requested all the same: allow_tags: [administrator]")
		}
	}
	return nil
}

func reserved(name string) bool { return strings.HasPrefix(name, "amq.") }

func (i *integration) offersTag(tag string) bool {
	return slices.Contains(plainTags, tag) || slices.Contains(i.config.AllowTags, tag)
}

// exist demands that what is wanted is there.
func (i *integration) exist(ctx context.Context, want []target) error {
	for _, t := range want {
		var err error
		switch t.Resource.Type {
		case typeTag:
			if !i.offersTag(t.tag) {
				err = access.Errorf(access.ResourceMissing, "RabbitMQ has no such tag, or allow_tags does not list it")
			}
		case typeVhost:
			err = i.api.get(ctx, new(named), columns("name"), "vhosts", t.vhost)
		case typeQueue:
			err = i.api.get(ctx, new(named), columns("name"), "queues", t.vhost, t.name)
		default:
			var x named
			x, err = i.api.exchange(ctx, t.vhost, t.name)
			if err == nil && t.topic != "" && x.Type != "topic" {
				err = access.Errorf(access.Invalid, "the exchange is of type %s, and looks at no pattern", x.Type)
			}
		}
		if err != nil {
			return during(t.Resource.String(), err)
		}
	}
	return nil
}
