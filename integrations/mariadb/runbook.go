package mariadb

import (
	"cmp"

	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/mysqldb"
	"github.com/lapse-access/lapse/internal/principal"
	"github.com/lapse-access/lapse/internal/sqlname"
)

func lastResort() integrations.LastResort {
	return integrations.LastResort{
		Language: "sh",
		Head: func(t integrations.Target) (string, error) {
			c, err := integrations.ConfigOf[Config](t)
			if err != nil {
				return "", err
			}
			return mysqldb.HandHead("mariadb", c.Hostname, c.Port, clientTLS[c.TLSMode]...), nil
		},
		Steps: stepsByHand,
	}
}

// stepsByHand lock the account and empty its umbrella. The umbrella and the mark
// stay, so that Lapse knows the account again.
func stepsByHand(t integrations.Target, req integrations.RevokeRequest) (string, error) {
	c, err := integrations.ConfigOf[Config](t)
	if err != nil {
		return "", err
	}
	account := cmp.Or(req.Account.Name, principal.Account(t.Instance, t.ID, req.Account.PersonID, req.Account.Email))
	b := mysqldb.ByHand{Dialect: dialect}
	b.Lock(account)
	// Without what its definer has, every change of a trigger's table would
	// fail for everybody.
	b.Step("Takes its roles back, unless a trigger needs them.",
		"SELECT CONCAT('REVOKE ', QUOTE(Role), ' FROM ', QUOTE(User), ';') FROM mysql.roles_mapping WHERE User = ? AND Host = ''"+
			" AND NOT EXISTS (SELECT 1 FROM information_schema.TRIGGERS WHERE DEFINER = CONCAT(User, '@'))", sqlname.Literal(umbrella(account)))
	return b.End(account, "KILL ", "", c.SessionHosts...)
}
