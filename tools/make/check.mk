# What `make check` is made of. Each tier has its own target; `check` runs all of them.

PYTEST := tools/pytest.sh

.PHONY: check check-unit check-sim sim check-contract check-hostile check-toolbox check-embedded check-cluster check-bench check-asan tests bench

check: lint check-unit check-sim check-contract check-hostile check-toolbox check-embedded check-asan fuzz-smoke check-cluster check-bench ## every test there is, real servers included

check-unit: $(UNIT) ## unit tests
	@tools/run-tests.sh $(UNIT)

check-sim: $(TESTS)/sim ## simulation of the dispatcher's core
	@$(TESTS)/sim -seeds $(SEEDS)

sim: check-sim ## the same; SEEDS=100000 for more

check-contract: $(CONTRACT) servers ## contract tests of the object stores and the ledger
	@tools/run-tests.sh $(CONTRACT)

check-hostile: $(TESTS)/extract_driver ## hostile archives against the extraction helper
	@DROVER_BUILD=$(abspath $(BUILD)) DROVER_SANITIZE=$(SANITIZE) $(PYTEST) tests/hostile

check-toolbox: ## workflows against the sample project's list
	@$(PYTEST) tests/toolbox

check-embedded: all ## end-to-end stories without Nomad
	@DROVER_BIN=$(abspath $(BIN)) $(PYTEST) tests/embedded

check-cluster: all servers ## end-to-end stories on real Nomad, Consul and MinIO
	@DROVER_BIN=$(abspath $(BIN)) $(PYTEST) tests/cluster

check-bench: all servers $(DRIVERS) ## the measuring instruments, and that everything still measures
	@$(PYTEST) tests/bench
	@DROVER_BIN=$(abspath $(BIN)) DROVER_DRIVERS=$(abspath $(BUILD)/bench) BENCH_QUICK=1 tools/bench.sh $(BUILD)/bench-quick.json

ASAN := BUILD=$(BUILD)/asan SANITIZE=address,undefined CFLAGS="-O1 -g" SEEDS=200

check-asan: ## unit, simulation, contract, hostile and embedded stories under AddressSanitizer and UBSan
	+@$(MAKE) --no-print-directory -j$$(nproc) $(ASAN) all tests
	+@$(MAKE) --no-print-directory $(ASAN) check-unit check-sim check-contract check-hostile check-embedded

tests: $(UNIT) $(CONTRACT) $(TESTS)/sim $(TESTS)/extract_driver ## build the test programs

bench: all servers $(DRIVERS) ## measures; writes build/bench.json
	@DROVER_BIN=$(abspath $(BIN)) DROVER_DRIVERS=$(abspath $(BUILD)/bench) tools/bench.sh $(BUILD)/bench.json

.PHONY: check-simulate simulate-docs
check-simulate: $(BIN)/drover-autoscale ## the simulator's table and picture in docs/ are what it says
	@DROVER_BIN=$(abspath $(BIN)) tools/simulate-docs.sh --check

simulate-docs: $(BIN)/drover-autoscale ## write them
	@DROVER_BIN=$(abspath $(BIN)) tools/simulate-docs.sh
