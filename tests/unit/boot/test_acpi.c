/*
 * The ACPI tables as a guest finds them: from the RSDP on, with every checksum, address and length,
 * and the AML of the DSDT taken apart to its last byte.
 */
#include "fixture.h"

#include "boot/acpi_tables.h"
#include "dev/pcmap.h"

static u8 sum(struct fixture *f, u64 gpa, u64 len)
{
    u8 s = 0;
    for (u64 i = 0; i < len; i++)
        s = (u8)(s + peek(f, gpa + i, 1));
    return s;
}

/* Checks a table's header; returns its length. */
static u32 check_table(struct fixture *f, u64 gpa, const char *signature)
{
    struct acpi_header h;
    assert_true(guestmem_read(f->gm, gpa, &h, sizeof(h)));
    assert_memory_equal(h.signature, signature, 4);
    assert_true(gpa >= f->acpi_addr && gpa + h.length <= f->acpi_addr + f->acpi_size);
    assert_int_equal(sum(f, gpa, h.length), 0);
    return h.length;
}

struct tables {
    struct acpi_rsdp rsdp;
    struct acpi_fadt fadt;
    u64 madt;
    u32 madt_len, dsdt_len;
};

static struct tables find_tables(struct fixture *f)
{
    struct tables t;
    assert_true(guestmem_read(f->gm, f->rsdp, &t.rsdp, sizeof(t.rsdp)));
    assert_memory_equal(t.rsdp.signature, "RSD PTR ", 8);
    assert_int_equal(sum(f, f->rsdp, 20), 0);
    assert_int_equal(sum(f, f->rsdp, 36), 0);
    assert_true(f->rsdp >= 0xe0000 && f->rsdp < 0x100000 && f->rsdp % 16 == 0);
    assert_int_equal(check_table(f, t.rsdp.xsdt, "XSDT"), 36 + 16);
    assert_int_equal(check_table(f, t.rsdp.rsdt, "RSDT"), 36 + 8);
    u64 fadt = peek(f, t.rsdp.xsdt + 36, 8);
    t.madt = peek(f, t.rsdp.xsdt + 44, 8);
    assert_int_equal(peek(f, t.rsdp.rsdt + 36, 4), fadt);
    assert_int_equal(peek(f, t.rsdp.rsdt + 40, 4), t.madt);
    assert_int_equal(check_table(f, fadt, "FACP"), sizeof(t.fadt));
    t.madt_len = check_table(f, t.madt, "APIC");
    assert_true(guestmem_read(f->gm, fadt, &t.fadt, sizeof(t.fadt)));
    t.dsdt_len = check_table(f, t.fadt.dsdt, "DSDT");
    return t;
}

static void structure(void **state)
{
    (void)state;
    static const u64 sizes[] = {1 * MIB, 2 * MIB, 64 * MIB, 3 * GIB, 5 * GIB};
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct fixture *f = fixture_create(sizes[i]);
        struct tables t = find_tables(f);
        assert_int_equal(t.fadt.facs % 64, 0);
        assert_int_equal(peek(f, t.fadt.facs, 4), 0x53434146); /* "FACS" */
        assert_int_equal(peek(f, t.fadt.facs + 4, 4), 64);
        assert_int_equal(f->acpi_addr % PAGE_SIZE, 0);
        fixture_destroy(f);
    }
}

static void fixed_hardware(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(4 * MIB);
    struct tables t = find_tables(f);
    assert_int_equal(t.fadt.pm1a_evt, PC_PM_BASE);
    assert_int_equal(t.fadt.x_pm1a_cnt.addr, PC_PM_BASE + 4);
    assert_int_equal(t.fadt.pm_tmr, PC_PM_BASE + 8);
    assert_int_equal(t.fadt.gpe0, PC_PM_GPE0);
    assert_int_equal(t.fadt.sci_int, 9);
    assert_int_equal(t.fadt.reset_reg.addr, 0xcf9);
    assert_int_equal(t.fadt.reset_value, 6);
    assert_true(t.fadt.flags & BIT(10));
    assert_false(t.fadt.flags & BIT(4)); /* the power button is fixed hardware */
    assert_int_equal(t.fadt.x_dsdt, t.fadt.dsdt);
    fixture_destroy(f);
}

