package portal

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
)

// UIPath is the path below which administrators find Temporal's Web UI.
const UIPath = "/temporal"

// CodecPath is the path of the codec endpoint, for the Web UI.
const CodecPath = "/codec"

// codecPath is the one operation that the codec endpoint has.
const codecPath = CodecPath + "/decode"

// maxIndex bounds the one page of the Web UI.
const maxIndex = 1 << 20

// uiHandler serves Temporal's Web UI to administrators; nil without one.
func (p *Portal) uiHandler() (http.Handler, error) {
	if p.opts.UI == "" {
		return nil, nil
	}
	target, err := url.Parse(p.opts.UI)
	if err != nil || target.Scheme == "" || target.Host == "" || strings.Trim(target.Path, "/") != "" {
		return nil, fmt.Errorf("address of Temporal's Web UI %q: want an origin, for example http://127.0.0.1:8233", p.opts.UI)
	}
	target.Path = ""
	proxy := &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { forward(r, target) },
		ModifyResponse: confine,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			p.opts.Log.Error("Temporal's Web UI", "error", err)
			secure(w.Header())
			p.refuse(w, r, problem(http.StatusBadGateway, "is it running, with the public path "+UIPath+"?", "Temporal's Web UI does not answer"))
		},
	}
	return p.withCaller(func(w http.ResponseWriter, r *http.Request, c *caller) {
		if err := c.mustAdminister(); err != nil {
			p.refuseTo(w, r, c, err)
			return
		}
		clear(w.Header()) // confine sets others
		proxy.ServeHTTP(w, r)
	}), nil
}

// forward sends a call on without anything by which its sender could be
// impersonated.
func forward(r *httputil.ProxyRequest, target *url.URL) {
	r.SetURL(target)
	for _, name := range []string{"Cookie", "Authorization", "Lapse-As", "Accept-Encoding"} {
		r.Out.Header.Del(name)
	}
	if c, err := r.In.Cookie("_csrf"); err == nil { // the Web UI's own
		r.Out.AddCookie(c)
	}
}

var inlineScript = regexp.MustCompile(`(?s)<script>(.*?)</script>`)

// confine lets the Web UI run nothing but its own scripts, on an origin that it
// shares with the pages.
func confine(res *http.Response) error {
	secure(res.Header)
	if strings.Contains(res.Request.URL.Path, "/_app/immutable/") && res.StatusCode == http.StatusOK {
		res.Header.Set("Cache-Control", immutable)
	}
	scripts := "script-src 'self'"
	if strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") {
		body, err := io.ReadAll(io.LimitReader(res.Body, maxIndex))
		res.Body.Close()
		if err != nil {
			return err
		}
		for _, script := range inlineScript.FindAllSubmatch(body, -1) {
			sum := sha256.Sum256(script[1])
			scripts += " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
		}
		res.Body = io.NopCloser(bytes.NewReader(body))
		res.Header.Del("Content-Length")
		res.ContentLength = int64(len(body))
	}
	res.Header.Set("Content-Security-Policy", "default-src 'self'; "+scripts+"; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; manifest-src 'self' data:; "+
		"worker-src 'self' blob:; object-src 'none'; form-action 'none'; base-uri 'none'; frame-ancestors 'self'")
	res.Header.Set("X-Frame-Options", "SAMEORIGIN") // it shows text in a frame of its own
	return nil
}
