package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lapse-access/lapse/portal/api"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"lapse": main})
}

// The scripts run lapse against an API that answers what they say:
//
//	answer GET /requests/1 200 a.json 200 b.json   first a, then b for good
//	sent GET /requests/1                           prints what came in last
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			c := &canned{answers: map[string][]answer{}, calls: map[string]string{}}
			server := httptest.NewServer(c)
			env.Defer(server.Close)
			env.Values["api"] = c
			env.Setenv("LAPSE_URL", server.URL)
			env.Setenv("LAPSE_AS", "ana@example.com")
			env.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"answer": func(ts *testscript.TestScript, _ bool, args []string) {
				var list []answer
				for i := 2; i+1 < len(args); i += 2 {
					status, err := strconv.Atoi(args[i])
					ts.Check(err)
					list = append(list, answer{status, ts.ReadFile(args[i+1])})
				}
				ts.Value("api").(*canned).answer(args[0]+" "+args[1], list)
			},
			"sent": func(ts *testscript.TestScript, _ bool, args []string) {
				fmt.Fprintln(ts.Stdout(), ts.Value("api").(*canned).call(args[0]+" "+args[1]))
			},
		},
	})
}

type answer struct {
	status int
	body   string
}

// canned is an API with prepared answers, which remembers what it was asked.
type canned struct {
	mu      sync.Mutex
	answers map[string][]answer
	calls   map[string]string
}

func (c *canned) answer(operation string, list []answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[operation] = list
}

func (c *canned) call(operation string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[operation]
}

func (c *canned) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	operation := r.Method + " " + strings.TrimPrefix(r.URL.Path, api.Prefix)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[operation] = fmt.Sprintf("query: %s\nas: %s\nauthorization: %s\nbody: %s", r.URL.RawQuery, r.Header.Get(api.HeaderAs), r.Header.Get("Authorization"), body)
	list := c.answers[operation]
	if len(list) == 0 {
		http.Error(w, "no answer is prepared for "+operation, http.StatusTeapot)
		return
	}
	if len(list) > 1 {
		c.answers[operation] = list[1:]
	}
	w.WriteHeader(list[0].status)
	io.WriteString(w, list[0].body)
}
