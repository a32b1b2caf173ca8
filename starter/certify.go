package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/describe"
	"github.com/lapse-access/lapse/internal/secrets"
	"github.com/lapse-access/lapse/internal/spec"
)

const (
	// canaryInstance stands in the mark of all that a certification makes, where
	// a Lapse has its own id: neither takes the other's accounts for its own.
	canaryInstance = "lapse-certify"
	// canaryDomain can belong to nobody: RFC 2606.
	canaryDomain = "@lapse.invalid"
	// lastSequence comes after all that a case does with an account.
	lastSequence = 1 << 20

	// cleanLimit bounds the taking away of canaries, cleanTries says how often it
	// is tried, with a pause between: a session that was just left needs a moment.
	cleanLimit = 2 * time.Minute
	cleanTries = 5
	cleanPause = time.Second
)

// certified is what the suite found on somebody's own target.
type certified struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"` // of the integration
	Server string `json:"server"`
	// Witness is false where nobody looked but the integration itself.
	Witness  bool            `json:"witness"`
	Cases    int             `json:"cases"`
	Passed   int             `json:"passed"`
	Failed   int             `json:"failed"`
	Skipped  []describe.Skip `json:"skipped"`
	Findings []finding       `json:"findings"`
	// Left is what could not be taken away again.
	Left []string `json:"left"`
}

// finding is what a case that failed found.
type finding struct {
	Case  string   `json:"case"`
	Found []string `json:"found"`
}

func (a *app) certifyCommand(kinds integrations.Registry) *cobra.Command {
	var file, data string
	var want []string
	var every, sure, clean bool
	cmd := &cobra.Command{
		Use: "certify NAME -f lapse.yaml", Short: "Run the certification suite on an integration's own target",
		Long: `Run the certification suite on an integration's own target.

It runs where the connector's secret can be read, and needs neither the portal
nor Temporal. It makes accounts of people who do not exist, gives them access,
looks what they can do, takes it away again and deletes them. It does not write
into what they get access to. Without --want it takes two resources on which it
can give the weakest permission, and says which before it begins.

What it found is on standard output, also when a case failed.`,
		Example: `  lapse certify prod-pg -f lapse.yaml
  lapse certify prod-pg -f lapse.yaml --want schema:shop/public:read_only --want table:lake/raw/events:read_only
  lapse certify prod-pg -f lapse.yaml --clean`,
		Args: exactly("the name of one integration in the file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := newCertifier(cmd.Context(), kinds, file, data, args[0])
			if err != nil {
				return err
			}
			defer c.close()
			c.cleanCommand = fmt.Sprintf("lapse certify %s -f %s --clean", args[0], file)
			if cmd.Flags().Changed("data") {
				c.cleanCommand += " --data " + data
			}
			if clean {
				return a.cleanCanaries(cmd.Context(), c)
			}
			if err := c.prepare(cmd.Context(), want, every); err != nil {
				return err
			}
			c.plan(a.err)
			if err := a.confirm(cmd, sure); err != nil {
				return err
			}
			return a.certify(cmd.Context(), c)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&file, "file", "f", "", "the configuration `file`; - is standard input")
	f.StringVar(&data, "data", cmp.Or(a.getenv("LAPSE_DATA"), defaultData), "`folder` at which relative paths of secrets begin ($LAPSE_DATA)")
	f.StringArrayVar(&want, "want", nil, "`TYPE:NAME:PERMISSION` to try it with, on two resources that have nothing to do with each other")
	f.BoolVar(&every, "all-permissions", false, "also give the stronger permissions on the first resource")
	f.BoolVar(&sure, "yes", false, "begin without a question")
	f.BoolVar(&clean, "clean", false, "only take away what an earlier run left behind")
	require(cmd, "file")
	return cmd
}

// confirm asks, unless somebody is sure.
func (a *app) confirm(cmd *cobra.Command, sure bool) error {
	no := &failure{Text: "nothing was begun", Hint: "--yes begins without a question"}
	if sure {
		return nil
	}
	in := cmd.InOrStdin()
	if f, ok := in.(*os.File); ok {
		if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
			return no // nobody is there to answer
		}
	}
	fmt.Fprint(a.err, "Begin? [y/N] ")
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(in).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case s := <-answer:
		if s == "y" || s == "yes" {
			return nil
		}
	case <-cmd.Context().Done():
	}
	return no
}

