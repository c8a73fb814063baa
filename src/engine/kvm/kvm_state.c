/*
 * The whole state of a vCPU from struct vcpu to the kernel and back. Both sides must hold it
 * completely, interrupt shadows and events on their way included, because a guest can leave for
 * another engine at any time.
 */
#include "engine/kvm/kvm.h"

#include <errno.h>

#include "cpu/irq.h"
#include "engine/sem/sem.h"
#include "engine/sem/sem_exec.h"
#include "mem/tlb.h"

#define XSAVE_BV_OFFSET 512
#define XSAVE_YMM_END   832

_Static_assert(offsetof(struct fpu_state, xstate_bv) == XSAVE_BV_OFFSET,
               "struct fpu_state begins as a standard XSAVE area");

/* --- segments and control registers --- */

static struct kvm_segment to_kvm_segment(const struct segment *s)
{
    return (struct kvm_segment){
        .base = s->base,
        .limit = s->limit,
        .selector = s->sel,
        .type = s->attr & SEG_TYPE,
        .present = !!(s->attr & SEG_P),
        .dpl = SEG_DPL(s->attr),
        .db = !!(s->attr & SEG_DB),
        .s = !!(s->attr & SEG_S),
        .l = !!(s->attr & SEG_L),
        .g = !!(s->attr & SEG_G),
        .avl = !!(s->attr & SEG_AVL),
        .unusable = !!(s->attr & SEG_UNUSABLE),
    };
}

static struct segment from_kvm_segment(const struct kvm_segment *s)
{
    u32 attr = s->type | (s->s ? SEG_S : 0) | (u32)s->dpl << 5 | (s->present ? SEG_P : 0) |
               (s->avl ? SEG_AVL : 0) | (s->l ? SEG_L : 0) | (s->db ? SEG_DB : 0) |
               (s->g ? SEG_G : 0);
    return (struct segment){.sel = s->selector,
                            .attr = s->unusable ? SEG_UNUSABLE : attr,
                            .limit = s->limit,
                            .base = s->base};
}

/* KVM takes the privilege level from SS.DPL. */
static struct kvm_segment stack_segment(const struct vcpu *v)
{
    struct kvm_segment ss = to_kvm_segment(&v->seg[SEG_SS]);
    ss.dpl = v->cpl;
    return ss;
}

static bool pae_paging(const struct vcpu *v)
{
    return v->cr0 & CR0_PG && v->cr4 & CR4_PAE && !(v->efer & EFER_LMA);
}

static int push_sregs(struct kvm_vcpu *k)
{
    const struct vcpu *v = k->v;
    struct kvm_sregs2 s = {
        .cs = to_kvm_segment(&v->seg[SEG_CS]),
        .ds = to_kvm_segment(&v->seg[SEG_DS]),
        .es = to_kvm_segment(&v->seg[SEG_ES]),
        .fs = to_kvm_segment(&v->seg[SEG_FS]),
        .gs = to_kvm_segment(&v->seg[SEG_GS]),
        .ss = stack_segment(v),
        .tr = to_kvm_segment(&v->tr),
        .ldt = to_kvm_segment(&v->ldtr),
        .gdt = {.base = v->gdtr.base, .limit = v->gdtr.limit},
        .idt = {.base = v->idtr.base, .limit = v->idtr.limit},
        .cr0 = v->cr0,
        .cr2 = v->cr2,
        .cr3 = v->cr3,
        .cr4 = v->cr4,
        .cr8 = v->lapic.tpr >> 4 & 15,
        .efer = v->efer,
        .apic_base = v->lapic.base_msr,
    };
    if (pae_paging(v)) {
        s.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
        memcpy(s.pdptrs, v->pdpte, sizeof(s.pdptrs));
    }
    return ioctl(k->fd, KVM_SET_SREGS2, &s) < 0 ? -errno : 0;
}

static u8 privilege(const struct vcpu *v, const struct kvm_segment *ss)
{
    if (!(v->cr0 & CR0_PE))
        return 0;
    return v->rflags & FLAG_VM ? 3 : ss->dpl;
}

