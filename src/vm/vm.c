/*
 * Life of a virtual machine: what is made in which order, and undone in reverse. The work is in
 * pc.c (devices), control.c and vcpu_thread.c (running).
 */
#include "vm/machine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "cpu/irq.h"
#include "engine/engine.h"
#include "engine/lockstep/lockstep.h"
#include "mem/guestmem.h"
#include "mem/portbus.h"
#include "engine/sem/native.h"
#include "mem/tlb.h"

static void power_off(void *ctx)
{
    vm_post(ctx, REQUEST_POWER_OFF);
}

static void request_reset(void *ctx)
{
    vm_post(ctx, REQUEST_RESET);
}

static void debug_exit(void *ctx, u32 value)
{
    struct vm *vm = ctx;
    pthread_mutex_lock(&vm->lock);
    if (!(vm->requests & REQUEST_DEBUG_EXIT))
        vm->debug_value = value;
    pthread_mutex_unlock(&vm->lock);
    vm_post(vm, REQUEST_DEBUG_EXIT);
}

static void flush_tlbs(void *ctx)
{
    struct vm *vm = ctx;
    for (unsigned i = 0; i < vm->machine.ncpus; i++)
        if (vm->machine.vcpu[i])
            vcpu_raise(vm->machine.vcpu[i], EVENT_TLB_FLUSH);
}

static void set_a20(void *ctx, bool open)
{
    struct vm *vm = ctx;
    if (guestmem_set_a20(vm->machine.mem, open))
        flush_tlbs(vm);
}

static bool get_a20(void *ctx)
{
    struct vm *vm = ctx;
    return guestmem_a20(vm->machine.mem);
}

static const struct power_ops power_ops = {
    .power_off = power_off,
    .reset = request_reset,
    .debug_exit = debug_exit,
    .set_a20 = set_a20,
    .get_a20 = get_a20,
};

static void quit(void *ctx)
{
    struct vm *vm = ctx;
    vm_post(vm, REQUEST_QUIT);
    disks_stop(&vm->disks);
}

void vm_quit(struct vm *vm)
{
    quit(vm);
}

static int create_vcpu(struct vm *vm, unsigned id, struct error *err)
{
    struct vcpu *v = cpu_create();
    if (!v)
        return error_set(err, ENOMEM, "no memory for processor %u", id);
    v->id = id;
    v->bsp = id == 0;
    v->machine = &vm->machine;
    vm->machine.vcpu[id] = v;
    vm->threads[id].vm = vm;
    vm->threads[id].cpu = v;
    pthread_mutex_init(&vm->threads[id].kick_lock, NULL);
    v->wake = vcpu_wake;
    v->wake_ctx = &vm->threads[id];
    if (tlb_create(v) < 0)
        return error_set(err, ENOMEM, "no memory for the TLB of processor %u", id);
    return 0;
}

static void destroy_vcpu(struct vcpu *v)
{
    if (!v)
        return;
    native_destroy(v);
    tlb_destroy(v);
    cpu_destroy(v);
}

static void init_lock(struct vm *vm)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&vm->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&vm->lock, NULL);
}

static void add_missing_features(const struct engine_ops *ops, bool missing[FEAT_COUNT])
{
    if (ops && ops->missing_features)
        ops->missing_features(missing);
}

/* The guest keeps its CPU over changes of engine: it is what all that may run it can do. */
static void find_missing_features(struct vm *vm, bool missing[FEAT_COUNT])
{
    const struct settings *s = vm->settings;
    add_missing_features(vm->ops, missing);
    if (s->lockstep)
        add_missing_features(engine_find(s->lockstep), missing);
    for (unsigned i = 0; i < s->nswitches; i++)
        add_missing_features(engine_find(s->switches[i].engine), missing);
}

static void say_withheld(const struct cpu_model *m)
{
    char names[512] = "";
    size_t n = 0;
    for (unsigned f = 0; f < FEAT_COUNT; f++)
        if (m->withheld[f] && n < sizeof(names))
            n += (size_t)snprintf(names + n, sizeof(names) - n, " %s",
                                  cpu_feature_name((enum cpu_feature)f));
    if (n)
        log_warn("the guest's CPU lacks features that the engine cannot run on this host:%s",
                 names);
}

