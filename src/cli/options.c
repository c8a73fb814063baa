/*
 * Parsing of the command line from one table of options, which is also the help's text. Every error
 * names the option, what it got, and what it takes.
 */
#include "cli/options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/timebase.h"
#include "cli/compare/compare.h"
#include "cli/drives.h"
#include "cli/nano.h"
#include "cli/translate.h"
#include "engine/engine.h"
#include "engine/lockstep/lockstep.h"
#include "host/keys.h"
#include "mem/guestmem.h"
#include "vm/firmware.h"

struct option {
    const char *name;     /* without the dashes */
    const char *argument; /* as the help shows it; NULL: a flag */
    const char *help;     /* lines after the first are separated by \n */
    /* arg is NULL for a flag. */
    int (*set)(struct settings *s, const char *arg, struct error *err);
};

bool options_size(const char *text, u64 *size)
{
    static const char suffixes[] = "KMGT";
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 0);
    if (errno)
        return false;
    const char *suffix = *end ? strchr(suffixes, *end & ~0x20) : NULL;
    if (*end && (!suffix || end[1]))
        return false;
    unsigned shift = suffix ? 10 * (unsigned)(suffix - suffixes + 1) : 0;
    *size = (u64)n << shift;
    return *size >> shift == n;
}

static bool parse_seconds(const char *text, size_t len, double *seconds)
{
    char copy[32], *end;
    if (len == 0 || len >= sizeof(copy))
        return false;
    memcpy(copy, text, len);
    copy[len] = 0;
    *seconds = strtod(copy, &end);
    return !*end && isfinite(*seconds) && *seconds > 0;
}

static int set_engine(struct settings *s, const char *arg, struct error *err)
{
    if (strcmp(arg, "auto") != 0 && !engine_find(arg))
        return error_set(err, EINVAL, "--engine %s: no such engine; `ringer engines` lists them",
                         arg);
    s->engine = arg;
    return 0;
}

/* A file that a loader will read: says early and clearly what is wrong with the name. */
static int check_file(const char *option, const char *path, struct error *err)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return error_errno(err, errno, "--%s %s", option, path);
    if (S_ISDIR(st.st_mode))
        return error_set(err, EISDIR, "--%s %s: is a directory; name a file", option, path);
    return 0;
}

static int set_kernel(struct settings *s, const char *arg, struct error *err)
{
    s->boot.kernel = arg;
    return check_file("kernel", arg, err);
}

static int set_initrd(struct settings *s, const char *arg, struct error *err)
{
    (void)err;
    s->boot.initrd = arg;
    return 0;
}

static int set_append(struct settings *s, const char *arg, struct error *err)
{
    (void)err;
    s->boot.append = arg;
    return 0;
}

static int set_linux_boot(struct settings *s, const char *arg, struct error *err)
{
    static const char *const names[] = {[LINUX_BOOT_AUTO] = "auto",
                                        [LINUX_BOOT_16] = "16",
                                        [LINUX_BOOT_32] = "32",
                                        [LINUX_BOOT_64] = "64"};
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (strcmp(arg, names[i]) == 0) {
            s->boot.linux_protocol = (enum linux_protocol)i;
            return 0;
        }
    return error_set(err, EINVAL, "--linux-boot %s: takes auto, 16, 32 or 64", arg);
}

/* ADDR[:ENTRY] */
static int set_raw(struct settings *s, const char *arg, struct error *err)
{
    char addr[32];
    const char *colon = strchr(arg, ':');
    size_t len = colon ? (size_t)(colon - arg) : strlen(arg);
    snprintf(addr, sizeof(addr), "%.*s", (int)MIN(len, sizeof(addr) - 1), arg);
    s->boot.raw = true;
    if (!options_size(addr, &s->boot.raw_addr) || len >= sizeof(addr))
        return error_set(err, EINVAL, "--raw %s: takes ADDRESS[:ENTRY], for example 0x7c00", arg);
    s->boot.raw_entry = s->boot.raw_addr;
    if (colon && !options_size(colon + 1, &s->boot.raw_entry))
        return error_set(err, EINVAL, "--raw %s: '%s' is not an address", arg, colon + 1);
    return 0;
}

static int set_mem(struct settings *s, const char *arg, struct error *err)
{
    if (!options_size(arg, &s->mem_size))
        return error_set(err, EINVAL, "--mem %s: takes a size such as 512M or 2G", arg);
    if (s->mem_size < RAM_MIN || s->mem_size > RAM_MAX || s->mem_size % PAGE_SIZE)
        return error_set(err, EINVAL, "--mem %s: must be 1M to 256G and a multiple of 4K", arg);
    return 0;
}

