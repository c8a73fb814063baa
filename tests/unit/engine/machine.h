/*
 * A small machine for engine tests: 4 MiB of RAM, one vCPU, no devices but an interrupt controller
 * that offers one vector. Tests put bytes of code into RAM and run until the vCPU leaves.
 */
#ifndef RINGER_TESTS_ENGINE_MACHINE_H
#define RINGER_TESTS_ENGINE_MACHINE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/timebase.h"
#include "cpu/irq.h"
#include "cpu/model.h"
#include "engine/engine.h"
#include "engine/sem/native.h"
#include "mem/guestmem.h"
#include "mem/portbus.h"
#include "mem/tlb.h"

#define RAM_SIZE (4 * MIB)

struct test_machine {
    struct machine m;
    struct cpu_model model;
    struct timebase time;
    struct vcpu *v;
    u8 *ram;
    int irq; /* vector that is pending, or -1 */
};

/* Puts code or data at an address. */
#define PUT(tm, at, ...)                                                                           \
    do {                                                                                           \
        static const u8 bytes_[] = {__VA_ARGS__};                                                  \
        memcpy((tm)->ram + (at), bytes_, sizeof(bytes_));                                          \
    } while (0)

static inline void put64(struct test_machine *tm, u64 at, u64 value)
{
    store_le(tm->ram + at, value, 8);
}

static inline u64 get(struct test_machine *tm, u64 at, unsigned size)
{
    return load_le(tm->ram + at, size);
}

static inline bool fake_pending(struct vcpu *v)
{
    return *(int *)v->irq_ctx >= 0;
}

static inline int fake_acknowledge(struct vcpu *v)
{
    int *irq = v->irq_ctx, vector = *irq;
    *irq = -1;
    return vector;
}

static inline void fake_write_cr8(struct vcpu *v, u8 cr8)
{
    v->lapic.tpr = (u32)cr8 << 4;
}

static inline bool fake_read_msr(struct vcpu *v, u32 msr, u64 *value)
{
    (void)v, (void)msr, (void)value;
    return false;
}

static inline bool fake_write_msr(struct vcpu *v, u32 msr, u64 value)
{
    (void)v, (void)msr, (void)value;
    return false;
}

static inline void fake_reset(struct vcpu *v, bool init)
{
    (void)v, (void)init;
}

static const struct irq_ops fake_irq = {
    .pending = fake_pending,
    .acknowledge = fake_acknowledge,
    .write_cr8 = fake_write_cr8,
    .read_msr = fake_read_msr,
    .write_msr = fake_write_msr,
    .reset = fake_reset,
};

static inline void raise_irq(struct test_machine *tm, int vector)
{
    tm->irq = vector;
    vcpu_raise(tm->v, EVENT_INTR);
}

static inline int machine_setup(void **state)
{
    struct test_machine *tm = calloc(1, sizeof(*tm));
    struct error err;
    timebase_init(&tm->time);
    struct cpu_model_options opt = {.ncpus = 1, .tsc_hz = tm->time.tsc_hz};
    cpu_model_init(&tm->model, &opt);
    assert_int_equal(guestmem_create(RAM_SIZE, &tm->m.mem, &err), 0);
    assert_int_equal(portbus_create(&tm->m.ports, &err), 0);
    tm->ram = guestmem_ram(tm->m.mem);
    tm->m.time = &tm->time;
    tm->m.model = &tm->model;
    tm->m.ncpus = 1;
    tm->v = cpu_create();
    tm->m.vcpu[0] = tm->v;
    tm->v->machine = &tm->m;
    tm->v->bsp = true;
    tm->v->irq = &fake_irq;
    tm->v->irq_ctx = &tm->irq;
    tm->irq = -1;
    assert_int_equal(tlb_create(tm->v), 0);
    cpu_reset(tm->v);
    assert_int_equal(engine_interp.attach(&tm->m, tm->v, &err), 0);
    alarm(20); /* a guest that does not stop fails the test */
    *state = tm;
    return 0;
}

static inline int machine_teardown(void **state)
{
    struct test_machine *tm = *state;
    alarm(0);
    engine_interp.detach(&tm->m, tm->v);
    native_destroy(tm->v);
    tlb_destroy(tm->v);
    portbus_destroy(tm->m.ports);
    guestmem_destroy(tm->m.mem);
    cpu_destroy(tm->v);
    free(tm);
    return 0;
}

static inline enum exit_kind run(struct test_machine *tm)
{
    struct vm_exit exit = {.kind = EXIT_KICKED};
    engine_interp.run(&tm->m, tm->v, &exit);
    return exit.kind;
}

/* --- states to start from --- */

#define ATTR_CODE32 (SEG_P | SEG_S | SEG_CODE | SEG_READABLE | SEG_ACCESSED | SEG_DB | SEG_G)
#define ATTR_CODE64 (SEG_P | SEG_S | SEG_CODE | SEG_READABLE | SEG_ACCESSED | SEG_L | SEG_G)
#define ATTR_DATA32 (SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED | SEG_DB | SEG_G)
#define DPL3        0x60

/* Selectors in the GDT of protected_mode() and long_mode(). */
enum { KCODE = 0x08, KDATA = 0x10, UCODE = 0x18 | 3, UDATA = 0x20 | 3, TSS = 0x28 };
enum { GDT_AT = 0x600, IDT_AT = 0x1000, TSS_AT = 0x800, PML4_AT = 0x100000 };

