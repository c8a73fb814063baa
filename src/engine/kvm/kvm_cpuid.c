/*
 * CPUID: the guest sees the model of all engines, cut down to what this KVM can run. A feature
 * whose instructions, registers or paging rules need the hardware or KVM's emulator must be in
 * KVM_GET_SUPPORTED_CPUID; one that lives in our own devices or is only a statement need not.
 */
#include "engine/kvm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define MAX_ENTRIES 256

enum cpuid_reg { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

static const struct {
    u32 leaf;
    u8 reg, bit;
} features[FEAT_COUNT] = {
#define FEATURE(name, leaf, reg, bit, cond) [FEAT_##name] = {leaf, CPUID_##reg, bit},
#include "cpu/features.def"
#undef FEATURE
};

/* Ours, or not a matter of KVM's. */
static const u8 independent[] = {
    FEAT_APIC,         FEAT_MTRR,          FEAT_MCE,        FEAT_MCA,  FEAT_HT,
    FEAT_TSC_DEADLINE, FEAT_ERMS,          FEAT_TSC_ADJUST, FEAT_FSRM, FEAT_CMP_LEGACY,
    FEAT_TOPOEXT,      FEAT_INVARIANT_TSC, FEAT_HYPERVISOR,
};

union cpuid_list {
    struct kvm_cpuid2 cpuid;
    u8 room[sizeof(struct kvm_cpuid2) + MAX_ENTRIES * sizeof(struct kvm_cpuid_entry2)];
};

static u32 register_of(const struct kvm_cpuid_entry2 *entry, unsigned reg)
{
    const u32 r[] = {entry->eax, entry->ebx, entry->ecx, entry->edx};
    return r[reg];
}

static bool list_has(const union cpuid_list *list, enum cpu_feature f)
{
    u32 subleaf = features[f].leaf == 0xd ? 1 : 0;
    for (u32 i = 0; i < list->cpuid.nent; i++) {
        const struct kvm_cpuid_entry2 *entry = &list->cpuid.entries[i];
        if (entry->function == features[f].leaf && entry->index == subleaf)
            return register_of(entry, features[f].reg) >> features[f].bit & 1;
    }
    return false;
}

static bool is_independent(unsigned feature)
{
    for (unsigned i = 0; i < ARRAY_SIZE(independent); i++)
        if (independent[i] == feature)
            return true;
    return false;
}

/* Adds to what is in `missing`. */
static int find_missing(int kvm_fd, bool *missing)
{
    union cpuid_list list = {.cpuid = {.nent = MAX_ENTRIES}};
    if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, &list) < 0)
        return -errno;
    for (unsigned f = 0; f < FEAT_COUNT; f++)
        if (!is_independent(f) && !list_has(&list, (enum cpu_feature)f))
            missing[f] = true;
    return 0;
}

void kvm_missing_features(bool *missing)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    find_missing(fd, missing);
    close(fd);
}

int kvm_cpuid_init(struct kvm_engine *e, struct error *err)
{
    bool missing[FEAT_COUNT] = {false};
    int rc = find_missing(e->fd, missing);
    if (rc < 0)
        return error_errno(err, -rc, "KVM_GET_SUPPORTED_CPUID");
    for (unsigned f = 0; f < FEAT_COUNT; f++)
        if (missing[f] && cpu_has(e->machine->model, (enum cpu_feature)f))
            return error_set(err, ENOTSUP, "the machine's CPU has %s, which this KVM cannot run",
                             cpu_feature_name((enum cpu_feature)f));
    return 0;
}

int kvm_cpuid_set(struct kvm_engine *e, struct kvm_vcpu *k, struct error *err)
{
    const struct cpu_model *model = e->machine->model;
    union cpuid_list list = {.room = {0}};
    for (unsigned i = 0; i < model->nleaves; i++) {
        const struct cpuid_leaf *leaf = &model->leaf[i];
        u32 r[4];
        cpu_cpuid(k->v, leaf->leaf, leaf->subleaf, r);
        list.cpuid.entries[list.cpuid.nent++] = (struct kvm_cpuid_entry2){
            .function = leaf->leaf,
            .index = leaf->subleaf,
            .flags = leaf->has_subleaf ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
            .eax = r[CPUID_EAX],
            .ebx = r[CPUID_EBX],
            .ecx = r[CPUID_ECX],
            .edx = r[CPUID_EDX],
        };
    }
    if (ioctl(k->fd, KVM_SET_CPUID2, &list) < 0)
        return error_errno(err, errno, "KVM_SET_CPUID2");
    return 0;
}
