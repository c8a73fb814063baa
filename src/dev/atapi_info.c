/*
 * Packets by which a host asks what a CD-ROM drive and its medium are (MMC-3, 5 and 6). A medium
 * is one closed session with one data track; with more than 80 minutes of it, a DVD. Replies are
 * made in the channel's buffer, which is far larger than any.
 */
#include "dev/ide_internal.h"

#define ASC_FIELD        0x24
#define ASC_INCOMPATIBLE 0x30
#define ASC_NOT_SAVED    0x39

#define PREGAP      150 /* frames before sector 0 */
#define FRAMES      75
#define CD_MAX      (80 * 60 * FRAMES)
#define TRACK_DATA  0x14 /* ADR 1; a data track, recorded without interruption */
#define LEAD_OUT    0xaa
#define PROFILE_CD  0x0008
#define PROFILE_DVD 0x0010

void atapi_store_msf(u8 *p, u64 lba)
{
    lba += PREGAP;
    p[0] = (u8)MIN(lba / FRAMES / 60, UINT8_MAX);
    p[1] = (u8)(lba / FRAMES % 60);
    p[2] = (u8)(lba % FRAMES);
}

static u16 profile(const struct ide_unit *u)
{
    u64 n = atapi_sectors(u);
    return !n ? 0 : n > CD_MAX ? PROFILE_DVD : PROFILE_CD;
}

static u8 *clear(struct ide_channel *c, u32 size)
{
    return memset(c->buffer, 0, size);
}

static void invalid_field(struct ide_channel *c)
{
    atapi_error(c, SENSE_ILLEGAL, ASC_FIELD, 0);
}

void packet_inquiry(struct ide_channel *c)
{
    const u8 *p = c->atapi.packet;
    u8 *b = clear(c, 36);
    if (p[1] & 1) { /* no vital product data */
        invalid_field(c);
        return;
    }
    b[0] = 5;    /* CD-ROM */
    b[1] = 0x80; /* removable */
    b[3] = 0x21; /* an ATAPI drive's response format */
    b[4] = 31;   /* bytes that follow */
    memcpy(b + 8, "RINGER  CD-ROM          1   ", 28);
    atapi_reply(c, 36, p[4]);
}

void packet_read_capacity(struct ide_channel *c)
{
    u8 *b = clear(c, 8);
    store_be(b, (u32)atapi_sectors(c->active) - 1, 4);
    store_be(b + 4, CD_SECTOR, 4);
    atapi_reply(c, 8, 8);
}

/* --- table of contents --- */

static void store_address(u8 *p, u64 lba, bool msf)
{
    if (msf)
        atapi_store_msf(p + 1, lba);
    else
        store_be(p, (u32)lba, 4);
}

/* Format 0: the track and the lead-out. */
static u32 toc_tracks(u8 *b, u64 sectors, bool msf, u8 first)
{
    u32 n = 4;
    b[2] = b[3] = 1; /* first and last track */
    if (first <= 1) {
        b[n + 1] = TRACK_DATA;
        b[n + 2] = 1;
        store_address(b + n + 4, 0, msf);
        n += 8;
    }
    b[n + 1] = TRACK_DATA;
    b[n + 2] = LEAD_OUT;
    store_address(b + n + 4, sectors, msf);
    return n + 8;
}

/* Format 1: where the last session starts. */
static u32 toc_session(u8 *b, bool msf)
{
    b[2] = b[3] = 1;
    b[5] = TRACK_DATA;
    b[6] = 1;
    store_address(b + 8, 0, msf);
    return 12;
}

/* Format 2: what is in the lead-in, always in minutes: first track, last track, lead-out, track. */
static u32 toc_raw(u8 *b, u64 sectors)
{
    static const u8 point[] = {0xa0, 0xa1, 0xa2, 1};
    u32 n = 4;
    b[2] = b[3] = 1;
    for (unsigned i = 0; i < ARRAY_SIZE(point); i++, n += 11) {
        b[n] = 1; /* session */
        b[n + 1] = TRACK_DATA;
        b[n + 3] = point[i];
        if (point[i] == 0xa2)
            atapi_store_msf(b + n + 8, sectors);
        else if (point[i] == 1)
            atapi_store_msf(b + n + 8, 0);
        else
            b[n + 8] = 1; /* a track's number */
    }
    return n;
}

