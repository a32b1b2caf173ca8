package certificationtest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/spec"
)

// Settings demands of a kind that it takes or refuses settings as lapse.yaml has
// them, by their declaration or by New. Each has a name, the YAML, and a word of
// the refusal, which is "" when they are taken. The first have nothing but what is
// needed, and make defaults, a *Config. New refuses what is another kind's, too.
func Settings(t *testing.T, kind integrations.Kind, secret, defaults any, settings [][3]string) {
	t.Helper()
	for i, s := range settings {
		name, text, word := s[0], s[1], s[2]
		t.Run(name, func(t *testing.T) {
			var node yaml.Node
			if err := yaml.Unmarshal([]byte(text), &node); err != nil {
				t.Fatal(err)
			}
			config := kind.Config()
			err := spec.Decode(&node, "config", config).Err()
			if err == nil {
				_, err = kind.New(integrations.Target{Name: "x", Config: config, Secret: secret})
				if err != nil && access.KindOf(err) != access.Invalid {
					t.Errorf("%v (%s), want %s", err, access.KindOf(err), access.Invalid)
				}
			}
			switch {
			case word == "" && err != nil:
				t.Errorf("refused: %v", err)
			case word != "" && (err == nil || !strings.Contains(err.Error(), word)):
				t.Errorf("%v, want a refusal that names %s", err, word)
			}
			if diff := cmp.Diff(defaults, config); i == 0 && diff != "" {
				t.Errorf("defaults (-want +got):\n%s", diff)
			}
		})
	}
	for name, target := range map[string]integrations.Target{
		"the settings of another kind": {Config: new(struct{}), Secret: secret},
		"the secret of another kind":   {Config: defaults, Secret: new(struct{})},
		"no secret":                    {Config: defaults},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := kind.New(target); access.KindOf(err) != access.Invalid {
				t.Errorf("%v, want %s", err, access.Invalid)
			}
		})
	}
}
