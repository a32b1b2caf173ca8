// Package config reads lapse.yaml: the people, the integrations and the access
// flows. It finds every fault of the file at once, with its line and column
// and the way out, and shows what would change. The result is plain data that
// the store keeps as JSON.
package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/secrets"
	"github.com/lapse-access/lapse/internal/spec"
)

// Config is the content of lapse.yaml.
type Config struct {
	Administrators access.Conditions `json:"administrators" doc:"who may apply this file, use all integrations, revoke any access and read the audit trail"`
	People         []Person          `json:"people,omitempty" doc:"the directory of people"`
	Integrations   []Integration     `json:"integrations,omitempty" doc:"the systems to which access is given"`
	Bundles        []Bundle          `json:"bundles,omitempty" doc:"what is asked for together, under one name"`
	AccessFlows    []access.Flow     `json:"access_flows,omitempty" doc:"the rules that say who may request what, for how long, and who approves"`
	Runbook        Runbook           `json:"runbook,omitzero" doc:"the sealed file for the day on which Lapse cannot be brought back: who holds what, and how it is taken away by hand"`
	PortalURL      string            `json:"portal_url,omitempty" doc:"address of the portal as people reach it, for links in what they are sent; without it there are none" example:"https://lapse.example.com" maxLength:"2000"`
	Notify         Notify            `json:"notify,omitzero" doc:"how people are told of what waits for them, beside the portal"`

	TwoPersonChanges bool `json:"two_person_changes,omitempty" doc:"a changed file takes effect once a second administrator, another human, has approved it; also the change that turns this off" default:"false"`
}

// RunbookPath is the default of Runbook.Path.
const RunbookPath = "runbook"

// Runbook says how often the file is written, where, and who can open it.
type Runbook struct {
	Every      access.Duration `json:"every" doc:"time between two files; 0s is never" default:"15m" minimum:"0s" maximum:"24h"`
	Path       string          `json:"path" doc:"folder of the files; a relative one is in the data folder" default:"runbook" minLength:"1"`
	Keep       int             `json:"keep" doc:"so many of the newest files are kept" default:"96" minimum:"1" maximum:"100000"`
	Recipients []string        `json:"recipients,omitempty" doc:"who can open the files: recipients of age, or lines of SSH public keys (ed25519, rsa); without any, the key in keys/runbook.key of the data folder" example:"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p" minLength:"1"`
}

// Bundle is what people ask for together, on one system or on several.
type Bundle struct {
	Name  string       `json:"name" doc:"unique name of the bundle" pattern:"^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$" maxLength:"64" example:"on-call"`
	Doc   string       `json:"doc,omitempty" doc:"what it is for; people read it where they ask" maxLength:"200"`
	Items []BundleItem `json:"items" doc:"what it holds" minItems:"1" maxItems:"50"`
}

// BundleItem is one permission on one resource.
type BundleItem struct {
	Integration string `json:"integration" doc:"name of the integration"`
	Resource    string `json:"resource" doc:"resource as TYPE:PATH" example:"schema:shop/public"`
	Permission  string `json:"permission" doc:"permission on the resource" example:"read_only"`
}

// Person is an entry of the directory.
type Person struct {
	Email      string            `json:"email" doc:"main e-mail address; it is the person's name everywhere" example:"ana@example.com" pattern:"^[^@\\s]+@[^@\\s]+$" maxLength:"254"`
	Name       string            `json:"name,omitempty" doc:"how the person is called" example:"Ana" maxLength:"200"`
	Aliases    []string          `json:"aliases,omitempty" doc:"further addresses of the same person" example:"ana.admin@example.com" pattern:"^[^@\\s]+@[^@\\s]+$" maxLength:"254"`
	Groups     []string          `json:"groups,omitempty" doc:"groups the person is in" example:"analytics" minLength:"1"`
	Attributes map[string]string `json:"attributes,omitempty" doc:"further facts that conditions can name, such as manager: bo@example.com"`
	Disabled   bool              `json:"disabled,omitempty" doc:"true for somebody who may neither request nor decide and whose access ends"`
}

// WithID is the person as the rest of Lapse knows people.
func (p Person) WithID(id string) access.Person {
	return access.Person{
		ID: id, Email: p.Email, Name: p.Name, Aliases: p.Aliases,
		Groups: p.Groups, Attributes: p.Attributes, Disabled: p.Disabled,
	}
}

// addresses are all by which the person is known.
func (p Person) addresses() []string { return append([]string{p.Email}, p.Aliases...) }

// Integration is one target system.
type Integration struct {
	Name                   string                `json:"name" doc:"unique name: letters, digits and single hyphens" example:"prod-pg" pattern:"^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$" maxLength:"64"`
	Kind                   string                `json:"kind" doc:"kind of the system" example:"postgresql"`
	Connector              string                `json:"connector" doc:"connector that talks to the system" default:"default" pattern:"^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$" maxLength:"64"`
	Config                 json.RawMessage       `json:"config,omitempty" doc:"settings of the kind"`
	Secret                 secrets.Ref           `json:"secret" doc:"where the connector finds the secret of its own account on the system"`
	Discover               Discover              `json:"discover,omitzero" doc:"what is read into the catalog, and how often"`
	Tags                   []TagRule             `json:"tags,omitempty" doc:"tags of resources, beside those that the system itself knows"`
	CredentialRotationDays access.Days           `json:"credential_rotation_days,omitempty" doc:"credentials of accounts are changed after this many days; 0 is never" example:"30" minimum:"0" maximum:"3650"`
	SecretRotationDays     access.Days           `json:"secret_rotation_days,omitempty" doc:"the secret of the connector's own account is changed after this many days, where the kind and its store can; 0 is never" example:"90" minimum:"0" maximum:"3650"`
	Rotation               Rotation              `json:"rotation,omitzero" doc:"when credentials and secrets are changed"`
	Sweep                  Sweep                 `json:"sweep,omitzero" doc:"how often the system is compared with what Lapse knows, and what is repaired then"`
	UserCleanupDays        access.Days           `json:"user_cleanup_days" doc:"an account is deleted this many days after its last access ended" default:"7" minimum:"0" maximum:"3650"`
	CustomAccessDetails    string                `json:"custom_access_details,omitempty" doc:"text shown to people beside their credentials, at most 400 characters" example:"Use the read replica for long queries." maxLength:"400"`
	IntegrationOwner       *access.Owner         `json:"integration_owner,omitempty" doc:"people who own the integration"`
	ResourceOwner          *access.ResourceOwner `json:"resource_owner,omitempty" doc:"resource tag that names the owner of a resource"`
}

