// Package house holds the house in order: which package may import which, and
// that every package says what it is for. It has no code but its tests.
package house

import (
	"fmt"
	"go/build"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	module = "github.com/lapse-access/lapse/"
	root   = "../.."
)

// graph is what every package imports, its tests left out. Packages of this
// project are written as folders ("internal/store"), all others by their import
// path.
type graph map[string][]string

// rule says what packages must not reach, directly or through others of this
// project.
type rule struct {
	name string
	// of selects the packages that it binds.
	of func(pkg string) bool
	// never are forbidden: packages, and all that is below them. A pattern as
	// path.Match reads it stands for the packages that it matches.
	never []string
	// except is allowed all the same.
	except func(pkg, imported string) bool
	// direct is true when only what the package imports itself counts.
	direct bool
}

const (
	temporal = "go.temporal.io"
	rooms    = "integrations/*"
)

// drivers talk to databases; only the store, the rooms and what rooms share do that.
var drivers = []string{
	"database/sql", "modernc.org/sqlite", "github.com/jackc/pgx", "github.com/go-sql-driver/mysql", "github.com/microsoft/go-mssqldb",
	"github.com/sijms/go-ora", "github.com/vertica/vertica-sql-go", "github.com/snowflakedb/gosnowflake", "github.com/databricks/databricks-sql-go",
	"go.mongodb.org/mongo-driver", "github.com/redis/go-redis",
}

var rules = []rule{
	{name: "access imports only the standard library", of: is("access"), never: []string{"*"},
		except: func(_, imported string) bool { return standard(imported) }},
	{name: "integrations knows neither activities nor workflows nor where they run", of: below("integrations"),
		never: []string{"activities", "workflows", "workers", "portal", "starter", "internal/store", "internal/engine", temporal}},
	{name: "a room of integrations imports no sibling", of: room, never: []string{rooms}, except: func(pkg, imported string) bool { return below(roomOf(pkg))(imported) }},
	{name: "the contract does not know its rooms", of: is("integrations"), never: []string{rooms}},
	{name: "workflows are deterministic: they know what does I/O by name only", of: below("workflows"),
		never: []string{"activities", "workers", "portal", "starter", "integrations", "internal/store", "internal/engine", "internal/secrets", "internal/keys", "os", "net", "net/http", "math/rand"},
		// Temporal's own packages and those of the standard library reach them.
		direct: true},
	{name: "workflows reach nothing of this project but access", of: below("workflows"), never: []string{"*"},
		except: func(_, imported string) bool {
			return !ours(imported) || below("access")(imported) || below("workflows")(imported)
		}},
	{name: "activities know nothing above them", of: below("activities"), never: []string{"workers", "portal", "starter", rooms}},
	{name: "workers know nothing above them, and get their kinds handed in", of: below("workers"), never: []string{"portal", "starter", rooms}},
	{name: "the portal reaches targets through workflows only", of: below("portal"), never: []string{"workers", "starter", rooms}},
	{name: "what is internal knows nothing of processes", of: below("internal"), never: []string{"workers", "portal", "starter"}},
	{name: "only the store and the rooms talk to databases", direct: true, never: drivers,
		of: func(pkg string) bool {
			return !slices.ContainsFunc([]string{"internal/store", "internal/mysqldb", "internal/localpg", "internal/localmysql", "internal/localredis", "starter/dev"}, func(may string) bool { return below(may)(pkg) }) && !room(pkg)
		}},
	{name: "only lapse-dev links the Temporal server", of: func(pkg string) bool { return !below("starter/dev")(pkg) },
		never: []string{"go.temporal.io/server", "github.com/temporalio/ui-server", "starter/dev"}},
	{name: "only starter/dev/embedded knows the Temporal server", of: func(pkg string) bool { return pkg != "starter/dev/embedded" }, direct: true,
		never: []string{"go.temporal.io/server", "github.com/temporalio/ui-server"}},
	{name: "the suite is for tests and for lapse certify", of: func(pkg string) bool {
		return !test(pkg) && pkg != "starter" && pkg != "integrations/integrationtest"
	}, direct: true, never: []string{"integrations/integrationtest"}},
	{name: "what is for tests is in no program", of: func(pkg string) bool { return !test(pkg) }, direct: true,
		never: []string{"testing", "internal/targettest", "internal/certificationtest", "internal/localpg/localpgtest", "internal/localmysql/localmysqltest", "internal/localredis/localredistest", "internal/localrabbitmq/localrabbitmqtest", "internal/localserver/localservertest", "internal/sqlname/sqlnametest", "integrations/github/githubtest",
			"github.com/getkin/kin-openapi", "github.com/emersion/go-smtp", "github.com/emersion/go-sasl", "github.com/standard-webhooks/standard-webhooks", "github.com/vektah/gqlparser", "github.com/rabbitmq/amqp091-go", "pgregory.net/rapid", "github.com/stretchr/testify"}},
}

