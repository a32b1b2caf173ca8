package portal

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/engine"
	"github.com/lapse-access/lapse/internal/spec"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/portal/api"
	"github.com/lapse-access/lapse/workflows"
)

// ByName is the path of an operation on one integration. Huma finds embedded
// fields of exported types only.
type ByName struct {
	Name string `path:"name" doc:"name of the integration" maxLength:"64"`
}

type nothing struct{}

func (p *Portal) registerIntegrations(to huma.API) {
	tags := []string{"integrations"}
	register(p, to, huma.Operation{OperationID: "list-integrations", Method: http.MethodGet, Path: "/integrations", Tags: tags,
		Summary: "List the integrations"}, p.listIntegrations)
	register(p, to, huma.Operation{OperationID: "show-integration", Method: http.MethodGet, Path: "/integrations/{name}", Tags: tags,
		Summary: "Show an integration"}, p.showIntegration)
	register(p, to, huma.Operation{OperationID: "list-resources", Method: http.MethodGet, Path: "/integrations/{name}/resources", Tags: tags,
		Summary: "List what can be asked for on an integration"}, p.listResources)
	register(p, to, huma.Operation{OperationID: "check", Method: http.MethodPost, Path: "/integrations/{name}/check", Tags: tags,
		Summary: "Prove each right of the connector's account"}, p.check)
	register(p, to, huma.Operation{OperationID: "discover", Method: http.MethodPost, Path: "/integrations/{name}/discover", Tags: tags,
		Summary: "Refresh the catalog of an integration"}, p.discover)
	register(p, to, huma.Operation{OperationID: "show-discovery", Method: http.MethodGet, Path: "/integrations/{name}/discovery", Tags: tags,
		Summary: "Say how far the discovery of an integration is"}, p.showDiscovery)
	register(p, to, huma.Operation{OperationID: "sweep", Method: http.MethodPost, Path: "/integrations/{name}/sweep", Tags: tags,
		Summary: "Compare the store, the workflows and the target"}, p.sweep)
	register(p, to, huma.Operation{OperationID: "show-sweep", Method: http.MethodGet, Path: "/integrations/{name}/sweep", Tags: tags,
		Summary: "Show what the newest sweep found"}, p.showSweep)
	register(p, to, huma.Operation{OperationID: "rotate", Method: http.MethodPost, Path: "/integrations/{name}/rotation", Tags: tags,
		Summary: "Change credentials of accounts, or the connector's own secret, now"}, p.rotate)
}

// named finds an integration that is configured now.
func (c *caller) named(name string) (store.IntegrationRow, error) {
	in, ok := c.integration(name)
	if !ok {
		return in, problem(http.StatusNotFound, spec.DidYouMean(name, c.names()), "there is no such integration")
	}
	return in, nil
}

// owned finds an integration that the caller owns.
func (c *caller) owned(name string) (store.IntegrationRow, error) {
	in, err := c.named(name)
	if err == nil && !c.owns(in) {
		err = problem(http.StatusForbidden, "ask an administrator, or be made its integration_owner", "only administrators and the owners of %s may do this", in.Name)
	}
	return in, err
}

func (p *Portal) listIntegrations(ctx context.Context, c *caller, _ *nothing) (out api.Integrations, err error) {
	out.Integrations = []api.Integration{}
	for _, row := range c.integrations {
		if row.Removed {
			continue
		}
		in, err := p.describe(ctx, c, row)
		if err != nil {
			return out, err
		}
		out.Integrations = append(out.Integrations, in)
	}
	return out, nil
}

func (p *Portal) showIntegration(ctx context.Context, c *caller, in *ByName) (out api.Integration, err error) {
	row, err := c.named(in.Name)
	if err != nil {
		return out, err
	}
	return p.describe(ctx, c, row)
}

// describe is an integration as the caller may see it.
func (p *Portal) describe(ctx context.Context, c *caller, row store.IntegrationRow) (out api.Integration, err error) {
	kind := p.opts.Kinds[row.Kind]
	out = api.Integration{Name: row.Name, Kind: row.Kind, Title: kind.Title, Connector: row.Connector, Sessions: kind.Sessions, Owner: c.owns(row), Types: row.Discover.Types}
	if len(out.Types) == 0 {
		out.Types = []string{}
		for _, t := range kind.ResourceTypes {
			out.Types = append(out.Types, t.Name)
		}
	}
	if !out.Owner {
		return out, nil
	}
	_, out.Findings, err = p.opts.Store.Findings(ctx, row.ID)
	return out, err
}

