/*
 * Runs a case in a guest: a machine in long mode whose page tables show the same pages at the same
 * addresses, user code at CPL 3, and an IDT in which every vector leads to its own HLT at CPL 0. The
 * engine runs until that HLT; the frame that the exception left tells the rest. So the test goes
 * through the whole engine: decode, execution, fault, delivery.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/timebase.h"
#include "cpu/irq.h"
#include "cpu/model.h"
#include "engine/sem/native.h"
#include "insn_test.h"
#include "mem/guestmem.h"
#include "mem/portbus.h"
#include "mem/tlb.h"

/* Guest-physical layout. The system part is seen at SYSTEM_ADDR, far from any address that a case makes. */
#define SYSTEM_ADDR 0xffffa12345600000ULL
#define GPA_GDT   0x1000
#define GPA_IDT   0x2000
#define GPA_TSS   0x3000
#define GPA_STUBS 0x4000 /* 16 bytes a vector: HLT */
#define GPA_STACK 0x6000 /* top of the CPL 0 stack */
#define GPA_PML4  0x8000
#define GPA_PDPT  0x9000
#define GPA_PD    0xa000 /* 0 to 1 GiB */
#define GPA_PT0   0xb000 /* the system part */
#define GPA_PT    0xc000 /* the 2 MiB with the test's pages */
#define GPA_SYSTEM_PDPT 0xd000
#define GPA_SYSTEM_PD   0xe000
#define GPA_CODE  0x10000
#define GPA_DATA  0x20000
#define GPA_RO    0x30000
#define RAM_SIZE  0x100000

#define SEL_KERNEL_CODE 0x10
#define SEL_TSS         0x40

struct test_guest {
    const struct engine_ops *ops;
    void *engine;
    struct machine machine;
    struct timebase time;
    struct cpu_model model;
    struct vcpu *v;
    u8 *ram;
};

static void put64(struct test_guest *g, u64 gpa, u64 value)
{
    memcpy(g->ram + gpa, &value, sizeof(value));
}

static void map_pages(struct test_guest *g, u64 lin, u64 gpa, u64 size, u64 flags)
{
    for (u64 o = 0; o < size; o += PAGE_SIZE)
        put64(g, GPA_PT + bits(lin + o, 20, 12) * 8, (gpa + o) | flags);
}

static void make_page_tables(struct test_guest *g)
{
    const u64 table = 0x07, user = 0x67, user_ro = 0x65, system = 0x63; /* A and D set: nothing to write back */
    put64(g, GPA_PML4, GPA_PDPT | table);
    put64(g, GPA_PDPT, GPA_PD | table);
    put64(g, GPA_PML4 + bits(SYSTEM_ADDR, 47, 39) * 8, GPA_SYSTEM_PDPT | table);
    put64(g, GPA_SYSTEM_PDPT + bits(SYSTEM_ADDR, 38, 30) * 8, GPA_SYSTEM_PD | table);
    put64(g, GPA_SYSTEM_PD + bits(SYSTEM_ADDR, 29, 21) * 8, GPA_PT0 | table);
    put64(g, GPA_PD + bits(CODE_ADDR, 29, 21) * 8, GPA_PT | table);
    for (u64 page = 0; page < RAM_SIZE; page += PAGE_SIZE)
        put64(g, GPA_PT0 + page / PAGE_SIZE * 8, page | system);
    map_pages(g, CODE_ADDR, GPA_CODE, CODE_SIZE, user);
    map_pages(g, DATA_ADDR, GPA_DATA, DATA_SIZE, user);
    map_pages(g, RO_ADDR, GPA_RO, PAGE_SIZE, user_ro);
}

