/*
 * Inside of struct guest_mem, for the files of mem/ that implement it (map.c, guestmem.c,
 * codetrack.c). Others use guestmem.h.
 */
#ifndef RINGER_MEM_MAP_H
#define RINGER_MEM_MAP_H

#include "mem/guestmem.h"

enum mem_kind { MEM_RAM, MEM_ROM, MEM_MMIO };

/* A stretch of the map: [start, end) of guest-physical addresses. */
struct mem_range {
    u64 start, end;
    enum mem_kind kind;
    u8 *hva;    /* RAM, ROM: address of start in this process */
    u64 origin; /* MMIO: where the device's registers start */
    const struct mmio_ops *ops;
    void *ctx;
    pthread_mutex_t *lock;
};

struct mem_region {
    struct guest_mem *gm;
    enum mem_layer layer;
    bool placed;
    bool window; /* r.hva is what is shown, NULL: nothing yet */
    u8 *memory;  /* of a region with memory of its own */
    u64 size;
    struct mem_range r; /* as it lies in the map when placed; hva, origin: of its start */
};

#define MAX_REGIONS 64
#define MAX_RANGES  (2 * MAX_REGIONS + 8)
#define MAP_HOOKS   2
#define CODE_LOCKS  64

struct guest_mem {
    /* The map: sorted, disjoint. Written under map_lock; read without it: a reader finds map_seq
     * even and the same before and after, or reads again. */
    _Atomic u32 map_seq;
    unsigned nranges;
    u64 hot_start, hot_size; /* the largest stretch of RAM, looked at first */
    u8 *hot_hva;
    struct mem_range range[MAX_RANGES];

    _Atomic u64 a20_mask;

    u8 *ram; /* all of RAM, low and high part adjoining, and then the memory of regions */
    u64 ram_size;
    u64 memory_size; /* of both */
    u64 memory_used;
    int fd;

    pthread_mutex_t map_lock;
    struct mem_region region[MAX_REGIONS];
    unsigned nregions;
    struct map_hook {
        void (*fn)(void *ctx);
        void *ctx;
    } map_hook[MAP_HOOKS];

    /* Code tracking, by page number in all of this memory. */
    _Atomic u64 *code_mask;
    _Atomic u32 *code_version;
    _Atomic u32 constant_version;          /* of everything that is not memory */
    bool membarrier;                       /* several vCPUs: decoders must fence the writers */
    pthread_mutex_t code_lock[CODE_LOCKS]; /* by page number; see codetrack.c */

    /* Who wants to know of writes to code; the lock is held for reading during the call. */
    pthread_rwlock_t code_hook_lock;
    code_write_fn *code_hook;
    void *code_hook_ctx;
};

/* The range that holds gpa, as it is at this moment. */
bool map_find(const struct guest_mem *gm, u64 gpa, struct mem_range *out);

/* Offset of gpa's memory (RAM or ROM) from gm->ram, or false. */
bool map_memory_offset(const struct guest_mem *gm, u64 gpa, u64 *off);

/* Makes the memory, and the map with all of RAM in it. */
int map_create(struct guest_mem *gm, u64 ram_size, struct error *err);
void map_destroy(struct guest_mem *gm);

int codetrack_create(struct guest_mem *gm, struct error *err);
void codetrack_destroy(struct guest_mem *gm);

#endif
