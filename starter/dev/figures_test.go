package main

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/portal/api"
	"github.com/lapse-access/lapse/workflows"
)

// sizes are how much TestFigures measures.
type sizes struct {
	full           bool
	sleepers       [2]int        // sleeping grants between which memory and disk are compared
	rounds         int           // of floors and lifecycles, in turns; of the full ones the first is to warm up
	clients        int           // people who ask at once
	few            int           // as many on PostgreSQL, where operations take turns
	asleep         time.Duration // of a lifecycle
	floors, cycles int           // in a round
	slow           int           // lifecycles in a round on PostgreSQL
	approvals      int           // one at a time, and as many in parallel
	ends           []int         // in one second on PostgreSQL
}

var (
	smallSizes = sizes{sleepers: [2]int{1, 5}, rounds: 1, clients: 4, few: 2, asleep: 3 * time.Second, floors: 8, cycles: 4, slow: 2, approvals: 2, ends: []int{5}}
	fullSizes  = sizes{full: true, sleepers: [2]int{50, 250}, rounds: 3, clients: 24, few: 8, asleep: 2 * time.Second, floors: 96, cycles: 48, slow: 16, approvals: 30, ends: []int{200}}
	longSizes  = sizes{full: true, sleepers: [2]int{100, 1000}, rounds: 4, clients: 24, few: 8, asleep: 2 * time.Second, floors: 324, cycles: 96, slow: 32, approvals: 60, ends: []int{200, 1000}}
)

// TestFigures measures what Lapse costs, in one process with its Temporal
// server: on a target in memory, so that Lapse and Temporal are what is
// measured, and on a real PostgreSQL. It runs small sizes and checks only that
// every figure is there and sane, since machines are noisy; the full sizes are
//
//	make bench                  # prints the table
//	make bench LAPSE_UPDATE=1   # and writes it into docs/performance.md
//	make bench LAPSE_FIGURES=long   # with 1,000 where it has 250 and 200 otherwise
func TestFigures(t *testing.T) {
	size := smallSizes
	switch os.Getenv("LAPSE_FIGURES") {
	case "":
		t.Parallel()
	case "long":
		size = longSizes
	default:
		size = fullSizes
	}
	f := newFigures(t, size)
	for _, part := range []struct {
		name    string
		measure func() error
	}{
		// Memory first: the process is as it was started.
		{"sleeping", f.sleeping},
		{"lifecycles", f.lifecycles},
		{"approval to usable", f.usable},
		{"many ends at once", f.manyEnds},
		{"statements", f.statements},
		{"actions", f.actions},
	} {
		start := time.Now()
		if err := part.measure(); err != nil {
			t.Fatalf("%s: %v", part.name, err)
		}
		t.Logf("%s: %s", part.name, time.Since(start).Round(time.Second))
	}
	if !size.full {
		t.Logf("small sizes, which say nothing:\n%s", f.table())
		return
	}
	check(t, f.benchmarks())
	fmt.Printf("\n%s\n", f.table())
	if os.Getenv("LAPSE_UPDATE") == "1" {
		check(t, update("../../docs/performance.md", f.table()))
	}
}

// figure is one line of the table.
type figure struct{ name, value, ratio, how string }

// add is a line of the table. The numbers behind it are to be positive.
func (f *figures) add(name, value, ratio, how string, numbers ...float64) {
	f.t.Helper()
	for _, n := range numbers {
		if !(n > 0) || math.IsInf(n, 0) {
			f.t.Errorf("%s is %s (%v)", name, value, numbers)
		}
	}
	f.rows = append(f.rows, figure{name, value, ratio, how})
}

// cost is what one of many things took.
type cost struct{ perSecond, cpu float64 } // cpu in seconds of this process

// costOf measures n things done by clients in parallel.
func costOf(n, clients int, work func(i, client int) error) (cost, error) {
	before, start := cpu(), time.Now()
	err := atOnce(n, clients, work)
	return cost{float64(n) / time.Since(start).Seconds(), (cpu() - before).Seconds() / float64(n)}, err
}

// cpu is the user and system time of this process.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// floor is the least that one can have of Temporal: a workflow with one
// activity that does nothing.
func floor(ctx workflow.Context) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 15 * time.Second})
	return workflow.ExecuteActivity(ctx, "nothing").Get(ctx, nil)
}

