package githubtest

import (
	"bytes"
	"context"
	_ "embed" // the descriptions
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
)

// The parts of GitHub's own descriptions that Lapse uses. TestDescription of the
// room cuts them out. Both are under the MIT licence, which lies beside them.
var (
	//go:embed testdata/rest.json
	restText []byte
	//go:embed testdata/schema.graphql
	graphqlText string
)

// Description is GitHub's of both APIs.
type Description struct {
	REST   *openapi3.T
	routes routers.Router
	schema *ast.Schema
}

var describedOnce = sync.OnceValues(func() (*Description, error) {
	openapi3.DefineStringFormatValidator("uri", openapi3.NewCallbackValidator(func(string) error { return nil }))
	rest, err := openapi3.NewLoader().LoadFromData(restText)
	if err != nil {
		return nil, err
	}
	rest.Servers = nil
	routes, err := legacy.NewRouter(rest)
	if err != nil {
		return nil, err
	}
	schema, err := gqlparser.LoadSchema(&ast.Source{Name: "schema.graphql", Input: graphqlText})
	return &Description{rest, routes, schema}, err
})

// Described reads the descriptions, once.
func Described(t testing.TB) *Description {
	t.Helper()
	v, err := describedOnce()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// request holds a request of the REST API against the description.
func (v *Description) request(r *http.Request, body []byte) (*openapi3filter.RequestValidationInput, error) {
	r = r.Clone(context.Background())
	r.Body = io.NopCloser(bytes.NewReader(body))
	route, params, err := v.routes.FindRoute(r)
	if err != nil {
		return nil, fmt.Errorf("%s %s is not described: %w", r.Method, r.URL.Path, err)
	}
	known := map[string]bool{}
	for _, p := range route.Operation.Parameters {
		known[p.Value.Name] = true
	}
	for name := range r.URL.Query() {
		if !known[name] {
			return nil, fmt.Errorf("%s %s has no parameter %s", r.Method, r.URL.Path, name)
		}
	}
	in := &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc}}
	if len(body) > 0 {
		if err := v.knowsBody(route, body); err != nil {
			return nil, err
		}
	}
	return in, openapi3filter.ValidateRequest(context.Background(), in)
}

// knowsBody refuses properties that the description does not have: GitHub ignores
// them, so that a mistake would not show.
func (v *Description) knowsBody(route *routers.Route, body []byte) error {
	var sent map[string]any
	if err := json.Unmarshal(body, &sent); err != nil {
		return err
	}
	if route.Operation.RequestBody == nil {
		return fmt.Errorf("%s takes no body", route.Path)
	}
	schema := route.Operation.RequestBody.Value.Content.Get("application/json").Schema.Value
	for name := range sent {
		if schema.Properties[name] == nil {
			return fmt.Errorf("the body of %s has no property %s", route.Path, name)
		}
	}
	return nil
}

// response holds an answer against the description, where that has its status.
func (v *Description) response(in *openapi3filter.RequestValidationInput, status int, header http.Header, body []byte) error {
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: status, Header: header, Body: io.NopCloser(bytes.NewReader(body)),
		Options: &openapi3filter.Options{MultiError: false}}
	return openapi3filter.ValidateResponse(context.Background(), out)
}

// complete adds to a value what its schema requires.
func (v *Description) complete(name string, given map[string]any) map[string]any {
	return fill(v.REST.Components.Schemas[name].Value, given).(map[string]any)
}

func fill(s *openapi3.Schema, given any) any {
	for _, all := range s.AllOf {
		given = fill(all.Value, given)
	}
	if given == nil {
		if len(s.AnyOf) > 0 {
			return fill(s.AnyOf[0].Value, nil)
		}
		if len(s.OneOf) > 0 {
			return fill(s.OneOf[0].Value, nil)
		}
	}
	object, isObject := given.(map[string]any)
	switch {
	case given == nil && s.Nullable:
		return nil
	case given == nil && len(s.Enum) > 0:
		return s.Enum[0]
	case isObject || given == nil && (s.Type.Is("object") || len(s.Properties) > 0):
		if object == nil {
			object = map[string]any{}
		}
		for _, name := range s.Required {
			if _, there := object[name]; !there && s.Properties[name] != nil {
				object[name] = fill(s.Properties[name].Value, nil)
			}
		}
		return object
	case given != nil:
		return given
	case s.Type.Is("array"):
		return []any{}
	case s.Type.Is("integer"), s.Type.Is("number"):
		return 1
	case s.Type.Is("boolean"):
		return false
	case s.Format == "date-time":
		return "2026-01-02T03:04:05Z"
	case s.Format == "email":
		return "nobody@example.com"
	}
	return "https://api.github.com/placeholder"
}
