package postgresql

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/lapse-access/lapse/access"
)

// markPrefix begins the comment of every role that Lapse made.
const markPrefix = "lapse:v1:"

// What a marked role is.
const (
	kindAccount     = "account"
	kindEntitlement = "entitlement"
	kindTombstone   = "tombstone"
)

// mark is what Lapse writes into COMMENT ON ROLE. A role without it, or with
// another instance or integration in it, is somebody else's.
type mark struct {
	Kind        string `json:"kind"`
	Instance    string `json:"instance"`
	Integration string `json:"integration"`
	// Account is the account's id, of accounts and tombstones.
	Account string `json:"account,omitempty"`
	// Sequence is the number of the last operation on the account.
	Sequence int64 `json:"sequence,omitempty"`
	// Grantors are the roles by whose right Lapse gave the account memberships
	// in roles of the customer. From PostgreSQL 16 on each grantor's grant is
	// a row of its own, also after the connector's login was changed.
	Grantors []string `json:"grantors,omitempty"`
	// Entitlement is what an entitlement role carries.
	Entitlement *access.Entitlement `json:"entitlement,omitempty"`
	// Applied is when an entitlement role's default privileges were last set.
	Applied time.Time `json:"applied,omitzero"`
}

// readMark reads a role's comment; ok is false when it is not a mark.
func readMark(comment string) (m mark, ok bool) {
	text, ok := strings.CutPrefix(comment, markPrefix)
	if !ok || json.Unmarshal([]byte(text), &m) != nil {
		return mark{}, false
	}
	return m, true
}

// comment is the statement that writes the mark.
func (m mark) comment(role string) statement {
	text, err := json.Marshal(m)
	if err != nil {
		return statement{Err: err}
	}
	return ddl("COMMENT ON ROLE ? IS ?", ident(role), literal(markPrefix+string(text)))
}