/* After the general registers: the privilege level depends on RFLAGS.VM. */
static int pull_sregs(struct kvm_vcpu *k)
{
    struct vcpu *v = k->v;
    struct kvm_sregs2 s;
    if (ioctl(k->fd, KVM_GET_SREGS2, &s) < 0)
        return -errno;
    v->seg[SEG_CS] = from_kvm_segment(&s.cs);
    v->seg[SEG_DS] = from_kvm_segment(&s.ds);
    v->seg[SEG_ES] = from_kvm_segment(&s.es);
    v->seg[SEG_FS] = from_kvm_segment(&s.fs);
    v->seg[SEG_GS] = from_kvm_segment(&s.gs);
    v->seg[SEG_SS] = from_kvm_segment(&s.ss);
    v->tr = from_kvm_segment(&s.tr);
    v->ldtr = from_kvm_segment(&s.ldt);
    v->gdtr = (struct dtable){.base = s.gdt.base, .limit = s.gdt.limit};
    v->idtr = (struct dtable){.base = s.idt.base, .limit = s.idt.limit};
    v->cr0 = s.cr0;
    v->cr2 = s.cr2;
    v->cr3 = s.cr3;
    v->cr4 = s.cr4;
    v->efer = s.efer;
    v->cpl = privilege(v, &s.ss);
    if (s.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID)
        memcpy(v->pdpte, s.pdptrs, sizeof(v->pdpte));
    else if (pae_paging(v))
        walk_load_pdptes(v, v->cr3);
    return 0;
}

/* --- general, floating-point and debug registers --- */

static int push_regs(struct kvm_vcpu *k)
{
    const struct vcpu *v = k->v;
    const u64 *g = v->gpr;
    struct kvm_regs r = {
        .rax = g[RAX],
        .rcx = g[RCX],
        .rdx = g[RDX],
        .rbx = g[RBX],
        .rsp = g[RSP],
        .rbp = g[RBP],
        .rsi = g[RSI],
        .rdi = g[RDI],
        .r8 = g[R8],
        .r9 = g[R9],
        .r10 = g[R10],
        .r11 = g[R11],
        .r12 = g[R12],
        .r13 = g[R13],
        .r14 = g[R14],
        .r15 = g[R15],
        .rip = v->rip,
        .rflags = v->rflags,
    };
    return ioctl(k->fd, KVM_SET_REGS, &r) < 0 ? -errno : 0;
}

static int pull_regs(struct kvm_vcpu *k)
{
    struct vcpu *v = k->v;
    struct kvm_regs r;
    if (ioctl(k->fd, KVM_GET_REGS, &r) < 0)
        return -errno;
    const u64 g[16] = {
        [RAX] = r.rax, [RCX] = r.rcx, [RDX] = r.rdx, [RBX] = r.rbx, [RSP] = r.rsp, [RBP] = r.rbp,
        [RSI] = r.rsi, [RDI] = r.rdi, [R8] = r.r8,   [R9] = r.r9,   [R10] = r.r10, [R11] = r.r11,
        [R12] = r.r12, [R13] = r.r13, [R14] = r.r14, [R15] = r.r15,
    };
    memcpy(v->gpr, g, sizeof(g));
    v->rip = r.rip;
    v->rflags = r.rflags | FLAG_ONE;
    return 0;
}

/* Our area is always fully valid, so all its components are marked as in use. */
static int push_fpu(struct kvm_vcpu *k)
{
    const struct vcpu *v = k->v;
    struct kvm_xsave x = {0};
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = v->xcr0}}};
    u64 components = XCR0_X87 | XCR0_SSE | (cpu_has(v->machine->model, FEAT_AVX) ? XCR0_AVX : 0);
    memcpy(x.region, &v->fpu, XSAVE_YMM_END);
    memcpy((u8 *)x.region + XSAVE_BV_OFFSET, &components, sizeof(components));
    memset((u8 *)x.region + XSAVE_BV_OFFSET + 8, 0, 56);
    if (cpu_has(v->machine->model, FEAT_XSAVE) && ioctl(k->fd, KVM_SET_XCRS, &xcrs) < 0)
        return -errno;
    return ioctl(k->fd, KVM_SET_XSAVE, &x) < 0 ? -errno : 0;
}