static int set_tc_size(struct settings *s, const char *arg, struct error *err)
{
    if (!options_size(arg, &s->tc_size))
        return error_set(err, EINVAL, "--tc-size %s: takes a size such as 64M", arg);
    if (s->tc_size < TC_SIZE_MIN || s->tc_size > TC_SIZE_MAX)
        return error_set(err, EINVAL, "--tc-size %s: must be 1M to 1G", arg);
    return 0;
}

static int set_perf_map(struct settings *s, const char *arg, struct error *err)
{
    (void)arg;
    (void)err;
    s->perf_map = true;
    return 0;
}

static int set_cpus(struct settings *s, const char *arg, struct error *err)
{
    char *end;
    unsigned long n = strtoul(arg, &end, 10);
    if (*end || arg[0] < '0' || arg[0] > '9' || n < 1 || n > MAX_CPUS)
        return error_set(err, EINVAL, "--cpus %s: takes a number from 1 to %d", arg, MAX_CPUS);
    s->cpus = (unsigned)n;
    return 0;
}

static int set_serial(struct settings *s, const char *arg, struct error *err)
{
    if (strcmp(arg, "stdio") != 0 && strcmp(arg, "none") != 0 &&
        (strncmp(arg, "file:", 5) != 0 || !arg[5]))
        return error_set(err, EINVAL, "--serial %s: takes stdio, none or file:NAME", arg);
    s->serial = arg;
    return 0;
}

static int set_keys(struct settings *s, const char *arg, struct error *err)
{
    double seconds;
    if (s->nkeys == MAX_KEYS)
        return error_set(err, EINVAL, "--keys: at most %d times", MAX_KEYS);
    s->keys[s->nkeys++] = arg;
    return keys_check(arg, &seconds, err);
}

static int set_none_only(const char *option, const char *arg, const char *why, struct error *err)
{
    if (strcmp(arg, "none") == 0)
        return 0;
    return error_set(err, ENOTSUP, "--%s %s: %s; only 'none' works", option, arg, why);
}

static int set_net(struct settings *s, const char *arg, struct error *err)
{
    (void)s;
    return set_none_only("net", arg, "this version has no network card", err);
}

/* none, text, or vnc=ADDR[,password-file=FILE] */
static int set_display(struct settings *s, const char *arg, struct error *err)
{
    static const char option[] = ",password-file=";
    struct display_settings *d = &s->display;
    *d = (struct display_settings){.kind = DISPLAY_NONE};
    if (strcmp(arg, "none") == 0)
        return 0;
    if (strcmp(arg, "text") == 0) {
        d->kind = DISPLAY_TEXT;
        return 0;
    }
    const char *addr = strncmp(arg, "vnc=", 4) == 0 ? arg + 4 : "";
    size_t len = strcspn(addr, ",");
    const char *file = addr[len] ? addr + len + strlen(option) : NULL;
    if (!len || len >= sizeof(d->vnc) ||
        (file && (strncmp(addr + len, option, strlen(option)) != 0 || !*file)))
        return error_set(
            err, EINVAL,
            "--display %s: takes none, text, or vnc=[HOST]:N[,password-file=FILE], for "
            "example vnc=:1",
            arg);
    d->kind = DISPLAY_VNC;
    memcpy(d->vnc, addr, len);
    d->password_file = file;
    return 0;
}

/* FILE or FILE@SECONDS; kept in the order of time, those of the end last. */
static int set_screenshot(struct settings *s, const char *arg, struct error *err)
{
    struct screenshot shot = {.path = arg, .path_len = strlen(arg)};
    const char *at = strrchr(arg, '@');
    if (at && (!parse_seconds(at + 1, strlen(at + 1), &shot.at_seconds) || at == arg))
        return error_set(err, EINVAL,
                         "--screenshot %s: takes FILE or FILE@SECONDS, for example menu.png@2.5",
                         arg);
    if (at)
        shot.path_len = (size_t)(at - arg);
    if (s->nscreenshots == MAX_SCREENSHOTS)
        return error_set(err, EINVAL, "--screenshot: at most %d times", MAX_SCREENSHOTS);
    unsigned i = s->nscreenshots++;
    for (; i > 0 && at &&
           (s->screenshots[i - 1].at_seconds == 0 ||
            s->screenshots[i - 1].at_seconds > shot.at_seconds);
         i--)
        s->screenshots[i] = s->screenshots[i - 1];
    s->screenshots[i] = shot;
    return 0;
}