static inline u64 segment_descriptor(u32 base, u32 limit, u32 attr)
{
    return (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)(attr & 0xf0ff) << 40 |
           (u64)(limit >> 16 & 0xf) << 48 | (u64)(base >> 24) << 56;
}

static inline u64 gate32(u16 sel, u32 offset, u8 access)
{
    return (offset & 0xffff) | (u64)sel << 16 | (u64)access << 40 | (u64)(offset >> 16) << 48;
}

static inline void real_mode(struct test_machine *tm, u16 ip)
{
    struct vcpu *v = tm->v;
    v->seg[SEG_CS].sel = 0;
    v->seg[SEG_CS].base = 0;
    v->idtr = (struct dtable){.base = 0, .limit = 0x3ff};
    v->rip = ip;
    v->gpr[RSP] = 0x8000;
    cpu_update_mode(v);
}

static inline void tables(struct test_machine *tm, u32 code_attr)
{
    struct vcpu *v = tm->v;
    u64 gdt[] = {0,
                 segment_descriptor(0, 0xfffff, code_attr),
                 segment_descriptor(0, 0xfffff, ATTR_DATA32),
                 segment_descriptor(0, 0xfffff, code_attr | DPL3),
                 segment_descriptor(0, 0xfffff, ATTR_DATA32 | DPL3),
                 segment_descriptor(TSS_AT, 0x7f, SEG_P | SYS_TSS32_BUSY),
                 0};
    memcpy(tm->ram + GDT_AT, gdt, sizeof(gdt));
    v->gdtr = (struct dtable){.base = GDT_AT, .limit = sizeof(gdt) - 1};
    v->tr =
        (struct segment){.sel = TSS, .attr = SEG_P | SYS_TSS32_BUSY, .limit = 0x7f, .base = TSS_AT};
    v->ldtr = (struct segment){.attr = SEG_UNUSABLE};
    v->seg[SEG_CS] = (struct segment){.sel = KCODE, .attr = code_attr, .limit = 0xffffffff};
    for (unsigned s = 0; s < ARRAY_SIZE(v->seg); s++) {
        if (s != SEG_CS)
            v->seg[s] = (struct segment){.sel = KDATA, .attr = ATTR_DATA32, .limit = 0xffffffff};
    }
}

/* Flat 32-bit ring 0; the TSS has SS0:ESP0 = KDATA:0x7000. */
static inline void protected_mode(struct test_machine *tm, u32 eip)
{
    struct vcpu *v = tm->v;
    tables(tm, ATTR_CODE32);
    v->idtr = (struct dtable){.base = IDT_AT, .limit = 0x7ff};
    store_le(tm->ram + TSS_AT + 4, 0x7000, 4);
    store_le(tm->ram + TSS_AT + 8, KDATA, 2);
    v->cr0 |= CR0_PE;
    v->rip = eip;
    v->gpr[RSP] = 0x8000;
    cpu_update_mode(v);
}

/* 64-bit ring 0, first GiB identity-mapped, user-accessible; RSP0 = 0x7008, IST1 = 0x6008. */
static inline void long_mode(struct test_machine *tm, u64 rip)
{
    struct vcpu *v = tm->v;
    tables(tm, ATTR_CODE64);
    v->idtr = (struct dtable){.base = IDT_AT, .limit = 0xfff};
    put64(tm, TSS_AT + 4, 0x7008);
    put64(tm, TSS_AT + 36, 0x6008);
    put64(tm, PML4_AT, (PML4_AT + 0x1000) | 7);
    put64(tm, PML4_AT + 0x1000, (PML4_AT + 0x2000) | 7);
    for (unsigned n = 0; n < 512; n++)
        put64(tm, PML4_AT + 0x2000 + 8 * n, (u64)n << 21 | 0x87);
    v->cr3 = PML4_AT;
    v->cr4 |= CR4_PAE;
    v->efer |= EFER_LME | EFER_LMA;
    v->cr0 |= CR0_PE | CR0_PG;
    v->rip = rip;
    v->gpr[RSP] = 0x8000;
    cpu_update_mode(v);
}

/* Ring 3 with the segments of tables(). */
static inline void user_mode(struct test_machine *tm, u32 code_attr)
{
    struct vcpu *v = tm->v;
    v->seg[SEG_CS] = (struct segment){.sel = UCODE, .attr = code_attr | DPL3, .limit = 0xffffffff};
    for (unsigned s = 0; s < ARRAY_SIZE(v->seg); s++) {
        if (s != SEG_CS)
            v->seg[s] =
                (struct segment){.sel = UDATA, .attr = ATTR_DATA32 | DPL3, .limit = 0xffffffff};
    }
    v->cpl = 3;
    cpu_update_mode(v);
}

static inline void set_ivt(struct test_machine *tm, u8 vector, u16 offset)
{
    store_le(tm->ram + 4 * vector, offset, 4);
}

enum { GATE_INT = 0x8e, GATE_TRAP = 0x8f, GATE_INT_USER = 0xee, GATE_TASK = 0x85 };

static inline void set_gate(struct test_machine *tm, u8 vector, u32 offset, u8 access)
{
    put64(tm, IDT_AT + 8 * vector, gate32(KCODE, offset, access));
}

static inline void set_gate64(struct test_machine *tm, u8 vector, u32 offset, u8 access, u8 ist)
{
    put64(tm, IDT_AT + 16 * vector, gate32(KCODE, offset, access) | (u64)ist << 32);
    put64(tm, IDT_AT + 16 * vector + 8, 0);
}

#endif
