package portal

import (
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/codec"
	"github.com/lapse-access/lapse/portal/api"
)

// codecHandler decodes payloads for administrators: in Temporal's Web UI, by
// their session, and with the temporal command, by the headers of the API.
func (p *Portal) codecHandler() http.Handler {
	decode := codec.Handler(p.opts.Keys.Codec)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := p.mayDecode(r); err != nil {
			writeProblem(w, p.fail(huma.Operation{OperationID: "decode"}, err))
			return
		}
		decode.ServeHTTP(w, r)
	})
}

// mayDecode lets administrators through, and puts on record once an hour that
// somebody reads payloads.
func (p *Portal) mayDecode(r *http.Request) error {
	ctx := r.Context()
	who, err := p.codecReader(r)
	if err != nil {
		return err
	}
	c, err := p.caller(ctx, who, "api")
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
	return p.session(r)
}
