/*
 * ATAPI CD-ROM drives at register level.
 */
#include "ide_rig.h"

#define CD_SECTORS  1000
#define SENSE_REPLY 18

/* A drive with a disc at channel 1, and an empty one beside it. */
static int setup(void **state)
{
    struct ide_rig *t = ide_rig_create();
    t->disk[1][0] = test_block_create(4 * CD_SECTORS);
    ide_rig_plug(t, 1 << 2 | 1 << 3);
    use_channel(t, 1);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    ide_rig_destroy(*state);
    return 0;
}

static u8 *cd(struct ide_rig *t, u64 lba)
{
    return t->disk[1][0]->data + lba * 2048;
}

#define P(...) ((const u8[12]){__VA_ARGS__})

static void send_packet(struct ide_rig *t, const u8 *bytes, unsigned limit, u8 features)
{
    taskfile(t, features, 0, limit << 8, (u8)in8(&t->r, t->base + 6));
    command(t, 0xa0);
    assert_int_equal(alt_status(t), ST_OK | ST_DRQ);
    assert_int_equal(in8(&t->r, t->base + 2), 1); /* a packet, to the drive */
    assert_int_equal(intrq(t), 0);
    pio_write(t, bytes, 12);
}

static void expect_ok(struct ide_rig *t)
{
    assert_int_equal(in8(&t->r, t->base + 2), 3);
    expect_end(t, ST_OK, 0);
}

static void expect_sense(struct ide_rig *t, u8 key, u8 asc, u8 ascq)
{
    u8 b[SENSE_REPLY];
    assert_int_equal(in8(&t->r, t->base + 2), 3);
    expect_end(t, ST_OK | ST_ERR, (u8)(key << 4));
    send_packet(t, P(0x03, 0, 0, 0, SENSE_REPLY), 0xfffe, 0);
    assert_int_equal(status(t), ST_OK | ST_DRQ);
    pio_read(t, b, SENSE_REPLY);
    expect_ok(t);
    assert_int_equal(b[0], 0xf0);
    assert_int_equal(b[2], key);
    assert_int_equal(b[12], asc);
    assert_int_equal(b[13], ascq);
}

/* Takes a reply of n bytes in one block. */
static void expect_reply(struct ide_rig *t, u8 *b, unsigned n)
{
    assert_int_equal(intrq(t), 1);
    assert_int_equal(status(t), ST_OK | ST_DRQ);
    assert_int_equal(in8(&t->r, t->base + 2), 2); /* data, to the host */
    assert_int_equal(lba_regs(t) >> 8, n);
    pio_read(t, b, n);
    expect_ok(t);
}

static void ask(struct ide_rig *t, const u8 *bytes, u8 *b, unsigned n)
{
    send_packet(t, bytes, 0xfffe, 0);
    expect_reply(t, b, n);
}

static void refuse(struct ide_rig *t, const u8 *bytes, u8 key, u8 asc, u8 ascq)
{
    send_packet(t, bytes, 0xfffe, 0);
    expect_sense(t, key, asc, ascq);
}

static void accept(struct ide_rig *t, const u8 *bytes)
{
    send_packet(t, bytes, 0xfffe, 0);
    expect_ok(t);
}

/* After a reset the first command fails. */
static void clear_attention(struct ide_rig *t)
{
    refuse(t, P(0), 6, 0x29, 0);
}

static int setup_ready(void **state)
{
    int rc = setup(state);
    clear_attention(*state);
    return rc;
}

/* --- as an ATA device --- */

static void test_signature(void **state)
{
    struct ide_rig *t = *state;
    static const u8 refused[] = {0xec, 0x20};
    assert_int_equal(status(t), 0);
    assert_int_equal(lba_regs(t), 0xeb1401);
    for (unsigned i = 0; i < ARRAY_SIZE(refused); i++) {
        taskfile(t, 0, 9, 9, DEV_CHS);
        command(t, refused[i]);
        expect_end(t, ST_OK | ST_ERR, E_ABRT);
        assert_int_equal(lba_regs(t), 0xeb1401);
        assert_int_equal(in8(&t->r, t->base + 2), 1);
    }
    taskfile(t, 0, 9, 9, DEV_CHS);
    command(t, 0x08); /* DEVICE RESET makes no interrupt */
    assert_int_equal(alt_status(t), 0);
    assert_int_equal(error_reg(t), 1);
    assert_int_equal(lba_regs(t), 0xeb1401);
    assert_int_equal(intrq(t), 0);
    command(t, 0x30);
    expect_end(t, ST_OK | ST_ERR, E_ABRT);
    command(t, 0xe5);
    expect_end(t, ST_OK, 0);
}

