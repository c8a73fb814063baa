/*
 * Which engine a name means on this host, and how fast an engine is: a tiny guest counts in a loop
 * for a fixed time. An engine that only emulates what it is named after (a nested KVM without
 * hardware) shows there.
 */
#include "vm/vm.h"

#include <errno.h>
#include <stdio.h>

#include "base/tunables.h"
#include "mem/guestmem.h"
#include "vm/tiny.h"

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

/* Runs the loop for a while; the speed through *speed. What counts is this thread's time: the host
 * may be busy with other things. */
static int run_loop(struct tiny_guest *g, double *speed, struct error *err)
{
    struct vm_exit x;
    g->v->seg[SEG_CS].sel = 0;
    g->v->seg[SEG_CS].base = 0;
    g->v->rip = LOOP_ADDR;
    guestmem_write(g->machine.mem, LOOP_ADDR, loop_code, sizeof(loop_code));
    int rc = tiny_start(g, err);
    if (rc < 0)
        return rc;
    u64 start = host_clock_ns(CLOCK_THREAD_CPUTIME_ID);
    rc = tiny_run(g, TUNE_PROBE_GUEST_MS, &x, err);
    u64 ns = MAX(host_clock_ns(CLOCK_THREAD_CPUTIME_ID) - start, 1);
    if (rc < 0)
        return rc;
    if (x.kind != EXIT_KICKED)
        return error_set(err, EIO, "the test guest stopped: %s", x.text);
    *speed = (double)(u32)g->v->gpr[RAX] * LOOP_INSNS / ((double)ns / 1e9);
    return 0;
}

int vm_measure_engine(const struct engine_ops *ops, double *insn_per_second, struct error *err)
{
    struct tiny_guest g;
    int rc = ops->probe(err);
    if (rc < 0)
        return rc;
    rc = tiny_create(&g, ops, RAM_MIN, err);
    if (rc == 0)
        rc = run_loop(&g, insn_per_second, err);
    tiny_destroy(&g);
    return rc;
}
