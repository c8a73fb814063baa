/*
 * The slow paths of linear accesses: TLB misses, page crossings, devices, ROM, alignment checks,
 * data breakpoints, stores into decoded code. The order within an access is the architecture's:
 * first every page is translated (and may fault), then alignment is checked, then memory changes.
 */
#include "mem/access.h"

#include "base/timebase.h"
#include "mem/journal.h"

/* An access of at most a page, translated. */
struct span {
    u64 gpa[2];
    unsigned first; /* bytes in the first page; the others are at gpa[1] */
};

static enum tlb_context context_of(const struct vcpu *v, unsigned access)
{
    return access & ACCESS_SYSTEM ? TLB_KERNEL : (enum tlb_context)v->tlb_ctx;
}

/* Linear addresses wrap at 4 GiB outside 64-bit mode. Those that start above it are system
 * accesses of long mode. */
static u64 lin_next(const struct vcpu *v, u64 lin, u64 n)
{
    return v->mode == MODE_LONG64 || lin >> 32 ? lin + n : (u32)(lin + n);
}

static u64 translate(struct vcpu *v, u64 lin, unsigned access)
{
    u64 gpa;
    u32 error;
    if (!tlb_translate(v, lin, access, context_of(v, access), &gpa, &error))
        fault_page(v, lin, error);
    return gpa;
}

static unsigned page_room(u64 lin)
{
    return (unsigned)(PAGE_SIZE - (lin & ~PAGE_MASK));
}

static struct span translate_span(struct vcpu *v, u64 lin, unsigned len, unsigned access)
{
    struct span s = {.first = MIN(len, page_room(lin))};
    s.gpa[0] = translate(v, lin, access);
    if (s.first < len)
        s.gpa[1] = translate(v, lin_next(v, lin, s.first), access);
    return s;
}

static u64 span_gpa(const struct span *s, unsigned i)
{
    return i < s->first ? s->gpa[0] + i : s->gpa[1] + (i - s->first);
}

/* --- what an access by an instruction sets off besides --- */

/* SDM vol. 3, table 6-7: operands up to 8 bytes align to their size, 10 bytes to 8. */
static void check_alignment(struct vcpu *v, u64 lin, unsigned size)
{
    if (!v->align_check)
        return;
    unsigned align = size == 10 ? 8 : size;
    if ((align == 2 || align == 4 || align == 8) && (lin & (align - 1)))
        fault_raise_error(v, VEC_AC, 0);
}

u64 breakpoint_hits(const struct vcpu *v, u64 lin, u64 len, unsigned kinds)
{
    static const u8 length[4] = {1, 2, 8, 4}; /* by LEN; the address is aligned to it */
    u64 dr7 = v->dr[7], hits = 0;
    for (unsigned n = 0; n < 4; n++) {
        u64 size = length[bits(dr7, 19 + 4 * n, 18 + 4 * n)];
        u64 start = v->dr[n] & ~(size - 1);
        bool enabled = bits(dr7, 2 * n + 1, 2 * n) != 0;
        bool overlaps = lin - start < size || start - lin < len;
        if (enabled && overlaps && (kinds & BIT(bits(dr7, 17 + 4 * n, 16 + 4 * n))))
            hits |= BIT(n);
    }
    return hits;
}

static void note_breakpoints(struct vcpu *v, u64 lin, u64 len, unsigned access)
{
    if (likely(!v->tlb->breakpoints))
        return;
    v->pending_db |= breakpoint_hits(v, lin, len, access & ACCESS_WRITE ? BIT(1) | BIT(3) : BIT(3));
}

/* Translates for an access of `len` bytes and does all else that comes before it. */
static struct span begin_access(struct vcpu *v, u64 lin, unsigned len, unsigned access)
{
    struct span s = translate_span(v, lin, len, access);
    if (!(access & ACCESS_SYSTEM)) {
        check_alignment(v, lin, len);
        note_breakpoints(v, lin, len, access);
    }
    return s;
}

/* --- physical memory and devices, counted --- */

static void count_device(struct vcpu *v, enum stat_id which, u64 start_tsc)
{
    stat_inc(&v->stats, which);
    if (v->machine->time)
        stat_add(&v->stats, STAT_TIME_DEVICE_NS,
                 timebase_tsc_to_host_ns(v->machine->time, host_tsc() - start_tsc));
}

