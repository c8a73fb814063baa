/*
 * Random bytes as guest code. Each run makes a state and a program from its seed and lets the
 * interpreter run it in a few stretches, with things happening in between. A stretch ends after
 * some work (faults delivered, blocks looked up, device accesses: counted by wrapping the functions
 * that do it), so a run depends on its seed alone; a loop that does none of that is ended by a
 * clock, and the run with it. After each stretch the state must be one that a CPU can be in.
 *
 *   fuzz_code [--seed N] [--runs N] [--verbose]
 *
 * Run k has seed N + k. What goes wrong is reported with the run's seed, and with the seed from
 * which the machine (its caches, that is) was in use.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

#define MACHINE_RUNS 10000 /* runs on one machine */
#define STRETCHES    4
#define STRETCH_WORK 60
#define STRETCH_NS   150000 /* CPU time after which a stretch is ended */
#define HANG_SECONDS 10

struct totals {
    u64 instructions, deepest, exits[8], clocked, by_mode[FUZZ_MODES];
};

/* What the handler of a fatal signal and the clock's thread look at. */
static struct {
    u64 seed, machine_seed;
    _Atomic u64 stretch; /* counts up */
    struct vcpu *_Atomic vcpu;
    _Atomic bool clocked, stop;
    u64 longest; /* ns of CPU time that a stretch took, as the clock's thread saw it */
} current;

static void say_seed(void)
{
    static _Atomic bool said;
    char text[160];
    if (atomic_exchange(&said, true))
        return;
    int n = snprintf(text, sizeof(text),
                     "\nnot ok fuzz_code: --seed %llu --runs 1 (or --seed %llu --runs %llu)\n",
                     (unsigned long long)current.seed, (unsigned long long)current.machine_seed,
                     (unsigned long long)(current.seed - current.machine_seed + 1));
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

/* Every guest fault passes through several functions that don't return, and ASan would clear the
 * whole stack's shadow, with a system call, in each. longjmp, by which all end, does it anyway. */
void __wrap___asan_handle_no_return(void)
{
}
#endif

static void report_deaths(void)
{
    signal(SIGABRT, on_abort);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_set_death_callback(say_seed);
#else
    signal(SIGSEGV, on_abort);
#endif
}

/* --- what ends a stretch --- */

struct block;
struct code_cache;
struct block *__real_cache_get(struct code_cache *c, struct vcpu *v, u64 gpa, struct block **last);
struct block *__wrap_cache_get(struct code_cache *c, struct vcpu *v, u64 gpa, struct block **last);
void __real_sem_deliver_fault(struct vcpu *v, u64 start_rip);
void __wrap_sem_deliver_fault(struct vcpu *v, u64 start_rip);

struct block *__wrap_cache_get(struct code_cache *c, struct vcpu *v, u64 gpa, struct block **last)
{
    fuzz_work(v->irq_ctx, 1);
    return __real_cache_get(c, v, gpa, last);
}

void __wrap_sem_deliver_fault(struct vcpu *v, u64 start_rip)
{
    fuzz_work(v->irq_ctx, 1);
    __real_sem_deliver_fault(v, start_rip);
}

static u64 nanoseconds(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (u64)ts.tv_sec * NSEC_PER_SEC + (u64)ts.tv_nsec;
}

/* Looks at the time that the guest's thread itself has had, as the machine may be busy. */
static void *clock_thread(void *guest_clock)
{
    const struct timespec tick = {.tv_nsec = STRETCH_NS};
    u64 seen = 0, since = 0;
    prctl(PR_SET_TIMERSLACK, 1);
    while (!atomic_load(&current.stop)) {
        clock_nanosleep(CLOCK_MONOTONIC, 0, &tick, NULL);
        u64 stretch = atomic_load(&current.stretch), now = nanoseconds(*(clockid_t *)guest_clock);
        struct vcpu *v = atomic_load(&current.vcpu);
        if (!v || stretch != seen) {
            seen = stretch;
            since = now;
        } else if (now - since > HANG_SECONDS * NSEC_PER_SEC) {
            fprintf(stderr, "the guest does not stop\n");
            abort();
        } else if (now - since > STRETCH_NS) {
            current.longest = MAX(current.longest, now - since);
            atomic_store(&current.clocked, true);
            atomic_fetch_or(&v->events, EVENT_STOP);
        }
    }
    return NULL;
}

/* --- what must hold between stretches --- */

#define RFLAGS_ZERO (~0x3f7fd7ULL)

static void check(const struct fuzz_guest *g, bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "the state is wrong: %s\n", what);
    fuzz_guest_dump(g);
    abort();
}

