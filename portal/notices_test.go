package portal

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/portal/api"
)

// tell tells somebody something.
func (r *rig) tell(email string, n access.Notice) {
	r.Helper()
	who, err := r.store.PersonByEmail(r.Context(), email)
	if err != nil {
		r.Fatal(err)
	}
	n.PersonID = who.ID
	if err := r.store.Tell(r.Context(), []access.Notice{n}); err != nil {
		r.Fatal(err)
	}
}

func TestNotices(t *testing.T) {
	r := configured(t)
	for i := range 3 {
		r.tell(ana, access.Notice{Key: fmt.Sprint(i), Kind: access.NoticeGranted, RequestID: "req-1", Text: fmt.Sprintf("text %d", i)})
	}
	r.tell(cy, access.Notice{Key: "0", Kind: access.NoticeReview, Text: "for Cy"})

	all := want[api.Notices](r, http.StatusOK, ana, "GET", "/notices", nil)
	if len(all.Notices) != 3 || all.Next != "" || all.Notices[0].Text != "text 2" || all.Notices[0].Title != "Access is ready" || all.Notices[0].RequestID != "req-1" || !all.Notices[0].SeenAt.IsZero() {
		t.Errorf("%+v", all)
	}
	page := want[api.Notices](r, http.StatusOK, ana, "GET", "/notices?limit=2", nil)
	rest := want[api.Notices](r, http.StatusOK, ana, "GET", "/notices?limit=2&after="+page.Next, nil)
	if len(page.Notices) != 2 || len(rest.Notices) != 1 || rest.Notices[0].Text != "text 0" || rest.Next != "" {
		t.Errorf("%+v, %+v", page, rest)
	}

	// Nobody marks what is somebody else's.
	r.refused(http.StatusNotFound, cy, "POST", "/notices/seen", api.SeeNotices{UpTo: all.Notices[0].ID}, "no such notice")
	r.refused(http.StatusUnprocessableEntity, ana, "POST", "/notices/seen", map[string]string{"up_to": ""})
	if got := want[api.SeenNotices](r, http.StatusOK, ana, "POST", "/notices/seen", api.SeeNotices{UpTo: all.Notices[1].ID}); got.Seen != 2 {
		t.Errorf("%+v", got)
	}
	left := want[api.Notices](r, http.StatusOK, ana, "GET", "/notices?unseen=true", nil)
	if len(left.Notices) != 1 || left.Notices[0].Text != "text 2" {
		t.Errorf("%+v", left)
	}
	if all := want[api.Notices](r, http.StatusOK, ana, "GET", "/notices", nil); len(all.Notices) != 3 || all.Notices[2].SeenAt.IsZero() {
		t.Errorf("%+v", all)
	}
}

var upTo = regexp.MustCompile(`name="up_to" value="([^"]+)"`)

func TestNoticesOnPages(t *testing.T) {
	r := configured(t)
	if res := r.as(ana, "GET", "/", nil); strings.Contains(res.body, "Told to you") || !strings.Contains(res.body, ">Inbox<") {
		t.Errorf("before anything is told: %s", res.body)
	}
	r.tell(cy, access.Notice{Key: "0", Kind: access.NoticeReview, Text: "for Cy alone"})
	for i := range noticesShown + 2 {
		r.tell(ana, access.Notice{Key: fmt.Sprint(i), Kind: access.NoticeReminder, RequestID: "req-1", Text: fmt.Sprintf("text %02d <b>", i)})
	}
	for _, path := range []string{"/", "/inbox"} {
		res := r.as(ana, "GET", path, nil)
		r.shows(res, http.StatusOK, "Told to you", "A request waits for you", "text 11 &lt;b&gt;", "text 02", `href="/requests/req-1"`, "There is more", ">Inbox (12)<", `name="from" value="`+path+`"`)
		for _, not := range []string{"text 01", "for Cy", "<b>"} {
			if strings.Contains(res.body, not) {
				t.Errorf("%s has %q", path, not)
			}
		}
	}
	newest := upTo.FindStringSubmatch(r.as(ana, "GET", "/inbox", nil).body)[1]
	r.tell(ana, access.Notice{Key: "later", Kind: access.NoticeGranted, Text: "told after the page was read"})
	r.shows(r.as(cy, "POST", "/notices/seen", url.Values{"up_to": {newest}}), http.StatusNotFound)
	r.shows(r.as(ana, "POST", "/notices/seen", url.Values{}), http.StatusUnprocessableEntity)
	res := r.as(ana, "POST", "/notices/seen", url.Values{"up_to": {newest}, "from": {"/inbox"}})
	if res.status != http.StatusSeeOther || res.header.Get("Location") != "/inbox" {
		t.Errorf("%d to %s", res.status, res.header.Get("Location"))
	}
	if res := r.as(ana, "POST", "/notices/seen", url.Values{"up_to": {newest}, "from": {"//evil.example.com"}}); res.header.Get("Location") != "/" {
		t.Errorf("to %s", res.header.Get("Location"))
	}
	res = r.as(ana, "GET", "/request", nil)
	r.shows(res, http.StatusOK, ">Inbox (1)<")
	res = r.as(ana, "GET", "/", nil)
	r.shows(res, http.StatusOK, "told after the page was read", ">Inbox (1)<")
	if strings.Contains(res.body, "text 11") || strings.Contains(res.body, "There is more") {
		t.Errorf("what was seen is shown: %s", res.body)
	}
	for i := range mostCounted {
		r.tell(ana, access.Notice{Key: fmt.Sprint("many ", i), Kind: access.NoticeReminder})
	}
	r.shows(r.as(ana, "GET", "/", nil), http.StatusOK, ">Inbox (99&#43;)<")
	if res := r.as(cy, "GET", "/inbox", nil); !strings.Contains(res.body, "for Cy alone") || strings.Contains(res.body, `href="/requests/"`) {
		t.Errorf("Cy's inbox: %s", res.body)
	}
}
