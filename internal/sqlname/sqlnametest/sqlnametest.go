// Package sqlnametest has the names that want to break out of a statement, for
// the tests of every quoter and of every room on its real server.
package sqlnametest

import "strings"

// Hostile are names that servers allow, or ought to refuse.
var Hostile = []string{
	"a", "A", "select", "1", "1a", "a b", " a", "a ", "a.b", "a@b", "first.last@corp.example", "-a", "--", "#", "/*", "*/", "/*!50000 */",
	`"`, `""`, `a"b`, `"; DROP TABLE y; --`, `'`, `''`, `a'b`, `'; DROP USER root; --`, "`", "``", "a`b", "`; DROP DATABASE y; #", "[", "]", "]]", "a]b",
	`\`, `\\`, `a\`, `\'`, `\"`, "\\`", `\_`, `\%`, "_", "%", "a_b", "a%b", "%_%", `a\_b`,
	"$$", "$1", ":a", "?", "??", "{}", "%s", "%[1]s", "&", "&&", "|", ";", ",", "(", ")", "=", "~", "!", "<>", "^", "+",
	`U&"`, `E'`, `x'`, `N'`, "0x41", "NULL", "PUBLIC", "CURRENT_USER", "\n", "\r\n", "\t", "\x01", "\x1a", "\x7f", "\u0085", "\u00a0", "\u2028",
	"ü", "Ü", "é", "e\u0301", "ß", "İ", "ı", "名前", "שם", "\u202ea\u202c", "\u200b", "\ufeff", "\uffff", "😀", "a😀b",
	"\x00", "a\x00b", "\xff", "a\xc0\xafb", "\xbf'", "\xbf\\", "\x95\\", "\xe5\x5c",
	strings.Repeat("x", 30), strings.Repeat("x", 32), strings.Repeat("x", 33), strings.Repeat("x", 63), strings.Repeat("x", 64), strings.Repeat("x", 65),
	strings.Repeat("_", 32), strings.Repeat("_", 33), strings.Repeat("_", 64), strings.Repeat("ü", 32), strings.Repeat("ü", 64), strings.Repeat("x", 129), strings.Repeat("x", 256), "",
}
