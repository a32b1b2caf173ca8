package integrationtest

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

var toldCases = []Case{
	{Name: "told", Promise: "What a grant is said to tell the target is what it tells: each line is sent, nothing else is, and no secret is in it.", run: told},
}

func told(t T, h *Harness) {
	if h.Kind.Told == nil {
		t.Fatalf("the kind does not say what the target would be told")
	}
	var all []access.Entitlement
	for _, some := range append(h.Chains, h.Apart[:], h.Hostile, h.Levels) {
		for _, e := range some {
			if !slices.Contains(all, e) {
				all = append(all, e)
			}
		}
	}
	h.tellsApart(t, all)
	if h.Foreign || h.Via == nil {
		return
	}
	if h.Changes == nil {
		t.Fatalf("the harness does not take apart what is sent")
	}
	for _, e := range all {
		h.tellsWhatIsSent(t, e)
	}
}

// plainWord is a name that every target writes as it is.
var plainWord = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`)

// tellsApart demands lines for all that is offered on the resources: they name
// the resource, and are others for each permission and each person.
func (h *Harness) tellsApart(t T, all []access.Entitlement) {
	t.Helper()
	known := map[string]access.Entitlement{}
	anybody, somebody := h.someone(t), h.someone(t)
	for _, e := range all {
		typ, _ := h.Kind.Type(e.Resource.Type)
		for _, p := range append([]integrations.Permission{{Name: e.Permission}}, typ.Permissions...) {
			e.Permission = p.Name
			req := anybody.grantRequest([]access.Entitlement{e})
			lines := h.told(t, req)
			if h.told(t, req) != lines {
				t.Errorf("asked twice what is told for %s, the answers differ, as by a secret that was made:\n%s", e, lines)
			}
			names, err := e.Resource.Names()
			if err != nil {
				t.Fatalf("%s: %v", e, err)
			}
			if name := names[len(names)-1]; plainWord.MatchString(name) && !strings.Contains(lines, name) {
				t.Errorf("what is told for %s does not name %s:\n%s", e, name, lines)
			}
			if other, ok := known[lines]; ok && other != e {
				t.Errorf("the same is told for %s and for %s:\n%s", e, other, lines)
			}
			known[lines] = e
			if h.told(t, somebody.grantRequest([]access.Entitlement{e})) == lines {
				t.Errorf("for %s the same is told of two people:\n%s", e, lines)
			}
		}
	}
}

// told is what Kind.Told says without the target's secret.
func (h *Harness) told(t T, req integrations.GrantRequest) string {
	t.Helper()
	return strings.Join(h.toldLines(t, req), "\n")
}

func (h *Harness) toldLines(t T, req integrations.GrantRequest) []string {
	t.Helper()
	target := h.Target
	target.Secret = nil
	lines, err := h.Kind.Told(target, req)
	h.note(lines, err)
	if err != nil || len(lines) == 0 {
		t.Fatalf("asking what is told for %v: %q, %v", req.Want, lines, err)
	}
	return lines
}

// tellsWhatIsSent grants to somebody new, through a proxy that listens. Nothing is
// there for the entitlement, as far as that can be brought about.
func (h *Harness) tellsWhatIsSent(t T, e access.Entitlement) {
	t.Helper()
	p := h.someone(t)
	p.prepare(t, h.start(t), e)
	if forgetter, ok := h.Observer.(Forgetter); ok {
		forgetter.Forget(t, e)
	}
	req := p.grantRequest([]access.Entitlement{e})
	lines := h.toldLines(t, req)
	proxy := NewProxy(t, h.Address)
	proxy.Record()
	pr := h.startOn(t, h.Via(proxy.Address()))
	ctx, cancel := context.WithTimeout(t.Context(), opLimit)
	defer cancel()
	req.Wrote = maps.Clone(p.wrote)
	res, err := pr.Grant(ctx, req)
	h.note(res, err)
	if err != nil {
		t.Fatalf("granting %s: %v", e, err)
	}
	p.Name, p.wrote = res.AccountName, res.Wrote
	var sent []string
	for _, said := range proxy.Said() {
		sent = append(sent, h.Changes(said)...)
	}
	if len(sent) == 0 {
		t.Fatalf("granting %s: no change was heard", e)
	}
	for _, line := range lines {
		if !perhaps(line) && !slices.ContainsFunc(sent, func(s string) bool { return tells(line, s) }) {
			t.Errorf("granting %s: this is told and was not sent:\n%s", e, line)
		}
	}
	for _, s := range sent {
		if !slices.ContainsFunc(lines, func(line string) bool { return tells(line, s) }) {
			t.Errorf("granting %s: this was sent and is not told:\n%s", e, s)
		}
	}
	if t.Failed() {
		t.Logf("told:\n%s\nsent:\n%s", strings.Join(lines, "\n"), strings.Join(sent, "\n"))
	}
	p.settled(t, pr, []access.Entitlement{e})
	p.revoke(t, h.start(t), e)
}

// unread is what stands in a line for what is not known before.
var unread = regexp.MustCompile(`‹[^›]*›|` + regexp.QuoteMeta(integrations.HiddenSecret))

// unless is the end of a line that is not always sent.
var unless = regexp.MustCompile(` ‹unless [^›]*›$`)

// perhaps is true for a line that is not always sent.
func perhaps(line string) bool { return unless.MatchString(line) || strings.Contains(line, "‹each ") }

// tells is true when a line stands for what was sent.
func tells(line, sent string) bool {
	var pattern strings.Builder
	rest := unless.ReplaceAllString(line, "")
	last := 0
	for _, at := range unread.FindAllStringIndex(rest, -1) {
		pattern.WriteString(regexp.QuoteMeta(rest[last:at[0]]) + `.*`)
		last = at[1]
	}
	pattern.WriteString(regexp.QuoteMeta(rest[last:]))
	return regexp.MustCompile(`(?s)^` + pattern.String() + `$`).MatchString(sent)
}
