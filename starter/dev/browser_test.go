package main

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/lapse-access/lapse/access"
)

// TestBrowser drives the pages with a real browser, against the real database.
func TestBrowser(t *testing.T) {
	chromium(t)
	endToEnd(t, []part{
		{"the main job in the pages", mainJobInPages},
		{"by keyboard alone", keyboard},
		{"denied, failed, overdue, in the pages", sadPages},
		{"a sweep in the pages", sweepPages},
		{"Temporal behind the portal", temporalPages},
	})
}

func (s *system) browser() *browser { return newBrowser(s.t, "http://"+s.setting("LAPSE_PORTAL")) }

// add is the button that adds a permission on a resource to a request.
func add(resource, permission string) string {
	escaped := strings.NewReplacer(":", "%3A", "/", "%2F").Replace(resource)
	return `button[name="add"][value*="permission=` + permission + `&resource=` + escaped + `"]`
}

// found is true once a search has nothing but what has the words in its name.
func found(words string) string {
	return `(list => list.length > 0 && list.every(e => e.textContent.includes("` + words + `")))([...document.querySelectorAll("#results li")])`
}

// requested is the id of the request that the page shows.
func (b *browser) requested() string {
	b.t.Helper()
	b.until(`location.pathname.startsWith("/requests/req-")`)
	return strings.TrimPrefix(must[string](b, `location.pathname`), "/requests/")
}

// mainJobInPages is request, approval, credential, a real login, extension, giving
// back, and the login refused.
func mainJobInPages(t *testing.T, s *system) {
	b := s.browser()
	b.open("/")
	b.says("Choose who you are")
	b.picture("sign-in")
	b.signIn(ana)
	b.says("You have access to nothing right now")
	b.picture("my-access-empty")

	b.click(`a[href="/request"].main`)
	b.says("Who decides")
	b.fill("#q", "publ")
	b.until(found("public")) // while typing
	b.click(add("schema:shop/public", "read_only"))
	b.says("read_only chosen")
	b.says(dan) // who decides, before anything is sent
	b.click(`button[value="send"]`)
	b.says("Say why: those who decide read it.")
	b.picture("request-with-a-fault")
	b.fill("#for", "5m")
	b.fill("#reason", "A look at the orders of last week")
	b.picture("request")
	b.click(`button[value="send"]`)
	id := b.requested()
	b.says("Sent. It waits for")
	b.picture("request-pending")

	b.signIn(dan)
	b.click(`a[href="/inbox"]`)
	b.says("A look at the orders of last week")
	b.picture("inbox")
	b.fill(`input[name="reason"]`, "fine")
	b.click(`button[value="approve"]`)
	b.says("Nothing waits for you")
	b.picture("inbox-empty")
	s.wait(id, access.StateActive, 20*time.Second)

	b.signIn(ana)
	b.says("left, until")
	b.picture("my-access")
	b.click(`form[action$="/credentials"] button`)
	b.says("This is shown only once")
	username, password, err := b.login()
	if err != nil {
		t.Fatal(err)
	}
	*s.secrets = append(*s.secrets, password)
	if strings.Contains(must[string](b, `location.href`), password) {
		t.Error("the password is in the address")
	}
	b.picture("credential")
	b.click(`button[data-copy="line-password"]`)
	b.says("Copied")
	login := access.Credential{Username: username, Password: password}
	conn, err := s.login(login)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := conn.QueryRow(t.Context(), `select count(*) from public.orders`).Scan(&n); err != nil || n == 0 {
		t.Fatalf("reading: %d, %v", n, err)
	}

	// It is gone from the page before, and not shown again.
	b.click(`a[href="/requests/` + id + `"]`)
	b.says("Show the login")
	must[bool](b, `history.back(), true`)
	b.until(`!document.body.innerText.includes("Show the login")`)
	if _, again, err := b.login(); err == nil {
		t.Errorf("going back shows %q", again)
	}
	b.open("/requests/" + id)
	b.click(`form[action$="/credentials"] button.main`)
	b.says("was fetched already")
	b.picture("request-active")

	b.fill("#by", "2m")
	b.click(`form[action$="/extension"] button`)
	b.says("Extended.")
	b.fill("#by", "20m")
	b.click(`form[action$="/extension"] button`)
	b.says("lets this access last until")
	b.click(`form[action$="/release"] button`)
	s.wait(id, access.StateEnded, 10*time.Second)
	b.says("Ask again")
	b.picture("request-ended")
	if _, err := s.login(login); err == nil {
		t.Error("the login works after it was given back")
	}
}

