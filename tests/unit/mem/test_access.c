/*
 * Linear accesses: page crossings, devices and ROM, read-modify-write, alignment checks,
 * breakpoints, code fetch; and segmentation.
 */
#include "fixture.h"

#define PAGE_A 0x5000ULL
#define PAGE_B 0x6000ULL
#define ROM    0xf0000ULL
#define MMIO   0xe0000000ULL

static const u8 rom_data[4096] = {0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88};

static int setup(void **state)
{
    fixture_setup(state);
    enter_long_mode(fixture_vcpu(state));
    long_tables(state);
    map_page(state, PAGE_A, DATA | P | W | U);
    map_page(state, PAGE_B, 2 * DATA | P | W | U);
    return 0;
}

static void test_crossing(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    for (unsigned size = 2; size <= 8; size *= 2) {
        for (unsigned before = 1; before < size; before++) {
            u64 lin = PAGE_B - before, value = 0x8877665544332211 & size_mask(size);
            lin_write(v, lin, value, size);
            assert_int_equal(peek(state, DATA + PAGE_SIZE - before, 1), 0x11);
            assert_int_equal(peek(state, 2 * DATA, size - before), value >> (8 * before));
            assert_int_equal(lin_read(v, lin, size), value);
        }
    }
}

/* A store that faults on its second page leaves the first as it was. */
static void test_crossing_fault(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    static const u8 bytes[40] = {1, 1, 1};
    struct lin_rmw rmw;
    map_page(state, PAGE_B, 2 * DATA | P);
    poke(state, DATA + 0xff8, 0xaaaaaaaaaaaaaaaa, 8);
    assert_page_fault(v, PAGE_B, PF_P | PF_W, lin_write(v, PAGE_B - 1, 0, 8));
    assert_page_fault(v, PAGE_B, PF_P | PF_W, lin_write(v, PAGE_B - 7, 0, 8));
    assert_page_fault(v, PAGE_B, PF_P | PF_W, lin_write_bytes(v, PAGE_B - 8, bytes, 40));
    assert_page_fault(v, PAGE_B, PF_P | PF_W, lin_rmw_begin(v, PAGE_B - 2, 4, &rmw));
    assert_page_fault(v, PAGE_B, PF_P | PF_W, lin_write_system(v, PAGE_B - 2, 0, 4));
    assert_page_fault(v, PAGE_B, PF_P | PF_W, lin_probe(v, PAGE_B - 2, 4, ACCESS_WRITE));
    assert_int_equal(peek(state, DATA + 0xff8, 8), 0xaaaaaaaaaaaaaaaa);
    map_page(state, PAGE_B, 0);
    tlb_flush_page(v, PAGE_B);
    assert_page_fault(v, PAGE_B, 0, lin_read(v, PAGE_B - 1, 2));
    map_page(state, PAGE_A, 0);
    tlb_flush_page(v, PAGE_A);
    assert_page_fault(v, PAGE_B - 1, PF_W, lin_write(v, PAGE_B - 1, 0, 2));
}

static void test_long_write_fault(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    static u8 bytes[3 * 4096];
    memset(bytes, 0x55, sizeof(bytes));
    map_page(state, PAGE_B + PAGE_SIZE, 3 * DATA | P | W);
    map_page(state, PAGE_B + 2 * PAGE_SIZE, 0);
    assert_page_fault(v, PAGE_B + 2 * PAGE_SIZE, PF_W,
                      lin_write_bytes(v, PAGE_A + 16, bytes, sizeof(bytes)));
    assert_int_equal(peek(state, DATA + 16, 8), 0);
    assert_no_fault(v, lin_write_bytes(v, PAGE_A, bytes, sizeof(bytes)));
    static u8 back[sizeof(bytes)];
    lin_read_bytes(v, PAGE_A, back, sizeof(back));
    assert_memory_equal(bytes, back, sizeof(back));
    assert_int_equal(peek(state, 3 * DATA + 0xff8, 8), 0x5555555555555555);
}