static int set_firmware(struct settings *s, const char *arg, struct error *err)
{
    s->boot.firmware = arg;
    return check_file("firmware", arg, err);
}

static int set_boot_order(struct settings *s, const char *arg, struct error *err)
{
    size_t n = strlen(arg);
    bool good = n >= 1 && n <= 3 && strspn(arg, "acd") == n;
    for (size_t i = 0; good && i < n; i++)
        good = !strchr(arg + i + 1, arg[i]);
    if (!good)
        return error_set(err, EINVAL,
                         "--boot %s: takes a (floppy), c (hard disk) and d (CD), in the order in "
                         "which they are tried",
                         arg);
    s->boot_order = arg;
    return 0;
}

static int set_debugcon(struct settings *s, const char *arg, struct error *err)
{
    (void)err;
    s->debugcon = arg;
    return 0;
}

static int set_debug_exit(struct settings *s, const char *arg, struct error *err)
{
    (void)arg;
    (void)err;
    s->debug_exit = true;
    return 0;
}

static int set_no_reboot(struct settings *s, const char *arg, struct error *err)
{
    (void)arg;
    (void)err;
    s->no_reboot = true;
    return 0;
}

static int set_rdtsc(struct settings *s, const char *arg, struct error *err)
{
    static const char *const names[] = {
        [RDTSC_IN_TC] = "in-tc", [RDTSC_CALLOUT] = "callout", [RDTSC_TRAP] = "trap"};
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (strcmp(arg, names[i]) == 0) {
            s->rdtsc = (enum rdtsc_form)i;
            return 0;
        }
    return error_set(err, EINVAL, "--rdtsc %s: takes in-tc, callout or trap", arg);
}

static int set_no_kvmclock(struct settings *s, const char *arg, struct error *err)
{
    (void)arg;
    (void)err;
    s->kvmclock = false;
    return 0;
}

static int set_slow_time(struct settings *s, const char *arg, struct error *err)
{
    if (arg[0] < '1' || arg[0] > '0' + SLOW_TIME_MAX || arg[1])
        return error_set(err, EINVAL, "--slow-time %s: takes a number from 1 to %d", arg,
                         SLOW_TIME_MAX);
    s->slow_time = (unsigned)(arg[0] - '0');
    return 0;
}

static int set_timeout(struct settings *s, const char *arg, struct error *err)
{
    if (!parse_seconds(arg, strlen(arg), &s->timeout))
        return error_set(err, EINVAL, "--timeout %s: takes a number of seconds above 0", arg);
    return 0;
}

static int set_stats(struct settings *s, const char *arg, struct error *err)
{
    if (strcmp(arg, "text") == 0) {
        s->stats = STATS_TEXT;
    } else if (strncmp(arg, "json:", 5) == 0 && arg[5]) {
        s->stats = STATS_JSON;
        s->stats_path = arg + 5;
    } else {
        return error_set(err, EINVAL, "--stats %s: takes text or json:FILE", arg);
    }
    return 0;
}

static int set_stats_interval(struct settings *s, const char *arg, struct error *err)
{
    if (!parse_seconds(arg, strlen(arg), &s->stats_interval) || s->stats_interval < 0.01 ||
        s->stats_interval > 1e6)
        return error_set(err, EINVAL, "--stats-interval %s: takes seconds, 0.01 or more", arg);
    return 0;
}

static int set_switch_after(struct settings *s, const char *arg, struct error *err)
{
    const char *colon = strchr(arg, ':');
    struct engine_switch sw;
    if (!colon || !parse_seconds(arg, (size_t)(colon - arg), &sw.after_seconds))
        return error_set(err, EINVAL,
                         "--switch-after %s: takes SECONDS:ENGINE, for example 2.5:kvm", arg);
    sw.engine = colon + 1;
    const struct engine_ops *ops = engine_find(sw.engine);
    if (!ops)
        return error_set(err, EINVAL,
                         "--switch-after %s: no engine '%s'; `ringer engines` lists them", arg,
                         sw.engine);
    if (s->nswitches == MAX_SWITCHES)
        return error_set(err, EINVAL, "--switch-after: at most %d times", MAX_SWITCHES);
    if (s->nswitches && s->switches[s->nswitches - 1].after_seconds >= sw.after_seconds)
        return error_set(err, EINVAL, "--switch-after %s: must come later than the one before it",
                         arg);
    s->switches[s->nswitches++] = sw;
    return ops->probe(err);
}

