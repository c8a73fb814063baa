/*
 * The local APIC's registers, its priorities, and what the CPU sees of it (struct irq_ops). All
 * vCPUs have their registers at the same guest-physical page; who is accessing it is known from the
 * thread: a vCPU's thread says so once (lapic_set_current).
 */
#include "dev/lapic_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "cpu/model.h"
#include "dev/pcmap.h"

/* Version 0x14 with six LVT entries. */
#define VERSION (0x14 | (LVT_COUNT - 1) << 16)

#define SVR_BITS        0x3ff
#define SPURIOUS_VECTOR 0xff
#define DFR_FIXED       0x0fffffff
#define LVT_EXTINT      (APIC_EXTINT << 8)
#define ICR_BITS        0xccfff /* without the delivery status */

/* Register numbers: offset / 16. */
enum lapic_register {
    REG_ID = 0x02,
    REG_VERSION = 0x03,
    REG_TPR = 0x08,
    REG_APR = 0x09,
    REG_PPR = 0x0a,
    REG_EOI = 0x0b,
    REG_REMOTE_READ = 0x0c,
    REG_LDR = 0x0d,
    REG_DFR = 0x0e,
    REG_SVR = 0x0f,
    REG_ISR = 0x10,
    REG_TMR = 0x18,
    REG_IRR = 0x20,
    REG_ESR = 0x28,
    REG_ICR_LOW = 0x30,
    REG_ICR_HIGH = 0x31,
    REG_LVT = 0x32,
    REG_INITIAL = 0x38,
    REG_CURRENT = 0x39,
    REG_DIVIDE = 0x3e,
};

/* Writable bits of the LVT entries but the timer's, which lapic_timer.c writes. */
static const u32 lvt_bits[LVT_COUNT] = {
    [LVT_THERMAL] = APIC_VECTOR | 0x700 | APIC_MASKED,
    [LVT_PERF] = APIC_VECTOR | 0x700 | APIC_MASKED,
    [LVT_LINT0] = APIC_VECTOR | 0xa700 | APIC_MASKED,
    [LVT_LINT1] = APIC_VECTOR | 0xa700 | APIC_MASKED,
    [LVT_ERROR] = APIC_VECTOR | APIC_MASKED,
};

/* The vCPU that this thread runs. The MMIO callbacks get no other hint of who is accessing. */
static __thread struct vcpu *current_vcpu;

void lapic_set_current(struct vcpu *v)
{
    current_vcpu = v;
}

bool lapic_hardware_enabled(const struct lapic *l)
{
    return __atomic_load_n(&l->v->lapic.base_msr, __ATOMIC_RELAXED) & APIC_BASE_ENABLE;
}

bool lapic_accepts_vectors(const struct lapic *l)
{
    return lapic_hardware_enabled(l) && (peek(&l->v->lapic.svr) & SVR_ENABLE);
}

/* Highest vector of a set of 256 bits, or -1. */
static int highest(const _Atomic u32 set[8])
{
    for (int i = 7; i >= 0; i--) {
        u32 word = atomic_load(&set[i]);
        if (word)
            return i * 32 + 31 - __builtin_clz(word);
    }
    return -1;
}

static void set_bit(_Atomic u32 set[8], u8 vector)
{
    atomic_fetch_or(&set[vector / 32], 1U << (vector & 31));
}

static void clear_bit(_Atomic u32 set[8], u8 vector)
{
    atomic_fetch_and(&set[vector / 32], ~(1U << (vector & 31)));
}

static bool test_bit(const _Atomic u32 set[8], u8 vector)
{
    return atomic_load(&set[vector / 32]) >> (vector & 31) & 1;
}

/* SDM 11.8.3.1. */
u8 lapic_ppr(const struct lapic *l)
{
    u8 tpr = (u8)peek(&l->v->lapic.tpr);
    int isr = highest(l->v->lapic.isr);
    return isr < 0 || tpr >> 4 >= isr >> 4 ? tpr : isr & 0xf0;
}

