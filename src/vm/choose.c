/*
 * Which engine a name means on this host, and how fast an engine is: a tiny guest counts in a loop
 * for a fixed time. An engine that only emulates what it is named after (a nested KVM without
 * hardware) shows there.
 */
#include "vm/vm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/timebase.h"
#include "base/tunables.h"
#include "cpu/irq.h"
#include "cpu/model.h"
#include "mem/guestmem.h"
#include "mem/portbus.h"
#include "engine/sem/native.h"
#include "mem/tlb.h"

/* No need to measure the others when an engine is this fast: they are listed best first. */
#define FAST_INSN_PER_SECOND 200e6

/* The fastest engine here. The sentence says which, and what became of the others. */
static const struct engine_ops *choose_fastest(struct error *why)
{
    const struct engine_ops *best = NULL;
    double best_speed = 0;
    char others[400] = "";
    for (unsigned i = 0; engines[i] && best_speed < FAST_INSN_PER_SECOND; i++) {
        double speed = 0;
        struct error reason = {""};
        size_t used = strlen(others);
        int rc = vm_measure_engine(engines[i], &speed, &reason);
        if (rc < 0)
            snprintf(others + used, sizeof(others) - used, "; no %s: %s", engines[i]->name,
                     reason.text);
        else
            snprintf(others + used, sizeof(others) - used, "; %s: %.0f M insn/s in a loop",
                     engines[i]->name, speed / 1e6);
        if (rc == 0 && speed > best_speed) {
            best = engines[i];
            best_speed = speed;
        }
    }
    if (best)
        error_set(why, 0, "engine %s, the fastest here%s", best->name, others);
    else
        error_set(why, ENODEV, "no engine works here%s", others);
    return best;
}

const struct engine_ops *vm_choose_engine(const char *name, struct error *why)
{
    if (strcmp(name, "auto") == 0)
        return choose_fastest(why);
    const struct engine_ops *ops = engine_find(name);
    if (!ops)
        error_set(why, EINVAL, "--engine %s: no such engine; `ringer engines` lists them", name);
    return ops && ops->probe(why) == 0 ? ops : NULL;
}

/* Real mode: 66 40 = inc eax; 66 01 c3 = add ebx, eax; 66 31 d9 = xor ecx, ebx; eb f6 = jmp back.
 */
static const u8 loop_code[] = {0x66, 0x40, 0x66, 0x01, 0xc3, 0x66, 0x31, 0xd9, 0xeb, 0xf6};
#define LOOP_ADDR  0x1000
#define LOOP_INSNS 4

struct tiny_guest {
    struct machine machine;
    struct timebase time;
    struct cpu_model model;
    struct vcpu *v;
    const struct engine_ops *ops;
    void *engine;
};

static void kick_tiny(struct vcpu *v)
{
    struct tiny_guest *g = v->wake_ctx;
    if (g->ops->kick)
        g->ops->kick(g->engine, v);
}

static int make_tiny(struct tiny_guest *g, struct error *err)
{
    timebase_init(&g->time);
    bool missing[FEAT_COUNT] = {false};
    struct cpu_model_options opt = {.ncpus = 1, .tsc_hz = g->time.tsc_hz, .without = missing};
    if (g->ops->missing_features)
        g->ops->missing_features(missing);
    cpu_model_init(&g->model, &opt);
    g->machine = (struct machine){.time = &g->time, .model = &g->model, .ncpus = 1};
    int rc = guestmem_create(RAM_MIN, &g->machine.mem, err);
    if (rc == 0)
        rc = portbus_create(&g->machine.ports, err);
    if (rc < 0)
        return rc;
    g->v = aligned_alloc(64, align_up(sizeof(*g->v), 64));
    if (!g->v)
        return error_set(err, ENOMEM, "no memory for a processor");
    memset(g->v, 0, sizeof(*g->v));
    g->v->bsp = true;
    g->v->machine = &g->machine;
    g->v->irq = &irq_none;
    g->v->wake = kick_tiny;
    g->v->wake_ctx = g;
    g->machine.vcpu[0] = g->v;
    if (tlb_create(g->v) < 0)
        return error_set(err, ENOMEM, "no memory for a TLB");
    cpu_reset(g->v);
    g->v->seg[SEG_CS].sel = 0;
    g->v->seg[SEG_CS].base = 0;
    g->v->rip = LOOP_ADDR;
    guestmem_write(g->machine.mem, LOOP_ADDR, loop_code, sizeof(loop_code));
    return 0;
}

static void free_tiny(struct tiny_guest *g)
{
    if (g->v) {
        native_destroy(g->v);
        tlb_destroy(g->v);
        free(g->v);
    }
    if (g->machine.ports)
        portbus_destroy(g->machine.ports);
    if (g->machine.mem)
        guestmem_destroy(g->machine.mem);
}

static void *stop_later(void *arg)
{
    struct vcpu *v = arg;
    struct timespec pause = {0, TUNE_PROBE_GUEST_MS * 1000000L};
    nanosleep(&pause, NULL);
    vcpu_raise(v, EVENT_STOP);
    return NULL;
}

/* Runs the loop until it is told to stop; returns turns per second through *speed. */
static int run_tiny(struct tiny_guest *g, double *speed, struct error *err)
{
    pthread_t stopper;
    struct vm_exit x = {.kind = EXIT_KICKED};
    int rc = pthread_create(&stopper, NULL, stop_later, g->v);
    if (rc)
        return error_errno(err, rc, "cannot start a thread");
    u64 start = timebase_ns(&g->time);
    while (x.kind == EXIT_KICKED && !(vcpu_events(g->v) & EVENT_STOP))
        g->ops->run(g->engine, g->v, &x);
    u64 ns = timebase_ns(&g->time) - start;
    pthread_join(stopper, NULL);
    if (g->ops->sync)
        g->ops->sync(g->engine, g->v);
    if (x.kind != EXIT_KICKED)
        return error_set(err, EIO, "the test guest stopped: %s", x.text);
    *speed = (double)(u32)g->v->gpr[RAX] * LOOP_INSNS / ((double)ns / 1e9);
    return 0;
}

int vm_measure_engine(const struct engine_ops *ops, double *insn_per_second, struct error *err)
{
    struct tiny_guest g = {.ops = ops};
    int rc = ops->probe(err);
    if (rc < 0)
        return rc;
    rc = make_tiny(&g, err);
    if (rc == 0)
        rc = ops->create(&g.machine, &g.engine, err);
    if (rc == 0) {
        rc = ops->attach(g.engine, g.v, err);
        if (rc == 0) {
            rc = run_tiny(&g, insn_per_second, err);
            ops->detach(g.engine, g.v);
        }
        ops->destroy(g.engine);
    }
    free_tiny(&g);
    return rc;
}
