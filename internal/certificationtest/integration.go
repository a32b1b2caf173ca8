package certificationtest

import (
	"slices"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

// Start makes an integration that is closed at the end of the test.
func Start(t testing.TB, kind integrations.Kind, target integrations.Target) integrations.Integration {
	t.Helper()
	i, err := kind.New(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Close() })
	return i
}

// Check is what the integration's Check says, by the names of the items.
func Check(t testing.TB, i integrations.Integration) map[string]access.CheckItem {
	t.Helper()
	report, err := i.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	items := map[string]access.CheckItem{}
	for _, item := range report.Items {
		items[item.Name] = item
	}
	return items
}

// Catalog reads all pages of Discover, by resource. Each comes once.
func Catalog(t testing.TB, i integrations.Integration) (found map[string]access.Found, warnings []string) {
	t.Helper()
	found = map[string]access.Found{}
	for cursor := ""; ; {
		page, err := i.Discover(t.Context(), cursor)
		if err != nil {
			t.Fatal(err)
		}
		warnings = append(warnings, page.Warnings...)
		for _, f := range page.Resources {
			if _, twice := found[f.Resource.String()]; twice {
				t.Errorf("%s comes twice", f.Resource)
			}
			found[f.Resource.String()] = f
		}
		if cursor = page.Next; cursor == "" {
			return found, warnings
		}
	}
}

// Offers demands that Discover offers entitlements, and has nothing to warn of.
func Offers(t testing.TB, i integrations.Integration, want ...access.Entitlement) {
	t.Helper()
	found, warnings := Catalog(t, i)
	for _, e := range want {
		if !slices.Contains(found[e.Resource.String()].Permissions, e.Permission) {
			t.Errorf("%s is not in the catalog", e)
		}
	}
	if len(warnings) > 0 {
		t.Errorf("warnings: %v", warnings)
	}
}
