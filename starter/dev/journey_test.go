package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations/github/githubtest"
	"github.com/lapse-access/lapse/portal/api"
)

// gitHub is an organization, and what of it ana asks for.
type gitHub struct {
	*target
	*githubtest.Hub
	ana  *githubtest.User
	site *githubtest.Repository
}

const invitations = "https://github.com/acme/site/invitations"

// startGitHub starts an organization with a repository, to which people from
// outside are invited. GitHub knows ana by her address.
func startGitHub(t *testing.T, name string) *gitHub {
	t.Helper()
	h := githubtest.StartTLS(t)
	g := &gitHub{Hub: h, ana: h.AddUser("ana-of-the-shop", ""), site: h.AddRepository("site")}
	g.ana.Public = ana
	g.target = newTarget(t, target{name: name, kind: "github", want: "repository:site=write",
		config: "organization: acme, api_url: \"https://ADDRESS\", allow_outside_collaborators: true, resource_types: [repository]"}, h.Listener.Addr().String(), "")
	g.config += fmt.Sprintf(", ca_certificate: %q", h.CA())
	if err := os.WriteFile(g.file, fmt.Appendf(nil, `{"token": %q}`, githubtest.Token), 0o600); err != nil {
		t.Fatal(err)
	}
	return g
}

// level is ana's own on the repository.
func (g *gitHub) level() (level string) {
	g.Locked(func() { level = g.site.Direct[g.ana.ID] })
	return level
}

// TestGitHub has a PostgreSQL, a RabbitMQ and a GitHub.
func TestGitHub(t *testing.T) {
	var rabbit *target
	var hub *gitHub
	endToEnd(t, []part{
		{"three systems in one request, in the pages", func(t *testing.T, s *system) { bundleInPages(t, s, rabbit, hub) }},
		{"a discovery of 3,000 repositories is killed", func(t *testing.T, s *system) { discoveryKilled(t, s, hub) }},
	}, func(yaml string, _ []byte) string {
		rabbit, hub = startRabbitMQ(t, "prod-rabbit"), startGitHub(t, "prod-gh")
		return hub.in(rabbit.in(yaml))
	})
}

// bundleInPages is request, approval, invitation, credentials, real logins, giving
// back, and nothing left, with a browser.
func bundleInPages(t *testing.T, s *system, rabbit *target, hub *gitHub) {
	chromium(t)
	*s.secrets = append(*s.secrets, githubtest.Token, canary)
	for _, x := range []*target{rabbit, hub.target} {
		s.must(dan, "discover", x.name)
	}
	b := s.browser()
	b.signIn(ana)
	b.open("/request")
	for _, want := range []struct{ integration, resource, permission string }{
		{"prod-pg", "schema:shop/public", "read_only"}, {rabbit.name, "vhost:shop", "read"}, {hub.name, "repository:site", "write"},
	} {
		must[bool](b, fmt.Sprintf(`(e => { e.value = %s; e.dispatchEvent(new Event("change", {bubbles: true})); return true; })(document.getElementById("integration"))`, quoted(want.integration)))
		b.fill("#q", want.resource[strings.LastIndexAny(want.resource, ":/")+1:])
		b.until(`document.querySelector("#results")?.innerText.includes(` + quoted(want.resource) + `)`)
		b.click(add(want.resource, want.permission))
		b.says(want.permission + " chosen")
	}
	b.fill("#for", "9m")
	b.fill("#reason", "The shop stands still")
	b.picture("bundle")
	b.click(`button[value="send"]`)
	id := b.requested()

	b.signIn(dan)
	b.open("/inbox")
	b.says("The shop stands still")
	b.click(`button[value="approve"]`)
	b.says("Nothing waits for you")
	s.holds(t, id, map[string]access.State{"prod-pg": access.StateActive, rabbit.name: access.StateActive, hub.name: access.StatePending})
	if level := hub.level(); level != "" {
		t.Errorf("she has %s before she took the invitation", level)
	}

	b.signIn(ana)
	b.open("/requests/" + id)
	b.says("accepts the invitation to repository site")
	b.picture("request-awaits")
	if to := must[string](b, `document.querySelector(".note.wait a").href`); to != invitations {
		t.Errorf("the link leads to %q", to)
	}
	accepted := time.Now()
	hub.Locked(func() { hub.Accept(hub.ana, invitations) })

	logins := map[string]access.Credential{}
	for _, name := range []string{"prod-pg", rabbit.name} {
		b.open("/requests/" + id)
		b.click(`form[action$="/credentials"]:has(input[value="` + name + `"]) button.main`)
		b.says("This is shown only once")
		username, password, err := b.login()
		if err != nil {
			t.Fatal(err)
		}
		*s.secrets = append(*s.secrets, password)
		logins[name] = access.Credential{Username: username, Password: password}
	}
	works := map[string]func() error{
		"prod-pg": func() error {
			conn, err := s.login(logins["prod-pg"])
			if err != nil {
				return err
			}
			var n int
			return conn.QueryRow(t.Context(), `select count(*) from public.orders`).Scan(&n)
		},
		rabbit.name: func() error { return rabbit.connects(logins[rabbit.name].Username, logins[rabbit.name].Password) },
		hub.name: func() error {
			if hub.level() != "write" {
				return errors.New("she has no write")
			}
			return nil
		},
	}
	for name, work := range works {
		if err := work(); err != nil {
			t.Errorf("on %s: %v", name, err)
		}
	}

	b.open("/requests/" + id)
	s.until(2*time.Minute, func() error { // it is looked at again and again, with pauses that grow
		if state, why := s.show(id).hold(t, hub.name); state != access.StateActive {
			return fmt.Errorf("%s is %s: %s", hub.name, state, why)
		}
		return nil
	})
	b.until(`document.querySelectorAll("#live li .state-active").length == 3`) // by itself
	b.picture("request-of-three")
	for _, h := range s.show(id).Holds {
		if h.Integration == hub.name && (h.StartsAt.Before(accepted) || h.EndsAt.Sub(h.StartsAt).Round(time.Second) != 9*time.Minute) {
			t.Errorf("accepted at %s, and it counts from %s to %s", accepted, h.StartsAt, h.EndsAt)
		}
	}
	b.click(`form[action$="/release"] button`)
	s.wait(id, access.StateEnded, time.Minute)
	b.says("Ask again")
	for name, work := range works {
		if work() == nil {
			t.Errorf("it still works on %s", name)
		}
	}
	if level := hub.level(); level != "" {
		t.Errorf("she has %s still", level)
	}
	s.gone(time.Minute)
	s.until(time.Minute, func() error { return rabbit.lacks(t, logins[rabbit.name].Username) })
}

