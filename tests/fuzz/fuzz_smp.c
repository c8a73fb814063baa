/*
 * Two processors in one memory: both run the same random program (and change it, and the page
 * tables, and the descriptors) at the same time. What is read twice by the host can differ the
 * second time; a run is not repeatable, so a failure is reported with the seed but may need many
 * runs from there.
 *
 *   fuzz_smp [--seed N] [--runs N]
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

#define MACHINE_RUNS 5000
#define WORK         150
#define TICK_NS      300000
#define HANG_SECONDS 60

static struct {
    u64 seed;
    pthread_barrier_t begin, end;
    struct fuzz_guest guest[2];
    pthread_mutex_t lock; /* while the vCPUs are looked at from outside, or come and go */
    bool running;
    _Atomic bool stop;
} fuzz;

#ifdef __SANITIZE_ADDRESS__
void __sanitizer_set_death_callback(void (*callback)(void));
const char *__asan_default_options(void);

const char *__asan_default_options(void)
{
    return "use_sigaltstack=0:allow_user_segv_handler=1";
}

static void say_seed(void)
{
    printf("\nnot ok fuzz_smp: --seed %llu\n", (unsigned long long)fuzz.seed);
    fflush(stdout);
}
#endif

/* One processor's part of a run. */
static void run_processor(struct fuzz_guest *g)
{
    struct vm_exit x = {.kind = EXIT_KICKED};
    for (unsigned n = 0; n < 4 && (x.kind == EXIT_KICKED || x.kind == EXIT_HALT); n++) {
        fuzz_guest_changed(g);
        fuzz_guest_run(g, &x);
        u32 events = atomic_fetch_and(&g->v->events, ~(u32)(EVENT_STOP | EVENT_INIT | EVENT_SIPI));
        if (events & EVENT_STOP)
            break;
        atomic_fetch_or(&g->v->events, EVENT_NMI);
    }
}

static void *peer_thread(void *arg)
{
    struct fuzz_guest *peer = arg;
    for (;;) {
        pthread_barrier_wait(&fuzz.begin);
        if (atomic_load(&fuzz.stop))
            return NULL;
        run_processor(peer);
        pthread_barrier_wait(&fuzz.end);
    }
}

static void *clock_thread(void *arg)
{
    const struct timespec tick = {.tv_nsec = TICK_NS};
    (void)arg;
    while (!atomic_load(&fuzz.stop)) {
        clock_nanosleep(CLOCK_MONOTONIC, 0, &tick, NULL);
        pthread_mutex_lock(&fuzz.lock);
        for (unsigned n = 0; n < 2 && fuzz.running; n++)
            atomic_fetch_or(&fuzz.guest[n].v->events, EVENT_STOP);
        pthread_mutex_unlock(&fuzz.lock);
    }
    return NULL;
}

static void run(u64 seed)
{
    struct rng r = {seed * 0xa0761d6478bd642f};
    struct fuzz_guest *g = &fuzz.guest[0], *peer = &fuzz.guest[1];
    fuzz.seed = seed;
    atomic_store(&g->v->events, 0);
    guestmem_set_a20(g->machine.mem, true);
    fuzz_state(g, &r);
    fuzz_state_peer(peer, &r);
    for (unsigned n = 0; n < 2; n++) {
        fuzz.guest[n].work = WORK;
        fuzz.guest[n].rng.state = rnd(&r);
        fuzz.guest[n].irq = -1;
    }
    pthread_barrier_wait(&fuzz.begin);
    run_processor(g);
    pthread_barrier_wait(&fuzz.end);
}

static void set_running(bool on)
{
    pthread_mutex_lock(&fuzz.lock);
    fuzz.running = on;
    pthread_mutex_unlock(&fuzz.lock);
}

static void run_machine(struct timebase *time, u64 seed, u64 runs)
{
    fuzz_guest_create(&fuzz.guest[0], time, &engine_interp);
    fuzz_guest_create_peer(&fuzz.guest[1], &fuzz.guest[0]);
    alarm(HANG_SECONDS);
    set_running(true);
    for (u64 n = 0; n < runs; n++)
        run(seed + n);
    set_running(false);
    fuzz_guest_destroy(&fuzz.guest[0]);
}

int main(int argc, char **argv)
{
    u64 seed = 1, runs = 1000;
    for (int n = 1; n + 1 < argc; n += 2) {
        if (!strcmp(argv[n], "--seed"))
            seed = strtoull(argv[n + 1], NULL, 0);
        else if (!strcmp(argv[n], "--runs"))
            runs = strtoull(argv[n + 1], NULL, 0);
        else
            return fprintf(stderr, "usage: fuzz_smp [--seed N] [--runs N]\n"), 2;
    }
    struct timebase time;
    pthread_t peer, clock;
    timebase_init(&time);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_set_death_callback(say_seed);
#endif
    pthread_mutex_init(&fuzz.lock, NULL);
    pthread_barrier_init(&fuzz.begin, NULL, 2);
    pthread_barrier_init(&fuzz.end, NULL, 2);
    if (pthread_create(&peer, NULL, peer_thread, &fuzz.guest[1]) ||
        pthread_create(&clock, NULL, clock_thread, NULL))
        return 2;
    for (u64 done = 0; done < runs; done += MACHINE_RUNS)
        run_machine(&time, seed + done, MIN(runs - done, MACHINE_RUNS));
    atomic_store(&fuzz.stop, true);
    pthread_barrier_wait(&fuzz.begin);
    pthread_join(peer, NULL);
    pthread_join(clock, NULL);
    printf("ok fuzz_smp: %llu runs from seed %llu\n", (unsigned long long)runs,
           (unsigned long long)seed);
    return 0;
}
