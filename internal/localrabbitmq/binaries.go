package localrabbitmq

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/lapse-access/lapse/internal/localserver"
)

// Binaries is an installation of RabbitMQ, with the Erlang that it runs on.
type Binaries struct {
	Version string // 3.10.8
	Major   int    // 3

	home   string // the folder with RabbitMQ's own sbin and plugins
	erlang string // the folder that Erlang calls ROOTDIR
	erts   string // the folder of epmd and erlexec
}

// Find returns the newest installation of a major version; for 0 the newest of
// all. It looks where Debian's packages put it, and in the cache folder where
// deploy/dev/rabbitmq.sh unpacks them.
func Find(major int) (Binaries, error) {
	for _, b := range slices.Backward(Installed()) {
		if major == 0 || b.Major == major {
			return b, nil
		}
	}
	wanted := "RabbitMQ"
	if major != 0 {
		wanted += " " + strconv.Itoa(major)
	}
	return Binaries{}, errors.New("localrabbitmq: no " + wanted + " server found: deploy/dev/rabbitmq.sh installs one")
}

// Installed returns what Find chooses from: one installation of each version,
// oldest first.
func Installed() []Binaries {
	roots := []string{"/"}
	if cache, err := localserver.CacheDir(); err == nil {
		private, _ := filepath.Glob(filepath.Join(cache, "rabbitmq-*"))
		roots = append(roots, private...)
	}
	var all []Binaries
	for _, root := range roots {
		b, ok := inspect(root)
		sameVersion := func(other Binaries) bool { return other.Version == b.Version }
		if ok && !slices.ContainsFunc(all, sameVersion) {
			all = append(all, b)
		}
	}
	slices.SortFunc(all, func(a, b Binaries) int {
		return cmp.Or(cmp.Compare(a.Major, b.Major), cmp.Compare(a.Version, b.Version))
	})
	return all
}

// inspect looks for both products below root. It reports false when one is
// missing.
func inspect(root string) (b Binaries, ok bool) {
	const prefix = "rabbitmq_server-"
	homes, _ := filepath.Glob(filepath.Join(root, "usr/lib/rabbitmq/lib", prefix+"*"))
	erts, _ := filepath.Glob(filepath.Join(root, "usr/lib/erlang/erts-*/bin"))
	if len(homes) == 0 || len(erts) == 0 {
		return b, false
	}
	b = Binaries{
		Version: strings.TrimPrefix(filepath.Base(homes[0]), prefix),
		home:    homes[0],
		erlang:  filepath.Join(root, "usr/lib/erlang"),
		erts:    erts[0],
	}
	major, _, _ := strings.Cut(b.Version, ".")
	b.Major, _ = strconv.Atoi(major)
	for _, program := range []string{b.server(), b.epmd(), filepath.Join(b.erts, "erlexec")} {
		if _, err := os.Stat(program); err != nil {
			return b, false
		}
	}
	return b, true
}

func (b Binaries) server() string { return filepath.Join(b.home, "sbin/rabbitmq-server") }

func (b Binaries) epmd() string { return filepath.Join(b.erts, "epmd") }
