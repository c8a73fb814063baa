/*
 * The Multiboot and raw loaders: address-kludge and ELF images of both classes, modules, what the
 * kernel is told, and each class of broken image.
 */
#include "fixture.h"

#define RAM    (8 * MIB)
#define LOAD   0x200000
#define MAGIC  0x1badb002u
#define SIZE   8192
#define OFFSET 0x400 /* of the Multiboot header in the file */

static u8 image[SIZE];

static int setup(void **state)
{
    *state = fixture_create(RAM);
    memset(image, 0, sizeof(image));
    return 0;
}

static int teardown(void **state)
{
    fixture_destroy(*state);
    return 0;
}

static void save(struct fixture *f)
{
    file_set(f->fd, image, sizeof(image));
}

static void put_header(u32 flags)
{
    u32 h[3] = {MAGIC, flags, -(MAGIC + flags)};
    memcpy(image + OFFSET, h, sizeof(h));
}

/* header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr */
static void put_addresses(u32 header, u32 start, u32 end, u32 bss, u32 entry)
{
    u32 a[5] = {header, start, end, bss, entry};
    put_header(0x10003);
    memcpy(image + OFFSET + 12, a, sizeof(a));
}

static void put_good_addresses(void)
{
    put_addresses(LOAD + OFFSET, LOAD, LOAD + SIZE, LOAD + 3 * SIZE, LOAD + 0x10);
}

/* An ELF header with one segment: file [0, SIZE) at virtual 0xc0200000, physical LOAD. */
#define VADDR 0xc0200000u
static void put_elf32(void)
{
    put_header(3);
    memcpy(image,
           "\x7f"
           "ELF\1\1\1",
           7);
    store_le(image + 16, 2, 2);
    store_le(image + 18, 3, 2);
    store_le(image + 24, VADDR + 0x20, 4);
    store_le(image + 28, 0x34, 4);
    store_le(image + 42, 32, 2);
    store_le(image + 44, 1, 2);
    u32 ph[8] = {1, 0, VADDR, LOAD, SIZE, 2 * SIZE, 7, 4096};
    memcpy(image + 0x34, ph, sizeof(ph));
}

static void put_elf64(void)
{
    put_header(3);
    memcpy(image,
           "\x7f"
           "ELF\2\1\1",
           7);
    store_le(image + 16, 2, 2);
    store_le(image + 18, 62, 2);
    store_le(image + 24, LOAD + 0x20, 8);
    store_le(image + 32, 0x40, 8);
    store_le(image + 54, 56, 2);
    store_le(image + 56, 1, 2);
    u64 ph[7] = {1 | 7ULL << 32, 0, LOAD, LOAD, SIZE, 2 * SIZE, 4096};
    memcpy(image + 0x40, ph, sizeof(ph));
}

static void assert_started(struct fixture *f, u64 entry)
{
    assert_int_equal(load(f), 0);
    assert_int_equal(f->v->mode, MODE_PROT32);
    assert_true(f->v->flat);
    assert_int_equal(f->v->rip, entry);
    assert_int_equal(f->v->gpr[RAX], 0x2badb002);
    assert_int_equal(f->v->rflags & FLAG_IF, 0);
    assert_true(guestmem_a20(f->gm));
    assert_int_equal(peek(f, LOAD + OFFSET, 4), MAGIC);
}

static void addresses(void **state)
{
    struct fixture *f = *state;
    put_good_addresses();
    save(f);
    guestmem_store(f->gm, LOAD + 2 * SIZE, 0xff, 1, NULL);
    assert_started(f, LOAD + 0x10);
    assert_int_equal(peek(f, LOAD + 2 * SIZE, 1), 0); /* bss */
    put_addresses(LOAD + OFFSET, LOAD, 0, 0, LOAD);   /* no ends: all of the file */
    save(f);
    assert_started(f, LOAD);
}

static void elf(void **state)
{
    struct fixture *f = *state;
    put_elf32();
    save(f);
    guestmem_store(f->gm, LOAD + SIZE + 1, 0xff, 1, NULL);
    assert_started(f, LOAD + 0x20); /* the entry address becomes physical */
    assert_int_equal(peek(f, LOAD + SIZE + 1, 1), 0);
    put_elf64();
    save(f);
    assert_started(f, LOAD + 0x20);
}

