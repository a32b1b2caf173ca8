// Package codec encrypts everything that Temporal keeps for Lapse: arguments,
// results, signals, memos, and the messages of failures. Search attributes,
// ids and task queue names stay readable, and hold nothing but opaque ids and
// words of Lapse.
//
// What is not encrypted is read as it is, so that Temporal's own tools can
// still send to a workflow. Nothing is believed because it was encrypted:
// decisions and tickets are signed.
package codec

import (
	"errors"
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/proto"

	"github.com/lapse-access/lapse/internal/keys"
)

const (
	encoding      = "binary/encrypted" // Temporal's customary name for it
	metadataKeyID = "encryption-key-id"
)

// New returns the two converters that every Temporal client of Lapse uses. The
// first key encrypts, all of them decrypt; there must be at least one.
func New(ks []keys.Codec) (converter.DataConverter, converter.FailureConverter) {
	data := converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), Payloads(ks))
	return data, temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{
		DataConverter:          data,
		EncodeCommonAttributes: true,
	})
}

// codec is a converter.PayloadCodec.
type codec struct {
	first keys.Codec
	byID  map[string]keys.Codec
}

// Payloads is the codec behind New, for those who read histories.
func Payloads(ks []keys.Codec) converter.PayloadCodec {
	c := codec{first: ks[0], byID: map[string]keys.Codec{}}
	for _, k := range ks {
		c.byID[k.ID] = k
	}
	return c
}

// bound is what the ciphertext is bound to besides the key.
func bound(keyID string) []byte { return []byte("lapse payload v1|" + keyID) }

// Encode encrypts every payload, its metadata included.
func (c codec) Encode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		plain, err := proto.Marshal(p)
		if err != nil {
			return nil, err
		}
		out[i] = &commonpb.Payload{
			Metadata: map[string][]byte{
				converter.MetadataEncoding: []byte(encoding),
				metadataKeyID:              []byte(c.first.ID),
			},
			Data: c.first.AEAD.Seal(nil, nil, plain, bound(c.first.ID)),
		}
	}
	return out, nil
}

// Decode decrypts what Encode made, and leaves alone what is not encrypted.
func (c codec) Decode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		if string(p.GetMetadata()[converter.MetadataEncoding]) != encoding {
			out[i] = p
			continue
		}
		id := string(p.Metadata[metadataKeyID])
		key, ok := c.byID[id]
		if !ok {
			return nil, fmt.Errorf("a payload is encrypted with the key %q, which this process does not have: put its line back into codec.keys", id)
		}
		plain, err := key.AEAD.Open(nil, nil, p.Data, bound(id))
		if err != nil {
			return nil, fmt.Errorf("a payload does not decrypt with the key %q: it was changed, or that line of codec.keys is another key", id)
		}
		out[i] = &commonpb.Payload{}
		if err := proto.Unmarshal(plain, out[i]); err != nil {
			return nil, errors.New("a payload decrypts to something that is not a payload")
		}
	}
	return out, nil
}
