package mysql_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/mysql"
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
		whole := d.Setup[len(d.Setup)-1].Operations
		for _, tier := range d.Setup {
			t.Run(version+"/"+tier.Name, func(t *testing.T) {
				t.Parallel()
				b := newCustomer(t, tier.Name, options)
				made, err := kind.New(b.target())
				if err != nil {
					t.Fatal(err)
				}
				report, err := made.Check(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				var missing []string
				for _, item := range report.Items {
					if item.OK || item.Optional {
						continue
					}
					missing = append(missing, item.Operation)
					if slices.Contains(tier.Operations, item.Operation) {
						t.Errorf("check misses what the tier should give: %+v", item)
					}
				}
				for _, operation := range whole {
					// Where nothing can be granted there is nothing to revoke or delete.
					if !slices.Contains(tier.Operations, operation) && !slices.Contains(missing, operation) && operation != "revoke" && operation != "delete" {
						t.Errorf("check does not say that %s will not work", operation)
					}
				}
				want := []access.Entitlement{adminShop, entitlement("read_write", "table", "a_b", "t_1")}
				if version == "8.0" {
					want = append(want, analytics)
				}
				found, warnings := catalogOf(t, made)
				for _, e := range want {
					// Roles are offered by who may give them.
					if e != analytics && !slices.Contains(found[e.Resource.String()].Permissions, e.Permission) {
						t.Errorf("%s is not in the catalog", e)
					}
				}
				if len(warnings) > 0 {
					t.Errorf("warnings: %v", warnings)
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
	start := func(change ...func(*mysql.Config, *mysql.Secret)) integrations.Integration {
		made, err := kind.New(b.target(change...))
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	l := &lapse{Integration: start(), account: someone()}
	_, err := l.tryGrant(t, want...)
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
		if !o.Can(t, l.account, e) {
			t.Errorf("after the grant of %s the person cannot use it", e)
		}
	}
	_, open := b.open(t, l.credential(t), "shop")
	_, err = l.tryRevoke(t, nil, want...)
	if mayEnd && (err != nil || open.Alive()) {
		t.Errorf("revoking: %v; the session is open: %t", err, open.Alive())
	}
	if !mayEnd && (access.KindOf(err) != access.Privilege || !open.Alive()) {
		t.Errorf("revoking with an open session: %v, want privilege", err)
	}
	for _, e := range want {
		if o.Can(t, l.account, e) {
			t.Errorf("after the revoke of %s the person can still use it", e)
		}
	}
	l.Integration = start(func(c *mysql.Config, _ *mysql.Secret) { c.TerminateSessions = "never" })
	l.grant(t, readShop)
	_, open = b.open(t, l.credential(t), "shop")
	if entry := l.revoke(t, readShop); entry.Outcome != access.Gone || !open.Alive() {
		t.Errorf("revoking with terminate_sessions: never: %+v; the session is open: %t", entry, open.Alive())
	}
	l.sequence++
	res, err := l.DeleteAccount(t.Context(), integrations.DeleteRequest{Account: l.account, Sequence: l.sequence})
	if mayEnd && (err != nil || res.Outcome != access.Gone) {
		t.Errorf("deleting: %+v, %v", res, err)
	}
	if !mayEnd && access.KindOf(err) != access.Privilege {
		t.Errorf("deleting, which ends sessions: %+v, %v", res, err)
	}
}

// without is a right of the tier full, taken away.
type without struct {
	line string // of the script
	undo string
	item string // of the check
	// remedy is what the check says, and mends it.
	remedy string
	// try makes ready and returns what needs the right.
	try func(*testing.T, *bed) func() error
}

var rights = []without{
	{"GRANT SELECT ON mysql.* TO `lapse`@`%`;", "REVOKE SELECT ON mysql.* FROM lapse", "SELECT on mysql", "GRANT SELECT ON mysql.* TO `lapse`@`%`", granting(readShop)},
	{"GRANT CREATE USER ON *.* TO `lapse`@`%`;", "REVOKE CREATE USER ON *.* FROM lapse", "CREATE USER", "GRANT CREATE USER ON *.* TO `lapse`@`%`", granting(readShop)},
	{"GRANT ROLE_ADMIN ON *.* TO `lapse`@`%`;", "REVOKE ROLE_ADMIN ON *.* FROM lapse", "ROLE_ADMIN", "GRANT ROLE_ADMIN ON *.* TO `lapse`@`%`", granting(analytics)},
	{"GRANT PROCESS ON *.* TO `lapse`@`%`;", "REVOKE PROCESS ON *.* FROM lapse", "PROCESS", "GRANT PROCESS ON *.* TO `lapse`@`%`", endingSessions},
	{"GRANT CONNECTION_ADMIN ON *.* TO `lapse`@`%`;", "REVOKE CONNECTION_ADMIN ON *.* FROM lapse", "CONNECTION_ADMIN", "GRANT CONNECTION_ADMIN ON *.* TO `lapse`@`%`", endingSessions},
	{"GRANT SELECT, SHOW VIEW, INSERT, UPDATE, DELETE, CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE, CREATE, ALTER, DROP, INDEX, REFERENCES, CREATE VIEW, CREATE ROUTINE, ALTER ROUTINE, TRIGGER, EVENT ON `shop`.* TO `lapse`@`%` WITH GRANT OPTION;",
		"REVOKE ALL ON shop.* FROM lapse", "give read_only", "GRANT SELECT, SHOW VIEW ON `shop`.* TO `lapse`@`%` WITH GRANT OPTION", granting(readShop)},
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
	known := append(rights, without{line: "CREATE USER `lapse`@`%` IDENTIFIED BY '...';"})
	for line := range strings.Lines(d.Setup[len(d.Setup)-1].Script) {
		// The second database is given as the first is.
		line = strings.Replace(strings.TrimSpace(line), "`a\\_b`", "`shop`", 1)
		if line != "" && !strings.HasPrefix(line, "--") && !slices.ContainsFunc(known, func(r without) bool { return r.line == line }) {
			t.Errorf("nobody tries what happens without %s", line)
		}
	}
	b := newCustomer(t, "full", setupOptions)
	for _, right := range rights {
		t.Run(right.item, func(t *testing.T) {
			attempt := right.try(t, b)
			b.exec(t, right.undo)
			if item := b.check(t, b.target())[right.item]; item.OK || item.Remedy != right.remedy {
				t.Errorf("check says %+v, want the remedy %s", item, right.remedy)
			}
			if err := attempt(); access.KindOf(err) != access.Privilege {
				t.Errorf("without the right: %v, want privilege", err)
			}
			b.exec(t, right.remedy)
			if item := b.check(t, b.target())[right.item]; !item.OK {
				t.Errorf("after the remedy check says %+v", item)
			}
			if err := attempt(); err != nil {
				t.Errorf("after the remedy: %v", err)
			}
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
			_, err := l.tryGrant(t, e)
			return err
		}
	}
}

// endingSessions revokes while a session is open.
func endingSessions(t *testing.T, b *bed) func() error {
	l := at(t, b.target())
	l.grant(t, readShop)
	b.open(t, l.credential(t), "shop")
	return func() error {
		_, err := l.tryRevoke(t, nil, readShop)
		return err
	}
}