// lacks is an error as long as a RabbitMQ has a user.
func (x *target) lacks(t *testing.T, user string) error {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+x.proxy.Address()+"/api/users/"+user, nil)
	if err != nil {
		return err
	}
	req.SetBasicAuth("lapse", canary)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusNotFound {
		return fmt.Errorf("the user %s: %s", user, res.Status)
	}
	return nil
}

// discoveryKilled kills Lapse in the middle of a discovery. After the start it goes
// on with the page that was missing.
func discoveryKilled(t *testing.T, s *system, hub *gitHub) {
	const repositories, before = 3000, 10 // pages before the kill
	hub.Locked(func() {
		for n := range repositories {
			hub.AddRepository(fmt.Sprintf("service-%04d", n))
		}
		hub.RateLimits, hub.Pages, hub.Reads = true, nil, 0
		hub.Lost = func(*http.Request) bool { return len(hub.Pages) > before }
	})
	errs, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer errs.Close()
	discover := s.command(dan, "discover", hub.name)
	discover.Stderr = errs
	if err := discover.Start(); err != nil {
		t.Fatal(err)
	}
	s.until(time.Minute, func() error {
		if d := s.discovery(hub.name); !d.Running || d.Resources < 100*before {
			return fmt.Errorf("the discovery is at %+v", d)
		}
		said, err := os.ReadFile(errs.Name())
		if !bytes.Contains(said, []byte("resources so far")) {
			err = errors.Join(err, fmt.Errorf("lapse discover says %q", said))
		}
		return err
	})
	s.kill()
	if err := discover.Wait(); err == nil {
		t.Error("lapse discover says that all is well")
	}
	var had []string
	hub.Locked(func() { had, hub.Pages, hub.Lost = hub.Pages[:before], nil, nil })
	s.start()
	s.until(2*time.Minute, func() error {
		if d := s.discovery(hub.name); d.Running {
			return fmt.Errorf("the discovery is at %+v", d)
		}
		return nil
	})
	var all api.Resources
	if err := json.Unmarshal([]byte(s.must(dan, "resources", hub.name)), &all); err != nil {
		t.Fatal(err)
	}
	if len(all.Resources) != repositories+1 {
		t.Errorf("%d repositories in the catalog, want %d", len(all.Resources), repositories+1)
	}
	hub.Locked(func() {
		for _, page := range hub.Pages {
			if slices.Contains(had, page) {
				t.Errorf("the page after %q was asked for again", page)
			}
		}
		if whole := repositories/100 + 1; len(hub.Pages) > whole-before+2 {
			t.Errorf("%d pages were asked for after the kill, of %d of which %d had come", len(hub.Pages), whole, before)
		}
		if hub.Refused > 0 || hub.Reads > 60 {
			t.Errorf("%d requests, of which %d were over the limits", hub.Reads, hub.Refused)
		}
		t.Logf("%d pages after the kill, %d requests in all", len(hub.Pages), hub.Reads)
	})
}

// discovery says how far one is, as the API does.
func (s *system) discovery(integration string) (d api.Discovery) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.setting("LAPSE_PORTAL")+api.Prefix+"/integrations/"+integration+"/discovery", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set(api.HeaderAs, dan)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&d); err != nil || res.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %v", res.Status, err)
	}
	return d
}
