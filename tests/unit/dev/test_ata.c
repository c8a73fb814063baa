/*
 * ATA disks at register level: their commands.
 */
#include "ide_rig.h"

/* --- what a drive says --- */

static void test_identify(void **state)
{
    struct ide_rig *t = *state;
    u16 w[256];
    identify(t, w, DEV_CHS);
    assert_int_equal(w[0], 0x40);
    assert_int_equal(w[1], SECTORS / 1008);
    assert_int_equal(w[3], 16);
    assert_int_equal(w[6], 63);
    assert_int_equal(w[10], 'R' << 8 | 'I');
    assert_int_equal(w[27], 'r' << 8 | 'i');
    assert_int_equal(w[46], ' ' << 8 | ' ');
    assert_int_equal(w[47], 0x8010);
    assert_int_equal(w[59], 0x110);
    assert_int_equal(w[49] & 0x300, 0x300);
    assert_int_equal(w[57] | (u32)w[58] << 16, SECTORS / 1008 * 1008);
    assert_int_equal(w[60] | (u32)w[61] << 16, SECTORS);
    assert_int_equal(w[63], 0x407);
    assert_int_equal(w[83] & 0x7400, 0x7400);
    assert_int_equal(w[85] & 0x20, 0x20);
    assert_int_equal(w[93] & 0xdf61, 0x4001); /* SeaBIOS goes on to look for drive 1 */
    assert_int_equal(w[100], SECTORS);
    assert_int_equal(w[101] | w[102] | w[103], 0);
}

/* More than 137 GB, and more than CHS can say. */
static void test_identify_huge(void **state)
{
    struct ide_rig *t = ide_rig_create();
    u16 w[256];
    (void)state;
    t->disk[0][0] = test_block_create(8);
    t->disk[0][0]->block.size = 0x123456789aULL * 512;
    t->disk[0][1] = test_block_create(8);
    t->disk[0][1]->block.read_only = true;
    ide_rig_plug(t, 0);
    identify(t, w, DEV_CHS);
    assert_int_equal(w[1], 16383);
    assert_int_equal(w[57] | (u32)w[58] << 16, 16514064);
    assert_int_equal(w[60] | (u32)w[61] << 16, 0xfffffff);
    assert_int_equal(load_le(w + 100, 8), 0x123456789aULL);
    identify(t, w, DEV_CHS | DEV_1);
    assert_int_equal(w[1] * w[3] * w[6], 8);
    assert_int_equal(w[85] & 0x20, 0);
    assert_int_equal(w[169], 0);
    ide_rig_destroy(t);
}

static void test_native_max(void **state)
{
    struct ide_rig *t = *state;
    command28(t, 0xf8, 0, 0, DEV_LBA);
    expect_end(t, ST_OK, 0);
    assert_int_equal(lba_regs(t), SECTORS - 1);
    command28(t, 0xf8, 0, 0, DEV_CHS);
    expect_end(t, ST_OK, 0);
    assert_int_equal(lba_regs(t), (SECTORS / 1008 - 1) << 8 | 63);
    assert_int_equal(in8(&t->r, t->base + 6), DEV_CHS | 15);
    t->disk[0][0]->block.size = 0xabcdef012345ULL * 512;
    ide_reset(t->ide);
    command48(t, 0x27, 0, 0, DEV_LBA);
    expect_end(t, ST_OK, 0);
    assert_int_equal(lba_regs(t), 0x012344);
    out8(&t->r, t->control, C_HOB);
    assert_int_equal(lba_regs(t), 0xabcdef);
    command28(t, 0xf8, 0, 0, DEV_LBA);
    expect_end(t, ST_OK, 0);
    assert_int_equal(lba_regs(t), 0xffffff);
    assert_int_equal(in8(&t->r, t->base + 6), DEV_LBA | 15);
}