/* The vector that would be delivered now, or -1. */
static int deliverable(const struct lapic *l)
{
    if (!lapic_hardware_enabled(l))
        return -1;
    int vector = highest(l->v->lapic.irr);
    return vector >= 0 && vector >> 4 > lapic_ppr(l) >> 4 ? vector : -1;
}

/* Does the PIC's INTR reach this CPU: through LINT0 as ExtINT, by an I/O APIC's ExtINT message, or
 * directly if the APIC is switched off? */
static bool pic_pending(const struct lapic *l)
{
    if (!atomic_load(&l->bus->lint[0]))
        return false;
    if (atomic_load(&l->extint))
        return true;
    if (l != &l->bus->lapic[0])
        return false;
    u32 lint0 = peek(&l->v->lapic.lvt[LVT_LINT0]);
    return !lapic_hardware_enabled(l) ||
           (!(lint0 & APIC_MASKED) && APIC_MODE(lint0) == APIC_EXTINT);
}

/* After a change on the vCPU's own thread that may have made something deliverable. No wake: the
 * thread is awake, and looks at its events before it runs guest code again. */
static void look_again(struct lapic *l)
{
    if (deliverable(l) >= 0 || pic_pending(l))
        atomic_fetch_or(&l->v->events, EVENT_INTR);
}

/* TMR first: who sees the bit in IRR must see how it was triggered. */
void lapic_accept(struct lapic *l, u8 vector, bool level)
{
    struct lapic_state *s = &l->v->lapic;
    if (level)
        set_bit(s->tmr, vector);
    else
        clear_bit(s->tmr, vector);
    set_bit(s->irr, vector);
    vcpu_raise(l->v, EVENT_INTR);
}

/* One interrupt for each kind of error until ESR is written. An illegal vector in the error entry
 * itself is not reported again. */
void lapic_error(struct lapic *l, enum lapic_error error)
{
    u32 lvt = peek(&l->v->lapic.lvt[LVT_ERROR]);
    u32 old = atomic_fetch_or(&l->v->lapic.esr_pending, error);
    if (!(old & error) && !(lvt & APIC_MASKED) && (lvt & APIC_VECTOR) >= FIRST_VECTOR)
        lapic_accept(l, lvt & APIC_VECTOR, false);
}

/* LVT entries go through the same delivery as messages do; those without a delivery mode have zero
 * there, which is fixed. ExtINT is a level that pic_pending() looks at, not a message. */
void lapic_raise_lvt(struct lapic *l, enum lapic_lvt entry)
{
    u32 lvt = peek(&l->v->lapic.lvt[entry]);
    if (lvt & APIC_MASKED)
        return;
    if (APIC_MODE(lvt) == APIC_EXTINT)
        vcpu_raise(l->v, EVENT_INTR);
    else
        lapic_take_message(
            l, &(struct apic_message){.delivery = APIC_MODE(lvt), .vector = lvt & APIC_VECTOR});
}

/* With the APIC switched off, LINT0 and LINT1 are the CPU's INTR and NMI pins (SDM 11.4.3). */
static void raise_pin(struct lapic *l, unsigned n)
{
    if (lapic_hardware_enabled(l))
        lapic_raise_lvt(l, n == 0 ? LVT_LINT0 : LVT_LINT1);
    else
        vcpu_raise(l->v, n == 0 ? EVENT_INTR : EVENT_NMI);
}

void lapic_set_lint(void *ctx, unsigned n, int level)
{
    struct lapic_bus *bus = ctx;
    assert(n < ARRAY_SIZE(bus->lint));
    int old = atomic_exchange(&bus->lint[n], level);
    if (!level || old)
        return;
    unsigned count = n == 0 ? 1 : bus->count;
    for (unsigned i = 0; i < count; i++)
        raise_pin(&bus->lapic[i], n);
    for (unsigned i = 0; n == 0 && i < bus->count; i++)
        if (atomic_load(&bus->lapic[i].extint))
            vcpu_raise(bus->lapic[i].v, EVENT_INTR);
}