static void test_wrap_at_4g(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    enter_prot32(v);
    poke(state, 0, 0x44332211, 4);
    assert_int_equal(lin_read(v, 0xfffffffe, 4), 0x2211ffff); /* nobody there: all ones */
}

static void test_rom(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    struct lin_rmw rmw;
    assert_int_equal(guestmem_add_rom(fixture_mem(state), ROM, rom_data, sizeof(rom_data), NULL),
                     0);
    map_page(state, PAGE_A, ROM | P | W);
    assert_int_equal(lin_read(v, PAGE_A, 8), 0x8877665544332211);
    lin_write(v, PAGE_A, 0, 8);
    lin_rmw_begin(v, PAGE_A + 4, 4, &rmw);
    assert_false(rmw.direct);
    assert_int_equal(load_le(rmw.p, 4), 0x88776655);
    store_le(rmw.p, 1, 4);
    lin_rmw_end(v, &rmw);
    assert_int_equal(lin_read(v, PAGE_A, 8), 0x8877665544332211);
    assert_int_equal(lin_exec_gpa(v, PAGE_A + 1), ROM + 1);
    unsigned room;
    u64 gpa;
    assert_null(lin_direct(v, PAGE_A, ACCESS_WRITE, &room, &gpa));
    assert_non_null(lin_direct(v, PAGE_A + 1, ACCESS_READ, &room, &gpa));
    assert_int_equal(room, 4095);
    assert_int_equal(gpa, ROM + 1);
}

static void test_mmio(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    struct probe_device dev = {0};
    static const struct mmio_ops ops = PROBE_OPS;
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    struct lin_rmw rmw;
    assert_int_equal(
        guestmem_add_mmio(fixture_mem(state), MMIO, 2 * PAGE_SIZE, &ops, &dev, &lock, NULL), 0);
    map_page(state, PAGE_A, MMIO | P | W);
    map_page(state, PAGE_B, (MMIO + PAGE_SIZE) | P | W);
    for (unsigned i = 0; i < 3; i++) /* every time, not only on a TLB miss */
        assert_int_equal(lin_read(v, PAGE_A + 0x10, 4), 0x13121110);
    assert_int_equal(dev.reads, 3);
    assert_int_equal(dev.size, 4);
    lin_write(v, PAGE_A + 0x20, 0x1122334455667788, 8);
    assert_int_equal(dev.off, 0x20);
    assert_int_equal(dev.value, 0x1122334455667788);
    assert_int_equal(v->stats.count[STAT_MMIO_READ], 3);
    assert_int_equal(v->stats.count[STAT_MMIO_WRITE], 1);
    lin_rmw_begin(v, PAGE_A + 8, 2, &rmw);
    assert_false(rmw.direct);
    assert_int_equal(load_le(rmw.p, 2), 0x0908);
    store_le(rmw.p, 0xbeef, 2);
    lin_rmw_end(v, &rmw);
    assert_int_equal(dev.off, 8);
    assert_int_equal(dev.value, 0xbeef);
    assert_int_equal(dev.size, 2);
    dev = (struct probe_device){0}; /* across pages: bytes */
    lin_write(v, PAGE_B - 2, 0xaabbccdd, 4);
    assert_int_equal(dev.writes, 4);
    assert_int_equal(dev.size, 1);
    assert_int_equal(dev.off, PAGE_SIZE + 1);
    assert_int_equal(dev.value, 0xaa);
    map_page(state, PAGE_B, 2 * DATA | P | W); /* half device, half RAM */
    tlb_flush_page(v, PAGE_B);
    poke(state, 2 * DATA, 0x77, 1);
    assert_int_equal(lin_read(v, PAGE_B - 1, 2), 0x77ff);
    unsigned room;
    u64 gpa;
    assert_null(lin_direct(v, PAGE_A, ACCESS_READ, &room, &gpa));
}

