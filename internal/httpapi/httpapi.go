// Package httpapi is what the rooms that talk HTTP share: a client that bounds
// every answer, verifies TLS, follows no redirect with a credential, and turns
// what goes wrong into an access.Error without a secret in it.
package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/lapse-access/lapse/access"
)

const (
	dialTimeout   = 10 * time.Second
	headerTimeout = 60 * time.Second
	answerLimit   = 10 << 20
)

// Options say where an API is and how to talk to it.
type Options struct {
	// URL is the base of every request: https://api.example.com/v1.
	URL string
	// CACertificate holds PEM certificates that replace the system's authorities.
	CACertificate string
	// SkipVerify takes any certificate.
	SkipVerify bool
	// Plain allows http to other machines too. To this one it always works.
	Plain bool
	// Authorize adds the credential to a request.
	Authorize func(*http.Request)
	// Failure says what an answer means whose status is not 2xx; nil, or a nil
	// Failure, leaves it to Kind. Its text must not quote the answer, which may
	// repeat a secret of the request.
	Failure func(*Response) *access.Error
	// Told, where it is set, takes every request instead of the API.
	Told *Told
}

// Client talks to one API. It is safe for concurrent use.
type Client struct {
	base    *url.URL
	options Options
	http    *http.Client
}

// New makes a client. It does not connect.
func New(o Options) (*Client, error) {
	base, err := Base(o.URL, o.Plain)
	if err != nil {
		return nil, err
	}
	transport, err := Transport(o.CACertificate, o.SkipVerify)
	if err != nil {
		return nil, err
	}
	var carrier http.RoundTripper = transport
	if o.Told != nil {
		carrier = o.Told
	}
	return &Client{base: base, options: o, http: &http.Client{
		Transport:     carrier,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Base reads the URL of an API, to which a credential will be sent.
func Base(raw string, plain bool) (*url.URL, error) {
	base, err := url.Parse(raw)
	switch {
	case err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http":
		return nil, access.Errorf(access.Invalid, "the URL is not of the form https://HOST/PATH")
	case base.User != nil || base.RawQuery != "" || base.Fragment != "":
		return nil, access.Errorf(access.Invalid, "the URL has more than a host and a path")
	case base.Scheme == "http" && !plain && !loopback(base.Hostname()):
		return nil, access.Errorf(access.Invalid, "the URL would send the credential unencrypted").WithRemedy("use https")
	}
	return base, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Transport connects with TLS and takes no proxy from the environment.
func Transport(caCertificate string, skipVerify bool) (*http.Transport, error) {
	config := &tls.Config{InsecureSkipVerify: skipVerify}
	if caCertificate != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(caCertificate)) {
			return nil, access.Errorf(access.Invalid, "the CA certificate is not PEM")
		}
	}
	return &http.Transport{
		DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: headerTimeout,
		IdleConnTimeout:       45 * time.Second, // some servers close theirs after a minute
		ForceAttemptHTTP2:     true,
	}, nil
}

// Guard is a transport for a vendor's own client, which then keeps to what Do
// keeps to: an answer has a limit, a redirect is an error, and an error is an
// access.Error that names neither the address nor what was sent.
func Guard(transport http.RoundTripper) http.RoundTripper { return guard{transport} }

type guard struct{ http.RoundTripper }

func (g guard) RoundTrip(r *http.Request) (*http.Response, error) {
	got, err := g.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, Unanswered(err)
	}
	if got.StatusCode/100 == 3 {
		got.Body.Close()
		return nil, access.Errorf(Kind(got.StatusCode), "the API answers %d, which leads elsewhere", got.StatusCode)
	}
	got.Body = &bounded{ReadCloser: got.Body, left: answerLimit}
	return got, nil
}

// bounded ends a body with an error where it is too long, or broke.
type bounded struct {
	io.ReadCloser
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left+1)])
	if b.left -= n; b.left < 0 {
		return 0, tooLong()
	}
	if err != nil && err != io.EOF {
		err = Unanswered(err)
	}
	return n, err
}

func tooLong() error {
	return access.Errorf(access.Limit, "the answer is larger than %d MiB", answerLimit>>20)
}

// Response is an answer, read to its end.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// JSON decodes the answer. One that is not JSON comes from something that stands
// before the API, and is a reason to retry.
func (r *Response) JSON(into any) error {
	if json.Unmarshal(r.Body, into) != nil {
		return access.Errorf(access.Retry, "the answer is not what the API describes")
	}
	return nil
}

