package rediscloud_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/integrations/rediscloud"
	"github.com/lapse-access/lapse/internal/describe"
	"github.com/lapse-access/lapse/internal/localredis"
)

// catalog reads every page.
func catalog(t *testing.T, i integrations.Integration) (found, warnings []string, pages int) {
	t.Helper()
	for cursor := ""; ; {
		page, err := i.Discover(t.Context(), cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range page.Resources {
			found = append(found, f.Resource.String())
		}
		warnings, pages = append(warnings, page.Warnings...), pages+1
		if cursor = page.Next; cursor == "" {
			return found, warnings, pages
		}
	}
}

// large has 250 databases in one subscription, and two of one name.
func large(t *testing.T) *cloud {
	c := newCloud(t)
	big := c.subscribe("big", false)
	for n := range 250 {
		c.database(big, fmt.Sprintf("d%03d", n), localredis.Binary{})
	}
	for range 2 {
		c.database(c.subscribe("twin", false), "d", localredis.Binary{})
	}
	return c
}

func TestDiscoverPages(t *testing.T) {
	t.Parallel()
	c := large(t)
	found, warnings, pages := catalog(t, c.start(t, c.target()))
	if len(found) != 252 || len(warnings) > 0 || pages < 6 {
		t.Errorf("%d resources on %d pages, %v", len(found), pages, warnings)
	}
	if slices.Contains(found, "database:twin/d") || !slices.Contains(found, fmt.Sprintf("database:twin (%d)/d", c.subscriptions[1].id)) {
		t.Errorf("two subscriptions of one name are not told apart: %v", found[250:])
	}
	slices.Sort(found)
	if len(slices.Compact(slices.Clone(found))) != len(found) {
		t.Error("something was offered twice")
	}
}

func TestDiscoverOffers(t *testing.T) {
	t.Parallel()
	b := newBed(t, localredis.Binary{})
	for _, test := range []struct {
		name   string
		change func(*rediscloud.Config)
		want   []string
	}{
		{"a pattern", func(c *rediscloud.Config) {
			c.Include, c.Exclude = []string{"database:production/*"}, []string{"database:*/orders"}
		},
			[]string{"database:production/mails", "database:production/carts", "database:production/world"}},
		{"one subscription", func(c *rediscloud.Config) {
			c.Subscriptions, c.Include = []int{b.subscriptions[1].id}, []string{"database:*/*"}
		}, []string{"database:small/cache"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			target := b.target(func(c *rediscloud.Config, _ *rediscloud.Secret) { test.change(c) })
			found, warnings, _ := catalog(t, b.start(t, target))
			if diff := cmp.Diff(test.want, found); diff != "" || len(warnings) > 0 {
				t.Errorf("%v (-want +got):\n%s", warnings, diff)
			}
			l := b.live(t)
			l.Integration = b.start(t, target)
			if _, err := l.TryGrant(t, readOrders); access.KindOf(err) != access.Invalid && access.KindOf(err) != access.ResourceMissing {
				t.Errorf("granting what is not offered: %v", err)
			}
		})
	}
	target := b.target(func(c *rediscloud.Config, _ *rediscloud.Secret) { c.MaxResources = 3 })
	if found, warnings, _ := catalog(t, b.start(t, target)); len(found) != 3 || len(warnings) == 0 {
		t.Errorf("with max_resources 3: %v, %v", found, warnings)
	}
	if _, err := b.start(t, b.target()).Discover(t.Context(), "{"); access.KindOf(err) != access.Invalid {
		t.Errorf("a cursor that is none: %v", err)
	}
}

// TestTiers: what Check says of a viewer's key and of an owner's.
func TestTiers(t *testing.T) {
	t.Parallel()
	d, err := describe.New(rediscloud.Kind(), describe.Options{"connector_name": {"connector-1"}, "cidr": {"203.0.113.7/32"}})
	if err != nil {
		t.Fatal(err)
	}
	for n, role := range []string{"Viewer", "Owner"} {
		b := plain(t)
		b.viewer = role == "Viewer"
		report, err := b.start(t, b.target()).Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var missing []string
		for _, item := range report.Items {
			if !item.OK && !item.Optional {
				missing = append(missing, item.Operation)
			}
		}
		if may := slices.Contains(d.Setup[n].Operations, "grant"); may != (len(missing) == 0) || !may && !slices.Equal(missing, []string{"grant"}) {
			t.Errorf("%s: check misses %v", role, missing)
		}
		if script := d.Setup[n].Script; !strings.Contains(script, role) || !strings.Contains(script, "connector-1") || !strings.Contains(script, "203.0.113.7/32") {
			t.Errorf("the instructions for a %s are\n%s", role, script)
		}
		if found, _, _ := catalog(t, b.start(t, b.target())); len(found) == 0 {
			t.Errorf("a %s discovers nothing", role)
		}
	}
}

func TestCheckFinds(t *testing.T) {
	t.Parallel()
	b := newBed(t, localredis.Binary{})
	b.rules = b.rules[1:] // no Full-Access
	target := b.target(func(c *rediscloud.Config, _ *rediscloud.Secret) { c.Subscriptions = []int{b.subscriptions[0].id, 7} })
	report, err := b.start(t, target).Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	items := map[string]access.CheckItem{}
	for _, item := range report.Items {
		items[item.Name] = item
	}
	for name, detail := range map[string]string{"rules": "Full-Access", "subscriptions": "7", "default user of production/orders": "needs no grant"} {
		if item := items[name]; item.OK || !strings.Contains(item.Detail, detail) || item.Remedy == "" {
			t.Errorf("%s: %+v", name, item)
		}
	}
	if _, there := items["default user of production/old"]; there {
		t.Error("a memcached database is looked at")
	}
}

// TestPlanted: an integration that looks at what is active only once is found out.
func TestPlanted(t *testing.T) {
	t.Parallel()
	b := plain(t)
	h := b.harness()
	h.Kind = rediscloud.KindAt(b.time.now, func(ctx context.Context, d time.Duration) error {
		if d == 10*time.Second { // between two looks
			return nil
		}
		return b.time.sleep(ctx, d)
	})
	for _, c := range integrationtest.Cases() {
		if c.Name != "exactly" {
			continue
		}
		if r := integrationtest.Try(t.Context(), c, h, t.Logf); r.Status != integrationtest.Failed {
			t.Errorf("an integration that does not wait passes %s", c.Name)
		}
	}
}
