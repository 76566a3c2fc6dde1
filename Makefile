# make demo needs Go alone. Variables are given as in: make demo ORDERS=1000 KILL=1

GO ?= go
BIN := bin
SERVICES := order payment inventory shipping

# Every module of the repository; those of MODULES need neither brokers nor Docker.
MODULES := . choreo/cloudevent/sdk services cmd/choreo mutation bench
ALL_MODULES := $(MODULES) integration
LINT := $(abspath $(BIN))/golangci-lint
LINT_VERSION := v2.15.0
VULN := $(abspath $(BIN))/govulncheck
VULN_VERSION := v1.8.0
GREMLINS := $(abspath $(BIN))/gremlins
GREMLINS_VERSION := v0.6.0

.PHONY: help build demo demo-compose test simulate race integration directed bench mutants mutants-all replay soak soak-sample lint vuln tidy

## help: the targets
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)


## build: the command-line tool and the services, into ./bin
build:
	@mkdir -p $(BIN)
	$(GO) build -o $(BIN)/ ./cmd/choreo $(SERVICES:%=./services/%)

# What the demo is asked for; see bin/choreo demo --help.
DEMO_FLAGS = $(if $(ORDERS),--orders=$(ORDERS)) $(if $(RATE),--rate=$(RATE)) \
	$(if $(DURATION),--duration=$(DURATION)) $(if $(BURST),--burst=$(BURST)) \
	$(if $(TIMEOUT),--timeout=$(TIMEOUT)) $(if $(OUTPUT),--output=$(OUTPUT))

## demo: place orders with the four services and check all they say
##   ORDERS=n (200)   KAFKA_BROKERS=host:port,… (an embedded broker)
##   KILL=1 kills services meanwhile, SEED=n   RATE=n orders/s, DURATION=20s   BURST=n within 100 ms
##   PATIENCE=2s (15m) after which an order expires, as some then do
demo: build
	@$(BIN)/choreo demo --bin=$(BIN) $(DEMO_FLAGS) $(if $(KAFKA_BROKERS),--brokers=$(KAFKA_BROKERS)) \
		$(if $(PATIENCE),--patience=$(PATIENCE)) $(if $(filter-out 0,$(KILL)),--kill) $(if $(SEED),--seed=$(SEED))

## demo-compose: the same orders and checks, against what docker compose up has started
demo-compose: KAFKA_PORT ?= 29092
demo-compose: ORDER_PORT ?= 8080
demo-compose:
	@mkdir -p $(BIN)
	$(GO) build -o $(BIN)/ ./cmd/choreo
	@$(BIN)/choreo demo --order-url=http://127.0.0.1:$(ORDER_PORT) --brokers=127.0.0.1:$(KAFKA_PORT) $(DEMO_FLAGS)

# Simulations need the build tag synctests: with it the Kafka client takes locks
# (channels) that simulated time can pass by. Without it Simulate fails the test.
SIMULATED := ./choreo/choreotest ./choreo/choreotest/soak ./docs/guide ./services

## test: unit tests, those on the embedded broker, and a sample of the simulations, in random order; needs Go alone
test:
	@for m in $(MODULES); do echo "== $$m"; $(GO) test -C $$m -shuffle=on -timeout 5m ./... || exit 1; done
	@echo "== simulations"; CHOREO_SEEDS=3 $(GO) test -tags synctests -shuffle=on -timeout 10m ./choreo/choreotest/internal/... $(SIMULATED)

## simulate: whole choreographies under simulated time and faults; a failure says how to run it again
##   SEEDS=n (50)   SEED=n, the first or the only one   RUN=which tests (Simulate)   VERBOSE=1 shows each seed
simulate:
	CHOREO_SEEDS=$(or $(SEEDS),$(if $(SEED),1,50)) $(if $(SEED),CHOREO_SEED=$(SEED)) \
		$(GO) test -tags synctests -count=1 -timeout 0 -run '$(or $(RUN),Simulate)' $(if $(VERBOSE),-v) $(SIMULATED)

## race: the same under the race detector; needs a C compiler too
race:
	@for m in $(MODULES); do echo "== $$m"; CGO_ENABLED=1 $(GO) test -C $$m -race -shuffle=on -timeout 10m ./... || exit 1; done

## integration: tests on real Kafka: KAFKA_BROKERS, or containers where Docker is there
integration:
	$(GO) test -C integration -count=1 -timeout 30m $(if $(RUN),-run '$(RUN)') $(if $(VERBOSE),-v) ./...

# Figures of a quick run are not for the docs.
BENCH_DIR = $(if $(filter-out 0,$(QUICK)),$(BIN)/benchmarks,docs/benchmarks)

## directed: tests of what random faults hardly meet, on the embedded broker; with KAFKA_BROKERS=host:port,… on those, too
directed:
	KAFKA_BROKERS='$(KAFKA_BROKERS)' $(GO) test -count=1 -timeout 10m -run '^TestDirected' $(if $(VERBOSE),-v) ./choreo/internal/txn ./choreo/internal/task

