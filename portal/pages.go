package portal

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/portal/api"
)

//go:embed templates static
var files embed.FS

// route is one address of the pages.
type route struct {
	pattern string
	handler http.Handler
}

// routes are all addresses of the pages.
func (p *Portal) routes() []route {
	return []route{
		{"GET /{$}", p.page(p.withTold(p.homePage))},
		{"GET /request", p.page(p.newPage)},
		{"POST /request", p.page(p.newPage)},
		{"GET /inbox", p.page(p.withTold(p.inboxPage))},
		{"POST /notices/seen", p.page(p.seenPage)},
		{"GET /all", p.page(p.allPage)},
		{"GET /sweep", p.page(p.sweepsPage)},
		{"GET /sweep/{name}", p.page(p.sweepPage)},
		{"POST /sweep/{name}", p.page(p.sweepNowPage)},
		{"GET /remove/{name}", p.page(p.removalPage)},
		{"POST /remove/{name}", p.page(p.removePage)},
		{"GET /changes", p.page(p.changesPage)},
		{"GET /changes/{id}", p.page(p.changePage)},
		{"POST /changes/{id}", p.page(p.decideChangePage)},
		{"GET /restore", p.page(p.restorePage)},
		{"POST /restore", p.page(p.restoreNowPage)},
		{"GET /requests/{id}", p.page(p.requestPage)},
		{"POST /requests/{id}/decisions", p.page(p.decidePage)},
		{"POST /requests/{id}/extension", p.page(p.extendPage)},
		{"POST /requests/{id}/release", p.page(p.releasePage)},
		{"POST /requests/{id}/revoke", p.page(p.revokePage)},
		{"POST /requests/{id}/credentials", p.page(p.credentialPage)},
		{"GET /sign-in", http.HandlerFunc(p.signInPage)},
		{"POST /sign-in", http.HandlerFunc(p.signInPage)},
		{"POST /sign-out", http.HandlerFunc(p.signOut)},
		{"GET /static/{hash}/{file}", http.HandlerFunc(p.asset)},
	}
}

// view is what a page answers with: a template with its data, or a place to go
// on to after something was done.
type view struct {
	template string
	title    string
	data     any
	status   int  // 200 when 0
	changing bool // what it shows goes on by itself
	told     *toldView

	to   string
	note string // what to say there
}

// layout is what every template gets.
type layout struct {
	Title    string
	Who      *access.Person // nil when nobody is signed in
	Nav      []tab
	Note     string
	Dev      bool
	Narrow   bool
	Changing bool
	Told     *toldView
	Data     any
}

// tab leads to a page, or is the one that is shown.
type tab struct {
	Path, Text string
	Here       bool
}

// withCaller lets those through who are signed in, and others to the sign-in.
func (p *Portal) withCaller(next func(http.ResponseWriter, *http.Request, *caller)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := p.session(r)
		if err != nil {
			failed := p.fail(operation(r), err)
			if failed.Status == http.StatusUnauthorized && p.opts.Dev && r.Method == http.MethodGet {
				http.Redirect(w, r, "/sign-in?"+url.Values{"next": {r.URL.RequestURI()}}.Encode(), http.StatusSeeOther)
				return
			}
			p.refuse(w, r, failed)
			return
		}
		c, err := p.caller(r.Context(), who, "portal")
		if err != nil {
			p.refuse(w, r, err)
			return
		}
		next(w, r, c)
	})
}

func operation(r *http.Request) huma.Operation { return huma.Operation{OperationID: r.Pattern} }

// maxForm bounds what a form sends.
const maxForm = 1 << 20

// page makes a handler of a page for somebody who is signed in.
func (p *Portal) page(do func(*http.Request, *caller) (view, error)) http.Handler {
	return p.withCaller(func(w http.ResponseWriter, r *http.Request, c *caller) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil {
			p.refuse(w, r, problem(http.StatusBadRequest, "", "the form could not be read"))
			return
		}
		v, err := do(r, c)
		switch {
		case err != nil:
			p.refuseTo(w, r, c, err)
		case v.to != "":
			p.setCookie(w, r, noteCookie, v.note)
			http.Redirect(w, r, v.to, http.StatusSeeOther)
		default:
			p.render(w, r, c, v)
		}
	})
}