static void test_smart(void **state)
{
    struct ide_rig *t = *state;
    u8 buf[512], sum = 0;
    taskfile(t, 0xd0, 0, 0xc24f00, DEV_CHS);
    command(t, 0xb0);
    take(t, buf, 1, 1);
    for (unsigned i = 0; i < 512; i++)
        sum += buf[i];
    assert_int_equal(sum, 0);
    assert_int_equal(buf[2], 1);
    taskfile(t, 0xda, 0, 0xc24f00, DEV_CHS);
    command(t, 0xb0);
    expect_end(t, ST_OK, 0);
    assert_int_equal(lba_regs(t), 0xc24f00);
    static const u8 refused[][3] = {{0xda, 0x4e, 0xc2}, {0xda, 0x4f, 0xc3}, {0xdf, 0x4f, 0xc2}};
    for (unsigned i = 0; i < ARRAY_SIZE(refused); i++) {
        taskfile(t, refused[i][0], 0, (u32)(refused[i][1] << 8 | refused[i][2] << 16), DEV_CHS);
        command(t, 0xb0);
        expect_end(t, ST_OK | ST_ERR, E_ABRT);
    }
    static const u8 ok[] = {0xd2, 0xd3, 0xd4, 0xd9};
    for (unsigned i = 0; i < ARRAY_SIZE(ok); i++) {
        taskfile(t, ok[i], 0, 0xc24f00, DEV_CHS);
        command(t, 0xb0);
        expect_end(t, ST_OK, 0);
    }
    taskfile(t, 0xd1, 0, 0xc24f00, DEV_CHS); /* it is off now */
    command(t, 0xb0);
    expect_end(t, ST_OK | ST_ERR, E_ABRT);
    taskfile(t, 0xd8, 0, 0xc24f00, DEV_CHS);
    command(t, 0xb0);
    expect_end(t, ST_OK, 0);
    static const u8 logs[][2] = {{0xd1, 0}, {0xd5, 0}, {0xd5, 1}, {0xd5, 6}};
    for (unsigned i = 0; i < ARRAY_SIZE(logs); i++) {
        taskfile(t, logs[i][0], 1, 0xc24f00U | logs[i][1], DEV_CHS);
        command(t, 0xb0);
        take(t, buf, 1, 1);
        assert_int_equal(buf[0], 1);
    }
    taskfile(t, 0xd5, 1, 0xc24f80, DEV_CHS);
    command(t, 0xb0);
    expect_end(t, ST_OK | ST_ERR, E_ABRT);
}

/* --- PIO --- */

static void test_pio_read(void **state)
{
    struct ide_rig *t = *state;
    u8 buf[3 * 512];
    command28(t, 0x20, 300, 3, DEV_LBA);
    take(t, buf, 3, 1);
    assert_memory_equal(buf, sector(t, 300), sizeof(buf));
    assert_int_equal(interrupts(t), 3);
    assert_int_equal(lba_regs(t), 302);
    assert_int_equal(in8(&t->r, t->base + 2), 0);
    assert_int_equal(t->disk[0][0]->reads, 1);
    command28(t, 0x21, 5, 1, DEV_LBA);
    take(t, buf, 1, 1);
    assert_memory_equal(buf, sector(t, 5), 512);
}

static void test_pio_write(void **state)
{
    struct ide_rig *t = *state;
    u8 buf[3 * 512];
    fill(buf, sizeof(buf), 1);
    command28(t, 0x30, 400, 3, DEV_LBA);
    give(t, buf, 3, 1);
    assert_memory_equal(buf, sector(t, 400), sizeof(buf));
    assert_int_equal(load_le(sector(t, 403), 8), 403);
    assert_int_equal(interrupts(t), 3);
    assert_int_equal(lba_regs(t), 402);
    assert_int_equal(t->disk[0][0]->writes, 1);
    assert_int_equal(t->disk[0][0]->flushes, 0);
}

/* A count of 0 means 256, and more than fit into the buffer go through it in turns. */
static void test_pio_many(void **state)
{
    struct ide_rig *t = *state;
    size_t len = 1000ULL * 512;
    u8 *buf = malloc(len);
    command28(t, 0x20, 10, 0, DEV_LBA);
    take(t, buf, 256, 1);
    assert_memory_equal(buf, sector(t, 10), 256 * 512);
    command48(t, 0x24, 20, 1000, DEV_LBA);
    take(t, buf, 1000, 1);
    assert_memory_equal(buf, sector(t, 20), len);
    fill(buf, len, 77);
    command48(t, 0x34, 2000, 1000, DEV_LBA);
    give(t, buf, 1000, 1);
    assert_memory_equal(buf, sector(t, 2000), len);
    assert_int_equal(lba_regs(t), 2999);
    free(buf);
}

