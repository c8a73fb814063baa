/*
 * Inside of struct guest_mem, for the files of mem/ that implement it (guestmem.c, codetrack.c).
 * Others use guestmem.h.
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

struct rom_image {
    u8 *hva;
    u64 size;
};

#define MAX_ROMS   16
#define CODE_LOCKS 64

struct guest_mem {
    /* The largest stretch of RAM, looked at first. */
    u64 hot_start, hot_size;
    u8 *hot_hva;
    _Atomic u64 a20_mask;

    u8 *ram; /* all of RAM; low and high part adjoin here */
    u64 ram_size;
    int fd;

    struct mem_range *range; /* sorted, disjoint */
    unsigned nranges;
    struct rom_image rom[MAX_ROMS];
    unsigned nroms;

    /* Code tracking, by RAM page number. */
    _Atomic u64 *code_mask;
    _Atomic u32 *code_version;
    _Atomic u32 constant_version;          /* of everything that is not RAM */
    bool membarrier;                       /* several vCPUs: decoders must fence the writers */
    pthread_mutex_t code_lock[CODE_LOCKS]; /* by page number; see codetrack.c */

    /* Who wants to know of writes to code; the lock is held for reading during the call. */
    pthread_rwlock_t code_hook_lock;
    code_write_fn *code_hook;
    void *code_hook_ctx;
};

/* The range that holds gpa, or NULL. */
const struct mem_range *map_find(const struct guest_mem *gm, u64 gpa);

/* Offset of gpa in RAM, or false if it is not RAM. */
bool map_ram_offset(const struct guest_mem *gm, u64 gpa, u64 *off);

int codetrack_create(struct guest_mem *gm, struct error *err);
void codetrack_destroy(struct guest_mem *gm);

#endif
