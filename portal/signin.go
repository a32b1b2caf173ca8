package portal

import (
	"net/http"
	"strings"

	"github.com/lapse-access/lapse/access"
)

// maxPicked is how many people the sign-in offers; others type their address.
const maxPicked = 30

type signIn struct {
	Dev, Token, Many bool
	Next             string
	People           []access.Person
	Form             *form
}

// signInPage is sign-in with the dev identity: choosing who one is.
func (p *Portal) signInPage(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		p.refuse(w, r, problem(http.StatusBadRequest, "", "the form could not be read"))
		return
	}
	var failed error
	if r.Method == http.MethodPost {
		who, err := p.chosen(r)
		if err == nil {
			p.signInAs(w, r, who)
			http.Redirect(w, r, local(r.PostForm.Get("next")), http.StatusSeeOther)
			return
		}
		failed = err
	}
	data := signIn{Dev: p.opts.Dev, Token: p.opts.Token != "", Next: local(r.Form.Get("next")), Form: p.failure(r, failed)}
	if p.opts.Dev {
		people, err := p.opts.Store.People(r.Context())
		if err != nil {
			p.refuse(w, r, err)
			return
		}
		for _, who := range people {
			if !who.Disabled && len(data.People) < maxPicked {
				data.People = append(data.People, who)
			}
		}
		data.Many = len(people) > maxPicked
	}
	p.render(w, r, nil, view{template: "sign-in", title: "Sign in", data: data, status: data.Form.status})
}

// chosen is the person whom the form names.
func (p *Portal) chosen(r *http.Request) (who access.Person, err error) {
	if !p.tokenFits(r.PostForm.Get("token")) {
		return who, wrongToken
	}
	as := r.PostForm.Get("as")
	if as == "" {
		return who, problem(http.StatusUnprocessableEntity, "", "choose who you are")
	}
	who, err = p.person(r.Context(), as)
	if err == nil && who.ID == "" {
		err = problem(http.StatusConflict, "", "there is no configuration yet")
	}
	return who, err
}

func (p *Portal) signOut(w http.ResponseWriter, r *http.Request) {
	p.setCookie(w, r, sessionCookie, "")
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
}

// local is a path of this portal; the first page for anything else.
func local(next string) string {
	if !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}
