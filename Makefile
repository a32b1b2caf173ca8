# "make help" lists what there is to make.

# The same flags everywhere, so that the Temporal server is compiled only once.
export CGO_ENABLED := 0
export GOFLAGS := -buildvcs=false
GO ?= go
export GO

# The product, and the development command that carries the Temporal server.
MODULES := . starter/dev
TOOL := $(GO) tool -modfile=$(CURDIR)/internal/tools/go.mod

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: postgresql build ## start everything on this machine, with a database to try it on
	@exec bin/lapse-dev

.PHONY: build
build: ## build bin/lapse and bin/lapse-dev
	@mkdir -p bin
	@deploy/dev/build.sh bin/lapse starter
	@deploy/dev/build.sh bin/lapse-dev starter/dev

.PHONY: postgresql
postgresql: ## install a PostgreSQL server for the demonstration unless there is one
	@deploy/dev/postgresql.sh

.PHONY: servers
servers:
	@deploy/dev/postgresql.sh --both
	@deploy/dev/mysql.sh
	@deploy/dev/rabbitmq.sh
	@deploy/dev/redis.sh

.PHONY: test
test: servers ## run all tests; CI=true makes a missing real server an error
	@deploy/dev/chromium.sh
	$(GO) vet ./... && $(GO) test ./...
	cd starter/dev && $(GO) vet ./... && $(GO) test -parallel 4 ./... # they wait for the clock more than for a processor

.PHONY: bench
bench: ## measure what Lapse costs, which takes minutes; LAPSE_UPDATE=1 writes docs/performance.md
	@deploy/dev/postgresql.sh
	cd starter/dev && LAPSE_FIGURES=$(or $(LAPSE_FIGURES),1) $(GO) test -count=1 -v -timeout 60m -run '^TestFigures$$' .

.PHONY: record
record: ## record the workflow histories that the replay test needs
	cd starter/dev && LAPSE_RECORD=1 $(GO) test -count=1 -run TestRecordHistories .
	$(GO) test -count=1 -run TestReplay ./workflows

.PHONY: lint
lint: ## run the static checks
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt would change: $$unformatted"; exit 1; }
	@set -e; for module in $(MODULES); do (cd $$module && set -x && $(GO) vet ./... && $(TOOL) staticcheck ./...); done
	$(TOOL) workflowcheck -config internal/tools/workflowcheck.yaml ./...

.PHONY: clean
clean: ## remove what was built; the data stays
	rm -rf bin

.PHONY: generate
generate: servers ## certify every kind anew, and write what is derived from the kinds' declarations
	CI=true LAPSE_UPDATE=1 $(GO) test -count=1 -run TestCertification ./integrations/...
	LAPSE_UPDATE=1 $(GO) test -count=1 -run TestGenerated ./integrations