static void test_rmw(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    struct lin_rmw rmw;
    for (unsigned pass = 0; pass < 2; pass++) { /* slow path, then fast path */
        lin_rmw_begin(v, PAGE_A + 0x10, 4, &rmw);
        assert_true(rmw.direct);
        atomic_fetch_add((_Atomic u32 *)rmw.p, 5);
        lin_rmw_end(v, &rmw);
    }
    assert_int_equal(peek(state, DATA + 0x10, 4), 10);
    assert_int_equal(peek(state, PT + 8 * 5, 8) & D, D);
    poke(state, DATA + 0xffc, 0x44332211, 4);
    poke(state, 2 * DATA, 0x88776655, 4);
    lin_rmw_begin(v, PAGE_B - 4, 8, &rmw);
    assert_false(rmw.direct);
    assert_int_equal(load_le(rmw.p, 8), 0x8877665544332211);
    store_le(rmw.p, 0x0102030405060708, 8);
    lin_rmw_end(v, &rmw);
    assert_int_equal(lin_read(v, PAGE_B - 4, 8), 0x0102030405060708);
}

static void test_alignment(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    v->cr0 |= CR0_AM;
    v->rflags |= FLAG_AC;
    set_cpl(v, 3);
    assert_no_fault(v, lin_write(v, PAGE_A + 8, 1, 8));
    assert_no_fault(v, lin_write(v, PAGE_A + 1, 1, 1));
    assert_fault(v, VEC_AC, 0, lin_read(v, PAGE_A + 1, 2));
    assert_fault(v, VEC_AC, 0, lin_write(v, PAGE_A + 2, 0, 4));
    assert_fault(v, VEC_AC, 0, lin_write(v, PAGE_A + 4, 0, 8));
    assert_int_equal(peek(state, DATA + 8, 8), 1);
    assert_no_fault(v, lin_read_system(v, PAGE_A + 1, 8)); /* not for system accesses */
    map_page(state, PAGE_B, 0);
    assert_page_fault(v, PAGE_B, PF_U, lin_read(v, PAGE_B - 1, 2)); /* a page fault comes first */
    v->cr0 &= ~CR0_AM;
    cpu_update_mode(v);
    assert_no_fault(v, lin_read(v, PAGE_A + 1, 2));
}

static void test_breakpoints(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    lin_write(v, PAGE_A, 1, 8);
    v->dr[0] = PAGE_A + 8;
    v->dr[2] = PAGE_A + 0x20;
    /* DR0: write, 4 bytes, local; DR2: read or write, 8 bytes, global; DR1: not enabled. */
    v->dr[7] = DR7_FIXED | BIT(0) | 0xdULL << 16 | BIT(5) | 0xbULL << 24 | 0xfULL << 20;
    v->dr[1] = PAGE_A;
    tlb_set_breakpoints(v);
    lin_read(v, PAGE_A + 8, 4);
    lin_write(v, PAGE_A, 1, 8);
    lin_write(v, PAGE_A + 12, 1, 4);
    assert_int_equal(v->pending_db, 0);
    lin_write(v, PAGE_A + 11, 1, 1);
    assert_int_equal(v->pending_db, BIT(0));
    v->pending_db = 0;
    lin_read(v, PAGE_A + 0x27, 1);
    assert_int_equal(v->pending_db, BIT(2));
    v->pending_db = 0;
    lin_write(v, PAGE_A + 4, 1, 8);
    assert_int_equal(v->pending_db, BIT(0));
    unsigned room;
    u64 gpa;
    assert_null(lin_direct(v, PAGE_A, ACCESS_READ, &room, &gpa));
    v->pending_db = 0;
    v->dr[7] = DR7_FIXED;
    tlb_set_breakpoints(v);
    lin_write(v, PAGE_A + 8, 1, 8);
    lin_write(v, PAGE_A + 8, 1, 8);
    assert_int_equal(v->pending_db, 0);
    assert_non_null(lin_direct(v, PAGE_A, ACCESS_READ, &room, &gpa));
}

