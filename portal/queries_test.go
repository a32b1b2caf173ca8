package portal

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/store"
)

// counted is the store's driver with a count of the statements that it runs.
type counted struct{ driver.Driver }

var statements atomic.Int64

func (d counted) Open(name string) (driver.Conn, error) {
	// No power is cut here, and waiting for the disk would be most of the time.
	c, err := d.Driver.Open(strings.Replace(name, "synchronous(FULL)", "synchronous(OFF)", 1))
	return countedConn{c}, err
}

type countedConn struct{ driver.Conn }

func (c countedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	statements.Add(1)
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c countedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	statements.Add(1)
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
}

func (c countedConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	return c.Conn.(driver.ConnBeginTx).BeginTx(ctx, o)
}

func init() {
	db, err := sql.Open(store.Driver, "")
	if err != nil {
		panic(err)
	}
	defer db.Close()
	sql.Register("counted", counted{db.Driver()})
	store.Driver = "counted"
}

// full is a rig with requests of ana's and resources: of the requests a quarter
// waits, a quarter is open, and the others are over.
func full(t testing.TB, requests, resources int) *rig {
	t.Helper()
	r := configured(t)
	shop, err := r.store.IntegrationByName(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	found := make([]access.Found, resources)
	for i := range found {
		found[i] = access.Found{Resource: access.NewResource("schema", "shop", fmt.Sprintf("part%05d", i)), Permissions: []string{"read_only", "read_write"}}
	}
	if err := r.store.PutResources(t.Context(), shop.ID, "run", found); err != nil {
		t.Fatal(err)
	}
	who, err := r.store.PersonByEmail(t.Context(), ana)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Add(-time.Hour)
	for i := range requests {
		at := now.Add(time.Duration(i) * time.Millisecond)
		q := access.Request{ID: fmt.Sprintf("req-%05d", i), PersonID: who.ID, Reason: "load", Duration: access.Duration(time.Hour), HoldIDs: []string{fmt.Sprintf("hold-%05d", i)},
			Flow: "analysts", FlowVersion: 1, CreatedAt: at, ExpiresAt: at.Add(24 * time.Hour),
			Asked: []access.Asked{asks(shop, found[i%resources], "read_only")}}
		event := access.Event{Key: q.ID, Kind: "request.created", At: at, RequestID: q.ID}
		if err := r.store.CreateRequest(t.Context(), q, event); err != nil {
			t.Fatal(err)
		}
		if i%4 == 0 {
			continue
		}
		hold, err := r.store.Hold(t.Context(), q.HoldIDs[0])
		if err != nil {
			t.Fatal(err)
		}
		hold.State, hold.StartsAt, hold.EndsAt, hold.MaxEnd = access.StateEnded, at, at.Add(2*time.Hour), at.Add(8*time.Hour)
		if i%4 == 1 {
			hold.State = access.StateActive
		}
		change := access.Change{Event: access.Event{Key: q.ID + "/done", Kind: "granted", At: at, RequestID: q.ID, AccountID: hold.AccountID},
			Request: &access.RequestChange{ID: q.ID, State: access.StateApproved}, Holds: []access.Hold{hold}}
		later := access.Change{Event: access.Event{Key: q.ID + "/later", Kind: "account.deleted", At: at, AccountID: hold.AccountID}}
		if err := r.store.Record(t.Context(), []access.Change{change, later}); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// loads are the pages with the most to read, and who reads them.
var loads = []struct{ who, path string }{
	{ana, "/"},
	{ana, "/?after=req-00050"},
	{ana, "/request"},
	{ana, "/request?q=part0001"},
	{ana, "/request?q=nothing+has+this+in+its+name"},
	{ana, "/request?" + url.Values{"want": {wantOf("shop", "schema:shop/part00001", "read_only"), wantOf("shop", "schema:shop/part00002", "read_only")}}.Encode()},
	{ana, "/requests/req-00001"},
	{ana, "/inbox"},
	{cy, "/inbox"},
	{cy, "/requests/req-00001"},
	{bo, "/all"},
	{bo, "/all?show=overdue"},
	{bo, "/all?show=waiting"},
	{bo, "/all?show=requests"},
	{bo, "/all?show=requests&after=req-00100"},
	{bo, "/sweep"},
	{cy, "/sweep/shop"},
}

// A page takes as many statements with 2,000 requests and 5,000 resources as
// with a tenth of them.
func TestQueriesOfPages(t *testing.T) {
	few, many := full(t, 200, 500), full(t, 2000, 5000)
	for _, load := range loads {
		count := func(r *rig) int64 {
			cookie := r.cookie(load.who)
			before := statements.Load()
			res := r.send("GET", load.path, cookie, nil)
			if res.status != http.StatusOK {
				t.Errorf("%s as %s: status %d", load.path, load.who, res.status)
			}
			return statements.Load() - before
		}
		a, b := count(few), count(many)
		t.Logf("%2d statements for %s as %s", b, load.path, load.who)
		if a != b || b == 0 || b > 12 {
			t.Errorf("%s as %s: %d statements with few rows, %d with many, want the same and 12 at most", load.path, load.who, a, b)
		}
	}
}

// The time of a page stays flat as well.
func BenchmarkPages(b *testing.B) {
	for _, size := range []struct{ requests, resources int }{{200, 500}, {2000, 5000}} {
		r := full(b, size.requests, size.resources)
		for _, load := range loads {
			cookie := r.cookie(load.who)
			b.Run(fmt.Sprintf("%.40s as %s/%d requests", load.path, load.who, size.requests), func(b *testing.B) {
				for b.Loop() {
					if res := r.send("GET", load.path, cookie, nil); res.status != http.StatusOK {
						b.Fatal(res.status)
					}
				}
			})
		}
	}
}
