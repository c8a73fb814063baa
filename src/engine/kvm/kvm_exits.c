/*
 * What KVM comes back for, each reason with its function in one table. An instruction that KVM
 * could not emulate is run by sem/, and the guest goes on in KVM behind it.
 */
#include "engine/kvm/kvm.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/timebase.h"
#include "cpu/irq.h"
#include "engine/sem/sem.h"
#include "mem/guestmem.h"
#include "mem/portbus.h"

bool kvm_host_error(struct vm_exit *exit, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(exit->text, sizeof(exit->text), fmt, ap);
    va_end(ap);
    exit->kind = EXIT_HOST_ERROR;
    return false;
}

int kvm_enter(struct kvm_vcpu *k)
{
    struct vcpu *v = k->v;
    k->run->cr8 = v->lapic.tpr >> 4 & 15;
    int rc = ioctl(k->fd, KVM_RUN, 0) < 0 ? -errno : 0;
    k->io_pending = false;
    k->if_flag = k->run->if_flag;
    k->can_inject = k->run->ready_for_interrupt_injection;
    u8 cr8 = k->run->cr8 & 15;
    if (v->irq && cr8 != (v->lapic.tpr >> 4 & 15))
        v->irq->write_cr8(v, cr8);
    return rc;
}

/* --- device access --- */

static void port_access(struct kvm_vcpu *k, u8 *data)
{
    struct port_bus *ports = k->v->machine->ports;
    unsigned size = k->run->io.size;
    u16 port = k->run->io.port;
    if (k->run->io.direction == KVM_EXIT_IO_IN)
        store_le(data, port_in(ports, port, size), size);
    else
        port_out(ports, port, (u32)load_le(data, size), size);
}

static bool exit_io(struct kvm_engine *e, struct kvm_vcpu *k, struct vm_exit *exit)
{
    (void)e;
    (void)exit;
    struct vcpu *v = k->v;
    bool in = k->run->io.direction == KVM_EXIT_IO_IN;
    u8 *data = (u8 *)k->run + k->run->io.data_offset;
    u64 start = host_tsc();
    for (u32 n = 0; n < k->run->io.count; n++)
        port_access(k, data + n * k->run->io.size);
    stat_add(&v->stats, in ? STAT_IO_READ : STAT_IO_WRITE, k->run->io.count);
    stat_add(&v->stats, STAT_TIME_DEVICE_NS,
             timebase_tsc_to_host_ns(v->machine->time, host_tsc() - start));
    k->io_pending = true;
    return true;
}

/* An unaligned access arrives in pieces of any size up to 8. */
static unsigned piece(unsigned len)
{
    return len & 8 ? 8 : len & 4 ? 4 : len & 2 ? 2 : 1;
}

static bool exit_mmio(struct kvm_engine *e, struct kvm_vcpu *k, struct vm_exit *exit)
{
    (void)e;
    (void)exit;
    struct vcpu *v = k->v;
    struct guest_mem *gm = v->machine->mem;
    u64 gpa = k->run->mmio.phys_addr, start = host_tsc();
    bool write = k->run->mmio.is_write;
    unsigned len = MIN(k->run->mmio.len, (u32)sizeof(k->run->mmio.data)), size;
    for (unsigned off = 0; off < len; off += size) {
        u8 *data = k->run->mmio.data + off;
        size = piece(len - off);
        if (write)
            guestmem_store(gm, gpa + off, load_le(data, size), size, NULL);
        else
            store_le(data, guestmem_load(gm, gpa + off, size, NULL), size);
    }
    stat_inc(&v->stats, write ? STAT_MMIO_WRITE : STAT_MMIO_READ);
    stat_add(&v->stats, STAT_TIME_DEVICE_NS,
             timebase_tsc_to_host_ns(v->machine->time, host_tsc() - start));
    k->io_pending = true;
    return true;
}

static bool exit_rdmsr(struct kvm_engine *e, struct kvm_vcpu *k, struct vm_exit *exit)
{
    (void)e;
    (void)exit;
    kvm_msr_exit(k, false);
    return true;
}

static bool exit_wrmsr(struct kvm_engine *e, struct kvm_vcpu *k, struct vm_exit *exit)
{
    (void)e;
    (void)exit;
    kvm_msr_exit(k, true);
    return true;
}

/* --- the rest --- */

/* Interrupt window and CR8: the run loop and kvm_enter() do what is to be done. */
static bool exit_go_on(struct kvm_engine *e, struct kvm_vcpu *k, struct vm_exit *exit)
{
    (void)e;
    (void)k;
    (void)exit;
    return true;
}

