package localmysql

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/lapse-access/lapse/internal/localserver"
)

// Product is one of the two families of servers.
type Product string

const (
	MySQL   Product = "MySQL"
	MariaDB Product = "MariaDB"
)

// program is the name of the product's server.
func (p Product) program() string {
	if p == MariaDB {
		return "mariadbd"
	}
	return "mysqld"
}

// Binaries is an installation of a server.
type Binaries struct {
	Product Product
	Path    string // of mysqld or mariadbd
	Major   int    // 10
	Minor   int    // 11
	Version string // 10.11.19

	build string // all that the server says of its version
}

// Series is the version without its last part: 10.11.
func (b Binaries) Series() string { return fmt.Sprintf("%d.%d", b.Major, b.Minor) }

// base is the folder that holds sbin and share.
func (b Binaries) base() string { return filepath.Dir(filepath.Dir(b.Path)) }

// Find returns the newest installation of a product. It looks where Debian's
// packages put it, in the cache folder where deploy/dev/mysql.sh unpacks one,
// and in the search path.
func Find(product Product) (Binaries, error) {
	installed := Installed(product)
	if len(installed) == 0 {
		return Binaries{}, fmt.Errorf("localmysql: no %s server found: deploy/dev/mysql.sh installs one", product)
	}
	return installed[len(installed)-1], nil
}

// Installed returns one installation of each series of a product, oldest first.
func Installed(product Product) []Binaries {
	var all []Binaries
	for _, path := range paths(product) {
		b, ok := inspect(path)
		sameSeries := func(other Binaries) bool { return other.Series() == b.Series() }
		if ok && b.Product == product && !slices.ContainsFunc(all, sameSeries) {
			all = append(all, b)
		}
	}
	slices.SortFunc(all, func(a, b Binaries) int { return cmp.Or(cmp.Compare(a.Major, b.Major), cmp.Compare(a.Minor, b.Minor)) })
	return all
}

func paths(product Product) []string {
	paths := []string{filepath.Join("/usr/sbin", product.program())}
	if cache, err := localserver.CacheDir(); err == nil {
		private, _ := filepath.Glob(filepath.Join(cache, strings.ToLower(string(product))+"-*/usr/sbin", product.program()))
		paths = append(paths, private...)
	}
	if path, err := exec.LookPath(product.program()); err == nil {
		paths = append(paths, path)
	}
	return paths
}

var versionPattern = regexp.MustCompile(`Ver ((\d+)\.(\d+)\.\d+)(-MariaDB)?[^\n]*`)

// inspect asks the server at path for its version. It reports false when there is
// none.
func inspect(path string) (Binaries, bool) {
	if _, err := os.Stat(path); err != nil {
		return Binaries{}, false
	}
	out, err := exec.Command(path, "--no-defaults", "--version").Output()
	match := versionPattern.FindStringSubmatch(string(out))
	if err != nil || match == nil {
		return Binaries{}, false
	}
	b := Binaries{Product: MySQL, Path: path, Version: match[1], build: match[0]}
	b.Major, _ = strconv.Atoi(match[2])
	b.Minor, _ = strconv.Atoi(match[3])
	if match[4] != "" {
		b.Product = MariaDB
	}
	return b, true
}
