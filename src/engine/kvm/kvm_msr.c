/*
 * Model-specific registers. The kernel keeps those that the processor itself uses while the guest
 * runs, and the guest reads and writes them there; every other one comes to user space by a filter
 * that denies by default, where sem/ has the same registers as for other engines.
 */
#include "engine/kvm/kvm.h"

#include <errno.h>

#include "base/log.h"
#include "base/timebase.h"
#include "engine/sem/sem.h"
#include "engine/sem/sem_kvmclock.h"

/* Registers with a field in struct vcpu that moves to the kernel and back. */
static const struct kept_msr {
    u32 msr;
    size_t field;
    enum cpu_feature feature; /* the register comes with it */
} kept[] = {
    {MSR_SYSENTER_CS, offsetof(struct vcpu, msr.sysenter_cs), FEAT_SEP},
    {MSR_SYSENTER_ESP, offsetof(struct vcpu, msr.sysenter_esp), FEAT_SEP},
    {MSR_SYSENTER_EIP, offsetof(struct vcpu, msr.sysenter_eip), FEAT_SEP},
    {MSR_PAT, offsetof(struct vcpu, msr.pat), FEAT_PAT},
    {MSR_STAR, offsetof(struct vcpu, msr.star), FEAT_SYSCALL},
    {MSR_LSTAR, offsetof(struct vcpu, msr.lstar), FEAT_LM},
    {MSR_CSTAR, offsetof(struct vcpu, msr.cstar), FEAT_LM},
    {MSR_FMASK, offsetof(struct vcpu, msr.fmask), FEAT_LM},
    {MSR_KERNEL_GS_BASE, offsetof(struct vcpu, msr.kernel_gs_base), FEAT_LM},
    {MSR_TSC_AUX, offsetof(struct vcpu, msr.tsc_aux), FEAT_RDTSCP},
};

union msr_list {
    struct kvm_msrs msrs;
    u8 room[sizeof(struct kvm_msrs) + ARRAY_SIZE(kept) * sizeof(struct kvm_msr_entry)];
};

/* What the guest may do without us. TSC only for reading: a write changes v->tsc_offset. FS and GS
 * base and EFER are in struct kvm_sregs2. */
static const struct {
    u32 base, count, flags;
    u64 allowed; /* bit n: base + n */
} allowed[] = {
    {MSR_TSC, 1, KVM_MSR_FILTER_READ, 1},
    {MSR_SYSENTER_CS, 3, KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, 7},
    {MSR_PAT, 1, KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, 1},
    {MSR_EFER, 5, KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, 0x1f},
    {MSR_FS_BASE, 4, KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, 0xf},
};

int kvm_msr_init(struct kvm_engine *e, struct error *err)
{
    u64 bitmap[ARRAY_SIZE(allowed)];
    struct kvm_enable_cap cap = {.cap = KVM_CAP_X86_USER_SPACE_MSR,
                                 .args = {KVM_MSR_EXIT_REASON_FILTER}};
    struct kvm_msr_filter filter = {.flags = KVM_MSR_FILTER_DEFAULT_DENY};
    for (unsigned i = 0; i < ARRAY_SIZE(allowed); i++) {
        bitmap[i] = allowed[i].allowed;
        filter.ranges[i] = (struct kvm_msr_filter_range){.flags = allowed[i].flags,
                                                         .nmsrs = allowed[i].count,
                                                         .base = allowed[i].base,
                                                         .bitmap = (u8 *)&bitmap[i]};
    }
    if (ioctl(e->vm_fd, KVM_ENABLE_CAP, &cap) < 0 ||
        ioctl(e->vm_fd, KVM_X86_SET_MSR_FILTER, &filter) < 0)
        return error_errno(err, errno, "KVM: MSR accesses in user space");
    return 0;
}

static u64 *field_of(struct vcpu *v, const struct kept_msr *m)
{
    return (u64 *)((char *)v + m->field);
}

static int transfer(struct kvm_vcpu *k, unsigned long request, union msr_list *list)
{
    int n = ioctl(k->fd, request, list);
    if (n < 0)
        return -errno;
    return (u32)n == list->msrs.nmsrs ? 0 : -EINVAL;
}

int kvm_msrs_push(struct kvm_engine *e, struct kvm_vcpu *k)
{
    union msr_list list = {.room = {0}};
    for (unsigned i = 0; i < ARRAY_SIZE(kept); i++)
        if (cpu_has(e->machine->model, kept[i].feature))
            list.msrs.entries[list.msrs.nmsrs++] =
                (struct kvm_msr_entry){.index = kept[i].msr, .data = *field_of(k->v, &kept[i])};
    return transfer(k, KVM_SET_MSRS, &list);
}

int kvm_msrs_pull(struct kvm_engine *e, struct kvm_vcpu *k)
{
    union msr_list list = {.room = {0}};
    for (unsigned i = 0; i < ARRAY_SIZE(kept); i++)
        if (cpu_has(e->machine->model, kept[i].feature))
            list.msrs.entries[list.msrs.nmsrs++].index = kept[i].msr;
    int rc = transfer(k, KVM_GET_MSRS, &list);
    for (unsigned i = 0, n = 0; rc == 0 && i < ARRAY_SIZE(kept); i++)
        if (cpu_has(e->machine->model, kept[i].feature))
            *field_of(k->v, &kept[i]) = list.msrs.entries[n++].data;
    return rc;
}

static int set_tsc(struct kvm_vcpu *k)
{
    u64 offset = k->v->tsc_offset - k->v->machine->time->start_tsc;
    struct kvm_device_attr attr = {
        .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (u64)(uintptr_t)&offset};
    union msr_list list = {.msrs = {.nmsrs = 1}};
    if (k->tsc_attr)
        return ioctl(k->fd, KVM_SET_DEVICE_ATTR, &attr) < 0 ? -errno : 0;
    list.msrs.entries[0] = (struct kvm_msr_entry){.index = MSR_TSC, .data = sem_tsc(k->v)};
    return transfer(k, KVM_SET_MSRS, &list);
}

/* The guest's TSC is the host's plus one number, as in other engines. There are KVMs without
 * hardware below them that take the number and ignore it: then the guest's TSC is the host's, and
 * timers and clocks must know. */
int kvm_tsc_push(struct kvm_vcpu *k)
{
    struct vcpu *v = k->v;
    union msr_list list = {.msrs = {.nmsrs = 1}};
    int rc = set_tsc(k);
    list.msrs.entries[0].index = MSR_TSC;
    if (rc == 0)
        rc = transfer(k, KVM_GET_MSRS, &list);
    if (rc < 0)
        return rc;
    u64 second = v->machine->time->tsc_hz / v->machine->time->slow;
    u64 late = sem_tsc(v) - list.msrs.entries[0].data;
    if (late + second < 2 * second) /* less than a second apart */
        return 0;
    if (v->stats.count[STAT_ENGINE_SWITCHES])
        log_warn("processor %u's TSC jumps: this KVM gives guests the host's", v->id);
    v->tsc_offset = v->machine->time->start_tsc;
    sem_kvmclock_update(v);
    return 0;
}

void kvm_msr_exit(struct kvm_vcpu *k, bool write)
{
    struct vcpu *v = k->v;
    u64 value = k->run->msr.data, offset = v->tsc_offset;
    u32 msr = k->run->msr.index;
    bool ok = write ? sem_write_msr(v, msr, value) : sem_read_msr(v, msr, &value);
    k->run->msr.error = !ok;
    k->run->msr.data = value;
    if (v->tsc_offset != offset)
        kvm_tsc_push(k);
    k->io_pending = true;
}
