// Command lapse-dev runs all of Lapse on one machine and in one process: a
// Temporal server on a SQLite file, its Web UI, the portal and the workers. It
// adds a PostgreSQL database to try Lapse on, unless a lapse.yaml of one's own is
// given.
//
// Everything that lasts is in one folder. A process that was stopped, or killed,
// goes on where it was at the next start.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/lapse-access/lapse/internal/datadir"
	"github.com/lapse-access/lapse/internal/engine"
	"github.com/lapse-access/lapse/portal"
	"github.com/lapse-access/lapse/starter/dev/embedded"
)

// namespace is Temporal's namespace for all workflows of Lapse.
const namespace = "default"

// defaultPortal is where the lapse command looks for the portal.
const defaultPortal = "127.0.0.1:8080"

// settings come from the command line and the environment.
type settings struct {
	data     string // folder of everything that lasts
	restored bool   // it was restored from a backup
	file     string // the lapse.yaml to apply; empty: the demonstration
	portal   string // address of the portal
	temporal string // address of Temporal's gRPC API
	ui       string // address of Temporal's Web UI
	database string // address of the demonstration database
}

func main() {
	s := parse(os.Args[1:])
	if err := run(s); err != nil {
		fmt.Fprintln(os.Stderr, "lapse-dev:", err)
		os.Exit(1)
	}
}

func parse(args []string) settings {
	s := settings{
		portal:   environment("LAPSE_PORTAL", defaultPortal),
		temporal: environment("LAPSE_TEMPORAL", "127.0.0.1:7233"),
		ui:       environment("LAPSE_TEMPORAL_UI", "127.0.0.1:8233"),
		database: environment("LAPSE_DEMO_POSTGRESQL", "127.0.0.1:54329"),
	}
	flags := flag.NewFlagSet("lapse-dev", flag.ExitOnError)
	flags.StringVar(&s.data, "data", environment("LAPSE_DATA", "lapse-data"), "`folder` of everything that lasts ($LAPSE_DATA)")
	flags.BoolVar(&s.restored, "restored", false, "the folder was restored from a copy: change nothing on a target before lapse restore accept")
	flags.StringVar(&s.file, "f", "", "apply this lapse.yaml instead of the demonstration")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "lapse-dev runs all of Lapse on this machine, with a database to try it on.")
		flags.PrintDefaults()
		fmt.Fprintln(flags.Output(), "Addresses: LAPSE_PORTAL, LAPSE_TEMPORAL, LAPSE_TEMPORAL_UI, LAPSE_DEMO_POSTGRESQL.")
	}
	flags.Parse(args)
	if flags.NArg() > 0 {
		fmt.Fprintf(flags.Output(), "lapse-dev: what is %q? It takes flags only.\n", flags.Arg(0))
		flags.Usage()
		os.Exit(2)
	}
	return s
}

func environment(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

// run starts the parts one after the other and stops them in reverse order when
// the process is asked to end. A second Ctrl-C ends it at once.
func run(s settings) error {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	context.AfterFunc(ctx, cancel) // from now on a signal ends the process

	release, err := datadir.Claim(s.data, true)
	if err != nil {
		return err
	}
	defer release()

	stop, err := start(ctx, s)
	defer stop()
	if err != nil {
		if ctx.Err() != nil { // it was asked to end before it was up
			return nil
		}
		return err
	}
	<-ctx.Done()
	fmt.Println("\nStopping. Ctrl-C again ends it at once.")
	return nil
}

// start starts everything. The function that it returns stops what was started,
// also after an error.
func start(ctx context.Context, s settings) (stop func(), err error) {
	var stops []func()
	stop = func() {
		for i := len(stops) - 1; i >= 0; i-- {
			stops[i]()
		}
	}

	var demo *demonstration
	if s.file == "" {
		if demo, err = startDemonstration(ctx, s); err != nil {
			return stop, err
		}
		stops = append(stops, demo.stop)
	}

	temporal, err := embedded.Start(ctx, embedded.Options{
		File:             filepath.Join(s.data, datadir.Temporal),
		Frontend:         s.temporal,
		UI:               s.ui,
		UIPath:           portal.UIPath,
		Namespace:        namespace,
		SearchAttributes: engine.SearchAttributes(),
		CodecEndpoint:    portal.CodecPath,
	})
	if err != nil {
		return stop, err
	}
	stops = append(stops, temporal.Stop)

	stopLapse, err := startLapse(ctx, s, demo)
	if err != nil {
		return stop, err
	}
	stops = append(stops, stopLapse)

	printAddresses(s, demo)
	return stop, nil
}

func printAddresses(s settings, demo *demonstration) {
	fmt.Printf("\nLapse is up.\n\n")
	fmt.Printf("  Portal             http://%s\n", s.portal)
	fmt.Printf("  Temporal Web UI    http://%s%s/ (for administrators)\n", s.portal, portal.UIPath)
	fmt.Printf("  Temporal           %s\n", s.temporal)
	if demo != nil {
		fmt.Printf("  Database to try    %s at %s\n", demo.version, demo.address)
	}
	fmt.Printf("  Data               %s\n\n", s.data)
	if demo != nil {
		printNext(s)
	}
	fmt.Println("Ctrl-C stops everything; the next start goes on where it was.")
}

// printNext prints the first commands for the demonstration, as they can be
// pasted into another terminal.
func printNext(s settings) {
	// The command line is built beside this program.
	lapse := strings.TrimSuffix(os.Args[0], filepath.Base(os.Args[0])) + "lapse"
	fmt.Println("What to do next, in another terminal in this folder (ID is what the first command prints):")
	fmt.Println()
	if s.portal != defaultPortal {
		fmt.Printf("  export LAPSE_URL=http://%s\n", s.portal)
	}
	fmt.Printf("  LAPSE_AS=ana@example.com %s request --integration demo-pg --resource schema:shop/public --permission read_only --for 2m --reason \"a look at the orders\"\n", lapse)
	fmt.Printf("  LAPSE_AS=dan@example.com %s approve ID\n", lapse)
	fmt.Printf("  LAPSE_AS=ana@example.com %s credentials ID\n\n", lapse)
}
