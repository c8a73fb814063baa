/*
 * What the loaders share: the file being loaded, the guest that it goes into, and checked ways to
 * move bytes from one to the other. A loader never computes with a size from the file before one of
 * these has checked it; all sums are 64 bit.
 */
#ifndef RINGER_BOOT_IMAGE_H
#define RINGER_BOOT_IMAGE_H

#include "boot/boot.h"

/* A regular file, open for reading. */
struct image {
    const char *path;
    int fd;
    u64 size;
};

#define IMAGE_HEAD 8192 /* where every loader finds its header (Multiboot 1, 3.1.1) */

struct loader {
    struct guest_mem *gm;
    struct vcpu *v;
    const struct boot_options *opt;
    struct error *err;
    struct image kernel;
    u8 head[IMAGE_HEAD]; /* start of the kernel file, zero-filled */
    u64 head_len;
};

/* Opens a file that is to be loaded as `what` ("kernel", "initrd"): it must be a regular file and
 * not empty. Returns 0 or -errno. */
int image_open(struct image *img, const char *what, const char *path, struct error *err);
void image_close(struct image *img);

/* Reads exactly len bytes at off; a file that ends before is an error ("is truncated"). */
int image_read(const struct image *img, u64 off, void *buf, u64 len, struct error *err);

/* As image_read, into guest RAM at gpa, which must hold all of it. */
int image_load(const struct image *img, u64 off, u64 len, struct guest_mem *gm, u64 gpa,
               struct error *err);

/* Copies bytes that the loader made itself into guest RAM. */
int loader_write(struct loader *ld, u64 gpa, const void *buf, u64 len);

/* Clears guest RAM. */
int loader_zero(struct loader *ld, u64 gpa, u64 len);

/* Is all of [addr, addr+len) RAM that the memory map leaves free? */
bool e820_is_ram(const struct e820_map *map, u64 addr, u64 len);

/* End of the free RAM that begins at 1 MiB; 1 MiB if there is none. */
u64 e820_extended_end(const struct e820_map *map);

/* The loaders. The kernel file is open and its head read. */
int linux_load(struct loader *ld);
int multiboot_load(struct loader *ld);
int raw_load(struct loader *ld);

/* Does the head look like a bzImage or zImage with a setup header (protocol 2.00 or later)? */
bool linux_probe(const struct loader *ld);
/* Is there a valid Multiboot 1 header in the head? */
bool multiboot_probe(const struct loader *ld);

/* Loads an ELF file's segments at their physical addresses. *entry is the physical entry address,
 * [*low, *high) the memory that was used. */
int elf_load(struct loader *ld, u64 *entry, u64 *low, u64 *high);

#endif
