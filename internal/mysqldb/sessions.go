package mysqldb

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/sqlname"
	"github.com/lapse-access/lapse/internal/turn"
)

// Session is a line of SHOW PROCESSLIST, which every version has.
type Session struct {
	ID   int64
	User string
	Host string
}

// handshaking is the user of a session that has not proven its password yet.
const handshaking = "unauthenticated user"

// Sessions lists the sessions of the server. Without PROCESS it would be only
// the connector's own, which nothing in the answer tells.
func (c *Conn) Sessions(ctx context.Context) ([]Session, error) {
	s, err := Ask[Session](ctx, c, "SHOW PROCESSLIST")
	return s, During("reading the sessions", err)
}

// Kill writes the statement that ends a session.
type Kill func(id int64) sqlname.Statement

// KillConnection is KILL, as servers know it that are nobody's service.
func (c *Conn) KillConnection(id int64) sqlname.Statement {
	return c.Statement("KILL CONNECTION ?", sqlname.Number(id))
}

// EndSessions ends the sessions of an account that is locked already, or has
// lost a right, and looks until there are none.
//
// A client whose handshake had begun before may come in after it: the server
// looks at the lock when it hears the name, and then waits for the password.
// So the handshakes that were open at the beginning have to be over as well,
// and one that drags on is ended.
func (c *Conn) EndSessions(ctx context.Context, user string, kill Kill) (ended int, err error) {
	if kill == nil {
		kill = c.KillConnection
	}
	asked := map[int64]bool{}
	var open []int64
	var begun map[int64]bool
	err = turn.Until(ctx, func() (bool, error) {
		sessions, err := c.Sessions(ctx)
		if err != nil {
			return false, err
		}
		open = nil
		first := begun == nil
		if first {
			begun = map[int64]bool{}
		}
		late := 0
		var errs []error
		for _, s := range sessions {
			switch {
			case s.ID == c.ID:
			case s.User == user:
				open = append(open, s.ID)
				if !asked[s.ID] {
					asked[s.ID] = true
					ended++
				}
				errs = append(errs, c.end(ctx, kill(s.ID)))
			case s.User == handshaking && first:
				begun[s.ID] = true
				late++
			case s.User == handshaking && begun[s.ID]:
				late++
			}
		}
		return len(open) == 0 && late == 0, access.Worst(errs...)
	})
	if err == nil {
		return ended, nil
	}
	if access.KindOf(err) == access.Retry && len(open) == 0 && ctx.Err() == nil {
		// Nobody needs ten seconds for a password.
		return c.endHandshakes(ctx, begun, kill, ended)
	}
	ids := make([]string, len(open))
	for i, id := range open {
		ids[i] = strconv.FormatInt(id, 10)
	}
	if len(open) == 0 {
		return ended, err
	}
	return ended, During(fmt.Sprintf("%d sessions of %s are still open (id %s)", len(open), user, strings.Join(ids, ", ")), err)
}

func (c *Conn) endHandshakes(ctx context.Context, begun map[int64]bool, kill Kill, ended int) (int, error) {
	return ended, turn.Until(ctx, func() (bool, error) {
		sessions, err := c.Sessions(ctx)
		if err != nil {
			return false, err
		}
		left := slices.DeleteFunc(sessions, func(s Session) bool { return !begun[s.ID] })
		var errs []error
		for _, s := range left {
			errs = append(errs, c.end(ctx, kill(s.ID)))
		}
		return len(left) == 0, access.Worst(errs...)
	})
}

// end ends one session; one that is not there any more has ended.
func (c *Conn) end(ctx context.Context, kill sqlname.Statement) error {
	err := c.Exec(ctx, kill)
	if Number(err) == 1094 {
		return nil
	}
	return err
}