// Discover says what is read into the catalog.
type Discover struct {
	Types []string        `json:"types,omitempty" doc:"types of resources; all that the kind has when left out" example:"schema" minLength:"1"`
	Every access.Duration `json:"every" doc:"time between two readings" default:"1h" minimum:"1m" maximum:"8760h"`
}

// Rotation says when credentials and secrets are changed.
type Rotation struct {
	Window   string          `json:"window,omitempty" doc:"hours in which they are changed, as HH:MM-HH:MM, over midnight too; at any time when left out" example:"22:00-05:30" pattern:"^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]$"`
	TimeZone string          `json:"time_zone" doc:"time zone of the window, by its name in the IANA database" default:"UTC" example:"Europe/Madrid"`
	Jitter   access.Duration `json:"jitter" doc:"a rotation begins up to so much later than it could, so that not all begin at once" default:"5m" minimum:"0s" maximum:"24h"`
}

// Open reports whether a moment is in the window.
func (r Rotation) Open(at time.Time) bool {
	open, _ := r.timeframe().Open(at)
	return open
}

func (r Rotation) timeframe() access.Timeframe {
	return access.Timeframe{Hours: r.Window, TimeZone: r.TimeZone}
}

// Sweep says how often the system is compared with what Lapse knows, and what is
// repaired then.
type Sweep struct {
	Every  access.Duration      `json:"every" doc:"time between two sweeps" default:"5m" minimum:"1m" maximum:"24h"`
	Repair []access.FindingKind `json:"repair,omitempty" doc:"findings that a sweep repairs by itself, beside lost workflows, which it always starts again" example:"unexpected" enum:"unknown_principal,unexpected,missing,unused_role"`
}

// TagRule sets tags on the resources that match a pattern.
type TagRule struct {
	Resources string            `json:"resources" doc:"resources as TYPE:PATH, * within one part" example:"schema:shop/*"`
	Set       map[string]string `json:"set" doc:"tags as KEY: VALUE" minItems:"1"`
}

// Secrets are the places of all secrets.
func (c Config) Secrets() (refs []secrets.Ref) {
	for _, in := range c.Integrations {
		refs = append(refs, in.Secret)
	}
	if w := c.Notify.Webhook; w != nil {
		refs = append(refs, w.Secret)
	}
	if e := c.Notify.Email; e != nil && e.Secret != nil {
		refs = append(refs, *e.Secret)
	}
	return refs
}

// Integration finds an integration by name.
func (c Config) Integration(name string) (Integration, bool) {
	return find(c.Integrations, func(i Integration) bool { return i.Name == name })
}

// PersonByEmail finds a person by the main address or an alias.
func (c Config) PersonByEmail(email string) (Person, bool) {
	return find(c.People, func(p Person) bool {
		return slices.Contains(p.addresses(), access.NormalEmail(email))
	})
}

// Humans are the people with their main address as id, in a directory that
// knows which entries are one human.
func (c Config) Humans() *access.Directory {
	people := make([]access.Person, len(c.People))
	for i, p := range c.People {
		people[i] = p.WithID(p.Email)
	}
	return access.NewDirectory(people)
}

func find[T any](list []T, is func(T) bool) (found T, ok bool) {
	if i := slices.IndexFunc(list, is); i >= 0 {
		return list[i], true
	}
	return found, false
}

// Settings decodes the integration's config into the struct of its kind, as
// integrations.Target wants it.
func (i Integration) Settings(kind integrations.Kind) (any, error) {
	into := kind.Config()
	if err := spec.DecodeJSON(i.Config, "config", into).Err(); err != nil {
		return nil, fmt.Errorf("integration %s: %w", i.Name, err)
	}
	return into, nil
}

// ApplyTags returns the tags of a discovered resource: those that the system
// itself knows, and over them those of the matching rules, the last rule on
// top.
func ApplyTags(i Integration, found access.Found) map[string]string {
	tags := map[string]string{}
	maps.Copy(tags, found.Tags)
	for _, rule := range i.Tags {
		if access.MatchResource(rule.Resources, found.Resource) {
			maps.Copy(tags, rule.Set)
		}
	}
	return tags
}

// Schema returns the JSON Schema of lapse.yaml, with the settings of every
// kind in their place.
func Schema(kinds integrations.Registry) map[string]any {
	schema := spec.Schema(Config{})
	integration := spec.Schema(Integration{})
	delete(integration, "$schema")
	var cases []any
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		settings := spec.Schema(kinds[name].Config())
		delete(settings, "$schema")
		cases = append(cases, map[string]any{
			"if":   map[string]any{"properties": map[string]any{"kind": map[string]any{"const": name}}},
			"then": map[string]any{"properties": map[string]any{"config": settings}},
		})
	}
	integration["allOf"] = cases
	schema["properties"].(map[string]any)["integrations"].(map[string]any)["items"] = integration
	return schema
}
