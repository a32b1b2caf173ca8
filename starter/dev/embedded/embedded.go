// Package embedded runs a Temporal server and Temporal's Web UI inside this
// process, with all of their state in one SQLite file.
//
// It is the only package of the project that links the server; everything else
// sees a client.Client and does not know where Temporal runs.
//
// The server has no authentication: whoever reaches it can read, start and end
// every workflow. It therefore listens on loopback addresses only.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/temporalio/ui-server/v2/server"
	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	"github.com/temporalio/ui-server/v2/server/server_options"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/membership/static"
	sqliteplugin "go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/temporal"
)

// retention is how long Temporal keeps the history of a closed workflow. The
// record of what was granted is Lapse's own and does not depend on it.
const retention = 90 * 24 * time.Hour

// clusterName is written into the file at its first start and cannot change.
const clusterName = "active"

// Options say what to run. All fields without a remark are required.
type Options struct {
	File      string // SQLite file; it is made when missing and upgraded when it is of an older server
	Frontend  string // address of the gRPC API, for example 127.0.0.1:7233
	UI        string // address of the Web UI, for example 127.0.0.1:8233; empty: no Web UI
	Namespace string // is made when missing

	// SearchAttributes are the namespace's custom search attributes. Those that
	// are missing in the file are added; none is ever removed.
	SearchAttributes map[string]enumspb.IndexedValueType

	// UIPath is the path below which the Web UI is found, for a proxy before it,
	// for example /temporal. Empty: it is found at /.
	UIPath string

	// CodecEndpoint is the URL with which the Web UI decodes payloads, with the
	// reader's cookies. Empty: payloads are shown as they are.
	CodecEndpoint string

	// Logger takes the server's warnings and errors; nil is slog.Default.
	Logger *slog.Logger
}

// Server is a running Temporal server.
type Server struct {
	temporal temporal.Server
	ui       *server.Server // nil without a Web UI
	uiDone   chan struct{}
	log      *logger
	stop     sync.Once
}

// Start returns when the server serves its API and knows the namespace with all
// of its search attributes, and the Web UI answers. Whatever ran when the process
// before this one ended, or was killed, goes on.
func Start(ctx context.Context, o Options) (*Server, error) {
	s, err := start(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("start the Temporal server: %w", err)
	}
	return s, nil
}

func start(ctx context.Context, o Options) (*Server, error) {
	frontend, err := listenAddress(o.Frontend, "LAPSE_TEMPORAL")
	if err != nil {
		return nil, err
	}
	var ui *net.TCPAddr
	if o.UI != "" {
		if ui, err = listenAddress(o.UI, "LAPSE_TEMPORAL_UI"); err != nil {
			return nil, err
		}
	}
	log := newLogger(o.Logger)

	cfg, hosts, err := serverConfig(o.File, frontend)
	if err != nil {
		return nil, err
	}
	if err := prepareFile(o, log); err != nil {
		return nil, err
	}
	authorizer, err := authorization.GetAuthorizerFromConfig(&cfg.Global.Authorization)
	if err != nil {
		return nil, err
	}
	claims, err := authorization.GetClaimMapperFromConfig(&cfg.Global.Authorization, log)
	if err != nil {
		return nil, err
	}
	engine, err := temporal.NewServer(
		temporal.WithConfig(cfg),
		temporal.ForServices(temporal.DefaultServices),
		temporal.WithStaticHosts(hosts),
		temporal.WithLogger(log),
		temporal.WithAuthorizer(authorizer),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper { return claims }),
		temporal.WithDynamicConfigClient(limits),
	)
	if err != nil {
		return nil, err
	}
	if err := engine.Start(); err != nil {
		return nil, err
	}
	s := &Server{temporal: engine, log: log}
	if err = addSearchAttributes(ctx, o, log); err == nil && ui != nil {
		err = s.startUI(ctx, o, ui)
	}
	if err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// Stop ends the Web UI and the server. Workflows that run go on at the next
// Start. Stopping again does nothing.
func (s *Server) Stop() {
	s.stop.Do(func() {
		s.log.quiet.Store(true) // requests that are cut off are no news now
		if s.ui != nil {
			s.ui.Stop()
			<-s.uiDone
		}
		if err := s.temporal.Stop(); err != nil {
			s.log.slog.Error("stop the Temporal server", "error", err)
		}
	})
}

// limits are the server's dynamic settings that a single busy process needs.
var limits = dynamicconfig.StaticClient{
	// A search attribute is known as soon as it was added.
	dynamicconfig.MakeKey("system.forceSearchAttributesCacheRefreshOnRead"): true,
	// The default of 10 lists a second is used up by one page of the portal.
	dynamicconfig.MakeKey("frontend.namespaceRPS.visibility"): 100,
	// One SQLite file needs no protection from its only user.
	dynamicconfig.MakeKey("frontend.persistenceMaxQPS"): 10000,
	dynamicconfig.MakeKey("history.persistenceMaxQPS"):  45000,
}

