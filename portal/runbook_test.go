package portal

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/portal/api"
)

// TestRunbookHealth looks at a runbook that never came, one that came, and one
// that should have come since.
func TestRunbookHealth(t *testing.T) {
	r := empty(t)
	apply := func(every time.Duration) {
		t.Helper()
		c := config.Config{Runbook: config.Runbook{Every: access.Duration(every), Path: "runbook", Keep: 1}}
		if _, err := r.store.SaveConfig(t.Context(), store.SaveConfig{Source: []byte("test"), Config: c, By: "lapse", Event: access.Event{Kind: "config.applied"}}); err != nil {
			t.Fatal(err)
		}
	}
	health := func(when, says string) {
		t.Helper()
		if h := want[api.Health](r, http.StatusOK, "", "GET", "/health", nil); !strings.HasPrefix(h.Runbook, says) || says == "" && h.Runbook != "" {
			t.Errorf("%s health says %q, want %q", when, h.Runbook, says)
		}
	}
	write := func() {
		t.Helper()
		if err := r.store.RunbookWritten(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	health("before anything is applied", "")
	apply(0)
	health("where none is wanted", "")
	apply(time.Hour)
	health("before the first", "none was written yet")
	write()
	health("after the first", "")
	apply(time.Millisecond)
	time.Sleep(5 * time.Millisecond)
	health("when it is late", "the last one was written at ")
}
