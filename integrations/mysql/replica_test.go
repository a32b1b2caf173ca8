package mysql_test

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations/mysql"
	"github.com/lapse-access/lapse/internal/localmysql"
)

// TestReplica is a real replica that follows the server.
func TestReplica(t *testing.T) {
	t.Parallel()
	gtid := func(id string) map[string]string {
		return map[string]string{"log-bin": "log", "server-id": id, "gtid-mode": "ON", "enforce-gtid-consistency": "ON"}
	}
	b, replica := startBed(t, gtid("1")), startBed(t, gtid("2"))
	for _, server := range []*bed{b, replica} {
		server.exec(t, "RESET BINARY LOGS AND GTIDS")
	}
	replica.exec(t, fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_HOST = '%s', SOURCE_PORT = %d, SOURCE_USER = '%s', SOURCE_PASSWORD = '%s', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1",
		localmysql.Host, b.Port, localmysql.Superuser, b.Password), "START REPLICA", "SET GLOBAL super_read_only = ON")
	b.exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT AUTO_INCREMENT PRIMARY KEY)")
	b.setUp(t, "full", nil)

	host := net.JoinHostPort(localmysql.Host, strconv.Itoa(replica.Port))
	withReplica := b.target(func(c *mysql.Config, _ *mysql.Secret) {
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
	o := &observer{replica}

	within("the replica does not follow", func() bool { return o.Exists(t, "lapse") })

	writeOrders := entitlement("read_write", "table", "shop", "orders")
	for _, more := range []bool{false, true} {
		l := at(t, withReplica)
		if item := b.check(t, withReplica)["session host "+host]; !item.OK {
			t.Errorf("%+v", item)
		}
		var remain []access.Entitlement
		if more {
			remain = append(remain, writeOrders)
		}
		l.Grant(t, append(remain, readShop)...)
		c := l.Credential(t)
		within("the account does not arrive at the replica", func() bool { return o.CanLogin(t, c) })
		_, open := replica.open(t, c, "")

		c, err := l.TryCredential(t, true)
		if err != nil || open.Alive() {
			t.Errorf("the session on the replica outlives the new credential: %v", err)
		}
		_, open = replica.open(t, c, "")

		// A replica that does not know of the revoke yet could let the person in
		// again, or with the role.
		replica.exec(t, "STOP REPLICA SQL_THREAD")
		if _, err := l.TryRevoke(t, readShop); access.KindOf(err) != access.Retry {
			t.Errorf("revoking while the replica lags: %v, want retry", err)
		}
		if !o.CanLogin(t, c) {
			t.Error("the replica does not lag: the test proves nothing")
		}
		replica.exec(t, "START REPLICA SQL_THREAD")
		if _, err := l.TryRevoke(t, readShop); err != nil {
			t.Error(err)
		}
		if open.Alive() {
			t.Error("the session on the replica is still open")
		}
		if got := o.CanLogin(t, c); got != more {
			t.Errorf("after the revoke a login on the replica works: %t, want %t", got, more)
		}
		if more {
			l.Revoke(t, writeOrders)
		}
	}

	// The replica itself takes no changes, although the connector's rights would
	// let it where only read_only is on.
	for _, setting := range []string{"SET GLOBAL super_read_only = ON", "SET GLOBAL super_read_only = OFF"} {
		replica.exec(t, setting)
		l := at(t, replica.target())
		if item := b.check(t, replica.target())["primary"]; item.OK {
			t.Errorf("%+v", item)
		}
		if _, err := l.TryGrant(t, readShop); access.KindOf(err) != access.Retry {
			t.Errorf("granting on a replica: %v, want retry", err)
		}
	}
	// A host that does not answer keeps the revoke open, and everything else is done.
	l := at(t, withReplica)
	l.Grant(t, readShop)
	c := l.Credential(t)
	if err := replica.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.TryRevoke(t, readShop); access.KindOf(err) != access.Retry {
		t.Errorf("revoking without the replica: %v, want retry", err)
	}
	if b.CanLogin(t, c) || (&observer{b}).Can(t, l.Account, readShop) {
		t.Error("the person can log in on the primary, or keeps the role")
	}
}