static void check_state(const struct fuzz_guest *g)
{
    const struct vcpu *v = g->v;
    struct vcpu copy = *v;
    cpu_update_mode(&copy);
    check(g, copy.mode == v->mode && copy.long_mode == v->long_mode, "mode");
    check(g, copy.flat == v->flat && copy.flat_stack == v->flat_stack, "flat");
    check(g, copy.quick_segs == v->quick_segs && copy.flat_segs == v->flat_segs, "quick segments");
    check(g, v->no_reg == 0, "no register");
    check(g, copy.align_check == v->align_check && copy.tlb_ctx == v->tlb_ctx, "access rules");
    check(g, (v->rflags & FLAG_ONE) && !(v->rflags & RFLAGS_ZERO), "rflags");
    check(g,
          v->cpl <= 3 && (v->mode != MODE_REAL || v->cpl == 0) &&
              (v->mode != MODE_V86 || v->cpl == 3),
          "cpl");
    check(g, !(v->cr0 & CR0_PG) || (v->cr0 & CR0_PE), "cr0");
    check(g, v->long_mode == ((v->efer & EFER_LME) && (v->cr0 & CR0_PG)), "efer");
    check(g, !v->long_mode || (v->cr4 & CR4_PAE), "pae");
    check(g, !(v->cr4 & ~cpu_cr4_allowed(&g->model)), "cr4");
    check(g, !(v->efer & ~cpu_efer_allowed(&g->model)), "efer bits");
    check(g, !(v->xcr0 & ~g->model.xcr0_mask) && (v->xcr0 & XCR0_X87), "xcr0");
    check(g, !(v->fpu.legacy.mxcsr & ~g->model.mxcsr_mask), "mxcsr");
    check(g, v->mode == MODE_LONG64 || !(v->rip >> 32), "rip");
    check(g, !(v->rflags & FLAG_VM) || !v->long_mode, "v86 in long mode");
    check(g, v->activity <= ACTIVITY_SHUTDOWN, "activity");
}

/* --- a run --- */

/* Is there more to run? */
static bool after_stretch(struct fuzz_guest *g, struct rng *r, const struct vm_exit *x)
{
    struct vcpu *v = g->v;
    u32 events = atomic_fetch_and(&v->events, ~(u32)(EVENT_STOP | EVENT_INIT | EVENT_SIPI));
    if (events & EVENT_INIT) {
        cpu_init(v);
        v->rip = rnd_below(r, CODE_SIZE);
        v->seg[SEG_CS].base = GPA_CODE;
        fuzz_guest_changed(g);
    }
    if (x->kind == EXIT_HALT) {
        g->irq = (int)rnd_below(r, 256);
        atomic_fetch_or(&v->events, one_in(r, 2) ? EVENT_NMI : EVENT_INTR);
    }
    return x->kind == EXIT_HALT || x->kind == EXIT_KICKED;
}

static void begin_run(struct fuzz_guest *g, struct rng *r)
{
    struct vcpu *v = g->v;
    atomic_store(&v->events, 0);
    guestmem_set_a20(g->machine.mem, true);
    memset(&v->stats, 0, sizeof(v->stats));
    v->code_written = 0;
    g->irq = -1;
    fuzz_state(g, r);
    fuzz_guest_changed(g);
}

