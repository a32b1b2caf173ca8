package mysql

import (
	"encoding/json"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/sqlname"
)

// What a marked account is.
const (
	kindAccount     = "account"
	kindEntitlement = "entitlement"
	kindTombstone   = "tombstone"
)

// mark is what Lapse writes into the attribute "lapse" of every account and
// role that it makes, beside attributes of others:
// https://dev.mysql.com/doc/refman/8.4/en/create-user.html#create-user-comments-attributes
// One without it, or with another instance or integration in it, is somebody
// else's.
type mark struct {
	Kind        string `json:"kind"`
	Instance    string `json:"instance"`
	Integration string `json:"integration"`
	// Account is the account's id, of accounts and tombstones.
	Account string `json:"account,omitempty"`
	// Sequence is the number of the last operation on the account.
	Sequence int64 `json:"sequence,omitempty"`
	// Entitlement is what an entitlement role carries.
	Entitlement *access.Entitlement `json:"entitlement,omitempty"`
	// Applied is when an entitlement role was last looked after.
	Applied time.Time `json:"applied,omitzero"`
	// Kept is true of an account that has by itself what its triggers need: its
	// last access is ending, and nobody may be let in again.
	Kept bool `json:"kept,omitempty"`
	// Given is, without roles, what Lapse gave to the account.
	Given []access.Entitlement `json:"given,omitempty"`
}

// readMark reads an attribute; ok is false when it is not a mark.
func readMark(text string) (m mark, ok bool) {
	if text == "" || json.Unmarshal([]byte(text), &m) != nil || m.Instance == "" {
		return mark{}, false
	}
	return m, true
}

// text is the mark as JSON.
func (m mark) text() string {
	text, err := json.Marshal(m)
	if err != nil {
		panic("mysql: encoding a plain struct failed: " + err.Error())
	}
	return string(text)
}

// attribute is the mark as ATTRIBUTE takes it. The server merges it with what
// is there.
func (m mark) attribute() sqlname.Literal { return sqlname.Literal(`{"lapse":` + m.text() + `}`) }
