/*
 * MSI-X: the table and the pending bits lie in one page.
 */
#include "dev/msix.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define CAP_ID         0x11
#define CAP_CONTROL    2 /* offsets in the capability */
#define CAP_TABLE      4
#define CAP_PENDING    8
#define TABLE_OFFSET   0
#define PENDING_OFFSET 0x800

#define CONTROL_ENABLE 0x8000
#define CONTROL_MASK   0x4000 /* all vectors */

/* An entry of the table (6.8.2.6 to 6.8.2.9). */
struct entry {
    u32 address, address_high, data, control;
};
#define ENTRY_MASKED 0x1

/* Address and data as the local APICs take them (SDM 11.11). */
#define ADDRESS_APIC     0xfee00000U
#define ADDRESS_APIC_ALL 0xfff00000U
#define ADDRESS_LOGICAL  0x4
#define DATA_LEVEL       0x8000

struct msix {
    struct lapic_bus *apics;
    struct mem_region *region;
    pthread_mutex_t lock;
    unsigned vectors;
    _Atomic u16 control;
    u64 pending; /* a bit per vector */
    struct entry entry[MSIX_VECTORS_MAX];
};

/* What is not for the local APICs goes nowhere. With the lock. */
static void deliver(struct msix *m, const struct entry *e)
{
    if (e->address_high || (e->address & ADDRESS_APIC_ALL) != ADDRESS_APIC)
        return;
    lapic_bus_deliver(m->apics, &(struct apic_message){
                                    .dest = (u8)bits(e->address, 19, 12),
                                    .logical = e->address & ADDRESS_LOGICAL,
                                    .delivery = (u8)bits(e->data, 10, 8),
                                    .vector = (u8)e->data,
                                    .level = e->data & DATA_LEVEL,
                                });
}

/* Sends what is pending and not masked. With the lock. */
static void send_pending(struct msix *m)
{
    if ((m->control & (CONTROL_ENABLE | CONTROL_MASK)) != CONTROL_ENABLE)
        return;
    for (unsigned n = 0; n < m->vectors; n++) {
        if (!(m->pending & BIT(n)) || (m->entry[n].control & ENTRY_MASKED))
            continue;
        m->pending &= ~BIT(n);
        deliver(m, &m->entry[n]);
    }
}

bool msix_enabled(struct msix *m)
{
    return m->control & CONTROL_ENABLE;
}

void msix_send(struct msix *m, unsigned vector)
{
    if (vector >= m->vectors)
        return;
    pthread_mutex_lock(&m->lock);
    if (m->control & CONTROL_ENABLE) {
        m->pending |= BIT(vector);
        send_pending(m);
    }
    pthread_mutex_unlock(&m->lock);
}

void msix_control(struct msix *m, u16 control)
{
    pthread_mutex_lock(&m->lock);
    m->control = control;
    if (!(control & CONTROL_ENABLE))
        m->pending = 0;
    send_pending(m);
    pthread_mutex_unlock(&m->lock);
}

/* --- the page --- */

static u64 table_read(void *ctx, u64 off, unsigned size)
{
    struct msix *m = ctx;
    u64 value = 0;
    if (off + size <= m->vectors * sizeof(struct entry))
        value = load_le((u8 *)m->entry + off, size);
    else if (off >= PENDING_OFFSET && off + size <= PENDING_OFFSET + sizeof(m->pending))
        value = m->pending >> 8 * (off - PENDING_OFFSET);
    return value;
}

/* Whole words only (6.8.2). */
static void table_write(void *ctx, u64 off, u64 value, unsigned size)
{
    struct msix *m = ctx;
    if (size < 4 || off % size || off + size > m->vectors * sizeof(struct entry))
        return;
    store_le((u8 *)m->entry + off, value, size);
    send_pending(m);
}

static const struct mmio_ops table_ops = {table_read, table_write};

void msix_describe(const struct msix *m, struct pci_function *f, unsigned at, unsigned bar)
{
    pci_function_memory(f, bar, PAGE_SIZE, m->region);
    pci_function_capability(f, at, CAP_ID);
    store_le(&f->reset[at + CAP_CONTROL], m->vectors - 1, 2);
    store_le(&f->writable[at + CAP_CONTROL], CONTROL_ENABLE | CONTROL_MASK, 2);
    store_le(&f->reset[at + CAP_TABLE], TABLE_OFFSET | bar, 4);
    store_le(&f->reset[at + CAP_PENDING], PENDING_OFFSET | bar, 4);
}

void msix_reset(struct msix *m)
{
    pthread_mutex_lock(&m->lock);
    m->control = 0;
    m->pending = 0;
    for (unsigned n = 0; n < m->vectors; n++)
        m->entry[n] = (struct entry){.control = ENTRY_MASKED};
    pthread_mutex_unlock(&m->lock);
}

int msix_create(struct guest_mem *gm, struct lapic_bus *apics, unsigned vectors, struct msix **out,
                struct error *err)
{
    assert(vectors >= 1 && vectors <= MSIX_VECTORS_MAX);
    struct msix *m = calloc(1, sizeof(*m));
    if (!m)
        return error_set(err, ENOMEM, "no memory for an MSI-X table");
    m->apics = apics;
    m->vectors = vectors;
    pthread_mutex_init(&m->lock, NULL);
    int rc = mem_region_mmio(gm, LAYER_BUS, PAGE_SIZE, &table_ops, m, &m->lock, &m->region, err);
    if (rc < 0) {
        msix_destroy(m);
        return rc;
    }
    msix_reset(m);
    *out = m;
    return 0;
}

void msix_destroy(struct msix *m)
{
    if (!m)
        return;
    pthread_mutex_destroy(&m->lock);
    free(m);
}
