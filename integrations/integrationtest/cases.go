package integrationtest

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

// Cases is the contract, as data.
func Cases() []Case {
	return slices.Concat(accessCases, levelCases, invitationCases, accountCases, credentialCases, lastResortCases, toldCases, faultCases, declarationCases)
}

var accessCases = []Case{
	{Name: "exactly", Promise: "A grant opens what was asked and nothing else, and a revoke closes it.", run: exactly},
	{Name: "once", Promise: "The same grant twice, and eight times at once, is one grant; one revoke ends it.", run: once},
	{Name: "overlaps", Promise: "Overlapping entitlements, granted and revoked in every order, leave exactly the union of what is held.", Needs: []Capability{Covering}, run: overlaps},
	{Name: "remaining", Promise: "What must remain is kept, also when it is named among what ends.", run: remaining},
	{Name: "baseline", Promise: "What somebody held before Lapse came is there after Lapse.", Needs: []Capability{ByHand}, run: baseline},
	{Name: "parallel", Promise: "Sixteen people get and lose access to one resource at the same time.", run: parallel},
	{Name: "tug-of-war", Promise: "Two processes that grant and revoke the same leave what was asked for last.", run: tugOfWar},
	{Name: "absent", Promise: "A grant on what does not exist fails as such and makes nothing; a revoke of what is not there succeeds.", run: absent},
	{Name: "hostile-names", Promise: "Names of resources that want to break out of a statement are quoted or refused, never executed.", Needs: []Capability{HostileNames}, run: hostileNames},
	{Name: "hostile-people", Promise: "Addresses of people that want to break out do not, and people who look alike have accounts of their own.", Needs: []Capability{Principals}, run: hostilePeople},
}

// exactly grants each end of each chain, and one thing apart.
func exactly(t T, h *Harness) {
	pr := h.start(t)
	for _, chain := range h.Chains {
		weak, strong := chain[0], chain[len(chain)-1]
		p := h.someone(t)
		p.can(t, h, weak, false, "before the grant")
		p.grant(t, pr, weak)
		p.can(t, h, weak, true, "after the grant")
		if strong != weak {
			p.can(t, h, strong, false, "after a grant of "+weak.String())
		}
		p.can(t, h, h.Apart[1], false, "after a grant of something else")
		p.revoke(t, pr, weak)
		p.can(t, h, weak, false, "after the revoke")
		p.verify(t, pr, []access.Entitlement{weak}, access.Gone)

		p.grant(t, pr, strong)
		for _, e := range chain {
			p.can(t, h, e, true, "after a grant of "+strong.String())
		}
		p.revoke(t, pr, strong)
		for _, e := range chain {
			p.can(t, h, e, false, "after the revoke")
		}
	}
}

func once(t T, h *Harness) {
	e := h.Apart[0]
	p := h.someone(t)
	p.grant(t, h.start(t), e)
	for range 2 {
		if _, err := p.tryGrant(t, h.start(t), e); err != nil {
			t.Errorf("the same grant again: %v", err)
		}
	}
	var mu sync.Mutex
	processes := []*process{h.start(t), h.start(t)}
	atOnce(8, func(i int) {
		ctx, cancel := context.WithTimeout(t.Context(), opLimit)
		defer cancel()
		res, err := processes[i%2].Grant(ctx, p.grantRequest([]access.Entitlement{e}))
		h.note(res, err)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			t.Errorf("the same grant eight times at once: %v", err)
		}
	})
	p.can(t, h, e, true, "after ten grants")
	if h.has(Principals) {
		if n := len(p.marked(t, h.start(t))); n != 1 {
			t.Errorf("after ten grants there are %d accounts, want 1", n)
		}
	}
	p.revoke(t, h.start(t), e)
	p.can(t, h, e, false, "after one revoke")
}

// overlaps walks every pair of every chain through both orders of grant and of
// revoke.
func overlaps(t T, h *Harness) {
	pr := h.start(t)
	for _, chain := range h.Chains {
		for strong := 1; strong < len(chain); strong++ {
			for weak := range strong {
				for _, order := range [][4]int{{weak, strong, weak, strong}, {weak, strong, strong, weak}, {strong, weak, weak, strong}, {strong, weak, strong, weak}} {
					overlap(t, h, pr, chain, order)
				}
			}
		}
	}
}