static void information(void **state)
{
    struct fixture *f = *state;
    put_elf32();
    save(f);
    f->opt.append = "root=/dev/ram";
    assert_started(f, LOAD + 0x20);
    u64 info = f->v->gpr[RBX];
    char expect[128];
    snprintf(expect, sizeof(expect), "%s root=/dev/ram", f->path);
    u32 flags = (u32)peek(f, info, 4);
    assert_int_equal(flags, 0x24d);
    assert_int_equal(peek(f, info + 4, 4), 639);
    assert_int_equal(peek(f, info + 8, 4), (f->acpi_addr - MIB) / KIB);
    assert_string_at(f, peek(f, info + 16, 4), expect);
    assert_int_equal(peek(f, info + 20, 4), 0);
    assert_string_at(f, peek(f, info + 64, 4), "ringer");
    u64 p = peek(f, info + 48, 4), end = p + peek(f, info + 44, 4);
    unsigned n = 0;
    for (; p < end; p += peek(f, p, 4) + 4, n++)
        assert_int_equal(peek(f, p + 4, 8), f->map.entry[n].addr);
    assert_int_equal(n, f->map.count);
    assert_int_equal(peek(f, f->v->gdtr.base + f->v->seg[SEG_CS].sel, 8), 0x00cf9b000000ffff);
}

static void modules(void **state)
{
    struct fixture *f = *state;
    char list[256];
    u8 data[4097];
    memset(data, 'm', sizeof(data));
    file_set(f->fd2, data, sizeof(data));
    put_elf32();
    save(f);
    snprintf(list, sizeof(list), "%s one two,%s", f->path2, f->path);
    f->opt.initrd = list;
    assert_started(f, LOAD + 0x20);
    u64 info = f->v->gpr[RBX], mods = peek(f, info + 24, 4);
    assert_int_equal(peek(f, info + 20, 4), 2);
    u64 start = peek(f, mods, 4);
    assert_int_equal(start % PAGE_SIZE, 0);
    assert_true(start >= LOAD + 2 * SIZE);
    assert_int_equal(peek(f, mods + 4, 4), start + sizeof(data));
    assert_int_equal(peek(f, start + 4096, 1), 'm');
    snprintf(list, sizeof(list), "%s one two", f->path2);
    assert_string_at(f, peek(f, mods + 8, 4), list);
    assert_true(peek(f, mods + 16, 4) >= start + sizeof(data));
    assert_int_equal(peek(f, peek(f, mods + 16, 4) + OFFSET, 4), MAGIC);
}

static void broken_modules(void **state)
{
    struct fixture *f = *state;
    put_elf32();
    save(f);
    f->opt.initrd = f->path2;
    expect_error(f, "is empty");
    assert_int_equal(ftruncate(f->fd2, 7 * MIB), 0);
    expect_error(f, "does not fit in RAM");
    f->opt.initrd = "/nonexistent args";
    expect_error(f, "No such file");
}

/* A kernel in low memory: what it is told must not be put over it. */
static void low_kernel(void **state)
{
    struct fixture *f = *state;
    put_addresses(0x10000 + OFFSET, 0x10000, 0x10000 + SIZE, 0x90000, 0x10000);
    save(f);
    assert_int_equal(load(f), 0);
    assert_true(f->v->gpr[RBX] >= 0x90000);
    assert_int_equal(peek(f, 0x10000 + OFFSET, 4), MAGIC);
}

static void header_place(void **state)
{
    struct fixture *f = *state;
    put_good_addresses();
    memmove(image + SIZE - 12, image + OFFSET, 12);
    memset(image + OFFSET, 0, 12);
    save(f);
    expect_error(f, "is truncated"); /* found at the last place, without its addresses */
    memset(image, 0, sizeof(image));
    put_good_addresses();
    memmove(image + 2, image, SIZE - 2);
    save(f);
    expect_error(f, "neither"); /* not aligned */
    put_good_addresses();
    store_le(image + OFFSET + 8, 12345, 4);
    save(f);
    expect_error(f, "neither"); /* checksum */
}

static void requirements(void **state)
{
    struct fixture *f = *state;
    put_elf32();
    put_header(7);
    save(f);
    expect_error(f, "graphics mode");
    store_le(image + OFFSET + 32, 1, 4); /* text will do */
    save(f);
    assert_started(f, LOAD + 0x20);
    put_header(0x8003);
    save(f);
    expect_error(f, "unknown features (flags 0x8000)");
}

static void broken_addresses(void **state)
{
    struct fixture *f = *state;
    static const struct {
        u32 a[5];
        const char *expect;
    } cases[] = {
        {{LOAD, LOAD + 4, 0, 0, LOAD}, "load address"},
        {{LOAD + OFFSET + 4, LOAD, 0, 0, LOAD}, "load address"},
        {{0xffffffff, 0, 0, 0, 0}, "load address"},
        {{LOAD + OFFSET, LOAD, LOAD, 0, LOAD}, "ends its data"},
        {{LOAD + OFFSET, LOAD, 1, 0, LOAD}, "ends its data"},
        {{LOAD + OFFSET, LOAD, LOAD + SIZE + 1, 0, LOAD}, "is truncated"},
        {{LOAD + OFFSET, LOAD, 0, 0xffffffff, LOAD}, "does not fit"},
        {{LOAD + OFFSET, LOAD, 0xffffffff, 0, LOAD}, "does not fit"},
        {{0xfffff400, 0xfffff000, 0, 0, 0xfffff000}, "does not fit"},
        {{0xa0000 + OFFSET, 0xa0000, 0, 0, 0xa0000}, "does not fit"},
        {{LOAD + OFFSET, LOAD, 0, 0, LOAD + SIZE}, "entry address"},
        {{LOAD + OFFSET, LOAD, 0, 0, 0}, "entry address"},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        const u32 *a = cases[i].a;
        put_addresses(a[0], a[1], a[2], a[3], a[4]);
        save(f);
        expect_error(f, cases[i].expect);
    }
}

