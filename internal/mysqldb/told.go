package mysqldb

import (
	"strings"
	"time"

	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/principal"
	"github.com/lapse-access/lapse/internal/sqlname"
)

// Told makes a connection to nobody, lets write use it, and says which statements
// that would have carried out.
func Told(d *sqlname.Dialect, write func(*Conn) error) (lines []string, err error) {
	c := &Conn{Dialect: d, told: &lines}
	err = write(c)
	for n, line := range lines {
		lines[n] = strings.ReplaceAll(line, c.Now().Format(time.RFC3339), integrations.Found("now"))
	}
	return lines, err
}

// NewPassword is one for an account.
func (c *Conn) NewPassword(account string) integrations.Secret {
	if c.told != nil {
		return integrations.HiddenSecret
	}
	return integrations.Secret(principal.Password(account))
}

// Now is when a mark is written.
func (c *Conn) Now() time.Time {
	if c.told != nil {
		return time.Unix(0, 0).UTC()
	}
	return time.Now().UTC().Truncate(time.Second)
}