static void test_identify(void **state)
{
    struct ide_rig *t = *state;
    u16 w[256];
    command(t, 0xa1);
    assert_int_equal(intrq(t), 1);
    assert_int_equal(status(t), ST_OK | ST_DRQ);
    pio_read(t, w, 512);
    assert_int_equal(status(t), ST_OK);
    assert_int_equal(w[0], 0x85c0);
    assert_int_equal(w[27], 'r' << 8 | 'i');
    assert_int_equal(w[49] & 0x300, 0x300);
    assert_int_equal(w[63], 0x407);
    taskfile(t, 3, 0x42, 0, DEV_CHS);
    command(t, 0xef);
    expect_end(t, ST_OK, 0);
    command(t, 0xa1);
    pio_read(t, w, 512);
    assert_int_equal(w[63], 0x07);
    assert_int_equal(w[88], 0x43f);
    taskfile(t, 0x82, 0, 0, DEV_CHS); /* no write cache */
    command(t, 0xef);
    expect_end(t, ST_OK | ST_ERR, E_ABRT);
}

static void test_overlap(void **state)
{
    struct ide_rig *t = *state;
    taskfile(t, 2, 0, 0, DEV_CHS);
    command(t, 0xa0);
    expect_end(t, ST_OK | ST_ERR, E_ABRT);
}

/* --- attention and sense --- */

static void test_attention(void **state)
{
    struct ide_rig *t = *state;
    u8 b[36];
    ask(t, P(0x12, 0, 0, 0, 36), b, 36); /* runs, and leaves it pending */
    assert_int_equal(b[0], 5);
    assert_int_equal(b[1], 0x80);
    assert_memory_equal(b + 8, "RINGER  CD-ROM          1   ", 28);
    refuse(t, P(0x25), 6, 0x29, 0);
    accept(t, P(0));
    command(t, 0x08);
    ask(t, P(0x03, 0, 0, 0, SENSE_REPLY), b, SENSE_REPLY); /* tells it, too */
    assert_int_equal(b[2], 6);
    assert_int_equal(b[12], 0x29);
    accept(t, P(0));
    ask(t, P(0x03, 0, 0, 0, SENSE_REPLY), b, SENSE_REPLY);
    assert_int_equal(b[2], 0);
    assert_int_equal(b[12], 0);
}

/* Sense data are of the last command only. */
static void test_sense(void **state)
{
    struct ide_rig *t = *state;
    u8 b[SENSE_REPLY];
    send_packet(t, P(0xff), 0xfffe, 0);
    expect_end(t, ST_OK | ST_ERR, 0x50);
    accept(t, P(0));
    ask(t, P(0x03, 0, 0, 0, SENSE_REPLY), b, SENSE_REPLY);
    assert_int_equal(b[2], 0);
    refuse(t, P(0xff), 5, 0x20, 0);
    refuse(t, P(0x55), 5, 0x20, 0);
    refuse(t, P(0x12, 1, 0, 0, 36), 5, 0x24, 0);
}

/* --- how much at a time --- */

static void test_short_replies(void **state)
{
    struct ide_rig *t = *state;
    u8 b[64];
    accept(t, P(0x12, 0, 0, 0, 0));
    ask(t, P(0x12, 0, 0, 0, 5), b, 5); /* an odd number of bytes: three words */
    send_packet(t, P(0x12, 0, 0, 0, 36), 16, 0);
    for (unsigned left = 36; left; left -= MIN(left, 16)) {
        assert_int_equal(intrq(t), 1);
        assert_int_equal(status(t), ST_OK | ST_DRQ);
        assert_int_equal(lba_regs(t) >> 8, MIN(left, 16));
        pio_read(t, b + 36 - left, MIN(left, 16));
    }
    expect_ok(t);
    assert_memory_equal(b + 8, "RINGER  CD-ROM          1   ", 28);
    send_packet(t, P(0x03, 0, 0, 0, 18), 0xffff,
                0); /* with a 32-bit port, half of the last is void */
    for (unsigned i = 0; i < 5; i++)
        in32(&t->r, t->base);
    expect_ok(t);
    static const unsigned none[] = {0, 1};
    for (unsigned i = 0; i < ARRAY_SIZE(none); i++) {
        send_packet(t, P(0x12, 0, 0, 0, 36), none[i], 0);
        expect_end(t, ST_OK | ST_ERR, 0x50 | E_ABRT);
        send_packet(t, P(0), none[i], 0);
        expect_ok(t);
    }
}