// Do makes one request, whose path is the base and the segments, and whose body
// is JSON unless in is nil. An answer that is not 2xx is an error and is returned
// beside it.
func (c *Client) Do(ctx context.Context, method string, path []string, query url.Values, in any) (*Response, error) {
	at, err := c.at(path, query)
	if err != nil {
		return nil, err
	}
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return nil, access.Errorf(access.Invalid, "the request cannot be written")
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, at.String(), body)
	if err != nil {
		return nil, access.Errorf(access.Invalid, "the request cannot be written")
	}
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.options.Authorize != nil {
		c.options.Authorize(req)
	}
	got, err := c.http.Do(req)
	if err != nil {
		return nil, Unanswered(err)
	}
	defer got.Body.Close()
	r := &Response{Status: got.StatusCode, Header: got.Header}
	if r.Body, err = io.ReadAll(io.LimitReader(got.Body, answerLimit+1)); err != nil {
		return nil, Unanswered(err)
	}
	if len(r.Body) > answerLimit {
		return nil, tooLong()
	}
	if r.Status/100 == 2 {
		return r, nil
	}
	return r, c.failure(r)
}

// at is the address of a path below the base, each segment escaped whatever it
// holds. Without a segment it is the base with a slash behind.
func (c *Client) at(path []string, query url.Values) (*url.URL, error) {
	at := *c.base
	at.RawQuery = query.Encode()
	plain, raw := strings.TrimSuffix(at.Path, "/"), strings.TrimSuffix(at.EscapedPath(), "/")
	for _, segment := range path {
		if segment == "" || segment == "." || segment == ".." {
			return nil, access.Errorf(access.Invalid, "%q cannot be a part of a path", segment)
		}
		plain, raw = plain+"/"+segment, raw+"/"+url.PathEscape(segment)
	}
	if len(path) == 0 {
		plain, raw = plain+"/", raw+"/"
	}
	at.Path, at.RawPath = plain, raw
	return &at, nil
}

func (c *Client) failure(r *Response) error {
	var err *access.Error
	if c.options.Failure != nil {
		err = c.options.Failure(r)
	}
	if err == nil {
		err = access.Errorf(Kind(r.Status), "the API answers %d", r.Status)
	}
	if err.After == 0 {
		err.After = Wait(r.Header.Get("Retry-After"))
	}
	return err
}

var kinds = map[int]access.ErrorKind{
	http.StatusUnauthorized:    access.Auth,
	http.StatusForbidden:       access.Privilege,
	http.StatusNotFound:        access.ResourceMissing,
	http.StatusConflict:        access.Conflict,
	http.StatusTooManyRequests: access.RateLimited,
	http.StatusRequestTimeout:  access.Retry,
	http.StatusTooEarly:        access.Retry,
}

// Kind is what a status that is not 2xx means where the vendor says nothing else.
func Kind(status int) access.ErrorKind {
	switch status / 100 {
	case 3, 4:
		return cmp.Or(kinds[status], access.Invalid)
	case 5:
		return access.Retry
	}
	return access.Unknown
}

// Wait reads a Retry-After, seconds or a date; 0 is none.
func Wait(header string) time.Duration {
	if seconds, err := strconv.Atoi(header); err == nil {
		return max(0, time.Duration(seconds)*time.Second)
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// Unanswered is the error of a request without an answer. It names neither the
// address nor what was sent.
func Unanswered(err error) error {
	if ours, ok := errors.AsType[*access.Error](err); ok {
		return ours
	}
	_, verification := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case errors.Is(err, context.Canceled):
		return access.Errorf(access.Retry, "stopped before the API answered: %w", context.Canceled)
	case errors.Is(err, context.DeadlineExceeded):
		return access.Errorf(access.Retry, "the API did not answer in time: %w", context.DeadlineExceeded)
	case verification:
		return access.Errorf(access.Invalid, "the certificate of the API does not hold").
			WithRemedy("give the authority's certificate, and the host as the certificate has it")
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return access.Errorf(access.Retry, "the name of the API is not found: %s", dns.Name)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return access.Errorf(access.Retry, "the API does not answer: %v", op.Err)
	}
	return access.Errorf(access.Retry, "the connection to the API broke")
}

// Close closes connections that are not in use.
func (c *Client) Close() { c.http.CloseIdleConnections() }
