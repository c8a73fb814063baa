/*
 * The Linux loader, on synthetic kernels: what the three protocols put where, and each class of
 * broken kernel and initrd.
 */
#include "fixture.h"

#include <fcntl.h>
#include <sys/stat.h>

#define RAM (8 * MIB)

static u8 image[BZIMAGE_SIZE];

static int setup(void **state)
{
    struct fixture *f = fixture_create(RAM);
    bzimage(image);
    file_set(f->fd, image, sizeof(image));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture_destroy(*state);
    return 0;
}

static struct linux_setup_header *header(void)
{
    return (void *)(image + LINUX_HEADER_OFFSET);
}

static void save(struct fixture *f)
{
    file_set(f->fd, image, sizeof(image));
}

static struct linux_boot_params read_params(struct fixture *f)
{
    struct linux_boot_params bp;
    assert_true(guestmem_read(f->gm, f->v->gpr[RSI], &bp, sizeof(bp)));
    return bp;
}

static void entry64(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(load(f), 0);
    assert_int_equal(f->v->mode, MODE_LONG64);
    assert_int_equal(f->v->rip, 0x200200);
    assert_int_equal(f->v->seg[SEG_CS].sel, 0x10);
    assert_int_equal(f->v->seg[SEG_SS].sel, 0x18);
    assert_int_equal(f->v->rflags & FLAG_IF, 0);
    assert_int_equal(peek(f, 0x200000, 4), PAYLOAD_START);
    /* The GDT in memory says what the hidden parts say. */
    assert_int_equal(peek(f, f->v->gdtr.base + 0x10, 8), 0x00af9b000000ffff);
    assert_int_equal(peek(f, f->v->gdtr.base + 0x18, 8), 0x00cf93000000ffff);
}

/* Follows the page tables for the first and last byte of each GiB below 4 GiB. */
static void identity_map(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(load(f), 0);
    for (u64 lin = 0; lin < 4 * GIB; lin += 0x1ffffff) {
        u64 e = peek(f, f->v->cr3 + 8 * (lin >> 39), 8);
        assert_int_equal(e & 3, 3);
        e = peek(f, (e & ~0xfffULL) + 8 * ((lin >> 30) & 511), 8);
        assert_int_equal(e & 3, 3);
        e = peek(f, (e & ~0xfffULL) + 8 * ((lin >> 21) & 511), 8);
        assert_int_equal(e, (lin & ~0x1fffffULL) | 0x83);
    }
}

static void entry32(void **state)
{
    struct fixture *f = *state;
    header()->xloadflags = 0;
    save(f);
    assert_int_equal(load(f), 0);
    assert_int_equal(f->v->mode, MODE_PROT32);
    assert_true(f->v->flat);
    assert_int_equal(f->v->rip, 0x200000);
    assert_int_equal(f->v->seg[SEG_CS].sel, 0x10);
    assert_int_equal(f->v->seg[SEG_DS].sel, 0x18);
    assert_int_equal(f->v->gpr[RBX] | f->v->gpr[RBP] | f->v->gpr[RDI], 0);
    f->opt.linux_protocol = LINUX_BOOT_64;
    expect_error(f, "no 64-bit entry");
}

static void not_relocatable(void **state)
{
    struct fixture *f = *state;
    header()->relocatable_kernel = 0;
    save(f);
    f->opt.linux_protocol = LINUX_BOOT_32;
    assert_int_equal(load(f), 0);
    assert_int_equal(f->v->rip, 0x100000);
    assert_int_equal(peek(f, 0x100000, 4), PAYLOAD_START);
}

static void boot_params(void **state)
{
    struct fixture *f = *state;
    f->opt.append = "console=ttyS0 quiet";
    assert_int_equal(load(f), 0);
    struct linux_boot_params bp = read_params(f);
    assert_int_equal(bp.hdr.header, LINUX_HEADER_MAGIC);
    assert_int_equal(bp.hdr.type_of_loader, 0xff);
    assert_int_equal(bp.acpi_rsdp_addr, f->rsdp);
    assert_int_equal(bp.alt_mem_k, (f->acpi_addr - MIB) / KIB);
    assert_int_equal(bp.e820_entries, f->map.count);
    assert_int_equal(bp.e820_table[1].addr, 0x9fc00);
    assert_int_equal(bp.e820_table[1].type, E820_RESERVED);
    assert_int_equal(((u8 *)&bp)[0x1ef], 0); /* the sentinel */
    assert_int_equal(bp.hdr.code32_start, 0x200000);
    assert_string_at(f, bp.hdr.cmd_line_ptr, "console=ttyS0 quiet");
}

static void rng_seed(void **state)
{
    struct fixture *f = *state;
    u8 seed[2][32];
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(load(f), 0);
        u64 node = read_params(f).hdr.setup_data;
        assert_int_not_equal(node, 0);
        assert_int_equal(peek(f, node, 8), 0);
        assert_int_equal(peek(f, node + 8, 4), SETUP_RNG_SEED);
        assert_int_equal(peek(f, node + 12, 4), sizeof(seed[i]));
        assert_true(guestmem_read(f->gm, node + 16, seed[i], sizeof(seed[i])));
    }
    assert_memory_not_equal(seed[0], seed[1], sizeof(seed[0]));
}