// lifecycles compares whole lifecycles with the floor, in turns.
func (f *figures) lifecycles() error {
	w := worker.New(f.node.Temporal, "floor", worker.Options{DeadlockDetectionTimeout: 5 * time.Second})
	w.RegisterWorkflowWithOptions(floor, workflow.RegisterOptions{Name: "floor"})
	w.RegisterActivityWithOptions(func(context.Context) error { return nil }, activity.RegisterOptions{Name: "nothing"})
	if err := w.Start(); err != nil {
		return err
	}
	defer w.Stop()
	one := map[string]func(i, client int) error{"": func(int, int) error {
		run, err := f.node.Temporal.ExecuteWorkflow(f.t.Context(), client.StartWorkflowOptions{TaskQueue: "floor"}, "floor")
		if err != nil {
			return err
		}
		return run.Get(f.t.Context(), nil)
	}}
	n := map[string]int{"": f.floors, inMemory: f.cycles, direct: f.slow}
	clients := map[string]int{"": f.clients, inMemory: f.clients, direct: f.few}
	for _, integration := range []string{inMemory, direct} {
		var who []string
		for range clients[integration] {
			who = append(who, f.person(integration))
		}
		one[integration] = func(_, client int) error {
			r, err := f.ask(who[client], integration, schema, f.asleep)
			if err == nil {
				err = f.approve(r)
			}
			if err == nil {
				err = f.over(r)
			}
			if err != nil {
				return err
			}
			row, err := f.node.Store.Request(f.t.Context(), r.ID)
			if err == nil && f.full && (row.Holds[0].Grant == nil || row.Holds[0].State != access.StateEnded) {
				err = fmt.Errorf("%s was not granted and ended: %+v", r.ID, row.Holds[0])
			}
			return err
		}
	}
	costs := map[string][]cost{}
	for round := range f.rounds {
		for _, what := range []string{"", inMemory, direct} {
			c, err := costOf(n[what], clients[what], one[what])
			if err != nil {
				return err
			}
			if round > 0 || !f.full { // the first one warms up
				costs[what] = append(costs[what], c)
			}
		}
	}
	line := func(name, what, more string) {
		how := fmt.Sprintf("%d at once, %d in each of %d rounds, medians; CPU of the whole process, Temporal and portal included%s", clients[what], n[what], len(costs[what]), more)
		var rate, cpu, rates, cpus []float64
		for round, c := range costs[what] {
			rate, cpu = append(rate, c.perSecond), append(cpu, c.cpu)
			rates, cpus = append(rates, costs[""][round].perSecond/c.perSecond), append(cpus, c.cpu/costs[""][round].cpu)
		}
		f.add(name, fmt.Sprintf("%.1f/s, %.1f ms of CPU", median(rate), 1000*median(cpu)), fmt.Sprintf("%.1f × the floor's CPU, 1/%.1f of its rate", median(cpus), median(rates)),
			how, append(append(rate, cpu...), cpus...)...)
	}
	line("the floor: a workflow with one activity that does nothing", "", "")
	line(fmt.Sprintf("lifecycle: request, approval, grant, end after %s, revoke", f.asleep), inMemory, "; target in memory, people who have an account")
	line("the same on PostgreSQL", direct, "; so few that the rate is no maximum; the CPU of PostgreSQL is not in it")
	return nil
}

// usable measures the time from the approval to the credential.
func (f *figures) usable() error {
	var first float64
	for _, clients := range []int{1, 8} {
		took := make([]time.Duration, f.approvals)
		people := make([]string, len(took))
		for i := range people {
			people[i] = f.person(direct)
		}
		err := atOnce(len(took), clients, func(i, _ int) error {
			r, err := f.ask(people[i], direct, schema, time.Hour)
			if err != nil {
				return err
			}
			approved := make(chan error, 1)
			start := time.Now()
			go func() { approved <- f.approve(r) }()
			if _, err := f.until(r, 5*time.Millisecond, isActive); err != nil {
				return err
			}
			var c api.Credential
			if err := f.call(r.by, "/requests/"+r.ID+"/credentials", api.NewCredential{}, &c); err != nil {
				return err
			}
			took[i] = time.Since(start)
			if c.Password == "" {
				return fmt.Errorf("%s has no password", r.ID)
			}
			if err := <-approved; err != nil {
				return err
			}
			return f.release(r)
		})
		if err != nil {
			return err
		}
		p50, p99 := percentile(took, 50), percentile(took, 99)
		first = cmp.Or(first, p50.Seconds())
		f.add(fmt.Sprintf("approval to usable, PostgreSQL, %d at a time", clients), fmt.Sprintf("p50 %s, p99 %s", milliseconds(p50), milliseconds(p99)),
			fmt.Sprintf("%.1f × one at a time", p50.Seconds()/first),
			fmt.Sprintf("%d people without an account: from sending the approval to having fetched the credential, which has logged in once", len(took)), p50.Seconds(), p99.Seconds())
	}
	return nil
}

