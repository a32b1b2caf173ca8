package githubtest

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/validator"
	"github.com/vektah/gqlparser/v2/validator/rules"
)

// object is a value of the GraphQL API: its type, and its fields, each a value or
// what computes one from arguments.
type object struct {
	typ    string
	fields map[string]any
}

type computed func(args map[string]any) any

// graphql answers a document, which has to be valid by GitHub's schema, as the
// answer has to be.
func (h *Hub) graphql(w http.ResponseWriter, body []byte) {
	var sent struct {
		Query     string
		Variables map[string]any
	}
	if err := json.Unmarshal(body, &sent); err != nil {
		Refuse(w, http.StatusBadRequest, "Problems parsing JSON")
		return
	}
	doc, errs := gqlparser.LoadQueryWithRules(h.v.schema, sent.Query, rules.NewDefaultRules())
	if errs != nil {
		h.t.Errorf("GitHub's schema has no such document: %v\n%s", errs, sent.Query)
		Refuse(w, http.StatusBadRequest, "invalid")
		return
	}
	variables, err := validator.VariableValues(h.v.schema, doc.Operations[0], sent.Variables)
	if err != nil {
		h.t.Errorf("the variables do not fit the document: %v\n%s", err, sent.Query)
		Refuse(w, http.StatusBadRequest, "invalid")
		return
	}
	run := &execution{Hub: h, variables: variables}
	data := run.object(&object{"Query", map[string]any{
		"organization": computed(func(a map[string]any) any {
			if strings.EqualFold(a["login"].(string), h.Organization) {
				return h.graphOrganization()
			}
			return nil
		}),
		"enterprise": computed(func(a map[string]any) any {
			if h.Enterprise == nil || a["slug"] != "acme-inc" {
				return nil
			}
			return &object{"Enterprise", map[string]any{"ownerInfo": &object{"EnterpriseOwnerInfo", map[string]any{
				"samlIdentityProvider": nil, "oidcProvider": identityProvider("OIDCProvider", h.Enterprise)}}}}
		}),
		"node": computed(func(a map[string]any) any { return h.graphNode(a["id"].(string)) }),
	}}, doc.Operations[0].SelectionSet, nil)
	text, _ := json.Marshal(map[string]any{"data": data, "errors": run.errors})
	if len(run.errors) == 0 {
		text, _ = json.Marshal(map[string]any{"data": data})
	}
	if old := h.old[string(body)]; h.Stale > 0 && old != nil {
		h.Stale--
		text = old
	} else {
		h.old[string(body)] = text
	}
	if h.Bend != nil {
		text = h.Bend(text)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	w.Write(text)
}

type execution struct {
	*Hub
	variables map[string]any
	errors    []map[string]any
}

func (x *execution) object(o *object, set ast.SelectionSet, path []any) map[string]any {
	out := map[string]any{}
	for _, s := range set {
		switch s := s.(type) {
		case *ast.InlineFragment:
			if s.TypeCondition == o.typ {
				for k, v := range x.object(o, s.SelectionSet, path) {
					out[k] = v
				}
			}
		case *ast.Field:
			if s.Name == "__typename" {
				out[s.Alias] = o.typ
				continue
			}
			v, known := o.fields[s.Name]
			if !known {
				x.t.Errorf("the model has no field %s of %s", s.Name, o.typ)
			}
			if f, ok := v.(computed); ok {
				v = f(s.ArgumentMap(x.variables))
			}
			out[s.Alias] = x.value(v, s.Definition.Type, s.SelectionSet, append(slices.Clone(path), s.Alias))
		}
	}
	return out
}

// missable are the fields that are null with an error when there is nothing.
var missable = []string{"organization", "repository", "node", "enterprise"}

func (x *execution) value(v any, typ *ast.Type, set ast.SelectionSet, path []any) any {
	switch v := v.(type) {
	case nil:
		if typ.NonNull {
			x.t.Errorf("the model's answer has nothing at %v, where GitHub's schema wants %s", path, typ)
		}
		if slices.Contains(missable, fmt.Sprint(path[len(path)-1])) {
			x.errors = append(x.errors, map[string]any{"type": "NOT_FOUND", "path": path, "message": "Could not resolve"})
		}
		return nil
	case []any:
		if typ.Elem == nil {
			x.t.Errorf("the model's answer has a list at %v, where GitHub's schema wants %s", path, typ)
			return nil
		}
		out := []any{}
		for n, one := range v {
			out = append(out, x.value(one, typ.Elem, set, append(slices.Clone(path), n)))
		}
		return out
	case *object:
		if d := x.v.schema.Types[typ.Name()]; d.Name != v.typ && !slices.ContainsFunc(x.v.schema.PossibleTypes[d.Name], func(p *ast.Definition) bool { return p.Name == v.typ }) {
			x.t.Errorf("the model's answer has a %s at %v, where GitHub's schema wants %s", v.typ, path, typ)
		}
		return x.object(v, set, path)
	}
	d := x.v.schema.Types[typ.Name()]
	_, text := v.(string)
	switch {
	case d.Kind == ast.Enum && d.EnumValues.ForName(fmt.Sprint(v)) == nil, (typ.Name() == "String" || typ.Name() == "ID") && !text:
		x.t.Errorf("the model's answer has %v at %v, where GitHub's schema wants %s", v, path, typ)
	}
	return v
}

// connection is a page of a list by cursors.
func connection(typ string, all []any, as string) computed {
	return func(a map[string]any) any {
		from := 0
		if after, ok := a["after"].(string); ok {
			text, _ := base64.StdEncoding.DecodeString(after)
			from, _ = strconv.Atoi(strings.TrimPrefix(string(text), "cursor:"))
		}
		first := 100
		switch n := a["first"].(type) {
		case int64:
			first = int(n)
		case int:
			first = n
		}
		to := min(from+first, len(all))
		end := base64.StdEncoding.EncodeToString([]byte("cursor:" + strconv.Itoa(to)))
		return &object{typ, map[string]any{as: append([]any{}, all[min(from, to):to]...),
			"pageInfo": &object{"PageInfo", map[string]any{"hasNextPage": to < len(all), "endCursor": end}}}}
	}
}

func (h *Hub) graphUser(u *User) *object {
	return &object{"User", map[string]any{"id": fmt.Sprintf("U_%d", u.ID), "login": u.Login, "databaseId": u.ID,
		"organizationVerifiedDomainEmails": computed(func(map[string]any) any {
			return append([]any{}, list(u.Verified, func(s string) any { return s })...)
		})}}
}

func identityProvider(typ string, all []*Identity) *object {
	return &object{typ, map[string]any{"externalIdentities": computed(func(a map[string]any) any {
		var found []any
		for n, x := range all {
			if name, ok := a["userName"].(string); ok && !(len(x.SAML) > 0 && strings.EqualFold(x.SAML[0], name)) && !(len(x.SCIM) > 0 && strings.EqualFold(x.SCIM[0], name)) {
				continue
			}
			o := map[string]any{"id": fmt.Sprintf("EI_%d", n), "samlIdentity": nil, "scimIdentity": nil, "user": nil}
			addresses := func(list []string) (out []any) {
				out = []any{}
				for _, s := range list {
					out = append(out, &object{"UserEmailMetadata", map[string]any{"value": s}})
				}
				return out
			}
			if len(x.SAML) > 0 {
				o["samlIdentity"] = &object{"ExternalIdentitySamlAttributes", map[string]any{"nameId": x.SAML[0], "username": nil, "emails": addresses(x.SAML[1:])}}
			}
			if len(x.SCIM) > 0 {
				o["scimIdentity"] = &object{"ExternalIdentityScimAttributes", map[string]any{"username": x.SCIM[0], "emails": addresses(x.SCIM[1:])}}
			}
			if x.User != nil {
				o["user"] = &object{"User", map[string]any{"login": x.User.Login, "databaseId": x.User.ID}}
			}
			found = append(found, &object{"ExternalIdentity", o})
		}
		return connection("ExternalIdentityConnection", found, "nodes")(a)
	})}}
}

func (h *Hub) graphOrganization() *object {
	var members []any
	for _, u := range h.Users {
		if u.Role != "" {
			members = append(members, h.graphUser(u))
		}
	}
	var provider any
	if h.Provider != nil {
		provider = identityProvider("OrganizationIdentityProvider", h.Provider)
	}
	return &object{"Organization", map[string]any{"id": "O_1", "login": h.Organization, "viewerCanAdminister": h.Self.Role == "admin" && h.AppKey == nil,
		"samlIdentityProvider": provider,
		"membersWithRole":      connection("OrganizationMemberConnection", members, "nodes"),
		"repository": computed(func(a map[string]any) any {
			if r := h.FindRepository(a["name"].(string)); r != nil {
				return h.graphRepository(r)
			}
			return nil
		}),
		"team": computed(func(a map[string]any) any {
			if g := h.FindTeam(a["slug"].(string)); g != nil {
				return h.graphTeam(g)
			}
			return nil
		}),
		"repositories": computed(func(a map[string]any) any {
			if a["isArchived"] != false {
				h.t.Errorf("the catalog is asked for archived repositories too")
			}
			var all []*Repository
			for _, r := range h.Repositories {
				if !r.Archived && !r.Gone {
					all = append(all, r)
				}
			}
			slices.SortFunc(all, func(a, b *Repository) int { return cmp.Compare(a.Name, b.Name) })
			// A cursor is the last name, so that it holds when repositories go.
			after, _ := a["after"].(string)
			h.Pages = append(h.Pages, after)
			all = slices.DeleteFunc(all, func(r *Repository) bool { return r.Name <= after })
			all, more := all[:min(100, len(all))], len(all) > 100
			end := any(nil)
			if len(all) > 0 {
				end = all[len(all)-1].Name
			}
			return &object{"RepositoryConnection", map[string]any{"nodes": append([]any{}, list(all, func(r *Repository) any { return h.graphRepository(r) })...),
				"pageInfo": &object{"PageInfo", map[string]any{"hasNextPage": more, "endCursor": end}}}}
		}),
	}}
}

func (h *Hub) graphNode(id string) any {
	for _, r := range h.Repositories {
		if id == fmt.Sprintf("R_%d", r.ID) && !r.Gone && !(h.Hidden && r.Private) {
			return h.graphRepository(r)
		}
	}
	for _, g := range h.Teams {
		if id == fmt.Sprintf("T_%d", g.ID) {
			return h.graphTeam(g)
		}
	}
	return nil
}

func (h *Hub) graphTeam(g *Team) *object {
	return &object{"Team", map[string]any{"id": fmt.Sprintf("T_%d", g.ID), "slug": g.Slug, "members": computed(func(a map[string]any) any {
		var edges []any
		for _, u := range h.Users {
			role := g.Members[u.ID]
			if a["membership"] != "IMMEDIATE" {
				role = h.InTeam(g, u)
			}
			if role == "" {
				continue
			}
			if u.Role == "admin" {
				role = "maintainer" // as owners are shown
			}
			edges = append(edges, &object{"TeamMemberEdge", map[string]any{"role": strings.ToUpper(role), "node": h.graphUser(u)}})
		}
		return connection("TeamMemberConnection", edges, "edges")(a)
	})}}
}

func (h *Hub) graphRepository(r *Repository) *object {
	folded := map[string]string{"read": "READ", "triage": "READ", "write": "WRITE", "maintain": "WRITE", "admin": "ADMIN"}
	source := func(level string, from *object) any {
		return &object{"PermissionSource", map[string]any{"permission": folded[h.baseOf(level)], "roleName": level, "source": from}}
	}
	visibility := "PRIVATE"
	if !r.Private {
		visibility = "PUBLIC"
	}
	return &object{"Repository", map[string]any{"id": fmt.Sprintf("R_%d", r.ID), "name": r.Name, "isArchived": r.Archived, "viewerCanAdminister": !r.NoAdmin && h.AppKey == nil,
		"description": r.Description, "visibility": visibility, "owner": &object{"Organization", map[string]any{"login": h.Organization}},
		"collaborators": computed(func(a map[string]any) any {
			if r.NoAdmin {
				return nil
			}
			var edges []any
			for _, u := range h.Users {
				if login, ok := a["login"].(string); ok && !strings.EqualFold(login, u.Login) {
					continue
				}
				var sources []any
				if u.Role == "admin" {
					sources = append(sources, source("admin", &object{"Organization", map[string]any{"login": h.Organization}}))
				} else if u.Role != "" && h.Base != "" {
					sources = append(sources, source(h.Base, &object{"Organization", map[string]any{"login": h.Organization}}))
				}
				for slug, level := range r.Teams {
					if g := h.FindTeam(slug); g != nil && h.InTeam(g, u) != "" {
						sources = append(sources, source(level, h.graphTeam(g)))
					}
				}
				if level := r.Direct[u.ID]; level != "" {
					sources = append(sources, source(level, &object{"Repository", map[string]any{}}))
				}
				if len(sources) > 0 {
					edges = append(edges, &object{"RepositoryCollaboratorEdge", map[string]any{"node": h.graphUser(u), "permissionSources": sources}})
				}
			}
			return connection("RepositoryCollaboratorConnection", edges, "edges")(a)
		})}}
}