static void madt_entries(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(4 * MIB);
    for (unsigned ncpus = 1; ncpus <= MAX_CPUS; ncpus++) {
        struct acpi_options opt = {.ncpus = ncpus};
        assert_int_equal(acpi_build(f->gm, &opt, &f->acpi_addr, &f->acpi_size, &f->rsdp, &f->err),
                         0);
        struct tables t = find_tables(f);
        unsigned count[8] = {0};
        u64 p = t.madt + 44, end = t.madt + t.madt_len;
        while (p < end) {
            unsigned type = (unsigned)peek(f, p, 1), len = (unsigned)peek(f, p + 1, 1);
            assert_true(type < 8 && len >= 2);
            if (type == 0)
                assert_int_equal(peek(f, p + 3, 1), count[0]);
            count[type]++;
            p += len;
        }
        assert_int_equal(p, end);
        assert_int_equal(count[0], ncpus);
        assert_int_equal(count[1], 1);
        assert_int_equal(count[2], 2);
        assert_int_equal(count[4], 1);
    }
    fixture_destroy(f);
}

static void bad_cpu_count(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(4 * MIB);
    for (unsigned n = 0; n < 100; n += MAX_CPUS + 1) {
        struct acpi_options opt = {.ncpus = n};
        assert_true(acpi_build(f->gm, &opt, &f->acpi_addr, &f->acpi_size, &f->rsdp, &f->err) < 0);
    }
    fixture_destroy(f);
}

/* --- a reader for the AML that aml.c can write --- */

struct reader {
    const u8 *p, *end;
    unsigned devices, packages, methods;
};

static u8 next(struct reader *r)
{
    assert_true(r->p < r->end);
    return *r->p++;
}

/* A PkgLength; returns where the object ends. */
static const u8 *package_end(struct reader *r)
{
    const u8 *start = r->p;
    u8 lead = next(r);
    u32 len = lead >> 6 ? lead & 0xf : lead & 0x3f;
    for (unsigned i = 0; i < lead >> 6; i++)
        len |= (u32)next(r) << (4 + 8 * i);
    assert_true(len <= (size_t)(r->end - start));
    return start + len;
}

static void read_name(struct reader *r)
{
    for (unsigned i = 0; i < 4; i++) {
        u8 c = next(r);
        assert_true((c >= 'A' && c <= 'Z') || c == '_' || (i && c >= '0' && c <= '9'));
    }
}

static u64 read_int(struct reader *r, u8 op)
{
    static const u8 sizes[] = {[0x0a] = 1, [0x0b] = 2, [0x0c] = 4, [0x0e] = 8};
    if (op <= 1)
        return op;
    assert_true(op < sizeof(sizes) && sizes[op]);
    u64 v = 0;
    for (unsigned i = 0; i < sizes[op]; i++)
        v |= (u64)next(r) << (8 * i);
    return v;
}

static void read_resources(const u8 *p, const u8 *end)
{
    while (*p != 0x79) {
        p += *p & 0x80 ? 3 + (p[1] | p[2] << 8) : 1 + (*p & 7);
        assert_true(p + 2 <= end);
    }
    assert_ptr_equal(p + 2, end);
}

static void read_value(struct reader *r)
{
    u8 op = next(r);
    if (op == 0x0d) {
        while (next(r))
            ;
    } else if (op == 0x11) {
        const u8 *end = package_end(r);
        u64 size = read_int(r, next(r));
        assert_int_equal(size, end - r->p);
        read_resources(r->p, end);
        r->p = end;
    } else if (op == 0x12) {
        const u8 *end = package_end(r);
        unsigned n = next(r);
        r->packages++;
        while (n--)
            read_value(r);
        assert_ptr_equal(r->p, end);
    } else {
        read_int(r, op);
    }
}

/* Store (Arg0, name); If (name) { ... }; Return (name) */
static void read_statements(struct reader *r, const u8 *end)
{
    while (r->p < end) {
        u8 op = next(r);
        if (op == 0x70) {
            assert_int_equal(next(r), 0x68);
            read_name(r);
        } else if (op == 0xa0) {
            const u8 *inner = package_end(r);
            read_name(r);
            read_statements(r, inner);
        } else {
            assert_int_equal(op, 0xa4);
            read_name(r);
        }
    }
    assert_ptr_equal(r->p, end);
}

static void read_objects(struct reader *r, const u8 *end)
{
    while (r->p < end) {
        u8 op = next(r);
        if (op == 0x14) {
            const u8 *inner = package_end(r);
            read_name(r);
            assert_in_range(next(r), 0, 1); /* arguments */
            read_statements(r, inner);
            r->methods++;
            continue;
        }
        if (op == 0x08) {
            read_name(r);
            read_value(r);
            continue;
        }
        if (op == 0x5b) {
            assert_int_equal(next(r), 0x82);
            r->devices++;
        } else {
            assert_int_equal(op, 0x10);
        }
        const u8 *inner = package_end(r);
        read_name(r);
        read_objects(r, inner);
    }
    assert_ptr_equal(r->p, end);
}

