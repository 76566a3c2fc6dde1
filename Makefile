# make demo needs Go alone. Variables are given as in: make demo ORDERS=1000 KILL=1

GO ?= go
BIN := bin
SERVICES := order payment shipping

.PHONY: build demo demo-compose

## build: the command-line tool and the services, into ./bin
build:
	@mkdir -p $(BIN)
	$(GO) build -o $(BIN)/ ./cmd/choreo $(SERVICES:%=./services/%)

# What the demo is asked for; see bin/choreo demo --help.
DEMO_FLAGS = $(if $(ORDERS),--orders=$(ORDERS)) $(if $(RATE),--rate=$(RATE)) \
	$(if $(DURATION),--duration=$(DURATION)) $(if $(BURST),--burst=$(BURST)) \
	$(if $(TIMEOUT),--timeout=$(TIMEOUT)) $(if $(OUTPUT),--output=$(OUTPUT))

## demo: place orders with the three services and check all they say
##   ORDERS=n (200)   KAFKA_BROKERS=host:port,… (an embedded broker)
##   KILL=1 kills services meanwhile, SEED=n   RATE=n orders/s, DURATION=20s   BURST=n within 100 ms
demo: build
	@$(BIN)/choreo demo --bin=$(BIN) $(DEMO_FLAGS) $(if $(KAFKA_BROKERS),--brokers=$(KAFKA_BROKERS)) \
		$(if $(filter-out 0,$(KILL)),--kill) $(if $(SEED),--seed=$(SEED))

## demo-compose: the same orders and checks, against what docker compose up has started
demo-compose: KAFKA_PORT ?= 29092
demo-compose: ORDER_PORT ?= 8080
demo-compose:
	@mkdir -p $(BIN)
	$(GO) build -o $(BIN)/ ./cmd/choreo
	@$(BIN)/choreo demo --order-url=http://127.0.0.1:$(ORDER_PORT) --brokers=127.0.0.1:$(KAFKA_PORT) $(DEMO_FLAGS)
