package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/all"
	"github.com/lapse-access/lapse/internal/datadir"
	"github.com/lapse-access/lapse/internal/engine"
	"github.com/lapse-access/lapse/internal/keys"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/portal"
	"github.com/lapse-access/lapse/workers"
)

// lapse is what runs beside the Temporal server: the store, the control worker,
// every connector, and the portal.
type lapse struct {
	kinds      integrations.Registry
	log        *slog.Logger
	node       *workers.Node
	connectors *workers.Connectors
	portal     *portal.Portal
	stops      []func()
}

// startLapse starts the portal and the workers on the Temporal server at
// s.temporal, applies s.file, or the demonstration's configuration when demo is
// not nil, and returns when the portal listens.
func startLapse(ctx context.Context, s settings, demo *demonstration) (stop func(), err error) {
	l := &lapse{kinds: all.Kinds(), log: slog.Default()}
	if err := l.start(ctx, s, demo); err != nil {
		l.stop()
		return func() {}, err
	}
	return l.stop, nil
}

func (l *lapse) stop() {
	for i := len(l.stops) - 1; i >= 0; i-- {
		l.stops[i]()
	}
}

func (l *lapse) start(ctx context.Context, s settings, demo *demonstration) error {
	ring, err := keys.Open(filepath.Join(s.data, datadir.Keys), true)
	if err != nil {
		return err
	}
	st, err := store.Open(ctx, filepath.Join(s.data, datadir.Store))
	if err != nil {
		return err
	}
	l.stops = append(l.stops, func() { st.Close() })
	temporal, err := engine.Connect(engine.Options{Address: s.temporal, Namespace: namespace, Codec: ring.Codec, Log: l.log})
	if err != nil {
		return err
	}
	l.stops = append(l.stops, temporal.Close)

	l.node = &workers.Node{Store: st, Temporal: temporal, Kinds: l.kinds, Secrets: s.data, Log: l.log}
	control := l.node.Control(ring)
	l.connectors = l.node.Connectors(&ring.Connector)
	l.portal, err = portal.New(portal.Options{
		Store: st, Keys: ring, Temporal: temporal, Kinds: l.node.Kinds, Dev: true, Token: os.Getenv("LAPSE_TOKEN"),
		UI: "http://" + s.ui, Namespace: namespace, Log: l.log, OnApply: l.applied, AcceptRestore: control.AcceptRestore,
	})
	if err != nil {
		return err
	}
	if err := l.node.Begin(ctx, control, s.restored); err != nil {
		return err
	}
	worker := workers.Control(temporal, control)
	if err := worker.Start(); err != nil {
		return fmt.Errorf("starting the control worker: %w", err)
	}
	l.stops = append(l.stops, worker.Stop, l.connectors.Stop)
	if err := l.apply(ctx, s, demo); err != nil {
		return err
	}
	keeping, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var beside sync.WaitGroup
	beside.Go(func() { control.KeepRunbook(keeping, s.data) })
	beside.Go(func() { l.node.Notify(keeping) })
	l.stops = append(l.stops, func() { cancel(); beside.Wait() })
	if err := l.firstCatalog(ctx); err != nil {
		return err
	}
	stop, err := portal.Listen(s.portal, l.portal)
	if err != nil {
		return err
	}
	l.stops = append(l.stops, stop)
	stop, err = portal.ListenMetrics(os.Getenv("LAPSE_METRICS"), os.Getenv("LAPSE_METRICS_TOKEN"), st, l.log)
	if err != nil {
		return err
	}
	l.stops = append(l.stops, stop)
	return nil
}

// apply puts the configuration into force before anybody can ask for anything:
// the file that was named, else the demonstration's.
func (l *lapse) apply(ctx context.Context, s settings, demo *demonstration) error {
	var source []byte
	var err error
	file := s.file
	if demo != nil {
		file = "demo/lapse.yaml"
		source, err = demo.configuration()
	} else {
		source, err = os.ReadFile(file)
	}
	if err != nil {
		return err
	}
	applied, err := l.portal.Apply(ctx, file, source)
	if err != nil {
		return fmt.Errorf("%s was not applied: %w", file, err)
	}
	for _, w := range applied.Warnings {
		l.log.Warn(w.String())
	}
	return nil
}

// applied brings Temporal in line with the configuration, and starts the
// connectors that it needs.
func (l *lapse) applied(ctx context.Context) error {
	connectors, err := l.node.Applied(ctx)
	for _, name := range connectors {
		err = errors.Join(err, l.connectors.Start(name))
	}
	return err
}

// catalogTimeout is how long the start waits for the first discovery: a target
// that does not answer must not keep the portal from listening.
const catalogTimeout = 10 * time.Second

// firstCatalog waits until there is something to ask for, on integrations of
// which nothing is known yet.
func (l *lapse) firstCatalog(ctx context.Context) error {
	all, err := l.node.Store.Integrations(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, catalogTimeout)
	defer cancel()
	for _, in := range all {
		known, err := l.node.Store.Resources(ctx, store.ResourceFilter{Integration: in.ID, Limit: 1})
		if err != nil || in.Removed || len(known) > 0 {
			continue
		}
		run, err := engine.StartDiscovery(ctx, l.node.Temporal, in.ID)
		if err == nil {
			err = run.Get(ctx, nil)
		}
		if err != nil {
			l.node.Log.Warn("the catalog is not read yet", "integration", in.Name, "error", err)
		}
	}
	return nil
}
