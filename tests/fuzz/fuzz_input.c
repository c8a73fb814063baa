/*
 * The keyboard controller with keyboard and mouse: a guest that gives random commands, sensible and
 * not, a user who types and moves, and time. Interrupts and status must agree, and what waits for
 * the guest must come to an end.
 *
 *   fuzz_input [--seed N] [--runs N]
 */
#include "dev/i8042.h"
#include "device.h"

#define DATA 0x60
#define CMD  0x64

struct input_rig {
    struct device_rig r;
    struct i8042 *k;
    struct input_sink sink;
};

static void controller(struct device_rig *r)
{
    static const u8 commands[] = {0x20, 0x60, 0xa4, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xad, 0xae, 0xc0,
                                  0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xdd, 0xdf, 0xe0, 0xf0, 0xfe};
    rig_out(r, CMD, commands[rnd_below(&r->rng, sizeof(commands))]);
    if (one_in(&r->rng, 2))
        rig_out(r, DATA, (u8)rnd(&r->rng));
}

static void keyboard(struct device_rig *r)
{
    rig_out(r, DATA, 0xed + rnd_below(&r->rng, 0x13));
    if (one_in(&r->rng, 2))
        rig_out(r, DATA, rnd_below(&r->rng, one_in(&r->rng, 2) ? 4 : 0x100));
}

static void mouse(struct device_rig *r)
{
    static const u8 rates[] = {10, 20, 40, 60, 80, 100, 200, 0, 3};
    rig_out(r, CMD, 0xd4);
    rig_out(r, DATA, 0xe6 + rnd_below(&r->rng, 0x1a));
    if (one_in(&r->rng, 2))
        return;
    rig_out(r, CMD, 0xd4);
    rig_out(r, DATA, rates[rnd_below(&r->rng, sizeof(rates))]);
}

/* The knock that makes it a mouse with a wheel, or five buttons. */
static void knock(struct device_rig *r)
{
    const u8 rates[] = {200, one_in(&r->rng, 2) ? 200 : 100, 80};
    for (unsigned i = 0; i < sizeof(rates); i++) {
        rig_out(r, CMD, 0xd4);
        rig_out(r, DATA, 0xf3);
        rig_out(r, CMD, 0xd4);
        rig_out(r, DATA, rates[i]);
    }
}

static void user(struct input_rig *t)
{
    struct rng *rng = &t->r.rng;
    u64 v = rnd(rng);
    if (one_in(rng, 2))
        t->sink.pointer(t->sink.ctx, (int)(i8)v, one_in(rng, 8) ? (int)v : (int)(v >> 8 & 7),
                        (int)(v >> 16 & 3) - 1, one_in(rng, 4) ? (unsigned)(v >> 32) : 0);
    else if (one_in(rng, 16))
        t->sink.key(t->sink.ctx, (unsigned)v, v >> 63);
    else if (one_in(rng, 8))
        t->sink.key(t->sink.ctx, one_in(rng, 2) ? KEY_PAUSE : 0xe037, v >> 63);
    else
        t->sink.key(t->sink.ctx, (v & 0x7f) | (v >> 8 & 1 ? 0xe000 : 0), v >> 63);
}

static void drain(struct device_rig *r)
{
    unsigned bytes = 0;
    while (rig_in(r, CMD) & 1) {
        rig_in(r, DATA);
        check(++bytes < 3000, "the controller always has another byte");
    }
}

static void look(struct device_rig *r)
{
    u8 status = rig_in(r, CMD);
    check(!(status & 0x02), "input buffer full");
    check(!r->level[0] || (status & 0x21) == 0x01, "keyboard interrupt without a byte");
    check(!r->level[1] || (status & 0x21) == 0x21, "mouse interrupt without a byte");
}

static void operation(struct input_rig *t)
{
    struct device_rig *r = &t->r;
    switch (rnd_below(&r->rng, 12)) {
    case 0:
        rig_access(r, one_in(&r->rng, 2) ? DATA : CMD);
        break;
    case 1:
        controller(r);
        break;
    case 2:
        keyboard(r);
        break;
    case 3:
        mouse(r);
        break;
    case 4:
        if (one_in(&r->rng, 4))
            knock(r);
        break;
    case 5:
        clock_advance(r->clock, rnd_below(&r->rng, one_in(&r->rng, 4) ? 2000000000 : 20000000));
        break;
    case 6:
        drain(r);
        break;
    case 7:
        if (one_in(&r->rng, 100))
            i8042_reset(t->k);
        else if (one_in(&r->rng, 4))
            rig_out(r, CMD, 0x60), rig_out(r, DATA, 0x47);
        break;
    case 8:
        rig_in(r, DATA);
        break;
    default:
        user(t);
        break;
    }
    look(r);
}

static void run(u64 seed)
{
    struct input_rig t;
    struct error err;
    rig_create(&t.r, seed);
    check(i8042_create(&t.r.power, t.r.clock, rig_line(&t.r, 0), rig_line(&t.r, 1), &t.k, &err) ==
                  0 &&
              i8042_attach(t.k, t.r.bus, &err) == 0,
          "no controller");
    t.sink = i8042_input(t.k);
    for (unsigned i = 0; i < OPERATIONS; i++)
        operation(&t);
    drain(&t.r);
    rig_out(&t.r, CMD, 0xaa);
    check(rig_in(&t.r, DATA) == 0x55, "the self test fails");
    i8042_destroy(t.k);
    rig_destroy(&t.r);
}

int main(int argc, char **argv)
{
    return fuzz_main(argc, argv, "fuzz_input", run);
}