// serverConfig describes the four roles of a server as one process on one host.
func serverConfig(file string, frontend *net.TCPAddr) (*config.Config, map[primitives.ServiceName]static.Hosts, error) {
	c := &config.Config{
		Global: config.Global{Membership: config.Membership{
			MaxJoinDuration:  30 * time.Second,
			BroadcastAddress: frontend.IP.String(),
		}},
		Persistence: config.Persistence{
			DefaultStore:     sqliteplugin.PluginName,
			VisibilityStore:  sqliteplugin.PluginName,
			NumHistoryShards: 1, // fixed for the life of the file
			DataStores:       map[string]config.DataStore{sqliteplugin.PluginName: {SQL: sqlConfig(file)}},
		},
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10,
			MasterClusterName:        clusterName,
			CurrentClusterName:       clusterName,
			ClusterInformation: map[string]cluster.ClusterInformation{clusterName: {
				Enabled:                true,
				InitialFailoverVersion: 1,
				RPCAddress:             frontend.String(),
			}},
		},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		PublicClient:        config.PublicClient{HostPort: frontend.String()},
		Archival: config.Archival{
			History:    config.HistoryArchival{State: config.ArchivalDisabled},
			Visibility: config.VisibilityArchival{State: config.ArchivalDisabled},
		},
		NamespaceDefaults: config.NamespaceDefaults{Archival: config.ArchivalNamespaceDefaults{
			History:    config.HistoryArchivalNamespaceDefaults{State: config.ArchivalDisabled},
			Visibility: config.VisibilityArchivalNamespaceDefaults{State: config.ArchivalDisabled},
		}},
		Services: map[string]config.Service{},
	}

	internal, err := freePorts(frontend.IP, 3)
	if err != nil {
		return nil, nil, err
	}
	hosts := map[primitives.ServiceName]static.Hosts{}
	for role, port := range map[primitives.ServiceName]int{
		primitives.FrontendService: frontend.Port,
		primitives.HistoryService:  internal[0],
		primitives.MatchingService: internal[1],
		primitives.WorkerService:   internal[2],
	} {
		c.Services[string(role)] = config.Service{RPC: config.RPC{BindOnIP: frontend.IP.String(), GRPCPort: port}}
		hosts[role] = static.SingleLocalHost(net.JoinHostPort(frontend.IP.String(), strconv.Itoa(port)))
	}
	return c, hosts, nil
}

func (s *Server) startUI(ctx context.Context, o Options, address *net.TCPAddr) error {
	s.ui = server.NewServer(server_options.WithConfigProvider(&uiconfig.Config{
		Host:                address.IP.String(),
		Port:                address.Port,
		TemporalGRPCAddress: o.Frontend,
		DefaultNamespace:    o.Namespace,
		EnableUI:            true,
		PublicPath:          o.UIPath,
		DisableWriteActions: true,
		DisableNewsFetch:    true,
		HideLogs:            true,
		CORS:                uiconfig.CORS{CookieInsecure: true},
		Codec: uiconfig.Codec{
			Endpoint:            o.CodecEndpoint,
			IncludeCredentials:  o.CodecEndpoint != "",
			DefaultErrorMessage: "This payload is encrypted. Sign in to Lapse with the right to read it, then load this page again.",
		},
	}))
	s.uiDone = make(chan struct{})
	go func() {
		defer close(s.uiDone)
		s.ui.Start()
	}()
	return dialUntilOpen(ctx, address.String())
}

// dialUntilOpen returns when something listens at address.
func dialUntilOpen(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the Web UI does not listen on %s: %w", address, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// listenAddress resolves an address and makes sure that a server may and can
// listen on it: a server that finds its port taken would end the whole process.
// The error names the environment variable with which lapse-dev is told another.
func listenAddress(address, variable string) (*net.TCPAddr, error) {
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s=%s is not an address like 127.0.0.1:7233: %w", variable, address, err)
	}
	if !a.IP.IsLoopback() {
		return nil, fmt.Errorf("%s=%s is refused: the embedded Temporal server has no authentication and listens on this machine's loopback address only, for example 127.0.0.1:%d", variable, address, a.Port)
	}
	l, err := net.ListenTCP("tcp", a)
	if err != nil {
		return nil, fmt.Errorf("port %d is not free (%w): stop what listens there, or set %s to another address", a.Port, errors.Unwrap(err), variable)
	}
	return l.Addr().(*net.TCPAddr), l.Close()
}

// freePorts returns n different ports that nobody listens on.
func freePorts(ip net.IP, n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: ip})
		if err != nil {
			return nil, err
		}
		defer l.Close() // after all are chosen, so that they differ
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}
