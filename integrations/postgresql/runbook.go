package postgresql

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

// byHand finds the account by its mark, closes its login, takes every membership
// back, from each who gave it, and then ends its sessions: nobody comes back
// between. The mark stands in a setting, so that no name is a part of the code.
const byHand = `SELECT set_config('lapse.account', ?, false);
DO $$
DECLARE
  account record;
  membership record;
  giver text;
BEGIN
  FOR account IN
    SELECT r.oid, r.rolname FROM pg_roles r JOIN pg_shdescription d ON d.objoid = r.oid AND d.classoid = 'pg_authid'::regclass
    WHERE starts_with(d.description, current_setting('lapse.account'))
  LOOP
    EXECUTE format('ALTER ROLE %I NOLOGIN PASSWORD NULL VALID UNTIL ''epoch''', account.rolname);
    FOR membership IN
      SELECT r.rolname, g.rolname AS grantor FROM pg_auth_members m
      JOIN pg_roles r ON r.oid = m.roleid LEFT JOIN pg_roles g ON g.oid = m.grantor WHERE m.member = account.oid
    LOOP
      giver = CASE WHEN current_setting('server_version_num')::int >= 160000 THEN format(' GRANTED BY %I', membership.grantor) ELSE '' END;
      EXECUTE format('REVOKE %I FROM %I', membership.rolname, account.rolname) || giver || ' CASCADE';
    END LOOP;
  END LOOP;
END $$;
`

// endByHand works on standbys too: the mark is there.
const endByHand = `SELECT r.rolname AS account, r.rolcanlogin AS "can log in", count(pg_terminate_backend(s.pid)) AS "sessions ended"
FROM pg_roles r JOIN pg_shdescription d ON d.objoid = r.oid AND d.classoid = 'pg_authid'::regclass
LEFT JOIN pg_stat_activity s ON s.usesysid = r.oid
WHERE starts_with(d.description, ?) GROUP BY 1, 2;
`

func lastResort() integrations.LastResort {
	return integrations.LastResort{Language: "sql", Head: psql, Steps: stepsByHand}
}

// psql is how an administrator connects:
// https://www.postgresql.org/docs/current/app-psql.html
func psql(t integrations.Target) (string, error) {
	c, err := integrations.ConfigOf[Config](t)
	if err != nil {
		return "", err
	}
	value := strings.NewReplacer(`\`, `\\`, `'`, `\'`)
	conn := fmt.Sprintf("host='%s' port=%d dbname='%s' user=postgres sslmode=%s", value.Replace(c.Hostname), c.Port, value.Replace(c.DatabaseName), c.SSLMode)
	head := "# As a superuser, or as the role of the connector. Write the password for the dots.\nexport PGPASSWORD='...'\n"
	if c.CACertificate != "" {
		head = "# First: export PGSSLROOTCERT=FILE with the certificates that stand in ca_certificate.\n" + head
	}
	return head + "psql --no-psqlrc --set=ON_ERROR_STOP=1 " + integrations.ShellWord(conn) + "\n", nil
}

func stepsByHand(t integrations.Target, req integrations.RevokeRequest) (string, error) {
	c, err := integrations.ConfigOf[Config](t)
	if err != nil {
		return "", err
	}
	mark, err := json.Marshal(mark{Kind: kindAccount, Instance: t.Instance, Integration: t.ID, Account: req.Account.ID})
	if err != nil {
		return "", err
	}
	begins := literal(markPrefix + strings.TrimSuffix(string(mark), "}"))
	first, second := ddl(byHand, begins), ddl(endByHand, begins)
	if first.Err != nil || second.Err != nil {
		return "", access.Errorf(access.Invalid, "account %s: %v %v", req.Account.ID, first.Err, second.Err)
	}
	script := first.Text
	if len(c.SessionHosts) > 0 {
		script += fmt.Sprintf("-- What follows also on %q.\n", c.SessionHosts)
	}
	return script + second.Text, nil
}
