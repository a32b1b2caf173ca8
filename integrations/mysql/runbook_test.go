package mysql_test

import (
	"strings"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/integrations/mysql"
	"github.com/lapse-access/lapse/internal/certificationtest"
)

var _ integrationtest.Administrator = (*observer)(nil)

// RunByHand uses the client that the machine has, which may be MariaDB's: it
// knows no --ssl-mode.
func (o *observer) RunByHand(t integrationtest.T, head, steps string) error {
	head = strings.Replace(strings.Replace(head, "...", o.Password, 1), "--ssl-mode=REQUIRED", "--ssl", 1)
	return certificationtest.Shell(t, head+steps, "")
}

// TestTriggersByHand locks the definer of a trigger, and every change of the
// table goes on.
func TestTriggersByHand(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.exec(t, "CREATE DATABASE wired", "CREATE TABLE wired.orders (id int AUTO_INCREMENT PRIMARY KEY, at timestamp NULL)")
	target, wired := b.target(), entitlement("admin", "database", "wired")
	l := at(t, target)
	l.Grant(t, wired)
	c := l.Credential(t)
	if err := b.as(t, c, "CREATE TRIGGER wired.stamped BEFORE INSERT ON wired.orders FOR EACH ROW SET NEW.at = now()"); err != nil {
		t.Fatal(err)
	}
	head, err := mysql.Kind().LastResort.Head(target)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := mysql.Kind().LastResort.Steps(target, integrations.RevokeRequest{Account: l.Account, End: []access.Entitlement{wired}})
	if err != nil {
		t.Fatal(err)
	}
	o := &observer{b}
	if err := o.RunByHand(t, head, steps); err != nil {
		t.Fatal(err)
	}
	if err := b.try(t, "INSERT INTO wired.orders () VALUES ()"); err != nil {
		t.Errorf("a change of the table fails: %v", err)
	}
	if o.CanLogin(t, c) {
		t.Error("the definer can log in")
	}
}
