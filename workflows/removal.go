package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/lapse-access/lapse/access"
)

const (
	// A removal looks again after pauses that grow between these.
	removalPause    = 2 * time.Second
	maxRemovalPause = 5 * time.Minute
	// removalPatience is how long it waits for what goes by itself before it says
	// that it is left.
	removalPatience = 30 * time.Second
)

// Removal takes an integration out of Lapse. What is held there ends and the
// accounts are deleted, both through the accounts' own workflows; then what
// Lapse keeps on the target beside accounts is removed, and it is looked what
// is left. Where nothing is, or somebody accepts it, the integration is
// forgotten. Everything stands in the store, so that a removal which was
// terminated begins again where it was.
func Removal(ctx workflow.Context, integration string) (access.RemovalReport, error) {
	// Whoever cancels it in Temporal would leave the integration half removed:
	// the way back is lapse remove NAME --cancel.
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	r := &removal{integration: integration}
	if err := workflow.SetQueryHandler(ctx, QueryState, func() (access.RemovalStep, error) { return r.step, nil }); err != nil {
		return access.RemovalReport{}, err
	}
	wake := workflow.GetSignalChannel(ctx, SignalWake)
	for pause := removalPause; ; pause = min(2*pause, maxRemovalPause) {
		for wake.ReceiveAsync(nil) {
			pause = removalPause
		}
		if err := r.look(ctx); err != nil {
			return access.RemovalReport{Integration: r.step.Integration}, err
		}
		r.show(ctx)
		if r.step.Over != "" && wake.Len() == 0 {
			return access.RemovalReport{Integration: r.step.Integration, Over: r.step.Over, Left: r.step.Left}, nil
		}
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() && wake.Len() == 0 {
			return access.RemovalReport{}, workflow.NewContinueAsNewError(ctx, RemovalType, integration)
		}
		awaitUntil(ctx, "look again", workflow.Now(ctx).Add(pause), func() bool { return wake.Len() > 0 })
	}
}

type removal struct {
	integration string
	step        access.RemovalStep
	details     string
}

// look does what can be done now.
func (r *removal) look(ctx workflow.Context) error {
	var step access.RemovalStep
	err := workflow.ExecuteActivity(thorough(ctx, "end what is held, and delete the accounts"), ActEndIntegration, r.integration).Get(ctx, &step)
	if err != nil {
		return err
	}
	r.step = step
	waits := len(r.step.Open) > 0 && workflow.Now(ctx).Before(r.step.Begun.Add(removalPatience))
	if r.step.Over != "" || r.step.Why != "" || waits {
		return nil
	}
	args := access.ForgetArgs{Integration: r.integration}
	whole := 2 * time.Minute
	if len(r.step.Open) > 0 || slices.ContainsFunc(r.step.Left, func(l access.Left) bool { return l.Kind == access.LeftTarget }) {
		whole = 10 * time.Second // something is stuck: likely the target
	}
	page, err := principals(ctx, r.step.Connector, r.integration, whole)
	if err == nil && len(r.step.Open) == 0 {
		err = workflow.ExecuteActivity(bounded(ctx, r.step.Connector, "remove what is kept beside accounts", 5*time.Minute, prioritySweep), ActClean, r.integration).Get(ctx, &args.Shared)
	}
	if args.Principals = page.Principals; err != nil {
		args.Error = reason(err)
	}
	var done access.RemovalStep
	err = workflow.ExecuteActivity(untilDone(ctx, "is anything left?"), ActForgetIntegration, args).Get(ctx, &done)
	r.step.Over, r.step.Left = done.Over, done.Left
	return err
}

// principals lists what carries our mark on a target, and gives up after a
// while.
func principals(ctx workflow.Context, connector, integration string, whole time.Duration) (all access.PrincipalPage, err error) {
	for cursor := ""; ; {
		var page access.PrincipalPage
		err := workflow.ExecuteActivity(bounded(ctx, connector, "list what carries our mark", whole, prioritySweep), ActPrincipals,
			access.DiscoverArgs{Integration: integration, Cursor: cursor}).Get(ctx, &page)
		if err != nil {
			return all, err
		}
		all.Principals, all.Unused = append(all.Principals, page.Principals...), append(all.Unused, page.Unused...)
		if cursor = page.Next; cursor == "" {
			return all, nil
		}
	}
}

// show writes how far the removal is for Temporal's Web UI.
func (r *removal) show(ctx workflow.Context) {
	var b strings.Builder
	fmt.Fprintf(&b, "### Removal of %s\n\n", r.step.Integration)
	switch s := r.step; {
	case s.Over != "":
		fmt.Fprintf(&b, "It is %s.\n", s.Over)
	case s.Why != "":
		fmt.Fprintf(&b, "It waits: %s.\n", s.Why)
	case len(s.Left) > 0:
		fmt.Fprintf(&b, "It waits until this is gone, or accepted: `lapse remove %s --accept-left --reason ...`\n", s.Integration)
	default:
		b.WriteString("It goes on by itself.\n")
	}
	list := r.step.Left
	if len(list) == 0 {
		list = r.step.Open
	}
	for _, l := range list {
		fmt.Fprintf(&b, "- %s: %s\n", l.Kind, l.Text)
	}
	if s := b.String(); s != r.details {
		r.details = s
		workflow.SetCurrentDetails(ctx, s)
	}
}
