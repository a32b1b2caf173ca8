// Package catalog is what the rooms share of discovery: which resources are
// offered, the tags in comments, and the cursor between two pages.
package catalog

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
)

// Filter says which resources can be requested, and how many at most.
type Filter struct {
	Include, Exclude []string // patterns of access.MatchResource; all when Include is empty
	Max              int
}

// Offers is false for resources that the configuration leaves out.
func (f Filter) Offers(r access.Resource) bool {
	matches := func(pattern string) bool { return access.MatchResource(pattern, r) }
	return (len(f.Include) == 0 || slices.ContainsFunc(f.Include, matches)) && !slices.ContainsFunc(f.Exclude, matches)
}

// Take puts what is offered, and can be granted or says why not, on a page. The
// count is of all pages so far; full is true when there are to be no more.
func (f Filter) Take(page *access.Page, count *int, found ...access.Found) (full bool) {
	for _, r := range found {
		if !f.Offers(r.Resource) || len(r.Permissions) == 0 && r.Note == "" {
			continue
		}
		if *count == f.Max {
			page.Warnings = append(page.Warnings, fmt.Sprintf("discovery stopped after %d resources: raise max_resources, or narrow include and exclude", f.Max))
			return true
		}
		page.Resources = append(page.Resources, r)
		*count++
	}
	return false
}

// Cursor writes down where discovery goes on.
func Cursor(at any) string {
	text, err := json.Marshal(at)
	if err != nil {
		panic("catalog: a cursor of plain fields failed to encode: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// ReadCursor reads a cursor that is not empty.
func ReadCursor(s string, at any) error {
	text, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil {
		err = json.Unmarshal(text, at)
	}
	if err != nil {
		return BadCursor(s)
	}
	return nil
}

// BadCursor is the error about a cursor that is none.
func BadCursor(s string) error {
	return access.Errorf(access.Invalid, "discovery cannot go on from %q", s).WithRemedy("begin again without a cursor")
}

var tagPattern = regexp.MustCompile(`^([A-Za-z][\w.-]*)=(\S+)$`)

// Tags reads the words key=value of a comment, between spaces or commas.
func Tags(comment string) map[string]string {
	var out map[string]string
	for _, word := range strings.FieldsFunc(comment, func(r rune) bool { return r == ',' || r == ';' || r == ' ' || r == '\t' || r == '\n' }) {
		if m := tagPattern.FindStringSubmatch(word); m != nil {
			if out == nil {
				out = map[string]string{}
			}
			out[m[1]] = m[2]
		}
	}
	return out
}