static int pull_fpu(struct kvm_vcpu *k)
{
    struct vcpu *v = k->v;
    struct kvm_xsave x;
    struct kvm_xcrs xcrs;
    u32 mxcsr_mask = v->fpu.legacy.mxcsr_mask;
    if (ioctl(k->fd, KVM_GET_XSAVE, &x) < 0)
        return -errno;
    memcpy(&v->fpu, x.region,
           cpu_has(v->machine->model, FEAT_AVX) ? XSAVE_YMM_END : XSAVE_BV_OFFSET + 64);
    v->fpu.legacy.mxcsr_mask = mxcsr_mask;
    v->fpu.xcomp_bv = 0;
    v->fpu.fip_sel = v->fpu.fdp_sel = 0; /* KVM saves the 64-bit form */
    if (!cpu_has(v->machine->model, FEAT_XSAVE))
        return 0;
    if (ioctl(k->fd, KVM_GET_XCRS, &xcrs) < 0)
        return -errno;
    v->xcr0 = xcrs.xcrs[0].value;
    return 0;
}

static int push_debug(struct kvm_vcpu *k)
{
    const struct vcpu *v = k->v;
    struct kvm_debugregs d = {.dr6 = v->dr[6], .dr7 = v->dr[7]};
    memcpy(d.db, v->dr, sizeof(d.db));
    return ioctl(k->fd, KVM_SET_DEBUGREGS, &d) < 0 ? -errno : 0;
}

static int pull_debug(struct kvm_vcpu *k)
{
    struct vcpu *v = k->v;
    struct kvm_debugregs d;
    if (ioctl(k->fd, KVM_GET_DEBUGREGS, &d) < 0)
        return -errno;
    memcpy(v->dr, d.db, sizeof(d.db));
    v->dr[6] = d.dr6;
    v->dr[7] = d.dr7;
    return 0;
}

/* --- events --- */

static int push_events(struct kvm_vcpu *k)
{
    const struct vcpu *v = k->v;
    struct kvm_vcpu_events ev = {.flags =
                                     KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_NMI_PENDING};
    ev.nmi.masked = v->nmi_blocked;
    ev.interrupt.shadow = (v->shadow & SHADOW_STI ? KVM_X86_SHADOW_INT_STI : 0) |
                          (v->shadow & SHADOW_MOV_SS ? KVM_X86_SHADOW_INT_MOV_SS : 0);
    return ioctl(k->fd, KVM_SET_VCPU_EVENTS, &ev) < 0 ? -errno : 0;
}

static void pull_shadows(struct vcpu *v, const struct kvm_vcpu_events *ev)
{
    v->nmi_blocked = ev->nmi.masked;
    v->shadow = (u8)((ev->interrupt.shadow & KVM_X86_SHADOW_INT_STI ? SHADOW_STI : 0) |
                     (ev->interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS ? SHADOW_MOV_SS : 0));
    v->shadow_end = SHADOW_END_NONE;
    v->pending_db = 0;
}

/* KVM has begun an event, and RIP is where it returns to. Software interrupts and exceptions (INT
 * n, INT3, INTO) are not taken over: RIP is still at the instruction, which will run again. They
 * were counted when KVM was given them. */
static void deliver_in_flight(struct vcpu *v, const struct kvm_vcpu_events *ev)
{
    const u8 nr = ev->exception.nr;
    if (ev->nmi.injected) {
        v->stats.count[STAT_NMI_DELIVERED]--;
        sem_deliver_interrupt(v, VEC_NMI, INTERRUPT_NMI);
    } else if (ev->interrupt.injected && !ev->interrupt.soft) {
        v->stats.count[STAT_IRQ_DELIVERED]--;
        sem_deliver_interrupt(v, ev->interrupt.nr, INTERRUPT_EXTERNAL);
    } else if (ev->exception.injected && nr != VEC_BP && nr != VEC_OF) {
        /* CR2 and DR6 are set already. RF is in RFLAGS if it is a fault. */
        v->fault = (struct fault){.vector = nr,
                                  .has_error = ev->exception.has_error_code,
                                  .error = ev->exception.error_code,
                                  .cr2 = v->cr2,
                                  .dr6 = v->dr[6] & 0xf,
                                  .trap = nr == VEC_DB};
        sem_deliver_fault(v, v->rip);
    }
    if (ev->nmi.injected || ev->interrupt.injected)
        v->shadow = 0;
    if (ev->nmi.pending) {
        v->stats.count[STAT_NMI_DELIVERED]--;
        atomic_fetch_or(&v->events, EVENT_NMI);
    }
}

