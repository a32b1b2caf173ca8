// Package portal serves people: the pages, the REST API behind the command
// line, described in OpenAPI at /api/v1/openapi.json, and for administrators
// Temporal's Web UI with the codec endpoint by which it shows payloads. The
// JSON is package api. The pages call the functions that the API is made of, so
// that both decide alike; they work without a script.
//
// The portal decides nothing alone. It judges who may do what by the rules of
// package access, signs what people decide, and tells it to the workflows,
// where everything is judged again before it opens any access.
package portal

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"go.temporal.io/sdk/client"

	"github.com/lapse-access/lapse/activities"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/keys"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/portal/api"
)

// Options are what a portal works with.
type Options struct {
	Store *store.Store
	// Keys sign decisions, open credentials and decode payloads.
	Keys *keys.Ring
	// Temporal may be a lazy client: without Temporal the portal still shows
	// what the store knows.
	Temporal client.Client
	Kinds    integrations.Registry
	// Dev is sign-in by naming oneself, for one machine and no secrets.
	Dev bool
	// Published says that the port is reached under a loopback name only, as
	// that of a container which is published on 127.0.0.1. Dev then listens on
	// other addresses too.
	Published bool
	// Token, where it is set, must come with every call.
	Token string
	// UI is the origin of Temporal's Web UI, for example http://127.0.0.1:8233,
	// which is served to administrators below UIPath. It must have that path as
	// its public path. Empty: there is none.
	UI string
	// Namespace is Temporal's, for links into the Web UI.
	Namespace string
	Log       *slog.Logger
	// OnApply brings Temporal in line with a configuration that was applied.
	OnApply func(ctx context.Context) error
	// AcceptRestore ends the time after a restore in which nothing is repaired.
	AcceptRestore func(ctx context.Context) error
}

// Portal is the handler of everything that the portal serves.
type Portal struct {
	opts    Options
	control *activities.Control
	handler http.Handler
	// patterns are those of every route, for a test that tries them all.
	patterns []string
	pages    map[string]*template.Template
	cookies  [32]byte // signs the cookies of this process
}

// New makes a portal.
func New(o Options) (*Portal, error) {
	p := &Portal{opts: o, control: &activities.Control{Store: o.Store, Temporal: o.Temporal, Kinds: o.Kinds, PortalKey: o.Keys.PortalKey.Public().(ed25519.PublicKey), Log: o.Log}}
	rand.Read(p.cookies[:]) // never fails: see crypto/rand
	ui, err := p.uiHandler()
	if err != nil {
		return nil, err
	}
	if p.pages, err = p.parsePages(); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	handle := func(pattern string, h http.Handler) {
		mux.Handle(pattern, h)
		p.patterns = append(p.patterns, pattern)
	}
	handle(api.Prefix+"/", p.apiHandler())
	handle("POST "+codecPath, http.StripPrefix(CodecPath, p.codecHandler()))
	if ui != nil {
		handle(UIPath+"/", ui)
	}
	for _, r := range p.routes() {
		handle(r.pattern, r.handler)
	}
	handle("/", http.HandlerFunc(p.nothing))
	if o.Dev {
		o.Log.Warn("SIGN-IN IS THE DEV IDENTITY: everybody on this machine is whom they say they are. Keep real secrets out of it.")
	}
	origin := http.NewCrossOriginProtection()
	origin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.refuse(w, r, problem(http.StatusForbidden, "", "another site may not use the portal from a browser"))
	}))
	p.handler = p.guard(origin.Handler(mux))
	return p, nil
}

// ServeHTTP serves everything.
func (p *Portal) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.handler.ServeHTTP(w, r) }

// headers are those of every answer. Nothing runs or looks in a page but what
// the portal serves itself, and no other site shows it in a frame.
var headers = map[string]string{
	"Cache-Control": "no-store",
	"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; " +
		"base-uri 'none'; frame-ancestors 'none'",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Referrer-Policy":              "same-origin", // none at all would take the origin from forms too
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
}

func secure(h http.Header) {
	for name, value := range headers {
		h.Set(name, value)
	}
}

// guard sets the headers of every answer, and refuses a host name that is not
// this machine's while anybody may name themselves: a page that got its own
// name resolved to us could otherwise read the answers.
func (p *Portal) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secure(w.Header())
		if p.opts.Dev && !loopback(r.Host) {
			writeProblem(w, problem(http.StatusMisdirectedRequest, "use http://127.0.0.1 or http://localhost",
				"the dev identity answers under a loopback name only"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// loopback reports whether a host, with or without a port, is this machine.
func loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	if len(host) > 2 && host[0] == '[' {
		host = host[1 : len(host)-1]
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// apiHandler is the REST API. It does not read the session of a browser, and a
// browser cannot reach it from another site: the header that names the caller
// needs a permission that is never given.
func (p *Portal) apiHandler() http.Handler {
	config := huma.DefaultConfig("Lapse", "v1")
	config.Info.Description = "Just-in-time access. Every operation but the health needs a caller: " +
		"in dev the header " + api.HeaderAs + " with an e-mail address of the directory, and the bearer token where one is set."
	config.OpenAPIPath = api.Prefix + "/openapi"
	config.DocsPath, config.SchemasPath, config.CreateHooks = "", "", nil
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"dev":   {Type: "apiKey", In: "header", Name: api.HeaderAs},
		"token": {Type: "http", Scheme: "bearer"},
	}
	config.Security = []map[string][]string{{"dev": {}}, {"dev": {}, "token": {}}}
	mux := http.NewServeMux()
	root := humago.New(mux, config)
	p.registerHealth(root)
	known := huma.NewGroup(root, api.Prefix)
	known.UseMiddleware(p.signIn)
	p.registerRequests(known)
	p.registerIntegrations(known)
	p.registerRemoval(known)
	p.registerConfig(known)
	p.registerChanges(known)
	p.registerAudit(known)
	p.registerRestore(known)
	p.registerNotices(known)

	return mux
}

// register adds an operation for a known caller.
func register[I, O any](p *Portal, to huma.API, op huma.Operation, do func(context.Context, *caller, *I) (O, error)) {
	type output struct{ Body O }
	huma.Register(to, op, func(ctx context.Context, in *I) (*output, error) {
		who, err := p.caller(ctx, signedIn(ctx), "api")
		if err != nil {
			return nil, p.fail(op, err)
		}
		out, err := do(ctx, who, in)
		if err != nil {
			return nil, p.fail(op, err)
		}
		return &output{out}, nil
	})
}

// Limits of the server. The longest answer is that of a check or a discovery.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second
	writeTimeout      = 3 * time.Minute
	idleTimeout       = 2 * time.Minute
	stopTimeout       = 5 * time.Second
	maxHeader         = 64 << 10
)

// Listen serves a portal on an address until stop is called. While sign-in is
// the dev identity it must be a loopback address.
func Listen(addr string, p *Portal) (stop func(), err error) {
	if p.opts.Dev && !p.opts.Published && !loopback(addr) {
		return nil, fmt.Errorf("portal %s: sign-in is the dev identity, so it listens on loopback only: use 127.0.0.1:8080 or another port there "+
			"(--published is for a container whose port is published on 127.0.0.1)", addr)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("portal: %w (LAPSE_PORTAL chooses another address)", err)
	}
	return serve(l, p, p.opts.Log), nil
}
