package grafana

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/lapse-access/lapse/access"
)

const (
	// rightPeople lets somebody see who is in the organization.
	rightPeople = "org.users:read"
	// rightOrganization lets somebody see which organization it is.
	rightOrganization = "orgs:read"
)

// oldest is the first version in which permissions on data sources are kept like
// all others: https://grafana.com/docs/grafana/latest/breaking-changes/breaking-changes-v10-3/
var oldest = [2]int{10, 3}

// need is a right that an operation needs, on a type of resource.
type need struct {
	operation, typ, action string
}

// needs are in the order in which they are shown:
// https://grafana.com/docs/grafana/latest/administration/roles-and-permissions/access-control/custom-role-actions-scopes/
var needs = []need{
	{"discover", typeDataSource, "datasources:read"},
	{"discover", typeFolder, "folders:read"},
	{"discover", typeDashboard, "dashboards:read"},
	{"discover", typeTeam, "teams:read"},
	{"verify", typeDataSource, "datasources.permissions:read"},
	{"verify", typeFolder, "folders.permissions:read"},
	{"verify", typeDashboard, "dashboards.permissions:read"},
	{"verify", typeTeam, "teams.permissions:read"},
	{"grant", typeDataSource, "datasources.permissions:write"},
	{"grant", typeFolder, "folders.permissions:write"},
	{"grant", typeDashboard, "dashboards.permissions:write"},
	{"grant", typeTeam, "teams.permissions:write"},
	{"grant", typeOrganization, "org.users:write"},
}

func (i *integration) check(ctx context.Context) (access.CheckReport, error) {
	health, err := i.api.health(ctx)
	if err != nil {
		return access.CheckReport{Items: []access.CheckItem{failed("connect", "connect", err)}}, nil
	}
	report := access.CheckReport{Server: edition(health)}
	here, err := i.api.organization(ctx)
	if err != nil {
		report.Items = append(report.Items, failed("connect", "connect", err))
		return report, nil
	}
	report.Items = append(report.Items,
		access.CheckItem{Operation: "connect", Name: "connect", OK: true, Detail: "the token belongs to the organization " + here.Name},
		checkVersion(health.Version), i.checkTLS())
	rights, err := i.api.rights(ctx)
	if err != nil {
		report.Items = append(report.Items, failed("verify", "rights of the token", err))
		return report, nil
	}
	report.Items = append(report.Items, checkPeople(rights))
	lacking := map[string]bool{}
	for _, typ := range order {
		if typ == typeOrganization || !i.wants(typ) {
			continue
		}
		item := i.checkEdition(ctx, typ)
		report.Items, lacking[typ] = append(report.Items, item), !item.OK && item.Optional
	}
	back := access.CheckItem{Operation: "revoke", Name: "take access back", OK: true}
	for _, n := range needs {
		if !i.wants(n.typ) || lacking[n.typ] {
			continue
		}
		item := checkRight(n, rights)
		report.Items = append(report.Items, item)
		if !item.OK && n.operation == "grant" {
			back.OK, back.Detail, back.Remedy = false, item.Detail, item.Remedy
		}
	}
	report.Items = append(report.Items, back)
	if i.wants(typeOrganization) {
		report.Items = append(report.Items, i.checkRoles(ctx)...)
	}
	return report, nil
}

func failed(operation, name string, err error) access.CheckItem {
	item := access.CheckItem{Operation: operation, Name: name, Detail: err.Error()}
	if e, ok := errors.AsType[*access.Error](err); ok {
		item.Detail, item.Remedy = e.Text, e.Remedy
	}
	return item
}

// checkVersion takes a server that does not say its version as it is.
func checkVersion(version string) access.CheckItem {
	item := access.CheckItem{Operation: "connect", Name: "version", OK: true}
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 3 {
		item.Detail = "the server does not say it"
		return item
	}
	major, _ := strconv.Atoi(parts[0])
	minor, _ := strconv.Atoi(parts[1])
	if slices.Compare([]int{major, minor}, oldest[:]) < 0 {
		item.OK, item.Detail, item.Remedy = false, version+" is older than 10.3", "upgrade Grafana"
	}
	return item
}

