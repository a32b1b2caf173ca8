package databricks_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/databricks/databricks-sdk-go/service/iam"
	"github.com/databricks/databricks-sdk-go/service/oauth2"
	"github.com/google/go-cmp/cmp"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/databricks"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/describe"
)

// check is what Check says, by the operations that fail.
func check(t testing.TB, i integrations.Integration) (report access.CheckReport, failed []string) {
	t.Helper()
	report, err := i.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range report.Items {
		if !item.OK {
			failed = append(failed, item.Operation)
			if item.Detail == "" || item.Remedy == "" {
				t.Errorf("check says no reason or remedy: %+v", item)
			}
		}
	}
	return report, failed
}

// TestTier runs the script with a command that writes down how it was called, does
// the same on the model, and looks what the connector may do before and after.
func TestTier(t *testing.T) {
	t.Parallel()
	d, err := describe.New(databricks.Kind(), describe.Options{"connector_name": {"our \"lapse\" $x"}, "secret_lifetime": {"2160h"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Setup) != 1 || d.Setup[0].Name != "full" {
		t.Fatalf("tiers: %+v", d.Setup)
	}
	dir := t.TempDir()
	command := "#!/bin/sh\nfor word; do printf '%s\\n' \"$word\"; done >>" + dir + "/calls\necho -- >>" + dir + "/calls\n"
	if err := os.WriteFile(filepath.Join(dir, "databricks"), []byte(command), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := certificationtest.Shell(t, d.Setup[0].Script, "", "PATH="+dir+":"+os.Getenv("PATH")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "calls"))
	if err != nil {
		t.Fatal(err)
	}
	var calls [][]string
	for call := range strings.SplitSeq(strings.TrimSuffix(string(text), "--\n"), "--\n") {
		calls = append(calls, strings.Split(strings.TrimSuffix(call, "\n"), "\n"))
	}
	const role = `{"Operations":[{"op":"add","path":"roles","value":[{"value":"account_admin"}]}],"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"]}`
	// The vendor's command line, as it is generated from the same description as
	// the SDK.
	want := [][]string{
		{"account", "service-principals", "create", "--active", "--display-name", "our \"lapse\" $x"},
		{"account", "service-principals", "patch", "ID", "--json", role},
		{"account", "service-principal-secrets", "create", "ID", "--lifetime", "7776000s"},
	}
	if diff := cmp.Diff(want, calls); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}

	b := newBed(t)
	b.locked(func() { b.principals[0].Roles = nil })
	if _, failed := check(t, b.start(t, b.target())); !slices.Equal(failed, []string{"grant", "revoke"}) {
		t.Errorf("without the role: %v", failed)
	}
	var patch iam.PatchAccountServicePrincipalRequest
	if err := json.Unmarshal([]byte(calls[1][5]), &patch); err != nil {
		t.Fatal(err)
	}
	if again, err := json.Marshal(patch); err != nil || string(again) != role {
		t.Errorf("the SDK's own type reads it as %s, %v", again, err)
	}
	for _, v := range patch.Operations[0].Value.([]any) {
		b.locked(func() {
			b.principals[0].Roles = append(b.principals[0].Roles, iam.ComplexValue{Value: v.(map[string]any)["value"].(string)})
		})
	}
	report, failed := check(t, b.start(t, b.target()))
	if len(failed) > 0 {
		t.Errorf("with the role: %v", failed)
	}
	for _, item := range report.Items {
		if !slices.Contains(d.Setup[0].Operations, item.Operation) {
			t.Errorf("the tier does not name what check looks at: %s", item.Operation)
		}
	}
	l := b.live(t)
	l.grant(t, access.Granted, in("analysts"))
	l.revoke(t, access.Gone, in("analysts"))
}

func TestSetupRefuses(t *testing.T) {
	for name, value := range map[string]string{"connector_name": "a\nb", "secret_lifetime": "17521h"} {
		if _, err := describe.New(databricks.Kind(), describe.Options{name: {value}}); err == nil {
			t.Errorf("%s: %q is taken", name, value)
		}
	}
}

func TestCheckSaysWhatItSees(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	report, _ := check(t, b.start(t, b.target()))
	if len(report.Items) != 5 || report.Server == "" || !strings.Contains(report.Items[0].Detail, "lapse") || !strings.Contains(report.Items[2].Detail, "keeps 1") {
		t.Errorf("%+v", report)
	}
	b.locked(func() { b.principals = nil })
	if _, failed := check(t, b.start(t, b.target())); !slices.Equal(failed, []string{"grant", "revoke"}) {
		t.Errorf("a connector that does not see itself: %v", failed)
	}
	b.locked(func() { b.secret = "another" })
	if _, failed := check(t, b.start(t, b.target())); !slices.Equal(failed, []string{"connect"}) {
		t.Errorf("a wrong secret: %v", failed)
	}
}

func TestCheckWarnsOfASecretThatEndsSoon(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{"": true, "not a time": true, "-1h": true, "719h": false, "721h": true} {
		b := newBed(t)
		b.secrets = []oauth2.SecretInfo{{Id: "s-1", Status: "ACTIVE"}, {Id: "s-2", Status: "ACTIVE", ExpireTime: text}}
		if d, err := time.ParseDuration(text); err == nil {
			b.secrets[1].ExpireTime = b.time.now().Add(d).UTC().Format(time.RFC3339)
		}
		item, found := certificationtest.Check(t, b.start(t, b.target()))["secret"]
		if !found || item.OK != want || !item.Optional || !want && (item.Detail == "" || item.Remedy == "") {
			t.Errorf("a secret that ends in %q: %+v", text, item)
		}
	}
}
