package httpapi

import (
	"net/http"
	"slices"
	"strconv"
	"testing"
)

func TestTold(t *testing.T) {
	told := &Told{Answer: `{"id": 7}`}
	c := client(t, Options{URL: "https://nobody.invalid/v1", Told: told})
	id := told.Number("‹id of x›")
	for _, method := range []string{http.MethodGet, http.MethodPut} {
		r, err := c.Do(t.Context(), method, []string{"a/b", "‹login of ana@example.com›", strconv.FormatInt(id, 10)}, nil, map[string]int64{"id": id})
		var answer struct{ ID int }
		if err != nil || r.JSON(&answer) != nil || answer.ID != 7 {
			t.Errorf("%s: %+v, %v", method, answer, err)
		}
	}
	if lines := []string{"PUT /v1/a%2Fb/‹login of ana@example.com›/‹id of x›\n{\"id\":‹id of x›}"}; !slices.Equal(told.Lines(), lines) {
		t.Errorf("told: %q", told.Lines())
	}
}
