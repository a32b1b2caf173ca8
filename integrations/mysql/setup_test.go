package mysql_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/mysql"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/describe"
)

// setupOptions are for a customer who opens two databases only, so that no
// right is had twice.
var setupOptions = describe.Options{"databases": {"shop", "a_b"}}

// newCustomer starts a server with what the setup is about, and a connector of
// a tier.
func newCustomer(t *testing.T, tier string, options describe.Options) *bed {
	t.Helper()
	b := startBed(t, nil)
	b.furnish(t)
	b.setUp(t, tier, options)
	return b
}

// TestTiers runs the script of each tier on an empty server: Check misses just
// what the tier leaves out, and what the tier is for works. The connector has
// nothing else.
func TestTiers(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"8.0", "5.7"} {
		options := describe.Options{"databases": setupOptions["databases"], "version": {version}}
		kind := mysql.Kind()
		if version == "5.7" {
			kind = mysql.Legacy()
		}
		d, err := describe.New(kind, options)
		if err != nil {
			t.Fatal(err)
		}
		for _, tier := range d.Setup {
			t.Run(version+"/"+tier.Name, func(t *testing.T) {
				t.Parallel()
				b := newCustomer(t, tier.Name, options)
				made := certificationtest.Start(t, kind, b.target())
				items := certificationtest.Check(t, made)
				maps.DeleteFunc(items, func(_ string, item access.CheckItem) bool { return item.Optional })
				// Where nothing can be granted there is nothing to revoke or delete.
				certificationtest.Misses(t, items, tier, d.Setup[len(d.Setup)-1], "revoke", "delete")
				want := []access.Entitlement{adminShop, entitlement("read_write", "table", "a_b", "t_1")}
				certificationtest.Offers(t, made, want...)
				if version == "8.0" {
					want = append(want, analytics) // roles are offered by who may give them
				}
				b.grants(t, kind, slices.Contains(tier.Operations, "grant"), slices.Contains(tier.Operations, "end_sessions"), want...)
			})
		}
	}
}