static bool exit_hlt(struct kvm_engine *e, struct kvm_vcpu *k, struct vm_exit *exit)
{
    (void)e;
    (void)exit;
    /* A vector waits for the window: let KVM report that first, for its request (V_IRQ) is still in
     * the VMCB, and QEMU's SVM loses an event that is injected beside it. */
    if (k->run->request_interrupt_window && k->if_flag) {
        k->can_inject = false;
        return true;
    }
    k->v->activity = ACTIVITY_HALTED;
    k->can_inject = k->if_flag; /* an interrupt shadow has ended with HLT */
    return true;
}

/* On AMD CPUs the state is undefined then, and KVM has put that after INIT in its place. */
static bool exit_shutdown(struct kvm_engine *e, struct kvm_vcpu *k, struct vm_exit *exit)
{
    kvm_pull(e, k, true, exit);
    k->v->activity = ACTIVITY_SHUTDOWN;
    exit->kind = EXIT_SHUTDOWN;
    return false;
}

static bool exit_internal_error(struct kvm_engine *e, struct kvm_vcpu *k, struct vm_exit *exit)
{
    u32 why = k->run->internal.suberror;
    if (why == KVM_INTERNAL_ERROR_DELIVERY_EV) /* pulling delivers the event */
        return kvm_pull(e, k, false, exit);
    if (why != KVM_INTERNAL_ERROR_EMULATION)
        return kvm_host_error(exit, "KVM: internal error %u", why);
    return kvm_pull(e, k, true, exit) && sem_step(k->v, exit);
}

static bool exit_fail_entry(struct kvm_engine *e, struct kvm_vcpu *k, struct vm_exit *exit)
{
    (void)e;
    return kvm_host_error(exit, "KVM cannot enter the guest: hardware reason %#llx",
                          k->run->fail_entry.hardware_entry_failure_reason);
}

static bool exit_unknown(struct kvm_engine *e, struct kvm_vcpu *k, struct vm_exit *exit)
{
    (void)e;
    return kvm_host_error(exit, "KVM: unknown exit, hardware reason %#llx",
                          k->run->hw.hardware_exit_reason);
}

struct exit_handler {
    bool (*handle)(struct kvm_engine *e, struct kvm_vcpu *k, struct vm_exit *exit);
    enum stat_id stat;
};

static const struct exit_handler handlers[] = {
    [KVM_EXIT_UNKNOWN] = {exit_unknown, STAT_KVM_EXIT_OTHER},
    [KVM_EXIT_IO] = {exit_io, STAT_KVM_EXIT_IO},
    [KVM_EXIT_MMIO] = {exit_mmio, STAT_KVM_EXIT_MMIO},
    [KVM_EXIT_HLT] = {exit_hlt, STAT_KVM_EXIT_HLT},
    [KVM_EXIT_INTR] = {exit_go_on, STAT_KVM_EXIT_INTR},
    [KVM_EXIT_IRQ_WINDOW_OPEN] = {exit_go_on, STAT_KVM_EXIT_IRQ_WINDOW},
    [KVM_EXIT_SET_TPR] = {exit_go_on, STAT_KVM_EXIT_TPR},
    [KVM_EXIT_DEBUG] = {exit_go_on, STAT_KVM_EXIT_DEBUG},
    [KVM_EXIT_X86_RDMSR] = {exit_rdmsr, STAT_KVM_EXIT_MSR},
    [KVM_EXIT_X86_WRMSR] = {exit_wrmsr, STAT_KVM_EXIT_MSR},
    [KVM_EXIT_SHUTDOWN] = {exit_shutdown, STAT_KVM_EXIT_SHUTDOWN},
    [KVM_EXIT_INTERNAL_ERROR] = {exit_internal_error, STAT_KVM_EXIT_EMULATION},
    [KVM_EXIT_FAIL_ENTRY] = {exit_fail_entry, STAT_KVM_EXIT_OTHER},
};

bool kvm_handle_exit(struct kvm_engine *e, struct kvm_vcpu *k, struct vm_exit *exit)
{
    u32 reason = k->run->exit_reason;
    if (reason < ARRAY_SIZE(handlers) && handlers[reason].handle) {
        stat_inc(&k->v->stats, handlers[reason].stat);
        return handlers[reason].handle(e, k, exit);
    }
    stat_inc(&k->v->stats, STAT_KVM_EXIT_OTHER);
    exit->kind = EXIT_UNSUPPORTED;
    snprintf(exit->text, sizeof(exit->text), "KVM: exit reason %u", reason);
    return false;
}