static void aml(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(4 * MIB);
    struct tables t = find_tables(f);
    u8 buf[16384];
    assert_true(t.dsdt_len <= sizeof(buf));
    assert_true(guestmem_read(f->gm, t.fadt.dsdt, buf, t.dsdt_len));
    struct reader r = {.p = buf + 36, .end = buf + t.dsdt_len};
    read_objects(&r, r.end);
    assert_int_equal(r.devices, 2 + 1 + 1 + 8);         /* CPUs, PCI, ISA bridge, what is on it */
    assert_int_equal(r.packages, 1 + 2 * (1 + 32 * 4)); /* _S5, _PRT's two and their entries */
    assert_int_equal(r.methods, 2);
    fixture_destroy(f);
}

/* The files for firmware, as its loader script makes tables of them, are the same tables. */
static void loader_script(void **state)
{
    struct fixture *f = fixture_create(4 * MIB);
    struct acpi_options opt = {.ncpus = 2};
    struct acpi_files *files = malloc(sizeof(*files));
    struct tables t = find_tables(f);
    unsigned pointers = 0, sums = 0;
    (void)state;
    acpi_files_build(files, &opt);
    assert_int_equal(files->loader_size % 128, 0);
    for (u8 *c = files->loader; c < files->loader + files->loader_size; c += 128) {
        u32 command = (u32)load_le(c, 4);
        if (command == 2) { /* add pointer; the tables' file will lie at f->acpi_addr */
            u8 *file = strcmp((char *)c + 4, ACPI_FILE_RSDP) ? files->tables : files->rsdp;
            u8 *field = file + load_le(c + 116, 4);
            assert_string_equal((char *)c + 60, ACPI_FILE_TABLES);
            store_le(field, load_le(field, c[120]) + f->acpi_addr, c[120]);
            pointers++;
        } else if (command == 3) {
            u8 *file = strcmp((char *)c + 4, ACPI_FILE_RSDP) ? files->tables : files->rsdp, sum = 0;
            for (u32 n = 0; n < load_le(c + 68, 4); n++)
                sum = (u8)(sum + file[load_le(c + 64, 4) + n]);
            file[load_le(c + 60, 4)] -= sum;
            sums++;
        } else {
            assert_int_equal(command, 1);
        }
    }
    assert_int_equal(pointers, 3 + 2 * 2 + 2); /* FADT, RSDT and XSDT, RSDP */
    assert_int_equal(sums, 5 + 2);
    assert_memory_equal(files->tables, guestmem_hva(f->gm, f->acpi_addr, files->tables_size, false),
                        files->tables_size);
    assert_memory_equal(files->rsdp, &t.rsdp, sizeof(t.rsdp));
    free(files);
    fixture_destroy(f);
}

static void smbios(void **state)
{
    struct smbios_files f;
    unsigned count = 0, longest = 0;
    (void)state;
    smbios_build(&f, 5 * GIB, 16, "1.2.3");
    for (u8 *p = f.tables; p < f.tables + f.tables_size; count++) {
        u8 *start = p;
        for (p += p[1]; p[0] || p[1]; p++)
            assert_true(p + 2 < f.tables + f.tables_size);
        p += 2;
        longest = MAX(longest, (unsigned)(p - start));
    }
    assert_int_equal(count, 3 + 16 + 3 + 2);
    assert_int_equal(load_le(f.anchor + 0x08, 2), longest);
    assert_int_equal(load_le(f.anchor + 0x16, 2), f.tables_size);
    assert_int_equal(load_le(f.anchor + 0x1c, 2), count);
}

int main(int argc, char **argv)
{
    if (argc == 3) { /* writes a table to a file, for iasl: test_acpi DSDT|FACP|APIC FILE */
        struct fixture *f = fixture_create(4 * MIB);
        struct tables t = find_tables(f);
        u64 gpa = argv[1][0] == 'D'   ? t.fadt.dsdt
                  : argv[1][0] == 'F' ? peek(f, t.rsdp.xsdt + 36, 8)
                                      : t.madt;
        u32 len = (u32)peek(f, gpa + 4, 4);
        FILE *out = fopen(argv[2], "wb");
        return !out || fwrite(guestmem_hva(f->gm, gpa, len, false), 1, len, out) != len ||
               fclose(out) != 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(structure),    cmocka_unit_test(fixed_hardware),
        cmocka_unit_test(madt_entries), cmocka_unit_test(bad_cpu_count),
        cmocka_unit_test(aml),          cmocka_unit_test(loader_script),
        cmocka_unit_test(smbios),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
