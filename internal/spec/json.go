package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"
)

// DecodeJSON is Decode for a JSON object, with the same rules and defaults.
// Its faults have no line. Nothing of a document that is not JSON is repeated.
func DecodeJSON(data []byte, path string, into any) Faults {
	node, err := parseJSON(data)
	if err != nil {
		return Faults{{Path: path, Message: err.Error(), Fix: "write one JSON object"}}
	}
	return Decode(node, path, into)
}

// parseJSON reads one JSON value into the nodes that Decode walks.
func parseJSON(data []byte) (*yaml.Node, error) {
	if err := json.Unmarshal(data, new(json.RawMessage)); err != nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok && len(data) > 0 {
			return nil, fmt.Errorf("is not valid JSON at byte %d", syntax.Offset)
		}
		return nil, errors.New("is not valid JSON")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return jsonNode(dec)
}

func jsonNode(dec *json.Decoder) (*yaml.Node, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	scalar := func(tag, value string) (*yaml.Node, error) {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}, nil
	}
	switch t := token.(type) {
	case string:
		return scalar("!!str", t)
	case bool:
		return scalar("!!bool", fmt.Sprint(t))
	case json.Number:
		if strings.ContainsAny(t.String(), ".eE") {
			return scalar("!!float", t.String())
		}
		return scalar("!!int", t.String())
	case json.Delim:
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		if t == '[' {
			n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		}
		for dec.More() { // the keys of an object are tokens like its values
			item, err := jsonNode(dec)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, item)
		}
		_, err := dec.Token() // the closing bracket
		return n, err
	}
	return scalar("!!null", "null")
}
