/*
 * What the loader tests share: a small guest, image files that live in memory (a memfd, opened by
 * its /proc path), and a synthetic bzImage to start from and break.
 */
#ifndef RINGER_TESTS_BOOT_FIXTURE_H
#define RINGER_TESTS_BOOT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "boot/linux_params.h"

struct fixture {
    struct guest_mem *gm;
    struct vcpu *v;
    struct e820_map map;
    struct boot_options opt;
    struct error err;
    u64 rsdp, acpi_addr, acpi_size;
    int fd, fd2;
    char path[64], path2[64];
};

static inline void file_set(int fd, const void *data, size_t len)
{
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(pwrite(fd, data, len, 0), (ssize_t)len);
}

static inline struct fixture *fixture_create(u64 ram)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct acpi_options acpi = {.ncpus = 2};
    assert_int_equal(guestmem_create(ram, &f->gm, &f->err), 0);
    assert_int_equal(acpi_build(f->gm, &acpi, &f->acpi_addr, &f->acpi_size, &f->rsdp, &f->err), 0);
    e820_build(&f->map, ram, f->acpi_addr, f->acpi_size);
    f->v = aligned_alloc(64, align_up(sizeof(*f->v), 64));
    memset(f->v, 0, sizeof(*f->v));
    f->v->bsp = true;
    cpu_reset(f->v);
    f->fd = memfd_create("kernel", 0);
    f->fd2 = memfd_create("initrd", 0);
    snprintf(f->path, sizeof(f->path), "/proc/self/fd/%d", f->fd);
    snprintf(f->path2, sizeof(f->path2), "/proc/self/fd/%d", f->fd2);
    f->opt = (struct boot_options){.kernel = f->path, .e820 = &f->map, .rsdp = f->rsdp};
    return f;
}

static inline void fixture_destroy(struct fixture *f)
{
    close(f->fd);
    close(f->fd2);
    guestmem_destroy(f->gm);
    free(f->v);
    free(f);
}

static inline int load(struct fixture *f)
{
    f->err.text[0] = '\0';
    cpu_reset(f->v);
    return boot_load(f->gm, f->v, &f->opt, &f->err);
}

/* Loads and expects an error whose sentence has `text` in it and names the file. */
static inline void expect_error(struct fixture *f, const char *text)
{
    int r = load(f);
    if (r >= 0 || !strstr(f->err.text, text))
        fail_msg("got %d '%s', expected '%s'", r, f->err.text, text);
    if (!strstr(f->err.text, "/"))
        fail_msg("'%s' does not name the file", f->err.text);
}

#define SETUP_SECTS   4
#define SETUP_SIZE    ((SETUP_SECTS + 1) * 512)
#define PAYLOAD_SIZE  0x2000
#define BZIMAGE_SIZE  (SETUP_SIZE + PAYLOAD_SIZE)
#define PAYLOAD_START 0xa1b2c3d4u

/* A bzImage of protocol 2.15 whose payload begins with PAYLOAD_START. */
static inline struct linux_setup_header *bzimage(u8 image[BZIMAGE_SIZE])
{
    memset(image, 0, BZIMAGE_SIZE);
    struct linux_setup_header *h = (void *)(image + LINUX_HEADER_OFFSET);
    h->setup_sects = SETUP_SECTS;
    h->syssize = PAYLOAD_SIZE / 16;
    h->boot_flag = 0xaa55;
    h->jump = 0x6aeb;
    h->header = LINUX_HEADER_MAGIC;
    h->version = 0x20f;
    h->loadflags = LOADFLAG_HIGH;
    h->code32_start = 0x100000;
    h->initrd_addr_max = 0x7fffffff;
    h->kernel_alignment = 0x200000;
    h->relocatable_kernel = 1;
    h->xloadflags = XLOADFLAG_64;
    h->cmdline_size = 2047;
    h->pref_address = 0x200000;
    h->init_size = 0x100000;
    u32 start = PAYLOAD_START;
    memcpy(image + SETUP_SIZE, &start, 4);
    return h;
}

static inline u64 peek(struct fixture *f, u64 gpa, unsigned size)
{
    return guestmem_load(f->gm, gpa, size, NULL);
}

static inline void assert_string_at(struct fixture *f, u64 gpa, const char *s)
{
    char buf[256] = {0};
    assert_true(strlen(s) < sizeof(buf));
    assert_true(guestmem_read(f->gm, gpa, buf, strlen(s) + 1));
    assert_string_equal(buf, s);
}

#endif
