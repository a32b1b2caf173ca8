package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/runbook"
)

// sampleBook has a target of each sort, and one without steps.
func sampleBook(now time.Time) runbook.Book {
	hold := func(permission, resource string, left time.Duration) []runbook.Hold {
		return []runbook.Hold{{Resource: resource, Permission: permission, State: access.StateActive, EndsAt: now.Add(left), Request: "req-1"}}
	}
	return runbook.Book{WrittenAt: now.Add(-3 * time.Minute).UTC(), Every: access.Duration(time.Minute), Instance: "lapse-1", Epoch: 4, Events: 45, Head: "3f9a", Integrations: []runbook.Integration{
		{Name: "prod-pg", Kind: "postgresql", Title: "PostgreSQL", Language: "sql", Command: "psql prod\n", People: []runbook.Person{
			{Email: "ana@example.com", Account: "lapse_ana_1", Holds: hold("read_only", "schema:shop/public", time.Hour), Steps: "SELECT 1;\n"},
			{Email: "bo@example.com", Holds: hold("admin", "schema:shop/\x1b[2Jx", -time.Minute), Missing: "no such name"}}},
		{Name: "queue", Kind: "rabbitmq", Title: "RabbitMQ", Language: "sh", Command: "lapse() { :; }\n", People: []runbook.Person{
			{Email: "ana@example.com", Account: "lapse_ana_2", Holds: hold("read", "vhost:shop", 2*time.Hour), Steps: "lapse DELETE /users/lapse_ana_2\n"}}},
		{Name: "wiki", Kind: "wiki", Missing: "this Lapse knows no such kind", People: []runbook.Person{{Email: "ana@example.com", Holds: hold("edit", "page:x", time.Hour)}}},
	}}
}

func TestDescribeBook(t *testing.T) {
	now := time.Date(2026, 11, 22, 3, 4, 5, 0, time.UTC)
	was := time.Local
	time.Local = time.UTC
	defer func() { time.Local = was }()
	var out bytes.Buffer
	describeBook(&out, opened{Verified: true, Book: sampleBook(now)}, now)
	const want = `Runbook of lapse-1, written 3m0s ago, at 2026-11-22 03:01:05 UTC.
Its signature is that of this Lapse.
What was granted or changed since then is not in it. Epoch 4; audit trail: 45 events, head 3f9a.

4 entitlements held by 2 people on 3 integrations.

prod-pg (PostgreSQL)
====================

WHO              ACCOUNT      WHAT                             UNTIL
ana@example.com  lapse_ana_1  read_only on schema:shop/public  04:04:05 (1h0m left)
bo@example.com                admin on schema:shop/�[2Jx       03:03:05 (over)

1. Connect, with your secret for the dots:

psql prod

2. Paste there, for each person:

-- ana@example.com
SELECT 1;

-- bo@example.com
-- THERE ARE NO STEPS: no such name

queue (RabbitMQ)
================

WHO              ACCOUNT      WHAT                UNTIL
ana@example.com  lapse_ana_2  read on vhost:shop  05:04:05 (2h0m left)

1. Start a shell, and in it, with your secret for the dots:

lapse() { :; }

2. Then for each person:

# ana@example.com
lapse DELETE /users/lapse_ana_2

wiki (wiki)
===========

WHO              ACCOUNT  WHAT            UNTIL
ana@example.com           edit on page:x  04:04:05 (1h0m left)

THERE ARE NO STEPS: this Lapse knows no such kind
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	out.Reset()
	describeBook(&out, opened{Book: sampleBook(now.Add(-time.Hour))}, now)
	for _, said := range []string{"NOBODY KNOWS WHO WROTE IT", "IT IS OLD: a new one should come every 1m"} {
		if !strings.Contains(out.String(), said) {
			t.Errorf("it does not say %q:\n%s", said, &out)
		}
	}
}

// TestRunbookOpen opens a file with what stands in a data folder, and trusts
// nobody else's.
func TestRunbookOpen(t *testing.T) {
	data := t.TempDir()
	dir := filepath.Join(data, "keys")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	verify, sign, _ := ed25519.GenerateKey(nil)
	_, stranger, _ := ed25519.GenerateKey(nil)
	der, err := x509.MarshalPKIXPublicKey(verify)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ticket.pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644); err != nil {
		t.Fatal(err)
	}
	reader, err := runbook.OwnReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	keep := func(by ed25519.PrivateKey) string {
		file, err := runbook.Seal(sampleBook(now), by, reader)
		if err != nil {
			t.Fatal(err)
		}
		path, err := runbook.Keep(filepath.Join(data, "runbook"), now, file, 9)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	lapse := func(args ...string) (stdout, stderr string, ok bool) {
		t.Helper()
		var out, errs bytes.Buffer
		getenv := func(name string) string { return map[string]string{"LAPSE_DATA": data}[name] }
		code := run(t.Context(), append([]string{"runbook", "open"}, args...), getenv, &out, &errs)
		return out.String(), errs.String(), code == 0
	}
	if _, errs, ok := lapse(); ok || !strings.Contains(errs, "there is no runbook") {
		t.Errorf("without a file: %s", errs)
	}
	path := keep(sign)
	out, errs, ok := lapse("-o", "json", "--person", "Bo@example.com")
	var b opened
	if err := json.Unmarshal([]byte(out), &b); err != nil || !ok || !b.Verified || b.File != path || len(b.Integrations) != 1 || len(b.Integrations[0].People) != 1 {
		t.Errorf("Bo's part: %+v, %v %s", b, err, errs)
	}
	for _, test := range []struct {
		args []string
		want string
		ok   bool
	}{
		{[]string{"--steps", "--integration", "queue"}, "lapse() { :; }\nlapse DELETE /users/lapse_ana_2\n", true},
		{[]string{"--steps", "--integration", "prod-pg", "--person", "ana@example.com"}, "SELECT 1;\n", true},
		{[]string{"--steps", "--integration", "prod-pg"}, "no steps for bo@example.com", false},
		{[]string{"--steps", "--integration", "wiki"}, "no steps for wiki", false},
		{[]string{"--steps"}, "3 integrations are in it", false},
		{[]string{"--integration", "nowhere"}, "nothing is held", false},
		{[]string{"--key", filepath.Join(dir, "ticket.pub")}, "no SSH key", false},
		{[]string{"--verify", filepath.Join(dir, "nobody.pub")}, "is missing", false},
	} {
		out, errs, ok := lapse(test.args...)
		if test.ok != ok || test.ok && out != test.want || !test.ok && (!strings.Contains(errs, test.want) || out != "") {
			t.Errorf("%v: %t\n%s%s", test.args, ok, out, errs)
		}
	}
	path = keep(stranger)
	if out, errs, ok := lapse(path); ok || out != "" || !strings.Contains(errs, "not signed by this Lapse") {
		t.Errorf("a stranger's: %s%s", out, errs)
	}
	if err := os.Remove(filepath.Join(dir, "ticket.pub")); err != nil {
		t.Fatal(err)
	}
	if out, _, ok := lapse(path); !ok || !strings.Contains(out, "NOBODY KNOWS WHO WROTE IT") {
		t.Errorf("without ticket.pub: %s", out)
	}
	if out, errs, ok := lapse(path, "--steps", "--integration", "queue"); ok || out != "" {
		t.Errorf("steps of nobody knows whom: %s%s", out, errs)
	}
}
