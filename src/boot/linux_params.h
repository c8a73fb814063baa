/*
 * The Linux/x86 boot protocol's structures (the kernel's Documentation/arch/x86/boot.rst and
 * zero-page.rst), and what the loader works out from a kernel's setup header.
 */
#ifndef RINGER_BOOT_LINUX_PARAMS_H
#define RINGER_BOOT_LINUX_PARAMS_H

#include "boot/image.h"

#define LINUX_HEADER_OFFSET 0x1f1
#define LINUX_HEADER_MAGIC  0x53726448 /* "HdrS" */
#define LINUX_BOOT_FLAG     0xaa55
#define LINUX_HEADER_MAX    (0x290 - LINUX_HEADER_OFFSET)
#define LINUX_LOADER_OTHER  0xff /* type_of_loader: none that has a number */

#define LOADFLAG_HIGH     0x01 /* bzImage: the protected-mode part is loaded at 1 MiB or above */
#define LOADFLAG_USE_HEAP 0x80
#define XLOADFLAG_64      0x01 /* 64-bit entry at +0x200 */

#define SETUP_RNG_SEED 9

struct linux_setup_header {
    u8 setup_sects;
    u16 root_flags;
    u32 syssize; /* in 16-byte units */
    u16 ram_size, vid_mode, root_dev, boot_flag;
    u16 jump; /* short jump: its second byte + 0x202 is the header's end */
    u32 header;
    u16 version;
    u32 realmode_swtch;
    u16 start_sys_seg, kernel_version;
    u8 type_of_loader, loadflags;
    u16 setup_move_size;
    u32 code32_start, ramdisk_image, ramdisk_size, bootsect_kludge;
    u16 heap_end_ptr; /* 2.01 */
    u8 ext_loader_ver, ext_loader_type;
    u32 cmd_line_ptr;     /* 2.02 */
    u32 initrd_addr_max;  /* 2.03 */
    u32 kernel_alignment; /* 2.05 */
    u8 relocatable_kernel, min_alignment;
    u16 xloadflags;   /* 2.12 */
    u32 cmdline_size; /* 2.06 */
    u32 hardware_subarch;
    u64 hardware_subarch_data;
    u32 payload_offset, payload_length;
    u64 setup_data;   /* 2.09 */
    u64 pref_address; /* 2.10 */
    u32 init_size;
    u32 handover_offset;
    u32 kernel_info_offset; /* 2.15 */
} __attribute__((packed));

struct linux_e820_entry {
    u64 addr, size;
    u32 type;
} __attribute__((packed));

/* The "zero page", 4 KiB; only what a boot loader fills has a name. */
struct linux_boot_params {
    u8 screen_info[0x40]; /* all zero: no display, the console is serial */
    u8 pad0[0x30];
    u64 acpi_rsdp_addr;
    u8 pad1[0x48];
    u32 ext_ramdisk_image, ext_ramdisk_size, ext_cmd_line_ptr;
    u8 pad2[0x114];
    u32 alt_mem_k; /* KiB of RAM above 1 MiB */
    u8 pad3[4];
    u8 e820_entries;
    u8 pad4[8];
    union {
        struct linux_setup_header hdr;
        u8 hdr_bytes[LINUX_HEADER_MAX];
    };
    u8 pad5[0x40];
    struct linux_e820_entry e820_table[128];
    u8 pad6[0x330];
} __attribute__((packed));

_Static_assert(offsetof(struct linux_setup_header, header) == 0x202 - 0x1f1, "boot.rst");
_Static_assert(offsetof(struct linux_setup_header, cmd_line_ptr) == 0x228 - 0x1f1, "boot.rst");
_Static_assert(offsetof(struct linux_setup_header, init_size) == 0x260 - 0x1f1, "boot.rst");
_Static_assert(offsetof(struct linux_boot_params, acpi_rsdp_addr) == 0x70, "zero-page.rst");
_Static_assert(offsetof(struct linux_boot_params, ext_ramdisk_image) == 0xc0, "zero-page.rst");
_Static_assert(offsetof(struct linux_boot_params, alt_mem_k) == 0x1e0, "zero-page.rst");
_Static_assert(offsetof(struct linux_boot_params, e820_entries) == 0x1e8, "zero-page.rst");
_Static_assert(offsetof(struct linux_boot_params, hdr) == 0x1f1, "zero-page.rst");
_Static_assert(offsetof(struct linux_boot_params, e820_table) == 0x2d0, "zero-page.rst");
_Static_assert(sizeof(struct linux_boot_params) == 4096, "zero-page.rst");

struct linux_setup_data {
    u64 next;
    u32 type, len;
} __attribute__((packed));

/* A kernel, as its header describes it, with the defaults of old protocols filled in; then where
 * its parts go. Everything here has been checked. */
struct linux_image {
    struct linux_setup_header hdr; /* as in the file, fields that it lacks zero; then patched */
    u64 hdr_len;
    unsigned version; /* 0x020f is protocol 2.15 */
    bool high;        /* bzImage; else zImage */
    bool entry64;
    u64 setup_size;   /* bytes of real-mode code at the file's start */
    u64 payload_size; /* and of protected-mode code after it */
    u64 cmdline_max, initrd_max;

    u64 load; /* where the protected-mode code goes */
    u64 end;  /* end of what the kernel needs before it reads the memory map */
    u64 cmdline;
};

/* Loads the protected-mode part at li->load. */
int linux_load_payload(struct loader *ld, const struct linux_image *li);

/* Loads the initrd, if there is one, between li->end and the end of RAM, and notes it in li->hdr.
 */
int linux_load_initrd(struct loader *ld, struct linux_image *li);

/* Writes the command line to li->cmdline and, from protocol 2.02 on, notes it in li->hdr. */
int linux_write_cmdline(struct loader *ld, struct linux_image *li);

/* Puts a list with random bytes for the kernel's generator in li->hdr.setup_data (2.09). */
int linux_write_setup_data(struct loader *ld, struct linux_image *li);

/* The 16-bit protocol: real-mode code, BIOS services, entry in real mode. */
int linux_start16(struct loader *ld, struct linux_image *li);

#endif