static void test_fetch(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    u8 buf[15];
    u64 gpa = 0;
    poke(state, DATA + 0xffd, 0x030201, 3);
    poke(state, 2 * DATA, 0x07060504, 4);
    assert_int_equal(lin_fetch(v, PAGE_A, buf, 15, false, &gpa), 15);
    assert_int_equal(gpa, DATA);
    assert_int_equal(lin_fetch(v, PAGE_B - 3, buf, 15, false, &gpa), 3);
    assert_int_equal(gpa, DATA + 0xffd);
    assert_int_equal(lin_fetch(v, PAGE_B - 3, buf, 15, true, &gpa), 15);
    assert_int_equal(load_le(buf, 8), 0x0007060504030201);
    map_page(state, PAGE_B, 2 * DATA | P | U | NX);
    tlb_flush_page(v, PAGE_B);
    volatile unsigned n = 0;
    assert_no_fault(v, n = lin_fetch(v, PAGE_B - 3, buf, 15, true, &gpa));
    assert_int_equal(n, 3);
    assert_page_fault(v, PAGE_B, PF_P | PF_I, lin_exec_gpa(v, PAGE_B));
    assert_page_fault(v, PAGE_B + 5, PF_P | PF_I, lin_fetch(v, PAGE_B + 5, buf, 15, true, &gpa));
    lin_read(v, PAGE_B, 1); /* readable does not make it executable */
    assert_page_fault(v, PAGE_B, PF_P | PF_I, lin_exec_gpa(v, PAGE_B));
}

/* --- segmentation --- */

static void test_canonical(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    assert_int_equal(seg_lin(v, SEG_DS, 0x7ffffffffff8, 8, ACCESS_READ), 0x7ffffffffff8);
    assert_fault(v, VEC_GP, 0, seg_lin(v, SEG_DS, 0x7ffffffffff9, 8, ACCESS_READ));
    assert_fault(v, VEC_SS, 0, seg_lin(v, SEG_SS, 0x800000000000, 1, ACCESS_READ));
    assert_fault(v, VEC_GP, 0, seg_lin(v, SEG_ES, 0xffff7fffffffffff, 8, ACCESS_READ));
    assert_int_equal(seg_lin(v, SEG_ES, 0xffff800000000000, 8, ACCESS_READ), 0xffff800000000000);
    v->seg[SEG_GS] = (struct segment){.attr = SEG_UNUSABLE, .base = 0xffff888000000000};
    v->seg[SEG_DS] = (struct segment){.attr = SEG_UNUSABLE, .base = 0x1000};
    assert_int_equal(seg_lin(v, SEG_GS, 0x10, 8, ACCESS_WRITE), 0xffff888000000010);
    assert_int_equal(seg_lin(v, SEG_DS, 0x10, 8, ACCESS_WRITE), 0x10);
    assert_int_equal(seg_lin(v, SEG_GS, -(u64)0xffff888000000000, 8, ACCESS_WRITE), 0);
}

#define DATA_ATTR (SEG_P | SEG_S | SEG_WRITABLE)

static void set_ds(struct vcpu *v, u32 attr, u64 base, u32 limit)
{
    v->seg[SEG_DS] = (struct segment){.sel = 0x10, .attr = attr, .base = base, .limit = limit};
    cpu_update_mode(v);
}

