package portal

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/portal/api"
	"github.com/lapse-access/lapse/workflows"
)

// requestView is a request as its page shows it.
type requestView struct {
	shown
	May         map[string]bool // verdicts that would count now
	Credentials []string        // integrations with a login that Lapse made
	Room        access.Duration // how much longer it may last at most
	Propose     access.Duration // as an extension
	Again       string          // where to ask for the same
	Workflow    string          // in Temporal's Web UI
	failed      string          // the form that failed
	form        *form
}

// Failed is what is wrong with one of the forms as a whole.
func (v requestView) Failed(name string) *form {
	if v.failed != name {
		return nil
	}
	return v.form
}

// Fault is what is wrong with a field of one of the forms.
func (v requestView) Fault(name, field string) string {
	if v.failed != name {
		return ""
	}
	return v.form.Fault(field)
}

// Typed is what was typed into a field of the form that failed.
func (v requestView) Typed(name, field string) string {
	if v.failed != name {
		return ""
	}
	return v.form.Value(field)
}

// For is the duration that the form of a decision proposes, or what was typed.
func (v requestView) For() string {
	if v.failed == "decisions" && v.form.Values.Has("for") {
		return v.form.Value("for")
	}
	return v.Lasts().String()
}

// row is one of the things that a decision is about.
type row struct {
	api.Hold
	Value   string
	Checked bool
}

// Rows are what the form of a decision lets somebody leave out.
func (v requestView) Rows() (rows []row) {
	for _, h := range v.Kept() {
		r := row{Hold: h, Value: wantValue(api.Want{Integration: h.Integration, Resource: h.Resource, Permission: h.Permission}), Checked: true}
		if v.failed == "decisions" && v.form.Values.Has("asked") {
			r.Checked = slices.Contains(v.form.Values["keep"], r.Value)
		}
		rows = append(rows, r)
	}
	return rows
}

func (p *Portal) requestPage(r *http.Request, c *caller) (view, error) {
	return p.showPage(r, c, "", nil)
}

// showPage is the page of a request, with the form that failed and why.
func (p *Portal) showPage(r *http.Request, c *caller, failed string, why error) (view, error) {
	c.now = p.opts.Store.Now()
	row, err := c.request(r.Context(), r.PathValue("id"))
	if err != nil {
		return view{}, err
	}
	v := requestView{May: map[string]bool{}, failed: failed, form: p.failure(r, why)}
	q, err := p.show(r.Context(), c, row)
	if err != nil {
		return view{}, err
	}
	v.shown = c.shown(row, q)
	m, err := c.matterNow(r.Context(), row)
	if err != nil {
		return view{}, err
	}
	for verdict := range updates {
		v.May[string(verdict)] = c.may(verdict, m) && timely(row, m, access.Decision{Verdict: verdict}, c.now) == nil
	}
	if row.PersonID == c.ID {
		v.Credentials = p.credentials(c, row)
		v.Room = room(row)
		v.Propose = min(usual/2, v.Room)
		if v.State.Final() {
			v.Again = again(v.Request)
		}
		delete(v.May, string(access.Revoke)) // one's own is given back
	}
	if v.Alone() {
		delete(v.May, string(access.Extend)) // it lasts as long as its flow gives it
	}
	if v.May[string(access.Deny)] {
		delete(v.May, string(access.Revoke)) // the same
	}
	if p.opts.UI != "" && c.administrator() {
		v.Workflow = UIPath + "/namespaces/" + url.PathEscape(p.opts.Namespace) + "/workflows/" + url.PathEscape(workflows.RequestID(row.ID))
	}
	return view{template: "request", title: title(v.Holds), data: v, status: v.form.status, changing: v.changing()}, nil
}

// awaited is what only the person can do on the target, such as to accept an
// invitation, and where.
type awaited struct{ What, Link string }

// Awaits is what a hold waits for after it was granted as far as Lapse can; nil for
// others.
func (requestView) Awaits(h api.Hold) *awaited {
	if !awaits(h) {
		return nil
	}
	a := new(awaited)
	for _, fact := range h.Evidence.Grant.Facts {
		if what, ok := strings.CutPrefix(fact, "awaits "); ok {
			a.What = what
		} else if a.What != "" && strings.HasPrefix(fact, "https://") {
			a.Link = fact
		}
	}
	return a
}

func awaits(h api.Hold) bool { return h.State == access.StatePending && h.Evidence.Grant != nil }

// credentials are the integrations on which a request has a login of Lapse's.
func (p *Portal) credentials(c *caller, row store.RequestRow) (names []string) {
	accounts := c.active(row)
	for _, name := range slices.Sorted(maps.Keys(accounts)) {
		if p.makesCredentials(c, accounts[name]) {
			names = append(names, name)
		}
	}
	return names
}

// room is how much longer all of a request's access may last.
func room(row store.RequestRow) access.Duration {
	least := time.Duration(-1)
	for _, h := range row.Holds {
		if left := h.MaxEnd.Sub(h.EndsAt).Truncate(time.Second); h.State == access.StateActive && (least < 0 || left < least) {
			least = left
		}
	}
	return access.Duration(max(0, least))
}

// again is where the same can be asked for once more.
func again(q api.Request) string {
	query := url.Values{"for": {q.Duration.String()}, "reason": {q.Reason}}
	for _, h := range q.Holds {
		query.Add("want", wantValue(api.Want{Integration: h.Integration, Resource: h.Resource, Permission: h.Permission}))
	}
	return "/request?" + query.Encode()
}

