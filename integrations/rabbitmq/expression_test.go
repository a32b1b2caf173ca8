package rabbitmq

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/lapse-access/lapse/access"
)

func TestParseExpression(t *testing.T) {
	for _, test := range []struct {
		text, hand string
		all        bool
		allows     []string
		denies     []string
	}{
		{text: `^$`, denies: []string{"", "a"}},
		{text: ``, denies: []string{"a"}},
		{text: `.*`, all: true, allows: []string{"", "a"}},
		{text: `^^.*|^(?:a)\z`, all: true, allows: []string{"a", "b"}},
		{text: `^(?:^c|a\.b)\z`, allows: []string{"a.b", "c"}, denies: []string{"aXb", "a.bc", "cc"}},
		{text: `^(?:\^c|a\|b)\z`, allows: []string{"a|b", "^c"}, denies: []string{"a", "b", "c"}},
		{text: `^(?:a|b)$`, hand: `^(?:a|b)$`, allows: []string{"a"}, denies: []string{"ab"}},
		{text: `^(?:b|a)\z`, hand: `^(?:b|a)\z`, allows: []string{"a"}}, // Lapse sorts
		{text: `orders`, hand: `orders`, allows: []string{"orders_secret"}},
		{text: `.*|x`, hand: `.*|x`, allows: []string{"y"}},
		{text: `^.*$`, hand: `^.*$`, all: true, allows: []string{"y"}},
		{text: `([`, hand: `([`, denies: []string{"("}},
	} {
		x := parseExpression(test.text)
		if x.hand != test.hand || x.all() != test.all {
			t.Errorf("%s: %+v, all %t", test.text, x, x.all())
		}
		for _, name := range slices.Concat(test.allows, test.denies) {
			if got := x.allows(regexp.QuoteMeta(name), name); got != slices.Contains(test.allows, name) {
				t.Errorf("%s allows %q: %t", test.text, name, got)
			}
		}
	}
}

// TestExpressions: what is written is read back, and allows just the names in it.
func TestExpressions(t *testing.T) {
	name := rapid.StringMatching(`[a-zA-Z0-9.*|^()\[\]\\+?{}$#&/=, -]{1,20}|[^\x00\r\n]{1,8}`)
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfN(name, 0, 8).Draw(t, "names")
		var x expression
		for _, n := range names {
			x.add(part(rapid.IntRange(0, signs-1).Draw(t, "sign"), regexp.QuoteMeta(n)))
		}
		all := rapid.Bool().Draw(t, "all")
		if all {
			x.add(part(rapid.IntRange(0, signs-1).Draw(t, "sign"), everything))
		}
		text := x.String()
		if back := parseExpression(text); back.hand != "" || back.String() != text {
			t.Fatalf("%s is read back as %+v", text, back)
		}
		compiled := regexp.MustCompile(text)
		for _, n := range append(rapid.SliceOfN(name, 0, 8).Draw(t, "others"), names...) {
			want := all || slices.Contains(names, n)
			if compiled.MatchString(n) != want || parseExpression(text).allows(regexp.QuoteMeta(n), n) != want {
				t.Fatalf("%s allows %q: %t, want %t", text, n, !want, want)
			}
		}
	})
}

// TestWithin: what is narrowed allows nothing that either one does not.
func TestWithin(t *testing.T) {
	name := rapid.StringMatching(`[ab.*]{1,3}`)
	draw := func(t *rapid.T) (x expression) {
		for _, n := range rapid.SliceOfN(name, 0, 4).Draw(t, "names") {
			x.add(part(rapid.IntRange(0, signs-1).Draw(t, "sign"), regexp.QuoteMeta(n)))
		}
		if rapid.IntRange(0, 3).Draw(t, "all") == 0 {
			x.add(everything)
		}
		return x
	}
	rapid.Check(t, func(t *rapid.T) {
		owed, is := draw(t), draw(t)
		if rapid.Bool().Draw(t, "by hand") {
			is = expression{hand: rapid.SampledFrom([]string{"^a", "b$", "^(?:a|b)$", ".+"}).Draw(t, "hand")}
		}
		narrow := owed.within(is)
		for _, n := range rapid.SliceOfN(name, 1, 8).Draw(t, "tries") {
			text := regexp.QuoteMeta(n)
			if want := owed.allows(text, n) && is.allows(text, n); narrow.allows(text, n) != want {
				t.Fatalf("%s within %s is %s, which allows %q: %t", owed, is, narrow, n, !want)
			}
		}
	})
}

// TestTopics: a pattern is read back from its text.
func TestTopics(t *testing.T) {
	word := rapid.OneOf(rapid.SampledFrom([]string{"*", "#", "a", "a*", "#b", "", "(|)", `\.`}), rapid.StringMatching(`[^.\x00\r\n]{1,5}`))
	rapid.Check(t, func(t *rapid.T) {
		pattern := strings.Join(rapid.SliceOfN(word, 1, 5).Draw(t, "words"), ".")
		if pattern == "" {
			return
		}
		text := topicText(pattern)
		usual := patternOf(text)
		if topicText(usual) != text {
			t.Fatalf("%q is %s, read back as %q, which is %s", pattern, text, usual, topicText(usual))
		}
		compiled, err := regexp.Compile(opening + text + closing)
		if err != nil {
			t.Fatal(err)
		}
		if s := sample(text); !compiled.MatchString(s) {
			t.Fatalf("%s does not allow its sample %q", text, s)
		}
	})
}

// TestRights: what is written for entitlements gives each of them, and is read
// back as just those.
func TestRights(t *testing.T) {
	i := &integration{id: "i"}
	var all []access.Entitlement
	for typ, permissions := range levels {
		for permission := range permissions {
			for _, path := range map[string][][]string{
				typeVhost: {{"v"}, {"w"}}, typeQueue: {{"v", "q"}, {"v", "x"}}, typeExchange: {{"v", "x"}, {"v", "q"}}, typeTopic: {{"v", "x", "a.*"}, {"v", "x", "#"}, {"v", "q", "a"}},
			}[typ] {
				all = append(all, access.Entitlement{Integration: "i", Resource: access.NewResource(typ, path...), Permission: permission})
			}
		}
	}
	slices.SortFunc(all, func(a, b access.Entitlement) int { return strings.Compare(a.String(), b.String()) })
	rapid.Check(t, func(t *rapid.T) {
		held := rapid.SliceOfDistinct(rapid.SampledFrom(all), func(e access.Entitlement) string { return e.String() }).Draw(t, "held")
		targets, err := i.parseAll(held)
		if err != nil {
			t.Fatal(err)
		}
		var permissions, topics []record
		for p, x := range wanted(targets) {
			r := record{Vhost: p.vhost, Exchange: p.exchange, Configure: x[configure].String(), Write: x[write].String(), Read: x[read].String()}
			if p.exchange == "" {
				permissions = append(permissions, r)
			} else {
				topics = append(topics, r)
			}
		}
		r := of(permissions, topics)
		for _, target := range targets {
			if _, all := r.gives(target); !all {
				t.Fatalf("%s is not given by %+v %+v", target, permissions, topics)
			}
		}
		got, foreign := i.entitlements(r)
		slices.SortFunc(got, func(a, b access.Entitlement) int { return strings.Compare(a.String(), b.String()) })
		slices.SortFunc(held, func(a, b access.Entitlement) int { return strings.Compare(a.String(), b.String()) })
		if !slices.Equal(got, held) || len(foreign) > 0 {
			t.Fatalf("%v is read back as %v, %v", held, got, foreign)
		}
	})
}