/* Old drivers have the format in the last byte (INF-8020i, 10.8.20). */
void packet_read_toc(struct ide_channel *c)
{
    const u8 *p = c->atapi.packet;
    unsigned format = p[2] & 0xf ? p[2] & 0xf : p[9] >> 6;
    u64 sectors = atapi_sectors(c->active);
    bool msf = p[1] & 2;
    u8 *b = clear(c, 64);
    u32 n = 0;
    if (format == 0 && (p[6] <= 1 || p[6] == LEAD_OUT))
        n = toc_tracks(b, sectors, msf, p[6]);
    else if (format == 1)
        n = toc_session(b, msf);
    else if (format == 2 && p[6] <= 1)
        n = toc_raw(b, sectors);
    if (!n) {
        invalid_field(c);
        return;
    }
    store_be(b, n - 2, 2);
    atapi_reply(c, n, load_be(p + 7, 2));
}

/* --- mode pages --- */

struct mode_page {
    u8 size;
    u8 bytes[22];
};

#define PAGE_CAPABILITIES 0x2a
#define PAGE_ALL          0x3f
#define CAPABILITIES_LOCK 6 /* byte with the lock's state */

/* Each with its code and its length in front. */
static const struct mode_page pages[] = {
    {8, {0x01, 6, 0, 5}},                   /* read error recovery: 5 tries */
    {8, {0x0d, 6, 0, 0, 0, 60, 0, FRAMES}}, /* CD-ROM: seconds, frames */
    {16, {0x0e, 14, 4, 0, 0, 0, 0, 75}},    /* audio control */
    {22,
     {PAGE_CAPABILITIES,
      20, /* */
      0x3b,
      0, /* reads CD-R, CD-RW, method 2, DVD-ROM, DVD-R */
      0x71,
      0x60,
      0x29,
      0, /* multi-session; a tray; eject, lock */
      2,
      0xc2,
      0,
      2,
      2,
      0,
      2,
      0xc2,
      0,
      0, /* 706 KB/s, 512 KB buffer */
      0,
      0,
      0,
      0}},
};

static u32 put_pages(const struct ide_unit *u, u8 *b, u8 code, bool changeable)
{
    u32 n = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(pages); i++) {
        const struct mode_page *page = &pages[i];
        if (code != PAGE_ALL && code != page->bytes[0])
            continue;
        memcpy(b + n, page->bytes, changeable ? 2 : page->size);
        if (page->bytes[0] == PAGE_CAPABILITIES && !changeable && u->locked)
            b[n + CAPABILITIES_LOCK] |= 2;
        n += page->size;
    }
    return n;
}

/* Both forms; nothing can be changed, and nothing is saved. */
void packet_mode_sense(struct ide_channel *c)
{
    const struct ide_unit *u = c->active;
    const u8 *p = c->atapi.packet;
    bool six = p[0] == 0x1a;
    unsigned control = p[2] >> 6, header = six ? 4 : 8;
    u8 *b = clear(c, 128);
    u32 n = put_pages(u, b + header, p[2] & 0x3f, control == 1);
    if (control == 3) {
        atapi_error(c, SENSE_ILLEGAL, ASC_NOT_SAVED, 0);
        return;
    }
    if (!n) {
        invalid_field(c);
        return;
    }
    n += header;
    store_be(b, six ? n - 1 : n - 2, six ? 1 : 2);
    b[six ? 1 : 2] = u->tray_open ? 0x71 : u->block ? 0x01 : 0x70;
    atapi_reply(c, n, six ? p[4] : load_be(p + 7, 2));
}

/* --- configuration --- */

#define FEATURE_PERSISTENT 0x02
#define FEATURE_CURRENT    0x01

static const struct feature {
    u16 code;
    u16 profile; /* with which it is current; 0: always; ANY: with any medium */
    u8 version;
    u8 size;
    u8 data[8];
} features[] = {
#define ANY 0xffff
    {0x0000, 0, 0, 8, {0, PROFILE_DVD, 0, 0, 0, PROFILE_CD, 0, 0}}, /* profiles */
    {0x0001, 0, 0, 4, {0, 0, 0, 2}},                                /* core: ATAPI */
    {0x0003, 0, 0, 4, {0x29, 0, 0, 0}},                             /* a tray; eject, lock */
    {0x0010, ANY, 0, 8, {0, 0, CD_SECTOR >> 8, 0, 0, 1, 0, 0}},     /* random reads */
    {0x001e, PROFILE_CD, 2, 4, {0}},                                /* reads CDs */
    {0x001f, PROFILE_DVD, 0, 0, {0}},                               /* reads DVDs */
    {0x0100, 0, 0, 0, {0}},                                         /* power management */
};

static bool is_current(const struct feature *f, u16 now)
{
    return !f->profile || f->profile == now || (f->profile == ANY && now);
}

