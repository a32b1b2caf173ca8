package mariadb

import (
	"fmt"
	"strings"
)

// The names of the roles that Lapse makes begin with these.
const (
	accountPrefix     = "lapse_m:"
	tombstonePrefix   = "lapse_t:"
	umbrellaPrefix    = "lapse_u_"
	entitlementPrefix = "lapse_e_"
)

// own tells whether a role is one of Lapse's, of whatever instance.
func (i *integration) own(role string) bool {
	for _, prefix := range []string{accountPrefix, tombstonePrefix, umbrellaPrefix, entitlementPrefix} {
		if strings.HasPrefix(role, prefix) {
			return true
		}
	}
	return role == i.config.AdminRoleName
}

// mark names an account by its ids. An account of MariaDB has neither a comment
// nor an attribute, so that the mark is a role without privileges that the account
// is given, one for each person. While an account is made, and not given its role
// yet, the mark stands as the subject of a certificate that it would have to
// show, so that it cannot be taken for somebody else's.
type mark struct{ instance, integration, person string }

func (i *integration) mark(person string) mark { return mark{i.instance, i.id, person} }

func (m mark) account() string { return accountPrefix + m.ids() }

// tombstone marks an account that is kept because it is the definer of something.
func (m mark) tombstone() string { return tombstonePrefix + m.ids() }

func (m mark) ids() string { return m.instance + "/" + m.integration + "/" + m.person }

// The number of the last operation stands in two limits of the account, beyond a
// thousand million an hour, which nobody reaches: 31 bits each. They can be
// changed in the statement that locks the account.
// https://mariadb.com/docs/server/reference/sql-statements/account-management-sql-statements/create-user#resource-limit-options
const (
	unreachable = 1_000_000_000
	halfBits    = 31
	halfMask    = 1<<halfBits - 1
)

func split(sequence int64) (low, high int64) {
	return unreachable + sequence&halfMask, unreachable + sequence>>halfBits
}

// limits is the part of a statement that writes a number.
func limits(sequence int64) string {
	low, high := split(sequence)
	return fmt.Sprintf("WITH MAX_CONNECTIONS_PER_HOUR %d MAX_UPDATES_PER_HOUR %d", low, high)
}

// number undoes split; limits that somebody else has set are no number.
func number(low, high int64) int64 {
	if low < unreachable || high < unreachable {
		return 0
	}
	return (high-unreachable)<<halfBits | (low - unreachable)
}
