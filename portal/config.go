package portal

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/spec"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/portal/api"
)

// maxConfig bounds a lapse.yaml.
const maxConfig = 8 << 20

// onApplyTimeout bounds what follows in Temporal from a new configuration.
const onApplyTimeout = 30 * time.Second

// applyTries is how often a file is compared anew because another one came into
// force meanwhile.
const applyTries = 10

func (p *Portal) registerConfig(to huma.API) {
	tags := []string{"configuration"}
	register(p, to, huma.Operation{OperationID: "apply", Method: http.MethodPut, Path: "/config", Tags: tags, MaxBodyBytes: maxConfig,
		Summary: "Apply a lapse.yaml, or with dry_run show what that would change; where changes need two persons it becomes a proposal"}, p.applyFile)
	register(p, to, huma.Operation{OperationID: "show-config", Method: http.MethodGet, Path: "/config", Tags: tags,
		Summary: "Show the configuration in force"}, p.showConfig)
}

// applyCall brings a file.
type applyCall struct {
	DryRun  bool   `query:"dry_run" doc:"only show what would change"`
	File    string `query:"file" doc:"name of the file, for messages" default:"lapse.yaml" maxLength:"1000"`
	RawBody []byte `contentType:"application/yaml"`
}

func (p *Portal) applyFile(ctx context.Context, c *caller, in *applyCall) (out api.Applied, err error) {
	if c.version > 0 {
		if err := c.mustAdminister(); err != nil {
			return out, err
		}
	}
	out, err = p.apply(ctx, c.Person, in.File, in.RawBody, in.DryRun)
	if faults, ok := errors.AsType[spec.Faults](err); ok {
		return out, faulty(faults)
	}
	return out, err
}

// Apply applies a lapse.yaml on behalf of Lapse itself, as at the start of a
// process that was given one. Where changes need two persons, a changed file
// is not in force after it: it is a proposal, and the log says so. What is wrong
// with the file is a spec.Faults.
func (p *Portal) Apply(ctx context.Context, file string, source []byte) (api.Applied, error) {
	return p.apply(ctx, access.Person{Email: lapse}, file, source, false)
}

func (p *Portal) apply(ctx context.Context, who access.Person, file string, source []byte, dry bool) (out api.Applied, err error) {
	next, warnings, err := config.Parse(file, source, p.opts.Kinds)
	if err != nil {
		return out, err
	}
	more, err := p.removed(ctx, file, next)
	if err != nil {
		return out, err
	}
	for range applyTries {
		out, err = p.put(ctx, who, file, source, next, dry)
		if !errors.Is(err, store.ErrMoved) {
			break
		}
	}
	if errors.Is(err, store.ErrMoved) {
		err = problem(http.StatusConflict, "apply it again", "others change the configuration at this moment")
	}
	out.Warnings = append(warnings, more...)
	if err != nil || dry {
		return out, err
	}
	out.Warnings = append(out.Warnings, p.follow(ctx, file)...)
	return out, nil
}

// put compares a configuration with the one in force and has it take its place,
// or makes a proposal of it. It fails with store.ErrMoved where another one came
// into force meanwhile.
func (p *Portal) put(ctx context.Context, who access.Person, file string, source []byte, next config.Config, dry bool) (out api.Applied, err error) {
	version, now, err := p.opts.Store.Config(ctx)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return out, err
	}
	out = api.Applied{Version: version, DryRun: dry, Changes: config.Diff(now, next)}
	if out.Changes == nil {
		out.Changes = []config.Line{}
	}
	if len(out.Changes) == 0 && version > 0 {
		return out, nil
	}
	out.TwoPersons = now.TwoPersonChanges
	switch {
	case dry:
		return out, nil
	case now.TwoPersonChanges:
		out.Proposal, err = p.propose(ctx, who, file, source, version, out.Changes)
		return out, err
	}
	by := cmp.Or(who.ID, lapse)
	changes, err := json.Marshal(out.Changes)
	if err != nil {
		return out, err
	}
	event := access.Event{Kind: "config.applied", Actor: by, Data: changes, Text: fmt.Sprintf("%s applied a configuration with %d changes", who.Email, len(out.Changes))}
	out.Version, err = p.opts.Store.SaveConfig(ctx, store.SaveConfig{Source: source, Config: next, By: by, Event: event})
	return out, err
}

// follow brings Temporal in line with the configuration in force. Where that
// fails, it is said; the schedules are made at the next apply or start.
func (p *Portal) follow(ctx context.Context, file string) spec.Faults {
	if p.opts.OnApply == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, onApplyTimeout)
	defer cancel()
	err := p.opts.OnApply(ctx)
	if err == nil {
		return nil
	}
	p.opts.Log.Error("the configuration is applied, and Temporal not yet in line with it", "error", err)
	return spec.Faults{{File: file, Message: "the configuration is in force, but discovery and sweep could not be scheduled", Fix: "apply it again once Temporal answers"}}
}

// faulty is the error for a file with faults.
func faulty(faults spec.Faults) *api.Problem {
	detail := "the file has a fault"
	if len(faults) > 1 {
		detail = fmt.Sprintf("the file has %d faults", len(faults))
	}
	p := problem(http.StatusUnprocessableEntity, "mend it and apply it again; nothing was changed", "%s", detail)
	p.Faults = faults
	return p
}

func (p *Portal) showConfig(ctx context.Context, c *caller, _ *nothing) (out api.Config, err error) {
	if err := c.mustAdminister(); err != nil {
		return out, err
	}
	out.Version = c.version
	out.Config, err = json.Marshal(c.config)
	return out, err
}
