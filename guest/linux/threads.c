/*
 * Threads that share memory: a counter under a mutex, atomic additions, compare-and-swap, a producer and a consumer,
 * and thread-local data. With several processors this shows whether locked instructions are atomic.
 * Prints "pass" as the last line.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

enum { THREADS = 4, ROUNDS = 20000, ITEMS = 2000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long under_mutex;
static atomic_long added;
static atomic_ullong swapped;
static __thread long mine;
static int slot, slot_full;
static long consumed;

static void *count(void *arg)
{
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&lock);
        under_mutex++;
        pthread_mutex_unlock(&lock);
        atomic_fetch_add(&added, 3);
        unsigned long long old = atomic_load(&swapped);
        while (!atomic_compare_exchange_weak(&swapped, &old, old + 0x100000001ULL))
            ;
        mine++;
    }
    return (void *)mine;
}

static void *produce(void *arg)
{
    (void)arg;
    for (int i = 1; i <= ITEMS; i++) {
        pthread_mutex_lock(&lock);
        while (slot_full)
            pthread_cond_wait(&changed, &lock);
        slot = i;
        slot_full = 1;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static void consume(void)
{
    for (int i = 1; i <= ITEMS; i++) {
        pthread_mutex_lock(&lock);
        while (!slot_full)
            pthread_cond_wait(&changed, &lock);
        consumed += slot;
        slot_full = 0;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
}

static int expect(const char *what, long long want, long long got)
{
    if (want != got)
        printf("%s: expected %lld, got %lld\n", what, want, got);
    return want != got;
}

int main(void)
{
    pthread_t t[THREADS], producer;
    int failures = 0;
    for (int i = 0; i < THREADS; i++)
        pthread_create(&t[i], NULL, count, NULL);
    for (int i = 0; i < THREADS; i++) {
        void *result;
        pthread_join(t[i], &result);
        failures += expect("thread-local counter", ROUNDS, (long)result);
    }
    pthread_create(&producer, NULL, produce, NULL);
    consume();
    pthread_join(producer, NULL);
    failures += expect("mutex", THREADS * ROUNDS, under_mutex);
    failures += expect("atomic add", 3L * THREADS * ROUNDS, added);
    failures += expect("64-bit compare and swap", 0x100000001ULL * THREADS * ROUNDS, swapped);
    failures += expect("producer and consumer", (long)ITEMS * (ITEMS + 1) / 2, consumed);
    puts(failures ? "fail" : "pass");
    return failures != 0;
}
