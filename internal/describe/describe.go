// Package describe tells what is declared of a kind, from its declaration and
// from nothing else: as data for the command line, and as the Markdown of the
// documentation.
package describe

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/spec"
)

// Kind is all that is declared of a kind.
type Kind struct {
	Kind          string                      `json:"kind"`
	Name          string                      `json:"name"` // as its vendor writes it
	Doc           string                      `json:"doc"`
	Config        []spec.Field                `json:"config"`
	Secret        []spec.Field                `json:"secret"`
	ResourceTypes []integrations.ResourceType `json:"resource_types"`
	Sessions      string                      `json:"sessions"`
	Limits        []string                    `json:"limits"`
	NativeExpiry  bool                        `json:"native_expiry"`
	Credentials   bool                        `json:"credentials"`
	SetupOptions  []spec.Field                `json:"setup_options"`
	Setup         []integrations.Tier         `json:"setup"`
	Certification Certification               `json:"certification"`
}

// New describes a kind, with its setup scripts written for the given options.
func New(k integrations.Kind, options Options) (d Kind, err error) {
	d = Kind{
		Kind: k.Name, Name: k.Title, Doc: k.Doc, Config: spec.Fields(k.Config()), Secret: spec.Fields(k.Secret()),
		ResourceTypes: k.ResourceTypes, Sessions: k.Sessions, Limits: k.Limits, NativeExpiry: k.NativeExpiry, Credentials: k.Credentials,
		SetupOptions: spec.Fields(k.Setup.Options()),
	}
	if d.Certification, err = certificationOf(k); err != nil {
		return d, err
	}
	d.Setup, err = tiers(k, d.SetupOptions, options)
	return d, err
}

// Permissions are those of all resource types, each once.
func (d Kind) Permissions() (list []integrations.Permission) {
	for _, t := range d.ResourceTypes {
		for _, p := range t.Permissions {
			if !slices.Contains(list, p) {
				list = append(list, p)
			}
		}
	}
	return list
}

// Options are what setup scripts are written for, by name. Only a list has more
// than one value.
type Options map[string][]string

// Set adds a value, given as NAME=VALUE.
func (o Options) Set(text string) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return errors.New("an option is NAME=VALUE")
	}
	o[name] = append(o[name], value)
	return nil
}

func tiers(k integrations.Kind, fields []spec.Field, options Options) ([]integrations.Tier, error) {
	values := map[string]any{}
	for name, given := range options {
		values[name] = given
		list := slices.ContainsFunc(fields, func(f spec.Field) bool { return f.Name == name && f.Type == "array" })
		if !list && len(given) == 1 {
			values[name] = given[0]
		}
	}
	text, err := json.Marshal(values)
	if err != nil {
		return nil, err
	}
	into := k.Setup.Options()
	if err := spec.DecodeJSON(text, "", into).Err(); err != nil {
		return nil, fmt.Errorf("setup of %s: %w", k.Title, err)
	}
	return k.Setup.Tiers(into)
}