// act does what a form on the page of a request asks for, says what came of it,
// and shows the form again when that fails.
func act[B any](p *Portal, r *http.Request, c *caller, name string, body B, do func(in *decideBy[B]) (api.Request, error), note func(shown) string) (view, error) {
	if faults := valid(body); faults != nil {
		return p.showPage(r, c, name, faults)
	}
	in := &decideBy[B]{Body: body}
	in.ID = r.PathValue("id")
	out, err := do(in)
	if err != nil {
		return p.showPage(r, c, name, err)
	}
	v := view{to: "/requests/" + url.PathEscape(in.ID), note: "It counts. What follows from it is under way."}
	if out.Note == "" {
		v.note = note(shown{Request: out, now: c.now})
	}
	if r.PostForm.Get("from") == "inbox" {
		v.to = "/inbox"
	}
	return v, nil
}

// decidedNote says what came of an approval or a denial.
func decidedNote(q shown) string {
	if q.Undecided() {
		turn := ""
		if name := q.Turn(); name != "" {
			turn = ", " + strings.ToLower(name[:1]) + name[1:]
		}
		return "Your approval counts. The request of " + q.Person + " waits for " + q.WaitsFor() + turn + "."
	}
	note := "The request of " + q.Person + " is " + string(q.State) + "."
	if q.Scheduled() {
		note += " It begins in " + span(q.StartAt.Sub(q.now)) + "."
	}
	return note
}

// reviewedNote says what came of a review.
func reviewedNote(q shown) string {
	switch q.Review {
	case access.ReviewBad:
		return "Your objection is on record. It ends no access: revoke what should not be there."
	case access.ReviewDue:
		return "Your review counts. It waits for " + q.WaitsFor() + " too."
	}
	return "Your review counts, and the review is complete."
}

// endedNote says what came of ending access.
func endedNote(q shown) string {
	if q.State == access.StateEnded {
		return "It has ended."
	}
	return "It is " + string(q.State) + "."
}

func (p *Portal) decidePage(r *http.Request, c *caller) (view, error) {
	body := api.Decide{Verdict: access.Verdict(r.PostForm.Get("verdict")), Reason: r.PostForm.Get("reason")}
	note := decidedNote
	switch {
	case body.Verdict == access.Approve:
		body.For = strings.TrimSpace(r.PostForm.Get("for"))
		for _, value := range r.PostForm["asked"] {
			if w, ok := parseWant(value); ok && !slices.Contains(r.PostForm["keep"], value) {
				body.Without = append(body.Without, w)
			}
		}
	case body.Verdict.Reviews():
		note = reviewedNote
	}
	return act(p, r, c, "decisions", body, func(in *decideBy[api.Decide]) (api.Request, error) { return p.judge(r.Context(), c, in) }, note)
}

func (p *Portal) extendPage(r *http.Request, c *caller) (view, error) {
	body := api.Extend{By: strings.TrimSpace(r.PostForm.Get("by"))}
	return act(p, r, c, "extension", body, func(in *decideBy[api.Extend]) (api.Request, error) { return p.extend(r.Context(), c, in) },
		func(shown) string { return "Extended." })
}

func (p *Portal) releasePage(r *http.Request, c *caller) (view, error) {
	body := api.Why{Reason: r.PostForm.Get("reason")}
	return act(p, r, c, "release", body, func(in *decideBy[api.Why]) (api.Request, error) { return p.release(r.Context(), c, in) }, endedNote)
}

func (p *Portal) revokePage(r *http.Request, c *caller) (view, error) {
	body := api.Why{Reason: r.PostForm.Get("reason")}
	return act(p, r, c, "revoke", body, func(in *decideBy[api.Why]) (api.Request, error) { return p.revoke(r.Context(), c, in) }, endedNote)
}

// credentialView is a credential as it is shown, this once.
type credentialView struct {
	ID, Integration string
	Holds           []api.Hold
	Lines           []credentialLine
}

type credentialLine struct {
	ID, Name, Value string
	Text            bool // for reading, not for copying
}

// credentialPage is the answer to the form itself, so that the secret is
// neither in an address nor kept for a page after it.
func (p *Portal) credentialPage(r *http.Request, c *caller) (view, error) {
	in := &decideBy[api.NewCredential]{Body: api.NewCredential{New: r.PostForm.Get("new") == "true", Integration: r.PostForm.Get("integration")}}
	in.ID = r.PathValue("id")
	out, err := p.takeCredential(r.Context(), c, in)
	if err != nil {
		return p.showPage(r, c, "credentials", err)
	}
	row, err := c.request(r.Context(), in.ID)
	if err != nil {
		return view{}, err
	}
	v := credentialView{ID: in.ID, Integration: in.Body.Integration, Holds: c.brief(row).Holds}
	add := func(name, value string, text bool) {
		if value != "" {
			v.Lines = append(v.Lines, credentialLine{ID: "line-" + strings.ReplaceAll(name, " ", "-"), Name: name, Value: value, Text: text})
		}
	}
	add("user name", out.Username, false)
	add("password", out.Password, false)
	add("command", out.Command, false)
	for _, name := range slices.Sorted(maps.Keys(out.Details)) {
		add(strings.ReplaceAll(name, "_", " "), out.Details[name], name == customDetails)
	}
	return view{template: "credential", title: "Your login", data: v}, nil
}