static void end_of_interrupt(struct lapic *l)
{
    struct lapic_state *s = &l->v->lapic;
    int vector = highest(s->isr);
    if (vector < 0)
        return;
    clear_bit(s->isr, (u8)vector);
    if (test_bit(s->tmr, (u8)vector) && l->bus->eoi)
        l->bus->eoi(l->bus->eoi_ctx, (u8)vector);
}

static void write_svr(struct lapic_state *s, u32 value)
{
    poke(&s->svr, value & SVR_BITS);
    if (value & SVR_ENABLE)
        return;
    for (unsigned i = 0; i < LVT_COUNT; i++) /* SDM 11.4.7.2 */
        poke(&s->lvt[i], s->lvt[i] | APIC_MASKED);
}

static void write_lvt(struct lapic *l, enum lapic_lvt entry, u32 value)
{
    if (!(l->v->lapic.svr & SVR_ENABLE))
        value |= APIC_MASKED;
    if (entry == LVT_TIMER)
        lapic_timer_write_lvt(l, value);
    else
        poke(&l->v->lapic.lvt[entry], value & lvt_bits[entry]);
}

static u32 read_timer(struct lapic *l, unsigned reg)
{
    const struct lapic_state *s = &l->v->lapic;
    if (reg == REG_CURRENT)
        return lapic_timer_current(l);
    return reg == REG_INITIAL ? s->timer_initial : s->timer_divide;
}

/* ISR, TMR and IRR: 8 registers each. */
static u32 read_set(const struct lapic_state *s, unsigned reg)
{
    const _Atomic u32 *set = reg < REG_TMR ? s->isr : reg < REG_IRR ? s->tmr : s->irr;
    return atomic_load(&set[reg & 7]);
}

static u32 read_register(struct lapic *l, unsigned reg)
{
    const struct lapic_state *s = &l->v->lapic;

    switch (reg) {
    case REG_ID:
        return s->id;
    case REG_VERSION:
        return VERSION;
    case REG_TPR:
        return s->tpr;
    case REG_PPR:
        return lapic_ppr(l);
    case REG_APR: /* not since the Pentium 4, and EOI is write-only: these read 0 */
    case REG_EOI:
    case REG_REMOTE_READ:
        return 0;
    case REG_LDR:
        return s->ldr;
    case REG_DFR:
        return s->dfr;
    case REG_SVR:
        return s->svr;
    case REG_ISR ... REG_IRR + 7:
        return read_set(s, reg);
    case REG_ESR:
        return s->esr;
    case REG_ICR_LOW:
        return s->icr_low;
    case REG_ICR_HIGH:
        return s->icr_high;
    case REG_LVT ... REG_LVT + LVT_COUNT - 1:
        return s->lvt[reg - REG_LVT];
    case REG_INITIAL:
    case REG_CURRENT:
    case REG_DIVIDE:
        return read_timer(l, reg);
    }
    lapic_error(l, ESR_ILLEGAL_REGISTER);
    return 0;
}

static void write_tpr(struct lapic *l, u8 value)
{
    poke(&l->v->lapic.tpr, value);
}

static void write_icr(struct lapic *l, u32 value)
{
    l->v->lapic.icr_low = value & ICR_BITS;
    lapic_send_ipi(l);
}

/* The ID is fixed too, as on processors since Nehalem. */
static bool is_read_only(unsigned reg)
{
    return reg == REG_ID || reg == REG_VERSION || reg == REG_APR || reg == REG_PPR ||
           reg == REG_REMOTE_READ || reg == REG_CURRENT || (reg >= REG_ISR && reg < REG_ESR);
}