static int create_processors(struct vm *vm, struct error *err)
{
    const struct settings *s = vm->settings;
    bool missing[FEAT_COUNT] = {false};
    find_missing_features(vm, missing);
    struct cpu_model_options opt = {
        .kvmclock = s->kvmclock, .ncpus = s->cpus, .tsc_hz = vm->time.tsc_hz, .without = missing};
    cpu_model_init(&vm->model, &opt);
    say_withheld(&vm->model);
    vm->machine.model = &vm->model;
    for (unsigned i = 0; i < s->cpus; i++) {
        int rc = create_vcpu(vm, i, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int create_pc(struct vm *vm, struct error *err)
{
    int rc = clock_create(&vm->time, &vm->clock, err);
    if (rc < 0)
        return rc;
    struct pc_options opt = {
        .machine = &vm->machine,
        .clock = vm->clock,
        .power = {&power_ops, vm},
        .serial = vm->settings->serial,
        .firmware = vm->settings->boot.firmware != NULL,
        .debugcon = vm->settings->debugcon,
        .keys = vm->settings->keys,
        .nkeys = vm->settings->nkeys,
        .disks = &vm->disks,
        .boot_order = vm->settings->boot_order,
        .debug_exit = vm->settings->debug_exit,
        .display = vm->settings->display,
        .quit = quit,
        .quit_ctx = vm,
    };
    return pc_create(&opt, &vm->pc, err);
}

/* Which engine, by --engine or --lockstep. */
static int choose(struct vm *vm, struct error *err)
{
    const struct settings *s = vm->settings;
    struct error choice = {""};
    vm->ops = s->lockstep ? &engine_lockstep : vm_choose_engine(s->engine, &choice);
    if (!vm->ops)
        return error_set(err, ENODEV, "%s", choice.text);
    if (!s->lockstep && strcmp(s->engine, "auto") == 0)
        vm->choice = choice;
    return 0;
}

static int create_engine(struct vm *vm, struct error *err)
{
    const struct settings *s = vm->settings;
    if (!s->lockstep)
        return vm->ops->create(&vm->machine, &vm->engine, err);
    struct lockstep_options opt = {.tested = engine_find(s->lockstep),
                                   .after_ns = (u64)(s->lockstep_after * 1e9),
                                   .limit = s->lockstep_insns};
    return lockstep_create(&vm->machine, &opt, &vm->engine, err);
}

static int build(struct vm *vm, struct error *err)
{
    const struct settings *s = vm->settings;
    int rc = choose(vm, err);
    if (rc < 0)
        return rc;
    timebase_init(&vm->time);
    timebase_slow_down(&vm->time, s->slow_time);
    vm->machine.time = &vm->time;
    vm->machine.ncpus = s->cpus;
    vm->machine.tc_size = s->tc_size;
    vm->machine.rdtsc = s->rdtsc;
    vm->machine.perf_map = s->perf_map;
    rc = disks_open(&vm->disks, s, vm_disk_stalled, vm, err);
    if (rc == 0)
        rc = guestmem_create(s->mem_size, &vm->machine.mem, err);
    if (rc == 0)
        rc = guestmem_set_threads(vm->machine.mem, s->cpus, err);
    if (rc == 0)
        rc = portbus_create(&vm->machine.ports, err);
    if (rc == 0)
        rc = create_processors(vm, err);
    if (rc == 0) {
        guestmem_on_map_change(vm->machine.mem, flush_tlbs, vm);
        rc = create_pc(vm, err);
    }
    for (unsigned i = 0; rc == 0 && i < s->cpus; i++)
        cpu_reset(vm->machine.vcpu[i]);
    if (rc == 0 && s->boot.firmware)
        rc = firmware_load(vm->machine.mem, s->boot.firmware, err);
    if (rc == 0)
        rc = vm_load_guest(vm, err);
    if (rc == 0)
        rc = create_engine(vm, err);
    return rc;
}

int vm_create(const struct settings *settings, struct vm **out, struct error *err)
{
    struct vm *vm = calloc(1, sizeof(*vm));
    if (!vm)
        return error_set(err, ENOMEM, "no memory for the machine");
    vm->settings = settings;
    init_lock(vm);
    int rc = build(vm, err);
    if (rc < 0) {
        vm_destroy(vm);
        return rc;
    }
    *out = vm;
    return 0;
}

int vm_load_guest(struct vm *vm, struct error *err)
{
    /* Firmware starts at the reset vector and loads the guest itself. */
    if (vm->settings->boot.firmware)
        return 0;
    struct acpi_options acpi = {.ncpus = vm->machine.ncpus};
    struct guest_mem *gm = vm->machine.mem;
    int rc = acpi_build(gm, &acpi, &vm->acpi_addr, &vm->acpi_size, &vm->rsdp, err);
    if (rc < 0)
        return rc;
    struct e820_map map;
    e820_build(&map, guestmem_ram_size(gm), vm->acpi_addr, vm->acpi_size);
    struct boot_options boot = vm->settings->boot;
    boot.e820 = &map;
    boot.rsdp = vm->rsdp;
    for (unsigned i = 0; i < vm->machine.ncpus; i++)
        boot_memory_types(vm->machine.vcpu[i]);
    return boot_load(gm, vm->machine.vcpu[0], &boot, err);
}

int vm_run(struct vm *vm, struct vm_outcome *outcome, struct error *err)
{
    if (vm->choice.text[0])
        log_note("%s", vm->choice.text);
    int rc = pc_start(vm->pc, err);
    for (unsigned i = 0; rc == 0 && i < vm->machine.ncpus; i++) {
        rc = vcpu_thread_start(&vm->threads[i], err);
        if (rc == 0)
            vm->running++;
    }
    if (rc < 0)
        vm_fail(vm, vm->machine.vcpu[0], OUTCOME_HOST_ERROR, err->text);
    rc = vm_control(vm, err);
    if (rc == 0)
        rc = screenshots_finish(vm, err);
    pc_close_console(vm->pc);
    int finished = disks_finish(&vm->disks, vm->settings, rc == 0 ? err : NULL);
    rc = rc < 0 ? rc : finished;
    *outcome = vm->outcome;
    return rc;
}

void vm_destroy(struct vm *vm)
{
    if (!vm)
        return;
    if (vm->pc)
        pc_destroy(vm->pc);
    disks_close(&vm->disks);
    if (vm->engine)
        vm->ops->destroy(vm->engine);
    for (unsigned i = 0; i < MAX_CPUS; i++)
        destroy_vcpu(vm->machine.vcpu[i]);
    if (vm->clock)
        clock_destroy(vm->clock);
    if (vm->machine.ports)
        portbus_destroy(vm->machine.ports);
    if (vm->machine.mem)
        guestmem_destroy(vm->machine.mem);
    free(vm->samples.sample);
    pthread_cond_destroy(&vm->changed);
    pthread_mutex_destroy(&vm->lock);
    free(vm);
}