func is(pkg string) func(string) bool { return func(p string) bool { return p == pkg } }

// below selects a package and all that is under it.
func below(pkg string) func(string) bool {
	return func(p string) bool { return p == pkg || strings.HasPrefix(p, pkg+"/") }
}

// notRooms are the folders of integrations that are no kind.
var notRooms = []string{"integrations/all", "integrations/integrationtest"}

func room(pkg string) bool {
	return strings.HasPrefix(pkg, "integrations/") && !slices.Contains(notRooms, roomOf(pkg))
}

// roomOf is the folder of the room to which a package belongs.
func roomOf(pkg string) string {
	parts := strings.SplitN(pkg, "/", 3)
	return path.Join(parts[:min(2, len(parts))]...)
}

// test selects packages that exist for tests.
func test(pkg string) bool {
	return strings.HasSuffix(path.Base(pkg), "test") && pkg != "integrations/integrationtest"
}

// standard reports whether an import is of the standard library.
func standard(imported string) bool {
	return !ours(imported) && !strings.Contains(strings.SplitN(imported, "/", 2)[0], ".")
}

// ours reports whether an import is a folder of this project.
func ours(imported string) bool {
	return slices.ContainsFunc([]string{"access", "integrations", "activities", "workflows", "workers", "starter", "portal", "internal"}, func(top string) bool { return below(top)(imported) })
}

func (r rule) forbids(pkg, imported string) bool {
	if r.except != nil && r.except(pkg, imported) {
		return false
	}
	return slices.ContainsFunc(r.never, func(never string) bool {
		switch never {
		case "*":
			return true
		case rooms:
			return room(imported) || below("integrations/all")(imported)
		}
		return below(never)(imported)
	})
}

// check returns one sentence for every package that breaks the rule, with the
// way by which it does.
func (r rule) check(g graph) (broken []string) {
	for _, pkg := range slices.Sorted(maps.Keys(g)) {
		if !r.of(pkg) {
			continue
		}
		// Breadth first, so that the shortest way is told.
		from := map[string]string{pkg: ""}
		for todo := []string{pkg}; len(todo) > 0; todo = todo[1:] {
			for _, imported := range g[todo[0]] {
				if _, seen := from[imported]; seen {
					continue
				}
				from[imported] = todo[0]
				if r.forbids(pkg, imported) {
					way := imported
					for at := todo[0]; at != ""; at = from[at] {
						way = at + " -> " + way
					}
					broken = append(broken, fmt.Sprintf("%s must not reach %s: %s", pkg, imported, way))
				} else if !r.direct {
					todo = append(todo, imported)
				}
			}
		}
	}
	return broken
}

// folders are those of this project that hold Go code.
func folders(t *testing.T) (dirs []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); file != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin") {
				return fs.SkipDir
			}
			return nil
		}
		if dir := filepath.Dir(file); strings.HasSuffix(file, ".go") && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

// load reads the imports of every package from its files.
func load(t *testing.T) graph {
	t.Helper()
	g := graph{}
	for _, dir := range folders(t) {
		pkg, err := build.ImportDir(dir, 0)
		if _, none := err.(*build.NoGoError); none {
			continue // tests only
		}
		if err != nil {
			t.Fatal(err)
		}
		var imports []string
		for _, imported := range pkg.Imports {
			imports = append(imports, strings.TrimPrefix(imported, module))
		}
		g[relative(t, dir)] = imports
	}
	return g
}

func relative(t *testing.T, dir string) string {
	t.Helper()
	rel, err := filepath.Rel(root, dir)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.ToSlash(rel)
}

