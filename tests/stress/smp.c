/*
 * Two processors: atomic operations, the order of memory accesses, TLB shootdowns, and code that
 * one processor changes while the other runs it. How often a thing is done depends on the machine,
 * as the processors' threads may have to share one; what comes out does not.
 */
#include "stress.h"

#define GROUP  "smp"
#define ROUNDS 20000u

/* --- atomic operations --- */

static struct {
    u32 count[8]; /* one line, shared by all */
    u64 pair[2] __attribute__((aligned(16)));
    u8 split[128];
    u32 sum[2], left[2];
    u8 bits[32];
} shared __attribute__((aligned(64)));

static u32 *split_word(void)
{
    return (u32 *)(shared.split + 62 - ((ulong)shared.split & 63)) + 16;
}

static void add(u32 cpu)
{
    (void)cpu;
    for (u32 n = 0; n < ROUNDS; n++) {
        __asm__ volatile("lock addl $3, %0" : "+m"(shared.count[0]));
        __asm__ volatile("lock incl %0" : "+m"(shared.count[1]));
        __asm__ volatile("lock subl $5, %0" : "+m"(shared.count[2]));
        __asm__ volatile("lock addw $1, %0" : "+m"(*((u16 *)&shared.count[3] + cpu)));
        __asm__ volatile("lock decb %0" : "+m"(shared.count[4]));
    }
}

TEST(lock_add)
{
    memset(&shared, 0, sizeof(shared));
    if (!both(add))
        return;
    EXPECT(shared.count[0], 6 * ROUNDS);
    EXPECT(shared.count[1], 2 * ROUNDS);
    EXPECT(shared.count[2], -10 * ROUNDS);
    EXPECT(shared.count[3], ROUNDS * 0x10001);
    EXPECT(shared.count[4], (u8)(-2 * ROUNDS));
}

/* Each value is given out once. */
static void xadd(u32 cpu)
{
    u32 sum = 0, last = 0;
    for (u32 n = 0; n < ROUNDS; n++) {
        u32 value = 1;
        __asm__ volatile("lock xaddl %0, %1" : "+r"(value), "+m"(shared.count[0]));
        EXPECT(n > 0 && value <= last, false);
        last = value;
        sum += value;
    }
    shared.sum[cpu] = sum;
}

TEST(lock_xadd)
{
    memset(&shared, 0, sizeof(shared));
    if (!both(xadd))
        return;
    EXPECT(shared.count[0], 2 * ROUNDS);
    EXPECT(shared.sum[0] + shared.sum[1], ROUNDS * (2 * ROUNDS - 1));
}

static void compare_exchange(u32 cpu)
{
    (void)cpu;
    for (u32 n = 0; n < ROUNDS; n++) {
        u32 old = *(volatile u32 *)&shared.count[0];
        bool done;
        do
            __asm__ volatile("lock cmpxchgl %3, %1"
                             : "+a"(old), "+m"(shared.count[0]), "=@ccz"(done)
                             : "r"(old + 7));
        while (!done);
    }
}

TEST(lock_cmpxchg)
{
    memset(&shared, 0, sizeof(shared));
    if (both(compare_exchange))
        EXPECT(shared.count[0], 14 * ROUNDS);
}

