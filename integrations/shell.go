package integrations

import "strings"

// ShellWord quotes one word of Credential.Command for a POSIX shell, in double
// quotes where those do.
func ShellWord(word string) string {
	if !strings.ContainsAny(word, "\"$`\\!") {
		return `"` + word + `"`
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
