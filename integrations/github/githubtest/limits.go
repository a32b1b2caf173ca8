package githubtest

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// GitHub's limits: so many requests in a time, and so many points in a minute.
// https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
// https://docs.github.com/en/graphql/overview/rate-limits-and-query-limits-for-the-graphql-api
const mostTogether = 100

var limits = map[string]struct {
	requests int
	in       time.Duration
	points   int
}{
	"core":    {5000, time.Hour, 900},
	"graphql": {5000, time.Hour, 2000},
	"search":  {30, time.Minute, 900},
}

// window is what was spent since a moment.
type window struct {
	since time.Time
	used  int
}

// spend counts something and returns how much that makes in the time.
func (h *Hub) spend(name string, n int, in time.Duration) *window {
	w := h.spent[name]
	if w == nil || time.Since(w.since) >= in {
		w = &window{since: time.Now()}
		h.spent[name] = w
	}
	w.used += n
	return w
}

// over refuses a request that is over a limit.
func (h *Hub) over(w http.ResponseWriter, r *http.Request, together int64) bool {
	resource, points := "core", 1
	switch {
	case strings.HasSuffix(r.URL.Path, "/graphql"):
		resource = "graphql"
	case strings.HasPrefix(r.URL.Path, "/search/"):
		resource = "search"
	case r.Method != http.MethodGet:
		points = 5
	}
	limit := limits[resource]
	primary := h.spend(resource, 1, limit.in)
	w.Header().Set("X-RateLimit-Limit", strconv.Itoa(limit.requests))
	w.Header().Set("X-RateLimit-Remaining", strconv.Itoa(max(0, limit.requests-primary.used)))
	w.Header().Set("X-RateLimit-Reset", strconv.FormatInt(primary.since.Add(limit.in).Unix(), 10))
	switch {
	case primary.used > limit.requests:
		Refuse(w, http.StatusForbidden, "API rate limit exceeded")
	case h.spend(resource+" points", points, time.Minute).used > limit.points, together > mostTogether:
		w.Header().Set("Retry-After", "60")
		Refuse(w, http.StatusForbidden, "You have exceeded a secondary rate limit.")
	default:
		return false
	}
	return true
}
