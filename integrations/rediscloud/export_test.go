package rediscloud

import (
	"context"
	"time"

	"github.com/lapse-access/lapse/integrations"
)

// Patience is how long an operation looks at one thing.
const Patience = patience

// KindAt is the kind with a clock of its own.
func KindAt(now func() time.Time, sleep func(context.Context, time.Duration) error) integrations.Kind {
	k := Kind()
	k.New = func(t integrations.Target) (integrations.Integration, error) {
		return newIntegration(t, clock{now, sleep})
	}
	return k
}

// RoleName is the mark of a person's account.
func RoleName(i integrations.Integration, person string) string {
	return i.(*integration).roleName(person)
}

// VendorCodes are the vendor's errors that are known by name.
func VendorCodes() (all []string) {
	for code := range codes {
		all = append(all, string(code))
	}
	for code := range busyCodes {
		all = append(all, string(code))
	}
	return all
}
