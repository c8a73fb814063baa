/*
 * An engine against single steps: the same random program from the same random state, once by one
 * semantic function after the other, once by the engine, and all that a guest can see compared
 * afterwards. Half of the programs are random bytes, half valid instructions (valid.c).
 *
 * Both runs end at the same point: at HLT, at a shutdown, or at the fault number FAULTS, which is
 * not delivered (sem_deliver_fault is wrapped). A program whose single steps don't come to an end
 * is left out, and one whose result is open: it read the time, or changed its page tables in a way
 * that depends on when the TLB forgets, or a REP instruction wrote over itself.
 *
 *   fuzz_diff [--engine NAME] [--mirror] [--seed N] [--runs N] [--verbose]
 *
 * Run k has seed N + k. Only what the engine's caches hold comes from earlier runs, too: up to
 * MACHINE_RUNS of them, counted from seed N. After a difference the program is made shorter
 * as long as it differs, and printed. --mirror: the translator shows user code's address space in
 * the mirror from the start; not with ASan, whose own memory lies there.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#undef REG_RIP /* of the signal frame */
#include "cpu/fault.h"
#include "cpu/insn.h"
#include "diff.h"
#include "engine/bt/bt.h"
#include "engine/sem/sem.h"
#include "engine/sem/sem_exec.h"
#include "mem/tlb.h"
#include "valid.h"

#define MACHINE_RUNS 2000
#define STEPS        3000
#define FAULTS       12
#define HANG_SECONDS 20

/* --- reports, also of what kills us --- */

static struct {
    u64 seed, steps;
    _Atomic u64 runs;
    const char *engine;
    bool mirror;
} current;

static void say_seed(void)
{
    static _Atomic bool said;
    char text[120];
    if (atomic_exchange(&said, true))
        return;
    int n = snprintf(text, sizeof(text), "\nnot ok fuzz_diff: --engine %s --seed %llu --runs 1\n",
                     current.engine, (unsigned long long)current.seed);
    if (write(STDOUT_FILENO, text, (size_t)n) < 0)
        _exit(3);
}

static void on_abort(int sig)
{
    say_seed();
    signal(sig, SIG_DFL);
    raise(sig);
}

#ifdef __SANITIZE_ADDRESS__
void __sanitizer_set_death_callback(void (*callback)(void));
const char *__asan_default_options(void);
void __wrap___asan_handle_no_return(void);

const char *__asan_default_options(void)
{
    return "use_sigaltstack=0:allow_user_segv_handler=1";
}

/* See fuzz_code.c. */
void __wrap___asan_handle_no_return(void)
{
}
#endif

static u64 cpu_seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (u64)ts.tv_sec;
}

/* By the time that this process has had, as the machine may be busy; or by very much time. */
static void *watchdog(void *unused)
{
    u64 seen = 0, since = 0;
    unsigned still = 0;
    (void)unused;
    for (;;) {
        sleep(1);
        u64 runs = atomic_load(&current.runs);
        if (runs != seen) {
            seen = runs;
            since = cpu_seconds();
            still = 0;
        } else if (cpu_seconds() - since > HANG_SECONDS || ++still > 30 * HANG_SECONDS) {
            fprintf(stderr, "the engine does not come to an end\n");
            abort();
        }
    }
    return NULL;
}

/* --- faults --- */

static struct side reference, tested;
static __thread struct fault_log *faults;

void __real_sem_deliver_fault(struct vcpu *v, u64 start_rip);
void __wrap_sem_deliver_fault(struct vcpu *v, u64 start_rip);

void __wrap_sem_deliver_fault(struct vcpu *v, u64 start_rip)
{
    const struct fault *f = &v->fault;
    if (faults->count < MAX_LOGGED)
        faults->entry[faults->count] =
            (struct logged_fault){f->vector, f->has_error ? f->error : 0,
                                  f->vector == VEC_PF ? f->cr2 : 0, f->trap ? v->rip : start_rip};
    if (++faults->count < FAULTS) {
        __real_sem_deliver_fault(v, start_rip);
        return;
    }
    v->rip = start_rip;
    v->cur = &sem_no_insn;
    vcpu_leave(v, EXIT_KICKED, "faults");
}

/* Translated code comes here with the guest's FP state in the host's registers. */
#define FP_LIVE __attribute__((target("general-regs-only")))

bool __real_sem_try_page_fault(struct vcpu *v, u64 lin, u32 error);
FP_LIVE bool __wrap_sem_try_page_fault(struct vcpu *v, u64 lin, u32 error);

FP_LIVE bool __wrap_sem_try_page_fault(struct vcpu *v, u64 lin, u32 error)
{
    u64 start_rip = v->rip;
    if (faults->count + 1 >= FAULTS || !__real_sem_try_page_fault(v, lin, error))
        return false;
    if (faults->count < MAX_LOGGED)
        faults->entry[faults->count] = (struct logged_fault){VEC_PF, error, lin, start_rip};
    faults->count++;
    return true;
}

/* The single steps deliver by sem_deliver() alone. */
struct delivery;
bool __real_sem_try_deliver(struct vcpu *v, const struct delivery *d);
bool __wrap_sem_try_deliver(struct vcpu *v, const struct delivery *d);

