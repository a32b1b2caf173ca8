package postgresql

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/principal"
	"github.com/lapse-access/lapse/internal/turn"
)

// account is what the server has of a person: the role with our mark, the
// tombstones of earlier ones, and whether a stranger has the name.
type account struct {
	access.Account
	name       string // that it has, or would be given
	role       *principalRow
	mark       mark
	tombstones []principalRow
	stranger   *principalRow
	last       int64 // the number of the last operation on any of them
}

// owns is true for the marks of this instance and integration.
func (i *integration) owns(m mark) bool { return m.Instance == i.instance && m.Integration == i.id }

// unfound is an account of which nothing was read.
func (i *integration) unfound(a access.Account) (*account, error) {
	integration, person, err := access.SplitAccountID(a.ID)
	if err != nil || integration != i.id {
		return nil, access.Errorf(access.Invalid, "account %s is not of this integration", a.ID)
	}
	return &account{Account: a, name: cmp.Or(a.Name, principal.Account(i.instance, integration, person, a.Email))}, nil
}

// find reads the account by its mark, whatever its name is by now.
func (s *session) find(ctx context.Context, a access.Account) (*account, error) {
	found, err := s.i.unfound(a)
	if err != nil {
		return nil, err
	}
	rows, err := ask[principalRow](ctx, s.conn, principalsSQL, found.name, `"`+a.ID+`"`)
	if err != nil {
		return nil, during("reading account "+found.name, err)
	}
	for _, r := range rows {
		m, _ := readMark(r.Comment)
		mine := s.i.owns(m) && m.Account == a.ID
		switch {
		case mine && m.Kind == kindTombstone:
			found.tombstones = append(found.tombstones, r)
		case mine && m.Kind == kindAccount && (found.role == nil || r.Name == found.name):
			found.role, found.mark = &r, m
		case r.Name == found.name:
			found.stranger = &r
		}
		if mine {
			found.last = max(found.last, m.Sequence)
		}
	}
	if found.role != nil {
		found.name = found.role.Name
	}
	return found, nil
}

// admit refuses an operation that is older than the last one.
func (a *account) admit(sequence int64) error {
	if sequence < a.last {
		return access.Errorf(access.Superseded, "operation %d on account %s comes after operation %d", sequence, a.name, a.last)
	}
	return nil
}

// taken is the error about a role that has the account's name and not our mark.
func (a *account) taken() error {
	return access.Errorf(access.NameTaken, "role %s does not carry the mark of this account", a.name).
		WithRemedy("rename or drop the role that is in the way; if somebody changed the comment of Lapse's role, put it back")
}

// numbered is the statement that writes an operation's number into the mark, and
// the roles in whose name it is about to give memberships.
func (s *session) numbered(a *account, sequence int64, grantors ...string) statement {
	a.mark.Kind, a.mark.Instance, a.mark.Integration, a.mark.Account = kindAccount, s.i.instance, s.i.id, a.ID
	a.mark.Sequence = sequence
	for _, g := range grantors {
		if !slices.Contains(a.mark.Grantors, g) {
			a.mark.Grantors = append(a.mark.Grantors, g)
		}
	}
	return a.mark.comment(a.name)
}

// ownRole is a role with the mark of this instance and integration.
type ownRole struct {
	markedRow
	mark mark
}

// marked reads a page of the roles that carry our mark, after a name. A page
// that is not full is the last one.
func (s *session) marked(ctx context.Context, after string, page int) ([]ownRole, error) {
	rows, err := ask[markedRow](ctx, s.conn, markedSQL, `"`+s.i.id+`"`, after, page)
	if err != nil {
		return nil, during("reading the roles of Lapse", err)
	}
	out := make([]ownRole, len(rows))
	for n, r := range rows {
		m, _ := readMark(r.Comment)
		if !s.i.owns(m) {
			m = mark{} // of another Lapse on this server
		}
		out[n] = ownRole{r, m}
	}
	return out, nil
}

// memberships reads what roles are direct members of.
func (s *session) memberships(ctx context.Context, roles ...int64) ([]membership, error) {
	ms, err := ask[membership](ctx, s.conn, membershipsSQL, roles)
	return ms, during("reading memberships", err)
}