// certify runs the suite and tells how each case went.
func (a *app) certify(ctx context.Context, c *certifier) error {
	told := a.out
	if a.json {
		told = a.err
	}
	a.interrupted = "nothing is left on the target of " + c.target.Name
	out := c.run(ctx, func(r integrationtest.Result, f finding) {
		word, rest := "passed", r.Promise
		switch r.Status {
		case integrationtest.Failed:
			word, rest = "FAILED", strings.Join(f.Found, "\n")
		case integrationtest.Skipped:
			word, rest = "left out", r.Reason
		}
		for i, line := range strings.Split(rest, "\n") {
			name := r.Name
			if i > 0 {
				word, name = "", ""
			}
			fmt.Fprintln(told, strings.TrimRight(fmt.Sprintf("%-8s  %-15s  %s", word, name, clean(line)), " "))
		}
	})
	if len(out.Left) > 0 {
		a.interrupted = strings.Join(append([]string{"canaries are left"}, out.Left...), "; ") + "; " + c.cleanCommand
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	err := a.show(out, func(w io.Writer) { summed(w, out) })
	switch {
	case err != nil:
		return err
	case len(out.Left) > 0:
		return &failure{Text: "canaries are left on the target of " + out.Name, Hint: "mend what is said of each, then " + c.cleanCommand}
	case out.Failed > 0:
		return &failure{Text: count(out.Failed, "case") + " failed on " + out.Name, Hint: "what was found is said with each; lapse check " + out.Name + " names rights that are missing"}
	}
	return nil
}

func summed(w io.Writer, out certified) {
	fmt.Fprintf(w, "\n%s, %s: %d of %s passed, %d failed, %d were left out.\n", out.Name, clean(out.Server), out.Passed, count(out.Cases, "case"), out.Failed, len(out.Skipped))
	if !out.Witness {
		fmt.Fprintf(w, "Nobody looked but the integration itself: this proves that %s agrees with itself, and no more.\n", out.Kind)
	}
	if len(out.Left) == 0 {
		fmt.Fprintln(w, "Nothing is left on the target.")
		return
	}
	fmt.Fprintln(w, "Left on the target:")
	for _, l := range out.Left {
		fmt.Fprintln(w, " ", clean(l))
	}
}

// cleanCanaries takes away what an earlier run left.
func (a *app) cleanCanaries(ctx context.Context, c *certifier) error {
	out := struct {
		Name string   `json:"name"`
		Left []string `json:"left"`
	}{c.target.Name, c.clean(ctx, true)}
	if len(out.Left) > 0 {
		return &failure{Text: "canaries are left on the target of " + out.Name + ": " + strings.Join(out.Left, "; "), Hint: "mend what is said of each, then say this again"}
	}
	return a.show(out, func(w io.Writer) { fmt.Fprintf(w, "Nothing of lapse certify is left on the target of %s.\n", out.Name) })
}

// certifier runs the suite on one integration's target.
type certifier struct {
	kind   integrations.Kind
	types  []string // of resources, as configured; all when empty
	target integrations.Target
	integrations.Integration
	witness      integrations.Witness // nil where the kind has none
	server       string
	apart        [2]access.Entitlement
	chains       [][]access.Entitlement
	sequenced    bool
	cleanCommand string
	canaries     []access.Account // made since the last time that all were taken away
}

func newCertifier(ctx context.Context, kinds integrations.Registry, file, data, name string) (*certifier, error) {
	source, err := readFile(file)
	if err != nil {
		return nil, &failure{Text: err.Error(), Hint: "-f names a file that can be read, or - for standard input"}
	}
	cfg, _, err := config.Parse(file, source, kinds)
	if faults, ok := errors.AsType[spec.Faults](err); ok {
		return nil, &failure{Text: file + " has " + count(len(faults), "fault"), Hint: "mend it, and begin again", Faults: faults}
	}
	if err != nil {
		return nil, err
	}
	settings, ok := cfg.Integration(name)
	if !ok {
		var names []string
		for _, i := range cfg.Integrations {
			names = append(names, i.Name)
		}
		return nil, &failure{Text: fmt.Sprintf("there is no integration %s in %s", name, file), Hint: spec.DidYouMean(name, names)}
	}
	c := &certifier{kind: kinds[settings.Kind], types: settings.Discover.Types}
	if err := c.certifiable(); err != nil {
		return nil, err
	}
	c.target = integrations.Target{Instance: canaryInstance, ID: "certify-" + name, Name: name, Secret: c.kind.Secret(), Log: slog.New(slog.DiscardHandler)}
	if c.target.Config, err = settings.Settings(c.kind); err != nil {
		return nil, err
	}
	if err := secrets.New(data).Resolve(ctx, settings.Secret, c.target.Secret); err != nil {
		return nil, &failure{Text: err.Error(), Hint: "certify runs where the connector runs, as somebody who may read its secrets"}
	}
	if c.Integration, err = c.kind.New(c.target); err != nil {
		return nil, &failure{Text: err.Error(), Hint: "lapse integrations describe " + c.kind.Name + " shows the settings"}
	}
	_, keeps := c.Integration.(integrations.Maintainer)
	if _, cleans := c.Integration.(integrations.Cleaner); keeps && !cleans {
		c.Integration.Close()
		return nil, &failure{Text: "the kind " + c.kind.Name + " keeps more on the target than accounts, and cannot take it away yet", Hint: "lapse check says whether the connector has every right"}
	}
	if c.kind.Witness != nil {
		if c.witness, err = c.kind.Witness(c.target); err != nil {
			return nil, errors.Join(err, c.Integration.Close())
		}
	}
	return c, nil
}

// certifiable asks the kind's own certification what it can do at all.
func (c *certifier) certifiable() error {
	own, err := describe.List(integrations.NewRegistry(c.kind))
	if err != nil || own[0].Against == describe.None {
		return &failure{Text: "the kind " + c.kind.Name + " is not certified itself yet", Hint: "lapse integrations lists the kinds and how each is certified"}
	}
	lacks := func(is func(describe.Skip) bool) bool { return slices.ContainsFunc(own[0].Skipped, is) }
	if lacks(func(s describe.Skip) bool { return s.Reason == "needs "+string(integrationtest.Principals) }) {
		return &failure{Text: "on " + c.kind.Title + " Lapse makes no accounts, so there are no people to try it with", Hint: "lapse check says whether the connector has every right"}
	}
	c.sequenced = !lacks(func(s describe.Skip) bool { return s.Reason == "needs "+string(integrationtest.Sequence) })
	return nil
}

func (c *certifier) close() {
	c.Integration.Close()
	if c.witness != nil {
		c.witness.Close()
	}
}

// prepare reads the target and chooses what to try it with.
func (c *certifier) prepare(ctx context.Context, want []string, every bool) error {
	report, err := c.Check(ctx)
	if err != nil {
		return unreadable(c.target.Name, err)
	}
	if c.server = report.Server; c.server == "" {
		f := &failure{Text: "the target of " + c.target.Name + " does not let us in"}
		if i := slices.IndexFunc(report.Items, func(i access.CheckItem) bool { return !i.OK }); i >= 0 {
			f.Text, f.Hint = f.Text+": "+report.Items[i].Detail, report.Items[i].Remedy
		}
		return f
	}
	there, err := c.marked(ctx)
	if err != nil {
		return unreadable(c.target.Name, err)
	}
	if len(there) > 0 {
		return &failure{Text: fmt.Sprintf("%s of an earlier run, or of one that goes on, are on the target of %s: %s", count(len(there), "canary account"), c.target.Name, there[0].Name),
			Hint: "where no other run goes on: " + c.cleanCommand}
	}
	var found []access.Found
	for cursor := ""; ; {
		page, err := c.Discover(ctx, cursor)
		if err != nil {
			return unreadable(c.target.Name, err)
		}
		for _, f := range page.Resources {
			if len(c.types) == 0 || slices.Contains(c.types, f.Resource.Type) {
				found = append(found, f)
			}
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	return c.choose(ctx, found, want, every)
}

// unreadable is the failure of a target that cannot be read.
func unreadable(name string, err error) error {
	return &failure{Text: "the target of " + name + " cannot be read: " + err.Error(), Hint: "lapse check " + name + " says what is missing"}
}

// choose takes two entitlements that have nothing to do with each other, and on
// the first one's resource a chain, as somebody wants it.
func (c *certifier) choose(ctx context.Context, found []access.Found, want []string, every bool) (err error) {
	var first []string // permissions on the first resource
	if len(want) == 0 {
		err = c.pick(ctx, found)
		first = []string{c.apart[0].Permission}
	} else {
		first, err = c.named(ctx, found, want)
	}
	if err != nil {
		return err
	}
	typ, _ := c.kind.Type(c.apart[0].Resource.Type)
	if every {
		i := slices.IndexFunc(found, func(f access.Found) bool { return f.Resource == c.apart[0].Resource })
		first = found[i].Permissions
	}
	var chain []access.Entitlement
	for _, p := range typ.Permissions {
		if slices.Contains(first, p.Name) {
			chain = append(chain, access.Entitlement{Integration: c.target.ID, Resource: c.apart[0].Resource, Permission: p.Name})
		}
	}
	if typ.Ordered && c.witness != nil {
		c.chains = [][]access.Entitlement{chain}
		return nil
	}
	// What Verify says of a weaker permission is each kind's own affair.
	for _, e := range chain {
		c.chains = append(c.chains, []access.Entitlement{e})
	}
	return nil
}

// pick takes the weakest permission on two small resources: a table rather than
// the database that it is in. Where the declaration has no order nobody knows
// which one is weak.
func (c *certifier) pick(ctx context.Context, found []access.Found) error {
	depth := func(f access.Found) int { return strings.Count(f.Resource.Path, "/") }
	found = slices.SortedStableFunc(slices.Values(found), func(a, b access.Found) int { return depth(b) - depth(a) })
	n := 0
	for _, f := range found {
		typ, ok := c.kind.Type(f.Resource.Type)
		if !ok || !typ.Ordered || !slices.Contains(f.Permissions, typ.Permissions[0].Name) || n > 0 && c.related(c.apart[0].Resource, f.Resource) {
			continue
		}
		e := access.Entitlement{Integration: c.target.ID, Resource: f.Resource, Permission: typ.Permissions[0].Name}
		open, err := c.everybody(ctx, e)
		switch {
		case open, access.KindOf(err) == access.ResourceMissing:
			continue
		case err != nil:
			return unreadable(c.target.Name, err)
		}
		c.apart[n] = e
		if n++; n == 2 {
			return nil
		}
	}
	return &failure{Text: "the connector offers no two resources on " + c.target.Name + " that have nothing to do with each other and are not open to everybody",
		Hint: "--want names two; lapse check " + c.target.Name + " names rights that are missing"}
}

// named takes what somebody named, and returns the permissions on the first
// resource.
func (c *certifier) named(ctx context.Context, found []access.Found, want []string) (first []string, err error) {
	var resources []access.Resource
	wanted := map[access.Resource][]string{}
	for _, text := range want {
		e, err := c.parse(ctx, found, text)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(resources, e.Resource) {
			resources = append(resources, e.Resource)
		}
		wanted[e.Resource] = append(wanted[e.Resource], e.Permission)
	}
	if len(resources) != 2 || c.related(resources[0], resources[1]) {
		return nil, &failure{Text: "--want names " + count(len(resources), "resource") + ", and it has to be two that have nothing to do with each other",
			Hint: "for example --want table:shop/public/orders:read_only --want table:shop/public/items:read_only"}
	}
	if len(wanted[resources[1]]) > 1 {
		slices.Reverse(resources)
	}
	if len(wanted[resources[1]]) > 1 {
		return nil, &failure{Text: "--want names several permissions on both resources", Hint: "one of the two has one permission"}
	}
	for n, r := range resources {
		typ, _ := c.kind.Type(r.Type)
		weakest := slices.IndexFunc(typ.Permissions, func(p integrations.Permission) bool { return slices.Contains(wanted[r], p.Name) })
		c.apart[n] = access.Entitlement{Integration: c.target.ID, Resource: r, Permission: typ.Permissions[weakest].Name}
	}
	return wanted[resources[0]], nil
}

// parse reads one --want, which the connector has to offer.
func (c *certifier) parse(ctx context.Context, found []access.Found, text string) (e access.Entitlement, err error) {
	wrong := func(hint, format string, args ...any) (access.Entitlement, error) {
		return e, &failure{Text: "--want " + text + ": " + fmt.Sprintf(format, args...), Hint: hint}
	}
	at := strings.LastIndex(text, ":")
	e = access.Entitlement{Integration: c.target.ID, Permission: text[at+1:]}
	if e.Resource, err = access.ParseResource(text[:max(at, 0)]); err != nil {
		return wrong("for example schema:shop/public:read_only", "that is not TYPE:NAME:PERMISSION")
	}
	i := slices.IndexFunc(found, func(f access.Found) bool { return f.Resource == e.Resource })
	if i < 0 {
		var near []string
		for _, f := range found {
			if f.Resource.Type == e.Resource.Type && len(near) < 1000 {
				near = append(near, f.Resource.String())
			}
		}
		return wrong(guess(e.Resource.String(), near), "the connector offers no %s", e.Resource)
	}
	if !slices.Contains(found[i].Permissions, e.Permission) {
		return wrong("lapse check "+c.target.Name+" names rights that are missing", "what the connector can give on it is %s", strings.Join(found[i].Permissions, ", "))
	}
	open, err := c.everybody(ctx, e)
	if err != nil {
		return wrong("name another one", "%v", err)
	}
	if open {
		return wrong("name another one", "everybody on the target can use it already, so that it cannot be taken away")
	}
	return e, nil
}

// guess is the nearest of the names, or how to see them.
func guess(name string, known []string) string {
	if hint := spec.DidYouMean(name, known); strings.HasPrefix(hint, "did you mean") {
		return hint
	}
	return "lapse resources lists what is offered"
}

// everybody tells whether an entitlement is open to everybody, as far as there
// is somebody who can say so.
func (c *certifier) everybody(ctx context.Context, e access.Entitlement) (bool, error) {
	if c.witness == nil {
		return false, nil
	}
	return c.witness.Can(ctx, access.Account{}, e)
}

// related is true when one resource is within the other, or the same.
func (c *certifier) related(a, b access.Resource) bool {
	typeA, _ := c.kind.Type(a.Type)
	typeB, _ := c.kind.Type(b.Type)
	namesA, _ := a.Names()
	namesB, _ := b.Names()
	for i := range min(len(namesA), len(namesB)) {
		if typeA.Path[i] != typeB.Path[i] || namesA[i] != namesB[i] {
			return false
		}
	}
	return true
}

// plan says what is about to happen.
func (c *certifier) plan(w io.Writer) {
	fmt.Fprintf(w, "%s: %s\n\nAccounts of people who do not exist, lapse-canary+...%s, are made there, up to 16 at a time.\nThey are given, and lose again:\n\n", c.target.Name, clean(c.server), canaryDomain)
	for _, e := range tidy(append(slices.Concat(c.chains...), c.apart[:]...)) {
		fmt.Fprintf(w, "  %s on %s\n", clean(e.Permission), clean(e.Resource.String()))
	}
	if c.witness == nil {
		fmt.Fprintf(w, "\nNobody looks but the integration itself: %s has no witness yet. Logins are not tried.\n", c.kind.Title)
	}
	fmt.Fprintf(w, "\nAll of them are deleted at the end. Nothing is written into what they get access to.\n\n")
}

// tidy keeps the first of each.
func tidy(all []access.Entitlement) (out []access.Entitlement) {
	for _, e := range all {
		if !slices.Contains(out, e) {
			out = append(out, e)
		}
	}
	return out
}

// harness is the target as the suite takes it.
func (c *certifier) harness() *integrationtest.Harness {
	h := &integrationtest.Harness{
		Kind: c.kind, Target: c.target, Person: c.canary, Chains: c.chains, Apart: c.apart,
		Canaries: secretsOf(c.target.Secret), Sequenced: c.sequenced, Foreign: true,
	}
	for _, e := range c.apart {
		if names, err := e.Resource.Names(); err == nil {
			names[len(names)-1] = access.NewID("lapse-nowhere")
			e.Resource = access.NewResource(e.Resource.Type, names...)
			h.Absent = append(h.Absent, e)
		}
	}
	if h.Observer = integrationtest.Trust(h); c.witness != nil {
		h.Observer = integrationtest.Observe(c.witness)
	}
	return h
}

// secretsOf are the values of a kind's secret that must not come out.
func secretsOf(secret any) (values []string) {
	v := reflect.Indirect(reflect.ValueOf(secret))
	for i := range v.NumField() {
		if s, ok := v.Field(i).Interface().(integrations.Secret); ok {
			values = append(values, s.Reveal())
		}
	}
	return values
}

// canary is somebody new.
func (c *certifier) canary(integrationtest.T) access.Account {
	id := access.NewID("canary")
	a := access.Account{ID: access.AccountID(c.target.ID, id), Integration: c.target.ID, PersonID: id, Email: "lapse-" + strings.Replace(id, "-", "+", 1) + canaryDomain}
	c.canaries = append(c.canaries, a)
	return a
}

// run runs the cases one by one, and takes their canaries away after each.
func (c *certifier) run(ctx context.Context, each func(integrationtest.Result, finding)) certified {
	out := certified{Kind: c.kind.Name, Name: c.target.Name, Server: c.server, Witness: c.witness != nil, Skipped: []describe.Skip{}, Findings: []finding{}}
	h := c.harness()
	for _, k := range integrationtest.Cases() {
		var mu sync.Mutex
		var found []string
		r := integrationtest.Try(ctx, k, h, func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			if what, ok := strings.CutPrefix(fmt.Sprintf(format, args...), "found: "); ok {
				found = append(found, what)
			}
		})
		if ctx.Err() != nil {
			break // what it found is that we stopped it
		}
		mu.Lock() // something of the case may still be on its way out
		f := finding{Case: k.Name, Found: slices.Clone(found)}
		mu.Unlock()
		left := c.clean(ctx, false)
		if len(left) > 0 {
			r.Status, f.Found = integrationtest.Failed, append(f.Found, "the accounts of the case cannot be taken away: "+strings.Join(left, "; "))
		}
		out.Cases++
		switch r.Status {
		case integrationtest.Passed:
			out.Passed++
		case integrationtest.Skipped:
			r.Reason = "needs " + r.Reason
			if k.Missing(h) == integrationtest.Covering && c.witness != nil {
				r.Reason += " (--all-permissions)"
			}
			out.Skipped = append(out.Skipped, describe.Skip{Case: r.Name, Reason: r.Reason})
		default:
			out.Failed++
			out.Findings = append(out.Findings, f)
		}
		each(r, f)
		if len(left) > 0 {
			break // no more of them
		}
	}
	out.Left = c.clean(ctx, true)
	return out
}

// clean takes away all canaries, also when the context has ended, and says what
// is left and why. At the end that is all that carries our mark.
func (c *certifier) clean(ctx context.Context, end bool) []string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanLimit)
	defer cancel()
	for try := 1; ; try++ {
		left := c.takeAway(ctx, end)
		if len(left) == 0 {
			c.canaries = nil
			return []string{}
		}
		if try == cleanTries || ctx.Err() != nil {
			return left
		}
		time.Sleep(cleanPause)
	}
}

