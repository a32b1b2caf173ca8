// Package slot is the arithmetic of targets on which a person has one level on a
// resource, and each level that is written replaces the one before. What a person
// is owed is the highest level of all holds and of the baseline; what is there
// beyond what Lapse wrote is somebody else's, and what is there no more was
// lowered on purpose.
package slot

import (
	"slices"

	"github.com/lapse-access/lapse/access"
)

// Order tells whether one level gives all that another gives. The level "" is
// none: it covers nothing but itself, and every level covers it.
type Order func(has, want string) bool

// Ladder is the order of levels of which each covers those before it. A level
// that is not among them covers itself alone.
func Ladder(weakestFirst ...string) Order {
	return func(has, want string) bool {
		if want == "" || has == want {
			return true
		}
		n := slices.Index(weakestFirst, want)
		return n >= 0 && slices.Index(weakestFirst, has) > n
	}
}

// Highest is the level that covers all of several; ok is false when none of them
// does, and then it is the first that no other one exceeds.
func (covers Order) Highest(levels ...string) (highest string, ok bool) {
	for _, l := range levels {
		if covers(l, highest) {
			highest = l
		}
	}
	return highest, !slices.ContainsFunc(levels, func(l string) bool { return !covers(highest, l) })
}

// Owed is what must remain in a slot.
type Owed struct {
	All      string // to other holds and to the baseline
	Holds    string // to other holds alone
	Baseline string
	// Split is true when several are owed of which none covers the others. Each
	// of the levels is then one of them.
	Split bool
}

// Owed reads the claims that are on a resource.
func (covers Order) Owed(remain []access.Claim, r access.Resource) (owed Owed) {
	var all, holds, baseline []string
	for _, c := range remain {
		if c.Entitlement.Resource != r {
			continue
		}
		all = append(all, c.Entitlement.Permission)
		if c.Baseline {
			baseline = append(baseline, c.Entitlement.Permission)
		} else {
			holds = append(holds, c.Entitlement.Permission)
		}
	}
	var whole bool
	owed.All, whole = covers.Highest(all...)
	owed.Holds, _ = covers.Highest(holds...)
	owed.Baseline, _ = covers.Highest(baseline...)
	owed.Split = !whole
	return owed
}

// End is what the end of a hold makes of a slot.
type End struct {
	// Write is the level to write, "" to take the level away; it counts when
	// Change is true.
	Write  string
	Change bool
	// Raised is true when somebody else gave what the person has beyond what is
	// owed. It is left, and reported.
	Raised bool
}

// End compares the level that is there with what Lapse last wrote and with what
// is owed. It never raises.
func (covers Order) End(now, wrote string, owed Owed) End {
	switch {
	case covers(owed.All, now):
		return End{}
	case !covers(wrote, now):
		return End{Raised: true}
	}
	return End{Write: owed.All, Change: true}
}
