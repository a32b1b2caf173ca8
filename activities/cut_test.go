package activities_test

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/activities"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/seal"
	"github.com/lapse-access/lapse/internal/store/storetest"
	"github.com/lapse-access/lapse/workflows"
)

// Promise 9: every step can be cut and repeated. Each activity is cut before and
// after each of its steps on the store, in Temporal and on the target, commits
// included, and then repeated: the end is the same as if it had not been cut.

// cutCase is one way to call an activity: prepare makes a world, from which the
// argument follows, and left tells what is there in the end.
type cutCase struct {
	name     string
	parallel bool
	prepare  func(t *testing.T) (activity, arg any, left func() []string)
}

func TestControlIsCut(t *testing.T) {
	control := func(name string, prepare func(w *world) (activity, arg any)) cutCase {
		return cutCase{name, true, func(t *testing.T) (any, any, func() []string) {
			w := newWorld(t)
			activity, arg := prepare(w)
			return activity, arg, w.left
		}}
	}
	sealed := func(w *world) {
		require.NoError(w.t, w.Store.PutCredential(w.t.Context(), w.account(), 1, []byte("sealed")))
	}
	cases := []cutCase{
		control("LoadRequest", func(w *world) (any, any) { return w.LoadRequest, w.approved("r1", "read_only").ID }),
		control("LoadRequest, forged", func(w *world) (any, any) { return w.LoadRequest, "nobody's" }),
		control("RecordDecision", func(w *world) (any, any) {
			return w.RecordDecision, w.decision(w.ask("r1", "read_only"), access.Approve, w.dan)
		}),
		control("RecordDecision, refused", func(w *world) (any, any) {
			return w.RecordDecision, w.decision(w.ask("r1", "read_only"), access.Approve, w.ana)
		}),
		control("LoadAccount", func(w *world) (any, any) {
			w.holds(w.approved("r1", "read_only"), access.StateActive, -time.Minute, time.Hour)
			return w.LoadAccount, w.account()
		}),
		control("Remind", func(w *world) (any, any) {
			w.ask("r1", "read_only")
			return w.Remind, access.RemindArgs{RequestID: "r1", Kind: access.NoticeReminder}
		}),
		control("Ticket", func(w *world) (any, any) { return w.Ticket, w.ticketArgs(w.approved("r1", "read_only", "read_write")) }),
		control("Ticket, refused", func(w *world) (any, any) { return w.Ticket, w.ticketArgs(w.ask("r1", "read_only")) }),
		control("Record", func(w *world) (any, any) {
			r := w.approved("r1", "read_only")
			sealed(w)
			h := access.Hold{ID: r.HoldIDs[0], RequestID: "r1", AccountID: w.account(), State: access.StateEnded}
			return w.Record, []access.Change{{Event: access.Event{Key: "hold/ended", Kind: "ended"}, Holds: []access.Hold{h}},
				{Event: access.Event{Key: "deleted", Kind: "account.deleted"}, Account: &access.AccountChange{ID: w.account(), Deleted: true}}}
		}),
		control("TellAccount", func(w *world) (any, any) {
			w.approved("r1", "read_only")
			return w.TellAccount, workflows.TellArgs{AccountID: w.account(), Op: workflows.Op{ID: "op-1", Kind: workflows.UpdateHold}}
		}),
		control("SweepStore", func(w *world) (any, any) {
			w.holds(w.approved("r1", "read_only"), access.StateActive, -time.Hour, time.Hour)
			w.ask("r2", "read_write")
			return w.SweepStore, access.SweepArgs{Integration: w.pg.ID}
		}),
		control("SweepCompare", func(w *world) (any, any) {
			w.holds(w.approved("r1", "read_only"), access.StateEnding, -time.Hour, -time.Minute)
			w.temporal.running(workflows.AccountID(w.account()))
			return w.SweepCompare, access.CompareArgs{Read: true, Report: access.SweepReport{ID: w.pg.ID, Integration: "prod-pg", Known: true, At: time.Now()},
				Principals: []access.Principal{{Name: "lapse_nobody", AccountID: access.AccountID(w.pg.ID, "per-nobody")}}}
		}),
		control("StoreResources", func(w *world) (any, any) {
			return w.StoreResources, access.StoreArgs{Integration: w.pg.ID, Run: "run-1", Page: access.Page{
				Resources: []access.Found{{Resource: access.NewResource("schema", "shop", "a"), Permissions: []string{"read_only"}}, {Resource: access.NewResource("schema", "shop", "b")}}}}
		}),
		control("Integration", func(w *world) (any, any) { return w.Integration, w.pg.ID }),
		control("PlanRotation", func(w *world) (any, any) {
			w.holds(w.approved("r1", "read_only"), access.StateActive, -time.Hour, time.Hour)
			sealed(w)
			return w.PlanRotation, access.RotationArgs{Integration: w.pg.ID, Now: true}
		}),
		control("Automatic", func(w *world) (any, any) { return w.automatic().Automatic, 10 }),
		control("Automatic, not theirs any more", func(w *world) (any, any) {
			w.leased()
			w.outOfGroup()
			return w.Automatic, 10
		}),
		control("Automatic, ended by hand and failed", func(w *world) (any, any) {
			r := w.leased()
			w.put(w.decision(r, access.Release, w.ana))
			w.holds(r, access.StateFailed, 0, 0)
			return w.Automatic, 10
		}),
		control("Wake", func(w *world) (any, any) {
			w.holds(w.approved("r1", "read_only"), access.StateEnding, -time.Hour, -time.Minute)
			w.temporal.running(workflows.AccountID(w.account()))
			return w.Wake, w.pg.ID
		}),
	}
	removing := func(name string, prepare func(w *world) (activity, arg any)) {
		cases = append(cases, control(name, func(w *world) (any, any) {
			w.holds(w.approved("r1", "read_only", "read_write"), access.StateActive, -time.Hour, time.Hour)
			sealed(w)
			w.temporal.running(workflows.AccountID(w.account()))
			w.remove()
			return prepare(w)
		}))
	}
	removing("EndIntegration", func(w *world) (any, any) { return w.EndIntegration, w.pg.ID })
	removing("EndIntegration, an account without holds", func(w *world) (any, any) {
		w.over("r1")
		return w.EndIntegration, w.pg.ID
	})
	removing("EndIntegration, accepted", func(w *world) (any, any) {
		w.accept()
		return w.EndIntegration, w.pg.ID
	})
	removing("ForgetIntegration, left", func(w *world) (any, any) {
		return w.ForgetIntegration, access.ForgetArgs{Integration: w.pg.ID, Shared: []string{"role x: somebody has it"}}
	})
	removing("ForgetIntegration", func(w *world) (any, any) {
		w.over("r1")
		w.record(access.Change{Account: &access.AccountChange{ID: w.account(), Deleted: true}})
		w.unconfigured()
		return w.ForgetIntegration, access.ForgetArgs{Integration: w.pg.ID}
	})
	cutAll(t, cases, (*activities.Control)(nil), "Tell", "Decide", "CheckEpoch", "AcceptRestore", "Restored", "KeepRunbook", "WriteRunbook")
}

