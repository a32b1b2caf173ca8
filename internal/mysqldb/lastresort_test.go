package mysqldb_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/lapse-access/lapse/internal/mysqldb"
	"github.com/lapse-access/lapse/internal/sqlname"
)

// TestByHand runs the steps with a client that says what it is asked: whatever
// the account is called, the statements arrive as they were written.
func TestByHand(t *testing.T) {
	const nasty = "we\"ird';--\\ $HOME $(exit 7) `exit 8` !! */ x"
	b := mysqldb.ByHand{Dialect: sqlname.MySQL}
	b.Lock(nasty)
	steps, err := b.End(nasty, "CALL mysql.rds_kill(", ")", "replica.example.com:3307", "b$(exit 9)")
	if err != nil {
		t.Fatal(err)
	}
	client := `lapse() { case "$*" in *--execute=*) printf '%s\n' "$@" >&2 ;; *) cat >/dev/null; printf 'run %s\n' "$*" >&2 ;; esac; }` + "\n"
	out, err := exec.CommandContext(t.Context(), "/bin/sh", "-eu", "-c", client+steps).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := sqlname.MySQL.Quote(sqlname.Literal(nasty))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"--execute=SELECT CONCAT('ALTER USER ', QUOTE(User), '@', QUOTE(Host), ' ACCOUNT LOCK;') FROM mysql.user WHERE User = " + text + "\n",
		"--execute=SELECT CONCAT('CALL mysql.rds_kill(', ID, ');') FROM information_schema.PROCESSLIST WHERE USER = " + text + "\n",
		"--host=replica.example.com\n--port=3307\n--execute=",
		"--host=b$(exit 9)\n--execute=",
		"run --force\n",
		"run --host=b$(exit 9) --force\n",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the client is not asked %q:\n%s", want, out)
		}
	}
	bad := mysqldb.ByHand{Dialect: sqlname.MySQL}
	bad.Lock("\xff")
	if steps, err := bad.End("x", "KILL ", ""); err == nil {
		t.Errorf("a name that is not UTF-8 was written: %s", steps)
	}
}
