package rabbitmq_test

import (
	"net/http"
	"slices"
	"strconv"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations/rabbitmq"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/describe"
)

// check is what Check says of the bed's connector, by the names of the items.
func (b *bed) check(t *testing.T) map[string]access.CheckItem {
	t.Helper()
	return certificationtest.Check(t, start(t, b.target()))
}

// TestTiers runs the script of each tier on an empty broker: Check misses just
// what the tier leaves out, and what the tier is for works. Then each right of
// the last one is taken away, is named by Check, and is mended by the remedy.
func TestTiers(t *testing.T) {
	t.Parallel()
	d, err := describe.New(rabbitmq.Kind(), setupOptions)
	if err != nil {
		t.Fatal(err)
	}
	for _, major := range majors {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			t.Parallel()
			b := startBed(t, major)
			b.fill(t)
			for _, tier := range d.Setup {
				t.Run(tier.Name, func(t *testing.T) {
					b.setUp(t, tier.Name)
					defer b.remove(t, "users", connector)
					b.misses(t, tier.Operations)
					certificationtest.Offers(t, start(t, b.target()), consumeOrders, publishTopic, adminShop)
					l := at(t, b.target())
					_, err := l.TryGrant(t, consumeOrders, publishTopic, management)
					if !slices.Contains(tier.Operations, "grant") {
						if access.KindOf(err) != access.Privilege {
							t.Errorf("granting: %v, want privilege", err)
						}
						return
					}
					if err != nil {
						t.Fatal(err)
					}
					conn := b.login(t, l.Credential(t), "shop")
					l.Revoke(t, consumeOrders, publishTopic, management)
					if !eventually(conn.IsClosed) {
						t.Error("a connection is open")
					}
					l.Delete(t)
				})
			}
			t.Run("without rights", func(t *testing.T) {
				b.setUp(t, "full")
				b.without(t, d)
			})
		})
	}
}

// misses demands that Check finds what is given, and names all that is not.
func (b *bed) misses(t *testing.T, given []string) {
	t.Helper()
	for _, item := range b.check(t) {
		if item.Optional {
			continue
		}
		if item.OK != slices.Contains(given, item.Operation) {
			t.Errorf("check says %+v", item)
		}
		if !item.OK && (item.Detail == "" || item.Remedy == "") {
			t.Errorf("check says no reason or remedy: %+v", item)
		}
	}
}

func (b *bed) without(t *testing.T, d describe.Kind) {
	all := d.Setup[len(d.Setup)-1].Operations
	for _, test := range []struct {
		name  string
		tags  string
		given []string
		item  string
		kind  access.ErrorKind
	}{
		{"the tag administrator", "management", []string{"connect"}, "make users and give permissions", access.Privilege},
		{"permissions in what it sees", "monitoring", []string{"connect"}, "read virtual hosts", access.Privilege},
		{"any tag", "", nil, "connect", access.Privilege},
	} {
		t.Run(test.name, func(t *testing.T) {
			b.put(t, map[string]string{"password": connectorPass, "tags": test.tags}, "users", connector)
			b.misses(t, test.given)
			l := at(t, b.target())
			if _, err := l.TryGrant(t, consumeStarred); access.KindOf(err) != test.kind {
				t.Errorf("granting: %v, want %s", err, test.kind)
			}
			if _, err := l.TryRevoke(t, consumeStarred); access.KindOf(err) != test.kind {
				t.Errorf("revoking: %v, want %s", err, test.kind)
			}
			remedy := b.check(t)[test.item].Remedy
			for tries := 0; remedy != "" && tries < 4; tries++ { // one for each virtual host
				if _, err := b.Script(t.Context(), remedy, ""); err != nil {
					t.Fatal(err)
				}
				remedy = b.check(t)[test.item].Remedy
			}
			if item, found := b.check(t)[test.item]; !found || !item.OK {
				t.Errorf("after the remedy check says %+v", item)
			}
			b.put(t, map[string]string{"password": connectorPass, "tags": ""}, "users", connector)
			for _, vhost := range setupOptions["vhosts"] {
				b.call(t, http.MethodDelete, nil, "permissions", vhost, connector)
			}
			b.put(t, map[string]string{"password": connectorPass, "tags": "administrator"}, "users", connector)
			b.misses(t, all)
			l.Grant(t, consumeStarred)
			l.Revoke(t, consumeStarred)
		})
	}
	t.Run("its password", func(t *testing.T) {
		b.put(t, map[string]string{"password": "another", "tags": "administrator"}, "users", connector)
		if item := b.check(t)["connect"]; item.OK || item.Detail == "" {
			t.Errorf("check says %+v", item)
		}
		if _, err := at(t, b.target()).TryGrant(t, consumeStarred); access.KindOf(err) != access.Auth {
			t.Errorf("granting: %v, want auth", err)
		}
	})
}