// carried is the entitlement that a membership in one of our roles stands for.
func (s *session) carried(m membership) (access.Entitlement, bool) {
	mk, _ := readMark(m.Comment)
	if mk.Kind != kindEntitlement || !s.i.owns(mk) || mk.Entitlement == nil {
		return access.Entitlement{}, false
	}
	return *mk.Entitlement, true
}

// byUs tells whether Lapse gave the account a membership in a customer's role.
// A grantor that was dropped since counts as ours, because access has to end.
func (a *account) byUs(m membership) bool {
	return m.Grantor == "" || slices.Contains(a.mark.Grantors, m.Grantor)
}

// execOn carries out statements that change a role of Lapse's own. Where the
// right to do so is missing, because the connector has another login than the
// one that made the role, the error says how to give it.
func (s *session) execOn(ctx context.Context, role string, statements ...statement) error {
	err := s.exec(ctx, statements...)
	if e, ok := errors.AsType[*access.Error](err); ok && e.Kind == access.Privilege {
		return e.WithRemedy("%s", s.server.adminRemedy(role))
	}
	return err
}

// disable is the statement that closes an account: no login, no password, and
// a date that refuses passwords besides.
func disable(name string) statement {
	return ddl("ALTER ROLE ? NOLOGIN PASSWORD NULL VALID UNTIL 'epoch'", ident(name))
}

// enable opens an account until a moment that is never earlier than the one
// that it has already.
func (a *account) enable(end time.Time) statement {
	until := "infinity"
	if !end.IsZero() {
		if a.role != nil && a.role.ValidUntil != nil && a.role.ValidUntil.After(end) {
			end = *a.role.ValidUntil
		}
		until = end.UTC().Format(time.RFC3339Nano)
	}
	return ddl("ALTER ROLE ? LOGIN VALID UNTIL ?", ident(a.name), literal(until))
}

// withdraw takes back one grantor's grant of a role.
func (s *session) withdraw(ctx context.Context, from string, m membership) error {
	revoke := ddl("REVOKE ? FROM ?", ident(m.Role), ident(from))
	if s.server.grantorsMatter() {
		revoke = ddl("REVOKE ? FROM ? GRANTED BY ?", ident(m.Role), ident(from), ident(m.Grantor))
	}
	err := s.exec(ctx, revoke)
	if access.KindOf(err) == access.Privilege {
		return access.Errorf(access.Privilege, "membership in %s is still granted by %s, which the connector may not take back", m.Role, m.Grantor).
			WithRemedy("run as %s: REVOKE %s FROM %s", m.Grantor, shown(m.Role), shown(from))
	}
	return during("taking back membership in "+m.Role, err)
}

// endSessions ends the sessions of a role on the server and on every other
// host that is configured, and looks until there are none. A host that streams
// from the server is asked only when it knows what was committed: before that
// a client could come back.
func (s *session) endSessions(ctx context.Context, name string, role int64) (ended int32, err error) {
	ended, errs := int32(0), []error(nil)
	n, err := endSessionsOn(ctx, s.conn, name, role)
	ended, errs = ended+n, append(errs, err)
	if len(s.i.config.SessionHosts) == 0 {
		return ended, err
	}
	position, err := ask[only[string]](ctx, s.conn, "SELECT pg_current_wal_lsn()::text")
	if err != nil {
		return ended, access.Worst(append(errs, err)...)
	}
	for _, host := range s.i.config.SessionHosts {
		n, err := s.endSessionsAt(ctx, host, position[0].Value, name, role)
		ended, errs = ended+n, append(errs, during("ending sessions on "+host, err))
	}
	return ended, access.Worst(errs...)
}

func (s *session) endSessionsAt(ctx context.Context, host, position, name string, role int64) (int32, error) {
	e, err := s.i.config.endpoint(host)
	if err != nil {
		return 0, err
	}
	c, err := e.open(ctx, s.i.secret.Username, s.i.secret.Password, s.pg.Config().Database)
	if err != nil {
		return 0, err
	}
	defer c.close()
	const replayed = "SELECT coalesce(pg_last_wal_replay_lsn() >= $1::pg_lsn, true)"
	err = turn.Until(ctx, func() (bool, error) {
		rows, err := ask[only[bool]](ctx, c, replayed, position)
		return err == nil && rows[0].Value, err
	})
	if err != nil {
		return 0, during("waiting for the revoke to arrive there", err)
	}
	return endSessionsOn(ctx, c, name, role)
}