static void write_register(struct lapic *l, unsigned reg, u32 value)
{
    struct lapic_state *s = &l->v->lapic;

    switch (reg) {
    case REG_TPR:
        write_tpr(l, (u8)value);
        break;
    case REG_EOI:
        end_of_interrupt(l);
        break;
    case REG_LDR:
        poke(&s->ldr, value & 0xff000000);
        break;
    case REG_DFR:
        poke(&s->dfr, value | DFR_FIXED);
        break;
    case REG_SVR:
        write_svr(s, value);
        break;
    case REG_ESR:
        s->esr = atomic_exchange(&s->esr_pending, 0);
        break;
    case REG_ICR_LOW:
        write_icr(l, value);
        break;
    case REG_ICR_HIGH:
        s->icr_high = value & 0xff000000;
        break;
    case REG_LVT ... REG_LVT + LVT_COUNT - 1:
        write_lvt(l, (enum lapic_lvt)(reg - REG_LVT), value);
        break;
    case REG_INITIAL:
        lapic_timer_write_initial(l, value);
        break;
    case REG_DIVIDE:
        lapic_timer_write_divide(l, value);
        break;
    default:
        if (!is_read_only(reg))
            lapic_error(l, ESR_ILLEGAL_REGISTER);
        break;
    }
    look_again(l);
}

/* Narrow reads see their part of the register, the gaps between registers read 0. */
static u64 mmio_read(void *ctx, u64 off, unsigned size)
{
    (void)ctx;
    if (!current_vcpu || !lapic_hardware_enabled(lapic_of(current_vcpu)))
        return size_mask(size);
    unsigned byte = off & 15;
    if (byte >= 4)
        return 0;
    u32 value = read_register(lapic_of(current_vcpu), (unsigned)(off >> 4));
    return (value >> (8 * byte)) & size_mask(size);
}

/* SDM 11.4.1: only aligned 32-bit writes are defined. Wider ones count as such, others are dropped.
 */
static void mmio_write(void *ctx, u64 off, u64 value, unsigned size)
{
    (void)ctx;
    if (!current_vcpu || !lapic_hardware_enabled(lapic_of(current_vcpu)))
        return;
    if (size >= 4 && !(off & 15))
        write_register(lapic_of(current_vcpu), (unsigned)(off >> 4), (u32)value);
}

static const struct mmio_ops lapic_mmio = {mmio_read, mmio_write};

static bool irq_pending(struct vcpu *v)
{
    const struct lapic *l = lapic_of(v);
    return deliverable(l) >= 0 || pic_pending(l);
}

static int take_vector(struct lapic *l)
{
    struct lapic_state *s = &l->v->lapic;
    int vector = deliverable(l);
    if (vector < 0)
        return -1;
    clear_bit(s->irr, (u8)vector);
    set_bit(s->isr, (u8)vector);
    return vector;
}

static int irq_acknowledge(struct vcpu *v)
{
    struct lapic *l = lapic_of(v);
    int vector;
    if (pic_pending(l) && l->bus->pic_acknowledge) {
        atomic_store(&l->extint, false);
        vector = l->bus->pic_acknowledge(l->bus->pic);
    } else {
        vector = take_vector(l);
    }
    look_again(l);
    return vector;
}

static void irq_write_cr8(struct vcpu *v, u8 cr8)
{
    write_tpr(lapic_of(v), (u8)(cr8 << 4));
    look_again(lapic_of(v));
}

/* Registers other than the ID and APIC_BASE (SDM 11.4.7.1). LINT0 of the boot processor lets the
 * PIC through at once ("virtual wire"): on a PC the firmware does this, and there may be none here.
 */
static void reset_registers(struct lapic *l)
{
    struct lapic_state *s = &l->v->lapic;

    lapic_timer_reset(l);
    s->id = l->v->id << 24;
    poke(&s->tpr, 0);
    poke(&s->ldr, 0);
    poke(&s->dfr, 0xffffffff);
    poke(&s->svr, SPURIOUS_VECTOR);
    s->esr = s->icr_low = s->icr_high = 0;
    atomic_store(&s->esr_pending, 0);
    for (unsigned i = LVT_THERMAL; i < LVT_COUNT; i++)
        poke(&s->lvt[i], APIC_MASKED);
    if (l->v->bsp)
        poke(&s->lvt[LVT_LINT0], LVT_EXTINT);
    for (unsigned i = 0; i < 8; i++) {
        atomic_store(&s->isr[i], 0);
        atomic_store(&s->tmr[i], 0);
        atomic_store(&s->irr[i], 0);
    }
    atomic_store(&l->extint, false);
}