static void test_multiple(void **state)
{
    struct ide_rig *t = *state;
    static const u8 reads[] = {0xc4, 0x29}, writes[] = {0xc5, 0x39, 0xce};
    static u8 buf[21 * 512];
    u16 w[256];
    command28(t, 0xc6, 0, 8, DEV_CHS);
    expect_end(t, ST_OK, 0);
    identify(t, w, DEV_CHS);
    assert_int_equal(w[59], 0x108);
    for (unsigned i = 0; i < ARRAY_SIZE(reads); i++) {
        command48(t, reads[i], 50 + i, 21, DEV_LBA);
        take(t, buf, 21, 8);
        assert_memory_equal(buf, sector(t, 50 + i), sizeof(buf));
    }
    for (unsigned i = 0; i < ARRAY_SIZE(writes); i++) {
        fill(buf, sizeof(buf), (u8)(9 + i));
        command48(t, writes[i], 500 + 100 * i, 21, DEV_LBA);
        give(t, buf, 21, 8);
        assert_memory_equal(buf, sector(t, 500 + 100 * i), sizeof(buf));
    }
    assert_int_equal(t->disk[0][0]->flushes, 1); /* WRITE MULTIPLE FUA EXT */
    static const u8 bad[] = {3, 32, 255};
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        command28(t, 0xc6, 0, bad[i], DEV_CHS);
        expect_end(t, ST_OK | ST_ERR, E_ABRT);
    }
    command28(t, 0xc6, 0, 0, DEV_CHS);
    expect_end(t, ST_OK, 0);
    identify(t, w, DEV_CHS);
    assert_int_equal(w[59], 0);
    command28(t, 0xc4, 0, 1, DEV_LBA);
    expect_end(t, ST_OK | ST_ERR, E_ABRT);
}

static void test_verify(void **state)
{
    struct ide_rig *t = *state;
    static const u8 commands[] = {0x40, 0x41};
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
        command28(t, commands[i], 7, 5, DEV_LBA);
        expect_end(t, ST_OK, 0);
        assert_int_equal(lba_regs(t), 11);
    }
    t->disk[0][0]->bad_sector = 15003;
    command48(t, 0x42, 1000, 15000, DEV_LBA);
    expect_end(t, ST_OK | ST_ERR, E_UNC);
    assert_int_equal(lba_regs(t), 15003);
    command48(t, 0x42, 1000, 14003, DEV_LBA);
    expect_end(t, ST_OK, 0);
    assert_int_equal(t->disk[0][0]->largest, 256 * 1024);
}

/* 0 sectors of a 48-bit command are 65536. */
static void test_verify_all(void **state)
{
    struct ide_rig *t = ide_rig_create();
    (void)state;
    t->disk[0][0] = test_block_create(65540);
    ide_rig_plug(t, 0);
    command48(t, 0x42, 4, 0, DEV_LBA);
    expect_end(t, ST_OK, 0);
    assert_int_equal(lba_regs(t), 65539);
    assert_int_equal(t->disk[0][0]->reads, 128);
    command48(t, 0x42, 5, 0, DEV_LBA);
    expect_end(t, ST_OK | ST_ERR, E_IDNF);
    ide_rig_destroy(t);
}

/* --- addresses --- */

static void read_chs(struct ide_rig *t, u16 cylinder, u8 head, u8 sec, u8 count)
{
    command28(t, 0x20, sec | (u32)cylinder << 8, count, DEV_CHS | head);
}

static void test_chs(void **state)
{
    struct ide_rig *t = *state;
    static u8 buf[3 * 512];
    read_chs(t, 2, 3, 62, 3);
    take(t, buf, 3, 1);
    assert_memory_equal(buf, sector(t, (2 * 16 + 3) * 63 + 61), sizeof(buf));
    assert_int_equal(lba_regs(t), 2 << 8 | 1);
    assert_int_equal(in8(&t->r, t->base + 6), DEV_CHS | 4);
    read_chs(t, SECTORS / 1008 - 1, 15, 63, 1);
    take(t, buf, 1, 1);
    assert_memory_equal(buf, sector(t, SECTORS / 1008 * 1008 - 1), 512);
    read_chs(t, 0, 0, 0, 1); /* there is no sector 0 */
    expect_end(t, ST_OK | ST_ERR, E_IDNF);
    read_chs(t, 0, 0, 64, 1);
    expect_end(t, ST_OK | ST_ERR, E_IDNF);
    read_chs(t, SECTORS / 1008, 0, 1, 1);
    expect_end(t, ST_OK | ST_ERR, E_IDNF);
    read_chs(t, 0xffff, 15, 63, 1);
    expect_end(t, ST_OK | ST_ERR, E_IDNF);
}