// overlap grants the first two of order and revokes the last two, looking at
// all of the chain after each step.
func overlap(t T, h *Harness, pr *process, chain []access.Entitlement, order [4]int) {
	t.Helper()
	p := h.someone(t)
	held := map[int]bool{}
	for step, i := range order {
		if step < 2 {
			p.grant(t, pr, chain[i])
		} else {
			p.revoke(t, pr, chain[i])
		}
		held[i] = step < 2
		for j, e := range chain {
			union := false
			for k := j; k < len(chain); k++ {
				union = union || held[k]
			}
			p.can(t, h, e, union, "order "+orderOf(chain, order[:step+1]))
		}
	}
}

func orderOf(chain []access.Entitlement, order []int) string {
	words := make([]string, len(order))
	for step, i := range order {
		sign := "+"
		if step >= 2 {
			sign = "-"
		}
		words[step] = sign + chain[i].String()
	}
	return strings.Join(words, " ")
}

func remaining(t T, h *Harness) {
	pr := h.start(t)
	p := h.someone(t)
	p.grant(t, pr, h.Apart[0], h.Apart[1])
	p.revoke(t, pr, h.Apart[0])
	p.can(t, h, h.Apart[0], false, "after its end")
	p.can(t, h, h.Apart[1], true, "after the end of the other")

	// Two holds on one entitlement: it is among what ends and what remains.
	p.next()
	ctx, cancel := context.WithTimeout(t.Context(), opLimit)
	defer cancel()
	req := p.revokeRequest([]access.Entitlement{h.Apart[1]})
	req.Remain = append(req.Remain, access.Claim{Entitlement: h.Apart[1]})
	res, err := pr.Revoke(ctx, req)
	h.note(res, err)
	if err != nil {
		t.Fatalf("ending one of two holds on an entitlement: %v", err)
	}
	if len(res.Entries) != 1 || res.Entries[0].Outcome != access.Lowered {
		t.Errorf("ending one of two holds: %+v, want lowered", res.Entries)
	}
	p.can(t, h, h.Apart[1], true, "after one of two holds on it ended")
	p.revoke(t, pr, h.Apart[1])
	p.can(t, h, h.Apart[1], false, "after the last hold ended")
}

// baseline makes the account exist, gives it something by hand, and lets Lapse
// grant and revoke the same.
func baseline(t T, h *Harness) {
	hand := h.Observer.(HandObserver)
	pr := h.start(t)
	p := h.someone(t)
	p.grant(t, pr, h.Apart[0])
	p.revoke(t, pr, h.Apart[0])
	hand.Give(t, p.Account)

	p.prepare(t, pr, h.Existing)
	if !slices.Contains(p.baseline(), h.Existing) {
		t.Errorf("Held does not name %s, which was given by hand: baseline %v", h.Existing, p.baseline())
	}
	res, err := p.tryGrant(t, pr, h.Existing)
	if err != nil {
		t.Fatalf("granting what is held already: %v", err)
	}
	if len(res.Entries) != 1 || res.Entries[0].Outcome != access.AlreadyHeld {
		t.Errorf("granting what is held already: %+v, want already_held", res.Entries)
	}
	// The answer was lost, and Lapse asks again.
	if _, err := p.tryGrant(t, h.start(t), h.Existing); err != nil {
		t.Errorf("granting it again: %v", err)
	}
	p.grant(t, pr, h.Apart[0])
	p.revoke(t, pr, h.Existing)
	if !hand.Given(t, p.Account) {
		t.Errorf("what was given by hand is gone after the end of the hold on it")
	}
	p.revoke(t, pr, h.Apart[0])
	if !hand.Given(t, p.Account) {
		t.Errorf("what was given by hand is gone after the last hold ended")
	}

	// Somebody else, to whom Lapse gives the same, loses it again.
	other := h.someone(t)
	other.grant(t, pr, h.Existing)
	if !hand.Given(t, other.Account) {
		t.Errorf("%s is granted and not there", h.Existing)
	}
	other.revoke(t, pr, h.Existing)
	if hand.Given(t, other.Account) {
		t.Errorf("%s is still there after the revoke", h.Existing)
	}
	if !hand.Given(t, p.Account) {
		t.Errorf("ending somebody else's access took away what was given by hand")
	}
}

