package portal

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/portal/api"
)

// functions are those that templates use.
func (p *Portal) functions() template.FuncMap {
	now := func() time.Time { return p.opts.Store.Now() }
	return template.FuncMap{
		"asset":    assetPath,
		"join":     func(s []string) string { return strings.Join(s, ", ") },
		"words":    func(o access.Outcome) string { return strings.ReplaceAll(string(o), "_", " ") },
		"spaced":   func(k access.FindingKind) string { return capital(strings.ReplaceAll(string(k), "_", " ")) },
		"aged":     func(t time.Time) string { return aged(t, now()) },
		"sentence": sentence,
		"hint":     hint,
		"stamp":    func(t any) string { return instant(t).UTC().Format(time.RFC3339) },
		"when":     func(t any) template.HTML { return when(instant(t), now()) },
		"until":    func(t any) string { return span(instant(t).Sub(now())) },
		"past":     func(t any) string { return span(now().Sub(instant(t))) },
		"soonest":  soonest,
		"span":     func(holds []api.Hold) *share { return elapsed(holds, now()) },
		"asks":     title,
		"tone":     tone,
	}
}

// instant reads a time, or one behind a pointer.
func instant(t any) time.Time {
	if at, ok := t.(*time.Time); ok {
		return *at
	}
	return t.(time.Time)
}

// when shows a moment in UTC; the script puts it into the reader's own time.
func when(t, now time.Time) template.HTML {
	t, now = t.UTC(), now.UTC()
	text := t.Format("2 Jan, 15:04") + " UTC"
	if t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		text = t.Format("15:04:05") + " UTC"
	}
	// Digits and the names of months.
	return template.HTML(fmt.Sprintf(`<time datetime="%s">%s</time>`, t.Format(time.RFC3339), text))
}

// span is a length of time as people say it.
func span(d time.Duration) string {
	d = max(0, d).Truncate(time.Second)
	days, hours, minutes, seconds := d/(24*time.Hour), d/time.Hour%24, d/time.Minute%60, d/time.Second%60
	switch {
	case days > 0:
		return fmt.Sprintf("%dd %dh", days, hours)
	case hours > 0:
		return fmt.Sprintf("%dh %dm", hours, minutes)
	case minutes > 0:
		return fmt.Sprintf("%dm %ds", minutes, seconds)
	}
	return fmt.Sprintf("%ds", seconds)
}

// soonest is the hold that matters first: one that is overdue, else the one
// that ends first.
func soonest(holds []api.Hold) api.Hold {
	var first api.Hold
	for _, h := range holds {
		if h.State.Open() && h.EndsAt != nil && (first.EndsAt == nil || h.EndsAt.Before(*first.EndsAt)) {
			first = h
		}
	}
	return first
}

// share is how much of a time is left.
type share struct {
	From, To time.Time
	Share    float64
}

func elapsed(holds []api.Hold, now time.Time) *share {
	h := soonest(holds)
	if h.StartsAt == nil || h.EndsAt == nil || !h.EndsAt.After(*h.StartsAt) {
		return nil
	}
	left := float64(h.EndsAt.Sub(now)) / float64(h.EndsAt.Sub(*h.StartsAt))
	return &share{From: *h.StartsAt, To: *h.EndsAt, Share: min(1, max(0, left))}
}

// title says in a few words what a request is about.
func title(holds []api.Hold) string {
	if len(holds) == 0 {
		return "Access"
	}
	first := holds[0].Permission + " on " + holds[0].Integration + " " + holds[0].Resource
	if len(holds) > 1 {
		return fmt.Sprintf("%s and %d more", first, len(holds)-1)
	}
	return first
}

// tone is the class of an event in the timeline.
func tone(kind string) string {
	switch {
	case kind == "granted" || kind == "ended" || kind == "account.deleted":
		return "good"
	case kind == "overdue" || strings.Contains(kind, "refused") || strings.Contains(kind, "failed") || strings.HasSuffix(kind, "deny"):
		return "bad"
	case strings.HasPrefix(kind, "decision.") || kind == "request.created" || kind == revealed:
		return "person"
	}
	return ""
}

// sentence begins with a capital letter and ends with a full stop.
func sentence(s string) string {
	if s = capital(s); s == "" {
		return s
	}
	if strings.HasSuffix(s, ".") || strings.HasSuffix(s, "?") || strings.HasSuffix(s, "!") {
		return s
	}
	return s + "."
}

// capital begins with a capital letter.
func capital(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	if size == 0 {
		return s
	}
	return string(unicode.ToUpper(first)) + s[size:]
}

// hint is that of a problem, unless it names a command for the terminal.
func hint(s string) string {
	if strings.Contains(s, "lapse ") || strings.Contains(s, "LAPSE_") {
		return ""
	}
	return s
}

// form is what somebody typed, and what is wrong with it.
type form struct {
	Values url.Values
	Text   string // what is wrong with the whole
	Hint   string
	Faults map[string]string // by field
	status int
}

// field is one of a form, for a link to it.
type field struct{ ID, Name string }

// Missing are the fields of the form for a request that have a fault.
func (f *form) Missing() (list []field) {
	known := []field{{"yours", "what you ask for"}, {"on_behalf_of", "for whom"}, {"for", "the duration"}, {"start_at", "when it begins"}, {"reason", "the reason"}}
	for _, at := range slices.Sorted(maps.Keys(f.Faults)) {
		if name, ok := strings.CutPrefix(at, "fields."); ok {
			known = append(known, field{at, strings.ReplaceAll(name, "_", " ")})
		}
	}
	for _, known := range known {
		for at := range f.Faults {
			if at == known.ID || known.ID == "yours" && (strings.HasPrefix(at, "wants") || at == "bundle") {
				list = append(list, known)
				break
			}
		}
	}
	return list
}

// failure puts an error beside what was typed.
func (p *Portal) failure(r *http.Request, err error) *form {
	f := &form{Values: r.PostForm, Faults: map[string]string{}}
	if err == nil {
		return f
	}
	failed := p.fail(operation(r), err)
	f.status = failed.Status
	for _, w := range failed.Errors {
		field := strings.TrimPrefix(w.Location, "body.")
		f.Faults[field] = cmp.Or(f.Faults[field], sentence(w.Message))
	}
	if len(f.Faults) == 0 {
		f.Text, f.Hint = sentence(failed.Detail), sentence(hint(failed.Hint))
	}
	return f
}

// Value is what was typed in a field.
func (f *form) Value(field string) string { return f.Values.Get(field) }

// Fault is what is wrong with a field.
func (f *form) Fault(field string) string { return f.Faults[field] }

// valid judges the body of an operation as the API does for those who send it
// as JSON.
func valid[B any](body B) *api.Problem {
	text, err := json.Marshal(body)
	var value any
	if err == nil {
		err = json.Unmarshal(text, &value)
	}
	if err != nil {
		panic("portal: encoding a body of the API: " + err.Error())
	}
	var faults []api.Wrong
	for _, err := range huma.NewModelValidator().Validate(reflect.TypeFor[B](), value) {
		if d, ok := errors.AsType[*huma.ErrorDetail](err); ok {
			faults = append(faults, api.Wrong{Location: "body." + d.Location, Message: d.Message})
		}
	}
	if len(faults) > 0 {
		return wrongs("", faults...)
	}
	return nil
}