// takeAway also deletes canaries that are not to be seen: an operation that was
// cut short may still be making them, and a delete waits for it.
func (c *certifier) takeAway(ctx context.Context, end bool) (left []string) {
	there, err := c.marked(ctx)
	if err != nil {
		left = append(left, "the accounts on the target cannot be read: "+err.Error())
		for _, a := range c.canaries {
			left = append(left, "perhaps the account of "+a.Email+", with "+a.ID+" in its mark")
		}
		return left
	}
	accounts := map[string]access.Account{}
	for _, a := range c.canaries {
		accounts[a.ID] = a
	}
	held := map[string][]access.Entitlement{}
	for _, p := range there {
		_, person, _ := access.SplitAccountID(p.AccountID)
		accounts[p.AccountID] = access.Account{ID: p.AccountID, Integration: c.target.ID, PersonID: person, Email: accounts[p.AccountID].Email, Name: p.Name}
		held[p.AccountID] = p.Entitlements
	}
	for _, id := range slices.Sorted(maps.Keys(accounts)) {
		if err := c.remove(ctx, accounts[id], held[id]); err != nil {
			left = append(left, fmt.Sprintf("account %s: %v", cmp.Or(accounts[id].Name, accounts[id].Email), err))
		}
	}
	if cleaner, ok := c.Integration.(integrations.Cleaner); ok && end {
		more, err := cleaner.Clean(ctx)
		if left = append(left, more...); err != nil {
			left = append(left, err.Error())
		}
	}
	if there, err = c.marked(ctx); err != nil {
		return append(left, "the accounts on the target cannot be read: "+err.Error())
	}
	for _, p := range there {
		left = append(left, "account "+p.Name+" is there")
	}
	return left
}

// remove ends an account and all that it has.
func (c *certifier) remove(ctx context.Context, a access.Account, held []access.Entitlement) error {
	var ended error
	if len(held) > 0 {
		_, ended = c.Revoke(ctx, integrations.RevokeRequest{Account: a, End: held, Sequence: lastSequence})
	}
	res, err := c.DeleteAccount(ctx, integrations.DeleteRequest{Account: a, Sequence: lastSequence})
	if err == nil && res.Outcome == access.KeptDisabled {
		err = access.Errorf(access.Conflict, "it is closed, and kept for what it owns: %s", strings.Join(res.Owns, ", "))
	}
	if err != nil {
		return access.Worst(ended, err)
	}
	return nil
}

// marked are the canaries that the target shows.
func (c *certifier) marked(ctx context.Context) (all []access.Principal, err error) {
	for cursor := ""; ; {
		page, err := c.Accounts(ctx, cursor)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Principals...)
		if cursor = page.Next; cursor == "" {
			return all, nil
		}
	}
}
