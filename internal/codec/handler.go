package codec

import (
	"errors"
	"io"
	"net/http"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/lapse-access/lapse/internal/keys"
)

// maxBody bounds a request of the Web UI; Temporal itself takes 4 MB at once.
const maxBody = 16 << 20

// Handler is the codec endpoint of Temporal's Web UI: POST /decode, and nothing
// else. Whoever may call it can read every payload, so it must stand behind a
// check of who asks. There is no /encode: nobody needs a browser to make
// payloads that look like ours.
func Handler(ks []keys.Codec) http.Handler {
	c := Payloads(ks)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /decode", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			http.Error(w, "the body is larger than 16 MiB", http.StatusRequestEntityTooLarge)
			return
		}
		if err != nil {
			http.Error(w, "the body could not be read", http.StatusBadRequest)
			return
		}
		var in commonpb.Payloads
		if err := protojson.Unmarshal(body, &in); err != nil {
			http.Error(w, `want a JSON object {"payloads": [...]}`, http.StatusBadRequest)
			return
		}
		payloads, err := c.Decode(in.Payloads)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		out, err := protojson.Marshal(&commonpb.Payloads{Payloads: payloads})
		if err != nil {
			http.Error(w, "a payload could not be written as JSON", http.StatusInternalServerError)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		w.Write(out)
	})
	return mux
}
