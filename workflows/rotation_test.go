package workflows_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/workflows"
)

// rotation runs a rotation with this plan; secret is how the connector's own
// secret fares.
func (w *world) rotation(t *testing.T, plan access.RotationPlan, args access.RotationArgs, secret error) access.RotationReport {
	t.Helper()
	w.env.RegisterActivityWithOptions(func(context.Context, access.RotationArgs) (access.RotationPlan, error) { return plan, nil },
		activity.RegisterOptions{Name: workflows.ActPlanRotation})
	w.env.RegisterActivityWithOptions(func(context.Context, string) (access.SecretDone, error) {
		return access.SecretDone{Facts: []string{"proven"}}, secret
	}, activity.RegisterOptions{Name: workflows.ActSecret})
	w.env.ExecuteWorkflow(workflows.Rotation, args)
	var r access.RotationReport
	require.NoError(t, w.env.GetWorkflowResult(&r))
	return r
}

func TestRotation(t *testing.T) {
	plan := access.RotationPlan{Integration: "prod-pg", Connector: "connector-default", Secret: true,
		Accounts: []access.RotationAccount{{ID: acct, Email: "ana@example.com", RequestID: "r1", HoldIDs: []string{"h1"}, Nonce: "rotate-2-1"}}}
	t.Run("the connector's secret and the accounts", func(t *testing.T) {
		w := newWorld()
		r := w.rotation(t, plan, access.RotationArgs{Integration: "int-1"}, nil)
		require.Equal(t, []string{"ana@example.com"}, r.Asked)
		require.Contains(t, r.Secret, "proven")
		require.Equal(t, 1, w.count("secret.rotated"))
		require.Len(t, w.ops, 1)
		require.Equal(t, "rotation", w.ops[0].Why)
	})
	t.Run("a secret that is stuck does not stop the accounts", func(t *testing.T) {
		w := newWorld()
		r := w.rotation(t, plan, access.RotationArgs{Integration: "int-1"}, temporal.NewNonRetryableApplicationError("no right", "privilege", errors.New("x")))
		require.Equal(t, "no right", r.Stuck)
		require.Equal(t, 1, w.count("secret.stuck"))
		require.Len(t, w.ops, 1)
	})
}

// A credential that is changed while it is in use: the generation rises, and
// sessions end only where somebody else has seen the old one.
func TestCredentialOfAnAccountIsChanged(t *testing.T) {
	for _, c := range []struct {
		why     string
		exposed bool
	}{{"rotation", false}, {"exposure", true}} {
		t.Run(c.why, func(t *testing.T) {
			w := newWorld()
			w.know("h1", "r1", "read_only", time.Hour)
			w.op(0, workflows.UpdateHold, "o1", "r1", "h1")
			w.opWith(10*time.Minute, workflows.Op{ID: "o2", Kind: workflows.UpdateCredential, RequestID: "r1", HoldIDs: []string{"h1"}, Nonce: "n1", Why: c.why})
			w.runAccount(t)
			require.Equal(t, 1, w.count("account.credential"))
			require.Equal(t, 2, w.row.Generation)
			require.Equal(t, c.exposed, w.ended, "sessions ended")
		})
	}
}

// One that cannot be made is said to be stuck, and the access goes on to its
// end.
func TestCredentialIsStuck(t *testing.T) {
	w := newWorld()
	w.fault = func(name string) error {
		if name == workflows.ActCredential {
			return temporal.NewNonRetryableApplicationError("the target refuses", "privilege", nil)
		}
		return nil
	}
	w.know("h1", "r1", "read_only", time.Hour)
	w.op(0, workflows.UpdateHold, "o1", "r1", "h1")
	w.opWith(10*time.Minute, workflows.Op{ID: "o2", Kind: workflows.UpdateCredential, RequestID: "r1", HoldIDs: []string{"h1"}, Nonce: "n1", Why: "rotation"})
	w.runAccount(t)
	require.Equal(t, 1, w.count("credential.stuck"))
	require.Equal(t, "the target refuses", w.stuck)
	require.Equal(t, 1, w.count("ended"))
}
