/*
 * The guest-physical address space: RAM (one memfd, so that engines can map it again elsewhere),
 * ROM, and memory-mapped device registers; and the record of which bytes have been decoded as code.
 *
 * RAM lies at 0 up to 3 GiB and goes on at 4 GiB. What else there is are regions, which can be
 * placed, moved and removed while the guest runs (PCI base addresses, shadow RAM, VGA's window);
 * the map is read without locks. A device range names the lock that its callbacks need.
 *
 * Code tracking. A decoder that caches what it read calls code_protect() first, and then reads the
 * bytes. Each store to RAM is followed by a look at the page's code mask: one bit per 64 bytes that
 * hold decoded code. A hit makes a new version of the page; whoever cached a block
 * compares the page's version before running it. Stores stay lock-free: the decoder uses
 * membarrier(2) so that either the decoder sees the store or the writer sees the mask.
 */
#ifndef RINGER_MEM_GUESTMEM_H
#define RINGER_MEM_GUESTMEM_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/error.h"
#include "base/types.h"

#define RAM_LOW_MAX   (3 * GIB) /* RAM above this size continues at RAM_HIGH_BASE */
#define RAM_HIGH_BASE (4 * GIB)
#define RAM_MIN       (1 * MIB)
#define RAM_MAX       (256 * GIB)

#define GUESTMEM_EXTRA_MAX (96 * MIB) /* memory besides RAM: ROMs, frame buffer */

struct guest_mem;

/* Registers in memory. off is relative to the range; size is 1, 2, 4 or 8. */
struct mmio_ops {
    u64 (*read)(void *ctx, u64 off, unsigned size);
    void (*write)(void *ctx, u64 off, u64 value, unsigned size);
};

/* Makes an address space with ram_size bytes of zeroed RAM (a multiple of 4 KiB). */
int guestmem_create(u64 ram_size, struct guest_mem **out, struct error *err);
void guestmem_destroy(struct guest_mem *gm);

/* Lays a ROM over the map (guest writes are ignored). data is copied, size rounded up to 4 KiB. */
int guestmem_add_rom(struct guest_mem *gm, u64 gpa, const void *data, u64 size, struct error *err);

/* Lays device registers over the map, for good; they may share a page only with other devices. lock
 * may be NULL; else it is held during callbacks. */
int guestmem_add_mmio(struct guest_mem *gm, u64 gpa, u64 size, const struct mmio_ops *ops,
                      void *ctx, pthread_mutex_t *lock, struct error *err);

/* --- regions that come and go --- */

/* Which of two regions at one address is seen: the upper one, and in a layer the one made later. */
enum mem_layer {
    LAYER_BUS,   /* below RAM: base addresses of PCI functions */
    LAYER_BOARD, /* above RAM: ROMs, VGA's window, APICs */
    LAYER_SHADOW /* above these: what shadow RAM registers choose */
};

struct mem_region;

/* Each makes a region, not placed yet, before the vCPUs run; guestmem_destroy() frees it. size is a
 * multiple of 4 KiB. */
/* Device registers; off of its callbacks is relative to the region. */
int mem_region_mmio(struct guest_mem *gm, enum mem_layer layer, u64 size,
                    const struct mmio_ops *ops, void *ctx, pthread_mutex_t *lock,
                    struct mem_region **out, struct error *err);
/* Zeroed memory of its own, which *hva shows to this process: a frame buffer, or with rom what the
 * guest can't write. All such memory together: at most GUESTMEM_EXTRA_MAX. */
int mem_region_memory(struct guest_mem *gm, enum mem_layer layer, u64 size, bool rom, u8 **hva,
                      struct mem_region **out, struct error *err);
/* A window to a part of other memory, which mem_region_show() chooses. */
int mem_region_window(struct guest_mem *gm, enum mem_layer layer, u64 size, struct mem_region **out,
                      struct error *err);

/* Places or moves it to gpa, 4 KiB aligned; what would lie past the last physical address is not
 * placed. From a callback of a device or while no vCPU runs, with any
 * device's lock held. A vCPU that runs meanwhile sees it a moment later. */
void mem_region_place(struct mem_region *r, u64 gpa);
void mem_region_remove(struct mem_region *r);
/* A window shows the memory of `of` (NULL: RAM) from offset on: all of it must exist. */
void mem_region_show(struct mem_region *window, const struct mem_region *of, u64 offset,
                     bool writable);

/* Byte at gpa of what the layer BOARD has there, whatever lies over it; all ones if nothing. */
u8 mem_board_byte(struct guest_mem *gm, u64 gpa);

/* fn(ctx) is called after each change, by the thread that makes it: to flush TLBs, and for engines
 * that have a map of their own. At most 2 at a time; fn NULL takes ctx's away. */
void guestmem_on_map_change(struct guest_mem *gm, void (*fn)(void *ctx), void *ctx);

