/*
 * Random accesses to the VGA: its ports, its window, the frame buffer and the registers in PCI
 * space, the Bochs extensions with values that are sensible, odd or absurd, PCI configuration, and
 * time; in between the screen is drawn, as a picture and as text. What must not happen is a crash,
 * a hang, a sanitizer's report, or a picture that is larger than allowed.
 *
 *   fuzz_vga [--seed N] [--runs N]     OPERATIONS for each run
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "dev/pci.h"
#include "dev/vga.h"
#include "fuzz.h"
#include "host/clock.h"

#define OPERATIONS 2000
#define DEVFN      PCI_DEVFN(2, 0)
#define LFB        0xe0000000ULL
#define BAR2       0xe1000000ULL

struct totals {
    u64 operations, draws, texts, sizes;
};

struct target {
    struct port_bus *ports;
    struct guest_mem *mem;
    struct clock *clock;
    struct reset_ports *reset;
    struct pci_bus *pci;
    struct vga *vga;
    struct display_source display;
    struct screen screen;
    struct text_screen text;
};

static u64 run_seed;

static void say_seed(void)
{
    printf("not ok fuzz_vga: --seed %llu --runs 1\n", (unsigned long long)run_seed);
    fflush(stdout);
}

static void check(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "%s\n", what);
    say_seed();
    exit(1);
}

#ifdef __SANITIZE_ADDRESS__
void __sanitizer_set_death_callback(void (*callback)(void));
#endif

static void nothing(void *ctx)
{
    (void)ctx;
}

static void create(struct target *t)
{
    static const struct power_ops ops = {.power_off = nothing, .reset = nothing};
    const struct power power = {&ops, NULL};
    struct error err = {""};
    memset(t, 0, sizeof(*t));
    t->clock = clock_create_manual();
    check(guestmem_create(2 * MIB, &t->mem, &err) == 0 && portbus_create(&t->ports, &err) == 0 &&
              reset_ports_create(&power, &t->reset, &err) == 0 &&
              pci_create(t->reset, &t->pci, &err) == 0 && pci_attach(t->pci, t->ports, &err) == 0 &&
              vga_create(t->mem, t->clock, &t->vga, &err) == 0 &&
              vga_attach(t->vga, t->ports, t->pci, DEVFN, &err) == 0,
          "the machine can't be made");
    t->display = vga_display(t->vga);
}

static void destroy(struct target *t)
{
    free(t->screen.pixels);
    free(t->text.cell);
    vga_destroy(t->vga);
    pci_destroy(t->pci);
    reset_ports_destroy(t->reset);
    portbus_destroy(t->ports);
    guestmem_destroy(t->mem);
    clock_destroy(t->clock);
}

static unsigned random_size(struct rng *r)
{
    return 1U << rnd_below(r, 3);
}

static void out(struct target *t, unsigned port, u32 value, unsigned size)
{
    port_out(t->ports, (u16)port, value, size);
}

/* An index and its data, most often of a register that there is. */
static void set_register(struct target *t, struct rng *r)
{
    static const struct {
        u16 port;
        u8 count;
    } groups[] = {{0x3c4, 5}, {0x3ce, 9}, {0x3d4, 25}, {0x3b4, 25}, {0x3c0, 21}};
    unsigned n = (unsigned)rnd_below(r, ARRAY_SIZE(groups));
    unsigned index = (unsigned)(one_in(r, 20) ? rnd_below(r, 256) : rnd_below(r, groups[n].count));
    if (groups[n].port != 0x3c0) {
        out(t, groups[n].port, (u32)(index | (rnd(r) & 0xff) << 8), 2);
        return;
    }
    port_in(t->ports, 0x3da, 1);
    out(t, 0x3c0, index, 1);
    out(t, 0x3c0, rnd(r) & 0xff, 1);
    out(t, 0x3c0, 0x20, 1);
}

/* A picture of 80x25 characters or 640x400 pixels, of any kind. */
static void set_mode(struct target *t, struct rng *r)
{
    static const u8 crtc[25] = {0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0,
                                0x4f, 0x0d, 0x0e, 0,    0,    0,    80,   0x9c, 0x0e,
                                0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff};
    static const u8 misc[] = {0x0e, 0x0e, 0x05, 0x0f, 0x0d}, modes[] = {0x10, 0x00, 0x20, 0x40};
    out(t, 0x1ce, 4, 2);
    out(t, 0x1cf, 0, 2);
    out(t, 0x3c2, 0x67, 1);
    out(t, 0x3d4, 0x11, 2);
    for (unsigned i = 0; i < ARRAY_SIZE(crtc); i++)
        out(t, 0x3d4, i | crtc[i] << 8, 2);
    out(t, 0x3c4, 1 | (one_in(r, 2) ? 0x000 : 0x100), 2);
    out(t, 0x3c4, 4 | (one_in(r, 2) ? 0x200 : 0xe00), 2);
    out(t, 0x3ce, 5 | modes[rnd_below(r, 4)] << 8, 2);
    out(t, 0x3ce, 6 | misc[rnd_below(r, 5)] << 8, 2);
    port_in(t->ports, 0x3da, 1);
    out(t, 0x3c0, 0x20, 1);
}

static void any_port(struct target *t, struct rng *r)
{
    unsigned port = (unsigned)(0x3b0 + rnd_below(r, 0x32));
    if (one_in(r, 3))
        port_in(t->ports, (u16)port, random_size(r));
    else
        out(t, port, (u32)rnd(r), random_size(r));
}

