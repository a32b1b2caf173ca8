package certificationtest

import (
	"slices"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/describe"
)

// Script is that of a tier of a kind's setup.
func Script(t testing.TB, kind integrations.Kind, tier string, options describe.Options) string {
	t.Helper()
	d, err := describe.New(kind, options)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(d.Setup, func(have integrations.Tier) bool { return have.Name == tier })
	if i < 0 {
		t.Fatalf("there is no tier %s", tier)
	}
	return d.Setup[i].Script
}

// Misses demands that a check of a tier's connector misses nothing that the tier
// should give, and something for every operation that only the last tier is for,
// but those of which nothing can be said.
func Misses(t testing.TB, items map[string]access.CheckItem, tier, last integrations.Tier, but ...string) {
	t.Helper()
	missing := slices.Concat(tier.Operations, but)
	for _, item := range items {
		if !item.OK {
			missing = append(missing, item.Operation)
		}
		if !item.OK && slices.Contains(tier.Operations, item.Operation) {
			t.Errorf("check misses what the tier should give: %+v", item)
		}
	}
	for _, operation := range last.Operations {
		if !slices.Contains(missing, operation) {
			t.Errorf("check does not say that %s will not work", operation)
		}
	}
}

// Right is one of the connector's rights.
type Right struct {
	Name   string
	Line   string // of the setup's script, that gives it
	Undo   string // the statement that takes it away
	Item   string // of Check, that misses it then
	Remedy string // what the item says, and mends it
}

// Lack takes the right away: the check names it, and attempt is refused. After the
// remedy all is as before.
func (r Right) Lack(t testing.TB, execute func(statement string), check func() map[string]access.CheckItem, attempt func() error) {
	t.Helper()
	_, listed := check()[r.Item]
	execute(r.Undo)
	if item := check()[r.Item]; item.OK || item.Remedy != r.Remedy {
		t.Errorf("check says %+v, want the remedy %s", item, r.Remedy)
	}
	if err := attempt(); access.KindOf(err) != access.Privilege {
		t.Errorf("without the right: %v, want %s", err, access.Privilege)
	}
	execute(r.Remedy)
	if item, found := check()[r.Item]; found != listed || found && !item.OK {
		t.Errorf("after the remedy check says %+v", item)
	}
	if err := attempt(); err != nil {
		t.Errorf("after the remedy: %v", err)
	}
}
