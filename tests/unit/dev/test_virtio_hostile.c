/*
 * Drivers that break the rules of virtio: the disk wants a reset, does nothing else, and works
 * again after the reset.
 */
#include "virtio_driver.h"

#include <stdio.h>

static void start_hostile(struct driver *d)
{
    driver_start(d, false, F_FLUSH | F_INDIRECT);
    put_header(d, 0, T_READ, 0);
}

/* After a kick the device wants a reset, says so, and takes nothing more; a reset cures it. */
static void expect_broken(struct driver *d, const char *what)
{
    unsigned reads = d->disk->count[BLOCK_READ];
    kick(d);
    if (get_status(d) != 0x4f || get_isr(d) != 2 || d->disk->count[BLOCK_READ] != reads)
        fail_msg("%s: status %x", what, get_status(d));
    u16 before = used_idx(d);
    put_header(d, 0, T_READ, 0);
    send_request(d, T_READ, 0, DRV_DATA, 512, true);
    kick(d);
    if (used_idx(d) != before || d->disk->count[BLOCK_READ] != reads)
        fail_msg("%s: goes on", what);
    start_hostile(d);
    if (request(d, T_READ, 0, DRV_DATA, 512, true) != S_OK)
        fail_msg("%s: no cure", what);
    start_hostile(d);
}

static void test_hostile_chains(void **state)
{
    struct driver *d = *state;
    start_hostile(d);
    make_available(d, DRV_SIZE);
    expect_broken(d, "a head that is too big");
    put_desc(d, d->desc, 0, header_at(0), 16, D_NEXT, DRV_SIZE);
    make_available(d, 0);
    expect_broken(d, "a next that is too big");
    put_desc(d, d->desc, 0, header_at(0), 16, D_NEXT, 0);
    make_available(d, 0);
    expect_broken(d, "a loop");
    put_desc(d, d->desc, 0, header_at(0), 0, D_NEXT, 0);
    make_available(d, 0);
    expect_broken(d, "a loop of nothing");
    static const struct part bad[][3] = {
        {{DRV_HEAD, 16, false}, {DRV_RAM, 512, true}, {DRV_HEAD + 16, 1, true}},
        {{DRV_HEAD, 16, false}, {DRV_RAM - 256, 512, true}, {DRV_HEAD + 16, 1, true}},
        {{DRV_HEAD, 16, false}, {~0ULL - 255, 512, true}, {DRV_HEAD + 16, 1, true}},
        {{DRV_HEAD, 16, false}, {0, 0xffffffff, true}, {DRV_HEAD + 16, 1, true}},
        {{DRV_HEAD, 16, false}, {DRV_BAR, 512, true}, {DRV_HEAD + 16, 1, true}},
        {{DRV_HEAD, 16, false}, {DRV_HEAD + 16, 1, true}, {DRV_DATA, 512, false}},
        {{DRV_HEAD, 15, false}, {DRV_DATA, 512, true}, {DRV_HEAD + 16, 1, true}},
        {{DRV_HEAD, 16, false}, {DRV_DATA, 512, false}, {DRV_DATA, 0, true}},
        {{DRV_HEAD, 16, true}, {DRV_DATA, 512, true}, {DRV_HEAD + 16, 1, true}},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        char what[40];
        snprintf(what, sizeof(what), "bad chain %u", i);
        send(d, bad[i], 3);
        expect_broken(d, what);
    }
}

/* A request in a table that is as it should be. */
static void put_table(struct driver *d, u64 table)
{
    put_desc(d, table, 0, header_at(0), 16, D_NEXT, 1);
    put_desc(d, table, 1, DRV_DATA, 512, D_NEXT | D_WRITE, 2);
    put_desc(d, table, 2, header_at(0) + 16, 1, D_WRITE, 0);
}

static void send_table(struct driver *d, u64 table, u32 length, u16 flags)
{
    put_desc(d, d->desc, 0, table, length, flags, 1);
    make_available(d, 0);
}

