/*
 * Runs a case on the host CPU: a signal handler puts the case's registers into the context that
 * sigreturn restores, so the instruction runs in this very process; the trap or fault behind it
 * brings us back with everything it left. 32-bit cases run in Linux's 32-bit code segment.
 */
#include "insn_test.h"
#undef REG_RIP /* ours means an addressing mode, that of <ucontext.h> an index */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

/* What the handlers work on: one case at a time. */
static const struct test_case *current;
static struct test_result *outcome;
static volatile sig_atomic_t running;
static ucontext_t before; /* to go on with after the case */
static u8 saved_fpu[8192] __attribute__((aligned(64)));
static size_t saved_fpu_size;

/* Order of greg_t names by x86 register number. */
static const int greg[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                             REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

/* Linux's software-reserved bytes in the frame (asm/sigcontext.h): size of the whole, components. */
#define SW_EXTENDED_SIZE 468
#define SW_XFEATURES     472

static size_t frame_size(const u8 *frame)
{
    u32 size;
    memcpy(&size, frame + SW_EXTENDED_SIZE, sizeof(size));
    return size ? MIN(size, sizeof(saved_fpu)) : 512;
}

static void put_fpu(u8 *frame, const struct fpu_state *f)
{
    u64 components = XCR0_X87 | XCR0_SSE | XCR0_AVX;
    memcpy(frame, f, 416); /* up to the bytes that the kernel uses */
    memcpy(frame + 512, &components, sizeof(components));
    memcpy(frame + 576, f->ymm_hi, sizeof(f->ymm_hi));
}

static void get_fpu(const u8 *frame, struct fpu_state *f)
{
    u64 components;
    memset(f, 0, sizeof(*f));
    memcpy(f, frame, 416);
    memcpy(&components, frame + 512, sizeof(components));
    if (components & XCR0_AVX)
        memcpy(f->ymm_hi, frame + 576, sizeof(f->ymm_hi));
    if (!(components & XCR0_SSE))
        memset(f->legacy.xmm, 0, sizeof(f->legacy.xmm));
    if (!(components & XCR0_X87)) {
        memset(f->legacy.st, 0, sizeof(f->legacy.st));
        f->legacy.fcw = 0x37f;
        f->legacy.fsw = 0;
        f->legacy.ftw_abridged = 0;
    }
}

static void start_case(ucontext_t *uc)
{
    u8 *frame = (u8 *)uc->uc_mcontext.fpregs;
    before = *uc;
    saved_fpu_size = frame_size(frame);
    memcpy(saved_fpu, frame, saved_fpu_size);
    for (unsigned i = 0; i < 16; i++)
        uc->uc_mcontext.gregs[greg[i]] = (greg_t)current->gpr[i];
    uc->uc_mcontext.gregs[REG_RIP] = INSN_ADDR;
    uc->uc_mcontext.gregs[REG_EFL] = (greg_t)current->rflags;
    u64 selectors = (u64)uc->uc_mcontext.gregs[REG_CSGSFS] & ~0xffffULL;
    uc->uc_mcontext.gregs[REG_CSGSFS] =
        (greg_t)(selectors | (current->mode == MODE_LONG64 ? SEL_CODE64 : SEL_CODE32));
    put_fpu(frame, &current->fpu);
    running = 1;
}

static void end_case(ucontext_t *uc)
{
    u8 *frame = (u8 *)uc->uc_mcontext.fpregs;
    struct test_result *r = outcome;
    for (unsigned i = 0; i < 16; i++)
        r->gpr[i] = (u64)uc->uc_mcontext.gregs[greg[i]];
    r->rip = (u64)uc->uc_mcontext.gregs[REG_RIP];
    r->rflags = (u64)uc->uc_mcontext.gregs[REG_EFL];
    r->vector = (unsigned)uc->uc_mcontext.gregs[REG_TRAPNO];
    r->error = (u32)uc->uc_mcontext.gregs[REG_ERR];
    r->cr2 = (u64)uc->uc_mcontext.gregs[REG_CR2];
    get_fpu(frame, &r->fpu);
    memcpy(uc->uc_mcontext.gregs, before.uc_mcontext.gregs, sizeof(before.uc_mcontext.gregs));
    memcpy(frame, saved_fpu, saved_fpu_size);
    running = 0;
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    (void)info;
    if (!running && sig == SIGUSR2)
        start_case(context);
    else if (running)
        end_case(context);
    else
        abort();
}

static void *map_at(u64 addr, size_t size, int protection)
{
    void *p = mmap((void *)addr, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (p == MAP_FAILED) {
        perror("mmap of the test's pages");
        exit(1);
    }
    return p;
}

void host_setup(void)
{
    static const int signals[] = {SIGUSR2, SIGTRAP, SIGSEGV, SIGFPE, SIGILL, SIGBUS};
    static u8 stack[256 * 1024];
    stack_t alt = {.ss_sp = stack, .ss_size = sizeof(stack)};
    sigaltstack(&alt, NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(signals); i++) {
        struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
        sigaction(signals[i], &sa, NULL);
    }
    map_at(CODE_ADDR, CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC);
    map_at(DATA_ADDR, DATA_SIZE, PROT_READ | PROT_WRITE);
    (void)*(volatile u8 *)map_at(RO_ADDR, PAGE_SIZE, PROT_READ); /* present from the first write on */
    /* 32-bit code needs data segments that are not null. */
    __asm__ volatile("mov %0, %%ds; mov %0, %%es" ::"r"(SEL_DATA));
}

void host_run(const struct test_case *c, struct test_result *r)
{
    memset((void *)(uintptr_t)CODE_ADDR, 0xcc, CODE_SIZE);
    memcpy((void *)(uintptr_t)INSN_ADDR, c->bytes, c->len);
    memcpy((void *)(uintptr_t)DATA_ADDR, c->data, DATA_SIZE);
    current = c;
    outcome = r;
    raise(SIGUSR2);
    memcpy(r->data, (void *)(uintptr_t)DATA_ADDR, DATA_SIZE);
}

bool host_runs_32bit(void)
{
    static struct test_case nop = {.mode = MODE_COMPAT32, .bytes = {0x90}, .len = 1, .rflags = FLAG_ONE};
    static struct test_result r;
    nop.fpu.legacy.fcw = 0x37f;
    nop.fpu.legacy.mxcsr = 0x1f80;
    host_run(&nop, &r);
    return r.vector == VEC_BP;
}
