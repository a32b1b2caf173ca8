package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/lapse-access/lapse/integrations/all"
	"github.com/lapse-access/lapse/internal/config"
)

// TestCompose reads docker-compose.yml as Docker does, by the same schema. It
// cannot be run here; what can be wrong without a run is looked at.
func TestCompose(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")}, cli.WithWorkingDirectory(root), cli.WithName("lapse"))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, service := range project.Services {
		t.Run(name, func(t *testing.T) { checkService(t, service) })
	}
	if target, connector := project.Services["target"], project.Services["connector"]; !strings.Contains(value(connector, "LAPSE_DEMO_PG"), `"`+value(target, "LAPSE_CONNECTOR_PASSWORD")+`"`) {
		t.Error("the connector's password is not the one that the target is made with")
	}
}

func value(s types.ServiceConfig, name string) string {
	if v := s.Environment[name]; v != nil {
		return *v
	}
	return ""
}

// pinned is an image with at least major and minor version.
var pinned = regexp.MustCompile(`:v?\d+\.\d+[\w.-]*$`)

func checkService(t *testing.T, s types.ServiceConfig) {
	if s.Build == nil && !pinned.MatchString(s.Image) {
		t.Errorf("the image %s is not pinned to a version", s.Image)
	}
	if s.Build != nil {
		checkBuild(t, *s.Build)
		checkCommand(t, s.Command)
		if !s.ReadOnly || !slices.Contains(s.CapDrop, "ALL") {
			t.Error("it may write to its image, or keeps capabilities")
		}
	}
	for _, p := range s.Ports {
		if ip := net.ParseIP(p.HostIP); ip == nil || !ip.IsLoopback() {
			t.Errorf("port %s is published on %q, want loopback", p.Published, p.HostIP)
		}
	}
	for _, v := range s.Volumes {
		if v.Type != types.VolumeTypeBind {
			continue
		}
		if _, err := os.Stat(v.Source); err != nil {
			t.Errorf("%s is mounted and not there", v.Source)
		}
		if filepath.Base(v.Source) == "lapse.yaml" {
			checkConfiguration(t, v.Source)
		}
		if filepath.Ext(v.Source) == ".sh" {
			if out, err := exec.Command("sh", "-n", v.Source).CombinedOutput(); err != nil {
				t.Errorf("%s: %s", v.Source, out)
			}
		}
	}
}

// checkBuild looks whether everything that the Dockerfile copies is there, and
// whether it builds with the Go of go.mod.
func checkBuild(t *testing.T, b types.BuildConfig) {
	text, err := os.ReadFile(filepath.Join(b.Context, b.Dockerfile))
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(b.Context, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(mod)
	if version == nil || !strings.Contains(string(text), "FROM golang:"+string(version[1])) {
		t.Errorf("%s does not build with the Go of go.mod", b.Dockerfile)
	}
	if !regexp.MustCompile(`(?m)^FROM \S+:nonroot$`).Match(text) {
		t.Errorf("%s runs as root", b.Dockerfile)
	}
	ignore, err := os.ReadFile(filepath.Join(b.Context, b.Dockerfile+".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(ignore)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "!"); ok {
			if _, err := os.Stat(filepath.Join(b.Context, path)); err != nil {
				t.Errorf("the image wants %s, which is not there", path)
			}
		}
	}
}

// checkCommand lets lapse itself read the flags.
func checkCommand(t *testing.T, args []string) {
	lapse, err := command()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(lapse, append(slices.Clone(args), "--help")...).CombinedOutput(); err != nil {
		t.Errorf("lapse %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func checkConfiguration(t *testing.T, file string) {
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := config.Parse(filepath.Base(file), source, all.Kinds()); err != nil {
		t.Errorf("%s: %v", file, err)
	}
}