/* REFERENCE,TESTED */
static int set_lockstep(struct settings *s, const char *arg, struct error *err)
{
    const size_t len = strlen(LOCKSTEP_REFERENCE);
    if (strncmp(arg, LOCKSTEP_REFERENCE ",", len + 1) != 0)
        return error_set(err, EINVAL,
                         "--lockstep %s: takes " LOCKSTEP_REFERENCE
                         ",NAME: the engine NAME is compared with " LOCKSTEP_REFERENCE,
                         arg);
    s->lockstep = arg + len + 1;
    const struct engine_ops *ops = engine_find(s->lockstep);
    if (!ops)
        return error_set(err, EINVAL, "--lockstep %s: no engine '%s'; `ringer engines` lists them",
                         arg, s->lockstep);
    if (!ops->run_block)
        return error_set(err, EINVAL, "--lockstep %s: %s does not run guest code block by block",
                         arg, s->lockstep);
    return ops->probe(err);
}

static int set_lockstep_after(struct settings *s, const char *arg, struct error *err)
{
    if (!parse_seconds(arg, strlen(arg), &s->lockstep_after) || s->lockstep_after > 1e6)
        return error_set(err, EINVAL, "--lockstep-after %s: takes a number of seconds above 0",
                         arg);
    return 0;
}

static int set_lockstep_insns(struct settings *s, const char *arg, struct error *err)
{
    if (!options_size(arg, &s->lockstep_insns) || s->lockstep_insns == 0)
        return error_set(err, EINVAL, "--lockstep-insns %s: takes a number, for example 20M", arg);
    return 0;
}

static const struct option options[] = {
    {"engine", "NAME",
     "how guest code is run: auto (default: the fastest that works here), or a\n"
     "name that `ringer engines` lists",
     set_engine},
    {"switch-after", "SECONDS:NAME", "move the running guest to another engine; may be repeated",
     set_switch_after},
    {"tc-size", "SIZE", "bt: memory for translated code, 1M to 1G (default 256M)", set_tc_size},
    {"rdtsc", "FORM",
     "bt: how RDTSC is emulated: in-tc (default: in translated code), callout (by C), or trap\n"
     "(by a fault of the host process), to measure these against each other",
     set_rdtsc},
    {"perf-map", NULL, "bt: name translated code for perf, in /tmp/perf-PID.map", set_perf_map},
    {"lockstep", "A,B",
     "run engine B and compare it with A after each block; A must be interp; ends with\n"
     "status 3 and a report at the first difference",
     set_lockstep},
    {"lockstep-after", "SECONDS", "begin to compare after this time", set_lockstep_after},
    {"lockstep-insns", "N", "after N compared instructions let engine B go on alone",
     set_lockstep_insns},
    {"kernel", "FILE", "Linux bzImage, Multiboot 1 image, or (with --raw) a raw image", set_kernel},
    {"initrd", "FILE", "initial RAM disk; for Multiboot: modules, 'FILE ARGS' separated by commas",
     set_initrd},
    {"append", "STRING", "kernel command line", set_append},
    {"linux-boot", "PROTOCOL", "Linux boot protocol: auto (default), 16, 32 or 64", set_linux_boot},
    {"raw", "ADDRESS[:ENTRY]",
     "the kernel file is loaded at ADDRESS and started at ENTRY: in real mode, or from 1 MiB on\n"
     "in flat 32-bit mode",
     set_raw},
    {"disk", "FILE[,OPTION...]",
     "a disk: a raw image, a block device, an image that qemu-nbd reads (qcow2, vmdk, vdi, vhdx),\n"
     "or an nbd:// or nbd+unix:// address; may be repeated. Options: if=ide (default) or\n"
     "if=virtio; ro: it can't be written; snapshot=on: what the guest writes is gone at the end",
     drives_add_disk},
    {"cdrom", "FILE", "a CD in a drive of its own; twice at most", drives_add_cdrom},
    {"floppy", "FILE[,ro]", "a floppy disk; twice at most", drives_add_floppy},
    {"boot", "ORDER",
     "what firmware tries to boot from: a floppy, c hard disk, d CD (default: disk, floppy, CD)",
     set_boot_order},
    {"mem", "SIZE", "guest memory, for example 256M or 4G (default 512M)", set_mem},
    {"cpus", "N", "processors, 1 to 16 (default 1), each a host thread", set_cpus},
    {"serial", "WHERE",
     "first serial port: stdio (default but with --display text), file:NAME or none; on a\n"
     "terminal Ctrl-A X quits and Ctrl-A H helps",
     set_serial},
    {"keys", "TEXT@SECONDS",
     "type TEXT on the guest's keyboard after this time; may be repeated. <ret>, <esc>, <f12>, "
     "<up>,\n"
     "<ctrl-alt-delete>: keys by the names of QEMU's sendkey; <lt>: '<'",
     set_keys},
    {"no-kvmclock", NULL, "do not offer KVM's paravirtual clock to the guest", set_no_kvmclock},
    {"slow-time", "N",
     "guest time runs N times slower than the host's, 1 (default) to 8: for an engine or a host\n"
     "so slow that timer interrupts leave no time for anything else",
     set_slow_time},
    {"debug-exit", NULL, "a guest write of V to port 0xf4 exits with status (V << 1) | 1",
     set_debug_exit},
    {"no-reboot", NULL, "exit with status 4 when the guest asks for a reset", set_no_reboot},
    {"timeout", "SECONDS", "give up after this time, with status 124", set_timeout},
    {"stats", "HOW", "counters at the end: text (to stderr) or json:FILE", set_stats},
    {"stats-interval", "SECONDS", "with --stats json: also the counters at these times of the run",
     set_stats_interval},
    {"net", "none", "network; this version has none", set_net},
    {"display", "HOW",
     "the guest's screen: none (default), text (text modes in this terminal, whose keys the\n"
     "guest gets; Ctrl-A X quits), or vnc=[HOST]:N[,password-file=FILE], a VNC server for\n"
     "display N, on this machine's own address unless HOST says another",
     set_display},
    {"screenshot", "FILE[@SECONDS]",
     "the guest's screen as a PNG file, at this time of the run or at its end; up to 16 times.\n"
     "A name that ends in .txt: the text on it",
     set_screenshot},
    {"firmware", "FILE",
     "ROM image that the processor starts in (default, without --kernel: SeaBIOS of the\n"
     "package seabios)",
     set_firmware},
    {"debugcon", "FILE", "what firmware writes to its debug port 0x402 goes to this file",
     set_debugcon},
};

