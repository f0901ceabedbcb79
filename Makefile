# Drover. `make help` lists the targets; docs/ARCHITECTURE.md explains the folders.

VERSION  := 0.1.0
PREFIX   ?= /usr/local
CC       ?= gcc
ifeq ($(origin CC),default)
CC       := gcc
endif
BUILD    ?= build
# SANITIZE=address,undefined makes an instrumented build; use it with a BUILD of its own.
SANITIZE ?=
SEEDS    ?= 1000
FUZZ_S   ?= 20
# V=1 shows the commands.
V        ?=
Q        := $(if $(V),,@)
say      = $(if $(V),,@printf '  %-5s %s\n' $(1) $(2))
BIN      := $(BUILD)/bin
OBJ      := $(BUILD)/obj
TESTS    := $(BUILD)/tests

PKGS     := libcurl jansson yaml-0.1 libarchive libcrypto libmicrohttpd sqlite3 libseccomp
CFLAGS   ?= -O2 -g
WARN     := -Wall -Wextra -Wpedantic -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
HARDEN   := -fstack-protector-strong -fPIE
ifeq ($(SANITIZE),)
HARDEN   += -D_FORTIFY_SOURCE=2
endif
SANFLAGS := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all)
CPPFLAGS_ALL := -D_GNU_SOURCE -DDROVER_VERSION='"$(VERSION)"' -Icommon -I.
CFLAGS_ALL   := -std=c17 $(WARN) $(HARDEN) $(CFLAGS) $(SANFLAGS) -pthread
LDFLAGS_ALL  := -pie -pthread -Wl,-z,relro,-z,now -Wl,--as-needed $(SANFLAGS) $(LDFLAGS)
LIBS     = $(shell pkg-config --libs $(PKGS)) -lm

# Every .c of a library folder is part of it; a program is all .c of its folder, main.c apart so that tests can link the rest.
LIB_SRC  := $(wildcard common/*/*.c storage/*.c)
PROGRAMS := drover-dispatcher drover-worker drover drover-autoscale
DIR_drover-dispatcher := dispatcher dispatcher/core
DIR_drover-worker     := worker
DIR_drover            := cli
DIR_drover-autoscale  := autoscale

src_of   = $(foreach d,$(DIR_$(1)),$(wildcard $(d)/*.c))
obj_of   = $(patsubst %.c,$(OBJ)/%.o,$(1))
LIB_OBJ  := $(call obj_of,$(LIB_SRC))
LIBRARY  := $(BUILD)/libcommon.a

# Objects of tests are kept between calls.
.SECONDARY:

.PHONY: all
all: $(addprefix $(BIN)/,$(PROGRAMS) drover-sandbox)

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z][a-z-]*:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort | expand -t 18

$(OBJ)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CPPFLAGS) $(CFLAGS_ALL) -MMD -MP -c $< -o $@

$(LIBRARY): $(LIB_OBJ)
	@mkdir -p $(@D)
	@rm -f $@
	$(call say,AR,$@)
	$(Q)$(AR) rcs $@ $^

define program_rules
$(BUILD)/lib$(1).a: $(call obj_of,$(filter-out %/main.c %/sandbox_main.c,$(call src_of,$(1))))
	@rm -f $$@
	$$(call say,AR,$$@)
	$$(Q)$(AR) rcs $$@ $$^
$(BIN)/$(1): $(call obj_of,$(filter %/main.c,$(call src_of,$(1)))) $(BUILD)/lib$(1).a $(LIBRARY)
	@mkdir -p $$(@D)
	$$(call say,LD,$$@)
	$$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $$@ $$^ $$(LIBS)
endef
$(foreach p,$(PROGRAMS),$(eval $(call program_rules,$(p))))

# The helper of the worker's sandboxes: starts with every step, and therefore with no more libraries than it needs.
$(BIN)/drover-sandbox: $(OBJ)/worker/sandbox_main.o $(BUILD)/libdrover-worker.a $(LIBRARY)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -Wl,--gc-sections -o $@ $^ $(LIBS)

# --- tests: one program per file; a unit test may use any program's modules, but never its main ---
UNIT     := $(patsubst tests/unit/test_%.c,$(TESTS)/unit_%,$(wildcard tests/unit/test_*.c))
CONTRACT := $(patsubst tests/contract/%.c,$(TESTS)/contract_%,$(wildcard tests/contract/*.c))
PROGRAM_LIBS := $(foreach p,$(PROGRAMS),$(BUILD)/lib$(p).a)

$(TESTS)/unit_%: $(OBJ)/tests/unit/test_%.o $(PROGRAM_LIBS) $(LIBRARY)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $^ $(LIBS) -lcmocka
$(TESTS)/contract_%: $(OBJ)/tests/contract/%.o $(PROGRAM_LIBS) $(LIBRARY)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $^ $(LIBS) -lcmocka
$(TESTS)/extract_driver: $(OBJ)/tests/hostile/extract_driver.o $(LIBRARY)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)
# The simulation plays the autoscaler's own rounds: what these call to reach others and the clock is bound to the simulated ones.
SIM_OBJ  := $(call obj_of,$(wildcard tests/sim/*.c))
SIM_WRAP := view_read nomad_draining_nodes nomad_scale nomad_scale_note backlog_drain backlog_condemn leader_held clock_mono_ms clock_real_ms
$(TESTS)/sim: $(SIM_OBJ) $(BUILD)/libdrover-dispatcher.a $(BUILD)/libdrover-autoscale.a $(LIBRARY)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) $(SIM_WRAP:%=-Wl,--wrap=%) -o $@ $^ $(LIBS)

# Programs that the benchmarks time: each is one file, linked with the libraries it measures.
DRIVERS  := $(patsubst tests/bench/drive_%.c,$(BUILD)/bench/drive_%,$(wildcard tests/bench/drive_*.c))
$(BUILD)/bench/drive_%: $(OBJ)/tests/bench/drive_%.o $(OBJ)/tests/bench/exchange.o $(LIBRARY)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

-include $(shell find $(OBJ) -name '*.d' 2>/dev/null)
include tools/make/check.mk tools/make/fuzz.mk tools/make/install.mk