/* The halves change together: the second one is the first one's complement. */
static void exchange_wide(u32 cpu)
{
    (void)cpu;
    for (u32 n = 0; n < ROUNDS; n++) {
        ulong lo = 0, hi = 0;
        bool done;
        do {
            EXPECT(lo | hi ? (u32)(lo ^ hi) : ~0u, ~0u);
            ulong next = lo | hi ? lo + 1 : 1;
#ifdef __x86_64__
            __asm__ volatile("lock cmpxchg16b %3"
#else
            __asm__ volatile("lock cmpxchg8b %3"
#endif
                             : "+a"(lo), "+d"(hi), "=@ccz"(done), "+m"(shared.pair)
                             : "b"(next), "c"(~next)
                             : "memory");
        } while (!done);
    }
}

#ifdef __x86_64__
TEST(lock_cmpxchg16b)
#else
TEST(lock_cmpxchg8b)
#endif
{
    memset(&shared, 0, sizeof(shared));
    if (!both(exchange_wide))
        return;
    EXPECT((u32)shared.pair[0], 2 * ROUNDS);
}

/* Tokens go in and out: none is lost or doubled. */
static void exchange(u32 cpu)
{
    u32 in = 0;
    for (u32 n = 0; n < ROUNDS; n++) {
        u32 token = n * 2 + cpu + 1;
        in += token;
        __asm__ volatile("xchgl %0, %1" : "+r"(token), "+m"(shared.count[0]));
        in -= token;
    }
    shared.left[cpu] = in;
}

TEST(xchg)
{
    memset(&shared, 0, sizeof(shared));
    if (both(exchange))
        EXPECT(shared.left[0] + shared.left[1], shared.count[0]);
}

/* Each processor its own bits of the same bytes. */
static void flip_bits(u32 cpu)
{
    for (u32 n = 0; n < ROUNDS; n++) {
        u32 bit = 2 * (n % 128) + cpu;
        u8 was;
        __asm__ volatile("lock btsl %2, %0; setc %1"
                         : "+m"(shared.bits), "=q"(was)
                         : "r"(bit)
                         : "memory");
        EXPECT(was, 0);
        __asm__ volatile("lock orb $1, %0" : "+m"(shared.count[1]));
        __asm__ volatile("lock xorl %1, %0" : "+m"(shared.count[0]) : "r"(1u << (cpu + 4)));
        __asm__ volatile("lock btrl %2, %0; setc %1"
                         : "+m"(shared.bits), "=q"(was)
                         : "r"(bit)
                         : "memory");
        EXPECT(was, 1);
    }
}

TEST(lock_bits)
{
    memset(&shared, 0, sizeof(shared));
    if (!both(flip_bits))
        return;
    for (u32 n = 0; n < sizeof(shared.bits); n++)
        EXPECT(shared.bits[n], 0);
    EXPECT(shared.count[0], 0);
    EXPECT(shared.count[1], 1);
}

/* Across two cache lines. Few, because hosts slow these down on purpose. */
static void add_split(u32 cpu)
{
    (void)cpu;
    for (u32 n = 0; n < 50; n++)
        __asm__ volatile("lock incl %0" : "+m"(*split_word()));
}

TEST(lock_across_lines)
{
    memset(&shared, 0, sizeof(shared));
    if (both(add_split))
        EXPECT(*split_word(), 100);
}

/* --- locks --- */

static volatile u32 lock_word, next_ticket, serving, guarded[4];

static void guard(u32 cpu)
{
    (void)cpu;
    for (u32 n = 0; n < ARRAY_SIZE(guarded); n++)
        guarded[n] = guarded[n] + 1;
}

static void spin(u32 cpu)
{
    for (u32 n = 0; n < ROUNDS; n++) {
        u32 taken = 1;
        for (;;) {
            __asm__ volatile("xchgl %0, %1" : "+r"(taken), "+m"(lock_word)::"memory");
            if (!taken)
                break;
            while (lock_word)
                pause();
        }
        guard(cpu);
        __asm__ volatile("movl $0, %0" : "=m"(lock_word)::"memory");
    }
}

static void expect_guarded(u32 want)
{
    for (u32 n = 0; n < ARRAY_SIZE(guarded); n++) {
        EXPECT(guarded[n], want);
        guarded[n] = 0;
    }
}

TEST(spinlock)
{
    expect_guarded(0);
    if (both(spin))
        expect_guarded(2 * ROUNDS);
}

static volatile u32 tickets[2];

static void take_tickets(u32 cpu)
{
    for (u32 n = 0; n < ROUNDS && time_left(); n++) {
        u32 ticket = 1;
        __asm__ volatile("lock xaddl %0, %1" : "+r"(ticket), "+m"(next_ticket)::"memory");
        if (!wait_for(&serving, ticket))
            return;
        guard(cpu);
        tickets[cpu]++;
        serving = serving + 1;
        notify();
    }
}

TEST(ticket_lock)
{
    tickets[0] = tickets[1] = next_ticket = serving = 0;
    if (!both(take_tickets))
        return;
    expect_guarded(tickets[0] + tickets[1]);
    count("handed over", tickets[0] + tickets[1]);
}

/* --- order of memory accesses (SDM vol. 3, 8.2.3) --- */

#define PLACES 512

static volatile u32 x[PLACES][16], y[PLACES][16], seen[2][PLACES];
static volatile u32 round_of[2];

/* Both processors are here in this round. */
static bool meet(u32 cpu, u32 round)
{
    round_of[cpu] = round;
    notify();
    return wait_for(&round_of[cpu ^ 1], round);
}

/* Runs `pass` on both at about the same time, again and again; `check` looks in between. */
struct litmus {
    void (*pass)(u32 cpu, u32 round);
    void (*check)(u32 round);
};
static const struct litmus *litmus;
static volatile u32 rounds_done, odd_outcomes;
static volatile bool over;

static void litmus_rounds(u32 cpu)
{
    for (u32 round = 1; round <= 400; round++) {
        if (!meet(cpu, 3 * round - 2))
            return;
        litmus->pass(cpu, round);
        if (!meet(cpu, 3 * round - 1))
            return;
        if (cpu == 0) {
            litmus->check(round);
            rounds_done = round;
        }
        if (cpu == 0 && !time_left())
            over = true; /* before the other one can go on */
        if (!meet(cpu, 3 * round) || over)
            return;
    }
}

static void run_litmus(const struct litmus *l)
{
    litmus = l;
    round_of[0] = round_of[1] = rounds_done = odd_outcomes = 0;
    over = false;
    memset((void *)x, 0, sizeof(x));
    memset((void *)y, 0, sizeof(y));
    if (!both(litmus_rounds))
        return;
    count("trials", rounds_done * PLACES);
    EXPECT(rounds_done > 0, true);
}

/* Store buffering: each stores to its own place and loads the other's. */
#define STORE_BUFFERING(name, barrier)                                                             \
    static void name(u32 cpu, u32 round)                                                           \
    {                                                                                              \
        for (u32 n = 0; n < PLACES; n++) {                                                         \
            volatile u32 *mine = cpu ? y[n] : x[n], *other = cpu ? x[n] : y[n];                    \
            *mine = round;                                                                         \
            __asm__ volatile(barrier ::: "memory");                                                \
            seen[cpu][n] = *other;                                                                 \
        }                                                                                          \
    }
static u32 unrelated __asm__("unrelated") __attribute__((used));
STORE_BUFFERING(buffer_mfence, "mfence")
STORE_BUFFERING(buffer_locked, "lock orl $0, unrelated")
STORE_BUFFERING(buffer_plain, "")

static void count_both_old(u32 round)
{
    for (u32 n = 0; n < PLACES; n++)
        odd_outcomes += seen[0][n] != round && seen[1][n] != round;
}

TEST(store_buffering_with_mfence)
{
    static const struct litmus l = {buffer_mfence, count_both_old};
    run_litmus(&l);
    EXPECT(odd_outcomes, 0);
}

TEST(store_buffering_with_locked_operation)
{
    static const struct litmus l = {buffer_locked, count_both_old};
    run_litmus(&l);
    EXPECT(odd_outcomes, 0);
}

/* Allowed; that it is seen shows that the other tests can see it, too. */
TEST(store_buffering_without_fence)
{
    static const struct litmus l = {buffer_plain, count_both_old};
    run_litmus(&l);
    count("both old", odd_outcomes);
}

/* Message passing: stores are seen in their order, loads are not reordered with loads. */
static void pass_messages(u32 cpu, u32 round)
{
    for (u32 n = 0; n < PLACES; n++) {
        if (cpu == 0) {
            x[n][0] = round;
            y[n][0] = round;
        } else {
            u32 flag, data, tries = 0;
            do
                flag = y[n][0];
            while (flag != round && ++tries < 100);
            data = x[n][0];
            odd_outcomes += flag == round && data != round;
        }
    }
}

static void check_nothing(u32 round)
{
    (void)round;
}

TEST(message_passing)
{
    static const struct litmus l = {pass_messages, check_nothing};
    run_litmus(&l);
    EXPECT(odd_outcomes, 0);
}

/* Load buffering: loads are not reordered with later stores. */
static void buffer_loads(u32 cpu, u32 round)
{
    for (u32 n = 0; n < PLACES; n++) {
        volatile u32 *mine = cpu ? y[n] : x[n], *other = cpu ? x[n] : y[n];
        seen[cpu][n] = *other;
        *mine = round;
    }
}

static void count_both_new(u32 round)
{
    for (u32 n = 0; n < PLACES; n++)
        odd_outcomes += seen[0][n] == round && seen[1][n] == round;
}

TEST(load_buffering)
{
    static const struct litmus l = {buffer_loads, count_both_new};
    run_litmus(&l);
    EXPECT(odd_outcomes, 0);
}

/* 64-bit values are stored in one piece, also where the processor has 32 bits. */
static void store_whole(u32 cpu, u32 round)
{
    for (u32 n = 0; n < PLACES; n++) {
        u32 value[2] = {round, ~round}, got[2];
        if (cpu == 0) {
            __asm__ volatile("movq %1, %%xmm0; movq %%xmm0, %0" : "=m"(*(u64 *)x[n]) : "m"(value));
        } else {
            __asm__ volatile("movq %1, %%xmm0; movq %%xmm0, %0" : "=m"(got) : "m"(*(u64 *)x[n]));
            odd_outcomes += got[0] | got[1] ? got[0] != ~got[1] : 0;
        }
    }
}

TEST(wide_store_is_whole)
{
    static const struct litmus l = {store_whole, check_nothing};
    run_litmus(&l);
    EXPECT(odd_outcomes, 0);
}
