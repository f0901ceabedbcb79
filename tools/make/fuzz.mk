# libFuzzer harnesses: tests/fuzz/fuzz_NAME.c, seeds in tests/fuzz/seeds/NAME/. Built with clang.

FUZZ_CC    := clang
FUZZ_BUILD := $(BUILD)/fuzz
FUZZERS    := $(patsubst tests/fuzz/fuzz_%.c,$(FUZZ_BUILD)/fuzz_%,$(wildcard tests/fuzz/fuzz_*.c))

.PHONY: fuzz fuzz-smoke fuzzers
fuzzers:
	+@$(MAKE) --no-print-directory CC=$(FUZZ_CC) BUILD=$(FUZZ_BUILD) SANITIZE=fuzzer-no-link,address,undefined CFLAGS="-O1 -g" $(FUZZERS)

$(BUILD)/fuzz_%: $(OBJ)/tests/fuzz/fuzz_%.o $(PROGRAM_LIBS) $(LIBRARY)
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS_ALL) -pie -fsanitize=fuzzer,address,undefined -o $@ $^ $(LIBS)

fuzz-smoke: fuzzers ## every fuzz harness for FUZZ_S seconds
	@tools/fuzz.sh $(FUZZ_BUILD) $(FUZZ_S)

fuzz: ## every fuzz harness for ten minutes
	+@$(MAKE) --no-print-directory fuzz-smoke FUZZ_S=600