func parallel(t T, h *Harness) {
	const n = 16
	e := h.Apart[0]
	processes := []*process{h.start(t), h.start(t)}
	people := make([]*person, n)
	for i := range people {
		people[i] = h.someone(t)
	}
	errs := make([]error, n)
	run := func(what string, work func(p *person, pr *process) error) {
		atOnce(n, func(i int) { errs[i] = work(people[i], processes[i%len(processes)]) })
		for i, err := range errs {
			if err != nil {
				t.Errorf("%s %s of sixteen at once: %v", what, people[i].Email, err)
			}
		}
	}
	for _, p := range people {
		p.prepare(t, processes[0], e)
	}
	run("granting", func(p *person, pr *process) error {
		_, err := p.tryGrant(t, pr, e)
		return err
	})
	for _, p := range people {
		p.can(t, h, e, true, "after sixteen grants at once")
	}
	run("revoking", func(p *person, pr *process) error {
		p.next()
		_, err := p.tryRevoke(t, pr, e)
		return err
	})
	for _, p := range people {
		p.can(t, h, e, false, "after sixteen revokes at once")
	}
}

// tugOfWar lets a grant and a revoke meet; each has the number that its place
// in the account's history gives it, so that the later one must win.
func tugOfWar(t T, h *Harness) {
	e := h.Apart[0]
	one, other := h.start(t), h.start(t)
	p := h.someone(t)
	p.grant(t, one, e)
	for round := range 10 {
		if len(p.held) == 0 {
			p.prepare(t, one, e)
		}
		grant, revoke := p.grantRequest([]access.Entitlement{e}), p.revokeRequest([]access.Entitlement{e})
		grant.Sequence, revoke.Sequence = p.next(), p.next()
		last := access.Gone
		if round%2 == 1 {
			grant.Sequence, revoke.Sequence, last = revoke.Sequence, grant.Sequence, access.Granted
		}
		atOnce(2, func(i int) {
			ctx, cancel := context.WithTimeout(t.Context(), opLimit)
			defer cancel()
			// A reading back may meet the other's change; Lapse tries again.
			var err error
			for range 5 {
				if i == 0 {
					_, err = one.Grant(ctx, grant)
				} else {
					_, err = other.Revoke(ctx, revoke)
				}
				if k := access.KindOf(err); k != access.Conflict && k != access.Retry {
					break
				}
			}
			if k := access.KindOf(err); err != nil && k != access.Superseded && (h.Sequenced || k != access.Conflict) {
				t.Errorf("round %d: %v", round, err)
			}
		})
		if !h.Sequenced {
			// Without a number on the target the core itself runs one after
			// the other; here the last one is simply asked again.
			if last == access.Granted {
				p.tryGrant(t, one, e)
			} else {
				p.tryRevoke(t, one, e)
			}
		}
		if last == access.Gone {
			p.held = nil
		}
		p.can(t, h, e, last == access.Granted, "after a grant and a revoke at once")
	}
	p.revoke(t, one, e)
}

func absent(t T, h *Harness) {
	pr := h.start(t)
	for _, e := range h.Absent {
		p := h.someone(t)
		p.next()
		_, err := p.tryGrant(t, pr, e)
		if k := access.KindOf(err); k != access.ResourceMissing && (k != access.Invalid || !h.Foreign) {
			t.Errorf("granting %s, which does not exist: %v (%s), want %s", e, err, access.KindOf(err), access.ResourceMissing)
		}
		if h.has(Principals) {
			if made := p.marked(t, pr); len(made) > 0 {
				t.Errorf("granting %s, which does not exist, made account %s", e, made[0].Name)
			}
		}
		for _, account := range []string{"without", "with"} {
			res := p.revoke(t, pr, e)
			if len(res.Entries) == 1 && res.Entries[0].Outcome != access.WasGone {
				t.Errorf("revoking %s %s an account: %s, want was_gone", e, account, res.Entries[0].Outcome)
			}
			if account == "without" {
				p.grant(t, pr, h.Apart[0])
			}
		}
		p.revoke(t, pr, h.Apart[0])
		if res := p.revoke(t, pr, h.Apart[0]); res.Entries[0].Outcome != access.WasGone {
			t.Errorf("revoking a second time: %s, want was_gone", res.Entries[0].Outcome)
		}
		p.verify(t, pr, []access.Entitlement{h.Apart[0]}, access.Gone)
	}
}

