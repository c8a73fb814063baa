/*
 * The kvm engine: guest mode through /dev/kvm. Interrupt chips stay in user space, the same devices
 * as for every engine; KVM gets vectors by KVM_INTERRUPT when the guest can take them. The run loop
 * is: see what other threads want, hand over an interrupt, KVM_RUN, act on the exit.
 *
 * A20: KVM cannot mask bit 20 of addresses, so the gate has no effect here. What depends on it
 * (a test for wrap-around at 1 MiB in old real-mode code) sees an open gate.
 */
#include "engine/kvm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/tunables.h"
#include "cpu/irq.h"
#include "mem/guestmem.h"

/* Three pages for a TSS and one for an identity map, which KVM needs in guest-physical space on
 * Intel CPUs to run real mode: where neither RAM nor a device ever is. */
#define IDENTITY_MAP_ADDR 0xfeffc000ULL
#define TSS_ADDR          0xfeffd000ULL

#define KICK_SIGNAL SIGUSR1

/* --- is it there? --- */

static const struct {
    int cap;
    const char *name;
} needed[] = {
    {KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
    {KVM_CAP_READONLY_MEM, "KVM_CAP_READONLY_MEM"},
    {KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR"},
    {KVM_CAP_SET_IDENTITY_MAP_ADDR, "KVM_CAP_SET_IDENTITY_MAP_ADDR"},
    {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
    {KVM_CAP_X86_USER_SPACE_MSR, "KVM_CAP_X86_USER_SPACE_MSR"},
    {KVM_CAP_X86_MSR_FILTER, "KVM_CAP_X86_MSR_FILTER"},
    {KVM_CAP_SREGS2, "KVM_CAP_SREGS2"},
    {KVM_CAP_XSAVE, "KVM_CAP_XSAVE"},
    {KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS"},
    {KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS"},
    {KVM_CAP_USER_NMI, "KVM_CAP_USER_NMI"},
};

static int open_failed(struct error *err, int code)
{
    switch (code) {
    case ENOENT:
    case ENXIO:
    case ENODEV:
        return error_set(err, code,
                         "/dev/kvm is not there: no hardware virtualization on this host, or the "
                         "kvm module is not loaded");
    case EACCES:
    case EPERM:
        return error_set(err, code, "/dev/kvm: permission denied: add yourself to group kvm");
    default:
        return error_errno(err, code, "/dev/kvm");
    }
}

/* Opens /dev/kvm and looks whether it has all that we need. Returns the descriptor. */
static int open_kvm(struct error *err)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return open_failed(err, errno);
    int rc = 0, version = ioctl(fd, KVM_GET_API_VERSION, 0);
    if (version != KVM_API_VERSION)
        rc = error_set(err, ENOTSUP, "/dev/kvm: API version %d, not %d", version, KVM_API_VERSION);
    for (unsigned i = 0; rc == 0 && i < ARRAY_SIZE(needed); i++)
        if (ioctl(fd, KVM_CHECK_EXTENSION, needed[i].cap) <= 0)
            rc = error_set(err, ENOTSUP,
                           "/dev/kvm lacks %s; Linux 5.14 and newer have what is needed",
                           needed[i].name);
    if (rc == 0)
        return fd;
    close(fd);
    return rc;
}

static int kvm_probe(struct error *err)
{
    int fd = open_kvm(err);
    if (fd < 0)
        return fd;
    int vm_fd = ioctl(fd, KVM_CREATE_VM, 0);
    int rc = vm_fd < 0 ? error_errno(err, errno, "/dev/kvm: cannot create a virtual machine") : 0;
    if (vm_fd >= 0)
        close(vm_fd);
    close(fd);
    return rc;
}

/* --- making the machine --- */

/* Without this KVM makes #UD of what it cannot emulate in user mode. */
static int report_failed_emulation(struct kvm_engine *e, struct error *err)
{
    struct kvm_enable_cap cap = {.cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE, .args = {1}};
    if (ioctl(e->fd, KVM_CHECK_EXTENSION, cap.cap) <= 0)
        return 0;
    if (ioctl(e->vm_fd, KVM_ENABLE_CAP, &cap) < 0)
        return error_errno(err, errno, "KVM_CAP_EXIT_ON_EMULATION_FAILURE");
    return 0;
}

static int create_vm(struct kvm_engine *e, struct error *err)
{
    u64 identity_map = IDENTITY_MAP_ADDR;
    e->vm_fd = ioctl(e->fd, KVM_CREATE_VM, 0);
    if (e->vm_fd < 0)
        return error_errno(err, errno, "/dev/kvm: cannot create a virtual machine");
    if (ioctl(e->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0 ||
        ioctl(e->vm_fd, KVM_SET_TSS_ADDR, TSS_ADDR) < 0)
        return error_errno(err, errno, "KVM: the pages for real mode");
    int rc = report_failed_emulation(e, err);
    if (rc == 0)
        rc = kvm_msr_init(e, err);
    if (rc == 0)
        rc = kvm_cpuid_init(e, err);
    return rc < 0 ? rc : kvm_set_memory(e, err);
}

static int create_vcpu(struct kvm_engine *e, struct vcpu *v, struct error *err)
{
    struct kvm_vcpu *k = &e->vcpu[v->id];
    struct kvm_device_attr tsc = {.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET};
    k->v = v;
    k->fd = ioctl(e->vm_fd, KVM_CREATE_VCPU, (unsigned long)v->id);
    int size = ioctl(e->fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (k->fd < 0 || size < 0)
        return error_errno(err, errno, "KVM: processor %u", v->id);
    void *p = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, k->fd, 0);
    if (p == MAP_FAILED)
        return error_errno(err, errno, "KVM: processor %u", v->id);
    k->run = p;
    k->run_size = (size_t)size;
    k->tsc_attr = ioctl(k->fd, KVM_HAS_DEVICE_ATTR, &tsc) == 0;
    return kvm_cpuid_set(e, k, err);
}

static void kvm_destroy(void *engine)
{
    struct kvm_engine *e = engine;
    guestmem_on_map_change(e->machine->mem, NULL, e);
    for (unsigned i = 0; i < MAX_CPUS; i++) {
        if (e->vcpu[i].run)
            munmap(e->vcpu[i].run, e->vcpu[i].run_size);
        if (e->vcpu[i].fd >= 0)
            close(e->vcpu[i].fd);
    }
    if (e->vm_fd >= 0)
        close(e->vm_fd);
    if (e->fd >= 0)
        close(e->fd);
    free(e);
}

static void on_kick(int sig)
{
    (void)sig;
}

static int kvm_create(struct machine *m, void **engine, struct error *err)
{
    struct sigaction action = {.sa_handler = on_kick, .sa_flags = SA_ONSTACK};
    struct kvm_engine *e = calloc(1, sizeof(*e));
    if (!e)
        return error_errno(err, ENOMEM, "the kvm engine");
    e->machine = m;
    e->vm_fd = -1;
    for (unsigned i = 0; i < MAX_CPUS; i++)
        e->vcpu[i].fd = -1;
    sigemptyset(&action.sa_mask);
    sigaction(KICK_SIGNAL, &action, NULL);
    e->fd = open_kvm(err);
    int rc = e->fd < 0 ? e->fd : create_vm(e, err);
    for (unsigned i = 0; rc == 0 && i < m->ncpus; i++)
        rc = create_vcpu(e, m->vcpu[i], err);
    if (rc < 0) {
        kvm_destroy(e);
        return rc;
    }
    guestmem_on_map_change(m->mem, kvm_map_changed, e);
    *engine = e;
    return 0;
}

/* --- one vCPU --- */

/* There are KVMs without hardware below them that now and then do not see immediate_exit; then the
 * one signal of a kick, if it came before KVM_RUN, is lost, and a guest that does not exit by
 * itself would never be interrupted or stopped again. So the signal comes again at a slow pace. */
static int start_rekick(struct kvm_vcpu *k, struct error *err)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = KICK_SIGNAL};
    struct timespec gap = {.tv_nsec = TUNE_KVM_REKICK_MS * 1000 * 1000};
    struct itimerspec pace = {.it_interval = gap, .it_value = gap};
    event._sigev_un._tid = gettid();
    if (timer_create(CLOCK_MONOTONIC, &event, &k->rekick) < 0)
        return error_errno(err, errno, "KVM: a timer for processor %u", k->v->id);
    timer_settime(k->rekick, 0, &pace, NULL);
    return 0;
}

static int kvm_attach(void *engine, struct vcpu *v, struct error *err)
{
    struct kvm_engine *e = engine;
    sigset_t kick;
    int rc = start_rekick(&e->vcpu[v->id], err);
    if (rc < 0)
        return rc;
    sigemptyset(&kick);
    sigaddset(&kick, KICK_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
    v->engine_vcpu = &e->vcpu[v->id];
    e->vcpu[v->id].loaded = false;
    return 0;
}

/* What goes wrong here leaves *v as it was before the vCPU ran; there is nobody to tell. */
static void kvm_sync(void *engine, struct vcpu *v)
{
    struct vm_exit ignored;
    kvm_pull(engine, v->engine_vcpu, false, &ignored);
}

static void kvm_detach(void *engine, struct vcpu *v)
{
    struct kvm_vcpu *k = v->engine_vcpu;
    kvm_sync(engine, v);
    timer_delete(k->rekick);
    v->engine_vcpu = NULL;
}

static void kvm_state_changed(void *engine, struct vcpu *v)
{
    struct kvm_engine *e = engine;
    e->vcpu[v->id].loaded = false;
}

/* The order matters: the events are raised already; whoever comes to kvm_run's look at them later
 * sees them, and whoever was there before has published its thread. */
static void kvm_kick(void *engine, struct vcpu *v)
{
    struct kvm_engine *e = engine;
    struct kvm_vcpu *k = &e->vcpu[v->id];
    __atomic_store_n(&k->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    pid_t thread = atomic_load(&k->thread);
    if (thread)
        syscall(SYS_tgkill, getpid(), thread, KICK_SIGNAL);
}

/* --- the run loop --- */

/* Hands KVM a vector if the guest can take one now, else asks to be told when it can. EVENT_INTR is
 * only a hint: it is cleared before looking, and set again if there is more. */
static bool offer_interrupt(struct kvm_vcpu *k)
{
    struct vcpu *v = k->v;
    k->run->request_interrupt_window = 0;
    if (!(vcpu_events(v) & EVENT_INTR))
        return true;
    vcpu_clear(v, EVENT_INTR);
    if (!v->irq || !v->irq->pending(v))
        return true;
    if (k->can_inject) {
        int vector = v->irq->acknowledge(v);
        struct kvm_interrupt irq = {.irq = (u32)vector};
        if (vector < 0)
            return true;
        if (ioctl(k->fd, KVM_INTERRUPT, &irq) < 0)
            return false;
        stat_inc(&v->stats, STAT_IRQ_DELIVERED);
        v->activity = ACTIVITY_RUNNING;
        k->can_inject = false;
        if (!v->irq->pending(v))
            return true;
    }
    if (v->activity == ACTIVITY_HALTED && !k->if_flag)
        return true; /* nothing but an NMI changes that, and it makes us look again */
    atomic_fetch_or(&v->events, EVENT_INTR);
    k->run->request_interrupt_window = 1;
    return true;
}

/* KVM holds an NMI back by itself while the guest blocks them. */
static bool inject_nmi(struct kvm_vcpu *k)
{
    struct vcpu *v = k->v;
    vcpu_clear(v, EVENT_NMI);
    if (ioctl(k->fd, KVM_NMI, 0) < 0)
        return false;
    stat_inc(&v->stats, STAT_NMI_DELIVERED);
    v->activity = ACTIVITY_RUNNING;
    atomic_fetch_or(&v->events, EVENT_INTR);
    return true;
}

/* What is to be done before the guest runs on. False: leave with *exit. */
static bool service(struct kvm_engine *e, struct kvm_vcpu *k, struct vm_exit *exit)
{
    struct vcpu *v = k->v;
    u32 events = atomic_load(&v->events);
    if (events & (EVENT_INIT | EVENT_SIPI | EVENT_STOP)) {
        exit->kind = EXIT_KICKED;
        return false;
    }
    if (v->activity == ACTIVITY_SHUTDOWN) {
        exit->kind = EXIT_SHUTDOWN;
        return false;
    }
    if (events & (EVENT_TLB_FLUSH | EVENT_SMI)) /* KVM flushes by itself; there is no SMM */
        vcpu_clear(v, EVENT_TLB_FLUSH | EVENT_SMI);
    if (!k->loaded && !kvm_push(e, k, exit))
        return false;
    if (events & EVENT_NMI && !inject_nmi(k))
        return kvm_host_error(exit, "KVM_NMI: %s", strerror(errno));
    if (!offer_interrupt(k))
        return kvm_host_error(exit, "KVM_INTERRUPT: %s", strerror(errno));
    if (v->activity == ACTIVITY_HALTED) {
        exit->kind = EXIT_HALT;
        return false;
    }
    return true;
}

/* One turn of the loop. False: leave with *exit. */
static bool turn(struct kvm_engine *e, struct kvm_vcpu *k, struct vm_exit *exit)
{
    __atomic_store_n(&k->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    if (!service(e, k, exit))
        return false;
    int rc = kvm_enter(k);
    if (rc == -EINTR || rc == -EAGAIN) {
        stat_inc(&k->v->stats, STAT_KVM_EXIT_INTR);
        return true;
    }
    if (rc < 0)
        return kvm_host_error(exit, "KVM_RUN: %s", strerror(-rc));
    return kvm_handle_exit(e, k, exit);
}

static void kvm_run(void *engine, struct vcpu *v, struct vm_exit *exit)
{
    struct kvm_vcpu *k = v->engine_vcpu;
    exit->text[0] = '\0';
    atomic_store(&k->thread, gettid());
    while (turn(engine, k, exit))
        ;
    atomic_store(&k->thread, 0);
}

const struct engine_ops engine_kvm = {
    .name = "kvm",
    .summary = "guest mode of the hardware, through /dev/kvm",
    .probe = kvm_probe,
    .missing_features = kvm_missing_features,
    .create = kvm_create,
    .destroy = kvm_destroy,
    .attach = kvm_attach,
    .detach = kvm_detach,
    .run = kvm_run,
    .kick = kvm_kick,
    .sync = kvm_sync,
    .state_changed = kvm_state_changed,
};