static void test_set_geometry(void **state)
{
    struct ide_rig *t = *state;
    u8 buf[512];
    u16 w[256];
    command28(t, 0x91, 0, 17, DEV_CHS | 3); /* 17 sectors, 4 heads */
    expect_end(t, ST_OK, 0);
    identify(t, w, DEV_CHS);
    assert_int_equal(w[1], SECTORS / 1008);
    assert_int_equal(w[54], SECTORS / 68);
    assert_int_equal(w[55], 4);
    assert_int_equal(w[56], 17);
    assert_int_equal(w[57] | (u32)w[58] << 16, SECTORS / 68 * 68);
    read_chs(t, 10, 2, 17, 1);
    take(t, buf, 1, 1);
    assert_memory_equal(buf, sector(t, (10 * 4 + 2) * 17 + 16), 512);
    read_chs(t, 10, 4, 1, 1);
    expect_end(t, ST_OK | ST_ERR, E_IDNF);
    read_chs(t, 10, 0, 18, 1);
    expect_end(t, ST_OK | ST_ERR, E_IDNF);
    command28(t, 0x91, 0, 0, DEV_CHS | 3);
    expect_end(t, ST_OK | ST_ERR, E_ABRT);
    ide_reset(t->ide);
    identify(t, w, DEV_CHS);
    assert_int_equal(w[55], 16);
}

static void test_lba_edges(void **state)
{
    struct ide_rig *t = *state;
    u8 buf[512];
    command28(t, 0x20, SECTORS - 1, 1, DEV_LBA);
    take(t, buf, 1, 1);
    assert_memory_equal(buf, sector(t, SECTORS - 1), 512);
    command28(t, 0x20, SECTORS, 1, DEV_LBA);
    expect_end(t, ST_OK | ST_ERR, E_IDNF);
    command28(t, 0x20, SECTORS - 1, 2, DEV_LBA);
    expect_end(t, ST_OK | ST_ERR, E_IDNF);
    command28(t, 0x20, 0xfffffff, 0, DEV_LBA);
    expect_end(t, ST_OK | ST_ERR, E_IDNF);
    command48(t, 0x24, SECTORS - 1, 1, DEV_LBA);
    take(t, buf, 1, 1);
    assert_memory_equal(buf, sector(t, SECTORS - 1), 512);
    command48(t, 0x24, SECTORS - 1, 2, DEV_LBA);
    expect_end(t, ST_OK | ST_ERR, E_IDNF);
    command48(t, 0x24, 0xffffffffffffULL, 0, DEV_LBA);
    expect_end(t, ST_OK | ST_ERR, E_IDNF);
    command48(t, 0x24, BIT(24), 1, DEV_LBA); /* its upper bytes count */
    expect_end(t, ST_OK | ST_ERR, E_IDNF);
    /* A 28-bit command doesn't look at the upper bytes. */
    taskfile(t, 0, 0, 0xffffff, DEV_LBA);
    command28(t, 0x20, 3, 1, DEV_LBA);
    take(t, buf, 1, 1);
    assert_memory_equal(buf, sector(t, 3), 512);
}

static void test_hob(void **state)
{
    struct ide_rig *t = *state;
    taskfile(t, 0x11, 0x22, 0x554433, DEV_LBA);
    taskfile(t, 0x66, 0x77, 0xaa9988, DEV_LBA);
    assert_int_equal(in8(&t->r, t->base + 2), 0x77);
    assert_int_equal(lba_regs(t), 0xaa9988);
    out8(&t->r, t->control, C_HOB);
    assert_int_equal(in8(&t->r, t->base + 2), 0x22);
    assert_int_equal(lba_regs(t), 0x554433);
    out8(&t->r, t->base + 3, 1); /* a write ends it */
    assert_int_equal(in8(&t->r, t->base + 2), 0x77);
}