static void initrd(void **state)
{
    struct fixture *f = *state;
    char data[5000];
    memset(data, 'i', sizeof(data));
    file_set(f->fd2, data, sizeof(data));
    f->opt.initrd = f->path2;
    assert_int_equal(load(f), 0);
    struct linux_boot_params bp = read_params(f);
    assert_int_equal(bp.hdr.ramdisk_size, sizeof(data));
    assert_int_equal(bp.hdr.ramdisk_image, f->acpi_addr - 8192);
    assert_int_equal(peek(f, bp.hdr.ramdisk_image + 4999, 1), 'i');

    header()->initrd_addr_max = 0x5fffff;
    save(f);
    assert_int_equal(load(f), 0);
    assert_int_equal(read_params(f).hdr.ramdisk_image, 0x600000 - 8192);
}

static void broken_initrd(void **state)
{
    struct fixture *f = *state;
    f->opt.initrd = f->path2;
    expect_error(f, "is empty");
    assert_int_equal(ftruncate(f->fd2, 6 * MIB), 0);
    expect_error(f, "--mem");
    assert_int_equal(ftruncate(f->fd2, 1LL << 40), 0);
    expect_error(f, "larger than the kernel can take");
    header()->initrd_addr_max = 0;
    save(f);
    assert_int_equal(ftruncate(f->fd2, 4096), 0);
    expect_error(f, "larger than the kernel can take");
    f->opt.initrd = "/nonexistent/initrd";
    expect_error(f, "No such file");
    f->opt.initrd = "/tmp";
    expect_error(f, "is a directory");
    f->opt.initrd = "/dev/null";
    expect_error(f, "not a regular file");
}

static void command_line_length(void **state)
{
    struct fixture *f = *state;
    char line[2049];
    memset(line, 'x', sizeof(line));
    line[2047] = '\0';
    f->opt.append = line;
    assert_int_equal(load(f), 0);
    line[2047] = 'x';
    line[2048] = '\0';
    expect_error(f, "at most 2047");
    header()->version = 0x205; /* no cmdline_size yet */
    save(f);
    expect_error(f, "at most 255");
}

static void needs_ram(void **state)
{
    struct fixture *f = *state;
    header()->init_size = 0x600000; /* to 8 MiB; the ACPI tables are below that */
    save(f);
    expect_error(f, "needs 9 MiB of RAM: use --mem");
    header()->init_size = 0xffffffff;
    save(f);
    expect_error(f, "no machine of ours has RAM");
    header()->init_size = 0x1000;
    header()->pref_address = 0xfffffffffffff000;
    save(f);
    expect_error(f, "load address");
    header()->pref_address = 0xfff000;
    save(f);
    expect_error(f, "needs 17 MiB");
}

static void bad_addresses(void **state)
{
    struct fixture *f = *state;
    header()->relocatable_kernel = 0;
    header()->code32_start = 0x1000;
    save(f);
    expect_error(f, "load address 0x1000");
    header()->code32_start = 0xffffffff;
    save(f);
    expect_error(f, "no machine of ours has RAM");
}

/* The header counts paragraphs; iPXE's image ends within the last one. */
static void part_of_a_paragraph(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(ftruncate(f->fd, BZIMAGE_SIZE - 15), 0);
    if (load(f) < 0)
        fail_msg("%s", f->err.text);
}

static void truncated(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(ftruncate(f->fd, BZIMAGE_SIZE - 16), 0);
    expect_error(f, "is truncated");
    assert_int_equal(ftruncate(f->fd, SETUP_SIZE), 0);
    expect_error(f, "is truncated");
    assert_int_equal(ftruncate(f->fd, 0x1f1 + 20), 0);
    expect_error(f, "neither");
    assert_int_equal(ftruncate(f->fd, 0), 0);
    expect_error(f, "is empty");
}

static void bad_header(void **state)
{
    struct fixture *f = *state;
    header()->version = 0x1ff;
    save(f);
    expect_error(f, "protocol 1.255");
    header()->version = 0x20f;
    header()->jump = 0x00eb;
    save(f);
    expect_error(f, "too short");
}

/* A header of protocol 2.00 has none of the later fields; what is there instead is not used. */
static void old_protocol(void **state)
{
    struct fixture *f = *state;
    bzimage(image);
    header()->version = 0x200;
    header()->pref_address = ~0ULL;
    header()->init_size = ~0U;
    save(f);
    f->opt.linux_protocol = LINUX_BOOT_32;
    assert_int_equal(load(f), 0);
    assert_int_equal(f->v->rip, 0x100000);
    f->opt.append = "auto";
    f->opt.linux_protocol = LINUX_BOOT_16;
    assert_int_equal(load(f), 0);
    assert_int_equal(f->v->seg[SEG_CS].sel, 0x9020);
    assert_int_equal(peek(f, 0x90020, 2), 0xa33f);
    assert_string_at(f, 0x90000 + peek(f, 0x90022, 2), "auto");
}

