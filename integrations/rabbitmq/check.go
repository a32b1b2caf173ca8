package rabbitmq

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

func (i *integration) check(ctx context.Context) (access.CheckReport, error) {
	me, err := i.api.whoami(ctx)
	if err != nil {
		return access.CheckReport{Items: []access.CheckItem{failed("connect", "connect", err)}}, nil
	}
	report := access.CheckReport{Items: []access.CheckItem{{Operation: "connect", Name: "connect", OK: true, Detail: "connected as " + me.Name}}}
	product, version, err := i.api.version(ctx)
	if err != nil {
		report.Items = append(report.Items, failed("connect", "version", err))
		return report, nil
	}
	report.Server = product + " " + version
	report.Items = append(report.Items, checkVersion(version), i.checkTLS(), i.checkCatalog(ctx, me))
	report.Items = append(report.Items, i.checkAdministrator(me)...)
	report.Items = append(report.Items, i.checkCache(ctx))
	return report, nil
}

func failed(operation, name string, err error) access.CheckItem {
	item := access.CheckItem{Operation: operation, Name: name, Detail: err.Error()}
	if e, ok := errors.AsType[*access.Error](err); ok {
		item.Detail, item.Remedy = e.Text, e.Remedy
	}
	return item
}

func checkVersion(version string) access.CheckItem {
	item := access.CheckItem{Operation: "connect", Name: "version", OK: !before(version, 3, 10) && before(version, 5, 0)}
	switch {
	case before(version, 3, 10):
		item.Detail, item.Remedy = version+" is older than 3.10", "upgrade the broker"
	case !item.OK:
		item.Optional, item.Detail = true, version+" is newer than what Lapse was tried with, 3.10 to 4"
	}
	return item
}

// before compares a version with one of two numbers.
func before(version string, major, minor int) bool {
	parts := strings.SplitN(version, ".", 3)
	n := [2]int{}
	for i := range min(2, len(parts)) {
		n[i], _ = strconv.Atoi(parts[i])
	}
	return n[0] < major || n[0] == major && n[1] < minor
}

func (i *integration) checkTLS() access.CheckItem {
	item := access.CheckItem{Operation: "connect", Name: "tls", Optional: true, OK: strings.HasPrefix(i.base, "https:") && !i.config.TLSSkipVerify}
	switch {
	case !strings.HasPrefix(i.base, "https:"):
		item.Detail, item.Remedy = "the connector's password is sent unencrypted", "set management.ssl in rabbitmq.conf, and write https in url"
	case i.config.TLSSkipVerify:
		item.Detail, item.Remedy = "nobody proves that this is the right broker", "give ca_certificate in place of tls_skip_verify"
	}
	return item
}

// checkCatalog looks whether the connector reads the virtual hosts that it sees.
// An administrator reads all; somebody else those that it has permissions in.
func (i *integration) checkCatalog(ctx context.Context, me user) access.CheckItem {
	item := access.CheckItem{Operation: "discover", Name: "read virtual hosts", OK: true}
	vhosts, err := i.api.vhosts(ctx)
	if err != nil {
		return failed(item.Operation, item.Name, err)
	}
	if me.has("administrator") {
		return item
	}
	item.Detail = "only those that " + i.secret.Username + " has permissions in"
	if len(vhosts) == 0 {
		item.OK, item.Detail, item.Remedy = false, "the connector sees no virtual host", reading("/", i.secret.Username)
	}
	for _, v := range vhosts {
		if _, _, err := i.api.page(ctx, stepQueues, v.Name, 1); err != nil {
			item.OK, item.Detail, item.Remedy = false, "virtual host "+v.Name+" is not read: "+err.Error(), reading(v.Name, i.secret.Username)
			break
		}
	}
	return item
}

// checkAdministrator looks at the one tag by which RabbitMQ lets somebody manage
// users, their permissions and their connections.
func (i *integration) checkAdministrator(me user) (items []access.CheckItem) {
	for _, need := range [][2]string{{"grant", "make users and give permissions"}, {"revoke", "take permissions back"}, {"end_sessions", "close connections of others"}} {
		item := access.CheckItem{Operation: need[0], Name: need[1], OK: me.has("administrator")}
		if !item.OK {
			item.Detail = i.secret.Username + " lacks the tag administrator"
			item.Remedy = strings.Replace(administratorRemedy, "USER", integrations.ShellWord(i.secret.Username), 1)
		}
		items = append(items, item)
	}
	return items
}

// checkCache warns of the plugin that may keep permissions after they are gone.
func (i *integration) checkCache(ctx context.Context) access.CheckItem {
	item := access.CheckItem{Operation: "revoke", Name: "authorisation cache", Optional: true, OK: true}
	plugins, err := i.api.plugins(ctx)
	if err != nil {
		item = failed(item.Operation, item.Name, err)
		item.Optional = true
		return item
	}
	if slices.Contains(plugins, "rabbitmq_auth_backend_cache") {
		item.OK, item.Detail = false, "rabbitmq_auth_backend_cache is enabled: where it caches RabbitMQ's own users, a revoke is complete only when its entries are out of date"
		item.Remedy = "in rabbitmq.conf let auth_backends ask internal directly, and cache other back ends only"
	}
	return item
}
