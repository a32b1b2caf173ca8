// Package certificationtest certifies a kind by the suite and keeps the result
// as data beside it: certification.json, which the program carries. It plants
// bugs in a kind, which the suite must find, and has what the tests of the rooms
// share beyond the suite.
package certificationtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/internal/describe"
)

// Update is true when the tests write what is generated, as make generate wants
// it, instead of comparing it.
var Update = os.Getenv("LAPSE_UPDATE") == "1"

// File is the name of a room's certification.
const File = "certification.json"

// Target is a server to certify on.
type Target struct {
	Name    string // of the subtest
	Harness func(t *testing.T) *integrationtest.Harness
}

// Run certifies the kind of the current folder on each target, and compares the
// results with its certification.json, or writes it. A run that was cut short,
// or that failed, is not compared.
func Run(t *testing.T, kind integrations.Kind, against describe.Against, targets ...Target) {
	found := describe.Certification{Kind: kind.Name, Against: against, Servers: make([]describe.Server, len(targets)), Hash: Hash(t, kind.Name)}
	whole := make([]bool, len(targets))
	t.Cleanup(func() {
		if slices.Contains(whole, false) {
			t.Logf("not every case ran and passed on every server: %s stays as it is", File)
			return
		}
		keep(t, found)
	})
	for i, target := range targets {
		t.Run(target.Name, func(t *testing.T) {
			t.Parallel()
			var server string
			results := Cases(t, func(t *testing.T) *integrationtest.Harness {
				h := target.Harness(t)
				server = product(t, h)
				return h
			})
			found.Servers[i], whole[i] = count(results)
			found.Servers[i].Server = server
		})
	}
}

// Cases runs the suite on a kind, one subtest for each case, and returns the
// results. The harness is made once.
func Cases(t *testing.T, newHarness func(t *testing.T) *integrationtest.Harness) []integrationtest.Result {
	h := newHarness(t)
	var results []integrationtest.Result
	for _, c := range integrationtest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			begun := time.Now()
			defer func() {
				r := integrationtest.Result{Name: c.Name, Promise: c.Promise, Status: integrationtest.Passed, Took: time.Since(begun)}
				switch {
				case t.Failed():
					r.Status = integrationtest.Failed
				case t.Skipped():
					r.Status, r.Reason = integrationtest.Skipped, string(c.Missing(h))
				}
				results = append(results, r)
			}()
			c.Run(t, h)
		})
	}
	t.Log(integrationtest.Summary(results))
	return results
}

// product is what the target calls itself.
func product(t *testing.T, h *integrationtest.Harness) string {
	t.Helper()
	i, err := h.Kind.New(h.Target)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	report, err := i.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return report.Server
}

// count sums up results; whole is true when every case of the suite ran, and
// none failed.
func count(results []integrationtest.Result) (s describe.Server, whole bool) {
	s.Skipped = []describe.Skip{}
	whole = len(results) == len(integrationtest.Cases())
	for _, r := range results {
		s.Cases++
		switch r.Status {
		case integrationtest.Passed:
			s.Passed++
		case integrationtest.Skipped:
			s.Skipped = append(s.Skipped, describe.Skip{Case: r.Name, Reason: "needs " + r.Reason})
		default:
			whole = false
		}
	}
	return s, whole
}

// keep writes the certification, or compares it with what is written.
func keep(t *testing.T, found describe.Certification) {
	t.Helper()
	if Update {
		text, err := json.MarshalIndent(found, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(File, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	var written describe.Certification
	text, err := os.ReadFile(File)
	if err == nil {
		err = json.Unmarshal(text, &written)
	}
	if err != nil {
		t.Fatalf("%v: run make generate", err)
	}
	if diff := differences(written, found); diff != "" {
		t.Errorf("%s is not what this run found (-written +found): run make generate\n%s", File, diff)
	}
}

// differences are those between what is written and what was found. Versions of
// servers are compared up to the first dot.
func differences(written, found describe.Certification) string {
	return cmp.Diff(majors(written), majors(found))
}

// majors is a certification without the minor versions of its servers.
func majors(c describe.Certification) describe.Certification {
	servers := make([]describe.Server, len(c.Servers))
	for i, s := range c.Servers {
		servers[i] = s
		servers[i].Server, _, _ = strings.Cut(s.Server, ".")
	}
	c.Servers = servers
	return c
}

// Hash is that of the sources on which a certification rests: the files of the
// room and of the suite.
func Hash(t testing.TB, kind string) string {
	t.Helper()
	sum, err := hash(os.DirFS(Root(t)), "integrations/"+kind, "integrations/integrationtest")
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// hash is that of all files in folders but tests, test data, prose and the
// certification itself. Line endings do not count.
func hash(files fs.FS, folders ...string) (string, error) {
	sum := sha256.New()
	for _, folder := range folders {
		err := fs.WalkDir(files, folder, func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && d.Name() == "testdata":
				return fs.SkipDir
			case d.IsDir(), strings.HasSuffix(name, "_test.go"), strings.HasSuffix(name, ".md"), d.Name() == File:
				return nil
			}
			text, err := fs.ReadFile(files, name)
			text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
			fmt.Fprintf(sum, "%s %d\n%s", name, len(text), text)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// Root is the folder of the module.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatal("the tests do not run in a folder of the module")
	return ""
}