static void set_dispi(struct target *t, struct rng *r)
{
    static const u16 sensible[][4] = {
        {640, 800, 1024, 1280}, {480, 600, 768, 200}, {4, 8, 16, 32},
        {0x41, 0x61, 0xc1, 0},  {0, 1, 15, 255},      {640, 1024, 2048, 0},
        {0, 0, 0, 0},           {0, 8, 3, 1000},      {0, 1, 100, 1000}};
    unsigned index = (unsigned)rnd_below(r, 12);
    u16 value = (u16)rnd(r);
    if (index >= 1 && index <= 9 && !one_in(r, 4))
        value = sensible[index - 1][rnd_below(r, 4)];
    if (one_in(r, 4)) {
        guestmem_store(t->mem, BAR2 + 0x500 + 2 * index, value, 2, NULL);
        return;
    }
    out(t, 0x1ce, index, 2);
    if (one_in(r, 4))
        port_in(t->ports, 0x1cf, 2);
    else
        out(t, one_in(r, 4) ? 0x1d0 : 0x1cf, value, one_in(r, 10) ? 4 : 2);
}

static u64 random_address(struct rng *r)
{
    switch (rnd_below(r, 8)) {
    case 0:
        return LFB + rnd_below(r, 16 * MIB - 8);
    case 1:
        return BAR2 + rnd_below(r, PAGE_SIZE);
    case 2:
        return BAR2 + 0x400 + rnd_below(r, 0x210);
    case 3:
        return 0xa0000 + rnd_below(r, 0x20000);
    default: /* the same places again and again */
        return (one_in(r, 2) ? 0xa0000 : 0xb8000) + rnd_below(r, 64);
    }
}

/* Accesses of vCPUs do not cross pages. */
static void access_memory(struct target *t, struct rng *r)
{
    unsigned size = 1U << rnd_below(r, 4);
    u64 gpa = random_address(r) & ~(u64)(size - 1);
    for (u64 n = one_in(r, 10) ? 20 : 1; n > 0; n--) {
        if (one_in(r, 3))
            guestmem_load(t->mem, gpa, size, NULL);
        else
            guestmem_store(t->mem, gpa, rnd(r), size, NULL);
    }
}

static void configure_pci(struct target *t, struct rng *r)
{
    static const u32 values[] = {LFB, BAR2, 0xffffffff, 0, 0xa0000};
    out(t, 0xcf8, (u32)(0x80000000U | DEVFN << 8 | (4 * rnd_below(r, 16))), 4);
    out(t, 0xcfc, one_in(r, 2) ? values[rnd_below(r, ARRAY_SIZE(values))] : (u32)rnd(r), 4);
}

static void place_bars(struct target *t)
{
    static const u32 config[][2] = {{0x10, LFB}, {0x18, BAR2}, {0x04, 2}};
    for (unsigned i = 0; i < ARRAY_SIZE(config); i++) {
        out(t, 0xcf8, 0x80000000U | DEVFN << 8 | config[i][0], 4);
        out(t, 0xcfc, config[i][1], 4);
    }
}

static void look(struct target *t, struct rng *r, struct totals *totals)
{
    struct screen *s = &t->screen;
    unsigned width = s->width, height = s->height;
    bool changed = t->display.draw(t->display.ctx, s);
    check(s->pixels && s->width && s->height && s->width <= SCREEN_MAX_WIDTH &&
              s->height <= SCREEN_MAX_HEIGHT,
          "a picture of a wrong size");
    check(changed == (s->top < s->bottom) && s->bottom <= s->height, "changed rows outside");
    totals->draws++;
    totals->sizes += s->width != width || s->height != height;
    if (one_in(r, 2) && t->display.text(t->display.ctx, &t->text)) {
        const struct text_screen *x = &t->text;
        check(x->columns && x->rows && x->cursor < (int)(x->columns * x->rows) && x->cursor >= -1,
              "a cursor outside of the text");
        totals->texts++;
    }
}

static void operation(struct target *t, struct rng *r, struct totals *totals)
{
    switch (rnd_below(r, 16)) {
    case 0 ... 3:
        set_register(t, r);
        break;
    case 4 ... 5:
        any_port(t, r);
        break;
    case 6:
        set_dispi(t, r);
        break;
    case 7:
        clock_advance(t->clock, rnd_below(r, 20000000));
        break;
    default:
        access_memory(t, r);
    }
    if (one_in(r, 200))
        look(t, r, totals);
    if (one_in(r, 100))
        out(t, 0x3c2, rnd(r) & 1 ? 0x63 : (u32)rnd(r), 1);
    if (one_in(r, 300))
        set_mode(t, r);
    if (one_in(r, 500))
        configure_pci(t, r);
    if (one_in(r, 500))
        place_bars(t);
    if (one_in(r, 2000))
        vga_reset(t->vga);
    totals->operations++;
}

static void run(u64 seed, struct totals *totals)
{
    struct rng r = {seed};
    struct target t;
    run_seed = seed;
    create(&t);
    place_bars(&t);
    for (unsigned i = 0; i < OPERATIONS; i++)
        operation(&t, &r, totals);
    destroy(&t);
}

int main(int argc, char **argv)
{
    u64 seed = 1, runs = 500;
    struct totals totals = {0};
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seed") == 0)
            seed = strtoull(argv[i + 1], NULL, 0);
        else if (strcmp(argv[i], "--runs") == 0)
            runs = strtoull(argv[i + 1], NULL, 0);
    }
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_set_death_callback(say_seed);
#endif
    for (u64 i = 0; i < runs; i++)
        run(seed + i, &totals);
    printf("# %llu operations, %llu pictures of %llu sizes, %llu texts\n",
           (unsigned long long)totals.operations, (unsigned long long)totals.draws,
           (unsigned long long)totals.sizes, (unsigned long long)totals.texts);
    printf("ok fuzz_vga\n");
    return 0;
}