## bench: choreo side by side with what else one could write, on real brokers; about ten minutes
##   KAFKA_BROKERS=host:port,…   writes docs/benchmarks.md and docs/benchmarks/
##   QUICK=1 about a minute, writes into bin/benchmarks   OUTPUT=json   BENCH_FLAGS=…, see bin/bench -help
bench:
	@mkdir -p $(BIN)
	@$(GO) build -o $(BIN)/ ./bench ./choreo/internal/rawpipeline
	@$(BIN)/bench -brokers='$(KAFKA_BROKERS)' -dir=$(BENCH_DIR) -command='make bench KAFKA_BROKERS=…$(if $(BENCH_FLAGS), BENCH_FLAGS="$(BENCH_FLAGS)")' \
		$(if $(filter-out 0,$(QUICK)),-quick,-page=docs/benchmarks.md) $(if $(OUTPUT),-output=$(OUTPUT)) $(BENCH_FLAGS)

## mutants: break the core on purpose, line by line: which tests notice? Goes on where it was interrupted
##   JOBS=n at once (2)   ONLY=regexp of files or names, written nowhere
mutants:
	$(GO) run -C mutation . -j $(or $(JOBS),2) $(if $(ONLY),-only '$(ONLY)') listed
	$(if $(ONLY),,$(GO) run -C mutation . report)

# Every kind of mutation that gremlins knows. It only says where they are: it takes one that
# does not compile for killed, and does not say by which test.
MUTATED := sched offsets agenda room timelimit journal view producer clientmetrics txn task
ALL_MUTATIONS := --invert-assignments --invert-bitwise --invert-bwassign --invert-logical --invert-loopctrl --remove-self-assignments

## mutants-all: those too that a tool generates for choreo/internal; about an hour
mutants-all: mutants $(GREMLINS)
	@mkdir -p $(BIN)/mutants
	@for p in $(MUTATED); do \
		$(GREMLINS) unleash --dry-run --silent $(ALL_MUTATIONS) -o $(abspath $(BIN))/mutants/$$p.json ./choreo/internal/$$p || exit 1; done
	$(GO) run -C mutation . -j $(or $(JOBS),2) $(if $(ONLY),-only '$(ONLY)') -reports $(abspath $(BIN))/mutants generated
	$(if $(ONLY),,$(GO) run -C mutation . report)

## replay: do seeds at which a simulation notices a mutant fail again? Into docs/soak-replay.json
replay:
	$(GO) run -C mutation . $(if $(ONLY),-only '$(ONLY)') replay

$(GREMLINS):
	@mkdir -p $(BIN)
	GOBIN=$(abspath $(BIN)) $(GO) install github.com/go-gremlins/gremlins/cmd/gremlins@$(GREMLINS_VERSION)

SOAK = mkdir -p $(BIN) && $(GO) build -o $(BIN)/ ./choreo/choreotest/soak && $(BIN)/soak -jobs $(or $(JOBS),1) -seed $(or $(SEED),1)

## soak: the framework, and the example, under simulated faults for hours, the result into docs/soak.json
##   HOURS=n (1)   JOBS=n processes, one core each (1)   SEED=n, the first one (1)
soak:
	@$(SOAK) -for $(or $(HOURS),1)h -report docs/soak.json

## soak-sample: five minutes of it, for CI; SEED=n
soak-sample:
	@$(SOAK) -for 5m

## lint: formatting, go vet and golangci-lint over every module
lint: $(LINT)
	@for m in $(ALL_MODULES); do echo "== $$m"; (cd $$m && $(LINT) run ./...) || exit 1; done

$(LINT):
	@mkdir -p $(BIN)
	GOBIN=$(abspath $(BIN)) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)

## vuln: known vulnerabilities in what is called; says so where its database cannot be reached
vuln: $(VULN)
	@for m in $(ALL_MODULES); do \
		echo "== $$m"; \
		if out=$$(cd $$m && $(VULN) ./... 2>&1); then printf '%s\n' "$$out"; \
		elif printf '%s' "$$out" | grep -q '^govulncheck: fetching vulnerabilities: '; then \
			printf '%s\n' "$$out"; echo "the database of vulnerabilities cannot be reached: NOTHING WAS CHECKED"; exit 0; \
		else printf '%s\n' "$$out"; exit 1; fi; \
	done

$(VULN):
	@mkdir -p $(BIN)
	GOBIN=$(abspath $(BIN)) $(GO) install golang.org/x/vuln/cmd/govulncheck@$(VULN_VERSION)

## tidy: go.mod and go.sum of every module
tidy:
	@for m in $(ALL_MODULES); do (cd $$m && $(GO) mod tidy) || exit 1; done
