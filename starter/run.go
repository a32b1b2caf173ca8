package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/spf13/cobra"

	"github.com/lapse-access/lapse/integrations/all"
	"github.com/lapse-access/lapse/internal/datadir"
	"github.com/lapse-access/lapse/internal/engine"
	"github.com/lapse-access/lapse/internal/keys"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/portal"
	"github.com/lapse-access/lapse/workers"
)

// defaultData is the folder of everything that lasts, where none is named.
const defaultData = "lapse-data"

// part is what portal and worker have in common.
type part struct {
	data, temporal, namespace string
	log                       *slog.Logger
}

func (a *app) part(cmd *cobra.Command) *part {
	p := &part{log: slog.New(slog.NewTextHandler(a.err, nil))}
	f := cmd.Flags()
	f.StringVar(&p.data, "data", cmp.Or(a.getenv("LAPSE_DATA"), defaultData), "`folder` of everything that lasts ($LAPSE_DATA)")
	f.StringVar(&p.temporal, "temporal", cmp.Or(a.getenv("LAPSE_TEMPORAL"), "127.0.0.1:7233"), "`address` of Temporal ($LAPSE_TEMPORAL)")
	f.StringVar(&p.namespace, "namespace", "default", "`namespace` in Temporal")
	return p
}

// node opens the store and makes a client of Temporal.
func (p *part) node(ctx context.Context, codec []keys.Codec) (n *workers.Node, closed func(), err error) {
	release, err := datadir.Claim(p.data, false)
	if err != nil {
		return nil, nil, err
	}
	st, err := store.Open(ctx, filepath.Join(p.data, datadir.Store))
	if err != nil {
		return nil, nil, errors.Join(err, release())
	}
	temporal, err := engine.Connect(engine.Options{Address: p.temporal, Namespace: p.namespace, Codec: codec, Log: p.log})
	if err != nil {
		return nil, nil, errors.Join(err, st.Close(), release())
	}
	closed = func() {
		temporal.Close()
		if err := errors.Join(st.Close(), release()); err != nil {
			p.log.Error("closing the store", "error", err)
		}
	}
	return &workers.Node{Store: st, Temporal: temporal, Kinds: all.Kinds(), Secrets: p.data, Log: p.log}, closed, nil
}

func (p *part) keys() string { return filepath.Join(p.data, datadir.Keys) }

func (a *app) portalCommand() *cobra.Command {
	var dev, published bool
	var addr, ui, metrics string
	cmd := &cobra.Command{Use: "portal", Short: "Serve the pages and the API", Args: cobra.NoArgs}
	p := a.part(cmd)
	f := cmd.Flags()
	f.StringVar(&addr, "listen", cmp.Or(a.getenv("LAPSE_PORTAL"), "127.0.0.1:8080"), "`address` to listen on ($LAPSE_PORTAL)")
	f.StringVar(&ui, "temporal-ui", cmp.Or(a.getenv("LAPSE_TEMPORAL_UI"), "127.0.0.1:8233"), "`address` of Temporal's Web UI, which is served to administrators below "+portal.UIPath+" ($LAPSE_TEMPORAL_UI)")
	f.StringVar(&metrics, "metrics", a.getenv("LAPSE_METRICS"), "`address` on which "+portal.MetricsPath+" is served for Prometheus, such as 127.0.0.1:9464; none by default ($LAPSE_METRICS)")
	f.BoolVar(&dev, "dev", false, "let everybody on this machine say who they are; there is no other sign-in yet")
	f.BoolVar(&published, "published", false, "with --dev, in a container: listen on any address, because the port is published on 127.0.0.1 only")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		ring, err := keys.Open(p.keys(), false)
		if err != nil {
			return starting(err)
		}
		node, closed, err := p.node(ctx, ring.Codec)
		if err != nil {
			return starting(err)
		}
		defer closed()
		served, err := portal.New(portal.Options{
			Store: node.Store, Keys: ring, Temporal: node.Temporal, Kinds: node.Kinds, Dev: dev, Published: published, Token: a.getenv("LAPSE_TOKEN"), UI: "http://" + ui, Namespace: p.namespace, Log: p.log,
			OnApply:       func(ctx context.Context) error { _, err := node.Applied(ctx); return err },
			AcceptRestore: node.Control(ring).AcceptRestore,
		})
		if err != nil {
			return starting(err)
		}
		stop, err := portal.Listen(addr, served)
		if err != nil {
			return starting(err)
		}
		defer stop()
		stopMetrics, err := portal.ListenMetrics(metrics, a.getenv("LAPSE_METRICS_TOKEN"), node.Store, p.log)
		if err != nil {
			return starting(err)
		}
		defer stopMetrics()
		p.log.Info("the portal listens", "address", "http://"+addr)
		<-ctx.Done()
		return nil
	}
	return cmd
}

func (a *app) workerCommand() *cobra.Command {
	var connector string
	var restored bool
	cmd := &cobra.Command{
		Use: "worker", Short: "Run the workflows, or with --connector what talks to the targets", Args: cobra.NoArgs,
	}
	p := a.part(cmd)
	cmd.Flags().StringVar(&connector, "connector", "", "poll for the connector with this `name` instead of running workflows")
	cmd.Flags().BoolVar(&restored, "restored", false, "the store or Temporal was restored from a backup: change nothing on a target before lapse restore accept")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if connector != "" {
			return p.connect(cmd.Context(), connector)
		}
		return p.control(cmd.Context(), restored)
	}
	return cmd
}

// starting is the failure of a part that does not come up. Its causes say
// themselves what to do.
func starting(err error) error { return &failure{Text: err.Error()} }

// connect is a connector.
func (p *part) connect(ctx context.Context, name string) error {
	ring, err := keys.OpenConnector(p.keys())
	if err != nil {
		return starting(err)
	}
	node, closed, err := p.node(ctx, ring.Codec)
	if err != nil {
		return starting(err)
	}
	defer closed()
	c := node.Connectors(ring)
	if err := c.Start(name); err != nil {
		return starting(err)
	}
	defer c.Stop()
	<-ctx.Done()
	return nil
}

// control runs the workflows and what they do beside the store.
func (p *part) control(ctx context.Context, restored bool) error {
	ring, err := keys.Open(p.keys(), false)
	if err != nil {
		return starting(err)
	}
	node, closed, err := p.node(ctx, ring.Codec)
	if err != nil {
		return starting(err)
	}
	defer closed()
	if err := engine.EnsureSearchAttributes(ctx, node.Temporal, p.namespace); err != nil {
		return starting(err)
	}
	control := node.Control(ring)
	if err := node.Begin(ctx, control, restored); err != nil {
		return starting(err)
	}
	w := workers.Control(node.Temporal, control)
	if err := w.Start(); err != nil {
		return starting(err)
	}
	defer w.Stop()
	if _, _, err := node.Store.Config(ctx); err == nil {
		if _, err := node.Applied(ctx); err != nil {
			return starting(err)
		}
	} else if !errors.Is(err, store.ErrNotFound) {
		return starting(err)
	}
	var notices sync.WaitGroup
	notices.Go(func() { node.Notify(ctx) })
	defer notices.Wait()
	p.log.Info("the worker runs")
	control.KeepRunbook(ctx, p.data)
	return nil
}