static u64 phys_read(struct vcpu *v, u64 gpa, unsigned size)
{
    const u8 *p = guestmem_hva(v->tlb->mem, gpa, size, false);
    if (p)
        return ram_load(p, size);
    journal_device(v);
    bool device = false;
    u64 start = host_tsc();
    u64 value = guestmem_load(v->tlb->mem, gpa, size, &device);
    if (device)
        count_device(v, STAT_MMIO_READ, start);
    return value;
}

static void phys_write(struct vcpu *v, u64 gpa, u64 value, unsigned size)
{
    u8 *p = guestmem_hva(v->tlb->mem, gpa, size, true);
    if (p) {
        journal_store(v, p, size);
        ram_store(p, value, size);
        ram_written(v, p, size);
        return;
    }
    journal_device(v);
    bool device = false;
    u64 start = host_tsc();
    guestmem_store(v->tlb->mem, gpa, value, size, &device);
    if (device)
        count_device(v, STAT_MMIO_WRITE, start);
}

void ram_written_slow(struct vcpu *v, u64 off, unsigned len)
{
    if (!code_written_ram(v->tlb->mem, off, len))
        return;
    stat_inc(&v->stats, STAT_CODE_WRITE);
    v->code_written = 1;
}

/* The largest access at gpa that is a power of two, at most n and 8, and aligned. */
static unsigned chunk_size(u64 gpa, unsigned n)
{
    unsigned size = 8;
    while (size > n || (gpa & (size - 1)))
        size /= 2;
    return size;
}

static void phys_read_bytes(struct vcpu *v, u64 gpa, u8 *buf, unsigned len)
{
    const u8 *p = guestmem_hva(v->tlb->mem, gpa, len, false);
    if (likely(p)) {
        memcpy(buf, p, len);
        return;
    }
    for (unsigned n; len; gpa += n, buf += n, len -= n) {
        n = chunk_size(gpa, len);
        store_le(buf, phys_read(v, gpa, n), n);
    }
}

static void phys_write_bytes(struct vcpu *v, u64 gpa, const u8 *buf, unsigned len)
{
    u8 *p = guestmem_hva(v->tlb->mem, gpa, len, true);
    if (likely(p)) {
        journal_store(v, p, len);
        memcpy(p, buf, len);
        if (len)
            ram_written(v, p, len);
        return;
    }
    for (unsigned n; len; gpa += n, buf += n, len -= n) {
        n = chunk_size(gpa, len);
        phys_write(v, gpa, load_le(buf, n), n);
    }
}

/* --- single values --- */

static u64 read_value(struct vcpu *v, u64 lin, unsigned size, unsigned access)
{
    struct span s = begin_access(v, lin, size, access);
    if (likely(s.first == size))
        return phys_read(v, s.gpa[0], size);
    u64 value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= phys_read(v, span_gpa(&s, i), 1) << (8 * i);
    return value;
}

static void write_value(struct vcpu *v, u64 lin, u64 value, unsigned size, unsigned access)
{
    struct span s = begin_access(v, lin, size, access);
    if (likely(s.first == size)) {
        phys_write(v, s.gpa[0], value, size);
        return;
    }
    for (unsigned i = 0; i < size; i++)
        phys_write(v, span_gpa(&s, i), value >> (8 * i), 1);
}

u64 lin_read_slow(struct vcpu *v, u64 lin, unsigned size)
{
    return read_value(v, lin, size, ACCESS_READ);
}

void lin_write_slow(struct vcpu *v, u64 lin, u64 value, unsigned size)
{
    write_value(v, lin, value, size, ACCESS_WRITE);
}

u64 lin_read_system(struct vcpu *v, u64 lin, unsigned size)
{
    const struct tlb_entry *e = tlb_entry(v, TLB_KERNEL, lin);
    if (likely(tlb_hit(e->read, lin, size)))
        return ram_load(tlb_hva(e, lin), size);
    return read_value(v, lin, size, ACCESS_READ | ACCESS_SYSTEM);
}

void lin_write_system(struct vcpu *v, u64 lin, u64 value, unsigned size)
{
    write_value(v, lin, value, size, ACCESS_WRITE | ACCESS_SYSTEM);
}