static void set_base(struct lapic *l, u64 value)
{
    __atomic_store_n(&l->v->lapic.base_msr, value, __ATOMIC_RELAXED);
}

static void irq_reset(struct vcpu *v, bool init)
{
    struct lapic *l = lapic_of(v);
    if (!init)
        set_base(l, PC_LAPIC_ADDR | APIC_BASE_ENABLE | (v->bsp ? APIC_BASE_BSP : 0));
    reset_registers(l);
    look_again(l);
}

/* The address is stored, but the registers stay where they are: nothing in use moves them. x2APIC
 * is not offered. */
static bool write_base(struct lapic *l, u64 value)
{
    const struct cpu_model *model = l->bus->m->model;
    u64 reserved = 0xff | BIT(9) | APIC_BASE_X2APIC;
    if (model && model->phys_bits < 64)
        reserved |= ~0ULL << model->phys_bits;
    if (value & reserved)
        return false;
    bool was_enabled = lapic_hardware_enabled(l);
    set_base(l, value);
    if (was_enabled && !(value & APIC_BASE_ENABLE))
        reset_registers(l);
    look_again(l);
    return true;
}

static bool irq_read_msr(struct vcpu *v, u32 msr, u64 *value)
{
    if (msr == MSR_APIC_BASE)
        *value = v->lapic.base_msr;
    else if (msr == MSR_TSC_DEADLINE)
        *value = lapic_timer_read_deadline(lapic_of(v));
    else
        return false;
    return true;
}

static bool irq_write_msr(struct vcpu *v, u32 msr, u64 value)
{
    if (msr == MSR_APIC_BASE)
        return write_base(lapic_of(v), value);
    if (msr != MSR_TSC_DEADLINE)
        return false;
    lapic_timer_write_deadline(lapic_of(v), value);
    return true;
}

static const struct irq_ops lapic_irq_ops = {
    .pending = irq_pending,
    .acknowledge = irq_acknowledge,
    .write_cr8 = irq_write_cr8,
    .read_msr = irq_read_msr,
    .write_msr = irq_write_msr,
    .reset = irq_reset,
};

int lapic_bus_create(struct machine *m, struct clock *clock, struct lapic_bus **out,
                     struct error *err)
{
    struct lapic_bus *bus = calloc(1, sizeof(*bus));
    if (!bus)
        return error_set(err, ENOMEM, "not enough memory for the local APICs");
    assert(m->ncpus <= MAX_CPUS);
    bus->m = m;
    bus->clock = clock;
    for (unsigned i = 0; i < m->ncpus; i++) {
        struct lapic *l = &bus->lapic[i];
        l->bus = bus;
        l->v = m->vcpu[i];
        bus->count = i + 1;
        int ret = lapic_timer_init(l, err);
        if (ret) {
            lapic_bus_destroy(bus);
            return ret;
        }
        l->v->irq = &lapic_irq_ops;
        l->v->irq_ctx = l;
        irq_reset(l->v, false);
    }
    *out = bus;
    return 0;
}

void lapic_bus_destroy(struct lapic_bus *bus)
{
    if (!bus)
        return;
    for (unsigned i = 0; i < bus->count; i++)
        lapic_timer_destroy(&bus->lapic[i]);
    free(bus);
}

int lapic_bus_attach(struct lapic_bus *bus, struct guest_mem *gm, struct error *err)
{
    return guestmem_add_mmio(gm, PC_LAPIC_ADDR, PAGE_SIZE, &lapic_mmio, bus, NULL, err);
}

void lapic_bus_connect_pic(struct lapic_bus *bus, int (*acknowledge)(void *ctx), void *ctx)
{
    bus->pic_acknowledge = acknowledge;
    bus->pic = ctx;
}

void lapic_bus_connect_eoi(struct lapic_bus *bus, void (*eoi)(void *ctx, u8 vector), void *ctx)
{
    bus->eoi = eoi;
    bus->eoi_ctx = ctx;
}