static const struct option *find_option(const char *name, size_t len)
{
    for (unsigned i = 0; i < ARRAY_SIZE(options); i++)
        if (strlen(options[i].name) == len && memcmp(options[i].name, name, len) == 0)
            return &options[i];
    return NULL;
}

/* One option at argv[*i]; takes --name VALUE and --name=VALUE. */
static int parse_one(int argc, char **argv, int *i, struct settings *s, struct error *err)
{
    const char *word = argv[*i];
    if (strncmp(word, "--", 2) != 0)
        return error_set(err, EINVAL, "'%s' is not an option; see ringer --help", word);
    const char *equals = strchr(word, '=');
    size_t len = equals ? (size_t)(equals - word) - 2 : strlen(word) - 2;
    const struct option *o = find_option(word + 2, len);
    if (!o)
        return error_set(err, EINVAL, "%.*s: no such option; see ringer --help", (int)len + 2,
                         word);
    if (!o->argument) {
        if (equals)
            return error_set(err, EINVAL, "--%s takes no value", o->name);
        return o->set(s, NULL, err);
    }
    if (!equals && *i + 1 >= argc)
        return error_set(err, EINVAL, "--%s needs a value: %s", o->name, o->argument);
    return o->set(s, equals ? equals + 1 : argv[++*i], err);
}

/* By what the guest starts. */
static int choose_start(struct settings *s, struct error *err)
{
    if (s->boot.kernel && s->boot.firmware)
        return error_set(err, EINVAL, "--firmware and --kernel: give one of them");
    if (s->boot.kernel && s->boot_order)
        return error_set(err, EINVAL, "--boot and --kernel: give one of them");
    if (s->boot.kernel)
        return 0;
    if (s->boot.raw || s->boot.initrd || s->boot.append)
        return error_set(err, EINVAL, "--initrd, --append and --raw: only with --kernel");
    if (!s->boot.firmware) {
        s->boot.firmware = FIRMWARE_DEFAULT;
        if (access(FIRMWARE_DEFAULT, R_OK) < 0)
            return error_set(err, ENOENT,
                             "nothing to start: there is no " FIRMWARE_DEFAULT
                             "; install the package seabios, or give --kernel or --firmware");
    }
    return 0;
}

