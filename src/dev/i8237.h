/*
 * The two 8237A DMA controllers of an AT and their page registers (Intel's 8237A data sheet;
 * 82371SB PIIX3 data sheet, 2.5.1): channels 0 to 3 move bytes, channels 5 to 7 words, channel 4
 * connects the two. Port 0x80, a page register that nothing uses, is left free: programs write to
 * it as to a place where nothing happens.
 */
#ifndef RINGER_DEV_I8237_H
#define RINGER_DEV_I8237_H

#include "base/error.h"
#include "mem/guestmem.h"
#include "mem/portbus.h"

struct i8237;

int i8237_create(struct guest_mem *mem, struct i8237 **out, struct error *err);
void i8237_destroy(struct i8237 *d);
int i8237_attach(struct i8237 *d, struct port_bus *bus, struct error *err);
void i8237_reset(struct i8237 *d);

/* A device on a channel (not 4): ready(ctx) is called, without a lock, each time when the guest has
 * done what may let the channel transfer. Before the guest runs. */
void i8237_connect(struct i8237 *d, unsigned channel, void (*ready)(void *ctx), void *ctx);

/* The device on this channel offers (to_memory) or wants up to len bytes; on channels 5 to 7 an
 * even number. Returns how many the controller moved: less than len, if the channel is masked or
 * its count has ended (terminal count: *tc). If the guest programmed the other direction or a
 * verification, they count as moved, but memory stays as it is, and a device that wants bytes gets
 * 0xff; so it is where there is no RAM. The device may hold its lock. */
unsigned i8237_transfer(struct i8237 *d, unsigned channel, void *buf, unsigned len, bool to_memory,
                        bool *tc);

#endif