/* Delivery in sem/ does not unwind past itself but for a host error. */
static bool deliver_guarded(struct vcpu *v, const struct kvm_vcpu_events *ev, struct vm_exit *exit)
{
    if (setjmp(v->unwind) != UNWIND_NONE)
        return kvm_host_error(exit, "%s", v->exit_text);
    deliver_in_flight(v, ev);
    return true;
}

/* --- all of it --- */

/* KVM has no place for a debug trap that waits for the next boundary: it is taken before. */
static bool settle_debug_traps(struct vcpu *v, struct vm_exit *exit)
{
    while (v->pending_db) {
        bool held = v->shadow & SHADOW_MOV_SS;
        if (!sem_service_events(v, exit) || (held && !sem_step(v, exit)))
            return false;
    }
    return true;
}

static int push_all(struct kvm_engine *e, struct kvm_vcpu *k, const char **what)
{
    int rc;
    *what = "control registers and segments";
    if ((rc = push_sregs(k)) < 0)
        return rc;
    *what = "floating-point state";
    if ((rc = push_fpu(k)) < 0)
        return rc;
    *what = "MSRs";
    if ((rc = kvm_msrs_push(e, k)) < 0)
        return rc;
    *what = "general and debug registers";
    if ((rc = push_regs(k)) < 0 || (rc = push_debug(k)) < 0)
        return rc;
    *what = "time stamp counter";
    if ((rc = kvm_tsc_push(k)) < 0)
        return rc;
    *what = "events";
    return push_events(k);
}

bool kvm_push(struct kvm_engine *e, struct kvm_vcpu *k, struct vm_exit *exit)
{
    struct vcpu *v = k->v;
    const char *what;
    if (!settle_debug_traps(v, exit))
        return false;
    int rc = push_all(e, k, &what);
    if (rc < 0)
        return kvm_host_error(exit, "KVM refuses the guest's %s: %s", what, strerror(-rc));
    k->loaded = true;
    k->io_pending = false;
    k->if_flag = v->rflags & FLAG_IF;
    /* HLT has ended an interrupt shadow. */
    k->can_inject = k->if_flag && (!v->shadow || v->activity == ACTIVITY_HALTED);
    return true;
}

/* KVM_RUN completes the last exit's instruction before it looks at immediate_exit. A string
 * instruction or an access in pieces may exit again. */
static bool complete_io(struct kvm_engine *e, struct kvm_vcpu *k, struct vm_exit *exit)
{
    while (k->io_pending) {
        __atomic_store_n(&k->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
        int rc = kvm_enter(k);
        if (rc < 0 && rc != -EINTR)
            return kvm_host_error(exit, "KVM_RUN: %s", strerror(-rc));
        if (rc == 0 && !kvm_handle_exit(e, k, exit))
            return false;
    }
    return true;
}

static int pull_all(struct kvm_engine *e, struct kvm_vcpu *k, struct kvm_vcpu_events *ev)
{
    int rc;
    /* First: it turns what KVM knows of a pending exception into CR2 and DR6. */
    if (ioctl(k->fd, KVM_GET_VCPU_EVENTS, ev) < 0)
        return -errno;
    if ((rc = pull_regs(k)) < 0 || (rc = pull_sregs(k)) < 0 || (rc = pull_fpu(k)) < 0 ||
        (rc = kvm_msrs_pull(e, k)) < 0)
        return rc;
    return pull_debug(k);
}

bool kvm_pull(struct kvm_engine *e, struct kvm_vcpu *k, bool discard, struct vm_exit *exit)
{
    struct vcpu *v = k->v;
    struct kvm_vcpu_events ev;
    if (!k->loaded)
        return true;
    if (!complete_io(e, k, exit))
        return false;
    if (!k->loaded) /* completing led to an instruction that sem/ ran */
        return true;
    int rc = pull_all(e, k, &ev);
    if (rc < 0)
        return kvm_host_error(exit, "KVM does not give the guest's state: %s", strerror(-rc));
    k->loaded = false;
    pull_shadows(v, &ev);
    cpu_update_mode(v);
    tlb_flush_all(v);
    tlb_set_breakpoints(v);
    v->cur = &sem_no_insn;
    if (discard)
        ev.exception.injected = 0;
    return deliver_guarded(v, &ev, exit);
}