/* --- any length --- */

void lin_read_bytes(struct vcpu *v, u64 lin, void *buf, unsigned len)
{
    u8 *to = buf;
    for (unsigned n; len; lin = lin_next(v, lin, n), to += n, len -= n) {
        n = (unsigned)MIN(len, PAGE_SIZE);
        struct span s = begin_access(v, lin, n, ACCESS_READ);
        phys_read_bytes(v, s.gpa[0], to, s.first);
        if (s.first < n)
            phys_read_bytes(v, s.gpa[1], to + s.first, n - s.first);
    }
}

void lin_write_bytes(struct vcpu *v, u64 lin, const void *buf, unsigned len)
{
    const u8 *from = buf;
    if (len > PAGE_SIZE)
        lin_probe(v, lin, len, ACCESS_WRITE);
    for (unsigned n; len; lin = lin_next(v, lin, n), from += n, len -= n) {
        n = (unsigned)MIN(len, PAGE_SIZE);
        struct span s = begin_access(v, lin, n, ACCESS_WRITE);
        phys_write_bytes(v, s.gpa[0], from, s.first);
        if (s.first < n)
            phys_write_bytes(v, s.gpa[1], from + s.first, n - s.first);
    }
}

void lin_probe(struct vcpu *v, u64 lin, unsigned len, enum access access)
{
    u64 at = lin;
    for (unsigned left = len, n; left; at = lin_next(v, at, n), left -= n) {
        n = MIN(left, page_room(at));
        translate(v, at, access);
    }
    if (!(access & ACCESS_SYSTEM))
        check_alignment(v, lin, len);
}

/* --- read-modify-write, block copies --- */

void lin_rmw_begin_slow(struct vcpu *v, u64 lin, unsigned size, struct lin_rmw *rmw)
{
    struct span s = begin_access(v, lin, size, ACCESS_READ | ACCESS_WRITE);
    rmw->size = size;
    rmw->lin = lin;
    rmw->p = s.first == size ? guestmem_hva(v->tlb->mem, s.gpa[0], size, true) : NULL;
    rmw->direct = rmw->p != NULL;
    if (rmw->direct) {
        journal_store(v, rmw->p, size);
        return;
    }
    rmw->p = rmw->bounce;
    phys_read_bytes(v, s.gpa[0], rmw->bounce, s.first);
    if (s.first < size)
        phys_read_bytes(v, s.gpa[1], rmw->bounce + s.first, size - s.first);
}

void lin_rmw_end_slow(struct vcpu *v, struct lin_rmw *rmw)
{
    lin_write_bytes(v, rmw->lin, rmw->bounce, rmw->size);
}

void *lin_direct(struct vcpu *v, u64 lin, enum access access, unsigned *room, u64 *gpa)
{
    const struct tlb_entry *e = tlb_entry(v, context_of(v, access), lin);
    u64 tag = access & ACCESS_WRITE ? e->write_any : e->read;
    *room = page_room(lin);
    if (likely(tlb_hit(tag, lin, 1) && tlb_ram_gpa(v->tlb, tlb_hva(e, lin), gpa)))
        return tlb_hva(e, lin);
    *gpa = translate(v, lin, access);
    if (!(access & ACCESS_SYSTEM) && (v->tlb->breakpoints || v->align_check))
        return NULL;
    return guestmem_hva(v->tlb->mem, *gpa, *room, access & ACCESS_WRITE);
}

/* --- code --- */

u64 lin_exec_gpa_slow(struct vcpu *v, u64 lin)
{
    return translate(v, lin, ACCESS_EXEC);
}

unsigned lin_fetch(struct vcpu *v, u64 lin, u8 *buf, unsigned n, bool cross, u64 *gpa)
{
    unsigned first = MIN(n, page_room(lin));
    *gpa = lin_exec_gpa(v, lin);
    phys_read_bytes(v, *gpa, buf, first);
    if (first == n || !cross)
        return first;
    u64 second;
    u32 error;
    if (!tlb_translate(v, lin_next(v, lin, first), ACCESS_EXEC, (enum tlb_context)v->tlb_ctx,
                       &second, &error))
        return first;
    phys_read_bytes(v, second, buf + first, n - first);
    return n;
}
