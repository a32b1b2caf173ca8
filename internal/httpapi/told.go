package httpapi

import (
	"cmp"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// Told is a transport that reaches nobody. It takes a note of every request that
// is no reading, and answers all in one way: so an integration can say what it
// would send.
type Told struct {
	// Answer is JSON, {} where it is empty.
	Answer string

	mu      sync.Mutex
	lines   []string
	numbers []string // what each stands for
}

// firstNumber is greater than any id that was ever given.
const firstNumber = 9_100_000_000_000_000_000

// Number is a number that stands for something else: it is shown as the text.
func (t *Told) Number(shown string) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.numbers = append(t.numbers, shown)
	return firstNumber + int64(len(t.numbers)-1)
}

// escaped is what integrations.Found says, in a path.
var escaped = regexp.MustCompile(`%E2%80%B9.*?%E2%80%BA`)

// RoundTrip notes a request: METHOD /PATH, and its body on the next line.
func (t *Told) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := &http.Response{StatusCode: http.StatusOK, Status: "200 OK", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(cmp.Or(t.Answer, "{}"))), Request: r}
	if r.Method == http.MethodGet {
		return answer, nil
	}
	line := r.Method + " " + escaped.ReplaceAllStringFunc(r.URL.RequestURI(), func(part string) string {
		plain, err := url.PathUnescape(part)
		if err != nil {
			return part
		}
		return plain
	})
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		if text := strings.TrimSpace(string(body)); text != "" {
			line += "\n" + text
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, line)
	return answer, nil
}

// Lines are the requests so far.
func (t *Told) Lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := make([]string, len(t.lines))
	for n, line := range t.lines {
		for i, shown := range t.numbers {
			line = strings.ReplaceAll(line, strconv.FormatInt(firstNumber+int64(i), 10), shown)
		}
		lines[n] = line
	}
	return lines
}
