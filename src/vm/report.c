/*
 * What the user gets to see after a run: counters as text or JSON, and the dump of a processor
 * whose guest failed.
 */
#include "vm/machine.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "base/tunables.h"
#include "cpu/insn.h"
#include "engine/lockstep/lockstep.h"
#include "mem/tlb.h"

/* All vCPUs together, with the run loop's clock readings put in their counters. */
static void gather(struct vm *vm, struct stats *total)
{
    memset(total, 0, sizeof(*total));
    for (unsigned i = 0; i < vm->machine.ncpus; i++) {
        const struct vcpu_thread *t = &vm->threads[i];
        u64 device_ns = t->cpu->stats.count[STAT_TIME_DEVICE_NS];
        stats_merge(total, &t->cpu->stats);
        total->count[STAT_TIME_ENGINE_NS] += t->engine_ns - MIN(device_ns, t->engine_ns);
        total->count[STAT_TIME_IDLE_NS] += t->idle_ns;
    }
}

/* Guest instructions per second of time in the engine; only the interpreter counts instructions. */
static double interp_speed(const struct stats *s)
{
    u64 ns = s->count[STAT_TIME_ENGINE_NS];
    return ns ? (double)s->count[STAT_INSN_INTERP] * 1e9 / (double)ns : 0;
}

/* a per b, or 0. */
static double ratio(const struct stats *s, enum stat_id a, enum stat_id b)
{
    return s->count[b] ? (double)s->count[a] / (double)s->count[b] : 0;
}

static void print_text(const struct vm *vm, const struct stats *s)
{
    fprintf(stderr, "\nringer statistics (engine %s, %u vCPU)\n", vm->ops->name, vm->machine.ncpus);
    for (unsigned i = 0; i < STAT_COUNT; i++) {
        if (!s->count[i])
            continue;
        if (strcmp(stat_info[i].unit, "ns") == 0)
            fprintf(stderr, "  %-28s %15.3f s      %s\n", stat_info[i].name,
                    (double)s->count[i] / 1e9, stat_info[i].help);
        else
            fprintf(stderr, "  %-28s %15" PRIu64 " %-6s %s\n", stat_info[i].name, s->count[i],
                    stat_info[i].unit, stat_info[i].help);
    }
    if (s->count[STAT_INSN_INTERP])
        fprintf(stderr, "  %-28s %15.1f M/s    guest instructions per second of engine time\n",
                "interp.speed", interp_speed(s) / 1e6);
    if (s->count[STAT_BT_TRANSLATED]) {
        fprintf(stderr, "  %-28s %15.2f        host bytes per guest byte translated\n", "bt.growth",
                ratio(s, STAT_BT_HOST_BYTES, STAT_BT_GUEST_BYTES));
        fprintf(stderr,
                "  %-28s %15.1f %%      entries at which the exit that led there was linked\n",
                "bt.chain_rate", 100 * ratio(s, STAT_BT_LINKS, STAT_BT_ENTRIES));
    }
}

