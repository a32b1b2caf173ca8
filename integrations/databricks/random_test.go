package databricks_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lapse-access/lapse/access"
)

// TestRandomLives lets three people and an administrator do anything in any order,
// on an account that loses requests and answers, asks to wait, shows things late
// and is met by ever new processes. Whatever happens, what is held is there, what
// is not held is gone, what was there before stays, and nobody else is touched.
func TestRandomLives(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		b := newBed(t)
		b.lag = time.Duration(rapid.IntRange(0, 20).Draw(r, "lag")) * time.Second
		b.noTarget = rapid.SampledFrom([]int{http.StatusNoContent, http.StatusBadRequest, http.StatusNotFound}).Draw(r, "a removal of nobody")
		groups := map[access.Entitlement]*modelGroup{in("analysts"): b.analysts, in("engineers"): b.engineers}
		wants := []access.Entitlement{in("analysts"), in("engineers")}
		people := []*life{b.live(t), b.live(t), b.live(t)}
		before := map[*life]map[access.Entitlement]bool{}
		for _, l := range people {
			before[l] = map[access.Entitlement]bool{}
			for _, e := range wants {
				if before[l][e] = rapid.IntRange(0, 4).Draw(r, "is a member before") == 0; before[l][e] {
					b.join(groups[e], b.userOf(l.Account))
				}
			}
		}
		trouble := 0
		b.behave(func(w http.ResponseWriter, req *http.Request) bool {
			if trouble == 0 || strings.HasPrefix(req.URL.Path, "/oidc/") {
				return false
			}
			trouble--
			switch trouble % 4 {
			case 0:
				panic(http.ErrAbortHandler)
			case 1:
				w.WriteHeader(http.StatusServiceUnavailable)
				return true
			case 2:
				w.WriteHeader(http.StatusTooManyRequests)
				return true
			}
			if req.Method == http.MethodPatch {
				b.inside(func(_ http.ResponseWriter, req *http.Request) {
					req.SetPathValue("id", req.URL.Path[strings.LastIndex(req.URL.Path, "/")+1:])
					b.patchGroup(nowhere{}, req)
				}).ServeHTTP(nowhere{}, req)
				panic(http.ErrAbortHandler)
			}
			return false
		})
		// insist repeats an operation as Lapse does, now and then in another process.
		insist := func(l *life, operation func() error) {
			some := rapid.IntRange(0, 6).Draw(r, "trouble")
			b.moody(func() bool {
				trouble = some
				return true
			})
			for range 40 {
				err := operation()
				switch access.KindOf(err) {
				case "":
					return
				case access.Retry, access.RateLimited, access.Conflict:
				default:
					r.Fatalf("%v (%s)", err, access.KindOf(err))
				}
				b.time.pass(10 * time.Second)
				if rapid.IntRange(0, 3).Draw(r, "a new process") == 0 {
					l.restarted(t, b.account)
				}
			}
			r.Fatal("it does not end")
		}
		for range rapid.IntRange(1, 8).Draw(r, "steps") {
			l, e := rapid.SampledFrom(people).Draw(r, "who"), rapid.SampledFrom(wants).Draw(r, "what")
			if slices.Contains(l.Holds, e) {
				insist(l, func() error { _, err := l.TryRevoke(t, e); return err })
				if l.Baseline = slices.DeleteFunc(l.Baseline, func(x access.Entitlement) bool { return x == e }); b.within(groups[e], l.Account) != before[l][e] {
					r.Fatalf("after the end in the group: %t; before Lapse: %t", !before[l][e], before[l][e])
				}
			} else {
				// Another process may not know yet what this one changed.
				b.time.pass(b.lag)
				insist(l, func() error { return l.prepare(t.Context(), e) })
				insist(l, func() error { _, err := l.TryGrant(t, e); return err })
				if !b.within(groups[e], l.Account) {
					r.Fatal("granted and not there")
				}
			}
			for e, g := range groups {
				for n := range 3 {
					if !g.has(g.past[0].members[n].Value) {
						r.Fatalf("%s has lost somebody", e)
					}
				}
			}
		}
		_, changes := b.asked()
		for _, c := range changes {
			if !strings.HasPrefix(c, http.MethodPatch) {
				r.Fatalf("asked for %s", c)
			}
		}
	})
}
