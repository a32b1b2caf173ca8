package mariadb_test

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations/mariadb"
	"github.com/lapse-access/lapse/internal/describe"
	"github.com/lapse-access/lapse/internal/localmysql"
	"github.com/lapse-access/lapse/internal/localmysql/localmysqltest"
)

// TestReplica is a real replica that follows the server.
func TestReplica(t *testing.T) {
	t.Parallel()
	bin := versions(t)[0]
	b := &bed{Server: localmysqltest.StartVersion(t, bin, map[string]string{"log-bin": "log", "server-id": "1", "gtid-strict-mode": "ON"})}
	b.connect(t)
	replica := &bed{Server: localmysqltest.StartVersion(t, bin, map[string]string{"server-id": "2", "read-only": "ON"})}
	replica.connect(t)
	b.exec(t, "RESET MASTER")
	replica.exec(t, "SET GLOBAL gtid_slave_pos = ''", fmt.Sprintf("CHANGE MASTER TO MASTER_HOST = '%s', MASTER_PORT = %d, MASTER_USER = '%s', MASTER_PASSWORD = '%s', MASTER_USE_GTID = slave_pos",
		localmysql.Host, b.Port, localmysql.Superuser, b.Password), "START SLAVE")
	b.exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT AUTO_INCREMENT PRIMARY KEY)")
	b.setUp(t, "full", describe.Options{"databases": {"shop"}})

	host := net.JoinHostPort(localmysql.Host, strconv.Itoa(replica.Port))
	withReplica := b.target(func(c *mariadb.Config, _ *mariadb.Secret) {
		c.SessionHosts = []string{host}
		more, err := os.ReadFile(replica.CAFile)
		if err != nil {
			t.Fatal(err)
		}
		c.CACertificate += string(more)
	})
	within := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
		}
	}
	within("the replica does not follow", func() bool {
		return replica.exists(t, "SELECT 1 FROM mysql.roles_mapping WHERE User = 'lapse'")
	})
	o := &observer{replica}

	for _, more := range []bool{false, true} {
		l := at(t, withReplica)
		report, err := l.Check(t.Context())
		if err != nil || !slices.ContainsFunc(report.Items, func(i access.CheckItem) bool { return i.OK && i.Name == "session host "+host }) {
			t.Errorf("%+v, %v", report.Items, err)
		}
		want := []access.Entitlement{readShop}
		if more {
			want = append(want, entitlement("read_write", "table", "shop", "orders"))
		}
		l.Grant(t, want...)
		c := l.Credential(t)
		within("the account does not arrive at the replica", func() bool { return o.CanLogin(t, c) })
		open := session{o: o, t: t}
		if err := replica.logIn(t, c).QueryRow("SELECT CONNECTION_ID()").Scan(&open.id); err != nil {
			t.Fatal(err)
		}

		c, err = l.TryCredential(t, true)
		if err != nil || open.Alive() {
			t.Errorf("the session on the replica outlives the new credential: %v", err)
		}
		if err := replica.logIn(t, c).QueryRow("SELECT CONNECTION_ID()").Scan(&open.id); err != nil {
			t.Fatal(err)
		}

		// A replica that does not know of the revoke yet could let the person in again.
		replica.exec(t, "STOP SLAVE SQL_THREAD")
		if _, err := l.TryRevoke(t, readShop); access.KindOf(err) != access.Retry {
			t.Errorf("revoking while the replica lags: %v, want retry", err)
		}
		if !o.CanLogin(t, c) {
			t.Error("the replica does not lag: the test proves nothing")
		}
		replica.exec(t, "START SLAVE SQL_THREAD")
		res, err := l.TryRevoke(t, readShop)
		if err != nil || len(res.Entries) != 1 {
			t.Errorf("%+v, %v", res, err)
		}
		if open.Alive() {
			t.Error("the session on the replica is still open")
		}
		if got := o.CanLogin(t, c); got != more {
			t.Errorf("after the revoke a login on the replica works: %t, want %t", got, more)
		}
		l.Holds = nil
		l.Revoke(t, want...)
	}

	// The replica itself takes no changes.
	l := at(t, replica.target())
	report, err := l.Check(t.Context())
	if err != nil || !slices.ContainsFunc(report.Items, func(i access.CheckItem) bool { return !i.OK && i.Name == "primary" }) {
		t.Errorf("%+v, %v", report.Items, err)
	}
	if _, err := l.TryGrant(t, readShop); access.KindOf(err) != access.Retry {
		t.Errorf("granting on a replica: %v, want retry", err)
	}
	// A host that does not answer keeps the revoke open, and everything else is done.
	l = at(t, withReplica)
	l.Grant(t, readShop)
	c := l.Credential(t)
	if err := replica.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.TryRevoke(t, readShop); access.KindOf(err) != access.Retry {
		t.Errorf("revoking without the replica: %v, want retry", err)
	}
	if (&observer{b}).CanLogin(t, c) {
		t.Error("the person can log in on the primary")
	}
}
