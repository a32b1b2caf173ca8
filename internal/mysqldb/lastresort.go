package mysqldb

import (
	"net"
	"strconv"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/sqlname"
)

// What an administrator does by hand while Lapse does not run. MySQL has no
// statement that writes statements, so that a shell does: what one client prints
// another one runs.

// HandHead defines lapse, the server's own client, which runs the statements of
// its input or of --execute.
func HandHead(client, host string, port int, options ...string) string {
	words := append([]string{client, integrations.ShellWord("--host=" + host), "--port=" + strconv.Itoa(port), "--user=root"}, options...)
	return `# As root, or as the account of the connector. Write the password for the dots.
export MYSQL_PWD='...'
lapse() { ` + strings.Join(words, " ") + ` --batch --raw --skip-column-names "$@"; }
`
}

// ByHand writes steps, each of which runs what a query prints.
type ByHand struct {
	Dialect *sqlname.Dialect
	steps   strings.Builder
	err     error
}

// Step adds one.
func (b *ByHand) Step(why, query string, args ...sqlname.Fragment) {
	b.step(why, "", "", query, args...)
}

// step adds one, with options of the client that asks and of the one that runs.
func (b *ByHand) step(why, ask, run, query string, args ...sqlname.Fragment) {
	s := b.Dialect.Statement(query, args...)
	if s.Err != nil {
		b.err = access.Errorf(access.Invalid, "%v", s.Err)
	}
	b.steps.WriteString("# " + why + "\nlapse " + ask + "--execute=" + integrations.ShellWord(s.Text) + strings.TrimRight(" | lapse "+run, " ") + "\n")
}

// Lock adds the step that closes the login.
func (b *ByHand) Lock(account string) {
	b.Step("Locks the account.", "SELECT CONCAT('ALTER USER ', QUOTE(User), '@', QUOTE(Host), ' ACCOUNT LOCK;') FROM mysql.user WHERE User = ?", sqlname.Literal(account))
}

// End adds the steps that end the sessions, here and on replicas, by statements
// that begin and end so, and returns all steps. Somebody who began to log in
// before the lock shows a moment later: the steps may be run again.
func (b *ByHand) End(account, begin, end string, replicas ...string) (string, error) {
	for _, host := range append([]string{""}, replicas...) {
		why, on := "Ends its sessions. One that has just ended is an error that does no harm.", ""
		if host != "" {
			name, port, err := net.SplitHostPort(host)
			if err != nil {
				name, port = host, ""
			}
			why, on = "Ends its sessions on a replica.", integrations.ShellWord("--host="+name)+" "
			if port != "" {
				on += integrations.ShellWord("--port="+port) + " "
			}
		}
		b.step(why, on, on+"--force",
			"SELECT CONCAT(?, ID, ?) FROM information_schema.PROCESSLIST WHERE USER = ?", sqlname.Literal(begin), sqlname.Literal(end+";"), sqlname.Literal(account))
	}
	return b.steps.String(), b.err
}
