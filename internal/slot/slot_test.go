package slot

import (
	"testing"

	"github.com/lapse-access/lapse/access"
)

// order is that of GitHub: a ladder with a custom role beside it, which has the
// base role read, and which admin covers.
func order(has, want string) bool {
	switch {
	case has == "auditor":
		return want == "" || want == "read" || want == "auditor"
	case want == "auditor":
		return has == "admin"
	}
	return Ladder("read", "write", "admin")(has, want)
}

func TestLadder(t *testing.T) {
	covers := Ladder("read", "write", "admin")
	for _, test := range []struct {
		has, want string
		covers    bool
	}{
		{"", "", true}, {"read", "", true}, {"", "read", false}, {"read", "read", true}, {"admin", "read", true}, {"read", "admin", false},
		{"custom", "read", false}, {"admin", "custom", false}, {"custom", "custom", true}, {"custom", "", true}, {"", "custom", false},
	} {
		if got := covers(test.has, test.want); got != test.covers {
			t.Errorf("%q covers %q: %t", test.has, test.want, got)
		}
	}
}

func TestHighest(t *testing.T) {
	for _, test := range []struct {
		levels  []string
		highest string
		ok      bool
	}{
		{nil, "", true}, {[]string{""}, "", true}, {[]string{"read", "", "write"}, "write", true}, {[]string{"admin", "read"}, "admin", true},
		{[]string{"read", "auditor"}, "auditor", true}, {[]string{"auditor", "write"}, "auditor", false}, {[]string{"write", "auditor"}, "write", false},
		{[]string{"write", "auditor", "admin"}, "admin", true},
	} {
		if highest, ok := Order(order).Highest(test.levels...); highest != test.highest || ok != test.ok {
			t.Errorf("%q: %q, %t; want %q, %t", test.levels, highest, ok, test.highest, test.ok)
		}
	}
}

func TestOwed(t *testing.T) {
	site, tools := access.NewResource("repository", "site"), access.NewResource("repository", "tools")
	claim := func(r access.Resource, level string, baseline bool) access.Claim {
		return access.Claim{Entitlement: access.Entitlement{Resource: r, Permission: level}, Baseline: baseline}
	}
	for _, test := range []struct {
		name   string
		remain []access.Claim
		want   Owed
	}{
		{"nothing", nil, Owed{}},
		{"on another resource", []access.Claim{claim(tools, "admin", false)}, Owed{}},
		{"two holds", []access.Claim{claim(site, "read", false), claim(site, "write", false)}, Owed{All: "write", Holds: "write"}},
		{"a hold below the baseline", []access.Claim{claim(site, "read", false), claim(site, "write", true)}, Owed{All: "write", Holds: "read", Baseline: "write"}},
		{"a hold above the baseline", []access.Claim{claim(site, "admin", false), claim(site, "write", true)}, Owed{All: "admin", Holds: "admin", Baseline: "write"}},
		{"two that cannot be held at once", []access.Claim{claim(site, "auditor", false), claim(site, "write", false)}, Owed{All: "auditor", Holds: "auditor", Split: true}},
	} {
		if got := Order(order).Owed(test.remain, site); got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}

func TestEnd(t *testing.T) {
	for _, test := range []struct {
		name, now, wrote string
		owed             Owed
		want             End
	}{
		{"nothing owed", "write", "write", Owed{}, End{Change: true}},
		{"the baseline", "admin", "admin", Owed{All: "read"}, End{Write: "read", Change: true}},
		{"another hold", "admin", "admin", Owed{All: "write", Holds: "write"}, End{Write: "write", Change: true}},
		{"another hold that is as high", "write", "write", Owed{All: "write", Holds: "write"}, End{}},
		{"lowered by hand, nothing owed", "read", "admin", Owed{}, End{Change: true}},
		{"lowered by hand to below the baseline", "read", "admin", Owed{All: "write"}, End{}},
		{"taken away by hand", "", "admin", Owed{All: "write"}, End{}},
		{"raised by hand", "admin", "write", Owed{}, End{Raised: true}},
		{"raised by hand, with another hold", "admin", "write", Owed{All: "write", Holds: "write"}, End{Raised: true}},
		{"raised by hand to what is owed", "admin", "write", Owed{All: "admin"}, End{}},
		{"nothing was written", "write", "", Owed{}, End{Raised: true}},
		{"nothing was written and nothing is there", "", "", Owed{}, End{}},
		{"changed by hand to what Lapse did not write", "auditor", "write", Owed{}, End{Raised: true}},
		{"changed by hand within what Lapse wrote", "auditor", "admin", Owed{All: "read"}, End{Write: "read", Change: true}},
	} {
		if got := Order(order).End(test.now, test.wrote, test.owed); got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}
