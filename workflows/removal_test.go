package workflows_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/testsuite"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/workflows"
)

// removed is a store and a target as far as a removal sees them.
type removed struct {
	env      *testsuite.TestWorkflowEnvironment
	open     []access.Left // until openFor
	openFor  time.Duration
	why      string // after a restore
	over     string
	dead     bool // the target does not answer
	left     []access.Left
	accepted bool
	looks    int
	forgets  []access.ForgetArgs
	cleaned  int
}

func newRemoved() *removed {
	suite := testsuite.WorkflowTestSuite{}
	suite.SetLogger(sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	r := &removed{env: suite.NewTestWorkflowEnvironment()}
	r.env.SetTestTimeout(30 * time.Second)
	begun := r.env.Now()
	for name, f := range map[string]any{
		workflows.ActEndIntegration: func(context.Context, string) (access.RemovalStep, error) {
			r.looks++
			s := access.RemovalStep{Integration: "prod-pg", Connector: "connector-default", Begun: begun, Why: r.why, Over: r.over}
			if r.env.Now().Before(begun.Add(r.openFor)) {
				s.Open = r.open
			}
			return s, nil
		},
		workflows.ActPrincipals: func(context.Context, access.DiscoverArgs) (access.PrincipalPage, error) {
			if r.dead {
				return access.PrincipalPage{}, refuse(access.Auth, "it lets nobody in")
			}
			return access.PrincipalPage{Principals: []access.Principal{{Name: "lapse_ana"}}}, nil
		},
		workflows.ActClean: func(context.Context, string) ([]string, error) {
			r.cleaned++
			return []string{"role x"}, nil
		},
		workflows.ActForgetIntegration: func(_ context.Context, a access.ForgetArgs) (access.RemovalStep, error) {
			r.forgets = append(r.forgets, a)
			if len(r.left) > 0 && !r.accepted {
				return access.RemovalStep{Left: r.left}, nil
			}
			return access.RemovalStep{Left: r.left, Over: access.RemovalForgotten}, nil
		},
	} {
		r.env.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name})
	}
	return r
}

func (r *removed) run(t *testing.T) (report access.RemovalReport) {
	t.Helper()
	r.env.ExecuteWorkflow(workflows.Removal, "int-1")
	require.True(t, r.env.IsWorkflowCompleted())
	require.NoError(t, r.env.GetWorkflowResult(&report))
	return report
}

var anAccount = []access.Left{{Kind: access.LeftAccount, Subject: "int-1/per-1", Text: "an account"}}

func TestRemoval(t *testing.T) {
	t.Run("what goes by itself is waited for", func(t *testing.T) {
		r := newRemoved()
		r.open, r.openFor = anAccount, 10*time.Second
		require.Equal(t, access.RemovalReport{Integration: "prod-pg", Over: access.RemovalForgotten}, r.run(t))
		require.Equal(t, []access.ForgetArgs{{Integration: "int-1", Principals: []access.Principal{{Name: "lapse_ana"}}, Shared: []string{"role x"}}}, r.forgets)
	})
	t.Run("what does not go is left, until somebody accepts it", func(t *testing.T) {
		r := newRemoved()
		r.open, r.openFor, r.left, r.dead = anAccount, 3*time.Hour, anAccount, true
		r.env.RegisterDelayedCallback(func() {
			v, err := r.env.QueryWorkflow(workflows.QueryState)
			require.NoError(t, err)
			var s access.RemovalStep
			require.NoError(t, v.Get(&s))
			require.Equal(t, anAccount, s.Left)
			require.Zero(t, r.cleaned, "an account may need what is kept beside it")
			r.accepted = true
			r.env.SignalWorkflow(workflows.SignalWake, nil)
		}, 2*time.Hour)
		require.Equal(t, access.RemovalReport{Integration: "prod-pg", Over: access.RemovalForgotten, Left: anAccount}, r.run(t))
		require.Equal(t, "it lets nobody in", r.forgets[0].Error)
		require.Less(t, r.looks, 40, "it asks less and less often")
	})
	t.Run("cancelled, also in Temporal, where that says nothing", func(t *testing.T) {
		r := newRemoved()
		r.open, r.openFor, r.left = anAccount, time.Hour, anAccount
		r.env.RegisterDelayedCallback(r.env.CancelWorkflow, 5*time.Second)
		r.env.RegisterDelayedCallback(func() {
			require.False(t, r.env.IsWorkflowCompleted())
			r.over = access.RemovalCancelled
			r.env.SignalWorkflow(workflows.SignalWake, nil)
		}, time.Minute)
		require.Equal(t, access.RemovalCancelled, r.run(t).Over)
	})
	t.Run("after a restore it waits and does nothing", func(t *testing.T) {
		r := newRemoved()
		r.why = "restored"
		r.env.RegisterDelayedCallback(func() {
			require.Empty(t, r.forgets)
			r.why = ""
		}, time.Hour)
		require.Equal(t, access.RemovalForgotten, r.run(t).Over)
	})
}
