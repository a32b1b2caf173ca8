package portal

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/portal/api"
)

const (
	// noticesShown is how many notices a page has.
	noticesShown = 10
	// mostCounted is up to where those that wait are counted.
	mostCounted = 99
)

func (p *Portal) registerNotices(to huma.API) {
	tags := []string{"notices"}
	register(p, to, huma.Operation{OperationID: "list-notices", Method: http.MethodGet, Path: "/notices", Tags: tags,
		Summary: "List what the caller was told, newest first"}, p.listNotices)
	register(p, to, huma.Operation{OperationID: "see-notices", Method: http.MethodPost, Path: "/notices/seen", Tags: tags,
		Summary: "Note that the caller has seen a notice, and what was told before it"}, p.seeNotices)
}

// noticeFilter selects notices of the caller.
type noticeFilter struct {
	Unseen bool   `query:"unseen" doc:"only those that the caller has not seen"`
	After  string `query:"after" doc:"next of the page before" maxLength:"100"`
	Limit  int    `query:"limit" minimum:"1" maximum:"999" default:"100"`
}

func (p *Portal) listNotices(ctx context.Context, c *caller, in *noticeFilter) (api.Notices, error) {
	out := api.Notices{Notices: []api.Notice{}}
	rows, err := p.opts.Store.Notices(ctx, store.NoticeFilter{Person: c.ID, Unseen: in.Unseen, After: in.After, Limit: in.Limit + 1})
	if len(rows) > in.Limit {
		rows = rows[:in.Limit]
		out.Next = rows[in.Limit-1].ID
	}
	for _, n := range rows {
		out.Notices = append(out.Notices, api.Notice{ID: n.ID, Kind: n.Kind, Title: n.Kind.Title(), RequestID: n.RequestID, Text: n.Text, At: n.At, SeenAt: n.SeenAt})
	}
	return out, err
}

// seenCall names the newest notice that was seen.
type seenCall struct{ Body api.SeeNotices }

func (p *Portal) seeNotices(ctx context.Context, c *caller, in *seenCall) (out api.SeenNotices, err error) {
	out.Seen, err = p.opts.Store.SeenNotices(ctx, c.ID, in.Body.UpTo)
	if errors.Is(err, store.ErrNotFound) {
		err = problem(http.StatusNotFound, "lapse notices lists yours", "there is no such notice, or it is not yours")
	}
	return out, err
}

// toldView is what somebody was told and has not seen.
type toldView struct {
	api.Notices
	UpTo, From string
}

// withTold adds to a page what its reader was told and has not seen.
func (p *Portal) withTold(do func(*http.Request, *caller) (view, error)) func(*http.Request, *caller) (view, error) {
	return func(r *http.Request, c *caller) (view, error) {
		v, err := do(r, c)
		if err != nil {
			return v, err
		}
		list, err := p.listNotices(r.Context(), c, &noticeFilter{Unseen: true, Limit: noticesShown})
		v.told = &toldView{Notices: list, From: r.URL.Path}
		if len(list.Notices) > 0 {
			v.told.UpTo = list.Notices[0].ID
		}
		return v, err
	}
}

func (p *Portal) seenPage(r *http.Request, c *caller) (view, error) {
	body := api.SeeNotices{UpTo: r.PostForm.Get("up_to")}
	if wrong := valid(body); wrong != nil {
		return view{}, wrong
	}
	_, err := p.seeNotices(r.Context(), c, &seenCall{body})
	return view{to: local(r.PostForm.Get("from")), note: "Marked as seen."}, err
}

// inboxTab says how much somebody was told and has not seen. What a page shows
// of it anyway is not read again.
func (p *Portal) inboxTab(ctx context.Context, c *caller, shown *toldView) string {
	var n int
	if shown != nil && shown.Next == "" {
		n = len(shown.Notices.Notices)
	} else {
		var err error
		if n, err = p.opts.Store.UnseenNotices(ctx, c.ID, mostCounted+1); err != nil {
			p.opts.Log.Error("internal error", "page", "inbox", "error", err)
		}
	}
	switch {
	case n == 0:
		return "Inbox"
	case n > mostCounted:
		return fmt.Sprintf("Inbox (%d+)", mostCounted)
	}
	return fmt.Sprintf("Inbox (%d)", n)
}
