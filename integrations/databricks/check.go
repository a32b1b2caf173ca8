package databricks

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/databricks/databricks-sdk-go/service/iam"

	"github.com/lapse-access/lapse/access"
)

func (i *integration) check(ctx context.Context) access.CheckReport {
	report := access.CheckReport{Server: "Databricks account API 2.0"}
	me, err := i.api.principal(ctx, i.me)
	if err != nil {
		item := failed("connect", "login", err)
		if host := i.workspace(); host != "" {
			item.Detail, item.Remedy = item.Detail+": "+host+" looks like a workspace", addressRemedy
		}
		report.Items = []access.CheckItem{item}
		return report
	}
	report.Items = []access.CheckItem{
		{Operation: "connect", Name: "login", OK: true, Detail: "service principal " + me.DisplayName},
		i.checkSecret(ctx, me),
		i.checkCatalog(ctx),
		checkAdmin(me, "grant", "add members to groups"),
		checkAdmin(me, "revoke", "remove members from groups"),
	}
	return report
}

func failed(operation, name string, err error) access.CheckItem {
	item := access.CheckItem{Operation: operation, Name: name, Detail: err.Error()}
	if e, ok := errors.AsType[*access.Error](err); ok {
		item.Detail, item.Remedy = e.Text, e.Remedy
	}
	return item
}

// workspace is the host of accounts_url where it does not begin as those of the
// account console do.
func (i *integration) workspace() string {
	at, err := url.Parse(i.config.AccountsURL)
	if err != nil || strings.HasPrefix(at.Hostname(), "accounts") || !strings.Contains(at.Hostname(), "databricks") {
		return ""
	}
	return at.Hostname()
}

// soon is how long before its end a secret is worth a warning.
const soon = 30 * 24 * time.Hour

// checkSecret warns of a secret that ends soon. Databricks does not say which one
// the connector came with.
func (i *integration) checkSecret(ctx context.Context, me iam.AccountServicePrincipal) access.CheckItem {
	item := access.CheckItem{Operation: "connect", Name: "secret", OK: true, Optional: true}
	if me.Id == "" {
		return item
	}
	ends, err := i.api.secretsEnd(ctx, me.Id)
	if err != nil {
		item = failed(item.Operation, item.Name, err)
		item.Optional = true
		return item
	}
	now := i.clock.now()
	for _, end := range ends {
		if end.After(now) && end.Before(now.Add(soon)) {
			item.OK, item.Detail = false, "a secret of the service principal ends on "+end.UTC().Format(time.DateOnly)
			item.Remedy = "make another one, store it for the connector, and delete the old one"
		}
	}
	return item
}

// checkCatalog reads the first groups, and says how many of them are offered.
func (i *integration) checkCatalog(ctx context.Context) access.CheckItem {
	page, err := i.api.groups(ctx, "", 1, pageSize)
	if err != nil {
		return failed("discover", "read groups", err)
	}
	item := access.CheckItem{Operation: "discover", Name: "read groups", OK: true}
	external := 0
	for _, g := range page.Resources {
		if access.KindOf(i.refuses(group{g})) == access.ExternallyManaged {
			external++
		}
	}
	if external > 0 {
		item.Detail = fmt.Sprintf("of the first %d groups an identity provider keeps %d, which cannot be requested", len(page.Resources), external)
	}
	return item
}

// checkAdmin looks at the one role with which somebody may change every group.
// https://docs.databricks.com/aws/en/admin/users-groups/groups
func checkAdmin(me iam.AccountServicePrincipal, operation, name string) access.CheckItem {
	item := access.CheckItem{Operation: operation, Name: name, OK: admin(me)}
	switch {
	case me.Id == "":
		item.Detail, item.Remedy = "the account does not show its service principal to the connector", adminRemedy
	case !item.OK:
		item.Detail, item.Remedy = "the service principal does not have the role "+accountAdmin+" by itself", adminRemedy
	}
	return item
}

func admin(p iam.AccountServicePrincipal) bool {
	return slices.ContainsFunc(p.Roles, func(r iam.ComplexValue) bool { return r.Value == accountAdmin })
}

const accountAdmin = "account_admin"