u64 guestmem_ram_size(const struct guest_mem *gm);
/* Where all of RAM lies in this process, the low part first and the high part right behind it. */
u8 *guestmem_ram(const struct guest_mem *gm);

/* The memfd, whose offsets are those from guestmem_ram(), to map pieces of it once more. */
int guestmem_fd(const struct guest_mem *gm);

/* All memory's pages: RAM's, and from guestmem_ram() + ram_size on that of regions. */
u64 guestmem_pages(const struct guest_mem *gm);

/* Zeroes RAM, also what is not to be seen of it now. */
void guestmem_clear_ram(struct guest_mem *gm);

/* For engines that map RAM themselves (KVM memory slots): the i-th stretch of RAM or ROM. Returns
 * false past the last one. While no vCPU runs, or from the hook of guestmem_on_map_change(). */
struct mem_slot {
    u64 gpa, size;
    u8 *hva;
    bool rom;
};
bool guestmem_slot(const struct guest_mem *gm, unsigned i, struct mem_slot *out);

/* Address of gpa in this process if it is RAM (or ROM, when !write) and the len bytes are
 * contiguous there, else NULL. */
u8 *guestmem_hva(struct guest_mem *gm, u64 gpa, u64 len, bool write);
/* The same for as much of len as is contiguous, which *n tells. */
u8 *guestmem_piece(struct guest_mem *gm, u64 gpa, u64 len, bool write, u64 *n);

/* Copies by devices and loaders (DMA); RAM and ROM only. Writes do the code bookkeeping. Returns
 * false, with nothing copied, if a byte of the range is neither RAM nor (for reads) ROM. */
bool guestmem_read(struct guest_mem *gm, u64 gpa, void *buf, u64 len);
bool guestmem_write(struct guest_mem *gm, u64 gpa, const void *buf, u64 len);

/* One access of 1, 2, 4 or 8 bytes as a CPU does it: RAM, ROM or device; reads of nothing give all
 * ones. *device (may be NULL) is set if a device callback ran. */
u64 guestmem_load(struct guest_mem *gm, u64 gpa, unsigned size, bool *device);
void guestmem_store(struct guest_mem *gm, u64 gpa, u64 value, unsigned size, bool *device);

/* A20 gate: while closed, bit 20 of every CPU-generated physical address is masked. The caller
 * makes every vCPU flush its TLB. Returns whether the state changed. */
bool guestmem_set_a20(struct guest_mem *gm, bool open);
bool guestmem_a20(const struct guest_mem *gm);
u64 guestmem_a20_mask(const struct guest_mem *gm);

/* How many vCPU threads will run: with more than one, decoding needs membarrier(2). Before they
 * run. */
int guestmem_set_threads(struct guest_mem *gm, unsigned n, struct error *err);

/* Code tracking. */
/* Marks [gpa, gpa+len) (within one page) as being decoded and returns the page's version, to be
 * read BEFORE the bytes. code_verify() after decoding: false means that a write came in between;
 * decode again. */
u32 code_protect(struct guest_mem *gm, u64 gpa, unsigned len);
bool code_verify(struct guest_mem *gm, u64 gpa, unsigned len, u32 version);
/* Current version of the page that holds gpa; devices and nothing: constant. */
u32 code_version(const struct guest_mem *gm, u64 gpa);
/* To be called after each store to RAM. Returns true if it hit decoded code (rare). */
bool code_written(struct guest_mem *gm, u64 gpa, u64 len);
/* The same by offset from guestmem_ram(). */
bool code_written_ram(struct guest_mem *gm, u64 off, u64 len);
/* Nothing in these chunks of 64 bytes (bit n: from 64 * n on) of a page (number of a page of RAM,
 * offset >> 12) counts as decoded any more: the page has a new version, and then these bits of its
 * mask are clear, which another vCPU that stores there takes to mean that their blocks are stale.
 */
void code_forget(struct guest_mem *gm, u64 page, u64 chunks);
/* fn is called after each write that hit decoded code, by the writing thread, which may be any. It
 * makes the blocks with bytes in these chunks stale and calls code_forget() for them; none may be
 * made in between. fn must not call guestmem_on_code_write, nor leave by longjmp. There is one fn;
 * NULL: none. When this returns, the one before is not running any more. */
typedef void code_write_fn(void *ctx, u64 page, u64 chunks);
void guestmem_on_code_write(struct guest_mem *gm, code_write_fn *fn, void *ctx);
/* The arrays behind the calls above, indexed by page number ((hva - guestmem_ram()) >> 12), so that
 * hot paths can look inline. For a gpa that is not memory: no mask (NULL), and a version that never
 * changes. */
_Atomic u64 *code_mask_of(struct guest_mem *gm, u64 gpa);
_Atomic u32 *code_version_of(struct guest_mem *gm, u64 gpa);
_Atomic u64 *guestmem_code_masks(struct guest_mem *gm);

#endif