// wave is access of many people that ends in the same second.
type wave struct {
	f           *figures
	integration string
	end         time.Time
	all         []asked

	mu    sync.Mutex
	delay time.Duration // from asking to the start of the clock, running mean
	first time.Time     // the earliest end
}

// clientsOfWave is how many people ask at once: few, so that all ends meet.
const clientsOfWave = 4

// wave measures how fast this machine grants, and leaves enough time for n.
func (f *figures) wave(integration string, n int) (*wave, error) {
	w := &wave{f: f, integration: integration, end: time.Now().Add(time.Hour), delay: time.Second}
	before, trial := time.Now(), clientsOfWave*f.rounds
	if err := w.grant(trial); err != nil {
		return nil, err
	}
	each := time.Since(before) / time.Duration(trial)
	if err := atOnce(trial, clientsOfWave, func(i, _ int) error { return f.release(w.all[i]) }); err != nil {
		return nil, err
	}
	w.all, w.first, w.end = nil, time.Time{}, time.Now().Add(6*time.Second+time.Duration(n)*each*5/3)
	return w, nil
}

// grant lets n more people have access until the end.
func (w *wave) grant(n int) error {
	people := make([]string, n)
	for i := range people {
		people[i] = w.f.person(w.integration)
	}
	return atOnce(n, clientsOfWave, func(i, _ int) error {
		w.mu.Lock()
		length := max(time.Until(w.end)-w.delay, 3*time.Second) // where the machine became slow, the ends are apart, and the table says so
		w.mu.Unlock()
		start := time.Now()
		r, err := w.f.granted(people[i], w.integration, schema, length)
		if err != nil {
			return err
		}
		row, err := w.f.node.Store.Request(w.f.t.Context(), r.ID)
		if err != nil {
			return err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.all = append(w.all, r)
		if end := row.Holds[0].EndsAt; w.first.IsZero() || end.Before(w.first) {
			w.first = end
		}
		if began := row.Holds[0].StartsAt; !began.IsZero() {
			w.delay += (began.Sub(start) - w.delay) / 4
		}
		return nil
	})
}

// late waits until all access is proven gone, and returns how late each was,
// how far the ends were apart, and how many were revoked in a second.
func (w *wave) late() (late []time.Duration, apart time.Duration, perSecond float64, err error) {
	var ends, gone []time.Time
	time.Sleep(time.Until(w.end))
	for _, r := range w.all {
		row, err := w.f.until(r, 200*time.Millisecond, access.State.Final)
		if err != nil {
			return nil, 0, 0, err
		}
		h := row.Holds[0]
		if h.State != access.StateEnded || h.Revoke == nil || h.Revoke.At.Before(h.EndsAt) {
			return nil, 0, 0, fmt.Errorf("hold %s of %s is %s, its end was %s and the proof is %+v", h.ID, r.ID, h.State, h.EndsAt, h.Revoke)
		}
		ends, gone, late = append(ends, h.EndsAt), append(gone, h.Revoke.At), append(late, h.Revoke.At.Sub(h.EndsAt))
	}
	first := slices.MinFunc(ends, time.Time.Compare)
	apart = slices.MaxFunc(ends, time.Time.Compare).Sub(first)
	return late, apart, float64(len(late)) / slices.MaxFunc(gone, time.Time.Compare).Sub(first).Seconds(), nil
}

func (f *figures) addWave(target string, w *wave) error {
	late, apart, perSecond, err := w.late()
	if err != nil {
		return err
	}
	n, p50, ratio := len(late), percentile(late, 50).Seconds(), ""
	if target == inMemory {
		f.inMemory[n] = p50
	} else if memory, ok := f.inMemory[n]; ok {
		ratio = fmt.Sprintf("%.1f × the target in memory", p50/memory)
	}
	f.add(fmt.Sprintf("lateness of revoke, %s, %d ends at once", target, n), fmt.Sprintf("p50 %s, p99 %s, max %s", seconds(p50), seconds(percentile(late, 99).Seconds()), seconds(slices.Max(late).Seconds())),
		ratio, fmt.Sprintf("as many people, ends at most %s apart; from each end to the proof on the target; %.0f revokes a second", seconds(apart.Seconds()), perSecond),
		slices.Min(late).Seconds(), p50, perSecond)
	return nil
}

func seconds(s float64) string { return fmt.Sprintf("%.2f s", s) }

// sleeping measures what sleeping grants take, and then how they all end.
func (f *figures) sleeping() error {
	w, err := f.wave(inMemory, f.sleepers[1])
	if err != nil {
		return err
	}
	var at [2]footprint
	for i, n := range f.sleepers {
		if err := w.grant(n - len(w.all)); err != nil {
			return err
		}
		if at[i], err = f.footprint(); err != nil {
			return err
		}
	}
	if f.full && time.Now().After(w.end) {
		return fmt.Errorf("this machine became too slow: the sleeping grants ended while they were measured")
	}
	how := fmt.Sprintf("slope between %d and %d sleeping grants of as many people, request and account, everything in one process", f.sleepers[0], f.sleepers[1])
	each := func(of func(footprint) float64) string {
		return fmt.Sprintf("%.0f kB", (of(at[1])-of(at[0]))/1024/float64(f.sleepers[1]-f.sleepers[0]))
	}
	whole := func(of func(footprint) float64) string { return fmt.Sprintf("%.0f MB in all", of(at[1])/1024/1024) }
	for _, line := range []struct {
		name string
		of   func(footprint) float64
		how  string
	}{
		{"heap of one sleeping grant", func(p footprint) float64 { return p.heap }, "after garbage collection; "},
		{"memory of the process for it", func(p footprint) float64 { return p.rss }, "resident; "},
		{"disk for it, store", func(p footprint) float64 { return p.store }, "pages of lapse.db; "},
		{"disk for it, Temporal", func(p footprint) float64 { return p.temporal }, "pages of temporal.db, history included; "},
	} {
		f.add(line.name, each(line.of), whole(line.of), line.how+how, line.of(at[0]), line.of(at[1]))
	}
	return f.addWave(inMemory, w)
}

// footprint is what the process takes, in bytes.
type footprint struct{ heap, rss, store, temporal float64 }

func (f *figures) footprint() (p footprint, err error) {
	time.Sleep(time.Second) // for what is still being recorded
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	p.heap = float64(m.HeapAlloc)
	if p.rss, err = resident(); err != nil {
		return p, err
	}
	if p.store, err = pages(f.t.Context(), filepath.Join(f.data, "lapse.db")); err == nil {
		p.temporal, err = pages(f.t.Context(), filepath.Join(f.data, "temporal.db"))
	}
	return p, err
}

// resident is the process's memory as Linux counts it; elsewhere, what the Go
// runtime has of the system.
func resident() (float64, error) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.Sys - m.HeapReleased), nil
	}
	n, err := strconv.ParseFloat(strings.Fields(string(text))[1], 64)
	return n * float64(os.Getpagesize()), err
}

