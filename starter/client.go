package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/lapse-access/lapse/portal/api"
)

// client calls the portal's API.
type client struct {
	http           http.Client
	url, token, as string
}

// callTimeout is a little more than the portal takes at most.
const callTimeout = 3 * time.Minute

func newClient(getenv func(string) string) *client {
	return &client{
		http:  http.Client{Timeout: callTimeout},
		url:   strings.TrimRight(cmp.Or(getenv("LAPSE_URL"), "http://127.0.0.1:8080"), "/"),
		token: getenv("LAPSE_TOKEN"), as: getenv("LAPSE_AS"),
	}
}

// call sends in as JSON, where it is not nil, and reads the answer into out.
func (c *client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	return c.send(ctx, method, path, query, "application/json", body, out)
}

func (c *client) get(ctx context.Context, path string, query url.Values, out any) error {
	return c.call(ctx, http.MethodGet, path, query, nil, out)
}

func (c *client) post(ctx context.Context, path string, in, out any) error {
	return c.call(ctx, http.MethodPost, path, nil, in, out)
}

func (c *client) send(ctx context.Context, method, path string, query url.Values, contentType string, body []byte, out any) error {
	target := c.url + api.Prefix + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return &failure{Text: "LAPSE_URL is not an address", Hint: "for example LAPSE_URL=http://127.0.0.1:8080"}
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", contentType)
	}
	if c.as != "" {
		req.Header.Set(api.HeaderAs, c.as)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return &failure{Text: fmt.Sprintf("the portal at %s does not answer: %v", c.url, plain(err)), Hint: "start it with make run or lapse portal, or set LAPSE_URL"}
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return &failure{Text: fmt.Sprintf("the portal's answer broke off: %v", err), Hint: "try again"}
	}
	if res.StatusCode < 300 {
		err = json.Unmarshal(answer, out)
	} else {
		var p api.Problem
		if err = json.Unmarshal(answer, &p); err == nil && p.Status != 0 {
			return &failure{Text: p.Error(), Hint: p.Hint, Status: p.Status, Errors: p.Errors, Faults: p.Faults}
		}
	}
	if err != nil || res.StatusCode >= 300 {
		return &failure{Text: fmt.Sprintf("what answers at %s is not a portal of Lapse (%s)", c.url, res.Status), Hint: "set LAPSE_URL to the portal's address"}
	}
	return nil
}

// plain is a network error without the address, which is said already.
func plain(err error) error {
	if e, ok := err.(*url.Error); ok {
		return e.Err
	}
	return err
}

// requestID completes the beginning of a request's id.
func (c *client) requestID(ctx context.Context, id string) (string, error) {
	const whole = len("req-") + 16
	if len(id) >= whole {
		return id, nil
	}
	var list api.Requests
	if err := c.get(ctx, "/requests", url.Values{"limit": {"1000"}}, &list); err != nil {
		return "", err
	}
	var found []string
	for _, r := range list.Requests {
		if id != "" && (strings.HasPrefix(r.ID, id) || strings.HasPrefix(r.ID, "req-"+id)) {
			found = append(found, r.ID)
		}
	}
	switch len(found) {
	case 0:
		return "", &failure{Text: "there is no request whose id begins like that, or it is not yours to see", Hint: "lapse requests lists those that you may see"}
	case 1:
		return found[0], nil
	}
	return "", &failure{Text: "more than one request begins like that: " + strings.Join(found, ", "), Hint: "give more of the id"}
}