static void make_tables(struct test_guest *g)
{
    static const u64 gdt[] = {
        [SEL_KERNEL_CODE / 8] = 0x00af9b000000ffff, [0x18 / 8] = 0x00cf93000000ffff,
        [SEL_CODE32 / 8] = 0x00cffb000000ffff,      [SEL_DATA / 8] = 0x00cff3000000ffff,
        [SEL_CODE64 / 8] = 0x00affb000000ffff,      [SEL_TSS / 8] = 0,
    };
    memcpy(g->ram + GPA_GDT, gdt, sizeof(gdt));
    put64(g, GPA_TSS + 4, SYSTEM_ADDR + GPA_STACK);
    for (unsigned vector = 0; vector < 256; vector++) {
        u64 stub = SYSTEM_ADDR + GPA_STUBS + 16 * vector;
        g->ram[stub - SYSTEM_ADDR] = 0xf4; /* HLT */
        /* Interrupt gate, DPL 3. */
        put64(g, GPA_IDT + 16 * vector,
              (stub & 0xffff) | SEL_KERNEL_CODE << 16 | 0xeeULL << 40 | bits(stub, 31, 16) << 48);
        put64(g, GPA_IDT + 16 * vector + 8, stub >> 32);
    }
}

static void make_system_state(struct test_guest *g)
{
    struct vcpu *v = g->v;
    cpu_reset(v);
    v->cr0 = CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP | CR0_PE | CR0_AM;
    v->cr3 = GPA_PML4;
    v->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_FSGSBASE;
    if (g->model.xcr0_mask & XCR0_AVX) {
        v->cr4 |= CR4_OSXSAVE;
        v->xcr0 = XCR0_X87 | XCR0_SSE | XCR0_AVX;
    }
    v->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
    v->gdtr = (struct dtable){SYSTEM_ADDR + GPA_GDT, 0x4f};
    v->idtr = (struct dtable){SYSTEM_ADDR + GPA_IDT, 0xfff};
    v->tr = (struct segment){.sel = SEL_TSS, .attr = SEG_P | SYS_TSS32_BUSY, .limit = 0x67, .base = SYSTEM_ADDR + GPA_TSS};
    v->ldtr = (struct segment){.attr = SEG_UNUSABLE};
}

