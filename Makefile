# ringer's build. `make` builds build/ringer; SANITIZE=1 adds ASan and UBSan (in build/san/);
# HOT=1 has all guest code hot at once, for tests of what becomes of hot code (in build/hot/).
# `make check-unit` builds and runs the unit tests. Each folder of src/ is one archive, linked in
# the order of the layers (ARCHITECTURE.md), so a unit test links only the layers that it may use.

CC       ?= gcc
BUILD    := build$(if $(SANITIZE),/san)$(if $(HOT),/hot)
WARN     := -Wall -Wextra -Werror -Wstrict-prototypes -Wmissing-prototypes -Wvla
CFLAGS   ?= -O2 -g
# Clears and copies structures of some hundred bytes by stores, as all of today's processors like it, not by REP STOS.
CFLAGS   += -mtune=skylake
CFLAGS   += -std=gnu11 $(WARN) -fno-strict-aliasing -fno-omit-frame-pointer -pthread -Isrc -MMD -MP -D_GNU_SOURCE
LDLIBS   := -lZydis -ljansson -luring -lvncserver -lpng -lm -pthread
ifdef SANITIZE
CFLAGS   += -fsanitize=address,undefined -fno-sanitize-recover=undefined
LDFLAGS  += -fsanitize=address,undefined
endif

ifdef HOT
CFLAGS   += -DTUNE_ALL_HOT
endif

# V=1 shows the commands.
hide := $(if $(V),,@)
say  := $(if $(V),@:,@printf '  %-5s %s\n')

LAYERS := cli vm boot dev host engine mem cpu base
# What a unit test in tests/unit/<folder>/ links, most dependent first.
LINK_base   := base
LINK_cpu    := cpu base
LINK_mem    := mem cpu base
LINK_engine := engine mem cpu base
LINK_host   := host base
LINK_dev    := dev host mem cpu base
LINK_boot   := boot mem cpu base
LINK_vm     := vm boot dev host engine mem cpu base
LINK_cli    := cli vm boot dev host engine mem cpu base

objs_of  = $(patsubst src/%,$(BUILD)/obj/%.o,$(basename $(shell find src/$(1) -name '*.c' -o -name '*.S')))
archives = $(patsubst %,$(BUILD)/lib/%.a,$(1))

.PHONY: all tests clean check-unit bench
all: $(BUILD)/ringer

$(BUILD)/ringer: $(call archives,$(LAYERS))
	$(say) LINK $@
	$(hide)$(CC) $(LDFLAGS) -o $@ -Wl,--start-group $^ -Wl,--end-group $(LDLIBS)

define archive_rule
$(BUILD)/lib/$(1).a: $(call objs_of,$(1))
	@mkdir -p $$(@D)
	@rm -f $$@
	@$$(AR) rcs $$@ $$^
endef
$(foreach l,$(LAYERS),$(eval $(call archive_rule,$(l))))

# What translated code calls while the guest's FP state is in the host's registers. libc's string functions
# use these registers, so they are not to be called either (tests/lint looks).
FP_LIVE := $(patsubst %,$(BUILD)/obj/%.o,$(addprefix mem/,tlb tlb_fill map guestmem walk codetrack) cpu/state \
	$(addprefix engine/sem/,sem_segment sem_syscall sem_quick) $(addprefix engine/bt/,fpu slow repeat spans window mirror quick tcache bt))
inline_strings := -minline-all-stringops -mmemset-strategy=rep_8byte:-1:noalign -mmemcpy-strategy=rep_8byte:-1:noalign
inline_strings := $(shell $(CC) $(inline_strings) -E -x c /dev/null > /dev/null 2>&1 && echo '$(inline_strings)')
$(FP_LIVE): CFLAGS += -mgeneral-regs-only $(inline_strings) $(if $(SANITIZE),-include src/base/general_regs.h)
.PHONY: fp-live
fp-live:
	@echo $(FP_LIVE)

$(BUILD)/obj/%.o: src/%.S Makefile
	@mkdir -p $(@D)
	$(say) CC $<
	$(hide)$(CC) $(CFLAGS) -c -o $@ $<

$(BUILD)/obj/%.o: src/%.c Makefile
	@mkdir -p $(@D)
	$(say) CC $<
	$(hide)$(CC) $(CFLAGS) -c -o $@ $<

# The nano kernel, which is in the program.
NANO := build/guest/nano.made
$(NANO): $(wildcard guest/nano/* guest/common/*) src/cli/nano_tests.def
	$(say) GUEST nano
	$(hide)guest/nano/build && touch $@
$(BUILD)/obj/cli/nano_image.o: $(NANO)

UNIT := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(wildcard tests/unit/*/test_*.c))

define unit_rule
$(BUILD)/unit/$(1)/%: tests/unit/$(1)/%.c $(call archives,$(LINK_$(1)))
	@mkdir -p $$(@D)
	$$(say) LINK $$@
	$$(hide)$$(CC) $$(CFLAGS) $$(LDFLAGS) -o $$@ $$< $$(wildcard tests/unit/support/*.c) -Wl,--start-group $(call archives,$(LINK_$(1))) -Wl,--end-group -lcmocka $$(LDLIBS)
endef
$(foreach l,base cpu mem engine host dev boot vm cli,$(eval $(call unit_rule,$(l))))

# Instruction tests against the host CPU; tests/insn/test_* run it.
INSN_TEST := $(BUILD)/tests/insn_test
$(INSN_TEST): $(wildcard tests/insn/*.c) tests/insn/insn_test.h $(call archives,engine mem cpu base)
	@mkdir -p $(@D)
	$(say) LINK $@
	$(hide)$(CC) $(CFLAGS) -Itests/insn $(LDFLAGS) -o $@ $(filter %.c,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LDLIBS)

tests: $(UNIT) $(INSN_TEST)

check-unit: $(UNIT)
	@for t in $(UNIT); do $$t || exit 1; done

# The guests of `ringer compare` and of the benchmark: nano kernel, Linux kernels, programs, initramfs.
.PHONY: bench-guest
bench-guest: $(NANO)
	scripts/fetch amd64 686 busybox tcc
	guest/bench/build-initrd

# Measures against native and against QEMU's TCG; see bench/README.md.
bench:
	bench/run
	bench/disk

clean:
	rm -rf build/obj build/lib build/unit build/ringer build/san

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