static void broken_elf(void **state)
{
    struct fixture *f = *state;
    static const struct {
        unsigned off, size;
        u64 value;
        const char *expect;
    } cases[] = {
        {0, 1, 0, "ELF header is missing"},
        {4, 1, 3, "class"},
        {5, 1, 2, "little-endian"},
        {16, 2, 1, "executable"},
        {18, 2, 40, "another machine"},
        {24, 4, 0, "entry address"},
        {28, 4, 0xfffffff0, "is truncated"},
        {42, 2, 31, "program headers"},
        {44, 2, 0, "program headers"},
        {44, 2, 0xffff, "program headers"},
        {0x34 + 4, 4, 1, "is truncated"},
        {0x34 + 4, 4, 0xffffffff, "is truncated"},
        {0x34 + 12, 4, 0xffffffff, "does not fit"},
        {0x34 + 12, 4, RAM - SIZE, "does not fit"},
        {0x34 + 12, 4, 0xf0000, "does not fit"},
        {0x34 + 16, 4, 0xffffffff, "more bytes in the file"},
        {0x34 + 20, 4, 0xffffffff, "does not fit"},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        put_elf32();
        store_le(image + cases[i].off, cases[i].value, cases[i].size);
        save(f);
        expect_error(f, cases[i].expect);
    }
    put_elf64();
    store_le(image + 32, ~0ULL, 8);
    save(f);
    expect_error(f, "is truncated");
    put_elf64();
    store_le(image + 0x40 + 24, ~0ULL - SIZE, 8);
    save(f);
    expect_error(f, "does not fit");
}

/* Many segments, each of which fits, are together more than RAM. */
static void elf_segment_sum(void **state)
{
    struct fixture *f = *state;
    put_elf32();
    store_le(image + 28, 0x800, 4);
    store_le(image + 44, 100, 2);
    u32 ph[8] = {1, 0, VADDR, LOAD, 0, 4 * MIB, 7, 4096};
    for (unsigned i = 0; i < 100; i++)
        memcpy(image + 0x800 + 32 * i, ph, sizeof(ph));
    save(f);
    expect_error(f, "larger than RAM");
}

static void raw(void **state)
{
    struct fixture *f = *state;
    static const struct {
        u64 addr, entry;
        u16 cs;
        u64 rip;
    } cases[] = {
        {0x7c00, 0x7c00, 0, 0x7c00},
        {0x10000, 0x10004, 0x1000, 4},
        {0xf0000, 0xffff0, 0xf000, 0xfff0},
    };
    image[0] = 0xf4;
    save(f);
    f->opt.raw = true;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        f->opt.raw_addr = cases[i].addr;
        f->opt.raw_entry = cases[i].entry;
        assert_int_equal(load(f), 0);
        assert_int_equal(f->v->mode, MODE_REAL);
        assert_int_equal(f->v->seg[SEG_CS].sel, cases[i].cs);
        assert_int_equal(f->v->rip, cases[i].rip);
        assert_int_equal(peek(f, cases[i].addr, 1), 0xf4);
    }
    f->opt.raw_addr = f->opt.raw_entry = 0x300000;
    assert_int_equal(load(f), 0);
    assert_int_equal(f->v->mode, MODE_PROT32);
    assert_int_equal(f->v->rip, 0x300000);
}

static void broken_raw(void **state)
{
    struct fixture *f = *state;
    save(f);
    f->opt.raw = true;
    static const u64 addrs[] = {RAM - SIZE + 1, RAM, 4 * GIB, ~0ULL, ~0ULL - SIZE};
    for (unsigned i = 0; i < ARRAY_SIZE(addrs); i++) {
        f->opt.raw_addr = addrs[i];
        expect_error(f, "does not fit in RAM");
    }
    f->opt.raw_addr = 0;
    f->opt.raw_entry = ~0ULL;
    expect_error(f, "no RAM there");
    f->opt.raw_entry = RAM;
    expect_error(f, "no RAM there");
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(addresses),        T(elf),        T(information),     T(modules),
        T(broken_modules),   T(low_kernel), T(header_place),    T(requirements),
        T(broken_addresses), T(broken_elf), T(elf_segment_sum), T(raw),
        T(broken_raw),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
