/*
 * The translation cache: memory for host code, mapped twice (writable and executable apart), and
 * the records of what is in it. All vCPUs share it; whoever translates, links or invalidates holds
 * its lock. Nothing is freed singly: a fragment whose code was written becomes unreachable, and
 * when the cache is full all of it is thrown away at a moment when no vCPU is inside.
 */
#ifndef RINGER_ENGINE_BT_TCACHE_H
#define RINGER_ENGINE_BT_TCACHE_H

#include "engine/bt/bt.h"
#include "engine/bt/emit.h"

#define TCACHE_KEYS 4096

/* From a linear address to the offset of its entry in a context's first-level TLB. */
#define L1_SHIFT (PAGE_SHIFT - TLB_ENTRY_SHIFT)
#define L1_MASK  ((TUNE_TLB_L1_ENTRIES - 1) << TLB_ENTRY_SHIFT)

/* What was learned of the code at a guest-physical address, by a hash of that. */
#define TCACHE_LEARNED 65536
enum {
    LEARNED_ALONE = 1, /* a TU whose accesses are not to share checks */
    LEARNED_ROAMS = 2, /* an instruction whose access leaves spans of neighbours in RAM too often */
    LEARNED_DEVICE = 4,       /* an instruction that accesses devices: to be a callout */
    LEARNED_ROAMS_WIDELY = 8, /* one that leaves spans of a window, too */
    LEARNED_HOT_PAGE = 16,    /* a page of code: its spans come from windows */
    LEARNED_DIVIDES = 32,     /* a division that faults: a callout, too, as a signal costs more */
    LEARNED_STRAYS = 64,      /* a return that leads elsewhere than behind its call */
    LEARNED_UNMIRRORED = 128, /* an instruction whose access the mirror often doesn't show */
    LEARNED_REGION = 256,     /* times 1 + the region of the mirror that its access goes to */
};
static inline u32 tcache_learned_hash(u64 gpa)
{
    return (u32)(gpa * 0x9e3779b97f4a7c15 >> 48) % TCACHE_LEARNED;
}

struct tcache {
    u8 *rw, *rx;  /* the two mappings */
    size_t size;  /* of the code */
    u8 *next;     /* where the next fragment goes */
    u8 *prepared; /* up to here, memory has been asked for */
    bool several; /* more than one vCPU may be inside */
    struct thunks thunks;
    u8 *first; /* behind the thunks */
    pthread_mutex_t lock;
    struct guest_mem *mem;

    struct fragment **hash;
    struct fragment **page; /* by RAM page number: the fragments made from it */
    struct fragment *fragment;
    struct exit *exit;
    struct site *site;
    struct trap *trap;
    struct reloc *reloc;
    u32 *source; /* number of a fragment that may be cloned, by a hash of (gpa, key); the last one,
                    if it is still that */
    struct bt_key *key;
    u32 spans;
    u32 fragments, exits, sites, traps, keys; /* traps also read by signal handlers: atomically */
    u32 relocs;
    u16 key_hash[2 * TCACHE_KEYS]; /* number + 1; 0: empty */
    unsigned hash_bits;
    u32 max_fragments, max_exits, max_sites, max_traps, max_relocs;

    u16 learned[TCACHE_LEARNED]; /* LEARNED_*, by tcache_learned_hash() */

    /* Throwing all away waits until no vCPU is inside. */
    pthread_cond_t changed;
    unsigned inside; /* vCPUs between tcache_enter and tcache_leave */
    _Atomic bool flush_wanted;
    _Atomic u32 generation;  /* counts how often all was thrown away */
    _Atomic u64 invalidated; /* fragments whose code was written */
    void (*kick)(void *ctx); /* makes every vCPU that is inside leave soon; NULL: none to be made */
    void *kick_ctx;
};

int tcache_create(struct machine *m, size_t size, struct tcache **out, struct error *err);
void tcache_destroy(struct tcache *tc);

static inline const u8 *tcache_rx(const struct tcache *tc, const u8 *rw)
{
    return tc->rx + (rw - tc->rw);
}

/* A vCPU is about to hold fragments or run them; waits while all is being thrown away. */
void tcache_enter(struct tcache *tc);
void tcache_leave(struct tcache *tc);

/* The number of a key, which stays until the next flush; NO_KEY if there are too many. */
#define NO_KEY (~0U)
u32 tcache_key(struct tcache *tc, const struct bt_key *key);

/* Finding and entering, with the lock held. */
struct fragment *tcache_find(struct tcache *tc, u64 gpa, u64 rip, u32 key);
/* Room for one more fragment of the greatest size? Else all has to be thrown away. */
bool tcache_has_room(const struct tcache *tc);
/* f, which is complete, and its code and traps have been written behind the last fragment's. */
void tcache_add(struct tcache *tc, struct fragment *f);

/* The fragment for this code at whatever RIP that may be cloned, or NULL. */
void tcache_set_source(struct tcache *tc, const struct fragment *f);
struct fragment *tcache_source(const struct tcache *tc, u64 gpa, u32 key);
/* Makes x lead to its stub. */
void exit_reset(struct exit *x);

/* Room for the spans of one more fragment? Else those that have some are to be thrown away. */
bool tcache_has_spans(const struct tcache *tc);

/* Throws all away, or only the fragments that have spans; the caller is inside, holds no fragment
 * and does not hold the lock. Kicks the other vCPUs once tcache_enter() keeps them outside, and
 * waits for them; so the caller is outside meanwhile if another one flushes already; then it
 * returns false. */
bool tcache_flush(struct tcache *tc, bool all);

/* Links exit x to f (with the lock held); sig: signature of the page of f if x leads to another
 * page. False: it stays as it is. */
bool tcache_link(struct tcache *tc, struct exit *x, struct fragment *f, u64 sig);

/* Code in these chunks of 64 bytes of a RAM page (bit n: from 64 * n on) was written: its fragments
 * are not to be reached any more. */
void tcache_invalidate(struct tcache *tc, u64 page, u64 chunks);

/* Chunks of the page at gpa that [gpa, gpa + bytes) touches; bytes is not 0 and ends in the page.
 */
static inline u64 tcache_chunks(u64 gpa, unsigned bytes)
{
    unsigned first = gpa & ~PAGE_MASK, last = first + bytes - 1;
    return ~0ULL >> (63 - last / 64) & ~0ULL << first / 64;
}

/* Makes f unreachable, so that it is translated again. With the lock held. */
void tcache_kill(struct tcache *tc, struct fragment *f);

/* Has the code of user programs in the page at gpa translated again with windows for what roams,
 * and with shared checks where these kept missing. The number of fragments that concerns. */
unsigned tcache_give_windows(struct tcache *tc, u64 gpa);

/* Where to go on for a signal at pc (executable address), or NULL. */
const u8 *tcache_trap(const struct tcache *tc, const u8 *pc);
/* The fragment that holds the executable address pc. */
struct fragment *tcache_at(const struct tcache *tc, const u8 *pc);

#endif