// pages is the size of a SQLite database, what is still in its log included.
func pages(ctx context.Context, file string) (n float64, err error) {
	db, err := sql.Open("sqlite", "file:"+file+"?mode=ro")
	if err != nil {
		return 0, err
	}
	defer db.Close()
	err = db.QueryRowContext(ctx, `select page_count * page_size from pragma_page_count, pragma_page_size`).Scan(&n)
	return n, err
}

// manyEnds measures many ends at once on PostgreSQL, seen by its superuser too.
func (f *figures) manyEnds() error {
	for _, n := range f.ends {
		w, err := f.wave(direct, n)
		if err != nil {
			return err
		}
		if err := w.grant(n); err != nil {
			return err
		}
		var logins int
		const open = `select count(*) from pg_roles where rolcanlogin and rolname like 'lapse\_person%'`
		if err := f.superuser.QueryRow(f.t.Context(), open).Scan(&logins); err != nil || logins < n && time.Now().Before(w.first) {
			return fmt.Errorf("%d of %d people can log in before the first end: %v", logins, n, err)
		}
		if err := f.addWave("PostgreSQL", w); err != nil {
			return err
		}
		if err := f.superuser.QueryRow(f.t.Context(), open).Scan(&logins); err != nil || logins != 0 {
			return fmt.Errorf("%d people can log in after their end: %v", logins, err)
		}
	}
	return nil
}

