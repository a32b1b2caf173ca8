package github

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

var appForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9 -]{0,33}$`)

// setup is what the instructions for the connector's token are written for.
type setup struct {
	ConnectorName string `json:"connector_name" doc:"name of the GitHub App" default:"lapse" minLength:"1" maxLength:"34"`
	Organization  string `json:"organization" doc:"login of the organization" default:"acme" minLength:"1"`
	Host          string `json:"host" doc:"host of GitHub's pages" default:"github.com" minLength:"1"`
}

// tiers are what an App, or a classic token, may do. GitHub's API makes neither:
// the script opens the form with everything filled in.
// https://docs.github.com/en/apps/sharing-github-apps/registering-a-github-app-using-url-parameters
func tiers(options any) ([]integrations.Tier, error) {
	o, ok := options.(*setup)
	if !ok {
		return nil, access.Errorf(access.Invalid, "the options are a %T", options)
	}
	if !loginForm.MatchString(o.Organization) || !hostForm.MatchString(o.Host) || !appForm.MatchString(o.ConnectorName) {
		return nil, access.Errorf(access.Invalid, "organization, host or connector_name is none")
	}
	script := func(write string) string {
		permissions := []string{"organization_administration=read", "organization_custom_roles=read", "organization_custom_org_roles=" + write, "members=" + write, "administration=" + write, "metadata=read"}
		address := fmt.Sprintf("https://%s/organizations/%s/settings/apps/new?name=%s&url=https://example.com&public=false&webhook_active=false&%s",
			o.Host, o.Organization, segment(o.ConnectorName), strings.Join(permissions, "&"))
		return fmt.Sprintf(`# 1. Open this form, look at the permissions, and create the App. Its page shows app_id.
printf '%%s\n' %s
# 2. On the App's page: generate a private key. It is private_key.
# 3. Install the App in %s for all repositories. Then this shows installation_id:
gh api --hostname %s /orgs/%s/installations --jq %s
`, integrations.ShellWord(address), o.Organization, o.Host, o.Organization,
			integrations.ShellWord(`.installations[] | select(.app_slug == "`+strings.ReplaceAll(strings.ToLower(o.ConnectorName), " ", "-")+`") | .id`))
	}
	return []integrations.Tier{
		{Name: "discover", Doc: "Reads the catalog and what people hold, and changes nothing.", Operations: []string{"connect", "discover", "verify"}, Script: script("read")},
		{Name: "full", Doc: "Everything. A classic token of an owner with the scopes repo and admin:org does the same.",
			Operations: []string{"connect", "discover", "verify", "grant", "revoke"}, Script: script("write")},
	}, nil
}
