package rabbitmq

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/certificationtest"
)

// TestSettings reads settings as lapse.yaml has them.
func TestSettings(t *testing.T) {
	certificationtest.Settings(t, Kind(), &Secret{}, &Config{URL: "mq", TerminateSessions: "always", ExpressionLimit: 30000, MaxResources: 10000}, [][3]string{
		{"only the URL", "url: mq", ""},
		{"everything", `{url: "https://mq:15671", tls_skip_verify: true, amqp_url: "amqps://mq", opaque_names: true, terminate_sessions: last, amq_resources: true,
			allow_tags: [administrator], expression_limit: 1000, include: ["queue:shop/*"], exclude: ["queue:*/x"], max_resources: 5}`, ""},
		{"no scheme", `url: "mq:15671"`, ""},
		{"no URL", "opaque_names: true", "url"},
		{"a limit that no broker has", "{url: mq, expression_limit: 100000}", "expression_limit"},
		{"a key that is none", "{url: mq, uri: mq}", "uri"},
		{"a setting that is none", "{url: mq, terminate_sessions: sometimes}", "terminate_sessions"},
		{"a certificate that is none", "{url: https://mq, ca_certificate: not PEM}", "not PEM"},
		{"a login in the URL", "url: https://u:p@mq", "more than a host"},
		{"a URL of something else", "url: ftp://mq", "form"},
		{"a URL without a host", "url: https://", "form"},
		{"AMQP by HTTP", "{url: mq, amqp_url: https://mq}", "amqp_url"},
		{"AMQP without a scheme", `{url: mq, amqp_url: "mq:5672"}`, "amqp_url"},
		{"a login in the AMQP URL", `{url: mq, amqp_url: "amqps://u:p@mq"}`, "amqp_url"},
	})
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