static void test_hostile_tables(void **state)
{
    static const struct {
        u64 gpa;
        u32 length;
        u16 flags;
    } bad[] = {
        {DRV_TABLE, 0, D_INDIRECT},    {DRV_TABLE, 32, D_INDIRECT},
        {DRV_TABLE, 49, D_INDIRECT},   {DRV_TABLE, 48, D_INDIRECT | D_NEXT},
        {DRV_RAM - 8, 48, D_INDIRECT}, {~0ULL - 15, 0xfffffff0, D_INDIRECT},
    };
    struct driver *d = *state;
    start_hostile(d);
    put_table(d, DRV_TABLE);
    send_table(d, DRV_TABLE, 48, D_INDIRECT);
    kick(d);
    receive(d, NULL);
    assert_int_equal(status_of(d, 0), S_OK);
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        char what[40];
        snprintf(what, sizeof(what), "bad table %u", i);
        start_hostile(d);
        send_table(d, bad[i].gpa, bad[i].length, bad[i].flags);
        expect_broken(d, what);
    }
    put_table(d, DRV_TABLE + 0x1000);
    put_desc(d, DRV_TABLE, 0, DRV_TABLE + 0x1000, 48, D_INDIRECT, 0);
    send_table(d, DRV_TABLE, 48, D_INDIRECT);
    expect_broken(d, "a table in a table");
    put_table(d, DRV_TABLE);
    put_desc(d, DRV_TABLE, 0, header_at(0), 16, D_NEXT, 0);
    send_table(d, DRV_TABLE, 48, D_INDIRECT);
    expect_broken(d, "a loop in a table");
    /* More descriptors than there may be, most of nothing. */
    put_table(d, DRV_TABLE);
    put_desc(d, DRV_TABLE, 0, header_at(0), 16, D_NEXT, 3);
    for (u16 i = 3; i < 300; i++)
        put_desc(d, DRV_TABLE, i, header_at(0), 0, D_NEXT, i < 299 ? i + 1 : 1);
    send_table(d, DRV_TABLE, 300 * 16, D_INDIRECT);
    expect_broken(d, "a long table");
    driver_start(d, false, F_FLUSH); /* not agreed on */
    put_table(d, DRV_TABLE);
    send_table(d, DRV_TABLE, 48, D_INDIRECT);
    expect_broken(d, "a table");
}

static void test_hostile_rings(void **state)
{
    struct driver *d = *state;
    start_hostile(d);
    st(d, d->avail + 2, DRV_SIZE + 1, 2);
    expect_broken(d, "more than the ring holds");
    st(d, d->avail + 2, 0xffff, 2);
    expect_broken(d, "an index that goes back");
    static const unsigned part[] = {32, 40, 48};
    for (unsigned i = 0; i < 3; i++) {
        static const u8 status[] = {0, 1, 3, 0xb};
        for (unsigned n = 0; n < 4; n++)
            set_status(d, status[n]);
        set_features(d, F_VERSION_1);
        set_status(d, 3);
        set_status(d, 0xb);
        clear_rings(d);
        st(d, DRV_BAR + 32, d->desc, 8);
        st(d, DRV_BAR + 40, d->avail, 8);
        st(d, DRV_BAR + 48, d->used, 8);
        st(d, DRV_BAR + part[i], DRV_RAM + 0x1000, 8);
        st(d, DRV_BAR + 28, 1, 2);
        set_status(d, 0xf);
        send_request(d, T_READ, 0, DRV_DATA, 512, true);
        kick(d);
        assert_int_equal(get_status(d), 0x4f);
    }
    for (u32 size = 0; size < 300; size = size * 3 + 3) { /* 0, 3, 12, 39, 120 */
        set_status(d, 0);
        set_status(d, 3);
        set_features(d, F_VERSION_1);
        set_status(d, 0xb);
        st(d, DRV_BAR + 24, size, 2);
        assert_int_equal(get_status(d), 0x4b);
    }
    start_hostile(d);
    for (unsigned i = 0; i < 40; i++) /* no such queues */
        st(d, NOTIFY_ADDR + 4 + 64 * i, 0, 2);
    assert_int_equal(request(d, T_READ, 0, DRV_DATA, 512, true), S_OK);
}

/* The same chain twice, while the first is in flight: no more than the ring holds. */
static void test_hostile_heads(void **state)
{
    struct driver *d = *state;
    driver_start(d, false, F_FLUSH);
    u16 slot = send_request(d, T_READ, 0, DRV_DATA, 512, true);
    for (unsigned i = 1; i < DRV_SIZE; i++)
        make_available(d, slot);
    kick(d);
    assert_int_equal(d->disk->waiting, DRV_SIZE);
    make_available(d, slot);
    kick(d);
    assert_int_equal(d->disk->waiting, DRV_SIZE);
    assert_int_equal(get_status(d), 0x4f);
    test_disk_go(d->disk);
}

/* A legacy driver has no such status, but its queue stands still. */
static void test_hostile_legacy(void **state)
{
    struct driver *d = *state;
    driver_start(d, true, F_FLUSH);
    make_available(d, 500);
    kick(d);
    assert_int_equal(get_status(d), 7);
    send_request(d, T_READ, 0, DRV_DATA, 512, true);
    kick(d);
    assert_int_equal(used_idx(d), 0);
    driver_start(d, true, F_FLUSH);
    assert_int_equal(request(d, T_READ, 0, DRV_DATA, 512, true), S_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_hostile_chains, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hostile_tables, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hostile_rings, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hostile_heads, setup_told, teardown),
        cmocka_unit_test_setup_teardown(test_hostile_legacy, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