func TestImports(t *testing.T) {
	g := load(t)
	for _, pkg := range []string{"access", "integrations", "workflows", "activities", "workers", "portal", "starter", "starter/dev", "internal/store"} {
		if _, ok := g[pkg]; !ok {
			t.Errorf("there is no package %s: change the rules together with the house", pkg)
		}
	}
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			for _, b := range r.check(g) {
				t.Error(b)
			}
		})
	}
}

// Each rule finds what it is for.
func TestRulesFindWhatTheyAreFor(t *testing.T) {
	for _, c := range []struct {
		rule, pkg, imported, by string
	}{
		{"access imports only the standard library", "access", "golang.org/x/text", ""},
		{"access imports only the standard library", "access", "internal/quote", ""},
		{"integrations knows neither activities nor workflows nor where they run", "integrations/mysql", "activities", ""},
		{"integrations knows neither activities nor workflows nor where they run", "integrations", "go.temporal.io/sdk/temporal", "internal/x"},
		{"a room of integrations imports no sibling", "integrations/mysql", "integrations/mariadb", ""},
		{"a room of integrations imports no sibling", "integrations/mysql/sql", "integrations/mariadb/sql", "internal/x"},
		{"the contract does not know its rooms", "integrations", "integrations/github", ""},
		{"workflows are deterministic: they know what does I/O by name only", "workflows", "os", ""},
		{"workflows reach nothing of this project but access", "workflows", "internal/store", "access"},
		{"activities know nothing above them", "activities", "workers", "internal/x"},
		{"activities know nothing above them", "activities", "integrations/all", ""},
		{"workers know nothing above them, and get their kinds handed in", "workers", "integrations/postgresql", "activities"},
		{"the portal reaches targets through workflows only", "portal", "integrations/all", "internal/x"},
		{"the portal reaches targets through workflows only", "portal/api", "workers", ""},
		{"what is internal knows nothing of processes", "internal/engine", "portal", ""},
		{"only the store and the rooms talk to databases", "activities", "github.com/jackc/pgx/v5", ""},
		{"only lapse-dev links the Temporal server", "starter", "go.temporal.io/server/temporal", "internal/engine"},
		{"only starter/dev/embedded knows the Temporal server", "starter/dev", "go.temporal.io/server/temporal", ""},
		{"what is for tests is in no program", "portal", "internal/targettest", ""},
	} {
		i := slices.IndexFunc(rules, func(r rule) bool { return r.name == c.rule })
		if i < 0 {
			t.Errorf("there is no rule %q", c.rule)
			continue
		}
		t.Run(c.rule+": "+c.pkg, func(t *testing.T) {
			g, want := graph{c.pkg: {c.imported}}, fmt.Sprintf("%s must not reach %s: %[1]s -> %[2]s", c.pkg, c.imported)
			if c.by != "" {
				g = graph{c.pkg: {c.by}, c.by: {c.imported}}
				want = fmt.Sprintf("%s must not reach %s: %[1]s -> %[3]s -> %[2]s", c.pkg, c.imported, c.by)
			}
			if broken := rules[i].check(g); !slices.Contains(broken, want) {
				t.Errorf("%q is missing in %q", want, broken)
			}
			if broken := rules[i].check(graph{c.pkg: {"strings", "access"}}); len(broken) > 0 {
				t.Errorf("strings and access are allowed everywhere, and yet: %q", broken)
			}
		})
	}
}

// The product's module is small: the server has a module of its own.
func TestModule(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		for _, server := range []string{"go.temporal.io/server", "github.com/temporalio/ui-server"} {
			if strings.Contains(line, server) {
				t.Errorf("go.mod of the product requires %s; it belongs to starter/dev", server)
			}
		}
	}
}

// Every package says once what it is for.
func TestPackageComments(t *testing.T) {
	for _, dir := range folders(t) {
		docs, files := comments(t, dir)
		if len(docs) == 0 && files == 0 {
			continue // an external test package beside nothing
		}
		if len(docs) != 1 {
			t.Errorf("package %s has %d package comments, want 1 %v", relative(t, dir), len(docs), docs)
		}
	}
}

// comments returns the files that have a package comment, and how many files
// belong to the package or its internal tests.
func comments(t *testing.T, dir string) (docs []string, files int) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(f.Name.Name, "_test") {
			continue
		}
		files++
		if f.Doc.Text() != "" {
			docs = append(docs, filepath.Base(name))
		}
	}
	return docs, files
}
