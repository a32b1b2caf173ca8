// Package integrationtest is the contract of an integration, as tests. A kind
// hands it a Harness: the kind, a real server or a wire-level fake, and an
// observer that looks at the target by itself; Run then certifies the kind by
// the same cases as every other.
//
// The cases hold for targets of every shape: roles (SQL), one level per person
// and resource (GitHub), an expression that is computed anew (RabbitMQ),
// invitations that stay pending, kinds without accounts or credentials of their
// own (Argo CD). What a kind cannot do is left out of its Harness, and the cases
// that need it are skipped with the name of what is missing.
package integrationtest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// T is what a case needs of a test. *testing.T is one; Try brings another, for
// programs.
type T interface {
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Failed() bool
	Cleanup(func())
	Context() context.Context
}

// Case is one part of the contract.
type Case struct {
	// Name is short and never changes: results are compared by it.
	Name string
	// Promise says in a sentence what holds when the case passes.
	Promise string
	// Needs is what the harness must offer besides the required.
	Needs []Capability
	run   func(t T, h *Harness)
}

// Run runs the case on a harness, or skips it when the harness lacks what it
// needs.
func (c Case) Run(t T, h *Harness) {
	if missing := c.Missing(h); missing != "" {
		t.Skipf("needs: %s", missing)
		return
	}
	c.run(t, h)
	h.searchCanaries(t)
	if t.Failed() {
		t.Logf("the promise: %s", c.Promise)
	}
}

// Missing is the capability that a harness lacks for the case; "" if none.
func (c Case) Missing(h *Harness) Capability {
	for _, need := range c.Needs {
		if !h.has(need) {
			return need
		}
	}
	return ""
}

// Result is how a case went.
type Result struct {
	Name    string        `json:"name"`
	Promise string        `json:"promise"`
	Status  Status        `json:"status"`
	Reason  string        `json:"reason,omitempty"` // of a skip: the missing capability; of a failure: what was found first
	Took    time.Duration `json:"took"`
}

// Status is how a case ended.
type Status string

// The three ways in which a case ends.
const (
	Passed  Status = "passed"
	Failed  Status = "failed"
	Skipped Status = "skipped"
)

// Try runs a case on a goroutine of its own, which Fatalf and Skipf may end, and
// returns how it went, failed or not. What it says goes to log.
func Try(ctx context.Context, c Case, h *Harness, log func(format string, args ...any)) Result {
	r := &trial{ctx: ctx, log: log}
	result := Result{Name: c.Name, Promise: c.Promise, Status: Passed}
	begun := time.Now()
	r.run(func() { c.Run(r, h) })
	result.Took = time.Since(begun)
	switch {
	case r.Failed():
		result.Status, result.Reason = Failed, r.first
	case r.skipped:
		result.Status, result.Reason = Skipped, string(c.Missing(h))
	}
	return result
}

// trial is a T outside of a test.
type trial struct {
	ctx     context.Context
	log     func(format string, args ...any)
	mu      sync.Mutex
	failed  bool
	first   string // what was found first
	skipped bool
	after   []func()
}

// run runs work on a goroutine of its own, and cleans up.
func (r *trial) run(work func()) {
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	r.ctx = ctx
	wg.Go(work)
	wg.Wait()
	cancel() // as a test does before its cleanups
	for _, f := range slices.Backward(r.after) {
		f()
	}
}

func (r *trial) Helper()                  {}
func (r *trial) Context() context.Context { return r.ctx }

func (r *trial) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.after = append(r.after, f)
}

func (r *trial) Logf(format string, args ...any) { r.log(format, args...) }

func (r *trial) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *trial) Errorf(format string, args ...any) {
	found := fmt.Sprintf(format, args...)
	r.mu.Lock()
	if !r.failed {
		r.failed, r.first = true, found
	}
	r.mu.Unlock()
	r.log("found: %s", found)
}

func (r *trial) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *trial) Skipf(format string, args ...any) {
	r.mu.Lock()
	r.skipped = true
	r.mu.Unlock()
	r.log("skipped: "+format, args...)
	runtime.Goexit()
}

// Summary counts results and names what was left out, so that a hollow pass is
// seen.
func Summary(results []Result) string {
	count := map[Status]int{}
	var skipped []string
	for _, r := range results {
		count[r.Status]++
		if r.Status == Skipped {
			skipped = append(skipped, r.Name+" ("+r.Reason+")")
		}
	}
	s := fmt.Sprintf("%d passed, %d failed, %d skipped", count[Passed], count[Failed], count[Skipped])
	if len(skipped) > 0 {
		s += ": " + strings.Join(skipped, ", ")
	}
	return s
}
