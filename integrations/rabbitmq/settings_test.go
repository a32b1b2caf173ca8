package rabbitmq

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/spec"
)

// TestConfig reads settings as lapse.yaml has them.
func TestConfig(t *testing.T) {
	for _, test := range []struct {
		name, yaml string
		fault      string // what is named; "" for none
	}{
		{"only the URL", "url: https://mq", ""},
		{"everything", `{url: "mq:15671", tls_skip_verify: true, amqp_url: "amqps://mq", opaque_names: true, terminate_sessions: last, amq_resources: true,
			allow_tags: [administrator], expression_limit: 1000, include: ["queue:shop/*"], exclude: ["queue:*/x"], max_resources: 5}`, ""},
		{"no URL", "opaque_names: true", "url"},
		{"a limit that no broker has", "{url: mq, expression_limit: 100000}", "expression_limit"},
		{"a key that is none", "{url: mq, uri: mq}", "uri"},
		{"a setting that is none", "{url: mq, terminate_sessions: sometimes}", "terminate_sessions"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var node yaml.Node
			if err := yaml.Unmarshal([]byte(test.yaml), &node); err != nil {
				t.Fatal(err)
			}
			var config Config
			faults := spec.Decode(&node, "config", &config).Err()
			switch {
			case test.fault == "" && faults != nil:
				t.Fatalf("faults: %v", faults)
			case test.fault != "" && (faults == nil || !strings.Contains(faults.Error(), test.fault)):
				t.Fatalf("faults: %v, want one that names %s", faults, test.fault)
			case test.fault != "":
				return
			}
			if _, err := New(integrations.Target{Name: "x", Config: &config, Secret: &Secret{}}); err != nil {
				t.Error(err)
			}
		})
	}

	var node yaml.Node
	if err := yaml.Unmarshal([]byte("url: mq"), &node); err != nil {
		t.Fatal(err)
	}
	var got Config
	if err := spec.Decode(&node, "", &got).Err(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Config{URL: "mq", TerminateSessions: "always", ExpressionLimit: 30000, MaxResources: 10000}, got); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []Config{
		{URL: "https://mq", CACertificate: "not PEM"}, {URL: "https://u:p@mq"}, {URL: "ftp://mq"}, {URL: "https://"},
		{URL: "mq", AMQPURL: "https://mq"}, {URL: "mq", AMQPURL: "mq:5672"}, {URL: "mq", AMQPURL: "amqps://u:p@mq"},
	} {
		if _, err := New(integrations.Target{Name: "x", Config: &c, Secret: &Secret{}}); access.KindOf(err) != access.Invalid {
			t.Errorf("%+v: %v, want invalid", c, err)
		}
	}
}

func TestCommand(t *testing.T) {
	for _, test := range []struct {
		config  Config
		rights  rights
		command string
		uri     string
	}{
		{Config{URL: "mq.example.com:15671"}, of([]record{{Vhost: "shop", Read: `^(?:orders)\z`}}, nil),
			`read -rs AMQP_PASSWORD; amqp-get --server=mq.example.com --port=5671 --ssl --vhost="shop" --username=lapse_ana --password="$AMQP_PASSWORD" --queue=QUEUE`,
			"amqps://lapse_ana@mq.example.com:5671/shop"},
		{Config{URL: "http://mq", AMQPURL: "amqp://broker:1234"}, of([]record{{Vhost: "/", Write: ".*"}}, nil),
			`read -rs AMQP_PASSWORD; amqp-publish --server=broker --port=1234 --vhost="/" --username=lapse_ana --password="$AMQP_PASSWORD" --exchange=EXCHANGE --routing-key=KEY --body=TEXT`,
			"amqp://lapse_ana@broker:1234/%2F"},
		{Config{URL: "mq"}, rights{}, `curl --user lapse_ana "https://mq/api/whoami"`, ""},
	} {
		made, err := New(integrations.Target{Config: &test.config, Secret: &Secret{}})
		if err != nil {
			t.Fatal(err)
		}
		c := made.(*integration).credential("lapse_ana", "secret", test.rights)
		if c.Command != test.command || c.Details["uri"] != test.uri {
			t.Errorf("got  %s, %s\nwant %s, %s", c.Command, c.Details["uri"], test.command, test.uri)
		}
	}
}

// TestTags reads the two forms that brokers have.
func TestTags(t *testing.T) {
	for text, want := range map[string]tags{`["a","b"]`: {"a", "b"}, `"a,b"`: {"a", "b"}, `""`: {}, `[]`: {}} {
		var got tags
		if err := json.Unmarshal([]byte(text), &got); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}
