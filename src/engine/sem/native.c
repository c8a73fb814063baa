/*
 * The thunks of one vCPU: a hash table from recipes to thunks, and the memory for their code, one
 * memfd mapped twice, writable and executable apart. The code of thunk n has a slot of fixed size.
 * Code is only written to a slot that does not run, by the thread that will run it, at the physical
 * address where the CPU's self-modifying-code detection sees it.
 */
#include "engine/sem/native.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/tunables.h"
#include "cpu/fault.h"
#include "engine/engine.h"

#define HASH_SIZE  (2 * TUNE_NATIVE_THUNKS)
#define NO_THUNK   0xffff
#define ONE_SHOT   TUNE_NATIVE_THUNKS /* the slot that is rebuilt at each use */
#define CODE_BYTES align_up((TUNE_NATIVE_THUNKS + 1) * THUNK_BYTES + 64, PAGE_SIZE)

_Static_assert(TUNE_NATIVE_THUNKS < NO_THUNK, "thunk numbers are 16 bits");

struct native {
    u8 *rw, *rx; /* the code, twice; MXCSR for the host behind the last slot */
    unsigned count;
    u16 hash[HASH_SIZE];
    struct thunk thunk[TUNE_NATIVE_THUNKS + 1];
};

static u8 *map_twice(u8 **rx)
{
    void *rw = MAP_FAILED, *exec = MAP_FAILED;
    int fd = memfd_create("ringer-thunks", MFD_CLOEXEC);
    if (fd < 0)
        return NULL;
    if (ftruncate(fd, (off_t)CODE_BYTES) == 0) {
        rw = mmap(NULL, CODE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        exec = mmap(NULL, CODE_BYTES, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    }
    close(fd);
    if (rw != MAP_FAILED && exec != MAP_FAILED) {
        *rx = exec;
        return rw;
    }
    int code = errno;
    if (rw != MAP_FAILED)
        munmap(rw, CODE_BYTES);
    if (exec != MAP_FAILED)
        munmap(exec, CODE_BYTES);
    errno = code;
    return NULL;
}

static const size_t mxcsr_offset = (TUNE_NATIVE_THUNKS + 1) * THUNK_BYTES;

/* The table is big and mostly untouched: anonymous memory, not the heap. */
int native_create(struct vcpu *v, struct error *err)
{
    if (v->native)
        return 0;
    struct native *n =
        mmap(NULL, sizeof(*n), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (n == MAP_FAILED)
        return error_errno(err, errno, "no memory for native instructions");
    n->rw = map_twice(&n->rx);
    if (!n->rw) {
        int code = errno;
        munmap(n, sizeof(*n));
        return error_errno(err, code, "no executable memory for native instructions");
    }
    memset(n->hash, 0xff, sizeof(n->hash));
    store_le(n->rw + mxcsr_offset, MXCSR_DEFAULT, 4);
    native_signal_init();
    v->native = n;
    return 0;
}

void native_destroy(struct vcpu *v)
{
    struct native *n = v->native;
    if (!n)
        return;
    munmap(n->rw, CODE_BYTES);
    munmap(n->rx, CODE_BYTES);
    munmap(n, sizeof(*n));
    v->native = NULL;
}

/* FNV-1a; recipes have no padding that isn't zero. */
static unsigned recipe_hash(const struct recipe *r)
{
    const u8 *p = (const u8 *)r;
    u32 h = 2166136261u;
    for (unsigned n = 0; n < sizeof(*r); n++)
        h = (h ^ p[n]) * 16777619u;
    return h % HASH_SIZE;
}

static struct thunk *emit_slot(struct native *n, unsigned slot, const struct recipe *r)
{
    struct thunk *t = &n->thunk[slot];
    size_t offset = (size_t)slot * THUNK_BYTES;
    thunk_emit(t, r, n->rw + offset, n->rx + offset, n->rx + mxcsr_offset);
    return t;
}

struct thunk *native_find(struct vcpu *v, const struct insn *i, bool align_check)
{
    struct recipe r;
    struct error err;
    if (unlikely(!v->native) && native_create(v, &err) < 0)
        vcpu_leave(v, EXIT_HOST_ERROR, "%s", err.text);
    struct native *n = v->native;
    recipe_make(i, v->mode, align_check, &r);

    u16 *chain = &n->hash[recipe_hash(&r)];
    for (u16 t = *chain; t != NO_THUNK; t = n->thunk[t].next)
        if (!memcmp(&n->thunk[t].recipe, &r, sizeof(r)))
            return &n->thunk[t];
    if (n->count == TUNE_NATIVE_THUNKS) {
        stat_inc(&v->stats, STAT_NATIVE_UNKEPT);
        return emit_slot(n, ONE_SHOT, &r);
    }
    stat_inc(&v->stats, STAT_NATIVE_THUNKS);
    struct thunk *t = emit_slot(n, n->count, &r);
    t->next = *chain;
    *chain = (u16)n->count++;
    return t;
}

void *native_thunk(struct vcpu *v, const struct insn *i)
{
    struct thunk *t = native_find(v, i, false);
    return t == &v->native->thunk[ONE_SHOT] ? NULL : t;
}