// used is what PostgreSQL saw of an operation.
type used struct{ statements, turns, connections int }

// count has PostgreSQL count what Lapse does on it. The turns of the proxy are
// those of connecting too; the goodbye of each connection is not answered.
func (f *figures) count(do func() error) (u used, err error) {
	ctx := f.t.Context()
	const sessions = `select sum(sessions)::int from pg_stat_database`
	var before, open int
	if _, err := f.superuser.Exec(ctx, `select pg_stat_statements_reset()`); err != nil {
		return u, err
	}
	if err := f.superuser.QueryRow(ctx, sessions).Scan(&before); err != nil {
		return u, err
	}
	f.proxy.Heal()
	if err := do(); err != nil {
		return u, err
	}
	u.turns = f.proxy.Turns()
	// A session is counted for certain once it is over; one that is kept was before.
	open = 1
	for end := time.Now().Add(time.Second); open > 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err := f.superuser.QueryRow(ctx, `select count(*) from pg_stat_activity where usename like 'lapse%'`).Scan(&open); err != nil {
			return u, err
		}
	}
	if err := f.superuser.QueryRow(ctx, sessions).Scan(&u.connections); err != nil {
		return u, err
	}
	u.connections -= before
	u.turns -= u.connections
	return u, f.superuser.QueryRow(ctx, `select coalesce(sum(calls), 0)::int from pg_stat_statements where userid = 'lapse_connector'::regrole`).Scan(&u.statements)
}

// statements counts what grants and revokes are made of on PostgreSQL.
func (f *figures) statements() error {
	resources := []struct{ name, first, second string }{
		{"role", "role:shop_support", "role:shop_audit"},
		{"schema", schema, "schema:shop/reporting"},
		{"table", "table:shop/public/products", "table:shop/public/orders"},
	}
	if !f.full {
		resources = resources[:1]
	}
	for _, r := range resources {
		var held []asked
		grant := func(who, what string) func() error {
			return func() error {
				a, err := f.granted(who, counted, what, time.Hour)
				held = append(held, a)
				return err
			}
		}
		giveBack := func() error {
			last := held[len(held)-1]
			held = held[:len(held)-1]
			return f.release(last)
		}
		one, other := f.person(counted), f.person(counted)
		var all [5]used
		for i, do := range []func() error{grant(one, r.first), grant(other, r.first), grant(other, r.second), giveBack, giveBack} {
			if i == 2 { // so that what it needs is there, as for the first
				if err := grant(one, r.second)(); err != nil {
					return err
				}
				held[1], held[2] = held[2], held[1]
			}
			var err error
			if all[i], err = f.count(do); err != nil {
				return err
			}
		}
		for len(held) > 0 {
			if err := giveBack(); err != nil {
				return err
			}
		}
		f.addUsed("grant of a "+r.name, all[:3], "the first of all, the first of another person, the second of that person; the baseline, the credential and its login included")
		f.addUsed("revoke of a "+r.name, all[3:], "one of two of a person, the last one")
	}
	return nil
}

func (f *figures) addUsed(name string, all []used, how string) {
	var statements, turns, connections []string
	var numbers []float64
	for _, u := range all {
		statements, turns, connections = append(statements, strconv.Itoa(u.statements)), append(turns, strconv.Itoa(u.turns)), append(connections, strconv.Itoa(u.connections))
		numbers = append(numbers, float64(u.statements), float64(u.turns), float64(u.connections))
	}
	f.add(name+" on PostgreSQL", fmt.Sprintf("%s statements, %s round trips, %s connections", strings.Join(statements, " / "), strings.Join(turns, " / "), strings.Join(connections, " / ")),
		fmt.Sprintf("%.1f × the first", float64(all[len(all)-1].statements)/float64(all[0].statements)), how, numbers...)
}

// tally counts the events of histories, and what Temporal Cloud would bill of
// them: https://docs.temporal.io/cloud/actions
type tally map[string]int

const events = "events"

func (c tally) add(o tally, times int) {
	for what, n := range o {
		c[what] += times * n
	}
}

func (c tally) actions() (n int) {
	for what, times := range c {
		if what != events {
			n += times
		}
	}
	return n
}

