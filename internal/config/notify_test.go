package config_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lapse-access/lapse/internal/config"
)

const few = `administrators: {any: [{attribute: email, values: [ana@example.com]}]}
people: [{email: ana@example.com}]
`

const notifying = `portal_url: https://lapse.example.com/p
notify:
  webhook: {url: https://hooks.example.com/lapse, secret: {store: env, key: LAPSE_HOOK}}
  email: {hostname: smtp.example.com, from: lapse@example.com, username: lapse, secret: {store: file, key: mail.json}}
`

func TestNotify(t *testing.T) {
	cfg := parse(t, []byte(few+notifying))
	e, w := cfg.Notify.Email, cfg.Notify.Webhook
	if e == nil || e.Port != 587 || e.TLS != "starttls" || e.Secret.Key != "mail.json" || w == nil || w.Secret.Key != "LAPSE_HOOK" || cfg.PortalURL != "https://lapse.example.com/p" {
		t.Errorf("%+v, %+v, %s", e, w, cfg.PortalURL)
	}
	if got := strings.Join(cfg.Notify.Channels(), " "); got != "webhook email" {
		t.Errorf("channels %q", got)
	}
	if got := parse(t, []byte(few)).Notify.Channels(); len(got) > 0 {
		t.Errorf("channels without any: %q", got)
	}
	var lines []string
	for _, line := range config.Diff(parse(t, []byte(few)), cfg) {
		lines = append(lines, line.String())
	}
	for _, want := range []string{`~ portal_url: "" -> "https://lapse.example.com/p"`, `~ notify: email.hostname: none -> "smtp.example.com"`, `~ notify: webhook.secret.key: none -> "LAPSE_HOOK"`} {
		if !strings.Contains(strings.Join(lines, "\n"), want) {
			t.Errorf("%s is not in\n%s", want, strings.Join(lines, "\n"))
		}
	}
}

func TestNotifyFaults(t *testing.T) {
	const none = "tls: none, "
	for _, tt := range []struct{ old, new, want string }{
		{"https://lapse.example.com/p", "https://lapse.example.com/?a=b", "portal_url: has more than a host and a path"},
		{"https://lapse.example.com/p", "http://lapse.example.com", "portal_url: is not protected"},
		{"https://lapse.example.com/p", "http://127.0.0.1:8080", ""},
		{"https://lapse.example.com/p", "http://[::1]:8080", ""},
		{"https://lapse.example.com/p", "javascript:alert(1)", "portal_url: is not an address"},
		{"https://hooks.example.com/lapse", "http://hooks.example.com/lapse", "notify.webhook.url: is not protected (use https)"},
		{"https://hooks.example.com/lapse", "http://127.0.0.1.example.com/lapse", "notify.webhook.url: is not protected"},
		{"https://hooks.example.com/lapse", "http://localhost:9000", ""},
		{"https://hooks.example.com/lapse", "https://me:pw@hooks.example.com", "notify.webhook.url: has more than a host and a path"},
		{"https://hooks.example.com/lapse", "hooks.example.com", "notify.webhook.url: is not an address"},
		{"{url: https", "{ca_certificate: x, url: https", "notify.webhook.ca_certificate: is not PEM"},
		{"{url: https://hooks.example.com/lapse, secret: {store: env, key: LAPSE_HOOK}}", "{url: https://hooks.example.com}", "notify.webhook.secret: is missing"},
		{"LAPSE_HOOK", "whsec_c4n4ry+/=", "notify.webhook.secret.key: is not the name of an environment variable"},
		{"from: lapse@example.com", "from: Lapse <lapse@example.com>", "notify.email.from: is not an address alone"},
		{"from: lapse@example.com", `from: "lapse@example.com\r\nBcc: eve@example.com"`, "notify.email.from: is not an address alone"},
		{"hostname: smtp.example.com", "hostname: unix:///tmp/s", "notify.email.hostname: must match"},
		{"username: lapse, ", "", "notify.email.username: a login has a username and a secret"},
		{", secret: {store: file, key: mail.json}", "", "notify.email.username: a login has a username and a secret"},
		{"username: lapse, secret: {store: file, key: mail.json}", none, "notify.email.tls: what people are told would be readable on the way"},
		{"hostname: smtp.example.com, ", "hostname: 127.0.0.1, " + none, "notify.email.tls: a password is not sent without TLS"},
		{"hostname: smtp.example.com, from: lapse@example.com, username: lapse, secret: {store: file, key: mail.json}", "hostname: 127.0.0.1, " + none + "from: lapse@example.com", ""},
		{"hostname: smtp.example.com", "hostname: smtp.example.com, tls: ssl", "notify.email.tls: must be one of starttls, implicit, none"},
	} {
		if strings.Count(notifying, tt.old) != 1 {
			t.Fatalf("the sample does not hold %q once", tt.old)
		}
		_, _, err := config.Parse("lapse.yaml", []byte(few+strings.Replace(notifying, tt.old, tt.new, 1)), kinds())
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s:\ngot  %v\nwant %s", tt.new, err, tt.want)
		}
		if strings.Contains(fmt.Sprint(err), "c4n4ry") {
			t.Errorf("a pasted secret is repeated: %v", err)
		}
	}
}
