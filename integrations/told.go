package integrations

import "slices"

// Found stands in a line of Kind.Told for what only the target can say: the id
// of a resource, the tables of a schema.
func Found(what string) string { return "‹" + what + "›" }

// Each is Found for a line that is sent once for every such thing, and not at all
// where there is none.
func Each(what string) string { return Found("each " + what) }

// HiddenSecret stands in a line of Kind.Told for a secret.
const HiddenSecret = "***"

// Unless marks the lines that are not sent where they would change nothing: all
// of some but those that are always sent.
func Unless(some, always []string) []string {
	some = slices.Clone(some)
	for n, line := range some {
		if !slices.Contains(always, line) {
			some[n] = line + " " + Found("unless it is so already")
		}
	}
	return some
}