bool __wrap_sem_try_deliver(struct vcpu *v, const struct delivery *d)
{
    return faults != &reference.faults && __real_sem_try_deliver(v, d);
}

/* --- the single steps --- */

/* A repeated instruction that wrote over itself: when the processor sees that is its own affair. */
static bool changed_itself(struct fuzz_guest *g, const struct insn *i, u64 lin)
{
    u64 gpa;
    u8 byte;
    for (unsigned n = 0; i->prefix & (PFX_REP | PFX_REPNE) && n < i->len; n++)
        if (!walk_peek(g->v, lin + n, &gpa) || !guestmem_read(g->machine.mem, gpa, &byte, 1) ||
            byte != i->raw[n])
            return true;
    return false;
}

/* What the result of a program may not depend on. */
static bool is_open(const struct vcpu *v, const struct insn *i, const struct vcpu *begin)
{
    switch (i->op) {
    case OP_RDTSC:
    case OP_RDTSCP:
    case OP_RDRAND:
    case OP_RDSEED:
        return true;
    case OP_RDMSR:
    case OP_WRMSR:
        switch ((u32)v->gpr[RCX]) {
        case MSR_TSC:
        case MSR_TSC_ADJUST:
        case MSR_KVM_SYSTEM_TIME_NEW:
        case MSR_KVM_WALL_CLOCK_NEW:
            return true;
        }
        return false;
    default:
        return v->cr3 != begin->cr3 || ((v->cr0 ^ begin->cr0) & (CR0_PG | CR0_WP)) ||
               ((v->cr4 ^ begin->cr4) & (CR4_PAE | CR4_PSE));
    }
}

/* One instruction, or one event. False: *x says why it is over. */
static bool step(struct vcpu *v, struct insn *i, struct vm_exit *x)
{
    v->cur = &sem_no_insn;
    switch (setjmp(v->unwind)) {
    case UNWIND_NONE:
        if (v->shadow || v->pending_db || v->activity)
            if (!sem_service_events(v, x))
                return false;
        sem_check_code_breakpoint(v);
        sem_fetch(v, i);
        sem_execute(v, i);
        break;
    case UNWIND_FAULT:
        sem_deliver_fault(v, sem_start(v));
        break;
    default:
        v->rip = sem_start(v);
        x->kind = v->exit_reason;
        return false;
    }
    return true;
}

/* False: the program is left out. */
static bool run_steps(struct fuzz_guest *g, const struct vcpu *begin, struct vm_exit *x)
{
    static struct insn i; /* v->cur points to it at a longjmp */
    fuzz_guest_enter(g);
    for (unsigned n = 0; n < STEPS; n++) {
        u64 lin = sem_code_lin(g->v);
        i = (struct insn){.op = OP_INVALID};
        if (!step(g->v, &i, x)) {
            g->v->cur = &sem_no_insn;
            return true;
        }
        current.steps++;
        g->v->code_written = 0;
        if (is_open(g->v, &i, begin) || changed_itself(g, &i, lin))
            return false;
    }
    return false;
}

/* --- a run --- */

/* ES and B say whether an unmasked x87 exception waits (SDM vol. 1, 8.1.3.3). */
static void make_fsw_consistent(struct fpu_legacy *f)
{
    bool waits = f->fsw & ~f->fcw & 0x3f;
    f->fsw = (u16)((f->fsw & ~0x8080) | (waits ? 0x8080 : 0));
}

/* As if user code of this address space had run for long. */
static void show_in_mirror(struct vcpu *v)
{
    space_of(bt_cpu(v), v->cr3)->credit = 1LL << 60;
    mirror_give(v);
}

static void prepare(struct side *s, u64 seed, const struct valid_program *program)
{
    struct fuzz_guest *g = &s->guest;
    struct rng r = {seed * 0xd1342543de82ef95};
    atomic_store(&g->v->events, 0);
    g->v->code_written = 0;
    g->irq = -1;
    g->accesses = 0;
    g->v->lapic.tpr = 0;
    g->rng.state = seed;
    memset(&s->faults, 0, sizeof(s->faults));
    s->exit = (struct vm_exit){.kind = EXIT_KICKED};
    fuzz_state(g, &r);
    make_fsw_consistent(&g->v->fpu.legacy);
    if (current.mirror) {
        g->v->dr[7] = 0x400; /* breakpoints are without */
        /* A stack where Linux has it; each address has a page. */
        if (!(seed & 2) && g->v->mode == MODE_LONG64)
            g->v->gpr[RSP] = 0x7f0000000000 | (g->v->gpr[RSP] & 0xffffffff);
    }
    diff_page_tables(g, &r);
    if (program)
        diff_put_program(g, &r, program);
    code_written(g->machine.mem, 0, RAM_SIZE);
    fuzz_guest_changed(g);
    if (current.mirror && g->ops == &engine_bt)
        show_in_mirror(g->v);
}

static bool has_use_for_mirror(const struct vcpu *v)
{
    return v->cpl == 3 && v->cr0 & CR0_PG &&
           (v->mode == MODE_PROT32 || v->mode == MODE_COMPAT32 || v->mode == MODE_LONG64);
}

