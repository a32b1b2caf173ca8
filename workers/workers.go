// Package workers says which worker polls which task queue, with which
// activities and limits: the control worker beside the store, and one worker
// per connector near the targets.
package workers

import (
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/lapse-access/lapse/activities"
	"github.com/lapse-access/lapse/workflows"
)

// cachedWorkflows is how many workflows a process keeps in memory; one that is
// evicted is replayed at its next event.
const cachedWorkflows = 2000

// Control is the worker of all workflows and of the control activities.
func Control(c client.Client, control *activities.Control) worker.Worker {
	worker.SetStickyWorkflowCacheSize(cachedWorkflows)
	w := worker.New(c, workflows.Queue, worker.Options{
		// On a busy small host the default of one second blames innocent code.
		DeadlockDetectionTimeout: 5 * time.Second,
		WorkerStopTimeout:        10 * time.Second,
	})
	Workflows(w)
	for name, f := range map[string]any{
		workflows.ActLoadRequest:    control.LoadRequest,
		workflows.ActRecordDecision: control.RecordDecision,
		workflows.ActLoadAccount:    control.LoadAccount,
		workflows.ActTicket:         control.Ticket,
		workflows.ActRecord:         control.Record,
		workflows.ActTellAccount:    control.TellAccount,
		workflows.ActSweepStore:     control.SweepStore,
		workflows.ActSweepCompare:   control.SweepCompare,
		workflows.ActStoreResources: control.StoreResources,
		workflows.ActIntegration:    control.Integration,
		workflows.ActWake:           control.Wake,
		workflows.ActPlanRotation:   control.PlanRotation,
		workflows.ActAutomatic:      control.Automatic,
		workflows.ActRemind:         control.Remind,

		workflows.ActEndIntegration:    control.EndIntegration,
		workflows.ActForgetIntegration: control.ForgetIntegration,
	} {
		w.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name})
	}
	return w
}

// Workflows registers every workflow by the name that it never changes.
func Workflows(w worker.WorkflowRegistry) {
	for name, f := range map[string]any{
		workflows.RequestType:   workflows.Request,
		workflows.AccountType:   workflows.Account,
		workflows.SweepType:     workflows.Sweep,
		workflows.DiscoveryType: workflows.Discovery,
		workflows.CheckType:     workflows.Check,
		workflows.RotationType:  workflows.Rotation,
		workflows.RemovalType:   workflows.Removal,
		workflows.EpochType:     workflows.Epoch,
		workflows.AutomaticType: workflows.Automatic,
	} {
		w.RegisterWorkflowWithOptions(f, workflow.RegisterOptions{Name: name})
	}
}

// Connector is the worker of everything that touches the targets of one
// connector.
func Connector(c client.Client, name string, provision *activities.Provision) worker.Worker {
	w := worker.New(c, workflows.ConnectorQueue(name), worker.Options{
		DisableWorkflowWorker:              true,
		MaxConcurrentActivityExecutionSize: 16,
		WorkerStopTimeout:                  10 * time.Second,
	})
	for name, f := range map[string]any{
		workflows.ActHeld:       provision.Held,
		workflows.ActGrant:      provision.Grant,
		workflows.ActVerify:     provision.Verify,
		workflows.ActRevoke:     provision.Revoke,
		workflows.ActCredential: provision.Credential,
		workflows.ActDelete:     provision.DeleteAccount,
		workflows.ActPrincipals: provision.Accounts,
		workflows.ActMaintain:   provision.Maintain,
		workflows.ActClean:      provision.Clean,
		workflows.ActDiscover:   provision.Discover,
		workflows.ActCheck:      provision.Check,
		workflows.ActSecret:     provision.RotateSecret,
	} {
		w.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name})
	}
	return w
}
