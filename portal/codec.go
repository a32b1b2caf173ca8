package portal

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/codec"
	"github.com/lapse-access/lapse/portal/api"
)

// codecHandler decodes payloads for administrators: in Temporal's Web UI, by
// the cookie of the dev identity, and with the temporal command, by the header.
// Only pages of the Web UI may use it from a browser.
func (p *Portal) codecHandler() (http.Handler, error) {
	origins, err := origins(p.opts.UI)
	if err != nil {
		return nil, err
	}
	decode := codec.Handler(p.opts.Keys.Codec)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if origin := r.Header.Get("Origin"); origin != "" {
			if !slices.Contains(origins, origin) {
				writeProblem(w, problem(http.StatusForbidden, "start the portal with the address of Temporal's Web UI (LAPSE_TEMPORAL_UI)",
					"pages of this origin may not have payloads decoded"))
				return
			}
			h := w.Header()
			h.Set("Access-Control-Allow-Origin", origin)
			h.Set("Access-Control-Allow-Credentials", "true")
			h.Set("Vary", "Origin")
			if r.Method == http.MethodOptions {
				h.Set("Access-Control-Allow-Methods", http.MethodPost)
				h.Set("Access-Control-Allow-Headers", "Content-Type, X-Namespace, Authorization")
				w.WriteHeader(http.StatusNoContent)
				return
			}
		}
		if err := p.mayDecode(r); err != nil {
			writeProblem(w, p.fail(huma.Operation{OperationID: "decode"}, err))
			return
		}
		decode.ServeHTTP(w, r)
	}), nil
}

// origins are those of the Web UI: under its own name, and under the other
// loopback name where it has one.
func origins(ui string) ([]string, error) {
	if ui == "" {
		return nil, nil
	}
	u, err := url.Parse(ui)
	if err != nil || u.Scheme == "" || u.Host == "" {
		return nil, fmt.Errorf("address of Temporal's Web UI %q: want an origin, for example http://127.0.0.1:8233", ui)
	}
	list := []string{u.Scheme + "://" + u.Host}
	if loopback(u.Host) {
		for _, name := range []string{"localhost", "127.0.0.1"} {
			host := name
			if port := u.Port(); port != "" {
				host += ":" + port
			}
			list = append(list, u.Scheme+"://"+host)
		}
	}
	return list, nil
}

// mayDecode lets administrators through, and puts on record once an hour that
// somebody reads payloads.
func (p *Portal) mayDecode(r *http.Request) error {
	ctx := r.Context()
	who, err := p.codecReader(r)
	if err != nil {
		return err
	}
	c, err := p.caller(ctx, who)
	if err != nil {
		return err
	}
	if err := c.mustAdminister(); err != nil {
		return err
	}
	return p.opts.Store.Append(ctx, access.Event{
		Key: fmt.Sprintf("codec/%s/%s", who.ID, c.now.UTC().Format("2006-01-02T15")), Kind: "codec.read", At: c.now.UTC(), Actor: who.ID,
		Text: fmt.Sprintf("%s reads payloads of workflows", who.Email),
	})
}

func (p *Portal) codecReader(r *http.Request) (access.Person, error) {
	if r.Header.Get(api.HeaderAs) != "" {
		return p.identify(r)
	}
	email := p.cookieIdentity(r)
	if email == "" && p.opts.Dev {
		return access.Person{}, problem(http.StatusUnauthorized, "open http://"+r.Host+"/dev/sign-in?as=<e-mail address> in this browser",
			"only administrators may have payloads decoded, and nobody is signed in")
	}
	return p.person(r.Context(), email)
}