func TestProvisionIsCut(t *testing.T) {
	granted := func(c *connector) access.Account {
		named := anas
		named.Name = "lapse_ana"
		c.target.Put(anas.ID, named.Name, on("int-1", "read_only"))
		return named
	}
	provision := func(name string, prepare func(c *connector) (activity, arg any)) cutCase {
		return cutCase{name, false, func(t *testing.T) (any, any, func() []string) {
			c := newConnector(t)
			c.target.Around = storetest.Do
			find, put := c.Target, c.PutCredential
			c.Target = func(ctx context.Context, id string) (in config.Integration, err error) {
				err = storetest.Do(ctx, func() (err error) { in, err = find(ctx, id); return err })
				return in, err
			}
			c.PutCredential = func(ctx context.Context, account string, generation int, sealed []byte) error {
				return storetest.Do(ctx, func() error { return put(ctx, account, generation, sealed) })
			}
			activity, arg := prepare(c)
			return activity, arg, func() []string {
				out := []string{fmt.Sprint("exists ", c.target.Exists(anas.ID), " ", c.target.Has(anas.ID)), "token " + c.target.Token, c.kept()}
				for generation := range 5 {
					if info := seal.Info(anas.ID, generation); c.sealed[info] != nil {
						plain, err := seal.Open(c.portal, info, c.sealed[info])
						out = append(out, fmt.Sprint(generation, " ", string(plain), err))
					}
				}
				return out
			}
		}}
	}
	cases := []cutCase{
		provision("Check", func(c *connector) (any, any) { return c.Check, "int-1" }),
		provision("Discover", func(c *connector) (any, any) { return c.Discover, access.DiscoverArgs{Integration: "int-1"} }),
		provision("Held", func(c *connector) (any, any) {
			return c.Held, access.HeldArgs{Account: anas, Want: []access.Entitlement{on("int-1", "read_only")}}
		}),
		provision("Grant", func(c *connector) (any, any) {
			return c.Grant, access.GrantArgs{Ticket: ticket().Sign(c.control), Generation: 3}
		}),
		provision("Verify", func(c *connector) (any, any) {
			return c.Verify, access.VerifyArgs{Account: granted(c), Want: []access.Entitlement{on("int-1", "read_only")}}
		}),
		provision("Revoke", func(c *connector) (any, any) {
			return c.Revoke, access.RevokeArgs{Account: granted(c), Sequence: 2, End: []access.Entitlement{on("int-1", "read_only")}}
		}),
		provision("Credential", func(c *connector) (any, any) {
			return c.Credential, access.CredentialArgs{Account: granted(c), Sequence: 2, Generation: 4}
		}),
		provision("DeleteAccount", func(c *connector) (any, any) {
			return c.DeleteAccount, access.DeleteArgs{Account: granted(c), Sequence: 2}
		}),
		provision("Accounts", func(c *connector) (any, any) {
			granted(c)
			return c.Accounts, access.DiscoverArgs{Integration: "int-1"}
		}),
		provision("RotateSecret", func(c *connector) (any, any) {
			c.inFile(t)
			return c.RotateSecret, "int-1"
		}),
		provision("Maintain", func(c *connector) (any, any) { return c.Maintain, "int-1" }),
		provision("Clean", func(c *connector) (any, any) { return c.Clean, "int-1" }),
	}
	cutAll(t, cases, (*activities.Provision)(nil), "Close")
}