/* --- errors --- */

/* The registers name the bad sector; the host has those before it. */
static void test_read_error(void **state)
{
    struct ide_rig *t = *state;
    u8 buf[512];
    t->disk[0][0]->bad_sector = 103;
    command28(t, 0x20, 100, 10, DEV_LBA);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(status(t), ST_OK | ST_DRQ);
        pio_read(t, buf, 512);
        assert_memory_equal(buf, sector(t, 100 + i), 512);
    }
    expect_end(t, ST_OK | ST_ERR, E_UNC);
    assert_int_equal(lba_regs(t), 103);
    assert_int_equal(in8(&t->r, t->base + 2), 7);
    command28(t, 0x20, 103, 1, DEV_LBA);
    expect_end(t, ST_OK | ST_ERR, E_UNC);
    command28(t, 0xc4, 64, 64, DEV_LBA); /* blocks of 16: the first two are whole */
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(status(t), ST_OK | ST_DRQ);
        for (unsigned k = 0; k < 16; k++)
            pio_read(t, buf, 512);
    }
    expect_end(t, ST_OK | ST_ERR, E_UNC);
    assert_int_equal(lba_regs(t), 103);
    assert_int_equal(in8(&t->r, t->base + 2), 64 - 39);
}

static void test_read_error_dma(void **state)
{
    struct ide_rig *t = *state;
    t->disk[0][0]->bad_sector = 803;
    put_prd(t, TABLE, 0, DATA, 0, false);
    put_prd(t, TABLE, 1, DATA + 0x10000, 0, true);
    bm_prepare(t, TABLE, true);
    command28(t, 0xc8, 600, 0, DEV_LBA);
    bm_start(t);
    assert_int_equal(bm_status(t) & BM_INT, BM_INT);
    bm_stop(t);
    expect_end(t, ST_OK | ST_ERR, E_UNC);
    assert_int_equal(lba_regs(t), 803);
    assert_int_equal(in8(&t->r, t->base + 2), 256 - 203);
    assert_memory_equal(t->ram + DATA, sector(t, 600), 203 * 512);
    assert_int_equal(t->ram[DATA + 203 * 512 + 2], 0);
}

static void test_write_error(void **state)
{
    struct ide_rig *t = *state;
    u8 buf[512] = {1};
    t->disk[0][0]->bad_sector = 12;
    command28(t, 0x30, 10, 4, DEV_LBA);
    for (unsigned i = 0; i < 4; i++)
        pio_write(t, buf, 512);
    expect_end(t, ST_OK | ST_ERR, E_ABRT);
    assert_int_equal(lba_regs(t), 12);
    assert_memory_equal(sector(t, 11), buf, 512);
    t->disk[0][0]->block.read_only = true;
    command28(t, 0x30, 20, 1, DEV_LBA);
    expect_end(t, ST_OK | ST_ERR, E_ABRT);
    command28(t, 0xca, 20, 1, DEV_LBA);
    expect_end(t, ST_OK | ST_ERR, E_ABRT);
}

static void test_unknown_commands(void **state)
{
    struct ide_rig *t = *state;
    static const u8 commands[] = {0x00, 0x08, 0x22, 0x50, 0xa0, 0xa1, 0xf9, 0xff};
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
        command28(t, commands[i], 1, 1, DEV_LBA);
        expect_end(t, ST_OK | ST_ERR, E_ABRT);
    }
}

/* --- the small commands --- */

static void test_seek(void **state)
{
    struct ide_rig *t = *state;
    command28(t, 0x70, SECTORS - 1, 0, DEV_LBA);
    expect_end(t, ST_OK, 0);
    command28(t, 0x7f, SECTORS, 0, DEV_LBA);
    expect_end(t, ST_OK | ST_ERR, E_IDNF);
    command28(t, 0x10, 0, 0, DEV_CHS);
    expect_end(t, ST_OK, 0);
    command28(t, 0x1f, 0, 0, DEV_CHS);
    expect_end(t, ST_OK, 0);
}

