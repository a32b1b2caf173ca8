package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/portal/api"
)

// TestRestore is a drill: a backup is made, much happens after it, and the
// backup is brought back.
func TestRestore(t *testing.T) {
	endToEnd(t, []part{{"a backup of a while ago", restored}}, func(yaml string, _ []byte) string {
		var people strings.Builder
		for i := range 26 {
			fmt.Fprintf(&people, "  - {email: p%d@example.com, groups: [analytics]}\n", i)
		}
		yaml = strings.Replace(yaml, "user_cleanup_days: 0.00007", "user_cleanup_days: 1", 1)
		return strings.Replace(yaml, "integrations:\n", people.String()+"integrations:\n", 1)
	})
}

// person is one of the drill, and what became of their request.
type person struct {
	email string
	id    string
	login access.Credential
}

// everybody does the same for people, side by side.
func (s *system) everybody(people []*person, do func(s *system, p *person)) {
	s.t.Helper()
	s.t.Run("people", func(t *testing.T) {
		for _, p := range people {
			t.Run(p.email, func(t *testing.T) {
				t.Parallel()
				on := *s
				on.t, on.secrets = t, new([]string)
				do(&on, p)
			})
		}
	})
	if s.t.Failed() {
		s.t.FailNow()
	}
}

func open(length string) func(*system, *person) {
	return func(s *system, p *person) {
		p.id = s.granted(p.email, "read_only", length).ID
		p.login = s.credentials(p.email, p.id)
	}
}

func release(s *system, p *person) {
	s.must(p.email, "release", p.id)
	s.wait(p.id, access.StateEnded, time.Minute)
}

// catalog is what of Lapse stands on the target: logins, passwords, members and
// marks.
func (s *system) catalog() string {
	return s.admin(`select md5(string_agg(line, chr(10) order by line)) from (
		select concat_ws('|', rolname, rolpassword, rolcanlogin, rolvaliduntil, shobj_description(oid, 'pg_authid')) as line from pg_authid
		union all select concat_ws('|', roleid::regrole, member::regrole) from pg_auth_members) as lines`)
}

func (s *system) report() (r api.Restore) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(s.must("root@example.com", "restore", "report")), &r); err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (s *system) in(p *person) bool {
	s.t.Helper()
	c, err := s.login(p.login)
	if err == nil {
		c.Close(s.t.Context())
	}
	return err == nil
}

func restored(t *testing.T, s *system) {
	var people []*person
	for i := range 26 {
		people = append(people, &person{email: fmt.Sprintf("p%d@example.com", i)})
	}
	before, ending, after := people[:5], people[5], people[6:]
	s.everybody(before, open("8m"))
	// Its end comes between the backup and the acceptance.
	s.everybody([]*person{ending}, open("40s"))
	ends := time.Now().Add(40 * time.Second)

	backup := filepath.Join(t.TempDir(), "backup")
	s.must("root@example.com", "backup", "--data", s.setting("LAPSE_DATA"), "--to", backup)
	s.everybody(after, open("8m"))
	revoked := slices.Concat(before, after[:5])
	s.everybody(revoked, release)

	s.kill()
	s.must("root@example.com", "restore", "from", backup, "--data", s.setting("LAPSE_DATA"))
	was := s.catalog()
	s.start()

	// The accounts of those who came after the backup are not known, whether
	// they have access still or not; what was given back before is missing.
	want := map[string]int{"unknown_principal": len(after), "missing": len(before), "restored": 1}
	r := s.report()
	got, subjects := map[string]int{}, map[string]bool{}
	for _, in := range r.Integrations {
		for _, f := range in.Findings {
			got[string(f.Kind)]++
			if subject := fmt.Sprint(f.Kind, f.Subject); subjects[subject] {
				t.Errorf("%s of %s is reported twice", f.Kind, f.Subject)
			} else {
				subjects[subject] = true
			}
			if f.Repaired != "" {
				t.Errorf("%+v was repaired before anybody accepted it", f)
			}
		}
	}
	t.Run("its page", func(t *testing.T) {
		on := *s
		on.t = t
		b := on.browser()
		b.signIn("root@example.com")
		b.open("/all")
		b.click(`a[href="/restore"]`)
		b.says("Unknown principal: 20")
		b.says("Accept report " + r.Report)
		b.picture("restore")
	})
	delete(got, "overdue") // where the machine was slow until here
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the report has %v, want %v", got, want)
	}
	time.Sleep(time.Until(ends.Add(3 * time.Second)))
	waiting := s.ask(ana, "read_only", "8m")
	s.must(dan, "approve", waiting.ID)
	time.Sleep(2 * time.Second)
	if now := s.catalog(); now != was {
		t.Error("something was changed on the target before anybody accepted it")
	}
	if !s.in(ending) {
		t.Error("access was taken away before anybody accepted it")
	}

	if _, err := s.lapse("root@example.com", "restore", "accept", "--report", "0123456789abcdef", "--reason", "none"); err == nil || !strings.Contains(err.Error(), "another one by now") {
		t.Errorf("a report that nobody made was accepted: %v", err)
	}
	r = s.report() // by now with what is overdue
	s.must("root@example.com", "restore", "accept", "--report", r.Report, "--reason", "a drill")
	s.until(2*time.Minute, func() error {
		for _, p := range people {
			if s.in(p) {
				return fmt.Errorf("%s gets in still", p.email)
			}
		}
		var swept api.Sweep
		if err := json.Unmarshal([]byte(s.must(dan, "sweep", "prod-pg")), &swept); err != nil {
			return err
		}
		if len(swept.Findings) > 0 {
			return fmt.Errorf("still found: %+v", swept.Findings)
		}
		return nil
	})
	for _, p := range append(before, ending) {
		s.wait(p.id, access.StateEnded, time.Minute)
	}
	s.wait(waiting.ID, access.StateActive, time.Minute) // what was asked meanwhile goes on by itself
	s.must(ana, "release", waiting.ID)
	s.wait(waiting.ID, access.StateEnded, time.Minute)
	s.granted(after[0].email, "read_only", "1m")
	if r := s.report(); r.ReportOnly != "" {
		t.Errorf("it is not over: %s", r.ReportOnly)
	}
	if left, err := filepath.Glob(filepath.Join(s.setting("LAPSE_DATA"), "restore-*")); err != nil || len(left) > 0 {
		t.Errorf("left in the folder: %v, %v", left, err)
	}
	if _, err := os.Stat(backup); err != nil {
		t.Error(err)
	}
	for _, p := range people {
		*s.secrets = append(*s.secrets, p.login.Password)
	}
}