// listedResources selects a part of the catalog.
type listedResources struct {
	ByName
	Type  string `query:"type" doc:"only resources of this type" example:"schema"`
	Query string `query:"q" doc:"only resources with this in their path"`
	After string `query:"after" doc:"next of the page before"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

func (p *Portal) listResources(ctx context.Context, c *caller, in *listedResources) (out api.Resources, err error) {
	out.Resources = []api.Resource{}
	row, err := c.named(in.Name)
	if err != nil {
		return out, err
	}
	found, err := p.opts.Store.Resources(ctx, store.ResourceFilter{Integration: row.ID, Type: in.Type, Query: in.Query, After: in.After, Limit: in.Limit})
	if err != nil {
		return out, err
	}
	for _, f := range found {
		out.Resources = append(out.Resources, api.Resource{Resource: f.Resource.String(), Permissions: f.Permissions, Tags: config.ApplyTags(row.Integration, f.Found), Note: f.Note})
	}
	if len(found) == in.Limit {
		out.Next = found[len(found)-1].Key()
	}
	return out, nil
}

const (
	checkTimeout = 75 * time.Second
	longTimeout  = 150 * time.Second
)

func (p *Portal) check(ctx context.Context, c *caller, in *ByName) (out api.Check, err error) {
	row, err := c.owned(in.Name)
	if err != nil {
		return out, err
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var report access.CheckReport
	err = p.await(ctx, row, "check", &report, func() (client.WorkflowRun, error) { return engine.StartCheck(ctx, p.opts.Temporal, row.ID) })
	out = api.Check{Integration: row.Name, OK: report.OK(), Server: report.Server, Items: append([]access.CheckItem{}, report.Items...)}
	return out, err
}

func (p *Portal) discover(ctx context.Context, c *caller, in *ByName) (out access.DiscoveryReport, err error) {
	row, err := c.owned(in.Name)
	if err != nil {
		return out, err
	}
	ctx, cancel := context.WithTimeout(ctx, longTimeout)
	defer cancel()
	err = p.await(ctx, row, "discovery", &out, func() (client.WorkflowRun, error) { return engine.StartDiscovery(ctx, p.opts.Temporal, row.ID) })
	return out, err
}

func (p *Portal) showDiscovery(ctx context.Context, c *caller, in *ByName) (out api.Discovery, err error) {
	row, err := c.owned(in.Name)
	if err != nil {
		return out, err
	}
	id := workflows.DiscoveryID(row.ID)
	d, err := p.opts.Temporal.DescribeWorkflowExecution(ctx, id, "")
	if _, missing := errors.AsType[*serviceerror.NotFound](err); missing {
		return out, nil
	}
	if err != nil || d.GetWorkflowExecutionInfo().GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return out, err
	}
	out.Running = true
	var report access.DiscoveryReport
	answer, err := p.opts.Temporal.QueryWorkflow(ctx, id, "", workflows.QueryState)
	if err == nil {
		err = answer.Get(&report)
	}
	out.Resources = report.Resources
	return out, err
}

// await starts a workflow of an integration and waits for its result.
func (p *Portal) await(ctx context.Context, in store.IntegrationRow, what string, result any, start func() (client.WorkflowRun, error)) error {
	run, err := start()
	if err != nil {
		return err
	}
	err = run.Get(ctx, result)
	if err == nil {
		return nil
	}
	if _, text := said(err); text != "" {
		return problem(http.StatusBadGateway, "", "the %s of %s failed: %s", what, in.Name, text)
	}
	hint := fmt.Sprintf("is a connector with this name running? (lapse worker --connector %s)", in.Connector)
	if late(err) {
		return problem(http.StatusGatewayTimeout, hint, "the %s of %s is not done yet, and goes on", what, in.Name)
	}
	if timedOut(err) {
		return problem(http.StatusBadGateway, hint, "the %s of %s got no answer from the connector %s", what, in.Name, in.Connector)
	}
	return err
}