// render writes a page; c is nil when nobody is signed in.
func (p *Portal) render(w http.ResponseWriter, r *http.Request, c *caller, v view) {
	l := layout{Title: v.title, Dev: p.opts.Dev, Data: v.data, Told: v.told, Changing: v.changing, Narrow: c == nil}
	if c != nil {
		l.Who = &c.Person
		l.Nav = []tab{{Path: "/", Text: "My access"}, {Path: "/request", Text: "Request"}, {Path: "/inbox", Text: p.inboxTab(r.Context(), c, v.told)}}
		if c.administrator() {
			l.Nav = append(l.Nav, tab{Path: "/all", Text: "All access"})
			if c.config.TwoPersonChanges {
				l.Nav = append(l.Nav, tab{Path: "/changes", Text: "Changes"})
			}
		}
		if len(c.mine()) > 0 {
			l.Nav = append(l.Nav, tab{Path: "/sweep", Text: "Sweep"})
		}
		for i := range l.Nav {
			l.Nav[i].Here = l.Nav[i].Path == r.URL.Path
		}
	}
	if l.Note = p.cookie(r, noteCookie); l.Note != "" {
		p.setCookie(w, r, noteCookie, "")
	}
	var out strings.Builder
	if err := p.pages[v.template].ExecuteTemplate(&out, "layout", l); err != nil {
		p.opts.Log.Error("internal error", "page", v.template, "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if v.status != 0 {
		w.WriteHeader(v.status)
	}
	fmt.Fprint(w, out.String())
}

// refuse answers with an error: as a page where a browser asks for one.
func (p *Portal) refuse(w http.ResponseWriter, r *http.Request, err error) {
	p.refuseTo(w, r, nil, err)
}

func (p *Portal) refuseTo(w http.ResponseWriter, r *http.Request, c *caller, err error) {
	failed := p.fail(operation(r), err)
	if !strings.Contains(r.Header.Get("Accept"), "text/html") || strings.HasPrefix(r.URL.Path, api.Prefix+"/") {
		writeProblem(w, failed)
		return
	}
	p.render(w, r, c, view{template: "error", title: failed.Title, data: failed, status: failed.Status})
}

// nothing is the answer at an address that does not exist.
func (p *Portal) nothing(w http.ResponseWriter, r *http.Request) {
	p.refuse(w, r, problem(http.StatusNotFound, "the API is described at "+api.Prefix+"/openapi.json", "there is nothing at this address"))
}

const immutable = "private, max-age=31536000, immutable"

// asset serves a file under a path that changes with it.
func (p *Portal) asset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	if assetPath(name) != r.URL.Path {
		p.nothing(w, r)
		return
	}
	w.Header().Set("Cache-Control", immutable)
	http.ServeFileFS(w, r, files, path.Join("static", name))
}

// assetPath is the path of a file; empty when there is no such file.
func assetPath(name string) string {
	content, err := fs.ReadFile(files, path.Join("static", name))
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(content)
	return "/static/" + hex.EncodeToString(sum[:6]) + "/" + name
}

// parsePages reads the templates: each page with the layout.
func (p *Portal) parsePages() (map[string]*template.Template, error) {
	base, err := template.New("").Funcs(p.functions()).ParseFS(files, "templates/layout.html", "templates/told.html")
	if err != nil {
		return nil, err
	}
	pages := map[string]*template.Template{}
	names, err := fs.Glob(files, "templates/*.html")
	for _, name := range names {
		if base := path.Base(name); base == "layout.html" || base == "told.html" {
			continue
		}
		t, err := base.Clone()
		if err == nil {
			t, err = t.ParseFS(files, name)
		}
		if err != nil {
			return nil, err
		}
		pages[strings.TrimSuffix(path.Base(name), ".html")] = t
	}
	return pages, err
}