/* Takes n sectors, each block of at most `limit` bytes; counts blocks. */
static unsigned take_blocks(struct ide_rig *t, u8 *b, u32 bytes, unsigned limit)
{
    unsigned blocks = 0;
    while (bytes) {
        assert_int_equal(status(t), ST_OK | ST_DRQ);
        u32 n = lba_regs(t) >> 8;
        assert_true(n && n <= limit && n <= bytes);
        pio_read(t, b, n);
        b += n;
        bytes -= n;
        blocks++;
    }
    expect_ok(t);
    return blocks;
}

static void test_read(void **state)
{
    struct ide_rig *t = *state;
    u32 bytes = 300 * 2048;
    u8 *b = malloc(bytes);
    send_packet(t, P(0x28, 0, 0, 0, 0, 10, 0, 0, 2), 2048, 0);
    assert_int_equal(take_blocks(t, b, 2 * 2048, 2048), 2);
    assert_memory_equal(b, cd(t, 10), 2 * 2048);
    send_packet(t, P(0xa8, 0, 0, 0, 0, 100, 0, 0, 1, 44), 31 * 2048, 0);
    assert_int_equal(take_blocks(t, b, bytes, 31 * 2048), 10); /* always full, but for the last */
    assert_memory_equal(b, cd(t, 100), bytes);
    send_packet(t, P(0x28, 0, 0, 0, 0, 200, 0, 1, 44), 0xffff, 0);
    take_blocks(t, b, bytes, 0xfffe);
    assert_memory_equal(b, cd(t, 200), bytes);
    send_packet(t, P(0x28, 0, 0, 0, 0, 7, 0, 0, 1), 333, 0);
    assert_int_equal(take_blocks(t, b, 2048, 332), 7);
    assert_memory_equal(b, cd(t, 7), 2048);
    assert_int_equal(t->disk[1][0]->largest, 256 * 1024);
    free(b);
}

static void test_read_edges(void **state)
{
    struct ide_rig *t = *state;
    u8 b[2048];
    send_packet(t, P(0x28, 0, 0, 0, 0x03, 0xe7, 0, 0, 1), 2048, 0);
    take_blocks(t, b, 2048, 2048);
    assert_memory_equal(b, cd(t, 999), 2048);
    refuse(t, P(0x28, 0, 0, 0, 0x03, 0xe7, 0, 0, 2), 5, 0x21, 0);
    refuse(t, P(0x28, 0, 0, 0, 0x03, 0xe8, 0, 0, 1), 5, 0x21, 0);
    refuse(t, P(0xa8, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff), 5, 0x21, 0);
    refuse(t, P(0xa8, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1), 5, 0x21, 0);
    accept(t, P(0x28, 0, 0, 0, 0, 5, 0, 0, 0));
    accept(t, P(0x28, 0, 0, 0, 0x03, 0xe8, 0, 0, 0));
    send_packet(t, P(0x28, 0, 0, 0, 0, 5, 0, 0, 1), 0, 0);
    expect_end(t, ST_OK | ST_ERR, 0x50 | E_ABRT);
    accept(t, P(0x2b, 0, 0, 0, 0x03, 0xe7));
    refuse(t, P(0x2b, 0, 0, 0, 0x03, 0xe8), 5, 0x21, 0);
    t->disk[1][0]->bad_sector = 4 * 50 + 1;
    refuse(t, P(0x28, 0, 0, 0, 0, 50, 0, 0, 1), 3, 0x11, 0);
}

static void dma_packet(struct ide_rig *t, const u8 *bytes)
{
    bm_prepare(t, 0x1000, true);
    send_packet(t, bytes, 0, 1);
    assert_int_equal(intrq(t), 0);
    bm_start(t);
}