func hostileNames(t T, h *Harness) {
	pr := h.start(t)
	catalog, _ := h.catalog(t)
	for _, e := range h.Hostile {
		if !slices.ContainsFunc(catalog, func(f access.Found) bool {
			return f.Resource == e.Resource && slices.Contains(f.Permissions, e.Permission)
		}) {
			t.Errorf("discovery does not offer %s", e)
		}
		p := h.someone(t)
		p.grant(t, pr, e)
		p.can(t, h, e, true, "after the grant")
		p.can(t, h, h.Apart[0], false, "after the grant of a hostile name")
		p.revoke(t, pr, e)
		p.can(t, h, e, false, "after the revoke")
		if h.has(Principals) {
			p.delete(t, pr)
		}
	}
	for _, e := range h.Hostile {
		for _, bad := range []string{"\x00", "", strings.Repeat("x", 5000)} {
			p := h.someone(t)
			p.next()
			names, err := e.Resource.Names()
			if err != nil {
				t.Fatalf("%s: %v", e, err)
			}
			names[len(names)-1] += bad
			if bad == "" {
				names[len(names)-1] = ""
			}
			cannot := e
			cannot.Resource = access.NewResource(e.Resource.Type, names...)
			_, err = p.tryGrant(t, pr, cannot)
			if k := access.KindOf(err); k != access.Invalid && k != access.ResourceMissing {
				t.Errorf("granting on a name that cannot be: %v (%s), want %s", err, k, access.Invalid)
			}
		}
	}
}

func hostilePeople(t T, h *Harness) {
	pr := h.start(t)
	long := strings.Repeat("a", 60)
	names := map[string]string{}
	for _, email := range []string{
		`o'brien"; drop role lapse_nobody; --@example.com`, "a.b@example.com", "a_b@example.com", "a+b@example.com",
		long + "1@example.com", long + "2@example.com", "Ünïcødé😀@example.com", "1digit@example.com", "@example.com", "\u202egnp.exe@example.com",
	} {
		p := h.someone(t)
		p.Email = email
		p.grant(t, pr, h.Apart[0])
		if other, taken := names[p.Name]; taken {
			t.Errorf("%q and %q share account %s", email, other, p.Name)
		}
		names[p.Name] = email
		p.can(t, h, h.Apart[0], true, "with address "+email)

		// The directory may change how the address is written.
		p.Email, p.Name = strings.ToUpper(email), ""
		p.revoke(t, pr, h.Apart[0])
		got, want := p.marked(t, pr), 1
		if h.transient() {
			want = 0
		}
		if len(got) != want {
			t.Fatalf("with address %q there are %d accounts, want %d", email, len(got), want)
		}
		if want > 0 {
			p.Name = got[0].Name
		}
		p.can(t, h, h.Apart[0], false, "after a revoke with the address in capitals")
		p.delete(t, pr)
	}
}

var declarationCases = []Case{
	{Name: "declared", Promise: "What the kind declares is what the integration does.", run: declared},
	{Name: "check", Promise: "Check finds nothing missing where everything is given, and changes nothing.", run: check},
	{Name: "paging", Promise: "Discovery offers what can be granted, once, page by page, also when each page is read by another process.", run: paging},
	{Name: "expiry", Promise: "The target's own expiry lies at the asked end or after it, and never comes nearer while something is held.", Needs: []Capability{NativeExpiry}, run: expiry},
}