func endSessionsOn(ctx context.Context, c *conn, name string, role int64) (ended int32, err error) {
	err = turn.Until(ctx, func() (bool, error) {
		open, err := ask[only[int32]](ctx, c, sessionsSQL, role)
		if err != nil || len(open) == 0 {
			return err == nil, err
		}
		n, err := ask[only[int32]](ctx, c, terminateSQL, role)
		if err != nil {
			return false, err
		}
		ended = max(ended, n[0].Value)
		return false, nil
	})
	if err == nil {
		return ended, nil
	}
	return ended, sessionError(ctx, c, name, role, err)
}

// sessionError names the sessions that are still there.
func sessionError(ctx context.Context, c *conn, name string, role int64, err error) error {
	open, readErr := ask[only[int32]](ctx, c, sessionsSQL, role)
	if readErr != nil || len(open) == 0 {
		return during("ending the sessions of "+name, err)
	}
	pids := make([]string, len(open))
	for i, pid := range open {
		pids[i] = strconv.Itoa(int(pid.Value))
	}
	e := access.Errorf(access.KindOf(err), "%d sessions of %s are still open (pid %s): %w", len(open), name, strings.Join(pids, ", "), err)
	if e.Kind == access.Privilege {
		e.WithRemedy("GRANT pg_signal_backend TO %s", shown(c.pg.Config().User))
	}
	return e
}

// endpoint is how to reach a host of the configured kind; the port may stand
// behind it, as in replica.example.com:5433.
func (c Config) endpoint(host string) (endpoint, error) {
	port := c.Port
	if name, text, err := net.SplitHostPort(host); err == nil {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return endpoint{}, fmt.Errorf("host %q: the port is not a number from 1 to 65535", host)
		}
		host, port = name, int(n)
	}
	tls, err := tlsConfigs(c.SSLMode, host, c.CACertificate)
	if err != nil {
		return endpoint{}, err
	}
	return endpoint{host: host, port: uint16(port), tls: tls, timeout: c.StatementTimeout.Std()}, nil
}

func (s *session) accounts(ctx context.Context, cursor string) (page access.PrincipalPage, err error) {
	rows, err := s.marked(ctx, cursor, accountsPage)
	if err != nil {
		return page, err
	}
	if len(rows) == accountsPage {
		page.Next = rows[accountsPage-1].Name
	}
	var roles []int64
	for _, r := range rows {
		roles = append(roles, r.OID)
	}
	held, err := s.memberships(ctx, roles...)
	if err != nil {
		return page, err
	}
	needed, err := s.dependencies(ctx, roles...)
	if err != nil {
		return page, err
	}
	for _, r := range rows {
		if r.mark.Kind == kindAccount || r.mark.Kind == kindTombstone {
			page.Principals = append(page.Principals, s.principal(r, held, needed))
		}
		if r.mark.Kind == kindEntitlement && r.mark.Entitlement != nil && r.Members == 0 {
			page.Unused = append(page.Unused, access.UnusedRole{Name: r.Name, Entitlement: *r.mark.Entitlement})
		}
	}
	return page, nil
}

// principal is what one of our accounts holds and owns.
func (s *session) principal(r ownRole, held []membership, needed []dependency) access.Principal {
	p := access.Principal{Name: r.Name, AccountID: r.mark.Account, Enabled: r.CanLogin, Tombstone: r.mark.Kind == kindTombstone}
	a := account{mark: r.mark}
	for _, m := range held {
		if m.Member != r.OID {
			continue
		}
		e, ours := s.carried(m)
		if !ours {
			e = access.Entitlement{Integration: s.i.id, Resource: access.NewResource(typeRole, m.Role), Permission: member}
		}
		switch {
		case !ours && !a.byUs(m):
			p.Foreign = append(p.Foreign, fmt.Sprintf("member of %s, granted by %s", m.Role, m.Grantor))
		case !slices.Contains(p.Entitlements, e):
			p.Entitlements = append(p.Entitlements, e)
		}
	}
	for _, d := range needed {
		switch {
		case d.Role != r.OID:
		case d.Kind == "owned":
			p.Owns = true
		default:
			p.Foreign = append(p.Foreign, d.String())
		}
	}
	return p
}