static void test_diagnostic(void **state)
{
    struct ide_rig *t = *state;
    use_channel(t, 1);
    out8(&t->r, t->base + 6, DEV_LBA | DEV_1);
    command(t, 0x90);
    assert_int_equal(in8(&t->r, t->base + 6), DEV_CHS);
    expect_end(t, ST_OK, 1);
    assert_int_equal(lba_regs(t), 1);
    out8(&t->r, t->base + 6, DEV_LBA | DEV_1);
    assert_int_equal(error_reg(t), 1);
    assert_int_equal(intrq(t), 0);
}

static void test_set_features(void **state)
{
    struct ide_rig *t = *state;
    static const struct {
        u8 feature, count;
        bool ok;
        u16 word63, word88;
    } cases[] = {
        {0x03, 0x20, true, 0x107, 0x3f},  {0x03, 0x22, true, 0x407, 0x3f},
        {0x03, 0x45, true, 0x07, 0x203f}, {0x03, 0x0c, true, 0x07, 0x3f},
        {0x03, 0x00, true, 0x07, 0x3f},   {0x03, 0x46, false, 0x07, 0x3f},
        {0x03, 0x23, false, 0x07, 0x3f},  {0x03, 0x0d, false, 0x07, 0x3f},
        {0x03, 0xff, false, 0x07, 0x3f},  {0x66, 0, true, 0x07, 0x3f},
        {0xcc, 0, true, 0x07, 0x3f},      {0x99, 0, false, 0x07, 0x3f},
    };
    u16 w[256];
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        taskfile(t, cases[i].feature, cases[i].count, 0, DEV_CHS);
        command(t, 0xef);
        expect_end(t, cases[i].ok ? ST_OK : ST_OK | ST_ERR, cases[i].ok ? 0 : E_ABRT);
        identify(t, w, DEV_CHS);
        assert_int_equal(w[63], cases[i].word63);
        assert_int_equal(w[88], cases[i].word88);
    }
    taskfile(t, 0x55, 0, 0, DEV_CHS);
    command(t, 0xef);
    expect_end(t, ST_OK, 0);
    identify(t, w, DEV_CHS);
    assert_int_equal(w[85] & 0x40, 0);
}

/* With the cache off, a write is on stable storage before it ends. */
static void test_write_cache(void **state)
{
    struct ide_rig *t = *state;
    struct test_block *b = t->disk[0][0];
    u8 buf[512] = {5};
    u16 w[256];
    taskfile(t, 0x82, 0, 0, DEV_CHS);
    command(t, 0xef);
    expect_end(t, ST_OK, 0);
    assert_int_equal(b->flushes, 1);
    identify(t, w, DEV_CHS);
    assert_int_equal(w[85] & 0x20, 0);
    command28(t, 0x30, 1, 1, DEV_LBA);
    b->hold = true;
    pio_write(t, buf, 512);
    assert_int_equal(alt_status(t), ST_BSY);
    test_block_go(b);
    assert_int_equal(alt_status(t), ST_BSY);
    assert_int_equal(intrq(t), 0);
    assert_int_equal(b->writes, 1);
    test_block_go(b);
    assert_int_equal(b->flushes, 2);
    expect_end(t, ST_OK, 0);
    b->hold = false;
    b->flush_result = -EIO;
    command28(t, 0x30, 1, 1, DEV_LBA);
    pio_write(t, buf, 512);
    expect_end(t, ST_OK | ST_ERR, E_ABRT);
    b->flush_result = 0;
    taskfile(t, 0x02, 0, 0, DEV_CHS);
    command(t, 0xef);
    expect_end(t, ST_OK, 0);
    b->flushes = 0;
    command28(t, 0x30, 1, 1, DEV_LBA);
    pio_write(t, buf, 512);
    expect_end(t, ST_OK, 0);
    assert_int_equal(b->flushes, 0);
}

static void test_flush(void **state)
{
    struct ide_rig *t = *state;
    struct test_block *b = t->disk[0][0];
    b->hold = true;
    command28(t, 0xe7, 0, 0, DEV_LBA);
    assert_int_equal(alt_status(t), ST_BSY);
    test_block_go(b);
    expect_end(t, ST_OK, 0);
    b->hold = false;
    command28(t, 0xea, 0, 0, DEV_LBA);
    expect_end(t, ST_OK, 0);
    assert_int_equal(b->flushes, 2);
    b->flush_result = -EIO;
    command28(t, 0xe7, 0, 0, DEV_LBA);
    expect_end(t, ST_OK | ST_ERR, E_ABRT);
}

