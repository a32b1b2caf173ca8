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
	"testing"
	"time"
)

// T is what a case needs of a test. *testing.T is one; a command that certifies
// a user's own target brings its own.
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
	Reason  string        `json:"reason,omitempty"` // of a skip: the missing capability
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

// Run certifies a kind, one subtest for each case, and returns the results. The
// harness is made once.
func Run(t *testing.T, newHarness func(t *testing.T) *Harness) []Result {
	h := newHarness(t)
	var results []Result
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			begun := time.Now()
			defer func() {
				r := Result{Name: c.Name, Promise: c.Promise, Status: Passed, Took: time.Since(begun)}
				switch {
				case t.Failed():
					r.Status = Failed
				case t.Skipped():
					r.Status, r.Reason = Skipped, string(c.Missing(h))
				}
				results = append(results, r)
			}()
			c.Run(t, h)
		})
	}
	t.Log(Summary(results))
	return results
}

// Try runs a case and returns how it went, failed or not, without failing the
// test: for tests of the suite itself, with integrations that have a known bug.
func Try(t *testing.T, c Case, h *Harness) Result {
	r := &recorder{T: t}
	result := Result{Name: c.Name, Promise: c.Promise, Status: Passed}
	begun := time.Now()
	r.run(func() { c.Run(r, h) })
	result.Took = time.Since(begun)
	switch {
	case r.failed:
		result.Status = Failed
	case r.skipped:
		result.Status, result.Reason = Skipped, string(c.Missing(h))
	}
	return result
}

// recorder is a test whose failure is what is hoped for.
type recorder struct {
	*testing.T
	mu              sync.Mutex
	failed, skipped bool
	after           []func()
}

// run runs work on a goroutine of its own, which Fatalf ends, and cleans up.
func (r *recorder) run(work func()) {
	var wg sync.WaitGroup
	wg.Go(work)
	wg.Wait()
	for _, f := range slices.Backward(r.after) {
		f()
	}
}

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	r.failed = true
	r.mu.Unlock()
	r.Logf("found: "+format, args...)
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Skipf(format string, args ...any) {
	r.skipped = true
	r.Logf("skipped: "+format, args...)
	runtime.Goexit()
}

func (r *recorder) Cleanup(f func()) { r.after = append(r.after, f) }

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