static void run(struct fuzz_guest *g, u64 seed, struct totals *t, bool verbose)
{
    struct rng r = {seed * 0xd1342543de82ef95};
    begin_run(g, &r);
    enum fuzz_mode mode = g->mode;
    struct vm_exit x;
    bool more = true;
    for (unsigned n = 0; n < STRETCHES && more; n++) {
        x = (struct vm_exit){.kind = EXIT_KICKED};
        g->rng.state = rnd(&r);
        g->work = STRETCH_WORK;
        atomic_store(&current.clocked, false);
        atomic_fetch_add(&current.stretch, 1);
        atomic_store(&current.vcpu, g->v);
        if (one_in(&r, 16))
            fuzz_guest_step(g, STRETCH_WORK, &x);
        else
            fuzz_guest_run(g, &x);
        atomic_store(&current.vcpu, NULL);
        check_state(g);
        t->exits[x.kind]++;
        more = after_stretch(g, &r, &x);
        if (atomic_load(&current.clocked)) {
            t->clocked++;
            break;
        }
        fuzz_disturb(g, &r);
    }
    u64 instructions = g->v->stats.count[STAT_INSN_INTERP];
    t->instructions += instructions;
    t->by_mode[mode] += instructions;
    if (verbose)
        printf("# seed %llu: mode %d, %llu instructions, exit %d %s\n", (unsigned long long)seed,
               mode, (unsigned long long)instructions, x.kind, x.text);
}

static void print_totals(const struct totals *t, u64 runs, double seconds)
{
    static const char *const name[FUZZ_MODES] = {"real",   "unreal", "v86",    "prot16",
                                                 "prot32", "pae",    "compat", "long64"};
    printf("# %llu runs in %.1f s (%.0f/s), %.1f instructions each; ended by the clock: %llu, "
           "longest %.1f ms\n",
           (unsigned long long)runs, seconds, (double)runs / seconds,
           (double)t->instructions / (double)runs, (unsigned long long)t->clocked,
           (double)current.longest * 1e-6);
    printf("# exits: kicked %llu, halt %llu, shutdown %llu, unsupported %llu, host error %llu\n#",
           (unsigned long long)t->exits[0], (unsigned long long)t->exits[1],
           (unsigned long long)t->exits[2], (unsigned long long)t->exits[3],
           (unsigned long long)t->exits[4]);
    for (unsigned m = 0; m < FUZZ_MODES; m++)
        printf(" %s %.1f", name[m], (double)t->by_mode[m] / (double)runs * FUZZ_MODES);
    printf(" instructions a run\n");
}

int main(int argc, char **argv)
{
    u64 seed = 1, runs = 1000;
    bool verbose = false;
    for (int n = 1; n < argc; n++) {
        if (!strcmp(argv[n], "--seed") && n + 1 < argc)
            seed = strtoull(argv[++n], NULL, 0);
        else if (!strcmp(argv[n], "--runs") && n + 1 < argc)
            runs = strtoull(argv[++n], NULL, 0);
        else if (!strcmp(argv[n], "--verbose"))
            verbose = true;
        else
            return fprintf(stderr, "usage: fuzz_code [--seed N] [--runs N] [--verbose]\n"), 2;
    }
    static struct fuzz_guest guest;
    static struct totals totals;
    struct timebase time;
    pthread_t thread;
    timebase_init(&time);
    report_deaths();
    clockid_t clock;
    if (pthread_getcpuclockid(pthread_self(), &clock) != 0 ||
        pthread_create(&thread, NULL, clock_thread, &clock) != 0)
        return 2;
    u64 start = nanoseconds(CLOCK_MONOTONIC);
    for (u64 n = 0; n < runs; n++) {
        if (n % MACHINE_RUNS == 0) {
            if (n)
                fuzz_guest_destroy(&guest);
            fuzz_guest_create(&guest, &time, &engine_interp);
            current.machine_seed = seed + n;
        }
        current.seed = seed + n;
        run(&guest, seed + n, &totals, verbose);
    }
    if (runs)
        fuzz_guest_destroy(&guest);
    atomic_store(&current.stop, true);
    pthread_join(thread, NULL);
    print_totals(&totals, runs, (double)(nanoseconds(CLOCK_MONOTONIC) - start) * 1e-9);
    printf("ok fuzz_code: %llu runs from seed %llu\n", (unsigned long long)runs,
           (unsigned long long)seed);
    return 0;
}