static void test_limits(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    enter_prot32(v);
    set_ds(v, DATA_ATTR, 0x1000, 0xff);
    assert_int_equal(seg_lin(v, SEG_DS, 0xfc, 4, ACCESS_READ), 0x10fc);
    assert_fault(v, VEC_GP, 0, seg_lin(v, SEG_DS, 0xfd, 4, ACCESS_READ));
    assert_fault(v, VEC_GP, 0, seg_lin(v, SEG_DS, 0xffffffff, 4, ACCESS_READ));
    v->seg[SEG_SS] = v->seg[SEG_DS];
    assert_fault(v, VEC_SS, 0, seg_lin(v, SEG_SS, 0x100, 1, ACCESS_READ));
    set_ds(v, DATA_ATTR, 0xfffff000, 0xffffffff);
    assert_int_equal(seg_lin(v, SEG_DS, 0x2000, 4, ACCESS_READ), 0x1000);
    set_ds(v, DATA_ATTR | SEG_DOWN, 0, 0xfff); /* 0x1000 to 0xffff */
    assert_fault(v, VEC_GP, 0, seg_lin(v, SEG_DS, 0xfff, 1, ACCESS_READ));
    assert_int_equal(seg_lin(v, SEG_DS, 0x1000, 1, ACCESS_READ), 0x1000);
    assert_int_equal(seg_lin(v, SEG_DS, 0xfffc, 4, ACCESS_READ), 0xfffc);
    assert_fault(v, VEC_GP, 0, seg_lin(v, SEG_DS, 0xfffd, 4, ACCESS_READ));
    set_ds(v, DATA_ATTR | SEG_DOWN | SEG_DB, 0, 0xfff);
    assert_int_equal(seg_lin(v, SEG_DS, 0xfffffffc, 4, ACCESS_READ), 0xfffffffc);
    assert_fault(v, VEC_GP, 0, seg_lin(v, SEG_DS, 0xfffffffd, 4, ACCESS_READ));
}

static void test_types(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    enter_prot32(v);
    assert_int_equal(seg_lin(v, SEG_DS, 0x1234, 4, ACCESS_WRITE), 0x1234);
    assert_fault(v, VEC_GP, 0, seg_lin(v, SEG_CS, 0, 4, ACCESS_WRITE));
    assert_no_fault(v, seg_lin(v, SEG_CS, 0, 4, ACCESS_READ));
    v->seg[SEG_CS].attr &= ~(u32)SEG_READABLE;
    cpu_update_mode(v);
    assert_fault(v, VEC_GP, 0, seg_lin(v, SEG_CS, 0, 4, ACCESS_READ));
    set_ds(v, SEG_P | SEG_S, 0, 0xffffffff);
    assert_no_fault(v, seg_lin(v, SEG_DS, 0, 4, ACCESS_READ));
    assert_fault(v, VEC_GP, 0, seg_lin(v, SEG_DS, 0, 4, ACCESS_WRITE));
    set_ds(v, SEG_UNUSABLE | DATA_ATTR, 0, 0xffffffff);
    assert_fault(v, VEC_GP, 0, seg_lin(v, SEG_DS, 0, 4, ACCESS_READ));
    v->seg[SEG_SS].attr |= SEG_UNUSABLE;
    cpu_update_mode(v);
    assert_fault(v, VEC_SS, 0, seg_lin(v, SEG_SS, 0, 4, ACCESS_READ));
}

static void test_real_mode(void **state)
{
    struct vcpu *v = fixture_vcpu(state);
    cpu_reset(v);
    v->seg[SEG_DS].base = 0xffff0;
    v->seg[SEG_CS].base = 0xffff0;
    assert_int_equal(seg_lin(v, SEG_DS, 0xffff, 1, ACCESS_WRITE), 0x10ffef);
    assert_fault(v, VEC_GP, 0, seg_lin(v, SEG_DS, 0xffff, 2, ACCESS_READ));
    assert_fault(v, VEC_SS, 0, seg_lin(v, SEG_SS, 0xfffe, 4, ACCESS_READ));
    assert_no_fault(v, seg_lin(v, SEG_CS, 0, 2, ACCESS_WRITE)); /* no types in real mode */
    v->seg[SEG_DS].limit = 0xffffffff;                          /* "unreal" */
    assert_int_equal(seg_lin(v, SEG_DS, 0x12345678, 4, ACCESS_READ), 0x12345678 + 0xffff0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_crossing),
        TEST(test_crossing_fault),
        TEST(test_long_write_fault),
        TEST(test_wrap_at_4g),
        TEST(test_rom),
        TEST(test_mmio),
        TEST(test_rmw),
        TEST(test_alignment),
        TEST(test_breakpoints),
        TEST(test_fetch),
        TEST(test_canonical),
        TEST(test_limits),
        TEST(test_types),
        TEST(test_real_mode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