static int write_json(const struct vm *vm, const struct stats *s, struct error *err)
{
    const char *path = vm->settings->stats_path;
    json_t *root = json_object(), *counters = json_object();
    for (unsigned i = 0; i < STAT_COUNT; i++)
        json_object_set_new(counters, stat_info[i].name, json_integer((json_int_t)s->count[i]));
    json_object_set_new(root, "engine", json_string(vm->ops->name));
    json_object_set_new(root, "cpus", json_integer(vm->machine.ncpus));
    json_object_set_new(root, "guest_seconds", json_real((double)timebase_ns(&vm->time) / 1e9));
    json_object_set_new(root, "host_seconds", json_real((double)timebase_host_ns(&vm->time) / 1e9));
    json_object_set_new(root, "interp_insn_per_second", json_real(interp_speed(s)));
    json_object_set_new(root, "bt_growth",
                        json_real(ratio(s, STAT_BT_HOST_BYTES, STAT_BT_GUEST_BYTES)));
    json_object_set_new(root, "bt_chain_rate", json_real(ratio(s, STAT_BT_LINKS, STAT_BT_ENTRIES)));
    json_object_set_new(root, "counters", counters);
    if (vm->settings->stats_interval > 0)
        json_object_set_new(root, "samples", samples_json(vm));
    int rc = json_dump_file(root, path, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    json_decref(root);
    if (rc < 0)
        return error_errno(err, errno ? errno : EIO, "--stats json:%s: cannot write the file",
                           path);
    return 0;
}

int vm_report_stats(struct vm *vm, struct error *err)
{
    struct stats total;
    gather(vm, &total);
    if (vm->settings->stats == STATS_JSON)
        return write_json(vm, &total, err);
    if (vm->settings->stats == STATS_TEXT)
        print_text(vm, &total);
    return 0;
}

static const char *const mode_names[] = {
    [MODE_REAL] = "real mode",
    [MODE_V86] = "virtual-8086 mode",
    [MODE_PROT16] = "16-bit protected mode",
    [MODE_PROT32] = "32-bit protected mode",
    [MODE_COMPAT16] = "16-bit compatibility mode",
    [MODE_COMPAT32] = "32-bit compatibility mode",
    [MODE_LONG64] = "64-bit mode",
};

static void dump_segment(const char *name, const struct segment *s)
{
    fprintf(stderr, "  %-4s %04x base %016" PRIx64 " limit %08x attr %05x\n", name, s->sel, s->base,
            s->limit, s->attr);
}

static void dump_registers(const struct vcpu *v)
{
    static const char gpr_names[16][4] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    static const char seg_names[6][3] = {"es", "cs", "ss", "ds", "fs", "gs"};
    for (unsigned i = 0; i < 16; i++)
        fprintf(stderr, "%s%-3s %016" PRIx64 "%s", i % 4 ? " " : "  ", gpr_names[i], v->gpr[i],
                i % 4 == 3 ? "\n" : "");
    fprintf(stderr, "  rip %016" PRIx64 " rflags %08" PRIx64 " cpl %u, %s\n", v->rip, v->rflags,
            v->cpl, mode_names[v->mode]);
    for (unsigned i = 0; i < 6; i++)
        dump_segment(seg_names[i], &v->seg[i]);
    dump_segment("ldtr", &v->ldtr);
    dump_segment("tr", &v->tr);
    fprintf(stderr, "  gdtr base %016" PRIx64 " limit %04x   idtr base %016" PRIx64 " limit %04x\n",
            v->gdtr.base, v->gdtr.limit, v->idtr.base, v->idtr.limit);
    fprintf(stderr,
            "  cr0 %08" PRIx64 " cr2 %016" PRIx64 " cr3 %016" PRIx64 " cr4 %08" PRIx64
            " efer %04" PRIx64 "\n",
            v->cr0, v->cr2, v->cr3, v->cr4, v->efer);
    fprintf(stderr,
            "  dr6 %08" PRIx64 " dr7 %08" PRIx64
            "; last fault delivered: vector %u, error code %x\n",
            v->dr[6], v->dr[7], v->fault.vector, v->fault.error);
}

static unsigned peek_code(struct vcpu *v, u64 lin, u8 buf[15])
{
    unsigned n = 0;
    u64 gpa;
    while (n < 15 && walk_peek(v, lin + n, &gpa) && guestmem_read(v->machine->mem, gpa, &buf[n], 1))
        n++;
    return n;
}

/* Up to `count` instructions from CS:rip on, or up to the one at `stop`. */
static void disassemble(struct vcpu *v, u64 rip, unsigned count, u64 stop)
{
    for (unsigned k = 0; k < count; k++) {
        u8 bytes[15];
        struct insn i;
        char text[96], hex[48] = "";
        u64 lin = v->mode == MODE_LONG64 ? rip : v->seg[SEG_CS].base + rip;
        unsigned n = peek_code(v, lin, bytes);
        if (n == 0 || insn_decode(bytes, n, v->mode, &i) != DECODE_OK) {
            fprintf(stderr, "  %016" PRIx64 "  (%s)\n", rip,
                    n ? "no valid instruction" : "not mapped");
            return;
        }
        for (unsigned b = 0; b < i.len; b++)
            snprintf(hex + 3 * b, sizeof(hex) - 3 * b, "%02x ", bytes[b]);
        insn_format(&i, v->mode, rip, text, sizeof(text));
        fprintf(stderr, "%s %016" PRIx64 "  %-30s %s\n", rip == stop ? ">" : " ", rip, hex, text);
        if (rip == stop || i.flags & INSN_END)
            return;
        rip += i.len;
    }
}

void vm_dump_cpu(struct vm *vm, unsigned cpu)
{
    struct vcpu *v = vm->machine.vcpu[cpu];
    fprintf(stderr, "processor %u:\n", cpu);
    dump_registers(v);
    fprintf(stderr, "last blocks, oldest first:\n");
    for (unsigned k = 0; k < TUNE_LAST_BRANCHES; k++) {
        u64 rip = v->last_rip[(v->last_pos + k) % TUNE_LAST_BRANCHES];
        if (!rip)
            continue;
        disassemble(v, rip, 12, v->rip);
        fprintf(stderr, "  --\n");
    }
    fprintf(stderr, "at rip:\n");
    disassemble(v, v->rip, 1, v->rip);
}

void vm_print_difference(struct vm *vm)
{
    const char *text = lockstep_difference(vm->engine);
    fputs(text ? text : "(no memory for the details)\n", stderr);
}
