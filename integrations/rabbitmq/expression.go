package rabbitmq

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// expression is a field of a permission record, as Lapse writes it:
//
//	^$                        nothing
//	.*                        every name
//	^(?:^orders|invoices)\z   some names
//	.*|^(?:orders)\z          every name, and that this one was given besides
//
// It ends with \z, because $ also matches before a line break at the end. A caret
// more in front of a part changes nothing: it tells by which permission the part
// came in, so that what an account holds can be read back.
type expression struct {
	parts map[string]bool
	// hand is what somebody else wrote; "" for an expression of this form.
	hand string
}

const (
	opening, closing = `^(?:`, `)\z`
	everything       = `.*`
	nothing          = `^$`
)

// part is a name, quoted, or everything, with the sign of a permission.
func part(sign int, text string) string { return strings.Repeat("^", sign) + text }

// split undoes part.
func split(part string) (sign int, text string) {
	text = strings.TrimLeft(part, "^")
	return len(part) - len(text), text
}

func (x expression) String() string {
	if x.hand != "" {
		return x.hand
	}
	var all, some []string
	for _, p := range slices.Sorted(maps.Keys(x.parts)) {
		if _, text := split(p); text == everything {
			all = append(all, p)
		} else {
			some = append(some, p)
		}
	}
	if len(some) > 0 {
		all = append(all, opening+strings.Join(some, "|")+closing)
	}
	if len(all) == 0 {
		return nothing
	}
	return strings.Join(all, "|")
}

// parseExpression reads a field.
func parseExpression(text string) expression {
	x := expression{parts: map[string]bool{}}
	if text == nothing || text == "" {
		return x
	}
	head, body, some := strings.Cut(text, opening)
	if some {
		body, some = strings.CutSuffix(body, closing)
		head = strings.TrimSuffix(head, "|")
	}
	var all []string
	if head != "" {
		all = strings.Split(head, "|")
	}
	for _, p := range all {
		if _, every := split(p); every != everything {
			return expression{hand: text}
		}
		x.parts[p] = true
	}
	for rest := body; some && rest != ""; {
		end := bar(rest)
		x.parts[rest[:end]] = true
		rest = strings.TrimPrefix(rest[end:], "|")
	}
	if x.String() != text {
		return expression{hand: text}
	}
	return x
}

// bar is where the first part of a body ends.
func bar(body string) int {
	for i := 0; i < len(body); i++ {
		switch body[i] {
		case '\\':
			i++
		case '|':
			return i
		}
	}
	return len(body)
}

// add puts a part in.
func (x *expression) add(p string) {
	if x.parts == nil {
		x.parts = map[string]bool{}
	}
	x.parts[p] = true
}

func (x expression) empty() bool { return x.hand == "" && len(x.parts) == 0 }

// all is true when every name is allowed. Of what somebody wrote by hand the
// usual ways of saying so count.
func (x expression) all() bool {
	switch x.hand {
	case "":
		return x.any(everything)
	case "^.*$", ".+", "^.+$":
		return true
	}
	return false
}

// any is true when the text is in, whatever its sign.
func (x expression) any(text string) bool {
	for sign := range signs {
		if x.parts[part(sign, text)] {
			return true
		}
	}
	return false
}

// allows is true when a name is allowed, of which text is the quoted form.
func (x expression) allows(text, name string) bool {
	if x.hand != "" {
		r, err := regexp.Compile(x.hand)
		return err == nil && r.MatchString(name) || x.all()
	}
	return x.all() || x.any(text)
}

// within is the part of an expression that another allows too. What another
// allows by hand and this one by everything stays as it was written.
func (x expression) within(other expression) expression {
	switch {
	case other.all():
		return x
	case x.all():
		return other
	}
	narrow := expression{parts: map[string]bool{}}
	for p := range x.parts {
		if _, text := split(p); other.allows(text, sample(text)) {
			narrow.parts[p] = true
		}
	}
	return narrow
}

// A routing key is words between dots, and a binding pattern has * for one word
// and # for any number of them:
// https://www.rabbitmq.com/tutorials/amqp-concepts#exchange-topic
const (
	anyWord     = `[^.]*`
	oneWord     = `[^.]+` // the whole key: the empty one has no word
	wordsBefore = `(?:[^.]*\.)*`
	wordsBehind = `(?:\.[^.]*)*`
	atLeastOne  = `[\s\S]+`
)

// topicText is the quoted form of a binding pattern.
func topicText(pattern string) string {
	words := slices.CompactFunc(strings.Split(pattern, "."), func(a, b string) bool { return a == "#" && b == "#" })
	stars := 0
	for _, w := range words {
		if w == "*" {
			stars++
		}
	}
	several := slices.Contains(words, "#")
	switch {
	case several && len(words) == 1:
		return everything
	case stars == 1 && len(words) == 1:
		return oneWord
	case stars == 1 && !slices.ContainsFunc(words, func(w string) bool { return w != "*" && w != "#" }):
		return atLeastOne
	}
	var text strings.Builder
	for i, w := range words {
		if i > 0 && w != "#" && !(i == 1 && words[0] == "#") {
			text.WriteString(`\.`)
		}
		switch {
		case w == "*":
			text.WriteString(anyWord)
		case w == "#" && i == 0:
			text.WriteString(wordsBefore)
		case w == "#":
			text.WriteString(wordsBehind)
		default:
			text.WriteString(regexp.QuoteMeta(w))
		}
	}
	return text.String()
}

var (
	escaped  = regexp.MustCompile(`\\(.)`)
	wildcard = strings.NewReplacer(wordsBefore, "#.", wordsBehind, ".#", anyWord, "*")
)

// patternOf undoes topicText.
func patternOf(text string) string {
	switch text {
	case everything:
		return "#"
	case oneWord:
		return "*"
	case atLeastOne:
		return "*.#"
	}
	return unquote(wildcard.Replace(text))
}

func unquote(text string) string { return escaped.ReplaceAllString(text, "$1") }

var anything = strings.NewReplacer(everything, "x", wordsBefore, "x.", wordsBehind, ".x", anyWord, "x", oneWord, "x", atLeastOne, "x")

// sample is a name that the text stands for.
func sample(text string) string { return unquote(anything.Replace(text)) }
