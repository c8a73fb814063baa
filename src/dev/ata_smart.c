/*
 * SMART (ATA/ATAPI-6, 8.54): a disk that is well, as tools expect to find one. Structures of 512
 * bytes end in a byte that makes their sum 0.
 */
#include "dev/ide_internal.h"

enum smart_feature {
    SMART_DATA = 0xd0,
    SMART_THRESHOLDS = 0xd1,
    SMART_AUTOSAVE = 0xd2,
    SMART_SAVE = 0xd3,
    SMART_TEST = 0xd4,
    SMART_LOG = 0xd5,
    SMART_ENABLE = 0xd8,
    SMART_DISABLE = 0xd9,
    SMART_STATUS = 0xda,
};

#define KEY_MID       0x4f
#define KEY_HIGH      0xc2
#define LOG_DIRECTORY 0x00
#define LOG_ERRORS    0x01
#define LOG_TESTS     0x06
#define TEST_OFFLINE  4 /* the subcommands up to here exist: off-line and self-tests */
#define TEST_ABORT    0x7f

static const struct {
    u8 id, flags, value, worst, threshold;
} attributes[] = {
    {0x01, 0x03, 100, 100, 6},  /* read errors */
    {0x03, 0x03, 100, 100, 70}, /* spin-up time */
    {0x04, 0x02, 100, 100, 20}, /* starts and stops */
    {0x05, 0x03, 100, 100, 36}, /* reallocated sectors */
    {0xc5, 0x02, 100, 100, 0},  /* pending sectors */
};

static void given(struct ide_channel *c, int result)
{
    (void)result;
    ide_end_silently(c);
}

static void give(struct ide_channel *c)
{
    u8 sum = 0;
    for (unsigned i = 0; i < BLOCK_SECTOR - 1; i++)
        sum += c->buffer[i];
    c->buffer[BLOCK_SECTOR - 1] = (u8)-sum;
    ide_pio_in(c, 0, BLOCK_SECTOR, given);
}

static void read_data(struct ide_channel *c)
{
    u8 *b = c->buffer;
    b[0] = 1;
    for (unsigned i = 0; i < ARRAY_SIZE(attributes); i++) {
        u8 *a = b + 2 + 12ULL * i;
        a[0] = attributes[i].id;
        a[1] = attributes[i].flags;
        a[3] = attributes[i].value;
        a[4] = attributes[i].worst;
    }
    b[362] = 0x02;       /* off-line collection is over */
    b[364] = 0x20;       /* seconds that it takes */
    b[367] = 0x19;       /* off-line collection and self-tests exist */
    b[368] = 0x03;       /* attributes are saved */
    b[370] = 0x01;       /* error log */
    b[372] = b[373] = 2; /* minutes of the self-tests */
    give(c);
}

static void read_thresholds(struct ide_channel *c)
{
    c->buffer[0] = 1;
    for (unsigned i = 0; i < ARRAY_SIZE(attributes); i++) {
        c->buffer[2 + 12 * i] = attributes[i].id;
        c->buffer[3 + 12 * i] = attributes[i].threshold;
    }
    give(c);
}

/* The logs are empty. */
static void read_log(struct ide_channel *c)
{
    u8 log = c->active->reg[0][REG_LBA_LOW];
    if (log != LOG_DIRECTORY && log != LOG_ERRORS && log != LOG_TESTS) {
        ide_abort(c, ERROR_ABRT);
        return;
    }
    c->buffer[0] = 1;
    if (log == LOG_DIRECTORY)
        c->buffer[2 * LOG_ERRORS] = c->buffer[2 * LOG_TESTS] = 1;
    give(c);
}

static void run_test(struct ide_channel *c)
{
    u8 test = c->active->reg[0][REG_LBA_LOW];
    if ((test & 0x7f) <= TEST_OFFLINE || test == TEST_ABORT)
        ide_end_ok(c);
    else
        ide_abort(c, ERROR_ABRT);
}

/* The key stays in the registers: no threshold is exceeded. */
static void smart_command(struct ide_channel *c, u8 feature)
{
    struct ide_unit *u = c->active;
    switch (feature) {
    case SMART_DATA:
        read_data(c);
        break;
    case SMART_THRESHOLDS:
        read_thresholds(c);
        break;
    case SMART_LOG:
        read_log(c);
        break;
    case SMART_TEST:
        run_test(c);
        break;
    case SMART_ENABLE:
    case SMART_DISABLE:
        u->smart = feature == SMART_ENABLE;
        ide_end_ok(c);
        break;
    case SMART_AUTOSAVE:
    case SMART_SAVE:
    case SMART_STATUS:
        ide_end_ok(c);
        break;
    default:
        ide_abort(c, ERROR_ABRT);
    }
}

void ata_smart(struct ide_channel *c, unsigned unused)
{
    const struct ide_unit *u = c->active;
    bool key = u->reg[0][REG_LBA_MID] == KEY_MID && u->reg[0][REG_LBA_HIGH] == KEY_HIGH;
    (void)unused;
    if (!key || (!u->smart && u->features != SMART_ENABLE)) {
        ide_abort(c, ERROR_ABRT);
        return;
    }
    memset(c->buffer, 0, BLOCK_SECTOR);
    smart_command(c, u->features);
}
