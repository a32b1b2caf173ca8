package mysql

import (
	"cmp"

	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/mysqldb"
	"github.com/lapse-access/lapse/internal/principal"
	"github.com/lapse-access/lapse/internal/sqlname"
)

// unlessDefiner leaves an account what it has when it is the definer of a
// trigger: every change of the trigger's table would fail for everybody.
const unlessDefiner = " AND NOT EXISTS (SELECT 1 FROM information_schema.TRIGGERS WHERE DEFINER = "

func lastResort() integrations.LastResort {
	return integrations.LastResort{
		Language: "sh",
		Head: func(t integrations.Target) (string, error) {
			c, err := integrations.ConfigOf[Config](t)
			if err != nil {
				return "", err
			}
			return mysqldb.HandHead("mysql", c.Hostname, c.Port, "--ssl-mode="+clientTLS(c.TLSMode)), nil
		},
		Steps: stepsByHand,
	}
}

// stepsByHand take everything from the account: it is of Lapse's making, and has
// nothing else to be for.
func stepsByHand(t integrations.Target, req integrations.RevokeRequest) (string, error) {
	c, err := integrations.ConfigOf[Config](t)
	if err != nil {
		return "", err
	}
	account := cmp.Or(req.Account.Name, principal.Account(t.Instance, t.ID, req.Account.PersonID, req.Account.Email))
	b := mysqldb.ByHand{Dialect: dialect}
	b.Lock(account)
	b.Step("Takes back what it was given itself, unless a trigger needs that.",
		"SELECT CONCAT('REVOKE ALL PRIVILEGES, GRANT OPTION FROM ', QUOTE(User), '@', QUOTE(Host), ';') FROM mysql.user WHERE User = ?"+unlessDefiner+"CONCAT(User, '@', Host))",
		sqlname.Literal(account))
	b.Step("Takes its roles back, unless a trigger needs them. MySQL 5.7 has none, and says so.",
		"SELECT CONCAT('REVOKE ', QUOTE(FROM_USER), '@', QUOTE(FROM_HOST), ' FROM ', QUOTE(TO_USER), '@', QUOTE(TO_HOST), ';') FROM mysql.role_edges WHERE TO_USER = ?"+
			unlessDefiner+"CONCAT(TO_USER, '@', TO_HOST))", sqlname.Literal(account))
	begin, end := "KILL ", ""
	if procedure := killProcedures[c.ManagedService]; procedure != "" {
		begin, end = "CALL mysql."+procedure+"(", ")"
	}
	return b.End(account, begin, end, c.SessionHosts...)
}