static void test_power(void **state)
{
    struct ide_rig *t = *state;
    static const struct {
        u8 command, power;
    } cases[] = {{0xe0, 0}, {0xe1, 0x80}, {0xe2, 0}, {0xe3, 0x80}, {0xe6, 0},
                 {0x94, 0}, {0x95, 0x80}, {0x96, 0}, {0x97, 0x80}, {0x99, 0}};
    u8 buf[512];
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        unsigned flushes = t->disk[0][0]->flushes;
        command28(t, cases[i].command, 0, 0, DEV_CHS);
        expect_end(t, ST_OK, 0);
        assert_int_equal(t->disk[0][0]->flushes - flushes, !cases[i].power);
        command28(t, i % 2 ? 0xe5 : 0x98, 0, 0x33, DEV_CHS);
        expect_end(t, ST_OK, 0);
        assert_int_equal(in8(&t->r, t->base + 2), cases[i].power);
    }
    command28(t, 0x20, 0, 1, DEV_LBA);
    take(t, buf, 1, 1);
    command28(t, 0xe5, 0, 0, DEV_CHS);
    assert_int_equal(in8(&t->r, t->base + 2), 0xff);
}

/* --- TRIM --- */

static void trim(struct ide_rig *t, unsigned blocks)
{
    put_prd(t, TABLE, 0, DATA, blocks * 512, true);
    bm_prepare(t, TABLE, false);
    taskfile(t, 0, (u8)(blocks >> 8), 0, DEV_LBA);
    taskfile(t, 1, (u8)blocks, 0, DEV_LBA);
    command(t, 0x06);
    bm_start(t);
    bm_stop(t);
}

static void test_trim(void **state)
{
    struct ide_rig *t = *state;
    struct test_block *b = t->disk[0][0];
    store_le(t->ram + DATA, 100 | 5ULL << 48, 8);
    store_le(t->ram + DATA + 24, (SECTORS - 1) | 1ULL << 48, 8); /* between: empty ranges */
    store_le(t->ram + DATA + 1016, 200 | 2ULL << 48, 8);
    trim(t, 2);
    expect_end(t, ST_OK, 0);
    assert_int_equal(b->discards, 3);
    assert_int_equal(load_le(sector(t, 104), 8), 0);
    assert_int_equal(load_le(sector(t, 105), 8), 105);
    assert_int_equal(load_le(sector(t, SECTORS - 1), 8), 0);
    b->discard_result = -ENOTSUP;
    trim(t, 2);
    expect_end(t, ST_OK, 0);
    b->discard_result = -EIO;
    trim(t, 2);
    expect_end(t, ST_OK | ST_ERR, E_ABRT);
    store_le(t->ram + DATA, (SECTORS - 1) | 2ULL << 48, 8);
    trim(t, 1);
    expect_end(t, ST_OK | ST_ERR, E_IDNF);
    trim(t, 9); /* more blocks than word 105 allows */
    expect_end(t, ST_OK | ST_ERR, E_ABRT);
    trim(t, 0);
    expect_end(t, ST_OK | ST_ERR, E_ABRT);
    taskfile(t, 0, 1, 0, DEV_LBA); /* without the TRIM bit */
    command(t, 0x06);
    expect_end(t, ST_OK | ST_ERR, E_ABRT);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, ide_setup, ide_teardown)
    const struct CMUnitTest tests[] = {
        T(test_identify),     cmocka_unit_test(test_identify_huge),
        T(test_native_max),   T(test_smart),
        T(test_pio_read),     T(test_pio_write),
        T(test_pio_many),     T(test_multiple),
        T(test_verify),       cmocka_unit_test(test_verify_all),
        T(test_chs),          T(test_set_geometry),
        T(test_lba_edges),    T(test_hob),
        T(test_read_error),   T(test_read_error_dma),
        T(test_write_error),  T(test_unknown_commands),
        T(test_seek),         T(test_diagnostic),
        T(test_set_features), T(test_write_cache),
        T(test_flush),        T(test_power),
        T(test_trim),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