// grants goes through the life of an account, and wants a refusal where the
// tier does not reach.
func (b *bed) grants(t *testing.T, kind integrations.Kind, may, mayEnd bool, want ...access.Entitlement) {
	t.Helper()
	o := &observer{b}
	l := certificationtest.At(t, kind, b.target())
	_, err := l.TryGrant(t, want...)
	if !may {
		if access.KindOf(err) != access.Privilege {
			t.Errorf("granting: %v, want privilege", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range want {
		if !o.Can(t, l.Account, e) {
			t.Errorf("after the grant of %s the person cannot use it", e)
		}
	}
	_, open := b.open(t, l.Credential(t), "shop")
	_, err = l.TryRevoke(t, want...)
	if mayEnd && (err != nil || open.Alive()) {
		t.Errorf("revoking: %v; the session is open: %t", err, open.Alive())
	}
	if !mayEnd && (access.KindOf(err) != access.Privilege || !open.Alive()) {
		t.Errorf("revoking with an open session: %v, want privilege", err)
	}
	for _, e := range want {
		if o.Can(t, l.Account, e) {
			t.Errorf("after the revoke of %s the person can still use it", e)
		}
	}
	l.Integration, l.Holds = certificationtest.Start(t, kind, b.target(func(c *mysql.Config, _ *mysql.Secret) { c.TerminateSessions = "never" })), nil
	l.Grant(t, readShop)
	_, open = b.open(t, l.Credential(t), "shop")
	if entry := l.Revoke(t, readShop); entry.Outcome != access.Gone || !open.Alive() {
		t.Errorf("revoking with terminate_sessions: never: %+v; the session is open: %t", entry, open.Alive())
	}
	res, err := l.TryDelete(t)
	if mayEnd && (err != nil || res.Outcome != access.Gone) {
		t.Errorf("deleting: %+v, %v", res, err)
	}
	if !mayEnd && access.KindOf(err) != access.Privilege {
		t.Errorf("deleting, which ends sessions: %+v, %v", res, err)
	}
}

// without is a right of the tier full, taken away.
type without struct {
	certificationtest.Right
	// try makes ready and returns what needs the right.
	try func(*testing.T, *bed) func() error
}

var rights = []without{
	{certificationtest.Right{Line: "GRANT SELECT ON mysql.* TO `lapse`@`%`;",
		Undo: "REVOKE SELECT ON mysql.* FROM lapse", Item: "SELECT on mysql", Remedy: "GRANT SELECT ON mysql.* TO `lapse`@`%`"}, granting(readShop)},
	{certificationtest.Right{Line: "GRANT CREATE USER ON *.* TO `lapse`@`%`;",
		Undo: "REVOKE CREATE USER ON *.* FROM lapse", Item: "CREATE USER", Remedy: "GRANT CREATE USER ON *.* TO `lapse`@`%`"}, granting(readShop)},
	{certificationtest.Right{Line: "GRANT ROLE_ADMIN ON *.* TO `lapse`@`%`;",
		Undo: "REVOKE ROLE_ADMIN ON *.* FROM lapse", Item: "ROLE_ADMIN", Remedy: "GRANT ROLE_ADMIN ON *.* TO `lapse`@`%`"}, granting(analytics)},
	{certificationtest.Right{Line: "GRANT PROCESS ON *.* TO `lapse`@`%`;",
		Undo: "REVOKE PROCESS ON *.* FROM lapse", Item: "PROCESS", Remedy: "GRANT PROCESS ON *.* TO `lapse`@`%`"}, endingSessions},
	{certificationtest.Right{Line: "GRANT CONNECTION_ADMIN ON *.* TO `lapse`@`%`;",
		Undo: "REVOKE CONNECTION_ADMIN ON *.* FROM lapse", Item: "CONNECTION_ADMIN", Remedy: "GRANT CONNECTION_ADMIN ON *.* TO `lapse`@`%`"}, endingSessions},
	{certificationtest.Right{Line: "GRANT SELECT, SHOW VIEW, INSERT, UPDATE, DELETE, CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE, CREATE, ALTER, DROP, INDEX, REFERENCES, CREATE VIEW, CREATE ROUTINE, ALTER ROUTINE, TRIGGER, EVENT ON `shop`.* TO `lapse`@`%` WITH GRANT OPTION;",
		Undo: "REVOKE ALL ON shop.* FROM lapse", Item: "give read_only", Remedy: "GRANT SELECT, SHOW VIEW ON `shop`.* TO `lapse`@`%` WITH GRANT OPTION"}, granting(readShop)},
}

// TestRights takes each right of the tier full away: Check names it with the
// statement that mends it, the operation that needs it is refused with the kind
// privilege, and works after that statement.
func TestRights(t *testing.T) {
	t.Parallel()
	d, err := describe.New(mysql.Kind(), setupOptions)
	if err != nil {
		t.Fatal(err)
	}
	known := append(rights, without{Right: certificationtest.Right{Line: "CREATE USER `lapse`@`%` IDENTIFIED BY '...';"}})
	for line := range strings.Lines(d.Setup[len(d.Setup)-1].Script) {
		// The second database is given as the first is.
		line = strings.Replace(strings.TrimSpace(line), "`a\\_b`", "`shop`", 1)
		if line != "" && !strings.HasPrefix(line, "--") && !slices.ContainsFunc(known, func(r without) bool { return r.Line == line }) {
			t.Errorf("nobody tries what happens without %s", line)
		}
	}
	b := newCustomer(t, "full", setupOptions)
	for _, right := range rights {
		t.Run(right.Item, func(t *testing.T) {
			right.Lack(t, func(statement string) { b.exec(t, statement) }, func() map[string]access.CheckItem { return b.check(t, b.target()) }, right.try(t, b))
		})
	}
	t.Run("logging in", func(t *testing.T) {
		b.exec(t, "ALTER USER lapse ACCOUNT LOCK")
		if item := b.check(t, b.target())["connect"]; item.OK || item.Detail == "" {
			t.Errorf("check says %+v", item)
		}
		if err := granting(readShop)(t, b)(); access.KindOf(err) != access.Auth {
			t.Errorf("without the right: %v, want auth", err)
		}
	})
}

// granting grants an entitlement to somebody new.
func granting(e access.Entitlement) func(*testing.T, *bed) func() error {
	return func(t *testing.T, b *bed) func() error {
		l := at(t, b.target())
		return func() error {
			_, err := l.TryGrant(t, e)
			return err
		}
	}
}

// endingSessions revokes while a session is open.
func endingSessions(t *testing.T, b *bed) func() error {
	l := at(t, b.target())
	l.Grant(t, readShop)
	b.open(t, l.Credential(t), "shop")
	return func() error {
		_, err := l.TryRevoke(t, readShop)
		return err
	}
}
