package embedded_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	sqliteschema "go.temporal.io/server/schema/sqlite"

	"github.com/lapse-access/lapse/starter/dev/embedded"
)

const (
	namespace = "default"
	queue     = "test"
)

// TestMain lets the test binary stand for a process with a server that is then
// killed.
func TestMain(m *testing.M) {
	file := os.Getenv("EMBEDDED_TEST_FILE")
	if file == "" {
		os.Exit(m.Run())
	}
	o := embedded.Options{File: file, Frontend: os.Getenv("EMBEDDED_TEST_FRONTEND"), Namespace: namespace}
	if _, err := embedded.Start(context.Background(), o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("started")
	select {}
}

// Workflows and their timers survive a stop, and a search attribute that is asked
// for later is added.
func TestStateSurvivesAStop(t *testing.T) {
	o := options(t)
	o.SearchAttributes = map[string]enumspb.IndexedValueType{"First": enumspb.INDEXED_VALUE_TYPE_KEYWORD}
	s := start(t, o)
	c := dial(t, o)
	stopWork := work(t, c)
	execute(t, c, client.StartWorkflowOptions{ID: "finished"}, 0)
	wantRested(t, c, "finished")
	execute(t, c, client.StartWorkflowOptions{ID: "sleeping"}, 2*time.Second)
	waitAsleep(t, c, "sleeping")
	described, err := c.WorkflowService().DescribeNamespace(t.Context(), &workflowservice.DescribeNamespaceRequest{Namespace: namespace})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := described.Config.WorkflowExecutionRetentionTtl.AsDuration(), 90*24*time.Hour; got != want {
		t.Errorf("retention = %v, want %v", got, want)
	}
	stopWork()
	c.Close()
	s.Stop()

	o.SearchAttributes["Second"] = enumspb.INDEXED_VALUE_TYPE_DATETIME
	s = start(t, o)
	c = dial(t, o)
	stopWork = work(t, c)
	wantRested(t, c, "finished")
	wantRested(t, c, "sleeping")
	first, second := temporal.NewSearchAttributeKeyKeyword("First"), temporal.NewSearchAttributeKeyTime("Second")
	execute(t, c, client.StartWorkflowOptions{
		ID:                    "found",
		TypedSearchAttributes: temporal.NewSearchAttributes(first.ValueSet("a"), second.ValueSet(time.Now())),
	}, 0)
	wantRested(t, c, "found")
	stopWork()
	c.Close()
	s.Stop()

	o.SearchAttributes["First"] = enumspb.INDEXED_VALUE_TYPE_INT
	wantStartError(t, o, "First is Keyword instead of Int")
}

// A process that is killed loses nothing that the server acknowledged, also when
// a deadline passed while nothing ran.
func TestStateSurvivesSIGKILL(t *testing.T) {
	o := options(t)
	self := exec.Command(os.Args[0])
	self.Env = append(os.Environ(), "EMBEDDED_TEST_FILE="+o.File, "EMBEDDED_TEST_FRONTEND="+o.Frontend)
	self.Stderr = os.Stderr
	out, err := self.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Start(); err != nil {
		t.Fatal(err)
	}
	defer self.Process.Kill() // does nothing when the test went well
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	c := dial(t, o)
	stopWork := work(t, c)
	execute(t, c, client.StartWorkflowOptions{ID: "sleeping"}, time.Second)
	waitAsleep(t, c, "sleeping")
	if err := self.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	self.Wait()
	stopWork()
	c.Close()
	time.Sleep(time.Second) // past the deadline

	start(t, o)
	c = dial(t, o)
	work(t, c)
	wantRested(t, c, "sleeping")
}

func TestOlderSchemaIsUpgraded(t *testing.T) {
	o := options(t)
	start(t, o).Stop()

	// What version 0.11 added is taken away again.
	db := open(t, o.File)
	for _, statement := range []string{
		"DROP TABLE current_chasm_executions",
		"UPDATE schema_version SET curr_version = '0.10'",
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	db.Close()

	s := start(t, o)
	c := dial(t, o)
	work(t, c)
	execute(t, c, client.StartWorkflowOptions{ID: "upgraded"}, 0)
	wantRested(t, c, "upgraded")
	s.Stop()
	db = open(t, o.File)
	defer db.Close()
	var version string
	if err := db.QueryRow("SELECT curr_version FROM schema_version").Scan(&version); err != nil {
		t.Fatal(err)
	}
	if version != sqliteschema.Version {
		t.Errorf("schema version = %s, want %s", version, sqliteschema.Version)
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	t.Run("newer schema", func(t *testing.T) {
		o := options(t)
		start(t, o).Stop()
		db := open(t, o.File)
		if _, err := db.Exec("UPDATE schema_version SET curr_version = '99.0'"); err != nil {
			t.Fatal(err)
		}
		db.Close()
		wantStartError(t, o, "newer Lapse")
	})
	t.Run("not ours", func(t *testing.T) {
		o := options(t)
		db := open(t, o.File)
		if _, err := db.Exec("CREATE TABLE something (else_ INTEGER)"); err != nil {
			t.Fatal(err)
		}
		db.Close()
		wantStartError(t, o, "not made by Lapse")
	})
}

func TestAddressesThatAreRefused(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	_, port, _ := net.SplitHostPort(busy.Addr().String())

	for _, test := range []struct {
		name   string
		change func(*embedded.Options)
		want   []string
	}{
		{"every interface", func(o *embedded.Options) { o.Frontend = "0.0.0.0:7233" }, []string{"LAPSE_TEMPORAL=", "loopback"}},
		{"no host", func(o *embedded.Options) { o.UI = ":8233" }, []string{"LAPSE_TEMPORAL_UI=", "loopback"}},
		{"not an address", func(o *embedded.Options) { o.UI = "8233" }, []string{"LAPSE_TEMPORAL_UI=8233"}},
		{"busy frontend", func(o *embedded.Options) { o.Frontend = busy.Addr().String() }, []string{port, "set LAPSE_TEMPORAL to"}},
		{"busy Web UI", func(o *embedded.Options) { o.UI = busy.Addr().String() }, []string{port, "set LAPSE_TEMPORAL_UI to"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := options(t)
			test.change(&o)
			wantStartError(t, o, test.want...)
			if _, err := os.Stat(o.File); err == nil {
				t.Error("the refused start left a file")
			}
		})
	}
}

func TestWebUIOnlyReads(t *testing.T) {
	o := options(t)
	o.UI = freeAddress(t)
	o.CodecEndpoint = "http://127.0.0.1:1/codec"
	start(t, o)

	get := func(path string) string {
		response, err := http.Get("http://" + o.UI + path)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("GET %s: %s, %v", path, response.Status, err)
		}
		return string(body)
	}
	if page := get("/namespaces/default/workflows"); !strings.Contains(page, "<html") {
		t.Errorf("the page is %.80q", page)
	}
	if settings := get("/api/v1/settings"); !strings.Contains(settings, o.CodecEndpoint) {
		t.Errorf("the settings do not name the codec endpoint: %s", settings)
	}
	if list := get("/api/v1/namespaces/default/workflows"); !strings.Contains(list, "{") {
		t.Errorf("the list of workflows is %q", list)
	}
	write := "http://" + o.UI + "/api/v1/namespaces/default/workflows/any/terminate"
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, write, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer none") // passes the check against forged requests
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST %s: %s", write, response.Status)
	}
}

// nap is the workflow of these tests.
func nap(ctx workflow.Context, d time.Duration) (string, error) {
	return "rested", workflow.Sleep(ctx, d)
}

func options(t *testing.T) embedded.Options {
	return embedded.Options{
		File:      filepath.Join(t.TempDir(), "a folder, 100 %?", "temporal.db"),
		Frontend:  freeAddress(t),
		Namespace: namespace,
		Logger:    slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

func start(t *testing.T, o embedded.Options) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func wantStartError(t *testing.T, o embedded.Options, words ...string) {
	t.Helper()
	s, err := embedded.Start(t.Context(), o)
	if err == nil {
		s.Stop()
		t.Fatal("the server started")
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not say %q: %v", word, err)
		}
	}
}

func dial(t *testing.T, o embedded.Options) client.Client {
	t.Helper()
	c, err := client.Dial(client.Options{HostPort: o.Frontend, Namespace: o.Namespace, Logger: o.Logger})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// work runs a worker for nap until the function that it returns is called.
func work(t *testing.T, c client.Client) (stop func()) {
	t.Helper()
	w := worker.New(c, queue, worker.Options{})
	w.RegisterWorkflow(nap)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(w.Stop)
	t.Cleanup(stop)
	return stop
}

func execute(t *testing.T, c client.Client, o client.StartWorkflowOptions, d time.Duration) {
	t.Helper()
	o.TaskQueue = queue
	if _, err := c.ExecuteWorkflow(t.Context(), o, nap, d); err != nil {
		t.Fatal(err)
	}
}

// waitAsleep returns when the workflow has set its timer.
func waitAsleep(t *testing.T, c client.Client, id string) {
	t.Helper()
	history := c.GetWorkflowHistory(t.Context(), id, "", true, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for history.HasNext() {
		event, err := history.Next()
		if err != nil {
			t.Fatal(err)
		}
		if event.EventType == enumspb.EVENT_TYPE_TIMER_STARTED {
			return
		}
	}
	t.Fatalf("workflow %s set no timer", id)
}

func wantRested(t *testing.T, c client.Client, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var got string
	if err := c.GetWorkflow(ctx, id, "").Get(ctx, &got); err != nil || got != "rested" {
		t.Errorf("workflow %s: %q, %v", id, got, err)
	}
}

// open opens a file that no server has open.
func open(t *testing.T, file string) *sql.DB {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: file}).EscapedPath()}).String())
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
