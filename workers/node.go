package workers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/activities"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/codec"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/engine"
	"github.com/lapse-access/lapse/internal/keys"
	"github.com/lapse-access/lapse/internal/notify"
	"github.com/lapse-access/lapse/internal/secrets"
	"github.com/lapse-access/lapse/internal/store"
)

// Node is what the workers of one process share.
type Node struct {
	Store    *store.Store
	Temporal client.Client
	Kinds    integrations.Registry
	// Secrets is the folder at which relative paths of secret files start.
	Secrets string
	Log     *slog.Logger
}

// Control makes the control activities. They need every key.
func (n *Node) Control(ring *keys.Ring) *activities.Control {
	return &activities.Control{
		Store: n.Store, Temporal: n.Temporal, Epoch: n.epoch(ring.Codec), Kinds: n.Kinds,
		TicketKey: ring.TicketKey, PortalKey: ring.PortalPublic(), Log: n.Log,
	}
}

// Begin comes before the first worker of a process that has the control side. It
// compares the store with Temporal, so that nothing is done on a target by what
// was restored from a backup. Where restored is true, somebody says that it was.
func (n *Node) Begin(ctx context.Context, control *activities.Control, restored bool) error {
	why, err := control.CheckEpoch(ctx)
	if err == nil && why == "" && restored {
		why = "started as restored from a backup"
		err = n.Store.SetReportOnly(ctx, why)
	}
	if err != nil {
		return fmt.Errorf("was the store or Temporal restored? %w", err)
	}
	if why != "" {
		n.Log.Error("nothing is changed on a target before lapse restore accept", "why", why)
	}
	return nil
}

func (n *Node) epoch(codecs []keys.Codec) *activities.Epoch {
	data, _ := codec.New(codecs)
	return &activities.Epoch{Store: n.Store, Temporal: n.Temporal, Data: data}
}

// Notify sends what people are told, beside the control worker, until the context
// ends.
func (n *Node) Notify(ctx context.Context) {
	(&notify.Sender{Store: n.Store, Secrets: secrets.New(n.Secrets), Log: n.Log}).Run(ctx)
}

// Connectors runs the workers of one or more connectors, which share their
// integrations.
type Connectors struct {
	node      *Node
	provision *activities.Provision

	mu      sync.Mutex
	running map[string]worker.Worker
}

// Connectors makes the connectors' side. It needs a connector's keys only.
func (n *Node) Connectors(k *keys.Connector) *Connectors {
	return &Connectors{node: n, running: map[string]worker.Worker{}, provision: &activities.Provision{
		Instance: n.Store.Instance(), Kinds: n.Kinds, Secrets: secrets.New(n.Secrets),
		TicketKey: k.TicketPublic, SealingKey: k.SealingPublic, PutCredential: n.Store.PutCredential, Log: n.Log,
		Restored: n.epoch(k.Codec).Restored,
		Target: func(ctx context.Context, id string) (config.Integration, error) {
			row, err := n.Store.Integration(ctx, id)
			if errors.Is(err, store.ErrNotFound) {
				err = access.Errorf(access.Invalid, "there is no integration %s", id)
			}
			return row.Integration, err
		},
	}}
}

// Start begins to poll for a connector; one that polls already is left alone.
func (c *Connectors) Start(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running[name] != nil {
		return nil
	}
	w := Connector(c.node.Temporal, name, c.provision)
	if err := w.Start(); err != nil {
		return fmt.Errorf("starting connector %s: %w", name, err)
	}
	c.node.Log.Info("connector started", "connector", name)
	c.running[name] = w
	return nil
}

// Stop ends what is under way and closes the connections to the targets.
func (c *Connectors) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, w := range c.running {
		w.Stop()
		delete(c.running, name)
	}
	c.provision.Close()
}

// Applied brings Temporal in line with the configuration in the store: the
// schedules of every integration, and at once a sweep and a discovery of each,
// so that nothing that was lost has to wait; and the same for the automatic
// access flows. It returns the connectors that are
// needed: an integration that was removed keeps its connector and its sweep
// until nothing is held on it any more.
func (n *Node) Applied(ctx context.Context) (connectors []string, err error) {
	all, err := n.Store.Integrations(ctx)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, in := range all {
		left, err := n.Store.AccountsOf(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		use := engine.Use{Sweep: !in.Removed || len(left) > 0 || in.Removal.Running(), Discover: !in.Removed, Rotate: !in.Removed && in.CredentialRotationDays+in.SecretRotationDays > 0}
		errs = append(errs, engine.EnsureSchedules(ctx, n.Temporal, in, use))
		if in.Removal.Running() {
			errs = append(errs, engine.StartRemoval(ctx, n.Temporal, in.ID))
		}
		if use.Sweep {
			connectors = append(connectors, in.Connector)
			_, err := engine.StartSweep(ctx, n.Temporal, access.SweepArgs{Integration: in.ID})
			errs = append(errs, err)
		}
		if use.Discover {
			_, err := engine.StartDiscovery(ctx, n.Temporal, in.ID)
			errs = append(errs, err)
		}
	}
	errs = append(errs, n.automatic(ctx))
	slices.Sort(connectors)
	return slices.Compact(connectors), errors.Join(errs...)
}

// automatic looks at the automatic access flows at once and by schedule, as long
// as there are some, or access by one.
func (n *Node) automatic(ctx context.Context) error {
	_, cfg, err := n.Store.Config(ctx)
	if err != nil {
		return err
	}
	leased, err := n.Store.Leased(ctx)
	if err != nil {
		return err
	}
	use := leased || access.HasAutomatic(cfg.AccessFlows)
	err = engine.EnsureAutomatic(ctx, n.Temporal, use)
	if use {
		err = errors.Join(err, engine.StartAutomatic(ctx, n.Temporal))
	}
	return err
}