func (c tally) String() string {
	whats := slices.SortedFunc(maps.Keys(c), func(a, b string) int { return cmp.Or(c[b]-c[a], cmp.Compare(a, b)) })
	var out []string
	for _, what := range whats {
		if what != events && c[what] > 0 {
			out = append(out, fmt.Sprintf("%s %d", what, c[what]))
		}
	}
	return strings.Join(out, ", ")
}

// history tallies the newest run of a workflow, once it has nothing to do. A
// signal from one workflow to another counts where it is sent.
func (f *figures) history(id string) (tally, error) {
	for busy := true; busy; time.Sleep(20 * time.Millisecond) {
		d, err := f.node.Temporal.DescribeWorkflowExecution(f.t.Context(), id, "")
		if err != nil {
			return nil, err
		}
		busy = d.PendingWorkflowTask != nil || len(d.PendingActivities) > 0
	}
	c := tally{}
	for h := f.node.Temporal.GetWorkflowHistory(f.t.Context(), id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); h.HasNext(); {
		e, err := h.Next()
		if err != nil {
			return nil, err
		}
		c[events]++
		switch e.EventType {
		case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
			c["workflows started"]++
		case enumspb.EVENT_TYPE_TIMER_STARTED:
			c["timers"]++
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_STARTED:
			c["activities"] += int(e.GetActivityTaskStartedEventAttributes().Attempt) // each attempt counts
		case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
			c["updates"]++
		case enumspb.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED:
			c["signals"]++
		case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
			if e.GetWorkflowExecutionSignaledEventAttributes().ExternalWorkflowExecution == nil {
				c["signals"]++
			}
		case enumspb.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES:
			c["upserts of search attributes"]++
		case enumspb.EVENT_TYPE_MARKER_RECORDED:
			c["markers"]++
		case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED:
			c["option updates"]++
		}
	}
	return c, nil
}

// actions counts what lifecycles and sweeps are made of in Temporal.
func (f *figures) actions() error {
	lifecycle := func(who, integration string) (tally, error) {
		r, err := f.granted(who, integration, schema, f.asleep)
		if err == nil {
			err = f.over(r)
		}
		if err != nil {
			return nil, err
		}
		return f.history(workflows.RequestID(r.ID))
	}
	account := func(who, integration string) (string, error) {
		p, err := f.node.Store.PersonByEmail(f.t.Context(), who)
		return workflows.AccountID(access.AccountID(f.ids[integration], p.ID)), err
	}

	who := f.person(forgetful)
	whole, err := lifecycle(who, forgetful)
	if err != nil {
		return err
	}
	id, err := account(who, forgetful)
	if err != nil {
		return err
	}
	if err := f.node.Temporal.GetWorkflow(f.t.Context(), id, "").Get(f.t.Context(), nil); err != nil {
		return err
	}
	of, err := f.history(id)
	if err != nil {
		return err
	}
	whole.add(of, 1)

	who = f.person(inMemory)
	if _, err := lifecycle(who, inMemory); err != nil {
		return err
	}
	if id, err = account(who, inMemory); err != nil {
		return err
	}
	before, err := f.history(id)
	if err != nil {
		return err
	}
	further, err := lifecycle(who, inMemory)
	if err != nil {
		return err
	}
	if of, err = f.history(id); err != nil {
		return err
	}
	further.add(of, 1)
	further.add(before, -1)

	sweep, err := f.history(workflows.SweepID(f.ids[inMemory]))
	if err != nil {
		return err
	}
	sweep["starts by the schedule"] = 2 // and the workflow that it starts
	for _, line := range []struct {
		name string
		tally
		how string
	}{
		{"a person's first lifecycle", whole, "request and account, up to the deletion of the account: "},
		{"each further lifecycle of the person", further, "request, and what the account's history grew by; past 200 events the account continues as new: "},
		{"a sweep of an integration, every 5 minutes", sweep, "nothing to repair: "},
	} {
		f.add(line.name+" in Temporal", fmt.Sprintf("%d events, %d billable actions", line.tally[events], line.actions()),
			fmt.Sprintf("%.1f × the first lifecycle", float64(line.actions())/float64(whole.actions())), line.how+line.tally.String(), float64(line.tally[events]), float64(line.actions()))
	}
	return nil
}

var benchmarkLine = regexp.MustCompile(`(?m)^(?:pkg: \S*/lapse/(\S+)|(Benchmark\S+?)(?:-\d+)?\s+\d+\s+([\d.]+) ns/op)`)