// cutAll cuts every case at each of its steps. Each exported method needs a
// case, but for those that are no activities.
func cutAll(t *testing.T, cases []cutCase, of any, others ...string) {
	for m := range reflect.TypeOf(of).Methods() {
		if !slices.Contains(others, m.Name) && !slices.ContainsFunc(cases, func(c cutCase) bool { return c.name == m.Name }) {
			t.Errorf("the activity %s is never cut", m.Name)
		}
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if c.parallel {
				t.Parallel()
			}
			activity, arg, left := c.prepare(t)
			ctx, steps := storetest.Count(t.Context())
			_, wholeErr := runUnder[any](ctx, t, activity, arg)
			want := left()
			t.Logf("%d steps", steps.Made())
			for step := 1; step <= steps.Made(); step++ {
				for when, after := range map[string]bool{"before": false, "after": true} {
					activity, arg, left := c.prepare(t)
					ctx, _ := storetest.Cut(t.Context(), step, after)
					runUnder[any](ctx, t, activity, arg) // it may fail, and may do without what was cut
					_, err := run[any](t, activity, arg)
					if (err == nil) != (wholeErr == nil) {
						t.Errorf("cut %s step %d, and repeated: %v; without a cut: %v", when, step, err, wholeErr)
					}
					require.Equal(t, want, left(), "cut %s step %d, and repeated", when, step)
				}
			}
		})
	}
}

// leaseID is that of a request, or a hold, which follows from a person's random
// one.
var leaseID = regexp.MustCompile(`\b(auto|hold)-[0-9a-v]{16}\b`)

// left is what stands in the store and in Temporal, without moments and random
// names.
func (w *world) left() (out []string) {
	db, err := sql.Open("sqlite", "file:"+w.path)
	require.NoError(w.t, err)
	defer db.Close()
	rows := func(query string) (all []string) {
		found, err := db.QueryContext(w.t.Context(), query)
		require.NoError(w.t, err)
		defer found.Close()
		for found.Next() {
			var s string
			require.NoError(w.t, found.Scan(&s))
			all = append(all, s)
		}
		require.NoError(w.t, found.Err())
		return all
	}
	for _, table := range rows("select name from sqlite_master where type = 'table' and name not like 'sqlite%' order by 1") {
		out = append(out, table+" "+rows("select count(*) from " + table)[0])
	}
	out = append(out, rows("select kind from events order by kind")...)
	out = append(out, rows("select id || ' ' || state from holds order by id")...)
	did := map[string]bool{} // what is told twice is told
	for _, d := range w.temporal.did {
		did[strings.NewReplacer(w.account(), "ACCOUNT", w.pg.ID, "INTEGRATION").Replace(d)] = true
	}
	out = append(out, slices.Sorted(maps.Keys(did))...)
	for i := range out {
		out[i] = leaseID.ReplaceAllString(out[i], "$1")
	}
	return out
}