struct test_guest *guest_create(const struct engine_ops *ops)
{
    struct error err = {""};
    struct test_guest *g = calloc(1, sizeof(*g));
    g->ops = ops;
    timebase_init(&g->time);
    bool missing[FEAT_COUNT] = {false};
    if (ops->missing_features)
        ops->missing_features(missing);
    struct cpu_model_options opt = {.ncpus = 1, .tsc_hz = g->time.tsc_hz, .without = missing};
    cpu_model_init(&g->model, &opt);
    g->machine = (struct machine){.time = &g->time, .model = &g->model, .ncpus = 1};
    if (guestmem_create(RAM_SIZE, &g->machine.mem, &err) < 0 || portbus_create(&g->machine.ports, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    g->ram = guestmem_hva(g->machine.mem, 0, RAM_SIZE, true);
    g->v = aligned_alloc(64, align_up(sizeof(*g->v), 64));
    memset(g->v, 0, sizeof(*g->v));
    g->v->bsp = true;
    g->v->machine = &g->machine;
    g->v->irq = &irq_none;
    g->machine.vcpu[0] = g->v;
    tlb_create(g->v);
    make_page_tables(g);
    make_tables(g);
    make_system_state(g);
    if (ops->create(&g->machine, &g->engine, &err) < 0 || ops->attach(g->engine, g->v, &err) < 0) {
        fprintf(stderr, "%s: %s\n", ops->name, err.text);
        exit(1);
    }
    return g;
}

const struct cpu_model *guest_model(const struct test_guest *g)
{
    return &g->model;
}

void guest_destroy(struct test_guest *g)
{
    g->ops->detach(g->engine, g->v);
    g->ops->destroy(g->engine);
    native_destroy(g->v);
    tlb_destroy(g->v);
    free(g->v);
    portbus_destroy(g->machine.ports);
    guestmem_destroy(g->machine.mem);
    free(g);
}

static void load_state(struct test_guest *g, const struct test_case *c)
{
    struct vcpu *v = g->v;
    const u32 data = SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED | SEG_DB | SEG_G | 3 << 5;
    const u32 code = SEG_P | SEG_S | SEG_CODE | SEG_READABLE | SEG_ACCESSED | SEG_G | 3 << 5;
    if (g->ops->sync)
        g->ops->sync(g->engine, v);
    make_system_state(g);
    memcpy(v->gpr, c->gpr, sizeof(v->gpr));
    v->rip = INSN_ADDR;
    v->rflags = c->rflags | FLAG_ONE;
    v->fpu = c->fpu;
    v->cpl = 3;
    v->activity = ACTIVITY_RUNNING;
    for (unsigned s = 0; s < 6; s++)
        v->seg[s] = (struct segment){.sel = SEL_DATA, .attr = data, .limit = 0xffffffff};
    v->seg[SEG_FS] = v->seg[SEG_GS] = (struct segment){.attr = SEG_UNUSABLE};
    v->seg[SEG_CS] = c->mode == MODE_LONG64
                         ? (struct segment){.sel = SEL_CODE64, .attr = code | SEG_L, .limit = 0xffffffff}
                         : (struct segment){.sel = SEL_CODE32, .attr = code | SEG_DB, .limit = 0xffffffff};
    cpu_update_mode(v);
    if (g->ops->state_changed)
        g->ops->state_changed(g->engine, v);
}

static void load_memory(struct test_guest *g, const struct test_case *c)
{
    u8 page[CODE_SIZE];
    memset(page, 0xcc, sizeof(page));
    memcpy(page + (INSN_ADDR - CODE_ADDR), c->bytes, c->len);
    guestmem_write(g->machine.mem, GPA_CODE, page, sizeof(page));
    memcpy(g->ram + GPA_DATA, c->data, DATA_SIZE);
}

/* The exception frame: error code (where there is one), RIP, CS, RFLAGS, RSP, SS. */
static void read_frame(struct test_guest *g, struct test_result *r)
{
    static const u32 with_error = 1 << 8 | 0x1f << 10 | 1 << 17 | 1 << 21 | 1 << 29 | 1 << 30;
    const u8 *sp = g->ram + (g->v->gpr[RSP] - SYSTEM_ADDR);
    r->error = 0;
    if (r->vector < 32 && with_error & 1u << r->vector) {
        r->error = (u32)load_le(sp, 4);
        sp += 8;
    }
    r->rip = load_le(sp, 8);
    r->rflags = load_le(sp + 16, 8);
    r->gpr[RSP] = load_le(sp + 24, 8);
}

bool guest_run(struct test_guest *g, const struct test_case *c, struct test_result *r)
{
    struct vm_exit x = {.kind = EXIT_KICKED};
    struct vcpu *v = g->v;
    load_memory(g, c);
    load_state(g, c);
    for (unsigned turns = 0; x.kind == EXIT_KICKED && turns < 1000; turns++)
        g->ops->run(g->engine, v, &x);
    if (g->ops->sync)
        g->ops->sync(g->engine, v);
    if (x.kind != EXIT_HALT || v->rip < SYSTEM_ADDR + GPA_STUBS ||
        v->rip >= SYSTEM_ADDR + GPA_STUBS + 16 * 256) {
        fprintf(stderr, "# the engine ended with exit %d at rip %llx: %s\n", x.kind, (unsigned long long)v->rip,
                x.text);
        return false;
    }
    r->vector = (unsigned)(v->rip - SYSTEM_ADDR - GPA_STUBS) / 16;
    memcpy(r->gpr, v->gpr, sizeof(r->gpr));
    read_frame(g, r);
    r->cr2 = v->cr2;
    r->fpu = v->fpu;
    memcpy(r->data, g->ram + GPA_DATA, DATA_SIZE);
    return true;
}
