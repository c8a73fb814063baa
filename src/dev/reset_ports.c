/*
 * System control port A and the PIIX3's reset control register (82371SB data sheet, 2.5.4): bit 0
 * of the first and bit 2 of the second reset the machine when they go from 0 to 1.
 */
#include "dev/reset_ports.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "dev/pcmap.h"

#define PORT92_RESET 0x01
#define PORT92_A20   0x02
#define PORT92_KEPT  0xf8 /* bits without a function here: kept as written */

#define CONTROL_SYSTEM 0x02 /* kind of reset */
#define CONTROL_RESET  0x04

struct reset_ports {
    struct power power;
    pthread_mutex_t lock;
    u8 port92;
    u8 control;
};

static u32 port92_in(void *ctx, u16 port, unsigned size)
{
    struct reset_ports *r = ctx;
    (void)port;
    (void)size;
    pthread_mutex_lock(&r->lock);
    u8 value = r->port92;
    pthread_mutex_unlock(&r->lock);
    return value | (r->power.ops->get_a20(r->power.ctx) ? PORT92_A20 : 0);
}

static void port92_out(void *ctx, u16 port, u32 value, unsigned size)
{
    struct reset_ports *r = ctx;
    (void)port;
    (void)size;
    pthread_mutex_lock(&r->lock);
    bool reset = (value & PORT92_RESET) && !(r->port92 & PORT92_RESET);
    r->port92 = value & (PORT92_KEPT | PORT92_RESET);
    pthread_mutex_unlock(&r->lock);
    r->power.ops->set_a20(r->power.ctx, value & PORT92_A20);
    if (reset)
        r->power.ops->reset(r->power.ctx);
}

static const struct port_ops port92_ops = {port92_in, port92_out};

u8 reset_control_read(struct reset_ports *r)
{
    pthread_mutex_lock(&r->lock);
    u8 value = r->control;
    pthread_mutex_unlock(&r->lock);
    return value;
}

void reset_control_write(struct reset_ports *r, u8 value)
{
    pthread_mutex_lock(&r->lock);
    bool reset = (value & CONTROL_RESET) && !(r->control & CONTROL_RESET);
    r->control = value & (CONTROL_SYSTEM | CONTROL_RESET);
    pthread_mutex_unlock(&r->lock);
    if (reset)
        r->power.ops->reset(r->power.ctx);
}

int reset_ports_create(const struct power *power, struct reset_ports **out, struct error *err)
{
    struct reset_ports *r = calloc(1, sizeof(*r));
    if (!r)
        return error_set(err, ENOMEM, "no memory for the reset ports");
    r->power = *power;
    pthread_mutex_init(&r->lock, NULL);
    *out = r;
    return 0;
}

void reset_ports_destroy(struct reset_ports *r)
{
    if (!r)
        return;
    pthread_mutex_destroy(&r->lock);
    free(r);
}

int reset_ports_attach(struct reset_ports *r, struct port_bus *bus, struct error *err)
{
    return portbus_add(bus, PC_PORT92, 1, &port92_ops, r, NULL, false, err);
}

void reset_ports_reset(struct reset_ports *r)
{
    pthread_mutex_lock(&r->lock);
    r->port92 = 0;
    r->control = 0;
    pthread_mutex_unlock(&r->lock);
}