static u32 put_feature(u8 *b, const struct feature *f, u16 now)
{
    store_be(b, f->code, 2);
    b[2] = (u8)(f->version << 2 | (f->profile ? 0 : FEATURE_PERSISTENT) |
                (is_current(f, now) ? FEATURE_CURRENT : 0));
    b[3] = f->size;
    memcpy(b + 4, f->data, f->size);
    for (unsigned i = 0; f->code == 0 && i < f->size; i += 4)
        b[4 + i + 2] = now && load_be(b + 4 + i, 2) == now;
    return 4U + f->size;
}

/* Requested: 0 all features from a number on, 1 those that are current, 2 only that one. */
void packet_get_configuration(struct ide_channel *c)
{
    const u8 *p = c->atapi.packet;
    unsigned requested = p[1] & 3;
    u32 from = load_be(p + 2, 2), n = 8;
    u16 now = profile(c->active);
    u8 *b = clear(c, 128);
    if (requested == 3) {
        invalid_field(c);
        return;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(features); i++) {
        const struct feature *f = &features[i];
        bool wanted = requested == 2 ? f->code == from : f->code >= from;
        if (wanted && (requested != 1 || is_current(f, now)))
            n += put_feature(b + n, f, now);
    }
    store_be(b, n - 4, 4);
    store_be(b + 6, now, 2);
    atapi_reply(c, n, load_be(p + 7, 2));
}

#define EVENTS_MEDIA 4 /* class: its number, and its bit is 1 << 4 */

/* Only polled, and only media events; each is told once (MMC-3, 6.6). */
void packet_event_status(struct ide_channel *c)
{
    struct ide_unit *u = c->active;
    const u8 *p = c->atapi.packet;
    u8 *b = clear(c, 8);
    u32 n = 4;
    if (!(p[1] & 1)) {
        invalid_field(c);
        return;
    }
    b[2] = 0x80; /* no event of these classes */
    b[3] = 1 << EVENTS_MEDIA;
    if (p[4] & 1 << EVENTS_MEDIA) {
        n = 8;
        b[2] = EVENTS_MEDIA;
        b[4] = u->media_event;
        b[5] = u->tray_open ? 1 : u->block ? 2 : 0;
        u->media_event = 0;
    }
    store_be(b, n - 2, 2);
    atapi_reply(c, n, load_be(p + 7, 2));
}

/* --- the medium --- */

void packet_disc_information(struct ide_channel *c)
{
    const u8 *p = c->atapi.packet;
    u8 *b = clear(c, 34);
    if (p[1] & 7) {
        invalid_field(c);
        return;
    }
    store_be(b, 32, 2);
    b[2] = 0x0e;                   /* closed session on a closed disc */
    b[3] = b[4] = b[5] = b[6] = 1; /* first track, sessions, last session's tracks */
    b[7] = 0x20;                   /* unrestricted use */
    memset(b + 16, 0xff, 8);       /* nothing can be added */
    atapi_reply(c, 34, load_be(p + 7, 2));
}

/* Formats 0 (physical), 1 (copyright) and 4 (manufacturer) of a one-layer DVD-ROM. */
void packet_dvd_structure(struct ide_channel *c)
{
    const struct ide_unit *u = c->active;
    const u8 *p = c->atapi.packet;
    u8 *b = clear(c, 4 + CD_SECTOR);
    u32 n = 4 + CD_SECTOR;
    if (profile(u) != PROFILE_DVD) {
        atapi_error(c, SENSE_ILLEGAL, ASC_INCOMPATIBLE, 0);
        return;
    }
    if (p[1] & 0xf || p[6] || (p[7] != 0 && p[7] != 1 && p[7] != 4)) {
        invalid_field(c);
        return;
    }
    if (p[7] == 0) {
        u32 first = 0x30000, last = first + (u32)atapi_sectors(u) - 1;
        b[4] = 1;    /* DVD-ROM, version 1 */
        b[5] = 0x0f; /* 120 mm */
        b[6] = 1;    /* one layer, embossed */
        store_be(b + 8, first, 4);
        store_be(b + 12, last, 4);
    } else if (p[7] == 1) {
        n = 8;
    }
    store_be(b, n - 2, 2);
    atapi_reply(c, n, load_be(p + 8, 2));
}

void packet_mechanism_status(struct ide_channel *c)
{
    u8 *b = clear(c, 8);
    b[1] = c->active->tray_open ? 0x10 : 0;
    atapi_reply(c, 8, load_be(c->atapi.packet + 8, 2));
}
