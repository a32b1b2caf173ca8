package portal

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/store"
)

// MetricsPath is where the numbers are, on a listener of their own.
const MetricsPath = "/metrics"

// metricsTimeout bounds the reading of the store for one scrape.
const metricsTimeout = 10 * time.Second

// numbers are what the store says of every integration, as metrics. They name
// integrations and sorts of findings, never a person.
type numbers struct {
	store *store.Store
	log   *slog.Logger
}

func metric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("lapse_"+name, help, labels, nil)
}

var (
	findingsMetric   = metric("findings", "Findings of the newest sweep.", "integration", "kind", "sort", "severity")
	sweepAgeMetric   = metric("sweep_age_seconds", "Time since the newest sweep that ended.", "integration", "kind")
	openMetric       = metric("open_holds", "Holds that may have access now.", "integration", "kind")
	overdueMetric    = metric("overdue_holds", "Holds past their end that are not proven gone.", "integration", "kind")
	overdueAgeMetric = metric("overdue_age_seconds", "Time since the earliest end of an overdue hold; 0 where there is none.", "integration", "kind")
	reportOnlyMetric = metric("report_only", "1 after a restore that nobody has accepted: nothing is repaired.")
)

// Describe names the metrics.
func (n numbers) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{findingsMetric, sweepAgeMetric, openMetric, overdueMetric, overdueAgeMetric, reportOnlyMetric} {
		out <- d
	}
}

// Collect reads the store: a few statements, however much is in it.
func (n numbers) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), metricsTimeout)
	defer cancel()
	if err := n.collect(ctx, out); err != nil {
		n.log.Error("reading the store for the metrics", "error", err)
		out <- prometheus.NewInvalidMetric(reportOnlyMetric, err)
	}
}

func (n numbers) collect(ctx context.Context, out chan<- prometheus.Metric) error {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	why, err := n.store.ReportOnly(ctx)
	if err != nil {
		return err
	}
	integrations, err := n.store.Integrations(ctx)
	if err != nil {
		return err
	}
	sweeps, err := n.store.Sweeps(ctx)
	if err != nil {
		return err
	}
	holds, err := n.store.HoldCounts(ctx, access.OverdueAfter)
	if err != nil {
		return err
	}
	restored := 0.0
	if why != "" {
		restored = 1
	}
	gauge(reportOnlyMetric, restored)
	now := n.store.Now()
	for _, in := range integrations {
		open, swept := holds[in.ID], sweeps[in.ID]
		if in.Removed && open.Open == 0 {
			continue
		}
		gauge(openMetric, float64(open.Open), in.Name, in.Kind)
		gauge(overdueMetric, float64(open.Overdue), in.Name, in.Kind)
		age := 0.0
		if open.Overdue > 0 {
			age = now.Sub(open.Earliest).Seconds()
		}
		gauge(overdueAgeMetric, age, in.Name, in.Kind)
		if swept.At.IsZero() {
			continue
		}
		gauge(sweepAgeMetric, now.Sub(swept.At).Seconds(), in.Name, in.Kind)
		found := map[access.FindingKind]int{}
		for _, f := range swept.Findings {
			found[f.Kind]++
		}
		for _, s := range access.FindingSorts {
			gauge(findingsMetric, float64(found[s.Kind]), in.Name, in.Kind, string(s.Kind), string(s.Severity))
		}
	}
	return nil
}

// Metrics serves the numbers as Prometheus reads them. Where a token is given, a
// caller has to bring it.
func Metrics(st *store.Store, token string, log *slog.Logger) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(numbers{st, log}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	serve := promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError, MaxRequestsInFlight: 2, Timeout: 2 * metricsTimeout})
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+MetricsPath, func(w http.ResponseWriter, r *http.Request) {
		if token != "" && subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte("Bearer "+token)) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "the token of the metrics is needed", http.StatusUnauthorized)
			return
		}
		serve.ServeHTTP(w, r)
	})
	return mux
}

// ListenMetrics serves the numbers on an address of their own until stop is
// called; "" is none. Without a token it must be a loopback address.
func ListenMetrics(addr, token string, st *store.Store, log *slog.Logger) (stop func(), err error) {
	if addr == "" {
		return func() {}, nil
	}
	if token == "" && !loopback(addr) {
		return nil, fmt.Errorf("metrics %s: without a token they are served on loopback only: use 127.0.0.1:9464, or set LAPSE_METRICS_TOKEN", addr)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w (LAPSE_METRICS chooses another address)", err)
	}
	return serve(l, Metrics(st, token, log), log), nil
}

// serve serves on a listener until stop is called.
func serve(l net.Listener, h http.Handler, log *slog.Logger) (stop func()) {
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the portal stopped serving", "address", l.Addr(), "error", err)
		}
	}()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			server.Close()
		}
	}
}
