/*
 * Interrupt routing of an i440FX board. A device's pin goes to I/O APIC pin PC_PCI_GSI + (device +
 * pin) % 4, and to PIRQ (device - 1 + pin) % 4, which a register of the PIIX3 leads to one of the
 * PICs' inputs. Any number of pins share a line: it is high while one of them is.
 */
#include "dev/pirq.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "dev/pcmap.h"

#define LINES   4
#define DEVICES 32

#define ROUTE_OFF 0x80

struct pirq {
    pthread_mutex_t lock;  /* of the state below */
    pthread_mutex_t order; /* held while wires are pulled: their levels come in order */
    struct irq_line isa, gsi;
    u32 asserted[LINES]; /* by pin of the device: bit n is device n's */
    u8 route[LINES];
    u32 gsi_level, isa_level; /* as they were pulled */
};

static u32 wanted_gsi(const struct pirq *p)
{
    u32 level = 0;
    for (unsigned pin = 0; pin < LINES; pin++)
        for (unsigned dev = 0; dev < DEVICES; dev++)
            if (p->asserted[pin] & BIT(dev))
                level |= 1u << (dev + pin) % LINES;
    return level;
}

/* gsi: the four lines as the I/O APIC sees them; the PIIX3 numbers them from one further. */
static u32 wanted_isa(const struct pirq *p, u32 gsi)
{
    u32 level = 0;
    for (unsigned n = 0; n < LINES; n++)
        if (gsi & 1u << (n + 1) % LINES && !(p->route[n] & ROUTE_OFF))
            level |= 1u << (p->route[n] & 15);
    return level;
}

static void pull(const struct irq_line *line, unsigned first, u32 from, u32 to)
{
    for (u32 changed = from ^ to; changed; changed &= changed - 1) {
        unsigned n = (unsigned)__builtin_ctz(changed);
        line->set(line->ctx, first + n, to >> n & 1);
    }
}

/* Brings the wires up to date. */
static void update(struct pirq *p)
{
    pthread_mutex_lock(&p->order);
    pthread_mutex_lock(&p->lock);
    u32 gsi = wanted_gsi(p), isa = wanted_isa(p, gsi);
    pthread_mutex_unlock(&p->lock);
    pull(&p->gsi, PC_PCI_GSI, p->gsi_level, gsi);
    pull(&p->isa, 0, p->isa_level, isa);
    p->gsi_level = gsi;
    p->isa_level = isa;
    pthread_mutex_unlock(&p->order);
}

void pirq_set(void *ctx, unsigned n, int level)
{
    struct pirq *p = ctx;
    u32 bit = 1u << n / LINES % DEVICES, *pin = &p->asserted[n % LINES];
    pthread_mutex_lock(&p->lock);
    bool changed = !(*pin & bit) != !level;
    *pin = level ? *pin | bit : *pin & ~bit;
    pthread_mutex_unlock(&p->lock);
    if (changed)
        update(p);
}

void pirq_route(struct pirq *p, unsigned n, u8 value)
{
    assert(n < LINES);
    pthread_mutex_lock(&p->lock);
    p->route[n] = value;
    pthread_mutex_unlock(&p->lock);
    update(p);
}

void pirq_reset(struct pirq *p)
{
    for (unsigned n = 0; n < LINES; n++)
        pirq_route(p, n, ROUTE_OFF);
}

int pirq_create(struct irq_line isa, struct irq_line gsi, struct pirq **out, struct error *err)
{
    struct pirq *p = calloc(1, sizeof(*p));
    if (!p)
        return error_set(err, ENOMEM, "no memory for the interrupt routing");
    p->isa = isa;
    p->gsi = gsi;
    memset(p->route, ROUTE_OFF, sizeof(p->route));
    pthread_mutex_init(&p->lock, NULL);
    pthread_mutex_init(&p->order, NULL);
    *out = p;
    return 0;
}

void pirq_destroy(struct pirq *p)
{
    if (!p)
        return;
    pthread_mutex_destroy(&p->lock);
    pthread_mutex_destroy(&p->order);
    free(p);
}