static void test_read_dma(void **state)
{
    struct ide_rig *t = *state;
    for (unsigned i = 0; i < 10; i++)
        put_prd(t, 0x1000, i, 0x20000 + 0x10000 * i, i == 9 ? 0x6000 : 0, i == 9);
    dma_packet(t, P(0x28, 0, 0, 0, 0, 100, 0, 1, 44));
    assert_int_equal(bm_status(t), BM_INT);
    expect_ok(t);
    assert_memory_equal(t->ram + 0x20000, cd(t, 100), 300 * 2048);
    bm_stop(t);
    put_prd(t, 0x1000, 0, 0x20000, 36, true);
    dma_packet(t, P(0x12, 0, 0, 0, 36));
    assert_int_equal(bm_status(t), BM_INT);
    expect_ok(t);
    assert_memory_equal(t->ram + 0x20008, "RINGER", 6);
    bm_stop(t);
    dma_packet(t, P(0x28, 0, 0, 0, 0, 1, 0, 0, 1)); /* the table is too short */
    assert_int_equal(bm_status(t), 0);
    assert_int_equal(intrq(t), 0);
    assert_int_equal(status(t), ST_OK);
    bm_stop(t);
    put_prd(t, 0x1000, 0, 0xf0000000, 2048, true);
    dma_packet(t, P(0x28, 0, 0, 0, 0, 1, 0, 0, 1));
    assert_int_equal(bm_status(t), BM_INT | BM_ERROR);
    expect_end(t, ST_OK | ST_ERR, E_ABRT);
    bm_stop(t);
    bm_prepare(t, 0x1000, true);
    send_packet(t, P(0xff), 0, 1); /* ends without data */
    assert_int_equal(bm_status(t), BM_INT);
    expect_sense(t, 5, 0x20, 0);
}

static void expect_raw(struct ide_rig *t, const u8 *raw, u32 lba)
{
    static const u8 sync[12] = {0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0};
    u8 address[4] = {(u8)((lba + 150) / 4500), (u8)((lba + 150) / 75 % 60), (u8)((lba + 150) % 75),
                     1};
    assert_memory_equal(raw, sync, 12);
    assert_memory_equal(raw + 12, address, 4);
    assert_memory_equal(raw + 16, cd(t, lba), 2048);
}

static void test_read_cd(void **state)
{
    struct ide_rig *t = *state;
    u32 bytes = 250 * 2352;
    u8 *b = malloc(bytes);
    send_packet(t, P(0xbe, 0, 0, 0, 0, 20, 0, 0, 2, 0x10), 0xfffe, 0);
    take_blocks(t, b, 2 * 2048, 0xfffe);
    assert_memory_equal(b, cd(t, 20), 2 * 2048);
    send_packet(t, P(0xbe, 2 << 2, 0, 0, 0, 30, 0, 0, 250, 0xf8), 0x7ffe, 0);
    take_blocks(t, b, bytes, 0x7ffe);
    for (u32 i = 0; i < 250; i++)
        expect_raw(t, b + i * 2352ULL, 30 + i);
    free(b);
    for (unsigned i = 0; i < 9; i++)
        put_prd(t, 0x1000, i, 0x20000 + 0x10000 * i, i == 8 ? 63712 : 0, i == 8);
    dma_packet(t, P(0xbe, 0, 0, 0, 0, 40, 0, 0, 250, 0xf8));
    assert_int_equal(bm_status(t), BM_INT);
    expect_ok(t);
    for (u32 i = 0; i < 250; i++)
        expect_raw(t, t->ram + 0x20000 + i * 2352ULL, 40 + i);
    accept(t, P(0xbe, 0, 0, 0, 0, 40, 0, 0, 250, 0));
    refuse(t, P(0xbe, 0, 0, 0, 0, 40, 0, 0, 250, 0x20), 5, 0x24, 0);
    refuse(t, P(0xbe, 1 << 2, 0, 0, 0, 40, 0, 0, 1, 0x10), 5, 0x64, 0); /* audio */
    refuse(t, P(0xbe, 0, 0, 0, 0x03, 0xe7, 0xff, 0xff, 0xff, 0x10), 5, 0x21, 0);
}

/* --- the medium --- */