// benchmarks runs the Go benchmarks of the product for a short time. Where one
// has a part named floor, the others are compared with it.
func (f *figures) benchmarks() error {
	const root = "../.."
	packages := map[string]bool{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(file, "_test.go") || strings.HasPrefix(file, root+"/starter/dev/") {
			return err
		}
		text, err := os.ReadFile(file)
		if bytes.Contains(text, []byte("\nfunc Benchmark")) {
			packages["."+strings.TrimPrefix(filepath.Dir(file), root)] = true
		}
		return err
	})
	if err != nil {
		return err
	}
	args := append([]string{"test", "-C", root, "-run", "^$", "-bench", ".", "-benchtime", "300ms", "-count", "5"}, slices.Sorted(maps.Keys(packages))...)
	out, err := exec.CommandContext(f.t.Context(), "go", args...).Output()
	if err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	pkg, names, took := "", []string(nil), map[string][]float64{}
	for _, m := range benchmarkLine.FindAllStringSubmatch(string(out), -1) {
		if m[1] != "" {
			pkg = m[1]
			continue
		}
		name := pkg + " " + strings.TrimPrefix(m[2], "Benchmark")
		ns, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			return err
		}
		if took[name] == nil {
			names = append(names, name)
		}
		took[name] = append(took[name], ns)
	}
	if len(names) == 0 {
		return fmt.Errorf("no benchmark in:\n%s", out)
	}
	for _, name := range names {
		ns := took[name]
		ratio, group, sub := "", name, false
		if group, _, sub = strings.Cut(name, "/"); sub && took[group+"/floor"] != nil {
			ratio = fmt.Sprintf("%.1f × its floor", median(ns)/median(took[group+"/floor"]))
		}
		f.add("Go benchmark: "+name, fmt.Sprintf("%s ± %.0f %%", time.Duration(median(ns)).Round(100*time.Nanosecond), 50*(slices.Max(ns)-slices.Min(ns))/median(ns)), ratio,
			fmt.Sprintf("median of %d runs, half of their range", len(ns)), ns...)
	}
	return nil
}

func median(of []float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// percentile of durations; 100 is the longest.
func percentile(of []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[max((len(sorted)*p+99)/100, 1)-1]
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.0f ms", 1000*d.Seconds()) }

// describe names the machine and the versions.
func (f *figures) describe() string {
	find := func(file, pattern string) string {
		text, _ := os.ReadFile(file) // where it is missing, the table says ?
		if m := regexp.MustCompile(pattern).FindSubmatch(text); m != nil {
			return string(m[1])
		}
		return "?"
	}
	commit, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		commit = []byte("?")
	}
	return fmt.Sprintf("- Machine: %d × %s, %s kB of memory, %s/%s, load %s before\n"+
		"- Versions: Lapse %s, %s, Temporal server %s and SDK %s on SQLite, PostgreSQL %s with fsync, all on this machine\n"+
		"- Directory: %d people\n"+
		"- Command: `make bench LAPSE_UPDATE=1`, %s",
		runtime.NumCPU(), find("/proc/cpuinfo", `model name\s*: (.*)`), find("/proc/meminfo", `MemTotal:\s*(\d+)`), runtime.GOOS, runtime.GOARCH, find("/proc/loadavg", `^(\S+)`),
		strings.TrimSpace(string(commit)), runtime.Version(), find("go.mod", `go.temporal.io/server (v\S+)`), find("go.mod", `go.temporal.io/sdk (v\S+)`), f.server.Bin.Version,
		f.directory()+1, time.Now().UTC().Format(time.DateOnly))
}

func (f *figures) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n| figure | value | ratio | how it is measured |\n|---|---|---|---|\n", f.machine)
	for _, r := range f.rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.name, r.value, r.ratio, r.how)
	}
	return b.String()
}

// The markers between which the table stands in docs/performance.md.
const (
	figuresBegin = "<!-- written by make bench LAPSE_UPDATE=1 -->\n"
	figuresEnd   = "<!-- end -->\n"
)

// update puts the table into a page.
func update(page, table string) error {
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, begins := strings.Cut(string(text), figuresBegin)
	_, after, ends := strings.Cut(rest, figuresEnd)
	if !begins || !ends {
		return fmt.Errorf("%s needs the lines\n%s%s", page, figuresBegin, figuresEnd)
	}
	return os.WriteFile(page, []byte(before+figuresBegin+"\n"+table+"\n"+figuresEnd+after), 0o644)
}