func declared(t T, h *Harness) {
	k := h.Kind
	if _, sets := h.start(t).Integration.(integrations.CredentialSetter); sets != k.Credentials {
		t.Errorf("Credentials is declared %t, and SetCredential is there: %t", k.Credentials, sets)
	}
	if _, rotates := h.start(t).Integration.(integrations.SecretRotator); rotates != k.RotatesSecret {
		t.Errorf("RotatesSecret is declared %t, and RotateSecret is there: %t", k.RotatesSecret, rotates)
	}
	if k.Credentials != h.has(Credentials) && !h.Foreign {
		t.Errorf("Credentials is declared %t, and the observer can log in: %t", k.Credentials, h.has(Credentials))
	}
	if k.NativeExpiry != h.has(NativeExpiry) && !h.Foreign {
		t.Errorf("NativeExpiry is declared %t, and the observer can read it: %t", k.NativeExpiry, h.has(NativeExpiry))
	}
	for field, text := range map[string]string{"Name": k.Name, "Title": k.Title, "Doc": k.Doc, "Sessions": k.Sessions} {
		if text == "" {
			t.Errorf("the kind declares no %s", field)
		}
	}
	for what, v := range map[string]any{"Config": k.Config(), "Secret": k.Secret()} {
		if typ := reflect.TypeOf(v); typ.Kind() != reflect.Pointer || typ.Elem().Kind() != reflect.Struct {
			t.Errorf("%s returns a %s, want a pointer to a struct", what, typ)
		}
	}
	offered := map[string]map[string]bool{}
	for _, typ := range k.ResourceTypes {
		offered[typ.Name] = map[string]bool{}
		if typ.Doc == "" || len(typ.Path) == 0 || len(typ.Permissions) == 0 {
			t.Errorf("resource type %q lacks a doc, a path or permissions", typ.Name)
		}
		for _, p := range typ.Permissions {
			offered[typ.Name][p.Name] = true
			if p.Doc == "" {
				t.Errorf("permission %s of %s lacks a doc", p.Name, typ.Name)
			}
		}
	}
	catalog, _ := h.catalog(t)
	for _, f := range catalog {
		names, err := f.Resource.Names()
		typ, ok := k.Type(f.Resource.Type)
		if err != nil || !ok || len(names) != len(typ.Path) {
			t.Errorf("discovery offers %s, which is not of a declared shape: %v", f.Resource, err)
		}
		for _, p := range f.Permissions {
			if !offered[f.Resource.Type][p] {
				t.Errorf("discovery offers %s on %s, which is not declared", p, f.Resource)
			}
		}
	}
}

func check(t T, h *Harness) {
	ctx, cancel := context.WithTimeout(t.Context(), opLimit)
	defer cancel()
	report, err := h.start(t).Check(ctx)
	h.note(report, err)
	if err != nil {
		t.Fatalf("checking: %v", err)
	}
	if report.Server == "" {
		t.Errorf("the report does not name the server")
	}
	for _, item := range report.Items {
		if !item.OK && !item.Optional {
			t.Errorf("check: %s: %s: %s (%s)", item.Operation, item.Name, item.Detail, item.Remedy)
		}
		if !item.OK && item.Detail == "" {
			t.Errorf("check: %s: %s is not met and does not say why", item.Operation, item.Name)
		}
	}
}

func paging(t T, h *Harness) {
	catalog, _ := h.catalog(t)
	offered := map[access.Resource][]string{}
	for _, f := range catalog {
		if _, twice := offered[f.Resource]; twice {
			t.Errorf("discovery offers %s twice", f.Resource)
		}
		offered[f.Resource] = f.Permissions
	}
	for _, e := range append(slices.Concat(h.Chains...), h.Apart[:]...) {
		if !slices.Contains(offered[e.Resource], e.Permission) {
			t.Errorf("discovery does not offer %s", e)
		}
	}
	for _, e := range h.Absent {
		if _, there := offered[e.Resource]; there {
			t.Errorf("discovery offers %s, which does not exist", e.Resource)
		}
	}
}

func expiry(t T, h *Harness) {
	observer := h.Observer.(ExpiryObserver)
	pr := h.start(t)
	p := h.someone(t)
	far, near := time.Now().Add(2*time.Hour), time.Now().Add(time.Hour)
	for i, end := range []time.Time{near, far, near} {
		p.prepare(t, pr, h.Apart[i%2])
		req := p.grantRequest([]access.Entitlement{h.Apart[i%2]})
		req.End = end
		ctx, cancel := context.WithTimeout(t.Context(), opLimit)
		res, err := pr.Grant(ctx, req)
		cancel()
		if err != nil {
			t.Fatalf("granting: %v", err)
		}
		p.Name, p.wrote = res.AccountName, res.Wrote
		want := near
		if i > 0 {
			want = far
		}
		if got := observer.Expiry(t, p.Account); got.Before(want.Add(-time.Second)) || got.After(want.Add(time.Second)) {
			t.Errorf("after grant %d the target ends the access at %s, want %s", i+1, got, want)
		}
	}
	p.revoke(t, pr, h.Apart[0], h.Apart[1])
	if got := observer.Expiry(t, p.Account); got.After(time.Now()) {
		t.Errorf("after the last revoke the target's expiry is %s, want the past", got)
	}
}