/* 1: the same, 0: left out, -1: different. */
static int run_both(u64 seed, const struct valid_program *program)
{
    static struct vcpu begin;
    prepare(&reference, seed, program);
    if (current.mirror && !has_use_for_mirror(reference.guest.v))
        return 0;
    begin = *reference.guest.v;
    faults = &reference.faults;
    if (!run_steps(&reference.guest, &begin, &reference.exit))
        return 0;
    prepare(&tested, seed, program);
    faults = &tested.faults;
    fuzz_guest_run(&tested.guest, &tested.exit);
    return diff_compare(&reference, &tested, NULL) ? -1 : 1;
}

/* Drops what is not needed for a difference: NOPs instead. */
static void shorten(u64 seed, struct valid_program *program)
{
    for (unsigned n = program->count - 1; n-- > 0;) {
        struct valid_program shorter = *program;
        unsigned start = program->start[n], end = program->start[n + 1];
        memset(shorter.bytes + start, 0x90, end - start);
        if (run_both(seed, &shorter) < 0)
            *program = shorter;
    }
}

static int run(u64 seed, bool verbose)
{
    static struct valid_program program;
    struct rng r = {seed};
    bool valid = one_in(&r, 2);
    current.seed = seed;
    atomic_fetch_add(&current.runs, 1);
    if (valid) {
        prepare(&reference, seed, NULL);
        valid_program(&reference.guest, &r, 5 + (unsigned)rnd_below(&r, 100), &program);
    }
    int result = run_both(seed, valid ? &program : NULL);
    if (verbose)
        printf("# seed %llu: mode %d, %s, %u faults, exit %d: %s\n", (unsigned long long)seed,
               reference.guest.mode, valid ? "valid" : "random", reference.faults.count,
               reference.exit.kind, result ? result > 0 ? "same" : "different" : "left out");
    if (result >= 0)
        return result;
    diff_compare(&reference, &tested, stdout); /* the shorter program may differ otherwise */
    if (valid)
        shorten(seed, &program);
    run_both(seed, valid ? &program : NULL);
    diff_compare(&reference, &tested, stdout);
    prepare(&reference, seed, valid ? &program : NULL);
    diff_print_program(&reference.guest, valid ? &program : NULL, stdout);
    fflush(stdout);
    say_seed();
    return result;
}

static void create(struct side *s, struct timebase *time, const struct engine_ops *ops)
{
    fuzz_guest_create(&s->guest, time, ops);
    s->guest.calm = true;
    s->guest.programs = current.mirror;
}

/* Both machines end; returns how often the translator missed the mirror. */
static u64 destroy(void)
{
    u64 misses = tested.guest.v->stats.count[STAT_BT_MIRROR_MISSES];
    fuzz_guest_destroy(&reference.guest);
    fuzz_guest_destroy(&tested.guest);
    return misses;
}

static int run_all(const struct engine_ops *ops, u64 seed, u64 runs, bool verbose)
{
    struct timebase time;
    u64 left_out = 0, misses = 0;
    timebase_init(&time);
    for (u64 n = 0; n < runs; n++) {
        if (n % MACHINE_RUNS == 0) {
            if (n)
                misses += destroy();
            create(&reference, &time, &engine_interp);
            create(&tested, &time, ops);
        }
        int result = run(seed + n, verbose);
        if (result < 0)
            return 1;
        left_out += !result;
    }
    misses += destroy();
    printf(
        "ok fuzz_diff: %s, %llu programs from seed %llu, %llu of them left out, %llu steps, %llu "
        "misses of the mirror\n",
        ops->name, (unsigned long long)runs, (unsigned long long)seed, (unsigned long long)left_out,
        (unsigned long long)current.steps, (unsigned long long)misses);
    return 0;
}

int main(int argc, char **argv)
{
    u64 seed = 1, runs = 1000;
    bool verbose = false;
    current.engine = "interp";
    for (int n = 1; n < argc; n++) {
        if (!strcmp(argv[n], "--engine") && n + 1 < argc)
            current.engine = argv[++n];
        else if (!strcmp(argv[n], "--seed") && n + 1 < argc)
            seed = strtoull(argv[++n], NULL, 0);
        else if (!strcmp(argv[n], "--runs") && n + 1 < argc)
            runs = strtoull(argv[++n], NULL, 0);
        else if (!strcmp(argv[n], "--mirror"))
            current.mirror = true;
        else if (!strcmp(argv[n], "--verbose"))
            verbose = true;
        else
            return fprintf(stderr, "usage: fuzz_diff [--engine NAME] [--mirror] [--seed N] "
                                   "[--runs N] [--verbose]\n"),
                   2;
    }
    const struct engine_ops *ops = engine_find(current.engine);
    pthread_t thread;
    if (!ops || !runs || pthread_create(&thread, NULL, watchdog, NULL) != 0)
        return fprintf(stderr, "no engine '%s'\n", current.engine), 2;
    signal(SIGABRT, on_abort);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_set_death_callback(say_seed);
#endif
    return run_all(ops, seed, runs, verbose);
}