static void test_no_medium(void **state)
{
    struct ide_rig *t = *state;
    static const u8 need_one[] = {0x00, 0x25, 0x28, 0x2b, 0x43, 0x51, 0xa8, 0xad, 0xbe};
    u8 b[64];
    out8(&t->r, t->base + 6, DEV_CHS | DEV_1);
    clear_attention(t);
    for (unsigned i = 0; i < ARRAY_SIZE(need_one); i++)
        refuse(t, P(need_one[i]), 2, 0x3a, 1);
    ask(t, P(0x46, 2, 0, 0, 0, 0, 0, 0, 8), b, 8);
    assert_int_equal(b[7], 0); /* no profile */
    ask(t, P(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8), b, 8);
    assert_int_equal(b[5], 0);
    ask(t, P(0x5a, 0, 0x01, 0, 0, 0, 0, 0, 64), b, 16);
    assert_int_equal(b[2], 0x70);
    accept(t, P(0x1b, 0, 0, 0, 2));
    accept(t, P(0x1b, 0, 0, 0, 3));
    refuse(t, P(0), 2, 0x3a, 1);
}

static u8 media_event(struct ide_rig *t, u8 state)
{
    u8 b[8];
    ask(t, P(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8), b, 8);
    assert_int_equal(b[1], 6);
    assert_int_equal(b[2], 4);
    assert_int_equal(b[3], 0x10);
    assert_int_equal(b[5], state);
    return b[4];
}

static void test_eject(void **state)
{
    struct ide_rig *t = *state;
    u8 b[8];
    assert_int_equal(media_event(t, 2), 0);
    accept(t, P(0x1e, 0, 0, 0, 1));
    refuse(t, P(0x1b, 0, 0, 0, 2), 5, 0x53, 2);
    accept(t, P(0));
    accept(t, P(0x1e, 0, 0, 0, 0));
    accept(t, P(0x1b, 0, 0, 0, 0x22)); /* with a power condition, nothing moves */
    accept(t, P(0));
    accept(t, P(0x1b, 0, 0, 0, 2));
    refuse(t, P(0), 2, 0x3a, 2);
    ask(t, P(0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8), b, 8);
    assert_int_equal(b[1], 0x10);
    assert_int_equal(media_event(t, 1), 3);
    assert_int_equal(media_event(t, 1), 0);
    accept(t, P(0x1b, 0, 0, 0, 3));
    refuse(t, P(0), 6, 0x28, 0);
    accept(t, P(0));
    assert_int_equal(media_event(t, 2), 2);
    assert_int_equal(media_event(t, 2), 0);
    accept(t, P(0x1e, 0, 0, 0, 1)); /* a reset unlocks */
    command(t, 0x08);
    clear_attention(t);
    accept(t, P(0x1b, 0, 0, 0, 2));
}

static void test_event_status(void **state)
{
    struct ide_rig *t = *state;
    u8 b[8];
    refuse(t, P(0x4a, 0, 0, 0, 0x10, 0, 0, 0, 8), 5, 0x24, 0);
    ask(t, P(0x4a, 1, 0, 0, 0x02, 0, 0, 0, 8), b, 4);
    assert_int_equal(b[1], 2);
    assert_int_equal(b[2], 0x80);
}

static void test_capacity(void **state)
{
    struct ide_rig *t = *state;
    u8 b[8];
    static const u8 want[8] = {0, 0, 0x03, 0xe7, 0, 0, 8, 0};
    ask(t, P(0x25), b, 8);
    assert_memory_equal(b, want, 8);
}

