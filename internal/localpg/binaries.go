package localpg

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"github.com/lapse-access/lapse/internal/localserver"
)

// Binaries is an installation of PostgreSQL.
type Binaries struct {
	Dir     string // the folder of initdb, postgres and psql
	Major   int    // 18
	Version string // 18.6
}

// Path returns the path of one of its programs.
func (b Binaries) Path(program string) string { return filepath.Join(b.Dir, program) }

// Find returns the installation of a major version; for 0 the newest. It looks
// in $LAPSE_POSTGRES_BIN and nowhere else when that is set; otherwise where
// Debian's packages put it, in the cache folder where
// deploy/dev/sid.sh unpacks one, and in the search path.
func Find(major int) (Binaries, error) {
	b, err := find(major)
	if err != nil {
		return Binaries{}, fmt.Errorf("localpg: %w", err)
	}
	return b, nil
}

func find(major int) (Binaries, error) {
	installed := Installed()
	for _, b := range slices.Backward(installed) {
		if major == 0 || b.Major == major {
			return b, nil
		}
	}
	wanted := "PostgreSQL"
	if major != 0 {
		wanted = fmt.Sprintf("PostgreSQL %d", major)
	}
	return Binaries{}, fmt.Errorf("no %s server found: \"make postgresql\" installs one, or set LAPSE_POSTGRES_BIN to the folder with its initdb, postgres and psql", wanted)
}

// Installed returns what Find chooses from: one installation of each major
// version, oldest first.
func Installed() []Binaries {
	var all []Binaries
	for _, dir := range binaryDirs() {
		b, ok := inspect(dir)
		sameMajor := func(other Binaries) bool { return other.Major == b.Major }
		if ok && !slices.ContainsFunc(all, sameMajor) {
			all = append(all, b)
		}
	}
	slices.SortFunc(all, func(a, b Binaries) int { return cmp.Compare(a.Major, b.Major) })
	return all
}

func binaryDirs() []string {
	if dir := os.Getenv("LAPSE_POSTGRES_BIN"); dir != "" {
		return []string{dir}
	}
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if cache, err := localserver.CacheDir(); err == nil {
		private, _ := filepath.Glob(filepath.Join(cache, "postgresql-*/usr/lib/postgresql/*/bin"))
		dirs = append(dirs, private...)
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	return dirs
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) ((\d+)\S*)`)

// inspect asks the server in dir for its version. It reports false when dir does
// not hold a whole installation.
func inspect(dir string) (Binaries, bool) {
	b := Binaries{Dir: dir}
	for _, program := range []string{"initdb", "postgres", "psql"} {
		if _, err := exec.LookPath(b.Path(program)); err != nil {
			return Binaries{}, false
		}
	}
	out, err := exec.Command(b.Path("postgres"), "--version").Output()
	if err != nil {
		return Binaries{}, false
	}
	match := versionPattern.FindSubmatch(out)
	if match == nil {
		return Binaries{}, false
	}
	b.Version = string(match[1])
	b.Major, _ = strconv.Atoi(string(match[2]))
	return b, true
}
