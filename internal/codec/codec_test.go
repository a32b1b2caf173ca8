package codec

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/lapse-access/lapse/internal/keys"
)

const canary = "canary-7f3a"

func ring(t testing.TB) []keys.Codec {
	t.Helper()
	r, err := keys.Open(filepath.Join(t.TempDir(), "keys"), true)
	if err != nil {
		t.Fatal(err)
	}
	return r.Codec
}

func TestEveryPayloadIsEncrypted(t *testing.T) {
	data, _ := New(ring(t))
	for _, value := range []any{nil, "", canary, []byte(canary), map[string]string{canary: canary}, struct{ A string }{canary}, &commonpb.WorkflowType{Name: canary}} {
		p, err := data.ToPayload(value)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := proto.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if string(p.Metadata["encoding"]) != "binary/encrypted" || bytes.Contains(raw, []byte(canary)) {
			t.Errorf("%#v is not encrypted: %s", value, p)
		}
	}
	p, err := data.ToPayload(canary)
	if err != nil {
		t.Fatal(err)
	}
	var got string
	if err := data.FromPayload(p, &got); err != nil || got != canary {
		t.Errorf("came back as %q, %v", got, err)
	}
}

func TestFailuresAreEncrypted(t *testing.T) {
	_, failures := New(ring(t))
	cause := temporal.NewNonRetryableApplicationError("cause "+canary, "kind", nil, canary)
	f := failures.ErrorToFailure(temporal.NewApplicationErrorWithCause("outer "+canary, "kind", cause, canary))
	raw, err := proto.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte(canary)) {
		t.Errorf("the failure shows its text: %s", f)
	}
	back := failures.FailureToError(f)
	app, ok := errors.AsType[*temporal.ApplicationError](back)
	if !ok || !strings.Contains(back.Error(), "outer "+canary) || app.Type() != "kind" || !strings.Contains(errors.Unwrap(back).Error(), "cause "+canary) {
		t.Errorf("came back as %v", back)
	}
}

func TestRotation(t *testing.T) {
	oldKeys, newKeys := ring(t), ring(t)
	old, _ := New(oldKeys)
	both, _ := New(slices.Concat(newKeys, oldKeys))
	p, err := old.ToPayload(canary)
	if err != nil {
		t.Fatal(err)
	}
	var got string
	if err := both.FromPayload(p, &got); err != nil || got != canary {
		t.Errorf("the new ring reads %q, %v", got, err)
	}
	if p, err = both.ToPayload(canary); err != nil || string(p.Metadata[metadataKeyID]) != newKeys[0].ID {
		t.Errorf("the new ring encrypts with %s, %v", p.Metadata[metadataKeyID], err)
	}
	if err := old.FromPayload(p, &got); err == nil || !strings.Contains(err.Error(), newKeys[0].ID) {
		t.Errorf("an unknown key: %v", err)
	}
}

func TestTampering(t *testing.T) {
	ks := slices.Concat(ring(t), ring(t))
	c := Payloads(ks)
	sealed, err := c.Encode([]*commonpb.Payload{{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte(`"x"`)}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range sealed[0].Data {
		p := proto.Clone(sealed[0]).(*commonpb.Payload)
		p.Data[i] ^= 1
		if _, err := c.Decode([]*commonpb.Payload{p}); err == nil {
			t.Fatalf("byte %d changed and nobody noticed", i)
		}
		p.Data = p.Data[:i]
		if _, err := c.Decode([]*commonpb.Payload{p}); err == nil {
			t.Fatalf("cut at byte %d and nobody noticed", i)
		}
	}
	p := proto.Clone(sealed[0]).(*commonpb.Payload)
	p.Metadata[metadataKeyID] = []byte(ks[1].ID)
	if _, err := c.Decode([]*commonpb.Payload{p}); err == nil {
		t.Error("another key's name and nobody noticed")
	}
}

func TestHandler(t *testing.T) {
	ks := ring(t)
	h := Handler(ks)
	plain := &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte(`"plain"`)}
	sealed, err := Payloads(ks).Encode([]*commonpb.Payload{plain})
	if err != nil {
		t.Fatal(err)
	}
	body := func(p ...*commonpb.Payload) string {
		b, err := protojson.Marshal(&commonpb.Payloads{Payloads: p})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	unknown := proto.Clone(sealed[0]).(*commonpb.Payload)
	unknown.Metadata[metadataKeyID] = []byte("codec-gone")
	for _, tc := range []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"encrypted and plain", "POST", "/decode", body(sealed[0], plain), 200, ""},
		{"encode is not there", "POST", "/encode", body(plain), 404, ""},
		{"get", "GET", "/decode", "", 405, ""},
		{"not JSON", "POST", "/decode", "{", 400, "payloads"},
		{"unknown key", "POST", "/decode", body(unknown), 400, "codec-gone"},
		{"too large", "POST", "/decode", strings.Repeat(" ", maxBody+1), 413, "16 MiB"},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(tc.method, tc.path, strings.NewReader(tc.body)))
		if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.says) {
			t.Errorf("%s: %d %s", tc.name, w.Code, w.Body)
		}
		if w.Code != http.StatusOK {
			continue
		}
		var got commonpb.Payloads
		if err := protojson.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]*commonpb.Payload{plain, plain}, got.Payloads, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
	}
}

func FuzzDecode(f *testing.F) {
	c := Payloads(ring(f))
	f.Add([]byte(`{"payloads":[{"metadata":{"encoding":"YmluYXJ5L2VuY3J5cHRlZA=="},"data":"AAAA"}]}`))
	f.Add([]byte(`{"payloads":[null,{}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var in commonpb.Payloads
		if protojson.Unmarshal(body, &in) != nil {
			return
		}
		out, err := c.Decode(in.Payloads)
		if err != nil {
			return
		}
		// Nobody without the key makes something that decrypts.
		if !slices.Equal(in.Payloads, out) {
			t.Errorf("%v became %v", in.Payloads, out)
		}
	})
}

var _ converter.PayloadCodec = codec{}
