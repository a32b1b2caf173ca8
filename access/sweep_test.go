package access

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// What is declared of findings is the one list that everything else says.
func TestFindingSorts(t *testing.T) {
	var kinds []string
	last := Alarm
	for _, s := range FindingSorts {
		kinds = append(kinds, string(s.Kind))
		if s.Doc == "" || s.Repair == "" {
			t.Errorf("%s says nothing of itself, or of its repair", s.Kind)
		}
		if order := []Severity{Alarm, Warning, Remark}; slices.Index(order, s.Severity) < slices.Index(order, last) || !slices.Contains(order, s.Severity) {
			t.Errorf("%s stands after what is less grave", s.Kind)
		}
		last = s.Severity
		if s.Kind.Sort() != s {
			t.Errorf("%s is not found", s.Kind)
		}
	}
	field, _ := reflect.TypeFor[Finding]().FieldByName("Kind")
	if got := field.Tag.Get("enum"); got != strings.Join(kinds, ",") {
		t.Errorf("the API says %s, want %s", got, strings.Join(kinds, ","))
	}
	if s := FindingKind("of a later version").Sort(); s.Severity != Alarm || s.Mode != RepairNever {
		t.Errorf("a sort that is not known: %+v", s)
	}
}
