package mariadb_test

import (
	"strings"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/integrations/mariadb"
	"github.com/lapse-access/lapse/internal/certificationtest"
)

var _ integrationtest.Administrator = (*observer)(nil)

// RunByHand leaves out that the server's certificate is verified: this client
// takes its authorities from a file only.
func (o *observer) RunByHand(t integrationtest.T, head, steps string) error {
	head = strings.Replace(strings.Replace(head, "...", o.Password, 1), "--ssl-verify-server-cert", "--ssl-ca="+o.CAFile, 1)
	return certificationtest.Shell(t, head+steps, "")
}

// TestTriggersByHand locks somebody whose umbrella is the definer of a trigger,
// and every change of the table goes on.
func TestTriggersByHand(t *testing.T) {
	t.Parallel()
	b := newBed(t, versions(t)[0])
	b.exec(t, "CREATE DATABASE audited", "CREATE TABLE audited.things (id INT)", "CREATE TABLE audited.log (id INT)",
		"CREATE ROLE makers", "GRANT SELECT, INSERT, UPDATE, TRIGGER ON audited.* TO makers", "GRANT makers TO lapse_admin WITH ADMIN OPTION")
	target, makers := b.target(), entitlement("member", "role", "makers")
	l := at(t, target)
	l.Grant(t, makers)
	c := l.Credential(t)
	can(t, b.logIn(t, c), "CREATE DEFINER = CURRENT_ROLE TRIGGER audited.logged AFTER INSERT ON audited.things FOR EACH ROW INSERT INTO audited.log VALUES (NEW.id)", true)
	head, err := mariadb.Kind().LastResort.Head(target)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := mariadb.Kind().LastResort.Steps(target, integrations.RevokeRequest{Account: l.Account, End: []access.Entitlement{makers}})
	if err != nil {
		t.Fatal(err)
	}
	o := &observer{b}
	if err := o.RunByHand(t, head, steps); err != nil {
		t.Fatal(err)
	}
	b.exec(t, "INSERT INTO audited.things VALUES (1)")
	if o.CanLogin(t, c) {
		t.Error("the definer can log in")
	}
}
