package github

import "time"

func init() {
	lags = []time.Duration{0, 2 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond}
}

// Documents are those that the GraphQL API is asked with.
var Documents = []string{organizationQuery, organizationIdentities, enterpriseIdentities, domainQuery, repositoryByName, repositoryByID,
	teamBySlug, teamByID, repositoriesQuery}
