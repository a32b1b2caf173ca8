package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/lapse-access/lapse/internal/localpg"
	"github.com/lapse-access/lapse/internal/localpg/localpgtest"
	"github.com/lapse-access/lapse/internal/localserver/localservertest"
)

// TestOwnPostgreSQL runs the commands of the README's section word for word,
// against a PostgreSQL that Lapse did not start. Only the first block, where the
// reader says what is theirs, is another.
func TestOwnPostgreSQL(t *testing.T) {
	t.Parallel()
	blocks := commands(t, "## Your own PostgreSQL, in five minutes")
	if !strings.HasPrefix(blocks[0], "export PGHOST=") || len(blocks) != 7 {
		t.Fatalf("the section has other blocks than this test knows: %q", blocks)
	}
	server := localpgtest.Start(t, 0)
	conn, err := connect(t.Context(), server, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, statement := range []string{"CREATE ROLE app_owner", "CREATE DATABASE shop OWNER app_owner", "REVOKE CONNECT ON DATABASE shop FROM PUBLIC"} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	blocks[0] = fmt.Sprintf("export PGHOST=%s PGPORT=%d PGUSER=%s PGPASSWORD='%s' PGSSLMODE=require\nDATABASE=shop OWNER=app_owner\n",
		localpg.Host, server.Port, localpg.Superuser, server.Password)
	for i, block := range blocks {
		if strings.HasPrefix(block, "lapse-dev ") {
			blocks[i] = strings.TrimSpace(block) + ` >lapse-dev.log 2>&1 &
				trap 'kill %1; wait' EXIT
				until grep -q 'Lapse is up' lapse-dev.log; do sleep 0.2; kill -0 %1; done` + "\n"
		}
	}
	dir := localservertest.Dir(t)
	script := "set -eu\n" + strings.Join(blocks, "")
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+server.Bin.Dir+":"+os.Getenv("PATH"))
	for _, name := range []string{"LAPSE_PORTAL", "LAPSE_TEMPORAL", "LAPSE_TEMPORAL_UI"} {
		address := freeAddress(t)
		cmd.Env = append(cmd.Env, name+"="+address)
		if name == "LAPSE_PORTAL" {
			cmd.Env = append(cmd.Env, "LAPSE_URL=http://"+address)
		}
	}
	programs(t, filepath.Join(dir, "bin"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "lapse-dev.log"))
		t.Fatalf("%v\n%s\n%s", err, out, log)
	}
	for _, want := range []string{"prod-pg is ready.", "schema:shop/public", "is active", "Username  ", "This is shown only once.", "is ended", "Nothing changes"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the commands did not print %q:\n%s", want, out)
		}
	}
}

// commands are the blocks of shell commands below a heading of the README.
func commands(t *testing.T, heading string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n"+heading+"\n")
	if !found {
		t.Fatalf("the README has no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	for _, part := range strings.Split(section, "```sh\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		blocks = append(blocks, block)
	}
	return blocks
}

// programs puts lapse and lapse-dev into a folder, as make build does.
func programs(t *testing.T, dir string) {
	t.Helper()
	lapse, err := command()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(lapse, filepath.Join(dir, "lapse")); err != nil {
		t.Fatal(err)
	}
	dev := fmt.Sprintf("#!/bin/sh\nLAPSE_DEV_TEST=1 exec %s \"$@\"\n", strconv.Quote(self))
	if err := os.WriteFile(filepath.Join(dir, "lapse-dev"), []byte(dev), 0o755); err != nil {
		t.Fatal(err)
	}
}