func (i *integration) checkTLS() access.CheckItem {
	item := access.CheckItem{Operation: "connect", Name: "tls", Optional: true, OK: strings.HasPrefix(i.config.URL, "https:") && !i.config.TLSSkipVerify}
	switch {
	case !strings.HasPrefix(i.config.URL, "https:"):
		item.Detail, item.Remedy = "the token is sent unencrypted", "write https in url"
	case i.config.TLSSkipVerify:
		item.Detail, item.Remedy = "nobody proves that this is the right Grafana", "give ca_certificate in place of tls_skip_verify"
	}
	return item
}

// checkPeople demands that everybody is seen: who is not seen is taken for gone.
func checkPeople(rights map[string][]string) access.CheckItem {
	item := access.CheckItem{Operation: "verify", Name: "find people", OK: everything(rights[rightPeople], "users")}
	if !item.OK {
		item.Detail, item.Remedy = "the token does not see everybody in the organization", "give the service account "+rightPeople+" on users:*"
	}
	return item
}

// checkEdition looks whether there are permissions on a type of resource here.
func (i *integration) checkEdition(ctx context.Context, typ string) access.CheckItem {
	name := "permissions on " + sorts[typ].called
	if _, err := i.description(ctx, sorts[typ]); err != nil {
		item := failed("verify", name, err)
		item.Optional = access.KindOf(err) == access.Unsupported
		return item
	}
	return access.CheckItem{Operation: "verify", Name: name, OK: true}
}

func checkRight(n need, rights map[string][]string) access.CheckItem {
	scopes := rights[n.action]
	item := access.CheckItem{Operation: n.operation, Name: n.action, OK: len(scopes) > 0}
	whole := []string{sorts[n.typ].name}
	switch n.typ {
	case typeDashboard:
		whole = append(whole, "folders") // with what is in them
	case typeOrganization:
		whole = []string{"users"}
	}
	switch {
	case !item.OK:
		item.Detail, item.Remedy = "the token lacks "+n.action, "give the service account "+n.action
	case !slices.ContainsFunc(whole, func(of string) bool { return everything(scopes, of) }):
		item.Detail = "only on " + strings.Join(scopes, ", ")
	}
	return item
}

// checkRoles looks whose roles can be changed, and to which.
func (i *integration) checkRoles(ctx context.Context) []access.CheckItem {
	highest := access.CheckItem{Operation: "grant", Name: "roles that can be given", Optional: true}
	switch own, err := i.ownRole(ctx); {
	case err != nil:
		highest = failed(highest.Operation, highest.Name, err)
	case own == "":
		highest.Detail, highest.Remedy = "the connector's own role is not known, and nobody gives a higher one", "give the service account serviceaccounts:read"
	case own != "Admin":
		highest.Detail, highest.Remedy = "the connector has the role "+own+" and can give no higher one", roleRemedy
	default:
		highest.OK = true
	}
	synced := access.CheckItem{Operation: "grant", Name: "roles that Grafana may change", Optional: true, OK: true}
	all, err := i.api.people(ctx, "")
	if err != nil {
		return []access.CheckItem{highest, failed(synced.Operation, synced.Name, err)}
	}
	if text := syncedOf(all); text != "" {
		synced.OK, synced.Detail, synced.Remedy = false, text, syncedRemedy
	}
	return []access.CheckItem{highest, synced}
}

// everything is true for scopes of which one is the whole of a sort of things.
func everything(scopes []string, of string) bool {
	return slices.ContainsFunc(scopes, func(s string) bool { return s == "*" || s == of+":*" || s == of+":id:*" || s == of+":uid:*" })
}