static void entry16(void **state)
{
    struct fixture *f = *state;
    f->opt.linux_protocol = LINUX_BOOT_16;
    f->opt.append = "hello";
    assert_int_equal(load(f), 0);
    assert_int_equal(f->v->mode, MODE_REAL);
    u64 seg = f->v->seg[SEG_DS].base;
    assert_int_equal(f->v->seg[SEG_CS].base, seg + 0x200);
    assert_int_equal(f->v->rip, 0);
    assert_int_equal(f->v->seg[SEG_SS].base, seg);
    assert_int_equal(peek(f, 0x200000, 4), PAYLOAD_START);
    struct linux_setup_header h;
    assert_true(guestmem_read(f->gm, seg + LINUX_HEADER_OFFSET, &h, sizeof(h)));
    assert_int_equal(h.type_of_loader, 0xff);
    assert_int_equal(h.loadflags, LOADFLAG_HIGH | LOADFLAG_USE_HEAP);
    assert_true(h.heap_end_ptr + 0x200u <= f->v->gpr[RSP]);
    assert_int_equal(h.code32_start, 0x200000);
    assert_string_at(f, h.cmd_line_ptr, "hello");
}

/* Every vector leads into the BIOS area, and the memory map is in the table of the stub. */
static void bios(void **state)
{
    struct fixture *f = *state;
    f->opt.linux_protocol = LINUX_BOOT_16;
    assert_int_equal(load(f), 0);
    for (unsigned i = 0; i < 256; i++) {
        u32 vector = (u32)peek(f, 4 * i, 4);
        assert_int_equal(vector >> 16, 0xf000);
        assert_true((vector & 0xffff) > 0x1b && (vector & 0xffff) < 0x400);
    }
    u64 table = 0xf0000 + peek(f, 0xf0010, 2);
    assert_int_equal(peek(f, 0xf0018, 4), f->map.count);
    for (unsigned i = 0; i < f->map.count; i++) {
        assert_int_equal(peek(f, table + 20 * i, 8), f->map.entry[i].addr);
        assert_int_equal(peek(f, table + 20 * i + 16, 4), f->map.entry[i].type);
    }
    assert_int_equal(peek(f, 0x400, 2), 0x3f8);
    assert_int_equal(peek(f, 0x413, 2), 639);
}

static void zimage(void **state)
{
    struct fixture *f = *state;
    header()->loadflags = 0;
    header()->code32_start = 0x1000;
    save(f);
    assert_int_equal(load(f), 0); /* by itself by the 16-bit protocol */
    assert_int_equal(f->v->seg[SEG_CS].sel, 0x9020);
    assert_int_equal(peek(f, 0x10000, 4), PAYLOAD_START);
    f->opt.linux_protocol = LINUX_BOOT_32;
    expect_error(f, "zImage");
    f->opt.linux_protocol = LINUX_BOOT_AUTO;
    assert_int_equal(ftruncate(f->fd, SETUP_SIZE + 0x80001), 0);
    expect_error(f, "512 KiB");
}

static void setup_too_large(void **state)
{
    struct fixture *f = *state;
    header()->setup_sects = 255;
    header()->syssize = 0;
    save(f);
    assert_int_equal(ftruncate(f->fd, 256 * 512 + 4096), 0);
    f->opt.linux_protocol = LINUX_BOOT_16;
    expect_error(f, "real-mode code");
}

static void wrong_files(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *bytes, *expect;
    } cases[] = {
        {"\x1f\x8b rest", "gzip"},
        {"\x7f"
         "ELF\2\1\1",
         "without a Multiboot header"},
        {"070701 cpio", "initrd"},
        {"MZ", "PE executable"},
        {"random bytes", "neither"},
        {"x", "neither"},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        file_set(f->fd, cases[i].bytes, strlen(cases[i].bytes));
        expect_error(f, cases[i].expect);
    }
    f->opt.kernel = "/tmp";
    expect_error(f, "is a directory");
    f->opt.kernel = "/nonexistent";
    expect_error(f, "No such file");
}

/* A FIFO must not make the program wait for a writer. */
static void fifo(void **state)
{
    struct fixture *f = *state;
    char path[64];
    snprintf(path, sizeof(path), "/tmp/ringer-test-fifo-%d", (int)getpid());
    assert_int_equal(mkfifo(path, 0600), 0);
    f->opt.kernel = path;
    expect_error(f, "not a regular file");
    unlink(path);
}

/* 1 MiB of RAM is a machine, though not one for Linux. */
static void smallest_machine(void **state)
{
    struct fixture *f = *state;
    fixture_destroy(f);
    *state = f = fixture_create(RAM_MIN);
    save(f);
    expect_error(f, "needs 4 MiB");
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(entry64),
        T(identity_map),
        T(entry32),
        T(not_relocatable),
        T(boot_params),
        T(rng_seed),
        T(initrd),
        T(broken_initrd),
        T(command_line_length),
        T(needs_ram),
        T(bad_addresses),
        T(part_of_a_paragraph),
        T(truncated),
        T(bad_header),
        T(old_protocol),
        T(entry16),
        T(bios),
        T(zimage),
        T(setup_too_large),
        T(wrong_files),
        T(fifo),
        T(smallest_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