static void test_toc(void **state)
{
    struct ide_rig *t = *state;
    static const u8 tracks[] = {0, 18, 1, 1,    0,    0x14, 1, 0, 0,    0,
                                0, 0,  0, 0x14, 0xaa, 0,    0, 0, 0x03, 0xe8};
    static const u8 lead_out[] = {0, 10, 1, 1, 0, 0x14, 0xaa, 0, 0, 0, 15, 25};
    static const u8 session[] = {0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0};
    static const u8 raw[] = {0,  46, 1,    1,    1,    0x14, 0,    0xa0, 0, 0, 0, 0,
                             1,  0,  0,    1,    0x14, 0,    0xa1, 0,    0, 0, 0, 1,
                             0,  0,  1,    0x14, 0,    0xa2, 0,    0,    0, 0, 0, 15,
                             25, 1,  0x14, 0,    1,    0,    0,    0,    0, 0, 2, 0};
    u8 b[64];
    ask(t, P(0x43, 0, 0, 0, 0, 0, 0, 0, 64), b, sizeof(tracks));
    assert_memory_equal(b, tracks, sizeof(tracks));
    ask(t, P(0x43, 2, 0, 0, 0, 0, 0xaa, 0, 64), b, sizeof(lead_out)); /* in minutes */
    assert_memory_equal(b, lead_out, sizeof(lead_out));
    ask(t, P(0x43, 0, 1, 0, 0, 0, 0, 0, 64), b, sizeof(session));
    assert_memory_equal(b, session, sizeof(session));
    ask(t, P(0x43, 0, 0, 0, 0, 0, 0, 0, 64, 0x40), b, sizeof(session)); /* the old place */
    assert_memory_equal(b, session, sizeof(session));
    ask(t, P(0x43, 2, 2, 0, 0, 0, 1, 0, 64), b, sizeof(raw));
    assert_memory_equal(b, raw, sizeof(raw));
    ask(t, P(0x43, 0, 0, 0, 0, 0, 0, 0, 4), b, 4);
    refuse(t, P(0x43, 0, 0, 0, 0, 0, 2, 0, 64), 5, 0x24, 0);
    refuse(t, P(0x43, 0, 2, 0, 0, 0, 2, 0, 64), 5, 0x24, 0);
    refuse(t, P(0x43, 0, 3, 0, 0, 0, 0, 0, 64), 5, 0x24, 0);
}

static void test_disc(void **state)
{
    struct ide_rig *t = *state;
    u8 b[64];
    ask(t, P(0x51, 0, 0, 0, 0, 0, 0, 0, 64), b, 34);
    assert_int_equal(b[1], 32);
    assert_int_equal(b[2], 0x0e);
    refuse(t, P(0x51, 1, 0, 0, 0, 0, 0, 0, 64), 5, 0x24, 0);
    refuse(t, P(0xad, 0, 0, 0, 0, 0, 0, 0, 1, 0), 5, 0x30, 0); /* not a DVD */
    ask(t, P(0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8), b, 8);
    assert_int_equal(b[1], 0);
    accept(t, P(0xbb, 0, 0xff, 0xff));
}

/* More than 80 minutes. */
static void test_dvd(void **state)
{
    struct ide_rig *t = *state;
    static u8 b[2052];
    t->disk[1][0]->block.size = 360001 * 2048ULL;
    ask(t, P(0x46, 2, 0, 0, 0, 0, 0, 0, 8), b, 8);
    assert_int_equal(b[7], 0x10);
    ask(t, P(0xad, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff), b, 2052);
    assert_int_equal(b[1] | b[0] << 8, 2050);
    assert_int_equal(b[4], 1);
    assert_int_equal(b[9], 3);
    assert_int_equal(b[13] << 16 | b[14] << 8 | b[15], 0x30000 + 360000);
    ask(t, P(0xad, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff), b, 8);
    ask(t, P(0xad, 0, 0, 0, 0, 0, 0, 4, 0xff, 0xff), b, 2052);
    refuse(t, P(0xad, 0, 0, 0, 0, 0, 0, 3, 0xff, 0xff), 5, 0x24, 0);
    refuse(t, P(0xad, 0, 0, 0, 0, 0, 1, 0, 0xff, 0xff), 5, 0x24, 0);
}

/* --- what the drive can do --- */

