package describe

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/integrations"
)

// Certification is what the suite found, as certification.json of a room has it.
type Certification struct {
	Kind    string   `json:"kind"`
	Against Against  `json:"certified_against"`
	Servers []Server `json:"servers"`
	// Hash is that of the sources of the room and of the suite.
	Hash string `json:"hash"`
}

// Against says what stood for the target.
type Against string

// What can stand for the target: its vendor's own product, something of ours
// that speaks as it does, or nothing yet.
const (
	Real Against = "real"
	Fake Against = "fake"
	None Against = "none"
)

// Server is what the suite found on one server.
type Server struct {
	Server  string `json:"server"` // product and version
	Cases   int    `json:"cases"`
	Passed  int    `json:"passed"`
	Skipped []Skip `json:"skipped"`
}

// Skip is a case that was left out, and why.
type Skip struct {
	Case   string `json:"case"`
	Reason string `json:"reason"`
}

// Certified is one line of the list of kinds. A case counts as passed when it
// passed on every server.
type Certified struct {
	Kind    string  `json:"kind"`
	Name    string  `json:"name"` // as its vendor writes it
	Against Against `json:"certified_against"`
	Server  string  `json:"server"`
	Cases   int     `json:"cases"`
	Passed  int     `json:"passed"`
	Skipped []Skip  `json:"skipped"`
}

// List is the kinds, by name.
func List(kinds integrations.Registry) ([]Certified, error) {
	list := []Certified{}
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		c, err := certificationOf(kinds[name])
		if err != nil {
			return nil, err
		}
		list = append(list, c.Line(kinds[name].Title))
	}
	return list, nil
}

func certificationOf(k integrations.Kind) (c Certification, err error) {
	if err := json.Unmarshal(k.Certification, &c); err != nil {
		return c, fmt.Errorf("the certification of %s: %w", k.Name, err)
	}
	return c, nil
}

// Line is the certification in the list of kinds.
func (c Certification) Line(title string) Certified {
	line := Certified{Kind: c.Kind, Name: title, Against: c.Against, Skipped: []Skip{}}
	var servers []string
	for _, s := range c.Servers {
		servers = append(servers, s.Server)
		line.Cases = max(line.Cases, s.Cases)
		for _, skip := range s.Skipped {
			if !slices.ContainsFunc(line.Skipped, func(known Skip) bool { return known.Case == skip.Case }) {
				line.Skipped = append(line.Skipped, skip)
			}
		}
	}
	line.Server = strings.Join(servers, ", ")
	line.Passed = line.Cases - len(line.Skipped)
	return line
}

// Words say how a kind is certified, in a sentence.
func (c Certified) Words() string {
	if c.Against == None {
		return "Not certified yet."
	}
	target := map[Against]string{Real: "", Fake: "a fake of "}[c.Against] + c.Server
	return fmt.Sprintf("Certified against %s: %d of %d cases pass, %d are left out.", target, c.Passed, c.Cases, len(c.Skipped))
}