static void choose_serial(struct settings *s)
{
    if (!s->serial)
        s->serial = s->display.kind == DISPLAY_TEXT ? "none" : "stdio";
}

/* What only the whole command line can tell. */
static int check_settings(const struct settings *s, struct error *err)
{
    if (s->boot.raw && (s->boot.initrd || s->boot.append))
        return error_set(err, EINVAL, "--raw: a raw image takes no --initrd and no --append");
    if (s->display.kind == DISPLAY_TEXT && strcmp(s->serial, "stdio") == 0)
        return error_set(err, EINVAL, "--display text and --serial stdio both want the terminal");
    if (s->stats_interval > 0 && s->stats != STATS_JSON)
        return error_set(err, EINVAL, "--stats-interval: only with --stats json:FILE");
    if (s->lockstep && s->cpus > 1)
        return error_set(err, EINVAL, "--lockstep: compares one processor; not with --cpus %u",
                         s->cpus);
    if (s->lockstep && strcmp(s->engine, "auto") != 0)
        return error_set(err, EINVAL, "--lockstep names the engines; leave --engine out");
    if ((s->lockstep_insns || s->lockstep_after > 0) && !s->lockstep)
        return error_set(err, EINVAL,
                         "--lockstep-insns and --lockstep-after: only with --lockstep");
    return 0;
}

int options_parse(int argc, char **argv, struct settings *s, struct error *err)
{
    *s = (struct settings){
        .engine = "auto", .mem_size = 512 * MIB, .cpus = 1, .kvmclock = true, .slow_time = 1};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return 1;
        int rc = parse_one(argc, argv, &i, s, err);
        if (rc < 0)
            return rc;
    }
    choose_serial(s);
    int rc = choose_start(s, err);
    return rc < 0 ? rc : check_settings(s, err);
}

void options_free(struct settings *s)
{
    drives_free(s);
}

static void print_option(const struct option *o)
{
    char left[48];
    snprintf(left, sizeof(left), "--%s%s%s", o->name, o->argument ? " " : "",
             o->argument ? o->argument : "");
    const char *line = o->help;
    for (;;) {
        const char *end = strchr(line, '\n');
        int len = end ? (int)(end - line) : (int)strlen(line);
        printf("  %-28s %.*s\n", left, len, line);
        if (!end)
            return;
        left[0] = 0;
        line = end + 1;
    }
}

void options_help(void)
{
    printf(
        "ringer runs x86 guests (16, 32 and 64 bit) on Linux, with or without hardware "
        "virtualization.\n\n"
        "Usage:\n"
        "  ringer run [options]                 run a guest, from a disk or from --kernel FILE\n"
        "  ringer engines                       what can run guests here, and how fast\n"
        "  ringer translate FILE [options]      show what the engine bt makes of code\n"
        "  ringer nano [NAMES] [options]        measure and check single operations: the nano "
        "kernel\n"
        "  ringer compare [options]             measure engines, QEMU and this machine; a report\n"
        "  ringer --version\n"
        "  ringer --help\n\n"
        "Options of `ringer run`:\n");
    for (unsigned i = 0; i < ARRAY_SIZE(options); i++)
        print_option(&options[i]);
    printf("\n");
    translate_help();
    printf("\n");
    nano_help();
    printf("\n");
    compare_help();
    printf(
        "\nExit status:\n"
        "  0    the guest powered off, or Ctrl-A X was typed\n"
        "  1    nano: a check failed\n"
        "  1    compare: something is slower than in the baseline by more than the bound\n"
        "  2    wrong usage, a broken image, or an error of the host\n"
        "  3    the guest failed: triple fault, or code that the engine cannot run; or the\n"
        "       engines of --lockstep differ\n"
        "  4    the guest asked for a reset and --no-reboot was given\n"
        "  124  the time of --timeout was up\n"
        "  odd  (V << 1) | 1 after a write of V to the debug-exit port\n"
        "SIGTERM, SIGINT and SIGHUP stop the guest, write out what it printed, and end ringer by "
        "that signal.\n\n"
        "Examples:\n"
        "  ringer run --kernel vmlinuz --initrd initrd.gz --append \"console=ttyS0\" --mem 512M\n"
        "  ringer run --disk debian.qcow2,if=virtio --display vnc=:1 --mem 1G\n"
        "  ringer run --cdrom installer.iso --display text\n");
}