static void test_mode_sense(void **state)
{
    struct ide_rig *t = *state;
    static const struct {
        u8 code, size;
    } pages[] = {{0x01, 8}, {0x0d, 8}, {0x0e, 16}, {0x2a, 22}, {0x3f, 54}};
    u8 b[128];
    for (unsigned i = 0; i < ARRAY_SIZE(pages); i++) {
        u8 code = pages[i].code, size = pages[i].size;
        ask(t, P(0x5a, 0, code, 0, 0, 0, 0, 0, 128), b, 8U + size);
        assert_int_equal(b[1], 6 + size);
        assert_int_equal(b[2], 1);
        assert_int_equal(b[8], i == 4 ? 1 : code);
        assert_int_equal(b[9], i == 4 ? 6 : size - 2);
        ask(t, P(0x1a, 0, code, 0, 128), b, 4U + size);
        assert_int_equal(b[0], 3 + size);
        assert_int_equal(b[4], i == 4 ? 1 : code);
    }
    ask(t, P(0x5a, 0, 0x41, 0, 0, 0, 0, 0, 128), b, 16); /* nothing can be changed */
    assert_int_equal(b[9], 6);
    assert_int_equal(b[11], 0);
    refuse(t, P(0x5a, 0, 0xc1, 0, 0, 0, 0, 0, 128), 5, 0x39, 0);
    refuse(t, P(0x5a, 0, 0x05, 0, 0, 0, 0, 0, 128), 5, 0x24, 0);
    ask(t, P(0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 128), b, 30);
    assert_int_equal(b[14], 0x29);
    accept(t, P(0x1e, 0, 0, 0, 1));
    ask(t, P(0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 128), b, 30);
    assert_int_equal(b[14], 0x2b); /* locked */
}

static void test_configuration(void **state)
{
    struct ide_rig *t = *state;
    u8 b[128];
    unsigned n, found = 0;
    ask(t, P(0x46, 0, 0, 0, 0, 0, 0, 0, 8), b, 8);
    n = b[3] + 4U;
    assert_int_equal(b[7], 8); /* CD-ROM */
    ask(t, P(0x46, 0, 0, 0, 0, 0, 0, 0, 128), b, n);
    for (unsigned i = 8; i < n; i += 4U + b[i + 3], found++)
        assert_true(i + 4U + b[i + 3] <= n);
    assert_int_equal(found, 7);
    assert_int_equal(b[10], 3);
    assert_int_equal(b[14], 0); /* of the profiles, DVD-ROM is not current */
    assert_int_equal(b[18], 1);
    ask(t, P(0x46, 2, 0, 0x1e, 0, 0, 0, 0, 128), b, 16);
    assert_int_equal(b[9], 0x1e);
    assert_int_equal(b[10] & 1, 1);
    ask(t, P(0x46, 2, 0, 0x55, 0, 0, 0, 0, 128), b, 8);
    ask(t, P(0x46, 1, 0, 0x1e, 0, 0, 0, 0, 128), b, 20); /* without that of DVDs */
    refuse(t, P(0x46, 3, 0, 0, 0, 0, 0, 0, 8), 5, 0x24, 0);
}

/* --- in flight --- */

static void test_device_reset_in_flight(void **state)
{
    struct ide_rig *t = *state;
    struct test_block *b = t->disk[1][0];
    b->hold = true;
    send_packet(t, P(0x28, 0, 0, 0, 0, 1, 0, 0, 1), 2048, 0);
    assert_int_equal(alt_status(t), ST_BSY);
    command(t, 0x08);
    assert_int_equal(alt_status(t), ST_BSY);
    test_block_go(b);
    assert_int_equal(alt_status(t), 0);
    assert_int_equal(lba_regs(t), 0xeb1401);
    assert_int_equal(intrq(t), 0);
    clear_attention(t);
    accept(t, P(0));
}

/* DEVICE RESET ends a transfer. */
static void test_device_reset_in_data(void **state)
{
    struct ide_rig *t = *state;
    send_packet(t, P(0x28, 0, 0, 0, 0, 1, 0, 0, 1), 2048, 0);
    assert_int_equal(alt_status(t), ST_OK | ST_DRQ);
    command(t, 0x00);
    assert_int_equal(alt_status(t), ST_OK | ST_DRQ);
    command(t, 0x08);
    assert_int_equal(alt_status(t), 0);
    assert_int_equal(in16(&t->r, t->base), 0xffff);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define R(name) cmocka_unit_test_setup_teardown(name, setup_ready, teardown)
    const struct CMUnitTest tests[] = {
        T(test_signature),
        T(test_identify),
        T(test_overlap),
        T(test_attention),
        R(test_sense),
        R(test_short_replies),
        R(test_read),
        R(test_read_edges),
        R(test_read_dma),
        R(test_read_cd),
        T(test_no_medium),
        R(test_eject),
        R(test_event_status),
        R(test_capacity),
        R(test_toc),
        R(test_disc),
        R(test_dvd),
        R(test_mode_sense),
        R(test_configuration),
        R(test_device_reset_in_flight),
        R(test_device_reset_in_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
