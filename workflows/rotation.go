package workflows

import (
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/lapse-access/lapse/access"
)

// rotationWindow is how long the change of the connector's own secret is
// repeated before it is stuck. The next rotation begins where it stopped.
const rotationWindow = 15 * time.Minute

// Rotation changes credentials that are old enough: the secret of the
// integration's connector, and then those of the accounts. An account changes
// its own, in its queue, so that nothing else writes to it meanwhile.
func Rotation(ctx workflow.Context, in access.RotationArgs) (access.RotationReport, error) {
	var plan access.RotationPlan
	if err := workflow.ExecuteActivity(untilDone(ctx, "what is due?"), ActPlanRotation, in).Get(ctx, &plan); err != nil {
		return access.RotationReport{}, err
	}
	report := access.RotationReport{Integration: plan.Integration, Why: plan.Why}
	if plan.Secret {
		change := rotateSecret(ctx, in, plan)
		report.Secret, report.Stuck = change.Event.Text, change.Rotation.Stuck
		if err := workflow.ExecuteActivity(untilDone(ctx, "record "+change.Event.Kind), ActRecord, []access.Change{change}).Get(ctx, nil); err != nil {
			return report, err
		}
	}
	why := "rotation"
	if in.Exposed {
		why = opExposed
	}
	for _, a := range plan.Accounts {
		op := Op{ID: UpdateCredential + "/" + a.Nonce, Kind: UpdateCredential, RequestID: a.RequestID, HoldIDs: a.HoldIDs, Nonce: a.Nonce, Actor: in.Actor, Why: why}
		err := workflow.ExecuteActivity(untilDone(ctx, "another credential for "+a.Email), ActTellAccount, TellArgs{AccountID: a.ID, Op: op}).Get(ctx, nil)
		if err != nil {
			return report, err
		}
		report.Asked = append(report.Asked, a.Email)
	}
	return report, nil
}

// rotateSecret changes the connector's own secret, and says what became of it.
func rotateSecret(ctx workflow.Context, in access.RotationArgs, plan access.RotationPlan) access.Change {
	var done access.SecretDone
	err := workflow.ExecuteActivity(bounded(ctx, plan.Connector, "change the connector's own secret", rotationWindow, priorityRotate), ActSecret, in.Integration).Get(ctx, &done)
	change := access.Change{
		Event: access.Event{Kind: "secret.rotated", At: workflow.Now(ctx), Actor: in.Actor, Integration: in.Integration,
			Text: "the connector's secret of " + plan.Integration + " was changed: " + strings.Join(done.Facts, "; ")},
		Rotation: &access.RotationChange{Subject: in.Integration},
	}
	if err != nil {
		change.Event.Kind, change.Rotation.Stuck = "secret.stuck", reason(err)
		change.Event.Text = "the change of the connector's secret of " + plan.Integration + " is stuck: " + reason(err)
	}
	change.Event.Key = change.Event.Kind + "/" + in.Integration + "/" + workflow.GetInfo(ctx).WorkflowExecution.RunID
	return change
}