// keyboard is the main job with Tab, Enter and letters only.
func keyboard(t *testing.T, s *system) {
	b := s.browser()
	signIn := func(as string) {
		b.tabTo(`button[value="` + as + `"]`)
		b.press("\r")
		b.says("My access")
		b.until(`location.pathname == "/"`)
	}
	leave := func() {
		b.tabTo(`form[action="/sign-out"] button`)
		b.press("\r")
		b.says("Choose who you are")
	}
	b.open("/")
	signIn(ana)
	b.tabTo(`a[href="#main"]`)
	b.press("\r") // past the menu
	b.tabTo(`a[href="/request"]`)
	b.press("\r")
	b.says("Who decides")
	b.tabTo("#q")
	b.press("reporting\r")
	b.until(found("reporting"))
	b.tabTo(add("schema:shop/reporting", "read_write"))
	b.press("\r")
	b.says("read_write chosen")
	b.tabTo("#reason")
	b.press("without a mouse")
	b.tabTo(`button[value="send"]`)
	b.press("\r")
	id := b.requested()
	leave()
	signIn(dan)
	b.tabTo(`a[href="/inbox"]`)
	b.press("\r")
	b.says("without a mouse")
	b.tabTo(`input[name="reason"]`)
	b.press("go on")
	b.tabTo(`button[value="approve"]`)
	b.press("\r")
	b.says("The request of " + ana)
	if r := s.wait(id, access.StateActive, 20*time.Second); r.Decisions[0].Reason != "go on" {
		t.Errorf("decisions: %+v", r.Decisions)
	}
	leave()
	signIn(ana)
	b.tabTo(`a[href="/requests/` + id + `"]`)
	b.press("\r")
	b.says("Give back now")
	b.tabTo(`form[action$="/release"] button`)
	b.press("\r")
	s.wait(id, access.StateEnded, 10*time.Second)
	b.says("Ask again")
}

// sadPages are the pages of what did not go well.
func sadPages(t *testing.T, s *system) {
	denied := s.ask(ana, "read_write", "5m")
	s.must(dan, "deny", denied.ID, "--reason", "not today: the report runs")
	s.wait(denied.ID, access.StateDenied, 10*time.Second)
	b := s.browser()
	b.signIn(ana)
	b.open("/requests/" + denied.ID)
	b.says("not today")
	b.picture("request-denied")

	// What was asked for is gone when it is approved.
	s.adminExec(`create schema doomed authorization shop_owner`)
	s.must(dan, "discover", "prod-pg")
	failed := s.parse(s.must(ana, "request", "--want", "prod-pg/schema:shop/public=read_only", "--want", "prod-pg/schema:shop/doomed=read_only", "--for", "5m", "--reason", "two at once"))
	s.adminExec(`drop schema doomed`)
	s.must(dan, "approve", failed.ID)
	s.wait(failed.ID, access.StateFailed, 30*time.Second)
	b.open("/requests/" + failed.ID)
	b.until(`document.querySelectorAll("#live .state-failed").length == 3 && document.querySelectorAll("#live .fault").length == 2`)
	b.picture("request-failed")

	// The database does not answer when it should end.
	r := s.parse(s.must(ana, "request", "--want", "prod-pg/schema:shop/public=read_only", "--want", "prod-pg/schema:shop/reporting=read_write", "--for", "12s", "--reason", "two at once"))
	s.must(dan, "approve", r.ID)
	s.wait(r.ID, access.StateActive, 30*time.Second)
	b.open("/requests/" + r.ID)
	b.until(`document.querySelectorAll("#live .state-active").length == 3`)
	b.picture("request-of-two")
	s.proxy.Mute()
	s.until(40*time.Second, func() error {
		r := s.show(r.ID)
		if r.State != access.StateOverdue {
			return errNotYet(r.State)
		}
		return nil
	})
	b.open("/")
	b.says("past its end")
	b.picture("my-access-overdue")
	b.signIn("root@example.com")
	b.open("/all?show=overdue")
	b.says("late")
	b.picture("all-overdue")
	b.open("/all")
	b.says(ana)
	b.picture("all-open")
	s.proxy.Heal()
	s.wait(r.ID, access.StateEnded, 60*time.Second)
	b.open("/all?show=requests")
	b.says("denied")
	b.picture("all-requests")
	b.open("/all")
	b.says("Nobody has access to anything right now")
	b.picture("all-empty")
	b.open("/nowhere")
	b.says("There is nothing at this address")
	b.picture("nothing")
	b.signIn(sue)
	b.open("/request")
	b.says("No access flow lets you ask for anything")
	b.picture("request-nothing")
	b.open("/all")
	b.says("Only an administrator may do this")
	s.gone(60 * time.Second)
}

// errNotYet says what is there instead.
type errNotYet access.State

func (e errNotYet) Error() string { return "it is " + string(e) }

// temporalPages are Temporal's Web UI, for administrators only, with payloads
// that can be read.
func temporalPages(t *testing.T, s *system) {
	r := s.granted(ana, "read_only", "2m")
	b := s.browser()
	b.signIn("root@example.com")
	b.open("/requests/" + r.ID)
	b.click(`aside a[href^="/temporal/"]`)
	b.says("request/" + r.ID)
	b.says(`"request_id"`) // decoded
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	b.keep("temporal.png", png)
	b.signIn(ana)
	b.open("/temporal/")
	b.says("Only an administrator may do this")
	s.must(ana, "release", r.ID)
	s.wait(r.ID, access.StateEnded, 10*time.Second)
	s.gone(30 * time.Second)
}
